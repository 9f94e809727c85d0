//! `llm-leash kill`: what it writes, what it leaves in the registry, and how it ends.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use leash_core::{Caller, SessionId};
use leash_kill::{KillRegistry, KillServer, MemoryKillRegistry, SqliteKillRegistry, ViewOptions};
use serde_json::{Value, json};

use crate::{Ran, binary, finish};

/// Runs with nothing of ours in the environment but `envs`.
fn run_with(args: &[&str], envs: &[(&str, &str)]) -> Ran {
    let mut command = binary();
    for name in [
        "LLM_LEASH_KILL_REGISTRY",
        "LLM_LEASH_KILL_TOKEN",
        "LLM_LEASH_OPERATOR",
    ] {
        command.env_remove(name);
    }
    finish(command.args(args).envs(envs.iter().copied()).spawn().unwrap())
}

fn run(args: &[&str]) -> Ran {
    run_with(args, &[])
}

fn sqlite(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("kill.db").display())
}

fn line(text: &str) -> Value {
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(text).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn an_order_is_given_listed_told_and_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let url = sqlite(folder.path());
    let killed = run(&[
        "kill",
        "--session",
        "s_1",
        "--reason",
        "loops",
        "--registry",
        &url,
    ]);
    assert_eq!((killed.code, killed.text()), (0, "killed s_1\n"));
    assert!(killed.stderr.contains("new"), "{}", killed.stderr);
    let again = run(&[
        "kill",
        "--session",
        "s_1",
        "--reason",
        "loops again",
        "--registry",
        &url,
    ]);
    assert_eq!(
        (again.code, again.text(), &*again.stderr),
        (0, "killed s_1\n", "")
    );
    let agent = [
        "kill",
        "--agent",
        "a b",
        "--reason",
        "bad",
        "--operator",
        "ada",
        "--json",
        "--registry",
        &url,
    ];
    let agent = line(run(&agent).text());
    assert_eq!(
        (&agent["target"], &agent["reason"], &agent["operator"]),
        (&json!("agent:a b"), &json!("bad"), &json!("ada"))
    );
    assert!(agent["at"].as_str().unwrap().ends_with('Z'));

    let env = [
        ("LLM_LEASH_KILL_REGISTRY", url.as_str()),
        ("LLM_LEASH_OPERATOR", "bob"),
    ];
    let list = run_with(&["kill", "list"], &env);
    assert_eq!((list.code, &*list.stderr), (0, "# 2 standing\n"));
    let orders: Vec<Value> = list
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(orders[0]["target"], "session:s_1");
    assert_eq!(orders[0]["reason"], "loops again");
    assert_eq!(orders[1], agent);

    let status = run_with(&["kill", "status", "--session", "s_1"], &env);
    assert_eq!(
        (status.code, status.text()),
        (2, "stopped by session:s_1: loops again\n")
    );
    let by_agent = run_with(
        &["kill", "status", "--session", "s_2", "--agent", "a b", "--json"],
        &env,
    );
    assert_eq!(by_agent.code, 2);
    assert_eq!(line(by_agent.text())["order"]["target"], "agent:a b");
    assert_eq!(run_with(&["kill", "status", "--agent", "a b"], &env).code, 2);
    let other = run_with(&["kill", "status", "--session", "s_2"], &env);
    assert_eq!((other.code, other.text()), (0, "not stopped\n"));
    assert_eq!(run_with(&["kill", "status"], &env).code, 0);

    let cleared = run(&["kill", "clear", "--session", "s_1", "--registry", &url]);
    assert_eq!(
        (cleared.code, cleared.text(), &*cleared.stderr),
        (0, "cleared s_1\n", "")
    );
    let twice = run_with(&["kill", "clear", "--session", "s_1", "--json"], &env);
    assert_eq!(
        line(twice.text()),
        json!({"target": "session:s_1", "cleared": false})
    );
    assert_eq!((twice.code, &*twice.stderr), (0, "# no such order stood\n"));
    assert_eq!(run_with(&["kill", "list"], &env).text().lines().count(), 1);
}

#[test]
fn everything_is_stopped_only_when_somebody_says_yes() {
    let folder = tempfile::tempdir().unwrap();
    let url = sqlite(folder.path());
    // Standard input is no terminal here.
    let unasked = run(&["kill", "--all", "--reason", "fire", "--registry", &url]);
    assert_eq!((unasked.code, unasked.text()), (64, ""));
    assert!(unasked.stderr.contains("--yes"), "{}", unasked.stderr);
    assert!(!folder.path().join("kill.db").exists());
    let asked = run(&["kill", "--all", "--yes", "--reason", "fire", "--registry", &url]);
    assert_eq!((asked.code, asked.text()), (0, "killed everything\n"));
    assert_eq!(
        run(&["kill", "status", "--session", "any", "--registry", &url]).code,
        2
    );
    assert_eq!(run(&["kill", "status", "--registry", &url]).code, 2);
    let cleared = run(&["kill", "clear", "--all", "--registry", &url]);
    assert_eq!((cleared.code, cleared.text()), (0, "cleared everything\n"));
}

#[test]
fn a_wrong_command_line_says_what_is_missing_and_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let url = sqlite(folder.path());
    for (args, wants) in [
        (vec!["kill", "--registry", &url], "--session"),
        (vec!["kill", "--reason", "x", "--registry", &url], "--session"),
        (vec!["kill", "--session", "s", "--registry", &url], "--reason"),
        (
            vec!["kill", "--session", "s", "--reason", " ", "--registry", &url],
            "--reason",
        ),
        (vec!["kill", "--session", "s", "--reason", "x"], "--registry"),
        (
            vec![
                "kill",
                "--session",
                "s",
                "--agent",
                "a",
                "--reason",
                "x",
                "--registry",
                &url,
            ],
            "--agent",
        ),
        (vec!["kill", "clear", "--registry", &url], "--session"),
        (vec!["kill", "list"], "--registry"),
    ] {
        let ran = run(&args);
        assert_eq!(ran.code, 64, "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(wants), "{args:?}: {}", ran.stderr);
        assert_eq!(ran.text(), "");
    }
    assert!(!folder.path().join("kill.db").exists());
}

#[test]
fn what_cannot_be_done_says_what_to_do_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let absent = sqlite(folder.path());
    for command in ["list", "status", "watch"] {
        let ran = run(&["kill", command, "--registry", &absent]);
        assert_eq!((ran.code, ran.text()), (1, ""));
        assert!(ran.stderr.contains("check the path"), "{}", ran.stderr);
    }
    let text = folder.path().join("text");
    std::fs::write(&text, "no database, ".repeat(1000)).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    for (url, wants) in [
        (format!("sqlite:{}", text.display()), "is it a kill registry?"),
        (format!("redis://:hunter2@127.0.0.1:{port}"), "is it running"),
        (format!("http://hunter2@127.0.0.1:{port}"), "is the service there"),
        ("postgres://hunter2@host".to_owned(), "starts with `sqlite:`"),
    ] {
        let ran = run(&["kill", "--session", "s", "--reason", "x", "--registry", &url]);
        assert_eq!((ran.code, ran.text()), (1, ""), "{url}: {}", ran.stderr);
        assert!(ran.stderr.contains(wants), "{url}: {}", ran.stderr);
        assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
    }
    let id = run(&[
        "kill",
        "--session",
        "a\nb",
        "--reason",
        "x",
        "--registry",
        &absent,
    ]);
    assert_eq!(id.code, 1);
    assert!(id.stderr.contains("control characters"), "{}", id.stderr);
}

#[test]
fn an_agent_that_runs_hears_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kill.db");
    let url = sqlite(folder.path());
    let runtime = runtime();
    runtime.block_on(async {
        let registry = SqliteKillRegistry::open(&path, ViewOptions::default())
            .await
            .unwrap();
        let caller = Caller::session(SessionId::new("s_1").unwrap());
        let mut changes = registry.changes();
        assert!(registry.standing(&caller).await.unwrap().is_none());
        let killed = tokio::task::spawn_blocking(move || {
            run(&["kill", "--tenant", "other", "--reason", "x", "--registry", &url]);
            run(&[
                "kill",
                "--session",
                "s_1",
                "--reason",
                "loops",
                "--registry",
                &url,
            ])
        });
        let order = loop {
            tokio::time::timeout(Duration::from_secs(20), changes.changed())
                .await
                .unwrap()
                .unwrap();
            if let Ok(Some(order)) = registry.standing(&caller).await {
                break order;
            }
        };
        assert_eq!(&*order.reason, "loops");
        assert_eq!(killed.await.unwrap().code, 0);
    });
}

#[test]
fn a_service_wants_its_token_from_the_environment() {
    let runtime = runtime();
    let kept = Arc::new(MemoryKillRegistry::new());
    let (address, _task) = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = KillServer::new(kept.clone(), "sesame");
        (address, tokio::spawn(server.serve(listener)))
    });
    let url = format!("http://{address}");
    let kill = ["kill", "--session", "a/b", "--reason", "x", "--registry", &url];
    let refused = run(&kill);
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("LLM_LEASH_KILL_TOKEN"),
        "{}",
        refused.stderr
    );
    let token = [("LLM_LEASH_KILL_TOKEN", "sesame")];
    let done = run_with(&kill, &token);
    assert_eq!((done.code, done.text()), (0, "killed a/b\n"));
    let orders = runtime.block_on(kept.orders()).unwrap();
    assert_eq!(orders[0].target.to_string(), "session:a/b");
    let list = run_with(&["kill", "list", "--registry", &url], &token);
    assert_eq!(line(list.text())["target"], "session:a/b");
}

#[test]
fn watching_tells_what_stands_and_what_comes() {
    let folder = tempfile::tempdir().unwrap();
    let url = sqlite(folder.path());
    run(&[
        "kill",
        "--session",
        "s_1",
        "--reason",
        "early",
        "--registry",
        &url,
    ]);
    let mut child = binary()
        .args(["kill", "watch", "--registry", &url])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let event = |value: Value| {
        let word = |name: &str| value[name].as_str().unwrap().to_owned();
        (word("event"), word("target"), word("reason"))
    };
    let expected =
        |event: &str, target: &str, reason: &str| (event.to_owned(), target.to_owned(), reason.to_owned());
    assert_eq!(event(next()), expected("standing", "session:s_1", "early"));
    run(&["kill", "--agent", "x", "--reason", "late", "--registry", &url]);
    assert_eq!(event(next()), expected("killed", "agent:x", "late"));
    run(&["kill", "clear", "--session", "s_1", "--registry", &url]);
    assert_eq!(event(next()), expected("cleared", "session:s_1", "early"));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A service that runs, and where; it is ended with the test.
struct Served {
    child: std::process::Child,
    stdout: BufReader<std::process::ChildStdout>,
    first: String,
}

impl Served {
    fn start(args: &[&str], envs: &[(&str, &str)]) -> Self {
        let mut command = binary();
        command.env_remove("LLM_LEASH_KILL_REGISTRY");
        command.env_remove("LLM_LEASH_KILL_TOKEN");
        command.args(["kill", "serve", "--listen", "127.0.0.1:0"]);
        let mut child = command.args(args).envs(envs.iter().copied()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        stdout.read_line(&mut first).unwrap();
        Self { child, stdout, first }
    }

    fn url(&self) -> &str {
        self.first.trim_end().strip_prefix("listening on ").unwrap()
    }

    /// Sends the signal; what it wrote to standard error until it ended.
    fn end(mut self, signal: &str) -> String {
        let sent = std::process::Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{status}");
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.stdout, &mut rest).unwrap();
        assert_eq!(rest, "");
        let mut stderr = String::new();
        std::io::Read::read_to_string(&mut self.child.stderr.take().unwrap(), &mut stderr).unwrap();
        stderr
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_registry_is_served_until_it_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let file = sqlite(folder.path());
    let token = folder.path().join("token");
    std::fs::write(&token, "open-sesame\n").unwrap();
    let token = token.to_str().unwrap();
    let served = Served::start(&["--registry", &file, "--token-file", token], &[]);
    let url = served.url().to_owned();

    let kill = [
        "kill",
        "--session",
        "a/b %2f?",
        "--reason",
        "loops",
        "--registry",
        &url,
    ];
    for wrong in ["", "open-sesam", "open-sesame2"] {
        let refused = run_with(&kill, &[("LLM_LEASH_KILL_TOKEN", wrong)]);
        assert_eq!((refused.code, refused.text()), (1, ""), "{}", refused.stderr);
    }
    assert_eq!(run(&["kill", "list", "--registry", &file]).text(), "");
    let right = [("LLM_LEASH_KILL_TOKEN", "open-sesame")];
    let done = run_with(&kill, &right);
    assert_eq!(
        (done.code, done.text()),
        (0, "killed a/b %2f?\n"),
        "{}",
        done.stderr
    );
    // Whoever reads the file sees what came over the service, and the other way round.
    assert_eq!(
        line(run(&["kill", "list", "--registry", &file]).text())["target"],
        "session:a/b %2f?"
    );
    run(&[
        "kill",
        "--tenant",
        "acme",
        "--reason",
        "unpaid",
        "--registry",
        &file,
    ]);
    let status = [
        "kill",
        "status",
        "--session",
        "s",
        "--tenant",
        "acme",
        "--registry",
        &url,
    ];
    assert_eq!(run_with(&status, &right).code, 2);
    let clear = ["kill", "clear", "--session", "a/b %2f?", "--registry", &url];
    assert_eq!(run_with(&clear, &right).text(), "cleared a/b %2f?\n");
    assert_eq!(
        line(run(&["kill", "list", "--registry", &file]).text())["target"],
        "tenant:acme"
    );

    let stderr = served.end("-TERM");
    assert!(stderr.contains("# ended by SIGTERM"), "{stderr}");
    assert!(!stderr.contains("sesame"), "{stderr}");
    let gone = run_with(&["kill", "list", "--registry", &url], &right);
    assert_eq!(gone.code, 1);
}

#[test]
fn a_service_tells_its_address_as_json_and_ends_on_an_interrupt() {
    let folder = tempfile::tempdir().unwrap();
    let file = sqlite(folder.path());
    let args = ["--registry", &file, "--json", "--token-env", "OURS"];
    let served = Served::start(&args, &[("OURS", "sesame")]);
    let told = line(&served.first);
    assert_eq!((&told["token"], &told["registry"]), (&json!(true), &json!(file)));
    let url = told["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    let list = ["kill", "list", "--registry", &url];
    assert_eq!(run_with(&list, &[("LLM_LEASH_KILL_TOKEN", "sesame")]).code, 0);
    served.end("-INT");
    // On this machine alone it goes without a token, and says what that means.
    let served = Served::start(&["--registry", &file], &[]);
    let list = ["kill", "list", "--registry", served.url()];
    assert_eq!(run(&list).code, 0);
    assert!(served.end("-INT").contains("no token"));
}

#[test]
fn nothing_is_served_without_a_token_to_other_machines_nor_with_one_that_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = sqlite(folder.path());
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "\n").unwrap();
    let long = folder.path().join("long");
    std::fs::write(&long, "x".repeat(5000)).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let serve = ["kill", "serve", "--registry", &file];
    for (more, code, wants) in [
        (vec!["--listen", "0.0.0.0:0"], 64, "--token-file"),
        (vec!["--listen", "[::]:0"], 64, "--token-file"),
        (vec!["--listen", "nowhere"], 64, "--listen"),
        (vec!["--token-env", "NOT_SET_ANYWHERE"], 1, "NOT_SET_ANYWHERE"),
        (vec!["--token-env", "SPACED"], 1, "printable"),
        (vec!["--token-file", empty.to_str().unwrap()], 1, "printable"),
        (vec!["--token-file", long.to_str().unwrap()], 1, "no token"),
        (vec!["--token-file", "/nowhere/token"], 1, "failed to read"),
        (
            vec!["--token-file", "f", "--token-env", "E"],
            64,
            "cannot be used with",
        ),
        (vec!["--token", "sesame"], 64, "--token"),
        (vec!["--listen", &taken], 1, "another port"),
    ] {
        let ran = run_with(&[&serve[..], &more].concat(), &[("SPACED", "hunter2 hunter2")]);
        assert_eq!((ran.code, ran.text()), (code, ""), "{more:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(wants), "{more:?}: {}", ran.stderr);
        assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
    }
    let http = run(&["kill", "serve", "--registry", "http://127.0.0.1:1"]);
    assert_eq!((http.code, http.text()), (64, ""));
    let none = run(&["kill", "serve"]);
    assert_eq!((none.code, none.text()), (64, ""));
    assert!(none.stderr.contains("--registry"));
}

/// An order is given, found, listed, taken back; and whoever is not trusted, or has no rights, gets nothing.
#[test]
fn orders_go_over_tls_by_a_user_and_into_a_cluster() {
    let server = leash_testkit::RedisServer::start_tls(&[]);
    server.allow(
        "ada",
        "hunter2",
        &["~llm_leash:kill*", "&llm_leash:kill.changed", "+@all", "-@admin"],
    );
    let cluster = leash_testkit::RedisCluster::start();
    let authority = server.authority().display().to_string();
    let trusts = [("SSL_CERT_FILE", authority.as_str())];
    for url in [server.tls_url_as("ada:hunter2@"), cluster.url()] {
        let env = [trusts[0], ("LLM_LEASH_KILL_REGISTRY", url.as_str())];
        for (at, id) in ["s/1", "s_2"].into_iter().enumerate() {
            let killed = run_with(&["kill", "--session", id, "--reason", "loops"], &env);
            assert_eq!(
                (killed.code, killed.text()),
                (0, format!("killed {id}\n").as_str()),
                "{killed:?}"
            );
            let list = run_with(&["kill", "list"], &env);
            assert_eq!(list.text().lines().count(), at + 1, "{list:?}");
            let status = run_with(&["kill", "status", "--session", id], &env);
            assert_eq!(status.code, 2, "{status:?}");
        }
        let all = run_with(&["kill", "--all", "--yes", "--reason", "fire"], &env);
        assert_eq!((all.code, all.text()), (0, "killed everything\n"));
        assert_eq!(run_with(&["kill", "status", "--session", "other"], &env).code, 2);
        for target in [&["--all"][..], &["--session", "s/1"], &["--session", "s_2"]] {
            let cleared = run_with(&[&["kill", "clear"], target].concat(), &env);
            assert_eq!((cleared.code, &*cleared.stderr), (0, ""), "{cleared:?}");
        }
        assert_eq!(run_with(&["kill", "list"], &env).text(), "");
    }
    // Nobody vouches for the server, or the password is another.
    let strangers = [
        (server.tls_url_as("ada:hunter2@"), vec![]),
        (server.tls_url_as("ada:hunter3@"), trusts.to_vec()),
    ];
    for (url, env) in strangers {
        let refused = run_with(
            &["kill", "--session", "s", "--reason", "x", "--registry", &url],
            &env,
        );
        assert_eq!((refused.code, refused.text()), (1, ""));
        assert!(!refused.stderr.contains("hunter"), "{}", refused.stderr);
    }
}

/// Ids that look like paths, escapes, patterns or options name one session each, over every registry.
#[test]
fn an_id_of_any_spelling_stops_its_own_session_over_every_registry() {
    let folder = tempfile::tempdir().unwrap();
    let redis = leash_testkit::RedisServer::start(&[]);
    let runtime = runtime();
    let (address, _task) = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = KillServer::danger_without_token(Arc::new(MemoryKillRegistry::new()));
        (address, tokio::spawn(server.serve(listener)))
    });
    let longest = "x".repeat(512);
    let ids = [
        "a/b",
        "a%2fb",
        "a%2Fb",
        "a b",
        "..",
        ".",
        "../kill/a",
        "a%00b",
        "{a}b",
        "a?b#c",
        "*",
        "\u{1f680}",
        longest.as_str(),
    ];
    for url in [sqlite(folder.path()), redis.url(), format!("http://{address}")] {
        let env = [("LLM_LEASH_KILL_REGISTRY", url.as_str())];
        for (at, id) in ids.into_iter().enumerate() {
            let killed = run_with(&["kill", "--session", id, "--reason", "stop"], &env);
            assert_eq!(
                (killed.code, killed.text()),
                (0, format!("killed {id}\n").as_str()),
                "{killed:?}"
            );
            let other = ids[(at + 1) % ids.len()];
            let status = |id: &str| run_with(&["kill", "status", "--session", id], &env).code;
            assert_eq!((status(id), status(other)), (2, 0), "{url} {id}");
            let listed = line(run_with(&["kill", "list"], &env).text());
            assert_eq!(listed["target"], format!("session:{id}"), "{url}");
            assert_eq!(run_with(&["kill", "clear", "--session", id], &env).code, 0);
            assert_eq!(status(id), 0, "{url} {id}");
        }
        // What is no id is refused, and stops nobody.
        let too_long = "x".repeat(10 * 1024);
        for id in ["", "a\u{7f}", too_long.as_str()] {
            let refused = run_with(&["kill", "--session", id, "--reason", "stop"], &env);
            assert_eq!((refused.code, refused.text()), (1, ""), "{url}: {refused:?}");
        }
        assert_eq!(run_with(&["kill", "list"], &env).text(), "", "{url}");
    }
}
