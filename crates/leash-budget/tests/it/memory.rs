//! The store in memory: all laws, and any sequence of operations against a plain reference, shrunk to the shortest that fails.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::replay::{self, Operation, Random, TASKS};
use futures_executor::block_on;
use leash_budget::conformance::{Answer, ManualClock, Reference, Subject};
use leash_budget::{
    BudgetAdmin, BudgetStore, Expired, Held, Hit, Hold, HoldLine, MemoryStore, Reserve, Scope, ScopeKey,
    Settlement, Window, Written, budget_admin_conformance, budget_store_clock_conformance,
    budget_store_conformance,
};
use leash_core::{Caller, Digest, IdGenerator, ReservationId, SessionId, SystemClock, Timestamp, Usd};
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

fn store() -> Arc<dyn BudgetStore> {
    Arc::new(MemoryStore::new(Arc::new(SystemClock)))
}

fn admin() -> Arc<dyn BudgetAdmin> {
    Arc::new(MemoryStore::new(Arc::new(SystemClock)))
}

fn subject() -> Subject {
    let clock = Arc::new(ManualClock::new(Timestamp::EPOCH));
    Subject {
        store: Arc::new(MemoryStore::new(clock.clone())),
        set_clock: Arc::new(move |now| clock.set(now)),
    }
}

budget_store_conformance!(laws, async { store() });
budget_store_clock_conformance!(time, async { subject() });
budget_admin_conformance!(administered, async { admin() });

/// Ten thousand calls of random size from 64 tasks: as for the stores that processes share.
#[test]
fn calls_of_64_tasks_stay_within_every_cap() {
    const CALLS: u64 = 157;
    const LARGEST: u64 = 1_000_000_000;
    let store = store();
    let all = 4 * TASKS * CALLS * LARGEST / 4;
    let mut random = Random(42);
    let scopes = ["session", "tenant", "team"].map(|kind| {
        let cap = Usd::from_nanos(all / 8 + random.below(all / 3)).unwrap();
        Scope::capped(ScopeKey::named(kind, "tasks"), cap)
    });
    let operations: Arc<Mutex<Vec<Operation>>> = Arc::default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .build()
        .unwrap();
    runtime.block_on(async {
        let ids = Arc::new(IdGenerator::from_os());
        let tasks: Vec<_> = (0..4 * TASKS)
            .map(|task| {
                let operations = operations.clone();
                tokio::spawn(replay::spend(
                    store.clone(),
                    ids.clone(),
                    scopes.clone(),
                    (task, 42),
                    (CALLS, LARGEST),
                    move |operation| operations.lock().unwrap().push(operation),
                ))
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    let operations = std::mem::take(&mut *operations.lock().unwrap());
    let operations = replay::in_order(operations);
    replay::assert_busy(&operations, 4 * TASKS * CALLS);
    let balances = block_on(store.balances(&scopes)).unwrap();
    let sums: Vec<_> = balances
        .iter()
        .map(|balance| (balance.spent.as_nanos(), balance.reserved.as_nanos()))
        .collect();
    assert_eq!(replay::replay(&operations, &scopes).to_vec(), sums);
}

const KEYS: [&str; 3] = ["session:a", "tenant:b", "global"];
const IDS: u128 = 24;

#[derive(Clone, Debug)]
enum Step {
    Reserve(Hold),
    Settle(Settlement),
    Release(ReservationId),
    Renew(ReservationId, Duration),
    /// With this limit; and whether those that come of it are confirmed.
    Expire(usize, bool),
    Confirm(Written),
    Close(ScopeKey),
    Reset(ScopeKey),
    Hit(Hit),
    SetClock(Timestamp),
}

#[derive(Clone, Debug)]
struct Model {
    reference: Reference,
    now: Timestamp,
    /// The latest that it ever was: events that were old then may be forgotten.
    newest: Timestamp,
    /// Where something has expired, a reset leaves to the store what a late settlement takes off.
    has_expired: bool,
}

fn key() -> impl Strategy<Value = ScopeKey> {
    prop::sample::select(&KEYS[..]).prop_map(ScopeKey::new)
}

fn id() -> impl Strategy<Value = ReservationId> {
    (0..IDS).prop_map(ReservationId::from_u128)
}

fn usd(most: u64) -> impl Strategy<Value = Usd> {
    (0..=most).prop_map(|nanos| Usd::from_nanos(nanos).unwrap())
}

fn scopes() -> impl Strategy<Value = Arc<[Scope]>> {
    let scope = (
        key(),
        prop::sample::select(&Window::ALL[..]),
        prop::option::weighted(0.8, usd(300)),
    );
    prop::collection::vec(scope, 0..6).prop_map(|scopes| {
        let mut once: Vec<Scope> = Vec::new();
        for (key, window, cap) in scopes {
            if once
                .iter()
                .all(|scope| (&scope.key, scope.window) != (&key, window))
            {
                once.push(Scope {
                    key,
                    window,
                    cap,
                    soft_cap: None,
                });
            }
        }
        once.into()
    })
}

fn lease() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (0..200_u64).prop_map(Duration::from_secs),
        (0..60_u64).prop_map(Duration::from_hours),
        Just(Duration::MAX),
    ]
}

/// Within the days around the end of a February that has 29, often at the very edge of a minute.
fn moment() -> impl Strategy<Value = Timestamp> {
    let start = "2028-02-27T12:00:00Z"
        .parse::<Timestamp>()
        .unwrap()
        .as_unix_micros();
    let minutes = 0..(5 * 24 * 60_i64);
    let within = prop_oneof![Just(0_i64), Just(59_999_999), 0..60_000_000_i64];
    (minutes, within).prop_map(move |(minutes, within)| {
        Timestamp::from_unix_micros(start + minutes * 60_000_000 + within).unwrap()
    })
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        moment()
            .prop_map(|now| Self {
                reference: Reference::default(),
                now,
                newest: now,
                has_expired: false,
            })
            .boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Step> {
        let now = state.now;
        let soon =
            (0..180_000_000_u64).prop_map(move |micros| now.saturating_add(Duration::from_micros(micros)));
        let hold = (id(), usd(150), scopes(), lease()).prop_map(|(id, amount, scopes, lease)| Hold {
            id,
            amount,
            scopes,
            lease,
            line: HoldLine {
                what: Held::Tool { tool: "t".into() },
                caller: Caller::session(SessionId::new("a").unwrap()),
                request_digest: Digest::EMPTY,
            },
        });
        let settlement =
            (id(), usd(200), scopes(), any::<bool>()).prop_map(|(id, amount, scopes, owes_line)| {
                Settlement {
                    id,
                    amount,
                    scopes,
                    owes_line,
                }
            });
        let hit = (key(), 0..6_u32, any::<bool>()).prop_map(|(key, limit, slides)| Hit {
            key: ScopeKey::named("hits", &format!("{key}{slides}")),
            limit,
            within: slides.then_some(Duration::from_mins(2)),
        });
        prop_oneof![
            8 => hold.prop_map(Step::Reserve),
            6 => settlement.prop_map(Step::Settle),
            2 => id().prop_map(Step::Release),
            1 => (id(), lease()).prop_map(|(id, lease)| Step::Renew(id, lease)),
            2 => (1..4_usize, any::<bool>()).prop_map(|(limit, confirms)| Step::Expire(limit, confirms)),
            1 => (id(), usd(200)).prop_map(|(id, charged)| Step::Confirm(Written { id, charged })),
            1 => key().prop_map(Step::Close),
            1 => key().prop_map(Step::Reset),
            2 => hit.prop_map(Step::Hit),
            3 => soon.prop_map(Step::SetClock),
            2 => moment().prop_map(Step::SetClock),
        ]
        .boxed()
    }

    fn preconditions(state: &Self, step: &Step) -> bool {
        match step {
            Step::Reset(_) => !state.has_expired,
            Step::Hit(_) => state.now >= state.newest,
            _ => true,
        }
    }

    fn apply(mut state: Self, step: &Step) -> Self {
        let now = state.now;
        match step {
            Step::Reserve(hold) => {
                state.reference.reserve(hold, now);
            }
            Step::Settle(settlement) => {
                state.reference.settle(settlement, now);
            }
            Step::Release(id) => state.reference.release(*id),
            Step::Renew(id, lease) => state.reference.renew(*id, *lease, now),
            Step::Expire(_, confirms) => {
                let expired = state.reference.expire(now);
                state.has_expired |= !expired.is_empty();
                for (line, _) in expired.into_iter().filter(|_| *confirms) {
                    state.reference.confirm(line);
                }
            }
            Step::Confirm(line) => state.reference.confirm(*line),
            Step::Close(key) => state.reference.close(key),
            Step::Reset(key) => state.reference.reset(key),
            Step::Hit(hit) => {
                state.reference.hit(hit, now);
            }
            Step::SetClock(to) => {
                state.now = *to;
                state.newest = state.newest.max(*to);
            }
        }
        state
    }
}

/// The store, and the reference as it was before the step, to see what each step answers.
struct Tested {
    store: MemoryStore,
    clock: Arc<ManualClock>,
    before: Model,
}

impl StateMachineTest for Tested {
    type SystemUnderTest = Self;
    type Reference = Model;

    fn init_test(model: &Model) -> Self {
        let clock = Arc::new(ManualClock::new(model.now));
        Self {
            store: MemoryStore::new(clock.clone()),
            clock,
            before: model.clone(),
        }
    }

    fn apply(mut tested: Self, after: &Model, step: Step) -> Self {
        let (store, now) = (&tested.store, tested.before.now);
        let reference = &mut tested.before.reference;
        match step {
            Step::Reserve(hold) => {
                let answer = match block_on(store.reserve(&hold)) {
                    Ok(Reserve::Granted(balances)) => {
                        assert_eq!(balances.len(), hold.scopes.len());
                        Answer::Granted
                    }
                    Ok(Reserve::Refused(_)) => Answer::Refused,
                    Err(_) => Answer::Error,
                };
                assert_eq!(answer, reference.reserve(&hold, now));
            }
            Step::Settle(settlement) => {
                let settled = block_on(store.settle(&settlement)).unwrap();
                assert_eq!(settled.applied, reference.settle(&settlement, now));
            }
            Step::Release(id) => block_on(store.release(id)).unwrap(),
            Step::Renew(id, lease) => block_on(store.renew(id, lease)).unwrap(),
            Step::Confirm(line) => block_on(store.confirm(&[line])).unwrap(),
            Step::Expire(limit, confirms) => {
                let mut all = Vec::new();
                loop {
                    let expired = block_on(store.expire(limit)).unwrap();
                    let given: Vec<_> = expired.iter().map(Expired::written).collect();
                    if confirms {
                        block_on(store.confirm(&given)).unwrap();
                    }
                    assert!(expired.len() <= limit);
                    if expired.is_empty() {
                        break;
                    }
                    all.extend(expired.iter().map(|one| (one.written(), one.is_settled)));
                }
                all.sort_by_key(|(line, _)| line.id);
                assert_eq!(all, reference.expire(now));
            }
            Step::Close(key) => {
                block_on(store.close(&key)).unwrap();
            }
            Step::Reset(key) => {
                block_on(store.reset(&key)).unwrap();
            }
            Step::Hit(hit) => {
                let hits = block_on(store.hit(&hit)).unwrap();
                let (count, is_allowed) = reference.hit(&hit, now);
                assert_eq!(
                    (usize::try_from(hits.count).unwrap(), hits.is_allowed),
                    (count, is_allowed)
                );
            }
            Step::SetClock(to) => tested.clock.set(to),
        }
        tested.before = after.clone();
        tested
    }

    fn check_invariants(tested: &Self, model: &Model) {
        for name in KEYS {
            for window in Window::ALL {
                let scope = Scope::capped(ScopeKey::new(name), Usd::ZERO).per(window);
                let balances = block_on(tested.store.balances(std::slice::from_ref(&scope))).unwrap();
                let sums = (balances[0].spent.as_nanos(), balances[0].reserved.as_nanos());
                assert_eq!(sums, model.reference.sums(&scope, model.now), "{name} {window}");
            }
        }
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_agrees_with_a_plain_reference_and_shrinks(sequential 1..120 => Tested);
}
