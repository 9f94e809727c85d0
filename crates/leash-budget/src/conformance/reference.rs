//! [`Reference`]: a budget store as plainly as it can be written, to compare others with. It forgets nothing, shares
//! nothing and is slow.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use leash_core::{ReservationId, Timestamp, Usd};

use crate::{CONFIRM_WITHIN, Hit, Hold, Scope, ScopeKey, Settlement, Window, Written};

/// What a store should answer. Amounts are nano-dollars.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    accounts: BTreeMap<(ScopeKey, Window), Account>,
    holds: BTreeMap<ReservationId, Life>,
    closed: BTreeSet<ScopeKey>,
    hits: BTreeMap<ScopeKey, Vec<Timestamp>>,
    /// Holds that have ended and whose lines nobody has confirmed.
    owed: BTreeMap<ReservationId, Owed>,
    is_durable: bool,
}

#[derive(Clone, Copy, Debug)]
struct Owed {
    /// Until when whoever owes the line may confirm it.
    until: Timestamp,
    charged: Usd,
    is_settled: bool,
}

#[derive(Clone, Debug)]
struct Account {
    newest: i64,
    /// (spent, reserved) of each span.
    spans: BTreeMap<i64, (u64, u64)>,
}

#[derive(Clone, Debug)]
struct Life {
    hold: Option<Hold>,
    spans: Vec<i64>,
    until: Timestamp,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Held,
    Released,
    Expired,
    Settled,
}

/// What a reserve should come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Set aside.
    Granted,
    /// Over a cap.
    Refused,
    /// An error.
    Error,
}

impl Reference {
    /// Of a store whose holds outlive their process, or of another.
    #[must_use]
    pub fn new(is_durable: bool) -> Self {
        Self {
            is_durable,
            ..Self::default()
        }
    }

    fn newest(&self, scope: &Scope, now: Timestamp) -> i64 {
        let index = scope.window.index(now);
        self.accounts
            .get(&(scope.key.clone(), scope.window))
            .map_or(index, |account| account.newest.max(index))
    }

    fn span(&mut self, scope: &Scope, span: i64) -> &mut (u64, u64) {
        let account = self
            .accounts
            .entry((scope.key.clone(), scope.window))
            .or_insert_with(|| Account {
                newest: span,
                spans: BTreeMap::new(),
            });
        account.newest = account.newest.max(span);
        account.spans.entry(span).or_default()
    }

    fn sums_in(&self, scope: &Scope, span: i64) -> (u64, u64) {
        self.accounts
            .get(&(scope.key.clone(), scope.window))
            .and_then(|account| account.spans.get(&span).copied())
            .unwrap_or_default()
    }

    /// What is (spent, reserved) in the present span.
    #[must_use]
    pub fn sums(&self, scope: &Scope, now: Timestamp) -> (u64, u64) {
        self.sums_in(scope, self.newest(scope, now))
    }

    /// Reserves.
    pub fn reserve(&mut self, hold: &Hold, now: Timestamp) -> Answer {
        if let Some(life) = self.holds.get(&hold.id) {
            let same = life
                .hold
                .as_ref()
                .is_some_and(|first| first.amount == hold.amount && first.scopes == hold.scopes);
            return if life.state == State::Held && same {
                Answer::Granted
            } else {
                Answer::Error
            };
        }
        let amount = hold.amount.as_nanos();
        let fits = hold.scopes.iter().all(|scope| {
            let (spent, reserved) = self.sums(scope, now);
            let cap = scope.cap.map_or(u64::MAX, leash_core::Usd::as_nanos);
            !self.closed.contains(&scope.key) && cap > 0 && spent + reserved + amount <= cap
        });
        if !fits {
            return Answer::Refused;
        }
        let spans: Vec<i64> = hold.scopes.iter().map(|scope| self.newest(scope, now)).collect();
        for (scope, span) in hold.scopes.iter().zip(&spans) {
            self.span(scope, *span).1 += amount;
        }
        let life = Life {
            hold: Some(hold.clone()),
            spans,
            until: now.saturating_add(hold.lease),
            state: State::Held,
        };
        self.holds.insert(hold.id, life);
        Answer::Granted
    }

    /// Takes the hold out of `reserved` and charges `charge`.
    fn end(&mut self, id: ReservationId, charge: u64, state: State) {
        let Some(life) = self.holds.get_mut(&id) else {
            return;
        };
        life.state = state;
        let life = life.clone();
        let Some(hold) = &life.hold else { return };
        for (scope, span) in hold.scopes.iter().zip(&life.spans) {
            let sums = self.span(scope, *span);
            sums.0 += charge;
            sums.1 -= hold.amount.as_nanos();
        }
    }

    /// Settles; whether it changed anything.
    pub fn settle(&mut self, settlement: &Settlement, now: Timestamp) -> bool {
        let Settlement {
            id,
            amount,
            scopes,
            owes_line,
        } = settlement;
        let (id, cost) = (*id, amount.as_nanos());
        let life = self.holds.get(&id).cloned();
        self.owe(id, *amount, *owes_line, now);
        match life.as_ref().map(|life| (life.state, &life.hold)) {
            Some((State::Settled, _)) => return false,
            Some((State::Held, _)) => self.end(id, cost, State::Settled),
            Some((state, Some(hold))) => {
                let charged = if state == State::Expired {
                    hold.amount.as_nanos()
                } else {
                    0
                };
                let spans = life.as_ref().map_or(&[][..], |life| &life.spans);
                for (scope, span) in hold.scopes.iter().zip(spans) {
                    // What has passed stays as it is.
                    if self.newest(scope, Timestamp::MIN) == *span {
                        let sums = self.span(scope, *span);
                        sums.0 = sums.0 - charged + cost;
                    }
                }
            }
            None | Some((_, None)) => {
                for scope in scopes.iter() {
                    let span = self.newest(scope, now);
                    self.span(scope, span).0 += cost;
                }
            }
        }
        self.holds
            .entry(id)
            .and_modify(|life| life.state = State::Settled)
            .or_insert(Life {
                hold: None,
                spans: Vec::new(),
                until: Timestamp::MAX,
                state: State::Settled,
            });
        true
    }

    /// Whose line is owed after a settlement, and at what cost.
    fn owe(&mut self, id: ReservationId, charged: Usd, owes_line: bool, now: Timestamp) {
        let state = self.holds.get(&id).map(|life| life.state);
        let is_due = owes_line && self.is_durable;
        let before = self.owed.get(&id).copied();
        let until = match (state, before) {
            (Some(State::Expired), Some(owed)) if !owes_line => owed.until,
            (Some(State::Expired), Some(_)) => now.saturating_add(CONFIRM_WITHIN),
            (Some(State::Expired | State::Held), _) if is_due => now.saturating_add(CONFIRM_WITHIN),
            _ => return,
        };
        let owed = Owed {
            until,
            charged,
            is_settled: true,
        };
        self.owed.insert(id, owed);
    }

    /// Releases.
    pub fn release(&mut self, id: ReservationId) {
        match self.holds.get(&id).map(|life| life.state) {
            Some(State::Held) => self.end(id, 0, State::Released),
            Some(_) => {}
            None => {
                let tombstone = Life {
                    hold: None,
                    spans: Vec::new(),
                    until: Timestamp::MAX,
                    state: State::Released,
                };
                self.holds.insert(id, tombstone);
            }
        }
    }

    /// Renews.
    pub fn renew(&mut self, id: ReservationId, lease: Duration, now: Timestamp) {
        if let Some(life) = self.holds.get_mut(&id)
            && life.state == State::Held
        {
            life.until = life.until.max(now.saturating_add(lease));
        }
    }

    /// Charges what has run out; that and what has been owed for too long, sorted, and whether it was settled.
    pub fn expire(&mut self, now: Timestamp) -> Vec<(Written, bool)> {
        let due: Vec<(ReservationId, u64)> = self
            .holds
            .iter()
            .filter(|(_, life)| life.state == State::Held && life.until < now)
            .filter_map(|(id, life)| Some((*id, life.hold.as_ref()?.amount.as_nanos())))
            .collect();
        for (id, amount) in &due {
            self.end(*id, *amount, State::Expired);
        }
        for (id, _) in due {
            let charged = self
                .holds
                .get(&id)
                .and_then(|life| Some(life.hold.as_ref()?.amount));
            let owed = Owed {
                until: Timestamp::MIN,
                charged: charged.unwrap_or_default(),
                is_settled: false,
            };
            self.owed.insert(id, owed);
        }
        let mut given = Vec::new();
        for (id, owed) in &mut self.owed {
            if owed.until < now {
                owed.until = now.saturating_add(CONFIRM_WITHIN);
                let line = Written {
                    id: *id,
                    charged: owed.charged,
                };
                given.push((line, owed.is_settled));
            }
        }
        given
    }

    /// Confirms.
    pub fn confirm(&mut self, line: Written) {
        if self
            .owed
            .get(&line.id)
            .is_some_and(|owed| owed.charged == line.charged)
        {
            self.owed.remove(&line.id);
        }
    }

    /// Closes.
    pub fn close(&mut self, key: &ScopeKey) {
        self.closed.insert(key.clone());
    }

    /// Forgets what was spent under `key`, where nothing has expired under it, and opens it.
    pub fn reset(&mut self, key: &ScopeKey) {
        self.closed.remove(key);
        for ((of, _), account) in &mut self.accounts {
            if of == key {
                for sums in account.spans.values_mut() {
                    sums.0 = 0;
                }
            }
        }
    }

    /// Counts; (how many there are, whether this one was counted).
    pub fn hit(&mut self, hit: &Hit, now: Timestamp) -> (usize, bool) {
        let times = self.hits.entry(hit.key.clone()).or_default();
        let counts = |at: &Timestamp| hit.within.is_none_or(|within| at.saturating_add(within) > now);
        let count = times.iter().filter(|at| counts(at)).count();
        if count >= usize::try_from(hit.limit).unwrap_or(usize::MAX) {
            return (count, false);
        }
        let last = times.last().copied().unwrap_or(now);
        times.push(last.max(now));
        (count + 1, true)
    }
}
