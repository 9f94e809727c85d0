//! [`View`]: what a process knows of a registry that lies outside of it.
//!
//! A call asks the view, which costs nanoseconds. One task keeps the view current: it reads the registry at every beat
//! and at every hint, and all that is read or written goes through one lock, so that nothing older ever replaces
//! something newer. What was last read is trusted for a fixed time counted from before the question was sent; after
//! that a call is refused, unless somebody chose otherwise by name.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use leash_core::{Caller, SessionId, StoreError, StoreErrorKind};
use tokio::sync::{Mutex, Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant as TokioInstant;

use crate::{Answer, KillOrder, KillRegistry, Leniency, Target, Unsure};

/// From the order to the first refused call there are 300 ms; this much of it is for the view.
const TRUST: Duration = Duration::from_millis(250);
/// How long a call waits for news where the view has just run out of its time: a process that was held up should go
/// on, not refuse. Together with [`TRUST`] it stays below 300 ms.
const PATIENCE: Duration = Duration::from_millis(40);
/// The slowest beat that leaves time for more than one.
const SLOWEST_POLL: Duration = Duration::from_millis(100);
const FASTEST_POLL: Duration = Duration::from_millis(1);

/// Told of every answer that only a lenient setting allowed.
type UnsureHook = Arc<dyn Fn(&Caller, Unsure) + Send + Sync>;

/// How a registry outside of this process is watched.
///
/// ```
/// use std::time::Duration;
/// use leash_kill::ViewOptions;
///
/// // For those who would rather miss an order for two seconds than stop at every hiccup of the network.
/// let options = ViewOptions::default().grace(Duration::from_secs(2));
/// # let _ = options;
/// ```
#[derive(Clone)]
pub struct ViewOptions {
    poll: Option<Duration>,
    timeout: Duration,
    grace: Duration,
    fail_open: bool,
    idle: Duration,
    max_sessions: usize,
    on_unsure: Option<UnsureHook>,
}

impl Default for ViewOptions {
    fn default() -> Self {
        Self {
            poll: None,
            timeout: Duration::from_secs(1),
            grace: Duration::ZERO,
            fail_open: false,
            idle: Duration::from_mins(1),
            max_sessions: 100_000,
            on_unsure: None,
        }
    }
}

impl fmt::Debug for ViewOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ViewOptions")
            .field("poll", &self.poll)
            .field("timeout", &self.timeout)
            .field("grace", &self.grace)
            .field("fail_open", &self.fail_open)
            .field("idle", &self.idle)
            .field("max_sessions", &self.max_sessions)
            .finish_non_exhaustive()
    }
}

impl ViewOptions {
    /// How often the registry is read: 1 to 100 ms. Unless set, 10 ms for SQLite, 25 ms for Redis, 50 ms for HTTP.
    #[must_use]
    pub const fn poll(mut self, poll: Duration) -> Self {
        self.poll = Some(poll);
        self
    }

    /// How long one question to the registry may take. 1 s unless set.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long one question to the registry may take.
    #[cfg(feature = "redis")]
    pub(crate) const fn reading_timeout(&self) -> Duration {
        self.timeout
    }

    /// Trusts what was last read for so much longer. An order given meanwhile is missed for as long.
    #[must_use]
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Lets whoever is not known to be stopped go on while the registry is out of reach, for as long as it is:
    /// who can cut the registry off can outlive a kill order.
    #[must_use]
    pub const fn fail_open(mut self) -> Self {
        self.fail_open = true;
        self
    }

    /// How long a session that asks no more is kept in the view. 60 s unless set.
    #[must_use]
    pub const fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// The most sessions in the view; those beyond are refused. 100,000 unless set.
    #[must_use]
    pub const fn max_sessions(mut self, max_sessions: usize) -> Self {
        self.max_sessions = max_sessions;
        self
    }

    /// Calls `hook` for every answer that only [`ViewOptions::grace`] or [`ViewOptions::fail_open`] allowed. It is
    /// called in the path of the call, so it must not block.
    #[must_use]
    pub fn on_unsure(mut self, hook: impl Fn(&Caller, Unsure) + Send + Sync + 'static) -> Self {
        self.on_unsure = Some(Arc::new(hook));
        self
    }
}

/// What a registry says when it is read.
#[derive(Debug)]
pub(crate) enum Reading {
    /// Nothing changed since the version that was named. Redis has no versions.
    #[cfg(any(feature = "sqlite", feature = "http"))]
    Unchanged,
    /// What stands.
    State {
        /// Names this state, where the registry has names for states.
        version: Option<String>,
        /// Orders for sessions: for those that were asked about, at least.
        sessions: Vec<KillOrder>,
        /// All orders for anything wider.
        wide: Vec<KillOrder>,
    },
}

/// A registry as it lies outside: it is asked, each time.
#[async_trait]
pub(crate) trait Backend: fmt::Debug + Send + Sync + 'static {
    /// How often it is read where nobody says otherwise.
    fn poll(&self) -> Duration;

    /// Reads the orders of `sessions` and all wider ones. With `since`, it may say that nothing changed for the same
    /// sessions since that version.
    async fn read(&self, sessions: &[SessionId], since: Option<&str>) -> Result<Reading, StoreError>;

    async fn kill(&self, order: &KillOrder) -> Result<(), StoreError>;

    async fn clear(&self, target: &Target) -> Result<bool, StoreError>;

    async fn orders(&self) -> Result<Vec<KillOrder>, StoreError>;

    /// Calls `hint` whenever something may have changed, sooner than the next beat would tell. Never returns.
    async fn watch(&self, hint: &(dyn Fn() + Send + Sync));
}

/// What is known of a session, or of a caller.
#[derive(Clone, PartialEq, Eq)]
enum Look {
    Known(Option<KillOrder>),
    Unknown,
}

struct Entry {
    /// Unknown until the registry was asked.
    known: Look,
    /// The second, of the view's own clock, in which it was last asked for.
    asked: AtomicU64,
}

#[derive(Default)]
struct State {
    /// The hash is seeded at random, so that ids cannot be picked to collide, and quick: it is on the path of every
    /// call.
    sessions: HashMap<SessionId, Entry, foldhash::quality::RandomState>,
    /// Sorted by target: from the narrowest to the widest.
    wide: Vec<KillOrder>,
}

/// A finished round of reading.
#[derive(Clone, Default)]
struct Round {
    /// Why it failed, if it did.
    failure: Option<(StoreErrorKind, Arc<str>)>,
}

struct Shared {
    backend: Box<dyn Backend>,
    options: ViewOptions,
    poll: Duration,
    /// For how long a reading is trusted.
    window: Duration,
    base: Instant,
    /// Nanoseconds from `base` to just before the last full reading was asked for; 0 for none yet.
    contact: AtomicU64,
    /// Whole seconds since `base`, at the last round.
    second: AtomicU64,
    state: RwLock<State>,
    /// Held while the registry is read or written; holds the version of the last full reading.
    io: Mutex<Option<String>>,
    wake: Notify,
    hinted: AtomicBool,
    rounds: watch::Sender<Round>,
    changes: watch::Sender<u64>,
}

/// See the module.
pub(crate) struct View {
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 3],
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("backend", &self.shared.backend)
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl Drop for View {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl View {
    /// Watches `backend` from now on, on the runtime that this is called in.
    pub(crate) fn new(backend: impl Backend, options: ViewOptions) -> Self {
        let poll = options
            .poll
            .unwrap_or_else(|| backend.poll())
            .clamp(FASTEST_POLL, SLOWEST_POLL);
        let shared = Arc::new(Shared {
            backend: Box::new(backend),
            window: TRUST.saturating_sub(poll),
            options,
            poll,
            base: Instant::now(),
            contact: AtomicU64::new(0),
            second: AtomicU64::new(0),
            state: RwLock::default(),
            io: Mutex::new(None),
            wake: Notify::new(),
            hinted: AtomicBool::new(false),
            rounds: watch::Sender::new(Round::default()),
            changes: watch::Sender::new(0),
        });
        let tasks = [
            tokio::spawn({
                let shared = shared.clone();
                async move { shared.keep().await }
            }),
            tokio::spawn({
                let shared = shared.clone();
                async move { shared.warn_when_silent().await }
            }),
            tokio::spawn({
                let shared = shared.clone();
                async move {
                    let hint = || {
                        shared.hinted.store(true, Ordering::SeqCst);
                        shared.wake.notify_one();
                    };
                    shared.backend.watch(&hint).await;
                }
            }),
        ];
        Self { shared, tasks }
    }
}

#[async_trait]
impl KillRegistry for View {
    async fn standing(&self, caller: &Caller) -> Result<Option<KillOrder>, StoreError> {
        // Spelled out twice, here and in `ask`, so that what is asked at every call is boxed once; and the long way is
        // boxed apart, so that the short one is a small box.
        if let Look::Known(order) = self.shared.at_once(caller)? {
            return Ok(order);
        }
        Box::pin(self.shared.slowly(caller))
            .await
            .map(|answer| answer.order)
    }

    fn at_once(&self, caller: &Caller) -> Option<Result<Answer, StoreError>> {
        match self.shared.at_once(caller) {
            Ok(Look::Known(order)) => Some(Ok(Answer::sure(order))),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        }
    }

    async fn ask(&self, caller: &Caller) -> Result<Answer, StoreError> {
        if let Some(known) = self.at_once(caller) {
            return known;
        }
        Box::pin(self.shared.slowly(caller)).await
    }

    async fn kill(&self, order: KillOrder) -> Result<(), StoreError> {
        let mut version = self.shared.io.lock().await;
        // Whatever comes of it, the next reading is a whole one.
        *version = None;
        self.shared.backend.kill(&order).await?;
        self.shared.apply_order(&order.target.clone(), Some(order))?;
        Ok(())
    }

    async fn clear(&self, target: &Target) -> Result<bool, StoreError> {
        let mut version = self.shared.io.lock().await;
        *version = None;
        let stood = self.shared.backend.clear(target).await?;
        self.shared.apply_order(target, None)?;
        Ok(stood)
    }

    async fn orders(&self) -> Result<Vec<KillOrder>, StoreError> {
        self.shared.backend.orders().await
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// How long ago the registry was known to be as the view shows it.
    fn silence(&self) -> Option<Duration> {
        match self.contact.load(Ordering::Acquire) {
            0 => None,
            contact => Some(Duration::from_nanos(self.now().saturating_sub(contact))),
        }
    }

    fn is_trusted(&self) -> bool {
        self.silence().is_some_and(|silence| silence <= self.window)
    }

    fn read(&self) -> Result<RwLockReadGuard<'_, State>, StoreError> {
        self.state.read().map_err(|_| panicked())
    }

    fn write(&self) -> Result<RwLockWriteGuard<'_, State>, StoreError> {
        self.state.write().map_err(|_| panicked())
    }

    fn changed(&self) {
        self.changes
            .send_modify(|version| *version = version.wrapping_add(1));
    }

    fn look(&self, caller: &Caller) -> Result<Look, StoreError> {
        let state = self.read()?;
        let Some(entry) = state.sessions.get(&caller.session_id) else {
            return Ok(Look::Unknown);
        };
        let second = self.second.load(Ordering::Relaxed);
        // Written only where it differs: a store would take the line from every other core.
        if entry.asked.load(Ordering::Relaxed) != second {
            entry.asked.store(second, Ordering::Relaxed);
        }
        Ok(match &entry.known {
            Look::Known(None) => Look::Known(state.wide_order_for(caller)),
            known => known.clone(),
        })
    }

    /// The answer, where the view has one that is certain.
    fn at_once(&self, caller: &Caller) -> Result<Look, StoreError> {
        if self.is_trusted() {
            self.look(caller)
        } else {
            Ok(Look::Unknown)
        }
    }

    /// Asks the registry: for a session that is seen for the first time, or when the view is out of date.
    async fn slowly(&self, caller: &Caller) -> Result<Answer, StoreError> {
        let mut rounds = self.rounds.subscribe();
        let patience = if self.admit_to_view(caller)? {
            self.options.timeout
        } else {
            PATIENCE
        };
        let give_up = Instant::now().checked_add(patience);
        loop {
            if let Look::Known(order) = self.at_once(caller)? {
                return Ok(Answer::sure(order));
            }
            if rounds.borrow_and_update().failure.is_some() {
                return self.without_registry(caller);
            }
            self.wake.notify_one();
            let wait = give_up.map(|at| at.saturating_duration_since(Instant::now()));
            match tokio::time::timeout(wait.unwrap_or(patience), rounds.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return self.without_registry(caller),
            }
        }
    }

    /// Makes sure that the session is among those that are read. Returns whether it is not known yet.
    fn admit_to_view(&self, caller: &Caller) -> Result<bool, StoreError> {
        if let Some(entry) = self.read()?.sessions.get(&caller.session_id) {
            return Ok(entry.known == Look::Unknown);
        }
        let mut state = self.write()?;
        if state.sessions.len() >= self.options.max_sessions {
            return Err(StoreError::new(
                StoreErrorKind::Full,
                "watch one more session for kill orders: the limit of sessions is reached",
            ));
        }
        let asked = AtomicU64::new(self.second.load(Ordering::Relaxed));
        state.sessions.entry(caller.session_id.clone()).or_insert(Entry {
            known: Look::Unknown,
            asked,
        });
        Ok(true)
    }

    /// What is said while the registry is out of reach.
    fn without_registry(&self, caller: &Caller) -> Result<Answer, StoreError> {
        let silence = self.silence();
        let look = self.look(caller)?;
        let order = match &look {
            // It stood when it was last seen, and is refused either way.
            Look::Known(Some(order)) => return Ok(Answer::sure(Some(order.clone()))),
            Look::Known(None) => None,
            Look::Unknown => self.read()?.wide_order_for(caller),
        };
        if order.is_some() {
            return Ok(Answer::sure(order));
        }
        let is_known = matches!(look, Look::Known(_));
        let in_grace =
            silence.is_some_and(|silence| silence <= self.window.saturating_add(self.options.grace));
        let leniency = if is_known && in_grace && !self.options.grace.is_zero() {
            Leniency::Grace
        } else if self.options.fail_open {
            Leniency::FailOpen
        } else {
            return Err(self.refusal(silence));
        };
        let unsure = Unsure {
            leniency,
            silent_for: silence,
        };
        if let Some(hook) = &self.options.on_unsure {
            hook(caller, unsure);
        }
        Ok(Answer {
            order: None,
            unsure: Some(unsure),
        })
    }

    fn refusal(&self, silence: Option<Duration>) -> StoreError {
        let (kind, why) = self
            .rounds
            .borrow()
            .failure
            .clone()
            .unwrap_or((StoreErrorKind::Timeout, "no answer".into()));
        let since = match silence {
            Some(silence) => format!("silent for {} ms", silence.as_millis()),
            None => "never heard of".to_owned(),
        };
        StoreError::new(kind, format!("ask the kill registry, {since}: {why}"))
    }

    /// Reads the registry at every beat and whenever somebody wants it, for ever.
    async fn keep(&self) {
        let mut due = Instant::now();
        let mut swept = 0;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(TokioInstant::from_std(due)) => {}
                () = self.wake.notified() => {}
            }
            let started = Instant::now();
            let full = started >= due || self.hinted.swap(false, Ordering::SeqCst) || !self.is_trusted();
            self.round(full).await;
            if full {
                due = started.checked_add(self.poll).unwrap_or(started);
            }
            let second = self.now() / 1_000_000_000;
            self.second.store(second, Ordering::Relaxed);
            if second != swept {
                swept = second;
                self.sweep(second);
            }
        }
    }

    /// Reads all that the view shows, or only what it lacks.
    async fn round(&self, full: bool) {
        let mut version = self.io.lock().await;
        let started = self.now().max(1);
        let Ok((sessions, lacks)) = self.wanted(full) else {
            return;
        };
        if !full && sessions.is_empty() {
            return;
        }
        let since = version.as_deref().filter(|_| full && !lacks);
        let reading = tokio::time::timeout(self.options.timeout, self.backend.read(&sessions, since)).await;
        let read = match reading {
            #[cfg(any(feature = "sqlite", feature = "http"))]
            Ok(Ok(Reading::Unchanged)) => Ok(version.clone()),
            Ok(Ok(Reading::State {
                version: read,
                sessions: orders,
                wide,
            })) => self.apply(&sessions, &orders, wide).map(|()| read),
            Ok(Err(error)) => Err(error),
            Err(late) => {
                Err(StoreError::new(StoreErrorKind::Timeout, "read the kill registry").with_source(late))
            }
        };
        let failure = match read {
            Ok(read) => {
                if full {
                    *version = read;
                    self.contact.store(started, Ordering::Release);
                }
                None
            }
            Err(error) => Some((error.kind(), error.to_string().into())),
        };
        self.rounds.send_replace(Round { failure });
    }

    /// The sessions to read about, and whether any of them is not known yet.
    fn wanted(&self, full: bool) -> Result<(Vec<SessionId>, bool), StoreError> {
        let state = self.read()?;
        let mut lacks = false;
        let sessions = state
            .sessions
            .iter()
            .filter(|(_, entry)| {
                let is_unknown = entry.known == Look::Unknown;
                lacks |= is_unknown;
                full || is_unknown
            })
            .map(|(id, _)| id.clone())
            .collect();
        Ok((sessions, lacks))
    }

    /// Takes over what was read of `sessions`.
    fn apply(
        &self,
        sessions: &[SessionId],
        orders: &[KillOrder],
        mut wide: Vec<KillOrder>,
    ) -> Result<(), StoreError> {
        wide.sort_by(|one, other| one.target.cmp(&other.target));
        let killed: HashMap<&SessionId, &KillOrder> = orders
            .iter()
            .filter_map(|order| match &order.target {
                Target::Session(id) => Some((id, order)),
                _ => None,
            })
            .collect();
        // Most readings bring nothing new, and should not stand in the way of those who ask.
        let news: Vec<&SessionId> = {
            let state = self.read()?;
            let is_news = |id: &&SessionId| match state.sessions.get(*id).map(|entry| &entry.known) {
                Some(Look::Known(known)) => known.as_ref() != killed.get(*id).copied(),
                Some(Look::Unknown) => true,
                None => false,
            };
            let news: Vec<_> = sessions.iter().filter(is_news).collect();
            if state.wide == wide && news.is_empty() {
                return Ok(());
            }
            news
        };
        {
            let mut state = self.write()?;
            state.wide = wide;
            for id in news {
                if let Some(entry) = state.sessions.get_mut(id) {
                    entry.known = Look::Known(killed.get(id).map(|order| (*order).clone()));
                }
            }
        }
        self.changed();
        Ok(())
    }

    /// Takes over what this process itself ordered.
    fn apply_order(&self, target: &Target, order: Option<KillOrder>) -> Result<(), StoreError> {
        {
            let mut state = self.write()?;
            if let Target::Session(id) = target {
                // One that is not in the view will be asked about when it is first seen.
                if let Some(entry) = state.sessions.get_mut(id) {
                    entry.known = Look::Known(order);
                }
            } else {
                state.wide.retain(|standing| standing.target != *target);
                state.wide.extend(order);
                state.wide.sort_by(|one, other| one.target.cmp(&other.target));
            }
        }
        self.changed();
        Ok(())
    }

    /// Forgets sessions that nobody asked for lately. Before, whoever waits for changes is woken once and asks again,
    /// which keeps a session that streams for an hour.
    fn sweep(&self, second: u64) {
        let idle = self.options.idle.as_secs().max(1);
        let last_call = second.saturating_sub(idle);
        let gone = second.saturating_sub(idle.saturating_add(2));
        let Ok(mut state) = self.write() else { return };
        let mut wake = false;
        state.sessions.retain(|_, entry| {
            let asked = entry.asked.load(Ordering::Relaxed);
            wake |= asked < last_call;
            asked >= gone
        });
        drop(state);
        if wake {
            self.changed();
        }
    }

    /// Wakes what runs when the view is not trusted any more, so that it asks, and is refused.
    async fn warn_when_silent(&self) {
        loop {
            let left = match self.silence() {
                Some(silence) if silence <= self.window => {
                    // A moment past the end of the window.
                    self.window.saturating_sub(silence).saturating_add(FASTEST_POLL)
                }
                _ => {
                    self.changed();
                    TRUST
                }
            };
            tokio::time::sleep(left).await;
        }
    }
}

impl State {
    /// The narrowest of the wide orders that covers the caller.
    fn wide_order_for(&self, caller: &Caller) -> Option<KillOrder> {
        self.wide
            .iter()
            .find(|order| order.target.covers(caller))
            .cloned()
    }
}

fn panicked() -> StoreError {
    StoreError::new(
        StoreErrorKind::Corrupt,
        "use the view of the kill registry: a thread panicked in it",
    )
}
