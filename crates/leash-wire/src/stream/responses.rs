//! The events of OpenAI Responses, which say most things three times.
//!
//! A function call comes as `output_item.added`, deltas of its arguments, `function_call_arguments.done`,
//! `output_item.done`, and once more in `response.completed`. Clients differ in which they go by, so all must agree.
//!
//! # Source
//! OpenAI API reference, *Responses*, "Streaming events".

use std::collections::BTreeMap;

use leash_core::Json;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Shared, event_kind, index};
use crate::content::separate;
use crate::raw::{self, Members, Str};
use crate::tools::{self, ItemCall};
use crate::{WireError, usage};

#[derive(Default)]
pub(super) struct Meter {
    /// Calls that began and are not complete, by their place in the output.
    open: BTreeMap<u64, Open>,
    /// Calls that were handed out, by id (by place where they have none).
    reported: BTreeMap<String, Reported>,
    /// Items by their place in the output: whole once they are done, till then the text that came.
    items: BTreeMap<u64, Item>,
    /// `output` as the last event had it.
    output: Option<String>,
}

struct Open {
    id: String,
    tool: String,
    /// As it is escaped on the wire, joined.
    deltas: String,
    done: Option<String>,
}

struct Reported {
    tool: String,
    text: Option<String>,
    args: Json,
}

enum Item {
    Done(String),
    Partial(String),
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Str<'a>>,
    #[serde(borrow)]
    sequence_number: Option<&'a RawValue>,
    #[serde(borrow)]
    output_index: Option<&'a RawValue>,
    #[serde(borrow)]
    item: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

const SHAPE: WireError = WireError::malformed("an event lacks what its type promises");
const STRAY: WireError = WireError::ambiguous("a piece of a tool call belongs to none that is open");
const DISAGREE: WireError = WireError::ambiguous("the pieces of a tool call disagree");

impl Meter {
    pub(super) fn is_holding(&self) -> bool {
        !self.open.is_empty()
    }

    pub(super) fn read(&mut self, name: &str, data: &str, shared: &mut Shared) -> Result<(), WireError> {
        let event: Event<'_> = raw::parse(data)?;
        if let Some(number) = event.sequence_number.and_then(raw::count) {
            shared.sequence = shared.sequence.max(number.saturating_add(1));
        }
        let kind = event_kind(name, event.kind.as_ref().map(|kind| &*kind.0))?;
        match kind {
            "response.output_item.added" => self.added(&event, shared),
            "response.output_item.done" => self.item_done(&event, shared),
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                self.arguments_delta(&event, shared)
            }
            "response.function_call_arguments.done" => self.arguments_done(&event, event.arguments),
            "response.custom_tool_call_input.done" => self.arguments_done(&event, event.input),
            "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled" => {
                self.response(event.response.ok_or(SHAPE)?, true, shared)
            }
            "error" => {
                // The error stands in the event itself; some servers nest it.
                let own = serde_json::from_str::<&RawValue>(data).ok();
                shared.error(event.error.or(own));
                Ok(())
            }
            _ => {
                if let Some(response) = event.response {
                    self.response(response, false, shared)?;
                }
                if kind.rsplit('.').next() == Some("delta") {
                    self.text_delta(&event, shared)?;
                }
                Ok(())
            }
        }
    }

    fn text_delta(&mut self, event: &Event<'_>, shared: &mut Shared) -> Result<(), WireError> {
        let Some(delta) = event.delta.filter(|delta| raw::is_string(delta)) else {
            return Ok(());
        };
        let inner = raw::inner(delta)?;
        shared.deliver(raw::decoded_len(inner));
        let Some(place) = event.output_index else {
            return Ok(());
        };
        shared.keep(inner.len())?;
        let place = index(Some(place))?;
        if !self.items.contains_key(&place) {
            shared.keep(64)?;
        }
        if let Item::Partial(text) = self
            .items
            .entry(place)
            .or_insert_with(|| Item::Partial(String::new()))
        {
            text.push_str(inner);
        }
        Ok(())
    }

    fn added(&mut self, event: &Event<'_>, shared: &mut Shared) -> Result<(), WireError> {
        let item = event.item.ok_or(SHAPE)?;
        let Some(call) = tools::item_call(item)? else {
            return Ok(());
        };
        let place = index(event.output_index)?;
        if matches!(self.items.get(&place), Some(Item::Done(_))) {
            return Err(WireError::ambiguous(
                "a tool call takes the place of an earlier item",
            ));
        }
        shared.begin_call()?;
        shared.deliver(u64::try_from(call.tool.len()).unwrap_or(u64::MAX));
        let open = Open {
            id: call.id,
            tool: call.tool,
            deltas: String::new(),
            done: None,
        };
        if self.open.insert(place, open).is_some() {
            return Err(DISAGREE);
        }
        Ok(())
    }

    fn arguments_delta(&mut self, event: &Event<'_>, shared: &mut Shared) -> Result<(), WireError> {
        let open = self.open.get_mut(&index(event.output_index)?).ok_or(STRAY)?;
        let inner = raw::inner(event.delta.ok_or(SHAPE)?)?;
        shared.deliver(raw::decoded_len(inner));
        open.deltas.push_str(inner);
        shared.check_arguments(open.deltas.len())
    }

    fn arguments_done(&mut self, event: &Event<'_>, text: Option<&RawValue>) -> Result<(), WireError> {
        let open = self.open.get_mut(&index(event.output_index)?).ok_or(STRAY)?;
        if let Some(name) = event.name
            && *raw::text(name)? != *open.tool
        {
            return Err(DISAGREE);
        }
        let text = raw::text(text.ok_or(SHAPE)?)?.into_owned();
        if open.done.as_ref().is_some_and(|done| *done != text) {
            return Err(DISAGREE);
        }
        open.done = Some(text);
        Ok(())
    }

    fn item_done(&mut self, event: &Event<'_>, shared: &mut Shared) -> Result<(), WireError> {
        let item = event.item.ok_or(SHAPE)?;
        let place = event.output_index.map(|place| index(Some(place))).transpose()?;
        match tools::item_call(item)? {
            Some(call) => self.complete(&call, place.ok_or(SHAPE)?, shared)?,
            None if place.is_some_and(|place| self.open.contains_key(&place)) => return Err(DISAGREE),
            None => {}
        }
        if let Some(place) = place {
            shared.keep(item.get().len().saturating_add(64))?;
            self.items.insert(place, Item::Done(item.get().to_owned()));
        }
        Ok(())
    }

    /// A call as a whole: it must be what its pieces said, and what was said of it before.
    fn complete(&mut self, call: &ItemCall, place: u64, shared: &mut Shared) -> Result<(), WireError> {
        let key = if call.id.is_empty() {
            format!("at {place}")
        } else {
            call.id.clone()
        };
        let began = match self.open.remove(&place) {
            Some(open) => {
                let text = call.text.as_deref().unwrap_or_default();
                if open.id != call.id
                    || open.tool != call.tool
                    || (!open.deltas.is_empty() && raw::unescape(&open.deltas)? != text)
                    || open.done.is_some_and(|done| done != text)
                {
                    return Err(DISAGREE);
                }
                true
            }
            None => false,
        };
        let args = call.args()?;
        if let Some(known) = self.reported.get(&key) {
            let is_same = known.tool == call.tool && known.text == call.text && known.args == args;
            return if is_same { Ok(()) } else { Err(DISAGREE) };
        }
        if !began {
            let text = call.text.as_deref().unwrap_or_default().len();
            shared.begin_call()?;
            shared.deliver(u64::try_from(call.tool.len().saturating_add(text)).unwrap_or(u64::MAX));
        }
        shared.keep(call.text.as_deref().unwrap_or_default().len().saturating_add(256))?;
        shared.request(call.request()?)?;
        self.reported.insert(
            key,
            Reported {
                tool: call.tool.clone(),
                text: call.text.clone(),
                args,
            },
        );
        Ok(())
    }

    fn response(&mut self, response: &RawValue, is_end: bool, shared: &mut Shared) -> Result<(), WireError> {
        let response = Members::parse(response.get())?;
        let output = response.get("output");
        let items: Vec<&RawValue> = match output {
            Some(output) => raw::parse(output.get())?,
            None => Vec::new(),
        };
        if let Some(raw) = response.get("usage") {
            let tier = usage::tier(response.get("service_tier"));
            let report = usage::openai(raw);
            shared.report(report.map(|report| report.with_searches(tools::searches(&items)).with_tier(tier)));
        }
        if response.get("error").is_some() {
            shared.error(response.get("error"));
        }
        for (place, item) in (0_u64..).zip(&items) {
            if let Some(call) = tools::item_call(item)? {
                self.complete(&call, place, shared)?;
            }
        }
        if !is_end {
            return Ok(());
        }
        if !self.open.is_empty() {
            return Err(WireError::ambiguous("the response ended inside a tool call"));
        }
        shared.is_complete = true;
        if let Some(output) = output {
            shared.keep(output.get().len())?;
            self.output = Some(output.get().to_owned());
        }
        Ok(())
    }

    /// The output: as the last event had it, else the items that came.
    pub(super) fn content(&self) -> String {
        if let Some(output) = &self.output {
            return output.clone();
        }
        let mut out = String::from("[");
        for item in self.items.values() {
            separate(&mut out);
            match item {
                Item::Done(item) => out.push_str(item),
                Item::Partial(text) => {
                    out.push_str("{\"text\":\"");
                    out.push_str(text);
                    out.push_str("\",\"type\":\"partial\"}");
                }
            }
        }
        out.push(']');
        out
    }
}
