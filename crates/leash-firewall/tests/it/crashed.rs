//! An agent's process that is killed between a human's approval of what its model asked for and the run of the tool: the
//! tool runs once for an approval at most, and never without one. The process is this very binary.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use leash_core::{Action, Call, Decision, PolicyContext, Rule, RuleError, SessionId, ToolRequest};
use leash_firewall::Firewall;
use leash_hitl::{Entry, HitlQueue, QueueHitlGate, Ruling, SqliteQueue, Which};
use serde_json::{Value, json};

const QUEUE: &str = "LEASH_FIREWALL_TEST_QUEUE";
const TOOL: &str = "LEASH_FIREWALL_TEST_TOOL";
const WAIT_MS: &str = "LEASH_FIREWALL_TEST_WAIT_MS";
const KILL_AT: &str = "LEASH_FIREWALL_TEST_KILL_AT";

#[derive(Debug)]
struct Asks;

impl Rule for Asks {
    fn id(&self) -> &'static str {
        "wires"
    }

    fn evaluate(&self, _: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        Ok(Some(Decision::new(Action::Hitl, "wires", "money leaves")))
    }
}

/// Kills this process where it was told to.
fn step(name: &str) {
    if std::env::var(KILL_AT).is_ok_and(|at| at == name) {
        let me = std::process::id().to_string();
        let _ = Command::new("kill").args(["-9", &me]).status();
        loop {
            std::thread::park();
        }
    }
}

async fn open(path: &Path) -> Arc<dyn HitlQueue> {
    Arc::new(SqliteQueue::open(path).await.unwrap())
}

/// The agent: its model asks for a call, and it makes it. Nothing where this is no child.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_process() {
    let Ok(queue) = std::env::var(QUEUE) else { return };
    let wait = std::env::var(WAIT_MS).unwrap().parse().unwrap();
    let gate = QueueHitlGate::new(open(Path::new(&queue)).await)
        .timeout(Duration::from_millis(wait))
        .valid_for(Duration::from_hours(1));
    let firewall = Firewall::builder()
        .session_id(SessionId::new("s_1").unwrap())
        .rule(Asks)
        .hitl_gate(Arc::new(gate))
        .build()
        .unwrap();
    let args = json!({"usd": 4000});
    let request = ToolRequest {
        id: String::new(),
        tool: "wire".into(),
        args: args.clone().into(),
    };
    if firewall.inspect(&request).await.is_err() {
        return;
    }
    step("after the approval");
    // Refused the second time: one approval, one run.
    for _ in 0..2 {
        let args = args.clone();
        let ran = firewall.tool("wire", args, async |_| {
            step("before the effect");
            let path = std::env::var(TOOL).unwrap();
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
            file.write_all(b"x")?;
            step("after the effect");
            Ok::<Value, std::io::Error>(json!("sent"))
        });
        if ran.await.is_err() {
            return;
        }
    }
}

struct Scene {
    folder: tempfile::TempDir,
    queue: Arc<dyn HitlQueue>,
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let queue = open(&folder.path().join("hitl.db")).await;
        Self { folder, queue }
    }

    fn command(&self, wait_ms: u64) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "crashed::child_process", "--test-threads=1"])
            .env(QUEUE, self.folder.path().join("hitl.db"))
            .env(TOOL, self.folder.path().join("tool"))
            .env(WAIT_MS, wait_ms.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Runs an agent that waits so long, and is killed there.
    fn agent(&self, wait_ms: u64, kill_at: Option<&str>) -> tokio::task::JoinHandle<ExitStatus> {
        let mut command = self.command(wait_ms);
        if let Some(at) = kill_at {
            command.env(KILL_AT, at);
        }
        tokio::task::spawn_blocking(move || command.status().unwrap())
    }

    async fn asked(&self) -> Entry {
        let mut changes = self.queue.changes();
        loop {
            if let Some(entry) = self.queue.list(Which::Open).await.unwrap().pop() {
                return entry;
            }
            changes.changed().await.unwrap();
        }
    }

    fn runs(&self) -> usize {
        std::fs::read(self.folder.path().join("tool")).map_or(0, |bytes| bytes.len())
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_between_the_approval_and_the_end_of_the_tool_it_ran_once_at_most() {
    use std::os::unix::process::ExitStatusExt as _;
    for (at, runs) in [
        // Used up, and never run: nobody knows that from outside, so it is asked about again.
        ("after the approval", 0),
        ("before the effect", 0),
        ("after the effect", 1),
    ] {
        let scene = Scene::new().await;
        let agent = scene.agent(600_000, Some(at));
        let entry = scene.asked().await;
        assert_eq!(scene.runs(), 0, "{at}: ran without an approval");
        scene
            .queue
            .decide(&entry.id, &Ruling::approve(None))
            .await
            .unwrap();
        assert_eq!(agent.await.unwrap().signal(), Some(9), "{at}");
        assert_eq!(scene.runs(), runs, "{at}");
        for _ in 0..2 {
            // Nobody approves anything more.
            assert!(scene.agent(50, None).await.unwrap().success());
            assert_eq!(scene.runs(), runs, "{at}");
        }
    }
}

/// Killed while it waits, approved then: the next one that wants the same finds the approval, and runs once by it.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_that_found_its_agent_dead_lets_the_next_one_run_once() {
    let scene = Scene::new().await;
    let mut first = scene.command(600_000).spawn().unwrap();
    let entry = scene.asked().await;
    first.kill().unwrap();
    first.wait().unwrap();
    scene
        .queue
        .decide(&entry.id, &Ruling::approve(None))
        .await
        .unwrap();
    for _ in 0..2 {
        assert!(scene.agent(50, None).await.unwrap().success());
        assert_eq!(scene.runs(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_approval_of_a_whole_agent_is_one_run() {
    let scene = Scene::new().await;
    for round in 1..=3 {
        let agent = scene.agent(600_000, None);
        let entry = scene.asked().await;
        scene
            .queue
            .decide(&entry.id, &Ruling::approve(None))
            .await
            .unwrap();
        // Its second run of the same call is another question.
        let again = scene.asked().await;
        assert_eq!(scene.runs(), round);
        scene
            .queue
            .decide(&again.id, &Ruling::reject("once is enough", None))
            .await
            .unwrap();
        assert!(agent.await.unwrap().success());
        assert_eq!(scene.runs(), round);
    }
}
