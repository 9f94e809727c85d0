//! What a cap is over: [`Scope`].

use std::fmt;
use std::sync::Arc;

use leash_core::{AgentName, SessionId, TenantId, Usd};

/// The name of what is counted together: `session:s_1`, `tenant:acme`, `agent:researcher`, `global`, or any
/// other that the user counts by (`team:search`). Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeKey(Arc<str>);

impl ScopeKey {
    /// Everything together.
    #[must_use]
    pub fn global() -> Self {
        Self("global".into())
    }

    /// One session.
    #[must_use]
    pub fn session(id: &SessionId) -> Self {
        Self(format!("session:{id}").into())
    }

    /// One tenant.
    #[must_use]
    pub fn tenant(id: &TenantId) -> Self {
        Self(format!("tenant:{id}").into())
    }

    /// All runs of one agent.
    #[must_use]
    pub fn agent(name: &AgentName) -> Self {
        Self(format!("agent:{name}").into())
    }

    /// Anything else: `kind` and `name` as `kind:name`.
    #[must_use]
    pub fn named(kind: &str, name: &str) -> Self {
        Self(format!("{kind}:{name}").into())
    }

    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ScopeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScopeKey({:?})", &*self.0)
    }
}

impl fmt::Display for ScopeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A scope under a cap. Scopes without one are not counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// What is counted together.
    pub key: ScopeKey,
    /// What it may spend in all. Spending it exactly is allowed; a cap of 0 allows nothing.
    pub cap: Usd,
}

impl Scope {
    /// A session under `cap`.
    #[must_use]
    pub fn session(id: &SessionId, cap: Usd) -> Self {
        Self {
            key: ScopeKey::session(id),
            cap,
        }
    }

    /// A tenant under `cap`.
    #[must_use]
    pub fn tenant(id: &TenantId, cap: Usd) -> Self {
        Self {
            key: ScopeKey::tenant(id),
            cap,
        }
    }

    /// An agent under `cap`.
    #[must_use]
    pub fn agent(name: &AgentName, cap: Usd) -> Self {
        Self {
            key: ScopeKey::agent(name),
            cap,
        }
    }

    /// Everything under `cap`.
    #[must_use]
    pub fn global(cap: Usd) -> Self {
        Self {
            key: ScopeKey::global(),
            cap,
        }
    }
}
