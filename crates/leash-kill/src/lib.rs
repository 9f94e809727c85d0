//! The kill switch.
//!
//! A [`KillOrder`] names a session, an agent, a tenant, or everything. A [`KillRegistry`] keeps the orders that
//! stand, answers with one question whether a caller is stopped, and tells those who wait when anything changed,
//! so that what is already running ends too. [`MemoryKillRegistry`] is the one for a single process. Features add
//! `SqliteKillRegistry`, `RedisKillRegistry` and `HttpKillRegistry`, which are shared between processes, and
//! `KillServer`, which serves any of them. [`stop_on_file`] turns a file into an order for everything.
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
#[cfg(feature = "http")]
mod http;
mod memory;
#[cfg(any(feature = "sqlite", feature = "redis", feature = "http"))]
mod open;
mod order;
mod process;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "sqlite")]
mod sqlite;
mod stop;
#[cfg(any(feature = "sqlite", feature = "redis", feature = "http"))]
mod view;
#[cfg(any(feature = "redis", feature = "http", feature = "server"))]
mod wire;

#[cfg(feature = "http")]
pub use self::http::HttpKillRegistry;
pub use self::memory::MemoryKillRegistry;
#[cfg(any(feature = "sqlite", feature = "redis", feature = "http"))]
pub use self::open::open;
pub use self::order::{
    Answer, KillOrder, KillRegistry, Leniency, MAX_REASON_BYTES, Target, TargetError, Unsure,
};
pub use self::process::ProcessStop;
#[cfg(feature = "redis")]
pub use self::redis::RedisKillRegistry;
#[cfg(feature = "server")]
pub use self::server::KillServer;
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteKillRegistry;
#[cfg(all(unix, feature = "signal"))]
pub use self::stop::{StopSignal, stop_on_signal};
pub use self::stop::{StopWatch, stop_on_file};
#[cfg(any(feature = "sqlite", feature = "redis", feature = "http"))]
pub use self::view::ViewOptions;
/// How a Redis server is spoken to, for [`RedisKillRegistry::with_redis`].
#[cfg(feature = "redis")]
pub use leash_store::RedisOptions;
#[cfg(any(feature = "sqlite", feature = "redis", feature = "http"))]
pub use leash_store::{StoreKind, StoreUrl, StoreUrlError};

/// Makes a type with a field `view` a registry that answers by it.
#[cfg(any(feature = "sqlite", feature = "redis", feature = "http"))]
macro_rules! registry_by_view {
    ($name:ident) => {
        impl KillRegistry for $name {
            fn standing<'a: 'f, 'b: 'f, 'f>(
                &'a self,
                caller: &'b Caller,
            ) -> std::pin::Pin<Box<dyn Future<Output = Result<Option<KillOrder>, StoreError>> + Send + 'f>>
            where
                Self: 'f,
            {
                self.view.standing(caller)
            }

            fn at_once(&self, caller: &Caller) -> Option<Result<Answer, StoreError>> {
                self.view.at_once(caller)
            }

            fn ask<'a: 'f, 'b: 'f, 'f>(
                &'a self,
                caller: &'b Caller,
            ) -> std::pin::Pin<Box<dyn Future<Output = Result<Answer, StoreError>> + Send + 'f>>
            where
                Self: 'f,
            {
                self.view.ask(caller)
            }

            fn kill<'a: 'f, 'f>(
                &'a self,
                order: KillOrder,
            ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'f>>
            where
                Self: 'f,
            {
                self.view.kill(order)
            }

            fn clear<'a: 'f, 'b: 'f, 'f>(
                &'a self,
                target: &'b Target,
            ) -> std::pin::Pin<Box<dyn Future<Output = Result<bool, StoreError>> + Send + 'f>>
            where
                Self: 'f,
            {
                self.view.clear(target)
            }

            fn orders<'a: 'f, 'f>(
                &'a self,
            ) -> std::pin::Pin<Box<dyn Future<Output = Result<Vec<KillOrder>, StoreError>> + Send + 'f>>
            where
                Self: 'f,
            {
                self.view.orders()
            }

            fn changes(&self) -> watch::Receiver<u64> {
                self.view.changes()
            }
        }
    };
}
#[cfg(any(feature = "sqlite", feature = "redis", feature = "http"))]
use registry_by_view;
