//! How fast an evidence pack is made, and in how much memory. `cargo bench -p leash-audit --bench soc2`; the number of
//! events is `LEASH_BENCH_EVENTS`, 1,000,000 by default, of 10,000 sessions in 20 tenants; the memory is also taken with as
//! many sessions as events.

#![expect(clippy::unwrap_used, reason = "a benchmark")]

#[path = "support/sessions.rs"]
mod sessions;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use leash_audit::soc2::{Period, Soc2Options, generate_soc2_report};
use leash_audit::{Input, VerifyOptions, verify};
use leash_core::Timestamp;

use self::sessions::Shape;

fn make(path: &Path, out: &Path) -> Duration {
    let period = Period::parse("2000-01-01", "9999-12-31").unwrap();
    let options = Soc2Options::new(out, period, Timestamp::EPOCH);
    let begun = Instant::now();
    let report = generate_soc2_report(Input::open(path).unwrap(), &options).unwrap();
    let took = begun.elapsed();
    assert!(report.integrity.verified && report.summary.events == report.integrity.event_count);
    took
}

/// Leaves the most memory that one pack takes beside criterion's figures.
fn note_peak(id: &str, path: &Path, out: &Path) {
    sessions::forget_peak();
    make(path, out);
    let Some(peak) = sessions::peak() else { return };
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    );
    let figures = target.join("leash-bench");
    std::fs::create_dir_all(&figures).unwrap();
    let figure = format!("{{\"id\":\"audit/{id}\",\"value\":{peak},\"unit\":\"B\"}}\n");
    std::fs::write(figures.join(format!("audit_{id}.json")), figure).unwrap();
}

fn soc2(c: &mut Criterion) {
    let events = std::env::var("LEASH_BENCH_EVENTS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1_000_000);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.jsonl");
    let out = dir.path().join("pack");
    let shape = |sessions| Shape {
        events,
        sessions,
        own: true,
    };
    shape(10_000).write(&path).unwrap();

    // First, while the program has not used memory for anything else.
    note_peak("soc2_1m_rss", &path, &out);
    let many = dir.path().join("many.jsonl");
    shape(events).write(&many).unwrap();
    note_peak("soc2_1m_sessions_rss", &many, &out);
    let mut group = c.benchmark_group("audit");
    group.sample_size(10).throughput(Throughput::Elements(events));
    group.bench_function("soc2_1m", |b| {
        b.iter_custom(|count| (0..count).map(|_| make(&path, &out)).sum());
    });
    group.bench_function("soc2_1m_sessions", |b| {
        b.iter_custom(|count| (0..count).map(|_| make(&many, &out)).sum());
    });
    // The same log without the pack, to see what the pack costs.
    group.bench_function("soc2_1m_verify_alone", |b| {
        b.iter(|| assert!(verify(&path, &VerifyOptions::default()).unwrap().is_ok()));
    });
    group.finish();
}

criterion_group!(benches, soc2);
criterion_main!(benches);
