//! Answers in one piece.

use std::time::Instant;

use leash_adapters_http::refusal_of;
use leash_core::{Action, Call, Decision, LeashError, PolicyContext, Rule, RuleError};
use leash_testkit::{Reply, Step, anthropic, chat, responses};
use serde_json::json;

use crate::support::{CHAT, MESSAGES, RESPONSES, ask, rule_of, within, world, world_with};

#[tokio::test]
async fn each_format_is_metered_priced_and_logged() {
    for (path, body, provider, cost) in [
        (
            MESSAGES,
            anthropic::message("hello", 100, 50),
            "anthropic",
            "0.00035",
        ),
        (CHAT, chat::answer("hello", 100, 50), "openai", "0.000625"),
        (
            RESPONSES,
            responses::answer("hello", 100, 50),
            "openai",
            "0.000625",
        ),
    ] {
        let world = world(|fw| fw).await;
        world.provider.always(Reply::json(body.clone()));
        let request = ask(path, "hi", false);
        let response = world.post(path, &request).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.url().path(), path);
        assert_eq!(response.headers()["x-request-id"], "req_fake");
        assert_eq!(response.text().await.unwrap(), body);

        let [received] = world.provider.requests().try_into().unwrap();
        assert_eq!(received.text(), request.to_string());
        assert_eq!(received.header("x-api-key"), "sk-secret");
        assert_eq!(received.header("accept-encoding"), "identity");
        assert_eq!(received.header("content-length"), received.body.len().to_string());

        let line = world.call_line().await;
        assert_eq!(line["provider"], provider);
        assert_eq!(
            (&line["input_tokens"], &line["output_tokens"]),
            (&json!(100), &json!(50))
        );
        assert_eq!((&line["outcome"], &line["usage"]), (&json!("ok"), &json!(null)));
        assert_eq!(line["request_hash"].as_str().unwrap().len(), 64);
        assert_ne!(line["request_hash"], line["response_hash"]);
        world.spent(cost).await;
    }
}

#[derive(Debug)]
struct NotToday;

impl Rule for NotToday {
    fn id(&self) -> &'static str {
        "not_today"
    }

    fn evaluate(&self, _: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        Ok(Some(Decision::new(Action::Block, "not_today", "it is Sunday")))
    }
}

#[tokio::test]
async fn a_refused_call_never_leaves_and_is_typed() {
    let world = world(|fw| fw.rule(NotToday)).await;
    let error = world
        .post(CHAT, &ask(CHAT, "hi", false))
        .send()
        .await
        .unwrap_err();
    let refusal = refusal_of(&error).unwrap();
    assert!(matches!(refusal, LeashError::Blocked { .. }));
    assert_eq!(refusal.rule_id(), "not_today");
    assert!(world.provider.requests().is_empty());
    assert_eq!(world.lines("refusal").await.len(), 1);
    assert!(world.lines("model_call").await.is_empty());
}

#[tokio::test]
async fn in_band_a_refusal_has_the_providers_shape_and_a_status_that_is_not_retried() {
    let world = world_with(
        |fw| fw.budget_usd(0.0),
        leash_adapters_http::LeashMiddleware::refuse_in_band,
    )
    .await;
    for path in [MESSAGES, CHAT, RESPONSES] {
        let response = world.post(path, &ask(path, "hi", false)).send().await.unwrap();
        assert_eq!(response.status(), 403);
        assert_eq!(response.headers()["x-should-retry"], "false");
        assert_eq!(response.headers()["x-llm-leash-rule"], "budget:pre_call_estimate");
        let body: serde_json::Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert!(
            body["error"]["message"]
                .as_str()
                .unwrap()
                .starts_with("llm-leash: refused")
        );
        assert_eq!(body["type"] == "error", path == MESSAGES);
    }
    let count = world
        .post("/v1/messages/count_tokens", &json!([1, 1]))
        .header("content-encoding", "br");
    let body: serde_json::Value =
        serde_json::from_str(&count.send().await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!(body["type"], "error");
    assert!(world.provider.requests().is_empty());
    let refused: u64 = world
        .lines("refusal")
        .await
        .iter()
        .map(|line| line["count"].as_u64().unwrap_or(1))
        .sum();
    assert_eq!(refused, 4);
}

#[tokio::test]
async fn a_failure_that_was_not_billed_gives_the_bound_back_and_any_other_is_charged_it() {
    for (path, status, body, is_billed) in [
        (CHAT, 429, r#"{"error":{"message":"slow down"}}"#, false),
        (
            MESSAGES,
            529,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#,
            false,
        ),
        (CHAT, 529, "{}", true),
        (CHAT, 401, "not json", false),
        (CHAT, 500, "{}", true),
        (CHAT, 302, "", true),
        (CHAT, 400, r#"{"error":{"code":"content_filter"}}"#, true),
        (CHAT, 400, r#"{"error":{"message":"bad"}}"#, false),
    ] {
        let world = world(|fw| fw).await;
        world
            .provider
            .always(Reply::json(body).status(status).header("retry-after", "7"));
        let response = world.post(path, &ask(path, "hi", false)).send().await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["retry-after"], "7");
        assert_eq!(response.text().await.unwrap(), body);
        let line = world.call_line().await;
        assert_eq!(line["outcome"], "error");
        assert_eq!(
            line["cost_usd"].as_f64().unwrap() > 0.0,
            is_billed,
            "{status} {body}"
        );
        assert_eq!(line["usage"] == "estimated", is_billed);
        let (_, balance) = world.fw.balances().await.unwrap().remove(0);
        assert!(balance.reserved.is_zero());
        assert_eq!(balance.spent.is_zero(), !is_billed);
    }
}

#[tokio::test]
async fn a_400_that_cannot_be_read_may_have_been_billed() {
    let world = world(|fw| fw).await;
    world.provider.always(
        Reply::json(&b"\x1f\x8b\x08"[..])
            .status(400)
            .header("content-encoding", "gzip"),
    );
    world.post(CHAT, &ask(CHAT, "hi", false)).send().await.unwrap();
    assert_eq!(world.call_line().await["usage"], "estimated");
}

#[tokio::test]
async fn a_connection_that_never_came_about_gives_the_bound_back() {
    let world = world(|fw| fw).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}{CHAT}", free.local_addr().unwrap());
    drop(free);
    let error = world
        .client
        .post(url)
        .body(ask(CHAT, "hi", false).to_string())
        .send()
        .await
        .unwrap_err();
    assert!(refusal_of(&error).is_none() && error.is_connect());
    world.spent("0.00").await;
}

#[tokio::test]
async fn a_connection_that_breaks_off_charges_the_bound() {
    let world = world(|fw| fw).await;
    world
        .provider
        .always(Reply::json_steps(vec![Step::send("{\"id\":"), Step::Break]));
    let error = world
        .post(CHAT, &ask(CHAT, "hi", false))
        .send()
        .await
        .unwrap_err();
    assert!(refusal_of(&error).is_none());
    let line = world.call_line().await;
    assert_eq!(
        (&line["outcome"], &line["usage"]),
        (&json!("error"), &json!("estimated"))
    );
}

#[tokio::test]
async fn a_kill_order_cuts_a_call_that_waits_for_its_answer() {
    for reply in [
        Reply::json(chat::answer("late", 1, 1)).late(),
        Reply::json_steps(vec![Step::send("{\"id\":"), Step::Hang]),
        Reply::json_steps(vec![Step::send("{\"error\":"), Step::Hang]).status(500),
    ] {
        let world = world(|fw| fw).await;
        world.provider.always(reply);
        let call = tokio::spawn(world.post(CHAT, &ask(CHAT, "hi", false)).send());
        within(world.provider.arrived(1)).await;
        world.fw.kill("enough").await.unwrap();
        let killed = Instant::now();
        assert_eq!(rule_of(within(call).await.unwrap()), "kill:registry");
        assert!(killed.elapsed().as_millis() < 300);
        let line = world.call_line().await;
        assert_eq!(
            (&line["outcome"], &line["usage"]),
            (&json!("cut"), &json!("estimated"))
        );
        assert_eq!(
            rule_of(world.post(CHAT, &ask(CHAT, "hi", false)).send().await),
            "kill:registry"
        );
        assert_eq!(world.provider.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_is_charged_the_bound() {
    let world = world(|fw| fw).await;
    world.provider.always(Reply::json("{}").late());
    let call = tokio::spawn(world.post(CHAT, &ask(CHAT, "hi", false)).send());
    within(world.provider.arrived(1)).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    let line = world.call_line().await;
    assert_eq!(
        (&line["outcome"], &line["usage"]),
        (&json!("unsettled"), &json!("estimated"))
    );
}

#[tokio::test]
async fn a_tool_call_that_a_rule_forbids_keeps_the_answer_from_the_agent() {
    let arguments = json!({"usd": 4000});
    for (path, body) in [
        (MESSAGES, anthropic::tool_use("wire_transfer", &arguments)),
        (CHAT, chat::tool_call("wire_transfer", &arguments)),
        (RESPONSES, responses::tool_call("wire_transfer", &arguments)),
    ] {
        let denying = world(|fw| fw.denied_tools(["wire_*"])).await;
        denying.provider.always(Reply::json(body.clone()));
        let error = denying
            .post(path, &ask(path, "hi", false))
            .send()
            .await
            .unwrap_err();
        assert!(refusal_of(&error).is_some());
        // It was paid for all the same.
        assert_eq!(denying.call_line().await["output_tokens"], 10);
        assert_eq!(denying.lines("refusal").await[0]["stage"], "tool_request");

        let allowing = world(|fw| fw.denied_tools(["rm"])).await;
        allowing.provider.always(Reply::json(body.clone()));
        let response = allowing.post(path, &ask(path, "hi", false)).send().await.unwrap();
        assert_eq!(response.text().await.unwrap(), body);
        assert!(allowing.lines("refusal").await.is_empty());
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_charged_the_bound_and_kept_from_the_agent() {
    let large = format!("{{\"choices\":[],\"x\":\"{}\"}}", "x".repeat(2000));
    for reply in [
        Reply::json(&b"\x1f\x8b\x08"[..]).header("content-encoding", "gzip"),
        Reply::json(chat::answer("a", 1, 1))
            .header("content-encoding", "identity")
            .header("content-encoding", "br"),
        Reply::json(&b"{\"choices\":[{\"message\":\"\xff\"}]}"[..]),
        Reply::json(r#"{"choices":[],"choices":[]}"#),
        Reply::json("<html>"),
        Reply::json(""),
        Reply::json(large),
    ] {
        let limits = |middleware: leash_adapters_http::LeashMiddleware| {
            let mut limits = leash_wire::Limits::default();
            limits.max_body_bytes = 1000;
            middleware.limits(limits)
        };
        let world = world_with(|fw| fw, limits).await;
        world.provider.always(reply.clone());
        assert_eq!(
            rule_of(world.post(CHAT, &ask(CHAT, "hi", false)).send().await),
            "wire",
            "{reply:?}"
        );
        let line = world.call_line().await;
        assert_eq!(
            (&line["outcome"], &line["usage"]),
            (&json!("error"), &json!("estimated"))
        );
        assert_eq!(world.lines("refusal").await.len(), 1);
    }
}
