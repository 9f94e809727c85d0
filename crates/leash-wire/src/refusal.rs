//! A refusal in the provider's own shape, so that any client understands it and none tries again.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::raw::push_str;
use crate::{Format, WireError, WireErrorKind};

/// The status of a refused call: 403.
///
/// The providers' SDKs retry 408, 409, 429 and everything from 500 on, and so would a refused agent for ever.
///
/// # Source
/// `openai-python` and `anthropic-sdk-python`, `_base_client.py`, `_should_retry`; it also obeys `x-should-retry`.
pub const REFUSAL_STATUS: u16 = 403;

/// Names of headers, in lower case.
pub mod headers {
    /// Of requests: the session.
    pub const SESSION_ID: &str = "x-llm-leash-session-id";
    /// Of requests: the tenant.
    pub const TENANT_ID: &str = "x-llm-leash-tenant-id";
    /// Of requests: the agent's name.
    pub const AGENT_NAME: &str = "x-llm-leash-agent-name";
    /// Of answers: the rule that refused.
    pub const RULE: &str = "x-llm-leash-rule";
    /// Of answers: why.
    pub const REASON: &str = "x-llm-leash-reason";
    /// Of answers: tells the SDKs of both providers not to try again.
    pub const SHOULD_RETRY: &str = "x-should-retry";
}

/// Who refused, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// The rule.
    pub rule_id: &'a str,
    /// Why, for people. Goes to the client.
    pub reason: &'a str,
}

impl Refusal<'_> {
    /// The headers of a refusal, besides the content type: names in lower case, values that any HTTP library takes
    /// (visible ASCII and spaces, at most 256 bytes; other characters become `?`).
    #[must_use]
    pub fn headers(&self) -> [(&'static str, String); 3] {
        let plain = |text: &str| {
            let visible = |char: char| {
                if char == ' ' || char.is_ascii_graphic() {
                    char
                } else {
                    '?'
                }
            };
            text.trim().chars().take(256).map(visible).collect::<String>()
        };
        [
            (headers::RULE, plain(self.rule_id)),
            (headers::REASON, plain(self.reason)),
            (headers::SHOULD_RETRY, "false".to_owned()),
        ]
    }

    fn message(&self) -> String {
        format!("llm-leash: refused by `{}`: {}", self.rule_id, self.reason)
    }
}

fn anthropic(refusal: &Refusal<'_>) -> String {
    let mut out = String::from(r#"{"type":"error","error":{"type":"permission_error","message":"#);
    push_str(&mut out, &refusal.message());
    out.push_str("}}");
    out
}

fn openai(refusal: &Refusal<'_>) -> String {
    let mut out = String::from(r#"{"error":{"message":"#);
    push_str(&mut out, &refusal.message());
    out.push_str(r#","type":"llm_leash_refusal","param":null,"code":"#);
    push_str(&mut out, refusal.rule_id);
    out.push_str("}}");
    out
}

/// The JSON body of a refused call, for the status [`REFUSAL_STATUS`].
///
/// ```
/// use leash_wire::{Format, Refusal, error_body};
///
/// let refusal = Refusal { rule_id: "blocked_shell", reason: "no shells" };
/// let body = error_body(Format::OpenAiChat, &refusal);
/// assert!(body.starts_with(br#"{"error":{"message":"llm-leash: refused by `blocked_shell`: no shells""#));
/// ```
#[must_use]
pub fn error_body(format: Format, refusal: &Refusal<'_>) -> Vec<u8> {
    let body = match format {
        Format::AnthropicMessages => anthropic(refusal),
        Format::OpenAiChat | Format::OpenAiResponses => openai(refusal),
    };
    body.into_bytes()
}

/// The last event of a stream that is cut. [`StreamMeter::error_event`](crate::StreamMeter::error_event) also knows
/// the sequence number that OpenAI Responses wants in it.
#[must_use]
pub fn error_event(format: Format, refusal: &Refusal<'_>) -> Bytes {
    numbered_error_event(format, refusal, 0)
}

pub(crate) fn numbered_error_event(format: Format, refusal: &Refusal<'_>, sequence: u64) -> Bytes {
    let mut out = String::new();
    match format {
        Format::AnthropicMessages => {
            out.push_str("event: error\ndata: ");
            out.push_str(&anthropic(refusal));
        }
        Format::OpenAiChat => {
            out.push_str("data: ");
            out.push_str(&openai(refusal));
        }
        Format::OpenAiResponses => {
            out.push_str("event: error\ndata: {\"type\":\"error\",\"code\":");
            push_str(&mut out, refusal.rule_id);
            out.push_str(",\"message\":");
            push_str(&mut out, &refusal.message());
            // Writing to a string cannot fail.
            let _ = write!(out, ",\"param\":null,\"sequence_number\":{sequence}}}");
        }
    }
    out.push_str("\n\n");
    Bytes::from(out)
}

/// Checks that a body is not encoded, by its `content-encoding`.
///
/// # Errors
/// [`WireErrorKind::Encoded`] for anything but nothing and `identity`. Ask the provider for plain bytes with
/// `accept-encoding: identity`.
pub fn check_encoding(content_encoding: Option<&str>) -> Result<(), WireError> {
    let is_identity =
        |encoding: &str| encoding.trim().is_empty() || encoding.trim().eq_ignore_ascii_case("identity");
    match content_encoding {
        Some(encoding) if !encoding.split(',').all(is_identity) => Err(WireError::new(
            WireErrorKind::Encoded,
            "the body is encoded, so it cannot be read",
        )),
        _ => Ok(()),
    }
}

/// Whether a `content-type` is that of a stream of events.
#[must_use]
pub fn is_event_stream(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("text/event-stream")
}

/// Whether an answer with this status and body was not billed, so that what was set aside may be given back. The one
/// list of these; whatever is not in it may have been billed, and the bound is charged.
///
/// | status | why nothing was billed |
/// |---|---|
/// | 400, 404, 405, 413, 415, 422 | the request was refused before a model saw it |
/// | 401, 402, 403 | so was the caller |
/// | 429 | over a rate limit or out of credit |
/// | 529, of Anthropic | overloaded: never began |
///
/// A 400 whose body tells of a content filter is not in it: Azure bills the prompt then, and Anthropic may have
/// filtered what the model had written already. `body` is what came of it; where none is at hand, pass `b""`.
/// Neither are 408, 409, 499 and 500 to 504: the call may have run before it failed, and a proxy may have written
/// the answer. Nor redirects.
///
/// # Source
/// Anthropic API documentation, *Errors*; OpenAI documentation, *Error codes*; Microsoft Learn, *Azure OpenAI*,
/// "Content filtering" (charged for status 200 and 400).
///
/// ```
/// use leash_wire::{Format, not_billed};
///
/// assert!(not_billed(Format::OpenAiChat, 429, b""));
/// assert!(!not_billed(Format::OpenAiChat, 500, b""));
/// assert!(!not_billed(Format::OpenAiChat, 400, br#"{"error":{"code":"content_filter"}}"#));
/// ```
#[must_use]
pub fn not_billed(format: Format, status: u16, body: &[u8]) -> bool {
    match status {
        400 => {
            let tells = |words: &[u8]| memchr::memmem::find(body, words).is_some();
            !(tells(b"content_filter") || tells(b"content filter") || tells(b"ResponsibleAIPolicyViolation"))
        }
        401 | 402 | 403 | 404 | 405 | 413 | 415 | 422 | 429 => true,
        529 => format == Format::AnthropicMessages,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSAL: Refusal<'_> = Refusal {
        rule_id: "r\"1",
        reason: "no\r\nx-evil: 1 €",
    };

    #[test]
    fn refusals_are_json_of_the_providers_shape_and_their_headers_are_plain() {
        for format in [
            Format::AnthropicMessages,
            Format::OpenAiChat,
            Format::OpenAiResponses,
        ] {
            let body: serde_json::Value = serde_json::from_slice(&error_body(format, &REFUSAL)).unwrap();
            assert!(body["error"]["message"].as_str().unwrap().contains("refused by"));
            let event = error_event(format, &REFUSAL);
            let event = std::str::from_utf8(&event).unwrap();
            let (_, data) = event.strip_suffix("\n\n").unwrap().split_once("data: ").unwrap();
            assert!(serde_json::from_str::<serde_json::Value>(data).is_ok());
            assert!(!data.contains('\n'));
        }
        for (name, value) in REFUSAL.headers() {
            assert!(name.chars().all(|char| char.is_ascii_lowercase() || char == '-'));
            assert!(value.chars().all(|char| char == ' ' || char.is_ascii_graphic()));
        }
    }

    #[test]
    fn what_may_have_been_billed_is_not_in_the_list() {
        for format in [
            Format::AnthropicMessages,
            Format::OpenAiChat,
            Format::OpenAiResponses,
        ] {
            for status in [200, 201, 301, 307, 408, 409, 499, 500, 502, 503, 504] {
                assert!(!not_billed(format, status, b""), "{status}");
            }
            assert!(not_billed(format, 401, b"") && not_billed(format, 400, b"{}"));
            assert!(!not_billed(
                format,
                400,
                b"Output blocked by content filtering policy"
            ));
        }
        assert!(not_billed(Format::AnthropicMessages, 529, b"") && !not_billed(Format::OpenAiChat, 529, b""));
    }

    #[test]
    fn encoded_bodies_are_refused() {
        assert!(check_encoding(None).is_ok() && check_encoding(Some("identity")).is_ok());
        for encoding in ["gzip", "identity, br", "x"] {
            assert_eq!(
                check_encoding(Some(encoding)).unwrap_err().kind(),
                WireErrorKind::Encoded
            );
        }
        assert!(is_event_stream("Text/Event-Stream; charset=utf-8") && !is_event_stream("application/json"));
    }
}
