//! The writer: opening, appending, recovering, refusing.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use leash_audit::{AuditError, AuditLog, Durability, Event, Kind, Note, Who};
use leash_core::{Digest, Json, StoreErrorKind};
use tempfile::TempDir;

use crate::{HandClock, check, check_file, kill, lines, model_call, refusal};

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.jsonl");
    (dir, path)
}

/// The bytes of a log of four events.
fn small_log() -> Vec<u8> {
    let (_dir, path) = place();
    let log = AuditLog::open(&path).unwrap();
    for reason in ["one", "zwei €", "три 🦀", "four"] {
        let _ = log.append(&kill(reason)).unwrap();
    }
    drop(log);
    fs::read(path).unwrap()
}

fn add(path: &Path, bytes: &[u8]) {
    OpenOptions::new()
        .append(true)
        .open(path)
        .unwrap()
        .write_all(bytes)
        .unwrap();
}

#[test]
fn a_log_is_continued_where_it_ended() {
    let (_dir, path) = place();
    for n in 0..5 {
        let log = AuditLog::open(&path).unwrap();
        assert_eq!(log.append(&kill("again")).unwrap().seq(), n);
        if n % 2 == 0 {
            log.close().unwrap();
        }
    }
    let report = check_file(&path);
    assert!(report.is_ok());
    assert_eq!(report.events, 5);
}

#[test]
fn a_log_has_one_writer_and_the_second_is_told_who_it_is() {
    let (dir, path) = place();
    let log = AuditLog::open(&path).unwrap();
    let other = log.clone();
    drop(log);
    let error = AuditLog::open(&path).unwrap_err();
    assert!(matches!(error, AuditError::Held { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("audit.jsonl") && text.contains(&format!("process {}", std::process::id())),
        "{text}"
    );
    #[cfg(unix)]
    {
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(AuditLog::open(&link), Err(AuditError::Held { .. })));
    }
    // Tidying the note away does not let a second one in.
    fs::remove_file(dir.path().join("audit.jsonl.lock")).unwrap();
    assert!(matches!(AuditLog::open(&path), Err(AuditError::Held { .. })));
    let _ = other.append(&kill("first")).unwrap();
    other.close().unwrap();
    let second = AuditLog::open(&path).unwrap();
    assert!(matches!(
        other.append(&kill("late")),
        Err(AuditError::Closed { .. })
    ));
    assert_eq!(second.append(&kill("second")).unwrap().seq(), 1);
    assert!(check_file(&path).is_ok());
}

#[test]
fn eight_threads_make_one_chain() {
    let (_dir, path) = place();
    let log = AuditLog::open(&path).unwrap();
    let mut seqs: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    (0..200)
                        .map(|n| log.append(&model_call(n)).unwrap().seq())
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    seqs.sort_unstable();
    assert_eq!(seqs, (0..1600).collect::<Vec<u64>>());
    let report = check_file(&path);
    assert!(report.is_ok());
    assert_eq!(report.events, 1600);
}

#[test]
fn wherever_a_write_was_torn_the_rest_is_set_aside_and_the_log_goes_on() {
    let whole = small_log();
    let ends: Vec<usize> = whole
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .map(|(at, _)| at + 1)
        .collect();
    for cut in 0..=whole.len() {
        let (dir, path) = place();
        fs::write(&path, &whole[..cut]).unwrap();
        let log = AuditLog::open(&path).unwrap();
        let _ = log.append(&kill("after")).unwrap();
        drop(log);
        let report = check_file(&path);
        assert!(report.is_ok(), "cut at {cut}: {report}");
        let now = fs::read(&path).unwrap();
        let lines = lines(&path);
        let aside = dir.path().join("audit.jsonl.torn-1");
        if ends.contains(&cut) || cut == 0 || ends.contains(&(cut + 1)) {
            // All of its lines are there, if perhaps without the last line end.
            assert!(now.starts_with(&whole[..cut]), "cut at {cut}");
            assert!(!aside.exists());
            assert_eq!(
                lines.len(),
                ends.iter()
                    .filter(|end| **end <= cut + 1)
                    .count()
                    .max(usize::from(cut > 0))
                    + 1
            );
            continue;
        }
        let kept = ends.iter().copied().filter(|end| *end <= cut).max().unwrap_or(0);
        assert!(now.starts_with(&whole[..kept]));
        let torn = fs::read(&aside).unwrap();
        assert_eq!(torn, &whole[kept..cut], "cut at {cut}");
        let recovered = &lines[lines.len() - 2];
        assert_eq!(recovered["kind"], "log_recovered");
        assert_eq!(recovered["session_id"], "*");
        assert_eq!(recovered["set_aside"], "audit.jsonl.torn-1");
        assert_eq!(recovered["bytes"], torn.len());
        assert_eq!(recovered["sha256"], Digest::of(&torn).to_string());
        assert!(!dir.path().join("audit.jsonl.torn").exists());
    }
}

#[test]
fn nul_bytes_at_the_end_are_set_aside_however_many() {
    let whole = small_log();
    for (keep, nuls) in [
        (whole.len(), 1),
        (whole.len(), 4096),
        (whole.len(), 100_000),
        (whole.len() - 30, 5000),
        (0, 9),
    ] {
        let (dir, path) = place();
        let mut bytes = whole[..keep].to_vec();
        bytes.resize(keep + nuls, 0);
        fs::write(&path, &bytes).unwrap();
        let log = AuditLog::open(&path).unwrap();
        drop(log);
        assert!(check_file(&path).is_ok());
        assert!(bytes.ends_with(&fs::read(dir.path().join("audit.jsonl.torn-1")).unwrap()));
        assert_eq!(lines(&path).last().unwrap()["kind"], "log_recovered");
    }
}

#[test]
fn each_torn_tail_has_a_file_of_its_own() {
    let (dir, path) = place();
    for n in 1..=3 {
        drop(AuditLog::open(&path).unwrap());
        add(&path, format!("{{\"torn\":{n}").as_bytes());
        drop(AuditLog::open(&path).unwrap());
        let aside = dir.path().join(format!("audit.jsonl.torn-{n}"));
        assert_eq!(fs::read_to_string(aside).unwrap(), format!("{{\"torn\":{n}"));
    }
    assert_eq!(check_file(&path).events, 3);
}

#[test]
fn a_recovery_that_was_interrupted_is_finished() {
    let whole = small_log();
    // After the log was cut back and before its line was written.
    let (dir, path) = place();
    fs::write(&path, &whole).unwrap();
    fs::write(dir.path().join("audit.jsonl.torn"), b"{\"half").unwrap();
    drop(AuditLog::open(&path).unwrap());
    assert_eq!(lines(&path).last().unwrap()["bytes"], 6);
    assert_eq!(
        fs::read(dir.path().join("audit.jsonl.torn-1")).unwrap(),
        b"{\"half"
    );

    // Before the log was cut back: half of a copy is of no use to anybody.
    let (dir, path) = place();
    fs::write(&path, [&whole[..], b"{\"half"].concat()).unwrap();
    fs::write(dir.path().join("audit.jsonl.torn"), b"{\"ha").unwrap();
    drop(AuditLog::open(&path).unwrap());
    assert_eq!(
        fs::read(dir.path().join("audit.jsonl.torn-1")).unwrap(),
        b"{\"half"
    );
    assert!(!dir.path().join("audit.jsonl.torn-2").exists());
    assert_eq!(check_file(&path).events, 5);

    // And one of another tail.
    let (dir, path) = place();
    fs::write(&path, [&whole[..], b"{\"half"].concat()).unwrap();
    fs::write(dir.path().join("audit.jsonl.torn"), b"{\"other").unwrap();
    drop(AuditLog::open(&path).unwrap());
    assert_eq!(
        fs::read(dir.path().join("audit.jsonl.torn-1")).unwrap(),
        b"{\"other"
    );
    assert_eq!(
        fs::read(dir.path().join("audit.jsonl.torn-2")).unwrap(),
        b"{\"half"
    );
    let report = check_file(&path);
    assert!(report.is_ok());
    assert_eq!(report.events, 6);
}

#[test]
fn a_log_whose_end_no_crash_explains_takes_no_line_and_keeps_its_bytes() {
    let whole = small_log();
    let text = String::from_utf8(whole.clone()).unwrap();
    let start = text.trim_end().rfind('\n').unwrap() + 1;
    let mut hole = whole.clone();
    hole[start + 20..start + 60].fill(0);
    let changed = text.replace("four", "fire").into_bytes();
    let unended = changed[..changed.len() - 1].to_vec();
    let garbage = [&whole[..], b"garbage\n"].concat();
    let nuls = [&whole[..], &[0; 64], b"\n"].concat();
    let twice = [&whole[..], b"{\"a\":1,\"a\":1}\n"].concat();
    let no_log = b"my only copy of a poem".to_vec();
    let no_hash = [&whole[..], b"{\"seq\":4}\n"].concat();
    for bytes in [hole, changed, unended, garbage, nuls, twice, no_log, no_hash] {
        let (dir, path) = place();
        fs::write(&path, &bytes).unwrap();
        let error = AuditLog::open(&path).unwrap_err();
        assert!(matches!(error, AuditError::Damaged { .. }), "{error}");
        assert_eq!(error.kind(), StoreErrorKind::Corrupt);
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert!(!dir.path().join("audit.jsonl.torn-1").exists());
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(AuditLog::open(dir.path()).is_err());
    assert!(AuditLog::open(dir.path().join("no/such/dir/log")).is_err());
}

#[test]
fn a_log_that_another_program_wrote_or_reformatted_is_continued() {
    for name in [
        "mixed",
        "anomalies",
        "empty",
        "ok-ascii-escaped",
        "ok-blank-lines",
        "ok-crlf",
        "ok-no-final-newline",
        "ok-respaced",
        "ok-truncated-tail",
        "torn-tail",
    ] {
        let (_dir, path) = place();
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/{name}.jsonl"));
        fs::copy(data, &path).unwrap();
        let log = AuditLog::open(&path).unwrap();
        let seq = log.append(&kill("after")).unwrap().seq();
        drop(log);
        let report = check_file(&path);
        assert!(report.is_ok(), "{name}: {report}");
        assert_eq!(report.events, seq + 1);
    }
}

#[test]
fn opening_does_not_read_what_is_before_the_end() {
    let (_dir, path) = place();
    let whole = small_log();
    let mut file = File::create(&path).unwrap();
    // A terabyte of nothing, which takes no room and would take very long to read.
    file.seek(SeekFrom::Start(1 << 40)).unwrap();
    file.write_all(b"\n").unwrap();
    file.write_all(&whole).unwrap();
    drop(file);
    let log = AuditLog::open(&path).unwrap();
    assert_eq!(log.append(&kill("after")).unwrap().seq(), 4);
}

#[test]
fn what_somebody_else_writes_is_never_chained_over() {
    for foreign in [&b"{\"not\":\"ours\"}\n"[..], b"x"] {
        let (_dir, path) = place();
        let log = AuditLog::open(&path).unwrap();
        let _ = log.append(&kill("first")).unwrap();
        add(&path, foreign);
        let before = fs::read(&path).unwrap();
        for _ in 0..2 {
            let error = log.append(&kill("second")).unwrap_err();
            assert!(matches!(error, AuditError::Foreign { .. }), "{error}");
            assert!(log.ready().is_err() && log.reserve_slot().is_err() && log.flush().is_err());
        }
        drop(log);
        assert_eq!(fs::read(&path).unwrap(), before);
    }
    let (_dir, path) = place();
    let log = AuditLog::open(&path).unwrap();
    let _ = log.append(&kill("first")).unwrap();
    OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(10)
        .unwrap();
    assert!(matches!(
        log.append(&kill("second")),
        Err(AuditError::Foreign { found: 10, .. })
    ));
}

#[test]
fn a_record_that_cannot_be_written_is_owed_and_nothing_is_admitted_meanwhile() {
    let (_dir, path) = place();
    let log = AuditLog::open(&path).unwrap();
    let slot = log.reserve_slot().unwrap();
    let second = log.reserve_slot().unwrap();
    add(&path, b"x");
    let owed = log.append_owed(slot, &model_call(5)).unwrap_err();
    assert_eq!(owed.seq, 0);
    assert_eq!(log.append_owed(second, &model_call(6)).unwrap_err().seq, 1);
    assert_eq!(log.owed(), 2);
    assert!(log.ready().is_err());
    assert!(log.reserve_slot().is_err());
    assert!(log.append(&kill("no")).is_err());
    assert!(log.close().is_err());
}

#[test]
fn slots_are_as_many_as_were_asked_for_and_come_back() {
    let (_dir, path) = place();
    let log = AuditLog::builder(&path).slots(2).open().unwrap();
    let one = log.reserve_slot().unwrap();
    let two = log.reserve_slot().unwrap();
    assert!(matches!(log.reserve_slot(), Err(AuditError::NoSlot { limit: 2 })));
    drop(one);
    let three = log.reserve_slot().unwrap();
    assert!(log.reserve_slot().is_err());
    assert_eq!(log.append_owed(two, &model_call(1)).unwrap().seq(), 0);
    assert_eq!(log.append_owed(three, &model_call(1)).unwrap().seq(), 1);
    let again = [log.reserve_slot().unwrap(), log.reserve_slot().unwrap()];
    assert!(log.reserve_slot().is_err());
    drop(again);
}

#[test]
fn whoever_waits_has_the_line_on_disk_by_threads() {
    let (_dir, path) = place();
    let log = AuditLog::builder(&path)
        .durability(Durability::Each)
        .open()
        .unwrap();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for n in 0..20 {
                    log.append(&model_call(n)).unwrap().wait().unwrap();
                }
            });
        }
    });
    assert_eq!(check_file(&path).events, 320);
}

#[test]
fn whoever_waits_has_the_line_on_disk_by_tasks() {
    let (_dir, path) = place();
    let log = AuditLog::builder(&path)
        .durability(Durability::Each)
        .open()
        .unwrap();
    futures_executor::block_on(async {
        for _ in 0..10 {
            let all = (0..64).map(|n| {
                let log = log.clone();
                async move { log.append(&model_call(n)).unwrap().durable().await }
            });
            assert!(join_all(all).await.into_iter().all(|result| result.is_ok()));
        }
        // Somebody who stops waiting does not keep others from being told.
        drop(log.append(&model_call(1)).unwrap().durable());
        log.append(&model_call(1)).unwrap().durable().await.unwrap();
    });
    assert_eq!(check_file(&path).events, 642);
}

#[test]
fn less_durable_lines_keep_nobody_waiting() {
    for durability in [Durability::None, Durability::Interval(Duration::from_hours(1))] {
        let (_dir, path) = place();
        let log = AuditLog::builder(&path).durability(durability).open().unwrap();
        let appended = log.append(&model_call(1)).unwrap();
        appended.wait().unwrap();
        futures_executor::block_on(appended.durable()).unwrap();
        drop(log);
        assert_eq!(check_file(&path).events, 1);
    }
}

/// What all refusals of a log stand for.
fn refusals(path: &Path) -> u64 {
    let lines = lines(path);
    let refusals = lines.iter().filter(|line| line["kind"] == "refusal");
    refusals
        .map(|line| line.get("count").map_or(1, |count| count.as_u64().unwrap()))
        .sum()
}

#[test]
fn a_storm_of_refusals_is_counted_and_the_counts_add_up() {
    let (_dir, path) = place();
    let clock = Arc::new(HandClock::default());
    let log = AuditLog::builder(&path).clock(clock.clone()).open().unwrap();
    for _ in 0..1000 {
        let _ = log.append_coalesced(&refusal("the cap is reached")).unwrap();
    }
    let seq = log.append_coalesced(&refusal("another reason")).unwrap().seq();
    assert_eq!(
        lines(&path)[usize::try_from(seq).unwrap()]["reason"],
        "another reason"
    );
    clock.advance(1_000_000);
    // The next second begins with what the last one counted, and a line of its own.
    let _ = log.append_coalesced(&refusal("the cap is reached")).unwrap();
    let _ = log.append_coalesced(&refusal("the cap is reached")).unwrap();
    log.close().unwrap();
    assert_eq!(refusals(&path), 1003);
    assert!(check_file(&path).is_ok());
    let counts: Vec<_> = lines(&path)
        .iter()
        .filter_map(|line| line["count"].as_u64())
        .collect();
    assert_eq!(counts.iter().sum::<u64>(), 1000);
    assert!(lines(&path).len() < 20);
}

#[test]
fn storms_of_all_threads_add_up_also_when_the_log_is_only_dropped() {
    let (_dir, path) = place();
    let log = AuditLog::open(&path).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let log = &log;
            scope.spawn(move || {
                for n in 0..300 {
                    let _ = log
                        .append_coalesced(&refusal(&format!("reason {}", (n + thread) % 3)))
                        .unwrap();
                }
            });
        }
    });
    drop(log);
    assert_eq!(refusals(&path), 2400);
    assert!(check_file(&path).is_ok());
}

#[test]
fn more_different_refusals_than_are_counted_at_once_still_add_up() {
    let (_dir, path) = place();
    let log = AuditLog::open(&path).unwrap();
    for n in 0..3000 {
        for _ in 0..2 {
            let _ = log.append_coalesced(&refusal(&format!("reason {n}"))).unwrap();
        }
    }
    drop(log);
    assert_eq!(refusals(&path), 6000);
    assert!(check_file(&path).is_ok());
}

#[test]
fn a_line_has_a_length_that_it_may_not_pass() {
    let (_dir, path) = place();
    let log = AuditLog::open(&path).unwrap();
    let huge = "x".repeat(leash_audit::MAX_WRITTEN_LINE);
    assert!(matches!(
        log.append(&kill(&huge)),
        Err(AuditError::TooLong { .. })
    ));
    assert_eq!(log.append(&kill("short")).unwrap().seq(), 0);
    assert_eq!(check_file(&path).events, 1);
}

#[test]
fn notes_carry_members_of_their_own() {
    let (_dir, path) = place();
    let log = AuditLog::open(&path).unwrap();
    let members = Json::parse(r#"{"cap_usd": 1.50, "zone": "eu"}"#).unwrap();
    let note = Note {
        what: "cap",
        reason: "audit",
        operator: Some("ops"),
        members: Some(&members),
    };
    let _ = log
        .append(&Event::new(Who::EVERYBODY, Kind::BudgetChange(note)))
        .unwrap();
    drop(log);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with(r#"{"cap_usd":1.5,"hash":""#), "{text}");
    assert!(check(text.as_bytes()).is_ok());
    assert_eq!(lines(&path)[0]["zone"], "eu");
}

#[test]
fn an_event_too_long_to_be_written_keeps_nothing_else_from_the_log() {
    let (_dir, path) = place();
    let log = AuditLog::open(&path).unwrap();
    let huge = "no".repeat(3 << 20);
    for _ in 0..3 {
        assert!(matches!(
            log.append_coalesced(&refusal(&huge)),
            Err(AuditError::TooLong { .. })
        ));
        let _ = log.append_coalesced(&refusal("the cap is reached")).unwrap();
    }
    log.close().unwrap();
    let lines = lines(&path);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1]["count"], 2);
}

#[test]
fn a_long_event_is_not_counted_but_written_each_time() {
    let (_dir, path) = place();
    let log = AuditLog::open(&path).unwrap();
    let reason = "no".repeat(100 << 10);
    for _ in 0..3 {
        let _ = log.append_coalesced(&refusal(&reason)).unwrap();
    }
    log.close().unwrap();
    assert_eq!(lines(&path).len(), 3);
}
