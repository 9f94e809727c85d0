//! The programs that the gate runs and does not bring along: how each is found and how it is installed.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// A program that a step needs.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    /// Succeeds where the tool is there.
    pub(crate) check: &'static [&'static str],
    /// Puts it there.
    pub(crate) install: &'static [&'static str],
    /// The steps that cannot run without it.
    pub(crate) needed_by: &'static [&'static str],
    /// What the person who waits should know.
    pub(crate) note: &'static str,
}

/// A new tool is a new row. Versions are pinned, so that the gate says tomorrow what it says today; a tool that is
/// there already is taken as it is.
pub(crate) const TOOLS: &[Tool] = &[
    Tool {
        name: "rustfmt",
        check: &["cargo", "fmt", "--version"],
        install: &["rustup", "component", "add", "rustfmt"],
        needed_by: &["fmt"],
        note: "a component of the toolchain",
    },
    Tool {
        name: "clippy",
        check: &["cargo", "clippy", "--version"],
        install: &["rustup", "component", "add", "clippy"],
        needed_by: &["clippy", "clippy-default"],
        note: "a component of the toolchain",
    },
    Tool {
        name: "cargo-deny",
        check: &["cargo", "deny", "--version"],
        install: &[
            "cargo",
            "install",
            "cargo-deny",
            "--locked",
            "--version",
            "0.20.2",
        ],
        needed_by: &["deny"],
        note: "takes about six minutes on two cores, once",
    },
    Tool {
        name: "cargo-nextest",
        check: &["cargo", "nextest", "--version"],
        install: &[
            "cargo",
            "install",
            "cargo-nextest",
            "--locked",
            "--version",
            "0.9.143",
        ],
        needed_by: &["test", "presidio", "tree-sitter", "chaos"],
        note: "takes some minutes on two cores, once",
    },
    Tool {
        name: "redis-server",
        check: &["redis-server", "--version"],
        install: &[
            "sh",
            "-c",
            "apt-get update -q && apt-get install -q -y --no-install-recommends redis-server",
        ],
        needed_by: &["test", "chaos"],
        note: "a package of Debian and Ubuntu, whose installation asks for root; other systems have it by the same name",
    },
    Tool {
        name: "cargo-hack",
        check: &["cargo", "hack", "--version"],
        install: &[
            "cargo",
            "install",
            "cargo-hack",
            "--locked",
            "--version",
            "0.6.46",
        ],
        needed_by: &["features"],
        note: "takes about a minute, once",
    },
    Tool {
        name: "nightly",
        check: &["rustup", "run", "nightly", "rustc", "--version"],
        install: &[
            "rustup",
            "toolchain",
            "install",
            "nightly",
            "--profile",
            "minimal",
        ],
        needed_by: &["fuzz"],
        note: "a toolchain: what fuzzing needs of the compiler is in no other",
    },
    Tool {
        name: "cargo-fuzz",
        check: &["cargo", "fuzz", "--version"],
        install: &[
            "cargo",
            "install",
            "cargo-fuzz",
            "--locked",
            "--version",
            "0.13.2",
        ],
        needed_by: &["fuzz"],
        note: "takes about a minute, once",
    },
];

/// Sees to it that every tool of `steps` is there.
///
/// # Errors
/// A tool is missing, and installing it failed or is not wanted; the message has the command to run.
pub(crate) fn provide(root: &Path, steps: &[&str], install: bool) -> Result<()> {
    let needed = |tool: &&Tool| tool.needed_by.iter().any(|step| steps.contains(step));
    TOOLS
        .iter()
        .filter(needed)
        .try_for_each(|tool| obtain(root, tool, install))
}

fn obtain(root: &Path, tool: &Tool, install: bool) -> Result<()> {
    if is_there(root, tool) {
        return Ok(());
    }
    let command = tool.install.join(" ");
    if !install {
        bail!("`{}` is missing; install it with `{command}`", tool.name);
    }
    println!("`{}` is missing: $ {command} ({})", tool.name, tool.note);
    let failed = || {
        format!(
            "`{}` could not be installed; install it with `{command}`",
            tool.name
        )
    };
    let status = words(root, tool.install)?.status().with_context(failed)?;
    if !status.success() || !is_there(root, tool) {
        bail!(failed());
    }
    Ok(())
}

fn is_there(root: &Path, tool: &Tool) -> bool {
    words(root, tool.check)
        .and_then(|mut check| Ok(check.stdout(Stdio::null()).stderr(Stdio::null()).status()?))
        .is_ok_and(|status| status.success())
}

fn words(root: &Path, words: &[&str]) -> Result<Command> {
    let (program, args) = words.split_first().context("a tool without a command")?;
    let mut command = if *program == "cargo" {
        crate::workspace::cargo(root)
    } else {
        Command::new(program)
    };
    command.args(args).current_dir(root).stdin(Stdio::null());
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_is_needed_by_a_step_that_exists() {
        for tool in TOOLS {
            for step in tool.needed_by {
                assert!(
                    crate::gate::STEPS.iter().any(|known| known.name == *step),
                    "{}: {step}",
                    tool.name
                );
            }
        }
    }

    #[test]
    fn a_missing_tool_is_named_with_its_command() {
        let missing = Tool {
            name: "no-such-tool",
            check: &["no-such-tool", "--version"],
            install: &["no-such-installer", "no-such-tool"],
            needed_by: &[],
            note: "",
        };
        for install in [false, true] {
            let error = obtain(Path::new("."), &missing, install).unwrap_err().to_string();
            assert!(error.contains("`no-such-tool`"), "{error}");
            assert!(
                error.contains("install it with `no-such-installer no-such-tool`"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_tool_that_is_there_is_taken_as_it_is() {
        let present = Tool {
            name: "cargo",
            check: &["cargo", "--version"],
            install: &["no-such-installer"],
            needed_by: &[],
            note: "",
        };
        assert!(obtain(Path::new("."), &present, true).is_ok());
    }
}
