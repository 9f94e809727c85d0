//! A streamed answer, read as it passes: [`StreamMeter`]. Knows how events are cut, held and let through; what they
//! mean is known to one module for each format.

mod anthropic;
mod chat;
mod responses;

use std::{fmt, mem};

use bytes::{Bytes, BytesMut};
use leash_core::{Digest, Json, ToolRequest, Usage};
use serde_json::value::RawValue;

use crate::raw::{self, Members};
use crate::refusal::{self, Refusal};
use crate::sse::{self, Splitter};
use crate::usage::{Report, Untrusted};
use crate::{Format, Limits, WireError, WireErrorKind, content};

/// How much is taken from the caller's bytes at a time, so that a limit is met before the buffer grows past it.
const STEP_BYTES: usize = 64 << 10;

/// Tokens that a tool call takes besides its name and its arguments; room to spare.
const CALL_TOKENS: u64 = 64;

/// How a stream is to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamOptions {
    /// Keep back the usage-only chunk of Chat Completions, which the client did not ask for and may trip over (it has
    /// no choices).
    pub hide_usage_chunk: bool,
    /// How much is taken.
    pub limits: Limits,
}

/// What comes out of a [`StreamMeter`], in order.
///
/// Its `Debug` shows no text of the answer.
#[derive(Clone, PartialEq, Eq)]
pub enum Piece {
    /// Bytes for the client, exactly as they came.
    Forward(Bytes),
    /// A tool call that the next [`Piece::Forward`] completes. It is to be judged first; where it is refused, nothing
    /// that follows may reach the client.
    ToolRequest(ToolRequest),
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward(bytes) => write!(f, "Forward({} bytes)", bytes.len()),
            Self::ToolRequest(request) => f.debug_tuple("ToolRequest").field(request).finish(),
        }
    }
}

/// An error that the provider reported within its stream.
///
/// It keeps the provider's error type where that is a known word, `other` where it is none, and no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProviderError {
    kind: &'static str,
}

impl ProviderError {
    /// The type: `overloaded_error`, `rate_limit_exceeded` and so on, or `other`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.kind
    }
}

const PROVIDER_ERRORS: &[&str] = &[
    "api_error",
    "authentication_error",
    "billing_error",
    "content_filter",
    "context_length_exceeded",
    "insufficient_quota",
    "invalid_prompt",
    "invalid_request_error",
    "not_found_error",
    "overloaded_error",
    "permission_error",
    "rate_limit_error",
    "rate_limit_exceeded",
    "request_too_large",
    "server_error",
    "timeout_error",
];

/// Reads a streamed answer as it passes, and lets each tool call be judged before the client sees it.
///
/// Bytes go in as they arrive, cut anywhere; events come out whole and exactly as they were, unknown ones, comments
/// and pings included. From the first event of a tool call to its last, everything is held back; then comes
/// [`Piece::ToolRequest`], then what was held. After an error nothing more comes out.
///
/// An event that two programs could read differently (a member twice, an event name that contradicts the data, pieces
/// of a call that disagree) is an error: the client might act on another call than the one that was judged.
///
/// ```
/// use leash_wire::{Format, Piece, StreamMeter, StreamOptions};
///
/// let mut meter = StreamMeter::new(Format::OpenAiChat, StreamOptions::default());
/// let mut out = Vec::new();
/// meter.feed(b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n", &mut out)?;
/// assert!(out.is_empty());
/// meter.feed(b"\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1}}\n\n", &mut out)?;
/// meter.feed(b"data: [DONE]\n\n", &mut out)?;
/// meter.finish(&mut out)?;
/// assert!(matches!(out[0], Piece::Forward(_)));
/// assert!(meter.is_complete());
/// assert_eq!(meter.usage().map(|usage| usage.input_tokens), Some(9));
/// # Ok::<(), leash_wire::WireError>(())
/// ```
///
/// Its `Debug` shows no text of the answer.
pub struct StreamMeter {
    format: Format,
    options: StreamOptions,
    state: State,
    shared: Shared,
    splitter: Splitter,
    /// What came and is not cut into events yet, after events that are ready to go.
    buffer: BytesMut,
    /// How much of the front of `buffer` is ready to go.
    ready: usize,
    /// Events since an open tool call began.
    held: BytesMut,
    is_first_event: bool,
    failed: Option<WireError>,
}

impl fmt::Debug for StreamMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamMeter")
            .field("format", &self.format)
            .field("usage", &self.usage())
            .field("is_complete", &self.is_complete())
            .field("buffered_bytes", &self.buffered_bytes())
            .finish_non_exhaustive()
    }
}

enum State {
    Anthropic(anthropic::Meter),
    Chat(chat::Meter),
    Responses(responses::Meter),
}

/// What an event leads to besides what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Forward,
    Hide,
}

/// What all formats gather.
struct Shared {
    limits: Limits,
    report: Report,
    untrusted: bool,
    delivered: u64,
    is_complete: bool,
    provider_error: Option<ProviderError>,
    /// Complete, and not handed out yet.
    requests: Vec<ToolRequest>,
    calls: usize,
    /// How much is kept for the digest.
    content_bytes: usize,
    sequence: u64,
}

impl Shared {
    fn report(&mut self, report: Result<Report, Untrusted>) {
        match report {
            Ok(report) => self.report = self.report.max(report),
            Err(Untrusted) => self.untrusted = true,
        }
    }

    fn deliver(&mut self, bytes: u64) {
        self.delivered = self.delivered.saturating_add(bytes);
    }

    /// Counts what is kept for the digest.
    fn keep(&mut self, bytes: usize) -> Result<(), WireError> {
        self.content_bytes = self.content_bytes.saturating_add(bytes);
        if self.content_bytes > self.limits.max_content_bytes {
            return Err(WireError::limit("the streamed answer is longer than the limit"));
        }
        Ok(())
    }

    /// Counts a tool call that begins.
    fn begin_call(&mut self) -> Result<(), WireError> {
        self.calls = self.calls.saturating_add(1);
        self.deliver(CALL_TOKENS);
        if self.calls > self.limits.max_tool_calls {
            return Err(WireError::limit(
                "the answer asks for more tool calls than the limit",
            ));
        }
        Ok(())
    }

    /// Whether arguments of this length may be.
    fn check_arguments(&self, len: usize) -> Result<(), WireError> {
        if len > self.limits.max_argument_bytes {
            return Err(WireError::limit(
                "the arguments of a tool call are longer than the limit",
            ));
        }
        Ok(())
    }

    fn request(&mut self, request: ToolRequest) -> Result<(), WireError> {
        self.check_arguments(request.args.text().len())?;
        self.requests.push(request);
        Ok(())
    }

    fn error(&mut self, error: Option<&RawValue>) {
        let kind = error
            .and_then(|error| Members::parse(error.get()).ok())
            .and_then(|error| {
                let known = |name| {
                    let word = error.str(name).ok().flatten()?;
                    PROVIDER_ERRORS.iter().find(|known| **known == word).copied()
                };
                known("type").or_else(|| known("code"))
            })
            .unwrap_or("other");
        self.provider_error.get_or_insert(ProviderError { kind });
    }
}

impl StreamMeter {
    /// A meter of an answer in `format`.
    #[must_use]
    pub fn new(format: Format, options: StreamOptions) -> Self {
        let state = match format {
            Format::AnthropicMessages => State::Anthropic(anthropic::Meter::default()),
            Format::OpenAiChat => State::Chat(chat::Meter::default()),
            Format::OpenAiResponses => State::Responses(responses::Meter::default()),
        };
        let shared = Shared {
            limits: options.limits,
            report: Report::default(),
            untrusted: false,
            delivered: 0,
            is_complete: false,
            provider_error: None,
            requests: Vec::new(),
            calls: 0,
            content_bytes: 0,
            sequence: 0,
        };
        Self {
            format,
            options,
            state,
            shared,
            splitter: Splitter::default(),
            buffer: BytesMut::new(),
            ready: 0,
            held: BytesMut::new(),
            is_first_event: true,
            failed: None,
        }
    }

    /// Takes the next bytes and appends what they complete to `out`.
    ///
    /// # Errors
    /// [`WireError`] for what cannot be understood or passes a limit. What was appended before it may still be
    /// forwarded; the stream is to be cut. Every later call gives the same error.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<Piece>) -> Result<(), WireError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        for step in bytes.chunks(STEP_BYTES) {
            self.buffer.extend_from_slice(step);
            let result = self.drain(false, out);
            self.flush(out);
            self.fail_on(result)?;
        }
        Ok(())
    }

    /// The stream ended. Reads what is left: a last event without its blank line, which some clients read too.
    ///
    /// # Errors
    /// [`WireErrorKind::Truncated`] where it ended inside an event or a tool call, of which nothing comes out; and as
    /// [`StreamMeter::feed`].
    pub fn finish(&mut self, out: &mut Vec<Piece>) -> Result<(), WireError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.drain(true, out).and_then(|()| self.last_event(out));
        self.flush(out);
        self.fail_on(result)
    }

    fn fail_on(&mut self, result: Result<(), WireError>) -> Result<(), WireError> {
        if let Err(error) = result {
            self.failed = Some(error);
            self.buffer = BytesMut::new();
            self.held = BytesMut::new();
            self.shared.requests = Vec::new();
        }
        result
    }

    fn last_event(&mut self, out: &mut Vec<Piece>) -> Result<(), WireError> {
        const TRUNCATED: WireError = WireError::new(
            WireErrorKind::Truncated,
            "the stream ended inside an event or a tool call",
        );
        let end = self.buffer.len();
        if end > self.ready {
            self.event(end, out).map_err(|error| match error.kind() {
                WireErrorKind::Malformed => TRUNCATED,
                _ => error,
            })?;
        }
        if self.is_holding() || !self.held.is_empty() {
            Err(TRUNCATED)
        } else {
            Ok(())
        }
    }

    fn drain(&mut self, is_last: bool, out: &mut Vec<Piece>) -> Result<(), WireError> {
        while let Some(end) = self.splitter.next_end(&self.buffer, is_last) {
            self.event(end, out)?;
        }
        if self.buffer.len().saturating_sub(self.ready) > self.options.limits.max_event_bytes {
            return Err(WireError::limit(
                "an event of the stream is longer than the limit",
            ));
        }
        Ok(())
    }

    /// Takes what is ready out of the buffer, as one piece.
    fn flush(&mut self, out: &mut Vec<Piece>) {
        if self.ready > 0 {
            let bytes = self.take(self.ready);
            self.ready = 0;
            out.push(Piece::Forward(bytes.freeze()));
        }
    }

    fn take(&mut self, count: usize) -> BytesMut {
        let count = count.min(self.buffer.len());
        self.splitter.consumed(count);
        self.buffer.split_to(count)
    }

    /// The event that begins where `ready` ends, up to `end`.
    fn event(&mut self, end: usize, out: &mut Vec<Piece>) -> Result<(), WireError> {
        let event = self.buffer.get(self.ready..end).unwrap_or_default();
        if event.len() > self.options.limits.max_event_bytes {
            return Err(WireError::limit(
                "an event of the stream is longer than the limit",
            ));
        }
        let mut readable = event;
        if mem::take(&mut self.is_first_event) {
            readable = event.strip_prefix(b"\xef\xbb\xbf").unwrap_or(event);
        }
        let was_holding = self.state.is_holding();
        let effect = self
            .state
            .read(readable, &mut self.shared, self.options.hide_usage_chunk)?;
        // Whoever counts nothing in what they sent has not counted.
        if self.shared.is_complete && self.shared.delivered > 0 && self.shared.report.denies_use() {
            self.shared.untrusted = true;
        }
        let is_holding = self.state.is_holding();
        if effect == Effect::Forward && !was_holding && !is_holding && self.shared.requests.is_empty() {
            self.ready = end;
            return Ok(());
        }
        let len = end.saturating_sub(self.ready);
        self.flush(out);
        let event = self.take(len);
        if effect == Effect::Forward {
            if self.held.is_empty() {
                self.held = event;
            } else {
                self.held.extend_from_slice(&event);
            }
        }
        if self.held.len() > self.options.limits.max_held_bytes {
            return Err(WireError::limit("more of the stream is held back than the limit"));
        }
        if !is_holding {
            out.extend(self.shared.requests.drain(..).map(Piece::ToolRequest));
            let held = mem::take(&mut self.held);
            if !held.is_empty() {
                out.push(Piece::Forward(held.freeze()));
            }
        }
        Ok(())
    }

    fn is_holding(&self) -> bool {
        self.state.is_holding()
    }

    /// The largest counts the provider reported so far; `None` where it has not reported both input and output, or
    /// reported something that cannot be believed: charge the bound.
    ///
    /// Before [`StreamMeter::is_complete`] this may be far too little: Anthropic reports the input and one token of
    /// output at the beginning. Then the larger of it and [`StreamMeter::delivered_output_bytes`] counts.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        if self.shared.untrusted {
            None
        } else {
            self.shared.report.usage()
        }
    }

    /// Whether usage was reported with counts that make no sense (none of output for an answer that says something), or a
    /// whole answer came and no report after its beginning.
    #[must_use]
    pub const fn usage_untrusted(&self) -> bool {
        self.shared.untrusted
    }

    /// How many bytes of output came so far, held ones included: text, reasoning that is shown, and for each tool
    /// call its name, its arguments and 64 more. No token is shorter than a byte, so no more tokens than this were
    /// delivered; what nobody is shown (reasoning) is not in it.
    #[must_use]
    pub const fn delivered_output_bytes(&self) -> u64 {
        self.shared.delivered
    }

    /// Whether the answer's own end came: `message_stop`, `[DONE]`, or `response.completed`, `.incomplete`, `.failed`.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.shared.is_complete
    }

    /// The first error that the provider reported in the stream.
    #[must_use]
    pub const fn provider_error(&self) -> Option<ProviderError> {
        self.shared.provider_error
    }

    /// What came so far, in the form of [`Response::content`](crate::Response::content), joined from its pieces.
    /// What a cut stream left unfinished is in it as far as it came.
    #[must_use]
    pub fn content(&self) -> Json {
        content::document(match &self.state {
            State::Anthropic(meter) => meter.content(),
            State::Chat(meter) => meter.content(),
            State::Responses(meter) => meter.content(),
        })
    }

    /// SHA-256 over the canonical form of [`StreamMeter::content`]: the log's `response_hash`. An answer in one piece
    /// with the same content has the same.
    #[must_use]
    pub fn content_digest(&self) -> Digest {
        self.content().digest()
    }

    /// The event that tells the client why its stream is cut, with the sequence number that is due.
    #[must_use]
    pub fn error_event(&self, refusal: &Refusal<'_>) -> Bytes {
        refusal::numbered_error_event(self.format, refusal, self.shared.sequence)
    }

    /// How many bytes it keeps back at the moment.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len().saturating_add(self.held.len())
    }
}

impl State {
    fn is_holding(&self) -> bool {
        match self {
            Self::Anthropic(meter) => meter.is_holding(),
            Self::Chat(meter) => meter.is_holding(),
            Self::Responses(meter) => meter.is_holding(),
        }
    }

    fn read(&mut self, event: &[u8], shared: &mut Shared, hide_usage: bool) -> Result<Effect, WireError> {
        let fields = sse::fields(event);
        let Some(data) = fields.data else {
            return Ok(Effect::Forward);
        };
        let data = std::str::from_utf8(&data).map_err(|_| WireError::malformed("an event is not UTF-8"))?;
        let data = data.trim_ascii();
        if data.is_empty() {
            return Ok(Effect::Forward);
        }
        if data == "[DONE]" {
            if let Self::Chat(meter) = self {
                meter.done(shared)?;
            }
            return Ok(Effect::Forward);
        }
        if !data.starts_with('{') {
            return Err(WireError::malformed("the data of an event is no JSON object"));
        }
        let name = fields.name.map_or(Ok(""), std::str::from_utf8);
        let name = name.map_err(|_| WireError::malformed("the name of an event is not UTF-8"))?;
        match self {
            Self::Anthropic(meter) => meter.read(name, data, shared).map(|()| Effect::Forward),
            Self::Chat(meter) => meter.read(data, shared).map(|is_usage_only| {
                if is_usage_only && hide_usage {
                    Effect::Hide
                } else {
                    Effect::Forward
                }
            }),
            Self::Responses(meter) => meter.read(name, data, shared).map(|()| Effect::Forward),
        }
    }
}

/// The type of an event, by its data and by its name, which must not contradict each other: clients differ in which
/// of them they go by.
fn event_kind<'a>(name: &'a str, kind: Option<&'a str>) -> Result<&'a str, WireError> {
    match kind {
        Some(kind) if name.is_empty() || name == kind || name == "message" => Ok(kind),
        Some(_) => Err(WireError::ambiguous("the name of an event contradicts its data")),
        None => Ok(name),
    }
}

/// A place in a list, by number.
fn index(raw: Option<&RawValue>) -> Result<u64, WireError> {
    raw.and_then(raw::count)
        .ok_or(WireError::field("an index is missing or no whole number"))
}
