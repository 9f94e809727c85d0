//! The client over real HTTP, in front of a provider that does what the test says.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use leash_adapters_anthropic::{AnthropicBuilder, AnthropicClient, AnthropicError, MessageStream};
use leash_audit::{VerifyOptions, verify};
use leash_core::LeashError;
use leash_firewall::{Firewall, FirewallBuilder};
use leash_testkit::{Reply, Step, Upstream, anthropic};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tempfile::TempDir;

struct World {
    provider: Upstream,
    fw: Firewall,
    client: AnthropicClient,
    dir: TempDir,
}

async fn world(set: impl FnOnce(FirewallBuilder) -> FirewallBuilder) -> World {
    world_with(set, |client| client).await
}

async fn world_with(
    set: impl FnOnce(FirewallBuilder) -> FirewallBuilder,
    client: impl FnOnce(AnthropicBuilder) -> AnthropicBuilder,
) -> World {
    let dir = tempfile::tempdir().unwrap();
    let builder = Firewall::builder()
        .budget_usd(1.0)
        .audit_log(dir.path().join("audit.jsonl"));
    let fw = set(builder).build().unwrap();
    let provider = Upstream::start().await.unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let builder = AnthropicClient::builder(fw.clone())
        .base_url(provider.url())
        .http(http);
    let client = client(builder.api_key("sk-ant-secret")).build().unwrap();
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
        assert!(!text.contains("sk-ant-secret"), "the key is in the log");
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["kind"] == kind).collect()
    }
}

fn question() -> Value {
    json!({"model": "claude-haiku-4-5", "max_tokens": 1000, "messages": [{"role": "user", "content": "a prompt"}]})
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .unwrap()
}

/// The kinds of the events, and the error that ended them.
async fn read(stream: &mut MessageStream) -> (Vec<String>, Option<AnthropicError>) {
    let mut kinds = Vec::new();
    while let Some(event) = within(stream.next()).await {
        match event {
            Ok(event) => kinds.push(event.kind().to_owned()),
            Err(error) => {
                assert!(within(stream.next()).await.is_none(), "an error is the end");
                return (kinds, Some(error));
            }
        }
    }
    (kinds, None)
}

#[tokio::test]
async fn an_answer_is_metered_and_keeps_what_is_not_known() {
    let world = world_with(|fw| fw, |client| client.auth_token("tok").beta("a-1").beta("b-2")).await;
    let body = r#"{"id":"msg_1","content":[{"type":"text","text":"Hel"},{"type":"new_block","n":1.50},{"type":"text","text":"lo"},
        {"type":"tool_use","id":"t1","name":"ls","input":{"path":"/"}}],"model":"claude-haiku-4-5","stop_reason":"tool_use",
        "usage":{"input_tokens":100,"output_tokens":50},"new_member":{"a":[1e2]}}"#;
    world.provider.always(Reply::json(body));
    let answer = world.client.create(&question()).await.unwrap();
    assert_eq!(answer.raw().text(), body);
    assert_eq!(answer.text(), "Hello");
    assert_eq!(answer.content()[1]["type"], "new_block");
    let tools: Vec<_> = answer
        .tool_uses()
        .map(|tool| (tool.id, tool.name, tool.input.to_string()))
        .collect();
    assert_eq!(tools, [("t1", "ls", r#"{"path":"/"}"#.to_owned())]);
    assert_eq!(
        (answer.stop_reason(), answer.id(), answer.model()),
        (Some("tool_use"), Some("msg_1"), Some("claude-haiku-4-5"))
    );
    assert_eq!(answer.usage().unwrap().output_tokens, 50);
    let receipt = answer.receipt().unwrap();
    assert!(receipt.cost.to_string() == "0.00035" && receipt.warning.is_none());
    assert!(!format!("{answer:?}").contains("Hel"));

    let received = world.provider.requests().remove(0);
    assert_eq!(received.text(), question().to_string());
    assert_eq!(
        (received.header("x-api-key"), received.header("authorization")),
        ("sk-ant-secret", "Bearer tok")
    );
    assert_eq!(received.header("anthropic-version"), "2023-06-01");
    let betas: Vec<_> = received.headers.get_all("anthropic-beta").iter().collect();
    assert_eq!(betas, ["a-1", "b-2"]);
    assert_eq!(world.fw.cumulative().await.unwrap().to_string(), "0.00035");
    assert_eq!(world.lines("model_call").await.len(), 1);
}

#[tokio::test]
async fn a_stream_is_metered_and_keeps_events_that_are_not_known() {
    let unknown = "event: from_the_future\r\ndata: {\"type\":\"from_the_future\",\r\ndata: \"n\":1}\r\n\r\n: a comment\n\n";
    let stream =
        anthropic::stream("hello", 100, 50).replacen("event: ping", &format!("{unknown}event: ping"), 1);
    for steps in [
        vec![Step::send(stream.clone())],
        stream.bytes().map(|byte| Step::send(vec![byte])).collect(),
    ] {
        let world = world(|fw| fw).await;
        world.provider.always(Reply::stream(steps));
        let mut events = world.client.stream(&question()).await.unwrap();
        assert!(events.receipt().is_none(), "it has not ended");
        let mut text = String::new();
        let mut kinds = Vec::new();
        while let Some(event) = within(events.next()).await {
            let event = event.unwrap();
            text.push_str(event.text().unwrap_or_default());
            kinds.push(event.kind().to_owned());
        }
        assert_eq!(text, "hello");
        assert!(!events.receipt().unwrap().cost.is_zero());
        let wanted = [
            "message_start",
            "content_block_start",
            "from_the_future",
            "ping",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ];
        assert_eq!(kinds, wanted);
        let sent = world.provider.requests()[0].text();
        let asked = question().to_string();
        assert_eq!(
            sent,
            format!("{},\"stream\":true}}", asked.strip_suffix('}').unwrap())
        );
        assert_eq!(world.fw.cumulative().await.unwrap().to_string(), "0.00035");
    }
}

#[tokio::test]
async fn a_request_says_once_whether_it_wants_a_stream() {
    let world = world(|fw| fw).await;
    let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
    let streams = raw(r#"{"model": "claude-haiku-4-5", "max_tokens": 1.0e1, "stream": true}"#);
    let does_not = raw(r#"{"stream": false}"#);
    assert!(matches!(
        world.client.create(&streams).await,
        Err(AnthropicError::Request(_))
    ));
    assert!(matches!(
        world.client.stream(&does_not).await,
        Err(AnthropicError::Request(_))
    ));
    assert!(matches!(
        world.client.create(&json!([])).await,
        Err(AnthropicError::Request(_))
    ));
    assert!(world.provider.requests().is_empty());
}

#[tokio::test]
async fn a_refusal_is_typed_leaves_nothing_and_is_not_retried() {
    let world = world(|fw| fw.budget_usd(0.001)).await;
    for error in [
        world.client.create(&question()).await.map(drop).unwrap_err(),
        world.client.stream(&question()).await.map(drop).unwrap_err(),
    ] {
        assert!(
            matches!(error, AnthropicError::Refused(LeashError::Killed { .. })),
            "{error}"
        );
    }
    assert!(world.provider.requests().is_empty());
    let refused: u64 = world
        .lines("refusal")
        .await
        .iter()
        .map(|line| line["count"].as_u64().unwrap_or(1))
        .sum();
    assert_eq!(refused, 2);
}

#[tokio::test]
async fn each_attempt_is_admitted_anew() {
    let world = world(|fw| fw).await;
    world
        .provider
        .reply(Reply::json("{}").status(429).header("retry-after", "0"));
    world
        .provider
        .reply(Reply::json("<html>").status(502).header("retry-after", "0"));
    world
        .provider
        .reply(Reply::json(anthropic::message("hello", 100, 50)));
    world.client.create(&question()).await.unwrap();
    assert_eq!(world.lines("admitted").await.len(), 3);
    let outcomes: Vec<Value> = world
        .lines("model_call")
        .await
        .iter()
        .map(|line| line["outcome"].clone())
        .collect();
    assert_eq!(outcomes, ["error", "error", "ok"]);

    world
        .provider
        .always(Reply::json("{}").status(529).header("retry-after", "0"));
    assert!(
        matches!(world.client.create(&question()).await, Err(AnthropicError::Api(error)) if error.status() == 529)
    );
    assert_eq!(world.provider.requests().len(), 6);
}

#[tokio::test]
async fn what_would_not_help_is_not_tried_again() {
    for reply in [
        Reply::json("{}").status(400),
        Reply::json("{}").status(429).header("x-should-retry", "false"),
        Reply::json("{}").status(429).header("retry-after", "3600"),
    ] {
        let world = world(|fw| fw).await;
        world.provider.always(reply);
        assert!(matches!(
            world.client.create(&question()).await,
            Err(AnthropicError::Api(_))
        ));
        assert_eq!(world.provider.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_kill_order_ends_the_wait_for_another_attempt() {
    let world = world(|fw| fw).await;
    world
        .provider
        .always(Reply::json("{}").status(429).header("retry-after", "59"));
    let client = world.client.clone();
    let call = tokio::spawn(async move { client.create(&question()).await });
    within(world.provider.arrived(1)).await;
    world.fw.kill("enough").await.unwrap();
    let killed = Instant::now();
    let error = within(call).await.unwrap().unwrap_err();
    assert!(
        matches!(&error, AnthropicError::Refused(refusal) if refusal.rule_id() == "kill:registry"),
        "{error}"
    );
    assert!(killed.elapsed() < Duration::from_secs(10));
    assert_eq!(world.provider.requests().len(), 1);
}

#[tokio::test]
async fn errors_show_neither_key_nor_prompt() {
    let world = world(|fw| fw).await;
    let body = json!({"type": "error", "error": {"type": "invalid_request_error", "message": "`a prompt` is too short"}});
    world.provider.always(
        Reply::json(body.to_string())
            .status(400)
            .header("request-id", "req_7"),
    );
    let error = world.client.create(&question()).await.unwrap_err();
    for shown in [
        format!("{error}"),
        format!("{error:?}"),
        format!("{:?}", world.client),
    ] {
        assert!(
            !shown.contains("a prompt") && !shown.contains("secret"),
            "{shown}"
        );
    }
    let AnthropicError::Api(error) = error else {
        panic!("{error}")
    };
    assert_eq!(
        (error.status(), error.kind(), error.request_id()),
        (400, "invalid_request_error", Some("req_7"))
    );
    assert!(error.message().contains("a prompt"));

    let builder = AnthropicClient::builder(world.fw.clone()).api_key("sk-ant-secret\n");
    assert!(!format!("{builder:?}").contains("secret"));
    let error = builder.build().unwrap_err();
    assert!(matches!(error, AnthropicError::Config(_)) && !format!("{error:?}").contains("secret"));
    assert!(
        AnthropicClient::builder(world.fw.clone())
            .base_url("not a url")
            .build()
            .is_err()
    );
}

#[tokio::test]
async fn a_forbidden_tool_call_does_not_reach_the_agent() {
    let world = world(|fw| fw.denied_tools(["wire_*"])).await;
    let input = json!({"to": "mallory"});
    world
        .provider
        .reply(Reply::json(anthropic::tool_use("wire_transfer", &input)));
    let error = world.client.create(&question()).await.unwrap_err();
    assert!(
        matches!(error, AnthropicError::Refused(LeashError::Blocked { .. })),
        "{error}"
    );

    let stream = [
        anthropic::start(20),
        anthropic::text_start(0),
        anthropic::text(0, "before"),
        anthropic::stop(0),
        anthropic::tool_call(1, "wire_transfer", &input),
        anthropic::usage("tool_use", 10),
        anthropic::end(),
    ];
    world.provider.reply(Reply::events(stream.concat()));
    let mut events = world.client.stream(&question()).await.unwrap();
    let (kinds, error) = read(&mut events).await;
    assert_eq!(
        kinds,
        [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop"
        ]
    );
    assert!(
        matches!(error, Some(AnthropicError::Refused(LeashError::Blocked { .. }))),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_kill_order_cuts_a_stream_and_is_typed() {
    let world = world(|fw| fw).await;
    world
        .provider
        .always(Reply::stream(vec![Step::send(anthropic::start(20)), Step::Hang]));
    let mut events = world.client.stream(&question()).await.unwrap();
    assert_eq!(
        within(events.next()).await.unwrap().unwrap().kind(),
        "message_start"
    );
    world.fw.kill("enough").await.unwrap();
    within(world.provider.hung_up(1)).await;
    let (_, error) = read(&mut events).await;
    assert!(matches!(error, Some(AnthropicError::Refused(refusal)) if refusal.rule_id() == "kill:registry"));
    assert_eq!(world.lines("model_call").await[0]["outcome"], "cut");
}

#[tokio::test]
async fn a_stream_that_does_not_come_to_its_end_is_an_error() {
    let overloaded =
        anthropic::named(&json!({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}));
    for (steps, is_api) in [
        (vec![Step::send(anthropic::start(20))], false),
        (
            vec![Step::send(anthropic::start(20)), Step::Gate, Step::Break],
            false,
        ),
        (vec![Step::send(anthropic::start(20) + &overloaded)], true),
    ] {
        let world = world(|fw| fw).await;
        world.provider.always(Reply::stream(steps));
        let mut events = world.client.stream(&question()).await.unwrap();
        assert_eq!(
            within(events.next()).await.unwrap().unwrap().kind(),
            "message_start"
        );
        world.provider.open();
        let (kinds, error) = read(&mut events).await;
        assert!(kinds.is_empty());
        let error = error.unwrap();
        assert_eq!(
            matches!(&error, AnthropicError::Api(error) if error.kind() == "overloaded_error"),
            is_api,
            "{error}"
        );
        assert_eq!(world.lines("model_call").await[0]["usage"], "estimated");
    }
    let world = world(|fw| fw).await;
    world
        .provider
        .always(Reply::json(anthropic::message("no stream", 1, 1)));
    assert!(matches!(
        world.client.stream(&question()).await,
        Err(AnthropicError::Answer(_))
    ));
}

#[tokio::test]
async fn counting_is_free_until_a_kill_order() {
    let world = world(|fw| fw.budget_usd(0.0)).await;
    world.provider.always(Reply::json(r#"{"input_tokens": 14}"#));
    assert_eq!(world.client.count_tokens(&question()).await.unwrap(), 14);
    assert_eq!(world.provider.requests()[0].path, "/v1/messages/count_tokens");
    world.provider.reply(Reply::json(r#"{"input_tokens": -1}"#));
    assert!(matches!(
        world.client.count_tokens(&question()).await,
        Err(AnthropicError::Answer(_))
    ));
    world.fw.kill("enough").await.unwrap();
    assert!(matches!(
        world.client.count_tokens(&question()).await,
        Err(AnthropicError::Refused(_))
    ));
}

#[tokio::test]
async fn server_tools_leave_with_the_ceiling_of_the_firewall() {
    let world = world(|fw| fw.budget_usd(50.0).max_server_tool_uses(3)).await;
    let mut asked = question();
    asked["tools"] = json!([{"type": "web_search_20250305", "name": "web_search"}]);
    world
        .provider
        .reply(Reply::json(anthropic::message("hello", 20, 30)));
    assert_eq!(world.client.create(&asked).await.unwrap().text(), "hello");
    world
        .provider
        .reply(Reply::events(anthropic::stream("hello", 20, 30)));
    let mut stream = world.client.stream(&asked).await.unwrap();
    assert!(read(&mut stream).await.1.is_none());
    let sent = world.provider.requests();
    assert_eq!(sent.len(), 2);
    for request in sent {
        let body: Value = serde_json::from_str(&request.text()).unwrap();
        assert_eq!(
            body["tools"],
            json!([{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}])
        );
    }
}
