//! How fast an evidence pack is made, and in how much memory. `cargo bench -p leash-audit --bench soc2`; the number of
//! events is `LEASH_BENCH_EVENTS`, 1,000,000 by default, of 10,000 sessions in 20 tenants; the memory is also taken with as
//! many sessions as events.

#![expect(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use leash_audit::soc2::{Period, Soc2Options, generate_soc2_report};
use leash_audit::{AuditLog, Event, Input, Kill, Kind, ModelCall, ToolCall, VerifyOptions, Who, verify};
use leash_core::{Digest, Timestamp, Usd};

const MODELS: [&str; 4] = ["claude-haiku-4-5", "claude-opus-4-7", "gpt-5", "gpt-5-mini"];
const TOOLS: [&str; 5] = ["db.query", "http.get", "shell", "mail.send", "search"];

fn pick<'a>(from: &[&'a str], n: u64) -> &'a str {
    let at = usize::try_from(n).unwrap() % from.len();
    from.get(at).unwrap()
}

/// Three model calls, then a tool call; now and then a kill.
fn append(log: &AuditLog, n: u64, sessions: u64) {
    let session = format!("s_{:012x}", n.wrapping_mul(2_654_435_761) % sessions);
    let tenant = format!("tenant-{}", n % 20);
    let kind = if n % 1000 == 999 {
        Kind::Kill(Kill {
            reason: "runaway",
            scope: None,
        })
    } else if n % 4 == 3 {
        Kind::ToolCall(ToolCall {
            tool: pick(&TOOLS, n / 7),
            request_hash: Digest::of(&n.to_le_bytes()),
            ..ToolCall::default()
        })
    } else {
        Kind::ModelCall(ModelCall {
            provider: pick(&["anthropic", "openai"], n),
            model: pick(&MODELS, n / 3),
            input_tokens: n % 5000,
            output_tokens: n % 700,
            cost: Usd::from_nanos(1_000_000 + n % 997 * 31).unwrap(),
            cumulative: Some(Usd::from_nanos(n % 9_000_000_000).unwrap()),
            request_hash: Digest::of(&n.to_le_bytes()),
            ..ModelCall::default()
        })
    };
    let who = Who {
        session_id: &session,
        tenant_id: Some(&tenant),
        agent_name: None,
    };
    black_box(log.append(&Event::new(who, kind)).unwrap().seq());
}

fn make(path: &Path, out: &Path) -> Duration {
    let period = Period::parse("2000-01-01", "9999-12-31").unwrap();
    let options = Soc2Options::new(out, period, Timestamp::EPOCH);
    let begun = Instant::now();
    let report = generate_soc2_report(Input::open(path).unwrap(), &options).unwrap();
    let took = begun.elapsed();
    assert!(report.integrity.verified && report.summary.events == report.integrity.event_count);
    took
}

/// Writes a log.
fn write(path: &Path, events: u64, sessions: u64) {
    let log = AuditLog::open(path).unwrap();
    for n in 0..events {
        append(&log, n, sessions);
    }
    log.close().unwrap();
}

/// Leaves the most memory that one pack takes beside criterion's figures.
fn note_peak(id: &str, path: &Path, out: &Path) {
    let Some(peak) = peak(path, out) else { return };
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    );
    let figures = target.join("leash-bench");
    std::fs::create_dir_all(&figures).unwrap();
    let figure = format!("{{\"id\":\"audit/{id}\",\"value\":{peak},\"unit\":\"B\"}}\n");
    std::fs::write(figures.join(format!("audit_{id}.json")), figure).unwrap();
}

/// The most memory that one pack took, in bytes, the program itself included. Nothing where the system does not tell.
fn peak(path: &Path, out: &Path) -> Option<u64> {
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    make(path, out);
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn soc2(c: &mut Criterion) {
    let events = std::env::var("LEASH_BENCH_EVENTS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1_000_000);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.jsonl");
    let out = dir.path().join("pack");
    write(&path, events, 10_000);

    // First, while the program has not used memory for anything else.
    note_peak("soc2_1m_rss", &path, &out);
    let many = dir.path().join("many.jsonl");
    // A prime number of sessions that is no smaller than that of events: none comes twice.
    write(&many, events, 2_147_483_647);
    note_peak("soc2_1m_sessions_rss", &many, &out);
    std::fs::remove_file(&many).unwrap();

    let mut group = c.benchmark_group("audit");
    group.sample_size(10).throughput(Throughput::Elements(events));
    group.bench_function("soc2_1m", |b| {
        b.iter_custom(|count| (0..count).map(|_| make(&path, &out)).sum());
    });
    // The same log without the pack, to see what the pack costs.
    group.bench_function("soc2_1m_verify_alone", |b| {
        b.iter(|| assert!(verify(&path, &VerifyOptions::default()).unwrap().is_ok()));
    });
    group.finish();
}

criterion_group!(benches, soc2);
criterion_main!(benches);
