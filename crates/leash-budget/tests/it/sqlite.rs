//! The database file: the laws, what it refuses, and what is in it.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use leash_budget::conformance::{ManualClock, Subject};
use leash_budget::{
    BudgetAdmin, BudgetStore, Expired, Generation, Hit, Hold, Reserve, Restored, Scope, ScopeKey, Settlement,
    SqliteStore, SqliteStoreOptions, SqliteSync, Window, Written, budget_admin_conformance,
    budget_store_clock_conformance, budget_store_conformance,
};
use leash_core::{Clock, IdGenerator, StoreErrorKind, SystemClock, Timestamp, Usd};
use leash_store::rusqlite::Connection;
use tempfile::TempDir;

use crate::processes::hold;

#[path = "sqlite_faults.rs"]
mod faults;

const LONG: Duration = Duration::from_hours(1);

fn options() -> SqliteStoreOptions {
    let mut options = SqliteStoreOptions::default();
    options.sync = SqliteSync::Normal;
    options.timeout = Duration::from_secs(30);
    options
}

pub(crate) async fn open(path: &Path) -> Arc<dyn BudgetStore> {
    let opened = SqliteStore::open_or_init(path, Arc::new(SystemClock), options()).await;
    Arc::new(opened.unwrap())
}

pub(crate) async fn open_by(path: &Path, clock: Arc<dyn Clock>) -> Arc<dyn BudgetStore> {
    Arc::new(at(path, clock).await)
}

thread_local! {
    /// The folders of a test's stores, until its thread ends: the laws know nothing of folders.
    static FOLDERS: RefCell<Vec<TempDir>> = const { RefCell::new(Vec::new()) };
}

fn fresh_path() -> PathBuf {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("budget.db");
    FOLDERS.with_borrow_mut(|folders| folders.push(folder));
    path
}

async fn administered() -> Arc<dyn BudgetAdmin> {
    Arc::new(at(&fresh_path(), system()).await)
}

/// In 1970, until it is set.
async fn subject() -> Subject {
    let clock = Arc::new(ManualClock::new(Timestamp::EPOCH));
    Subject {
        store: Arc::new(at(&fresh_path(), clock.clone()).await),
        set_clock: Arc::new(move |now| clock.set(now)),
    }
}

budget_store_conformance!(laws, async { open(&fresh_path()).await });
budget_store_clock_conformance!(time, subject());
budget_admin_conformance!(admin, administered());

mod shared {
    crate::processes_share!({
        let folder = tempfile::tempdir().unwrap();
        (
            format!("sqlite:{}", folder.path().join("budget.db").display()),
            folder,
        )
    });
}

fn hand_clock(text: &str) -> Arc<ManualClock> {
    Arc::new(ManualClock::new(moment(text)))
}

fn moment(text: &str) -> Timestamp {
    text.parse().unwrap()
}

async fn at(path: &Path, clock: Arc<dyn Clock>) -> SqliteStore {
    SqliteStore::open_or_init(path, clock, options()).await.unwrap()
}

fn system() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn usd(nanos: u64) -> Usd {
    Usd::from_nanos(nanos).unwrap()
}

fn team(cap: u64) -> Scope {
    Scope::capped(ScopeKey::named("team", "a"), usd(cap))
}

fn new_hold(amount: u64, scopes: &[Scope]) -> Hold {
    hold(
        IdGenerator::from_os().reservation(SystemClock.now()),
        amount,
        scopes,
        LONG,
    )
}

fn bill(hold: &Hold, amount: u64) -> Settlement {
    Settlement {
        id: hold.id,
        amount: usd(amount),
        scopes: hold.scopes.clone(),
        owes_line: false,
    }
}

async fn granted(store: &SqliteStore, hold: &Hold) -> bool {
    matches!(store.reserve(hold).await.unwrap(), Reserve::Granted(_))
}

async fn sums(store: &SqliteStore, scope: &Scope) -> (u64, u64) {
    let balances = store.balances(std::slice::from_ref(scope)).await.unwrap();
    (balances[0].spent.as_nanos(), balances[0].reserved.as_nanos())
}

fn count(path: &Path, table: &str) -> i64 {
    let db = Connection::open(path).unwrap();
    db.query_row(&format!("SELECT count(*) FROM {table}"), (), |row| row.get(0))
        .unwrap()
}

#[tokio::test]
async fn a_missing_file_is_refused_with_a_hint_and_not_made() {
    let path = fresh_path();
    let refused = SqliteStore::open(&path, system(), options()).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Unavailable);
    assert!(
        refused.to_string().contains("`llm-leash budget init sqlite:"),
        "{refused}"
    );
    assert!(!path.exists());
    // Nor is a file without a budget taken for an empty one, or changed.
    std::fs::write(&path, b"").unwrap();
    assert!(SqliteStore::open(&path, system(), options()).await.is_err());
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);

    let made = SqliteStore::init(&path, system(), options()).await.unwrap();
    let generation = made.generation().await.unwrap();
    let again = SqliteStore::init(&path, system(), options()).await.unwrap_err();
    assert_eq!(again.kind(), StoreErrorKind::Conflict);
    for store in [
        SqliteStore::open(&path, system(), options()).await.unwrap(),
        SqliteStore::open_or_init(&path, system(), options())
            .await
            .unwrap(),
    ] {
        assert_eq!(store.generation().await.unwrap(), generation);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_make_a_budget_at_once_share_one() {
    let path = fresh_path();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            tokio::spawn(async move { at(&path, system()).await.generation().await.unwrap() })
        })
        .collect();
    let first = at(&path, system()).await.generation().await.unwrap();
    for task in tasks {
        assert_eq!(task.await.unwrap(), first);
    }
}

#[tokio::test]
async fn all_that_was_acknowledged_is_there_when_the_file_is_opened_again() {
    let path = fresh_path();
    let (day, closed) = (
        team(100).per(Window::Day).soft(usd(50)),
        ScopeKey::named("team", "closed"),
    );
    let hit = Hit {
        key: day.key.clone(),
        limit: 3,
        within: Some(LONG),
    };
    let ever = Hit {
        within: None,
        ..hit.clone()
    };
    let store = at(&path, system()).await;
    let (held, settled, released) = (
        new_hold(7, &[day.clone(), team(100)]),
        new_hold(5, std::slice::from_ref(&day)),
        new_hold(3, std::slice::from_ref(&day)),
    );
    for hold in [&held, &settled, &released] {
        assert!(granted(&store, hold).await);
    }
    store.settle(&bill(&settled, 4)).await.unwrap();
    store.release(released.id).await.unwrap();
    store.close(&closed).await.unwrap();
    for hit in [&hit, &ever, &ever] {
        assert!(store.hit(hit).await.unwrap().is_allowed);
    }
    let generation = store.generation().await.unwrap();
    drop(store);

    let store = at(&path, system()).await;
    assert_eq!(store.generation().await.unwrap(), generation);
    assert_eq!(
        (sums(&store, &day).await, sums(&store, &team(0)).await),
        ((4, 7), (0, 7))
    );
    let standing = store.standing(None, 10).await.unwrap();
    assert_eq!(standing.len(), 1);
    assert_eq!(standing[0].hold, held);
    assert!(granted(&store, &held).await);
    assert!(!store.settle(&bill(&settled, 4)).await.unwrap().applied);
    assert!(store.reserve(&released).await.is_err());
    let refused = store
        .reserve(&new_hold(1, &[Scope::capped(closed, usd(9))]))
        .await
        .unwrap();
    assert!(matches!(refused, Reserve::Refused(refused) if refused.cap.is_zero()));
    assert_eq!(store.hit(&hit).await.unwrap().count, 2);
    assert_eq!(store.hit(&ever).await.unwrap().count, 3);
}

/// Refused, whatever is asked, and for the reason that data was lost.
async fn is_lost(store: &SqliteStore) -> bool {
    let reserved = store.reserve(&new_hold(1, &[team(100)])).await;
    let read = store.balances(&[team(100)]).await;
    let kinds = [reserved.map(drop), read.map(drop)].map(|answer| answer.map_err(|error| error.kind()));
    kinds == [Err(StoreErrorKind::Generation); 2]
}

#[tokio::test]
async fn a_store_that_lost_its_data_refuses_until_it_is_opened_anew() {
    // The file is gone, then another one is in its place.
    let path = fresh_path();
    let store = at(&path, system()).await;
    assert!(granted(&store, &new_hold(1, &[team(100)])).await);
    for end in ["", "-wal", "-shm"] {
        std::fs::remove_file(format!("{}{end}", path.display())).unwrap();
    }
    assert!(is_lost(&store).await);
    let other = at(&path, system()).await;
    assert!(is_lost(&store).await && !is_lost(&other).await);

    // A new life began in the same file.
    other.restore(&[]).await.unwrap();
    assert!(!is_lost(&other).await);
    let third = at(&path, system()).await;
    third.restore(&[]).await.unwrap();
    assert!(is_lost(&other).await && !is_lost(&third).await);

    // The same life, put back to an earlier state.
    let db = Connection::open(&path).unwrap();
    db.execute("UPDATE leash_budget_life SET turn = turn - 1", ())
        .unwrap();
    assert!(is_lost(&third).await);
    db.execute("DELETE FROM leash_budget_life", ()).unwrap();
    assert!(is_lost(&third).await);
}

#[tokio::test]
async fn another_generation_than_expected_is_refused_at_opening() {
    let path = fresh_path();
    let mut expecting = options();
    expecting.expected = Some(Generation::new("the one"));
    let kind = async || {
        let opened = SqliteStore::open_or_init(&path, system(), expecting.clone()).await;
        opened.unwrap_err().kind()
    };
    assert_eq!(kind().await, StoreErrorKind::Generation);
    assert!(!path.exists());
    let generation = at(&path, system()).await.generation().await.unwrap();
    assert_eq!(kind().await, StoreErrorKind::Generation);
    expecting.expected = Some(generation);
    assert!(SqliteStore::open(&path, system(), expecting).await.is_ok());
}

#[tokio::test]
async fn what_is_restored_is_all_there_is() {
    let path = fresh_path();
    let clock = hand_clock("2026-03-01T00:10:00Z");
    let store = at(&path, clock.clone()).await;
    let before = store.generation().await.unwrap();
    assert!(granted(&store, &new_hold(50, &[team(100)])).await);
    let sum = |window, at: &str, spent| Restored {
        key: team(0).key,
        window,
        at: at.parse().unwrap(),
        spent: usd(spent),
    };
    let sums_of_logs = [
        sum(Window::Total, "2026-02-28T23:00:00Z", 40),
        sum(Window::Total, "2026-03-01T00:00:00Z", 30),
        sum(Window::Hour, "2026-02-28T23:59:59Z", 9),
        sum(Window::Hour, "2026-03-01T00:00:00Z", 2),
        sum(Window::Day, "2026-02-28T12:00:00Z", 8),
    ];
    let generation = store.restore(&sums_of_logs).await.unwrap();
    assert_ne!(generation, before);
    assert_eq!(store.generation().await.unwrap(), generation);
    assert_eq!(sums(&store, &team(0)).await, (70, 0));
    assert_eq!(sums(&store, &team(0).per(Window::Hour)).await, (2, 0));
    assert_eq!(sums(&store, &team(0).per(Window::Day)).await, (0, 0));
    assert!(store.standing(None, 10).await.unwrap().is_empty());
    assert!(!granted(&store, &new_hold(31, &[team(100)])).await);
    assert!(granted(&store, &new_hold(30, &[team(100)])).await);
}

#[tokio::test]
async fn a_store_that_was_opened_for_restore_is_nobodys_budget_until_it_is_restored() {
    let path = fresh_path();
    let store = SqliteStore::open_for_restore(&path, system(), options())
        .await
        .unwrap();
    assert!(is_lost(&store).await && store.generation().await.is_err());
    assert!(SqliteStore::open(&path, system(), options()).await.is_err());
    let sums_of_logs = [Restored {
        key: team(0).key,
        window: Window::Total,
        at: SystemClock.now(),
        spent: usd(90),
    }];
    let generation = store.restore(&sums_of_logs).await.unwrap();
    let other = SqliteStore::open(&path, system(), options()).await.unwrap();
    for store in [&store, &other] {
        assert_eq!(store.generation().await.unwrap(), generation);
        assert_eq!(sums(store, &team(0)).await, (90, 0));
        assert!(!granted(store, &new_hold(11, &[team(100)])).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_fails_does_not_fail_those_beside_it() {
    let path = fresh_path();
    let store = Arc::new(at(&path, system()).await);
    let (good, spoilt) = (new_hold(1, &[team(10_000)]), new_hold(1, &[team(10_000)]));
    for hold in [&good, &spoilt] {
        assert!(granted(&store, hold).await);
    }
    Connection::open(&path)
        .unwrap()
        .execute(
            "UPDATE leash_budget_holds SET scopes = 'nonsense' WHERE id = ?1",
            [spoilt.id.as_u128().to_be_bytes()],
        )
        .unwrap();
    let tasks: Vec<_> = (0..200_u64)
        .map(|turn| {
            let (store, good, spoilt) = (store.clone(), good.clone(), spoilt.clone());
            tokio::spawn(async move {
                match turn % 4 {
                    0 => {
                        let other = Hold {
                            amount: usd(2),
                            ..good
                        };
                        let refused = store.reserve(&other).await.unwrap_err();
                        assert_eq!(refused.kind(), StoreErrorKind::Conflict);
                    }
                    1 => {
                        let refused = store.settle(&bill(&spoilt, 1)).await.unwrap_err();
                        assert_eq!(refused.kind(), StoreErrorKind::Corrupt);
                    }
                    2 => {
                        let twice = new_hold(1, &[team(10_000), team(10_000)]);
                        let refused = store.reserve(&twice).await.unwrap_err();
                        assert_eq!(refused.kind(), StoreErrorKind::Conflict);
                    }
                    _ => assert!(granted(&store, &new_hold(1, &[team(10_000)])).await),
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(sums(&store, &team(0)).await, (0, 52));
}

#[tokio::test]
async fn whoever_waits_too_long_for_another_writer_hears_so_and_may_ask_again() {
    let path = fresh_path();
    let mut impatient = options();
    impatient.timeout = Duration::from_millis(50);
    let store = SqliteStore::open_or_init(&path, system(), impatient)
        .await
        .unwrap();
    let first = new_hold(7, &[team(10)]);
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let late = store.reserve(&first).await.unwrap_err();
    assert_eq!(late.kind(), StoreErrorKind::Timeout);
    // Reading goes on.
    assert_eq!(sums(&store, &team(0)).await, (0, 0));
    other.execute_batch("ROLLBACK").unwrap();
    let patient = at(&path, system()).await;
    assert!(granted(&patient, &first).await);
    assert_eq!(sums(&patient, &team(0)).await, (0, 7));
}

#[tokio::test]
async fn what_nobody_needs_any_more_is_forgotten_little_by_little() {
    let path = fresh_path();
    let clock = hand_clock("2026-02-28T23:30:00Z");
    let store = at(&path, clock.clone()).await;
    let hourly = team(1_000_000).per(Window::Hour);
    for turn in 0..150_u64 {
        let hold = new_hold(1, std::slice::from_ref(&hourly));
        assert!(granted(&store, &hold).await);
        store.settle(&bill(&hold, 1)).await.unwrap();
        let hit = Hit {
            key: ScopeKey::named("loop", &turn.to_string()),
            limit: 1,
            within: Some(LONG),
        };
        store.hit(&hit).await.unwrap();
    }
    let held = new_hold(5, std::slice::from_ref(&hourly));
    assert!(granted(&store, &held).await);
    let tables = || {
        ["leash_budget_ended", "leash_budget_hits", "leash_budget_accounts"].map(|table| count(&path, table))
    };
    assert_eq!(tables(), [150, 150, 1]);

    clock.set(moment("2026-03-01T01:30:00Z"));
    assert!(granted(&store, &new_hold(1, std::slice::from_ref(&hourly))).await);
    // The hour that is past is kept for what is held in it; the ids for a day.
    assert_eq!(tables(), [150, 150 - 64, 2]);
    store.settle(&bill(&held, 5)).await.unwrap();
    assert_eq!(tables(), [151, 150 - 128, 1]);
    // A day later, with ten thousand that ended after them.
    clock.set(moment("2026-03-02T02:30:00Z"));
    Connection::open(&path)
        .unwrap()
        .execute(
            "WITH RECURSIVE turns (turn) AS (SELECT 1 UNION ALL SELECT turn + 1 FROM turns WHERE turn < 10000)
             INSERT INTO leash_budget_ended (id, how, amount, at_us) SELECT randomblob(16), 0, 0, 0 FROM turns",
            (),
        )
        .unwrap();
    for left in [151 - 64, 151 - 128, 0, 0] {
        assert!(granted(&store, &new_hold(1, std::slice::from_ref(&hourly))).await);
        assert_eq!(tables()[0], 10_000 + left);
    }
    assert_eq!(sums(&store, &hourly).await, (0, 4));
}

/// What the third step of the schema did, undone.
const SECOND_SCHEMA: &str = "
    CREATE TABLE leash_budget_owed (
        id BLOB PRIMARY KEY CHECK (length(id) = 16),
        amount INTEGER NOT NULL,
        until_us INTEGER NOT NULL,
        lease_ns INTEGER,
        scopes TEXT NOT NULL,
        line TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX leash_budget_owed_until ON leash_budget_owed (until_us);
    INSERT INTO leash_budget_owed
        SELECT id, amount, until_us, lease_ns, scopes, line FROM leash_budget_holds WHERE how IS NOT NULL;
    DELETE FROM leash_budget_holds WHERE how IS NOT NULL;
    ALTER TABLE leash_budget_holds DROP COLUMN how;
    ALTER TABLE leash_budget_holds DROP COLUMN charged;
    ALTER TABLE leash_budget_ended DROP COLUMN lease_ns;
    ALTER TABLE leash_budget_ended DROP COLUMN line;
    UPDATE leash_schema SET version = 2 WHERE name = 'budget';
";

fn written(hold: &Hold, charged: u64) -> Written {
    Written {
        id: hold.id,
        charged: usd(charged),
    }
}

fn owing(hold: &Hold, amount: u64) -> Settlement {
    Settlement {
        owes_line: true,
        ..bill(hold, amount)
    }
}

#[tokio::test]
async fn a_file_of_the_first_schema_is_taken_over_with_all_that_is_in_it() {
    let path = fresh_path();
    let clock = hand_clock("2026-11-22T12:00:00Z");
    let scope = team(100);
    let mut short = new_hold(6, std::slice::from_ref(&scope));
    short.lease = Duration::from_secs(1);
    let first = at(&path, clock.clone()).await;
    assert!(granted(&first, &short).await);
    drop(first);
    let file = Connection::open(&path).unwrap();
    file.execute_batch(SECOND_SCHEMA).unwrap();
    file.execute_batch(
        "DROP TABLE leash_budget_owed; UPDATE leash_schema SET version = 1 WHERE name = 'budget'",
    )
    .unwrap();
    drop(file);
    let store = at(&path, clock.clone()).await;
    assert_eq!(sums(&store, &scope).await, (0, 6));
    clock.set(moment("2026-11-22T12:01:00Z"));
    assert_eq!(store.expire(10).await.unwrap().len(), 1);
    clock.set(moment("2026-11-22T12:02:00Z"));
    assert_eq!(store.expire(10).await.unwrap().len(), 1, "its line is owed");
    store.confirm(&[written(&short, 6)]).await.unwrap();
    clock.set(moment("2026-11-22T12:03:00Z"));
    assert_eq!(store.expire(10).await.unwrap(), []);
    assert_eq!(sums(&store, &scope).await, (6, 0));
}

#[tokio::test]
async fn a_file_of_the_second_schema_is_taken_over_with_the_lines_that_are_owed() {
    let path = fresh_path();
    let clock = hand_clock("2026-11-22T12:00:00Z");
    let scope = team(100);
    let [standing, late, confirmed, mut given] = [6, 7, 8, 9].map(|amount| Hold {
        lease: Duration::from_secs(1),
        ..new_hold(amount, std::slice::from_ref(&scope))
    });
    given.lease = Duration::from_mins(2);
    let first = at(&path, clock.clone()).await;
    for hold in [&standing, &late, &confirmed, &given] {
        assert!(granted(&first, hold).await);
    }
    clock.set(moment("2026-11-22T12:01:00Z"));
    assert_eq!(first.expire(10).await.unwrap().len(), 3);
    assert!(first.settle(&bill(&late, 3)).await.unwrap().applied);
    first.confirm(&[written(&confirmed, 8)]).await.unwrap();
    drop(first);
    Connection::open(&path)
        .unwrap()
        .execute_batch(SECOND_SCHEMA)
        .unwrap();
    let store = at(&path, clock.clone()).await;
    assert_eq!(sums(&store, &scope).await, (17, 9));
    clock.set(moment("2026-11-22T12:03:00Z"));
    let mut owed: Vec<_> = store.expire(10).await.unwrap();
    owed.sort_by_key(|one| one.charged);
    let told: Vec<_> = owed
        .iter()
        .map(|one| (&one.hold, one.charged, one.is_settled))
        .collect();
    let expected = [
        (&late, usd(3), true),
        (&standing, usd(6), false),
        (&given, usd(9), false),
    ];
    assert_eq!(told, expected);
    // Of what expired under that schema nothing is left to write a line of, once that is confirmed.
    assert!(store.settle(&owing(&confirmed, 2)).await.unwrap().was_expired);
    store
        .confirm(&owed.iter().map(Expired::written).collect::<Vec<_>>())
        .await
        .unwrap();
    clock.set(moment("2026-11-22T13:00:00Z"));
    assert_eq!(store.expire(10).await.unwrap(), []);
    assert_eq!(sums(&store, &scope).await, (20, 0));
}

#[tokio::test]
async fn what_is_owed_outlives_a_restart_and_a_reset_and_no_restoration_and_takes_no_room_once_it_is_confirmed()
 {
    let path = fresh_path();
    let clock = hand_clock("2026-11-22T12:00:00Z");
    let scope = team(100);
    let [first, second] = [6, 7].map(|amount| new_hold(amount, std::slice::from_ref(&scope)));
    let store = at(&path, clock.clone()).await;
    for hold in [&first, &second] {
        assert!(granted(&store, hold).await);
        assert!(store.settle(&owing(hold, 2)).await.unwrap().applied);
    }
    drop(store);
    let store = at(&path, clock.clone()).await;
    assert_eq!(store.reset(&scope.key).await.unwrap().spent, usd(4));
    clock.set(moment("2026-11-22T12:01:00Z"));
    let owed = store.expire(10).await.unwrap();
    assert_eq!(owed.len(), 2);
    assert!(
        owed.iter()
            .all(|one| one.charged == usd(2) && one.balances[0].spent == usd(0))
    );
    store.confirm(&[written(&first, 2)]).await.unwrap();
    assert_eq!(count(&path, "leash_budget_holds"), 1);
    let restored = Restored {
        key: scope.key.clone(),
        window: Window::Total,
        at: clock.now(),
        spent: usd(4),
    };
    store.restore(&[restored]).await.unwrap();
    clock.set(moment("2026-11-22T12:03:00Z"));
    assert_eq!(store.expire(10).await.unwrap(), []);
    assert_eq!(count(&path, "leash_budget_holds"), 0);
    // In the new life nobody knows what it was about, so it is charged, and nothing is kept for its line.
    assert!(store.settle(&owing(&second, 2)).await.unwrap().applied);
    assert_eq!(count(&path, "leash_budget_holds"), 0);
    assert_eq!(sums(&store, &scope).await, (6, 0));
}
