//! The laws of the log.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::naive_bytecount,
    clippy::string_slice,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "tests"
)]

#[path = "it/chain.rs"]
mod chain;
#[path = "it/crash.rs"]
mod crash;
#[path = "it/fixtures.rs"]
mod fixtures;
#[path = "it/moved.rs"]
mod moved;
#[path = "it/signed.rs"]
mod signed;
#[path = "it/soc2.rs"]
mod soc2;
#[path = "it/writer.rs"]
mod writer;

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use leash_audit::{
    Event, Kill, Kind, ModelCall, Outcome, Refusal, Report, VerifyOptions, Who, verify_reader,
};
use leash_core::{Clock, Timestamp, Usd};

/// A clock that stands still until it is told to go on.
#[derive(Debug, Default)]
struct HandClock(AtomicI64);

impl HandClock {
    fn advance(&self, micros: i64) {
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_micros(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

fn kill(reason: &str) -> Event<'_> {
    Event::new(Who::session("s_1"), Kind::Kill(Kill { reason, scope: None }))
}

fn refusal(reason: &str) -> Event<'_> {
    let refusal = Refusal {
        rule_id: "budget:hard_cap",
        reason,
        stage: "reserve",
    };
    Event::new(Who::session("s_1"), Kind::Refusal(refusal))
}

fn model_call(nanos: u64) -> Event<'static> {
    let call = ModelCall {
        provider: "anthropic",
        model: "claude-haiku-4-5",
        input_tokens: 1200,
        output_tokens: 350,
        cost: Usd::from_nanos(nanos).unwrap(),
        cumulative: Some(Usd::from_nanos(nanos).unwrap()),
        outcome: Some(Outcome::Ok),
        ..ModelCall::default()
    };
    Event::new(Who::session("s_1"), Kind::ModelCall(call))
}

fn check(log: &[u8]) -> Report {
    verify_reader(
        log,
        &VerifyOptions {
            threads: Some(2),
            ..VerifyOptions::default()
        },
    )
    .unwrap()
}

fn check_file(path: &Path) -> Report {
    check(&std::fs::read(path).unwrap())
}

/// The parsed lines of a log.
fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
