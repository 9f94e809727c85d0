//! Human approval of an agent's calls.
//!
//! Where a rule asks for a human, the firewall hands an [`ApprovalRequest`] to a [`HitlGate`] and waits. Only
//! [`Approval::Approved`] lets the call through; a rejection carries its reason to the agent, and an error denies.
//! [`InMemoryHitlGate`] answers everything alike and keeps what it was asked: for tests and dry runs.
//!
//! Its invariant: it decides about no call by itself, and knows no budget, no kill order and no log.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use leash_core::{Action, Call, Caller, Decision, IdGenerator, SessionId, Timestamp, ToolCall};
//! use leash_hitl::{Approval, ApprovalRequest, HitlGate, InMemoryHitlGate};
//!
//! let gate = InMemoryHitlGate::rejecting("not on a Friday");
//! let caller = Caller::session(SessionId::new("s_1")?);
//! let call = Call::Tool(ToolCall::new("deploy", serde_json::json!({"to": "production"}), caller));
//! let request = ApprovalRequest {
//!     id: IdGenerator::from_os().request(Timestamp::EPOCH),
//!     request_digest: call.request_digest(),
//!     call,
//!     decision: Decision::new(Action::Hitl, "deploys", "a deploy needs a human"),
//! };
//! let Approval::Rejected { reason, .. } = gate.request(&request).await? else { panic!("approved") };
//! assert_eq!(reason, "not on a Friday");
//! assert_eq!(gate.requests().len(), 1);
//! # Ok(())
//! # }
//! ```

mod gate;

pub use self::gate::{Approval, ApprovalRequest, HitlGate, InMemoryHitlGate};
