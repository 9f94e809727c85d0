//! Whatever is called a path or a URL, or holds one under a name that says nothing: judged or refused, without a panic.
#![no_main]

use std::sync::{Arc, LazyLock};

use leash_core::{Call, Caller, PolicyContext, Rule, SessionId, Timestamp, ToolCall};
use leash_policy::rule_from_options;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

static RULES: LazyLock<Vec<Arc<dyn Rule>>> = LazyLock::new(|| {
    let made: &[(&str, &[(&str, &str)])] = &[
        ("blocked_paths", &[]),
        (
            "blocked_paths",
            &[
                ("roots", "/srv/work,~/x,C:\\data"),
                ("deny", "*secret*,/a/*/b"),
                ("allow", ".env"),
            ],
        ),
        ("blocked_urls", &[]),
        (
            "blocked_urls",
            &[
                ("allow_hosts", "*.example.com,10.1.2.3:80"),
                ("deny_hosts", "bad.example"),
                ("schemes", "https"),
            ],
        ),
    ];
    made.iter()
        .map(|(name, options)| rule_from_options(name, options).unwrap())
        .collect()
});

fuzz_target!(|text: &str| {
    let caller = Caller::session(SessionId::new("s").unwrap());
    for args in [
        json!({"path": text, "url": text}),
        json!({"x": [text]}),
        json!({"content": text}),
    ] {
        let call = Call::Tool(ToolCall::new("t", args, caller.clone()));
        for rule in RULES.iter() {
            let _ = rule.evaluate(&call, &PolicyContext::new(Timestamp::EPOCH));
        }
    }
});
