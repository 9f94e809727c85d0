//! What happens around a server: its copy takes over, its slot moves to another node, somebody empties it or makes it forget
//! its scripts, and it dies and stalls while the processes that ask it are killed.

use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU16};

use super::*;

/// An address that leads to one server and later to another, as a name does. What is connected stays where it is.
struct Address {
    port: u16,
    leads_to: Arc<AtomicU16>,
}

impl Address {
    fn of(server: &Server) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let leads_to = Arc::new(AtomicU16::new(server.port));
        let target = leads_to.clone();
        std::thread::spawn(move || {
            for asks in listener.incoming() {
                let asks = asks.unwrap();
                let Ok(answers) = TcpStream::connect(("127.0.0.1", target.load(Ordering::Acquire))) else {
                    continue;
                };
                pass_on(asks.try_clone().unwrap(), answers.try_clone().unwrap());
                pass_on(answers, asks);
            }
        });
        Self { port, leads_to }
    }

    fn lead_to(&self, server: &Server) {
        self.leads_to.store(server.port, Ordering::Release);
    }

    fn url(&self) -> StoreUrl {
        format!("redis://127.0.0.1:{}/0", self.port).parse().unwrap()
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        // Until one of both ends it.
        drop(std::io::copy(&mut from, &mut to));
        drop(to.shutdown(Shutdown::Both));
    });
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// Until `copy` has all that `server` has written.
async fn is_copied(server: &Server, copy: &Server) {
    let deadline = soon();
    let seq = async |server: &Server| -> Option<String> {
        server
            .ask(&["HGET", "llm_leash:{budget:default}:meta", "seq"])
            .await
    };
    while seq(server).await != seq(copy).await {
        assert!(Instant::now() < deadline, "it is not copied");
        tokio::task::yield_now().await;
    }
}

/// The refusal that stays: while servers change their parts, they may be out of reach.
async fn lasting_refusal(store: &RedisStore, scope: &Scope) -> StoreErrorKind {
    let deadline = soon();
    loop {
        let kind = refusal(store, scope).await;
        if kind != StoreErrorKind::Unavailable {
            return kind;
        }
        assert!(Instant::now() < deadline, "it stays out of reach");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_takes_over_goes_on_with_all_of_the_data_and_refuses_without_the_last_of_it() {
    for has_all in [true, false] {
        let first = Server::start(DURABLE);
        let port = first.port.to_string();
        let second = Server::start(&[DURABLE, &["--replicaof", "127.0.0.1", &port]].concat());
        let address = Address::of(&first);
        let store = RedisStore::init(&address.url(), patient()).await.unwrap();
        let scope = scope("copied", 10);
        assert!(granted(&store, &hold(4, &scope)).await);
        is_copied(&first, &second).await;
        if !has_all {
            let _: String = second.ask(&["REPLICAOF", "NO", "ONE"]).await;
        }
        let last = hold(3, &scope);
        assert!(granted(&store, &last).await);
        if has_all {
            is_copied(&first, &second).await;
            let _: String = second.ask(&["REPLICAOF", "NO", "ONE"]).await;
        }
        // The first goes on as a copy of the second, and its connections stay.
        let port = second.port.to_string();
        let _: String = first.ask(&["REPLICAOF", "127.0.0.1", &port]).await;
        address.lead_to(&second);
        if has_all {
            let more = hold(3, &scope);
            let (answer, _) = insist(|| store.reserve(&more)).await;
            assert!(matches!(answer, Reserve::Granted(_)));
            assert!(!granted(&store, &hold(1, &scope)).await);
            assert!(store.settle(&settlement(&last, 2)).await.unwrap().applied);
            assert_eq!(sums(&store, &scope).await, (2, 7));
        } else {
            assert_eq!(lasting_refusal(&store, &scope).await, StoreErrorKind::Generation);
            let opened = RedisStore::open(&second.url(), patient()).await;
            assert_eq!(opened.unwrap_err().kind(), StoreErrorKind::Generation);
        }
    }
}

#[tokio::test]
async fn a_server_that_was_told_to_forget_its_scripts_is_told_them_again() {
    let server = Server::start(QUICK);
    let store = RedisStore::init(&server.url(), patient()).await.unwrap();
    let forget = async || -> String { server.ask(&["SCRIPT", "FLUSH"]).await };
    let scope = scope("scripts", 100);
    let (first, second) = (hold(6, &scope), hold_for(5, std::slice::from_ref(&scope), LONG));
    forget().await;
    assert!(granted(&store, &first).await && granted(&store, &second).await);
    forget().await;
    store.renew(first.id, LONG * 2).await.unwrap();
    forget().await;
    assert!(store.settle(&settlement(&first, 4)).await.unwrap().applied);
    forget().await;
    store.release(second.id).await.unwrap();
    forget().await;
    assert!(store.expire(10).await.unwrap().is_empty());
    forget().await;
    let hit = Hit {
        key: scope.key.clone(),
        limit: 1,
        within: Some(LONG),
    };
    assert!(store.hit(&hit).await.unwrap().is_allowed);
    forget().await;
    assert_eq!(store.list(None, 10).await.unwrap().len(), 1);
    forget().await;
    assert!(store.standing(None, 10).await.unwrap().is_empty());
    forget().await;
    assert_eq!(store.close(&scope.key).await.unwrap().spent, usd(4));
    forget().await;
    assert_eq!(store.reset(&scope.key).await.unwrap().spent, usd(4));
    forget().await;
    store.restore(&[]).await.unwrap();
    forget().await;
    assert_eq!(sums(&store, &scope).await, (0, 0));
}

#[tokio::test]
async fn a_server_that_was_emptied_refuses_everything_and_a_budget_begun_in_it_is_another_one() {
    let server = Server::start(QUICK);
    let store = RedisStore::init(&server.url(), patient()).await.unwrap();
    let scope = scope("emptied", 10);
    let before = hold(10, &scope);
    assert!(granted(&store, &before).await);
    let generation = store.generation().await.unwrap();
    let _: String = server.ask(&["FLUSHALL"]).await;
    for is_begun in [false, true] {
        if is_begun {
            RedisStore::init(&server.url(), patient()).await.unwrap();
        }
        let hit = Hit {
            key: scope.key.clone(),
            limit: 1,
            within: None,
        };
        let answers = [
            store.reserve(&hold(1, &scope)).await.map(drop),
            store.reserve(&before).await.map(drop),
            store.settle(&settlement(&before, 1)).await.map(drop),
            store.release(before.id).await,
            store.renew(before.id, LONG).await,
            store.expire(10).await.map(drop),
            store.balances(std::slice::from_ref(&scope)).await.map(drop),
            store.close(&scope.key).await.map(drop),
            store.hit(&hit).await.map(drop),
            store.generation().await.map(drop),
            store.list(None, 10).await.map(drop),
            store.standing(None, 10).await.map(drop),
            store.reset(&scope.key).await.map(drop),
        ];
        for (turn, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.unwrap_err().kind(), StoreErrorKind::Generation, "{turn}");
        }
        let mut expecting = patient();
        expecting.generation = Some(generation.clone());
        // Nobody gives a new budget the name of the old one, so that it would be taken for it.
        for opened in [
            RedisStore::open(&server.url(), expecting.clone()).await,
            RedisStore::init(&server.url(), expecting).await,
        ] {
            assert_eq!(opened.unwrap_err().kind(), StoreErrorKind::Generation);
        }
    }
}

/// It is the name of a life that tells, not how much was written in it.
#[tokio::test]
async fn a_new_life_is_noticed_also_by_who_has_seen_little_of_the_former() {
    let server = Server::start(QUICK);
    let idle = RedisStore::init(&server.url(), patient()).await.unwrap();
    let other = RedisStore::open(&server.url(), patient()).await.unwrap();
    let scope = scope("lives", 100);
    other.restore(&[]).await.unwrap();
    for _ in 0..20 {
        assert!(granted(&other, &hold(1, &scope)).await);
    }
    assert_eq!(refusal(&idle, &scope).await, StoreErrorKind::Generation);
    let read = idle.balances(std::slice::from_ref(&scope)).await.unwrap_err();
    assert_eq!(read.kind(), StoreErrorKind::Generation);
    assert_eq!(sums(&other, &scope).await, (0, 20));
}

#[cfg(feature = "redis-cluster")]
#[tokio::test]
async fn while_its_slot_moves_to_another_node_a_budget_refuses_and_then_goes_on() {
    let nodes: Vec<Server> = (0..2)
        .map(|_| {
            let bus = free_port().to_string();
            Server::start(&["--cluster-enabled", "yes", "--cluster-port", &bus, "--save", ""])
        })
        .collect();
    let (from, to) = (&nodes[0], &nodes[1]);
    // Both have slots, so both are told the scripts.
    let _: String = from.ask(&["CLUSTER", "ADDSLOTSRANGE", "1", "16383"]).await;
    let _: String = to.ask(&["CLUSTER", "ADDSLOTS", "0"]).await;
    let bus: Vec<String> = to.ask(&["CONFIG", "GET", "cluster-port"]).await;
    let _: String = from
        .ask(&["CLUSTER", "MEET", "127.0.0.1", &to.port.to_string(), &bus[1]])
        .await;
    let deadline = soon();
    for node in &nodes {
        loop {
            let info: String = node.ask(&["CLUSTER", "INFO"]).await;
            if info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:2") {
                break;
            }
            assert!(Instant::now() < deadline, "{info}");
        }
    }
    let url: StoreUrl = format!("redis-cluster://127.0.0.1:{},127.0.0.1:{}", from.port, to.port)
        .parse()
        .unwrap();
    let store = RedisStore::init(&url, patient()).await.unwrap();
    let scope = scope("moving", 10);
    let first = hold(6, &scope);
    assert!(granted(&store, &first).await);

    let meta = "llm_leash:{budget:default}:meta";
    let slot: u16 = from.ask(&["CLUSTER", "KEYSLOT", meta]).await;
    let slot = slot.to_string();
    let id = async |node: &Server| -> String { node.ask(&["CLUSTER", "MYID"]).await };
    let ids = [id(from).await, id(to).await];
    let _: String = to.ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]]).await;
    let _: String = from
        .ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]])
        .await;
    // The key by which the budget is known goes first, and the sums are still where they were.
    let mut keys: Vec<String> = from.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).await;
    keys.sort_unstable_by_key(|key| key != meta);
    assert!(keys.len() > 3 && keys[0] == meta, "{keys:?}");
    let hurried = options(Duration::from_secs(3));
    for key in keys {
        let port = to.port.to_string();
        let _: String = from
            .ask(&["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"])
            .await;
        let answer = store.reserve(&hold(5, &scope)).await;
        assert!(answer.is_err(), "{answer:?} after `{key}` has moved");
        let opened = RedisStore::open(&url, hurried.clone()).await;
        assert!(opened.is_err(), "opened after `{key}` has moved");
    }
    for node in [to, from] {
        let _: String = node.ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &ids[1]]).await;
    }
    assert_eq!(sums(&store, &scope).await, (0, 6));
    assert!(!granted(&store, &hold(5, &scope)).await);
    assert!(granted(&store, &hold(4, &scope)).await);
    assert!(store.settle(&settlement(&first, 1)).await.unwrap().applied);
    assert_eq!(sums(&store, &scope).await, (1, 4));
}

/// As over a server that stays: processes die at any moment, and the server dies and stalls under them.
#[test]
fn killed_processes_over_a_server_that_dies_and_stalls_leave_nothing_held_and_every_cent_counted() {
    let mut server = Server::start(DURABLE);
    let url = server.url();
    let text = url.with_secrets().to_owned();
    let trouble = move |is_over: &AtomicBool, looks: &AtomicU64| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let impatient = runtime.block_on(async {
            RedisStore::open(&url, options(Duration::from_millis(150)))
                .await
                .unwrap()
        });
        let mut rounds = 0_u64;
        while !is_over.load(Ordering::Acquire) {
            let seen = looks.load(Ordering::Acquire);
            while looks.load(Ordering::Acquire) < seen + 40 && !is_over.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            rounds += 1;
            if rounds.is_multiple_of(2) {
                server.restart();
            } else {
                server.signal("STOP");
                // As long as somebody has patience.
                let stalled = runtime.block_on(impatient.balances(&[]));
                assert!(stalled.is_err());
                server.signal("CONT");
            }
        }
        assert!(rounds >= 4, "{rounds}");
        server
    };
    crate::processes::killed_processes_in_trouble(&text, trouble);
}
