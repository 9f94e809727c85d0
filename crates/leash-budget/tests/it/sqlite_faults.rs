//! What happens around a database file: the disk is full, the file is torn, of a later version, or another one in its place,
//! the clock is set back, and many processes make it at once.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use super::*;

/// Where a child of a test finds its file.
const FILE: &str = "LEASH_BUDGET_TEST_FILE";
/// Before each word of a child.
const MARK: &str = "@ ";

fn say(words: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{MARK}{words}").unwrap();
    out.flush().unwrap();
}

/// Runs a test of this binary as a child over the file at `path`, by `words` before it; what it says.
fn child(name: &str, path: &Path, words: &[&str]) -> std::process::Child {
    let this = std::env::current_exe().unwrap();
    let mut all = words.iter().map(std::ffi::OsStr::new).chain([this.as_os_str()]);
    Command::new(all.next().unwrap())
        .args(all)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(FILE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn heard(mut child: std::process::Child) -> Vec<String> {
    let out = BufReader::new(child.stdout.take().unwrap());
    let said = out
        .lines()
        .filter_map(|line| Some(line.unwrap().split_once(MARK)?.1.to_owned()))
        .collect();
    assert!(child.wait().unwrap().success());
    said
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// What this binary does when a test of it runs it.
mod children {
    use super::*;

    /// As a test it does nothing. As a child it makes a budget, unless somebody has, and says which.
    #[test]
    fn maker() {
        let Some(path) = std::env::var_os(FILE) else {
            return;
        };
        block_on(async {
            let store = at(Path::new(&path), system()).await;
            assert!(granted(&store, &new_hold(1, &[team(100)])).await);
            say(store.generation().await.unwrap().as_str());
        });
    }

    /// As a test it does nothing. As a child it sets aside until the disk takes no more, and says what was acknowledged.
    #[test]
    fn filler() {
        let Some(path) = std::env::var_os(FILE) else {
            return;
        };
        block_on(async {
            let store = at(Path::new(&path), system()).await;
            let (mut granted, mut refused) = (0, 0);
            while refused < 10 {
                let hold = new_hold(1, &[team(1_000_000)]);
                match store.reserve(&hold).await {
                    Ok(Reserve::Granted(_)) => {
                        granted += 1;
                        say(&hold.id.to_string());
                    }
                    Ok(Reserve::Refused(refused)) => panic!("{refused:?}"),
                    Err(error) => {
                        assert!(
                            matches!(error.kind(), StoreErrorKind::Full | StoreErrorKind::Io),
                            "{error}"
                        );
                        refused += 1;
                    }
                }
                assert!(granted < 100_000, "the disk is never full");
            }
            say("full");
        });
    }
}

#[test]
fn processes_that_make_a_budget_at_once_share_one() {
    let path = fresh_path();
    let children: Vec<_> = (0..6)
        .map(|_| child("sqlite::faults::children::maker", &path, &[]))
        .collect();
    let said: Vec<Vec<String>> = children.into_iter().map(heard).collect();
    assert!(
        said.iter().all(|one| *one == said[0] && one.len() == 1),
        "{said:?}"
    );
    block_on(async {
        let store = at(&path, system()).await;
        assert_eq!(sums(&store, &team(0)).await, (0, 6));
    });
}

#[test]
fn a_full_disk_refuses_and_what_was_acknowledged_before_is_there_after() {
    let path = fresh_path();
    // A file of this process grows no further than so many blocks; without the `trap`, it would be killed for trying.
    let limited = ["sh", "-c", "trap '' XFSZ; ulimit -f 1200; exec \"$0\" \"$@\""];
    let said = heard(child("sqlite::faults::children::filler", &path, &limited));
    let (last, acknowledged) = said.split_last().unwrap();
    assert_eq!(last, "full");
    assert!(acknowledged.len() > 5, "{}", acknowledged.len());
    block_on(async {
        let store = at(&path, system()).await;
        let standing = store.standing(None, 200_000).await.unwrap();
        let ids: Vec<String> = standing.iter().map(|one| one.hold.id.to_string()).collect();
        assert!(acknowledged.iter().all(|id| ids.contains(id)));
        let count = u64::try_from(ids.len()).unwrap();
        // What failed may be there all the same: as a whole, and with its lease.
        assert!(ids.len() <= acknowledged.len() + 10);
        assert_eq!(sums(&store, &team(0)).await, (0, count));
        assert!(granted(&store, &new_hold(1, &[team(1_000_000)])).await);
    });
}

#[tokio::test]
async fn a_file_that_is_torn_or_of_a_later_version_is_refused_and_not_begun_anew() {
    let path = fresh_path();
    let store = at(&path, system()).await;
    for _ in 0..300 {
        assert!(granted(&store, &new_hold(1, &[team(10_000)])).await);
    }
    let file = Connection::open(&path).unwrap();
    file.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop((store, file));
    let whole = std::fs::read(&path).unwrap();

    // Each in a place of its own, where nobody's log of changes lies beside it.
    let mut head = whole.clone();
    head[..4_096].fill(0x5a);
    let mut torn = whole.clone();
    torn[4_096..].fill(0);
    let half = whole[..whole.len() / 2].to_vec();
    for (what, bytes) in [
        ("its beginning is overwritten", head),
        ("all but its beginning is zero", torn),
        ("its second half is missing", half),
    ] {
        let path = fresh_path();
        std::fs::write(&path, &bytes).unwrap();
        let opened = [
            SqliteStore::open(&path, system(), options()).await,
            SqliteStore::open_or_init(&path, system(), options()).await,
        ];
        // What is torn may be met later; then each operation refuses.
        for store in opened.into_iter().flatten() {
            let reserved = store.reserve(&new_hold(1, &[team(10_000)])).await;
            assert!(reserved.is_err(), "{what}");
            assert!(store.balances(&[team(10_000)]).await.is_err(), "{what}");
        }
    }

    std::fs::write(&path, &whole).unwrap();
    let file = Connection::open(&path).unwrap();
    file.execute("UPDATE leash_schema SET version = 99 WHERE name = 'budget'", ())
        .unwrap();
    drop(file);
    for opened in [
        SqliteStore::open(&path, system(), options()).await,
        SqliteStore::open_or_init(&path, system(), options()).await,
    ] {
        let refused = opened.unwrap_err();
        assert_eq!(refused.kind(), StoreErrorKind::Generation);
        assert!(refused.to_string().contains("later version"), "{refused}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn another_file_in_its_place_is_noticed_whatever_it_was_put_there_by() {
    let folder = fresh_path().parent().unwrap().to_owned();
    let (real, other, link) = (
        folder.join("real.db"),
        folder.join("other.db"),
        folder.join("link.db"),
    );
    drop((at(&real, system()).await, at(&other, system()).await));
    std::os::unix::fs::symlink(&real, &link).unwrap();
    // By its own name and by the link it is the same budget.
    let (by_name, by_link) = (at(&real, system()).await, at(&link, system()).await);
    assert!(granted(&by_name, &new_hold(60, &[team(100)])).await);
    assert!(!granted(&by_link, &new_hold(60, &[team(100)])).await);
    // The link leads somewhere else.
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&other, &link).unwrap();
    assert!(is_lost(&by_link).await);
    assert!(!is_lost(&by_name).await);
    // A saved copy is moved to its place, as it was and from the same life.
    let saved = folder.join("saved.db");
    let file = Connection::open(&real).unwrap();
    file.execute("VACUUM INTO ?1", [saved.to_str().unwrap()]).unwrap();
    drop(file);
    std::fs::rename(&saved, &real).unwrap();
    assert!(is_lost(&by_name).await);
}

/// What a reset has forgotten stays forgotten, also where the clock was set back between the charge and the reset.
#[tokio::test]
async fn a_reset_after_the_clock_went_back_is_not_undone_by_a_late_settlement() {
    let path = fresh_path();
    let clock = hand_clock("2026-11-22T12:00:00Z");
    let store = at(&path, clock.clone()).await;
    let mut lost = new_hold(60, &[team(100)]);
    lost.lease = Duration::from_secs(1);
    assert!(granted(&store, &lost).await);
    clock.set(moment("2026-11-22T12:01:00Z"));
    let expired = store.expire(10).await.unwrap();
    assert_eq!(expired.len(), 1);
    assert_eq!(sums(&store, &team(0)).await, (60, 0));
    clock.set(moment("2026-11-22T11:00:00Z"));
    store.reset(&team(0).key).await.unwrap();
    let other = new_hold(70, &[team(100)]);
    assert!(granted(&store, &other).await);
    store.settle(&bill(&other, 70)).await.unwrap();
    store.settle(&bill(&lost, 5)).await.unwrap();
    let (spent, _) = sums(&store, &team(0)).await;
    assert!(spent >= 70, "{spent}");
}

/// It is the name of a life that tells, not how much was written in it.
#[tokio::test]
async fn a_new_life_is_noticed_also_by_who_has_seen_little_of_the_former() {
    let path = fresh_path();
    let (idle, other) = (at(&path, system()).await, at(&path, system()).await);
    other.restore(&[]).await.unwrap();
    for _ in 0..20 {
        assert!(granted(&other, &new_hold(1, &[team(100)])).await);
    }
    assert!(is_lost(&idle).await);
    assert!(!is_lost(&other).await);
}
