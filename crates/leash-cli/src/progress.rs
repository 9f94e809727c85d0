//! A bar on standard error for long work, where a person looks on.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work on less takes no time worth showing, in bytes.
const WORTH_SHOWING: u64 = 16 << 20;

/// How far the work is. Draws nothing where standard error is no terminal.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Of reading a log of `total` bytes, where that is known.
    pub(crate) fn reading(total: Option<u64>) -> Self {
        let template = match total {
            Some(_) => "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
            None => "{spinner} {bytes} read, {bytes_per_sec}",
        };
        Self::new(total, total, template)
    }

    /// Of writing what a log of `total` bytes comes out as. Standard output that is a terminal shows for itself.
    pub(crate) fn writing(total: Option<u64>) -> Self {
        if io::stdout().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        Self::new(total, None, "{spinner} {bytes} written, {bytes_per_sec}")
    }

    fn new(work: Option<u64>, length: Option<u64>, template: &str) -> Self {
        let is_long = work.is_none_or(|bytes| bytes >= WORTH_SHOWING);
        let style = ProgressStyle::with_template(template)
            .ok()
            .filter(|_| is_long && io::stderr().is_terminal());
        let Some(style) = style else {
            return Self(ProgressBar::hidden());
        };
        Self(ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr()).with_style(style))
    }

    /// So many bytes more are done.
    pub(crate) fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// So many bytes are done in all.
    pub(crate) fn at(&self, bytes: u64) {
        self.0.set_position(bytes);
    }

    /// Takes the bar away, so that what is said next stands alone.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}
