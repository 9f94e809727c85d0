//! `cargo xtask prices`: makes the price table and its page anew, out of two Python packages.
//!
//! The only chore that needs the network, and only where a package is not there yet. The same versions give the same
//! bytes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::value;
use crate::workspace::Workspace;

/// The versions that the table in the repository was made from, and the day it was made for. Newer ones go here.
const GENAI_VERSION: &str = "0.2.3";
const LITELLM_VERSION: &str = "1.109.1";
const AS_OF: &str = "2026-11-22";

const SCRIPT: &str = "xtask/python/prices.py";
const TABLE: &str = "crates/leash-budget/data/prices.json";
const NAMES: &str = "crates/leash-budget/tests/data/names.tsv";
const PAGE: &str = "docs/prices.md";

/// What `cargo xtask prices` was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Each a version or the path of a wheel.
    genai: String,
    litellm: String,
    as_of: String,
    check: bool,
}

impl Options {
    pub(crate) fn parse(args: Vec<String>) -> Result<Self> {
        let mut options = Self {
            genai: GENAI_VERSION.to_owned(),
            litellm: LITELLM_VERSION.to_owned(),
            as_of: AS_OF.to_owned(),
            check: false,
        };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--genai" => options.genai = value("--genai", &mut args)?,
                "--litellm" => options.litellm = value("--litellm", &mut args)?,
                "--as-of" => options.as_of = value("--as-of", &mut args)?,
                "--check" => options.check = true,
                other => bail!("`prices` knows no `{other}`"),
            }
        }
        Ok(options)
    }
}

/// Writes the table, the page and the names that the tests look up; or, with `--check`, says which of them differ.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let dir = workspace.target.join("xtask/prices");
    std::fs::create_dir_all(&dir).with_context(|| format!("failed to make `{}`", dir.display()))?;
    let genai = wheel(&dir, "genai-prices", &options.genai)?;
    let litellm = wheel(&dir, "litellm", &options.litellm)?;
    let made = [("prices.json", TABLE), ("prices.md", PAGE), ("names.tsv", NAMES)]
        .map(|(name, place)| (dir.join(name), workspace.root.join(place)));

    let mut command = python();
    command
        .arg(workspace.root.join(SCRIPT))
        .arg(&genai)
        .arg(&litellm)
        .arg(&options.as_of)
        .args(made.iter().map(|(made, _)| made));
    call(command)?;

    let mut differ = Vec::new();
    for (made, place) in &made {
        let bytes = std::fs::read(made).with_context(|| format!("failed to read `{}`", made.display()))?;
        let name = workspace.relative(place);
        if std::fs::read(place).is_ok_and(|there| there == bytes) {
            println!("{name} is as it was");
            continue;
        }
        if options.check {
            differ.push(name);
            continue;
        }
        if let Some(dir) = place.parent() {
            std::fs::create_dir_all(dir).with_context(|| format!("failed to make `{}`", dir.display()))?;
        }
        std::fs::write(place, bytes).with_context(|| format!("failed to write `{}`", place.display()))?;
        println!("{name} is new");
    }
    if !differ.is_empty() {
        bail!(
            "{} would come out otherwise; run `cargo xtask prices`",
            differ.join(", ")
        );
    }
    Ok(())
}

/// The wheel at the path `which`, or of the version `which`: one that was downloaded before, or downloaded now.
fn wheel(dir: &Path, package: &str, which: &str) -> Result<PathBuf> {
    if Path::new(which)
        .extension()
        .is_some_and(|extension| extension == "whl")
    {
        return std::path::absolute(which).with_context(|| format!("`{which}` is no path"));
    }
    let start = format!("{}-{which}-", package.replace('-', "_"));
    if let Some(found) = find(dir, &start)? {
        return Ok(found);
    }
    let mut command = python();
    command.args([
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--disable-pip-version-check",
        "--quiet",
        "--dest",
    ]);
    command.arg(dir).arg(format!("{package}=={which}"));
    call(command)?;
    find(dir, &start)?.with_context(|| format!("pip downloaded no wheel of `{package}` {which}"))
}

fn find(dir: &Path, start: &str) -> Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("failed to list `{}`", dir.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(start) && name.ends_with(".whl") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn python() -> Command {
    Command::new(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()))
}

fn call(mut command: Command) -> Result<()> {
    let program = command.get_program().display().to_string();
    let status = command.status().with_context(|| {
        format!("failed to run `{program}`; the price table is made with Python 3.11 or newer")
    })?;
    if !status.success() {
        bail!("`{program}` ended with {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_a_wheel_and_a_day_can_be_given() {
        let args = [
            "--genai",
            "9.9.9",
            "--litellm",
            "/x/litellm-1-py3.whl",
            "--as-of",
            "2027-01-01",
            "--check",
        ];
        let options = Options::parse(args.map(str::to_owned).to_vec()).unwrap();
        assert_eq!(options.genai, "9.9.9");
        assert_eq!(options.as_of, "2027-01-01");
        assert!(options.check);
        assert_eq!(
            wheel(Path::new("/nowhere"), "litellm", &options.litellm).unwrap(),
            Path::new("/x/litellm-1-py3.whl")
        );
        assert!(Options::parse(vec!["--genai".to_owned()]).is_err());
        assert!(Options::parse(vec!["--what".to_owned()]).is_err());
    }
}
