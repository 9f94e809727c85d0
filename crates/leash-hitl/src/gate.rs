//! Who is asked: the trait [`HitlGate`], and the gate in memory.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use leash_core::{Call, Decision, Digest, RequestId, StoreError, Timestamp, canonical};

use crate::{Entry, GrantUse, ResumeError, Ruling};

/// What a human is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalRequest {
    /// This request.
    pub id: RequestId,
    /// The call as it will leave, after redaction.
    pub call: Call,
    /// The log's `request_hash` of the call: what is approved is exactly this.
    pub request_digest: Digest,
    /// The rule that asks, and why.
    pub decision: Decision,
    /// Which rules and which redaction are in force: an approval under other ones does not fit. Empty where there
    /// are no versions.
    pub policy_version: Arc<str>,
}

/// What a human said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approval {
    /// The call may go on, once.
    Approved {
        /// Who approved, where known; for a grant, who gave it.
        operator: Option<String>,
        /// The use of a grant that stood for a human's answer, where nobody was asked.
        grant: Option<GrantUse>,
    },
    /// It may not.
    Rejected {
        /// Why; the agent is told.
        reason: String,
        /// Who rejected, where known.
        operator: Option<String>,
    },
    /// Nobody answered in time.
    Expired {
        /// How long was waited, for people.
        reason: String,
    },
}

/// An answer, and under which id it is found again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HitlAnswer {
    /// The entry that was decided. Not the id of the request where it joined an entry that was open already.
    pub request_id: RequestId,
    /// What was said.
    pub approval: Approval,
    /// Until when an approval is good, where the gate knows: of a call that a model asked for and that is made later.
    pub good_until: Option<Timestamp>,
}

impl Approval {
    /// A human approved, nobody knows who.
    #[must_use]
    pub const fn approved() -> Self {
        Self::Approved {
            operator: None,
            grant: None,
        }
    }

    /// A human rejected, nobody knows who.
    #[must_use]
    pub fn rejected(reason: impl Into<String>) -> Self {
        Self::Rejected {
            reason: reason.into(),
            operator: None,
        }
    }

    /// This, as the answer to `request` itself.
    #[must_use]
    pub const fn answers(self, request: &ApprovalRequest) -> HitlAnswer {
        HitlAnswer {
            request_id: request.id,
            approval: self,
            good_until: None,
        }
    }
}

/// Asks a human and waits for the answer.
///
/// Its contract: it ends in bounded time, and answers [`Approval::Approved`] only where a human approved exactly
/// the request it was given, once for each approval. Silence is [`Approval::Expired`]. Dropping the future takes the
/// question back.
#[async_trait]
pub trait HitlGate: fmt::Debug + Send + Sync + 'static {
    /// Asks, and waits.
    ///
    /// # Errors
    /// [`StoreError`] when nobody could be asked: the call is refused.
    async fn request(&self, request: &ApprovalRequest) -> Result<HitlAnswer, StoreError>;

    /// Decides the request that `token` names, whoever waits for it, in this process or another; gives the entry as it
    /// then stands. Only what makes and checks tokens can: the others answer [`ResumeError::NoLinks`].
    ///
    /// # Errors
    /// [`ResumeError`] where nothing was decided.
    async fn resume(&self, token: &str, ruling: &Ruling) -> Result<Entry, ResumeError> {
        let _ = (token, ruling);
        Err(ResumeError::NoLinks)
    }
}

/// Why nobody answered, the seconds as the original writes them: `hitl: timeout after 60.0s`.
pub(crate) fn timed_out(after: Duration) -> String {
    let mut reason = String::from("hitl: timeout after ");
    canonical::write_f64(&mut reason, after.as_secs_f64());
    reason.push('s');
    reason
}

/// How many requests the gate in memory keeps.
const KEPT: usize = 10_000;

/// Answers every request alike, and keeps the first 10,000 of them. For tests and dry runs.
#[derive(Debug)]
pub struct InMemoryHitlGate {
    answer: Approval,
    requests: Mutex<Vec<ApprovalRequest>>,
}

impl InMemoryHitlGate {
    /// Approves everything.
    #[must_use]
    pub fn approving() -> Self {
        Self {
            answer: Approval::approved(),
            requests: Mutex::default(),
        }
    }

    /// Rejects everything, because of `reason`.
    #[must_use]
    pub fn rejecting(reason: impl Into<String>) -> Self {
        Self {
            answer: Approval::rejected(reason),
            requests: Mutex::default(),
        }
    }

    /// What it was asked.
    #[must_use]
    pub fn requests(&self) -> Vec<ApprovalRequest> {
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[async_trait]
impl HitlGate for InMemoryHitlGate {
    async fn request(&self, request: &ApprovalRequest) -> Result<HitlAnswer, StoreError> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() < KEPT {
            requests.push(request.clone());
        }
        Ok(self.answer.clone().answers(request))
    }
}
