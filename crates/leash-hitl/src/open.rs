//! [`open_queue`]: the queue at an address, as people write it.

use std::path::Path;
use std::sync::Arc;

use leash_core::{StoreError, StoreErrorKind};
use leash_store::StoreUrl;

use crate::HitlQueue;

/// The file of the queue at `address`, where it is one: `sqlite:PATH`, or a path.
#[must_use]
pub fn queue_file(address: &str) -> Option<&Path> {
    match address.strip_prefix("sqlite:") {
        Some(path) => Some(Path::new(path)),
        None if address.contains("://") => None,
        None => Some(Path::new(address)),
    }
}

/// The queue at `address`: a path, `sqlite:PATH`, `redis://…` or `redis-cluster://…`, as far as this build has them. A file is made where
/// it is missing.
///
/// # Errors
/// [`StoreError`] where it cannot be opened, or this build cannot speak to it ([`StoreErrorKind::Conflict`]).
pub async fn open_queue(address: &str) -> Result<Arc<dyn HitlQueue>, StoreError> {
    let unknown = |error| {
        StoreError::new(
            StoreErrorKind::Conflict,
            "open an approval queue: its address is a path, `sqlite:PATH`, `redis://HOST` or `redis-cluster://HOST:PORT`",
        )
        .with_source(error)
    };
    if address.starts_with("sqlite:") {
        // For its checks: no `sqlite::memory:`, which nobody else would see.
        StoreUrl::new(address).map_err(unknown)?;
    }
    if let Some(path) = queue_file(address) {
        #[cfg(feature = "sqlite")]
        return Ok(Arc::new(crate::SqliteQueue::open(path).await?));
        #[cfg(not(feature = "sqlite"))]
        return Err(absent(&path.display()));
    }
    let url = StoreUrl::new(address).map_err(unknown)?;
    match url.kind() {
        #[cfg(feature = "redis")]
        leash_store::StoreKind::Redis | leash_store::StoreKind::RedisCluster => {
            Ok(Arc::new(crate::RedisQueue::new(&url)?))
        }
        _ => Err(absent(&url)),
    }
}

fn absent(address: &dyn std::fmt::Display) -> StoreError {
    StoreError::new(
        StoreErrorKind::Conflict,
        format!("open `{address}`: this build has no such approval queue"),
    )
}

#[cfg(all(test, feature = "sqlite", feature = "redis"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_nobody_shares_or_knows_is_refused_without_its_secret() {
        for address in [
            "sqlite::memory:",
            "sqlite:",
            "http://:hunter2@host/",
            "ftp://:hunter2@host/",
            "redis://",
        ] {
            let error = open_queue(address).await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Conflict, "{address}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        assert_eq!(queue_file("sqlite:a/b.db"), Some(Path::new("a/b.db")));
        assert_eq!(queue_file("a b.db"), Some(Path::new("a b.db")));
        assert_eq!(queue_file("redis://host"), None);
    }
}
