//! The conventions of the workspace as a check: what neither rustc nor clippy looks at.
//!
//! It reads text, not syntax: a convention that needs more than that is not worth a check.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::workspace::{Member, Workspace};

/// The commands that the README shows, word for word; the gate runs the first, and is the second.
pub(crate) const README_COMMANDS: [&str; 2] = ["cargo run --release -p leash-cli -- demo", "cargo xtask ci"];

/// What no Rust source may hold, and why. Put together from pieces, so that this file does not hold it either.
const NEVER_IN_RUST: &[(&str, &str)] = &[
    (
        concat!("#[", "ignore"),
        "a test that does not run protects nothing",
    ),
    (concat!("to", "do!("), "what is not finished does not go in"),
    (
        concat!("unimplemen", "ted!("),
        "what is not finished does not go in",
    ),
    (concat!("db", "g!("), "left from debugging"),
    (concat!("FIX", "ME"), "fix it, or write down why it stays"),
];

/// What no file may hold: names that mean something on one machine only.
const NEVER_ANYWHERE: &[(&str, &str)] = &[
    (concat!("/wo", "rk/main"), "a path of one machine"),
    (concat!("/wo", "rk/shared"), "a path of one machine"),
    (concat!("..", "/shared/"), "a path outside the repository"),
    (concat!("/tmp/", "bash_jobs"), "a path of one machine"),
    (concat!(".libr", "ary/"), "a path outside the repository"),
];

const TEXT_FILES: &[&str] = &["rs", "md", "toml", "yml", "yaml", "sh", "lua", "sql", "html"];

/// Looks at everything and tells of everything that is wrong at once.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let mut wrong = Vec::new();
    let read = |path: &Path| {
        std::fs::read_to_string(path)
            .with_context(|| format!("failed to read `{}`", workspace.relative(path)))
    };

    for member in &workspace.members {
        let manifest = member.dir.join("Cargo.toml");
        wrong.extend(manifest_faults(&read(&manifest)?).map(|fault| at(workspace, &manifest, &fault)));
        for target in member
            .targets
            .iter()
            .filter(|target| ["lib", "bin", "example"].contains(&target.kind.as_str()))
        {
            if !opens_with_a_head(&read(&target.path)?) {
                wrong.push(at(
                    workspace,
                    &target.path,
                    "does not open with a `//!` head that says what it is",
                ));
            }
        }
        wrong.extend(
            law_faults(member, &read)?
                .into_iter()
                .map(|(path, fault)| at(workspace, &path, &fault)),
        );
    }

    let examples: Vec<_> = workspace
        .members
        .iter()
        .flat_map(|member| member.targets_of("example"))
        .collect();
    for (index, example) in examples.iter().enumerate() {
        if examples
            .iter()
            .take(index)
            .any(|other| other.name == example.name)
        {
            // Both are built as `target/debug/examples/NAME`.
            wrong.push(at(
                workspace,
                &example.path,
                "another crate has an example of this name",
            ));
        }
    }

    let map = workspace.root.join("docs/architecture.md");
    let names: BTreeSet<_> = workspace
        .members
        .iter()
        .map(|member| member.name.as_str())
        .collect();
    wrong.extend(
        map_faults(&read(&map)?, &names)
            .into_iter()
            .map(|fault| at(workspace, &map, &fault)),
    );

    let readme = workspace.root.join("README.md");
    let shown = read(&readme)?;
    for command in README_COMMANDS
        .iter()
        .filter(|command| !shown.lines().any(|line| line.trim() == **command))
    {
        wrong.push(at(
            workspace,
            &readme,
            &format!("does not show `{command}` on a line of its own"),
        ));
    }

    let compiled = read(&workspace.root.join("tests/lib.rs"))?;
    for file in files(&workspace.root)? {
        let name = workspace.relative(&file);
        if file.file_name().is_some_and(|name| name == "mod.rs") {
            wrong.push(format!("{name}: a module `x` lives in `x.rs`, not in `x/mod.rs`"));
        }
        let is_markdown = file.extension().is_some_and(|extension| extension == "md");
        let is_document = name == "README.md" || (is_markdown && name.starts_with("docs/"));
        if is_document && !compiled.contains(&format!("include_str!(\"../{name}\")")) {
            wrong.push(format!(
                "{name}: its code is not compiled; include it in `tests/lib.rs`"
            ));
        }
        let is_rust = file.extension().is_some_and(|extension| extension == "rs");
        let never = NEVER_ANYWHERE
            .iter()
            .chain(NEVER_IN_RUST.iter().filter(|_| is_rust));
        wrong
            .extend(word_faults(&read(&file)?, never).map(|(line, fault)| format!("{name}:{line}: {fault}")));
    }

    for fault in &wrong {
        println!("{fault}");
    }
    if !wrong.is_empty() {
        bail!("{} conventions are not kept; each is named above", wrong.len());
    }
    Ok(())
}

fn at(workspace: &Workspace, path: &Path, fault: &str) -> String {
    format!("{}: {fault}", workspace.relative(path))
}

/// A manifest inherits the lints and takes each dependency from the root.
fn manifest_faults(manifest: &str) -> impl Iterator<Item = String> {
    let mut section = "";
    let mut inherits_lints = false;
    let mut faults = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section == "[lints]" && line == "workspace = true" {
            inherits_lints = true;
        } else if section.ends_with("dependencies]") && !line.is_empty() && !line.starts_with('#') {
            let from_root = line.contains("workspace = true");
            if line.contains('=') && !from_root {
                faults.push(format!("`{line}` does not come from `[workspace.dependencies]`"));
            }
        }
    }
    if !inherits_lints {
        faults.push("does not inherit the lints: `[lints]` with `workspace = true`".to_owned());
    }
    faults.into_iter()
}

/// Attributes may stand before the head.
fn opens_with_a_head(source: &str) -> bool {
    source
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with("#!["))
        .is_some_and(|line| line.starts_with("//!"))
}

/// The map has one row per crate, and no row for a crate that is gone. Rows are those of tables whose first column is
/// headed `crate`.
fn map_faults(map: &str, names: &BTreeSet<&str>) -> Vec<String> {
    let mut rows = BTreeSet::new();
    let mut in_table = false;
    for line in map.lines() {
        let Some(first) = line
            .strip_prefix('|')
            .and_then(|row| row.split('|').next())
            .map(str::trim)
        else {
            in_table = false;
            continue;
        };
        if first == "crate" {
            in_table = true;
        } else if in_table && !first.starts_with('-') {
            rows.insert(first.trim_matches('`'));
        }
    }
    let missing = names
        .difference(&rows)
        .map(|name| format!("has no row for `{name}`"));
    let gone = rows
        .difference(names)
        .map(|name| format!("has a row for `{name}`, which is no crate here"));
    missing.chain(gone).collect()
}

/// A law that its macro does not list is a law that no back end is held to.
fn law_faults(member: &Member, read: &impl Fn(&Path) -> Result<String>) -> Result<Vec<(PathBuf, String)>> {
    let source = member.dir.join("src");
    if !source.exists() {
        return Ok(Vec::new());
    }
    let mut laws = Vec::new();
    let mut macros = String::new();
    for file in files(&source)? {
        let text = read(&file)?;
        macros.push_str(&macro_bodies(&text));
        let below = file.strip_prefix(&source).unwrap_or(&file);
        if below
            .components()
            .any(|part| part.as_os_str().to_string_lossy().trim_end_matches(".rs") == "conformance")
        {
            laws.extend(law_names(&text).map(|law| (file.clone(), law)));
        }
    }
    let listed: BTreeSet<&str> = macros.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    laws.retain(|(_, law)| !listed.contains(law.as_str()));
    Ok(laws
        .into_iter()
        .map(|(file, law)| (file, format!("the law `{law}` is in no macro")))
        .collect())
}

fn law_names(source: &str) -> impl Iterator<Item = String> {
    source.lines().filter_map(|line| {
        let rest = line.trim_start().strip_prefix("pub async fn ")?;
        rest.split(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
            .map(str::to_owned)
    })
}

/// All that stands in `macro_rules!` definitions, by counting braces.
fn macro_bodies(source: &str) -> String {
    let mut bodies = String::new();
    for definition in source.split("macro_rules!").skip(1) {
        let mut depth = 0_usize;
        for character in definition.chars() {
            match character {
                '{' => depth = depth.saturating_add(1),
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            bodies.push(character);
            if character == '}' && depth == 0 {
                break;
            }
        }
    }
    bodies
}

/// Line number and fault of each forbidden word.
fn word_faults<'a>(
    text: &'a str,
    never: impl Iterator<Item = &'a (&'static str, &'static str)>,
) -> impl Iterator<Item = (usize, String)> {
    let found: BTreeSet<_> = never
        .flat_map(|(word, why)| {
            let hits = text
                .lines()
                .zip(1_usize..)
                .filter(move |(line, _)| line.contains(word));
            hits.map(move |(_, number)| (number, format!("`{word}`: {why}")))
        })
        .collect();
    found.into_iter()
}

/// All text files below `dir` that belong to the project, sorted.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("failed to list `{}`", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                let is_ours = name != "target" && name != ".git";
                folders.extend(is_ours.then_some(path));
            } else if path
                .extension()
                .is_some_and(|e| TEXT_FILES.iter().any(|text| e == *text))
                || name == "run"
            {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_that_does_not_inherit_the_lints_is_found() {
        assert_eq!(
            manifest_faults("[package]\nname = \"a\"\n[lints]\nworkspace = true\n").count(),
            0
        );
        assert_eq!(
            manifest_faults("[package]\nname = \"a\"\n[lints.rust]\nworkspace = true\n").count(),
            1
        );
        assert_eq!(manifest_faults("[package]\nworkspace = true\n").count(), 1);
    }

    #[test]
    fn a_dependency_that_names_its_own_version_is_found() {
        let manifest = |line: &str| format!("[dev-dependencies]\n{line}\n[lints]\nworkspace = true\n");
        for fine in [
            "a.workspace = true",
            "a = { workspace = true, features = [\"b\"] }",
            "# a = \"1\"",
        ] {
            assert_eq!(manifest_faults(&manifest(fine)).count(), 0, "{fine}");
        }
        for wrong in ["a = \"1\"", "a = { path = \"../a\" }"] {
            assert_eq!(manifest_faults(&manifest(wrong)).count(), 1, "{wrong}");
        }
    }

    #[test]
    fn a_head_stands_before_all_code() {
        assert!(opens_with_a_head("//! What it is.\nuse a;\n"));
        assert!(opens_with_a_head("#![no_std]\n\n//! What it is.\n"));
        assert!(!opens_with_a_head("use a;\n//! Too late.\n"));
        assert!(!opens_with_a_head("// Not a head.\n"));
        assert!(!opens_with_a_head(""));
    }

    #[test]
    fn the_map_and_the_crates_are_the_same() {
        let map = "| crate | knows not |\n|---|---|\n| `a` | b |\n| `c` | d |\n\n| word | x |\n|---|---|\n| `e` | f |\n";
        let faults = |names: &[&str]| map_faults(map, &names.iter().copied().collect());
        assert_eq!(faults(&["a", "c"]), Vec::<String>::new());
        assert_eq!(faults(&["a", "b", "c"]), ["has no row for `b`"]);
        assert_eq!(faults(&["a"]), ["has a row for `c`, which is no crate here"]);
    }

    #[test]
    fn a_law_that_its_macro_forgets_is_found() {
        let dir = tempdir();
        let source = dir.join("src");
        std::fs::create_dir_all(&source).unwrap();
        let text = "pub async fn one_law(s: S) {}\npub async fn another_law(s: S) {}\n\
                    macro_rules! laws { ($n:ident) => { $crate::each! { one_law } } }\nfn another_law_helper() {}\n";
        std::fs::write(source.join("conformance.rs"), text).unwrap();
        let member = Member {
            name: "a".to_owned(),
            dir: dir.clone(),
            published: true,
            targets: Vec::new(),
        };
        let read = |path: &Path| Ok(std::fs::read_to_string(path)?);
        let faults = law_faults(&member, &read).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(faults.len(), 1);
        assert!(faults[0].1.contains("another_law"));
    }

    #[test]
    fn forbidden_words_are_found_with_their_line() {
        let text = format!("fn a() {{\n    {}1);\n}}\n", NEVER_IN_RUST[3].0);
        let faults: Vec<_> = word_faults(&text, NEVER_IN_RUST.iter()).collect();
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].0, 2);
    }

    fn tempdir() -> PathBuf {
        let dir = std::env::temp_dir().join(format!("leash-tidy-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }
}
