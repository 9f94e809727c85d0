//! What one reservation and its settlement cost, in memory; and that it is no more with a million sessions, with many holds
//! standing, or after many that ended.
#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use futures_executor::block_on;
use leash_budget::{
    BudgetStore, Held, Hit, Hold, HoldLine, MemoryStore, PriceTable, Scope, ScopeKey, Settlement, Window,
};
use leash_core::{
    Caller, Clock as _, Digest, IdGenerator, SessionId, SystemClock, TenantId, Timestamp, Usage, Usd,
};

struct Bench {
    store: MemoryStore,
    ids: IdGenerator,
    line: HoldLine,
    now: Timestamp,
}

impl Bench {
    fn new() -> Self {
        Self {
            store: MemoryStore::new(Arc::new(SystemClock)),
            ids: IdGenerator::from_os(),
            line: HoldLine {
                what: Held::Model {
                    provider: "openai".into(),
                    model: "gpt-4o".into(),
                },
                caller: Caller::session(SessionId::new("s_bench").unwrap()),
                request_digest: Digest::EMPTY,
            },
            now: SystemClock.now(),
        }
    }

    fn hold(&self, scopes: &Arc<[Scope]>) -> Hold {
        Hold {
            id: self.ids.reservation(self.now),
            amount: Usd::from_nanos(5).unwrap(),
            scopes: scopes.clone(),
            lease: Duration::from_mins(1),
            line: self.line.clone(),
        }
    }

    fn pair(&self, scopes: &Arc<[Scope]>) {
        let hold = self.hold(scopes);
        let settlement = Settlement {
            id: hold.id,
            amount: Usd::from_nanos(1).unwrap(),
            scopes: scopes.clone(),
            owes_line: false,
        };
        block_on(async {
            self.store.reserve(&hold).await.unwrap();
            self.store.settle(&settlement).await.unwrap();
        });
    }
}

fn session(number: usize) -> Arc<[Scope]> {
    let id = SessionId::new(format!("s_{number:016x}")).unwrap();
    Arc::from([Scope::session(&id, Usd::MAX)])
}

fn reserve_settle(criterion: &mut Criterion) {
    let bench = Bench::new();
    let one = session(0);
    criterion.bench_function("budget/reserve_settle_memory", |bencher| {
        bencher.iter(|| bench.pair(&one));
    });
    let tenant = TenantId::new("acme").unwrap();
    let three: Arc<[Scope]> = Arc::from([
        Scope::session(&bench.line.caller.session_id, Usd::MAX),
        Scope::tenant(&tenant, Usd::MAX).per(Window::Month),
        Scope::global(Usd::MAX).per(Window::Day),
    ]);
    criterion.bench_function("budget/reserve_settle_memory/3_scopes_3_windows", |bencher| {
        bencher.iter(|| bench.pair(&three));
    });
    let hit = Hit {
        key: ScopeKey::session(&bench.line.caller.session_id),
        limit: 100,
        within: Some(Duration::from_mins(1)),
    };
    criterion.bench_function("budget/hit_memory", |bencher| {
        bencher.iter(|| block_on(bench.store.hit(&hit)).unwrap());
    });
    // From here on there is much in the store, and no operation may notice.
    for _ in 0..100_000 {
        let hold = Hold {
            lease: Duration::from_hours(1),
            ..bench.hold(&one)
        };
        block_on(bench.store.reserve(&hold)).unwrap();
    }
    criterion.bench_function("budget/reserve_settle_memory/100_000_standing", |bencher| {
        bencher.iter(|| bench.pair(&one));
    });
    criterion.bench_function("budget/expire_memory/100_000_standing", |bencher| {
        bencher.iter(|| block_on(bench.store.expire(100)).unwrap());
    });
    let all: Vec<Arc<[Scope]>> = (0..1_000_000).map(session).collect();
    for scopes in &all {
        bench.pair(scopes);
    }
    criterion.bench_function(
        "budget/reserve_settle_memory/one_of_a_million_sessions",
        |bencher| {
            bencher.iter(|| bench.pair(&one));
        },
    );
    let mut turns = all.iter().step_by(7_919).cycle();
    criterion.bench_function(
        "budget/reserve_settle_memory/any_of_a_million_sessions",
        |bencher| {
            bencher.iter(|| bench.pair(turns.next().unwrap()));
        },
    );
}

fn price_and_cost(criterion: &mut Criterion) {
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

criterion_group!(benches, reserve_settle, price_and_cost);
criterion_main!(benches);
