//! Rules and the order in which they are asked: [`Rule`], [`AsyncRule`], [`Redactor`], [`PolicyEngine`].

use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;

use crate::error::rule_ids;
use crate::{Action, Call, Decision, Json, TenantId, Timestamp, Usd};

/// What a rule may know besides the call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyContext {
    /// What the session has spent.
    pub cumulative: Usd,
    /// What is set aside for calls of the session that are under way.
    pub reserved: Usd,
    /// The session's cap, where it has one.
    pub budget_cap: Option<Usd>,
    /// The session's soft cap, where it has one.
    pub soft_cap: Option<Usd>,
    /// The caller's tenant.
    pub tenant_id: Option<TenantId>,
    /// When the call was made.
    pub now: Timestamp,
}

impl PolicyContext {
    /// A context in which nothing is spent and nothing is capped.
    #[must_use]
    pub const fn new(now: Timestamp) -> Self {
        Self {
            cumulative: Usd::ZERO,
            reserved: Usd::ZERO,
            budget_cap: None,
            soft_cap: None,
            tenant_id: None,
            now,
        }
    }

    /// Whether settled and reserved spending has reached `percent` of the cap; `false` without a cap.
    #[must_use]
    pub fn has_reached(&self, percent: u8) -> bool {
        let Some(cap) = self.budget_cap else { return false };
        let used =
            u128::from(self.cumulative.as_nanos()).saturating_add(u128::from(self.reserved.as_nanos()));
        used.saturating_mul(100) >= u128::from(cap.as_nanos()).saturating_mul(u128::from(percent))
    }
}

/// A rule that could not decide. The call is blocked.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct RuleError {
    message: String,
}

impl RuleError {
    /// `message` says what went wrong and quotes no input: it enters the log.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

/// A rule that decides by itself, at once.
///
/// Its contract: it does not block, does no I/O, takes the same decision for the same input, and never quotes
/// input in a reason. It may fail; a rule that fails or panics blocks the call.
pub trait Rule: fmt::Debug + Send + Sync + 'static {
    /// The name under which it decides.
    fn id(&self) -> &str;

    /// Decides, or abstains with `None`.
    ///
    /// # Errors
    /// [`RuleError`] where it cannot decide: the call is blocked.
    fn evaluate(&self, call: &Call, context: &PolicyContext) -> Result<Option<Decision>, RuleError>;
}

/// A rule that has to ask another process. Asked after every [`Rule`], and only if none of them blocked.
///
/// Its contract: it ends in bounded time, and never quotes input in a reason. It may fail; a rule that fails or panics
/// blocks the call.
#[async_trait]
pub trait AsyncRule: fmt::Debug + Send + Sync + 'static {
    /// The name under which it decides.
    fn id(&self) -> &str;

    /// Decides, or abstains with `None`.
    ///
    /// # Errors
    /// [`RuleError`] where it cannot decide: the call is blocked.
    async fn evaluate(&self, call: &Call, context: &PolicyContext) -> Result<Option<Decision>, RuleError>;
}

/// Takes what must not leave out of a document.
///
/// Its contract: it changes nothing where there is nothing to take out, redacting twice is redacting once, and it
/// never grows a document without bound.
pub trait Redactor: fmt::Debug + Send + Sync + 'static {
    /// The document without what must not leave; `None` where it may leave as it is.
    ///
    /// # Errors
    /// [`RuleError`] where it cannot tell: the call is blocked.
    fn redact(&self, document: &Json) -> Result<Option<Json>, RuleError>;
}

/// What all rules together said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// The outcome: `Block`; else `Hitl`, of the first rule that asked; else `Allow`.
    pub decision: Decision,
    /// Every `Warn` and `Hitl` that was met, in order.
    pub noted: Vec<Decision>,
}

/// Asks rules in order.
///
/// `warn` and `hitl` are noted and evaluation goes on; the first `allow` or `block` ends it. So a warning never
/// hides a block, and no approval overrides one. A `hitl` noted before an `allow` is still asked for. Rules that
/// ask another process come after those that do not.
///
/// ```
/// use leash_core::{Action, PolicyEngine};
/// # use leash_core::{Call, Caller, PolicyContext, SessionId, Timestamp, ToolCall};
/// # let call = Call::Tool(ToolCall::new("t", serde_json::json!({}), Caller::session(SessionId::new("s")?)));
/// # let context = PolicyContext::new(Timestamp::EPOCH);
///
/// let evaluation = PolicyEngine::default().evaluate_sync(&call, &context);
/// assert_eq!(evaluation.decision.action, Action::Allow);
/// assert_eq!(evaluation.decision.rule_id, "engine:default");
/// # Ok::<(), leash_core::IdError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct PolicyEngine {
    rules: Vec<Arc<dyn Rule>>,
    async_rules: Vec<Arc<dyn AsyncRule>>,
}

impl PolicyEngine {
    /// Asks `rules` in this order, then `async_rules` in theirs.
    #[must_use]
    pub fn new(rules: Vec<Arc<dyn Rule>>, async_rules: Vec<Arc<dyn AsyncRule>>) -> Self {
        Self { rules, async_rules }
    }

    /// Whether there is any rule at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.async_rules.is_empty()
    }

    /// Asks every rule.
    pub async fn evaluate(&self, call: &Call, context: &PolicyContext) -> Evaluation {
        let mut noted = Vec::new();
        let mut ended = self.ask_sync(call, context, &mut noted);
        for rule in &self.async_rules {
            if ended.is_some() {
                break;
            }
            let answer = ask(rule.as_ref(), call, context).await;
            ended = note(rule.id(), answer, &mut noted);
        }
        conclude(ended, noted)
    }

    /// Asks the rules that decide at once, and no others.
    #[must_use]
    pub fn evaluate_sync(&self, call: &Call, context: &PolicyContext) -> Evaluation {
        let mut noted = Vec::new();
        let ended = self.ask_sync(call, context, &mut noted);
        conclude(ended, noted)
    }

    fn ask_sync(&self, call: &Call, context: &PolicyContext, noted: &mut Vec<Decision>) -> Option<Decision> {
        self.rules.iter().find_map(|rule| {
            let answer = catch_unwind(AssertUnwindSafe(|| rule.evaluate(call, context)))
                .unwrap_or_else(|_| Err(panicked()));
            note(rule.id(), answer, noted)
        })
    }
}

fn panicked() -> RuleError {
    RuleError::new("the rule panicked")
}

/// Asks a rule that may take its time, and may panic each time that it is polled.
async fn ask(
    rule: &dyn AsyncRule,
    call: &Call,
    context: &PolicyContext,
) -> Result<Option<Decision>, RuleError> {
    let mut answer =
        catch_unwind(AssertUnwindSafe(|| rule.evaluate(call, context))).map_err(|_| panicked())?;
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx)));
        polled.unwrap_or_else(|_| Poll::Ready(Err(panicked())))
    })
    .await
}

/// The decision that ends evaluation, if this answer is one; otherwise the answer is noted.
fn note(
    id: &str,
    answer: Result<Option<Decision>, RuleError>,
    noted: &mut Vec<Decision>,
) -> Option<Decision> {
    match answer {
        Ok(None) => None,
        Ok(Some(decision)) if matches!(decision.action, Action::Warn | Action::Hitl) => {
            noted.push(decision);
            None
        }
        Ok(Some(decision)) => Some(decision),
        Err(error) => Some(Decision::new(
            Action::Block,
            id.to_owned(),
            format!("rule failed: {error}"),
        )),
    }
}

fn conclude(ended: Option<Decision>, noted: Vec<Decision>) -> Evaluation {
    let decision = match ended {
        Some(decision) if decision.action == Action::Block => decision,
        ended => noted
            .iter()
            .find(|decision| decision.action == Action::Hitl)
            .cloned()
            .or(ended)
            .unwrap_or_else(|| Decision::new(Action::Allow, rule_ids::DEFAULT, "no rule matched")),
    };
    Evaluation { decision, noted }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Caller, SessionId, ToolCall};
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    enum Says {
        Nothing,
        Acts(Action),
        Fails,
        Panics,
    }

    impl Rule for Says {
        fn id(&self) -> &'static str {
            "says"
        }

        fn evaluate(&self, _: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
            match self {
                Self::Nothing => Ok(None),
                Self::Acts(action) => Ok(Some(Decision::new(*action, "says", ""))),
                Self::Fails => Err(RuleError::new("no idea")),
                Self::Panics => panic!("a rule of somebody else"),
            }
        }
    }

    fn outcome(says: &[Says]) -> Evaluation {
        let rules = says
            .iter()
            .map(|rule| -> Arc<dyn Rule> { Arc::new(*rule) })
            .collect();
        let caller = Caller::session(SessionId::new("s").unwrap());
        let call = Call::Tool(ToolCall::new("t", serde_json::json!({}), caller));
        PolicyEngine::new(rules, Vec::new()).evaluate_sync(&call, &PolicyContext::new(Timestamp::EPOCH))
    }

    #[test]
    fn a_rule_that_fails_or_panics_blocks() {
        assert_eq!(outcome(&[Says::Fails]).decision.action, Action::Block);
        assert_eq!(
            outcome(&[Says::Acts(Action::Warn), Says::Panics]).decision.action,
            Action::Block
        );
    }

    fn says() -> impl Strategy<Value = Says> {
        prop_oneof![
            Just(Says::Nothing),
            Just(Says::Acts(Action::Allow)),
            Just(Says::Acts(Action::Block)),
            Just(Says::Acts(Action::Warn)),
            Just(Says::Acts(Action::Hitl)),
            Just(Says::Fails),
        ]
    }

    proptest! {
        #[test]
        fn the_first_allow_or_block_ends_and_nothing_hides_a_block(rules in proptest::collection::vec(says(), 0..8)) {
            let end = rules.iter().position(|rule| {
                matches!(rule, Says::Acts(Action::Allow | Action::Block) | Says::Fails)
            });
            let met = &rules[..end.unwrap_or(rules.len())];
            let blocks = end.is_some_and(|at| !matches!(rules[at], Says::Acts(Action::Allow)));
            let asks = met.iter().any(|rule| matches!(rule, Says::Acts(Action::Hitl)));
            let expected = if blocks { Action::Block } else if asks { Action::Hitl } else { Action::Allow };
            let evaluation = outcome(&rules);
            prop_assert_eq!(evaluation.decision.action, expected);
            let noted = met.iter().filter(|rule| matches!(rule, Says::Acts(_))).count();
            prop_assert_eq!(evaluation.noted.len(), noted);
        }
    }
}
