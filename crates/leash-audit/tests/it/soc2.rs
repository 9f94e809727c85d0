//! The evidence pack: what another program made of the same logs, and what an attacker would make of ours.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use leash_audit::soc2::{Costs, FILES, Period, Soc2Options, Soc2Report, generate_soc2_report};
use leash_audit::{
    AuditLog, Event, HitlDecision, HitlOutcome, HmacKey, HmacKeys, Input, Kind, PolicyAction, PolicyDecision,
    Who,
};
use leash_core::{Digest, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{kill, model_call};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn moment() -> Timestamp {
    "2026-11-22T09:34:10Z".parse().unwrap()
}

fn period() -> Period {
    Period::parse("2026-04-01T00:00:00Z", "2026-06-30T23:59:59Z").unwrap()
}

/// The whole of time, near enough.
fn always() -> Period {
    Period::parse("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z").unwrap()
}

fn stream(name: &str, log: &[u8]) -> Input {
    Input::stream(name, std::io::Cursor::new(log.to_vec()))
}

struct Made {
    report: Soc2Report,
    files: BTreeMap<String, String>,
    _dir: tempfile::TempDir,
}

impl Made {
    fn rows(&self, name: &str) -> Vec<Vec<String>> {
        parse_csv(&self.files[name])
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.files[name]).unwrap()
    }
}

fn make<'a>(input: Input, change: impl FnOnce(&mut Soc2Options<'a>)) -> Made {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Soc2Options::new(dir.path().join("pack"), period(), moment());
    change(&mut options);
    let report = generate_soc2_report(input, &options).unwrap();
    let files = std::fs::read_dir(&options.out).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let text = std::fs::read_to_string(entry.path()).unwrap();
        (entry.file_name().into_string().unwrap(), text)
    });
    let files: BTreeMap<_, _> = files.collect();
    let mut expected = FILES.map(str::to_owned).to_vec();
    expected.sort();
    assert!(files.keys().eq(expected.iter()));
    Made {
        report,
        files,
        _dir: dir,
    }
}

/// RFC 4180, and no more than that.
fn parse_csv(text: &str) -> Vec<Vec<String>> {
    let mut rows = vec![vec![String::new()]];
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        let row = rows.last_mut().unwrap();
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                row.last_mut().unwrap().push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(String::new()),
            '\r' if !quoted => {
                assert_eq!(chars.next(), Some('\n'));
                rows.push(vec![String::new()]);
            }
            c => row.last_mut().unwrap().push(c),
        }
    }
    assert!(!quoted);
    assert_eq!(rows.pop().unwrap(), [""]);
    rows
}

fn is_formula(cell: &str) -> bool {
    cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'])
}

/// Lines from members, chained.
fn chain(events: &[Value]) -> Vec<u8> {
    let mut prev = Digest::ZERO.to_string();
    let mut log = Vec::new();
    for (seq, event) in events.iter().enumerate() {
        let mut event = event.clone();
        let members = event.as_object_mut().unwrap();
        members.insert("seq".into(), seq.into());
        members.insert("prev_hash".into(), prev.into());
        for (name, value) in [
            ("session_id", json!("s")),
            ("tenant_id", Value::Null),
            ("ts", json!("2026-05-01T00:00:00Z")),
        ] {
            members.entry(name).or_insert(value);
        }
        let mut body = String::new();
        leash_core::canonical::write_value(&mut body, &event);
        prev = Digest::of(body.as_bytes()).to_string();
        event
            .as_object_mut()
            .unwrap()
            .insert("hash".into(), prev.clone().into());
        let mut line = String::new();
        leash_core::canonical::write_value(&mut line, &event);
        log.extend_from_slice(line.as_bytes());
        log.push(b'\n');
    }
    log
}

#[test]
fn packs_are_those_of_the_original_but_for_defused_formulas() {
    for name in ["mixed", "anomalies"] {
        for costs in [Costs::Auto, Costs::PerCall] {
            let log = std::fs::read(data(&format!("{name}.jsonl"))).unwrap();
            let made = make(stream(&format!("{name}.jsonl"), &log), |options| {
                options.org = Some("Acme <Inc> & Co".to_owned());
                options.costs = costs;
            });
            let golden = |file: &str| std::fs::read_to_string(data(&format!("{name}.soc2/{file}"))).unwrap();
            for file in ["cc6_access_control.csv", "cc7_monitoring.csv", "anomalies.csv"] {
                let mut expected = parse_csv(&golden(file));
                for cell in expected.iter_mut().flatten().filter(|cell| is_formula(cell)) {
                    cell.insert(0, '\'');
                }
                assert_eq!(made.rows(file), expected, "{name} {file}");
                // To the byte, but for the apostrophes.
                assert_eq!(made.files[file].replace("'=", "="), golden(file), "{name} {file}");
            }
            assert_eq!(made.files["cc7_integrity.json"], golden("cc7_integrity.json"));

            let bom = made.json("bom.json");
            let mut expected: Value = serde_json::from_str(&golden("bom.json")).unwrap();
            for (ours, theirs) in bom["files"]
                .as_array()
                .unwrap()
                .iter()
                .zip(expected["files"].as_array_mut().unwrap())
            {
                assert_eq!(ours["path"], theirs["path"]);
                let content = &made.files[ours["path"].as_str().unwrap()];
                assert_eq!(ours["sha256"], Digest::of(content.as_bytes()).to_string());
                assert_eq!(ours["size_bytes"], content.len());
                *theirs = ours.clone();
            }
            assert_eq!(
                made.files["bom.json"],
                format!("{}\n", serde_json_pretty(&expected))
            );

            let theirs = golden("executive-summary.html");
            for fact in theirs.split(['<', '>']).filter(|text| {
                text.starts_with('$')
                    || text.contains("VERIFIED")
                    || text.contains("SOC 2 Evidence")
                    || text.contains("Acme")
            }) {
                assert!(
                    made.files["executive-summary.html"].contains(fact.trim().trim_start_matches("✓ ")),
                    "{name}: {fact}"
                );
            }
        }
    }
}

/// Members in the order of the manifest, which a tree does not keep.
fn serde_json_pretty(bom: &Value) -> String {
    let text = |value: &Value| serde_json::to_string(value).unwrap();
    let files = bom["files"].as_array().unwrap().iter().map(|file| {
        format!(
            "    {{\n      \"path\": {},\n      \"sha256\": {},\n      \"size_bytes\": {}\n    }}",
            file["path"], file["sha256"], file["size_bytes"]
        )
    });
    let files: Vec<_> = files.collect();
    let log = &bom["source_audit_log"];
    let integrity = &bom["integrity"];
    format!(
        "{{\n  \"generated_at\": {},\n  \"period_start\": {},\n  \"period_end\": {},\n  \"source_audit_log\": {{\n    \
         \"path\": {},\n    \"sha256\": {},\n    \"size_bytes\": {}\n  }},\n  \"integrity\": {{\n    \"verified\": {},\n    \
         \"event_count\": {},\n    \"error\": {}\n  }},\n  \"files\": [\n{}\n  ]\n}}",
        text(&bom["generated_at"]),
        bom["period_start"],
        bom["period_end"],
        log["path"],
        log["sha256"],
        log["size_bytes"],
        integrity["verified"],
        integrity["event_count"],
        integrity["error"],
        files.join(",\n")
    )
}

#[test]
fn the_same_log_gives_the_same_bytes_however_many_threads_count() {
    let log: Vec<_> = (0..20_000_u32)
        .map(|n| {
            json!({
                "kind": (["model_call", "tool_call", "kill"][usize::try_from(n * 7 % 3).unwrap()]),
                "session_id": format!("s_{}", n * n % 613), "tenant_id": format!("t{}", n % 5),
                "cost_usd": f64::from(n % 97) / 1000.0, "model": format!("m{}", n % 11), "provider": "p",
                "tool": format!("t{}", n % 3), "reason": "r", "ts": format!("2026-05-01T00:{:02}:{:02}.000000Z", n % 60, n % 59),
            })
        })
        .collect();
    let log = chain(&log);
    let packs: Vec<_> = [1, 2, 8]
        .into_iter()
        .map(|threads| {
            make(stream("log", &log), |options| {
                options.verify.threads = Some(threads);
            })
        })
        .collect();
    assert!(packs[0].report.integrity.verified);
    assert_eq!(packs[0].report.summary.events, 20_000);
    for pack in &packs[1..] {
        assert_eq!(pack.files, packs[0].files);
        assert_eq!(pack.report.summary, packs[0].report.summary);
    }
}

/// A thread forgets names once it met too many, and a session may come again after that, for another tenant as well.
#[test]
fn every_session_is_counted_once_however_many_there_are() {
    let sessions = 36_000_u32;
    let log: Vec<_> = (0..sessions + 500)
        .map(|n| {
            json!({
                "kind": "tool_call", "tool": format!("t{}", n % 3), "session_id": format!("s_{}", n % sessions),
                "tenant_id": format!("t{}", n / sessions), "cost_usd": 0.25,
            })
        })
        .collect();
    let made = make(stream("log", &chain(&log)), |options| {
        options.verify.threads = Some(1);
        options.thresholds.tool_calls = 1;
        options.thresholds.spend_percentile = 90;
    });
    assert_eq!(made.report.summary.sessions, u64::from(sessions) + 500);
    assert_eq!(made.report.summary.spend_usd, "9125.00");
    let rows = made.rows("cc6_access_control.csv");
    assert_eq!((&*rows[1][0], &*rows[1][8]), ("s_0", "t0"));
    assert_eq!((&*rows[36_001][0], &*rows[36_001][1]), ("s_0", "t1"));
    // Those that came twice spent twice as much, and called their tool twice, in the order in which they came first.
    let anomalies = made.rows("anomalies.csv");
    assert_eq!(anomalies.len(), 1 + 500 + 500);
    for (n, row) in anomalies[1..].iter().enumerate() {
        let kind = if n < 500 { "spend_p90" } else { "tool_spam" };
        assert_eq!((&*row[0], &*row[1]), (kind, &*format!("s_{}", n % 500)));
    }
}

#[test]
fn a_log_that_is_formatted_otherwise_gives_the_same_tables() {
    let text = std::fs::read_to_string(data("mixed.jsonl")).unwrap();
    let mut other = String::new();
    for line in text.lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        other.push_str("  ");
        other.push_str(&line.replace("\",\"", "\" , \"").replacen("\":", "\" : ", 1));
        other.push_str("\r\n\r\n");
        assert!(value.is_object());
    }
    let plain = make(stream("log", text.as_bytes()), |_| {});
    let spaced = make(stream("log", other.as_bytes()), |_| {});
    for file in ["cc6_access_control.csv", "cc7_monitoring.csv", "anomalies.csv"] {
        assert_eq!(plain.files[file], spaced.files[file]);
    }
    assert_eq!(plain.report.summary, spaced.report.summary);
}

#[test]
fn of_a_broken_log_the_pack_is_made_and_says_so() {
    for name in [
        "bad-edited-cost",
        "bad-deleted-line",
        "garbage-line",
        "torn-tail",
        "bad-first-prev",
    ] {
        let path = data(&format!("{name}.jsonl"));
        let verdict = leash_audit::verify(&path, &leash_audit::VerifyOptions::default()).unwrap();
        let made = make(Input::open(&path).unwrap(), |_| {});
        let integrity = made.json("cc7_integrity.json");
        assert_eq!(integrity["verified"], false, "{name}");
        assert_eq!(integrity["event_count"], 0);
        let error = integrity["error"].as_str().unwrap();
        assert_eq!(format!("BROKEN: {error}"), verdict.to_string());
        assert_eq!(made.report.integrity.error.as_deref(), Some(error));
        let page = &made.files["executive-summary.html"];
        assert!(page.contains("BROKEN") && !page.contains("VERIFIED"), "{name}");
        // What comes after the bad line is reported on as well, and the hash is that of the whole file.
        let bytes = std::fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let readable = text
            .lines()
            .filter(|line| serde_json::from_str::<Value>(line).is_ok())
            .count();
        assert_eq!(
            made.report.summary.events,
            u64::try_from(readable).unwrap(),
            "{name}"
        );
        assert_eq!(
            made.report.summary.unreadable_lines,
            u64::try_from(text.lines().count() - readable).unwrap()
        );
        assert_eq!(
            made.json("bom.json")["source_audit_log"]["sha256"],
            Digest::of(&bytes).to_string()
        );
    }
}

#[test]
fn an_empty_log_gives_an_empty_pack() {
    let made = make(stream("log", b""), |_| {});
    assert!(made.report.integrity.verified);
    assert_eq!(made.report.summary.events, 0);
    assert_eq!(made.rows("cc6_access_control.csv").len(), 1);
    assert_eq!(made.rows("cc7_monitoring.csv").len(), 1);
    assert_eq!(made.rows("anomalies.csv").len(), 1);
    assert_eq!(
        made.json("bom.json")["source_audit_log"]["sha256"],
        Digest::EMPTY.to_string()
    );
}

#[test]
fn the_period_is_of_instants_with_both_ends() {
    let at = |ts: &str| json!({"kind": "kill", "reason": ts, "ts": ts});
    let log = chain(&[
        at("2026-03-31T23:59:59.999999Z"),
        at("2026-04-01T00:00:00Z"),
        at("2026-04-01T01:59:59+02:00"),
        at("2026-04-01T02:00:00.000000+02:00"),
        at("2026-06-30T23:59:59Z"),
        at("2026-06-30T23:59:59.000001Z"),
        at("2026-06-30T18:59:59-05:00"),
        at("soon"),
        json!({"kind": "kill", "reason": "none", "ts": 5}),
        at("2026-13-01T00:00:00Z"),
        at("2026-06-31T00:00:00Z"),
        at("2026-06-15T24:00:00Z"),
    ]);
    let made = make(stream("log", &log), |_| {});
    let reasons: Vec<_> = made
        .rows("cc7_monitoring.csv")
        .into_iter()
        .skip(1)
        .map(|row| row[5].clone())
        .collect();
    let expected = [
        "2026-04-01T00:00:00Z",
        "2026-04-01T02:00:00.000000+02:00",
        "2026-06-30T23:59:59Z",
        "2026-06-30T18:59:59-05:00",
    ];
    assert_eq!(reasons, expected);
    assert_eq!(made.report.summary.undated_events, 5);
    let row = &made.rows("cc6_access_control.csv")[1];
    assert_eq!(row[9..], ["2026-04-01T00:00:00Z", "2026-06-30T23:59:59Z"]);
    assert_eq!(row[2], "4");
}

#[test]
fn a_period_is_read_as_people_write_it() {
    let whole = Period::parse("2026-04-01", "2026-04-01").unwrap();
    for (at, inside) in [
        ("2026-04-01T00:00:00Z", true),
        ("2026-04-01T23:59:59.999999Z", true),
        ("2026-04-02T00:00:00Z", false),
        ("2026-03-31T23:59:59.999999Z", false),
    ] {
        assert_eq!(whole.contains(at.parse().unwrap()), inside, "{at}");
    }
    for (start, end) in [
        ("2026-04-01T00:00:00", "2026-04-01 12:00:00"),
        ("2026-04-01T00:00:00+02:00", "2026-04-01 00:00:00+00:00"),
    ] {
        Period::parse(start, end).unwrap();
    }
    for end in [
        "2026-04-01T10:30:00Z",
        "2026-04-01T10:30Z",
        "2026-04-01 10:30",
        "2026-04-01T12:30+02:00",
        "2026-04-01T12:30:00+0200",
        "2026-04-01T12:30:00.000+02",
        "2026-04-01T05:30-0500",
        " 2026-04-01t10:30:00z ",
    ] {
        let period = Period::parse("2026-04-01", end).unwrap();
        assert!(period.contains("2026-04-01T10:30:00Z".parse().unwrap()), "{end}");
        assert!(
            !period.contains("2026-04-01T10:30:00.000001Z".parse().unwrap()),
            "{end}"
        );
    }
    for (start, end) in [
        ("2026-04-02", "2026-04-01"),
        ("yesterday", "2026-04-01"),
        ("2026-04-01", ""),
        ("2026-04-01", "2026-02-30"),
        ("2026-04-01T00:00:00Zjunk", "2026-04-02"),
        ("é2026-04-0", "2026-04-02"),
        ("2026-04-01T", "2026-04-02"),
        ("2026-04-01T25", "2026-04-02"),
        ("2026-04-01T10:", "2026-04-02"),
        ("2026-04-01T10:30+", "2026-04-02"),
        ("2026-04-01T10:30+é1", "2026-04-02"),
        ("2026-04-01T10:30+99", "2026-04-02"),
        ("2026-04-01T10:30Z+02", "2026-04-02"),
        ("2026-04-01é10:30", "2026-04-02"),
    ] {
        assert!(Period::parse(start, end).is_err(), "{start} {end}");
    }
}

#[test]
fn running_totals_are_told_from_costs_and_the_pack_says_which() {
    let call = |session: &str, cost: f64| json!({"kind": "model_call", "session_id": session, "cost_usd": cost, "provider": "p"});
    let rising = [
        call("a", 0.1),
        call("b", 0.5),
        call("a", 0.25),
        call("a", 0.25),
        call("b", 0.75),
    ];
    let total = |events: &[Value], costs: Costs| {
        let made = make(stream("log", &chain(events)), |options| options.costs = costs);
        let page = &made.files["executive-summary.html"];
        assert_eq!(
            page.contains("running total"),
            made.report.summary.costs == Costs::RunningTotal
        );
        let sum: f64 = made.rows("cc6_access_control.csv")[1..]
            .iter()
            .map(|row| row[6].parse::<f64>().unwrap())
            .sum();
        (made.report.summary.costs, format!("{sum:.6}"))
    };
    assert_eq!(
        total(&rising, Costs::Auto),
        (Costs::RunningTotal, "1.000000".to_owned())
    );
    assert_eq!(total(&rising, Costs::RunningTotal).1, "1.000000");
    assert_eq!(
        total(&rising, Costs::PerCall),
        (Costs::PerCall, "1.850000".to_owned())
    );

    // One fall, and it is costs.
    let mut falling = rising.to_vec();
    falling.push(call("a", 0.1));
    assert_eq!(
        total(&falling, Costs::Auto),
        (Costs::PerCall, "1.950000".to_owned())
    );
    // A total that falls has begun anew.
    assert_eq!(
        total(&falling, Costs::RunningTotal),
        (Costs::RunningTotal, "1.100000".to_owned())
    );

    // One call that says what its session had spent, and costs are its own.
    let mut told = rising.to_vec();
    told[3]["cumulative_usd"] = json!(0.5);
    assert_eq!(total(&told, Costs::Auto), (Costs::PerCall, "1.850000".to_owned()));
    // That a budget line says it means nothing, as the original's do.
    let mut budget = rising.to_vec();
    budget.push(json!({"kind": "budget", "cumulative_usd": 1.0, "cap_usd": 2.0, "decision": "under"}));
    assert_eq!(total(&budget, Costs::Auto).0, Costs::RunningTotal);
}

#[test]
fn of_a_total_that_ran_before_the_period_only_the_growth_counts() {
    let call = |ts: &str, tenant: &str, cost: f64| json!({"kind": "model_call", "ts": ts, "tenant_id": tenant, "cost_usd": cost, "provider": "p"});
    let log = chain(&[
        call("2026-03-01T00:00:00Z", "t", 10.0),
        call("2026-04-01T00:00:00Z", "t", 12.5),
        call("2026-04-02T00:00:00Z", "u", 13.0),
        call("2026-08-02T00:00:00Z", "u", 20.0),
    ]);
    let made = make(stream("log", &log), |_| {});
    let costs: Vec<_> = made.rows("cc6_access_control.csv")[1..]
        .iter()
        .map(|row| row[6].clone())
        .collect();
    assert_eq!(costs, ["2.500000", "0.500000"]);
    assert_eq!(made.report.summary.spend_usd, "3.00");
}

#[test]
fn money_is_summed_exactly_and_what_is_no_money_is_told() {
    let call = |cost: Value| json!({"kind": "model_call", "cost_usd": cost, "provider": "p"});
    let mut events: Vec<_> = (0..10).map(|_| call(json!(0.1))).collect();
    events.extend([json!("1"), json!(1e300), json!(true), Value::Null, json!(-0.5)].map(call));
    events.push(json!({"kind": "tool_call", "tool": "t", "cost_usd": 0.25}));
    let made = make(stream("log", &chain(&events)), |_| {});
    assert_eq!(made.report.summary.spend_usd, "0.75");
    assert_eq!(made.report.summary.unreadable_costs, 3);
    assert!(made.files["executive-summary.html"].contains("3 costs are no amount of money"));
}

/// Whoever writes the line of a call that expired may die before that is known, and then another writes it again.
#[test]
fn a_call_whose_line_was_written_twice_is_paid_once() {
    let call = |id: Value| json!({"kind": "model_call", "cost_usd": 1.5, "cumulative_usd": 9.0, "provider": "p", "reservation_id": id});
    let tool = json!({"kind": "tool_call", "tool": "t", "cost_usd": 0.25, "reservation_id": "r3"});
    let mut log = vec![
        call(json!("r1")),
        call(json!("r2")),
        tool.clone(),
        call(json!("r1")),
    ];
    // Far enough apart that they are in different pieces.
    log.extend(
        (0..12_000).map(|_| json!({"kind": "kill", "session_id": "other", "reason": "so many of these"})),
    );
    log.extend([call(json!("r2")), tool, call(Value::Null), call(Value::Null)]);
    let log = chain(&log);
    assert!(log.len() > 3 << 20);
    for threads in [1, 3] {
        let made = make(stream("log", &log), |options| {
            options.verify.threads = Some(threads);
        });
        assert_eq!(made.report.summary.spend_usd, "6.25");
        let row = &made.rows("cc6_access_control.csv")[1];
        assert_eq!((&*row[0], &*row[6]), ("s", "6.250000"));
    }
}

/// A call may have its own line, one of its settlement and one of its expiry, in any order, and some outside of the period.
#[test]
fn of_several_lines_of_a_call_its_own_counts_and_then_that_of_its_settlement() {
    let own = Some("ok");
    let call = |id: &str, outcome: Option<&str>, cost: f64, ts: &str| {
        let mut call = json!({"kind": "model_call", "cost_usd": cost, "cumulative_usd": 9.0, "provider": "p", "reservation_id": id});
        let members = call.as_object_mut().unwrap();
        if let Some(outcome) = outcome {
            members.insert("outcome".into(), outcome.into());
        }
        members.insert("ts".into(), ts.into());
        call
    };
    let (before, within) = ("2026-03-31T23:59:59Z", "2026-05-01T00:00:00Z");
    let (expired, settled) = (Some("expired"), None);
    let lines = [
        // Its own line is the last of three.
        [
            call("a", expired, 64.0, within),
            call("a", settled, 1.0, within),
            call("a", own, 1.0, within),
        ],
        // The first.
        [
            call("b", Some("cut"), 2.0, within),
            call("b", expired, 64.0, within),
            call("b", expired, 64.0, within),
        ],
        // There is none.
        [
            call("c", expired, 64.0, within),
            call("c", settled, 4.0, within),
            call("c", expired, 64.0, within),
        ],
        [
            call("d", expired, 8.0, within),
            call("d", expired, 8.0, within),
            call("d", expired, 8.0, within),
        ],
        // The one that counts is in another period.
        [
            call("e", own, 16.0, before),
            call("e", expired, 64.0, within),
            call("e", settled, 16.0, within),
        ],
        [
            call("f", settled, 32.0, before),
            call("f", expired, 64.0, within),
            call("f", settled, 32.0, within),
        ],
    ];
    let kill = json!({"kind": "kill", "session_id": "other", "reason": "so many of these", "ts": within});
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        // Of two lines of one sort the first one counts.
        let expected = if order[0] == 0 { "15.00" } else { "47.00" };
        let mut log = Vec::new();
        for at in order {
            log.extend(lines.iter().map(|of| of[at].clone()));
            // Far enough apart that they are in different pieces.
            log.extend((0..6_000).map(|_| kill.clone()));
        }
        let log = chain(&log);
        for threads in [1, 3] {
            let made = make(stream("log", &log), |options| {
                options.verify.threads = Some(threads);
                options.period = Period::parse("2026-04-01", "2026-06-30").unwrap();
            });
            assert_eq!(made.report.summary.spend_usd, expected, "{order:?}");
        }
    }
}

#[test]
fn thresholds_are_as_they_are_set() {
    let log = std::fs::read(data("anomalies.jsonl")).unwrap();
    let kinds = |change: &dyn Fn(&mut Soc2Options<'_>)| {
        let made = make(stream("log", &log), change);
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        for row in made.rows("anomalies.csv").into_iter().skip(1) {
            *kinds.entry(row[0].clone()).or_default() += 1;
        }
        assert_eq!(
            made.report.summary.anomalies,
            u64::try_from(kinds.values().sum::<usize>()).unwrap()
        );
        kinds
            .into_iter()
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(&|_| {}), ["kill_spike 1", "spend_p95 2", "tool_spam 1"]);
    assert_eq!(
        kinds(&|options| options.thresholds.kills = 5),
        ["spend_p95 2", "tool_spam 1"]
    );
    assert_eq!(
        kinds(&|options| options.thresholds.kills = 4),
        ["kill_spike 1", "spend_p95 2", "tool_spam 1"]
    );
    assert_eq!(
        kinds(&|options| options.thresholds.tool_calls = 150),
        ["kill_spike 1", "spend_p95 2"]
    );
    assert_eq!(
        kinds(&|options| options.thresholds.tool_calls = 149),
        ["kill_spike 1", "spend_p95 2", "tool_spam 1"]
    );
    assert_eq!(
        kinds(&|options| options.thresholds.spend_sessions = 41),
        ["kill_spike 1", "tool_spam 1"]
    );
    assert_eq!(
        kinds(&|options| options.thresholds.spend_percentile = 50),
        ["kill_spike 1", "spend_p50 20", "tool_spam 1"]
    );
    assert_eq!(
        kinds(&|options| options.thresholds.spend_percentile = 0),
        ["kill_spike 1", "spend_p0 39", "tool_spam 1"]
    );
    assert_eq!(
        kinds(&|options| options.thresholds.spend_percentile = 255),
        ["kill_spike 1", "tool_spam 1"]
    );
}

#[test]
fn policy_blocks_and_human_decisions_are_security_events() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = AuditLog::open(&path).unwrap();
    let policy = |action, shadow| {
        Kind::PolicyDecision(PolicyDecision {
            rule_id: "blocked_sql",
            action,
            reason: "writes",
            tool: "db",
            shadow,
        })
    };
    let human = |decision, reason, operator| {
        Kind::HitlDecision(HitlDecision {
            request_id: "r1",
            rule_id: "wire",
            decision,
            reason,
            operator,
        })
    };
    for kind in [
        policy(PolicyAction::Block, false),
        policy(PolicyAction::Block, true),
        policy(PolicyAction::Warn, false),
        human(HitlOutcome::Approve, None, Some("ann")),
        human(HitlOutcome::Reject, Some("too much"), Some("ann")),
        human(HitlOutcome::Expire, None, None),
    ] {
        let _ = log.append(&Event::new(Who::session("s_1"), kind)).unwrap();
    }
    log.close().unwrap();
    let made = make(Input::open(&path).unwrap(), |options| options.period = always());
    let rows: Vec<_> = made
        .rows("cc7_monitoring.csv")
        .into_iter()
        .skip(1)
        .map(|row| row[3..].join("|"))
        .collect();
    let expected = [
        "policy:block|blocked_sql|writes",
        "hitl:approve|wire|by ann",
        "hitl:reject|wire|too much (by ann)",
        "hitl:expire|wire|",
    ];
    assert_eq!(rows, expected);
    assert_eq!(made.report.summary.security_events, 4);
}

#[test]
fn the_pack_never_takes_the_place_of_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("anomalies.csv");
    std::fs::copy(data("mixed.jsonl"), &path).unwrap();
    let options = Soc2Options::new(dir.path(), period(), moment());
    let error = generate_soc2_report(Input::open(&path).unwrap(), &options).unwrap_err();
    assert!(error.to_string().contains("anomalies.csv"), "{error}");
    assert_eq!(
        std::fs::read(&path).unwrap(),
        std::fs::read(data("mixed.jsonl")).unwrap()
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_pack_takes_the_place_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let options = Soc2Options::new(dir.path(), period(), moment());
    let log = || Input::open(data("mixed.jsonl")).unwrap();
    generate_soc2_report(Input::open(data("anomalies.jsonl")).unwrap(), &options).unwrap();
    let report = generate_soc2_report(log(), &options).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 6);
    let bom = std::fs::read_to_string(report.files.last().unwrap()).unwrap();
    assert!(bom.contains("mixed.jsonl") && !bom.contains("anomalies.jsonl"));
}

const NASTY: [&str; 14] = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'--></style><svg onload=alert(1)>",
    "a,b\r\nc,\"d\"",
    "\",\"=1+1\",\"",
    "\u{202e}abc\u{0}\u{1b}[31m",
    "&lt;b&gt;",
    "${x}{{7*7}}",
];

/// What every file of a pack must be, whatever is in the log.
fn assert_harmless(made: &Made) {
    for (name, columns) in [
        ("cc6_access_control.csv", 11),
        ("cc7_monitoring.csv", 6),
        ("anomalies.csv", 6),
    ] {
        for row in made.rows(name) {
            assert_eq!(row.len(), columns, "{name}: {row:?}");
            assert!(!row.iter().any(|cell| is_formula(cell)), "{name}: {row:?}");
        }
    }
    let page = &made.files["executive-summary.html"];
    let lower = page.to_lowercase();
    for tag in [
        "<script",
        "<img",
        "<svg",
        "<b>g",
        "javascript:",
        "http://",
        "https://",
        "url(",
        "@import",
        "<link",
    ] {
        assert!(!lower.contains(tag), "{tag}");
    }
    assert!(
        !page
            .chars()
            .any(|c| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c))
    );
    // Every quote of an attribute is ours: tags with an odd number of them would have been broken into.
    for tag in page.split('<').skip(1) {
        let tag = tag.split('>').next().unwrap();
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
    }
    for name in ["cc7_integrity.json", "bom.json"] {
        assert!(made.files[name].is_ascii());
        made.json(name);
    }
}

fn nasty_events(text: &str) -> Vec<Value> {
    let who = |mut event: Value| {
        event["session_id"] = json!(text);
        event["tenant_id"] = json!(text);
        event["agent_name"] = json!(text);
        event
    };
    let mut events = vec![
        json!({"kind": "model_call", "provider": text, "model": text, "cost_usd": 1.0}),
        json!({"kind": "model_call", "provider": text, "model": text, "cost_usd": text}),
        json!({"kind": "budget", "cumulative_usd": text, "cap_usd": text, "decision": "hard_exceeded", "scope": text}),
        json!({"kind": "budget", "cumulative_usd": 1, "cap_usd": {"a": text}, "decision": "soft_exceeded"}),
        json!({"kind": "budget", "cumulative_usd": 1, "decision": text}),
        json!({"kind": "policy_decision", "action": "block", "rule_id": text, "reason": text, "tool": text}),
        json!({"kind": "hitl_decision", "decision": text, "rule_id": text, "reason": text, "operator": text}),
        json!({"kind": "hitl_decision", "decision": text, "rule_id": text, "reason": null, "operator": text}),
        json!({"kind": text, "ts": text}),
        json!({"kind": text}),
    ];
    events.extend((0..3).map(|_| json!({"kind": "kill", "reason": text})));
    events.extend((0..2).map(|_| json!({"kind": "tool_call", "tool": text})));
    events.into_iter().map(who).collect()
}

fn nasty_pack(text: &str) -> Made {
    make(stream(text, &chain(&nasty_events(text))), |options| {
        options.org = Some(text.to_owned());
        options.thresholds.tool_calls = 1;
        options.thresholds.spend_sessions = 1;
        options.thresholds.spend_percentile = 1;
    })
}

#[test]
fn nothing_in_a_log_runs_or_breaks_out_wherever_it_stands() {
    for text in NASTY {
        let made = nasty_pack(text);
        assert!(made.report.integrity.verified);
        assert_eq!(made.report.summary.anomalies, 2);
        assert_harmless(&made);
        assert_eq!(made.json("cc7_integrity.json")["source_log"], text);
        // Defused, not lost.
        let defused = if is_formula(text) {
            format!("'{text}")
        } else {
            text.to_owned()
        };
        assert_eq!(
            made.rows("cc6_access_control.csv")[1][..2],
            [defused.clone(), defused.clone()]
        );
        let reasons = made.rows("cc7_monitoring.csv");
        assert!(reasons.iter().any(|row| row[5] == defused), "{text}");
    }
}

/// Where a semicolon ends a cell, each of the names that stand in one is a cell of its own.
#[test]
fn each_of_the_names_in_one_cell_is_defused() {
    let call = |tool: &str, model: &str| {
        [
            json!({"kind": "tool_call", "tool": tool}),
            json!({"kind": "model_call", "provider": "p", "model": model, "cost_usd": 0.5}),
        ]
    };
    let log: Vec<_> = [("=1+1", "@x"), ("b", "m"), ("@SUM(1)", "-9"), ("c", "\t=2")]
        .into_iter()
        .flat_map(|(tool, model)| call(tool, model))
        .collect();
    let made = make(stream("log", &chain(&log)), |_| {});
    let row = &made.rows("cc6_access_control.csv")[1];
    assert_eq!(row[7], "'\t=2;'-9;'@x;m");
    assert_eq!(row[8], "'=1+1;'@SUM(1);b;c");
    for cell in row[7].split(';').chain(row[8].split(';')) {
        assert!(!is_formula(cell), "{cell}");
    }
}

#[test]
fn an_error_of_a_broken_log_is_escaped_too() {
    let log = b"{\"hash\":\"<script>alert(1)</script>\",\"seq\":0}\n<script>\n";
    let made = make(stream("<script>.jsonl", log), |_| {});
    assert!(!made.report.integrity.verified);
    assert_harmless(&made);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_at_all_breaks_out(text in prop_oneof![any::<String>(), "[=+\\-@\t\r\n\"',;<>&/!a\\\\]{0,12}"]) {
        assert_harmless(&nasty_pack(&text));
    }
}

fn keys() -> HmacKeys {
    HmacKeys::new().with(HmacKey::new("k1", b"first secret").unwrap())
}

#[test]
fn a_pack_of_a_signed_log_asks_for_the_signature() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let signed = AuditLog::builder(&path)
        .hmac(HmacKey::new("k1", b"first secret").unwrap())
        .open()
        .unwrap();
    let _ = signed.append(&kill("r")).unwrap();
    let _ = signed.append(&model_call(5)).unwrap();
    signed.close().unwrap();
    let keys = keys();
    let wrong = HmacKeys::new().with(HmacKey::new("k1", b"other secret").unwrap());
    for (keys, verified) in [(&keys, true), (&wrong, false)] {
        let made = make(Input::open(&path).unwrap(), |options| {
            options.verify.keys = Some(keys);
            options.period = always();
        });
        assert_eq!(made.report.integrity.verified, verified);
        assert_eq!(
            made.files["executive-summary.html"].contains("signed with a known key"),
            verified
        );
        assert!(!made.files.values().any(|file| file.contains("secret")));
    }
}
