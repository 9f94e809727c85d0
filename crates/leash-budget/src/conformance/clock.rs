//! The laws of time, for a store whose clock can be set: windows of the calendar, leases, and clocks that step.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use leash_core::{Clock, ReservationId, Timestamp};

use super::reference::{Answer, Reference};
use super::{Ledger, Random, settlement, usd, written};
use crate::{BudgetStore, CONFIRM_WITHIN, Expired, Hit, Hold, Reserve, Scope, ScopeKey, Window, Written};

/// A clock that stands where it is set.
#[derive(Debug)]
pub struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self(Mutex::new(now))
    }

    /// Sets it, forward or back.
    pub fn set(&self, now: Timestamp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An empty store, and how its clock is set.
#[derive(Clone)]
pub struct Subject {
    /// The store, for one law alone.
    pub store: Arc<dyn BudgetStore>,
    /// Sets its clock, forward or back.
    pub set_clock: Arc<dyn Fn(Timestamp) + Send + Sync>,
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// Makes one `#[tokio::test]` per law of time for the [`Subject`] that the expression gives: one fresh store for each.
#[macro_export]
macro_rules! budget_store_clock_conformance {
    ($name:ident, $subject:expr) => {
        mod $name {
            use super::*;
            $crate::budget_store_conformance!(@laws $subject,
                a_new_window_begins_at_nothing
                a_call_is_charged_to_the_window_it_was_reserved_in
                what_is_released_or_expires_late_leaves_the_present_window_alone
                a_late_settlement_never_revives_a_window_that_has_passed
                an_id_never_seen_is_charged_to_the_present_window
                a_clock_that_steps_back_opens_no_older_window_anew
                two_windows_of_one_key_hold_at_once
                a_lease_goes_by_the_clock_of_the_store
                an_expired_hold_comes_again_until_its_line_is_confirmed
                a_settled_hold_is_given_out_at_its_cost_until_its_line_is_confirmed
                a_late_settlement_changes_the_charge_whose_line_is_owed
                of_those_whose_lines_are_owed_each_is_given_to_one_caller
                an_event_is_forgotten_when_its_time_has_passed
                any_history_with_windows_agrees_with_a_plain_reference
            );
        }
    };
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The last moment of a span, and the first of the next.
const EDGES: [(Window, &str, &str); 9] = [
    (
        Window::Minute,
        "2026-11-22T12:34:59.999999Z",
        "2026-11-22T12:35:00Z",
    ),
    (
        Window::Hour,
        "2026-11-22T12:59:59.999999Z",
        "2026-11-22T13:00:00Z",
    ),
    (Window::Day, "2026-11-22T23:59:59.999999Z", "2026-11-23T00:00:00Z"),
    (
        Window::Month,
        "2026-11-30T23:59:59.999999Z",
        "2026-12-01T00:00:00Z",
    ),
    (
        Window::Month,
        "2026-12-31T23:59:59.999999Z",
        "2027-01-01T00:00:00Z",
    ),
    (
        Window::Month,
        "2027-02-28T23:59:59.999999Z",
        "2027-03-01T00:00:00Z",
    ),
    (Window::Day, "2028-02-28T23:59:59.999999Z", "2028-02-29T00:00:00Z"),
    (Window::Day, "2028-02-29T23:59:59.999999Z", "2028-03-01T00:00:00Z"),
    (
        Window::Month,
        "2028-02-29T23:59:59.999999Z",
        "2028-03-01T00:00:00Z",
    ),
];

impl Subject {
    fn begin(&self, moment: &str) -> Ledger {
        (self.set_clock)(at(moment));
        Ledger::new(self.store.clone())
    }
}

impl Ledger {
    fn scope_per(&self, cap: u64, window: Window) -> Scope {
        self.scope(cap).per(window)
    }

    /// Reserves `amount` in `scope`; the hold, where it was granted.
    async fn take(&self, amount: u64, scope: &Scope) -> Option<Hold> {
        let hold = self.hold(amount, std::slice::from_ref(scope));
        self.granted(&hold).await.then_some(hold)
    }
}

/// At midnight, at the end of a month and on a leap day, what was spent before counts no more, and not a microsecond earlier.
pub async fn a_new_window_begins_at_nothing(subject: Subject) {
    for (window, last, first) in EDGES {
        let ledger = subject.begin(last);
        let scope = ledger.scope_per(10, window);
        let hold = ledger.take(10, &scope).await.unwrap();
        ledger.settle(&hold, 10).await;
        assert_eq!(ledger.take(1, &scope).await, None, "{window} {last}");
        (subject.set_clock)(at(first));
        assert_eq!(ledger.sums(&scope).await, (0, 0), "{window} {first}");
        assert!(ledger.take(10, &scope).await.is_some(), "{window} {first}");
        assert_eq!(ledger.take(1, &scope).await, None, "{window} {first}");
    }
}

/// A call that began before midnight is charged to the day before.
pub async fn a_call_is_charged_to_the_window_it_was_reserved_in(subject: Subject) {
    for (window, last, first) in EDGES {
        let ledger = subject.begin(last);
        let scope = ledger.scope_per(10, window);
        let hold = ledger.take(6, &scope).await.unwrap();
        let other = ledger.take(3, &scope).await.unwrap();
        (subject.set_clock)(at(first));
        let today = ledger.take(10, &scope).await.unwrap();
        let settled = ledger.store.settle(&settlement(&hold, 4, false)).await.unwrap();
        let yesterday = settled.balances.first().unwrap();
        assert!(settled.applied);
        assert_eq!(
            (yesterday.window, yesterday.spent, yesterday.reserved),
            (window, usd(4), usd(3))
        );
        assert_eq!(ledger.sums(&scope).await, (0, 10), "{window} {first}");
        let again = ledger.store.reserve(&other).await.unwrap();
        let Reserve::Granted(balances) = again else {
            panic!("refused")
        };
        assert_eq!(
            balances.first().map(|balance| (balance.spent, balance.reserved)),
            Some((usd(4), usd(3)))
        );
        assert!(!ledger.settle(&hold, 4).await);
        assert!(ledger.settle(&other, 3).await && ledger.settle(&today, 9).await);
        assert_eq!(ledger.sums(&scope).await, (9, 0), "{window} {first}");
    }
}

/// A release and an expiry belong to the span of their hold, as a settlement does.
pub async fn what_is_released_or_expires_late_leaves_the_present_window_alone(subject: Subject) {
    for (window, last, first) in EDGES {
        let ledger = subject.begin(last);
        let (scope, total) = (ledger.scope_per(10, window), ledger.scope(100));
        let released = ledger.hold(2, &[scope.clone(), total.clone()]);
        let expiring = Hold {
            lease: Duration::from_secs(1),
            ..ledger.hold(3, &[scope.clone(), total.clone()])
        };
        assert!(ledger.granted(&released).await && ledger.granted(&expiring).await);
        (subject.set_clock)(at(first).saturating_add(Duration::from_secs(2)));
        let today = ledger.take(7, &scope).await.unwrap();
        ledger.store.release(released.id).await.unwrap();
        let expired = ledger.store.expire(10).await.unwrap();
        ledger.confirm(&expired).await;
        let [only] = expired.as_slice() else {
            panic!("{expired:?}")
        };
        assert_eq!(only.hold, expiring);
        let sums: Vec<_> = only
            .balances
            .iter()
            .map(|sums| (sums.spent, sums.reserved))
            .collect();
        assert_eq!(sums, [(usd(3), usd(0)), (usd(3), usd(0))]);
        assert_eq!(ledger.sums(&scope).await, (0, 7), "{window} {first}");
        assert_eq!(ledger.sums(&total).await, (3, 0), "{window} {first}");
        ledger.settle(&today, 7).await;
        assert_eq!(ledger.sums(&scope).await, (7, 0), "{window} {first}");
    }
}

/// A settlement that comes after its hold has expired and its window has passed changes nothing in any window, and is done.
pub async fn a_late_settlement_never_revives_a_window_that_has_passed(subject: Subject) {
    for (window, last, first) in EDGES {
        let ledger = subject.begin(last);
        let (scope, total) = (ledger.scope_per(10, window), ledger.scope(100));
        let hold = Hold {
            lease: Duration::from_secs(1),
            ..ledger.hold(6, &[scope.clone(), total.clone()])
        };
        let other = ledger.hold(4, &[scope.clone(), total.clone()]);
        assert!(ledger.granted(&hold).await && ledger.granted(&other).await);
        ledger.store.release(other.id).await.unwrap();
        (subject.set_clock)(at(first).saturating_add(Duration::from_secs(2)));
        assert_eq!(ledger.expired(hold.id).await.hold, hold);
        let today = ledger.take(5, &scope).await.unwrap();
        assert!(ledger.settle(&hold, 2).await, "it replaces the charge in all");
        assert!(!ledger.settle(&hold, 2).await);
        // The one that was given back is billed after all.
        assert!(ledger.settle(&other, 1).await);
        assert_eq!(ledger.sums(&scope).await, (0, 5), "{window} {first}");
        assert_eq!(ledger.sums(&total).await, (3, 0), "{window} {first}");
        (subject.set_clock)(at(last));
        assert_eq!(ledger.sums(&scope).await, (0, 5), "the newest window stands");
        ledger.settle(&today, 5).await;
        assert_eq!(ledger.sums(&scope).await, (5, 0));
    }
}

/// What nobody has reserved is charged when it is met.
pub async fn an_id_never_seen_is_charged_to_the_present_window(subject: Subject) {
    let ledger = subject.begin("2026-11-22T23:59:59Z");
    let scope = ledger.scope_per(10, Window::Day);
    let (unseen, overtaken) = (
        ledger.hold(3, std::slice::from_ref(&scope)),
        ledger.hold(3, std::slice::from_ref(&scope)),
    );
    assert!(ledger.take(9, &scope).await.is_some());
    ledger.store.release(overtaken.id).await.unwrap();
    (subject.set_clock)(at("2026-11-23T00:00:00Z"));
    assert!(ledger.settle(&unseen, 2).await);
    assert!(ledger.settle(&overtaken, 3).await);
    assert_eq!(ledger.sums(&scope).await, (5, 0));
    assert!(!ledger.settle(&unseen, 2).await);
    assert_eq!(ledger.take(6, &scope).await, None);
}

/// A clock that goes back, by a little or by a year, gives nobody an empty window: the newest one seen goes on.
pub async fn a_clock_that_steps_back_opens_no_older_window_anew(subject: Subject) {
    for (window, last, first) in EDGES {
        let ledger = subject.begin(last);
        let scope = ledger.scope_per(10, window);
        let before = ledger.take(1, &scope).await.unwrap();
        ledger.settle(&before, 1).await;
        (subject.set_clock)(at(first));
        let hold = ledger.take(7, &scope).await.unwrap();
        for back in [last, "2025-01-01T00:00:00Z"] {
            (subject.set_clock)(at(back));
            assert_eq!(ledger.sums(&scope).await, (0, 7), "{window} {back}");
            assert_eq!(ledger.take(4, &scope).await, None, "{window} {back}");
        }
        assert!(ledger.take(3, &scope).await.is_some());
        ledger.settle(&hold, 7).await;
        (subject.set_clock)(at(first));
        assert_eq!(ledger.sums(&scope).await, (7, 3));
    }
}

/// The cap of a day and the cap of all time on one key: a call must fit both, and each has its own sums.
pub async fn two_windows_of_one_key_hold_at_once(subject: Subject) {
    let ledger = subject.begin("2026-11-22T12:00:00Z");
    let total = ledger.scope(15);
    let mut day = total.clone().per(Window::Day);
    day.cap = Some(usd(10));
    let both = [total.clone(), day.clone()];
    let first = ledger.hold(10, &both);
    assert!(ledger.granted(&first).await);
    let Reserve::Refused(refused) = ledger.store.reserve(&ledger.hold(1, &both)).await.unwrap() else {
        panic!("granted")
    };
    assert_eq!((refused.balance.window, refused.cap), (Window::Day, usd(10)));
    ledger.settle(&first, 10).await;
    (subject.set_clock)(at("2026-11-23T12:00:00Z"));
    assert_eq!(
        (ledger.sums(&total).await, ledger.sums(&day).await),
        ((10, 0), (0, 0))
    );
    let Reserve::Refused(refused) = ledger.store.reserve(&ledger.hold(6, &both)).await.unwrap() else {
        panic!("granted")
    };
    assert_eq!((refused.balance.window, refused.cap), (Window::Total, usd(15)));
    assert!(ledger.granted(&ledger.hold(5, &both)).await);
    assert_eq!(
        (ledger.sums(&total).await, ledger.sums(&day).await),
        ((10, 5), (0, 5))
    );
}

/// A hold stands as long as its lease and not a microsecond longer; one without an end stands for ever.
pub async fn a_lease_goes_by_the_clock_of_the_store(subject: Subject) {
    let ledger = subject.begin("2026-11-22T12:00:00Z");
    let scope = ledger.scope(100);
    let lasting = |lease, amount| Hold {
        lease,
        ..ledger.hold(amount, std::slice::from_ref(&scope))
    };
    let (short, renewed, endless) = (
        lasting(Duration::from_mins(1), 1),
        lasting(Duration::from_mins(1), 2),
        lasting(Duration::MAX, 4),
    );
    for hold in [&short, &renewed, &endless] {
        assert!(ledger.granted(hold).await);
    }
    (subject.set_clock)(at("2026-11-22T12:00:30Z"));
    ledger
        .store
        .renew(renewed.id, Duration::from_mins(1))
        .await
        .unwrap();
    ledger
        .store
        .renew(endless.id, Duration::from_mins(1))
        .await
        .unwrap();
    let expired = async |moment: &str| -> Vec<ReservationId> {
        (subject.set_clock)(at(moment));
        let expired = ledger.store.expire(10).await.unwrap();
        ledger.confirm(&expired).await;
        expired.into_iter().map(|expired| expired.hold.id).collect()
    };
    assert_eq!(expired("2026-11-22T12:01:00Z").await, []);
    assert_eq!(expired("2026-11-22T12:01:00.001Z").await, [short.id]);
    assert_eq!(expired("2026-11-22T12:01:30Z").await, []);
    assert_eq!(expired("2026-11-22T12:01:30.001Z").await, [renewed.id]);
    assert_eq!(expired("9999-12-31T23:59:59.999999Z").await, []);
    assert_eq!(ledger.sums(&scope).await, (3, 4));
    assert!(ledger.settle(&endless, 1).await);
    assert_eq!(ledger.sums(&scope).await, (4, 0));
}

/// Whoever was given an expired hold may die before its line is written. So it is given to the next who asks, when the time
/// to confirm it has passed, and charged once all the same; once it is confirmed, never again.
pub async fn an_expired_hold_comes_again_until_its_line_is_confirmed(subject: Subject) {
    let begin = "2026-11-22T12:00:00Z";
    let ledger = subject.begin(begin);
    let after = |time: Duration| (subject.set_clock)(at(begin).saturating_add(time));
    let scopes = [ledger.scope_per(100, Window::Day).soft(usd(5)), ledger.scope(100)];
    let short = |amount: u64| Hold {
        lease: Duration::from_secs(1),
        ..ledger.hold(amount, &scopes)
    };
    let (first, second) = (short(6), short(7));
    assert!(ledger.granted(&first).await && ledger.granted(&second).await);
    let mut now = Duration::from_secs(2);
    after(now);
    let expired = async |limit: usize| {
        let mut found = ledger.store.expire(limit).await.unwrap();
        found.sort_by_key(|expired| expired.hold.id);
        found
    };
    let mut both = [first.clone(), second.clone()];
    both.sort_by_key(|hold| hold.id);
    let holds =
        |expired: &[Expired]| -> Vec<Hold> { expired.iter().map(|expired| expired.hold.clone()).collect() };
    assert_eq!(holds(&expired(10).await), both);
    for round in 0..3 {
        now += CONFIRM_WITHIN;
        after(now);
        assert_eq!(expired(10).await, [], "there is time left in round {round}");
        now += Duration::from_micros(1);
        after(now);
        let again = expired(10).await;
        assert_eq!(holds(&again), both);
        for one in &again {
            let sums: Vec<_> = one
                .balances
                .iter()
                .map(|sums| (sums.spent, sums.reserved))
                .collect();
            assert_eq!(sums, [(usd(13), usd(0)), (usd(13), usd(0))], "charged once");
        }
    }
    // One is confirmed, by whomever, and once more; so is one that nobody has ever seen.
    let unseen = Written {
        id: ledger.ids.reservation(at(begin)),
        charged: usd(6),
    };
    for _ in 0..2 {
        ledger.store.confirm(&[written(&first, 6), unseen]).await.unwrap();
    }
    ledger.store.confirm(&[]).await.unwrap();
    now += CONFIRM_WITHIN + Duration::from_micros(1);
    after(now);
    assert_eq!(holds(&expired(10).await), std::slice::from_ref(&second));
    // A settlement that came late replaces the charge; the line is owed all the same.
    assert!(ledger.settle(&second, 3).await);
    now += CONFIRM_WITHIN + Duration::from_micros(1);
    after(now);
    let again = expired(10).await;
    assert_eq!(holds(&again), std::slice::from_ref(&second));
    assert_eq!(again[0].balances[1].spent, usd(9));
    ledger.store.confirm(&[written(&second, 3)]).await.unwrap();
    now += Duration::from_hours(9);
    after(now);
    assert_eq!(expired(10).await, []);
    assert_eq!(ledger.sums(&scopes[1]).await, (9, 0));
    // Confirming says nothing of a hold that stands.
    let standing = ledger.hold(8, &scopes);
    assert!(ledger.granted(&standing).await);
    ledger.store.confirm(&[written(&standing, 8)]).await.unwrap();
    assert_eq!(ledger.sums(&scopes[1]).await, (9, 8));
}

/// Whoever settled a call may die before its line is written. Where holds outlive their process the next who asks is given it
/// when the time to confirm it has passed, at what it was settled at and without being charged again; once it is confirmed,
/// never again. A store that is gone with its process keeps nothing of it.
pub async fn a_settled_hold_is_given_out_at_its_cost_until_its_line_is_confirmed(subject: Subject) {
    let begin = "2026-11-22T12:00:00Z";
    let ledger = subject.begin(begin);
    let after = |time: Duration| (subject.set_clock)(at(begin).saturating_add(time));
    let scopes = [ledger.scope_per(100, Window::Day).soft(usd(5)), ledger.scope(100)];
    let lasting = |lease: Duration| Hold {
        lease,
        ..ledger.hold(9, &scopes)
    };
    // However long its lease would have been.
    let owing = [Duration::from_secs(1), Duration::from_mins(10), Duration::MAX].map(lasting);
    let quiet = lasting(Duration::from_secs(1));
    for hold in owing.iter().chain([&quiet]) {
        assert!(ledger.granted(hold).await);
    }
    for hold in &owing {
        assert!(ledger.settle_owing(hold, 4).await);
        assert!(!ledger.settle(hold, 4).await && !ledger.settle_owing(hold, 5).await);
        // What ended is not renewed, not released and not held again.
        ledger
            .store
            .renew(hold.id, Duration::from_hours(1))
            .await
            .unwrap();
        ledger.store.release(hold.id).await.unwrap();
        assert!(ledger.store.reserve(hold).await.is_err());
    }
    assert!(ledger.settle(&quiet, 2).await && !ledger.settle_owing(&quiet, 2).await);
    assert_eq!(ledger.sums(&scopes[1]).await, (14, 0));
    let mut holds = owing.to_vec();
    holds.sort_by_key(|hold| hold.id);
    let expired = async || {
        let mut found = ledger.store.expire(10).await.unwrap();
        found.sort_by_key(|expired| expired.hold.id);
        found
    };
    let mut now = Duration::ZERO;
    for round in 0..3 {
        now += CONFIRM_WITHIN;
        after(now);
        assert_eq!(expired().await, [], "there is time left in round {round}");
        now += Duration::from_micros(1);
        after(now);
        let given = expired().await;
        if !ledger.store.is_durable() {
            assert_eq!(given, []);
            continue;
        }
        assert_eq!(
            given.iter().map(|one| one.hold.clone()).collect::<Vec<_>>(),
            holds
        );
        for one in &given {
            assert_eq!((one.charged, one.is_settled), (usd(4), true));
            let sums: Vec<_> = one
                .balances
                .iter()
                .map(|sums| (sums.spent, sums.reserved))
                .collect();
            assert_eq!(sums, [(usd(14), usd(0)), (usd(14), usd(0))], "charged once");
        }
    }
    // A line of another charge is not the one that is owed.
    let [first, rest @ ..] = &holds[..] else { panic!() };
    ledger
        .store
        .confirm(&[written(first, 9), written(&rest[0], 4)])
        .await
        .unwrap();
    now += CONFIRM_WITHIN + Duration::from_micros(1);
    after(now);
    if ledger.store.is_durable() {
        let given: Vec<_> = expired().await.iter().map(|one| one.hold.id).collect();
        assert_eq!(given, [first.id, rest[1].id]);
    }
    for _ in 0..2 {
        ledger
            .store
            .confirm(&[written(first, 4), written(&rest[1], 4)])
            .await
            .unwrap();
    }
    now += Duration::from_hours(9);
    after(now);
    assert_eq!(expired().await, []);
    assert_eq!(ledger.sums(&scopes[1]).await, (14, 0));
}

/// A call that was given up and charged in full may be settled after all, when somebody has been given its line, and even when
/// that is confirmed. What is given out next is what it did cost.
pub async fn a_late_settlement_changes_the_charge_whose_line_is_owed(subject: Subject) {
    let begin = "2026-11-22T12:00:00Z";
    let ledger = subject.begin(begin);
    let scope = ledger.scope(100);
    let mut now = at(begin);
    let mut later = |time: Duration| {
        now = now.saturating_add(time);
        (subject.set_clock)(now);
    };
    let a_little = Duration::from_micros(1);
    let [plain, owing, confirmed, forgotten] = [(); 4].map(|()| Hold {
        lease: Duration::from_secs(1),
        ..ledger.hold(9, std::slice::from_ref(&scope))
    });
    for hold in [&plain, &owing, &confirmed, &forgotten] {
        assert!(ledger.granted(hold).await);
    }
    later(Duration::from_secs(1) + a_little);
    let given = ledger.store.expire(10).await.unwrap();
    assert!(
        given.len() == 4
            && given
                .iter()
                .all(|one| (one.charged, one.is_settled) == (usd(9), false))
    );
    let lines = [&confirmed, &forgotten].map(|hold| written(hold, 9));
    ledger.store.confirm(&lines).await.unwrap();
    later(CONFIRM_WITHIN / 2);
    for (hold, cost) in [(&plain, 2), (&forgotten, 5)] {
        assert!(ledger.settle(hold, cost).await);
    }
    for (hold, cost) in [(&owing, 3), (&confirmed, 4)] {
        assert!(ledger.settle_owing(hold, cost).await);
        assert!(!ledger.settle_owing(hold, cost).await);
    }
    assert_eq!(ledger.sums(&scope).await, (14, 0));
    // The lines of those who were given them first come now: they tell of charges that stand no more.
    ledger
        .store
        .confirm(&[&plain, &owing].map(|hold| written(hold, 9)))
        .await
        .unwrap();
    let expired = async || -> Vec<(Hold, u64)> {
        let mut found = ledger.store.expire(10).await.unwrap();
        found.sort_by_key(|one| one.hold.id);
        assert!(
            found
                .iter()
                .all(|one| one.is_settled && one.balances[0].spent == usd(14))
        );
        found
            .into_iter()
            .map(|one| (one.hold, one.charged.as_nanos()))
            .collect()
    };
    later(CONFIRM_WITHIN / 2 + a_little);
    assert_eq!(expired().await, [(plain.clone(), 2)], "since it was given");
    later(CONFIRM_WITHIN / 2);
    let mut expected = vec![(owing.clone(), 3)];
    if ledger.store.is_durable() {
        expected.push((confirmed.clone(), 4));
        expected.sort_by_key(|(hold, _)| hold.id);
    }
    assert_eq!(expired().await, expected, "since they were settled");
    let lines = [(&plain, 2), (&owing, 3), (&confirmed, 4)].map(|(hold, cost)| written(hold, cost));
    ledger.store.confirm(&lines).await.unwrap();
    later(Duration::from_hours(9));
    assert_eq!(expired().await, []);
}

/// Many who ask at once, and no more than they ask for: each line is owed by one of them, the first time and the next.
pub async fn of_those_whose_lines_are_owed_each_is_given_to_one_caller(subject: Subject) {
    let begin = "2026-11-22T12:00:00Z";
    let ledger = Arc::new(subject.begin(begin));
    let scope = ledger.scope(1_000);
    let mut made: Vec<(ReservationId, u64)> = Vec::new();
    for turn in 0..60 {
        let hold = Hold {
            lease: Duration::from_secs(1),
            ..ledger.hold(5, std::slice::from_ref(&scope))
        };
        assert!(ledger.granted(&hold).await);
        let is_settled = turn % 2 == 0 && ledger.store.is_durable();
        if is_settled {
            assert!(ledger.settle_owing(&hold, 3).await);
        }
        made.push((hold.id, if is_settled { 3 } else { 5 }));
    }
    made.sort_unstable();
    for round in 1..=3_u32 {
        (subject.set_clock)(at(begin).saturating_add((CONFIRM_WITHIN + Duration::from_secs(2)) * round));
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let ledger = ledger.clone();
                tokio::spawn(async move {
                    let mut given = Vec::new();
                    loop {
                        let some = ledger.store.expire(4).await.unwrap();
                        assert!(some.len() <= 4);
                        if some.is_empty() {
                            return given;
                        }
                        given.extend(some.into_iter().map(|one| (one.hold.id, one.charged.as_nanos())));
                    }
                })
            })
            .collect();
        let mut given = Vec::new();
        for caller in callers {
            given.extend(caller.await.unwrap());
        }
        given.sort_unstable();
        assert_eq!(given, made, "round {round}");
    }
    let line = |(id, charged): &(ReservationId, u64)| Written {
        id: *id,
        charged: usd(*charged),
    };
    ledger
        .store
        .confirm(&made.iter().map(line).collect::<Vec<_>>())
        .await
        .unwrap();
    (subject.set_clock)(at("2026-11-22T23:00:00Z"));
    assert_eq!(ledger.store.expire(100).await.unwrap(), []);
    let charged = made.iter().map(|(_, charged)| charged).sum();
    assert_eq!(ledger.sums(&scope).await, (charged, 0));
}

/// A window of events slides: each is forgotten when it is as old as the window. A clock that goes back forgets none.
pub async fn an_event_is_forgotten_when_its_time_has_passed(subject: Subject) {
    let ledger = subject.begin("2026-11-22T12:00:00Z");
    let hit = Hit {
        key: ScopeKey::session(&ledger.ids.session()),
        limit: 2,
        within: Some(Duration::from_mins(1)),
    };
    let counted = async |moment: &str| {
        (subject.set_clock)(at(moment));
        let hits = ledger.store.hit(&hit).await.unwrap();
        (hits.count, hits.is_allowed)
    };
    assert_eq!(counted("2026-11-22T12:00:00Z").await, (1, true));
    assert_eq!(counted("2026-11-22T12:00:40Z").await, (2, true));
    assert_eq!(counted("2026-11-22T12:00:59.999Z").await, (2, false));
    assert_eq!(counted("2026-11-22T12:01:00Z").await, (2, true));
    assert_eq!(counted("2026-11-22T12:01:00Z").await, (2, false));
    assert_eq!(counted("2026-11-22T11:00:00Z").await, (2, false));
    assert_eq!(counted("2026-11-22T12:01:40Z").await, (2, true));
    assert_eq!(counted("2026-11-22T12:02:00Z").await, (2, true));
    // What comes while the clock is back counts as long as if it had come last.
    let hit = Hit {
        key: ScopeKey::session(&ledger.ids.session()),
        ..hit
    };
    let counted = async |moment: &str| {
        (subject.set_clock)(at(moment));
        let hits = ledger.store.hit(&hit).await.unwrap();
        (hits.count, hits.is_allowed)
    };
    assert_eq!(counted("2026-11-22T14:00:00Z").await, (1, true));
    assert_eq!(counted("2026-11-22T13:30:00Z").await, (2, true));
    assert_eq!(counted("2026-11-22T13:45:00Z").await, (2, false));
    assert_eq!(counted("2026-11-22T14:00:59.999999Z").await, (2, false));
    assert_eq!(counted("2026-11-22T14:01:00Z").await, (1, true));
}

/// A long random history of every operation, with a clock that jumps forward and back over the edges of the calendar, answers
/// and ends as a plain reference does.
pub async fn any_history_with_windows_agrees_with_a_plain_reference(subject: Subject) {
    for seed in 1..=12 {
        history(&subject, seed).await;
    }
}

#[expect(clippy::too_many_lines, reason = "one arm for each operation")]
async fn history(subject: &Subject, seed: u64) {
    let mut random = Random(seed);
    let mut now = at("2028-02-28T23:59:00Z").saturating_add(Duration::from_hours(seed * 24));
    let mut newest = now;
    (subject.set_clock)(now);
    let ledger = Ledger::new(subject.store.clone());
    let mut reference = Reference::new(ledger.store.is_durable());
    let keys = [(); 3].map(|()| ScopeKey::session(&ledger.ids.session()));
    let mut live: Vec<Hold> = Vec::new();
    for step in 0..200 {
        let what = random.below(100);
        let some = usize::try_from(random.below(1 << 20)).unwrap();
        let known = some.checked_rem(live.len()).and_then(|at| live.get(at)).cloned();
        match (what, known) {
            (0..40, _) => {
                let mut scopes: Vec<Scope> = Vec::new();
                for key in &keys {
                    for window in Window::ALL {
                        if random.below(4) == 0 {
                            let cap = (random.below(5) > 0).then(|| usd(random.below(1_000)));
                            let scope = Scope {
                                key: key.clone(),
                                window,
                                cap,
                                soft_cap: None,
                            };
                            scopes.push(scope);
                        }
                    }
                }
                let hold = Hold {
                    lease: [Duration::from_secs(50), Duration::from_hours(30), Duration::MAX]
                        [usize::try_from(random.below(3)).unwrap()],
                    ..ledger.hold(random.below(200), &scopes)
                };
                check_reserve(&ledger, &mut reference, &hold, now).await;
                live.push(hold);
            }
            (40..45, Some(hold)) => check_reserve(&ledger, &mut reference, &hold, now).await,
            (45..65, Some(hold)) => {
                let settlement = settlement(&hold, random.below(250), random.below(2) == 0);
                let settled = ledger.store.settle(&settlement).await.unwrap();
                assert_eq!(
                    settled.applied,
                    reference.settle(&settlement, now),
                    "seed {seed}, {step}"
                );
            }
            (65..70, Some(hold)) => {
                ledger.store.release(hold.id).await.unwrap();
                reference.release(hold.id);
            }
            (70..73, Some(hold)) => {
                ledger.store.renew(hold.id, Duration::from_mins(2)).await.unwrap();
                reference.renew(hold.id, Duration::from_mins(2), now);
            }
            (73..80, _) => {
                let confirms = random.below(3) > 0;
                let mut expired: Vec<(Written, bool)> = Vec::new();
                loop {
                    let some = ledger.store.expire(7).await.unwrap();
                    if confirms {
                        ledger.confirm(&some).await;
                    }
                    if some.is_empty() {
                        break;
                    }
                    expired.extend(some.iter().map(|one| (one.written(), one.is_settled)));
                }
                // Those of an earlier history come with them.
                expired.retain(|(line, _)| live.iter().any(|hold| hold.id == line.id));
                expired.sort_by_key(|(line, _)| line.id);
                assert_eq!(expired, reference.expire(now), "seed {seed}, {step}");
                for (line, _) in expired.into_iter().filter(|_| confirms) {
                    reference.confirm(line);
                }
            }
            (80, _) if step > 150 => {
                let key = &keys[some % keys.len()];
                ledger.store.close(key).await.unwrap();
                reference.close(key);
            }
            // Events that were old at the latest moment seen may be forgotten, so no older one is asked about.
            (81..90, _) if now >= newest => {
                let hit = Hit {
                    key: keys[some % keys.len()].clone(),
                    limit: 5,
                    within: Some(Duration::from_mins(3)),
                };
                let hits = ledger.store.hit(&hit).await.unwrap();
                let (count, is_allowed) = reference.hit(&hit, now);
                assert_eq!(
                    (usize::try_from(hits.count).unwrap(), hits.is_allowed),
                    (count, is_allowed),
                    "seed {seed}, {step}"
                );
            }
            _ => {
                let far = [1, 40, 4_000, 90_000, 2_700_000][some % 5];
                let seconds = i64::try_from(random.below(far)).unwrap();
                let back = random.below(4) == 0;
                let to = now.as_unix_seconds() + if back { -seconds } else { seconds };
                now = Timestamp::from_unix_seconds(to);
                newest = newest.max(now);
                (subject.set_clock)(now);
            }
        }
        for key in &keys {
            for window in Window::ALL {
                let scope = Scope::capped(key.clone(), usd(1)).per(window);
                assert_eq!(
                    ledger.sums(&scope).await,
                    reference.sums(&scope, now),
                    "seed {seed}, {step}: {key} {window}"
                );
            }
        }
    }
}

async fn check_reserve(ledger: &Ledger, reference: &mut Reference, hold: &Hold, now: Timestamp) {
    let answer = match ledger.store.reserve(hold).await {
        Ok(Reserve::Granted(_)) => Answer::Granted,
        Ok(Reserve::Refused(_)) => Answer::Refused,
        Err(_) => Answer::Error,
    };
    assert_eq!(answer, reference.reserve(hold, now));
}
