//! A runtime firewall for LLM agents: the money, the paperwork and the panic button.
//!
//! An agent in a loop spends until somebody notices, and does whatever a prompt talks it into. A [`Firewall`] stands
//! between the agent and what it can spend or break. Every call, of a model or of a tool, takes one way through it,
//! and it holds when everything else misbehaves:
//!
//! - **Money.** A cap in dollars. The upper bound of a call's cost is set aside before its bytes leave, in one step,
//!   so a thousand calls at once stop at the cap, and not several times past it.
//! - **Paperwork.** A line for each call, refusal and decision, in a hash chain that shows every later change.
//! - **Panic button.** A kill order stops a session, an agent, a tenant or everything; streams that run are cut.
//! - **Closed.** What cannot be known is refused: a model without a price, a store that does not answer, a rule that
//!   fails, a disk that is full.
//!
//! # Five minutes
//!
//! ```toml
//! [dependencies]
//! llm-leash = { version = "0.1", features = ["http"] }
//! reqwest = "0.13"   # with its default features, for `https`
//! ```
//!
//! A program that calls its model through `reqwest` changes one line: the client goes through [`Firewall::wrap`].
//! Endpoint, key and body stay what they were.
//!
#![cfg_attr(feature = "http", doc = "```no_run")]
#![cfg_attr(not(feature = "http"), doc = "```text")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use llm_leash::Firewall;
//! use llm_leash::adapters::http::refusal_of;
//!
//! let fw = Firewall::builder()
//!     .budget_usd(5.00)            // this session spends five dollars at most
//!     .denied_tools(["wire_*"])    // and moves no money
//!     .audit_log("audit.jsonl")    // all of which can be shown afterwards
//!     .build()?;
//! let client = fw.wrap(reqwest::Client::new());
//!
//! let answer = client
//!     .post("https://api.anthropic.com/v1/messages")
//!     .header("x-api-key", std::env::var("ANTHROPIC_API_KEY")?)
//!     .header("anthropic-version", "2023-06-01")
//!     .body(r#"{"model":"claude-haiku-4-5","max_tokens":200,"messages":[{"role":"user","content":"hi"}]}"#)
//!     .send()
//!     .await;
//! match answer {
//!     Ok(answer) => println!("{}", answer.text().await?),
//!     Err(error) => match refusal_of(&error) {
//!         Some(refusal) => println!("refused by {}: {}", refusal.rule_id(), refusal.reason()),
//!         None => return Err(error.into()),
//!     },
//! }
//! println!("${} so far", fw.cumulative().await?);
//! fw.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Without a network the same looks like this; the closure is where your own client goes. It runs only where the
//! call was admitted, and what it reports as used is what is charged.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use llm_leash::{Firewall, Json, ModelAnswer, ModelCall, ModelFailure, Usage};
//! use serde_json::json;
//!
//! let fw = Firewall::builder().budget_usd(0.50).build()?;
//! let messages = json!([{"role": "user", "content": "What is the capital of France?"}]);
//! let call = ModelCall::new("anthropic", "claude-haiku-4-5", messages, 200, fw.caller().clone());
//!
//! let answered = fw
//!     .model(call, async |_call| {
//!         let usage = Usage { input_tokens: 14, output_tokens: 7, ..Usage::default() };
//!         Ok::<_, ModelFailure<std::io::Error>>(ModelAnswer::new("Paris", usage, Json::null()))
//!     })
//!     .await?;
//! assert_eq!(answered.value, "Paris");
//! assert_eq!(answered.receipt.cost.to_string(), "0.000049"); // 14 × $1 and 7 × $5 a million
//! # Ok(())
//! # }
//! ```
//!
//! `llm-leash demo`, of the crate `leash-cli`, shows it at work against a local server, without a key.
//!
//! # The way through
//!
//! ```text
//! kill order?  price and bound  rules  redaction  a human?  reservation  kill order?  ──►  provider or tool
//!                                     settlement  what the model asks for  the log   ◄──
//! ```
//!
//! [`Firewall::admit`] walks it and gives an [`Admission`], the one value that lets a call through. It ends once:
//! [settled](Admission::settle) with what was used, [failed](Admission::fail) where the provider did not bill, or
//! dropped, which charges the whole bound because nobody knows. Adapters do this for you, and so do
//! [`Firewall::model`] and [`Firewall::tool`]. [`Firewall::charge`] records what was spent elsewhere.
//!
//! A [`Firewall`] is a handle for one session: cheap to clone, shared by any number of tasks.
//! [`session`](Firewall::session) and [`for_caller`](Firewall::for_caller) give handles for others, which share
//! stores, rules and log. [`Firewall::blocking`] is the twin for synchronous programs.
//!
//! # Budget
//!
//! A cap is over a session ([`budget_usd`](FirewallBuilder::budget_usd)), an agent, a tenant, everything, or
//! whatever you count together ([`FirewallBuilder::scope`]). A call needs room under all of its caps. Spending equal
//! to a cap is allowed, a cap of 0 allows nothing, and a cap that is no amount does not build:
//!
//! ```
//! use llm_leash::Firewall;
//!
//! assert!(Firewall::builder().budget_usd(f64::NAN).build().is_err());
//! assert!(Firewall::builder().budget_usd(-1.0).build().is_err());
//! ```
//!
//! Amounts are [`Usd`]: whole nano-dollars, checked, rounded up once for each call. Prices are list prices that came
//! with this version ([`budget::PriceTable`]); a model that is not in the table is refused until you give it a price.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use llm_leash::budget::{ModelPrice, Price, PriceTable};
//! use llm_leash::{Firewall, ModelCall, Usd};
//!
//! let per_million = |dollars: &str| dollars.parse::<Usd>().map(Price::per_million);
//! let prices = PriceTable::embedded()
//!     .with_price("acme", "tiny-1", ModelPrice::flat(per_million("0.10")?, per_million("0.40")?));
//! let fw = Firewall::builder().budget_usd(1.00).prices(prices).build()?;
//!
//! let call = |model| ModelCall::new("acme", model, serde_json::json!([]), 100, fw.caller().clone());
//! let refusal = fw.admit(call("huge-9")).await.unwrap_err();
//! assert_eq!(refusal.rule_id(), "budget:no_price");
//!
//! let admission = fw.admit(call("tiny-1")).await?;
//! assert!(admission.bound().amount > Usd::ZERO);
//! admission.fail().await; // the provider did not bill it, so nothing is charged
//! assert_eq!(fw.cumulative().await?, Usd::ZERO);
//! # Ok(())
//! # }
//! ```
//!
//! The bound of a call is its bytes, as no token is shorter than a byte, and the longest answer it asks for: set
//! `max_tokens`, for what is set aside is not there for other calls meanwhile. With the feature `tiktoken` and a
//! [`token_counter`](FirewallBuilder::token_counter), tokens are counted where bytes do not fit.
//!
//! # Stop
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use llm_leash::kill::Target;
//! use llm_leash::{Firewall, GuardedError, LeashError};
//! use serde_json::json;
//!
//! let fw = Firewall::builder().build()?;
//! fw.kill_target(Target::Everything, "rogue release").await?;
//!
//! let refused = fw.tool("search", json!({}), async |_| Ok::<_, std::io::Error>(json!(1))).await;
//! let Err(GuardedError::Refused(LeashError::Killed { rule_id, reason })) = refused else { panic!() };
//! assert_eq!((&*rule_id, &*reason), ("kill:registry", "rogue release"));
//!
//! fw.clear_kill(&Target::Everything, Some("rolled back")).await?;
//! assert!(fw.check_stopped().await.is_ok());
//! # Ok(())
//! # }
//! ```
//!
//! What runs is cut too: a guarded closure is dropped, and a stream ends at once, whether or not anybody reads it.
//! Both are charged for what may have been billed.
//!
//! # Rules
//!
//! A [`Rule`] looks at a call and at its [`PolicyContext`], and returns a [`Decision`] or abstains. Rules are asked
//! in order. [`Action::Warn`] and [`Action::Hitl`] are noted and the next rule is asked; the first
//! [`Action::Allow`] or [`Action::Block`] ends it. A rule that fails or panics blocks.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use llm_leash::{Action, BudgetThreshold, Call, Decision, Firewall, GuardedError, PolicyContext, Rule, RuleError};
//! use serde_json::json;
//!
//! #[derive(Debug)]
//! struct SmallRefunds;
//!
//! impl Rule for SmallRefunds {
//!     fn id(&self) -> &str {
//!         "small_refunds"
//!     }
//!
//!     fn evaluate(&self, call: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
//!         let Call::Tool(call) = call else { return Ok(None) };
//!         if &*call.tool != "refund" {
//!             return Ok(None);
//!         }
//!         let args = call.args.value();
//!         let usd = args.get("usd").and_then(|usd| usd.as_f64()).ok_or_else(|| RuleError::new("no amount"))?;
//!         Ok((usd > 50.0).then(|| Decision::new(Action::Block, "small_refunds", "refunds end at 50 dollars")))
//!     }
//! }
//!
//! let fw = Firewall::builder()
//!     .budget_usd(5.00)
//!     .allowed_tools(["search", "refund"])
//!     .rule(SmallRefunds)
//!     .rule(BudgetThreshold::default()) // warns from 80 % of the cap on
//!     .build()?;
//! let refund = async |usd: u32| fw.tool("refund", json!({"usd": usd}), async |_| Ok::<_, std::io::Error>(json!("done"))).await;
//! assert!(refund(20).await.is_ok());
//! let Err(GuardedError::Refused(refusal)) = refund(4000).await else { panic!() };
//! assert_eq!(refusal.rule_id(), "small_refunds");
//! # Ok(())
//! # }
//! ```
//!
//! Rules see what the agent calls and what a model asks it to call: a tool call in a model's answer is judged before
//! the agent sees it. A rule that asks another process is an [`AsyncRule`] and comes after the others. A [`Redactor`]
//! takes out of a call what must not leave; a call that it changed is judged once more.
//!
//! Most need not be written: [`BlockedSql`], [`BlockedShell`], [`BlockedPaths`], [`BlockedUrls`] and
//! [`BlockedPatterns`] read what a tool is called with, [`SecretsRule`] and [`PiiRedactor`] what leaves, and a
//! [`Policy`] is a file of them that `llm-leash policy check` reads, too.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use llm_leash::{BlockedSql, Firewall, GuardedError, PiiRedactor};
//! use serde_json::json;
//!
//! let fw = Firewall::builder().rule(BlockedSql::default()).redactor(PiiRedactor::new()).build()?;
//! let sent = fw.tool("mail", json!({"to": "ada@example.com"}), async |call| Ok::<_, std::io::Error>(call.args)).await?;
//! assert_eq!(sent.value.text(), r#"{"to":"[REDACTED:EMAIL]"}"#);
//!
//! let query = json!({"sql": "DROP TABLE users"});
//! let refused = fw.tool("query", query, async |call| Ok::<_, std::io::Error>(call.args)).await;
//! let Err(GuardedError::Refused(refusal)) = refused else { panic!() };
//! assert_eq!(refusal.rule_id(), "blocked_sql");
//! # Ok(())
//! # }
//! ```
//!
//! # A human
//!
//! Where a rule says [`Action::Hitl`], a [`HitlGate`] is asked about exactly the call that will leave. Only an
//! approval lets it through, once. No gate, no answer, an error: no.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use llm_leash::{Firewall, GuardedError, HitlThreshold, InMemoryHitlGate};
//! use serde_json::json;
//!
//! let gate = Arc::new(InMemoryHitlGate::rejecting("not today"));
//! let fw = Firewall::builder()
//!     .budget_usd(1.00)
//!     .rule(HitlThreshold::at_percent(0)?) // from the first cent on
//!     .hitl_gate(gate.clone())
//!     .build()?;
//! let refused = fw.tool("deploy", json!({}), async |_| Ok::<_, std::io::Error>(json!(1))).await;
//! let Err(GuardedError::Refused(refusal)) = refused else { panic!() };
//! assert_eq!(refusal.reason(), "not today");
//! assert_eq!(gate.requests().len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! [`InMemoryHitlGate`] is for tests. [`hitl::QueueHitlGate`] puts the question into a queue, a file or a Redis server,
//! where `llm-leash hitl` shows it and a human decides; it outlives the agent. A webhook (feature `webhook`) asks a
//! service of yours, and a gate of your own is one `async fn`.
//!
//! # The log
//!
//! One file, one writer, a line of JSON for each event, each with the hash of the one before. Prompts, arguments and
//! answers are not in it, only their hashes. A second writer is refused by name; what a crash tore off is set aside
//! and written down when the log is opened again.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use llm_leash::Firewall;
//! use llm_leash::audit::{AuditLog, Durability, VerifyOptions, verify};
//! use serde_json::json;
//!
//! # let dir = tempfile::tempdir()?;
//! let path = dir.path().join("audit.jsonl");
//! // `Each`: a call goes on when its line is on the disk. By default, when the operating system has it.
//! let log = AuditLog::builder(&path).durability(Durability::Each).open()?;
//! let fw = Firewall::builder().audit(log).build()?;
//! fw.tool("search", json!({"q": "secret"}), async |_| Ok::<_, std::io::Error>(json!("found"))).await?;
//! fw.close().await?;
//!
//! assert!(verify(&path, &VerifyOptions::default())?.is_ok());
//! let text = std::fs::read_to_string(&path)?;
//! assert!(!text.contains("secret") && !text.contains("found"));
//!
//! std::fs::write(&path, text.replace("search", "fetch!"))?;
//! assert!(!verify(&path, &VerifyOptions::default())?.is_ok());
//! # Ok(())
//! # }
//! ```
//!
//! # Sharing
//!
//! Budgets, kill orders and approvals are kept in memory, for one process, where nothing else is said. Handed a store
//! that is shared, any number of processes keep one cap, stop at one order, and ask the same people:
//!
#![cfg_attr(feature = "sqlite", doc = "```")]
#![cfg_attr(not(feature = "sqlite"), doc = "```text")]
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! use std::sync::Arc;
//! use llm_leash::budget::{SqliteStore, SqliteStoreOptions};
//! use llm_leash::kill::{SqliteKillRegistry, ViewOptions};
//! use llm_leash::{Firewall, SystemClock};
//!
//! let (budget, kill) = (dir.path().join("budget.db"), dir.path().join("kill.db"));
//! let store = SqliteStore::open_or_init(budget, Arc::new(SystemClock), SqliteStoreOptions::default()).await?;
//! let registry = SqliteKillRegistry::open(kill, ViewOptions::default()).await?;
//! let fw = Firewall::builder()
//!     .global_budget("20".parse()?)      // all processes on this file, together
//!     .budget_store(Arc::new(store))
//!     .kill_registry(Arc::new(registry)) // `llm-leash kill --all --registry sqlite:kill.db` stops them all
//!     .build()?;
//! # fw.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! With `redis` in the place of `sqlite` they may be on many machines. A store that does not answer refuses.
//!
//! # On the command line
//!
//! `llm-leash verify audit.jsonl`, `replay`, `export --format csv`; `kill`, `hitl` and `budget` for what is shared;
//! `demo` for a look at it. What happens is told as `tracing` events too, under the target `llm_leash`.
//!
//! # Adapters
//!
//! | your client | feature | how |
//! |---|---|---|
//! | `reqwest`, `reqwest-middleware` and what is built on it | `http` | [`Firewall::wrap`], or the middleware of `adapters::http` |
//! | `async-openai` | `openai` | [`Firewall::wrap`], or `Guard` of `adapters::openai` |
//! | none yet, for Anthropic | `anthropic` | `AnthropicClient` of `adapters::anthropic` |
//! | anything else | – | [`Firewall::model`] and [`Firewall::tool`] around a closure, or [`Firewall::admit`] |
//!
//! An adapter reads Anthropic Messages, OpenAI Chat Completions and OpenAI Responses, whole and streamed. A client that
//! none knows does not compile, so none passes unguarded by mistake. The module `wire` (feature of that name) has the
//! formats for whoever writes an adapter. TLS is `reqwest`'s: for `https`, one of its TLS features has to be on in your
//! own `Cargo.toml`.
//!
#![cfg_attr(feature = "openai", doc = "```no_run")]
#![cfg_attr(not(feature = "openai"), doc = "```text")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use async_openai::types::chat::{ChatCompletionRequestUserMessage, CreateChatCompletionRequestArgs};
//! use llm_leash::Firewall;
//! use llm_leash::adapters::openai::refusal_of;
//!
//! let fw = Firewall::builder().budget_usd(0.50).build()?;
//! let client = fw.wrap(async_openai::Client::new());
//! let request = CreateChatCompletionRequestArgs::default()
//!     .model("gpt-5.4-mini")
//!     .max_completion_tokens(200_u32)
//!     .messages([ChatCompletionRequestUserMessage::from("hi").into()])
//!     .build()?;
//! match client.chat().create(request).await {
//!     Ok(answer) => println!("{:?}", answer.choices),
//!     Err(error) => match refusal_of(&error) {
//!         Some(refusal) => println!("refused by {}", refusal.rule_id()),
//!         None => return Err(error.into()),
//!     },
//! }
//! # Ok(())
//! # }
//! ```
//!
#![cfg_attr(feature = "anthropic", doc = "```no_run")]
#![cfg_attr(not(feature = "anthropic"), doc = "```text")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use llm_leash::Firewall;
//! use llm_leash::adapters::anthropic::{AnthropicClient, AnthropicError};
//! use serde_json::json;
//!
//! let fw = Firewall::builder().budget_usd(0.50).build()?;
//! let client = AnthropicClient::builder(fw).api_key(std::env::var("ANTHROPIC_API_KEY")?).build()?;
//! let messages = json!([{"role": "user", "content": "hi"}]);
//! match client.create(&json!({"model": "claude-haiku-4-5", "max_tokens": 200, "messages": messages})).await {
//!     Ok(answer) => println!("{}", answer.text()),
//!     Err(AnthropicError::Refused(refusal)) => println!("refused by {}", refusal.rule_id()),
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Errors
//!
//! "No" is an answer, and has a type: [`LeashError`] with a rule id and a reason that quotes no prompt.
//!
//! | variant | when | rule ids |
//! |---|---|---|
//! | [`Killed`](LeashError::Killed) | a kill order stands, or the money is out | `kill:registry`, `budget:pre_call_estimate`, `budget:hard_cap`, `spend_rate`, `max_tool_budget` |
//! | [`Blocked`](LeashError::Blocked) | a rule says so, or the call cannot be judged | the rule's; `budget:no_price`, `budget:no_bound`, `budget:no_party`, `budget:grant`, `redact`, `wire` |
//! | [`RejectedByHuman`](LeashError::RejectedByHuman) | a rule asked, and nobody approved | the rule's; `hitl:timeout` |
//! | [`Unavailable`](LeashError::Unavailable) | what must be asked does not answer | `budget:store`, `kill:unavailable`, `hitl:gate`, `audit:unavailable`, `firewall:capacity` |
//!
//! Do not retry one: the second attempt is refused too, unless something else changed. Where the answer is there but
//! the paperwork is not, the answer is yours and [`Receipt::warning`] says what is missing; nothing more is admitted
//! until it is on disk. An answer over HTTP brings its receipt along: `adapters::http::CallReceipt`.
//!
//! # What it does not do
//!
//! - It sees what goes through it. A program that opens its own connection is not on the leash; a network that lets
//!   only guarded programs out is yours to set up.
//! - It does not judge whether an answer is right, kind or true.
//! - A chain shows what was changed, not what was cut off its end: keep the number of events elsewhere.
//! - Budgets and kill orders are kept in memory, for one process, unless a store that is [shared](#sharing) is set.
//! - Prices are list prices of a day. Discounts make it stop early; what it does not know to be billed may pass a cap, and
//!   is noticed when it does.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | none | firewall, budget, log, kill switch, rules, approval |
//! | `http` | `adapters::http`: a guard for HTTP clients |
//! | `openai` | `adapters::openai`: a guard for `async-openai` |
//! | `anthropic` | `adapters::anthropic`: a guarded client of the Messages API |
//! | `wire` | `wire`: the formats of the providers |
//! | `sqlite` | stores in a file: [`budget`], [`kill`], [`hitl`] for the processes of one machine |
//! | `redis` | the same for many machines; `redis-tls` over TLS, `redis-cluster` in a cluster |
//! | `webhook` | [`hitl`] asks a service of yours |
//! | `scanners` | [`policy`] asks Presidio, `LlamaFirewall` and scanners of your own |
//! | `tiktoken` | [`budget`] counts tokens of OpenAI's models; five megabytes more |
//!
//! A feature adds, and never alters. This crate has no code: each part is a crate of its own (`leash-audit`,
//! `leash-budget`, …) that can be used without the others. These exports are stable within a major version.

#[doc(inline)]
pub use leash_audit as audit;
#[doc(inline)]
pub use leash_budget as budget;
#[doc(inline)]
pub use leash_hitl as hitl;
#[doc(inline)]
pub use leash_kill as kill;
#[doc(inline)]
pub use leash_policy as policy;
#[cfg(feature = "wire")]
#[doc(inline)]
pub use leash_wire as wire;

pub use leash_core::{
    Action, AgentName, AsyncRule, Call, Caller, Clock, Decision, Digest, DigestError, Evaluation, IdError,
    IdGenerator, InputSize, Json, LeashError, ModelCall, PolicyContext, PolicyEngine, Redactor, RequestId,
    ReservationId, Rule, RuleError, SessionId, StoreError, StoreErrorKind, SystemClock, TenantId, Timestamp,
    TimestampError, ToolCall, ToolRequest, Usage, Usd, UsdError, canonical, rule_ids,
};
pub use leash_firewall::{
    Admission, Answer, Answered, BlockingFirewall, BuildError, Charge, Clamp, Firewall, FirewallBuilder,
    Grant, GuardedError, ModelAnswer, ModelFailure, Outcome, Over, Receipt, Warning, Window, Wrap,
};
pub use leash_hitl::{Approval, ApprovalRequest, HitlGate, InMemoryHitlGate};
pub use leash_policy::{
    AllowedTools, BlockedPaths, BlockedPatterns, BlockedShell, BlockedSql, BlockedUrls, BudgetThreshold,
    DeniedTools, HitlOnAmount, HitlOnPattern, HitlThreshold, PiiRedactor, Policy, SecretsRule,
};

/// Guards for clients, one module for each feature.
pub mod adapters {
    #[cfg(feature = "anthropic")]
    #[doc(inline)]
    pub use leash_adapters_anthropic as anthropic;
    #[cfg(feature = "http")]
    #[doc(inline)]
    pub use leash_adapters_http as http;
    #[cfg(feature = "openai")]
    #[doc(inline)]
    pub use leash_adapters_openai as openai;
}
