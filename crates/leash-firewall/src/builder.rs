//! [`FirewallBuilder`]: everything that a firewall can be told before it starts.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use leash_audit::{AuditError, AuditLog};
use leash_budget::{
    BudgetStore, Grant, MaxToolBudget, MemoryStore, PriceTable, Scope, ScopeRule, SpendRate, TokenCounter,
    Window,
};
use leash_core::{
    AgentName, AsyncRule, Caller, Clock, IdGenerator, PolicyEngine, Redactor, Rule, SessionId, SystemClock,
    TenantId, Usd, UsdError,
};
use leash_hitl::HitlGate;
use leash_kill::{KillRegistry, MemoryKillRegistry};
use leash_policy::{AllowedTools, DeniedTools, Policy, Redactors};

use crate::breakers::{Breakers, Counts};
use crate::clamp::Clamp;
use crate::firewall::Firewall;
use crate::journal::{GrantChange, Journal};
use crate::path::Shared;
use crate::scopes::{Caps, Over};
use crate::session::Session;
use crate::settler::{self, Settler};

/// Why a firewall could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A cap that is no amount: NaN, infinite, negative or too large.
    #[error("failed to set `{what}`: {source}")]
    Cap {
        /// Which cap.
        what: &'static str,
        /// What is wrong with it.
        source: UsdError,
    },
    /// The audit log could not be opened.
    #[error("failed to open the audit log: {0}")]
    Audit(#[from] AuditError),
    /// A cap over tenants or agents was set, and the caller has none.
    #[error(
        "failed to set a cap for the {0}: the firewall has none; give it one by `tenant_id` or `agent_name`"
    )]
    NoSuchParty(&'static str),
    /// The thread that settles dropped calls could not be started.
    #[error("failed to start the settling thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// Builds a [`Firewall`]. Everything has a default: no caps, no log, a store and a registry in memory, list prices.
#[must_use]
pub struct FirewallBuilder {
    caps: Caps,
    /// The first cap that was no amount; told when the firewall is built, so that the builder's chain stays a chain.
    invalid: Option<BuildError>,
    grant: Option<Grant>,
    clamp: Clamp,
    max_server_tool_uses: Option<u64>,
    store: Option<Arc<dyn BudgetStore>>,
    prices: PriceTable,
    tool_prices: HashMap<String, Usd>,
    audit_path: Option<PathBuf>,
    audit: Option<AuditLog>,
    registry: Option<Arc<dyn KillRegistry>>,
    session_id: Option<SessionId>,
    tenant_id: Option<TenantId>,
    agent_name: Option<AgentName>,
    first_rules: Vec<Arc<dyn Rule>>,
    rules: Vec<Arc<dyn Rule>>,
    async_rules: Vec<Arc<dyn AsyncRule>>,
    counts: Vec<Counts>,
    scope_rules: Vec<Arc<dyn ScopeRule>>,
    redactor: Option<Arc<dyn Redactor>>,
    policy_version: Option<Arc<str>>,
    /// The versions of the policy files that rules came from.
    policy_files: Vec<String>,
    gate: Option<Arc<dyn HitlGate>>,
    token_counter: Option<Arc<dyn TokenCounter>>,
    clock: Arc<dyn Clock>,
    max_in_flight: usize,
    lease: Duration,
}

impl fmt::Debug for FirewallBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirewallBuilder")
            .field("caps", &self.caps)
            .finish_non_exhaustive()
    }
}

impl Default for FirewallBuilder {
    fn default() -> Self {
        Self {
            caps: Caps::default(),
            invalid: None,
            grant: None,
            clamp: Clamp::default(),
            max_server_tool_uses: None,
            store: None,
            prices: PriceTable::embedded(),
            tool_prices: HashMap::new(),
            audit_path: None,
            audit: None,
            registry: None,
            session_id: None,
            tenant_id: None,
            agent_name: None,
            first_rules: Vec::new(),
            rules: Vec::new(),
            async_rules: Vec::new(),
            counts: Vec::new(),
            scope_rules: Vec::new(),
            redactor: None,
            policy_version: None,
            policy_files: Vec::new(),
            gate: None,
            token_counter: None,
            clock: Arc::new(SystemClock),
            max_in_flight: 16_384,
            lease: Duration::from_mins(10),
        }
    }
}

impl FirewallBuilder {
    fn amount(&mut self, what: &'static str, dollars: f64) -> Option<Usd> {
        Usd::from_f64(dollars)
            .map_err(|source| self.invalid.get_or_insert(BuildError::Cap { what, source }))
            .ok()
    }

    /// The session's hard cap in dollars: it spends this much at most. 0 allows nothing.
    ///
    /// What is no amount (NaN, infinite, negative) is refused by [`build`](Self::build).
    pub fn budget_usd(mut self, dollars: f64) -> Self {
        let cap = self.amount("budget_usd", dollars);
        self.caps.set_cap(Over::Session, Window::Total, cap);
        self
    }

    /// The session's hard cap.
    pub fn budget(self, cap: Usd) -> Self {
        self.cap(Over::Session, Window::Total, cap)
    }

    /// The session's soft cap in dollars: beyond it, the log has a `budget` line `soft_exceeded`; calls go on.
    pub fn budget_soft_usd(mut self, dollars: f64) -> Self {
        let cap = self.amount("budget_soft_usd", dollars);
        self.caps.set_soft_cap(Over::Session, Window::Total, cap);
        self
    }

    /// The session's soft cap.
    pub fn budget_soft(self, cap: Usd) -> Self {
        self.soft_cap(Over::Session, Window::Total, cap)
    }

    /// A hard cap over all sessions of the tenant, as far as they share the budget store.
    pub fn tenant_budget(self, cap: Usd) -> Self {
        self.cap(Over::Tenant, Window::Total, cap)
    }

    /// A hard cap over all sessions of the agent, as far as they share the budget store.
    pub fn agent_budget(self, cap: Usd) -> Self {
        self.cap(Over::Agent, Window::Total, cap)
    }

    /// A hard cap over everything in the budget store.
    pub fn global_budget(self, cap: Usd) -> Self {
        self.cap(Over::Everything, Window::Total, cap)
    }

    /// A hard cap over whatever is counted together, in one span of the calendar. All caps that are set hold at once.
    ///
    /// ```
    /// use leash_firewall::{Firewall, Over, Window};
    ///
    /// let fw = Firewall::builder()
    ///     .budget_usd(2.00)
    ///     .cap(Over::Session, Window::Hour, "0.50".parse()?)
    ///     .cap(Over::Everything, Window::Month, "900".parse()?)
    ///     .soft_cap(Over::Everything, Window::Month, "600".parse()?)
    ///     .build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cap(mut self, over: Over, window: Window, cap: Usd) -> Self {
        self.caps.set_cap(over, window, Some(cap));
        self
    }

    /// A soft cap: beyond it, the log has a `budget` line `soft_exceeded`; calls go on.
    pub fn soft_cap(mut self, over: Over, window: Window, cap: Usd) -> Self {
        self.caps.set_soft_cap(over, window, Some(cap));
        self
    }

    /// Caps over anything else that is counted together, such as a team. Each pair of key and window stands once; the
    /// last cap and the last soft cap that are given for it count. Where [`cap`](Self::cap) is over the same, the narrower
    /// holds.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.caps.add(scope);
        self
    }

    /// Spends a part of another session's budget, in the place of one of its own: what a session would be capped by
    /// (`budget_usd` and the like) does not hold then, the caps over agent, tenant and everything do.
    ///
    /// The grant comes from [`Firewall::give`], mostly as text from another process. Give it the same budget store.
    pub fn grant(mut self, grant: Grant) -> Self {
        self.grant = Some(grant);
        self
    }

    /// Which calls are lowered to what their budget affords, where they do not fit under a cap. Default: those that set
    /// no maximum of output.
    pub fn clamp(mut self, clamp: Clamp) -> Self {
        self.clamp = clamp;
        self
    }

    /// How often the provider may run tools itself in one call that offers them and says no number (`max_uses`): its bound
    /// counts on no more. Without this such a call is refused. The adapters write it into the request where its format has
    /// a word for it. Elsewhere a provider that runs them more often may pass the bound, and then a cap.
    pub fn max_server_tool_uses(mut self, uses: u64) -> Self {
        self.max_server_tool_uses = Some(uses);
        self
    }

    /// Where spending is kept. Default: in memory, for this process.
    pub fn budget_store(mut self, store: Arc<dyn BudgetStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// What models cost. Default: the list prices this version was built with.
    pub fn prices(mut self, prices: PriceTable) -> Self {
        self.prices = prices;
        self
    }

    /// What a call of a tool costs. Tools without a price are free.
    pub fn tool_price(mut self, tool: impl Into<String>, price: Usd) -> Self {
        self.tool_prices.insert(tool.into(), price);
        self
    }

    /// Writes the audit log to this file. One process writes a log at a time.
    pub fn audit_log(mut self, path: impl Into<PathBuf>) -> Self {
        self.audit_path = Some(path.into());
        self
    }

    /// Writes to a log that is open already, with the durability it was opened with.
    pub fn audit(mut self, log: AuditLog) -> Self {
        self.audit = Some(log);
        self
    }

    /// Who is stopped. Default: a registry in memory, for this process.
    pub fn kill_registry(mut self, registry: Arc<dyn KillRegistry>) -> Self {
        self.registry = Some(registry);
        self
    }

    /// The session. Default: a generated one.
    pub fn session_id(mut self, id: SessionId) -> Self {
        self.session_id = Some(id);
        self
    }

    /// The tenant.
    pub fn tenant_id(mut self, id: TenantId) -> Self {
        self.tenant_id = Some(id);
        self
    }

    /// The agent.
    pub fn agent_name(mut self, name: AgentName) -> Self {
        self.agent_name = Some(name);
        self
    }

    /// Adds a rule after those that are there.
    pub fn rule(mut self, rule: impl Rule) -> Self {
        self.rules.push(Arc::new(rule));
        self
    }

    /// Adds rules after those that are there.
    pub fn rules(mut self, rules: impl IntoIterator<Item = Arc<dyn Rule>>) -> Self {
        self.rules.extend(rules);
        self
    }

    /// Adds a rule that asks another process. Such rules come after all others.
    pub fn async_rule(mut self, rule: impl AsyncRule) -> Self {
        self.async_rules.push(Arc::new(rule));
        self
    }

    /// The agent may call only these tools (`*` stands for any characters). Judged before every other rule.
    pub fn allowed_tools<I: IntoIterator<Item: Into<String>>>(mut self, tools: I) -> Self {
        self.first_rules.push(Arc::new(AllowedTools::new(tools)));
        self
    }

    /// The agent may not call these tools (`*` stands for any characters). Judged before every other rule.
    pub fn denied_tools<I: IntoIterator<Item: Into<String>>>(mut self, tools: I) -> Self {
        self.first_rules.push(Arc::new(DeniedTools::new(tools)));
        self
    }

    /// Blocks a tool call that the session has made `times` times with the same arguments within the time: an agent that goes
    /// in circles. It counts in the budget store; what a model asks for and what is called count apart. `times` is at most
    /// [`MAX_HITS`](leash_budget::MAX_HITS), or everything is blocked. Several of different times all hold.
    pub fn loop_breaker(mut self, times: u32, within: Duration) -> Self {
        self.counts.push(Counts::Loop(times, within));
        self
    }

    /// Blocks what the session calls after this many calls, of tools and models together. It counts in the budget store.
    /// Of several the lowest number holds.
    pub fn max_calls(mut self, calls: u32) -> Self {
        self.counts.push(Counts::Calls(calls));
        self
    }

    /// Blocks calls of one tool after this many by the session; a provider's models go by `openai.call` and the like.
    pub fn max_calls_of(mut self, tool: impl Into<Arc<str>>, calls: u32) -> Self {
        self.counts.push(Counts::CallsOf(tool.into(), calls));
        self
    }

    /// What a session spends in a minute of the clock at most: a breaker for a runaway loop. Calls are refused by
    /// `spend_rate` until the next minute.
    pub fn spend_rate(self, per_minute: Usd) -> Self {
        self.scope_rule(SpendRate::new(per_minute))
    }

    /// What a session spends on one tool that has a price at most; refused by `max_tool_budget`.
    pub fn max_tool_budget(self, tool: impl Into<Arc<str>>, cap: Usd) -> Self {
        self.scope_rule(MaxToolBudget::new(tool, cap))
    }

    /// Adds a rule that is a scope under a cap.
    pub fn scope_rule(mut self, rule: impl ScopeRule) -> Self {
        self.scope_rules.push(Arc::new(rule));
        self
    }

    /// Takes out of every call what must not leave. After the redactors that are there: all of them are asked until
    /// none finds anything.
    pub fn redactor(self, redactor: impl Redactor) -> Self {
        self.redact_with(Some(Arc::new(redactor)))
    }

    fn redact_with(mut self, redactor: Option<Arc<dyn Redactor>>) -> Self {
        self.redactor = match (self.redactor.take(), redactor) {
            (Some(first), Some(second)) => Some(Arc::new(Redactors::new([first, second]))),
            (one, other) => one.or(other),
        };
        self
    }

    /// The version of the rules, which approvals are bound to: one given under another version does not fit.
    ///
    /// Default: a hash over the ids and the `Debug` of rules and redactor, in their order, and the versions of policy files. A rule whose `Debug` is not
    /// the same in every process (a hash map in it is enough) needs a version given here, or its approvals do not
    /// survive a restart.
    pub fn policy_version(mut self, version: impl Into<Arc<str>>) -> Self {
        self.policy_version = Some(version.into());
        self
    }

    /// Adds the rules and redactors of a policy file, after those that are there. The log names its version, as
    /// `llm-leash policy check` does.
    pub fn policy(mut self, policy: &Policy) -> Self {
        self.rules.extend(policy.rules().iter().cloned());
        self.async_rules.extend(policy.async_rules().iter().cloned());
        self.policy_files.push(policy.version().to_string());
        self.redact_with(policy.redactor())
    }

    /// Who is asked where a rule wants a human. Without a gate such calls are rejected.
    pub fn hitl_gate(mut self, gate: Arc<dyn HitlGate>) -> Self {
        self.gate = Some(gate);
        self
    }

    /// Counts tokens where the bound by bytes does not fit under a cap.
    pub fn token_counter(mut self, counter: impl TokenCounter) -> Self {
        self.token_counter = Some(Arc::new(counter));
        self
    }

    /// Where the time comes from. Default: the system's clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// How many calls may be under way at once, at least 1; more are refused. Default: 16,384.
    pub fn max_in_flight(mut self, calls: usize) -> Self {
        self.max_in_flight = calls.max(1);
        self
    }

    /// How long a reservation stands without a sign of life. Default: ten minutes; streams renew it.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Checks everything and starts the firewall.
    ///
    /// # Errors
    /// [`BuildError`] where a cap is no amount, the log cannot be opened, or a cap is over a tenant or an agent
    /// and the caller has none.
    pub fn build(mut self) -> Result<Firewall, BuildError> {
        if let Some(invalid) = self.invalid.take() {
            return Err(invalid);
        }
        let ids = IdGenerator::from_os();
        let caller = Caller {
            session_id: self.session_id.take().unwrap_or_else(|| ids.session()),
            tenant_id: self.tenant_id.take(),
            agent_name: self.agent_name.take(),
        };
        match self.caps.missing_party(&caller) {
            None => {}
            Some(Over::Tenant) => return Err(BuildError::NoSuchParty("tenant")),
            Some(_) => return Err(BuildError::NoSuchParty("agent")),
        }
        let log = match (self.audit.take(), self.audit_path.take()) {
            (Some(log), _) => Some(log),
            (None, Some(path)) => Some(AuditLog::builder(path).clock(self.clock.clone()).open()?),
            (None, None) => None,
        };
        let store = self
            .store
            .take()
            .unwrap_or_else(|| Arc::new(MemoryStore::new(self.clock.clone())));
        let mut rules = self.first_rules;
        rules.extend(self.rules);
        let has_policy = !rules.is_empty()
            || !self.async_rules.is_empty()
            || self.redactor.is_some()
            || self.policy_version.is_some();
        let policy_version = self.policy_version.unwrap_or_else(|| {
            policy_version(
                &rules,
                &self.async_rules,
                self.redactor.as_deref(),
                &self.policy_files,
            )
        });
        let breakers = Breakers::new(&self.counts, self.scope_rules, &store);
        let journal = Journal::new(log);
        journal.policy_change(&caller, &policy_version, &self.policy_files, has_policy)?;
        let (settler, jobs) = Settler::new(self.max_in_flight);
        let shared = Arc::new(Shared {
            clock: self.clock,
            ids,
            prices: self.prices,
            tool_prices: self.tool_prices,
            store,
            registry: self
                .registry
                .unwrap_or_else(|| Arc::new(MemoryKillRegistry::new())),
            engine: PolicyEngine::new(rules, self.async_rules),
            breakers,
            redactor: self.redactor,
            policy_version,
            gate: self.gate,
            passes: crate::passes::Passes::default(),
            token_counter: self.token_counter,
            journal,
            caps: self.caps,
            clamp: self.clamp,
            max_server_tool_uses: self.max_server_tool_uses,
            states: std::sync::Mutex::default(),
            lease: self.lease,
            settler,
        });
        settler::start(jobs, &shared).map_err(BuildError::Thread)?;
        let session = match self.grant {
            None => Session::new(caller, &shared),
            Some(grant) => {
                let session = Session::of_grant(caller, grant.clone(), &shared);
                let _taken_up = shared.journal.grant(&session, &grant, GrantChange::TakenUp)?;
                session
            }
        };
        Ok(Firewall::new(shared, session))
    }
}

/// A hash over what the rules are called and how they are set, and the texts that they were read from: not all of what is
/// in a text need show in the rules.
fn policy_version(
    rules: &[Arc<dyn Rule>],
    async_rules: &[Arc<dyn AsyncRule>],
    redactor: Option<&dyn Redactor>,
    files: &[String],
) -> Arc<str> {
    let mut hasher = blake3::Hasher::new();
    let rules = rules.iter().map(|rule| (rule.id(), format!("{rule:?}")));
    let async_rules = async_rules.iter().map(|rule| (rule.id(), format!("{rule:?}")));
    let redactor = redactor.iter().map(|redactor| ("", format!("{redactor:?}")));
    let files = files.iter().map(|version| ("", version.clone()));
    for (id, set) in rules.chain(async_rules).chain(redactor).chain(files) {
        for part in [id, &set] {
            hasher.update(&part.len().to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    hasher.finalize().to_hex().as_str().into()
}
