//! The sums, the holds, and what changes them. Knows the time only as it is told.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque, btree_map};
use std::sync::Arc;

use leash_core::{ReservationId, StoreError, StoreErrorKind, Timestamp, Usd};

use super::hash::IdHashing;
use super::hits::Counters;
use crate::{
    Balance, CONFIRM_WITHIN, Expired, Generation, Hold, Refused, Reserve, Restored, Scope, ScopeKey, Settled,
    Settlement, Standing, Window, Written,
};

/// How many holds that ended are remembered, so that asking twice changes nothing. The table of
/// ids takes 4 MB; a greater one would leave the processor's cache, and every hold pay for it.
const REMEMBERED: usize = 100_000;
/// How many emptied lists of places are kept for the next holds.
const SPARE: usize = 64;
/// The number of an account that there is not.
const NONE: usize = usize::MAX;

pub(super) struct State {
    pub(super) generation: Generation,
    pub(super) hits: Counters,
    keys: HashMap<ScopeKey, Key>,
    accounts: Vec<Account>,
    known: HashMap<ReservationId, Known, IdHashing>,
    /// The holds that stand, by [`Known::Held`].
    records: Vec<Option<Record>>,
    free: Vec<usize>,
    /// Of each hold that stands and has a lease: not before when it runs out. Holds that ended leave theirs behind.
    due: BinaryHeap<Reverse<Due>>,
    /// Expired holds whose lines nobody has confirmed.
    owed: BTreeMap<ReservationId, Owed>,
    /// Their ids by when they are given to somebody else.
    owed_until: BTreeSet<(Timestamp, ReservationId)>,
    /// The ids that ended, the oldest first, each with the turn in which it did.
    ended: VecDeque<(ReservationId, u64)>,
    turn: u64,
    spare: Vec<Vec<Place>>,
}

/// What is known of one key.
struct Key {
    /// Its account for each [`Window`], or [`NONE`].
    accounts: [usize; Window::ALL.len()],
    is_closed: bool,
}

impl Default for Key {
    fn default() -> Self {
        Self {
            accounts: [NONE; Window::ALL.len()],
            is_closed: false,
        }
    }
}

/// The sums of one key over one window.
struct Account {
    key: ScopeKey,
    window: Window,
    /// The newest span that was ever charged; time never goes back to an older one.
    span: i64,
    sums: Sums,
    /// Older spans, as long as a hold needs them.
    past: BTreeMap<i64, Sums>,
    /// How often it was reset: what was charged before is not to be taken off again.
    resets: u64,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    spent: Usd,
    reserved: Usd,
    /// How many holds stand in it.
    holds: u64,
}

/// Where a hold stands: a span of an account.
#[derive(Clone, Copy)]
struct Place {
    account: usize,
    span: i64,
    /// How often the account had been reset when the hold ended and was charged.
    resets: u64,
}

struct Record {
    hold: Hold,
    places: Vec<Place>,
    until: Timestamp,
    turn: u64,
}

/// An expired hold whose line nobody has confirmed.
struct Owed {
    hold: Hold,
    charged: Usd,
    /// Whether that is what it was settled at, late.
    is_settled: bool,
    /// Where it was charged.
    places: Vec<Place>,
    until: Timestamp,
}

/// What is known of a reservation.
enum Known {
    /// It stands.
    Held(usize),
    /// It is settled, or was released before it came, since this turn.
    Settled(u64),
    Tombstone(u64),
    /// It was released or has expired; a settlement may still come.
    Ended(Box<Ended>),
}

struct Ended {
    /// Whether it has expired; if not, it was released.
    is_expired: bool,
    /// What it was charged.
    charged: Usd,
    places: Vec<Place>,
    turn: u64,
}

impl Known {
    fn ended_in(&self) -> Option<u64> {
        match self {
            Self::Held(_) => None,
            Self::Settled(turn) | Self::Tombstone(turn) => Some(*turn),
            Self::Ended(ended) => Some(ended.turn),
        }
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    until: Timestamp,
    record: usize,
    turn: u64,
}

fn corrupt() -> StoreError {
    StoreError::new(
        StoreErrorKind::Corrupt,
        "find the sums of a hold: the store contradicts itself",
    )
}

fn used() -> StoreError {
    StoreError::new(
        StoreErrorKind::Conflict,
        "reserve under an id that was used before",
    )
}

impl Account {
    fn new(key: ScopeKey, window: Window, span: i64) -> Self {
        Self {
            key,
            window,
            span,
            sums: Sums::default(),
            past: BTreeMap::new(),
            resets: 0,
        }
    }

    /// The span that a charge at `now` belongs to, and its sums.
    fn present(&self, now: Timestamp) -> (i64, Sums) {
        let span = self.window.index(now);
        if span > self.span {
            (span, Sums::default())
        } else {
            (self.span, self.sums)
        }
    }

    /// Goes on to `span`. What holds still need of the last one is kept.
    fn roll(&mut self, span: i64) {
        if span > self.span {
            if self.sums.holds > 0 {
                self.past.insert(self.span, self.sums);
            }
            self.span = span;
            self.sums = Sums::default();
        }
    }

    fn sums_in(&self, span: i64) -> Option<Sums> {
        if span == self.span {
            Some(self.sums)
        } else {
            self.past.get(&span).copied()
        }
    }

    /// Changes the sums of `span`, and forgets it where it is past and no hold needs it.
    fn change(&mut self, span: i64, change: impl FnOnce(&mut Sums)) -> Balance {
        if span == self.span {
            change(&mut self.sums);
            return self.balance(self.sums);
        }
        let Some(sums) = self.past.get_mut(&span) else {
            return self.balance(Sums::default());
        };
        change(sums);
        let sums = *sums;
        if sums.holds == 0 {
            self.past.remove(&span);
        }
        self.balance(sums)
    }

    fn balance(&self, sums: Sums) -> Balance {
        Balance {
            key: self.key.clone(),
            window: self.window,
            spent: sums.spent,
            reserved: sums.reserved,
        }
    }
}

const fn slot(window: Window) -> usize {
    match window {
        Window::Total => 0,
        Window::Minute => 1,
        Window::Hour => 2,
        Window::Day => 3,
        Window::Month => 4,
    }
}

impl State {
    pub(super) fn new(generation: Generation) -> Self {
        Self {
            generation,
            hits: Counters::default(),
            keys: HashMap::new(),
            accounts: Vec::new(),
            known: HashMap::default(),
            records: Vec::new(),
            free: Vec::new(),
            due: BinaryHeap::new(),
            owed: BTreeMap::new(),
            owed_until: BTreeSet::new(),
            ended: VecDeque::new(),
            turn: 0,
            spare: Vec::new(),
        }
    }

    pub(super) fn restored(sums: &[Restored], generation: Generation) -> Self {
        let mut state = Self::new(generation);
        for sum in sums {
            let at = state.account(&sum.key, sum.window, sum.at);
            let Some(account) = state.accounts.get_mut(at) else {
                continue;
            };
            let span = sum.window.index(sum.at);
            account.roll(span);
            if span == account.span {
                account.sums.spent = account.sums.spent.saturating_add(sum.spent);
            }
        }
        state
    }

    /// The number of the account, [`NONE`] where there is none, and whether its key is closed.
    fn find(&self, key: &ScopeKey, window: Window) -> (usize, bool) {
        self.keys.get(key).map_or((NONE, false), |key| {
            let at = key.accounts.get(slot(window)).copied().unwrap_or(NONE);
            (at, key.is_closed)
        })
    }

    /// The number of the account, made where there is none.
    fn account(&mut self, key: &ScopeKey, window: Window, now: Timestamp) -> usize {
        let (found, _) = self.find(key, window);
        if found != NONE {
            return found;
        }
        let at = self.accounts.len();
        let entry = self.keys.entry(key.clone()).or_default();
        if let Some(slot) = entry.accounts.get_mut(slot(window)) {
            *slot = at;
        }
        self.accounts
            .push(Account::new(key.clone(), window, window.index(now)));
        at
    }

    /// The accounts of `key`.
    fn accounts_of(&self, key: &ScopeKey) -> [usize; Window::ALL.len()] {
        self.keys
            .get(key)
            .map_or([NONE; Window::ALL.len()], |key| key.accounts)
    }

    pub(super) fn balances(&self, scopes: &[Scope], now: Timestamp) -> Vec<Balance> {
        let balance = |scope: &Scope| {
            let (at, _) = self.find(&scope.key, scope.window);
            self.accounts.get(at).map_or_else(
                || nothing(&scope.key, scope.window),
                |account| account.balance(account.present(now).1),
            )
        };
        scopes.iter().map(balance).collect()
    }

    fn balances_at(&self, places: &[Place]) -> Vec<Balance> {
        let balance = |place: &Place| {
            let account = self.accounts.get(place.account)?;
            Some(account.balance(account.sums_in(place.span).unwrap_or_default()))
        };
        places.iter().filter_map(balance).collect()
    }

    pub(super) fn reserve(&mut self, hold: &Hold, now: Timestamp) -> Result<Reserve, StoreError> {
        match self.known.get(&hold.id) {
            None => {}
            Some(Known::Held(at)) => {
                let record = self
                    .records
                    .get(*at)
                    .and_then(Option::as_ref)
                    .ok_or_else(corrupt)?;
                if record.hold.amount != hold.amount || record.hold.scopes != hold.scopes {
                    return Err(used());
                }
                return Ok(Reserve::Granted(self.balances_at(&record.places)));
            }
            Some(_) => return Err(used()),
        }
        let mut places = self.spare.pop().unwrap_or_default();
        match self.fits(hold, now, &mut places) {
            Ok(None) => {}
            Ok(Some(refused)) => {
                self.put_by(places);
                return Ok(Reserve::Refused(refused));
            }
            Err(error) => {
                self.put_by(places);
                return Err(error);
            }
        }
        let mut balances = Vec::with_capacity(places.len());
        for (place, scope) in places.iter_mut().zip(hold.scopes.iter()) {
            if place.account == NONE {
                place.account = self.account(&scope.key, scope.window, now);
            }
            let Some(account) = self.accounts.get_mut(place.account) else {
                return Err(corrupt());
            };
            account.roll(place.span);
            // That they fit was seen before anything was changed.
            account.sums.reserved = account.sums.reserved.saturating_add(hold.amount);
            account.sums.holds = account.sums.holds.saturating_add(1);
            balances.push(account.balance(account.sums));
        }
        self.stand(hold, places, now);
        Ok(Reserve::Granted(balances))
    }

    /// Whether `hold` fits everywhere; fills `places` where it does. Changes no sum.
    fn fits(
        &self,
        hold: &Hold,
        now: Timestamp,
        places: &mut Vec<Place>,
    ) -> Result<Option<Refused>, StoreError> {
        for (turn, scope) in hold.scopes.iter().enumerate() {
            let earlier = hold.scopes.iter().take(turn);
            if earlier
                .filter(|other| other.window == scope.window)
                .any(|other| other.key == scope.key)
            {
                return Err(StoreError::new(
                    StoreErrorKind::Conflict,
                    "reserve twice in one scope for one call",
                ));
            }
            let (at, is_closed) = self.find(&scope.key, scope.window);
            let (span, sums) = self.accounts.get(at).map_or_else(
                || (scope.window.index(now), Sums::default()),
                |account| account.present(now),
            );
            let cap = if is_closed { Some(Usd::ZERO) } else { scope.cap };
            let reserved = sums.reserved.checked_add(hold.amount);
            let fits = match cap {
                // Without a cap what was spent is only counted; what is set aside must still be a number.
                None => reserved.is_some(),
                Some(cap) => {
                    let after = reserved.and_then(|reserved| reserved.checked_add(sums.spent));
                    !cap.is_zero() && after.is_some_and(|after| after <= cap)
                }
            };
            if !fits {
                return Ok(Some(Refused {
                    cap: cap.unwrap_or(Usd::MAX),
                    balance: Balance {
                        key: scope.key.clone(),
                        window: scope.window,
                        spent: sums.spent,
                        reserved: sums.reserved,
                    },
                }));
            }
            places.push(Place {
                account: at,
                span,
                resets: 0,
            });
        }
        Ok(None)
    }

    /// Writes a hold down whose sums are set aside.
    fn stand(&mut self, hold: &Hold, places: Vec<Place>, now: Timestamp) {
        self.turn = self.turn.wrapping_add(1);
        let record = Record {
            hold: hold.clone(),
            places,
            until: now.saturating_add(hold.lease),
            turn: self.turn,
        };
        let (until, turn) = (record.until, record.turn);
        let at = self.free.pop().unwrap_or(self.records.len());
        if let Some(slot) = self.records.get_mut(at) {
            *slot = Some(record);
        } else {
            self.records.push(Some(record));
        }
        self.known.insert(hold.id, Known::Held(at));
        if until < Timestamp::MAX {
            self.due.push(Reverse(Due {
                until,
                record: at,
                turn,
            }));
            self.clear_due();
        }
    }

    /// Clears away what ended holds left in `due` once that is most of it, so a hold pays for its own only.
    fn clear_due(&mut self) {
        let standing = self.records.len().saturating_sub(self.free.len());
        if self.due.len() > standing.saturating_mul(2).saturating_add(64) {
            let records = &self.records;
            self.due
                .retain(|Reverse(due)| find_record(records, due).is_some());
        }
    }

    fn put_by(&mut self, mut places: Vec<Place>) {
        if self.spare.len() < SPARE {
            places.clear();
            self.spare.push(places);
        }
    }

    /// Takes a hold out of `reserved` everywhere and charges `charge` in its place.
    fn end(&mut self, at: usize, charge: Usd) -> Result<(Record, Vec<Balance>), StoreError> {
        let record = self
            .records
            .get(at)
            .and_then(Option::as_ref)
            .ok_or_else(corrupt)?;
        let amount = record.hold.amount;
        let is_there = |place: &Place| {
            let account = self.accounts.get(place.account)?;
            let sums = account.sums_in(place.span)?;
            (sums.holds > 0 && sums.reserved >= amount).then_some(())
        };
        if record.places.iter().any(|place| is_there(place).is_none()) {
            return Err(corrupt());
        }
        let mut record = self
            .records
            .get_mut(at)
            .and_then(Option::take)
            .ok_or_else(corrupt)?;
        self.free.push(at);
        let mut balances = Vec::with_capacity(record.places.len());
        for place in &mut record.places {
            if let Some(account) = self.accounts.get_mut(place.account) {
                place.resets = account.resets;
                balances.push(account.change(place.span, |sums| {
                    sums.reserved = sums.reserved.saturating_sub(amount);
                    sums.holds = sums.holds.saturating_sub(1);
                    // An absurd bill fills the scope up for good rather than being lost.
                    sums.spent = sums.spent.saturating_add(charge);
                }));
            }
        }
        Ok((record, balances))
    }

    pub(super) fn settle(&mut self, settlement: &Settlement, now: Timestamp) -> Result<Settled, StoreError> {
        let cost = settlement.amount;
        let mut was_expired = false;
        let balances = match self.known.get(&settlement.id) {
            Some(Known::Held(at)) => {
                let (record, balances) = self.end(*at, cost)?;
                self.put_by(record.places);
                balances
            }
            Some(Known::Settled(_)) => {
                return Ok(Settled {
                    balances: self.balances(&settlement.scopes, now),
                    applied: false,
                    was_expired: false,
                });
            }
            Some(Known::Ended(ended)) => {
                was_expired = ended.is_expired;
                let mut balances = Vec::with_capacity(ended.places.len());
                for place in &ended.places {
                    let Some(account) = self.accounts.get_mut(place.account) else {
                        continue;
                    };
                    let charged = if account.resets == place.resets {
                        ended.charged
                    } else {
                        Usd::ZERO
                    };
                    // A span that has passed is not there any more: its sums neither come back nor move into another.
                    balances.push(account.change(place.span, |sums| {
                        if sums.spent < Usd::MAX {
                            sums.spent = sums.spent.saturating_sub(charged).saturating_add(cost);
                        }
                    }));
                }
                balances
            }
            // Never seen, or not by its scopes: the money is gone, so it is counted now.
            Some(Known::Tombstone(_)) | None => self.charge(&settlement.scopes, cost, now),
        };
        if was_expired {
            self.settle_owed(settlement, now);
        }
        self.remember(settlement.id, Known::Settled);
        Ok(Settled {
            balances,
            applied: true,
            was_expired,
        })
    }

    /// Whose line is owed still is given to others with the new charge; not before whoever settled it had his time.
    fn settle_owed(&mut self, settlement: &Settlement, now: Timestamp) {
        let Some(owed) = self.owed.get_mut(&settlement.id) else {
            return;
        };
        (owed.charged, owed.is_settled) = (settlement.amount, true);
        if settlement.owes_line {
            self.owed_until.remove(&(owed.until, settlement.id));
            owed.until = now.saturating_add(CONFIRM_WITHIN);
            self.owed_until.insert((owed.until, settlement.id));
        }
    }

    /// Charges `cost` in the present spans.
    fn charge(&mut self, scopes: &Arc<[Scope]>, cost: Usd, now: Timestamp) -> Vec<Balance> {
        let mut balances = Vec::with_capacity(scopes.len());
        for scope in scopes.iter() {
            let at = self.account(&scope.key, scope.window, now);
            if let Some(account) = self.accounts.get_mut(at) {
                let (span, _) = account.present(now);
                account.roll(span);
                balances.push(account.change(span, |sums| sums.spent = sums.spent.saturating_add(cost)));
            }
        }
        balances
    }

    pub(super) fn release(&mut self, id: ReservationId) -> Result<(), StoreError> {
        match self.known.get(&id) {
            Some(Known::Held(at)) => {
                let (record, _) = self.end(*at, Usd::ZERO)?;
                self.remember_ended(id, None, record.places);
            }
            Some(_) => {}
            None => self.remember(id, Known::Tombstone),
        }
        Ok(())
    }

    pub(super) fn renew(&mut self, id: ReservationId, until: Timestamp) {
        if let Some(Known::Held(at)) = self.known.get(&id)
            && let Some(Some(record)) = self.records.get_mut(*at)
        {
            // Its entry in `due` stays: it is put right when it comes up.
            record.until = record.until.max(until);
        }
    }

    pub(super) fn expire(&mut self, limit: usize, now: Timestamp) -> Result<Vec<Expired>, StoreError> {
        let until_confirmed = now.saturating_add(CONFIRM_WITHIN);
        let mut expired = self.owed(limit, now, until_confirmed);
        while expired.len() < limit {
            if self.due.peek().is_none_or(|Reverse(due)| due.until >= now) {
                break;
            }
            let Some(Reverse(due)) = self.due.pop() else { break };
            let Some(record) = find_record(&self.records, &due) else {
                continue;
            };
            let (until, amount) = (record.until, record.hold.amount);
            if until >= now {
                if until < Timestamp::MAX {
                    self.due.push(Reverse(Due { until, ..due }));
                }
                continue;
            }
            let (record, balances) = match self.end(due.record, amount) {
                Ok(ended) => ended,
                Err(error) if expired.is_empty() => return Err(error),
                // Those that did expire are handed out first; this one fails the next time.
                Err(_) => {
                    self.due.push(Reverse(due));
                    break;
                }
            };
            let id = record.hold.id;
            self.owed_until.insert((until_confirmed, id));
            let owed = Owed {
                hold: record.hold.clone(),
                charged: amount,
                is_settled: false,
                places: record.places.clone(),
                until: until_confirmed,
            };
            self.owed.insert(id, owed);
            self.remember_ended(id, Some(amount), record.places);
            expired.push(Expired {
                hold: record.hold,
                charged: amount,
                is_settled: false,
                balances,
            });
        }
        Ok(expired)
    }

    /// What was given to somebody who has not confirmed it in time.
    fn owed(&mut self, limit: usize, now: Timestamp, until: Timestamp) -> Vec<Expired> {
        let mut found = Vec::new();
        while found.len() < limit
            && let Some((was_until, id)) = self.owed_until.first().copied()
            && was_until < now
        {
            self.owed_until.pop_first();
            let Some(owed) = self.owed.get_mut(&id) else {
                continue;
            };
            owed.until = until;
            self.owed_until.insert((until, id));
            let (hold, places) = (owed.hold.clone(), owed.places.clone());
            let (charged, is_settled) = (owed.charged, owed.is_settled);
            let balances = self.balances_at(&places);
            found.push(Expired {
                hold,
                charged,
                is_settled,
                balances,
            });
        }
        found
    }

    pub(super) fn confirm(&mut self, lines: &[Written]) {
        for Written { id, charged } in lines {
            if let btree_map::Entry::Occupied(owed) = self.owed.entry(*id)
                && owed.get().charged == *charged
            {
                let owed = owed.remove();
                self.owed_until.remove(&(owed.until, *id));
            }
        }
    }

    /// `charged` where it has expired.
    fn remember_ended(&mut self, id: ReservationId, charged: Option<Usd>, places: Vec<Place>) {
        self.remember(id, |turn| {
            Known::Ended(Box::new(Ended {
                is_expired: charged.is_some(),
                charged: charged.unwrap_or_default(),
                places,
                turn,
            }))
        });
    }

    fn remember(&mut self, id: ReservationId, known: impl FnOnce(u64) -> Known) {
        self.turn = self.turn.wrapping_add(1);
        let known = known(self.turn);
        if let Some(slot) = self.known.get_mut(&id) {
            *slot = known;
        } else {
            self.known.insert(id, known);
        }
        self.ended.push_back((id, self.turn));
        if self.ended.len() > REMEMBERED
            && let Some((oldest, turn)) = self.ended.pop_front()
            && let Entry::Occupied(entry) = self.known.entry(oldest)
            && entry.get().ended_in() == Some(turn)
        {
            entry.remove();
        }
    }

    pub(super) fn close(&mut self, key: &ScopeKey) -> Balance {
        if let Some(known) = self.keys.get_mut(key) {
            known.is_closed = true;
        } else {
            let known = Key {
                is_closed: true,
                ..Key::default()
            };
            self.keys.insert(key.clone(), known);
        }
        self.total(key)
    }

    fn total(&self, key: &ScopeKey) -> Balance {
        let (at, _) = self.find(key, Window::Total);
        self.accounts.get(at).map_or_else(
            || nothing(key, Window::Total),
            |account| account.balance(account.sums),
        )
    }

    pub(super) fn reset(&mut self, key: &ScopeKey) -> Balance {
        let before = self.total(key);
        if let Some(known) = self.keys.get_mut(key) {
            known.is_closed = false;
        }
        for at in self.accounts_of(key) {
            let Some(account) = self.accounts.get_mut(at) else {
                continue;
            };
            account.resets = account.resets.wrapping_add(1);
            account.sums.spent = Usd::ZERO;
            for sums in account.past.values_mut() {
                sums.spent = Usd::ZERO;
            }
        }
        before
    }

    pub(super) fn list(
        &self,
        after: Option<(&ScopeKey, Window)>,
        limit: usize,
        now: Timestamp,
    ) -> Vec<Balance> {
        let mut found: Vec<&Account> = self
            .accounts
            .iter()
            .filter(|account| after.is_none_or(|after| (&account.key, account.window) > after))
            .collect();
        // Only what is asked for is sorted: there may be a million scopes.
        if limit < found.len() {
            found.select_nth_unstable_by_key(limit, |account| (&account.key, account.window));
            found.truncate(limit);
        }
        found.sort_unstable_by_key(|account| (&account.key, account.window));
        let balance = |account: &&Account| account.balance(account.present(now).1);
        found.iter().map(balance).collect()
    }

    pub(super) fn standing(&self, after: Option<ReservationId>, limit: usize) -> Vec<Standing> {
        let mut found: Vec<&Record> = self
            .records
            .iter()
            .flatten()
            .filter(|record| after.is_none_or(|after| record.hold.id > after))
            .collect();
        found.sort_unstable_by_key(|record| record.hold.id);
        let standing = |record: &Record| Standing {
            hold: record.hold.clone(),
            until: record.until,
        };
        found.into_iter().take(limit).map(standing).collect()
    }
}

fn nothing(key: &ScopeKey, window: Window) -> Balance {
    Balance {
        key: key.clone(),
        window,
        spent: Usd::ZERO,
        reserved: Usd::ZERO,
    }
}

fn find_record<'a>(records: &'a [Option<Record>], due: &Due) -> Option<&'a Record> {
    let record = records.get(due.record)?.as_ref()?;
    (record.turn == due.turn).then_some(record)
}
