//! How long it takes to read a stream of a thousand events, and a request of 2 KB.
#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use leash_wire::{Format, Limits, Request, Response, StreamMeter, StreamOptions};

fn anthropic() -> String {
    let mut out = String::from(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"content\":[],\"usage\":{\"input_tokens\":500,\"output_tokens\":1}}}\n\n\
         event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    );
    for number in 0..995 {
        write!(
            out,
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\" word\\n{number}\"}}}}\n\n"
        )
        .unwrap();
    }
    out.push_str(
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
         event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":996}}\n\n\
         event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    );
    out
}

fn chat() -> String {
    let mut out = String::new();
    for number in 0..998 {
        write!(
            out,
            "data: {{\"id\":\"chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG\",\"object\":\"chat.completion.chunk\",\"created\":1790000000,\"model\":\"gpt-5\",\"service_tier\":\"default\",\"system_fingerprint\":null,\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" word{number}\"}},\"logprobs\":null,\"finish_reason\":null}}],\"usage\":null}}\n\n"
        )
        .unwrap();
    }
    out.push_str(
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":998}}\n\ndata: [DONE]\n\n",
    );
    out
}

fn responses() -> String {
    let mut out = String::new();
    for number in 0..999 {
        write!(
            out,
            "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"sequence_number\":{number},\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0,\"delta\":\" word\",\"logprobs\":[],\"obfuscation\":\"a1b2c3\"}}\n\n"
        )
        .unwrap();
    }
    out.push_str(
        "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"output\":[],\"usage\":{\"input_tokens\":9,\"output_tokens\":998}}}\n\n",
    );
    out
}

fn streams(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire");
    for (name, format, text) in [
        ("anthropic", Format::AnthropicMessages, anthropic()),
        ("chat", Format::OpenAiChat, chat()),
        ("responses", Format::OpenAiResponses, responses()),
    ] {
        group.throughput(Throughput::Bytes(u64::try_from(text.len()).unwrap()));
        for (how, piece) in [("", 160), ("_16_kib_a_piece", 16 << 10)] {
            group.bench_function(format!("stream_1000_events_{name}{how}"), |bencher| {
                let mut out = Vec::new();
                bencher.iter(|| {
                    let mut meter = StreamMeter::new(format, StreamOptions::default());
                    for bytes in text.as_bytes().chunks(piece) {
                        meter.feed(bytes, &mut out).unwrap();
                        out.clear();
                    }
                    meter.finish(&mut out).unwrap();
                    black_box(meter.usage())
                });
            });
        }
    }
    group.finish();
}

fn documents(criterion: &mut Criterion) {
    let limits = Limits::default();
    let prompt = "The quick brown fox jumps over the lazy dog. ".repeat(40);
    let request = format!(
        r#"{{"model":"claude-sonnet-4-5","max_tokens":1024,"system":"Be brief.","messages":[{{"role":"user","content":[{{"type":"text","text":"{prompt}"}}]}}],"tools":[{{"name":"read_file","description":"Reads a file.","input_schema":{{"type":"object","properties":{{"path":{{"type":"string"}}}}}}}}]}}"#
    );
    let response = format!(
        r#"{{"id":"msg_1","type":"message","role":"assistant","content":[{{"type":"text","text":"{prompt}"}}],"stop_reason":"end_turn","usage":{{"input_tokens":500,"output_tokens":420}}}}"#
    );
    criterion.bench_function("wire/request_2kb", |bencher| {
        bencher.iter(|| {
            Request::parse(Format::AnthropicMessages, black_box(request.as_bytes()), &limits).unwrap()
        });
    });
    criterion.bench_function("wire/answer_2kb", |bencher| {
        bencher.iter(|| {
            let body = black_box(response.as_bytes());
            Response::parse(Format::AnthropicMessages, body, &limits)
                .unwrap()
                .content_digest()
        });
    });
}

criterion_group!(benches, streams, documents);
criterion_main!(benches);
