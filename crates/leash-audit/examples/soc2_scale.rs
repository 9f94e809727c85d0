//! How long an evidence pack takes and how much memory, by the number of sessions:
//! `cargo run --release -p leash-audit --example soc2_scale -- EVENTS SESSIONS [own|total]`.
//!
//! `total` writes what each session has spent so far as the cost of a call, as adapters of the Python package did. The
//! same log is written each time, and the digests of the tables are shown, so that they can be compared.
#![expect(clippy::print_stdout, reason = "a program")]

#[path = "../benches/support/sessions.rs"]
mod sessions;

use std::error::Error;
use std::time::{Duration, Instant};

use leash_audit::Input;
use leash_audit::soc2::{Period, Soc2Options, generate_soc2_report};
use leash_core::{Digest, Timestamp};

use self::sessions::Shape;

/// How long processors worked, for `self` all of them and for `thread-self` that of this thread. Nothing where the
/// system does not tell.
fn worked(whose: &str) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{whose}/stat")).ok()?;
    // After the name, which may have anything in it: user time and system time are the twelfth and thirteenth.
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks = rest.split_whitespace().skip(11).take(2);
    let ticks: Option<Vec<u64>> = ticks.map(|ticks| ticks.parse().ok()).collect();
    Some(Duration::from_millis(
        ticks?.iter().sum::<u64>().saturating_mul(10),
    ))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut number = |default: u64| args.next().map_or(Ok(default), |text| text.parse());
    let (events, sessions) = (number(1_000_000)?, number(1_000_000)?);
    let own = args.next().is_none_or(|word| word != "total");
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("audit.jsonl");
    Shape {
        events,
        sessions,
        own,
    }
    .write(&path)?;
    let period = Period::parse("2000-01-01", "9999-12-31")?;
    let options = Soc2Options::new(dir.path().join("pack"), period, Timestamp::EPOCH);
    sessions::forget_peak();
    let before = (worked("self"), worked("thread-self"));
    let begun = Instant::now();
    let report = generate_soc2_report(Input::open(&path)?, &options)?;
    let took = begun.elapsed();
    let since = |before: Option<Duration>, whose: &str| {
        worked(whose).zip(before).map_or_else(
            || "?".to_owned(),
            |(now, before)| format!("{:.2?}", now.saturating_sub(before)),
        )
    };
    println!(
        "{} events of {} sessions, costs read as {}: {took:.2?}, {} MB",
        report.summary.events,
        report.summary.sessions,
        report.summary.costs,
        sessions::peak().map_or_else(|| "?".to_owned(), |peak| (peak / 1_000_000).to_string()),
    );
    println!(
        "processors worked for {}, of that the first thread's for {}",
        since(before.0, "self"),
        since(before.1, "thread-self"),
    );
    for path in &report.files {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".csv") {
            println!("{} {name}", Digest::of(&std::fs::read(path)?));
        }
    }
    Ok(())
}
