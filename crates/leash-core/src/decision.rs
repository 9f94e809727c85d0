//! What a rule says: [`Decision`].

use std::borrow::Cow;
use std::fmt;

/// What is to happen with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It may go on; rules after this one are not asked.
    Allow,
    /// It may not; rules after this one are not asked.
    Block,
    /// It may go on and is noted.
    Warn,
    /// A human must approve it, unless a later rule blocks it.
    Hitl,
}

impl Action {
    /// As the log writes it: `allow`, `block`, `warn`, `hitl`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block => "block",
            Self::Warn => "warn",
            Self::Hitl => "hitl",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An action, by which rule, and why. Abstaining is `None` where one is returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What is to happen.
    pub action: Action,
    /// The rule that said so.
    pub rule_id: Cow<'static, str>,
    /// Why, for people and the log. Never quotes a prompt or an argument.
    pub reason: Cow<'static, str>,
    /// What the rule would have done, where it only watches: the call then goes on as if it had said nothing, and
    /// `action` is [`Action::Warn`].
    pub shadow: Option<Action>,
}

impl Decision {
    /// `action`, by `rule_id`, because of `reason`.
    #[must_use]
    pub fn new(
        action: Action,
        rule_id: impl Into<Cow<'static, str>>,
        reason: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            action,
            rule_id: rule_id.into(),
            reason: reason.into(),
            shadow: None,
        }
    }

    /// The same, as a rule gives it that only watches: a warning that says what would have been done.
    ///
    /// ```
    /// use leash_core::{Action, Decision};
    ///
    /// let decision = Decision::new(Action::Block, "blocked_sql", "writes").in_shadow();
    /// assert_eq!((decision.action, decision.shadow), (Action::Warn, Some(Action::Block)));
    /// ```
    #[must_use]
    pub fn in_shadow(mut self) -> Self {
        self.shadow = Some(self.shadow.unwrap_or(self.action));
        self.action = Action::Warn;
        self
    }
}
