//! The gate: what has to pass before a change goes in, the cheapest step first.
//!
//! It needs no terminal, no standard input and, once the crates and the tools are there, no network.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::workspace::{Workspace, cargo};
use crate::{tidy, tools, value};

/// A step of the gate.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    about: &'static str,
    /// Runs only where `--full` or `--only` asks for it.
    slow: bool,
    run: fn(&Workspace) -> Result<()>,
}

/// In the order in which they run.
pub(crate) const STEPS: &[Step] = &[
    Step {
        name: "tidy",
        about: "the conventions of the workspace (own code)",
        slow: false,
        run: tidy::run,
    },
    Step {
        name: "fmt",
        about: "cargo fmt --all --check",
        slow: false,
        run: fmt,
    },
    Step {
        name: "clippy",
        about: "cargo clippy, all features, no warning",
        slow: false,
        run: clippy,
    },
    Step {
        name: "clippy-default",
        about: "cargo clippy, default features",
        slow: false,
        run: clippy_default,
    },
    Step {
        name: "deny",
        about: "cargo deny: layers, licences, sources",
        slow: false,
        run: deny,
    },
    Step {
        name: "test",
        about: "cargo nextest, all features",
        slow: false,
        run: test,
    },
    Step {
        name: "doctest",
        about: "the code in the documentation",
        slow: false,
        run: doctest,
    },
    Step {
        name: "doc",
        about: "cargo doc, no warning",
        slow: false,
        run: doc,
    },
    Step {
        name: "examples",
        about: "every example is run and ends well",
        slow: false,
        run: examples,
    },
    Step {
        name: "readme",
        about: "the README's demo, built for release",
        slow: false,
        run: readme,
    },
    Step {
        name: "features",
        about: "cargo hack: combinations of features",
        slow: true,
        run: features,
    },
    Step {
        name: "package",
        about: "cargo package: every crate builds from its tarball",
        slow: true,
        run: package,
    },
    Step {
        name: "presidio",
        about: "the rule on Presidio against Presidio itself, in a Python environment below target",
        slow: true,
        run: presidio,
    },
    Step {
        name: "tree-sitter",
        about: "the commands that the shell rule finds, against tree-sitter's grammar of Bash, in a Python environment below target",
        slow: true,
        run: tree_sitter,
    },
    Step {
        name: "fuzz",
        about: "every fuzz target over its corpus, and half a minute more",
        slow: true,
        run: fuzz,
    },
    Step {
        name: "chaos",
        about: "the tests again, with more cases and more crashes",
        slow: true,
        run: chaos,
    },
];

/// How long one example may take.
const EXAMPLE_LIMIT: Duration = Duration::from_mins(2);

/// What `cargo xtask ci` was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    full: bool,
    list: bool,
    no_install: bool,
    only: Vec<String>,
}

impl Options {
    pub(crate) fn parse(args: Vec<String>) -> Result<Self> {
        let mut options = Self::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--full" => options.full = true,
                "--list" => options.list = true,
                "--no-install" => options.no_install = true,
                "--only" => options.only.push(value("--only", &mut args)?),
                other => bail!("`ci` knows no `{other}`"),
            }
        }
        if let Some(name) = options
            .only
            .iter()
            .find(|name| STEPS.iter().all(|step| step.name != *name))
        {
            let known: Vec<_> = STEPS.iter().map(|step| step.name).collect();
            bail!("there is no step `{name}`; the steps are {}", known.join(", "));
        }
        Ok(options)
    }

    fn wants(&self, step: &Step) -> bool {
        if self.only.is_empty() {
            self.full || !step.slow
        } else {
            self.only.iter().any(|name| name == step.name)
        }
    }
}

/// Runs the steps that `options` wants. Says whether all of them passed.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> bool {
    if options.list {
        for step in STEPS {
            println!(
                "{:<15} {}{}",
                step.name,
                step.about,
                if step.slow { " (--full)" } else { "" }
            );
        }
        return true;
    }
    let steps: Vec<&Step> = STEPS.iter().filter(|step| options.wants(step)).collect();
    let mut done = Vec::new();
    let started = Instant::now();
    let mut failure = None;
    for step in &steps {
        println!("\n── {} · {}", step.name, step.about);
        let began = Instant::now();
        let result = tools::provide(&workspace.root, &[step.name], !options.no_install)
            .and_then(|()| (step.run)(workspace));
        let took = began.elapsed();
        println!(
            "   {} {} after {:.1} s",
            step.name,
            word(result.is_ok()),
            took.as_secs_f64()
        );
        done.push((step.name, result.is_ok(), took));
        if let Err(error) = result {
            failure = Some(error);
            break;
        }
    }

    println!("\n── summary");
    for (name, passed, took) in &done {
        println!("{name:<15} {:<6} {:>8.1} s", word(*passed), took.as_secs_f64());
    }
    for step in steps.iter().skip(done.len()) {
        println!("{:<15} not run", step.name);
    }
    println!(
        "{:<15} {:<6} {:>8.1} s",
        "all",
        word(failure.is_none()),
        started.elapsed().as_secs_f64()
    );
    if let Some(error) = &failure {
        println!("\n{error:#}");
    }
    failure.is_none()
}

fn word(passed: bool) -> &'static str {
    if passed { "ok" } else { "FAILED" }
}

fn fmt(workspace: &Workspace) -> Result<()> {
    call(workspace, &[], &["fmt", "--all", "--check"])
}

fn clippy(workspace: &Workspace) -> Result<()> {
    let args = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-D",
        "warnings",
    ];
    call(workspace, &[], &args)
}

fn clippy_default(workspace: &Workspace) -> Result<()> {
    call(
        workspace,
        &[],
        &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
    )
}

fn deny(workspace: &Workspace) -> Result<()> {
    // `--offline` reads the licences out of the unpacked packages, those for other platforms too, so they have to be here.
    call(workspace, &[], &["fetch", "--locked"])?;
    // An arrow that is allowed need not be there.
    call(
        workspace,
        &[],
        &[
            "deny",
            "--offline",
            "check",
            "-A",
            "unused-wrapper",
            "bans",
            "licenses",
            "sources",
        ],
    )
}

fn test(workspace: &Workspace) -> Result<()> {
    call(
        workspace,
        &[],
        &["nextest", "run", "--workspace", "--all-features"],
    )
}

fn doctest(workspace: &Workspace) -> Result<()> {
    call(
        workspace,
        &[],
        &["test", "--workspace", "--all-features", "--doc"],
    )
}

fn doc(workspace: &Workspace) -> Result<()> {
    call(
        workspace,
        &[("RUSTDOCFLAGS", "-D warnings")],
        &["doc", "--workspace", "--all-features", "--no-deps"],
    )
}

/// Builds all examples at once, as the tests were built, so that nothing is compiled anew; then runs each in a folder
/// of its own.
fn examples(workspace: &Workspace) -> Result<()> {
    let args = [
        "build",
        "--workspace",
        "--all-features",
        "--examples",
        "--message-format=json-render-diagnostics",
    ];
    let messages = output(workspace, &args)?;
    let mut built = Vec::new();
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).context("cargo wrote a message that is no JSON")?;
        let is_example = message.pointer("/target/kind/0").and_then(Value::as_str) == Some("example");
        let name = message.pointer("/target/name").and_then(Value::as_str);
        let program = message.get("executable").and_then(Value::as_str);
        if let (true, Some(name), Some(program)) = (is_example, name, program) {
            built.push((name.to_owned(), program.to_owned()));
        }
    }
    built.sort();
    let expected: usize = workspace
        .members
        .iter()
        .map(|member| member.targets_of("example").count())
        .sum();
    if built.len() != expected {
        bail!("cargo built {} examples of {expected}", built.len());
    }
    for (name, program) in built {
        run_example(workspace, &name, &program)?;
    }
    Ok(())
}

fn run_example(workspace: &Workspace, name: &str, program: &str) -> Result<()> {
    let dir = workspace.target.join("xtask/examples").join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("failed to empty `{}`", dir.display()))?;
    }
    std::fs::create_dir_all(&dir).with_context(|| format!("failed to make `{}`", dir.display()))?;
    let log = dir.join("output.txt");
    let out = File::create(&log).with_context(|| format!("failed to write `{}`", log.display()))?;
    let mut command = Command::new(program);
    command
        .current_dir(&dir)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out);
    println!("$ {program}");
    let status = wait(&mut command, EXAMPLE_LIMIT)?;
    if status.is_none_or(|status| !status.success()) {
        let ended = status.map_or_else(
            || format!("still ran after {EXAMPLE_LIMIT:?}"),
            |status| format!("ended with {status}"),
        );
        println!("{}", std::fs::read_to_string(&log).unwrap_or_default());
        bail!("the example `{name}` {ended}; what it wrote is above");
    }
    Ok(())
}

/// The status of `command`; none if it had to be stopped.
fn wait(command: &mut Command, limit: Duration) -> Result<Option<ExitStatus>> {
    let mut child = command
        .spawn()
        .with_context(|| format!("failed to run {}", command.get_program().display()))?;
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if began.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The first command of the README, word for word, with `--json` after it; then the log that it wrote is verified by
/// the same binary.
fn readme(workspace: &Workspace) -> Result<()> {
    let command = tidy::README_COMMANDS
        .first()
        .context("the README has no command")?;
    let mut words: Vec<&str> = command.split(' ').skip(1).collect();
    words.push("--json");
    let text = output(workspace, &words)?;
    let result: Value = serde_json::from_str(&text).context("the demo's standard output is no JSON")?;
    let number = |key: &str| {
        result
            .get(key)
            .and_then(Value::as_f64)
            .with_context(|| format!("the demo's JSON has no number `{key}`"))
    };
    let (cap, spent) = (number("cap_usd")?, number("spent_usd")?);
    if !(spent <= cap && number("provider_calls")? >= 1.0 && number("refused")? >= 1.0) {
        bail!("the demo did not stop its agent at the cap: {result}");
    }
    let log = result
        .get("audit_log")
        .and_then(Value::as_str)
        .context("the demo's JSON has no `audit_log`")?;
    call(
        workspace,
        &[],
        &["run", "--release", "-p", "leash-cli", "--", "verify", log],
    )
}

fn features(workspace: &Workspace) -> Result<()> {
    let mut args = vec![
        "hack",
        "check",
        "--feature-powerset",
        "--depth",
        "2",
        "--no-dev-deps",
    ];
    for member in workspace
        .members
        .iter()
        .filter(|member| member.published && has_library(member))
    {
        args.extend(["-p", &member.name]);
    }
    call(workspace, &[], &args)
}

fn has_library(member: &crate::workspace::Member) -> bool {
    member.targets_of("lib").next().is_some()
}

fn package(workspace: &Workspace) -> Result<()> {
    forget_unpacked(workspace)?;
    // Cargo takes what it once built of a package for the same while its version is.
    let built = workspace.root.join("target/packaged");
    if built.exists() {
        std::fs::remove_dir_all(&built)?;
    }
    // What is not committed yet is packaged too: the gate is run before a commit.
    let mut args = vec![
        "package",
        "--workspace",
        "--allow-dirty",
        "--target-dir",
        "target/packaged",
    ];
    for member in workspace.members.iter().filter(|member| !member.published) {
        args.extend(["--exclude", &member.name]);
    }
    call(workspace, &[], &args)
}

/// Removes what cargo has unpacked of our own crates. It packages into a registry of its own, whose crates it unpacks once for
/// each version: without this, a second run would build against the first one's.
fn forget_unpacked(workspace: &Workspace) -> Result<()> {
    let home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => std::env::home_dir()
            .context("neither CARGO_HOME nor a home directory is known")?
            .join(".cargo"),
    };
    let Ok(registries) = std::fs::read_dir(home.join("registry/src")) else {
        return Ok(());
    };
    for registry in registries {
        let registry = registry?;
        // Those of folders have no host in their names.
        if !registry.file_name().to_string_lossy().starts_with('-') {
            continue;
        }
        for unpacked in std::fs::read_dir(registry.path())? {
            let unpacked = unpacked?;
            let name = unpacked.file_name();
            let name = name.to_string_lossy();
            let ours = |member: &crate::workspace::Member| {
                name.strip_prefix(member.name.as_str())
                    .is_some_and(|version| version.starts_with('-'))
            };
            if workspace.members.iter().any(ours) {
                std::fs::remove_dir_all(unpacked.path())?;
            }
        }
    }
    Ok(())
}

fn chaos(workspace: &Workspace) -> Result<()> {
    let more = [("LEASH_TEST_EFFORT", "full"), ("PROPTEST_CASES", "1024")];
    call(
        workspace,
        &more,
        &[
            "nextest",
            "run",
            "--workspace",
            "--all-features",
            "--profile",
            "full",
        ],
    )
}

/// How long each target looks for something new, in seconds.
const FUZZ_SECONDS: u32 = 30;

/// Runs every target of every folder `fuzz`. What is found new stays below the target folder; what ends a target lies in
/// `fuzz/artifacts`, and the last lines say where.
fn fuzz(workspace: &Workspace) -> Result<()> {
    let found = fuzz_targets(&workspace.root)?;
    if found.is_empty() {
        bail!("there is no fuzz target");
    }
    let target = workspace.target.join("fuzz");
    for (folder, name) in found {
        let corpus = target.join("corpus").join(&name);
        std::fs::create_dir_all(&corpus).with_context(|| format!("failed to make `{}`", corpus.display()))?;
        let mut command = Command::new("rustup");
        command
            .current_dir(&workspace.root)
            .stdin(Stdio::null())
            .args(["run", "nightly", "cargo", "fuzz", "run", "--fuzz-dir"])
            .arg(&folder)
            .arg(&name)
            .args([corpus, folder.join("corpus").join(&name)])
            .arg("--")
            .arg(format!("-max_total_time={FUZZ_SECONDS}"))
            .args([
                "-timeout=5",
                "-rss_limit_mb=2048",
                "-verbosity=0",
                "-print_final_stats=1",
            ])
            .env("CARGO_TARGET_DIR", &target);
        // What the cargo that runs us says of itself is not true of the other toolchain's.
        for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
            command.env_remove(name);
        }
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        println!(
            "$ CARGO_TARGET_DIR={} rustup {}",
            target.display(),
            words.join(" ")
        );
        let status = command.status().context("failed to run `rustup`")?;
        if !status.success() {
            bail!("the fuzz target `{name}` ended with {status}; what ended it is named above");
        }
    }
    Ok(())
}

/// The folders of fuzz targets below `root` and the names of the targets in each, sorted. A target without a corpus, or
/// that its package does not know, is a failure.
fn fuzz_targets(root: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    for crate_dir in list(&root.join("crates"))? {
        let folder = crate_dir.join("fuzz");
        if !folder.join("Cargo.toml").exists() {
            continue;
        }
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml"))?;
        for file in list(&folder.join("fuzz_targets"))? {
            let name = file
                .file_stem()
                .and_then(|name| name.to_str())
                .context("a fuzz target's name is not UTF-8")?
                .to_owned();
            if !manifest.contains(&format!("name = \"{name}\"")) {
                bail!("`{}` is not in the manifest of its package", file.display());
            }
            if list(&folder.join("corpus").join(&name))?.is_empty() {
                bail!("the fuzz target `{name}` has no corpus");
            }
            found.push((folder.clone(), name));
        }
    }
    Ok(found)
}

fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("failed to list `{}`", dir.display()))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// The release that the rule is tested against.
const PRESIDIO: &str = "presidio-analyzer[server]==2.2.366";

fn presidio(workspace: &Workspace) -> Result<()> {
    with_python(
        workspace,
        "presidio",
        &[PRESIDIO],
        "LEASH_TEST_PRESIDIO",
        "test(presidio_itself)",
    )
}

/// The grammar that the shell rule is compared with, and what runs it.
const TREE_SITTER: [&str; 2] = ["tree-sitter==0.26.1", "tree-sitter-bash==0.25.1"];

fn tree_sitter(workspace: &Workspace) -> Result<()> {
    with_python(
        workspace,
        "tree-sitter",
        &TREE_SITTER,
        "LEASH_TEST_TREE_SITTER",
        "test(every_command_that_tree_sitter_finds)",
    )
}

/// Runs the tests of leash-policy that `filter` names with a Python that has `packages`, named by the variable `variable`. No such test is a
/// failure, and so is a package that cannot be had.
fn with_python(
    workspace: &Workspace,
    folder: &str,
    packages: &[&str],
    variable: &str,
    filter: &str,
) -> Result<()> {
    let home = workspace.target.join(folder);
    let python = home.join("bin").join("python");
    let python = python.to_str().context("the target folder's name is not UTF-8")?;
    let home = home.to_str().context("the target folder's name is not UTF-8")?;
    let install = [&["-m", "pip", "install", "--quiet"], packages].concat();
    for (program, args) in [("python3", ["-m", "venv", home].as_slice()), (python, &install)] {
        println!("$ {program} {}", args.join(" "));
        let status = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .status()
            .with_context(|| format!("failed to run `{program}`"))?;
        if !status.success() {
            bail!("`{program} {}` ended with {status}", args.join(" "));
        }
    }
    // As the other tests are built, so that nothing is compiled anew.
    call(
        workspace,
        &[(variable, python)],
        &[
            "nextest",
            "run",
            "-p",
            "leash-policy",
            "--all-features",
            "-E",
            filter,
        ],
    )
}

/// Runs cargo, with its output where ours goes.
fn call(workspace: &Workspace, env: &[(&str, &str)], args: &[&str]) -> Result<()> {
    announce(env, args);
    let mut command = cargo(&workspace.root);
    command.args(args).envs(
        env.iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value))),
    );
    passed(command.status(), args)
}

/// Runs cargo and takes its standard output.
fn output(workspace: &Workspace, args: &[&str]) -> Result<String> {
    announce(&[], args);
    let output = cargo(&workspace.root)
        .args(args)
        .stderr(Stdio::inherit())
        .output();
    let (status, text) = match output {
        Ok(output) => (Ok(output.status), output.stdout),
        Err(error) => (Err(error), Vec::new()),
    };
    passed(status, args)?;
    String::from_utf8(text).context("the output is not UTF-8")
}

fn announce(env: &[(&str, &str)], args: &[&str]) {
    let env = env.iter().fold(String::new(), |all, (name, value)| {
        all + name + "='" + value + "' "
    });
    println!("$ {env}cargo {}", args.join(" "));
}

fn passed(status: std::io::Result<ExitStatus>, args: &[&str]) -> Result<()> {
    let status = status.with_context(|| format!("failed to run `cargo {}`", args.join(" ")))?;
    if !status.success() {
        bail!("`cargo {}` ended with {status}", args.join(" "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options> {
        Options::parse(args.iter().map(|&arg| arg.to_owned()).collect())
    }

    fn wanted(args: &[&str]) -> Vec<&'static str> {
        let options = parse(args).unwrap();
        STEPS
            .iter()
            .filter(|step| options.wants(step))
            .map(|step| step.name)
            .collect()
    }

    #[test]
    fn slow_steps_run_only_when_asked_for() {
        assert!(!wanted(&[]).contains(&"package"));
        assert!(wanted(&[]).contains(&"test"));
        assert_eq!(wanted(&["--full"]).len(), STEPS.len());
        assert_eq!(wanted(&["--only", "package"]), ["package"]);
        assert_eq!(wanted(&["--only", "fmt", "--only", "tidy"]), ["tidy", "fmt"]);
    }

    #[test]
    fn a_step_that_does_not_exist_is_refused() {
        let error = parse(&["--only", "tests"]).unwrap_err().to_string();
        assert!(
            error.contains("no step `tests`") && error.contains("doctest"),
            "{error}"
        );
        assert!(parse(&["--only"]).is_err());
        assert!(parse(&["--quick"]).is_err());
    }

    #[test]
    fn every_fuzz_target_has_a_corpus_and_is_known_to_its_package() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let names: Vec<String> = fuzz_targets(root)
            .unwrap()
            .into_iter()
            .map(|(_, name)| name)
            .collect();
        for parser in ["sql", "shell", "pii", "secrets", "places", "policy_file"] {
            assert!(names.iter().any(|name| name == parser), "{parser}");
        }
    }

    #[test]
    fn a_program_that_does_not_end_is_stopped() {
        let mut endless = Command::new("sleep");
        endless.arg("600");
        assert_eq!(wait(&mut endless, Duration::from_millis(50)).unwrap(), None);
        let mut short = Command::new("true");
        assert!(
            wait(&mut short, Duration::from_mins(1))
                .unwrap()
                .unwrap()
                .success()
        );
    }
}
