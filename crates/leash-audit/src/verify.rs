//! Checks a log: [`verify`]. Reads it once, in pieces that all cores check at the same time; each line's hash depends
//! on its own bytes only, and the seams between pieces are checked in order. Knows nothing of what events mean.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use leash_core::Digest;
use sha2::{Digest as _, Sha256};

use crate::line::{self, Form, Hex, Line, Link, Pick};
use crate::read::MAX_LINE;
use crate::{AuditError, HmacKeys};

/// How much is read at a time, in bytes. Small enough that a piece is still in the cache when it is checked.
const PIECE: usize = 512 * 1024;

/// More threads than this only cost memory.
const MAX_THREADS: usize = 32;

/// How many pieces for each thread may be checked already and wait for one before them. Enough that nobody waits for
/// a thread that is merely unlucky, and few enough that one that is stuck does not fill the memory.
const AHEAD: usize = 4;

/// Buffers that grew beyond this for one long line are given back after it.
const KEPT: usize = 4 * PIECE;

/// How to verify.
#[derive(Clone, Copy, Default)]
pub struct VerifyOptions<'a> {
    /// How many threads to use; as many as there are cores where it is `None`.
    pub threads: Option<usize>,
    /// Called now and then with the number of bytes that are done, from any of the threads.
    pub progress: Option<&'a (dyn Fn(u64) + Sync)>,
    /// Where they are given, every line must have an `hmac` made with one of them.
    pub keys: Option<&'a HmacKeys>,
}

impl VerifyOptions<'_> {
    /// How many threads there are to be.
    pub(crate) fn workers(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(cores).clamp(1, MAX_THREADS)
    }
}

impl fmt::Debug for VerifyOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyOptions")
            .field("threads", &self.threads)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

/// What a log turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Intact, or the first bad line.
    pub verdict: Verdict,
    /// How many events are good, from the first on.
    pub events: u64,
    /// How many bytes were checked.
    pub bytes: u64,
    /// The `hash` of the last good event, [`Digest::ZERO`] where there is none.
    pub head: Digest,
}

impl Report {
    /// Whether the log is intact.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.verdict == Verdict::Ok
    }
}

/// `OK: 3 events verified`, or `BROKEN: line 2 (seq 1): …`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict {
            Verdict::Ok => write!(f, "OK: {} events verified", self.events),
            Verdict::Broken(broken) => write!(f, "BROKEN: {broken}"),
        }
    }
}

/// Whether a log is intact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every line is.
    Ok,
    /// A line is not.
    Broken(Broken),
}

/// The first bad line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which line, from 1, blank ones counted.
    pub line: u64,
    /// Its `seq`, where it has one.
    pub seq: Option<u64>,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seq {
            Some(seq) => write!(f, "line {} (seq {seq}): {}", self.line, self.what),
            None => write!(f, "line {} (seq unknown): {}", self.line, self.what),
        }
    }
}

/// Checks the log at `path`, in constant memory.
///
/// The verdict is on what the lines say, not on how they are spaced, ordered or escaped. A log that is being
/// written to may be read in the middle of its last line, which is then reported as cut short.
///
/// # Errors
/// [`AuditError::Io`] when it cannot be read. Being broken is an answer.
pub fn verify(path: impl AsRef<Path>, options: &VerifyOptions<'_>) -> Result<Report, AuditError> {
    let path = path.as_ref();
    let file = File::open(path).map_err(AuditError::io("open", path))?;
    verify_reader(file, options).map_err(AuditError::io("read", path))
}

/// Checks the log that `reader` gives, in constant memory. It need not be seekable, nor buffered.
///
/// # Errors
/// What `reader` gives as errors.
pub fn verify_reader(reader: impl Read + Send, options: &VerifyOptions<'_>) -> io::Result<Report> {
    verify_and(reader, options, &(), ()).map(|checked| checked.report)
}

/// What is made of the events of a log while it is checked. Pieces are gathered from at the same time, and joined in
/// order.
pub(crate) trait Gather: Send {
    /// What a thread gathers into, kept from piece to piece.
    type Part: Pick;
    /// What was gathered from one piece.
    type Cut: Send;
    /// What all parts need to know.
    type Rules: Sync;
    /// Whether the log is read, and hashed, to its end even where a line is bad.
    const WHOLE: bool;

    fn part(rules: &Self::Rules) -> Self::Part;
    /// An event whose members the part was shown; `text` is its canonical form.
    fn event(part: &mut Self::Part, rules: &Self::Rules, text: &str);
    /// A line that is no event.
    fn garbage(part: &mut Self::Part);
    /// Ends a piece.
    fn cut(part: &mut Self::Part) -> Self::Cut;
    /// What was gathered from the next piece.
    fn join(&mut self, cut: Self::Cut) -> io::Result<()>;
}

impl Gather for () {
    type Part = ();
    type Cut = ();
    type Rules = ();
    const WHOLE: bool = false;

    fn part((): &()) {}
    #[inline]
    fn event((): &mut (), (): &(), _: &str) {}
    #[inline]
    fn garbage((): &mut ()) {}
    fn cut((): &mut ()) {}
    fn join(&mut self, (): ()) -> io::Result<()> {
        Ok(())
    }
}

/// What came of [`verify_and`].
pub(crate) struct Checked<G> {
    pub(crate) report: Report,
    pub(crate) gathered: G,
    /// The SHA-256 and length of all that was read, where all is read.
    pub(crate) sha256: Digest,
    pub(crate) size: u64,
}

/// Checks a log and gathers from it, in one reading.
pub(crate) fn verify_and<G: Gather>(
    reader: impl Read + Send,
    options: &VerifyOptions<'_>,
    rules: &G::Rules,
    gather: G,
) -> io::Result<Checked<G>> {
    let threads = options.workers();
    let shared = Shared::new(reader, gather, threads);
    shared.run(threads, options, rules)?;
    let chain = shared.chain.into_inner().unwrap_or_else(PoisonError::into_inner);
    let source = shared.source.into_inner().unwrap_or_else(PoisonError::into_inner);
    let verdict = chain.broken.map_or(Verdict::Ok, Verdict::Broken);
    let head = chain
        .last
        .and_then(|last| Digest::from_hex(&last.hash).ok())
        .unwrap_or(Digest::ZERO);
    let sha256 = source.hasher.map_or(Digest::EMPTY, digest_of);
    Ok(Checked {
        report: Report {
            verdict,
            events: chain.events,
            bytes: chain.bytes,
            head,
        },
        gathered: chain.gather,
        sha256,
        size: source.size,
    })
}

/// The digest of what went into `hasher`.
pub(crate) fn digest_of(hasher: Sha256) -> Digest {
    Digest::from_hex(&line::hex(hasher.finalize())).unwrap_or(Digest::ZERO)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that died is reported when it is joined.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What all threads have a hand in.
struct Shared<R, G: Gather> {
    source: Mutex<Source<R>>,
    chain: Mutex<Chain<G>>,
    /// Tells threads that are held back that they may go on, or that there is no more to do. They wait with `chain`.
    room: Condvar,
    stop: AtomicBool,
    /// How many pieces may wait for one before them.
    ahead: usize,
}

impl<R: Read + Send, G: Gather> Shared<R, G> {
    fn new(reader: R, gather: G, threads: usize) -> Self {
        Self {
            source: Mutex::new(Source {
                reader,
                rest: Vec::new(),
                index: 0,
                done: false,
                hasher: G::WHOLE.then(Sha256::new),
                size: 0,
            }),
            chain: Mutex::new(Chain::new(gather)),
            room: Condvar::new(),
            stop: AtomicBool::new(false),
            ahead: threads.saturating_mul(AHEAD),
        }
    }

    fn run(&self, threads: usize, options: &VerifyOptions<'_>, rules: &G::Rules) -> io::Result<()> {
        let work = || self.work(options, rules);
        std::thread::scope(|scope| {
            let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut result = work();
            for helper in helpers {
                let theirs = helper
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("a thread died")));
                result = result.and(theirs);
            }
            result
        })
    }

    /// Ends the work of all threads, those included that are held back.
    fn end(&self) {
        // With the lock, so that nobody looks before this and waits after it.
        let chain = lock(&self.chain);
        self.stop.store(true, Ordering::Relaxed);
        drop(chain);
        self.room.notify_all();
    }

    fn work(&self, options: &VerifyOptions<'_>, rules: &G::Rules) -> io::Result<()> {
        let leave = Leave(self);
        let mut buf = Vec::new();
        let mut scratch = String::new();
        let mut gathered = G::part(rules);
        while !self.stop.load(Ordering::Relaxed) {
            let next = lock(&self.source).next(&mut buf);
            let (index, part) = match next {
                Ok(None) => break,
                Ok(Some(Piece::Lines { index, len })) => {
                    let piece = buf.get(..len).unwrap_or_default();
                    let part = check::<G>(piece, &mut scratch, options.keys, rules, &mut gathered);
                    (index, part)
                }
                Ok(Some(Piece::TooLong { index })) => {
                    G::garbage(&mut gathered);
                    (index, Part::too_long())
                }
                Err(error) => {
                    self.end();
                    return Err(error);
                }
            };
            if scratch.capacity() > KEPT {
                scratch = String::new();
            }
            let cut = G::cut(&mut gathered);
            self.hand_in(index, part, cut, options)?;
        }
        drop(leave);
        Ok(())
    }

    /// Adds a piece to the chain, and returns once there is room for another.
    fn hand_in(&self, index: u64, part: Part, cut: G::Cut, options: &VerifyOptions<'_>) -> io::Result<()> {
        let mut chain = lock(&self.chain);
        let joined = chain.add(index, part, cut);
        if joined.is_err() || (chain.broken.is_some() && !G::WHOLE) {
            self.stop.store(true, Ordering::Relaxed);
        }
        if chain.held > 0 && (chain.waiting.len() < self.ahead || self.stop.load(Ordering::Relaxed)) {
            self.room.notify_all();
        }
        joined?;
        if let Some(progress) = options.progress {
            progress(chain.bytes);
        }
        // Pieces wait for one before them, which a thread has that is not here: it is being checked. So somebody always
        // goes on.
        while chain.waiting.len() >= self.ahead && !self.stop.load(Ordering::Relaxed) {
            chain.held = chain.held.saturating_add(1);
            chain = self.room.wait(chain).unwrap_or_else(PoisonError::into_inner);
            chain.held = chain.held.saturating_sub(1);
        }
        Ok(())
    }
}

/// Held by a thread while it works. One that dies takes a piece with it that the others would wait for.
struct Leave<'a, R: Read + Send, G: Gather>(&'a Shared<R, G>);

impl<R: Read + Send, G: Gather> Drop for Leave<'_, R, G> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end();
        }
    }
}

/// Gives out whole lines, a piece at a time.
struct Source<R> {
    reader: R,
    /// What was read after the last line end.
    rest: Vec<u8>,
    index: u64,
    done: bool,
    /// Of all that was read.
    hasher: Option<Sha256>,
    /// How many bytes were read.
    size: u64,
}

enum Piece {
    /// The first `len` bytes of the buffer are the piece numbered `index`.
    Lines { index: u64, len: usize },
    /// A line of more than [`MAX_LINE`] bytes starts here.
    TooLong { index: u64 },
}

impl<R: Read> Source<R> {
    fn next(&mut self, buf: &mut Vec<u8>) -> io::Result<Option<Piece>> {
        if self.done {
            return Ok(None);
        }
        let index = self.index;
        self.index = index.saturating_add(1);
        let mut filled = self.rest.len();
        let mut target = filled.saturating_mul(2).clamp(PIECE, MAX_LINE.saturating_add(1));
        if buf.len() > KEPT.max(target) {
            // One long line must not cost its memory for ever, in every thread.
            *buf = Vec::new();
        }
        if buf.len() < target {
            buf.resize(target, 0);
        }
        if let Some(front) = buf.get_mut(..filled) {
            front.copy_from_slice(&self.rest);
        }
        self.rest.clear();
        self.rest.shrink_to(KEPT);
        loop {
            while filled < target {
                match self.reader.read(buf.get_mut(filled..target).unwrap_or_default()) {
                    Ok(0) => {
                        self.done = true;
                        return Ok((filled > 0).then_some(Piece::Lines { index, len: filled }));
                    }
                    Ok(n) => {
                        let end = filled.saturating_add(n);
                        self.note(buf.get(filled..end).unwrap_or_default());
                        filled = end;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            let read = buf.get(..filled).unwrap_or_default();
            if let Some(end) = memchr::memrchr(b'\n', read) {
                let len = end.saturating_add(1);
                self.rest.extend_from_slice(read.get(len..).unwrap_or_default());
                return Ok(Some(Piece::Lines { index, len }));
            }
            if filled > MAX_LINE {
                self.done = true;
                if self.hasher.is_some() {
                    self.drain(buf)?;
                }
                return Ok(Some(Piece::TooLong { index }));
            }
            target = target.saturating_mul(2).min(MAX_LINE.saturating_add(1));
            buf.resize(target, 0);
        }
    }

    fn note(&mut self, read: &[u8]) {
        self.size = self
            .size
            .saturating_add(u64::try_from(read.len()).unwrap_or(u64::MAX));
        if let Some(hasher) = &mut self.hasher {
            hasher.update(read);
        }
    }

    /// Reads the rest for its hash alone.
    fn drain(&mut self, buf: &mut [u8]) -> io::Result<()> {
        loop {
            match self.reader.read(buf) {
                Ok(0) => return Ok(()),
                Ok(n) => self.note(buf.get(..n).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// What is known of one event when the next is looked at.
#[derive(Clone, Copy)]
struct Last {
    seq: u64,
    hash: Hex,
}

/// What is wrong with a link after `last`, in the order in which it is said.
fn fault(link: &Link, last: Option<Last>) -> Result<Last, String> {
    check_prev(link, last.map_or(line::ZERO, |last| last.hash))?;
    let hash = link.hash.map_err(line::BadHash::what)?;
    check_seq(link, last.map_or(Some(0), |last| last.seq.checked_add(1)))?;
    if let Some(what) = &link.mac {
        return Err(what.as_ref().to_owned());
    }
    Ok(Last {
        seq: link.seq.unwrap_or(0),
        hash,
    })
}

fn check_prev(link: &Link, expected: Hex) -> Result<(), String> {
    match link.prev_hash {
        Some(prev) if prev == expected => Ok(()),
        Some(prev) if line::is_digest(&prev) => Err(format!(
            "prev_hash {}... does not match previous line's hash {}...",
            line::short(&prev),
            line::short(&expected)
        )),
        _ => Err("`prev_hash` is missing or not 64 lower-case hex digits".to_owned()),
    }
}

fn check_seq(link: &Link, expected: Option<u64>) -> Result<(), String> {
    match (link.seq, expected) {
        (None, _) => Err("`seq` is missing or not a whole number".to_owned()),
        (Some(seq), Some(expected)) if seq == expected => Ok(()),
        (Some(seq), Some(expected)) => Err(format!("seq is {seq} where {expected} should be")),
        (Some(_), None) => Err("seq has run out of numbers".to_owned()),
    }
}

/// What is known of a piece. Its first event waits for the piece before.
struct Part {
    bytes: u64,
    lines: u64,
    /// Good events after the first, up to the bad one.
    events: u64,
    /// The first event with its line, from 1 within the piece.
    first: Option<(u64, Link)>,
    last: Option<Last>,
    /// The first bad line, first event excepted; lines from 1 within the piece.
    bad: Option<Broken>,
}

impl Part {
    fn new(bytes: usize) -> Self {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        Self {
            bytes,
            lines: 0,
            events: 0,
            first: None,
            last: None,
            bad: None,
        }
    }

    fn too_long() -> Self {
        let what = format!("longer than {MAX_LINE} bytes");
        Self {
            bad: Some(Broken {
                line: 1,
                seq: None,
                what,
            }),
            ..Self::new(0)
        }
    }
}

/// Checks all of a piece but how its first event follows from what is before it.
fn check<G: Gather>(
    piece: &[u8],
    scratch: &mut String,
    keys: Option<&HmacKeys>,
    rules: &G::Rules,
    gathered: &mut G::Part,
) -> Part {
    let mut part = Part::new(piece.len());
    let text = std::str::from_utf8(piece).ok();
    let mut start = 0;
    // Whether a line was bad already, so that those after it are no longer judged.
    let mut over = false;
    let ends = memchr::memchr_iter(b'\n', piece).map(|end| (end, true));
    let torn = piece.last().is_some_and(|&last| last != b'\n');
    for (end, ended) in ends.chain(torn.then_some((piece.len(), false))) {
        part.lines = part.lines.saturating_add(1);
        let bytes = piece.get(start..end).unwrap_or_default();
        let text = match text {
            Some(text) => text.get(start..end),
            None => std::str::from_utf8(bytes).ok(),
        };
        start = end.saturating_add(1);
        match line::look(bytes, text, scratch, keys, gathered) {
            Line::Blank => {}
            Line::Garbage(what) => {
                G::garbage(gathered);
                if !over {
                    over = true;
                    part.bad = Some(Broken {
                        line: part.lines,
                        seq: None,
                        what: if ended {
                            what
                        } else {
                            format!("the file ends inside this line ({what})")
                        },
                    });
                }
            }
            Line::Event(link, form) => {
                let canonical = match form {
                    Form::AsItStands => text.unwrap_or_default(),
                    Form::Rewritten => scratch.as_str(),
                };
                G::event(gathered, rules, canonical);
                over = over || !part.follow(link);
            }
        }
        if over && !G::WHOLE {
            break;
        }
    }
    part
}

impl Part {
    /// Whether the event of the current line follows from the one before it.
    fn follow(&mut self, link: Link) -> bool {
        let Some(last) = self.last else {
            // Taken for good until the seam is looked at; where it is not, nothing after it counts.
            let good = match (link.hash, link.seq) {
                (Ok(hash), Some(seq)) => Some(Last { seq, hash }),
                _ => None,
            };
            self.first = Some((self.lines, link));
            self.last = good;
            return good.is_some();
        };
        match fault(&link, Some(last)) {
            Ok(last) => {
                self.last = Some(last);
                self.events = self.events.saturating_add(1);
                true
            }
            Err(what) => {
                self.bad = Some(Broken {
                    line: self.lines,
                    seq: link.seq,
                    what,
                });
                false
            }
        }
    }
}

/// The pieces, put together in order.
struct Chain<G: Gather> {
    /// Pieces that were checked before one that comes before them.
    waiting: BTreeMap<u64, (Part, G::Cut)>,
    /// How many threads are held back until fewer pieces wait.
    held: usize,
    next: u64,
    lines: u64,
    events: u64,
    bytes: u64,
    last: Option<Last>,
    broken: Option<Broken>,
    gather: G,
}

impl<G: Gather> Chain<G> {
    const fn new(gather: G) -> Self {
        Self {
            waiting: BTreeMap::new(),
            held: 0,
            next: 0,
            lines: 0,
            events: 0,
            bytes: 0,
            last: None,
            broken: None,
            gather,
        }
    }

    fn add(&mut self, index: u64, part: Part, cut: G::Cut) -> io::Result<()> {
        self.waiting.insert(index, (part, cut));
        while (self.broken.is_none() || G::WHOLE)
            && let Some((part, cut)) = self.waiting.remove(&self.next)
        {
            self.next = self.next.saturating_add(1);
            let bytes = self.bytes.saturating_add(part.bytes);
            if self.broken.is_none() {
                self.join(part);
            }
            if G::WHOLE {
                self.bytes = bytes;
                self.gather.join(cut)?;
            }
        }
        Ok(())
    }

    fn join(&mut self, part: Part) {
        if let Some((line, link)) = part.first {
            match fault(&link, self.last) {
                Ok(last) => {
                    self.last = Some(last);
                    self.events = self.events.saturating_add(1);
                }
                Err(what) => {
                    let line = self.lines.saturating_add(line);
                    self.broken = Some(Broken {
                        line,
                        seq: link.seq,
                        what,
                    });
                    return;
                }
            }
        }
        self.events = self.events.saturating_add(part.events);
        self.last = part.last.or(self.last);
        self.bytes = self.bytes.saturating_add(part.bytes);
        self.broken = part.bad.map(|bad| Broken {
            line: self.lines.saturating_add(bad.line),
            ..bad
        });
        self.lines = self.lines.saturating_add(part.lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREADS: usize = 3;

    /// A log of one event and then of many long lines, so that there are many pieces.
    struct Lines {
        left: u32,
        line: Vec<u8>,
        at: usize,
    }

    impl Lines {
        fn new() -> Self {
            Self {
                left: 1000,
                line: b"{}\n".to_vec(),
                at: 0,
            }
        }
    }

    impl Read for Lines {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            if self.at == self.line.len() && self.left > 0 {
                self.left = self.left.saturating_sub(1);
                self.at = 0;
                self.line = vec![b'x'; 1 << 15];
                self.line.push(b'\n');
            }
            let n = self.line.get(self.at..).unwrap_or_default().read(buf)?;
            self.at = self.at.saturating_add(n);
            Ok(n)
        }
    }

    /// Does what it is told to at the first event of a log.
    struct First(u64);

    impl Gather for First {
        type Part = ();
        type Cut = ();
        type Rules = Box<dyn Fn() + Sync>;
        const WHOLE: bool = true;

        fn part(_: &Self::Rules) {}
        fn event((): &mut (), rules: &Self::Rules, _: &str) {
            rules();
        }
        fn garbage((): &mut ()) {}
        fn cut((): &mut ()) {}
        fn join(&mut self, (): ()) -> io::Result<()> {
            self.0 = self.0.saturating_add(1);
            Ok(())
        }
    }

    #[test]
    fn a_thread_that_is_slow_holds_the_others_back_before_they_fill_the_memory() {
        let (go, wait) = std::sync::mpsc::channel();
        let wait = Mutex::new(wait);
        let rules: Box<dyn Fn() + Sync> = Box::new(move || lock(&wait).recv().unwrap());
        let shared = Shared::new(Lines::new(), First(0), THREADS);
        let (read, waiting, ended) = std::thread::scope(|scope| {
            let run = scope.spawn(|| shared.run(THREADS, &VerifyOptions::default(), &rules));
            // All but one wait, or have come to the end of the log.
            while lock(&shared.chain).held < THREADS.saturating_sub(1) && !lock(&shared.source).done {
                std::thread::yield_now();
            }
            let read = lock(&shared.source).size;
            let waiting = lock(&shared.chain).waiting.len();
            let ended = lock(&shared.source).done;
            go.send(()).unwrap();
            run.join().unwrap().unwrap();
            (read, waiting, ended)
        });
        assert!(
            !ended,
            "the whole log was read while its first piece was being checked"
        );
        let most = THREADS.saturating_mul(AHEAD.saturating_add(1));
        assert!(waiting <= most, "{waiting} pieces");
        let bytes = u64::try_from(most.saturating_add(2).saturating_mul(PIECE)).unwrap();
        assert!(read <= bytes, "{read} bytes");
        // And then all of it is joined.
        let chain = shared.chain.into_inner().unwrap();
        assert!(chain.waiting.is_empty() && chain.gather.0 == chain.next);
        assert_eq!(chain.bytes, shared.source.into_inner().unwrap().size);
        assert!(chain.gather.0 > 60, "{} pieces", chain.gather.0);
    }

    #[test]
    fn a_thread_that_dies_ends_the_work_of_all() {
        let rules: Box<dyn Fn() + Sync> = Box::new(|| panic!("dies"));
        let shared = Shared::new(Lines::new(), First(0), THREADS);
        let result = std::thread::scope(|scope| {
            let run = scope.spawn(|| shared.run(THREADS, &VerifyOptions::default(), &rules));
            run.join()
        });
        // Whichever thread it was.
        assert!(!matches!(result, Ok(Ok(()))));
        assert!(shared.stop.load(Ordering::Relaxed));
    }

    #[test]
    fn the_memory_of_a_long_line_is_given_back() {
        let long = vec![b'x'; 3 * KEPT];
        let text = [b"{}\n", &long[..], b"\n", &vec![b'\n'; 5 * PIECE]].concat();
        let mut shared = Shared::new(&text[..], (), 1);
        let source = shared.source.get_mut().unwrap();
        let mut buf = Vec::new();
        let mut most = 0;
        while source.next(&mut buf).unwrap().is_some() {
            most = most.max(buf.capacity());
        }
        assert!(most > 3 * KEPT);
        assert!(buf.capacity() <= KEPT && source.rest.capacity() <= KEPT);
    }
}
