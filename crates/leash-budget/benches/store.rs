//! What one reservation and its settlement cost, in memory.
#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use leash_budget::{BudgetStore, Held, Hold, HoldLine, MemoryStore, PriceTable, Scope, Settlement};
use leash_core::{Caller, Clock as _, Digest, IdGenerator, SessionId, SystemClock, Usage, Usd};

fn reserve_settle(criterion: &mut Criterion) {
    let store = MemoryStore::new(Arc::new(SystemClock));
    let ids = IdGenerator::from_os();
    let session = SessionId::new("s_bench").unwrap();
    let scopes: Arc<[Scope]> = Arc::from([Scope::session(&session, Usd::MAX)]);
    let now = SystemClock.now();
    let line = HoldLine {
        what: Held::Model {
            provider: "openai".into(),
            model: "gpt-4o".into(),
        },
        caller: Caller::session(session),
        request_digest: Digest::EMPTY,
    };
    criterion.bench_function("budget/reserve_settle_memory", |bencher| {
        bencher.iter(|| {
            let hold = Hold {
                id: ids.reservation(now),
                amount: Usd::from_nanos(5).unwrap(),
                scopes: scopes.clone(),
                lease: Duration::from_mins(1),
                line: line.clone(),
            };
            let settlement = Settlement {
                id: hold.id,
                amount: Usd::from_nanos(1).unwrap(),
                scopes: scopes.clone(),
            };
            futures_executor::block_on(async {
                store.reserve(&hold).await.unwrap();
                store.settle(&settlement).await.unwrap()
            })
        });
    });
    let table = PriceTable::embedded();
    let usage = Usage {
        input_tokens: 1_000,
        output_tokens: 200,
        ..Usage::default()
    };
    criterion.bench_function("budget/price_and_cost", |bencher| {
        bencher.iter(|| {
            table
                .price("anthropic", "claude-haiku-4-5-20251001")
                .unwrap()
                .cost(&usage)
                .unwrap()
        });
    });
}

criterion_group!(benches, reserve_settle);
criterion_main!(benches);
