//! The chores of the workspace: the gate, the table of figures and the table of prices.
//!
//! `cargo xtask ci` is what has to pass before a change goes in; `cargo xtask bench` measures what
//! `docs/performance.md` shows; `cargo xtask laws` runs the laws of the budget stores, whose table `docs/budgets.md` has; `cargo xtask prices` makes what `docs/prices.md` tells of. It knows the files and the commands of the workspace, and none of its crates.

#![expect(
    clippy::print_stdout,
    reason = "talking to the person who ran it is what this program does"
)]

mod bench;
mod cases;
mod gate;
mod laws;
mod prices;
mod tidy;
mod tools;
mod workspace;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::workspace::Workspace;

const HELP: &str = "\
The chores of the workspace.

Usage: cargo xtask ci [--full] [--only STEP]... [--no-install]
       cargo xtask ci --list
       cargo xtask bench [-p CRATE]... [--no-run]
       cargo xtask cases
       cargo xtask laws [--write]
       cargo xtask prices [--genai VERSION|WHEEL] [--litellm VERSION|WHEEL] [--as-of DAY] [--check]

ci      the gate: every step, the cheapest first; the first that fails ends it
  --full         also what is slow: feature combinations, packages, fuzzing, long chaos tests
  --only STEP    only this step; may be given more than once
  --no-install   say how to install a missing tool instead of installing it
  --list         name the steps and what each runs

bench   run the benchmarks and print their figures beside the goals
  -p CRATE       only the benchmarks of this crate; may be given more than once
  --no-run       print what the last run left

cases   run the rules over their files of cases and print both rates
laws    run the laws of the budget stores and print what came of each, store by law
  --write              also put the table into docs/budgets.md

prices  make the price table and docs/prices.md from the packages genai-prices and litellm (Python 3.11, pip)
  --genai, --litellm   another version, or a wheel that is there; else those that the table was made from
  --as-of DAY          the day the table is for
  --check              write nothing; fail where something would come out otherwise
";

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(code) => code,
        Err(error) => {
            println!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Vec<String>) -> Result<ExitCode> {
    let mut args = args.into_iter();
    let command = args.next();
    let rest: Vec<String> = args.collect();
    match command.as_deref() {
        Some("ci") => {
            let options = gate::Options::parse(rest)?;
            let workspace = Workspace::find()?;
            Ok(if gate::run(&workspace, &options) {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Some("bench") => {
            bench::run(&Workspace::find()?, &bench::Options::parse(rest)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Some("cases") => Ok(if cases::run(&Workspace::find()?)? {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }),
        Some("laws") => Ok(if laws::run(&Workspace::find()?, &laws::Options::parse(rest)?)? {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }),
        Some("prices") => {
            prices::run(&Workspace::find()?, &prices::Options::parse(rest)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Some("help" | "--help" | "-h") | None => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        Some(other) => bail!("there is no `{other}`\n\n{HELP}"),
    }
}

/// The value of an option that needs one.
fn value(option: &str, args: &mut impl Iterator<Item = String>) -> Result<String> {
    args.next().with_context(|| format!("`{option}` wants a value"))
}
