//! `kill`: orders that stop, given, taken back and looked at.

mod serve;

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use leash_core::{Caller, Clock as _, StoreError, StoreErrorKind, SystemClock};
use leash_kill::{KillOrder, KillRegistry, StoreUrl, Target, ViewOptions};
use serde_json::{Value, json};

use crate::cli::{KillArgs, KillCommand, RegistryArgs, TargetArgs};
use crate::exit::{Exit, Failure};
use crate::output;

/// How often `watch` looks.
const BEAT: Duration = Duration::from_millis(100);
/// Where the bearer token stands: an argument could be read by everybody on the machine.
const TOKEN: &str = "LLM_LEASH_KILL_TOKEN";

/// Runs `kill` or what comes under it.
pub(crate) fn run(args: &KillArgs) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Told(format!("failed to start: {error}")))?;
    runtime.block_on(async {
        match &args.command {
            None => kill(args).await,
            Some(KillCommand::Clear(clear)) => self::clear(&args.registry, &clear.target, clear.json).await,
            Some(KillCommand::List(_)) => list(&args.registry).await,
            Some(KillCommand::Status(status)) => self::status(&args.registry, status).await,
            Some(KillCommand::Watch(_)) => watch(&args.registry).await,
            Some(KillCommand::Serve(serve)) => self::serve::run(&args.registry, serve).await,
        }
    })
}

async fn kill(args: &KillArgs) -> Result<Exit, Failure> {
    let Some(target) = target(&args.target)? else {
        return Ok(usage(
            "say what to stop: `--session ID`, `--agent NAME`, `--tenant ID` or `--all`",
        ));
    };
    let Some(reason) = args.reason.as_deref().filter(|reason| !reason.trim().is_empty()) else {
        return Ok(usage(
            "say why: `--reason TEXT`; it is what the stopped agent and the log are told",
        ));
    };
    let Some(url) = address(&args.registry)? else {
        return Ok(no_address());
    };
    if target == Target::Everything && !args.yes {
        if !io::stdin().is_terminal() {
            return Ok(usage(
                "`--all` stops every agent of this registry: confirm with `--yes`",
            ));
        }
        if !is_confirmed(&url) {
            output::say("nothing was stopped");
            return Ok(Exit::Failed);
        }
    }
    if url.sqlite_path().is_some_and(|path| !path.exists()) {
        output::say("# this registry is new: agents that use another one will not hear of this order");
    }
    let registry = open(&url).await?;
    let mut order = KillOrder::new(target.clone(), reason, SystemClock.now());
    if let Some(operator) = &args.operator {
        order = order.by(operator.as_str());
    }
    registry
        .kill(order.clone())
        .await
        .map_err(|error| told(&url, &error))?;
    if args.json {
        print_line(&json_of(&order))?;
    } else {
        output::print(format!("killed {}\n", short(&target)).as_bytes())?;
    }
    Ok(Exit::Done)
}

async fn clear(registry: &RegistryArgs, target: &TargetArgs, json: bool) -> Result<Exit, Failure> {
    let Some(target) = self::target(target)? else {
        return Ok(usage(
            "say what may go on: `--session ID`, `--agent NAME`, `--tenant ID` or `--all`",
        ));
    };
    let Some(url) = address(registry)? else {
        return Ok(no_address());
    };
    let registry = open_existing(&url).await?;
    let stood = registry
        .clear(&target)
        .await
        .map_err(|error| told(&url, &error))?;
    if json {
        print_line(&json!({ "target": target.to_string(), "cleared": stood }))?;
    } else {
        output::print(format!("cleared {}\n", short(&target)).as_bytes())?;
    }
    if !stood {
        output::say("# no such order stood");
    }
    Ok(Exit::Done)
}

async fn list(registry: &RegistryArgs) -> Result<Exit, Failure> {
    let Some(url) = address(registry)? else {
        return Ok(no_address());
    };
    let registry = open_existing(&url).await?;
    let orders = registry.orders().await.map_err(|error| told(&url, &error))?;
    let mut lines = String::new();
    for order in &orders {
        lines.push_str(&json_of(order).to_string());
        lines.push('\n');
    }
    output::print(lines.as_bytes())?;
    output::say(&format!("# {} standing", orders.len()));
    Ok(Exit::Done)
}

async fn status(registry: &RegistryArgs, args: &crate::cli::KillStatusArgs) -> Result<Exit, Failure> {
    let Some(url) = address(registry)? else {
        return Ok(no_address());
    };
    let session = args
        .session
        .as_deref()
        .map(|id| id_of("session", id))
        .transpose()?;
    let agent = args.agent.as_deref().map(|id| id_of("agent", id)).transpose()?;
    let tenant = args.tenant.as_deref().map(|id| id_of("tenant", id)).transpose()?;
    let registry = open_existing(&url).await?;
    let standing = if let Some(Target::Session(session_id)) = session {
        let mut caller = Caller::session(session_id);
        if let Some(Target::Agent(name)) = agent {
            caller.agent_name = Some(name);
        }
        if let Some(Target::Tenant(id)) = tenant {
            caller.tenant_id = Some(id);
        }
        registry.standing(&caller).await
    } else {
        let asked = [agent, tenant, Some(Target::Everything)];
        registry.orders().await.map(|orders| {
            orders
                .into_iter()
                .find(|order| asked.contains(&Some(order.target.clone())))
        })
    }
    .map_err(|error| told(&url, &error))?;
    let (line, exit) = match &standing {
        Some(order) => (
            format!("stopped by {}: {}", order.target, order.reason.escape_debug()),
            Exit::Broken,
        ),
        None => ("not stopped".to_owned(), Exit::Done),
    };
    if args.json {
        print_line(&json!({
            "stopped": standing.is_some(),
            "order": standing.as_ref().map(json_of),
        }))?;
    } else {
        output::print(format!("{line}\n").as_bytes())?;
    }
    Ok(exit)
}

/// Until somebody interrupts it, or stops reading.
async fn watch(registry: &RegistryArgs) -> Result<Exit, Failure> {
    let Some(url) = address(registry)? else {
        return Ok(no_address());
    };
    let registry = open_existing(&url).await?;
    let mut known: Option<BTreeMap<Target, KillOrder>> = None;
    let mut is_silent = false;
    loop {
        match registry.orders().await {
            Ok(orders) => {
                if is_silent {
                    output::say("# the registry answers again");
                    is_silent = false;
                }
                let now: BTreeMap<_, _> = orders
                    .into_iter()
                    .map(|order| (order.target.clone(), order))
                    .collect();
                tell_changes(known.as_ref(), &now)?;
                known = Some(now);
            }
            Err(error) if known.is_none() => return Err(told(&url, &error)),
            Err(error) => {
                if !is_silent {
                    output::say(&format!("# {error}"));
                    is_silent = true;
                }
            }
        }
        tokio::time::sleep(BEAT).await;
    }
}

fn tell_changes(
    before: Option<&BTreeMap<Target, KillOrder>>,
    now: &BTreeMap<Target, KillOrder>,
) -> Result<(), Failure> {
    let line = |event: &str, order: &KillOrder| {
        let mut line = json_of(order);
        if let Some(members) = line.as_object_mut() {
            members.insert("event".to_owned(), event.into());
        }
        print_line(&line)
    };
    for order in now.values() {
        match before {
            None => line("standing", order)?,
            Some(before) if before.get(&order.target) != Some(order) => line("killed", order)?,
            Some(_) => {}
        }
    }
    for order in before.into_iter().flat_map(BTreeMap::values) {
        if !now.contains_key(&order.target) {
            line("cleared", order)?;
        }
    }
    Ok(())
}

fn target(args: &TargetArgs) -> Result<Option<Target>, Failure> {
    // The command line allows one of them.
    let named = [
        ("session", &args.session),
        ("agent", &args.agent),
        ("tenant", &args.tenant),
    ];
    if args.all {
        return Ok(Some(Target::Everything));
    }
    for (kind, name) in named {
        if let Some(name) = name {
            return id_of(kind, name).map(Some);
        }
    }
    Ok(None)
}

fn id_of(kind: &str, name: &str) -> Result<Target, Failure> {
    Target::new(kind, name).map_err(|error| Failure::Told(format!("`--{kind}`: {error}")))
}

fn address(args: &RegistryArgs) -> Result<Option<StoreUrl>, Failure> {
    let Some(text) = args.registry.as_deref().filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    // The text itself may hold a password.
    text.parse()
        .map(Some)
        .map_err(|error| Failure::Told(format!("`--registry`: {error}")))
}

fn no_address() -> Exit {
    usage(
        "say where the registry is: `--registry sqlite:PATH|redis://HOST|http://HOST`, or set \
         LLM_LEASH_KILL_REGISTRY",
    )
}

fn usage(message: &str) -> Exit {
    output::say(&format!("error: {message}"));
    Exit::Usage
}

/// For what only reads or takes back: a missing file would be made, and found empty.
async fn open_existing(url: &StoreUrl) -> Result<Arc<dyn KillRegistry>, Failure> {
    match url.sqlite_path() {
        Some(path) if !path.exists() => Err(absent(path)),
        _ => open(url).await,
    }
}

fn absent(path: &Path) -> Failure {
    Failure::Told(format!(
        "there is no registry at `{}`; check the path, it is made with the first order",
        path.display()
    ))
}

async fn open(url: &StoreUrl) -> Result<Arc<dyn KillRegistry>, Failure> {
    let token = std::env::var(TOKEN).ok().filter(|token| !token.is_empty());
    leash_kill::open(
        url,
        token.as_deref(),
        ViewOptions::default().timeout(Duration::from_secs(5)),
    )
    .await
    .map_err(|error| told(url, &error))
}

fn told(url: &StoreUrl, error: &StoreError) -> Failure {
    let hint = match error.kind() {
        StoreErrorKind::Unavailable | StoreErrorKind::Timeout => {
            if url.to_string().starts_with("http") {
                "; is the service there, and is LLM_LEASH_KILL_TOKEN its token?"
            } else {
                "; is it running, and is the address right?"
            }
        }
        StoreErrorKind::Corrupt => "; is it a kill registry?",
        StoreErrorKind::Generation => "; use a newer llm-leash",
        StoreErrorKind::Io => "; check the path and its permissions",
        _ => "",
    };
    let cause = std::error::Error::source(error)
        .map(|source| format!(": {source}"))
        .unwrap_or_default();
    Failure::Told(format!("registry `{url}`: {error}{cause}{hint}"))
}

fn is_confirmed(url: &StoreUrl) -> bool {
    let _ = write!(
        io::stderr(),
        "This stops every agent that uses {url}. Type `yes` to go on: "
    );
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).is_ok() && answer.trim() == "yes"
}

/// A session by its id alone, as scripts expect it.
fn short(target: &Target) -> String {
    match target {
        Target::Session(id) => id.to_string(),
        target => target.to_string(),
    }
}

fn json_of(order: &KillOrder) -> Value {
    json!({
        "target": order.target.to_string(),
        "reason": &*order.reason,
        "operator": order.operator.as_deref(),
        "at": order.at.map(|at| at.to_string()),
    })
}

fn print_line(value: &Value) -> Result<(), Failure> {
    output::print(format!("{value}\n").as_bytes())
}
