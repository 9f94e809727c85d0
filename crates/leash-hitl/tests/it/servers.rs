//! Redis over TLS, for a user with few rights, and in a cluster.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use leash_hitl::conformance::entry;
use leash_hitl::{
    Decided, HitlQueue, RedisOptions, RedisQueue, Ruling, SharedRedis, Which, hitl_queue_conformance,
    open_queue,
};
use leash_testkit::{RedisCluster, RedisServer};
use serde_json::json;

/// What a user needs: agents and operators alike, for whoever may ask may decide.
const RIGHTS: &[&str] = &[
    "~{llm_leash:hitl}:*",
    "&{llm_leash:hitl}:moved",
    "+@connection",
    "+@scripting",
    "+@read",
    "+@write",
    "+cluster|slots",
    "+time",
    "+publish",
    "+subscribe",
];

fn queue(url: &str, name: &str, server: Option<&RedisServer>) -> Arc<dyn HitlQueue> {
    let mut options = RedisOptions::default();
    options.timeout = Duration::from_secs(20);
    options.root_certificates = server.map(|server| std::fs::read(server.authority()).unwrap().into());
    let server = SharedRedis::new(&url.parse().unwrap(), &options).unwrap();
    Arc::new(RedisQueue::on(server, name))
}

/// Whoever waits at `ours` is told of what is asked and decided at `theirs`: nothing but messages tells them.
async fn is_told(ours: &dyn HitlQueue, theirs: &dyn HitlQueue) {
    let mut changes = ours.changes();
    let told = async |changes: &mut tokio::sync::watch::Receiver<u64>| {
        tokio::time::timeout(Duration::from_secs(20), changes.changed())
            .await
            .unwrap()
            .unwrap();
    };
    // That it listens now.
    told(&mut changes).await;
    let asked = theirs.enqueue(&entry(json!({"amount": 1}))).await.unwrap();
    told(&mut changes).await;
    assert_eq!(
        ours.list(Which::Open).await.unwrap(),
        std::slice::from_ref(&asked)
    );
    let decided = theirs
        .decide(&asked.id, &Ruling::approve(Some("ada")))
        .await
        .unwrap();
    assert!(matches!(decided, Decided::Done(_)));
    told(&mut changes).await;
    assert!(ours.consume(&asked.id, &asked.call_hash.unwrap()).await.unwrap());
    assert!(
        !theirs
            .consume(&asked.id, &asked.call_hash.unwrap())
            .await
            .unwrap()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_every_law_holds() {
    let server = RedisServer::start_tls(&[]);
    let url = server.tls_url_as("");
    let turn = Cell::new(0);
    let fresh = || {
        turn.set(turn.get() + 1);
        (queue(&url, &format!("law{}", turn.get()), Some(&server)), ())
    };
    hitl_queue_conformance!(each async { fresh() });
    let (ours, theirs) = (queue(&url, "x", Some(&server)), queue(&url, "x", Some(&server)));
    is_told(&*ours, &*theirs).await;
    // A server that nobody vouches for is told nothing.
    let stranger = open_queue(&url).await.unwrap();
    assert!(stranger.enqueue(&entry(json!({}))).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster_every_law_holds() {
    let cluster = RedisCluster::start();
    let url = cluster.url();
    let turn = Cell::new(0);
    // Each name has another slot, so the queues lie on all nodes.
    let fresh = || {
        turn.set(turn.get() + 1);
        (queue(&url, &format!("law{}", turn.get()), None), ())
    };
    hitl_queue_conformance!(each async { fresh() });
    for name in ["a", "b", "c", "d"] {
        is_told(&*queue(&url, name, None), &*queue(&url, name, None)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_the_documented_rights_is_enough_and_has_no_other_queue() {
    let server = RedisServer::start(&[]);
    let cluster = RedisCluster::start();
    for node in std::iter::once(&server).chain(cluster.nodes()) {
        node.allow("leash", "hunter2", RIGHTS);
    }
    for url in [server.url_as("leash:hunter2@"), cluster.url_as("leash:hunter2@")] {
        let (ours, theirs) = (open_queue(&url).await.unwrap(), open_queue(&url).await.unwrap());
        is_told(&*ours, &*theirs).await;
        assert!(!format!("{ours:?}").contains("hunter"));
        let elsewhere = queue(&url, "payroll", None);
        assert!(elsewhere.enqueue(&entry(json!({}))).await.is_err());
        assert!(elsewhere.list(Which::All).await.is_err());
        let wrong = url.replace("hunter2", "hunter3");
        let error = open_queue(&wrong)
            .await
            .unwrap()
            .list(Which::All)
            .await
            .unwrap_err();
        let said = format!("{error} {:?}", std::error::Error::source(&error));
        assert!(!said.contains("hunter"), "{said}");
    }
}
