//! A stop for everything from outside: a file that appears, a signal that comes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use leash_core::{Clock as _, SystemClock};
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinHandle;

use crate::{KillOrder, KillRegistry, MAX_REASON_BYTES, Target};

/// How often a file is looked for, and an order that could not be given is given again.
const BEAT: Duration = Duration::from_millis(50);

/// Watches as long as it is kept; dropped, it stops watching. An order that was given stands.
#[derive(Debug)]
#[must_use = "dropped, it watches no more"]
pub struct StopWatch {
    /// `None` once detached.
    task: Option<JoinHandle<()>>,
}

impl StopWatch {
    /// Whether the stop came, and its order was given.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.task.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Goes on watching for as long as the runtime lives.
    pub fn detach(mut self) {
        self.task = None;
    }
}

impl Drop for StopWatch {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Orders everything to stop once there is a file at `path`; its first line is the reason. A file that is there from
/// the start counts, and so does one of which it cannot be told whether it is there. Taking the file away clears nothing: somebody has to.
///
/// The order goes into `registry`: where others share it, they stop too. For a stop of this process alone, give a
/// [`crate::ProcessStop`] to both.
///
/// # Panics
/// Outside of a Tokio runtime.
pub fn stop_on_file(path: impl Into<PathBuf>, registry: Arc<dyn KillRegistry>) -> StopWatch {
    let path = path.into();
    let task = tokio::spawn(async move {
        loop {
            match tokio::fs::symlink_metadata(&path).await {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                // Where it cannot be told, somebody most likely took the folder's rights away.
                Ok(_) | Err(_) => break,
            }
            tokio::time::sleep(BEAT).await;
        }
        let reason = first_line(&path)
            .await
            .unwrap_or_else(|| format!("stop file `{}`", path.display()));
        give(&registry, &reason).await;
    });
    StopWatch { task: Some(task) }
}

async fn first_line(path: &std::path::Path) -> Option<String> {
    // Nothing but a plain file is read: a pipe would keep us waiting.
    if !tokio::fs::metadata(path).await.ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_REASON_BYTES).unwrap_or(u64::MAX);
    tokio::fs::File::open(path)
        .await
        .ok()?
        .take(limit)
        .read_to_end(&mut bytes)
        .await
        .ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line: String = text
        .lines()
        .next()?
        .trim()
        .chars()
        .filter(|char| !char.is_control())
        .collect();
    (!line.is_empty()).then_some(line)
}

/// A signal that stops everything.
#[cfg(all(unix, feature = "signal"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopSignal {
    /// `SIGUSR1`.
    User1,
    /// `SIGUSR2`.
    User2,
    /// `SIGHUP`.
    Hangup,
    /// `SIGTERM`, as a service manager sends it: everything stops, and the program has to end by itself after that.
    Terminate,
}

/// Orders everything to stop once this process gets `signal`, which does nothing else to it any more.
///
/// The order goes into `registry`, as with [`stop_on_file`].
///
/// # Errors
/// Where the signal cannot be listened to.
/// # Panics
/// Outside of a Tokio runtime.
#[cfg(all(unix, feature = "signal"))]
pub fn stop_on_signal(signal: StopSignal, registry: Arc<dyn KillRegistry>) -> std::io::Result<StopWatch> {
    use tokio::signal::unix::{SignalKind, signal as listen};

    let (kind, name) = match signal {
        StopSignal::User1 => (SignalKind::user_defined1(), "SIGUSR1"),
        StopSignal::User2 => (SignalKind::user_defined2(), "SIGUSR2"),
        StopSignal::Hangup => (SignalKind::hangup(), "SIGHUP"),
        StopSignal::Terminate => (SignalKind::terminate(), "SIGTERM"),
    };
    let mut signals = listen(kind)?;
    let task = tokio::spawn(async move {
        if signals.recv().await.is_some() {
            give(&registry, &format!("signal {name}")).await;
        }
    });
    Ok(StopWatch { task: Some(task) })
}

/// Until it is kept: whoever pulls a brake expects it to hold.
async fn give(registry: &Arc<dyn KillRegistry>, reason: &str) {
    loop {
        let order = KillOrder::new(Target::Everything, reason, SystemClock.now());
        if registry.kill(order).await.is_ok() {
            return;
        }
        tokio::time::sleep(BEAT).await;
    }
}
