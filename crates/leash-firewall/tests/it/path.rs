//! The order of the questions, and what each answer does.

use std::sync::Arc;

use leash_core::{
    Action, AsyncRule, Call, Decision, Digest, Json, LeashError, PolicyContext, Redactor, Rule, RuleError,
    StoreError, StoreErrorKind, ToolRequest, Usage, rule_ids,
};
use leash_firewall::{Answer, Firewall, FirewallBuilder, GuardedError, ModelAnswer, ModelFailure};
use leash_hitl::{Approval, ApprovalRequest, HitlAnswer, HitlGate, InMemoryHitlGate};
use leash_policy::{BlockedPatterns, Policy};
use serde_json::json;

use crate::support::{Log, builder, call};

/// Decides the same for every call of a tool with its name.
#[derive(Debug)]
struct On(&'static str, Action);

impl Rule for On {
    fn id(&self) -> &'static str {
        "on"
    }

    fn evaluate(&self, call: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        Ok((call.tool() == self.0).then(|| Decision::new(self.1, "on", "the tool is watched")))
    }
}

/// Replaces a word everywhere.
#[derive(Debug)]
struct Replaces(&'static str, &'static str);

impl Redactor for Replaces {
    fn redact(&self, document: &Json) -> Result<Option<Json>, RuleError> {
        let redacted = document.text().replace(self.0, self.1);
        if redacted == document.text() {
            return Ok(None);
        }
        Json::parse(redacted)
            .map(Some)
            .map_err(|_| RuleError::new("the redacted call is not JSON"))
    }
}

async fn run(firewall: &Firewall, tool: &str) -> Result<serde_json::Value, GuardedError<std::io::Error>> {
    firewall
        .tool(tool, json!({"to": "mallory"}), async |call| {
            Ok(call.args.value().clone())
        })
        .await
        .map(|answered| answered.value)
}

fn refusal<T>(result: Result<T, GuardedError<std::io::Error>>) -> LeashError {
    match result {
        Err(GuardedError::Refused(error)) => error,
        Err(GuardedError::Failed(error)) => panic!("failed: {error}"),
        Ok(_) => panic!("let through"),
    }
}

#[tokio::test]
async fn a_block_is_in_the_log_with_its_rule_and_never_quotes_the_arguments() {
    let log = Log::new();
    let firewall = builder()
        .rule(On("wire", Action::Block))
        .audit_log(log.path())
        .build()
        .unwrap();
    assert!(matches!(
        refusal(run(&firewall, "wire").await),
        LeashError::Blocked { .. }
    ));
    assert_eq!(run(&firewall, "read").await.unwrap(), json!({"to": "mallory"}));
    firewall.close().await.unwrap();
    let decision = &log.of_kind("policy_decision")[0];
    assert_eq!(
        (&decision["action"], &decision["rule_id"], &decision["tool"]),
        (&json!("block"), &json!("on"), &json!("wire"))
    );
    assert_eq!(log.of_kind("refusal")[0]["stage"], "rules");
    let text = std::fs::read_to_string(log.path()).unwrap();
    assert!(!text.contains("mallory"));
    let tool_call = &log.of_kind("tool_call")[0];
    let hash = Digest::of(br#"{"arguments":{"to":"mallory"},"tool":"read"}"#).to_string();
    assert_eq!(tool_call["request_hash"], json!(hash));
    assert_eq!(
        tool_call["response_hash"],
        json!(Digest::of(br#"{"to":"mallory"}"#).to_string())
    );
}

#[tokio::test]
async fn a_warning_is_noted_and_a_block_after_it_still_blocks() {
    let log = Log::new();
    let firewall = builder()
        .rule(On("wire", Action::Warn))
        .rule(On("wire", Action::Hitl))
        .rule(On("wire", Action::Block))
        .hitl_gate(Arc::new(InMemoryHitlGate::approving()))
        .audit_log(log.path())
        .build()
        .unwrap();
    assert!(matches!(
        refusal(run(&firewall, "wire").await),
        LeashError::Blocked { .. }
    ));
    let actions: Vec<_> = log
        .of_kind("policy_decision")
        .iter()
        .map(|line| line["action"].clone())
        .collect();
    assert_eq!(actions, ["warn", "hitl", "block"]);
    assert!(
        log.of_kind("hitl_decision").is_empty(),
        "nobody is asked about what is blocked"
    );
}

#[tokio::test]
async fn only_an_explicit_approval_lets_through() {
    /// A gate that cannot ask, one that nobody answers.
    #[derive(Debug)]
    struct Answers(Option<Approval>);
    #[async_trait::async_trait]
    impl HitlGate for Answers {
        async fn request(&self, request: &ApprovalRequest) -> Result<HitlAnswer, StoreError> {
            let approval = self.0.clone();
            approval
                .map(|approval| approval.answers(request))
                .ok_or_else(|| StoreError::new(StoreErrorKind::Unavailable, "reach the approvers"))
        }
    }
    let asks = |gate: Option<Arc<dyn HitlGate>>| {
        let builder = builder().rule(On("wire", Action::Hitl));
        match gate {
            Some(gate) => builder.hitl_gate(gate).build().unwrap(),
            None => builder.build().unwrap(),
        }
    };
    let none = refusal(run(&asks(None), "wire").await);
    assert!(
        matches!(none, LeashError::RejectedByHuman { .. })
            && none.reason().starts_with("hitl: no gate configured")
    );
    let rejects = InMemoryHitlGate::rejecting("not today");
    let rejected = refusal(run(&asks(Some(Arc::new(rejects))), "wire").await);
    assert_eq!((rejected.rule_id(), &*rejected.reason()), ("on", "not today"));
    let expired = Answers(Some(Approval::Expired {
        reason: "hitl: timeout after 60.0s".into(),
    }));
    assert_eq!(
        refusal(run(&asks(Some(Arc::new(expired))), "wire").await).rule_id(),
        rule_ids::HITL_TIMEOUT
    );
    let broken = refusal(run(&asks(Some(Arc::new(Answers(None)))), "wire").await);
    assert!(matches!(broken, LeashError::Unavailable { .. }));
    let approves = Arc::new(InMemoryHitlGate::approving());
    run(&asks(Some(approves.clone())), "wire").await.unwrap();
    assert_eq!(approves.requests().len(), 1);
}

#[tokio::test]
async fn what_is_redacted_is_what_leaves_what_is_hashed_and_what_a_human_sees() {
    let log = Log::new();
    let gate = Arc::new(InMemoryHitlGate::approving());
    let firewall = builder()
        .redactor(Replaces("mallory", "[REDACTED:NAME]"))
        .rule(On("wire", Action::Hitl))
        .hitl_gate(gate.clone())
        .audit_log(log.path())
        .build()
        .unwrap();
    assert_eq!(
        run(&firewall, "wire").await.unwrap(),
        json!({"to": "[REDACTED:NAME]"})
    );
    let shown = &gate.requests()[0];
    assert_eq!(shown.call.content().text(), r#"{"to":"[REDACTED:NAME]"}"#);
    let line = &log.of_kind("tool_call")[0];
    assert_eq!(line["request_hash"], json!(shown.request_digest.to_string()));
    assert_eq!(line["hitl_request_id"], json!(shown.id.to_string()));
    assert!(
        log.of_kind("policy_decision")
            .iter()
            .any(|line| line["action"] == "redact")
    );
}

#[tokio::test]
async fn a_redactor_that_changes_the_messages_and_not_the_request_refuses() {
    /// Knows what a list of messages looks like, and nothing else.
    #[derive(Debug)]
    struct FirstMessage;
    impl Redactor for FirstMessage {
        fn redact(&self, document: &Json) -> Result<Option<Json>, RuleError> {
            Ok(document.value().get(0).map(|_| Json::from(json!(["taken out"]))))
        }
    }
    let firewall = builder().redactor(FirstMessage).build().unwrap();
    let mut asked = call(&firewall, 1);
    asked.body = Some(Json::from(json!({"model": "cent", "messages": ["mallory"]})));
    asked.messages = Json::from(json!(["mallory"]));
    assert_eq!(
        firewall.admit(asked.clone()).await.unwrap_err().rule_id(),
        rule_ids::REDACT
    );
    asked.body = None;
    let admission = firewall.admit(asked).await.unwrap();
    assert_eq!(admission.call().content().text(), r#"["taken out"]"#);
    admission.fail().await;
}

#[tokio::test]
async fn a_redacted_call_is_judged_again() {
    /// Blocks what the redactor made of it.
    #[derive(Debug)]
    struct NoMarks;
    impl Rule for NoMarks {
        fn id(&self) -> &'static str {
            "no_marks"
        }
        fn evaluate(&self, call: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
            let marked = call.content().text().contains("drop table");
            Ok(marked.then(|| Decision::new(Action::Block, "no_marks", "marked")))
        }
    }
    let firewall = builder()
        .redactor(Replaces("mallory", "drop table"))
        .rule(NoMarks)
        .build()
        .unwrap();
    assert_eq!(refusal(run(&firewall, "t").await).rule_id(), "no_marks");
}

#[tokio::test]
async fn rules_redactors_and_rules_elsewhere_that_fail_refuse() {
    #[derive(Debug)]
    struct Fails;
    impl Redactor for Fails {
        fn redact(&self, _: &Json) -> Result<Option<Json>, RuleError> {
            Err(RuleError::new("out of ideas"))
        }
    }
    #[async_trait::async_trait]
    impl AsyncRule for Fails {
        fn id(&self) -> &'static str {
            "scanner"
        }
        async fn evaluate(&self, _: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
            Err(RuleError::new("the scanner is gone"))
        }
    }
    let redacts = builder().redactor(Fails).build().unwrap();
    assert_eq!(refusal(run(&redacts, "t").await).rule_id(), rule_ids::REDACT);
    let scans = builder().async_rule(Fails).build().unwrap();
    assert_eq!(refusal(run(&scans, "t").await).rule_id(), "scanner");
}

#[tokio::test]
async fn what_somebody_else_wrote_and_panics_refuses_and_the_log_says_so() {
    #[derive(Debug)]
    struct Panics;
    impl Redactor for Panics {
        fn redact(&self, _: &Json) -> Result<Option<Json>, RuleError> {
            panic!("a redactor of somebody else");
        }
    }
    #[async_trait::async_trait]
    impl AsyncRule for Panics {
        fn id(&self) -> &'static str {
            "scanner"
        }
        async fn evaluate(&self, _: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
            tokio::task::yield_now().await;
            panic!("a rule of somebody else");
        }
    }
    #[async_trait::async_trait]
    impl HitlGate for Panics {
        async fn request(&self, _: &ApprovalRequest) -> Result<HitlAnswer, StoreError> {
            tokio::task::yield_now().await;
            panic!("a gate of somebody else");
        }
    }
    let log = Log::new();
    for (set, rule_id) in [
        (builder().redactor(Panics), rule_ids::REDACT),
        (builder().async_rule(Panics), "scanner"),
        (
            builder().rule(On("t", Action::Hitl)).hitl_gate(Arc::new(Panics)),
            rule_ids::HITL_GATE,
        ),
    ] {
        let firewall = set.audit_log(log.path()).build().unwrap();
        assert_eq!(refusal(run(&firewall, "t").await).rule_id(), rule_id);
        firewall.close().await.unwrap();
    }
    assert_eq!(log.refusals(), 3);
}

#[tokio::test]
async fn tool_calls_that_a_model_asks_for_are_judged_before_the_agent_sees_them() {
    let log = Log::new();
    let firewall = builder()
        .denied_tools(["wire_*"])
        .audit_log(log.path())
        .build()
        .unwrap();
    let asks = |tool: &'static str| {
        let firewall = firewall.clone();
        async move {
            let call = call(&firewall, 1);
            firewall
                .model(call, async |_| {
                    let mut answer = ModelAnswer::new((), Usage::default(), Json::null());
                    answer.tool_requests.push(ToolRequest {
                        id: "1".into(),
                        tool: tool.into(),
                        args: Json::null(),
                    });
                    Ok::<_, ModelFailure<std::io::Error>>(answer)
                })
                .await
        }
    };
    assert!(asks("search").await.is_ok());
    assert_eq!(refusal(asks("wire_transfer").await).rule_id(), "denied_tools");
    firewall.close().await.unwrap();
    assert_eq!(log.of_kind("refusal")[0]["stage"], "tool_request");
    assert_eq!(
        log.of_kind("model_call").len(),
        2,
        "the answer was paid for, so it is in the log"
    );
}

#[tokio::test]
async fn allowed_and_denied_tools_come_before_every_other_rule() {
    let firewall = builder()
        .rule(On("shell", Action::Allow))
        .allowed_tools(["search", "shell"])
        .denied_tools(["shell"])
        .build()
        .unwrap();
    assert_eq!(refusal(run(&firewall, "shell").await).rule_id(), "denied_tools");
    assert_eq!(refusal(run(&firewall, "other").await).rule_id(), "allowed_tools");
    run(&firewall, "search").await.unwrap();
}

#[tokio::test]
async fn the_caller_is_the_handles_whatever_the_call_says() {
    let log = Log::new();
    let firewall = builder()
        .session_id("s_own".parse().unwrap())
        .audit_log(log.path())
        .build()
        .unwrap();
    let other = firewall.session("s_other".parse().unwrap());
    let forged = call(&other, 1);
    firewall
        .admit(forged)
        .await
        .unwrap()
        .settle(Answer::reported(Usage::default(), Digest::EMPTY))
        .await;
    assert!(log.lines().iter().all(|line| line["session_id"] == "s_own"));
}

#[tokio::test]
async fn a_priced_tool_is_charged_its_price() {
    let firewall = builder()
        .budget_usd(0.25)
        .tool_price("search", "0.10".parse().unwrap())
        .build()
        .unwrap();
    run(&firewall, "search").await.unwrap();
    run(&firewall, "search").await.unwrap();
    assert_eq!(
        refusal(run(&firewall, "search").await).rule_id(),
        rule_ids::PRE_CALL_ESTIMATE
    );
    run(&firewall, "free").await.unwrap();
    assert_eq!(firewall.cumulative().await.unwrap().to_string(), "0.20");
}

#[tokio::test]
async fn an_approval_is_bound_to_the_rules_under_which_it_is_given() {
    let version = async |action| {
        let gate = Arc::new(InMemoryHitlGate::approving());
        let firewall = builder()
            .rule(On("wire", Action::Hitl))
            .rule(On("never", action))
            .hitl_gate(gate.clone());
        run(&firewall.build().unwrap(), "wire").await.unwrap();
        gate.requests()[0].policy_version.clone()
    };
    let first = version(Action::Block).await;
    assert!(!first.is_empty());
    assert_eq!(first, version(Action::Block).await);
    assert_ne!(first, version(Action::Warn).await);
}

#[tokio::test]
async fn the_log_names_the_policy_where_it_changes_and_nowhere_else() {
    let log = Log::new();
    let policy = Policy::parse("[[rules]]\nrule = \"denied_tools\"\nnames = [\"shell\"]\n").unwrap();
    for _ in 0..2 {
        let firewall = builder().policy(&policy).audit_log(log.path()).build().unwrap();
        assert!(matches!(
            refusal(run(&firewall, "shell").await),
            LeashError::Blocked { .. }
        ));
        firewall.close().await.unwrap();
    }
    let changes = log.of_kind("policy_change");
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0]["policy_files"], json!([policy.version().to_string()]));
    assert_eq!(changes[0]["previous_version"], json!(null));

    // Without any rule, and with none from the start.
    builder()
        .audit_log(log.path())
        .build()
        .unwrap()
        .close()
        .await
        .unwrap();
    let noted = log.of_kind("policy_change");
    assert_eq!(noted.len(), 2);
    assert_eq!(noted[1]["previous_version"], changes[0]["policy_version"]);
    let other = Log::new();
    let firewall = builder().audit_log(other.path()).build().unwrap();
    firewall.close().await.unwrap();
    assert!(other.of_kind("policy_change").is_empty());
}

#[tokio::test]
async fn whatever_changes_in_a_policy_is_another_version() {
    let log = Log::new();
    let close = async |builder: FirewallBuilder| {
        let firewall = builder.audit_log(log.path()).build().unwrap();
        firewall.close().await.unwrap();
    };
    // As many patterns as before, and other ones; in code and in a file.
    for pattern in ["geheim", "secret"] {
        let rule = BlockedPatterns::new([pattern]).unwrap();
        close(builder().rule(rule)).await;
    }
    for text in [
        "rules = []",
        "rules = []",
        "rules = [] # changed",
        "redactors = []",
    ] {
        close(builder().policy(&Policy::parse(text).unwrap())).await;
    }
    let changes = log.of_kind("policy_change");
    let mut versions: Vec<_> = changes
        .iter()
        .map(|change| change["policy_version"].to_string())
        .collect();
    assert_eq!(versions.len(), 5);
    versions.sort();
    versions.dedup();
    assert_eq!(versions.len(), 5);
}

#[tokio::test]
async fn a_rule_in_the_shadow_is_logged_with_what_it_would_have_done_and_stops_nothing() {
    for (option, action, shadow) in [
        ("shadow = true", "block", json!(true)),
        ("shadow = true\naction = \"hitl\"", "hitl", json!(true)),
        ("action = \"warn\"", "warn", json!(null)),
    ] {
        let log = Log::new();
        let rule = format!("[[rules]]\nrule = \"denied_tools\"\nnames = [\"shell\"]\n{option}\n");
        let policy = Policy::parse(&rule).unwrap();
        let firewall = builder().policy(&policy).audit_log(log.path()).build().unwrap();
        run(&firewall, "shell").await.unwrap();
        firewall.close().await.unwrap();
        let decisions = log.of_kind("policy_decision");
        assert_eq!(decisions.len(), 1);
        assert_eq!(decisions[0]["action"], action);
        assert_eq!(decisions[0]["shadow"], shadow);
        assert!(log.of_kind("refusal").is_empty());
    }
}
