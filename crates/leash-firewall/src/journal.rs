//! What the firewall writes to the audit log, and nothing else does: [`Journal`]. Without a log it writes nothing.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use leash_audit::{
    Admitted, Appended, AuditError, AuditLog, Budget, BudgetDecision, Event, HitlDecision, HitlOutcome, Kill,
    KillClear, Kind, Note, Outcome, Owed, PolicyAction, PolicyDecision, Refusal, Slot, Who,
};
use leash_budget::{Balance, BudgetState, Expired, Grant, Held, Refused, Scope, ScopeKey, Window};
use leash_core::{
    Action, Call, Caller, Decision, Digest, Json, LeashError, ReservationId, StoreError, Usage, Usd,
    canonical,
};
use leash_hitl::{Approval, ApprovalRequest, Entry, GrantUse, HitlAnswer, Ruling};
use leash_kill::{Target, Unsure};
use serde_json::{Value, json};

use crate::admission::Details;
use crate::session::Session;

/// What went wrong after the money was spent. The answer is good; the paperwork is not, yet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// The line is kept in memory; nothing more is admitted until it is on disk.
    #[error(transparent)]
    Owed(#[from] Owed),
    /// The line is written, but not as durable as the log promises.
    #[error(transparent)]
    NotDurable(AuditError),
    /// The budget store could not be told the cost. It is tried again; until then the whole bound stays set aside, and over
    /// a store that outlives its processes the call has no line yet, as nobody knows what it will come to.
    #[error(transparent)]
    NotSettled(StoreError),
}

/// Where on its way a call was refused: the log's `stage`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    Capacity,
    Audit,
    Kill,
    Price,
    Rules,
    Redact,
    Human,
    Budget,
    /// A tool call that a model asked for, before the agent saw it.
    ToolRequest,
    /// A request or an answer that cannot be understood.
    Wire,
}

impl Stage {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Audit => "audit",
            Self::Kill => "kill",
            Self::Price => "price",
            Self::Rules => "rules",
            Self::Redact => "redact",
            Self::Human => "human",
            Self::Budget => "budget",
            Self::ToolRequest => "tool_request",
            Self::Wire => "wire",
        }
    }
}

/// What happened to a grant.
#[derive(Clone, Copy, Debug)]
pub(crate) enum GrantChange {
    Given,
    TakenUp,
    GivenBack {
        spent: Usd,
    },
    /// Its hold was ended by the store.
    Expired {
        spent: Usd,
    },
}

impl GrantChange {
    const fn what(self) -> &'static str {
        match self {
            Self::Given => "grant given",
            Self::TakenUp => "grant taken up",
            Self::GivenBack { .. } => "grant given back",
            Self::Expired { .. } => "grant expired",
        }
    }
}

/// How a call ended, for its line.
pub(crate) struct CallLine {
    pub(crate) usage: Usage,
    pub(crate) response_digest: Digest,
    /// `None` where nobody knows.
    pub(crate) outcome: Option<Outcome>,
    /// The reservation, where another line may tell of it.
    pub(crate) reservation: Option<ReservationId>,
    pub(crate) cost: Usd,
    pub(crate) cumulative: Usd,
    pub(crate) estimated: bool,
}

/// The log, where there is one.
#[derive(Debug)]
pub(crate) struct Journal {
    log: Option<AuditLog>,
}

impl Journal {
    pub(crate) const fn new(log: Option<AuditLog>) -> Self {
        Self { log }
    }

    pub(crate) const fn log(&self) -> Option<&AuditLog> {
        self.log.as_ref()
    }

    /// Notes which policy holds from now on, unless the end of the log says so already.
    ///
    /// Looks back 256 KiB: a log that went on longer under one policy names it once more after a restart, which is
    /// harmless.
    pub(crate) fn policy_change(
        &self,
        caller: &Caller,
        version: &str,
        files: &[String],
        has_policy: bool,
    ) -> Result<(), AuditError> {
        let Some(log) = &self.log else { return Ok(()) };
        let before = last_policy_version(log.path()).map_err(|source| AuditError::Io {
            doing: "read",
            path: log.path().to_path_buf(),
            source,
        })?;
        if before.as_deref() == Some(version) || (before.is_none() && !has_policy) {
            return Ok(());
        }
        let members = Json::from(json!({
            "policy_files": files,
            "policy_version": version,
            "previous_version": before,
        }));
        let kind = Kind::PolicyChange(Note {
            what: "policy",
            reason: if before.is_some() {
                "another policy is in force"
            } else {
                "a policy is in force"
            },
            operator: None,
            members: Some(&members),
        });
        log.append(&Event::new(caller, kind)).map(drop)
    }

    fn append(&self, session: &Session, kind: &Kind<'_>) -> Result<Option<Appended>, AuditError> {
        let Some(log) = &self.log else { return Ok(None) };
        log.append(&Event::new(&session.caller, *kind)).map(Some)
    }

    /// Room for the line of one call. `None` without a log.
    pub(crate) fn slot(&self) -> Result<Option<Slot>, AuditError> {
        self.log.as_ref().map(AuditLog::reserve_slot).transpose()
    }

    pub(crate) fn admitted(
        &self,
        session: &Session,
        call: &Call,
        request_hash: Digest,
        bound: Usd,
    ) -> Result<Option<Appended>, AuditError> {
        let target = match call {
            Call::Model(call) => leash_audit::Target::Model {
                provider: &call.provider,
                model: &call.model,
            },
            Call::Tool(call) => leash_audit::Target::Tool { tool: &call.tool },
        };
        self.append(
            session,
            &Kind::Admitted(Admitted {
                target,
                request_hash,
                bound,
                scopes: &session.named(),
            }),
        )
    }

    /// The line of a call that has ended.
    pub(crate) fn write_call(
        &self,
        slot: Slot,
        call: &Details,
        line: &CallLine,
    ) -> Result<Option<Appended>, Warning> {
        let Some(log) = &self.log else { return Ok(None) };
        let elapsed = call.shared.clock.now().saturating_since(call.started).as_millis();
        let duration_ms = u64::try_from(elapsed).ok();
        let hitl_request_id = call.hitl_request_id.map(|id| id.to_string());
        let reservation_id = line.reservation.map(|id| id.to_string());
        let scopes = call.session.named();
        let kind = match &call.call {
            Call::Model(model) => Kind::ModelCall(leash_audit::ModelCall {
                duration_ms,
                hitl_request_id: hitl_request_id.as_deref(),
                price_version: Some(call.shared.prices.version()),
                clamped: call.output_limit.is_some().then_some(true),
                reservation_id: reservation_id.as_deref(),
                scopes: &scopes,
                ..model_line(&model.provider, &model.model, call.request_digest, line)
            }),
            Call::Tool(tool) => Kind::ToolCall(leash_audit::ToolCall {
                tool: &tool.tool,
                request_hash: call.request_digest,
                response_hash: line.response_digest,
                cost: (!call.bound.amount.is_zero()).then_some(line.cost),
                cumulative: Some(line.cumulative),
                duration_ms,
                outcome: line.outcome,
                hitl_request_id: hitl_request_id.as_deref(),
                reservation_id: reservation_id.as_deref(),
                scopes: &scopes,
            }),
        };
        Ok(Some(
            log.append_owed(slot, &Event::new(&call.session.caller, kind))?,
        ))
    }

    /// The line of a call whose process could not write it: of one whose reservation outlived its lease, or of one that was
    /// settled. How the latter ended nobody knows any more, so the line does not say; it does say what it cost.
    pub(crate) fn expired(&self, session: &Session, expired: &Expired) -> Result<(), AuditError> {
        let hold = &expired.hold;
        let own = session.own_balance(&expired.balances);
        let line = CallLine {
            usage: Usage::default(),
            response_digest: Digest::EMPTY,
            outcome: (!expired.is_settled).then_some(Outcome::Expired),
            reservation: Some(hold.id),
            cost: expired.charged,
            cumulative: own.map_or(expired.charged, |balance| balance.spent),
            estimated: true,
        };
        let id = hold.id.to_string();
        let scopes = session.named();
        let kind = match &hold.line.what {
            Held::Model { provider, model } => Kind::ModelCall(leash_audit::ModelCall {
                reservation_id: Some(&id),
                scopes: &scopes,
                ..model_line(provider, model, hold.line.request_digest, &line)
            }),
            Held::Tool { tool } => Kind::ToolCall(leash_audit::ToolCall {
                tool,
                request_hash: hold.line.request_digest,
                response_hash: Digest::EMPTY,
                cost: Some(line.cost),
                cumulative: Some(line.cumulative),
                duration_ms: None,
                outcome: line.outcome,
                hitl_request_id: None,
                reservation_id: Some(&id),
                scopes: &scopes,
            }),
            Held::Grant { child } => {
                let spent = expired.charged;
                let change = if expired.is_settled {
                    GrantChange::GivenBack { spent }
                } else {
                    GrantChange::Expired { spent }
                };
                let from = session.key.as_str();
                return self
                    .grant_line(session, child, from, hold.amount, change)
                    .map(drop);
            }
        };
        self.append(session, &kind).map(drop)
    }

    /// A scope whose state changed.
    pub(crate) fn budget(
        &self,
        session: &Session,
        scope: &Scope,
        balance: &Balance,
        state: BudgetState,
    ) -> Result<(), AuditError> {
        self.append(
            session,
            &Kind::Budget(budget_line(scope.cap, balance, session, state)),
        )
        .map(drop)
    }

    /// A scope whose cap a call did not fit under. Equal ones within a second are one line with a count.
    pub(crate) fn refused_for_money(&self, session: &Session, refused: &Refused) -> Result<(), AuditError> {
        let Some(log) = &self.log else { return Ok(()) };
        let kind = Kind::Budget(budget_line(
            Some(refused.cap),
            &refused.balance,
            session,
            BudgetState::HardExceeded,
        ));
        log.append_coalesced(&Event::new(&session.caller, kind)).map(drop)
    }

    /// A refused call. Equal ones within a second are one line with a count, so the reason names no sums.
    pub(crate) fn refusal(
        &self,
        session: &Session,
        stage: Stage,
        error: &LeashError,
    ) -> Result<(), AuditError> {
        let Some(log) = &self.log else { return Ok(()) };
        let reason = error.reason();
        let reason = match stage {
            Stage::Budget if matches!(error, LeashError::Killed { .. }) => {
                "the call may cost more than a cap leaves; the `budget` line says which"
            }
            _ => clip(&reason),
        };
        let kind = Kind::Refusal(Refusal {
            rule_id: error.rule_id(),
            reason,
            stage: stage.as_str(),
        });
        log.append_coalesced(&Event::new(&session.caller, kind)).map(drop)
    }

    /// A call that passed although the kill registry could not be asked, because a setting says so.
    pub(crate) fn kill_registry_unsure(&self, session: &Session, unsure: Unsure) -> Result<(), AuditError> {
        let Some(log) = &self.log else { return Ok(()) };
        let kind = Kind::FailOpen(Note {
            what: "kill registry not heard of",
            reason: unsure.leniency.as_str(),
            operator: None,
            members: None,
        });
        log.append_coalesced(&Event::new(&session.caller, kind)).map(drop)
    }

    pub(crate) fn policy_decision(
        &self,
        session: &Session,
        call: &Call,
        decision: &Decision,
    ) -> Result<(), AuditError> {
        // A rule that only watches is logged with what it would have done. To let a call pass is nothing to log, but
        // that it would have ended the evaluation is.
        let action = match decision.shadow.unwrap_or(decision.action) {
            Action::Allow if decision.shadow.is_some() => PolicyAction::Warn,
            Action::Block => PolicyAction::Block,
            Action::Warn => PolicyAction::Warn,
            Action::Hitl => PolicyAction::Hitl,
            Action::Allow => return Ok(()),
        };
        self.rule_acted(
            session,
            PolicyDecision {
                rule_id: &decision.rule_id,
                action,
                reason: clip(&decision.reason),
                tool: &call.tool(),
                shadow: decision.shadow.is_some(),
            },
        )
    }

    pub(crate) fn redaction(&self, session: &Session, tool: &str) -> Result<(), AuditError> {
        self.rule_acted(
            session,
            PolicyDecision {
                rule_id: leash_core::rule_ids::REDACT,
                action: PolicyAction::Redact,
                reason: "something that must not leave was taken out",
                tool,
                shadow: false,
            },
        )
    }

    fn rule_acted(&self, session: &Session, decision: PolicyDecision<'_>) -> Result<(), AuditError> {
        let Some(log) = &self.log else { return Ok(()) };
        let kind = Kind::PolicyDecision(decision);
        log.append_coalesced(&Event::new(&session.caller, kind)).map(drop)
    }

    pub(crate) fn hitl_decision(
        &self,
        session: &Session,
        request: &ApprovalRequest,
        answer: &HitlAnswer,
    ) -> Result<(), AuditError> {
        if self.log.is_none() {
            return Ok(());
        }
        let by_grant;
        let (decision, reason, operator) = match &answer.approval {
            Approval::Approved { operator, grant } => {
                by_grant = grant.as_ref().map(used_grant);
                (HitlOutcome::Approve, by_grant.as_deref(), operator.as_deref())
            }
            Approval::Rejected { reason, operator } => {
                (HitlOutcome::Reject, Some(reason.as_str()), operator.as_deref())
            }
            Approval::Expired { reason } => (HitlOutcome::Expire, Some(reason.as_str()), None),
        };
        let request_id = answer.request_id.to_string();
        let rule_id = &request.decision.rule_id;
        let kind = Kind::HitlDecision(HitlDecision {
            request_id: &request_id,
            rule_id,
            decision,
            reason,
            operator,
        });
        self.append(session, &kind).map(drop)
    }

    /// A part of a budget that changed hands.
    pub(crate) fn grant(
        &self,
        session: &Session,
        grant: &Grant,
        change: GrantChange,
    ) -> Result<Option<Appended>, AuditError> {
        self.grant_line(session, &grant.key(), grant.from_key(), grant.amount(), change)
    }

    fn grant_line(
        &self,
        session: &Session,
        child: &ScopeKey,
        from: &str,
        amount: Usd,
        change: GrantChange,
    ) -> Result<Option<Appended>, AuditError> {
        if self.log.is_none() {
            return Ok(None);
        }
        let mut members = format!("{{\"amount_usd\":{amount},\"from\":");
        canonical::write_str(&mut members, from);
        members.push_str(",\"scope\":");
        canonical::write_str(&mut members, child.as_str());
        if let GrantChange::GivenBack { spent } | GrantChange::Expired { spent } = change {
            members.push_str(",\"spent_usd\":");
            members.push_str(&spent.to_string());
        }
        members.push('}');
        let members = Json::parse(members);
        let kind = Kind::BudgetChange(Note {
            what: change.what(),
            reason: "a part of a session's budget is spent by another",
            operator: None,
            members: members.as_ref().ok(),
        });
        self.append(session, &kind)
    }

    /// A decision that came in through this firewall. What it meant for the call, the line of whoever waits for it says.
    pub(crate) fn resumed(&self, entry: &Entry, ruling: &Ruling) -> Result<(), AuditError> {
        let Some(log) = &self.log else { return Ok(()) };
        let who = Who {
            tenant_id: entry.tenant_id.as_deref(),
            ..Who::session(&entry.session_id)
        };
        let what = match ruling {
            Ruling::Approve { .. } => "approved a request by its token",
            Ruling::Reject { .. } => "rejected a request by its token",
        };
        let kind = Kind::Admin(Note {
            what,
            reason: &format!("request {}", entry.id),
            operator: ruling.operator(),
            members: None,
        });
        log.append(&Event::new(who, kind)).map(drop)
    }

    pub(crate) fn kill(&self, session: &Session, target: &Target, reason: &str) -> Result<(), AuditError> {
        let scope = scope_of(target);
        let kind = Kind::Kill(Kill {
            reason: clip(reason),
            scope: scope.as_deref(),
        });
        self.append_for(session, target, &kind)
    }

    pub(crate) fn kill_clear(
        &self,
        session: &Session,
        target: &Target,
        reason: Option<&str>,
    ) -> Result<(), AuditError> {
        let scope = scope_of(target);
        let kind = Kind::KillClear(KillClear {
            reason,
            scope: scope.as_deref(),
        });
        self.append_for(session, target, &kind)
    }

    /// A line about whatever `target` names: another session, or everybody.
    fn append_for(&self, session: &Session, target: &Target, kind: &Kind<'_>) -> Result<(), AuditError> {
        let Some(log) = &self.log else { return Ok(()) };
        let who = match target {
            Target::Session(id) if *id == session.caller.session_id => Who::from(&session.caller),
            Target::Session(id) => Who::session(id.as_str()),
            Target::Tenant(id) => Who {
                tenant_id: Some(id.as_str()),
                ..Who::EVERYBODY
            },
            Target::Agent(name) => Who {
                agent_name: Some(name.as_str()),
                ..Who::EVERYBODY
            },
            Target::Everything => Who::EVERYBODY,
        };
        log.append(&Event::new(who, *kind)).map(drop)
    }

    pub(crate) fn flush(&self) -> Result<(), AuditError> {
        match &self.log {
            Some(log) => log.flush(),
            None => Ok(()),
        }
    }
}

/// Which use of which grant let a call through: a name is given once, so this finds its queue's entry for ever.
fn used_grant(grant: &GrantUse) -> String {
    let GrantUse { name, used, .. } = grant;
    match grant.times {
        Some(times) => format!("granted: {name} (use {used} of {times})"),
        None => format!("granted: {name} (use {used})"),
    }
}

/// The longest reason that a line is given, in bytes: a rule that says more must not keep its refusal out of the log.
const MAX_REASON: usize = 4_096;

fn clip(reason: &str) -> &str {
    reason
        .get(..reason.floor_char_boundary(MAX_REASON))
        .unwrap_or_default()
}

/// How far back the log is read for the policy that held last, in bytes.
const LOOK_BACK: u64 = 256 << 10;

/// The version of the policy that the end of the log names last.
fn last_policy_version(path: &Path) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOOK_BACK)))?;
    let mut end = Vec::new();
    file.take(LOOK_BACK).read_to_end(&mut end)?;
    let version = |line: &[u8]| -> Option<String> {
        let line = str::from_utf8(line).ok()?;
        // Quotes inside of a member are escaped, so this is a member's name and value.
        if !line.contains("\"kind\":\"policy_change\"") {
            return None;
        }
        let event: Value = serde_json::from_str(line).ok()?;
        Some(event.get("policy_version")?.as_str()?.to_owned())
    };
    Ok(end.rsplit(|&byte| byte == b'\n').find_map(version))
}

fn scope_of(target: &Target) -> Option<String> {
    match target {
        Target::Session(_) => None,
        other => Some(other.to_string()),
    }
}

fn budget_line<'a>(
    cap: Option<Usd>,
    balance: &'a Balance,
    session: &Session,
    state: BudgetState,
) -> Budget<'a> {
    let decision = match state {
        BudgetState::Under => BudgetDecision::Under,
        BudgetState::SoftExceeded => BudgetDecision::SoftExceeded,
        BudgetState::HardExceeded => BudgetDecision::HardExceeded,
    };
    let is_session = balance.key == session.key && !Grant::is_scope(&balance.key);
    Budget {
        cumulative: balance.spent,
        cap,
        decision,
        scope: (!is_session).then(|| balance.key.as_str()),
        window: (balance.window != Window::Total).then(|| balance.window.as_str()),
    }
}

fn model_line<'a>(
    provider: &'a str,
    model: &'a str,
    request_hash: Digest,
    line: &CallLine,
) -> leash_audit::ModelCall<'a> {
    let usage = &line.usage;
    let known = |tokens: u64| (tokens > 0).then_some(tokens);
    leash_audit::ModelCall {
        provider,
        model,
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        cost: line.cost,
        request_hash,
        response_hash: line.response_digest,
        cumulative: Some(line.cumulative),
        cache_read_tokens: known(usage.cache_read_tokens),
        cache_write_tokens: known(
            usage
                .cache_write_tokens
                .saturating_add(usage.cache_write_1h_tokens),
        ),
        reasoning_tokens: known(usage.reasoning_tokens),
        outcome: line.outcome,
        usage: line.estimated.then_some("estimated"),
        ..leash_audit::ModelCall::default()
    }
}
