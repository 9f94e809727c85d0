//! The Redis server: the laws, and what becomes of money when the server stops, stalls, forgets or is somebody else's.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
#[cfg(feature = "redis-tls")]
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use leash_budget::conformance::{ManualClock, Subject};
use leash_budget::{
    BudgetAdmin, BudgetStore, Generation, Hit, Hold, RedisStore, RedisStoreOptions, Reserve, Restored, Scope,
    ScopeKey, Settlement, Window, Written, budget_admin_conformance, budget_store_clock_conformance,
    budget_store_conformance,
};
use leash_core::{Clock, IdGenerator, StoreErrorKind, SystemClock, Timestamp, Usd};
use leash_store::redis_client::cmd;
use leash_store::{RedisOptions, SharedRedis, StoreUrl};

#[path = "redis_faults.rs"]
mod faults;

const LONG: Duration = Duration::from_hours(1);

/// A `redis-server` on a port of its own, with a folder of its own, ended with the test.
struct Server {
    port: u16,
    folder: tempfile::TempDir,
    settings: Vec<String>,
    child: Option<Child>,
}

/// Settings under which nothing that was acknowledged is lost, even while the disk is slow.
const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always", "--save", ""];
/// Settings for where the server does not die.
const QUICK: &[&str] = &["--appendonly", "yes", "--save", ""];

/// A port that nobody listens on, and that the system gives to nobody who asks for any: so it is still free when a
/// server is started once more.
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
    fn start(settings: &[&str]) -> Self {
        let mut server = Self {
            port: free_port(),
            folder: tempfile::tempdir().unwrap(),
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            child: None,
        };
        server.restart();
        server
    }

    fn restart(&mut self) {
        self.stop();
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--dir"])
            .arg(self.folder.path())
            .args(&self.settings)
            .stdout(Stdio::null())
            .spawn()
            .expect("`redis-server` has to be installed for these tests");
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.answers() {
            assert!(Instant::now() < deadline, "redis-server does not answer");
            let child = self.child.as_mut().unwrap();
            assert!(child.try_wait().unwrap().is_none(), "redis-server ended");
            std::thread::yield_now();
        }
    }

    /// Whether it has read its data: before that it says `-LOADING`. Who wants a password is there, too.
    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return false;
        };
        let mut answer = [0; 7];
        stream.write_all(b"PING\r\n").is_ok()
            && stream.read_exact(&mut answer).is_ok()
            && (&answer == b"+PONG\r\n" || &answer == b"-NOAUTH")
    }

    fn url(&self) -> StoreUrl {
        format!("redis://127.0.0.1:{}/0", self.port).parse().unwrap()
    }

    fn signal(&self, name: &str) {
        let done = Command::new("kill")
            .args([format!("-{name}"), self.child.as_ref().unwrap().id().to_string()])
            .status()
            .unwrap();
        assert!(done.success());
    }

    /// SIGKILL.
    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn forget(&self) {
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                std::fs::remove_dir_all(path).unwrap();
            } else {
                std::fs::remove_file(path).unwrap();
            }
        }
    }

    async fn ask<T: leash_store::redis_client::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut ask = cmd(words[0]);
        ask.arg(&words[1..]);
        let server = SharedRedis::new(&self.url(), &RedisOptions::default()).unwrap();
        server.query("ask", &ask).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn options(timeout: Duration) -> RedisStoreOptions {
    let mut options = RedisStoreOptions::default();
    options.redis.timeout = timeout;
    options
}

fn patient() -> RedisStoreOptions {
    options(Duration::from_secs(30))
}

/// As the processes of a program open it: whoever comes first begins it.
pub(crate) async fn open(url: &str) -> Arc<dyn BudgetStore> {
    let url: StoreUrl = url.parse().unwrap();
    // A server that is down comes back in these tests.
    let (store, _) = insist(|| async {
        match RedisStore::init(&url, patient()).await {
            Err(error) if error.kind() == StoreErrorKind::Conflict => RedisStore::open(&url, patient()).await,
            begun => begun,
        }
    })
    .await;
    Arc::new(store)
}

pub(crate) async fn open_by(url: &str, clock: Arc<dyn Clock>) -> Arc<dyn BudgetStore> {
    let store = RedisStore::open(&url.parse().unwrap(), patient()).await.unwrap();
    Arc::new(store.with_clock(clock))
}

thread_local! {
    /// The servers of a test, until its thread ends: the laws know nothing of servers.
    static SERVERS: RefCell<Vec<Server>> = const { RefCell::new(Vec::new()) };
}

async fn fresh() -> RedisStore {
    let server = Server::start(QUICK);
    let url = server.url();
    SERVERS.with_borrow_mut(|servers| servers.push(server));
    RedisStore::init(&url, patient()).await.unwrap()
}

async fn subject() -> Subject {
    let clock = Arc::new(ManualClock::new(Timestamp::EPOCH));
    Subject {
        store: Arc::new(fresh().await.with_clock(clock.clone())),
        set_clock: Arc::new(move |now| clock.set(now)),
    }
}

budget_store_conformance!(laws, async { Arc::new(fresh().await) });
budget_store_clock_conformance!(time, subject());
budget_admin_conformance!(admin, async { Arc::new(fresh().await) });

mod shared {
    crate::processes_share!({
        let server = super::Server::start(super::QUICK);
        (server.url().with_secrets().to_owned(), server)
    });
}

fn at(text: &str) -> Arc<ManualClock> {
    Arc::new(ManualClock::new(text.parse().unwrap()))
}

fn usd(nanos: u64) -> Usd {
    Usd::from_nanos(nanos).unwrap()
}

fn scope(name: &str, cap: u64) -> Scope {
    Scope::capped(ScopeKey::named("team", name), usd(cap))
}

fn hold_for(amount: u64, scopes: &[Scope], lease: Duration) -> Hold {
    let id = IdGenerator::from_os().reservation(SystemClock.now());
    crate::processes::hold(id, amount, scopes, lease)
}

fn hold(amount: u64, scope: &Scope) -> Hold {
    hold_for(amount, std::slice::from_ref(scope), LONG)
}

fn settlement(hold: &Hold, amount: u64) -> Settlement {
    Settlement {
        id: hold.id,
        amount: usd(amount),
        scopes: hold.scopes.clone(),
        owes_line: false,
    }
}

async fn granted(store: &RedisStore, hold: &Hold) -> bool {
    matches!(store.reserve(hold).await.unwrap(), Reserve::Granted(_))
}

/// (spent, reserved) in nano-dollars.
async fn sums(store: &RedisStore, scope: &Scope) -> (u64, u64) {
    let balances = store.balances(std::slice::from_ref(scope)).await.unwrap();
    (balances[0].spent.as_nanos(), balances[0].reserved.as_nanos())
}

async fn refusal(store: &RedisStore, scope: &Scope) -> StoreErrorKind {
    store.reserve(&hold(1, scope)).await.unwrap_err().kind()
}

#[tokio::test]
async fn a_budget_is_begun_once_and_opened_only_where_it_is() {
    let server = Server::start(DURABLE);
    let url = server.url();
    let none = RedisStore::open(&url, patient()).await.unwrap_err();
    assert_eq!(none.kind(), StoreErrorKind::Generation);
    assert!(none.to_string().contains("llm-leash budget init"), "{none}");
    let store = RedisStore::init(&url, patient()).await.unwrap();
    let again = RedisStore::init(&url, patient()).await.unwrap_err();
    assert_eq!(again.kind(), StoreErrorKind::Conflict);
    let mut expecting = patient();
    expecting.generation = Some(store.generation().await.unwrap());
    let opened = RedisStore::open(&url, expecting.clone()).await.unwrap();
    assert_eq!(
        opened.generation().await.unwrap(),
        store.generation().await.unwrap()
    );
    expecting.generation = Some(Generation::new("another"));
    let another = RedisStore::open(&url, expecting).await.unwrap_err();
    assert_eq!(another.kind(), StoreErrorKind::Generation);
    // Another domain of the same server is another budget.
    let elsewhere: StoreUrl = format!("{}?domain=acme", url.with_secrets()).parse().unwrap();
    let acme = RedisStore::init(&elsewhere, patient()).await.unwrap();
    let scope = scope("shared name", 10);
    assert!(granted(&acme, &hold(10, &scope)).await);
    assert!(granted(&store, &hold(10, &scope)).await);
    for bad in ["a{b", "", "ä"] {
        let mut options = patient();
        options.domain = Some(bad.to_owned());
        let refused = RedisStore::init(&url, options).await.unwrap_err();
        assert_eq!(refused.kind(), StoreErrorKind::Conflict);
    }
    let keys: Vec<String> = server.ask(&["KEYS", "*"]).await;
    assert!(
        keys.iter()
            .all(|key| key.starts_with("llm_leash:{budget:default}:")
                || key.starts_with("llm_leash:{budget:acme}:")),
        "{keys:?}"
    );
}

#[tokio::test]
async fn a_server_that_comes_back_with_its_data_goes_on() {
    let mut server = Server::start(DURABLE);
    let store = RedisStore::init(&server.url(), patient()).await.unwrap();
    let scope = scope("durable", 10);
    let first = hold(6, &scope);
    assert!(granted(&store, &first).await);
    let second = hold(3, &scope);
    assert!(granted(&store, &second).await);
    store.settle(&settlement(&second, 2)).await.unwrap();
    server.stop();
    let gone = store.reserve(&hold(1, &scope)).await.unwrap_err();
    assert_eq!(gone.kind(), StoreErrorKind::Unavailable);
    server.restart();
    assert_eq!(sums(&store, &scope).await, (2, 6));
    assert!(!granted(&store, &hold(3, &scope)).await);
    // Nothing that was done before is done again.
    assert!(!store.settle(&settlement(&second, 2)).await.unwrap().applied);
    assert!(store.settle(&settlement(&first, 6)).await.unwrap().applied);
    assert_eq!(sums(&store, &scope).await, (8, 0));
}

#[tokio::test]
async fn a_server_that_comes_back_without_its_data_refuses_until_it_is_restored() {
    let mut server = Server::start(DURABLE);
    let url = server.url();
    let store = RedisStore::init(&url, patient()).await.unwrap();
    let scope = scope("lost", 10);
    let before = hold(7, &scope);
    assert!(granted(&store, &before).await);
    server.stop();
    server.forget();
    server.restart();
    assert_eq!(refusal(&store, &scope).await, StoreErrorKind::Generation);
    assert_eq!(
        store.settle(&settlement(&before, 7)).await.unwrap_err().kind(),
        StoreErrorKind::Generation
    );
    assert_eq!(
        RedisStore::open(&url, patient()).await.unwrap_err().kind(),
        StoreErrorKind::Generation
    );
    let rescue = RedisStore::open_for_restore(&url, patient()).await.unwrap();
    assert_eq!(refusal(&rescue, &scope).await, StoreErrorKind::Generation);
    assert_eq!(
        rescue.accept_loss().await.unwrap_err().kind(),
        StoreErrorKind::Generation
    );
    let restored = Restored {
        key: scope.key.clone(),
        window: Window::Total,
        at: SystemClock.now(),
        spent: usd(7),
    };
    let generation = rescue.restore(&[restored]).await.unwrap();
    assert_eq!(sums(&rescue, &scope).await, (7, 0));
    assert!(!granted(&rescue, &hold(4, &scope)).await);
    // Who opened the former life knows nothing of this one.
    assert_eq!(refusal(&store, &scope).await, StoreErrorKind::Generation);
    let reopened = RedisStore::open(&url, patient()).await.unwrap();
    assert_eq!(reopened.generation().await.unwrap(), generation);
    assert!(granted(&reopened, &hold(3, &scope)).await);
}

#[tokio::test]
async fn a_server_that_comes_back_with_older_data_refuses_everybody_until_it_is_restored() {
    let mut server = Server::start(&["--appendonly", "no", "--save", ""]);
    let url = server.url();
    let store = RedisStore::init(&url, patient()).await.unwrap();
    let scope = scope("old", 10);
    assert!(granted(&store, &hold(2, &scope)).await);
    let _: String = server.ask(&["SAVE"]).await;
    // Acknowledged after the snapshot.
    assert!(granted(&store, &hold(8, &scope)).await);
    server.restart();
    assert_eq!(refusal(&store, &scope).await, StoreErrorKind::Generation);
    assert_eq!(refusal(&store, &scope).await, StoreErrorKind::Generation);
    // One client's word is enough for all that come after.
    assert_eq!(
        RedisStore::open(&url, patient()).await.unwrap_err().kind(),
        StoreErrorKind::Generation
    );
    let rescue = RedisStore::open_for_restore(&url, patient()).await.unwrap();
    assert_eq!(refusal(&rescue, &scope).await, StoreErrorKind::Generation);
    rescue.accept_loss().await.unwrap();
    assert_eq!(sums(&rescue, &scope).await, (0, 2));
    let sum = Restored {
        key: scope.key.clone(),
        window: Window::Total,
        at: SystemClock.now(),
        spent: usd(10),
    };
    store.restore(&[sum]).await.unwrap();
    assert_eq!(sums(&store, &scope).await, (10, 0));
    assert!(!granted(&store, &hold(1, &scope)).await);
}

#[tokio::test]
async fn a_server_that_forgot_is_noticed_even_by_who_only_reads() {
    let mut server = Server::start(&["--appendonly", "no", "--save", ""]);
    let store = RedisStore::init(&server.url(), patient()).await.unwrap();
    let scope = scope("read", 10);
    let _: String = server.ask(&["SAVE"]).await;
    assert!(granted(&store, &hold(2, &scope)).await);
    server.restart();
    let error = store.balances(&[scope]).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Generation);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_a_stalled_server_are_told_so_in_time_and_pass_no_cap() {
    let server = Server::start(DURABLE);
    let timeout = Duration::from_millis(300);
    let store = RedisStore::init(&server.url(), options(timeout)).await.unwrap();
    let scope = scope("stalled", 100);
    let mut holds = Vec::new();
    for round in 0..3 {
        let calls: Vec<_> = (0..32_u64)
            .map(|turn| {
                let (store, hold) = (store.clone(), hold(turn % 5 + 1, &scope));
                tokio::spawn(async move {
                    let answer = store.reserve(&hold).await;
                    (hold, answer)
                })
            })
            .collect();
        // Somewhere in the middle of them.
        tokio::task::yield_now().await;
        server.signal("STOP");
        let start = Instant::now();
        let stalled = store.reserve(&hold(1, &scope)).await.unwrap_err();
        assert_eq!(stalled.kind(), StoreErrorKind::Timeout);
        assert!(start.elapsed() < timeout * 10, "round {round}");
        for call in calls {
            let (hold, answer) = call.await.unwrap();
            if let Err(error) = &answer {
                assert_eq!(error.kind(), StoreErrorKind::Timeout);
            }
            holds.push(hold);
        }
        server.signal("CONT");
        let patient = RedisStore::open(&server.url(), patient()).await.unwrap();
        let (spent, reserved) = sums(&patient, &scope).await;
        assert!(spent + reserved <= 100);
    }
    // Whoever got no answer asks again, and is told what has become of it.
    let store = RedisStore::open(&server.url(), patient()).await.unwrap();
    let mut held = 0;
    for hold in &holds {
        if granted(&store, hold).await {
            held += hold.amount.as_nanos();
        }
    }
    let (spent, reserved) = sums(&store, &scope).await;
    // Three calls of the test itself may hold a nano-dollar each.
    assert!(reserved.abs_diff(held) <= 3, "{reserved} {held}");
    assert!(spent + reserved <= 100);
}

/// Asks until there is an answer. Returns whether any was lost on the way.
async fn insist<T, F: Future<Output = Result<T, leash_core::StoreError>>>(ask: impl Fn() -> F) -> (T, bool) {
    let mut is_lost = false;
    loop {
        match ask().await {
            Ok(answer) => return (answer, is_lost),
            Err(error) => {
                let kind = error.kind();
                assert!(
                    matches!(kind, StoreErrorKind::Timeout | StoreErrorKind::Unavailable),
                    "{error} {:?}",
                    std::error::Error::source(&error)
                );
                is_lost = true;
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn spend_all_the_same(store: RedisStore, scope: Scope, task: u64, done: Arc<AtomicU64>) -> u64 {
    let mut spent = 0;
    for turn in 0..60 {
        let amount = (task * 7 + turn * 13) % 40 + 1;
        let hold = hold(amount, &scope);
        let (answer, is_lost) = insist(|| store.reserve(&hold)).await;
        match answer {
            Reserve::Granted(balances) => {
                let sums = &balances[0];
                assert!(sums.spent.checked_add(sums.reserved).unwrap() <= scope.cap.unwrap());
                let cost = settlement(&hold, amount / 2);
                insist(|| store.settle(&cost)).await;
                spent += amount / 2;
            }
            // A question that is still under way might be granted yet.
            Reserve::Refused(_) if is_lost => insist(|| store.release(hold.id)).await.0,
            Reserve::Refused(_) => {}
        }
        done.fetch_add(1, Ordering::AcqRel);
    }
    spent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_and_stalls_under_load_loses_nothing_and_counts_nothing_twice() {
    let mut server = Server::start(DURABLE);
    let store = RedisStore::init(&server.url(), options(Duration::from_millis(200)))
        .await
        .unwrap();
    let scope = scope("load", 4_000);
    let done = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            tokio::spawn(spend_all_the_same(
                store.clone(),
                scope.clone(),
                task,
                done.clone(),
            ))
        })
        .collect();
    for round in 1..=6_u64 {
        while done.load(Ordering::Acquire) < round * 130 {
            tokio::task::yield_now().await;
        }
        if round % 2 == 0 {
            server.restart();
        } else {
            server.signal("STOP");
            let stalled = store.balances(std::slice::from_ref(&scope)).await;
            assert_eq!(stalled.unwrap_err().kind(), StoreErrorKind::Timeout);
            server.signal("CONT");
        }
    }
    let mut spent = 0;
    for task in tasks {
        spent += task.await.unwrap();
    }
    let (sums, _) = insist(|| store.balances(std::slice::from_ref(&scope))).await;
    assert_eq!(
        (sums[0].spent.as_nanos(), sums[0].reserved.as_nanos()),
        (spent, 0)
    );
    assert!(spent > 1_000);
}

#[tokio::test]
async fn expired_holds_whose_answer_was_lost_are_told_again_to_who_asked() {
    let server = Server::start(DURABLE);
    let store = RedisStore::init(&server.url(), options(Duration::from_millis(300)))
        .await
        .unwrap();
    let other = RedisStore::open(&server.url(), patient()).await.unwrap();
    let scope = scope("unheard", 100);
    let short = hold_for(5, std::slice::from_ref(&scope), Duration::ZERO);
    assert!(granted(&store, &short).await);
    server.signal("STOP");
    let stalled = store.expire(10).await.unwrap_err();
    assert_eq!(stalled.kind(), StoreErrorKind::Timeout);
    server.signal("CONT");
    // The question is answered or not: whichever, its asker gets the hold, and nobody else does after him.
    let found = store.expire(10).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].hold, short);
    assert_eq!(found[0].balances[0].spent, usd(5));
    assert!(store.expire(10).await.unwrap().is_empty());
    assert!(other.expire(10).await.unwrap().is_empty());
    assert_eq!(sums(&store, &scope).await, (5, 0));
}

#[tokio::test]
async fn what_is_owed_outlives_a_restart_and_a_reset_and_no_restoration_and_takes_no_room_once_it_is_confirmed()
 {
    let mut server = Server::start(DURABLE);
    let clock = at("2026-11-22T12:00:00Z");
    let store = RedisStore::init(&server.url(), patient())
        .await
        .unwrap()
        .with_clock(clock.clone());
    let scope = scope("owed", 100);
    let owing = |hold: &Hold| Settlement {
        owes_line: true,
        ..settlement(hold, 2)
    };
    let [first, second] = [6, 7].map(|amount| hold(amount, &scope));
    for hold in [&first, &second] {
        assert!(granted(&store, hold).await);
        assert!(store.settle(&owing(hold)).await.unwrap().applied);
    }
    server.restart();
    assert_eq!(store.reset(&scope.key).await.unwrap().spent, usd(4));
    clock.set("2026-11-22T12:01:00Z".parse().unwrap());
    let owed = store.expire(10).await.unwrap();
    assert_eq!(owed.len(), 2);
    assert!(
        owed.iter()
            .all(|one| one.charged == usd(2) && one.balances[0].spent == usd(0))
    );
    let line = |hold: &Hold| Written {
        id: hold.id,
        charged: usd(2),
    };
    let rooms = async || -> (u64, u64) {
        let of = |name: &str| format!("llm_leash:{{budget:default}}:1:{name}");
        (
            server.ask(&["HLEN", &of("x")]).await,
            server.ask(&["ZCARD", &of("o")]).await,
        )
    };
    store.confirm(&[line(&first)]).await.unwrap();
    assert_eq!(rooms().await, (1, 1));
    store.confirm(&[line(&second), line(&first)]).await.unwrap();
    assert_eq!(rooms().await, (0, 0));
    let third = hold(5, &scope);
    assert!(granted(&store, &third).await);
    assert!(store.settle(&owing(&third)).await.unwrap().applied);
    store.restore(&[]).await.unwrap();
    clock.set("2026-11-22T12:03:00Z".parse().unwrap());
    assert!(store.expire(10).await.unwrap().is_empty());
    // In the new life nobody knows what it was about, so it is charged, and nothing is kept for its line.
    assert!(store.settle(&owing(&third)).await.unwrap().applied);
    clock.set("2026-11-22T12:05:00Z".parse().unwrap());
    assert!(store.expire(10).await.unwrap().is_empty());
    assert_eq!(sums(&store, &scope).await, (2, 0));
}

#[tokio::test]
async fn keys_of_the_first_schema_are_taken_over_with_the_lines_that_are_owed() {
    let server = Server::start(QUICK);
    let clock = at("2026-11-22T12:00:00Z");
    let store = RedisStore::init(&server.url(), patient())
        .await
        .unwrap()
        .with_clock(clock.clone());
    let scope = scope("earlier", 100);
    let [owed, late] = [6, 7].map(|amount| hold_for(amount, std::slice::from_ref(&scope), Duration::ZERO));
    for hold in [&owed, &late] {
        assert!(granted(&store, hold).await);
    }
    clock.set("2026-11-22T12:00:01Z".parse().unwrap());
    assert_eq!(store.expire(10).await.unwrap().len(), 2);
    // What had expired was kept as it is now, but for what is left of it once its line is confirmed.
    let meta = "llm_leash:{budget:default}:meta";
    let digits = format!("{:032x}", late.id.as_u128());
    let strip = "local x = cmsgpack.unpack(string.sub(redis.call('HGET', KEYS[1], ARGV[1]), 2)) \
                 return redis.call('HSET', KEYS[1], ARGV[1], 'x' .. cmsgpack.pack(x))";
    let (first, rest) = digits.split_at(10);
    let ended = format!("llm_leash:{{budget:default}}:1:e:{first}");
    let _: u64 = server.ask(&["EVAL", strip, "1", &ended, rest]).await;
    let _: u64 = server.ask(&["HSET", meta, "schema", "1"]).await;
    let store = RedisStore::open(&server.url(), patient())
        .await
        .unwrap()
        .with_clock(clock.clone());
    let schema: String = server.ask(&["HGET", meta, "schema"]).await;
    assert_eq!(schema, "2");
    let line = |hold: &Hold| Written {
        id: hold.id,
        charged: hold.amount,
    };
    store.confirm(&[line(&late)]).await.unwrap();
    let settled = Settlement {
        owes_line: true,
        ..settlement(&late, 3)
    };
    assert!(store.settle(&settled).await.unwrap().was_expired);
    clock.set("2026-11-22T12:01:00Z".parse().unwrap());
    let given = store.expire(10).await.unwrap();
    assert_eq!(given.len(), 1);
    assert_eq!(
        (&given[0].hold, given[0].charged, given[0].is_settled),
        (&owed, usd(6), false)
    );
    store.confirm(&[line(&owed)]).await.unwrap();
    clock.set("2026-11-22T12:05:00Z".parse().unwrap());
    assert!(store.expire(10).await.unwrap().is_empty());
    assert_eq!(sums(&store, &scope).await, (9, 0));
    // A later one is not touched.
    let _: u64 = server.ask(&["HSET", meta, "schema", "3"]).await;
    let refused = RedisStore::open(&server.url(), patient()).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Conflict);
}

#[tokio::test]
async fn settings_that_lose_money_are_warned_of() {
    let careful = Server::start(DURABLE);
    let store = RedisStore::init(&careful.url(), patient()).await.unwrap();
    assert!(store.warnings().is_empty(), "{:?}", store.warnings());
    let careless = Server::start(&["--save", "", "--maxmemory-policy", "allkeys-lru"]);
    let store = RedisStore::init(&careless.url(), patient()).await.unwrap();
    let [eviction, disk] = store.warnings() else {
        panic!("{:?}", store.warnings())
    };
    assert!(eviction.contains("allkeys-lru") && eviction.contains("noeviction"));
    assert!(disk.contains("nothing on disk"));
    let hasty = Server::start(QUICK);
    let store = RedisStore::init(&hasty.url(), patient()).await.unwrap();
    assert!(store.warnings()[0].contains("everysec"));
    let snapshots = Server::start(&["--save", "60 1"]);
    let store = RedisStore::init(&snapshots.url(), patient()).await.unwrap();
    assert!(store.warnings()[0].contains("snapshots only"));
}

#[tokio::test]
async fn a_full_server_refuses() {
    let server = Server::start(DURABLE);
    let store = RedisStore::init(&server.url(), patient()).await.unwrap();
    let scope = scope("full", 100);
    let before = hold(7, &scope);
    assert!(granted(&store, &before).await);
    let _: String = server.ask(&["CONFIG", "SET", "maxmemory", "1mb"]).await;
    let full = store.reserve(&hold(1, &scope)).await.unwrap_err();
    assert_eq!(full.kind(), StoreErrorKind::Full);
    let _: String = server.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(sums(&store, &scope).await, (0, 7));
    assert!(store.settle(&settlement(&before, 7)).await.unwrap().applied);
}

#[tokio::test]
async fn a_sum_lasts_exactly_as_long_as_its_window() {
    let clock = at("2026-01-01T00:00:00Z");
    let store = fresh().await.with_clock(clock.clone());
    let microsecond = Duration::from_micros(1);
    let moments = [
        "2026-12-31T23:59:59.999999Z",
        "2027-02-28T12:00:00Z",
        "2028-02-28T23:59:59.999999Z",
        "2028-02-29T11:59:30.5Z",
        "2028-03-01T00:00:00Z",
        "2099-12-31T23:59:59Z",
        "2100-02-28T23:00:01Z",
        "2100-03-01T00:00:00Z",
        "2254-12-31T23:59:59Z",
    ];
    for (turn, moment) in moments.into_iter().enumerate() {
        let at: Timestamp = moment.parse().unwrap();
        for window in [Window::Minute, Window::Hour, Window::Day, Window::Month] {
            let scope = scope(&format!("{window}-{turn}"), 10).per(window);
            let from = window.start_of(window.index(at));
            let to = window.start_of(window.index(at) + 1);
            clock.set(from);
            let hold = hold(4, &scope);
            assert!(granted(&store, &hold).await);
            store.settle(&settlement(&hold, 4)).await.unwrap();
            clock.set(at);
            assert_eq!(sums(&store, &scope).await, (4, 0));
            let last = Timestamp::from_unix_micros(to.as_unix_micros() - 1).unwrap();
            clock.set(last);
            assert_eq!(sums(&store, &scope).await, (4, 0), "{window} of {moment}");
            clock.set(last.saturating_add(microsecond));
            assert_eq!(sums(&store, &scope).await, (0, 0), "{window} of {moment}");
        }
    }
}

#[tokio::test]
async fn a_call_is_charged_to_the_window_it_was_reserved_in_and_revives_none() {
    let clock = at("2026-03-31T23:59:59Z");
    let store = fresh().await.with_clock(clock.clone());
    let day = scope("day", 10).per(Window::Day);
    let all = scope("day", 100);
    let both = [day.clone(), all.clone()];
    let (early, late) = (hold_for(6, &both, LONG), hold_for(3, &both, Duration::MAX));
    assert!(granted(&store, &early).await && granted(&store, &late).await);
    clock.set("2026-04-01T00:00:01Z".parse().unwrap());
    let today = hold_for(10, &both, LONG);
    assert!(
        granted(&store, &today).await,
        "yesterday's holds are not of today"
    );
    let settled = store.settle(&settlement(&early, 5)).await.unwrap();
    assert_eq!(settled.balances[0].spent, usd(5));
    assert_eq!(settled.balances[0].reserved, usd(3));
    assert_eq!(sums(&store, &day).await, (0, 10));
    assert_eq!(sums(&store, &all).await, (5, 13));
    // With its last hold yesterday is over for good.
    assert!(store.settle(&settlement(&late, 1)).await.unwrap().applied);
    assert_eq!(sums(&store, &day).await, (0, 10));
    assert_eq!(sums(&store, &all).await, (6, 10));
    // A clock that steps back opens nothing anew.
    clock.set("2026-03-31T23:59:59Z".parse().unwrap());
    assert_eq!(sums(&store, &day).await, (0, 10));
    assert!(!granted(&store, &hold_for(1, &both, LONG)).await);
}

#[tokio::test]
async fn a_charge_from_before_a_reset_is_not_taken_off_after_it() {
    let store = fresh().await;
    let scope = scope("reset", 100);
    let short = hold_for(6, std::slice::from_ref(&scope), Duration::ZERO);
    assert!(granted(&store, &short).await);
    assert_eq!(store.expire(10).await.unwrap().len(), 1);
    assert_eq!(store.reset(&scope.key).await.unwrap().spent, usd(6));
    let other = hold(50, &scope);
    assert!(granted(&store, &other).await);
    store.settle(&settlement(&other, 50)).await.unwrap();
    assert!(store.settle(&settlement(&short, 2)).await.unwrap().applied);
    assert_eq!(sums(&store, &scope).await, (52, 0));
}

#[tokio::test]
async fn a_restored_budget_has_the_sums_it_was_given_and_nothing_of_its_former_life() {
    let server = Server::start(DURABLE);
    let store = RedisStore::init(&server.url(), patient()).await.unwrap();
    for turn in 0..300 {
        let scope = scope(&format!("{turn}"), 100);
        assert!(granted(&store, &hold(7, &scope)).await);
        let ended = hold(7, &scope);
        assert!(granted(&store, &ended).await);
        store.settle(&settlement(&ended, 1)).await.unwrap();
    }
    let former = store.generation().await.unwrap();
    let now = SystemClock.now();
    let sums_of = |count: u64| -> Vec<Restored> {
        (0..count)
            .map(|turn| Restored {
                key: ScopeKey::named("team", &format!("{turn:05}")),
                window: Window::ALL[usize::try_from(turn % 5).unwrap()],
                at: now,
                spent: usd(turn),
            })
            .collect()
    };
    let sums = sums_of(500);
    let generation = store.restore(&sums).await.unwrap();
    assert_ne!(generation, former);
    assert!(store.standing(None, 10).await.unwrap().is_empty());
    let listed = store.list(None, 1_000).await.unwrap();
    assert_eq!(listed.len(), 500);
    for (balance, sum) in listed.iter().zip(&sums) {
        assert_eq!((&balance.key, balance.window), (&sum.key, sum.window));
        // A minute may have passed.
        if sum.window == Window::Total {
            assert_eq!(balance.spent, sum.spent);
        }
    }
    let keys: Vec<String> = server.ask(&["KEYS", "*"]).await;
    assert_eq!(keys.len(), 502, "the sums, their index and the life");
}

#[tokio::test]
async fn lists_come_in_pages_that_miss_and_repeat_nothing() {
    let store = fresh().await;
    let mut ids = Vec::new();
    for turn in 0..450 {
        let key = ScopeKey::named("session", &format!("{turn:04}"));
        let scopes = [
            Scope::capped(key.clone(), usd(9)),
            Scope::capped(key, usd(9)).per(Window::Month),
        ];
        let lease = if turn % 2 == 0 { LONG } else { Duration::MAX };
        let hold = hold_for(1, &scopes[..=(turn % 2)], lease);
        assert!(granted(&store, &hold).await);
        ids.push(hold);
    }
    let mut listed = Vec::new();
    loop {
        let after = listed
            .last()
            .map(|last: &leash_budget::Balance| (last.key.clone(), last.window));
        let after = after.as_ref().map(|(key, window)| (key, *window));
        let page = store.list(after, 70).await.unwrap();
        if page.is_empty() {
            break;
        }
        listed.extend(page);
    }
    assert_eq!(listed.len(), 675);
    assert!(
        listed
            .windows(2)
            .all(|pair| (&pair[0].key, pair[0].window) < (&pair[1].key, pair[1].window))
    );
    ids.sort_by_key(|hold| hold.id);
    let mut standing = Vec::new();
    loop {
        let after = standing.last().map(|last: &leash_budget::Standing| last.hold.id);
        let page = store.standing(after, 100).await.unwrap();
        if page.is_empty() {
            break;
        }
        standing.extend(page);
    }
    assert_eq!(standing.len(), ids.len());
    for (standing, hold) in standing.iter().zip(&ids) {
        assert_eq!(&standing.hold, hold);
        assert_eq!(standing.until == Timestamp::MAX, hold.lease == Duration::MAX);
    }
}

#[tokio::test]
async fn events_within_a_window_are_counted_and_forgotten_by_the_clock() {
    let clock = at("2026-01-01T00:00:00Z");
    let store = fresh().await.with_clock(clock.clone());
    let hit = Hit {
        key: ScopeKey::named("loop", "x"),
        limit: 600,
        within: Some(Duration::from_mins(1)),
    };
    for turn in 1..=600 {
        let hits = store.hit(&hit).await.unwrap();
        assert_eq!((hits.count, hits.is_allowed), (turn, true));
    }
    assert!(!store.hit(&hit).await.unwrap().is_allowed);
    clock.set("2026-01-01T00:00:59.999999Z".parse().unwrap());
    assert!(!store.hit(&hit).await.unwrap().is_allowed);
    clock.set("2026-01-01T00:01:00Z".parse().unwrap());
    let hits = store.hit(&hit).await.unwrap();
    assert_eq!((hits.count, hits.is_allowed), (1, true));
}

/// Every command that scripts use, and those alone, on the keys of the budget alone.
#[tokio::test]
async fn a_user_with_the_documented_rights_is_enough() {
    let server = Server::start(DURABLE);
    let rights = [
        "ACL",
        "SETUSER",
        "leash",
        "on",
        ">hunter2",
        "~llm_leash:{budget:default}:*",
        "+@read",
        "+@write",
        "+@scripting",
        "+@connection",
        "+time",
        "+config|get",
        "+info",
    ];
    let _: String = server.ask(&rights).await;
    let url = |user: &str| -> StoreUrl {
        format!("redis://{user}@127.0.0.1:{}/0", server.port)
            .parse()
            .unwrap()
    };
    let store = RedisStore::init(&url("leash:hunter2"), patient()).await.unwrap();
    assert!(store.warnings().is_empty(), "{:?}", store.warnings());
    let scope = scope("acl", 10);
    let hold = hold(6, &scope);
    assert!(granted(&store, &hold).await);
    store.settle(&settlement(&hold, 2)).await.unwrap();
    store.expire(10).await.unwrap();
    store.restore(&[]).await.unwrap();
    let wrong = RedisStore::open(&url("leash:hunter3"), patient())
        .await
        .unwrap_err();
    assert_eq!(wrong.kind(), StoreErrorKind::Unavailable);
    let said = format!("{wrong} {:?} {store:?}", std::error::Error::source(&wrong));
    assert!(!said.contains("hunter"), "{said}");
    // Another domain is not theirs.
    let mut elsewhere = patient();
    elsewhere.domain = Some("acme".to_owned());
    assert!(RedisStore::init(&url("leash:hunter2"), elsewhere).await.is_err());
}

#[cfg(feature = "redis-tls")]
fn certificates(folder: &Path) {
    let run = |arguments: &[&str]| {
        let done = Command::new("openssl")
            .args(arguments)
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("`openssl` has to be installed for this test");
        assert!(done.success());
    };
    let curve = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ];
    let request = |last: &[&str]| run(&[&["req"], &curve[..], last].concat());
    request(&[
        "-x509",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-subj",
        "/CN=test authority",
    ]);
    request(&[
        "-x509",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-keyout",
        "server.key",
        "-out",
        "server.pem",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ]);
}

#[cfg(feature = "redis-tls")]
#[tokio::test]
async fn over_tls_a_server_is_believed_only_with_a_certificate_that_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let port = free_port().to_string();
    let _server = Server::start(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &path("server.pem"),
        "--tls-key-file",
        &path("server.key"),
        "--tls-ca-cert-file",
        &path("ca.pem"),
        "--tls-auth-clients",
        "no",
        "--appendonly",
        "yes",
    ]);
    let url: StoreUrl = format!("rediss://localhost:{port}/0").parse().unwrap();
    let mut trusting = patient();
    trusting.redis.root_certificates = Some(std::fs::read(path("ca.pem")).unwrap().into());
    let store = RedisStore::init(&url, trusting).await.unwrap();
    let scope = scope("tls", 10);
    assert!(granted(&store, &hold(10, &scope)).await);
    assert!(!granted(&store, &hold(1, &scope)).await);
    let stranger = RedisStore::open(&url, patient()).await.unwrap_err();
    assert_eq!(stranger.kind(), StoreErrorKind::Unavailable);
}

#[cfg(feature = "redis-cluster")]
#[tokio::test]
async fn a_budget_lives_on_one_node_of_a_cluster() {
    let cluster = ["--cluster-enabled", "yes", "--appendonly", "yes", "--save", ""];
    let nodes: Vec<Server> = (0..3)
        .map(|_| {
            // The bus of a node listens 10,000 ports above it unless it is told otherwise.
            let bus = free_port().to_string();
            Server::start(&[&cluster[..], &["--cluster-port", &bus]].concat())
        })
        .collect();
    let addresses: Vec<String> = nodes
        .iter()
        .map(|node| format!("127.0.0.1:{}", node.port))
        .collect();
    let made = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(&addresses)
        .args(["--cluster-replicas", "0", "--cluster-yes"])
        .stdout(Stdio::null())
        .status()
        .expect("`redis-cli` has to be installed for this test");
    assert!(made.success());
    let url: StoreUrl = format!("redis-cluster://{}", addresses.join(","))
        .parse()
        .unwrap();
    // The nodes have yet to tell each other that the cluster is whole.
    let deadline = Instant::now() + Duration::from_secs(30);
    let store = loop {
        match RedisStore::init(&url, patient()).await {
            Ok(store) => break store,
            Err(error) => assert!(
                Instant::now() < deadline,
                "{error} {:?}",
                std::error::Error::source(&error)
            ),
        }
    };
    let scope = scope("cluster", 10);
    let first = hold(6, &scope);
    assert!(granted(&store, &first).await);
    assert!(!granted(&store, &hold(5, &scope)).await);
    store.settle(&settlement(&first, 2)).await.unwrap();
    assert_eq!(sums(&store, &scope).await, (2, 0));
    for domain in ["a", "b", "c", "d"] {
        let mut options = patient();
        options.domain = Some(domain.to_owned());
        let store = RedisStore::init(&url, options).await.unwrap();
        assert!(granted(&store, &hold(6, &scope)).await);
        store.restore(&[]).await.unwrap();
        assert_eq!(sums(&store, &scope).await, (0, 0));
    }
    assert_eq!(sums(&store, &scope).await, (2, 0));
}
