//! What is killed, and who keeps it: [`Target`], [`KillOrder`], the trait [`KillRegistry`].

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use leash_core::{AgentName, Caller, SessionId, StoreError, TenantId, Timestamp};
use tokio::sync::watch;

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
}

/// As the log's `scope`: `session:s_1`, `agent:researcher`, `tenant:acme`, `everything`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(id) => write!(f, "session:{id}"),
            Self::Agent(name) => write!(f, "agent:{name}"),
            Self::Tenant(id) => write!(f, "tenant:{id}"),
            Self::Everything => f.write_str("everything"),
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
    /// When.
    pub at: Timestamp,
}

impl KillOrder {
    /// An order given `at` that moment, because of `reason`.
    #[must_use]
    pub fn new(target: Target, reason: impl Into<Arc<str>>, at: Timestamp) -> Self {
        Self {
            target,
            reason: reason.into(),
            operator: None,
            at,
        }
    }

    /// The same, given by `operator`.
    #[must_use]
    pub fn by(mut self, operator: impl Into<Arc<str>>) -> Self {
        self.operator = Some(operator.into());
        self
    }
}

/// Keeps the orders that stand.
///
/// Killing twice keeps the newest reason; clearing what does not stand is no error. What was acknowledged holds
/// for every question asked after it.
#[async_trait]
pub trait KillRegistry: fmt::Debug + Send + Sync + 'static {
    /// The order that stops `caller`, if one stands: its session's before its agent's, its tenant's, everything's.
    ///
    /// # Errors
    /// [`StoreError`] when the registry cannot tell: the caller is refused.
    async fn standing(&self, caller: &Caller) -> Result<Option<KillOrder>, StoreError>;

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

    /// A number that changes with every order and every clearing: what runs waits for it, and asks again.
    fn changes(&self) -> watch::Receiver<u64>;
}
