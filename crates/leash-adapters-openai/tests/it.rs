//! async-openai over real HTTP, guarded, in front of a provider that does what the test says.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::types::chat::{
    ChatCompletionRequestUserMessage, CreateChatCompletionRequest, CreateChatCompletionRequestArgs,
    CreateChatCompletionStreamResponse,
};
use async_openai::types::responses::{CreateResponse, CreateResponseArgs, ResponseStreamEvent};
use futures_util::StreamExt as _;
use leash_adapters_openai::{Guard, cut_of, refusal_of};
use leash_audit::{VerifyOptions, verify};
use leash_core::LeashError;
use leash_firewall::{Firewall, FirewallBuilder};
use leash_testkit::{Reply, Step, Upstream, chat, responses};
use serde_json::{Value, json};
use tempfile::TempDir;

struct World {
    provider: Upstream,
    fw: Firewall,
    client: Client<OpenAIConfig>,
    dir: TempDir,
}

async fn world(set: impl FnOnce(FirewallBuilder) -> FirewallBuilder) -> World {
    let dir = tempfile::tempdir().unwrap();
    let builder = Firewall::builder()
        .budget_usd(1.0)
        .audit_log(dir.path().join("audit.jsonl"));
    let fw = set(builder).build().unwrap();
    let provider = Upstream::start().await.unwrap();
    let config = OpenAIConfig::new()
        .with_api_key("sk-secret")
        .with_api_base(format!("{}/v1", provider.url()));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let client = Guard::new(fw.clone())
        .http_client(http)
        .around(Client::with_config(config));
    World {
        provider,
        fw,
        client,
        dir,
    }
}

impl World {
    /// The log's lines of this kind. The log verifies.
    async fn lines(&self, kind: &str) -> Vec<Value> {
        self.fw.flush().await.unwrap();
        let path = self.dir.path().join("audit.jsonl");
        let report = verify(&path, &VerifyOptions::default()).unwrap();
        assert!(report.is_ok(), "{report:?}");
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["kind"] == kind).collect()
    }
}

fn question() -> CreateChatCompletionRequest {
    CreateChatCompletionRequestArgs::default()
        .model("gpt-5")
        .max_completion_tokens(1000_u32)
        .messages([ChatCompletionRequestUserMessage::from("hi").into()])
        .build()
        .unwrap()
}

fn prompt() -> CreateResponse {
    CreateResponseArgs::default()
        .model("gpt-5")
        .max_output_tokens(1000_u32)
        .input("hi")
        .build()
        .unwrap()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .unwrap()
}

fn text_of(chunks: &[CreateChatCompletionStreamResponse]) -> String {
    let choices = chunks.iter().flat_map(|chunk| &chunk.choices);
    choices
        .filter_map(|choice| choice.delta.content.as_deref())
        .collect()
}

#[tokio::test]
async fn answers_in_one_piece_are_metered_in_both_formats() {
    let world = world(|fw| fw).await;
    world.provider.reply(Reply::json(chat::answer("hello", 100, 50)));
    world
        .provider
        .reply(Reply::json(responses::answer("hello", 100, 50)));
    let answer = world.client.chat().create(question()).await.unwrap();
    assert_eq!(answer.choices[0].message.content.as_deref(), Some("hello"));
    let answer = world.client.responses().create(prompt()).await.unwrap();
    assert_eq!(answer.output_text().as_deref(), Some("hello"));
    assert_eq!(
        world.provider.requests()[0].header("authorization"),
        "Bearer sk-secret"
    );
    assert_eq!(world.lines("model_call").await.len(), 2);
    assert_eq!(world.fw.cumulative().await.unwrap().to_string(), "0.00125");
}

#[tokio::test]
async fn streams_are_metered_and_the_usage_chunk_is_hidden() {
    let world = world(|fw| fw).await;
    world
        .provider
        .reply(Reply::events(chat::stream("hello", 100, 50)));
    world
        .provider
        .reply(Reply::events(responses::stream("hello", 100, 50)));
    let chunks = world.client.chat().create_stream(question()).await.unwrap();
    let chunks: Vec<_> = within(chunks.map(Result::unwrap).collect()).await;
    assert_eq!(text_of(&chunks), "hello");
    assert!(chunks.iter().all(|chunk| !chunk.choices.is_empty()));
    let events = world.client.responses().create_stream(prompt()).await.unwrap();
    let events: Vec<_> = within(events.map(Result::unwrap).collect()).await;
    assert!(matches!(
        events.last(),
        Some(ResponseStreamEvent::ResponseCompleted(_))
    ));
    assert_eq!(world.fw.cumulative().await.unwrap().to_string(), "0.00125");
}

#[tokio::test]
async fn a_refusal_is_typed_leaves_nothing_and_is_not_retried() {
    let world = world(|fw| fw.budget_usd(0.001)).await;
    for error in [
        world.client.chat().create(question()).await.unwrap_err(),
        world
            .client
            .chat()
            .create_stream(question())
            .await
            .map(drop)
            .unwrap_err(),
        world.client.responses().create(prompt()).await.unwrap_err(),
    ] {
        let refusal = refusal_of(&error).unwrap();
        assert!(matches!(refusal, LeashError::Killed { .. }));
        assert_eq!(refusal.rule_id(), "budget:pre_call_estimate");
    }
    assert!(world.provider.requests().is_empty());
    let refused: u64 = world
        .lines("refusal")
        .await
        .iter()
        .map(|line| line["count"].as_u64().unwrap_or(1))
        .sum();
    assert_eq!(refused, 3);
}

#[tokio::test]
async fn each_attempt_is_admitted_anew() {
    let world = world(|fw| fw).await;
    let slow_down = json!({"error": {"message": "slow down", "type": "requests", "param": null, "code": "rate_limit_exceeded"}});
    world.provider.reply(
        Reply::json(slow_down.to_string())
            .status(429)
            .header("retry-after", "0"),
    );
    world
        .provider
        .reply(Reply::json("{}").status(500).header("retry-after", "0"));
    world.provider.reply(Reply::json(chat::answer("hello", 100, 50)));
    world.client.chat().create(question()).await.unwrap();
    assert_eq!(world.provider.requests().len(), 3);
    assert_eq!(world.lines("admitted").await.len(), 3);
    let outcomes: Vec<Value> = world
        .lines("model_call")
        .await
        .iter()
        .map(|line| line["outcome"].clone())
        .collect();
    assert_eq!(outcomes, ["error", "error", "ok"]);
}

#[tokio::test]
async fn a_kill_order_ends_the_attempts() {
    let world = world(|fw| fw).await;
    world
        .provider
        .always(Reply::json("{}").status(500).header("retry-after", "0").late());
    let client = world.client.clone();
    let call = tokio::spawn(async move { client.chat().create(question()).await });
    within(world.provider.arrived(1)).await;
    world.provider.open();
    within(world.provider.arrived(2)).await;
    world.fw.kill("enough").await.unwrap();
    let error = within(call).await.unwrap().unwrap_err();
    assert_eq!(refusal_of(&error).unwrap().rule_id(), "kill:registry");
    assert_eq!(world.provider.requests().len(), 2);
}

#[tokio::test]
async fn a_forbidden_tool_call_does_not_reach_the_agent() {
    let arguments = json!({"to": "mallory"});
    let world = world(|fw| fw.denied_tools(["wire_*"])).await;
    world
        .provider
        .reply(Reply::json(chat::tool_call("wire_transfer", &arguments)));
    let error = world.client.chat().create(question()).await.unwrap_err();
    assert!(matches!(refusal_of(&error).unwrap(), LeashError::Blocked { .. }));

    let stream = [
        chat::text("before"),
        chat::tool_chunks("wire_transfer", &arguments),
        chat::usage_chunk(20, 10),
        chat::done(),
    ];
    world.provider.reply(Reply::events(stream.concat()));
    let mut chunks = world.client.chat().create_stream(question()).await.unwrap();
    let mut seen = Vec::new();
    let error = loop {
        match within(chunks.next()).await.unwrap() {
            Ok(chunk) => seen.push(chunk),
            Err(error) => break error,
        }
    };
    assert_eq!(text_of(&seen), "before");
    assert!(
        seen.iter()
            .flat_map(|chunk| &chunk.choices)
            .all(|choice| choice.delta.tool_calls.is_none())
    );
    let cut = cut_of(&error).unwrap();
    assert!(cut.message.contains(&cut.rule_id));
    assert!(refusal_of(&error).is_none());
    assert!(within(chunks.next()).await.is_none());

    world
        .provider
        .reply(Reply::events(responses::tool_stream("wire_transfer", &arguments)));
    let events = world.client.responses().create_stream(prompt()).await.unwrap();
    let events: Vec<_> = within(events.map(Result::unwrap).collect()).await;
    let Some(ResponseStreamEvent::ResponseError(error)) = events.last() else {
        panic!("{events:?}")
    };
    assert_eq!(error.code.as_deref(), Some(cut.rule_id.as_str()));
    assert!(!format!("{events:?}").contains("mallory"));
}

#[tokio::test]
async fn an_allowed_tool_call_reaches_the_agent() {
    let world = world(|fw| fw.denied_tools(["wire_*"])).await;
    let stream = [
        chat::tool_chunks("search", &json!({"q": "weather"})),
        chat::usage_chunk(20, 10),
        chat::done(),
    ];
    world.provider.reply(Reply::events(stream.concat()));
    let chunks = world.client.chat().create_stream(question()).await.unwrap();
    let chunks: Vec<_> = within(chunks.map(Result::unwrap).collect()).await;
    let calls = chunks
        .iter()
        .flat_map(|chunk| &chunk.choices)
        .filter_map(|choice| choice.delta.tool_calls.as_ref());
    let arguments = calls
        .flatten()
        .filter_map(|call| call.function.as_ref()?.arguments.clone());
    assert_eq!(arguments.collect::<String>(), r#"{"q":"weather"}"#);
}

#[tokio::test]
async fn a_kill_order_cuts_a_stream_and_says_why() {
    let world = world(|fw| fw).await;
    world
        .provider
        .always(Reply::stream(vec![Step::send(chat::text("one")), Step::Hang]));
    let mut chunks = world.client.chat().create_stream(question()).await.unwrap();
    within(chunks.next()).await.unwrap().unwrap();
    world.fw.kill("enough").await.unwrap();
    within(world.provider.hung_up(1)).await;
    let error = within(chunks.next()).await.unwrap().unwrap_err();
    assert_eq!(cut_of(&error).unwrap().rule_id, "kill:registry");
    assert!(within(chunks.next()).await.is_none());
    assert_eq!(world.lines("model_call").await[0]["outcome"], "cut");
}

#[tokio::test]
async fn other_errors_stay_what_they_are() {
    let world = world(|fw| fw).await;
    let body = json!({"error": {"message": "no such key", "type": "invalid_request_error", "param": null, "code": null}});
    world.provider.always(Reply::json(body.to_string()).status(401));
    let error = world.client.chat().create(question()).await.unwrap_err();
    assert!(
        matches!(&error, OpenAIError::ApiError(_))
            && refusal_of(&error).is_none()
            && cut_of(&error).is_none()
    );
    assert!(world.fw.cumulative().await.unwrap().is_zero());
}

#[tokio::test]
async fn server_tools_leave_with_the_ceiling_of_the_firewall() {
    let world = world(|fw| fw.budget_usd(50.0).max_server_tool_uses(3)).await;
    let mut asked = serde_json::to_value(prompt()).unwrap();
    asked["tools"] = json!([{"type": "web_search"}]);
    let asked: CreateResponse = serde_json::from_value(asked).unwrap();
    world
        .provider
        .reply(Reply::json(responses::answer("hello", 20, 30)));
    world.client.responses().create(asked).await.unwrap();
    let sent = world.provider.requests();
    let body: Value = serde_json::from_str(&sent[0].text()).unwrap();
    assert_eq!(body["max_tool_calls"], json!(3));
}
