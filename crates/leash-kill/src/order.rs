//! What is killed, and who keeps it: [`Target`], [`KillOrder`], the trait [`KillRegistry`].

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use leash_core::{AgentName, Caller, IdError, SessionId, StoreError, TenantId, Timestamp};
use tokio::sync::watch;

/// The longest reason and the longest name of an operator that an order carries, in bytes of UTF-8. What is longer is
/// cut: nobody should fail to stop an agent because they said too much.
pub const MAX_REASON_BYTES: usize = 1024;

/// What an order stops.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// One run of an agent.
    Session(SessionId),
    /// All runs of one agent.
    Agent(AgentName),
    /// All of a tenant.
    Tenant(TenantId),
    /// Every caller there is.
    Everything,
}

impl Target {
    /// Whether an order for this stops `caller`.
    #[must_use]
    pub fn covers(&self, caller: &Caller) -> bool {
        match self {
            Self::Session(id) => *id == caller.session_id,
            Self::Agent(name) => caller.agent_name.as_ref() == Some(name),
            Self::Tenant(id) => caller.tenant_id.as_ref() == Some(id),
            Self::Everything => true,
        }
    }

    /// `session`, `agent`, `tenant` or `everything`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Session(_) => "session",
            Self::Agent(_) => "agent",
            Self::Tenant(_) => "tenant",
            Self::Everything => "everything",
        }
    }

    /// The id or name; empty for everything.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Session(id) => id.as_str(),
            Self::Agent(name) => name.as_str(),
            Self::Tenant(id) => id.as_str(),
            Self::Everything => "",
        }
    }

    /// The target of this kind with this name.
    ///
    /// # Errors
    /// [`TargetError`] where there is no such kind, or the name is no id.
    pub fn new(kind: &str, name: &str) -> Result<Self, TargetError> {
        match kind {
            "session" => Ok(Self::Session(SessionId::new(name)?)),
            "agent" => Ok(Self::Agent(AgentName::new(name)?)),
            "tenant" => Ok(Self::Tenant(TenantId::new(name)?)),
            "everything" if name.is_empty() => Ok(Self::Everything),
            _ => Err(TargetError::UnknownKind),
        }
    }
}

/// Why a text names no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// None of the four kinds.
    #[error("a target is `session:ID`, `agent:NAME`, `tenant:ID` or `everything`")]
    UnknownKind,
    /// The name is no id.
    #[error(transparent)]
    Id(#[from] IdError),
}

/// As the log's `scope`: `session:s_1`, `agent:researcher`, `tenant:acme`, `everything`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str(self.kind()),
            _ => write!(f, "{}:{}", self.kind(), self.name()),
        }
    }
}

/// Reads what [`Target`] displays.
impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        match text.split_once(':') {
            Some((kind, name)) if kind != "everything" => Self::new(kind, name),
            Some(_) => Err(TargetError::UnknownKind),
            None => Self::new(text, ""),
        }
    }
}

/// An order to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KillOrder {
    /// What stops.
    pub target: Target,
    /// Why, in the words of whoever gave it.
    pub reason: Arc<str>,
    /// Who gave it, where known.
    pub operator: Option<Arc<str>>,
    /// When, where known: programs that share a registry with us may keep no time.
    pub at: Option<Timestamp>,
}

impl KillOrder {
    /// An order given `at` that moment, because of `reason`.
    #[must_use]
    pub fn new(target: Target, reason: impl Into<Arc<str>>, at: impl Into<Option<Timestamp>>) -> Self {
        Self {
            target,
            reason: cut(reason.into()),
            operator: None,
            at: at.into(),
        }
    }

    /// The same, given by `operator`.
    #[must_use]
    pub fn by(mut self, operator: impl Into<Arc<str>>) -> Self {
        self.operator = Some(cut(operator.into()));
        self
    }
}

fn cut(text: Arc<str>) -> Arc<str> {
    if text.len() <= MAX_REASON_BYTES {
        return text;
    }
    let end = text.floor_char_boundary(MAX_REASON_BYTES);
    text.get(..end).unwrap_or_default().into()
}

/// How a question was answered although the registry was not heard of in time. Somebody chose each of these by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Leniency {
    /// What was last known is trusted for a longer while.
    Grace,
    /// Whoever is not known to be stopped goes on, for as long as it takes.
    FailOpen,
}

impl Leniency {
    /// The word for logs: `grace` or `fail_open`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grace => "grace",
            Self::FailOpen => "fail_open",
        }
    }
}

/// An answer that should have been a refusal, had nobody chosen otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unsure {
    /// What was chosen.
    pub leniency: Leniency,
    /// For how long the registry was not heard of; `None`: never heard of it.
    pub silent_for: Option<Duration>,
}

/// What a registry says of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// The order that stops it, if one stands.
    pub order: Option<KillOrder>,
    /// Set where the registry could not be asked and a setting lets the caller through all the same. It belongs in
    /// the log, each time.
    pub unsure: Option<Unsure>,
}

impl Answer {
    /// An answer that is certain.
    #[must_use]
    pub const fn sure(order: Option<KillOrder>) -> Self {
        Self { order, unsure: None }
    }
}

/// Keeps the orders that stand.
///
/// Killing twice keeps the newest reason; clearing what does not stand is no error. What was acknowledged holds
/// for every question asked after it: at once of the same registry, and within 300 ms of one in another process.
#[async_trait]
pub trait KillRegistry: fmt::Debug + Send + Sync + 'static {
    /// The order that stops `caller`, if one stands: its session's before its agent's, its tenant's, everything's.
    ///
    /// # Errors
    /// [`StoreError`] when the registry cannot tell: the caller is refused.
    async fn standing(&self, caller: &Caller) -> Result<Option<KillOrder>, StoreError>;

    /// The answer to [`KillRegistry::ask`], where it is known without waiting: most calls are answered by this.
    fn at_once(&self, _caller: &Caller) -> Option<Result<Answer, StoreError>> {
        None
    }

    /// As [`KillRegistry::standing`], and says where the answer is one that only a lenient setting allows.
    ///
    /// # Errors
    /// As [`KillRegistry::standing`].
    async fn ask(&self, caller: &Caller) -> Result<Answer, StoreError> {
        self.standing(caller).await.map(Answer::sure)
    }

    /// Gives an order.
    ///
    /// # Errors
    /// [`StoreError`] when it could not be kept.
    async fn kill(&self, order: KillOrder) -> Result<(), StoreError>;

    /// Takes an order back. Returns whether one stood.
    ///
    /// # Errors
    /// [`StoreError`] when the registry cannot be reached.
    async fn clear(&self, target: &Target) -> Result<bool, StoreError>;

    /// Every order that stands, in the order of their targets.
    ///
    /// # Errors
    /// [`StoreError`] when the registry cannot tell.
    async fn orders(&self) -> Result<Vec<KillOrder>, StoreError>;

    /// A number that changes with every order and every clearing that concerns whoever asked lately, and when the
    /// registry cannot be trusted any more: what runs waits for it, and asks again.
    fn changes(&self) -> watch::Receiver<u64>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_survives_its_text() {
        for text in ["session:a:b/c", "agent:x", "tenant:everything", "everything"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "everything:",
            "everything:x",
            "session",
            "session:",
            "model:x",
            "agent:a\nb",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let order = KillOrder::new(Target::Everything, "é".repeat(1000), None);
        assert_eq!(order.reason.len(), MAX_REASON_BYTES);
        let odd = KillOrder::new(Target::Everything, format!("x{}", "é".repeat(1000)), None);
        assert_eq!(odd.reason.len(), MAX_REASON_BYTES - 1);
    }
}
