//! What every rule can be told besides its own options: [`Adjusted`], [`AdjustedAsync`].

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use leash_core::{Action, AsyncRule, Call, Decision, PolicyContext, Rule, RuleError};

use crate::tools::Names;

/// A rule under another id, for some tools only, with another action, or in the shadow.
///
/// In the shadow a rule decides nothing: what it would have done becomes a warning, whose reason says so. A rule in
/// the shadow that fails or panics only warns, too; anywhere else such a rule blocks, whatever its action.
///
/// ```
/// use std::sync::Arc;
/// use leash_core::{Action, Call, Caller, PolicyContext, Rule, SessionId, Timestamp, ToolCall};
/// use leash_policy::{Adjusted, DeniedTools};
///
/// let rule = Adjusted::new(Arc::new(DeniedTools::new(["shell"]))).shadow(true);
/// let caller = Caller::session(SessionId::new("s_1")?);
/// let call = Call::Tool(ToolCall::new("shell", serde_json::json!({}), caller));
/// let decision = rule.evaluate(&call, &PolicyContext::new(Timestamp::EPOCH))?.unwrap();
/// assert_eq!(decision.action, Action::Warn);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Adjusted {
    rule: Arc<dyn Rule>,
    settings: Settings,
}

/// The same for a rule that asks another process.
#[derive(Clone, Debug)]
pub struct AdjustedAsync {
    rule: Arc<dyn AsyncRule>,
    settings: Settings,
}

#[derive(Clone, Debug, Default)]
struct Settings {
    id: Option<String>,
    tools: Option<Names>,
    action: Option<Action>,
    shadow: bool,
}

impl Settings {
    fn passes_over(&self, call: &Call) -> bool {
        self.tools
            .as_ref()
            .is_some_and(|tools| !tools.contain(&call.tool()))
    }

    /// What becomes of the answer of the rule that is called `id`.
    fn apply(
        &self,
        id: &str,
        answer: Result<Option<Decision>, RuleError>,
    ) -> Result<Option<Decision>, RuleError> {
        let answer = match answer {
            Err(error) if self.shadow => Some(Decision::new(
                Action::Block,
                id.to_owned(),
                format!("rule failed: {error}"),
            )),
            other => other?,
        };
        Ok(answer.map(|mut decision| {
            if let Some(id) = &self.id {
                decision.rule_id = id.clone().into();
            }
            if let (Some(action), Action::Block | Action::Hitl) = (self.action, decision.action) {
                decision.action = action;
            }
            if self.shadow {
                decision.reason =
                    format!("shadow: would {}: {}", verb(decision.action), decision.reason).into();
                decision = decision.in_shadow();
            }
            decision
        }))
    }
}

impl Adjusted {
    /// `rule` as it is.
    #[must_use]
    pub fn new(rule: Arc<dyn Rule>) -> Self {
        Self {
            rule,
            settings: Settings::default(),
        }
    }

    /// Under another id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.settings.id = Some(id.into());
        self
    }

    /// Asked about these tools only; `*` in a name stands for any characters.
    #[must_use]
    pub fn only_tools<I: IntoIterator<Item: Into<String>>>(mut self, names: I) -> Self {
        self.settings.tools = Some(Names::new(names));
        self
    }

    /// Doing this instead of blocking or asking.
    #[must_use]
    pub fn action(mut self, action: Action) -> Self {
        self.settings.action = Some(action);
        self
    }

    /// Whether it only notes what it would have done.
    #[must_use]
    pub fn shadow(mut self, shadow: bool) -> Self {
        self.settings.shadow = shadow;
        self
    }
}

impl AdjustedAsync {
    /// `rule` as it is.
    #[must_use]
    pub fn new(rule: Arc<dyn AsyncRule>) -> Self {
        Self {
            rule,
            settings: Settings::default(),
        }
    }

    /// Under another id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.settings.id = Some(id.into());
        self
    }

    /// Asked about these tools only; `*` in a name stands for any characters.
    #[must_use]
    pub fn only_tools<I: IntoIterator<Item: Into<String>>>(mut self, names: I) -> Self {
        self.settings.tools = Some(Names::new(names));
        self
    }

    /// Doing this instead of blocking or asking.
    #[must_use]
    pub fn action(mut self, action: Action) -> Self {
        self.settings.action = Some(action);
        self
    }

    /// Whether it only notes what it would have done.
    #[must_use]
    pub fn shadow(mut self, shadow: bool) -> Self {
        self.settings.shadow = shadow;
        self
    }
}

impl Rule for Adjusted {
    fn id(&self) -> &str {
        self.settings.id.as_deref().unwrap_or_else(|| self.rule.id())
    }

    fn evaluate(&self, call: &Call, context: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        if self.settings.passes_over(call) {
            return Ok(None);
        }
        let answer = if self.settings.shadow {
            caught(|| self.rule.evaluate(call, context)).unwrap_or_else(|| Err(panicked()))
        } else {
            self.rule.evaluate(call, context)
        };
        self.settings.apply(self.id(), answer)
    }
}

#[async_trait]
impl AsyncRule for AdjustedAsync {
    fn id(&self) -> &str {
        self.settings.id.as_deref().unwrap_or_else(|| self.rule.id())
    }

    async fn evaluate(&self, call: &Call, context: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        if self.settings.passes_over(call) {
            return Ok(None);
        }
        let answer = if self.settings.shadow {
            self.tried(call, context).await
        } else {
            self.rule.evaluate(call, context).await
        };
        self.settings.apply(self.id(), answer)
    }
}

impl AdjustedAsync {
    /// What the rule answers; an error where it panics, as it may each time that it is polled.
    async fn tried(&self, call: &Call, context: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        let mut answer = caught(|| self.rule.evaluate(call, context)).ok_or_else(panicked)?;
        poll_fn(|cx| caught(|| answer.as_mut().poll(cx)).unwrap_or_else(|| Poll::Ready(Err(panicked()))))
            .await
    }
}

/// What `ask` answers, unless it panics.
fn caught<T>(ask: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(ask)).ok()
}

fn panicked() -> RuleError {
    RuleError::new("the rule panicked")
}

fn verb(action: Action) -> &'static str {
    match action {
        Action::Hitl => "ask a human",
        other => other.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leash_core::{Caller, PolicyEngine, SessionId, Timestamp, ToolCall};

    /// Does one of the things that a rule can do.
    #[derive(Clone, Copy, Debug)]
    enum Says {
        Nothing,
        Acts(Action),
        Fails,
        Panics,
    }

    impl Says {
        fn answer(self) -> Result<Option<Decision>, RuleError> {
            match self {
                Self::Nothing => Ok(None),
                Self::Acts(action) => Ok(Some(Decision::new(action, "says", "why"))),
                Self::Fails => Err(RuleError::new("no idea")),
                Self::Panics => panic!("a rule of somebody else"),
            }
        }
    }

    impl Rule for Says {
        fn id(&self) -> &'static str {
            "says"
        }

        fn evaluate(&self, _: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
            self.answer()
        }
    }

    #[async_trait]
    impl AsyncRule for Says {
        fn id(&self) -> &'static str {
            "says"
        }

        async fn evaluate(&self, _: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
            let mut polled = false;
            poll_fn(|cx| {
                if std::mem::replace(&mut polled, true) {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
            self.answer()
        }
    }

    const ALL: [Says; 6] = [
        Says::Nothing,
        Says::Acts(Action::Block),
        Says::Acts(Action::Hitl),
        Says::Acts(Action::Warn),
        Says::Fails,
        Says::Panics,
    ];

    fn call(tool: &str) -> Call {
        let caller = Caller::session(SessionId::new("s").unwrap());
        Call::Tool(ToolCall::new(tool, serde_json::json!({}), caller))
    }

    /// What an engine makes of the rule alone, asked at once and over time.
    async fn said(
        says: Says,
        set: impl Fn(Adjusted) -> Adjusted,
        later: impl Fn(AdjustedAsync) -> AdjustedAsync,
    ) -> (Action, Vec<Decision>) {
        let now = PolicyEngine::new(vec![Arc::new(set(Adjusted::new(Arc::new(says))))], Vec::new());
        let then = PolicyEngine::new(
            Vec::new(),
            vec![Arc::new(later(AdjustedAsync::new(Arc::new(says))))],
        );
        let context = PolicyContext::new(Timestamp::EPOCH);
        let now = now.evaluate_sync(&call("t"), &context);
        let then = then.evaluate(&call("t"), &context).await;
        assert_eq!(now, then, "{says:?}");
        (now.decision.action, now.noted)
    }

    #[tokio::test]
    async fn in_the_shadow_whatever_a_rule_does_stops_nothing_and_is_noted() {
        for says in ALL {
            for action in [None, Some(Action::Block), Some(Action::Hitl), Some(Action::Warn)] {
                let (done, noted) = said(
                    says,
                    |rule| match action {
                        Some(action) => rule.shadow(true).with_id("id").action(action),
                        None => rule.shadow(true).with_id("id"),
                    },
                    |rule| match action {
                        Some(action) => rule.shadow(true).with_id("id").action(action),
                        None => rule.shadow(true).with_id("id"),
                    },
                )
                .await;
                assert_eq!(done, Action::Allow, "{says:?}");
                if matches!(says, Says::Nothing) {
                    assert!(noted.is_empty());
                    continue;
                }
                let [noted] = noted.as_slice() else {
                    panic!("{says:?}: {noted:?}")
                };
                let would = match says {
                    Says::Acts(Action::Warn) => Action::Warn,
                    Says::Acts(own) => action.unwrap_or(own),
                    _ => action.unwrap_or(Action::Block),
                };
                assert_eq!(
                    (noted.action, noted.shadow),
                    (Action::Warn, Some(would)),
                    "{says:?}"
                );
                assert_eq!(noted.rule_id, "id");
                assert!(noted.reason.starts_with("shadow: would "), "{}", noted.reason);
            }
        }
    }

    #[tokio::test]
    async fn a_rule_that_fails_or_panics_blocks_whatever_its_action() {
        for says in [Says::Fails, Says::Panics] {
            for action in [Action::Block, Action::Hitl, Action::Warn] {
                let (done, noted) = said(says, |rule| rule.action(action), |rule| rule.action(action)).await;
                assert_eq!((done, noted.len()), (Action::Block, 0), "{says:?} {action}");
            }
        }
    }

    #[tokio::test]
    async fn a_rule_is_asked_about_its_tools_and_no_others() {
        for says in ALL {
            let (done, noted) = said(
                says,
                |rule| rule.only_tools(["other", "t?"]),
                |rule| rule.only_tools(["other", "t?"]),
            )
            .await;
            assert_eq!((done, noted.len()), (Action::Allow, 0), "{says:?}");
            let (done, _) = said(
                says,
                |rule| rule.only_tools(["t*"]),
                |rule| rule.only_tools(["t*"]),
            )
            .await;
            let stays = matches!(says, Says::Nothing | Says::Acts(Action::Warn));
            assert_eq!(done == Action::Allow, stays, "{says:?}");
        }
    }
}
