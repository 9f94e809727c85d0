//! The command line as types. A new command is a variant here, a module of its own, and an arm in `main.rs`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use leash_audit::soc2;
use leash_budget::Window;
use leash_core::{ServiceTier, Timestamp};

use crate::budget;
use crate::price;

const EXIT_CODES: &str = "\
Exit codes:
  0   done; for `verify`: the log is intact
  1   it could not be done: no such file, no permission, not a log, no price
  2   for `verify`, `soc2`, `budget restore`: a log was read, and is broken; for `kill status`: it is stopped
  64  the command line is wrong";

/// A runtime firewall for LLM agents: see it stop one; stop and approve; verify and report on its audit logs.
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
    Demo(DemoArgs),
    Soc2(Soc2Args),
    Price(PriceArgs),
    Kill(Box<KillArgs>),
    Hitl(Box<HitlArgs>),
    Budget(Box<BudgetArgs>),
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
  llm-leash verify audit.jsonl --hmac-key 2026-05=/etc/leash/2026-05.key --hmac-key-env 2026-06=LEASH_KEY

Exit codes: 0 intact, 2 broken, 1 cannot be read, 64 wrong command line")]
pub(crate) struct VerifyArgs {
    /// The log; `-` is standard input.
    pub(crate) path: PathBuf,
    /// Write the verdict as one JSON object: `path verdict events head`, and `line seq reason` where it is broken.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
}

/// The keys of a signed log. Where one is given, every line must be signed with one of them.
#[derive(Args, Debug)]
pub(crate) struct KeyArgs {
    /// A file with the secret that the log is signed with, a line end at its end not counted. After a rotation give
    /// each key with the id that the lines name: `ID=FILE`. Keys without an id are each tried on all other lines.
    #[arg(long, value_name = "[ID=]FILE")]
    pub(crate) hmac_key: Vec<String>,
    /// The same, out of an environment variable.
    #[arg(long, value_name = "[ID=]NAME")]
    pub(crate) hmac_key_env: Vec<String>,
}

/// Make the SOC 2 evidence pack of a period: a page to read, tables, the verdict on the log, and hashes of all.
///
/// Writes the path of the page to standard output, and one line with the verdict, `VERIFIED` or `BROKEN`, to standard
/// error. Of a broken log the pack is made all the same, and says so. The verdict is on the whole log, the rest on the
/// events of the period. Where `SOURCE_DATE_EPOCH` is set, the pack says it was made then, and two runs give the same bytes.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  llm-leash soc2 audit.jsonl --out pack --period-start 2026-04-01 --period-end 2026-06-30 --org 'Acme Inc'
  llm-leash soc2 audit.jsonl --out pack --period-start 2026-04-01T00:00:00Z --period-end 2026-06-30T23:59:59Z
  zcat audit.jsonl.gz | llm-leash soc2 - --out pack --period-start 2026-04-01 --period-end 2026-06-30 --json

Exit codes: 0 done, 2 done and the log is broken, 1 could not be done, 64 wrong command line")]
pub(crate) struct Soc2Args {
    /// The log; `-` is standard input.
    pub(crate) path: PathBuf,
    /// The folder for the pack; it is made where it is missing, and files of an earlier pack are replaced.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// The first moment of the period: `2026-04-01T00:00:00Z`, or a day of UTC, `2026-04-01`.
    #[arg(long, value_name = "ISO")]
    pub(crate) period_start: String,
    /// The last moment of the period, or its last day.
    #[arg(long, value_name = "ISO")]
    pub(crate) period_end: String,
    /// Whose log it is, as the page says.
    #[arg(long, value_name = "NAME")]
    pub(crate) org: Option<String>,
    /// What the costs in the log stand for: `running-total` is what adapters of the Python package wrote, `auto` finds
    /// out, and the page says what was assumed.
    #[arg(long, value_name = "auto|per-call|running-total", default_value_t = soc2::Costs::Auto)]
    pub(crate) costs: soc2::Costs,
    /// So many kills in one session stand out.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) kill_spike: u64,
    /// More calls than this of one tool in one session stand out.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) tool_spam: u64,
    /// Spending above this percentile of all sessions stands out.
    #[arg(long, value_name = "P", default_value_t = 95, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) spend_percentile: u8,
    /// With fewer sessions that spend, no spending stands out.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) spend_sessions: u64,
    /// Write one JSON object instead of the path: `path verdict output_dir page files summary integrity`.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
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
  llm-leash export audit.jsonl | jq 'map(.tool // empty) | unique'

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
#[command(after_help = "\
Examples:
  llm-leash policy check policy.toml
  llm-leash policy check --json policy.toml | jq -r .version

Exit codes: 0 it can be used, 1 it cannot or cannot be read, 64 wrong command line")]
pub(crate) struct PolicyCheckArgs {
    /// The policy, in TOML; `-` is standard input.
    pub(crate) file: PathBuf,
    /// Write a JSON object: `rules redactors version`.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Run a policy, or a single rule, over cases, and show what was expected beside what it said.
///
/// A case is a line of JSON: `{"id": …, "tool": …, "args": …, "expect": "block"}`. `tool` and `expect` may be left out;
/// `expect` is `allow`, `block`, `warn` or `hitl`. A line that cannot be read is answered by the action `error`, with its number in the
/// reason; the lines after it are still judged.
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

Exit codes: 0 all as expected, 1 not so or a line or file cannot be read, 64 wrong command line"
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
    /// The policy unless `--rule` is given, and the cases; `-` is standard input. Without either, the rules on commands, SQL,
    /// paths, addresses and secrets are asked as they are without options.
    #[arg(required = true, num_args = 1..=2, value_name = "FILE")]
    pub(crate) paths: Vec<PathBuf>,
}

/// Show what every rule says of one call of a tool, and what comes of it.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  llm-leash policy explain --tool bash --args '{\"command\": \"rm -rf ~\"}'
  llm-leash policy explain policy.toml --tool run_sql --args '{\"sql\": \"DROP TABLE users\"}'
  llm-leash policy explain --rule blocked_sql --tool run_sql --args '{\"sql\": \"SELECT 1\"}'

Exit codes: 0 it was explained, whatever comes of the call, 1 something cannot be read, 64 wrong command line")]
pub(crate) struct PolicyExplainArgs {
    /// The policy, unless `--rule` is given. Without either, the rules on commands, SQL, paths, addresses and secrets are
    /// asked as they are without options.
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
    /// The arguments, in JSON; `-` is standard input.
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    pub(crate) args: String,
    /// Write a JSON object for each rule, `action rule_id reason`, and the same as `outcome` of them all.
    #[arg(long)]
    pub(crate) json: bool,
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
  llm-leash kill serve --token-file kill.token

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
    /// The registry: `sqlite:PATH`, `redis://HOST[:PORT][/DB]`, `rediss://…` (TLS), `redis-cluster://HOST:PORT[,HOST:PORT…]`
    /// or `http://HOST[:PORT]`.
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
    Serve(KillServeArgs),
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

/// Serve a registry over HTTP, to machines that cannot reach it themselves, until interrupted.
///
/// Writes `listening on http://ADDRESS` once it answers. Whoever asks shows the bearer token: it is read from the
/// environment or a file, never from the command line, which others on the machine can see. There is no TLS: put a proxy
/// before it where the network is not yours. A registry that is not there yet is made.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  head -c 32 /dev/urandom | base64 > kill.token && chmod 600 kill.token
  llm-leash kill serve --registry sqlite:/var/lib/leash/kill.db --listen 10.0.0.7:7433 --token-file kill.token
  llm-leash kill serve --registry redis://10.0.0.7 --token-env KILL_TOKEN
  LLM_LEASH_KILL_TOKEN=$(cat kill.token) llm-leash kill list --registry http://10.0.0.7:7433

Exit codes: 0 interrupted or terminated, 1 it could not be done, 64 wrong command line")]
pub(crate) struct KillServeArgs {
    /// Where to listen; port 0 is any that is free. An address that other machines can reach needs a token.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7433")]
    pub(crate) listen: SocketAddr,
    /// The environment variable with the token; `LLM_LEASH_KILL_TOKEN` where it is set and no option is given.
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    pub(crate) token_env: Option<String>,
    /// The file with the token, a line end at its end not counted.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Write one JSON object instead: `url registry token`, the last being whether one is needed.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Decide what agents ask: list, show, approve, reject, grant.
///
/// QUEUE is the path of a queue's file, shared with the Python package, `redis://HOST[:PORT][/DB]`,
/// `rediss://…` (TLS) or `redis-cluster://HOST:PORT[,HOST:PORT…]`.
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

/// Look at shared budgets and mend them: begin, show, list, reset, rebuild.
///
/// STORE is `sqlite:PATH`, `redis://HOST[:PORT][/DB][?domain=NAME]`, `rediss://…` (TLS) or
/// `redis-cluster://HOST:PORT[,HOST:PORT…]`. `env:NAME` takes it out of an environment variable: other users of the machine
/// can read the command line, and an address may hold a password.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  llm-leash budget init sqlite:/var/lib/leash/budget.db
  llm-leash budget show redis://10.0.0.7 tenant:acme --window day --window month
  llm-leash budget list redis://10.0.0.7 --json | jq -r 'select(.spent_usd != \"0.00\") | .scope'
  llm-leash budget restore redis://10.0.0.7 --from-logs /var/log/leash/*.jsonl --yes

Exit codes: 0 done, 1 it could not be done, 2 for `restore`: a log is broken, 64 wrong command line")]
pub(crate) struct BudgetArgs {
    #[command(subcommand)]
    pub(crate) command: BudgetCommand,
}

/// What can be done with a budget store.
#[derive(Debug, Subcommand)]
pub(crate) enum BudgetCommand {
    Init(BudgetInitArgs),
    Show(BudgetShowArgs),
    List(BudgetListArgs),
    Reset(BudgetResetArgs),
    Reservations(BudgetReservationsArgs),
    Restore(BudgetRestoreArgs),
}

/// Begin a budget, empty, where there is none. Writes its generation, by which a program notices another one.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  llm-leash budget init sqlite:/var/lib/leash/budget.db
  llm-leash budget init 'redis://10.0.0.7/0?domain=search' --json | jq -r .generation")]
pub(crate) struct BudgetInitArgs {
    /// The store.
    pub(crate) store: String,
    /// Write one JSON object: `store generation`.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write what a scope has spent, and what is set aside for calls under way.
///
/// In all, and in the present minute, hour, day and month (UTC) where something is counted there.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  llm-leash budget show sqlite:budget.db session:s_1
  llm-leash budget show redis://10.0.0.7 global --window month --json | jq -r .spent_usd")]
pub(crate) struct BudgetShowArgs {
    /// The store.
    pub(crate) store: String,
    /// The scope: `session:ID`, `agent:NAME`, `tenant:ID`, `global`, or a name of yours such as `team:search`.
    #[arg(value_parser = budget::scope)]
    pub(crate) scope: String,
    /// Only this window, also where nothing is counted: `total`, `minute`, `hour`, `day` or `month`.
    #[arg(long, value_name = "W", value_parser = budget::window)]
    pub(crate) window: Vec<Window>,
    /// Write JSON objects, one a line: `scope window spent_usd reserved_usd`.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write the sums of every scope, sorted by name and window, as `show` does.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  llm-leash budget list sqlite:budget.db
  llm-leash budget list redis://10.0.0.7 --json | jq -r 'select(.window == \"day\") | [.scope, .spent_usd] | @tsv'")]
pub(crate) struct BudgetListArgs {
    /// The store.
    pub(crate) store: String,
    /// Write JSON objects, one a line: `scope window spent_usd reserved_usd`.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Set to zero what a scope has spent, in all of its windows. Writes `reset SCOPE: AMOUNT USD`, what it was in all.
///
/// What is set aside for calls under way stays. A cap is not in the store: to allow more, raise it where it is set.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  llm-leash budget reset sqlite:budget.db session:s_1
  llm-leash budget reset redis://10.0.0.7 tenant:acme --yes --reason 'new contract' --operator ada \\
      --audit-log /var/log/leash/operators.jsonl")]
pub(crate) struct BudgetResetArgs {
    /// The store.
    pub(crate) store: String,
    /// The scope.
    #[arg(value_parser = budget::scope)]
    pub(crate) scope: String,
    /// Do not ask first.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Write one JSON object: `scope spent_usd reserved_usd`, the sums in all before it.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) record: RecordArgs,
}

/// How what an operator did is remembered.
#[derive(Args, Debug)]
pub(crate) struct RecordArgs {
    /// Record it in this audit log: that it was asked for, before, and that it was done. A log that a running program writes
    /// is held by it: give one for operators.
    #[arg(long, value_name = "LOG")]
    pub(crate) audit_log: Option<PathBuf>,
    /// Why; the log keeps it.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Who does it; the log keeps it.
    #[arg(long, value_name = "NAME", env = "LLM_LEASH_OPERATOR")]
    pub(crate) operator: Option<String>,
}

/// Write what is set aside, oldest first: amount, what for, whose, until when.
///
/// A grant that nobody gave back stands without an end. It is given back by its holder, or taken back by its giver.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  llm-leash budget reservations sqlite:budget.db
  llm-leash budget reservations redis://10.0.0.7 --json | jq -r 'select(.kind == \"grant\") | .id'")]
pub(crate) struct BudgetReservationsArgs {
    /// The store.
    pub(crate) store: String,
    /// Write JSON objects, one a line: `id kind what amount_usd until session_id tenant_id agent_name scopes`.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Rebuild the sums of a store that lost them, from audit logs, and begin a new generation.
///
/// Stop the agents first, and give every log there is. Each log is verified, and a broken one is refused. Calls that were
/// let through and whose end no log has are counted at their bound, grants that nobody gave back in full. What no log can
/// say is told on standard error.
#[derive(Args, Debug)]
#[command(
    group = clap::ArgGroup::new("from").required(true).args(["from_logs", "accept_loss"]),
    after_help = "\
Examples:
  llm-leash budget restore sqlite:budget.db --from-logs a.jsonl b.jsonl
  llm-leash budget restore redis://10.0.0.7 --from-logs /var/log/leash/*.jsonl --yes --json | jq .spent_usd
  llm-leash budget restore redis://10.0.0.7 --accept-loss --yes --reason 'a test system'

Exit codes: 0 done, 2 a log is broken and nothing was done, 1 it could not be done, 64 wrong command line"
)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub(crate) struct BudgetRestoreArgs {
    /// The store. Whatever it holds is replaced.
    pub(crate) store: String,
    /// The logs, of all processes that spent from this store; files, in any order.
    #[arg(long, value_name = "LOG", num_args = 1..)]
    pub(crate) from_logs: Vec<PathBuf>,
    /// Go on with what a Redis server still has. What it forgot was spent may be spent again.
    #[arg(long)]
    pub(crate) accept_loss: bool,
    /// Also count what is readable of a broken log. Somebody who changed it may have left spending out.
    #[arg(long, requires = "from_logs")]
    pub(crate) accept_broken: bool,
    /// Do not ask first.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Write one JSON object: `generation`, and of logs also `spent_usd scopes events` and what was counted at its bound.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    #[command(flatten)]
    pub(crate) record: RecordArgs,
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
