//! Writes a log of a quarter in which an agent ran away, and makes the evidence pack of it:
//! `cargo run -p leash-audit --example soc2_pack [-- DIR]`.
#![expect(clippy::print_stdout, reason = "a program")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use leash_audit::soc2::{Period, Soc2Options, generate_soc2_report};
use leash_audit::{
    AuditLog, Budget, BudgetDecision, Event, HitlDecision, HitlOutcome, Input, Kill, Kind, ModelCall,
    Outcome, PolicyAction, PolicyDecision, ToolCall, Who,
};
use leash_core::{Clock, Timestamp, Usd};

/// Three minutes and a bit pass between any two events.
#[derive(Debug)]
struct Steps(AtomicI64);

impl Clock for Steps {
    fn now(&self) -> Timestamp {
        let micros = self.0.fetch_add(187_654_321, Ordering::Relaxed);
        Timestamp::from_unix_micros(micros).unwrap_or(Timestamp::EPOCH)
    }
}

const AGENTS: [(&str, &str); 6] = [
    ("support-7f3a", "acme-emea"),
    ("invoices-19c2", "acme-emea"),
    ("research-b04d", "acme-us"),
    ("coder-55e1", "acme-us"),
    ("travel-02aa", "acme-apac"),
    ("triage-c9d8", "acme-apac"),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let dir = std::env::args()
        .nth(1)
        .map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    std::fs::create_dir_all(&dir)?;
    let path = dir.join("audit.jsonl");
    let start: Timestamp = "2026-04-01T06:00:00Z".parse()?;
    let log = AuditLog::builder(&path)
        .clock(Arc::new(Steps(AtomicI64::new(start.as_unix_micros()))))
        .open()?;

    for n in 0..20_000_u64 {
        let (name, tenant) = usize::try_from(n % 6)
            .ok()
            .and_then(|at| AGENTS.get(at))
            .copied()
            .unwrap_or_default();
        let session = format!("{name}-{}", n / 900);
        let who = Who {
            session_id: &session,
            tenant_id: Some(tenant),
            agent_name: None,
        };
        let runaway = Who {
            session_id: "coder-55e1-7",
            tenant_id: Some("acme-us"),
            agent_name: None,
        };
        let append = |kind| log.append(&Event::new(who, kind)).map(drop);
        let append_runaway = |kind| log.append(&Event::new(runaway, kind)).map(drop);
        if n % 5 == 4 {
            append(Kind::ToolCall(ToolCall {
                tool: if n % 2 == 0 { "db.query" } else { "http.get" },
                ..ToolCall::default()
            }))?;
        } else {
            let (provider, model) = if n % 3 == 0 {
                ("openai", "gpt-5-mini")
            } else {
                ("anthropic", "claude-haiku-4-5")
            };
            append(Kind::ModelCall(ModelCall {
                provider,
                model,
                input_tokens: n % 5000,
                output_tokens: n % 900,
                cost: Usd::from_nanos(n.wrapping_mul(2_654_435_761) % 9_000_000)?,
                cumulative: Some(Usd::from_nanos(n)?),
                outcome: Some(Outcome::Ok),
                ..ModelCall::default()
            }))?;
        }
        match n {
            7_000..7_160 => append_runaway(Kind::ToolCall(ToolCall {
                tool: "shell",
                ..ToolCall::default()
            }))?,
            7_160 => append_runaway(Kind::Budget(Budget {
                cumulative: Usd::from_cents(412)?,
                cap: Some(Usd::from_cents(400)?),
                decision: BudgetDecision::HardExceeded,
                scope: None,
                window: None,
            }))?,
            7_164 | 7_170 | 7_176 => append_runaway(Kind::Kill(Kill {
                reason: "runaway: same command 160 times",
                scope: None,
            }))?,
            _ if n % 1_700 == 3 => append(Kind::PolicyDecision(PolicyDecision {
                rule_id: "blocked_sql",
                action: PolicyAction::Block,
                reason: "the statement writes",
                tool: "db.query",
                shadow: false,
            }))?,
            _ if n % 2_900 == 5 => append(Kind::HitlDecision(HitlDecision {
                request_id: "r_01",
                rule_id: "wire_transfer",
                decision: HitlOutcome::Approve,
                reason: Some("matches the invoice"),
                operator: Some("ann"),
            }))?,
            _ => {}
        }
    }
    log.close()?;

    let period = Period::parse("2026-04-01T00:00:00Z", "2026-06-30T23:59:59Z")?;
    let mut options = Soc2Options::new(dir.join("pack"), period, "2026-07-01T08:00:00Z".parse()?);
    options.org = Some("Acme Inc".to_owned());
    let report = generate_soc2_report(Input::open(&path)?, &options)?;
    println!("{}: {} events", report.page().display(), report.summary.events);
    Ok(())
}
