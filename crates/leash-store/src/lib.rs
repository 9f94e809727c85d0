//! Where things are kept: the plumbing of stores.
//!
//! - [`StoreUrl`]: the address of a store as people write it, `sqlite:PATH`, `redis://…`, `http://…`, printed without
//!   its secrets.
//! - `Sqlite` (feature `sqlite`): one database file in WAL mode, on one thread, with versioned migrations.
//! - `SharedRedis` (feature `redis`): one connection on which all tasks ask at once, with a time-out on everything,
//!   scripts, subscriptions. `rediss://` with the feature `redis-tls`, `redis-cluster://` with the feature
//!   `redis-cluster`.
//!
//! Every failure becomes a [`leash_core::StoreError`]. Its invariant: it opens and asks, and knows nothing of what is
//! kept. No table, key or word of any other crate stands here.
//!
//! ```
//! use leash_store::{StoreKind, StoreUrl};
//!
//! let url: StoreUrl = "redis://:hunter2@10.0.0.7:6379/0".parse()?;
//! assert_eq!(url.kind(), StoreKind::Redis);
//! assert_eq!(url.to_string(), "redis://***@10.0.0.7:6379/0");
//! # Ok::<(), leash_store::StoreUrlError>(())
//! ```

#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod shared;
#[cfg(feature = "sqlite")]
mod sqlite;
mod url;

#[cfg(feature = "redis")]
pub use self::redis::{RedisOptions, Subscription};
#[cfg(feature = "redis")]
pub use self::shared::SharedRedis;
#[cfg(feature = "sqlite")]
pub use self::sqlite::{Schema, Sqlite, SqliteOptions, sqlite_error};
pub use self::url::{StoreKind, StoreUrl, StoreUrlError};

/// The client that [`SharedRedis`] speaks through, for commands and scripts.
#[cfg(feature = "redis")]
pub use deadpool_redis::redis as redis_client;
/// The library that [`Sqlite`] speaks through, for statements and rows.
#[cfg(feature = "sqlite")]
pub use rusqlite;
