//! The thread of a database file: it takes what waits, does all of it in one transaction, and answers after the commit.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use leash_core::{Clock, StoreError, StoreErrorKind};
use leash_store::rusqlite::{self, Connection, TransactionBehavior};
use leash_store::{Sqlite, sqlite_error};
use tokio::sync::{mpsc, oneshot};

use super::ledger::{Fault, Ledger, Life, life};
use crate::Generation;

/// How many operations wait at most; whoever comes then waits for a place, for as long as it may wait at all.
const QUEUE: usize = 1_024;
/// The most operations in one transaction: it keeps the writers of other processes out.
const MOST_IN_BATCH: usize = 256;
/// How often a thread that found nothing to prune looks again.
const PRUNE_EVERY: Duration = Duration::from_mins(1);
/// The fewest rows that are pruned at once, where there are any.
const PRUNE_LEAST: usize = 64;

/// What a lane does with the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// What to do with an operation whose caller no longer waits before it was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Orphan {
    /// It is left out: nobody would know of it.
    Dropped,
    /// It is done: it says what happened to money.
    Kept,
    /// It is done, alone, and whatever life the store is in: it begins a new one.
    Begins,
}

/// Which file, and what its store is known to have come to.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) path: PathBuf,
    identity: FileIdentity,
    life: Mutex<Life>,
}

/// What tells the file apart from another that takes its place.
#[cfg(unix)]
type FileIdentity = (u64, u64);
/// Windows keeps an open file in its place.
#[cfg(not(unix))]
type FileIdentity = ();

#[cfg(unix)]
fn identity(path: &std::path::Path) -> std::io::Result<FileIdentity> {
    use std::os::unix::fs::MetadataExt as _;
    let file = std::fs::metadata(path)?;
    Ok((file.dev(), file.ino()))
}

#[cfg(not(unix))]
fn identity(path: &std::path::Path) -> std::io::Result<FileIdentity> {
    std::fs::metadata(path).map(|_| ())
}

impl Known {
    pub(super) fn new(path: PathBuf, life: Life) -> Result<Self, StoreError> {
        let identity = identity(&path).map_err(|error| {
            StoreError::new(
                StoreErrorKind::Generation,
                format!("look at the budget `{}`", path.display()),
            )
            .with_source(error)
        })?;
        Ok(Self {
            path,
            identity,
            life: Mutex::new(life),
        })
    }

    /// The life of the file as far as this process knows it.
    pub(super) fn generation(&self) -> Generation {
        self.life().generation
    }

    fn life(&self) -> Life {
        // A life is replaced as a whole, so whoever panicked left a whole one.
        self.life.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, life: Life) {
        let mut known = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        if known.generation != life.generation || known.turn < life.turn {
            *known = life;
        }
    }

    /// Whether what is at the path is still the file that was opened.
    fn is_in_place(&self) -> bool {
        identity(&self.path).is_ok_and(|now| now == self.identity)
    }
}

/// Why a whole transaction came to nothing, for each of those who wait for it.
#[derive(Debug)]
struct Failure {
    kind: StoreErrorKind,
    because: String,
}

impl Failure {
    fn lost(because: impl Into<String>) -> Self {
        Self {
            kind: StoreErrorKind::Generation,
            because: because.into(),
        }
    }

    /// Whether one operation of many may be the cause, so that the others should be tried without it.
    fn may_be_of_one(&self) -> bool {
        matches!(
            self.kind,
            StoreErrorKind::Conflict | StoreErrorKind::Corrupt | StoreErrorKind::Io
        )
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let because = error.to_string();
        Self {
            kind: sqlite_error("", error).kind(),
            because,
        }
    }
}

/// An operation that waits, and whoever waits for it.
trait Job: Send {
    fn orphan(&self) -> Orphan;
    fn is_orphan(&self) -> bool;
    /// May be called again after a transaction that came to nothing.
    fn run(&mut self, ledger: &mut Ledger<'_>) -> rusqlite::Result<()>;
    fn answer(self: Box<Self>, failure: Option<&Failure>);
}

struct Pending<T, F> {
    what: &'static str,
    orphan: Orphan,
    work: F,
    done: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Pending<T, F>
where
    T: Send,
    F: FnMut(&mut Ledger<'_>) -> Result<T, Fault> + Send,
{
    fn orphan(&self) -> Orphan {
        self.orphan
    }

    fn is_orphan(&self) -> bool {
        self.reply.is_closed()
    }

    fn run(&mut self, ledger: &mut Ledger<'_>) -> rusqlite::Result<()> {
        self.done = Some(match (self.work)(ledger) {
            Ok(value) => Ok(value),
            Err(Fault::Answer(error)) => Err(error),
            Err(Fault::Batch(error)) => return Err(error),
        });
        Ok(())
    }

    fn answer(self: Box<Self>, failure: Option<&Failure>) {
        let answer = match (failure, self.done) {
            (None, Some(done)) => done,
            (None, None) => Err(StoreError::new(StoreErrorKind::Unavailable, self.what)),
            (Some(failure), _) => {
                Err(StoreError::new(failure.kind, self.what).with_source(failure.because.clone()))
            }
        };
        // Whoever gave up hears nothing.
        drop(self.reply.send(answer));
    }
}

/// The way to the thread of a database file.
#[derive(Debug)]
pub(super) struct Lane {
    jobs: mpsc::Sender<Box<dyn Job>>,
}

impl Lane {
    /// Takes the thread of `file` for as long as this lives.
    pub(super) async fn open(
        file: Sqlite,
        access: Access,
        known: Arc<Known>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let (jobs, waiting) = mpsc::channel(QUEUE);
        let (begun, has_begun) = oneshot::channel();
        let thread = Thread {
            access,
            known,
            clock,
            next_prune: None,
        };
        // The work goes on without this task once it is handed over: it ends when nobody can ask any more.
        tokio::spawn(async move {
            let served = file.call("serve the budget file", move |db| {
                let _ = begun.send(());
                thread.serve(db, waiting);
                Ok(())
            });
            drop(served.await);
        });
        has_begun.await.map_err(|_| {
            StoreError::new(StoreErrorKind::Unavailable, "start the thread of the budget file")
        })?;
        Ok(Self { jobs })
    }

    /// Has `work` done and waits for the commit, `patience` at most.
    pub(super) async fn ask<T, F>(
        &self,
        what: &'static str,
        orphan: Orphan,
        patience: Duration,
        work: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Ledger<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let gone = || StoreError::new(StoreErrorKind::Unavailable, what);
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Pending {
            what,
            orphan,
            work,
            done: None,
            reply,
        });
        let asked = async {
            self.jobs.send(job).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        };
        tokio::time::timeout(patience, asked)
            .await
            .unwrap_or_else(|_| Err(StoreError::new(StoreErrorKind::Timeout, what)))
    }
}

struct Thread {
    access: Access,
    known: Arc<Known>,
    clock: Arc<dyn Clock>,
    /// In microseconds; `None`: at once.
    next_prune: Option<i64>,
}

impl Thread {
    fn serve(mut self, db: &mut Connection, mut waiting: mpsc::Receiver<Box<dyn Job>>) {
        let mut batch: Vec<Box<dyn Job>> = Vec::with_capacity(MOST_IN_BATCH);
        while let Some(first) = waiting.blocking_recv() {
            let mut next = Some(first);
            let mut alone = None;
            while let Some(job) = next {
                match job.orphan() {
                    Orphan::Begins => {
                        alone = Some(job);
                        break;
                    }
                    Orphan::Dropped if job.is_orphan() => {}
                    Orphan::Dropped | Orphan::Kept => batch.push(job),
                }
                next = (batch.len() < MOST_IN_BATCH)
                    .then(|| waiting.try_recv().ok())
                    .flatten();
            }
            self.work_off(db, &mut batch);
            batch.extend(alone);
            self.work_off(db, &mut batch);
        }
    }

    /// All of `batch` in one transaction, or each in its own where one of them spoils it for the others.
    fn work_off(&mut self, db: &mut Connection, batch: &mut Vec<Box<dyn Job>>) {
        if batch.is_empty() {
            return;
        }
        match self.transact(db, batch) {
            Ok(()) => batch.drain(..).for_each(|job| job.answer(None)),
            Err(failure) if batch.len() > 1 && failure.may_be_of_one() => {
                for mut job in batch.drain(..) {
                    let failure = self.transact(db, std::slice::from_mut(&mut job)).err();
                    job.answer(failure.as_ref());
                }
            }
            Err(failure) => batch.drain(..).for_each(|job| job.answer(Some(&failure))),
        }
    }

    fn transact(&mut self, db: &mut Connection, batch: &mut [Box<dyn Job>]) -> Result<(), Failure> {
        let begins = batch.iter().any(|job| job.orphan() == Orphan::Begins);
        let behavior = match self.access {
            Access::Read => TransactionBehavior::Deferred,
            Access::Write => TransactionBehavior::Immediate,
        };
        // Asked for before the transaction begins: what this process has seen, the transaction sees.
        let known = self.known.life();
        let transaction = db.transaction_with_behavior(behavior)?;
        let mut life = match life(&transaction)? {
            Some(life) if begins || (life.generation == known.generation && life.turn >= known.turn) => life,
            Some(life) if life.generation == known.generation => {
                return Err(Failure::lost(
                    "the file is an older one than this process has written to",
                ));
            }
            Some(_) => return Err(Failure::lost("the file began a new life")),
            None if begins => known,
            None => return Err(Failure::lost("the file holds no budget any more")),
        };
        let now = self.clock.now();
        let changes = transaction.total_changes();
        let mut ledger = Ledger::new(&transaction, now);
        for job in batch.iter_mut() {
            job.run(&mut ledger)?;
        }
        ledger.flush()?;
        if let Some(generation) = ledger.begun.take() {
            life = Life { generation, turn: 0 };
        }
        if self.access == Access::Write && self.next_prune.is_none_or(|at| at <= now.as_unix_micros()) {
            let most = batch.len().saturating_mul(4).max(PRUNE_LEAST);
            self.next_prune = if ledger.prune(most)? {
                None
            } else {
                Some(now.saturating_add(PRUNE_EVERY).as_unix_micros())
            };
        }
        drop(ledger);
        if transaction.total_changes() != changes {
            life.turn = life.turn.saturating_add(1);
            transaction
                .prepare_cached("UPDATE leash_budget_life SET turn = ?1 WHERE one = 1")?
                .execute([life.turn])?;
        }
        transaction.commit()?;
        self.known.remember(life);
        // After the commit: what is acknowledged was written to the file that others find at the path.
        if self.known.is_in_place() {
            Ok(())
        } else {
            Err(Failure::lost("another file is in its place"))
        }
    }
}
