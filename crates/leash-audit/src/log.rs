//! The writer: [`AuditLog`]. Knows one file that only it writes to, and what is on its way there.
//!
//! What holds at every moment: the file ends with a whole line, or nobody may append until it does again; the next
//! line continues the last one that was written or is owed; and what is owed is written before anything else.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::future::Future;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use leash_core::{Clock, Digest, SystemClock, Timestamp, canonical};

use crate::event::{self, Place};
use crate::line::Hex;
use crate::tail::{self, Tail};
use crate::{AuditError, Event, HmacKey, Kind, LogRecovered, Owed, Who};

/// How many records may be in flight where nothing else is set.
pub const DEFAULT_SLOTS: usize = 65_536;

/// The longest line that is written, in bytes.
pub const MAX_WRITTEN_LINE: usize = 4 * 1024 * 1024;

/// How long equal refusals are counted together.
const STORM: Duration = Duration::from_secs(1);

/// How many different refusals are counted at the same time.
const MAX_STORMS: usize = 1024;

/// The longest event that is counted, in bytes; each longer one has a line of its own. What is counted has to be
/// kept, and to fit into a line with its count.
const MAX_COUNTED: usize = 16 * 1024;

/// When a line counts as kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When the operating system has it: it survives the death of the process, not that of the machine.
    #[default]
    None,
    /// As `None`, and the disk is asked to keep what is there this often. When the disk fails, nothing more is
    /// appended.
    Interval(Duration),
    /// When the disk has it. Those who wait at the same time share one `fdatasync`.
    Each,
}

/// How a log is opened; see [`AuditLog::builder`].
#[derive(Clone, Debug)]
pub struct Builder {
    path: PathBuf,
    durability: Durability,
    clock: Arc<dyn Clock>,
    slots: usize,
    key: Option<HmacKey>,
}

impl Builder {
    /// When a line counts as kept; [`Durability::None`] by default.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Where the time of events comes from; the system's clock by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// How many records may be in flight, so kept in memory when the disk is full; [`DEFAULT_SLOTS`] by default.
    #[must_use]
    pub fn slots(mut self, slots: usize) -> Self {
        self.slots = slots;
        self
    }

    /// Signs every line from now on: `hmac` and `hmac_key_id` join its members. The chain stays what it is, so whoever
    /// lacks the key verifies it as before. Without a key by default.
    #[must_use]
    pub fn hmac(mut self, key: HmacKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Opens the log, or starts one. Reads only its end, so its length does not matter. What a crash tore there is
    /// set aside in `LOG.torn-<n>`, and a line says so.
    ///
    /// # Errors
    /// [`AuditError::Held`] when another writer has it; [`AuditError::Damaged`] when its end is bad and no crash
    /// explains that; [`AuditError::Io`].
    pub fn open(self) -> Result<AuditLog, AuditError> {
        let (path, file) = open_file(&self.path)?;
        take_lock(&path, &file)?;
        let tail = tail::find(&path, &file)?;
        let core = Arc::new(Core::new(self, path, file, &tail));
        core.recover(&tail)?;
        let mut threads = Vec::new();
        if core.durability != Durability::None {
            let core = Arc::clone(&core);
            threads.push(spawn("leash-audit-sync", move || core.keep_syncing())?);
        }
        Ok(AuditLog(Arc::new(Handle {
            core,
            threads: Mutex::new(threads),
            counting: AtomicBool::new(false),
        })))
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, AuditError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(AuditError::io("start a thread for", PathBuf::from(name)))
}

fn open_file(path: &Path) -> Result<(PathBuf, File), AuditError> {
    let mut options = OpenOptions::new();
    options.read(true).append(true);
    let file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            options.create(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
            let file = options.open(path).map_err(AuditError::io("create", path))?;
            tail::sync_dir(path)?;
            file
        }
        other => other.map_err(AuditError::io("open", path))?,
    };
    // The name of the file itself, so that what is put beside it is beside it, also behind a symbolic link.
    let path = fs::canonicalize(path).map_err(AuditError::io("open", path))?;
    if !file.metadata().map_err(AuditError::io("open", &path))?.is_file() {
        return Err(AuditError::Damaged {
            path,
            what: "it is not a plain file".to_owned(),
        });
    }
    Ok((path, file))
}

/// Where the holder says who it is. Only a note: what keeps others out is the lock on the log itself, which nobody
/// can remove by tidying up.
fn note_path(path: &Path) -> PathBuf {
    tail::beside(path, ".lock")
}

fn take_lock(path: &Path, file: &File) -> Result<(), AuditError> {
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut note = String::new();
            let read = File::open(note_path(path)).and_then(|file| file.take(64).read_to_string(&mut note));
            let pid = note.trim().parse::<u32>().ok().filter(|_| read.is_ok());
            let holder = pid.map_or_else(|| "another writer".to_owned(), |pid| format!("process {pid}"));
            return Err(AuditError::Held {
                path: path.to_owned(),
                holder,
            });
        }
        Err(TryLockError::Error(error)) => return Err(AuditError::io("lock", path)(error)),
    }
    if !is_same_file(path, file) {
        let error = io::Error::other("it was replaced in the meantime");
        return Err(AuditError::io("lock", path)(error));
    }
    // A hint for people. A directory that is closed to us is no reason not to write the log.
    let _ = fs::write(note_path(path), format!("{}\n", std::process::id()));
    Ok(())
}

#[cfg(unix)]
fn is_same_file(path: &Path, file: &File) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (fs::metadata(path), file.metadata()) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_same_file(_: &Path, _: &File) -> bool {
    true
}

/// Puts `hmac` and `hmac_key_id` where they belong among the members of `body`, which has no `hash` yet. What `hash`
/// comes before, these come before too, so its place stays.
fn sign(body: &mut String, key: &HmacKey) -> Result<(), AuditError> {
    let mut at = None;
    canonical::scan(body, |member| {
        if at.is_none() && member.name > "hmac" {
            at = Some(member.start);
        }
    })
    .map_err(|_| AuditError::Event("it has no canonical form"))?;
    // Every event has a `kind`.
    let at = at.ok_or(AuditError::Event("it has no kind"))?;
    let id = format!("\"hmac_key_id\":\"{}\",", key.id());
    let (head, tail) = body.split_at_checked(at).unwrap_or_default();
    let hex = key.sign(&[head, &id, tail]);
    let hex = std::str::from_utf8(&hex).unwrap_or_default();
    body.insert_str(at, &format!("\"hmac\":\"{hex}\",{id}"));
    Ok(())
}

/// An audit log that is open for appending. Cheap to clone; shared by threads and tasks.
///
/// Appending takes a `write(2)`, under a lock that is never held across an `await`. Waiting for the disk is
/// separate: [`Appended::wait`] blocks, [`Appended::durable`] does not.
///
/// When the last clone goes, what is counted or owed is written if that can be; [`close`](Self::close) tells.
///
/// ```
/// use leash_audit::{AuditLog, Durability, Event, Kind, ModelCall, Who};
/// use leash_core::Usd;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("audit.jsonl");
/// let log = AuditLog::builder(&path).durability(Durability::Each).open()?;
///
/// // At admission: room for the line, so that the line can be kept when the disk is full by then.
/// let slot = log.reserve_slot()?;
/// // Once the provider was paid:
/// let call = ModelCall { provider: "openai", model: "gpt-5", cost: Usd::from_nanos(1_500)?, ..ModelCall::default() };
/// let appended = log.append_owed(slot, &Event::new(Who::session("s_1"), Kind::ModelCall(call)))?;
/// appended.wait()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AuditLog(Arc<Handle>);

struct Handle {
    core: Arc<Core>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Whether the counting thread was started.
    counting: AtomicBool,
}

impl AuditLog {
    /// Opens the log at `path`, or starts one, with [`Durability::None`].
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, AuditError> {
        Self::builder(path).open()
    }

    /// How to open the log at `path`.
    #[must_use]
    pub fn builder(path: impl Into<PathBuf>) -> Builder {
        Builder {
            path: path.into(),
            durability: Durability::None,
            clock: Arc::new(SystemClock),
            slots: DEFAULT_SLOTS,
            key: None,
        }
    }

    /// Where the log is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.core.path
    }

    /// Appends `event`. When this returns, the line survives the death of the process.
    ///
    /// # Errors
    /// [`AuditError`] when the line is not in the log: whoever needed it refuses. The file is then as it was, or
    /// takes no line until it is.
    pub fn append(&self, event: &Event<'_>) -> Result<Appended, AuditError> {
        let core = &self.0.core;
        let mut state = core.lock()?;
        core.ready(&mut state)?;
        let seq = core.write_event(&mut state, event)?;
        drop(state);
        Ok(core.appended(seq))
    }

    /// Appends `event`, unless an equal one (but for time) was appended within the last second: then it is counted,
    /// and a line with `count` follows within about a second, when the log is closed, or before the next second's.
    ///
    /// For refusals and what comes with them, whose storms would fill the disk. The counts add up: a line without
    /// `count` stands for one. Events of more than 16 KiB are not counted, but written each. A crash may lose what was counted in the last second, never the first line.
    ///
    /// # Errors
    /// As [`append`](Self::append). The event is counted all the same, where there is room to.
    pub fn append_coalesced(&self, event: &Event<'_>) -> Result<Appended, AuditError> {
        let core = &self.0.core;
        let mut key = String::with_capacity(256);
        event::write(&mut key, event, None)?;
        if key.len() > MAX_COUNTED {
            return self.append(event);
        }
        let now = core.clock.now();
        let mut state = core.lock()?;
        if let Some(storm) = state.storms.get_mut(&key) {
            let age = now.saturating_since(storm.started);
            if age < STORM && now >= storm.started && storm.seq.is_some() {
                storm.more = storm.more.saturating_add(1);
                let seq = storm.seq.unwrap_or(0);
                let begins = storm.more == 1;
                drop(state);
                if !self.0.counting.swap(true, Ordering::AcqRel) {
                    self.start_ticking()?;
                } else if begins {
                    core.tick.notify_one();
                }
                return Ok(core.appended(seq));
            }
        } else if state.storms.len() >= MAX_STORMS {
            core.flush_storms(&mut state, Duration::ZERO)?;
        }
        // What was counted before goes first, then this one starts a second of its own.
        let written = core
            .ready(&mut state)
            .and_then(|()| core.flush_storm(&mut state, &key))
            .and_then(|()| core.write_event(&mut state, event));
        let storm = Storm {
            started: now,
            born: Instant::now(),
            seq: written.as_ref().ok().copied(),
            more: 0,
        };
        let storm = state.storms.entry(key).or_insert(storm);
        match written {
            Ok(seq) => {
                *storm = Storm {
                    started: now,
                    born: Instant::now(),
                    seq: Some(seq),
                    more: 0,
                };
                drop(state);
                Ok(core.appended(seq))
            }
            Err(error) => {
                storm.more = storm.more.saturating_add(1);
                Err(error)
            }
        }
    }

    /// Sets room aside for one record, so that it can be kept in memory if it cannot be written when its time comes.
    ///
    /// # Errors
    /// [`AuditError`] when nothing may be admitted: records are owed and the disk still does not take them, the
    /// limit is reached, or the log is closed or failed.
    pub fn reserve_slot(&self) -> Result<Slot, AuditError> {
        self.ready()?;
        let core = &self.0.core;
        core.slots
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                used.checked_add(1).filter(|used| *used <= core.limit)
            })
            .map_err(|_| AuditError::NoSlot { limit: core.limit })?;
        Ok(Slot {
            core: Arc::clone(core),
            kept: false,
        })
    }

    /// Appends the record that `slot` was reserved for, or keeps it in memory.
    ///
    /// # Errors
    /// [`Owed`] when it is kept: a warning for whoever has a paid answer to deliver. Nothing more is admitted until
    /// it is on disk.
    pub fn append_owed(&self, slot: Slot, event: &Event<'_>) -> Result<Appended, Owed> {
        let core = Arc::clone(&self.0.core);
        let mut slot = slot;
        let mut state = core.state.lock().unwrap_or_else(|poisoned| {
            // Whatever the thread that died left, this record has its place after it, and is kept.
            core.poisoned.store(true, Ordering::Release);
            core.trouble.store(true, Ordering::Release);
            poisoned.into_inner()
        });
        let seq = state.seq;
        let written = core
            .ready(&mut state)
            .and_then(|()| core.write_event(&mut state, event));
        match written {
            Ok(seq) => {
                drop(state);
                Ok(core.appended(seq))
            }
            Err(source) => {
                // From here on nothing is admitted.
                core.trouble.store(true, Ordering::Release);
                match core.render(&mut state, event) {
                    Ok(hash) => {
                        let line = std::mem::take(&mut state.line);
                        state.owed.extend_from_slice(&line);
                        state.line = line;
                        state.owed_records = state.owed_records.saturating_add(1);
                        state.advance(hash);
                        slot.kept = true;
                    }
                    // It has no line, so it can never be written, and the log may never say that all is well.
                    Err(_) => state.lost = true,
                }
                Err(Owed { seq, source })
            }
        }
    }

    /// Whether a line could be appended, as far as can be told without one. Tries to write what is owed.
    ///
    /// # Errors
    /// [`AuditError`] when nothing may be admitted.
    pub fn ready(&self) -> Result<(), AuditError> {
        let core = &self.0.core;
        if !core.trouble.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut state = core.lock()?;
        core.ready(&mut state)
    }

    /// How many records are kept in memory because they could not be written.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.0
            .core
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .owed_records
    }

    /// Writes what is counted or owed and makes all lines durable, whatever the [`Durability`]. Blocks.
    ///
    /// # Errors
    /// [`AuditError`] when lines are not on disk.
    pub fn flush(&self) -> Result<(), AuditError> {
        let core = &self.0.core;
        let mut state = core.lock()?;
        core.flush_all(&mut state)
    }

    /// Flushes the log and lets go of the file: another writer may open it. Blocks. Closing again does nothing.
    ///
    /// # Errors
    /// [`AuditError`] when lines are not on disk; the log is then still open.
    pub fn close(&self) -> Result<(), AuditError> {
        self.0.core.close()
    }

    /// Starts the thread that writes down what was counted.
    fn start_ticking(&self) -> Result<(), AuditError> {
        let core = Arc::clone(&self.0.core);
        let thread = spawn("leash-audit-count", move || core.keep_counting())?;
        self.0
            .threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(thread);
        Ok(())
    }
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog")
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Nobody is left to tell.
        if self.core.close().is_err() {
            let _ = fs::remove_file(note_path(&self.core.path));
            // Tickets and slots may outlive the log and hold the file; they must not hold its lock.
            let _ = self.core.file.unlock();
        }
        self.core.stop();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            let _ = thread.join();
        }
    }
}

/// Room for one record; see [`AuditLog::reserve_slot`]. Dropped unused, the room is free again.
#[must_use = "the room is given back when this is dropped"]
pub struct Slot {
    core: Arc<Core>,
    /// Whether the record took the room over.
    kept: bool,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.kept {
            self.core.slots.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// A line that is in the log.
#[must_use = "with `Durability::Each` the line is on disk when `wait` or `durable` says so"]
pub struct Appended {
    seq: u64,
    core: Option<Arc<Core>>,
}

impl Appended {
    /// Its number.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// Blocks until the line is as durable as the log was opened to make it.
    ///
    /// # Errors
    /// [`AuditError::NotDurable`] when the disk failed.
    pub fn wait(&self) -> Result<(), AuditError> {
        let Some(core) = &self.core else { return Ok(()) };
        let mut sync = core.sync.lock().map_err(|_| core.poison())?;
        while sync.durable <= self.seq {
            if sync.failed {
                return Err(AuditError::NotDurable {
                    path: core.path.clone(),
                });
            }
            sync = core.done.wait(sync).map_err(|_| core.poison())?;
        }
        Ok(())
    }

    /// Becomes ready when the line is as durable as the log was opened to make it.
    #[must_use]
    pub fn durable(self) -> Durable {
        Durable {
            appended: self,
            ticket: None,
        }
    }
}

impl fmt::Debug for Appended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appended")
            .field("seq", &self.seq)
            .finish_non_exhaustive()
    }
}

/// See [`Appended::durable`]. Gives [`AuditError::NotDurable`] when the disk failed.
#[derive(Debug)]
pub struct Durable {
    appended: Appended,
    /// Under which number the waker is registered.
    ticket: Option<u64>,
}

impl Future for Durable {
    type Output = Result<(), AuditError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(core) = self.appended.core.clone() else {
            return Poll::Ready(Ok(()));
        };
        let Ok(mut sync) = core.sync.lock() else {
            return Poll::Ready(Err(core.poison()));
        };
        if sync.durable > self.appended.seq {
            return Poll::Ready(Ok(()));
        }
        if sync.failed {
            return Poll::Ready(Err(AuditError::NotDurable {
                path: core.path.clone(),
            }));
        }
        let waker = context.waker();
        if let Some(ticket) = self.ticket
            && let Some(waiter) = sync.waiters.iter_mut().find(|waiter| waiter.ticket == ticket)
        {
            waiter.waker.clone_from(waker);
        } else {
            let ticket = sync.next_ticket;
            sync.next_ticket = ticket.wrapping_add(1);
            sync.waiters.push(Waiter {
                ticket,
                seq: self.appended.seq,
                waker: waker.clone(),
            });
            self.ticket = Some(ticket);
        }
        Poll::Pending
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        if let (Some(ticket), Some(core)) = (self.ticket, &self.appended.core)
            && let Ok(mut sync) = core.sync.lock()
        {
            sync.waiters.retain(|waiter| waiter.ticket != ticket);
        }
    }
}

struct State {
    /// How long the file is up to the end of its last whole line.
    len: u64,
    /// Where the file ended when a write failed half-way and the rest could not be cut off.
    uncut: Option<u64>,
    /// Of the next line.
    seq: u64,
    /// Of the last line, written or owed.
    prev: Hex,
    /// Whole lines that are not in the file yet, in order.
    owed: Vec<u8>,
    owed_records: usize,
    /// The length that the file has, where somebody else changed it.
    foreign: Option<u64>,
    /// Whether a record had to be written that has no line.
    lost: bool,
    closed: bool,
    storms: BTreeMap<String, Storm>,
    stopping: bool,
    /// Room to make lines in.
    body: String,
    line: Vec<u8>,
}

impl State {
    fn advance(&mut self, hash: Hex) {
        self.seq = self.seq.saturating_add(1);
        self.prev = hash;
    }
}

/// Equal events that are counted.
struct Storm {
    /// By the log's clock.
    started: Timestamp,
    /// By the machine's, for the thread that ends it.
    born: Instant,
    /// The first line; `None` where it could not be written.
    seq: Option<u64>,
    /// How many there were that no line stands for.
    more: u64,
}

#[derive(Default)]
struct Sync {
    /// Lines below this number are on disk.
    durable: u64,
    failed: bool,
    stopping: bool,
    waiters: Vec<Waiter>,
    next_ticket: u64,
}

struct Waiter {
    ticket: u64,
    seq: u64,
    waker: Waker,
}

struct Core {
    path: PathBuf,
    file: File,
    durability: Durability,
    clock: Arc<dyn Clock>,
    limit: usize,
    key: Option<HmacKey>,
    state: Mutex<State>,
    /// Tells the counting thread that there is something to count, or to stop.
    tick: Condvar,
    sync: Mutex<Sync>,
    /// Tells the syncing thread that there is something to sync, or to stop.
    wake: Condvar,
    /// Tells those who wait that lines are on disk, or never will be.
    done: Condvar,
    /// Lines below this number are in the file.
    written: AtomicU64,
    /// Whether lines were written since the syncing thread last began.
    dirty: AtomicBool,
    slots: AtomicUsize,
    /// Whether something may keep a line from being appended. Only a hint to look closer.
    trouble: AtomicBool,
    not_durable: AtomicBool,
    poisoned: AtomicBool,
}

impl Core {
    fn new(builder: Builder, path: PathBuf, file: File, tail: &Tail) -> Self {
        Self {
            path,
            file,
            durability: builder.durability,
            clock: builder.clock,
            limit: builder.slots,
            key: builder.key,
            state: Mutex::new(State {
                len: tail.len,
                uncut: None,
                seq: tail.seq,
                prev: tail.hash,
                owed: Vec::new(),
                owed_records: 0,
                foreign: None,
                lost: false,
                closed: false,
                storms: BTreeMap::new(),
                stopping: false,
                body: String::new(),
                line: Vec::new(),
            }),
            tick: Condvar::new(),
            sync: Mutex::new(Sync {
                durable: tail.seq,
                ..Sync::default()
            }),
            wake: Condvar::new(),
            done: Condvar::new(),
            written: AtomicU64::new(tail.seq),
            dirty: AtomicBool::new(false),
            slots: AtomicUsize::new(0),
            trouble: AtomicBool::new(false),
            not_durable: AtomicBool::new(false),
            poisoned: AtomicBool::new(false),
        }
    }

    fn poison(&self) -> AuditError {
        AuditError::Poisoned {
            path: self.path.clone(),
        }
    }

    fn lock(&self) -> Result<MutexGuard<'_, State>, AuditError> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(self.poison());
        }
        self.state.lock().map_err(|_| self.poison())
    }

    /// Brings the end of the file into order, as it was found when the log was opened.
    fn recover(&self, tail: &Tail) -> Result<(), AuditError> {
        let mut state = self.lock()?;
        let mut kept = tail::kept(&self.path, &tail.torn)?;
        let mut named = None;
        if let (Some(bytes), false) = (&kept, tail.torn.is_empty()) {
            // The place where torn bytes wait is needed again.
            let name = tail::free_name(&self.path)?;
            tail::name_kept(&self.path, &name)?;
            named = Some((name, bytes.clone()));
        }
        if tail.unended {
            self.write(&mut state, b"\n")?;
        }
        if !tail.torn.is_empty() {
            tail::keep(&self.path, &tail.torn)?;
            self.file
                .set_len(tail.len)
                .and_then(|()| self.file.sync_all())
                .map_err(AuditError::io("cut the torn tail off", &self.path))?;
            kept = Some(tail.torn.clone());
        }
        if let Some((name, bytes)) = named {
            self.say_recovered(&mut state, &name, &bytes)?;
        }
        if let Some(bytes) = kept {
            // The file gets its name after the line, so that a crash between them, or a disk that is full, leaves
            // the recovery to be finished by whoever opens the log next.
            let name = tail::free_name(&self.path)?;
            self.say_recovered(&mut state, &name, &bytes)?;
            tail::name_kept(&self.path, &name)?;
        }
        Ok(())
    }

    fn say_recovered(&self, state: &mut State, name: &Path, torn: &[u8]) -> Result<(), AuditError> {
        let set_aside = name.file_name().unwrap_or_default().to_string_lossy();
        let recovered = LogRecovered {
            set_aside: &set_aside,
            bytes: u64::try_from(torn.len()).unwrap_or(u64::MAX),
            sha256: Digest::of(torn),
        };
        self.write_event(state, &Event::new(Who::EVERYBODY, Kind::LogRecovered(recovered)))?;
        self.file
            .sync_data()
            .map_err(AuditError::io("keep the lines of", &self.path))
    }

    /// Whether a line may be appended; writes what is owed.
    fn ready(&self, state: &mut State) -> Result<(), AuditError> {
        if state.closed {
            return Err(AuditError::Closed {
                path: self.path.clone(),
            });
        }
        if self.poisoned.load(Ordering::Acquire) {
            return Err(self.poison());
        }
        if self.not_durable.load(Ordering::Acquire) {
            return Err(AuditError::NotDurable {
                path: self.path.clone(),
            });
        }
        if state.lost {
            return Err(AuditError::Event("a record that had to be written cannot be"));
        }
        if let Some(found) = state.foreign {
            return Err(AuditError::Foreign {
                path: self.path.clone(),
                expected: state.len,
                found,
            });
        }
        self.cut(state)?;
        if !state.owed.is_empty() {
            let owed = std::mem::take(&mut state.owed);
            if let Err(error) = self.write(state, &owed) {
                state.owed = owed;
                return Err(error);
            }
            self.written.store(state.seq, Ordering::Release);
            self.slots.fetch_sub(state.owed_records, Ordering::AcqRel);
            state.owed_records = 0;
            self.mark_dirty();
        }
        self.trouble.store(false, Ordering::Release);
        Ok(())
    }

    /// Cuts off what a failed write left behind the last whole line.
    fn cut(&self, state: &mut State) -> Result<(), AuditError> {
        let Some(end) = state.uncut else { return Ok(()) };
        let found = self.length()?;
        if found != state.len {
            if found != end {
                return Err(self.foreign(state, found));
            }
            self.file
                .set_len(state.len)
                .map_err(AuditError::io("cut half a line off", &self.path))?;
        }
        state.uncut = None;
        Ok(())
    }

    fn length(&self) -> Result<u64, AuditError> {
        (&self.file)
            .seek(SeekFrom::End(0))
            .map_err(AuditError::io("find the end of", &self.path))
    }

    fn foreign(&self, state: &mut State, found: u64) -> AuditError {
        state.foreign = Some(found);
        self.trouble.store(true, Ordering::Release);
        AuditError::Foreign {
            path: self.path.clone(),
            expected: state.len,
            found,
        }
    }

    /// Writes whole lines to the end of the file: all of them, or none.
    fn write(&self, state: &mut State, lines: &[u8]) -> Result<(), AuditError> {
        let found = self.length()?;
        if found != state.len {
            return Err(self.foreign(state, found));
        }
        let mut rest = lines;
        let error = loop {
            match (&self.file).write(rest) {
                Ok(n) if n == rest.len() => {
                    let len = u64::try_from(lines.len()).unwrap_or(u64::MAX);
                    state.len = state.len.saturating_add(len);
                    return Ok(());
                }
                Ok(0) => break io::Error::from(io::ErrorKind::WriteZero),
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error,
            }
        };
        let half = lines.len().saturating_sub(rest.len());
        if half > 0 {
            self.trouble.store(true, Ordering::Release);
            state.uncut = Some(state.len.saturating_add(u64::try_from(half).unwrap_or(u64::MAX)));
            // Where this fails, it is tried again before the next line, and no line is written until it works.
            let _ = self.cut(state);
        }
        Err(AuditError::io("append to", &self.path)(error))
    }

    /// Makes the next line of `event` in `state.line`.
    fn render(&self, state: &mut State, event: &Event<'_>) -> Result<Hex, AuditError> {
        self.render_with(state, None, |body, place| event::write(body, event, Some(place)))
    }

    fn render_with(
        &self,
        state: &mut State,
        count: Option<u64>,
        write: impl FnOnce(&mut String, &Place<'_>) -> Result<usize, AuditError>,
    ) -> Result<Hex, AuditError> {
        let ts = self.clock.now().to_ascii();
        let State {
            seq,
            prev,
            body,
            line,
            ..
        } = state;
        let place = Place {
            seq: *seq,
            prev_hash: std::str::from_utf8(prev).unwrap_or_default(),
            ts: std::str::from_utf8(&ts).unwrap_or_default(),
            count,
        };
        body.clear();
        let split = write(body, &place)?;
        if let Some(key) = &self.key {
            sign(body, key)?;
        }
        let hash = Digest::of(body.as_bytes()).to_hex();
        let (head, tail) = body.as_bytes().split_at_checked(split).unwrap_or_default();
        line.clear();
        for part in [head, b"\"hash\":\"", &hash, b"\",", tail, b"\n"] {
            line.extend_from_slice(part);
        }
        if line.len() > MAX_WRITTEN_LINE {
            let bytes = line.len();
            // One huge line must not cost its memory for ever.
            *line = Vec::new();
            *body = String::new();
            return Err(AuditError::TooLong {
                bytes,
                limit: MAX_WRITTEN_LINE,
            });
        }
        Ok(hash)
    }

    /// Writes the line of `event`, and gives its number.
    fn write_event(&self, state: &mut State, event: &Event<'_>) -> Result<u64, AuditError> {
        let hash = self.render(state, event)?;
        self.write_line(state, hash)
    }

    /// Writes the line that was made in `state.line`.
    fn write_line(&self, state: &mut State, hash: Hex) -> Result<u64, AuditError> {
        let line = std::mem::take(&mut state.line);
        let written = self.write(state, &line);
        state.line = line;
        written?;
        let seq = state.seq;
        state.advance(hash);
        self.written.store(state.seq, Ordering::Release);
        self.mark_dirty();
        Ok(seq)
    }

    fn appended(self: &Arc<Self>, seq: u64) -> Appended {
        let core = (self.durability == Durability::Each).then(|| Arc::clone(self));
        Appended { seq, core }
    }

    /// Tells the syncing thread, if there is one, that lines were written.
    fn mark_dirty(&self) {
        if self.durability != Durability::None && !self.dirty.swap(true, Ordering::AcqRel) {
            // The lock is what keeps the word from being said between the thread's last look and its sleep.
            let sync = self.sync.lock().unwrap_or_else(PoisonError::into_inner);
            self.wake.notify_one();
            drop(sync);
        }
    }

    /// Writes down what was counted for `key`.
    fn flush_storm(&self, state: &mut State, key: &str) -> Result<(), AuditError> {
        let Some(more) = state
            .storms
            .get(key)
            .map(|storm| storm.more)
            .filter(|more| *more > 0)
        else {
            return Ok(());
        };
        let hash = self.render_with(state, Some(more), |body, place| {
            event::write_members(body, key, place)
        })?;
        self.write_line(state, hash)?;
        if let Some(storm) = state.storms.get_mut(key) {
            storm.more = 0;
        }
        Ok(())
    }

    /// Writes down what was counted for at least `age`.
    fn flush_storms(&self, state: &mut State, age: Duration) -> Result<(), AuditError> {
        self.ready(state)?;
        let mut due: Vec<_> = state
            .storms
            .iter()
            .filter(|(_, storm)| storm.born.elapsed() >= age)
            .map(|(key, storm)| (storm.born, key.clone()))
            .collect();
        due.sort();
        for (_, key) in due {
            self.flush_storm(state, &key)?;
            state.storms.remove(&key);
        }
        Ok(())
    }

    fn flush_all(&self, state: &mut State) -> Result<(), AuditError> {
        self.flush_storms(state, Duration::ZERO)?;
        self.ready(state)?;
        if self.file.sync_data().is_err() {
            self.give_up();
            return Err(AuditError::NotDurable {
                path: self.path.clone(),
            });
        }
        self.set_durable(state.seq);
        Ok(())
    }

    fn close(&self) -> Result<(), AuditError> {
        let mut state = self.lock()?;
        if state.closed {
            return Ok(());
        }
        self.flush_all(&mut state)?;
        state.closed = true;
        self.trouble.store(true, Ordering::Release);
        // The note first: once the lock is gone, it may be another's.
        let _ = fs::remove_file(note_path(&self.path));
        self.file.unlock().map_err(AuditError::io("unlock", &self.path))
    }

    fn stop(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stopping = true;
        self.tick.notify_all();
        self.sync.lock().unwrap_or_else(PoisonError::into_inner).stopping = true;
        self.wake.notify_all();
    }

    /// The counting thread.
    fn keep_counting(&self) {
        let Ok(mut state) = self.state.lock() else { return };
        while !state.stopping && !state.closed {
            if state.storms.is_empty() {
                let Ok(again) = self.tick.wait(state) else { return };
                state = again;
                continue;
            }
            let Ok((again, _)) = self.tick.wait_timeout(state, STORM) else {
                return;
            };
            state = again;
            // What cannot be written is tried again in a second, and whoever appends next is told.
            if self.flush_storms(&mut state, STORM).is_err() {
                self.trouble.store(true, Ordering::Release);
            }
        }
    }

    /// The syncing thread.
    fn keep_syncing(&self) {
        loop {
            let Ok(mut sync) = self.sync.lock() else { return };
            while !self.dirty.load(Ordering::Acquire) {
                if sync.stopping {
                    return;
                }
                let Ok(again) = self.wake.wait(sync) else { return };
                sync = again;
            }
            if let Durability::Interval(interval) = self.durability {
                let begun = Instant::now();
                while !sync.stopping
                    && let Some(left) = interval
                        .checked_sub(begun.elapsed())
                        .filter(|left| !left.is_zero())
                {
                    let Ok((again, _)) = self.wake.wait_timeout(sync, left) else {
                        return;
                    };
                    sync = again;
                }
            }
            drop(sync);
            self.dirty.store(false, Ordering::Release);
            let written = self.written.load(Ordering::Acquire);
            if self.file.sync_data().is_err() {
                self.give_up();
                return;
            }
            self.set_durable(written);
        }
    }

    /// After a failed sync the system may have thrown the lines away and forgotten that it did, so no later sync
    /// says anything about them.
    fn give_up(&self) {
        self.not_durable.store(true, Ordering::Release);
        self.trouble.store(true, Ordering::Release);
        let mut sync = self.sync.lock().unwrap_or_else(PoisonError::into_inner);
        sync.failed = true;
        let waiters = std::mem::take(&mut sync.waiters);
        drop(sync);
        self.done.notify_all();
        for waiter in waiters {
            waiter.waker.wake();
        }
    }

    fn set_durable(&self, written: u64) {
        let mut sync = self.sync.lock().unwrap_or_else(PoisonError::into_inner);
        sync.durable = sync.durable.max(written);
        let durable = sync.durable;
        let ready: Vec<_> = sync
            .waiters
            .extract_if(.., |waiter| waiter.seq < durable)
            .collect();
        drop(sync);
        self.done.notify_all();
        for waiter in ready {
            waiter.waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::{Kill, VerifyOptions, verify};

    fn event() -> Event<'static> {
        Event::new(
            Who::session("s_1"),
            Kind::Kill(Kill {
                reason: "runaway",
                scope: None,
            }),
        )
    }

    fn open(durability: Durability) -> (tempfile::TempDir, AuditLog) {
        let dir = tempfile::tempdir().unwrap();
        let log = AuditLog::builder(dir.path().join("log"))
            .durability(durability)
            .open()
            .unwrap();
        (dir, log)
    }

    #[test]
    fn after_a_failed_sync_nobody_is_told_that_a_line_is_durable() {
        let (_dir, log) = open(Durability::Each);
        // A line of the future, so that the wait is one for sure.
        let waiting = || Appended {
            seq: 1000,
            core: Some(Arc::clone(&log.0.core)),
        };
        let mut durable = waiting().durable();
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut durable).poll(&mut context).is_pending());
        assert_eq!(log.0.core.sync.lock().unwrap().waiters.len(), 1);
        log.0.core.give_up();
        assert!(matches!(
            Pin::new(&mut durable).poll(&mut context),
            Poll::Ready(Err(AuditError::NotDurable { .. }))
        ));
        assert!(matches!(waiting().wait(), Err(AuditError::NotDurable { .. })));
        assert!(matches!(log.append(&event()), Err(AuditError::NotDurable { .. })));
        assert!(log.ready().is_err() && log.reserve_slot().is_err() && log.close().is_err());
    }

    #[test]
    fn after_a_thread_died_while_it_wrote_nothing_is_admitted_and_records_are_kept() {
        let (_dir, log) = open(Durability::None);
        let slot = log.reserve_slot().unwrap();
        let core = Arc::clone(&log.0.core);
        let died = std::thread::spawn(move || {
            let _state = core.state.lock().unwrap();
            panic!("dies with the lock in its hands");
        });
        assert!(died.join().is_err());
        assert!(matches!(log.append(&event()), Err(AuditError::Poisoned { .. })));
        assert!(matches!(
            log.append_owed(slot, &event()),
            Err(Owed { seq: 0, .. })
        ));
        assert_eq!(log.owed(), 1);
        assert!(log.ready().is_err() && log.reserve_slot().is_err());
    }

    #[test]
    fn half_a_line_is_cut_off_before_the_next_one() {
        let (_dir, log) = open(Durability::None);
        let _ = log.append(&event()).unwrap();
        // As after a write that failed half-way and a cut that failed too.
        (&log.0.core.file).write_all(b"{\"half").unwrap();
        let mut state = log.0.core.state.lock().unwrap();
        state.uncut = Some(state.len + 6);
        drop(state);
        let _ = log.append(&event()).unwrap();
        log.close().unwrap();
        let report = verify(log.path(), &VerifyOptions::default()).unwrap();
        assert!(report.is_ok(), "{report}");
        assert_eq!(report.events, 2);
    }

    #[test]
    fn an_owed_record_gives_its_slot_back_once_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let log = AuditLog::builder(dir.path().join("log")).slots(1).open().unwrap();
        let slot = log.reserve_slot().unwrap();
        // Somebody else's byte, which then goes away again.
        log.0.core.state.lock().unwrap().foreign = Some(1);
        assert!(log.append_owed(slot, &event()).is_err());
        assert!(log.reserve_slot().is_err());
        log.0.core.state.lock().unwrap().foreign = None;
        let slot = log.reserve_slot().unwrap();
        assert_eq!(log.owed(), 0);
        assert_eq!(log.append_owed(slot, &event()).unwrap().seq(), 1);
        log.close().unwrap();
        assert_eq!(verify(log.path(), &VerifyOptions::default()).unwrap().events, 2);
    }
}
