//! Standard output, whose reader may go away at any time.

use std::io::{self, BufWriter, StdoutLock, Write};

use crate::exit::Failure;
use crate::progress::Progress;

/// Standard output, buffered. [`Output::finish`] has to be called: dropping it loses errors.
#[derive(Debug)]
pub(crate) struct Output<'a> {
    to: BufWriter<StdoutLock<'static>>,
    progress: Option<&'a Progress>,
    /// The first error: those who write through layers above may not tell it from one of reading.
    error: Option<Failure>,
}

impl<'a> Output<'a> {
    /// `progress` is told how much was written.
    pub(crate) fn new(progress: Option<&'a Progress>) -> Self {
        Self {
            to: BufWriter::with_capacity(1 << 16, io::stdout().lock()),
            progress,
            error: None,
        }
    }

    /// Writes what is left. Tells of any error since the start.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        if self.error.is_none() {
            let result = self.to.flush();
            self.note(result).ok();
        }
        if self.error.is_some() {
            // What is left in the buffer would be tried again, and could only fail again.
            drop(self.to.into_parts());
        }
        self.error.map_or(Ok(()), Err)
    }

    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && error.kind() != io::ErrorKind::Interrupted
            && self.error.is_none()
        {
            self.error = Some(match error.kind() {
                io::ErrorKind::BrokenPipe => Failure::ReaderGone,
                _ => Failure::Told(format!("failed to write to standard output: {error}")),
            });
        }
        result
    }
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.to.write(bytes);
        if let (Some(progress), Ok(written)) = (self.progress, &result) {
            progress.add(u64::try_from(*written).unwrap_or(u64::MAX));
        }
        self.note(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.to.flush();
        self.note(result)
    }
}

/// Writes all of `text`.
pub(crate) fn print(text: &[u8]) -> Result<(), Failure> {
    let mut output = Output::new(None);
    // `finish` tells of the error.
    let _ = output.write_all(text);
    output.finish()
}

/// Writes a line of talk. Where nobody listens, the work is still worth its exit code.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
