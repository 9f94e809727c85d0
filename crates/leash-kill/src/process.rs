//! [`ProcessStop`]: a registry with a brake of this process's own before it.

use std::sync::Arc;

use async_trait::async_trait;
use leash_core::{Caller, StoreError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{Answer, KillOrder, KillRegistry, MemoryKillRegistry, Target};

/// A shared registry, and a stop for this process alone before it.
///
/// [`ProcessStop::brake`] is where a file or a signal gives its order: nobody else sees it, and it holds although the
/// shared registry is out of reach. All else goes to the shared one.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use leash_core::{Caller, SessionId};
/// use leash_kill::{KillRegistry, MemoryKillRegistry, ProcessStop, stop_on_file};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("STOP");
/// let shared = Arc::new(MemoryKillRegistry::new());
/// let registry = ProcessStop::new(shared.clone());
/// let _watch = stop_on_file(&path, registry.brake());
///
/// let mut changes = registry.changes();
/// std::fs::write(&path, "fire in the server room")?;
/// changes.changed().await?;
/// let caller = Caller::session(SessionId::new("s_1")?);
/// assert!(registry.standing(&caller).await?.is_some());
/// assert!(shared.standing(&caller).await?.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ProcessStop {
    brake: Arc<MemoryKillRegistry>,
    shared: Arc<dyn KillRegistry>,
    changes: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl ProcessStop {
    /// Puts a brake before `shared`.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    #[must_use]
    pub fn new(shared: Arc<dyn KillRegistry>) -> Self {
        let brake = Arc::new(MemoryKillRegistry::new());
        let changes = watch::Sender::new(0);
        let task = tokio::spawn({
            let changes = changes.clone();
            let (mut ours, mut theirs) = (brake.changes(), shared.changes());
            async move {
                loop {
                    let known = tokio::select! {
                        known = ours.changed() => known,
                        known = theirs.changed() => known,
                    };
                    changes.send_modify(|version: &mut u64| *version = version.wrapping_add(1));
                    if known.is_err() {
                        return;
                    }
                }
            }
        });
        Self {
            brake,
            shared,
            changes,
            task,
        }
    }

    /// The registry of this process alone.
    #[must_use]
    pub fn brake(&self) -> Arc<dyn KillRegistry> {
        self.brake.clone()
    }
}

impl Drop for ProcessStop {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[async_trait]
impl KillRegistry for ProcessStop {
    async fn standing(&self, caller: &Caller) -> Result<Option<KillOrder>, StoreError> {
        match self.brake.standing(caller).await? {
            Some(order) => Ok(Some(order)),
            None => self.shared.standing(caller).await,
        }
    }

    fn at_once(&self, caller: &Caller) -> Option<Result<Answer, StoreError>> {
        match self.brake.at_once(caller)? {
            Ok(Answer { order: None, .. }) => self.shared.at_once(caller),
            stopped => Some(stopped),
        }
    }

    async fn ask(&self, caller: &Caller) -> Result<Answer, StoreError> {
        match self.brake.standing(caller).await? {
            Some(order) => Ok(Answer::sure(Some(order))),
            None => self.shared.ask(caller).await,
        }
    }

    async fn kill(&self, order: KillOrder) -> Result<(), StoreError> {
        self.shared.kill(order).await
    }

    async fn clear(&self, target: &Target) -> Result<bool, StoreError> {
        self.shared.clear(target).await
    }

    async fn orders(&self) -> Result<Vec<KillOrder>, StoreError> {
        self.shared.orders().await
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
