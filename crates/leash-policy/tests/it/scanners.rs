//! Rules that ask another process, against a real one: a program that answers, hangs, dies and lies, and servers that
//! do the same.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::BufRead as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use leash_core::{
    Action, AsyncRule, Call, Caller, Decision, ModelCall, PolicyContext, RuleError, SessionId, Timestamp,
    ToolCall,
};
use leash_policy::{
    LlamaFirewallRule, Policy, PresidioRule, ScannerError, ScannerRule, ScannerTransport,
    scanner_from_options,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/scanner.py");
const LONG: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_millis(300);

fn caller() -> Caller {
    Caller::session(SessionId::new("s").unwrap())
}

fn call(args: Value) -> Call {
    Call::Tool(ToolCall::new("t", args, caller()))
}

async fn say(rule: &dyn AsyncRule, text: &str) -> Result<Option<Decision>, RuleError> {
    let context = PolicyContext::new(Timestamp::EPOCH);
    rule.evaluate(&call(json!({"x": text})), &context).await
}

async fn action(rule: &dyn AsyncRule, text: &str) -> Option<Action> {
    say(rule, text).await.unwrap().map(|decision| decision.action)
}

/// The program, with where it notes its starts.
fn transport(dir: &TempDir, gate: Option<&Path>) -> ScannerTransport {
    let starts = dir.path().join("starts").display().to_string();
    let gate = gate.map_or_else(|| "-".to_owned(), |gate| gate.display().to_string());
    ScannerTransport::command(["python3", SCRIPT, &starts, &gate]).unwrap()
}

fn starts(dir: &TempDir) -> usize {
    fs::read_to_string(dir.path().join("starts"))
        .unwrap()
        .lines()
        .count()
}

#[tokio::test]
async fn a_scanner_is_believed_where_it_keeps_to_the_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let rule = LlamaFirewallRule::new(transport(&dir, None)).timeout(LONG);
    assert_eq!(rule.id(), "llama_firewall");
    for (text, expected) in [
        ("hello", None),
        ("block", Some(Action::Block)),
        ("ask", Some(Action::Hitl)),
        ("warn", Some(Action::Warn)),
        ("unsure", None),
        ("äöü\u{2028}\n\"\\ \u{0}", None),
    ] {
        assert_eq!(action(&rule, text).await, expected, "{text}");
    }
    let decision = say(&rule, "block this").await.unwrap().unwrap();
    assert_eq!(
        (decision.rule_id.as_ref(), decision.reason.as_ref()),
        (
            "llama_firewall",
            "the scanner found `prompt_injection`, score 0.90"
        )
    );
    let decision = say(&rule, "which tool").await.unwrap().unwrap();
    assert_eq!(decision.reason, "the scanner found `tool_call:t`");
    assert_eq!(starts(&dir), 1);
    let strict = ScannerRule::new("mine", transport(&dir, None)).timeout(LONG);
    assert_eq!(action(&strict, "unsure").await, Some(Action::Block));
}

#[tokio::test]
async fn whatever_else_a_scanner_says_refuses_and_the_next_call_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let rule = ScannerRule::new("scanner", transport(&dir, None)).timeout(LONG);
    for lie in [
        "die",
        "mute",
        "other id",
        "no id",
        "number id",
        "word",
        "nan",
        "infinite",
        "much",
        "quote",
        "twins",
        "garbage",
        "empty",
        "bytes",
        "huge",
        "endless",
        "half",
    ] {
        let error = say(&rule, &format!("{lie} geheim")).await.unwrap_err();
        assert!(!error.to_string().contains("geheim"), "{lie}: {error}");
        assert_eq!(action(&rule, "block").await, Some(Action::Block), "{lie}");
    }
    let hasty = rule.clone().timeout(SHORT);
    assert!(say(&hasty, "hang").await.is_err());
    assert_eq!(action(&rule, "hello").await, None);
}

#[tokio::test]
async fn an_answer_too_many_is_not_that_to_the_next_question() {
    let dir = tempfile::tempdir().unwrap();
    let rule = ScannerRule::new("scanner", transport(&dir, None)).timeout(LONG);
    for _ in 0..8 {
        let _ = say(&rule, "chatty").await;
        if let Ok(decision) = say(&rule, "block").await {
            assert_eq!(decision.unwrap().action, Action::Block);
        }
    }
}

#[tokio::test]
async fn a_process_that_died_unasked_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let rule = ScannerRule::new("scanner", transport(&dir, None)).timeout(LONG);
    let mut before = String::new();
    for _ in 0..3 {
        let reason = say(&rule, "pid").await.unwrap().unwrap().reason.into_owned();
        assert_ne!(reason, before);
        let pid = reason.split("pid.").nth(1).unwrap().trim_end_matches('`');
        assert!(Command::new("kill").args(["-9", pid]).status().unwrap().success());
        before = reason;
    }
}

#[tokio::test]
async fn a_start_that_outlasts_a_call_serves_those_that_follow() {
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("gate");
    let rule = ScannerRule::new("scanner", transport(&dir, Some(&gate))).timeout(LONG);
    assert!(say(&rule.clone().timeout(SHORT), "hello").await.is_err());
    assert!(say(&rule.clone().timeout(SHORT), "hello").await.is_err());
    fs::write(&gate, "").unwrap();
    assert_eq!(action(&rule, "block").await, Some(Action::Block));
    assert_eq!(starts(&dir), 1);

    // One that is never ready is given up.
    let never = transport(&dir, Some(&dir.path().join("never"))).start_timeout(SHORT);
    assert!(
        say(&ScannerRule::new("scanner", never).timeout(LONG), "hello")
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_once_share_as_many_processes_as_are_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let rule = Arc::new(ScannerRule::new("scanner", transport(&dir, None).processes(2)).timeout(LONG));
    let calls: Vec<_> = (0..40)
        .map(|at| {
            let rule = Arc::clone(&rule);
            tokio::spawn(async move {
                let (text, expected) = if at % 2 == 0 {
                    ("block", Some(Action::Block))
                } else {
                    ("hello", None)
                };
                assert_eq!(action(&*rule, text).await, expected);
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    assert!((1..=2).contains(&starts(&dir)));
}

#[tokio::test]
async fn what_cannot_be_started_or_asked_refuses() {
    for command in [
        vec!["/nonexistent/scanner"],
        vec!["true"],
        vec!["echo", "hello"],
        vec!["cat", "/dev/zero"],
    ] {
        let rule = ScannerRule::new("scanner", ScannerTransport::command(command).unwrap()).timeout(LONG);
        assert!(say(&rule, "hello").await.is_err());
    }
    assert_eq!(
        ScannerTransport::command(Vec::<String>::new()).unwrap_err(),
        ScannerError::Command
    );
    for url in ["", "localhost:5002", "file:///etc/passwd", "http://"] {
        assert_eq!(PresidioRule::new(url).unwrap_err(), ScannerError::Url, "{url}");
    }
    // Nobody listens: the port was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let rule = PresidioRule::new(&format!("http://{free}"))
        .unwrap()
        .timeout(LONG);
    assert!(say(&rule, "hello").await.is_err());
    let long = "x".repeat(2 << 20);
    let error = say(&rule, &long).await.unwrap_err();
    assert_eq!(error.to_string(), "the call is too long for the scanner");
}

#[test]
fn a_debug_shows_that_a_setting_changed_and_not_what_it_is() {
    let shown = |command: &str, url: &str| {
        format!(
            "{:?} {:?}",
            ScannerRule::new("a", ScannerTransport::command(["python3", command]).unwrap()),
            PresidioRule::new(url).unwrap()
        )
    };
    let first = shown("--token=geheim", "http://host/geheim");
    assert!(!first.contains("geheim"));
    assert_eq!(first, shown("--token=geheim", "http://host/geheim"));
    assert_ne!(first, shown("--token=anders", "http://host/geheim"));
    assert_ne!(first, shown("--token=geheim", "http://host/anders"));
}

/// What a server was asked, by path.
type Asked = Arc<Mutex<Vec<Value>>>;

/// A server; what it answers depends on the first segment of the path.
async fn serve() -> (String, Asked) {
    let asked = Asked::default();
    let noted = Arc::clone(&asked);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().fallback(move |uri: Uri, body: Bytes| {
        let noted = Arc::clone(&noted);
        async move {
            let question: Value = serde_json::from_slice(&body).unwrap();
            noted.lock().unwrap().push(question.clone());
            answer(uri.path(), &question).await
        }
    });
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (format!("http://{address}"), asked)
}

fn finding(kind: &str, score: f64) -> Value {
    json!({"analysis_explanation": null, "end": 9, "entity_type": kind, "score": score, "start": 0,
        "recognition_metadata": {"recognizer_name": "R", "recognizer_identifier": "R_1"}})
}

async fn answer(path: &str, question: &Value) -> Response {
    let json =
        |value: Value| ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response();
    let id = question["id"].as_str().unwrap_or_default();
    match path.split('/').nth(1).unwrap() {
        "finds" => json(json!([
            finding("PHONE_NUMBER", 0.85),
            finding("CREDIT_CARD", 1.0),
            finding("PHONE_NUMBER", 0.9),
            finding("PERSON", 0.84),
        ])),
        "doubts" => json(json!([finding("PERSON", 0.84)])),
        "nothing" => json(json!([])),
        "fails" => (
            StatusCode::INTERNAL_SERVER_ERROR,
            r#"{"error":"No matching recognizers"}"#,
        )
            .into_response(),
        "accepted" => (StatusCode::ACCEPTED, "[]").into_response(),
        "moved" => (StatusCode::FOUND, [(header::LOCATION, "/nothing/analyze")], "").into_response(),
        "hangs" => std::future::pending().await,
        "garbage" => "<html>".into_response(),
        "object" => json(json!({"error": "no"})),
        "null" => json(Value::Null),
        "nan" => r#"[{"entity_type":"PERSON","score":NaN}]"#.into_response(),
        "text_score" => json(json!([{"entity_type": "PERSON", "score": "0.9"}])),
        "much" => json(json!([finding("PERSON", 7.5)])),
        "quotes" => json(json!([finding("geheim: 4111 1111", 1.0)])),
        "scoreless" => json(json!([{"entity_type": "PERSON"}])),
        "huge" => format!("[{}]", " ".repeat(3 << 20)).into_response(),
        "endless" => {
            let page = Bytes::from_static(&[b' '; 4096]);
            Body::from_stream(Endless(page)).into_response()
        }
        // Compressed, though nobody asked for that: the gzip of `[]`.
        "compressed" => (
            [(header::CONTENT_ENCODING, "gzip")],
            vec![
                31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 139, 142, 5, 0, 41, 187, 76, 13, 2, 0, 0, 0,
            ],
        )
            .into_response(),
        "scanner" => json(json!({"id": id, "decision": "BLOCK", "score": 0.7, "label": "jailbreak"})),
        "another" => json(json!({"id": "x", "decision": "ALLOW"})),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A body without an end.
struct Endless(Bytes);

impl futures_core::Stream for Endless {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(Some(Ok(self.0.clone())))
    }
}

fn presidio(base: &str, path: &str) -> PresidioRule {
    PresidioRule::new(&format!("{base}/{path}"))
        .unwrap()
        .timeout(LONG)
}

#[tokio::test]
async fn presidio_blocks_at_its_score_and_names_the_kinds() {
    let (base, asked) = serve().await;
    let decision = say(&presidio(&base, "finds"), "jane").await.unwrap().unwrap();
    assert_eq!(
        (
            decision.action,
            decision.rule_id.as_ref(),
            decision.reason.as_ref()
        ),
        (
            Action::Block,
            "presidio",
            "personal data: CREDIT_CARD, PHONE_NUMBER"
        )
    );
    assert_eq!(
        asked.lock().unwrap().pop().unwrap(),
        json!({"text": "x\njane", "language": "en", "score_threshold": 0.85})
    );
    assert_eq!(action(&presidio(&base, "doubts"), "jane").await, None);
    assert_eq!(action(&presidio(&base, "nothing/"), "jane").await, None);
    let lower = presidio(&base, "doubts").min_score(0.5).unwrap();
    assert_eq!(action(&lower, "jane").await, Some(Action::Block));
    assert!(presidio(&base, "doubts").min_score(f64::NAN).is_err());

    let rule = presidio(&base, "finds")
        .entities(["PERSON", "CREDIT_CARD"])
        .language("de")
        .with_id("pii");
    let model = ModelCall::new(
        "openai",
        "gpt-4o",
        json!([{"role": "user", "content": "ich bin Jane"}, {"n": 4_111_111_111_111_111_u64}]),
        16,
        caller(),
    );
    let context = PolicyContext::new(Timestamp::EPOCH);
    let decision = rule
        .evaluate(&Call::Model(model), &context)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(decision.rule_id, "pii");
    let question = asked.lock().unwrap().pop().unwrap();
    assert_eq!(question["entities"], json!(["CREDIT_CARD", "PERSON"]));
    assert_eq!(question["language"], "de");
    let text = question["text"].as_str().unwrap();
    assert!(
        text.contains("ich bin Jane\n") && text.ends_with("\n4111111111111111"),
        "{text}"
    );

    // There is nothing to ask about.
    asked.lock().unwrap().clear();
    let empty = rule.evaluate(&call(json!({})), &context).await.unwrap();
    assert!(empty.is_none() && asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_server_that_fails_hangs_or_lies_refuses() {
    let (base, _) = serve().await;
    for path in [
        "fails",
        "accepted",
        "moved",
        "garbage",
        "object",
        "null",
        "nan",
        "text_score",
        "much",
        "quotes",
        "scoreless",
        "huge",
        "endless",
        "compressed",
        "unknown",
    ] {
        let error = say(&presidio(&base, path), "hello").await.unwrap_err();
        assert!(!error.to_string().contains("geheim"), "{path}: {error}");
    }
    let hasty = presidio(&base, "hangs").timeout(SHORT);
    let error = say(&hasty, "hello").await.unwrap_err();
    assert_eq!(error.to_string(), "the scanner did not answer in time");

    for path in ["fails", "another", "nothing", "garbage", "compressed"] {
        let http = ScannerTransport::http(&format!("{base}/{path}")).unwrap();
        let rule = ScannerRule::new("scanner", http).timeout(LONG);
        assert!(say(&rule, "hello").await.is_err(), "{path}");
    }
    let http = ScannerTransport::http(&format!("{base}/scanner")).unwrap();
    let rule = LlamaFirewallRule::new(http).timeout(LONG);
    assert_eq!(action(&rule, "hello").await, Some(Action::Block));
    assert_eq!(action(&rule.min_score(0.8).unwrap(), "hello").await, None);
}

#[tokio::test]
async fn a_policy_file_asks_scanners_after_its_other_rules() {
    let (base, asked) = serve().await;
    let policy = Policy::parse(&format!(
        r#"
        [[rules]]
        rule = "presidio"
        url = "{base}/finds"
        entities = ["CREDIT_CARD"]
        timeout_ms = 60000
        tools = ["t"]

        [[rules]]
        rule = "scanner"
        id = "broken"
        url = "{base}/fails"
        shadow = true

        [[rules]]
        rule = "denied_tools"
        names = ["shell"]
        "#
    ))
    .unwrap();
    assert_eq!((policy.rules().len(), policy.async_rules().len()), (1, 2));
    let engine = policy.engine();
    let context = PolicyContext::new(Timestamp::EPOCH);
    let shell = Call::Tool(ToolCall::new("shell", json!({"x": 1}), caller()));
    let said = engine.evaluate(&shell, &context).await;
    assert_eq!(said.decision.rule_id, "denied_tools");
    assert!(asked.lock().unwrap().is_empty());
    let said = engine.evaluate(&call(json!({"x": 1})), &context).await;
    assert_eq!(said.decision.rule_id, "presidio");
    // One in the shadow only warns, even where it fails.
    let other = Call::Tool(ToolCall::new("other", json!({"x": 1}), caller()));
    let said = engine.evaluate(&other, &context).await;
    assert_eq!(said.decision.action, Action::Allow);
    assert_eq!(said.noted[0].rule_id, "broken");
    assert_eq!(said.noted[0].shadow, Some(Action::Block));
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let url = ("url", "http://127.0.0.1:1");
    for (rule, options) in [
        ("presidio", vec![]),
        ("presidio", vec![("url", "x")]),
        ("presidio", vec![url, ("score", "2")]),
        ("presidio", vec![url, ("score", "nan")]),
        ("presidio", vec![url, ("timeout_ms", "0")]),
        ("presidio", vec![url, ("command", "x")]),
        ("scanner", vec![]),
        ("scanner", vec![url, ("command", "x")]),
        ("scanner", vec![url, ("processes", "2")]),
        ("scanner", vec![("command", "x"), ("processes", "65")]),
        ("llama_firewall", vec![("command", "")]),
    ] {
        assert!(
            scanner_from_options(rule, &options).is_err(),
            "{rule} {options:?}"
        );
    }
    assert!(scanner_from_options("llama_firewall", &[("command", "python3"), ("command", "b.py")]).is_ok());
}

/// A child that does not outlive the test.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs where `LEASH_TEST_PRESIDIO` names a Python that has Presidio, as `cargo xtask ci --only presidio` does.
#[tokio::test]
async fn presidio_itself_is_understood() {
    let Ok(python) = std::env::var("LEASH_TEST_PRESIDIO") else {
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/presidio_server.py");
    let child = Command::new(python)
        .arg(script)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut server = Server(child);
    let mut port = String::new();
    std::io::BufReader::new(server.0.stdout.take().unwrap())
        .read_line(&mut port)
        .unwrap();
    let base = format!("http://127.0.0.1:{}", port.trim());
    let rule = PresidioRule::new(&base).unwrap().timeout(LONG);

    assert_eq!(action(&rule, "the build took 12 minutes").await, None);
    let text = "pay with 4111 1111 1111 1111, or ask jane@example.org, 192.0.2.7";
    let decision = say(&rule, text).await.unwrap().unwrap();
    assert_eq!(decision.reason, "personal data: CREDIT_CARD, EMAIL_ADDRESS");
    let cards = rule.clone().entities(["CREDIT_CARD"]);
    let decision = say(&cards, text).await.unwrap().unwrap();
    assert_eq!(decision.reason, "personal data: CREDIT_CARD");
    let lower = rule.clone().min_score(0.5).unwrap();
    let decision = say(&lower, text).await.unwrap().unwrap();
    assert!(decision.reason.contains("IP_ADDRESS"), "{}", decision.reason);
    // A language that it does not speak is an error of the server's.
    assert!(say(&rule.clone().language("xx"), text).await.is_err());
    assert!(say(&rule, &"word ".repeat(20_000)).await.unwrap().is_none());
}
