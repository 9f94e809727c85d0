//! Tool calls that an answer asks for, one at a time. Knows the shapes, not where they stand.

use std::collections::BTreeSet;
use std::sync::Arc;

use leash_core::canonical::JsonErrorKind;
use leash_core::{Json, ToolRequest};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::WireError;
use crate::limits::MAX_NAME_BYTES;
use crate::raw::{self, Members};
use crate::usage::Searches;

/// Reads the text of arguments, which models write and may write badly.
///
/// - Nothing at all is `{}`, as every client takes it.
/// - JSON with one reading is taken as it is.
/// - JSON cut short (the answer met its token limit) is a string: no client can call anything with it.
/// - All else could be read in two ways (a member twice, `NaN`), so it is an error.
pub(crate) fn arguments(text: &str) -> Result<Json, WireError> {
    if text.trim_ascii().is_empty() {
        return Ok(Json::from(Value::Object(serde_json::Map::new())));
    }
    match Json::parse(text) {
        Ok(json) => Ok(json),
        Err(error) if error.kind() == JsonErrorKind::Truncated && raw::is_cut_json(text) => {
            Ok(Json::from(Value::String(text.to_owned())))
        }
        Err(_) => Err(WireError::ambiguous(
            "the arguments of a tool call have more than one reading, or none",
        )),
    }
}

/// A tool call, once it is complete.
pub(crate) fn request(id: &str, tool: &str, args: Json) -> Result<ToolRequest, WireError> {
    if tool.is_empty() {
        return Err(WireError::malformed("a tool call names no tool"));
    }
    if tool.len() > MAX_NAME_BYTES {
        return Err(WireError::limit("the name of a tool is longer than the limit"));
    }
    Ok(ToolRequest {
        id: id.to_owned(),
        tool: Arc::from(tool),
        args,
    })
}

/// Whether an Anthropic content block of this type is a call that the client is to make.
///
/// `server_tool_use` and `mcp_tool_use` run at the provider. A kind of tool use that is not known counts as a call.
pub(crate) fn is_anthropic_call(kind: &str) -> bool {
    kind.ends_with("tool_use") && !matches!(kind, "server_tool_use" | "mcp_tool_use")
}

/// An output item of OpenAI Responses that asks the client to do something.
pub(crate) struct ItemCall {
    /// What the item is known by: its call id, else its own id; empty where it has neither.
    pub(crate) id: String,
    pub(crate) tool: String,
    /// Arguments or input as text, for calls whose text also comes in deltas.
    pub(crate) text: Option<String>,
    pub(crate) is_function: bool,
    rest: Option<Json>,
}

impl ItemCall {
    /// The arguments: for function calls those in `text`, for custom tools the text itself, else the item.
    pub(crate) fn args(&self) -> Result<Json, WireError> {
        match (&self.text, &self.rest) {
            (Some(text), _) if self.is_function => arguments(text),
            (Some(text), _) => Ok(Json::from(Value::String(text.clone()))),
            (None, Some(rest)) => Ok(rest.clone()),
            (None, None) => Ok(Json::null()),
        }
    }

    /// The request.
    pub(crate) fn request(&self) -> Result<ToolRequest, WireError> {
        request(&self.id, &self.tool, self.args()?)
    }
}

/// Items that only report what the provider ran itself.
const RUN_BY_PROVIDER: &[&str] = &[
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "image_generation_call",
    "mcp_call",
];

/// Reads an output item of OpenAI Responses; `None` where it asks the client for nothing.
///
/// A call of a kind that is not known is a call, with all of the item as its arguments. An approval that a remote
/// MCP server wants counts too: a client that grants it by itself lets the call happen.
///
/// # Source
/// OpenAI API reference, *Response object*, `output`.
pub(crate) fn item_call(item: &RawValue) -> Result<Option<ItemCall>, WireError> {
    let item = Members::parse(item.get())?;
    let Some(kind) = item.str("type")? else {
        return Ok(None);
    };
    let id = match item.str("call_id")? {
        Some(id) => Some(id),
        None => item.str("id")?,
    };
    let id = id.unwrap_or_default().into_owned();
    let named = |text_member: &str, is_function: bool| -> Result<Option<ItemCall>, WireError> {
        let tool = item.str("name")?.unwrap_or_default().into_owned();
        let text = item.str(text_member)?.unwrap_or_default().into_owned();
        Ok(Some(ItemCall {
            id: id.clone(),
            tool,
            text: Some(text),
            is_function,
            rest: None,
        }))
    };
    match &*kind {
        "function_call" | "mcp_approval_request" => return named("arguments", true),
        "custom_tool_call" => return named("input", false),
        "tool_search_call" if item.str("execution")?.as_deref() != Some("client") => return Ok(None),
        _ => {}
    }
    let Some(tool) = kind.strip_suffix("_call") else {
        return Ok(None);
    };
    if RUN_BY_PROVIDER.contains(&&*kind) {
        return Ok(None);
    }
    let mut rest = String::from("{");
    for (name, value) in &item.0 {
        if !matches!(&**name, "id" | "call_id" | "type" | "status") {
            push_member(&mut rest, name, value.get());
        }
    }
    rest.push('}');
    let rest =
        Json::parse(rest).map_err(|_| WireError::ambiguous("a tool call has more than one reading"))?;
    Ok(Some(ItemCall {
        id,
        tool: tool.to_owned(),
        text: None,
        is_function: false,
        rest: Some(rest),
    }))
}

/// Whether an Anthropic content block says that Anthropic ran code.
pub(crate) fn ran_code(block: &Members<'_>) -> bool {
    let of = |name| block.str(name).ok().flatten();
    of("type").as_deref() == Some("server_tool_use")
        && of("name").is_some_and(|name| name.ends_with("code_execution"))
}

/// What the provider ran by an answer's items, of what it bills apiece. Of an image nobody says here what it cost.
pub(crate) fn searches(items: &[&RawValue]) -> Searches {
    let mut searches = Searches::default();
    let mut containers: BTreeSet<String> = BTreeSet::new();
    for item in items {
        let Ok(item) = Members::parse(item.get()) else {
            continue;
        };
        let container = |members: &Members<'_>| {
            let id = members.str("container_id").ok().flatten();
            id.unwrap_or_default().into_owned()
        };
        match item.str("type").unwrap_or_default().as_deref() {
            Some("web_search_call") => searches.web = searches.web.saturating_add(1),
            Some("file_search_call") => searches.file = searches.file.saturating_add(1),
            Some("image_generation_call") => searches.other = searches.other.saturating_add(1),
            Some("code_interpreter_call") => {
                containers.insert(container(&item));
            }
            Some("shell_call") => {
                let place = item.get("environment").map(|place| Members::parse(place.get()));
                if let Some(Ok(place)) = place
                    && place
                        .str("type")
                        .ok()
                        .flatten()
                        .is_some_and(|kind| kind != "local")
                {
                    containers.insert(container(&place));
                }
            }
            _ => {}
        }
    }
    searches.code = u64::try_from(containers.len()).unwrap_or(u64::MAX);
    searches
}

/// Appends a member to an object that is being written.
pub(crate) fn push_member(out: &mut String, name: &str, value: &str) {
    if !out.ends_with('{') {
        out.push(',');
    }
    raw::push_str(out, name);
    out.push(':');
    out.push_str(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_with_two_readings_are_refused_and_cut_ones_are_a_string() {
        assert_eq!(arguments("").unwrap().text(), "{}");
        assert_eq!(arguments(r#"{"a":1.50}"#).unwrap().text(), r#"{"a":1.50}"#);
        assert!(arguments(r#"{"a":"rm -rf"#).unwrap().value().is_string());
        for bad in [
            r#"{"to":"a","to":"b"}"#,
            r#"{"a":NaN}"#,
            "{'a':1}",
            r#"{"a":1}{"#,
            "undefined",
        ] {
            assert!(arguments(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_the_provider_bills_apiece_is_counted_and_a_container_once() {
        let items = [
            r#"{"type":"web_search_call"}"#,
            r#"{"type":"file_search_call"}"#,
            r#"{"type":"code_interpreter_call","container_id":"c1"}"#,
            r#"{"type":"code_interpreter_call","container_id":"c1"}"#,
            r#"{"type":"shell_call","environment":{"type":"container_reference","container_id":"c2"}}"#,
            r#"{"type":"shell_call","environment":{"type":"local"}}"#,
            r#"{"type":"shell_call"}"#,
            r#"{"type":"image_generation_call"}"#,
            r#"{"type":"mcp_call"}"#,
        ];
        let items: Vec<_> = items
            .iter()
            .map(|item| RawValue::from_string((*item).to_owned()).unwrap())
            .collect();
        let items: Vec<&RawValue> = items.iter().map(|item| &**item).collect();
        let expected = Searches {
            web: 1,
            file: 1,
            code: 2,
            other: 1,
        };
        assert_eq!(searches(&items), expected);
    }

    #[test]
    fn what_the_client_is_to_run_is_a_call_and_what_the_provider_ran_is_none() {
        let call = |text: &str| item_call(&RawValue::from_string(text.to_owned()).unwrap());
        for run in RUN_BY_PROVIDER {
            assert!(
                call(&format!(r#"{{"type":"{run}","id":"x"}}"#))
                    .unwrap()
                    .is_none()
            );
        }
        for none in ["message", "reasoning", "mcp_list_tools", "function_call_output"] {
            assert!(call(&format!(r#"{{"type":"{none}"}}"#)).unwrap().is_none());
        }
        let shell =
            call(r#"{"type":"shell_call","call_id":"c","status":"completed","action":{"commands":["ls"]}}"#);
        let shell = shell.unwrap().unwrap().request().unwrap();
        assert_eq!(
            (&*shell.tool, &*shell.id, shell.args.text()),
            ("shell", "c", r#"{"action":{"commands":["ls"]}}"#)
        );
        let unknown = call(r#"{"type":"teleport_call","id":"t","to":"moon"}"#)
            .unwrap()
            .unwrap();
        assert_eq!(unknown.tool, "teleport");
        assert!(
            call(r#"{"type":"function_call","call_id":"c"}"#)
                .unwrap()
                .unwrap()
                .request()
                .is_err()
        );
    }
}
