//! [`open`]: the budget at an address. Knows which feature has which store, and nothing of how they keep money.

use std::sync::Arc;
use std::time::Duration;

use leash_core::{StoreError, StoreErrorKind};
use leash_store::{StoreKind, StoreUrl};

use crate::{BudgetAdmin, Generation};

/// How a budget is opened by its address; what is not set is as the store has it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct OpenOptions {
    /// The life of the store that is expected, where it is known from before: any other is refused.
    pub generation: Option<Generation>,
    /// How long one question may take.
    pub timeout: Option<Duration>,
}

impl OpenOptions {
    /// With another time-out than the store's own.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// For this life of the store only.
    #[must_use]
    pub fn generation(mut self, generation: Generation) -> Self {
        self.generation = Some(generation);
        self
    }

    #[cfg(feature = "sqlite")]
    fn sqlite(&self) -> crate::SqliteStoreOptions {
        let mut options = crate::SqliteStoreOptions::default();
        options.expected.clone_from(&self.generation);
        options.timeout = self.timeout.unwrap_or(options.timeout);
        options
    }

    #[cfg(feature = "redis")]
    fn redis(&self) -> crate::RedisStoreOptions {
        let mut options = crate::RedisStoreOptions::default();
        options.generation.clone_from(&self.generation);
        options.redis.timeout = self.timeout.unwrap_or(options.redis.timeout);
        options
    }
}

/// What is done at an address.
#[derive(Clone, Copy)]
enum Way {
    Open,
    Init,
    Restore,
}

/// The budget at `url`: `sqlite:PATH`, `redis://…`, `rediss://…`, `redis-cluster://…`, as far as this build has them. It has
/// to be there: one that was lost would be found empty, and allow everything once more.
///
/// ```
/// # #[cfg(feature = "sqlite")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// use leash_budget::{OpenOptions, StoreUrl, init, open};
///
/// let url: StoreUrl = format!("sqlite:{}/budget.db", folder.path().display()).parse()?;
/// assert!(open(&url, &OpenOptions::default()).await.is_err());
/// let generation = init(&url, &OpenOptions::default()).await?.generation().await?;
/// let store = open(&url, &OpenOptions::default().generation(generation)).await?;
/// assert!(store.list(None, 10).await?.is_empty());
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "sqlite"))]
/// # fn main() {}
/// ```
///
/// # Errors
/// [`StoreError`] where there is no budget, or another one than expected, where it cannot be asked, or where this build
/// cannot speak to such a store ([`StoreErrorKind::Conflict`]).
/// # Panics
/// Outside of a Tokio runtime that keeps time.
pub async fn open(url: &StoreUrl, options: &OpenOptions) -> Result<Arc<dyn BudgetAdmin>, StoreError> {
    at(url, options, Way::Open).await
}

/// Begins a budget at `url`, empty.
///
/// # Errors
/// [`StoreError`] where there is one already, or this build has no such store ([`StoreErrorKind::Conflict`]), where one is
/// expected that has begun ([`StoreErrorKind::Generation`]), or where it cannot be asked.
/// # Panics
/// As [`open`].
pub async fn init(url: &StoreUrl, options: &OpenOptions) -> Result<Arc<dyn BudgetAdmin>, StoreError> {
    at(url, options, Way::Init).await
}

/// Opens what is at `url`, be it a budget, the rest of one or nothing, for [`BudgetAdmin::restore`]: until then everything
/// else may refuse.
///
/// # Errors
/// [`StoreError`] where it cannot be asked, or this build has no such store ([`StoreErrorKind::Conflict`]).
/// # Panics
/// As [`open`].
pub async fn open_for_restore(
    url: &StoreUrl,
    options: &OpenOptions,
) -> Result<Arc<dyn BudgetAdmin>, StoreError> {
    at(url, options, Way::Restore).await
}

/// Goes on with what the store at `url` still has, after it lost data. What it forgot was spent is not counted.
///
/// # Errors
/// [`StoreErrorKind::Conflict`] where the store has no such state: only a Redis server can lose a part of a budget unseen by
/// its own checks. [`StoreErrorKind::Generation`] where nothing is left; any other where it cannot be asked.
/// # Panics
/// As [`open`].
pub async fn accept_loss(url: &StoreUrl, options: &OpenOptions) -> Result<Generation, StoreError> {
    let _ = options;
    match url.kind() {
        #[cfg(feature = "redis")]
        StoreKind::Redis | StoreKind::RedisCluster => {
            let store = crate::RedisStore::open_for_restore(url, options.redis()).await?;
            store.accept_loss().await
        }
        #[cfg(feature = "sqlite")]
        StoreKind::Sqlite => Err(StoreError::new(
            StoreErrorKind::Conflict,
            format!("accept a loss at `{url}`: a file is there as a whole or not; restore it from the logs"),
        )),
        _ => Err(absent(url)),
    }
}

async fn at(url: &StoreUrl, options: &OpenOptions, way: Way) -> Result<Arc<dyn BudgetAdmin>, StoreError> {
    // What a feature leaves out is not used.
    let _ = (options, way);
    match url.kind() {
        #[cfg(feature = "sqlite")]
        StoreKind::Sqlite => {
            use crate::SqliteStore;
            let path = url.sqlite_path().unwrap_or_else(|| std::path::Path::new(""));
            let (clock, options) = (Arc::new(leash_core::SystemClock), options.sqlite());
            Ok(Arc::new(match way {
                Way::Open => SqliteStore::open(path, clock, options).await?,
                Way::Init => SqliteStore::init(path, clock, options).await?,
                Way::Restore => SqliteStore::open_for_restore(path, clock, options).await?,
            }))
        }
        #[cfg(feature = "redis")]
        StoreKind::Redis | StoreKind::RedisCluster => {
            use crate::RedisStore;
            let options = options.redis();
            Ok(Arc::new(match way {
                Way::Open => RedisStore::open(url, options).await?,
                Way::Init => RedisStore::init(url, options).await?,
                Way::Restore => RedisStore::open_for_restore(url, options).await?,
            }))
        }
        _ => Err(absent(url)),
    }
}

fn absent(url: &StoreUrl) -> StoreError {
    StoreError::new(
        StoreErrorKind::Conflict,
        format!(
            "open the budget at `{url}`: this build has no such store; budgets are at `sqlite:PATH`, `redis://HOST`, \
             `rediss://HOST` or `redis-cluster://HOST:PORT`"
        ),
    )
}
