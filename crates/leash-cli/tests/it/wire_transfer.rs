//! The example's agent, which wires $4,000 if a human lets it, and the real binary in the human's hands.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{finish, run};

/// The example, which every build of the tests builds too.
fn example() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_llm-leash")).parent().unwrap();
    let program = beside.join(format!("examples/wire_transfer{}", std::env::consts::EXE_SUFFIX));
    assert!(
        program.is_file(),
        "`cargo build -p leash-cli --example wire_transfer` has to come first"
    );
    program
}

struct Scene {
    folder: TempDir,
    queue: String,
}

/// The agent, which waits.
struct Agent {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let queue = folder.path().join("approvals.db").to_str().unwrap().to_owned();
        Self { folder, queue }
    }

    fn start(&self) -> Agent {
        let mut child = Command::new(example())
            .args(["--wait", "--folder"])
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Agent { child, lines }
    }

    /// What `hitl list` says is pending: one request.
    fn pending(&self) -> Value {
        let listed = run(&["hitl", "list", &self.queue]);
        assert_eq!((listed.code, listed.stderr.as_str()), (0, "# 1 pending\n"));
        serde_json::from_str(listed.text()).unwrap()
    }

    fn approve(&self, id: &str) {
        let approved = run(&["hitl", "approve", &self.queue, id, "--operator", "ada"]);
        assert_eq!(
            (approved.code, approved.text()),
            (0, format!("approved {id}\n").as_str())
        );
    }

    fn transfers(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.path().join("transfers.jsonl")).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The log's lines of a kind. It verifies.
    fn log(&self, kind: &str) -> Vec<Value> {
        let path = self.folder.path().join("audit.jsonl");
        let verified = run(&["verify", path.to_str().unwrap()]);
        assert_eq!(verified.code, 0, "{verified:?}");
        let text = fs::read_to_string(path).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.filter(|line: &Value| line["kind"] == kind).collect()
    }
}

impl Agent {
    /// Reads on until it says that it waits.
    fn waits(&mut self) {
        self.says("waiting for a human");
    }

    fn says(&mut self, word: &str) {
        let said = self.lines.by_ref().map(Result::unwrap);
        let found = said.into_iter().any(|line| line.contains(word));
        assert!(found, "it ended without `{word}`");
    }

    fn ended(mut self) -> bool {
        self.lines.by_ref().for_each(drop);
        self.child.wait().unwrap().success()
    }

    fn killed(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn id_of(row: &Value) -> &str {
    row["request_id"].as_str().unwrap()
}

#[test]
fn an_agent_waits_until_another_terminal_approves_and_goes_on() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.waits();
    let row = scene.pending();
    assert_eq!(
        (&row["tool"], &row["session_id"], &row["rule_id"]),
        (
            &json!("wire_transfer"),
            &json!("s_invoice_2291"),
            &json!("money_leaves")
        )
    );
    let id = id_of(&row);
    let shown = run(&["hitl", "show", &scene.queue, id]);
    assert!(shown.text().contains("\"usd\": 4000") && shown.text().contains("DE02120300000000202051"));
    assert!(scene.transfers().is_empty(), "nobody approved yet");

    scene.approve(id);
    agent.says("the bank says");
    assert!(agent.ended());
    assert_eq!(scene.transfers().len(), 1);
    assert_eq!(scene.transfers()[0]["usd"], 4000);
    let decision = &scene.log("hitl_decision")[0];
    assert_eq!(
        (
            &decision["decision"],
            &decision["operator"],
            &decision["request_id"]
        ),
        (&json!("approve"), &json!("ada"), &json!(id))
    );
    assert_eq!(scene.log("tool_call")[0]["hitl_request_id"], id);
    // It was good for one call.
    assert_eq!(run(&["hitl", "approve", &scene.queue, id]).code, 1);
}

#[test]
fn an_agent_killed_while_it_waits_and_approved_meanwhile_wires_once_when_it_comes_back() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.waits();
    agent.killed();
    let row = scene.pending();
    scene.approve(id_of(&row));
    assert!(scene.transfers().is_empty(), "nobody is there to wire");

    // It comes back, finds the approval, and asks nobody.
    let mut again = scene.start();
    again.says("the bank says");
    assert!(again.ended());
    assert_eq!(scene.transfers().len(), 1);
    assert_eq!(scene.log("tool_call")[0]["hitl_request_id"], row["request_id"]);

    // And once more: the approval is used up, so a human is asked anew.
    let mut third = scene.start();
    third.waits();
    let anew = scene.pending();
    assert_ne!(id_of(&anew), id_of(&row));
    let rejected = run(&[
        "hitl",
        "reject",
        &scene.queue,
        id_of(&anew),
        "--reason",
        "wired already",
    ]);
    assert_eq!(rejected.code, 0);
    third.says("I may not: wired already");
    assert!(!third.ended());
    assert_eq!(scene.transfers().len(), 1);
}

#[test]
fn an_agent_killed_and_rejected_meanwhile_asks_anew() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.waits();
    agent.killed();
    let row = scene.pending();
    let rejected = run(&["hitl", "reject", &scene.queue, id_of(&row), "--reason", "no"]);
    assert_eq!(rejected.code, 0);
    let mut again = scene.start();
    again.waits();
    assert_ne!(id_of(&scene.pending()), id_of(&row));
    again.killed();
    assert!(scene.transfers().is_empty());
}

#[test]
fn the_example_alone_plays_both_sides() {
    let child = Command::new(example())
        .env("LLM_LEASH", env!("CARGO_BIN_EXE_llm-leash"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let ran = finish(child);
    assert_eq!(ran.code, 0, "{ran:?}");
    for part in ["\"usd\": 4000", "approved ", "the bank says"] {
        assert!(ran.text().contains(part), "{part} in {}", ran.text());
    }
}
