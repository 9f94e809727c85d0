//! `soc2`, and `verify` with keys.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{binary, data, finish, log, run};

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
        &["--hmac-key", &wrong, "--hmac-key", &right],
        &["--hmac-key", &right, "--hmac-key", &wrong],
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
    let again = format!("k1={wrong}");
    let ran = run(&["verify", &signed, "--hmac-key", &named, "--hmac-key", &again]);
    assert_eq!((ran.code, ran.text()), (64, ""));
    assert!(ran.stderr.contains("`k1`"), "{}", ran.stderr);
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
