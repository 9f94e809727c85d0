//! What holds across crates: one module per subject.

#[path = "it/bridge.rs"]
mod bridge;
