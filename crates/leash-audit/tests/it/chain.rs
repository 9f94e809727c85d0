//! What the chain shows and what it does not mind.

use std::fmt::Write as _;
use std::io::Read as _;
use std::sync::Arc;

use leash_audit::{
    Admitted, AuditLog, Budget, BudgetDecision, Event, HitlDecision, HitlOutcome, Input, Kill, KillClear,
    Kind, LogRecovered, ModelCall, Note, Other, Outcome, PolicyAction, PolicyDecision, Refusal, Target,
    ToolCall, Verdict, VerifyOptions, Who, for_each, verify_reader,
};
use leash_core::{Digest, Json, Usd, canonical};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{HandClock, check, check_file, model_call};

/// Everything an event of any kind is made of.
#[derive(Clone, Debug)]
struct Parts {
    kind: usize,
    texts: Vec<String>,
    numbers: Vec<u64>,
    flags: Vec<bool>,
    members: Value,
}

impl Parts {
    fn text(&self, at: usize) -> &str {
        &self.texts[at]
    }

    fn maybe(&self, at: usize) -> Option<&str> {
        self.flags[at].then(|| self.text(at))
    }

    fn number(&self, at: usize) -> Option<u64> {
        self.flags[at].then(|| self.numbers[at])
    }

    fn usd(&self, at: usize) -> Usd {
        Usd::from_nanos(self.numbers[at] % Usd::MAX.as_nanos()).unwrap()
    }

    fn digest(&self, at: usize) -> Digest {
        Digest::of(self.texts[at].as_bytes())
    }

    fn with_event<T>(&self, then: impl FnOnce(&Event<'_>) -> T) -> T {
        let scopes: Vec<&str> = self
            .texts
            .iter()
            .take(2)
            .filter(|_| self.flags[2])
            .map(String::as_str)
            .collect();
        let members = Json::from(self.members.clone());
        let note = Note {
            what: self.text(3),
            reason: self.text(4),
            operator: self.maybe(5),
            members: self.flags[6].then_some(&members),
        };
        let kind = match self.kind {
            0 => Kind::ModelCall(ModelCall {
                provider: self.text(3),
                model: self.text(4),
                input_tokens: self.numbers[0],
                output_tokens: self.numbers[1],
                cost: self.usd(2),
                request_hash: self.digest(5),
                response_hash: self.digest(6),
                cumulative: self.flags[0].then(|| self.usd(3)),
                cache_read_tokens: self.number(1),
                cache_write_tokens: self.number(2),
                reasoning_tokens: self.number(3),
                duration_ms: self.number(4),
                outcome: self.flags[5].then_some(Outcome::Cut),
                usage: self.maybe(6),
                price_version: self.maybe(5),
                clamped: self.flags[4].then_some(self.flags[0]),
                hitl_request_id: self.maybe(4),
                reservation_id: self.maybe(3),
                scopes: &scopes,
            }),
            1 => Kind::ToolCall(ToolCall {
                tool: self.text(3),
                request_hash: self.digest(4),
                response_hash: self.digest(5),
                cost: self.flags[0].then(|| self.usd(3)),
                cumulative: self.flags[1].then(|| self.usd(4)),
                duration_ms: self.number(2),
                outcome: self.flags[3].then_some(Outcome::Error),
                hitl_request_id: self.maybe(4),
                reservation_id: self.maybe(3),
                scopes: &scopes,
            }),
            2 => Kind::Budget(Budget {
                cumulative: self.usd(0),
                cap: self.flags[1].then(|| self.usd(1)),
                decision: BudgetDecision::SoftExceeded,
                scope: self.maybe(3),
                window: self.flags[2].then_some("day"),
            }),
            3 => Kind::Kill(Kill {
                reason: self.text(3),
                scope: self.maybe(4),
            }),
            4 => Kind::KillClear(KillClear {
                reason: self.maybe(3),
                scope: self.maybe(4),
            }),
            5 => Kind::PolicyDecision(PolicyDecision {
                rule_id: self.text(3),
                action: PolicyAction::Hitl,
                reason: self.text(4),
                tool: self.text(5),
                shadow: self.flags[0],
            }),
            6 => Kind::HitlDecision(HitlDecision {
                request_id: self.text(3),
                rule_id: self.text(4),
                decision: HitlOutcome::Expire,
                reason: self.maybe(5),
                operator: self.maybe(6),
            }),
            7 => Kind::Refusal(Refusal {
                rule_id: self.text(3),
                reason: self.text(4),
                stage: self.text(5),
            }),
            8 => Kind::Admitted(Admitted {
                target: if self.flags[0] {
                    Target::Tool { tool: self.text(3) }
                } else {
                    Target::Model {
                        provider: self.text(3),
                        model: self.text(4),
                    }
                },
                request_hash: self.digest(5),
                bound: self.usd(0),
                scopes: &scopes,
            }),
            9 => Kind::LogRecovered(LogRecovered {
                set_aside: self.text(3),
                bytes: self.numbers[0],
                sha256: self.digest(4),
            }),
            10 => Kind::FailOpen(note),
            11 => Kind::PolicyChange(note),
            12 => Kind::BudgetChange(note),
            13 => Kind::Admin(note),
            _ => Kind::Other(Other {
                kind: self.text(3),
                members: &members,
            }),
        };
        let who = Who {
            session_id: self.text(0),
            tenant_id: self.maybe(1),
            agent_name: self.maybe(2),
        };
        then(&Event::new(who, kind))
    }
}

fn nasty_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ -~\\x00-\\x1f\"\\\\]{0,30}",
        Just("\u{7f}\u{2028}\u{feff}\u{10ffff}\r\n\"hash\":\"".to_owned()),
        Just(String::new()),
    ]
}

fn parts() -> impl Strategy<Value = Parts> {
    let value = prop_oneof![
        nasty_text().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(json!({}))
    ];
    let member = ("x_[a-z]{0,3}|[A-Z]{1,3}|gz\"|\u{e9}", value);
    (
        0_usize..15,
        proptest::collection::vec(nasty_text(), 7),
        proptest::collection::vec(any::<u64>(), 7),
        proptest::collection::vec(any::<bool>(), 7),
        proptest::collection::vec(member, 0..4).prop_map(|members| members.into_iter().collect::<Value>()),
    )
        .prop_map(|(kind, texts, numbers, flags, members)| {
            let members = if members.is_object() { members } else { json!({}) };
            Parts {
                kind,
                texts,
                numbers,
                flags,
                members,
            }
        })
}

/// The lines of a log of these events.
fn written(parts: &[Parts]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let log = AuditLog::builder(&path)
        .clock(Arc::new(HandClock::default()))
        .open()
        .unwrap();
    for (seq, parts) in parts.iter().enumerate() {
        let appended = parts.with_event(|event| log.append(event)).unwrap();
        assert_eq!(appended.seq(), u64::try_from(seq).unwrap());
    }
    log.close().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    text.split_terminator('\n').map(str::to_owned).collect()
}

fn joined(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |mut text, line| {
        text.push_str(line);
        text.push('\n');
        text
    })
}

fn first_bad(lines: &[String]) -> Option<usize> {
    match check(joined(lines).as_bytes()).verdict {
        Verdict::Ok => None,
        Verdict::Broken(broken) => Some(usize::try_from(broken.line).unwrap() - 1),
    }
}

/// Another spelling of the same content.
fn respelled(line: &str, style: u8) -> String {
    let value: Value = serde_json::from_str(line).unwrap();
    match style % 5 {
        0 => format!(" \t{line} \r"),
        1 => {
            // What is not ASCII is within strings.
            let mut out = String::new();
            let mut units = [0; 2];
            for c in serde_json::to_string(&value).unwrap().chars() {
                if c.is_ascii() {
                    out.push(c);
                } else {
                    for unit in c.encode_utf16(&mut units) {
                        write!(out, "\\u{unit:04X}").unwrap();
                    }
                }
            }
            out
        }
        2 => {
            let members: Vec<_> = value.as_object().unwrap().iter().rev().collect();
            let members: Vec<_> = members
                .into_iter()
                .map(|(name, value)| format!("{} : {value}", serde_json::to_string(name).unwrap()))
                .collect();
            format!("{{ {} }}", members.join(" ,\t"))
        }
        3 => format!("\u{feff}{line}"),
        _ => line
            .replace("\"kind\"", "\"\\u006bind\"")
            .replace("\"seq\"", "\"\\u0073eq\""),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_log_of_any_events_is_canonical_and_verifies(parts in proptest::collection::vec(parts(), 1..12)) {
        let lines = written(&parts);
        prop_assert_eq!(lines.len(), parts.len());
        for (line, parts) in lines.iter().zip(&parts) {
            prop_assert!(canonical::is_canonical(line), "{}", line);
            let value: Value = serde_json::from_str(line).unwrap();
            prop_assert_eq!(value["session_id"].as_str().unwrap(), parts.text(0));
            let kind = parts.with_event(|event| event.kind.name().to_owned());
            prop_assert_eq!(value["kind"].as_str().unwrap(), kind);
        }
        let report = check(joined(&lines).as_bytes());
        prop_assert_eq!(&report.verdict, &Verdict::Ok);
        prop_assert_eq!(usize::try_from(report.events).unwrap(), lines.len());
        let last: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
        prop_assert_eq!(report.head.to_string(), last["hash"].as_str().unwrap());
    }

    #[test]
    fn another_spelling_of_the_same_content_verifies(
        parts in proptest::collection::vec(parts(), 1..8), styles in proptest::collection::vec(any::<u8>(), 8)
    ) {
        let lines: Vec<_> =
            written(&parts).iter().zip(styles).map(|(line, style)| respelled(line, style)).collect();
        prop_assert_eq!(first_bad(&lines), None);
        let spaced = joined(&lines).replace('\n', "\r\n\n \t\r\n");
        prop_assert_eq!(check(spaced.as_bytes()).verdict, Verdict::Ok);
        prop_assert_eq!(check(joined(&lines).trim_end().as_bytes()).verdict, Verdict::Ok);
    }

    #[test]
    fn every_change_of_a_members_content_is_found_where_it_is(
        parts in proptest::collection::vec(parts(), 1..8), at in any::<prop::sample::Index>(),
        member in any::<prop::sample::Index>(), how in 0..4
    ) {
        let mut lines = written(&parts);
        let at = at.index(lines.len());
        let mut value: Value = serde_json::from_str(&lines[at]).unwrap();
        let members = value.as_object_mut().unwrap();
        let name = members.keys().nth(member.index(members.len())).unwrap().clone();
        match how {
            0 => {
                members.remove(&name);
            }
            1 => {
                let value = members.remove(&name).unwrap();
                members.insert(format!("{name} "), value);
            }
            2 => {
                members.insert("zz".to_owned(), Value::Null);
            }
            _ => {
                let value = &mut members[&name];
                *value = match &*value {
                    Value::String(text) => format!("{text}x").into(),
                    Value::Number(number) => format!("{number}").into(),
                    Value::Bool(yes) => (!*yes).into(),
                    Value::Null => false.into(),
                    other => json!([other]),
                };
            }
        }
        lines[at] = canonical::canonicalize(serde_json::to_string(&value).unwrap().as_bytes()).unwrap();
        prop_assert_eq!(first_bad(&lines), Some(at));
    }

    #[test]
    fn every_flipped_byte_is_found_unless_the_content_is_the_same(
        parts in proptest::collection::vec(parts(), 1..6), at in any::<prop::sample::Index>(), bit in 0..8
    ) {
        let lines = written(&parts);
        let text = joined(&lines);
        let mut bytes = text.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        // Around a line is allowed what Python strips from bytes: also the vertical tab, one bit from the line's end.
        let stripped = |line: &[u8]| -> Vec<u8> {
            let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
            let start = line.iter().position(|byte| !blank(byte)).unwrap_or(line.len());
            let end = line.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
            line[start..end].to_vec()
        };
        let parsed = |bytes: &[u8]| -> Option<Vec<String>> {
            let lines = bytes.split(|&byte| byte == b'\n').map(stripped).filter(|line| !line.is_empty());
            lines.map(|line| canonical::canonicalize(&line).ok()).collect()
        };
        let same = parsed(&bytes) == parsed(text.as_bytes());
        let report = check(&bytes);
        prop_assert_eq!(report.is_ok(), same);
        if let Verdict::Broken(broken) = report.verdict {
            let line = text.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count();
            prop_assert_eq!(usize::try_from(broken.line).unwrap() - 1, line);
        }
    }

    #[test]
    fn lines_dropped_added_or_moved_are_found_where_that_begins(
        parts in proptest::collection::vec(parts(), 2..8), a in any::<prop::sample::Index>(),
        b in any::<prop::sample::Index>(), how in 0..4
    ) {
        let lines = written(&parts);
        let (a, b) = (a.index(lines.len()), b.index(lines.len()));
        let mut changed = lines.clone();
        let bad = match how {
            // The last line: a chain alone cannot show that.
            0 if a == lines.len() - 1 => return Ok(()),
            0 => {
                changed.remove(a);
                a
            }
            1 => {
                changed.insert(a + 1, lines[a].clone());
                a + 1
            }
            2 if a == b => return Ok(()),
            2 => {
                changed.swap(a, b);
                a.min(b)
            }
            _ => {
                // A line that is good in itself and belongs to another log.
                let mut foreign = parts[b].clone();
                foreign.texts[0].push('x');
                let mut others = parts.clone();
                others[b] = foreign;
                changed.insert(b, written(&others)[b].clone());
                b + 1
            }
        };
        prop_assert_eq!(first_bad(&changed), Some(bad));
    }
}

/// A log of which every line is the same length or so, longer than the pieces it is checked in.
fn long_log() -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let log = AuditLog::open(&path).unwrap();
    for n in 0..4000 {
        let _ = log.append(&model_call(n)).unwrap();
    }
    drop(log);
    std::fs::read_to_string(&path).unwrap()
}

#[test]
fn a_bad_line_is_found_in_whichever_piece_it_is_and_only_the_first_counts() {
    let text = long_log();
    assert!(text.len() > 3 * 512 * 1024, "{} bytes", text.len());
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for threads in [1, 2, 5] {
        let options = VerifyOptions {
            threads: Some(threads),
            progress: None,
            ..VerifyOptions::default()
        };
        let report = verify_reader(text.as_bytes(), &options).unwrap();
        assert_eq!((report.verdict, report.events), (Verdict::Ok, 4000));
        assert_eq!(report.bytes, u64::try_from(text.len()).unwrap());
        for bad in [0, 1, 900, 901, 1023, 2047, 3998, 3999] {
            let mut changed = lines.clone();
            changed[bad] = changed[bad].replace("\"output_tokens\":350", "\"output_tokens\":351");
            changed[3999] = "garbage".to_owned();
            let report = verify_reader(joined(&changed).as_bytes(), &options).unwrap();
            let Verdict::Broken(broken) = report.verdict else {
                panic!("was accepted")
            };
            assert_eq!(broken.line, u64::try_from(bad).unwrap() + 1);
            assert_eq!(report.events, u64::try_from(bad).unwrap());
            let mut changed = lines.clone();
            changed.remove(bad);
            let dropped = verify_reader(joined(&changed).as_bytes(), &options).unwrap();
            match dropped.verdict {
                Verdict::Ok => assert_eq!(bad, 3999),
                Verdict::Broken(broken) => assert_eq!(broken.line, u64::try_from(bad).unwrap() + 1),
            }
        }
    }
}

#[test]
fn progress_ends_with_all_bytes_done() {
    let text = long_log();
    let most = std::sync::atomic::AtomicU64::new(0);
    let progress = |done: u64| {
        most.fetch_max(done, std::sync::atomic::Ordering::SeqCst);
    };
    let options = VerifyOptions {
        threads: None,
        progress: Some(&progress),
        ..VerifyOptions::default()
    };
    assert!(verify_reader(text.as_bytes(), &options).unwrap().is_ok());
    assert_eq!(most.into_inner(), u64::try_from(text.len()).unwrap());
}

#[test]
fn a_reader_that_fails_is_an_error_and_not_a_verdict() {
    struct Fails;
    impl std::io::Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("no"))
        }
    }
    assert!(verify_reader(Fails, &VerifyOptions::default()).is_err());
}

/// A line of these members, hashed as its bytes stand.
fn hashed(members: &str) -> String {
    let hash = Digest::of(format!("{{{members}}}").as_bytes());
    format!("{{\"hash\":\"{hash}\",{members}}}\n")
}

#[test]
fn a_line_that_is_not_what_it_would_be_written_as_is_broken_though_its_hash_fits_its_bytes() {
    let line = |member: &str| {
        hashed(&format!(
            "\"kind\":\"x\",\"prev_hash\":\"{}\",\"seq\":0,{member}",
            Digest::ZERO
        ))
    };
    assert!(check(line("\"x\":1.5").as_bytes()).is_ok());
    for member in [
        "\"x\":1.50",
        "\"x\":1e5",
        "\"x\":-0",
        "\"x\": 1",
        "\"x\":\"\\/\"",
        "\"x\":\"\\u001F\"",
        "\"b\":1",
    ] {
        assert!(!check(line(member).as_bytes()).is_ok(), "{member}");
    }
    for member in [
        "\"x\":NaN",
        "\"x\":1e400",
        "\"x\":-Infinity",
        "\"x\":1,\"x\":1",
        "\"x\":\"\\ud800\"",
        "\"x\":\"\0\"",
    ] {
        let Verdict::Broken(broken) = check(line(member).as_bytes()).verdict else {
            panic!("{member} was accepted")
        };
        assert!(broken.what.starts_with("no event"), "{}", broken.what);
    }
}

#[test]
fn seq_counts_up_by_one_from_zero() {
    let line =
        |prev: &str, seq: &str| hashed(&format!("\"kind\":\"x\",\"prev_hash\":\"{prev}\",\"seq\":{seq}"));
    let hash = |line: &str| line[9..73].to_owned();
    let zero = Digest::ZERO.to_string();
    for first in ["1", "-1", "0.0", "\"0\"", "null", "18446744073709551616"] {
        let report = check(line(&zero, first).as_bytes());
        assert!(!report.is_ok(), "{first}");
    }
    let first = line(&zero, "0");
    for (second, good) in [("1", true), ("0", false), ("2", false), ("1.0", false)] {
        let log = format!("{first}{}", line(&hash(&first), second));
        assert_eq!(check(log.as_bytes()).is_ok(), good, "{second}");
    }
}

#[test]
fn an_event_cannot_have_a_member_that_every_line_has() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    let log = AuditLog::open(&path).unwrap();
    for name in [
        "hash",
        "prev_hash",
        "seq",
        "ts",
        "kind",
        "session_id",
        "tenant_id",
    ] {
        let members = Json::from(json!({ name: 1 }));
        let other = Kind::Other(Other {
            kind: "x",
            members: &members,
        });
        assert!(log.append(&Event::new(Who::EVERYBODY, other)).is_err(), "{name}");
    }
    let members = Json::from(json!([1]));
    let other = Kind::Other(Other {
        kind: "x",
        members: &members,
    });
    assert!(log.append(&Event::new(Who::EVERYBODY, other)).is_err());
    let members = Json::from(json!({"a": {"hash": 1}, "z": 1e-5}));
    let other = Kind::Other(Other {
        kind: "x",
        members: &members,
    });
    assert_eq!(log.append(&Event::new(Who::EVERYBODY, other)).unwrap().seq(), 0);
    assert_eq!(check_file(&path).events, 1);
}

/// The original reads a mark as the start of a text, and then finds none.
#[test]
fn a_byte_order_mark_alone_is_no_blank_line() {
    let text = long_log();
    let (first, rest) = text.split_once('\n').unwrap();
    for mark in ["\u{feff}", "\u{feff} \t\r", " \u{feff}\u{b}"] {
        let log = format!("{first}\n{mark}\n{rest}");
        let Verdict::Broken(broken) = check(log.as_bytes()).verdict else {
            panic!("{mark:?} was accepted")
        };
        assert_eq!((broken.line, broken.seq), (2, None));
        let input = Input::stream("-", std::io::Cursor::new(log));
        let error = for_each(input, |_| Ok(())).unwrap_err().to_string();
        assert!(error.starts_with("line 2: no event"), "{error}");
    }
    // Before an event it is nothing.
    for mark in ["\u{feff}", "\u{feff} \t", " \u{b}\u{feff}"] {
        let log = format!("{first}\n{mark}{rest}");
        assert!(check(log.as_bytes()).is_ok(), "{mark:?}");
        let input = Input::stream("-", std::io::Cursor::new(log));
        assert_eq!(for_each(input, |_| Ok(())).unwrap(), 4000);
    }
}

#[test]
fn a_line_without_end_is_broken_and_not_kept_in_memory() {
    let limit = u64::try_from(leash_audit::MAX_LINE).unwrap();
    let endless = std::io::repeat(b'x').take(limit + 2);
    let options = VerifyOptions {
        threads: Some(1),
        progress: None,
        ..VerifyOptions::default()
    };
    let Verdict::Broken(broken) = verify_reader(endless, &options).unwrap().verdict else {
        panic!("was accepted")
    };
    assert_eq!((broken.line, broken.seq), (1, None));
    assert!(broken.what.contains("longer than"), "{}", broken.what);
}
