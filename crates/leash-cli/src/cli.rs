//! The command line as types. A new command is a variant here, a module of its own, and an arm in `main.rs`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

const EXIT_CODES: &str = "\
Exit codes:
  0   done; for `verify`: the log is intact
  1   it could not be done: no such file, no permission, not a log
  2   for `verify`: the log was read, and is broken; for `kill status`: it is stopped
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
    Kill(Box<KillArgs>),
    Hitl(Box<HitlArgs>),
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

/// Stop a session, an agent, a tenant or everything, wherever it runs.
///
/// The order goes into a registry that the agents ask before every call; they obey it within 300 ms, and open streams
/// are cut. Writes `killed ID`. Agents of the Python package obey orders for sessions.
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  llm-leash kill --session s_1 --reason 'loops' --registry sqlite:/var/lib/leash/kill.db
  llm-leash kill --agent researcher --reason 'bad release' --operator ada --registry redis://10.0.0.7
  llm-leash kill --all --yes --reason 'incident 4711' --registry http://kill.internal:7433
  llm-leash kill clear --all --registry redis://10.0.0.7
  export LLM_LEASH_KILL_REGISTRY=redis://10.0.0.7
  llm-leash kill status --session s_1

An HTTP registry is shown the token in LLM_LEASH_KILL_TOKEN.

Exit codes: 0 done, 1 it could not be done, 2 for `status`: it is stopped, 64 wrong command line"
)]
pub(crate) struct KillArgs {
    #[command(subcommand)]
    pub(crate) command: Option<KillCommand>,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Why: what the stopped agent, its log and everybody who lists the orders are told.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Who gives the order.
    #[arg(long, value_name = "NAME", env = "LLM_LEASH_OPERATOR")]
    pub(crate) operator: Option<String>,
    /// Do not ask before everything is stopped.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Write the order as one JSON object: `target reason operator at`.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

/// Where the orders are kept.
#[derive(Args, Debug)]
pub(crate) struct RegistryArgs {
    /// The registry: `sqlite:PATH`, `redis://HOST[:PORT][/DB]` or `http://HOST[:PORT]`.
    ///
    /// Other users of the machine can read the command line: put an address with a password into the environment.
    #[arg(
        long,
        value_name = "URL",
        global = true,
        env = "LLM_LEASH_KILL_REGISTRY",
        hide_env_values = true
    )]
    pub(crate) registry: Option<String>,
}

/// What an order is about: one of these.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub(crate) struct TargetArgs {
    /// One run of an agent.
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// All runs of an agent.
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<String>,
    /// All of a tenant.
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Option<String>,
    /// Everything that asks this registry.
    #[arg(long)]
    pub(crate) all: bool,
}

/// What else can be done with orders.
#[derive(Debug, Subcommand)]
pub(crate) enum KillCommand {
    Clear(KillClearArgs),
    List(KillListArgs),
    Status(KillStatusArgs),
    Watch(KillWatchArgs),
}

/// Take an order back. Writes `cleared ID`, also where none stood.
///
/// `--all` takes back the order for everything; orders for sessions, agents and tenants stand until each is cleared.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  llm-leash kill clear --session s_1 --registry sqlite:/var/lib/leash/kill.db
  llm-leash kill clear --all --json --registry redis://10.0.0.7 | jq .cleared")]
pub(crate) struct KillClearArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Write one JSON object: `target`, and whether an order stood as `cleared`.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write every order that stands, one JSON object a line: `target reason operator at`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  llm-leash kill list --registry redis://10.0.0.7 | jq -r .target")]
pub(crate) struct KillListArgs {
    /// The lines are JSON in any case.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Say whether somebody is stopped. Exits with 2 where that is so.
///
/// Without an option it says whether everything is.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  llm-leash kill status --session s_1 --agent researcher --tenant acme --registry redis://10.0.0.7
  if llm-leash kill status; then ./run-agents; fi")]
pub(crate) struct KillStatusArgs {
    /// The session.
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// Its agent.
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<String>,
    /// Its tenant.
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Option<String>,
    /// Write one JSON object: `stopped`, and the `order` that does it.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write what stands, and then every order and every clearing as it comes, one JSON object a line, until interrupted.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  llm-leash kill watch --registry redis://10.0.0.7 | jq -r '[.event, .target, .reason] | @tsv'")]
pub(crate) struct KillWatchArgs {
    /// The lines are JSON in any case.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Decide what agents ask: list, show, approve, reject, grant.
///
/// QUEUE is the path of a queue's file, shared with the Python package, or `redis://HOST[:PORT][/DB]`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  llm-leash hitl list /var/lib/leash/hitl.db
  llm-leash hitl show /var/lib/leash/hitl.db 0198c0de-7d2f-7abc-8def-0123456789ab
  llm-leash hitl approve redis://10.0.0.7 0198c0de-7d2f-7abc-8def-0123456789ab --operator ada
  llm-leash hitl reject /var/lib/leash/hitl.db 0198c0de-7d2f-7abc-8def-0123456789ab --reason 'not today'

Exit codes: 0 done, 1 nothing was pending under that id or it could not be done, 64 wrong command line")]
pub(crate) struct HitlArgs {
    #[command(subcommand)]
    pub(crate) command: HitlCommand,
}

/// What can be done with an approval queue.
#[derive(Debug, Subcommand)]
pub(crate) enum HitlCommand {
    /// Write what is pending, one JSON object a line: `request_id created_ts session_id tenant_id tool rule_id reason`.
    List {
        /// The queue.
        queue: String,
    },
    /// Write one request as a person reads it: who asks, the call, and the hash that an approval is bound to.
    Show {
        /// The queue.
        queue: String,
        /// The request.
        id: String,
        /// Write one JSON object instead.
        #[arg(long)]
        json: bool,
    },
    /// Let a call through, once. Writes `approved ID`.
    Approve {
        /// The queue.
        queue: String,
        /// The request.
        id: String,
        /// Who decides; the log keeps it.
        #[arg(long, value_name = "NAME", env = "LLM_LEASH_OPERATOR")]
        operator: Option<String>,
    },
    /// Refuse a call. Writes `rejected ID: TEXT`.
    Reject {
        /// The queue.
        queue: String,
        /// The request.
        id: String,
        /// Why: what the agent and its log are told.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Who decides; the log keeps it.
        #[arg(long, value_name = "NAME", env = "LLM_LEASH_OPERATOR")]
        operator: Option<String>,
    },
    /// Write what is pending, then what is asked and decided as it comes, as `list` does and with a `status`, until
    /// interrupted.
    Watch {
        /// The queue.
        queue: String,
    },
    /// Let calls through beforehand, by name.
    Grant(HitlGrantArgs),
}

/// Let calls through beforehand, by name: each use is counted and logged under it.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  llm-leash hitl grant add hitl.db small-refunds --session s_1 --tool refund --arg '/usd=[0-9]{1,2}' \\
      --arg '/order=[0-9]+' --times 20 --for 8h --operator ada
  llm-leash hitl grant add hitl.db nightly --request 0198c0de-7d2f-7abc-8def-0123456789ab --for 1d
  llm-leash hitl grant list hitl.db
  llm-leash hitl grant revoke hitl.db small-refunds")]
pub(crate) struct HitlGrantArgs {
    #[command(subcommand)]
    pub(crate) command: HitlGrantCommand,
}

/// What can be done with grants.
#[derive(Debug, Subcommand)]
pub(crate) enum HitlGrantCommand {
    /// Give a grant. Writes `granted NAME`. A name is given once.
    Add(HitlGrantAddArgs),
    /// Write every grant, one JSON object a line, also those that are used up, over or revoked.
    List {
        /// The queue.
        queue: String,
    },
    /// End a grant. Writes `revoked NAME`.
    Revoke {
        /// The queue.
        queue: String,
        /// The grant.
        name: String,
    },
}

/// What a grant lets through.
#[derive(Args, Debug)]
pub(crate) struct HitlGrantAddArgs {
    /// The queue.
    pub(crate) queue: String,
    /// What the log calls it.
    pub(crate) name: String,
    /// Exactly the call of this request, in its session.
    #[arg(long, value_name = "ID", required_unless_present = "tool", conflicts_with_all = ["tool", "session", "args", "other_args"])]
    pub(crate) request: Option<String>,
    /// Calls of this tool.
    #[arg(long, value_name = "NAME", requires_all = ["session", "times"])]
    pub(crate) tool: Option<String>,
    /// Of this session.
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// With this argument: where it stands (a JSON pointer), and a regular expression that all of it matches.
    #[arg(long = "arg", value_name = "POINTER=REGEX")]
    pub(crate) args: Vec<String>,
    /// With any other arguments besides; without this, a call with an argument that no `--arg` names does not fit.
    #[arg(long)]
    pub(crate) other_args: bool,
    /// How often.
    #[arg(long, value_name = "N")]
    pub(crate) times: Option<u64>,
    /// Until this moment (RFC 3339).
    #[arg(
        long,
        value_name = "TIME",
        required_unless_present = "for_",
        conflicts_with = "for_"
    )]
    pub(crate) until: Option<String>,
    /// For this long: `90s`, `30m`, `8h`, `1d`.
    #[arg(id = "for_", long = "for", value_name = "DURATION")]
    pub(crate) for_: Option<String>,
    /// Who gives it; the log keeps it.
    #[arg(long, value_name = "NAME", env = "LLM_LEASH_OPERATOR")]
    pub(crate) operator: Option<String>,
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
