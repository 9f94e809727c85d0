//! `llm-leash budget`: what it writes, what it leaves in the store, and how it ends; over a file and a real server.
#![expect(clippy::arithmetic_side_effects, reason = "small numbers")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use leash_budget::{
    BudgetAdmin, Held, Hold, HoldLine, ModelPrice, OpenOptions, Price, PriceTable, Scope, ScopeKey, StoreUrl,
    Window,
};
use leash_core::{Caller, Clock as _, Digest, IdGenerator, ModelCall, SessionId, SystemClock, Usage, Usd};
use leash_firewall::{Answer, Firewall, FirewallBuilder, Over};
use serde_json::{Value, json};

use crate::{Ran, binary, finish};

/// Where a budget is kept in a test.
struct Place {
    folder: tempfile::TempDir,
    server: Option<Server>,
}

/// A `redis-server` of its own, ended with the test.
struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A port below those that the system gives to whoever connects: a client that asks for a server which is not there yet
/// could otherwise be given that port itself, and would be connected with itself.
fn free_port() -> u16 {
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id());
    let first = 12_000 + u16::try_from(random % 15_000).unwrap();
    (first..30_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}

fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    let mut answer = [0; 7];
    stream.write_all(b"PING\r\n").is_ok() && stream.read_exact(&mut answer).is_ok() && &answer == b"+PONG\r\n"
}

impl Place {
    fn file() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            server: None,
        }
    }

    fn server() -> Self {
        let mut place = Self::file();
        place.server = Some(place.start());
        place
    }

    fn start(&self) -> Server {
        let port = free_port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "no", "--dir"])
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("`redis-server` has to be installed for these tests");
        let mut server = Server { child, port };
        let deadline = Instant::now().checked_add(Duration::from_secs(20)).unwrap();
        while !answers(port) {
            assert!(Instant::now() < deadline, "redis-server does not answer");
            assert!(server.child.try_wait().unwrap().is_none(), "redis-server ended");
            std::thread::yield_now();
        }
        server
    }

    fn url(&self) -> String {
        match &self.server {
            Some(server) => format!("redis://127.0.0.1:{}/0", server.port),
            None => format!("sqlite:{}", self.folder.path().join("budget.db").display()),
        }
    }

    /// Loses everything, as a disk or a server without persistence does.
    fn lose(&mut self) {
        if self.server.take().is_some() {
            self.server = Some(self.start());
            return;
        }
        for name in ["budget.db", "budget.db-wal", "budget.db-shm"] {
            let path = self.folder.path().join(name);
            if path.exists() {
                std::fs::remove_file(path).unwrap();
            }
        }
    }

    async fn open(&self) -> Arc<dyn BudgetAdmin> {
        let url: StoreUrl = self.url().parse().unwrap();
        let options = OpenOptions::default().timeout(Duration::from_secs(30));
        leash_budget::open(&url, &options).await.unwrap()
    }

    fn log(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }
}

fn both() -> [Place; 2] {
    [Place::file(), Place::server()]
}

fn run(args: &[&str]) -> Ran {
    let mut command = binary();
    command.env_remove("LLM_LEASH_OPERATOR");
    finish(command.arg("budget").args(args).spawn().unwrap())
}

fn done(args: &[&str]) -> Ran {
    let ran = run(args);
    assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
    ran
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The sums that `list` writes: scope, window, spent, reserved.
fn sums(url: &str) -> Vec<[String; 4]> {
    let members = ["scope", "window", "spent_usd", "reserved_usd"];
    let row = |line: &Value| members.map(|member| line[member].as_str().unwrap().to_owned());
    lines(&done(&["list", url, "--json"])).iter().map(row).collect()
}

fn spent(url: &str, scope: &str, window: &str) -> String {
    let ran = done(&["show", url, scope, "--window", window, "--json"]);
    lines(&ran)[0]["spent_usd"].as_str().unwrap().to_owned()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

fn hold(session: &str, amount: &str, scopes: &[Scope]) -> Hold {
    Hold {
        id: IdGenerator::from_os().reservation(SystemClock.now()),
        amount: usd(amount),
        scopes: scopes.into(),
        lease: Duration::from_hours(1),
        line: HoldLine {
            what: Held::Model {
                provider: "acme".into(),
                model: "cent".into(),
            },
            caller: Caller::session(SessionId::new(session).unwrap()),
            request_digest: Digest::EMPTY,
        },
    }
}

/// A firewall of `session` whose model costs a cent for each token of output, and nothing else.
fn firewall(session: &str, log: &str) -> FirewallBuilder {
    let price = ModelPrice::flat(Price::FREE, Price::per_million(usd("10000")));
    Firewall::builder()
        .session_id(session.parse().unwrap())
        .prices(PriceTable::embedded().with_price("acme", "cent", price))
        .audit_log(log)
}

fn call(fw: &Firewall, cents: u64) -> ModelCall {
    ModelCall::new("acme", "cent", json!([]), cents, fw.caller().clone())
}

/// A call that may cost a cent more than it does.
async fn spend(fw: &Firewall, cents: u64) {
    let usage = Usage {
        output_tokens: cents,
        ..Usage::default()
    };
    let admission = fw.admit(call(fw, cents + 1)).await.unwrap();
    admission.settle(Answer::reported(usage, Digest::EMPTY)).await;
}

#[test]
fn a_budget_is_begun_once_and_its_generation_told() {
    for place in both() {
        let url = place.url();
        let missing = run(&["list", &url]);
        assert_eq!((missing.code, missing.text()), (1, ""));
        assert!(missing.stderr.contains("budget init"), "{}", missing.stderr);
        let begun = lines(&done(&["init", &url, "--json"]));
        let generation = begun[0]["generation"].as_str().unwrap();
        let known = runtime().block_on(async { place.open().await.generation().await.unwrap() });
        assert_eq!(known.as_str(), generation);
        let again = run(&["init", &url]);
        assert_eq!((again.code, again.text()), (1, ""));
        assert!(sums(&url).is_empty());
    }
}

#[test]
fn what_is_spent_and_set_aside_is_shown_and_listed() {
    for place in both() {
        let url = place.url();
        done(&["init", &url]);
        let session = SessionId::new("s_1").unwrap();
        let scopes = [
            Scope::session(&session, usd("5")),
            Scope::global(usd("9")).per(Window::Month),
        ];
        let id = runtime().block_on(async {
            let store = place.open().await;
            let first = hold("s_1", "0.70", &scopes);
            store.reserve(&first).await.unwrap();
            let settlement = leash_budget::Settlement {
                id: first.id,
                amount: usd("0.25"),
                scopes: first.scopes.clone(),
                owes_line: false,
            };
            store.settle(&settlement).await.unwrap();
            let second = hold("s_1", "0.40", &scopes);
            store.reserve(&second).await.unwrap();
            second.id
        });
        let rows = sums(&url);
        let row = |scope: &str, window: &str| [scope, window, "0.25", "0.40"].map(str::to_owned);
        assert_eq!(rows, [row("global", "month"), row("session:s_1", "total")]);
        let shown = done(&["show", &url, "session:s_1"]);
        assert_eq!(shown.text(), "session:s_1\ttotal\tspent 0.25\treserved 0.40\n");
        // Asked for by name, also what is not counted.
        let shown = lines(&done(&["show", &url, "global", "--window", "day", "--json"]));
        assert_eq!(
            shown,
            [json!({ "scope": "global", "window": "day", "spent_usd": "0.00", "reserved_usd": "0.00" })]
        );
        let standing = done(&["reservations", &url, "--json"]);
        assert_eq!(standing.stderr, "# 1 standing, 0.40 USD\n");
        let standing = lines(&standing);
        assert_eq!(standing[0]["id"], id.to_string());
        assert_eq!(
            (&standing[0]["what"], &standing[0]["session_id"]),
            (&json!("acme/cent"), &json!("s_1"))
        );
        assert!(standing[0]["until"].as_str().unwrap().ends_with('Z'));
        assert_eq!(standing[0]["scopes"][1]["window"], "month");
    }
}

#[test]
fn a_list_of_many_pages_has_each_scope_once() {
    for place in both() {
        let url = place.url();
        done(&["init", &url]);
        let names: Vec<String> = (0..450).map(|number| format!("s_{number:03}")).collect();
        runtime().block_on(async {
            let store = place.open().await;
            for name in &names {
                let scope = Scope::session(&SessionId::new(name.as_str()).unwrap(), usd("1"));
                store.reserve(&hold(name, "0.01", &[scope])).await.unwrap();
            }
        });
        let listed: Vec<String> = sums(&url).into_iter().map(|[scope, ..]| scope).collect();
        let expected: Vec<String> = names.iter().map(|name| format!("session:{name}")).collect();
        assert_eq!(listed, expected);
        assert_eq!(lines(&done(&["reservations", &url, "--json"])).len(), 450);
    }
}

#[test]
fn a_reset_wants_a_yes_and_leaves_what_is_set_aside() {
    for place in both() {
        let url = place.url();
        done(&["init", &url]);
        let scope = Scope::capped(ScopeKey::named("team", "search"), usd("1"));
        runtime().block_on(async {
            let store = place.open().await;
            let first = hold("s_1", "0.60", std::slice::from_ref(&scope));
            store.reserve(&first).await.unwrap();
            let settlement = leash_budget::Settlement {
                id: first.id,
                amount: usd("0.60"),
                scopes: first.scopes.clone(),
                owes_line: false,
            };
            store.settle(&settlement).await.unwrap();
            store
                .reserve(&hold("s_1", "0.30", std::slice::from_ref(&scope)))
                .await
                .unwrap();
        });
        let asked = run(&["reset", &url, "team:search"]);
        assert_eq!((asked.code, asked.text()), (64, ""));
        assert!(asked.stderr.contains("--yes"), "{}", asked.stderr);
        assert_eq!(spent(&url, "team:search", "total"), "0.60");

        let log = place.log("operators.jsonl");
        let reset = done(&[
            "reset",
            &url,
            "team:search",
            "--yes",
            "--reason",
            "new month",
            "--operator",
            "ada",
            "--audit-log",
            &log,
        ]);
        assert_eq!(reset.text(), "reset team:search: 0.60 USD\n");
        let after = lines(&done(&["show", &url, "team:search", "--json"]));
        assert_eq!(
            (&after[0]["spent_usd"], &after[0]["reserved_usd"]),
            (&json!("0.00"), &json!("0.30"))
        );
        assert_eq!(crate::run(&["verify", &log]).code, 0);
        let text = std::fs::read_to_string(&log).unwrap();
        let kept: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(
            kept.iter()
                .map(|line| line["what"].as_str().unwrap())
                .collect::<Vec<_>>(),
            ["budget reset asked", "budget reset"]
        );
        assert_eq!(kept[1]["kind"], "budget_change");
        assert_eq!(
            (&kept[1]["operator"], &kept[1]["reason"], &kept[1]["spent_usd"]),
            (&json!("ada"), &json!("new month"), &json!("0.60"))
        );
    }
}

#[test]
fn nothing_is_reset_that_could_not_be_recorded_or_is_a_grant() {
    let place = Place::file();
    let url = place.url();
    done(&["init", &url]);
    runtime().block_on(async {
        let store = place.open().await;
        let scope = Scope::capped(ScopeKey::named("team", "a"), usd("1"));
        let hold = hold("s_1", "0.5", &[scope]);
        store.reserve(&hold).await.unwrap();
        let settlement = leash_budget::Settlement {
            id: hold.id,
            amount: hold.amount,
            scopes: hold.scopes.clone(),
            owes_line: false,
        };
        store.settle(&settlement).await.unwrap();
    });
    let folder = place.folder.path().to_str().unwrap();
    let unrecorded = run(&["reset", &url, "team:a", "--yes", "--audit-log", folder]);
    assert_eq!((unrecorded.code, unrecorded.text()), (1, ""));
    assert_eq!(spent(&url, "team:a", "total"), "0.50");
    let grant = format!("grant:{}", IdGenerator::from_os().reservation(SystemClock.now()));
    assert_eq!(run(&["reset", &url, &grant, "--yes"]).code, 1);
}

#[test]
fn an_address_is_checked_and_its_password_not_shown() {
    for (store, code, told) in [
        ("postgres://h", 1, "redis://"),
        ("http://h", 1, "no such store"),
        ("redis://:hunter2@127.0.0.1:1/0", 1, "is it running"),
        ("env:LEASH_TEST_NOT_SET", 1, "is not set"),
        ("sqlite:/no/such/folder/budget.db", 1, "budget init"),
    ] {
        let ran = run(&["list", store]);
        assert_eq!(ran.code, code, "{store}: {}", ran.stderr);
        assert!(ran.stderr.contains(told), "{store}: {}", ran.stderr);
        assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
    }
    for args in [
        &["show", "sqlite:x", "nonsense"][..],
        &["show", "sqlite:x", "global", "--window", "week"],
        &["restore", "sqlite:x"],
        &["restore", "sqlite:x", "--accept-loss", "--from-logs", "a"],
    ] {
        assert_eq!(run(args).code, 64, "{args:?}");
    }
    let place = Place::file();
    done(&["init", &place.url()]);
    let mut command = binary();
    command.args(["budget", "list", "env:LEASH_TEST_STORE"]);
    let ran = finish(command.env("LEASH_TEST_STORE", place.url()).spawn().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[test]
fn sums_that_were_lost_come_back_from_the_logs() {
    for mut place in both() {
        let url = place.url();
        done(&["init", &url]);
        let logs = ["one.jsonl", "two.jsonl"].map(|name| place.log(name));
        runtime().block_on(async {
            let capped = |builder: FirewallBuilder, store: Arc<dyn BudgetAdmin>| {
                builder
                    .tenant_id("acme".parse().unwrap())
                    .agent_name("researcher".parse().unwrap())
                    .budget_usd(5.00)
                    .cap(Over::Tenant, Window::Month, usd("50"))
                    .cap(Over::Agent, Window::Total, usd("50"))
                    .cap(Over::Everything, Window::Total, usd("90"))
                    .tool_price("search", usd("0.02"))
                    .max_tool_budget("search", usd("1"))
                    .budget_store(store)
                    .build()
                    .unwrap()
            };
            let one = capped(firewall("s_1", &logs[0]), place.open().await);
            let two = capped(firewall("s_2", &logs[1]), place.open().await);
            for cents in [10, 7, 30] {
                spend(&one, cents).await;
                spend(&two, cents + 1).await;
            }
            let found = one.tool("search", json!({ "q": 1 }), async |_| {
                Ok::<_, std::io::Error>(json!(1))
            });
            found.await.unwrap();
            drop(two.admit(call(&two, 20)).await.unwrap());
            let child = one.child("s_child".parse().unwrap(), usd("1")).await.unwrap();
            spend(&child, 40).await;
            child.give_back().await.unwrap();
            one.close().await.unwrap();
            two.close().await.unwrap();
        });
        let before: Vec<_> = sums(&url)
            .into_iter()
            .filter(|[scope, ..]| !scope.starts_with("grant:"))
            .collect();
        assert_eq!(before.len(), 6, "{before:?}");
        assert!(before.contains(&["tool:3:s_1/search", "total", "0.02", "0.00"].map(str::to_owned)));
        assert!(before.contains(&["session:s_1", "total", "0.89", "0.00"].map(str::to_owned)));
        assert!(before.contains(&["global", "total", "1.59", "0.00"].map(str::to_owned)));

        place.lose();
        let url = place.url();
        assert_eq!(run(&["list", &url]).code, 1, "an empty store is not found");
        let args = ["restore", &url, "--from-logs", &logs[1], &logs[0]];
        assert_eq!(run(&args).code, 64, "nobody was asked");
        assert_eq!(run(&["list", &url]).code, 1);
        let restored = done(&[&args[..], &["--yes", "--json"]].concat());
        let told = &lines(&restored)[0];
        assert_eq!(
            (&told["spent_usd"], &told["calls_without_end"]),
            (&json!("1.59"), &json!(0))
        );
        let after = sums(&url);
        for row in &before {
            assert!(after.contains(row), "{row:?} is not in {after:?}");
        }
    }
}

#[test]
fn what_has_no_end_in_the_logs_is_counted_in_full() {
    let place = Place::file();
    let log = place.log("audit.jsonl");
    let url = place.url();
    let grant = runtime().block_on(async {
        // In memory nothing outlives the process, so the log says what was let through.
        let team = Scope::capped(ScopeKey::named("team", "search"), usd("90"));
        let fw = firewall("s_1", &log)
            .budget_usd(9.00)
            .scope(team)
            .build()
            .unwrap();
        spend(&fw, 10).await;
        spend(&fw, 10).await;
        std::mem::forget(fw.admit(call(&fw, 30)).await.unwrap());
        let grant = fw.give(usd("2")).await.unwrap();
        let child = fw.take_up("s_child".parse().unwrap(), grant.clone());
        spend(&child, 5).await;
        fw.flush().await.unwrap();
        grant
    });
    let restored = done(&["restore", &url, "--from-logs", &log, "--yes", "--json"]);
    let told = &lines(&restored)[0];
    assert_eq!(
        [
            &told["calls_without_end"],
            &told["calls_without_end_usd"],
            &told["grants_not_given_back"]
        ],
        [&json!(1), &json!("0.30"), &json!(1)]
    );
    // Two calls, the bound of the one that never ended, and the grant.
    assert_eq!(spent(&url, "session:s_1", "total"), "2.50");
    assert_eq!(spent(&url, "session:s_1", "hour"), "2.50");
    // Its calls and those of its child.
    assert_eq!(spent(&url, "team:search", "total"), "0.55");
    assert_eq!(spent(&url, grant.key().as_str(), "total"), "2.00");
    runtime().block_on(async {
        let store = place.open().await;
        let more = hold("s_child", "0.01", &[grant.scope()]);
        let answer = store.reserve(&more).await.unwrap();
        assert!(matches!(answer, leash_budget::Reserve::Refused(_)), "{answer:?}");
        // Its giver was charged already.
        grant.give_back(&*store, false).await.unwrap();
    });
    assert_eq!(spent(&url, "session:s_1", "total"), "2.50");
}

#[test]
fn a_broken_log_restores_nothing_unless_that_is_accepted() {
    let place = Place::file();
    let log = place.log("audit.jsonl");
    let url = place.url();
    runtime().block_on(async {
        let fw = firewall("s_1", &log).budget_usd(9.00).build().unwrap();
        for _ in 0..3 {
            spend(&fw, 10).await;
        }
        fw.close().await.unwrap();
    });
    let text = std::fs::read_to_string(&log).unwrap();
    // Somebody takes the second call out.
    let mut calls = 0;
    let kept: Vec<&str> = text
        .lines()
        .filter(|line| {
            calls += i32::from(line.contains("\"model_call\""));
            calls != 2 || !line.contains("\"model_call\"")
        })
        .collect();
    std::fs::write(&log, kept.join("\n") + "\n").unwrap();
    let args = ["restore", &url, "--from-logs", &log, "--yes"];
    let refused = run(&args);
    assert_eq!((refused.code, refused.text()), (2, ""));
    assert!(refused.stderr.starts_with("BROKEN: line"), "{}", refused.stderr);
    assert!(!Path::new(&place.log("budget.db")).exists());
    done(&[&args[..], &["--accept-broken"]].concat());
    // The call that lost its end is counted at its bound.
    assert_eq!(spent(&url, "session:s_1", "total"), "0.31");
}

#[test]
fn a_recorded_reset_holds_when_sums_are_rebuilt() {
    let mut place = Place::file();
    let (log, operators) = (place.log("audit.jsonl"), place.log("operators.jsonl"));
    let url = place.url();
    done(&["init", &url]);
    let spend_some = |place: &Place, cents: u64| {
        runtime().block_on(async {
            let fw = firewall("s_1", &log)
                .budget_usd(9.00)
                .budget_store(place.open().await);
            let fw = fw.build().unwrap();
            spend(&fw, cents).await;
            fw.close().await.unwrap();
        });
    };
    spend_some(&place, 10);
    done(&["reset", &url, "session:s_1", "--yes", "--audit-log", &operators]);
    spend_some(&place, 3);
    place.lose();
    let restored = done(&[
        "restore",
        &url,
        "--yes",
        "--audit-log",
        &operators,
        "--from-logs",
        &log,
        &operators,
    ]);
    assert!(
        restored.stderr.contains("1 scopes were reset"),
        "{}",
        restored.stderr
    );
    assert_eq!(spent(&url, "session:s_1", "total"), "0.03");
    assert_eq!(spent(&url, "global", "total"), "0.13");
    assert_eq!(crate::run(&["verify", &operators]).code, 0);
    let twice = run(&["restore", &url, "--yes", "--from-logs", &log, &log]);
    assert_eq!(twice.code, 1);
}

#[test]
fn a_copy_of_a_log_is_not_counted_beside_it() {
    let place = Place::file();
    let (url, log, copy) = (place.url(), place.log("audit.jsonl"), place.log("saved.jsonl"));
    let spend_some = |session: &str, log: &str| {
        runtime().block_on(async {
            let fw = firewall(session, log).build().unwrap();
            spend(&fw, 10).await;
            fw.close().await.unwrap();
        });
    };
    spend_some("s_1", &log);
    std::fs::copy(&log, &copy).unwrap();
    let other = place.log("other.jsonl");
    spend_some("s_1", &other);
    for copied in [false, true] {
        // A copy of an earlier state is one, too.
        if copied {
            spend_some("s_1", &log);
        }
        let refused = run(&["restore", &url, "--yes", "--from-logs", &log, &other, &copy]);
        assert_eq!((refused.code, refused.text()), (1, ""));
        assert!(refused.stderr.contains("copy"), "{}", refused.stderr);
    }
    assert_eq!(run(&["list", &url]).code, 1, "nothing was restored");
    done(&["restore", &url, "--yes", "--from-logs", &log, &other]);
    assert_eq!(spent(&url, "session:s_1", "total"), "0.30");
}

/// What was spent while a reset was under way may have been spent after it.
#[test]
fn a_recorded_reset_holds_from_when_it_was_asked_for() {
    let place = Place::file();
    let (url, log, operators) = (
        place.url(),
        place.log("audit.jsonl"),
        place.log("operators.jsonl"),
    );
    let calls = leash_audit::AuditLog::builder(&log).open().unwrap();
    let changes = leash_audit::AuditLog::builder(&operators).open().unwrap();
    let members = leash_core::Json::parse(r#"{"scope":"session:s_1"}"#.to_owned()).unwrap();
    let change = |what: &str| {
        let note = leash_audit::Note {
            what,
            reason: "a test",
            operator: None,
            members: Some(&members),
        };
        let event =
            leash_audit::Event::new(leash_audit::Who::EVERYBODY, leash_audit::Kind::BudgetChange(note));
        changes.append(&event).unwrap().wait().unwrap();
    };
    append(&calls, &logged(50));
    change("budget reset asked");
    append(&calls, &logged(3));
    change("budget reset");
    append(&calls, &logged(4));
    // Asked for, and it came to nothing.
    change("budget reset asked");
    append(&calls, &logged(5));
    calls.close().unwrap();
    changes.close().unwrap();
    done(&["restore", &url, "--yes", "--from-logs", &log, &operators]);
    assert_eq!(spent(&url, "session:s_1", "total"), "0.12");
    assert_eq!(spent(&url, "global", "total"), "0.62");
}

#[test]
fn a_loss_is_accepted_by_name_where_something_is_left() {
    let mut place = Place::server();
    let url = place.url();
    done(&["init", &url]);
    let before = runtime().block_on(async { place.open().await.generation().await.unwrap() });
    assert_eq!(run(&["restore", &url, "--accept-loss"]).code, 64);
    let accepted = lines(&done(&["restore", &url, "--accept-loss", "--yes", "--json"]));
    assert_ne!(accepted[0]["generation"], before.as_str());
    done(&["list", &url]);
    place.lose();
    assert_eq!(run(&["restore", &place.url(), "--accept-loss", "--yes"]).code, 1);
    let file = Place::file();
    done(&["init", &file.url()]);
    assert_eq!(run(&["restore", &file.url(), "--accept-loss", "--yes"]).code, 1);
}

/// Runs the binary on a terminal of its own (`script` makes one), where somebody types `answer`.
fn on_a_terminal(args: &[&str], answer: &str) -> (i32, String) {
    let quoted: Vec<String> = std::iter::once(env!("CARGO_BIN_EXE_llm-leash"))
        .chain(args.iter().copied())
        .map(|arg| format!("'{arg}'"))
        .collect();
    let mut terminal = Command::new("script")
        .args(["--quiet", "--return", "--echo", "never", "--command"])
        .arg(quoted.join(" "))
        .arg("/dev/null")
        .env("TERM", "dumb")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`script` (util-linux) has to be installed for this test");
    let mut keys = terminal.stdin.take().unwrap();
    let mut shown = terminal.stdout.take().unwrap();
    let mut text = Vec::new();
    let mut byte = [0; 1];
    // Whoever types before the question is there types it away.
    while !String::from_utf8_lossy(&text).contains("to go on: ") {
        assert_eq!(
            shown.read(&mut byte).unwrap(),
            1,
            "{}",
            String::from_utf8_lossy(&text)
        );
        text.extend_from_slice(&byte);
    }
    keys.write_all(answer.as_bytes()).unwrap();
    keys.flush().unwrap();
    shown.read_to_end(&mut text).unwrap();
    let code = terminal.wait().unwrap().code().unwrap();
    (code, String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn on_a_terminal_a_person_is_asked_and_nothing_but_yes_goes_on() {
    let place = Place::file();
    let url = place.url();
    done(&["init", &url]);
    let team = Scope::capped(ScopeKey::named("team", "search"), usd("1"));
    runtime().block_on(async {
        let store = place.open().await;
        let charge = leash_budget::Settlement {
            id: IdGenerator::from_os().reservation(SystemClock.now()),
            amount: usd("0.60"),
            scopes: Arc::from([team]),
            owes_line: false,
        };
        store.settle(&charge).await.unwrap();
    });
    let reset = ["budget", "reset", &url, "team:search"];
    for answer in ["no\n", "y\n", "\n", "YES\n"] {
        let (code, text) = on_a_terminal(&reset, answer);
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("forgets what `team:search` has spent"), "{text}");
        assert!(text.contains("nothing was changed"), "{text}");
        assert_eq!(spent(&url, "team:search", "total"), "0.60");
    }
    let (code, text) = on_a_terminal(&reset, "yes\n");
    assert_eq!(code, 0, "{text}");
    assert_eq!(spent(&url, "team:search", "total"), "0.00");
}

/// Everything that the commands do, over one address.
fn is_kept_over(url: &str, more: &[(&str, &str)]) {
    let run = |args: &[&str]| {
        let mut command = binary();
        command.arg("budget").args(args).envs(more.iter().copied());
        finish(command.spawn().unwrap())
    };
    let done = |args: &[&str]| {
        let ran = run(args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
        assert!(!format!("{ran:?}").contains("hunter2"));
        ran
    };
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit.jsonl");
    let log = log.to_str().unwrap();
    done(&["init", url]);
    assert_eq!(run(&["init", url]).code, 1, "it is there");
    runtime().block_on(async {
        let fw = firewall("s_1", log).budget_usd(5.00).build().unwrap();
        spend(&fw, 25).await;
        fw.close().await.unwrap();
    });
    done(&["restore", url, "--from-logs", log, "--yes"]);
    let shown = done(&["show", url, "session:s_1", "--json"]);
    assert_eq!(lines(&shown)[0]["spent_usd"], "0.25");
    assert!(
        done(&["list", url])
            .text()
            .contains("session:s_1\ttotal\tspent 0.25")
    );
    assert!(done(&["reservations", url]).stderr.contains("# 0 standing"));
    done(&["reset", url, "session:s_1", "--yes"]);
    let shown = done(&["show", url, "session:s_1", "--json"]);
    assert_eq!(lines(&shown)[0]["spent_usd"], "0.00");
}

#[test]
fn a_budget_is_kept_for_a_user_with_the_documented_rights() {
    let place = Place::server();
    let port = place.server.as_ref().unwrap().port;
    let made = Command::new("redis-cli")
        .args([
            "-p",
            &port.to_string(),
            "ACL",
            "SETUSER",
            "leash",
            "on",
            ">hunter2",
        ])
        .args([
            "~llm_leash:{budget:default}:*",
            "+@read",
            "+@write",
            "+@scripting",
        ])
        .args(["+@connection", "+time", "+config|get", "+info"])
        .stdout(Stdio::null())
        .status()
        .expect("`redis-cli` has to be installed for this test");
    assert!(made.success());
    is_kept_over(&format!("redis://leash:hunter2@127.0.0.1:{port}/0"), &[]);
    let url = format!("redis://leash:hunter3@127.0.0.1:{port}/0");
    let wrong = run(&["list", &url]);
    assert_eq!(wrong.code, 1);
    assert!(!wrong.stderr.contains("hunter"), "{}", wrong.stderr);
    // The keys of another domain are not that user's.
    let url = format!("redis://leash:hunter2@127.0.0.1:{port}/0?domain=acme");
    assert_eq!(run(&["init", &url]).code, 1);
}

#[test]
fn a_budget_is_kept_over_tls_where_the_certificate_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let openssl = |args: &[&str]| {
        let done = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
            ])
            .args(["-nodes", "-days", "2"])
            .args(args)
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("`openssl` has to be installed for this test");
        assert!(done.success());
    };
    openssl(&[
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-subj",
        "/CN=test authority",
    ]);
    openssl(&[
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-keyout",
        "server.key",
        "-out",
        "server.pem",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ]);
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let port = free_port();
    let child = Command::new("redis-server")
        .args([
            "--port",
            "0",
            "--tls-port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
        ])
        .args([
            "--tls-cert-file",
            &path("server.pem"),
            "--tls-key-file",
            &path("server.key"),
        ])
        .args(["--tls-ca-cert-file", &path("ca.pem"), "--tls-auth-clients", "no"])
        .args(["--save", "", "--dir", folder.path().to_str().unwrap()])
        .stdout(Stdio::null())
        .spawn()
        .expect("`redis-server` has to be installed for these tests");
    let _server = Server { child, port };
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "redis-server does not answer");
        std::thread::yield_now();
    }
    let url = format!("rediss://localhost:{port}/0");
    let stranger = run(&["init", &url]);
    assert_eq!(stranger.code, 1, "its certificate is signed by nobody known");
    is_kept_over(&url, &[("SSL_CERT_FILE", &path("ca.pem"))]);
}

#[test]
fn a_budget_is_kept_on_a_cluster() {
    let nodes: Vec<(Server, tempfile::TempDir)> = (0..3)
        .map(|_| {
            let folder = tempfile::tempdir().unwrap();
            let (port, bus) = (any_free_port(), any_free_port());
            let child = Command::new("redis-server")
                .args(["--port", &port.to_string(), "--cluster-port", &bus.to_string()])
                .args([
                    "--bind",
                    "127.0.0.1",
                    "--cluster-enabled",
                    "yes",
                    "--save",
                    "",
                    "--dir",
                ])
                .arg(folder.path())
                .stdout(Stdio::null())
                .spawn()
                .expect("`redis-server` has to be installed for these tests");
            (Server { child, port }, folder)
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(40);
    for (node, _) in &nodes {
        while !answers(node.port) {
            assert!(Instant::now() < deadline, "redis-server does not answer");
            std::thread::yield_now();
        }
    }
    let addresses: Vec<String> = nodes
        .iter()
        .map(|(node, _)| format!("127.0.0.1:{}", node.port))
        .collect();
    let made = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(&addresses)
        .args(["--cluster-replicas", "0", "--cluster-yes"])
        .stdout(Stdio::null())
        .status()
        .expect("`redis-cli` has to be installed for this test");
    assert!(made.success());
    // The nodes have yet to tell each other that the cluster is whole.
    for (node, _) in &nodes {
        let is_whole = || {
            let told = Command::new("redis-cli")
                .args(["-p", &node.port.to_string(), "cluster", "info"])
                .output()
                .unwrap();
            String::from_utf8_lossy(&told.stdout).contains("cluster_state:ok")
        };
        while !is_whole() {
            assert!(Instant::now() < deadline, "the cluster is not whole");
        }
    }
    is_kept_over(&format!("redis-cluster://{}", addresses.join(",")), &[]);
}

/// As [`free_port`], another one each time.
fn any_free_port() -> u16 {
    loop {
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
        let port = 12_000 + u16::try_from(random % 18_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// What a call of `cents` is in a log.
fn logged(cents: u64) -> leash_audit::ModelCall<'static> {
    leash_audit::ModelCall {
        provider: "acme",
        model: "cent",
        cost: Usd::from_cents(cents).unwrap(),
        ..leash_audit::ModelCall::default()
    }
}

fn append(log: &leash_audit::AuditLog, call: &leash_audit::ModelCall<'_>) {
    let event = leash_audit::Event::new(
        leash_audit::Who::session("s_1"),
        leash_audit::Kind::ModelCall(*call),
    );
    log.append(&event).unwrap().wait().unwrap();
}

#[test]
fn signed_logs_restore_a_budget_with_their_key_and_with_no_other() {
    let place = Place::file();
    let (url, path) = (place.url(), place.log("signed.jsonl"));
    let key = leash_audit::HmacKey::new("2026", b"a secret of the operators").unwrap();
    let log = leash_audit::AuditLog::builder(&path).hmac(key).open().unwrap();
    append(&log, &logged(30));
    append(&log, &logged(12));
    log.close().unwrap();
    let (right, wrong) = (place.log("right.key"), place.log("wrong.key"));
    std::fs::write(&right, "a secret of the operators\n").unwrap();
    std::fs::write(&wrong, "somebody else's").unwrap();
    let restore = |key: &str| {
        let key = format!("2026={key}");
        run(&["restore", &url, "--from-logs", &path, "--hmac-key", &key, "--yes"])
    };
    let refused = restore(&wrong);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(!refused.stderr.contains("somebody") && !refused.stderr.contains("a secret"));
    assert_eq!(run(&["list", &url]).code, 1, "nothing was restored");
    let restored = restore(&right);
    assert_eq!(restored.code, 0, "{}", restored.stderr);
    assert_eq!(spent(&url, "session:s_1", "total"), "0.42");
    // A log that nobody signed is none of theirs.
    let (url, plain) = (format!("{url}.other"), place.log("plain.jsonl"));
    let log = leash_audit::AuditLog::builder(&plain).open().unwrap();
    append(&log, &logged(5));
    log.close().unwrap();
    let key = format!("2026={right}");
    let unsigned = run(&[
        "restore",
        &url,
        "--from-logs",
        &plain,
        "--hmac-key",
        &key,
        "--yes",
    ]);
    assert_eq!(unsigned.code, 2, "{}", unsigned.stderr);
}

#[test]
fn scopes_that_a_user_named_come_back_from_the_logs() {
    for mut place in both() {
        let url = place.url();
        done(&["init", &url]);
        let log = place.log("audit.jsonl");
        let team =
            |window| Scope::capped(ScopeKey::named("team", "search & \"rank\""), usd("90")).per(window);
        runtime().block_on(async {
            let fw = firewall("s_1", &log)
                .scope(team(Window::Total))
                .scope(team(Window::Month))
                .scope(Scope::capped(ScopeKey::named("key", "k_1"), usd("90")))
                .tool_price("search", usd("0.02"))
                .budget_store(place.open().await)
                .build()
                .unwrap();
            spend(&fw, 40).await;
            let found = fw.tool("search", json!({ "q": 1 }), async |_| {
                Ok::<_, std::io::Error>(json!(1))
            });
            found.await.unwrap();
            fw.close().await.unwrap();
        });
        let before = sums(&url);
        assert_eq!(before.len(), 3, "{before:?}");
        place.lose();
        let url = place.url();
        let restored = done(&["restore", &url, "--from-logs", &log, "--yes", "--json"]);
        assert_eq!(lines(&restored)[0]["not_rebuilt"], json!([]));
        let after = sums(&url);
        for row in &before {
            assert_eq!(row[2], "0.42");
            assert!(after.contains(row), "{row:?} is not in {after:?}");
        }
    }
}

/// A reservation may have its own line, one of its settlement and one of its expiry, in logs that are given in any order.
#[test]
fn of_several_lines_of_a_call_its_own_counts_and_then_that_of_its_settlement() {
    use leash_audit::Outcome::{Cut, Expired, Ok};
    let place = Place::file();
    let ids = ["a", "b", "c", "d", "e"];
    // Of each log: id, outcome, cents.
    let written: [&[(&str, Option<leash_audit::Outcome>, u64)]; 3] = [
        &[
            ("a", Some(Expired), 50),
            ("b", Some(Cut), 2),
            ("c", Some(Expired), 60),
            ("d", Some(Expired), 7),
        ],
        &[
            ("c", None, 4),
            ("b", None, 2),
            ("d", Some(Expired), 7),
            ("e", None, 8),
        ],
        &[
            ("a", Some(Ok), 1),
            ("c", Some(Expired), 60),
            ("b", Some(Expired), 50),
            ("e", None, 8),
        ],
    ];
    let paths = ["one.jsonl", "two.jsonl", "three.jsonl"].map(|name| place.log(name));
    for (path, lines) in paths.iter().zip(written) {
        let log = leash_audit::AuditLog::builder(path).open().unwrap();
        for (id, outcome, cents) in lines {
            assert!(ids.contains(id));
            let call = leash_audit::ModelCall {
                outcome: *outcome,
                reservation_id: Some(id),
                scopes: &["team:search"],
                ..logged(*cents)
            };
            append(&log, &call);
        }
        log.close().unwrap();
    }
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let url = format!("{}.{}{}{}", place.url(), order[0], order[1], order[2]);
        let [first, second, third] = order.map(|at: usize| paths[at].as_str());
        done(&["restore", &url, "--from-logs", first, second, third, "--yes"]);
        for scope in ["global", "team:search", "session:s_1"] {
            assert_eq!(spent(&url, scope, "total"), "0.22", "{order:?} {scope}");
        }
    }
}

/// Over a store in memory the process that lets a call expire and settles it late writes both lines, and the line that let it
/// through.
#[test]
fn a_call_that_expired_and_was_settled_late_is_counted_once() {
    let place = Place::file();
    let (url, log) = (place.url(), place.log("audit.jsonl"));
    runtime().block_on(async {
        let fw = firewall("s_1", &log)
            .budget_usd(9.00)
            .lease(Duration::from_millis(1))
            .build()
            .unwrap();
        let admission = fw.admit(call(&fw, 30)).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while !std::fs::read_to_string(&log).unwrap().contains("\"expired\"") {
            assert!(Instant::now() < deadline, "nobody swept");
            tokio::task::yield_now().await;
        }
        let usage = Usage {
            output_tokens: 4,
            ..Usage::default()
        };
        admission.settle(Answer::reported(usage, Digest::EMPTY)).await;
        assert_eq!(fw.cumulative().await.unwrap(), usd("0.04"));
        // Another one that looks the same never ends.
        std::mem::forget(fw.admit(call(&fw, 30)).await.unwrap());
        fw.flush().await.unwrap();
    });
    done(&["restore", &url, "--from-logs", &log, "--yes"]);
    assert_eq!(spent(&url, "session:s_1", "total"), "0.34");
}

#[test]
fn a_line_that_was_written_twice_is_counted_once() {
    let place = Place::file();
    let url = place.url();
    let paths = ["one.jsonl", "two.jsonl"].map(|name| place.log(name));
    let id = "01a2051c-a5b2-76de-beff-b10d0f6d6405";
    for path in &paths {
        let log = leash_audit::AuditLog::builder(path).open().unwrap();
        let expired = leash_audit::ModelCall {
            outcome: Some(leash_audit::Outcome::Expired),
            reservation_id: Some(id),
            scopes: &["team:search"],
            ..logged(30)
        };
        append(&log, &expired);
        // Two calls that look the same are two.
        append(&log, &logged(1));
        log.close().unwrap();
    }
    done(&["restore", &url, "--from-logs", &paths[0], &paths[1], "--yes"]);
    assert_eq!(spent(&url, "global", "total"), "0.32");
    assert_eq!(spent(&url, "team:search", "total"), "0.30");
}
