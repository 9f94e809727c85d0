//! [`HttpKillRegistry`]: orders behind a service, spoken to over HTTP.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _};
use leash_core::{Caller, SessionId, StoreError, StoreErrorKind};
use leash_store::{StoreKind, StoreUrl};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde_json::Value;
use tokio::sync::watch;

use crate::view::{Backend, Reading, View};
use crate::{Answer, KillOrder, KillRegistry, Target, ViewOptions, wire};

/// The most that is read of a list of orders.
const MAX_LIST_BYTES: usize = 32 << 20;
/// The most that is read of any other answer.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// How many sessions are asked about at once where the server has no list.
const AT_ONCE: usize = 16;
/// How long the server is asked to wait for a change.
const LONG_POLL: Duration = Duration::from_secs(10);

/// Orders behind a service that speaks the contract of the Python package: `GET`, `POST` and `DELETE` of
/// `{base}/kill/{session}`.
///
/// Our own server ([`crate::KillServer`]) has more: wider orders, and a list with an `ETag` that can be waited for, so
/// that an order is here as soon as it is given. Of any other server, each active session is asked about every 50 ms,
/// and wider orders cannot be given.
#[derive(Debug)]
pub struct HttpKillRegistry {
    view: View,
}

impl HttpKillRegistry {
    /// The registry of the service at `base`, which is shown `token` with every request. Connects in the background:
    /// until that succeeds, calls are refused.
    ///
    /// # Errors
    /// [`StoreError`] where `base` is no address of an HTTP service that this build can speak to, or `token` cannot
    /// stand in a header.
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn open(base: &StoreUrl, token: Option<&str>, options: ViewOptions) -> Result<Self, StoreError> {
        let refused = |why: &str| {
            let what = format!("use `{base}` as a kill registry: {why}");
            StoreError::new(StoreErrorKind::Conflict, what)
        };
        if base.kind() != StoreKind::Http {
            return Err(refused("it is no `http://` address"));
        }
        if base.is_encrypted() {
            return Err(refused("this build speaks no TLS"));
        }
        let mut headers = header::HeaderMap::new();
        if let Some(token) = token {
            let mut value = header::HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| refused("the token cannot stand in a header"))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let client = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(Duration::from_secs(1))
            // Orders go where somebody said, and nowhere that the environment or an answer says.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| refused("no client can be made").with_source(error))?;
        let text = base.with_secrets();
        if text.contains(['?', '#']) {
            return Err(refused("it has a query"));
        }
        Ok(Self {
            view: View::new(
                HttpBackend {
                    client,
                    base: text.trim_end_matches('/').to_owned(),
                    shown: base.clone(),
                    list: Mutex::default(),
                    speaks: AtomicU8::new(UNKNOWN),
                },
                options,
            ),
        })
    }
}

crate::registry_by_view!(HttpKillRegistry);

/// What the server was found to speak.
const UNKNOWN: u8 = 0;
/// Only what the contract says.
const PLAIN: u8 = 1;
/// The list too.
const LISTS: u8 = 2;

/// The list of orders as it was last read.
#[derive(Clone)]
struct List {
    etag: String,
    sessions: Arc<HashMap<SessionId, KillOrder>>,
    wide: Arc<Vec<KillOrder>>,
}

struct HttpBackend {
    client: reqwest::Client,
    base: String,
    shown: StoreUrl,
    list: Mutex<Option<List>>,
    speaks: AtomicU8,
}

impl fmt::Debug for HttpBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpBackend")
            .field("base", &self.shown)
            .finish_non_exhaustive()
    }
}

const READ: &str = "read the kill orders";
/// As the Python package's client.
const TIMEOUT: Duration = Duration::from_secs(5);

fn failure(what: &'static str, error: reqwest::Error) -> StoreError {
    let kind = if error.is_timeout() {
        StoreErrorKind::Timeout
    } else {
        StoreErrorKind::Unavailable
    };
    // The address may hold a secret.
    StoreError::new(kind, what).with_source(error.without_url())
}

fn unexpected(what: &'static str, status: StatusCode) -> StoreError {
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ", which wants another token",
        _ => "",
    };
    StoreError::new(
        StoreErrorKind::Unavailable,
        format!("{what}: the server said {}{hint}", status.as_u16()),
    )
}

fn nonsense(what: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, what)
}

async fn json(what: &'static str, mut response: Response, limit: usize) -> Result<Value, StoreError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failure(what, error))? {
        if bytes.len().saturating_add(chunk.len()) > limit {
            return Err(StoreError::new(StoreErrorKind::Full, what));
        }
        bytes.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&bytes).map_err(|_| nonsense(what))
}

impl HttpBackend {
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.base))
            .timeout(TIMEOUT)
    }

    /// Where the contract puts a session; `None` for the two ids that every client takes for a walk up the path.
    fn path_of(id: &SessionId) -> Option<String> {
        match id.as_str() {
            "." | ".." => None,
            id => Some(format!("/kill/{}", wire::escaped(id))),
        }
    }

    fn list(&self) -> Option<List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The list, where the server has one; asked to wait so long for another than the one we have.
    async fn fetch(&self, wait: Option<Duration>) -> Result<Option<List>, StoreError> {
        let path = match wait {
            Some(wait) => format!("/orders?wait_ms={}", wait.as_millis()),
            None => "/orders".to_owned(),
        };
        let mut request = self
            .request(Method::GET, &path)
            .timeout(TIMEOUT.saturating_add(wait.unwrap_or_default()));
        let known = self.list();
        if let Some(known) = &known {
            request = request.header(header::IF_NONE_MATCH, &known.etag);
        }
        let response = request.send().await.map_err(|error| failure(READ, error))?;
        match response.status() {
            StatusCode::NOT_MODIFIED if known.is_some() => Ok(known),
            StatusCode::OK => {
                let etag = response
                    .headers()
                    .get(header::ETAG)
                    .and_then(|etag| etag.to_str().ok())
                    .ok_or_else(|| nonsense(READ))?
                    .to_owned();
                let body = json(READ, response, MAX_LIST_BYTES).await?;
                let list = read_list(etag, &body)?;
                self.speaks.store(LISTS, Ordering::Relaxed);
                *self.list.lock().unwrap_or_else(PoisonError::into_inner) = Some(list.clone());
                Ok(Some(list))
            }
            // A server that had a list and has none any more is not to be believed.
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED
                if self.speaks.load(Ordering::Relaxed) != LISTS =>
            {
                self.speaks.store(PLAIN, Ordering::Relaxed);
                Ok(None)
            }
            status => Err(unexpected(READ, status)),
        }
    }

    /// Asks about one session, as the contract says.
    async fn one(&self, id: &SessionId) -> Result<Option<KillOrder>, StoreError> {
        let path = Self::path_of(id).ok_or_else(|| {
            StoreError::new(StoreErrorKind::Conflict, "ask about a session whose id is a path")
        })?;
        let response = self
            .request(Method::GET, &path)
            .send()
            .await
            .map_err(|error| failure(READ, error))?;
        match response.status() {
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::OK => {}
            status => return Err(unexpected(READ, status)),
        }
        let body = json(READ, response, MAX_ANSWER_BYTES).await?;
        match body.get("killed").and_then(Value::as_bool) {
            Some(false) => Ok(None),
            Some(true) => {
                let reason = body.get("reason").and_then(Value::as_str).unwrap_or_default();
                Ok(Some(KillOrder::new(Target::Session(id.clone()), reason, None)))
            }
            None => Err(nonsense(READ)),
        }
    }

    async fn send(&self, what: &'static str, request: RequestBuilder) -> Result<StatusCode, StoreError> {
        let response = request.send().await.map_err(|error| failure(what, error))?;
        Ok(response.status())
    }
}

fn read_list(etag: String, body: &Value) -> Result<List, StoreError> {
    let orders = body
        .get("orders")
        .and_then(Value::as_array)
        .ok_or_else(|| nonsense(READ))?;
    let mut sessions = HashMap::new();
    let mut wide = Vec::new();
    for order in orders {
        // One that cannot be read may be anybody's.
        let order = wire::order_from_json(order).map_err(|error| nonsense(READ).with_source(error))?;
        match &order.target {
            Target::Session(id) => {
                sessions.insert(id.clone(), order);
            }
            _ => wide.push(order),
        }
    }
    Ok(List {
        etag,
        sessions: Arc::new(sessions),
        wide: Arc::new(wide),
    })
}

#[async_trait]
impl Backend for HttpBackend {
    fn poll(&self) -> Duration {
        Duration::from_millis(50)
    }

    async fn read(&self, sessions: &[SessionId], since: Option<&str>) -> Result<Reading, StoreError> {
        if self.speaks.load(Ordering::Relaxed) != PLAIN
            && let Some(list) = self.fetch(None).await?
        {
            if since == Some(list.etag.as_str()) {
                return Ok(Reading::Unchanged);
            }
            return Ok(Reading::State {
                sessions: sessions
                    .iter()
                    .filter_map(|id| list.sessions.get(id).cloned())
                    .collect(),
                wide: list.wide.to_vec(),
                version: Some(list.etag),
            });
        }
        let found: Vec<Option<KillOrder>> = futures_util::stream::iter(sessions.to_vec())
            .map(|id| async move { self.one(&id).await })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(Reading::State {
            version: None,
            sessions: found.into_iter().flatten().collect(),
            wide: Vec::new(),
        })
    }

    async fn kill(&self, order: &KillOrder) -> Result<(), StoreError> {
        const WHAT: &str = "give a kill order";
        let path = match &order.target {
            Target::Session(id) => Self::path_of(id),
            _ => None,
        };
        let request = self
            .request(Method::POST, path.as_deref().unwrap_or("/orders"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(wire::order_to_json(order).to_string());
        match self.send(WHAT, request).await? {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED if path.is_none() => Err(StoreError::new(
                StoreErrorKind::Conflict,
                "give a kill order: this server keeps orders for sessions only",
            )),
            status => Err(unexpected(WHAT, status)),
        }
    }

    async fn clear(&self, target: &Target) -> Result<bool, StoreError> {
        const WHAT: &str = "clear a kill order";
        let path = match target {
            Target::Session(id) => Self::path_of(id),
            _ => None,
        };
        let path = path.unwrap_or_else(|| format!("/orders?target={}", wire::escaped(&target.to_string())));
        match self.send(WHAT, self.request(Method::DELETE, &path)).await? {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            status => Err(unexpected(WHAT, status)),
        }
    }

    async fn orders(&self) -> Result<Vec<KillOrder>, StoreError> {
        let Some(list) = self.fetch(None).await? else {
            return Err(StoreError::new(
                StoreErrorKind::Conflict,
                "list the kill orders: this server has no list",
            ));
        };
        let mut orders: Vec<KillOrder> = list.sessions.values().chain(list.wide.iter()).cloned().collect();
        orders.sort_by(|one, other| one.target.cmp(&other.target));
        Ok(orders)
    }

    async fn watch(&self, hint: &(dyn Fn() + Send + Sync)) {
        loop {
            let before = self.list().map(|list| list.etag);
            let pause = match self.fetch(before.is_some().then_some(LONG_POLL)).await {
                Ok(Some(list)) => {
                    if before.as_ref() != Some(&list.etag) {
                        hint();
                    }
                    Duration::ZERO
                }
                // No list: perhaps another server takes its place one day.
                Ok(None) => Duration::from_secs(1),
                Err(_) => Duration::from_millis(250),
            };
            if pause.is_zero() {
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(pause).await;
            }
        }
    }
}
