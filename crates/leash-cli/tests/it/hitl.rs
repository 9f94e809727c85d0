//! `hitl`, and that the Python package and this one decide what either asks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use leash_core::{Action, Call, Caller, Decision, IdGenerator, SessionId, Timestamp, ToolCall};
use leash_hitl::{
    Approval, ApprovalRequest, Entry, GrantUse, HitlGate as _, HitlQueue, QueueHitlGate, SqliteQueue, Which,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::{Ran, binary, finish, run};

struct Scene {
    _folder: TempDir,
    path: String,
    queue: Arc<dyn HitlQueue>,
}

async fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hitl.db");
    Scene {
        queue: Arc::new(SqliteQueue::open(&path).await.unwrap()),
        path: path.to_str().unwrap().to_owned(),
        _folder: folder,
    }
}

fn request(args: Value) -> ApprovalRequest {
    let caller = Caller::session(SessionId::new("s/1").unwrap());
    let call = Call::Tool(ToolCall::new("wire", args, caller));
    ApprovalRequest {
        id: IdGenerator::from_os().request(Timestamp::EPOCH),
        request_digest: call.request_digest(),
        call,
        decision: Decision::new(Action::Hitl, "wires", "money leaves"),
        policy_version: "1".into(),
    }
}

impl Scene {
    /// A call that waits for a human.
    fn ask(&self, args: Value) -> JoinHandle<Approval> {
        let gate = QueueHitlGate::new(self.queue.clone()).timeout(Duration::from_mins(10));
        tokio::spawn(async move { gate.request(&request(args)).await.unwrap().approval })
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

    fn hitl(&self, command: &str, rest: &[&str]) -> Ran {
        run(&[&["hitl", command, &self.path], rest].concat())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pending_is_listed_shown_approved_and_gone() {
    let scene = scene().await;
    let agent = scene.ask(json!({"amount": 4000, "to": "Ünïcode\u{202e}\u{1b}[2J"}));
    let entry = scene.asked().await;

    let listed = scene.hitl("list", &[]);
    assert_eq!((listed.code, listed.stderr.as_str()), (0, "# 1 pending\n"));
    let row: Value = serde_json::from_str(listed.text()).unwrap();
    let names = [
        "request_id",
        "created_ts",
        "session_id",
        "tenant_id",
        "tool",
        "rule_id",
        "reason",
    ];
    let order: Vec<_> = names
        .iter()
        .map(|name| listed.text().find(name).unwrap())
        .collect();
    assert!(order.is_sorted() && row.as_object().unwrap().len() == names.len());
    assert_eq!(row["request_id"], entry.id.as_str());
    assert_eq!(
        (&row["session_id"], &row["tenant_id"]),
        (&json!("s/1"), &Value::Null)
    );
    assert!(row["created_ts"].as_f64().unwrap() > 1.7e9);

    let shown = scene.hitl("show", &[&entry.id]);
    assert_eq!(shown.code, 0);
    let hash = entry.call_hash.unwrap().to_string();
    for part in [
        "\"amount\": 4000",
        "Ünïcode\\u{202e}",
        "s/1",
        "wires",
        "money leaves",
        &hash,
    ] {
        assert!(shown.text().contains(part), "{part} in {}", shown.text());
    }
    assert!(!shown.text().contains(['\u{1b}', '\u{202e}']));
    let whole: Value = serde_json::from_str(scene.hitl("show", &[&entry.id, "--json"]).text()).unwrap();
    assert_eq!(
        (&whole["call_hash"], &whole["call_hash_fits"]),
        (&json!(hash), &json!(true))
    );
    assert_eq!(whole["args_json"], entry.args.as_str());

    let approved = scene.hitl("approve", &[&entry.id, "--operator", "ada"]);
    assert_eq!(
        (approved.code, approved.text()),
        (0, format!("approved {}\n", entry.id).as_str())
    );
    assert_eq!(
        agent.await.unwrap(),
        Approval::Approved {
            operator: Some("ada".into()),
            grant: None
        }
    );
    let empty = scene.hitl("list", &[]);
    assert_eq!(
        (empty.code, empty.text(), empty.stderr.as_str()),
        (0, "", "# 0 pending\n")
    );
    for command in [
        &["approve", &scene.path, &entry.id][..],
        &["reject", &scene.path, &entry.id, "--reason", "x"],
    ] {
        let twice = run(&[&["hitl"], command].concat());
        assert_eq!((twice.code, twice.text()), (1, ""));
        assert!(
            twice
                .stderr
                .contains("is not pending: it was approved, and the call was made by ada")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_carries_its_reason_to_the_agent() {
    let scene = scene().await;
    let agent = scene.ask(json!({}));
    let entry = scene.asked().await;
    let rejected = scene.hitl("reject", &[&entry.id, "--reason", "not today"]);
    assert_eq!(
        (rejected.code, rejected.text()),
        (0, format!("rejected {}: not today\n", entry.id).as_str())
    );
    assert_eq!(agent.await.unwrap(), Approval::rejected("not today"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_after_it_was_asked_is_not_approved() {
    let scene = scene().await;
    let _agent = scene.ask(json!({"amount": 4000}));
    let entry = scene.asked().await;
    let file = leash_store::rusqlite::Connection::open(&scene.path).unwrap();
    file.execute("UPDATE hitl_requests SET args_json = '{\"amount\":4}'", ())
        .unwrap();
    assert!(scene.hitl("show", &[&entry.id]).text().contains("do not approve"));
    let refused = scene.hitl("approve", &[&entry.id]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("was changed after it was asked"));
}

#[test]
fn a_queue_or_a_request_that_is_not_there_fails_and_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("typo.db");
    let path = path.to_str().unwrap();
    for command in [
        &["approve", path, "x"][..],
        &["reject", path, "x", "--reason", "y"],
        &["show", path, "x"],
    ] {
        let ran = run(&[&["hitl"], command].concat());
        assert_eq!((ran.code, ran.text()), (1, ""), "{command:?}");
        assert!(ran.stderr.contains(path));
    }
    let list = run(&["hitl", "list", path]);
    assert_eq!(
        (list.code, list.text(), list.stderr.as_str()),
        (0, "", "# 0 pending\n")
    );
    assert!(!Path::new(path).exists());
    let log = folder.path().join("log");
    fs::write(&log, "{\"not\": \"a database\"}\n".repeat(100)).unwrap();
    assert_eq!(run(&["hitl", "list", log.to_str().unwrap()]).code, 1);
    assert_eq!(run(&["hitl", "list", "ftp://host/x"]).code, 1);
    let secret = run(&["hitl", "list", "redis://:hunter2@127.0.0.1:1"]);
    assert_eq!(secret.code, 1);
    assert!(!secret.stderr.contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_is_given_used_listed_and_revoked() {
    let scene = scene().await;
    let add = |rest: &[&str]| run(&[&["hitl", "grant", "add", &scene.path], rest].concat());
    let small = [
        "small",
        "--session",
        "s/1",
        "--tool",
        "wire",
        "--arg",
        "/amount=[0-9]{1,2}",
        "--times",
        "2",
        "--for",
        "1h",
    ];
    let granted = add(&[&small[..], &["--operator", "ada"]].concat());
    assert_eq!(
        (granted.code, granted.text()),
        (0, "granted small\n"),
        "{granted:?}"
    );
    assert_eq!(add(&small).code, 1, "a name is given once");
    assert_eq!(
        scene.ask(json!({"amount": 99})).await.unwrap(),
        Approval::Approved {
            operator: Some("ada".into()),
            grant: Some(GrantUse {
                name: "small".into(),
                used: 1,
                times: Some(2),
                operator: Some("ada".into()),
            })
        }
    );
    let agent = scene.ask(json!({"amount": 100}));
    let entry = scene.asked().await;
    assert_eq!(
        add(&["this", "--request", &entry.id, "--for", "1h"]).text(),
        "granted this\n"
    );
    scene.hitl("reject", &[&entry.id, "--reason", "ask again"]);
    agent.await.unwrap();
    let again = scene.ask(json!({"amount": 100})).await.unwrap();
    assert_eq!(
        again,
        Approval::Approved {
            operator: None,
            grant: Some(GrantUse {
                name: "this".into(),
                used: 1,
                times: None,
                operator: None,
            })
        }
    );
    let listed = run(&["hitl", "grant", "list", &scene.path]);
    let rows: Vec<Value> = listed
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(listed.stderr, "# 2 usable\n");
    assert_eq!(
        (&rows[0]["name"], &rows[0]["used"], &rows[0]["times"]),
        (&json!("small"), &json!(1), &json!(2))
    );
    assert_eq!(rows[0]["args"], json!({"/amount": "[0-9]{1,2}"}));
    assert_eq!(
        run(&["hitl", "grant", "revoke", &scene.path, "small"]).text(),
        "revoked small\n"
    );
    assert_eq!(run(&["hitl", "grant", "revoke", &scene.path, "small"]).code, 1);
    for wrong in [
        &["x", "--for", "1h"][..],
        &["x", "--tool", "wire", "--for", "1h"],
        &["x", "--request", &entry.id],
        &["x", "--request", &entry.id, "--for", "soon"],
    ] {
        assert_eq!(add(wrong).code, 64, "{wrong:?}");
    }
    assert_eq!(
        add(&[
            "x",
            "--session",
            "s",
            "--tool",
            "t",
            "--times",
            "1",
            "--for",
            "1h"
        ])
        .code,
        1,
        "no pattern"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_tells_what_is_asked_and_what_becomes_of_it() {
    use std::io::BufRead as _;
    let scene = scene().await;
    let mut child = binary().args(["hitl", "watch", &scene.path]).spawn().unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let agent = scene.ask(json!({}));
    let entry = scene.asked().await;
    let mut next = move || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    let first = next();
    assert_eq!(
        (&first["request_id"], &first["status"]),
        (&json!(entry.id), &json!("pending"))
    );
    scene.hitl("reject", &[&entry.id, "--reason", "no", "--operator", "ada"]);
    agent.await.unwrap();
    let second = next();
    assert_eq!(
        (&second["status"], &second["operator"]),
        (&json!("rejected"), &json!("ada"))
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The package that is already out there, in a place of its own; `None`, loudly, where there is no network to get it.
#[expect(clippy::print_stderr, reason = "a test that could not be made says so")]
fn python() -> Option<PathBuf> {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hitl-python-{}", std::process::id()));
    let made = Command::new("python3").args(["-m", "venv"]).arg(&home).status();
    assert!(
        made.is_ok_and(|status| status.success()),
        "`python3 -m venv` has to work for this test"
    );
    let python = home.join("bin/python");
    let installed = Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "llm-leash==1.3.0"])
        .output()
        .unwrap();
    if installed.status.success() {
        return Some(home);
    }
    let said = String::from_utf8_lossy(&installed.stderr).into_owned();
    fs::remove_dir_all(&home).unwrap();
    let is_offline = [
        "connection",
        "Connection",
        "resolve",
        "Retrying",
        "timed out",
        "unreachable",
    ];
    assert!(is_offline.iter().any(|word| said.contains(word)), "{said}");
    eprintln!("SKIPPED: pip has no network, so nothing was tried against the Python package");
    None
}

const ASKS: &str = r#"
import asyncio, sys
from llm_leash.hitl import QueueBackedHitlGate, SQLiteHitlQueue
from llm_leash.types import Decision, LeashRejectedByHuman, ToolCall

async def main():
    gate = QueueBackedHitlGate(SQLiteHitlQueue(sys.argv[1]), timeout_secs=60, poll_interval_secs=0.02)
    call = ToolCall(tool="wire", args={"amount": 4000, "to": "Ünïcode 🚀"}, session_id="s/1 ..%2f", tenant_id="acme")
    try:
        await gate.request(call, Decision("hitl", "wires", "money leaves"))
        print("approved")
    except LeashRejectedByHuman as error:
        print("rejected:", error)

asyncio.run(main())
"#;

/// One test, so that the package is fetched once.
#[tokio::test(flavor = "multi_thread")]
async fn either_program_decides_what_the_other_asks() {
    let Some(home) = python() else { return };
    let theirs = |args: &[&str]| {
        finish(
            Command::new(home.join("bin/llm-leash"))
                .args(args)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        )
    };
    let scene = scene().await;
    let path = scene.path.as_str();

    // It asks, and its gate returns what our command line said.
    for (ours, said) in [
        (&["approve"][..], "approved\n"),
        (&["reject", "--reason", "not today"], "not today"),
    ] {
        let agent = Command::new(home.join("bin/python"))
            .args(["-c", ASKS, path])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let entry = scene.asked().await;
        let listed = scene.hitl("list", &[]);
        assert_eq!(
            listed.text(),
            theirs(&["hitl", "list", path]).text(),
            "the very same line"
        );
        assert!(
            scene
                .hitl("show", &[&entry.id])
                .text()
                .contains("\"amount\": 4000")
        );
        let (command, rest) = ours.split_first().unwrap();
        assert_eq!(
            scene.hitl(command, &[&[entry.id.as_str()], rest].concat()).code,
            0
        );
        let ran = finish(agent);
        assert!(ran.code == 0 && ran.text().contains(said), "{ran:?}");
    }

    // Our gate waits, and its command line decides.
    let agent = scene.ask(json!({"amount": 4000}));
    let entry = scene.asked().await;
    assert_eq!(theirs(&["hitl", "approve", path, &entry.id]).code, 0);
    assert_eq!(agent.await.unwrap(), Approval::approved());
    let agent = scene.ask(json!({"amount": 4000}));
    let entry = scene.asked().await;
    assert_eq!(
        theirs(&["hitl", "reject", path, &entry.id, "--reason", "not today"]).code,
        0
    );
    assert_eq!(agent.await.unwrap(), Approval::rejected("not today"));

    // What our gate closed by itself its command line can no longer move.
    let gate = QueueHitlGate::new(scene.queue.clone()).timeout(Duration::ZERO);
    let answer = gate.request(&request(json!({"amount": 5}))).await.unwrap();
    let id = answer.request_id.to_string();
    theirs(&["hitl", "approve", path, &id]);
    let left = scene.queue.get(&id).await.unwrap().unwrap();
    assert_eq!(left.decision_reason.as_deref(), Some("hitl: timeout after 0.0s"));
    assert_eq!(left.status, leash_hitl::Status::Rejected);

    // A file that ours made first, in its hands.
    let fresh = scene.path.replace("hitl.db", "fresh.db");
    drop(SqliteQueue::open(&fresh).await.unwrap());
    let listed = theirs(&["hitl", "list", &fresh]);
    assert_eq!((listed.code, listed.stderr.as_str()), (0, "# 0 pending\n"));
    fs::remove_dir_all(&home).unwrap();
}

async fn asks(queue: &Arc<dyn HitlQueue>, session: &str) -> Entry {
    let call_hash = leash_hitl::Binding {
        tool: "wire",
        shown: "{}",
        session_id: session,
        tenant_id: None,
        rule_id: "wires",
        policy_version: "1",
    }
    .hash();
    let new = leash_hitl::NewEntry {
        id: IdGenerator::from_os().request(Timestamp::EPOCH),
        session_id: session.to_owned(),
        tenant_id: None,
        tool: "wire".into(),
        args: "{}".into(),
        rule_id: "wires".into(),
        reason: "money leaves".into(),
        call_hash,
        policy_version: "1".into(),
        wait: Duration::from_hours(1),
        valid_for: Duration::from_hours(1),
    };
    queue.enqueue(&new).await.unwrap()
}

/// What other programs put there may be anything: it is told as it is, acts on no terminal, and is decided by its id.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_any_spelling_are_listed_as_they_are_and_decided_each_for_itself() {
    let long = "x".repeat(10 * 1024);
    let sessions = [
        "a/b",
        "a%2fb",
        "a b",
        "..",
        "a\0b",
        "a\nb",
        "\u{1b}[2J",
        "\u{1f680}",
        "--json",
        "*",
        &long,
    ];
    let scene = scene().await;
    let server = leash_testkit::RedisServer::start(&[]);
    let redis = leash_hitl::open_queue(&server.url()).await.unwrap();
    for (queue, address) in [(&scene.queue, scene.path.clone()), (&redis, server.url())] {
        let mut entries = Vec::new();
        for session in sessions {
            entries.push(asks(queue, session).await);
        }
        let listed = run(&["hitl", "list", &address]);
        assert!(!listed.text().contains(['\u{1b}', '\0']));
        let rows: Vec<Value> = listed
            .text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let told: Vec<_> = rows
            .iter()
            .map(|row| row["session_id"].as_str().unwrap())
            .collect();
        assert_eq!(told, sessions);
        for (at, entry) in entries.iter().enumerate() {
            let shown = run(&["hitl", "show", &address, &entry.id]);
            assert_eq!(shown.code, 0);
            assert!(!shown.text().contains(['\u{1b}', '\0']));
            let command = if at % 2 == 0 { "approve" } else { "reject" };
            let mut args = vec!["hitl", command, &address, &entry.id];
            if at % 2 == 1 {
                args.extend(["--reason", "no"]);
            }
            assert_eq!(run(&args).code, 0);
            let left = queue.list(Which::Open).await.unwrap();
            assert_eq!(left.len(), entries.len() - at - 1);
            assert!(
                left.iter()
                    .zip(&entries[at + 1..])
                    .all(|(left, entry)| left.id == entry.id)
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_reached_over_tls_by_a_user_and_in_a_cluster() {
    let server = leash_testkit::RedisServer::start_tls(&[]);
    let rights = [
        "~{llm_leash:hitl}:*",
        "&{llm_leash:hitl}:moved",
        "+@all",
        "-@admin",
    ];
    server.allow("ada", "hunter2", &rights);
    let cluster = leash_testkit::RedisCluster::start();
    let authority = server.authority();
    let places = [
        (server.tls_url_as("ada:hunter2@"), server.url()),
        (cluster.url(), cluster.url()),
    ];
    for (theirs, ours) in places {
        let hitl = |args: &[&str]| {
            let mut command = binary();
            command.env("SSL_CERT_FILE", &authority).arg("hitl").args(args);
            finish(command.spawn().unwrap())
        };
        let queue = leash_hitl::open_queue(&ours).await.unwrap();
        let gate = QueueHitlGate::new(queue).timeout(Duration::from_mins(10));
        let agent = tokio::spawn(async move { gate.request(&request(json!({"amount": 1}))).await });
        let id = loop {
            let listed = hitl(&["list", &theirs]);
            assert_eq!(listed.code, 0, "{listed:?}");
            if let Some(line) = listed.text().lines().next() {
                let row: Value = serde_json::from_str(line).unwrap();
                break row["request_id"].as_str().unwrap().to_owned();
            }
        };
        let approved = hitl(&["approve", &theirs, &id, "--operator", "ada"]);
        assert_eq!(
            (approved.code, approved.text()),
            (0, format!("approved {id}\n").as_str())
        );
        assert_eq!(
            agent.await.unwrap().unwrap().approval,
            Approval::Approved {
                operator: Some("ada".into()),
                grant: None
            }
        );
    }
    // Without the authority nobody is believed.
    let refused = run(&["hitl", "list", &server.tls_url_as("ada:hunter2@")]);
    assert_eq!((refused.code, refused.text()), (1, ""));
    assert!(!refused.stderr.contains("hunter"), "{}", refused.stderr);
}
