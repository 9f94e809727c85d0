//! What can go wrong with a log: [`AuditError`], and [`Owed`] for a record that is kept because it could not be
//! written.

use std::io;
use std::path::PathBuf;

use leash_core::{StoreError, StoreErrorKind};

/// Why a log could not be opened, written or read. Whoever needed the line refuses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The operating system said no.
    #[error("failed to {doing} `{}`: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another writer holds the log.
    #[error("the log `{}` is held by {holder}; a log has one writer", path.display())]
    Held {
        /// The log.
        path: PathBuf,
        /// Who holds it, as far as that can be read.
        holder: String,
    },
    /// The log is damaged where an append would have to continue it.
    #[error("the log `{}` is damaged: {what}; look at it with `verify`, move it away, and start a new one", path.display())]
    Damaged {
        /// The log.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Somebody else wrote to the log while it was held.
    #[error("the log `{}` has {found} bytes where {expected} were written: somebody else writes to it", path.display())]
    Foreign {
        /// The log.
        path: PathBuf,
        /// How long it should be.
        expected: u64,
        /// How long it is.
        found: u64,
    },
    /// The log was moved, replaced or removed while it was held. No line is written until it is back: nobody would look
    /// for it where it would go.
    #[error("the log `{}` is no longer the file that is held open: {rescue}", path.display())]
    Moved {
        /// Where the log should be.
        path: PathBuf,
        /// What can be done.
        rescue: String,
    },
    /// The disk failed to make lines durable, so what it holds of them is unknown until the log is opened again.
    #[error("lines of the log `{}` may be lost: the disk failed to keep them; open it again", path.display())]
    NotDurable {
        /// The log.
        path: PathBuf,
    },
    /// As many records are in flight as there are slots for.
    #[error("{limit} records are in flight, which is the limit")]
    NoSlot {
        /// How many there may be.
        limit: usize,
    },
    /// A line would be longer than this writer makes them.
    #[error("the line would have {bytes} bytes, the limit is {limit}")]
    TooLong {
        /// How long it would be.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// An event cannot be written as it is.
    #[error("the event is invalid: {0}")]
    Event(&'static str),
    /// A key cannot be used.
    #[error("the key is invalid: {0}")]
    Key(&'static str),
    /// A report was asked for that cannot be made.
    #[error("{0}")]
    Report(String),
    /// The log was closed.
    #[error("the log `{}` was closed", path.display())]
    Closed {
        /// The log.
        path: PathBuf,
    },
    /// A thread died while it wrote, so nobody knows in what state that left the writer.
    #[error("a thread died while it wrote to the log `{}`; open it again", path.display())]
    Poisoned {
        /// The log.
        path: PathBuf,
    },
    /// A line that is read is no event.
    #[error("line {line}: {what}")]
    Line {
        /// Which line, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
}

impl AuditError {
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }

    /// What kind of failure this is, for those who decide what to do about it.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        match self {
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                    StoreErrorKind::Full
                }
                _ => StoreErrorKind::Io,
            },
            Self::Held { .. } | Self::Closed { .. } | Self::Poisoned { .. } => StoreErrorKind::Unavailable,
            Self::Damaged { .. } | Self::Line { .. } => StoreErrorKind::Corrupt,
            Self::Foreign { .. } | Self::Moved { .. } | Self::Event(_) | Self::Key(_) | Self::Report(_) => {
                StoreErrorKind::Conflict
            }
            Self::NotDurable { .. } => StoreErrorKind::Io,
            Self::NoSlot { .. } | Self::TooLong { .. } => StoreErrorKind::Full,
        }
    }
}

impl From<AuditError> for StoreError {
    fn from(error: AuditError) -> Self {
        Self::new(error.kind(), "write the audit log").with_source(error)
    }
}

/// A record could not be written and is kept in memory. Nothing more is admitted until it is on disk.
///
/// It has its place in the chain already: when the disk takes lines again, it is the next one.
#[derive(Debug, thiserror::Error)]
#[error("record {seq} of the audit log is owed: {source}")]
pub struct Owed {
    /// The record's `seq`.
    pub seq: u64,
    /// Why it could not be written.
    pub source: AuditError,
}
