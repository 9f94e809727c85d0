//! The kill switch.
//!
//! A [`KillOrder`] names a session, an agent, a tenant, or everything. A [`KillRegistry`] keeps the orders that
//! stand, answers with one question whether a caller is stopped, and tells those who wait when anything changed,
//! so that what is already running ends too. [`MemoryKillRegistry`] is the one for a single process.
//!
//! Its invariant: it stops nothing itself, and knows no call, no budget and no log. Whoever cannot ask a
//! registry must refuse.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use leash_core::{Caller, Clock, SessionId, SystemClock};
//! use leash_kill::{KillOrder, KillRegistry, MemoryKillRegistry, Target};
//!
//! let registry = MemoryKillRegistry::new();
//! let caller = Caller::session(SessionId::new("s_1")?);
//! assert!(registry.standing(&caller).await?.is_none());
//!
//! registry.kill(KillOrder::new(Target::Everything, "rogue release", SystemClock.now())).await?;
//! assert_eq!(&*registry.standing(&caller).await?.unwrap().reason, "rogue release");
//! registry.clear(&Target::Everything).await?;
//! assert!(registry.standing(&caller).await?.is_none());
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "conformance")]
pub mod conformance;
mod memory;
mod order;

pub use self::memory::MemoryKillRegistry;
pub use self::order::{KillOrder, KillRegistry, Target};
