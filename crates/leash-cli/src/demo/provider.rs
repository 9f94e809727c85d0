//! A server on this machine that stands in for the providers: it speaks the formats of Anthropic Messages and of
//! OpenAI Chat Completions, whole and streamed, and keeps a bill of its own. What it answers is made up, and the same
//! each time. Knows nothing of caps, rules or firewalls.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::serve::ListenerExt as _;
use leash_budget::PriceTable;
use leash_core::{Usage, Usd};
use serde_json::{Value, json};

/// How many bytes of source code and stack traces make a token, roughly.
const BYTES_PER_TOKEN: u64 = 3;

/// The shortest answer in tokens, and by how many the others are longer.
const SHORTEST: u64 = 2_550;
const SPREAD: u64 = 400;

/// A tool that the model asks for once it has been talked into it.
pub(crate) const TALKED_INTO: &str = "wire_transfer";

/// One line of the bill.
#[derive(Debug)]
struct Billed {
    provider: &'static str,
    model: String,
    usage: Usage,
}

/// The server. It runs for as long as the runtime does.
#[derive(Clone, Debug)]
pub(crate) struct Provider {
    address: SocketAddr,
    bill: Bill,
}

/// What was answered so far.
#[derive(Clone, Debug, Default)]
struct Bill(Arc<Mutex<Vec<Billed>>>);

impl Bill {
    fn lines(&self) -> MutexGuard<'_, Vec<Billed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Provider {
    /// Starts it, on a port that the system chooses.
    pub(crate) async fn start() -> io::Result<Self> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        // Pieces of a stream leave as they are written. Where that cannot be set, they come a little later.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let bill = Bill::default();
        let routes = Router::new()
            .route("/v1/messages", post(anthropic))
            .route("/v1/chat/completions", post(openai))
            .with_state(bill.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(Self { address, bill })
    }

    /// The address of `path` on it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How many calls have reached it.
    pub(crate) fn calls(&self) -> usize {
        self.bill.lines().len()
    }

    /// What the last line of its bill is for.
    pub(crate) fn last_usage(&self) -> Usage {
        self.bill
            .lines()
            .last()
            .map(|line| line.usage)
            .unwrap_or_default()
    }

    /// What its bill comes to at `prices`, without the first `skip` lines.
    pub(crate) fn billed(&self, prices: &PriceTable, skip: usize) -> Usd {
        self.bill.lines().iter().skip(skip).fold(Usd::ZERO, |sum, line| {
            sum.saturating_add(cost(prices, line.provider, &line.model, &line.usage))
        })
    }
}

/// What `usage` costs; as much as there is where nobody knows.
pub(crate) fn cost(prices: &PriceTable, provider: &str, model: &str, usage: &Usage) -> Usd {
    let price = prices.price(provider, model);
    price.and_then(|price| price.cost(usage).ok()).unwrap_or(Usd::MAX)
}

/// What a call with these messages uses. A function of the messages and nothing else, so that a call that was never
/// made can be priced too.
pub(crate) fn usage_of(messages: &Value, max_tokens: u64) -> Usage {
    let bytes = text_bytes(messages);
    let longer = bytes.wrapping_mul(7_919).checked_rem(SPREAD).unwrap_or(0);
    Usage {
        input_tokens: bytes.div_ceil(BYTES_PER_TOKEN),
        output_tokens: SHORTEST.saturating_add(longer).min(max_tokens),
        ..Usage::default()
    }
}

fn text_bytes(value: &Value) -> u64 {
    match value {
        Value::String(text) => u64::try_from(text.len()).unwrap_or(u64::MAX),
        Value::Array(items) => items.iter().map(text_bytes).fold(0, u64::saturating_add),
        Value::Object(members) => members.values().map(text_bytes).fold(0, u64::saturating_add),
        _ => 0,
    }
}

/// A request, as far as this server reads one.
struct Asked {
    model: String,
    usage: Usage,
    streams: bool,
    includes_usage: bool,
    /// Whether the last message talks the model into asking for a tool.
    is_talked_into: bool,
}

impl Asked {
    fn read(body: &[u8], limit: &str) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let messages = body.get("messages")?;
        let last = messages.as_array()?.last()?.get("content")?.as_str()?;
        let flag = |pointer: &str| body.pointer(pointer) == Some(&Value::Bool(true));
        Some(Self {
            model: body.get("model")?.as_str()?.to_owned(),
            usage: usage_of(messages, body.get(limit)?.as_u64()?),
            streams: flag("/stream"),
            includes_usage: flag("/stream_options/include_usage"),
            is_talked_into: last.contains(TALKED_INTO),
        })
    }

    /// Puts it on the bill.
    fn bill(&self, bill: &Bill, provider: &'static str) {
        bill.lines().push(Billed {
            provider,
            model: self.model.clone(),
            usage: self.usage,
        });
    }

    /// The answer, about as long as its tokens say.
    fn text(&self) -> String {
        let mut text = String::new();
        for step in 1..=self.usage.output_tokens.div_ceil(12) {
            // Writing into a string does not fail.
            let _ = writeln!(text, "    retry(step_{step:03}, on_error=again)");
        }
        text
    }
}

/// How many pieces an answer streams in.
const PIECES: usize = 24;

fn pieces(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let each = lines.len().div_ceil(PIECES).max(1);
    lines.chunks(each).map(<[&str]>::concat).collect()
}

async fn anthropic(State(bill): State<Bill>, body: Bytes) -> Response {
    let Some(asked) = Asked::read(&body, "max_tokens") else {
        let error = json!({"type": "invalid_request_error", "message": "the request cannot be read"});
        return refused(&json!({"type": "error", "error": error}));
    };
    asked.bill(&bill, "anthropic");
    let Asked { model, usage, .. } = &asked;
    if !asked.streams {
        let mut content = vec![json!({"type": "text", "text": asked.text()})];
        if asked.is_talked_into {
            let input = json!({"to": "GB33 BUKB 2020 1555 5555 55", "usd": 4000});
            content.push(json!({"type": "tool_use", "id": "toolu_1", "name": TALKED_INTO, "input": input}));
        }
        return whole(&json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": content,
            "stop_reason": if asked.is_talked_into { "tool_use" } else { "end_turn" }, "stop_sequence": null,
            "usage": {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens},
        }));
    }
    let message = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": null, "stop_sequence": null,
        "usage": {"input_tokens": usage.input_tokens, "output_tokens": 1},
    });
    let mut events = vec![
        named(
            "message_start",
            &json!({"type": "message_start", "message": message}),
        ),
        named(
            "content_block_start",
            &json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        ),
    ];
    events.extend(pieces(&asked.text()).into_iter().map(|piece| {
        let delta = json!({"type": "text_delta", "text": piece});
        named(
            "content_block_delta",
            &json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        )
    }));
    events.push(named(
        "content_block_stop",
        &json!({"type": "content_block_stop", "index": 0}),
    ));
    events.push(named(
        "message_delta",
        &json!({
            "type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
            "usage": {"output_tokens": usage.output_tokens},
        }),
    ));
    events.push(named("message_stop", &json!({"type": "message_stop"})));
    streamed(events)
}

async fn openai(State(bill): State<Bill>, body: Bytes) -> Response {
    let Some(asked) = Asked::read(&body, "max_completion_tokens") else {
        let error = json!({"type": "invalid_request_error", "message": "the request cannot be read"});
        return refused(&json!({"error": error}));
    };
    asked.bill(&bill, "openai");
    let Asked { model, usage, .. } = &asked;
    let total = usage.input_tokens.saturating_add(usage.output_tokens);
    let tokens = json!({
        "prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens, "total_tokens": total,
    });
    if !asked.streams {
        let message = json!({"role": "assistant", "content": asked.text(), "refusal": null});
        return whole(&json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": model,
            "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"}],
            "usage": tokens,
        }));
    }
    let chunk = |choices: Value, usage: Option<&Value>| {
        let mut chunk = json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": model, "choices": choices,
        });
        if let (Some(usage), Some(members)) = (usage, chunk.as_object_mut()) {
            members.insert("usage".to_owned(), usage.clone());
        }
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    let choice =
        |delta: Value, ends: Option<&str>| json!([{"index": 0, "delta": delta, "finish_reason": ends}]);
    let mut events = vec![chunk(
        choice(json!({"role": "assistant", "content": ""}), None),
        None,
    )];
    let text = asked.text();
    events.extend(
        pieces(&text)
            .into_iter()
            .map(|piece| chunk(choice(json!({"content": piece}), None), None)),
    );
    events.push(chunk(choice(json!({}), Some("stop")), None));
    if asked.includes_usage {
        events.push(chunk(json!([]), Some(&tokens)));
    }
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    streamed(events)
}

fn named(event: &str, data: &Value) -> Bytes {
    Bytes::from(format!("event: {event}\ndata: {data}\n\n"))
}

fn whole(answer: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response()
}

fn streamed(events: Vec<Bytes>) -> Response {
    let events = futures_util::stream::iter(events.into_iter().map(Ok::<_, Infallible>));
    (
        [(header::CONTENT_TYPE, "text/event-stream")],
        Body::from_stream(events),
    )
        .into_response()
}

fn refused(error: &Value) -> Response {
    (
        StatusCode::BAD_REQUEST,
        [(header::CONTENT_TYPE, "application/json")],
        error.to_string(),
    )
        .into_response()
}
