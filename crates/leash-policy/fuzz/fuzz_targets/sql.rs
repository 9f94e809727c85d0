//! Whatever is called SQL: judged or refused, in every dialect, without a panic.
#![no_main]

use std::sync::{Arc, LazyLock};

use leash_core::{Call, Caller, PolicyContext, Rule, SessionId, Timestamp, ToolCall};
use leash_policy::rule_from_options;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

static RULES: LazyLock<Vec<Arc<dyn Rule>>> = LazyLock::new(|| {
    ["postgres", "mysql", "sqlite", "mssql", "ansi", "unknown"]
        .map(|dialect| rule_from_options("blocked_sql", &[("dialect", dialect)]).unwrap())
        .to_vec()
});

fuzz_target!(|text: &str| {
    let caller = Caller::session(SessionId::new("s").unwrap());
    let call = Call::Tool(ToolCall::new("run_sql", json!({"sql": text}), caller));
    for rule in RULES.iter() {
        let _ = rule.evaluate(&call, &PolicyContext::new(Timestamp::EPOCH));
    }
});
