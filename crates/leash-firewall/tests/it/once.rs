//! A human is asked once about a call that a model asks for and an agent then makes; and each approval lets it be made
//! once at most.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use leash_core::{
    Action, AgentName, Call, Decision, Json, LeashError, PolicyContext, Redactor, Rule, RuleError, SessionId,
    StoreError, Timestamp, ToolRequest, rule_ids,
};
use leash_firewall::{Firewall, FirewallBuilder, GuardedError};
use leash_hitl::{
    Approval, ApprovalRequest, ArgPattern, Grant, Granted, HitlAnswer, HitlGate, HitlQueue as _, MemoryQueue,
    QueueHitlGate, Ruling, ToolPattern, Which,
};
use serde_json::{Value, json};

use crate::support::{HandClock, Log, builder};

/// Asks about every tool.
#[derive(Debug)]
struct Asks;

impl Rule for Asks {
    fn id(&self) -> &'static str {
        "asks"
    }

    fn evaluate(&self, call: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        let asks = matches!(call, Call::Tool(_));
        Ok(asks.then(|| Decision::new(Action::Hitl, "wires", "money leaves")))
    }
}

/// Approves so many requests, and rejects the rest; counts them by what they are about.
#[derive(Debug)]
struct Gate {
    left: AtomicUsize,
    good_until: Option<Timestamp>,
    approved: Mutex<HashMap<String, usize>>,
    asked: AtomicUsize,
}

impl Gate {
    fn new(approvals: usize) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicUsize::new(approvals),
            good_until: None,
            approved: Mutex::default(),
            asked: AtomicUsize::new(0),
        })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn approved(&self, about: &str) -> usize {
        self.approved.lock().unwrap().get(about).copied().unwrap_or(0)
    }
}

/// What a request is about: its session and its canonical arguments.
fn about(session: &str, args: &Value) -> String {
    format!("{session} {args}")
}

#[async_trait]
impl HitlGate for Gate {
    async fn request(&self, request: &ApprovalRequest) -> Result<HitlAnswer, StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let left = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_err() {
            return Ok(Approval::rejected("no more").answers(request));
        }
        let Call::Tool(call) = &request.call else {
            panic!("tools only")
        };
        let about = about(call.caller.session_id.as_str(), call.args.value());
        *self.approved.lock().unwrap().entry(about).or_default() += 1;
        let mut answer = Approval::approved().answers(request);
        answer.good_until = self.good_until;
        Ok(answer)
    }
}

fn firewall(gate: &Arc<Gate>) -> FirewallBuilder {
    builder().rule(Asks).hitl_gate(gate.clone())
}

fn wanted(args: &Value) -> ToolRequest {
    ToolRequest {
        id: String::new(),
        tool: "wire".into(),
        args: args.clone().into(),
    }
}

async fn run(firewall: &Firewall, args: &Value) -> Result<(), LeashError> {
    let ran = firewall.tool("wire", args.clone(), async |_| {
        tokio::task::yield_now().await;
        Ok::<Value, std::io::Error>(json!("sent"))
    });
    match ran.await {
        Ok(_) => Ok(()),
        Err(GuardedError::Refused(refusal)) => Err(refusal),
        Err(GuardedError::Failed(error)) => panic!("{error}"),
    }
}

#[tokio::test]
async fn what_was_approved_when_the_model_asked_runs_once_without_another_question() {
    let (gate, log) = (Gate::new(1), Log::new());
    let firewall = firewall(&gate).audit_log(log.path()).build().unwrap();
    let args = json!({"usd": 4000, "to": "ACME"});
    firewall.inspect(&wanted(&args)).await.unwrap();
    // The same value, written otherwise.
    run(&firewall, &json!({"to": "ACME", "usd": 4000})).await.unwrap();
    assert_eq!(gate.asked(), 1);
    let refused = run(&firewall, &args).await.unwrap_err();
    assert_eq!((refused.rule_id(), &*refused.reason()), ("wires", "no more"));
    assert_eq!(gate.asked(), 2, "the second time is another call");
    firewall.close().await.unwrap();
    // The line of the call names the decision that let it through.
    let decisions = log.of_kind("hitl_decision");
    let calls = log.of_kind("tool_call");
    assert_eq!((decisions.len(), calls.len()), (2, 1));
    assert_eq!(decisions[0]["decision"], "approve");
    assert_eq!(calls[0]["hitl_request_id"], decisions[0]["request_id"]);
}

/// Every order of asking for and making two calls in two sessions, with every number of approvals: a call never runs more
/// often than it was approved, and nobody is asked about a call that is approved already.
#[tokio::test]
async fn in_every_order_n_approvals_permit_n_runs_at_most() {
    const STEPS: u32 = 4;
    // Asked for or made; which arguments; in which session.
    let steps: Vec<(bool, usize, usize)> = (0..8).map(|n| (n & 1 == 0, (n >> 1) & 1, n >> 2)).collect();
    let args = [json!({"usd": 1}), json!({"usd": 2})];
    let ids = ["s_1", "s_2"].map(|id| SessionId::new(id).unwrap());
    for approvals in 0..=3 {
        for order in 0..8_usize.pow(STEPS) {
            // Half of the orders are the other half with the sessions exchanged.
            if (order & 7) >= 4 {
                continue;
            }
            let gate = Gate::new(approvals);
            let first = firewall(&gate).session_id(ids[0].clone()).build().unwrap();
            let sessions = [first.clone(), first.session(ids[1].clone())];
            let mut runs: HashMap<String, usize> = HashMap::new();
            // The model of it: approvals that wait for their call.
            let mut waiting: HashMap<String, usize> = HashMap::new();
            let mut asked = 0;
            let mut rest = order;
            for _ in 0..STEPS {
                let (asks, which, session) = steps[rest & 7];
                rest >>= 3;
                let what = about(ids[session].as_str(), &args[which]);
                let waits = waiting.entry(what.clone()).or_default();
                if asks {
                    asked += 1;
                    let approved = sessions[session].inspect(&wanted(&args[which])).await.is_ok();
                    assert_eq!(approved, asked <= approvals, "{order}");
                    *waits += usize::from(approved);
                } else {
                    let ran = run(&sessions[session], &args[which]).await.is_ok();
                    if *waits > 0 {
                        assert!(ran, "{order}: it was approved");
                        *waits -= 1;
                    } else {
                        asked += 1;
                        assert_eq!(ran, asked <= approvals, "{order}");
                    }
                    *runs.entry(what.clone()).or_default() += usize::from(ran);
                }
                assert_eq!(gate.asked(), asked, "{order}");
                let ran = runs.get(&what).copied().unwrap_or(0);
                assert!(ran <= gate.approved(&what), "{order}: more runs than approvals");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_make_an_approved_call_at_once_as_many_run_as_were_approved() {
    let gate = Gate::new(3);
    let firewall = firewall(&gate).build().unwrap();
    let args = json!({"usd": 1});
    for _ in 0..3 {
        firewall.inspect(&wanted(&args)).await.unwrap();
    }
    let racers: Vec<_> = (0..32)
        .map(|_| {
            let (firewall, args) = (firewall.clone(), args.clone());
            tokio::spawn(async move { run(&firewall, &args).await.is_ok() })
        })
        .collect();
    let mut ran = 0;
    for racer in racers {
        ran += usize::from(racer.await.unwrap());
    }
    assert_eq!(ran, 3);
}

#[tokio::test]
async fn an_approval_fits_no_other_call_caller_or_rule() {
    let gate = Gate::new(1);
    let agent = AgentName::new("researcher").unwrap();
    let named = firewall(&gate).agent_name(agent).build().unwrap();
    let args = json!({"usd": 4000});
    named.inspect(&wanted(&args)).await.unwrap();
    let same_id = named.caller().session_id.clone();
    let others = [
        named.session(SessionId::new("another").unwrap()),
        // Another firewall, be it of the same session, knows nothing of it.
        firewall(&gate).session_id(same_id.clone()).build().unwrap(),
    ];
    for other in &others {
        assert!(run(other, &args).await.is_err());
    }
    for other in [
        json!({"usd": 4001}),
        json!({"usd": "4000"}),
        json!({"usd": 4000, "x": 1}),
    ] {
        assert!(run(&named, &other).await.is_err(), "{other}");
    }
    let tool = named.tool("wires", args.clone(), async |_| {
        Ok::<Value, std::io::Error>(json!(0))
    });
    assert!(tool.await.is_err());
    // Still there for the one that it is for.
    run(&named, &args).await.unwrap();
}

#[tokio::test]
async fn an_approval_that_is_over_or_came_too_late_lets_nothing_through() {
    let clock = HandClock::at("2027-01-31T10:00:00Z");
    let args = json!({"usd": 4000});
    for (good_until, last, over) in [
        (
            Some("2027-01-31T10:00:30Z"),
            "2027-01-31T10:00:29.999999Z",
            "2027-01-31T10:00:30Z",
        ),
        (None, "2027-01-31T10:09:59.999999Z", "2027-01-31T10:10:00Z"),
    ] {
        for (at, runs) in [(last, true), (over, false)] {
            clock.set("2027-01-31T10:00:00Z");
            let mut gate = Gate::new(1);
            Arc::get_mut(&mut gate).unwrap().good_until = good_until.map(|until| until.parse().unwrap());
            let firewall = firewall(&gate).clock(clock.clone()).build().unwrap();
            firewall.inspect(&wanted(&args)).await.unwrap();
            clock.set(at);
            assert_eq!(run(&firewall, &args).await.is_ok(), runs, "{good_until:?} {at}");
        }
    }
    // A kill stands above it.
    let gate = Gate::new(1);
    let firewall = firewall(&gate).build().unwrap();
    firewall.inspect(&wanted(&args)).await.unwrap();
    firewall.kill("enough").await.unwrap();
    assert_eq!(run(&firewall, &args).await.unwrap_err().rule_id(), rule_ids::KILL);
}

/// Takes names out.
#[derive(Debug)]
struct NoNames;

impl Redactor for NoNames {
    fn redact(&self, document: &Json) -> Result<Option<Json>, RuleError> {
        let text = document.text();
        if !text.contains("Ada") {
            return Ok(None);
        }
        let text = text.replace("Ada", "[REDACTED:name]");
        Ok(Some(Json::parse(text).unwrap()))
    }
}

#[tokio::test]
async fn what_is_approved_is_what_leaves_and_not_what_was_masked() {
    let gate = Gate::new(1);
    let firewall = firewall(&gate).redactor(NoNames).build().unwrap();
    let args = json!({"usd": 4000, "to": "Ada"});
    firewall.inspect(&wanted(&args)).await.unwrap();
    let ran = firewall.tool("wire", args, async |call| {
        assert!(!call.args.text().contains("Ada"));
        Ok::<Value, std::io::Error>(json!("sent"))
    });
    ran.await.unwrap();
    assert_eq!(gate.asked(), 1);
}

/// Over a queue: the entry is used up when the model asks, and a second firewall on it gets nothing.
#[tokio::test]
async fn one_entry_of_a_queue_is_one_question_one_use_and_one_run() {
    let queue = Arc::new(MemoryQueue::new());
    let build = |timeout: Duration| {
        let gate = QueueHitlGate::new(queue.clone()).timeout(timeout);
        let id = SessionId::new("s_1").unwrap();
        builder()
            .rule(Asks)
            .hitl_gate(Arc::new(gate))
            .session_id(id)
            .build()
            .unwrap()
    };
    let (ours, theirs) = (build(Duration::from_hours(1)), build(Duration::ZERO));
    let args = json!({"usd": 4000});
    let human = async {
        let mut changes = queue.changes();
        loop {
            if let Some(entry) = queue.list(Which::Open).await.unwrap().pop() {
                queue
                    .decide(&entry.id, &Ruling::approve(Some("ada")))
                    .await
                    .unwrap();
                return;
            }
            changes.changed().await.unwrap();
        }
    };
    let request = wanted(&args);
    let (inspected, ()) = tokio::join!(ours.inspect(&request), human);
    inspected.unwrap();
    assert_eq!(
        run(&theirs, &args).await.unwrap_err().rule_id(),
        rule_ids::HITL_TIMEOUT
    );
    run(&ours, &args).await.unwrap();
    let approved = queue.list(Which::All).await.unwrap();
    let approved = approved.iter().filter(|entry| entry.consumed_at.is_some());
    assert_eq!(approved.count(), 1);
}

#[tokio::test]
async fn a_grant_counts_one_use_for_a_call_that_was_asked_for_and_made() {
    let queue = Arc::new(MemoryQueue::new());
    let gate = QueueHitlGate::new(queue.clone()).timeout(Duration::ZERO);
    let firewall = builder().rule(Asks).hitl_gate(Arc::new(gate)).build().unwrap();
    let grant = Grant {
        name: "small".into(),
        session_id: firewall.caller().session_id.as_str().into(),
        what: Granted::Tool(ToolPattern {
            tool: "wire".into(),
            args: vec![ArgPattern {
                pointer: "/usd".into(),
                pattern: r"\d".into(),
            }],
            other_args: false,
        }),
        until: "9999-01-01T00:00:00Z".parse().unwrap(),
        times: Some(2),
        operator: None,
    };
    assert!(queue.add_grant(&grant).await.unwrap());
    let args = json!({"usd": 1});
    for used in 1..=2 {
        firewall.inspect(&wanted(&args)).await.unwrap();
        run(&firewall, &args).await.unwrap();
        assert_eq!(queue.grants().await.unwrap()[0].used, used);
    }
    assert!(run(&firewall, &args).await.is_err());
}
