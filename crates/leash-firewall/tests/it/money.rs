//! Spent + reserved stays within every cap, and the log accounts for every cent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leash_budget::{BudgetStore, MemoryStore, ModelPrice, Price, PriceTable, Scope, ScopeKey};
use leash_core::{AgentName, Digest, Json, LeashError, ModelCall, TenantId, Usage, Usd, rule_ids};
use leash_firewall::{
    Admission, Answer, BuildError, Charge, Firewall, GuardedError, ModelAnswer, ModelFailure, Outcome, Over,
    Window,
};
use proptest::prelude::*;

use crate::support::{FaultyStore, HandClock, Log, builder, call, usd, used};

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_thousand_calls_at_once_stop_at_the_cap_and_all_are_in_the_log() {
    let log = Log::new();
    let firewall = builder().budget_usd(1.00).audit_log(log.path()).build().unwrap();
    let reached = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..1_000)
        .map(|_| {
            let (firewall, reached) = (firewall.clone(), reached.clone());
            tokio::spawn(async move {
                let admission = match firewall.admit(call(&firewall, 1)).await {
                    Ok(admission) => admission,
                    Err(error) => {
                        assert_eq!(error.rule_id(), rule_ids::PRE_CALL_ESTIMATE);
                        return false;
                    }
                };
                reached.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                admission.settle(used(1)).await;
                true
            })
        })
        .collect();
    let mut admitted = 0;
    for task in tasks {
        admitted += u64::from(task.await.unwrap());
    }
    assert_eq!(admitted, 100);
    assert_eq!(reached.load(Ordering::SeqCst), 100);
    assert_eq!(firewall.cumulative().await.unwrap(), usd("1.00"));
    firewall.close().await.unwrap();
    assert_eq!(log.of_kind("model_call").len(), 100);
    assert_eq!(log.of_kind("admitted").len(), 100);
    assert_eq!(log.refusals(), 900);
    assert_eq!(log.cost(), usd("1.00"));
    let cumulative: Vec<f64> = log
        .of_kind("model_call")
        .iter()
        .map(|line| line["cumulative_usd"].as_f64().unwrap())
        .collect();
    assert!(cumulative.iter().all(|sum| *sum <= 1.0) && cumulative.contains(&1.0));
}

/// Also what costs nothing: an agent whose provider bills above its bound, or who may spend nothing, does nothing more.
#[tokio::test]
async fn under_a_broken_cap_and_under_a_cap_of_zero_no_tool_runs_either() {
    let log = Log::new();
    let firewall = builder().budget_usd(0.05).audit_log(log.path()).build().unwrap();
    let run = async |firewall: &Firewall| {
        firewall
            .tool("clean_up", Json::null(), async |_| {
                Ok::<_, LeashError>(Json::null())
            })
            .await
    };
    let admission = firewall.admit(call(&firewall, 5)).await.unwrap();
    admission.settle(used(5)).await;
    assert!(run(&firewall).await.is_ok(), "a cap that is spent exactly holds");

    let charge = Charge {
        provider: "p".into(),
        model: "cent".into(),
        usage: Usage {
            output_tokens: 1,
            ..Usage::default()
        },
    };
    assert!(firewall.charge(charge).await.unwrap().broke_cap);
    let GuardedError::Refused(refused) = run(&firewall).await.unwrap_err() else {
        panic!("the tool ran");
    };
    assert_eq!(refused.rule_id(), rule_ids::HARD_CAP);
    firewall.close().await.unwrap();
    assert_eq!(log.refusals(), 1);

    let nothing = builder().budget_usd(0.0).build().unwrap();
    assert!(run(&nothing).await.is_err());
}

#[tokio::test]
async fn a_dropped_admission_is_charged_its_bound_and_the_log_says_unsettled() {
    let log = Log::new();
    let firewall = builder().budget_usd(1.00).audit_log(log.path()).build().unwrap();
    drop(firewall.admit(call(&firewall, 30)).await.unwrap());
    firewall.flush().await.unwrap();
    assert_eq!(firewall.cumulative().await.unwrap(), usd("0.30"));
    let line = &log.of_kind("model_call")[0];
    assert_eq!(
        (&line["outcome"], &line["usage"], &line["cost_usd"]),
        (&"unsettled".into(), &"estimated".into(), &0.3.into())
    );
}

#[tokio::test]
async fn a_closure_that_panics_is_charged_its_bound_and_the_log_says_unsettled() {
    let log = Log::new();
    let firewall = builder().budget_usd(1.00).audit_log(log.path()).build().unwrap();
    let panics = {
        let firewall = firewall.clone();
        tokio::spawn(async move {
            let run = async |_| -> Result<ModelAnswer<()>, ModelFailure<std::io::Error>> {
                tokio::task::yield_now().await;
                panic!("a bug in the client");
            };
            firewall.model(call(&firewall, 30), run).await
        })
    };
    assert!(panics.await.unwrap_err().is_panic());
    let blocking = firewall.blocking().unwrap();
    let panics = std::thread::spawn(move || {
        let run = |_| -> Result<ModelAnswer<()>, ModelFailure<std::io::Error>> { panic!("another") };
        drop(blocking.model(call(blocking.firewall(), 20), run));
    });
    assert!(panics.join().is_err());
    firewall.close().await.unwrap();
    let (_, balance) = firewall.balances().await.unwrap().remove(0);
    assert_eq!((balance.spent, balance.reserved), (usd("0.50"), Usd::ZERO));
    let lines = log.of_kind("model_call");
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line["outcome"] == "unsettled"));
}

#[tokio::test]
async fn a_settlement_whose_future_is_dropped_goes_through() {
    let log = Log::new();
    let store = FaultyStore::new(0);
    let firewall = builder()
        .budget_usd(1.00)
        .budget_store(store)
        .audit_log(log.path())
        .build()
        .unwrap();
    let admission = firewall.admit(call(&firewall, 30)).await.unwrap();
    {
        // The store yields once inside, so one poll leaves the settlement half-way.
        let mut settling = Box::pin(admission.settle(used(10)));
        let polled = futures_poll_once(settling.as_mut()).await;
        assert!(!polled, "the settlement was to be dropped half-way");
    }
    firewall.flush().await.unwrap();
    assert_eq!(firewall.cumulative().await.unwrap(), usd("0.10"));
    assert_eq!(log.cost(), usd("0.10"));
    assert_eq!(log.of_kind("model_call").len(), 1);
}

/// Whether the future is done after one poll.
async fn futures_poll_once(mut future: std::pin::Pin<&mut impl Future>) -> bool {
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_ready())).await
}

#[tokio::test]
async fn what_is_not_billed_is_given_back_and_logged_without_cost() {
    let log = Log::new();
    let firewall = builder().budget_usd(0.30).audit_log(log.path()).build().unwrap();
    for _ in 0..5 {
        let receipt = firewall.admit(call(&firewall, 30)).await.unwrap().fail().await;
        assert_eq!(receipt.cost, Usd::ZERO);
    }
    assert_eq!(firewall.cumulative().await.unwrap(), Usd::ZERO);
    let lines = log.of_kind("model_call");
    assert_eq!(lines.len(), 5);
    assert!(
        lines
            .iter()
            .all(|line| line["outcome"] == "error" && line["cost_usd"] == 0.0)
    );
}

#[tokio::test]
async fn a_call_that_breaks_the_cap_is_logged_and_nothing_more_is_admitted() {
    let log = Log::new();
    let firewall = builder()
        .budget_usd(0.50)
        .budget_soft_usd(0.10)
        .audit_log(log.path())
        .build()
        .unwrap();
    let receipt = firewall
        .admit(call(&firewall, 20))
        .await
        .unwrap()
        .settle(used(75))
        .await;
    assert!(receipt.broke_cap);
    assert_eq!(receipt.cumulative, usd("0.75"));
    let refused = firewall.admit(call(&firewall, 0)).await.unwrap_err();
    assert!(matches!(&refused, LeashError::Killed { rule_id, .. } if rule_id == rule_ids::HARD_CAP));
    let states: Vec<_> = log
        .of_kind("budget")
        .iter()
        .map(|line| line["decision"].clone())
        .collect();
    assert_eq!(states, ["hard_exceeded", "hard_exceeded"]);
    assert_eq!(log.of_kind("model_call")[0]["cost_usd"], 0.75);
}

#[tokio::test]
async fn each_change_of_state_is_told_once_and_a_cap_may_be_spent_exactly() {
    let log = Log::new();
    let firewall = builder()
        .budget_usd(0.50)
        .budget_soft_usd(0.10)
        .audit_log(log.path())
        .build()
        .unwrap();
    for _ in 0..5 {
        firewall
            .admit(call(&firewall, 10))
            .await
            .unwrap()
            .settle(used(10))
            .await;
    }
    let states: Vec<_> = log
        .of_kind("budget")
        .iter()
        .map(|line| line["decision"].clone())
        .collect();
    assert_eq!(states, ["soft_exceeded"]);
    assert_eq!(
        firewall.admit(call(&firewall, 1)).await.unwrap_err().rule_id(),
        rule_ids::PRE_CALL_ESTIMATE
    );
}

#[tokio::test]
async fn every_scope_is_charged_and_the_narrowest_decides() {
    let extra = Scope::capped(ScopeKey::named("team", "search"), usd("0.60"));
    let firewall = builder()
        .tenant_id(TenantId::new("acme").unwrap())
        .agent_name(AgentName::new("researcher").unwrap())
        .budget(usd("1.00"))
        .tenant_budget(usd("0.90"))
        .agent_budget(usd("0.80"))
        .global_budget(usd("0.70"))
        .scope(extra)
        .build()
        .unwrap();
    firewall
        .admit(call(&firewall, 50))
        .await
        .unwrap()
        .settle(used(50))
        .await;
    let balances = firewall.balances().await.unwrap();
    assert_eq!(balances.len(), 5);
    assert!(
        balances
            .iter()
            .all(|(_, balance)| balance.spent == usd("0.50") && balance.reserved.is_zero())
    );
    let refused = firewall.admit(call(&firewall, 11)).await.unwrap_err();
    assert!(refused.reason().contains("team:search"), "{}", refused.reason());
    // Another session has a budget of its own and shares the rest.
    let other = firewall.session("s_other".parse().unwrap());
    assert_eq!(other.cumulative().await.unwrap(), Usd::ZERO);
    assert!(other.admit(call(&other, 11)).await.is_err());
    other
        .admit(call(&other, 10))
        .await
        .unwrap()
        .settle(used(10))
        .await;
    assert_eq!(other.cumulative().await.unwrap(), usd("0.10"));
}

#[tokio::test]
async fn what_has_no_price_or_no_bound_is_refused_never_free() {
    let log = Log::new();
    let firewall = builder().audit_log(log.path()).build().unwrap();
    let messages = serde_json::json!([]);
    let unknown = ModelCall::new("p", "unheard-of", messages.clone(), 10, firewall.caller().clone());
    assert_eq!(
        firewall.admit(unknown).await.unwrap_err().rule_id(),
        rule_ids::NO_PRICE
    );
    let mut unbounded = call(&firewall, 1);
    unbounded.max_output_tokens = None;
    assert_eq!(
        firewall.admit(unbounded).await.unwrap_err().rule_id(),
        rule_ids::NO_BOUND
    );
    let mut absurd = call(&firewall, 1);
    absurd.max_output_tokens = Some(u64::MAX);
    assert_eq!(
        firewall.admit(absurd).await.unwrap_err().rule_id(),
        rule_ids::NO_BOUND
    );
    firewall.close().await.unwrap();
    assert_eq!(log.refusals(), 3);
}

#[test]
fn a_cap_that_is_no_amount_is_refused_when_it_is_set() {
    for dollars in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.01, 1e300] {
        assert!(
            matches!(
                Firewall::builder().budget_usd(dollars).build(),
                Err(BuildError::Cap { .. })
            ),
            "{dollars}"
        );
        assert!(matches!(
            Firewall::builder().budget_soft_usd(dollars).build(),
            Err(BuildError::Cap { .. })
        ));
    }
    assert!(matches!(
        Firewall::builder().tenant_budget(Usd::MAX).build(),
        Err(BuildError::NoSuchParty(_))
    ));
}

#[tokio::test]
async fn a_cap_of_zero_allows_nothing() {
    let firewall = builder().budget_usd(0.0).build().unwrap();
    assert!(firewall.admit(call(&firewall, 0)).await.is_err());
}

#[tokio::test]
async fn absurd_usage_is_a_bounded_charge() {
    let firewall = builder().budget_usd(1.00).build().unwrap();
    let absurd = Usage {
        output_tokens: u64::MAX,
        input_tokens: u64::MAX,
        ..Usage::default()
    };
    let receipt = firewall
        .admit(call(&firewall, 30))
        .await
        .unwrap()
        .settle(Answer::reported(absurd, Digest::EMPTY))
        .await;
    assert_eq!((receipt.cost, receipt.estimated), (usd("0.30"), true));
}

#[tokio::test]
async fn an_unfinished_answer_is_charged_the_larger_of_report_and_bound() {
    let log = Log::new();
    let firewall = builder().budget_usd(5.00).audit_log(log.path()).build().unwrap();
    let cut = |output_tokens| Answer {
        usage: Some(Usage {
            output_tokens,
            ..Usage::default()
        }),
        is_final: false,
        response_digest: Digest::EMPTY,
        outcome: Outcome::Cut,
    };
    assert_eq!(
        firewall
            .admit(call(&firewall, 30))
            .await
            .unwrap()
            .settle(cut(5))
            .await
            .cost,
        usd("0.30")
    );
    assert_eq!(
        firewall
            .admit(call(&firewall, 30))
            .await
            .unwrap()
            .settle(cut(50))
            .await
            .cost,
        usd("0.50")
    );
    assert!(
        log.of_kind("model_call")
            .iter()
            .all(|line| line["outcome"] == "cut" && line["usage"] == "estimated")
    );
}

#[tokio::test]
async fn a_charge_from_outside_is_recorded_even_where_it_breaks_the_cap() {
    let log = Log::new();
    let firewall = builder().budget_usd(0.50).audit_log(log.path()).build().unwrap();
    let charge = |output_tokens| Charge {
        provider: "p".into(),
        model: "cent".into(),
        usage: Usage {
            output_tokens,
            ..Usage::default()
        },
    };
    assert!(!firewall.charge(charge(20)).await.unwrap().broke_cap);
    assert!(firewall.charge(charge(40)).await.unwrap().broke_cap);
    assert_eq!(firewall.cumulative().await.unwrap(), usd("0.60"));
    assert_eq!(
        firewall.admit(call(&firewall, 1)).await.unwrap_err().rule_id(),
        rule_ids::HARD_CAP
    );
    assert_eq!(log.cost(), usd("0.60"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn charges_that_a_store_could_not_be_told_are_bounded_and_none_is_lost() {
    let store = FaultyStore::new(256);
    let firewall = builder()
        .budget_usd(100.0)
        .budget_store(store.clone())
        .lease(Duration::ZERO)
        .build()
        .unwrap();
    let charge = || Charge {
        provider: "p".into(),
        model: "cent".into(),
        usage: Usage {
            output_tokens: 1,
            ..Usage::default()
        },
    };
    let mut recorded = 0_u64;
    let refused = loop {
        match firewall.charge(charge()).await {
            Ok(receipt) => {
                assert!(receipt.warning.is_some(), "nobody could be told");
                recorded += 1;
            }
            Err(refused) => break refused,
        }
        assert!(recorded <= 1_024, "there is no end");
    };
    assert_eq!(refused.rule_id(), rule_ids::CAPACITY);
    // They are tried again, however long that is after a lease would have ended them.
    firewall.flush().await.unwrap();
    store.heal();
    firewall.close().await.unwrap();
    let spent = firewall.cumulative().await.unwrap();
    assert_eq!(spent, Usd::from_cents(recorded).unwrap());
    assert!(firewall.charge(charge()).await.unwrap().warning.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_guarded_call_that_outlasts_its_lease_keeps_what_is_set_aside_for_it() {
    let log = Log::new();
    let clock = HandClock::at("2027-01-01T00:00:00Z");
    let store = Arc::new(MemoryStore::new(clock.clone()));
    let firewall = builder()
        .budget_usd(1.0)
        .clock(clock.clone())
        .budget_store(store.clone())
        .lease(Duration::from_mins(1))
        .tool_price("dig", usd("0.10"))
        .audit_log(log.path())
        .build()
        .unwrap();
    let work = async || {
        for _ in 0..3 {
            clock.advance(Duration::from_secs(50));
            tokio::time::sleep(Duration::from_secs(25)).await;
            assert!(store.expire(10).await.unwrap().is_empty(), "its lease ran out");
        }
    };
    let called = firewall.model(call(&firewall, 10), async |_| {
        work().await;
        let usage = Usage {
            output_tokens: 3,
            ..Usage::default()
        };
        Ok::<_, ModelFailure<std::io::Error>>(ModelAnswer::new((), usage, Json::null()))
    });
    assert_eq!(called.await.unwrap().receipt.cost, usd("0.03"));
    let dug = firewall.tool("dig", Json::null(), async |_| {
        work().await;
        Ok::<_, std::io::Error>(Json::null())
    });
    assert_eq!(dug.await.unwrap().receipt.cost, usd("0.10"));
    firewall.close().await.unwrap();
    assert_eq!(log.cost(), usd("0.13"));
}

#[tokio::test]
async fn a_session_without_a_cap_is_counted_by_its_handle() {
    let firewall = builder().build().unwrap();
    for _ in 0..3 {
        let receipt = firewall
            .admit(call(&firewall, 10))
            .await
            .unwrap()
            .settle(used(7))
            .await;
        assert_eq!(receipt.cost, usd("0.07"));
    }
    assert_eq!(firewall.clone().cumulative().await.unwrap(), usd("0.21"));
}

#[tokio::test]
async fn more_calls_than_may_be_under_way_are_refused() {
    let firewall = builder().max_in_flight(2).build().unwrap();
    let first = firewall.admit(call(&firewall, 1)).await.unwrap();
    let _second = firewall.admit(call(&firewall, 1)).await.unwrap();
    assert_eq!(
        firewall.admit(call(&firewall, 1)).await.unwrap_err().rule_id(),
        rule_ids::CAPACITY
    );
    first.fail().await;
    drop(firewall.admit(call(&firewall, 1)).await.unwrap());
}

#[tokio::test]
async fn counting_tokens_admits_what_the_bytes_alone_would_not() {
    #[derive(Debug)]
    struct Four;
    impl leash_budget::TokenCounter for Four {
        fn count(&self, _: &str, _: &str, text: &str) -> Option<u64> {
            u64::try_from(text.len() / 4).ok()
        }
    }
    #[derive(Debug)]
    struct Panics;
    impl leash_budget::TokenCounter for Panics {
        fn count(&self, _: &str, _: &str, _: &str) -> Option<u64> {
            panic!("a tokenizer of somebody else");
        }
    }
    let input = ModelPrice::flat(Price::per_million(usd("10000")), Price::FREE);
    let prices = PriceTable::empty().with_price("p", "cent", input);
    let bytes = Firewall::builder()
        .prices(prices.clone())
        .budget_usd(0.30)
        .build()
        .unwrap();
    assert!(bytes.admit(call(&bytes, 1)).await.is_err());
    let tokens = Firewall::builder()
        .prices(prices.clone())
        .budget_usd(0.30)
        .token_counter(Four)
        .build()
        .unwrap();
    // An image takes more tokens than its bytes as text.
    let mut pictured = call(&tokens, 1);
    pictured.body = Some(pictured.messages.clone());
    pictured.has_media = true;
    let refused = tokens.admit(pictured).await.unwrap_err();
    assert_eq!(refused.rule_id(), rule_ids::PRE_CALL_ESTIMATE);
    assert!(tokens.admit(call(&tokens, 1)).await.unwrap().bound().amount <= usd("0.30"));
    let panics = Firewall::builder()
        .prices(prices)
        .budget_usd(0.30)
        .token_counter(Panics)
        .build()
        .unwrap();
    let refused = panics.admit(call(&panics, 1)).await.unwrap_err();
    assert_eq!(refused.rule_id(), rule_ids::PRE_CALL_ESTIMATE);
}

#[derive(Clone, Copy, Debug)]
enum Ends {
    Settles(u64),
    Fails,
    Drops,
    DropsHalfWay(u64),
}

async fn end(admission: Admission, cents: u64, ends: Ends) {
    match ends {
        Ends::Settles(cost) => drop(admission.settle(used(cost.min(cents))).await),
        Ends::Fails => drop(admission.fail().await),
        Ends::Drops => drop(admission),
        Ends::DropsHalfWay(cost) => {
            let mut settling = Box::pin(admission.settle(used(cost.min(cents))));
            futures_poll_once(settling.as_mut()).await;
        }
    }
}

fn ends() -> impl Strategy<Value = Ends> {
    prop_oneof![
        (0..40_u64).prop_map(Ends::Settles),
        Just(Ends::Fails),
        Just(Ends::Drops),
        (0..40_u64).prop_map(Ends::DropsHalfWay),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// However calls end and whatever the store does: within the cap at every look, nothing held at the end, and the
    /// log's costs are what the store says was spent.
    #[test]
    fn any_ending_over_a_store_that_fails_keeps_the_cap_and_the_books(
        calls in proptest::collection::vec((1..40_u64, ends()), 1..40),
        faults in 0..100_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let log = Log::new();
            let store = FaultyStore::new(faults);
            let firewall = builder().budget_usd(2.00).budget_store(store.clone()).audit_log(log.path()).build().unwrap();
            let tasks: Vec<_> = calls
                .into_iter()
                .map(|(cents, ends)| {
                    let firewall = firewall.clone();
                    tokio::spawn(async move {
                        let Ok(admission) = firewall.admit(call(&firewall, cents)).await else { return };
                        end(admission, cents, ends).await;
                    })
                })
                .collect();
            let scopes = [Scope::session(&firewall.caller().session_id, Usd::MAX)];
            for task in tasks {
                task.await.unwrap();
                let balance = store.balances(&scopes).await.unwrap().remove(0);
                assert!(balance.spent.checked_add(balance.reserved).unwrap() <= usd("2.00"));
            }
            store.heal();
            firewall.close().await.unwrap();
            let balance = store.balances(&scopes).await.unwrap().remove(0);
            assert_eq!(balance.reserved, Usd::ZERO);
            assert_eq!(balance.spent, log.cost());
            assert_eq!(log.of_kind("admitted").len(), log.of_kind("model_call").len());
        });
    }

    /// The same under caps over spans of the calendar, while the clock goes on.
    #[test]
    fn any_ending_keeps_the_caps_of_every_window_over_a_store_that_fails(
        calls in proptest::collection::vec((1..40_u64, ends(), 0..40_u64), 1..40),
        faults in 0..100_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let log = Log::new();
            let clock = HandClock::at("2028-02-29T23:50:00Z");
            let store = FaultyStore::with_clock(faults, clock.clone());
            let firewall = builder()
                .budget_usd(6.00)
                .cap(Over::Session, Window::Minute, usd("0.60"))
                .cap(Over::Session, Window::Hour, usd("2.00"))
                .cap(Over::Everything, Window::Month, usd("3.00"))
                .soft_cap(Over::Everything, Window::Month, usd("0.10"))
                .clock(clock.clone())
                .lease(Duration::from_hours(24))
                .budget_store(store.clone())
                .audit_log(log.path())
                .build()
                .unwrap();
            let (scopes, _): (Vec<Scope>, Vec<_>) = firewall.balances().await.unwrap().into_iter().unzip();
            assert_eq!(scopes.len(), 4);
            let mut tasks = Vec::new();
            for (cents, ends, seconds) in calls {
                let firewall = firewall.clone();
                tasks.push(tokio::spawn(async move {
                    let Ok(admission) = firewall.admit(call(&firewall, cents)).await else { return };
                    end(admission, cents, ends).await;
                }));
                clock.advance(Duration::from_secs(seconds));
                for (scope, balance) in scopes.iter().zip(store.balances(&scopes).await.unwrap()) {
                    assert!(balance.spent.checked_add(balance.reserved).unwrap() <= scope.cap.unwrap(), "{balance:?}");
                }
            }
            for task in tasks {
                task.await.unwrap();
            }
            store.heal();
            firewall.close().await.unwrap();
            let balance = store.balances(&scopes).await.unwrap().remove(0);
            assert_eq!((balance.window, balance.reserved), (Window::Total, Usd::ZERO));
            assert_eq!(balance.spent, log.cost());
        });
    }
}
