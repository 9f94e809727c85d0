//! [`RedisQueue`]: a queue on a Redis or Valkey server, for many machines. Knows no gate.
//!
//! An entry is a hash; each operation is one script, by the server's clock. All keys share a hash tag, so that they
//! lie on one node of a cluster.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use leash_core::{IdGenerator, StoreError, StoreErrorKind, Timestamp};
use leash_store::redis_client::{Script, ScriptInvocation};
use leash_store::{RedisOptions, SharedRedis, StoreUrl};
use tokio::sync::watch;

use crate::entry::clip;
use crate::grant::MAX_GRANTS;
use crate::listening::Listening;
use crate::memory::{check, full};
use crate::moments::seconds;
use crate::queue::MAX_OPEN;
use crate::{
    CallHash, Closed, Closing, Decided, Entry, Grant, GrantUse, HitlQueue, NewEntry, Ruling, Standing,
    Status, Which,
};

/// How long the listener waits before it connects again, and how often it looks whether anybody still waits.
const PAUSE: Duration = Duration::from_millis(250);

/// How long one question may take: people are slower.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long an entry is kept for inspection after it was asked, in seconds: 30 days.
const KEPT_SECONDS: &str = "2592000";

/// What every script begins with. `KEYS[1]` is the prefix of all keys.
macro_rules! script {
    ($body:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(
                "
local p = KEYS[1]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local function num(n) return string.format('%.0f', n) end
local function open(id)
  local v = redis.call('HMGET', p .. 'entry:' .. id, 'status', 'expires_at')
  return v[1] == 'pending' and (not v[2] or tonumber(v[2]) > now)
end
local function moved(id) redis.call('PUBLISH', p .. 'moved', id) end
",
                $body
            ))
        })
    };
}

static ENQUEUE: LazyLock<Script> = script!(
    "
local id, hash = ARGV[1], ARGV[2]
local waits, expires = now + tonumber(ARGV[3]), now + tonumber(ARGV[4])
local found = redis.call('GET', p .. 'call:' .. hash)
if found then
  local key = p .. 'entry:' .. found
  local v = redis.call('HMGET', key, 'status', 'expires_at', 'consumed_at', 'waits_until', 'closed')
  if v[1] and v[2] and tonumber(v[2]) > now and not v[3] and not v[5] then
    if v[1] == 'approved' then return {'is', redis.call('HGETALL', key)} end
    if v[1] == 'pending' then
      if waits > tonumber(v[4]) then redis.call('HSET', key, 'waits_until', num(waits)) end
      if expires > tonumber(v[2]) then
        redis.call('HSET', key, 'expires_at', num(expires))
        redis.call('PEXPIREAT', p .. 'call:' .. hash, num(math.ceil(expires / 1000)))
      end
      return {'is', redis.call('HGETALL', key)}
    end
  end
end
local key = p .. 'entry:' .. id
if redis.call('EXISTS', key) == 1 then return {'taken', {}} end
if redis.call('ZCARD', p .. 'pending') >= tonumber(ARGV[6]) then
  for _, old in ipairs(redis.call('ZRANGE', p .. 'pending', 0, -1)) do
    if not open(old) then redis.call('ZREM', p .. 'pending', old) end
  end
  if redis.call('ZCARD', p .. 'pending') >= tonumber(ARGV[6]) then return {'full', {}} end
end
redis.call('HSET', key, 'id', id, 'status', 'pending', 'created_at', num(now), 'call_hash', hash,
  'waits_until', num(waits), 'expires_at', num(expires))
for i = 7, #ARGV, 2 do redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', key, ARGV[5])
redis.call('ZADD', p .. 'pending', num(now), id)
redis.call('ZADD', p .. 'all', num(now), id)
redis.call('ZREMRANGEBYSCORE', p .. 'all', '-inf', num(now - tonumber(ARGV[5]) * 1000000))
redis.call('SET', p .. 'call:' .. hash, id, 'PXAT', num(math.ceil(expires / 1000)))
moved(id)
return {'is', redis.call('HGETALL', key)}
"
);

static DECIDE: LazyLock<Script> = script!(
    "
local id = ARGV[1]
local key = p .. 'entry:' .. id
local word = 'not'
if redis.call('HGET', key, 'ruling') == ARGV[3] then
  word = 'done'
elseif open(id) then
  redis.call('HSET', key, 'status', ARGV[2], 'decided_at', num(now), 'ruling', ARGV[3])
  for i = 4, #ARGV, 2 do redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
  redis.call('ZREM', p .. 'pending', id)
  moved(id)
  word = 'done'
end
return {word, redis.call('HGETALL', key)}
"
);

static CONSUME: LazyLock<Script> = script!(
    "
local id, hash = ARGV[1], ARGV[2]
local key = p .. 'entry:' .. id
local v = redis.call('HMGET', key, 'status', 'call_hash', 'expires_at', 'consumed_at', 'closed', 'consumer')
if v[6] == ARGV[3] then return 1 end
if v[1] ~= 'approved' or v[2] ~= hash or not v[3] or tonumber(v[3]) <= now or v[4] or v[5] then return 0 end
redis.call('HSET', key, 'consumed_at', num(now), 'consumer', ARGV[3])
if redis.call('GET', p .. 'call:' .. hash) == id then redis.call('DEL', p .. 'call:' .. hash) end
moved(id)
return 1
"
);

static CLOSE: LazyLock<Script> = script!(
    "
local id = ARGV[1]
local key = p .. 'entry:' .. id
local v = redis.call('HMGET', key, 'status', 'waits_until')
if v[1] ~= 'pending' then return 0 end
if ARGV[4] ~= '' and v[2] and tonumber(v[2]) > tonumber(ARGV[4]) then return 0 end
redis.call('HSET', key, 'status', 'rejected', 'decision_reason', ARGV[2], 'closed', ARGV[3], 'decided_at', num(now))
redis.call('ZREM', p .. 'pending', id)
moved(id)
return 1
"
);

static GET: LazyLock<Script> = script!("return redis.call('HGETALL', p .. 'entry:' .. ARGV[1])");

static MOVED: LazyLock<Script> = script!(
    "
local out = {}
for _, id in ipairs(ARGV) do
  local key = p .. 'entry:' .. id
  if redis.call('HGET', key, 'status') ~= 'pending' then
    out[#out + 1] = {id, redis.call('HGETALL', key)}
  end
end
return out
"
);

static LIST: LazyLock<Script> = script!(
    "
local out = {}
for _, id in ipairs(redis.call('ZRANGE', p .. ARGV[1], 0, tonumber(ARGV[2]) - 1)) do
  if ARGV[1] == 'all' or open(id) then out[#out + 1] = redis.call('HGETALL', p .. 'entry:' .. id) end
end
return out
"
);

static ADD_GRANT: LazyLock<Script> = script!(
    "
local key = p .. 'grant:' .. ARGV[1]
if redis.call('EXISTS', key) == 1 then return 0 end
if redis.call('ZCARD', p .. 'grants') >= tonumber(ARGV[2]) then return 2 end
redis.call('HSET', key, 'name', ARGV[1], 'created_at', num(now), 'used', '0')
for i = 3, #ARGV, 2 do redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
redis.call('ZADD', p .. 'grants', num(now), ARGV[1])
return 1
"
);

static GRANTS: LazyLock<Script> = script!(
    "
local out = {}
for _, name in ipairs(redis.call('ZRANGE', p .. 'grants', 0, -1)) do
  out[#out + 1] = redis.call('HGETALL', p .. 'grant:' .. name)
end
return out
"
);

static USE_GRANT: LazyLock<Script> = script!(
    "
local key = p .. 'grant:' .. ARGV[1]
local v = redis.call('HMGET', key, 'used', 'times', 'until', 'revoked_at')
if not v[1] or v[4] or not v[3] or tonumber(v[3]) <= now then return {} end
if v[2] and tonumber(v[1]) >= tonumber(v[2]) then return {} end
redis.call('HINCRBY', key, 'used', 1)
return redis.call('HGETALL', key)
"
);

static REVOKE_GRANT: LazyLock<Script> = script!(
    "
local key = p .. 'grant:' .. ARGV[1]
if redis.call('EXISTS', key) == 0 then return 0 end
return redis.call('HSETNX', key, 'revoked_at', num(now))
"
);

/// Keeps questions on a Redis or Valkey server, or on one node of a cluster, by its clock. Decided entries are kept for
/// 30 days.
///
/// Cheap to clone. A question whose connection broke is asked once more. A decision and the use of an approval are
/// recognised when they come a second time; the use of a grant is not, and is then counted twice.
#[derive(Clone, Debug)]
pub struct RedisQueue {
    server: SharedRedis,
    prefix: String,
    listening: Arc<Listening>,
}

type Fields = HashMap<String, String>;

impl RedisQueue {
    /// The queue on the server at `url`: `redis://…`, `rediss://…`, `redis-cluster://…`. Connects to nothing yet.
    ///
    /// # Errors
    /// [`StoreError`] where the address is none of a Redis server that this build can speak to.
    pub fn new(url: &StoreUrl) -> Result<Self, StoreError> {
        let mut options = RedisOptions::default();
        options.timeout = PATIENCE;
        let server = SharedRedis::new(url, &options)?;
        Ok(Self::on(server, "llm_leash"))
    }

    /// The queue of this name on `server`: several may live on one. The name has no braces.
    #[must_use]
    pub fn on(server: SharedRedis, name: &str) -> Self {
        Self {
            server,
            prefix: format!("{{{}:hitl}}:", name.replace(['{', '}'], "")),
            listening: Listening::new(),
        }
    }

    fn script(&self, script: &'static Script) -> ScriptInvocation<'static> {
        script.key(self.prefix.as_str())
    }
}

/// Hears of what others do, until nobody waits.
async fn listen(server: SharedRedis, channel: String, listening: Arc<Listening>) {
    while listening.is_wanted() {
        if let Ok(mut messages) = server.subscribe("listen to the approval queue", &channel).await {
            // What was decided before this was not heard.
            listening.tell();
            loop {
                tokio::select! {
                    message = messages.next() => match message {
                        Some(_) => listening.tell(),
                        None => break,
                    },
                    () = tokio::time::sleep(PAUSE) => if !listening.is_wanted() { return },
                }
            }
        } else {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn micros(fields: &Fields, name: &str) -> Option<Timestamp> {
    let micros = fields.get(name)?.parse().ok()?;
    Timestamp::from_unix_micros(micros).ok()
}

fn entry(mut fields: Fields) -> Option<Entry> {
    let id = fields.remove("id")?;
    let created_at = micros(&fields, "created_at").unwrap_or(Timestamp::EPOCH);
    let mut required = |name: &str| fields.remove(name).unwrap_or_default();
    Some(Entry {
        id,
        session_id: required("session_id"),
        tool: required("tool"),
        args: required("args"),
        rule_id: required("rule_id"),
        reason: required("reason"),
        status: Status::from_text(&required("status")),
        policy_version: required("policy_version"),
        created_at,
        created_ts: seconds(created_at),
        tenant_id: fields.remove("tenant_id"),
        decision_reason: fields.remove("decision_reason"),
        call_hash: fields.get("call_hash").and_then(|hash| hash.parse().ok()),
        waits_until: micros(&fields, "waits_until"),
        expires_at: micros(&fields, "expires_at"),
        decided_at: micros(&fields, "decided_at"),
        consumed_at: micros(&fields, "consumed_at"),
        closed: fields.get("closed").and_then(|closed| Closed::from_text(closed)),
        operator: fields.remove("operator"),
    })
}

fn standing(mut fields: Fields) -> Option<Standing> {
    Some(Standing {
        created_at: micros(&fields, "created_at")?,
        used: fields.get("used")?.parse().ok()?,
        revoked_at: micros(&fields, "revoked_at"),
        grant: Grant {
            until: micros(&fields, "until")?,
            times: match fields.get("times") {
                None => None,
                Some(times) => Some(times.parse().ok()?),
            },
            what: Grant::what_of_json(fields.get("what")?).ok()?,
            name: fields.remove("name")?,
            session_id: fields.remove("session_id")?,
            operator: fields.remove("operator"),
        },
    })
}

fn corrupt() -> StoreError {
    StoreError::new(
        StoreErrorKind::Corrupt,
        "read the approval queue: an entry makes no sense",
    )
}

/// What tells a question that is asked again, because its connection broke, from another's.
fn once() -> String {
    IdGenerator::from_os().request(Timestamp::EPOCH).to_string()
}

fn in_micros(duration: Duration) -> String {
    // Within what a double of the script holds: a century.
    duration.as_micros().min(3_155_760_000_000_000).to_string()
}

#[async_trait]
impl HitlQueue for RedisQueue {
    async fn enqueue(&self, new: &NewEntry) -> Result<Entry, StoreError> {
        let mut script = self.script(&ENQUEUE);
        script
            .arg(new.id.to_string())
            .arg(new.call_hash.to_string())
            .arg(in_micros(new.wait))
            .arg(in_micros(new.valid_for))
            .arg(KEPT_SECONDS)
            .arg(MAX_OPEN);
        let fields = [
            ("session_id", Some(&new.session_id)),
            ("tenant_id", new.tenant_id.as_ref()),
            ("tool", Some(&new.tool)),
            ("args", Some(&new.args)),
            ("rule_id", Some(&new.rule_id)),
            ("reason", Some(&new.reason)),
            ("policy_version", Some(&new.policy_version)),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                script.arg(name).arg(value);
            }
        }
        let what = "put a request into the approval queue";
        let (word, fields): (String, Fields) = self.server.invoke(what, &script).await?;
        match word.as_str() {
            "is" => entry(fields).ok_or_else(corrupt),
            "full" => Err(full()),
            _ => Err(StoreError::new(
                StoreErrorKind::Conflict,
                "ask a human: the id of the request is taken",
            )),
        }
    }

    async fn decide(&self, id: &str, ruling: &Ruling) -> Result<Decided, StoreError> {
        let mut script = self.script(&DECIDE);
        script.arg(id).arg(ruling.status().as_str()).arg(once());
        for (name, value) in [
            ("decision_reason", ruling.reason()),
            ("operator", ruling.operator()),
        ] {
            if let Some(value) = value {
                script.arg(name).arg(value);
            }
        }
        let what = "decide a request for approval";
        let (word, fields): (String, Fields) = self.server.invoke(what, &script).await?;
        Ok(match (word.as_str(), entry(fields)) {
            (_, None) => Decided::Unknown,
            ("done", Some(entry)) => {
                self.listening.tell();
                Decided::Done(entry)
            }
            (_, Some(entry)) => Decided::NotPending(entry),
        })
    }

    async fn consume(&self, id: &str, hash: &CallHash) -> Result<bool, StoreError> {
        let mut script = self.script(&CONSUME);
        script.arg(id).arg(hash.to_string()).arg(once());
        let moved: i64 = self.server.invoke("use up an approval", &script).await?;
        Ok(moved == 1)
    }

    async fn close(&self, id: &str, closing: &Closing) -> Result<bool, StoreError> {
        let mut script = self.script(&CLOSE);
        script
            .arg(id)
            .arg(clip(&closing.reason))
            .arg(closing.why.as_str())
            .arg(
                closing
                    .unless_awaited_after
                    .map(|at| at.as_unix_micros().to_string())
                    .unwrap_or_default(),
            );
        let moved: i64 = self
            .server
            .invoke("close a request for approval", &script)
            .await?;
        Ok(moved == 1)
    }

    async fn get(&self, id: &str) -> Result<Option<Entry>, StoreError> {
        let mut script = self.script(&GET);
        script.arg(id);
        let fields: Fields = self.server.invoke("read the approval queue", &script).await?;
        if fields.is_empty() {
            return Ok(None);
        }
        entry(fields).map(Some).ok_or_else(corrupt)
    }

    async fn moved(&self, ids: &[String]) -> Result<Vec<(String, Option<Entry>)>, StoreError> {
        let mut script = self.script(&MOVED);
        for id in ids {
            script.arg(id);
        }
        let moved: Vec<(String, Fields)> = self.server.invoke("read the approval queue", &script).await?;
        moved
            .into_iter()
            .map(|(id, fields)| {
                if fields.is_empty() {
                    return Ok((id, None));
                }
                let entry = entry(fields).ok_or_else(corrupt)?;
                Ok((id, Some(entry)))
            })
            .collect()
    }

    async fn list(&self, which: Which) -> Result<Vec<Entry>, StoreError> {
        let mut script = self.script(&LIST);
        script
            .arg(match which {
                Which::Open => "pending",
                Which::All => "all",
            })
            .arg(MAX_OPEN);
        let all: Vec<Fields> = self.server.invoke("read the approval queue", &script).await?;
        Ok(all.into_iter().filter_map(entry).collect())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        let (server, channel) = (self.server.clone(), format!("{}moved", self.prefix));
        self.listening
            .subscribe(|listening| listen(server, channel, listening))
    }

    async fn add_grant(&self, grant: &Grant) -> Result<bool, StoreError> {
        check(grant)?;
        let mut script = self.script(&ADD_GRANT);
        script.arg(&grant.name).arg(MAX_GRANTS);
        let fields = [
            ("session_id", Some(grant.session_id.clone())),
            ("what", Some(grant.what_json())),
            ("until", Some(grant.until.as_unix_micros().to_string())),
            ("times", grant.times.map(|times| times.to_string())),
            ("operator", grant.operator.clone()),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                script.arg(name).arg(value);
            }
        }
        let added: i64 = self.server.invoke("keep a grant", &script).await?;
        if added == 2 { Err(full()) } else { Ok(added == 1) }
    }

    async fn grants(&self) -> Result<Vec<Standing>, StoreError> {
        let all: Vec<Fields> = self
            .server
            .invoke("read the grants", &self.script(&GRANTS))
            .await?;
        // One that makes no sense lets nothing through.
        Ok(all.into_iter().filter_map(standing).collect())
    }

    async fn use_grant(&self, name: &str) -> Result<Option<GrantUse>, StoreError> {
        let mut script = self.script(&USE_GRANT);
        script.arg(name);
        let fields: Fields = self.server.invoke("use a grant", &script).await?;
        Ok(standing(fields).map(|standing| GrantUse {
            name: standing.grant.name,
            used: standing.used,
            times: standing.grant.times,
            operator: standing.grant.operator,
        }))
    }

    async fn revoke_grant(&self, name: &str) -> Result<bool, StoreError> {
        let mut script = self.script(&REVOKE_GRANT);
        script.arg(name);
        let revoked: i64 = self.server.invoke("revoke a grant", &script).await?;
        Ok(revoked == 1)
    }
}
