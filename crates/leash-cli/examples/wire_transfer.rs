//! An agent asks to wire $4,000, waits, and goes on once a human approved from another terminal.
//!
//! ```console
//! $ cargo run -p leash-cli --example wire_transfer -- --wait --folder payments
//! ```
//!
//! It prints what to run in the other terminal. Killed while it waits and started again, it finds what was decided
//! meanwhile, and the money leaves once. Without `--wait` it plays the human too, with the `llm-leash` that lies beside
//! it or that the variable `LLM_LEASH` names.
#![expect(clippy::print_stdout, reason = "a program that talks to people")]

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use leash_core::{Action, Call, Decision, PolicyContext, Rule, RuleError, SessionId};
use leash_firewall::{Firewall, GuardedError};
use leash_hitl::{Entry, HitlQueue, QueueHitlGate, Ruling, SqliteQueue, Which};
use serde_json::{Value, json};

type Failure = Box<dyn Error + Send + Sync>;

/// Money does not leave by itself.
#[derive(Debug)]
struct MoneyLeaves;

impl Rule for MoneyLeaves {
    fn id(&self) -> &'static str {
        "money_leaves"
    }

    fn evaluate(&self, call: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        let asks = matches!(call, Call::Tool(call) if &*call.tool == "wire_transfer");
        Ok(asks.then(|| Decision::new(Action::Hitl, "money_leaves", "a transfer needs a human")))
    }
}

/// The bank: a line for each transfer, on disk before it answers.
fn transfer(bank: &Path, order: &Value) -> Result<Value, std::io::Error> {
    let mut file = OpenOptions::new().create(true).append(true).open(bank)?;
    writeln!(file, "{order}")?;
    file.sync_all()?;
    Ok(json!({"state": "sent"}))
}

/// The agent: true where the money left, false where it may not.
async fn agent(folder: &Path, queue: Arc<dyn HitlQueue>) -> Result<bool, Failure> {
    let gate = QueueHitlGate::new(queue)
        .timeout(Duration::from_mins(10))
        .valid_for(Duration::from_hours(1))
        // Where redaction masked one of these, nobody could know what they approve, and nobody is asked.
        .show_fields(["usd", "to", "iban"]);
    let fw = Firewall::builder()
        // The task's name, not the process's: started again, it is the same session, and its approval fits.
        .session_id(SessionId::new("s_invoice_2291")?)
        .audit_log(folder.join("audit.jsonl"))
        .rule(MoneyLeaves)
        .hitl_gate(Arc::new(gate))
        .build()?;
    let order = json!({"usd": 4000, "to": "ACME GmbH", "iban": "DE02120300000000202051"});
    println!("agent: wiring $4,000 to ACME GmbH");
    let bank = folder.join("transfers.jsonl");
    let wired = fw.tool("wire_transfer", order, async |call| {
        transfer(&bank, call.args.value())
    });
    let is_sent = match wired.await {
        Ok(answered) => {
            println!("agent: the bank says {}", answered.value);
            true
        }
        Err(GuardedError::Refused(refusal)) => {
            println!("agent: I may not: {}", refusal.reason());
            false
        }
        Err(GuardedError::Failed(error)) => return Err(error.into()),
    };
    fw.close().await?;
    Ok(is_sent)
}

/// The question, as soon as it is asked.
async fn asked(queue: &dyn HitlQueue) -> Result<Entry, Failure> {
    let mut changes = queue.changes();
    loop {
        if let Some(entry) = queue.list(Which::Open).await?.pop() {
            return Ok(entry);
        }
        changes.changed().await?;
    }
}

/// Says in which words to approve.
fn tell(path: &Path, entry: &Entry) {
    let path = path.display();
    println!("agent: waiting for a human; in another terminal:");
    println!("  llm-leash hitl show '{path}' {}", entry.id);
    println!("  llm-leash hitl approve '{path}' {}", entry.id);
}

/// The command line, where there is one.
fn command_line() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("LLM_LEASH") {
        return Some(named.into());
    }
    // Examples lie in a folder beside the binaries.
    let beside = std::env::current_exe().ok()?;
    let beside = beside.parent()?.parent()?;
    let name = format!("llm-leash{}", std::env::consts::EXE_SUFFIX);
    Some(beside.join(name)).filter(|path| path.is_file())
}

/// The human: looks, and approves.
async fn human(path: &Path, entry: &Entry) -> Result<(), Failure> {
    let Some(program) = command_line() else {
        println!("human: no `llm-leash` beside this program, so it is approved from here");
        let queue = SqliteQueue::open(path).await?;
        queue.decide(&entry.id, &Ruling::approve(Some("ada"))).await?;
        return Ok(());
    };
    for command in ["show", "approve"] {
        let mut ran = Command::new(&program);
        ran.args(["hitl", command]).arg(path).arg(&entry.id);
        if command == "approve" {
            ran.args(["--operator", "ada"]);
        }
        let output = tokio::task::spawn_blocking(move || ran.output()).await??;
        println!("\n$ llm-leash hitl {command} '{}' {}", path.display(), entry.id);
        println!("{}", String::from_utf8_lossy(&output.stdout));
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
    }
    Ok(())
}

async fn run(folder: &Path, waits: bool) -> Result<bool, Failure> {
    let path = folder.join("approvals.db");
    let queue: Arc<dyn HitlQueue> = Arc::new(SqliteQueue::open(&path).await?);
    let others = async {
        let entry = asked(queue.as_ref()).await?;
        tell(&path, &entry);
        if !waits {
            human(&path, &entry).await?;
        }
        // From here on the agent has the word.
        std::future::pending::<Result<bool, Failure>>().await
    };
    tokio::select! {
        ended = agent(folder, queue.clone()) => ended,
        failed = others => failed,
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode, Failure> {
    let mut waits = false;
    let mut folder = None;
    let mut args = std::env::args_os().skip(1);
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--wait") => waits = true,
            Some("--folder") => folder = Some(PathBuf::from(args.next().ok_or("`--folder` wants a path")?)),
            _ => return Err("usage: wire_transfer [--wait] [--folder DIR]".into()),
        }
    }
    let temporary = tempfile::tempdir()?;
    let folder = folder.unwrap_or_else(|| temporary.path().to_owned());
    fs::create_dir_all(&folder)?;
    let is_sent = run(&folder, waits).await?;
    Ok(if is_sent {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
