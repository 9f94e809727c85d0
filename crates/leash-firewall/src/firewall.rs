//! [`Firewall`]: the one way through. Asks in order, refuses at the first "no", and writes down what it refused.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use leash_audit::AuditError;
use leash_budget::{
    Balance, Bound, BudgetState, BudgetStore, Held, Hold, HoldLine, ModelPrice, PriceTable, Refused, Reserve,
    Scope, ScopeKey, TokenCounter, bound,
};
use leash_core::{
    Action, Call, Caller, Clock, Decision, Digest, Evaluation, IdGenerator, InputSize, Json, LeashError,
    ModelCall, PolicyContext, PolicyEngine, Redactor, RequestId, SessionId, StoreError, StoreErrorKind,
    Timestamp, ToolCall, ToolRequest, Usd, rule_ids,
};
use leash_hitl::{Approval, ApprovalRequest, HitlGate};
use leash_kill::{KillOrder, KillRegistry, Target};

use crate::admission::{Admission, InFlight};
use crate::builder::{Caps, FirewallBuilder, scopes_of};
use crate::journal::{Journal, Stage};
use crate::settler::{Permit, Settler};
use crate::wrap::Wrap;

/// Everything between an agent and what it can spend or break.
///
/// A handle for one session: cheap to clone, shared by any number of tasks. [`session`](Self::session) gives a
/// handle for another session that shares stores, rules and log.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use leash_firewall::{Firewall, ModelAnswer, ModelFailure};
/// use leash_core::{Json, ModelCall, Usage};
///
/// let fw = Firewall::builder().budget_usd(0.10).build()?;
/// let messages = serde_json::json!([{"role": "user", "content": "hi"}]);
/// let call = ModelCall::new("anthropic", "claude-haiku-4-5", messages, 1_000, fw.caller().clone());
///
/// let answered = fw
///     .model(call, async |_call| {
///         let usage = Usage { input_tokens: 9, output_tokens: 12, ..Usage::default() };
///         Ok::<_, ModelFailure<std::io::Error>>(ModelAnswer::new("hello", usage, Json::null()))
///     })
///     .await?;
/// assert_eq!(answered.value, "hello");
/// assert_eq!(fw.cumulative().await?.to_string(), "0.000069");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Firewall {
    shared: Arc<Shared>,
    session: Arc<Session>,
}

/// What all sessions of a firewall share.
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: IdGenerator,
    pub(crate) prices: PriceTable,
    pub(crate) tool_prices: HashMap<String, Usd>,
    pub(crate) store: Arc<dyn BudgetStore>,
    pub(crate) registry: Arc<dyn KillRegistry>,
    pub(crate) engine: PolicyEngine,
    pub(crate) redactor: Option<Arc<dyn Redactor>>,
    pub(crate) gate: Option<Arc<dyn HitlGate>>,
    pub(crate) token_counter: Option<Arc<dyn TokenCounter>>,
    pub(crate) journal: Journal,
    pub(crate) caps: Caps,
    pub(crate) extra_scopes: Vec<Scope>,
    /// Scopes that are above a cap, so that the log tells each change once.
    pub(crate) states: Mutex<HashMap<ScopeKey, BudgetState>>,
    pub(crate) lease: Duration,
    pub(crate) settler: Settler,
}

/// One session: who it is and what it is capped by.
pub(crate) struct Session {
    pub(crate) caller: Caller,
    /// The capped scopes, the session's own first where it has a cap.
    pub(crate) scopes: Arc<[Scope]>,
    /// The key of the session's own scope.
    pub(crate) key: ScopeKey,
    /// What the session has spent as far as this handle knows, in nano-dollars: all there is without a cap.
    spent: AtomicU64,
}

impl Session {
    pub(crate) fn new(caller: Caller, shared: &Shared) -> Arc<Self> {
        let scopes = scopes_of(&caller, &shared.caps, &shared.extra_scopes).into();
        let key = ScopeKey::session(&caller.session_id);
        Arc::new(Self {
            caller,
            scopes,
            key,
            spent: AtomicU64::new(0),
        })
    }

    fn is_capped(&self) -> bool {
        self.scopes.iter().any(|scope| scope.key == self.key)
    }

    /// Counts `cost` and returns what the session has spent: what the store says, where it keeps the session.
    pub(crate) fn add(&self, cost: Usd, balances: Option<&[Balance]>, spent_before: Usd) -> Usd {
        let stored = balances.and_then(|all| all.iter().find(|balance| balance.key == self.key));
        if let Some(balance) = stored {
            return balance.spent;
        }
        if self.is_capped() {
            // The store did not say; what it said before is the most that is known.
            return spent_before.saturating_add(cost);
        }
        let add = |spent: u64| {
            Usd::from_nanos(spent)
                .ok()
                .map(|spent| spent.saturating_add(cost).as_nanos())
        };
        let before = match self.spent.fetch_update(Ordering::AcqRel, Ordering::Acquire, add) {
            Ok(before) | Err(before) => before,
        };
        Usd::from_nanos(before).unwrap_or(Usd::MAX).saturating_add(cost)
    }

    fn spent(&self) -> Usd {
        Usd::from_nanos(self.spent.load(Ordering::Acquire)).unwrap_or(Usd::MAX)
    }
}

impl fmt::Debug for Firewall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Firewall")
            .field("caller", &self.session.caller)
            .field("scopes", &self.session.scopes)
            .finish_non_exhaustive()
    }
}

impl Firewall {
    /// Starts to set a firewall up.
    pub fn builder() -> FirewallBuilder {
        FirewallBuilder::default()
    }

    pub(crate) fn new(shared: Arc<Shared>, session: Arc<Session>) -> Self {
        Self { shared, session }
    }

    /// Who this handle speaks for.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.session.caller
    }

    /// A handle for another session of the same tenant and agent, which shares everything but the session's own budget.
    #[must_use]
    pub fn session(&self, id: SessionId) -> Self {
        self.for_caller(Caller {
            session_id: id,
            ..self.session.caller.clone()
        })
    }

    /// A handle for another caller, which shares everything but the caps of its own session, agent and tenant.
    #[must_use]
    pub fn for_caller(&self, caller: Caller) -> Self {
        let session = if caller == self.session.caller {
            self.session.clone()
        } else {
            Session::new(caller, &self.shared)
        };
        Self {
            shared: self.shared.clone(),
            session,
        }
    }

    /// Puts the firewall around a client. A client that no adapter knows does not compile.
    pub fn wrap<M, C: Wrap<M>>(&self, client: C) -> C::Guarded {
        client.wrap(self)
    }

    /// The log's path and state, where there is a log.
    #[must_use]
    pub fn audit_log(&self) -> Option<&leash_audit::AuditLog> {
        self.shared.journal.log()
    }

    /// Asks about a tool call that a model wants: kill orders, rules, and a human if a rule wants one.
    ///
    /// # Errors
    /// [`LeashError`] where the agent must not see it. The refusal is in the log.
    pub async fn inspect(&self, request: &ToolRequest) -> Result<(), LeashError> {
        self.shared.inspect(&self.session, request).await
    }

    /// Asks whether a call may be made, and sets its bound aside.
    ///
    /// In order: kill orders, price and bound, rules, redaction, a human if a rule wants one, the budget, and kill
    /// orders once more. The first "no" ends it and is in the log.
    ///
    /// # Errors
    /// [`LeashError`] with the rule and the reason.
    pub async fn admit(&self, call: impl Into<Call>) -> Result<Admission, LeashError> {
        let mut call = call.into();
        call.set_caller(&self.session.caller);
        self.shared.admit(&self.session, call).await
    }

    /// Whether a kill order stops this session. For calls that cost nothing and are not admitted.
    ///
    /// # Errors
    /// [`LeashError`] where one does, or the registry cannot tell. The refusal is in the log.
    pub async fn check_stopped(&self) -> Result<(), LeashError> {
        let answer = self.shared.ask_registry(&self.session).await;
        answer.map_err(|error| self.shared.refuse(&self.session, Stage::Kill, error))
    }

    /// Waits until a kill order stops this session, or the registry cannot tell any more. For as long as neither
    /// happens, it waits: race it against what may be stopped and holds no [`Admission`].
    pub async fn stopped(&self) -> LeashError {
        self.shared.stopped(&self.session).await
    }

    /// `document` without what must not leave; `None` where it may leave as it is. For what is not admitted.
    ///
    /// # Errors
    /// [`LeashError`] where the redactor cannot tell. The refusal is in the log.
    pub fn redact(&self, document: &Json) -> Result<Option<Json>, LeashError> {
        let Some(redactor) = &self.shared.redactor else {
            return Ok(None);
        };
        redactor.redact(document).map_err(|error| {
            let error = LeashError::blocked(rule_ids::REDACT, error.to_string());
            self.shared.refuse(&self.session, Stage::Redact, error)
        })
    }

    /// Writes a refusal to the log that an adapter made before it could ask for admission, or after it got it: a
    /// request or an answer that cannot be understood. Gives the refusal back.
    #[must_use = "the refusal is what the caller must be given"]
    pub fn refuse(&self, error: LeashError) -> LeashError {
        self.shared.refuse(&self.session, Stage::Wire, error)
    }

    /// Gives a kill order for this session. Nothing more of it is admitted, and what runs is cut.
    ///
    /// # Errors
    /// [`StoreError`] where the order could not be kept, or not be written down; in the latter case it stands.
    pub async fn kill(&self, reason: &str) -> Result<(), StoreError> {
        self.kill_target(Target::Session(self.session.caller.session_id.clone()), reason)
            .await
    }

    /// Gives a kill order for anything.
    ///
    /// # Errors
    /// [`StoreError`] where the order could not be kept, or not be written down; in the latter case it stands.
    pub async fn kill_target(&self, target: Target, reason: &str) -> Result<(), StoreError> {
        let order = KillOrder::new(target.clone(), reason, self.shared.clock.now());
        self.shared.registry.kill(order).await?;
        tracing::warn!(target: "llm_leash", %target, "kill order given");
        Ok(self.shared.journal.kill(&self.session, &target, reason)?)
    }

    /// Takes a kill order back. Returns whether one stood.
    ///
    /// # Errors
    /// [`StoreError`] where the registry could not be reached, or it could not be written down.
    pub async fn clear_kill(&self, target: &Target, reason: Option<&str>) -> Result<bool, StoreError> {
        let stood = self.shared.registry.clear(target).await?;
        if stood {
            self.shared.journal.kill_clear(&self.session, target, reason)?;
        }
        Ok(stood)
    }

    /// What the session has spent. A session under a cap is counted in the budget store; one without is counted by
    /// this handle and its clones.
    ///
    /// # Errors
    /// [`StoreError`] where the budget store cannot tell.
    pub async fn cumulative(&self) -> Result<Usd, StoreError> {
        Ok(self.shared.balance(&self.session).await?.0)
    }

    /// The sums of every capped scope of this session, its own first.
    ///
    /// # Errors
    /// [`StoreError`] where the budget store cannot tell.
    pub async fn balances(&self) -> Result<Vec<(Scope, Balance)>, StoreError> {
        let keys: Vec<ScopeKey> = self
            .session
            .scopes
            .iter()
            .map(|scope| scope.key.clone())
            .collect();
        let balances = self.shared.store.balances(&keys).await?;
        Ok(self.session.scopes.iter().cloned().zip(balances).collect())
    }

    /// Waits until every call that was dropped is settled, and everything that is counted is written.
    ///
    /// # Errors
    /// [`StoreError`] where the log could not be written.
    pub async fn flush(&self) -> Result<(), StoreError> {
        Ok(Settler::flush(&self.shared).await?)
    }

    /// Admits nothing more, for this and every other handle, and does what [`flush`](Self::flush) does.
    ///
    /// # Errors
    /// [`StoreError`] where the log could not be written.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.shared.settler.close();
        self.flush().await
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn own_session(&self) -> &Arc<Session> {
        &self.session
    }
}

/// What is known of a call before its rules are asked.
struct Priced {
    price: Option<Arc<ModelPrice>>,
    bound: Bound,
}

impl Shared {
    async fn admit(self: &Arc<Self>, session: &Arc<Session>, call: Call) -> Result<Admission, LeashError> {
        let started = self.clock.now();
        let refuse = |stage: Stage, error: LeashError| self.refuse(session, stage, error);
        let Some(permit) = self.settler.permit() else {
            let what = if self.settler.is_closed() {
                "admit a call: the firewall is closed"
            } else {
                "admit a call: too many are under way"
            };
            let error = StoreError::new(StoreErrorKind::Full, what);
            return Err(refuse(
                Stage::Capacity,
                LeashError::unavailable(rule_ids::CAPACITY, error),
            ));
        };
        // Room for the line comes first: a call whose end could not be written down must not begin.
        let slot = self
            .journal
            .slot()
            .map_err(|error| refuse(Stage::Audit, audit_unavailable(error)))?;

        self.ask_registry(session)
            .await
            .map_err(|error| refuse(Stage::Kill, error))?;
        let priced = self
            .price(session, &call)
            .await
            .map_err(|error| refuse(Stage::Price, error))?;
        let asks = self
            .judge(session, &call, started)
            .await
            .map_err(|error| refuse(Stage::Rules, error))?;
        let (call, priced, asks, is_redacted) = match self.redact(session, &call) {
            Err(error) => return Err(refuse(Stage::Redact, error)),
            Ok(None) => (call, priced, asks, false),
            Ok(Some(call)) => {
                let again = self
                    .judge(session, &call, started)
                    .await
                    .map_err(|error| refuse(Stage::Rules, error))?;
                let priced = self
                    .price(session, &call)
                    .await
                    .map_err(|error| refuse(Stage::Price, error))?;
                (call, priced, asks.or(again), true)
            }
        };
        let needs_digest = slot.is_some() || asks.is_some() || !session.scopes.is_empty();
        let request_digest = if needs_digest {
            call.request_digest()
        } else {
            Digest::EMPTY
        };
        let hitl_request_id = match asks {
            None => None,
            Some(asks) => Some(
                self.ask_human(session, &call, request_digest, asks)
                    .await
                    .map_err(|error| refuse(Stage::Human, error))?,
            ),
        };
        let reserved = self
            .reserve(session, &call, &priced.bound, request_digest, permit)
            .await?;
        self.ask_registry(session)
            .await
            .map_err(|error| refuse(Stage::Kill, error))?;
        if reserved.hold.is_none() || !self.store.is_durable() {
            let admitted = match self
                .journal
                .admitted(session, &call, request_digest, priced.bound.amount)
            {
                Ok(Some(ticket)) => ticket.durable().await,
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            admitted.map_err(|error| refuse(Stage::Audit, audit_unavailable(error)))?;
        }
        tracing::debug!(target: "llm_leash", session = %session.caller.session_id, bound = %priced.bound.amount, "call admitted");
        let spent_before = reserved.spent_before;
        let (hold, permit) = reserved.keep();
        Ok(Admission::new(Box::new(InFlight {
            shared: self.clone(),
            session: session.clone(),
            call,
            is_redacted,
            request_digest,
            price: priced.price,
            bound: priced.bound,
            hold,
            spent_before,
            hitl_request_id,
            started,
            slot,
            _permit: permit,
        })))
    }

    /// Writes a refusal down. Where even that fails the call is refused all the same, and somebody is told.
    pub(crate) fn refuse(&self, session: &Session, stage: Stage, error: LeashError) -> LeashError {
        tracing::warn!(target: "llm_leash", session = %session.caller.session_id, rule_id = error.rule_id(), stage = stage.as_str(), "call refused");
        if let Err(unwritten) = self.journal.refusal(session, stage, &error) {
            tracing::error!(target: "llm_leash", error = %unwritten, "failed to write a refusal to the audit log");
        }
        error
    }

    async fn ask_registry(&self, session: &Session) -> Result<(), LeashError> {
        match self.registry.standing(&session.caller).await {
            Ok(None) => Ok(()),
            Ok(Some(order)) => Err(LeashError::killed(rule_ids::KILL, order.reason.to_string())),
            Err(error) => Err(LeashError::unavailable(rule_ids::KILL_REGISTRY, error)),
        }
    }

    /// What the call costs at most. Never free by accident: without a price or a bound it is refused.
    async fn price(&self, session: &Session, call: &Call) -> Result<Priced, LeashError> {
        let call = match call {
            Call::Model(call) => call,
            Call::Tool(call) => {
                let amount = self
                    .tool_prices
                    .get(call.tool.as_ref())
                    .copied()
                    .unwrap_or(Usd::ZERO);
                return Ok(Priced {
                    price: None,
                    bound: Bound {
                        input_tokens: 0,
                        output_tokens: 0,
                        amount,
                    },
                });
            }
        };
        let Some(price) = self.prices.price(&call.provider, &call.model) else {
            let reason = format!(
                "the model has no price: give `{}/{}` one with `PriceTable::with_price`, or a ceiling with `with_ceiling`",
                call.provider, call.model
            );
            return Err(LeashError::blocked(rule_ids::NO_PRICE, reason));
        };
        let no_bound =
            |error: leash_budget::BoundError| LeashError::blocked(rule_ids::NO_BOUND, error.to_string());
        let mut found = bound(call, price, None).map_err(no_bound)?;
        if self.token_counter.is_some()
            && !self.fits(session, found.amount).await?
            && let Some(tokens) = self.count_tokens(call)
        {
            found = bound(call, price, Some(tokens)).map_err(no_bound)?;
        }
        Ok(Priced {
            price: Some(price.clone()),
            bound: found,
        })
    }

    /// Whether so much would fit under every cap now. A guess that only decides whether counting tokens is worth it.
    async fn fits(&self, session: &Session, amount: Usd) -> Result<bool, LeashError> {
        let keys: Vec<ScopeKey> = session.scopes.iter().map(|scope| scope.key.clone()).collect();
        let balances = self.store.balances(&keys).await;
        let balances = balances.map_err(|error| LeashError::unavailable(rule_ids::BUDGET_STORE, error))?;
        Ok(session
            .scopes
            .iter()
            .zip(&balances)
            .all(|(scope, balance)| amount <= balance.available(scope.cap)))
    }

    fn count_tokens(&self, call: &ModelCall) -> Option<u64> {
        let InputSize::Bytes(bytes) = call.input else {
            return None;
        };
        let content = call.body.as_ref().unwrap_or(&call.messages);
        let text = u64::try_from(content.text().len()).ok()?;
        let counted = self
            .token_counter
            .as_ref()?
            .count(&call.provider, &call.model, content.text())?;
        // What the bound holds beyond the text (templates, tool prompts) stays on top of the count.
        counted.checked_add(bytes.saturating_sub(text))
    }

    /// Asks the rules. `Ok(Some)` is the decision of the rule that wants a human.
    async fn judge(
        &self,
        session: &Session,
        call: &Call,
        now: Timestamp,
    ) -> Result<Option<Decision>, LeashError> {
        if self.engine.is_empty() {
            return Ok(None);
        }
        let context = self.context(session, now).await?;
        let Evaluation { decision, noted } = self.engine.evaluate(call, &context).await;
        for noted in &noted {
            self.journal
                .policy_decision(session, call, noted)
                .map_err(audit_unavailable)?;
        }
        match decision.action {
            Action::Block => {
                if let Err(error) = self.journal.policy_decision(session, call, &decision) {
                    tracing::error!(target: "llm_leash", %error, "failed to write a decision to the audit log");
                }
                Err(LeashError::blocked(decision.rule_id, decision.reason))
            }
            Action::Hitl => Ok(Some(decision)),
            Action::Allow | Action::Warn => Ok(None),
        }
    }

    async fn context(&self, session: &Session, now: Timestamp) -> Result<PolicyContext, LeashError> {
        let balance = self.balance(session).await;
        let (spent, reserved) =
            balance.map_err(|error| LeashError::unavailable(rule_ids::BUDGET_STORE, error))?;
        let mut context = PolicyContext::new(now);
        context.cumulative = spent;
        context.reserved = reserved;
        context.budget_cap = self.caps.session;
        context.soft_cap = self.caps.session_soft;
        context.tenant_id.clone_from(&session.caller.tenant_id);
        Ok(context)
    }

    /// What the session has spent and set aside.
    pub(crate) async fn balance(&self, session: &Session) -> Result<(Usd, Usd), StoreError> {
        if !session.is_capped() {
            return Ok((session.spent(), Usd::ZERO));
        }
        let balances = self.store.balances(std::slice::from_ref(&session.key)).await?;
        let balance = balances.first();
        balance
            .map(|balance| (balance.spent, balance.reserved))
            .ok_or_else(|| {
                StoreError::new(
                    StoreErrorKind::Corrupt,
                    "read a balance: the store answered for no scope",
                )
            })
    }

    /// The call without what must not leave; `None` where it may leave as it is.
    fn redact(&self, session: &Session, call: &Call) -> Result<Option<Call>, LeashError> {
        let Some(redactor) = &self.redactor else {
            return Ok(None);
        };
        let redact = |document: &Json| {
            redactor
                .redact(document)
                .map_err(|error| LeashError::blocked(rule_ids::REDACT, error.to_string()))
        };
        let redacted = match call {
            Call::Tool(tool) => redact(&tool.args)?.map(|args| {
                let mut tool = tool.clone();
                tool.args = args;
                Call::Tool(tool)
            }),
            Call::Model(model) => {
                let messages = redact(&model.messages)?;
                let body = model.body.as_ref().map(&redact).transpose()?.flatten();
                if messages.is_none() && body.is_none() {
                    None
                } else {
                    Some(Call::Model(redacted_model(model, messages, body)?))
                }
            }
        };
        if let Some(call) = &redacted {
            self.journal.redaction(session, call).map_err(audit_unavailable)?;
        }
        Ok(redacted)
    }

    /// Asks a human. Whatever is not an explicit approval refuses.
    async fn ask_human(
        &self,
        session: &Session,
        call: &Call,
        request_digest: Digest,
        asks: Decision,
    ) -> Result<RequestId, LeashError> {
        let id = self.ids.request(self.clock.now());
        let Some(gate) = &self.gate else {
            let reason = format!("hitl: no gate configured, and `{}` wants a human", asks.rule_id);
            return Err(LeashError::rejected(asks.rule_id, reason));
        };
        let request = ApprovalRequest {
            id,
            call: call.clone(),
            request_digest,
            decision: asks.clone(),
            policy_version: "".into(),
        };
        let answer = tokio::select! {
            answer = gate.request(&request) => answer,
            stopped = self.stopped(session) => return Err(stopped),
        };
        let answer = answer.map_err(|error| LeashError::unavailable(rule_ids::HITL_GATE, error))?;
        self.journal
            .hitl_decision(session, &request, &answer)
            .map_err(audit_unavailable)?;
        match answer.approval {
            Approval::Approved { .. } => Ok(answer.request_id),
            Approval::Rejected { reason, .. } => Err(LeashError::rejected(asks.rule_id, reason)),
            Approval::Expired { reason } => Err(LeashError::rejected(rule_ids::HITL_TIMEOUT, reason)),
        }
    }

    /// Sets the bound aside in every capped scope.
    async fn reserve(
        self: &Arc<Self>,
        session: &Session,
        call: &Call,
        bound: &Bound,
        request_digest: Digest,
        permit: Permit,
    ) -> Result<Reserved, LeashError> {
        let mut reserved = Reserved {
            shared: self.clone(),
            hold: None,
            spent_before: session.spent(),
            permit: Some(permit),
        };
        let is_free_tool = matches!(call, Call::Tool(_)) && bound.amount.is_zero();
        if session.scopes.is_empty() || is_free_tool {
            return Ok(reserved);
        }
        let what = match call {
            Call::Model(call) => Held::Model {
                provider: call.provider.clone(),
                model: call.model.clone(),
            },
            Call::Tool(call) => Held::Tool {
                tool: call.tool.clone(),
            },
        };
        let hold = Hold {
            id: self.ids.reservation(self.clock.now()),
            amount: bound.amount,
            scopes: session.scopes.clone(),
            lease: self.lease,
            line: HoldLine {
                what,
                caller: session.caller.clone(),
                request_digest,
            },
        };
        // Before the store is asked: if this future is dropped, or the store fails after it did it, dropping
        // `reserved` gives the amount back.
        reserved.hold = Some((hold.id, hold.scopes.clone()));
        match self.store.reserve(&hold).await {
            Ok(Reserve::Granted(balances)) => {
                if let Some(balance) = balances.iter().find(|balance| balance.key == session.key) {
                    reserved.spent_before = balance.spent;
                }
                Ok(reserved)
            }
            Ok(Reserve::Refused(refused)) => {
                reserved.hold = None;
                Err(self.refuse_for_money(session, bound.amount, &refused))
            }
            Err(error) => Err(self.refuse(
                session,
                Stage::Budget,
                LeashError::unavailable(rule_ids::BUDGET_STORE, error),
            )),
        }
    }

    fn refuse_for_money(&self, session: &Session, amount: Usd, refused: &Refused) -> LeashError {
        let Refused { cap, balance } = refused;
        let rule_id = if balance.spent > *cap {
            rule_ids::HARD_CAP
        } else {
            rule_ids::PRE_CALL_ESTIMATE
        };
        let reason = format!(
            "the call may cost up to ${amount}, and `{}` has ${} of its cap of ${cap} available (${} spent, ${} set aside)",
            balance.key,
            balance.available(*cap),
            balance.spent,
            balance.reserved,
        );
        if let Err(error) = self.journal.refused_for_money(session, refused) {
            tracing::error!(target: "llm_leash", %error, "failed to write a refusal to the audit log");
        }
        self.refuse(session, Stage::Budget, LeashError::killed(rule_id, reason))
    }

    /// Steps 1 and 3 to 5 for a tool call that a model asks for.
    pub(crate) async fn inspect(&self, session: &Session, request: &ToolRequest) -> Result<(), LeashError> {
        let refuse = |stage: Stage, error: LeashError| self.refuse(session, stage, error);
        self.ask_registry(session)
            .await
            .map_err(|error| refuse(Stage::Kill, error))?;
        if self.engine.is_empty() {
            return Ok(());
        }
        let call = Call::Tool(ToolCall::new(
            request.tool.clone(),
            request.args.clone(),
            session.caller.clone(),
        ));
        let now = self.clock.now();
        let mut asks = self
            .judge(session, &call, now)
            .await
            .map_err(|error| refuse(Stage::ToolRequest, error))?;
        let mut shown = call;
        if let Some(redacted) = self
            .redact(session, &shown)
            .map_err(|error| refuse(Stage::Redact, error))?
        {
            let again = self.judge(session, &redacted, now).await;
            asks = asks.or(again.map_err(|error| refuse(Stage::ToolRequest, error))?);
            shown = redacted;
        }
        if let Some(asks) = asks {
            let digest = shown.request_digest();
            self.ask_human(session, &shown, digest, asks)
                .await
                .map_err(|error| refuse(Stage::Human, error))?;
        }
        Ok(())
    }

    /// Waits until a kill order stops the session or the registry cannot tell.
    pub(crate) async fn stopped(&self, session: &Session) -> LeashError {
        let mut changes = self.registry.changes();
        loop {
            if let Err(error) = self.ask_registry(session).await {
                return error;
            }
            if changes.changed().await.is_err() {
                let error =
                    StoreError::new(StoreErrorKind::Unavailable, "watch the kill registry: it is gone");
                return LeashError::unavailable(rule_ids::KILL_REGISTRY, error);
            }
        }
    }

    /// Tells the log where a scope's state changed. Returns whether any is above its cap.
    pub(crate) fn note_states(&self, session: &Session, scopes: &[Scope], balances: &[Balance]) -> bool {
        let mut broke_cap = false;
        for (scope, balance) in scopes.iter().zip(balances) {
            let soft = if scope.key == session.key {
                self.caps.session_soft
            } else {
                None
            };
            let state = BudgetState::of(balance.spent, Some(scope.cap), soft);
            broke_cap |= state == BudgetState::HardExceeded;
            let before = {
                let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
                match state {
                    BudgetState::Under if states.is_empty() => None,
                    BudgetState::Under => states.remove(&scope.key),
                    state => states.insert(scope.key.clone(), state),
                }
            };
            if before.unwrap_or_default() != state
                && let Err(error) = self.journal.budget(session, scope, balance, state)
            {
                tracing::error!(target: "llm_leash", %error, "failed to write the state of a budget to the audit log");
            }
        }
        broke_cap
    }

    /// Charges what outlived its lease, and writes its lines.
    pub(crate) async fn sweep(&self, limit: usize) {
        match self.store.expire(limit).await {
            Ok(expired) => {
                for expired in expired {
                    let caller = expired.hold.line.caller.clone();
                    let session = Session {
                        key: ScopeKey::session(&caller.session_id),
                        scopes: expired.hold.scopes.clone(),
                        caller,
                        spent: AtomicU64::new(0),
                    };
                    if let Err(error) = self.journal.expired(&session, &expired) {
                        tracing::error!(target: "llm_leash", %error, "failed to write an expired call to the audit log");
                    }
                    self.note_states(&session, &expired.hold.scopes, &expired.balances);
                }
            }
            Err(error) => {
                tracing::error!(target: "llm_leash", %error, "failed to look for expired reservations")
            }
        }
    }
}

/// A reservation and the scopes it stands in.
type HeldIn = (leash_core::ReservationId, Arc<[Scope]>);

/// A reservation between its making and its admission: given back if admission ends in between.
struct Reserved {
    shared: Arc<Shared>,
    hold: Option<HeldIn>,
    /// What the session had spent besides.
    spent_before: Usd,
    /// `None` only once it was handed on.
    permit: Option<Permit>,
}

impl Reserved {
    /// What is set aside, and the permit, for whoever answers for them from now on.
    fn keep(mut self) -> (Option<HeldIn>, Option<Permit>) {
        (self.hold.take(), self.permit.take())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let (Some((id, _)), Some(permit)) = (self.hold.take(), self.permit.take()) {
            Settler::release(&self.shared, id, permit);
        }
    }
}

fn audit_unavailable(error: AuditError) -> LeashError {
    LeashError::unavailable(rule_ids::AUDIT, error.into())
}

/// The call with its redacted parts. What money and routing depend on must not have changed.
fn redacted_model(
    model: &ModelCall,
    messages: Option<Json>,
    body: Option<Json>,
) -> Result<ModelCall, LeashError> {
    let mut redacted = model.clone();
    if let Some(messages) = messages {
        redacted.messages = messages;
    }
    if let Some(body) = body {
        if body.value().get("model") != model.body.as_ref().and_then(|body| body.value().get("model")) {
            return Err(LeashError::blocked(
                rule_ids::REDACT,
                "the redactor changed the name of the model",
            ));
        }
        if let InputSize::Bytes(bytes) = redacted.input {
            let before = model.body.as_ref().map_or(0, |body| body.text().len());
            let longer = u64::try_from(body.text().len().saturating_sub(before)).unwrap_or(u64::MAX);
            redacted.input = InputSize::Bytes(bytes.saturating_add(longer));
        }
        redacted.body = Some(body);
    }
    Ok(redacted)
}
