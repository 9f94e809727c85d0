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
