//! The writer: [`AuditLog`]. Knows one file that only it writes to, and what is on its way there.
//!
//! What holds at every moment: the file ends with a whole line, or nobody may append until it does again; the next
//! line continues the last one that was written or is owed; and what is owed is written before anything else.

mod lines;
mod opening;
mod place;
mod storms;
mod syncing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use leash_core::{Clock, SystemClock};

pub use self::opening::{Builder, Durability};
use self::place::Watch;
use self::storms::Storm;
use self::syncing::Sync;
pub use self::syncing::{Appended, Durable};
use crate::line::Hex;
use crate::tail::Tail;
use crate::{AuditError, Event, HmacKey, Owed};

/// How many records may be in flight where nothing else is set.
pub const DEFAULT_SLOTS: usize = 65_536;

/// The longest line that is written, in bytes.
pub const MAX_WRITTEN_LINE: usize = 4 * 1024 * 1024;

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
    /// [`AuditError`] when lines are not on disk; [`AuditError::Moved`] when they are, in a file that is not where the
    /// log should be.
    pub fn flush(&self) -> Result<(), AuditError> {
        let core = &self.0.core;
        let mut state = core.lock()?;
        core.flush_all(&mut state)
    }

    /// Flushes the log and lets go of the file: another writer may open it. Blocks. Closing again does nothing.
    ///
    /// # Errors
    /// As [`flush`](Self::flush); the log is then still open.
    pub fn close(&self) -> Result<(), AuditError> {
        self.0.core.close()
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
            self.core.take_note_away();
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

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, AuditError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(AuditError::io("start a thread for", PathBuf::from(name)))
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
    watch: Watch,
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

struct Core {
    /// Of the file itself, also behind a symbolic link.
    path: PathBuf,
    /// What has to lead to the file.
    watched: PathBuf,
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
    fn new(builder: Builder, path: PathBuf, watched: PathBuf, file: File, tail: &Tail) -> Self {
        Self {
            path,
            watched,
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
                watch: Watch::default(),
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

    /// Whether a line may be appended; writes what is owed.
    fn ready(&self, state: &mut State) -> Result<(), AuditError> {
        self.usable(state)?;
        if state.watch.away || !state.owed.is_empty() {
            self.in_place(state)?;
        }
        self.pay(state)?;
        self.trouble.store(false, Ordering::Release);
        Ok(())
    }

    /// Whether the file can take a line, wherever it is.
    fn usable(&self, state: &mut State) -> Result<(), AuditError> {
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
        self.cut(state)
    }

    /// Writes what is owed.
    fn pay(&self, state: &mut State) -> Result<(), AuditError> {
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

    /// Writes the line of `event`, and gives its number.
    fn write_event(&self, state: &mut State, event: &Event<'_>) -> Result<u64, AuditError> {
        let hash = self.render(state, event)?;
        self.look(state)?;
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

    /// Gets all on disk that there is to write. Also where the log is not where it should be: what was counted or owed
    /// is better kept there than nowhere.
    fn flush_all(&self, state: &mut State) -> Result<(), AuditError> {
        self.usable(state)?;
        self.pay(state)?;
        self.flush_storms(state, Duration::ZERO)?;
        if self.file.sync_data().is_err() {
            self.give_up();
            return Err(AuditError::NotDurable {
                path: self.path.clone(),
            });
        }
        self.set_durable(state.seq);
        self.in_place(state)
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
        self.take_note_away();
        self.file.unlock().map_err(AuditError::io("unlock", &self.path))
    }

    fn stop(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stopping = true;
        self.tick.notify_all();
        self.sync.lock().unwrap_or_else(PoisonError::into_inner).stopping = true;
        self.wake.notify_all();
    }
}
