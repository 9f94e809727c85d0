//! Redis over TLS, for a user with few rights, and in a cluster.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use leash_core::{Caller, SessionId, StoreErrorKind};
use leash_kill::{
    KillOrder, KillRegistry, RedisKillRegistry, RedisOptions, StoreUrl, Target, ViewOptions,
    kill_registry_conformance,
};
use leash_testkit::{RedisCluster, RedisServer};

use crate::{admitted_again, caller, session_order};

/// What an agent's user may do: look, and listen.
const LOOKS: &[&str] = &[
    "%R~llm_leash:kill:*",
    "%R~llm_leash:kill.orders",
    "%R~llm_leash:kill.details",
    "&llm_leash:kill.changed",
    "+@connection",
    "+cluster|slots",
    "+mget",
    "+hgetall",
    "+hmget",
    "+subscribe",
];
/// What an operator's user may do besides.
const ORDERS: &[&str] = &[
    "~llm_leash:kill:*",
    "~llm_leash:kill.orders",
    "~llm_leash:kill.details",
    "+set",
    "+del",
    "+hset",
    "+hdel",
    "+scan",
    "+publish",
];

fn options() -> ViewOptions {
    ViewOptions::default()
}

/// In the server that only `authority` vouches for.
fn trusting(url: &str, server: &RedisServer, prefix: &str) -> RedisKillRegistry {
    let mut redis = RedisOptions::default();
    redis.root_certificates = Some(std::fs::read(server.authority()).unwrap().into());
    RedisKillRegistry::with_redis(&url.parse().unwrap(), prefix, redis, options()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_every_law_holds() {
    let server = RedisServer::start_tls(&[]);
    let turn = Cell::new(0);
    let fresh = || -> Arc<dyn KillRegistry> {
        turn.set(turn.get() + 1);
        Arc::new(trusting(
            &server.tls_url_as(""),
            &server,
            &format!("law{}:", turn.get()),
        ))
    };
    kill_registry_conformance!(each async { fresh() });
    let open = || Arc::new(trusting(&server.tls_url_as(""), &server, "shared:"));
    kill_registry_conformance!(between open(), open());
    // Without the authority nobody is believed, so everybody is refused.
    let url: StoreUrl = server.tls_url_as("").parse().unwrap();
    let stranger = RedisKillRegistry::open(&url, options()).unwrap();
    assert!(stranger.standing(&caller()).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster_every_law_holds() {
    let cluster = RedisCluster::start();
    let url: StoreUrl = cluster.url().parse().unwrap();
    let turn = Cell::new(0);
    let fresh = || -> Arc<dyn KillRegistry> {
        turn.set(turn.get() + 1);
        let prefix = format!("law{}:", turn.get());
        Arc::new(RedisKillRegistry::with_prefix(&url, &prefix, options()).unwrap())
    };
    kill_registry_conformance!(each async { fresh() });
    let open = || Arc::new(RedisKillRegistry::open(&url, options()).unwrap());
    kill_registry_conformance!(between open(), open());
}

/// What the registry says, once it can: on a busy machine it may be too slow for a while, and then refuses.
async fn said(registry: &RedisKillRegistry, caller: &Caller) -> Option<KillOrder> {
    let asking = async {
        loop {
            if let Ok(order) = registry.standing(caller).await {
                return order;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), asking)
        .await
        .unwrap()
}

/// Their keys lie on all nodes, and each has its own answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster_each_of_many_sessions_has_its_own_order() {
    let cluster = RedisCluster::start();
    let url: StoreUrl = cluster.url().parse().unwrap();
    let theirs = RedisKillRegistry::open(&url, options().poll(Duration::from_millis(100))).unwrap();
    let callers: Vec<Caller> = (0..520).map(|_| caller()).collect();
    for caller in callers.iter().step_by(3) {
        theirs
            .kill(session_order(caller, caller.session_id.as_str()))
            .await
            .unwrap();
    }
    // As the Python package writes it: with redirections, for the node that was asked need not have the key.
    let by_hand = SessionId::new("by {hand}").unwrap();
    let written = cluster.nodes().iter().any(|node| {
        let key = format!("llm_leash:kill:{by_hand}");
        node.ask(&["SET", &key, "not ours"]) == "+OK"
    });
    assert!(written);
    let ours = RedisKillRegistry::open(&url, options().poll(Duration::from_millis(100))).unwrap();
    for (at, caller) in callers.iter().enumerate() {
        let order = said(&ours, caller).await;
        assert_eq!(
            order.map(|order| order.reason.to_string()),
            (at % 3 == 0).then(|| caller.session_id.to_string())
        );
    }
    let order = said(&ours, &Caller::session(by_hand.clone())).await;
    assert_eq!(&*order.unwrap().reason, "not ours");
    let listed: BTreeSet<Target> = ours
        .orders()
        .await
        .unwrap()
        .into_iter()
        .map(|order| order.target)
        .collect();
    let mut expected: BTreeSet<Target> = callers
        .iter()
        .step_by(3)
        .map(|caller| Target::Session(caller.session_id.clone()))
        .collect();
    expected.insert(Target::Session(by_hand));
    assert_eq!(listed, expected);
    // Its slots may move: nobody is let go on for that.
    cluster.move_slots(0, 1);
    let moved = RedisKillRegistry::open(&url, options().poll(Duration::from_millis(100))).unwrap();
    for caller in callers.iter().step_by(3) {
        assert!(said(&moved, caller).await.is_some());
    }
    assert_eq!(moved.orders().await.unwrap().len(), expected.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_may_only_look_obeys_orders_and_gives_none() {
    let server = RedisServer::start(&[]);
    let cluster = RedisCluster::start();
    let mut urls = Vec::new();
    for node in std::iter::once(&server).chain(cluster.nodes()) {
        node.allow("agent", "hunter2", LOOKS);
        node.allow("ada", "hunter3", &[LOOKS, ORDERS].concat());
    }
    urls.push((server.url_as("agent:hunter2@"), server.url_as("ada:hunter3@")));
    urls.push((cluster.url_as("agent:hunter2@"), cluster.url_as("ada:hunter3@")));
    for (agent, operator) in urls {
        let open = |url: &str| RedisKillRegistry::open(&url.parse().unwrap(), options()).unwrap();
        let (ours, theirs) = (open(&agent), open(&operator));
        let caller = caller();
        admitted_again(&ours, &caller).await;
        let mut changes = ours.changes();
        let target = Target::Session(caller.session_id.clone());
        for order in [
            session_order(&caller, "stop"),
            KillOrder::new(Target::Everything, "all", None),
        ] {
            let denied = ours.kill(order.clone()).await.unwrap_err();
            assert_eq!(denied.kind(), StoreErrorKind::Unavailable);
            assert!(ours.clear(&order.target).await.is_err());
        }
        assert!(theirs.orders().await.unwrap().is_empty());
        theirs.kill(session_order(&caller, "stop")).await.unwrap();
        while ours.standing(&caller).await.ok().flatten().is_none() {
            changes.changed().await.unwrap();
        }
        assert_eq!(theirs.orders().await.unwrap().len(), 1);
        assert!(theirs.clear(&target).await.unwrap());
        admitted_again(&ours, &caller).await;
        let shown = format!("{ours:?}");
        assert!(!shown.contains("hunter"), "{shown}");
    }
}
