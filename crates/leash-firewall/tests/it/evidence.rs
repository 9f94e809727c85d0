//! No refusal without a line, no call without a trace; a log that cannot be written stops admission.

use std::process::{Command, Stdio};
use std::sync::Arc;

use leash_budget::{ModelPrice, Price, PriceTable};
use leash_core::{
    Action, Call, Decision, Digest, Json, LeashError, ModelCall, PolicyContext, Rule, RuleError, SystemClock,
    ToolCall, ToolRequest, Usage, rule_ids,
};
use leash_firewall::{Answer, BuildError, Firewall, Warning};

use crate::support::{FaultyStore, Log, builder, call};

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
async fn after_a_firewall_was_closed_and_dropped_the_next_one_gets_its_log() {
    let log = Log::new();
    for _ in 0..200 {
        let firewall = builder().budget_usd(1.0).audit_log(log.path()).build().unwrap();
        drop(firewall.admit(call(&firewall, 1)).await.unwrap());
        firewall.close().await.unwrap();
    }
    assert_eq!(log.of_kind("model_call").len(), 200);
}

#[tokio::test]
async fn a_rule_with_much_to_say_does_not_keep_its_refusal_out_of_the_log() {
    #[derive(Debug)]
    struct Talks;
    impl Rule for Talks {
        fn id(&self) -> &'static str {
            "talks"
        }
        fn evaluate(&self, _: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
            Ok(Some(Decision::new(Action::Block, "talks", "nö".repeat(2 << 20))))
        }
    }
    let log = Log::new();
    let firewall = builder().rule(Talks).audit_log(log.path()).build().unwrap();
    let refused = firewall.admit(call(&firewall, 1)).await.unwrap_err();
    assert_eq!(refused.rule_id(), "talks");
    firewall.kill(&"stop ".repeat(1 << 20)).await.unwrap();
    firewall.close().await.unwrap();
    for kind in ["policy_decision", "refusal", "kill"] {
        let reason = log.of_kind(kind)[0]["reason"].as_str().unwrap().len();
        assert!((4_000..=4_096).contains(&reason), "{kind}: {reason}");
    }
}

#[tokio::test]
async fn a_name_that_no_line_could_hold_is_refused_and_the_log_goes_on() {
    let log = Log::new();
    let free = ModelPrice::flat(Price::FREE, Price::FREE);
    let firewall = builder()
        .prices(PriceTable::empty().with_ceiling("p", free))
        .budget_usd(1.0)
        .budget_store(FaultyStore::durable(Arc::new(SystemClock)))
        .denied_tools(["*"])
        .audit_log(log.path())
        .build()
        .unwrap();
    let huge: Arc<str> = "m".repeat(5 << 20).into();
    let model = |provider: &str, model: Arc<str>| {
        ModelCall::new(provider, model, Json::null(), 1, firewall.caller().clone())
    };
    let asked = ToolRequest {
        id: String::new(),
        tool: huge.clone(),
        args: Json::null(),
    };
    let refused = [
        firewall.admit(model("p", huge.clone())).await.err(),
        firewall.admit(model(&huge, "m".into())).await.err(),
        firewall
            .admit(ToolCall::new(
                huge.clone(),
                Json::null(),
                firewall.caller().clone(),
            ))
            .await
            .err(),
        firewall.inspect(&asked).await.err(),
    ];
    for refused in refused {
        let refused = refused.expect("it went through");
        assert_eq!(refused.rule_id(), rule_ids::WIRE);
        assert!(!refused.reason().contains("mmm"));
    }
    let admission = firewall.admit(model("p", "m".repeat(1024).into())).await.unwrap();
    let answer = Answer::reported(Usage::default(), Digest::EMPTY);
    assert!(admission.settle(answer).await.warning.is_none());
    firewall.close().await.unwrap();
    assert_eq!(log.refusals(), 4);
    assert_eq!(log.of_kind("model_call").len(), 1);
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
