//! The same over a store that outlives its processes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use leash_budget::{BudgetStore as _, CONFIRM_WITHIN, Scope, SqliteStore, SqliteStoreOptions};
use leash_core::{Clock, Usd};
use leash_firewall::{Firewall, FirewallBuilder, Over, Warning, Window};
use serde_json::json;

use crate::support::{FaultyStore, HandClock, Log, builder, call, spend, usd, used};

/// A firewall with a store of its own on the file, as another process has.
async fn process(dir: &tempfile::TempDir, clock: &Arc<HandClock>, log: &Log) -> FirewallBuilder {
    let clock: Arc<dyn Clock> = clock.clone();
    let path = dir.path().join("budget.db");
    let store = SqliteStore::open_or_init(path, clock.clone(), SqliteStoreOptions::default()).await;
    builder()
        .clock(clock)
        .budget_store(Arc::new(store.unwrap()))
        .lease(Duration::from_mins(1))
        .audit_log(log.path())
}

fn capped(builder: FirewallBuilder) -> Firewall {
    builder
        .session_id("s_1".parse().unwrap())
        .budget_usd(1.00)
        .cap(Over::Everything, Window::Day, usd("1.50"))
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_process_goes_on_with_what_was_spent_and_charges_what_was_left_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let clock = HandClock::at("2027-01-31T10:00:00Z");
    let first_log = Log::new();
    {
        let first = capped(process(&dir, &clock, &first_log).await);
        assert!(spend(&first, 20).await);
        std::mem::forget(first.admit(call(&first, 30)).await.unwrap());
        // The reservation stands for the call: nothing needs to be written before it.
        assert!(first_log.of_kind("admitted").is_empty());
    }
    let second_log = Log::new();
    let second = capped(process(&dir, &clock, &second_log).await);
    assert!(!spend(&second, 51).await, "what may be under way still counts");
    clock.advance(Duration::from_secs(61));
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    let expired = || {
        let logs = [&first_log, &second_log];
        let lines = logs.into_iter().flat_map(|log| log.of_kind("model_call"));
        lines
            .filter(|line| line["outcome"] == "expired")
            .collect::<Vec<_>>()
    };
    while expired().is_empty() {
        assert!(std::time::Instant::now() < deadline, "nobody swept");
        tokio::task::yield_now().await;
    }
    assert_eq!(expired().len(), 1);
    assert_eq!(
        (&expired()[0]["model"], &expired()[0]["cost_usd"]),
        (&json!("cent"), &json!(0.3))
    );
    assert_eq!(second.cumulative().await.unwrap(), usd("0.50"));
    assert!(spend(&second, 50).await && !spend(&second, 1).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_elsewhere_spends_its_grant_and_no_more_until_it_is_reclaimed() {
    let dir = tempfile::tempdir().unwrap();
    let clock = HandClock::at("2027-01-31T23:00:00Z");
    let logs = [Log::new(), Log::new()];
    let parent = capped(process(&dir, &clock, &logs[0]).await);
    let token = parent.give(usd("0.40")).await.unwrap().to_string();
    let elsewhere = process(&dir, &clock, &logs[1]).await;
    let child = elsewhere
        .grant(token.parse().unwrap())
        .cap(Over::Everything, Window::Day, usd("1.50"))
        .build()
        .unwrap();
    assert_eq!(logs[1].of_kind("budget_change")[0]["what"], "grant taken up");
    let running = child.admit(call(&child, 30)).await.unwrap();
    assert!(!spend(&child, 11).await);
    assert!(spend(&parent, 60).await && !spend(&parent, 1).await);
    // A grant has no lease, and the day in which it was given is the one that is charged.
    clock.advance(Duration::from_hours(2));
    running.settle(used(25)).await;
    let rest = parent.reclaim(&token.parse().unwrap()).await.unwrap();
    assert_eq!(rest, usd("0.15"));
    assert!(!spend(&child, 1).await);
    assert_eq!(parent.cumulative().await.unwrap(), usd("0.85"));
    assert!(spend(&parent, 15).await && !spend(&parent, 1).await);
}

/// A giver that dies when the store has charged a grant and before its log says so owes that line as any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_line_of_a_grant_that_was_given_back_is_written_by_another_where_its_giver_died() {
    let dir = tempfile::tempdir().unwrap();
    let clock = HandClock::at("2027-01-31T10:00:00Z");
    let logs = [Log::new(), Log::new()];
    let grant = {
        let giver = capped(process(&dir, &clock, &logs[0]).await);
        let grant = giver.give(usd("0.40")).await.unwrap();
        let child = giver.take_up("s_child".parse().unwrap(), grant.clone());
        assert!(spend(&child, 25).await);
        giver.close().await.unwrap();
        grant
    };
    let dying: Arc<dyn Clock> = clock.clone();
    let path = dir.path().join("budget.db");
    let store = SqliteStore::open(&path, dying, SqliteStoreOptions::default())
        .await
        .unwrap();
    grant.give_back(&store, true).await.unwrap();
    let heir = capped(process(&dir, &clock, &logs[1]).await);
    clock.advance(CONFIRM_WITHIN + Duration::from_secs(1));
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    let lines = || logs[1].of_kind("budget_change");
    while !logs[1].path().exists() || lines().is_empty() {
        assert!(std::time::Instant::now() < deadline, "nobody wrote its line");
        tokio::task::yield_now().await;
    }
    heir.close().await.unwrap();
    let [line] = &lines()[..] else {
        panic!("{:?}", lines())
    };
    assert_eq!(
        (
            &line["what"],
            &line["amount_usd"],
            &line["spent_usd"],
            &line["from"]
        ),
        (
            &json!("grant given back"),
            &json!(0.4),
            &json!(0.25),
            &json!("session:s_1")
        )
    );
    let own = [Scope::session(&"s_1".parse().unwrap(), Usd::MAX)];
    assert_eq!(store.balances(&own).await.unwrap()[0].spent, usd("0.25"));
    clock.advance(CONFIRM_WITHIN * 2);
    assert_eq!(store.expire(10).await.unwrap(), [], "it is confirmed");
}

/// While the store does not answer nobody knows what a call comes to, so it has no line; when the lease is over the store has
/// charged it in full, and so says the line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_says_what_the_store_has_charged_also_where_that_could_not_be_told_in_time() {
    for (comes_back, outcome, cost) in [(true, "ok", 0.05), (false, "expired", 0.3)] {
        let log = Log::new();
        let clock = HandClock::at("2027-01-31T10:00:00Z");
        let store = FaultyStore::durable(clock.clone());
        let lease = if comes_back {
            Duration::from_hours(1)
        } else {
            Duration::from_millis(300)
        };
        let fw = builder()
            .budget_usd(1.00)
            .budget_store(store.clone())
            .lease(lease)
            .audit_log(log.path())
            .build()
            .unwrap();
        let admission = fw.admit(call(&fw, 30)).await.unwrap();
        store.faults.store(256, Ordering::SeqCst);
        let receipt = admission.settle(used(5)).await;
        assert!(
            matches!(receipt.warning, Some(Warning::NotSettled(_))),
            "{receipt:?}"
        );
        assert_eq!((receipt.cost, receipt.cumulative), (usd("0.05"), usd("0.05")));
        if comes_back {
            fw.flush().await.unwrap();
            assert!(log.of_kind("model_call").is_empty());
            store.heal();
        }
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while log.of_kind("model_call").is_empty() {
            assert!(std::time::Instant::now() < deadline, "it has no line");
            fw.flush().await.unwrap();
        }
        let lines = log.of_kind("model_call");
        assert_eq!(lines.len(), 1);
        assert_eq!(
            (&lines[0]["outcome"], &lines[0]["cost_usd"]),
            (&json!(outcome), &json!(cost))
        );
        assert!(lines[0]["reservation_id"].is_string());
    }
}

/// Lines of calls that nobody else can write name no reservation, nor does one of a call that was not billed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_names_its_reservation_where_others_may_write_it_too() {
    let dir = tempfile::tempdir().unwrap();
    let clock = HandClock::at("2027-01-31T10:00:00Z");
    let logs = [Log::new(), Log::new()];
    let durable = capped(process(&dir, &clock, &logs[0]).await);
    let memory = capped(builder().audit_log(logs[1].path()));
    for fw in [&durable, &memory] {
        assert!(spend(fw, 5).await);
        drop(fw.admit(call(fw, 4)).await.unwrap());
        fw.admit(call(fw, 3)).await.unwrap().fail().await;
        fw.close().await.unwrap();
    }
    let named = |log: &Log| -> Vec<(bool, serde_json::Value)> {
        let mut named: Vec<_> = log
            .of_kind("model_call")
            .iter()
            .map(|line| (line["reservation_id"].is_string(), line["outcome"].clone()))
            .collect();
        named.sort_by_key(|(_, outcome)| outcome.to_string());
        named
    };
    let outcomes = ["error", "ok", "unsettled"].map(|outcome| json!(outcome));
    let expected = |is_named: [bool; 3]| is_named.into_iter().zip(outcomes.clone()).collect::<Vec<_>>();
    assert_eq!(named(&logs[0]), expected([false, true, true]));
    assert_eq!(named(&logs[1]), expected([false; 3]));
    // All are confirmed: nobody is told of them.
    clock.advance(CONFIRM_WITHIN * 2);
    let late: Arc<dyn Clock> = clock.clone();
    let path = dir.path().join("budget.db");
    let store = SqliteStore::open(&path, late, SqliteStoreOptions::default())
        .await
        .unwrap();
    assert_eq!(store.expire(10).await.unwrap(), []);
}
