//! How long a question takes from being put to being answered: enqueue, approve, wake, consume.
//!
//! `cargo bench -p leash-hitl --bench round_trip --features sqlite,redis [-- redis://…]`; without an address it starts
//! a `redis-server` of its own.
#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a benchmark that prints a table"
)]

use std::error::Error;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
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

/// Asks through one queue and decides through the other; gives the median and the 99th percentile of the whole.
async fn measure(
    name: &str,
    asks: Arc<dyn HitlQueue>,
    decides: Arc<dyn HitlQueue>,
) -> Result<[Duration; 2], Box<dyn Error>> {
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
    Ok([whole[median], whole[high]])
}

/// Leaves a median and a 99th percentile where `cargo xtask bench` looks for it.
fn note(id: &str, [median, high]: [Duration; 2]) -> Result<(), Box<dyn Error>> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    );
    let figures = target.join("leash-bench");
    std::fs::create_dir_all(&figures)?;
    for (id, figure) in [(id.to_owned(), median), (format!("{id}_p99"), high)] {
        let micros = figure.as_micros();
        let figure = format!("{{\"id\":\"hitl/{id}\",\"value\":{micros},\"unit\":\"us\"}}\n");
        std::fs::write(figures.join(format!("hitl_{id}.json")), figure)?;
    }
    Ok(())
}

/// A server of our own, ended with us.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts a server, once it answers; nothing where there is no such program.
fn start_redis() -> Result<Option<(Server, String)>, Box<dyn Error>> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let text = port.to_string();
    let args = [
        "--port",
        &text,
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
    ];
    let started = Command::new("redis-server")
        .args(args)
        .stdout(Stdio::null())
        .spawn();
    let Ok(child) = started else { return Ok(None) };
    let server = Server(child);
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if begun.elapsed() > Duration::from_secs(10) {
            return Err("the server did not start".into());
        }
        std::thread::yield_now();
    }
    Ok(Some((server, format!("redis://127.0.0.1:{port}"))))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let memory: Arc<dyn HitlQueue> = Arc::new(MemoryQueue::new());
    measure("memory", memory.clone(), memory).await?;
    let path = std::env::temp_dir().join(format!("leash-round-trip-{}.db", std::process::id()));
    let one: Arc<dyn HitlQueue> = Arc::new(SqliteQueue::open(&path).await?);
    measure("SQLite", one.clone(), one.clone()).await?;
    let two = Arc::new(SqliteQueue::open(&path).await?);
    let figures = measure("SQLite, two connections", one, two).await?;
    note("round_trip_sqlite", figures)?;
    for end in ["", "-wal", "-shm"] {
        std::fs::remove_file(format!("{}{end}", path.display())).ok();
    }
    // Cargo gives a benchmark arguments of its own.
    let given = std::env::args().find(|arg| arg.starts_with("redis"));
    let (_server, url) = if let Some(url) = given {
        (None, url)
    } else {
        let Some((server, url)) = start_redis()? else {
            println!("Redis: no `redis-server` here");
            return Ok(());
        };
        (Some(server), url)
    };
    let url = url.parse()?;
    let one: Arc<dyn HitlQueue> = Arc::new(RedisQueue::new(&url)?);
    measure("Redis", one.clone(), one.clone()).await?;
    let figures = measure("Redis, two clients", one, Arc::new(RedisQueue::new(&url)?)).await?;
    note("round_trip_redis", figures)?;
    Ok(())
}
