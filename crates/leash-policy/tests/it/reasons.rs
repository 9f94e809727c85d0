//! What the rules say of a call never holds a piece of it: reasons stand in logs, and are shown to people who may not see
//! the call.

#![expect(
    clippy::unwrap_used,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "a test may fail loudly"
)]

use std::collections::BTreeSet;
use std::sync::Arc;

use leash_core::{
    Call, Caller, ModelCall, PolicyContext, PolicyEngine, Rule, SessionId, Timestamp, ToolCall,
};
use leash_policy::rule_from_options;
use serde_json::{Value, json};

/// A word that no rule knows.
const CANARY: &str = "qzkanariq";

fn rules() -> Vec<Arc<dyn Rule>> {
    let made: &[(&str, &[(&str, &str)])] = &[
        ("allowed_tools", &[("names", "other")]),
        ("denied_tools", &[("names", "*")]),
        ("argument_range", &[("field", "amount"), ("max", "1")]),
        ("hitl_on_amount", &[("field", "amount"), ("threshold", "1")]),
        ("blocked_patterns", &[("pattern", CANARY)]),
        ("hitl_on_pattern", &[("pattern", r"\w{4,}")]),
        ("blocked_sql", &[]),
        (
            "blocked_sql",
            &[
                ("dialect", "postgres"),
                ("allow_tables", "t"),
                ("require_where", "true"),
            ],
        ),
        ("blocked_sql", &[("mode", "extra_deny"), ("extra_deny", "drop,x")]),
        ("blocked_shell", &[("unknown", "hitl")]),
        (
            "blocked_shell",
            &[("allow_programs", "ls"), ("protected_paths", "/etc")],
        ),
        (
            "blocked_shell",
            &[("deny_programs", "echo"), ("extra_patterns", CANARY)],
        ),
        ("blocked_paths", &[("roots", "/srv/only")]),
        ("blocked_paths", &[("deny", "*kanari*")]),
        ("blocked_urls", &[("allow_hosts", "only.example")]),
        ("blocked_urls", &[("schemes", "https")]),
        ("secrets", &[]),
    ];
    made.iter()
        .map(|(name, options)| rule_from_options(name, options).unwrap())
        .collect()
}

/// The texts of a file of cases, and the arguments of those that have any.
fn texts(file: &str) -> Vec<String> {
    let cases: Vec<Value> = serde_json::from_str(file).unwrap();
    cases
        .iter()
        .filter_map(|case| {
            ["input", "sql", "command", "text", "path", "url"]
                .iter()
                .find_map(|name| case[*name].as_str())
                .or_else(|| case["args"].as_object()?.values().find_map(Value::as_str))
        })
        .map(str::to_owned)
        .collect()
}

/// The text with the word in the place of each of its words in turn, and beside it; no more than some of them.
fn marked(text: &str) -> BTreeSet<String> {
    let mut marked = BTreeSet::from([
        format!("{text} {CANARY}"),
        format!("{CANARY}{text}"),
        text.replace(' ', &format!(" {CANARY}")),
    ]);
    let words: Vec<(usize, &str)> = text
        .match_indices(|c: char| c.is_alphanumeric())
        .filter(|(at, _)| *at == 0 || !text[..*at].ends_with(char::is_alphanumeric))
        .collect();
    for (at, _) in words.iter().step_by(words.len().div_ceil(6).max(1)) {
        let end = text[*at..]
            .find(|c: char| !c.is_alphanumeric())
            .map_or(text.len(), |length| at + length);
        marked.insert(format!("{}{CANARY}{}", &text[..*at], &text[end..]));
        marked.insert(format!("{}{CANARY}{}", &text[..end], &text[end..]));
    }
    marked
}

#[test]
fn no_reason_quotes_its_input() {
    let rules = rules();
    let caller = Caller::session(SessionId::new("s").unwrap());
    let context = PolicyContext::new(Timestamp::EPOCH);
    let mut said = 0_usize;
    let mut all: Vec<String> = Vec::new();
    for (file, step) in [
        (include_str!("../data/sql_more.json"), 150),
        (include_str!("../data/shell_more.json"), 150),
        (include_str!("../data/paths.json"), 30),
        (include_str!("../data/urls.json"), 30),
        (include_str!("../data/pii_more.json"), 60),
    ] {
        all.extend(
            texts(file)
                .into_iter()
                .filter(|text| text.len() < 400)
                .step_by(step),
        );
    }
    assert!(all.len() > 80, "{}", all.len());
    for text in all.iter().flat_map(|text| marked(text)) {
        let tool = |args: Value| Call::Tool(ToolCall::new(format!("tool_{CANARY}"), args, caller.clone()));
        for call in [
            tool(json!({"sql": text, "command": text, "path": text, "url": text, "amount": text})),
            tool(json!({CANARY: [text], "amount": 5})),
            Call::Model(ModelCall::new(
                "openai",
                "gpt-4o",
                json!([{"role": "user", "content": text}]),
                16,
                caller.clone(),
            )),
        ] {
            for rule in &rules {
                let engine = PolicyEngine::new(vec![Arc::clone(rule)], Vec::new());
                let evaluation = engine.evaluate_sync(&call, &context);
                for decision in evaluation.noted.iter().chain([&evaluation.decision]) {
                    assert!(
                        !decision.reason.to_lowercase().contains(CANARY),
                        "{} of {text}: {}",
                        decision.rule_id,
                        decision.reason
                    );
                    said += usize::from(decision.rule_id != "engine:default");
                }
            }
        }
    }
    assert!(said > 1_000, "{said}");
}
