//! The chunks of OpenAI Chat Completions, and of the many servers that speak it too.
//!
//! # Source
//! OpenAI API reference, *Chat completion chunk object*.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Shared;
use crate::WireError;
use crate::content::{self, CHAT_TEXTS, CallPiece, ChatMessage, FunctionPiece};
use crate::raw::{self, Str};
use crate::usage::{self, Report};

#[derive(Default)]
pub(super) struct Meter {
    choices: BTreeMap<u64, Choice>,
    /// How many choices have tool calls that are not complete.
    open: usize,
}

#[derive(Default)]
struct Choice {
    message: ChatMessage,
    has_open_calls: bool,
    is_finished: bool,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    choices: Option<Vec<ChunkChoice<'a>>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    service_tier: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ChunkChoice<'a> {
    index: Option<u64>,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    role: Option<Str<'a>>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<Vec<CallPiece<'a>>>,
    #[serde(borrow)]
    function_call: Option<FunctionPiece<'a>>,
}

impl Meter {
    pub(super) const fn is_holding(&self) -> bool {
        self.open > 0
    }

    /// Reads a chunk, and says whether it holds usage and no choices.
    pub(super) fn read(&mut self, data: &str, shared: &mut Shared) -> Result<bool, WireError> {
        let chunk: Chunk<'_> = raw::parse(data)?;
        let tier = usage::tier(chunk.service_tier);
        let report = chunk.usage.map_or_else(|| Ok(Report::default()), usage::openai);
        shared.report(report.map(|report| report.with_tier(tier)));
        if chunk.error.is_some() {
            shared.error(chunk.error);
        }
        let is_usage_only = chunk.usage.is_some()
            && chunk.error.is_none()
            && chunk.choices.as_ref().is_none_or(Vec::is_empty);
        for choice in chunk.choices.unwrap_or_default() {
            self.choice(choice, shared)?;
        }
        Ok(is_usage_only)
    }

    /// The end of the stream: whatever is open is complete.
    pub(super) fn done(&mut self, shared: &mut Shared) -> Result<(), WireError> {
        shared.is_complete = true;
        for choice in self.choices.values_mut() {
            choice.finish(&mut self.open, shared)?;
        }
        Ok(())
    }

    fn choice(&mut self, piece: ChunkChoice<'_>, shared: &mut Shared) -> Result<(), WireError> {
        // Whole messages have no place in chunks; a client that reads them all the same would see other calls.
        if piece.message.is_some() {
            return Err(WireError::ambiguous("a chunk holds a whole message"));
        }
        let index = piece.index.unwrap_or(0);
        if !self.choices.contains_key(&index) {
            shared.keep(256)?;
        }
        let choice = self.choices.entry(index).or_default();
        if let Some(delta) = piece.delta {
            choice.delta(&delta, &mut self.open, shared)?;
        }
        if piece.finish_reason.is_some_and(|reason| !raw::is_empty(reason)) {
            choice.is_finished = true;
            choice.finish(&mut self.open, shared)?;
        }
        Ok(())
    }

    /// The messages as they are so far.
    pub(super) fn content(&self) -> String {
        content::chat(self.choices.values().map(|choice| &choice.message))
    }
}

impl Choice {
    fn delta(&mut self, delta: &Delta<'_>, open: &mut usize, shared: &mut Shared) -> Result<(), WireError> {
        if let Some(Str(role)) = &delta.role
            && self.message.role.is_empty()
        {
            shared.keep(role.len())?;
            role.as_ref().clone_into(&mut self.message.role);
        }
        let texts = [
            delta.content,
            delta.refusal,
            delta.reasoning_content,
            delta.reasoning,
        ];
        for (name, text) in CHAT_TEXTS.into_iter().zip(texts) {
            let Some(text) = text else { continue };
            if raw::is_string(text) {
                let inner = raw::inner(text)?;
                shared.deliver(raw::decoded_len(inner));
                shared.keep(inner.len())?;
                self.message.texts.entry(name).or_default().push_str(inner);
            } else {
                shared.deliver(u64::try_from(text.get().len()).unwrap_or(u64::MAX));
                shared.keep(text.get().len().saturating_add(32))?;
                self.message.others.push((name, text.get().to_owned()));
            }
        }
        let pieces = delta.tool_calls.as_deref().unwrap_or_default();
        if pieces.is_empty() && delta.function_call.is_none() {
            return Ok(());
        }
        if self.is_finished {
            return Err(WireError::ambiguous(
                "a choice goes on calling tools after it finished",
            ));
        }
        if !self.has_open_calls {
            self.has_open_calls = true;
            *open = open.saturating_add(1);
        }
        for (place, piece) in (0_u64..).zip(pieces) {
            let index = match piece.index {
                Some(index) => super::index(Some(index))?,
                None => place,
            };
            if !self.message.calls.contains_key(&index) {
                shared.begin_call()?;
            }
            let call = self.message.calls.entry(index).or_default();
            let bytes = call.add(piece)?;
            count(bytes, call.text.len(), shared)?;
        }
        if let Some(piece) = &delta.function_call {
            if self.message.function_call.is_none() {
                shared.begin_call()?;
            }
            let call = self.message.function_call.get_or_insert_default();
            let bytes = call.add_function(piece)?;
            count(bytes, call.text.len(), shared)?;
        }
        Ok(())
    }

    fn finish(&mut self, open: &mut usize, shared: &mut Shared) -> Result<(), WireError> {
        if !self.has_open_calls {
            return Ok(());
        }
        for request in self.message.requests() {
            shared.request(request?)?;
        }
        self.has_open_calls = false;
        self.is_finished = true;
        *open = open.saturating_sub(1);
        Ok(())
    }
}

fn count(bytes: u64, length: usize, shared: &mut Shared) -> Result<(), WireError> {
    shared.deliver(bytes);
    shared.keep(usize::try_from(bytes).unwrap_or(usize::MAX))?;
    shared.check_arguments(length)
}
