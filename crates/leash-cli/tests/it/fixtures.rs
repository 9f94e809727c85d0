//! Every command that reads a log, over every log that another program wrote: what comes out, where, and with which
//! exit code.

use std::fs;

use serde_json::Value;

use super::{Ran, data, feed, fixtures, log, run};

/// What a log has on its lines: the events, and whether all lines are.
struct Content {
    events: Vec<Value>,
    lines: Vec<String>,
    /// The first line that is no event, from 1.
    bad: Option<usize>,
}

fn content(name: &str) -> Content {
    let text = fs::read_to_string(data(name)).unwrap();
    let mut content = Content {
        events: Vec::new(),
        lines: Vec::new(),
        bad: None,
    };
    for (index, line) in text.split('\n').enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let Ok(event) = serde_json::from_str(line) else {
            content.bad = index.checked_add(1);
            break;
        };
        content.events.push(event);
        content.lines.push(line.to_owned());
    }
    content
}

/// The exit code of what reads events, and that the line that is none is named where there is one.
fn assert_read(name: &str, content: &Content, ran: &Ran, said: &str) {
    match content.bad {
        None => assert_eq!((ran.code, &*ran.stderr), (0, said), "{name}"),
        Some(line) => {
            assert_eq!(ran.code, 1, "{name}");
            assert!(
                ran.stderr.contains(name) && ran.stderr.contains(&format!("line {line}:")),
                "{}",
                ran.stderr
            );
        }
    }
}

#[test]
fn replay_gives_the_events_of_every_fixture() {
    for (name, _) in fixtures() {
        let content = content(&name);
        let ran = run(&["replay", &log(&name)]);
        let lines: Vec<_> = ran.text().lines().collect();
        assert_eq!(lines, content.lines, "{name}");
        let said = format!("# replayed {} events\n", content.events.len());
        assert_read(&name, &content, &ran, &said);
    }
}

#[test]
fn export_gives_the_events_of_every_fixture() {
    for (name, _) in fixtures() {
        let content = content(&name);
        let count = content.events.len();
        let ran = run(&["export", &log(&name)]);
        assert_read(
            &name,
            &content,
            &ran,
            &format!("# exported {count} events as json\n"),
        );
        if content.bad.is_none() {
            let events: Vec<Value> = serde_json::from_slice(&ran.stdout).unwrap();
            assert!(events == content.events, "{name}");
            assert!(
                ran.text().starts_with('[') && ran.text().ends_with("]\n"),
                "{name}"
            );
        }

        let ran = run(&["export", &log(&name), "--format", "csv"]);
        assert_read(
            &name,
            &content,
            &ran,
            &format!("# exported {count} events as csv\n"),
        );
        if content.bad.is_none() {
            assert!(
                ran.text().starts_with("ts,session_id,tenant_id,seq,kind"),
                "{name}"
            );
            assert!(ran.text().ends_with("\r\n"), "{name}");
            // Each event's moment and number open a row.
            for event in &content.events {
                let (ts, seq) = (event["ts"].as_str().unwrap(), &event["seq"]);
                assert!(ran.text().contains(&format!("\n{ts},")), "{name}");
                assert!(ran.text().contains(&format!(",{seq},")), "{name}");
            }
        }
    }
}

#[test]
fn verify_tells_machines_of_every_fixture_what_it_tells_people() {
    for (name, expected) in fixtures() {
        let (plain, json) = (
            run(&["verify", &log(&name)]),
            run(&["verify", &log(&name), "--json"]),
        );
        assert_eq!((json.code, &json.stderr), (plain.code, &plain.stderr), "{name}");
        let told: Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!(told["path"], log(&name));
        if plain.code == 0 {
            assert_eq!(told["verdict"], "intact", "{name}");
            assert_eq!(told["events"], expected["events"], "{name}");
            assert!(
                told.get("line").is_none() && told.get("reason").is_none(),
                "{name}"
            );
            let last = content(&name).events.last().map_or_else(
                || "0".repeat(64),
                |event| event["hash"].as_str().unwrap().to_owned(),
            );
            assert_eq!(told["head"], last, "{name}");
        } else {
            assert_eq!(told["verdict"], "broken", "{name}");
            let seq = told["seq"]
                .as_u64()
                .map_or_else(|| "unknown".to_owned(), |seq| seq.to_string());
            let said = format!(
                "BROKEN: line {} (seq {seq}): {}\n",
                told["line"],
                told["reason"].as_str().unwrap()
            );
            assert_eq!(plain.stderr, said, "{name}");
        }
    }
}

#[test]
fn soc2_makes_a_pack_of_every_fixture_with_the_verdict_of_verify() {
    let folder = tempfile::tempdir().unwrap();
    for (name, _) in fixtures() {
        let out = folder.path().join(&name);
        let period = ["--period-start", "2026-01-01", "--period-end", "2026-12-31"];
        let path = log(&name);
        let args = [&["soc2", &path, "--out", out.to_str().unwrap()][..], &period].concat();
        let verdict = run(&["verify", &path]);
        let ran = run(&args);
        assert_eq!(ran.code, verdict.code, "{name}");
        let page = out.join("executive-summary.html");
        assert_eq!(ran.text(), format!("{}\n", page.display()), "{name}");
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        let integrity: Value =
            serde_json::from_slice(&fs::read(out.join("cc7_integrity.json")).unwrap()).unwrap();
        assert_eq!(integrity["source_log"], *path);
        assert_eq!(integrity["verified"], verdict.code == 0, "{name}");
        let error = verdict.stderr.strip_prefix("BROKEN: ").map(str::trim_end);
        assert_eq!(integrity["error"].as_str(), error, "{name}");
        let word = if verdict.code == 0 { "VERIFIED" } else { "BROKEN" };
        assert!(ran.stderr.contains(word), "{}", ran.stderr);
        assert!(fs::read_to_string(&page).unwrap().contains(word), "{name}");
        // The events that can be read are in it, wherever the bad line is.
        let events = content(&name).events;
        let rows = fs::read_to_string(out.join("cc6_access_control.csv")).unwrap();
        assert_eq!(events.is_empty(), rows.lines().count() == 1, "{name}");
        assert_eq!(fs::read_dir(&out).unwrap().count(), 6, "{name}");
    }
}

#[test]
fn what_comes_in_on_standard_input_comes_out_the_same() {
    for (name, _) in fixtures() {
        let input = || fs::read(data(&name)).unwrap();
        for command in [
            &["replay"][..],
            &["export"],
            &["export", "--format", "csv"],
            &["verify", "--json"],
        ] {
            let piped = feed(&[command, &["-"]].concat(), input());
            let read = run(&[command, &[&log(&name)]].concat());
            assert_eq!(piped.code, read.code, "{name} {command:?}");
            if command[0] != "verify" {
                assert!(piped.stdout == read.stdout, "{name} {command:?}");
            }
        }
    }
}
