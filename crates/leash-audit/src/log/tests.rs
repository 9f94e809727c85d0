//! What the writer does where no caller can put it: in the middle of things.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::{Kill, Kind, VerifyOptions, Who, verify};

fn event() -> Event<'static> {
    Event::new(
        Who::session("s_1"),
        Kind::Kill(Kill {
            reason: "runaway",
            scope: None,
        }),
    )
}

fn open(durability: Durability) -> (tempfile::TempDir, AuditLog) {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::builder(dir.path().join("log"))
        .durability(durability)
        .open()
        .unwrap();
    (dir, log)
}

#[test]
fn after_a_failed_sync_nobody_is_told_that_a_line_is_durable() {
    let (_dir, log) = open(Durability::Each);
    // A line of the future, so that the wait is one for sure.
    let waiting = || Appended {
        seq: 1000,
        core: Some(Arc::clone(&log.0.core)),
    };
    let mut durable = waiting().durable();
    let mut context = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut durable).poll(&mut context).is_pending());
    assert_eq!(log.0.core.sync.lock().unwrap().waiters.len(), 1);
    log.0.core.give_up();
    assert!(matches!(
        Pin::new(&mut durable).poll(&mut context),
        Poll::Ready(Err(AuditError::NotDurable { .. }))
    ));
    assert!(matches!(waiting().wait(), Err(AuditError::NotDurable { .. })));
    assert!(matches!(log.append(&event()), Err(AuditError::NotDurable { .. })));
    assert!(log.ready().is_err() && log.reserve_slot().is_err() && log.close().is_err());
}

#[test]
fn after_a_thread_died_while_it_wrote_nothing_is_admitted_and_records_are_kept() {
    let (_dir, log) = open(Durability::None);
    let slot = log.reserve_slot().unwrap();
    let core = Arc::clone(&log.0.core);
    let died = std::thread::spawn(move || {
        let _state = core.state.lock().unwrap();
        panic!("dies with the lock in its hands");
    });
    assert!(died.join().is_err());
    assert!(matches!(log.append(&event()), Err(AuditError::Poisoned { .. })));
    assert!(matches!(
        log.append_owed(slot, &event()),
        Err(Owed { seq: 0, .. })
    ));
    assert_eq!(log.owed(), 1);
    assert!(log.ready().is_err() && log.reserve_slot().is_err());
}

#[test]
fn half_a_line_is_cut_off_before_the_next_one() {
    let (_dir, log) = open(Durability::None);
    let _ = log.append(&event()).unwrap();
    // As after a write that failed half-way and a cut that failed too.
    (&log.0.core.file).write_all(b"{\"half").unwrap();
    let mut state = log.0.core.state.lock().unwrap();
    state.uncut = Some(state.len + 6);
    drop(state);
    let _ = log.append(&event()).unwrap();
    log.close().unwrap();
    let report = verify(log.path(), &VerifyOptions::default()).unwrap();
    assert!(report.is_ok(), "{report}");
    assert_eq!(report.events, 2);
}

#[test]
fn an_owed_record_gives_its_slot_back_once_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::builder(dir.path().join("log")).slots(1).open().unwrap();
    let slot = log.reserve_slot().unwrap();
    // Somebody else's byte, which then goes away again.
    log.0.core.state.lock().unwrap().foreign = Some(1);
    assert!(log.append_owed(slot, &event()).is_err());
    assert!(log.reserve_slot().is_err());
    log.0.core.state.lock().unwrap().foreign = None;
    let slot = log.reserve_slot().unwrap();
    assert_eq!(log.owed(), 0);
    assert_eq!(log.append_owed(slot, &event()).unwrap().seq(), 1);
    log.close().unwrap();
    assert_eq!(verify(log.path(), &VerifyOptions::default()).unwrap().events, 2);
}
