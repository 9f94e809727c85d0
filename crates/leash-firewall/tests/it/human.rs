//! A human's word: by a link's token, and beforehand by a grant.

use std::sync::Arc;
use std::time::Duration;

use leash_core::{Action, Call, Decision, LeashError, PolicyContext, Rule, RuleError, Timestamp, rule_ids};
use leash_firewall::{Firewall, FirewallBuilder, GuardedError};
use leash_hitl::{
    Allowed, ArgPattern, Entry, Grant, Granted, HitlQueue as _, InMemoryHitlGate, MemoryQueue, QueueHitlGate,
    ResumeError, ResumeKey, Ruling, Secret, ToolPattern, Which,
};
use serde_json::{Value, json};

use crate::support::{Log, builder};

/// Asks about everything.
#[derive(Debug)]
struct Asks;

impl Rule for Asks {
    fn id(&self) -> &'static str {
        "wires"
    }

    fn evaluate(&self, _: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        Ok(Some(Decision::new(Action::Hitl, "wires", "money leaves")))
    }
}

fn key() -> ResumeKey {
    ResumeKey::new(Secret::new("a secret of 16 bytes or more").unwrap())
}

fn token(entry: &Entry, allowed: Allowed) -> String {
    let until: Timestamp = "9999-01-01T00:00:00Z".parse().unwrap();
    key().token(&entry.id, until, allowed)
}

fn asking(queue: &Arc<MemoryQueue>, log: &Log) -> FirewallBuilder {
    let gate = QueueHitlGate::new(queue.clone())
        .timeout(Duration::from_hours(1))
        .resume_key(key());
    builder()
        .audit_log(log.path())
        .rule(Asks)
        .hitl_gate(Arc::new(gate))
}

async fn wire(firewall: &Firewall, usd: u64) -> Result<Value, LeashError> {
    let called = firewall.tool("wire", json!({"usd": usd}), async |_| {
        Ok::<Value, std::io::Error>(json!("sent"))
    });
    match called.await {
        Ok(answered) => Ok(answered.value),
        Err(GuardedError::Refused(refusal)) => Err(refusal),
        Err(GuardedError::Failed(error)) => panic!("{error}"),
    }
}

async fn asked(queue: &MemoryQueue) -> Entry {
    let mut changes = queue.changes();
    loop {
        if let Some(entry) = queue.list(Which::Open).await.unwrap().pop() {
            return entry;
        }
        changes.changed().await.unwrap();
    }
}

#[tokio::test]
async fn a_token_lets_the_call_through_that_waits_and_both_are_in_the_log() {
    let (queue, log, service_log) = (Arc::new(MemoryQueue::new()), Log::new(), Log::new());
    let agent = asking(&queue, &log).build().unwrap();
    // Any handle will do, also one of another program that shares the queue.
    let service = asking(&queue, &service_log).build().unwrap();
    let session = agent.caller().session_id.clone();
    let waiting = {
        let agent = agent.clone();
        tokio::spawn(async move { wire(&agent, 4000).await })
    };
    let entry = asked(&queue).await;
    let decided = service
        .resume(&token(&entry, Allowed::Either), &Ruling::approve(Some("ada")))
        .await
        .unwrap();
    assert_eq!(decided.id, entry.id);
    assert_eq!(waiting.await.unwrap().unwrap(), "sent");
    agent.close().await.unwrap();
    service.close().await.unwrap();
    let line = &log.of_kind("hitl_decision")[0];
    assert_eq!(
        (&line["decision"], &line["operator"], &line["request_id"]),
        (&json!("approve"), &json!("ada"), &json!(entry.id))
    );
    let line = &service_log.of_kind("admin")[0];
    assert_eq!(
        (&line["session_id"], &line["operator"], &line["what"]),
        (
            &json!(session.as_str()),
            &json!("ada"),
            &json!("approved a request by its token")
        )
    );
    assert_eq!(line["reason"], format!("request {}", entry.id));
}

#[tokio::test]
async fn a_token_that_rejects_tells_the_agent_why() {
    let (queue, log) = (Arc::new(MemoryQueue::new()), Log::new());
    let agent = asking(&queue, &log).build().unwrap();
    let human = async {
        let entry = asked(&queue).await;
        let token = token(&entry, Allowed::Reject);
        let approves = agent.resume(&token, &Ruling::approve(None)).await;
        assert!(matches!(approves, Err(ResumeError::NotAllowed)));
        agent
            .resume(&token, &Ruling::reject("not today", Some("bob")))
            .await
            .unwrap();
        let twice = agent.resume(&token, &Ruling::reject("no", None)).await;
        assert!(matches!(twice, Err(ResumeError::NotPending)));
    };
    let (refused, ()) = tokio::join!(wire(&agent, 1), human);
    let refusal = refused.unwrap_err();
    assert_eq!((refusal.rule_id(), &*refusal.reason()), ("wires", "not today"));
    agent.close().await.unwrap();
    assert_eq!(log.of_kind("admin").len(), 1);
}

#[tokio::test]
async fn a_token_decides_nothing_without_a_gate_that_takes_it_or_after_a_kill() {
    let (queue, log) = (Arc::new(MemoryQueue::new()), Log::new());
    let agent = asking(&queue, &log).build().unwrap();
    let waiting = {
        let agent = agent.clone();
        tokio::spawn(async move { wire(&agent, 4000).await })
    };
    let entry = asked(&queue).await;
    let token = token(&entry, Allowed::Either);
    let approve = Ruling::approve(Some("ada"));
    let no_gate = builder().build().unwrap();
    let other_gate = builder()
        .hitl_gate(Arc::new(InMemoryHitlGate::approving()))
        .build()
        .unwrap();
    for firewall in [no_gate, other_gate] {
        let refused = firewall.resume(&token, &approve).await;
        assert!(matches!(refused, Err(ResumeError::NoLinks)));
    }
    let forged = token.replacen(".e.", ".a.", 1);
    let refused = agent.resume(&forged, &approve).await;
    assert!(matches!(refused, Err(ResumeError::Invalid)));

    agent.kill("enough").await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap_err().rule_id(), rule_ids::KILL);
    let mut changes = queue.changes();
    while !queue.list(Which::Open).await.unwrap().is_empty() {
        changes.changed().await.unwrap();
    }
    let refused = agent.resume(&token, &approve).await;
    assert!(matches!(refused, Err(ResumeError::NotPending)));
    agent.close().await.unwrap();
    assert!(log.of_kind("admin").is_empty() && log.of_kind("tool_call").is_empty());
}

#[tokio::test]
async fn each_use_of_a_grant_is_logged_against_it() {
    let (queue, log) = (Arc::new(MemoryQueue::new()), Log::new());
    let firewall = asking(&queue, &log).build().unwrap();
    let grant = Grant {
        name: "small wires".into(),
        session_id: firewall.caller().session_id.as_str().into(),
        what: Granted::Tool(ToolPattern {
            tool: "wire".into(),
            args: vec![ArgPattern {
                pointer: "/usd".into(),
                pattern: r"\d{1,2}".into(),
            }],
            other_args: false,
        }),
        until: "9999-01-01T00:00:00Z".parse().unwrap(),
        times: Some(3),
        operator: Some("ada".into()),
    };
    assert!(queue.add_grant(&grant).await.unwrap());
    for usd in [1, 99, 1] {
        wire(&firewall, usd).await.unwrap();
    }
    // Used up: a human is asked again.
    let human = async {
        let entry = asked(&queue).await;
        queue
            .decide(&entry.id, &Ruling::reject("no more", None))
            .await
            .unwrap();
    };
    let (refused, ()) = tokio::join!(wire(&firewall, 1), human);
    assert_eq!(refused.unwrap_err().reason(), "no more");
    firewall.close().await.unwrap();

    let decisions = log.of_kind("hitl_decision");
    let said: Vec<_> = decisions[..3]
        .iter()
        .map(|line| line["reason"].as_str().unwrap())
        .collect();
    assert_eq!(
        said,
        [
            "granted: small wires (use 1 of 3)",
            "granted: small wires (use 2 of 3)",
            "granted: small wires (use 3 of 3)"
        ]
    );
    assert!(decisions[..3].iter().all(|line| line["operator"] == "ada"));
    // Each call names the decision that let it through.
    let calls = log.of_kind("tool_call");
    assert_eq!(calls.len(), 3);
    for (call, decision) in calls.iter().zip(&decisions) {
        assert_eq!(call["hitl_request_id"], decision["request_id"]);
    }
}
