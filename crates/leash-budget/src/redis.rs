//! [`RedisStore`]: spending kept on a Redis or Valkey server, for many machines. Knows no other store.
//!
//! Each operation is one script, so it is atomic; leases and windows go by the server's clock. All keys of a budget
//! *domain* share a hash tag, so that they lie on one node of a cluster. A life is a number: whoever restores a budget
//! builds the next one beside the present one and then switches to it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use leash_core::{
    AgentName, Caller, Clock, IdGenerator, ReservationId, SessionId, StoreError, StoreErrorKind, SystemClock,
    TenantId, Timestamp, Usd,
};
use leash_store::redis_client::{FromRedisValue, Script, ScriptInvocation, cmd};
use leash_store::{RedisOptions, SharedRedis, StoreUrl};

use crate::store::{CONFIRM_WITHIN, MAX_HITS};
use crate::{
    Balance, BudgetAdmin, BudgetStore, Expired, Generation, Held, Hit, Hits, Hold, HoldLine, Refused,
    Reserve, Restored, Scope, ScopeKey, Settled, Settlement, Standing, Window, Written,
};

/// A script of the operation in `$file`, after what it builds on.
macro_rules! script {
    ($($file:literal),+) => {
        LazyLock::new(|| Script::new(concat!($(include_str!(concat!("redis/", $file, ".lua")), "\n"),+)))
    };
}

static RESERVE: LazyLock<Script> = script!("prelude", "ended", "accounts", "reserve");
static SETTLE: LazyLock<Script> = script!("prelude", "ended", "accounts", "settle");
static RELEASE: LazyLock<Script> = script!("prelude", "ended", "accounts", "release");
static RENEW: LazyLock<Script> = script!("prelude", "renew");
static EXPIRE: LazyLock<Script> = script!("prelude", "ended", "accounts", "expire");
static CONFIRM: LazyLock<Script> = script!("prelude", "ended", "confirm");
static BALANCES: LazyLock<Script> = script!("prelude", "accounts", "balances");
static CLOSE: LazyLock<Script> = script!("prelude", "accounts", "close");
static RESET: LazyLock<Script> = script!("prelude", "accounts", "reset");
static HIT: LazyLock<Script> = script!("prelude", "hit");
static LIST: LazyLock<Script> = script!("prelude", "accounts", "list");
static STANDING: LazyLock<Script> = script!("prelude", "standing");
static LOOK: LazyLock<Script> = script!("look");
static BEGIN: LazyLock<Script> = script!("begin");
static PUT: LazyLock<Script> = script!("put");
static SWITCH: LazyLock<Script> = script!("switch");
static ACCEPT: LazyLock<Script> = script!("accept");
static UPGRADE: LazyLock<Script> = script!("upgrade");
static SWEEP: LazyLock<Script> = script!("sweep");

/// The schema of the keys, as `meta` has it.
const SCHEMA: &str = "2";
/// The one before it.
const EARLIER_SCHEMA: &str = "1";
/// How many things one script handles at most: the server answers nobody else meanwhile.
const BATCH: usize = 200;
/// The longest lease and window that is told apart from "for ever": 200 years, so that every moment stays below 2⁵³ µs.
const LONGEST_MICROS: u128 = 6_311_520_000_000_000;

/// How a budget on a Redis server is opened.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RedisStoreOptions {
    /// Which of the budgets on the server: 1 to 64 letters, digits, `.`, `-`, `_`. Where it is `None`, that of the address
    /// (`redis://host/0?domain=NAME`), or else `default`.
    pub domain: Option<String>,
    /// The generation that is expected, where it is known from before: any other is refused.
    pub generation: Option<Generation>,
    /// How the server is spoken to.
    pub redis: RedisOptions,
}

/// Keeps spending on a Redis or Valkey server (7.0 or later), or on one node of a cluster, by its clock.
///
/// Cheap to clone. No operation waits longer than the time-out of its options. A question whose connection broke is
/// asked once more: then [`Settled::applied`] may be `false` although nobody else settled.
///
#[doc = include_str!("redis/keys.md")]
#[derive(Clone)]
pub struct RedisStore {
    inner: Arc<Inner>,
}

struct Inner {
    server: SharedRedis,
    prefix: String,
    life: RwLock<Arc<Life>>,
    warnings: Vec<String>,
    /// In place of the server's clock.
    clock: Option<Arc<dyn Clock>>,
    /// Under which batches of expired holds are kept for this client.
    me: String,
    /// How many batches of expired holds have arrived.
    batches: tokio::sync::Mutex<u64>,
}

/// What this client knows of the life that it opened.
struct Life {
    generation: Generation,
    /// The highest number that the server has acknowledged.
    seen: AtomicU64,
    is_lost: AtomicBool,
}

impl Life {
    fn new(generation: Generation, seen: u64) -> Arc<Self> {
        Arc::new(Self {
            generation,
            seen: AtomicU64::new(seen),
            is_lost: AtomicBool::new(false),
        })
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("url", self.inner.server.url())
            .field("prefix", &self.inner.prefix)
            .finish_non_exhaustive()
    }
}

fn corrupt() -> StoreError {
    StoreError::new(
        StoreErrorKind::Corrupt,
        "read the budget: what the server keeps makes no sense",
    )
}

fn lost() -> StoreError {
    StoreError::new(
        StoreErrorKind::Generation,
        "use the budget: the server forgot what it had acknowledged; rebuild it with `llm-leash budget restore`",
    )
}

fn conflict(message: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Conflict, message)
}

fn domain_of(url: &StoreUrl, options: &RedisStoreOptions) -> Result<String, StoreError> {
    let in_url = || {
        let (_, query) = url.with_secrets().rsplit_once('?')?;
        query.split('&').find_map(|part| part.strip_prefix("domain="))
    };
    let domain = options.domain.as_deref().or_else(in_url).unwrap_or("default");
    let is_plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '.' | '-' | '_');
    if domain.is_empty() || domain.len() > 64 || !domain.chars().all(is_plain) {
        return Err(conflict(
            "use this name of a budget domain: it has 1 to 64 letters, digits, `.`, `-`, `_`",
        ));
    }
    Ok(domain.to_owned())
}

fn new_id() -> String {
    IdGenerator::from_os().reservation(SystemClock.now()).to_string()
}

fn id_text(id: ReservationId) -> String {
    format!("{:032x}", id.as_u128())
}

fn window_letter(window: Window) -> &'static str {
    match window {
        Window::Total => "t",
        Window::Minute => "m",
        Window::Hour => "h",
        Window::Day => "d",
        Window::Month => "o",
    }
}

fn window_of(letter: &str) -> Result<Window, StoreError> {
    Window::ALL
        .into_iter()
        .find(|window| window_letter(*window) == letter)
        .ok_or_else(corrupt)
}

fn micros(duration: Duration) -> String {
    duration.as_micros().min(LONGEST_MICROS).to_string()
}

fn lease_micros(lease: Duration) -> String {
    if lease.as_micros() > LONGEST_MICROS {
        "inf".to_owned()
    } else {
        lease.as_micros().to_string()
    }
}

fn usd(text: &str) -> Result<Usd, StoreError> {
    let nanos = text.parse().map_err(|_| corrupt())?;
    Usd::from_nanos(nanos).map_err(|_| corrupt())
}

fn cap_text(cap: Option<Usd>) -> String {
    cap.map(|cap| cap.as_nanos().to_string()).unwrap_or_default()
}

fn cap_of(text: &str) -> Result<Option<Usd>, StoreError> {
    if text.is_empty() {
        Ok(None)
    } else {
        usd(text).map(Some)
    }
}

fn line_text(line: &HoldLine) -> String {
    let (kind, first, second) = match &line.what {
        Held::Model { provider, model } => ("m", &**provider, Some(&**model)),
        Held::Tool { tool } => ("t", &**tool, None),
        Held::Grant { child } => ("g", child.as_str(), None),
    };
    serde_json::json!([
        kind,
        first,
        second,
        line.caller.session_id.as_str(),
        line.caller.tenant_id.as_ref().map(TenantId::as_str),
        line.caller.agent_name.as_ref().map(AgentName::as_str),
        line.request_digest.to_string(),
    ])
    .to_string()
}

fn line_of(text: &str) -> Result<HoldLine, StoreError> {
    let fields: [Option<String>; 7] = serde_json::from_str(text).map_err(|_| corrupt())?;
    let [kind, first, second, session, tenant, agent, digest] = fields;
    let first = first.ok_or_else(corrupt)?;
    Ok(HoldLine {
        what: match kind.as_deref() {
            Some("m") => Held::Model {
                provider: first.into(),
                model: second.ok_or_else(corrupt)?.into(),
            },
            Some("t") => Held::Tool { tool: first.into() },
            Some("g") => Held::Grant {
                child: ScopeKey::new(first),
            },
            _ => return Err(corrupt()),
        },
        caller: Caller {
            session_id: SessionId::new(session.ok_or_else(corrupt)?).map_err(|_| corrupt())?,
            tenant_id: tenant.map(TenantId::new).transpose().map_err(|_| corrupt())?,
            agent_name: agent.map(AgentName::new).transpose().map_err(|_| corrupt())?,
        },
        request_digest: digest
            .and_then(|digest| digest.parse().ok())
            .ok_or_else(corrupt)?,
    })
}

fn scope_of(fields: &[String]) -> Result<Scope, StoreError> {
    let [key, window, cap, soft_cap] = fields else {
        return Err(corrupt());
    };
    Ok(Scope {
        key: ScopeKey::new(key.as_str()),
        window: window_of(window)?,
        cap: cap_of(cap)?,
        soft_cap: cap_of(soft_cap)?,
    })
}

fn hold_of(head: &[String], scopes: &[String]) -> Result<Hold, StoreError> {
    let [id, amount, lease, line] = head else {
        return Err(corrupt());
    };
    let nanos: u128 = lease.parse().map_err(|_| corrupt())?;
    let seconds = u64::try_from(nanos / 1_000_000_000).map_err(|_| corrupt())?;
    let rest = u32::try_from(nanos % 1_000_000_000).map_err(|_| corrupt())?;
    Ok(Hold {
        id: ReservationId::from_u128(u128::from_str_radix(id, 16).map_err(|_| corrupt())?),
        amount: usd(amount)?,
        scopes: scopes.chunks(4).map(scope_of).collect::<Result<_, _>>()?,
        lease: Duration::new(seconds, rest),
        line: line_of(line)?,
    })
}

fn balance(key: &ScopeKey, window: Window, sums: &[String]) -> Result<Balance, StoreError> {
    let [spent, reserved] = sums else {
        return Err(corrupt());
    };
    Ok(Balance {
        key: key.clone(),
        window,
        spent: usd(spent)?,
        reserved: usd(reserved)?,
    })
}

fn balances_of(scopes: &[Scope], sums: &[String]) -> Result<Vec<Balance>, StoreError> {
    if sums.len() != scopes.len().saturating_mul(2) {
        return Err(corrupt());
    }
    scopes
        .iter()
        .zip(sums.chunks(2))
        .map(|(scope, sums)| balance(&scope.key, scope.window, sums))
        .collect()
}

fn expired_of(item: &[String]) -> Result<Expired, StoreError> {
    // Four of the hold, two of its end, and four and two of each scope.
    let count = item.len().saturating_sub(6) / 6;
    let (head, rest) = item.split_at_checked(4).ok_or_else(corrupt)?;
    let (end, rest) = rest.split_at_checked(2).ok_or_else(corrupt)?;
    let [charged, is_settled] = end else {
        return Err(corrupt());
    };
    let (scopes, sums) = rest
        .split_at_checked(count.saturating_mul(4))
        .ok_or_else(corrupt)?;
    let hold = hold_of(head, scopes)?;
    let balances = balances_of(&hold.scopes, sums)?;
    Ok(Expired {
        hold,
        charged: usd(charged)?,
        is_settled: is_settled == "1",
        balances,
    })
}

fn standing_of(item: &[String]) -> Result<Standing, StoreError> {
    let (until, item) = item.split_last().ok_or_else(corrupt)?;
    let (head, scopes) = item.split_at_checked(4).ok_or_else(corrupt)?;
    Ok(Standing {
        hold: hold_of(head, scopes)?,
        until: if until == "inf" {
            Timestamp::MAX
        } else {
            let micros = until.parse().map_err(|_| corrupt())?;
            Timestamp::from_unix_micros(micros).map_err(|_| corrupt())?
        },
    })
}

/// Each pair of key and window once: twice, the second would overwrite the first.
fn check(scopes: &[Scope]) -> Result<(), StoreError> {
    for (at, scope) in scopes.iter().enumerate() {
        let is_same = |other: &Scope| other.key == scope.key && other.window == scope.window;
        if scopes.iter().skip(at.saturating_add(1)).any(is_same) {
            return Err(conflict("charge a scope twice for one call"));
        }
    }
    Ok(())
}

/// What of the server's settings may lose money, in sentences.
async fn warnings(server: &SharedRedis) -> Vec<String> {
    const WHAT: &str = "read the settings of the server";
    let setting = async |name: &str| -> Option<String> {
        let mut ask = cmd("CONFIG");
        ask.arg("GET").arg(name);
        let found: HashMap<String, String> = server.query(WHAT, &ask).await.ok()?;
        found.into_values().next()
    };
    let info = async |section: &str, name: &str| -> Option<String> {
        let mut ask = cmd("INFO");
        ask.arg(section);
        let found: String = server.query(WHAT, &ask).await.ok()?;
        let found = found.lines().find_map(|line| line.strip_prefix(name));
        found
            .and_then(|line| line.strip_prefix(':'))
            .map(|value| value.trim().to_owned())
    };
    let mut found = Vec::new();
    let policy = match setting("maxmemory-policy").await {
        Some(policy) => Some(policy),
        None => info("memory", "maxmemory_policy").await,
    };
    match policy.as_deref() {
        Some("noeviction") => {}
        Some(policy) => found.push(format!(
            "`maxmemory-policy` is `{policy}`: the server may throw spending away when its memory is full; set `noeviction`"
        )),
        None => found.push("`maxmemory-policy` cannot be read: make sure that it is `noeviction`".to_owned()),
    }
    let is_appending = match setting("appendonly").await {
        Some(on) => Some(on == "yes"),
        None => info("persistence", "aof_enabled").await.map(|on| on == "1"),
    };
    match is_appending {
        Some(true) => {
            if let Some(often) = setting("appendfsync").await.filter(|often| often != "always") {
                found.push(format!(
                    "`appendfsync` is `{often}`: a crash may lose the last seconds of spending, after which the budget \
                     refuses until it is restored; `always` is slower and loses nothing"
                ));
            }
        }
        Some(false) if setting("save").await.is_some_and(|save| save.is_empty()) => found.push(
            "the server keeps nothing on disk: a restart loses all spending; set `appendonly yes`".to_owned(),
        ),
        Some(false) => found.push(
            "the server keeps snapshots only: a crash loses the spending since the last one; set `appendonly yes`"
                .to_owned(),
        ),
        None => found.push("`appendonly` cannot be read: make sure that it is `yes`".to_owned()),
    }
    found
}

/// A call of `script` on the budget whose keys begin with `prefix`.
///
/// It names two keys, of which the first is never there. So while a cluster moves the slot of the budget to another node,
/// both nodes refuse (`TRYAGAIN`): of what has moved in part, the rest would look like nothing spent.
fn on<'a>(script: &'a Script, prefix: &str) -> ScriptInvocation<'a> {
    let mut call = script.key(prefix);
    call.key(format!("{prefix}meta"));
    call
}

/// What is on the server: generation, schema, number, whether data was lost.
struct Found {
    generation: Option<Generation>,
    schema: String,
    seq: u64,
    is_lost: bool,
}

async fn look(server: &SharedRedis, prefix: &str) -> Result<Found, StoreError> {
    let [generation, schema, seq, lost]: [String; 4] =
        server.invoke("look for the budget", &on(&LOOK, prefix)).await?;
    Ok(Found {
        generation: (!generation.is_empty()).then(|| Generation::new(generation)),
        schema,
        seq: seq.parse().map_err(|_| corrupt())?,
        is_lost: !lost.is_empty(),
    })
}

impl RedisStore {
    /// Opens the budget at `url`.
    ///
    /// # Errors
    /// [`StoreErrorKind::Generation`] where there is none, where it is not the expected one, or where the server lost data:
    /// nothing is begun unasked, as an empty budget allows everything. [`StoreErrorKind::Conflict`] for an address or a
    /// schema that this build does not know. Any other where the server cannot be asked.
    pub async fn open(url: &StoreUrl, options: RedisStoreOptions) -> Result<Self, StoreError> {
        let refused = |message| StoreError::new(StoreErrorKind::Generation, message);
        let (server, prefix) = Self::connect(url, &options)?;
        let found = look(&server, &prefix).await?;
        let Some(generation) = found.generation else {
            return Err(refused(if options.generation.is_some() {
                format!(
                    "open the budget at `{url}`: the server lost it; rebuild it with `llm-leash budget restore`"
                )
            } else {
                format!(
                    "open the budget at `{url}`: there is none yet; begin one with `llm-leash budget init URL`"
                )
            }));
        };
        if found.schema == EARLIER_SCHEMA {
            let _: u64 = server.invoke("open the budget", &on(&UPGRADE, &prefix)).await?;
        } else if found.schema != SCHEMA {
            return Err(conflict(
                "open the budget: its keys have a schema that this version does not know",
            ));
        }
        if options.generation.is_some_and(|expected| expected != generation) {
            return Err(refused(format!(
                "open the budget at `{url}`: it is another one than expected, or was rebuilt"
            )));
        }
        if found.is_lost {
            return Err(lost());
        }
        Ok(Self::with(server, prefix, Life::new(generation, found.seq)).await)
    }

    /// Begins a budget at `url`, empty, and opens it.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`] where there is one; [`StoreErrorKind::Generation`] where a generation is expected, which no
    /// new budget has; else as [`RedisStore::open`].
    pub async fn init(url: &StoreUrl, options: RedisStoreOptions) -> Result<Self, StoreError> {
        const WHAT: &str = "begin a budget";
        if options.generation.is_some() {
            return Err(StoreError::new(
                StoreErrorKind::Generation,
                "begin a budget: one is expected that has begun already",
            ));
        }
        let (server, prefix) = Self::connect(url, &options)?;
        if look(&server, &prefix).await?.generation.is_some() {
            return Err(conflict("begin a budget: there is one already"));
        }
        let generation = Generation::new(new_id());
        let life: u64 = server.invoke(WHAT, &on(&BEGIN, &prefix)).await?;
        let mut switch = on(&SWITCH, &prefix);
        switch.arg(generation.as_str()).arg(life).arg(0);
        let (seq, there): (u64, String) = server.invoke(WHAT, &switch).await?;
        // Zero and our own name: the first answer was lost on its way, and this is the second.
        if seq == 0 && there != generation.as_str() {
            return Err(conflict("begin a budget: there is one already"));
        }
        Ok(Self::with(server, prefix, Life::new(generation, seq)).await)
    }

    /// Opens what is at `url`, be it a budget, the rest of one or nothing, for [`BudgetAdmin::restore`] and
    /// [`RedisStore::accept_loss`]: until then every other operation may refuse.
    ///
    /// # Errors
    /// As [`RedisStore::open`], but for those of the kind [`StoreErrorKind::Generation`].
    pub async fn open_for_restore(url: &StoreUrl, options: RedisStoreOptions) -> Result<Self, StoreError> {
        let (server, prefix) = Self::connect(url, &options)?;
        let found = look(&server, &prefix).await?;
        // A generation that no store has.
        let generation = found.generation.unwrap_or_else(|| Generation::new("-"));
        Ok(Self::with(server, prefix, Life::new(generation, found.seq)).await)
    }

    fn connect(url: &StoreUrl, options: &RedisStoreOptions) -> Result<(SharedRedis, String), StoreError> {
        let server = SharedRedis::new(url, &options.redis)?;
        Ok((
            server,
            format!("llm_leash:{{budget:{}}}:", domain_of(url, options)?),
        ))
    }

    async fn with(server: SharedRedis, prefix: String, life: Arc<Life>) -> Self {
        let warnings = warnings(&server).await;
        for warning in &warnings {
            tracing::warn!(store = %server.url(), "{warning}");
        }
        Self {
            inner: Arc::new(Inner {
                server,
                prefix,
                life: RwLock::new(life),
                warnings,
                clock: None,
                me: new_id(),
                batches: tokio::sync::Mutex::new(0),
            }),
        }
    }

    /// The same budget by another clock than the server's, for tests of what happens at midnight. Nobody else has it open.
    #[cfg(feature = "conformance")]
    #[doc(hidden)]
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        let inner = &self.inner;
        Self {
            inner: Arc::new(Inner {
                server: inner.server.clone(),
                prefix: inner.prefix.clone(),
                life: RwLock::new(self.life()),
                warnings: inner.warnings.clone(),
                clock: Some(clock),
                // Its questions are numbered anew, so they are not those of the other.
                me: new_id(),
                batches: tokio::sync::Mutex::new(0),
            }),
        }
    }

    /// What of the server's settings may lose money, in sentences; read when the budget was opened.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.inner.warnings
    }

    /// Goes on with what the server still has, under a new generation, after it lost data. What it forgot was spent is
    /// not counted.
    ///
    /// # Errors
    /// [`StoreErrorKind::Generation`] where nothing is there; any other where the server cannot be asked.
    pub async fn accept_loss(&self) -> Result<Generation, StoreError> {
        let generation = Generation::new(new_id());
        let mut accept = on(&ACCEPT, &self.inner.prefix);
        accept.arg(generation.as_str());
        let seq: u64 = self
            .inner
            .server
            .invoke("go on with the rest of a budget", &accept)
            .await?;
        if seq == 0 {
            return Err(StoreError::new(
                StoreErrorKind::Generation,
                "go on with the rest of a budget: nothing is left",
            ));
        }
        self.live(Life::new(generation.clone(), seq));
        Ok(generation)
    }

    fn life(&self) -> Arc<Life> {
        self.inner
            .life
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn live(&self, life: Arc<Life>) {
        *self.inner.life.write().unwrap_or_else(PoisonError::into_inner) = life;
    }

    /// Runs a script in the life that was opened, and checks that it is still that one, with all of its past.
    async fn run<T: FromRedisValue>(
        &self,
        what: &'static str,
        script: &'static Script,
        fill: impl FnOnce(&mut ScriptInvocation<'_>) + Send,
    ) -> Result<(String, T), StoreError> {
        let life = self.life();
        if life.is_lost.load(Ordering::Acquire) {
            return Err(lost());
        }
        let noted = life.seen.load(Ordering::Acquire);
        let now = self.inner.clock.as_ref();
        let now = now.map(|clock| clock.now().as_unix_micros().to_string());
        let mut call = on(script, &self.inner.prefix);
        call.arg(life.generation.as_str())
            .arg(noted)
            .arg(now.unwrap_or_default());
        fill(&mut call);
        let (word, seq, answer): (String, u64, T) = self.inner.server.invoke(what, &call).await?;
        if word == "generation" {
            return Err(StoreError::new(
                StoreErrorKind::Generation,
                "use the budget: it is not the one that was opened; the server lost it, or it was rebuilt",
            ));
        }
        if word == "lost" || seq < noted {
            life.is_lost.store(true, Ordering::Release);
            return Err(lost());
        }
        life.seen.fetch_max(seq, Ordering::AcqRel);
        Ok((word, answer))
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        let mut cursor = "0".to_owned();
        loop {
            let mut sweep = on(&SWEEP, &self.inner.prefix);
            sweep
                .arg(cursor.as_str())
                .arg(format!("{}[0-9]*", self.inner.prefix));
            cursor = self
                .inner
                .server
                .invoke("take away an earlier life of the budget", &sweep)
                .await?;
            if cursor == "0" {
                return Ok(());
            }
        }
    }
}

/// The span and the sum of each key and window.
type Newest<'a> = BTreeMap<(&'a ScopeKey, Window), (i64, Usd)>;

/// One sum of each key and window, in its newest span.
fn newest(sums: &[Restored]) -> Result<Newest<'_>, StoreError> {
    let mut newest = BTreeMap::new();
    for sum in sums {
        let span = sum.window.index(sum.at);
        let (at, spent) = newest.entry((&sum.key, sum.window)).or_insert((span, Usd::ZERO));
        if span > *at {
            (*at, *spent) = (span, Usd::ZERO);
        }
        if span == *at {
            *spent = spent
                .checked_add(sum.spent)
                .ok_or_else(|| conflict("restore a budget: a sum is above the largest amount"))?;
        }
    }
    Ok(newest)
}

#[async_trait]
impl BudgetStore for RedisStore {
    fn is_durable(&self) -> bool {
        true
    }

    async fn reserve(&self, hold: &Hold) -> Result<Reserve, StoreError> {
        check(&hold.scopes)?;
        let (word, sums): (String, Vec<String>) = self
            .run("reserve", &RESERVE, |call| {
                call.arg(id_text(hold.id))
                    .arg(lease_micros(hold.lease))
                    .arg(hold.amount.as_nanos())
                    .arg(hold.lease.as_nanos().to_string())
                    .arg(line_text(&hold.line));
                for scope in hold.scopes.iter() {
                    call.arg(scope.key.as_str())
                        .arg(window_letter(scope.window))
                        .arg(cap_text(scope.cap))
                        .arg(cap_text(scope.soft_cap));
                }
            })
            .await?;
        match (word.as_str(), sums.as_slice()) {
            ("granted", sums) => balances_of(&hold.scopes, sums).map(Reserve::Granted),
            ("refused", [at, cap, sums @ ..]) => {
                let at: usize = at.parse().map_err(|_| corrupt())?;
                let scope = hold.scopes.get(at).ok_or_else(corrupt)?;
                Ok(Reserve::Refused(Refused {
                    cap: usd(cap)?,
                    balance: balance(&scope.key, scope.window, sums)?,
                }))
            }
            ("used", _) => Err(conflict("reserve under an id that was used before")),
            _ => Err(corrupt()),
        }
    }

    async fn settle(&self, settlement: &Settlement) -> Result<Settled, StoreError> {
        check(&settlement.scopes)?;
        let (_, answer): (String, Vec<String>) = self
            .run("settle", &SETTLE, |call| {
                let may_owe = settlement.owes_line.then(|| micros(CONFIRM_WITHIN));
                call.arg(id_text(settlement.id))
                    .arg(settlement.amount.as_nanos())
                    .arg(may_owe.unwrap_or_default());
                for scope in settlement.scopes.iter() {
                    call.arg(scope.key.as_str()).arg(window_letter(scope.window));
                }
            })
            .await?;
        let [applied, was_expired, sums @ ..] = answer.as_slice() else {
            return Err(corrupt());
        };
        Ok(Settled {
            balances: balances_of(&settlement.scopes, sums)?,
            applied: applied == "1",
            was_expired: was_expired == "1",
        })
    }

    async fn release(&self, id: ReservationId) -> Result<(), StoreError> {
        self.run::<Vec<String>>("release a reservation", &RELEASE, |call| {
            call.arg(id_text(id));
        })
        .await
        .map(|_| ())
    }

    async fn renew(&self, id: ReservationId, lease: Duration) -> Result<(), StoreError> {
        self.run::<Vec<String>>("renew a reservation", &RENEW, |call| {
            call.arg(id_text(id)).arg(lease_micros(lease));
        })
        .await
        .map(|_| ())
    }

    async fn expire(&self, limit: usize) -> Result<Vec<Expired>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        // One batch after the other: whose answer is lost, the same is asked for again.
        let mut batches = self.inner.batches.lock().await;
        let (_, items): (String, Vec<Vec<String>>) = self
            .run("expire reservations", &EXPIRE, |call| {
                call.arg(limit.min(BATCH))
                    .arg(self.inner.me.as_str())
                    .arg(*batches)
                    .arg(micros(CONFIRM_WITHIN));
            })
            .await?;
        *batches = batches.wrapping_add(1);
        items.iter().map(|item| expired_of(item)).collect()
    }

    async fn confirm(&self, lines: &[Written]) -> Result<(), StoreError> {
        for some in lines.chunks(BATCH) {
            self.run::<Vec<String>>("confirm that lines are written", &CONFIRM, |call| {
                for Written { id, charged } in some {
                    call.arg(id_text(*id)).arg(charged.as_nanos());
                }
            })
            .await?;
        }
        Ok(())
    }

    async fn balances(&self, scopes: &[Scope]) -> Result<Vec<Balance>, StoreError> {
        let (_, sums): (String, Vec<String>) = self
            .run("read the budget", &BALANCES, |call| {
                for scope in scopes {
                    call.arg(scope.key.as_str()).arg(window_letter(scope.window));
                }
            })
            .await?;
        balances_of(scopes, &sums)
    }

    async fn close(&self, key: &ScopeKey) -> Result<Balance, StoreError> {
        let (_, sums): (String, Vec<String>) = self
            .run("close a scope", &CLOSE, |call| {
                call.arg(key.as_str());
            })
            .await?;
        balance(key, Window::Total, &sums)
    }

    async fn hit(&self, hit: &Hit) -> Result<Hits, StoreError> {
        if hit.within.is_some() && hit.limit > MAX_HITS {
            return Err(conflict("count so many events in a window"));
        }
        let (_, answer): (String, Vec<String>) = self
            .run("count an event", &HIT, |call| {
                call.arg(hit.key.as_str())
                    .arg(hit.limit)
                    .arg(hit.within.map(micros).unwrap_or_default());
            })
            .await?;
        let [count, is_allowed] = answer.as_slice() else {
            return Err(corrupt());
        };
        Ok(Hits {
            count: count.parse().map_err(|_| corrupt())?,
            is_allowed: is_allowed == "1",
        })
    }
}

#[async_trait]
impl BudgetAdmin for RedisStore {
    async fn generation(&self) -> Result<Generation, StoreError> {
        self.run::<Vec<String>>("read the generation of the budget", &BALANCES, |_| {})
            .await?;
        Ok(self.life().generation.clone())
    }

    async fn list(
        &self,
        after: Option<(&ScopeKey, Window)>,
        limit: usize,
    ) -> Result<Vec<Balance>, StoreError> {
        let mut found: Vec<Balance> = Vec::new();
        while found.len() < limit {
            let (key, window) = match found.last() {
                Some(last) => (last.key.as_str(), window_letter(last.window)),
                None => after.map_or(("", ""), |(key, window)| (key.as_str(), window_letter(window))),
            };
            let want = limit.saturating_sub(found.len()).min(BATCH);
            let (_, items): (String, Vec<String>) = self
                .run("list the budget", &LIST, |call| {
                    call.arg(want).arg(key).arg(window);
                })
                .await?;
            for item in items.chunks(4) {
                let [key, window, sums @ ..] = item else {
                    return Err(corrupt());
                };
                found.push(balance(&ScopeKey::new(key.as_str()), window_of(window)?, sums)?);
            }
            if items.is_empty() {
                break;
            }
        }
        Ok(found)
    }

    /// Reads all holds, however few are asked for, part by part: what is made or ended meanwhile may be missed.
    async fn standing(
        &self,
        after: Option<ReservationId>,
        limit: usize,
    ) -> Result<Vec<Standing>, StoreError> {
        let mut found = BTreeMap::new();
        let mut cursor = "0".to_owned();
        loop {
            let (_, items): (String, Vec<Vec<String>>) = self
                .run("list the reservations", &STANDING, |call| {
                    call.arg(cursor.as_str()).arg(BATCH);
                })
                .await?;
            let [next, items @ ..] = items.as_slice() else {
                return Err(corrupt());
            };
            cursor = next.first().cloned().ok_or_else(corrupt)?;
            for item in items {
                let standing = standing_of(item)?;
                if after.is_none_or(|after| standing.hold.id > after) {
                    found.insert(standing.hold.id, standing);
                }
                if found.len() > limit {
                    found.pop_last();
                }
            }
            if cursor == "0" {
                return Ok(found.into_values().collect());
            }
        }
    }

    async fn reset(&self, key: &ScopeKey) -> Result<Balance, StoreError> {
        let (_, sums): (String, Vec<String>) = self
            .run("reset a scope", &RESET, |call| {
                call.arg(key.as_str());
            })
            .await?;
        balance(key, Window::Total, &sums)
    }

    async fn restore(&self, sums: &[Restored]) -> Result<Generation, StoreError> {
        const WHAT: &str = "restore a budget";
        let server = &self.inner.server;
        let prefix = self.inner.prefix.as_str();
        let sums = newest(sums)?;
        let generation = Generation::new(new_id());
        let number: u64 = server.invoke(WHAT, &on(&BEGIN, prefix)).await?;
        let mut sums = sums.into_iter().peekable();
        while sums.peek().is_some() {
            let mut put = on(&PUT, prefix);
            put.arg(number);
            for ((key, window), (span, spent)) in sums.by_ref().take(BATCH) {
                put.arg(key.as_str())
                    .arg(window_letter(window))
                    .arg(span)
                    .arg(spent.as_nanos());
            }
            server.invoke::<u64>(WHAT, &put).await?;
        }
        let mut switch = on(&SWITCH, prefix);
        switch.arg(generation.as_str()).arg(number).arg(1);
        let (seq, there): (u64, String) = server.invoke(WHAT, &switch).await?;
        if there != generation.as_str() {
            return Err(conflict("restore a budget: somebody else did at the same time"));
        }
        self.live(Life::new(generation.clone(), seq));
        if let Err(error) = self.sweep().await {
            // Nobody reads it any more; the next time takes it away.
            tracing::warn!(%error, "the former life of the budget still fills the server's memory");
        }
        Ok(generation)
    }
}
