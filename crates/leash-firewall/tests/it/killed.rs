//! Processes that are killed at any moment, over stores that outlive them: whatever they leave, in the end the logs account
//! for every cent that the store counts as spent.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use leash_audit::AuditLog;
use leash_budget::{
    Balance, BudgetStore, CONFIRM_WITHIN, Expired, Hit, Hits, Hold, ModelPrice, Price, RedisStore,
    RedisStoreOptions, Reserve, Scope, ScopeKey, Settled, Settlement, SqliteStore, SqliteStoreOptions,
    SqliteSync, Written,
};
use leash_core::{Clock, Json, ReservationId, StoreError, SystemClock, Timestamp, Usage, Usd};
use leash_firewall::{Charge, Firewall, Over, Window};
use serde_json::Value;

use crate::redis::Server;
use crate::support::{Log, builder, call, cents, usd, used};

/// What a worker is to do, in its environment.
const ORDERS: &str = "LEASH_FIREWALL_TEST_WORK";
const MARK: &str = "@ ";
/// Short, so that the survivors charge what the dead had under way, and whoever is slow settles late.
const LEASE: Duration = Duration::from_millis(400);
const SESSIONS: [&str; 2] = ["s_a", "s_b"];

/// The machine's clock, but for a time ahead.
#[derive(Debug)]
struct Ahead(Duration);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now().saturating_add(self.0)
    }
}

async fn open(url: &str, ahead: Duration) -> Arc<dyn BudgetStore> {
    let clock: Arc<dyn Clock> = Arc::new(Ahead(ahead));
    if let Some(path) = url.strip_prefix("sqlite:") {
        let mut options = SqliteStoreOptions::default();
        options.sync = SqliteSync::Normal;
        options.timeout = Duration::from_secs(30);
        return Arc::new(SqliteStore::open_or_init(path, clock, options).await.unwrap());
    }
    let mut options = RedisStoreOptions::default();
    options.redis.timeout = Duration::from_secs(30);
    let store = RedisStore::open(&url.parse().unwrap(), options).await.unwrap();
    Arc::new(store.with_clock(clock))
}

fn firewall(store: Arc<dyn BudgetStore>, log: &Path) -> Firewall {
    // What calls cost are no round numbers.
    let odd = ModelPrice::flat(Price::FREE, Price::per_million(usd("123.456789012")));
    builder()
        .prices(cents().with_price("p", "odd", odd))
        .tool_price("dig", usd("0.000000007"))
        .session_id(SESSIONS[0].parse().unwrap())
        .budget_store(store)
        .budget_usd(1_000_000.0)
        .cap(Over::Everything, Window::Total, usd("2000000"))
        .scope(Scope::capped(ScopeKey::named("team", "search"), usd("2000000")))
        .lease(LEASE)
        .audit_log(log)
        .build()
        .unwrap()
}

/// A store whose process gets no further than the end of some operation.
#[derive(Debug)]
struct Mortal {
    inner: Arc<dyn BudgetStore>,
    /// How many settlements are left until then; confirmations where that is 0 from the start.
    settlements: AtomicU64,
    confirms: AtomicU64,
}

impl Mortal {
    async fn after(&self, left: &AtomicU64) {
        if left.load(Ordering::SeqCst) > 0 && left.fetch_sub(1, Ordering::SeqCst) == 1 {
            say("here");
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl BudgetStore for Mortal {
    fn is_durable(&self) -> bool {
        true
    }
    async fn reserve(&self, hold: &Hold) -> Result<Reserve, StoreError> {
        self.inner.reserve(hold).await
    }
    async fn settle(&self, settlement: &Settlement) -> Result<Settled, StoreError> {
        let settled = self.inner.settle(settlement).await;
        self.after(&self.settlements).await;
        settled
    }
    async fn release(&self, id: ReservationId) -> Result<(), StoreError> {
        self.inner.release(id).await
    }
    async fn renew(&self, id: ReservationId, lease: Duration) -> Result<(), StoreError> {
        self.inner.renew(id, lease).await
    }
    async fn expire(&self, limit: usize) -> Result<Vec<Expired>, StoreError> {
        self.inner.expire(limit).await
    }
    async fn confirm(&self, lines: &[Written]) -> Result<(), StoreError> {
        self.after(&self.confirms).await;
        self.inner.confirm(lines).await
    }
    async fn balances(&self, scopes: &[Scope]) -> Result<Vec<Balance>, StoreError> {
        self.inner.balances(scopes).await
    }
    async fn close(&self, key: &ScopeKey) -> Result<Balance, StoreError> {
        self.inner.close(key).await
    }
    async fn hit(&self, hit: &Hit) -> Result<Hits, StoreError> {
        self.inner.hit(hit).await
    }
}

/// A small generator (splitmix64), so that what a task asks for follows from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % bound
    }
}

fn say(words: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{MARK}{words}").unwrap();
    out.flush().unwrap();
}

/// As a test it does nothing. As a child it makes calls, and ends each in one of the ways in which calls end, until it is
/// killed.
#[test]
fn worker() {
    let Ok(orders) = std::env::var(ORDERS) else { return };
    let words: Vec<&str> = orders.lines().collect();
    let [url, log, seed, settlements, confirms] = words[..] else {
        panic!("{words:?}")
    };
    let seed: u64 = seed.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Mortal {
            inner: open(url, Duration::ZERO).await,
            settlements: AtomicU64::new(settlements.parse().unwrap()),
            confirms: AtomicU64::new(confirms.parse().unwrap()),
        };
        let fw = firewall(Arc::new(store), Path::new(log));
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..8_u64 {
            let fw = fw.session(SESSIONS[usize::try_from(task % 2).unwrap()].parse().unwrap());
            tasks.spawn(async move {
                let mut random = Random(seed.wrapping_mul(1_000).wrapping_add(task));
                for _ in 0..u64::MAX {
                    work(&fw, &mut random).await;
                    say("done");
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    });
}

async fn work(fw: &Firewall, random: &mut Random) {
    let bound = random.below(1_000) + 1;
    let cost = random.below(bound + 1);
    match random.below(12) {
        0 => {
            fw.tool("dig", Json::null(), async |_| {
                Ok::<_, std::io::Error>(Json::null())
            })
            .await
            .unwrap();
        }
        1 => {
            let charge = Charge {
                provider: "p".into(),
                model: "odd".into(),
                usage: Usage {
                    output_tokens: cost,
                    ..Usage::default()
                },
            };
            fw.charge(charge).await.unwrap();
        }
        how => {
            let mut asked = call(fw, bound);
            asked.model = "odd".into();
            let admission = fw.admit(asked).await.unwrap();
            match how {
                2 => drop(admission),
                3 => drop(admission.fail().await),
                4 => {
                    // Whoever asked goes away half-way.
                    let mut settling = Box::pin(admission.settle(used(cost)));
                    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                    let _: std::task::Poll<_> = settling.as_mut().poll(&mut context);
                }
                _ => drop(admission.settle(used(cost)).await),
            }
        }
    }
}

fn start(words: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::worker", "--nocapture", "--test-threads=1"])
        .env(ORDERS, words.join("\n"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

fn keys() -> Vec<ScopeKey> {
    let mut keys = vec![ScopeKey::global(), ScopeKey::named("team", "search")];
    keys.extend(SESSIONS.map(|id| ScopeKey::session(&id.parse().unwrap())));
    keys
}

/// What the logs say each scope has spent. Of several lines of one reservation one counts: the call's own before one of its
/// expiry, wherever each of them is.
fn accounted(logs: &[Log]) -> BTreeMap<String, u64> {
    let mut alone: Vec<Value> = Vec::new();
    let mut lines: HashMap<String, Value> = HashMap::new();
    let is_expired = |line: &Value| line["outcome"] == "expired";
    for line in logs.iter().flat_map(Log::lines) {
        if line["kind"] != "model_call" && line["kind"] != "tool_call" {
            continue;
        }
        match line["reservation_id"].as_str() {
            None => alone.push(line),
            Some(id) => match lines.get(id) {
                Some(before) if !is_expired(before) => {
                    assert!(
                        is_expired(&line) || line["cost_usd"] == before["cost_usd"],
                        "{line}"
                    );
                }
                Some(_) if is_expired(&line) => {}
                _ => drop(lines.insert(id.to_owned(), line)),
            },
        }
    }
    let mut sums: BTreeMap<String, u64> = keys().iter().map(|key| (key.to_string(), 0)).collect();
    for line in alone.iter().chain(lines.values()) {
        let cost = line["cost_usd"]
            .as_f64()
            .map_or(0, |cost| Usd::from_f64(cost).unwrap().as_nanos());
        let session = format!("session:{}", line["session_id"].as_str().unwrap());
        for key in ["global", "team:search", &session] {
            *sums.get_mut(key).unwrap() += cost;
        }
        assert!(cost == 0 || line["scopes"][0] == "team:search", "{line}");
    }
    sums
}

async fn spent(store: &dyn BudgetStore) -> (BTreeMap<String, u64>, u64) {
    let scopes: Vec<Scope> = keys()
        .into_iter()
        .map(|key| Scope::capped(key, Usd::MAX))
        .collect();
    let balances = store.balances(&scopes).await.unwrap();
    let reserved = balances.iter().map(|balance| balance.reserved.as_nanos()).sum();
    let sums = balances
        .iter()
        .map(|balance| (balance.key.to_string(), balance.spent.as_nanos()));
    (sums.collect(), reserved)
}

/// Four workers, each killed many times and started anew on its log: between two steps, after a settlement of which its
/// line is missing, and after a line of which the store was not told.
async fn logs_account_for_every_cent(url: &str) {
    const LIVES: u64 = 7;
    let logs: Vec<Log> = (0..5).map(|_| Log::new()).collect();
    let killers: Vec<_> = (0..4_u64)
        .map(|worker| {
            let path = logs[usize::try_from(worker).unwrap()].path().to_owned();
            let url = url.to_owned();
            std::thread::spawn(move || {
                let mut random = Random(worker);
                let mut heard = 0;
                for life in 0..LIVES {
                    let seed = (worker * LIVES + life).to_string();
                    let (settlements, confirms) = match life % 3 {
                        0 => (0, 0),
                        1 => (1 + random.below(100), 0),
                        _ => (0, 1 + random.below(3)),
                    };
                    let (settlements, confirms) = (settlements.to_string(), confirms.to_string());
                    let path = path.to_string_lossy();
                    let (mut child, mut out) = start(&[&url, &path, &seed, &settlements, &confirms]);
                    let dies_after = if life % 3 == 0 {
                        1 + random.below(200)
                    } else {
                        u64::MAX
                    };
                    let (mut line, mut count) = (String::new(), 0);
                    while out.read_line(&mut line).unwrap() > 0 {
                        count += u64::from(line.contains("@ done"));
                        if count == dies_after || line.contains("@ here") {
                            child.kill().unwrap();
                        }
                        line.clear();
                    }
                    assert!(!child.wait().unwrap().success(), "it ended by itself");
                    heard += count;
                }
                heard
            })
        })
        .collect();
    let mut heard = 0;
    for killer in killers {
        heard += tokio::task::spawn_blocking(move || killer.join().unwrap())
            .await
            .unwrap();
    }
    assert!(heard > 500, "{heard} calls");
    // The last of each log may be torn off. Whoever goes on with it sets that aside.
    for log in &logs[..4] {
        AuditLog::open(log.path()).unwrap().close().unwrap();
    }
    // When all leases are over, and whoever owes a line has had his time, another one finds it all.
    let late = CONFIRM_WITHIN + LEASE + Duration::from_mins(1);
    let store = open(url, late).await;
    let heir = firewall(store.clone(), logs[4].path());
    let deadline = Instant::now() + Duration::from_mins(1);
    let (mut sums, mut told);
    loop {
        heir.flush().await.unwrap();
        let reserved;
        (sums, reserved) = spent(&*store).await;
        told = accounted(&logs);
        if (reserved == 0 && sums == told) || Instant::now() > deadline {
            assert_eq!(reserved, 0);
            break;
        }
    }
    assert_eq!(told, sums, "what the logs say, and what the store has");
    let owed = logs[4].of_kind("model_call");
    assert!(
        owed.iter().any(|line| line["outcome"].is_null()),
        "none died before its line"
    );
    heir.close().await.unwrap();
    let later = open(url, late * 10).await;
    assert_eq!(later.expire(100).await.unwrap(), [], "each line is confirmed");
    assert_eq!(accounted(&logs), spent(&*later).await.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_logs_of_processes_killed_over_a_file_account_for_every_cent() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("budget.db").display());
    drop(open(&url, Duration::ZERO).await);
    logs_account_for_every_cent(&url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_logs_of_processes_killed_over_a_server_account_for_every_cent() {
    let server = Server::start();
    RedisStore::init(&server.url().parse().unwrap(), RedisStoreOptions::default())
        .await
        .unwrap();
    logs_account_for_every_cent(&server.url()).await;
}
