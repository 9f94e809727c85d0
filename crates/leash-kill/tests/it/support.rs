//! What the tests stand on: a Redis server of their own, services, raw requests.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use leash_core::{Caller, StoreError};
use leash_kill::{Answer, KillOrder, KillRegistry, KillServer, StoreUrl, Target};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A registry together with what must live as long.
pub(crate) struct Kept<R> {
    registry: R,
    _with: Box<dyn Any + Send + Sync>,
}

impl<R: KillRegistry> Kept<R> {
    pub(crate) fn arc(registry: R, with: impl Any + Send + Sync) -> Arc<dyn KillRegistry> {
        Arc::new(Self {
            registry,
            _with: Box::new(with),
        })
    }
}

impl<R: KillRegistry> fmt::Debug for Kept<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.registry.fmt(f)
    }
}

#[async_trait]
impl<R: KillRegistry> KillRegistry for Kept<R> {
    async fn standing(&self, caller: &Caller) -> Result<Option<KillOrder>, StoreError> {
        self.registry.standing(caller).await
    }

    async fn ask(&self, caller: &Caller) -> Result<Answer, StoreError> {
        self.registry.ask(caller).await
    }

    async fn kill(&self, order: KillOrder) -> Result<(), StoreError> {
        self.registry.kill(order).await
    }

    async fn clear(&self, target: &Target) -> Result<bool, StoreError> {
        self.registry.clear(target).await
    }

    async fn orders(&self) -> Result<Vec<KillOrder>, StoreError> {
        self.registry.orders().await
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.registry.changes()
    }
}

/// A `redis-server` on a port of its own, ended with the test.
pub(crate) struct RedisServer {
    port: u16,
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl RedisServer {
    pub(crate) fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut server = Self {
            port,
            folder: tempfile::tempdir().unwrap(),
            child: None,
        };
        server.restart();
        server
    }

    pub(crate) fn url(&self) -> StoreUrl {
        format!("redis://127.0.0.1:{}/0", self.port).parse().unwrap()
    }

    pub(crate) fn restart(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("`redis-server` must be installed to test what speaks to it");
        self.child = Some(child);
        let start = Instant::now();
        loop {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "redis-server does not answer"
            );
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
                std::thread::yield_now();
                continue;
            };
            stream.write_all(b"PING\r\n").unwrap();
            let mut answer = [0; 7];
            if stream.read_exact(&mut answer).is_ok() && &answer == b"+PONG\r\n" {
                return;
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.as_ref().unwrap().id(), name);
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn signal(process: u32, name: &str) {
    let done = Command::new("kill")
        .args([format!("-{name}"), process.to_string()])
        .status()
        .unwrap();
    assert!(done.success());
}

/// Ends the task it holds.
pub(crate) struct Serving(JoinHandle<()>, Option<tokio::runtime::Runtime>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
        if let Some(runtime) = self.1.take() {
            // With its connections.
            runtime.shutdown_background();
        }
    }
}

/// Serves on a runtime of its own, so that all of it ends at once.
pub(crate) async fn serve(server: KillServer) -> (SocketAddr, Serving) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (tell, told) = tokio::sync::oneshot::channel();
    let task = runtime.spawn(async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        tell.send(listener.local_addr().unwrap()).unwrap();
        server.serve(listener).await.unwrap();
    });
    (told.await.unwrap(), Serving(task, Some(runtime)))
}

/// Sends `line` (method and path) as it stands; gives back the status and the body.
pub(crate) fn raw_http(address: SocketAddr, line: &str, headers: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let length = body.len();
    write!(
        stream,
        "{line} HTTP/1.1\r\nHost: test\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let said = answer
        .split_once("\r\n\r\n")
        .map(|(_, said)| said.to_owned())
        .unwrap_or_default();
    (status, said)
}

/// A service that speaks the contract and not a word more.
pub(crate) struct PlainServer {
    pub(crate) address: SocketAddr,
    killed: Arc<Mutex<BTreeMap<String, String>>>,
    task: JoinHandle<()>,
}

impl Drop for PlainServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl PlainServer {
    pub(crate) async fn start() -> Self {
        let killed: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback({
            let killed = killed.clone();
            async move |request: Request| {
                let Some(id) = request.uri().path().strip_prefix("/kill/") else {
                    return (StatusCode::NOT_FOUND, String::new());
                };
                let mut killed = killed.lock().unwrap();
                if request.method() == Method::DELETE {
                    return match killed.remove(id) {
                        Some(_) => (StatusCode::OK, String::new()),
                        None => (StatusCode::NOT_FOUND, String::new()),
                    };
                }
                match killed.get(id) {
                    Some(reason) => {
                        let answer = serde_json::json!({ "killed": true, "reason": reason });
                        (StatusCode::OK, answer.to_string())
                    }
                    None => (StatusCode::NOT_FOUND, String::new()),
                }
            }
        });
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            killed,
            task,
        }
    }

    pub(crate) fn kill(&self, id: &str, reason: &str) {
        self.killed
            .lock()
            .unwrap()
            .insert(id.to_owned(), reason.to_owned());
    }
}
