//! A log that is moved, replaced or removed while a writer holds it. Nothing may go on being written where nobody looks.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use leash_audit::{AuditError, AuditLog, Durability};
use leash_core::StoreErrorKind;
use tempfile::TempDir;

use crate::{HandClock, check_file, kill, lines, model_call, refusal};

/// As long as the clock stands still, so many lines may go astray.
const MOST: u64 = 512;

struct Place {
    dir: TempDir,
    path: PathBuf,
    clock: Arc<HandClock>,
    log: AuditLog,
}

impl Place {
    /// A log of one line.
    fn new() -> Self {
        Self::at("audit.jsonl", Durability::None)
    }

    fn at(name: &str, durability: Durability) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let clock = Arc::new(HandClock::default());
        let log = AuditLog::builder(&path)
            .durability(durability)
            .clock(clock.clone())
            .open()
            .unwrap();
        let _ = log.append(&kill("first")).unwrap();
        Self {
            dir,
            path,
            clock,
            log,
        }
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Lets a second pass, after which the next line is not written unseen.
    fn wait(&self) {
        self.clock.advance(1_000_000);
    }

    fn assert_refused(&self) {
        let refused = [
            self.log.append(&kill("no")).map(drop),
            self.log.append_coalesced(&refusal("no")).map(drop),
            self.log.ready(),
            self.log.reserve_slot().map(drop),
        ];
        for result in refused {
            let error = result.unwrap_err();
            assert!(matches!(error, AuditError::Moved { .. }), "{error}");
            assert_eq!(error.kind(), StoreErrorKind::Conflict);
            let told = error.to_string();
            assert!(
                told.contains(self.path.to_str().unwrap()) && told.contains("open the log again"),
                "{told}"
            );
        }
    }
}

fn events(path: &Path) -> u64 {
    let report = check_file(path);
    assert!(report.is_ok(), "{report}");
    report.events
}

#[test]
fn a_log_that_is_renamed_takes_no_line_until_it_is_back() {
    let place = Place::new();
    let away = place.beside("audit.jsonl.1");
    fs::rename(&place.path, &away).unwrap();
    place.wait();
    place.assert_refused();
    assert!(!place.path.exists(), "no second log is begun");
    assert_eq!(events(&away), 1);

    fs::rename(&away, &place.path).unwrap();
    place.log.ready().unwrap();
    assert_eq!(place.log.append(&kill("second")).unwrap().seq(), 1);
    place.log.close().unwrap();
    // What was counted while it was away as well.
    let refusals = lines(&place.path);
    assert!(refusals.iter().any(|line| line["kind"] == "refusal"));
    assert!(events(&place.path) >= 3);
}

#[test]
fn no_more_lines_go_astray_than_a_second_or_a_count_allows() {
    let place = Place::new();
    let away = place.beside("away");
    fs::rename(&place.path, &away).unwrap();
    let mut astray = 0;
    let error = loop {
        match place.log.append(&model_call(1)) {
            Ok(_) => astray += 1,
            Err(error) => break error,
        }
        assert!(astray <= MOST, "{astray} lines");
    };
    assert!(matches!(error, AuditError::Moved { .. }), "{error}");
    // They are all in the file that was moved, in its chain.
    assert_eq!(events(&away), astray + 1);

    // The clock may go back as well.
    let place = Place::new();
    place.wait();
    let _ = place.log.append(&kill("second")).unwrap();
    fs::rename(&place.path, place.beside("away")).unwrap();
    place.clock.advance(-5_000_000);
    place.assert_refused();
}

#[test]
fn a_log_that_was_replaced_is_left_to_whoever_replaced_it() {
    let place = Place::new();
    let away = place.beside("audit.jsonl.1");
    fs::rename(&place.path, &away).unwrap();
    let other = AuditLog::open(&place.path).unwrap();
    assert_eq!(other.append(&kill("of another")).unwrap().seq(), 0);
    place.wait();
    place.assert_refused();
    let Place {
        path, log, dir: _dir, ..
    } = place;
    assert!(matches!(log.close(), Err(AuditError::Moved { .. })));
    drop(log);
    // The other one still holds it, and says so.
    let held = AuditLog::open(&path).unwrap_err().to_string();
    assert!(held.contains(&std::process::id().to_string()), "{held}");
    assert_eq!(other.append(&kill("of another")).unwrap().seq(), 1);
    other.close().unwrap();
    assert_eq!(events(&path), 2);
    assert!(events(&away) >= 1);
    // And the old one is free, for whoever wants to go on with it.
    let again = AuditLog::open(&away).unwrap();
    let _ = again.append(&kill("again")).unwrap();
    again.close().unwrap();
    assert!(events(&away) >= 2);
}

#[test]
fn a_copy_in_its_place_is_not_the_log() {
    let place = Place::new();
    let copy = place.beside("copy");
    fs::copy(&place.path, &copy).unwrap();
    fs::rename(&copy, &place.path).unwrap();
    place.wait();
    place.assert_refused();
    assert_eq!(events(&place.path), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn of_a_log_that_was_removed_the_error_says_where_its_lines_still_are() {
    let place = Place::new();
    fs::remove_file(&place.path).unwrap();
    let _ = place.log.append(&kill("second")).unwrap();
    place.wait();
    place.assert_refused();
    let error = place.log.append(&kill("third")).unwrap_err().to_string();
    let source = error.split('`').find(|part| part.starts_with("/proc/")).unwrap();
    let rescued = place.beside("rescued");
    fs::copy(source, &rescued).unwrap();
    assert_eq!(events(&rescued), 2);
    assert!(!place.path.exists());
}

#[test]
fn a_folder_that_is_renamed_takes_its_log_away() {
    let place = Place::at("logs/audit.jsonl", Durability::None);
    fs::rename(place.beside("logs"), place.beside("old")).unwrap();
    place.wait();
    place.assert_refused();
    // A file where the folder was.
    fs::write(place.beside("logs"), "").unwrap();
    place.assert_refused();
    assert_eq!(events(&place.beside("old/audit.jsonl")), 1);
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_elsewhere_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two, link) = (
        dir.path().join("one"),
        dir.path().join("two"),
        dir.path().join("current"),
    );
    fs::write(&one, "").unwrap();
    std::os::unix::fs::symlink(&one, &link).unwrap();
    let clock = Arc::new(HandClock::default());
    let log = AuditLog::builder(&link).clock(clock.clone()).open().unwrap();
    let _ = log.append(&kill("first")).unwrap();
    clock.advance(1_000_000);
    let _ = log.append(&kill("second")).unwrap();
    fs::write(&two, "").unwrap();
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&two, &link).unwrap();
    clock.advance(1_000_000);
    assert!(matches!(
        log.append(&kill("third")),
        Err(AuditError::Moved { .. })
    ));
    assert_eq!(events(&one), 2);
    assert!(fs::read(&two).unwrap().is_empty());
}

#[test]
fn a_record_that_is_owed_waits_for_the_log_to_come_back() {
    let place = Place::new();
    let slot = place.log.reserve_slot().unwrap();
    let away = place.beside("away");
    fs::rename(&place.path, &away).unwrap();
    place.wait();
    let owed = place.log.append_owed(slot, &model_call(5)).unwrap_err();
    assert_eq!(owed.seq, 1);
    assert!(matches!(owed.source, AuditError::Moved { .. }));
    place.assert_refused();
    assert_eq!((place.log.owed(), events(&away)), (1, 1));
    fs::rename(&away, &place.path).unwrap();
    place.log.ready().unwrap();
    assert_eq!((place.log.owed(), events(&place.path)), (0, 2));
}

/// Whoever closes a log that was rotated away is told, and loses nothing.
#[test]
fn what_is_owed_or_counted_when_a_moved_log_is_closed_is_kept_where_the_log_is() {
    for durability in [Durability::None, Durability::Each] {
        let place = Place::at("audit.jsonl", durability);
        let slot = place.log.reserve_slot().unwrap();
        for _ in 0..10 {
            let _ = place
                .log
                .append_coalesced(&refusal("the cap is reached"))
                .unwrap();
        }
        let away = place.beside("away");
        fs::rename(&place.path, &away).unwrap();
        assert!(matches!(place.log.flush(), Err(AuditError::Moved { .. })));
        place.wait();
        assert!(place.log.append_owed(slot, &model_call(5)).is_err());
        for _ in 0..2 {
            assert!(matches!(place.log.close(), Err(AuditError::Moved { .. })));
        }
        drop(place.log);
        assert!(!place.path.exists());
        let lines = lines(&away);
        let refused: u64 = (lines.iter().filter(|line| line["kind"] == "refusal"))
            .map(|line| line.get("count").map_or(1, |count| count.as_u64().unwrap()))
            .sum();
        assert_eq!(refused, 10);
        assert_eq!(lines.last().unwrap()["kind"], "model_call");
        assert_eq!(events(&away), u64::try_from(lines.len()).unwrap());
        // It is free again.
        let _ = AuditLog::open(&away).unwrap().append(&kill("again")).unwrap();
    }
}
