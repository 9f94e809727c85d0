//! The task of a stream: meters what flows, judges tool calls before the agent sees them, and cuts the stream where
//! it must stop, whether or not anybody reads it.

use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use leash_core::{LeashError, rule_ids};
use leash_firewall::{Admission, Answer, Firewall, Outcome};
use leash_wire::{Piece, Refusal, StreamMeter, WireError};
use reqwest::Response;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::CallReceipt;
use crate::middleware::{settled, wire_error};

/// How many chunks wait for a reader. More than that waits upstream.
const QUEUE: usize = 16;

/// The longest token of the tokenizers that `OpenAI` publishes is 128 bytes; no provider's is known to be longer than
/// twice that. A stream with more bytes for each token of its bound has passed the bound, whatever it reports.
const MAX_TOKEN_BYTES: u64 = 256;

/// How long upstream may keep its connection open after its answer's own end, so that the connection can be used
/// again. An answer that is over is not waited for.
const LINGER: Duration = Duration::from_millis(250);

/// How long a stream is read on, unseen, after a tool call in it was refused: what it used is reported at its end,
/// which mostly comes at once. After that it is cut, and the bound is charged.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Why a guarded stream was cut, for whoever wants more than the error event that ends it.
///
/// ```
/// use leash_adapters_http::StreamRefusal;
///
/// # async fn example(response: reqwest::Response) -> Result<(), reqwest::Error> {
/// let refusal = StreamRefusal::of(&response);
/// let events = response.text().await?;
/// if let Some(refusal) = refusal.as_ref().and_then(StreamRefusal::take) {
///     println!("cut by {}: {}", refusal.rule_id(), refusal.reason());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct StreamRefusal(Arc<Mutex<Option<LeashError>>>);

impl StreamRefusal {
    /// That of a response; `None` where it is no guarded stream. Ask before the body is taken out of the response.
    #[must_use]
    pub fn of(response: &Response) -> Option<Self> {
        response.extensions().get().cloned()
    }

    /// Takes the refusal, which is there once the stream has ended with its error event; `None` before, where the
    /// stream was not cut, and for whoever comes second.
    #[must_use]
    pub fn take(&self) -> Option<LeashError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, refusal: LeashError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
    }
}

/// What a reader sees of a guarded stream.
pub(crate) struct GuardedBody {
    chunks: mpsc::Receiver<Bytes>,
    /// Set when a kill order cut the stream: what still waits is dropped, so that nothing comes after a kill.
    is_cut: Arc<AtomicBool>,
    end: Option<oneshot::Receiver<End>>,
}

/// How a stream ends for its reader, after the chunks.
enum End {
    /// As upstream ended it.
    Done,
    /// With these bytes: an error event in the provider's shape.
    Bytes(Bytes),
    /// With the error that upstream had.
    Upstream(reqwest::Error),
}

impl Stream for GuardedBody {
    type Item = Result<Bytes, Box<dyn Error + Send + Sync>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match ready!(self.chunks.poll_recv(context)) {
            Some(chunk) if !self.is_cut.load(Ordering::Acquire) => return Poll::Ready(Some(Ok(chunk))),
            Some(_) => {
                self.chunks.close();
                while self.chunks.try_recv().is_ok() {}
            }
            None => {}
        }
        let Some(end) = &mut self.end else {
            return Poll::Ready(None);
        };
        let ended = ready!(Future::poll(Pin::new(end), context));
        self.end = None;
        Poll::Ready(match ended {
            Ok(End::Done) => None,
            Ok(End::Bytes(bytes)) => Some(Ok(bytes)),
            Ok(End::Upstream(error)) => Some(Err(error.into())),
            // The runtime shut down, or the task panicked. That is no end of an answer.
            Err(_) => Some(Err("the stream was broken off: its meter is gone".into())),
        })
    }
}

/// Starts the task, and returns what its reader sees.
pub(crate) fn start(
    firewall: Firewall,
    admission: Admission,
    meter: StreamMeter,
    upstream: Response,
) -> (GuardedBody, StreamRefusal, CallReceipt) {
    let (sender, chunks) = mpsc::channel(QUEUE);
    let (end_sender, end) = oneshot::channel();
    let is_cut = Arc::new(AtomicBool::new(false));
    let pump = Pump {
        keep_alive: Box::pin(admission.keep_alive()),
        firewall,
        admission: Some(admission),
        meter,
        reader: sender,
        is_cut: is_cut.clone(),
        refusal: StreamRefusal::default(),
        receipt: CallReceipt::default(),
    };
    let (refusal, receipt) = (pump.refusal.clone(), pump.receipt.clone());
    tokio::spawn(async move {
        let end = pump.run(upstream).await;
        // The reader may have gone away; then nobody is to be told.
        drop(end_sender.send(end));
    });
    (
        GuardedBody {
            chunks,
            is_cut,
            end: Some(end),
        },
        refusal,
        receipt,
    )
}

struct Pump {
    firewall: Firewall,
    /// `None` once it is settled, which is when the answer's own end has come, or when the stream was cut.
    admission: Option<Admission>,
    /// Renews the reservation. One for the whole stream: a slow store is not asked anew for each chunk.
    keep_alive: Pin<Box<dyn Future<Output = Infallible> + Send>>,
    meter: StreamMeter,
    reader: mpsc::Sender<Bytes>,
    is_cut: Arc<AtomicBool>,
    refusal: StreamRefusal,
    receipt: CallReceipt,
}

/// Why a stream does not go on.
enum Stop {
    /// A kill order; the reader is told in the provider's shape.
    Killed(LeashError),
    /// The provider passes the bound of the call.
    OverBound(LeashError),
    /// A tool call in it was refused.
    Tool(LeashError),
    /// The bytes make no sense, or end where they must not.
    Broken(LeashError),
    /// Upstream broke off.
    Upstream(reqwest::Error),
    /// Nobody reads any more.
    ReaderGone,
}

impl Pump {
    /// Runs until the stream ends, one way or another. Upstream is closed and the call settled when this returns;
    /// only then does the reader see the end.
    async fn run(mut self, mut upstream: Response) -> End {
        let firewall = self.firewall.clone();
        let mut stopped = std::pin::pin!(firewall.stopped());
        let mut outcome = self.flow(&mut upstream, stopped.as_mut()).await;
        if matches!(outcome, Err(Stop::Tool(_)))
            && let Some(error) = self.listen_on(&mut upstream, stopped).await
        {
            outcome = Err(self.killed(error));
        }
        // Closed before anything else, so that the provider stops as soon as we do.
        drop(upstream);
        let Err(stop) = outcome else { return End::Done };
        let how = match stop {
            Stop::Upstream(_) | Stop::Broken(_) => Outcome::Error,
            Stop::Killed(_) | Stop::OverBound(_) | Stop::Tool(_) | Stop::ReaderGone => Outcome::Cut,
        };
        self.settle(how).await;
        match stop {
            Stop::Killed(error) | Stop::OverBound(error) | Stop::Tool(error) | Stop::Broken(error) => {
                let reason = error.reason();
                let event = self.meter.error_event(&Refusal {
                    rule_id: error.rule_id(),
                    reason: &reason,
                });
                drop(reason);
                self.refusal.put(error);
                End::Bytes(event)
            }
            Stop::Upstream(error) => End::Upstream(error),
            Stop::ReaderGone => End::Done,
        }
    }

    /// Settles the call, unless it is settled. Usage is final only where the answer's own end has come.
    async fn settle(&mut self, outcome: Outcome) {
        let Some(admission) = self.admission.take() else {
            return;
        };
        let (usage, response_digest) = (self.meter.usage(), self.meter.content_digest());
        let is_final = self.meter.is_complete() && usage.is_some();
        let answer = Answer {
            usage,
            is_final,
            response_digest,
            outcome,
        };
        self.receipt.put(admission.settle(answer).await);
    }

    async fn flow(
        &mut self,
        upstream: &mut Response,
        mut stopped: Pin<&mut impl Future<Output = LeashError>>,
    ) -> Result<(), Stop> {
        let mut pieces = Vec::new();
        while self.admission.is_some() {
            let chunk = self
                .guarded(upstream.chunk(), stopped.as_mut())
                .await?
                .map_err(Stop::Upstream)?;
            let Some(chunk) = chunk else {
                let finished = self.meter.finish(&mut pieces);
                self.hand_on(&mut pieces, finished, stopped).await?;
                // Upstream hung up before its answer's own end, unless that is settled: more may have been billed
                // than was seen.
                self.settle(Outcome::Error).await;
                return Ok(());
            };
            let fed = self.meter.feed(&chunk, &mut pieces);
            self.check_bound()?;
            self.hand_on(&mut pieces, fed, stopped.as_mut()).await?;
        }
        self.linger(upstream, stopped).await
    }

    /// Hands on what was whole before the bytes went wrong, if they did.
    async fn hand_on(
        &mut self,
        pieces: &mut Vec<Piece>,
        read: Result<(), WireError>,
        stopped: Pin<&mut impl Future<Output = LeashError>>,
    ) -> Result<(), Stop> {
        if self.meter.is_complete() && read.is_ok() {
            // Before the last bytes are out: whoever saw the end finds the books closed.
            if let Some(admission) = self.admission.take() {
                let answer = settled(self.meter.usage(), self.meter.content_digest());
                self.receipt.put(admission.settle(answer).await);
            }
        }
        self.deliver(pieces, stopped).await?;
        read.map_err(|error| self.broken(error.message()))
    }

    /// What comes after the answer's own end: nothing, as a rule, and then the end of the body.
    async fn linger(
        &mut self,
        upstream: &mut Response,
        mut stopped: Pin<&mut impl Future<Output = LeashError>>,
    ) -> Result<(), Stop> {
        let Some(until) = Instant::now().checked_add(LINGER) else {
            return Ok(());
        };
        let delivered = self.meter.delivered_output_bytes();
        let mut pieces = Vec::new();
        loop {
            // Whoever has seen the end may be gone, and so may upstream. Neither matters any more.
            let chunk = tokio::select! {
                biased;
                error = &mut stopped => return Err(self.killed(error)),
                chunk = timeout_at(until, upstream.chunk()) => chunk,
            };
            let Ok(Ok(Some(chunk))) = chunk else { return Ok(()) };
            let fed = self.meter.feed(&chunk, &mut pieces);
            let asks = pieces.iter().any(|piece| matches!(piece, Piece::ToolRequest(_)));
            if asks || self.meter.delivered_output_bytes() > delivered {
                return Err(self.broken("the answer goes on after its end"));
            }
            self.deliver(&mut pieces, stopped.as_mut()).await?;
            fed.map_err(|error| self.broken(error.message()))?;
        }
    }

    /// Reads on after a refusal, for the usage at the end. The reader gets nothing of it.
    async fn listen_on(
        &mut self,
        upstream: &mut Response,
        mut stopped: Pin<&mut impl Future<Output = LeashError>>,
    ) -> Option<LeashError> {
        let until = Instant::now().checked_add(LAST_WORDS)?;
        let mut unseen = Vec::new();
        while self.admission.is_some() && !self.meter.is_complete() && !self.is_over_bound() {
            let chunk = tokio::select! {
                biased;
                error = &mut stopped => return Some(error),
                chunk = timeout_at(until, upstream.chunk()) => chunk,
            };
            let Ok(Ok(Some(chunk))) = chunk else { return None };
            if self.meter.feed(&chunk, &mut unseen).is_err() {
                return None;
            }
            unseen.clear();
        }
        None
    }

    /// Waits for `future`, unless the session is stopped or the reader goes away meanwhile. Keeps the reservation
    /// alive.
    async fn guarded<T>(
        &mut self,
        future: impl Future<Output = T>,
        mut stopped: Pin<&mut impl Future<Output = LeashError>>,
    ) -> Result<T, Stop> {
        tokio::select! {
            biased;
            error = &mut stopped => Err(self.killed(error)),
            never = &mut self.keep_alive => match never {},
            done = future => Ok(done),
            () = self.reader.closed() => Err(Stop::ReaderGone),
        }
    }

    /// Hands pieces on, each tool call judged before what follows it.
    async fn deliver(
        &mut self,
        pieces: &mut Vec<Piece>,
        mut stopped: Pin<&mut impl Future<Output = LeashError>>,
    ) -> Result<(), Stop> {
        for piece in pieces.drain(..) {
            match piece {
                Piece::Forward(bytes) => {
                    // Whoever tells of orders may be late on a busy machine; what is handed on has to be allowed now.
                    let firewall = self.firewall.clone();
                    let check = async move { firewall.check_running().await };
                    let checked = self.guarded(check, stopped.as_mut()).await?;
                    checked.map_err(|error| self.killed(error))?;
                    let reader = self.reader.clone();
                    let sent = self
                        .guarded(async move { reader.send(bytes).await }, stopped.as_mut())
                        .await?;
                    sent.map_err(|_| Stop::ReaderGone)?;
                }
                Piece::ToolRequest(request) => {
                    let firewall = self.firewall.clone();
                    let judge = async move { firewall.inspect(&request).await };
                    self.guarded(judge, stopped.as_mut()).await?.map_err(Stop::Tool)?;
                }
            }
        }
        Ok(())
    }

    fn is_over_bound(&self) -> bool {
        let Some(admission) = &self.admission else {
            return false;
        };
        let reported_too_much = self.meter.usage().is_some_and(|usage| !admission.covers(&usage));
        let most_bytes = admission.bound().output_tokens.saturating_mul(MAX_TOKEN_BYTES);
        reported_too_much || self.meter.delivered_output_bytes() > most_bytes
    }

    /// Cuts a stream whose provider passes what was set aside.
    fn check_bound(&self) -> Result<(), Stop> {
        // A complete answer is paid for; it is delivered, and the cap it broke admits nothing more.
        if self.meter.is_complete() || !self.is_over_bound() {
            return Ok(());
        }
        let reason = "the provider passes the bound of the call, so its stream is cut";
        Err(Stop::OverBound(
            self.firewall
                .refuse(LeashError::killed(rule_ids::HARD_CAP, reason)),
        ))
    }

    fn killed(&self, error: LeashError) -> Stop {
        self.is_cut.store(true, Ordering::Release);
        Stop::Killed(error)
    }

    fn broken(&self, message: &'static str) -> Stop {
        Stop::Broken(self.firewall.refuse(wire_error(message)))
    }
}
