//! [`MemoryKillRegistry`]: orders kept in this process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use leash_core::{Caller, StoreError, StoreErrorKind};
use tokio::sync::watch;

use crate::{Answer, KillOrder, KillRegistry, Target};

/// Orders kept in memory, for one process. While none stands, a question costs one atomic load.
#[derive(Debug)]
pub struct MemoryKillRegistry {
    /// How many orders stand, stored before `kill` returns: what was acknowledged is never missed.
    standing: AtomicUsize,
    orders: Mutex<BTreeMap<Target, KillOrder>>,
    changes: watch::Sender<u64>,
}

impl Default for MemoryKillRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryKillRegistry {
    /// A registry in which no order stands.
    #[must_use]
    pub fn new() -> Self {
        Self {
            standing: AtomicUsize::new(0),
            orders: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    fn lock(&self) -> Result<MutexGuard<'_, BTreeMap<Target, KillOrder>>, StoreError> {
        self.orders.lock().map_err(|_| {
            StoreError::new(
                StoreErrorKind::Corrupt,
                "use the kill registry: a thread panicked in it",
            )
        })
    }

    fn known(&self, caller: &Caller) -> Result<Option<KillOrder>, StoreError> {
        if self.standing.load(Ordering::SeqCst) == 0 && !self.orders.is_poisoned() {
            return Ok(None);
        }
        // From the narrowest to the widest; four questions, however many orders stand.
        let targets = [
            Some(Target::Session(caller.session_id.clone())),
            caller.agent_name.clone().map(Target::Agent),
            caller.tenant_id.clone().map(Target::Tenant),
            Some(Target::Everything),
        ];
        let orders = self.lock()?;
        Ok(targets
            .iter()
            .flatten()
            .find_map(|target| orders.get(target))
            .cloned())
    }

    fn changed(&self, orders: &BTreeMap<Target, KillOrder>) {
        self.standing.store(orders.len(), Ordering::SeqCst);
        self.changes
            .send_modify(|version| *version = version.wrapping_add(1));
    }
}

#[async_trait]
impl KillRegistry for MemoryKillRegistry {
    async fn standing(&self, caller: &Caller) -> Result<Option<KillOrder>, StoreError> {
        self.known(caller)
    }

    fn at_once(&self, caller: &Caller) -> Option<Result<Answer, StoreError>> {
        Some(self.known(caller).map(Answer::sure))
    }

    async fn kill(&self, order: KillOrder) -> Result<(), StoreError> {
        let mut orders = self.lock()?;
        orders.insert(order.target.clone(), order);
        self.changed(&orders);
        Ok(())
    }

    async fn clear(&self, target: &Target) -> Result<bool, StoreError> {
        let mut orders = self.lock()?;
        let stood = orders.remove(target).is_some();
        self.changed(&orders);
        Ok(stood)
    }

    async fn orders(&self) -> Result<Vec<KillOrder>, StoreError> {
        Ok(self.lock()?.values().cloned().collect())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
