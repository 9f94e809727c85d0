//! Who is asked: the trait [`HitlGate`], and the gate in memory.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use leash_core::{Call, Decision, Digest, RequestId, StoreError};

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
}

/// What a human said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approval {
    /// The call may go on, once.
    Approved {
        /// Who approved, where known.
        operator: Option<String>,
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

/// Asks a human and waits for the answer.
///
/// Its contract: it ends in bounded time, and returns [`Approval::Approved`] only where a human approved exactly
/// the request it was given. Silence is [`Approval::Expired`].
#[async_trait]
pub trait HitlGate: fmt::Debug + Send + Sync + 'static {
    /// Asks, and waits.
    ///
    /// # Errors
    /// [`StoreError`] when nobody could be asked: the call is refused.
    async fn request(&self, request: &ApprovalRequest) -> Result<Approval, StoreError>;
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
            answer: Approval::Approved { operator: None },
            requests: Mutex::default(),
        }
    }

    /// Rejects everything, because of `reason`.
    #[must_use]
    pub fn rejecting(reason: impl Into<String>) -> Self {
        Self {
            answer: Approval::Rejected {
                reason: reason.into(),
                operator: None,
            },
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
    async fn request(&self, request: &ApprovalRequest) -> Result<Approval, StoreError> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() < KEPT {
            requests.push(request.clone());
        }
        Ok(self.answer.clone())
    }
}
