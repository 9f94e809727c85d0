//! [`SqliteQueue`]: a queue in a database file, shared with the original. Knows no gate.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use leash_core::{Clock, StoreError, StoreErrorKind, SystemClock, Timestamp};
use leash_store::rusqlite::types::Value;
use leash_store::rusqlite::{self, OptionalExtension as _, Row, params};
use leash_store::{Schema, Sqlite, SqliteOptions};
use tokio::sync::watch;

use crate::entry::clip;
use crate::grant::MAX_GRANTS;
use crate::listening::Listening;
use crate::memory::{check, full};
use crate::moments::{of_micros, of_seconds};
use crate::queue::MAX_OPEN;
use crate::{
    CallHash, Closed, Closing, Decided, Entry, Grant, GrantUse, HitlQueue, NewEntry, Ruling, Standing,
    Status, Which,
};

/// How often the file is asked whether another program wrote to it, while somebody waits here: often as long as things
/// move, and less so after [`QUIET`] looks that found nothing, for people take their time.
const LOOK: Duration = Duration::from_millis(1);
const LOOK_WHEN_QUIET: Duration = Duration::from_millis(8);
const QUIET: u32 = 1000;

/// The first statements are the original's table; the columns after it are ours, each with a default, so that the
/// original reads and writes the same rows.
const SCHEMA: Schema = Schema {
    name: "hitl",
    steps: &["
CREATE TABLE IF NOT EXISTS hitl_requests (
    request_id TEXT PRIMARY KEY,
    created_ts REAL NOT NULL,
    session_id TEXT NOT NULL,
    tenant_id TEXT,
    tool TEXT NOT NULL,
    args_json TEXT NOT NULL,
    rule_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending','approved','rejected')),
    decision_reason TEXT
);
CREATE INDEX IF NOT EXISTS idx_hitl_status ON hitl_requests(status);
ALTER TABLE hitl_requests ADD COLUMN call_hash TEXT DEFAULT NULL;
ALTER TABLE hitl_requests ADD COLUMN policy_version TEXT NOT NULL DEFAULT '';
ALTER TABLE hitl_requests ADD COLUMN waits_until_us INTEGER DEFAULT NULL;
ALTER TABLE hitl_requests ADD COLUMN expires_at_us INTEGER DEFAULT NULL;
ALTER TABLE hitl_requests ADD COLUMN decided_at_us INTEGER DEFAULT NULL;
ALTER TABLE hitl_requests ADD COLUMN operator TEXT DEFAULT NULL;
ALTER TABLE hitl_requests ADD COLUMN consumed_at_us INTEGER DEFAULT NULL;
ALTER TABLE hitl_requests ADD COLUMN closed TEXT DEFAULT NULL;
CREATE INDEX idx_hitl_call ON hitl_requests(call_hash) WHERE call_hash IS NOT NULL AND consumed_at_us IS NULL;
CREATE TABLE hitl_grants (
    name TEXT PRIMARY KEY,
    created_at_us INTEGER NOT NULL,
    session_id TEXT NOT NULL,
    what_json TEXT NOT NULL,
    until_us INTEGER NOT NULL,
    times INTEGER,
    used INTEGER NOT NULL DEFAULT 0,
    operator TEXT,
    revoked_at_us INTEGER
);
"],
};

const COLUMNS: &str = "request_id, created_ts, session_id, tenant_id, tool, args_json, rule_id, reason, status, \
                       decision_reason, call_hash, policy_version, waits_until_us, expires_at_us, decided_at_us, \
                       operator, consumed_at_us, closed";

/// Keeps questions in a database file, in the original's table and columns beside it: an operator of either program
/// decides what either asks.
///
/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct SqliteQueue {
    store: Sqlite,
    /// A connection of its own to ask whether the file changed, which SQLite tells of others' writes only.
    looks: Sqlite,
    clock: Arc<dyn Clock>,
    listening: Arc<Listening>,
}

impl SqliteQueue {
    /// Opens the file at `path`, and makes it where it is missing.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be opened, or is no such file.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with_clock(path, Arc::new(SystemClock)).await
    }

    /// Opens the file at `path` by another clock.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_with_clock(path: impl AsRef<Path>, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let options = SqliteOptions::default();
        let path = path.as_ref();
        Ok(Self {
            store: Sqlite::open(path, options, &[SCHEMA]).await?,
            looks: Sqlite::open(path, options, &[]).await?,
            clock,
            listening: Listening::new(),
        })
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// Looks whether another program wrote, until nobody waits.
async fn look(store: Sqlite, listening: Arc<Listening>) {
    let mut seen = None;
    let mut quiet = 0_u32;
    while listening.is_wanted() {
        // A file that cannot be asked counts as changed: who waits asks it, and is told what is wrong.
        let version = store.data_version().await.ok();
        if version.is_none() || seen != version {
            seen = version;
            quiet = 0;
            listening.tell();
        } else {
            quiet = quiet.saturating_add(1);
        }
        tokio::time::sleep(if quiet < QUIET { LOOK } else { LOOK_WHEN_QUIET }).await;
    }
}

/// A text, whatever type another program stored it as.
fn text(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<String>> {
    Ok(match row.get::<_, Value>(index)? {
        Value::Null => None,
        Value::Integer(number) => Some(number.to_string()),
        Value::Real(number) => Some(number.to_string()),
        Value::Text(text) => Some(text),
        Value::Blob(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
    })
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let required = |index| text(row, index).map(Option::unwrap_or_default);
    let created_ts = row.get::<_, Option<f64>>(1)?.unwrap_or(0.0);
    Ok(Entry {
        id: required(0)?,
        created_at: of_seconds(created_ts),
        created_ts,
        session_id: required(2)?,
        tenant_id: text(row, 3)?,
        tool: required(4)?,
        args: required(5)?,
        rule_id: required(6)?,
        reason: required(7)?,
        status: Status::from_text(&required(8)?),
        decision_reason: text(row, 9)?,
        call_hash: text(row, 10)?.and_then(|hash| hash.parse().ok()),
        policy_version: required(11)?,
        waits_until: of_micros(row.get(12)?),
        expires_at: of_micros(row.get(13)?),
        decided_at: of_micros(row.get(14)?),
        operator: text(row, 15)?,
        consumed_at: of_micros(row.get(16)?),
        closed: text(row, 17)?.and_then(|closed| Closed::from_text(&closed)),
    })
}

fn one(db: &rusqlite::Connection, id: &str) -> rusqlite::Result<Option<Entry>> {
    db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM hitl_requests WHERE request_id = ?1"
    ))?
    .query_row([id], entry)
    .optional()
}

/// What enqueuing came to: SQLite's errors have no room for ours.
enum Enqueued {
    /// The entry, and whether it is new.
    Is(Box<Entry>, bool),
    Full,
    Taken,
}

fn enqueue(db: &rusqlite::Connection, new: &NewEntry, now: Timestamp) -> rusqlite::Result<Enqueued> {
    let hash = new.call_hash.to_string();
    let at = now.as_unix_micros();
    let found = db
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM hitl_requests
             WHERE call_hash = ?1 AND consumed_at_us IS NULL AND expires_at_us > ?2
               AND status IN ('approved', 'pending') AND closed IS NULL
             ORDER BY status, created_ts LIMIT 1"
        ))?
        .query_row(params![hash, at], entry)
        .optional()?;
    if let Some(mut found) = found {
        if found.status == Status::Pending {
            found.waits_until = found.waits_until.max(Some(now.saturating_add(new.wait)));
            found.expires_at = found.expires_at.max(Some(now.saturating_add(new.valid_for)));
            db.prepare_cached(
                "UPDATE hitl_requests SET waits_until_us = ?2, expires_at_us = ?3 WHERE request_id = ?1",
            )?
            .execute(params![
                found.id,
                found.waits_until.map(Timestamp::as_unix_micros),
                found.expires_at.map(Timestamp::as_unix_micros),
            ])?;
        }
        return Ok(Enqueued::Is(Box::new(found), false));
    }
    let open: i64 = db
        .prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM hitl_requests WHERE status = 'pending'
             AND (expires_at_us IS NULL OR expires_at_us > ?1) LIMIT ?2)",
        )?
        .query_row(params![at, limit(MAX_OPEN)], |row| row.get(0))?;
    if open >= limit(MAX_OPEN) {
        return Ok(Enqueued::Full);
    }
    let made = Entry::made_of(new, now);
    let inserted = db
        .prepare_cached(
            "INSERT OR IGNORE INTO hitl_requests (request_id, created_ts, session_id, tenant_id, tool, args_json,
             rule_id, reason, status, call_hash, policy_version, waits_until_us, expires_at_us)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'pending', ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            made.id,
            made.created_ts,
            made.session_id,
            made.tenant_id,
            made.tool,
            made.args,
            made.rule_id,
            made.reason,
            hash,
            made.policy_version,
            made.waits_until.map(Timestamp::as_unix_micros),
            made.expires_at.map(Timestamp::as_unix_micros),
        ])?;
    Ok(if inserted == 1 {
        Enqueued::Is(Box::new(made), true)
    } else {
        Enqueued::Taken
    })
}

fn limit(entries: usize) -> i64 {
    i64::try_from(entries).unwrap_or(i64::MAX)
}

fn standing(row: &Row<'_>) -> rusqlite::Result<Option<Standing>> {
    let what: String = row.get(3)?;
    let Ok(what) = Grant::what_of_json(&what) else {
        return Ok(None);
    };
    let at =
        |index| -> rusqlite::Result<Timestamp> { Ok(of_micros(row.get(index)?).unwrap_or(Timestamp::EPOCH)) };
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    Ok(Some(Standing {
        grant: Grant {
            name: row.get(0)?,
            session_id: row.get(2)?,
            what,
            until: at(4)?,
            times: row.get::<_, Option<i64>>(5)?.map(count),
            operator: row.get(7)?,
        },
        created_at: at(1)?,
        used: count(row.get(6)?),
        revoked_at: of_micros(row.get(8)?),
    }))
}

#[async_trait]
impl HitlQueue for SqliteQueue {
    async fn enqueue(&self, new: &NewEntry) -> Result<Entry, StoreError> {
        let (new, now) = (new.clone(), self.now());
        let done = self
            .store
            .write("put a request into the approval queue", move |db| {
                enqueue(db, &new, now)
            })
            .await?;
        match done {
            Enqueued::Is(entry, is_new) => {
                if is_new {
                    self.listening.tell();
                }
                Ok(*entry)
            }
            Enqueued::Full => Err(full()),
            Enqueued::Taken => Err(StoreError::new(
                StoreErrorKind::Conflict,
                "ask a human: the id of the request is taken",
            )),
        }
    }

    async fn decide(&self, id: &str, ruling: &Ruling) -> Result<Decided, StoreError> {
        let (id, ruling, at) = (id.to_owned(), ruling.clone(), self.now().as_unix_micros());
        let (moved, entry) = self
            .store
            .write("decide a request for approval", move |db| {
                let moved = db
                    .prepare_cached(
                        "UPDATE hitl_requests SET status = ?2, decision_reason = ?3, operator = ?4, decided_at_us = ?5
                         WHERE request_id = ?1 AND status = 'pending'
                           AND (expires_at_us IS NULL OR expires_at_us > ?5)",
                    )?
                    .execute(params![id, ruling.status().as_str(), ruling.reason(), ruling.operator(), at])?;
                Ok((moved, one(db, &id)?))
            })
            .await?;
        Ok(match (moved, entry) {
            (_, None) => Decided::Unknown,
            (0, Some(entry)) => Decided::NotPending(entry),
            (_, Some(entry)) => {
                self.listening.tell();
                Decided::Done(entry)
            }
        })
    }

    async fn consume(&self, id: &str, hash: &CallHash) -> Result<bool, StoreError> {
        let (id, hash, at) = (id.to_owned(), hash.to_string(), self.now().as_unix_micros());
        let moved = self
            .store
            .write("use up an approval", move |db| {
                db.prepare_cached(
                    "UPDATE hitl_requests SET consumed_at_us = ?3
                     WHERE request_id = ?1 AND call_hash = ?2 AND status = 'approved' AND closed IS NULL
                       AND consumed_at_us IS NULL AND expires_at_us > ?3",
                )?
                .execute(params![id, hash, at])
            })
            .await?;
        if moved == 1 {
            self.listening.tell();
        }
        Ok(moved == 1)
    }

    async fn close(&self, id: &str, closing: &Closing) -> Result<bool, StoreError> {
        let (id, closing, at) = (id.to_owned(), closing.clone(), self.now().as_unix_micros());
        let moved = self
            .store
            .write("close a request for approval", move |db| {
                db.prepare_cached(
                    "UPDATE hitl_requests SET status = 'rejected', decision_reason = ?2, closed = ?3, decided_at_us = ?4
                     WHERE request_id = ?1 AND status = 'pending'
                       AND (?5 IS NULL OR waits_until_us IS NULL OR waits_until_us <= ?5)",
                )?
                .execute(params![
                    id,
                    clip(&closing.reason),
                    closing.why.as_str(),
                    at,
                    closing.unless_awaited_after.map(Timestamp::as_unix_micros),
                ])
            })
            .await?;
        if moved == 1 {
            self.listening.tell();
        }
        Ok(moved == 1)
    }

    async fn get(&self, id: &str) -> Result<Option<Entry>, StoreError> {
        let id = id.to_owned();
        self.store
            .call("read the approval queue", move |db| one(db, &id))
            .await
    }

    async fn moved(&self, ids: &[String]) -> Result<Vec<(String, Option<Entry>)>, StoreError> {
        let ids = ids.to_vec();
        self.store
            .call("read the approval queue", move |db| {
                let mut status =
                    db.prepare_cached("SELECT status FROM hitl_requests WHERE request_id = ?1")?;
                let mut moved = Vec::new();
                for id in ids {
                    let found = status.query_row([&id], |row| text(row, 0)).optional()?;
                    let found = found.map(|found| Status::from_text(&found.unwrap_or_default()));
                    if found != Some(Status::Pending) {
                        let entry = one(db, &id)?;
                        moved.push((id, entry));
                    }
                }
                Ok(moved)
            })
            .await
    }

    async fn list(&self, which: Which) -> Result<Vec<Entry>, StoreError> {
        let at = self.now().as_unix_micros();
        self.store
            .call("read the approval queue", move |db| {
                let only = match which {
                    Which::Open => "status = 'pending' AND (expires_at_us IS NULL OR expires_at_us > ?1)",
                    Which::All => "?1 IS NOT NULL",
                };
                db.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM hitl_requests WHERE {only} ORDER BY created_ts, rowid LIMIT ?2"
                ))?
                .query_map(params![at, limit(MAX_OPEN)], entry)?
                .collect()
            })
            .await
    }

    fn changes(&self) -> watch::Receiver<u64> {
        let looks = self.looks.clone();
        self.listening.subscribe(|listening| look(looks, listening))
    }

    async fn add_grant(&self, grant: &Grant) -> Result<bool, StoreError> {
        check(grant)?;
        let (grant, at) = (grant.clone(), self.now().as_unix_micros());
        let added = self
            .store
            .write("keep a grant", move |db| {
                let kept: i64 = db.query_row("SELECT count(*) FROM hitl_grants", (), |row| row.get(0))?;
                if kept >= limit(MAX_GRANTS) {
                    return Ok(None);
                }
                db.execute(
                    "INSERT OR IGNORE INTO hitl_grants (name, created_at_us, session_id, what_json, until_us, times,
                     operator) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![
                        grant.name,
                        at,
                        grant.session_id,
                        grant.what_json(),
                        grant.until.as_unix_micros(),
                        grant.times.map(|times| i64::try_from(times).unwrap_or(i64::MAX)),
                        grant.operator,
                    ],
                )
                .map(Some)
            })
            .await?;
        added.map(|added| added == 1).ok_or_else(full)
    }

    async fn grants(&self) -> Result<Vec<Standing>, StoreError> {
        self.store
            .call("read the grants", |db| {
                let mut statement = db.prepare_cached(
                    "SELECT name, created_at_us, session_id, what_json, until_us, times, used, operator, revoked_at_us
                     FROM hitl_grants ORDER BY created_at_us, rowid LIMIT ?1",
                )?;
                let rows = statement.query_map([limit(MAX_GRANTS)], standing)?;
                // One that makes no sense lets nothing through.
                rows.filter_map(Result::transpose).collect()
            })
            .await
    }

    async fn use_grant(&self, name: &str) -> Result<Option<GrantUse>, StoreError> {
        let (name, at) = (name.to_owned(), self.now().as_unix_micros());
        self.store
            .write("use a grant", move |db| {
                db.prepare_cached(
                    "UPDATE hitl_grants SET used = used + 1
                     WHERE name = ?1 AND revoked_at_us IS NULL AND until_us > ?2 AND (times IS NULL OR used < times)
                     RETURNING name, used, times, operator",
                )?
                .query_row(params![name, at], |row| {
                    let count = |number: i64| u64::try_from(number).unwrap_or(0);
                    Ok(GrantUse {
                        name: row.get(0)?,
                        used: count(row.get(1)?),
                        times: row.get::<_, Option<i64>>(2)?.map(count),
                        operator: row.get(3)?,
                    })
                })
                .optional()
            })
            .await
    }

    async fn revoke_grant(&self, name: &str) -> Result<bool, StoreError> {
        let (name, at) = (name.to_owned(), self.now().as_unix_micros());
        let moved = self
            .store
            .write("revoke a grant", move |db| {
                db.execute(
                    "UPDATE hitl_grants SET revoked_at_us = ?2 WHERE name = ?1 AND revoked_at_us IS NULL",
                    params![name, at],
                )
            })
            .await?;
        Ok(moved == 1)
    }
}
