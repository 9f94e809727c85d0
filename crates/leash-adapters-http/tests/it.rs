//! The middleware over real HTTP, in front of a provider that does what the test says.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::float_arithmetic,
    reason = "tests"
)]

#[path = "it/bounds.rs"]
mod bounds;
#[path = "it/kills.rs"]
mod kills;
#[path = "it/laws.rs"]
mod laws;
#[path = "it/money.rs"]
mod money;
#[path = "it/requests.rs"]
mod requests;
#[path = "it/stream.rs"]
mod stream;
#[path = "it/support.rs"]
mod support;
#[path = "it/unary.rs"]
mod unary;
