//! Answers of Anthropic Messages.

use serde_json::{Value, json};

use crate::event;

const MODEL: &str = "claude-haiku-4-5";

fn whole(content: &Value, stop_reason: &str, input_tokens: u64, output_tokens: u64) -> String {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": content,
        "stop_reason": stop_reason, "stop_sequence": null,
        "usage": {"input_tokens": input_tokens, "output_tokens": output_tokens}
    })
    .to_string()
}

/// A text, in one piece.
#[must_use]
pub fn message(text: &str, input_tokens: u64, output_tokens: u64) -> String {
    whole(
        &json!([{"type": "text", "text": text}]),
        "end_turn",
        input_tokens,
        output_tokens,
    )
}

/// A tool call, in one piece: 20 tokens in, 10 out.
#[must_use]
pub fn tool_use(tool: &str, input: &Value) -> String {
    whole(
        &json!([{"type": "tool_use", "id": "toolu_1", "name": tool, "input": input}]),
        "tool_use",
        20,
        10,
    )
}

/// An event that is named as its `type`.
#[must_use]
pub fn named(data: &Value) -> String {
    event(data.get("type").and_then(Value::as_str), data)
}

/// The first event of a stream.
#[must_use]
pub fn start(input_tokens: u64) -> String {
    named(&json!({"type": "message_start", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": input_tokens, "output_tokens": 1}
    }}))
}

/// The events that open a block of text.
#[must_use]
pub fn text_start(index: u64) -> String {
    named(
        &json!({"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}}),
    )
}

/// A piece of text.
#[must_use]
pub fn text(index: u64, text: &str) -> String {
    named(
        &json!({"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}),
    )
}

/// The event that ends a block.
#[must_use]
pub fn stop(index: u64) -> String {
    named(&json!({"type": "content_block_stop", "index": index}))
}

/// The events of a tool call, its arguments cut in two.
#[must_use]
pub fn tool_call(index: u64, tool: &str, input: &Value) -> String {
    let input = input.to_string();
    let (first, second) = input.split_at_checked(input.len() / 2).unwrap_or((&input, ""));
    let delta = |json: &str| {
        let delta = json!({"type": "input_json_delta", "partial_json": json});
        named(&json!({"type": "content_block_delta", "index": index, "delta": delta}))
    };
    let block = json!({"type": "tool_use", "id": "toolu_1", "name": tool, "input": {}});
    let start = named(&json!({"type": "content_block_start", "index": index, "content_block": block}));
    [start, delta(first), delta(second), stop(index)].concat()
}

/// The event with the final usage.
#[must_use]
pub fn usage(stop_reason: &str, output_tokens: u64) -> String {
    named(&json!({
        "type": "message_delta", "delta": {"stop_reason": stop_reason, "stop_sequence": null},
        "usage": {"output_tokens": output_tokens}
    }))
}

/// The last event.
#[must_use]
pub fn end() -> String {
    named(&json!({"type": "message_stop"}))
}

/// A whole stream of one text.
#[must_use]
pub fn stream(said: &str, input_tokens: u64, output_tokens: u64) -> String {
    [
        start(input_tokens),
        text_start(0),
        "event: ping\ndata: {\"type\": \"ping\"}\n\n".to_owned(),
        text(0, said),
        stop(0),
        usage("end_turn", output_tokens),
        end(),
    ]
    .concat()
}
