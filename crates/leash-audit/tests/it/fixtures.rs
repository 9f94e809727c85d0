//! Logs that another program wrote, and what it said of them.

use std::io::Cursor;
use std::path::PathBuf;

use leash_audit::{Format, Input, Verdict, VerifyOptions, export, for_each, replay, verify};
use serde_json::Value;

use crate::check;

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(data(name)).unwrap()
}

fn exported(input: Input, format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    export(input, format, &mut out).unwrap();
    out
}

/// Where the other program crashes, we say that the log is broken.
#[test]
fn every_verdict_is_that_of_the_original() {
    let expected: Value = serde_json::from_slice(&bytes("expected.json")).unwrap();
    for (name, expected) in expected.as_object().unwrap() {
        let report = verify(data(name), &VerifyOptions::default()).unwrap();
        match expected["verdict"].as_str().unwrap() {
            "ok" => {
                assert_eq!(report.verdict, Verdict::Ok, "{name}");
                assert_eq!(report.events, expected["events"].as_u64().unwrap(), "{name}");
                assert_eq!(
                    report.to_string(),
                    format!("OK: {} events verified", report.events)
                );
            }
            "broken" => {
                let message = expected["message"].as_str().unwrap();
                assert_eq!(report.to_string(), format!("BROKEN: {message}"), "{name}");
            }
            _ => assert!(matches!(report.verdict, Verdict::Broken(_)), "{name}"),
        }
    }
}

#[test]
fn what_has_no_verdict_in_the_original_is_broken_at_its_line() {
    let broken = |log: &[u8]| match check(log).verdict {
        Verdict::Broken(broken) => broken,
        Verdict::Ok => panic!("was accepted"),
    };
    let garbage = broken(&bytes("garbage-line.jsonl"));
    let text = String::from_utf8(bytes("garbage-line.jsonl")).unwrap();
    let bad = text
        .lines()
        .position(|line| serde_json::from_str::<Value>(line).is_err())
        .unwrap();
    assert_eq!(
        (garbage.line, garbage.seq),
        (u64::try_from(bad).unwrap() + 1, None)
    );

    let missing = broken(&bytes("bad-missing-hash.jsonl"));
    let text = String::from_utf8(bytes("bad-missing-hash.jsonl")).unwrap();
    let bad = text.lines().position(|line| !line.contains("\"hash\":")).unwrap();
    assert_eq!(missing.line, u64::try_from(bad).unwrap() + 1);
    assert_eq!(missing.seq, Some(u64::try_from(bad).unwrap()));
    assert!(missing.what.contains("no `hash`"));

    let torn = broken(&bytes("torn-tail.jsonl"));
    let lines = bytes("torn-tail.jsonl")
        .iter()
        .filter(|&&byte| byte == b'\n')
        .count();
    assert_eq!(torn.line, u64::try_from(lines).unwrap() + 1);
    assert!(torn.what.contains("the file ends inside this line"));
}

#[test]
fn a_log_that_is_not_there_cannot_be_read() {
    let error = verify(data("no-such-file.jsonl"), &VerifyOptions::default()).unwrap_err();
    assert!(error.to_string().contains("no-such-file.jsonl"), "{error}");
    assert!(verify(data(""), &VerifyOptions::default()).is_err());
}

#[test]
fn exports_equal_those_of_the_original() {
    for name in ["mixed", "anomalies"] {
        for (format, ending) in [(Format::Csv, "csv"), (Format::Json, "json")] {
            let expected = String::from_utf8(bytes(&format!("{name}.export.{ending}"))).unwrap();
            let log = data(&format!("{name}.jsonl"));
            assert_eq!(
                String::from_utf8(exported(Input::open(&log).unwrap(), format)).unwrap(),
                expected
            );
            let stream = Input::stream("-", Cursor::new(std::fs::read(&log).unwrap()));
            assert_eq!(String::from_utf8(exported(stream, format)).unwrap(), expected);
        }
    }
}

#[test]
fn an_empty_log_exports_to_an_empty_array_and_a_header() {
    let empty = || Input::stream("-", Cursor::new(Vec::new()));
    assert_eq!(exported(empty(), Format::Json), b"[]\n");
    assert_eq!(
        exported(empty(), Format::Csv),
        b"ts,session_id,tenant_id,seq,kind\r\n"
    );
}

#[test]
fn an_export_says_the_same_however_the_log_is_formatted() {
    let canonical = exported(Input::open(data("mixed.jsonl")).unwrap(), Format::Json);
    let canonical: Vec<Value> = serde_json::from_slice(&canonical).unwrap();
    for name in [
        "ok-respaced",
        "ok-ascii-escaped",
        "ok-crlf",
        "ok-blank-lines",
        "ok-no-final-newline",
    ] {
        let json = exported(Input::open(data(&format!("{name}.jsonl"))).unwrap(), Format::Json);
        let events: Vec<Value> = serde_json::from_slice(&json).unwrap();
        let report = verify(data(&format!("{name}.jsonl")), &VerifyOptions::default()).unwrap();
        assert_eq!(u64::try_from(events.len()).unwrap(), report.events);
        if canonical.starts_with(&events[..1]) {
            assert!(canonical.starts_with(&events), "{name}");
        }
    }
}

#[test]
fn later_kinds_and_members_add_their_columns_after_the_old_ones() {
    let log = concat!(
        r#"{"kind":"refusal","rule_id":"r","reason":"a,b","stage":"kill","count":2,"ts":"t","seq":0,"session_id":"s","tenant_id":null}"#,
        "\n",
        r#"{"kind":"kill","reason":"say \"no\"","scope":"tenant:x","ts":"t","seq":1,"session_id":"*","tenant_id":"x"}"#,
        "\n",
        r#"{"kind":"model_call","provider":"p","model":"m","input_tokens":1,"output_tokens":2,"cost_usd":1E-05,"outcome":"ok","ts":"t","seq":2,"session_id":"s","tenant_id":null}"#,
        "\n",
        r#"{"kind":"unheard_of","what":[1,2],"ts":"t","seq":3,"session_id":"s","tenant_id":null}"#,
    );
    let csv = exported(Input::stream("-", Cursor::new(log)), Format::Csv);
    let expected = concat!(
        "ts,session_id,tenant_id,seq,kind,reason,provider,model,input_tokens,output_tokens,cost_usd,outcome,scope,",
        "rule_id,stage,count\r\n",
        "t,s,,0,refusal,\"a,b\",,,,,,,,r,kill,2\r\n",
        "t,*,x,1,kill,\"say \"\"no\"\"\",,,,,,,tenant:x,,,\r\n",
        "t,s,,2,model_call,,p,m,1,2,1E-05,ok,,,,\r\n",
        "t,s,,3,unheard_of,,,,,,,,,,,\r\n",
    );
    assert_eq!(String::from_utf8(csv).unwrap(), expected);
}

#[test]
fn members_that_a_call_has_at_times_are_columns_where_they_are_met() {
    let log = concat!(
        r#"{"kind":"model_call","provider":"p","model":"m","input_tokens":1,"output_tokens":2,"cost_usd":0.5,"#,
        r#""outcome":"expired","reservation_id":"r1","scopes":["team:a","b"],"ts":"t","seq":0,"session_id":"s","tenant_id":null}"#,
        "\n",
        r#"{"kind":"tool_call","tool":"x","reservation_id":"r2","ts":"t","seq":1,"session_id":"s","tenant_id":null}"#,
    );
    let csv = exported(Input::stream("-", Cursor::new(log)), Format::Csv);
    let expected = concat!(
        "ts,session_id,tenant_id,seq,kind,provider,model,input_tokens,output_tokens,cost_usd,tool,outcome,",
        "reservation_id,scopes\r\n",
        "t,s,,0,model_call,p,m,1,2,0.5,,expired,r1,\"[\"\"team:a\"\",\"\"b\"\"]\"\r\n",
        "t,s,,1,tool_call,,,,,,x,,r2,\r\n",
    );
    assert_eq!(String::from_utf8(csv).unwrap(), expected);
}

#[test]
fn json_is_indented_whatever_is_nested_in_it() {
    let log = r#" {"b":[],"a":{},"c":[1,{"d":"\u00e9\/\"}{"}],"e":1.50} "#;
    let expected = concat!(
        "[\n  {\n    \"b\": [],\n    \"a\": {},\n    \"c\": [\n      1,\n      {\n",
        "        \"d\": \"é/\\\"}{\"\n      }\n    ],\n    \"e\": 1.50\n  }\n]\n"
    );
    let json = exported(Input::stream("-", Cursor::new(log)), Format::Json);
    assert_eq!(String::from_utf8(json).unwrap(), expected);
}

#[test]
fn a_replay_gives_each_line_as_it_stands() {
    let mut out = Vec::new();
    assert_eq!(
        replay(Input::open(data("mixed.jsonl")).unwrap(), &mut out).unwrap(),
        240
    );
    assert_eq!(out, bytes("mixed.jsonl"));
    let mut out = Vec::new();
    assert_eq!(
        replay(Input::open(data("ok-respaced.jsonl")).unwrap(), &mut out).unwrap(),
        24
    );
    assert_eq!(out, bytes("ok-respaced.jsonl"));
}

#[test]
fn a_line_that_is_no_event_is_named_after_those_before_it() {
    let text = String::from_utf8(bytes("garbage-line.jsonl")).unwrap();
    let bad = text
        .lines()
        .position(|line| serde_json::from_str::<Value>(line).is_err())
        .unwrap();
    let mut out = Vec::new();
    let error = replay(Input::open(data("garbage-line.jsonl")).unwrap(), &mut out).unwrap_err();
    assert!(
        error.to_string().starts_with(&format!("line {}:", bad + 1)),
        "{error}"
    );
    assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), bad);
    for format in [Format::Csv, Format::Json] {
        let error = export(
            Input::open(data("garbage-line.jsonl")).unwrap(),
            format,
            Vec::new(),
        )
        .unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("line {}:", bad + 1)),
            "{error}"
        );
    }
    let mut seen = 0;
    for line in [
        "[1]",
        "1",
        "{\"a\":1,\"a\":2}",
        "{\"a\":NaN}",
        "\0\0",
        "{\"a\":\"\u{1}\"}",
    ] {
        let input = Input::stream("-", Cursor::new(format!("{{}}\n\n{line}\n")));
        let error = for_each(input, |_| {
            seen += 1;
            Ok(())
        });
        assert!(
            error.unwrap_err().to_string().starts_with("line 3: no event"),
            "{line:?}"
        );
    }
    assert_eq!(seen, 6);
}
