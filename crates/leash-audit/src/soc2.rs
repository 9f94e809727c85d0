//! An auditor's evidence pack, made of a log: [`generate_soc2_report`]. Knows what the pack says, and no provider,
//! store or policy.
//!
//! Six files: a page to read ([`PAGE`]), tables of who did what, of what was stopped and of what stands out, the
//! verdict on the log, and a list of the files with their hashes. The log is read once: it is verified, hashed and
//! counted at the same time, on all cores. The verdict is on the whole log, the rest on the events of the period, by
//! their instants, both ends included. Of a log that is broken the pack is made all the same, and says so.
//!
//! Everything in a log may have been written by an attacker: the page escapes it, and a cell that a spreadsheet would
//! run as a formula begins with an apostrophe.
//!
//! ```
//! use leash_audit::soc2::{Period, Soc2Options, generate_soc2_report};
//! use leash_audit::{AuditLog, Event, Input, Kill, Kind, Who};
//! use leash_core::Timestamp;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let path = dir.path().join("audit.jsonl");
//! let log = AuditLog::open(&path)?;
//! let kill = Kind::Kill(Kill { reason: "runaway", scope: None });
//! let _ = log.append(&Event::new(Who::session("s_1"), kill))?;
//! log.close()?;
//!
//! let period = Period::parse("2000-01-01T00:00:00Z", "2999-12-31T23:59:59Z")?;
//! let options = Soc2Options::new(dir.path().join("pack"), period, "2026-07-01T00:00:00Z".parse()?);
//! let report = generate_soc2_report(Input::open(&path)?, &options)?;
//! assert!(report.integrity.verified);
//! assert_eq!((report.summary.events, report.summary.security_events), (1, 1));
//! assert_eq!(report.files.len(), 6);
//! # Ok(())
//! # }
//! ```

mod anomalies;
mod buckets;
mod files;
mod moment;
mod money;
mod monitoring;
mod names;
mod page;
mod reading;
mod table;
mod tables;
mod tally;

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::hash::RandomState;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use leash_core::{Digest, Timestamp};

use self::anomalies::{Limits, find_anomalies};
use self::files::{Pack, push_json};
use self::money::Amount;
use self::names::Name;
use self::reading::{Collector, Rules};
use self::table::Ordered;
use self::tables::{write_access, write_anomalies};
use self::tally::{Spending, Tally};
use crate::verify::verify_and;
use crate::{AuditError, Input, Verdict, VerifyOptions};

/// The page that a person reads.
pub const PAGE: &str = "executive-summary.html";
const ACCESS: &str = "cc6_access_control.csv";
const MONITORING: &str = "cc7_monitoring.csv";
const INTEGRITY: &str = "cc7_integrity.json";
const ANOMALIES: &str = "anomalies.csv";
const MANIFEST: &str = "bom.json";

/// The files of a pack.
pub const FILES: [&str; 6] = [PAGE, ACCESS, MONITORING, INTEGRITY, ANOMALIES, MANIFEST];

/// From when to when, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    start: Timestamp,
    end: Timestamp,
    texts: (Box<str>, Box<str>),
}

impl Period {
    /// Reads two moments of ISO 8601: `2026-04-01T00:00:00Z`, with any offset. Without an offset it is UTC. A day
    /// alone is its first moment as the start, and its last as the end.
    ///
    /// The pack shows them as they were given.
    ///
    /// # Errors
    /// [`AuditError::Report`] where one is no moment, or the end is before the start.
    ///
    /// ```
    /// use leash_audit::soc2::Period;
    ///
    /// let quarter = Period::parse("2026-04-01", "2026-06-30")?;
    /// assert!(quarter.contains("2026-06-30T23:59:59.999999Z".parse()?));
    /// assert!(quarter.contains("2026-07-01T01:59:59+02:00".parse()?));
    /// assert!(Period::parse("2026-07-01", "2026-06-30").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn parse(start: &str, end: &str) -> Result<Self, AuditError> {
        const DAY: Duration = Duration::from_micros(24 * 60 * 60 * 1_000_000 - 1);
        let period = Self {
            start: moment(start, Duration::ZERO)?,
            end: moment(end, DAY)?,
            texts: (start.into(), end.into()),
        };
        if period.end < period.start {
            return Err(AuditError::Report(format!(
                "the period ends at `{}`, before it starts at `{}`",
                plain(end),
                plain(start)
            )));
        }
        Ok(period)
    }

    /// Whether `at` is in it.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && at <= self.end
    }
}

/// Without what would make a mess of a terminal.
fn plain(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).take(64).collect();
    text
}

fn moment(text: &str, of_day: Duration) -> Result<Timestamp, AuditError> {
    read_moment(text.trim(), of_day).ok_or_else(|| {
        AuditError::Report(format!(
            "`{}` is no moment; write it like `2026-04-01T00:00:00Z` or `2026-04-01`",
            plain(text)
        ))
    })
}

/// Reads what RFC 3339 has no room for as well: a day alone, no offset, a short one, no seconds.
fn read_moment(text: &str, of_day: Duration) -> Option<Timestamp> {
    let (date, rest) = text.split_at_checked(10)?;
    if rest.is_empty() {
        let midnight: Timestamp = format!("{date}T00:00:00Z").parse().ok()?;
        return Some(midnight.saturating_add(of_day));
    }
    let time = rest.strip_prefix(['T', 't', ' '])?;
    let (clock, offset) = time.split_at_checked(time.find(['Z', 'z', '+', '-']).unwrap_or(time.len()))?;
    let seconds = match clock.len() {
        2 => ":00:00",
        5 => ":00",
        _ => "",
    };
    let offset = match offset.split_at_checked(1) {
        None | Some(("Z" | "z", "")) => "Z".to_owned(),
        Some(("+" | "-", hours)) if hours.len() == 2 => format!("{offset}:00"),
        Some((sign @ ("+" | "-"), digits)) if digits.len() == 4 => {
            let (hours, minutes) = digits.split_at_checked(2)?;
            format!("{sign}{hours}:{minutes}")
        }
        Some(_) => offset.to_owned(),
    };
    format!("{date}T{clock}{seconds}{offset}").parse().ok()
}

/// What the `cost_usd` of a model call stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Costs {
    /// Found out: running totals where no call says `cumulative_usd` and no session's costs ever fall.
    #[default]
    Auto,
    /// What this call cost, as the contract of the log says.
    PerCall,
    /// What its session had spent until then, as adapters of the Python package wrote it. What a call cost is then the
    /// difference to the call before; a total that falls has begun anew.
    RunningTotal,
}

/// The word names no way to read costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("costs are `auto`, `per-call` or `running-total`")]
pub struct UnknownCosts;

impl FromStr for Costs {
    type Err = UnknownCosts;

    fn from_str(text: &str) -> Result<Self, UnknownCosts> {
        match text {
            "auto" => Ok(Self::Auto),
            "per-call" => Ok(Self::PerCall),
            "running-total" => Ok(Self::RunningTotal),
            _ => Err(UnknownCosts),
        }
    }
}

impl fmt::Display for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::PerCall => "per-call",
            Self::RunningTotal => "running-total",
        })
    }
}

/// From where on something stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Thresholds {
    /// So many kills in one session are a spike: 3.
    pub kills: u64,
    /// More calls than this of one tool in one session are spam: 100.
    pub tool_calls: u64,
    /// More than this percentile of all sessions' spending stands out: 95. At most 100.
    pub spend_percentile: u8,
    /// With fewer sessions than this that spend, no spending stands out: 20.
    pub spend_sessions: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            kills: 3,
            tool_calls: 100,
            spend_percentile: 95,
            spend_sessions: 20,
        }
    }
}

/// How a pack is made.
#[derive(Clone)]
#[non_exhaustive]
pub struct Soc2Options<'a> {
    /// The folder that the files go to. It is made where it is missing; files of an earlier pack are replaced.
    pub out: PathBuf,
    /// Which events are reported on.
    pub period: Period,
    /// When the pack says that it was made. With the same moment, the same log gives the same bytes.
    pub generated_at: Timestamp,
    /// Whose log it is.
    pub org: Option<String>,
    /// From where on something stands out.
    pub thresholds: Thresholds,
    /// What the costs in the log stand for.
    pub costs: Costs,
    /// How the log is verified.
    pub verify: VerifyOptions<'a>,
}

impl Soc2Options<'_> {
    /// With the defaults for what is not given.
    #[must_use]
    pub fn new(out: impl Into<PathBuf>, period: Period, generated_at: Timestamp) -> Self {
        Self {
            out: out.into(),
            period,
            generated_at,
            org: None,
            thresholds: Thresholds::default(),
            costs: Costs::default(),
            verify: VerifyOptions::default(),
        }
    }
}

impl fmt::Debug for Soc2Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Soc2Options")
            .field("out", &self.out)
            .field("period", &self.period)
            .field("costs", &self.costs)
            .finish_non_exhaustive()
    }
}

/// What became of a log.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Soc2Report {
    /// The folder with the pack.
    pub output_dir: PathBuf,
    /// The files in it, the manifest last.
    pub files: Vec<PathBuf>,
    /// What happened in the period.
    pub summary: Summary,
    /// Whether the log is what was written.
    pub integrity: Integrity,
}

impl Soc2Report {
    /// The page that a person reads.
    #[must_use]
    pub fn page(&self) -> PathBuf {
        self.output_dir.join(PAGE)
    }
}

/// The figures of the period.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// Events in the period.
    pub events: u64,
    /// Different pairs of session and tenant.
    pub sessions: u64,
    /// Rows of `cc7_monitoring.csv`.
    pub security_events: u64,
    /// Rows of `anomalies.csv`.
    pub anomalies: u64,
    /// What was spent, in USD: a decimal number in full, with two decimals at least.
    pub spend_usd: String,
    /// How the costs were read: never [`Costs::Auto`].
    pub costs: Costs,
    /// Costs that are no amount of money (text, or beyond 10¹² USD) and count as nothing.
    pub unreadable_costs: u64,
    /// Events of no period, as they have no moment that can be read.
    pub undated_events: u64,
    /// Lines that are no events.
    pub unreadable_lines: u64,
    /// Events by their kind.
    pub by_kind: BTreeMap<String, u64>,
    /// Model calls by their provider.
    pub by_provider: BTreeMap<String, u64>,
}

/// The verdict on the whole log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Integrity {
    /// Whether it is intact.
    pub verified: bool,
    /// How many events were verified; 0 where it is broken.
    pub event_count: u64,
    /// The first bad line, and what is wrong with it.
    pub error: Option<String>,
    /// The `hash` of the last good event.
    pub head: Digest,
    /// Of the log as a file.
    pub sha256: Digest,
    /// How long the log is, in bytes.
    pub size_bytes: u64,
    /// Whether every line also had to be signed with a key that was given.
    pub signed: bool,
}

/// Makes the pack of a log.
///
/// # Errors
/// [`AuditError::Io`] when the log cannot be read or the pack cannot be written; [`AuditError::Report`] when the pack
/// would take the log's place. A broken log is no error.
pub fn generate_soc2_report(log: Input, options: &Soc2Options<'_>) -> Result<Soc2Report, AuditError> {
    let (source, reader) = log.into_reader();
    let mut pack = Pack::create(&options.out, &source)?;

    let mut rows = pack.file(MONITORING)?;
    let written = AuditError::io("write", options.out.join(MONITORING));
    let checked = {
        let mut rows = BufWriter::with_capacity(1 << 16, &mut rows);
        let header = rows.write_all(b"ts,session_id,tenant_id,event_type,rule_id,reason\r\n");
        header.map_err(AuditError::io("write", options.out.join(MONITORING)))?;
        let rules = Rules {
            span: options.period.start.as_unix_micros()..=options.period.end.as_unix_micros(),
            costs: options.costs,
            keyed: RandomState::new(),
            threads: AtomicUsize::new(0),
        };
        let collector = Collector::new(&rules, rows);
        let checked = verify_and(reader, &options.verify, &rules, collector);
        let mut checked = checked.map_err(AuditError::io("make the pack of", &source))?;
        checked.gathered.rows.flush().map_err(written)?;
        (
            checked.report,
            checked.sha256,
            checked.size,
            checked.gathered.tally,
        )
    };
    let (verdict, sha256, size_bytes, mut tally) = checked;
    pack.done(MONITORING, rows);

    let integrity = Integrity {
        verified: verdict.is_ok(),
        event_count: if verdict.is_ok() { verdict.events } else { 0 },
        error: match &verdict.verdict {
            Verdict::Ok => None,
            Verdict::Broken(broken) => Some(broken.to_string()),
        },
        head: verdict.head,
        sha256,
        size_bytes,
        signed: options.verify.keys.is_some(),
    };
    tally.finish();
    let spending = tally.spending();
    let limits = Limits::new(options.thresholds, &spending);
    let anomalies = find_anomalies(&tally, &spending, &limits);
    let summary = summarize(&tally, &spending, anomalies.len());
    let top = top_spenders(&spending);
    drop(spending);

    let names = write_access(&mut pack, tally, options.verify.workers())?;
    write_anomalies(&mut pack, &names, &anomalies, &limits)?;
    let source = source.display().to_string();
    write_integrity(&mut pack, &source, options, &integrity)?;
    let page = page::render(&page::Facts {
        options,
        source: &source,
        integrity: &integrity,
        summary: &summary,
        names: &names,
        anomalies: &anomalies,
        limits: &limits,
        top: &top,
        files: pack.files(),
    });
    pack.write(PAGE, page.as_bytes())?;
    write_manifest(&mut pack, &source, options, &integrity)?;
    Ok(Soc2Report {
        output_dir: options.out.clone(),
        files: pack.finish()?,
        summary,
        integrity,
    })
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn summarize(tally: &Tally, spending: &Spending, anomalies: usize) -> Summary {
    let by = |counts: &Ordered<Name, u64>| -> BTreeMap<String, u64> {
        let named = |(name, count): (Name, &u64)| (tally.names.text(name).to_owned(), *count);
        counts.iter().map(named).collect()
    };
    let total = spending.amounts().iter().copied();
    Summary {
        events: tally.events,
        sessions: count(tally.buckets.len()),
        security_events: tally.security_events,
        anomalies: count(anomalies),
        spend_usd: total.fold(Amount::ZERO, Amount::plus).in_full(),
        costs: if tally.is_running_total() {
            Costs::RunningTotal
        } else {
            Costs::PerCall
        },
        unreadable_costs: tally.bad_costs,
        undated_events: tally.undated,
        unreadable_lines: tally.garbage,
        by_kind: by(&tally.kinds),
        by_provider: by(&tally.providers),
    }
}

/// The three sessions that spent most, the first met first where they spent the same.
fn top_spenders(spending: &Spending) -> Vec<(Name, Amount)> {
    let mut top: Vec<(Name, Amount)> = Vec::with_capacity(4);
    for (session, amount) in spending.iter() {
        let place = top.partition_point(|(_, other)| *other >= amount);
        if place < 3 {
            top.insert(place, (session, amount));
            top.truncate(3);
        }
    }
    top
}

/// Adds a member with a string to an object, on a line of its own.
fn member(out: &mut String, indent: &str, name: &str, value: &str) {
    out.push_str(indent);
    push_json(out, name);
    out.push_str(": ");
    push_json(out, value);
    out.push_str(",\n");
}

fn verdict_members(out: &mut String, indent: &str, integrity: &Integrity) {
    let Integrity {
        verified,
        event_count,
        error,
        ..
    } = integrity;
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "{indent}\"verified\": {verified},\n{indent}\"event_count\": {event_count},\n{indent}\"error\": "
    );
    match error {
        Some(error) => push_json(out, error),
        None => out.push_str("null"),
    }
    out.push('\n');
}

fn write_integrity(
    pack: &mut Pack,
    source: &str,
    options: &Soc2Options<'_>,
    integrity: &Integrity,
) -> Result<(), AuditError> {
    let (start, end) = &options.period.texts;
    let mut out = String::from("{\n");
    member(&mut out, "  ", "period_start", start);
    member(&mut out, "  ", "period_end", end);
    member(&mut out, "  ", "source_log", source);
    verdict_members(&mut out, "  ", integrity);
    out.push_str("}\n");
    pack.write(INTEGRITY, out.as_bytes())
}

/// To the second, as the manifest has it.
fn to_the_second(at: Timestamp) -> String {
    let mut text = at.to_string();
    text.truncate(19);
    text.push('Z');
    text
}

fn write_manifest(
    pack: &mut Pack,
    source: &str,
    options: &Soc2Options<'_>,
    integrity: &Integrity,
) -> Result<(), AuditError> {
    let (start, end) = &options.period.texts;
    let mut out = String::from("{\n");
    member(
        &mut out,
        "  ",
        "generated_at",
        &to_the_second(options.generated_at),
    );
    member(&mut out, "  ", "period_start", start);
    member(&mut out, "  ", "period_end", end);
    out.push_str("  \"source_audit_log\": {\n");
    member(&mut out, "    ", "path", source);
    member(&mut out, "    ", "sha256", &integrity.sha256.to_string());
    let _ = write!(out, "    \"size_bytes\": {}\n  }},\n", integrity.size_bytes);
    out.push_str("  \"integrity\": {\n");
    verdict_members(&mut out, "    ", integrity);
    out.push_str("  },\n  \"files\": [");
    let mut files: Vec<_> = pack.files().to_vec();
    files.sort_by_key(|file| file.name);
    for (index, file) in files.iter().enumerate() {
        out.push_str(if index == 0 { "\n    {\n" } else { ",\n    {\n" });
        member(&mut out, "      ", "path", file.name);
        member(&mut out, "      ", "sha256", &file.sha256.to_string());
        let _ = write!(out, "      \"size_bytes\": {}\n    }}", file.size_bytes);
    }
    out.push_str("\n  ]\n}\n");
    pack.write(MANIFEST, out.as_bytes())
}
