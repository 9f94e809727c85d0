//! Requests, and what is changed in them.

use leash_core::{Call, Caller, InputSize, Json, ServiceTier, SessionId};
use leash_wire::{Format, Limits, Outgoing, Request, WireError, WireErrorKind, outgoing_body};
use proptest::prelude::*;

fn parse(format: Format, body: &str) -> Result<Request, WireError> {
    Request::parse(format, body.as_bytes(), &Limits::default())
}

fn bytes(request: &Request) -> u64 {
    match request.input {
        InputSize::Bytes(bytes) => bytes,
        InputSize::Unbounded => panic!("unbounded"),
    }
}

#[test]
fn a_plain_request_is_bounded_by_its_bytes_and_little_more() {
    for (format, body) in [
        (
            Format::AnthropicMessages,
            r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"}],"system":"S"}"#,
        ),
        (
            Format::OpenAiChat,
            r#"{"model":"m","max_tokens":5,"max_completion_tokens":9,"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}"#,
        ),
        (
            Format::OpenAiResponses,
            r#"{"model":"m","max_output_tokens":9,"input":[{"role":"user","content":[{"type":"input_text","text":"Hi"}]}],"instructions":"S"}"#,
        ),
    ] {
        let request = parse(format, body).unwrap();
        let size = u64::try_from(body.len()).unwrap();
        assert!((size..size + 200).contains(&bytes(&request)), "{body}");
        assert_eq!(
            (request.max_output_tokens, request.choices, request.streaming),
            (Some(9), 1, false)
        );
        assert_eq!(request.max_server_tool_uses, Some(0));
        assert!(request.tools.is_empty() && !request.wants_sound);
        let call = request.into_model_call(Caller::session(SessionId::new("s_1").unwrap()));
        assert_eq!((&*call.provider, &*call.model), (format.provider(), "m"));
        assert_eq!(Call::Model(call).content().text(), body);
    }
}

#[test]
fn what_the_request_does_not_hold_makes_it_unbounded() {
    let anthropic =
        |part: &str| format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{part}]}}]}}"#);
    let chat = |part: &str| format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{part}]}}]}}"#);
    let responses = |members: &str| format!(r#"{{"model":"m",{members}}}"#);
    for (format, body) in [
        (
            Format::AnthropicMessages,
            anthropic(r#"{"type":"document","source":{"type":"url","url":"x"}}"#),
        ),
        (
            Format::AnthropicMessages,
            anthropic(r#"{"type":"document","source":{"type":"file","file_id":"x"}}"#),
        ),
        (
            Format::AnthropicMessages,
            anthropic(r#"{"type":"tool_result","tool_use_id":"t","content":[{"type":"image"}]}"#),
        ),
        (
            Format::AnthropicMessages,
            anthropic(r#"{"type":"container_upload","file_id":"x"}"#),
        ),
        (Format::AnthropicMessages, anthropic(r#"{"type":"hologram"}"#)),
        (Format::AnthropicMessages, anthropic(r#"{"text":"no type"}"#)),
        (
            Format::AnthropicMessages,
            r#"{"model":"m","messages":[],"mcp_servers":[{"type":"url","url":"x"}]}"#.into(),
        ),
        (
            Format::AnthropicMessages,
            r#"{"model":"m","messages":[],"container":"c"}"#.into(),
        ),
        (
            Format::AnthropicMessages,
            r#"{"model":"m","messages":[],"context_management":{"edits":[{"type":"compact_20260112"}]}}"#
                .into(),
        ),
        (
            Format::OpenAiChat,
            chat(r#"{"type":"image_url","image_url":{"url":"x"}}"#),
        ),
        (
            Format::OpenAiChat,
            chat(r#"{"type":"input_audio","input_audio":{}}"#),
        ),
        (
            Format::OpenAiChat,
            chat(r#"{"type":"file","file":{"file_id":"x"}}"#),
        ),
        (
            Format::OpenAiChat,
            r#"{"model":"m","messages":[{"role":"assistant","audio":{"id":"a"}}]}"#.into(),
        ),
        (
            Format::OpenAiChat,
            r#"{"model":"m","messages":[],"web_search_options":{}}"#.into(),
        ),
        (
            Format::OpenAiChat,
            r#"{"model":"gpt-4o-search-preview","messages":[]}"#.into(),
        ),
        (
            Format::OpenAiResponses,
            responses(r#""input":"x","previous_response_id":"resp_1""#),
        ),
        (
            Format::OpenAiResponses,
            responses(r#""input":"x","conversation":"c""#),
        ),
        (Format::OpenAiResponses, responses(r#""prompt":{"id":"p"}"#)),
        (
            Format::OpenAiResponses,
            responses(r#""input":[{"type":"item_reference","id":"x"}]"#),
        ),
        (
            Format::OpenAiResponses,
            responses(r#""input":[{"role":"user","content":[{"type":"input_image"}]}]"#),
        ),
        (
            Format::OpenAiResponses,
            responses(r#""input":[{"type":"function_call_output","output":[{"type":"input_file"}]}]"#),
        ),
        (Format::OpenAiResponses, responses(r#""input":[{"type":"what"}]"#)),
        (
            Format::OpenAiResponses,
            responses(r#""input":"x","tools":[{"type":"web_search"}]"#),
        ),
        (
            Format::OpenAiResponses,
            responses(r#""input":"x","tools":[{"type":"shell","environment":{"type":"container_auto"}}]"#),
        ),
    ] {
        assert_eq!(
            parse(format, &body).unwrap().input,
            InputSize::Unbounded,
            "{body}"
        );
    }
}

#[test]
fn null_members_are_no_members() {
    let body = r#"{"model":"m","input":"x","previous_response_id":null,"conversation":null,"prompt":null,"tools":null,
        "max_output_tokens":null,"stream":null,"background":null,"service_tier":null}"#;
    let request = parse(Format::OpenAiResponses, body).unwrap();
    assert!(matches!(request.input, InputSize::Bytes(_)));
    assert_eq!((request.max_output_tokens, request.streaming), (None, false));
}

#[test]
fn tools_are_named_and_those_the_provider_runs_are_counted() {
    let uses = |format, tools: &str, rest: &str| {
        let request = parse(
            format,
            &format!(r#"{{"model":"m","messages":[],"tools":[{tools}]{rest}}}"#),
        )
        .unwrap();
        let names: Vec<String> = request.tools.iter().map(ToString::to_string).collect();
        (
            names.join(" "),
            request.max_server_tool_uses,
            matches!(request.input, InputSize::Bytes(bytes) if bytes > 2048),
        )
    };
    let a = Format::AnthropicMessages;
    assert_eq!(
        uses(a, r#"{"name":"ls","input_schema":{}}"#, ""),
        ("ls".into(), Some(0), true)
    );
    assert_eq!(
        uses(a, r#"{"type":"bash_20250124","name":"bash"}"#, ""),
        ("bash".into(), Some(0), true)
    );
    let search = r#"{"type":"web_search_20250305","name":"web_search","max_uses":5}"#;
    let fetch = r#"{"type":"web_fetch_20250910","name":"web_fetch","max_uses":2}"#;
    assert_eq!(
        uses(a, &format!("{search},{fetch}"), ""),
        ("web_search web_fetch".into(), Some(7), false)
    );
    let code = r#"{"type":"code_execution_20250825","name":"code_execution"}"#;
    assert_eq!(
        uses(a, &format!("{search},{code}"), ""),
        ("web_search code_execution".into(), None, false)
    );
    let c = Format::OpenAiChat;
    let function =
        r#"{"type":"function","function":{"name":"pay"}},{"type":"custom","custom":{"name":"sql"}}"#;
    assert_eq!(uses(c, function, ""), ("pay sql".into(), Some(0), true));
    assert_eq!(
        uses(c, r#"{"type":"browser_search"}"#, ""),
        ("browser_search".into(), None, false)
    );
    let r = Format::OpenAiResponses;
    assert_eq!(
        uses(r, r#"{"type":"function","name":"pay"}"#, r#","max_tool_calls":3"#).1,
        Some(0)
    );
    assert_eq!(
        uses(r, r#"{"type":"web_search"}"#, ""),
        ("web_search".into(), None, false)
    );
    assert_eq!(
        uses(
            r,
            r#"{"type":"mcp","server_label":"x"}"#,
            r#","max_tool_calls":3"#
        ),
        ("mcp".into(), Some(3), false)
    );
}

/// What the provider may do besides answering, as `parse` finds it.
fn besides(format: Format, members: &str) -> (bool, Option<u64>, bool, bool) {
    let request = parse(format, &format!(r#"{{"model":"m",{members}}}"#)).unwrap();
    (
        request.input == InputSize::Unbounded,
        request.max_server_tool_uses,
        request.runs_code,
        request.runs_other_tools,
    )
}

const ANTHROPIC: Format = Format::AnthropicMessages;
const CHAT: Format = Format::OpenAiChat;
const RESPONSES: Format = Format::OpenAiResponses;

#[test]
fn what_is_not_known_is_no_cheaper_than_a_tool_without_a_number() {
    let unknown = (true, None, false, true);
    for (format, members) in [
        (
            ANTHROPIC,
            r#""thread":{"type":"continue","previous_message_id":"m"}"#,
        ),
        (ANTHROPIC, r#""tools":[{"type":"teleport_20270101","name":"t"}]"#),
        (ANTHROPIC, r#""new_feature":true"#),
        (CHAT, r#""plugins":[{"id":"web"}]"#),
        (CHAT, r#""search_parameters":{"mode":"on"}"#),
        (CHAT, r#""extra_body":{"google":{"cached_content":"c"}}"#),
        (CHAT, r#""data_sources":[{"type":"azure_search"}]"#),
        (CHAT, r#""enable_search":true"#),
        (CHAT, r#""tools":[{"google_search":{}}]"#),
        (CHAT, r#""tools":[{"type":"openrouter:web_search"}]"#),
        (CHAT, r#""prompt_cache_options":{"ttl":"12h"}"#),
        (RESPONSES, r#""tools":[{"type":"image_generation"}]"#),
        (RESPONSES, r#""tools":[{"type":"programmatic_tool_calling"}]"#),
        (
            RESPONSES,
            r#""tools":[{"type":"namespace","name":"n","tools":[{"type":"web_search"}]}]"#,
        ),
        (RESPONSES, r#""multi_agent":{"enabled":true}"#),
    ] {
        assert_eq!(besides(format, members), unknown, "{members}");
    }
    // A text may refer to something; a number cannot.
    assert_eq!(
        besides(CHAT, r#""cached_content":"c""#),
        (true, Some(0), false, false)
    );
    for (format, members) in [
        (
            CHAT,
            r#""top_k":5,"min_p":0.1,"new_feature":false,"other":null,"plugins":[],"extra_body":{}"#,
        ),
        (
            CHAT,
            r#""reasoning_effort":"high","verbosity":"low","seed":7,"logit_bias":{"5":1},"stop":["x"]"#,
        ),
        (
            CHAT,
            r#""chat_template_kwargs":{"enable_thinking":false},"prompt_cache_options":{"ttl":"30m"}"#,
        ),
        (
            RESPONSES,
            r#""reasoning":{"effort":"high"},"text":{"verbosity":"low"},"include":["x"],"store":true"#,
        ),
        (
            RESPONSES,
            r#""tools":[{"type":"namespace","name":"n","tools":[{"type":"function","name":"f"}]}]"#,
        ),
        (
            RESPONSES,
            r#""tools":[{"type":"tool_search","execution":"client"},{"type":"shell","environment":{"type":"local"}}]"#,
        ),
        (
            ANTHROPIC,
            r#""metadata":{"user_id":"u"},"thinking":{"type":"adaptive"},"output_config":{"effort":"low"}"#,
        ),
        (
            ANTHROPIC,
            r#""tools":[{"type":"browser_toolset_20260801"},{"type":"computer_toolset_20260801"}]"#,
        ),
    ] {
        assert_eq!(
            besides(format, members),
            (false, Some(0), false, false),
            "{members}"
        );
    }
}

#[test]
fn another_model_that_may_answer_is_refused() {
    for (format, members) in [
        (ANTHROPIC, r#""fallbacks":[{"model":"claude-opus-5-5"}]"#),
        (ANTHROPIC, r#""fallbacks":"default""#),
        (CHAT, r#""models":["openai/o1-pro"]"#),
        (CHAT, r#""fallbacks":["o1-pro"]"#),
    ] {
        let body = format!(r#"{{"model":"m","messages":[],{members}}}"#);
        assert_eq!(
            parse(format, &body).unwrap_err().kind(),
            WireErrorKind::Unsupported,
            "{members}"
        );
        let empty = r#"{"model":"m","messages":[],"fallbacks":[],"models":null}"#;
        assert!(parse(format, empty).is_ok());
    }
}

#[test]
fn tools_that_come_with_the_messages_are_tools_too() {
    let addition = |definition: &str| {
        format!(
            r#""messages":[{{"role":"system","content":[{{"type":"tool_addition","tool":{{"type":"tool_definition","definition":{definition}}}}}]}}]"#
        )
    };
    let search = r#"{"type":"web_search_20250305","name":"web_search"}"#;
    assert_eq!(besides(ANTHROPIC, &addition(search)), (true, None, false, false));
    assert_eq!(
        besides(ANTHROPIC, &addition(r#"{"name":"ls","input_schema":{}}"#)),
        (false, Some(0), false, false)
    );
    let compacted = r#""messages":[{"role":"assistant","content":[{"type":"compaction","tool_changes":[{"type":"tool_addition","tool":{"type":"what"}}]}]}]"#;
    assert_eq!(besides(ANTHROPIC, compacted), (true, None, false, true));
    for kind in ["additional_tools", "tool_search_output"] {
        let added = format!(r#""input":[{{"type":"{kind}","tools":[{{"type":"web_search"}}]}}]"#);
        assert_eq!(besides(RESPONSES, &added), (true, None, false, false), "{kind}");
    }
}

#[test]
fn what_lies_at_the_provider_is_unbounded_although_an_item_of_its_kind_is_not() {
    for (items, is_unbounded) in [
        (r#"{"id":"msg_1"}"#, true),
        (r#"{"type":"message","id":"msg_1"}"#, true),
        (r#"{"role":"user","content":"x"}"#, false),
        (r#"{"type":"reasoning","id":"rs_1","summary":[]}"#, true),
        (
            r#"{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"abc"}"#,
            false,
        ),
        (r#"{"type":"function_call_output","call_id":"c"}"#, true),
        (
            r#"{"type":"function_call_output","call_id":"c","output":""}"#,
            false,
        ),
        (
            r#"{"type":"configuration_update","reasoning":{"effort":"high"}}"#,
            false,
        ),
    ] {
        let found = besides(RESPONSES, &format!(r#""input":[{items}]"#));
        assert_eq!(found, (is_unbounded, Some(0), false, false), "{items}");
    }
}

#[test]
fn code_that_runs_in_a_container_is_known_and_a_larger_one_costs_what_nobody_knows() {
    for (format, tool, expected) in [
        (
            RESPONSES,
            r#"{"type":"code_interpreter","container":{"type":"auto"}}"#,
            (true, false),
        ),
        (
            RESPONSES,
            r#"{"type":"code_interpreter","container":"cntr_1"}"#,
            (true, false),
        ),
        (
            RESPONSES,
            r#"{"type":"code_interpreter","container":{"type":"auto","memory_limit":"64g"}}"#,
            (true, true),
        ),
        (
            RESPONSES,
            r#"{"type":"shell","environment":{"type":"container_auto"}}"#,
            (true, false),
        ),
        (RESPONSES, r#"{"type":"shell"}"#, (true, false)),
        (
            ANTHROPIC,
            r#"{"type":"code_execution_20260521","name":"code_execution"}"#,
            (true, false),
        ),
    ] {
        let (is_unbounded, uses, code, other) = besides(format, &format!(r#""tools":[{tool}]"#));
        assert!(is_unbounded && uses.is_none(), "{tool}");
        assert_eq!((code, other), expected, "{tool}");
    }
    let free = |kind: &str| {
        let tools = format!(r#"{{"model":"m","tools":[{{"type":"{kind}","name":"w"}}]}}"#);
        parse(ANTHROPIC, &tools).unwrap().code_is_free
    };
    assert!(free("web_search_20260209") && free("web_fetch_20260318") && !free("web_search_20250305"));
}

#[test]
fn a_model_that_gives_advice_is_named_with_its_limits() {
    let parse = |tools: &str| {
        parse(
            ANTHROPIC,
            &format!(r#"{{"model":"m","max_tokens":9,"tools":[{tools}]}}"#),
        )
    };
    let tool = r#"{"type":"advisor_20260301","name":"advisor","model":"big","max_uses":3,"max_tokens":2048}"#;
    let request = parse(tool).unwrap();
    let advisor = request.advisor.clone().unwrap();
    assert_eq!(
        (&*advisor.model, advisor.max_uses, advisor.max_output_tokens),
        ("big", Some(3), Some(2048))
    );
    assert_eq!((request.max_server_tool_uses, request.rounds), (Some(3), 10));
    let open = parse(r#"{"type":"advisor_20260301","name":"advisor","model":"big"}"#).unwrap();
    assert_eq!(open.max_server_tool_uses, None);
    let call = open.into_model_call(Caller::session(SessionId::new("s").unwrap()));
    assert_eq!(call.advisor.unwrap().max_uses, None);
    let two = parse(&format!("{tool},{tool}")).unwrap_err();
    assert_eq!(two.kind(), WireErrorKind::Unsupported);
    let nameless = parse(r#"{"type":"advisor_20260301","name":"advisor"}"#).unwrap_err();
    assert_eq!(nameless.kind(), WireErrorKind::Field);
}

#[test]
fn summing_up_is_counted_however_it_is_written() {
    let of = |format, members: &str| {
        let request = parse(format, &format!(r#"{{"model":"m",{members}}}"#)).unwrap();
        (request.input == InputSize::Unbounded, request.compactions)
    };
    for (format, members, times) in [
        (
            ANTHROPIC,
            r#""context_management":{"edits":[{"type":"compact_20260112"}]}"#,
            1,
        ),
        (
            ANTHROPIC,
            r#""context_management":{"edits":[{"type":"compact_20260112"}]}"#,
            1,
        ),
        (ANTHROPIC, r#""compaction":{"type":"summarize"}"#, 1),
        (
            ANTHROPIC,
            r#""compaction":{"type":"summarize"},"tools":[{"type":"web_search_20250305","name":"w","max_uses":1}]"#,
            10,
        ),
        (
            RESPONSES,
            r#""context_management":[{"type":"compaction","compact_threshold":1000}]"#,
            1,
        ),
        (RESPONSES, r#""input":[{"type":"compaction_trigger"}]"#, 1),
    ] {
        assert_eq!(of(format, members), (true, times), "{members}");
    }
    let clears = r#""context_management":{"edits":[{"type":"clear_tool_uses_20250919"}]}"#;
    assert_eq!(of(ANTHROPIC, clears), (false, 0));
}

#[test]
fn searches_that_an_answer_does_not_count_are_known_to_be_hidden() {
    let hides = |format, body: &str| parse(format, body).unwrap().hides_tool_uses;
    assert!(hides(CHAT, r#"{"model":"gpt-4o-search-preview","messages":[]}"#));
    assert!(hides(
        CHAT,
        r#"{"model":"GPT-5-Search-API","messages":[],"web_search_options":{}}"#
    ));
    assert!(!hides(CHAT, r#"{"model":"gpt-4o","messages":[]}"#));
    assert!(!hides(
        RESPONSES,
        r#"{"model":"gpt-4o","tools":[{"type":"web_search"}]}"#
    ));
}

#[test]
fn answers_that_are_written_and_not_handed_out_are_choices_too() {
    let choices = |members: &str| {
        parse(CHAT, &format!(r#"{{"model":"m",{members}}}"#))
            .unwrap()
            .choices
    };
    assert_eq!(choices(r#""n":2,"best_of":5"#), 5);
    assert_eq!(choices(r#""n":2,"best_of":null"#), 2);
}

#[test]
fn arguments_of_earlier_calls_count_as_what_is_shown_of_them() {
    let size = |input: &str| {
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"assistant","content":[{{"type":"tool_use","id":"t","name":"n","input":{input}}}]}}]}}"#
        );
        bytes(&parse(ANTHROPIC, &body).unwrap())
    };
    assert!(size(r#"{"a":1,"b":2}"#) >= size("{}") + 11 + 2 * 16);
}

#[test]
fn requests_with_two_readings_or_wrong_types_are_refused() {
    for (body, kind) in [
        (
            r#"{"model":"m","model":"n","messages":[]}"#,
            WireErrorKind::Malformed,
        ),
        (
            r#"{"model":"m","mod\u0065l":"n","messages":[]}"#,
            WireErrorKind::Malformed,
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","role":"system"}]}"#,
            WireErrorKind::Malformed,
        ),
        ("[]", WireErrorKind::Malformed),
        ("", WireErrorKind::Malformed),
        (r#"{"messages":[]}"#, WireErrorKind::Field),
        (r#"{"model":"","messages":[]}"#, WireErrorKind::Field),
        (r#"{"model":7,"messages":[]}"#, WireErrorKind::Field),
        (
            r#"{"model":"m","messages":[],"max_tokens":-1}"#,
            WireErrorKind::Field,
        ),
        (
            r#"{"model":"m","messages":[],"max_tokens":1.5}"#,
            WireErrorKind::Field,
        ),
        (
            r#"{"model":"m","messages":[],"max_tokens":"9"}"#,
            WireErrorKind::Field,
        ),
        (
            r#"{"model":"m","messages":[],"max_completion_tokens":1e3}"#,
            WireErrorKind::Field,
        ),
        (r#"{"model":"m","messages":[],"n":0}"#, WireErrorKind::Field),
        (r#"{"model":"m","messages":[],"n":-1}"#, WireErrorKind::Field),
        (
            r#"{"model":"m","messages":[],"stream":"true"}"#,
            WireErrorKind::Field,
        ),
        (r#"{"model":"m","messages":7}"#, WireErrorKind::Malformed),
        (
            r#"{"model":"m","messages":[],"tools":{}}"#,
            WireErrorKind::Malformed,
        ),
        (
            r#"{"model":"m","messages":[],"background":true}"#,
            WireErrorKind::Unsupported,
        ),
    ] {
        let error = parse(Format::OpenAiChat, body).expect_err(body);
        assert_eq!(error.kind(), kind, "{body}");
    }
    let error = Request::parse(Format::OpenAiChat, b"\xff", &Limits::default()).unwrap_err();
    assert_eq!(error.kind(), WireErrorKind::Malformed);
    let mut limits = Limits::DEFAULT;
    limits.max_body_bytes = 10;
    let error = Request::parse(Format::OpenAiChat, &[b' '; 11], &limits).unwrap_err();
    assert_eq!(error.kind(), WireErrorKind::Limit);
}

#[test]
fn a_model_whose_name_would_fill_the_log_is_refused() {
    let named = |bytes: usize| format!(r#"{{"model":"{}","messages":[]}}"#, "m".repeat(bytes));
    assert!(parse(Format::OpenAiChat, &named(512)).is_ok());
    let refused = parse(Format::OpenAiChat, &named(513)).unwrap_err();
    assert_eq!(refused.kind(), WireErrorKind::Limit);
    let in_path = Request::parse_deployment(Format::OpenAiChat, &"m".repeat(513), b"{}", &Limits::default());
    assert_eq!(in_path.unwrap_err().kind(), WireErrorKind::Limit);
}

#[test]
fn the_rest_of_a_request_is_read_too() {
    let body = r#"{"model":"m","messages":[],"n":3,"stream":true,"stream_options":{"include_usage":true},
        "service_tier":"priority","audio":{"voice":"x"},"max_tokens":10,"prediction":{"type":"content","content":"abc"}}"#;
    let request = parse(Format::OpenAiChat, body).unwrap();
    assert_eq!(
        (request.choices, request.streaming, request.include_usage),
        (3, true, true)
    );
    assert!(request.wants_sound);
    assert_eq!(request.service_tier, ServiceTier::Priority);
    assert!(request.has_media);
    assert!(
        request.max_output_tokens.unwrap() > 10,
        "rejected prediction tokens are billed"
    );
    assert!(!request.wants_usage_injected());
    assert!(!request.stream_options(Limits::default()).hide_usage_chunk);
    let azure = Request::parse_deployment(
        Format::OpenAiChat,
        "mine",
        b"{\"messages\":[]}",
        &Limits::default(),
    );
    assert_eq!(&*azure.unwrap().model, "mine");
    assert!(!format!("{request:?}").contains("abc"));
}

#[test]
fn the_tier_is_the_one_that_is_asked_for() {
    let tier = |format, members: &str| {
        let body = format!(r#"{{"model":"m","max_tokens":1,"messages":[]{members}}}"#);
        let request = parse(format, &body).unwrap();
        assert!(!request.has_media);
        request.service_tier
    };
    for (members, expected) in [
        ("", ServiceTier::Unsaid),
        (r#","service_tier":"auto""#, ServiceTier::Unsaid),
        (r#","service_tier":"default""#, ServiceTier::Standard),
        (r#","service_tier":"flex""#, ServiceTier::Flex),
        (r#","service_tier":"golden""#, ServiceTier::Other),
    ] {
        assert_eq!(tier(Format::OpenAiChat, members), expected, "{members}");
    }
    for (members, expected) in [
        (r#","service_tier":"standard_only""#, ServiceTier::Standard),
        (r#","speed":"fast","service_tier":"auto""#, ServiceTier::Fast),
        (r#","speed":"standard""#, ServiceTier::Unsaid),
    ] {
        assert_eq!(tier(Format::AnthropicMessages, members), expected, "{members}");
    }
}

#[test]
fn an_image_counts_as_what_it_is_scaled_down_to() {
    let body = |source: &str| {
        format!(
            r#"{{"model":"m","max_tokens":1,"messages":[{{"role":"user","content":[{{"type":"image","source":{source}}}]}}]}}"#
        )
    };
    let read = |source: &str| parse(Format::AnthropicMessages, &body(source)).unwrap();
    let inline = |data: &str| {
        read(&format!(
            r#"{{"type":"base64","media_type":"image/png","data":"{data}"}}"#
        ))
    };
    let small = inline("aGk=");
    assert!(small.has_media && bytes(&small) > 8192);
    assert_eq!(bytes(&inline(&"A".repeat(1_000_000))), bytes(&small));
    assert!(bytes(&read(r#"{"type":"url","url":"https://example.org/a.png"}"#)) > 8192);
    for unknown in [r#"{"type":"new"}"#, "7", r#"{"type":"text","data":"x"}"#] {
        assert_eq!(read(unknown).input, InputSize::Unbounded, "{unknown}");
    }
}

#[test]
fn what_a_limit_does_not_bound_and_the_least_limit_are_known() {
    let limits = |format, members: &str| {
        let request = parse(format, &format!(r#"{{"model":"m","messages":[]{members}}}"#)).unwrap();
        (
            request.max_output_tokens,
            request.extra_output_tokens,
            request.least_output_tokens,
        )
    };
    let chat = Format::OpenAiChat;
    assert_eq!(limits(chat, ""), (None, 0, 1));
    let (max, extra, _) = limits(chat, r#","prediction":{"type":"content","content":"abc"}"#);
    assert!(max.is_none() && extra > 3);
    let (max, extra, _) = limits(chat, r#","max_tokens":50,"prediction":{"content":"abc"}"#);
    assert_eq!(max, Some(50 + extra));
    assert_eq!(limits(Format::OpenAiResponses, ""), (None, 0, 16));
    let thinks = r#","thinking":{"type":"enabled","budget_tokens":1024}"#;
    assert_eq!(limits(Format::AnthropicMessages, thinks), (None, 0, 1025));
    let inside = format!(r#","max_tokens":2000{thinks}"#);
    assert_eq!(limits(Format::AnthropicMessages, &inside), (Some(2000), 0, 1025));
}

#[test]
fn inference_in_one_country_costs_more_and_the_workspace_decides_where_nobody_says() {
    let percent = |format, members: &str| {
        let body = format!(r#"{{"model":"m","max_tokens":1,"messages":[]{members}}}"#);
        parse(format, &body).unwrap().surcharge_percent
    };
    let anthropic = Format::AnthropicMessages;
    assert_eq!(percent(anthropic, ""), 10);
    assert_eq!(percent(anthropic, r#","inference_geo":"us""#), 10);
    assert_eq!(percent(anthropic, r#","inference_geo":"global""#), 0);
    assert_eq!(percent(Format::OpenAiChat, ""), 0);
}

#[test]
fn thinking_beyond_the_maximum_is_output_too() {
    let max = |budget: u64| {
        let body = format!(
            r#"{{"model":"m","max_tokens":1000,"messages":[],"thinking":{{"type":"enabled","budget_tokens":{budget}}}}}"#
        );
        parse(Format::AnthropicMessages, &body).unwrap().max_output_tokens
    };
    assert_eq!(max(999), Some(1000));
    assert_eq!(max(4000), Some(5000));
}

#[test]
fn text_that_grows_when_it_is_normalised_is_counted_grown() {
    let body = |text: &str| format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    let size = |format, text: &str| bytes(&parse(format, &body(text)).unwrap());
    let plain = size(Format::AnthropicMessages, "");
    for (text, grown) in [
        ("\u{fdfa}", 33),
        (r"\ufdfa", 33),
        ("天気", 6),
        ("é", 2),
        ("㌖", 18),
        ("½", 5),
    ] {
        assert!(size(Format::AnthropicMessages, text) >= plain + grown, "{text}");
    }
    assert_eq!(size(Format::AnthropicMessages, "天気"), plain + 6);
    assert_eq!(
        size(Format::OpenAiChat, "\u{fdfa}"),
        size(Format::OpenAiChat, "") + 3
    );
}

fn sent(format: Format, body: &str, outgoing: Outgoing) -> String {
    let body = Json::parse(body).unwrap();
    String::from_utf8(outgoing_body(format, &body, &outgoing).unwrap().to_vec()).unwrap()
}

#[test]
fn only_what_must_change_changes() {
    let usage = Outgoing {
        include_usage: true,
        ..Outgoing::default()
    };
    let clamp = |max| Outgoing {
        max_output_tokens: Some(max),
        ..Outgoing::default()
    };
    let c = Format::OpenAiChat;
    let option = r#""stream_options":{"include_usage":true}"#;
    for (body, wanted) in [
        (r#"{"a":1.50}"#.to_owned(), format!(r#"{{"a":1.50,{option}}}"#)),
        ("{ }\n".into(), format!("{{ {option}}}\n")),
        (
            r#"{"stream_options": null, "b": 2e0}"#.into(),
            r#"{"stream_options": {"include_usage":true}, "b": 2e0}"#.into(),
        ),
        (
            r#"{"stream_options":{ }}"#.into(),
            r#"{"stream_options":{"include_usage":true }}"#.into(),
        ),
        (
            r#"{"stream_options":{"include_obfuscation":false},"z":"}"}"#.into(),
            r#"{"stream_options":{"include_usage":true,"include_obfuscation":false},"z":"}"}"#.into(),
        ),
        (
            r#"{"stream_options":{"include_usage" : false}}"#.into(),
            r#"{"stream_options":{"include_usage" : true}}"#.into(),
        ),
        (format!("{{{option}}}"), format!("{{{option}}}")),
    ] {
        assert_eq!(sent(c, &body, usage), wanted);
        assert_eq!(
            sent(Format::OpenAiResponses, &body, usage),
            body,
            "means nothing to other formats"
        );
    }
    for (format, body, wanted) in [
        (c, r#"{"max_tokens":500, "x":1}"#, r#"{"max_tokens":100, "x":1}"#),
        (
            c,
            r#"{"max_tokens":500,"max_completion_tokens":50}"#,
            r#"{"max_tokens":100,"max_completion_tokens":50}"#,
        ),
        (c, r#"{"max_tokens":100}"#, r#"{"max_tokens":100}"#),
        (c, r#"{"x":1}"#, r#"{"x":1,"max_completion_tokens":100}"#),
        (
            Format::AnthropicMessages,
            r#"{"max_tokens":101}"#,
            r#"{"max_tokens":100}"#,
        ),
        (
            Format::OpenAiResponses,
            r#"{"max_output_tokens":null}"#,
            r#"{"max_output_tokens":100}"#,
        ),
    ] {
        assert_eq!(sent(format, body, clamp(100)), wanted);
    }
    let tools = Outgoing {
        max_tool_calls: Some(3),
        ..Outgoing::default()
    };
    for (format, body, wanted) in [
        (
            Format::OpenAiResponses,
            r#"{"x":1}"#,
            r#"{"x":1,"max_tool_calls":3}"#,
        ),
        (
            Format::OpenAiResponses,
            r#"{"max_tool_calls":null}"#,
            r#"{"max_tool_calls":3}"#,
        ),
        (
            Format::OpenAiResponses,
            r#"{"max_tool_calls":9}"#,
            r#"{"max_tool_calls":9}"#,
        ),
        (c, r#"{"x":1}"#, r#"{"x":1}"#),
    ] {
        assert_eq!(sent(format, body, tools), wanted);
    }
    let wrong = Json::parse(r#"{"stream_options":7}"#).unwrap();
    assert_eq!(
        outgoing_body(c, &wrong, &usage).unwrap_err().kind(),
        WireErrorKind::Field
    );
}

#[test]
fn tools_that_anthropic_runs_are_told_how_often_in_all() {
    let outgoing = |most| Outgoing {
        max_tool_calls: Some(most),
        ..Outgoing::default()
    };
    let a = Format::AnthropicMessages;
    let search = r#"{"type":"web_search_20250305","name":"web_search"}"#;
    let fetch = r#"{ "max_uses" : null, "type":"web_fetch_20250910","name":"web_fetch"}"#;
    let code = r#"{"type":"code_execution_20250825","name":"code_execution"}"#;
    let own = r#"{"type":"web_search_20250305","name":"other","max_uses":3}"#;
    let client = r#"{"type":"bash_20250124","name":"bash"},{"name":"ls","input_schema":{}}"#;
    let told =
        |uses: u64| format!(r#"{{"max_uses":{uses},"type":"web_search_20250305","name":"web_search"}}"#);
    let told_fetch =
        |uses: u64| format!(r#"{{ "max_uses" : {uses}, "type":"web_fetch_20250910","name":"web_fetch"}}"#);
    for (most, tools, wanted) in [
        (5, search.to_owned(), told(5)),
        (5, fetch.to_owned(), told_fetch(5)),
        // Shared; what is left over is nobody's.
        (
            5,
            format!("{search},{fetch}"),
            format!("{},{}", told(2), told_fetch(2)),
        ),
        (5, format!("{search}, {client}"), format!("{}, {client}", told(5))),
        // What one set for itself is taken off first.
        (5, format!("{own},{search}"), format!("{own},{}", told(2))),
        // What cannot be told takes its part.
        (5, format!("{code},{search}"), format!("{code},{}", told(2))),
        (5, code.to_owned(), code.to_owned()),
        (5, own.to_owned(), own.to_owned()),
        (0, client.to_owned(), client.to_owned()),
    ] {
        let body = |tools: &str| format!(r#"{{"model":"m","tools":[{tools}],"messages":[]}}"#);
        assert_eq!(sent(a, &body(&tools), outgoing(most)), body(&wanted));
    }
    for (most, tools) in [
        (0, search.to_owned()),
        (1, format!("{search},{fetch}")),
        (3, format!("{own},{search}")),
        (2, format!("{own},{code}")),
    ] {
        let body = Json::parse(format!(r#"{{"model":"m","tools":[{tools}]}}"#)).unwrap();
        let error = outgoing_body(a, &body, &outgoing(most)).unwrap_err();
        assert_eq!(error.kind(), WireErrorKind::Field, "{most} {tools}");
    }
    let servers = r#"{"mcp_servers":[{"type":"url","url":"https://x","name":"x"}],"tools":[{"type":"web_search_20250305","name":"web_search"}]}"#;
    assert!(sent(a, servers, outgoing(5)).contains(r#"{"max_uses":2,"type":"web_search"#));
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("1.50".to_owned()),
        Just("-0".to_owned()),
        Just("12345678901234567890123".to_owned()),
        "[a-z}{\\\\\"é ]{0,8}".prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(" , "))),
            prop::collection::btree_map("[a-z]{1,4}", inner, 0..4).prop_map(|members| {
                let members: Vec<_> = members
                    .iter()
                    .map(|(name, value)| format!("\"{name}\" :{value}"))
                    .collect();
                format!("{{ {}}}", members.join(", "))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn all_else_is_kept_byte_for_byte(
        before in prop::collection::btree_map("[a-m]{1,6}", json(), 0..4),
        after in prop::collection::btree_map("[n-z]{1,6}", json(), 0..4),
        limit in prop::option::of(0..1000_u64),
        space in prop::sample::select(vec!["", " ", "\n  "]),
    ) {
        let member = |(name, value): (&String, &String)| format!("{space}\"{name}\"{space}: {value}");
        let mut members: Vec<String> = before.iter().map(member).collect();
        let place = members.len();
        if let Some(limit) = limit {
            members.push(format!("\"max_completion_tokens\":{space}{limit}"));
        }
        members.extend(after.iter().map(member));
        let body = format!("{{{}{space}}}{space}", members.join(","));
        let outgoing = Outgoing { include_usage: true, max_output_tokens: Some(500), ..Outgoing::default() };
        let sent = sent(Format::OpenAiChat, &body, outgoing);

        let mut wanted = members.clone();
        let mut added = r#""stream_options":{"include_usage":true}"#.to_owned();
        match limit {
            Some(limit) => wanted[place] = format!("\"max_completion_tokens\":{space}{}", limit.min(500)),
            None => added.push_str(r#","max_completion_tokens":500"#),
        }
        let comma = if wanted.is_empty() { "" } else { "," };
        prop_assert_eq!(sent, format!("{{{}{space}{comma}{added}}}{space}", wanted.join(",")));
    }

    #[test]
    fn random_requests_never_panic(name in "[a-z_]{1,20}", value in json(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for format in [Format::AnthropicMessages, Format::OpenAiChat, Format::OpenAiResponses] {
            let _ = Request::parse(format, &bytes, &Limits::default());
            for known in ["messages", "input", "tools", "system", "n", "stream_options", "max_tokens", &name] {
                if known != "model" {
                    let _ = parse(format, &format!(r#"{{"model":"m","{known}":{value}}}"#));
                    let _ = parse(format, &format!(r#"{{"model":"m","{known}":[{value}]}}"#));
                }
            }
        }
    }
}
