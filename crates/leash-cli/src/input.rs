//! The log that a command reads: a file, or what comes in on standard input.

use std::fs;
use std::io;
use std::path::Path;

use leash_audit::{AuditError, Input};

use crate::exit::Failure;

/// A log that was opened.
#[derive(Debug)]
pub(crate) struct Log {
    /// As messages name it.
    pub(crate) name: String,
    /// How many bytes it has, where that can be known.
    pub(crate) bytes: Option<u64>,
    pub(crate) input: Input,
}

/// Opens the log at `path`; `-` is standard input.
pub(crate) fn open(path: &Path) -> Result<Log, Failure> {
    if path.as_os_str() == "-" {
        let name = "standard input".to_owned();
        return Ok(Log {
            input: Input::stream(&name, io::stdin()),
            name,
            bytes: None,
        });
    }
    let name = path.display().to_string();
    let about = fs::metadata(path).map_err(|error| cannot_open(&name, &error))?;
    if about.is_dir() {
        return Err(Failure::Told(format!(
            "`{name}` is a folder; give the path of one log in it"
        )));
    }
    let input = Input::open(path).map_err(|error| match error {
        AuditError::Io { source, .. } => cannot_open(&name, &source),
        other => Failure::Told(format!("`{name}`: {other}")),
    })?;
    // What is no file says that it has no bytes, and so do some files that have.
    let bytes = Some(about.len()).filter(|&bytes| about.is_file() && bytes > 0);
    Ok(Log { name, bytes, input })
}

fn cannot_open(name: &str, error: &io::Error) -> Failure {
    Failure::Told(match error.kind() {
        io::ErrorKind::NotFound => {
            format!("`{name}`: no such file; give the path of an audit log, or `-` for standard input")
        }
        io::ErrorKind::PermissionDenied => {
            format!("`{name}`: permission denied; run this as a user who may read it")
        }
        _ => format!("`{name}`: failed to open it: {error}"),
    })
}

/// What to tell of a log whose events could not be read to the end.
pub(crate) fn unreadable(name: &str, error: &AuditError) -> Failure {
    Failure::Told(match error {
        AuditError::Line { line, what } => format!(
            "`{name}`, line {line}: {what}; what was written ends before it; `llm-leash verify` says what the log is worth"
        ),
        AuditError::Io { source, .. } => format!("`{name}`: failed to read it: {source}"),
        other => format!("`{name}`: {other}"),
    })
}
