//! How a log is opened: [`Builder`], the lock that keeps a second writer out, and what is done about the end that a
//! crash left. Knows no events but the line that says so.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leash_core::{Clock, Digest};

use super::place::take_lock;
use super::{AuditLog, Core, Handle, State, spawn};
use crate::tail::{self, Tail};
use crate::{AuditError, Event, HmacKey, Kind, LogRecovered, Who};

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
    pub(super) path: PathBuf,
    pub(super) durability: Durability,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) slots: usize,
    pub(super) key: Option<HmacKey>,
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

    /// How many records may be in flight, so kept in memory when the disk is full;
    /// [`DEFAULT_SLOTS`](crate::DEFAULT_SLOTS) by default.
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
    /// From then on the path must lead to this file: once somebody moves, replaces or removes it, appending fails with
    /// [`AuditError::Moved`], within a second or 512 lines, until it is back.
    ///
    /// # Errors
    /// [`AuditError::Held`] when another writer has it; [`AuditError::Damaged`] when its end is bad and no crash
    /// explains that; [`AuditError::Io`].
    pub fn open(self) -> Result<AuditLog, AuditError> {
        // As it was named, so that a symbolic link that leads elsewhere one day is noticed.
        let watched = std::path::absolute(&self.path).map_err(AuditError::io("open", &self.path))?;
        let (path, file) = open_file(&self.path)?;
        take_lock(&path, &file)?;
        let tail = tail::find(&path, &file)?;
        let core = Arc::new(Core::new(self, path, watched, file, &tail));
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

impl Core {
    /// Brings the end of the file into order, as it was found when the log was opened.
    pub(super) fn recover(&self, tail: &Tail) -> Result<(), AuditError> {
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

    pub(super) fn say_recovered(
        &self,
        state: &mut State,
        name: &Path,
        torn: &[u8],
    ) -> Result<(), AuditError> {
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
}
