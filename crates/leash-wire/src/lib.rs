//! The wire formats of model providers: what a request asks for, and what an answer used and wants called.
//!
//! - Which call is it: [`classify`], by method and path. Unknown calls are refused, not guessed.
//! - What does it ask for: [`Request`], with an upper bound of its input and output; [`outgoing_body`] changes what
//!   has to be changed and not a byte else.
//! - What came of it: [`Response`] for an answer in one piece, [`StreamMeter`] for one that streams, which holds each
//!   tool call back until it is complete, so that it can be judged before the agent sees it.
//! - How to say no: [`Refusal`], [`error_body`], [`error_event`]. Whether a failure was billed: [`not_billed`].
//!
//! Formats are Anthropic Messages, OpenAI Chat Completions and OpenAI Responses.
//!
//! Its invariant: no I/O and no clock. It knows neither HTTP clients nor budgets nor rules, only bytes and the types
//! of `leash-core`. What comes in is hostile: every buffer has a limit ([`Limits`]), a count that makes no sense is
//! no count, what could be read in two ways is an error, and no error quotes input.
//!
//! ```
//! use leash_wire::{Endpoint, Limits, Outgoing, Piece, Request, StreamMeter, classify, outgoing_body};
//!
//! let Endpoint::Model(format) = classify("POST", "/v1/chat/completions") else { panic!("refuse it") };
//! let body = br#"{"model":"gpt-5","stream":true,"max_completion_tokens":50,"messages":[{"role":"user","content":"Hi"}]}"#;
//! let request = Request::parse(format, body, &Limits::default())?;
//! assert_eq!(request.max_output_tokens, Some(50));
//!
//! // What leaves asks for usage, which the client did not; so its chunk is hidden again.
//! let outgoing = Outgoing { include_usage: request.wants_usage_injected(), ..Outgoing::default() };
//! let sent = outgoing_body(format, &request.body, &outgoing)?;
//! assert!(sent.ends_with(br#","stream_options":{"include_usage":true}}"#));
//!
//! let mut meter = StreamMeter::new(format, request.stream_options(Limits::default()));
//! let mut pieces = Vec::new();
//! for bytes in [
//!     &b"data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c1\","[..],
//!     b"\"function\":{\"name\":\"ls\",\"arguments\":\"{}\"}}]}}]}\n\n",
//!     b"data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n",
//!     b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":12}}\n\ndata: [DONE]\n\n",
//! ] {
//!     meter.feed(bytes, &mut pieces)?;
//! }
//! meter.finish(&mut pieces)?;
//! assert!(matches!(&pieces[0], Piece::ToolRequest(request) if &*request.tool == "ls"));
//! assert!(matches!(&pieces[1], Piece::Forward(_)));
//! assert_eq!(meter.usage().map(|usage| usage.output_tokens), Some(12));
//! # Ok::<(), leash_wire::WireError>(())
//! ```

mod content;
mod error;
mod format;
mod limits;
mod raw;
mod refusal;
mod request;
mod response;
mod rewrite;
mod sse;
mod stream;
mod tools;
mod usage;

pub use self::error::{WireError, WireErrorKind};
pub use self::format::{Endpoint, Format, FreeEndpoint, classify, deployment, is_regional};
pub use self::limits::Limits;
pub use self::refusal::{
    REFUSAL_STATUS, Refusal, check_encoding, error_body, error_event, headers, is_event_stream, not_billed,
};
pub use self::request::Request;
pub use self::response::Response;
pub use self::rewrite::{Outgoing, outgoing_body};
pub use self::stream::{Piece, ProviderError, StreamMeter, StreamOptions};
