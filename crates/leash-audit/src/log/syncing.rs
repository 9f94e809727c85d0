//! When lines are on disk: the thread that sees to it, and those who wait for it ([`Appended`], [`Durable`]). Knows
//! lines by their numbers only.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::{Core, Durability};
use crate::AuditError;

/// A line that is in the log.
#[must_use = "with `Durability::Each` the line is on disk when `wait` or `durable` says so"]
pub struct Appended {
    pub(super) seq: u64,
    pub(super) core: Option<Arc<Core>>,
}

impl Appended {
    /// Its number.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// Blocks until the line is as durable as the log was opened to make it.
    ///
    /// # Errors
    /// [`AuditError::NotDurable`] when the disk failed.
    pub fn wait(&self) -> Result<(), AuditError> {
        let Some(core) = &self.core else { return Ok(()) };
        let mut sync = core.sync.lock().map_err(|_| core.poison())?;
        while sync.durable <= self.seq {
            if sync.failed {
                return Err(AuditError::NotDurable {
                    path: core.path.clone(),
                });
            }
            sync = core.done.wait(sync).map_err(|_| core.poison())?;
        }
        Ok(())
    }

    /// Becomes ready when the line is as durable as the log was opened to make it.
    #[must_use]
    pub fn durable(self) -> Durable {
        Durable {
            appended: self,
            ticket: None,
        }
    }
}

impl fmt::Debug for Appended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appended")
            .field("seq", &self.seq)
            .finish_non_exhaustive()
    }
}

/// See [`Appended::durable`]. Gives [`AuditError::NotDurable`] when the disk failed.
#[derive(Debug)]
pub struct Durable {
    appended: Appended,
    /// Under which number the waker is registered.
    ticket: Option<u64>,
}

impl Future for Durable {
    type Output = Result<(), AuditError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(core) = self.appended.core.clone() else {
            return Poll::Ready(Ok(()));
        };
        let Ok(mut sync) = core.sync.lock() else {
            return Poll::Ready(Err(core.poison()));
        };
        if sync.durable > self.appended.seq {
            return Poll::Ready(Ok(()));
        }
        if sync.failed {
            return Poll::Ready(Err(AuditError::NotDurable {
                path: core.path.clone(),
            }));
        }
        let waker = context.waker();
        if let Some(ticket) = self.ticket
            && let Some(waiter) = sync.waiters.iter_mut().find(|waiter| waiter.ticket == ticket)
        {
            waiter.waker.clone_from(waker);
        } else {
            let ticket = sync.next_ticket;
            sync.next_ticket = ticket.wrapping_add(1);
            sync.waiters.push(Waiter {
                ticket,
                seq: self.appended.seq,
                waker: waker.clone(),
            });
            self.ticket = Some(ticket);
        }
        Poll::Pending
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        if let (Some(ticket), Some(core)) = (self.ticket, &self.appended.core)
            && let Ok(mut sync) = core.sync.lock()
        {
            sync.waiters.retain(|waiter| waiter.ticket != ticket);
        }
    }
}

#[derive(Default)]
pub(super) struct Sync {
    /// Lines below this number are on disk.
    pub(super) durable: u64,
    pub(super) failed: bool,
    pub(super) stopping: bool,
    pub(super) waiters: Vec<Waiter>,
    pub(super) next_ticket: u64,
}

pub(super) struct Waiter {
    ticket: u64,
    seq: u64,
    waker: Waker,
}

impl Core {
    pub(super) fn appended(self: &Arc<Self>, seq: u64) -> Appended {
        let core = (self.durability == Durability::Each).then(|| Arc::clone(self));
        Appended { seq, core }
    }

    /// Tells the syncing thread, if there is one, that lines were written.
    pub(super) fn mark_dirty(&self) {
        if self.durability != Durability::None && !self.dirty.swap(true, Ordering::AcqRel) {
            // The lock is what keeps the word from being said between the thread's last look and its sleep.
            let sync = self.sync.lock().unwrap_or_else(PoisonError::into_inner);
            self.wake.notify_one();
            drop(sync);
        }
    }

    /// The syncing thread.
    pub(super) fn keep_syncing(&self) {
        loop {
            let Ok(mut sync) = self.sync.lock() else { return };
            while !self.dirty.load(Ordering::Acquire) {
                if sync.stopping {
                    return;
                }
                let Ok(again) = self.wake.wait(sync) else { return };
                sync = again;
            }
            if let Durability::Interval(interval) = self.durability {
                let begun = Instant::now();
                while !sync.stopping
                    && let Some(left) = interval
                        .checked_sub(begun.elapsed())
                        .filter(|left| !left.is_zero())
                {
                    let Ok((again, _)) = self.wake.wait_timeout(sync, left) else {
                        return;
                    };
                    sync = again;
                }
            }
            drop(sync);
            self.dirty.store(false, Ordering::Release);
            let written = self.written.load(Ordering::Acquire);
            if self.file.sync_data().is_err() {
                self.give_up();
                return;
            }
            self.set_durable(written);
        }
    }

    /// After a failed sync the system may have thrown the lines away and forgotten that it did, so no later sync
    /// says anything about them.
    pub(super) fn give_up(&self) {
        self.not_durable.store(true, Ordering::Release);
        self.trouble.store(true, Ordering::Release);
        let mut sync = self.sync.lock().unwrap_or_else(PoisonError::into_inner);
        sync.failed = true;
        let waiters = std::mem::take(&mut sync.waiters);
        drop(sync);
        self.done.notify_all();
        for waiter in waiters {
            waiter.waker.wake();
        }
    }

    pub(super) fn set_durable(&self, written: u64) {
        let mut sync = self.sync.lock().unwrap_or_else(PoisonError::into_inner);
        sync.durable = sync.durable.max(written);
        let durable = sync.durable;
        let ready: Vec<_> = sync
            .waiters
            .extract_if(.., |waiter| waiter.seq < durable)
            .collect();
        drop(sync);
        self.done.notify_all();
        for waiter in ready {
            waiter.waker.wake();
        }
    }
}
