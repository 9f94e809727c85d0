//! The thread that ends calls which nobody else ends: dropped admissions, settlements whose caller went away,
//! reservations whose lease ran out.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, oneshot};

use leash_audit::AuditError;
use leash_core::ReservationId;

use crate::admission::Ending;
use crate::path::Shared;

/// How often leases that ran out are looked for, and refusals that were counted are written.
const SWEEP: Duration = Duration::from_secs(1);
/// How many expired reservations are charged in one go.
const SWEEP_LIMIT: usize = 1_000;
/// How long a store that failed is left alone before it is asked again.
const RETRY: Duration = Duration::from_millis(250);

/// How many charges from outside may wait for a store that fails. They set nothing aside, so no lease ends them.
const CHARGES: usize = 1_024;

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
    charges: Arc<Semaphore>,
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
        let (jobs, receiver) = channel(capacity.saturating_add(CHARGES).saturating_add(1));
        (
            Self {
                permits: Arc::new(Semaphore::new(capacity)),
                charges: Arc::new(Semaphore::new(CHARGES)),
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

    /// A permit for a charge from outside, which is recorded also where no call may begin any more.
    pub(crate) fn charge_permit(&self) -> Option<Permit> {
        let permit = self.charges.clone().try_acquire_owned().ok()?;
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
pub(crate) fn start(jobs: Receiver<Job>, shared: &Arc<Shared>) -> std::io::Result<()> {
    let (permits, shared) = (shared.settler.permits.clone(), Arc::downgrade(shared));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let run = move || runtime.block_on(serve(jobs, permits, shared));
    std::thread::Builder::new()
        .name("leash-settler".into())
        .spawn(run)
        .map(drop)
}

async fn serve(mut jobs: Receiver<Job>, permits: Arc<Semaphore>, shared: Weak<Shared>) {
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut retry = tokio::time::interval(RETRY);
    retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // What a store could not be told yet. Each has a permit, so there are no more of them than calls under way.
    let mut untold: Vec<Untold> = Vec::new();
    loop {
        tokio::select! {
            job = jobs.recv() => match job {
                Some(Job::End(ending)) => tell(Work::End(ending), &mut untold).await,
                Some(Job::Release(shared, id, permit)) => tell(Work::Release { shared, id, _permit: permit }, &mut untold).await,
                Some(Job::Flush(shared, done)) => {
                    tell_again(&mut untold).await;
                    // It blocks, which harms nobody on this thread.
                    let flushed = shared.journal.flush();
                    // Before anybody hears of it: whoever closed the firewall and lets go of it can open its log anew.
                    drop(shared);
                    // Whoever asked may have stopped waiting.
                    drop(done.send(flushed));
                }
                None => return,
            },
            _ = retry.tick(), if !untold.is_empty() => tell_again(&mut untold).await,
            // A firewall that is closed holds nothing of others up, its log least of all.
            _ = sweep.tick(), if !permits.is_closed() => {
                let Some(shared) = shared.upgrade() else { continue };
                shared.sweep(SWEEP_LIMIT).await;
            }
        }
    }
}

/// What a store is to be told.
enum Work {
    End(Box<Ending>),
    Release {
        shared: Arc<Shared>,
        id: ReservationId,
        _permit: Permit,
    },
}

/// What it could not be told, and until when it is worth trying: after its lease the reservation has ended itself.
struct Untold {
    work: Work,
    /// `None` where nothing ends it but being told.
    until: Option<Instant>,
}

impl Work {
    fn lease(&self) -> Option<Duration> {
        match self {
            Self::End(ending) => ending.lease(),
            Self::Release { shared, .. } => Some(shared.lease),
        }
    }

    /// Tries once. Returns whether it is done.
    async fn tell(&mut self) -> bool {
        match self {
            Self::End(ending) => {
                ending.run().await;
                ending.is_done()
            }
            Self::Release { shared, id, .. } => shared.store.release(*id).await.is_ok(),
        }
    }
}

async fn tell(mut work: Work, untold: &mut Vec<Untold>) {
    if !work.tell().await {
        let until = work.lease().and_then(|lease| Instant::now().checked_add(lease));
        untold.push(Untold { work, until });
    }
}

async fn tell_again(untold: &mut Vec<Untold>) {
    for mut one in std::mem::take(untold) {
        if one.work.tell().await {
            continue;
        }
        if one.until.is_none_or(|until| Instant::now() < until) {
            untold.push(one);
        } else {
            tracing::error!(target: "llm_leash", "the budget store could not be told how a call ended; its lease ended it");
        }
    }
}
