//! Real servers: over TLS, and in a cluster.
#![cfg(all(feature = "redis-cluster", feature = "redis-tls"))]
#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use leash_core::{StoreError, StoreErrorKind};
use leash_store::redis_client::cmd;
use leash_store::{RedisOptions, SharedRedis};
use leash_testkit::{RedisCluster, RedisServer};

fn patient() -> RedisOptions {
    let mut options = RedisOptions::default();
    options.timeout = Duration::from_secs(20);
    options
}

fn open(url: &str, options: &RedisOptions) -> SharedRedis {
    SharedRedis::new(&url.parse().unwrap(), options).unwrap()
}

/// What `says` publishes, `listens` hears.
async fn is_heard(listens: &SharedRedis, says: &SharedRedis) {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let mut messages = listens.subscribe("listen", "news").await.unwrap();
    for _ in 0..2 {
        let word = TURN.fetch_add(1, Ordering::SeqCst).to_string();
        says.query::<i64>("tell", cmd("PUBLISH").arg("news").arg(&word))
            .await
            .unwrap();
        // What was said to others before may still be on its way between the nodes.
        let heard = async { while messages.next().await.unwrap() != word.as_bytes() {} };
        tokio::time::timeout(Duration::from_secs(20), heard)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn over_tls_a_message_is_heard_and_a_stranger_is_not_believed() {
    let server = RedisServer::start_tls(&[]);
    server.allow("leash", "hunter2", &["+ping", "+subscribe", "+publish", "&news"]);
    let mut trusting = patient();
    trusting.root_certificates = Some(std::fs::read(server.authority()).unwrap().into());
    let one = open(&server.tls_url_as("leash:hunter2@"), &trusting);
    let other = open(&server.tls_url_as("leash:hunter2@"), &trusting);
    is_heard(&one, &other).await;

    let stranger = open(&server.tls_url_as("leash:hunter2@"), &patient());
    for error in [
        stranger.query::<()>("ask", &cmd("PING")).await.unwrap_err(),
        stranger.subscribe("listen", "news").await.unwrap_err(),
        // The right name with the wrong password.
        open(&server.tls_url_as("leash:hunter3@"), &trusting)
            .subscribe("listen", "news")
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        let said = format!("{error} {:?}", std::error::Error::source(&error));
        assert!(!said.contains("hunter"), "{said}");
    }
}

#[tokio::test]
async fn in_a_cluster_a_message_is_heard_at_whichever_node_one_listens() {
    let cluster = RedisCluster::start();
    let says = open(&cluster.url(), &patient());
    for node in cluster.nodes() {
        let alone = node.url().replace("redis://", "redis-cluster://");
        is_heard(&open(&alone, &patient()), &says).await;
    }
    // One of the nodes that the address names is not there: the next is listened to.
    let lame = cluster
        .url()
        .replace("redis-cluster://", "redis-cluster://127.0.0.1:1,");
    for _ in 0..cluster.nodes().len() {
        is_heard(&open(&lame, &patient()), &says).await;
    }
}

#[tokio::test]
async fn every_key_of_a_cluster_is_listed_also_after_slots_moved() {
    let cluster = RedisCluster::start();
    let server = open(&cluster.url(), &patient());
    let keys: BTreeSet<String> = (0..2500).map(|n| format!("kept:{n}")).collect();
    for key in &keys {
        server
            .query::<()>("keep", cmd("SET").arg(key).arg("x"))
            .await
            .unwrap();
    }
    server
        .query::<()>("keep", cmd("SET").arg("other").arg("x"))
        .await
        .unwrap();
    let listed = async || {
        let mut listed = BTreeSet::new();
        let found = |keys: Vec<Vec<u8>>| {
            listed.extend(keys.into_iter().map(|key| String::from_utf8(key).unwrap()));
            Ok(())
        };
        server.scan("list", "kept:*", found).await.unwrap();
        listed
    };
    // Not `assert_eq`: nobody wants to read 2,500 keys twice.
    assert!(listed().await == keys);
    cluster.move_slots(0, 2);
    assert!(listed().await == keys, "after slots were moved");
    // What is found may end it.
    let enough = server
        .scan("list", "kept:*", |_| {
            Err(StoreError::new(StoreErrorKind::Full, "list more"))
        })
        .await;
    assert_eq!(enough.unwrap_err().kind(), StoreErrorKind::Full);
}
