//! The laws, over every queue.

use std::sync::Arc;

use leash_core::{StoreErrorKind, Timestamp};
use leash_hitl::conformance::{entry, request};
use leash_hitl::{
    Approval, CallHash, Closing, Decided, Entry, Grant, GrantUse, HitlGate as _, HitlQueue, MemoryQueue,
    NewEntry, QueueHitlGate, RedisQueue, Ruling, SqliteQueue, Standing, Status, Which,
    hitl_queue_conformance,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::server::{RedisServer, asked};

fn memory() -> (Arc<dyn HitlQueue>, ()) {
    (Arc::new(MemoryQueue::new()), ())
}

async fn sqlite() -> (Arc<dyn HitlQueue>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let queue = SqliteQueue::open(folder.path().join("hitl.db")).await.unwrap();
    (Arc::new(queue), folder)
}

fn redis() -> (Arc<dyn HitlQueue>, RedisServer) {
    let server = RedisServer::start();
    let queue = RedisQueue::new(&server.url.parse().unwrap()).unwrap();
    (Arc::new(queue), server)
}

/// A queue of which every second question is asked through another connection: what is true of one program is true of
/// two.
#[derive(Debug)]
struct Two([Arc<dyn HitlQueue>; 2], std::sync::atomic::AtomicUsize);

impl Two {
    fn turn(&self) -> &dyn HitlQueue {
        let turn = self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        self.0[turn % 2].as_ref()
    }
}

type Result<T> = std::result::Result<T, leash_core::StoreError>;

#[async_trait::async_trait]
impl HitlQueue for Two {
    async fn enqueue(&self, new: &NewEntry) -> Result<Entry> {
        self.turn().enqueue(new).await
    }
    async fn decide(&self, id: &str, ruling: &Ruling) -> Result<Decided> {
        self.turn().decide(id, ruling).await
    }
    async fn consume(&self, id: &str, hash: &CallHash) -> Result<bool> {
        self.turn().consume(id, hash).await
    }
    async fn close(&self, id: &str, closing: &Closing) -> Result<bool> {
        self.turn().close(id, closing).await
    }
    async fn get(&self, id: &str) -> Result<Option<Entry>> {
        self.turn().get(id).await
    }
    async fn moved(&self, ids: &[String]) -> Result<Vec<(String, Option<Entry>)>> {
        self.turn().moved(ids).await
    }
    async fn list(&self, which: Which) -> Result<Vec<Entry>> {
        self.turn().list(which).await
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.turn().changes()
    }
    async fn add_grant(&self, grant: &Grant) -> Result<bool> {
        self.turn().add_grant(grant).await
    }
    async fn grants(&self) -> Result<Vec<Standing>> {
        self.turn().grants().await
    }
    async fn use_grant(&self, name: &str) -> Result<Option<GrantUse>> {
        self.turn().use_grant(name).await
    }
    async fn revoke_grant(&self, name: &str) -> Result<bool> {
        self.turn().revoke_grant(name).await
    }
}

async fn two_files() -> (Arc<dyn HitlQueue>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hitl.db");
    let one: Arc<dyn HitlQueue> = Arc::new(SqliteQueue::open(&path).await.unwrap());
    let other: Arc<dyn HitlQueue> = Arc::new(SqliteQueue::open(&path).await.unwrap());
    (Arc::new(Two([one, other], 0.into())), folder)
}

fn two_clients() -> (Arc<dyn HitlQueue>, RedisServer) {
    let server = RedisServer::start();
    let open = || -> Arc<dyn HitlQueue> { Arc::new(RedisQueue::new(&server.url.parse().unwrap()).unwrap()) };
    (Arc::new(Two([open(), open()], 0.into())), server)
}

hitl_queue_conformance!(in_memory, std::future::ready(memory()));
hitl_queue_conformance!(in_a_file, sqlite());
hitl_queue_conformance!(in_a_file_opened_twice, two_files());
hitl_queue_conformance!(on_a_server, std::future::ready(redis()));
hitl_queue_conformance!(on_a_server_by_two_clients, std::future::ready(two_clients()));

/// What the original wrote, its table and its statements.
#[tokio::test]
async fn a_file_of_the_original_is_taken_over_and_stays_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hitl.db");
    let original = leash_store::rusqlite::Connection::open(&path).unwrap();
    original.pragma_update(None, "journal_mode", "WAL").unwrap();
    original
        .execute_batch(
            "CREATE TABLE hitl_requests (request_id TEXT PRIMARY KEY, created_ts REAL NOT NULL,
             session_id TEXT NOT NULL, tenant_id TEXT, tool TEXT NOT NULL, args_json TEXT NOT NULL,
             rule_id TEXT NOT NULL, reason TEXT NOT NULL,
             status TEXT NOT NULL CHECK (status IN ('pending','approved','rejected')), decision_reason TEXT);
             CREATE INDEX idx_hitl_status ON hitl_requests(status);",
        )
        .unwrap();
    let insert = |id: &str| {
        let sql = "INSERT INTO hitl_requests (request_id, created_ts, session_id, tenant_id, tool, args_json, rule_id,
                   reason, status, decision_reason) VALUES (?1, 1790000000.25, 's', NULL, 'wire', '{\"n\": 1}', 'r',
                   'why', 'pending', NULL)";
        original.execute(sql, [id]).unwrap();
    };
    insert("before");
    let queue = SqliteQueue::open(&path).await.unwrap();
    insert("after");
    let listed = queue.list(Which::Open).await.unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(
        listed[0].created_at,
        "2026-09-21T14:13:20.25Z".parse::<Timestamp>().unwrap()
    );
    assert_eq!((listed[0].call_hash, listed[0].expires_at), (None, None));
    assert!(matches!(
        queue.decide("before", &Ruling::approve(None)).await.unwrap(),
        Decided::Done(_)
    ));
    assert!(matches!(
        queue.decide("after", &Ruling::reject("no", None)).await.unwrap(),
        Decided::Done(_)
    ));
    let status = |id: &str| -> (String, Option<String>) {
        let sql = "SELECT status, decision_reason FROM hitl_requests WHERE request_id = ?1";
        original
            .query_row(sql, [id], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
    };
    assert_eq!(status("before"), ("approved".into(), None));
    assert_eq!(status("after"), ("rejected".into(), Some("no".into())));
    // And what the original approves lets our call through.
    let gate = QueueHitlGate::new(Arc::new(queue.clone()));
    let agent = tokio::spawn(async move { gate.request(&request(json!({"amount": 1}))).await });
    let shared: Arc<dyn HitlQueue> = Arc::new(queue.clone());
    let asked = asked(&shared).await;
    let sql = "UPDATE hitl_requests SET status = 'approved', decision_reason = NULL
               WHERE request_id = ?1 AND status = 'pending'";
    original.execute(sql, [&asked.id]).unwrap();
    assert_eq!(agent.await.unwrap().unwrap().approval, Approval::approved());
}

#[tokio::test]
async fn a_queue_that_cannot_tell_denies() {
    let server = RedisServer::start();
    let queue = RedisQueue::new(&server.url.parse().unwrap()).unwrap();
    queue.enqueue(&entry(json!({}))).await.unwrap();
    drop(server);
    let gate = QueueHitlGate::new(Arc::new(queue)).timeout(std::time::Duration::from_millis(100));
    let error = gate.request(&request(json!({}))).await.unwrap_err();
    assert!(matches!(
        error.kind(),
        StoreErrorKind::Unavailable | StoreErrorKind::Timeout
    ));
}

#[tokio::test]
async fn a_flood_of_questions_is_refused() {
    let queue = MemoryQueue::new();
    let ask = |n: usize| NewEntry {
        id: leash_core::RequestId::from_u128(u128::try_from(n).unwrap()),
        call_hash: format!("{n:064x}").parse().unwrap(),
        ..entry(json!({}))
    };
    for n in 0..leash_hitl::MAX_OPEN {
        queue.enqueue(&ask(n)).await.unwrap();
    }
    let refused = queue.enqueue(&ask(leash_hitl::MAX_OPEN)).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Full);
    let first = ask(0).id.to_string();
    queue.decide(&first, &Ruling::reject("no", None)).await.unwrap();
    queue.enqueue(&ask(leash_hitl::MAX_OPEN)).await.unwrap();
    // The one that was decided is still there to be looked at.
    assert_eq!(queue.get(&first).await.unwrap().unwrap().status, Status::Rejected);
}
