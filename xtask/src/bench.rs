//! Runs the benchmarks and prints their figures beside the goals, as `docs/performance.md` shows them.
//!
//! Medians come from criterion's own files. What criterion does not measure (a 99th percentile, resident memory) a
//! benchmark writes to `target/leash-bench/*.json` itself, as `{"id": …, "value": …, "unit": …}` or a list of these.

#![expect(
    clippy::float_arithmetic,
    reason = "figures that a person reads, nothing is decided by them"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::value;
use crate::workspace::{Workspace, cargo};

/// One line of the table.
#[derive(Debug)]
struct Row {
    what: &'static str,
    /// The benchmark, as criterion or a file of figures names it.
    id: &'static str,
    shown: Shown,
    goal: Goal,
    /// What the Python package does on the same machine, where somebody measured it.
    python: &'static str,
}

/// How a figure is written.
#[derive(Clone, Copy, Debug)]
enum Shown {
    Nanos,
    Micros,
    Millis,
    /// Thousands of things a second: so many things go through in one iteration, unless criterion knows better.
    ThousandsPerSecond(f64),
    Megabytes,
}

#[derive(Clone, Copy, Debug)]
enum Goal {
    AtMost(f64),
    AtLeast(f64),
    None,
}

/// A figure that is wanted is a new row.
const ROWS: &[Row] = &[
    Row {
        what: "guarded call in process, budget and audit, median",
        id: "firewall/guarded_call_budget_audit",
        shown: Shown::Micros,
        goal: Goal::AtMost(5.0),
        python: "171 µs",
    },
    Row {
        what: "guarded call in process, budget and audit, p99",
        id: "firewall/guarded_call_budget_audit_p99",
        shown: Shown::Micros,
        goal: Goal::AtMost(20.0),
        python: "345 µs",
    },
    Row {
        what: "guarded call in process, no budget, no audit, median",
        id: "firewall/guarded_call_bare",
        shown: Shown::Micros,
        goal: Goal::AtMost(1.0),
        python: "125 µs",
    },
    Row {
        what: "`verify`, 1,000,000 events, 545 MB",
        id: "audit_large/verify_1m",
        shown: Shown::ThousandsPerSecond(1_000_000.0),
        goal: Goal::AtLeast(2500.0),
        python: "98 k/s",
    },
    Row {
        what: "`verify`, resident memory",
        id: "audit/verify_1m_rss",
        shown: Shown::Megabytes,
        goal: Goal::AtMost(64.0),
        python: "",
    },
    Row {
        what: "`soc2`, 1,000,000 events",
        id: "audit/soc2_1m",
        shown: Shown::Millis,
        goal: Goal::AtMost(1500.0),
        python: "21 s",
    },
    Row {
        what: "`soc2`, resident memory",
        id: "audit/soc2_1m_rss",
        shown: Shown::Megabytes,
        goal: Goal::AtMost(200.0),
        python: "2.3 GB",
    },
    Row {
        what: "the same, each event of another session",
        id: "audit/soc2_1m_sessions",
        shown: Shown::Millis,
        goal: Goal::AtMost(1500.0),
        python: "",
    },
    Row {
        what: "`soc2`, resident memory, each event of another session",
        id: "audit/soc2_1m_sessions_rss",
        shown: Shown::Megabytes,
        goal: Goal::AtMost(200.0),
        python: "",
    },
    Row {
        what: "is it stopped, asked of the local view",
        id: "kill/standing_view",
        shown: Shown::Nanos,
        goal: Goal::AtMost(100.0),
        python: "96 µs SQLite, 154 µs Redis",
    },
    Row {
        what: "is it stopped, asked in process",
        id: "kill/standing_memory",
        shown: Shown::Nanos,
        goal: Goal::AtMost(100.0),
        python: "",
    },
    Row {
        what: "order to first refused call, in process, p99",
        id: "kill/latency_memory_p99",
        shown: Shown::Millis,
        goal: Goal::AtMost(5.0),
        python: "",
    },
    Row {
        what: "order to first refused call, another process, SQLite, p99",
        id: "kill/latency_sqlite_p99",
        shown: Shown::Millis,
        goal: Goal::AtMost(50.0),
        python: "",
    },
    Row {
        what: "the same, Redis",
        id: "kill/latency_redis_p99",
        shown: Shown::Millis,
        goal: Goal::AtMost(50.0),
        python: "",
    },
    Row {
        what: "the same, Redis, written by the Python package",
        id: "kill/latency_redis_python_p99",
        shown: Shown::Millis,
        goal: Goal::AtMost(300.0),
        python: "",
    },
    Row {
        what: "the same, HTTP",
        id: "kill/latency_http_p99",
        shown: Shown::Millis,
        goal: Goal::AtMost(50.0),
        python: "",
    },
    Row {
        what: "approval: enqueue, approve, wake, SQLite, median",
        id: "hitl/round_trip_sqlite",
        shown: Shown::Millis,
        goal: Goal::AtMost(5.0),
        python: "",
    },
    Row {
        what: "the same, p99",
        id: "hitl/round_trip_sqlite_p99",
        shown: Shown::Millis,
        goal: Goal::None,
        python: "",
    },
    Row {
        what: "approval: enqueue, approve, wake, Redis, median",
        id: "hitl/round_trip_redis",
        shown: Shown::Millis,
        goal: Goal::AtMost(3.0),
        python: "",
    },
    Row {
        what: "the same, p99",
        id: "hitl/round_trip_redis_p99",
        shown: Shown::Millis,
        goal: Goal::None,
        python: "",
    },
    Row {
        what: "`append`, no fsync",
        id: "audit/append_none",
        shown: Shown::ThousandsPerSecond(1.0),
        goal: Goal::AtLeast(300.0),
        python: "36 k/s",
    },
    Row {
        what: "`append`, each durable, 64 at once",
        id: "audit/append_each_64",
        shown: Shown::ThousandsPerSecond(64.0),
        goal: Goal::AtLeast(60.0),
        python: "3.7 k/s",
    },
    Row {
        what: "opening a 545 MB log to append",
        id: "audit_large/open_545mb",
        shown: Shown::Millis,
        goal: Goal::AtMost(5.0),
        python: "4.0 s",
    },
    Row {
        what: "reserve and settle, in memory, one thread",
        id: "budget/reserve_settle_memory",
        shown: Shown::ThousandsPerSecond(1.0),
        goal: Goal::AtLeast(1000.0),
        python: "1300 k/s bare adds",
    },
    Row {
        what: "the same, any of 1,000,000 sessions",
        id: "budget/reserve_settle_memory/any_of_a_million_sessions",
        shown: Shown::ThousandsPerSecond(1.0),
        goal: Goal::None,
        python: "",
    },
    Row {
        what: "the same, three scopes in three windows",
        id: "budget/reserve_settle_memory/3_scopes_3_windows",
        shown: Shown::ThousandsPerSecond(1.0),
        goal: Goal::None,
        python: "",
    },
    Row {
        what: "reserve and settle, SQLite (`Normal`), 64 tasks",
        id: "budget/reserve_settle_sqlite/normal_64_tasks",
        shown: Shown::ThousandsPerSecond(64.0),
        goal: Goal::AtLeast(15.0),
        python: "3.6 k/s adds",
    },
    Row {
        what: "the same, among 1,000,000 sessions",
        id: "budget/reserve_settle_sqlite/normal_64_tasks_among_a_million_sessions",
        shown: Shown::ThousandsPerSecond(64.0),
        goal: Goal::None,
        python: "",
    },
    Row {
        what: "the same, four processes on one file",
        id: "budget/reserve_settle_sqlite/normal_four_processes_64_tasks_each",
        shown: Shown::ThousandsPerSecond(256.0),
        goal: Goal::AtLeast(8.0),
        python: "4.1 k/s adds",
    },
    Row {
        what: "reserve and settle, SQLite (`Full`), 64 tasks",
        id: "budget/reserve_settle_sqlite/full_64_tasks",
        shown: Shown::ThousandsPerSecond(64.0),
        goal: Goal::None,
        python: "",
    },
    Row {
        what: "reserve and settle, Redis, 64 tasks",
        id: "budget/reserve_settle_redis/64_tasks_1_scope",
        shown: Shown::ThousandsPerSecond(64.0),
        goal: Goal::AtLeast(20.0),
        python: "4.3 k/s adds",
    },
    Row {
        what: "one question to Redis, 64 tasks, p99",
        id: "budget/redis_64_tasks_p99",
        shown: Shown::Millis,
        goal: Goal::AtMost(5.0),
        python: "",
    },
    Row {
        what: "reserve and settle, Redis, 64 tasks, three scopes",
        id: "budget/reserve_settle_redis/64_tasks_3_scopes",
        shown: Shown::ThousandsPerSecond(64.0),
        goal: Goal::None,
        python: "",
    },
    Row {
        what: "the same, three scopes, among 1,000,000 sessions",
        id: "budget/reserve_settle_redis/64_tasks_3_scopes_among_a_million_sessions",
        shown: Shown::ThousandsPerSecond(64.0),
        goal: Goal::None,
        python: "",
    },
    Row {
        what: "guarded model call: budget, audit, 50 patterns, personal data, secrets, 2 KB message, median",
        id: "firewall/guarded_call_policy",
        shown: Shown::Micros,
        goal: Goal::AtMost(80.0),
        python: "1,877 µs",
    },
    Row {
        what: "the same, p99",
        id: "firewall/guarded_call_policy_p99",
        shown: Shown::Micros,
        goal: Goal::AtMost(250.0),
        python: "3,100 µs",
    },
    Row {
        what: "50 patterns, 1 KB of arguments",
        id: "policy/patterns_50_1kb",
        shown: Shown::Micros,
        goal: Goal::AtMost(15.0),
        python: "614 µs",
    },
    Row {
        what: "50 patterns, 2 KB of arguments",
        id: "policy/patterns_50_2kb",
        shown: Shown::Micros,
        goal: Goal::AtMost(30.0),
        python: "1,244 µs",
    },
    Row {
        what: "SQL rule, statement of 1 KB",
        id: "policy/sql_1kb",
        shown: Shown::Micros,
        goal: Goal::AtMost(60.0),
        python: "9.6 µs (first word only)",
    },
    Row {
        what: "the same, dialect unknown",
        id: "policy/sql_1kb_any_dialect",
        shown: Shown::Micros,
        goal: Goal::None,
        python: "",
    },
    Row {
        what: "shell rule, pipeline of 200 bytes",
        id: "policy/shell_200b",
        shown: Shown::Micros,
        goal: Goal::AtMost(15.0),
        python: "",
    },
    Row {
        what: "shell rule, script of 1 KB",
        id: "policy/shell_1kb",
        shown: Shown::Micros,
        goal: Goal::AtMost(60.0),
        python: "113 µs",
    },
    Row {
        what: "shell rule, 40 KB of `dd x `",
        id: "policy/shell_40kb_words",
        shown: Shown::Millis,
        goal: Goal::None,
        python: "2,400 ms",
    },
    Row {
        what: "personal data, 2 KB without any",
        id: "policy/pii_2kb",
        shown: Shown::Micros,
        goal: Goal::AtMost(10.0),
        python: "120 µs",
    },
    Row {
        what: "personal data, 2 KB with hits",
        id: "policy/pii_2kb_hits",
        shown: Shown::Micros,
        goal: Goal::AtMost(20.0),
        python: "120 µs",
    },
    Row {
        what: "secrets, 2 KB without any",
        id: "policy/secrets_2kb",
        shown: Shown::Micros,
        goal: Goal::None,
        python: "",
    },
    Row {
        what: "finding a price and charging by it",
        id: "price/look_up_and_cost/name",
        shown: Shown::Micros,
        goal: Goal::AtMost(0.3),
        python: "",
    },
    Row {
        what: "reading a request of 2 kB",
        id: "wire/request_2kb",
        shown: Shown::Micros,
        goal: Goal::None,
        python: "",
    },
    Row {
        what: "metering a stream of 1,000 events, Anthropic",
        id: "wire/stream_1000_events_anthropic",
        shown: Shown::Micros,
        goal: Goal::None,
        python: "",
    },
];

/// What was measured: seconds, bytes, or things a second.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Measured {
    Seconds { median: f64, elements: Option<f64> },
    Bytes(f64),
    PerSecond(f64),
}

/// What `cargo xtask bench` was asked for.
#[derive(Debug, Default)]
pub(crate) struct Options {
    no_run: bool,
    packages: Vec<String>,
}

impl Options {
    pub(crate) fn parse(args: Vec<String>) -> Result<Self> {
        let mut options = Self::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--no-run" => options.no_run = true,
                "-p" | "--package" => options.packages.push(value("-p", &mut args)?),
                other => bail!("`bench` knows no `{other}`"),
            }
        }
        Ok(options)
    }
}

/// Runs the benchmarks that `options` wants and prints the table, without figures of earlier runs.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut since = None;
    if !options.no_run {
        since = Some(now());
        run_benchmarks(workspace, options)?;
    }
    let figures = figures(&workspace.target, since)?;
    print!("{}", table(&figures));
    println!("\n{}", machine());
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "compared with the times of files, which are on this clock"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

/// Crates whose benchmarks keep the disk busy for a while after they have ended: they come last, or those after them
/// would be measured together with that.
const BUSY_DISK: &[&str] = &["leash-audit", "leash-budget"];

fn run_benchmarks(workspace: &Workspace, options: &Options) -> Result<()> {
    let with_benches = workspace
        .members
        .iter()
        .filter(|member| member.targets_of("bench").next().is_some());
    let mut chosen: Vec<_> = with_benches
        .filter(|member| options.packages.is_empty() || options.packages.contains(&member.name))
        .collect();
    chosen.sort_by_key(|member| BUSY_DISK.contains(&member.name.as_str()));
    if let Some(unknown) = options
        .packages
        .iter()
        .find(|name| chosen.iter().all(|member| member.name != **name))
    {
        bail!("`{unknown}` is no crate with benchmarks");
    }
    for member in chosen {
        for bench in member.targets_of("bench") {
            let args = [
                "bench",
                "-p",
                &member.name,
                "--all-features",
                "--bench",
                &bench.name,
            ];
            println!("$ cargo {}", args.join(" "));
            // A benchmark runs in the folder of its crate; it finds where to write its figures by this.
            let status = cargo(&workspace.root)
                .args(args)
                .env("CARGO_TARGET_DIR", &workspace.target)
                .status();
            let status = status.context("failed to run `cargo bench`")?;
            if !status.success() {
                bail!("`cargo {}` ended with {status}", args.join(" "));
            }
        }
    }
    Ok(())
}

/// Every figure that was written after `since`, by id.
fn figures(target: &Path, since: Option<SystemTime>) -> Result<BTreeMap<String, Measured>> {
    let mut figures = BTreeMap::new();
    let is_new = |path: &Path| -> Result<bool> {
        let Some(since) = since else { return Ok(true) };
        Ok(path.metadata()?.modified()? >= since)
    };
    for path in json_files(&target.join("criterion"))? {
        let is_result = path.ends_with("new/benchmark.json");
        let estimates = path.with_file_name("estimates.json");
        if !is_result || !estimates.exists() || !is_new(&estimates)? {
            continue;
        }
        let about = read_json(&path)?;
        let id = about
            .get("full_id")
            .and_then(Value::as_str)
            .context("criterion gave a benchmark no `full_id`")?;
        let median = read_json(&estimates)?
            .pointer("/median/point_estimate")
            .and_then(Value::as_f64)
            .with_context(|| format!("criterion gave `{id}` no median"))?;
        let counted = ["/throughput/Elements", "/throughput/ElementsAndBytes/elements"];
        let elements = counted
            .iter()
            .find_map(|at| about.pointer(at))
            .and_then(Value::as_f64);
        figures.insert(
            id.to_owned(),
            Measured::Seconds {
                median: median / 1e9,
                elements,
            },
        );
    }
    for path in json_files(&target.join("leash-bench"))? {
        if is_new(&path)? {
            let value = read_json(&path)?;
            let list = value
                .as_array()
                .map_or_else(|| vec![&value], |list| list.iter().collect());
            for figure in list {
                let (id, measured) =
                    own_figure(figure).with_context(|| format!("`{}` holds no figure", path.display()))?;
                figures.insert(id, measured);
            }
        }
    }
    Ok(figures)
}

fn own_figure(figure: &Value) -> Option<(String, Measured)> {
    let id = figure.get("id")?.as_str()?;
    let value = figure.get("value")?.as_f64()?;
    let seconds = |median| Measured::Seconds {
        median,
        elements: None,
    };
    let measured = match figure.get("unit")?.as_str()? {
        "s" => seconds(value),
        "ms" => seconds(value / 1e3),
        "us" | "µs" => seconds(value / 1e6),
        "ns" => seconds(value / 1e9),
        "bytes" | "B" => Measured::Bytes(value),
        "kB" => Measured::Bytes(value * 1e3),
        "KiB" => Measured::Bytes(value * 1024.0),
        "MB" => Measured::Bytes(value * 1e6),
        "MiB" => Measured::Bytes(value * 1024.0 * 1024.0),
        "/s" | "per_second" => Measured::PerSecond(value),
        _ => return None,
    };
    Some((id.to_owned(), measured))
}

fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read(path).with_context(|| format!("failed to read `{}`", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("`{}` is no JSON", path.display()))
}

fn json_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        if !folder.exists() {
            continue;
        }
        for entry in
            std::fs::read_dir(&folder).with_context(|| format!("failed to list `{}`", folder.display()))?
        {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// In Markdown, so that it can go into the document as it is.
fn table(figures: &BTreeMap<String, Measured>) -> String {
    let mut cells = vec![["what", "here", "goal", "met", "Python", "benchmark"].map(str::to_owned)];
    cells.push(["---", "---:", "---:", "---", "---:", "---"].map(str::to_owned));
    for row in ROWS {
        let number = figures
            .get(row.id)
            .and_then(|measured| row.shown.number(*measured));
        let here = number.map_or_else(|| "not measured".to_owned(), |number| row.shown.text(number));
        let (goal, met) = match row.goal {
            Goal::AtMost(goal) => (
                format!("≤ {}", row.shown.text(goal)),
                number.map(|number| number <= goal),
            ),
            Goal::AtLeast(goal) => (
                format!("≥ {}", row.shown.text(goal)),
                number.map(|number| number >= goal),
            ),
            Goal::None => (String::new(), None),
        };
        let met = met.map_or("", |met| if met { "yes" } else { "NO" });
        cells.push([
            row.what.to_owned(),
            here,
            goal,
            met.to_owned(),
            row.python.to_owned(),
            format!("`{}`", row.id),
        ]);
    }
    let mut widths = [0; 6];
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut table = String::new();
    for row in &cells {
        for (width, cell) in widths.iter().zip(row) {
            let dashes = cell.starts_with("--");
            let fill = |with: &str| with.repeat(width.saturating_sub(cell.chars().count()));
            let cell = if dashes {
                format!("{}{cell}", fill("-"))
            } else {
                format!("{cell}{}", fill(" "))
            };
            table.push_str("| ");
            table.push_str(&cell);
            table.push(' ');
        }
        table.push_str("|\n");
    }
    table
}

impl Shown {
    /// The figure in the unit that is shown; none where something else was measured.
    fn number(self, measured: Measured) -> Option<f64> {
        match (self, measured) {
            (Self::Nanos, Measured::Seconds { median, .. }) => Some(median * 1e9),
            (Self::Micros, Measured::Seconds { median, .. }) => Some(median * 1e6),
            (Self::Millis, Measured::Seconds { median, .. }) => Some(median * 1e3),
            (Self::ThousandsPerSecond(things), Measured::Seconds { median, elements }) => {
                Some(elements.unwrap_or(things) / median / 1e3)
            }
            (Self::ThousandsPerSecond(_), Measured::PerSecond(rate)) => Some(rate / 1e3),
            (Self::Megabytes, Measured::Bytes(bytes)) => Some(bytes / 1e6),
            _ => None,
        }
    }

    fn text(self, number: f64) -> String {
        let unit = match self {
            Self::Nanos => "ns",
            Self::Micros => "µs",
            Self::Millis => "ms",
            Self::ThousandsPerSecond(_) => "k/s",
            Self::Megabytes => "MB",
        };
        // Three digits are what a benchmark on a shared machine is good for.
        let digits = if number >= 100.0 || number.fract() == 0.0 {
            0
        } else if number >= 10.0 {
            1
        } else {
            2
        };
        format!("{number:.digits$} {unit}")
    }
}

/// Where the figures are from: a figure without its machine says nothing.
fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split(':').nth(1)?.trim().to_owned())
    });
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let rustc = Command::new("rustc").arg("--version").output().ok();
    let rustc = rustc
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .unwrap_or_default();
    format!(
        "{}, {cores} cores, {}",
        cpu.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        rustc.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, measured: Measured) -> String {
        let figures = BTreeMap::from([(id.to_owned(), measured)]);
        table(&figures)
            .lines()
            .find(|line| line.contains(&format!("`{id}`")))
            .unwrap()
            .to_owned()
    }

    #[test]
    fn a_goal_is_met_on_the_right_side_of_it() {
        let call = |micros: f64| {
            line(
                "firewall/guarded_call_bare",
                Measured::Seconds {
                    median: micros / 1e6,
                    elements: None,
                },
            )
        };
        assert!(call(0.9).contains("| 0.90 µs") && call(0.9).contains("| yes"));
        assert!(call(1.1).contains("| NO"));
        let rate = |per_second| line("audit/append_none", Measured::PerSecond(per_second));
        assert!(rate(310_000.0).contains("310 k/s") && rate(310_000.0).contains("| yes"));
        assert!(rate(290_000.0).contains("| NO"));
    }

    #[test]
    fn criterions_count_of_elements_wins_over_the_rows() {
        let of = |elements| {
            Shown::ThousandsPerSecond(64.0).number(Measured::Seconds {
                median: 0.001,
                elements,
            })
        };
        assert!(of(None).is_some_and(|number| (number - 64.0).abs() < 1e-9));
        assert!(of(Some(1.0)).is_some_and(|number| (number - 1.0).abs() < 1e-9));
    }

    #[test]
    fn a_figure_of_another_kind_is_not_shown() {
        assert!(line("audit/verify_1m_rss", Measured::PerSecond(1.0)).contains("not measured"));
        assert!(line("audit/verify_1m_rss", Measured::Bytes(12_000_000.0)).contains("| 12 MB"));
    }

    #[test]
    fn figures_of_our_own_need_a_unit() {
        let read = |text: &str| own_figure(&serde_json::from_str(text).unwrap());
        let seconds = Measured::Seconds {
            median: 0.000_002,
            elements: None,
        };
        assert_eq!(
            read(r#"{"id":"a","value":2,"unit":"us"}"#),
            Some(("a".to_owned(), seconds))
        );
        assert_eq!(read(r#"{"id":"a","value":2,"unit":"parsec"}"#), None);
        assert_eq!(read(r#"{"id":"a","value":2}"#), None);
    }
}
