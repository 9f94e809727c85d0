//! A hard budget in US dollars.
//!
//! Four things, which a team can use without the rest of llm-leash:
//!
//! - **Prices**: [`PriceTable`] knows what a model costs, [`ModelPrice::cost`] what a call did cost, to the
//!   nano-dollar and rounded up once.
//! - **The bound**: [`bound`] says what a call can cost at most, before it is made. A call without a price or a
//!   bound is an error, never free.
//! - **Reservations**: a [`BudgetStore`] sets the bound aside in every capped scope of the call at once, or in
//!   none; the real cost replaces it afterwards. So spent + reserved never passes a cap, however many callers race. A
//!   cap is over everything ([`Window::Total`]) or over one minute, hour, day or month of the calendar. A part of a budget
//!   can be handed on as a [`Grant`].
//! - **Rules** that count in the same store: [`LoopBreaker`], [`MaxCalls`], [`SpendRate`], [`MaxToolBudget`].
//!
//! Its invariant: it knows nothing of providers' formats, HTTP, people or logs, and no amount is a float.
//!
//! ```
//! # futures_executor::block_on(async {
//! use std::sync::Arc;
//! use std::time::Duration;
//! use leash_budget::{BudgetStore, Held, Hold, HoldLine, MemoryStore, Reserve, Scope, Settlement};
//! use leash_core::{Caller, Digest, IdGenerator, SessionId, SystemClock, Clock, Usd};
//!
//! let clock = Arc::new(SystemClock);
//! let store = MemoryStore::new(clock.clone());
//! let ids = IdGenerator::from_os();
//! let scope = Scope::session(&SessionId::new("s_1")?, "1.00".parse()?);
//! let hold = |amount: Usd| Hold {
//!     id: ids.reservation(clock.now()),
//!     amount,
//!     scopes: Arc::from([scope.clone()]),
//!     lease: Duration::from_mins(1),
//!     line: HoldLine {
//!         what: Held::Model { provider: "openai".into(), model: "gpt-4o-mini".into() },
//!         caller: Caller::session(SessionId::new("s_1").unwrap()),
//!         request_digest: Digest::EMPTY,
//!     },
//! };
//!
//! let first = hold("0.70".parse()?);
//! assert!(matches!(store.reserve(&first).await?, Reserve::Granted(_)));
//! assert!(matches!(store.reserve(&hold("0.40".parse()?)).await?, Reserve::Refused(_)));
//! // The call turned out cheap: what it did not use is available again.
//! let cost = Settlement { id: first.id, amount: "0.10".parse()?, scopes: first.scopes.clone(), owes_line: false };
//! store.settle(&cost).await?;
//! assert!(matches!(store.reserve(&hold("0.40".parse()?)).await?, Reserve::Granted(_)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

mod bound;
mod breaker;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod file;
mod grant;
mod memory;
mod names;
#[cfg(any(feature = "redis", feature = "sqlite"))]
mod open;
mod price;
#[cfg(feature = "redis")]
mod redis;
mod rule;
mod scope;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;
mod table;
mod tokens;

pub use self::bound::{Bound, BoundError, bound, clamp};
pub use self::breaker::{LoopBreaker, MaxCalls, MaxToolBudget, ScopeRule, SpendRate};
pub use self::grant::{Grant, GrantError};
pub use self::memory::MemoryStore;
#[cfg(any(feature = "redis", feature = "sqlite"))]
pub use self::open::{OpenOptions, accept_loss, init, open, open_for_restore};
pub use self::price::{ModelPrice, Price, PriceError, PriceTier, Rates, Tariff, cost};
#[cfg(feature = "redis")]
pub use self::redis::{RedisStore, RedisStoreOptions};
pub use self::scope::{Scope, ScopeKey, Window};
#[cfg(feature = "sqlite")]
pub use self::sqlite::{SqliteStore, SqliteStoreOptions, SqliteSync};
pub use self::store::{
    Balance, BudgetAdmin, BudgetState, BudgetStore, CONFIRM_WITHIN, Expired, Generation, Held, Hit, Hits,
    Hold, HoldLine, MAX_HITS, Refused, Reserve, Restored, Settled, Settlement, Standing, Written,
};
pub use self::table::{ListedModel, PriceTable, PriceTableError};
#[cfg(feature = "tiktoken")]
pub use self::tokens::TiktokenCounter;
pub use self::tokens::TokenCounter;
#[cfg(any(feature = "redis", feature = "sqlite"))]
pub use leash_store::{StoreKind, StoreUrl, StoreUrlError};
