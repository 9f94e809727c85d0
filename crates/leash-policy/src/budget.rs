//! What happens as the budget runs out: [`BudgetThreshold`], [`HitlThreshold`].

use std::sync::Arc;

use leash_core::{Action, Call, Decision, PolicyContext, Rule, RuleError};

use crate::registry::{OptionError, OptionKind, RuleKind, Shape};

/// Where both thresholds lie unless set otherwise: at 80 % of the cap.
const DEFAULT_PERCENT: u8 = 80;

/// A threshold is a percentage of the cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a threshold is a percentage from 0 to 100")]
pub struct ThresholdError;

macro_rules! threshold {
    ($(#[$doc:meta])* $name:ident, $id:literal, $action:expr, $reason:literal, $kind:ident, $about:literal) => {
        $(#[$doc])*
        ///
        /// Settled and reserved spending count. Without a cap it abstains. Both kinds of calls are looked at.
        #[derive(Clone, Debug)]
        pub struct $name {
            id: String,
            percent: u8,
        }

        impl Default for $name {
            /// At 80 % of the cap.
            fn default() -> Self {
                Self { id: $id.into(), percent: DEFAULT_PERCENT }
            }
        }

        impl $name {
            /// At `percent` of the cap.
            ///
            /// # Errors
            /// [`ThresholdError`] above 100.
            pub fn at_percent(percent: u8) -> Result<Self, ThresholdError> {
                if percent > 100 { Err(ThresholdError) } else { Ok(Self { percent, ..Self::default() }) }
            }

            /// The same under another id.
            #[must_use]
            pub fn with_id(mut self, id: impl Into<String>) -> Self {
                self.id = id.into();
                self
            }
        }

        impl Rule for $name {
            fn id(&self) -> &str {
                &self.id
            }

            fn evaluate(&self, _: &Call, context: &PolicyContext) -> Result<Option<Decision>, RuleError> {
                let reached = context.has_reached(self.percent);
                Ok(reached.then(|| {
                    Decision::new($action, self.id.clone(), format!(concat!($reason, " {} % of its cap"), self.percent))
                }))
            }
        }

        /// How a policy makes one.
        pub(crate) const $kind: RuleKind = RuleKind {
            name: $id,
            about: $about,
            options: &[OptionKind { name: "percent", shape: Shape::Number, about: "Of the cap, a whole number from 0 to 100; 80 unless set." }],
            make: |options| {
                let percent = options.one("percent")?.map_or(Ok(DEFAULT_PERCENT), |text| text.trim().parse());
                let percent = percent.map_err(|_| OptionError::invalid("percent", "is a whole number from 0 to 100"))?;
                let rule = $name::at_percent(percent).map_err(|error| OptionError::invalid("percent", error.to_string()))?;
                Ok(Arc::new(rule))
            },
        };
    };
}

threshold! {
    /// Warns of every call once spending has reached a percentage of the cap. Default id: `budget_threshold`.
    BudgetThreshold, "budget_threshold", Action::Warn, "the session has used at least",
    BUDGET, "Warns of every call once spending has reached a percentage of the cap."
}
threshold! {
    /// Asks a human for every call once spending has reached a percentage of the cap. Default id: `hitl_threshold`.
    HitlThreshold, "hitl_threshold", Action::Hitl, "a human must approve: the session has used at least",
    HITL, "Asks a human for every call once spending has reached a percentage of the cap."
}

#[cfg(test)]
mod tests {
    use super::*;
    use leash_core::{Caller, SessionId, Timestamp, ToolCall, Usd};

    fn decides(rule: &dyn Rule, spent: u64, reserved: u64, cap: Option<u64>) -> Option<Action> {
        let usd = |cents| Usd::from_cents(cents).unwrap();
        let caller = Caller::session(SessionId::new("s").unwrap());
        let call = Call::Tool(ToolCall::new("t", serde_json::json!({}), caller));
        let mut context = PolicyContext::new(Timestamp::EPOCH);
        context.cumulative = usd(spent);
        context.reserved = usd(reserved);
        context.budget_cap = cap.map(usd);
        rule.evaluate(&call, &context)
            .unwrap()
            .map(|decision| decision.action)
    }

    #[test]
    fn the_threshold_is_at_eighty_percent_settled_and_reserved() {
        let warns = BudgetThreshold::default();
        assert_eq!(decides(&warns, 79, 0, Some(100)), None);
        assert_eq!(decides(&warns, 79, 1, Some(100)), Some(Action::Warn));
        assert_eq!(decides(&warns, 100, 0, None), None);
        assert_eq!(
            decides(&HitlThreshold::default(), 80, 0, Some(100)),
            Some(Action::Hitl)
        );
        assert_eq!(
            decides(&HitlThreshold::at_percent(50).unwrap(), 25, 25, Some(100)),
            Some(Action::Hitl)
        );
        assert!(HitlThreshold::at_percent(101).is_err());
    }
}
