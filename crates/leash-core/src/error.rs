//! How a call is refused: [`LeashError`]; and how a store fails: [`StoreError`].

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

/// Rule ids of refusals that no rule made.
pub mod rule_ids {
    /// A kill order stands.
    pub const KILL: &str = "kill:registry";
    /// The bound of a call does not fit under a cap.
    pub const PRE_CALL_ESTIMATE: &str = "budget:pre_call_estimate";
    /// An earlier call broke a cap.
    pub const HARD_CAP: &str = "budget:hard_cap";
    /// The model has no price.
    pub const NO_PRICE: &str = "budget:no_price";
    /// The call's cost has no upper bound.
    pub const NO_BOUND: &str = "budget:no_bound";
    /// A cap is over tenants or agents, and the caller has none.
    pub const NO_PARTY: &str = "budget:no_party";
    /// A part of a budget that was granted cannot be taken, spent or given back.
    pub const GRANT: &str = "budget:grant";
    /// The budget store could not tell.
    pub const BUDGET_STORE: &str = "budget:store";
    /// The kill registry could not tell.
    pub const KILL_REGISTRY: &str = "kill:unavailable";
    /// The audit log could not be written.
    pub const AUDIT: &str = "audit:unavailable";
    /// No rule decided.
    pub const DEFAULT: &str = "engine:default";
    /// The redactor failed, or changed what it must not.
    pub const REDACT: &str = "redact";
    /// A rule asked for a human and no gate is configured, or the gate failed.
    pub const HITL_GATE: &str = "hitl:gate";
    /// A human did not answer in time.
    pub const HITL_TIMEOUT: &str = "hitl:timeout";
    /// Too many calls at once, or the firewall is closed.
    pub const CAPACITY: &str = "firewall:capacity";
    /// The request or the response could not be understood.
    pub const WIRE: &str = "wire";
}

/// Why a call was not let through. "No" is an answer, not a fault: each carries the rule and the reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeashError {
    /// Stopped by a kill order, or for money.
    #[error("killed by `{rule_id}`: {reason}")]
    Killed {
        /// [`rule_ids::KILL`], or one of the `budget:` ids.
        rule_id: Cow<'static, str>,
        /// The order's reason, or the sums.
        reason: Cow<'static, str>,
    },
    /// Stopped by a rule.
    #[error("blocked by `{rule_id}`: {reason}")]
    Blocked {
        /// The rule.
        rule_id: Cow<'static, str>,
        /// Its reason.
        reason: Cow<'static, str>,
    },
    /// A rule asked for a human, and none approved.
    #[error("rejected by human (`{rule_id}`): {reason}")]
    RejectedByHuman {
        /// The asking rule, or [`rule_ids::HITL_TIMEOUT`].
        rule_id: Cow<'static, str>,
        /// The human's reason, or why nobody was asked.
        reason: Cow<'static, str>,
    },
    /// Something that must be asked could not answer, so the call is refused.
    #[error("refused by `{rule_id}`: {source}")]
    Unavailable {
        /// What could not answer.
        rule_id: Cow<'static, str>,
        /// Why not.
        source: StoreError,
    },
}

impl LeashError {
    /// A refusal for money or by a kill order.
    #[must_use]
    pub fn killed(rule_id: impl Into<Cow<'static, str>>, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Killed {
            rule_id: rule_id.into(),
            reason: reason.into(),
        }
    }

    /// A refusal by a rule.
    #[must_use]
    pub fn blocked(rule_id: impl Into<Cow<'static, str>>, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Blocked {
            rule_id: rule_id.into(),
            reason: reason.into(),
        }
    }

    /// A refusal because no human approved.
    #[must_use]
    pub fn rejected(rule_id: impl Into<Cow<'static, str>>, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::RejectedByHuman {
            rule_id: rule_id.into(),
            reason: reason.into(),
        }
    }

    /// A refusal because something could not answer.
    #[must_use]
    pub fn unavailable(rule_id: impl Into<Cow<'static, str>>, source: StoreError) -> Self {
        Self::Unavailable {
            rule_id: rule_id.into(),
            source,
        }
    }

    /// Which rule refused.
    #[must_use]
    pub fn rule_id(&self) -> &str {
        match self {
            Self::Killed { rule_id, .. }
            | Self::Blocked { rule_id, .. }
            | Self::RejectedByHuman { rule_id, .. }
            | Self::Unavailable { rule_id, .. } => rule_id,
        }
    }

    /// Why, for people. Holds no secret and quotes no input.
    #[must_use]
    pub fn reason(&self) -> Cow<'_, str> {
        match self {
            Self::Killed { reason, .. }
            | Self::Blocked { reason, .. }
            | Self::RejectedByHuman { reason, .. } => Cow::Borrowed(reason),
            Self::Unavailable { source, .. } => Cow::Owned(source.to_string()),
        }
    }
}

/// What kind of failure a store had, for those who decide what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// It cannot be reached.
    Unavailable,
    /// It did not answer in time; what was asked may or may not have happened.
    Timeout,
    /// What it holds makes no sense.
    Corrupt,
    /// The disk or a set limit is full.
    Full,
    /// It was asked what it cannot do: an id used twice for different things, an unknown id.
    Conflict,
    /// It lost data, or is another one than expected.
    Generation,
    /// Any other input or output error.
    Io,
}

impl StoreErrorKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timed out",
            Self::Corrupt => "corrupt",
            Self::Full => "full",
            Self::Conflict => "conflict",
            Self::Generation => "another generation",
            Self::Io => "input/output error",
        }
    }
}

/// A store, registry, gate or log that cannot tell. Whoever meets it refuses.
pub struct StoreError {
    kind: StoreErrorKind,
    message: Cow<'static, str>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// A failure of `kind`. `message` is a fragment that fits "failed to …" and holds no secret.
    #[must_use]
    pub fn new(kind: StoreErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The same, caused by `source`.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure it was.
    #[must_use]
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreError")
            .field("kind", &self.kind)
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to {} ({})", self.message, self.kind.as_str())
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.source {
            Some(source) => Some(source.as_ref()),
            None => None,
        }
    }
}
