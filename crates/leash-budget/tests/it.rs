//! The laws of a budget store over every store there is, and what becomes of money when processes die.
#![cfg(feature = "conformance")]

#[path = "it/memory.rs"]
mod memory;
#[cfg(any(feature = "redis", feature = "sqlite"))]
#[path = "it/processes.rs"]
mod processes;
#[cfg(feature = "redis")]
#[path = "it/redis.rs"]
mod redis;
#[path = "it/replay.rs"]
mod replay;
#[cfg(feature = "sqlite")]
#[path = "it/sqlite.rs"]
mod sqlite;
