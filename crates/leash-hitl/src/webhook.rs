//! [`WebhookHitlGate`]: asks a service over HTTP, and polls it until it answers. Knows no queue.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use leash_core::{Clock, Json, StoreError, SystemClock, canonical};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Method, Response, Url};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};

use crate::binding::{Readable, readable_settings};
use crate::entry::clip;
use crate::gate::timed_out;
use crate::{Approval, ApprovalRequest, CallHash, HitlAnswer, HitlGate, SIGNATURE_HEADER, Secret, Shown};

/// How long one question over the wire may take.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How often a request is sent, all with one idempotency key.
const ATTEMPTS: u32 = 3;
/// How long to wait before it is sent again, the first time.
const BACKOFF: Duration = Duration::from_millis(200);
/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Why a webhook cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookError {
    /// It is no address.
    #[error("a webhook's address starts with `http://` or `https://`, and names a host")]
    Url,
    /// Its host is on this machine or in a private network, which was not allowed by name.
    #[error("the webhook's host is a private address; allow it by name if that is meant")]
    Private,
    /// The HTTP client could not be made.
    #[error("the HTTP client cannot be made")]
    Client,
}

/// Asks `POST {url}/requests`, then polls `GET {url}/requests/{id}`: for 60 s, every 2 s, where nothing else was set.
///
/// Only the status `approved` of an answer that arrived whole, in time and, where there is a secret, signed, lets a
/// call through. Every failure rejects.
///
/// It follows no redirect, uses no proxy, and connects to no private address that was not allowed by name.
#[derive(Clone)]
pub struct WebhookHitlGate {
    client: Client,
    requests: Url,
    timeout: Duration,
    poll: Duration,
    secret: Option<Secret>,
    readable: Readable,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for WebhookHitlGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The path and the query may hold a secret.
        f.debug_struct("WebhookHitlGate")
            .field("host", &self.requests.host_str())
            .field("timeout", &self.timeout)
            .field("signs", &self.secret.is_some())
            .finish_non_exhaustive()
    }
}

/// Sets up a [`WebhookHitlGate`].
#[derive(Clone, Debug)]
pub struct WebhookBuilder {
    url: String,
    timeout: Duration,
    poll: Duration,
    secret: Option<Secret>,
    allowed: Vec<String>,
    readable: Readable,
    clock: Arc<dyn Clock>,
}

impl WebhookBuilder {
    /// How long to wait for an answer.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How often to ask for the answer.
    #[must_use]
    pub fn poll_interval(mut self, poll: Duration) -> Self {
        self.poll = poll.max(Duration::from_millis(1));
        self
    }

    /// Signs what is sent, and takes only answers that are signed with the same secret and name the request.
    #[must_use]
    pub fn secret(mut self, secret: Secret) -> Self {
        self.secret = Some(secret);
        self
    }

    /// Allows `host`, as the address has it, to be on this machine or in a private network.
    #[must_use]
    pub fn allow_private_host(mut self, host: impl Into<String>) -> Self {
        self.allowed.push(host.into());
        self
    }

    readable_settings!();

    /// The clock that signatures are dated by.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The gate.
    ///
    /// # Errors
    /// [`WebhookError`].
    pub fn build(self) -> Result<WebhookHitlGate, WebhookError> {
        let mut url = Url::parse(&self.url).map_err(|_| WebhookError::Url)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(WebhookError::Url);
        }
        let host = url.host_str().ok_or(WebhookError::Url)?.to_owned();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let is_allowed = self
            .allowed
            .iter()
            .any(|allowed| allowed == &host || allowed == bare);
        if !is_allowed && bare.parse().is_ok_and(is_private) {
            return Err(WebhookError::Private);
        }
        url.path_segments_mut()
            .map_err(|()| WebhookError::Url)?
            .pop_if_empty()
            .push("requests");
        let mut client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(ATTEMPT);
        if !is_allowed {
            client = client.dns_resolver(Arc::new(PublicOnly));
        }
        Ok(WebhookHitlGate {
            client: client.build().map_err(|_| WebhookError::Client)?,
            requests: url,
            timeout: self.timeout,
            poll: self.poll,
            secret: self.secret,
            readable: self.readable,
            clock: self.clock,
        })
    }
}

/// Finds public addresses only: where the address is looked up it is decided too, so no name can change in between.
#[derive(Debug)]
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.iter().any(|address| is_private(address.ip())) {
                return Err(WebhookError::Private.into());
            }
            let found: Addrs = Box::new(found.into_iter());
            Ok(found)
        })
    }
}

/// Whether an address is on this machine, in a private network, or no single public host.
///
/// # Source
/// IANA, IPv4 and IPv6 special-purpose address registries.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_private_v4(v4),
        IpAddr::V6(v6) => is_private_v6(v6),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19))
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let [first, second, third, fourth, _, _, high, low] = address.segments();
    let within = |high: u16, low: u16| {
        let v4 = Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low));
        is_private_v4(v4)
    };
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_private_v4(mapped);
    }
    address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || (first & 0xfe00) == 0xfc00
        || (first & 0xffc0) == 0xfe80
        || (first & 0xffc0) == 0xfec0
        // IPv4 within IPv6: compatible, 64:ff9b::/96, 6to4.
        || [first, second, third, fourth] == [0; 4]
        || (first == 0x64 && second == 0xff9b && (third != 0 || fourth != 0 || within(high, low)))
        || (first == 0x2002 && within(second, third))
        || (first == 0x2001 && (second == 0 || second == 0xdb8))
}

/// What an answer says.
enum Says {
    Pending,
    Decided(Approval),
}

impl WebhookHitlGate {
    /// Asks the service at `url`; the path is that in front of `/requests`.
    #[must_use]
    pub fn builder(url: impl Into<String>) -> WebhookBuilder {
        WebhookBuilder {
            url: url.into(),
            timeout: Duration::from_mins(1),
            poll: Duration::from_secs(2),
            secret: None,
            allowed: Vec::new(),
            readable: Readable::default(),
            clock: Arc::new(SystemClock),
        }
    }

    fn now(&self) -> u64 {
        self.clock.now().as_unix_ms() / 1000
    }

    async fn send(
        &self,
        method: Method,
        url: Url,
        body: Option<&str>,
        id: &str,
    ) -> Result<Response, reqwest::Error> {
        let mut request = self.client.request(method, url).timeout(ATTEMPT);
        if let Some(secret) = &self.secret {
            let signed = secret.sign(self.now(), body.unwrap_or_default().as_bytes());
            request = request.header(SIGNATURE_HEADER, signed);
        }
        if let Some(body) = body {
            request = request
                .header("Content-Type", "application/json")
                .header("Idempotency-Key", id)
                .body(body.to_owned());
        }
        request.send().await
    }

    /// Asks. What is asked again has the same key, so that nobody is asked twice.
    async fn ask(&self, body: &str, id: &str) -> Result<(), &'static str> {
        let mut pause = BACKOFF;
        for attempt in 1..=ATTEMPTS {
            match self
                .send(Method::POST, self.requests.clone(), Some(body), id)
                .await
            {
                Ok(response) if response.status().is_success() => return Ok(()),
                Ok(response) if !response.status().is_server_error() && response.status().as_u16() != 429 => {
                    return Err("it did not take the request");
                }
                Ok(_) | Err(_) if attempt < ATTEMPTS => {
                    sleep(pause).await;
                    pause = pause.saturating_mul(2);
                }
                Ok(_) | Err(_) => break,
            }
        }
        Err("it cannot be reached")
    }

    async fn poll_once(&self, id: &str) -> Result<Says, &'static str> {
        let mut url = self.requests.clone();
        url.path_segments_mut()
            .map_err(|()| "its address is wrong")?
            .push(id);
        let response = self
            .send(Method::GET, url, None, id)
            .await
            .map_err(|_| "it cannot be reached")?;
        if response.status().as_u16() != 200 {
            return Err("it does not know the request");
        }
        let signature = response
            .headers()
            .get(SIGNATURE_HEADER)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let body = read(response).await?;
        let answer = std::str::from_utf8(&body)
            .ok()
            .and_then(|text| Json::parse(text).ok())
            .ok_or("its answer makes no sense")?;
        let answer = answer.value();
        if let Some(secret) = &self.secret {
            let is_signed = signature.is_some_and(|header| secret.is_signed(&header, &body, self.now()));
            // The signature is over the body alone: without the name in it, the answer to another request would do.
            if !is_signed || answer.get("request_id").and_then(Value::as_str) != Some(id) {
                return Err("its answer is not signed for this request");
            }
        }
        let text = |name: &str| {
            answer
                .get(name)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
        };
        let operator = text("operator").map(clip);
        match answer.get("status").and_then(Value::as_str) {
            Some("pending") => Ok(Says::Pending),
            Some("approved") => Ok(Says::Decided(Approval::Approved {
                operator,
                grant: None,
            })),
            Some("rejected") => Ok(Says::Decided(Approval::Rejected {
                reason: clip(text("reason").unwrap_or("rejected by human")),
                operator,
            })),
            _ => Err("its answer is an unknown status"),
        }
    }

    async fn answer(&self, body: &str, id: &str) -> Approval {
        let asked = async {
            self.ask(body, id).await?;
            loop {
                if let Says::Decided(approval) = self.poll_once(id).await? {
                    return Ok(approval);
                }
                sleep(self.poll).await;
            }
        };
        asked
            .await
            .unwrap_or_else(|what: &str| Approval::rejected(format!("hitl: the webhook failed: {what}")))
    }
}

async fn read(mut response: Response) -> Result<Vec<u8>, &'static str> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| "its answer was cut short")? {
        if body.len().saturating_add(chunk.len()) > MAX_ANSWER_BYTES {
            return Err("its answer is too long");
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn body_of(request: &ApprovalRequest, shown: &Shown, hash: &CallHash, id: &str) -> String {
    let caller = request.call.caller();
    let mut body = String::from("{");
    let mut member = |name: &str, value: &str| {
        canonical::write_str(&mut body, name);
        body.push(':');
        canonical::write_str(&mut body, value);
        body.push(',');
    };
    member("request_id", id);
    member("session_id", caller.session_id.as_str());
    if let Some(tenant) = &caller.tenant_id {
        member("tenant_id", tenant.as_str());
    }
    member("tool", shown.tool());
    member("rule_id", &request.decision.rule_id);
    member("reason", &request.decision.reason);
    member("call_hash", &hash.to_string());
    body.push_str("\"args\":");
    body.push_str(shown.canonical());
    body.push('}');
    body
}

#[async_trait]
impl HitlGate for WebhookHitlGate {
    async fn request(&self, request: &ApprovalRequest) -> Result<HitlAnswer, StoreError> {
        let expired = Approval::Expired {
            reason: timed_out(self.timeout),
        };
        let Some(until) = Instant::now().checked_add(self.timeout) else {
            return Ok(expired.answers(request));
        };
        let shown = match self.readable.shown(request)? {
            Ok(shown) => shown,
            Err(masked) => return Ok(Approval::rejected(masked).answers(request)),
        };
        let hash = shown.hash(
            request.call.caller(),
            &request.decision.rule_id,
            &request.policy_version,
        );
        let id = request.id.to_string();
        let body = body_of(request, &shown, &hash, &id);
        let approval = timeout_at(until, self.answer(&body, &id)).await;
        Ok(approval.unwrap_or(expired).answers(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_want_to_be_allowed_by_name() {
        let private = [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "198.18.0.1",
        ];
        for address in private {
            assert!(is_private(address.parse().unwrap()), "{address}");
        }
        for address in [
            "8.8.8.8",
            "1.1.1.1",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
            "100.128.0.1",
            "172.32.0.1",
        ] {
            assert!(!is_private(address.parse().unwrap()), "{address}");
        }
        let build = |url: &str| WebhookHitlGate::builder(url).build().map(drop);
        for url in [
            "http://127.0.0.1/",
            "http://[::1]:80/x",
            "http://0x7f.1/",
            "http://2130706433/",
            "https://10.0.0.1",
        ] {
            assert_eq!(build(url), Err(WebhookError::Private), "{url}");
        }
        for url in ["", "approvals.example", "ftp://approvals.example", "http://"] {
            assert_eq!(build(url), Err(WebhookError::Url), "{url}");
        }
        assert_eq!(build("https://approvals.example/hooks/abc"), Ok(()));
        let allowed =
            WebhookHitlGate::builder("http://127.0.0.1:1/secret-path").allow_private_host("127.0.0.1");
        let gate = allowed.build().unwrap();
        assert!(!format!("{gate:?}").contains("secret-path"));
    }

    #[tokio::test]
    async fn a_name_that_leads_to_a_private_address_is_not_followed() {
        let found = PublicOnly.resolve("localhost".parse().unwrap()).await;
        assert!(found.is_err_and(|error| error.is::<WebhookError>()));
    }
}
