//! Processes that answer a line with a line: [`Pool`]. Knows nothing of what is in them.
//!
//! A process is asked one question at a time, by whoever took it out of the pool, and goes back only after an answer
//! that was understood. Whatever else happens, a call that is given up included, it is dropped, and so killed: no late
//! answer is ever taken for that to another question.

use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use leash_core::RuleError;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

/// The longest line that is read, in bytes.
const MAX_LINE_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Pool {
    command: Vec<String>,
    start_timeout: Duration,
    idle: Mutex<Vec<Worker>>,
    /// One for each process that may still be started.
    slots: Arc<Semaphore>,
    /// Told when a process is back in `idle`.
    back: Notify,
}

/// A process that is ready, and nobody else asks.
#[derive(Debug)]
struct Worker {
    /// Killed when it is dropped.
    _child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// Whether it has answered before, and so may have died unseen since.
    used: bool,
    _slot: OwnedSemaphorePermit,
}

/// Why there is no line.
enum Broken {
    /// The process is dead, or has closed its ends.
    Gone,
    /// It writes more than a line may have, or what nobody asked for.
    TooMuch,
}

impl From<Broken> for RuleError {
    fn from(broken: Broken) -> Self {
        Self::new(match broken {
            Broken::Gone => "the scanner ended without an answer",
            Broken::TooMuch => "the scanner's answer is too long",
        })
    }
}

impl Pool {
    pub(super) fn new(command: Vec<String>, processes: usize, start_timeout: Duration) -> Self {
        Self {
            command,
            start_timeout,
            idle: Mutex::default(),
            slots: Arc::new(Semaphore::new(processes)),
            back: Notify::new(),
        }
    }

    /// What `understand` makes of the line that `line` is answered with. May be dropped at any point.
    pub(super) async fn ask<T>(
        self: &Arc<Self>,
        line: &[u8],
        understand: impl Fn(&[u8]) -> Result<T, RuleError> + Send,
    ) -> Result<T, RuleError> {
        loop {
            let mut worker = self.worker().await?;
            let answer = match worker.exchange(line).await {
                Ok(answer) => answer,
                // It died while nobody asked it. Each of those is met once, and a new one is believed.
                Err(Broken::Gone) if worker.used => continue,
                Err(broken) => return Err(broken.into()),
            };
            let understood = understand(&answer)?;
            worker.used = true;
            self.give_back(worker)?;
            return Ok(understood);
        }
    }

    fn idle(&self) -> Result<MutexGuard<'_, Vec<Worker>>, RuleError> {
        self.idle
            .lock()
            .map_err(|_| RuleError::new("the scanner's processes are lost"))
    }

    fn give_back(&self, worker: Worker) -> Result<(), RuleError> {
        self.idle()?.push(worker);
        self.back.notify_one();
        Ok(())
    }

    async fn worker(self: &Arc<Self>) -> Result<Worker, RuleError> {
        loop {
            if let Some(worker) = self.idle()?.pop() {
                return Ok(worker);
            }
            tokio::select! {
                biased;
                slot = Arc::clone(&self.slots).acquire_owned() => {
                    let slot = slot.map_err(|_| RuleError::new("the scanner's processes are lost"))?;
                    self.start(slot).await?;
                }
                () = self.back.notified() => {}
            }
        }
    }

    /// Starts a process and puts it into the pool. That goes on where the call that needed it is given up: a scanner
    /// that takes longer to start than a call may wait would never be ready otherwise.
    async fn start(self: &Arc<Self>, slot: OwnedSemaphorePermit) -> Result<(), RuleError> {
        let (tell, told) = oneshot::channel();
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            let started = match timeout(pool.start_timeout, Worker::start(&pool.command, slot)).await {
                Ok(Ok(worker)) => pool.give_back(worker),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(RuleError::new("the scanner is not ready in time")),
            };
            let _ = tell.send(started);
        });
        told.await
            .unwrap_or_else(|_| Err(RuleError::new("the scanner cannot be started")))
    }
}

impl Worker {
    async fn start(command: &[String], slot: OwnedSemaphorePermit) -> Result<Self, RuleError> {
        let failed = || RuleError::new("the scanner cannot be started");
        let (program, arguments) = command.split_first().ok_or_else(failed)?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|_| failed())?;
        let stdin = child.stdin.take().ok_or_else(failed)?;
        let stdout = BufReader::new(child.stdout.take().ok_or_else(failed)?);
        let mut worker = Self {
            _child: child,
            stdin,
            stdout,
            used: false,
            _slot: slot,
        };
        let hello = worker.line().await.map_err(|_| failed())?;
        let hello: Value = serde_json::from_slice(&hello).map_err(|_| failed())?;
        if hello.get("ready") == Some(&Value::Bool(true)) {
            Ok(worker)
        } else {
            Err(failed())
        }
    }

    async fn exchange(&mut self, line: &[u8]) -> Result<Vec<u8>, Broken> {
        // It may say nothing unasked.
        if !self.stdout.buffer().is_empty() {
            return Err(Broken::TooMuch);
        }
        self.stdin.write_all(line).await.map_err(|_| Broken::Gone)?;
        self.stdin.flush().await.map_err(|_| Broken::Gone)?;
        self.line().await
    }

    async fn line(&mut self) -> Result<Vec<u8>, Broken> {
        let mut line = Vec::new();
        loop {
            let read = self.stdout.fill_buf().await.map_err(|_| Broken::Gone)?;
            if read.is_empty() {
                return Err(Broken::Gone);
            }
            let end = memchr::memchr(b'\n', read);
            let taken = end.unwrap_or(read.len());
            if line.len().saturating_add(taken) > MAX_LINE_BYTES {
                return Err(Broken::TooMuch);
            }
            line.extend_from_slice(read.get(..taken).unwrap_or(read));
            self.stdout
                .consume(taken.saturating_add(usize::from(end.is_some())));
            if end.is_some() {
                return Ok(line);
            }
        }
    }
}
