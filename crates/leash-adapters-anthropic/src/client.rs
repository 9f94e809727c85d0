//! [`AnthropicClient`]: sends requests, again where that helps.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use leash_adapters_http::{CallReceipt, LeashMiddleware};
use leash_firewall::Firewall;
use leash_wire::Limits;
use reqwest::{Response, Url};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::{AnthropicError, ApiError, Message, MessageStream};

/// Where requests go, unless [`AnthropicBuilder::base_url`] says otherwise.
pub const DEFAULT_BASE_URL: &str = "https://api.anthropic.com";

/// The version of the API, unless [`AnthropicBuilder::version`] says otherwise.
///
/// # Source
/// Anthropic API documentation, *Versions*.
pub const DEFAULT_VERSION: &str = "2023-06-01";

/// How long to wait before the first new attempt, where the provider does not say; twice as long before each further.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest of these waits.
const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// The longest wait that a provider may ask for. Where it asks for more, its error is handed on.
const LONGEST_WISH: Duration = Duration::from_mins(1);

/// A guarded client of the Messages API. Cheap to clone, shared by tasks; it speaks for the session of its firewall.
///
/// Bodies are whatever serialises to the API's JSON; a [`RawValue`] goes out to the byte.
#[derive(Clone)]
pub struct AnthropicClient {
    inner: Arc<Inner>,
}

struct Inner {
    http: ClientWithMiddleware,
    firewall: Firewall,
    messages: Url,
    count_tokens: Url,
    headers: HeaderMap,
    max_retries: u32,
    limits: Limits,
}

impl fmt::Debug for AnthropicClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnthropicClient")
            .field("firewall", &self.inner.firewall)
            .field("host", &self.inner.messages.host_str())
            .finish_non_exhaustive()
    }
}

/// Sets an [`AnthropicClient`] up. Its `Debug` shows no key.
#[must_use]
pub struct AnthropicBuilder {
    firewall: Firewall,
    api_key: Option<String>,
    auth_token: Option<String>,
    base_url: String,
    http: Option<reqwest::Client>,
    version: String,
    betas: Vec<String>,
    max_retries: u32,
    limits: Limits,
}

impl fmt::Debug for AnthropicBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnthropicBuilder")
            .field("firewall", &self.firewall)
            .field("version", &self.version)
            .field("betas", &self.betas)
            .field("max_retries", &self.max_retries)
            .finish_non_exhaustive()
    }
}

impl AnthropicBuilder {
    /// The key, sent as `x-api-key`.
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.api_key = Some(key.into());
        self
    }

    /// A token, sent as `authorization: Bearer`.
    pub fn auth_token(mut self, token: impl Into<String>) -> Self {
        self.auth_token = Some(token.into());
        self
    }

    /// Where requests go, without `/v1`. Default: [`DEFAULT_BASE_URL`].
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = url.into();
        self
    }

    /// Sends with this HTTP client. Default: a new one with reqwest's defaults.
    pub fn http(mut self, http: reqwest::Client) -> Self {
        self.http = Some(http);
        self
    }

    /// The version of the API. Default: [`DEFAULT_VERSION`].
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Asks for a beta feature. May be called more than once.
    pub fn beta(mut self, beta: impl Into<String>) -> Self {
        self.betas.push(beta.into());
        self
    }

    /// How often a call is tried again after a 429, a 5xx, or a connection that did not come about. Default: 2.
    ///
    /// Each attempt is admitted anew, and one that may have been billed is charged its bound. `retry-after` is
    /// obeyed, up to a minute; a kill order ends the wait.
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.max_retries = retries;
        self
    }

    /// How much of a request, an answer and an event is read at most.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Checks everything and makes the client.
    ///
    /// # Errors
    /// [`AnthropicError::Config`] where the URL is none, or the key, the token, the version or a beta is no value of
    /// a header.
    pub fn build(self) -> Result<AnthropicClient, AnthropicError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut add = |name: HeaderName, value: &str, what: &'static str| {
            let mut value = HeaderValue::from_str(value).map_err(|_| AnthropicError::Config(what))?;
            value.set_sensitive(true);
            headers.append(name, value);
            Ok::<(), AnthropicError>(())
        };
        let version = HeaderName::from_static("anthropic-version");
        add(version, &self.version, "the version is no value of a header")?;
        if let Some(key) = &self.api_key {
            add(
                HeaderName::from_static("x-api-key"),
                key,
                "the key is no value of a header",
            )?;
        }
        if let Some(token) = &self.auth_token {
            add(
                AUTHORIZATION,
                &format!("Bearer {token}"),
                "the token is no value of a header",
            )?;
        }
        for beta in &self.betas {
            add(
                HeaderName::from_static("anthropic-beta"),
                beta,
                "a beta is no value of a header",
            )?;
        }
        let url = |path: &str| {
            let url = Url::parse(&format!("{}{path}", self.base_url.trim_end_matches('/')));
            url.map_err(|_| AnthropicError::Config("the base URL is none"))
        };
        let middleware = LeashMiddleware::new(self.firewall.clone()).limits(self.limits);
        Ok(AnthropicClient {
            inner: Arc::new(Inner {
                messages: url("/v1/messages")?,
                count_tokens: url("/v1/messages/count_tokens")?,
                http: ClientBuilder::new(self.http.unwrap_or_default())
                    .with(middleware)
                    .build(),
                firewall: self.firewall,
                headers,
                max_retries: self.max_retries,
                limits: self.limits,
            }),
        })
    }
}

impl AnthropicClient {
    /// Starts to set a client up that `firewall` guards.
    pub fn builder(firewall: Firewall) -> AnthropicBuilder {
        AnthropicBuilder {
            firewall,
            api_key: None,
            auth_token: None,
            base_url: DEFAULT_BASE_URL.to_owned(),
            http: None,
            version: DEFAULT_VERSION.to_owned(),
            betas: Vec::new(),
            max_retries: 2,
            limits: Limits::default(),
        }
    }

    /// The firewall that guards it.
    #[must_use]
    pub fn firewall(&self) -> &Firewall {
        &self.inner.firewall
    }

    /// Asks for an answer in one piece.
    ///
    /// # Errors
    /// [`AnthropicError`]; [`AnthropicError::Request`] where the body asks for a stream.
    pub async fn create<B: Serialize + Sync + ?Sized>(&self, body: &B) -> Result<Message, AnthropicError> {
        let body = body_of(body, None)?;
        let response = self.send(&self.inner.messages, body).await?;
        let receipt = CallReceipt::of(&response).and_then(|receipt| receipt.take());
        Message::read(&response.bytes().await?, &self.inner.limits, receipt)
    }

    /// Asks for an answer that streams; `"stream": true` is added.
    ///
    /// # Errors
    /// [`AnthropicError`]; [`AnthropicError::Request`] where the body asks for no stream.
    pub async fn stream<B: Serialize + Sync + ?Sized>(
        &self,
        body: &B,
    ) -> Result<MessageStream, AnthropicError> {
        let body = body_of(body, Some(()))?;
        let response = self.send(&self.inner.messages, body).await?;
        let content_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        if !content_type.is_some_and(leash_wire::is_event_stream) {
            return Err(AnthropicError::Answer(
                "a stream was asked for, and the answer is none",
            ));
        }
        let request_id = request_id(&response);
        Ok(MessageStream::new(
            response,
            request_id,
            self.inner.limits.max_event_bytes,
        ))
    }

    /// How many input tokens the provider counts in a request. Free.
    ///
    /// # Errors
    /// [`AnthropicError`].
    pub async fn count_tokens<B: Serialize + Sync + ?Sized>(&self, body: &B) -> Result<u64, AnthropicError> {
        let body = body_of(body, None)?;
        let mut response = self.send(&self.inner.count_tokens, body).await?;
        let answer = read_some(&mut response).await?;
        let tokens = serde_json::from_slice::<Value>(&answer).ok();
        let tokens = tokens
            .as_ref()
            .and_then(|answer| answer.get("input_tokens"))
            .and_then(Value::as_u64);
        tokens.ok_or(AnthropicError::Answer("the answer holds no count"))
    }

    /// Sends a request until it is answered with success, or it does not help to try again.
    async fn send(&self, url: &Url, body: Bytes) -> Result<Response, AnthropicError> {
        let mut wait = FIRST_WAIT;
        let mut attempts_left = self.inner.max_retries;
        loop {
            let request = self
                .inner
                .http
                .post(url.clone())
                .headers(self.inner.headers.clone())
                .body(body.clone());
            let (error, asked) = match request.send().await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => {
                    let asked = wish(&response);
                    let may_retry = may_retry(&response);
                    let error = api_error(response).await;
                    if !may_retry {
                        return Err(error);
                    }
                    (error, asked)
                }
                Err(error) if error.is_connect() => (error.into(), None),
                Err(error) => return Err(error.into()),
            };
            let pause = asked.unwrap_or(wait);
            if attempts_left == 0 || pause > LONGEST_WISH {
                return Err(error);
            }
            attempts_left = attempts_left.saturating_sub(1);
            wait = wait.saturating_mul(2).min(LONGEST_WAIT);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = self.inner.firewall.stopped() => self.inner.firewall.check_stopped().await?,
            }
        }
    }
}

/// The bytes of a request. `stream` adds that a stream is wanted.
fn body_of<B: Serialize + ?Sized>(body: &B, stream: Option<()>) -> Result<Bytes, AnthropicError> {
    let text =
        serde_json::to_string(body).map_err(|_| AnthropicError::Request("the body does not serialise"))?;
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_str(&text).map_err(|_| AnthropicError::Request("the body is no JSON object"))?;
    match (members.get("stream").map(|value| value.get()), stream) {
        (None, Some(())) => {
            let rest = text.trim_end().strip_suffix('}').unwrap_or(&text);
            let comma = if members.is_empty() { "" } else { "," };
            Ok(Bytes::from(format!("{rest}{comma}\"stream\":true}}")))
        }
        (None | Some("false"), None) | (Some("true"), Some(())) => Ok(Bytes::from(text)),
        (Some("true"), None) => Err(AnthropicError::Request(
            "the body asks for a stream; use `stream`",
        )),
        (Some(_), _) => Err(AnthropicError::Request(
            "the body says in `stream` that it wants none",
        )),
    }
}

/// Whether the provider would take the same request later.
///
/// # Source
/// Anthropic API documentation, *Errors*; `anthropic-sdk-python`, `_base_client.py`, `_should_retry`.
fn may_retry(response: &Response) -> bool {
    let status = response.status();
    match response
        .headers()
        .get("x-should-retry")
        .map(HeaderValue::as_bytes)
    {
        Some(b"false") => false,
        _ => status.as_u16() == 429 || status.is_server_error(),
    }
}

/// How long the provider asks to wait.
fn wish(response: &Response) -> Option<Duration> {
    let seconds = response
        .headers()
        .get("retry-after")?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

fn request_id(response: &Response) -> Option<String> {
    let headers = response.headers();
    let id = headers
        .get("request-id")
        .or_else(|| headers.get("x-request-id"))?;
    id.to_str().ok().filter(|id| id.len() <= 128).map(str::to_owned)
}

async fn api_error(mut response: Response) -> AnthropicError {
    let (status, request_id) = (response.status().as_u16(), request_id(&response));
    let body = match read_some(&mut response).await {
        Ok(body) => serde_json::from_slice(&body).unwrap_or(Value::Null),
        Err(_) => Value::Null,
    };
    AnthropicError::Api(ApiError::new(status, request_id, &body))
}

/// The body of what is short.
async fn read_some(response: &mut Response) -> Result<Vec<u8>, AnthropicError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > 1 << 20 {
            return Err(AnthropicError::Answer("the answer is longer than the limit"));
        }
    }
    Ok(body)
}
