//! How fast a log is written, opened and checked. `cargo bench -p leash-audit`; the number of events of the large
//! log is `LEASH_BENCH_EVENTS`, 1,000,000 (about 545 MB) by default.

#![expect(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group};
use leash_audit::{AuditLog, Durability, Event, Kind, ModelCall, VerifyOptions, Who, verify};
use leash_core::{Digest, Usd};

fn append(log: &AuditLog, n: u64) -> leash_audit::Appended {
    let call = ModelCall {
        provider: "anthropic",
        model: "claude-haiku-4-5",
        input_tokens: 1200,
        output_tokens: 350,
        cost: Usd::from_nanos(2_360_000).unwrap(),
        cumulative: Some(Usd::from_nanos(n % 9_000_000_000).unwrap()),
        request_hash: Digest::ZERO,
        ..ModelCall::default()
    };
    let event = Event::new(Who::session("s_0123456789ab"), Kind::ModelCall(call));
    log.append(&event).unwrap()
}

/// Appends `count` events from each of `threads` threads that wait for the disk, and says how long that took.
fn durable_by_threads(log: &AuditLog, threads: u64, count: u64) -> Duration {
    let begun = Instant::now();
    let left = AtomicU64::new(count);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                    .is_ok()
                {
                    append(log, 1).wait().unwrap();
                }
            });
        }
    });
    begun.elapsed()
}

/// The same with tasks, of which each waits for its line before it appends the next.
fn durable_by_tasks(log: &AuditLog, tasks: u64, count: u64) -> Duration {
    let begun = Instant::now();
    let left = AtomicU64::new(count);
    let tasks = (0..tasks).map(|_| async {
        while left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
        {
            append(log, 1).durable().await.unwrap();
        }
    });
    futures_executor::block_on(futures_util::future::join_all(tasks));
    begun.elapsed()
}

/// How many events go into a log before the next one is begun: about 50 MB, which the kernel need not write to the disk
/// before the log is gone. What is measured is appending, not how fast the disk takes gigabytes.
const SHORT_LOG: u64 = 100_000;

/// Appends `count` events, none of them durable, and says how long that took.
fn in_short_logs(dir: &Path, count: u64) -> Duration {
    let path = dir.join("none.jsonl");
    let mut total = Duration::ZERO;
    let mut left = count;
    while left > 0 {
        let now = left.min(SHORT_LOG);
        left -= now;
        let log = AuditLog::open(&path).unwrap();
        let begun = Instant::now();
        for n in 0..now {
            black_box(append(&log, n).seq());
        }
        total += begun.elapsed();
        drop(log);
        std::fs::remove_file(&path).unwrap();
    }
    total
}

fn writing(c: &mut Criterion, dir: &Path) {
    let mut group = c.benchmark_group("audit");
    group.throughput(Throughput::Elements(1));
    let log = AuditLog::builder(dir.join("each.jsonl")).durability(Durability::Each);
    let log = log.open().unwrap();
    group.bench_function("append_each_64_threads", |b| {
        b.iter_custom(|count| durable_by_threads(&log, 64, count));
    });
    group.bench_function("append_each_64", |b| {
        b.iter_custom(|count| durable_by_tasks(&log, 64, count));
    });
    group.bench_function("append_none", |b| {
        b.iter_custom(|count| in_short_logs(dir, count));
    });
    group.finish();
}

fn large(c: &mut Criterion, dir: &Path) {
    let events = std::env::var("LEASH_BENCH_EVENTS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1_000_000);
    let path = dir.join("large.jsonl");
    let log = AuditLog::open(&path).unwrap();
    for n in 0..events {
        black_box(append(&log, n).seq());
    }
    drop(log);

    let mut group = c.benchmark_group("audit_large");
    group.bench_function("open_545mb", |b| {
        b.iter_custom(|count| {
            let mut total = Duration::ZERO;
            for _ in 0..count {
                let begun = Instant::now();
                let log = AuditLog::open(&path).unwrap();
                total += begun.elapsed();
                drop(log);
            }
            total
        });
    });
    group.sample_size(10).throughput(Throughput::Elements(events));
    group.bench_function("verify_1m", |b| {
        b.iter(|| {
            let report = verify(&path, &VerifyOptions::default()).unwrap();
            assert!(report.is_ok() && report.events == events);
        });
    });
    group.finish();
    keep_verify_memory(&path);
}

const MEASURE_MEMORY: &str = "LEASH_BENCH_MEASURE_MEMORY";

/// The most memory that a process needs which does nothing but verify `path`, kept where the table of all figures is
/// made from.
fn keep_verify_memory(path: &Path) {
    let child = Command::new(std::env::current_exe().unwrap())
        .env(MEASURE_MEMORY, path)
        .output()
        .unwrap();
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stderr)
    );
    let kilobytes: u64 = String::from_utf8(child.stdout).unwrap().trim().parse().unwrap();
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    );
    std::fs::create_dir_all(target.join("leash-bench")).unwrap();
    let figure = format!("{{\"id\":\"audit/verify_1m_rss\",\"value\":{kilobytes},\"unit\":\"kB\"}}\n");
    std::fs::write(target.join("leash-bench/audit_verify_1m_rss.json"), figure).unwrap();
}

/// The child's part: `VmHWM` of /proc, in kB.
#[expect(clippy::print_stdout, reason = "how a child reports to its parent")]
fn measure_memory(path: &Path) {
    assert!(verify(path, &VerifyOptions::default()).unwrap().is_ok());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    println!("{}", line.trim().trim_end_matches(" kB"));
}

fn audit(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    writing(c, dir.path());
    large(c, dir.path());
}

criterion_group!(benches, audit);

fn main() {
    if let Some(path) = std::env::var_os(MEASURE_MEMORY) {
        return measure_memory(Path::new(&path));
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
