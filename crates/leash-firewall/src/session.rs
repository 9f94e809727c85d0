//! One session: who it is, what it is capped by, and what it has spent where no store counts it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use leash_budget::{Balance, ModelPrice, PriceTable, Scope, ScopeKey};
use leash_core::{Caller, ModelCall, Timestamp, Usd};

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
    /// The price of the first model that was called, where no day changes it: most sessions call one model.
    priced: OnceLock<Priced>,
}

struct Priced {
    provider: Arc<str>,
    model: Arc<str>,
    price: Arc<ModelPrice>,
}

impl Session {
    /// The session of a reservation that outlived its process.
    pub(crate) fn of_hold(caller: Caller, scopes: Arc<[Scope]>) -> Self {
        Self {
            key: ScopeKey::session(&caller.session_id),
            caller,
            scopes,
            spent: AtomicU64::new(0),
            priced: OnceLock::new(),
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
            priced: OnceLock::new(),
        })
    }

    /// What `call` costs by `prices`, which are always the same ones.
    pub(crate) fn price(
        &self,
        prices: &PriceTable,
        call: &ModelCall,
        at: Timestamp,
    ) -> Option<Arc<ModelPrice>> {
        if let Some(known) = self.priced.get()
            && *known.model == *call.model
            && *known.provider == *call.provider
        {
            return Some(known.price.clone());
        }
        let listed = prices.find(&call.provider, &call.model)?;
        if let Some(price) = listed.constant_price() {
            self.priced.get_or_init(|| Priced {
                provider: call.provider.clone(),
                model: call.model.clone(),
                price: price.clone(),
            });
        }
        Some(listed.price_at(at).clone())
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
