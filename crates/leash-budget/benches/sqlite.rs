//! What one reservation and its settlement cost in a database file: from one process, from four, and among a million
//! sessions. This binary runs itself as the other processes.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::arithmetic_side_effects,
    reason = "a benchmark"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, measurement::WallTime};
use leash_budget::{
    BudgetAdmin, BudgetStore, Held, Hold, HoldLine, Restored, Scope, ScopeKey, Settlement, SqliteStore,
    SqliteStoreOptions, SqliteSync, Window, Written,
};
use leash_core::{Caller, Clock as _, Digest, IdGenerator, SessionId, SystemClock, Usd};
use tokio::sync::oneshot;

/// Where a child finds the file, in its environment.
const FILE: &str = "LEASH_BUDGET_BENCH_FILE";
const TASKS: u64 = 64;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

async fn open(path: &Path, sync: SqliteSync) -> Arc<SqliteStore> {
    let mut options = SqliteStoreOptions::default();
    options.sync = sync;
    let opened = SqliteStore::open_or_init(path, Arc::new(SystemClock), options).await;
    Arc::new(opened.unwrap())
}

/// How often lines are confirmed, as a firewall does it.
const CONFIRM_EVERY: Duration = Duration::from_millis(50);

/// Confirms what is in `lines` now and then, and the last of it when all callers are done.
async fn confirm(store: Arc<SqliteStore>, lines: Arc<Mutex<Vec<Written>>>, mut done: oneshot::Receiver<()>) {
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

/// `pairs` calls by 64 tasks, each call under the caps of its session, its tenant and everything. The lines of the calls are
/// owed, and confirmed some at a time.
async fn spend(store: &Arc<SqliteStore>, pairs: u64) {
    let ids = Arc::new(IdGenerator::from_os());
    let lines = Arc::new(Mutex::new(Vec::new()));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (store, ids, lines) = (store.clone(), ids.clone(), lines.clone());
            let turns = pairs / TASKS + u64::from(task < pairs % TASKS);
            tokio::spawn(async move {
                let session = SessionId::new(format!("s_{task}")).unwrap();
                let scopes: Arc<[Scope]> = Arc::from([
                    Scope::session(&session, Usd::MAX),
                    Scope::capped(ScopeKey::named("tenant", "acme"), Usd::MAX),
                    Scope::global(Usd::MAX),
                ]);
                for _ in 0..turns {
                    let hold = Hold {
                        id: ids.reservation(SystemClock.now()),
                        amount: Usd::from_nanos(5).unwrap(),
                        scopes: scopes.clone(),
                        lease: Duration::from_mins(1),
                        line: HoldLine {
                            what: Held::Model {
                                provider: "openai".into(),
                                model: "gpt-4o".into(),
                            },
                            caller: Caller::session(session.clone()),
                            request_digest: Digest::EMPTY,
                        },
                    };
                    store.reserve(&hold).await.unwrap();
                    let settlement = Settlement {
                        id: hold.id,
                        amount: Usd::from_nanos(1).unwrap(),
                        scopes: scopes.clone(),
                        owes_line: true,
                    };
                    store.settle(&settlement).await.unwrap();
                    lines.lock().unwrap().push(Written {
                        id: hold.id,
                        charged: settlement.amount,
                    });
                }
            })
        })
        .collect();
    let (all_done, done) = oneshot::channel();
    let confirmer = tokio::spawn(confirm(store.clone(), lines, done));
    for task in tasks {
        task.await.unwrap();
    }
    all_done.send(()).unwrap();
    confirmer.await.unwrap();
}

/// Spends as many pairs as each line of its standard input says, and says when it is done.
fn child(path: &Path) {
    let runtime = runtime();
    let store = runtime.block_on(open(path, SqliteSync::Normal));
    println!("ready");
    for line in std::io::stdin().lines() {
        let pairs = line.unwrap().parse().unwrap();
        runtime.block_on(spend(&store, pairs));
        println!("done");
    }
}

struct Other {
    child: Child,
    orders: ChildStdin,
    says: BufReader<ChildStdout>,
}

impl Other {
    fn start(path: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(FILE, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut other = Self {
            orders: child.stdin.take().unwrap(),
            says: BufReader::new(child.stdout.take().unwrap()),
            child,
        };
        other.hear();
        other
    }

    fn hear(&mut self) {
        let mut line = String::new();
        assert!(self.says.read_line(&mut line).unwrap() > 0);
    }
}

fn one_process(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, sync: SqliteSync, sessions: usize) {
    let folder = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let store = runtime.block_on(open(&folder.path().join("budget.db"), sync));
    if sessions > 0 {
        let now = SystemClock.now();
        let sums: Vec<_> = (0..sessions)
            .map(|session| Restored {
                key: ScopeKey::named("session", &format!("s_other_{session}")),
                window: Window::Total,
                at: now,
                spent: Usd::from_nanos(1).unwrap(),
            })
            .collect();
        runtime.block_on(store.restore(&sums)).unwrap();
    }
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|pairs| {
            let start = Instant::now();
            runtime.block_on(spend(&store, pairs * TASKS));
            start.elapsed()
        });
    });
}

fn reserve_settle(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("budget/reserve_settle_sqlite");
    group.sample_size(10);
    // One turn is a pair of each of the tasks.
    group.throughput(Throughput::Elements(TASKS));
    one_process(&mut group, "normal_64_tasks", SqliteSync::Normal, 0);
    one_process(
        &mut group,
        "normal_64_tasks_among_a_million_sessions",
        SqliteSync::Normal,
        1_000_000,
    );
    one_process(&mut group, "full_64_tasks", SqliteSync::Full, 0);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("budget.db");
    let mut others: Vec<_> = (0..4).map(|_| Other::start(&path)).collect();
    group.throughput(Throughput::Elements(4 * TASKS));
    group.bench_function("normal_four_processes_64_tasks_each", |bencher| {
        bencher.iter_custom(|pairs| {
            let start = Instant::now();
            for other in &mut others {
                writeln!(other.orders, "{}", pairs * TASKS).unwrap();
            }
            others.iter_mut().for_each(Other::hear);
            start.elapsed()
        });
    });
    for other in others {
        let Other {
            mut child, orders, ..
        } = other;
        drop(orders);
        child.wait().unwrap();
    }
    group.finish();
}

criterion_group!(benches, reserve_settle);

fn main() {
    if let Some(path) = std::env::var_os(FILE) {
        return child(Path::new(&path));
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
