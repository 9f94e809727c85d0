//! The one way through for an agent's calls.
//!
//! A [`Firewall`] stands between an agent and what the agent can spend or break. Every call, of a model or of a
//! tool, is [admitted](Firewall::admit) or refused; an [`Admission`] is the one value that allows a call, and it
//! ends exactly once.
//!
//! ```text
//! admit: kill? → price and bound → rules → redact → human? → reserve → kill?  ──►  the call
//! settle: real cost for the bound → the line in the log → tool calls that the model asks for
//! ```
//!
//! - **Money.** The upper bound of a call's cost is set aside, atomically, in every capped scope before the call;
//!   the real cost replaces it after. Spent + reserved never passes a cap, however many tasks race.
//! - **Evidence.** No refusal without a line, no call without a trace: a line or a durable reservation is there
//!   before bytes leave, and the line after. If that line cannot be written once money was spent, the answer is
//!   delivered with a [`Warning`], the record is kept, and nothing more is admitted until it is on disk.
//! - **Stop.** [`Firewall::kill`] refuses what comes and cuts what runs.
//! - **Closed.** A store, registry, gate, rule or log that fails refuses.
//!
//! Three ways in: an adapter ([`Firewall::wrap`]); [`Firewall::tool`], [`Firewall::model`] and [`Firewall::charge`]
//! for what has no adapter; [`Firewall::admit`] for whoever writes one. [`Firewall::blocking`] is the twin for
//! synchronous programs.
//!
//! Its invariant: it knows no wire format, no HTTP, and no store but the ones in memory.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use leash_firewall::{Firewall, GuardedError};
//! use serde_json::json;
//!
//! let dir = tempfile::tempdir()?;
//! let fw = Firewall::builder()
//!     .budget_usd(5.00)
//!     .denied_tools(["wire_*"])
//!     .audit_log(dir.path().join("audit.jsonl"))
//!     .build()?;
//!
//! let found = fw.tool("search", json!({"q": "weather"}), async |_| Ok::<_, std::io::Error>(json!("sunny"))).await?;
//! assert_eq!(found.value, "sunny");
//!
//! let refused = fw.tool("wire_transfer", json!({"usd": 4000}), async |_| Ok::<_, std::io::Error>(json!("gone"))).await;
//! assert!(matches!(refused, Err(GuardedError::Refused(_))));
//!
//! fw.kill("enough").await?;
//! assert!(fw.tool("search", json!({}), async |_| Ok::<_, std::io::Error>(json!(1))).await.is_err());
//! fw.close().await?;
//! # Ok(())
//! # }
//! ```

mod admission;
mod blocking;
mod breakers;
mod builder;
mod children;
mod clamp;
mod firewall;
mod guarded;
mod journal;
mod passes;
mod path;
mod scopes;
mod screen;
mod session;
mod settler;
mod wrap;

pub use leash_audit::Outcome;
pub use leash_budget::{Grant, Window};

pub use self::admission::{Admission, Answer, Receipt};
pub use self::blocking::BlockingFirewall;
pub use self::builder::{BuildError, FirewallBuilder};
pub use self::clamp::Clamp;
pub use self::firewall::Firewall;
pub use self::guarded::{Answered, Charge, GuardedError, ModelAnswer, ModelFailure};
pub use self::journal::Warning;
pub use self::scopes::Over;
pub use self::wrap::Wrap;
