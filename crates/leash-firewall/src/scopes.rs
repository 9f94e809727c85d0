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
    /// What it is over, in a sentence.
    pub(crate) const fn plural(self) -> &'static str {
        match self {
            Self::Session => "sessions",
            Self::Agent => "agents",
            Self::Tenant => "tenants",
            Self::Everything => "everything",
        }
    }

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

    /// Adds a scope by its name. Of what is given for one key and window twice, the last counts.
    pub(crate) fn add(&mut self, mut scope: Scope) {
        let is_same = |other: &Scope| other.key == scope.key && other.window == scope.window;
        if let Some(at) = self.named.iter().position(is_same) {
            // A soft cap that comes later says nothing of the hard one, and the other way round.
            let before = self.named.remove(at);
            scope.cap = scope.cap.or(before.cap);
            scope.soft_cap = scope.soft_cap.or(before.soft_cap);
        }
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

    /// Adds to `own` the other scopes that a call of `caller` has, in the order agent, tenant, everything, others. Each key
    /// and window stands once: where two caps are over the same, the narrower holds.
    pub(crate) fn besides(&self, caller: &Caller, own: Vec<Scope>) -> Vec<Scope> {
        let mut found = own;
        let shared = [Over::Agent, Over::Tenant, Over::Everything];
        let shared = shared
            .into_iter()
            .flat_map(|over| self.scopes(caller, move |other| other == over));
        for scope in shared.chain(self.named.iter().cloned()) {
            narrow(&mut found, scope);
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

/// Adds `scope` to `scopes`, in which each key and window stands once, under the narrower of its caps.
pub(crate) fn narrow(scopes: &mut Vec<Scope>, scope: Scope) {
    let is_same = |other: &&mut Scope| other.key == scope.key && other.window == scope.window;
    match scopes.iter_mut().find(is_same) {
        Some(known) => {
            let narrower = |one: Option<Usd>, other: Option<Usd>| one.into_iter().chain(other).min();
            known.cap = narrower(known.cap, scope.cap);
            known.soft_cap = narrower(known.soft_cap, scope.soft_cap);
        }
        None => scopes.push(scope),
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
        let all = caps.besides(&caller, own.clone());
        let besides = &all[own.len()..];
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
            shown(besides),
            [
                "tenant:t day Some(9000000000)",
                "global month Some(7000000000)",
                "team:x total Some(6000000000)"
            ]
        );
        assert_eq!(caps.missing_party(&caller), None);
        let bare = Caller::session(SessionId::new("s").unwrap());
        assert_eq!(caps.missing_party(&bare), Some(Over::Tenant));
    }

    #[test]
    fn no_cap_is_dropped_where_another_is_over_the_same() {
        let usd = |cents: u64| Usd::from_cents(cents).unwrap();
        let caller = Caller::session(SessionId::new("s").unwrap());
        let (own, month) = (
            Scope::session(&caller.session_id, usd(30)),
            Scope::global(usd(70)).per(Window::Month),
        );
        let caps_of = |caps: &Caps| -> Vec<(Option<Usd>, Option<Usd>)> {
            caps.besides(&caller, caps.of_session(&caller))
                .iter()
                .map(|scope| (scope.cap, scope.soft_cap))
                .collect()
        };
        // A soft cap by party, and a hard one by name.
        let mut caps = Caps::default();
        caps.set_soft_cap(Over::Session, Window::Total, Some(usd(9)));
        caps.set_soft_cap(Over::Everything, Window::Month, Some(usd(8)));
        caps.add(own.clone());
        caps.add(month.clone());
        let expected = [(Some(usd(30)), Some(usd(9))), (Some(usd(70)), Some(usd(8)))];
        assert_eq!(caps_of(&caps), expected);
        // Whichever is the narrower.
        caps.set_cap(Over::Session, Window::Total, Some(usd(31)));
        caps.set_cap(Over::Everything, Window::Month, Some(usd(69)));
        let expected = [(Some(usd(30)), Some(usd(9))), (Some(usd(69)), Some(usd(8)))];
        assert_eq!(caps_of(&caps), expected);
        // By name the last one counts, and a soft cap takes no hard one away.
        caps.add(Scope {
            cap: None,
            soft_cap: Some(usd(7)),
            ..own
        });
        assert_eq!(caps_of(&caps)[0], (Some(usd(30)), Some(usd(7))));
    }
}
