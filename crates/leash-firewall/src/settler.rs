//! The thread that ends calls which nobody else ends: dropped admissions, settlements whose caller went away,
//! reservations whose lease ran out.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, oneshot};

use leash_audit::AuditError;
use leash_core::ReservationId;

use crate::admission::Ending;
use crate::firewall::Shared;

/// How often leases that ran out are looked for, and refusals that were counted are written.
const SWEEP: Duration = Duration::from_secs(1);
/// How many expired reservations are charged in one go.
const SWEEP_LIMIT: usize = 1_000;
/// How long a store that failed is left alone before it is asked again.
const RETRY: Duration = Duration::from_millis(250);

/// What the thread is asked to do.
pub(crate) enum Job {
    /// End this call.
    End(Box<Ending>),
    /// Give this reservation back: its call was never admitted.
    Release(Arc<Shared>, ReservationId, Permit),
    /// Make the log durable when everything before this is done, and say how that went.
    Flush(Arc<Shared>, oneshot::Sender<Result<(), AuditError>>),
}

/// The way to the thread. Each call under way holds a [`Permit`], so that a dropped one always finds room.
#[derive(Debug)]
pub(crate) struct Settler {
    permits: Arc<Semaphore>,
    jobs: Sender<Job>,
    /// One flush at a time: the queue has room for one besides the calls.
    flushing: Mutex<()>,
}

/// The right to be under way, and room in the thread's queue.
#[derive(Debug)]
pub(crate) struct Permit {
    _permit: OwnedSemaphorePermit,
}

impl Settler {
    pub(crate) fn new(capacity: usize) -> (Self, Receiver<Job>) {
        let capacity = capacity.min(Semaphore::MAX_PERMITS / 2);
        let (jobs, receiver) = channel(capacity.saturating_add(1));
        (
            Self {
                permits: Arc::new(Semaphore::new(capacity)),
                jobs,
                flushing: Mutex::default(),
            },
            receiver,
        )
    }

    /// A permit, unless as many calls as may be are under way, or the firewall is closed.
    pub(crate) fn permit(&self) -> Option<Permit> {
        let permit = self.permits.clone().try_acquire_owned().ok()?;
        Some(Permit { _permit: permit })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.permits.is_closed()
    }

    /// Hands a call over. Where the thread is gone its lease is the last resort, and somebody is told.
    pub(crate) fn end(&self, ending: Box<Ending>) {
        if self.jobs.try_send(Job::End(ending)).is_err() {
            tracing::error!(target: "llm_leash", "a call could not be handed to the settling thread; its lease will end it");
        }
    }

    /// Gives a reservation back whose call was not admitted after all.
    pub(crate) fn release(shared: &Arc<Shared>, id: ReservationId, permit: Permit) {
        if shared
            .settler
            .jobs
            .try_send(Job::Release(shared.clone(), id, permit))
            .is_err()
        {
            tracing::error!(target: "llm_leash", "a reservation could not be given back; its lease will end it");
        }
    }

    /// Lets no further call begin.
    pub(crate) fn close(&self) {
        self.permits.close();
    }

    /// Waits until what was handed over is done and the log is durable.
    pub(crate) async fn flush(shared: &Arc<Shared>) -> Result<(), AuditError> {
        let settler = &shared.settler;
        let _one_at_a_time = settler.flushing.lock().await;
        let (done, wait) = oneshot::channel();
        // Where the thread is gone, nothing is left to wait for.
        match settler.jobs.send(Job::Flush(shared.clone(), done)).await {
            Ok(()) => wait.await.unwrap_or_else(|_| shared.journal.flush()),
            Err(_) => shared.journal.flush(),
        }
    }
}

/// Starts the thread. It ends when the last handle on the firewall is gone and its queue is empty.
pub(crate) fn start(jobs: Receiver<Job>, shared: Weak<Shared>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let run = move || runtime.block_on(serve(jobs, shared));
    std::thread::Builder::new()
        .name("leash-settler".into())
        .spawn(run)
        .map(drop)
}

async fn serve(mut jobs: Receiver<Job>, shared: Weak<Shared>) {
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            job = jobs.recv() => match job {
                Some(Job::End(ending)) => end(ending).await,
                Some(Job::Release(shared, id, _permit)) => release(&shared, id).await,
                // It blocks, which harms nobody on this thread. Whoever asked may have stopped waiting.
                Some(Job::Flush(shared, done)) => drop(done.send(shared.journal.flush())),
                None => return,
            },
            _ = sweep.tick() => {
                let Some(shared) = shared.upgrade() else { continue };
                shared.sweep(SWEEP_LIMIT).await;
            }
        }
    }
}

/// Ends a call; a store that fails is asked again for as long as the reservation stands.
async fn end(mut ending: Box<Ending>) {
    let mut waited = Duration::ZERO;
    loop {
        ending.run().await;
        if ending.is_done() || waited >= ending.lease() {
            return;
        }
        tokio::time::sleep(RETRY).await;
        waited = waited.saturating_add(RETRY);
    }
}

/// Gives a reservation back; a store that fails is asked again for as long as it stands.
async fn release(shared: &Shared, id: ReservationId) {
    let mut waited = Duration::ZERO;
    while let Err(error) = shared.store.release(id).await {
        if waited >= shared.lease {
            tracing::error!(target: "llm_leash", %error, "failed to give back a reservation; its lease ended it");
            return;
        }
        tokio::time::sleep(RETRY).await;
        waited = waited.saturating_add(RETRY);
    }
}
