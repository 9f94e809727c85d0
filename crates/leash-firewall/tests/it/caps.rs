//! Caps over spans of the calendar, soft caps, and holds whose process died.

use std::time::Duration;

use leash_budget::{Scope, ScopeKey};
use leash_core::{TenantId, rule_ids};
use leash_firewall::{Over, Window};
use serde_json::{Value, json};

use crate::support::{FaultyStore, HandClock, Log, builder, call, spend, usd, used};

#[tokio::test]
async fn a_cap_a_day_holds_for_the_day_in_which_a_call_was_reserved() {
    let clock = HandClock::at("2027-02-28T23:50:00Z");
    let firewall = builder()
        .clock(clock.clone())
        .cap(Over::Session, Window::Day, usd("0.50"))
        .build()
        .unwrap();
    assert!(spend(&firewall, 20).await);
    let late = firewall.admit(call(&firewall, 30)).await.unwrap();
    let refused = firewall.admit(call(&firewall, 1)).await.unwrap_err();
    assert_eq!(refused.rule_id(), rule_ids::PRE_CALL_ESTIMATE);
    assert!(refused.reason().contains("in this day"), "{}", refused.reason());
    clock.set("2027-03-01T00:00:00Z");
    late.settle(used(30)).await;
    // What was reserved yesterday is yesterday's.
    assert!(firewall.balances().await.unwrap()[0].1.spent.is_zero());
    assert!(spend(&firewall, 50).await);
    assert!(!spend(&firewall, 1).await);
    // A session that is capped a day only is counted in all by its handle.
    assert_eq!(firewall.cumulative().await.unwrap(), usd("1.00"));
}

#[tokio::test]
async fn every_scope_may_have_a_soft_cap_and_each_change_of_its_state_is_told_once() {
    let log = Log::new();
    let clock = HandClock::at("2027-02-28T12:00:00Z");
    let firewall = builder()
        .clock(clock.clone())
        .tenant_id(TenantId::new("acme").unwrap())
        .soft_cap(Over::Tenant, Window::Day, usd("0.10"))
        .scope(Scope::capped(ScopeKey::named("team", "x"), usd("0.90")).soft(usd("0.30")))
        .budget_soft(usd("0.50"))
        .audit_log(log.path())
        .build()
        .unwrap();
    for _ in 0..6 {
        assert!(spend(&firewall, 10).await);
    }
    clock.set("2027-03-01T12:00:00Z");
    assert!(spend(&firewall, 5).await);
    let told: Vec<[Value; 4]> = log
        .of_kind("budget")
        .iter()
        .map(|line| ["scope", "window", "cap_usd", "decision"].map(|name| line[name].clone()))
        .collect();
    assert_eq!(
        told,
        [
            [
                json!("tenant:acme"),
                json!("day"),
                json!(null),
                json!("soft_exceeded")
            ],
            [json!("team:x"), json!(null), json!(0.9), json!("soft_exceeded")],
            [json!(null), json!(null), json!(null), json!("soft_exceeded")],
            [json!("tenant:acme"), json!("day"), json!(null), json!("under")],
        ]
    );
}

#[tokio::test]
async fn caps_of_one_key_hold_in_each_of_its_windows() {
    let clock = HandClock::at("2027-01-31T10:00:00Z");
    let team = || ScopeKey::named("team", "x");
    let firewall = builder()
        .clock(clock.clone())
        .scope(Scope::capped(team(), usd("9.00")).per(Window::Hour))
        .scope(Scope::capped(team(), usd("0.20")).per(Window::Hour))
        .scope(Scope::capped(team(), usd("0.30")).per(Window::Month))
        .build()
        .unwrap();
    assert!(spend(&firewall, 20).await);
    assert!(!spend(&firewall, 10).await);
    clock.set("2027-01-31T11:00:00Z");
    assert!(!spend(&firewall, 20).await);
    assert!(spend(&firewall, 10).await);
    clock.set("2027-02-01T00:00:00Z");
    assert!(spend(&firewall, 20).await);
}

/// The cap that was set by name holds, whatever else is over the same.
#[tokio::test]
async fn a_cap_by_name_is_not_lost_beside_one_by_party() {
    let session = || {
        let id: leash_core::SessionId = "s_1".parse().unwrap();
        builder()
            .session_id(id.clone())
            .scope(Scope::session(&id, usd("0.30")))
    };
    let month = || builder().scope(Scope::global(usd("0.30")).per(Window::Month));
    // A soft cap, and a wider hard one, over the same key and window.
    for firewall in [
        session().budget_soft_usd(0.10),
        session().budget_usd(9.00),
        month().soft_cap(Over::Everything, Window::Month, usd("0.10")),
        month().cap(Over::Everything, Window::Month, usd("9.00")),
    ] {
        let firewall = firewall.build().unwrap();
        assert!(!spend(&firewall, 31).await);
        assert!(spend(&firewall, 30).await && !spend(&firewall, 1).await);
    }
}

/// Where a cap is over tenants, a call of nobody's is under none, so it is refused.
#[tokio::test]
async fn a_caller_without_the_party_that_a_cap_is_over_is_refused() {
    let log = Log::new();
    let firewall = builder()
        .tenant_id(TenantId::new("acme").unwrap())
        .cap(Over::Tenant, Window::Day, usd("0.50"))
        .tool_price("search", usd("0.01"))
        .audit_log(log.path())
        .build()
        .unwrap();
    let nobody = firewall.for_caller(leash_core::Caller::session("s_2".parse().unwrap()));
    let refused = nobody.admit(call(&nobody, 1)).await.unwrap_err();
    assert_eq!(refused.rule_id(), rule_ids::NO_PARTY);
    let tool = leash_core::ToolCall::new("search", json!({}), nobody.caller().clone());
    assert_eq!(
        nobody.admit(tool).await.unwrap_err().rule_id(),
        rule_ids::NO_PARTY
    );
    let somebody = firewall.for_caller(leash_core::Caller {
        tenant_id: Some(TenantId::new("other").unwrap()),
        ..nobody.caller().clone()
    });
    assert!(spend(&somebody, 50).await && !spend(&somebody, 1).await);
    assert!(spend(&firewall, 50).await && !spend(&firewall, 1).await);
    firewall.close().await.unwrap();
    assert_eq!(log.of_kind("refusal")[0]["rule_id"], "budget:no_party");
}

#[tokio::test]
async fn a_hold_whose_process_died_is_charged_and_written_by_one_that_meets_it() {
    let clock = HandClock::at("2027-01-31T10:00:00Z");
    let store = FaultyStore::durable(clock.clone());
    let logs = [Log::new(), Log::new()];
    let firewalls = logs.each_ref().map(|log| {
        let builder = builder().clock(clock.clone()).lease(Duration::from_mins(1));
        builder
            .session_id("s_1".parse().unwrap())
            .budget_usd(1.00)
            .budget_store(store.clone())
            .audit_log(log.path())
            .build()
            .unwrap()
    });
    // What a process leaves that was killed: nobody ends the call.
    std::mem::forget(firewalls[0].admit(call(&firewalls[0], 30)).await.unwrap());
    clock.advance(Duration::from_secs(61));
    let expired = || -> Vec<Value> {
        let lines = logs.iter().flat_map(|log| log.of_kind("model_call"));
        lines.collect()
    };
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while expired().is_empty() {
        assert!(std::time::Instant::now() < deadline, "nobody swept");
        tokio::task::yield_now().await;
    }
    for firewall in &firewalls {
        firewall.flush().await.unwrap();
    }
    let lines = expired();
    assert_eq!(lines.len(), 1);
    assert_eq!(
        (
            &lines[0]["outcome"],
            &lines[0]["cost_usd"],
            &lines[0]["cumulative_usd"]
        ),
        (&json!("expired"), &json!(0.3), &json!(0.3))
    );
    assert_eq!(firewalls[1].cumulative().await.unwrap(), usd("0.30"));
}
