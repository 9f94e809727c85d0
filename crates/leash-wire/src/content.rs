//! The content of an answer in one form, whether it came in one piece or as a stream. That form is what is hashed.

use std::collections::BTreeMap;

use leash_core::{Json, ToolRequest};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::WireError;
use crate::raw::{self, Members, Str};
use crate::tools::{self, push_member};

/// Makes a document of `text`. Strings cut from streams may hold what JSON does not allow (half a surrogate pair):
/// then the text itself, as a string, is what is hashed.
pub(crate) fn document(text: String) -> Json {
    match Json::parse(text.as_str()) {
        Ok(json) => json,
        Err(_) => Json::from(Value::String(text)),
    }
}

/// Anthropic's `content`: each block without its `null` members, as streams leave those out.
pub(crate) fn anthropic(content: &RawValue) -> Result<String, WireError> {
    let mut out = String::from("[");
    for block in raw::parse::<Vec<Members<'_>>>(content.get())? {
        separate(&mut out);
        out.push('{');
        for (name, value) in &block.0 {
            if value.get() != "null" {
                push_member(&mut out, name, value.get());
            }
        }
        out.push('}');
    }
    out.push(']');
    Ok(out)
}

/// Puts a comma between elements of an array that is being written.
pub(crate) fn separate(out: &mut String) {
    if !out.ends_with('[') {
        out.push(',');
    }
}

/// Members of a chat message whose text streams in pieces.
pub(crate) const CHAT_TEXTS: [&str; 4] = ["content", "refusal", "reasoning_content", "reasoning"];

/// A chat message: its texts, and the tools it calls.
#[derive(Default)]
pub(crate) struct ChatMessage {
    pub(crate) role: String,
    /// Text as it is escaped on the wire, joined.
    pub(crate) texts: BTreeMap<&'static str, String>,
    /// Whatever stands where a text should (lists of parts, of compatible servers), as it is.
    pub(crate) others: Vec<(&'static str, String)>,
    pub(crate) calls: BTreeMap<u64, ChatCall>,
    pub(crate) function_call: Option<ChatCall>,
}

/// A tool call of a chat message.
#[derive(Default)]
pub(crate) struct ChatCall {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Arguments or input as they are escaped on the wire, joined.
    pub(crate) text: String,
    pub(crate) is_custom: bool,
    pub(crate) is_function: bool,
    /// Arguments that came as JSON rather than as a text that holds JSON.
    pub(crate) object: Option<String>,
}

/// An element of `tool_calls`, whole or a piece of one.
#[derive(Deserialize)]
pub(crate) struct CallPiece<'a> {
    #[serde(borrow)]
    pub(crate) index: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) id: Option<Str<'a>>,
    #[serde(borrow)]
    pub(crate) function: Option<FunctionPiece<'a>>,
    #[serde(borrow)]
    pub(crate) custom: Option<FunctionPiece<'a>>,
}

/// `function`, `custom` or the old `function_call`, whole or a piece of it.
#[derive(Deserialize)]
pub(crate) struct FunctionPiece<'a> {
    #[serde(borrow)]
    pub(crate) name: Option<Str<'a>>,
    #[serde(borrow)]
    pub(crate) arguments: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) input: Option<&'a RawValue>,
}

const DISAGREE: WireError = WireError::ambiguous("the pieces of a tool call disagree");

impl ChatCall {
    /// Adds a piece; what an earlier piece said must not change. Gives how many bytes of output it holds.
    pub(crate) fn add(&mut self, piece: &CallPiece<'_>) -> Result<u64, WireError> {
        if let Some(Str(id)) = &piece.id
            && !id.is_empty()
        {
            if !self.id.is_empty() && self.id != **id {
                return Err(DISAGREE);
            }
            id.as_ref().clone_into(&mut self.id);
        }
        match (&piece.function, &piece.custom) {
            (Some(_), Some(_)) => Err(DISAGREE),
            (Some(function), None) => {
                self.is_function = true;
                self.add_function(function)
            }
            (None, Some(custom)) => {
                self.is_custom = true;
                self.add_function(custom)
            }
            (None, None) => Ok(0),
        }
    }

    /// Adds a piece of the function.
    pub(crate) fn add_function(&mut self, piece: &FunctionPiece<'_>) -> Result<u64, WireError> {
        if self.is_function && self.is_custom {
            return Err(DISAGREE);
        }
        let mut bytes = 0_u64;
        if let Some(Str(name)) = &piece.name
            && !name.is_empty()
        {
            // Some clients would join two names and others keep the first.
            if !self.name.is_empty() {
                return Err(DISAGREE);
            }
            name.as_ref().clone_into(&mut self.name);
            bytes = u64::try_from(name.len()).unwrap_or(u64::MAX);
        }
        let (text, other) = if self.is_custom {
            (piece.input, piece.arguments)
        } else {
            (piece.arguments, piece.input)
        };
        if other.is_some() || (self.object.is_some() && text.is_some()) {
            return Err(DISAGREE);
        }
        match text {
            Some(text) if raw::is_object(text) && self.text.is_empty() && !self.is_custom => {
                self.object = Some(text.get().to_owned());
                bytes = bytes.saturating_add(u64::try_from(text.get().len()).unwrap_or(u64::MAX));
            }
            Some(text) => {
                let inner = raw::inner(text)?;
                self.text.push_str(inner);
                bytes = bytes.saturating_add(raw::decoded_len(inner));
            }
            None => {}
        }
        Ok(bytes)
    }

    /// The request, once all pieces are there.
    pub(crate) fn request(&self) -> Result<ToolRequest, WireError> {
        let args = match &self.object {
            Some(object) => tools::arguments(object)?,
            None if self.is_custom => Json::from(Value::String(raw::unescape(&self.text)?.into_owned())),
            None => tools::arguments(&raw::unescape(&self.text)?)?,
        };
        tools::request(&self.id, &self.name, args)
    }

    fn write(&self, out: &mut String, is_legacy: bool) {
        let mut function = String::from("{");
        let mut text = String::new();
        match &self.object {
            Some(object) => text.push_str(object),
            None => raw::push_inner(&mut text, &self.text),
        }
        push_member(
            &mut function,
            if self.is_custom { "input" } else { "arguments" },
            &text,
        );
        let mut name = String::new();
        raw::push_str(&mut name, &self.name);
        push_member(&mut function, "name", &name);
        function.push('}');
        if is_legacy {
            out.push_str(&function);
            return;
        }
        let kind = if self.is_custom { "custom" } else { "function" };
        out.push('{');
        push_member(out, kind, &function);
        let mut id = String::new();
        raw::push_str(&mut id, &self.id);
        push_member(out, "id", &id);
        push_member(
            out,
            "type",
            if self.is_custom {
                "\"custom\""
            } else {
                "\"function\""
            },
        );
        out.push('}');
    }
}

impl ChatMessage {
    /// Reads a whole message.
    pub(crate) fn parse(message: &RawValue) -> Result<Self, WireError> {
        let members = Members::parse(message.get())?;
        let mut read = Self {
            role: members.str("role")?.unwrap_or_default().into_owned(),
            ..Self::default()
        };
        for name in CHAT_TEXTS {
            match members.get(name) {
                Some(text) if raw::is_string(text) => {
                    read.texts.insert(name, raw::inner(text)?.to_owned());
                }
                Some(other) => read.others.push((name, other.get().to_owned())),
                None => {}
            }
        }
        if let Some(calls) = members.get("tool_calls") {
            for (index, piece) in (0_u64..).zip(raw::parse::<Vec<CallPiece<'_>>>(calls.get())?) {
                let mut call = ChatCall::default();
                call.add(&piece)?;
                read.calls.insert(index, call);
            }
        }
        if let Some(function) = members.get("function_call") {
            let mut call = ChatCall::default();
            call.add_function(&raw::parse(function.get())?)?;
            read.function_call = Some(call);
        }
        Ok(read)
    }

    /// Whether there is anything in it besides its role.
    pub(crate) fn says_something(&self) -> bool {
        let is_said = self.texts.values().any(|text| !text.is_empty());
        is_said || !self.others.is_empty() || !self.calls.is_empty() || self.function_call.is_some()
    }

    /// Everything it asks for, in order.
    pub(crate) fn requests(&self) -> impl Iterator<Item = Result<ToolRequest, WireError>> {
        self.calls
            .values()
            .chain(&self.function_call)
            .map(ChatCall::request)
    }

    /// Appends it as JSON: role, texts that are not empty, calls. Nothing else, as streams and whole answers differ
    /// in what else they carry.
    pub(crate) fn write(&self, out: &mut String) {
        out.push('{');
        let mut role = String::new();
        raw::push_str(
            &mut role,
            if self.role.is_empty() {
                "assistant"
            } else {
                &self.role
            },
        );
        push_member(out, "role", &role);
        for (name, text) in self.texts.iter().filter(|(_, text)| !text.is_empty()) {
            let mut value = String::new();
            raw::push_inner(&mut value, text);
            push_member(out, name, &value);
        }
        for (name, other) in &self.others {
            push_member(out, name, other);
        }
        if !self.calls.is_empty() {
            let mut calls = String::from("[");
            for call in self.calls.values() {
                separate(&mut calls);
                call.write(&mut calls, false);
            }
            calls.push(']');
            push_member(out, "tool_calls", &calls);
        }
        if let Some(call) = &self.function_call {
            let mut function = String::new();
            call.write(&mut function, true);
            push_member(out, "function_call", &function);
        }
        out.push('}');
    }
}

/// Writes the messages of all choices.
pub(crate) fn chat<'m>(messages: impl Iterator<Item = &'m ChatMessage>) -> String {
    let mut out = String::from("[");
    for message in messages {
        separate(&mut out);
        message.write(&mut out);
    }
    out.push(']');
    out
}
