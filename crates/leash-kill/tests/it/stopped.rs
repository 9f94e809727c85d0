//! A process that is stopped from outside: by a signal, and by a file. The process is this very binary, told by its
//! environment how it is to be stopped.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use leash_core::{Caller, SessionId};
use leash_kill::{
    KillRegistry, ProcessStop, SqliteKillRegistry, StopSignal, Target, ViewOptions, stop_on_file,
    stop_on_signal,
};

use crate::support::signal;

const BY: &str = "LEASH_KILL_TEST_STOPPED_BY";
const SHARED: &str = "LEASH_KILL_TEST_SHARED";
/// Set where the stop is to reach everybody who shares the registry.
const ALL: &str = "LEASH_KILL_TEST_STOPS_ALL";

fn caller() -> Caller {
    Caller::session(SessionId::new("s_1").unwrap())
}

async fn shared(path: &Path) -> Arc<dyn KillRegistry> {
    let options = ViewOptions::default();
    Arc::new(SqliteKillRegistry::open(path, options).await.unwrap())
}

fn say(line: &str) {
    // On a line of its own, whatever the harness wrote before.
    let mut out = std::io::stdout().lock();
    write!(out, "\n{line}\n").unwrap();
    out.flush().unwrap();
}

/// The process that is stopped: an agent that makes calls, and a stream that waits. Nothing where this is no child.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_process() {
    let Ok(by) = std::env::var(BY) else { return };
    let shared = shared(Path::new(&std::env::var(SHARED).unwrap())).await;
    let registry = Arc::new(ProcessStop::new(shared.clone()));
    let brake = if std::env::var(ALL).is_ok() {
        shared
    } else {
        registry.brake()
    };
    let _watch = match by.as_str() {
        "USR1" => stop_on_signal(StopSignal::User1, brake).unwrap(),
        "USR2" => stop_on_signal(StopSignal::User2, brake).unwrap(),
        "HUP" => stop_on_signal(StopSignal::Hangup, brake).unwrap(),
        "TERM" => stop_on_signal(StopSignal::Terminate, brake).unwrap(),
        path => stop_on_file(path, brake),
    };
    let mut changes = registry.changes();
    let stream = tokio::spawn({
        let registry = registry.clone();
        async move {
            loop {
                if let Some(order) = registry.standing(&caller()).await.unwrap() {
                    return order;
                }
                changes.changed().await.unwrap();
            }
        }
    });
    say("ready");
    let refused = loop {
        if let Some(order) = registry.standing(&caller()).await.unwrap() {
            break order;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(refused.target, Target::Everything);
    say(&format!("refused: {}", refused.reason));
    say(&format!("cut: {}", stream.await.unwrap().reason));
    // It lives on until it is told to end: a stop is no crash.
    let told = tokio::task::spawn_blocking(|| std::io::stdin().lines().next());
    assert_eq!(told.await.unwrap().unwrap().unwrap(), "end");
    assert!(registry.standing(&caller()).await.unwrap().is_some());
    say("ended");
}

struct Stopped {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Stopped {
    fn start(by: &str, shared: &Path, stops_all: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "--exact",
                "stopped::child_process",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(BY, by)
            .env(SHARED, shared)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if stops_all {
            command.env(ALL, "1");
        }
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut stopped = Self { child, lines };
        assert_eq!(stopped.says("ready"), "ready");
        stopped
    }

    /// The next line that starts like this.
    fn says(&mut self, start: &str) -> String {
        let mut lines = self.lines.by_ref().map(|line| line.unwrap());
        lines
            .find(|line| line.starts_with(start))
            .expect("the child said it before it ended")
    }

    fn end(mut self) {
        self.child.stdin.take().unwrap().write_all(b"end\n").unwrap();
        assert_eq!(self.says("ended"), "ended");
        assert!(self.child.wait().unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_stops_the_process_that_gets_it_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kill.db");
    let shared = shared(&path).await;
    for name in ["USR1", "USR2", "HUP", "TERM"] {
        let mut stopped = Stopped::start(name, &path, false);
        let mut other = Stopped::start(name, &path, false);
        signal(stopped.child.id(), name);
        assert_eq!(stopped.says("refused"), format!("refused: signal SIG{name}"));
        assert_eq!(stopped.says("cut"), format!("cut: signal SIG{name}"));
        // Whoever pulls twice ends nothing else.
        signal(stopped.child.id(), name);
        assert!(shared.orders().await.unwrap().is_empty());
        assert!(shared.standing(&caller()).await.unwrap().is_none());
        stopped.end();
        // The other made calls all the while; it stops when its own signal comes.
        signal(other.child.id(), name);
        other.says("refused");
        other.end();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_stops_every_process_that_looks_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("kill.db");
    let path = folder.path().join("STOP");
    let by = path.to_str().unwrap();
    let mut agents = [(); 3].map(|()| Stopped::start(by, &database, false));
    let touched = Command::new("touch").arg(&path).status().unwrap();
    assert!(touched.success());
    let reason = format!("stop file `{by}`");
    for agent in &mut agents {
        assert_eq!(agent.says("refused"), format!("refused: {reason}"));
        assert_eq!(agent.says("cut"), format!("cut: {reason}"));
    }
    // Taken away, it clears nothing.
    std::fs::remove_file(&path).unwrap();
    agents.into_iter().for_each(Stopped::end);
    assert!(shared(&database).await.orders().await.unwrap().is_empty());
    // A program that is started while it is there stops at once, and tells what is in it.
    std::fs::write(folder.path().join("why"), "fire in the server room\n").unwrap();
    std::fs::rename(folder.path().join("why"), &path).unwrap();
    let mut late = Stopped::start(by, &database, false);
    assert_eq!(late.says("refused"), "refused: fire in the server room");
    late.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_is_wired_to_the_shared_registry_stops_everybody_who_shares_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kill.db");
    let shared = shared(&path).await;
    let mut changes = shared.changes();
    assert!(shared.standing(&caller()).await.unwrap().is_none());
    let mut stopped = Stopped::start("USR1", &path, true);
    signal(stopped.child.id(), "USR1");
    let order = loop {
        if let Ok(Some(order)) = shared.standing(&caller()).await {
            break order;
        }
        changes.changed().await.unwrap();
    };
    assert_eq!(
        (&order.target, &*order.reason),
        (&Target::Everything, "signal SIGUSR1")
    );
    stopped.says("refused");
    stopped.end();
}
