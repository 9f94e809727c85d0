//! The page that a person reads: [`render`]. One file that needs nothing else: no script, no font, no network.
//!
//! Whatever comes from the log or the command line passes [`show`], which escapes it, makes what is invisible visible,
//! and keeps it from reordering what is around it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::anomalies::{Anomaly, Limits};
use super::files::Finished;
use super::money::Amount;
use super::names::{Name, Names};
use super::{
    ACCESS, ANOMALIES, Costs, INTEGRITY, Integrity, MANIFEST, MONITORING, PAGE, Soc2Options, Summary,
    to_the_second,
};

const STYLE: &str = include_str!("page.css");

/// The longest text that is shown whole, in characters.
const LONGEST: usize = 160;

/// How many anomalies, kinds and providers are shown; the rest is in the tables.
const MOST: usize = 12;

/// What the page says.
pub(super) struct Facts<'a> {
    pub(super) options: &'a Soc2Options<'a>,
    pub(super) source: &'a str,
    pub(super) integrity: &'a Integrity,
    pub(super) summary: &'a Summary,
    pub(super) names: &'a Names,
    pub(super) anomalies: &'a [Anomaly],
    pub(super) limits: &'a Limits,
    pub(super) top: &'a [(Name, Amount)],
    pub(super) files: &'a [Finished],
}

/// A text of others, fit to stand between tags and in quoted attributes.
pub(super) fn show(text: &str) -> String {
    let mut out = String::with_capacity(text.len().saturating_add(16));
    for (index, c) in text.chars().enumerate() {
        if index >= LONGEST {
            out.push('…');
            break;
        }
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#x27;"),
            // The pictures of the control characters.
            '\0'..='\u{1f}' => out.extend(char::from_u32(u32::from(c).saturating_add(0x2400))),
            '\u{7f}' => out.push('\u{2421}'),
            // What cannot be seen, or turns around what can.
            '\u{80}'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}' => {
                // Writing to a string does not fail.
                let _ = write!(out, "⟨U+{:04X}⟩", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out
}

/// The same in a box of its own, so that its direction ends with it.
fn boxed(text: &str) -> String {
    if text.is_empty() {
        "<i class=\"none\">(empty)</i>".to_owned()
    } else {
        format!("<bdi>{}</bdi>", show(text))
    }
}

/// Adds formatted text; writing to a string does not fail.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {
        let _ = write!($out, $($arg)*);
    };
}

/// The page.
pub(super) fn render(facts: &Facts<'_>) -> String {
    let mut out = String::with_capacity(32 * 1024);
    let org = facts.options.org.as_deref().unwrap_or("—");
    put!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>SOC 2 Evidence — {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        show(org)
    );
    header(&mut out, facts, org);
    verdict(&mut out, facts.integrity);
    figures(&mut out, facts.summary);
    out.push_str("<div class=\"two\">\n");
    counts(
        &mut out,
        "Event counts by kind",
        "kind",
        "no events",
        &facts.summary.by_kind,
    );
    counts(
        &mut out,
        "Model calls by provider",
        "provider",
        "no model calls",
        &facts.summary.by_provider,
    );
    out.push_str("</div>\n");
    spenders(&mut out, facts);
    anomalies(&mut out, facts);
    artefacts(&mut out, facts);
    source(&mut out, facts);
    notes(&mut out, facts);
    put!(
        out,
        "<footer>Generated {} by <code>llm-leash {}</code>. Every file of this pack is listed with its SHA-256 in \
         <code>{MANIFEST}</code>.</footer>\n</main>\n</body>\n</html>\n",
        to_the_second(facts.options.generated_at),
        env!("CARGO_PKG_VERSION")
    );
    out
}

fn header(out: &mut String, facts: &Facts<'_>, org: &str) {
    let (start, end) = &facts.options.period.texts;
    put!(
        out,
        "<header>\n<div><p class=\"eyebrow\">SOC 2 Evidence Pack</p><h1>{}</h1></div>\n\
         <dl class=\"period\"><dt>Period, both ends included</dt><dd>{} &rarr; {}</dd></dl>\n</header>\n",
        boxed(org),
        show(start),
        show(end)
    );
}

fn verdict(out: &mut String, integrity: &Integrity) {
    let (class, mark, word) = if integrity.verified {
        ("ok", "✓", "VERIFIED")
    } else {
        ("bad", "✗", "BROKEN")
    };
    put!(
        out,
        "<div class=\"verdict {class}\" role=\"status\"><div class=\"mark\" aria-hidden=\"true\">{mark}</div>\
         <div><strong>{word}</strong><p>"
    );
    match &integrity.error {
        None => {
            put!(
                out,
                "Chain intact. All {} events of the log are as they were written{}.",
                integrity.event_count,
                if integrity.signed {
                    ", each signed with a known key"
                } else {
                    ""
                }
            );
        }
        Some(error) => {
            put!(
                out,
                "{} — from this line on, the log proves nothing; the figures below count it all the same.",
                show(error)
            );
        }
    }
    out.push_str("</p></div></div>\n");
}

fn figures(out: &mut String, summary: &Summary) {
    let spend = summary.spend_usd.parse::<f64>().unwrap_or(f64::NAN);
    out.push_str("<div class=\"kpis\">\n");
    for (figure, what) in [
        (summary.events.to_string(), "events in period"),
        (format!("${spend:.2}"), "total LLM spend"),
        (summary.sessions.to_string(), "sessions, by tenant"),
        (summary.security_events.to_string(), "security events"),
        (summary.anomalies.to_string(), "anomalies flagged"),
    ] {
        let class = if figure.len() > 9 { " class=\"long\"" } else { "" };
        put!(
            out,
            "<div class=\"kpi\"><b{class}>{figure}</b><span>{what}</span></div>\n"
        );
    }
    out.push_str("</div>\n");
}

fn counts(out: &mut String, title: &str, what: &str, none: &str, counts: &BTreeMap<String, u64>) {
    put!(
        out,
        "<section><h2>{title}</h2>\n<table><thead><tr><th>{what}</th><th class=\"r\">count</th></tr></thead><tbody>\n"
    );
    let most = counts.values().copied().max().unwrap_or(0).max(1);
    let mut shown: Vec<_> = counts.iter().collect();
    if shown.len() > MOST {
        // The most frequent ones, in the order of their names.
        shown.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        shown.truncate(MOST);
        shown.sort();
    }
    for (name, count) in &shown {
        let width = u128::from(**count).saturating_mul(100).div_ceil(u128::from(most));
        put!(
            out,
            "<tr><td>{}<div class=\"bar\"><i style=\"width:{width}%\"></i></div></td><td class=\"r\">{count}</td></tr>\n",
            boxed(name)
        );
    }
    if counts.is_empty() {
        put!(out, "<tr><td colspan=\"2\" class=\"none\">{none}</td></tr>\n");
    }
    more(out, 2, counts.len(), shown.len(), "are not shown");
    out.push_str("</tbody></table></section>\n");
}

fn more(out: &mut String, columns: usize, all: usize, shown: usize, whither: &str) {
    let hidden = all.saturating_sub(shown);
    if hidden > 0 {
        put!(
            out,
            "<tr><td colspan=\"{columns}\" class=\"none\">{hidden} more {whither}</td></tr>\n"
        );
    }
}

fn spenders(out: &mut String, facts: &Facts<'_>) {
    out.push_str(
        "<section><h2>Top spenders <small>sessions</small></h2>\n<table><thead><tr><th>session_id</th>\
         <th class=\"r\">cost (USD)</th></tr></thead><tbody>\n",
    );
    for (session, amount) in facts.top {
        put!(
            out,
            "<tr><td class=\"id\">{}</td><td class=\"r\">${}</td></tr>\n",
            boxed(facts.names.text(*session)),
            amount.places(4)
        );
    }
    if facts.top.is_empty() {
        out.push_str("<tr><td colspan=\"2\" class=\"none\">no spend</td></tr>\n");
    }
    out.push_str("</tbody></table></section>\n");
}

fn anomalies(out: &mut String, facts: &Facts<'_>) {
    out.push_str(
        "<section><h2>Anomalies</h2>\n<table><thead><tr><th>kind</th><th>session_id</th><th>detail</th>\
         </tr></thead><tbody>\n",
    );
    for anomaly in facts.anomalies.iter().take(MOST) {
        let told = anomaly.told(facts.names, facts.limits);
        put!(
            out,
            "<tr><td><span class=\"tag warn\">{}</span></td><td class=\"id\">{}</td><td>{}</td></tr>\n",
            show(&told.kind),
            boxed(facts.names.text(anomaly.session)),
            boxed(&told.detail)
        );
    }
    if facts.anomalies.is_empty() {
        out.push_str("<tr><td colspan=\"3\" class=\"none\">nothing stands out</td></tr>\n");
    }
    let shown = facts.anomalies.len().min(MOST);
    more(
        out,
        3,
        facts.anomalies.len(),
        shown,
        "in <code>anomalies.csv</code>",
    );
    out.push_str("</tbody></table></section>\n");
}

fn artefacts(out: &mut String, facts: &Facts<'_>) {
    out.push_str(
        "<section><h2>Artefacts in this pack</h2>\n<table><thead><tr><th>file</th><th>what it shows</th>\
         <th>criteria</th></tr></thead><tbody>\n",
    );
    for (name, what, criteria) in [
        (PAGE, "this page", ""),
        (ACCESS, "what each session of each tenant did", "CC6.1, CC6.6"),
        (
            MONITORING,
            "kills, budget breaches, policy blocks, human decisions",
            "CC7.1, CC7.3",
        ),
        (INTEGRITY, "the verdict on the hash chain", "CC7.2"),
        (ANOMALIES, "sessions that stand out", "CC7.2"),
        (MANIFEST, "all files with their SHA-256, and that of the log", ""),
    ] {
        put!(out, "<tr><td class=\"id\">{name}</td><td>{what}");
        if let Some(file) = facts.files.iter().find(|file| file.name == name) {
            put!(out, "<div class=\"hash\">{}</div>", file.sha256);
        }
        put!(out, "</td><td>{criteria}</td></tr>\n");
    }
    out.push_str("</tbody></table></section>\n");
}

fn source(out: &mut String, facts: &Facts<'_>) {
    let integrity = facts.integrity;
    put!(
        out,
        "<section><h2>Source</h2>\n<dl class=\"facts\">\n<dt>log</dt><dd class=\"id\">{}</dd>\n\
         <dt>size</dt><dd>{} bytes</dd>\n<dt>SHA-256</dt><dd class=\"hash\">{}</dd>\n\
         <dt>head of the chain</dt><dd class=\"hash\">{}</dd>\n</dl></section>\n",
        boxed(facts.source),
        integrity.size_bytes,
        integrity.sha256,
        integrity.head
    );
}

fn notes(out: &mut String, facts: &Facts<'_>) {
    let summary = facts.summary;
    let thresholds = facts.options.thresholds;
    out.push_str("<section><h2>How to read this</h2>\n<ul class=\"notes\">\n");
    out.push_str(
        "<li>The verdict is on the whole log. Lines cut off its end leave no trace in it: compare the head of the \
         chain with a copy kept elsewhere.</li>\n",
    );
    let assumed = match (facts.options.costs, summary.costs) {
        (Costs::Auto, Costs::RunningTotal) => {
            "Each <code>cost_usd</code> was taken for the running total of its session, as no call states \
             <code>cumulative_usd</code> and no session’s costs ever fall; what a call cost is the difference."
        }
        (Costs::Auto, _) => "Each <code>cost_usd</code> was taken for the cost of its own call, and summed.",
        (_, Costs::RunningTotal) => {
            "Each <code>cost_usd</code> was taken for the running total of its session, as was asked for; what a call \
             cost is the difference."
        }
        _ => {
            "Each <code>cost_usd</code> was taken for the cost of its own call, as was asked for, and summed."
        }
    };
    put!(out, "<li>{assumed}</li>\n");
    put!(
        out,
        "<li>What stands out: {} or more kills in a session; spending above the {}th percentile, from {} sessions on; \
         more than {} calls of one tool in a session.</li>\n",
        thresholds.kills,
        thresholds.spend_percentile.min(100),
        thresholds.spend_sessions,
        thresholds.tool_calls
    );
    for (count, what) in [
        (
            summary.unreadable_lines,
            "lines of the log are no events, and count nowhere.",
        ),
        (
            summary.undated_events,
            "events have no moment that can be read, and are in no period.",
        ),
        (
            summary.unreadable_costs,
            "costs are no amount of money, and count as nothing.",
        ),
    ] {
        if count > 0 {
            put!(out, "<li><b>{count} {what}</b></li>\n");
        }
    }
    out.push_str("</ul></section>\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_leaves_its_place(text in any::<String>()) {
            let shown = show(&text);
            prop_assert!(!shown.contains(['<', '>', '"', '\'']));
            let hidden = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
            prop_assert!(!shown.chars().any(hidden));
            for (at, _) in shown.match_indices('&') {
                let entity = shown.split_at(at).1.split_inclusive(';').next().unwrap();
                prop_assert!(["&amp;", "&lt;", "&gt;", "&quot;", "&#x27;"].contains(&entity));
            }
        }
    }
}
