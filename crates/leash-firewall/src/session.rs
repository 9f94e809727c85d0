//! One session: who it is, what it is capped by, and what it has spent where no store counts it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use leash_budget::{Balance, Grant, ModelPrice, PriceTable, Scope, ScopeKey, Window};
use leash_core::{Caller, ModelCall, Timestamp, Usd};

use crate::path::Shared;
use crate::scopes::Over;

/// One session: who it is and what it is capped by.
pub(crate) struct Session {
    pub(crate) caller: Caller,
    /// A party that a cap is over and that the caller does not have: so nobody knows under which cap its calls are.
    pub(crate) lacks: Option<Over>,
    /// The scopes of its calls, the session's own first where it has any.
    pub(crate) scopes: Arc<[Scope]>,
    /// How many of `scopes` are the session's own.
    own: usize,
    /// The key of the session's own scopes.
    pub(crate) key: ScopeKey,
    /// Those of the keys that no other member of a line says, each once.
    named: Vec<ScopeKey>,
    /// What it spends, where that is a part of another session's budget.
    pub(crate) grant: Option<Grant>,
    /// What the session has spent as far as this handle knows, in nano-dollars: all there is where no store counts it.
    spent: AtomicU64,
    /// The price of the first model that was called, where no day changes it: most sessions call one model.
    priced: OnceLock<Priced>,
}

/// How long a call may run until it is billed. Prices that begin meanwhile bound it too.
pub(crate) const LONGEST_CALL: Duration = Duration::from_hours(1);

struct Priced {
    provider: Arc<str>,
    model: Arc<str>,
    price: Arc<ModelPrice>,
}

/// The keys in `scopes` that a line's session, agent, tenant and tool do not say already.
fn named(scopes: &[Scope]) -> Vec<ScopeKey> {
    const SAID: [&str; 5] = ["session:", "agent:", "tenant:", "grant:", "tool:"];
    let mut found: Vec<ScopeKey> = Vec::new();
    for Scope { key, .. } in scopes {
        let is_said = key.as_str() == "global" || SAID.iter().any(|kind| key.as_str().starts_with(kind));
        if !is_said && !found.contains(key) {
            found.push(key.clone());
        }
    }
    found
}

impl Session {
    /// The session of a reservation that outlived its process.
    pub(crate) fn of_hold(caller: Caller, scopes: Arc<[Scope]>) -> Self {
        let granted = scopes
            .iter()
            .map(|scope| &scope.key)
            .find(|key| Grant::is_scope(key));
        Self {
            key: granted
                .cloned()
                .unwrap_or_else(|| ScopeKey::session(&caller.session_id)),
            caller,
            lacks: None,
            own: 0,
            named: named(&scopes),
            scopes,
            grant: None,
            spent: AtomicU64::new(0),
            priced: OnceLock::new(),
        }
    }

    /// A session with the caps that every session has.
    pub(crate) fn new(caller: Caller, shared: &Shared) -> Arc<Self> {
        let own = shared.caps.of_session(&caller);
        let key = ScopeKey::session(&caller.session_id);
        Self::with(caller, key, own, None, shared)
    }

    /// A session that spends a grant, which stands in the place of what every session is capped by.
    pub(crate) fn of_grant(caller: Caller, grant: Grant, shared: &Shared) -> Arc<Self> {
        let scope = grant.scope();
        Self::with(caller, scope.key.clone(), vec![scope], Some(grant), shared)
    }

    fn with(
        caller: Caller,
        key: ScopeKey,
        own: Vec<Scope>,
        grant: Option<Grant>,
        shared: &Shared,
    ) -> Arc<Self> {
        let count = own.len();
        let scopes: Arc<[Scope]> = shared.caps.besides(&caller, own).into();
        Arc::new(Self {
            lacks: shared.caps.missing_party(&caller),
            caller,
            key,
            grant,
            own: count,
            named: named(&scopes),
            scopes,
            spent: AtomicU64::new(0),
            priced: OnceLock::new(),
        })
    }

    /// What `call` costs by `prices`, which are always the same ones: where it begins at `at`, and what bounds it however
    /// the price changes while it runs.
    pub(crate) fn price(
        &self,
        prices: &PriceTable,
        call: &ModelCall,
        at: Timestamp,
    ) -> Option<(Arc<ModelPrice>, Arc<ModelPrice>)> {
        if let Some(known) = self.priced.get()
            && *known.model == *call.model
            && *known.provider == *call.provider
        {
            return Some((known.price.clone(), known.price.clone()));
        }
        let listed = prices.find(&call.provider, &call.model)?;
        if let Some(price) = listed.constant_price() {
            self.priced.get_or_init(|| Priced {
                provider: call.provider.clone(),
                model: call.model.clone(),
                price: price.clone(),
            });
        }
        Some((listed.price_at(at).clone(), listed.price_within(at, LONGEST_CALL)))
    }

    /// The names of the user's own that its calls are charged to, for the log.
    pub(crate) fn named(&self) -> Vec<&str> {
        self.named.iter().map(ScopeKey::as_str).collect()
    }

    /// The session's own scopes: what a grant is taken from.
    pub(crate) fn own_scopes(&self) -> &[Scope] {
        self.scopes.get(..self.own).unwrap_or_default()
    }

    /// The scope in which the store counts all that the session spends.
    pub(crate) fn total(&self) -> Option<&Scope> {
        self.scopes
            .iter()
            .find(|scope| scope.window == Window::Total && scope.key == self.key)
    }

    /// The balance of that scope, among `balances` of the session's scopes.
    pub(crate) fn own_balance<'b>(&self, balances: &'b [Balance]) -> Option<&'b Balance> {
        balances
            .iter()
            .find(|balance| balance.window == Window::Total && balance.key == self.key)
    }

    /// Counts `cost` and returns what the session has spent: what the store says, where it keeps the session.
    pub(crate) fn add(&self, cost: Usd, balances: Option<&[Balance]>, spent_before: Usd) -> Usd {
        if let Some(balance) = balances.and_then(|all| self.own_balance(all)) {
            return balance.spent;
        }
        if self.total().is_some() {
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
