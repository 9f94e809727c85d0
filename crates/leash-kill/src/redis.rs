//! [`RedisKillRegistry`]: orders in a Redis or Valkey server, for many machines.

use std::time::Duration;

use async_trait::async_trait;
use leash_core::{Caller, SessionId, StoreError, StoreErrorKind};
use leash_store::redis_client::{Pipeline, cmd};
use leash_store::{Redis, RedisOptions, StoreUrl};
use tokio::sync::watch;

use crate::view::{Backend, Reading, View};
use crate::{Answer, KillOrder, KillRegistry, Target, ViewOptions, wire};

/// The prefix of the Python package.
pub(crate) const DEFAULT_PREFIX: &str = "llm_leash:kill:";
/// More orders than a person will ever look at, and few enough to hold in memory.
const MAX_ORDERS: usize = 100_000;
/// How many keys one command names: the server answers others in between.
const CHUNK: usize = 500;

/// Orders in a Redis or Valkey server.
///
/// An order for a session is the string key `{prefix}{session_id}` with the reason in it, as the Python package writes
/// it, so either program's order stops the other's agents. Who and when, and all wider orders, stand in two hashes
/// beside it. A background task hears of our own orders by a published message, and reads the keys of all active
/// sessions every 25 ms, since other programs publish nothing. A single server or a primary, not a cluster.
#[derive(Debug)]
pub struct RedisKillRegistry {
    view: View,
}

impl RedisKillRegistry {
    /// The registry in the server at `url`, with keys as the Python package names them. Connects in the background:
    /// until that succeeds, calls are refused.
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
        let redis = Redis::new(url, RedisOptions::default())?;
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
    redis: Redis,
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
        let mut found = Vec::new();
        let mut wide = Vec::new();
        // At least one question: the wide orders are read in any case.
        let mut chunks = sessions.chunks(CHUNK);
        let mut is_first = true;
        loop {
            let chunk = chunks.next();
            let mut pipeline = Pipeline::new();
            if is_first {
                pipeline.cmd("HGETALL").arg(&self.wide);
            }
            if let Some(chunk) = chunk {
                let mget = pipeline.cmd("MGET");
                for id in chunk {
                    mget.arg(self.key(id));
                }
            } else if !is_first {
                break;
            }
            let what = "read the kill orders";
            let reasons: Vec<Option<Vec<u8>>>;
            if is_first && chunk.is_some() {
                let fields: Vec<(Vec<u8>, Vec<u8>)>;
                (fields, reasons) = self.redis.pipeline(what, &pipeline).await?;
                wide = wide_orders(fields)?;
            } else if is_first {
                let (fields,): (Vec<(Vec<u8>, Vec<u8>)>,) = self.redis.pipeline(what, &pipeline).await?;
                wide = wide_orders(fields)?;
                reasons = Vec::new();
            } else {
                (reasons,) = self.redis.pipeline(what, &pipeline).await?;
            }
            let killed = chunk.unwrap_or_default().iter().zip(reasons);
            found.extend(killed.filter_map(|(id, reason)| {
                reason.map(|reason| (id.clone(), String::from_utf8_lossy(&reason).into_owned()))
            }));
            is_first = false;
        }
        Ok(Reading::State {
            version: None,
            sessions: self.with_details(found).await?,
            wide,
        })
    }

    async fn kill(&self, order: &KillOrder) -> Result<(), StoreError> {
        let json = wire::order_to_string(order);
        let mut pipeline = Pipeline::new();
        pipeline.atomic();
        if let Target::Session(id) = &order.target {
            pipeline
                .cmd("HSET")
                .arg(&self.details)
                .arg(id.as_str())
                .arg(json)
                .ignore();
            pipeline.cmd("SET").arg(self.key(id)).arg(&*order.reason).ignore();
        } else {
            pipeline
                .cmd("HSET")
                .arg(&self.wide)
                .arg(order.target.to_string())
                .arg(json)
                .ignore();
        }
        pipeline.cmd("PUBLISH").arg(&self.channel).arg("kill").ignore();
        self.redis.pipeline::<()>("keep a kill order", &pipeline).await
    }

    async fn clear(&self, target: &Target) -> Result<bool, StoreError> {
        let mut pipeline = Pipeline::new();
        pipeline.atomic();
        if let Target::Session(id) = target {
            pipeline.cmd("DEL").arg(self.key(id));
            pipeline.cmd("HDEL").arg(&self.details).arg(id.as_str()).ignore();
        } else {
            pipeline.cmd("HDEL").arg(&self.wide).arg(target.to_string());
        }
        pipeline.cmd("PUBLISH").arg(&self.channel).arg("clear").ignore();
        let (cleared,): (u64,) = self.redis.pipeline("clear a kill order", &pipeline).await?;
        Ok(cleared > 0)
    }

    async fn orders(&self) -> Result<Vec<KillOrder>, StoreError> {
        const WHAT: &str = "list the kill orders";
        let fields = self.redis.query(WHAT, cmd("HGETALL").arg(&self.wide)).await?;
        let mut orders = wide_orders(fields)?;
        let mut ids = Vec::new();
        let mut cursor = 0_u64;
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor)
                .arg("MATCH")
                .arg(format!("{}*", glob_literal(&self.prefix)))
                .arg("COUNT")
                .arg(1000);
            let (next, keys): (u64, Vec<Vec<u8>>) = self.redis.query(WHAT, &scan).await?;
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
            if next == 0 {
                break;
            }
            cursor = next;
        }
        // A scan may name a key twice.
        ids.sort();
        ids.dedup();
        let mut found = Vec::new();
        for chunk in ids.chunks(CHUNK) {
            let mut mget = cmd("MGET");
            for id in chunk {
                mget.arg(self.key(id));
            }
            let reasons: Vec<Option<Vec<u8>>> = self.redis.query(WHAT, &mget).await?;
            found.extend(chunk.iter().zip(reasons).filter_map(|(id, reason)| {
                reason.map(|reason| (id.clone(), String::from_utf8_lossy(&reason).into_owned()))
            }));
        }
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
