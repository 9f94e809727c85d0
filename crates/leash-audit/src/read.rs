//! Reads a log line by line: [`replay`], [`for_each`]. Knows that a line is a JSON object, and no more.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use leash_core::canonical;

use crate::line::content;
use crate::{AuditError, VerifyOptions};

/// The longest line that is read, in bytes: 64 MiB.
pub const MAX_LINE: usize = 64 * 1024 * 1024;

/// Where a log is read from.
pub struct Input {
    name: PathBuf,
    source: Source,
}

enum Source {
    /// A plain file, which can be read twice.
    File(File),
    Stream(Box<dyn Read + Send>),
}

impl Input {
    /// The file at `path`.
    ///
    /// # Errors
    /// [`AuditError::Io`] when it cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, AuditError> {
        let path = path.as_ref();
        let file = File::open(path).map_err(AuditError::io("open", path))?;
        let is_file = file.metadata().map_err(AuditError::io("open", path))?.is_file();
        let source = if is_file {
            Source::File(file)
        } else {
            Source::Stream(Box::new(file))
        };
        Ok(Self {
            name: path.to_owned(),
            source,
        })
    }

    /// Whatever `reader` gives, called `name` in errors. It need not be buffered.
    #[must_use]
    pub fn stream(name: impl Into<PathBuf>, reader: impl Read + Send + 'static) -> Self {
        Self {
            name: name.into(),
            source: Source::Stream(Box::new(reader)),
        }
    }

    /// Checks the log, as [`crate::verify`] does.
    ///
    /// # Errors
    /// [`AuditError::Io`] when it cannot be read.
    pub fn verify(self, options: &VerifyOptions<'_>) -> Result<crate::Report, AuditError> {
        let name = self.name;
        match self.source {
            Source::File(file) => crate::verify_reader(file, options),
            Source::Stream(stream) => crate::verify_reader(stream, options),
        }
        .map_err(AuditError::io("read", name))
    }

    /// The same input, such that it can be read twice: a stream goes into a temporary file first.
    pub(crate) fn rewindable(self) -> Result<(PathBuf, File), AuditError> {
        let name = self.name;
        match self.source {
            Source::File(file) => Ok((name, file)),
            Source::Stream(mut stream) => {
                let mut file =
                    tempfile::tempfile().map_err(AuditError::io("make a temporary copy of", &name))?;
                io::copy(&mut stream, &mut file)
                    .and_then(|_| file.seek(SeekFrom::Start(0)))
                    .map_err(AuditError::io("make a temporary copy of", &name))?;
                Ok((name, file))
            }
        }
    }

    pub(crate) fn into_reader(self) -> (PathBuf, Box<dyn Read + Send>) {
        match self.source {
            Source::File(file) => (self.name, Box::new(file)),
            Source::Stream(stream) => (self.name, stream),
        }
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A line of a log: a JSON object with one reading.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Which line, from 1, blank ones counted.
    pub line: u64,
    /// The object as it stands, without what surrounds it.
    pub text: &'a str,
}

/// Gives every event of a log to `each`, in order, and says how many there were. Does not look at hashes.
///
/// # Errors
/// [`AuditError::Line`] at a line that is no event, after `each` has had those before it; [`AuditError::Io`] when it
/// cannot be read; and what `each` gives.
pub fn for_each(
    input: Input,
    each: impl FnMut(Record<'_>) -> Result<(), AuditError>,
) -> Result<u64, AuditError> {
    let (name, reader) = input.into_reader();
    each_line(&name, reader, each)
}

/// Writes every event of a log to `out`, each as it stands on a line of its own, and says how many there were.
///
/// # Errors
/// As [`for_each`]; [`AuditError::Io`] when `out` cannot be written.
pub fn replay(input: Input, mut out: impl Write) -> Result<u64, AuditError> {
    let write = |out: &mut dyn Write, record: Record<'_>| {
        out.write_all(record.text.as_bytes())
            .and_then(|()| out.write_all(b"\n"))
    };
    let events = for_each(input, |record| {
        write(&mut out, record).map_err(AuditError::io("write", "output"))
    });
    // What was written before a bad line is worth having.
    let flushed = out.flush().map_err(AuditError::io("write", "output"));
    events.and_then(|events| flushed.map(|()| events))
}

pub(crate) fn each_line(
    name: &Path,
    reader: impl Read,
    mut each: impl FnMut(Record<'_>) -> Result<(), AuditError>,
) -> Result<u64, AuditError> {
    let mut reader = BufReader::with_capacity(256 * 1024, reader);
    let mut buf = Vec::new();
    let mut line: u64 = 0;
    let mut events: u64 = 0;
    let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX).saturating_add(1);
    loop {
        buf.clear();
        let read = (&mut reader).take(limit).read_until(b'\n', &mut buf);
        if read.map_err(AuditError::io("read", name))? == 0 {
            return Ok(events);
        }
        line = line.saturating_add(1);
        if buf.len() > MAX_LINE {
            return Err(AuditError::Line {
                line,
                what: format!("longer than {MAX_LINE} bytes"),
            });
        }
        let Some(content) = content(&buf) else { continue };
        let garbage = |what: &str| AuditError::Line {
            line,
            what: format!("no event: {what}"),
        };
        let text = std::str::from_utf8(content).map_err(|_| garbage("not UTF-8"))?;
        if !canonical::is_canonical(text) {
            canonical::check(content).map_err(|error| garbage(&error.to_string()))?;
        }
        if !text.starts_with('{') {
            return Err(garbage("not a JSON object"));
        }
        each(Record { line, text })?;
        events = events.saturating_add(1);
    }
}
