//! `policy` and `redact`.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;

use super::{binary, feed, finish, run};

#[test]
fn a_policy_is_tested_by_its_cases_and_a_miss_fails() {
    let cases = "{\"id\":\"a\",\"args\":{\"sql\":\"DROP TABLE t\"},\"expect\":\"block\"}\n\
                 \n\
                 {\"id\":\"b\",\"tool\":\"db\",\"args\":{\"sql\":\"SELECT 1\"},\"expect\":\"allow\"}\n\
                 {\"args\":[\"x\"]}\n";
    let rule = [
        "policy",
        "test",
        "--rule",
        "blocked_sql",
        "--option",
        "dialect=postgres",
    ];
    let table = feed(&[&rule[..], &["-"]].concat(), cases.into());
    assert_eq!(table.code, 0, "{}", table.stderr);
    assert_eq!(table.text().lines().count(), 4);

    let lines = feed(&[&rule[..], &["--json", "-"]].concat(), cases.into());
    let answers: Vec<Value> = lines
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers[0]["id"], "a");
    assert_eq!(answers[0]["action"], "block");
    assert_eq!(answers[0]["rule_id"], "blocked_sql");
    assert_eq!(answers[1]["action"], "allow");
    assert_eq!(answers[1]["rule_id"], "engine:default");
    assert_eq!(answers[2]["id"], 4);

    let missed = cases.replace("\"allow\"", "\"block\"");
    assert_eq!(feed(&[&rule[..], &["-"]].concat(), missed.into()).code, 1);
}

#[test]
fn a_policy_that_cannot_be_used_says_where() {
    let good = "[[rules]]\nrule = \"denied_tools\"\nnames = [\"shell\"]\n";
    let ran = feed(&["policy", "check", "-"], good.into());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let ran = feed(&["policy", "check", "-"], good.replace("names", "nmaes").into());
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("rule 1"), "{}", ran.stderr);
    let ran = feed(
        &["policy", "explain", "-", "--tool", "shell", "--args", "{}"],
        good.into(),
    );
    assert!(
        ran.text().contains("=> block by `denied_tools`"),
        "{}",
        ran.text()
    );
    assert_eq!(run(&["policy", "test", "a", "b", "c"]).code, 64);
    assert_eq!(
        run(&["policy", "test", "--rule", "blocked_sql", "a", "b"]).code,
        64
    );
    assert_eq!(run(&["policy", "test", "--rule", "no_such_rule", "a"]).code, 1);
}

#[test]
fn without_a_policy_the_rules_on_what_harms_are_asked() {
    let explain = |args: &str| run(&["policy", "explain", "--tool", "bash", "--args", args]);
    let blocked = explain(r#"{"command":"rm -rf /"}"#);
    assert_eq!(blocked.code, 0, "{}", blocked.stderr);
    assert!(blocked.text().contains("=> block by `blocked_shell`"));
    assert!(blocked.stderr.contains("no policy is named"));
    assert!(explain(r#"{"command":"ls -l"}"#).text().contains("=> allow"));

    let cases = "{\"id\":1,\"args\":{\"sql\":\"DROP TABLE t\"},\"expect\":\"block\"}\n";
    assert_eq!(feed(&["policy", "test", "-"], cases.into()).code, 0);
}

#[test]
fn answers_in_json_are_byte_for_byte_as_documented() {
    let cases = "{\"id\":\"a\",\"args\":{\"sql\":\"SELECT 1\"}}\n{\"args\":{\"path\":\"a\"}}";
    let ran = feed(
        &["policy", "test", "--rule", "blocked_sql", "--json", "-"],
        cases.into(),
    );
    assert_eq!(
        ran.text(),
        "{\"id\":\"a\",\"action\":\"allow\",\"rule_id\":\"engine:default\",\"reason\":\"no rule matched\"}\n\
         {\"id\":2,\"action\":\"allow\",\"rule_id\":\"engine:default\",\"reason\":\"no rule matched\"}\n"
    );
    assert!(ran.stderr.contains("nothing was tested"), "{}", ran.stderr);
    let ran = feed(&["redact", "--scan", "--json", "-"], "to jane@example.org".into());
    assert_eq!(ran.text(), "[{\"kind\":\"EMAIL\",\"start\":3,\"end\":19}]\n");
    assert_eq!(
        feed(&["redact", "--scan", "--json"], "nothing".into()).text(),
        "[]\n"
    );
    let policy = "[[rules]]\nrule = \"denied_tools\"\nnames = [\"a\"]\nshadow = true\n\
                  [[rules]]\nrule = \"blocked_urls\"\n[[redactors]]\nredactor = \"pii\"\n";
    let ran = feed(&["policy", "check", "--json", "-"], policy.into());
    assert!(
        ran.text()
            .starts_with("{\"rules\":2,\"redactors\":1,\"version\":\""),
        "{}",
        ran.text()
    );
    let explain = |args: &str| {
        feed(
            &["policy", "explain", "-", "--json", "--tool", "a", "--args", args],
            policy.into(),
        )
    };
    assert_eq!(
        explain(r#"{"mail": "jane@example.org"}"#).text(),
        "{\"action\":\"warn\",\"rule_id\":\"denied_tools\",\"reason\":\"shadow: would block: the tool is on the list of denied tools\"}\n\
         {\"action\":\"abstain\",\"rule_id\":\"blocked_urls\",\"reason\":\"\"}\n\
         {\"action\":\"redact\",\"rule_id\":\"(redactors)\",\"reason\":\"what leaves is not all that was asked for; the rules are asked about it again\"}\n\
         {\"outcome\":{\"action\":\"warn\",\"rule_id\":\"denied_tools\",\"reason\":\"shadow: would block: the tool is on the list of denied tools\"}}\n"
    );
    assert!(
        explain(r#"{"u": "http://127.0.0.1/"}"#)
            .text()
            .contains("{\"outcome\":{\"action\":\"block\",\"rule_id\":\"blocked_urls\"")
    );
}

#[test]
fn arguments_that_no_firewall_takes_are_blocked_under_their_id() {
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let cases = format!(
        "{{\"id\":\"deep\",\"args\":{deep},\"expect\":\"block\"}}\n\
         {{\"id\":\"twice\",\"args\":{{\"sql\":\"SELECT 1\",\"sql\":\"DROP TABLE t\"}},\"expect\":\"block\"}}\n\
         {{\"id\":\"far\",\"args\":{{\"n\":1e999}},\"expect\":\"block\"}}\n"
    );
    let ran = feed(
        &["policy", "test", "--rule", "blocked_sql", "--json", "-"],
        cases.into(),
    );
    assert_eq!(ran.code, 0, "{}", ran.text());
    for (line, id) in ran.text().lines().zip(["deep", "twice", "far"]) {
        let answer: Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (answer["id"].as_str(), answer["action"].as_str()),
            (Some(id), Some("block"))
        );
    }
    let ran = run(&["policy", "explain", "--tool", "t", "--args", "{\"a\": geheim}"]);
    assert_eq!(ran.code, 1);
    assert!(!ran.stderr.contains("geheim"), "{}", ran.stderr);
}

#[test]
fn files_of_any_editor_and_any_length_of_line_are_read_to_their_end() {
    let long = format!(
        "{{\"id\":\"long\",\"args\":{{\"x\":\"{}\"}}}}",
        "x".repeat(17 << 20)
    );
    let cases = format!(
        "\u{feff}{{\"id\":1,\"args\":{{\"sql\":\"DROP TABLE t\"}},\"expect\":\"block\"}}\r\n\r\n{long}\n\
         {{\"id\":3,\"args\":{{\"sql\":\"DROP TABLE t\"}},\"expect\":\"block\"}}"
    );
    let ran = feed(
        &["policy", "test", "--rule", "blocked_sql", "--json", "-"],
        cases.into(),
    );
    let answers: Vec<Value> = ran
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let said: Vec<_> = answers
        .iter()
        .map(|answer| (answer["id"].as_u64(), answer["action"].as_str()))
        .collect();
    assert_eq!(
        said,
        [
            (Some(1), Some("block")),
            (Some(3), Some("error")),
            (Some(3), Some("block"))
        ]
    );
    assert_eq!(ran.code, 1);
    // A file that is there and cannot be read is told by its name, and so is one that is not.
    for (args, told) in [
        (
            &["policy", "check", "/nonexistent/p.toml"][..],
            "`/nonexistent/p.toml`",
        ),
        (
            &["policy", "test", "/nonexistent/c.jsonl"][..],
            "`/nonexistent/c.jsonl`",
        ),
        (&["policy", "check", "/"][..], "`/`"),
        (&["policy", "test", "/"][..], "`/`"),
        (&["redact", "/nonexistent/t"][..], "`/nonexistent/t`"),
    ] {
        let ran = run(args);
        assert_eq!(
            (ran.code, ran.text()),
            (1, if args[1] == "test" { ran.text() } else { "" })
        );
        assert!(ran.stderr.contains(told), "{}", ran.stderr);
    }
    assert_eq!(run(&["policy", "test", "-", "-"]).code, 64);
    assert_eq!(
        run(&["policy", "explain", "-", "--tool", "t", "--args", "-"]).code,
        64
    );
}

#[test]
fn a_policy_is_refused_with_its_file_line_and_key() {
    let check = |bytes: &[u8]| feed(&["policy", "check", "-"], bytes.to_vec());
    for (policy, told) in [
        (&b""[..], "`standard input`: line 1: there is no rule"),
        (b"[[rules]]\n\xff", "`standard input`: line 2: not UTF-8"),
        (
            b"[[rules]]\nrule = \"blocked_sql\"\n\nmod = 1\n",
            "line 4: rule 1: `blocked_sql` has no option `mod` (did you mean `mode`?)",
        ),
        (b"[[rules]\n", "`standard input`: line 1: "),
    ] {
        let ran = check(policy);
        assert_eq!((ran.code, ran.text()), (1, ""));
        assert!(ran.stderr.contains(told), "{}", ran.stderr);
    }
    let ran = check(&vec![b'#'; 2 << 20]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("longer than 1 MiB"), "{}", ran.stderr);
    assert_eq!(check(b"rules = []").code, 0);
}

#[test]
fn what_is_redacted_with_secrets_is_redacted_for_good() {
    let text = "key AKIAQZ7XKPLM2NV4RT6S of jane@example.org, password=hunter2hunter2@example.org +44 20 7946 0958\n";
    let once = feed(&["redact", "--secrets", "-"], text.into());
    let twice = feed(&["redact", "--secrets", "-"], once.stdout.clone());
    assert_eq!(once.text(), twice.text());
    assert!(!once.text().contains("jane"), "{}", once.text());
    assert_eq!(feed(&["redact"], b"\xff\xfe".to_vec()).code, 1);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let cases = "{\"args\":{\"sql\":\"SELECT 1\"}}\n".repeat(20_000);
    let mut child = binary()
        .args(["policy", "test", "--rule", "blocked_sql", "--json", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut pipe = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        let _ = pipe.write_all(cases.as_bytes());
    });
    let ran = finish(child);
    writer.join().unwrap();
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}

#[test]
fn a_line_that_cannot_be_read_fails_the_test_and_stops_none_of_the_others() {
    let cases = "{\"id\":\"a\",\"args\":{\"sql\":\"DROP TABLE t\"},\"expect\":\"block\"}\n\
                 {\"id\":\"b\",\"args\":\n\
                 \n\
                 {\"id\":\"c\",\"expect\":\"block\"}\n\
                 [1]\n\
                 {\"id\":\"d\",\"args\":{},\"expect\":\"perhaps\"}\n\
                 {\"id\":\"e\",\"args\":{\"sql\":\"SELECT 1\"},\"expect\":\"allow\"}\n";
    let rule = ["policy", "test", "--rule", "blocked_sql"];
    let mut bytes = b"\xef\xbb\xbf".to_vec();
    bytes.extend_from_slice(cases.as_bytes());
    bytes.extend_from_slice(b"\xff\r\n\r\n");
    let ran = feed(&[&rule[..], &["--json", "-"]].concat(), bytes);
    assert_eq!(ran.code, 1);
    let answers: Vec<Value> = ran
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let said: Vec<(String, &str)> = answers
        .iter()
        .map(|answer| (answer["id"].to_string(), answer["action"].as_str().unwrap()))
        .collect();
    let expected = [
        ("\"a\"", "block"),
        ("2", "error"),
        ("\"c\"", "error"),
        ("5", "error"),
        ("\"d\"", "error"),
        ("\"e\"", "allow"),
        ("8", "error"),
    ];
    assert_eq!(said, expected.map(|(id, action)| (id.to_owned(), action)));
    for (answer, place) in [
        (1, "line 2: "),
        (2, "line 4: `args`"),
        (3, "line 5: "),
        (4, "line 6: `expect`"),
    ] {
        let reason = answers[answer]["reason"].as_str().unwrap();
        assert!(reason.starts_with(place), "{reason}");
    }
    assert!(ran.stderr.contains("2 right, 0 wrong") && ran.stderr.contains("5 that cannot be read"));

    let table = feed(&[&rule[..], &["-"]].concat(), cases.into());
    assert_eq!((table.code, table.text().lines().count()), (1, 7));
}
