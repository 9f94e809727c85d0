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
    Redact(RedactArgs),
    Replay(ReplayArgs),
    Export(ExportArgs),
    Policy(PolicyArgs),
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

/// Write a text without the personal data in it.
///
/// E-mail addresses, phone numbers, cards, US social security numbers, IBANs, IP and MAC addresses become
/// `[REDACTED:KIND]`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  llm-leash redact prompt.txt
  git diff | llm-leash redact --secrets -
  llm-leash redact --scan --json prompt.txt

Exit codes: 0 done, 1 cannot be read, 64 wrong command line")]
pub(crate) struct RedactArgs {
    /// The text, UTF-8; `-` is standard input.
    #[arg(default_value = "-", value_name = "FILE")]
    pub(crate) path: PathBuf,
    /// Write what was found instead: kind, first byte, byte after the last.
    #[arg(long)]
    pub(crate) scan: bool,
    /// Write what was found as one JSON array: `kind start end`, in bytes.
    #[arg(long, requires = "scan")]
    pub(crate) json: bool,
    /// Take keys and tokens out as well.
    #[arg(long, conflicts_with = "scan")]
    pub(crate) secrets: bool,
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

/// Check policies, run them over cases, and explain what they say of a call.
#[derive(Args, Debug)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    pub(crate) command: PolicyCommand,
}

/// What can be asked of a policy.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    Check(PolicyCheckArgs),
    Test(PolicyTestArgs),
    Explain(PolicyExplainArgs),
    /// Write the JSON Schema of policies to standard output, for editors.
    Schema,
}

/// Say whether a policy can be used, and where not.
#[derive(Args, Debug)]
pub(crate) struct PolicyCheckArgs {
    /// The policy, in TOML; `-` is standard input.
    pub(crate) file: PathBuf,
}

/// Run a policy, or a single rule, over cases, and show what was expected beside what it said.
///
/// A case is a line of JSON: `{"id": …, "tool": …, "args": …, "expect": "block"}`. `tool` and `expect` may be left out;
/// `expect` is `allow`, `block`, `warn` or `hitl`.
#[derive(Args, Debug)]
#[command(
    override_usage = "\
llm-leash policy test FILE CASES.jsonl
       llm-leash policy test --rule RULE [--option KEY=VALUE]... CASES.jsonl",
    after_help = "\
Examples:
  llm-leash policy test policy.toml cases.jsonl
  llm-leash policy test --rule blocked_sql --option mode=read_only --option dialect=postgres cases.jsonl
  llm-leash policy test --rule blocked_shell --json cases.jsonl | jq -r .action

Exit codes: 0 all as expected, 1 not so or cannot be read, 64 wrong command line"
)]
pub(crate) struct PolicyTestArgs {
    /// A single rule instead of a policy.
    #[arg(long)]
    pub(crate) rule: Option<String>,
    /// An option of the rule; may be given more than once.
    #[arg(
        long = "option",
        value_name = "KEY=VALUE",
        requires = "rule",
        allow_hyphen_values = true
    )]
    pub(crate) options: Vec<String>,
    /// Write a JSON object for each case: `id action rule_id reason`.
    #[arg(long)]
    pub(crate) json: bool,
    /// The policy unless `--rule` is given, and the cases; `-` is standard input.
    #[arg(required = true, num_args = 1..=2, value_name = "FILE")]
    pub(crate) paths: Vec<PathBuf>,
}

/// Show what every rule says of one call of a tool, and what comes of it.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  llm-leash policy explain policy.toml --tool run_sql --args '{\"sql\": \"DROP TABLE users\"}'
  llm-leash policy explain --rule blocked_sql --tool run_sql --args '{\"sql\": \"SELECT 1\"}'")]
pub(crate) struct PolicyExplainArgs {
    /// The policy, unless `--rule` is given.
    pub(crate) file: Option<PathBuf>,
    /// A single rule instead of a policy.
    #[arg(long)]
    pub(crate) rule: Option<String>,
    /// An option of the rule; may be given more than once.
    #[arg(
        long = "option",
        value_name = "KEY=VALUE",
        requires = "rule",
        allow_hyphen_values = true
    )]
    pub(crate) options: Vec<String>,
    /// The tool's name.
    #[arg(long)]
    pub(crate) tool: String,
    /// The arguments, in JSON.
    #[arg(long, value_name = "JSON")]
    pub(crate) args: String,
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
