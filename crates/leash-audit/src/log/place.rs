//! Where a log lies, and who holds it. Knows nothing of lines.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::{AuditError, tail};

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
