//! What it costs to wait: one look for each change, however many wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use leash_core::StoreError;
use leash_hitl::conformance::request;
use leash_hitl::{
    Approval, CallHash, Closing, Decided, Entry, Grant, GrantUse, HitlGate as _, HitlQueue, MemoryQueue,
    NewEntry, QueueHitlGate, Ruling, SqliteQueue, Standing, Which,
};
use serde_json::json;
use tokio::sync::watch;

/// Counts how often it is read for those who wait, and how often it changes.
#[derive(Debug)]
struct Counted {
    queue: Arc<dyn HitlQueue>,
    reads: AtomicUsize,
    entries_read: AtomicUsize,
    changes: AtomicUsize,
}

impl Counted {
    fn new(queue: Arc<dyn HitlQueue>) -> Arc<Self> {
        Arc::new(Self {
            queue,
            reads: AtomicUsize::new(0),
            entries_read: AtomicUsize::new(0),
            changes: AtomicUsize::new(0),
        })
    }

    fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    fn read(&self, entries: usize) {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.entries_read.fetch_add(entries, Ordering::SeqCst);
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl HitlQueue for Counted {
    async fn enqueue(&self, new: &NewEntry) -> Result<Entry, StoreError> {
        self.changed();
        self.queue.enqueue(new).await
    }
    async fn decide(&self, id: &str, ruling: &Ruling) -> Result<Decided, StoreError> {
        self.changed();
        self.queue.decide(id, ruling).await
    }
    async fn consume(&self, id: &str, hash: &CallHash) -> Result<bool, StoreError> {
        self.changed();
        self.queue.consume(id, hash).await
    }
    async fn close(&self, id: &str, closing: &Closing) -> Result<bool, StoreError> {
        self.changed();
        self.queue.close(id, closing).await
    }
    async fn get(&self, id: &str) -> Result<Option<Entry>, StoreError> {
        self.read(1);
        self.queue.get(id).await
    }
    async fn moved(&self, ids: &[String]) -> Result<Vec<(String, Option<Entry>)>, StoreError> {
        let moved = self.queue.moved(ids).await?;
        self.read(moved.len());
        Ok(moved)
    }
    async fn list(&self, which: Which) -> Result<Vec<Entry>, StoreError> {
        self.queue.list(which).await
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.queue.changes()
    }
    async fn add_grant(&self, grant: &Grant) -> Result<bool, StoreError> {
        self.queue.add_grant(grant).await
    }
    async fn grants(&self) -> Result<Vec<Standing>, StoreError> {
        self.queue.grants().await
    }
    async fn use_grant(&self, name: &str) -> Result<Option<GrantUse>, StoreError> {
        self.queue.use_grant(name).await
    }
    async fn revoke_grant(&self, name: &str) -> Result<bool, StoreError> {
        self.queue.revoke_grant(name).await
    }
}

const WAITING: usize = 60;

/// As many gates as calls, as a program has that makes a firewall for each agent.
async fn each_is_answered_and_few_looks_are_enough(queue: Arc<dyn HitlQueue>, looks_besides: usize) {
    let counted = Counted::new(queue);
    let begun = Instant::now();
    let agents: Vec<_> = (0..WAITING)
        .map(|n| {
            let gate = QueueHitlGate::new(counted.clone()).timeout(Duration::from_hours(1));
            tokio::spawn(async move { gate.request(&request(json!({"amount": n}))).await })
        })
        .collect();
    let mut changes = counted.changes();
    while counted.list(Which::Open).await.unwrap().len() < WAITING {
        changes.changed().await.unwrap();
    }
    let open = counted.list(Which::Open).await.unwrap();
    for (turn, entry) in open.iter().enumerate() {
        // A change that concerns one of those who wait, and one that concerns none.
        let ruling = Ruling::reject(&entry.args, None);
        assert!(matches!(
            counted.decide(&entry.id, &ruling).await.unwrap(),
            Decided::Done(_)
        ));
        let stranger = leash_hitl::conformance::entry(json!({"stranger": turn}));
        counted.enqueue(&stranger).await.unwrap();
    }
    for (n, agent) in agents.into_iter().enumerate() {
        let answer = agent.await.unwrap().unwrap();
        assert_eq!(answer.approval, Approval::rejected(format!("{{\"amount\":{n}}}")));
    }
    // Besides the changes: who begins to wait may look, and so does everybody together once a second.
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap();
    let changes = counted.changes.load(Ordering::SeqCst);
    let most: usize = [changes, WAITING, seconds, looks_besides].into_iter().sum();
    assert!(
        counted.reads() <= most,
        "{} looks, {most} at most",
        counted.reads()
    );
    // And what was read is what moved, not all that waits, at each of them.
    assert_eq!(counted.entries_read.load(Ordering::SeqCst), WAITING);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_wait_in_memory_a_change_is_looked_at_once() {
    each_is_answered_and_few_looks_are_enough(Arc::new(MemoryQueue::new()), 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_wait_at_a_file_a_change_is_looked_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let queue = SqliteQueue::open(folder.path().join("hitl.db")).await.unwrap();
    // A write is told of by whoever made it, and once more where the file is seen to have changed.
    each_is_answered_and_few_looks_are_enough(Arc::new(queue), 240).await;
}

/// Many who wait for one decision; then none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_looks_once_nobody_waits() {
    let counted = Counted::new(Arc::new(MemoryQueue::new()));
    let gate = QueueHitlGate::new(counted.clone()).timeout(Duration::from_hours(1));
    let agents: Vec<_> = (0..WAITING)
        .map(|_| {
            let gate = gate.clone();
            tokio::spawn(async move { gate.request(&request(json!({"amount": 1}))).await })
        })
        .collect();
    let mut changes = counted.changes();
    let entry = loop {
        if let Some(entry) = counted.list(Which::Open).await.unwrap().pop() {
            break entry;
        }
        changes.changed().await.unwrap();
    };
    counted
        .decide(&entry.id, &Ruling::reject("no", None))
        .await
        .unwrap();
    // Those that came after the decision put a question of their own.
    let mut answered = 0;
    for agent in &agents {
        while !agent.is_finished() {
            if let Some(entry) = counted.list(Which::Open).await.unwrap().pop() {
                counted
                    .decide(&entry.id, &Ruling::reject("no", None))
                    .await
                    .unwrap();
            }
            tokio::task::yield_now().await;
        }
        answered += 1;
    }
    assert_eq!(answered, WAITING);
    // The task that looked ends, and with it the last receiver of changes but ours.
    drop(gate);
    while Arc::strong_count(&counted) > 1 {
        tokio::task::yield_now().await;
    }
    let looks = counted.reads();
    counted
        .enqueue(&leash_hitl::conformance::entry(json!({"stranger": 1})))
        .await
        .unwrap();
    tokio::task::yield_now().await;
    assert_eq!(counted.reads(), looks);
}

/// A program may have several runtimes; those who wait in one are not forgotten when another ends.
#[test]
fn a_runtime_that_ends_takes_nobodys_answer_along() {
    let counted = Counted::new(Arc::new(MemoryQueue::new()));
    let gate = || QueueHitlGate::new(counted.clone()).timeout(Duration::from_hours(1));
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    };
    let (first, second) = (runtime(), runtime());
    let ask = |runtime: &tokio::runtime::Runtime, amount: u32| {
        let gate = gate();
        runtime.spawn(async move { gate.request(&request(json!({"amount": amount}))).await })
    };
    let wait_for = |count: usize| {
        second.block_on(async {
            let mut changes = counted.changes();
            while counted.list(Which::Open).await.unwrap().len() < count {
                changes.changed().await.unwrap();
            }
            counted.list(Which::Open).await.unwrap()
        })
    };
    let ended = ask(&first, 1);
    wait_for(1);
    let agent = ask(&second, 2);
    let open = wait_for(2);
    first.shutdown_background();
    drop(ended);
    let entry = open.iter().find(|entry| entry.args.contains('2')).unwrap();
    second.block_on(async {
        counted.decide(&entry.id, &Ruling::approve(None)).await.unwrap();
        assert_eq!(agent.await.unwrap().unwrap().approval, Approval::approved());
    });
}
