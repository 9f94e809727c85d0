//! What the tests share: a log read back, calls, and parts that fail on purpose.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use leash_budget::{
    Balance, BudgetStore, Expired, Hit, Hits, Hold, MemoryStore, ModelPrice, Price, PriceTable, Reserve,
    Scope, ScopeKey, Settled, Settlement, Written,
};
use leash_core::{
    Clock, Digest, ModelCall, ReservationId, StoreError, StoreErrorKind, SystemClock, Timestamp, Usage, Usd,
};
use leash_firewall::{Answer, Firewall, FirewallBuilder};
use serde_json::Value;

/// A log in a directory of its own.
pub(crate) struct Log {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Log {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        Self { _dir: dir, path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Every line, after the chain was verified.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let report = leash_audit::verify(&self.path, &leash_audit::VerifyOptions::default()).unwrap();
        assert!(report.is_ok(), "{report:?}");
        let text = std::fs::read_to_string(&self.path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    pub(crate) fn of_kind(&self, kind: &str) -> Vec<Value> {
        self.lines()
            .into_iter()
            .filter(|line| line["kind"] == kind)
            .collect()
    }

    /// How many refusals the log tells of, counted ones included.
    pub(crate) fn refusals(&self) -> u64 {
        self.of_kind("refusal")
            .iter()
            .map(|line| line["count"].as_u64().unwrap_or(1))
            .sum()
    }

    /// What the calls in the log cost together.
    pub(crate) fn cost(&self) -> Usd {
        let calls = self
            .lines()
            .into_iter()
            .filter(|line| line["kind"] == "model_call" || line["kind"] == "tool_call");
        calls
            .filter_map(|line| line["cost_usd"].as_f64())
            .fold(Usd::ZERO, |sum, cost| {
                sum.checked_add(Usd::from_f64(cost).unwrap()).unwrap()
            })
    }
}

pub(crate) fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

/// A table in which `p/cent` costs one cent for an output token and nothing else.
pub(crate) fn cents() -> PriceTable {
    let per_million = |text: &str| Price::per_million(usd(text));
    PriceTable::empty().with_price("p", "cent", ModelPrice::flat(Price::FREE, per_million("10000")))
}

pub(crate) fn builder() -> FirewallBuilder {
    Firewall::builder().prices(cents())
}

/// A call that costs at most so many cents.
pub(crate) fn call(firewall: &Firewall, cents: u64) -> ModelCall {
    let messages = serde_json::json!([{"role": "user", "content": "a secret that must not be logged"}]);
    ModelCall::new("p", "cent", messages, cents, firewall.caller().clone())
}

/// A whole answer that cost so many cents.
pub(crate) fn used(cents: u64) -> Answer {
    let usage = Usage {
        output_tokens: cents,
        ..Usage::default()
    };
    Answer::reported(usage, Digest::EMPTY)
}

/// Makes a call that may cost so many cents and does; whether it was admitted.
pub(crate) async fn spend(firewall: &Firewall, cents: u64) -> bool {
    match firewall.admit(call(firewall, cents)).await {
        Ok(admission) => {
            admission.settle(used(cents)).await;
            true
        }
        Err(_) => false,
    }
}

/// A clock that goes only where it is set.
#[derive(Debug)]
pub(crate) struct HandClock(AtomicI64);

impl HandClock {
    pub(crate) fn at(text: &str) -> Arc<Self> {
        let at: Timestamp = text.parse().unwrap();
        Arc::new(Self(AtomicI64::new(at.as_unix_micros())))
    }

    pub(crate) fn set(&self, text: &str) {
        let at: Timestamp = text.parse().unwrap();
        self.0.store(at.as_unix_micros(), Ordering::SeqCst);
    }

    pub(crate) fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap();
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_micros(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

/// A store that fails now and then: before it did what it was asked, or after.
#[derive(Debug)]
pub(crate) struct FaultyStore {
    inner: MemoryStore,
    turn: AtomicU64,
    /// Fails where the turn's hash is below this, of 256.
    pub(crate) faults: AtomicU64,
    is_durable: bool,
}

impl FaultyStore {
    pub(crate) fn new(faults: u64) -> Arc<Self> {
        Self::with_clock(faults, Arc::new(SystemClock))
    }

    pub(crate) fn with_clock(faults: u64, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryStore::new(clock),
            turn: AtomicU64::new(0),
            faults: AtomicU64::new(faults),
            is_durable: false,
        })
    }

    /// One that never fails and says that it keeps what it is told.
    pub(crate) fn durable(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryStore::new(clock),
            turn: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            is_durable: true,
        })
    }

    pub(crate) fn heal(&self) {
        self.faults.store(0, Ordering::SeqCst);
    }

    async fn fault<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let turn = self
            .turn
            .fetch_add(1, Ordering::SeqCst)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let fails = (turn >> 56) < self.faults.load(Ordering::SeqCst);
        let error = || StoreError::new(StoreErrorKind::Timeout, "reach the store");
        if fails && turn & 1 == 0 {
            return Err(error());
        }
        let done = work.await;
        tokio::task::yield_now().await;
        if fails { Err(error()) } else { done }
    }
}

#[async_trait]
impl BudgetStore for FaultyStore {
    fn is_durable(&self) -> bool {
        self.is_durable
    }

    async fn reserve(&self, hold: &Hold) -> Result<Reserve, StoreError> {
        self.fault(self.inner.reserve(hold)).await
    }

    async fn settle(&self, settlement: &Settlement) -> Result<Settled, StoreError> {
        self.fault(self.inner.settle(settlement)).await
    }

    async fn release(&self, id: ReservationId) -> Result<(), StoreError> {
        self.fault(self.inner.release(id)).await
    }

    async fn renew(&self, id: ReservationId, lease: Duration) -> Result<(), StoreError> {
        self.fault(self.inner.renew(id, lease)).await
    }

    async fn expire(&self, limit: usize) -> Result<Vec<Expired>, StoreError> {
        self.inner.expire(limit).await
    }

    async fn confirm(&self, lines: &[Written]) -> Result<(), StoreError> {
        self.fault(self.inner.confirm(lines)).await
    }

    async fn balances(&self, scopes: &[Scope]) -> Result<Vec<Balance>, StoreError> {
        self.inner.balances(scopes).await
    }

    async fn close(&self, key: &ScopeKey) -> Result<Balance, StoreError> {
        self.fault(self.inner.close(key)).await
    }

    async fn hit(&self, hit: &Hit) -> Result<Hits, StoreError> {
        self.fault(self.inner.hit(hit)).await
    }
}
