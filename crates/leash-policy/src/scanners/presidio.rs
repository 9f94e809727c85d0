//! [`PresidioRule`]: personal data, found by Microsoft Presidio.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use leash_core::{Action, AsyncRule, Call, Decision, PolicyContext, RuleError};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::http::Endpoint;
use super::{CONCURRENT, ScannerError, TIMEOUT, score, text_of};
use crate::patterns::fingerprint;

/// Blocks calls in which Presidio's analyzer finds personal data at a score of 0.85 or more.
///
/// Asks `POST {url}/analyze` with every string and number of the call, as English unless told otherwise. The reason
/// names the kinds that were found, sorted, and nothing of what was found. No answer within 5 s, another status than
/// 200, or an answer of another form is a failure, which refuses the call.
///
/// ```
/// use leash_policy::PresidioRule;
///
/// let rule = PresidioRule::new("http://127.0.0.1:5002")?.entities(["CREDIT_CARD", "PERSON"]);
/// assert!(PresidioRule::new("127.0.0.1:5002").is_err());
/// # Ok::<(), leash_policy::ScannerError>(())
/// ```
#[derive(Clone)]
pub struct PresidioRule {
    endpoint: Endpoint,
    id: String,
    language: String,
    entities: Vec<String>,
    min_score: f64,
    timeout: Duration,
    turns: Arc<Semaphore>,
}

impl fmt::Debug for PresidioRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresidioRule")
            .field("id", &self.id)
            .field("host", &self.endpoint.host())
            .field("address", &fingerprint([self.endpoint.url()]))
            .field("language", &self.language)
            .field("entities", &self.entities)
            .field("min_score", &self.min_score)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// A finding. Whatever else it says is not needed.
#[derive(Deserialize)]
struct Finding {
    entity_type: String,
    score: f64,
}

impl PresidioRule {
    /// Asks the analyzer at `url`, which is its address without `/analyze`.
    ///
    /// # Errors
    /// [`ScannerError`] where that is no address.
    pub fn new(url: &str) -> Result<Self, ScannerError> {
        Ok(Self {
            endpoint: Endpoint::new(url, Some("analyze"))?,
            id: "presidio".to_owned(),
            language: "en".to_owned(),
            entities: Vec::new(),
            min_score: 0.85,
            timeout: TIMEOUT,
            turns: Arc::new(Semaphore::new(CONCURRENT)),
        })
    }

    /// Under another id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// The language of the texts, as Presidio names it.
    #[must_use]
    pub fn language(mut self, language: impl Into<String>) -> Self {
        self.language = language.into();
        self
    }

    /// Looks for these only, in Presidio's names: `CREDIT_CARD`, `PERSON`.
    #[must_use]
    pub fn entities<I: IntoIterator<Item: Into<String>>>(mut self, entities: I) -> Self {
        self.entities = entities.into_iter().map(Into::into).collect();
        self.entities.sort();
        self.entities.dedup();
        self
    }

    /// From which score on a finding blocks.
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

    async fn ask(&self, text: &str) -> Result<Vec<Finding>, RuleError> {
        let _turn = self.turns.acquire().await.map_err(|_| strange())?;
        let mut question = json!({
            "text": text,
            "language": self.language,
            "score_threshold": self.min_score,
        });
        if !self.entities.is_empty()
            && let Some(members) = question.as_object_mut()
        {
            members.insert("entities".to_owned(), self.entities.clone().into());
        }
        let answer = self.endpoint.post(question.to_string().into_bytes()).await?;
        serde_json::from_slice(&answer).map_err(|_| strange())
    }
}

/// What says nothing of the answer but that it is none.
fn strange() -> RuleError {
    RuleError::new("the scanner's answer is not of the form of Presidio's")
}

/// Whether a name may enter the log: a server that lies must not write there what it likes. A number is no name.
fn is_kind(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_uppercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
        && name.bytes().filter(u8::is_ascii_digit).count() <= 4
}

#[async_trait]
impl AsyncRule for PresidioRule {
    fn id(&self) -> &str {
        &self.id
    }

    async fn evaluate(&self, call: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        let text = text_of(call)?;
        if text.is_empty() {
            return Ok(None);
        }
        let findings = timeout(self.timeout, self.ask(&text))
            .await
            .map_err(|_| RuleError::new("the scanner did not answer in time"))??;
        let mut kinds = BTreeSet::new();
        for finding in &findings {
            score(finding.score).map_err(|_| strange())?;
            if !is_kind(&finding.entity_type) {
                return Err(strange());
            }
            if finding.score >= self.min_score {
                kinds.insert(finding.entity_type.as_str());
            }
        }
        if kinds.is_empty() {
            return Ok(None);
        }
        let kinds: Vec<&str> = kinds.into_iter().collect();
        let reason = format!("personal data: {}", kinds.join(", "));
        Ok(Some(Decision::new(Action::Block, self.id.clone(), reason)))
    }
}
