//! Rules for the calls of an agent.
//!
//! - [`AllowedTools`], [`DeniedTools`]: which tools it may call, by name.
//! - [`BudgetThreshold`], [`HitlThreshold`]: warn, or ask a human, as the budget runs out.
//!
//! Its invariant: no I/O, and nothing of firewalls, stores or providers. A rule looks at a call and its context.
//!
//! ```
//! use leash_core::{Action, Call, Caller, PolicyContext, Rule, SessionId, Timestamp, ToolCall};
//! use leash_policy::DeniedTools;
//!
//! let rule = DeniedTools::new(["shell", "wire_*"]);
//! let caller = Caller::session(SessionId::new("s_1")?);
//! let call = Call::Tool(ToolCall::new("wire_transfer", serde_json::json!({}), caller));
//! let decision = rule.evaluate(&call, &PolicyContext::new(Timestamp::EPOCH))?.unwrap();
//! assert_eq!(decision.action, Action::Block);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod budget;
mod tools;

pub use self::budget::{BudgetThreshold, HitlThreshold, ThresholdError};
pub use self::tools::{AllowedTools, DeniedTools};
