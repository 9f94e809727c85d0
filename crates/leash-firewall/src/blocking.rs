//! [`BlockingFirewall`]: the twin for synchronous programs.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use leash_budget::Grant;
use leash_core::{Call, Json, LeashError, ModelCall, SessionId, StoreError, ToolCall, Usd};
use leash_hitl::{Entry, ResumeError, Ruling};
use tokio::runtime::Runtime;

use crate::{
    Admission, Answer, Answered, Charge, Firewall, GuardedError, ModelAnswer, ModelFailure, Receipt,
};

/// A [`Firewall`] whose calls block the thread until they are done. Works inside an async runtime too, where it
/// blocks that runtime's thread.
///
/// Nothing is handed to another thread: while the stores answer at once, a blocking call costs what an async one
/// does. Timers of gates run on a thread of its own.
///
/// ```
/// use leash_firewall::Firewall;
/// use serde_json::json;
///
/// let fw = Firewall::builder().budget_usd(1.00).build()?.blocking()?;
/// let found = fw.tool("add", json!([1, 2]), |_| Ok::<_, std::io::Error>(json!(3)))?;
/// assert_eq!(found.value, 3);
/// assert_eq!(fw.cumulative()?.to_string(), "0.00");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct BlockingFirewall {
    firewall: Firewall,
    runtime: Arc<Background>,
}

impl fmt::Debug for BlockingFirewall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BlockingFirewall").field(&self.firewall).finish()
    }
}

/// Drives timers and sockets while a thread is blocked.
struct Background(Option<Runtime>);

impl Drop for Background {
    fn drop(&mut self) {
        // A plain drop would panic inside another runtime.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Firewall {
    /// The twin of this handle for synchronous code.
    ///
    /// # Errors
    /// [`io::Error`] where the thread for its timers cannot be started.
    pub fn blocking(&self) -> io::Result<BlockingFirewall> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("leash-blocking")
            .enable_all()
            .build()?;
        Ok(BlockingFirewall {
            firewall: self.clone(),
            runtime: Arc::new(Background(Some(runtime))),
        })
    }
}

impl BlockingFirewall {
    /// The async handle.
    #[must_use]
    pub const fn firewall(&self) -> &Firewall {
        &self.firewall
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let _context = self.runtime.0.as_ref().map(|runtime| runtime.enter());
        block_on(future)
    }

    /// As [`Firewall::admit`].
    ///
    /// # Errors
    /// [`LeashError`] where the call is refused.
    pub fn admit(&self, call: impl Into<Call>) -> Result<Admission, LeashError> {
        self.block_on(self.firewall.admit(call))
    }

    /// As [`Admission::settle`].
    #[must_use = "the receipt says how the paperwork went"]
    pub fn settle(&self, admission: Admission, answer: Answer) -> Receipt {
        self.block_on(admission.settle(answer))
    }

    /// As [`Admission::fail`].
    #[must_use = "the receipt says how the paperwork went"]
    pub fn fail(&self, admission: Admission) -> Receipt {
        self.block_on(admission.fail())
    }

    /// As [`Firewall::model`]; a kill order is seen before and after `run`, not during it.
    ///
    /// # Errors
    /// [`GuardedError`] where the call is refused or `run` fails.
    pub fn model<T, E>(
        &self,
        call: ModelCall,
        run: impl FnOnce(ModelCall) -> Result<ModelAnswer<T>, ModelFailure<E>>,
    ) -> Result<Answered<T>, GuardedError<E>> {
        self.block_on(self.firewall.model(call, async |call| run(call)))
    }

    /// As [`Firewall::tool`]; a kill order is seen before and after `run`, not during it.
    ///
    /// # Errors
    /// [`GuardedError`] where the call is refused or `run` fails.
    pub fn tool<R: Clone + Into<Json>, E>(
        &self,
        tool: impl Into<Arc<str>>,
        args: impl Into<Json>,
        run: impl FnOnce(ToolCall) -> Result<R, E>,
    ) -> Result<Answered<R>, GuardedError<E>> {
        self.block_on(self.firewall.tool(tool, args, async |call| run(call)))
    }

    /// As [`Firewall::charge`].
    ///
    /// # Errors
    /// [`LeashError`] where nothing was charged.
    pub fn charge(&self, charge: Charge) -> Result<Receipt, LeashError> {
        self.block_on(self.firewall.charge(charge))
    }

    /// As [`Firewall::give`].
    ///
    /// # Errors
    /// [`LeashError`] where nothing was granted.
    pub fn give(&self, amount: Usd) -> Result<Grant, LeashError> {
        self.block_on(self.firewall.give(amount))
    }

    /// As [`Firewall::child`].
    ///
    /// # Errors
    /// [`LeashError`] where nothing was granted.
    pub fn child(&self, id: SessionId, amount: Usd) -> Result<Self, LeashError> {
        Ok(Self {
            firewall: self.block_on(self.firewall.child(id, amount))?,
            runtime: self.runtime.clone(),
        })
    }

    /// As [`Firewall::give_back`].
    ///
    /// # Errors
    /// [`LeashError`] where there is nothing to give back, or the store cannot tell.
    pub fn give_back(&self) -> Result<Usd, LeashError> {
        self.block_on(self.firewall.give_back())
    }

    /// As [`Firewall::reclaim`].
    ///
    /// # Errors
    /// [`LeashError`] where the store cannot tell.
    pub fn reclaim(&self, grant: &Grant) -> Result<Usd, LeashError> {
        self.block_on(self.firewall.reclaim(grant))
    }

    /// As [`Firewall::kill`].
    ///
    /// # Errors
    /// [`StoreError`] where the order could not be kept or written down.
    pub fn kill(&self, reason: &str) -> Result<(), StoreError> {
        self.block_on(self.firewall.kill(reason))
    }

    /// As [`Firewall::resume`].
    ///
    /// # Errors
    /// [`ResumeError`] where nothing was decided, or it could not be written down.
    pub fn resume(&self, token: &str, decision: &Ruling) -> Result<Entry, ResumeError> {
        self.block_on(self.firewall.resume(token, decision))
    }

    /// As [`Firewall::cumulative`].
    ///
    /// # Errors
    /// [`StoreError`] where the budget store cannot tell.
    pub fn cumulative(&self) -> Result<Usd, StoreError> {
        self.block_on(self.firewall.cumulative())
    }

    /// As [`Firewall::close`].
    ///
    /// # Errors
    /// [`StoreError`] where the log could not be written.
    pub fn close(&self) -> Result<(), StoreError> {
        self.block_on(self.firewall.close())
    }
}

/// Wakes a thread that waits for a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls `future` on this thread until it is done. Unlike a runtime's own, it may be nested in any of them.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}
