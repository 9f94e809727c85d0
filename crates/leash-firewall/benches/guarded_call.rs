//! What the firewall costs a call: in process, one caller, a short message.
//!
//! Criterion gives the medians. Percentiles are of 100,000 calls timed one by one, kept beside its figures.
#![expect(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "a benchmark")]

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use leash_core::{Digest, Json, ModelCall, Usage, Usd};
use leash_firewall::{Answer, Firewall};
use leash_policy::{BlockedPatterns, PiiRedactor, SecretsRule};
use tokio::runtime::Runtime;

fn messages() -> Json {
    Json::parse(r#"[{"role":"user","content":"What is the weather in Berlin today?"}]"#).unwrap()
}

/// One message of 2 KB with nothing in it that a rule would find.
fn long_messages() -> String {
    let prose = "The quarterly report covers budgets, plans and risks; 3 items remain open, see section 12. ";
    let text: String = prose.chars().cycle().take(2048).collect();
    format!(r#"[{{"role":"user","content":"{text}"}}]"#)
}

async fn guarded_call(firewall: &Firewall, messages: Json, answer: &Json) {
    let call = ModelCall::new(
        "anthropic",
        "claude-haiku-4-5",
        messages,
        256,
        firewall.caller().clone(),
    );
    let admission = firewall.admit(call).await.unwrap();
    let usage = Usage {
        input_tokens: 18,
        output_tokens: 42,
        ..Usage::default()
    };
    // As `Firewall::model` does: what nobody writes down is not hashed.
    let digest = if firewall.audit_log().is_some() {
        answer.digest()
    } else {
        Digest::EMPTY
    };
    let receipt = admission.settle(Answer::reported(usage, digest)).await;
    assert!(black_box(receipt).warning.is_none());
}

/// How many calls go into a log before the next one is begun: about 100 MB, which the kernel need not write to the disk
/// before the log is gone. What is measured is the call, not how fast the disk takes gigabytes.
const SHORT_LOG: u64 = 100_000;

const CALLS: usize = 100_000;

/// 99th percentile in nanoseconds of single calls, written where the table of all figures is made from.
fn percentile(runtime: &Runtime, id: &str, firewall: &Firewall, messages: impl Fn() -> Json) {
    let answer = answer();
    let mut times: Vec<u128> = (0..CALLS)
        .map(|_| {
            let start = Instant::now();
            runtime.block_on(guarded_call(firewall, messages(), &answer));
            start.elapsed().as_nanos()
        })
        .collect();
    times.sort_unstable();
    let p99 = times.get(CALLS / 100 * 99).copied().unwrap_or_default();
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    );
    let dir = target.join("leash-bench");
    std::fs::create_dir_all(&dir).unwrap();
    let figure = format!("{{\"id\":\"{id}\",\"value\":{p99},\"unit\":\"ns\"}}\n");
    std::fs::write(dir.join(format!("{}.json", id.replace('/', "_"))), figure).unwrap();
}

fn answer() -> Json {
    Json::parse(r#"[{"type":"text","text":"Sunny, 21 degrees."}]"#).unwrap()
}

fn bench(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (messages, answer) = (messages(), answer());

    let bare = Firewall::builder().build().unwrap();
    criterion.bench_function("firewall/guarded_call_bare", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(|| guarded_call(&bare, messages.clone(), &answer));
    });

    let dir = tempfile::tempdir().unwrap();
    let full = |name: &str| {
        Firewall::builder()
            .budget(Usd::MAX)
            .audit_log(dir.path().join(name))
            .build()
            .unwrap()
    };
    percentile(
        &runtime,
        "firewall/guarded_call_budget_audit_p99",
        &full("single.jsonl"),
        || messages.clone(),
    );
    criterion.bench_function("firewall/guarded_call_budget_audit", |bencher| {
        bencher.iter_custom(|count| {
            let mut total = Duration::ZERO;
            let mut left = count;
            while left > 0 {
                let now = left.min(SHORT_LOG);
                left -= now;
                let firewall = full("audit.jsonl");
                let begun = Instant::now();
                for _ in 0..now {
                    runtime.block_on(guarded_call(&firewall, messages.clone(), &answer));
                }
                total += begun.elapsed();
                drop(firewall);
                std::fs::remove_file(dir.path().join("audit.jsonl")).unwrap();
            }
            total
        });
    });

    let patterns: Vec<String> = (0..50)
        .map(|at| format!(r"\b(password|token|internal-{at})\s*[:=]\s*\S+{at}"))
        .collect();
    let ruled = Firewall::builder()
        .budget(Usd::MAX)
        .audit_log(dir.path().join("ruled.jsonl"))
        .rule(BlockedPatterns::new(&patterns).unwrap())
        .rule(SecretsRule::new())
        .redactor(PiiRedactor::new())
        .build()
        .unwrap();
    // Read anew for each call, as a request is: what a rule finds out about a text may be kept with it.
    let long = || Json::parse(long_messages()).unwrap();
    criterion.bench_function("firewall/guarded_call_policy", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(|| guarded_call(&ruled, long(), &answer));
    });
    percentile(&runtime, "firewall/guarded_call_policy_p99", &ruled, long);
}

criterion_group!(benches, bench);
criterion_main!(benches);
