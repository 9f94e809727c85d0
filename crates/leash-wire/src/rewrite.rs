//! A request as it leaves: [`outgoing_body`]. Changes what it is asked to and not a byte else.

use std::ops::Range;

use bytes::Bytes;
use leash_core::Json;
use serde_json::value::RawValue;

use crate::raw::{self, Members};
use crate::request::{output_limits, runs_at_anthropic, takes_max_uses};
use crate::{Format, WireError};

/// What is to be changed in a request before it leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// Ask for the usage chunk at the end of a streamed chat completion. Means nothing to the other formats.
    pub include_usage: bool,
    /// Let no more than this many tokens come out (of each choice): limits above it are lowered to it, and it is
    /// added where there is none. The least the provider accepts is not known here (OpenAI Responses wants 16).
    pub max_output_tokens: Option<u64>,
    /// Let the provider run its own tools no more often than this in all, where the request says no number: `max_tool_calls`
    /// of OpenAI Responses; of Anthropic the `max_uses` of each tool that takes one, which share what the others leave. Means
    /// nothing to chat completions, which have no such member, nor to tools of Anthropic that run code or search for tools.
    pub max_tool_calls: Option<u64>,
}

/// The bytes to send: `body` with the changes of `outgoing`, all else byte for byte as it was, order of members,
/// unknown ones, spacing and number texts included.
///
/// # Errors
/// [`WireErrorKind::Field`](crate::WireErrorKind::Field) where a member that is to be changed has a wrong type, or where
/// the tools that the provider runs may be used more often, by what the request says of some, than is left for all of them.
///
/// ```
/// use leash_core::Json;
/// use leash_wire::{Format, Outgoing, outgoing_body};
///
/// let body = Json::parse(r#"{"model": "gpt-5", "temperature": 1.0, "stream": true}"#)?;
/// let outgoing = Outgoing { include_usage: true, ..Outgoing::default() };
/// let sent = outgoing_body(Format::OpenAiChat, &body, &outgoing)?;
/// let wanted = r#"{"model": "gpt-5", "temperature": 1.0, "stream": true,"stream_options":{"include_usage":true}}"#;
/// assert_eq!(sent, wanted);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn outgoing_body(format: Format, body: &Json, outgoing: &Outgoing) -> Result<Bytes, WireError> {
    let text = body.text();
    let mut edits = Edits {
        text,
        replaced: Vec::new(),
        added: String::new(),
    };
    let members = Members::parse(text)?;
    if outgoing.include_usage && format == Format::OpenAiChat {
        edits.include_usage(&members)?;
    }
    if let Some(max) = outgoing.max_output_tokens {
        edits.clamp(format, &members, max)?;
    }
    match (outgoing.max_tool_calls, format) {
        (Some(max), Format::OpenAiResponses) if members.get("max_tool_calls").is_none() => {
            edits.set("max_tool_calls", &members, max)?;
        }
        (Some(max), Format::AnthropicMessages) => edits.limit_uses(&members, max)?,
        _ => {}
    }
    edits.apply(members.0.is_empty())
}

struct Edits<'a> {
    text: &'a str,
    replaced: Vec<(Range<usize>, String)>,
    added: String,
}

impl Edits<'_> {
    fn replace(&mut self, value: &RawValue, with: String) -> Result<(), WireError> {
        let range = range_within(self.text, value.get()).ok_or(WireError::malformed("the request moved"))?;
        self.replaced.push((range, with));
        Ok(())
    }

    fn add(&mut self, name: &str, value: &str) {
        if !self.added.is_empty() {
            self.added.push(',');
        }
        raw::push_str(&mut self.added, name);
        self.added.push(':');
        self.added.push_str(value);
    }

    fn include_usage(&mut self, members: &Members<'_>) -> Result<(), WireError> {
        let Some(options) = members.0.get("stream_options").copied() else {
            self.add("stream_options", r#"{"include_usage":true}"#);
            return Ok(());
        };
        if options.get() == "null" {
            return self.replace(options, r#"{"include_usage":true}"#.to_owned());
        }
        let inside = Members::parse(options.get())
            .map_err(|_| WireError::field("`stream_options` must be an object"))?;
        match inside.0.get("include_usage").copied() {
            Some(wish) if wish.get() == "true" => Ok(()),
            Some(wish) => self.replace(wish, "true".to_owned()),
            None => {
                let comma = if inside.0.is_empty() { "" } else { "," };
                let rest = options.get().strip_prefix('{').unwrap_or("}");
                self.replace(options, format!(r#"{{"include_usage":true{comma}{rest}"#))
            }
        }
    }

    fn clamp(&mut self, format: Format, members: &Members<'_>, max: u64) -> Result<(), WireError> {
        let names = output_limits(format);
        let mut is_bounded = false;
        for name in names {
            let Some(value) = members.get(name) else { continue };
            is_bounded = true;
            let asked =
                raw::count(value).ok_or(WireError::field("an output limit must be a whole number"))?;
            if asked > max {
                self.replace(value, max.to_string())?;
            }
        }
        if !is_bounded && let Some(name) = names.first() {
            self.set(name, members, max)?;
        }
        Ok(())
    }

    /// Divides `most` uses among the tools that the provider runs: what some set for themselves is theirs, and the rest
    /// belongs to the others in equal parts.
    fn limit_uses(&mut self, members: &Members<'_>, most: u64) -> Result<(), WireError> {
        let mut left = most;
        // What cannot be told a number takes its part all the same.
        let mut sharing = u64::from(members.has("mcp_servers"));
        let mut open = Vec::new();
        if let Some(tools) = members.get("tools") {
            for tool in raw::parse::<Vec<&RawValue>>(tools.get())? {
                let inside = Members::parse(tool.get())?;
                let kind = inside.str("type")?.unwrap_or_default();
                if !runs_at_anthropic(&kind) {
                    continue;
                }
                if let Some(uses) = inside.get("max_uses") {
                    let uses =
                        raw::count(uses).ok_or(WireError::field("`max_uses` must be a whole number"))?;
                    left = left.saturating_sub(uses);
                    continue;
                }
                sharing = sharing.saturating_add(1);
                if takes_max_uses(&kind) {
                    open.push((tool, inside));
                }
            }
        }
        let Some(part) = left.checked_div(sharing) else {
            return Ok(());
        };
        if part == 0 {
            return Err(WireError::field(
                "the tools that the provider runs may be used more often than the ceiling allows: set `max_uses` for each",
            ));
        }
        for (tool, inside) in open {
            if let Some(null) = inside.0.get("max_uses").copied() {
                self.replace(null, part.to_string())?;
            } else {
                let comma = if inside.0.is_empty() { "" } else { "," };
                let rest = tool.get().strip_prefix('{').unwrap_or("}");
                self.replace(tool, format!(r#"{{"max_uses":{part}{comma}{rest}"#))?;
            }
        }
        Ok(())
    }

    /// Gives a member that is absent or `null` a value.
    fn set(&mut self, name: &str, members: &Members<'_>, value: u64) -> Result<(), WireError> {
        let text = value.to_string();
        if let Some(null) = members.0.get(name).copied() {
            return self.replace(null, text);
        }
        self.add(name, &text);
        Ok(())
    }

    fn apply(mut self, is_empty: bool) -> Result<Bytes, WireError> {
        if self.replaced.is_empty() && self.added.is_empty() {
            return Ok(Bytes::copy_from_slice(self.text.as_bytes()));
        }
        self.replaced.sort_by_key(|(range, _)| range.start);
        let moved = || WireError::malformed("the request moved");
        let mut out = String::with_capacity(
            self.text
                .len()
                .saturating_add(self.added.len())
                .saturating_add(64),
        );
        let mut from = 0;
        for (range, with) in &self.replaced {
            out.push_str(self.text.get(from..range.start).ok_or_else(moved)?);
            out.push_str(with);
            from = range.end;
        }
        let tail = self.text.get(from..).ok_or_else(moved)?;
        if self.added.is_empty() {
            out.push_str(tail);
            return Ok(Bytes::from(out));
        }
        let (before, after) = tail.rsplit_once('}').ok_or_else(moved)?;
        out.push_str(before);
        if !is_empty {
            out.push(',');
        }
        out.push_str(&self.added);
        out.push('}');
        out.push_str(after);
        Ok(Bytes::from(out))
    }
}

/// Where `part`, which was borrowed from `whole`, stands in it.
fn range_within(whole: &str, part: &str) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    let end = start.checked_add(part.len())?;
    (whole.get(start..end)? == part).then_some(start..end)
}
