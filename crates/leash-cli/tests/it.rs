//! The real binary over real logs: what it writes, where, and with which exit code it ends.
//!
//! The logs and what they must come out as lie with the crate that owns the format.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

#[path = "it/budget.rs"]
mod budget;
#[path = "it/fixtures.rs"]
mod fixtures;
#[path = "it/policy.rs"]
mod policy;
#[path = "it/price.rs"]
mod price;
#[path = "it/soc2.rs"]
mod soc2;

#[path = "it/hitl.rs"]
mod hitl;
#[path = "it/kill.rs"]
mod kill;
#[path = "it/wire_transfer.rs"]
mod wire_transfer;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// What a run of the binary left.
#[derive(Debug)]
struct Ran {
    code: i32,
    stdout: Vec<u8>,
    stderr: String,
}

impl Ran {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llm-leash"));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn finish(child: std::process::Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("panicked"), "{stderr}");
    Ran {
        code: output.status.code().expect("ended by a signal"),
        stdout: output.stdout,
        stderr,
    }
}

fn run(args: &[&str]) -> Ran {
    finish(binary().args(args).spawn().unwrap())
}

/// Runs with `input` on standard input.
fn feed(args: &[&str], input: Vec<u8>) -> Ran {
    let mut child = binary().args(args).stdin(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        // A program that has seen enough may stop reading.
        let _ = pipe.write_all(&input);
    });
    let ran = finish(child);
    writer.join().unwrap();
    ran
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../leash-audit/tests/data")
        .join(name)
}

fn log(name: &str) -> String {
    data(name).to_str().unwrap().to_owned()
}

/// Every fixture: its name and what the Python verifier said of it.
fn fixtures() -> Vec<(String, Value)> {
    let text = fs::read(data("expected.json")).unwrap();
    let all: serde_json::Map<String, Value> = serde_json::from_slice(&text).unwrap();
    assert!(all.len() >= 17);
    all.into_iter().collect()
}

/// `line L (seq S): ` of a verdict.
fn place(message: &str) -> &str {
    message.split_inclusive("): ").next().unwrap()
}

fn assert_verdict(name: &str, expected: &Value, ran: &Ran) {
    if expected["verdict"] == "ok" {
        assert_eq!(ran.code, 0, "{name}: {ran:?}");
        assert_eq!(
            ran.text(),
            format!("OK: {} events verified\n", expected["events"]),
            "{name}"
        );
        assert_eq!(ran.stderr, "", "{name}");
        return;
    }
    assert_eq!(ran.code, 2, "{name}: {ran:?}");
    assert_eq!(ran.text(), "", "{name}");
    assert!(ran.stderr.starts_with("BROKEN: line "), "{name}: {}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{name}: {}", ran.stderr);
    if expected["verdict"] == "broken" {
        let place = place(expected["message"].as_str().unwrap());
        assert!(
            ran.stderr.starts_with(&format!("BROKEN: {place}")),
            "{name}: {} wants {place}",
            ran.stderr
        );
    }
}

#[test]
fn verify_says_of_every_fixture_what_the_contract_says() {
    for (name, expected) in fixtures() {
        assert_verdict(&name, &expected, &run(&["verify", &log(&name)]));
    }
}

#[test]
fn verify_says_the_same_of_standard_input() {
    for (name, expected) in fixtures() {
        let ran = feed(&["verify", "-"], fs::read(data(&name)).unwrap());
        assert_verdict(&name, &expected, &ran);
        assert_eq!(ran.stderr, run(&["verify", &log(&name)]).stderr, "{name}");
    }
}

/// A pipe has no length; taking that for an empty log would call anything intact.
#[cfg(target_os = "linux")]
#[test]
fn a_pipe_that_has_a_path_is_read_to_its_end() {
    let intact = fs::read(data("mixed.jsonl")).unwrap();
    assert_eq!(
        feed(&["verify", "/dev/stdin"], intact).text(),
        "OK: 240 events verified\n"
    );
    let broken = fs::read(data("bad-edited-cost.jsonl")).unwrap();
    assert_eq!(feed(&["verify", "/dev/stdin"], broken).code, 2);
}

#[test]
fn verify_tells_machines_in_json() {
    let ran = run(&["verify", "--json", &log("mixed.jsonl")]);
    assert_eq!(ran.code, 0);
    let verdict: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let text = fs::read_to_string(data("mixed.jsonl")).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let path = log("mixed.jsonl");
    assert_eq!(
        verdict,
        serde_json::json!({"path": path, "verdict": "intact", "events": 240, "head": last["hash"]})
    );

    let ran = run(&["verify", "--json", &log("bad-edited-cost.jsonl")]);
    assert_eq!(ran.code, 2);
    let verdict: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(verdict["verdict"], "broken");
    assert_eq!(verdict["line"], 86);
    assert_eq!(verdict["seq"], 85);
    assert_eq!(verdict["events"], 85);
    assert!(verdict["reason"].as_str().unwrap().contains("hash"), "{verdict}");
    assert!(
        ran.stderr.starts_with("BROKEN: line 86 (seq 85): "),
        "{}",
        ran.stderr
    );
}

#[test]
fn export_equals_what_the_python_tool_wrote() {
    for (name, events) in [("mixed", 240), ("anomalies", 194)] {
        for format in ["csv", "json"] {
            let wanted = fs::read(data(&format!("{name}.export.{format}"))).unwrap();
            let source = log(&format!("{name}.jsonl"));
            let ran = run(&["export", &source, "--format", format]);
            assert_eq!(ran.code, 0, "{name} {format}: {}", ran.stderr);
            assert!(ran.stdout == wanted, "{name} as {format} differs");
            assert_eq!(ran.stderr, format!("# exported {events} events as {format}\n"));
            let piped = feed(&["export", "-", "--format", format], fs::read(&source).unwrap());
            assert!(
                piped.stdout == wanted,
                "{name} as {format} differs from standard input"
            );
        }
    }
}

#[test]
fn export_is_json_unless_told_otherwise() {
    let source = log("mixed.jsonl");
    assert_eq!(
        run(&["export", &source]).stdout,
        run(&["export", &source, "--format", "json"]).stdout
    );
}

#[test]
fn replay_gives_every_line_as_it_stands() {
    let source = fs::read(data("mixed.jsonl")).unwrap();
    let ran = run(&["replay", &log("mixed.jsonl")]);
    assert_eq!((ran.code, &*ran.stderr), (0, "# replayed 240 events\n"));
    assert!(ran.stdout == source);
    assert!(feed(&["replay", "-"], source.clone()).stdout == source);

    let respaced = fs::read_to_string(data("ok-respaced.jsonl")).unwrap();
    let ran = run(&["replay", &log("ok-respaced.jsonl")]);
    assert_eq!(
        ran.text().lines().collect::<Vec<_>>(),
        respaced.lines().collect::<Vec<_>>()
    );

    let ran = run(&["replay", &log("empty.jsonl")]);
    assert_eq!(
        (ran.code, ran.text(), &*ran.stderr),
        (0, "", "# replayed 0 events\n")
    );
}

#[test]
fn replay_and_export_name_the_line_that_is_no_event() {
    for name in ["garbage-line.jsonl", "torn-tail.jsonl"] {
        let verdict = run(&["verify", &log(name)]).stderr;
        let line = verdict
            .strip_prefix("BROKEN: line ")
            .unwrap()
            .split(|c: char| !c.is_ascii_digit())
            .next()
            .unwrap();
        for args in [&["replay"][..], &["export"], &["export", "--format", "csv"]] {
            let path = log(name);
            let ran = run(&[args, &[&path]].concat());
            assert_eq!(ran.code, 1, "{name} {args:?}");
            assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
            assert!(
                ran.stderr.contains(name) && ran.stderr.contains(&format!("line {line}")),
                "{}",
                ran.stderr
            );
            assert!(ran.stderr.contains("llm-leash verify"), "{}", ran.stderr);
        }
    }
}

#[test]
fn a_log_that_cannot_be_read_is_neither_intact_nor_broken() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.jsonl");
    let missing = missing.to_str().unwrap();
    let is_folder = folder.path().to_str().unwrap();
    for command in ["verify", "replay", "export"] {
        for (path, why) in [(missing, "no such file"), (is_folder, "a folder")] {
            let ran = run(&[command, path]);
            assert_eq!((ran.code, ran.text()), (1, ""), "{command} {path}");
            assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
            assert!(
                ran.stderr.contains(path) && ran.stderr.contains(why),
                "{}",
                ran.stderr
            );
            assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        }
    }
}

/// The kernel refuses to read this file, whoever asks; it says that it is regular and empty.
#[cfg(target_os = "linux")]
#[test]
fn a_read_that_fails_is_not_an_empty_log() {
    for command in ["verify", "replay", "export"] {
        let ran = run(&[command, "/proc/self/mem"]);
        assert_eq!(ran.code, 1, "{command}: {ran:?}");
        assert!(ran.stderr.contains("/proc/self/mem"), "{}", ran.stderr);
    }
}

#[test]
fn a_wrong_command_line_is_never_taken_for_a_broken_log() {
    let path = log("mixed.jsonl");
    let wrong: [&[&str]; 10] = [
        &[],
        &["verify"],
        &["verify", "--jsno", &path],
        &["verify", &path, &path],
        &["export", &path, "--format", "xml"],
        &["completions", "tcsh"],
        &["verfy", &path],
        &["--json"],
        &["demo", "--concurrent", "0"],
        &["demo", "--concurrent", "many"],
    ];
    for args in wrong {
        let ran = run(args);
        assert_eq!((ran.code, ran.text()), (64, ""), "{args:?}");
        let helps = ran.stderr.contains("Usage: llm-leash") || ran.stderr.contains("try '--help'");
        assert!(helps, "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn help_and_version_are_answers() {
    let ran = run(&["--version"]);
    assert_eq!(
        (ran.code, ran.text()),
        (0, concat!("llm-leash ", env!("CARGO_PKG_VERSION"), "\n"))
    );
    for command in [
        "verify",
        "replay",
        "export",
        "soc2",
        "price",
        "demo",
        "completions",
        "man",
    ] {
        for ran in [run(&[command, "--help"]), run(&["help", command])] {
            assert_eq!((ran.code, &*ran.stderr), (0, ""), "{command}");
            assert!(
                ran.text().contains(&format!("\n  llm-leash {command} ")),
                "{command} shows no example"
            );
        }
    }
    assert!(run(&["--help"]).text().contains("Exit codes:"));
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let commands: [&[&str]; 4] = [
        &["replay", &log("mixed.jsonl")],
        &["export", &log("mixed.jsonl")],
        &["completions", "bash"],
        &["man"],
    ];
    for args in commands {
        let mut child = binary().args(args).spawn().unwrap();
        drop(child.stdout.take());
        let ran = finish(child);
        assert_eq!((ran.code, &*ran.stderr), (0, ""), "{args:?}");
    }
}

#[test]
fn a_verdict_is_kept_when_nobody_reads_it() {
    for (name, code) in [("mixed.jsonl", 0), ("bad-edited-cost.jsonl", 2)] {
        for json in [&[][..], &["--json"]] {
            let mut child = binary().arg("verify").args(json).arg(log(name)).spawn().unwrap();
            drop(child.stdout.take());
            drop(child.stderr.take());
            assert_eq!(finish(child).code, code, "{name}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_written_is_an_error() {
    let commands: [&[&str]; 5] = [
        &["verify", &log("mixed.jsonl")],
        &["replay", &log("mixed.jsonl")],
        &["export", &log("mixed.jsonl"), "--format", "csv"],
        &["completions", "bash"],
        &["man"],
    ];
    for args in commands {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let ran = finish(binary().args(args).stdout(full).spawn().unwrap());
        assert_eq!(ran.code, 1, "{args:?}");
        assert!(ran.stderr.contains("standard output"), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn nothing_is_drawn_where_no_terminal_is() {
    let ran = feed(&["verify", "-"], fs::read(data("mixed.jsonl")).unwrap());
    assert!(!ran.stderr.contains('\u{1b}'));
    let ran = finish(binary().args(["--help"]).env("NO_COLOR", "1").spawn().unwrap());
    assert!(!ran.text().contains('\u{1b}'));
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = run(&["completions", shell]);
        assert_eq!((ran.code, &*ran.stderr), (0, ""), "{shell}");
        for command in [
            "verify",
            "replay",
            "export",
            "soc2",
            "price",
            "demo",
            "completions",
            "man",
        ] {
            assert!(ran.text().contains(command), "{shell} does not know {command}");
        }
    }
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man/man1");
    let ran = run(&["man", "--out", out.to_str().unwrap()]);
    assert_eq!((ran.code, ran.text(), &*ran.stderr), (0, "", ""));
    for page in [
        "",
        "-verify",
        "-replay",
        "-export",
        "-soc2",
        "-price",
        "-demo",
        "-completions",
        "-man",
    ] {
        let text = fs::read_to_string(out.join(format!("llm-leash{page}.1"))).unwrap();
        assert!(text.contains(".TH"), "{page}");
    }
    assert!(run(&["man"]).text().contains(".TH llm-leash 1"));

    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let ran = run(&["man", "--out", file.to_str().unwrap()]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains(file.to_str().unwrap()), "{}", ran.stderr);
}

/// Runs the demo with its log at `path` and gives what it says to machines.
fn demo(path: &Path, args: &[&str]) -> Value {
    let ran = run(&[&["demo", "--json", "--audit-log", path.to_str().unwrap()], args].concat());
    assert_eq!((ran.code, &*ran.stderr), (0, ""), "{args:?}");
    let object: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(object["audit_log"], path.to_str().unwrap());
    object
}

fn number(object: &Value, name: &str) -> f64 {
    object[name].as_f64().expect(name)
}

fn events(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn of_kind<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["kind"] == kind).collect()
}

#[test]
fn the_demo_stops_its_agent_at_the_cap_and_logs_every_call() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.jsonl");
    let object = demo(&path, &[]);
    let (cap, spent) = (number(&object, "cap_usd"), number(&object, "spent_usd"));
    assert!((0.45..=cap).contains(&spent), "{object}");
    assert_eq!(object["cap_usd"], 0.5);
    assert_eq!(object["provider_billed_usd"], object["spent_usd"]);
    assert!(
        (20.0..=40.0).contains(&number(&object, "provider_calls")),
        "{object}"
    );
    assert_eq!(object["refused"], 2);
    assert_eq!(object["tool_calls_blocked"], 1);
    assert_eq!(object["stopped_by"], "budget:pre_call_estimate");
    assert!(number(&object, "without_cap_usd") > 5.0 * cap, "{object}");

    let ran = run(&["verify", path.to_str().unwrap()]);
    assert_eq!(
        (ran.code, ran.text()),
        (0, &*format!("OK: {} events verified\n", object["audit_events"]))
    );
    let events = events(&path);
    let calls = of_kind(&events, "model_call");
    assert_eq!(object["provider_calls"], calls.len());
    assert_eq!(calls.last().unwrap()["cumulative_usd"], object["spent_usd"]);
    let rules: Vec<_> = of_kind(&events, "refusal")
        .iter()
        .map(|event| event["rule_id"].as_str().unwrap().to_owned())
        .collect();
    assert!(rules.contains(&"denied_tools".to_owned()), "{rules:?}");
    assert!(
        rules.contains(&"budget:pre_call_estimate".to_owned()),
        "{rules:?}"
    );
}

#[test]
fn a_burst_stops_at_the_cap_where_check_then_charge_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.jsonl");
    let object = demo(&path, &["--concurrent", "64"]);
    let (cap, spent) = (number(&object, "cap_usd"), number(&object, "spent_usd"));
    assert!(spent > 0.0 && spent <= cap, "{object}");
    assert_eq!(object["provider_billed_usd"], object["spent_usd"]);
    let all = object["provider_calls"]
        .as_u64()
        .unwrap()
        .checked_add(object["refused"].as_u64().unwrap());
    assert_eq!(all, Some(64), "{object}");
    assert!(number(&object, "check_then_charge_usd") > 4.0 * cap, "{object}");
    assert_eq!(run(&["verify", path.to_str().unwrap()]).code, 0);

    // The second goes on where the first ended.
    let before = events(&path).len();
    let object = demo(&path, &["--concurrent", "1"]);
    assert_eq!(
        (&object["provider_calls"], &object["refused"]),
        (&1.into(), &0.into())
    );
    assert!(number(&object, "audit_events") > 0.0 && events(&path).len() > before);
    assert_eq!(run(&["verify", path.to_str().unwrap()]).code, 0);
}

#[test]
fn the_demo_is_plain_text_within_80_columns_where_no_terminal_is() {
    let folder = tempfile::tempdir().unwrap();
    for args in [&[][..], &["--concurrent", "64"]] {
        let ran = finish(
            binary()
                .arg("demo")
                .args(args)
                .env("TMPDIR", folder.path())
                .env("NO_COLOR", "1")
                .spawn()
                .unwrap(),
        );
        assert_eq!((ran.code, &*ran.stderr), (0, ""));
        assert!(!ran.text().contains('\u{1b}'));
        assert!(ran.text().contains("OK: ") && ran.text().contains("budget:pre_call_estimate"));
        // A path may be longer, and is not broken: it is there to be copied.
        let lines = ran
            .text()
            .lines()
            .filter(|line| !line.contains(".jsonl") && !line.contains(" demo"));
        for line in lines {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}

#[test]
fn the_demo_goes_on_with_no_log_that_is_broken_or_held() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.jsonl");
    fs::copy(data("bad-edited-cost.jsonl"), &path).unwrap();
    let before = fs::read(&path).unwrap();
    let text = path.to_str().unwrap();
    let ran = run(&["demo", "--audit-log", text]);
    assert_eq!((ran.code, ran.text()), (1, ""));
    assert!(
        ran.stderr.contains(text) && ran.stderr.contains("line 86") && ran.stderr.contains("--audit-log"),
        "{}",
        ran.stderr
    );
    assert!(fs::read(&path).unwrap() == before);

    let path = folder.path().join("held.jsonl");
    let held = leash_audit::AuditLog::open(&path).unwrap();
    let ran = run(&["demo", "--json", "--audit-log", path.to_str().unwrap()]);
    assert_eq!((ran.code, ran.text()), (1, ""));
    assert!(
        ran.stderr.contains("held by") && ran.stderr.contains("held.jsonl"),
        "{}",
        ran.stderr
    );
    held.close().unwrap();
}

/// Whether the interrupt or the end comes first, the log is whole and the sums are told.
#[cfg(target_os = "linux")]
#[test]
fn a_demo_that_is_interrupted_leaves_a_whole_log() {
    use std::io::{BufRead as _, BufReader, Read as _};

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.jsonl");
    let text = path.to_str().unwrap();
    let mut child = binary().args(["demo", "--audit-log", text]).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("claude-haiku") {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0, "no call was shown");
    }
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(finish(child).code, 0);
    assert!(
        rest.contains("on the leash") && rest.contains("events verified"),
        "{rest}"
    );
    assert_eq!(run(&["verify", text]).code, 0);
}

/// `demo | head`.
#[test]
fn a_demo_that_nobody_reads_to_its_end_leaves_a_whole_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.jsonl");
    let text = path.to_str().unwrap();
    let mut child = binary().args(["demo", "--audit-log", text]).spawn().unwrap();
    drop(child.stdout.take());
    let ran = finish(child);
    assert_eq!((ran.code, &*ran.stderr), (0, ""));
    assert_eq!(run(&["verify", text]).code, 0);
}
