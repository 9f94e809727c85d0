//! The thread that ends calls which nobody else ends: dropped admissions, settlements whose caller went away,
//! reservations whose lease ran out.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use leash_audit::{Appended, AuditError};
use leash_budget::{BudgetStore, Written};
use leash_core::ReservationId;

use crate::admission::Ending;
use crate::path::Shared;

/// How often leases that ran out are looked for, and refusals that were counted are written.
const SWEEP: Duration = Duration::from_secs(1);
/// How many expired reservations are charged in one go.
const SWEEP_LIMIT: usize = 1_000;
/// How long a store that failed is left alone before it is asked again.
const RETRY: Duration = Duration::from_millis(250);

/// How long after one batch of lines was confirmed the next one is, at the soonest, unless it is full.
const CONFIRM_EVERY: Duration = Duration::from_millis(50);
/// How many lines make a full batch.
const CONFIRM_AT: usize = 256;
/// How long the lines of a batch may take to become durable. Those that take longer are not confirmed.
const DURABLE_WITHIN: Duration = Duration::from_secs(5);
/// How many lines may wait to be confirmed. Beyond that they are not, and somebody writes them once more.
const CONFIRM_MOST: usize = 16_384;

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
    lines: Arc<Lines>,
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
                lines: Arc::default(),
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

    /// Has the store told of a line that is written, and as durable as the log promises when `ticket` says so.
    pub(crate) fn wrote(&self, line: Written, ticket: Option<Appended>) {
        self.lines.add(line, ticket);
    }

    /// The ids of the lines that the store was not told of yet.
    pub(crate) fn unconfirmed(&self) -> HashSet<ReservationId> {
        self.lines.lock().iter().map(|(line, _)| line.id).collect()
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

/// Lines that are written and that the store was not told of yet.
#[derive(Debug, Default)]
struct Lines {
    list: std::sync::Mutex<Vec<(Written, Option<Appended>)>>,
    /// There is one, or a full batch of them.
    some: Notify,
}

impl Lines {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Written, Option<Appended>)>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: Written, ticket: Option<Appended>) {
        let count = {
            let mut list = self.lock();
            if list.len() >= CONFIRM_MOST {
                return;
            }
            list.push((line, ticket));
            list.len()
        };
        if count == 1 || count == CONFIRM_AT {
            self.some.notify_one();
        }
    }

    /// Tells the store of all of them. Returns whether none is left that it could not be told of.
    async fn confirm(&self, store: &dyn BudgetStore) -> bool {
        let all = std::mem::take(&mut *self.lock());
        let mut lines = Vec::with_capacity(all.len());
        // One deadline for all: a disk that hangs must not keep this thread from what else it has to end.
        let late = tokio::time::sleep(DURABLE_WITHIN).deadline();
        for (line, ticket) in all {
            let is_durable = match ticket {
                Some(ticket) => matches!(tokio::time::timeout_at(late, ticket.durable()).await, Ok(Ok(()))),
                None => true,
            };
            if is_durable {
                lines.push(line);
            }
        }
        let mut rest = lines.as_slice();
        while let Some((some, others)) = rest.split_at_checked(rest.len().min(CONFIRM_AT))
            && !some.is_empty()
        {
            if let Err(error) = store.confirm(some).await {
                tracing::warn!(target: "llm_leash", %error, "the budget store could not be told of lines that are written; it is tried again");
                let mut list = self.lock();
                let room = CONFIRM_MOST.saturating_sub(list.len());
                list.extend(rest.iter().take(room).map(|line| (*line, None)));
                return false;
            }
            rest = others;
        }
        true
    }
}

/// Starts the thread. It ends when the last handle on the firewall is gone and its queue is empty.
pub(crate) fn start(jobs: Receiver<Job>, shared: &Arc<Shared>) -> std::io::Result<()> {
    let told = Told {
        store: shared.store.clone(),
        lines: shared.settler.lines.clone(),
        next: Instant::now(),
        is_due: false,
    };
    let (permits, shared) = (shared.settler.permits.clone(), Arc::downgrade(shared));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let run = move || runtime.block_on(serve(jobs, permits, shared, told));
    std::thread::Builder::new()
        .name("leash-settler".into())
        .spawn(run)
        .map(drop)
}

/// What the store is told of lines, and when.
struct Told {
    store: Arc<dyn BudgetStore>,
    lines: Arc<Lines>,
    /// Not before this.
    next: Instant,
    /// Whether there are any.
    is_due: bool,
}

impl Told {
    async fn confirm(&mut self) {
        let done = self.lines.confirm(&*self.store).await;
        let pause = if done { CONFIRM_EVERY } else { RETRY };
        let now = Instant::now();
        self.next = now.checked_add(pause).unwrap_or(now);
        self.is_due = !done;
    }

    /// There are lines: the first, to be confirmed when its time comes, or a full batch, at once.
    fn note(&mut self) {
        if self.is_due {
            self.next = Instant::now();
        }
        self.is_due = true;
    }
}

async fn serve(mut jobs: Receiver<Job>, permits: Arc<Semaphore>, shared: Weak<Shared>, mut told: Told) {
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut retry = tokio::time::interval(RETRY);
    retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // What a store could not be told yet. Each has a permit, so there are no more of them than calls under way.
    let mut untold: Vec<Untold> = Vec::new();
    let lines = told.lines.clone();
    loop {
        tokio::select! {
            job = jobs.recv() => match job {
                Some(Job::End(ending)) => tell(Work::End(ending), &mut untold).await,
                Some(Job::Release(shared, id, permit)) => tell(Work::Release { shared, id, _permit: permit }, &mut untold).await,
                Some(Job::Flush(shared, done)) => {
                    tell_again(&mut untold).await;
                    // It blocks, which harms nobody on this thread.
                    let flushed = shared.journal.flush();
                    if flushed.is_ok() {
                        told.confirm().await;
                    }
                    // Before anybody hears of it: whoever closed the firewall and lets go of it can open its log anew.
                    drop(shared);
                    // Whoever asked may have stopped waiting.
                    drop(done.send(flushed));
                }
                // Whoever is left to write lines need not write these.
                None => {
                    told.confirm().await;
                    return;
                }
            },
            () = lines.some.notified() => told.note(),
            () = tokio::time::sleep_until(told.next.into()), if told.is_due => told.confirm().await,
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
                if ending.is_done() {
                    ending.confirm();
                }
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
            if let Work::End(ending) = &mut one.work {
                ending.lapse();
            }
        }
    }
}
