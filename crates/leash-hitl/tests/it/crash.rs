//! A process that is killed at any step: the tool runs once at most, and never without an approval.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use leash_core::StoreError;
use leash_hitl::conformance::{entry, request};
use leash_hitl::{
    Approval, CallHash, Closing, Decided, Entry, Grant, GrantUse, Granted, HitlGate as _, HitlQueue,
    NewEntry, QueueHitlGate, Ruling, Standing, Status, Which,
};
use serde_json::json;
use tokio::sync::watch;

use crate::processes::{ID, child, open};
use crate::server::{RedisServer, asked};

const KILL_AT: &str = "LEASH_HITL_TEST_KILL_AT";
const TOOL: &str = "LEASH_HITL_TEST_TOOL";
const WAIT_MS: &str = "LEASH_HITL_TEST_WAIT_MS";

/// Kills this process where it was told to.
fn step(name: &str) {
    if std::env::var(KILL_AT).is_ok_and(|at| at == name) {
        let _ = Command::new("kill")
            .args(["-9", &std::process::id().to_string()])
            .status();
        loop {
            std::thread::park();
        }
    }
}

#[derive(Debug)]
struct Steps(Arc<dyn HitlQueue>);

#[async_trait]
impl HitlQueue for Steps {
    async fn enqueue(&self, new: &NewEntry) -> Result<Entry, StoreError> {
        step("before enqueue");
        let entry = self.0.enqueue(new).await;
        step("after enqueue");
        entry
    }
    async fn decide(&self, id: &str, ruling: &Ruling) -> Result<Decided, StoreError> {
        step("before decide");
        let decided = self.0.decide(id, ruling).await;
        step("after decide");
        decided
    }
    async fn consume(&self, id: &str, hash: &CallHash) -> Result<bool, StoreError> {
        step("before consume");
        let won = self.0.consume(id, hash).await;
        step("after consume");
        won
    }
    async fn close(&self, id: &str, closing: &Closing) -> Result<bool, StoreError> {
        step("before close");
        let closed = self.0.close(id, closing).await;
        step("after close");
        closed
    }
    async fn get(&self, id: &str) -> Result<Option<Entry>, StoreError> {
        self.0.get(id).await
    }
    async fn moved(&self, ids: &[String]) -> Result<Vec<(String, Option<Entry>)>, StoreError> {
        step("before look");
        let moved = self.0.moved(ids).await?;
        step(match &moved[..] {
            [] => "after look at a pending entry",
            _ => "after look at a decided entry",
        });
        Ok(moved)
    }
    async fn list(&self, which: Which) -> Result<Vec<Entry>, StoreError> {
        self.0.list(which).await
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes()
    }
    async fn add_grant(&self, grant: &Grant) -> Result<bool, StoreError> {
        self.0.add_grant(grant).await
    }
    async fn grants(&self) -> Result<Vec<Standing>, StoreError> {
        step("before grants");
        self.0.grants().await
    }
    async fn use_grant(&self, name: &str) -> Result<Option<GrantUse>, StoreError> {
        step("before use_grant");
        let used = self.0.use_grant(name).await;
        step("after use_grant");
        used
    }
    async fn revoke_grant(&self, name: &str) -> Result<bool, StoreError> {
        self.0.revoke_grant(name).await
    }
}

/// The child that decides.
pub(crate) async fn decide(queue: Arc<dyn HitlQueue>, id: &str) {
    let decided = Steps(queue)
        .decide(id, &Ruling::approve(Some("child")))
        .await
        .unwrap();
    assert!(matches!(decided, Decided::Done(_)));
}

/// The child that asks, and runs the tool if it may.
pub(crate) async fn agent(queue: Arc<dyn HitlQueue>) {
    let wait = std::env::var(WAIT_MS).unwrap().parse().unwrap();
    let gate = QueueHitlGate::new(Arc::new(Steps(queue)))
        .timeout(Duration::from_millis(wait))
        .poll_interval(Duration::from_millis(20))
        .valid_for(Duration::from_hours(1));
    let answer = gate.request(&request(json!({"amount": 4000}))).await.unwrap();
    if let Approval::Approved { .. } = answer.approval {
        step("before the tool");
        let tool = std::env::var(TOOL).unwrap();
        fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(tool)
            .unwrap()
            .write_all(b"x")
            .unwrap();
        step("after the tool");
    }
}

/// A queue, and the tool's effect: a byte for each run.
struct Scene {
    url: String,
    tool: std::path::PathBuf,
}

impl Scene {
    fn agent(&self, kill_at: Option<&str>, wait_ms: u64) -> Child {
        let mut command = child("agent", &self.url);
        command.env(TOOL, &self.tool).env(WAIT_MS, wait_ms.to_string());
        if let Some(at) = kill_at {
            command.env(KILL_AT, at);
        }
        command.spawn().unwrap()
    }

    async fn ended(child: Child) -> std::process::ExitStatus {
        tokio::task::spawn_blocking(move || child.wait_with_output().unwrap().status)
            .await
            .unwrap()
    }

    fn runs(&self) -> usize {
        fs::read(&self.tool).map_or(0, |bytes| bytes.len())
    }
}

/// One approval in all, given as soon as anybody asks; killed at `at`, then two more calls by fresh processes.
async fn killed_while_asking(scene: &Scene, at: &str, runs_in_the_end: usize) {
    let queue = open(&scene.url).await;
    let first = scene.agent(Some(at), 600_000);
    let ended = tokio::spawn(Scene::ended(first));
    let mut approved = false;
    if !matches!(at, "before enqueue" | "before grants") {
        let question = asked(&queue).await;
        if at == "after look at a pending entry" || at == "after enqueue" {
            // Only a process that is not answered gets there.
            while !ended.is_finished() {
                tokio::task::yield_now().await;
            }
        }
        assert!(matches!(
            queue.decide(&question.id, &Ruling::approve(None)).await.unwrap(),
            Decided::Done(_)
        ));
        approved = true;
    }
    assert_eq!(ended.await.unwrap().signal(), Some(9), "{at}");
    assert!(scene.runs() <= usize::from(approved), "{at}");
    for _ in 0..2 {
        let again = scene.agent(None, if approved { 200 } else { 600_000 });
        let ended = tokio::spawn(Scene::ended(again));
        if !approved {
            let question = asked(&queue).await;
            assert_eq!(scene.runs(), 0, "{at}: ran without an approval");
            queue.decide(&question.id, &Ruling::approve(None)).await.unwrap();
            approved = true;
        }
        assert!(ended.await.unwrap().success());
        assert_eq!(scene.runs(), runs_in_the_end, "{at}");
    }
}

const STEPS: [(&str, usize); 10] = [
    ("before grants", 1),
    ("before enqueue", 1),
    ("after enqueue", 1),
    ("before look", 1),
    ("after look at a pending entry", 1),
    ("after look at a decided entry", 1),
    ("before consume", 1),
    // Used up, and nobody knows whether the tool ran: it is not run again.
    ("after consume", 0),
    ("before the tool", 0),
    ("after the tool", 1),
];

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_at_any_step_runs_its_tool_once_at_most_by_a_file() {
    for (at, runs) in STEPS {
        let folder = tempfile::tempdir().unwrap();
        let scene = Scene {
            url: folder.path().join("hitl.db").to_str().unwrap().into(),
            tool: folder.path().join("tool"),
        };
        killed_while_asking(&scene, at, runs).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_at_any_step_runs_its_tool_once_at_most_by_a_server() {
    for (at, runs) in STEPS {
        let folder = tempfile::tempdir().unwrap();
        let server = RedisServer::start();
        let scene = Scene {
            url: server.url.clone(),
            tool: folder.path().join("tool"),
        };
        killed_while_asking(&scene, at, runs).await;
    }
}

/// Where the queues of these tests lie: in a file, and on a server.
struct Place {
    url: String,
    folder: tempfile::TempDir,
    _server: Option<RedisServer>,
}

fn places() -> [Place; 2] {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = RedisServer::start();
    [
        Place {
            url: folder.path().join("hitl.db").to_str().unwrap().into(),
            folder,
            _server: None,
        },
        Place {
            url: server.url.clone(),
            folder: other,
            _server: Some(server),
        },
    ]
}

impl Place {
    fn scene(&self) -> Scene {
        Scene {
            url: self.url.clone(),
            tool: self.folder.path().join("tool"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_cut_off_is_made_or_not_made() {
    for (at, runs) in [("before decide", 0), ("after decide", 1)] {
        for place in places() {
            let scene = place.scene();
            let queue = open(&scene.url).await;
            let question = queue.enqueue(&entry(json!({"amount": 4000}))).await.unwrap();
            let decider = child("decide", &scene.url)
                .env(ID, &question.id)
                .env(KILL_AT, at)
                .spawn()
                .unwrap();
            assert_eq!(Scene::ended(decider).await.signal(), Some(9));
            for _ in 0..2 {
                assert!(Scene::ended(scene.agent(None, 100)).await.success());
                assert_eq!(scene.runs(), runs, "{at}");
            }
        }
    }
}

/// What was not closed can still be approved, and then lets the call through when it is made again; what was closed
/// cannot, and the call is asked about anew.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_while_it_gives_up_runs_its_tool_by_an_approval_or_not_at_all() {
    for (at, is_open) in [("before close", true), ("after close", false)] {
        for place in places() {
            let scene = place.scene();
            let queue = open(&scene.url).await;
            assert_eq!(Scene::ended(scene.agent(Some(at), 50)).await.signal(), Some(9));
            let question = queue.list(Which::All).await.unwrap().remove(0);
            assert_eq!(question.status == Status::Pending, is_open, "{at}");
            let decided = queue.decide(&question.id, &Ruling::approve(None)).await.unwrap();
            assert_eq!(matches!(decided, Decided::Done(_)), is_open, "{at}");
            for _ in 0..2 {
                assert!(Scene::ended(scene.agent(None, 50)).await.success());
                assert_eq!(scene.runs(), usize::from(is_open), "{at}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_while_it_uses_a_grant_uses_it_once_at_most() {
    for (at, runs) in [("before use_grant", 1), ("after use_grant", 0)] {
        for place in places() {
            let scene = place.scene();
            let queue = open(&scene.url).await;
            let grant = Grant {
                name: "once".into(),
                session_id: "s_1".into(),
                what: Granted::Call(entry(json!({"amount": 4000})).call_hash),
                until: "9999-01-01T00:00:00Z".parse().unwrap(),
                times: Some(1),
                operator: None,
            };
            assert!(queue.add_grant(&grant).await.unwrap());
            let killed = Scene::ended(scene.agent(Some(at), 600_000)).await;
            assert_eq!(killed.signal(), Some(9));
            assert_eq!(scene.runs(), 0);
            for _ in 0..2 {
                assert!(Scene::ended(scene.agent(None, 50)).await.success());
                assert_eq!(scene.runs(), runs, "{at}");
            }
        }
    }
}

/// Killed wherever it happens to be, between two steps or within one.
#[tokio::test(flavor = "multi_thread")]
async fn agents_killed_at_any_moment_never_run_their_tool_more_often_than_approvals_were_used_up() {
    for place in places() {
        let scene = place.scene();
        let queue = open(&scene.url).await;
        let mut killed = 0;
        for round in 0..24_u32 {
            let mut agent = scene.agent(None, 600_000);
            let question = asked(&queue).await;
            let approved = {
                let queue = queue.clone();
                tokio::spawn(async move { queue.decide(&question.id, &Ruling::approve(None)).await })
            };
            // Some land before the decision, some while it is read and used up, some after the tool.
            for _ in 0..(round % 12) * 40 {
                tokio::task::yield_now().await;
                std::hint::black_box(scene.runs());
            }
            let _ = agent.kill();
            killed += usize::from(Scene::ended(agent).await.signal() == Some(9));
            assert!(matches!(approved.await.unwrap().unwrap(), Decided::Done(_)));
            let entries = queue.list(Which::All).await.unwrap();
            let used_up = entries.iter().filter(|entry| entry.consumed_at.is_some()).count();
            assert!(scene.runs() <= used_up, "round {round}");
            // What is left is found by the same call, made again; then nothing is left.
            assert!(Scene::ended(scene.agent(None, 20)).await.success());
            let entries = queue.list(Which::All).await.unwrap();
            assert!(
                entries
                    .iter()
                    .all(|entry| entry.status != Status::Approved || entry.consumed_at.is_some())
            );
        }
        assert!(killed > 0, "no agent was killed before it ended");
        let entries = queue.list(Which::All).await.unwrap();
        let approved = entries.iter().filter(|entry| entry.status == Status::Approved);
        assert!(scene.runs() <= approved.count());
    }
}

/// Whole agents, not only the last step of one: each asks, and runs its tool if it may.
#[tokio::test(flavor = "multi_thread")]
async fn of_32_agents_that_make_the_call_at_once_one_runs_its_tool() {
    for place in places() {
        let scene = place.scene();
        let queue = open(&scene.url).await;
        let question = queue.enqueue(&entry(json!({"amount": 4000}))).await.unwrap();
        queue.decide(&question.id, &Ruling::approve(None)).await.unwrap();
        let agents: Vec<Child> = (0..32).map(|_| scene.agent(None, 100)).collect();
        for agent in agents {
            assert!(Scene::ended(agent).await.success());
        }
        assert_eq!(scene.runs(), 1);
    }
}
