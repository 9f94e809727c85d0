//! Breakers: rules that count what was called, and rules that are a scope under a cap. Each counts once for a call.

use std::sync::Arc;
use std::time::Duration;

use leash_budget::{BudgetStore, LoopBreaker, MaxCalls, Refused, Scope, ScopeRule};
use leash_core::{AsyncRule, Call, LeashError, PolicyContext, PolicyEngine, Timestamp};

use crate::path::Shared;
use crate::scopes::narrow;
use crate::session::Session;

/// A rule that counts in the budget store, before the store is known.
#[derive(Clone, Debug)]
pub(crate) enum Counts {
    /// Calls of one tool with the same arguments within a time.
    Loop(u32, Duration),
    /// Calls of anything.
    Calls(u32),
    /// Calls of one tool.
    CallsOf(Arc<str>, u32),
}

/// Each thing that is counted once, under the narrowest of its limits: two rules that count the same would count each
/// call twice.
fn once_each(all: &[Counts]) -> Vec<Counts> {
    let mut found: Vec<Counts> = Vec::new();
    for counts in all {
        match found.iter_mut().find(|known| known.counts_as(counts)) {
            Some(known) => known.narrow(counts.limit()),
            None => found.push(counts.clone()),
        }
    }
    found
}

impl Counts {
    /// Whether both count under the same keys.
    fn counts_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Loop(_, within), Self::Loop(_, other)) => within == other,
            (Self::Calls(_), Self::Calls(_)) => true,
            (Self::CallsOf(tool, _), Self::CallsOf(other, _)) => tool == other,
            _ => false,
        }
    }

    const fn limit(&self) -> u32 {
        match self {
            Self::Loop(limit, _) | Self::Calls(limit) | Self::CallsOf(_, limit) => *limit,
        }
    }

    fn narrow(&mut self, other: u32) {
        match self {
            Self::Loop(limit, _) | Self::Calls(limit) | Self::CallsOf(_, limit) => *limit = other.min(*limit),
        }
    }

    fn rule(&self, store: &Arc<dyn BudgetStore>, of_requests: bool) -> Arc<dyn AsyncRule> {
        let store = store.clone();
        let calls = |rule: MaxCalls| -> Arc<dyn AsyncRule> {
            Arc::new(if of_requests { rule.of_requests() } else { rule })
        };
        match self {
            Self::Loop(limit, within) => {
                let rule = LoopBreaker::new(store, *limit, *within);
                Arc::new(if of_requests { rule.of_requests() } else { rule })
            }
            Self::Calls(limit) => calls(MaxCalls::new(store, *limit)),
            Self::CallsOf(tool, limit) => calls(MaxCalls::new(store, *limit).of(tool.clone())),
        }
    }
}

/// All breakers of a firewall.
#[derive(Debug, Default)]
pub(crate) struct Breakers {
    /// Asked once for each call that is to be made.
    calls: PolicyEngine,
    /// Asked once for each tool call that a model wants. They count apart: the same call is mostly made afterwards.
    requests: PolicyEngine,
    scopes: Vec<Arc<dyn ScopeRule>>,
}

impl Breakers {
    pub(crate) fn new(
        counts: &[Counts],
        scopes: Vec<Arc<dyn ScopeRule>>,
        store: &Arc<dyn BudgetStore>,
    ) -> Self {
        let counts = once_each(counts);
        let engine = |of_requests| {
            let rules = counts.iter().map(|counts| counts.rule(store, of_requests));
            PolicyEngine::new(Vec::new(), rules.collect())
        };
        Self {
            calls: engine(false),
            requests: engine(true),
            scopes,
        }
    }

    pub(crate) fn count_nothing(&self) -> bool {
        self.calls.is_empty()
    }

    /// The rule in whose scope `call` did not fit.
    pub(crate) fn rule_of(&self, call: &Call, refused: &Refused) -> Option<&dyn ScopeRule> {
        let balance = &refused.balance;
        let rule = self.scopes.iter().find(|rule| {
            rule.scope(call).is_some_and(|scope| {
                scope.key == balance.key && scope.window == balance.window && scope.cap == Some(refused.cap)
            })
        });
        rule.map(|rule| &**rule)
    }
}

impl Shared {
    /// The scopes of one call: the session's, and those of rules.
    pub(crate) fn scopes_of(&self, session: &Session, call: &Call) -> Arc<[Scope]> {
        let mut rules = self.breakers.scopes.iter().filter_map(|rule| rule.scope(call));
        let Some(first) = rules.next() else {
            return session.scopes.clone();
        };
        let mut scopes = session.scopes.to_vec();
        for added in std::iter::once(first).chain(rules) {
            narrow(&mut scopes, added);
        }
        scopes.into()
    }

    /// Counts a call that is to be made, and refuses it where that is one too many.
    pub(crate) async fn count_call(
        &self,
        session: &Session,
        call: &Call,
        now: Timestamp,
    ) -> Result<(), LeashError> {
        self.count(&self.breakers.calls, session, call, now).await
    }

    /// Counts a tool call that a model wants.
    pub(crate) async fn count_request(
        &self,
        session: &Session,
        call: &Call,
        now: Timestamp,
    ) -> Result<(), LeashError> {
        self.count(&self.breakers.requests, session, call, now).await
    }

    async fn count(
        &self,
        engine: &PolicyEngine,
        session: &Session,
        call: &Call,
        now: Timestamp,
    ) -> Result<(), LeashError> {
        if engine.is_empty() {
            return Ok(());
        }
        let said = engine.evaluate(call, &PolicyContext::new(now)).await;
        self.heed(session, call, said).map(drop)
    }
}
