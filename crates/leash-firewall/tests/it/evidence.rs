//! No refusal without a line, no call without a trace; a log that cannot be written stops admission.

use std::process::{Command, Stdio};

use leash_core::{Digest, LeashError, Usage, rule_ids};
use leash_firewall::{Answer, BuildError, Firewall, Warning};

use crate::support::{Log, builder, call};

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn eight_threads_on_one_firewall_never_break_the_chain() {
    let log = Log::new();
    let firewall = builder()
        .budget_usd(1000.0)
        .audit_log(log.path())
        .build()
        .unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let firewall = firewall.session(format!("s_{task}").parse().unwrap());
            tokio::spawn(async move {
                for _ in 0..100 {
                    let admission = firewall.admit(call(&firewall, 1)).await.unwrap();
                    let usage = Usage {
                        output_tokens: 1,
                        ..Usage::default()
                    };
                    admission.settle(Answer::reported(usage, Digest::EMPTY)).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    firewall.close().await.unwrap();
    assert_eq!(log.of_kind("model_call").len(), 800);
    assert_eq!(log.lines().len(), 1_600);
}

#[test]
fn two_firewalls_asked_for_one_log_are_told_who_has_it() {
    let log = Log::new();
    let _first = Firewall::builder().audit_log(log.path()).build().unwrap();
    let second = Firewall::builder().audit_log(log.path()).build();
    let Err(BuildError::Audit(error)) = second else {
        panic!("two writers on one log")
    };
    assert!(error.to_string().contains("audit.jsonl"), "{error}");
}

#[tokio::test]
async fn an_admitted_line_is_there_before_bytes_leave() {
    let log = Log::new();
    let firewall = builder().budget_usd(1.0).audit_log(log.path()).build().unwrap();
    let admission = firewall.admit(call(&firewall, 7)).await.unwrap();
    let line = &log.of_kind("admitted")[0];
    assert_eq!(
        (&line["model"], &line["bound_usd"]),
        (&"cent".into(), &0.07.into())
    );
    assert!(log.of_kind("model_call").is_empty());
    admission.fail().await;
}

const FULL_DISK: &str = "LEASH_TEST_FULL_DISK";

/// The child's part: fills the log up to the limit its parent set, and reports what it saw.
#[expect(clippy::print_stdout, reason = "how a child reports to its parent")]
async fn fill(path: &str) {
    let firewall = builder().budget_usd(1000.0).audit_log(path).build().unwrap();
    let usage = Usage {
        output_tokens: 1,
        ..Usage::default()
    };
    let mut paid = 0_u64;
    let warning = loop {
        // Two at once, so that one is under way when the disk is full.
        let first = firewall.admit(call(&firewall, 1)).await;
        let second = firewall.admit(call(&firewall, 1)).await;
        let mut warned = None;
        for admission in [first, second].into_iter().flatten() {
            paid += 1;
            let receipt = admission.settle(Answer::reported(usage, Digest::EMPTY)).await;
            warned = warned.or(receipt.warning);
        }
        if let Some(warning) = warned {
            break warning;
        }
        assert!(paid < 10_000, "the disk never filled up");
    };
    assert!(matches!(warning, Warning::Owed(_)), "{warning}");
    let refused = firewall.admit(call(&firewall, 1)).await.unwrap_err();
    assert!(matches!(&refused, LeashError::Unavailable { .. }));
    assert_eq!(refused.rule_id(), rule_ids::AUDIT);
    assert_eq!(firewall.cumulative().await.unwrap().as_nanos(), paid * 10_000_000);
    let owed = firewall.audit_log().unwrap().owed();
    println!("paid {paid} owed {owed}");
}

#[tokio::test]
async fn with_a_full_disk_what_was_paid_is_owed_and_nothing_more_is_admitted() {
    if let Ok(path) = std::env::var(FULL_DISK) {
        return fill(&path).await;
    }
    let log = Log::new();
    let test = std::env::current_exe().unwrap();
    let name = "evidence::with_a_full_disk_what_was_paid_is_owed_and_nothing_more_is_admitted";
    // A real limit: writes beyond 20 kB fail with EFBIG, as they do with ENOSPC on a full disk.
    let script = format!("trap '' XFSZ; ulimit -f 20; exec \"$0\" --exact {name} --nocapture");
    let child = Command::new("bash")
        .args(["-c", &script])
        .arg(test)
        .env(FULL_DISK, log.path())
        .env_remove("NEXTEST")
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}");
    let counts: Vec<usize> = said
        .lines()
        .find_map(|line| line.split_once("paid "))
        .map(|(_, counts)| {
            counts
                .split(" owed ")
                .map(|count| count.trim().parse().unwrap())
                .collect()
        })
        .expect("the child reports its counts");
    assert!(counts[1] >= 1);
    // Every line that is there is whole, and together with what was owed they are all that was paid.
    assert_eq!(log.of_kind("model_call").len() + counts[1], counts[0]);
}
