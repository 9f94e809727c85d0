//! Whatever is called a policy: read or refused, and what was read can be asked.
#![no_main]

use leash_core::{Call, Caller, PolicyContext, SessionId, Timestamp, ToolCall};
use leash_policy::Policy;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|text: &str| {
    let Ok(policy) = Policy::parse(text) else { return };
    let caller = Caller::session(SessionId::new("s").unwrap());
    let call = Call::Tool(ToolCall::new(
        "t",
        json!({"sql": "SELECT 1", "path": "../x", "n": 1}),
        caller,
    ));
    let _ = policy
        .engine()
        .evaluate_sync(&call, &PolicyContext::new(Timestamp::EPOCH));
});
