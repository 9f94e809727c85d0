//! One question over HTTP. Knows no scanner.

use leash_core::RuleError;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, StatusCode, Url};

use super::ScannerError;

/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// An address and who asks there: without redirects and without a proxy.
#[derive(Clone)]
pub(super) struct Endpoint {
    client: Client,
    url: Url,
}

impl Endpoint {
    /// `path` is added to the address.
    pub(super) fn new(url: &str, path: Option<&str>) -> Result<Self, ScannerError> {
        let mut url = Url::parse(url).map_err(|_| ScannerError::Url)?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err(ScannerError::Url);
        }
        if let Some(path) = path {
            url.path_segments_mut()
                .map_err(|()| ScannerError::Url)?
                .pop_if_empty()
                .push(path);
        }
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|_| ScannerError::Client)?;
        Ok(Self { client, url })
    }

    /// The host, for people: path, query and password may be secret.
    pub(super) fn host(&self) -> &str {
        self.url.host_str().unwrap_or("")
    }

    pub(super) fn url(&self) -> &str {
        self.url.as_str()
    }

    /// What is answered with status 200 to `body`.
    pub(super) async fn post(&self, body: Vec<u8>) -> Result<Vec<u8>, RuleError> {
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .body(body);
        let mut answer = request
            .send()
            .await
            .map_err(|_| RuleError::new("the scanner cannot be reached"))?;
        if answer.status() != StatusCode::OK {
            return Err(RuleError::new(format!(
                "the scanner answered with status {}",
                answer.status().as_u16()
            )));
        }
        let mut bytes = Vec::new();
        loop {
            let chunk = answer.chunk().await;
            let chunk = chunk.map_err(|_| RuleError::new("the scanner's answer broke off"))?;
            let Some(chunk) = chunk else { return Ok(bytes) };
            if bytes.len().saturating_add(chunk.len()) > MAX_ANSWER_BYTES {
                return Err(RuleError::new("the scanner's answer is too long"));
            }
            bytes.extend_from_slice(&chunk);
        }
    }
}
