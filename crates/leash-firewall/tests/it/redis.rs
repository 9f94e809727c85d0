//! Firewalls in several processes over one Redis server: grants, what the dead leave, and lines whose writers died.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use leash_budget::{
    Balance, BudgetStore, CONFIRM_WITHIN, Expired, Hit, Hits, Hold, RedisStore, RedisStoreOptions, Reserve,
    Scope, ScopeKey, Settled, Settlement, StoreUrl, Written,
};
use leash_core::{Clock, ReservationId, StoreError, SystemClock, Timestamp, Usd};
use leash_firewall::{Firewall, FirewallBuilder, Over, Window};
use serde_json::json;

use crate::support::{Log, builder, call, spend, usd};

/// What a child is to do, in its environment.
const ORDERS: &str = "LEASH_FIREWALL_TEST_ORDERS";
const MARK: &str = "@ ";
const LEASE: Duration = Duration::from_millis(300);

/// A `redis-server` of its own, ended with the test.
pub(crate) struct Server {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A port below those that the system gives to whoever connects.
fn free_port() -> u16 {
    let mut seed = u64::from(std::process::id());
    loop {
        seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), seed);
        let port = u16::try_from(12_000 + seed % 18_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Server {
    pub(crate) fn start() -> Self {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "yes", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("`redis-server` has to be installed for these tests: {error}"));
        let server = Self {
            child,
            port,
            _folder: folder,
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !server.answers() {
            assert!(Instant::now() < deadline, "redis-server does not answer");
            std::thread::yield_now();
        }
        server
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return false;
        };
        let mut answer = [0; 7];
        stream.write_all(b"PING\r\n").is_ok()
            && stream.read_exact(&mut answer).is_ok()
            && &answer == b"+PONG\r\n"
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }
}

fn options() -> RedisStoreOptions {
    let mut options = RedisStoreOptions::default();
    options.redis.timeout = Duration::from_secs(20);
    options
}

async fn open(url: &str) -> RedisStore {
    let url: StoreUrl = url.parse().unwrap();
    RedisStore::open(&url, options()).await.unwrap()
}

async fn begin(server: &Server) -> RedisStore {
    let url: StoreUrl = server.url().parse().unwrap();
    RedisStore::init(&url, options()).await.unwrap()
}

fn firewall(store: Arc<dyn BudgetStore>, log: &Path) -> FirewallBuilder {
    builder()
        .budget_store(store)
        .lease(LEASE)
        .audit_log(log)
        .cap(Over::Everything, Window::Total, usd("100"))
        .scope(Scope::capped(ScopeKey::named("team", "search"), usd("100")))
}

async fn spent(store: &RedisStore, key: ScopeKey) -> (Usd, Usd) {
    let scope = Scope::capped(key, Usd::MAX);
    let balances = store.balances(&[scope]).await.unwrap();
    (balances[0].spent, balances[0].reserved)
}

fn everything() -> ScopeKey {
    ScopeKey::global()
}

/// A process that does as it is told.
struct Partner {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Partner {
    fn start(words: &[&str]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "redis::partner", "--nocapture", "--test-threads=1"])
            .env(ORDERS, words.join("\n"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    /// What it says next.
    fn hear(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.out.read_line(&mut line).unwrap() > 0, "it ended");
            if let Some((_, words)) = line.split_once(MARK) {
                return words.trim().to_owned();
            }
        }
    }

    fn ends(mut self) {
        assert!(self.child.wait().unwrap().success());
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn say(words: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{MARK}{words}").unwrap();
    out.flush().unwrap();
}

/// Until it is killed.
fn wait_for_ever() -> ! {
    let mut rest = Vec::new();
    std::io::stdin().lock().read_to_end(&mut rest).unwrap();
    std::process::abort();
}

/// As a test it does nothing.
#[test]
fn partner() {
    let Ok(orders) = std::env::var(ORDERS) else { return };
    let words: Vec<&str> = orders.lines().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        match words.as_slice() {
            ["spend the grant", url, log, token] => {
                let store = Arc::new(open(url).await);
                let child = firewall(store, Path::new(log))
                    .grant(token.parse().unwrap())
                    .build()
                    .unwrap();
                let tasks: Vec<_> = (0..8_u64)
                    .map(|task| {
                        let child = child.clone();
                        tokio::spawn(async move {
                            let mut cents = 0;
                            for turn in 0..6 {
                                let asked = 1 + (task + turn) % 4;
                                cents += asked * u64::from(spend(&child, asked).await);
                            }
                            cents
                        })
                    })
                    .collect();
                let mut cents = 0;
                for task in tasks {
                    cents += task.await.unwrap();
                }
                child.close().await.unwrap();
                say(&format!("spent {cents}"));
            }
            ["die in a call", url, log] => {
                let store = Arc::new(open(url).await);
                let fw = firewall(store, Path::new(log)).build().unwrap();
                assert!(spend(&fw, 20).await);
                fw.flush().await.unwrap();
                // Under way until the process dies.
                let _admission = fw.admit(call(&fw, 30)).await.unwrap();
                say("admitted");
                wait_for_ever();
            }
            ["die with a line", url, log] => {
                let store = Arc::new(Stuck(open(url).await));
                let _fw = firewall(store, Path::new(log)).build().unwrap();
                wait_for_ever();
            }
            other => panic!("{other:?}"),
        }
    });
}

/// A store whose caller gets no further than being given what has expired.
#[derive(Debug)]
struct Stuck(RedisStore);

#[async_trait]
impl BudgetStore for Stuck {
    fn is_durable(&self) -> bool {
        true
    }
    async fn reserve(&self, hold: &Hold) -> Result<Reserve, StoreError> {
        self.0.reserve(hold).await
    }
    async fn settle(&self, settlement: &Settlement) -> Result<Settled, StoreError> {
        self.0.settle(settlement).await
    }
    async fn release(&self, id: ReservationId) -> Result<(), StoreError> {
        self.0.release(id).await
    }
    async fn renew(&self, id: ReservationId, lease: Duration) -> Result<(), StoreError> {
        self.0.renew(id, lease).await
    }
    async fn expire(&self, limit: usize) -> Result<Vec<Expired>, StoreError> {
        let expired = self.0.expire(limit).await?;
        if !expired.is_empty() {
            say(&format!("charged {}", expired.len()));
            std::future::pending::<()>().await;
        }
        Ok(expired)
    }
    async fn confirm(&self, lines: &[Written]) -> Result<(), StoreError> {
        self.0.confirm(lines).await
    }
    async fn balances(&self, scopes: &[Scope]) -> Result<Vec<Balance>, StoreError> {
        self.0.balances(scopes).await
    }
    async fn close(&self, key: &ScopeKey) -> Result<Balance, StoreError> {
        self.0.close(key).await
    }
    async fn hit(&self, hit: &Hit) -> Result<Hits, StoreError> {
        self.0.hit(hit).await
    }
}

/// The machine's clock, but for a time ahead.
#[derive(Debug)]
struct Ahead(Duration);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now().saturating_add(self.0)
    }
}

fn cents(count: u64) -> Usd {
    Usd::from_cents(count).unwrap()
}

/// Asks until the log has a line of an expired call.
fn expired_lines(log: &Log, deadline: Instant) -> Vec<serde_json::Value> {
    loop {
        assert!(Instant::now() < deadline, "nobody wrote its line");
        if log.path().exists() {
            let lines = log.of_kind("model_call");
            let expired: Vec<_> = lines
                .into_iter()
                .filter(|line| line["outcome"] == "expired")
                .collect();
            if !expired.is_empty() {
                return expired;
            }
        }
        std::thread::yield_now();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_in_other_processes_spend_their_grants_and_all_together_no_more_than_the_parent_has() {
    let server = Server::start();
    let store = begin(&server).await;
    let logs = [Log::new(), Log::new(), Log::new()];
    let parent = firewall(Arc::new(store.clone()), logs[0].path())
        .session_id("s_parent".parse().unwrap())
        .budget_usd(1.00)
        .build()
        .unwrap();
    let mut grants = Vec::new();
    let mut children = Vec::new();
    for log in &logs[1..] {
        let grant = parent.give(usd("0.35")).await.unwrap();
        let (url, path, token) = (server.url(), log.path().to_string_lossy(), grant.to_string());
        children.push(Partner::start(&["spend the grant", &url, &path, &token]));
        grants.push(grant);
    }
    // While they spend theirs, the parent spends what is left to it.
    let mut own = 0;
    for _ in 0..40 {
        own += u64::from(spend(&parent, 1).await);
    }
    assert_eq!(own, 30, "a dollar without two grants");
    let mut theirs = 0;
    for (mut child, log) in children.into_iter().zip(&logs[1..]) {
        let said = child.hear();
        let cents_spent: u64 = said.strip_prefix("spent ").unwrap().parse().unwrap();
        child.ends();
        assert!((32..=35).contains(&cents_spent), "{cents_spent} of 35");
        assert_eq!(log.cost(), cents(cents_spent));
        assert!(log.refusals() > 0);
        theirs += cents_spent;
    }
    for grant in &grants {
        parent.reclaim(grant).await.unwrap();
    }
    let all = cents(own + theirs);
    assert_eq!(parent.cumulative().await.unwrap(), all);
    // Every scope that they share has it once, and the logs account for it.
    assert_eq!(spent(&store, everything()).await, (all, Usd::ZERO));
    assert_eq!(
        spent(&store, ScopeKey::named("team", "search")).await,
        (all, Usd::ZERO)
    );
    let logged = logs
        .iter()
        .fold(Usd::ZERO, |sum, log| sum.checked_add(log.cost()).unwrap());
    assert_eq!(logged, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_had_under_way_is_charged_and_logged_by_another() {
    let server = Server::start();
    let store = begin(&server).await;
    let logs = [Log::new(), Log::new()];
    let path = logs[0].path().to_string_lossy();
    let mut dying = Partner::start(&["die in a call", &server.url(), &path]);
    assert_eq!(dying.hear(), "admitted");
    dying.kill();
    let survivor = firewall(Arc::new(store.clone()), logs[1].path()).build().unwrap();
    let lines = expired_lines(&logs[1], Instant::now() + Duration::from_secs(30));
    assert_eq!(lines.len(), 1);
    assert_eq!(
        (&lines[0]["cost_usd"], &lines[0]["model"], &lines[0]["scopes"]),
        (&json!(0.3), &json!("cent"), &json!(["team:search"]))
    );
    assert!(lines[0]["reservation_id"].is_string());
    survivor.close().await.unwrap();
    assert_eq!(spent(&store, everything()).await, (usd("0.50"), Usd::ZERO));
    let logged = logs[0].cost().checked_add(logs[1].cost()).unwrap();
    assert_eq!(logged, usd("0.50"), "the logs account for every cent");
    // It is confirmed, so nobody is given it again.
    let late = open(&server.url())
        .await
        .with_clock(Arc::new(Ahead(CONFIRM_WITHIN * 3)));
    assert_eq!(late.expire(10).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_whose_writer_was_killed_between_the_charge_and_the_line_is_written_by_another() {
    let server = Server::start();
    let store = begin(&server).await;
    let logs = [Log::new(), Log::new(), Log::new()];
    let path = |at: usize| logs[at].path().to_string_lossy().into_owned();
    let mut dying = Partner::start(&["die in a call", &server.url(), &path(0)]);
    assert_eq!(dying.hear(), "admitted");
    dying.kill();
    let mut stuck = Partner::start(&["die with a line", &server.url(), &path(1)]);
    assert_eq!(stuck.hear(), "charged 1");
    stuck.kill();
    assert_eq!(spent(&store, everything()).await, (usd("0.50"), Usd::ZERO));
    assert_eq!(logs[1].cost(), Usd::ZERO, "it died before its line");
    // Another is given it when its time is up, and not a moment earlier.
    assert_eq!(store.expire(10).await.unwrap(), []);
    let ahead: Arc<dyn Clock> = Arc::new(Ahead(CONFIRM_WITHIN + Duration::from_mins(1)));
    let heir: Firewall = firewall(Arc::new(store.clone().with_clock(ahead)), logs[2].path())
        .build()
        .unwrap();
    let lines = expired_lines(&logs[2], Instant::now() + Duration::from_secs(30));
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["cost_usd"], json!(0.3));
    heir.close().await.unwrap();
    assert_eq!(
        spent(&store, everything()).await,
        (usd("0.50"), Usd::ZERO),
        "charged once"
    );
    let logged = logs
        .iter()
        .fold(Usd::ZERO, |sum, log| sum.checked_add(log.cost()).unwrap());
    assert_eq!(logged, usd("0.50"), "the logs account for every cent");
}
