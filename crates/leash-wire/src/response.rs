//! An answer that came in one piece: [`Response`]. Knows no streams.

use std::collections::BTreeMap;

use leash_core::{Digest, Json, ToolRequest, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::content::{self, ChatMessage};
use crate::raw::{self, Members};
use crate::usage::{self, Report, Searches, Untrusted};
use crate::{Format, Limits, WireError, tools};

/// What an answer used, what it holds, and what it asks for.
///
/// Its `Debug` shows no text of the answer but tool names and ids.
#[derive(Clone, Debug)]
pub struct Response {
    usage: Option<Usage>,
    usage_untrusted: bool,
    stop_reason: Option<Box<str>>,
    content: Json,
    tool_requests: Result<Vec<ToolRequest>, WireError>,
}

impl Response {
    /// Reads the body of an answer with a status of success.
    ///
    /// # Errors
    /// [`WireError`] for what is too long, not JSON with one reading, or of another shape. The provider was paid all
    /// the same: charge the bound.
    ///
    /// ```
    /// use leash_wire::{Format, Limits, Response};
    ///
    /// let body = br#"{"content":[{"type":"tool_use","id":"t1","name":"ls","input":{"path":"/"}}],
    ///     "stop_reason":"tool_use","usage":{"input_tokens":12,"output_tokens":7}}"#;
    /// let response = Response::parse(Format::AnthropicMessages, body, &Limits::default())?;
    /// assert_eq!(response.usage().map(|usage| usage.output_tokens), Some(7));
    /// assert_eq!(&*response.tool_requests()?[0].tool, "ls");
    /// # Ok::<(), leash_wire::WireError>(())
    /// ```
    pub fn parse(format: Format, body: &[u8], limits: &Limits) -> Result<Self, WireError> {
        if body.len() > limits.max_body_bytes {
            return Err(WireError::limit("the answer is larger than the limit"));
        }
        let text = std::str::from_utf8(body).map_err(|_| WireError::malformed("the answer is not UTF-8"))?;
        leash_core::canonical::check(body)
            .map_err(|_| WireError::malformed("the answer is not JSON with one reading"))?;
        let members = Members::parse(text)?;
        let report = match members.get("usage") {
            Some(raw) if format == Format::AnthropicMessages => usage::anthropic(raw),
            Some(raw) => usage::openai(raw),
            None => Ok(Report::default()),
        };
        let parsed = match format {
            Format::AnthropicMessages => anthropic(&members, limits)?,
            Format::OpenAiChat => chat(&members, limits)?,
            Format::OpenAiResponses => responses(&members, limits)?,
        };
        let tier = usage::tier(members.get("service_tier"));
        let usage = match report {
            // Whoever counts nothing in what they sent has not counted.
            Ok(report) if parsed.says_something && report.denies_use() => Err(Untrusted),
            report => report.map(|report| report.with_searches(parsed.searches).with_tier(tier).usage()),
        };
        Ok(Self {
            usage: usage.unwrap_or(None),
            usage_untrusted: usage == Err(Untrusted),
            stop_reason: parsed.stop_reason,
            content: content::document(parsed.content),
            tool_requests: parsed.requests,
        })
    }

    /// What the provider says it billed; `None` where it says nothing, or nothing to believe: charge the bound.
    #[must_use]
    pub const fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Whether usage was reported with counts that make no sense, such as none of output for an answer that says
    /// something.
    #[must_use]
    pub const fn usage_untrusted(&self) -> bool {
        self.usage_untrusted
    }

    /// Why the model stopped, in the provider's words.
    #[must_use]
    pub fn stop_reason(&self) -> Option<&str> {
        self.stop_reason.as_deref()
    }

    /// What the answer holds, in the form that the log's `response_hash` is taken of. A stream of the same answer
    /// has the same one.
    ///
    /// - Anthropic: `content`, blocks without their `null` members.
    /// - Chat Completions: the choices' messages in order of their index, of each `role`, `content`, `refusal`,
    ///   `reasoning_content` or `reasoning`, `tool_calls` and `function_call`, without those that are empty.
    /// - Responses: `output`.
    #[must_use]
    pub const fn content(&self) -> &Json {
        &self.content
    }

    /// SHA-256 over the canonical form of [`Response::content`]: the log's `response_hash`.
    #[must_use]
    pub fn content_digest(&self) -> Digest {
        self.content.digest()
    }

    /// The tools that the answer asks for, of all its choices, in order.
    ///
    /// # Errors
    /// [`WireError`] where one of them cannot be judged (arguments with two readings, no name). The answer must not
    /// reach the agent then; its usage stands.
    pub fn tool_requests(&self) -> Result<&[ToolRequest], WireError> {
        match &self.tool_requests {
            Ok(requests) => Ok(requests),
            Err(error) => Err(*error),
        }
    }
}

struct Parsed {
    content: String,
    stop_reason: Option<Box<str>>,
    requests: Result<Vec<ToolRequest>, WireError>,
    searches: Searches,
    /// Whether there is any output, so that there must have been tokens.
    says_something: bool,
}

/// Gathers requests up to the limit.
pub(crate) fn gather(
    requests: impl Iterator<Item = Result<ToolRequest, WireError>>,
    limits: &Limits,
) -> Result<Vec<ToolRequest>, WireError> {
    let mut gathered = Vec::new();
    for request in requests {
        if gathered.len() >= limits.max_tool_calls {
            return Err(WireError::limit(
                "the answer asks for more tool calls than the limit",
            ));
        }
        let request = request?;
        if request.args.text().len() > limits.max_argument_bytes {
            return Err(WireError::limit(
                "the arguments of a tool call are longer than the limit",
            ));
        }
        gathered.push(request);
    }
    Ok(gathered)
}

fn reason(raw: Option<&RawValue>) -> Option<Box<str>> {
    raw.and_then(|raw| raw::text(raw).ok())
        .filter(|text| text.len() <= 64)
        .map(|text| text.as_ref().into())
}

fn anthropic(members: &Members<'_>, limits: &Limits) -> Result<Parsed, WireError> {
    let mut searches = Searches::default();
    let (content, requests) = match members.get("content") {
        Some(raw) => {
            let blocks: Vec<Members<'_>> = raw::parse(raw.get())?;
            searches.code = u64::from(blocks.iter().any(tools::ran_code));
            (content::anthropic(raw)?, gather(anthropic_requests(raw)?, limits))
        }
        None => ("[]".to_owned(), Ok(Vec::new())),
    };
    Ok(Parsed {
        content,
        stop_reason: reason(members.get("stop_reason")),
        requests,
        searches,
        says_something: members.has("content"),
    })
}

/// The tool calls among the blocks of Anthropic's `content`.
pub(crate) fn anthropic_requests(
    content: &RawValue,
) -> Result<impl Iterator<Item = Result<ToolRequest, WireError>>, WireError> {
    let blocks: Vec<Members<'_>> = raw::parse(content.get())?;
    let request = |block: Members<'_>| -> Result<Option<ToolRequest>, WireError> {
        if !block
            .str("type")?
            .is_some_and(|kind| tools::is_anthropic_call(&kind))
        {
            return Ok(None);
        }
        let id = block.str("id")?.unwrap_or_default();
        let name = block.str("name")?.unwrap_or_default();
        tools::request(
            &id,
            &name,
            tools::arguments(block.get("input").map_or("", RawValue::get))?,
        )
        .map(Some)
    };
    Ok(blocks
        .into_iter()
        .filter_map(move |block| request(block).transpose()))
}

#[derive(Deserialize)]
struct Choice<'a> {
    index: Option<u64>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
}

fn chat(members: &Members<'_>, limits: &Limits) -> Result<Parsed, WireError> {
    let choices: Vec<Choice<'_>> = match members.get("choices") {
        Some(raw) => raw::parse(raw.get())?,
        None => Vec::new(),
    };
    let mut messages = BTreeMap::new();
    let mut stop_reason = None;
    let mut unreadable = None;
    for choice in &choices {
        stop_reason = stop_reason.or_else(|| reason(choice.finish_reason));
        let Some(message) = choice.message else { continue };
        match ChatMessage::parse(message) {
            Ok(message) => {
                if messages.insert(choice.index.unwrap_or(0), message).is_some() {
                    unreadable = Some(WireError::ambiguous("two choices have one index"));
                }
            }
            Err(error) => unreadable = Some(error),
        }
    }
    let requests = match unreadable {
        Some(error) => Err(error),
        None => gather(messages.values().flat_map(ChatMessage::requests), limits),
    };
    Ok(Parsed {
        content: content::chat(messages.values()),
        stop_reason,
        requests,
        searches: Searches::default(),
        says_something: messages.values().any(ChatMessage::says_something),
    })
}

fn responses(members: &Members<'_>, limits: &Limits) -> Result<Parsed, WireError> {
    let output = members.get("output");
    let items: Vec<&RawValue> = match output {
        Some(raw) => raw::parse(raw.get())?,
        None => Vec::new(),
    };
    let calls = items.iter().filter_map(|item| match tools::item_call(item) {
        Ok(Some(call)) => Some(call.request()),
        Ok(None) => None,
        Err(error) => Some(Err(error)),
    });
    let requests = gather(calls, limits);
    let incomplete = members
        .get("incomplete_details")
        .and_then(|details| Members::parse(details.get()).ok())
        .and_then(|details| reason(details.get("reason")));
    Ok(Parsed {
        content: output.map_or("[]", RawValue::get).to_owned(),
        stop_reason: incomplete.or_else(|| reason(members.get("status"))),
        requests,
        searches: tools::searches(&items),
        says_something: !items.is_empty(),
    })
}
