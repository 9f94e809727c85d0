//! [`SqliteStore`]: spending kept in a database file, for the processes of one machine.

mod lane;
mod ledger;
mod rows;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use leash_core::{Clock, IdGenerator, ReservationId, StoreError, StoreErrorKind};
use leash_store::{Sqlite, SqliteOptions};

use self::lane::{Access, Known, Lane, Orphan};
use self::ledger::{Life, begin_life, life};
use self::rows::SCHEMA;
use crate::{
    Balance, BudgetAdmin, BudgetStore, Expired, Generation, Hit, Hits, Hold, Reserve, Restored, Scope,
    ScopeKey, Settled, Settlement, Standing, Window, Written,
};

/// How many statements are kept ready.
const STATEMENTS: usize = 64;
/// How much of the file is kept in memory; SQLite counts KiB below zero and pages above.
const CACHE_KIB: i64 = -16_384;
/// After how many pages of 4 KiB the log of the file is copied into it: each time waits for the disk twice, whatever
/// `synchronous` says.
const CHECKPOINT_PAGES: i64 = 4_000;
/// How long a restoration may take: it writes everything there is, in one transaction.
const RESTORING: Duration = Duration::from_mins(10);

/// What the answer of a [`SqliteStore`] outlives.
///
/// In either case what is answered outlives the death of every process, and the file is never torn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SqliteSync {
    /// A loss of power and a crash of the machine too: each transaction is flushed to the disk before it is answered
    /// (`synchronous=FULL`).
    #[default]
    Full,
    /// Only the death of processes (`synchronous=NORMAL`): several times as fast where the disk is slow. After a loss of
    /// power the last seconds may be missing: money that was spent is then not counted, and a cap can be passed by it.
    Normal,
}

/// How a [`SqliteStore`] is opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SqliteStoreOptions {
    /// What its answers outlive. Everything unless set.
    pub sync: SqliteSync,
    /// How long an operation may take before its caller hears [`StoreErrorKind::Timeout`]; it may have happened. 5 s
    /// unless set.
    pub timeout: Duration,
    /// Which life of the store is expected; another one is refused ([`StoreErrorKind::Generation`]). Any unless set.
    pub expected: Option<Generation>,
}

impl Default for SqliteStoreOptions {
    fn default() -> Self {
        Self {
            sync: SqliteSync::Full,
            timeout: Duration::from_secs(5),
            expected: None,
        }
    }
}

/// Keeps spending in a database file (WAL), shared by all processes of a machine that open it.
///
/// One thread writes. What comes while it is busy waits in a queue of fixed length, and goes into the next transaction
/// together; each answer is given after the commit. Another thread reads. Leases and windows go by `clock`, which should
/// be the machine's: the processes must agree.
///
/// A store notices that its data was lost: the file is missing, is another one, began a new life
/// ([`BudgetAdmin::restore`]), or is older than what this process has written. From then on everything is refused
/// ([`StoreErrorKind::Generation`]) until the store is opened anew. The file must lie on a disk of this machine: file
/// locks over a network cannot be relied on.
///
/// The schema is written down where it is made, in `sqlite/rows.rs`; it is versioned, and a file of a later version is
/// refused. Ids that ended are remembered for a day, and the newest 10,000 however old they are. At most 1,000 holds
/// expire at once, and a list has at most 100,000 rows.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("budget.db");
/// use std::sync::Arc;
/// use leash_budget::{BudgetStore, Scope, SqliteStore, SqliteStoreOptions};
/// use leash_core::SystemClock;
///
/// // A program that embeds its store may make it where there is none yet.
/// let store = SqliteStore::open_or_init(&path, Arc::new(SystemClock), SqliteStoreOptions::default()).await?;
/// let balances = store.balances(&[Scope::global("5".parse()?)]).await?;
/// assert!(balances[0].spent.is_zero());
///
/// // A service does not: a file that is gone is money forgotten.
/// let lost = folder.path().join("lost.db");
/// let refused = SqliteStore::open(&lost, Arc::new(SystemClock), SqliteStoreOptions::default()).await;
/// assert!(refused.is_err());
/// # Ok(())
/// # }
/// ```
pub struct SqliteStore {
    known: Arc<Known>,
    writer: Lane,
    reader: Lane,
    timeout: Duration,
    ids: IdGenerator,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.known.path)
            .field("generation", &self.known.generation())
            .finish_non_exhaustive()
    }
}

fn refuse(kind: StoreErrorKind, path: &Path, why: &str) -> StoreError {
    StoreError::new(kind, format!("open the budget `{}`: {why}", path.display()))
}

fn missing(path: &Path, what: &str) -> StoreError {
    let hint = format!(
        "{what}; `llm-leash budget init sqlite:{}` makes one",
        path.display()
    );
    refuse(StoreErrorKind::Unavailable, path, &hint)
}

impl SqliteStore {
    /// Opens the budget in the file at `path`.
    ///
    /// # Errors
    /// [`StoreError`] where there is no such file or no budget in it ([`StoreErrorKind::Unavailable`]), where it is in
    /// another life than expected or was written by a later version ([`StoreErrorKind::Generation`]), or where it cannot
    /// be read.
    /// # Panics
    /// Outside of a Tokio runtime that keeps time; so does every operation.
    pub async fn open(
        path: impl AsRef<Path>,
        clock: Arc<dyn Clock>,
        options: SqliteStoreOptions,
    ) -> Result<Self, StoreError> {
        let path = whole(path.as_ref())?;
        if !holds_budget(&path).await? {
            return Err(if options.expected.is_some() {
                refuse(
                    StoreErrorKind::Generation,
                    &path,
                    "it holds no budget, and one was expected",
                )
            } else {
                missing(&path, "it holds no budget")
            });
        }
        let file = Sqlite::open(&path, opening(false), &[SCHEMA]).await?;
        Self::with(path, file, clock, options).await
    }

    /// Makes a budget, empty, in the file at `path`, which may hold other things; it and its folder are made where they
    /// are missing.
    ///
    /// # Errors
    /// [`StoreError`] where there is a budget already ([`StoreErrorKind::Conflict`]), where a generation is expected, which no new
    /// budget has ([`StoreErrorKind::Generation`]), or the file cannot be written.
    /// # Panics
    /// As [`SqliteStore::open`].
    pub async fn init(
        path: impl AsRef<Path>,
        clock: Arc<dyn Clock>,
        options: SqliteStoreOptions,
    ) -> Result<Self, StoreError> {
        let path = whole(path.as_ref())?;
        if options.expected.is_some() {
            return Err(refuse(
                StoreErrorKind::Generation,
                &path,
                "one is expected that has begun already",
            ));
        }
        let (file, is_new) = make(&path, &clock).await?;
        if !is_new {
            return Err(refuse(
                StoreErrorKind::Conflict,
                &path,
                "it holds a budget already",
            ));
        }
        Self::with(path, file, clock, options).await
    }

    /// As [`SqliteStore::open`], or [`SqliteStore::init`] where there is no budget yet and none is expected.
    ///
    /// For a program that embeds its store. It takes a file that was lost for one that never was: what was spent
    /// before is then forgotten, unless [`SqliteStoreOptions::expected`] says what to look for.
    ///
    /// # Errors
    /// As theirs.
    /// # Panics
    /// As [`SqliteStore::open`].
    pub async fn open_or_init(
        path: impl AsRef<Path>,
        clock: Arc<dyn Clock>,
        options: SqliteStoreOptions,
    ) -> Result<Self, StoreError> {
        if options.expected.is_some() {
            return Self::open(path, clock, options).await;
        }
        let path = whole(path.as_ref())?;
        let (file, _) = make(&path, &clock).await?;
        Self::with(path, file, clock, options).await
    }

    /// Opens the file at `path` for [`BudgetAdmin::restore`]: with a budget in it, without one, or not there at all. Until
    /// it is restored a file without a budget holds none, so nobody else finds an empty one in the meantime, and
    /// everything else that this store is asked is refused. What is expected is not looked at.
    ///
    /// # Errors
    /// [`StoreError`] where the file cannot be opened or made.
    /// # Panics
    /// As [`SqliteStore::open`].
    pub async fn open_for_restore(
        path: impl AsRef<Path>,
        clock: Arc<dyn Clock>,
        mut options: SqliteStoreOptions,
    ) -> Result<Self, StoreError> {
        let path = whole(path.as_ref())?;
        options.expected = None;
        let file = Sqlite::open(&path, opening(true), &[SCHEMA]).await?;
        Self::start(path, file, clock, options, true).await
    }

    async fn with(
        path: PathBuf,
        file: Sqlite,
        clock: Arc<dyn Clock>,
        options: SqliteStoreOptions,
    ) -> Result<Self, StoreError> {
        Self::start(path, file, clock, options, false).await
    }

    async fn start(
        path: PathBuf,
        file: Sqlite,
        clock: Arc<dyn Clock>,
        options: SqliteStoreOptions,
        restores: bool,
    ) -> Result<Self, StoreError> {
        let sync = options.sync;
        let found = file
            .call("prepare the budget file", move |db| {
                tune(db, sync)?;
                life(db)
            })
            .await?;
        let found = match found {
            Some(found) => found,
            None if restores => Life {
                generation: Generation::new("none yet"),
                turn: 0,
            },
            None => return Err(missing(&path, "it holds no budget")),
        };
        if let Some(expected) = &options.expected
            && *expected != found.generation
        {
            let why = format!(
                "it is in the life `{}`, and `{expected}` was expected",
                found.generation
            );
            return Err(refuse(StoreErrorKind::Generation, &path, &why));
        }
        let reading = Sqlite::open(&path, opening(false), &[]).await?;
        reading
            .call("prepare the budget file", move |db| tune(db, sync))
            .await?;
        let known = Arc::new(Known::new(path, found)?);
        Ok(Self {
            writer: Lane::open(file, Access::Write, known.clone(), clock.clone()).await?,
            reader: Lane::open(reading, Access::Read, known.clone(), clock.clone()).await?,
            known,
            timeout: options.timeout,
            ids: IdGenerator::from_os(),
            clock,
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.known.path
    }
}

fn opening(create: bool) -> SqliteOptions {
    let mut options = SqliteOptions::default();
    options.create = create;
    options
}

/// The path as it is from anywhere: a process may change its folder while the store is open.
fn whole(path: &Path) -> Result<PathBuf, StoreError> {
    std::path::absolute(path)
        .map_err(|error| refuse(StoreErrorKind::Io, path, "no such path").with_source(error))
}

async fn holds_budget(path: &Path) -> Result<bool, StoreError> {
    match std::fs::metadata(path) {
        // A file of no bytes is a database to SQLite, which would write to it.
        Ok(file) if file.len() == 0 => return Ok(false),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            return Err(refuse(StoreErrorKind::Io, path, "cannot look at it").with_source(error));
        }
    }
    let file = Sqlite::open(path, opening(false), &[]).await?;
    file.call("look for a budget", |db| {
        let is_kept =
            "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'leash_budget_life')";
        if db.query_row(is_kept, (), |row| row.get(0))? {
            Ok(life(db)?.is_some())
        } else {
            Ok(false)
        }
    })
    .await
}

/// The file with a budget in it, and whether that was made just now. Of several who make one at once, one does.
async fn make(path: &Path, clock: &Arc<dyn Clock>) -> Result<(Sqlite, bool), StoreError> {
    let file = Sqlite::open(path, opening(true), &[SCHEMA]).await?;
    let now = clock.now();
    let generation = new_generation(&IdGenerator::from_os(), clock);
    let is_new = file
        .write("begin a budget", move |tx| begin_life(tx, &generation, now))
        .await?;
    Ok((file, is_new))
}

fn new_generation(ids: &IdGenerator, clock: &Arc<dyn Clock>) -> Generation {
    Generation::new(ids.reservation(clock.now()).to_string())
}

fn tune(db: &leash_store::rusqlite::Connection, sync: SqliteSync) -> leash_store::rusqlite::Result<()> {
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    db.busy_handler(Some(wait_for_others))?;
    db.pragma_update(None, "cache_size", CACHE_KIB)?;
    db.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    db.pragma_update(
        None,
        "synchronous",
        match sync {
            SqliteSync::Full => "FULL",
            SqliteSync::Normal => "NORMAL",
        },
    )
}

/// Other processes hold the file for a fraction of a millisecond at a time, so asking often costs less than waiting long.
/// About 5 s in all.
fn wait_for_others(asked: i32) -> bool {
    let pause = if asked < 64 { 100 } else { 1_000 };
    std::thread::sleep(Duration::from_micros(pause));
    asked < 5_000
}

#[async_trait]
impl BudgetStore for SqliteStore {
    fn is_durable(&self) -> bool {
        true
    }

    async fn reserve(&self, hold: &Hold) -> Result<Reserve, StoreError> {
        let hold = hold.clone();
        self.writer
            .ask(
                "reserve in the budget",
                Orphan::Dropped,
                self.timeout,
                move |ledger| ledger.reserve(&hold),
            )
            .await
    }

    async fn settle(&self, settlement: &Settlement) -> Result<Settled, StoreError> {
        let settlement = settlement.clone();
        self.writer
            .ask(
                "settle in the budget",
                Orphan::Kept,
                self.timeout,
                move |ledger| ledger.settle(&settlement),
            )
            .await
    }

    async fn release(&self, id: ReservationId) -> Result<(), StoreError> {
        self.writer
            .ask(
                "release in the budget",
                Orphan::Kept,
                self.timeout,
                move |ledger| ledger.release(id),
            )
            .await
    }

    async fn renew(&self, id: ReservationId, lease: Duration) -> Result<(), StoreError> {
        self.writer
            .ask("renew in the budget", Orphan::Kept, self.timeout, move |ledger| {
                ledger.renew(id, lease)
            })
            .await
    }

    async fn expire(&self, limit: usize) -> Result<Vec<Expired>, StoreError> {
        self.writer
            .ask(
                "expire in the budget",
                Orphan::Dropped,
                self.timeout,
                move |ledger| ledger.expire(limit),
            )
            .await
    }

    async fn confirm(&self, lines: &[Written]) -> Result<(), StoreError> {
        let lines = lines.to_vec();
        self.writer
            .ask(
                "confirm lines in the budget",
                Orphan::Kept,
                self.timeout,
                move |ledger| ledger.confirm(&lines),
            )
            .await
    }

    async fn balances(&self, scopes: &[Scope]) -> Result<Vec<Balance>, StoreError> {
        let scopes = scopes.to_vec();
        self.reader
            .ask("read the budget", Orphan::Dropped, self.timeout, move |ledger| {
                ledger.balances(&scopes)
            })
            .await
    }

    async fn close(&self, key: &ScopeKey) -> Result<Balance, StoreError> {
        let key = key.clone();
        self.writer
            .ask(
                "close a scope of the budget",
                Orphan::Kept,
                self.timeout,
                move |ledger| ledger.close(&key),
            )
            .await
    }

    async fn hit(&self, hit: &Hit) -> Result<Hits, StoreError> {
        let hit = hit.clone();
        self.writer
            .ask(
                "count in the budget",
                Orphan::Dropped,
                self.timeout,
                move |ledger| ledger.hit(&hit),
            )
            .await
    }
}

#[async_trait]
impl BudgetAdmin for SqliteStore {
    async fn generation(&self) -> Result<Generation, StoreError> {
        // The lane refuses any other life than the one that is known, so asking it is asking the file.
        self.reader
            .ask("read the budget", Orphan::Dropped, self.timeout, |_| Ok(()))
            .await?;
        Ok(self.known.generation())
    }

    async fn list(
        &self,
        after: Option<(&ScopeKey, Window)>,
        limit: usize,
    ) -> Result<Vec<Balance>, StoreError> {
        let after = after.map(|(key, window)| (key.clone(), window));
        self.reader
            .ask("list the budget", Orphan::Dropped, self.timeout, move |ledger| {
                ledger.list(after.as_ref(), limit)
            })
            .await
    }

    async fn standing(
        &self,
        after: Option<ReservationId>,
        limit: usize,
    ) -> Result<Vec<Standing>, StoreError> {
        self.reader
            .ask(
                "list what is held",
                Orphan::Dropped,
                self.timeout,
                move |ledger| ledger.standing(after, limit),
            )
            .await
    }

    async fn reset(&self, key: &ScopeKey) -> Result<Balance, StoreError> {
        let key = key.clone();
        self.writer
            .ask(
                "reset a scope of the budget",
                Orphan::Kept,
                self.timeout,
                move |ledger| ledger.reset(&key),
            )
            .await
    }

    async fn restore(&self, sums: &[Restored]) -> Result<Generation, StoreError> {
        let sums = sums.to_vec();
        let generation = new_generation(&self.ids, &self.clock);
        self.writer
            .ask("restore the budget", Orphan::Begins, RESTORING, move |ledger| {
                ledger.restore(&sums, &generation)
            })
            .await
    }
}
