//! Several processes on one queue. The child is this very binary, told by its environment what to do.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use leash_hitl::conformance::{entry, request};
use leash_hitl::{Approval, HitlGate as _, HitlQueue, QueueHitlGate, RedisQueue, Ruling, SqliteQueue};
use serde_json::json;

use crate::crash;
use crate::server::{RedisServer, asked};

pub(crate) const ROLE: &str = "LEASH_HITL_TEST_ROLE";
pub(crate) const QUEUE: &str = "LEASH_HITL_TEST_QUEUE";
pub(crate) const ID: &str = "LEASH_HITL_TEST_ID";

pub(crate) async fn open(url: &str) -> Arc<dyn HitlQueue> {
    if url.starts_with("redis:") {
        Arc::new(RedisQueue::new(&url.parse().unwrap()).unwrap())
    } else {
        Arc::new(SqliteQueue::open(Path::new(url)).await.unwrap())
    }
}

/// This binary as a process of its own in `role`.
pub(crate) fn child(role: &str, queue: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "processes::child_process",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(ROLE, role)
        .env(QUEUE, queue)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

/// What a child does; nothing where this is no child.
#[tokio::test]
async fn child_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let queue = open(&std::env::var(QUEUE).unwrap()).await;
    let id = || std::env::var(ID).unwrap();
    match role.as_str() {
        "consume" => {
            let hash = entry(json!({"amount": 4000})).call_hash;
            queue.get(&id()).await.unwrap().unwrap();
            println!("\nready");
            std::io::stdin().lines().next();
            println!("\nwon={}", queue.consume(&id(), &hash).await.unwrap());
        }
        "decide" => crash::decide(queue, &id()).await,
        "agent" => crash::agent(queue).await,
        other => panic!("no such role: {other}"),
    }
}

fn line(out: &mut impl Iterator<Item = std::io::Result<String>>, start: &str) -> String {
    let mut lines = out.map(|line| line.unwrap());
    lines
        .find(|line| line.starts_with(start))
        .expect("the child said it")
}

async fn one_of_32_processes_wins(url: &str) {
    let queue = open(url).await;
    let new = queue.enqueue(&entry(json!({"amount": 4000}))).await.unwrap();
    queue.decide(&new.id, &Ruling::approve(None)).await.unwrap();
    let mut racers: Vec<Child> = (0..32)
        .map(|_| child("consume", url).env(ID, &new.id).spawn().unwrap())
        .collect();
    let mut outs: Vec<_> = racers
        .iter_mut()
        .map(|racer| BufReader::new(racer.stdout.take().unwrap()).lines())
        .collect();
    for out in &mut outs {
        line(out, "ready");
    }
    for racer in &mut racers {
        racer.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }
    let said: Vec<_> = outs.iter_mut().map(|out| line(out, "won=")).collect();
    let won = said.iter().filter(|said| *said == "won=true").count();
    for mut racer in racers {
        assert!(racer.wait().unwrap().success());
    }
    assert_eq!(won, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_32_processes_consumes_an_approval_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    one_of_32_processes_wins(folder.path().join("hitl.db").to_str().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_32_processes_consumes_an_approval_on_a_server() {
    let server = RedisServer::start();
    one_of_32_processes_wins(&server.url).await;
}

/// Far sooner than the gate would ask by itself: it asks every second, so 20 times in a row would take as many.
async fn another_process_wakes_a_gate(url: &str) {
    let queue = open(url).await;
    let gate = QueueHitlGate::new(queue.clone()).timeout(Duration::from_mins(10));
    let agent = tokio::spawn(async move { gate.request(&request(json!({"amount": 1}))).await });
    let question = asked(&queue).await;
    let decider = child("decide", url).env(ID, &question.id).spawn().unwrap();
    assert_eq!(
        agent.await.unwrap().unwrap().approval,
        Approval::Approved {
            operator: Some("child".into()),
            grant: None,
        }
    );
    assert!(decider.wait_with_output().unwrap().status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_wakes_a_gate_by_a_file() {
    let folder = tempfile::tempdir().unwrap();
    another_process_wakes_a_gate(folder.path().join("hitl.db").to_str().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_wakes_a_gate_by_a_server() {
    let server = RedisServer::start();
    another_process_wakes_a_gate(&server.url).await;
}
