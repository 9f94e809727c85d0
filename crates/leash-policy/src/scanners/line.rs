//! Scanners of any kind over one protocol: [`ScannerRule`], [`LlamaFirewallRule`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use leash_core::{Action, AsyncRule, Call, Decision, PolicyContext, RuleError};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::http::Endpoint;
use super::process::Pool;
use super::{CONCURRENT, ScannerError, TIMEOUT, score, text_of};
use crate::patterns::fingerprint;

/// The most processes of one scanner.
const MAX_PROCESSES: usize = 64;

/// How a scanner is reached.
#[derive(Clone)]
pub struct ScannerTransport(Way);

#[derive(Clone)]
enum Way {
    Process {
        command: Vec<String>,
        processes: usize,
        start_timeout: Duration,
    },
    Http(Endpoint),
}

impl fmt::Debug for ScannerTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Arguments and paths may be secret.
        match &self.0 {
            Way::Process {
                command,
                processes,
                start_timeout,
            } => f
                .debug_struct("Process")
                .field("command", &fingerprint(command.iter().map(String::as_str)))
                .field("processes", processes)
                .field("start_timeout", start_timeout)
                .finish(),
            Way::Http(endpoint) => f
                .debug_struct("Http")
                .field("host", &endpoint.host())
                .field("address", &fingerprint([endpoint.url()]))
                .finish(),
        }
    }
}

impl ScannerTransport {
    /// A program and its arguments; no shell reads them. It is started when it is first needed, again after its death,
    /// and killed when it is late or lies. It inherits the environment; what it writes to its standard error is
    /// thrown away, as it may quote what it was asked about.
    ///
    /// # Errors
    /// [`ScannerError::Command`] where there is no program.
    pub fn command<I: IntoIterator<Item: Into<String>>>(command: I) -> Result<Self, ScannerError> {
        let command: Vec<String> = command.into_iter().map(Into::into).collect();
        if command.first().is_none_or(String::is_empty) {
            return Err(ScannerError::Command);
        }
        Ok(Self(Way::Process {
            command,
            processes: 1,
            start_timeout: Duration::from_mins(1),
        }))
    }

    /// An address that the question is posted to.
    ///
    /// # Errors
    /// [`ScannerError`] where it is none.
    pub fn http(url: &str) -> Result<Self, ScannerError> {
        Ok(Self(Way::Http(Endpoint::new(url, None)?)))
    }

    /// How many processes there are at most, from 1 to 64; each is asked one question at a time. Nothing over HTTP.
    #[must_use]
    pub fn processes(mut self, count: usize) -> Self {
        if let Way::Process { processes, .. } = &mut self.0 {
            *processes = count.clamp(1, MAX_PROCESSES);
        }
        self
    }

    /// How long a process may take until it says that it is ready. A call does not wait that long; the process goes on
    /// for those that follow. Nothing over HTTP.
    #[must_use]
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        if let Way::Process { start_timeout, .. } = &mut self.0 {
            *start_timeout = timeout;
        }
        self
    }
}

#[derive(Clone)]
enum Peer {
    Process(Arc<Pool>),
    Http(Endpoint, Arc<Semaphore>),
}

/// Asks a scanner over the protocol of `docs/scanners.md`, and does what it says.
///
/// No answer within 5 s, a dead process, or an answer that is not of the protocol is a failure, which refuses the
/// call.
///
/// ```
/// use leash_policy::{ScannerRule, ScannerTransport};
///
/// let transport = ScannerTransport::command(["python3", "my_scanner.py"])?;
/// let rule = ScannerRule::new("my_scanner", transport).min_score(0.7)?;
/// # Ok::<(), leash_policy::ScannerError>(())
/// ```
#[derive(Clone)]
pub struct ScannerRule {
    id: String,
    transport: ScannerTransport,
    peer: Peer,
    min_score: f64,
    timeout: Duration,
    asked: Arc<AtomicU64>,
}

impl fmt::Debug for ScannerRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScannerRule")
            .field("id", &self.id)
            .field("transport", &self.transport)
            .field("min_score", &self.min_score)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// What a scanner says. Other members are for later.
#[derive(Deserialize)]
struct Answer {
    id: String,
    decision: String,
    score: Option<f64>,
    label: Option<String>,
}

impl ScannerRule {
    /// Decides under `id`, and counts every finding, whatever its score.
    #[must_use]
    pub fn new(id: impl Into<String>, transport: ScannerTransport) -> Self {
        let peer = match &transport.0 {
            Way::Process {
                command,
                processes,
                start_timeout,
            } => Peer::Process(Arc::new(Pool::new(command.clone(), *processes, *start_timeout))),
            Way::Http(endpoint) => Peer::Http(endpoint.clone(), Arc::new(Semaphore::new(CONCURRENT))),
        };
        Self {
            id: id.into(),
            transport,
            peer,
            min_score: 0.0,
            timeout: TIMEOUT,
            asked: Arc::default(),
        }
    }

    /// From which score on a finding counts. One without a score always does.
    ///
    /// # Errors
    /// [`ScannerError::Score`] where it is not between 0 and 1.
    pub fn min_score(mut self, min_score: f64) -> Result<Self, ScannerError> {
        self.min_score = score(min_score)?;
        Ok(self)
    }

    /// How long the whole question may take, waiting for a turn included.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn ask(&self, question: Vec<u8>, id: &str, text: &str) -> Result<Option<Decision>, RuleError> {
        match &self.peer {
            Peer::Http(endpoint, turns) => {
                let _turn = turns.acquire().await.map_err(|_| strange())?;
                self.understand(&endpoint.post(question).await?, id, text)
            }
            Peer::Process(pool) => {
                let mut question = question;
                question.push(b'\n');
                pool.ask(&question, |answer| self.understand(answer, id, text))
                    .await
            }
        }
    }

    fn understand(&self, answer: &[u8], id: &str, text: &str) -> Result<Option<Decision>, RuleError> {
        let answer: Answer = serde_json::from_slice(answer).map_err(|_| strange())?;
        if answer.id != id {
            return Err(RuleError::new("the scanner answered another question"));
        }
        let found = answer.score.map_or(Ok(1.0), score).map_err(|_| strange())?;
        // What is written to the log is a name, and no sentence: that might quote the call.
        let label = answer.label.as_deref();
        if label.is_some_and(|label| !is_label(label)) {
            return Err(strange());
        }
        let action = match answer.decision.to_ascii_lowercase().as_str() {
            "allow" => return Ok(None),
            "block" => Action::Block,
            "hitl" | "human_in_the_loop_required" => Action::Hitl,
            "warn" => Action::Warn,
            _ => return Err(strange()),
        };
        if found < self.min_score {
            return Ok(None);
        }
        // A label that stands in the text may be a piece of it.
        let mut reason = match label.filter(|label| !text.contains(label)) {
            Some(label) => format!("the scanner found `{label}`"),
            None => "the scanner found something".to_owned(),
        };
        if let Some(score) = answer.score {
            reason = format!("{reason}, score {score:.2}");
        }
        Ok(Some(Decision::new(action, self.id.clone(), reason)))
    }
}

fn strange() -> RuleError {
    RuleError::new("the scanner's answer is not of the protocol")
}

fn is_label(label: &str) -> bool {
    (1..=64).contains(&label.len())
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':'))
}

#[async_trait]
impl AsyncRule for ScannerRule {
    fn id(&self) -> &str {
        &self.id
    }

    async fn evaluate(&self, call: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        let text = text_of(call)?;
        if text.is_empty() {
            return Ok(None);
        }
        let (kind, tool) = match call {
            Call::Model(_) => ("model_call", None),
            Call::Tool(call) => ("tool_call", Some(call.tool.as_ref())),
        };
        let id = self.asked.fetch_add(1, Ordering::Relaxed).to_string();
        let question = json!({"id": id, "kind": kind, "tool": tool, "text": text}).to_string();
        timeout(self.timeout, self.ask(question.into_bytes(), &id, &text))
            .await
            .map_err(|_| RuleError::new("the scanner did not answer in time"))?
    }
}

/// `LlamaFirewall`, through the bridge of `docs/scanners.md`: blocks where it says `BLOCK`, asks a human where it says
/// `HUMAN_IN_THE_LOOP_REQUIRED`, each at a score of 0.5 or more.
#[derive(Clone, Debug)]
pub struct LlamaFirewallRule(ScannerRule);

impl LlamaFirewallRule {
    /// Decides as `llama_firewall`.
    #[must_use]
    pub fn new(transport: ScannerTransport) -> Self {
        let mut rule = ScannerRule::new("llama_firewall", transport);
        rule.min_score = 0.5;
        Self(rule)
    }

    /// Under another id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.0.id = id.into();
        self
    }

    /// From which score on a finding counts.
    ///
    /// # Errors
    /// [`ScannerError::Score`] where it is not between 0 and 1.
    pub fn min_score(self, min_score: f64) -> Result<Self, ScannerError> {
        self.0.min_score(min_score).map(Self)
    }

    /// How long the whole question may take, waiting for a turn included.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self(self.0.timeout(timeout))
    }
}

#[async_trait]
impl AsyncRule for LlamaFirewallRule {
    fn id(&self) -> &str {
        self.0.id()
    }

    async fn evaluate(&self, call: &Call, context: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        self.0.evaluate(call, context).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule() -> ScannerRule {
        ScannerRule::new("s", ScannerTransport::command(["true"]).unwrap())
    }

    fn part() -> impl Strategy<Value = String> {
        prop_oneof![
            Just(r#""id":"7""#.to_owned()),
            Just(r#""id":"8""#.to_owned()),
            Just(r#""id":7"#.to_owned()),
            "\"decision\":\"(ALLOW|allow|BLOCK|HITL|warn|)\"",
            "\"score\":(0|1|0\\.5|-1|2|null|\"1\"|1e999|1e-9)",
            "\"label\":\"(a|geheim|[a-z ]{0,80}|\\\\u0000)\"",
            "\"[a-z]{1,5}\":(\\[\\[\\]\\]|\\{\\}|true)",
            "[{}\\[\\]\",:]{1,4}",
        ]
    }

    proptest! {
        #[test]
        fn an_answer_is_understood_only_where_all_of_it_is_right(parts in proptest::collection::vec(part(), 0..6)) {
            let answer = format!("{{{}}}", parts.join(","));
            if let Ok(decision) = rule().understand(answer.as_bytes(), "7", "das ist geheim") {
                let read: serde_json::Value = serde_json::from_str(&answer).unwrap();
                prop_assert_eq!(&read["id"], "7");
                let said = read["decision"].as_str().unwrap().to_ascii_lowercase();
                prop_assert_eq!(decision.is_none(), said == "allow");
                if let Some(decision) = decision {
                    prop_assert!(!decision.reason.contains("geheim"));
                }
            }
        }

        #[test]
        fn whatever_bytes_come_are_refused_or_understood(answer in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(rule().understand(&answer, "7", "x").is_err());
        }
    }

    #[test]
    fn an_answer_nested_without_end_is_refused_or_passed_over() {
        let deep = "[".repeat(1 << 20);
        let answer = format!(r#"{{"id":"7","decision":"ALLOW","more":{deep}"#);
        assert!(rule().understand(answer.as_bytes(), "7", "x").is_err());
    }
}
