//! The laws of [`HitlQueue`]. Each is one function; [`hitl_queue_conformance!`](crate::hitl_queue_conformance) makes a
//! named test of each for a queue. A law wants an empty queue. None waits for time to pass.
#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "laws are tests: a broken one panics"
)]

use std::sync::Arc;
use std::time::Duration;

use leash_core::{
    Action, Call, Caller, Decision, IdGenerator, RequestId, SessionId, TenantId, Timestamp, ToolCall,
};
use serde_json::{Value, json};

use crate::{
    Approval, ApprovalRequest, ArgPattern, Binding, Closed, Closing, Decided, Entry, Grant, GrantUse,
    Granted, HitlGate, HitlQueue, NewEntry, QueueHitlGate, Ruling, Shown, Status, ToolPattern, Which,
};

/// Makes one `#[tokio::test]` per law for the queue that the expression gives: a future of a pair of an
/// `Arc<dyn HitlQueue>` and whatever has to live as long. With `each`, inside an async test, it holds one queue after the
/// other to all laws, where a test of each would start too much.
#[macro_export]
macro_rules! hitl_queue_conformance {
    ($name:ident, $queue:expr) => {
        mod $name {
            use super::*;
            $crate::hitl_queue_conformance!(@list laws $queue);
        }
    };
    (each $queue:expr) => {
        $crate::hitl_queue_conformance!(@list each $queue)
    };
    (@list $then:ident $queue:expr) => {
        $crate::hitl_queue_conformance!(@$then $queue,
            what_was_asked_is_kept_as_it_was
            the_same_call_joins_the_entry_that_is_open
            another_call_never_joins
            a_decision_moves_a_pending_entry_once
            an_approval_is_consumed_by_one_of_32
            an_approval_fits_its_own_hash_only
            what_is_over_can_be_neither_decided_nor_consumed
            what_is_withdrawn_can_no_longer_be_approved
            an_entry_that_others_await_is_not_closed
            an_approval_waits_for_the_call_to_be_made_again
            only_what_can_be_decided_is_listed_as_open
            whoever_waits_is_told
            ids_of_any_spelling_are_never_anothers
            a_grant_is_used_as_often_as_it_says
            a_grant_ends_with_its_time_and_by_hand
            a_gate_lets_one_call_through_for_one_approval
            a_gate_tells_why_it_was_rejected
            a_gate_expires_its_entry_and_leaves_it_for_inspection
            a_gate_that_is_dropped_withdraws
            a_gate_never_shows_a_masked_field_for_approval
            a_gate_uses_a_grant_and_names_it
        );
    };
    (@each $queue:expr, $($law:ident)*) => {
        $(
            let (queue, _alive) = $queue.await;
            $crate::conformance::$law(queue).await;
        )*
    };
    (@laws $queue:expr, $($law:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                let (queue, _alive) = $queue.await;
                $crate::conformance::$law(queue).await;
            }
        )*
    };
}

const HOUR: Duration = Duration::from_hours(1);

type Queue = Arc<dyn HitlQueue>;

fn caller() -> Caller {
    Caller {
        session_id: SessionId::new("s_1").unwrap(),
        tenant_id: Some(TenantId::new("acme").unwrap()),
        agent_name: None,
    }
}

fn id() -> RequestId {
    IdGenerator::from_os().request(Timestamp::from_unix_micros(1_790_000_000_000_000).unwrap())
}

/// A call of the tool `wire` with `args`, asked for by the rule `wires`.
#[must_use]
pub fn request(args: Value) -> ApprovalRequest {
    let call = Call::Tool(ToolCall::new("wire", args, caller()));
    ApprovalRequest {
        id: id(),
        request_digest: call.request_digest(),
        call,
        decision: Decision::new(Action::Hitl, "wires", "money leaves"),
        policy_version: "7".into(),
    }
}

/// The entry for a call of the tool `wire` with `args`, awaited and good for an hour.
#[must_use]
pub fn entry(args: Value) -> NewEntry {
    let request = request(args);
    let shown = Shown::of(&request.call, false).unwrap();
    NewEntry {
        id: request.id,
        session_id: "s_1".into(),
        tenant_id: Some("acme".into()),
        tool: "wire".into(),
        args: shown.canonical().into(),
        rule_id: "wires".into(),
        reason: "money leaves".into(),
        call_hash: shown.hash(request.call.caller(), "wires", "7"),
        policy_version: "7".into(),
        wait: HOUR,
        valid_for: HOUR,
    }
}

fn approve() -> Ruling {
    Ruling::approve(Some("ada"))
}

fn withdraw(unless_awaited_after: Option<Timestamp>) -> Closing {
    Closing {
        why: Closed::Withdrawn,
        reason: "hitl: withdrawn".into(),
        unless_awaited_after,
    }
}

/// The one entry that is open, as soon as it is.
async fn asked(queue: &Queue) -> Entry {
    let mut changes = queue.changes();
    loop {
        if let Some(entry) = queue.list(Which::Open).await.unwrap().pop() {
            return entry;
        }
        changes.changed().await.unwrap();
    }
}

/// Every field comes back.
pub async fn what_was_asked_is_kept_as_it_was(queue: Queue) {
    let new = entry(json!({"note": "a\"b\\ \u{1f680}\u{7f}\u{1b}[2J", "big": 1e300}));
    let kept = queue.enqueue(&new).await.unwrap();
    let read = queue.get(&new.id.to_string()).await.unwrap().unwrap();
    assert_eq!(kept, read);
    assert_eq!(read, Entry::made_of(&new, kept.created_at));
    assert_eq!(read.shows_what_is_hashed(), Some(true));
    assert_eq!(read.status, Status::Pending);
    assert_eq!(queue.get("unknown").await.unwrap(), None);
}

/// Duplicates are one question, awaited as long as the last of them.
pub async fn the_same_call_joins_the_entry_that_is_open(queue: Queue) {
    let first = queue.enqueue(&entry(json!({"amount": 1}))).await.unwrap();
    let longer = NewEntry {
        wait: 2 * HOUR,
        valid_for: 3 * HOUR,
        ..entry(json!({"amount": 1}))
    };
    let second = queue.enqueue(&longer).await.unwrap();
    assert_eq!(first.id, second.id);
    assert!(second.waits_until > first.waits_until && second.expires_at > first.expires_at);
    let shorter = NewEntry {
        wait: Duration::ZERO,
        valid_for: Duration::ZERO,
        ..entry(json!({"amount": 1}))
    };
    let third = queue.enqueue(&shorter).await.unwrap();
    assert_eq!(
        (third.waits_until, third.expires_at),
        (second.waits_until, second.expires_at)
    );
    assert_eq!(queue.list(Which::All).await.unwrap().len(), 1);
}

/// Another byte, another session, rule or policy is another question.
pub async fn another_call_never_joins(queue: Queue) {
    let first = queue.enqueue(&entry(json!({"amount": 1}))).await.unwrap();
    let second = queue.enqueue(&entry(json!({"amount": 2}))).await.unwrap();
    assert_ne!(first.id, second.id);
    queue.decide(&first.id, &approve()).await.unwrap();
    assert!(
        !queue
            .consume(&second.id, &second.call_hash.unwrap())
            .await
            .unwrap()
    );
    assert_eq!(queue.list(Which::Open).await.unwrap(), [second]);
}

/// Of many that decide at once one does, and it stays.
pub async fn a_decision_moves_a_pending_entry_once(queue: Queue) {
    let entry = queue.enqueue(&entry(json!({}))).await.unwrap();
    let deciders: Vec<_> = (0..16)
        .map(|n| {
            let (queue, id) = (queue.clone(), entry.id.clone());
            tokio::spawn(async move {
                let ruling = if n % 2 == 0 {
                    approve()
                } else {
                    Ruling::reject("no", Some("bob"))
                };
                queue.decide(&id, &ruling).await.unwrap()
            })
        })
        .collect();
    let mut done = Vec::new();
    for decider in deciders {
        if let Decided::Done(entry) = decider.await.unwrap() {
            done.push(entry);
        }
    }
    assert_eq!(done.len(), 1);
    let stands = queue.get(&entry.id).await.unwrap().unwrap();
    assert_eq!(stands, done[0]);
    assert!(stands.decided_at.is_some() && stands.operator.is_some() && stands.closed.is_none());
    assert!(matches!(
        queue.decide(&entry.id, &approve()).await.unwrap(),
        Decided::NotPending(_)
    ));
    assert_eq!(
        queue.decide("unknown", &approve()).await.unwrap(),
        Decided::Unknown
    );
}

/// A compare-and-set.
pub async fn an_approval_is_consumed_by_one_of_32(queue: Queue) {
    let entry = queue.enqueue(&entry(json!({}))).await.unwrap();
    let hash = entry.call_hash.unwrap();
    assert!(
        !queue.consume(&entry.id, &hash).await.unwrap(),
        "not approved yet"
    );
    queue.decide(&entry.id, &approve()).await.unwrap();
    let racers: Vec<_> = (0..32)
        .map(|_| {
            let (queue, id) = (queue.clone(), entry.id.clone());
            tokio::spawn(async move { queue.consume(&id, &hash).await.unwrap() })
        })
        .collect();
    let mut won = 0;
    for racer in racers {
        won += i32::from(racer.await.unwrap());
    }
    assert_eq!(won, 1);
    assert!(queue.get(&entry.id).await.unwrap().unwrap().consumed_at.is_some());
}

/// Whoever comes with other bytes gets nothing.
pub async fn an_approval_fits_its_own_hash_only(queue: Queue) {
    let one = queue.enqueue(&entry(json!({"amount": 1}))).await.unwrap();
    let other = entry(json!({"amount": 2})).call_hash;
    queue.decide(&one.id, &approve()).await.unwrap();
    assert!(!queue.consume(&one.id, &other).await.unwrap());
    assert!(!queue.consume("unknown", &one.call_hash.unwrap()).await.unwrap());
    assert!(queue.consume(&one.id, &one.call_hash.unwrap()).await.unwrap());
}

/// Good until a moment, and not at it.
pub async fn what_is_over_can_be_neither_decided_nor_consumed(queue: Queue) {
    let over = NewEntry {
        valid_for: Duration::ZERO,
        ..entry(json!({}))
    };
    let first = queue.enqueue(&over).await.unwrap();
    assert!(matches!(
        queue.decide(&first.id, &approve()).await.unwrap(),
        Decided::NotPending(_)
    ));
    assert!(queue.list(Which::Open).await.unwrap().is_empty());
    let second = queue.enqueue(&NewEntry { id: id(), ..over }).await.unwrap();
    assert_ne!(first.id, second.id, "nobody joins what is over");
    assert!(!queue.consume(&first.id, &first.call_hash.unwrap()).await.unwrap());
}

/// A kill takes the question back.
pub async fn what_is_withdrawn_can_no_longer_be_approved(queue: Queue) {
    let first = queue.enqueue(&entry(json!({}))).await.unwrap();
    assert!(
        queue
            .close(&first.id, &withdraw(first.waits_until))
            .await
            .unwrap()
    );
    assert!(!queue.close(&first.id, &withdraw(None)).await.unwrap());
    assert!(matches!(
        queue.decide(&first.id, &approve()).await.unwrap(),
        Decided::NotPending(_)
    ));
    assert!(!queue.consume(&first.id, &first.call_hash.unwrap()).await.unwrap());
    let stands = queue.get(&first.id).await.unwrap().unwrap();
    assert_eq!(
        (stands.status, stands.closed),
        (Status::Rejected, Some(Closed::Withdrawn))
    );
    assert_eq!(stands.decision_reason.as_deref(), Some("hitl: withdrawn"));
    let second = queue.enqueue(&entry(json!({}))).await.unwrap();
    assert_ne!(first.id, second.id);
    assert!(!queue.close("unknown", &withdraw(None)).await.unwrap());
}

/// Who goes away first does not take the question from who stays.
pub async fn an_entry_that_others_await_is_not_closed(queue: Queue) {
    let short = queue
        .enqueue(&NewEntry {
            wait: Duration::ZERO,
            ..entry(json!({}))
        })
        .await
        .unwrap();
    let long = queue.enqueue(&entry(json!({}))).await.unwrap();
    assert!(
        !queue
            .close(&short.id, &withdraw(short.waits_until))
            .await
            .unwrap()
    );
    assert!(queue.close(&long.id, &withdraw(long.waits_until)).await.unwrap());
}

/// The agent's process may have died meanwhile.
pub async fn an_approval_waits_for_the_call_to_be_made_again(queue: Queue) {
    let first = queue.enqueue(&entry(json!({}))).await.unwrap();
    queue.decide(&first.id, &approve()).await.unwrap();
    let again = queue.enqueue(&entry(json!({}))).await.unwrap();
    assert_eq!(
        (again.id.as_str(), again.status),
        (first.id.as_str(), Status::Approved)
    );
    assert!(queue.consume(&again.id, &again.call_hash.unwrap()).await.unwrap());
    let next = queue.enqueue(&entry(json!({}))).await.unwrap();
    assert_ne!(next.id, first.id, "used up");
    queue.decide(&next.id, &Ruling::reject("no", None)).await.unwrap();
    let after = queue.enqueue(&entry(json!({}))).await.unwrap();
    assert_ne!(after.id, next.id, "a rejection is an answer to one question");
}

/// Oldest first; the rest stays for inspection.
pub async fn only_what_can_be_decided_is_listed_as_open(queue: Queue) {
    let mut ids = Vec::new();
    for amount in 0..4 {
        ids.push(queue.enqueue(&entry(json!({"amount": amount}))).await.unwrap().id);
    }
    queue.decide(&ids[0], &approve()).await.unwrap();
    queue.close(&ids[1], &withdraw(None)).await.unwrap();
    let listed = |entries: Vec<Entry>| entries.into_iter().map(|entry| entry.id).collect::<Vec<_>>();
    assert_eq!(listed(queue.list(Which::Open).await.unwrap()), ids[2..]);
    assert_eq!(listed(queue.list(Which::All).await.unwrap()), ids);
}

/// In this process at least, at once.
pub async fn whoever_waits_is_told(queue: Queue) {
    let entry = queue.enqueue(&entry(json!({}))).await.unwrap();
    let waiting = {
        let (queue, id) = (queue.clone(), entry.id.clone());
        tokio::spawn(async move {
            let mut changes = queue.changes();
            while queue.get(&id).await.unwrap().unwrap().status == Status::Pending {
                changes.changed().await.unwrap();
            }
        })
    };
    queue.decide(&entry.id, &approve()).await.unwrap();
    waiting.await.unwrap();
}

/// Sessions with slashes, quotes, escapes, control characters, emoji, and long ones: what is read may be anything.
pub async fn ids_of_any_spelling_are_never_anothers(queue: Queue) {
    let long = "x".repeat(10 * 1024);
    let longer = format!("{long}x");
    let sessions = [
        "a/b",
        "a%2fb",
        "a%2Fb",
        "a b",
        "a",
        "a\0b",
        "a\0",
        "..",
        "../s_1",
        "'; DROP TABLE hitl_requests; --",
        "a:b",
        "\u{1f680}",
        "a\nb",
        "*",
        "s_1",
        &long,
        &longer,
    ];
    let asked_in = |session: &str| NewEntry {
        id: id(),
        session_id: session.to_owned(),
        tenant_id: None,
        call_hash: Binding {
            tool: "wire",
            shown: "{}",
            session_id: session,
            tenant_id: None,
            rule_id: "wires",
            policy_version: "7",
        }
        .hash(),
        ..entry(json!({}))
    };
    let mut entries = Vec::new();
    for (at, session) in sessions.iter().enumerate() {
        entries.push(queue.enqueue(&asked_in(session)).await.unwrap());
        let all = queue.list(Which::Open).await.unwrap();
        assert_eq!(all.len(), at + 1, "{session:?} joined another's");
        assert_eq!(all[at].session_id, *session);
        assert_eq!(queue.get(session).await.unwrap(), None);
        assert_eq!(queue.decide(session, &approve()).await.unwrap(), Decided::Unknown);
    }
    for (at, session) in sessions.iter().enumerate() {
        queue.decide(&entries[at].id, &approve()).await.unwrap();
        let again = queue.enqueue(&asked_in(session)).await.unwrap();
        assert_eq!(
            (again.id.as_str(), again.status),
            (entries[at].id.as_str(), Status::Approved)
        );
        for other in &entries {
            let hash = other.call_hash.unwrap();
            assert_eq!(
                queue.consume(&entries[at].id, &hash).await.unwrap(),
                other.id == entries[at].id,
                "{session:?} and {:?}",
                other.session_id
            );
        }
    }
}

fn grant(name: &str, times: u64) -> Grant {
    Grant {
        name: name.into(),
        session_id: "s_1".into(),
        what: Granted::Tool(ToolPattern {
            tool: "wire".into(),
            args: vec![ArgPattern {
                pointer: "/amount".into(),
                pattern: r"\d{1,2}".into(),
            }],
            other_args: false,
        }),
        until: "9999-01-01T00:00:00Z".parse().unwrap(),
        times: Some(times),
        operator: Some("ada".into()),
    }
}

/// Each use is counted, by a compare-and-set.
pub async fn a_grant_is_used_as_often_as_it_says(queue: Queue) {
    assert!(queue.add_grant(&grant("small wires", 5)).await.unwrap());
    assert!(!queue.add_grant(&grant("small wires", 50)).await.unwrap());
    assert!(
        queue
            .add_grant(&Grant {
                times: None,
                ..grant("x", 1)
            })
            .await
            .is_err()
    );
    let racers: Vec<_> = (0..16)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.use_grant("small wires").await.unwrap() })
        })
        .collect();
    let mut uses = Vec::new();
    for racer in racers {
        uses.extend(racer.await.unwrap());
    }
    let mut numbers: Vec<_> = uses.iter().map(|used| used.used).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    assert_eq!(
        (uses[0].times, uses[0].operator.as_deref()),
        (Some(5), Some("ada"))
    );
    let standing = queue.grants().await.unwrap();
    assert_eq!((standing.len(), standing[0].used), (1, 5));
    assert_eq!(standing[0].grant, grant("small wires", 5));
}

/// And its name is never given again.
pub async fn a_grant_ends_with_its_time_and_by_hand(queue: Queue) {
    let over = Grant {
        until: "2020-01-01T00:00:00Z".parse().unwrap(),
        ..grant("over", 5)
    };
    queue.add_grant(&over).await.unwrap();
    assert_eq!(queue.use_grant("over").await.unwrap(), None);
    queue.add_grant(&grant("revoked", 5)).await.unwrap();
    assert!(queue.use_grant("revoked").await.unwrap().is_some());
    assert!(queue.revoke_grant("revoked").await.unwrap());
    assert!(!queue.revoke_grant("revoked").await.unwrap());
    assert_eq!(queue.use_grant("revoked").await.unwrap(), None);
    assert!(!queue.add_grant(&grant("revoked", 5)).await.unwrap());
    assert!(queue.grants().await.unwrap()[1].revoked_at.is_some());
    assert_eq!(queue.use_grant("unknown").await.unwrap(), None);
    assert!(!queue.revoke_grant("unknown").await.unwrap());
}

fn gate(queue: &Queue) -> QueueHitlGate {
    QueueHitlGate::new(queue.clone()).timeout(HOUR)
}

/// Two who make the same call at once share the question; the approval is for one, and the other asks anew.
pub async fn a_gate_lets_one_call_through_for_one_approval(queue: Queue) {
    let ask = || {
        let gate = gate(&queue);
        tokio::spawn(async move { gate.request(&request(json!({"amount": 4000}))).await })
    };
    let first = ask();
    let question = asked(&queue).await;
    assert_eq!(question.args, r#"{"amount":4000}"#);
    let second = ask();
    let mut changes = queue.changes();
    queue.decide(&question.id, &approve()).await.unwrap();
    let anew = loop {
        if let Some(entry) = queue.list(Which::Open).await.unwrap().pop() {
            break entry;
        }
        changes.changed().await.unwrap();
    };
    assert_ne!(anew.id, question.id);
    queue
        .decide(&anew.id, &Ruling::reject("once is enough", None))
        .await
        .unwrap();
    let answers = [first.await.unwrap().unwrap(), second.await.unwrap().unwrap()];
    let approved: Vec<_> = answers
        .iter()
        .filter(|answer| matches!(answer.approval, Approval::Approved { .. }))
        .collect();
    let [approved] = approved[..] else {
        panic!("{answers:?}")
    };
    assert_eq!(approved.request_id.to_string(), question.id);
    assert_eq!(
        approved.approval,
        Approval::Approved {
            operator: Some("ada".into()),
            grant: None
        }
    );
}

/// The human's reason, or that of whoever decides without one.
pub async fn a_gate_tells_why_it_was_rejected(queue: Queue) {
    for (said, told) in [("not today", "not today"), ("", "rejected by human")] {
        let gate = gate(&queue);
        let agent = tokio::spawn(async move { gate.request(&request(json!({}))).await });
        let question = asked(&queue).await;
        queue
            .decide(&question.id, &Ruling::reject(said, Some("bob")))
            .await
            .unwrap();
        let answer = agent.await.unwrap().unwrap();
        assert_eq!(
            answer.approval,
            Approval::Rejected {
                reason: told.into(),
                operator: Some("bob".into())
            }
        );
    }
}

/// Silence denies, and says so in the original's words.
pub async fn a_gate_expires_its_entry_and_leaves_it_for_inspection(queue: Queue) {
    let gate = gate(&queue).timeout(Duration::from_millis(50));
    let answer = gate.request(&request(json!({}))).await.unwrap();
    let reason = "hitl: timeout after 0.05s";
    assert_eq!(
        answer.approval,
        Approval::Expired {
            reason: reason.into()
        }
    );
    let left = queue.get(&answer.request_id.to_string()).await.unwrap().unwrap();
    assert_eq!(
        (left.status, left.closed),
        (Status::Rejected, Some(Closed::Expired))
    );
    assert_eq!(left.decision_reason.as_deref(), Some(reason));
    assert!(matches!(
        queue.decide(&left.id, &approve()).await.unwrap(),
        Decided::NotPending(_)
    ));
}

/// Whoever is killed while it waits takes its question along.
pub async fn a_gate_that_is_dropped_withdraws(queue: Queue) {
    let gate = gate(&queue);
    let agent = tokio::spawn(async move { gate.request(&request(json!({}))).await });
    let question = asked(&queue).await;
    let mut changes = queue.changes();
    agent.abort();
    loop {
        let left = queue.get(&question.id).await.unwrap().unwrap();
        if left.status != Status::Pending {
            assert_eq!(left.closed, Some(Closed::Withdrawn));
            break;
        }
        changes.changed().await.unwrap();
    }
    assert!(matches!(
        queue.decide(&question.id, &approve()).await.unwrap(),
        Decided::NotPending(_)
    ));
}

/// Nobody is asked what they could not read.
pub async fn a_gate_never_shows_a_masked_field_for_approval(queue: Queue) {
    let masked = request(json!({"amount": 5, "to": {"iban": "[REDACTED:iban]"}}));
    let strict = gate(&queue).show_fields(["iban"]);
    let answer = strict.request(&masked).await.unwrap();
    assert!(
        matches!(answer.approval, Approval::Rejected { ref reason, .. } if reason.contains("`iban` is masked"))
    );
    assert!(queue.list(Which::All).await.unwrap().is_empty());
    let other_rule = gate(&queue)
        .timeout(Duration::ZERO)
        .show_fields_for_rule("another", ["iban"]);
    let answer = other_rule.request(&masked).await.unwrap();
    assert!(matches!(answer.approval, Approval::Expired { .. }));
}

/// What a human allowed beforehand is let through without a question, and counted.
pub async fn a_gate_uses_a_grant_and_names_it(queue: Queue) {
    queue.add_grant(&grant("small wires", 1)).await.unwrap();
    let gate = gate(&queue).timeout(Duration::ZERO);
    let small = request(json!({"amount": 99}));
    let granted = gate.request(&small).await.unwrap();
    assert_eq!(
        granted.approval,
        Approval::Approved {
            operator: Some("ada".into()),
            grant: Some(GrantUse {
                name: "small wires".into(),
                used: 1,
                times: Some(1),
                operator: Some("ada".into()),
            })
        }
    );
    assert!(queue.list(Which::All).await.unwrap().is_empty());
    let used_up = gate.request(&small).await.unwrap();
    assert!(matches!(used_up.approval, Approval::Expired { .. }));
    queue.add_grant(&grant("more wires", 1)).await.unwrap();
    let large = gate.request(&request(json!({"amount": 100}))).await.unwrap();
    assert!(matches!(large.approval, Approval::Expired { .. }));
}
