//! How fast a log is written, opened and checked.
fn main() {}
