//! How long it takes to find a price and to charge by it.
#![expect(clippy::unwrap_used, reason = "a benchmark")]

use criterion::{Criterion, criterion_group, criterion_main};
use leash_budget::{PriceTable, bound};
use leash_core::{Caller, ModelCall, SessionId, Timestamp, Usage};

fn price(criterion: &mut Criterion) {
    let table = PriceTable::embedded();
    let at: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
    let usage = Usage {
        input_tokens: 1_000,
        output_tokens: 200,
        cache_read_tokens: 5_000,
        ..Usage::default()
    };
    for (what, provider, model) in [
        ("name", "anthropic", "claude-haiku-4-5-20251001"),
        ("service_tiers", "openai", "gpt-4o"),
        ("hours", "deepseek", "deepseek-v4-flash"),
        ("rule", "anthropic", "claude-haiku-4-5-20260101"),
        ("region", "bedrock", "jp.anthropic.claude-haiku-4-5-20251001-v1:0"),
    ] {
        criterion.bench_function(&format!("price/look_up_and_cost/{what}"), |bencher| {
            bencher.iter(|| table.price_at(provider, model, at).unwrap().cost(&usage).unwrap());
        });
    }
    criterion.bench_function("price/look_up/unknown", |bencher| {
        bencher.iter(|| {
            table
                .price_at("openrouter", "nobody/knows-this-one", at)
                .is_none()
        });
    });
    let caller = Caller::session(SessionId::new("s_bench").unwrap());
    let call = ModelCall::new("openai", "gpt-4o", serde_json::json!([]), 1_000, caller);
    criterion.bench_function("price/look_up_and_bound", |bencher| {
        bencher.iter(|| bound(&call, table.price_at("openai", "gpt-4o", at).unwrap(), None).unwrap());
    });
    criterion.bench_function("price/read_table", |bencher| {
        let text = include_str!("../data/prices.json");
        bencher.iter(|| PriceTable::from_json(text).unwrap());
    });
}

criterion_group!(benches, price);
criterion_main!(benches);
