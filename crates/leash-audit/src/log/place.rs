//! Where a log lies, who holds it, and whether it is still there. Knows nothing of lines.
//!
//! A file that is held open can be renamed, replaced or removed, and goes on taking lines that nobody finds where they
//! look for them. So the writer looks whether its path still leads to the file it holds: before the first line after a
//! second, and before every [`LOOK`]th line; and whenever the log is flushed or closed, or counts are written down.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::{Core, State};
use crate::{AuditError, tail};

/// After so many lines the writer looks where the log is, however short a time that was.
const LOOK: u32 = 512;

/// After so many microseconds by the log's clock it does too, however few lines there were.
const LOOK_MICROS: u64 = 1_000_000;

/// When the writer last looked where the log is.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// When the line that is made was, in microseconds since 1970.
    pub(super) now: i64,
    /// When it looked.
    looked: i64,
    /// How many lines may follow before it looks again.
    left: u32,
    /// Whether the log was not there.
    pub(super) away: bool,
}

impl Core {
    /// Before a line is written: whether the log is where it should be, if it is time to look.
    pub(super) fn look(&self, state: &mut State) -> Result<(), AuditError> {
        let watch = &mut state.watch;
        if watch.left > 0 && watch.now.abs_diff(watch.looked) < LOOK_MICROS {
            watch.left = watch.left.saturating_sub(1);
            return Ok(());
        }
        self.in_place(state)
    }

    /// Whether the log is where it should be.
    pub(super) fn in_place(&self, state: &mut State) -> Result<(), AuditError> {
        let watch = &mut state.watch;
        watch.away = true;
        let found = is_same_file(&self.watched, &self.file);
        if matches!(found, Ok(true)) {
            watch.away = false;
            watch.looked = watch.now;
            watch.left = LOOK;
            return Ok(());
        }
        // Next time it is looked for again: whoever moved it may put it back.
        watch.left = 0;
        self.trouble.store(true, Ordering::Release);
        Err(match found {
            Err(error) => AuditError::io("look for", &self.watched)(error),
            Ok(_) => AuditError::Moved {
                path: self.watched.clone(),
                rescue: rescue(&self.file),
            },
        })
    }

    /// Takes the note with the holder's name away, unless it may be another's by now.
    pub(super) fn take_note_away(&self) {
        if matches!(is_same_file(&self.path, &self.file), Ok(true)) {
            let _ = fs::remove_file(note_path(&self.path));
        }
    }
}

/// What can be done about a log that is not where it was.
fn rescue(file: &File) -> String {
    if is_removed(file) {
        #[cfg(target_os = "linux")]
        return format!(
            "it was removed, and its lines are lost when this program closes it: copy `/proc/{}/fd/{}` first, then open \
             the log again",
            std::process::id(),
            std::os::fd::AsRawFd::as_raw_fd(file),
        );
        #[cfg(not(target_os = "linux"))]
        return "it was removed; open the log again".to_owned();
    }
    "its lines are in the file that was opened, under another name: move that back, or open the log again to begin a \
     new one"
        .to_owned()
}

#[cfg(unix)]
fn is_removed(file: &File) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    file.metadata().is_ok_and(|about| about.nlink() == 0)
}

#[cfg(not(unix))]
fn is_removed(_: &File) -> bool {
    false
}

/// Where the holder says who it is. Only a note: what keeps others out is the lock on the log itself, which nobody
/// can remove by tidying up.
pub(super) fn note_path(path: &Path) -> PathBuf {
    tail::beside(path, ".lock")
}

pub(super) fn take_lock(path: &Path, file: &File) -> Result<(), AuditError> {
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
    if !is_same_file(path, file).map_err(AuditError::io("lock", path))? {
        let error = io::Error::other("it was replaced in the meantime");
        return Err(AuditError::io("lock", path)(error));
    }
    // A hint for people. A directory that is closed to us is no reason not to write the log.
    let _ = fs::write(note_path(path), format!("{}\n", std::process::id()));
    Ok(())
}

/// Whether `path` leads to `file`. An error where that cannot be told.
#[cfg(unix)]
fn is_same_file(path: &Path, file: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let there = match fs::metadata(path) {
        Ok(there) => there,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    let held = file.metadata()?;
    Ok((there.dev(), there.ino()) == (held.dev(), held.ino()))
}

/// Here a file that is held open keeps its name.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it may fail")]
fn is_same_file(_: &Path, _: &File) -> io::Result<bool> {
    Ok(true)
}
