//! Where spending is kept: the trait [`BudgetStore`] and its words. Knows nothing of providers, HTTP or people.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use leash_core::{Caller, Digest, ReservationId, StoreError, Timestamp, Usd};

use crate::{Scope, ScopeKey, Window};

/// An amount to be set aside for one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Made by the caller, so that a lost reply may be asked for twice.
    pub id: ReservationId,
    /// The upper bound of the call's cost.
    pub amount: Usd,
    /// Every capped scope of the call; each pair of key and window once.
    pub scopes: Arc<[Scope]>,
    /// How long it may stand without a sign of life. Then it is charged in full by whoever meets it.
    /// [`Duration::MAX`]: until it is ended.
    pub lease: Duration,
    /// What its line in the log needs, should the process that made it die.
    pub line: HoldLine,
}

/// What the log says of a call whose process died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldLine {
    /// What was called.
    pub what: Held,
    /// Who called.
    pub caller: Caller,
    /// The log's `request_hash`.
    pub request_digest: Digest,
}

/// What an amount is set aside for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// A call of a model.
    Model {
        /// Who serves it.
        provider: Arc<str>,
        /// Its name.
        model: Arc<str>,
    },
    /// A call of a tool that has a price.
    Tool {
        /// Its name.
        tool: Arc<str>,
    },
    /// A part of a budget handed to somebody else, who spends it under a scope of its own.
    Grant {
        /// The scope that it is spent under.
        child: ScopeKey,
    },
}

/// The sums of one scope in its window: for a [`Window`] of the calendar, the one that a call was reserved in or, where
/// no call is meant, the present one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    /// Of what.
    pub key: ScopeKey,
    /// Over which span of time.
    pub window: Window,
    /// What calls that ended have cost.
    pub spent: Usd,
    /// What is set aside for calls under way.
    pub reserved: Usd,
}

impl Balance {
    /// What may still be set aside under `cap`; a scope without a cap has no such amount.
    #[must_use]
    pub fn available(&self, cap: Usd) -> Usd {
        cap.saturating_sub(self.spent).saturating_sub(self.reserved)
    }
}

/// Where a scope stands. `Ord` is by severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BudgetState {
    /// Within its caps. Spending a cap exactly is within it.
    #[default]
    Under,
    /// Above the soft cap.
    SoftExceeded,
    /// Above the cap, or refused because of it.
    HardExceeded,
}

impl BudgetState {
    /// The state of a scope that has spent so much.
    #[must_use]
    pub fn of(spent: Usd, cap: Option<Usd>, soft_cap: Option<Usd>) -> Self {
        if cap.is_some_and(|cap| spent > cap) {
            Self::HardExceeded
        } else if soft_cap.is_some_and(|cap| spent > cap) {
            Self::SoftExceeded
        } else {
            Self::Under
        }
    }

    /// As the log writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Under => "under",
            Self::SoftExceeded => "soft_exceeded",
            Self::HardExceeded => "hard_exceeded",
        }
    }
}

impl fmt::Display for BudgetState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The answer to [`BudgetStore::reserve`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// Set aside in every scope. The balances after it, in the order of the hold's scopes.
    Granted(Vec<Balance>),
    /// Set aside nowhere.
    Refused(Refused),
}

/// The first scope in which an amount did not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its cap.
    pub cap: Usd,
    /// Its sums, without the amount.
    pub balance: Balance,
}

/// What a call did cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The hold that it ends; a store that has never seen it charges all the same.
    pub id: ReservationId,
    /// The cost.
    pub amount: Usd,
    /// The scopes of the hold.
    pub scopes: Arc<[Scope]>,
    /// Whether whoever settles will write the call's line to a log, and then [confirm](BudgetStore::confirm) it. A durable
    /// store keeps what the line needs until then, should the process die in between.
    pub owes_line: bool,
}

/// The answer to [`BudgetStore::settle`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The balances after it, in the order of the settlement's scopes.
    pub balances: Vec<Balance>,
    /// Whether this settlement changed anything: `false` for one that is asked twice.
    pub applied: bool,
    /// Whether it took the place of what an expiry had charged, so that a line that says so may be in some log.
    pub was_expired: bool,
}

/// How long whoever owes a line, because he settled a call or was given one that had ended, has to write it and to
/// [confirm](BudgetStore::confirm) that. Then it is given to somebody else.
pub const CONFIRM_WITHIN: Duration = Duration::from_secs(30);

/// A hold that has ended and whose line is owed: its lease ran out and it was charged in full, or whoever settled it has
/// not confirmed its line. Whoever receives it writes its line, and confirms that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// The hold as it was made.
    pub hold: Hold,
    /// What was charged: all of the hold, or what it was settled at.
    pub charged: Usd,
    /// Whether it was settled, be it late: then `charged` is what the call cost, and only its line is missing. If not,
    /// nobody knows what it cost.
    pub is_settled: bool,
    /// The balances after the charge, or as they are where that was done before, in the order of the hold's scopes.
    pub balances: Vec<Balance>,
}

impl Expired {
    /// What to [confirm](BudgetStore::confirm) once its line is on disk.
    #[must_use]
    pub const fn written(&self) -> Written {
        Written {
            id: self.hold.id,
            charged: self.charged,
        }
    }
}

/// A line that was owed and is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The hold that it is about.
    pub id: ReservationId,
    /// The charge that it tells of. A line that tells of another one than the store has is not the one that is owed: it
    /// was overtaken by a late settlement.
    pub charged: Usd,
}

/// Keeps what each scope has spent and set aside. With the feature `conformance`, the module of that name has its
/// laws, which every store passes.
///
/// Every operation is atomic over all scopes it names, and idempotent by the id of the hold.
#[async_trait]
pub trait BudgetStore: fmt::Debug + Send + Sync + 'static {
    /// Whether a hold outlives the process that made it. If not, the log must say that a call was admitted before
    /// its bytes leave.
    fn is_durable(&self) -> bool;

    /// Sets `hold.amount` aside in every scope of `hold`, or in none, unless `spent + reserved + amount` would
    /// pass a cap. The same hold again changes nothing; a hold that was released before it arrived is refused.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell, or the hold names a pair of key and window twice: the caller refuses.
    /// Over the cap is an answer.
    async fn reserve(&self, hold: &Hold) -> Result<Reserve, StoreError>;

    /// Replaces the hold by the cost of the call. Settling again changes nothing; settling after expiry replaces
    /// the charge, once; settling an id never seen charges its amount.
    ///
    /// Where its line [is owed](Settlement::owes_line), a durable store keeps the hold, as one that has ended at this cost,
    /// until the line is [confirmed](Self::confirm), and gives it to others by [`expire`](Self::expire) if that does not
    /// come within [`CONFIRM_WITHIN`]. So if the process dies, somebody else writes the line. What was released, and an id
    /// that was never seen, is kept nowhere.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell: the hold stands until its lease runs out.
    async fn settle(&self, settlement: &Settlement) -> Result<Settled, StoreError>;

    /// Gives back what is set aside: the call was not billed. Again, or for an id that has ended, changes nothing;
    /// an id not seen yet is remembered, so that a reserve that this overtook does not stand for ever.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell: the hold stands until its lease runs out.
    async fn release(&self, id: ReservationId) -> Result<(), StoreError>;

    /// Lets the hold stand for another `lease` from now. Changes nothing where it has ended.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell.
    async fn renew(&self, id: ReservationId, lease: Duration) -> Result<(), StoreError>;

    /// Charges every hold whose lease has run out in full, once, and gives each to one caller at a time, who writes its line
    /// and [confirms](Self::confirm) that. What nobody has confirmed [`CONFIRM_WITHIN`] after it was given or settled,
    /// because its caller died or could not write, is given to the next who asks. At most `limit` a call.
    ///
    /// So a line is never lost and may be written twice; the id of the hold tells. Of two lines the one of a settlement
    /// counts: it took the place of what an expiry had charged.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell.
    async fn expire(&self, limit: usize) -> Result<Vec<Expired>, StoreError>;

    /// Says that these lines are written to last: nobody is given their holds again. Again, for an id whose line nobody
    /// owes, or for another charge than the one whose line is owed, it changes nothing.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell: somebody may be given them again.
    async fn confirm(&self, lines: &[Written]) -> Result<(), StoreError>;

    /// The sums of `scopes`, in their order; zero for what was never charged. Their caps are not looked at.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell.
    async fn balances(&self, scopes: &[Scope]) -> Result<Vec<Balance>, StoreError>;

    /// Ends a scope: from now on nothing can be set aside in it, under any window; what is set aside may still be settled.
    /// Returns its sums under [`Window::Total`], zero where it is not counted in all. Again, the same.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell.
    async fn close(&self, key: &ScopeKey) -> Result<Balance, StoreError>;

    /// Counts one event, unless `hit.limit` of them were counted `within` the time before now (for ever, where there is
    /// none). A window slides: each event is forgotten `within` after it came.
    ///
    /// A caller that got no answer and asks again may be counted twice.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell: the caller refuses.
    async fn hit(&self, hit: &Hit) -> Result<Hits, StoreError>;
}

/// The largest [`Hit::limit`] of a sliding window: a store keeps a time for each event in it.
pub const MAX_HITS: u32 = 10_000;

/// One event of those that are counted under `key`, such as the calls of a tool. A key is always counted with the same
/// `within`; where the clock goes back, an event counts as long as if it had come last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// What is counted together.
    pub key: ScopeKey,
    /// How many are allowed. At most [`MAX_HITS`] where `within` is set; stores refuse more.
    pub limit: u32,
    /// How long an event counts; `None`: for ever.
    pub within: Option<Duration>,
}

/// The answer to [`BudgetStore::hit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hits {
    /// How many are counted, this one included where it was.
    pub count: u32,
    /// Whether this one was counted. If not, the limit is reached.
    pub is_allowed: bool,
}

/// Which life of a store this is: a new id for each that began empty or was rebuilt. Who remembers it notices a store that
/// lost its data.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Generation(Arc<str>);

impl Generation {
    /// The id as the store keeps it.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A hold that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// As it was made.
    pub hold: Hold,
    /// When its lease runs out; [`Timestamp::MAX`] where it has none.
    pub until: Timestamp,
}

/// One sum to begin with, for a store that is rebuilt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What is counted together.
    pub key: ScopeKey,
    /// Over which span of time.
    pub window: Window,
    /// Any moment within that span.
    pub at: Timestamp,
    /// What was spent.
    pub spent: Usd,
}

/// What an operator does to a store. Every durable store offers it.
#[async_trait]
pub trait BudgetAdmin: BudgetStore {
    /// Which life of the store this is.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell.
    async fn generation(&self) -> Result<Generation, StoreError>;

    /// The sums of every scope in its present window, sorted by key and window, after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell.
    async fn list(
        &self,
        after: Option<(&ScopeKey, Window)>,
        limit: usize,
    ) -> Result<Vec<Balance>, StoreError>;

    /// The holds that stand, sorted by id, after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell.
    async fn standing(&self, after: Option<ReservationId>, limit: usize)
    -> Result<Vec<Standing>, StoreError>;

    /// Sets what `key` has spent to zero, in all windows, opens it if it was closed, and returns what its sums under
    /// [`Window::Total`] were. What is set aside stays.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell.
    async fn reset(&self, key: &ScopeKey) -> Result<Balance, StoreError>;

    /// Begins a new life with these sums and no holds, in place of everything that is there, and returns its generation.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell.
    async fn restore(&self, sums: &[Restored]) -> Result<Generation, StoreError>;
}
