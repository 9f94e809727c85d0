//! [`open`]: the registry at an address.

use std::sync::Arc;

use leash_core::{StoreError, StoreErrorKind};
use leash_store::{StoreKind, StoreUrl};

use crate::{KillRegistry, ViewOptions};

/// The registry at `url`: `sqlite:PATH`, `redis://…`, `redis-cluster://…`, `http://…`, as far as this build has them. `token` is shown to an
/// HTTP service, and to nobody else.
///
/// # Errors
/// [`StoreError`] where it cannot be opened, or this build cannot speak to it ([`StoreErrorKind::Conflict`]).
/// # Panics
/// Outside of a Tokio runtime.
pub async fn open(
    url: &StoreUrl,
    token: Option<&str>,
    options: ViewOptions,
) -> Result<Arc<dyn KillRegistry>, StoreError> {
    // What a feature leaves out is not used.
    let _ = (token, &options);
    match url.kind() {
        #[cfg(feature = "sqlite")]
        StoreKind::Sqlite => {
            let path = url.sqlite_path().unwrap_or_else(|| std::path::Path::new(""));
            Ok(Arc::new(crate::SqliteKillRegistry::open(path, options).await?))
        }
        #[cfg(feature = "redis")]
        StoreKind::Redis | StoreKind::RedisCluster => {
            Ok(Arc::new(crate::RedisKillRegistry::open(url, options)?))
        }
        #[cfg(feature = "http")]
        StoreKind::Http => Ok(Arc::new(crate::HttpKillRegistry::open(url, token, options)?)),
        _ => Err(StoreError::new(
            StoreErrorKind::Conflict,
            format!("open `{url}`: this build has no such registry"),
        )),
    }
}
