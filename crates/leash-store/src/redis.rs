//! [`Redis`]: a pool of connections in which nothing waits for ever.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::redis::{
    self, AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError,
};
use deadpool_redis::{Manager, Pool, PoolError, Timeouts};
use futures_util::StreamExt as _;
use leash_core::{StoreError, StoreErrorKind};

use crate::{StoreKind, StoreUrl};

/// How a Redis server is spoken to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RedisOptions {
    /// The most connections at once. 8 unless set.
    pub connections: usize,
    /// How long one question may take, from asking for a connection to the whole answer. 1 s unless set.
    pub timeout: Duration,
    /// The certificates (PEM) that a server's own is checked against, in place of those that the system trusts, where
    /// the address is a `rediss://` one. Without it, the environment variable `SSL_CERT_FILE` names a file of such.
    pub root_certificates: Option<Arc<[u8]>>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            connections: 8,
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

/// What connects to the server at `url`.
pub(crate) fn client(url: &StoreUrl, options: &RedisOptions) -> Result<redis::Client, RedisError> {
    #[cfg(feature = "redis-tls")]
    if url.is_encrypted() {
        choose_cryptography();
        if let Some(pem) = &options.root_certificates {
            let certificates = redis::TlsCertificates {
                client_tls: None,
                root_cert: Some(pem.to_vec()),
            };
            return redis::Client::build_with_tls(url.with_secrets(), certificates);
        }
    }
    #[cfg(not(feature = "redis-tls"))]
    let _ = options;
    redis::Client::open(url.with_secrets())
}

/// A Redis or Valkey server. Cheap to clone: clones share the pool.
///
/// Connections are made when they are needed, so a server may come and go. `what`, in every method, fits
/// "failed to …" and holds no secret.
#[derive(Clone)]
pub struct Redis {
    pool: Pool,
    client: redis::Client,
    url: StoreUrl,
    options: RedisOptions,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("url", &self.url)
            .field("timeout", &self.options.timeout)
            .finish_non_exhaustive()
    }
}

impl Redis {
    /// The server at `url`. Connects to nothing yet.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`] where the address is none of a Redis server that this build can speak to.
    pub fn new(url: &StoreUrl, options: RedisOptions) -> Result<Self, StoreError> {
        let what = || format!("use `{url}` as a Redis server");
        if url.kind() != StoreKind::Redis {
            return Err(StoreError::new(StoreErrorKind::Conflict, what()));
        }
        let refused =
            |error: RedisError| StoreError::new(StoreErrorKind::Conflict, what()).with_source(error);
        let client = client(url, &options).map_err(refused)?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(options.timeout))
            .set_response_timeout(Some(options.timeout));
        let manager =
            Manager::new_with_config(client.get_connection_info().clone(), config).map_err(refused)?;
        let pool = Pool::builder(manager)
            .max_size(options.connections.max(1))
            .runtime(deadpool_redis::Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(options.timeout),
                create: Some(options.timeout),
                recycle: Some(options.timeout),
            })
            .build()
            .map_err(|error| StoreError::new(StoreErrorKind::Conflict, what()).with_source(error))?;
        Ok(Self {
            pool,
            client,
            url: url.clone(),
            options,
        })
    }

    /// The same server, with another limit to how long one question may take.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = timeout;
        self
    }

    /// The address.
    #[must_use]
    pub fn url(&self) -> &StoreUrl {
        &self.url
    }

    /// A connection from the pool, for those who need the same one for several questions.
    /// Pass what is asked on it through [`Redis::within`].
    ///
    /// # Errors
    /// [`StoreError`] where none is to be had in time.
    pub async fn connection(&self, what: &'static str) -> Result<deadpool_redis::Connection, StoreError> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Timeout(_) => StoreError::new(StoreErrorKind::Timeout, what).with_source(error),
            PoolError::Backend(error) => redis_error(what, error),
            error => StoreError::new(StoreErrorKind::Unavailable, what).with_source(error),
        })
    }

    /// Waits for `answer`, but not longer than one question may take.
    ///
    /// # Errors
    /// [`StoreError`] of the kind that fits.
    pub async fn within<T>(
        &self,
        what: &'static str,
        answer: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.options.timeout, answer).await {
            Ok(answer) => answer.map_err(|error| redis_error(what, error)),
            Err(late) => Err(StoreError::new(StoreErrorKind::Timeout, what).with_source(late)),
        }
    }

    async fn bounded<T>(
        &self,
        what: &'static str,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.options.timeout, answer).await {
            Ok(answer) => answer,
            Err(late) => Err(StoreError::new(StoreErrorKind::Timeout, what).with_source(late)),
        }
    }

    /// Sends one command.
    ///
    /// # Errors
    /// [`StoreError`] where it failed, or did not come back in time: then it may or may not have been done.
    pub async fn query<T: FromRedisValue>(&self, what: &'static str, command: &Cmd) -> Result<T, StoreError> {
        self.bounded(what, async {
            let mut connection = self.connection(what).await?;
            self.within(what, command.query_async(&mut connection)).await
        })
        .await
    }

    /// Sends several commands at once; atomic where the pipeline says so.
    ///
    /// # Errors
    /// As [`Redis::query`].
    pub async fn pipeline<T: FromRedisValue>(
        &self,
        what: &'static str,
        pipeline: &Pipeline,
    ) -> Result<T, StoreError> {
        self.bounded(what, async {
            let mut connection = self.connection(what).await?;
            self.within(what, pipeline.query_async(&mut connection)).await
        })
        .await
    }

    /// Runs a script, which the server remembers by its hash.
    ///
    /// # Errors
    /// As [`Redis::query`].
    pub async fn invoke<T: FromRedisValue>(
        &self,
        what: &'static str,
        script: &redis::ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        self.bounded(what, async {
            let mut connection = self.connection(what).await?;
            self.within(what, script.invoke_async(&mut connection)).await
        })
        .await
    }

    /// Listens to a channel, on a connection of its own. What was sent before is not heard, and what is sent while
    /// the connection is down is lost: a message is a hint to look, never the only word.
    ///
    /// # Errors
    /// [`StoreError`] where the server cannot be reached.
    pub async fn subscribe(&self, what: &'static str, channel: &str) -> Result<Subscription, StoreError> {
        let stream = self
            .within(what, async {
                let mut pubsub = self.client.get_async_pubsub().await?;
                pubsub.subscribe(channel).await?;
                Ok(pubsub.into_on_message())
            })
            .await?;
        Ok(Subscription { stream })
    }
}

/// Messages of one channel.
pub struct Subscription {
    stream: redis::aio::PubSubStream,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_nobody_runs_is_unavailable_and_says_no_secret() {
        // A port that was free a moment ago, and that nothing listens on.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let url: StoreUrl = format!("redis://:hunter2@127.0.0.1:{port}/0").parse().unwrap();
        let server = Redis::new(&url, RedisOptions::default()).unwrap();
        let error = server.query::<()>("ask", &redis::cmd("PING")).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert!(!format!("{error} {server:?}").contains("hunter2"));
        assert!(server.subscribe("listen", "channel").await.is_err());
        let file: StoreUrl = "sqlite:x.db".parse().unwrap();
        assert!(Redis::new(&file, RedisOptions::default()).is_err());
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_given_up() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url: StoreUrl = format!("redis://{}/0", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        let options = RedisOptions {
            timeout: Duration::from_millis(50),
            ..RedisOptions::default()
        };
        let server = Redis::new(&url, options).unwrap();
        let error = server.query::<()>("ask", &redis::cmd("PING")).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Timeout);
    }
}
