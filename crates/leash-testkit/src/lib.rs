//! What tests stand on: a fake model provider that answers over real HTTP, on a port of this machine, with what a test
//! scripted; and servers of a test's own.
//!
//! - [`Upstream`] is the server. It records what reached it, and notices when a client hangs up.
//! - [`Reply`] is one answer: whole, or in [`Step`]s that wait for the test, hang, break off or never end.
//! - [`anthropic`], [`chat`] and [`responses`] write answers in the providers' formats.
//! - [`RedisServer`] and [`RedisCluster`] are real ones, started for a test.
//!
//! Its invariant: it knows no other crate here, so that what they make of its bytes is their own reading. It is not
//! published.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use leash_testkit::{Reply, Upstream, anthropic};
//!
//! let provider = Upstream::start().await?;
//! provider.always(Reply::json(anthropic::message("hello", 9, 3)));
//! assert!(provider.url().starts_with("http://127.0.0.1:"));
//! assert!(provider.requests().is_empty());
//! # Ok(())
//! # }
//! ```

pub mod anthropic;
pub mod chat;
mod redis;
pub mod responses;
mod upstream;

pub use self::redis::{RedisCluster, RedisServer};
pub use self::upstream::{Received, Reply, Step, Upstream};

use serde_json::Value;

/// An event of a stream, with its name where it has one.
#[must_use]
pub fn event(name: Option<&str>, data: &Value) -> String {
    match name {
        Some(name) => format!("event: {name}\ndata: {data}\n\n"),
        None => format!("data: {data}\n\n"),
    }
}
