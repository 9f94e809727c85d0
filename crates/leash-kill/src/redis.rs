//! [`RedisKillRegistry`]: orders in a Redis or Valkey server, for many machines.

use std::time::Duration;

use async_trait::async_trait;
use leash_core::{Caller, SessionId, StoreError, StoreErrorKind};
use leash_store::redis_client::cmd;
use leash_store::{RedisOptions, SharedRedis, StoreUrl};
use tokio::sync::watch;

use crate::view::{Backend, Reading, View};
use crate::{Answer, KillOrder, KillRegistry, Target, ViewOptions, wire};

/// The prefix of the Python package.
pub(crate) const DEFAULT_PREFIX: &str = "llm_leash:kill:";
/// More orders than a person will ever look at, and few enough to hold in memory.
const MAX_ORDERS: usize = 100_000;
/// How many keys one command names: the server answers others in between.
const CHUNK: usize = 500;

/// Orders in a Redis or Valkey server, or in a cluster of them.
///
/// An order for a session is the string key `{prefix}{session_id}` with the reason in it, as the Python package writes
/// it, so either program's order stops the other's agents. Who and when, and all wider orders, stand in two hashes
/// beside it. A background task hears of our own orders by a published message, and reads the keys of all active
/// sessions every 25 ms, since other programs publish nothing.
///
/// In a cluster the keys are the same, so they lie on all its nodes: nothing here asks for two of them to change at
/// once. What says that a session is stopped is its key alone.
#[derive(Debug)]
pub struct RedisKillRegistry {
    view: View,
}

impl RedisKillRegistry {
    /// The registry in the server at `url` (`redis://…`, `rediss://…`, `redis-cluster://…`), with keys as the Python
    /// package names them. Connects in the background: until that succeeds, calls are refused.
    ///
    /// # Errors
    /// [`StoreError`] where `url` is none of a Redis server that this build can speak to.
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn open(url: &StoreUrl, options: ViewOptions) -> Result<Self, StoreError> {
        Self::with_prefix(url, DEFAULT_PREFIX, options)
    }

    /// As [`RedisKillRegistry::open`], with keys that start with `prefix` instead of `llm_leash:kill:`.
    ///
    /// # Errors
    /// As [`RedisKillRegistry::open`], and where `prefix` is empty: then any key of the server would be an order.
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn with_prefix(url: &StoreUrl, prefix: &str, options: ViewOptions) -> Result<Self, StoreError> {
        let mut redis = RedisOptions::default();
        redis.timeout = options.reading_timeout();
        Self::with_redis(url, prefix, redis, options)
    }

    /// As [`RedisKillRegistry::with_prefix`], where the server is spoken to as `redis` says: with certificates that
    /// its own is checked against. One question never takes longer than three quarters of what `options` allow a
    /// reading, so that a connection that died without a word is left in time.
    ///
    /// # Errors
    /// As [`RedisKillRegistry::with_prefix`].
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn with_redis(
        url: &StoreUrl,
        prefix: &str,
        mut redis: RedisOptions,
        options: ViewOptions,
    ) -> Result<Self, StoreError> {
        redis.timeout = redis.timeout.min(options.reading_timeout().mul_f64(0.75));
        let redis = SharedRedis::new(url, &redis)?;
        let beside = beside(prefix)?;
        Ok(Self {
            view: View::new(
                RedisBackend {
                    redis,
                    prefix: prefix.to_owned(),
                    wide: format!("{beside}orders"),
                    details: format!("{beside}details"),
                    channel: format!("{beside}changed"),
                },
                options,
            ),
        })
    }
}

crate::registry_by_view!(RedisKillRegistry);

/// How our own keys start: like the prefix but for its last character, so that no session's key is ever one of them.
fn beside(prefix: &str) -> Result<String, StoreError> {
    let mut chars = prefix.chars();
    match chars.next_back() {
        Some('.') => Ok(format!("{}_", chars.as_str())),
        Some(_) => Ok(format!("{}.", chars.as_str())),
        None => Err(StoreError::new(
            StoreErrorKind::Conflict,
            "use an empty prefix for kill orders",
        )),
    }
}

#[derive(Debug)]
struct RedisBackend {
    redis: SharedRedis,
    prefix: String,
    /// A hash: target to order, for all that is wider than a session.
    wide: String,
    /// A hash: session id to order, for who and when. It counts only where its reason is the one in the key.
    details: String,
    channel: String,
}

impl RedisBackend {
    fn key(&self, id: &SessionId) -> String {
        format!("{}{id}", self.prefix)
    }

    /// Those of `sessions` that are stopped, and why. In a cluster the client sends each node what is its own.
    async fn reasons(
        &self,
        what: &'static str,
        sessions: &[SessionId],
    ) -> Result<Vec<(SessionId, String)>, StoreError> {
        let mut found = Vec::new();
        for chunk in sessions.chunks(CHUNK) {
            let mut mget = cmd("MGET");
            for id in chunk {
                mget.arg(self.key(id));
            }
            let reasons: Vec<Option<Vec<u8>>> = self.redis.query(what, &mget).await?;
            if reasons.len() != chunk.len() {
                return Err(StoreError::new(StoreErrorKind::Corrupt, what));
            }
            found.extend(chunk.iter().zip(reasons).filter_map(|(id, reason)| {
                reason.map(|reason| (id.clone(), String::from_utf8_lossy(&reason).into_owned()))
            }));
        }
        Ok(found)
    }

    async fn wide(&self, what: &'static str) -> Result<Vec<KillOrder>, StoreError> {
        wide_orders(self.redis.query(what, cmd("HGETALL").arg(&self.wide)).await?)
    }

    /// Tells those who listen to look. They look every 25 ms in any case, so an order is not worth less, and no failure,
    /// where nobody could be told.
    async fn tell(&self, word: &str) {
        let mut publish = cmd("PUBLISH");
        publish.arg(&self.channel).arg(word);
        drop(self.redis.query::<()>("tell of a kill order", &publish).await);
    }

    /// Adds who and when to those orders of which we know it.
    async fn with_details(&self, found: Vec<(SessionId, String)>) -> Result<Vec<KillOrder>, StoreError> {
        let mut orders = Vec::with_capacity(found.len());
        for chunk in found.chunks(CHUNK) {
            let mut ask = cmd("HMGET");
            ask.arg(&self.details);
            for (id, _) in chunk {
                ask.arg(id.as_str());
            }
            let details: Vec<Option<Vec<u8>>> = self.redis.query("read the kill orders", &ask).await?;
            for ((id, reason), detail) in chunk.iter().zip(details) {
                let order = KillOrder::new(Target::Session(id.clone()), reason.as_str(), None);
                let detail = detail.and_then(|bytes| wire::order_from_slice(&bytes).ok());
                orders.push(match detail {
                    // Another reason: somebody else gave a newer order, and said neither who nor when.
                    Some(detail) if detail.target == order.target && detail.reason == order.reason => detail,
                    _ => order,
                });
            }
        }
        Ok(orders)
    }
}

fn wide_orders(fields: Vec<(Vec<u8>, Vec<u8>)>) -> Result<Vec<KillOrder>, StoreError> {
    fields
        .into_iter()
        .map(|(target, order)| {
            let target = std::str::from_utf8(&target)
                .ok()
                .and_then(|text| text.parse::<Target>().ok())
                // Whom it stops, nobody can tell, so nobody may go on.
                .ok_or_else(|| {
                    StoreError::new(StoreErrorKind::Corrupt, "read a kill order of an unknown kind")
                })?;
            let order = wire::order_from_slice(&order)
                .ok()
                .filter(|order| order.target == target);
            Ok(order.unwrap_or_else(|| KillOrder::new(target, "the order cannot be read", None)))
        })
        .collect()
}

#[async_trait]
impl Backend for RedisBackend {
    fn poll(&self) -> Duration {
        Duration::from_millis(25)
    }

    async fn read(&self, sessions: &[SessionId], _since: Option<&str>) -> Result<Reading, StoreError> {
        const WHAT: &str = "read the kill orders";
        // Both questions are on their way before the first answer comes.
        let (wide, found) = tokio::try_join!(self.wide(WHAT), self.reasons(WHAT, sessions))?;
        Ok(Reading::State {
            version: None,
            sessions: self.with_details(found).await?,
            wide,
        })
    }

    async fn kill(&self, order: &KillOrder) -> Result<(), StoreError> {
        const WHAT: &str = "keep a kill order";
        let json = wire::order_to_string(order);
        let mut set = cmd("HSET");
        if let Target::Session(id) = &order.target {
            // Who and when first: they mean nothing without the key, and whoever sees the key finds them.
            set.arg(&self.details).arg(id.as_str()).arg(json);
            self.redis.query::<()>(WHAT, &set).await?;
            let key = self.key(id);
            self.redis
                .query::<()>(WHAT, cmd("SET").arg(key).arg(&*order.reason))
                .await?;
        } else {
            set.arg(&self.wide).arg(order.target.to_string()).arg(json);
            self.redis.query::<()>(WHAT, &set).await?;
        }
        self.tell("kill").await;
        Ok(())
    }

    async fn clear(&self, target: &Target) -> Result<bool, StoreError> {
        const WHAT: &str = "clear a kill order";
        let cleared: u64 = if let Target::Session(id) = target {
            let cleared = self.redis.query(WHAT, cmd("DEL").arg(self.key(id))).await?;
            let mut forget = cmd("HDEL");
            forget.arg(&self.details).arg(id.as_str());
            self.redis.query::<()>(WHAT, &forget).await?;
            cleared
        } else {
            let mut clear = cmd("HDEL");
            clear.arg(&self.wide).arg(target.to_string());
            self.redis.query(WHAT, &clear).await?
        };
        self.tell("clear").await;
        Ok(cleared > 0)
    }

    async fn orders(&self) -> Result<Vec<KillOrder>, StoreError> {
        const WHAT: &str = "list the kill orders";
        let mut orders = self.wide(WHAT).await?;
        let mut ids = Vec::new();
        let pattern = format!("{}*", glob_literal(&self.prefix));
        let found = |keys: Vec<Vec<u8>>| {
            ids.extend(keys.into_iter().filter_map(|key| {
                let key = String::from_utf8(key).ok()?;
                SessionId::new(key.strip_prefix(&self.prefix)?).ok()
            }));
            if ids.len() > MAX_ORDERS {
                return Err(StoreError::new(
                    StoreErrorKind::Full,
                    "list more than 100,000 kill orders",
                ));
            }
            Ok(())
        };
        self.redis.scan(WHAT, &pattern, found).await?;
        // A scan may name a key twice.
        ids.sort();
        ids.dedup();
        let found = self.reasons(WHAT, &ids).await?;
        orders.extend(self.with_details(found).await?);
        orders.sort_by(|one, other| one.target.cmp(&other.target));
        Ok(orders)
    }

    async fn watch(&self, hint: &(dyn Fn() + Send + Sync)) {
        loop {
            if let Ok(mut messages) = self
                .redis
                .subscribe("listen for kill orders", &self.channel)
                .await
            {
                // What was published before we listened was not heard.
                hint();
                while messages.next().await.is_some() {
                    hint();
                }
            }
            // The beat goes on meanwhile.
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
}

/// The prefix as a pattern that means itself.
fn glob_literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if matches!(char, '*' | '?' | '[' | ']' | '\\' | '^') {
            out.push('\\');
        }
        out.push(char);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_of_a_session_is_one_of_ours() {
        for prefix in [DEFAULT_PREFIX, "a.", "a_", ".", "é"] {
            let ours = beside(prefix).unwrap();
            assert!(!ours.starts_with(prefix), "{prefix}");
        }
        assert!(beside("").is_err());
        assert_eq!(glob_literal("a*[b]?"), "a\\*\\[b\\]\\?");
    }
}
