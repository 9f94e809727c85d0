//! `policy` and `redact`.

use serde_json::Value;

use super::{feed, run};

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
