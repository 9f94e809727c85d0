//! What one reservation and its settlement cost on a Redis server that keeps what it acknowledged (`appendonly yes`,
//! `appendfsync everysec`): for 64 tasks of one process, and among a million sessions. It starts a server of its own.
//! Says the times of single questions and the memory of a hold, too.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::float_arithmetic,
    reason = "a benchmark"
)]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use leash_budget::{
    BudgetAdmin, BudgetStore, Held, Hold, HoldLine, RedisStore, RedisStoreOptions, Restored, Scope, ScopeKey,
    Settlement, Window, Written,
};
use leash_core::{Caller, Clock as _, Digest, IdGenerator, SessionId, SystemClock, Usd};
use leash_store::redis_client::cmd;
use leash_store::{RedisOptions, SharedRedis, StoreUrl};
use tokio::sync::oneshot;

const TASKS: u64 = 64;

struct Server {
    child: Child,
    url: StoreUrl,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "yes",
            ])
            .args(["--auto-aof-rewrite-percentage", "0", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        loop {
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
                let mut answer = [0; 7];
                stream.write_all(b"PING\r\n").unwrap();
                if stream.read_exact(&mut answer).is_ok() && &answer == b"+PONG\r\n" {
                    break;
                }
            }
            std::thread::yield_now();
        }
        Self {
            child,
            url: format!("redis://127.0.0.1:{port}/0").parse().unwrap(),
            _folder: folder,
        }
    }

    async fn memory(&self) -> u64 {
        let server = SharedRedis::new(&self.url, &RedisOptions::default()).unwrap();
        let info: String = server.query("ask", cmd("INFO").arg("memory")).await.unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
        line.unwrap().trim().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn hold(ids: &IdGenerator, session: &SessionId, scopes: &Arc<[Scope]>) -> Hold {
    Hold {
        id: ids.reservation(SystemClock.now()),
        amount: Usd::from_nanos(5).unwrap(),
        scopes: scopes.clone(),
        lease: Duration::from_mins(10),
        line: HoldLine {
            what: Held::Model {
                provider: "openai".into(),
                model: "gpt-4o".into(),
            },
            caller: Caller::session(session.clone()),
            request_digest: Digest::EMPTY,
        },
    }
}

/// How often lines are confirmed, as a firewall does it.
const CONFIRM_EVERY: Duration = Duration::from_millis(50);

/// Confirms what is in `lines` now and then, and the last of it when all callers are done.
async fn confirm(store: RedisStore, lines: Arc<Mutex<Vec<Written>>>, mut done: oneshot::Receiver<()>) {
    loop {
        let is_last = tokio::time::timeout(CONFIRM_EVERY, &mut done).await.is_ok();
        let written = std::mem::take(&mut *lines.lock().unwrap());
        for some in written.chunks(256) {
            store.confirm(some).await.unwrap();
        }
        if is_last {
            return;
        }
    }
}

/// `pairs` calls by 64 tasks, each call under the caps of `width` of: its session, its tenant, everything. The lines of the
/// calls are owed, and confirmed some at a time. Returns how long each question of a call took.
async fn spend(store: &RedisStore, pairs: u64, width: usize) -> Vec<Duration> {
    let ids = Arc::new(IdGenerator::from_os());
    let lines = Arc::new(Mutex::new(Vec::new()));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (store, ids, lines) = (store.clone(), ids.clone(), lines.clone());
            let turns = pairs / TASKS + u64::from(task < pairs % TASKS);
            tokio::spawn(async move {
                let session = SessionId::new(format!("s_{task}")).unwrap();
                let scopes = [
                    Scope::session(&session, Usd::MAX),
                    Scope::capped(ScopeKey::named("tenant", "acme"), Usd::MAX),
                    Scope::global(Usd::MAX),
                ];
                let scopes: Arc<[Scope]> = scopes.into_iter().take(width).collect();
                let mut times = Vec::new();
                for _ in 0..turns {
                    let hold = hold(&ids, &session, &scopes);
                    let start = Instant::now();
                    store.reserve(&hold).await.unwrap();
                    times.push(start.elapsed());
                    let settlement = Settlement {
                        id: hold.id,
                        amount: Usd::from_nanos(1).unwrap(),
                        scopes: scopes.clone(),
                        owes_line: true,
                    };
                    let start = Instant::now();
                    store.settle(&settlement).await.unwrap();
                    times.push(start.elapsed());
                    lines.lock().unwrap().push(Written {
                        id: hold.id,
                        charged: settlement.amount,
                    });
                }
                times
            })
        })
        .collect();
    let (all_done, done) = oneshot::channel();
    let confirmer = tokio::spawn(confirm(store.clone(), lines, done));
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    all_done.send(()).unwrap();
    confirmer.await.unwrap();
    times
}

async fn many_sessions(store: &RedisStore, count: usize) {
    let now = SystemClock.now();
    let sums: Vec<_> = (0..count)
        .map(|session| Restored {
            key: ScopeKey::named("session", &format!("s_other_{session}")),
            window: Window::Total,
            at: now,
            spent: Usd::from_nanos(1).unwrap(),
        })
        .collect();
    store.restore(&sums).await.unwrap();
}

/// For the table of figures, which criterion's medians do not tell.
fn write_p99(p99: Duration) {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        std::path::PathBuf::from,
    );
    let folder = target.join("leash-bench");
    std::fs::create_dir_all(&folder).unwrap();
    let figure = format!(
        "{{\"id\":\"budget/redis_64_tasks_p99\",\"value\":{},\"unit\":\"us\"}}\n",
        p99.as_micros()
    );
    std::fs::write(folder.join("budget_redis_64_tasks_p99.json"), figure).unwrap();
}

async fn report(server: &Server, store: &RedisStore) {
    for width in [1, 3] {
        let start = Instant::now();
        let mut times = spend(store, 100_000, width).await;
        let took = start.elapsed();
        times.sort();
        let at = |part: usize| times[times.len() * part / 1000];
        println!(
            "{width} scopes: {:.0} pairs/s; one question: p50 {:?}, p99 {:?}, p99.9 {:?}",
            100_000.0 / took.as_secs_f64(),
            at(500),
            at(990),
            at(999),
        );
        if width == 1 {
            write_p99(at(990));
        }
    }
    let ended = server.memory().await;
    let ids = IdGenerator::from_os();
    let session = SessionId::new("s_memory").unwrap();
    let scopes: Arc<[Scope]> = Arc::from([Scope::session(&session, Usd::MAX)]);
    for _ in 0..20_000 {
        store.reserve(&hold(&ids, &session, &scopes)).await.unwrap();
    }
    let held = server.memory().await;
    println!("a hold under one scope: {} bytes", (held - ended) / 20_000);
    let before = server.memory().await;
    spend(store, 50_000, 1).await;
    println!(
        "a settled id: {} bytes",
        (server.memory().await - before) / 50_000
    );
}

fn reserve_settle(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut group = criterion.benchmark_group("budget/reserve_settle_redis");
    group.sample_size(10);
    // One turn is a pair of each of the tasks.
    group.throughput(Throughput::Elements(TASKS));
    for (name, width, sessions) in [
        ("64_tasks_1_scope", 1, 0),
        ("64_tasks_3_scopes", 3, 0),
        ("64_tasks_3_scopes_among_a_million_sessions", 3, 1_000_000),
    ] {
        let server = Server::start();
        let mut options = RedisStoreOptions::default();
        options.redis.timeout = Duration::from_secs(30);
        let store = runtime.block_on(RedisStore::init(&server.url, options)).unwrap();
        runtime.block_on(many_sessions(&store, sessions));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|turns| {
                let start = Instant::now();
                runtime.block_on(spend(&store, turns * TASKS, width));
                start.elapsed()
            });
        });
        if name.ends_with("1_scope") {
            runtime.block_on(report(&server, &store));
        }
    }
    group.finish();
}

criterion_group!(benches, reserve_settle);
criterion_main!(benches);
