//! Runs the rules over their files of cases and prints both rates: how much of what is dangerous is stopped, and how
//! much of what is harmless is let through. `docs/policy.md` shows the table.
//!
//! A file holds an array of cases with `id`, `should_block` (`null` where people differ), and `args`, or `sql` or `command` or `input` for the one
//! argument there is. Members, of the case or of its `options`, that are options of the rule are given to it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::workspace::{Workspace, cargo};

/// The cases of one rule.
struct Family {
    rule: &'static str,
    files: &'static [&'static str],
    /// The members of a case that are options of the rule.
    options: &'static [&'static str],
    /// The name of the argument where a case has none.
    argument: &'static str,
}

const FAMILIES: &[Family] = &[
    Family {
        rule: "blocked_sql",
        files: &["sql.json", "sql_more.json"],
        options: &[
            "mode",
            "dialect",
            "extra_deny",
            "deny_tables",
            "allow_tables",
            "deny_functions",
            "require_where",
        ],
        argument: "sql",
    },
    Family {
        rule: "blocked_shell",
        files: &["shell.json", "shell_more.json"],
        options: &[
            "deny_programs",
            "protected_paths",
            "allow_programs",
            "extra_patterns",
        ],
        argument: "command",
    },
    Family {
        rule: "blocked_paths",
        files: &["paths.json"],
        options: &["roots", "deny", "allow", "block_sensitive"],
        argument: "path",
    },
    Family {
        rule: "blocked_urls",
        files: &["urls.json"],
        options: &["allow_hosts", "deny_hosts", "schemes", "block_private"],
        argument: "url",
    },
];

/// How many were right, of how many.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    right: usize,
    all: usize,
}

impl Rate {
    fn count(&mut self, right: bool) {
        self.all = self.all.saturating_add(1);
        self.right = self.right.saturating_add(usize::from(right));
    }

    fn percent(self) -> String {
        let permille = self
            .right
            .saturating_mul(1000)
            .checked_div(self.all)
            .unwrap_or(1000);
        format!(
            "{}/{} ({}.{} %)",
            self.right,
            self.all,
            permille / 10,
            permille % 10
        )
    }
}

/// Prints the table. Says whether every case is right.
pub(crate) fn run(workspace: &Workspace) -> Result<bool> {
    let status = cargo(&workspace.root)
        .args(["build", "-q", "-p", "leash-cli"])
        .status()?;
    if !status.success() {
        bail!("`cargo build -p leash-cli` ended with {status}");
    }
    let program = workspace.target.join("debug").join("llm-leash");
    let data = workspace.root.join("crates/leash-policy/tests/data");
    let mut table =
        String::from("| rule | cases | dangerous stopped | harmless let through |\n|---|---|---|---|\n");
    let mut misses = Vec::new();
    for family in FAMILIES {
        for file in family.files {
            let path = data.join(file);
            if !path.exists() {
                continue;
            }
            let (dangerous, harmless) = rates(&program, family, &path, &mut misses)
                .with_context(|| format!("failed to run the cases of `{file}`"))?;
            writeln!(
                table,
                "| `{}` | `{file}` | {} | {} |",
                family.rule,
                dangerous.percent(),
                harmless.percent()
            )?;
        }
    }
    table.push_str("\n| kind | cases with it, found exactly | all others, not found |\n|---|---|---|\n");
    for (kind, (found, others)) in pii_rates(&program, &data, &mut misses)? {
        writeln!(table, "| `{kind}` | {} | {} |", found.percent(), others.percent())?;
    }
    print!("{table}");
    for miss in &misses {
        println!("{miss}");
    }
    Ok(misses.is_empty())
}

/// Of each kind of personal data: how many texts that hold it have all of it found, from the first byte to the last,
/// and in how many others none of it is found.
fn pii_rates(
    program: &Path,
    data: &Path,
    misses: &mut Vec<String>,
) -> Result<BTreeMap<String, (Rate, Rate)>> {
    let mut cases: Vec<Value> = Vec::new();
    for file in ["pii.json", "pii_more.json"] {
        cases.extend(serde_json::from_str::<Vec<Value>>(&std::fs::read_to_string(
            data.join(file),
        )?)?);
    }
    let of_kind = |spans: &[(String, String)], kind: &str| -> Vec<String> {
        let own = spans.iter().filter(|(name, _)| name == kind);
        own.map(|(_, text)| text.clone()).collect()
    };
    let mut answers = Vec::new();
    for case in &cases {
        let text = case
            .get("text")
            .and_then(Value::as_str)
            .context("a case has no text")?;
        let expected: Vec<(String, String)> =
            serde_json::from_value(case.get("expected").cloned().unwrap_or_default())?;
        let got = scan(program, text)?;
        if got != expected {
            let id = case.get("id").or_else(|| case.get("text")).cloned();
            misses.push(format!("miss: pii {}", id.unwrap_or_default()));
        }
        answers.push((expected, got));
    }
    let mut table: BTreeMap<String, (Rate, Rate)> = BTreeMap::new();
    let kinds: std::collections::BTreeSet<&String> = answers
        .iter()
        .flat_map(|(expected, _)| expected.iter().map(|(kind, _)| kind))
        .collect();
    for kind in kinds {
        let row = table.entry(kind.clone()).or_default();
        for (expected, got) in &answers {
            let (expected, got) = (of_kind(expected, kind), of_kind(got, kind));
            let rate = if expected.is_empty() {
                &mut row.1
            } else {
                &mut row.0
            };
            rate.count(expected == got);
        }
    }
    Ok(table)
}

/// What `redact --scan` finds in `text`: kinds, and what is there.
fn scan(program: &Path, text: &str) -> Result<Vec<(String, String)>> {
    let mut child = Command::new(program)
        .args(["redact", "--scan", "--json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .context("no standard input")?
        .write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("`redact` ended with {}", output.status);
    }
    let spans: Vec<Value> = serde_json::from_slice(&output.stdout)?;
    let place = |span: &Value, name: &str| -> Result<usize> {
        let place = span.get(name).and_then(Value::as_u64);
        Ok(usize::try_from(place.context("a span without its place")?)?)
    };
    spans
        .iter()
        .map(|span| {
            let kind = span
                .get("kind")
                .and_then(Value::as_str)
                .context("a span without a kind")?;
            let found = text.get(place(span, "start")?..place(span, "end")?);
            Ok((
                kind.to_owned(),
                found.context("a span outside of the text")?.to_owned(),
            ))
        })
        .collect()
}

fn rates(program: &Path, family: &Family, path: &Path, misses: &mut Vec<String>) -> Result<(Rate, Rate)> {
    let text = std::fs::read_to_string(path)?;
    let cases: Vec<Value> = serde_json::from_str(&text)?;
    // One run for all cases with the same options.
    let mut groups: BTreeMap<Vec<String>, Vec<&Value>> = BTreeMap::new();
    for case in &cases {
        let member = |name: &str| case.get(name).or_else(|| case.get("options")?.get(name));
        let given = family.options.iter().filter_map(|name| {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let value = match member(name)? {
                Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
                one => text(one),
            };
            Some(format!("{name}={value}"))
        });
        groups.entry(given.collect()).or_default().push(case);
    }
    let (mut dangerous, mut harmless) = (Rate::default(), Rate::default());
    for (options, cases) in groups {
        let answers = answers(program, family, &options, &cases)?;
        if answers.len() != cases.len() {
            bail!("{} answers to {} cases", answers.len(), cases.len());
        }
        for (case, answer) in cases.iter().zip(answers) {
            let Some(expected) = case.get("should_block").and_then(Value::as_bool) else {
                continue;
            };
            // Asking a human stops a call as well.
            let stopped = matches!(
                answer.get("action").and_then(Value::as_str),
                Some("block" | "hitl")
            );
            let rate = if expected { &mut dangerous } else { &mut harmless };
            rate.count(stopped == expected);
            if stopped != expected {
                let id = case.get("id").cloned().unwrap_or_default();
                let reason = answer.get("reason").cloned().unwrap_or_default();
                misses.push(format!("miss: {} {id}: {reason}", family.rule));
            }
        }
    }
    Ok((dangerous, harmless))
}

fn answers(program: &Path, family: &Family, options: &[String], cases: &[&Value]) -> Result<Vec<Value>> {
    let mut lines = String::new();
    for (at, case) in cases.iter().enumerate() {
        let args = case.get("args").cloned().or_else(|| {
            let text = ["sql", "command", "input"]
                .iter()
                .find_map(|name| case.get(name))?;
            Some(json!({ family.argument: text }))
        });
        let args = args.context("a case has neither `args` nor a text")?;
        writeln!(
            lines,
            "{}",
            json!({"id": at, "tool": case.get("tool"), "args": args})
        )?;
    }
    let mut command = Command::new(program);
    command.args(["policy", "test", "--json", "--rule", family.rule]);
    for option in options {
        command.arg("--option").arg(option);
    }
    let mut child = command
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    // All cases are read before the first answer is written, so that neither side waits for the other.
    child
        .stdin
        .take()
        .context("no standard input")?
        .write_all(lines.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("`policy test` ended with {}", output.status);
    }
    let text = String::from_utf8(output.stdout)?;
    text.lines()
        .map(|line| serde_json::from_str(line).context("an answer is no JSON"))
        .collect()
}
