//! [`SqliteKillRegistry`]: orders in a database file, for the processes of one machine.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use leash_core::{Caller, SessionId, StoreError, StoreErrorKind, Timestamp};
use leash_store::rusqlite::types::ValueRef;
use leash_store::rusqlite::{self, OptionalExtension as _, Row};
use leash_store::{Schema, Sqlite, SqliteOptions};
use tokio::sync::watch;

use crate::view::{Backend, Reading, View};
use crate::{Answer, KillOrder, KillRegistry, Target, ViewOptions};

/// More orders than a person will ever look at, and few enough to hold in memory.
const MAX_ORDERS: usize = 100_000;

/// The first table is the one that other programs share with us, and is theirs as much as ours. The second holds what
/// it has no room for: who and when, and all orders that are wider than a session. Triggers keep the two together
/// whoever writes.
const SCHEMA: Schema = Schema {
    name: "kill",
    steps: &["
        CREATE TABLE IF NOT EXISTS killed_sessions (session_id TEXT PRIMARY KEY, reason TEXT NOT NULL);
        CREATE TABLE leash_kill_orders (
            kind TEXT NOT NULL CHECK (kind IN ('session', 'agent', 'tenant', 'everything')),
            name TEXT NOT NULL,
            reason TEXT NOT NULL,
            operator TEXT,
            at_us INTEGER,
            PRIMARY KEY (kind, name)
        ) WITHOUT ROWID;
        CREATE TRIGGER leash_kill_given AFTER INSERT ON killed_sessions WHEN NEW.session_id IS NOT NULL BEGIN
            INSERT INTO leash_kill_orders (kind, name, reason, operator, at_us)
            VALUES ('session', NEW.session_id, '', NULL,
                    CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER) * 1000)
            ON CONFLICT (kind, name) DO UPDATE SET operator = NULL, at_us = excluded.at_us;
        END;
        CREATE TRIGGER leash_kill_given_again AFTER UPDATE ON killed_sessions WHEN NEW.session_id IS NOT NULL BEGIN
            INSERT INTO leash_kill_orders (kind, name, reason, operator, at_us)
            VALUES ('session', NEW.session_id, '', NULL,
                    CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER) * 1000)
            ON CONFLICT (kind, name) DO UPDATE SET operator = NULL, at_us = excluded.at_us;
        END;
        CREATE TRIGGER leash_kill_cleared AFTER DELETE ON killed_sessions WHEN OLD.session_id IS NOT NULL BEGIN
            DELETE FROM leash_kill_orders WHERE kind = 'session' AND name = OLD.session_id;
        END;
    "],
};

/// Orders in a database file, shared by all processes of a machine that open it.
///
/// Orders for sessions stand in the table `killed_sessions` of the Python package, so either program's order stops the
/// other's agents. A background task on the runtime that `open` is called in asks the file every 10 ms whether
/// anybody wrote to it, which costs microseconds; calls are answered from memory.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("kill.db");
/// use leash_core::{Caller, SessionId};
/// use leash_kill::{KillOrder, KillRegistry, SqliteKillRegistry, Target, ViewOptions};
///
/// let registry = SqliteKillRegistry::open(&path, ViewOptions::default()).await?;
/// let id = SessionId::new("s_1")?;
/// registry.kill(KillOrder::new(Target::Session(id.clone()), "loops", None).by("ops")).await?;
/// assert!(registry.standing(&Caller::session(id)).await?.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SqliteKillRegistry {
    view: View,
}

impl SqliteKillRegistry {
    /// Opens the file at `path`, which is made where it is missing.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be opened or is no such database.
    /// # Panics
    /// Outside of a Tokio runtime.
    pub async fn open(path: impl AsRef<Path>, options: ViewOptions) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let writer = Sqlite::open(path, SqliteOptions::default(), &[SCHEMA]).await?;
        // Readers of WAL wait for nobody; one that does has a bad day, and the next beat comes soon.
        let mut quick = SqliteOptions::default();
        quick.busy_timeout = Duration::from_millis(50);
        let reader = Sqlite::open(path, quick, &[SCHEMA]).await?;
        Ok(Self {
            view: View::new(SqliteBackend { reader, writer }, options),
        })
    }
}

crate::registry_by_view!(SqliteKillRegistry);

/// Two connections: a writer that waits for its turn must not hold up the reading.
#[derive(Debug)]
struct SqliteBackend {
    reader: Sqlite,
    writer: Sqlite,
}

#[async_trait]
impl Backend for SqliteBackend {
    fn poll(&self) -> Duration {
        Duration::from_millis(10)
    }

    async fn read(&self, sessions: &[SessionId], since: Option<&str>) -> Result<Reading, StoreError> {
        let sessions = sessions.to_vec();
        let since = since.and_then(|since| since.parse::<i64>().ok());
        self.reader
            .call("read the kill orders", move |database| {
                // Asked before the orders are read: what is written in between is read again at the next beat.
                let version: i64 = database.query_row("PRAGMA data_version", (), |row| row.get(0))?;
                if since == Some(version) {
                    return Ok(Reading::Unchanged);
                }
                let read = database.transaction()?;
                let mut one = read.prepare_cached(
                    "SELECT 'session', k.session_id, k.reason, o.operator, o.at_us
                     FROM killed_sessions k
                     LEFT JOIN leash_kill_orders o ON o.kind = 'session' AND o.name = k.session_id
                     WHERE k.session_id = ?1",
                )?;
                let mut orders = Vec::new();
                for id in sessions {
                    let order = one
                        .query_row([id.as_str()], |row| order_of(row, Target::Session(id.clone())))
                        .optional()?;
                    orders.extend(order);
                }
                let mut rest = read.prepare_cached(
                    "SELECT kind, name, reason, operator, at_us FROM leash_kill_orders WHERE kind <> 'session'",
                )?;
                let wide = all_orders(&mut rest)?;
                Ok(Reading::State {
                    version: Some(version.to_string()),
                    sessions: orders,
                    wide,
                })
            })
            .await
    }

    async fn kill(&self, order: &KillOrder) -> Result<(), StoreError> {
        let order = order.clone();
        self.writer
            .write("keep a kill order", move |database| {
                let at = order.at.map(Timestamp::as_unix_micros);
                let (kind, name) = (order.target.kind(), order.target.name());
                if let Target::Session(id) = &order.target {
                    database.execute(
                        "INSERT INTO killed_sessions (session_id, reason) VALUES (?1, ?2)
                         ON CONFLICT (session_id) DO UPDATE SET reason = excluded.reason",
                        (id.as_str(), &*order.reason),
                    )?;
                }
                database.execute(
                    "INSERT INTO leash_kill_orders (kind, name, reason, operator, at_us) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (kind, name) DO UPDATE
                     SET reason = excluded.reason, operator = excluded.operator, at_us = excluded.at_us",
                    (kind, name, &*order.reason, order.operator.as_deref(), at),
                )?;
                Ok(())
            })
            .await
    }

    async fn clear(&self, target: &Target) -> Result<bool, StoreError> {
        let target = target.clone();
        self.writer
            .write("clear a kill order", move |database| {
                let cleared = if let Target::Session(id) = &target {
                    database.execute("DELETE FROM killed_sessions WHERE session_id = ?1", [id.as_str()])?
                } else {
                    database.execute(
                        "DELETE FROM leash_kill_orders WHERE kind = ?1 AND name = ?2",
                        (target.kind(), target.name()),
                    )?
                };
                Ok(cleared > 0)
            })
            .await
    }

    async fn orders(&self) -> Result<Vec<KillOrder>, StoreError> {
        let mut orders = self
            .reader
            .call("list the kill orders", |database| {
                let mut all = database.prepare_cached(
                    "SELECT kind, name, reason, operator, at_us FROM leash_kill_orders WHERE kind <> 'session'
                     UNION ALL
                     SELECT 'session', k.session_id, k.reason, o.operator, o.at_us FROM killed_sessions k
                     LEFT JOIN leash_kill_orders o ON o.kind = 'session' AND o.name = k.session_id
                     WHERE k.session_id IS NOT NULL
                     LIMIT 100001",
                )?;
                all_orders(&mut all)
            })
            .await?;
        if orders.len() > MAX_ORDERS {
            return Err(StoreError::new(
                StoreErrorKind::Full,
                "list more than 100,000 kill orders",
            ));
        }
        orders.sort_by(|one, other| one.target.cmp(&other.target));
        Ok(orders)
    }

    async fn watch(&self, _hint: &(dyn Fn() + Send + Sync)) {
        // SQLite tells nobody; the beat asks.
        std::future::pending::<()>().await;
    }
}

/// An id that we would not make can be none of our callers', so it is left out. A target of an unknown kind may be
/// anybody's, and the table cannot hold one.
fn all_orders(statement: &mut rusqlite::CachedStatement<'_>) -> rusqlite::Result<Vec<KillOrder>> {
    let mut rows = statement.query(())?;
    let mut orders = Vec::new();
    while let Some(row) = rows.next()? {
        let kind = text_of(row, 0)?;
        let name = text_of(row, 1)?;
        if let Ok(target) = Target::new(&kind, &name) {
            orders.push(order_of(row, target)?);
        }
    }
    Ok(orders)
}

/// Whatever another program wrote where a reason belongs, the order stands.
fn order_of(row: &Row<'_>, target: Target) -> rusqlite::Result<KillOrder> {
    let at: Option<i64> = row.get(4)?;
    let at = at.and_then(|micros| Timestamp::from_unix_micros(micros).ok());
    let order = KillOrder::new(target, text_of(row, 2)?, at);
    let operator: Option<Arc<str>> = row.get(3)?;
    Ok(match operator {
        Some(operator) => order.by(operator),
        None => order,
    })
}

fn text_of(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Null => String::new(),
    })
}
