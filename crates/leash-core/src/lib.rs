//! The words that every crate of llm-leash shares.
//!
//! - Who and what: [`SessionId`], [`TenantId`], [`AgentName`], [`Caller`], [`Call`], [`ToolCall`], [`ModelCall`].
//! - Money and use: [`Usd`], [`Usage`], [`ServiceTier`].
//! - Time: [`Timestamp`], [`Clock`].
//! - Decisions: [`Rule`], [`AsyncRule`], [`Decision`], [`PolicyEngine`], [`Redactor`].
//! - Refusals: [`LeashError`], [`StoreError`].
//! - Bytes that are hashed: [`canonical`] JSON, [`Json`], [`Digest`].
//!
//! Its invariant: no I/O. Nothing here reads a clock, the environment, a file or a socket, but
//! [`SystemClock`] and [`IdGenerator::from_os`], which somebody has to ask for by name.
//!
//! ```
//! use std::sync::Arc;
//! use leash_core::{
//!     Action, Call, Caller, Decision, PolicyContext, PolicyEngine, Rule, RuleError, SessionId, Timestamp, ToolCall,
//! };
//!
//! #[derive(Debug)]
//! struct NoTransfers;
//!
//! impl Rule for NoTransfers {
//!     fn id(&self) -> &str {
//!         "no_transfers"
//!     }
//!
//!     fn evaluate(&self, call: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
//!         let Call::Tool(call) = call else { return Ok(None) };
//!         let is_transfer = &*call.tool == "wire_transfer";
//!         Ok(is_transfer.then(|| Decision::new(Action::Block, "no_transfers", "transfers are switched off")))
//!     }
//! }
//!
//! let engine = PolicyEngine::new(vec![Arc::new(NoTransfers)], Vec::new());
//! let caller = Caller::session(SessionId::new("s_1")?);
//! let call = Call::Tool(ToolCall::new("wire_transfer", serde_json::json!({"usd": 4000}), caller));
//! let evaluation = engine.evaluate_sync(&call, &PolicyContext::new(Timestamp::EPOCH));
//! assert_eq!(evaluation.decision.action, Action::Block);
//! # Ok::<(), leash_core::IdError>(())
//! ```

mod call;
pub mod canonical;
mod decision;
mod digest;
mod error;
mod id;
mod json;
mod policy;
mod time;
mod usage;
mod usd;

pub use self::call::{Advisor, Call, Caller, InputSize, ModelCall, ToolCall, ToolRequest};
pub use self::decision::{Action, Decision};
pub use self::digest::{Digest, DigestError};
pub use self::error::{LeashError, StoreError, StoreErrorKind, rule_ids};
pub use self::id::{
    AgentName, IdError, IdGenerator, MAX_ID_BYTES, RequestId, ReservationId, SessionId, TenantId,
};
pub use self::json::Json;
pub use self::policy::{AsyncRule, Evaluation, PolicyContext, PolicyEngine, Redactor, Rule, RuleError};
pub use self::time::{Clock, SystemClock, Timestamp, TimestampError};
pub use self::usage::{Advice, ServiceTier, Usage};
pub use self::usd::{Usd, UsdError};
