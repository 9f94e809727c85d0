//! What must always hold of the one way through.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

mod breakers;
mod caps;
mod children;
mod clamp;
mod crashed;
mod durable;
mod evidence;
mod human;
mod killed;
mod money;
mod once;
mod path;
mod redis;
mod stop;
mod support;
mod synchronous;
