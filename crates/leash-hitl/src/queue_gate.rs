//! [`QueueHitlGate`]: asks through a queue that any number of programs and people share.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use leash_core::{IdGenerator, RequestId, StoreError, StoreErrorKind, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::binding::{Readable, readable_settings};
use crate::gate::timed_out;
use crate::waiting::Watcher;
use crate::{
    Approval, ApprovalRequest, CallHash, Closed, Closing, Entry, HitlAnswer, HitlGate, HitlQueue, NewEntry,
    ResumeError, ResumeKey, Ruling, Shown, Status, resume,
};

/// How long an approval is good where nothing else was set, counted from the question.
const VALID_FOR: Duration = Duration::from_mins(10);
/// How often a queue is asked that says nothing by itself.
const POLL: Duration = Duration::from_secs(1);

/// Asks through a [`HitlQueue`], and waits: 60 s where nothing else was set.
///
/// An approval is bound to the [hash](crate::Binding) of what the human saw, and used up by the first call that it
/// fits. It outlives this process: the same call, made again, finds what was decided meanwhile. The same call made
/// twice at once is one question; the approval lets one of the two through, and the other asks anew.
///
/// However many calls of this process wait, in however many gates of one queue, the queue is looked at once for each
/// change.
#[derive(Clone, Debug)]
pub struct QueueHitlGate {
    queue: Arc<dyn HitlQueue>,
    watcher: Arc<Watcher>,
    timeout: Duration,
    poll: Duration,
    valid_for: Duration,
    readable: Readable,
    links: Option<ResumeKey>,
}

impl QueueHitlGate {
    /// Asks through `queue`.
    #[must_use]
    pub fn new(queue: Arc<dyn HitlQueue>) -> Self {
        Self {
            watcher: Watcher::of(&queue),
            queue,
            timeout: Duration::from_mins(1),
            poll: POLL,
            valid_for: VALID_FOR,
            readable: Readable::default(),
            links: None,
        }
    }

    /// How long to wait for a human.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How often to ask a queue that says nothing by itself; a second at most.
    #[must_use]
    pub fn poll_interval(mut self, poll: Duration) -> Self {
        self.poll = poll.clamp(Duration::from_millis(1), POLL);
        self
    }

    /// How long an approval is good, counted from the question; never shorter than the wait. 10 minutes where nothing
    /// else was set.
    #[must_use]
    pub const fn valid_for(mut self, valid_for: Duration) -> Self {
        self.valid_for = valid_for;
        self
    }

    readable_settings!();

    /// Takes tokens that `key` made, in [`HitlGate::resume`]. Without a key it takes none.
    #[must_use]
    pub fn resume_key(mut self, key: ResumeKey) -> Self {
        self.links = Some(key);
        self
    }

    /// The queue.
    #[must_use]
    pub fn queue(&self) -> &Arc<dyn HitlQueue> {
        &self.queue
    }

    async fn granted(
        &self,
        request: &ApprovalRequest,
        shown: &Shown,
        hash: &CallHash,
    ) -> Result<Option<Said>, StoreError> {
        let session = request.call.caller().session_id.as_str();
        for standing in self.queue.grants().await? {
            let name = &standing.grant.name;
            if !standing.grant.fits(session, shown, hash) {
                continue;
            }
            if let Some(used) = self.queue.use_grant(name).await? {
                let approval = Approval::Approved {
                    operator: used.operator.clone(),
                    grant: Some(used),
                };
                return Ok(Some((approval, Some(standing.grant.until))));
            }
        }
        Ok(None)
    }

    /// Waits until the entry moves or the time is over; `None` where the question has to be put anew.
    ///
    /// `changes` was asked for before the entry was, so nothing falls between the two.
    async fn wait(
        &self,
        entry: Entry,
        changes: &watch::Receiver<u64>,
        hash: &CallHash,
        until: Instant,
    ) -> Result<Option<Said>, StoreError> {
        if entry.status != Status::Pending {
            return self.concluded(&entry, hash).await;
        }
        let has_changed = changes.has_changed().unwrap_or(true);
        let mut waiting = self.watcher.join(&entry.id, self.poll, has_changed);
        let moved = tokio::select! {
            moved = waiting.moved() => moved,
            () = sleep_until(until) => return self.expire(&entry.id, entry.waits_until, hash).await,
        };
        match moved {
            Some(moved) => self.concluded(&moved, hash).await,
            // Somebody took it out of the queue.
            None => Ok(Some((Approval::rejected("unknown request_id"), None))),
        }
    }

    /// What an entry that is no longer pending means; `None` where the question has to be put anew.
    async fn concluded(&self, entry: &Entry, hash: &CallHash) -> Result<Option<Said>, StoreError> {
        match (entry.status, entry.closed) {
            (Status::Approved, None) => {
                // Of those who wait for one approval one gets it.
                let consumed = entry.consumed_at.is_none() && self.queue.consume(&entry.id, hash).await?;
                let approval = Approval::Approved {
                    operator: entry.operator.clone(),
                    grant: None,
                };
                Ok(consumed.then_some((approval, entry.expires_at)))
            }
            (Status::Rejected, None) => {
                let approval = Approval::Rejected {
                    reason: entry
                        .decision_reason
                        .clone()
                        .filter(|reason| !reason.is_empty())
                        .unwrap_or_else(|| "rejected by human".to_owned()),
                    operator: entry.operator.clone(),
                };
                Ok(Some((approval, None)))
            }
            // Another who waited for the same gave up; we did not.
            _ => Ok(None),
        }
    }

    async fn expire(
        &self,
        id: &str,
        waits_until: Option<Timestamp>,
        hash: &CallHash,
    ) -> Result<Option<Said>, StoreError> {
        let reason = timed_out(self.timeout);
        let closing = Closing {
            why: Closed::Expired,
            reason: reason.clone(),
            unless_awaited_after: waits_until,
        };
        let closed = self.queue.close(id, &closing).await?;
        if !closed && let Some(entry) = self.queue.get(id).await? {
            // Decided at the last moment, or still awaited by somebody else.
            if entry.status != Status::Pending
                && let Some(said) = self.concluded(&entry, hash).await?
            {
                return Ok(Some(said));
            }
        }
        Ok(Some((Approval::Expired { reason }, None)))
    }
}

#[async_trait]
impl HitlGate for QueueHitlGate {
    async fn resume(&self, token: &str, ruling: &Ruling) -> Result<Entry, ResumeError> {
        let key = self.links.as_ref().ok_or(ResumeError::NoLinks)?;
        resume(self.queue.as_ref(), key, token, ruling).await
    }

    async fn request(&self, request: &ApprovalRequest) -> Result<HitlAnswer, StoreError> {
        let until = Instant::now().checked_add(self.timeout).ok_or_else(|| {
            StoreError::new(
                StoreErrorKind::Conflict,
                "wait for a human: the time-out is too long",
            )
        })?;
        let shown = match self.readable.shown(request)? {
            Ok(shown) => shown,
            Err(masked) => return Ok(Approval::rejected(masked).answers(request)),
        };
        let caller = request.call.caller();
        let rule_id = &*request.decision.rule_id;
        let hash = shown.hash(caller, rule_id, &request.policy_version);
        if let Some((approval, good_until)) = self.granted(request, &shown, &hash).await? {
            return Ok(HitlAnswer {
                good_until,
                ..approval.answers(request)
            });
        }
        let mut new = NewEntry {
            id: request.id,
            session_id: caller.session_id.as_str().to_owned(),
            tenant_id: caller.tenant_id.as_ref().map(|tenant| tenant.as_str().to_owned()),
            tool: shown.tool().to_owned(),
            args: shown.canonical().to_owned(),
            rule_id: rule_id.to_owned(),
            reason: request.decision.reason.clone().into_owned(),
            call_hash: hash,
            policy_version: request.policy_version.as_ref().to_owned(),
            wait: self.timeout,
            valid_for: self.valid_for.max(self.timeout),
        };
        // A second question of the same request needs an id of its own.
        let ids = IdGenerator::from_os();
        let mut guard = Withdraw {
            queue: self.queue.clone(),
            runtime: Handle::try_current().ok(),
            open: None,
        };
        let mut changes = self.queue.changes();
        loop {
            // Before the queue is asked: who is dropped while it answers leaves nothing behind.
            guard.open = Some((new.id.to_string(), None));
            changes.mark_unchanged();
            let entry = self.queue.enqueue(&new).await?;
            guard.open = Some((entry.id.clone(), entry.waits_until));
            let request_id: RequestId = entry.id.parse().map_err(|error| {
                StoreError::new(StoreErrorKind::Corrupt, "read an approval queue").with_source(error)
            })?;
            let said = self.wait(entry, &changes, &hash, until).await?;
            guard.open = None;
            if let Some((approval, good_until)) = said {
                return Ok(HitlAnswer {
                    request_id,
                    approval,
                    good_until,
                });
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let reason = timed_out(self.timeout);
                return Ok(HitlAnswer {
                    request_id,
                    approval: Approval::Expired { reason },
                    good_until: None,
                });
            }
            new.id = ids.request(Timestamp::from_unix_micros(time_of(new.id)).unwrap_or(Timestamp::EPOCH));
            new.wait = left;
        }
    }
}

/// What was said, and until when an approval is good.
type Said = (Approval, Option<Timestamp>);

/// Microseconds since 1970 of a UUID, version 7: the next id of the same request sorts beside its first.
fn time_of(id: RequestId) -> i64 {
    i64::try_from(id.as_u128() >> 80)
        .unwrap_or(0)
        .saturating_mul(1000)
}

/// Takes a question back when nobody waits for its answer any longer.
struct Withdraw {
    queue: Arc<dyn HitlQueue>,
    runtime: Option<Handle>,
    /// The entry, and until when we wait for it.
    open: Option<(String, Option<Timestamp>)>,
}

impl Drop for Withdraw {
    fn drop(&mut self) {
        let (Some((id, waits_until)), Some(runtime)) = (self.open.take(), &self.runtime) else {
            return;
        };
        let queue = self.queue.clone();
        runtime.spawn(async move {
            let closing = Closing {
                why: Closed::Withdrawn,
                reason: "hitl: withdrawn".to_owned(),
                unless_awaited_after: waits_until,
            };
            if let Err(error) = queue.close(&id, &closing).await {
                tracing::warn!(target: "llm_leash", %error, "failed to withdraw a request for approval");
            }
        });
    }
}
