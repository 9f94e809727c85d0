//! Real Redis servers of a test's own: [`RedisServer`], alone or over TLS, and [`RedisCluster`].
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a test that cannot have its server fails, and says why"
)]

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take until it answers, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// A `redis-server` on a port of its own, with a folder of its own, ended with the value.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    tls_port: Option<u16>,
    folder: tempfile::TempDir,
    child: Child,
}

/// A port that nobody listens on, and that the system gives to nobody who asks for any.
fn free_port() -> u16 {
    let mut seed = u64::from(std::process::id());
    loop {
        seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), seed);
        let port = u16::try_from(12_000_u64.saturating_add(seed % 18_000)).unwrap_or(12_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl RedisServer {
    /// Starts one that keeps nothing on disk, with `settings` of the command line besides.
    #[must_use]
    pub fn start(settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the server");
        Self::launch(folder, None, settings)
    }

    /// Starts one that can be spoken to over TLS as well. Who trusts [`Self::authority`] believes that it is
    /// `localhost`.
    #[must_use]
    pub fn start_tls(settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the server");
        certificates(folder.path());
        let path = |name: &str| folder.path().join(name).display().to_string();
        let tls_port = free_port();
        let (port, certificate, key, authority) = (
            tls_port.to_string(),
            path("server.pem"),
            path("server.key"),
            path("ca.pem"),
        );
        let tls = [
            "--tls-port",
            &port,
            "--tls-cert-file",
            &certificate,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &authority,
            "--tls-auth-clients",
            "no",
        ];
        let settings = [&tls[..], settings].concat();
        Self::launch(folder, Some(tls_port), &settings)
    }

    fn launch(folder: tempfile::TempDir, tls_port: Option<u16>, settings: &[&str]) -> Self {
        let port = free_port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "no", "--dir"])
            .arg(folder.path())
            .args(settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("`redis-server` has to be installed for this test");
        let mut server = Self {
            port,
            tls_port,
            folder,
            child,
        };
        let begun = Instant::now();
        while !server.answers() {
            assert!(begun.elapsed() < PATIENCE, "redis-server does not answer");
            assert!(
                server.child.try_wait().is_ok_and(|ended| ended.is_none()),
                "redis-server ended"
            );
            std::thread::yield_now();
        }
        server
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return false;
        };
        let mut answer = [0; 7];
        stream.write_all(b"PING\r\n").is_ok()
            && stream.read_exact(&mut answer).is_ok()
            && &answer == b"+PONG\r\n"
    }

    /// `redis://127.0.0.1:PORT/0`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_as("")
    }

    /// The same for a user: `NAME:PASSWORD@`.
    #[must_use]
    pub fn url_as(&self, user: &str) -> String {
        format!("redis://{user}127.0.0.1:{}/0", self.port)
    }

    /// `rediss://localhost:PORT/0`, for a user (`NAME:PASSWORD@`) or, where it is empty, nobody.
    #[must_use]
    pub fn tls_url_as(&self, user: &str) -> String {
        let port = self.tls_port.expect("it was started with TLS");
        format!("rediss://{user}localhost:{port}/0")
    }

    /// The certificate (PEM) that those trust who are to believe this server.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Sends a command, and gives the first line of the answer.
    ///
    /// ```no_run
    /// let server = leash_testkit::RedisServer::start(&[]);
    /// assert_eq!(server.ask(&["SET", "a", "b"]), "+OK");
    /// ```
    #[must_use]
    pub fn ask(&self, words: &[&str]) -> String {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            let _ = write!(request, "${}\r\n{word}\r\n", word.len());
        }
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the server runs");
        stream.write_all(request.as_bytes()).expect("the server listens");
        let mut line = String::new();
        BufReader::new(stream)
            .read_line(&mut line)
            .expect("the server answers");
        line.trim_end().to_owned()
    }

    /// Makes a user with a password and these rights.
    pub fn allow(&self, name: &str, password: &str, rights: &[&str]) {
        let password = format!(">{password}");
        let made = self.ask(&[&["ACL", "SETUSER", name, "on", &password], rights].concat());
        assert_eq!(made, "+OK");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An authority of the test's own, and a server's certificate that it signed.
fn certificates(folder: &Path) {
    let run = |arguments: &[&str]| {
        let done = Command::new("openssl")
            .args([
                "req",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ])
            .args(["-days", "2", "-x509"])
            .args(arguments)
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("`openssl` has to be installed for this test");
        assert!(done.success(), "openssl could not make a certificate");
    };
    run(&[
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-subj",
        "/CN=test authority",
    ]);
    run(&[
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
}

/// Three servers that share the keys between them, without replicas.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts one, and returns once every node knows that it is whole.
    #[must_use]
    pub fn start() -> Self {
        let nodes: Vec<RedisServer> = (0..3)
            .map(|_| {
                // The bus of a node listens 10,000 ports above it unless it is told otherwise.
                let bus = free_port().to_string();
                RedisServer::start(&["--cluster-enabled", "yes", "--cluster-port", &bus])
            })
            .collect();
        let addresses: Vec<String> = nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port))
            .collect();
        let made = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(&addresses)
            .args(["--cluster-replicas", "0", "--cluster-yes"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .expect("`redis-cli` has to be installed for this test");
        assert!(made.success(), "redis-cli could not make a cluster");
        let cluster = Self { nodes };
        let begun = Instant::now();
        for key in ["a", "b", "c"] {
            for node in &cluster.nodes {
                // A key of another node is pointed to; before the cluster is whole, it is refused.
                while node.ask(&["GET", key]).starts_with("-CLUSTERDOWN") {
                    assert!(begun.elapsed() < PATIENCE, "the cluster does not become whole");
                    std::thread::yield_now();
                }
            }
        }
        cluster
    }

    /// Its servers, in the order of their slots.
    #[must_use]
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// `redis-cluster://127.0.0.1:PORT,127.0.0.1:PORT,127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_as("")
    }

    /// The same for a user: `NAME:PASSWORD@`.
    #[must_use]
    pub fn url_as(&self, user: &str) -> String {
        let mut url = format!("redis-cluster://{user}");
        for (at, node) in self.nodes.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let _ = write!(url, "{comma}127.0.0.1:{}", node.port);
        }
        url
    }

    /// Gives the node that is `to` the first 200 slots of the one that is `from`, with their keys.
    pub fn move_slots(&self, from: usize, to: usize) {
        let (Some(from), Some(to)) = (self.nodes.get(from), self.nodes.get(to)) else {
            panic!("a cluster has three nodes");
        };
        let id = |node: &RedisServer| {
            let output = Command::new("redis-cli")
                .args(["-p", &node.port.to_string(), "CLUSTER", "MYID"])
                .output()
                .expect("`redis-cli` has to be installed for this test");
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        };
        let moved = Command::new("redis-cli")
            .args(["--cluster", "reshard", &format!("127.0.0.1:{}", to.port)])
            .args(["--cluster-from", &id(from), "--cluster-to", &id(to)])
            .args(["--cluster-slots", "200", "--cluster-yes"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .expect("`redis-cli` has to be installed for this test");
        assert!(moved.success(), "redis-cli could not move slots");
    }
}
