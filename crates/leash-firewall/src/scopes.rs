//! What a caller is capped by: from the caps that the builder was given to the [`Scope`]s of one call.

use leash_budget::{Scope, ScopeKey, Window};
use leash_core::{Caller, Usd};

/// Whose spending a cap is over. What sessions share is counted together as far as they share the budget store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Over {
    /// Each session by itself.
    Session,
    /// All sessions of the agent.
    Agent,
    /// All sessions of the tenant.
    Tenant,
    /// Everything in the budget store.
    Everything,
}

impl Over {
    /// The scope's name for `caller`; `None` where the caller has no such party.
    fn key(self, caller: &Caller) -> Option<ScopeKey> {
        match self {
            Self::Session => Some(ScopeKey::session(&caller.session_id)),
            Self::Agent => caller.agent_name.as_ref().map(ScopeKey::agent),
            Self::Tenant => caller.tenant_id.as_ref().map(ScopeKey::tenant),
            Self::Everything => Some(ScopeKey::global()),
        }
    }
}

/// The caps over one party in one span of time.
#[derive(Clone, Copy, Debug)]
struct Limit {
    over: Over,
    window: Window,
    cap: Option<Usd>,
    soft_cap: Option<Usd>,
}

/// All caps that a firewall was given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caps {
    limits: Vec<Limit>,
    /// Scopes by name, for every session alike.
    named: Vec<Scope>,
}

impl Caps {
    fn limit(&mut self, over: Over, window: Window) -> &mut Limit {
        let is_it = |limit: &Limit| limit.over == over && limit.window == window;
        let at = self.limits.iter().position(is_it).unwrap_or_else(|| {
            self.limits.push(Limit {
                over,
                window,
                cap: None,
                soft_cap: None,
            });
            self.limits.len().saturating_sub(1)
        });
        #[expect(clippy::indexing_slicing, reason = "it was found, or pushed, there")]
        &mut self.limits[at]
    }

    pub(crate) fn set_cap(&mut self, over: Over, window: Window, cap: Option<Usd>) {
        self.limit(over, window).cap = cap;
    }

    pub(crate) fn set_soft_cap(&mut self, over: Over, window: Window, cap: Option<Usd>) {
        self.limit(over, window).soft_cap = cap;
    }

    pub(crate) fn add(&mut self, scope: Scope) {
        let is_same = |other: &Scope| other.key == scope.key && other.window == scope.window;
        self.named.retain(|other| !is_same(other));
        self.named.push(scope);
    }

    /// The first party that has a cap and that `caller` does not have.
    pub(crate) fn missing_party(&self, caller: &Caller) -> Option<Over> {
        let mut overs = self
            .limits
            .iter()
            .filter(|limit| limit.is_set())
            .map(|limit| limit.over);
        overs.find(|over| over.key(caller).is_none())
    }

    /// The scopes of the session itself; each key and window once, what holds in total first.
    pub(crate) fn of_session(&self, caller: &Caller) -> Vec<Scope> {
        let mut scopes: Vec<Scope> = self.scopes(caller, |over| over == Over::Session).collect();
        scopes.sort_by_key(|scope| scope.window);
        scopes
    }

    /// The scopes that a call of `caller` has besides `own`, in the order agent, tenant, everything, others.
    pub(crate) fn besides(&self, caller: &Caller, own: &[Scope]) -> Vec<Scope> {
        let mut found: Vec<Scope> = Vec::new();
        let shared = [Over::Agent, Over::Tenant, Over::Everything];
        let shared = shared
            .into_iter()
            .flat_map(|over| self.scopes(caller, move |other| other == over));
        for scope in shared.chain(self.named.iter().cloned()) {
            let is_same = |other: &&Scope| other.key == scope.key && other.window == scope.window;
            if own.iter().find(is_same).is_none() && found.iter().find(is_same).is_none() {
                found.push(scope);
            }
        }
        found
    }

    fn scopes(&self, caller: &Caller, is_wanted: impl Fn(Over) -> bool) -> impl Iterator<Item = Scope> {
        self.limits
            .iter()
            .filter(move |limit| limit.is_set() && is_wanted(limit.over))
            .filter_map(|limit| {
                Some(Scope {
                    key: limit.over.key(caller)?,
                    window: limit.window,
                    cap: limit.cap,
                    soft_cap: limit.soft_cap,
                })
            })
    }
}

impl Limit {
    fn is_set(&self) -> bool {
        self.cap.is_some() || self.soft_cap.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leash_core::{AgentName, SessionId, TenantId};

    #[test]
    fn each_key_and_window_stands_once_and_the_session_comes_first() {
        let usd = |dollars: u64| Some(Usd::from_cents(dollars * 100).unwrap());
        let caller = Caller {
            session_id: SessionId::new("s").unwrap(),
            tenant_id: Some(TenantId::new("t").unwrap()),
            agent_name: Some(AgentName::new("a").unwrap()),
        };
        let mut caps = Caps::default();
        caps.set_cap(Over::Everything, Window::Month, usd(90));
        caps.set_cap(Over::Tenant, Window::Day, usd(9));
        caps.set_cap(Over::Session, Window::Hour, usd(2));
        caps.set_cap(Over::Session, Window::Total, usd(1));
        caps.set_soft_cap(Over::Session, Window::Total, usd(5));
        caps.set_cap(Over::Session, Window::Total, usd(3));
        caps.set_cap(Over::Agent, Window::Day, usd(4));
        caps.set_cap(Over::Agent, Window::Day, None);
        caps.add(Scope::global(usd(7).unwrap()).per(Window::Month));
        caps.add(Scope::capped(ScopeKey::named("team", "x"), usd(8).unwrap()));
        caps.add(Scope::capped(ScopeKey::named("team", "x"), usd(6).unwrap()));
        let own = caps.of_session(&caller);
        let besides = caps.besides(&caller, &own);
        let shown = |scopes: &[Scope]| -> Vec<String> {
            scopes
                .iter()
                .map(|scope| {
                    format!(
                        "{} {} {:?}",
                        scope.key,
                        scope.window,
                        scope.cap.map(Usd::as_nanos)
                    )
                })
                .collect()
        };
        assert_eq!(
            shown(&own),
            [
                "session:s total Some(3000000000)",
                "session:s hour Some(2000000000)"
            ]
        );
        assert_eq!(own[0].soft_cap, usd(5));
        assert_eq!(
            shown(&besides),
            [
                "tenant:t day Some(9000000000)",
                "global month Some(90000000000)",
                "team:x total Some(6000000000)"
            ]
        );
        assert_eq!(caps.missing_party(&caller), None);
        let bare = Caller::session(SessionId::new("s").unwrap());
        assert_eq!(caps.missing_party(&bare), Some(Over::Tenant));
    }
}
