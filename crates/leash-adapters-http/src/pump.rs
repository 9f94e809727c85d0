//! The task of a stream: meters what flows, judges tool calls before the agent sees them, and cuts the stream where
//! it must stop, whether or not anybody reads it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use leash_core::{LeashError, rule_ids};
use leash_firewall::{Admission, Answer, Firewall, Outcome};
use leash_wire::{Piece, Refusal, StreamMeter};
use reqwest::Response;
use tokio::sync::{mpsc, oneshot};

use crate::middleware::{settled, wire_error};

/// How many chunks wait for a reader. More than that waits upstream.
const QUEUE: usize = 16;

/// The longest token of the tokenizers that `OpenAI` publishes is 128 bytes; no provider's is known to be longer than
/// twice that. A stream with more bytes for each token of its bound has passed the bound, whatever it reports.
const MAX_TOKEN_BYTES: u64 = 256;

/// What a reader sees of a guarded stream.
pub(crate) struct GuardedBody {
    chunks: mpsc::Receiver<Bytes>,
    /// Set when the stream was cut: what still waits is dropped, so that nothing comes after a kill.
    is_cut: Arc<AtomicBool>,
    end: Option<oneshot::Receiver<End>>,
}

/// How a stream ends for its reader, after the chunks.
enum End {
    /// With these bytes: the provider's last ones, or an error event in its shape.
    Bytes(Bytes),
    /// With the error that upstream had.
    Upstream(reqwest::Error),
}

impl Stream for GuardedBody {
    type Item = Result<Bytes, reqwest::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.chunks.poll_recv(context) {
            Poll::Ready(Some(chunk)) if !self.is_cut.load(Ordering::Acquire) => return Poll::Ready(Some(Ok(chunk))),
            Poll::Ready(Some(_)) => {
                self.chunks.close();
                while self.chunks.try_recv().is_ok() {}
            }
            Poll::Ready(None) => {}
            Poll::Pending => return Poll::Pending,
        }
        let Some(end) = &mut self.end else { return Poll::Ready(None) };
        match Pin::new(end).poll_end(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(end) => {
                self.end = None;
                Poll::Ready(match end {
                    Some(End::Bytes(bytes)) => Some(Ok(bytes)),
                    Some(End::Upstream(error)) => Some(Err(error)),
                    None => None,
                })
            }
        }
    }
}

/// A receiver's end, where a sender that is gone is no error.
trait PollEnd {
    fn poll_end(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<End>>;
}

impl PollEnd for oneshot::Receiver<End> {
    fn poll_end(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<End>> {
        std::future::Future::poll(self, context).map(Result::ok)
    }
}

/// Starts the task, and returns what its reader sees.
pub(crate) fn start(firewall: Firewall, admission: Admission, meter: StreamMeter, upstream: Response) -> GuardedBody {
    let (sender, chunks) = mpsc::channel(QUEUE);
    let (end_sender, end) = oneshot::channel();
    let is_cut = Arc::new(AtomicBool::new(false));
    let pump = Pump { firewall, admission: Some(admission), meter, reader: sender, is_cut: is_cut.clone() };
    tokio::spawn(async move {
        if let Some(end) = pump.run(upstream).await {
            // The reader may have gone away; then nobody is to be told.
            drop(end_sender.send(end));
        }
    });
    GuardedBody { chunks, is_cut, end: Some(end) }
}

struct Pump {
    firewall: Firewall,
    /// `None` once it is settled.
    admission: Option<Admission>,
    meter: StreamMeter,
    reader: mpsc::Sender<Bytes>,
    is_cut: Arc<AtomicBool>,
}

/// Why a stream does not go on.
enum Stop {
    /// The firewall says so; the reader is told in the provider's shape.
    Refused(LeashError),
    /// Upstream broke off.
    Upstream(reqwest::Error),
    /// Nobody reads any more.
    ReaderGone,
}

impl Pump {
    /// Runs until the stream ends, one way or another. Upstream is closed when this returns.
    async fn run(mut self, mut upstream: Response) -> Option<End> {
        let outcome = self.flow(&mut upstream).await;
        // Closed before anything else, so that the provider stops as soon as we do.
        drop(upstream);
        match outcome {
            Ok(()) => None,
            Err(stop) => {
                let how = if matches!(stop, Stop::Upstream(_)) { Outcome::Error } else { Outcome::Cut };
                if let Some(admission) = self.admission.take() {
                    let answer = Answer {
                        usage: self.meter.usage(),
                        is_final: false,
                        response_digest: self.meter.content_digest(),
                        outcome: how,
                    };
                    admission.settle(answer).await;
                }
                match stop {
                    Stop::Refused(error) => {
                        let reason = error.reason();
                        let refusal = Refusal { rule_id: error.rule_id(), reason: &reason };
                        Some(End::Bytes(self.meter.error_event(&refusal)))
                    }
                    Stop::Upstream(error) => Some(End::Upstream(error)),
                    Stop::ReaderGone => None,
                }
            }
        }
    }

    async fn flow(&mut self, upstream: &mut Response) -> Result<(), Stop> {
        let mut pieces = Vec::new();
        loop {
            let chunk = self.guarded(upstream.chunk()).await?.map_err(Stop::Upstream)?;
            let Some(chunk) = chunk else { break };
            let fed = self.meter.feed(&chunk, &mut pieces);
            self.check_bound()?;
            // What was whole before the bytes went wrong is judged and delivered all the same.
            self.deliver(&mut pieces).await?;
            if let Err(error) = fed {
                return Err(self.refuse(wire_error(error.message())));
            }
        }
        let finished = self.meter.finish(&mut pieces);
        self.deliver(&mut pieces).await?;
        if let Err(error) = finished {
            return Err(self.refuse(wire_error(error.message())));
        }
        if let Some(admission) = self.admission.take() {
            let (usage, digest) = (self.meter.usage(), self.meter.content_digest());
            admission
                .settle(if self.meter.is_complete() {
                    settled(usage, digest)
                } else {
                    // Upstream hung up before its own end: more may have been billed than was seen.
                    Answer { usage, is_final: false, response_digest: digest, outcome: Outcome::Error }
                })
                .await;
        }
        Ok(())
    }

    /// Waits for `future`, unless the session is stopped or the reader goes away meanwhile.
    async fn guarded<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Stop> {
        let Some(admission) = &self.admission else { return Ok(future.await) };
        let mut future = std::pin::pin!(future);
        let mut stopped = std::pin::pin!(admission.stopped());
        loop {
            tokio::select! {
                biased;
                error = &mut stopped => {
                    self.is_cut.store(true, Ordering::Release);
                    return Err(Stop::Refused(error));
                }
                done = &mut future => return Ok(done),
                () = self.reader.closed() => return Err(Stop::ReaderGone),
                () = tokio::time::sleep(admission.renew_every()) => admission.renew().await,
            }
        }
    }

    /// Hands pieces on, each tool call judged before what follows it.
    async fn deliver(&mut self, pieces: &mut Vec<Piece>) -> Result<(), Stop> {
        if self.meter.is_complete() && self.meter.usage().is_some() && !pieces.iter().any(is_tool_request) {
            // Settled before the last bytes are out: whoever saw the end finds the books closed.
            self.settle_complete().await;
        }
        for piece in pieces.drain(..) {
            match piece {
                Piece::Forward(bytes) => {
                    let reader = self.reader.clone();
                    match self.guarded(async move { reader.send(bytes).await }).await? {
                        Ok(()) => {}
                        Err(_) => return Err(Stop::ReaderGone),
                    }
                }
                Piece::ToolRequest(request) => {
                    let firewall = self.firewall.clone();
                    let judged = self.guarded(async move { firewall.inspect(&request).await }).await?;
                    judged.map_err(Stop::Refused)?;
                }
            }
        }
        if self.meter.is_complete() && self.meter.usage().is_some() {
            self.settle_complete().await;
        }
        Ok(())
    }

    async fn settle_complete(&mut self) {
        if let Some(admission) = self.admission.take() {
            admission.settle(settled(self.meter.usage(), self.meter.content_digest())).await;
        }
    }

    /// Cuts a stream whose provider passes what was set aside.
    fn check_bound(&self) -> Result<(), Stop> {
        let Some(admission) = &self.admission else { return Ok(()) };
        let reported_too_much = self.meter.usage().is_some_and(|usage| !admission.covers(&usage));
        let most_bytes = admission.bound().map_or(0, |bound| bound.output_tokens.saturating_mul(MAX_TOKEN_BYTES));
        let delivered_too_much = self.meter.delivered_output_bytes() > most_bytes;
        // A complete answer is paid for; it is delivered, and the cap it broke admits nothing more.
        if self.meter.is_complete() || !(reported_too_much || delivered_too_much) {
            return Ok(());
        }
        let reason = "the provider passes the bound of the call, so its stream is cut";
        Err(self.refuse(LeashError::killed(rule_ids::HARD_CAP, reason)))
    }

    fn refuse(&self, error: LeashError) -> Stop {
        Stop::Refused(self.firewall.refuse(error))
    }
}

fn is_tool_request(piece: &Piece) -> bool {
    matches!(piece, Piece::ToolRequest(_))
}
