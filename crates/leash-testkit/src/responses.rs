//! Answers of OpenAI Responses.

use serde_json::{Value, json};

use crate::event;

fn whole(status: &str, output: &Value, usage: &Value) -> Value {
    json!({
        "id": "resp_1", "object": "response", "created_at": 1_700_000_000, "status": status, "model": "gpt-5",
        "output": output, "usage": usage, "parallel_tool_calls": true, "tools": [], "tool_choice": "auto"
    })
}

fn usage(input_tokens: u64, output_tokens: u64) -> Value {
    json!({
        "input_tokens": input_tokens, "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": output_tokens, "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input_tokens.saturating_add(output_tokens)
    })
}

fn message(text: &str) -> Value {
    json!({
        "type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
        "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    })
}

fn call(tool: &str, arguments: &Value) -> Value {
    json!({
        "type": "function_call", "id": "fc_1", "call_id": "call_1", "status": "completed", "name": tool,
        "arguments": arguments.to_string()
    })
}

/// A text, in one piece.
#[must_use]
pub fn answer(text: &str, input_tokens: u64, output_tokens: u64) -> String {
    whole(
        "completed",
        &json!([message(text)]),
        &usage(input_tokens, output_tokens),
    )
    .to_string()
}

/// A tool call, in one piece: 20 tokens in, 10 out.
#[must_use]
pub fn tool_call(tool: &str, arguments: &Value) -> String {
    whole("completed", &json!([call(tool, arguments)]), &usage(20, 10)).to_string()
}

fn numbered(events: &mut [Value]) -> String {
    let mut out = String::new();
    for (number, event_data) in events.iter_mut().enumerate() {
        if let Some(members) = event_data.as_object_mut() {
            members.insert("sequence_number".to_owned(), number.into());
        }
        out.push_str(&event(event_data.get("type").and_then(Value::as_str), event_data));
    }
    out
}

/// A whole stream of one text.
#[must_use]
pub fn stream(said: &str, input_tokens: u64, output_tokens: u64) -> String {
    let place = |kind: &str, name: &str, value: &str| json!({"type": kind, "item_id": "msg_1", "output_index": 0, "content_index": 0, name: value, "logprobs": []});
    let part = json!({"type": "output_text", "text": "", "annotations": [], "logprobs": []});
    let empty = json!({"type": "message", "id": "msg_1", "status": "in_progress", "role": "assistant", "content": []});
    numbered(&mut [
        json!({"type": "response.created", "response": whole("in_progress", &json!([]), &Value::Null)}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": empty}),
        json!({"type": "response.content_part.added", "item_id": "msg_1", "output_index": 0, "content_index": 0, "part": part}),
        place("response.output_text.delta", "delta", said),
        place("response.output_text.done", "text", said),
        json!({"type": "response.output_item.done", "output_index": 0, "item": message(said)}),
        json!({
            "type": "response.completed",
            "response": whole("completed", &json!([message(said)]), &usage(input_tokens, output_tokens))
        }),
    ])
}

/// A whole stream of one tool call: 20 tokens in, 10 out.
#[must_use]
pub fn tool_stream(tool: &str, arguments: &Value) -> String {
    let empty = json!({
        "type": "function_call", "id": "fc_1", "call_id": "call_1", "status": "in_progress", "name": tool, "arguments": ""
    });
    let text = arguments.to_string();
    numbered(&mut [
        json!({"type": "response.created", "response": whole("in_progress", &json!([]), &Value::Null)}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": empty}),
        json!({"type": "response.function_call_arguments.delta", "item_id": "fc_1", "output_index": 0, "delta": text}),
        json!({"type": "response.function_call_arguments.done", "item_id": "fc_1", "output_index": 0, "name": tool, "arguments": text}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": call(tool, arguments)}),
        json!({"type": "response.completed", "response": whole("completed", &json!([call(tool, arguments)]), &usage(20, 10))}),
    ])
}
