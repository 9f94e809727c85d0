//! `llm-leash`: reads, verifies and exports audit logs, and shows what the leash does.
//!
//! Standard output is data and standard error is talk; what goes where, and with which exit code it ends, is a contract
//! (`docs/stability.md`). It holds no knowledge of its own: each command is one of the leaf crates, made reachable from
//! a shell.
//!
//! ```console
//! $ llm-leash verify audit.jsonl
//! OK: 240 events verified
//! ```

mod budget;
mod cli;
mod demo;
mod exit;
mod export;
mod hitl;
mod input;
mod keys;
mod kill;
mod output;
mod pages;
mod policy;
mod price;
mod progress;
mod redact;
mod replay;
mod soc2;
mod verify;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::exit::{Exit, Failure};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers; the rest are questions put wrongly. Where not even this can be written,
            // nobody is there to be told.
            let _ = error.print();
            return if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            }
            .into();
        }
    };
    let result = match cli.command {
        Command::Verify(args) => verify::run(&args),
        Command::Redact(args) => redact::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Policy(args) => policy::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Soc2(args) => soc2::run(&args),
        Command::Price(args) => price::run(&args),
        Command::Kill(args) => kill::run(&args),
        Command::Hitl(args) => hitl::run(&args),
        Command::Budget(args) => budget::run(&args),
        Command::Completions(args) => pages::completions(&args),
        Command::Man(args) => pages::man(&args),
    };
    match result {
        Ok(exit) => exit.into(),
        // Who reads has seen enough.
        Err(Failure::ReaderGone) => Exit::Done.into(),
        Err(Failure::Told(message)) => {
            let _ = writeln!(std::io::stderr(), "error: {message}");
            Exit::Failed.into()
        }
        Err(Failure::Usage(message)) => {
            let _ = writeln!(std::io::stderr(), "error: {message}");
            Exit::Usage.into()
        }
    }
}
