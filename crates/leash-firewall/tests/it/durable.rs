//! The same over a store that outlives its processes.

use std::sync::Arc;
use std::time::Duration;

use leash_budget::{SqliteStore, SqliteStoreOptions};
use leash_core::Clock;
use leash_firewall::{Firewall, FirewallBuilder, Over, Window};
use serde_json::json;

use crate::support::{HandClock, Log, builder, call, spend, usd, used};

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
