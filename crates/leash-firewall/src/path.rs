//! The path of a call: the questions, in their order, and what each answer does. What all sessions share is [`Shared`].

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use leash_audit::{AuditError, Slot};
use leash_budget::{
    Balance, Bound, BudgetState, BudgetStore, Held, Hold, HoldLine, ModelPrice, PriceTable, Refused, Reserve,
    Scope, ScopeKey, TokenCounter, Window, Written, bound,
};
use leash_core::{
    Action, Call, Clock, Decision, Digest, Evaluation, IdGenerator, InputSize, Json, LeashError, ModelCall,
    PolicyContext, PolicyEngine, Redactor, RequestId, StoreError, StoreErrorKind, Timestamp, ToolCall,
    ToolRequest, Usd, rule_ids,
};
use leash_hitl::{Approval, ApprovalRequest, HitlGate};
use leash_kill::KillRegistry;

use crate::admission::{Admission, Details};
use crate::breakers::Breakers;
use crate::clamp::{ATTEMPTS, Clamp};
use crate::journal::{Journal, Stage};
use crate::passes::{Approved, GOOD_FOR, Passes};
use crate::scopes::Caps;
use crate::screen::{caught, redact};
use crate::session::{LONGEST_CALL, Session};
use crate::settler::{Permit, Settler};

/// Of how many scopes that are above a cap the log is told each change once. With more, all are forgotten and told again.
const MOST_STATES: usize = 65_536;

/// What all sessions of a firewall share.
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: IdGenerator,
    pub(crate) prices: PriceTable,
    pub(crate) tool_prices: HashMap<String, Usd>,
    pub(crate) store: Arc<dyn BudgetStore>,
    pub(crate) registry: Arc<dyn KillRegistry>,
    pub(crate) engine: PolicyEngine,
    pub(crate) breakers: Breakers,
    pub(crate) redactor: Option<Arc<dyn Redactor>>,
    /// What approvals are bound to, so that none outlives the rules under which it was given.
    pub(crate) policy_version: Arc<str>,
    pub(crate) gate: Option<Arc<dyn HitlGate>>,
    /// What a human approved when a model asked for it, and was not done yet.
    pub(crate) passes: Passes,
    pub(crate) token_counter: Option<Arc<dyn TokenCounter>>,
    pub(crate) journal: Journal,
    pub(crate) caps: Caps,
    pub(crate) clamp: Clamp,
    /// How often server tools may run in a call that does not say.
    pub(crate) max_server_tool_uses: Option<u64>,
    /// Scopes that are above a cap, so that the log tells each change once.
    pub(crate) states: Mutex<HashMap<(ScopeKey, Window), BudgetState>>,
    pub(crate) lease: Duration,
    pub(crate) settler: Settler,
}

/// What is known of a call before its rules are asked.
pub(crate) struct Priced {
    pub(crate) price: Option<Arc<ModelPrice>>,
    /// What bounds it: the price, or a dearer one that begins while the call may still run.
    pub(crate) dearest: Option<Arc<ModelPrice>>,
    pub(crate) bound: Bound,
    /// The input in tokens, where it was counted.
    pub(crate) counted: Option<u64>,
}

impl Shared {
    pub(crate) async fn admit(
        self: &Arc<Self>,
        session: &Arc<Session>,
        call: Call,
    ) -> Result<Admission, LeashError> {
        let started = self.clock.now();
        let refuse = |stage: Stage, error: LeashError| self.refuse(session, stage, error);
        let (permit, slot) = self.make_room(session)?;
        self.ask_registry(session)
            .await
            .map_err(|error| refuse(Stage::Kill, error))?;
        let priced = self
            .price(session, &call, started)
            .await
            .map_err(|error| refuse(Stage::Price, error))?;
        let asks = self
            .judge(session, &call, started)
            .await
            .map_err(|error| refuse(Stage::Rules, error))?;
        self.count_call(session, &call, started)
            .await
            .map_err(|error| refuse(Stage::Rules, error))?;
        let (mut call, mut priced, asks, is_redacted) = match self.redact(session, &call) {
            Err(error) => return Err(refuse(Stage::Redact, error)),
            Ok(None) => (call, priced, asks, false),
            Ok(Some(call)) => {
                let again = self
                    .judge(session, &call, started)
                    .await
                    .map_err(|error| refuse(Stage::Rules, error))?;
                let priced = self
                    .price(session, &call, started)
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
                self.approval(session, &call, request_digest, asks)
                    .await
                    .map_err(|error| refuse(Stage::Human, error))?,
            ),
        };
        let (reserved, output_limit) = self
            .reserve(session, &mut call, &mut priced, request_digest, permit)
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
        let details = Details {
            shared: self.clone(),
            session: session.clone(),
            call,
            is_redacted,
            has_lease: true,
            request_digest,
            price: priced.price,
            bound: priced.bound,
            output_limit,
            hold,
            spent_before,
            hitl_request_id,
            started,
        };
        Ok(Admission::new(details, slot, permit))
    }

    /// Room for the call's end and for its line, which come first: a call whose end could not be written down must not
    /// begin.
    fn make_room(self: &Arc<Self>, session: &Session) -> Result<(Permit, Option<Slot>), LeashError> {
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
        if let Some(party) = session.lacks {
            let reason = format!(
                "a cap is over {}, and the caller has none: nobody knows under which cap the call is",
                party.plural()
            );
            return Err(refuse(
                Stage::Budget,
                LeashError::blocked(rule_ids::NO_PARTY, reason),
            ));
        }
        let slot = self
            .journal
            .slot()
            .map_err(|error| refuse(Stage::Audit, audit_unavailable(error)))?;
        Ok((permit, slot))
    }

    /// Writes a refusal down. Where even that fails the call is refused all the same, and somebody is told.
    pub(crate) fn refuse(&self, session: &Session, stage: Stage, error: LeashError) -> LeashError {
        tracing::warn!(target: "llm_leash", session = %session.caller.session_id, rule_id = error.rule_id(), stage = stage.as_str(), "call refused");
        if let Err(unwritten) = self.journal.refusal(session, stage, &error) {
            tracing::error!(target: "llm_leash", error = %unwritten, "failed to write a refusal to the audit log");
        }
        error
    }

    pub(crate) async fn ask_registry(&self, session: &Session) -> Result<(), LeashError> {
        let answer = match self.registry.at_once(&session.caller) {
            Some(known) => known,
            None => self.registry.ask(&session.caller).await,
        };
        let answer = answer.map_err(|error| LeashError::unavailable(rule_ids::KILL_REGISTRY, error))?;
        if let Some(order) = answer.order {
            return Err(LeashError::killed(rule_ids::KILL, order.reason.to_string()));
        }
        if let Some(unsure) = answer.unsure {
            // Somebody chose to go on; where even that cannot be written down, nothing does.
            self.journal
                .kill_registry_unsure(session, unsure)
                .map_err(audit_unavailable)?;
        }
        Ok(())
    }

    /// What the call costs at most. Never free by accident: without a price or a bound it is refused.
    async fn price(&self, session: &Session, any: &Call, now: Timestamp) -> Result<Priced, LeashError> {
        let call = match any {
            Call::Model(call) => call,
            Call::Tool(call) => {
                let amount = self
                    .tool_prices
                    .get(call.tool.as_ref())
                    .copied()
                    .unwrap_or(Usd::ZERO);
                return Ok(Priced {
                    price: None,
                    dearest: None,
                    bound: Bound {
                        input_tokens: 0,
                        output_tokens: 0,
                        amount,
                    },
                    counted: None,
                });
            }
        };
        let no_price = |model: &str| {
            let reason = format!(
                "the model has no price: give `{}/{model}` one with `PriceTable::with_price`, or a ceiling with `with_ceiling`",
                call.provider
            );
            LeashError::blocked(rule_ids::NO_PRICE, reason)
        };
        let found = session.price(&self.prices, call, now);
        let (mut price, mut dearest) = found.ok_or_else(|| no_price(&call.model))?;
        if let Some(advisor) = &call.advisor {
            let advice = self.prices.find(&call.provider, &advisor.model);
            let advice = advice.ok_or_else(|| no_price(&advisor.model))?;
            let with = |own: &ModelPrice, advice| Arc::new(own.clone().with_advisor(advice));
            price = with(&price, advice.price_at(now).clone());
            dearest = with(&dearest, advice.price_within(now, LONGEST_CALL));
        }
        let no_bound =
            |error: leash_budget::BoundError| LeashError::blocked(rule_ids::NO_BOUND, error.to_string());
        let mut found = bound(call, &dearest, None).map_err(no_bound)?;
        let mut counted = None;
        if self.token_counter.is_some()
            && !self.fits(&self.scopes_of(session, any), found.amount).await?
            && let Some(tokens) = self.count_tokens(call)
        {
            found = bound(call, &dearest, Some(tokens)).map_err(no_bound)?;
            counted = Some(tokens);
        }
        Ok(Priced {
            price: Some(price),
            dearest: Some(dearest),
            bound: found,
            counted,
        })
    }

    /// Whether so much would fit under every cap now. A guess that only decides whether counting tokens is worth it.
    async fn fits(&self, scopes: &[Scope], amount: Usd) -> Result<bool, LeashError> {
        let balances = self.store.balances(scopes).await;
        let balances = balances.map_err(|error| LeashError::unavailable(rule_ids::BUDGET_STORE, error))?;
        Ok(scopes
            .iter()
            .zip(&balances)
            .all(|(scope, balance)| scope.cap.is_none_or(|cap| amount <= balance.available(cap))))
    }

    fn count_tokens(&self, call: &ModelCall) -> Option<u64> {
        let InputSize::Bytes(bytes) = call.input else {
            return None;
        };
        // An image takes tokens by its size, which its bytes as text say nothing of. Of a call that was made by hand
        // nobody knows whether it has any; what it holds is up to whoever made it.
        if call.has_media && call.body.is_some() {
            return None;
        }
        let counter = self.token_counter.as_ref()?;
        let content = call.body.as_ref().unwrap_or(&call.messages);
        let text = u64::try_from(content.text().len()).ok()?;
        let ask = || counter.count(&call.provider, &call.model, content.text());
        // One that panics knows no number, as one without a tokenizer.
        let tokens = catch_unwind(AssertUnwindSafe(ask)).ok()??;
        // What the bound holds beyond the text (templates, tool prompts) stays on top of the count.
        tokens.checked_add(bytes.saturating_sub(text))
    }

    /// Asks the rules. `Ok(Some)` is the decision of the rule that wants a human.
    pub(crate) async fn judge(
        &self,
        session: &Session,
        call: &Call,
        now: Timestamp,
    ) -> Result<Option<Decision>, LeashError> {
        if self.engine.is_empty() {
            return Ok(None);
        }
        let context = self.context(session, now).await?;
        self.heed(session, call, self.engine.evaluate(call, &context).await)
    }

    /// Writes down what rules said, and does it.
    pub(crate) fn heed(
        &self,
        session: &Session,
        call: &Call,
        said: Evaluation,
    ) -> Result<Option<Decision>, LeashError> {
        let Evaluation { decision, noted } = said;
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
        let total = session.total();
        context.budget_cap = total.and_then(|scope| scope.cap);
        context.soft_cap = total.and_then(|scope| scope.soft_cap);
        context.tenant_id.clone_from(&session.caller.tenant_id);
        Ok(context)
    }

    /// What the session has spent and set aside.
    pub(crate) async fn balance(&self, session: &Session) -> Result<(Usd, Usd), StoreError> {
        let Some(total) = session.total() else {
            return Ok((session.spent(), Usd::ZERO));
        };
        let balances = self.store.balances(std::slice::from_ref(total)).await?;
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
        let redact = |document: &Json| redact(redactor.as_ref(), document);
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
                } else if body.is_none() && model.body.is_some() {
                    // The request is what leaves, with the messages in it.
                    let reason = "the redactor changed the messages of a request and not the request";
                    return Err(LeashError::blocked(rule_ids::REDACT, reason));
                } else {
                    Some(Call::Model(redacted_model(model, messages, body)?))
                }
            }
        };
        if let Some(call) = &redacted {
            self.journal
                .redaction(session, &call.tool())
                .map_err(audit_unavailable)?;
        }
        Ok(redacted)
    }

    /// The approval of a call that is about to be made: the one that a human gave for exactly this tool call when the
    /// model asked for it, which is used up by this; or else a human is asked.
    async fn approval(
        &self,
        session: &Session,
        call: &Call,
        digest: Digest,
        asks: Decision,
    ) -> Result<RequestId, LeashError> {
        if matches!(call, Call::Tool(_)) {
            let what = Approved {
                caller: session.caller.clone(),
                digest,
                rule_id: asks.rule_id.clone(),
            };
            if let Some(id) = self.passes.take(&what, self.clock.now()) {
                return Ok(id);
            }
        }
        Ok(self.ask_human(session, call, digest, asks).await?.id)
    }

    /// Asks a human. Whatever is not an explicit approval refuses.
    pub(crate) async fn ask_human(
        &self,
        session: &Session,
        call: &Call,
        request_digest: Digest,
        asks: Decision,
    ) -> Result<Said, LeashError> {
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
            policy_version: self.policy_version.clone(),
        };
        let answer = tokio::select! {
            answer = caught(gate.request(&request)) => answer,
            stopped = self.stopped(session) => return Err(stopped),
        };
        let answer = answer
            .unwrap_or_else(|| {
                Err(StoreError::new(
                    StoreErrorKind::Corrupt,
                    "ask a human: the gate panicked",
                ))
            })
            .map_err(|error| LeashError::unavailable(rule_ids::HITL_GATE, error))?;
        self.journal
            .hitl_decision(session, &request, &answer)
            .map_err(audit_unavailable)?;
        match answer.approval {
            Approval::Approved { grant, .. } => {
                // A grant may be revoked, so what it allowed is not kept for as long as it stands.
                let kept = self.clock.now().saturating_add(GOOD_FOR);
                let good_until = match grant {
                    Some(_) => answer.good_until.map(|until| until.min(kept)),
                    None => answer.good_until,
                };
                Ok(Said {
                    id: answer.request_id,
                    good_until,
                })
            }
            Approval::Rejected { reason, .. } => Err(LeashError::rejected(asks.rule_id, reason)),
            Approval::Expired { reason } => Err(LeashError::rejected(rule_ids::HITL_TIMEOUT, reason)),
        }
    }

    /// Sets the bound aside in every scope. A call that does not fit is lowered to what does, where that is wanted: then
    /// its bound is the lower one, and the maximum that its request must set comes along.
    async fn reserve(
        self: &Arc<Self>,
        session: &Session,
        call: &mut Call,
        priced: &mut Priced,
        request_digest: Digest,
        mut permit: Permit,
    ) -> Result<(Reserved, Option<u64>), LeashError> {
        let mut limit = None;
        let mut attempts = ATTEMPTS;
        let may_lower = matches!(call, Call::Model(call) if self.clamp.may_lower(call));
        let asked = priced.bound.amount;
        let scopes = self.scopes_of(session, call);
        loop {
            let refused = match self
                .try_reserve(session, &scopes, call, &priced.bound, request_digest, permit)
                .await?
            {
                Tried::Reserved(reserved) => return Ok((reserved, limit)),
                Tried::Refused(refused, back) => {
                    permit = back;
                    refused
                }
            };
            let lowered = match call {
                Call::Model(call) if may_lower && attempts > 0 => self
                    .lowered(&scopes, call, priced)
                    .await
                    .map_err(|error| self.refuse(session, Stage::Budget, error))?
                    .map(|lowered| (call, lowered)),
                _ => None,
            };
            let Some((call, lowered)) = lowered else {
                return Err(self.refuse_for_call(session, call, asked, &refused));
            };
            attempts = attempts.saturating_sub(1);
            limit = Some(lowered.limit);
            call.max_output_tokens = Some(lowered.max_output_tokens);
            priced.bound = lowered.bound;
        }
    }

    /// Sets the bound aside in every scope, or in none.
    async fn try_reserve(
        self: &Arc<Self>,
        session: &Session,
        scopes: &Arc<[Scope]>,
        call: &Call,
        bound: &Bound,
        request_digest: Digest,
        permit: Permit,
    ) -> Result<Tried, LeashError> {
        let mut reserved = Reserved {
            shared: self.clone(),
            hold: None,
            spent_before: session.spent(),
            permit: Some(permit),
        };
        if scopes.is_empty() {
            return Ok(Tried::Reserved(reserved));
        }
        // Of a grant that has ended the sums say nothing, so what is spent under one is asked for even where it is nothing.
        if matches!(call, Call::Tool(_)) && bound.amount.is_zero() && session.grant.is_none() {
            self.free_passes(session, scopes).await?;
            return Ok(Tried::Reserved(reserved));
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
            scopes: scopes.clone(),
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
                if let Some(balance) = session.own_balance(&balances) {
                    reserved.spent_before = balance.spent;
                }
                Ok(Tried::Reserved(reserved))
            }
            Ok(Reserve::Refused(refused)) => {
                reserved.hold = None;
                match reserved.permit.take() {
                    Some(permit) => Ok(Tried::Refused(refused, permit)),
                    None => Err(self.refuse_for_call(session, call, bound.amount, &refused)),
                }
            }
            Err(error) => Err(self.refuse(
                session,
                Stage::Budget,
                LeashError::unavailable(rule_ids::BUDGET_STORE, error),
            )),
        }
    }

    /// Whether a call that costs nothing may pass: under a cap that is broken, or that is zero, nothing may.
    ///
    /// It sets nothing aside, so what is asked here cannot be overtaken.
    async fn free_passes(&self, session: &Session, scopes: &[Scope]) -> Result<(), LeashError> {
        let unavailable = |error| {
            let error = LeashError::unavailable(rule_ids::BUDGET_STORE, error);
            self.refuse(session, Stage::Budget, error)
        };
        let balances = self.store.balances(scopes).await.map_err(unavailable)?;
        let broken = scopes.iter().zip(balances).find_map(|(scope, balance)| {
            let cap = scope.cap?;
            (cap.is_zero() || balance.spent > cap).then_some(Refused { cap, balance })
        });
        match broken {
            Some(refused) => Err(self.refuse_for_money(session, Usd::ZERO, &refused, None)),
            None => Ok(()),
        }
    }

    fn refuse_for_call(&self, session: &Session, call: &Call, amount: Usd, refused: &Refused) -> LeashError {
        match self.breakers.rule_of(call, refused) {
            Some(rule) => self.refuse_for_money(session, amount, refused, Some(rule.id())),
            None => self.refuse_for_money(session, amount, refused, None),
        }
    }

    /// Refuses what did not fit under a cap, in the name of the rule that set it, where one did.
    pub(crate) fn refuse_for_money(
        &self,
        session: &Session,
        amount: Usd,
        refused: &Refused,
        rule: Option<&str>,
    ) -> LeashError {
        let Refused { cap, balance } = refused;
        let rule_id = match rule {
            Some(rule) => Cow::Owned(rule.to_owned()),
            None if balance.spent > *cap => Cow::Borrowed(rule_ids::HARD_CAP),
            None => Cow::Borrowed(rule_ids::PRE_CALL_ESTIMATE),
        };
        let window = match balance.window {
            Window::Total => String::new(),
            window => format!(" in this {window}"),
        };
        let reason = format!(
            "the call may cost up to ${amount}, and `{}` has ${} of its cap of ${cap} available{window} (${} spent, ${} set aside)",
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
        if self.engine.is_empty() && self.breakers.count_nothing() {
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
        self.count_request(session, &call, now)
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
            let what = Approved {
                caller: session.caller.clone(),
                digest,
                rule_id: asks.rule_id.clone(),
            };
            let said = self
                .ask_human(session, &shown, digest, asks)
                .await
                .map_err(|error| refuse(Stage::Human, error))?;
            // The agent will now do what was approved: once, without another question.
            self.passes.keep(what, said.id, said.good_until, self.clock.now());
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
            if scope.cap.is_none() && scope.soft_cap.is_none() {
                continue;
            }
            let state = BudgetState::of(balance.spent, scope.cap, scope.soft_cap);
            broke_cap |= state == BudgetState::HardExceeded;
            let before = {
                let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
                match state {
                    BudgetState::Under if states.is_empty() => None,
                    BudgetState::Under => states.remove(&(scope.key.clone(), scope.window)),
                    state => {
                        if states.len() >= MOST_STATES {
                            states.clear();
                        }
                        states.insert((scope.key.clone(), scope.window), state)
                    }
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

    /// Whether lines are owed for what the store charges: it outlives this process, and there is a log.
    pub(crate) fn owes_lines(&self) -> bool {
        self.journal.log().is_some() && self.store.is_durable()
    }

    /// Charges what outlived its lease, and writes the lines that others owe.
    pub(crate) async fn sweep(&self, limit: usize) {
        match self.store.expire(limit).await {
            Ok(expired) => {
                let mut written = Vec::with_capacity(expired.len());
                let known = if expired.is_empty() {
                    HashSet::new()
                } else {
                    self.settler.unconfirmed()
                };
                for expired in expired {
                    // Our own line, which the store could not be told of yet.
                    if known.contains(&expired.hold.id) && expired.is_settled {
                        written.push(expired.written());
                        continue;
                    }
                    let caller = expired.hold.line.caller.clone();
                    let session = Session::of_hold(caller, expired.hold.scopes.clone());
                    match self.journal.expired(&session, &expired) {
                        Ok(()) => written.push(expired.written()),
                        Err(error) => {
                            tracing::error!(target: "llm_leash", %error, "failed to write an expired call to the audit log; it is tried again");
                        }
                    }
                    self.note_states(&session, &expired.hold.scopes, &expired.balances);
                }
                self.confirm(&written).await;
            }
            Err(error) => {
                tracing::error!(target: "llm_leash", %error, "failed to look for expired reservations");
            }
        }
    }
}

/// A human's approval.
pub(crate) struct Said {
    pub(crate) id: RequestId,
    /// Until when it is good, where the gate knows.
    pub(crate) good_until: Option<Timestamp>,
}

impl Shared {
    /// Tells the store that these lines of others' calls are on disk. Where it is not told, somebody writes them again.
    async fn confirm(&self, written: &[Written]) {
        if written.is_empty() {
            return;
        }
        if let Err(error) = self.journal.flush() {
            tracing::error!(target: "llm_leash", %error, "the lines of others' calls are not on disk; they are written again");
        } else if let Err(error) = self.store.confirm(written).await {
            tracing::warn!(target: "llm_leash", %error, "the budget store could not be told of others' calls; their lines are written again");
        }
    }
}

/// What came of trying to reserve.
enum Tried {
    Reserved(Reserved),
    /// Over a cap; the permit comes back.
    Refused(Refused, Permit),
}

/// A reservation and the scopes it stands in.
pub(crate) type HeldIn = (leash_core::ReservationId, Arc<[Scope]>);

/// A reservation between its making and its admission: given back if admission ends in between.
pub(crate) struct Reserved {
    shared: Arc<Shared>,
    hold: Option<HeldIn>,
    /// What the session had spent besides.
    spent_before: Usd,
    /// `None` only once it was handed on.
    permit: Option<Permit>,
}

impl Reserved {
    /// For `hold`, which the store is to be asked for next.
    pub(crate) fn new(shared: Arc<Shared>, hold: HeldIn, permit: Permit) -> Self {
        Self {
            shared,
            hold: Some(hold),
            spent_before: Usd::ZERO,
            permit: Some(permit),
        }
    }

    /// What is set aside, and the permit, for whoever answers for them from now on.
    pub(crate) fn keep(mut self) -> (Option<HeldIn>, Option<Permit>) {
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

pub(crate) fn audit_unavailable(error: AuditError) -> LeashError {
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
