//! What a provider bills, and what a cap holds.

use std::io::Write as _;

use futures_util::future::join_all;
use leash_adapters_http::CallReceipt;
use leash_core::Usd;
use leash_firewall::Warning;
use leash_testkit::{Reply, chat};
use serde_json::json;

use crate::support::{CHAT, ask, read_all, rule_of, within, world};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_burst_never_passes_the_cap_and_every_call_has_its_line() {
    let world = world(|fw| fw.budget(Usd::from_nanos(60_000_000).unwrap())).await;
    // Close to the bound of each: 1000 tokens of output.
    world.provider.always(Reply::json(chat::answer("ok", 40, 990)));
    let calls = join_all((0..64).map(|_| world.post(CHAT, &ask(CHAT, "hi", false)).send())).await;
    let answered = calls.iter().filter(|call| call.is_ok()).count();
    let price = 40 * 1_250 + 990 * 10_000;
    let billed = u64::try_from(world.provider.requests().len()).unwrap() * price;
    assert!(answered > 0 && answered == world.provider.requests().len());
    assert!(billed <= 60_000_000, "{billed}");
    world.spent(&Usd::from_nanos(billed).unwrap().to_string()).await;
    let refused: u64 = world
        .lines("refusal")
        .await
        .iter()
        .map(|line| line["count"].as_u64().unwrap_or(1))
        .sum();
    assert_eq!(
        usize::try_from(refused).unwrap() + world.lines("model_call").await.len(),
        64
    );
}

#[tokio::test]
async fn an_answer_billed_above_its_bound_is_delivered_and_nothing_after_it_is_admitted() {
    let world = world(|fw| fw.budget_usd(0.03)).await;
    world
        .provider
        .always(Reply::json(chat::answer("dear", 10, 1_000_000)));
    let response = world.post(CHAT, &ask(CHAT, "hi", false)).send().await.unwrap();
    assert!(response.text().await.unwrap().contains("dear"));
    let budget = world.lines("budget").await;
    assert_eq!(budget[0]["decision"], "hard_exceeded");
    assert_eq!(
        rule_of(world.post(CHAT, &ask(CHAT, "hi", false)).send().await),
        "budget:hard_cap"
    );
    assert_eq!(world.provider.requests().len(), 1);
    world.spent("10.0000125").await;
}

#[tokio::test]
async fn usage_that_makes_no_sense_charges_the_bound_and_is_delivered() {
    for usage in [
        json!({"prompt_tokens": -5, "completion_tokens": 1}),
        json!({"prompt_tokens": 1e300, "completion_tokens": 1}),
        json!({"prompt_tokens": "7", "completion_tokens": 1}),
        json!({"prompt_tokens": 1, "completion_tokens": 1.5}),
        json!({"prompt_tokens": 1, "completion_tokens": [1]}),
        json!([]),
        json!(null),
    ] {
        let world = world(|fw| fw).await;
        let mut body: serde_json::Value = serde_json::from_str(&chat::answer("ok", 1, 1)).unwrap();
        body["usage"] = usage.clone();
        world.provider.always(Reply::json(body.to_string()));
        let response = world.post(CHAT, &ask(CHAT, "hi", false)).send().await.unwrap();
        assert_eq!(response.text().await.unwrap(), body.to_string());
        let line = world.call_line().await;
        assert_eq!(
            (&line["outcome"], &line["usage"]),
            (&json!("ok"), &json!("estimated")),
            "{usage}"
        );
        assert!(line["cost_usd"].as_f64().unwrap() >= 0.01, "{usage}");
    }
}

#[tokio::test]
async fn an_answer_whose_line_could_not_be_written_is_delivered_with_a_typed_warning() {
    for reply in [
        Reply::json(chat::answer("paid", 100, 50)).late(),
        Reply::events(chat::stream("paid", 100, 50)).late(),
        Reply::json("{}").status(500).late(),
    ] {
        let world = world(|fw| fw).await;
        world.provider.always(reply);
        let call = tokio::spawn(world.post(CHAT, &ask(CHAT, "hi", false)).send());
        within(world.provider.arrived(1)).await;
        // Somebody else writes to the log while the provider works, so nothing may be added to it any more.
        let log = world.fw.audit_log().unwrap().path().to_owned();
        std::fs::OpenOptions::new()
            .append(true)
            .open(log)
            .unwrap()
            .write_all(b"\n")
            .unwrap();
        world.provider.open();
        let mut response = within(call).await.unwrap().unwrap();
        let receipt = CallReceipt::of(&response).unwrap();
        let (text, broke_off) = read_all(&mut response).await;
        assert!(!broke_off && (text.contains("paid") || text == "{}"), "{text}");
        let receipt = receipt.take().expect("the answer has ended");
        assert!(!receipt.cost.is_zero());
        assert!(matches!(receipt.warning, Some(Warning::Owed(_))));
        let refused = world.post(CHAT, &ask(CHAT, "more", false)).send().await;
        assert_eq!(rule_of(refused), "audit:unavailable");
    }
}
