//! Kill orders while many streams run, through a whole firewall over real HTTP: each stream ends in time, whether it is
//! read or not, upstream is hung up on, what waits for a human is withdrawn, and nothing is admitted after.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use leash_adapters_http::LeashMiddleware;
use leash_audit::{VerifyOptions, verify};
use leash_core::{
    Action, Call, Clock as _, Decision, LeashError, PolicyContext, Rule, RuleError, SessionId, StoreError,
    SystemClock, rule_ids,
};
use leash_firewall::{Firewall, GuardedError};
use leash_hitl::{Closed, Decided, HitlQueue as _, MemoryQueue, QueueHitlGate, Ruling, Which};
use leash_kill::{
    KillOrder, KillRegistry, MemoryKillRegistry, RedisKillRegistry, SqliteKillRegistry, Target, ViewOptions,
};
use leash_testkit::{Reply, Step, Upstream, anthropic};
use reqwest::Response;
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::{MESSAGES, ask, read_all, rule_of, within};

/// From the order to the last that is delivered or admitted.
const LIMIT: Duration = Duration::from_millis(300);
/// How many streams run at once.
const AT_ONCE: usize = 50;
/// How often a provider sends a piece.
const BEAT: Duration = Duration::from_millis(25);

/// Whether a call was stopped by its order; or by a registry that was not heard of in time, which on a machine that is
/// busy with other things may come first, and stops the call as well.
fn is_stop(rule_id: &str) -> bool {
    rule_id == rule_ids::KILL || rule_id == rule_ids::KILL_REGISTRY
}

/// Asks a human about every tool call of this name.
#[derive(Debug)]
struct Wires;

impl Rule for Wires {
    fn id(&self) -> &'static str {
        "wires"
    }

    fn evaluate(&self, call: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        let asks = matches!(call, Call::Tool(call) if &*call.tool == "wire");
        Ok(asks.then(|| Decision::new(Action::Hitl, "wires", "money leaves")))
    }
}

/// Gives orders: through the firewall, or through a registry of its own that the firewall's hears of.
#[async_trait]
trait Operator: Sync {
    async fn kill(&self, fw: &Firewall);
}

struct SameProcess;

#[async_trait]
impl Operator for SameProcess {
    async fn kill(&self, fw: &Firewall) {
        fw.kill("enough").await.unwrap();
    }
}

#[async_trait]
impl<R: KillRegistry> Operator for R {
    async fn kill(&self, fw: &Firewall) {
        let target = Target::Session(fw.caller().session_id.clone());
        let order = KillOrder::new(target, "enough", SystemClock.now());
        KillRegistry::kill(self, order).await.unwrap();
    }
}

struct Fleet {
    fw: Firewall,
    queue: Arc<MemoryQueue>,
    /// Sends a piece at every beat.
    paced: Upstream,
    /// Sends as much as is read.
    flood: Upstream,
    http: reqwest::Client,
    dir: TempDir,
}

/// What came of a stream that was read to its end.
struct Seen {
    /// When the last piece of the answer came.
    last: Instant,
    /// What came instead of the rest.
    end: String,
}

enum Stream {
    Read(JoinHandle<Seen>),
    Unread(Response),
}

struct Running {
    fw: Firewall,
    client: ClientWithMiddleware,
    stream: Stream,
    /// A tool call that waits for a human.
    waits: Option<JoinHandle<LeashError>>,
    /// When a call was last let through, of one after the other.
    hammers: Option<JoinHandle<Instant>>,
}

impl Fleet {
    async fn new(registry: Arc<dyn KillRegistry>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let queue = Arc::new(MemoryQueue::new());
        let gate = QueueHitlGate::new(queue.clone()).timeout(Duration::from_hours(1));
        let fw = Firewall::builder()
            .budget_usd(1.0)
            .audit_log(dir.path().join("audit.jsonl"))
            .kill_registry(registry)
            .rule(Wires)
            .hitl_gate(Arc::new(gate))
            .build()
            .unwrap();
        let (paced, flood) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
        let begin = || Step::send(anthropic::start(9) + &anthropic::text_start(0));
        let piece = anthropic::text(0, "and on");
        paced.always(Reply::stream(vec![begin(), Step::Every(BEAT, piece.into())]));
        let ping = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
        flood.always(Reply::stream(vec![begin(), Step::Endless(ping.into())]));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            fw,
            queue,
            paced,
            flood,
            http,
            dir,
        }
    }

    fn client(&self, fw: &Firewall) -> ClientWithMiddleware {
        ClientBuilder::new(self.http.clone())
            .with(LeashMiddleware::new(fw.clone()))
            .build()
    }

    fn arrivals(&self) -> usize {
        self.paced.requests().len() + self.flood.requests().len()
    }

    /// Waits until every answer that was begun was hung up on.
    async fn hung_up(&self) {
        for provider in [&self.paced, &self.flood] {
            within(provider.hung_up(provider.requests().len())).await;
        }
    }

    /// Waits until every call that a human is asked about is in the queue.
    async fn asked(&self, running: &[Running]) {
        let mut changes = self.queue.changes();
        let all = async {
            loop {
                let asked = self.queue.list(Which::All).await.unwrap();
                let is_there = |running: &Running| {
                    running.waits.as_ref().is_none_or(|waits| {
                        let session = running.fw.caller().session_id.as_str();
                        waits.is_finished() || asked.iter().any(|entry| entry.session_id == session)
                    })
                };
                if running.iter().all(is_there) {
                    return;
                }
                let _ = tokio::time::timeout(BEAT, changes.changed()).await;
            }
        };
        within(all).await;
    }

    /// The stream of one session, under way; `None` where the registry was not heard of in time, which refuses too.
    async fn start(&self, number: usize) -> Option<Running> {
        let fw = self.fw.session(SessionId::new(format!("s_{number}")).unwrap());
        let client = self.client(&fw);
        // Of ten, two are read by nobody: one whose provider sends little, and one whose provider never stops.
        let provider = if number % 10 == 9 {
            &self.flood
        } else {
            &self.paced
        };
        let response = match within(post(&client, provider).send()).await {
            Ok(response) => response,
            Err(error) => {
                assert_eq!(rule_of(Err(error)), rule_ids::KILL_REGISTRY);
                return None;
            }
        };
        let stream = if number % 10 < 8 {
            let (began, begins) = oneshot::channel();
            let reader = tokio::spawn(read(response, began));
            within(begins).await.ok()?;
            Stream::Read(reader)
        } else {
            Stream::Unread(response)
        };
        Some(Running {
            waits: number
                .is_multiple_of(20)
                .then(|| tokio::spawn(wait_for_human(fw.clone()))),
            hammers: (number % 20 == 10).then(|| tokio::spawn(hammer(fw.clone()))),
            fw,
            client,
            stream,
        })
    }

    /// What the log says now. It verifies.
    fn log(&self, kind: &str) -> Vec<Value> {
        let path = self.dir.path().join("audit.jsonl");
        let report = verify(&path, &VerifyOptions::default()).unwrap();
        assert!(report.is_ok(), "{report:?}");
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.filter(|line: &Value| line["kind"] == kind).collect()
    }
}

fn post(client: &ClientWithMiddleware, provider: &Upstream) -> reqwest_middleware::RequestBuilder {
    client
        .post(format!("{}{MESSAGES}", provider.url()))
        .header("content-type", "application/json")
        .body(ask(MESSAGES, "hi", true).to_string())
}

async fn read(mut response: Response, began: oneshot::Sender<()>) -> Seen {
    let mut began = Some(began);
    let mut last = Instant::now();
    loop {
        let chunk = within(response.chunk())
            .await
            .unwrap()
            .expect("cut without a word");
        if chunk.starts_with(b"event: error") {
            let end = String::from_utf8(chunk.to_vec()).unwrap();
            assert!(response.chunk().await.unwrap().is_none(), "goes on after its end");
            return Seen { last, end };
        }
        last = Instant::now();
        if chunk.starts_with(b"event: content_block_delta")
            && let Some(began) = began.take()
        {
            began.send(()).unwrap();
        }
    }
}

async fn wait_for_human(fw: Firewall) -> LeashError {
    let called = fw.tool("wire", json!({"usd": 4000}), async |_| {
        Ok::<Value, std::io::Error>(json!("sent"))
    });
    match called.await {
        Err(GuardedError::Refused(refusal)) => refusal,
        other => panic!("made the call: {other:?}"),
    }
}

/// Calls a tool again and again until it is refused.
async fn hammer(fw: Firewall) -> Instant {
    let mut last = Instant::now();
    let mut beat = tokio::time::interval(Duration::from_millis(2));
    loop {
        beat.tick().await;
        let called = fw.tool("search", json!({}), async |_| {
            last = Instant::now();
            Ok::<Value, std::io::Error>(json!("found"))
        });
        match called.await {
            Ok(_) => {}
            Err(GuardedError::Refused(refusal)) if is_stop(refusal.rule_id()) => return last,
            Err(other) => panic!("{other}"),
        }
    }
}

/// At least `kills` of them, so many at once, each stopped by an order of its own. Returns how many were to start.
async fn kills_during_streams(
    registry: Arc<dyn KillRegistry>,
    operator: &dyn Operator,
    kills: usize,
) -> usize {
    let fleet = Fleet::new(registry).await;
    let (mut started, mut killed) = (0, 0);
    while killed < kills {
        let starts = (started..started + AT_ONCE).map(|number| fleet.start(number));
        let running = futures_util::future::join_all(starts).await;
        let running: Vec<Running> = running.into_iter().flatten().collect();
        started += AT_ONCE;
        killed += running.len();
        fleet.asked(&running).await;

        // One by one, while the others flow.
        let mut stopped = Vec::with_capacity(AT_ONCE);
        for running in running {
            operator.kill(&running.fw).await;
            stopped.push((running, Instant::now() + LIMIT));
        }
        fleet.hung_up().await;

        let arrivals = fleet.arrivals();
        let mut ended = Vec::with_capacity(AT_ONCE);
        let mut not_before = Instant::now();
        for (running, limit) in stopped {
            let end = match running.stream {
                Stream::Read(reader) => {
                    let seen = within(reader).await.unwrap();
                    assert!(seen.last <= limit, "delivered {:?} too late", seen.last - limit);
                    seen.end
                }
                Stream::Unread(mut response) => {
                    // What had come before the order, and nobody had read, is not delivered after it.
                    let (text, broke_off) = read_all(&mut response).await;
                    assert!(text.starts_with("event: error") && !broke_off, "{text}");
                    assert_eq!(text.matches("event:").count(), 1, "{text}");
                    text
                }
            };
            if !end.contains(rule_ids::KILL) {
                assert!(end.contains(rule_ids::KILL_REGISTRY), "{end}");
                // It ended before the order was heard of, which has its time still.
                not_before = not_before.max(limit);
            }
            if let Some(waits) = running.waits {
                let refusal = within(waits).await.unwrap();
                assert!(is_stop(refusal.rule_id()), "{refusal}");
            }
            if let Some(hammers) = running.hammers {
                let last = within(hammers).await.unwrap();
                assert!(last <= limit, "admitted {:?} too late", last - limit);
            }
            ended.push(running.client);
        }
        tokio::time::sleep_until(not_before.into()).await;
        for client in ended {
            assert!(is_stop(&rule_of(
                within(post(&client, &fleet.paced).send()).await
            )));
        }
        assert_eq!(fleet.arrivals(), arrivals, "a call left after the kill");
    }

    // Nobody can let through any more what was asked before.
    let mut changes = fleet.queue.changes();
    while !fleet.queue.list(Which::Open).await.unwrap().is_empty() {
        within(changes.changed()).await.unwrap();
    }
    let asked = fleet.queue.list(Which::All).await.unwrap();
    assert!(!asked.is_empty());
    for entry in asked {
        assert_eq!(entry.closed, Some(Closed::Withdrawn));
        let decided = fleet
            .queue
            .decide(&entry.id, &Ruling::approve(None))
            .await
            .unwrap();
        assert!(matches!(decided, Decided::NotPending(_)));
    }

    fleet.fw.close().await.unwrap();
    let calls = fleet.log("model_call");
    assert_eq!(calls.len(), fleet.arrivals());
    assert!(calls.iter().all(|line| line["outcome"] == "cut"));
    assert!(fleet.log("tool_call").iter().all(|line| line["tool"] == "search"));
    started
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_streams_end_with_their_kill_orders() {
    let registry = Arc::new(MemoryKillRegistry::new());
    let started = kills_during_streams(registry, &SameProcess, 1000).await;
    assert_eq!(started, 1000, "a stream ended before its order");
}

/// Two handles of a file are as far apart as two processes: neither is told by the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_with_orders_that_others_give_in_a_file() -> Result<(), StoreError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kill.db");
    let theirs = SqliteKillRegistry::open(&path, ViewOptions::default()).await?;
    let ours = SqliteKillRegistry::open(&path, ViewOptions::default()).await?;
    kills_during_streams(Arc::new(ours), &theirs, 2 * AT_ONCE).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_with_orders_that_others_give_on_a_server() -> Result<(), StoreError> {
    let server = RedisServer::start();
    let url = server.url.parse().unwrap();
    let theirs = RedisKillRegistry::open(&url, ViewOptions::default())?;
    let ours = RedisKillRegistry::open(&url, ViewOptions::default())?;
    kills_during_streams(Arc::new(ours), &theirs, 2 * AT_ONCE).await;
    Ok(())
}

/// A server of the test's own, ended with the value.
struct RedisServer {
    child: Child,
    url: String,
}

impl RedisServer {
    fn start() -> Self {
        for _ in 0..20 {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let mut child = Command::new("redis-server")
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
                .args(["--save", "", "--appendonly", "no"])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .expect("`redis-server` has to be installed for these tests");
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            if lines.any(|line| line.unwrap().contains("Ready to accept connections")) {
                // So that the server never waits for somebody to read what it says.
                std::thread::spawn(move || lines.for_each(drop));
                let url = format!("redis://127.0.0.1:{port}/0");
                return Self { child, url };
            }
            // Somebody else got the port first.
            let _ = child.wait();
        }
        panic!("no port for a Redis server");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
