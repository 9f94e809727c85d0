//! [`Upstream`]: the server, and what it is told to answer.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// How much of a request is read.
const MAX_REQUEST: usize = 64 << 20;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Received {
    /// A header's value; empty where there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The body as text; what is not UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A part of an answer's body.
#[derive(Clone, Debug)]
pub enum Step {
    /// Bytes.
    Send(Bytes),
    /// Wait until the test lets one such step pass, by [`Upstream::open`].
    Gate,
    /// Send nothing more, and keep the connection open.
    Hang,
    /// Break the connection off.
    Break,
    /// These bytes, again and again, for as long as somebody reads.
    Endless(Bytes),
    /// These bytes, again and again, with so long a pause before each time.
    Every(Duration, Bytes),
}

impl Step {
    /// Text to send.
    pub fn send(text: impl Into<Bytes>) -> Self {
        Self::Send(text.into())
    }
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Reply {
    status: StatusCode,
    headers: Vec<(&'static str, String)>,
    steps: Vec<Step>,
    /// Whether the head waits for the gate too.
    is_late: bool,
}

impl Reply {
    /// An answer in one piece, of JSON.
    #[must_use]
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self::of("application/json", vec![Step::Send(body.into())])
    }

    /// A whole stream of events.
    #[must_use]
    pub fn events(body: impl Into<Bytes>) -> Self {
        Self::of("text/event-stream; charset=utf-8", vec![Step::Send(body.into())])
    }

    /// A stream of events, step by step.
    #[must_use]
    pub fn stream(steps: Vec<Step>) -> Self {
        Self::of("text/event-stream", steps)
    }

    /// An answer of JSON, step by step.
    #[must_use]
    pub fn json_steps(steps: Vec<Step>) -> Self {
        Self::of("application/json", steps)
    }

    fn of(content_type: &str, steps: Vec<Step>) -> Self {
        let headers = vec![
            ("content-type", content_type.to_owned()),
            ("x-request-id", "req_fake".to_owned()),
        ];
        Self {
            status: StatusCode::OK,
            headers,
            steps,
            is_late: false,
        }
    }

    /// With this status; one that is no status becomes 500.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        self
    }

    /// With this header besides.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Nothing is answered, not even a status, before the test opens the gate once.
    #[must_use]
    pub fn late(mut self) -> Self {
        self.is_late = true;
        self
    }
}

/// The server. It ends when this is dropped.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Shared {
    script: Mutex<Script>,
    gate: Semaphore,
    hang_ups: watch::Sender<usize>,
    arrivals: watch::Sender<usize>,
}

#[derive(Default)]
struct Script {
    next: VecDeque<Reply>,
    always: Option<Reply>,
    received: Vec<Received>,
}

impl Shared {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upstream {
    /// Starts a server on a free port of this machine.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            script: Mutex::default(),
            gate: Semaphore::new(0),
            hang_ups: watch::Sender::new(0),
            arrivals: watch::Sender::new(0),
        });
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let task = tokio::spawn(async move {
            // It only ends when it is aborted.
            drop(axum::serve(listener, router).await);
        });
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// Its URL, without a path: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers the next request that has no answer yet with this one.
    pub fn reply(&self, reply: Reply) {
        self.shared.script().next.push_back(reply);
    }

    /// Answers every request with this one that none was scripted for. Without it they are answered 500.
    pub fn always(&self, reply: Reply) {
        self.shared.script().always = Some(reply);
    }

    /// What arrived so far, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<Received> {
        self.shared.script().received.clone()
    }

    /// Lets one [`Step::Gate`] pass.
    pub fn open(&self) {
        self.shared.gate.add_permits(1);
    }

    /// Waits until so many requests arrived.
    pub async fn arrived(&self, requests: usize) {
        // The sender lives as long as this does.
        let _ = self
            .shared
            .arrivals
            .subscribe()
            .wait_for(|arrived| *arrived >= requests)
            .await;
    }

    /// Waits until so many answers were abandoned by clients before their end.
    pub async fn hung_up(&self, answers: usize) {
        // The sender lives as long as this does.
        let _ = self
            .shared
            .hang_ups
            .subscribe()
            .wait_for(|abandoned| *abandoned >= answers)
            .await;
    }

    /// How many answers were abandoned by clients before their end.
    #[must_use]
    pub fn hang_ups(&self) -> usize {
        *self.shared.hang_ups.borrow()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, MAX_REQUEST).await.unwrap_or_default();
    let received = Received {
        method: head.method.to_string(),
        path: head
            .uri
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default(),
        headers: head.headers,
        body,
    };
    let reply = {
        let mut script = shared.script();
        script.received.push(received);
        let next = script.next.pop_front();
        next.or_else(|| script.always.clone())
    };
    let reply =
        reply.unwrap_or_else(|| Reply::json(r#"{"error":{"message":"nothing is scripted"}}"#).status(500));
    shared
        .arrivals
        .send_modify(|arrived| *arrived = arrived.saturating_add(1));
    let watch = Watch {
        shared,
        is_over: false,
    };
    if reply.is_late {
        watch.pass_gate().await;
    }
    let mut response = Response::new(Body::from_stream(body_of(reply.steps, watch)));
    *response.status_mut() = reply.status;
    for (name, value) in reply.headers {
        if let Ok(value) = value.parse() {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// Tells when an answer is dropped before its end.
struct Watch {
    shared: Arc<Shared>,
    is_over: bool,
}

impl Watch {
    async fn pass_gate(&self) {
        if let Ok(permit) = self.shared.gate.acquire().await {
            permit.forget();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.is_over {
            self.shared
                .hang_ups
                .send_modify(|abandoned| *abandoned = abandoned.saturating_add(1));
        }
    }
}

fn body_of(steps: Vec<Step>, watch: Watch) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold((VecDeque::from(steps), watch), async |(mut steps, mut watch)| {
        loop {
            match steps.pop_front() {
                None => {
                    watch.is_over = true;
                    return None;
                }
                Some(Step::Send(bytes)) => {
                    // Each in a packet of its own, as far as the network pleases.
                    tokio::task::yield_now().await;
                    return Some((Ok(bytes), (steps, watch)));
                }
                Some(Step::Gate) => watch.pass_gate().await,
                Some(Step::Hang) => std::future::pending().await,
                Some(Step::Break) => {
                    watch.is_over = true;
                    return Some((Err(io::Error::other("broken off by the script")), (steps, watch)));
                }
                Some(Step::Every(pause, bytes)) => {
                    tokio::time::sleep(pause).await;
                    steps.push_front(Step::Every(pause, bytes.clone()));
                    return Some((Ok(bytes), (steps, watch)));
                }
                Some(Step::Endless(bytes)) => {
                    steps.push_front(Step::Endless(bytes.clone()));
                    return Some((Ok(bytes), (steps, watch)));
                }
            }
        }
    })
}
