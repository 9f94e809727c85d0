//! [`MemoryStore`]: spending kept in this process, gone with it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use leash_core::{Clock, ReservationId, StoreError, StoreErrorKind, Timestamp, Usd};

use crate::{Balance, BudgetStore, Expired, Hold, Refused, Reserve, Scope, ScopeKey, Settled, Settlement};

/// How many ended holds are remembered, so that asking twice changes nothing. Few enough to stay in a core's cache.
const REMEMBERED: usize = 8_192;
/// How many expired holds are remembered, whose charge a late settlement may still replace.
const REMEMBERED_EXPIRED: usize = 65_536;

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
    held: HashMap<ReservationId, HeldUntil>,
    ended: Memory<Ended>,
    /// What was charged for each.
    expired: Memory<Usd>,
}

struct Account {
    key: ScopeKey,
    spent: Usd,
    reserved: Usd,
}

struct HeldUntil {
    hold: Hold,
    until: Timestamp,
}

#[derive(Clone, Copy)]
enum Ended {
    Settled,
    Released,
}

/// The newest so many of what is put into it.
struct Memory<T> {
    all: HashMap<ReservationId, T>,
    oldest_first: VecDeque<ReservationId>,
}

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Self {
            all: HashMap::new(),
            oldest_first: VecDeque::new(),
        }
    }
}

impl<T> Memory<T> {
    fn remember(&mut self, id: ReservationId, what: T, most: usize) {
        if self.all.insert(id, what).is_none() {
            self.oldest_first.push_back(id);
        }
        if self.oldest_first.len() > most
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.all.remove(&oldest);
        }
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

fn overflow() -> StoreError {
    StoreError::new(
        StoreErrorKind::Corrupt,
        "add up what a scope has spent: the sum is above the largest amount",
    )
}

impl MemoryStore {
    /// An empty store whose leases go by `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            state: Mutex::default(),
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

impl State {
    /// The account of `key`, made where there is none.
    fn account(&mut self, key: &ScopeKey) -> usize {
        if let Some(&at) = self.index.get(key) {
            return at;
        }
        let at = self.accounts.len();
        self.accounts.push(Account {
            key: key.clone(),
            spent: Usd::ZERO,
            reserved: Usd::ZERO,
        });
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
                balances.push(Balance {
                    key: account.key.clone(),
                    spent,
                    reserved,
                });
            }
        }
        Ok(balances)
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
        if let Some(HeldUntil { hold: first, .. }) = state.held.get(&hold.id)
            && first.amount == hold.amount
            && first.scopes == hold.scopes
        {
            return Ok(Reserve::Granted(state.balances(&hold.scopes)));
        }
        if state.held.contains_key(&hold.id)
            || state.ended.all.contains_key(&hold.id)
            || state.expired.all.contains_key(&hold.id)
        {
            return Err(StoreError::new(
                StoreErrorKind::Conflict,
                "reserve under an id that was used before",
            ));
        }
        for scope in hold.scopes.iter() {
            let balance = state.balance(&scope.key);
            let after = balance
                .spent
                .checked_add(balance.reserved)
                .and_then(|sum| sum.checked_add(hold.amount));
            if scope.cap.is_zero() || after.is_none_or(|after| after > scope.cap) {
                return Ok(Reserve::Refused(Refused {
                    cap: scope.cap,
                    balance,
                }));
            }
        }
        let balances = state.apply(&hold.scopes, |sums| {
            Some((sums.spent, sums.reserved.checked_add(hold.amount)?))
        })?;
        state.held.insert(
            hold.id,
            HeldUntil {
                hold: hold.clone(),
                until,
            },
        );
        Ok(Reserve::Granted(balances))
    }

    async fn settle(&self, settlement: &Settlement) -> Result<Settled, StoreError> {
        let mut state = self.lock()?;
        let cost = settlement.amount;
        let (scopes, held, charged) = if let Some(HeldUntil { hold, .. }) = state.held.get(&settlement.id) {
            (hold.scopes.clone(), hold.amount, Usd::ZERO)
        } else if let Some(Ended::Settled) = state.ended.all.get(&settlement.id) {
            return Ok(Settled {
                balances: state.balances(&settlement.scopes),
                applied: false,
            });
        } else {
            // Expired and charged, or billed although it was given back: the money is gone, so it is counted.
            let charged = state.expired.all.get(&settlement.id).copied().unwrap_or_default();
            (settlement.scopes.clone(), Usd::ZERO, charged)
        };
        let balances = state.apply(&scopes, |sums| {
            // An absurd bill fills the scope up for good rather than being lost.
            let spent = sums.spent.checked_sub(charged)?.saturating_add(cost);
            Some((spent, sums.reserved.checked_sub(held)?))
        })?;
        state.held.remove(&settlement.id);
        state.ended.remember(settlement.id, Ended::Settled, REMEMBERED);
        Ok(Settled {
            balances,
            applied: true,
        })
    }

    async fn release(&self, id: ReservationId) -> Result<(), StoreError> {
        let mut state = self.lock()?;
        if state.ended.all.contains_key(&id) || state.expired.all.contains_key(&id) {
            return Ok(());
        }
        if let Some(HeldUntil { hold, .. }) = state.held.get(&id) {
            let (scopes, amount) = (hold.scopes.clone(), hold.amount);
            state.apply(&scopes, |sums| {
                Some((sums.spent, sums.reserved.checked_sub(amount)?))
            })?;
            state.held.remove(&id);
        }
        state.ended.remember(id, Ended::Released, REMEMBERED);
        Ok(())
    }

    async fn renew(&self, id: ReservationId, lease: Duration) -> Result<(), StoreError> {
        let renewed = self.clock.now().saturating_add(lease);
        if let Some(HeldUntil { until, .. }) = self.lock()?.held.get_mut(&id) {
            *until = renewed.max(*until);
        }
        Ok(())
    }

    async fn expire(&self, limit: usize) -> Result<Vec<Expired>, StoreError> {
        let now = self.clock.now();
        let mut state = self.lock()?;
        let due = state
            .held
            .values()
            .filter(|held| held.until < now)
            .map(|held| held.hold.clone());
        let due: Vec<Hold> = due.take(limit).collect();
        let mut expired = Vec::with_capacity(due.len());
        for hold in due {
            let balances = state.apply(&hold.scopes, |sums| {
                Some((
                    sums.spent.saturating_add(hold.amount),
                    sums.reserved.checked_sub(hold.amount)?,
                ))
            })?;
            state.held.remove(&hold.id);
            state.expired.remember(hold.id, hold.amount, REMEMBERED_EXPIRED);
            expired.push(Expired { hold, balances });
        }
        Ok(expired)
    }

    async fn balances(&self, keys: &[ScopeKey]) -> Result<Vec<Balance>, StoreError> {
        let state = self.lock()?;
        Ok(keys.iter().map(|key| state.balance(key)).collect())
    }
}
