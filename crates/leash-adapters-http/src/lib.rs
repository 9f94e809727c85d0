//! The firewall around any client that takes a [`reqwest_middleware::Middleware`].
//!
//! [`LeashMiddleware`] reads each request, admits or refuses it, and meters the answer, whole or streamed:
//!
//! - A call of a model is admitted before a byte leaves; what it used is settled when its answer ends.
//! - A stream is metered as it flows, by a task of its own: it is cut, and upstream closed, where a kill order stops
//!   the session or the provider passes what was set aside, whether or not anybody reads it. Each tool call that the
//!   model asks for is held back until rules and humans have let it pass.
//! - Calls known to be free pass unless the session is stopped; those that show the provider a prompt pass the rules and
//!   the redactor as well. Calls that nobody can meter are refused, and so is every path that is not known, on every
//!   host but those that [`LeashMiddleware::allow_host`] names.
//!
//! A stream that is cut ends with an error event in the provider's shape; [`StreamRefusal`] has it typed. What an answer
//! cost, and what went wrong with its paperwork, [`CallReceipt`] says.
//!
//! A refusal is a [`LeashError`](leash_core::LeashError) inside [`reqwest_middleware::Error::Middleware`];
//! [`refusal_of`] finds it. With [`LeashMiddleware::refuse_in_band`] it is an answer in the provider's own shape
//! instead, for clients that keep nothing of an error but its text.
//!
//! The client follows redirects beneath the guard, which sees where a request was meant to go. An answer from a paid call
//! that a free one was led to is withheld, but it was paid for: where nothing needs redirects, switch them off
//! (`reqwest::redirect::Policy::none()`).
//!
//! Its invariant: it holds no key and no prompt, and adds no header but `accept-encoding: identity`.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use leash_adapters_http::refusal_of;
//! use leash_firewall::Firewall;
//!
//! let fw = Firewall::builder().budget_usd(0.50).audit_log("audit.jsonl").build()?;
//! let client = fw.wrap(reqwest::Client::new());
//! let answer = client
//!     .post("https://api.anthropic.com/v1/messages")
//!     .header("x-api-key", std::env::var("ANTHROPIC_API_KEY")?)
//!     .body(r#"{"model":"claude-haiku-4-5","max_tokens":100,"messages":[{"role":"user","content":"hi"}]}"#)
//!     .send()
//!     .await;
//! match answer {
//!     Ok(answer) => println!("{}", answer.text().await?),
//!     Err(error) => match refusal_of(&error) {
//!         Some(refusal) => println!("refused by {}: {}", refusal.rule_id(), refusal.reason()),
//!         None => return Err(error.into()),
//!     },
//! }
//! # Ok(())
//! # }
//! ```

mod middleware;
mod pump;
mod receipt;

pub use self::middleware::{HttpClient, LeashMiddleware, refusal_of};
pub use self::pump::StreamRefusal;
pub use self::receipt::CallReceipt;
