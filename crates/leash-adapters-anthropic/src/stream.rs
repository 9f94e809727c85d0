//! An answer that streams: [`MessageStream`], of [`Event`]s.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use leash_adapters_http::{CallReceipt, StreamRefusal};
use leash_core::Json;
use leash_firewall::Receipt;
use serde_json::Value;

use crate::{AnthropicError, ApiError};

/// An event of a stream, known here or not. Its `Debug` shows no text of the answer.
#[derive(Clone, Debug)]
pub struct Event {
    data: Json,
}

impl Event {
    /// The event's data, to the byte.
    #[must_use]
    pub const fn data(&self) -> &Json {
        &self.data
    }

    /// Its type: `message_start`, `content_block_delta`, `ping` and so on; empty where it has none.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.data
            .value()
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// The piece of text that it brings, if it brings one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        let delta = self.data.value().get("delta")?;
        (delta.get("type")? == "text_delta").then_some(delta.get("text")?.as_str()?)
    }
}

type Body = Pin<Box<dyn Stream<Item = Result<Bytes, reqwest::Error>> + Send>>;

/// The events of an answer, as they come.
///
/// It ends after `message_stop`. Whatever else ends it is an error, the last item: the provider's own, a connection
/// that broke off, or [`AnthropicError::Refused`] where the firewall cut the stream. Dropping it hangs up; what the
/// provider may have billed until then is charged.
pub struct MessageStream {
    body: Option<Body>,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no end of an event.
    searched: usize,
    max_event_bytes: usize,
    is_complete: bool,
    refusal: Option<StreamRefusal>,
    receipt: Option<CallReceipt>,
    request_id: Option<String>,
}

impl fmt::Debug for MessageStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageStream")
            .field("request_id", &self.request_id)
            .field("is_complete", &self.is_complete)
            .finish_non_exhaustive()
    }
}

impl MessageStream {
    pub(crate) fn new(
        response: reqwest::Response,
        request_id: Option<String>,
        max_event_bytes: usize,
    ) -> Self {
        Self {
            refusal: StreamRefusal::of(&response),
            receipt: CallReceipt::of(&response),
            body: Some(Box::pin(response.bytes_stream())),
            buffer: BytesMut::new(),
            searched: 0,
            max_event_bytes,
            is_complete: false,
            request_id,
        }
    }

    /// What the call was charged, and what went wrong with its paperwork, if anything did: once the stream has ended, and
    /// for whoever asks first.
    #[must_use]
    pub fn receipt(&self) -> Option<Receipt> {
        self.receipt.as_ref()?.take()
    }

    /// Cuts the next event off the buffer, its blank line included.
    fn cut(&mut self) -> Option<BytesMut> {
        let rest = self.buffer.get(self.searched..).unwrap_or_default();
        let found = rest
            .windows(2)
            .position(|two| matches!(two, b"\n\n" | b"\r\r" | b"\n\r"));
        let Some(found) = found else {
            self.searched = self.buffer.len().saturating_sub(1);
            return None;
        };
        // `\n\r` begins the blank line of `\r\n\r\n`; its `\n` follows and begins the next event, where it is skipped.
        let end = self.searched.saturating_add(found).saturating_add(2);
        self.searched = 0;
        Some(self.buffer.split_to(end.min(self.buffer.len())))
    }

    /// What an event says; `None` for comments and the like.
    fn read(&mut self, event: &[u8]) -> Option<Result<Event, AnthropicError>> {
        let text = match std::str::from_utf8(event) {
            Ok(text) => text.trim_start_matches('\u{feff}'),
            Err(_) => return Some(Err(AnthropicError::Answer("an event is not UTF-8"))),
        };
        let lines = text
            .split(['\r', '\n'])
            .filter_map(|line| line.strip_prefix("data:"));
        let data: Vec<&str> = lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
        if data.is_empty() {
            return None;
        }
        let Ok(data) = Json::parse(data.join("\n")) else {
            return Some(Err(AnthropicError::Answer(
                "the data of an event is not JSON with one reading",
            )));
        };
        let event = Event { data };
        match event.kind() {
            "error" => {
                let refusal = self.refusal.as_ref().and_then(StreamRefusal::take);
                Some(Err(match refusal {
                    Some(refusal) => AnthropicError::Refused(refusal),
                    None => {
                        AnthropicError::Api(ApiError::new(200, self.request_id.clone(), event.data.value()))
                    }
                }))
            }
            kind => {
                self.is_complete |= kind == "message_stop";
                Some(Ok(event))
            }
        }
    }
}

impl Stream for MessageStream {
    type Item = Result<Event, AnthropicError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if this.is_complete {
                this.body = None;
            }
            if this.body.is_none() {
                return Poll::Ready(None);
            }
            if let Some(event) = this.cut() {
                match this.read(&event) {
                    None => continue,
                    Some(Ok(event)) => return Poll::Ready(Some(Ok(event))),
                    Some(Err(error)) => {
                        this.body = None;
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
            let Some(body) = &mut this.body else { continue };
            let error = match ready!(body.as_mut().poll_next(context)) {
                Some(Ok(chunk)) => {
                    this.buffer.extend_from_slice(&chunk);
                    if this.buffer.len() <= this.max_event_bytes.saturating_add(chunk.len()) {
                        continue;
                    }
                    AnthropicError::Answer("an event of the stream is longer than the limit")
                }
                Some(Err(error)) => error.into(),
                None => AnthropicError::Answer("the stream ended before its message did"),
            };
            this.body = None;
            return Poll::Ready(Some(Err(error)));
        }
    }
}
