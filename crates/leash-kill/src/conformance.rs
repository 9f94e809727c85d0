//! The laws of [`KillRegistry`]. Each is one function;
//! [`kill_registry_conformance!`](crate::kill_registry_conformance) makes a named test of each for a registry.
//! A law wants a registry in which nothing stands.
#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "laws are tests: a broken one panics"
)]

use std::sync::Arc;

use leash_core::{AgentName, Caller, IdGenerator, SessionId, TenantId, Timestamp};

use crate::{KillOrder, KillRegistry, Target};

/// Makes one `#[tokio::test]` per law for the registry that the expression gives (an `Arc<dyn KillRegistry>`); with
/// `between`, inside an async test, holds two registries that share what they keep to the law about them; with `each`,
/// there too, holds one registry after the other to all laws, where a test of each would start too much.
#[macro_export]
macro_rules! kill_registry_conformance {
    ($name:ident, $registry:expr) => {
        mod $name {
            use super::*;
            $crate::kill_registry_conformance!(@list laws $registry);
        }
    };
    (each $registry:expr) => {
        $crate::kill_registry_conformance!(@list each $registry)
    };
    (@list $then:ident $registry:expr) => {
        $crate::kill_registry_conformance!(@$then $registry,
            an_order_stops_whom_it_names_and_nobody_else
            killing_twice_keeps_the_newest_reason
            clearing_is_idempotent_and_says_whether_an_order_stood
            whoever_waits_is_told_of_an_order
            the_order_of_the_narrowest_target_is_given
            ids_of_any_spelling_are_never_anothers
            what_an_order_says_is_kept
        );
    };
    (@each $registry:expr, $($law:ident)*) => {
        $( $crate::conformance::$law($registry.await).await; )*
    };
    (between $ours:expr, $theirs:expr) => {
        $crate::conformance::an_order_given_elsewhere_stops_within_300_ms($ours, $theirs).await
    };
    (@laws $registry:expr, $($law:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                $crate::conformance::$law($registry.await).await;
            }
        )*
    };
}

fn caller() -> Caller {
    Caller {
        session_id: IdGenerator::from_os().session(),
        tenant_id: Some(TenantId::new("acme").unwrap()),
        agent_name: Some(AgentName::new("researcher").unwrap()),
    }
}

fn order(target: Target, reason: &str) -> KillOrder {
    KillOrder::new(target, reason, Timestamp::EPOCH)
}

/// An order for a session, an agent, a tenant or everything stops those that it names.
pub async fn an_order_stops_whom_it_names_and_nobody_else(registry: Arc<dyn KillRegistry>) {
    let named = caller();
    let stranger = Caller::session(IdGenerator::from_os().session());
    let targets = [
        (Target::Session(named.session_id.clone()), false),
        (Target::Agent(AgentName::new("researcher").unwrap()), false),
        (Target::Tenant(TenantId::new("acme").unwrap()), false),
        (Target::Everything, true),
    ];
    for (target, stops_strangers) in targets {
        registry.kill(order(target.clone(), "stop")).await.unwrap();
        assert_eq!(
            registry.standing(&named).await.unwrap().map(|order| order.target),
            Some(target.clone())
        );
        // What is answered without waiting is the same, or nothing.
        if let Some(answer) = registry.at_once(&named) {
            assert_eq!(answer.unwrap().order.unwrap().target, target);
        }
        assert_eq!(
            registry.standing(&stranger).await.unwrap().is_some(),
            stops_strangers,
            "{target}"
        );
        assert!(registry.clear(&target).await.unwrap());
        assert_eq!(registry.standing(&named).await.unwrap(), None);
        if let Some(answer) = registry.at_once(&named) {
            assert_eq!(answer.unwrap().order, None);
        }
    }
}

/// The newest reason is the one that is given.
pub async fn killing_twice_keeps_the_newest_reason(registry: Arc<dyn KillRegistry>) {
    let caller = caller();
    let target = Target::Session(caller.session_id.clone());
    registry.kill(order(target.clone(), "first")).await.unwrap();
    registry.kill(order(target.clone(), "second")).await.unwrap();
    assert_eq!(
        &*registry.standing(&caller).await.unwrap().unwrap().reason,
        "second"
    );
    assert_eq!(registry.orders().await.unwrap().len(), 1);
    registry.clear(&target).await.unwrap();
}

/// Clearing what does not stand is no error.
pub async fn clearing_is_idempotent_and_says_whether_an_order_stood(registry: Arc<dyn KillRegistry>) {
    let target = Target::Session(caller().session_id);
    assert!(!registry.clear(&target).await.unwrap());
    registry.kill(order(target.clone(), "stop")).await.unwrap();
    assert!(registry.clear(&target).await.unwrap());
    assert!(!registry.clear(&target).await.unwrap());
}

/// A stream that runs hears of an order without asking.
pub async fn whoever_waits_is_told_of_an_order(registry: Arc<dyn KillRegistry>) {
    let caller = caller();
    let mut changes = registry.changes();
    let waiting = {
        let (registry, caller) = (registry.clone(), caller.clone());
        tokio::spawn(async move {
            while registry.standing(&caller).await.unwrap().is_none() {
                changes.changed().await.unwrap();
            }
        })
    };
    let target = Target::Session(caller.session_id.clone());
    registry.kill(order(target.clone(), "stop")).await.unwrap();
    waiting.await.unwrap();
    registry.clear(&target).await.unwrap();
}

/// Where several orders stand, the caller's own session's is the one it is told.
pub async fn the_order_of_the_narrowest_target_is_given(registry: Arc<dyn KillRegistry>) {
    let caller = caller();
    let session = Target::Session(caller.session_id.clone());
    registry.kill(order(Target::Everything, "all")).await.unwrap();
    registry.kill(order(session.clone(), "this one")).await.unwrap();
    assert_eq!(
        &*registry.standing(&caller).await.unwrap().unwrap().reason,
        "this one"
    );
    registry.clear(&session).await.unwrap();
    assert_eq!(&*registry.standing(&caller).await.unwrap().unwrap().reason, "all");
    registry.clear(&Target::Everything).await.unwrap();
}

/// Slashes, spaces, dots, escapes, braces, emoji and the longest ids name one session only. What is longer, or has a
/// NUL in it, is no id.
pub async fn ids_of_any_spelling_are_never_anothers(registry: Arc<dyn KillRegistry>) {
    let longest = "x".repeat(512);
    let almost = "x".repeat(511);
    let ids: Vec<SessionId> = [
        "a/b",
        "a%2fb",
        "a%2Fb",
        "a b",
        "..",
        ".",
        "../a",
        "a:b",
        "\u{1f680}",
        "a?b#c",
        "A/B",
        "*",
        "%00",
        "{a}b",
        "a",
        "a\\b",
        "'; DROP TABLE killed_sessions; --",
        "\u{e9}",
        "e\u{301}",
        &longest,
        &almost,
    ]
    .into_iter()
    .map(|id| SessionId::new(id).unwrap())
    .collect();
    for none in ["a\0b", "\0", &"x".repeat(10 * 1024)] {
        assert!(SessionId::new(none).is_err() && Target::new("session", none).is_err());
    }
    for killed in &ids {
        let target = Target::Session(killed.clone());
        registry.kill(order(target.clone(), "stop")).await.unwrap();
        for id in &ids {
            let stopped = registry
                .standing(&Caller::session(id.clone()))
                .await
                .unwrap()
                .is_some();
            assert_eq!(stopped, id == killed, "{killed} and {id}");
        }
        registry.clear(&target).await.unwrap();
    }
}

/// Who and when come back as they were given, for every kind of target.
pub async fn what_an_order_says_is_kept(registry: Arc<dyn KillRegistry>) {
    let at: Timestamp = "2026-05-16T12:34:56.789012Z".parse().unwrap();
    let mut given: Vec<KillOrder> = ["session:s/1", "agent:a:b", "tenant:acme 🚀", "everything"]
        .into_iter()
        .map(|target| {
            KillOrder::new(target.parse().unwrap(), "why \"not\"\nindeed", at).by("ops@example.com")
        })
        .collect();
    given.sort_by(|one, other| one.target.cmp(&other.target));
    for order in &given {
        registry.kill(order.clone()).await.unwrap();
    }
    assert_eq!(registry.orders().await.unwrap(), given);
    let caller = Caller::session(SessionId::new("s/1").unwrap());
    assert_eq!(registry.standing(&caller).await.unwrap().as_ref(), given.first());
    for order in &given {
        assert!(registry.clear(&order.target).await.unwrap());
    }
    assert_eq!(registry.orders().await.unwrap(), []);
}

/// Two registries, in two processes or as if they were, that share what they keep: an order given to `theirs` stops
/// the callers of `ours` within 300 ms, known callers and new ones, and those that stream; and so does a clearing let
/// them go on. A refusal because nobody can tell counts as a stop.
pub async fn an_order_given_elsewhere_stops_within_300_ms(
    ours: Arc<dyn KillRegistry>,
    theirs: Arc<dyn KillRegistry>,
) {
    for wide in [
        None,
        Some(Target::Everything),
        Some(Target::Tenant(TenantId::new("acme").unwrap())),
    ] {
        let caller = caller();
        let target = wide.unwrap_or_else(|| Target::Session(caller.session_id.clone()));
        assert_eq!(ours.standing(&caller).await.unwrap(), None);
        let stream = {
            let (ours, caller) = (ours.clone(), caller.clone());
            tokio::spawn(async move {
                let mut changes = ours.changes();
                while matches!(ours.standing(&caller).await, Ok(None)) {
                    changes.changed().await.unwrap();
                }
                std::time::Instant::now()
            })
        };
        theirs.kill(order(target.clone(), "elsewhere")).await.unwrap();
        let given = std::time::Instant::now();
        loop {
            let asked = std::time::Instant::now();
            match ours.standing(&caller).await {
                Ok(Some(order)) => break assert_eq!(order.target, target),
                Ok(None) => assert!(asked.duration_since(given).as_millis() < 300, "admitted too late"),
                Err(_) => {}
            }
            tokio::task::yield_now().await;
        }
        let cut = tokio::time::timeout(std::time::Duration::from_secs(5), stream).await;
        // The runtime may be slow to wake a task; the view is not slow to say so.
        assert!(cut.unwrap().unwrap().duration_since(given).as_secs() < 1);
        assert!(theirs.clear(&target).await.unwrap());
        let wait = async {
            while !matches!(ours.standing(&caller).await, Ok(None)) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(5), wait)
            .await
            .unwrap();
    }
}
