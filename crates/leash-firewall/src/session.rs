//! One session: who it is, what it is capped by, and what it has spent where no store counts it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use leash_budget::{Balance, Scope, ScopeKey};
use leash_core::{Caller, Usd};

use crate::builder::scopes_of;
use crate::path::Shared;

/// One session: who it is and what it is capped by.
pub(crate) struct Session {
    pub(crate) caller: Caller,
    /// The capped scopes, the session's own first where it has a cap.
    pub(crate) scopes: Arc<[Scope]>,
    /// The key of the session's own scope.
    pub(crate) key: ScopeKey,
    /// What the session has spent as far as this handle knows, in nano-dollars: all there is without a cap.
    spent: AtomicU64,
}

impl Session {
    /// The session of a reservation that outlived its process.
    pub(crate) fn of_hold(caller: Caller, scopes: Arc<[Scope]>) -> Self {
        Self {
            key: ScopeKey::session(&caller.session_id),
            caller,
            scopes,
            spent: AtomicU64::new(0),
        }
    }

    pub(crate) fn new(caller: Caller, shared: &Shared) -> Arc<Self> {
        let scopes = scopes_of(&caller, &shared.caps, &shared.extra_scopes).into();
        let key = ScopeKey::session(&caller.session_id);
        Arc::new(Self {
            caller,
            scopes,
            key,
            spent: AtomicU64::new(0),
        })
    }

    pub(crate) fn is_capped(&self) -> bool {
        self.scopes.iter().any(|scope| scope.key == self.key)
    }

    /// Counts `cost` and returns what the session has spent: what the store says, where it keeps the session.
    pub(crate) fn add(&self, cost: Usd, balances: Option<&[Balance]>, spent_before: Usd) -> Usd {
        let stored = balances.and_then(|all| all.iter().find(|balance| balance.key == self.key));
        if let Some(balance) = stored {
            return balance.spent;
        }
        if self.is_capped() {
            // The store did not say; what it said before is the most that is known.
            return spent_before.saturating_add(cost);
        }
        let add = |spent: u64| {
            Usd::from_nanos(spent)
                .ok()
                .map(|spent| spent.saturating_add(cost).as_nanos())
        };
        let before = match self.spent.fetch_update(Ordering::AcqRel, Ordering::Acquire, add) {
            Ok(before) | Err(before) => before,
        };
        Usd::from_nanos(before).unwrap_or(Usd::MAX).saturating_add(cost)
    }

    pub(crate) fn spent(&self) -> Usd {
        Usd::from_nanos(self.spent.load(Ordering::Acquire)).unwrap_or(Usd::MAX)
    }
}
