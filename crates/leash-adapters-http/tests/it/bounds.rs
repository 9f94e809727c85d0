//! Requests that set no bound, and what leaves instead.

use leash_core::Usd;
use leash_firewall::Clamp;
use leash_testkit::{Reply, anthropic, chat, responses};
use serde_json::{Value, json};

use crate::support::{CHAT, MESSAGES, RESPONSES, World, ask, rule_of, within, world};

/// Where each format sets its bound.
const FORMATS: [(&str, &str); 3] = [
    (CHAT, "max_completion_tokens"),
    (MESSAGES, "max_tokens"),
    (RESPONSES, "max_output_tokens"),
];

fn open(path: &str, limit: &str, stream: bool) -> Value {
    let mut body = ask(path, "hi", stream);
    body.as_object_mut().unwrap().remove(limit);
    body
}

fn reply(path: &str, stream: bool) -> Reply {
    match (path, stream) {
        (CHAT, false) => Reply::json(chat::answer("hello", 20, 30)),
        (CHAT, true) => Reply::events(chat::stream("hello", 20, 30)),
        (MESSAGES, false) => Reply::json(anthropic::message("hello", 20, 30)),
        (MESSAGES, true) => Reply::events(anthropic::stream("hello", 20, 30)),
        (_, false) => Reply::json(responses::answer("hello", 20, 30)),
        (_, true) => Reply::events(responses::stream("hello", 20, 30)),
    }
}

async fn send(world: &World, path: &str, body: &Value) -> String {
    let response = world.post(path, body).send().await.unwrap();
    within(response.text()).await.unwrap()
}

#[tokio::test]
async fn a_request_without_a_maximum_leaves_with_one_that_its_budget_affords() {
    for (path, limit) in FORMATS {
        for stream in [false, true] {
            let world = world(|fw| fw.budget_usd(0.03)).await;
            world.provider.always(reply(path, stream));
            let asked = open(path, limit, stream);
            assert!(send(&world, path, &asked).await.contains("hello"));
            let line = world.call_line().await;
            assert_eq!(line["clamped"], true, "{path} {stream}");
            let sent: Value = serde_json::from_str(&world.provider.requests()[0].text()).unwrap();
            let most = sent[limit].as_u64().unwrap();
            // Output tokens alone cost 5 USD a million at the one and 10 at the other.
            assert!((16..=6_000).contains(&most), "{path} {most}");
            for (name, value) in asked.as_object().unwrap() {
                assert_eq!(&sent[name], value);
            }
            // The hash is of what was asked, and the bound is written nowhere else.
            let (_, balance) = world.fw.balances().await.unwrap().remove(0);
            assert!(balance.reserved.is_zero() && balance.spent < Usd::from_cents(3).unwrap());
        }
    }
}

#[tokio::test]
async fn what_fits_leaves_as_it_came_and_a_maximum_of_its_own_is_not_touched() {
    for (path, limit) in FORMATS {
        let world = world(|fw| fw.budget_usd(10.0)).await;
        world.provider.always(reply(path, false));
        let asked = open(path, limit, false);
        send(&world, path, &asked).await;
        assert_eq!(world.provider.requests()[0].text(), asked.to_string());
        assert!(world.call_line().await.get("clamped").is_none());
    }
    let world = world(|fw| fw.budget_usd(0.005)).await;
    assert_eq!(
        rule_of(world.post(CHAT, &ask(CHAT, "hi", false)).send().await),
        "budget:pre_call_estimate"
    );
}

#[tokio::test]
async fn clamping_may_be_for_all_requests_or_for_none() {
    for (path, limit) in FORMATS {
        let always = world(|fw| fw.budget_usd(0.004).clamp(Clamp::Always)).await;
        always.provider.always(reply(path, false));
        send(&always, path, &ask(path, "hi", false)).await;
        let sent: Value = serde_json::from_str(&always.provider.requests()[0].text()).unwrap();
        assert!(sent[limit].as_u64().unwrap() < 1_000, "{path}");
        assert_eq!(always.call_line().await["clamped"], true);

        let never = world(|fw| fw.budget_usd(0.03).clamp(Clamp::Never)).await;
        let refused = never.post(path, &open(path, limit, false)).send().await;
        assert_eq!(rule_of(refused), "budget:pre_call_estimate", "{path}");
    }
}

#[tokio::test]
async fn server_tools_without_a_number_are_refused_unless_there_is_a_ceiling() {
    let mut searches = ask(RESPONSES, "hi", false);
    searches["tools"] = json!([{"type": "web_search"}]);
    let strict = world(|fw| fw.budget_usd(50.0)).await;
    assert_eq!(
        rule_of(strict.post(RESPONSES, &searches).send().await),
        "budget:no_bound"
    );

    let ceiling = world(|fw| fw.budget_usd(50.0).max_server_tool_uses(2)).await;
    ceiling.provider.always(reply(RESPONSES, false));
    send(&ceiling, RESPONSES, &searches).await;
    searches["max_tool_calls"] = json!(1);
    send(&ceiling, RESPONSES, &searches).await;
    let sent: Vec<Value> = ceiling
        .provider
        .requests()
        .iter()
        .map(|request| serde_json::from_str(&request.text()).unwrap())
        .collect();
    // The provider is told, where the format has a word for it.
    assert_eq!(
        (&sent[0]["max_tool_calls"], &sent[1]["max_tool_calls"]),
        (&json!(2), &json!(1))
    );
}

#[tokio::test]
async fn tools_that_anthropic_runs_leave_with_the_ceiling_as_their_max_uses() {
    let world = world(|fw| fw.budget_usd(50.0).max_server_tool_uses(4)).await;
    let search = json!({"type": "web_search_20250305", "name": "web_search"});
    let fetch = json!({"type": "web_fetch_20250910", "name": "web_fetch", "max_content_tokens": 1000});
    let code = json!({"type": "code_execution_20250825", "name": "code_execution"});
    let limited = |tool: &Value, uses: u64| {
        let mut tool = tool.clone();
        tool["max_uses"] = json!(uses);
        tool
    };
    for stream in [false, true] {
        world.provider.always(reply(MESSAGES, stream));
        for (tools, wanted) in [
            (json!([search]), json!([limited(&search, 4)])),
            (
                json!([search, fetch]),
                json!([limited(&search, 2), limited(&fetch, 2)]),
            ),
            (
                json!([limited(&search, 1), fetch]),
                json!([limited(&search, 1), limited(&fetch, 3)]),
            ),
            // The provider would not take the member with that one.
            (json!([code, search]), json!([code, limited(&search, 2)])),
            // What says a number keeps it, however large: its bound is made with that.
            (json!([limited(&search, 9)]), json!([limited(&search, 9)])),
        ] {
            let mut asked = ask(MESSAGES, "hi", stream);
            asked["tools"] = tools;
            send(&world, MESSAGES, &asked).await;
            let sent = world.provider.requests().pop().unwrap();
            let sent: Value = serde_json::from_str(&sent.text()).unwrap();
            assert_eq!(sent["tools"], wanted);
        }
    }
    // More than the bound counts on cannot leave.
    let before = world.provider.requests().len();
    let mut asked = ask(MESSAGES, "hi", false);
    asked["tools"] = json!([limited(&search, 4), fetch]);
    let refused = world.post(MESSAGES, &asked).send().await;
    assert!(rule_of(refused).starts_with("wire"), "a refusal of the request");
    assert_eq!(world.provider.requests().len(), before);
    let (_, balance) = world.fw.balances().await.unwrap().remove(0);
    assert!(balance.reserved.is_zero());
}

#[tokio::test]
async fn what_is_billed_after_the_call_is_refused_with_and_without_a_cap() {
    for capped in [true, false] {
        let world = if capped {
            world(|fw| fw).await
        } else {
            world(|fw| fw.budget(Usd::MAX)).await
        };
        let mut background = ask(RESPONSES, "hi", false);
        background["background"] = true.into();
        assert_eq!(rule_of(world.post(RESPONSES, &background).send().await), "wire");
        for path in ["/v1/batches", "/v1/messages/batches", "/v1/files"] {
            assert_eq!(
                rule_of(world.post(path, &json!({})).send().await),
                "wire",
                "{path}"
            );
        }
        assert!(world.provider.requests().is_empty());
    }
}

#[tokio::test]
async fn inference_in_one_country_is_charged_what_it_costs() {
    let world = world(|fw| fw).await;
    let mut answer: Value = serde_json::from_str(&anthropic::message("hello", 1_000, 1_000)).unwrap();
    answer["usage"]["inference_geo"] = json!("us");
    world.provider.always(Reply::json(answer.to_string()));
    let mut asked = ask(MESSAGES, "hi", false);
    asked["inference_geo"] = json!("us");
    send(&world, MESSAGES, &asked).await;
    // 1.1 times (0.001 + 0.005).
    world.spent("0.0066").await;
}

/// A request that lets its model ask `advisor`.
fn advised(advisor: &str) -> Value {
    let mut asked = ask(MESSAGES, "hi", false);
    asked["tools"] =
        json!([{"type": "advisor_20260301", "name": "advisor", "model": advisor, "max_uses": 2}]);
    asked
}

#[tokio::test]
async fn advice_is_bounded_and_charged_at_the_price_of_who_gives_it() {
    let world = world(|fw| fw.budget_usd(50.0)).await;
    let mut answer: Value = serde_json::from_str(&anthropic::message("hello", 1_000, 1_000)).unwrap();
    answer["usage"]["iterations"] = json!([
        {"type": "message", "input_tokens": 1_000, "output_tokens": 1_000},
        {"type": "advisor_message", "model": "claude-opus-4-5", "input_tokens": 10_000, "output_tokens": 2_000},
    ]);
    world.provider.always(Reply::json(answer.to_string()));
    send(&world, MESSAGES, &advised("claude-opus-4-5")).await;
    // 0.001 + 0.005, and 0.05 + 0.05 for the advice.
    world.spent("0.106").await;
    // Twice all that the adviser can read and write is more than two dollars.
    let narrow = crate::support::world(|fw| fw.budget_usd(6.0)).await;
    let refused = narrow.post(MESSAGES, &advised("claude-opus-4-5")).send().await;
    assert_eq!(rule_of(refused), "budget:pre_call_estimate");
    let unpriced = world.post(MESSAGES, &advised("claude-of-tomorrow")).send().await;
    assert_eq!(rule_of(unpriced), "budget:no_price");
}

#[tokio::test]
async fn what_is_not_known_is_refused_unless_it_has_a_ceiling_and_a_price() {
    let mut draws = ask(RESPONSES, "hi", false);
    draws["tools"] = json!([{"type": "image_generation"}]);
    let mut unknown = ask(CHAT, "hi", false);
    unknown["plugins"] = json!([{"id": "web"}]);
    let strict = world(|fw| fw.budget_usd(50.0)).await;
    let without_price = world(|fw| fw.budget_usd(50.0).max_server_tool_uses(2)).await;
    for (path, body) in [(RESPONSES, &draws), (CHAT, &unknown)] {
        for world in [&strict, &without_price] {
            assert_eq!(rule_of(world.post(path, body).send().await), "budget:no_bound");
            assert!(world.provider.requests().is_empty());
        }
    }
    let prices = leash_budget::PriceTable::embedded()
        .with_file(r#"{"models": [{"provider": "openai", "model": "gpt-5", "context_window": 400000, "prices": [{"input": "1", "output": "10", "other_tool": "250000", "web_search": "10000"}]}]}"#)
        .unwrap();
    let world = world(|fw| fw.budget_usd(50.0).max_server_tool_uses(2).prices(prices)).await;
    let mut answer: Value = serde_json::from_str(&responses::answer("hello", 1_000, 1_000)).unwrap();
    let items = answer["output"].as_array_mut().unwrap();
    items.push(json!({"type": "image_generation_call", "id": "ig_1", "result": "aGk="}));
    world.provider.always(Reply::json(answer.to_string()));
    send(&world, RESPONSES, &draws).await;
    // 0.001 + 0.01, and a quarter for the picture.
    world.spent("0.261").await;
}

#[tokio::test]
async fn searches_that_a_chat_completion_does_not_count_are_charged_as_often_as_they_may_run() {
    let world = world(|fw| fw.budget_usd(50.0).max_server_tool_uses(2)).await;
    world
        .provider
        .always(Reply::json(chat::answer("hello", 1_000, 1_000)));
    let mut searches = ask(CHAT, "hi", false);
    searches["model"] = json!("gpt-4o-search-preview");
    send(&world, CHAT, &searches).await;
    // 0.0025 + 0.01, and two searches at 0.025.
    world.spent("0.0625").await;
}

#[tokio::test]
async fn a_request_that_names_other_models_to_answer_is_refused() {
    let world = world(|fw| fw).await;
    for (path, member) in [
        (MESSAGES, json!([{"model": "claude-opus-5-5"}])),
        (MESSAGES, json!("default")),
        (CHAT, json!(["o1-pro"])),
    ] {
        let mut body = ask(path, "hi", false);
        body["fallbacks"] = member;
        assert_eq!(rule_of(world.post(path, &body).send().await), "wire");
    }
    assert!(world.provider.requests().is_empty());
}
