//! Measures how long it takes from an order, acknowledged in one process, to the first refused call in another, and to
//! the cutting of a stream that waits there.
//!
//! ```console
//! $ cargo run --release -p leash-kill --example kill_latency --features sqlite,redis,http,server -- 300 2
//! ```
//!
//! The first number is how many orders are given over each transport, the second how many threads keep the processor
//! busy meanwhile. It starts a `redis-server` of its own. The other process is this program once more.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a measurement that may fail loudly"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use leash_core::{Caller, Clock as _, IdGenerator, SessionId, SystemClock};
use leash_kill::{KillOrder, KillRegistry, KillServer, MemoryKillRegistry, Target, ViewOptions};

const CHILD: &str = "LEASH_KILL_LATENCY_CHILD";

fn now_us() -> i64 {
    SystemClock.now().as_unix_micros()
}

/// The other process: an id a line comes in, the microsecond in which its order was acknowledged goes out.
async fn give_orders(url: &str) {
    let raw_redis = url.strip_prefix("raw-redis://").map(|address| {
        let address = address.trim_end_matches("/0").to_owned();
        std::net::TcpStream::connect(address).unwrap()
    });
    let registry = if raw_redis.is_some() {
        None
    } else {
        Some(
            leash_kill::open(&url.parse().unwrap(), Some("token"), ViewOptions::default())
                .await
                .unwrap(),
        )
    };
    for line in std::io::stdin().lines() {
        let id = line.unwrap();
        if let Some(registry) = &registry {
            let target = Target::Session(SessionId::new(id).unwrap());
            registry
                .kill(KillOrder::new(target, "measured", None))
                .await
                .unwrap();
        } else {
            // As the Python package does it: a key, and not a word to anybody.
            let mut stream = raw_redis.as_ref().unwrap();
            write!(stream, "SET llm_leash:kill:{id} measured\r\n").unwrap();
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer).unwrap();
            assert_eq!(answer, "+OK\r\n");
        }
        println!("{}", now_us());
        std::io::stdout().flush().unwrap();
    }
}

struct Other {
    child: Child,
    to: ChildStdin,
    from: tokio::sync::mpsc::UnboundedReceiver<i64>,
}

impl Other {
    fn start(url: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(CHILD, url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (tell, from) = tokio::sync::mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in lines {
                let Ok(line) = line else { return };
                if tell.send(line.parse().unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { child, to, from }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn measure(name: &str, url: &str, registry: Arc<dyn KillRegistry>, orders: usize) {
    let mut other = Other::start(url);
    let ids = IdGenerator::from_os();
    let (mut calls, mut streams) = (Vec::new(), Vec::new());
    for _ in 0..orders {
        let caller = Caller::session(ids.session());
        while !matches!(registry.standing(&caller).await, Ok(None)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let stream = tokio::spawn({
            let (registry, caller) = (registry.clone(), caller.clone());
            async move {
                let mut changes = registry.changes();
                while matches!(registry.standing(&caller).await, Ok(None)) {
                    changes.changed().await.unwrap();
                }
                now_us()
            }
        });
        let agent = tokio::spawn({
            let (registry, caller) = (registry.clone(), caller.clone());
            async move {
                while matches!(registry.standing(&caller).await, Ok(None)) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                now_us()
            }
        });
        // At no particular moment of the beat.
        tokio::time::sleep(Duration::from_micros(
            u64::from(ids.session().as_str().as_bytes()[9]) * 700,
        ))
        .await;
        writeln!(other.to, "{}", caller.session_id).unwrap();
        let given = other.from.recv().await.expect("the other process lives");
        calls.push(agent.await.unwrap().saturating_sub(given).max(0));
        streams.push(stream.await.unwrap().saturating_sub(given).max(0));
    }
    println!("| {name} | {} | {} |", figures(calls), figures(streams));
}

fn figures(mut micros: Vec<i64>) -> String {
    micros.sort_unstable();
    let at = |percent: usize| {
        let index = (micros.len() * percent / 100).min(micros.len() - 1);
        let tenths = micros[index] / 100;
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    format!("{} / {} / {}", at(50), at(99), at(100))
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    if let Ok(url) = std::env::var(CHILD) {
        return give_orders(&url).await;
    }
    let mut arguments = std::env::args().skip(1);
    let mut number = |otherwise: usize| arguments.next().map_or(otherwise, |text| text.parse().unwrap());
    let (orders, busy) = (number(200), number(0));
    for _ in 0..busy {
        std::thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }

    println!("{orders} orders each, {busy} busy threads; milliseconds: median / p99 / worst\n");
    println!("| transport | order → first refused call | order → stream cut |\n|---|---|---|");
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("kill.db").display());
    let open = async |url: &str| {
        leash_kill::open(&url.parse().unwrap(), Some("token"), ViewOptions::default())
            .await
            .unwrap()
    };
    measure("SQLite, another process", &url, open(&url).await, orders).await;

    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut redis = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--save", "", "--bind", "127.0.0.1"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let url = format!("redis://127.0.0.1:{port}/0");
    let registry = open(&url).await;
    while registry.orders().await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    measure("Redis, another process", &url, registry.clone(), orders).await;
    let raw = format!("raw-{url}");
    measure("Redis, written by the Python package", &raw, registry, orders).await;
    redis.kill().unwrap();
    redis.wait().unwrap();

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = KillServer::new(Arc::new(MemoryKillRegistry::new()), "token");
    tokio::spawn(server.serve(listener));
    measure("HTTP, another process", &url, open(&url).await, orders).await;
}
