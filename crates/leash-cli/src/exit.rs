//! How the program ends: the exit codes, and what ends it early.

use std::process::ExitCode;

/// The exit codes. Scripts depend on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It was done; a log that was verified is intact.
    Done,
    /// It could not be done.
    Failed,
    /// The log was read, and is broken.
    Broken,
    /// The command line is wrong. Clap would say 2, which a script would take for a broken log.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Broken => 2,
            // `EX_USAGE` of sysexits.h.
            Exit::Usage => 64,
        })
    }
}

/// Why a command ended before it was done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Whoever read our standard output stopped reading.
    ReaderGone,
    /// What to tell: what failed, where, and what to do.
    Told(String),
    /// The command line is wrong in a way that its parser cannot see: what it should be.
    Usage(String),
}
