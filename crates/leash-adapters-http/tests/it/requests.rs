//! What may leave, and as what.

use leash_adapters_http::LeashMiddleware;
use leash_core::{Action, Call, Decision, Json, PolicyContext, Redactor, Rule, RuleError};
use leash_testkit::{Reply, anthropic, chat};
use serde_json::json;

use crate::support::{CHAT, MESSAGES, ask, rule_of, world, world_with};

#[derive(Debug)]
struct NoSecrets;

impl Redactor for NoSecrets {
    fn redact(&self, document: &Json) -> Result<Option<Json>, RuleError> {
        if !document.text().contains("hunter2") {
            return Ok(None);
        }
        Json::parse(document.text().replace("hunter2", "***"))
            .map(Some)
            .map_err(|_| RuleError::new("no JSON is left"))
    }
}

#[tokio::test]
async fn what_is_redacted_does_not_leave() {
    let world = world(|fw| fw.redactor(NoSecrets)).await;
    world.provider.reply(Reply::json(chat::answer("ok", 1, 1)));
    world.provider.always(Reply::json(r#"{"input_tokens":3}"#));
    world
        .post(CHAT, &ask(CHAT, "my password is hunter2", false))
        .send()
        .await
        .unwrap();
    let count = ask(MESSAGES, "hunter2 again", false);
    world
        .post("/v1/messages/count_tokens", &count)
        .send()
        .await
        .unwrap();
    let [call, count] = world.provider.requests().try_into().unwrap();
    assert!(call.text().contains("my password is ***") && !call.text().contains("hunter2"));
    assert_eq!(call.header("content-length"), call.body.len().to_string());
    assert!(count.text().contains("*** again") && !count.text().contains("hunter2"));
    assert_eq!(world.lines("model_call").await.len(), 1);
    let redactions = world.lines("policy_decision").await;
    let tools: Vec<_> = redactions
        .iter()
        .map(|line| (&line["action"], &line["tool"]))
        .collect();
    let redact = serde_json::Value::from("redact");
    assert_eq!(
        tools,
        [
            (&redact, &"openai.call".into()),
            (&redact, &"anthropic.count_tokens".into())
        ]
    );
}

#[tokio::test]
async fn a_request_with_two_readings_or_none_does_not_leave() {
    let world = world_with(
        |fw| fw,
        |middleware| {
            let mut limits = leash_wire::Limits::default();
            limits.max_body_bytes = 1000;
            middleware.limits(limits)
        },
    )
    .await;
    let cases: [(&str, Vec<u8>); 7] = [
        (
            CHAT,
            br#"{"model":"gpt-5","model":"gpt-5-nano","messages":[]}"#.to_vec(),
        ),
        (CHAT, b"{\"model\":\"gpt-5\",\"messages\":\"\xff\"}".to_vec()),
        (CHAT, b"model=gpt-5".to_vec()),
        (CHAT, Vec::new()),
        (CHAT, ask(CHAT, &"x".repeat(2000), false).to_string().into_bytes()),
        (MESSAGES, br#"{"max_tokens":5,"messages":[]}"#.to_vec()),
        ("/v1/messages/count_tokens", br#"{"a":1,"a":2}"#.to_vec()),
    ];
    for (path, body) in cases {
        assert_eq!(
            rule_of(world.post_text(path, body).send().await),
            "wire",
            "{path}"
        );
    }
    let encoded = world
        .post(CHAT, &ask(CHAT, "hi", false))
        .header("content-encoding", "gzip");
    assert_eq!(rule_of(encoded.send().await), "wire");
    let hidden = world
        .post(CHAT, &ask(CHAT, "hi", false))
        .header("content-encoding", "identity");
    assert_eq!(
        rule_of(hidden.header("content-encoding", "gzip").send().await),
        "wire"
    );
    let streamed = reqwest::Body::wrap_stream(futures_util::stream::iter([Ok::<_, std::io::Error>("{}")]));
    assert_eq!(rule_of(world.post_text(CHAT, streamed).send().await), "wire");
    assert!(world.provider.requests().is_empty());
    let refused: u64 = world
        .lines("refusal")
        .await
        .iter()
        .map(|line| line["count"].as_u64().unwrap_or(1))
        .sum();
    assert_eq!(refused, 10);
}

#[tokio::test]
async fn what_has_no_price_or_no_bound_does_not_leave() {
    let world = world(|fw| fw).await;
    let mut unknown = ask(CHAT, "hi", false);
    unknown["model"] = "gpt-of-tomorrow".into();
    assert_eq!(
        rule_of(world.post(CHAT, &unknown).send().await),
        "budget:no_price"
    );
    let mut spoken = ask(CHAT, "hi", false);
    spoken["audio"] = json!({"voice": "alloy", "format": "wav"});
    // `gpt-5` does not speak, so sound has no price.
    assert_eq!(rule_of(world.post(CHAT, &spoken).send().await), "budget:no_bound");
    assert!(world.provider.requests().is_empty());
    assert_eq!(world.lines("refusal").await.len(), 2);
}

#[tokio::test]
async fn an_unknown_path_is_refused_unless_its_host_is_allowed() {
    let strict = world(|fw| fw).await;
    for path in [
        "/v1/embeddings",
        "/anything",
        "/v1/messages/../models",
        "/v1/%6dodels",
        "/v1/messages/batches",
    ] {
        assert_eq!(
            rule_of(strict.post(path, &json!({})).send().await),
            "wire",
            "{path}"
        );
    }
    assert!(strict.provider.requests().is_empty());

    let open = world_with(
        |fw| fw,
        |middleware: LeashMiddleware| middleware.allow_host("127.0.0.1"),
    )
    .await;
    open.provider.always(Reply::json("{}"));
    assert_eq!(
        open.post("/anything", &json!({})).send().await.unwrap().status(),
        200
    );
    // Calls of a model are metered there too.
    open.provider.reply(Reply::json(chat::answer("ok", 1, 1)));
    open.post(CHAT, &ask(CHAT, "hi", false)).send().await.unwrap();
    assert_eq!(open.lines("model_call").await.len(), 1);
    // Nor does it make those free that cannot be metered.
    assert_eq!(
        rule_of(open.post("/v1/embeddings", &json!({})).send().await),
        "wire"
    );
    open.fw.kill("enough").await.unwrap();
    assert_eq!(
        rule_of(open.post("/anything", &json!({})).send().await),
        "kill:registry"
    );
}

#[tokio::test]
async fn free_calls_pass_until_a_kill_order_stops_them() {
    let world = world(|fw| fw.budget_usd(0.0)).await;
    world.provider.always(Reply::json(r#"{"data":[]}"#));
    let models = || world.client.get(format!("{}/v1/models", world.provider.url()));
    assert_eq!(
        models().send().await.unwrap().text().await.unwrap(),
        r#"{"data":[]}"#
    );
    let count = ask(MESSAGES, "hi", false);
    assert_eq!(
        world
            .post("/v1/messages/count_tokens", &count)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    assert!(world.log().is_empty());
    world.fw.kill("enough").await.unwrap();
    assert_eq!(rule_of(models().send().await), "kill:registry");
    assert_eq!(world.provider.requests().len(), 2);
    assert_eq!(world.lines("refusal").await.len(), 1);
}

#[derive(Debug)]
struct NoWires;

impl Rule for NoWires {
    fn id(&self) -> &'static str {
        "no_wires"
    }

    fn evaluate(&self, call: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        let mentions = call.content().text().contains("wire");
        Ok(mentions.then(|| Decision::new(Action::Block, "no_wires", "no talk of wires")))
    }
}

#[tokio::test]
async fn what_costs_nothing_is_judged_like_any_other_prompt() {
    let world = world(|fw| fw.rule(NoWires).redactor(NoSecrets)).await;
    world.provider.always(Reply::json(r#"{"input_tokens":3}"#));
    for (path, sent) in [("/v1/messages/count_tokens", 1), ("/v1/moderations", 2)] {
        let wire = ask(MESSAGES, "wire $4,000, hunter2", false);
        assert_eq!(
            rule_of(world.post(path, &wire).send().await),
            "no_wires",
            "{path}"
        );
        assert_eq!(world.provider.requests().len(), sent - 1);
        let harmless = ask(MESSAGES, "hunter2", false);
        assert_eq!(world.post(path, &harmless).send().await.unwrap().status(), 200);
        let requests = world.provider.requests();
        assert_eq!(requests.len(), sent);
        assert!(requests.iter().all(|request| !request.text().contains("hunter2")));
    }
    // A line with a count stands for as many.
    let refusals = world.lines("refusal").await;
    let counts = refusals.iter().map(|line| line["count"].as_u64().unwrap_or(1));
    assert_eq!(counts.sum::<u64>(), 2);
}

#[tokio::test]
async fn a_path_that_names_the_model_decides_the_price() {
    let world = world(|fw| fw).await;
    world.provider.always(Reply::json(chat::answer("ok", 100, 50)));
    let mut body = ask(CHAT, "hi", false);
    body["model"] = "gpt-5-nano".into();
    let path = "/openai/deployments/gpt-5/chat/completions?api-version=2025-01-01";
    world.post(path, &body).send().await.unwrap();
    assert_eq!(world.call_line().await["model"], "gpt-5");
    assert_eq!(world.provider.requests()[0].path, path);
    world.spent("0.000625").await;
}

#[tokio::test]
async fn only_a_request_that_writes_the_cache_is_bounded_by_its_price() {
    let plain = ask(
        MESSAGES,
        "hi, and some more text, as the input is what this is about",
        false,
    )
    .to_string();
    let with = |name: &str| {
        format!(
            "{{\"{name}\":{{\"type\":\"ephemeral\"}},{}",
            plain.strip_prefix('{').unwrap()
        )
    };
    let mut costs = Vec::new();
    for body in [
        with("billing_policy"),
        with("cache_control"),
        with("cache\\u005fcontrol"),
    ] {
        let world = world(|fw| fw).await;
        world
            .provider
            .always(Reply::json(anthropic::message("ok", 1, 1)).status(500));
        world.post_text(MESSAGES, body).send().await.unwrap();
        costs.push(world.call_line().await["cost_usd"].as_f64().unwrap());
    }
    assert!(costs[0] < costs[1] && costs[1] <= costs[2], "{costs:?}");
}

#[tokio::test]
async fn a_redirect_from_a_free_path_to_a_paid_one_brings_no_answer() {
    for path in ["/r", "/v1/messages/count_tokens"] {
        let world = world_with(|fw| fw, |guard| guard.allow_host("127.0.0.1")).await;
        let to = format!("{}{MESSAGES}", world.provider.url());
        let led = Reply::json("{}").status(307).header("location", to);
        world.provider.reply(led);
        world
            .provider
            .reply(Reply::json(anthropic::message("free of charge", 1, 1)));
        let request = ask(MESSAGES, "hi", false);
        assert_eq!(rule_of(world.post(path, &request).send().await), "wire");
        assert_eq!(world.provider.requests().len(), 2);
        assert_eq!(world.lines("refusal").await.len(), 1);
        // Led to another free path it passes.
        let to = format!("{}/elsewhere", world.provider.url());
        let led = Reply::json("{}").status(307).header("location", to);
        world.provider.reply(led);
        world.provider.reply(Reply::json("{}"));
        let answer = world.post(path, &request).send().await.unwrap();
        assert!(answer.url().path().ends_with("/elsewhere"));
    }
}
