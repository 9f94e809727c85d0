//! Arguments of any shape: every rule judges or refuses them, no reason quotes them, and redacting them twice is redacting
//! them once.
#![no_main]

use std::sync::{Arc, LazyLock};

use leash_core::{Call, Caller, Json, PolicyContext, Redactor, Rule, SessionId, Timestamp, ToolCall};
use leash_policy::{Redactors, redactor_from_options, rule_from_options};
use libfuzzer_sys::fuzz_target;

static RULES: LazyLock<Vec<Arc<dyn Rule>>> = LazyLock::new(|| {
    let made: &[(&str, &[(&str, &str)])] = &[
        ("allowed_tools", &[("names", "x")]),
        (
            "argument_range",
            &[("field", "amount"), ("min", "1"), ("max", "10")],
        ),
        ("hitl_on_amount", &[("field", "order.total"), ("threshold", "1")]),
        (
            "blocked_patterns",
            &[("pattern", "(a|b|ab)*c"), ("pattern", r"\w{1,64}@")],
        ),
        ("blocked_sql", &[("dialect", "postgres")]),
        ("blocked_shell", &[]),
        ("blocked_paths", &[]),
        ("blocked_urls", &[]),
        ("secrets", &[]),
    ];
    made.iter()
        .map(|(name, options)| rule_from_options(name, options).unwrap())
        .collect()
});

static REDACTORS: LazyLock<Redactors> = LazyLock::new(|| {
    let plain: &[(&str, &str)] = &[];
    Redactors::new(["secrets", "pii"].map(|name| redactor_from_options(name, plain).unwrap()))
});

fuzz_target!(|text: &str| {
    let Ok(args) = Json::parse(text) else { return };
    let caller = Caller::session(SessionId::new("s").unwrap());
    let call = Call::Tool(ToolCall::new("t", args.clone(), caller));
    for rule in RULES.iter() {
        let _ = rule.evaluate(&call, &PolicyContext::new(Timestamp::EPOCH));
    }
    // What cannot be redacted to its end is refused.
    if let Ok(Some(once)) = REDACTORS.redact(&args) {
        assert_eq!(REDACTORS.redact(&once).unwrap(), None);
    }
});
