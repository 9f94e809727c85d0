//! Two processes, one budget: each has a firewall of its own, and together they stop at the cap.
//!
//! The program starts a `redis-server` on a free port, begins a budget there, and starts itself twice as a worker. Each
//! worker makes calls, eight at once, until none fits any more. Where there is no `redis-server`, a file takes its place:
//! that too is shared by the processes of one machine.
//!
//! ```console
//! $ cargo run -p llm-leash --example shared_budget
//! ```

#![expect(clippy::print_stdout, reason = "an example says what it does")]

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use llm_leash::budget::{OpenOptions, Scope, ScopeKey, StoreUrl};
use llm_leash::{
    Firewall, GuardedError, Json, ModelAnswer, ModelCall, ModelFailure, Over, Usage, Usd, Window, budget,
};
use serde_json::{Value, json};

/// What both may spend together, in dollars.
const CAP: &str = "0.25";
/// How many calls a worker makes at once.
const AT_ONCE: usize = 8;
/// By which a worker knows that it is one, and where the budget is.
const STORE: &str = "SHARED_BUDGET_STORE";

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    match std::env::var(STORE) {
        Ok(url) => work(&url.parse()?).await,
        Err(_) => supervise().await,
    }
}

/// One process of the agent.
async fn work(url: &StoreUrl) -> Result<()> {
    let store = budget::open(url, &OpenOptions::default()).await?;
    let fw = Firewall::builder()
        .cap(Over::Everything, Window::Total, CAP.parse()?)
        .budget_store(store)
        .build()?;
    let tasks: Vec<_> = (0..AT_ONCE).map(|_| tokio::spawn(call_on(fw.clone()))).collect();
    let (mut calls, mut spent): (u32, Usd) = (0, Usd::ZERO);
    for task in tasks {
        let (made, cost) = task.await??;
        calls = calls.saturating_add(made);
        spent = spent.saturating_add(cost);
    }
    fw.close().await?;
    println!("{}", json!({ "calls": calls, "spent_usd": spent.to_string() }));
    Ok(())
}

fn question(fw: &Firewall) -> ModelCall {
    let messages = json!([{ "role": "user", "content": "Say something new about the sea." }]);
    ModelCall::new(
        "anthropic",
        "claude-haiku-4-5",
        messages,
        400,
        fw.caller().clone(),
    )
}

/// Calls until the budget refuses: how often it was let through, and what that cost.
async fn call_on(fw: Firewall) -> Result<(u32, Usd)> {
    let (mut calls, mut spent): (u32, Usd) = (0, Usd::ZERO);
    loop {
        // In place of the network. Every other answer is as long as the request allows.
        let answered = fw.model(question(&fw), async |_call| {
            tokio::time::sleep(Duration::from_millis(3)).await;
            let usage = Usage {
                input_tokens: 18,
                output_tokens: if calls % 2 == 0 { 400 } else { 150 },
                ..Usage::default()
            };
            Ok::<_, ModelFailure<std::io::Error>>(ModelAnswer::new("…", usage, Json::null()))
        });
        match answered.await {
            Ok(answered) => {
                calls = calls.saturating_add(1);
                spent = spent.saturating_add(answered.receipt.cost);
            }
            Err(GuardedError::Refused(refusal)) if refusal.rule_id().starts_with("budget:") => {
                return Ok((calls, spent));
            }
            Err(error) => return Err(error.to_string().into()),
        }
    }
}

async fn supervise() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(folder.path());
    let url: StoreUrl = if let Some(server) = &server {
        println!(
            "a redis-server of this example's own listens on port {}",
            server.port
        );
        format!("redis://127.0.0.1:{}/0", server.port).parse()?
    } else {
        println!("there is no `redis-server` here: the budget is in a file, which works on one machine only");
        format!("sqlite:{}", folder.path().join("budget.db").display()).parse()?
    };
    let store = budget::init(&url, &OpenOptions::default()).await?;

    let mut workers = Vec::new();
    for _ in 0..2 {
        let worker = Command::new(std::env::current_exe()?)
            .env(STORE, url.with_secrets())
            .stdout(Stdio::piped())
            .spawn()?;
        workers.push(worker);
    }
    let mut told = Usd::ZERO;
    for (number, worker) in (1..).zip(workers) {
        let output = worker.wait_with_output()?;
        if !output.status.success() {
            return Err(format!("worker {number} ended with {}", output.status).into());
        }
        let report: Value = serde_json::from_slice(&output.stdout)?;
        let member = |name| report.get(name).ok_or("a worker reported something else");
        let spent: Usd = member("spent_usd")?.as_str().unwrap_or_default().parse()?;
        println!("worker {number}: {} calls, {spent} USD", member("calls")?);
        told = told.saturating_add(spent);
    }

    let cap: Usd = CAP.parse()?;
    let everything = Scope::capped(ScopeKey::global(), cap);
    let balance = store.balances(std::slice::from_ref(&everything)).await?;
    let balance = balance.first().ok_or("the store answered nothing")?;
    println!("together: {} USD of {cap} USD", balance.spent);
    if balance.spent != told || !balance.reserved.is_zero() {
        return Err("the store and the workers do not agree".into());
    }
    if balance.spent > cap {
        return Err("the cap was passed".into());
    }

    // Whoever was refused last saw no other call under way, so a third process finds no room for one more.
    let fw = Firewall::builder()
        .scope(everything)
        .budget_store(store)
        .build()?;
    match fw.admit(question(&fw)).await {
        Ok(_) => Err("a call was let through that does not fit".into()),
        Err(refusal) => {
            println!("a third process: {}", refusal.reason());
            fw.close().await?;
            Ok(())
        }
    }
}

/// A `redis-server`, ended with the example.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// `None` where the program is not installed, or does not come up.
    fn start(folder: &Path) -> Option<Self> {
        let port = (12_000..30_000)
            .skip(usize::try_from(std::process::id() % 10_000).ok()?)
            .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())?;
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            // What was answered is on disk.
            .args([
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--save",
                "",
                "--dir",
            ])
            .arg(folder)
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        let server = Self { child, port };
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(10) {
            if server.answers() {
                return Some(server);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    fn answers(&self) -> bool {
        let mut answer = [0; 5];
        TcpStream::connect(("127.0.0.1", self.port)).is_ok_and(|mut stream| {
            stream.write_all(b"PING\r\n").is_ok()
                && stream.read_exact(&mut answer).is_ok()
                && &answer == b"+PONG"
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
