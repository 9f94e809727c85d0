//! The command line as types. A new command is a variant here, a module of its own, and an arm in `main.rs`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

const EXIT_CODES: &str = "\
Exit codes:
  0   done; for `verify`: the log is intact
  1   it could not be done: no such file, no permission, not a log
  2   for `verify`: the log was read, and is broken
  64  the command line is wrong";

/// A runtime firewall for LLM agents: see it stop one; verify, replay and export its audit logs.
///
/// Results go to standard output, everything else to standard error. `-` reads a log from standard input.
#[derive(Debug, Parser)]
#[command(name = "llm-leash", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Verify(VerifyArgs),
    Replay(ReplayArgs),
    Export(ExportArgs),
    Demo(DemoArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Check that nobody changed, removed, added or moved a line of a log.
///
/// Writes `OK: N events verified` to standard output, or `BROKEN: line L (seq S): …` to standard error. Lines cut off
/// the end of a log leave no trace in it: keep the number of events, or a checkpoint, elsewhere.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  llm-leash verify audit.jsonl
  zcat audit.jsonl.gz | llm-leash verify -
  llm-leash verify --json audit.jsonl | jq .events

Exit codes: 0 intact, 2 broken, 1 cannot be read, 64 wrong command line")]
pub(crate) struct VerifyArgs {
    /// The log; `-` is standard input.
    pub(crate) path: PathBuf,
    /// Write the verdict as one JSON object: `path verdict events head`, and `line seq reason` where it is broken.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write every event of a log, one JSON object a line, as it stands in the log.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  llm-leash replay audit.jsonl | jq 'select(.kind == \"kill\")'
  llm-leash replay audit.jsonl | head -n 3

Exit codes: 0 done, 1 cannot be read, 64 wrong command line")]
pub(crate) struct ReplayArgs {
    /// The log; `-` is standard input.
    pub(crate) path: PathBuf,
}

/// Write a log as CSV or as one JSON array.
///
/// It does not verify: run `verify` first where that matters.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  llm-leash export audit.jsonl --format csv > audit.csv
  llm-leash export audit.jsonl | jq 'map(.cost_usd // 0) | add'

Exit codes: 0 done, 1 cannot be read, 64 wrong command line")]
pub(crate) struct ExportArgs {
    /// The log; `-` is standard input.
    pub(crate) path: PathBuf,
    /// What to write.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    pub(crate) format: Format,
}

/// What `export` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// RFC 4180, a column for each member of the kinds in the log.
    Csv,
    /// An array, indented by two.
    Json,
}

/// See a runaway agent stopped: at a cap of $0.50, on a local server that stands in for the providers.
///
/// Needs nothing: no key, no network, no configuration. The server speaks the formats of Anthropic and OpenAI, the
/// firewall in front of it is the real one, and so are the prices and the log.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  llm-leash demo
  llm-leash demo --concurrent 64
  llm-leash demo --audit-log demo.jsonl && llm-leash verify demo.jsonl
  llm-leash demo --json | jq .spent_usd

Exit codes: 0 done, 1 could not be done, 64 wrong command line")]
pub(crate) struct DemoArgs {
    /// Write the audit log here; appended to where it is there and intact. Default: a new file among the temporary ones.
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_log: Option<PathBuf>,
    /// Make so many calls at once instead of one after the other, and compare with checking before and charging after.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) concurrent: Option<u16>,
    /// Write what came of it as one JSON object: `cap_usd spent_usd provider_calls refused audit_log` and more.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write the completions of a shell to standard output.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  llm-leash completions bash > /etc/bash_completion.d/llm-leash
  llm-leash completions zsh > \"${fpath[1]}/_llm-leash\"
  llm-leash completions fish > ~/.config/fish/completions/llm-leash.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell.
    pub(crate) shell: Shell,
}

/// Write the manual page to standard output, or all pages into a folder.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  llm-leash man | man -l -
  llm-leash man --out /usr/local/share/man/man1")]
pub(crate) struct ManArgs {
    /// The folder for one page a command; it is made where it is missing.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}
