//! Human approval of an agent's calls.
//!
//! Where a rule asks for a human, the firewall hands an [`ApprovalRequest`] to a [`HitlGate`] and waits. Only
//! [`Approval::Approved`] lets the call through; a rejection carries its reason to the agent, and an error denies.
//!
//! - [`InMemoryHitlGate`] answers everything alike and keeps what it was asked: for tests and dry runs.
//! - [`QueueHitlGate`] asks through a [`HitlQueue`]: [`MemoryQueue`], `SqliteQueue` (feature `sqlite`), `RedisQueue`
//!   (feature `redis`). An approval is bound to the [hash](Binding) of what the human saw and used up by one call.
//!   A [`Grant`] lets calls through that a human allowed beforehand, by name.
//! - `WebhookHitlGate` (feature `webhook`) asks a service over HTTP.
//! - [`resume`] decides by a signed link; `resume_router` (feature `server`) serves the page behind it.
//!
//! Its invariant: it decides about no call by itself, and knows no budget, no kill order and no log.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use leash_core::{Action, Call, Caller, Decision, IdGenerator, SessionId, Timestamp, ToolCall};
//! use leash_hitl::{Approval, ApprovalRequest, HitlGate, HitlQueue, MemoryQueue, QueueHitlGate, Ruling, Which};
//!
//! let queue = Arc::new(MemoryQueue::new());
//! let gate = QueueHitlGate::new(queue.clone());
//! let caller = Caller::session(SessionId::new("s_1")?);
//! let call = Call::Tool(ToolCall::new("deploy", serde_json::json!({"to": "production"}), caller));
//! let request = ApprovalRequest {
//!     id: IdGenerator::from_os().request(Timestamp::EPOCH),
//!     request_digest: call.request_digest(),
//!     call,
//!     decision: Decision::new(Action::Hitl, "deploys", "a deploy needs a human"),
//!     policy_version: "7".into(),
//! };
//! let agent = tokio::spawn(async move { gate.request(&request).await });
//!
//! let mut changes = queue.changes();
//! let asked = loop {
//!     if let Some(entry) = queue.list(Which::Open).await?.pop() { break entry }
//!     changes.changed().await?;
//! };
//! assert_eq!(asked.args, r#"{"to":"production"}"#);
//! queue.decide(&asked.id, &Ruling::reject("not on a Friday", Some("ada"))).await?;
//!
//! let Approval::Rejected { reason, .. } = agent.await??.approval else { panic!("approved") };
//! assert_eq!(reason, "not on a Friday");
//! # Ok(())
//! # }
//! ```

mod binding;
#[cfg(feature = "conformance")]
pub mod conformance;
mod entry;
mod gate;
mod grant;
#[cfg(any(feature = "sqlite", feature = "redis"))]
mod listening;
mod memory;
mod moments;
#[cfg(any(feature = "sqlite", feature = "redis"))]
mod open;
mod queue;
mod queue_gate;
#[cfg(feature = "redis")]
mod redis;
mod resume;
#[cfg(feature = "server")]
mod server;
mod signature;
#[cfg(feature = "sqlite")]
mod sqlite;
mod text;
mod waiting;
#[cfg(feature = "webhook")]
mod webhook;

pub use self::binding::{Binding, CallHash, CallHashError, MAX_SHOWN_BYTES, Shown};
pub use self::entry::{Closed, Closing, Decided, Entry, MAX_REASON_BYTES, NewEntry, Ruling, Status, Which};
pub use self::gate::{Approval, ApprovalRequest, HitlAnswer, HitlGate, InMemoryHitlGate};
pub use self::grant::{ArgPattern, Grant, GrantError, GrantUse, Granted, MAX_GRANTS, Standing, ToolPattern};
pub use self::memory::MemoryQueue;
#[cfg(any(feature = "sqlite", feature = "redis"))]
pub use self::open::{open_queue, queue_file};
pub use self::queue::{HitlQueue, MAX_OPEN};
pub use self::queue_gate::QueueHitlGate;
#[cfg(feature = "redis")]
pub use self::redis::RedisQueue;
pub use self::resume::{Allowed, Claims, ResumeError, ResumeKey, resume};
#[cfg(feature = "server")]
pub use self::server::resume_router;
pub use self::signature::{MAX_SKEW_SECONDS, SIGNATURE_HEADER, Secret, SecretError};
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteQueue;
pub use self::text::{is_deceptive, pretty_json, visible};
#[cfg(feature = "webhook")]
pub use self::webhook::{WebhookBuilder, WebhookError, WebhookHitlGate};
/// What a [`RedisQueue`] speaks to, and how.
#[cfg(feature = "redis")]
pub use leash_store::{RedisOptions, SharedRedis, StoreUrl, StoreUrlError};
