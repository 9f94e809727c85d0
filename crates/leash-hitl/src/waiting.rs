//! One look at a queue for all who wait in it: [`Watcher`]. Knows no gate and decides nothing.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use leash_core::StoreError;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use crate::{Entry, HitlQueue};

/// How soon a queue is asked again that could not answer.
const RETRY: Duration = Duration::from_millis(250);
/// How often who waits makes sure that somebody looks: a runtime may have ended, and the task in it.
const GLANCE: Duration = Duration::from_secs(1);
/// How many entries are asked about at a time.
const CHUNK: usize = 1000;

/// The watchers of this process: one for each queue that somebody has a gate for.
static WATCHERS: Mutex<Vec<Weak<Watcher>>> = Mutex::new(Vec::new());

/// Looks at a queue, for as long as anybody in this process waits for one of its entries: once for each change, however
/// many wait.
pub(crate) struct Watcher {
    queue: Arc<dyn HitlQueue>,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    waited: HashMap<String, Waited>,
    /// Whether the task runs.
    runs: bool,
    turn: u64,
}

/// An entry that somebody waits for.
struct Waited {
    /// Tells it from an earlier wait for the same entry.
    turn: u64,
    by: usize,
    poll: Duration,
    tell: watch::Sender<Word>,
}

/// What is known of an entry that is waited for.
#[derive(Clone)]
enum Word {
    Waits,
    /// It is pending no longer; `None` where it is gone.
    Moved(Option<Box<Entry>>),
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher")
            .field("waited", &self.lock().waited.len())
            .finish_non_exhaustive()
    }
}

impl Watcher {
    /// The watcher of `queue`.
    pub(crate) fn of(queue: &Arc<dyn HitlQueue>) -> Arc<Self> {
        let mut watchers = WATCHERS.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|watcher| watcher.strong_count() > 0);
        let same = |watcher: &Arc<Self>| std::ptr::addr_eq(Arc::as_ptr(&watcher.queue), Arc::as_ptr(queue));
        if let Some(known) = watchers.iter().filter_map(Weak::upgrade).find(same) {
            return known;
        }
        let watcher = Arc::new(Self {
            queue: queue.clone(),
            state: Mutex::default(),
            wake: Notify::new(),
        });
        watchers.push(Arc::downgrade(&watcher));
        watcher
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the entry `id`. It may have moved since it was read where `looks` is set; without a change the queue is
    /// asked every `poll`.
    pub(crate) fn join(self: &Arc<Self>, id: &str, poll: Duration, looks: bool) -> Waiting {
        let mut state = self.lock();
        state.turn = state.turn.wrapping_add(1);
        let new = state.turn;
        let waited = state.waited.entry(id.to_owned()).or_insert_with(|| Waited {
            turn: new,
            by: 0,
            poll,
            tell: watch::Sender::new(Word::Waits),
        });
        waited.by = waited.by.saturating_add(1);
        waited.poll = waited.poll.min(poll);
        let waiting = Waiting {
            watcher: self.clone(),
            id: id.to_owned(),
            turn: waited.turn,
            told: waited.tell.subscribe(),
        };
        let runs = state.runs;
        drop(state);
        if !runs {
            // It begins with a look.
            self.run();
        } else if looks {
            self.wake.notify_one();
        }
        waiting
    }

    /// Starts the task where it does not run.
    fn run(self: &Arc<Self>) {
        let mut state = self.lock();
        if !state.runs
            && let Ok(runtime) = Handle::try_current()
        {
            state.runs = true;
            let mut task = Running {
                watcher: self.clone(),
                in_order: false,
            };
            runtime.spawn(async move {
                task.watcher.watch().await;
                task.end();
            });
        }
    }

    async fn watch(&self) {
        let mut changes = self.queue.changes();
        loop {
            // Whatever changes from here on is looked at in the next round.
            changes.borrow_and_update();
            let Some((ids, poll)) = self.wanted() else { return };
            if let Err(error) = self.look(&ids).await {
                // A queue that is out of reach for a moment is no answer. Whoever waits gives up in their own time.
                tracing::debug!(target: "llm_leash", %error, "failed to look at the approval queue");
                tokio::time::sleep(RETRY).await;
                continue;
            }
            tokio::select! {
                moved = changes.changed() => if moved.is_err() { tokio::time::sleep(poll).await },
                () = self.wake.notified() => {}
                () = tokio::time::sleep(poll) => {}
            }
        }
    }

    /// What to look for, and how often. Where nobody waits the task has to end.
    fn wanted(&self) -> Option<(Vec<String>, Duration)> {
        let mut state = self.lock();
        let poll = state.waited.values().map(|waited| waited.poll).min();
        if poll.is_none() {
            state.runs = false;
        }
        Some((state.waited.keys().cloned().collect(), poll?))
    }

    async fn look(&self, ids: &[String]) -> Result<(), StoreError> {
        for ids in ids.chunks(CHUNK) {
            for (id, entry) in self.queue.moved(ids).await? {
                // What has moved is never pending again, so it does not matter who waits for it by now.
                if let Some(waited) = self.lock().waited.remove(&id) {
                    waited.tell.send_replace(Word::Moved(entry.map(Box::new)));
                }
            }
        }
        Ok(())
    }
}

/// Where the task ends with its runtime, and not in order, the next who glances starts another.
struct Running {
    watcher: Arc<Watcher>,
    in_order: bool,
}

impl Running {
    fn end(&mut self) {
        self.in_order = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.in_order {
            self.watcher.lock().runs = false;
        }
    }
}

/// A wait for one entry, until it is dropped.
pub(crate) struct Waiting {
    watcher: Arc<Watcher>,
    id: String,
    turn: u64,
    told: watch::Receiver<Word>,
}

impl Waiting {
    /// Waits until the entry is pending no longer; `None` where it is gone.
    pub(crate) async fn moved(&mut self) -> Option<Entry> {
        loop {
            if let Word::Moved(entry) = &*self.told.borrow_and_update() {
                return entry.as_deref().cloned();
            }
            self.watcher.run();
            if let Ok(Err(_)) = tokio::time::timeout(GLANCE, self.told.changed()).await {
                // Nobody tells any more, which a wait that is kept prevents.
                tokio::time::sleep(GLANCE).await;
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.watcher.lock();
        if let Some(waited) = state.waited.get_mut(&self.id)
            && waited.turn == self.turn
        {
            waited.by = waited.by.saturating_sub(1);
            if waited.by == 0 {
                state.waited.remove(&self.id);
            }
        }
        if state.waited.is_empty() {
            // So that the task ends now.
            self.watcher.wake.notify_one();
        }
    }
}
