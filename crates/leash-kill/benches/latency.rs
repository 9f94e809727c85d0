//! Measures how long it takes from an order, acknowledged in one process, to the first refused call in another, and to
//! the cutting of a stream that waits there.
//!
//! ```console
//! $ cargo bench -p leash-kill --bench latency --all-features -- 300 2
//! ```
//!
//! The first number is how many orders are given over each transport, the second how many threads keep the processor
//! busy meanwhile. It starts a `redis-server` of its own. The other process is this program once more; of the registry
//! in memory, which no other process reaches, it is another thread. The 99th percentiles are left where
//! `cargo xtask bench` looks for them.
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
use std::path::PathBuf;
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

/// Who gives the orders: an id goes in, the microsecond in which its order was acknowledged comes out.
enum Other {
    Process(Process),
    Thread {
        to: std::sync::mpsc::Sender<String>,
        from: tokio::sync::mpsc::UnboundedReceiver<i64>,
    },
}

struct Process {
    child: Child,
    to: ChildStdin,
    from: tokio::sync::mpsc::UnboundedReceiver<i64>,
}

impl Other {
    fn process(url: &str) -> Self {
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
        Self::Process(Process { child, to, from })
    }

    fn thread(registry: Arc<dyn KillRegistry>) -> Self {
        let (to, ids) = std::sync::mpsc::channel::<String>();
        let (tell, from) = tokio::sync::mpsc::unbounded_channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for id in ids {
                let target = Target::Session(SessionId::new(id).unwrap());
                let order = KillOrder::new(target, "measured", None);
                runtime.block_on(registry.kill(order)).unwrap();
                if tell.send(now_us()).is_err() {
                    return;
                }
            }
        });
        Self::Thread { to, from }
    }

    async fn kill(&mut self, id: &SessionId) -> i64 {
        let from = match self {
            Self::Process(process) => {
                writeln!(process.to, "{id}").unwrap();
                &mut process.from
            }
            Self::Thread { to, from } => {
                to.send(id.to_string()).unwrap();
                from
            }
        };
        from.recv().await.expect("whoever gives the orders lives")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn measure(name: &str, id: &str, mut other: Other, registry: Arc<dyn KillRegistry>, orders: usize) {
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
        let given = other.kill(&caller.session_id).await;
        calls.push(agent.await.unwrap().saturating_sub(given).max(0));
        streams.push(stream.await.unwrap().saturating_sub(given).max(0));
    }
    calls.sort_unstable();
    streams.sort_unstable();
    println!("| {name} | {} | {} |", figures(&calls), figures(&streams));
    note(id, at(&calls, 99));
}

/// Leaves a figure where `cargo xtask bench` looks for it.
fn note(id: &str, micros: i64) {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    );
    let folder = target.join("leash-bench");
    std::fs::create_dir_all(&folder).unwrap();
    let figure = format!("{{\"id\":\"kill/latency_{id}_p99\",\"value\":{micros},\"unit\":\"us\"}}\n");
    std::fs::write(folder.join(format!("kill_latency_{id}_p99.json")), figure).unwrap();
}

fn at(micros: &[i64], percent: usize) -> i64 {
    micros[(micros.len() * percent / 100).min(micros.len() - 1)]
}

fn figures(micros: &[i64]) -> String {
    let millis = |percent: usize| {
        let tenths = at(micros, percent) / 100;
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    format!("{} / {} / {}", millis(50), millis(99), millis(100))
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    if let Ok(url) = std::env::var(CHILD) {
        return give_orders(&url).await;
    }
    // Cargo gives a benchmark arguments of its own.
    let mut arguments = std::env::args().skip(1).filter(|text| !text.starts_with('-'));
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
    let memory: Arc<dyn KillRegistry> = Arc::new(MemoryKillRegistry::new());
    let thread = Other::thread(memory.clone());
    measure("memory, another thread", "memory", thread, memory, orders).await;

    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("kill.db").display());
    let open = async |url: &str| {
        leash_kill::open(&url.parse().unwrap(), Some("token"), ViewOptions::default())
            .await
            .unwrap()
    };
    let registry = open(&url).await;
    measure(
        "SQLite, another process",
        "sqlite",
        Other::process(&url),
        registry,
        orders,
    )
    .await;

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
    let process = Other::process(&url);
    measure(
        "Redis, another process",
        "redis",
        process,
        registry.clone(),
        orders,
    )
    .await;
    let raw = Other::process(&format!("raw-{url}"));
    measure(
        "Redis, written by the Python package",
        "redis_python",
        raw,
        registry,
        orders,
    )
    .await;
    redis.kill().unwrap();
    redis.wait().unwrap();

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = KillServer::new(Arc::new(MemoryKillRegistry::new()), "token");
    tokio::spawn(server.serve(listener));
    let registry = open(&url).await;
    measure(
        "HTTP, another process",
        "http",
        Other::process(&url),
        registry,
        orders,
    )
    .await;
}
