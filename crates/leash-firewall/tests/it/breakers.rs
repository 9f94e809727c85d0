//! Rules that count what was called, and rules that are a cap.

use std::time::Duration;

use leash_core::{Json, LeashError, Redactor, RuleError, ToolCall, ToolRequest};
use leash_firewall::{Firewall, Over, Window};
use serde_json::json;

use crate::support::{HandClock, Log, builder, call, spend, usd};

async fn rule(firewall: &Firewall, tool: &str, args: serde_json::Value) -> Option<String> {
    let call = ToolCall::new(tool, args, firewall.caller().clone());
    match firewall.admit(call).await {
        Ok(admission) => {
            admission.fail().await;
            None
        }
        Err(error) => Some(error.rule_id().to_owned()),
    }
}

fn request(args: serde_json::Value) -> ToolRequest {
    ToolRequest {
        id: String::new(),
        tool: "search".into(),
        args: args.into(),
    }
}

/// Takes a word out of everything.
#[derive(Debug)]
struct Mallory;

impl Redactor for Mallory {
    fn redact(&self, document: &Json) -> Result<Option<Json>, RuleError> {
        let redacted = document.text().replace("mallory", "[NAME]");
        let changed = redacted != document.text();
        Ok(changed.then(|| Json::parse(redacted).unwrap()))
    }
}

#[tokio::test]
async fn a_tool_called_in_circles_is_stopped_and_each_call_counts_once() {
    let log = Log::new();
    let clock = HandClock::at("2027-01-31T10:00:00Z");
    let firewall = builder()
        .clock(clock.clone())
        .redactor(Mallory)
        .loop_breaker(3, Duration::from_mins(1))
        .audit_log(log.path())
        .build()
        .unwrap();
    let args = json!({"q": "mallory"});
    for _ in 0..3 {
        // The model asks for it, and then it is called.
        firewall.inspect(&request(args.clone())).await.unwrap();
        assert_eq!(rule(&firewall, "search", args.clone()).await, None);
    }
    let refused = firewall.inspect(&request(args.clone())).await.unwrap_err();
    assert!(matches!(&refused, LeashError::Blocked { .. }));
    assert!(!refused.reason().contains("mallory"));
    assert_eq!(
        rule(&firewall, "search", args.clone()).await.as_deref(),
        Some("loop_breaker")
    );
    assert_eq!(rule(&firewall, "search", json!({"q": "other"})).await, None);
    let other = firewall.session("s_other".parse().unwrap());
    assert_eq!(rule(&other, "search", args.clone()).await, None);
    clock.advance(Duration::from_secs(61));
    assert_eq!(rule(&firewall, "search", args).await, None);
    firewall.close().await.unwrap();
    assert!(
        log.of_kind("policy_decision")
            .iter()
            .any(|line| line["rule_id"] == "loop_breaker")
    );
}

#[tokio::test]
async fn breakers_that_are_set_twice_all_hold_and_count_each_call_once() {
    let clock = HandClock::at("2027-01-31T10:00:00Z");
    let firewall = builder()
        .clock(clock.clone())
        .loop_breaker(9, Duration::from_secs(10))
        .loop_breaker(2, Duration::from_secs(10))
        .loop_breaker(4, Duration::from_mins(10))
        .max_calls(99)
        .max_calls(6)
        .max_calls_of("search", 5)
        .max_calls_of("search", 99)
        .build()
        .unwrap();
    let search = async || rule(&firewall, "search", json!({"q": 1})).await;
    assert_eq!((search().await, search().await), (None, None));
    assert_eq!(search().await.as_deref(), Some("loop_breaker"));
    clock.advance(Duration::from_secs(11));
    assert_eq!((search().await, search().await), (None, None));
    clock.advance(Duration::from_secs(11));
    assert_eq!(search().await.as_deref(), Some("loop_breaker"));
    // Four of it were let through, and one more may be by its own count.
    assert_eq!(rule(&firewall, "search", json!({"q": 2})).await, None);
    assert_eq!(
        rule(&firewall, "search", json!({"q": 3})).await.as_deref(),
        Some("max_calls")
    );
}

#[tokio::test]
async fn a_session_has_so_many_calls_and_so_many_of_one_tool() {
    let firewall = builder().max_calls(4).max_calls_of("search", 2).build().unwrap();
    assert_eq!(rule(&firewall, "search", json!(1)).await, None);
    assert_eq!(rule(&firewall, "search", json!(2)).await, None);
    assert_eq!(
        rule(&firewall, "search", json!(3)).await.as_deref(),
        Some("max_calls")
    );
    assert!(spend(&firewall, 1).await);
    assert!(!spend(&firewall, 1).await);
}

#[tokio::test]
async fn a_session_spends_so_much_a_minute_and_the_narrower_cap_decides() {
    let clock = HandClock::at("2027-01-31T10:00:00Z");
    for cap in ["0.90", "0.30"] {
        let firewall = builder()
            .clock(clock.clone())
            .cap(Over::Session, Window::Minute, usd(cap))
            .spend_rate(usd("0.30"))
            .build()
            .unwrap();
        assert!(spend(&firewall, 30).await);
        let refused = firewall.admit(call(&firewall, 1)).await.unwrap_err();
        assert_eq!(refused.rule_id(), "spend_rate");
        clock.advance(Duration::from_mins(1));
        assert!(spend(&firewall, 30).await);
    }
}

#[tokio::test]
async fn a_priced_tool_has_a_budget_of_its_own() {
    let log = Log::new();
    let firewall = builder()
        .tool_price("search", usd("0.10"))
        .tool_price("read", usd("0.10"))
        .max_tool_budget("search", usd("0.20"))
        .audit_log(log.path())
        .build()
        .unwrap();
    let run = async |tool: &str| {
        let done = firewall
            .tool(tool, json!({}), async |_| Ok::<_, std::io::Error>(json!(1)))
            .await;
        done.map(drop).map_err(|error| error.to_string())
    };
    run("search").await.unwrap();
    run("search").await.unwrap();
    assert!(run("search").await.unwrap_err().contains("max_tool_budget"));
    run("read").await.unwrap();
    firewall.close().await.unwrap();
    assert_eq!(log.of_kind("refusal")[0]["rule_id"], "max_tool_budget");
}
