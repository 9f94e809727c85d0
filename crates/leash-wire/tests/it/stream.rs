//! Answers, streamed and whole.

use std::fmt::Write as _;

use leash_core::{Digest, ServiceTier, ToolRequest, Usage};
use leash_wire::{
    Format, Limits, Piece, Refusal, Response, StreamMeter, StreamOptions, WireError, WireErrorKind,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::data;

/// All that comes of a stream.
#[derive(Debug, PartialEq)]
struct Outcome {
    forwarded: Vec<u8>,
    /// Each tool call, and how many bytes were forwarded before it.
    requests: Vec<(usize, ToolRequest)>,
    usage: Option<Usage>,
    delivered: u64,
    is_complete: bool,
    digest: Digest,
    result: Result<(), WireError>,
}

fn run<'a>(format: Format, options: StreamOptions, chunks: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut meter = StreamMeter::new(format, options);
    let mut out = Vec::new();
    let limits = options.limits;
    let mut result = Ok(());
    for chunk in chunks {
        result = meter.feed(chunk, &mut out);
        assert!(meter.buffered_bytes() <= limits.max_event_bytes + limits.max_held_bytes + (64 << 10));
        if result.is_err() {
            assert_eq!(meter.feed(b"data: {}\n\n", &mut out), result, "it stays failed");
            break;
        }
    }
    if result.is_ok() {
        result = meter.finish(&mut out);
    }
    let mut forwarded = Vec::new();
    let mut requests = Vec::new();
    for piece in out {
        match piece {
            Piece::Forward(bytes) => forwarded.extend_from_slice(&bytes),
            Piece::ToolRequest(request) => requests.push((forwarded.len(), request)),
        }
    }
    Outcome {
        forwarded,
        requests,
        usage: meter.usage(),
        delivered: meter.delivered_output_bytes(),
        is_complete: meter.is_complete(),
        digest: meter.content_digest(),
        result,
    }
}

fn whole(format: Format, bytes: &[u8]) -> Outcome {
    run(format, StreamOptions::default(), [bytes])
}

fn hiding() -> StreamOptions {
    StreamOptions {
        hide_usage_chunk: true,
        ..StreamOptions::default()
    }
}

struct Transcript {
    name: &'static str,
    format: Format,
    /// Id, tool and canonical arguments of each call.
    calls: &'static [(&'static str, &'static str, &'static str)],
    usage: Usage,
    has_unary: bool,
    is_complete: bool,
}

/// The counts alone: not every form of an answer says its tier.
fn untiered(usage: Usage) -> Usage {
    Usage {
        service_tier: ServiceTier::Unsaid,
        ..usage
    }
}

fn transcripts() -> Vec<Transcript> {
    let usage = |input_tokens, output_tokens| Usage {
        input_tokens,
        output_tokens,
        ..Usage::default()
    };
    let responses = Usage {
        cache_read_tokens: 128,
        reasoning_tokens: 20,
        web_search_requests: 1,
        ..usage(200, 52)
    };
    vec![
        Transcript {
            name: "anthropic_tools",
            format: Format::AnthropicMessages,
            calls: &[
                ("toolu_01", "read_file", r#"{"limit":1.5,"path":"/etc/hosts"}"#),
                ("toolu_02", "list_dir", "{}"),
            ],
            usage: Usage {
                cache_read_tokens: 8000,
                cache_write_tokens: 200,
                cache_write_1h_tokens: 1000,
                ..usage(472, 93)
            },
            has_unary: true,
            is_complete: true,
        },
        Transcript {
            name: "anthropic_search",
            format: Format::AnthropicMessages,
            calls: &[],
            usage: Usage {
                web_search_requests: 1,
                ..usage(10682, 510)
            },
            has_unary: true,
            is_complete: true,
        },
        Transcript {
            name: "anthropic_error",
            format: Format::AnthropicMessages,
            calls: &[],
            usage: Usage {
                cache_read_tokens: 8000,
                cache_write_tokens: 200,
                cache_write_1h_tokens: 1000,
                ..usage(472, 2)
            },
            has_unary: false,
            is_complete: false,
        },
        Transcript {
            name: "chat_tools",
            format: Format::OpenAiChat,
            calls: &[
                ("call_a", "get_weather", r#"{"city":"Köln"}"#),
                ("call_b", "now", "{}"),
            ],
            usage: Usage {
                cache_read_tokens: 1024,
                reasoning_tokens: 64,
                ..usage(93, 146)
            },
            has_unary: true,
            is_complete: true,
        },
        Transcript {
            name: "chat_choices",
            format: Format::OpenAiChat,
            calls: &[
                ("call_x", "run_sql", r#""DROP TABLE t; -- {""#),
                ("", "old", r#"{"a":1}"#),
            ],
            usage: usage(30, 40),
            has_unary: true,
            is_complete: true,
        },
        Transcript {
            name: "responses_tools",
            format: Format::OpenAiResponses,
            calls: &[
                ("call_1", "pay", r#"{"to":"acme","usd":4000.0}"#),
                ("call_2", "sql", r#""SELECT 1;\n""#),
                (
                    "call_3",
                    "local_shell",
                    r#"{"action":{"command":["ls","-l"],"env":{},"type":"exec"}}"#,
                ),
            ],
            usage: responses,
            has_unary: true,
            is_complete: true,
        },
        Transcript {
            name: "responses_late",
            format: Format::OpenAiResponses,
            calls: &[
                ("call_1", "pay", r#"{"to":"acme","usd":4000.0}"#),
                ("call_2", "sql", r#""SELECT 1;\n""#),
            ],
            usage: Usage {
                web_search_requests: 0,
                ..responses
            },
            has_unary: true,
            is_complete: true,
        },
        Transcript {
            name: "responses_failed",
            format: Format::OpenAiResponses,
            calls: &[],
            usage: Usage {
                cache_read_tokens: 128,
                reasoning_tokens: 2,
                ..usage(200, 2)
            },
            has_unary: false,
            is_complete: true,
        },
    ]
}

impl Transcript {
    fn bytes(&self) -> Vec<u8> {
        data(&format!("{}.sse", self.name))
    }

    fn check_calls<'r>(&self, requests: impl Iterator<Item = &'r ToolRequest>) {
        let found: Vec<_> = requests
            .map(|request| {
                (
                    request.id.clone(),
                    request.tool.to_string(),
                    request.args.canonical(),
                )
            })
            .collect();
        let wanted: Vec<_> = self
            .calls
            .iter()
            .map(|(id, tool, args)| ((*id).to_owned(), (*tool).to_owned(), (*args).to_owned()))
            .collect();
        assert_eq!(found, wanted, "{}", self.name);
    }
}

#[test]
fn transcripts_give_their_calls_their_usage_and_every_byte() {
    for transcript in transcripts() {
        let bytes = transcript.bytes();
        let outcome = whole(transcript.format, &bytes);
        assert_eq!(outcome.result, Ok(()), "{}", transcript.name);
        assert_eq!(outcome.forwarded, bytes, "{}", transcript.name);
        assert_eq!(
            outcome.usage.map(untiered),
            Some(transcript.usage),
            "{}",
            transcript.name
        );
        assert_eq!(outcome.is_complete, transcript.is_complete, "{}", transcript.name);
        transcript.check_calls(outcome.requests.iter().map(|(_, request)| request));
        assert!(outcome.delivered > 0);
    }
}

#[test]
fn an_answer_in_one_piece_and_its_stream_say_the_same() {
    for transcript in transcripts().iter().filter(|transcript| transcript.has_unary) {
        let outcome = whole(transcript.format, &transcript.bytes());
        let body = data(&format!("{}.json", transcript.name));
        let response = Response::parse(transcript.format, &body, &Limits::default()).unwrap();
        transcript.check_calls(response.tool_requests().unwrap().iter());
        assert_eq!(response.content_digest(), outcome.digest, "{}", transcript.name);
        assert_eq!(
            response.usage().map(untiered),
            Some(transcript.usage),
            "{}",
            transcript.name
        );
        assert!(response.stop_reason().is_some());
    }
}

#[test]
fn a_call_comes_before_the_first_byte_that_tells_of_it() {
    for transcript in transcripts() {
        let outcome = whole(transcript.format, &transcript.bytes());
        for (at, request) in outcome.requests {
            let before = String::from_utf8(outcome.forwarded[..at].to_vec()).unwrap();
            // The tools offered are named in `response.created`, calls are not.
            assert!(
                request.id.is_empty() || !before.contains(&request.id),
                "{}",
                transcript.name
            );
        }
    }
}

#[test]
fn wherever_a_stream_ends_no_call_gets_out_unjudged() {
    for transcript in transcripts() {
        let bytes = transcript.bytes();
        for end in 0..bytes.len() {
            let outcome = whole(transcript.format, &bytes[..end]);
            let forwarded = String::from_utf8_lossy(&outcome.forwarded);
            for (id, ..) in transcript.calls.iter().filter(|(id, ..)| !id.is_empty()) {
                let is_judged = outcome.requests.iter().any(|(_, request)| request.id == *id);
                assert!(
                    is_judged || !forwarded.contains(id),
                    "{} cut at {end}",
                    transcript.name
                );
            }
            assert!(bytes.starts_with(&outcome.forwarded));
        }
    }
}

#[test]
fn a_stream_that_ends_inside_a_call_keeps_it_back() {
    let bytes = data("anthropic_cut.sse");
    let outcome = whole(Format::AnthropicMessages, &bytes);
    assert_eq!(outcome.result.unwrap_err().kind(), WireErrorKind::Truncated);
    assert!(outcome.requests.is_empty() && !outcome.is_complete);
    let held = bytes.windows(8).position(|window| window == b"tool_use").unwrap();
    assert!(outcome.forwarded.len() < held && bytes.starts_with(&outcome.forwarded));
    assert_eq!(outcome.usage.unwrap().input_tokens, 2679);
    assert!(outcome.delivered >= 12);
}

#[test]
fn the_usage_chunk_is_hidden_from_who_did_not_ask_and_counted_all_the_same() {
    for name in ["chat_tools", "chat_choices"] {
        let bytes = data(&format!("{name}.sse"));
        let text = String::from_utf8(bytes.clone()).unwrap();
        let at = text.find("\"choices\":[],").unwrap();
        let start = text[..at].rfind("data:").unwrap();
        let end = at + text[at..].find("data: [DONE]").unwrap();
        let outcome = run(Format::OpenAiChat, hiding(), [&bytes[..]]);
        assert_eq!(
            String::from_utf8(outcome.forwarded).unwrap(),
            [&text[..start], &text[end..]].concat()
        );
        assert_eq!(outcome.usage, whole(Format::OpenAiChat, &bytes).usage);
    }
    // Of Azure: no choices and no usage either.
    let filter = b"data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n";
    assert_eq!(run(Format::OpenAiChat, hiding(), [&filter[..]]).forwarded, filter);
}

#[test]
fn errors_of_the_provider_are_noted_and_pass() {
    for (name, format, kind) in [
        ("anthropic_error", Format::AnthropicMessages, "overloaded_error"),
        ("chat_error", Format::OpenAiChat, "server_error"),
        ("responses_failed", Format::OpenAiResponses, "server_error"),
    ] {
        let bytes = data(&format!("{name}.sse"));
        let mut meter = StreamMeter::new(format, StreamOptions::default());
        meter.feed(&bytes, &mut Vec::new()).unwrap();
        assert_eq!(meter.provider_error().unwrap().kind(), kind, "{name}");
    }
}

#[test]
fn unknown_events_comments_and_odd_line_ends_pass_as_they_are() {
    for format in [
        Format::AnthropicMessages,
        Format::OpenAiChat,
        Format::OpenAiResponses,
    ] {
        let bytes = b"\xef\xbb\xbf: hi\n\n\n\r\n\r\revent: new.thing\rid: 7\rretry: 10\rdata: {\"type\":\"new.thing\",\rdata: \"x\":[1]}\r\r: bye";
        let outcome = whole(format, bytes);
        assert_eq!(outcome.result, Ok(()));
        assert_eq!(outcome.forwarded, bytes);
    }
}

fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}

#[test]
fn what_clients_could_read_in_two_ways_is_an_error() {
    use Format::{AnthropicMessages as A, OpenAiChat as C, OpenAiResponses as R};
    let tool = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"ls","input":{}}}"#;
    let stop = r#"{"type":"content_block_stop","index":0}"#;
    let json = |index: u64, text: &str| {
        let text = serde_json::to_string(text).unwrap();
        format!(
            r#"{{"type":"content_block_delta","index":{index},"delta":{{"type":"input_json_delta","partial_json":{text}}}}}"#
        )
    };
    let chat = |delta: &str, finish: &str| {
        format!(r#"{{"choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}]}}"#)
    };
    let call = |rest: &str| chat(&format!(r#"{{"tool_calls":[{{"index":0,{rest}}}]}}"#), "null");
    let named = call(r#""id":"a","function":{"name":"ls","arguments":"{}"}"#);
    let finish = chat("{}", "\"tool_calls\"");
    let added = r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","id":"f","call_id":"c","name":"ls","arguments":""}}"#;
    let done = |name: &str, args: &str| {
        format!(
            r#"{{"type":"response.output_item.done","output_index":0,"item":{{"type":"function_call","id":"f","call_id":"c","name":"{name}","arguments":"{args}"}}}}"#
        )
    };
    let delta = r#"{"type":"response.function_call_arguments.delta","output_index":0,"delta":"{}"}"#;
    let completed = |args: &str| {
        format!(
            r#"{{"type":"response.completed","response":{{"output":[{{"type":"function_call","id":"f","call_id":"c","name":"ls","arguments":"{args}"}}]}}}}"#
        )
    };
    let cases: Vec<(Format, Vec<String>)> = vec![
        (
            A,
            vec!["{\"type\":\"ping\",\"type\":\"content_block_start\"}".into()],
        ),
        (A, vec![tool.into(), tool.into()]),
        (A, vec![tool.into(), stop.into(), tool.into()]),
        (A, vec![tool.into(), stop.into(), json(0, "{}")]),
        (A, vec![json(0, "{}")]),
        (A, vec![tool.into(), json(0, r#"{"a":1,"a":2}"#), stop.into()]),
        (A, vec![tool.into(), json(0, r#"{"a":NaN}"#), stop.into()]),
        (
            A,
            vec![
                tool.replace("\"input\":{}", "\"input\":{\"a\":1}"),
                json(0, "{}"),
                stop.into(),
            ],
        ),
        (A, vec![tool.replace("\"name\":\"ls\",", ""), stop.into()]),
        (A, vec![tool.into(), r#"{"type":"message_stop"}"#.into()]),
        (A, vec!["not json".into()]),
        (A, vec!["[1]".into()]),
        (C, vec![named.clone(), named.clone(), finish.clone()]),
        (C, vec![named.clone(), call(r#""id":"b""#), finish.clone()]),
        (
            C,
            vec![
                named.clone(),
                finish.clone(),
                call(r#""function":{"arguments":" "}"#),
            ],
        ),
        (
            C,
            vec![named.clone(), call(r#""custom":{"input":"x"}"#), finish.clone()],
        ),
        (C, vec![call(r#""function":{"arguments":"{}"}"#), finish.clone()]),
        (
            C,
            vec![
                call(r#""function":{"name":"a","arguments":"{\"a\":1,\"a\":2}"}"#),
                finish.clone(),
            ],
        ),
        (
            C,
            vec![r#"{"choices":[{"index":0,"message":{"tool_calls":[]}}]}"#.into()],
        ),
        (
            C,
            vec![r#"{"choices":[{"index":0,"delta":{},"delta":{}}]}"#.into()],
        ),
        (C, vec![r#"{"choices":7}"#.into()]),
        (R, vec![added.into(), delta.into(), done("ls", "{ }")]),
        (R, vec![added.into(), delta.into(), done("rm", "{}")]),
        (R, vec![added.into(), added.into()]),
        (R, vec![delta.into()]),
        (
            R,
            vec![added.into(), delta.into(), done("ls", "{}"), delta.into()],
        ),
        (
            R,
            vec![added.into(), delta.into(), done("ls", "{}"), completed("{ }")],
        ),
        (R, vec![done("ls", "{}"), done("ls", "{\\\"a\\\":1}")]),
        (
            R,
            vec![
                added.into(),
                r#"{"type":"response.completed","response":{"output":[]}}"#.into(),
            ],
        ),
        (
            R,
            vec![
                added.into(),
                r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"message"}}"#.into(),
            ],
        ),
    ];
    for (format, events) in cases {
        let bytes: String = events.iter().map(|data| event(data)).collect();
        let outcome = whole(format, bytes.as_bytes());
        let error = outcome.result.expect_err(&bytes);
        assert!(
            matches!(error.kind(), WireErrorKind::Ambiguous | WireErrorKind::Malformed),
            "{bytes}: {error:?}"
        );
    }
    // The same pieces, when they agree, are one call.
    for (format, events) in [
        (A, vec![tool.to_owned(), json(0, "{"), json(0, "}"), stop.into()]),
        (
            C,
            vec![named, call(r#""function":{"name":"","arguments":" "}"#), finish],
        ),
        (
            R,
            vec![added.to_owned(), delta.into(), done("ls", "{}"), completed("{}")],
        ),
    ] {
        let bytes: String = events.iter().map(|data| event(data)).collect();
        let outcome = whole(format, bytes.as_bytes());
        assert_eq!((outcome.result, outcome.requests.len()), (Ok(()), 1), "{bytes}");
    }
    let named = "event: ping\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\"}}\n\n";
    assert_eq!(
        whole(A, named.as_bytes()).result.unwrap_err().kind(),
        WireErrorKind::Ambiguous
    );
}

#[test]
fn calls_in_odd_places_are_found() {
    let prefilled = event(
        r#"{"type":"message_start","message":{"content":[{"type":"tool_use","id":"t","name":"ls","input":{}}]}}"#,
    );
    let created = event(
        r#"{"type":"response.created","response":{"output":[{"type":"computer_call","call_id":"t","action":{"type":"click"}}]}}"#,
    );
    for (format, bytes) in [
        (Format::AnthropicMessages, prefilled),
        (Format::OpenAiResponses, created),
    ] {
        let outcome = whole(format, bytes.as_bytes());
        assert_eq!(outcome.result, Ok(()));
        assert_eq!(outcome.requests.len(), 1);
        assert_eq!((outcome.requests[0].0, &*outcome.requests[0].1.id), (0, "t"));
        assert_eq!(outcome.forwarded, bytes.as_bytes());
    }
}

#[test]
fn a_smaller_or_absurd_report_never_lowers_what_is_charged() {
    let start =
        event(r#"{"type":"message_start","message":{"usage":{"input_tokens":100,"output_tokens":1}}}"#);
    let then = |usage: &str| {
        let bytes = start.clone() + &event(&format!(r#"{{"type":"message_delta","usage":{usage}}}"#));
        let outcome = whole(Format::AnthropicMessages, bytes.as_bytes());
        assert_eq!(outcome.result, Ok(()));
        outcome.usage
    };
    assert_eq!(then(r#"{"output_tokens":50}"#).unwrap().output_tokens, 50);
    assert_eq!(
        then(r#"{"input_tokens":1,"output_tokens":0}"#)
            .unwrap()
            .input_tokens,
        100
    );
    for bad in [
        r#"{"output_tokens":-1}"#,
        r#"{"output_tokens":1e300}"#,
        "[]",
        r#"{"output_tokens":"9"}"#,
    ] {
        assert_eq!(then(bad), None, "{bad}");
    }
    let body = |usage: &str| format!(r#"{{"choices":[],"usage":{usage}}}"#);
    for bad in [
        r#"{"prompt_tokens":-1,"completion_tokens":2}"#,
        "7",
        r#"{"prompt_tokens":1.5,"completion_tokens":2}"#,
    ] {
        let response = Response::parse(Format::OpenAiChat, body(bad).as_bytes(), &Limits::default()).unwrap();
        assert!(response.usage().is_none() && response.usage_untrusted());
    }
    let response = Response::parse(Format::OpenAiChat, b"{}", &Limits::default()).unwrap();
    assert!(response.usage().is_none() && !response.usage_untrusted());
}

#[test]
fn an_answer_whose_calls_cannot_be_judged_still_tells_its_usage() {
    let body = br#"{"choices":[{"index":0,"message":{"tool_calls":[{"id":"a","type":"function",
        "function":{"name":"pay","arguments":"{\"to\":\"a\",\"to\":\"b\"}"}}]}}],
        "usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
    let response = Response::parse(Format::OpenAiChat, body, &Limits::default()).unwrap();
    assert_eq!(
        response.tool_requests().unwrap_err().kind(),
        WireErrorKind::Ambiguous
    );
    assert_eq!(response.usage().unwrap().output_tokens, 4);
    for bad in [
        &b"\xff"[..],
        b"{",
        b"[]",
        b"{\"a\":1,\"a\":2}",
        b"\x1f\x8b\x08\x00",
        br#"{"choices":{}}"#,
    ] {
        assert!(Response::parse(Format::OpenAiChat, bad, &Limits::default()).is_err());
    }
}

#[test]
fn past_a_limit_is_an_error_and_no_buffer_grows_beyond_it() {
    let mut limits = Limits::DEFAULT;
    limits.max_event_bytes = 1 << 20;
    limits.max_held_bytes = 1 << 20;
    limits.max_argument_bytes = 1000;
    limits.max_content_bytes = 4 << 20;
    limits.max_tool_calls = 3;
    let options = StreamOptions {
        limits,
        ..StreamOptions::default()
    };
    let is_limit = |outcome: &Outcome| outcome.result.unwrap_err().kind() == WireErrorKind::Limit;

    // A gigabyte in one event; `run` checks what is buffered after each piece.
    let piece = vec![b'a'; 1 << 20];
    let endless = std::iter::once(&b"data: {\"type\":\""[..]).chain(std::iter::repeat_n(&piece[..], 1024));
    assert!(is_limit(&run(Format::OpenAiResponses, options, endless)));
    let huge = vec![b'a'; 8 << 20];
    assert!(is_limit(&run(Format::OpenAiChat, options, [&huge[..]])));

    let call = |index: u64, args: &str| {
        event(&format!(
            r#"{{"choices":[{{"index":0,"delta":{{"tool_calls":[{{"index":{index},"function":{{"name":"f{index}","arguments":"{args}"}}}}]}}}}]}}"#
        ))
    };
    let long = call(0, &"1".repeat(1001));
    assert!(is_limit(&run(Format::OpenAiChat, options, [long.as_bytes()])));
    let many: String = (0..4).map(|index| call(index, "{}")).collect();
    assert!(is_limit(&run(Format::OpenAiChat, options, [many.as_bytes()])));

    let begin = call(0, "");
    let comment = format!(": {}\n\n", "x".repeat(1 << 16));
    let held = std::iter::once(begin.as_bytes()).chain(std::iter::repeat_n(comment.as_bytes(), 20));
    assert!(is_limit(&run(Format::OpenAiChat, options, held)));

    let text = event(&format!(
        r#"{{"choices":[{{"delta":{{"content":"{}"}}}}]}}"#,
        "x".repeat(1 << 16)
    ));
    assert!(is_limit(&run(
        Format::OpenAiChat,
        options,
        std::iter::repeat_n(text.as_bytes(), 80)
    )));
    let body = vec![b' '; limits.max_body_bytes + 1];
    let error = Response::parse(Format::OpenAiChat, &body, &limits).unwrap_err();
    assert_eq!(error.kind(), WireErrorKind::Limit);
}

#[test]
fn debug_shows_no_text_of_the_answer() {
    let mut meter = StreamMeter::new(Format::OpenAiChat, StreamOptions::default());
    let mut out = Vec::new();
    meter
        .feed(
            event(r#"{"choices":[{"delta":{"content":"sesame"}}]}"#).as_bytes(),
            &mut out,
        )
        .unwrap();
    meter.feed(b"data: sesame", &mut out).unwrap();
    let error = meter.feed(b"\n\n", &mut out).unwrap_err();
    let body = br#"{"content":[{"type":"text","text":"sesame"}]}"#;
    let response = Response::parse(Format::AnthropicMessages, body, &Limits::default()).unwrap();
    assert!(!format!("{meter:?} {out:?} {error:?} {error} {response:?}").contains("sesame"));
}

#[test]
fn the_event_that_ends_a_stream_has_the_number_that_is_due() {
    let mut meter = StreamMeter::new(Format::OpenAiResponses, StreamOptions::default());
    meter
        .feed(
            event(r#"{"type":"response.created","sequence_number":41}"#).as_bytes(),
            &mut Vec::new(),
        )
        .unwrap();
    let last = meter.error_event(&Refusal {
        rule_id: "kill:registry",
        reason: "stop",
    });
    assert!(
        String::from_utf8(last.to_vec())
            .unwrap()
            .contains("\"sequence_number\":42}")
    );
}

fn pieces<'b>(bytes: &'b [u8], cuts: &[usize]) -> Vec<&'b [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.push(0);
    cuts.push(bytes.len());
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

fn format() -> impl Strategy<Value = Format> {
    prop::sample::select(vec![
        Format::AnthropicMessages,
        Format::OpenAiChat,
        Format::OpenAiResponses,
    ])
}

proptest! {
    #[test]
    fn however_a_stream_is_cut_into_pieces_the_same_comes_out(
        which in 0..8_usize,
        hide in any::<bool>(),
        cuts in prop::collection::vec(any::<usize>(), 0..60),
    ) {
        let transcript = &transcripts()[which];
        let options = StreamOptions { hide_usage_chunk: hide, ..StreamOptions::default() };
        let bytes = transcript.bytes();
        let wanted = run(transcript.format, options, [&bytes[..]]);
        prop_assert_eq!(run(transcript.format, options, pieces(&bytes, &cuts)), wanted);
    }

    #[test]
    fn byte_by_byte_and_with_other_line_ends_the_same_calls_come_out(
        which in 0..8_usize,
        end in prop::sample::select(vec!["\n", "\r\n", "\r"]),
    ) {
        let transcript = &transcripts()[which];
        let text = String::from_utf8(transcript.bytes()).unwrap().replace("\r\n", "\n").replace('\n', end);
        let outcome = run(transcript.format, StreamOptions::default(), text.as_bytes().chunks(1));
        prop_assert_eq!(outcome.result, Ok(()));
        prop_assert_eq!(&outcome.forwarded[..], text.as_bytes());
        prop_assert_eq!(outcome.digest, whole(transcript.format, &transcript.bytes()).digest);
        transcript.check_calls(outcome.requests.iter().map(|(_, request)| request));
    }

    #[test]
    fn mutated_transcripts_never_panic_and_what_comes_out_came_in(
        which in 0..8_usize,
        format in format(),
        mix in any::<bool>(),
        edits in prop::collection::vec((any::<usize>(), any::<u8>(), 0..4_u8), 1..12),
        cuts in prop::collection::vec(any::<usize>(), 0..8),
    ) {
        let transcript = &transcripts()[which];
        let mut bytes = transcript.bytes();
        for (at, byte, how) in edits {
            let at = at % bytes.len();
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => { bytes.remove(at); }
                _ => {
                    let end = (at + usize::from(byte)).min(bytes.len());
                    let copy = bytes[at..end].to_vec();
                    bytes.splice(at..at, copy);
                }
            }
        }
        let format = if mix { format } else { transcript.format };
        let outcome = run(format, StreamOptions::default(), pieces(&bytes, &cuts));
        prop_assert!(bytes.starts_with(&outcome.forwarded));
        if outcome.result.is_ok() {
            prop_assert_eq!(outcome.forwarded, bytes);
        }
    }

    #[test]
    fn random_bytes_never_panic(format in format(), bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        run(format, hiding(), bytes.chunks(7));
        let _ = Response::parse(format, &bytes, &Limits::default());
    }

    #[test]
    fn random_members_never_panic(
        format in format(),
        events in prop::collection::vec(
            (0..12_usize, 0..8_usize, 0..8_usize), 1..8,
        ),
    ) {
        const NAMES: [&str; 12] = [
            "content_block_start", "content_block_delta", "content_block_stop", "message_start", "message_delta",
            "response.output_item.added", "response.output_item.done", "response.function_call_arguments.delta",
            "response.completed", "error", "response.function_call_arguments.done", "x",
        ];
        const VALUES: [&str; 8] = [
            "null", "-1", "\"\\ud800\"", "[]", "{}", "{\"type\":\"tool_use\"}",
            "{\"type\":\"function_call\",\"output\":[{}]}", "[[[7]]]",
        ];
        let mut bytes = String::new();
        for (name, a, b) in events {
            let (name, a, b) = (NAMES[name], VALUES[a], VALUES[b]);
            bytes += &event(&format!(
                r#"{{"type":"{name}","index":0,"output_index":0,"content_block":{a},"delta":{b},"item":{a},
                "response":{b},"message":{a},"usage":{b},"arguments":{a},"error":{b},"choices":{a}}}"#
            ).replace('\n', ""));
        }
        run(format, hiding(), [bytes.as_bytes()]);
    }

    #[test]
    fn any_answer_of_anthropic_hashes_the_same_streamed_and_whole(
        blocks in prop::collection::vec((any::<String>(), prop::option::of((any::<String>(), any::<i64>()))), 0..5),
        step in 1..9_usize,
        escape in any::<bool>(),
    ) {
        let mut content = Vec::new();
        let mut bytes = String::new();
        for (index, (text, tool)) in blocks.iter().enumerate() {
            let (begun, whole, deltas) = match tool {
                None => (
                    json!({"type": "text", "text": ""}),
                    json!({"type": "text", "text": text, "citations": null}),
                    cut(text, step).map(|text| json!({"type": "text_delta", "text": text})).collect::<Vec<_>>(),
                ),
                Some((key, value)) => {
                    let (id, input) = (format!("t{index}"), json!({key: value, "text": text}));
                    let tool = |input: &Value| json!({"type": "tool_use", "id": id, "name": "f", "input": input});
                    let piece = |json| json!({"type": "input_json_delta", "partial_json": json});
                    (tool(&json!({})), tool(&input), cut(&input.to_string(), step).map(piece).collect())
                }
            };
            content.push(whole);
            let mut events = vec![json!({"type": "content_block_start", "index": index, "content_block": begun})];
            events.extend(
                deltas.iter().map(|delta| json!({"type": "content_block_delta", "index": index, "delta": delta})),
            );
            events.push(json!({"type": "content_block_stop", "index": index}));
            bytes.extend(events.iter().map(|data| event(&written(data, escape))));
        }
        let body = json!({"content": content}).to_string();
        agree(Format::AnthropicMessages, &bytes, &body)?;
    }

    #[test]
    fn any_chat_answer_hashes_the_same_streamed_and_whole(
        text in any::<String>(),
        calls in prop::collection::vec((any::<String>(), any::<i64>()), 0..4),
        step in 1..9_usize,
        escape in any::<bool>(),
    ) {
        let mut deltas = vec![json!({"role": "assistant", "content": ""})];
        deltas.extend(cut(&text, step).map(|text| json!({"content": text})));
        let mut whole = Vec::new();
        for (index, (key, value)) in calls.iter().enumerate() {
            let arguments = json!({key: value}).to_string();
            let id = format!("c{index}");
            let function = |arguments: &str| json!({"name": "f", "arguments": arguments});
            whole.push(json!({"id": id, "type": "function", "function": function(&arguments)}));
            let begun = json!({"index": index, "id": id, "type": "function", "function": function("")});
            deltas.push(json!({"tool_calls": [begun]}));
            deltas.extend(cut(&arguments, step).map(
                |piece| json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}),
            ));
        }
        let mut bytes: String = deltas
            .iter()
            .map(|delta| event(&written(&json!({"choices": [{"index": 0, "delta": delta}]}), escape)))
            .collect();
        bytes += "data: [DONE]\n\n";
        let message = json!({"role": "assistant", "content": text, "refusal": null, "tool_calls": whole});
        let body = json!({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).to_string();
        agree(Format::OpenAiChat, &bytes, &body)?;
    }
}

fn cut(text: &str, step: usize) -> impl Iterator<Item = String> {
    let chars: Vec<char> = text.chars().collect();
    chars
        .chunks(step)
        .map(|piece| piece.iter().collect())
        .collect::<Vec<_>>()
        .into_iter()
}

/// JSON, with everything beyond ASCII escaped where `escape` says so.
fn written(value: &Value, escape: bool) -> String {
    let text = value.to_string();
    if !escape {
        return text;
    }
    let mut out = String::new();
    for char in text.chars() {
        if char.is_ascii() {
            out.push(char);
        } else {
            for unit in char.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}").unwrap();
            }
        }
    }
    out
}

fn agree(format: Format, stream: &str, body: &str) -> Result<(), TestCaseError> {
    let outcome = whole(format, stream.as_bytes());
    let response = Response::parse(format, body.as_bytes(), &Limits::default());
    let response = response.map_err(|error| TestCaseError::fail(error.to_string()))?;
    // Where one cannot be judged (a member twice), neither can the other.
    let Ok(requests) = response.tool_requests() else {
        prop_assert!(outcome.result.is_err());
        return Ok(());
    };
    prop_assert_eq!(outcome.result, Ok(()));
    prop_assert_eq!(
        outcome
            .requests
            .iter()
            .map(|(_, request)| request)
            .collect::<Vec<_>>(),
        requests.iter().collect::<Vec<_>>()
    );
    prop_assert_eq!(outcome.digest, response.content_digest());
    prop_assert_eq!(outcome.forwarded, stream.as_bytes());
    Ok(())
}

#[test]
fn a_whole_message_without_a_report_at_its_end_has_no_usage() {
    let start = r#"data: {"type":"message_start","message":{"content":[],"usage":{"input_tokens":9,"output_tokens":1}}}"#;
    let block = r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
    let text = r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a long answer"}}"#;
    let end = r#"data: {"type":"message_stop"}"#;
    for (last, usage) in [
        ("", None),
        (
            r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
            None,
        ),
        (
            r#"data: {"type":"message_delta","delta":{},"usage":{"input_tokens":9}}"#,
            None,
        ),
        (
            r#"data: {"type":"message_delta","delta":{},"usage":{"output_tokens":-4}}"#,
            None,
        ),
        (
            r#"data: {"type":"message_delta","delta":{},"usage":{"output_tokens":4}}"#,
            Some(4),
        ),
    ] {
        let events = [start, block, text, last, end].map(|event| format!("{event}\n\n"));
        let outcome = whole(Format::AnthropicMessages, events.concat().as_bytes());
        assert_eq!(outcome.result, Ok(()));
        assert!(outcome.is_complete);
        assert_eq!(outcome.usage.map(|usage| usage.output_tokens), usage, "{last}");
    }
}

#[test]
fn a_tool_whose_name_would_fill_the_log_is_an_error() {
    let call = |name: &str| {
        let call = json!({"index": 0, "id": "c", "function": {"name": name, "arguments": "{}"}});
        let chunk = json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]});
        whole(Format::OpenAiChat, format!("data: {chunk}\n\n").as_bytes())
    };
    assert_eq!(call(&"t".repeat(512)).requests.len(), 1);
    let refused = call(&"t".repeat(513));
    assert!(refused.requests.is_empty() && refused.forwarded.is_empty());
    assert_eq!(refused.result.unwrap_err().kind(), WireErrorKind::Limit);
    let body = json!({"content": [{"type": "tool_use", "id": "c", "name": "t".repeat(513), "input": {}}]});
    let answer = Response::parse(
        Format::AnthropicMessages,
        body.to_string().as_bytes(),
        &Limits::default(),
    );
    assert_eq!(
        answer.unwrap().tool_requests().unwrap_err().kind(),
        WireErrorKind::Limit
    );
}

#[test]
fn an_answer_that_says_something_and_counts_nothing_has_no_usage() {
    let chunk = |content: &str| json!({"choices": [{"index": 0, "delta": {"content": content}}]});
    let counted = json!({"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}});
    for (content, is_believed) in [("a long answer", false), ("", true)] {
        let events = format!("data: {}\n\ndata: {counted}\n\ndata: [DONE]\n\n", chunk(content));
        let streamed = whole(Format::OpenAiChat, events.as_bytes());
        assert!(streamed.is_complete);
        assert_eq!(streamed.usage.is_some(), is_believed, "{content}");
        for (format, body) in [
            (
                Format::OpenAiChat,
                json!({"choices": [{"index": 0, "message": {"content": content}}], "usage": counted["usage"]}),
            ),
            (
                Format::AnthropicMessages,
                json!({"content": if is_believed { json!([]) } else { json!([{"type": "text", "text": content}]) },
                    "usage": {"input_tokens": 9, "output_tokens": 0}}),
            ),
            (
                Format::OpenAiResponses,
                json!({"output": if is_believed { json!([]) } else { json!([{"type": "message", "content": content}]) },
                    "usage": {"input_tokens": 9, "output_tokens": 0}}),
            ),
        ] {
            let answer = Response::parse(format, body.to_string().as_bytes(), &Limits::default()).unwrap();
            assert_eq!(answer.usage().is_some(), is_believed, "{body}");
            assert_eq!(answer.usage_untrusted(), !is_believed);
        }
    }
}
