//! Death of the process and a disk that is full, for real: this binary runs itself as the victim.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use leash_audit::{AuditError, AuditLog, Durability};
use leash_core::StoreErrorKind;

use crate::{check_file, kill, lines, model_call};

/// Where a child finds the log, in its environment.
const LOG: &str = "LEASH_AUDIT_TEST_LOG";
/// Before each acknowledged number, in what the child says. Nothing else on its standard output has it.
const MARK: u8 = 1;

fn run(name: &str, log: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(LOG, log);
    command
}

/// As a test it does nothing; as a child it appends until it is killed, and says what was acknowledged.
#[test]
fn victim_that_appends() {
    let Some(path) = std::env::var_os(LOG) else { return };
    let durability = if path.to_string_lossy().contains("each") {
        Durability::Each
    } else {
        Durability::None
    };
    let log = AuditLog::builder(path).durability(durability).open().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for n in 0_u64.. {
                    let appended = log.append(&model_call(n)).unwrap();
                    appended.wait().unwrap();
                    let mut said = vec![MARK];
                    said.extend_from_slice(&appended.seq().to_le_bytes());
                    std::io::stdout().lock().write_all(&said).unwrap();
                    std::io::stdout().lock().flush().unwrap();
                }
            });
        }
    });
}

/// The numbers in what a child said. A number that its death cut short was not heard.
fn acknowledged(said: &[u8]) -> Vec<u64> {
    let start = said.iter().position(|&byte| byte == MARK).unwrap_or(said.len());
    said[start..]
        .chunks_exact(9)
        .map(|ack| {
            assert_eq!(ack[0], MARK);
            u64::from_le_bytes(ack[1..].try_into().unwrap())
        })
        .collect()
}

/// Kills `child` after about `after` bytes were heard of it, and gives all that it said.
fn kill_after(mut child: Child, after: usize) -> Vec<u8> {
    let mut out = child.stdout.take().unwrap();
    let mut said = Vec::new();
    let mut buf = [0; 64];
    while said.len() < after {
        let n = out.read(&mut buf).unwrap();
        assert!(n > 0, "the child ended by itself");
        said.extend_from_slice(&buf[..n]);
    }
    child.kill().unwrap();
    out.read_to_end(&mut said).unwrap();
    child.wait().unwrap();
    said
}

#[test]
fn whatever_was_acknowledged_outlives_a_hundred_kills() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for (name, rounds) in [("none.jsonl", 70), ("each.jsonl", 30)] {
        let path = dir.path().join(name);
        let mut last = 0;
        for _ in 0..rounds {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let after = 64 + usize::try_from(random % 4000).unwrap();
            let child = run("crash::victim_that_appends", &path)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let said = kill_after(child, after);
            let acknowledged = acknowledged(&said);
            let log = AuditLog::open(&path).unwrap();
            drop(log);
            let report = check_file(&path);
            assert!(report.is_ok(), "{report}");
            assert!(acknowledged.iter().all(|seq| *seq < report.events));
            assert!(report.events >= last);
            last = report.events;
        }
        // Each event is there once, under the number that was acknowledged.
        let lines = lines(&path);
        assert!(lines.iter().enumerate().all(|(at, line)| line["seq"] == at));
        assert!(lines.len() > rounds, "{} lines", lines.len());
    }
}

/// As a test it does nothing; as a child, under a limit of the size of files, it fills the disk.
#[test]
fn victim_that_fills_the_disk() {
    let Some(path) = std::env::var_os(LOG) else { return };
    let log = AuditLog::open(&path).unwrap();
    let path = Path::new(&path);
    let one = log.reserve_slot().unwrap();
    let two = log.reserve_slot().unwrap();
    let mut written = 0;
    let error = loop {
        match log.append(&model_call(written)) {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, AuditError::Io { .. }), "{error}");
    assert_eq!(error.kind(), StoreErrorKind::Full);
    // No half line is left, and the log refuses for as long as the disk does.
    let full = fs::read(path).unwrap();
    assert!(full.ends_with(b"\n") && check_file(path).is_ok());
    assert_eq!(check_file(path).events, written);
    assert!(log.append(&model_call(1)).is_err());
    let owed = log.append_owed(one, &model_call(1_000_001)).unwrap_err();
    assert_eq!(owed.seq, written);
    assert_eq!(
        log.append_owed(two, &model_call(1_000_002)).unwrap_err().seq,
        written + 1
    );
    assert_eq!(log.owed(), 2);
    assert!(log.ready().is_err() && log.reserve_slot().is_err() && log.append(&kill("x")).is_err());
    assert!(log.close().is_err());
    assert_eq!(fs::read(path).unwrap(), full);

    // Somebody makes room: what was owed is written first, in order.
    let pid = std::process::id().to_string();
    assert!(
        Command::new("prlimit")
            .args(["--pid", &pid, "--fsize=unlimited"])
            .status()
            .unwrap()
            .success()
    );
    let slot = log.reserve_slot().unwrap();
    assert_eq!(log.owed(), 0);
    assert_eq!(
        log.append_owed(slot, &model_call(1_000_003)).unwrap().seq(),
        written + 2
    );
    log.close().unwrap();
    let costs: Vec<_> = lines(path)
        .iter()
        .rev()
        .take(3)
        .map(|line| line["cost_usd"].to_string())
        .collect();
    assert_eq!(costs, ["0.001000003", "0.001000002", "0.001000001"]);
    std::io::stdout().lock().write_all(b"all is well").unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_refuses_and_leaves_no_half_line_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("full.jsonl");
    let victim = run("crash::victim_that_fills_the_disk", &path);
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -S -f 50; exec \"$@\"", "sh"])
        .arg(victim.get_program())
        .args(victim.get_args())
        .env(LOG, &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("all is well"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report = check_file(&path);
    assert!(report.is_ok() && report.events > 30, "{report}");
}
