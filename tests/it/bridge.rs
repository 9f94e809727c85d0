//! The bridge that the documentation shows, against a stand-in for the package that it bridges to.

use std::fs;
use std::time::Duration;

use leash_core::{
    Action, AsyncRule as _, Call, Caller, ModelCall, PolicyContext, SessionId, Timestamp, ToolCall,
};
use llm_leash::policy::{LlamaFirewallRule, ScannerTransport};
use serde_json::json;

/// What the bridge needs of the package, and its habit of printing.
const STAND_IN: &str = r#"
import enum

ScannerType = enum.Enum("ScannerType", "PROMPT_GUARD")
Role = enum.Enum("Role", "USER TOOL")
ScanDecision = enum.Enum("ScanDecision", "ALLOW HUMAN_IN_THE_LOOP_REQUIRED BLOCK")

class UserMessage:
    def __init__(self, content):
        self.content = content

class ToolMessage(UserMessage):
    pass

class ScanResult:
    def __init__(self, decision, score):
        self.decision, self.reason, self.score = decision, "quotes the text", score

class LlamaFirewall:
    def __init__(self, scanners):
        print("loading")

    def scan(self, message):
        print("scanning")
        if "crash" in message.content:
            raise RuntimeError
        if "inject" in message.content:
            asks = isinstance(message, UserMessage) and not isinstance(message, ToolMessage)
            return ScanResult(ScanDecision.HUMAN_IN_THE_LOOP_REQUIRED if asks else ScanDecision.BLOCK, 0.99)
        return ScanResult(ScanDecision.ALLOW, 0.0)
"#;

#[tokio::test]
async fn the_bridge_of_the_guide_keeps_to_the_protocol() {
    let guide = include_str!("../../docs/scanners.md");
    let bridge = guide
        .split("```python\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("bridge.py");
    fs::write(&script, bridge).unwrap();
    fs::write(dir.path().join("llamafirewall.py"), STAND_IN).unwrap();

    let transport = ScannerTransport::command(["python3", script.to_str().unwrap()]).unwrap();
    let rule = LlamaFirewallRule::new(transport).timeout(Duration::from_mins(1));
    let caller = Caller::session(SessionId::new("s").unwrap());
    let context = PolicyContext::new(Timestamp::EPOCH);
    let tool = |text: &str| Call::Tool(ToolCall::new("t", json!({"x": text}), caller.clone()));

    assert_eq!(rule.evaluate(&tool("hello"), &context).await.unwrap(), None);
    let decision = rule.evaluate(&tool("inject"), &context).await.unwrap().unwrap();
    assert_eq!(decision.action, Action::Block);
    assert_eq!(decision.reason, "the scanner found `llamafirewall`, score 0.99");
    let messages = json!([{"role": "user", "content": "inject"}]);
    let model = Call::Model(ModelCall::new("openai", "gpt-4o", messages, 16, caller.clone()));
    let decision = rule.evaluate(&model, &context).await.unwrap().unwrap();
    assert_eq!(decision.action, Action::Hitl);
    assert!(rule.evaluate(&tool("crash"), &context).await.is_err());
    assert_eq!(rule.evaluate(&tool("hello"), &context).await.unwrap(), None);
}
