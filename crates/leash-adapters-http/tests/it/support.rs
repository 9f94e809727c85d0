//! A firewall with a log, a guarded client, and a fake provider.

use std::time::Duration;

use leash_adapters_http::LeashMiddleware;
use leash_audit::{VerifyOptions, verify};
use leash_firewall::{Firewall, FirewallBuilder};
use leash_testkit::Upstream;
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Error, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longer than anything here takes; what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const MESSAGES: &str = "/v1/messages";
pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const RESPONSES: &str = "/v1/responses";

pub(crate) struct World {
    pub(crate) provider: Upstream,
    pub(crate) fw: Firewall,
    pub(crate) client: ClientWithMiddleware,
    dir: TempDir,
}

pub(crate) async fn world(set: impl FnOnce(FirewallBuilder) -> FirewallBuilder) -> World {
    world_with(set, |middleware| middleware).await
}

pub(crate) async fn world_with(
    set: impl FnOnce(FirewallBuilder) -> FirewallBuilder,
    guard: impl FnOnce(LeashMiddleware) -> LeashMiddleware,
) -> World {
    let dir = tempfile::tempdir().unwrap();
    let builder = Firewall::builder()
        .budget_usd(1.0)
        .audit_log(dir.path().join("audit.jsonl"));
    let fw = set(builder).build().unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let client = ClientBuilder::new(http)
        .with(guard(LeashMiddleware::new(fw.clone())))
        .build();
    World {
        provider: Upstream::start().await.unwrap(),
        fw,
        client,
        dir,
    }
}

/// A request of `text` in the format of `path`, for at most 1000 tokens.
pub(crate) fn ask(path: &str, text: &str, stream: bool) -> Value {
    let mut body = match path {
        MESSAGES => {
            json!({"model": "claude-haiku-4-5", "max_tokens": 1000, "messages": [{"role": "user", "content": text}]})
        }
        CHAT => {
            json!({"model": "gpt-5", "max_completion_tokens": 1000, "messages": [{"role": "user", "content": text}]})
        }
        _ => json!({"model": "gpt-5", "max_output_tokens": 1000, "input": text}),
    };
    if stream {
        body["stream"] = true.into();
    }
    body
}

impl World {
    pub(crate) fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.post_text(path, body.to_string())
    }

    pub(crate) fn post_text(&self, path: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        let request = self.client.post(format!("{}{path}", self.provider.url()));
        request
            .header("content-type", "application/json")
            .header("x-api-key", "sk-secret")
            .body(body)
    }

    /// What the log says now. It verifies.
    pub(crate) fn log(&self) -> Vec<Value> {
        let path = self.dir.path().join("audit.jsonl");
        let report = verify(&path, &VerifyOptions::default()).unwrap();
        assert!(report.is_ok(), "{report:?}");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("sk-secret"), "a key is in the log");
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The log's lines of this kind, with everything written that is counted.
    pub(crate) async fn lines(&self, kind: &str) -> Vec<Value> {
        self.fw.flush().await.unwrap();
        self.log()
            .into_iter()
            .filter(|line| line["kind"] == kind)
            .collect()
    }

    /// The one line of a call, as soon as it is there.
    pub(crate) async fn call_line(&self) -> Value {
        let found = async {
            loop {
                let lines = self.lines("model_call").await;
                if let [line] = lines.as_slice() {
                    return line.clone();
                }
                assert!(lines.is_empty(), "more than one call");
                tokio::task::yield_now().await;
            }
        };
        within(found).await
    }

    /// Nothing is set aside, and the sums agree: the store's, the log's, and `usd`.
    pub(crate) async fn spent(&self, usd: &str) {
        let (_, balance) = self.fw.balances().await.unwrap().remove(0);
        assert!(balance.reserved.is_zero(), "something is still set aside");
        assert_eq!(balance.spent.to_string(), usd);
        let logged: f64 = self
            .lines("model_call")
            .await
            .iter()
            .map(|line| line["cost_usd"].as_f64().unwrap())
            .sum();
        assert!((logged - usd.parse::<f64>().unwrap()).abs() < 1e-9, "{logged}");
    }
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("hangs")
}

/// The rule that refused.
pub(crate) fn rule_of(result: Result<reqwest::Response, Error>) -> String {
    match result {
        Ok(response) => panic!("passed with {}", response.status()),
        Err(error) => leash_adapters_http::refusal_of(&error)
            .expect("a typed refusal")
            .rule_id()
            .to_owned(),
    }
}

/// Everything of a body, and whether it broke off.
pub(crate) async fn read_all(response: &mut reqwest::Response) -> (String, bool) {
    let mut text = Vec::new();
    loop {
        match within(response.chunk()).await {
            Ok(Some(chunk)) => text.extend_from_slice(&chunk),
            Ok(None) => return (String::from_utf8(text).unwrap(), false),
            Err(_) => return (String::from_utf8(text).unwrap(), true),
        }
    }
}
