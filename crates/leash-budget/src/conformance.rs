//! The laws of [`BudgetStore`]. Each is one function; [`budget_store_conformance!`](crate::budget_store_conformance)
//! makes a named test of each for a store.
//!
//! The laws make scopes of their own, so they may share one persistent store. They panic where a law is broken.
#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "laws are tests: a broken one panics"
)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use leash_core::{Caller, Clock as _, Digest, IdGenerator, ReservationId, SessionId, SystemClock, Usd};

use crate::{Balance, BudgetStore, Expired, Held, Hold, HoldLine, Reserve, Scope, ScopeKey, Settlement};

/// Makes one `#[tokio::test]` per law for the store that the expression gives (an `Arc<dyn BudgetStore>`).
#[macro_export]
macro_rules! budget_store_conformance {
    ($name:ident, $store:expr) => {
        mod $name {
            use super::*;
            $crate::budget_store_conformance!(@laws $store,
                racing_callers_stay_within_the_cap
                an_amount_is_set_aside_in_every_scope_or_in_none
                the_same_hold_twice_is_one
                settling_twice_charges_once
                what_is_released_is_available_again_once
                a_release_that_overtakes_its_reserve_leaves_nothing_held
                an_expired_hold_is_charged_in_full_and_handed_to_one_caller
                a_late_settlement_replaces_the_charge_once
                the_cap_may_be_spent_exactly_and_a_cap_of_zero_allows_nothing
                a_bill_above_the_bound_is_kept_and_admits_nothing_more
                a_renewed_hold_does_not_expire
                any_history_agrees_with_a_plain_reference
            );
        }
    };
    (@laws $store:expr, $($law:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $law() {
                $crate::conformance::$law($store.await).await;
            }
        )*
    };
}

struct Ledger {
    store: Arc<dyn BudgetStore>,
    ids: IdGenerator,
}

const LONG: Duration = Duration::from_hours(1);

impl Ledger {
    fn new(store: Arc<dyn BudgetStore>) -> Self {
        Self {
            store,
            ids: IdGenerator::from_os(),
        }
    }

    fn scope(&self, cap: u64) -> Scope {
        Scope {
            key: ScopeKey::session(&self.ids.session()),
            cap: usd(cap),
        }
    }

    fn hold(&self, amount: u64, scopes: &[Scope]) -> Hold {
        Hold {
            id: self.ids.reservation(SystemClock.now()),
            amount: usd(amount),
            scopes: scopes.into(),
            lease: LONG,
            line: HoldLine {
                what: Held::Model {
                    provider: "openai".into(),
                    model: "gpt-4o".into(),
                },
                caller: Caller::session(SessionId::new("s_law").unwrap()),
                request_digest: Digest::EMPTY,
            },
        }
    }

    async fn granted(&self, hold: &Hold) -> bool {
        matches!(self.store.reserve(hold).await.unwrap(), Reserve::Granted(_))
    }

    async fn settle(&self, hold: &Hold, amount: u64) -> bool {
        let settlement = Settlement {
            id: hold.id,
            amount: usd(amount),
            scopes: hold.scopes.clone(),
        };
        self.store.settle(&settlement).await.unwrap().applied
    }

    /// (spent, reserved) in nano-dollars.
    async fn sums(&self, scope: &Scope) -> (u64, u64) {
        let balances = self
            .store
            .balances(std::slice::from_ref(&scope.key))
            .await
            .unwrap();
        let [Balance { key, spent, reserved }] = balances.as_slice() else {
            panic!("one key, one balance")
        };
        assert_eq!(key, &scope.key);
        (spent.as_nanos(), reserved.as_nanos())
    }

    /// Asks until the hold has expired; other laws' holds may come with it.
    async fn expired(&self, id: ReservationId) -> Expired {
        loop {
            let expired = self.store.expire(1000).await.unwrap();
            if let Some(found) = expired.into_iter().find(|expired| expired.hold.id == id) {
                return found;
            }
            tokio::task::yield_now().await;
        }
    }
}

fn usd(nanos: u64) -> Usd {
    Usd::from_nanos(nanos).unwrap()
}

/// However many callers race, what is granted stays within the cap, at every instant.
pub async fn racing_callers_stay_within_the_cap(store: Arc<dyn BudgetStore>) {
    let ledger = Arc::new(Ledger::new(store));
    let scopes = [ledger.scope(1_000), ledger.scope(700)];
    let tasks: Vec<_> = (0..64_u64)
        .map(|task| {
            let (ledger, scopes) = (ledger.clone(), scopes.clone());
            tokio::spawn(async move {
                let mut charged = 0;
                for turn in 0..20_u64 {
                    let amount = (task * 7 + turn * 13) % 40 + 1;
                    let hold = ledger.hold(amount, &scopes);
                    let Reserve::Granted(balances) = ledger.store.reserve(&hold).await.unwrap() else {
                        continue;
                    };
                    for (balance, scope) in balances.iter().zip(&scopes) {
                        let sum = balance.spent.checked_add(balance.reserved).unwrap();
                        assert!(sum <= scope.cap, "{sum} of {}", scope.cap);
                    }
                    tokio::task::yield_now().await;
                    if turn % 3 == 0 {
                        ledger.store.release(hold.id).await.unwrap();
                    } else {
                        ledger.settle(&hold, amount / 2).await;
                        charged += amount / 2;
                    }
                }
                charged
            })
        })
        .collect();
    let mut charged = 0;
    for task in tasks {
        charged += task.await.unwrap();
    }
    for scope in &scopes {
        assert_eq!(ledger.sums(scope).await, (charged, 0));
    }
    assert!(charged > 0);
}

/// An amount that fits one scope and not the other is set aside in neither.
pub async fn an_amount_is_set_aside_in_every_scope_or_in_none(store: Arc<dyn BudgetStore>) {
    let ledger = Ledger::new(store);
    let (wide, narrow) = (ledger.scope(1_000), ledger.scope(10));
    let hold = ledger.hold(11, &[wide.clone(), narrow.clone()]);
    let Reserve::Refused(refused) = ledger.store.reserve(&hold).await.unwrap() else {
        panic!("granted")
    };
    assert_eq!(
        (refused.balance.key, refused.cap),
        (narrow.key.clone(), narrow.cap)
    );
    assert_eq!(
        (ledger.sums(&wide).await, ledger.sums(&narrow).await),
        ((0, 0), (0, 0))
    );
    assert!(
        ledger
            .granted(&ledger.hold(10, &[wide.clone(), narrow.clone()]))
            .await
    );
    assert_eq!(
        (ledger.sums(&wide).await, ledger.sums(&narrow).await),
        ((0, 10), (0, 10))
    );
}

/// A hold whose reply was lost may be asked for again; the same id for another amount is an error.
pub async fn the_same_hold_twice_is_one(store: Arc<dyn BudgetStore>) {
    let ledger = Ledger::new(store);
    let scope = ledger.scope(10);
    let hold = ledger.hold(6, std::slice::from_ref(&scope));
    assert!(ledger.granted(&hold).await && ledger.granted(&hold).await);
    assert_eq!(ledger.sums(&scope).await, (0, 6));
    let other = Hold {
        amount: usd(1),
        ..hold.clone()
    };
    assert!(ledger.store.reserve(&other).await.is_err());
    ledger.settle(&hold, 6).await;
    assert!(
        ledger.store.reserve(&hold).await.is_err(),
        "a hold that ended stands again"
    );
    assert_eq!(ledger.sums(&scope).await, (6, 0));
}

/// A settlement whose reply was lost may be sent again.
pub async fn settling_twice_charges_once(store: Arc<dyn BudgetStore>) {
    let ledger = Ledger::new(store);
    let scope = ledger.scope(10);
    let hold = ledger.hold(6, std::slice::from_ref(&scope));
    assert!(ledger.granted(&hold).await);
    assert!(ledger.settle(&hold, 4).await);
    assert!(!ledger.settle(&hold, 4).await);
    ledger.store.release(hold.id).await.unwrap();
    assert_eq!(ledger.sums(&scope).await, (4, 0));
}

/// What is released is available again, and only once.
pub async fn what_is_released_is_available_again_once(store: Arc<dyn BudgetStore>) {
    let ledger = Ledger::new(store);
    let scope = ledger.scope(10);
    let (first, second) = (
        ledger.hold(6, std::slice::from_ref(&scope)),
        ledger.hold(4, std::slice::from_ref(&scope)),
    );
    assert!(ledger.granted(&first).await && ledger.granted(&second).await);
    ledger.store.release(first.id).await.unwrap();
    ledger.store.release(first.id).await.unwrap();
    assert_eq!(ledger.sums(&scope).await, (0, 4));
    // Billed after all: the money is counted.
    assert!(ledger.settle(&first, 5).await);
    assert_eq!(ledger.sums(&scope).await, (5, 4));
}

/// A release that arrives first makes the reserve that it overtook fail.
pub async fn a_release_that_overtakes_its_reserve_leaves_nothing_held(store: Arc<dyn BudgetStore>) {
    let ledger = Ledger::new(store);
    let scope = ledger.scope(10);
    let hold = ledger.hold(6, std::slice::from_ref(&scope));
    ledger.store.release(hold.id).await.unwrap();
    assert!(ledger.store.reserve(&hold).await.is_err());
    assert_eq!(ledger.sums(&scope).await, (0, 0));
}

/// A hold whose lease has run out is charged in full, and one caller gets it to write its line.
pub async fn an_expired_hold_is_charged_in_full_and_handed_to_one_caller(store: Arc<dyn BudgetStore>) {
    let ledger = Ledger::new(store);
    let scope = ledger.scope(10);
    let hold = Hold {
        lease: Duration::from_millis(1),
        ..ledger.hold(6, std::slice::from_ref(&scope))
    };
    assert!(ledger.granted(&hold).await);
    let expired = ledger.expired(hold.id).await;
    assert_eq!(expired.hold, hold);
    assert_eq!(
        expired.balances.first().map(|balance| balance.spent),
        Some(usd(6))
    );
    assert_eq!(ledger.sums(&scope).await, (6, 0));
    let again = ledger.store.expire(1000).await.unwrap();
    assert!(again.iter().all(|other| other.hold.id != hold.id));
    ledger.store.release(hold.id).await.unwrap();
    assert_eq!(
        ledger.sums(&scope).await,
        (6, 0),
        "what was charged is not given back by a release"
    );
}

/// A settlement after expiry puts the real cost in the place of the charge, once.
pub async fn a_late_settlement_replaces_the_charge_once(store: Arc<dyn BudgetStore>) {
    let ledger = Ledger::new(store);
    let scope = ledger.scope(10);
    let hold = Hold {
        lease: Duration::from_millis(1),
        ..ledger.hold(6, std::slice::from_ref(&scope))
    };
    assert!(ledger.granted(&hold).await);
    ledger.expired(hold.id).await;
    assert!(ledger.settle(&hold, 2).await);
    assert!(!ledger.settle(&hold, 2).await);
    assert_eq!(ledger.sums(&scope).await, (2, 0));
}

/// Spending equal to the cap is allowed; a cap of 0 allows nothing, not even what is free.
pub async fn the_cap_may_be_spent_exactly_and_a_cap_of_zero_allows_nothing(store: Arc<dyn BudgetStore>) {
    let ledger = Ledger::new(store);
    let (scope, none) = (ledger.scope(10), ledger.scope(0));
    assert!(
        ledger
            .granted(&ledger.hold(10, std::slice::from_ref(&scope)))
            .await
    );
    assert!(
        ledger
            .granted(&ledger.hold(0, std::slice::from_ref(&scope)))
            .await
    );
    assert!(
        !ledger
            .granted(&ledger.hold(1, std::slice::from_ref(&scope)))
            .await
    );
    assert!(!ledger.granted(&ledger.hold(0, std::slice::from_ref(&none))).await);
    assert!(
        !ledger
            .granted(&ledger.hold(Usd::MAX.as_nanos(), std::slice::from_ref(&scope)))
            .await
    );
}

/// A provider that bills above the bound is charged for real, and nothing more is admitted.
pub async fn a_bill_above_the_bound_is_kept_and_admits_nothing_more(store: Arc<dyn BudgetStore>) {
    let ledger = Ledger::new(store);
    let scope = ledger.scope(10);
    let hold = ledger.hold(6, std::slice::from_ref(&scope));
    assert!(ledger.granted(&hold).await);
    ledger.settle(&hold, 17).await;
    assert_eq!(ledger.sums(&scope).await, (17, 0));
    assert!(
        !ledger
            .granted(&ledger.hold(0, std::slice::from_ref(&scope)))
            .await
    );
    // A bill beyond every amount fills the scope up; it is not lost.
    let unseen = ledger.hold(0, std::slice::from_ref(&scope));
    assert!(ledger.settle(&unseen, Usd::MAX.as_nanos()).await);
    assert_eq!(ledger.sums(&scope).await, (Usd::MAX.as_nanos(), 0));
}

/// A lease that was renewed counts from then.
pub async fn a_renewed_hold_does_not_expire(store: Arc<dyn BudgetStore>) {
    let ledger = Ledger::new(store);
    let scope = ledger.scope(10);
    let short = |amount| Hold {
        lease: Duration::from_millis(1),
        ..ledger.hold(amount, std::slice::from_ref(&scope))
    };
    let kept = Hold {
        lease: LONG,
        ..ledger.hold(6, std::slice::from_ref(&scope))
    };
    assert!(ledger.granted(&kept).await);
    ledger
        .store
        .renew(kept.id, Duration::from_millis(1))
        .await
        .unwrap();
    let lost = short(3);
    assert!(ledger.granted(&lost).await);
    ledger.expired(lost.id).await;
    assert_eq!(
        ledger.sums(&scope).await,
        (3, 6),
        "renewing never shortens a lease"
    );
    ledger
        .store
        .renew(ledger.ids.reservation(SystemClock.now()), LONG)
        .await
        .unwrap();
}

/// A long random history of every operation ends in the sums of a plain reference, and never passes a cap.
pub async fn any_history_agrees_with_a_plain_reference(store: Arc<dyn BudgetStore>) {
    for seed in 1..=20_u64 {
        history(&Ledger::new(store.clone()), seed).await;
    }
}

async fn history(ledger: &Ledger, seed: u64) {
    let scopes = [ledger.scope(500), ledger.scope(900), ledger.scope(2_000)];
    let mut reference: HashMap<ScopeKey, (u64, u64)> = HashMap::new();
    let mut live: Vec<Hold> = Vec::new();
    let mut random = Random(seed);
    for _ in 0..150 {
        match random.below(4) {
            0 | 1 => {
                let from = usize::try_from(random.below(3)).unwrap();
                let chosen: Vec<Scope> = scopes.iter().skip(from).cloned().collect();
                let hold = ledger.hold(random.below(120), &chosen);
                let fits = chosen.iter().all(|scope| {
                    let (spent, reserved) = reference.get(&scope.key).copied().unwrap_or_default();
                    spent + reserved + hold.amount.as_nanos() <= scope.cap.as_nanos()
                });
                assert_eq!(ledger.granted(&hold).await, fits);
                if fits {
                    for scope in &chosen {
                        reference.entry(scope.key.clone()).or_default().1 += hold.amount.as_nanos();
                    }
                    live.push(hold);
                }
            }
            turn => {
                let Some(at) = usize::try_from(random.below(1 << 20))
                    .unwrap()
                    .checked_rem(live.len())
                else {
                    continue;
                };
                let hold = live.swap_remove(at);
                let cost = if turn == 2 {
                    Some(random.below(hold.amount.as_nanos() + 1))
                } else {
                    None
                };
                match cost {
                    Some(cost) => assert!(ledger.settle(&hold, cost).await),
                    None => ledger.store.release(hold.id).await.unwrap(),
                }
                for scope in hold.scopes.iter() {
                    let sums = reference.entry(scope.key.clone()).or_default();
                    sums.1 -= hold.amount.as_nanos();
                    sums.0 += cost.unwrap_or(0);
                }
            }
        }
        for scope in &scopes {
            let expected = reference.get(&scope.key).copied().unwrap_or_default();
            assert_eq!(ledger.sums(scope).await, expected, "seed {seed}");
            assert!(expected.0 + expected.1 <= scope.cap.as_nanos());
        }
    }
}

/// A small generator (xorshift), so that a failing history can be run again from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(0x1234_5678_9abc_def1);
        let mut bits = self.0;
        bits ^= bits >> 29;
        bits = bits.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits ^= bits >> 32;
        bits % bound.max(1)
    }
}
