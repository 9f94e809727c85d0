//! Answers of OpenAI Chat Completions.

use serde_json::{Value, json};

use crate::event;

const MODEL: &str = "gpt-5";

/// The counts of a call.
#[must_use]
pub fn usage(prompt_tokens: u64, completion_tokens: u64) -> Value {
    let total = prompt_tokens.saturating_add(completion_tokens);
    json!({"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total})
}

fn whole(message: &Value, finish_reason: &str, usage: &Value) -> String {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": null}],
        "usage": usage
    })
    .to_string()
}

/// A text, in one piece.
#[must_use]
pub fn answer(text: &str, prompt_tokens: u64, completion_tokens: u64) -> String {
    let message = json!({"role": "assistant", "content": text, "refusal": null});
    whole(&message, "stop", &usage(prompt_tokens, completion_tokens))
}

fn function(tool: &str, arguments: &Value) -> Value {
    json!({"name": tool, "arguments": arguments.to_string()})
}

/// A tool call, in one piece: 20 tokens in, 10 out.
#[must_use]
pub fn tool_call(tool: &str, arguments: &Value) -> String {
    let call = json!({"id": "call_1", "type": "function", "function": function(tool, arguments)});
    whole(
        &json!({"role": "assistant", "content": null, "tool_calls": [call]}),
        "tool_calls",
        &usage(20, 10),
    )
}

/// A chunk of a stream.
#[must_use]
pub fn chunk(choices: &Value, usage: &Value) -> String {
    let chunk = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": MODEL,
        "choices": choices, "usage": usage
    });
    event(None, &chunk)
}

/// A piece of an answer.
#[must_use]
pub fn delta(delta: &Value, finish_reason: Option<&str>) -> String {
    chunk(
        &json!([{"index": 0, "delta": delta, "finish_reason": finish_reason}]),
        &Value::Null,
    )
}

/// A piece of text.
#[must_use]
pub fn text(text: &str) -> String {
    delta(&json!({"role": "assistant", "content": text}), None)
}

/// The chunk that says why the model stopped.
#[must_use]
pub fn finish(reason: &str) -> String {
    delta(&json!({}), Some(reason))
}

/// The pieces of a tool call, its arguments cut in two, and the chunk that completes it.
#[must_use]
pub fn tool_chunks(tool: &str, arguments: &Value) -> String {
    let arguments = arguments.to_string();
    let (first, second) = arguments
        .split_at_checked(arguments.len() / 2)
        .unwrap_or((&arguments, ""));
    let begin = json!({"index": 0, "id": "call_1", "type": "function", "function": {"name": tool, "arguments": first}});
    let rest = json!({"index": 0, "function": {"arguments": second}});
    [
        delta(&json!({"tool_calls": [begin]}), None),
        delta(&json!({"tool_calls": [rest]}), None),
        finish("tool_calls"),
    ]
    .concat()
}

/// The chunk with the usage that closes a stream whose client asked for it.
#[must_use]
pub fn usage_chunk(prompt_tokens: u64, completion_tokens: u64) -> String {
    chunk(&json!([]), &usage(prompt_tokens, completion_tokens))
}

/// The end of a stream.
#[must_use]
pub fn done() -> String {
    "data: [DONE]\n\n".to_owned()
}

/// A whole stream of one text, with its usage.
#[must_use]
pub fn stream(said: &str, prompt_tokens: u64, completion_tokens: u64) -> String {
    [
        text(said),
        finish("stop"),
        usage_chunk(prompt_tokens, completion_tokens),
        done(),
    ]
    .concat()
}
