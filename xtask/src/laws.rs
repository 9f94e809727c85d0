//! The laws of the budget stores, run, and what came of each over each store as a table: [`run`]. `docs/budgets.md` shows it.
//!
//! What is in the table comes from the run and from nothing else: a law that did not run over a store has no result there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::workspace::{Workspace, cargo};

/// The stores, by the module of their tests.
const STORES: [(&str, &str); 3] = [
    ("memory", "`MemoryStore`"),
    ("sqlite", "`SqliteStore`"),
    ("redis", "`RedisStore`"),
];

/// The groups of laws that stores share, by the modules that the macros make of them.
const GROUPS: [(&[&str], &str); 4] = [
    (&["laws"], "Every store"),
    (&["time"], "By its clock"),
    (&["admin", "administered"], "For an operator"),
    (&["shared"], "Many processes, killed and slow ones among them"),
];

const PAGE: &str = "docs/budgets.md";
const BEGIN: &str = "<!-- the table of `cargo xtask laws --write` -->\n";
const END: &str = "<!-- its end -->\n";

/// Whether the table goes into the page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    write: bool,
}

impl Options {
    pub(crate) fn parse(args: Vec<String>) -> Result<Self> {
        let mut options = Self { write: false };
        for arg in args {
            match arg.as_str() {
                "--write" => options.write = true,
                other => bail!("`laws` has no option `{other}`"),
            }
        }
        Ok(options)
    }
}

/// Runs the laws and prints the table. Says whether all hold.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let output = cargo(&workspace.root)
        .args([
            "nextest",
            "run",
            "-p",
            "leash-budget",
            "--all-features",
            "--test",
            "it",
        ])
        .args(["--no-fail-fast", "--message-format", "libtest-json"])
        .env("NEXTEST_EXPERIMENTAL_LIBTEST_JSON", "1")
        .stderr(Stdio::inherit())
        .output()
        .context("failed to run `cargo nextest`")?;
    let results = results(&String::from_utf8_lossy(&output.stdout))?;
    if results.is_empty() {
        bail!("`cargo nextest` ended with {} and ran nothing", output.status);
    }
    let (table, holds) = table(&results)?;
    print!("{table}");
    if options.write {
        let path = workspace.root.join(PAGE);
        let page = fs::read_to_string(&path).with_context(|| format!("failed to read `{PAGE}`"))?;
        fs::write(&path, with_table(&page, &table)?).with_context(|| format!("failed to write `{PAGE}`"))?;
    }
    Ok(holds && output.status.success())
}

/// Of each test, by its path of modules: whether it passed.
type Results = BTreeMap<String, bool>;

/// Reads what nextest writes, one object a line.
fn results(text: &str) -> Result<Results> {
    let mut found = Results::new();
    for line in text.lines().filter(|line| line.starts_with('{')) {
        let event: Value = serde_json::from_str(line).context("failed to read what nextest wrote")?;
        let text = |member: &str| event.get(member).and_then(Value::as_str);
        let (Some("test"), Some(event), Some(name)) = (text("type"), text("event"), text("name")) else {
            continue;
        };
        // The package and the binary stand before it.
        let name = name.rsplit_once('$').map_or(name, |(_, name)| name);
        match event {
            "ok" => found.insert(name.to_owned(), true),
            "failed" | "timeout" => found.insert(name.to_owned(), false),
            _ => continue,
        };
    }
    Ok(found)
}

fn sentence(law: &str) -> String {
    law.replace('_', " ")
}

fn word(passed: Option<bool>) -> &'static str {
    match passed {
        Some(true) => "holds",
        Some(false) => "**broken**",
        None => "",
    }
}

/// The table, and whether every law in it holds.
fn table(results: &Results) -> Result<(String, bool)> {
    let mut out = String::new();
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut shared: BTreeMap<(usize, &str), [Option<bool>; STORES.len()]> = BTreeMap::new();
    let mut own: BTreeMap<(usize, &str), bool> = BTreeMap::new();
    for (name, passed) in results {
        let Some((module, rest)) = name.split_once("::") else {
            continue;
        };
        let Some(store) = STORES.iter().position(|(of, _)| *of == module) else {
            continue;
        };
        // What a test runs in a process of its own is no law.
        if rest.split("::").any(|part| part == "children") {
            continue;
        }
        let count = counts.entry(module).or_default();
        count.0 = count.0.saturating_add(usize::from(*passed));
        count.1 = count.1.saturating_add(1);
        let group = rest.split_once("::").and_then(|(group, law)| {
            let at = GROUPS.iter().position(|(modules, _)| modules.contains(&group))?;
            Some((at, law))
        });
        if let Some(key) = group {
            if let Some(slot) = shared.entry(key).or_default().get_mut(store) {
                *slot = Some(*passed);
            }
        } else {
            own.insert((store, rest), *passed);
        }
    }
    let names = STORES.map(|(_, name)| name).join(" | ");
    for (at, (_, title)) in GROUPS.iter().enumerate() {
        writeln!(out, "| {title} | {names} |\n|---|---|---|---|")?;
        for ((_, law), cells) in shared.iter().filter(|((group, _), _)| *group == at) {
            let cells = cells.map(word).join(" | ");
            writeln!(out, "| {} | {cells} |", sentence(law))?;
        }
        out.push('\n');
    }
    out.push_str("| Of one store alone | |\n|---|---|\n");
    for ((store, law), passed) in &own {
        let name = STORES.get(*store).map_or("", |(_, name)| name);
        // In whichever module it stands.
        let law = law.rsplit_once("::").map_or(*law, |(_, law)| law);
        writeln!(out, "| {name}: {} | {} |", sentence(law), word(Some(*passed)))?;
    }
    let all: Vec<String> = STORES
        .iter()
        .filter_map(|(module, name)| {
            let (passed, all) = counts.get(module)?;
            Some(format!("{name} {passed} of {all}"))
        })
        .collect();
    writeln!(out, "\nLaws that hold: {}.", all.join(", "))?;
    let holds = counts.values().all(|(passed, all)| passed == all) && counts.len() == STORES.len();
    Ok((out, holds))
}

/// `page` with `table` in the place of the one it has.
fn with_table(page: &str, table: &str) -> Result<String> {
    let place = || format!("`{PAGE}` has no place for the table");
    let (before, rest) = page.split_once(BEGIN).with_context(place)?;
    let (_, after) = rest.split_once(END).with_context(place)?;
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = r#"
{"type":"suite","event":"started","test_count":3}
{"type":"test","event":"started","name":"leash-budget::it$memory::laws::money_is_kept"}
{"type":"test","event":"ok","name":"leash-budget::it$memory::laws::money_is_kept","exec_time":0.01}
{"type":"test","event":"ok","name":"leash-budget::it$sqlite::laws::money_is_kept","exec_time":0.01}
{"type":"test","event":"failed","name":"leash-budget::it$redis::laws::money_is_kept","stdout":"{\"no"}
{"type":"test","event":"ok","name":"leash-budget::it$redis::shared::nobody_is_over","exec_time":0.01}
{"type":"test","event":"ok","name":"leash-budget::it$redis::a_server_dies","exec_time":0.01}
{"type":"test","event":"ok","name":"leash-budget::it$replay::tests::unrelated","exec_time":0.01}
{"type":"suite","event":"failed"}
"#;

    #[test]
    fn the_table_says_what_the_run_said() {
        let found = results(RUN).unwrap();
        let (text, holds) = table(&found).unwrap();
        assert!(!holds);
        for row in [
            "| money is kept | holds | holds | **broken** |",
            "| nobody is over |  |  | holds |",
            "| `RedisStore`: a server dies | holds |",
            "`MemoryStore` 1 of 1, `SqliteStore` 1 of 1, `RedisStore` 2 of 3.",
        ] {
            assert!(text.contains(row), "{row}\n{text}");
        }
        assert!(!text.contains("unrelated"));
        let passing = RUN.replace("\"failed\",\"name\"", "\"ok\",\"name\"");
        assert!(table(&results(&passing).unwrap()).unwrap().1);
        // A store that did not run does not hold.
        let others: Vec<&str> = passing.lines().filter(|line| !line.contains("sqlite")).collect();
        assert!(!table(&results(&others.join("\n")).unwrap()).unwrap().1);
        assert!(results("{\"type\":").is_err());
    }

    #[test]
    fn the_page_keeps_all_but_the_table() {
        let page = format!("before\n{BEGIN}old\n{END}after\n");
        let written = with_table(&page, "new\n").unwrap();
        assert_eq!(written, format!("before\n{BEGIN}new\n{END}after\n"));
        assert!(with_table("nothing", "new").is_err());
    }

    #[test]
    fn options_are_read() {
        assert_eq!(Options::parse(vec![]).unwrap(), Options { write: false });
        assert!(Options::parse(vec!["--write".to_owned()]).unwrap().write);
        assert!(Options::parse(vec!["--check".to_owned()]).is_err());
    }
}
