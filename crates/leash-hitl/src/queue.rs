//! Where questions to humans are kept: the trait [`HitlQueue`]. Its laws are in `crate::conformance`.

use std::fmt;

use async_trait::async_trait;
use leash_core::StoreError;
use tokio::sync::watch;

use crate::{CallHash, Closing, Decided, Entry, Grant, GrantUse, NewEntry, Ruling, Standing, Status, Which};

/// The most entries that may be open at once: a flood of questions must not bury the one that matters.
pub const MAX_OPEN: usize = 10_000;

/// Keeps questions, decisions and grants, for many programs at once.
///
/// Every method is atomic. What moves an entry does so from one state to the next only, so of many that try at once,
/// one succeeds.
#[async_trait]
pub trait HitlQueue: fmt::Debug + Send + Sync + 'static {
    /// Keeps `new` and gives the entry that stands for it: one for the same hash that is approved, unconsumed and not
    /// over; or else one that is open, whose time is extended to that of `new`; or else a new one.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot tell whether it did, or [`MAX_OPEN`] entries are open.
    async fn enqueue(&self, new: &NewEntry) -> Result<Entry, StoreError>;

    /// Lets a human decide an entry that is open.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot tell whether it did.
    async fn decide(&self, id: &str, ruling: &Ruling) -> Result<Decided, StoreError>;

    /// Uses up the approval of an entry: `true` for exactly one of all who ask, and only where the entry is approved,
    /// not over, and bound to `hash`.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot tell: the call is refused, whether or not the approval is used up.
    async fn consume(&self, id: &str, hash: &CallHash) -> Result<bool, StoreError>;

    /// Closes a pending entry without a human; whether it did.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot tell.
    async fn close(&self, id: &str, closing: &Closing) -> Result<bool, StoreError>;

    /// The entry with this id.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot tell.
    async fn get(&self, id: &str) -> Result<Option<Entry>, StoreError>;

    /// Of `ids`, those that are pending no longer, each with its entry, or with `None` where there is none. Asked at every
    /// change on behalf of all who wait in this process, so it should be one question, however many they are.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot tell.
    async fn moved(&self, ids: &[String]) -> Result<Vec<(String, Option<Entry>)>, StoreError> {
        let mut moved = Vec::new();
        for id in ids {
            let entry = self.get(id).await?;
            if entry.as_ref().is_none_or(|entry| entry.status != Status::Pending) {
                moved.push((id.clone(), entry));
            }
        }
        Ok(moved)
    }

    /// The entries, oldest first, at most [`MAX_OPEN`].
    ///
    /// # Errors
    /// [`StoreError`] when it cannot tell.
    async fn list(&self, which: Which) -> Result<Vec<Entry>, StoreError>;

    /// Marked as changed whenever an entry may have moved. A hint: who waits also asks now and then.
    fn changes(&self) -> watch::Receiver<u64>;

    /// Keeps a grant; `false` where its name is taken, be it by one that is revoked.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot tell whether it did.
    async fn add_grant(&self, grant: &Grant) -> Result<bool, StoreError>;

    /// All grants, oldest first, also those that are used up, revoked or over.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot tell.
    async fn grants(&self) -> Result<Vec<Standing>, StoreError>;

    /// Counts one use of a grant, unless it is used up, revoked or over: then `None`.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot tell: the call is refused, whether or not the use is counted.
    async fn use_grant(&self, name: &str) -> Result<Option<GrantUse>, StoreError>;

    /// Ends a grant; `false` where none of this name stands.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot tell whether it did.
    async fn revoke_grant(&self, name: &str) -> Result<bool, StoreError>;
}
