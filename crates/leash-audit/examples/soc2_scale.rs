//! How long an evidence pack takes and how much memory, by the number of sessions:
//! `cargo run --release -p leash-audit --example soc2_scale -- EVENTS SESSIONS [own|total]`.
//!
//! `total` writes what each session has spent so far as the cost of a call, as adapters of the Python package did, and
//! so has both readings of the costs counted. Sessions take turns: the worst case, as no session is over before the
//! next one begins.
#![expect(clippy::print_stdout, reason = "a program")]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use leash_audit::soc2::{Period, Soc2Options, generate_soc2_report};
use leash_audit::{AuditLog, Event, Input, Kill, Kind, ModelCall, ToolCall, Who};
use leash_core::{Digest, Timestamp, Usd};

const MODELS: [&str; 4] = ["claude-haiku-4-5", "claude-opus-4-7", "gpt-5", "gpt-5-mini"];
const TOOLS: [&str; 5] = ["db.query", "http.get", "shell", "mail.send", "search"];

fn pick<'a>(from: &[&'a str], n: u64) -> &'a str {
    let mut round = from.iter().copied().cycle();
    round
        .nth(usize::try_from(n % 60).unwrap_or_default())
        .unwrap_or_default()
}

/// Three model calls, then a tool call; now and then a kill.
fn write(path: &Path, events: u64, sessions: u64, own: bool) -> Result<(), Box<dyn Error>> {
    let log = AuditLog::open(path)?;
    for n in 0..events {
        let turn = n.checked_div(sessions).unwrap_or(n);
        let number = n.checked_rem(sessions).unwrap_or_default();
        let session = format!("s_{:012x}", number.wrapping_mul(2_654_435_761));
        let tenant = format!("tenant-{}", number % 20);
        // Whatever the number of sessions, each does a bit of everything.
        let step = number.wrapping_add(turn);
        let cost = Usd::from_nanos(1_000_000_u64.saturating_add(step % 997).saturating_mul(31))?;
        let total = cost.saturating_add(Usd::from_nanos(turn.saturating_mul(40_000_000))?);
        let kind = if step % 1000 == 999 {
            Kind::Kill(Kill {
                reason: "runaway",
                scope: None,
            })
        } else if step % 4 == 3 {
            Kind::ToolCall(ToolCall {
                tool: pick(&TOOLS, step / 4),
                request_hash: Digest::of(&n.to_le_bytes()),
                ..ToolCall::default()
            })
        } else {
            Kind::ModelCall(ModelCall {
                provider: pick(&["anthropic", "openai"], step),
                model: pick(&MODELS, step / 3),
                input_tokens: n % 5000,
                output_tokens: n % 700,
                cost: if own { cost } else { total },
                cumulative: own.then_some(total),
                request_hash: Digest::of(&n.to_le_bytes()),
                ..ModelCall::default()
            })
        };
        let who = Who {
            session_id: &session,
            tenant_id: Some(&tenant),
            agent_name: None,
        };
        let _ = log.append(&Event::new(who, kind))?;
    }
    log.close()?;
    Ok(())
}

/// The most memory since the last `forget`, in MB. Nothing where the system does not tell.
fn peak_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024) / 1_000_000)
}

/// Lets the most memory begin at what is used now.
fn forget() {
    // Where the system cannot, the figure includes the writing of the log.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut number = |default: u64| args.next().map_or(Ok(default), |text| text.parse());
    let (events, sessions) = (number(1_000_000)?, number(1_000_000)?);
    let own = args.next().is_none_or(|word| word != "total");
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("audit.jsonl");
    write(&path, events, sessions, own)?;
    let period = Period::parse("2000-01-01", "9999-12-31")?;
    let options = Soc2Options::new(dir.path().join("pack"), period, Timestamp::EPOCH);
    forget();
    let begun = Instant::now();
    let report = generate_soc2_report(Input::open(&path)?, &options)?;
    let took = begun.elapsed();
    println!(
        "{} events of {} sessions, costs read as {}: {:.2?}, {} MB",
        report.summary.events,
        report.summary.sessions,
        report.summary.costs,
        took,
        peak_mb().map_or_else(|| "?".to_owned(), |peak| peak.to_string()),
    );
    for path in &report.files {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        println!("{} {name}", Digest::of(&std::fs::read(path)?));
    }
    Ok(())
}
