//! Parts of one session's budget that others spend.

use std::sync::Arc;

use leash_budget::{BudgetStore, Grant, MemoryStore, Scope};
use leash_core::{SystemClock, TenantId, Usd, rule_ids};
use leash_firewall::{Firewall, Over, Window};
use serde_json::json;

use crate::support::{FaultyStore, Log, builder, call, spend, usd, used};

fn store() -> Arc<dyn BudgetStore> {
    Arc::new(MemoryStore::new(Arc::new(SystemClock)))
}

/// What the parent's scope holds: spent and reserved together.
async fn taken(firewall: &Firewall) -> Usd {
    let (_, balance) = firewall.balances().await.unwrap().remove(0);
    balance.spent.checked_add(balance.reserved).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn children_in_other_processes_and_their_parent_never_pass_its_cap() {
    let (store, log) = (store(), Log::new());
    let parent = builder()
        .budget_usd(3.00)
        .budget_store(store.clone())
        .audit_log(log.path())
        .build()
        .unwrap();
    let mut tokens = Vec::new();
    for _ in 0..6 {
        tokens.push(parent.give(usd("0.40")).await.unwrap().to_string());
    }
    assert!(parent.give(usd("0.61")).await.is_err());
    let mut tasks = Vec::new();
    let mut logs = Vec::new();
    for (child, token) in (0_u64..).zip(&tokens) {
        // A firewall of its own, as another process has.
        let log = Log::new();
        let firewall = builder()
            .grant(token.parse().unwrap())
            .budget_store(store.clone())
            .audit_log(log.path())
            .build()
            .unwrap();
        for thread in 0..2 {
            let firewall = firewall.clone();
            tasks.push(tokio::spawn(async move {
                for turn in 0..40 {
                    let cents = 1 + (child * 7 + thread + turn) % 9;
                    let Ok(admission) = firewall.admit(call(&firewall, cents)).await else {
                        continue;
                    };
                    tokio::task::yield_now().await;
                    match turn % 3 {
                        0 => drop(admission.fail().await),
                        _ => drop(admission.settle(used(cents - cents / 2)).await),
                    }
                }
                firewall.flush().await.unwrap();
            }));
        }
        tasks.push(tokio::spawn(async move {
            firewall.flush().await.unwrap();
        }));
        // A log that is removed while somebody writes to it is an error, so they stay until all have ended.
        logs.push(log);
    }
    let own = parent.clone();
    tasks.push(tokio::spawn(async move { while spend(&own, 7).await {} }));
    for task in tasks {
        task.await.unwrap();
        assert!(taken(&parent).await <= usd("3.00"));
    }
    let scopes: Vec<Scope> = tokens
        .iter()
        .map(|token| token.parse::<Grant>().unwrap().scope())
        .collect();
    let spent: Vec<Usd> = store
        .balances(&scopes)
        .await
        .unwrap()
        .iter()
        .map(|sums| sums.spent)
        .collect();
    assert!(
        spent
            .iter()
            .all(|spent| *spent <= usd("0.40") && *spent > usd("0.30")),
        "{spent:?}"
    );
    let own = parent.cumulative().await.unwrap();
    assert_eq!(own, usd("0.56"));
    for token in &tokens {
        parent.reclaim(&token.parse().unwrap()).await.unwrap();
    }
    let sum = spent.into_iter().fold(own, Usd::saturating_add);
    assert_eq!(
        (taken(&parent).await, parent.cumulative().await.unwrap()),
        (sum, sum)
    );
    let changes: Vec<_> = log
        .of_kind("budget_change")
        .iter()
        .map(|line| line["what"].clone())
        .collect();
    assert_eq!(changes.len(), 12);
    assert!(changes[..6].iter().all(|what| what == "grant given"));
    assert!(changes[6..].iter().all(|what| what == "grant given back"));
}

#[tokio::test]
async fn a_child_spends_its_grant_and_shares_every_cap_but_the_sessions() {
    let log = Log::new();
    let parent = builder()
        .tenant_id(TenantId::new("acme").unwrap())
        .budget_usd(1.00)
        .cap(Over::Session, Window::Hour, usd("0.70"))
        .cap(Over::Tenant, Window::Day, usd("0.50"))
        .audit_log(log.path())
        .build()
        .unwrap();
    assert!(
        parent.give(usd("0.71")).await.is_err(),
        "the hour's cap holds for grants too"
    );
    let child = parent
        .child("s_child".parse().unwrap(), usd("0.60"))
        .await
        .unwrap();
    assert_eq!(taken(&parent).await, usd("0.60"));
    assert!(spend(&child, 40).await);
    assert_eq!(child.cumulative().await.unwrap(), usd("0.40"));
    assert_eq!(parent.cumulative().await.unwrap(), Usd::ZERO);
    // Fits under the grant and not under the tenant's cap.
    assert!(
        child
            .admit(call(&child, 11))
            .await
            .unwrap_err()
            .reason()
            .contains("tenant:acme")
    );
    // Handles that come from the child spend the same grant.
    let sibling = child.session("s_other".parse().unwrap());
    assert!(spend(&sibling, 10).await);
    assert_eq!(sibling.cumulative().await.unwrap(), usd("0.50"));
    assert_eq!(child.give_back().await.unwrap(), usd("0.10"));
    assert_eq!(parent.cumulative().await.unwrap(), usd("0.50"));
    assert!(!spend(&child, 1).await && !spend(&sibling, 1).await);
    // Asked again it changes nothing.
    assert_eq!(child.give_back().await.unwrap(), usd("0.10"));
    assert_eq!(taken(&parent).await, usd("0.50"));
    let line = &log.of_kind("budget_change")[1];
    assert_eq!(
        (&line["scope"], &line["amount_usd"], &line["spent_usd"]),
        (
            &json!(child.grant().unwrap().key().as_str()),
            &json!(0.6),
            &json!(0.5)
        )
    );
    let from = format!("session:{}", parent.caller().session_id);
    assert_eq!(
        (&line["from"], &line["session_id"]),
        (&json!(from), &json!("s_child"))
    );
    assert_eq!(
        parent.give_back().await.unwrap_err().rule_id(),
        rule_ids::GRANT,
        "it has none"
    );
}

#[tokio::test]
async fn a_grant_may_be_divided_again() {
    let parent = builder().budget_usd(1.00).build().unwrap();
    let child = parent
        .child("s_child".parse().unwrap(), usd("0.60"))
        .await
        .unwrap();
    assert!(child.give(usd("0.61")).await.is_err());
    let grandchild = child
        .child("s_grandchild".parse().unwrap(), usd("0.50"))
        .await
        .unwrap();
    assert!(spend(&grandchild, 30).await);
    assert!(!spend(&child, 11).await);
    grandchild.give_back().await.unwrap();
    assert_eq!(child.cumulative().await.unwrap(), usd("0.30"));
    assert!(spend(&child, 30).await);
    child.give_back().await.unwrap();
    assert_eq!(parent.cumulative().await.unwrap(), usd("0.60"));
}

#[tokio::test]
async fn what_is_under_way_when_a_grant_ends_stays_charged_to_its_giver() {
    let parent = builder().budget_usd(1.00).build().unwrap();
    let child = parent
        .child("s_child".parse().unwrap(), usd("0.60"))
        .await
        .unwrap();
    let running = child.admit(call(&child, 50)).await.unwrap();
    assert_eq!(child.give_back().await.unwrap(), usd("0.10"));
    assert_eq!(parent.cumulative().await.unwrap(), usd("0.50"));
    running.settle(used(20)).await;
    assert_eq!(parent.cumulative().await.unwrap(), usd("0.50"));
    assert!(spend(&parent, 50).await && !spend(&parent, 1).await);
}

/// Nothing more is admitted under it: also not what costs nothing.
#[tokio::test]
async fn a_grant_that_has_ended_admits_no_free_tool() {
    let parent = builder().budget_usd(1.00).build().unwrap();
    let child = parent
        .child("s_child".parse().unwrap(), usd("0.60"))
        .await
        .unwrap();
    let look = async || {
        let looked = child.tool("look", json!({}), async |_| Ok::<_, std::io::Error>(json!(1)));
        looked.await.is_ok()
    };
    assert!(look().await);
    parent.reclaim(child.grant().unwrap()).await.unwrap();
    assert!(!look().await);
    assert_eq!(parent.cumulative().await.unwrap(), Usd::ZERO);
}

#[tokio::test]
async fn a_session_without_a_budget_of_its_own_has_nothing_to_give() {
    let firewall = builder().global_budget(usd("1.00")).build().unwrap();
    assert_eq!(
        firewall.give(usd("0.10")).await.unwrap_err().rule_id(),
        rule_ids::GRANT
    );
    let killed = builder().budget_usd(1.00).build().unwrap();
    killed.kill("enough").await.unwrap();
    assert_eq!(
        killed.give(usd("0.10")).await.unwrap_err().rule_id(),
        rule_ids::KILL
    );
}

#[tokio::test]
async fn a_grant_that_nobody_waited_for_is_given_back() {
    let firewall = builder()
        .budget_usd(1.00)
        .budget_store(FaultyStore::new(0))
        .build()
        .unwrap();
    {
        // The store yields once inside, after it did what it was asked.
        let mut giving = Box::pin(firewall.give(usd("0.40")));
        let polled =
            std::future::poll_fn(|context| std::task::Poll::Ready(giving.as_mut().poll(context).is_ready()));
        assert!(!polled.await, "it was to be dropped half-way");
    }
    firewall.flush().await.unwrap();
    assert_eq!(taken(&firewall).await, Usd::ZERO);
}
