//! [`SharedRedis`]: one connection on which all tasks ask at once.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_redis::redis::aio::{ConnectionLike, MultiplexedConnection};
use deadpool_redis::redis::{
    self, AsyncConnectionConfig, Cmd, FromRedisValue, Pipeline, RedisError, RedisFuture, Value,
};
#[cfg(feature = "redis-cluster")]
use deadpool_redis::redis::{
    IntoConnectionInfo as _,
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
    cluster_routing::{RoutingInfo, SingleNodeRoutingInfo},
};
use leash_core::{StoreError, StoreErrorKind};

use crate::redis::{client, redis_error};
use crate::{RedisOptions, StoreKind, StoreUrl, Subscription};

/// How many keys a server is asked for at a time when they are listed.
const SCANNED: u64 = 1000;
/// How often a list is begun anew because a cluster moved its slots meanwhile.
#[cfg(feature = "redis-cluster")]
const ATTEMPTS: usize = 3;
/// How many slots a cluster divides its keys into.
#[cfg(feature = "redis-cluster")]
const ALL_SLOTS: u32 = 16_384;

/// A Redis or Valkey server, or a cluster of them, asked over one connection by all tasks. Cheap to clone: clones share
/// the connection.
///
/// Questions are written one after the other without waiting for answers, so that many of them cost one system call:
/// faster than a connection for each. Nothing on it may block. The connection is made when it is needed, and left
/// when it breaks, says nothing in time, or leads to a server that only copies another one. What is asked on a connection that
/// breaks is asked once more on a new one: so ask only what may be asked twice.
#[derive(Clone)]
pub struct SharedRedis {
    inner: Arc<Inner>,
}

struct Inner {
    target: Target,
    url: StoreUrl,
    timeout: Duration,
    /// The servers that can be listened to: one, or the nodes of a cluster that were named.
    listens: Vec<redis::Client>,
    /// Which of them is next.
    turn: AtomicUsize,
    current: Mutex<Option<(u64, Wire)>>,
    /// Held while connecting, so that many tasks make one connection.
    connecting: tokio::sync::Mutex<()>,
    made: AtomicU64,
}

enum Target {
    Server(Box<redis::Client>, Box<AsyncConnectionConfig>),
    #[cfg(feature = "redis-cluster")]
    Cluster(Box<ClusterClient>),
}

#[derive(Clone)]
enum Wire {
    Server(MultiplexedConnection),
    #[cfg(feature = "redis-cluster")]
    Cluster(ClusterConnection),
}

/// A node's host and port, as the cluster names them.
type Address = (String, u16);

/// Whether a server says that it only copies another one now. Where the address leads to that other one by this time, only a
/// new connection gets there. Nothing was written, so the question may be asked again.
fn is_demoted(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        redis::ErrorKind::Server(redis::ServerErrorKind::ReadOnly | redis::ServerErrorKind::MasterDown)
    )
}

#[derive(Clone, Copy)]
enum Question<'a> {
    Command(&'a Cmd),
    /// To one node of a cluster.
    #[cfg(feature = "redis-cluster")]
    CommandAt(&'a Cmd, &'a Address),
    Script(&'a redis::ScriptInvocation<'a>),
}

#[cfg(feature = "redis-cluster")]
impl Wire {
    async fn ask_at<T: FromRedisValue>(&mut self, command: &Cmd, node: &Address) -> Result<T, RedisError> {
        match self {
            Self::Server(wire) => command.query_async(wire).await,
            Self::Cluster(wire) => {
                let at = SingleNodeRoutingInfo::ByAddress {
                    host: node.0.clone(),
                    port: node.1,
                };
                let answer = wire
                    .route_command(command.clone(), RoutingInfo::SingleNode(at))
                    .await?;
                Ok(FromRedisValue::from_redis_value(answer.extract_error()?)?)
            }
        }
    }
}

impl ConnectionLike for Wire {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(wire) => wire.req_packed_command(command),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(wire) => wire.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(wire) => wire.req_packed_commands(pipeline, offset, count),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(wire) => wire.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(wire) => wire.get_db(),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(wire) => wire.get_db(),
        }
    }
}

impl fmt::Debug for SharedRedis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRedis")
            .field("url", &self.inner.url)
            .field("timeout", &self.inner.timeout)
            .finish_non_exhaustive()
    }
}

/// The nodes of `redis-cluster://[USER:PASSWORD@]HOST:PORT,HOST:PORT`, each as an address of its own.
#[cfg(feature = "redis-cluster")]
fn nodes(url: &StoreUrl) -> Option<Vec<String>> {
    let (scheme, rest) = url.with_secrets().split_once("://")?;
    let scheme = if scheme.starts_with("rediss") {
        "rediss"
    } else {
        "redis"
    };
    let (user, hosts) = match rest.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), rest),
    };
    // A cluster has one database, and its address no other parts.
    let hosts = hosts.split(['/', '?', '#']).next()?;
    Some(
        hosts
            .split(',')
            .filter(|host| !host.is_empty())
            .map(|host| format!("{scheme}://{user}{host}"))
            .collect(),
    )
}

/// What is asked, and whom one can listen to.
type Ends = (Target, Vec<redis::Client>);

fn target(url: &StoreUrl, options: &RedisOptions) -> Result<Option<Ends>, RedisError> {
    match url.kind() {
        StoreKind::Redis => {
            // How long an answer may take is counted here, not there.
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(options.timeout))
                .set_response_timeout(None);
            let client = client(url.with_secrets(), options)?;
            Ok(Some((
                Target::Server(Box::new(client.clone()), Box::new(config)),
                vec![client],
            )))
        }
        #[cfg(feature = "redis-cluster")]
        StoreKind::RedisCluster => {
            let Some(nodes) = nodes(url).filter(|nodes| !nodes.is_empty()) else {
                return Ok(None);
            };
            let listens = nodes
                .iter()
                .map(|node| client(node, options))
                .collect::<Result<Vec<_>, _>>()?;
            let nodes = nodes
                .iter()
                .map(|node| node.as_str().into_connection_info())
                .collect::<Result<Vec<_>, _>>()?;
            let cluster = ClusterClientBuilder::new(nodes)
                .connection_timeout(options.timeout)
                .response_timeout(options.timeout)
                .retries(2);
            #[cfg(feature = "redis-tls")]
            let cluster = match &options.root_certificates {
                Some(pem) if url.is_encrypted() => cluster.certs(redis::TlsCertificates {
                    client_tls: None,
                    root_cert: Some(pem.to_vec()),
                }),
                _ => cluster,
            };
            #[cfg(feature = "redis-tls")]
            crate::redis::choose_cryptography();
            Ok(Some((Target::Cluster(Box::new(cluster.build()?)), listens)))
        }
        _ => Ok(None),
    }
}

impl SharedRedis {
    /// The server or cluster at `url`. Connects to nothing yet.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`] where the address is none that this build can speak to.
    pub fn new(url: &StoreUrl, options: &RedisOptions) -> Result<Self, StoreError> {
        let refused = || StoreError::new(StoreErrorKind::Conflict, format!("use `{url}` as a Redis server"));
        let (target, listens) = target(url, options)
            .map_err(|error| refused().with_source(error))?
            .ok_or_else(refused)?;
        Ok(Self {
            inner: Arc::new(Inner {
                target,
                url: url.clone(),
                timeout: options.timeout,
                listens,
                turn: AtomicUsize::new(0),
                current: Mutex::new(None),
                connecting: tokio::sync::Mutex::new(()),
                made: AtomicU64::new(0),
            }),
        })
    }

    /// The address.
    #[must_use]
    pub fn url(&self) -> &StoreUrl {
        &self.inner.url
    }

    fn current(&self) -> Option<(u64, Wire)> {
        let current = self.inner.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    /// The connection, made where there is none. `used` becomes its number.
    async fn wire(&self, used: &AtomicU64) -> Result<Wire, RedisError> {
        if let Some((number, wire)) = self.current() {
            used.store(number, Ordering::Relaxed);
            return Ok(wire);
        }
        let _one = self.inner.connecting.lock().await;
        if let Some((number, wire)) = self.current() {
            used.store(number, Ordering::Relaxed);
            return Ok(wire);
        }
        let wire = match &self.inner.target {
            Target::Server(client, config) => Wire::Server(
                client
                    .get_multiplexed_async_connection_with_config(config)
                    .await?,
            ),
            #[cfg(feature = "redis-cluster")]
            Target::Cluster(client) => Wire::Cluster(client.get_async_connection().await?),
        };
        let number = self.inner.made.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        used.store(number, Ordering::Relaxed);
        let mut current = self.inner.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Some((number, wire.clone()));
        Ok(wire)
    }

    /// Leaves the connection of this number; those who still wait on it get their answer if one comes.
    fn leave(&self, number: u64) {
        let mut current = self.inner.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|(there, _)| *there == number) {
            *current = None;
        }
    }

    async fn ask<T>(&self, what: &'static str, question: Question<'_>) -> Result<T, StoreError>
    where
        T: FromRedisValue,
    {
        let used = AtomicU64::new(0);
        let asking = async {
            let mut is_first = true;
            loop {
                let answer = match self.wire(&used).await {
                    Ok(mut wire) => match question {
                        Question::Command(command) => command.query_async(&mut wire).await,
                        #[cfg(feature = "redis-cluster")]
                        Question::CommandAt(command, node) => wire.ask_at(command, node).await,
                        Question::Script(script) => script.invoke_async(&mut wire).await,
                    },
                    Err(error) => return Err(error),
                };
                let error = match answer {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                };
                if error.is_io_error() || error.is_unrecoverable_error() || is_demoted(&error) {
                    self.leave(used.load(Ordering::Relaxed));
                    if is_first && !error.is_timeout() {
                        is_first = false;
                        continue;
                    }
                }
                return Err(error);
            }
        };
        match tokio::time::timeout(self.inner.timeout, asking).await {
            Ok(answer) => answer.map_err(|error| redis_error(what, error)),
            Err(late) => {
                // Perhaps the other end is gone without a word: then only a new connection gets through.
                self.leave(used.load(Ordering::Relaxed));
                Err(StoreError::new(StoreErrorKind::Timeout, what).with_source(late))
            }
        }
    }

    /// Sends one command. `what` fits "failed to …" and holds no secret.
    ///
    /// # Errors
    /// [`StoreError`] where it failed, or did not come back in time: then it may or may not have been done.
    pub async fn query<T: FromRedisValue>(&self, what: &'static str, command: &Cmd) -> Result<T, StoreError> {
        self.ask(what, Question::Command(command)).await
    }

    /// Runs a script, which the server remembers by its hash. `what` fits "failed to …" and holds no secret.
    ///
    /// # Errors
    /// As [`SharedRedis::query`].
    pub async fn invoke<T: FromRedisValue>(
        &self,
        what: &'static str,
        script: &redis::ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        self.ask(what, Question::Script(script)).await
    }

    /// Listens to a channel, on a connection of its own. What was sent before is not heard, and what is sent while
    /// the connection is down is lost: a message is a hint to look, never the only word. In a cluster the nodes pass
    /// messages on to each other, so one of those that the address names is listened to; after it is gone, the next.
    /// `what` fits "failed to …" and holds no secret.
    ///
    /// # Errors
    /// [`StoreError`] where no server can be reached.
    pub async fn subscribe(&self, what: &'static str, channel: &str) -> Result<Subscription, StoreError> {
        let servers = &self.inner.listens;
        let mut failure = StoreError::new(StoreErrorKind::Unavailable, what);
        let turn = self.inner.turn.fetch_add(1, Ordering::Relaxed);
        let first = turn.checked_rem(servers.len()).unwrap_or(0);
        for client in servers.iter().cycle().skip(first).take(servers.len()) {
            let listening = async {
                let mut pubsub = client.get_async_pubsub().await?;
                pubsub.subscribe(channel).await?;
                Ok(pubsub.into_on_message())
            };
            failure = match tokio::time::timeout(self.inner.timeout, listening).await {
                Ok(Ok(stream)) => return Ok(Subscription { stream }),
                Ok(Err(error)) => redis_error(what, error),
                Err(late) => StoreError::new(StoreErrorKind::Timeout, what).with_source(late),
            };
        }
        Err(failure)
    }

    /// Hands every key that matches `pattern` to `found`, some at a time, until there are no more or `found` fails. A
    /// key may be named twice; one that comes or goes meanwhile may be missed. In a cluster every primary is asked, and
    /// begun anew where slots were moved to other nodes meanwhile, so that no key that stood all the time is missed
    /// for that. `what` fits "failed to …" and holds no secret.
    ///
    /// # Errors
    /// [`StoreError`] of the server or of `found`; [`StoreErrorKind::Unavailable`] where the nodes of a cluster cannot
    /// agree on whose the slots are.
    pub async fn scan(
        &self,
        what: &'static str,
        pattern: &str,
        mut found: impl FnMut(Vec<Vec<u8>>) -> Result<(), StoreError> + Send,
    ) -> Result<(), StoreError> {
        match &self.inner.target {
            Target::Server(..) => self.scan_node(what, pattern, None, &mut found).await,
            #[cfg(feature = "redis-cluster")]
            Target::Cluster(_) => {
                let mut failure = StoreError::new(StoreErrorKind::Unavailable, what);
                for _ in 0..ATTEMPTS {
                    match self.scan_cluster(what, pattern, &mut found).await {
                        Ok(true) => return Ok(()),
                        Ok(false) => {}
                        Err(error) if error.kind() != StoreErrorKind::Unavailable => return Err(error),
                        Err(error) => {
                            failure = error;
                            // Perhaps the connection does not know a node that came since.
                            if let Some((number, _)) = self.current() {
                                self.leave(number);
                            }
                        }
                    }
                }
                Err(failure)
            }
        }
    }

    /// The keys of all primaries; whether they had the same slots before and after.
    #[cfg(feature = "redis-cluster")]
    async fn scan_cluster(
        &self,
        what: &'static str,
        pattern: &str,
        found: &mut (impl FnMut(Vec<Vec<u8>>) -> Result<(), StoreError> + Send),
    ) -> Result<bool, StoreError> {
        let before = self.slots(what).await?;
        let mut primaries: Vec<&Address> = before.iter().map(|(_, _, node)| node).collect();
        primaries.sort();
        primaries.dedup();
        for node in primaries {
            // By its address: the connection learns only from keys that a slot was moved.
            self.scan_node(what, pattern, Some(node), found).await?;
        }
        Ok(self.slots(what).await? == before)
    }

    /// The keys of one server; in a cluster, of `node`.
    async fn scan_node(
        &self,
        what: &'static str,
        pattern: &str,
        node: Option<&Address>,
        found: &mut (impl FnMut(Vec<Vec<u8>>) -> Result<(), StoreError> + Send),
    ) -> Result<(), StoreError> {
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor)
                .arg("MATCH")
                .arg(pattern)
                .arg("COUNT")
                .arg(SCANNED);
            #[cfg(feature = "redis-cluster")]
            let question = match node {
                Some(node) => Question::CommandAt(&scan, node),
                None => Question::Command(&scan),
            };
            #[cfg(not(feature = "redis-cluster"))]
            let question = {
                let _ = node;
                Question::Command(&scan)
            };
            let (next, keys): (u64, Vec<Vec<u8>>) = self.ask(what, question).await?;
            found(keys)?;
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// Which primary of a cluster has which slots, from the first to the last. Slots that no node has are an error: their
    /// keys are out of reach.
    #[cfg(feature = "redis-cluster")]
    async fn slots(&self, what: &'static str) -> Result<Vec<(u32, u32, Address)>, StoreError> {
        let odd = || StoreError::new(StoreErrorKind::Unavailable, what);
        let slots: Vec<Vec<Value>> = self.query(what, redis::cmd("CLUSTER").arg("SLOTS")).await?;
        let mut ranges = Vec::with_capacity(slots.len());
        for range in slots {
            // First slot, last slot, the primary, its replicas; of a node its host, port and more.
            let mut range = range.into_iter();
            let (Some(first), Some(last), Some(Value::Array(node))) =
                (range.next(), range.next(), range.next())
            else {
                return Err(odd());
            };
            let node = Value::Array(node.into_iter().take(2).collect());
            let number = |value| u32::from_redis_value(value).map_err(|_| odd());
            let node = Address::from_redis_value(node).map_err(|_| odd())?;
            ranges.push((number(first)?, number(last)?, node));
        }
        ranges.sort();
        let mut next = 0;
        for (first, last, _) in &ranges {
            if *first != next {
                return Err(odd());
            }
            next = last.saturating_add(1);
        }
        if next == ALL_SLOTS { Ok(ranges) } else { Err(odd()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(timeout: Duration) -> RedisOptions {
        RedisOptions {
            timeout,
            ..RedisOptions::default()
        }
    }

    #[tokio::test]
    async fn a_server_that_nobody_runs_is_unavailable_and_says_no_secret() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let url = StoreUrl::new(&format!("redis://:hunter2@{address}/0")).unwrap();
        let server = SharedRedis::new(&url, &options(Duration::from_secs(5))).unwrap();
        let error = server.query::<()>("ask", &redis::cmd("PING")).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert!(!format!("{error} {server:?}").contains("hunter2"));
        let file = StoreUrl::new("sqlite:x.db").unwrap();
        assert!(SharedRedis::new(&file, &RedisOptions::default()).is_err());
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_given_up_by_all_who_wait() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = StoreUrl::new(&format!("redis://{}/0", listener.local_addr().unwrap())).unwrap();
        let server = SharedRedis::new(&url, &options(Duration::from_millis(50))).unwrap();
        let command = redis::cmd("PING");
        let (one, other) = tokio::join!(
            server.query::<()>("ask", &command),
            server.query::<()>("ask", &command)
        );
        for answer in [one, other] {
            assert_eq!(answer.unwrap_err().kind(), StoreErrorKind::Timeout);
        }
    }

    #[cfg(feature = "redis-cluster")]
    #[test]
    fn the_nodes_of_a_cluster_share_one_user() {
        let url = StoreUrl::new("rediss-cluster://u:p@h1:7000,h2:7001/").unwrap();
        assert_eq!(
            nodes(&url).unwrap(),
            ["rediss://u:p@h1:7000", "rediss://u:p@h2:7001"]
        );
        assert_eq!(url.to_string(), "rediss-cluster://***@h1:7000,h2:7001/");
        assert!(url.is_encrypted());
        assert!(SharedRedis::new(&url, &RedisOptions::default()).is_ok() == cfg!(feature = "redis-tls"));
    }
}
