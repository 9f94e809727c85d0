//! The command line as types. A new command is a variant here, a module of its own, and an arm in `main.rs`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use leash_core::{ServiceTier, Timestamp};

use crate::price;

const EXIT_CODES: &str = "\
Exit codes:
  0   done; for `verify`: the log is intact
  1   it could not be done: no such file, no permission, not a log, no price
  2   for `verify`: the log was read, and is broken
  64  the command line is wrong";

/// A runtime firewall for LLM agents: verify, replay and export its audit logs.
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
    Price(PriceArgs),
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

/// Say what a call of a model costs.
///
/// The model is found as providers, gateways and clouds name it: `claude-haiku-4-5-20251001`, `openai/gpt-4o`, an ARN of
/// Bedrock. A model without a price is an error, never free.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  llm-leash price claude-haiku-4-5 --input 1200 --output 300
  llm-leash price gpt-4o --provider azure --input 1200 --cache-read 50000 --output 300 --json
  llm-leash price our-model --prices prices.json --input 1000 --output 1000

Exit codes: 0 done, 1 no price or the file cannot be read, 64 wrong command line")]
pub(crate) struct PriceArgs {
    /// The model.
    pub(crate) model: String,
    /// Who serves it, where the name does not say.
    #[arg(long, value_name = "NAME")]
    pub(crate) provider: Option<String>,
    /// Input tokens that are not counted under the options for the cache.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) input: u64,
    /// Output tokens, reasoning included.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) output: u64,
    /// Input tokens read from the provider's cache.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) cache_read: u64,
    /// Input tokens written to the cache for five minutes.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) cache_write: u64,
    /// Input tokens written to the cache for an hour.
    #[arg(long = "cache-write-1h", value_name = "N", default_value_t = 0)]
    pub(crate) cache_write_1h: u64,
    /// Searches on the web that the provider ran.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) web_searches: u64,
    /// The service tier: `standard`, `flex`, `batch`, `priority` or `fast`.
    #[arg(long, value_name = "NAME", default_value = "standard", value_parser = price::service_tier)]
    pub(crate) service_tier: ServiceTier,
    /// When the call was made, where that is not now: a day or a moment, in UTC.
    #[arg(long, value_name = "TIME", value_parser = price::moment)]
    pub(crate) at: Option<Timestamp>,
    /// A file with prices of your own, which go before the list prices.
    #[arg(long, value_name = "FILE")]
    pub(crate) prices: Option<PathBuf>,
    /// Write one JSON object: `provider model usd price_version` and what was counted.
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
