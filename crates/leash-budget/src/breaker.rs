//! Rules that count in the budget store, so that they hold for all processes that share it: [`LoopBreaker`],
//! [`MaxCalls`]; and rules that are a scope under a cap: [`SpendRate`], [`MaxToolBudget`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use leash_core::{
    Action, AsyncRule, Call, Decision, Digest, PolicyContext, RuleError, SessionId, ToolCall, Usd,
};

use crate::{BudgetStore, Hit, Scope, ScopeKey, Window};

/// Blocks a tool call that a session has made too often with the same arguments within a time: an agent that goes in
/// circles. Its id is `loop_breaker`.
///
/// The calls that it lets through are counted, even if something else refuses them later; those that it blocks are not, so
/// a call passes again once the earlier ones are `within` ago. Arguments are the same if their canonical JSON is: neither the
/// order of members matters nor how a number is spelt (`1` and `1.0`), a changed number does. Calls of models are not looked
/// at.
///
/// ```
/// # futures_executor::block_on(async {
/// use std::sync::Arc;
/// use std::time::Duration;
/// use leash_budget::{LoopBreaker, MemoryStore};
/// use leash_core::{AsyncRule as _, Call, Caller, PolicyContext, SessionId, SystemClock, Timestamp, ToolCall};
///
/// let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
/// let rule = LoopBreaker::new(store, 2, Duration::from_mins(1));
/// let caller = Caller::session(SessionId::new("s_1")?);
/// let call = Call::from(ToolCall::new("search", serde_json::json!({"q": "weather"}), caller));
/// let context = PolicyContext::new(Timestamp::EPOCH);
/// assert!(rule.evaluate(&call, &context).await?.is_none());
/// assert!(rule.evaluate(&call, &context).await?.is_none());
/// assert!(rule.evaluate(&call, &context).await?.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct LoopBreaker {
    store: Arc<dyn BudgetStore>,
    limit: u32,
    within: Duration,
    kind: &'static str,
}

impl LoopBreaker {
    /// The id of this rule.
    pub const ID: &'static str = "loop_breaker";

    /// Allows each tool `limit` calls with the same arguments within the time. Above [`MAX_HITS`](crate::MAX_HITS) the
    /// store refuses to count, and so every call of a tool is blocked.
    #[must_use]
    pub fn new(store: Arc<dyn BudgetStore>, limit: u32, within: Duration) -> Self {
        Self {
            store,
            limit,
            within,
            kind: "loop",
        }
    }

    /// Counts apart from one without this: for tool calls that a model asks for, which are mostly made afterwards.
    #[must_use]
    pub fn of_requests(mut self) -> Self {
        self.kind = "loop_asked";
        self
    }
}

#[async_trait]
impl AsyncRule for LoopBreaker {
    fn id(&self) -> &str {
        Self::ID
    }

    async fn evaluate(&self, call: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        let Call::Tool(tool_call) = call else {
            return Ok(None);
        };
        let what = alike(tool_call);
        // A store counts each key within one time, so breakers of different times have keys of their own.
        let kind = format!("{}/{}us", self.kind, self.within.as_micros());
        let hit = Hit {
            key: counter(&kind, &tool_call.caller.session_id, what.as_bytes()),
            limit: self.limit,
            within: Some(self.within),
        };
        let reason = || {
            format!(
                "the same tool was called with the same arguments {} times within {}",
                self.limit,
                Seconds(self.within)
            )
        };
        count(&self.store, &hit, Self::ID, reason).await
    }
}

/// Blocks what a session calls too often. Its id is `max_calls`.
///
/// The calls that it lets through are counted, even if something else refuses them later. The count lasts as long as the
/// store's data.
#[derive(Clone, Debug)]
pub struct MaxCalls {
    store: Arc<dyn BudgetStore>,
    limit: u32,
    tool: Option<Arc<str>>,
    kind: &'static str,
}

impl MaxCalls {
    /// The id of this rule.
    pub const ID: &'static str = "max_calls";

    /// Allows each session `limit` calls, of tools and models together.
    #[must_use]
    pub fn new(store: Arc<dyn BudgetStore>, limit: u32) -> Self {
        Self {
            store,
            limit,
            tool: None,
            kind: "calls",
        }
    }

    /// Counts apart from one without this: for tool calls that a model asks for, which are mostly made afterwards.
    #[must_use]
    pub fn of_requests(mut self) -> Self {
        self.kind = "calls_asked";
        self
    }

    /// Counts the calls of one tool only; calls of a provider's models go by `openai.call` and the like.
    #[must_use]
    pub fn of(mut self, tool: impl Into<Arc<str>>) -> Self {
        self.tool = Some(tool.into());
        self
    }
}

#[async_trait]
impl AsyncRule for MaxCalls {
    fn id(&self) -> &str {
        Self::ID
    }

    async fn evaluate(&self, call: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        let what = match &self.tool {
            Some(tool) if is_of(call, tool) => Digest::of(tool.as_bytes()),
            Some(_) => return Ok(None),
            // No hash of any tool's name.
            None => Digest::ZERO,
        };
        let hit = Hit {
            key: counter(self.kind, &call.caller().session_id, what.as_bytes()),
            limit: self.limit,
            within: None,
        };
        let reason = || match &self.tool {
            Some(_) => format!("the session has called this tool {} times", self.limit),
            None => format!("the session has made {} calls", self.limit),
        };
        count(&self.store, &hit, Self::ID, reason).await
    }
}

/// Whether `tool` is what [`Call::tool`] says, without making its text.
fn is_of(call: &Call, tool: &str) -> bool {
    match call {
        Call::Tool(call) => *call.tool == *tool,
        Call::Model(call) => tool.strip_suffix(".call") == Some(&call.provider),
    }
}

async fn count(
    store: &Arc<dyn BudgetStore>,
    hit: &Hit,
    id: &'static str,
    reason: impl Fn() -> String + Send,
) -> Result<Option<Decision>, RuleError> {
    let hits = store
        .hit(hit)
        .await
        .map_err(|error| RuleError::new(error.to_string()))?;
    Ok((!hits.is_allowed).then(|| Decision::new(Action::Block, id, reason())))
}

/// What a call asks for: the same for all spellings of its arguments.
fn alike(call: &ToolCall) -> Digest {
    let tool = Digest::of(call.tool.as_bytes());
    Digest::of_parts(&[plain_numbers(&call.args.canonical()).as_bytes(), tool.as_bytes()])
}

/// Canonical JSON with whole numbers that have no fraction. It keeps apart `1` and `1.0`, as logs do.
fn plain_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut number = String::new();
    let (mut is_text, mut is_escaped) = (false, false);
    for char in text.chars() {
        if is_text {
            is_text = char != '"' || is_escaped;
            is_escaped = char == '\\' && !is_escaped;
            out.push(char);
            continue;
        }
        let is_exponent = matches!(char, 'e' | 'E') && !number.is_empty();
        if is_exponent || matches!(char, '0'..='9' | '-' | '+' | '.') {
            number.push(char);
            continue;
        }
        out.push_str(plain(&number));
        number.clear();
        is_text = char == '"';
        out.push(char);
    }
    out.push_str(plain(&number));
    out
}

fn plain(number: &str) -> &str {
    match number.strip_suffix(".0").unwrap_or(number) {
        "-0" => "0",
        number => number,
    }
}

/// The key of a counter of a session. Names are hashed, `what` last and of one length, so none can be made to fall on
/// another, nor to be of any length.
fn counter(kind: &str, session: &SessionId, what: &[u8; 32]) -> ScopeKey {
    let digest = Digest::of_parts(&[session.as_str().as_bytes(), what]);
    ScopeKey::named(kind, &digest.to_string())
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.as_secs(), self.0.subsec_millis()) {
            (1, 0) => f.write_str("1 second"),
            (seconds, 0) => write!(f, "{seconds} seconds"),
            (seconds, millis) => write!(f, "{seconds}.{millis:03} seconds"),
        }
    }
}

/// A rule that is kept by a scope under a cap: the call's bound must fit under it, as under any other, so it cannot be
/// crossed, however many callers race. Whoever reserves adds the scope to the hold, and names the rule if it is refused there.
pub trait ScopeRule: fmt::Debug + Send + Sync + 'static {
    /// The name under which it refuses.
    fn id(&self) -> &str;

    /// The scope of this call; `None` where the rule has nothing to say about it.
    fn scope(&self, call: &Call) -> Option<Scope>;
}

/// Limits what a session spends in a minute: a runaway loop of dear calls. Its id is `spend_rate`.
///
/// The minute is that of the clock, in which the call is reserved; what calls under way could cost at most counts as spent.
/// So a call whose own bound is above the limit is always refused. A session spends at most twice the limit in any sixty
/// seconds that two minutes share.
///
/// ```
/// use leash_budget::{ScopeRule as _, SpendRate, Window};
/// use leash_core::{Call, Caller, SessionId, ToolCall};
///
/// let rule = SpendRate::new("0.25".parse()?);
/// let caller = Caller::session(SessionId::new("s_1")?);
/// let scope = rule.scope(&Call::from(ToolCall::new("search", serde_json::json!({}), caller))).unwrap();
/// assert_eq!((scope.key.as_str(), scope.window), ("session:s_1", Window::Minute));
/// assert_eq!(scope.cap, Some("0.25".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpendRate {
    per_minute: Usd,
}

impl SpendRate {
    /// The id of this rule.
    pub const ID: &'static str = "spend_rate";

    /// Allows each session so much a minute.
    #[must_use]
    pub const fn new(per_minute: Usd) -> Self {
        Self { per_minute }
    }
}

impl ScopeRule for SpendRate {
    fn id(&self) -> &str {
        Self::ID
    }

    fn scope(&self, call: &Call) -> Option<Scope> {
        let scope = Scope::session(&call.caller().session_id, self.per_minute);
        Some(scope.per(Window::Minute))
    }
}

/// Limits what a session spends on one tool that has a price. Its id is `max_tool_budget`.
///
/// It counts under a key of its own, `tool:` with the length of the session's id in bytes, the id, and the tool's name:
/// `tool:3:s_1/search`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaxToolBudget {
    tool: Arc<str>,
    cap: Usd,
}

impl MaxToolBudget {
    /// The id of this rule.
    pub const ID: &'static str = "max_tool_budget";

    /// Allows each session to spend `cap` on `tool`, in all.
    #[must_use]
    pub fn new(tool: impl Into<Arc<str>>, cap: Usd) -> Self {
        Self {
            tool: tool.into(),
            cap,
        }
    }

    /// Under which key a session's calls of the tool are counted.
    #[must_use]
    pub fn key(&self, session: &SessionId) -> ScopeKey {
        // With the length in front, no id can end in what looks like a tool's name.
        let length = session.as_str().len();
        ScopeKey::named("tool", &format!("{length}:{session}/{}", self.tool))
    }
}

impl ScopeRule for MaxToolBudget {
    fn id(&self) -> &str {
        Self::ID
    }

    fn scope(&self, call: &Call) -> Option<Scope> {
        let Call::Tool(call) = call else { return None };
        (call.tool == self.tool).then(|| Scope::capped(self.key(&call.caller.session_id), self.cap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::ManualClock;
    use crate::{Balance, Expired, Hits, Hold, MemoryStore, Reserve, Settled, Settlement};
    use futures_executor::block_on;
    use leash_core::{Caller, ModelCall, ReservationId, StoreError, StoreErrorKind, Timestamp};
    use serde_json::json;

    #[derive(Debug)]
    struct BrokenStore;

    fn broken<T>() -> Result<T, StoreError> {
        Err(StoreError::new(StoreErrorKind::Unavailable, "reach the store"))
    }

    #[async_trait]
    impl BudgetStore for BrokenStore {
        fn is_durable(&self) -> bool {
            true
        }
        async fn reserve(&self, _: &Hold) -> Result<Reserve, StoreError> {
            broken()
        }
        async fn settle(&self, _: &Settlement) -> Result<Settled, StoreError> {
            broken()
        }
        async fn release(&self, _: ReservationId) -> Result<(), StoreError> {
            broken()
        }
        async fn renew(&self, _: ReservationId, _: Duration) -> Result<(), StoreError> {
            broken()
        }
        async fn expire(&self, _: usize) -> Result<Vec<Expired>, StoreError> {
            broken()
        }
        async fn confirm(&self, _: &[crate::Written]) -> Result<(), StoreError> {
            broken()
        }
        async fn balances(&self, _: &[Scope]) -> Result<Vec<Balance>, StoreError> {
            broken()
        }
        async fn close(&self, _: &ScopeKey) -> Result<Balance, StoreError> {
            broken()
        }
        async fn hit(&self, _: &Hit) -> Result<Hits, StoreError> {
            broken()
        }
    }

    fn caller(session: &str) -> Caller {
        Caller::session(SessionId::new(session).unwrap())
    }

    fn tool(session: &str, tool: &str, args: serde_json::Value) -> Call {
        Call::from(ToolCall::new(tool, args, caller(session)))
    }

    fn model(session: &str) -> Call {
        Call::from(ModelCall::new("openai", "gpt-4o", json!([]), 10, caller(session)))
    }

    fn passes(rule: &dyn AsyncRule, call: &Call) -> bool {
        let context = PolicyContext::new(Timestamp::EPOCH);
        match block_on(rule.evaluate(call, &context)).unwrap() {
            None => true,
            Some(decision) => {
                assert_eq!((decision.action, &*decision.rule_id), (Action::Block, rule.id()));
                false
            }
        }
    }

    fn store() -> (Arc<ManualClock>, Arc<MemoryStore>) {
        let clock = Arc::new(ManualClock::new(Timestamp::EPOCH));
        (clock.clone(), Arc::new(MemoryStore::new(clock)))
    }

    #[test]
    fn a_loop_is_broken_and_may_go_on_when_the_window_has_passed() {
        let (clock, store) = store();
        let rule = LoopBreaker::new(store, 2, Duration::from_secs(10));
        let call = tool("s", "search", json!({"q": 1, "n": 2}));
        assert!(passes(&rule, &call));
        clock.set(Timestamp::from_unix_seconds(5));
        assert!(passes(&rule, &tool("s", "search", json!({"n": 2, "q": 1}))));
        assert!(!passes(&rule, &call));
        clock.set(Timestamp::from_unix_seconds(10));
        assert!(passes(&rule, &call), "the first is forgotten");
        assert!(!passes(&rule, &call), "the second is not");
    }

    #[test]
    fn breakers_of_different_times_count_each_call_once_and_keep_their_own() {
        let (clock, store) = store();
        let quick = LoopBreaker::new(store.clone(), 2, Duration::from_secs(10));
        let slow = LoopBreaker::new(store, 4, Duration::from_secs(100));
        let call = tool("s", "search", json!({"q": 1}));
        for second in [0, 20, 40, 60] {
            clock.set(Timestamp::from_unix_seconds(second));
            assert!(passes(&quick, &call) && passes(&slow, &call), "{second}");
        }
        clock.set(Timestamp::from_unix_seconds(80));
        assert!(passes(&quick, &call) && !passes(&slow, &call));
    }

    #[test]
    fn arguments_are_the_same_however_they_are_spelt() {
        let (_, store) = store();
        let rule = LoopBreaker::new(store, 1, Duration::from_secs(10));
        let call = |text: &str| {
            let args = leash_core::Json::parse(text.to_owned()).unwrap();
            Call::from(ToolCall::new("search", args, caller("s")))
        };
        assert!(passes(
            &rule,
            &call(r#"{"q":"caf\u00e9","n":[1,2.50,-0],"m":{"a":true,"b":null}}"#)
        ));
        for same in [
            r#"{"m":{"b":null,"a":true},"n":[1.0,2.5,0],"q":"café"}"#,
            r#" { "n" : [ 1e0 , 25e-1 , -0.0 ] , "q" : "caf\u00E9" , "m" : { "a" : true , "b" : null } } "#,
        ] {
            assert!(!passes(&rule, &call(same)), "{same}");
        }
        for other in [
            r#"{"q":"café","n":[2.5,1,0],"m":{"a":true,"b":null}}"#,
            r#"{"q":"café","n":[1,2.5,0],"m":{"a":true}}"#,
            r#"{"q":"cafe\u0301","n":[1,2.5,0],"m":{"a":true,"b":null}}"#,
            r#"{"q":"café","n":["1",2.5,0],"m":{"a":true,"b":null}}"#,
            r#"{"q":"café","n":[1,2.5,"-0"],"m":{"a":true,"b":null}}"#,
            r#"{"q":"caf\"é 1.0","n":[1,2.5,0],"m":{"a":true,"b":null}}"#,
            r#"{"q":"caf\"é 1","n":[1,2.5,0],"m":{"a":true,"b":null}}"#,
            r#"{"q":"caf\\","n":[10,2.5,0],"m":{"a":true,"b":null}}"#,
        ] {
            assert!(passes(&rule, &call(other)), "{other}");
        }
    }

    #[test]
    fn a_loop_is_of_one_session_one_tool_and_one_set_of_arguments() {
        let (_, store) = store();
        let rule = LoopBreaker::new(store, 1, Duration::from_secs(10));
        assert!(passes(&rule, &tool("s", "search", json!({"q": 1}))));
        assert!(passes(&rule, &tool("s", "search", json!({"q": 2}))));
        assert!(passes(&rule, &tool("s", "find", json!({"q": 1}))));
        assert!(passes(&rule, &tool("t", "search", json!({"q": 1}))));
        assert!(!passes(&rule, &tool("t", "search", json!({"q": 1}))));
        assert!(passes(&rule, &model("s")) && passes(&rule, &model("s")));
    }

    #[test]
    fn calls_are_counted_by_session_or_by_session_and_tool() {
        let (_, store) = store();
        let all = MaxCalls::new(store.clone(), 3);
        let mail = MaxCalls::new(store.clone(), 1).of("mail");
        let models = MaxCalls::new(store, 1).of("openai.call");
        for call in [
            tool("s", "mail", json!({})),
            tool("s", "search", json!({})),
            model("s"),
        ] {
            assert!(passes(&all, &call) && passes(&mail, &call) && passes(&models, &call));
        }
        assert!(!passes(&all, &model("s")) && !passes(&all, &tool("s", "x", json!({}))));
        assert!(!passes(&mail, &tool("s", "mail", json!({"to": "other"}))));
        assert!(!passes(&models, &model("s")));
        assert!(passes(&mail, &tool("t", "mail", json!({}))) && passes(&all, &model("t")));
    }

    #[test]
    fn no_name_falls_on_another() {
        let key = |session: &str, tool: &str| {
            MaxToolBudget::new(tool, Usd::MAX).key(&SessionId::new(session).unwrap())
        };
        assert_ne!(key("a", "b/c"), key("a/b", "c"));
        assert_ne!(key("1:a", "b"), key("1", "a/b"));
        let what = |tool: &str| *Digest::of(tool.as_bytes()).as_bytes();
        let session = |text: &str| SessionId::new(text).unwrap();
        assert_ne!(
            counter("calls", &session("ab"), &what("c")),
            counter("calls", &session("a"), &what("bc"))
        );
    }

    #[test]
    fn a_store_that_cannot_count_is_an_error_so_the_call_is_blocked() {
        let store: Arc<dyn BudgetStore> = Arc::new(BrokenStore);
        let context = PolicyContext::new(Timestamp::EPOCH);
        let rules: [Box<dyn AsyncRule>; 2] = [
            Box::new(LoopBreaker::new(store.clone(), 5, Duration::from_secs(1))),
            Box::new(MaxCalls::new(store, 5)),
        ];
        for rule in rules {
            assert!(block_on(rule.evaluate(&tool("s", "t", json!({})), &context)).is_err());
        }
    }

    #[test]
    fn a_tool_budget_is_for_its_tool_only() {
        let rule = MaxToolBudget::new("search", Usd::from_cents(5).unwrap());
        let scope = rule.scope(&tool("s_1", "search", json!({}))).unwrap();
        assert_eq!(
            (scope.key.as_str(), scope.cap),
            ("tool:3:s_1/search", Some(Usd::from_cents(5).unwrap()))
        );
        assert_eq!(rule.scope(&tool("s_1", "find", json!({}))), None);
        assert_eq!(rule.scope(&model("s_1")), None);
    }
}
