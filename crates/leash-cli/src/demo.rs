//! `demo`: a runaway agent on a leash, for whoever wants to see it before reading about it.
//!
//! Only the providers are made up. The firewall, the HTTP adapter, the prices and the log are the ones that a program
//! would use, and so is the check of the log at the end.

mod agent;
mod provider;
mod show;

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use leash_audit::{AuditLog, VerifyOptions};
use leash_budget::PriceTable;
use leash_core::{IdGenerator, Usd};
use leash_firewall::Firewall;
use reqwest_middleware::ClientWithMiddleware;
use serde_json::{Value, json};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use self::agent::{Call, Ended, TRIES};
use self::provider::Provider;
use self::show::{Paint, Row, Show, bar, dollars, times};
use crate::cli::DemoArgs;
use crate::exit::{Exit, Failure};
use crate::output;

/// Between two lines, where somebody watches.
const PACE: Duration = Duration::from_millis(70);

/// Runs it. What went wrong besides the agent is the error.
pub(crate) fn run(args: &DemoArgs) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Told(format!("failed to start the runtime: {error}")))?;
    runtime.block_on(demo(args))?;
    Ok(Exit::Done)
}

async fn demo(args: &DemoArgs) -> Result<(), Failure> {
    let show = Show::new(args.json);
    let stage = Stage::set(args).await?;
    let told = match args.concurrent {
        Some(calls) => burst(&stage, &show, usize::from(calls)).await,
        None => runaway(&stage, &show).await,
    };
    // Whatever happened, and even if nobody reads on, the log is ended as it should be.
    let closed = stage.close().await;
    let outcome = told?;
    closed?;

    let events = stage.verified()?;
    if args.json {
        return output::print(format!("{}\n", stage.json(&outcome, events)).as_bytes());
    }
    tell_log(&stage, &show, events, args)
}

/// Everything that a run of the demo needs.
struct Stage {
    cap: Usd,
    prices: PriceTable,
    provider: Provider,
    log: AuditLog,
    path: PathBuf,
    firewall: Firewall,
    /// With the firewall around it.
    guarded: ClientWithMiddleware,
    /// Without.
    bare: ClientWithMiddleware,
}

/// What came of a run.
struct Outcome {
    spent: Usd,
    /// What the provider's own bill comes to.
    billed: Usd,
    provider_calls: usize,
    refused: usize,
    tool_calls_blocked: usize,
    is_interrupted: bool,
    /// The rule that stopped it, if one did.
    stopped_by: Option<String>,
    /// What it would have spent otherwise, and how that is called.
    otherwise: (&'static str, Usd),
}

impl Stage {
    async fn set(args: &DemoArgs) -> Result<Self, Failure> {
        let cap = Usd::from_cents(50).map_err(|error| Failure::Told(error.to_string()))?;
        let (log, path) = open_log(args.audit_log.as_deref())?;
        let firewall = Firewall::builder()
            .budget(cap)
            .denied_tools(["wire_*"])
            .audit(log.clone())
            .build()
            .map_err(|error| Failure::Told(error.to_string()))?;
        let provider = Provider::start()
            .await
            .map_err(|error| Failure::Told(format!("failed to start a server on 127.0.0.1: {error}")))?;
        // A proxy that the environment names has no business with a server on this machine.
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .map_err(|error| Failure::Told(format!("failed to make an HTTP client: {error}")))?;
        Ok(Self {
            cap,
            prices: PriceTable::embedded(),
            provider,
            log,
            path,
            guarded: firewall.wrap(client.clone()),
            bare: reqwest_middleware::ClientBuilder::new(client).build(),
            firewall,
        })
    }

    async fn spent(&self) -> Result<Usd, Failure> {
        self.firewall
            .cumulative()
            .await
            .map_err(|error| Failure::Told(error.to_string()))
    }

    async fn close(&self) -> Result<(), Failure> {
        self.firewall
            .close()
            .await
            .map_err(|error| Failure::Told(error.to_string()))?;
        self.log.close().map_err(|error| Failure::Told(error.to_string()))
    }

    /// How many events the log has; an error where it is not intact.
    fn verified(&self) -> Result<u64, Failure> {
        let report = leash_audit::verify(&self.path, &VerifyOptions::default())
            .map_err(|error| Failure::Told(error.to_string()))?;
        if !report.is_ok() {
            return Err(Failure::Told(format!("`{}`: {report}", self.path.display())));
        }
        Ok(report.events)
    }

    fn json(&self, outcome: &Outcome, events: u64) -> Value {
        let (name, otherwise) = outcome.otherwise;
        let mut object = json!({
            "cap_usd": self.cap.to_f64(),
            "spent_usd": outcome.spent.to_f64(),
            "provider_calls": outcome.provider_calls,
            "provider_billed_usd": outcome.billed.to_f64(),
            "refused": outcome.refused,
            "tool_calls_blocked": outcome.tool_calls_blocked,
            "stopped_by": outcome.stopped_by,
            "interrupted": outcome.is_interrupted,
            "saved_usd": otherwise.saturating_sub(outcome.spent).to_f64(),
            "audit_log": self.path.to_string_lossy(),
            "audit_events": events,
        });
        if let Some(members) = object.as_object_mut() {
            members.insert(name.to_owned(), otherwise.to_f64().into());
        }
        object
    }
}

/// A new file among the temporary ones: new, so that nobody can have put something of theirs in its place.
fn new_file() -> Result<PathBuf, Failure> {
    let name = format!("llm-leash-demo-{}.jsonl", IdGenerator::from_os().session());
    let path = std::env::temp_dir().join(name);
    match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err(Failure::Told(format!(
            "failed to make `{}`: {error}; name a file with `--audit-log`",
            path.display()
        ))),
    }
}

/// Opens the log at `path`, or a new one among the temporary files. What is there already has to be intact.
fn open_log(path: Option<&Path>) -> Result<(AuditLog, PathBuf), Failure> {
    let path = path.map_or_else(new_file, |path| Ok(path.to_owned()))?;
    let told = |what: String| Failure::Told(format!("{what}; name another file with `--audit-log`"));
    let is_there = std::fs::metadata(&path).is_ok_and(|about| about.is_file() && about.len() > 0);
    // Opened first: once it is ours, nobody changes it while it is looked at.
    let log = AuditLog::open(&path).map_err(|error| told(error.to_string()))?;
    if is_there {
        let report =
            leash_audit::verify(&path, &VerifyOptions::default()).map_err(|error| told(error.to_string()))?;
        if !report.is_ok() {
            return Err(told(format!(
                "`{}`: {report}; the demo goes on with an intact log only",
                path.display()
            )));
        }
    }
    Ok((log, path))
}

/// How far the agent has come.
#[derive(Default)]
struct Run {
    tries: usize,
    /// Tries that were answered; the tests failed all the same.
    failures: usize,
    refused: usize,
    /// How many of the last tries were refused, without one between them that was not.
    refused_in_a_row: usize,
    /// Rule and reason.
    last_refusal: Option<(String, String)>,
    tool_calls_blocked: usize,
    spent: Usd,
    is_interrupted: bool,
}

/// One call after the other, until neither provider may be called any more.
async fn runaway(stage: &Stage, show: &Show) -> Result<Outcome, Failure> {
    show.line(&show.paint(Paint::Strong, "A runaway agent, and a cap of $0.50"))?;
    show.line("")?;
    let about = format!(
        "It has a failing test to fix and never will. It asks Claude and GPT in turn, its prompt grows with each \
         failure, and it is set to try {TRIES} times. The providers are a server on this machine that speaks their \
         formats; firewall, prices ({}) and log are the real ones.",
        stage.prices.version()
    );
    show.text(2, &about)?;
    show.line("")?;
    show.head(stage.cap)?;

    let mut interrupt = pin!(interrupt());
    let mut run = Run::default();
    while run.tries < TRIES && !run.is_stopped() {
        // A call under way is brought to its end, which takes no time here; so the log has its line.
        tokio::select! {
            biased;
            () = &mut interrupt => run.is_interrupted = true,
            () = pace(show) => {}
        }
        if run.is_interrupted {
            break;
        }
        run.try_once(stage, show).await?;
    }

    let outcome = Outcome {
        spent: run.spent,
        billed: stage.provider.billed(&stage.prices, 0),
        provider_calls: stage.provider.calls(),
        refused: run.refused,
        tool_calls_blocked: run.tool_calls_blocked,
        is_interrupted: run.is_interrupted,
        stopped_by: run.stopped_by().map(|(rule_id, _)| rule_id.clone()),
        otherwise: ("without_cap_usd", agent::cost_of_all_tries(&stage.prices)),
    };
    tell_stop(stage, show, &run, &outcome)?;
    Ok(outcome)
}

impl Run {
    /// Whether neither provider may be called any more: they are asked in turn.
    const fn is_stopped(&self) -> bool {
        self.refused_in_a_row >= 2
    }

    fn stopped_by(&self) -> Option<&(String, String)> {
        self.last_refusal.as_ref().filter(|_| self.is_stopped())
    }

    /// One call, and the tests after it.
    async fn try_once(&mut self, stage: &Stage, show: &Show) -> Result<(), Failure> {
        self.tries = self.tries.saturating_add(1);
        let call = Call::nth(self.tries, self.failures);
        let calls_before = stage.provider.calls();
        let ended = call
            .make(&stage.guarded, &stage.provider)
            .await
            .map_err(Failure::Told)?;
        let spent_before = std::mem::replace(&mut self.spent, stage.spent().await?);
        let is_answered = stage.provider.calls() > calls_before;
        if is_answered {
            self.refused_in_a_row = 0;
            show.call(&Row {
                number: self.tries,
                model: call.model,
                streams: call.streams,
                usage: stage.provider.last_usage(),
                cost: self.spent.saturating_sub(spent_before),
                spent: self.spent,
                cap: stage.cap,
            })?;
        }
        match ended {
            Ended::Answered => {}
            Ended::Refused { rule_id, .. } if is_answered => {
                self.tool_calls_blocked = self.tool_calls_blocked.saturating_add(1);
                let planted = format!(
                    "somebody planted an order in the output of the tests, and the model asks for `{}`: \
                     blocked by `{rule_id}` (`wire_*`), and the agent never sees it",
                    provider::TALKED_INTO
                );
                show.aside(&planted)?;
            }
            Ended::Refused { rule_id, reason } => {
                self.refused = self.refused.saturating_add(1);
                self.refused_in_a_row = self.refused_in_a_row.saturating_add(1);
                self.last_refusal = Some((rule_id, reason));
                return show.refused(self.tries, call.model, stage.cap.saturating_sub(self.spent));
            }
        }
        self.failures = self.failures.saturating_add(1);
        let failure = self.failures;
        // Its tool is guarded too: allowed, free, and in the log.
        let tests = json!({"suite": "tests/test_sync.py"});
        let ran = stage
            .firewall
            .tool("run_tests", tests, async |_| {
                Ok::<_, std::convert::Infallible>(json!(agent::output_of_tests(failure)))
            })
            .await;
        ran.map(drop).map_err(|error| Failure::Told(error.to_string()))
    }
}

/// Waits for Ctrl-C: forever, where the system cannot tell.
async fn interrupt() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn pace(show: &Show) {
    if show.is_watched() {
        tokio::time::sleep(PACE).await;
    }
}

fn tell_stop(stage: &Stage, show: &Show, run: &Run, outcome: &Outcome) -> Result<(), Failure> {
    show.line("")?;
    if run.is_interrupted {
        let words = format!("INTERRUPTED after {} tries", run.tries);
        show.line(&format!("  {}", show.paint(Paint::Bad, &words)))?;
    }
    if let Some(refusal) = run.stopped_by() {
        tell_refusal(show, refusal)?;
        show.text(
            2,
            "The upper bound of a call is set aside before it is made, so no call, and no number of calls at once, \
             can pass the cap.",
        )?;
    }
    show.line("")?;
    let bill = if outcome.billed == outcome.spent {
        "the provider's bill says the same"
    } else {
        "the provider's bill says otherwise"
    };
    let (_, otherwise) = outcome.otherwise;
    show.figure(
        "on the leash",
        outcome.spent,
        Paint::Good,
        &format!("{} calls; {bill}", outcome.provider_calls),
    )?;
    show.figure(
        "without a cap",
        otherwise,
        Paint::Bad,
        &format!(
            "{TRIES} tries, computed: the tokens of each at the same list prices; {} × the cap",
            times(otherwise, stage.cap)
        ),
    )?;
    if run.is_interrupted {
        return Ok(());
    }
    show.figure(
        "saved",
        otherwise.saturating_sub(outcome.spent),
        Paint::Strong,
        "by one line of code: .budget_usd(0.50)",
    )
}

fn tell_refusal(show: &Show, (rule_id, reason): &(String, String)) -> Result<(), Failure> {
    let stopped = show.paint(Paint::Bad, "STOPPED");
    show.line(&format!("  {stopped} by `{rule_id}`, before a byte left:"))?;
    show.text(2, reason)
}

/// All calls at once: first as those do who check before a call and charge after it, then on the leash.
async fn burst(stage: &Stage, show: &Show, calls: usize) -> Result<Outcome, Failure> {
    show.line(&show.paint(
        Paint::Strong,
        &format!("{calls} calls at once, and a cap of $0.50"),
    ))?;
    show.line("")?;
    let about = format!(
        "Each asks for an answer of up to 3,000 tokens. The providers are a server on this machine that speaks \
         their formats; prices ({}) are list prices.",
        stage.prices.version()
    );
    show.text(2, &about)?;
    show.line("")?;

    // An interrupt waits for the calls under way, which take no time here.
    let unguarded = tokio::select! {
        biased;
        () = interrupt() => None,
        unguarded = check_then_charge(stage, calls) => Some(unguarded?),
    };
    let skip = stage.provider.calls();
    let mut tasks = JoinSet::new();
    for number in 1..=calls {
        let (client, provider) = (stage.guarded.clone(), stage.provider.clone());
        tasks.spawn(async move { Call::of_burst(number).make(&client, &provider).await });
    }
    let mut refusals = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        match ended
            .map_err(|error| Failure::Told(error.to_string()))?
            .map_err(Failure::Told)?
        {
            Ended::Answered => {}
            Ended::Refused { rule_id, reason } => refusals.push((rule_id, reason)),
        }
    }
    let is_interrupted = unguarded.is_none();
    let unguarded = unguarded.unwrap_or_default();
    let outcome = Outcome {
        spent: stage.spent().await?,
        billed: stage.provider.billed(&stage.prices, skip),
        provider_calls: stage.provider.calls().saturating_sub(skip),
        refused: refusals.len(),
        tool_calls_blocked: 0,
        is_interrupted,
        stopped_by: refusals.last().map(|(rule_id, _)| rule_id.clone()),
        otherwise: ("check_then_charge_usd", unguarded.spent),
    };
    tell_burst(stage, show, &unguarded, &outcome)?;
    show.line("")?;
    match refusals.last() {
        Some(refusal) => tell_refusal(show, refusal)?,
        None => show.text(2, "So few calls fit under the cap; try `--concurrent 64`.")?,
    }
    Ok(outcome)
}

/// What came of calls that nothing held back.
#[derive(Default)]
struct Unguarded {
    passed: usize,
    spent: Usd,
}

/// The way that does not hold: look whether the cap is reached, call, and count the cost when the answer is there.
async fn check_then_charge(stage: &Stage, calls: usize) -> Result<Unguarded, Failure> {
    let ledger = Arc::new(Mutex::new(Unguarded::default()));
    // All are under way before the first is answered, as they are where an answer takes seconds.
    let all_asked = Arc::new(Barrier::new(calls));
    let mut tasks = JoinSet::new();
    for number in 1..=calls {
        let (client, provider, cap) = (stage.bare.clone(), stage.provider.clone(), stage.cap);
        let (ledger, all_asked, prices) = (ledger.clone(), all_asked.clone(), stage.prices.clone());
        tasks.spawn(async move {
            let is_below = ledger.lock().unwrap_or_else(PoisonError::into_inner).spent < cap;
            all_asked.wait().await;
            if !is_below {
                return Ok(());
            }
            let call = Call::of_burst(number);
            call.make(&client, &provider).await?;
            let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            ledger.passed = ledger.passed.saturating_add(1);
            ledger.spent = ledger.spent.saturating_add(call.cost(&prices));
            Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended
            .map_err(|error| Failure::Told(error.to_string()))?
            .map_err(Failure::Told)?;
    }
    let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut *ledger))
}

fn tell_burst(stage: &Stage, show: &Show, unguarded: &Unguarded, outcome: &Outcome) -> Result<(), Failure> {
    let scale = unguarded.spent.max(stage.cap);
    let row = |name: &str, calls: usize, refused: usize, spent: Usd, paint: Paint| {
        let bar = show.paint(paint, &bar(spent, scale, 16));
        show.line(&format!(
            "  {name:<20}{calls:>6}  {refused:>8}   {bar} {:>9}  {:>5} × cap",
            dollars(spent),
            times(spent, stage.cap)
        ))
    };
    let head = format!(
        "  {:<20}{:>6}  {:>8}   {:<16} {:>9}",
        "", "passed", "refused", "", "spent"
    );
    show.line(&show.paint(Paint::Faint, &head))?;
    if outcome.is_interrupted {
        show.line("  check, then charge  interrupted")?;
    } else {
        row(
            "check, then charge",
            unguarded.passed,
            0,
            unguarded.spent,
            Paint::Bad,
        )?;
    }
    row(
        "llm-leash",
        outcome.provider_calls,
        outcome.refused,
        outcome.spent,
        Paint::Good,
    )?;
    show.line("")?;
    show.text(
        2,
        "Whoever checks before a call and charges after it lets every call pass that is under way at once. The leash sets the upper bound of each call aside before it leaves, in one step.",
    )
}

/// Where the log is, what it is worth, and what to do next.
fn tell_log(stage: &Stage, show: &Show, events: u64, args: &DemoArgs) -> Result<(), Failure> {
    show.line("")?;
    let verdict = show.paint(Paint::Good, &format!("OK: {events} events verified"));
    show.line(&format!("  the log          {verdict}, in a chain of SHA-256"))?;
    show.line(&format!("                   {}", stage.path.display()))?;
    show.line("")?;
    show.line("  Change a digit in it, and see whether this tells:")?;
    let program = program();
    show.line(&format!("    {program} verify {}", shell_word(&stage.path)))?;
    if args.concurrent.is_none() {
        show.line("  See a burst of calls stopped at the cap:")?;
        show.line(&format!("    {program} demo --concurrent 64"))
    } else {
        show.line("  See a runaway agent stopped, call by call:")?;
        show.line(&format!("    {program} demo"))
    }
}

/// This program, as it was called.
fn program() -> String {
    std::env::args_os().next().map_or_else(
        || env!("CARGO_BIN_NAME").to_owned(),
        |name| shell_word(Path::new(&name)),
    )
}

/// A path as a shell reads it back.
fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = text.chars().all(|c| c.is_alphanumeric() || "/._-:\\".contains(c));
    if is_plain && !text.is_empty() {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
