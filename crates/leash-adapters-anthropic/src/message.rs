//! An answer in one piece: [`Message`].

use std::fmt;
use std::sync::Arc;

use leash_core::{Json, Usage};
use leash_firewall::Receipt;
use leash_wire::{Format, Limits, Response};
use serde_json::Value;

use crate::AnthropicError;

/// An answer as it came, with accessors for what agents mostly want. Its `Debug` shows no text of it.
#[derive(Clone, Debug)]
pub struct Message {
    raw: Json,
    usage: Option<Usage>,
    receipt: Option<Arc<Receipt>>,
}

/// A tool call that the model asks for. Rules and humans have let it pass. Its `Debug` shows no arguments.
#[derive(Clone, Copy, PartialEq)]
pub struct ToolUse<'a> {
    /// The provider's name of it, which the `tool_result` refers to.
    pub id: &'a str,
    /// The tool.
    pub name: &'a str,
    /// The arguments.
    pub input: &'a Value,
}

impl fmt::Debug for ToolUse<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolUse")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Message {
    pub(crate) fn read(
        body: &[u8],
        limits: &Limits,
        receipt: Option<Receipt>,
    ) -> Result<Self, AnthropicError> {
        let response = Response::parse(Format::AnthropicMessages, body, limits)
            .map_err(|error| AnthropicError::Answer(error.message()))?;
        let raw = std::str::from_utf8(body)
            .ok()
            .and_then(|text| Json::parse(text).ok());
        let raw = raw.ok_or(AnthropicError::Answer("the answer is not JSON with one reading"))?;
        Ok(Self {
            usage: response.usage(),
            raw,
            receipt: receipt.map(Arc::new),
        })
    }

    /// The whole answer, to the byte.
    #[must_use]
    pub const fn raw(&self) -> &Json {
        &self.raw
    }

    fn member(&self, name: &str) -> Option<&Value> {
        self.raw.value().get(name)
    }

    /// The blocks of its content, of every type, for the next request's `messages`.
    #[must_use]
    pub fn content(&self) -> &[Value] {
        self.member("content")
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice)
    }

    fn blocks<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.content()
            .iter()
            .filter(move |block| block.get("type").and_then(Value::as_str) == Some(kind))
    }

    /// The text of all its text blocks, joined.
    #[must_use]
    pub fn text(&self) -> String {
        self.blocks("text")
            .filter_map(|block| block.get("text")?.as_str())
            .collect()
    }

    /// The tools that the client is to run.
    pub fn tool_uses(&self) -> impl Iterator<Item = ToolUse<'_>> {
        self.blocks("tool_use").filter_map(|block| {
            let text = |name| block.get(name).and_then(Value::as_str);
            Some(ToolUse {
                id: text("id")?,
                name: text("name")?,
                input: block.get("input")?,
            })
        })
    }

    /// Why the model stopped: `end_turn`, `max_tokens`, `tool_use` and so on.
    #[must_use]
    pub fn stop_reason(&self) -> Option<&str> {
        self.member("stop_reason")?.as_str()
    }

    /// What the provider says it billed; `None` where it says nothing that can be believed.
    #[must_use]
    pub const fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// What the call was charged, and what went wrong with its paperwork, if anything did.
    #[must_use]
    pub fn receipt(&self) -> Option<&Receipt> {
        self.receipt.as_deref()
    }

    /// The provider's name of the answer.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.member("id")?.as_str()
    }

    /// The model that answered.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.member("model")?.as_str()
    }
}
