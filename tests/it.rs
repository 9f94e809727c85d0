//! What holds across crates: one module per subject.
