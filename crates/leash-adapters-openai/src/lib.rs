//! The firewall around [`async_openai::Client`].
//!
//! [`Guard`] (or [`Firewall::wrap`], with the defaults) replaces how the client sends its requests: each attempt,
//! retries included, is admitted anew, metered and logged; see [`leash_adapters_http`] for what that means. Chat
//! Completions and Responses pass, whole and streamed; models can be listed; what cannot be metered is refused, other
//! parts of the API among it.
//!
//! How a "no" reaches the caller:
//!
//! - Before a byte went out, or instead of an answer in one piece: [`OpenAIError::Boxed`], in which [`refusal_of`]
//!   finds the typed refusal. It is never retried.
//! - In a stream that is cut: the last item is an error. async-openai keeps of it what the wire said, so it is
//!   [`OpenAIError::JSONDeserialize`] for a chat completion (the error event is no chunk), and for a response the
//!   event [`ResponseError`](async_openai::types::responses::ResponseStreamEvent::ResponseError). [`cut_of`] reads the
//!   former.
//!
//! What went wrong with the paperwork of a call that was paid for does not reach the caller, as async-openai hands on no
//! more than the body of an answer: it is told as a `tracing` event, and the next call is refused.
//!
//! Its invariant: the only crate that knows async-openai. It meters nothing itself.
//!
//! What it cannot see: `Client::realtime` opens a websocket of its own, past every HTTP client; leave that feature off.
//! And the wrapped client sends with an HTTP client of the guard's own, because async-openai does not give out the one
//! it holds: if yours has proxies, time-outs or certificates, hand it to [`Guard::http_client`]. Configuration (key,
//! organisation, base URL, headers) stays the client's.
//!
//! TLS is reqwest's: `https` needs one of its features (`rustls`, `native-tls`) switched on in your `Cargo.toml`, by
//! reqwest 0.13 itself or by async-openai's feature of the same name.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use async_openai::Client;
//! use async_openai::types::chat::{ChatCompletionRequestUserMessage, CreateChatCompletionRequestArgs};
//! use leash_adapters_openai::refusal_of;
//! use leash_firewall::Firewall;
//!
//! let fw = Firewall::builder().budget_usd(0.50).audit_log("audit.jsonl").build()?;
//! let client = fw.wrap(Client::new());
//! let request = CreateChatCompletionRequestArgs::default()
//!     .model("gpt-5")
//!     .max_completion_tokens(200_u32)
//!     .messages([ChatCompletionRequestUserMessage::from("hi").into()])
//!     .build()?;
//! match client.chat().create(request).await {
//!     Ok(answer) => println!("{:?}", answer.choices),
//!     Err(error) => match refusal_of(&error) {
//!         Some(refusal) => println!("refused by {}: {}", refusal.rule_id(), refusal.reason()),
//!         None => return Err(error.into()),
//!     },
//! }
//! # Ok(())
//! # }
//! ```

use std::fmt;

use async_openai::Client;
use async_openai::config::Config;
use async_openai::error::{OpenAIError, WrappedError};
use async_openai::middleware::HttpRequestFactory;
use async_openai::middleware::retry::OpenAIRetryLayer;
use leash_adapters_http::LeashMiddleware;
use leash_core::LeashError;
use leash_firewall::{Firewall, Wrap};
use leash_wire::Limits;
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Error};
use tower::{Layer as _, service_fn};

/// Says to [`Firewall::wrap`] that this crate knows the client.
#[derive(Clone, Copy, Debug)]
pub enum AsyncOpenAi {}

impl<C: Config> Wrap<AsyncOpenAi> for Client<C> {
    type Guarded = Self;

    fn wrap(self, firewall: &Firewall) -> Self {
        Guard::new(firewall.clone()).around(self)
    }
}

/// How a client is to be guarded.
#[derive(Clone)]
#[must_use]
pub struct Guard {
    middleware: LeashMiddleware,
    http: Option<reqwest::Client>,
    max_retries: usize,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("middleware", &self.middleware)
            .field("max_retries", &self.max_retries)
            .finish_non_exhaustive()
    }
}

impl Guard {
    /// Guards with `firewall`, for its session.
    pub fn new(firewall: Firewall) -> Self {
        Self {
            middleware: LeashMiddleware::new(firewall),
            http: None,
            max_retries: OpenAIRetryLayer::default().max_retries(),
        }
    }

    /// Sends with this HTTP client. Default: a new one with reqwest's defaults, as async-openai's own.
    pub fn http_client(mut self, http: reqwest::Client) -> Self {
        self.http = Some(http);
        self
    }

    /// How often async-openai's retry layer tries again, at 429, 5xx and failed connections. Each attempt is admitted
    /// anew, and one that may have been billed is charged its bound. Default: async-openai's own, 3.
    pub fn max_retries(mut self, retries: usize) -> Self {
        self.max_retries = retries;
        self
    }

    /// How much of a request, an answer and an event is read at most.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.middleware = self.middleware.limits(limits);
        self
    }

    /// The client, guarded. Its configuration is kept; how it sent before is not.
    #[must_use]
    pub fn around<C: Config>(self, client: Client<C>) -> Client<C> {
        let http = ClientBuilder::new(self.http.unwrap_or_default())
            .with(self.middleware)
            .build();
        let attempt = service_fn(move |request: HttpRequestFactory| send(http.clone(), request));
        client.with_http_service(OpenAIRetryLayer::new(self.max_retries).layer(attempt))
    }
}

async fn send(
    http: ClientWithMiddleware,
    request: HttpRequestFactory,
) -> Result<reqwest::Response, OpenAIError> {
    let request = request.build().await?;
    http.execute(request).await.map_err(|error| match error {
        Error::Reqwest(error) => OpenAIError::Reqwest(error),
        Error::Middleware(error) => match error.downcast::<LeashError>() {
            Ok(refusal) => OpenAIError::Boxed(Box::new(refusal)),
            Err(error) => OpenAIError::Boxed(error.into()),
        },
    })
}

/// The refusal inside an error of a guarded client, for a call that did not go out or whose answer was held back.
#[must_use]
pub fn refusal_of(error: &OpenAIError) -> Option<&LeashError> {
    match error {
        OpenAIError::Boxed(error) => error.downcast_ref(),
        _ => None,
    }
}

/// Why a stream was cut, as far as its last event told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cut {
    /// The rule.
    pub rule_id: String,
    /// What the client was told, for people.
    pub message: String,
}

/// Why a streamed chat completion was cut, where this is the error that its last event became.
#[must_use]
pub fn cut_of(error: &OpenAIError) -> Option<Cut> {
    let OpenAIError::JSONDeserialize(_, event) = error else {
        return None;
    };
    let told: WrappedError = serde_json::from_str(event).ok()?;
    let is_ours = told.error.r#type.as_deref() == Some("llm_leash_refusal");
    is_ours.then_some(Cut {
        rule_id: told.error.code?,
        message: told.error.message,
    })
}
