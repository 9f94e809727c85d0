//! The rows of `cc7_monitoring.csv`: which events have one, and what it says. Knows nothing of sums.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

use super::reading::Picks;
use super::tables::{end_row, push_text};
use crate::export::cell;

/// Adds the row of an event that has one. Whether it has.
pub(super) fn push_security_event(rows: &mut String, picks: &Picks, text: &str, kind: &str) -> bool {
    let value = |range: &Range<usize>| cell(text.get(range.clone()).unwrap_or_default());
    let Some((event_type, rule_id, reason)) = security_event(picks, text, kind) else {
        return false;
    };
    let (session, tenant) = (value(&picks.session_id), value(&picks.tenant_id));
    for text in [
        &value(&picks.ts),
        &session,
        &tenant,
        &event_type,
        &rule_id,
        &reason,
    ] {
        push_text(rows, text);
    }
    end_row(rows);
    true
}

/// The type, rule and reason of an event that has a row.
fn security_event<'a>(
    picks: &Picks,
    text: &'a str,
    kind: &str,
) -> Option<(Cow<'static, str>, Cow<'a, str>, Cow<'a, str>)> {
    let value = |range: &Range<usize>| text.get(range.clone()).unwrap_or_default();
    let reason = || cell(value(&picks.reason));
    Some(match kind {
        "kill" => ("kill".into(), "kill:registry".into(), reason()),
        "budget" => {
            let event_type = match value(&picks.decision) {
                "\"soft_exceeded\"" => "budget:soft_exceeded",
                "\"hard_exceeded\"" => "budget:hard_exceeded",
                _ => return None,
            };
            let reason = budget_reason(value(&picks.cumulative_usd), value(&picks.cap_usd));
            (event_type.into(), "budget:tracker".into(), reason.into())
        }
        "policy_decision" => {
            // What was only tried out blocked nothing.
            if value(&picks.action) != "\"block\"" || value(&picks.shadow) == "true" {
                return None;
            }
            ("policy:block".into(), cell(value(&picks.rule_id)), reason())
        }
        "hitl_decision" => {
            let operator = cell(value(&picks.operator));
            let reason = reason();
            let reason = match (reason.is_empty(), operator.is_empty()) {
                (_, true) => reason,
                (true, false) => format!("by {operator}").into(),
                (false, false) => format!("{reason} (by {operator})").into(),
            };
            let event_type = format!("hitl:{}", cell(value(&picks.decision)));
            (event_type.into(), cell(value(&picks.rule_id)), reason)
        }
        _ => return None,
    })
}

/// What a budget line says, as the reason of a row.
fn budget_reason(cumulative: &str, cap: &str) -> String {
    let mut reason = String::from("cumulative $");
    let number = cumulative.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    let number = if cumulative.is_empty() {
        Some(0.0)
    } else {
        cumulative.parse::<f64>().ok().filter(|_| number)
    };
    // Writing to a string does not fail.
    let _ = match number {
        Some(number) => write!(reason, "{number:.4}"),
        None => write!(reason, "{}", spoken(cumulative, "0")),
    };
    let _ = write!(reason, " vs cap ${}", spoken(cap, "0"));
    reason
}

/// A JSON value as a person reads it in a sentence.
fn spoken<'a>(value: &'a str, missing: &'a str) -> Cow<'a, str> {
    match value {
        "" => missing.into(),
        "null" => "None".into(),
        "true" => "True".into(),
        "false" => "False".into(),
        _ => cell(value),
    }
}
