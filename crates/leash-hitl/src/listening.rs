//! Tells those who wait in this process that a shared queue may have moved, as long as somebody waits.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::watch;

/// A counter that is pushed on by whoever changes the queue here, and by a task that listens to the others.
#[derive(Debug)]
pub(crate) struct Listening {
    moved: watch::Sender<u64>,
    /// Whether the task runs. Held while somebody joins and while the task decides to end, so that nobody joins a
    /// task that has just ended.
    runs: Mutex<bool>,
}

impl Listening {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            moved: watch::Sender::new(0),
            runs: Mutex::new(false),
        })
    }

    pub(crate) fn tell(&self) {
        self.moved.send_modify(|turn| *turn = turn.wrapping_add(1));
    }

    /// For the task: whether to go on. Once it said no the task has to end.
    pub(crate) fn is_wanted(&self) -> bool {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        *runs = self.moved.receiver_count() > 0;
        *runs
    }

    /// A receiver; `listen` is started where it does not run, and ends once [`Self::is_wanted`] says no. Without a
    /// runtime nobody listens, and who waits has to ask.
    pub(crate) fn subscribe<F>(self: &Arc<Self>, listen: impl FnOnce(Arc<Self>) -> F) -> watch::Receiver<u64>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = self.moved.subscribe();
        if !*runs && let Ok(runtime) = Handle::try_current() {
            *runs = true;
            let mut cut_off = CutOff(Some(self.clone()));
            let task = listen(self.clone());
            runtime.spawn(async move {
                task.await;
                cut_off.disarm();
            });
        }
        receiver
    }
}

/// Where the runtime ends before the task does, the next to wait starts another.
struct CutOff(Option<Arc<Listening>>);

impl CutOff {
    fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for CutOff {
    fn drop(&mut self) {
        if let Some(listening) = self.0.take() {
            *listening.runs.lock().unwrap_or_else(PoisonError::into_inner) = false;
        }
    }
}
