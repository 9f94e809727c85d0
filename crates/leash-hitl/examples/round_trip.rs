//! How long a question takes from being put to being answered: enqueue, approve, wake, consume.
//!
//! `cargo run --release -p leash-hitl --example round_trip --features sqlite,redis [redis://…]`
#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a program that prints a table"
)]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use leash_core::{Action, Call, Caller, Decision, IdGenerator, SessionId, Timestamp, ToolCall};
use leash_hitl::{
    Approval, ApprovalRequest, HitlGate as _, HitlQueue, MemoryQueue, QueueHitlGate, RedisQueue, Ruling,
    SqliteQueue, Which,
};

const ROUNDS: usize = 200;

fn request(round: usize) -> Result<ApprovalRequest, Box<dyn Error>> {
    let caller = Caller::session(SessionId::new("s_1")?);
    let call = Call::Tool(ToolCall::new(
        "wire",
        serde_json::json!({"amount": round}),
        caller,
    ));
    Ok(ApprovalRequest {
        id: IdGenerator::from_os().request(Timestamp::EPOCH),
        request_digest: call.request_digest(),
        call,
        decision: Decision::new(Action::Hitl, "wires", "money leaves"),
        policy_version: "1".into(),
    })
}

/// Asks through one queue and decides through the other.
async fn measure(
    name: &str,
    asks: Arc<dyn HitlQueue>,
    decides: Arc<dyn HitlQueue>,
) -> Result<(), Box<dyn Error>> {
    let gate = QueueHitlGate::new(asks).timeout(Duration::from_secs(10));
    let mut whole = Vec::with_capacity(ROUNDS);
    let mut wake = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let request = request(round)?;
        let gate = gate.clone();
        let mut changes = decides.changes();
        let start = Instant::now();
        let agent = tokio::spawn(async move { gate.request(&request).await });
        let entry = loop {
            if let Some(entry) = decides.list(Which::Open).await?.pop() {
                break entry;
            }
            tokio::time::timeout(Duration::from_millis(100), changes.changed())
                .await
                .ok();
        };
        decides.decide(&entry.id, &Ruling::approve(None)).await?;
        let approved = Instant::now();
        let answer = agent.await??;
        if !matches!(answer.approval, Approval::Approved { .. }) {
            return Err("not approved".into());
        }
        wake.push(approved.elapsed());
        whole.push(start.elapsed());
    }
    whole.sort_unstable();
    wake.sort_unstable();
    let (median, high) = (ROUNDS / 2, ROUNDS - ROUNDS / 100 - 1);
    println!(
        "{name:<28} whole p50 {:>9.3?} p99 {:>9.3?}   decided to woken and consumed p50 {:>9.3?} p99 {:>9.3?}",
        whole[median], whole[high], wake[median], wake[high]
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let memory: Arc<dyn HitlQueue> = Arc::new(MemoryQueue::new());
    measure("memory", memory.clone(), memory).await?;
    let path = std::env::temp_dir().join(format!("leash-round-trip-{}.db", std::process::id()));
    let one: Arc<dyn HitlQueue> = Arc::new(SqliteQueue::open(&path).await?);
    measure("SQLite", one.clone(), one.clone()).await?;
    measure(
        "SQLite, two connections",
        one,
        Arc::new(SqliteQueue::open(&path).await?),
    )
    .await?;
    for end in ["", "-wal", "-shm"] {
        std::fs::remove_file(format!("{}{end}", path.display())).ok();
    }
    if let Some(url) = std::env::args().nth(1) {
        let url = url.parse()?;
        let one: Arc<dyn HitlQueue> = Arc::new(RedisQueue::new(&url)?);
        measure("Redis", one.clone(), one.clone()).await?;
        measure("Redis, two clients", one, Arc::new(RedisQueue::new(&url)?)).await?;
    }
    Ok(())
}
