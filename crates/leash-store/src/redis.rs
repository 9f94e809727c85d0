//! How a Redis server is reached: [`RedisOptions`], [`Subscription`], and what its errors mean.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::redis::{self, ErrorKind, RedisError};
use futures_util::StreamExt as _;
use leash_core::{StoreError, StoreErrorKind};

/// How a Redis server is spoken to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RedisOptions {
    /// How long one question may take, from asking for a connection to the whole answer. 1 s unless set.
    pub timeout: Duration,
    /// The certificates (PEM) that a server's own is checked against, in place of those that the system trusts, where
    /// the address is a `rediss://` one. Without it, the environment variable `SSL_CERT_FILE` names a file of such.
    pub root_certificates: Option<Arc<[u8]>>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(1),
            root_certificates: None,
        }
    }
}

/// Lets TLS use the cryptography that this crate was built with, where the program has chosen none: with several built
/// in, the library would not know which to take, and panic.
#[cfg(feature = "redis-tls")]
pub(crate) fn choose_cryptography() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error says that another thread was faster.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    }
}

/// What connects to the server at `address`: a `redis://` or `rediss://` one, with its secrets.
pub(crate) fn client(address: &str, options: &RedisOptions) -> Result<redis::Client, RedisError> {
    #[cfg(feature = "redis-tls")]
    if address.starts_with("rediss:") {
        choose_cryptography();
        if let Some(pem) = &options.root_certificates {
            let certificates = redis::TlsCertificates {
                client_tls: None,
                root_cert: Some(pem.to_vec()),
            };
            return redis::Client::build_with_tls(address, certificates);
        }
    }
    #[cfg(not(feature = "redis-tls"))]
    let _ = options;
    redis::Client::open(address)
}

/// Messages of one channel.
pub struct Subscription {
    pub(crate) stream: redis::aio::PubSubStream,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription")
    }
}

impl Subscription {
    /// The next message; `None` when the connection is gone. Dropping the future loses no message.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        let message = self.stream.next().await?;
        Some(message.get_payload_bytes().to_vec())
    }
}

pub(crate) fn redis_error(what: &'static str, error: RedisError) -> StoreError {
    let kind = if error.is_timeout() {
        StoreErrorKind::Timeout
    } else if error.code() == Some("OOM")
        || error
            .detail()
            .is_some_and(|detail| detail.contains("OOM command not allowed"))
    {
        StoreErrorKind::Full
    } else {
        match error.kind() {
            ErrorKind::Io | ErrorKind::AuthenticationFailed | ErrorKind::Server(_) => {
                StoreErrorKind::Unavailable
            }
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => StoreErrorKind::Corrupt,
            ErrorKind::InvalidClientConfig => StoreErrorKind::Conflict,
            _ if error.code() == Some("WRONGTYPE") => StoreErrorKind::Corrupt,
            _ => StoreErrorKind::Unavailable,
        }
    };
    StoreError::new(kind, what).with_source(error)
}
