//! The real binary over real logs: what it writes, where, and with which exit code it ends.
//!
//! The logs and what they must come out as lie with the crate that owns the format.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

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
    let wrong: [&[&str]; 8] = [
        &[],
        &["verify"],
        &["verify", "--jsno", &path],
        &["verify", &path, &path],
        &["export", &path, "--format", "xml"],
        &["completions", "tcsh"],
        &["verfy", &path],
        &["--json"],
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
    for command in ["verify", "replay", "export", "soc2", "completions", "man"] {
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
        for command in ["verify", "replay", "export", "soc2", "completions", "man"] {
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

/// A run of `soc2` over the second quarter of 2026, into `out`.
fn soc2(log: &str, out: &Path, more: &[&str]) -> Command {
    let mut command = binary();
    command
        .args(["soc2", log, "--out", out.to_str().unwrap()])
        .args([
            "--period-start",
            "2026-04-01T00:00:00Z",
            "--period-end",
            "2026-06-30T23:59:59Z",
        ])
        .args(more)
        .env("SOURCE_DATE_EPOCH", "1795340050");
    command
}

fn pack(out: &Path) -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(out)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let text = fs::read_to_string(entry.path()).unwrap();
            (entry.file_name().into_string().unwrap(), text)
        })
        .collect();
    files.sort();
    files
}

#[test]
fn soc2_writes_the_pack_and_where_its_page_is() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a/pack");
    let ran = finish(
        soc2(&log("anomalies.jsonl"), &out, &["--org", "Acme <Inc> & Co"])
            .spawn()
            .unwrap(),
    );
    let page = out.join("executive-summary.html");
    assert_eq!(
        (ran.code, ran.text()),
        (0, &*format!("{}\n", page.display())),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("194 events") && ran.stderr.contains("VERIFIED"),
        "{}",
        ran.stderr
    );
    let names: Vec<_> = pack(&out).into_iter().map(|(name, _)| name).collect();
    let six = [
        "anomalies.csv",
        "bom.json",
        "cc6_access_control.csv",
        "cc7_integrity.json",
        "cc7_monitoring.csv",
        "executive-summary.html",
    ];
    assert_eq!(names, six);
    for csv in ["anomalies.csv", "cc6_access_control.csv", "cc7_monitoring.csv"] {
        let golden = fs::read_to_string(data("anomalies.soc2").join(csv)).unwrap();
        assert_eq!(fs::read_to_string(out.join(csv)).unwrap(), golden, "{csv}");
    }
    let bom: Value = serde_json::from_slice(&fs::read(out.join("bom.json")).unwrap()).unwrap();
    assert_eq!(bom["generated_at"], "2026-11-22T09:34:10Z");
    assert!(
        fs::read_to_string(page)
            .unwrap()
            .contains("Acme &lt;Inc&gt; &amp; Co")
    );
}

#[test]
fn soc2_at_the_same_moment_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    for out in [&a, &b, &b] {
        assert_eq!(
            finish(soc2(&log("mixed.jsonl"), out, &[]).spawn().unwrap()).code,
            0
        );
    }
    assert_eq!(pack(&a), pack(&b));

    let ran = finish(
        soc2(&log("mixed.jsonl"), &a, &[])
            .env("SOURCE_DATE_EPOCH", "then")
            .spawn()
            .unwrap(),
    );
    assert_eq!((ran.code, ran.text()), (1, ""));
    assert!(ran.stderr.contains("SOURCE_DATE_EPOCH"), "{}", ran.stderr);
    let ran = finish(
        soc2(&log("mixed.jsonl"), &a, &[])
            .env_remove("SOURCE_DATE_EPOCH")
            .spawn()
            .unwrap(),
    );
    assert_eq!(ran.code, 0);
    assert_ne!(pack(&a), pack(&b));
}

#[test]
fn soc2_of_a_broken_log_is_made_and_ends_with_2() {
    for name in ["bad-edited-cost.jsonl", "garbage-line.jsonl", "torn-tail.jsonl"] {
        let folder = tempfile::tempdir().unwrap();
        let ran = finish(soc2(&log(name), folder.path(), &[]).spawn().unwrap());
        assert_eq!(ran.code, 2, "{name}");
        assert!(
            ran.stderr.contains("BROKEN") && !ran.stderr.contains("VERIFIED"),
            "{}",
            ran.stderr
        );
        assert!(ran.text().ends_with("executive-summary.html\n"));
        let files = pack(folder.path());
        assert_eq!(files.len(), 6, "{name}");
        let (_, page) = files.last().unwrap();
        assert!(page.contains("BROKEN") && !page.contains("VERIFIED"), "{name}");
    }
}

#[test]
fn soc2_tells_machines_in_json_and_reads_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = soc2(
        "-",
        folder.path(),
        &[
            "--json",
            "--kill-spike",
            "5",
            "--tool-spam",
            "150",
            "--spend-percentile",
            "50",
        ],
    );
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(&fs::read(data("anomalies.jsonl")).unwrap())
        .unwrap();
    drop(pipe);
    let ran = finish(child);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(told["verdict"], "intact");
    assert_eq!(told["summary"]["events"], 194);
    assert_eq!(told["summary"]["anomalies"], 20);
    assert_eq!(told["summary"]["spend_usd"], "780.00");
    assert_eq!(
        told["summary"]["by_kind"],
        serde_json::json!({"kill": 4, "model_call": 40, "tool_call": 150})
    );
    assert_eq!(told["files"].as_array().unwrap().len(), 6);
    assert!(fs::exists(told["page"].as_str().unwrap()).unwrap());
}

#[test]
fn soc2_reads_costs_as_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for (costs, total) in [("per-call", "987654363.79"), ("auto", "987654363.79")] {
        let ran = finish(
            soc2(&log("mixed.jsonl"), folder.path(), &["--costs", costs])
                .spawn()
                .unwrap(),
        );
        assert_eq!(ran.code, 0);
        let page = fs::read_to_string(folder.path().join("executive-summary.html")).unwrap();
        assert!(page.contains(&format!("${total}")), "{costs}");
    }
    let ran = finish(
        soc2(&log("mixed.jsonl"), folder.path(), &["--costs", "running-total"])
            .spawn()
            .unwrap(),
    );
    assert_eq!(ran.code, 0);
    let page = fs::read_to_string(folder.path().join("executive-summary.html")).unwrap();
    assert!(page.contains("running total") && !page.contains("$987654363.79"));
}

#[test]
fn soc2_says_what_it_cannot_do() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.jsonl");
    let out = folder.path().join("pack");
    let ran = finish(soc2(missing.to_str().unwrap(), &out, &[]).spawn().unwrap());
    assert_eq!((ran.code, ran.text()), (1, ""));
    assert!(
        ran.stderr.contains("none.jsonl") && ran.stderr.contains("no such file"),
        "{}",
        ran.stderr
    );
    assert!(!out.exists());

    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let ran = finish(soc2(&log("mixed.jsonl"), &file, &[]).spawn().unwrap());
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains(file.to_str().unwrap()), "{}", ran.stderr);

    for (start, end, why) in [
        ("April", "2026-06-30", "`April` is no moment"),
        ("2026-06-30", "2026-04-01", "before it starts"),
    ] {
        let ran = run(&[
            "soc2",
            &log("mixed.jsonl"),
            "--out",
            out.to_str().unwrap(),
            "--period-start",
            start,
            "--period-end",
            end,
        ]);
        assert_eq!(ran.code, 1);
        assert!(ran.stderr.contains(why), "{}", ran.stderr);
    }
    for wrong in [
        &["--costs", "free"][..],
        &["--spend-percentile", "101"],
        &["--nonsense"],
    ] {
        assert_eq!(
            finish(soc2(&log("mixed.jsonl"), &out, wrong).spawn().unwrap()).code,
            64,
            "{wrong:?}"
        );
    }
    assert_eq!(run(&["soc2", &log("mixed.jsonl")]).code, 64);
    assert!(!out.exists());
}

/// A log of one line, signed with `secret` under the id `k1`.
fn signed_log(folder: &Path, secret: &[u8]) -> String {
    use leash_audit::{AuditLog, Event, HmacKey, Kill, Kind, Who};
    let path = folder.join("signed.jsonl");
    let key = HmacKey::new("k1", secret).unwrap();
    let signed = AuditLog::builder(&path).hmac(key).open().unwrap();
    let kill = Kind::Kill(Kill {
        reason: "runaway",
        scope: None,
    });
    let _ = signed.append(&Event::new(Who::session("s_1"), kill)).unwrap();
    signed.close().unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn verify_asks_for_signatures_where_keys_are_given() {
    let folder = tempfile::tempdir().unwrap();
    let signed = signed_log(folder.path(), b"a secret\nof two lines");
    let key = |name: &str, secret: &str| {
        let path = folder.path().join(name);
        fs::write(&path, secret).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let right = key("right", "a secret\nof two lines\n");
    let right_crlf = key("crlf", "a secret\nof two lines\r\n");
    let wrong = key("wrong", "hunter2");
    let named = format!("k1={right}");
    let other_id = format!("k2={right}");
    let rotated = format!("k2={wrong}");
    let ok = "OK: 1 events verified\n";
    assert_eq!(run(&["verify", &signed]).text(), ok);
    for keys in [
        &["--hmac-key", &right][..],
        &["--hmac-key", &right_crlf],
        &["--hmac-key", &named],
        &["--hmac-key", &rotated, "--hmac-key", &named],
        &["--hmac-key", &rotated, "--hmac-key", &right],
    ] {
        let ran = run(&[&["verify", &signed][..], keys].concat());
        assert_eq!((ran.code, ran.text(), &*ran.stderr), (0, ok, ""), "{keys:?}");
    }
    for (keys, why) in [
        (&["--hmac-key", &wrong][..], "does not fit"),
        (
            &["--hmac-key", &other_id],
            "unknown key: no key with the id `k1` was given",
        ),
    ] {
        let ran = run(&[&["verify", &signed][..], keys].concat());
        assert_eq!((ran.code, ran.text()), (2, ""), "{keys:?}");
        assert!(
            ran.stderr.starts_with("BROKEN: line 1 (seq 0): ") && ran.stderr.contains(why),
            "{}",
            ran.stderr
        );
        assert!(!ran.stderr.contains("hunter2") && !ran.stderr.contains("a secret"));
    }
    let ran = run(&["verify", &log("mixed.jsonl"), "--hmac-key", &right]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("there is no `hmac`"), "{}", ran.stderr);

    let with_env = |name: &str| {
        let mut command = binary();
        command.args(["verify", &signed, "--hmac-key-env", name]);
        command
            .env("LEASH_TEST_KEY", "a secret\nof two lines")
            .env("LEASH_TEST_WRONG", "hunter2")
            .env("LEASH_TEST_EMPTY", "");
        finish(command.spawn().unwrap())
    };
    assert_eq!(with_env("LEASH_TEST_KEY").code, 0);
    assert_eq!(with_env("k1=LEASH_TEST_KEY").code, 0);
    assert_eq!(with_env("LEASH_TEST_WRONG").code, 2);
    for name in ["LEASH_TEST_UNSET", "LEASH_TEST_EMPTY"] {
        let ran = with_env(name);
        assert_eq!((ran.code, ran.text()), (1, ""));
        assert!(ran.stderr.contains(name), "{}", ran.stderr);
    }
    for (path, why) in [
        ("/no/such/key", "failed to read the key"),
        (&*key("empty", "\n"), "empty"),
    ] {
        let ran = run(&["verify", &signed, "--hmac-key", path]);
        assert_eq!((ran.code, ran.text()), (1, ""));
        assert!(
            ran.stderr.contains(path) && ran.stderr.contains(why),
            "{}",
            ran.stderr
        );
    }

    let out = folder.path().join("pack");
    for (key, code) in [(&right, 0), (&wrong, 2)] {
        assert_eq!(
            finish(soc2(&signed, &out, &["--hmac-key", key]).spawn().unwrap()).code,
            code
        );
    }
}
