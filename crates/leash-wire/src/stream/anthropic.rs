//! The events of Anthropic Messages.
//!
//! # Source
//! Anthropic API documentation, *Streaming Messages*.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Shared, event_kind, index};
use crate::content::separate;
use crate::raw::{self, Members, Str};
use crate::response::anthropic_requests;
use crate::tools::{self, push_member};
use crate::{WireError, usage};

#[derive(Default)]
pub(super) struct Meter {
    /// In the order in which they began.
    blocks: Vec<Block>,
    /// The open tool calls, as places in `blocks`.
    open_calls: usize,
    /// What `message_start` carried as content, which is nothing unless somebody is up to something.
    prefilled: Vec<String>,
    /// Whether usage was reported after the beginning, where it says one token of output whatever comes.
    has_end_usage: bool,
}

struct Block {
    index: u64,
    is_open: bool,
    is_call: bool,
    /// `content_block` as it came.
    start: String,
    /// Pieces as they are escaped on the wire, joined.
    text: String,
    thinking: String,
    signature: String,
    input: String,
    citations: Vec<String>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Str<'a>>,
    #[serde(borrow)]
    index: Option<&'a RawValue>,
    #[serde(borrow)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Str<'a>>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    thinking: Option<&'a RawValue>,
    #[serde(borrow)]
    signature: Option<&'a RawValue>,
    #[serde(borrow)]
    partial_json: Option<&'a RawValue>,
    #[serde(borrow)]
    citation: Option<&'a RawValue>,
}

const SHAPE: WireError = WireError::malformed("an event lacks what its type promises");
const STRAY: WireError = WireError::ambiguous("a piece of the answer belongs to no block that is open");

impl Meter {
    pub(super) const fn is_holding(&self) -> bool {
        self.open_calls > 0
    }

    pub(super) fn read(&mut self, name: &str, data: &str, shared: &mut Shared) -> Result<(), WireError> {
        let event: Event<'_> = raw::parse(data)?;
        match event_kind(name, event.kind.as_ref().map(|kind| &*kind.0))? {
            "content_block_delta" => self.delta(&event, shared),
            "content_block_start" => self.start(&event, shared),
            "content_block_stop" => self.stop(&event, shared),
            "message_start" => self.message(event.message.ok_or(SHAPE)?, shared),
            "message_delta" => {
                if let Some(raw) = event.usage {
                    let report = usage::anthropic(raw);
                    self.has_end_usage |= report.is_ok_and(|report| report.has_output());
                    shared.report(report);
                }
                Ok(())
            }
            "message_stop" => {
                if self.open_calls > 0 {
                    return Err(WireError::ambiguous("the message ended inside a tool call"));
                }
                if !self.has_end_usage {
                    shared.untrusted = true;
                }
                shared.is_complete = true;
                Ok(())
            }
            "error" => {
                shared.error(event.error);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn message(&mut self, message: &RawValue, shared: &mut Shared) -> Result<(), WireError> {
        let message = Members::parse(message.get())?;
        if let Some(raw) = message.get("usage") {
            shared.report(usage::anthropic(raw));
        }
        let Some(content) = message.get("content").filter(|content| !raw::is_empty(content)) else {
            return Ok(());
        };
        // Clients build on these blocks, so indices that follow would mean other blocks than they say.
        if !self.blocks.is_empty() {
            return Err(STRAY);
        }
        for request in anthropic_requests(content)? {
            shared.begin_call()?;
            shared.request(request?)?;
        }
        for block in raw::parse::<Vec<&RawValue>>(content.get())? {
            shared.keep(block.get().len().saturating_add(64))?;
            shared.deliver(u64::try_from(block.get().len()).unwrap_or(u64::MAX));
            self.prefilled.push(block.get().to_owned());
        }
        Ok(())
    }

    fn start(&mut self, event: &Event<'_>, shared: &mut Shared) -> Result<(), WireError> {
        let index = index(event.index)?;
        let start = event.content_block.ok_or(SHAPE)?;
        if self.blocks.last().is_some_and(|last| last.index >= index)
            || u64::try_from(self.prefilled.len()).unwrap_or(u64::MAX) > index
        {
            return Err(WireError::ambiguous(
                "a content block has the index of an earlier one",
            ));
        }
        let members = Members::parse(start.get())?;
        let is_call = members
            .str("type")?
            .is_some_and(|kind| tools::is_anthropic_call(&kind));
        if tools::ran_code(&members) {
            let ran = usage::Searches {
                code: 1,
                ..usage::Searches::default()
            };
            shared.report(Ok(usage::Report::default().with_searches(ran)));
        }
        if is_call {
            shared.begin_call()?;
            let name = members.get("name").map_or(0, |name| name.get().len());
            shared.deliver(u64::try_from(name).unwrap_or(u64::MAX));
            self.open_calls = self.open_calls.saturating_add(1);
        }
        for name in ["text", "thinking", "data"] {
            if let Some(text) = members.get(name).filter(|text| raw::is_string(text)) {
                shared.deliver(raw::decoded_len(raw::inner(text)?));
            }
        }
        shared.keep(start.get().len().saturating_add(256))?;
        self.blocks.push(Block {
            index,
            is_open: true,
            is_call,
            start: start.get().to_owned(),
            text: String::new(),
            thinking: String::new(),
            signature: String::new(),
            input: String::new(),
            citations: Vec::new(),
        });
        Ok(())
    }

    fn delta(&mut self, event: &Event<'_>, shared: &mut Shared) -> Result<(), WireError> {
        let delta: Delta<'_> = raw::parse(event.delta.ok_or(SHAPE)?.get())?;
        let index = index(event.index)?;
        let block = self.block(index).filter(|block| block.is_open);
        match delta.kind.as_ref().map(|kind| &*kind.0) {
            Some("text_delta") => {
                let text = raw::inner(delta.text.ok_or(SHAPE)?)?;
                shared.deliver(raw::decoded_len(text));
                shared.keep(text.len())?;
                block.ok_or(STRAY)?.text.push_str(text);
            }
            Some("thinking_delta") => {
                let thinking = raw::inner(delta.thinking.ok_or(SHAPE)?)?;
                shared.deliver(raw::decoded_len(thinking));
                shared.keep(thinking.len())?;
                block.ok_or(STRAY)?.thinking.push_str(thinking);
            }
            Some("input_json_delta") => {
                let json = raw::inner(delta.partial_json.ok_or(SHAPE)?)?;
                shared.deliver(raw::decoded_len(json));
                shared.keep(json.len())?;
                let block = block.ok_or(STRAY)?;
                block.input.push_str(json);
                if block.is_call {
                    shared.check_arguments(block.input.len())?;
                }
            }
            Some("signature_delta") => {
                let signature = raw::inner(delta.signature.ok_or(SHAPE)?)?;
                shared.keep(signature.len())?;
                block.ok_or(STRAY)?.signature.push_str(signature);
            }
            Some("citations_delta") => {
                let citation = delta.citation.ok_or(SHAPE)?.get();
                shared.keep(citation.len().saturating_add(32))?;
                block.ok_or(STRAY)?.citations.push(citation.to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    /// The block with this index; nearly always the last.
    fn block(&mut self, index: u64) -> Option<&mut Block> {
        self.blocks
            .iter_mut()
            .rev()
            .find(|block| block.index <= index)
            .filter(|block| block.index == index)
    }

    fn stop(&mut self, event: &Event<'_>, shared: &mut Shared) -> Result<(), WireError> {
        let index = index(event.index)?;
        let Some(block) = self.block(index).filter(|block| block.is_open) else {
            return Ok(());
        };
        block.is_open = false;
        if !block.is_call {
            return Ok(());
        }
        let start = Members::parse(&block.start)?;
        let id = start.str("id")?.unwrap_or_default();
        let name = start.str("name")?.unwrap_or_default();
        let request = tools::request(&id, &name, tools::arguments(&block.arguments(&start)?)?)?;
        self.open_calls = self.open_calls.saturating_sub(1);
        shared.request(request)
    }

    /// The content as it is so far.
    pub(super) fn content(&self) -> String {
        let mut out = String::from("[");
        for prefilled in &self.prefilled {
            separate(&mut out);
            out.push_str(prefilled);
        }
        for block in &self.blocks {
            separate(&mut out);
            block.write(&mut out);
        }
        out.push(']');
        out
    }
}

impl Block {
    /// The arguments: what the pieces make, else what the block began with. Both would leave it to the client.
    fn arguments(&self, start: &Members<'_>) -> Result<String, WireError> {
        let begun = start
            .get("input")
            .filter(|input| !raw::is_empty(input))
            .map_or("", RawValue::get);
        if self.input.is_empty() {
            return Ok(begun.to_owned());
        }
        if begun.is_empty() {
            return raw::unescape(&self.input).map(std::borrow::Cow::into_owned);
        }
        Err(WireError::ambiguous("a tool call has its arguments twice"))
    }

    fn write(&self, out: &mut String) {
        let Ok(start) = Members::parse(&self.start) else {
            out.push_str(&self.start);
            return;
        };
        let mut members: Vec<(&str, String)> = start
            .0
            .iter()
            .filter(|(_, value)| value.get() != "null")
            .map(|(name, value)| (&**name, value.get().to_owned()))
            .collect();
        let mut set =
            |name: &'static str, value: String| match members.iter_mut().find(|(known, _)| *known == name) {
                Some((_, old)) => *old = value,
                None => members.push((name, value)),
            };
        for (name, added) in [
            ("text", &self.text),
            ("thinking", &self.thinking),
            ("signature", &self.signature),
        ] {
            if !added.is_empty() {
                let begun = start
                    .get(name)
                    .and_then(|text| raw::inner(text).ok())
                    .unwrap_or_default();
                set(name, format!("\"{begun}{added}\""));
            }
        }
        if !self.input.is_empty() {
            // What is no JSON stays the text that it is.
            let input = raw::unescape(&self.input)
                .ok()
                .filter(|input| leash_core::Json::parse(&**input).is_ok());
            set(
                "input",
                input.map_or_else(|| format!("\"{}\"", self.input), std::borrow::Cow::into_owned),
            );
        }
        if !self.citations.is_empty() {
            let begun = start
                .get("citations")
                .filter(|begun| raw::is_array(begun) && !raw::is_empty(begun));
            let begun = begun
                .and_then(|begun| begun.get().strip_suffix(']'))
                .unwrap_or("[");
            let mut citations = begun.to_owned();
            for citation in &self.citations {
                separate(&mut citations);
                citations.push_str(citation);
            }
            citations.push(']');
            set("citations", citations);
        }
        out.push('{');
        for (name, value) in &members {
            push_member(out, name, value);
        }
        out.push('}');
    }
}
