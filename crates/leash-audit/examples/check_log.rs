//! Checks a log: `cargo run --release -p leash-audit --example check_log -- PATH`.
#![expect(clippy::print_stdout, reason = "a program")]

use std::time::Instant;

use leash_audit::{VerifyOptions, verify};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: check_log PATH")?;
    let begun = Instant::now();
    let report = verify(&path, &VerifyOptions::default())?;
    println!("{report}");
    println!("{} bytes in {:?}", report.bytes, begun.elapsed());
    Ok(())
}
