//! The blocking twin, in a plain thread and inside runtimes.

use leash_core::{Digest, Usage};
use leash_firewall::{Answer, BlockingFirewall};
use serde_json::json;

use crate::support::{Log, builder, call, usd};

fn spend(firewall: &BlockingFirewall) {
    let admission = firewall.admit(call(firewall.firewall(), 5)).unwrap();
    let usage = Usage {
        output_tokens: 3,
        ..Usage::default()
    };
    let receipt = firewall.settle(admission, Answer::reported(usage, Digest::EMPTY));
    assert_eq!(receipt.cost, usd("0.03"));
    firewall
        .tool("t", json!({}), |_| Ok::<_, std::io::Error>(json!(1)))
        .unwrap();
}

#[test]
fn a_plain_thread_is_guarded() {
    let log = Log::new();
    let firewall = builder()
        .budget_usd(1.0)
        .audit_log(log.path())
        .build()
        .unwrap()
        .blocking()
        .unwrap();
    spend(&firewall);
    assert_eq!(firewall.cumulative().unwrap(), usd("0.03"));
    let child = firewall.child("s_child".parse().unwrap(), usd("0.10")).unwrap();
    spend(&child);
    assert_eq!(child.give_back().unwrap(), usd("0.07"));
    let grant = firewall.give(usd("0.10")).unwrap();
    assert_eq!(firewall.reclaim(&grant).unwrap(), usd("0.10"));
    assert_eq!(firewall.cumulative().unwrap(), usd("0.06"));
    firewall.kill("done").unwrap();
    assert!(firewall.admit(call(firewall.firewall(), 1)).is_err());
    firewall.close().unwrap();
    assert_eq!(log.of_kind("model_call").len(), 2);
}

#[tokio::test]
async fn a_single_threaded_runtime_may_block_and_drop_it() {
    let firewall = builder().budget_usd(1.0).build().unwrap().blocking().unwrap();
    spend(&firewall);
    drop(firewall);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_threaded_runtime_may_block_and_drop_it() {
    let firewall = builder().budget_usd(1.0).build().unwrap().blocking().unwrap();
    let clone = firewall.clone();
    tokio::task::spawn_blocking(move || spend(&clone)).await.unwrap();
    spend(&firewall);
}
