//! `budget`: shared budgets, begun, looked at and mended. What is asked of a store is in `leash-budget`.

mod record;
mod restore;
mod sums;

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use leash_budget::{
    Balance, BudgetAdmin, Grant, Held, OpenOptions, RedisStore, RedisStoreOptions, Scope, ScopeKey, Standing,
    StoreUrl, Window,
};
use leash_core::{StoreError, StoreErrorKind, Timestamp, Usd};
use serde_json::{Value, json};

use crate::cli::{
    BudgetArgs, BudgetCommand, BudgetInitArgs, BudgetListArgs, BudgetReservationsArgs, BudgetResetArgs,
    BudgetShowArgs,
};
use crate::exit::{Exit, Failure};
use crate::output::{self, Output};

use self::record::Recorder;

/// How long a store may take for one answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many rows are asked for at once.
const PAGE: usize = 200;
/// What stands before the name of an environment variable that holds an address.
const FROM_ENVIRONMENT: &str = "env:";
/// The longest name of a scope, in bytes.
const LONGEST: usize = 1_024;

/// Runs what comes under `budget`.
pub(crate) fn run(args: &BudgetArgs) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Told(format!("failed to start: {error}")))?;
    runtime.block_on(async {
        match &args.command {
            BudgetCommand::Init(args) => init(args).await,
            BudgetCommand::Show(args) => show(args).await,
            BudgetCommand::List(args) => list(args).await,
            BudgetCommand::Reset(args) => reset(args).await,
            BudgetCommand::Reservations(args) => reservations(args).await,
            BudgetCommand::Restore(args) => restore::run(args).await,
        }
    })
}

/// Reads the name of a scope, for the command line.
pub(crate) fn scope(text: &str) -> Result<String, String> {
    let is_named = text
        .split_once(':')
        .is_some_and(|(kind, name)| !kind.is_empty() && !name.is_empty());
    if text.len() > LONGEST || text.chars().any(char::is_control) || !(is_named || text == "global") {
        return Err("a scope is `session:ID`, `agent:NAME`, `tenant:ID`, `global` or `KIND:NAME`".to_owned());
    }
    Ok(text.to_owned())
}

/// Reads the name of a window, for the command line.
pub(crate) fn window(text: &str) -> Result<Window, String> {
    Window::from_name(text)
        .ok_or_else(|| "a window is `total`, `minute`, `hour`, `day` or `month`".to_owned())
}

async fn init(args: &BudgetInitArgs) -> Result<Exit, Failure> {
    let url = address(&args.store)?;
    let store: Arc<dyn BudgetAdmin> = if url.sqlite_path().is_some() {
        leash_budget::init(&url, &options())
            .await
            .map_err(|error| told(&url, &error))?
    } else {
        let mut options = RedisStoreOptions::default();
        options.redis.timeout = PATIENCE;
        match url.kind() {
            // Whoever sets a server up hears at once what is wrong with its settings.
            kind if is_redis(kind) => {
                let store = RedisStore::init(&url, options)
                    .await
                    .map_err(|error| told(&url, &error))?;
                for warning in store.warnings() {
                    output::say(&format!("# warning: {warning}"));
                }
                Arc::new(store)
            }
            _ => leash_budget::init(&url, &self::options())
                .await
                .map_err(|error| told(&url, &error))?,
        }
    };
    let generation = store.generation().await.map_err(|error| told(&url, &error))?;
    if args.json {
        print_line(&json!({ "store": url.to_string(), "generation": generation.as_str() }))?;
    } else {
        output::print(format!("began {generation}\n").as_bytes())?;
    }
    Ok(Exit::Done)
}

fn is_redis(kind: leash_budget::StoreKind) -> bool {
    use leash_budget::StoreKind::{Redis, RedisCluster};
    matches!(kind, Redis | RedisCluster)
}

async fn show(args: &BudgetShowArgs) -> Result<Exit, Failure> {
    let url = address(&args.store)?;
    let store = open(&url).await?;
    let key = ScopeKey::new(args.scope.as_str());
    let windows: &[Window] = if args.window.is_empty() {
        &Window::ALL
    } else {
        &args.window
    };
    let scopes: Vec<Scope> = windows.iter().map(|window| counted(&key, *window)).collect();
    let mut balances = store
        .balances(&scopes)
        .await
        .map_err(|error| told(&url, &error))?;
    if args.window.is_empty() {
        balances.retain(|balance| {
            balance.window == Window::Total || !balance.spent.is_zero() || !balance.reserved.is_zero()
        });
    }
    let mut out = Output::new(None);
    for balance in &balances {
        write_balance(&mut out, balance, args.json);
    }
    out.finish()?;
    Ok(Exit::Done)
}

async fn list(args: &BudgetListArgs) -> Result<Exit, Failure> {
    let url = address(&args.store)?;
    let store = open(&url).await?;
    let mut out = Output::new(None);
    let mut count: u64 = 0;
    let mut last: Option<Balance> = None;
    loop {
        let after = last.as_ref().map(|balance| (&balance.key, balance.window));
        let page = store
            .list(after, PAGE)
            .await
            .map_err(|error| told(&url, &error))?;
        for balance in &page {
            write_balance(&mut out, balance, args.json);
            count = count.saturating_add(1);
        }
        match page.into_iter().next_back() {
            Some(balance) => last = Some(balance),
            None => break,
        }
    }
    out.finish()?;
    output::say(&format!("# {count} counted"));
    Ok(Exit::Done)
}

async fn reset(args: &BudgetResetArgs) -> Result<Exit, Failure> {
    let url = address(&args.store)?;
    let key = ScopeKey::new(args.scope.as_str());
    if Grant::is_scope(&key) {
        return Err(Failure::Told(format!(
            "`{}` is a grant: its holder could spend again what its giver has set aside once; take it back where it was \
             given, and give another",
            shown(key.as_str())
        )));
    }
    if !args.yes {
        let question = format!("This forgets what `{}` has spent", shown(key.as_str()));
        if let Some(exit) = unconfirmed(&question) {
            return Ok(exit);
        }
    }
    let recorder = Recorder::open(&args.record)?;
    let store = open(&url).await?;
    recorder.write(&key, "budget reset asked", &json!({ "scope": key.as_str() }))?;
    let before = store.reset(&key).await.map_err(|error| told(&url, &error))?;
    let members = json!({
        "scope": key.as_str(),
        "spent_usd": before.spent.to_string(),
        "reserved_usd": before.reserved.to_string(),
    });
    let noted = recorder
        .write(&key, "budget reset", &members)
        .and_then(|()| recorder.close());
    if args.json {
        print_line(&members)?;
    } else {
        let line = format!("reset {}: {} USD\n", shown(key.as_str()), before.spent);
        output::print(line.as_bytes())?;
    }
    if before.spent.is_zero() && before.reserved.is_zero() {
        output::say("# nothing was counted in all under that name");
    }
    noted.map(|()| Exit::Done)
}

async fn reservations(args: &BudgetReservationsArgs) -> Result<Exit, Failure> {
    let url = address(&args.store)?;
    let store = open(&url).await?;
    let mut out = Output::new(None);
    let (mut count, mut sum): (u64, Usd) = (0, Usd::ZERO);
    let mut last = None;
    loop {
        let page = store
            .standing(last, PAGE)
            .await
            .map_err(|error| told(&url, &error))?;
        for standing in &page {
            write_standing(&mut out, standing, args.json);
            count = count.saturating_add(1);
            sum = sum.saturating_add(standing.hold.amount);
        }
        match page.last() {
            Some(standing) => last = Some(standing.hold.id),
            None => break,
        }
    }
    out.finish()?;
    output::say(&format!("# {count} standing, {sum} USD"));
    Ok(Exit::Done)
}

fn write_balance(out: &mut Output<'_>, balance: &Balance, json: bool) {
    // `finish` tells of errors.
    let _ = if json {
        let line = json!({
            "scope": balance.key.as_str(),
            "window": balance.window.as_str(),
            "spent_usd": balance.spent.to_string(),
            "reserved_usd": balance.reserved.to_string(),
        });
        writeln!(out, "{line}")
    } else {
        let (key, window) = (shown(balance.key.as_str()), balance.window);
        writeln!(
            out,
            "{key}\t{window}\tspent {}\treserved {}",
            balance.spent, balance.reserved
        )
    };
}

fn write_standing(out: &mut Output<'_>, standing: &Standing, json: bool) {
    let hold = &standing.hold;
    let (kind, what) = match &hold.line.what {
        Held::Model { provider, model } => ("model", format!("{provider}/{model}")),
        Held::Tool { tool } => ("tool", tool.to_string()),
        Held::Grant { child } => ("grant", child.as_str().to_owned()),
    };
    let until = (standing.until != Timestamp::MAX).then(|| standing.until.to_string());
    let caller = &hold.line.caller;
    // `finish` tells of errors.
    let _ = if json {
        let scopes: Vec<Value> = hold
            .scopes
            .iter()
            .map(|scope| json!({ "scope": scope.key.as_str(), "window": scope.window.as_str() }))
            .collect();
        let line = json!({
            "id": hold.id.to_string(),
            "kind": kind,
            "what": what,
            "amount_usd": hold.amount.to_string(),
            "until": until,
            "session_id": caller.session_id.as_str(),
            "tenant_id": caller.tenant_id.as_ref().map(leash_core::TenantId::as_str),
            "agent_name": caller.agent_name.as_ref().map(leash_core::AgentName::as_str),
            "scopes": scopes,
        });
        writeln!(out, "{line}")
    } else {
        writeln!(
            out,
            "{}\t{}\t{kind} {}\t{}\tuntil {}",
            hold.id,
            hold.amount,
            shown(&what),
            shown(caller.session_id.as_str()),
            until.as_deref().unwrap_or("it is given back")
        )
    };
}

/// `key` without caps.
fn counted(key: &ScopeKey, window: Window) -> Scope {
    Scope {
        key: key.clone(),
        window,
        cap: None,
        soft_cap: None,
    }
}

/// A name as a terminal may show it: nothing in it acts on one.
fn shown(name: &str) -> String {
    let escape = |char: char| {
        if char.is_control()
            || matches!(char, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            char.escape_unicode().to_string()
        } else {
            char.to_string()
        }
    };
    name.chars().map(escape).collect()
}

fn address(text: &str) -> Result<StoreUrl, Failure> {
    // The text itself may hold a password, and is not shown.
    let parse = |text: &str, place: &str| {
        text.parse()
            .map_err(|error| Failure::Told(format!("{place}: {error}")))
    };
    match text.strip_prefix(FROM_ENVIRONMENT) {
        None => parse(text, "STORE"),
        Some(name) => {
            let text = std::env::var(name).map_err(|_| {
                Failure::Told(format!(
                    "the environment variable `{}` is not set, or is not text; set it to the address of the store",
                    shown(name)
                ))
            })?;
            parse(&text, &format!("the environment variable `{}`", shown(name)))
        }
    }
}

fn options() -> OpenOptions {
    OpenOptions::default().timeout(PATIENCE)
}

async fn open(url: &StoreUrl) -> Result<Arc<dyn BudgetAdmin>, Failure> {
    leash_budget::open(url, &options())
        .await
        .map_err(|error| told(url, &error))
}

fn told(url: &StoreUrl, error: &StoreError) -> Failure {
    let hint = match error.kind() {
        // A file that is not there says so itself.
        StoreErrorKind::Unavailable | StoreErrorKind::Timeout if url.sqlite_path().is_none() => {
            "; is it running, and is the address right?"
        }
        StoreErrorKind::Corrupt => "; is it a budget of llm-leash?",
        StoreErrorKind::Io => "; check the path and its permissions",
        _ => "",
    };
    let cause = std::error::Error::source(error)
        .map(|source| format!(": {source}"))
        .unwrap_or_default();
    Failure::Told(format!("budget store `{url}`: {error}{cause}{hint}"))
}

/// Asks a person; `None` where the answer is yes. Without a terminal there is nobody to ask.
fn unconfirmed(question: &str) -> Option<Exit> {
    if !io::stdin().is_terminal() {
        output::say(&format!("error: {question}: confirm with `--yes`"));
        return Some(Exit::Usage);
    }
    let _ = write!(io::stderr(), "{question}. Type `yes` to go on: ");
    let mut answer = String::new();
    if io::stdin().lock().read_line(&mut answer).is_ok() && answer.trim() == "yes" {
        return None;
    }
    output::say("nothing was changed");
    Some(Exit::Failed)
}

fn print_line(value: &Value) -> Result<(), Failure> {
    output::print(format!("{value}\n").as_bytes())
}
