//! [`KillServer`]: any registry, over HTTP.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use leash_core::{Caller, Clock, Digest, SessionId, StoreError, SystemClock};
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use crate::{KillOrder, KillRegistry, Target, wire};

/// The most that is read of a request's body.
const MAX_BODY_BYTES: usize = 16 << 10;
/// The longest that a request may wait for a change.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// How often the registry is read for those who wait.
const BEAT: Duration = Duration::from_millis(10);
/// How old a reading may be that those who wait share.
const SHARED_FOR: Duration = Duration::from_millis(5);

/// Serves a registry to programs that cannot reach it themselves.
///
/// | request | answer |
/// |---|---|
/// | `GET /kill/{session}` | `{"killed":bool,"reason":string\|null}`: stopped by whichever order that is known to cover it |
/// | `POST /kill/{session}` `{"reason":"…"}` | 200; `operator` and `at` may be said too |
/// | `DELETE /kill/{session}` | 200, or 404 where none stood |
/// | `GET /orders` | `{"orders":[…]}` with an `ETag`; with `If-None-Match`, 304; with `?wait_ms=`, once it changed |
/// | `POST /orders` `{"target":"agent:x","reason":"…"}` | 200 |
/// | `DELETE /orders?target=agent:x` | 200, or 404 where none stood |
/// | `GET /health` | 200 where the registry can be read, 503 where it cannot; needs no token |
///
/// The id is one percent-encoded segment; raw slashes are taken too. Whoever asks needs the bearer token. There is no
/// TLS: put a proxy before it where the network is not yours.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use leash_kill::{KillServer, MemoryKillRegistry};
///
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:7433").await?;
/// let token = std::env::var("KILL_TOKEN")?;
/// KillServer::new(Arc::new(MemoryKillRegistry::new()), &token).serve(listener).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct KillServer {
    shared: Arc<Shared>,
}

struct Shared {
    registry: Arc<dyn KillRegistry>,
    /// Of the token, so that the comparison takes the same time whatever was sent; `None` where everybody may ask.
    token: Option<Digest>,
    snapshot: Mutex<Option<Snapshot>>,
    clock: Arc<dyn Clock>,
}

/// The list as it is sent.
#[derive(Clone)]
struct Snapshot {
    /// Before the registry was read.
    asked: Instant,
    etag: Arc<str>,
    body: Arc<str>,
}

impl fmt::Debug for KillServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KillServer")
            .field("registry", &self.shared.registry)
            .field("token", &self.shared.token.as_ref().map(|_| "***"))
            .finish_non_exhaustive()
    }
}

impl KillServer {
    /// Serves `registry` to those who show `token`. An empty token lets nobody in.
    #[must_use]
    pub fn new(registry: Arc<dyn KillRegistry>, token: &str) -> Self {
        Self::of(registry, Some(Digest::of(token.as_bytes())))
    }

    /// Serves `registry` to whoever can reach the port: they can stop every agent, and let every stopped one go on.
    #[must_use]
    pub fn danger_without_token(registry: Arc<dyn KillRegistry>) -> Self {
        Self::of(registry, None)
    }

    fn of(registry: Arc<dyn KillRegistry>, token: Option<Digest>) -> Self {
        Self {
            shared: Arc::new(Shared {
                registry,
                token,
                snapshot: Mutex::new(None),
                clock: Arc::new(SystemClock),
            }),
        }
    }

    /// Answers what comes to `listener`, until the future is dropped.
    ///
    /// # Errors
    /// Those of the listener.
    pub async fn serve(self, listener: TcpListener) -> io::Result<()> {
        let router = Router::new().fallback(answer).with_state(self.shared);
        axum::serve(listener, router).await
    }
}

type Answered = Result<Response, Refusal>;

enum Refusal {
    Status(StatusCode, &'static str),
    Store(StoreError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn bad(why: &'static str) -> Refusal {
    Refusal::Status(StatusCode::BAD_REQUEST, why)
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match shared.route(request).await {
        Ok(response) => response,
        Err(Refusal::Status(status, why)) => (status, body(&json!({ "error": why }))).into_response(),
        Err(Refusal::Store(error)) => (
            StatusCode::SERVICE_UNAVAILABLE,
            body(&json!({ "error": error.to_string() })),
        )
            .into_response(),
    }
}

fn body(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

impl Shared {
    fn is_allowed(&self, request: &Request) -> bool {
        let Some(token) = &self.token else { return true };
        let given = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, given)| scheme.eq_ignore_ascii_case("bearer") && !given.is_empty())
            .map(|(_, given)| Digest::of(given.as_bytes()));
        given.is_some_and(|given| given.as_bytes().ct_eq(token.as_bytes()).into())
    }

    async fn route(&self, request: Request) -> Answered {
        let path = request.uri().path().to_owned();
        if path == "/health" {
            self.registry.orders().await?;
            return Ok(body(&json!({ "ok": true })));
        }
        if !self.is_allowed(&request) {
            return Err(Refusal::Status(
                StatusCode::UNAUTHORIZED,
                "a bearer token is needed",
            ));
        }
        // A page in somebody's browser says where it is from when it gives an order; programs say nothing of the kind.
        // Without this, any page could reach a server that asks for no token.
        if request.headers().contains_key(header::ORIGIN) {
            return Err(Refusal::Status(
                StatusCode::FORBIDDEN,
                "orders come from programs, not from web pages",
            ));
        }
        let query = request.uri().query().unwrap_or_default().to_owned();
        if let Some(id) = path.strip_prefix("/kill/") {
            // An id that was sent raw and had a question mark in it would be cut here, and be another session's.
            if !query.is_empty() {
                return Err(bad("an id with `?` must be percent-encoded"));
            }
            let id = wire::unescaped(id)
                .and_then(|id| SessionId::new(id).ok())
                .ok_or_else(|| bad("an id has 1 to 512 bytes of UTF-8 and no control characters"))?;
            return self.session(id, request).await;
        }
        if path == "/orders" {
            return self.orders(&query, request).await;
        }
        Err(Refusal::Status(
            StatusCode::NOT_FOUND,
            "ask for `/kill/{session}` or `/orders`",
        ))
    }

    async fn session(&self, id: SessionId, request: Request) -> Answered {
        match *request.method() {
            Method::GET | Method::HEAD => {
                let order = self.registry.standing(&Caller::session(id)).await?;
                Ok(body(&json!({
                    "killed": order.is_some(),
                    "reason": order.as_ref().map(|order| &*order.reason),
                })))
            }
            Method::POST => {
                let said = read(request.into_body()).await?;
                let order = wire::about(Target::Session(id), &said).map_err(|_| bad("say `reason`"))?;
                self.kill(order).await
            }
            Method::DELETE => self.clear(&Target::Session(id)).await,
            _ => Err(Refusal::Status(
                StatusCode::METHOD_NOT_ALLOWED,
                "use GET, POST or DELETE",
            )),
        }
    }

    async fn orders(&self, query: &str, request: Request) -> Answered {
        let value = |name: &str| {
            query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .find_map(|(key, value)| (key == name).then_some(value))
        };
        match *request.method() {
            Method::GET | Method::HEAD => {
                let wait = match value("wait_ms") {
                    Some(wait) => wait
                        .parse()
                        .map_err(|_| bad("`wait_ms` is a number of milliseconds"))?,
                    None => 0,
                };
                let known = request
                    .headers()
                    .get(header::IF_NONE_MATCH)
                    .and_then(|etag| etag.to_str().ok());
                self.list(known, Duration::from_millis(wait).min(MAX_WAIT)).await
            }
            Method::POST => {
                let said = read(request.into_body()).await?;
                let order = wire::order_from_json(&said).map_err(|_| bad("say `target` and `reason`"))?;
                self.kill(order).await
            }
            Method::DELETE => {
                let target = value("target")
                    .and_then(wire::unescaped)
                    .and_then(|target| target.parse().ok())
                    .ok_or_else(|| bad("say `?target=agent:NAME`"))?;
                self.clear(&target).await
            }
            _ => Err(Refusal::Status(
                StatusCode::METHOD_NOT_ALLOWED,
                "use GET, POST or DELETE",
            )),
        }
    }

    async fn kill(&self, mut order: KillOrder) -> Answered {
        if order.at.is_none() {
            order.at = Some(self.clock.now());
        }
        self.registry.kill(order).await?;
        Ok(body(&json!({ "killed": true })))
    }

    async fn clear(&self, target: &Target) -> Answered {
        let cleared = self.registry.clear(target).await?;
        let status = if cleared {
            StatusCode::OK
        } else {
            StatusCode::NOT_FOUND
        };
        Ok((status, body(&json!({ "cleared": cleared }))).into_response())
    }

    /// The list, once it is another than `known`; 304 when the time is up.
    async fn list(&self, known: Option<&str>, wait: Duration) -> Answered {
        let start = Instant::now();
        let mut changes = self.registry.changes();
        // Read no sooner than it was asked for: whoever asks relies on that.
        let mut not_before = start;
        loop {
            changes.borrow_and_update();
            let snapshot = self.snapshot(not_before).await?;
            if known != Some(&*snapshot.etag) {
                let headers = [
                    (header::CONTENT_TYPE, "application/json"),
                    (header::ETAG, &*snapshot.etag),
                    (header::CACHE_CONTROL, "no-store"),
                ];
                return Ok((headers, snapshot.body.to_string()).into_response());
            }
            let left = wait.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, &*snapshot.etag)]).into_response());
            }
            // A registry tells of what it saw; what others wrote, for sessions that nobody here asks about, it did not.
            match tokio::time::timeout(BEAT.min(left), changes.changed()).await {
                Ok(Ok(())) => not_before = Instant::now(),
                Ok(Err(_)) => tokio::time::sleep(BEAT.min(left)).await,
                // Those who wait share a reading.
                Err(_) => not_before = Instant::now().checked_sub(SHARED_FOR).unwrap_or(not_before),
            }
        }
    }

    async fn snapshot(&self, not_before: Instant) -> Result<Snapshot, StoreError> {
        let mut last = self.snapshot.lock().await;
        if let Some(snapshot) = &*last
            && snapshot.asked >= not_before
        {
            return Ok(snapshot.clone());
        }
        let asked = Instant::now();
        let orders = self.registry.orders().await?;
        let orders: Vec<Value> = orders.iter().map(wire::order_to_json).collect();
        let body = json!({ "orders": orders }).to_string();
        let snapshot = Snapshot {
            asked,
            etag: format!("\"{}\"", Digest::of(body.as_bytes())).into(),
            body: body.into(),
        };
        *last = Some(snapshot.clone());
        Ok(snapshot)
    }
}

async fn read(body: Body) -> Result<Value, Refusal> {
    let bytes = to_bytes(body, MAX_BODY_BYTES)
        .await
        .map_err(|_| Refusal::Status(StatusCode::PAYLOAD_TOO_LARGE, "an order has at most 16 KiB"))?;
    serde_json::from_slice(&bytes).map_err(|_| bad("the body is no JSON"))
}
