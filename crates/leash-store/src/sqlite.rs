//! [`Sqlite`]: one database file, on one thread of its own.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use leash_core::{StoreError, StoreErrorKind};
use rusqlite::{ErrorCode, OptionalExtension as _, TransactionBehavior};

/// How a database file is opened.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SqliteOptions {
    /// How long a statement waits for another process to let go of the file. 5 s unless set.
    pub busy_timeout: Duration,
    /// Whether a missing file, and the folder it lies in, are made. Yes unless set.
    pub create: bool,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            busy_timeout: Duration::from_secs(5),
            create: true,
        }
    }
}

/// What a database holds for one party, as steps that build upon each other.
///
/// A step, once released, never changes: a file remembers how many were taken and takes the rest, all of them or none.
/// Several parties may live in one file.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// Whose tables these are: the name under which the file remembers.
    pub name: &'static str,
    /// SQL, a step each.
    pub steps: &'static [&'static str],
}

/// A database file: WAL, a busy time-out, and what was acknowledged is on disk.
///
/// All statements run on one thread, one after the other. Cheap to clone; the file is closed with the last clone.
#[derive(Clone)]
pub struct Sqlite {
    connection: tokio_rusqlite::Connection,
    path: PathBuf,
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Sqlite {
    /// Opens the file at `path` and brings it up to `schemas`.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be opened, is no database, or was written by a later version
    /// ([`StoreErrorKind::Generation`]).
    pub async fn open(
        path: impl AsRef<Path>,
        options: SqliteOptions,
        schemas: &[Schema],
    ) -> Result<Self, StoreError> {
        let path = path.as_ref().to_path_buf();
        if path.as_os_str().is_empty() {
            return Err(StoreError::new(
                StoreErrorKind::Io,
                "open a database without a path",
            ));
        }
        // A path is a path, whatever it looks like. SQLite is built to read one that begins with `file:` as an address, with
        // options such as `mode=memory`, and `:memory:` as no file at all: then nobody else would find what is kept.
        let file = std::path::absolute(&path).map_err(|error| {
            let what = format!("open the database `{}`", path.display());
            StoreError::new(StoreErrorKind::Io, what).with_source(error)
        })?;
        if options.create
            && let Some(folder) = path.parent()
            && let Err(error) = std::fs::create_dir_all(folder)
        {
            let what = format!("make the folder `{}`", folder.display());
            return Err(StoreError::new(StoreErrorKind::Io, what).with_source(error));
        }
        let mut flags =
            rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if options.create {
            flags |= rusqlite::OpenFlags::SQLITE_OPEN_CREATE;
        }
        let what = || format!("open the database `{}`", path.display());
        let connection = tokio_rusqlite::Connection::open_with_flags(&file, flags)
            .await
            .map_err(|error| sqlite_error(what(), error))?;
        let opened = Self {
            connection,
            path: path.clone(),
        };
        let schemas = schemas.to_vec();
        let ready = opened
            .connection
            .call(move |connection| prepare(connection, options.busy_timeout, &schemas))
            .await;
        match ready {
            Ok(()) => Ok(opened),
            Err(tokio_rusqlite::Error::Error(Unready::Sqlite(error))) => Err(sqlite_error(what(), error)),
            Err(tokio_rusqlite::Error::Error(Unready::Later(name))) => Err(StoreError::new(
                StoreErrorKind::Generation,
                format!("{}: its `{name}` was written by a later version", what()),
            )),
            Err(_) => Err(gone(what())),
        }
    }

    /// Runs `work` on the thread of the database. `what` fits "failed to …" and holds no secret.
    ///
    /// Once handed over it runs to its end, even where the future is dropped.
    ///
    /// # Errors
    /// [`StoreError`] of the kind that fits what `work` came back with.
    pub async fn call<T, F>(&self, what: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        match self.connection.call(work).await {
            Ok(value) => Ok(value),
            Err(tokio_rusqlite::Error::Error(error)) => Err(sqlite_error(what, error)),
            Err(_) => Err(gone(what)),
        }
    }

    /// As [`Sqlite::call`], within a transaction that nobody else writes beside: all of `work` is kept, or nothing.
    ///
    /// # Errors
    /// As [`Sqlite::call`].
    pub async fn write<T, F>(&self, what: &'static str, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.call(what, move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
        .await
    }

    /// A number that is another one after anybody else wrote to the file: not after this connection did.
    ///
    /// # Errors
    /// As [`Sqlite::call`].
    /// # Source
    /// SQLite, `PRAGMA data_version`.
    pub async fn data_version(&self) -> Result<i64, StoreError> {
        self.call("ask a database whether it changed", |connection| {
            connection.query_row("PRAGMA data_version", (), |row| row.get(0))
        })
        .await
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

enum Unready {
    Sqlite(rusqlite::Error),
    Later(&'static str),
}

impl From<rusqlite::Error> for Unready {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn prepare(
    connection: &mut rusqlite::Connection,
    busy_timeout: Duration,
    schemas: &[Schema],
) -> Result<(), Unready> {
    connection.busy_timeout(busy_timeout)?;
    enter_wal(connection, busy_timeout)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    if !is_ready(connection, schemas)? {
        migrate(connection, schemas)?;
    }
    Ok(())
}

/// The change to WAL does not wait for whoever else uses the file, so this does.
fn enter_wal(connection: &rusqlite::Connection, patience: Duration) -> rusqlite::Result<()> {
    let start = Instant::now();
    loop {
        let mode =
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match mode {
            Ok(_) => return Ok(()),
            Err(error) if is_busy(&error) && start.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error),
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

fn taken(connection: &rusqlite::Connection, schema: &Schema) -> rusqlite::Result<i64> {
    let taken = connection
        .query_row(
            "SELECT version FROM leash_schema WHERE name = ?1",
            [schema.name],
            |row| row.get(0),
        )
        .optional()?;
    Ok(taken.unwrap_or(0))
}

fn wanted(schema: &Schema) -> i64 {
    i64::try_from(schema.steps.len()).unwrap_or(i64::MAX)
}

/// Without writing: most who open a file find it ready, and should not wait for a writer to learn that.
fn is_ready(connection: &rusqlite::Connection, schemas: &[Schema]) -> Result<bool, Unready> {
    let is_kept: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'leash_schema')",
        (),
        |row| row.get(0),
    )?;
    if !is_kept {
        return Ok(schemas.is_empty());
    }
    for schema in schemas {
        let taken = taken(connection, schema)?;
        if taken > wanted(schema) {
            return Err(Unready::Later(schema.name));
        }
        if taken < wanted(schema) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn migrate(connection: &mut rusqlite::Connection, schemas: &[Schema]) -> Result<(), Unready> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS leash_schema (name TEXT PRIMARY KEY, version INTEGER NOT NULL)",
    )?;
    for schema in schemas {
        let taken = taken(&transaction, schema)?;
        if taken > wanted(schema) {
            return Err(Unready::Later(schema.name));
        }
        for step in schema.steps.iter().skip(usize::try_from(taken).unwrap_or(0)) {
            transaction.execute_batch(step)?;
        }
        transaction.execute(
            "INSERT INTO leash_schema (name, version) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET version = excluded.version",
            (schema.name, wanted(schema)),
        )?;
    }
    transaction.commit()?;
    Ok(())
}

fn gone(what: impl Into<Cow<'static, str>>) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, what)
}

/// The failure of SQLite while doing `what`, which fits "failed to …" and holds no secret; for work that goes through
/// [`Sqlite::call`] in several parts.
pub fn sqlite_error(what: impl Into<Cow<'static, str>>, error: rusqlite::Error) -> StoreError {
    let kind = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreErrorKind::Timeout,
        Some(ErrorCode::DiskFull | ErrorCode::TooBig) => StoreErrorKind::Full,
        // `Unknown` is what SQLite says of statements that do not fit the tables: no such table, no such column. Without
        // a code, what was read is not what is expected there.
        Some(
            ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::TypeMismatch
            | ErrorCode::Unknown,
        )
        | None => StoreErrorKind::Corrupt,
        Some(ErrorCode::ConstraintViolation) => StoreErrorKind::Conflict,
        Some(_) => StoreErrorKind::Io,
    };
    StoreError::new(kind, what).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Schema = Schema {
        name: "test",
        steps: &["CREATE TABLE things (name TEXT PRIMARY KEY)"],
    };
    const TWO: Schema = Schema {
        name: "test",
        steps: &[
            "CREATE TABLE things (name TEXT PRIMARY KEY)",
            "ALTER TABLE things ADD COLUMN size INTEGER NOT NULL DEFAULT 0",
        ],
    };
    const OTHER: Schema = Schema {
        name: "other",
        steps: &["CREATE TABLE others (name TEXT PRIMARY KEY)"],
    };

    async fn open(path: &Path, schemas: &[Schema]) -> Result<Sqlite, StoreError> {
        Sqlite::open(path, SqliteOptions::default(), schemas).await
    }

    #[tokio::test]
    async fn a_file_takes_the_steps_it_lacks_and_keeps_what_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/store.db");
        let first = open(&path, &[ONE]).await.unwrap();
        first
            .write("insert", |tx| tx.execute("INSERT INTO things VALUES ('a')", ()))
            .await
            .unwrap();
        drop(first);
        let second = open(&path, &[TWO, OTHER]).await.unwrap();
        let row: (String, i64) = second
            .call("read", |db| {
                db.query_row("SELECT name, size FROM things", (), |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
            })
            .await
            .unwrap();
        assert_eq!(row, ("a".to_owned(), 0));
        let later = open(&path, &[ONE]).await.unwrap_err();
        assert_eq!(later.kind(), StoreErrorKind::Generation);
    }

    #[tokio::test]
    async fn a_path_that_looks_like_an_address_is_a_file_that_others_find() {
        let folder = tempfile::tempdir_in(".").unwrap();
        let inside = folder.path().file_name().unwrap().to_str().unwrap();
        for name in [
            format!("file:{inside}?mode=memory"),
            format!("file:{inside}.db"),
            ":memory:".to_owned(),
        ] {
            let path = Path::new(&name);
            let first = open(path, &[ONE]).await.unwrap();
            first
                .write("insert", |tx| tx.execute("INSERT INTO things VALUES ('a')", ()))
                .await
                .unwrap();
            let second = open(path, &[ONE]).await.unwrap();
            let count: i64 = second
                .call("count", |db| {
                    db.query_row("SELECT count(*) FROM things", (), |row| row.get(0))
                })
                .await
                .unwrap();
            assert_eq!(count, 1, "{name}");
            assert!(path.is_file(), "{name}");
            drop((first, second));
            for end in ["", "-wal", "-shm"] {
                // Those that the last connection has not taken away.
                drop(std::fs::remove_file(format!("{name}{end}")));
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_who_open_a_new_file_at_once_all_find_it_ready() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let tasks: Vec<_> = (0..16)
            .map(|n| {
                let path = path.clone();
                tokio::spawn(async move {
                    let store = open(&path, &[TWO]).await.unwrap();
                    store
                        .write("insert", move |tx| {
                            tx.execute("INSERT INTO things (name) VALUES (?1)", [n.to_string()])
                        })
                        .await
                        .unwrap();
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let store = open(&path, &[TWO]).await.unwrap();
        let count: i64 = store
            .call("count", |db| {
                db.query_row("SELECT count(*) FROM things", (), |row| row.get(0))
            })
            .await
            .unwrap();
        assert_eq!(count, 16);
    }

    #[tokio::test]
    async fn others_writing_is_seen_and_failures_have_their_kind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let (ours, theirs) = (
            open(&path, &[ONE]).await.unwrap(),
            open(&path, &[ONE]).await.unwrap(),
        );
        let before = ours.data_version().await.unwrap();
        let insert = |tx: &rusqlite::Transaction<'_>| tx.execute("INSERT INTO things VALUES ('a')", ());
        theirs.write("insert", insert).await.unwrap();
        assert_ne!(ours.data_version().await.unwrap(), before);
        let twice = theirs.write("insert", insert).await.unwrap_err();
        assert_eq!(twice.kind(), StoreErrorKind::Conflict);
        assert_eq!(twice.to_string(), "failed to insert (conflict)");
        let unknown = theirs
            .call("read", |db| {
                db.query_row("SELECT x FROM things", (), |row| row.get::<_, i64>(0))
            })
            .await
            .unwrap_err();
        assert_eq!(unknown.kind(), StoreErrorKind::Corrupt);
        let text = folder.path().join("text");
        std::fs::write(
            &text,
            "this is no database at all, but it is long enough to be read as one".repeat(20),
        )
        .unwrap();
        assert_eq!(
            open(&text, &[ONE]).await.unwrap_err().kind(),
            StoreErrorKind::Corrupt
        );
        let absent = SqliteOptions {
            create: false,
            ..SqliteOptions::default()
        };
        assert!(
            Sqlite::open(folder.path().join("absent"), absent, &[])
                .await
                .is_err()
        );
    }
}
