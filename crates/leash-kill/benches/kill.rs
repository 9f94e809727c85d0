//! What the question before every call costs.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark")]

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use criterion::{Criterion, criterion_group, criterion_main};
use leash_core::{AgentName, Caller, SessionId, TenantId};
use leash_kill::{KillOrder, KillRegistry, MemoryKillRegistry, SqliteKillRegistry, Target, ViewOptions};

/// Asks once; the answer has to be there at once.
fn ask(registry: &dyn KillRegistry, caller: &Caller) -> bool {
    let question = pin!(registry.standing(caller));
    match question.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer.unwrap().is_some(),
        Poll::Pending => panic!("the view does not know"),
    }
}

fn caller(n: u32) -> Caller {
    Caller {
        session_id: SessionId::new(format!("s_{n:016x}")).unwrap(),
        tenant_id: Some(TenantId::new("acme").unwrap()),
        agent_name: Some(AgentName::new("researcher").unwrap()),
    }
}

fn standing(criterion: &mut Criterion) {
    let me = caller(1);
    criterion.bench_function("kill/standing_memory", |bencher| {
        let registry = MemoryKillRegistry::new();
        bencher.iter(|| ask(&registry, &me));
    });

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let registry = runtime.block_on(async {
        let registry = SqliteKillRegistry::open(folder.path().join("kill.db"), ViewOptions::default())
            .await
            .unwrap();
        for n in 0..1000 {
            registry.standing(&caller(n)).await.unwrap();
        }
        registry
    });
    // The share of the system's clock, without which nobody knows how old the view is.
    criterion.bench_function("kill/clock", |bencher| {
        let base = std::time::Instant::now();
        bencher.iter(|| base.elapsed());
    });
    criterion.bench_function("kill/standing_view", |bencher| {
        bencher.iter(|| ask(&registry, &me));
    });
    runtime.block_on(async {
        for n in 0..8 {
            let target = Target::Agent(AgentName::new(format!("other-{n}")).unwrap());
            registry.kill(KillOrder::new(target, "stop", None)).await.unwrap();
        }
    });
    criterion.bench_function("kill/standing_view_8_wide_orders", |bencher| {
        bencher.iter(|| ask(&registry, &me));
    });
}

criterion_group!(benches, standing);
criterion_main!(benches);
