//! One question to a human, as a queue keeps it: [`NewEntry`], [`Entry`], [`Ruling`]. Knows no queue.

use std::fmt;
use std::time::Duration;

use leash_core::{RequestId, Timestamp};

use crate::CallHash;

/// What a queue is asked to keep.
#[derive(Clone)]
pub struct NewEntry {
    /// Its id, unless it joins an entry that is open for the same call.
    pub id: RequestId,
    /// The session.
    pub session_id: String,
    /// The tenant, where there is one.
    pub tenant_id: Option<String>,
    /// The tool's name.
    pub tool: String,
    /// What is shown: canonical JSON.
    pub args: String,
    /// The rule that asks.
    pub rule_id: String,
    /// Why it asks.
    pub reason: String,
    /// What an approval is bound to.
    pub call_hash: CallHash,
    /// Which rules and which redaction are in force.
    pub policy_version: String,
    /// How long somebody will wait for an answer.
    pub wait: Duration,
    /// How long an answer is good, counted from now.
    pub valid_for: Duration,
}

/// Shows no argument.
impl fmt::Debug for NewEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewEntry")
            .field("id", &self.id)
            .field("session_id", &self.session_id)
            .field("tool", &self.tool)
            .field("call_hash", &self.call_hash)
            .finish_non_exhaustive()
    }
}

/// The status that the original knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Nobody decided.
    Pending,
    /// A human approved.
    Approved,
    /// A human rejected, or nobody did: see [`Entry::closed`].
    Rejected,
}

impl Status {
    /// As queues write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
        }
    }

    /// Reads what queues write. An unknown word is no approval.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        match text {
            "pending" => Self::Pending,
            "approved" => Self::Approved,
            _ => Self::Rejected,
        }
    }
}

/// Why an entry was closed without a human.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Closed {
    /// Nobody answered in time.
    Expired,
    /// Whoever asked no longer wants to know: it was killed, or went away.
    Withdrawn,
}

impl Closed {
    /// As queues write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// Reads what queues write.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        match text {
            "expired" => Some(Self::Expired),
            "withdrawn" => Some(Self::Withdrawn),
            _ => None,
        }
    }
}

/// A question to a human, and what became of it.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// Its id: a UUID where we made it, any text where another program did.
    pub id: String,
    /// When it was asked, to the microsecond.
    pub created_at: Timestamp,
    /// The same in seconds since 1970, as the original writes it, which may be finer.
    pub created_ts: f64,
    /// The session.
    pub session_id: String,
    /// The tenant, where there is one.
    pub tenant_id: Option<String>,
    /// The tool's name.
    pub tool: String,
    /// What is shown: JSON, canonical where we wrote it.
    pub args: String,
    /// The rule that asks.
    pub rule_id: String,
    /// Why it asks.
    pub reason: String,
    /// Where it stands.
    pub status: Status,
    /// Why it was rejected.
    pub decision_reason: Option<String>,
    /// What an approval is bound to; `None` where another program asked, and then nobody here can consume it.
    pub call_hash: Option<CallHash>,
    /// Which rules and which redaction were in force.
    pub policy_version: String,
    /// Until when somebody waits for the answer.
    pub waits_until: Option<Timestamp>,
    /// Until when it can be decided, and the approval consumed.
    pub expires_at: Option<Timestamp>,
    /// When it was decided.
    pub decided_at: Option<Timestamp>,
    /// Who decided.
    pub operator: Option<String>,
    /// When the approval was used up.
    pub consumed_at: Option<Timestamp>,
    /// Why it was closed without a human.
    pub closed: Option<Closed>,
}

impl Entry {
    /// The entry that `new` makes at `now`.
    #[must_use]
    pub fn made_of(new: &NewEntry, now: Timestamp) -> Self {
        Self {
            id: new.id.to_string(),
            created_at: now,
            created_ts: crate::moments::seconds(now),
            session_id: new.session_id.clone(),
            tenant_id: new.tenant_id.clone(),
            tool: new.tool.clone(),
            args: new.args.clone(),
            rule_id: new.rule_id.clone(),
            reason: new.reason.clone(),
            status: Status::Pending,
            decision_reason: None,
            call_hash: Some(new.call_hash),
            policy_version: new.policy_version.clone(),
            waits_until: Some(now.saturating_add(new.wait)),
            expires_at: Some(now.saturating_add(new.valid_for)),
            decided_at: None,
            operator: None,
            consumed_at: None,
            closed: None,
        }
    }

    /// Whether it is past its time at `now`.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Whether a human may still decide it at `now`.
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.status == Status::Pending && !self.is_over(now)
    }

    /// Whether the hash that it carries is that of what it shows. `None` where it carries none.
    #[must_use]
    pub fn shows_what_is_hashed(&self) -> Option<bool> {
        let hash = crate::Binding {
            tool: &self.tool,
            shown: &self.args,
            session_id: &self.session_id,
            tenant_id: self.tenant_id.as_deref(),
            rule_id: &self.rule_id,
            policy_version: &self.policy_version,
        }
        .hash();
        self.call_hash.map(|stored| stored == hash)
    }
}

/// Shows no argument.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("id", &self.id)
            .field("session_id", &self.session_id)
            .field("tool", &self.tool)
            .field("status", &self.status)
            .field("closed", &self.closed)
            .field("consumed_at", &self.consumed_at)
            .finish_non_exhaustive()
    }
}

/// What a human decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// The call may be made, once.
    Approve {
        /// Who says so.
        operator: Option<String>,
    },
    /// It may not.
    Reject {
        /// Why; the agent is told.
        reason: String,
        /// Who says so.
        operator: Option<String>,
    },
}

/// The longest reason and name of an operator that is kept, in bytes; the rest is cut off.
pub const MAX_REASON_BYTES: usize = 4096;

impl Ruling {
    /// Approves.
    #[must_use]
    pub fn approve(operator: Option<&str>) -> Self {
        Self::Approve {
            operator: operator.map(clip),
        }
    }

    /// Rejects, because of `reason`.
    #[must_use]
    pub fn reject(reason: &str, operator: Option<&str>) -> Self {
        Self::Reject {
            reason: clip(reason),
            operator: operator.map(clip),
        }
    }

    /// The status it leads to.
    #[must_use]
    pub const fn status(&self) -> Status {
        match self {
            Self::Approve { .. } => Status::Approved,
            Self::Reject { .. } => Status::Rejected,
        }
    }

    /// The reason of a rejection.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Approve { .. } => None,
            Self::Reject { reason, .. } => Some(reason),
        }
    }

    /// Who says so.
    #[must_use]
    pub fn operator(&self) -> Option<&str> {
        match self {
            Self::Approve { operator } | Self::Reject { operator, .. } => operator.as_deref(),
        }
    }
}

/// The start of `text`, at most [`MAX_REASON_BYTES`] of it.
pub(crate) fn clip(text: &str) -> String {
    let mut end = MAX_REASON_BYTES.min(text.len());
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// What became of a ruling.
#[derive(Clone, Debug, PartialEq)]
pub enum Decided {
    /// It stands.
    Done(Entry),
    /// The entry was decided, withdrawn or over before; as it stands.
    NotPending(Entry),
    /// There is no such entry.
    Unknown,
}

/// How a program closes an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// Why.
    pub why: Closed,
    /// What is told to whoever looks.
    pub reason: String,
    /// Close it only if nobody waits longer than this; `None` closes it in any case.
    pub unless_awaited_after: Option<Timestamp>,
}

/// Which entries to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those that can be decided, oldest first.
    Open,
    /// All that are kept, oldest first.
    All,
}
