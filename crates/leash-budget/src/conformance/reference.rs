//! [`Reference`]: a budget store as plainly as it can be written, to compare others with. It forgets nothing, shares
//! nothing and is slow.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use leash_core::{ReservationId, Timestamp};

use crate::{CONFIRM_WITHIN, Hit, Hold, Scope, ScopeKey, Window};

/// What a store should answer. Amounts are nano-dollars.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    accounts: BTreeMap<(ScopeKey, Window), Account>,
    holds: BTreeMap<ReservationId, Life>,
    closed: BTreeSet<ScopeKey>,
    hits: BTreeMap<ScopeKey, Vec<Timestamp>>,
    /// Expired holds whose lines nobody has confirmed, and until when whoever was given them may do so.
    owed: BTreeMap<ReservationId, Timestamp>,
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
    pub fn settle(&mut self, id: ReservationId, cost: u64, scopes: &[Scope], now: Timestamp) -> bool {
        let life = self.holds.get(&id).cloned();
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
                for scope in scopes {
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

    /// Charges what has run out; its ids and those whose lines are owed too long, sorted.
    pub fn expire(&mut self, now: Timestamp) -> Vec<ReservationId> {
        let due: Vec<(ReservationId, u64)> = self
            .holds
            .iter()
            .filter(|(_, life)| life.state == State::Held && life.until < now)
            .filter_map(|(id, life)| Some((*id, life.hold.as_ref()?.amount.as_nanos())))
            .collect();
        for (id, amount) in &due {
            self.end(*id, *amount, State::Expired);
        }
        let late = self.owed.iter().filter(|(_, until)| **until < now);
        let mut given: Vec<ReservationId> = late.map(|(id, _)| *id).collect();
        given.extend(due.into_iter().map(|(id, _)| id));
        given.sort_unstable();
        for id in &given {
            self.owed.insert(*id, now.saturating_add(CONFIRM_WITHIN));
        }
        given
    }

    /// Confirms.
    pub fn confirm(&mut self, id: ReservationId) {
        self.owed.remove(&id);
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
