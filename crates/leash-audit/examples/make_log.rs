//! Writes a log of model calls: `cargo run --release -p leash-audit --example make_log [-- PATH EVENTS]`.
#![expect(clippy::print_stdout, reason = "a program")]

use std::path::PathBuf;
use std::time::Instant;

use leash_audit::{AuditLog, Event, Kind, ModelCall, Outcome, Who};
use leash_core::{Digest, Usd};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let mut args = std::env::args().skip(1);
    let path = args
        .next()
        .map_or_else(|| dir.path().join("audit.jsonl"), PathBuf::from);
    let events: u64 = args.next().map_or(Ok(10_000), |events| events.parse())?;
    let log = AuditLog::open(&path)?;
    let begun = Instant::now();
    let mut cumulative = Usd::ZERO;
    for n in 0..events {
        let cost = Usd::from_nanos(1_000_000_u64.saturating_add(n % 997).saturating_mul(31))?;
        cumulative = cumulative.saturating_add(Usd::from_nanos(n % 1000)?);
        let call = ModelCall {
            provider: "anthropic",
            model: "claude-haiku-4-5",
            input_tokens: n % 5000,
            output_tokens: n % 700,
            cost,
            cumulative: Some(cumulative),
            duration_ms: Some(n % 3000),
            outcome: Some(Outcome::Ok),
            request_hash: Digest::of(&n.to_le_bytes()),
            ..ModelCall::default()
        };
        let who = Who {
            session_id: "s_0123456789ab",
            tenant_id: Some("acme"),
            agent_name: None,
        };
        let _ = log.append(&Event::new(who, Kind::ModelCall(call)))?;
    }
    log.close()?;
    println!("{events} events in {:?}", begun.elapsed());
    Ok(())
}
