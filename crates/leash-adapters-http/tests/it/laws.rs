//! That no answer within the limits of its request costs more than the request's bound: requests and answers as they are
//! written, through the readers of both, at the prices of the table.

#![expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "tests")]

use std::sync::Arc;

use leash_budget::{ModelPrice, PriceTable, bound};
use leash_core::{Caller, InputSize, ModelCall, SessionId};
use leash_wire::{Format, Limits, Request, Response};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The ceiling where a request says no number.
const CEILING: u64 = 3;

/// What a test chose. Shares are percent of what the request allows.
#[derive(Clone, Debug)]
struct Choice {
    format: Format,
    model: usize,
    features: u32,
    max: u64,
    n: u64,
    tier: usize,
    shares: [u64; 10],
}

impl Choice {
    fn has(&self, feature: u32) -> bool {
        self.features >> feature & 1 == 1
    }

    fn of(&self, whole: u64, share: usize) -> u64 {
        // Exact, as the whole may be large.
        u64::try_from(u128::from(whole) * u128::from(self.shares[share]) / 100).unwrap()
    }
}

fn choice() -> impl Strategy<Value = Choice> {
    let formats = prop_oneof![
        Just(Format::AnthropicMessages),
        Just(Format::OpenAiChat),
        Just(Format::OpenAiResponses)
    ];
    let share = prop_oneof![Just(0), Just(100), 0..=100_u64];
    (
        formats,
        0..4_usize,
        any::<u32>(),
        16..40_000_u64,
        1..4_u64,
        0..5_usize,
        proptest::array::uniform10(share),
    )
        .prop_map(|(format, model, features, max, n, tier, shares)| Choice {
            format,
            model,
            features,
            max,
            n,
            tier,
            shares,
        })
}

fn anthropic(choice: &Choice) -> Value {
    let models = [
        "claude-haiku-4-5",
        "claude-opus-5-5",
        "claude-sonnet-4-5",
        "claude-haiku-5-5",
    ];
    let mut part = json!({"type": "text", "text": "hi"});
    if choice.has(0) {
        part["cache_control"] = json!({"type": "ephemeral", "ttl": "1h"});
    }
    let mut content = vec![part];
    if choice.has(1) {
        content.push(json!({"type": "document", "source": {"type": "file", "file_id": "f"}}));
    }
    if choice.has(2) {
        content.push(json!({"type": "image", "source": {"type": "url", "url": "https://x"}}));
    }
    let mut tools = vec![json!({"name": "ls", "input_schema": {}})];
    if choice.has(3) {
        tools.push(json!({"type": "web_search_20260209", "name": "web_search", "max_uses": 2}));
    }
    if choice.has(4) {
        tools.push(json!({"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-4-5", "max_uses": 2, "max_tokens": 2048}));
    }
    if choice.has(5) {
        tools.push(json!({"type": "code_execution_20250825", "name": "code_execution"}));
    }
    let mut body = json!({"model": models[choice.model], "max_tokens": choice.max, "tools": tools,
        "messages": [{"role": "user", "content": content}]});
    if choice.has(6) {
        body["context_management"] = json!({"edits": [{"type": "compact_20260112"}]});
    }
    if choice.has(7) {
        body["speed"] = json!("fast");
    }
    if choice.has(8) {
        body["inference_geo"] = json!("global");
    }
    if choice.has(9) {
        body["thinking"] = json!({"type": "enabled", "budget_tokens": 1024});
    }
    body
}

const TIERS: [Option<&str>; 5] = [
    None,
    Some("auto"),
    Some("default"),
    Some("flex"),
    Some("priority"),
];

fn openai(choice: &Choice) -> Value {
    let models = ["gpt-4o", "gpt-6-sol", "gpt-5-mini", "gpt-audio"];
    let mut body = json!({"model": models[choice.model]});
    if let Some(tier) = TIERS[choice.tier] {
        body["service_tier"] = json!(tier);
    }
    if choice.format == Format::OpenAiResponses {
        body["max_output_tokens"] = json!(choice.max);
        body["input"] = json!([{"role": "user", "content": "hi"}]);
        if choice.has(0) {
            body["previous_response_id"] = json!("resp_1");
        }
        let kinds = ["web_search", "file_search", "code_interpreter", "mcp"];
        let offered = (0..4)
            .filter(|at| choice.has(1 + at))
            .map(|at| json!({"type": kinds[at as usize]}));
        body["tools"] = offered.collect();
        if choice.has(5) {
            body["max_tool_calls"] = json!(2);
        }
        if choice.has(6) {
            body["input"]
                .as_array_mut()
                .unwrap()
                .push(json!({"type": "compaction_trigger"}));
        }
    } else {
        body["max_completion_tokens"] = json!(choice.max);
        body["n"] = json!(choice.n);
        let mut content = vec![json!({"type": "text", "text": "hi"})];
        if choice.has(0) {
            content.push(json!({"type": "image_url", "image_url": {"url": "https://x"}}));
        }
        body["messages"] = json!([{"role": "user", "content": content}]);
        if choice.has(1) {
            body["prediction"] = json!({"type": "content", "content": "a text that may be wasted"});
        }
        if choice.has(2) {
            body["web_search_options"] = json!({});
        }
        if choice.has(3) {
            body["audio"] = json!({"voice": "x", "format": "wav"});
        }
    }
    body
}

/// How much the call lets in, and out, of this model.
fn limits(call: &ModelCall, price: &ModelPrice) -> (u64, u64) {
    let uses = call.max_server_tool_uses.unwrap();
    let input = match call.input {
        InputSize::Bytes(bytes) => bytes,
        InputSize::Unbounded => {
            price.context_window.unwrap() * ((uses + 1).max(call.rounds) + call.compactions)
        }
    };
    let summaries = call.compactions * price.max_output_tokens.unwrap();
    (input, call.max_output_tokens.unwrap() * call.choices + summaries)
}

fn anthropic_answer(choice: &Choice, call: &ModelCall, (input, output): (u64, u64)) -> Value {
    let uses = call.max_server_tool_uses.unwrap();
    let quarter = input / 4;
    let (short, long) = if choice.has(0) {
        (choice.of(quarter, 0), choice.of(quarter, 1))
    } else {
        (0, 0)
    };
    let mut iterations = vec![];
    if let Some(advisor) = &call.advisor {
        for _ in 0..advisor.max_uses.unwrap() {
            let part = 50_000;
            iterations.push(json!({"type": "advisor_message", "model": &*advisor.model,
                "input_tokens": choice.of(part, 2), "cache_read_input_tokens": choice.of(part, 3),
                "cache_creation": {"ephemeral_5m_input_tokens": choice.of(part, 4), "ephemeral_1h_input_tokens": choice.of(part, 5)},
                "output_tokens": choice.of(advisor.max_output_tokens.unwrap(), 6)}));
        }
    }
    let searches = if choice.has(3) {
        choice.of(uses.min(2), 7)
    } else {
        0
    };
    let mut content = vec![json!({"type": "text", "text": "x"})];
    if choice.has(5) && choice.shares[8] > 50 {
        content
            .push(json!({"type": "server_tool_use", "id": "s", "name": "bash_code_execution", "input": {}}));
    }
    let served = ["standard", "priority"][choice.tier % 2];
    json!({"content": content, "stop_reason": "end_turn", "usage": {
        "input_tokens": 1 + choice.of(quarter - 1, 8), "cache_read_input_tokens": choice.of(quarter, 9),
        "cache_creation_input_tokens": short + long,
        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
        "output_tokens": 1 + choice.of(output - 1, 2), "iterations": iterations,
        "server_tool_use": {"web_search_requests": searches},
        "speed": if choice.has(7) && choice.shares[3] > 50 { "fast" } else { "standard" },
        "service_tier": served,
        "inference_geo": if choice.has(8) { "global" } else { "us" },
    }})
}

fn openai_answer(choice: &Choice, call: &ModelCall, (input, output): (u64, u64)) -> Value {
    let uses = call.max_server_tool_uses.unwrap();
    let prompt = 1 + choice.of(input - 1, 0);
    let (cached, written) = (choice.of(prompt / 2, 1), choice.of(prompt / 2, 2));
    let answered = 1 + choice.of(output - 1, 3);
    let heard = if choice.format == Format::OpenAiChat && choice.has(0) {
        choice.of(prompt, 4)
    } else {
        0
    };
    let said = if choice.format == Format::OpenAiChat && choice.has(3) {
        choice.of(answered, 5)
    } else {
        0
    };
    let served = match TIERS[choice.tier] {
        None | Some("auto") => ["default", "priority"][choice.n as usize % 2],
        // What is asked for is served, or the standard tier is.
        Some(tier) => [tier, "default"][choice.n as usize % 2],
    };
    let usage = json!({"prompt_tokens": prompt, "completion_tokens": answered, "total_tokens": prompt + answered,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written, "audio_tokens": heard},
        "completion_tokens_details": {"reasoning_tokens": choice.of(answered, 6), "audio_tokens": said}});
    let mut answer = json!({"usage": usage, "service_tier": served});
    if choice.format == Format::OpenAiChat {
        answer["choices"] =
            json!([{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}]);
        return answer;
    }
    let kinds = [
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "mcp_call",
    ];
    let offered: Vec<&str> = (0..4)
        .filter(|at| choice.has(1 + at))
        .map(|at| kinds[at as usize])
        .collect();
    let mut items = vec![json!({"type": "message", "content": []})];
    for ran in 0..choice.of(uses, 7) {
        if let Some(kind) = offered.get(ran as usize % offered.len().max(1)) {
            items.push(json!({"type": kind, "id": "i", "container_id": ran.to_string()}));
        }
    }
    answer["output"] = json!(items);
    answer
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_answer_within_the_limits_of_its_request_costs_more_than_its_bound(choice in choice()) {
        let table = PriceTable::embedded();
        let at = "2026-11-22T12:00:00Z".parse().unwrap();
        let body = match choice.format {
            Format::AnthropicMessages => anthropic(&choice),
            _ => openai(&choice),
        };
        let request = Request::parse(choice.format, body.to_string().as_bytes(), &Limits::default()).unwrap();
        let mut call = request.into_model_call(Caller::session(SessionId::new("s").unwrap()));
        call.max_server_tool_uses.get_or_insert(CEILING);
        call.in_region = choice.has(20);
        let mut price = table.price_at(&call.provider, &call.model, at).unwrap().as_ref().clone();
        if let Some(advisor) = &call.advisor {
            price = price.with_advisor(Arc::clone(table.price_at("anthropic", &advisor.model, at).unwrap()));
        }
        // What has no bound is refused.
        let Ok(bound) = bound(&call, &price, None) else { return Ok(()) };
        let within = limits(&call, &price);
        let answer = match choice.format {
            Format::AnthropicMessages => anthropic_answer(&choice, &call, within),
            _ => openai_answer(&choice, &call, within),
        };
        let answer = Response::parse(choice.format, answer.to_string().as_bytes(), &Limits::default()).unwrap();
        let usage = answer.usage().expect("usage that can be believed");
        match price.cost_of(&call, &usage) {
            Ok(cost) => prop_assert!(cost <= bound.amount, "{cost} > {}: {usage:?}", bound.amount),
            // Without a price for what it used, the bound is charged.
            Err(error) => prop_assert!(matches!(error, leash_budget::PriceError::Unpriced(_)), "{error}"),
        }
    }
}
