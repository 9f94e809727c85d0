//! Where spending is kept: the trait [`BudgetStore`] and its words. Knows nothing of providers, HTTP or people.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use leash_core::{Caller, Digest, ReservationId, StoreError, Usd};

use crate::{Scope, ScopeKey};

/// An amount to be set aside for one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Made by the caller, so that a lost reply may be asked for twice.
    pub id: ReservationId,
    /// The upper bound of the call's cost.
    pub amount: Usd,
    /// Every capped scope of the call; each key once.
    pub scopes: Arc<[Scope]>,
    /// How long it may stand without a sign of life. Then it is charged in full by whoever meets it.
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
}

/// The sums of one scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    /// Of what.
    pub key: ScopeKey,
    /// What calls that ended have cost.
    pub spent: Usd,
    /// What is set aside for calls under way.
    pub reserved: Usd,
}

impl Balance {
    /// What may still be set aside under `cap`.
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
}

/// The answer to [`BudgetStore::settle`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The balances after it, in the order of the settlement's scopes.
    pub balances: Vec<Balance>,
    /// Whether this settlement changed anything: `false` for one that is asked twice.
    pub applied: bool,
}

/// A hold whose lease ran out. It was charged in full; whoever receives it writes its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// The hold as it was made.
    pub hold: Hold,
    /// The balances after the charge, in the order of the hold's scopes.
    pub balances: Vec<Balance>,
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
    /// [`StoreError`] when the store cannot tell: the caller refuses. Over the cap is an answer.
    async fn reserve(&self, hold: &Hold) -> Result<Reserve, StoreError>;

    /// Replaces the hold by the cost of the call. Settling again changes nothing; settling after expiry replaces
    /// the charge, once; settling an id never seen charges its amount.
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

    /// Charges every hold whose lease has run out in full, and returns each to one caller only. At most `limit` a call.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell.
    async fn expire(&self, limit: usize) -> Result<Vec<Expired>, StoreError>;

    /// The sums of `keys`, in their order; zero for what was never charged.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell.
    async fn balances(&self, keys: &[ScopeKey]) -> Result<Vec<Balance>, StoreError>;
}
