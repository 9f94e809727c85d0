//! [`MemoryStore`]: spending kept in this process, gone with it.

mod hash;
mod hits;
mod state;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use leash_core::{Clock, IdGenerator, ReservationId, StoreError, StoreErrorKind, Timestamp};

use self::state::State;
use crate::{
    Balance, BudgetAdmin, BudgetStore, Expired, Generation, Hit, Hits, Hold, Reserve, Restored, Scope,
    ScopeKey, Settled, Settlement, Standing, Window, Written,
};

/// Keeps spending in memory: exact, fast, and for one process. It never forgets a capped scope.
///
/// Cloning the `Arc` around it shares it; two stores know nothing of each other. What an operation costs grows neither
/// with the number of scopes nor with that of past holds. The newest 100,000 holds that ended are remembered; asking
/// about an older one is asking about one never seen, which can only charge too much. What has expired is kept until its
/// line is confirmed; what was settled is not, as nobody is left to write its line when the process is gone.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// An empty store whose leases and windows go by `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let state = State::new(generation(clock.now()));
        Self {
            clock,
            state: Mutex::new(state),
        }
    }

    fn lock(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        self.state.lock().map_err(|_| {
            StoreError::new(
                StoreErrorKind::Corrupt,
                "use the budget store: a thread panicked in it",
            )
        })
    }
}

fn generation(now: Timestamp) -> Generation {
    Generation::new(IdGenerator::from_os().reservation(now).to_string())
}

#[async_trait]
impl BudgetStore for MemoryStore {
    fn is_durable(&self) -> bool {
        false
    }

    async fn reserve(&self, hold: &Hold) -> Result<Reserve, StoreError> {
        let now = self.clock.now();
        self.lock()?.reserve(hold, now)
    }

    async fn settle(&self, settlement: &Settlement) -> Result<Settled, StoreError> {
        let now = self.clock.now();
        self.lock()?.settle(settlement, now)
    }

    async fn release(&self, id: ReservationId) -> Result<(), StoreError> {
        self.lock()?.release(id)
    }

    async fn renew(&self, id: ReservationId, lease: Duration) -> Result<(), StoreError> {
        let until = self.clock.now().saturating_add(lease);
        self.lock()?.renew(id, until);
        Ok(())
    }

    async fn expire(&self, limit: usize) -> Result<Vec<Expired>, StoreError> {
        let now = self.clock.now();
        self.lock()?.expire(limit, now)
    }

    async fn confirm(&self, lines: &[Written]) -> Result<(), StoreError> {
        self.lock()?.confirm(lines);
        Ok(())
    }

    async fn balances(&self, scopes: &[Scope]) -> Result<Vec<Balance>, StoreError> {
        let now = self.clock.now();
        Ok(self.lock()?.balances(scopes, now))
    }

    async fn close(&self, key: &ScopeKey) -> Result<Balance, StoreError> {
        Ok(self.lock()?.close(key))
    }

    async fn hit(&self, hit: &Hit) -> Result<Hits, StoreError> {
        let now = self.clock.now();
        self.lock()?.hits.hit(hit, now)
    }
}

#[async_trait]
impl BudgetAdmin for MemoryStore {
    async fn generation(&self) -> Result<Generation, StoreError> {
        Ok(self.lock()?.generation.clone())
    }

    async fn list(
        &self,
        after: Option<(&ScopeKey, Window)>,
        limit: usize,
    ) -> Result<Vec<Balance>, StoreError> {
        let now = self.clock.now();
        Ok(self.lock()?.list(after, limit, now))
    }

    async fn standing(
        &self,
        after: Option<ReservationId>,
        limit: usize,
    ) -> Result<Vec<Standing>, StoreError> {
        Ok(self.lock()?.standing(after, limit))
    }

    async fn reset(&self, key: &ScopeKey) -> Result<Balance, StoreError> {
        Ok(self.lock()?.reset(key))
    }

    async fn restore(&self, sums: &[Restored]) -> Result<Generation, StoreError> {
        let generation = generation(self.clock.now());
        let restored = State::restored(sums, generation.clone());
        *self.lock()? = restored;
        Ok(generation)
    }
}
