//! A client of Anthropic's Messages API that is on the leash from the start: [`AnthropicClient`].
//!
//! [`create`](AnthropicClient::create) asks for an answer in one piece, [`stream`](AnthropicClient::stream) for one
//! that streams, and [`count_tokens`](AnthropicClient::count_tokens) counts. Requests are whatever serialises to the
//! API's JSON, so nothing of it is out of reach; answers keep their JSON, members and events included that this crate
//! has never heard of, with accessors for what agents mostly want.
//!
//! Every attempt of every call is admitted, metered and logged; see [`leash_adapters_http`] for what that means. A
//! "no" is [`AnthropicError::Refused`], whether it came before a byte left or in the middle of a stream.
//!
//! Its invariant: what it does not know passes untouched. The key is in no error and no `Debug`, and neither is a
//! prompt or an answer.
//!
//! TLS is reqwest's: `https` needs one of its features (`rustls`, `native-tls`) switched on in your `Cargo.toml`.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use leash_testkit::{Reply, Upstream, anthropic};
//! # let provider = Upstream::start().await?;
//! # provider.always(Reply::json(anthropic::message("Hello!", 9, 3)));
//! # let url = provider.url();
//! use leash_adapters_anthropic::AnthropicClient;
//! use leash_firewall::Firewall;
//! use serde_json::json;
//!
//! let fw = Firewall::builder().budget_usd(0.50).build()?;
//! let client = AnthropicClient::builder(fw.clone()).api_key("sk-ant-...").base_url(url).build()?;
//!
//! let answer = client
//!     .create(&json!({
//!         "model": "claude-haiku-4-5",
//!         "max_tokens": 100,
//!         "messages": [{"role": "user", "content": "Hi"}],
//!     }))
//!     .await?;
//! assert_eq!(answer.text(), "Hello!");
//! assert_eq!(fw.cumulative().await?.to_string(), "0.000024");
//! # Ok(())
//! # }
//! ```

mod client;
mod error;
mod message;
mod stream;

pub use self::client::{AnthropicBuilder, AnthropicClient, DEFAULT_BASE_URL, DEFAULT_VERSION};
pub use self::error::{AnthropicError, ApiError};
pub use self::message::{Message, ToolUse};
pub use self::stream::{Event, MessageStream};
