//! What each operation does to the tables, within a transaction that somebody else begins and ends.
//!
//! Sums are read once a transaction, changed in memory and written back at its end, so that sixty calls in one
//! transaction cost one update of the scope they share. An operation first finds out all that it would change, and then
//! changes it: one that fails has changed nothing, and the others in its transaction need not know.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use leash_core::{ReservationId, StoreError, StoreErrorKind, Timestamp, Usd};
use leash_store::rusqlite::{self, Connection, OptionalExtension as _, params};

use super::rows::{
    EndedRow, HeldRow, How, Place, RawDue, RawHold, id_bytes, lease_nanos, moment, nanos, nonsense,
    read_places, until_micros, usd, window_number, window_of, write_line, write_places,
};
use crate::{
    Balance, CONFIRM_WITHIN, Expired, Generation, Hit, Hits, Hold, MAX_HITS, Refused, Reserve, Restored,
    Scope, ScopeKey, Settled, Settlement, Standing, Window, Written,
};

/// How long the id of a hold that ended is remembered.
const REMEMBERED: Duration = Duration::from_hours(24);
/// How many of those that ended last are remembered longer: a clock that jumps ahead does not make them old.
const REMEMBERED_LEAST: i64 = 10_000;
/// How many of those that ended last a reset looks at: a day's, but where more than ten end in a second.
const MOST_LOOKED_AT: i64 = 1_000_000;
/// The most holds that one transaction lets expire: it keeps the others out.
const MOST_EXPIRED: usize = 1_000;
/// The most rows of one list, however many are asked for.
const MOST_LISTED: usize = 100_000;

/// Why an operation came to no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// It alone cannot be done.
    Answer(StoreError),
    /// The transaction cannot go on.
    Batch(rusqlite::Error),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Answer(error)
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        // Without a code it is not SQLite that failed: what was read is not what is expected there.
        if error.sqlite_error_code().is_none() {
            Self::Answer(nonsense().with_source(error))
        } else {
            Self::Batch(error)
        }
    }
}

/// Which life of the store this is, and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) generation: Generation,
    pub(super) turn: i64,
}

/// The life that the file is in, if it holds a budget.
pub(super) fn life(db: &Connection) -> rusqlite::Result<Option<Life>> {
    db.prepare_cached("SELECT generation, turn FROM leash_budget_life WHERE one = 1")?
        .query_row((), |row| {
            Ok(Life {
                generation: Generation::new(row.get::<_, String>(0)?),
                turn: row.get(1)?,
            })
        })
        .optional()
}

/// Begins a life unless there is one. Returns whether it did.
pub(super) fn begin_life(db: &Connection, generation: &Generation, now: Timestamp) -> rusqlite::Result<bool> {
    let made = db.execute(
        "INSERT OR IGNORE INTO leash_budget_life (one, generation, turn, begun_us) VALUES (1, ?1, 0, ?2)",
        params![generation.as_str(), now.as_unix_micros()],
    )?;
    Ok(made > 0)
}

/// The tables during one transaction.
#[derive(Debug)]
pub(super) struct Ledger<'a> {
    db: &'a Connection,
    now: Timestamp,
    lines: HashMap<(ScopeKey, Window), Line>,
    /// The life that this transaction began, where it is a restoration.
    pub(super) begun: Option<Generation>,
}

/// The sums of one key and window.
#[derive(Debug)]
struct Line {
    is_closed: bool,
    /// The newest first.
    accounts: Vec<Account>,
}

#[derive(Clone, Copy, Debug)]
struct Account {
    bucket: i64,
    spent: Usd,
    reserved: Usd,
    holds: i64,
    reset: Timestamp,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// As in the file.
    Same,
    Changed,
    /// To be deleted.
    Gone,
}

/// New sums of an account.
#[derive(Debug)]
struct Change {
    key: ScopeKey,
    window: Window,
    bucket: i64,
    spent: Usd,
    reserved: Usd,
    holds: i64,
}

impl Change {
    fn balance(&self) -> Balance {
        Balance {
            key: self.key.clone(),
            window: self.window,
            spent: self.spent,
            reserved: self.reserved,
        }
    }
}

impl Line {
    fn newest(&self) -> Option<i64> {
        self.live().map(|account| account.bucket).next()
    }

    fn live(&self) -> impl Iterator<Item = &Account> {
        self.accounts
            .iter()
            .filter(|account| account.state != State::Gone)
    }

    /// The span that a call belongs to now. A clock that steps back opens no older one.
    fn present(&self, window: Window, now: Timestamp) -> i64 {
        let index = window.index(now);
        self.newest().map_or(index, |newest| newest.max(index))
    }

    /// Whether `bucket` is past and its sum was let go.
    fn is_forgotten(&self, bucket: i64) -> bool {
        self.newest().is_some_and(|newest| newest > bucket)
            && self.live().all(|account| account.bucket != bucket)
    }

    /// The account of `bucket`, or an empty one.
    fn account(&self, bucket: i64) -> Account {
        let found = self.live().find(|account| account.bucket == bucket);
        found.copied().unwrap_or(Account {
            bucket,
            spent: Usd::ZERO,
            reserved: Usd::ZERO,
            holds: 0,
            reset: Timestamp::EPOCH,
            state: State::Same,
        })
    }

    fn write(&mut self, change: &Change) {
        let written = Account {
            bucket: change.bucket,
            spent: change.spent,
            reserved: change.reserved,
            holds: change.holds,
            reset: self.account(change.bucket).reset,
            state: State::Changed,
        };
        let at = self
            .accounts
            .partition_point(|account| account.bucket > change.bucket);
        match self.accounts.get_mut(at) {
            Some(account) if account.bucket == change.bucket => *account = written,
            _ => self.accounts.insert(at, written),
        }
        // What is past is kept only while something is held in it, and does not come back once it was let go.
        let newest = self.newest();
        for account in &mut self.accounts {
            if newest.is_some_and(|newest| account.bucket < newest) && account.holds == 0 {
                account.state = State::Gone;
            }
        }
    }
}

fn used() -> Fault {
    Fault::Answer(StoreError::new(
        StoreErrorKind::Conflict,
        "reserve under an id that was used before",
    ))
}

fn overflow() -> Fault {
    Fault::Answer(StoreError::new(
        StoreErrorKind::Corrupt,
        "add up what a scope has spent: the sums do not fit what is held",
    ))
}

impl<'a> Ledger<'a> {
    pub(super) fn new(db: &'a Connection, now: Timestamp) -> Self {
        Self {
            db,
            now,
            lines: HashMap::new(),
            begun: None,
        }
    }

    /// Writes the sums back. To be called before the transaction is committed.
    pub(super) fn flush(&mut self) -> rusqlite::Result<()> {
        for ((key, window), line) in &mut self.lines {
            for account in &mut line.accounts {
                let number = window_number(*window);
                match account.state {
                    State::Same => {}
                    State::Changed => {
                        self.db
                            .prepare_cached(
                                "INSERT INTO leash_budget_accounts
                                 (key, window, bucket, spent, reserved, holds, reset_us)
                                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                                 ON CONFLICT (key, window, bucket) DO UPDATE
                                 SET spent = excluded.spent, reserved = excluded.reserved, holds = excluded.holds",
                            )?
                            .execute(params![
                                key.as_str(),
                                number,
                                account.bucket,
                                nanos(account.spent),
                                nanos(account.reserved),
                                account.holds,
                                account.reset.as_unix_micros(),
                            ])?;
                        account.state = State::Same;
                    }
                    State::Gone => {
                        self.db
                            .prepare_cached(
                                "DELETE FROM leash_budget_accounts WHERE key = ?1 AND window = ?2 AND bucket = ?3",
                            )?
                            .execute(params![key.as_str(), number, account.bucket])?;
                    }
                }
            }
            line.accounts.retain(|account| account.state != State::Gone);
        }
        Ok(())
    }

    /// Forgets up to `most` rows of each kind that no longer matter. Returns whether there may be more.
    pub(super) fn prune(&self, most: usize) -> rusqlite::Result<bool> {
        let most_rows = i64::try_from(most).unwrap_or(i64::MAX);
        let day = i64::try_from(REMEMBERED.as_micros()).unwrap_or(i64::MAX);
        let now = self.now.as_unix_micros();
        let ended = self
            .db
            .prepare_cached(
                "DELETE FROM leash_budget_ended
                 WHERE nr IN (SELECT nr FROM leash_budget_ended ORDER BY nr LIMIT ?1) AND at_us < ?2
                 AND nr <= (SELECT max(nr) FROM leash_budget_ended) - ?3",
            )?
            .execute((most_rows, now.saturating_sub(day), REMEMBERED_LEAST))?;
        let hits = self
            .db
            .prepare_cached(
                "DELETE FROM leash_budget_hits WHERE (key, at_us, nr) IN
                 (SELECT key, at_us, nr FROM leash_budget_hits WHERE until_us < ?2 ORDER BY until_us LIMIT ?1)",
            )?
            .execute((most_rows, now))?;
        Ok(ended >= most || hits >= most)
    }

    fn line(&mut self, key: &ScopeKey, window: Window) -> Result<&mut Line, Fault> {
        match self.lines.entry((key.clone(), window)) {
            Entry::Occupied(line) => Ok(line.into_mut()),
            Entry::Vacant(place) => Ok(place.insert(load(self.db, key, window)?)),
        }
    }

    fn present(&mut self, key: &ScopeKey, window: Window) -> Result<i64, Fault> {
        let now = self.now;
        Ok(self.line(key, window)?.present(window, now))
    }

    fn balance(&mut self, key: &ScopeKey, window: Window, bucket: i64) -> Result<Balance, Fault> {
        let account = self.line(key, window)?.account(bucket);
        Ok(Balance {
            key: key.clone(),
            window,
            spent: account.spent,
            reserved: account.reserved,
        })
    }

    fn balances_of(&mut self, places: &[Place]) -> Result<Vec<Balance>, Fault> {
        places
            .iter()
            .map(|place| self.balance(&place.scope.key, place.scope.window, place.bucket))
            .collect()
    }

    fn apply(&mut self, changes: Vec<Change>) -> Result<Vec<Balance>, Fault> {
        let balances = changes.iter().map(Change::balance).collect();
        for change in changes {
            self.line(&change.key, change.window)?.write(&change);
        }
        Ok(balances)
    }

    /// The sums at each of `places` after a hold of `amount` ended there and `cost` was charged.
    fn without_hold(&mut self, places: &[Place], amount: Usd, cost: Usd) -> Result<Vec<Change>, Fault> {
        let mut changes = Vec::with_capacity(places.len());
        for Place { scope, bucket } in places {
            let account = self.line(&scope.key, scope.window)?.account(*bucket);
            let holds = account.holds.checked_sub(1).filter(|holds| *holds >= 0);
            changes.push(Change {
                key: scope.key.clone(),
                window: scope.window,
                bucket: *bucket,
                // An absurd bill fills the scope up for good rather than being lost.
                spent: account.spent.saturating_add(cost),
                reserved: account.reserved.checked_sub(amount).ok_or_else(overflow)?,
                holds: holds.ok_or_else(overflow)?,
            });
        }
        Ok(changes)
    }

    fn held(&self, id: ReservationId) -> Result<Option<HeldRow>, Fault> {
        let found: Option<(i64, String)> = self
            .db
            .prepare_cached("SELECT amount, scopes FROM leash_budget_holds WHERE id = ?1 AND how IS NULL")?
            .query_row([id_bytes(id)], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((amount, scopes)) = found else {
            return Ok(None);
        };
        Ok(Some(HeldRow {
            amount: usd(amount)?,
            places: read_places(&scopes)?,
        }))
    }

    fn ended(&self, id: ReservationId) -> Result<Option<EndedRow>, Fault> {
        let found: Option<(i64, i64, Option<String>, i64)> = self
            .db
            .prepare_cached("SELECT how, amount, scopes, at_us FROM leash_budget_ended WHERE id = ?1")?
            .query_row([id_bytes(id)], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .optional()?;
        let Some((how, amount, scopes, at)) = found else {
            return Ok(None);
        };
        Ok(Some(EndedRow {
            how: How::of(how)?,
            amount: usd(amount)?,
            places: scopes.as_deref().map(read_places).transpose()?,
            at: moment(at)?,
        }))
    }

    fn drop_hold(&self, id: ReservationId) -> Result<(), Fault> {
        self.db
            .prepare_cached("DELETE FROM leash_budget_holds WHERE id = ?1")?
            .execute([id_bytes(id)])?;
        Ok(())
    }

    /// Keeps a hold that was settled, for somebody else to write its line if that is not confirmed in time.
    fn owe(&self, id: ReservationId, cost: Usd) -> Result<(), Fault> {
        self.db
            .prepare_cached(
                "UPDATE leash_budget_holds SET how = ?2, charged = ?3, until_us = ?4 WHERE id = ?1",
            )?
            .execute((
                id_bytes(id),
                How::Settled.number(),
                nanos(cost),
                self.to_confirm(),
            ))?;
        Ok(())
    }

    /// The same for one that has expired before. Its line may be owed still, by whoever it was given to, or not any more.
    fn owe_late(&self, settlement: &Settlement) -> Result<(), Fault> {
        let id = id_bytes(settlement.id);
        let (how, charged) = (How::Settled.number(), nanos(settlement.amount));
        let until = if settlement.owes_line {
            self.to_confirm()
        } else {
            None
        };
        let kept = self
            .db
            .prepare_cached(
                "UPDATE leash_budget_holds SET how = ?2, charged = ?3, until_us = coalesce(?4, until_us)
                 WHERE id = ?1 AND how IS NOT NULL",
            )?
            .execute((id, how, charged, until))?;
        if kept == 0 && settlement.owes_line {
            self.db
                .prepare_cached(
                    "INSERT INTO leash_budget_holds (id, amount, until_us, lease_ns, scopes, line, how, charged)
                     SELECT id, amount, ?4, lease_ns, scopes, line, ?2, ?3 FROM leash_budget_ended
                     WHERE id = ?1 AND line IS NOT NULL AND scopes IS NOT NULL",
                )?
                .execute((id, how, charged, until))?;
        }
        Ok(())
    }

    /// Until when whoever owes a line from now on has time to confirm it.
    fn to_confirm(&self) -> Option<i64> {
        until_micros(self.now.saturating_add(CONFIRM_WITHIN))
    }

    /// Notes how a hold has ended. One that has expired may be settled yet, and so be owed anew: `row` is what its line needs.
    fn end(
        &self,
        id: ReservationId,
        how: How,
        amount: Usd,
        places: Option<&[Place]>,
        row: Option<&RawHold>,
    ) -> Result<(), Fault> {
        let scopes = places
            .map(|places| write_places(places.iter().map(|place| (&place.scope, place.bucket))))
            .transpose()?;
        self.db
            .prepare_cached(
                "INSERT INTO leash_budget_ended (id, how, amount, scopes, at_us, lease_ns, line)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (id) DO UPDATE SET how = excluded.how, amount = excluded.amount,
                 scopes = excluded.scopes, lease_ns = excluded.lease_ns, line = excluded.line",
            )?
            .execute(params![
                id_bytes(id),
                how.number(),
                nanos(amount),
                scopes,
                self.now.as_unix_micros(),
                row.and_then(|row| row.lease),
                row.map(|row| &row.line),
            ])?;
        Ok(())
    }

    pub(super) fn reserve(&mut self, hold: &Hold) -> Result<Reserve, Fault> {
        if let Some(first) = self.held(hold.id)? {
            let scopes = first.places.iter().map(|place| &place.scope);
            if first.amount == hold.amount && scopes.eq(hold.scopes.iter()) {
                return Ok(Reserve::Granted(self.balances_of(&first.places)?));
            }
            return Err(used());
        }
        if self.ended(hold.id)?.is_some() {
            return Err(used());
        }
        let now = self.now;
        let mut changes: Vec<Change> = Vec::with_capacity(hold.scopes.len());
        for scope in hold.scopes.iter() {
            if changes
                .iter()
                .any(|other| other.key == scope.key && other.window == scope.window)
            {
                return Err(Fault::Answer(StoreError::new(
                    StoreErrorKind::Conflict,
                    "reserve in one scope twice",
                )));
            }
            let line = self.line(&scope.key, scope.window)?;
            let account = line.account(line.present(scope.window, now));
            let reserved = account.reserved.checked_add(hold.amount);
            // Without a cap nothing is refused, as long as the sums can be written.
            let fits = match (line.is_closed, scope.cap) {
                (true, _) => Err(Usd::ZERO),
                (false, None) => reserved.ok_or(Usd::MAX),
                (false, Some(cap)) => reserved
                    .filter(|reserved| {
                        let after = account.spent.checked_add(*reserved);
                        !cap.is_zero() && after.is_some_and(|after| after <= cap)
                    })
                    .ok_or(cap),
            };
            let reserved = match fits {
                Ok(reserved) => reserved,
                Err(cap) => return Ok(refused(scope, cap, &account)),
            };
            changes.push(Change {
                key: scope.key.clone(),
                window: scope.window,
                bucket: account.bucket,
                spent: account.spent,
                reserved,
                holds: account.holds.saturating_add(1),
            });
        }
        let buckets = changes.iter().map(|change| change.bucket);
        let scopes = write_places(hold.scopes.iter().zip(buckets))?;
        let line = write_line(&hold.line)?;
        self.db
            .prepare_cached(
                "INSERT INTO leash_budget_holds (id, amount, until_us, lease_ns, scopes, line)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                id_bytes(hold.id),
                nanos(hold.amount),
                until_micros(now.saturating_add(hold.lease)),
                lease_nanos(hold.lease),
                scopes,
                line
            ])?;
        Ok(Reserve::Granted(self.apply(changes)?))
    }

    pub(super) fn settle(&mut self, settlement: &Settlement) -> Result<Settled, Fault> {
        let cost = settlement.amount;
        let mut was_expired = false;
        let changes = if let Some(held) = self.held(settlement.id)? {
            let changes = self.without_hold(&held.places, held.amount, cost)?;
            if settlement.owes_line {
                self.owe(settlement.id, cost)?;
            } else {
                self.drop_hold(settlement.id)?;
            }
            changes
        } else {
            match self.ended(settlement.id)? {
                Some(ended) if ended.how == How::Settled => {
                    return Ok(Settled {
                        balances: self.balances(&settlement.scopes)?,
                        applied: false,
                        was_expired: false,
                    });
                }
                // Charged at its expiry, or billed although it was given back: the money is gone, so it is counted, in
                // the span that it was reserved in.
                Some(EndedRow {
                    how,
                    amount,
                    places: Some(places),
                    at,
                }) => {
                    was_expired = how == How::Expired;
                    let charged = if was_expired { amount } else { Usd::ZERO };
                    let changes = self.late_changes(&places, charged, at, cost)?;
                    if was_expired {
                        self.owe_late(settlement)?;
                    }
                    changes
                }
                // Never seen as a hold: the present spans.
                Some(EndedRow { places: None, .. }) | None => {
                    let places = self.present_places(&settlement.scopes)?;
                    self.late_changes(&places, Usd::ZERO, self.now, cost)?
                }
            }
        };
        self.end(settlement.id, How::Settled, cost, None, None)?;
        Ok(Settled {
            balances: self.apply(changes)?,
            applied: true,
            was_expired,
        })
    }

    /// `cost` in the place of what was `charged` at the moment `at`.
    fn late_changes(
        &mut self,
        places: &[Place],
        charged: Usd,
        at: Timestamp,
        cost: Usd,
    ) -> Result<Vec<Change>, Fault> {
        let mut changes = Vec::with_capacity(places.len());
        for Place { scope, bucket } in places {
            let line = self.line(&scope.key, scope.window)?;
            let account = line.account(*bucket);
            let spent = if line.is_forgotten(*bucket) {
                // The span is past, and does not come back.
                Usd::ZERO
            } else if account.spent == Usd::MAX {
                // Full for good: nobody knows how much more it would be.
                Usd::MAX
            } else if account.reset >= at {
                // The charge was wiped out with all the rest, so there is nothing to replace.
                account.spent.saturating_add(cost)
            } else {
                let others = account.spent.checked_sub(charged).ok_or_else(overflow)?;
                others.saturating_add(cost)
            };
            changes.push(Change {
                key: scope.key.clone(),
                window: scope.window,
                bucket: *bucket,
                spent,
                reserved: account.reserved,
                holds: account.holds,
            });
        }
        Ok(changes)
    }

    fn present_places(&mut self, scopes: &[Scope]) -> Result<Vec<Place>, Fault> {
        scopes
            .iter()
            .map(|scope| {
                Ok(Place {
                    scope: scope.clone(),
                    bucket: self.present(&scope.key, scope.window)?,
                })
            })
            .collect()
    }

    pub(super) fn release(&mut self, id: ReservationId) -> Result<(), Fault> {
        if let Some(held) = self.held(id)? {
            let changes = self.without_hold(&held.places, held.amount, Usd::ZERO)?;
            self.drop_hold(id)?;
            self.end(id, How::Released, Usd::ZERO, Some(&held.places), None)?;
            self.apply(changes)?;
            return Ok(());
        }
        if self.ended(id)?.is_none() {
            self.end(id, How::Released, Usd::ZERO, None, None)?;
        }
        Ok(())
    }

    pub(super) fn renew(&self, id: ReservationId, lease: Duration) -> Result<(), Fault> {
        let until = until_micros(self.now.saturating_add(lease));
        self.db
            .prepare_cached(
                "UPDATE leash_budget_holds SET until_us = ?2
                 WHERE id = ?1 AND how IS NULL AND until_us IS NOT NULL AND (?2 IS NULL OR until_us < ?2)",
            )?
            .execute((id_bytes(id), until))?;
        Ok(())
    }

    pub(super) fn expire(&mut self, limit: usize) -> Result<Vec<Expired>, Fault> {
        let limit = i64::try_from(limit.min(MOST_EXPIRED)).unwrap_or(i64::MAX);
        let due: Vec<RawDue> = self
            .db
            .prepare_cached(
                "SELECT id, amount, until_us, lease_ns, scopes, line, how, charged FROM leash_budget_holds
                 WHERE until_us < ?1 ORDER BY until_us LIMIT ?2",
            )?
            .query_map((self.now.as_unix_micros(), limit), RawDue::read)?
            .collect::<rusqlite::Result<_>>()?;
        let mut expired = Vec::with_capacity(due.len());
        let mut unreadable = None;
        for row in due {
            // One that makes no sense stays for somebody to look at. The others do not wait for that.
            match self.fall_due(&row) {
                Ok(one) => expired.push(one),
                Err(Fault::Answer(error)) => unreadable = Some(error),
                Err(fault) => return Err(fault),
            }
        }
        match unreadable {
            Some(error) if expired.is_empty() => Err(Fault::Answer(error)),
            _ => Ok(expired),
        }
    }

    /// Charges a hold whose lease is over. From then on, as where it has ended before, its line is owed.
    fn fall_due(&mut self, row: &RawDue) -> Result<Expired, Fault> {
        if let Some((how, charged)) = row.ended()? {
            let (hold, places, _) = row.hold.decode()?;
            let balances = self.balances_of(&places)?;
            self.db
                .prepare_cached("UPDATE leash_budget_holds SET until_us = ?2 WHERE id = ?1")?
                .execute((id_bytes(hold.id), self.to_confirm()))?;
            return Ok(Expired {
                hold,
                charged,
                is_settled: how == How::Settled,
                balances,
            });
        }
        let (hold, places, changes) = self.expiry(&row.hold)?;
        self.db
            .prepare_cached(
                "UPDATE leash_budget_holds SET how = ?2, charged = amount, until_us = ?3 WHERE id = ?1",
            )?
            .execute((id_bytes(hold.id), How::Expired.number(), self.to_confirm()))?;
        self.end(hold.id, How::Expired, hold.amount, Some(&places), Some(&row.hold))?;
        Ok(Expired {
            charged: hold.amount,
            is_settled: false,
            balances: self.apply(changes)?,
            hold,
        })
    }

    pub(super) fn confirm(&self, lines: &[Written]) -> Result<(), Fault> {
        // What stands has no charge, so it stays.
        let mut delete = self
            .db
            .prepare_cached("DELETE FROM leash_budget_holds WHERE id = ?1 AND charged = ?2")?;
        for Written { id, charged } in lines {
            delete.execute((id_bytes(*id), nanos(*charged)))?;
        }
        Ok(())
    }

    fn expiry(&mut self, row: &RawHold) -> Result<(Hold, Vec<Place>, Vec<Change>), Fault> {
        let (hold, places, _) = row.decode()?;
        let changes = self.without_hold(&places, hold.amount, hold.amount)?;
        Ok((hold, places, changes))
    }

    pub(super) fn balances(&mut self, scopes: &[Scope]) -> Result<Vec<Balance>, Fault> {
        let places = self.present_places(scopes)?;
        self.balances_of(&places)
    }

    pub(super) fn close(&mut self, key: &ScopeKey) -> Result<Balance, Fault> {
        self.db
            .prepare_cached("INSERT OR IGNORE INTO leash_budget_closed (key) VALUES (?1)")?
            .execute([key.as_str()])?;
        for ((other, _), line) in &mut self.lines {
            line.is_closed |= other == key;
        }
        self.balance(key, Window::Total, 0)
    }

    pub(super) fn hit(&self, hit: &Hit) -> Result<Hits, Fault> {
        match hit.within {
            Some(_) if hit.limit > MAX_HITS => Err(Fault::Answer(StoreError::new(
                StoreErrorKind::Conflict,
                format!("count more than {MAX_HITS} events within a time"),
            ))),
            Some(within) => self.hit_within(hit, within),
            None => self.hit_ever(hit),
        }
    }

    fn hit_ever(&self, hit: &Hit) -> Result<Hits, Fault> {
        let count: Option<i64> = self
            .db
            .prepare_cached("SELECT count FROM leash_budget_counts WHERE key = ?1")?
            .query_row([hit.key.as_str()], |row| row.get(0))
            .optional()?;
        let count = u32::try_from(count.unwrap_or(0)).map_err(|_| nonsense())?;
        if count >= hit.limit {
            return Ok(Hits {
                count,
                is_allowed: false,
            });
        }
        let count = count.saturating_add(1);
        self.db
            .prepare_cached(
                "INSERT INTO leash_budget_counts (key, count) VALUES (?1, ?2)
                 ON CONFLICT (key) DO UPDATE SET count = excluded.count",
            )?
            .execute((hit.key.as_str(), count))?;
        Ok(Hits {
            count,
            is_allowed: true,
        })
    }

    /// The events of a key are numbered and sorted by time, so how many there are within a time is the difference of two
    /// numbers, however many there are.
    fn hit_within(&self, hit: &Hit, within: Duration) -> Result<Hits, Fault> {
        let key = hit.key.as_str();
        let newest: Option<(i64, i64)> = self
            .db
            .prepare_cached(
                "SELECT at_us, nr FROM leash_budget_hits WHERE key = ?1 ORDER BY at_us DESC, nr DESC LIMIT 1",
            )?
            .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        // A clock that steps back does not put an event before those that came earlier.
        let now = self.now.as_unix_micros();
        let (at, last) = newest.map_or((now, 0), |(at, nr)| (now.max(at), nr));
        let within = i64::try_from(within.as_micros()).unwrap_or(i64::MAX);
        let forgotten: Option<i64> = self
            .db
            .prepare_cached(
                "SELECT nr FROM leash_budget_hits WHERE key = ?1 AND at_us <= ?2
                 ORDER BY at_us DESC, nr DESC LIMIT 1",
            )?
            .query_row((key, at.saturating_sub(within)), |row| row.get(0))
            .optional()?;
        let before_first = || -> rusqlite::Result<i64> {
            let first: Option<i64> = self
                .db
                .prepare_cached("SELECT nr FROM leash_budget_hits WHERE key = ?1 ORDER BY at_us, nr LIMIT 1")?
                .query_row([key], |row| row.get(0))
                .optional()?;
            Ok(first.map_or(last, |first| first.saturating_sub(1)))
        };
        let before = forgotten.map_or_else(before_first, Ok)?;
        let count = u32::try_from(last.saturating_sub(before)).map_err(|_| nonsense())?;
        if count >= hit.limit {
            return Ok(Hits {
                count,
                is_allowed: false,
            });
        }
        self.db
            .prepare_cached(
                "INSERT INTO leash_budget_hits (key, at_us, nr, until_us) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute((key, at, last.saturating_add(1), at.saturating_add(within)))?;
        Ok(Hits {
            count: count.saturating_add(1),
            is_allowed: true,
        })
    }

    pub(super) fn list(
        &mut self,
        after: Option<&(ScopeKey, Window)>,
        limit: usize,
    ) -> Result<Vec<Balance>, Fault> {
        let (key, window) = after.map_or(("", -1), |(key, window)| (key.as_str(), window_number(*window)));
        let mut names: Vec<(String, i64)> = Vec::new();
        {
            let mut statement = self.db.prepare_cached(
                "SELECT key, window FROM leash_budget_accounts WHERE (key, window) > (?1, ?2) ORDER BY key, window",
            )?;
            let mut rows = statement.query((key, window))?;
            while names.len() < limit.min(MOST_LISTED)
                && let Some(row) = rows.next()?
            {
                let name = (row.get(0)?, row.get(1)?);
                if names.last() != Some(&name) {
                    names.push(name);
                }
            }
        }
        let mut all = Vec::with_capacity(names.len());
        for (key, window) in names {
            let (key, window) = (ScopeKey::new(key), window_of(window)?);
            let bucket = self.present(&key, window)?;
            all.push(self.balance(&key, window, bucket)?);
        }
        Ok(all)
    }

    pub(super) fn standing(
        &self,
        after: Option<ReservationId>,
        limit: usize,
    ) -> Result<Vec<Standing>, Fault> {
        let limit = i64::try_from(limit.min(MOST_LISTED)).unwrap_or(i64::MAX);
        let after = after.map(id_bytes);
        let rows: Vec<RawHold> = self
            .db
            .prepare_cached(
                "SELECT id, amount, until_us, lease_ns, scopes, line FROM leash_budget_holds
                 WHERE id > ?1 AND how IS NULL ORDER BY id LIMIT ?2",
            )?
            .query_map(
                (after.as_ref().map_or(&[][..], |id| id.as_slice()), limit),
                RawHold::read,
            )?
            .collect::<rusqlite::Result<_>>()?;
        rows.iter()
            .map(|row| {
                let (hold, _, until) = row.decode()?;
                Ok(Standing { hold, until })
            })
            .collect()
    }

    pub(super) fn reset(&mut self, key: &ScopeKey) -> Result<Balance, Fault> {
        let before = self.balance(key, Window::Total, 0)?;
        self.flush()?;
        self.lines.clear();
        // A clock that was set back does not make the reset older than the charges that it wipes out: a late settlement would
        // take them off what was spent since.
        let latest: Option<i64> = self
            .db
            .prepare_cached(
                "SELECT max(at_us) FROM (SELECT at_us FROM leash_budget_ended ORDER BY nr DESC LIMIT ?1)",
            )?
            .query_row([MOST_LOOKED_AT], |row| row.get(0))?;
        let now = self.now.as_unix_micros();
        self.db
            .prepare_cached("UPDATE leash_budget_accounts SET spent = 0, reset_us = ?2 WHERE key = ?1")?
            .execute((key.as_str(), latest.map_or(now, |latest| latest.max(now))))?;
        self.db
            .prepare_cached("DELETE FROM leash_budget_closed WHERE key = ?1")?
            .execute([key.as_str()])?;
        Ok(before)
    }

    /// In place of everything: `sums`, of each key and window the newest span only.
    pub(super) fn restore(
        &mut self,
        sums: &[Restored],
        generation: &Generation,
    ) -> Result<Generation, Fault> {
        let mut newest: HashMap<(&ScopeKey, Window), (i64, Usd)> = HashMap::new();
        for sum in sums {
            let bucket = sum.window.index(sum.at);
            let (known, spent) = newest
                .entry((&sum.key, sum.window))
                .or_insert((bucket, Usd::ZERO));
            if *known < bucket {
                (*known, *spent) = (bucket, sum.spent);
            } else if *known == bucket {
                *spent = spent.saturating_add(sum.spent);
            }
        }
        self.lines.clear();
        self.db.execute_batch(
            "DELETE FROM leash_budget_accounts; DELETE FROM leash_budget_holds; DELETE FROM leash_budget_ended;
             DELETE FROM leash_budget_closed; DELETE FROM leash_budget_hits; DELETE FROM leash_budget_counts;
             DELETE FROM leash_budget_life;",
        )?;
        begin_life(self.db, generation, self.now)?;
        let mut insert = self.db.prepare_cached(
            "INSERT INTO leash_budget_accounts (key, window, bucket, spent, reserved, holds, reset_us)
             VALUES (?1, ?2, ?3, ?4, 0, 0, 0)",
        )?;
        for ((key, window), (bucket, spent)) in newest {
            insert.execute((key.as_str(), window_number(window), bucket, nanos(spent)))?;
        }
        self.begun = Some(generation.clone());
        Ok(generation.clone())
    }
}

fn refused(scope: &Scope, cap: Usd, account: &Account) -> Reserve {
    Reserve::Refused(Refused {
        cap,
        balance: Balance {
            key: scope.key.clone(),
            window: scope.window,
            spent: account.spent,
            reserved: account.reserved,
        },
    })
}

fn load(db: &Connection, key: &ScopeKey, window: Window) -> Result<Line, Fault> {
    let is_closed = db
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM leash_budget_closed WHERE key = ?1)")?
        .query_row([key.as_str()], |row| row.get(0))?;
    let rows: Vec<(i64, i64, i64, i64, i64)> = db
        .prepare_cached(
            "SELECT bucket, spent, reserved, holds, reset_us FROM leash_budget_accounts
             WHERE key = ?1 AND window = ?2 ORDER BY bucket DESC",
        )?
        .query_map((key.as_str(), window_number(window)), |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut accounts = Vec::with_capacity(rows.len());
    for (bucket, spent, reserved, holds, reset) in rows {
        accounts.push(Account {
            bucket,
            spent: usd(spent)?,
            reserved: usd(reserved)?,
            holds,
            reset: moment(reset)?,
            state: State::Same,
        });
    }
    Ok(Line { is_closed, accounts })
}

#[cfg(test)]
mod tests {
    use leash_store::rusqlite::params_from_iter;
    use leash_store::rusqlite::types::Null;

    use super::super::rows::SCHEMA;
    use super::*;

    #[test]
    fn every_statement_finds_its_rows_without_walking_a_table() {
        let db = Connection::open_in_memory().unwrap();
        for step in SCHEMA.steps {
            db.execute_batch(step).unwrap();
        }
        let verbs = ["SELECT ", "UPDATE ", "DELETE FROM "];
        let source = include_str!("ledger.rs");
        let code = source.split("mod tests").next().unwrap();
        let statements: Vec<&str> = code
            .split('"')
            .filter(|text| verbs.iter().any(|verb| text.starts_with(verb)) && !text.contains(';'))
            .collect();
        assert!(statements.len() > 15, "{}", statements.len());
        for text in statements {
            let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {text}")).unwrap();
            let nothing = vec![Null; statement.parameter_count()];
            let plan: Vec<String> = statement
                .query_map(params_from_iter(nothing), |row| row.get(3))
                .unwrap()
                .collect::<rusqlite::Result<_>>()
                .unwrap();
            for line in &plan {
                // In the order of its rows, and no further than a limit, is no walk.
                let is_short = line == "SCAN CONSTANT ROW" || text.contains(" LIMIT ");
                assert!(!line.starts_with("SCAN") || is_short, "{text}: {plan:?}");
                assert!(!line.contains("TEMP B-TREE"), "{text}: {plan:?}");
            }
        }
    }
}
