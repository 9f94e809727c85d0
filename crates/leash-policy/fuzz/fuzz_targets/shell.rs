//! Whatever is called a command: judged or refused, as a string and as an argument vector, without a panic.
#![no_main]

use std::sync::{Arc, LazyLock};

use leash_core::{Call, Caller, PolicyContext, Rule, SessionId, Timestamp, ToolCall};
use leash_policy::rule_from_options;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

static RULES: LazyLock<Vec<Arc<dyn Rule>>> = LazyLock::new(|| {
    let plain: &[(&str, &str)] = &[];
    vec![
        rule_from_options("blocked_shell", plain).unwrap(),
        rule_from_options(
            "blocked_shell",
            &[
                ("allow_programs", "git status,ls"),
                ("protected_paths", "/etc,secret.env"),
            ],
        )
        .unwrap(),
    ]
});

fuzz_target!(|text: &str| {
    let caller = Caller::session(SessionId::new("s").unwrap());
    let words: Vec<&str> = text.split(' ').collect();
    for args in [json!({"command": text}), json!({"argv": words})] {
        let call = Call::Tool(ToolCall::new("shell", args, caller.clone()));
        for rule in RULES.iter() {
            let _ = rule.evaluate(&call, &PolicyContext::new(Timestamp::EPOCH));
        }
    }
});
