//! A kill order refuses what comes and ends what runs.

use std::sync::Arc;

use async_trait::async_trait;
use leash_core::{Caller, Digest, LeashError, StoreError, StoreErrorKind, rule_ids};
use leash_firewall::{Answer, GuardedError, Outcome};
use leash_hitl::{Approval, ApprovalRequest, HitlAnswer, HitlGate};
use leash_kill::{KillOrder, KillRegistry, MemoryKillRegistry, Target};
use leash_policy::HitlThreshold;
use serde_json::json;
use tokio::sync::{oneshot, watch};

use crate::support::{Log, builder, call};

#[tokio::test]
async fn after_a_kill_nothing_is_admitted_and_the_order_is_logged_once() {
    let log = Log::new();
    let firewall = builder().audit_log(log.path()).build().unwrap();
    let other = firewall.session("s_other".parse().unwrap());
    firewall.kill("runaway").await.unwrap();
    for _ in 0..3 {
        let error = firewall.admit(call(&firewall, 1)).await.unwrap_err();
        assert_eq!((error.rule_id(), &*error.reason()), (rule_ids::KILL, "runaway"));
    }
    other.admit(call(&other, 1)).await.unwrap().fail().await;
    assert!(
        firewall
            .clear_kill(
                &Target::Session(firewall.caller().session_id.clone()),
                Some("fixed")
            )
            .await
            .unwrap()
    );
    firewall.admit(call(&firewall, 1)).await.unwrap().fail().await;
    firewall.close().await.unwrap();
    assert_eq!(log.of_kind("kill").len(), 1);
    assert_eq!(log.of_kind("kill_clear")[0]["reason"], "fixed");
    assert_eq!(log.refusals(), 3);
}

#[tokio::test]
async fn a_kill_of_everything_concerns_every_session_and_says_so() {
    let log = Log::new();
    let firewall = builder().audit_log(log.path()).build().unwrap();
    firewall
        .kill_target(Target::Everything, "rogue release")
        .await
        .unwrap();
    let other = firewall.session("s_other".parse().unwrap());
    assert!(other.admit(call(&other, 1)).await.is_err());
    let line = &log.of_kind("kill")[0];
    assert_eq!(
        (&line["session_id"], &line["scope"]),
        (&json!("*"), &json!("everything"))
    );
}

#[tokio::test]
async fn a_kill_ends_a_tool_that_runs() {
    let log = Log::new();
    let firewall = builder().audit_log(log.path()).build().unwrap();
    let (started, wait) = oneshot::channel();
    let running = {
        let firewall = firewall.clone();
        tokio::spawn(async move {
            firewall
                .tool("sleep", json!({}), async |_| {
                    started.send(()).unwrap();
                    std::future::pending::<Result<serde_json::Value, std::io::Error>>().await
                })
                .await
        })
    };
    wait.await.unwrap();
    firewall.kill("enough").await.unwrap();
    let Err(GuardedError::Refused(error)) = running.await.unwrap() else {
        panic!("went on")
    };
    assert_eq!(error.rule_id(), rule_ids::KILL);
    assert_eq!(log.of_kind("tool_call")[0]["outcome"], "cut");
}

/// A gate behind which a kill comes before the approval.
#[derive(Debug)]
struct KillsFirst {
    registry: Arc<MemoryKillRegistry>,
    approves: bool,
}

#[async_trait]
impl HitlGate for KillsFirst {
    async fn request(&self, request: &ApprovalRequest) -> Result<HitlAnswer, StoreError> {
        let target = Target::Session(request.call.caller().session_id.clone());
        let order = KillOrder::new(target, "while you waited", leash_core::Timestamp::EPOCH);
        self.registry.kill(order).await?;
        if self.approves {
            Ok(Approval::approved().answers(request))
        } else {
            std::future::pending().await
        }
    }
}

#[tokio::test]
async fn a_kill_beats_an_approval_and_withdraws_a_waiting_one() {
    for approves in [true, false] {
        let registry = Arc::new(MemoryKillRegistry::new());
        let firewall = builder()
            .budget_usd(1.00)
            .rule(HitlThreshold::at_percent(0).unwrap())
            .kill_registry(registry.clone())
            .hitl_gate(Arc::new(KillsFirst { registry, approves }))
            .build()
            .unwrap();
        let error = firewall.admit(call(&firewall, 1)).await.unwrap_err();
        assert_eq!(error.rule_id(), rule_ids::KILL);
        firewall.flush().await.unwrap();
        let balances = firewall.balances().await.unwrap();
        assert!(
            balances.iter().all(|(_, balance)| balance.reserved.is_zero()),
            "what was set aside is given back"
        );
    }
}

#[tokio::test]
async fn a_registry_that_cannot_tell_refuses() {
    #[derive(Debug)]
    struct Gone(watch::Sender<u64>);
    #[async_trait]
    impl KillRegistry for Gone {
        async fn standing(&self, _: &Caller) -> Result<Option<KillOrder>, StoreError> {
            Err(StoreError::new(StoreErrorKind::Unavailable, "reach the registry"))
        }
        async fn kill(&self, _: KillOrder) -> Result<(), StoreError> {
            Ok(())
        }
        async fn clear(&self, _: &Target) -> Result<bool, StoreError> {
            Ok(false)
        }
        async fn orders(&self) -> Result<Vec<KillOrder>, StoreError> {
            Ok(Vec::new())
        }
        fn changes(&self) -> watch::Receiver<u64> {
            self.0.subscribe()
        }
    }
    let firewall = builder()
        .kill_registry(Arc::new(Gone(watch::Sender::new(0))))
        .build()
        .unwrap();
    let error = firewall.admit(call(&firewall, 1)).await.unwrap_err();
    assert!(matches!(&error, LeashError::Unavailable { .. }));
    assert_eq!(error.rule_id(), rule_ids::KILL_REGISTRY);
}

#[tokio::test]
async fn a_closed_firewall_admits_nothing_and_lets_what_runs_end() {
    let firewall = builder().build().unwrap();
    let running = firewall.admit(call(&firewall, 5)).await.unwrap();
    firewall.close().await.unwrap();
    assert_eq!(
        firewall.admit(call(&firewall, 1)).await.unwrap_err().rule_id(),
        rule_ids::CAPACITY
    );
    let receipt = running
        .settle(Answer::unreported(Digest::EMPTY, Outcome::Ok))
        .await;
    assert_eq!(receipt.cost.to_string(), "0.05");
}
