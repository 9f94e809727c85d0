//! The end of a log, where the next line goes: read from the back, so its length does not matter. Knows what a
//! crash can leave there, and what only damage can.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::AuditError;
use crate::line::{self, Hex, Line};
use crate::read::MAX_LINE;

/// Where a log ends.
#[derive(Debug)]
pub(crate) struct Tail {
    /// How long it is up to the end of its last good line, in bytes.
    pub(crate) len: u64,
    /// Of the next line.
    pub(crate) seq: u64,
    /// Of the last line, zeros where there is none.
    pub(crate) hash: Hex,
    /// Bytes after `len` that are no line: what a crash tore.
    pub(crate) torn: Vec<u8>,
    /// Whether the last good line lacks its line end.
    pub(crate) unended: bool,
}

/// How much is read at a time from the back.
const STEP: u64 = 16 * 1024;

fn size(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// Reads a file from its end towards its start.
struct Back<'a> {
    file: &'a File,
    /// Where `buf` starts in the file.
    from: u64,
    /// All bytes from `from` to what was the end.
    buf: Vec<u8>,
}

impl Back<'_> {
    /// Reads further towards the start. False where there is nothing more.
    fn more(&mut self) -> io::Result<bool> {
        let step = STEP.max(size(self.buf.len())).min(self.from);
        if step == 0 {
            return Ok(false);
        }
        self.from = self.from.saturating_sub(step);
        let mut front = vec![0; usize::try_from(step).map_err(io::Error::other)?];
        (&mut self.file).seek(SeekFrom::Start(self.from))?;
        (&mut self.file).read_exact(&mut front)?;
        front.append(&mut self.buf);
        self.buf = front;
        Ok(true)
    }

    /// The bytes after the last line end before `end` (counted from the start of the file) up to `end`, and where
    /// they start.
    fn segment(&mut self, end: u64) -> io::Result<Option<(u64, &[u8])>> {
        loop {
            let len = usize::try_from(end.saturating_sub(self.from)).unwrap_or(usize::MAX);
            let held = self.buf.get(..len).unwrap_or_default();
            if let Some(at) = memchr::memrchr(b'\n', held) {
                let start = at.saturating_add(1);
                let from = self.from.saturating_add(size(start));
                return Ok(Some((from, self.buf.get(start..len).unwrap_or_default())));
            }
            if held.len() > MAX_LINE {
                return Ok(None);
            }
            if !self.more()? {
                return Ok(Some((0, self.buf.get(..len).unwrap_or_default())));
            }
        }
    }
}

/// Finds out where the log in `file` ends.
///
/// Bytes after the last line end are a torn write, unless they are a whole event that only lacks its line end. What
/// has a line end must be a good event: a crash does not write the end of a line without its start.
pub(crate) fn find(path: &Path, file: &File) -> Result<Tail, AuditError> {
    let io = || AuditError::io("read", path);
    let damaged = |what: String| AuditError::Damaged {
        path: path.to_owned(),
        what,
    };
    let len = (&mut &*file).seek(SeekFrom::End(0)).map_err(io())?;
    let mut back = Back {
        file,
        from: len,
        buf: Vec::new(),
    };
    let mut scratch = String::new();
    let too_long = || damaged(format!("there is no line end in its last {MAX_LINE} bytes"));

    let (start, bytes) = back.segment(len).map_err(io())?.ok_or_else(too_long)?;
    if let Line::Event(link, _) = look(bytes, &mut scratch) {
        // All of it is there, so no crash tore it: it is good, or somebody changed it.
        let hash = link
            .hash
            .map_err(|bad| damaged(format!("its last line is bad, {}", bad.what())))?;
        let seq = link.seq.and_then(next);
        let seq = seq.ok_or_else(|| damaged("its last line has no usable `seq`".to_owned()))?;
        return Ok(Tail {
            len,
            seq,
            hash,
            torn: Vec::new(),
            unended: true,
        });
    }
    let torn = bytes.to_vec();
    // Whoever names a file by mistake that is no log, and has one line without an end, must not lose it.
    if start == 0 && !matches!(torn.first(), None | Some(b'{' | 0)) {
        return Err(damaged(
            "its only line does not start as an event does".to_owned(),
        ));
    }
    let mut end = start;
    while end > 0 {
        // Without the line end that `end` is just after.
        let (start, bytes) = back
            .segment(end.saturating_sub(1))
            .map_err(io())?
            .ok_or_else(too_long)?;
        match look(bytes, &mut scratch) {
            Line::Blank => end = start,
            Line::Garbage(what) => return Err(damaged(format!("its last line is bad, {what}"))),
            Line::Event(link, _) => {
                let hash = link
                    .hash
                    .map_err(|bad| damaged(format!("its last line is bad, {}", bad.what())))?;
                let seq = link.seq.and_then(next);
                let seq = seq.ok_or_else(|| damaged("its last line has no usable `seq`".to_owned()))?;
                return Ok(Tail {
                    len: len.saturating_sub(size(torn.len())),
                    seq,
                    hash,
                    torn,
                    unended: false,
                });
            }
        }
    }
    Ok(Tail {
        len: len.saturating_sub(size(torn.len())),
        seq: 0,
        hash: line::ZERO,
        torn,
        unended: false,
    })
}

fn look(bytes: &[u8], scratch: &mut String) -> Line {
    line::look(bytes, std::str::from_utf8(bytes).ok(), scratch, None, &mut ())
}

fn next(seq: u64) -> Option<u64> {
    seq.checked_add(1)
}

/// The name of `path` with `suffix` after it.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Where torn bytes wait until the log says that they were set aside.
fn waiting(path: &Path) -> PathBuf {
    beside(path, ".torn")
}

/// Keeps `torn` in a file of its own beside the log at `path`; it is on disk when this returns.
pub(crate) fn keep(path: &Path, torn: &[u8]) -> Result<(), AuditError> {
    let waiting = waiting(path);
    File::create(&waiting)
        .and_then(|mut file| file.write_all(torn).and_then(|()| file.sync_all()))
        .map_err(AuditError::io("set a torn tail aside in", waiting))?;
    sync_dir(path)
}

/// Torn bytes that an earlier recovery kept and did not get to say so. Where they are still in the log's own torn
/// tail, that recovery is as if it had never begun.
pub(crate) fn kept(path: &Path, torn: &[u8]) -> Result<Option<Vec<u8>>, AuditError> {
    let waiting = waiting(path);
    let mut bytes = Vec::new();
    let file = match File::open(&waiting) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(AuditError::io("read", waiting)(error)),
    };
    let limit = size(MAX_LINE).saturating_add(1);
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(AuditError::io("read", &waiting))?;
    if torn.starts_with(&bytes) {
        fs::remove_file(&waiting).map_err(AuditError::io("remove", &waiting))?;
        return Ok(None);
    }
    Ok(Some(bytes))
}

/// A name that is free for torn bytes: `LOG.torn-<n>`.
pub(crate) fn free_name(path: &Path) -> Result<PathBuf, AuditError> {
    let free = (1..=10_000_u32)
        .map(|n| beside(path, &format!(".torn-{n}")))
        .find(|aside| !aside.exists());
    free.ok_or_else(|| {
        let error = io::Error::other("there are 10000 of them already");
        AuditError::io("set a torn tail aside beside", path)(error)
    })
}

/// Gives what was kept its name, once the log says so.
pub(crate) fn name_kept(path: &Path, name: &Path) -> Result<(), AuditError> {
    fs::rename(waiting(path), name).map_err(AuditError::io("set a torn tail aside in", name))?;
    sync_dir(path)
}

/// Makes the directory that `path` is in durable, so that a new file in it is still there after a crash.
pub(crate) fn sync_dir(path: &Path) -> Result<(), AuditError> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(AuditError::io("keep the directory of", path))
}
