//! The SQL rule over the cases in `tests/data/sql*.json`.

#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a test may fail loudly"
)]

use leash_core::{Action, Call, Caller, PolicyContext, Rule, SessionId, Timestamp, ToolCall};
use leash_policy::rule_from_options;
use serde_json::Value;

fn blocks(rule: &dyn Rule, tool: &str, args: Value) -> Option<String> {
    let caller = Caller::session(SessionId::new("s").unwrap());
    let call = Call::Tool(ToolCall::new(tool, args, caller));
    match rule.evaluate(&call, &PolicyContext::new(Timestamp::EPOCH)) {
        Ok(None) => None,
        Ok(Some(decision)) => {
            assert_eq!(decision.action, Action::Block);
            Some(decision.reason.into_owned())
        }
        Err(error) => Some(error.to_string()),
    }
}

fn misses(file: &str) -> Vec<String> {
    let cases: Vec<Value> = serde_json::from_str(file).unwrap();
    let mut misses = Vec::new();
    for case in &cases {
        let Some(expected) = case["should_block"].as_bool() else {
            continue;
        };
        let mut options = vec![
            ("mode", case["mode"].as_str().unwrap_or("read_only")),
            ("dialect", case["dialect"].as_str().unwrap_or("unknown")),
        ];
        let list = |name: &str| case[name].as_str();
        for name in [
            "extra_deny",
            "deny_tables",
            "allow_tables",
            "deny_functions",
            "require_where",
        ] {
            if let Some(value) = list(name) {
                options.push((name, value));
            }
        }
        let rule = rule_from_options("blocked_sql", &options).unwrap();
        let args = match &case["args"] {
            Value::Null => serde_json::json!({"sql": case["sql"]}),
            args => args.clone(),
        };
        let got = blocks(&*rule, case["tool"].as_str().unwrap_or("tool"), args);
        if got.is_some() != expected {
            misses.push(format!(
                "{} {} {}: {got:?}",
                case["id"],
                case["dialect"],
                case["args"]
                    .as_object()
                    .map_or_else(|| case["sql"].clone(), |args| Value::Object(args.clone()))
            ));
        }
    }
    misses
}

#[test]
fn the_given_cases_are_right() {
    let misses = misses(include_str!("../data/sql.json"));
    assert!(misses.is_empty(), "{}", misses.join("\n"));
}

#[test]
fn our_own_cases_are_right() {
    let misses = misses(include_str!("../data/sql_more.json"));
    assert!(
        misses.is_empty(),
        "{} misses\n{}",
        misses.len(),
        misses.join("\n")
    );
}

/// Inputs that a parser of recursive descent does not like, each with as many levels as it is asked for.
fn nasty(levels: usize) -> Vec<String> {
    let r = |text: &str| text.repeat(levels);
    vec![
        format!("SELECT {}1{}", r("("), r(")")),
        format!("SELECT * FROM {}t{}", r("("), r(")")),
        format!("SELECT * FROM {}", r("(")),
        format!("{}SELECT 1{}", r("("), r(")")),
        format!("SELECT 1{}", r("+1")),
        format!("SELECT 1{}", r(" OR 1=1")),
        format!("SELECT 1{}", r(" IS NULL")),
        format!("SELECT 1{}", r("::int")),
        format!("SELECT a{}", r("[1]")),
        format!("SELECT a{}", r(".a")),
        format!("SELECT a{}", r("->'a'")),
        format!("SELECT a{}", r(" COLLATE c")),
        format!("SELECT a{}", r(" AT TIME ZONE 'x'")),
        format!("SELECT {}1", r("- ")),
        format!("SELECT {}1", r("NOT ")),
        format!("SELECT {}1{}", r("f("), r(")")),
        format!("SELECT {}1{}", r("CASE WHEN 1 THEN "), r(" END")),
        format!("SELECT 1{}", r(" UNION SELECT 1")),
        format!("SELECT 1{}", r(" IN (1)")),
        format!("SELECT 1{}", r(" BETWEEN 1 AND 2")),
        format!("SELECT 1{}", r(", (1+1)")),
        format!("SELECT f(1,1){}", r("+f(1,1)")),
        format!("SELECT * FROM a{}", r(" JOIN b ON 1=1")),
        format!("SELECT * FROM a{}", r(" CROSS JOIN b")),
        format!("SELECT {}1", r("ARRAY[")),
        format!("SELECT {}", r("INTERVAL ")),
        format!("SELECT {}1{}", r("(SELECT "), r(")")),
        format!("{}SELECT 1", r("EXPLAIN ")),
        format!("{}DELETE FROM t", r("WITH a AS (")),
        r("SELECT 1;"),
        r(";"),
        r("BEGIN "),
        r("IF 1=1 "),
        r("/*"),
        r("/*!50000 "),
        r("'"),
        r("\""),
        r("$a$"),
        r("`"),
        r("[{("),
        r("{{ ref('x') }} "),
        r("%s"),
        format!("DROP TABLE {}", r("a,")),
        format!("SELECT * FROM {}t", r("((SELECT 1) UNION ")),
        format!("SELECT {}x: 1", r("{a: ")),
        format!("CREATE TABLE t (a {}int{})", r("ARRAY<"), r(">")),
        format!("SELECT CAST(1 AS {}int{})", r("STRUCT<a "), r(">")),
        format!("SELECT * FROM t{}", r(" PIVOT(sum(a) FOR b IN (1))")),
    ]
}

#[test]
fn no_statement_is_too_nasty_for_the_stack() {
    // A thread of a test has 2 MiB, as one of tokio has.
    let rules = ["unknown", "mssql"]
        .map(|dialect| rule_from_options("blocked_sql", &[("dialect", dialect)]).unwrap());
    for levels in [20, 39, 700] {
        for sql in nasty(levels) {
            for rule in &rules {
                let _ = blocks(&**rule, "t", serde_json::json!({ "sql": sql }));
                let _ = blocks(&**rule, "t", serde_json::json!({ "x": sql }));
            }
        }
    }
}

#[test]
fn what_cannot_be_judged_is_blocked() {
    let rule = rule_from_options("blocked_sql", &[("dialect", "postgres")]).unwrap();
    for sql in [
        format!("SELECT {}", "1,".repeat(20_000)),
        format!("SELECT '{}'", "x".repeat(70_000)),
        format!("SELECT {}1{}", "(".repeat(100), ")".repeat(100)),
        format!("SELECT 1{}", "+1".repeat(5_000)),
        "SELECT 'x".to_owned(),
    ] {
        assert!(blocks(&*rule, "t", serde_json::json!({ "sql": sql })).is_some());
    }
}

#[test]
fn a_long_statement_that_is_harmless_passes() {
    let rule = rule_from_options("blocked_sql", &[("dialect", "postgres")]).unwrap();
    let list: Vec<String> = (0..3_000).map(|id| id.to_string()).collect();
    for sql in [
        format!("SELECT * FROM t WHERE id IN ({})", list.join(", ")),
        format!("SELECT * FROM t WHERE {}", vec!["id = 1"; 300].join(" OR ")),
        vec!["SELECT 1"; 50].join(" UNION ALL "),
    ] {
        assert_eq!(blocks(&*rule, "t", serde_json::json!({ "sql": sql })), None);
    }
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    fn piece() -> impl Strategy<Value = String> {
        prop_oneof![
            prop::sample::select(vec![
                "SELECT",
                "FROM",
                "DELETE",
                "(",
                ")",
                "'",
                "\"",
                "`",
                ";",
                "--",
                "/*",
                "*/",
                "/*!",
                "$$",
                "$a$",
                "\\",
                "\n",
                " ",
                ",",
                "1",
                "a",
                "WITH",
                "AS",
                "UNION",
                "CASE",
                "WHEN",
                "END",
                "DROP TABLE",
                "#",
                "[",
                "]",
                "{{",
                "}}",
                "%s",
                "EXPLAIN",
                "E'",
                "é",
                "\u{0}",
                "=",
                "INTO",
                "PRAGMA",
                "TABLE",
                "OPTION",
                "SET",
                "@",
                "::",
                "BEGIN",
                "IF",
                "DO",
                "COPY",
                "SHOW",
            ])
            .prop_map(str::to_owned),
            "[ -~]{0,8}",
            "\\PC{0,4}",
        ]
    }

    proptest! {
        #[test]
        fn any_text_gets_an_answer(pieces in prop::collection::vec(piece(), 0..40)) {
            let text = pieces.concat();
            for dialect in ["unknown", "mysql"] {
                let rule = rule_from_options("blocked_sql", &[("dialect", dialect)]).unwrap();
                let _ = blocks(&*rule, "t", serde_json::json!({ "sql": &text, "x": [&text] }));
            }
        }

        #[test]
        fn white_space_comments_and_case_change_no_answer(seed in 0_usize..1_000_000, gap in "[ \t\n]{1,3}|/\\* x \\*/| -- x\n") {
            let statements: [&[&str]; 6] = [
                &["SELECT", "a", "FROM", "t"],
                &["DROP", "TABLE", "t"],
                &["DELETE", "FROM", "t", "WHERE", "a", "=", "1"],
                &["WITH", "x", "AS", "(", "DELETE", "FROM", "t", "RETURNING", "a", ")", "SELECT", "*", "FROM", "x"],
                &["SELECT", "1", ";", "TRUNCATE", "TABLE", "t"],
                &["SELECT", "*", "FROM", "t", "FOR", "UPDATE"],
            ];
            let words = statements[seed % statements.len()];
            let rule = rule_from_options("blocked_sql", &[("dialect", "postgres")]).unwrap();
            let plain = blocks(&*rule, "t", serde_json::json!({ "sql": words.join(" ") })).is_some();
            let mixed: Vec<String> = words
                .iter()
                .enumerate()
                .map(|(at, word)| if (seed >> (at % 16)) & 1 == 1 { word.to_lowercase() } else { (*word).to_owned() })
                .collect();
            let gapped = blocks(&*rule, "t", serde_json::json!({ "sql": mixed.join(&gap) })).is_some();
            prop_assert_eq!(plain, gapped);
            // Under a name that says nothing, and one level of JSON deeper.
            let inner = serde_json::json!({ "y": mixed.join(" ") }).to_string();
            prop_assert_eq!(plain, blocks(&*rule, "t", serde_json::json!({ "x": inner })).is_some());
        }
    }
}
