//! What every rule can be told besides its own options: [`Adjusted`], [`AdjustedAsync`].

use std::sync::Arc;

use async_trait::async_trait;
use leash_core::{Action, AsyncRule, Call, Decision, PolicyContext, Rule, RuleError};

use crate::tools::Names;

/// A rule under another id, for some tools only, with another action, or in the shadow.
///
/// In the shadow a rule decides nothing: what it would have done becomes a warning, whose reason says so. A rule in
/// the shadow that fails only warns, too; anywhere else a rule that fails blocks, whatever its action.
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
        self.settings.apply(self.id(), self.rule.evaluate(call, context))
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
        self.settings
            .apply(self.id(), self.rule.evaluate(call, context).await)
    }
}

fn verb(action: Action) -> &'static str {
    match action {
        Action::Hitl => "ask a human",
        other => other.as_str(),
    }
}
