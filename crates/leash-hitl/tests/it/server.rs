//! A Redis server of the test's own, and the question that waits in a queue.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use leash_hitl::{Entry, HitlQueue, Which};

/// The one entry that is open, as soon as it is.
pub(crate) async fn asked(queue: &Arc<dyn HitlQueue>) -> Entry {
    let mut changes = queue.changes();
    loop {
        if let Some(entry) = queue.list(Which::Open).await.unwrap().pop() {
            return entry;
        }
        changes.changed().await.unwrap();
    }
}

/// Stops with the value.
#[derive(Debug)]
pub(crate) struct RedisServer {
    child: Child,
    pub(crate) url: String,
}

impl RedisServer {
    pub(crate) fn start() -> Self {
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let mut child = Command::new("redis-server")
                .args([
                    "--port",
                    &port.to_string(),
                    "--bind",
                    "127.0.0.1",
                    "--save",
                    "",
                    "--appendonly",
                    "no",
                ])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("`redis-server` has to be installed for these tests");
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            if lines.any(|line| line.unwrap().contains("Ready to accept connections")) {
                // So that the server never waits for somebody to read what it says.
                std::thread::spawn(move || lines.for_each(drop));
                return Self {
                    child,
                    url: format!("redis://127.0.0.1:{port}/0"),
                };
            }
            // Somebody else got the port first.
            let _ = child.wait();
        }
        panic!("no port for a Redis server");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
