//! [`MemoryStore`]: spending kept in this process, gone with it.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use leash_core::{Clock, ReservationId, StoreError, StoreErrorKind, Timestamp, Usd};

use crate::{Balance, BudgetStore, Expired, Hold, Refused, Reserve, Scope, ScopeKey, Settled, Settlement};

/// How many ended holds are remembered, so that asking twice changes nothing.
const REMEMBERED: usize = 65_536;

/// Keeps spending in memory: exact, fast, and for one process. It never forgets a capped scope.
///
/// Cloning the `Arc` around it shares it; two stores know nothing of each other.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    index: HashMap<ScopeKey, usize>,
    accounts: Vec<Account>,
    holds: HashMap<ReservationId, Entry>,
    ended: VecDeque<ReservationId>,
}

struct Account {
    key: ScopeKey,
    spent: Usd,
    reserved: Usd,
}

enum Entry {
    Held { hold: Hold, until: Timestamp },
    /// Charged in full; a late settlement may still replace the charge.
    Expired { amount: Usd },
    Settled,
    Released,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

fn overflow() -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, "add up what a scope has spent: the sum is above the largest amount")
}

impl MemoryStore {
    /// An empty store whose leases go by `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default() }
    }

    fn lock(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        self.state
            .lock()
            .map_err(|_| StoreError::new(StoreErrorKind::Corrupt, "use the budget store: a thread panicked in it"))
    }
}

impl State {
    /// The account of `key`, made where there is none.
    fn account(&mut self, key: &ScopeKey) -> usize {
        if let Some(&at) = self.index.get(key) {
            return at;
        }
        let at = self.accounts.len();
        self.accounts.push(Account { key: key.clone(), spent: Usd::ZERO, reserved: Usd::ZERO });
        self.index.insert(key.clone(), at);
        at
    }

    fn balances(&mut self, scopes: &[Scope]) -> Vec<Balance> {
        scopes.iter().map(|scope| self.balance(&scope.key)).collect()
    }

    fn balance(&self, key: &ScopeKey) -> Balance {
        let account = self.index.get(key).and_then(|&at| self.accounts.get(at));
        Balance {
            key: key.clone(),
            spent: account.map_or(Usd::ZERO, |account| account.spent),
            reserved: account.map_or(Usd::ZERO, |account| account.reserved),
        }
    }

    /// Applies `change` to every scope's sums, or to none where it fails in one.
    fn apply(
        &mut self,
        scopes: &[Scope],
        change: impl Fn(&Account) -> Option<(Usd, Usd)>,
    ) -> Result<Vec<Balance>, StoreError> {
        let mut sums = Vec::with_capacity(scopes.len());
        for scope in scopes {
            let at = self.account(&scope.key);
            let sum = self.accounts.get(at).and_then(&change).ok_or_else(overflow)?;
            sums.push((at, sum));
        }
        let mut balances = Vec::with_capacity(scopes.len());
        for (at, (spent, reserved)) in sums {
            if let Some(account) = self.accounts.get_mut(at) {
                account.spent = spent;
                account.reserved = reserved;
                balances.push(Balance { key: account.key.clone(), spent, reserved });
            }
        }
        Ok(balances)
    }

    /// Remembers that a hold ended, and forgets the one that ended longest ago.
    fn end(&mut self, id: ReservationId, entry: Entry) {
        if matches!(self.holds.insert(id, entry), None | Some(Entry::Held { .. })) {
            self.ended.push_back(id);
        }
        if self.ended.len() > REMEMBERED
            && let Some(oldest) = self.ended.pop_front()
        {
            self.holds.remove(&oldest);
        }
    }
}

#[async_trait]
impl BudgetStore for MemoryStore {
    fn is_durable(&self) -> bool {
        false
    }

    async fn reserve(&self, hold: &Hold) -> Result<Reserve, StoreError> {
        let until = self.clock.now().saturating_add(hold.lease);
        let mut state = self.lock()?;
        match state.holds.get(&hold.id) {
            None => {}
            Some(Entry::Held { hold: first, .. }) if first.amount == hold.amount && first.scopes == hold.scopes => {
                return Ok(Reserve::Granted(state.balances(&hold.scopes)));
            }
            Some(_) => {
                return Err(StoreError::new(StoreErrorKind::Conflict, "reserve under an id that was used before"));
            }
        }
        for scope in hold.scopes.iter() {
            let balance = state.balance(&scope.key);
            let after = balance.spent.checked_add(balance.reserved).and_then(|sum| sum.checked_add(hold.amount));
            if scope.cap.is_zero() || after.is_none_or(|after| after > scope.cap) {
                return Ok(Reserve::Refused(Refused { cap: scope.cap, balance }));
            }
        }
        let balances =
            state.apply(&hold.scopes, |sums| Some((sums.spent, sums.reserved.checked_add(hold.amount)?)))?;
        state.holds.insert(hold.id, Entry::Held { hold: hold.clone(), until });
        Ok(Reserve::Granted(balances))
    }

    async fn settle(&self, settlement: &Settlement) -> Result<Settled, StoreError> {
        let mut state = self.lock()?;
        let cost = settlement.amount;
        let (scopes, held, charged) = match state.holds.get(&settlement.id) {
            Some(Entry::Held { hold, .. }) => (hold.scopes.clone(), hold.amount, Usd::ZERO),
            Some(Entry::Expired { amount }) => (settlement.scopes.clone(), Usd::ZERO, *amount),
            Some(Entry::Settled) => {
                return Ok(Settled { balances: state.balances(&settlement.scopes), applied: false });
            }
            // Billed although it was given back: the money is gone, so it is counted.
            None | Some(Entry::Released) => (settlement.scopes.clone(), Usd::ZERO, Usd::ZERO),
        };
        let balances = state.apply(&scopes, |sums| {
            // An absurd bill fills the scope up for good rather than being lost.
            let spent = sums.spent.checked_sub(charged)?.saturating_add(cost);
            Some((spent, sums.reserved.checked_sub(held)?))
        })?;
        state.end(settlement.id, Entry::Settled);
        Ok(Settled { balances, applied: true })
    }

    async fn release(&self, id: ReservationId) -> Result<(), StoreError> {
        let mut state = self.lock()?;
        let hold = match state.holds.entry(id) {
            MapEntry::Vacant(_) => None,
            MapEntry::Occupied(entry) => match entry.get() {
                Entry::Held { hold, .. } => Some((hold.scopes.clone(), hold.amount)),
                Entry::Expired { .. } | Entry::Settled | Entry::Released => return Ok(()),
            },
        };
        if let Some((scopes, held)) = hold {
            state.apply(&scopes, |sums| Some((sums.spent, sums.reserved.checked_sub(held)?)))?;
        }
        state.end(id, Entry::Released);
        Ok(())
    }

    async fn renew(&self, id: ReservationId, lease: Duration) -> Result<(), StoreError> {
        let renewed = self.clock.now().saturating_add(lease);
        if let Some(Entry::Held { until, .. }) = self.lock()?.holds.get_mut(&id) {
            *until = renewed.max(*until);
        }
        Ok(())
    }

    async fn expire(&self, limit: usize) -> Result<Vec<Expired>, StoreError> {
        let now = self.clock.now();
        let mut state = self.lock()?;
        let due: Vec<Hold> = state
            .holds
            .values()
            .filter_map(|entry| match entry {
                Entry::Held { hold, until } if *until < now => Some(hold.clone()),
                _ => None,
            })
            .take(limit)
            .collect();
        let mut expired = Vec::with_capacity(due.len());
        for hold in due {
            let balances = state.apply(&hold.scopes, |sums| {
                Some((sums.spent.saturating_add(hold.amount), sums.reserved.checked_sub(hold.amount)?))
            })?;
            state.end(hold.id, Entry::Expired { amount: hold.amount });
            expired.push(Expired { hold, balances });
        }
        Ok(expired)
    }

    async fn balances(&self, keys: &[ScopeKey]) -> Result<Vec<Balance>, StoreError> {
        let state = self.lock()?;
        Ok(keys.iter().map(|key| state.balance(key)).collect())
    }
}
