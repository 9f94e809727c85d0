//! The laws of a kill registry, over every registry there is; and what only those that lie outside of a process can
//! break.
#![cfg(all(
    feature = "conformance",
    feature = "sqlite",
    feature = "redis",
    feature = "http",
    feature = "server"
))]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

#[path = "it/interop.rs"]
mod interop;
#[path = "it/odd_ids.rs"]
mod odd_ids;
#[cfg(all(feature = "redis-cluster", feature = "redis-tls"))]
#[path = "it/servers.rs"]
mod servers;
#[cfg(all(unix, feature = "signal"))]
#[path = "it/stopped.rs"]
mod stopped;
#[path = "it/support.rs"]
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use leash_core::{Caller, IdGenerator, SessionId, StoreErrorKind, Timestamp};
use leash_kill::{
    HttpKillRegistry, KillOrder, KillRegistry, KillServer, Leniency, MemoryKillRegistry, ProcessStop,
    RedisKillRegistry, SqliteKillRegistry, StoreUrl, Target, ViewOptions, kill_registry_conformance,
    stop_on_file,
};

use crate::support::{Kept, RedisServer, raw_http, serve};

const TOKEN: &str = "open sesame";

fn caller() -> Caller {
    Caller::session(IdGenerator::from_os().session())
}

fn session_order(caller: &Caller, reason: &str) -> KillOrder {
    KillOrder::new(
        Target::Session(caller.session_id.clone()),
        reason,
        Timestamp::EPOCH,
    )
}

fn memory() -> Arc<dyn KillRegistry> {
    Arc::new(MemoryKillRegistry::new())
}

fn braked() -> Arc<dyn KillRegistry> {
    Arc::new(ProcessStop::new(memory()))
}

async fn sqlite() -> Arc<dyn KillRegistry> {
    let folder = tempfile::tempdir().unwrap();
    let registry = SqliteKillRegistry::open(folder.path().join("kill.db"), ViewOptions::default())
        .await
        .unwrap();
    Kept::arc(registry, folder)
}

fn redis() -> Arc<dyn KillRegistry> {
    let server = RedisServer::start();
    let registry = RedisKillRegistry::open(&server.url(), ViewOptions::default()).unwrap();
    Kept::arc(registry, server)
}

async fn http_over(registry: Arc<dyn KillRegistry>) -> (SocketAddr, impl Send + Sync + 'static) {
    serve(KillServer::new(registry, TOKEN)).await
}

fn client(address: SocketAddr) -> HttpKillRegistry {
    let url: StoreUrl = format!("http://{address}/").parse().unwrap();
    HttpKillRegistry::open(&url, Some(TOKEN), ViewOptions::default()).unwrap()
}

async fn http() -> Arc<dyn KillRegistry> {
    let (address, server) = http_over(memory()).await;
    Kept::arc(client(address), server)
}

/// HTTP before SQLite: a view before a view.
async fn http_sqlite() -> Arc<dyn KillRegistry> {
    let (address, server) = http_over(sqlite().await).await;
    Kept::arc(client(address), server)
}

kill_registry_conformance!(in_memory, async { memory() });
kill_registry_conformance!(over_sqlite, sqlite());
kill_registry_conformance!(over_redis, async { redis() });
kill_registry_conformance!(over_http, http());
kill_registry_conformance!(over_http_and_sqlite, http_sqlite());
kill_registry_conformance!(with_a_brake, async { braked() });

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_over_sqlite_stops_within_300_ms() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kill.db");
    let open = async || {
        Arc::new(
            SqliteKillRegistry::open(&path, ViewOptions::default())
                .await
                .unwrap(),
        )
    };
    kill_registry_conformance!(between open().await, open().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_over_redis_stops_within_300_ms() {
    let server = RedisServer::start();
    let open = || Arc::new(RedisKillRegistry::open(&server.url(), ViewOptions::default()).unwrap());
    kill_registry_conformance!(between open(), open());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_over_http_stops_within_300_ms() {
    let (address, _server) = http_over(memory()).await;
    kill_registry_conformance!(between Arc::new(client(address)), Arc::new(client(address)));
}

/// Acts for another process: does something only where the environment says what.
#[tokio::test]
async fn another_process() {
    let Ok(url) = std::env::var("LEASH_KILL_TEST_REGISTRY") else {
        return;
    };
    let id = std::env::var("LEASH_KILL_TEST_SESSION").unwrap();
    let registry = leash_kill::open(&url.parse().unwrap(), Some(TOKEN), ViewOptions::default())
        .await
        .unwrap();
    let caller = Caller::session(SessionId::new(id).unwrap());
    registry
        .kill(session_order(&caller, "from another process"))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_from_another_process_stops_over_every_transport() {
    let folder = tempfile::tempdir().unwrap();
    let server = RedisServer::start();
    let (address, _http) = http_over(memory()).await;
    let urls = [
        format!("sqlite:{}", folder.path().join("kill.db").display()),
        server.url().with_secrets().to_owned(),
        format!("http://{address}"),
    ];
    for url in urls {
        let registry = leash_kill::open(&url.parse().unwrap(), Some(TOKEN), ViewOptions::default())
            .await
            .unwrap();
        let caller = caller();
        assert_eq!(registry.standing(&caller).await.unwrap(), None, "{url}");
        let mut changes = registry.changes();
        let child = tokio::task::spawn_blocking({
            let (url, id) = (url.clone(), caller.session_id.to_string());
            move || {
                std::process::Command::new(std::env::current_exe().unwrap())
                    .args(["another_process", "--exact"])
                    .env("LEASH_KILL_TEST_REGISTRY", url)
                    .env("LEASH_KILL_TEST_SESSION", id)
                    .output()
                    .unwrap()
            }
        });
        // Whoever streams hears of it without asking.
        let order = loop {
            match registry.standing(&caller).await {
                Ok(Some(order)) => break order,
                Ok(None) | Err(_) => {
                    tokio::time::timeout(Duration::from_secs(20), changes.changed())
                        .await
                        .unwrap()
                        .unwrap();
                }
            }
        };
        assert_eq!(&*order.reason, "from another process", "{url}");
        assert!(child.await.unwrap().status.success());
    }
}

/// Asks until a call is refused. One that is admitted later than 300 ms after `since` breaks the promise.
async fn refused_in_time(registry: &dyn KillRegistry, caller: &Caller, since: Instant) -> StoreErrorKind {
    loop {
        let asked = Instant::now();
        match registry.standing(caller).await {
            Ok(order) => {
                assert_eq!(order, None);
                assert!(asked.duration_since(since).as_millis() < 300, "admitted too late");
                tokio::task::yield_now().await;
            }
            Err(error) => return error.kind(),
        }
    }
}

async fn admitted_again(registry: &dyn KillRegistry, caller: &Caller) {
    let wait = async {
        while !matches!(registry.standing(caller).await, Ok(None)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_hangs_or_is_gone_refuses_within_300_ms_and_comes_back() {
    let mut server = RedisServer::start();
    let registry = RedisKillRegistry::open(&server.url(), ViewOptions::default()).unwrap();
    let caller = caller();
    assert_eq!(registry.standing(&caller).await.unwrap(), None);
    let mut changes = registry.changes();

    let hung = Instant::now();
    server.signal("STOP");
    refused_in_time(&registry, &caller, hung).await;
    // What streams is woken, and is refused too.
    changes.changed().await.unwrap();
    // One that is seen for the first time is not let in either.
    assert!(registry.standing(&self::caller()).await.is_err());
    server.signal("CONT");
    admitted_again(&registry, &caller).await;

    let gone = Instant::now();
    server.stop();
    refused_in_time(&registry, &caller, gone).await;
    server.restart();
    admitted_again(&registry, &caller).await;
    registry
        .kill(session_order(&caller, "still works"))
        .await
        .unwrap();
    assert!(registry.standing(&caller).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_gone_refuses_within_300_ms() {
    let (address, server) = http_over(memory()).await;
    let registry = client(address);
    let caller = caller();
    assert_eq!(registry.standing(&caller).await.unwrap(), None);
    let gone = Instant::now();
    drop(server);
    refused_in_time(&registry, &caller, gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_open_is_chosen_by_name_told_each_time_and_forgets_no_order() {
    let mut server = RedisServer::start();
    let told = Arc::new(AtomicUsize::new(0));
    let options = {
        let told = told.clone();
        ViewOptions::default().fail_open().on_unsure(move |_, unsure| {
            assert_eq!(unsure.leniency, Leniency::FailOpen);
            told.fetch_add(1, Ordering::SeqCst);
        })
    };
    let registry = RedisKillRegistry::open(&server.url(), options).unwrap();
    let (killed, free) = (caller(), caller());
    registry.kill(session_order(&killed, "stay down")).await.unwrap();
    assert!(registry.standing(&killed).await.unwrap().is_some());
    assert_eq!(registry.ask(&free).await.unwrap().unsure, None);
    server.stop();
    let answer = loop {
        let answer = registry.ask(&free).await.unwrap();
        if answer.unsure.is_some() {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(answer.order, None);
    assert_eq!(told.load(Ordering::SeqCst), 1);
    assert!(registry.standing(&free).await.unwrap().is_none());
    assert_eq!(told.load(Ordering::SeqCst), 2);
    // One that nobody ever saw goes on too, and one that was stopped does not.
    assert!(registry.ask(&caller()).await.unwrap().unsure.is_some());
    assert!(registry.standing(&killed).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grace_ends() {
    let mut server = RedisServer::start();
    let options = ViewOptions::default().grace(Duration::from_millis(500));
    let registry = RedisKillRegistry::open(&server.url(), options).unwrap();
    let caller = caller();
    assert_eq!(registry.ask(&caller).await.unwrap().unsure, None);
    server.stop();
    let mut graced = 0;
    let ended = loop {
        match registry.ask(&caller).await {
            Ok(answer) => graced += usize::from(answer.unsure.is_some()),
            Err(error) => break error,
        }
        tokio::task::yield_now().await;
    };
    assert!(graced > 0);
    assert!(ended.to_string().contains("ask the kill registry"), "{ended}");
    // The grace is for those that are known.
    assert!(registry.ask(&self::caller()).await.is_err());
}

#[tokio::test]
async fn more_sessions_than_the_limit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let options = ViewOptions::default().max_sessions(2);
    let registry = SqliteKillRegistry::open(folder.path().join("kill.db"), options)
        .await
        .unwrap();
    let (one, two) = (caller(), caller());
    assert!(registry.standing(&one).await.unwrap().is_none());
    assert!(registry.standing(&two).await.unwrap().is_none());
    let full = registry.standing(&caller()).await.unwrap_err();
    assert_eq!(full.kind(), StoreErrorKind::Full);
    assert!(registry.standing(&one).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_no_more_is_forgotten_and_who_streams_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kill.db");
    let options = ViewOptions::default()
        .max_sessions(2)
        .idle(Duration::from_secs(1));
    let registry = Arc::new(SqliteKillRegistry::open(&path, options).await.unwrap());
    let (streaming, gone, new) = (caller(), caller(), caller());
    assert!(registry.standing(&streaming).await.unwrap().is_none());
    assert!(registry.standing(&gone).await.unwrap().is_none());
    let stream = tokio::spawn({
        let (registry, caller) = (registry.clone(), streaming.clone());
        async move {
            let mut changes = registry.changes();
            loop {
                if let Some(order) = registry.standing(&caller).await.unwrap_or_default() {
                    return order;
                }
                changes.changed().await.unwrap();
            }
        }
    });
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    let admitted = async {
        // There is room for it once the idle one is forgotten.
        while registry.standing(&new).await.is_err() {
            beat.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), admitted)
        .await
        .unwrap();
    let theirs = SqliteKillRegistry::open(&path, ViewOptions::default())
        .await
        .unwrap();
    theirs.kill(session_order(&streaming, "late")).await.unwrap();
    let order = tokio::time::timeout(Duration::from_secs(20), stream).await;
    assert_eq!(&*order.unwrap().unwrap().reason, "late");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_stops_at_once_whatever_is_read_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Arc::new(
        SqliteKillRegistry::open(
            folder.path().join("kill.db"),
            ViewOptions::default().poll(Duration::from_millis(1)),
        )
        .await
        .unwrap(),
    );
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let registry = registry.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    let caller = caller();
                    assert!(registry.standing(&caller).await.unwrap().is_none());
                    let order = session_order(&caller, "now");
                    registry.kill(order.clone()).await.unwrap();
                    assert!(registry.standing(&caller).await.unwrap().is_some());
                    registry.clear(&order.target).await.unwrap();
                    assert!(registry.standing(&caller).await.unwrap().is_none());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_in_a_browser_gives_no_order() {
    let registry = memory();
    let (address, _server) = serve(KillServer::danger_without_token(registry.clone())).await;
    let order = r#"{"reason":"x","target":"everything"}"#;
    for request in ["POST /kill/x", "DELETE /kill/x", "POST /orders", "GET /orders"] {
        let (status, _) = raw_http(address, request, "Origin: https://example.com\r\n", order);
        assert_eq!(status, 403, "{request}");
    }
    assert!(registry.orders().await.unwrap().is_empty());
    let (status, _) = raw_http(address, "POST /kill/x", "", order);
    assert_eq!(status, 200);
    assert_eq!(registry.orders().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_answers_nobody_without_the_token() {
    let registry = memory();
    let (address, _server) = http_over(registry.clone()).await;
    let requests = [
        "GET /kill/x",
        "POST /kill/x",
        "DELETE /kill/x",
        "GET /orders",
        "POST /orders",
        "GET /nothing",
    ];
    for request in requests {
        for header in [
            "",
            "Authorization: Bearer open sesam\r\n",
            "Authorization: Bearer \r\n",
            "Authorization: Basic open sesame\r\n",
        ] {
            let (status, _) = raw_http(
                address,
                request,
                header,
                r#"{"reason":"x","target":"everything"}"#,
            );
            assert_eq!(status, 401, "{request} {header}");
        }
    }
    assert!(registry.orders().await.unwrap().is_empty());
    let url: StoreUrl = format!("http://{address}").parse().unwrap();
    let stranger = HttpKillRegistry::open(&url, Some("wrong"), ViewOptions::default()).unwrap();
    assert!(stranger.standing(&caller()).await.is_err());
    let shown = format!("{:?}", KillServer::new(memory(), TOKEN)) + &format!("{stranger:?}");
    assert!(!shown.contains("sesame") && !shown.contains("wrong"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_takes_raw_slashes_and_never_cuts_an_id() {
    let registry = memory();
    let (address, _server) = http_over(registry.clone()).await;
    let auth = "Authorization: Bearer open sesame\r\n";
    let body = r#"{"reason":"loops"}"#;
    let (status, _) = raw_http(address, "POST /kill/a/b/../c", auth, body);
    assert_eq!(status, 200);
    let killed = async |id: &str| {
        registry
            .standing(&Caller::session(SessionId::new(id).unwrap()))
            .await
            .unwrap()
            .is_some()
    };
    assert!(killed("a/b/../c").await);
    assert!(!killed("a/c").await);
    for (path, expected) in [
        ("a?b", 400),
        ("", 400),
        ("%00", 400),
        ("%ff", 400),
        ("%2", 400),
        ("a%2Fb%2F..%2Fc", 200),
    ] {
        let (status, said) = raw_http(address, &format!("GET /kill/{path}"), auth, "");
        assert_eq!(status, expected, "{path}: {said}");
    }
    let (status, said) = raw_http(address, "GET /kill/a/b/../c", auth, "");
    assert_eq!(
        (status, said.as_str()),
        (200, r#"{"killed":true,"reason":"loops"}"#)
    );
    let (status, said) = raw_http(address, "GET /kill/other", auth, "");
    assert_eq!(
        (status, said.as_str()),
        (200, r#"{"killed":false,"reason":null}"#)
    );
    let (status, _) = raw_http(address, &format!("GET /kill/{}", "x".repeat(10_000)), auth, "");
    assert_eq!(status, 400);
    let long = format!(r#"{{"reason":"{}"}}"#, "x".repeat(20_000));
    assert_eq!(raw_http(address, "POST /kill/y", auth, &long).0, 413);
    assert_eq!(raw_http(address, "DELETE /kill/a/b/../c", auth, "").0, 200);
    assert_eq!(raw_http(address, "DELETE /kill/a/b/../c", auth, "").0, 404);
    assert!(registry.orders().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_speaks_the_contract_only_is_enough_for_sessions() {
    let server = support::PlainServer::start().await;
    let registry = client(server.address);
    let caller = caller();
    assert_eq!(registry.standing(&caller).await.unwrap(), None);
    server.kill(caller.session_id.as_str(), "by hand");
    let seen = async {
        loop {
            if let Ok(Some(order)) = registry.standing(&caller).await {
                break order;
            }
            tokio::task::yield_now().await;
        }
    };
    let order = tokio::time::timeout(Duration::from_secs(10), seen).await.unwrap();
    assert_eq!(&*order.reason, "by hand");
    assert!(registry.clear(&order.target).await.unwrap());
    assert!(!registry.clear(&order.target).await.unwrap());
    let wide = registry
        .kill(KillOrder::new(Target::Everything, "stop", None))
        .await
        .unwrap_err();
    assert_eq!(wide.kind(), StoreErrorKind::Conflict);
    // Two ids that no client can send as a segment of a path.
    assert!(
        registry
            .standing(&Caller::session(SessionId::new("..").unwrap()))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_file_stops_this_process_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("STOP");
    let shared = memory();
    let registry = ProcessStop::new(shared.clone());
    let mut changes = registry.changes();
    let _watch = stop_on_file(&path, registry.brake());
    assert!(registry.standing(&caller()).await.unwrap().is_none());
    std::fs::write(&path, "fire\u{7}\nand more").unwrap();
    changes.changed().await.unwrap();
    let order = registry.ask(&caller()).await.unwrap().order.unwrap();
    assert_eq!((order.target, &*order.reason), (Target::Everything, "fire"));
    assert!(shared.orders().await.unwrap().is_empty());
}
