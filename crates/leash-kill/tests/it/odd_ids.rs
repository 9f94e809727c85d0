//! What other programs left in a registry that they share with us, under ids that are none.

use leash_core::{Caller, SessionId};
use leash_kill::{KillRegistry, RedisKillRegistry, SqliteKillRegistry, ViewOptions};
use leash_testkit::RedisServer;

use crate::support::raw_http;
use crate::{caller, http_over, memory, session_order};

fn odd_ids() -> [String; 5] {
    ["", "a\0b", "a\nb", "\u{7f}", &"x".repeat(10 * 1024)].map(str::to_owned)
}

/// They stop nobody whose id begins or ends alike, keep nobody from reading the rest, and are not listed.
async fn only_the_other_is_stopped(registry: &dyn KillRegistry) {
    let stopped = caller();
    let target = session_order(&stopped, "stop").target;
    registry.kill(session_order(&stopped, "stop")).await.unwrap();
    assert!(registry.standing(&stopped).await.unwrap().is_some());
    for id in ["a", "b", "ab", "a b", &"x".repeat(512), "x"] {
        let caller = Caller::session(SessionId::new(id).unwrap());
        assert!(registry.standing(&caller).await.unwrap().is_none(), "{id}");
    }
    let listed = registry.orders().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed.first().unwrap().target, target);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_file_under_ids_that_are_none_are_nobodys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kill.db");
    let registry = SqliteKillRegistry::open(&path, ViewOptions::default())
        .await
        .unwrap();
    let file = leash_store::rusqlite::Connection::open(&path).unwrap();
    for id in odd_ids() {
        let sql = "INSERT INTO killed_sessions (session_id, reason) VALUES (?1, 'odd')";
        file.execute(sql, [id]).unwrap();
    }
    only_the_other_is_stopped(&registry).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_a_server_under_ids_that_are_none_are_nobodys() {
    let server = RedisServer::start(&[]);
    for id in odd_ids() {
        let key = format!("llm_leash:kill:{id}");
        assert_eq!(server.ask(&["SET", &key, "odd"]), "+OK");
    }
    let url = server.url().parse().unwrap();
    let registry = RedisKillRegistry::open(&url, ViewOptions::default()).unwrap();
    only_the_other_is_stopped(&registry).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_refuses_ids_that_are_none_in_every_place_they_can_stand() {
    let registry = memory();
    let (address, _server) = http_over(registry.clone()).await;
    let auth = "Authorization: Bearer open sesame\r\n";
    let long = "x".repeat(10 * 1024);
    for id in ["", "%00", "a%00b", "a%0Ab", "%7F", long.as_str()] {
        for method in ["GET", "POST", "DELETE"] {
            let (status, _) = raw_http(
                address,
                &format!("{method} /kill/{id}"),
                auth,
                r#"{"reason":"x"}"#,
            );
            assert_eq!(status, 400, "{method} {id}");
        }
        let (status, _) = raw_http(address, &format!("DELETE /orders?target=session:{id}"), auth, "");
        assert_eq!(status, 400, "{id}");
    }
    for id in ["", "a\\u0000b", "a\\nb", long.as_str()] {
        let order = format!(r#"{{"target":"session:{id}","reason":"x"}}"#);
        let (status, _) = raw_http(address, "POST /orders", auth, &order);
        assert_eq!(status, 400, "{id}");
    }
    assert!(registry.orders().await.unwrap().is_empty());
}
