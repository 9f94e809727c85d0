//! What can go wrong: [`AnthropicError`]. Holds no key, and shows no prompt.

use std::error::Error;
use std::fmt;

use leash_core::LeashError;
use reqwest_middleware::Error as MiddlewareError;
use serde_json::Value;

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnthropicError {
    /// The firewall refused the call, held its answer back, or cut its stream.
    #[error(transparent)]
    Refused(#[from] LeashError),
    /// The provider answered with an error.
    #[error(transparent)]
    Api(ApiError),
    /// The request could not be sent, or its answer not be received.
    #[error("failed to reach the provider: {0}")]
    Http(#[source] Box<dyn Error + Send + Sync>),
    /// The request is none that this method can send.
    #[error("failed to prepare the request: {0}")]
    Request(&'static str),
    /// The answer is not what the API promises.
    #[error("failed to read the answer: {0}")]
    Answer(&'static str),
    /// The client cannot be built so.
    #[error("failed to build the client: {0}")]
    Config(&'static str),
}

/// An error that the provider reported.
///
/// `Display` and `Debug` leave the provider's message out, which may quote the request.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiError {
    status: u16,
    kind: String,
    request_id: Option<String>,
    message: String,
}

impl ApiError {
    pub(crate) fn new(status: u16, request_id: Option<String>, body: &Value) -> Self {
        let member = |name| body.pointer(name).and_then(Value::as_str).unwrap_or_default();
        let kind = member("/error/type");
        let is_word = |char: char| char.is_ascii_lowercase() || char == '_';
        let is_kind = !kind.is_empty() && kind.len() <= 64 && kind.chars().all(is_word);
        Self {
            status,
            kind: if is_kind { kind } else { "unknown" }.to_owned(),
            request_id: request_id
                .or_else(|| body.get("request_id").and_then(Value::as_str).map(str::to_owned)),
            message: member("/error/message").to_owned(),
        }
    }

    /// The status; 200 where the error came in a stream.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The error's type: `rate_limit_error`, `overloaded_error` and so on; `unknown` where there is none.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The provider's name of the request, for its support.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// What the provider says. It may quote the request, so it does not belong into a log.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Debug for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiError")
            .field("status", &self.status)
            .field("kind", &self.kind)
            .field("request_id", &self.request_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the provider answered {} with `{}`", self.status, self.kind)?;
        match &self.request_id {
            Some(id) => write!(f, " (request `{id}`)"),
            None => Ok(()),
        }
    }
}

impl Error for ApiError {}

impl From<reqwest::Error> for AnthropicError {
    fn from(error: reqwest::Error) -> Self {
        Self::Http(error.without_url().into())
    }
}

impl From<MiddlewareError> for AnthropicError {
    fn from(error: MiddlewareError) -> Self {
        match error {
            MiddlewareError::Reqwest(error) => error.into(),
            MiddlewareError::Middleware(error) => match error.downcast::<LeashError>() {
                Ok(refusal) => Self::Refused(refusal),
                Err(error) => Self::Http(error.into()),
            },
        }
    }
}
