//! [`MemoryQueue`]: a queue within one process. Knows no file and no socket.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use leash_core::{Clock, StoreError, StoreErrorKind, SystemClock, Timestamp};
use tokio::sync::watch;

use crate::grant::MAX_GRANTS;
use crate::queue::MAX_OPEN;
use crate::{
    CallHash, Closing, Decided, Entry, Grant, GrantUse, HitlQueue, NewEntry, Ruling, Standing, Status, Which,
};

/// How many entries are kept for inspection, beyond those that are open.
const KEPT: usize = 10_000;

/// Keeps questions as long as the process lives.
///
/// For agents whose human sits in the same process: a terminal, a user interface.
pub struct MemoryQueue {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// In the order of asking.
    entries: BTreeMap<u64, Entry>,
    by_id: HashMap<String, u64>,
    /// The newest entry for a hash: an older one is decided.
    by_hash: HashMap<CallHash, u64>,
    next: u64,
    grants: Vec<Standing>,
}

impl State {
    fn find(&mut self, id: &str) -> Option<&mut Entry> {
        let turn = self.by_id.get(id)?;
        self.entries.get_mut(turn)
    }

    fn is_full(&self, now: Timestamp) -> bool {
        self.entries.len() >= MAX_OPEN
            && self.entries.values().filter(|entry| entry.is_open(now)).count() >= MAX_OPEN
    }

    fn keep(&mut self, entry: Entry, hash: CallHash) {
        let turn = self.next;
        self.next = turn.saturating_add(1);
        self.by_id.insert(entry.id.clone(), turn);
        self.by_hash.insert(hash, turn);
        self.entries.insert(turn, entry);
    }

    /// Lets go of the oldest that are closed, half of them at once.
    fn forget(&mut self, now: Timestamp) {
        if self.entries.len() < MAX_OPEN.saturating_add(KEPT) {
            return;
        }
        let closed = self.entries.iter().filter(|(_, entry)| !entry.is_open(now));
        let closed: Vec<u64> = closed.map(|(turn, _)| *turn).take(KEPT / 2).collect();
        for turn in closed {
            if let Some(entry) = self.entries.remove(&turn) {
                self.by_id.remove(&entry.id);
                if let Some(hash) = entry.call_hash
                    && self.by_hash.get(&hash) == Some(&turn)
                {
                    self.by_hash.remove(&hash);
                }
            }
        }
    }
}

impl Default for MemoryQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryQueue {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// An empty one by another clock.
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            state: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.changed.send_modify(|turn| *turn = turn.wrapping_add(1));
    }
}

impl fmt::Debug for MemoryQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryQueue")
            .field("entries", &self.lock().entries.len())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl HitlQueue for MemoryQueue {
    async fn enqueue(&self, new: &NewEntry) -> Result<Entry, StoreError> {
        let now = self.clock.now();
        let mut state = self.lock();
        let turn = state.by_hash.get(&new.call_hash).copied();
        if let Some(found) = turn.and_then(|turn| state.entries.get_mut(&turn))
            && !found.is_over(now)
        {
            match found.status {
                Status::Approved if found.consumed_at.is_none() => return Ok(found.clone()),
                Status::Pending => {
                    found.waits_until = found.waits_until.max(Some(now.saturating_add(new.wait)));
                    found.expires_at = found.expires_at.max(Some(now.saturating_add(new.valid_for)));
                    return Ok(found.clone());
                }
                Status::Approved | Status::Rejected => {}
            }
        }
        if state.is_full(now) {
            return Err(full());
        }
        let entry = Entry::made_of(new, now);
        if state.find(&entry.id).is_some() {
            return Err(StoreError::new(
                StoreErrorKind::Conflict,
                "ask a human: the id of the request is taken",
            ));
        }
        state.forget(now);
        state.keep(entry.clone(), new.call_hash);
        drop(state);
        self.tell();
        Ok(entry)
    }

    async fn decide(&self, id: &str, ruling: &Ruling) -> Result<Decided, StoreError> {
        let now = self.clock.now();
        let mut state = self.lock();
        let Some(entry) = state.find(id) else {
            return Ok(Decided::Unknown);
        };
        if !entry.is_open(now) {
            return Ok(Decided::NotPending(entry.clone()));
        }
        entry.status = ruling.status();
        entry.decision_reason = ruling.reason().map(str::to_owned);
        entry.operator = ruling.operator().map(str::to_owned);
        entry.decided_at = Some(now);
        let entry = entry.clone();
        drop(state);
        self.tell();
        Ok(Decided::Done(entry))
    }

    async fn consume(&self, id: &str, hash: &CallHash) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let mut state = self.lock();
        let Some(entry) = state.find(id) else {
            return Ok(false);
        };
        let fits = entry.status == Status::Approved
            && entry.consumed_at.is_none()
            && entry.call_hash.as_ref() == Some(hash)
            && !entry.is_over(now);
        if fits {
            entry.consumed_at = Some(now);
        }
        drop(state);
        if fits {
            self.tell();
        }
        Ok(fits)
    }

    async fn close(&self, id: &str, closing: &Closing) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let mut state = self.lock();
        let Some(entry) = state.find(id) else {
            return Ok(false);
        };
        let awaited = closing
            .unless_awaited_after
            .is_some_and(|mine| entry.waits_until.is_some_and(|until| until > mine));
        if entry.status != Status::Pending || awaited {
            return Ok(false);
        }
        entry.status = Status::Rejected;
        entry.decision_reason = Some(closing.reason.clone());
        entry.closed = Some(closing.why);
        entry.decided_at = Some(now);
        drop(state);
        self.tell();
        Ok(true)
    }

    async fn get(&self, id: &str) -> Result<Option<Entry>, StoreError> {
        Ok(self.lock().find(id).cloned())
    }

    async fn moved(&self, ids: &[String]) -> Result<Vec<(String, Option<Entry>)>, StoreError> {
        let mut state = self.lock();
        let moved = ids.iter().filter_map(|id| match state.find(id) {
            Some(entry) if entry.status == Status::Pending => None,
            found => Some((id.clone(), found.cloned())),
        });
        Ok(moved.collect())
    }

    async fn list(&self, which: Which) -> Result<Vec<Entry>, StoreError> {
        let now = self.clock.now();
        let state = self.lock();
        let entries = state.entries.values();
        Ok(match which {
            Which::Open => entries.filter(|entry| entry.is_open(now)).cloned().collect(),
            Which::All => entries.take(MAX_OPEN).cloned().collect(),
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    async fn add_grant(&self, grant: &Grant) -> Result<bool, StoreError> {
        check(grant)?;
        let now = self.clock.now();
        let mut state = self.lock();
        if state
            .grants
            .iter()
            .any(|standing| standing.grant.name == grant.name)
        {
            return Ok(false);
        }
        if state.grants.len() >= MAX_GRANTS {
            return Err(full());
        }
        state.grants.push(Standing::new(grant.clone(), now));
        Ok(true)
    }

    async fn grants(&self) -> Result<Vec<Standing>, StoreError> {
        Ok(self.lock().grants.clone())
    }

    async fn use_grant(&self, name: &str) -> Result<Option<GrantUse>, StoreError> {
        let now = self.clock.now();
        let mut state = self.lock();
        let standing = state
            .grants
            .iter_mut()
            .find(|standing| standing.grant.name == name && standing.is_usable(now));
        Ok(standing.map(|standing| {
            standing.used = standing.used.saturating_add(1);
            GrantUse {
                name: standing.grant.name.clone(),
                used: standing.used,
                times: standing.grant.times,
                operator: standing.grant.operator.clone(),
            }
        }))
    }

    async fn revoke_grant(&self, name: &str) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let mut state = self.lock();
        let standing = state
            .grants
            .iter_mut()
            .find(|standing| standing.grant.name == name && standing.revoked_at.is_none());
        Ok(standing.map(|standing| standing.revoked_at = Some(now)).is_some())
    }
}

pub(crate) fn full() -> StoreError {
    StoreError::new(
        StoreErrorKind::Full,
        "keep it in the approval queue: the queue is full",
    )
}

/// Refuses a grant that says too little.
pub(crate) fn check(grant: &Grant) -> Result<(), StoreError> {
    grant
        .check()
        .map_err(|error| StoreError::new(StoreErrorKind::Conflict, "keep a grant").with_source(error))
}
