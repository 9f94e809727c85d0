//! What stands out, and from where on: [`find_anomalies`]. Knows sums, and no events.

use std::borrow::Cow;

use super::Thresholds;
use super::money::Amount;
use super::names::{Name, Names};
use super::tally::{Spending, Tally};

/// Something that stands out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anomaly {
    pub(super) session: Name,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Kills(u64),
    Spent(Amount),
    Calls { tool: Name, calls: u64 },
}

/// From where on something stands out in this log.
#[derive(Debug)]
pub(super) struct Limits {
    kills: u64,
    tool_calls: u64,
    percentile: u8,
    /// What the percentile of the sessions spent at most; none where there are too few.
    spent: Option<Amount>,
}

impl Limits {
    pub(super) fn new(thresholds: Thresholds, spending: &Spending) -> Self {
        let percentile = thresholds.spend_percentile.min(100);
        Self {
            kills: thresholds.kills,
            tool_calls: thresholds.tool_calls,
            percentile,
            spent: spend_limit(spending, percentile, thresholds.spend_sessions),
        }
    }
}

/// What the given percentile of the sessions spent at most.
fn spend_limit(spending: &Spending, percentile: u8, least: u64) -> Option<Amount> {
    let mut totals = spending.amounts().to_vec();
    if totals.is_empty() || u64::try_from(totals.len()).unwrap_or(u64::MAX) < least {
        return None;
    }
    let share = totals.len().saturating_mul(usize::from(percentile)) / 100;
    let at = share.saturating_sub(1);
    let (_, limit, _) = totals.select_nth_unstable(at);
    Some(*limit)
}

/// All that stands out: kills, then spending, then calls.
pub(super) fn find_anomalies(tally: &Tally, spending: &Spending, limits: &Limits) -> Vec<Anomaly> {
    let mut all = Vec::new();
    for (session, &kills) in tally.kills().iter() {
        if kills >= limits.kills {
            let what = What::Kills(kills);
            all.push(Anomaly { session, what });
        }
    }
    if let Some(limit) = limits.spent {
        for (session, amount) in spending.iter() {
            if amount > limit && amount.is_positive() {
                let what = What::Spent(amount);
                all.push(Anomaly { session, what });
            }
        }
    }
    for (session, tool, calls) in tally.spam(limits.tool_calls) {
        let what = What::Calls { tool, calls };
        all.push(Anomaly { session, what });
    }
    all
}

/// An anomaly in words and figures.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) kind: Cow<'static, str>,
    pub(super) metric: Cow<'static, str>,
    pub(super) value: String,
    pub(super) threshold: String,
    pub(super) detail: String,
}

impl Anomaly {
    pub(super) fn told(&self, names: &Names, limits: &Limits) -> Told {
        match self.what {
            What::Kills(kills) => Told {
                kind: "kill_spike".into(),
                metric: "kill_events".into(),
                value: kills.to_string(),
                threshold: limits.kills.to_string(),
                detail: format!("{kills} kill events in one session"),
            },
            What::Spent(amount) => {
                let limit = limits.spent.unwrap_or_default();
                let percentile = limits.percentile;
                Told {
                    kind: format!("spend_p{percentile}").into(),
                    metric: "cost_usd_total".into(),
                    value: rounded(amount),
                    threshold: rounded(limit),
                    detail: format!(
                        "spend ${} above p{percentile} ${}",
                        amount.places(4),
                        limit.places(4)
                    ),
                }
            }
            What::Calls { tool, calls } => {
                let tool = names.text(tool);
                Told {
                    kind: "tool_spam".into(),
                    metric: format!("tool_calls:{tool}").into(),
                    value: calls.to_string(),
                    threshold: limits.tool_calls.to_string(),
                    detail: format!("{calls} calls to tool '{tool}' in one session"),
                }
            }
        }
    }
}

/// At most six decimals, as a JSON number has them.
fn rounded(amount: Amount) -> String {
    let mut out = String::new();
    let rounded = amount.places(6).parse().unwrap_or(f64::NAN);
    leash_core::canonical::write_f64(&mut out, rounded);
    out
}
