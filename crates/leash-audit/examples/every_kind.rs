//! Writes a log with one event of every kind, reads it back, checks it and exports it:
//! `cargo run -p leash-audit --example every_kind [-- PATH]`.
#![expect(clippy::print_stdout, clippy::too_many_lines, reason = "a program")]

use std::path::PathBuf;

use leash_audit::{
    Admitted, AuditLog, Budget, BudgetDecision, Durability, Event, Format, HitlDecision, HitlOutcome, Input,
    Kill, KillClear, Kind, LogRecovered, ModelCall, Note, Other, Outcome, PolicyAction, PolicyDecision,
    Refusal, Target, ToolCall, VerifyOptions, Who, export, for_each, verify,
};
use leash_core::{Digest, Json, Usd};
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let path = std::env::args_os()
        .nth(1)
        .map_or_else(|| dir.path().join("audit.jsonl"), PathBuf::from);
    let log = AuditLog::builder(&path).durability(Durability::Each).open()?;

    let alice = Who {
        session_id: "s_0123456789ab",
        tenant_id: Some("acme \u{1f980}"),
        agent_name: Some("alice"),
    };
    let request_hash = Digest::of(b"what left");
    let response_hash = Digest::of(b"what came");
    let cents = |cents| Usd::from_cents(cents);
    let model = Target::Model {
        provider: "anthropic",
        model: "claude-haiku-4-5",
    };
    let more = Json::from(json!({"cap_usd": 1e-7, "zone": ["eu", null, true, 12.0]}));
    let note = Note {
        what: "cap lowered",
        reason: "tab\there, \"quotes\", \u{2028}",
        operator: Some("ops"),
        members: None,
    };
    let kinds = [
        Kind::Admitted(Admitted {
            target: model,
            request_hash,
            bound: cents(10)?,
            scopes: &["team:search"],
        }),
        Kind::Admitted(Admitted {
            target: Target::Tool { tool: "search" },
            request_hash,
            bound: Usd::ZERO,
            scopes: &[],
        }),
        Kind::ModelCall(ModelCall {
            provider: "anthropic",
            model: "claude-haiku-4-5",
            input_tokens: 1200,
            output_tokens: 350,
            cost: Usd::from_nanos(2_360)?,
            request_hash,
            response_hash,
            cumulative: Some(Usd::from_nanos(2_360)?),
            cache_read_tokens: Some(10),
            cache_write_tokens: Some(20),
            reasoning_tokens: Some(30),
            duration_ms: Some(1234),
            outcome: Some(Outcome::Ok),
            usage: Some("estimated"),
            price_version: Some("2026-11"),
            clamped: Some(true),
            hitl_request_id: Some("0198c0de-7d2f-7abc-8def-0123456789ab"),
            reservation_id: Some("0198c0de-7d2f-7abc-8def-0123456789ac"),
            scopes: &["team:search"],
        }),
        Kind::ToolCall(ToolCall {
            tool: "search",
            request_hash,
            cost: Some(cents(1)?),
            ..ToolCall::default()
        }),
        Kind::Budget(Budget {
            cumulative: cents(50)?,
            cap: Some(cents(50)?),
            decision: BudgetDecision::HardExceeded,
            scope: Some("tenant:acme"),
            window: Some("day"),
        }),
        Kind::Budget(Budget {
            cumulative: Usd::ZERO,
            cap: None,
            decision: BudgetDecision::Under,
            scope: None,
            window: None,
        }),
        Kind::Kill(Kill {
            reason: "runaway",
            scope: Some("tenant:acme"),
        }),
        Kind::KillClear(KillClear {
            reason: None,
            scope: None,
        }),
        Kind::PolicyDecision(PolicyDecision {
            rule_id: "no_transfers",
            action: PolicyAction::Warn,
            reason: "transfers are watched",
            tool: "wire_transfer",
            shadow: true,
        }),
        Kind::HitlDecision(HitlDecision {
            request_id: "0198c0de-7d2f-7abc-8def-0123456789ab",
            rule_id: "ask",
            decision: HitlOutcome::Expire,
            reason: None,
            operator: None,
        }),
        Kind::LogRecovered(LogRecovered {
            set_aside: "log.torn-1",
            bytes: 12,
            sha256: Digest::EMPTY,
        }),
        Kind::FailOpen(note),
        Kind::PolicyChange(note),
        Kind::BudgetChange(Note {
            members: Some(&more),
            ..note
        }),
        Kind::Admin(Note {
            operator: None,
            ..note
        }),
        Kind::Other(Other {
            kind: "unheard_of",
            members: &more,
        }),
    ];
    for kind in kinds {
        log.append(&Event::new(alice, kind))?.wait()?;
    }
    let refusal = Refusal {
        rule_id: "budget:hard_cap",
        reason: "0.50 of 0.50 USD is spent",
        stage: "reserve",
    };
    for _ in 0..100 {
        // One line for the first, one for the other 99.
        let _ = log.append_coalesced(&Event::new(alice, Kind::Refusal(refusal)))?;
    }
    log.close()?;

    let mut last = String::new();
    for_each(Input::open(&path)?, |record| {
        record.text.clone_into(&mut last);
        Ok(())
    })?;
    println!("{last}");
    println!("{}", verify(&path, &VerifyOptions::default())?);
    export(Input::open(&path)?, Format::Csv, std::io::stdout().lock())?;
    Ok(())
}
