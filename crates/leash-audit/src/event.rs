//! What the log can say: [`Event`], one variant of [`Kind`] for each sort of line. Knows neither files nor how lines
//! are chained; how an event becomes a line is in [`writing`].

mod writing;

use leash_core::{Caller, Digest, Json, Usd};

pub(crate) use self::writing::{Place, write, write_members};

/// The session of events that concern more than one: kills of a tenant or of everything, recoveries.
pub const EVERY_SESSION: &str = "*";

/// Something that happened, before it has a place in the log. Borrows everything, so making one allocates nothing.
///
/// ```
/// use leash_audit::{Event, Kill, Kind, Who};
///
/// let event = Event { who: Who::session("s_1"), kind: Kind::Kill(Kill { reason: "runaway", scope: None }) };
/// assert_eq!(event.kind.name(), "kill");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Whom it concerns.
    pub who: Who<'a>,
    /// What happened.
    pub kind: Kind<'a>,
}

impl<'a> Event<'a> {
    /// An event of `kind` that concerns `who`.
    #[must_use]
    pub fn new(who: impl Into<Who<'a>>, kind: Kind<'a>) -> Self {
        Self {
            who: who.into(),
            kind,
        }
    }
}

/// Whom an event concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who<'a> {
    /// The session, or [`EVERY_SESSION`].
    pub session_id: &'a str,
    /// The tenant; `null` in the log where there is none.
    pub tenant_id: Option<&'a str>,
    /// The agent; left out of the line where it has no name.
    pub agent_name: Option<&'a str>,
}

impl<'a> Who<'a> {
    /// Everybody: [`EVERY_SESSION`], no tenant, no agent.
    pub const EVERYBODY: Who<'static> = Who {
        session_id: EVERY_SESSION,
        tenant_id: None,
        agent_name: None,
    };

    /// A session alone.
    #[must_use]
    pub const fn session(session_id: &'a str) -> Self {
        Self {
            session_id,
            tenant_id: None,
            agent_name: None,
        }
    }
}

impl<'a> From<&'a Caller> for Who<'a> {
    fn from(caller: &'a Caller) -> Self {
        Self {
            session_id: caller.session_id.as_str(),
            tenant_id: caller.tenant_id.as_ref().map(leash_core::TenantId::as_str),
            agent_name: caller.agent_name.as_ref().map(leash_core::AgentName::as_str),
        }
    }
}

/// What happened. The members of each variant are the members of its line; `None` is left out of the line, except
/// where the field says that it becomes `null`.
///
/// No text of a prompt, an argument or an answer belongs in any of them.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Kind<'a> {
    /// A provider was called, also when the call broke the cap, failed after spending, or was cut off.
    ModelCall(ModelCall<'a>),
    /// A tool was called.
    ToolCall(ToolCall<'a>),
    /// Where spending stands, when that changed and at each refusal for money.
    Budget(Budget<'a>),
    /// A kill order was given.
    Kill(Kill<'a>),
    /// A kill order was cleared.
    KillClear(KillClear<'a>),
    /// A rule acted.
    PolicyDecision(PolicyDecision<'a>),
    /// A human decided, or the clock did.
    HitlDecision(HitlDecision<'a>),
    /// A call was refused.
    Refusal(Refusal<'a>),
    /// A call was let through and nothing durable but this line stands for it yet.
    Admitted(Admitted<'a>),
    /// A torn tail of the log was set aside.
    LogRecovered(LogRecovered<'a>),
    /// Something passed because somebody chose to fail open.
    FailOpen(Note<'a>),
    /// Rules were changed.
    PolicyChange(Note<'a>),
    /// Caps were changed.
    BudgetChange(Note<'a>),
    /// An operator acted.
    Admin(Note<'a>),
    /// A kind that this version has no words for.
    Other(Other<'a>),
}

impl Kind<'_> {
    /// The `kind` member.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::ModelCall(_) => "model_call",
            Self::ToolCall(_) => "tool_call",
            Self::Budget(_) => "budget",
            Self::Kill(_) => "kill",
            Self::KillClear(_) => "kill_clear",
            Self::PolicyDecision(_) => "policy_decision",
            Self::HitlDecision(_) => "hitl_decision",
            Self::Refusal(_) => "refusal",
            Self::Admitted(_) => "admitted",
            Self::LogRecovered(_) => "log_recovered",
            Self::FailOpen(_) => "fail_open",
            Self::PolicyChange(_) => "policy_change",
            Self::BudgetChange(_) => "budget_change",
            Self::Admin(_) => "admin",
            Self::Other(other) => other.kind,
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was answered.
    Ok,
    /// The provider or the tool failed.
    Error,
    /// It was cut off: a kill, or the cap.
    Cut,
    /// Nobody said how it ended; the whole bound is charged.
    Unsettled,
    /// Its reservation ran out; the whole bound is charged.
    Expired,
}

impl Outcome {
    /// As the log writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Cut => "cut",
            Self::Unsettled => "unsettled",
            Self::Expired => "expired",
        }
    }
}

/// What spending is against its caps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BudgetDecision {
    /// Under every cap.
    Under,
    /// Over the soft cap.
    SoftExceeded,
    /// The cap is reached, or the call did not fit under it.
    HardExceeded,
}

impl BudgetDecision {
    /// As the log writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Under => "under",
            Self::SoftExceeded => "soft_exceeded",
            Self::HardExceeded => "hard_exceeded",
        }
    }
}

/// What a rule did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PolicyAction {
    /// It blocked the call.
    Block,
    /// It noted the call.
    Warn,
    /// It asked for a human.
    Hitl,
    /// It took something out of the call.
    Redact,
}

impl PolicyAction {
    /// As the log writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Warn => "warn",
            Self::Hitl => "hitl",
            Self::Redact => "redact",
        }
    }
}

/// How a request for approval ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HitlOutcome {
    /// A human approved.
    Approve,
    /// A human rejected.
    Reject,
    /// Nobody answered in time.
    Expire,
}

impl HitlOutcome {
    /// As the log writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Expire => "expire",
        }
    }
}

/// A call of a model. `Default` has no tokens, no cost, and the hash of nothing for request and response.
#[derive(Clone, Copy, Debug)]
pub struct ModelCall<'a> {
    /// Who serves the model.
    pub provider: &'a str,
    /// The model.
    pub model: &'a str,
    /// Tokens of input, as the provider counts them.
    pub input_tokens: u64,
    /// Tokens of output, as the provider counts them.
    pub output_tokens: u64,
    /// What this call cost, not what the session has spent.
    pub cost: Usd,
    /// Digest of what really left.
    pub request_hash: Digest,
    /// Digest of what came back, [`Digest::EMPTY`] where nothing did.
    pub response_hash: Digest,
    /// What the session has spent, this call included.
    pub cumulative: Option<Usd>,
    /// Input tokens read from the provider's cache.
    pub cache_read_tokens: Option<u64>,
    /// Input tokens written to the provider's cache.
    pub cache_write_tokens: Option<u64>,
    /// Output tokens that were reasoning.
    pub reasoning_tokens: Option<u64>,
    /// Milliseconds from admission to settlement.
    pub duration_ms: Option<u64>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Where the usage comes from, such as `estimated`; left out where the provider reported it.
    pub usage: Option<&'a str>,
    /// Which price table the cost was computed with.
    pub price_version: Option<&'a str>,
    /// Whether the request's output bound was lowered to fit.
    pub clamped: Option<bool>,
    /// The approval that let it through.
    pub hitl_request_id: Option<&'a str>,
    /// The reservation that it ended, where there may be other lines of it. One of them counts: the call's own, or else one
    /// without `outcome`, which somebody else wrote when it was settled, or else one of its expiry.
    pub reservation_id: Option<&'a str>,
    /// What it was charged to besides its session, agent and tenant, by names of the user's own; left out where there are
    /// none.
    pub scopes: &'a [&'a str],
}

impl Default for ModelCall<'_> {
    fn default() -> Self {
        Self {
            provider: "",
            model: "",
            input_tokens: 0,
            output_tokens: 0,
            cost: Usd::ZERO,
            request_hash: Digest::EMPTY,
            response_hash: Digest::EMPTY,
            cumulative: None,
            cache_read_tokens: None,
            cache_write_tokens: None,
            reasoning_tokens: None,
            duration_ms: None,
            outcome: None,
            usage: None,
            price_version: None,
            clamped: None,
            hitl_request_id: None,
            reservation_id: None,
            scopes: &[],
        }
    }
}

/// A call of a tool. `Default` has the hash of nothing for request and response.
#[derive(Clone, Copy, Debug)]
pub struct ToolCall<'a> {
    /// The tool.
    pub tool: &'a str,
    /// Digest of the call.
    pub request_hash: Digest,
    /// Digest of the result, [`Digest::EMPTY`] where there is none.
    pub response_hash: Digest,
    /// What this call cost, where the tool has a price.
    pub cost: Option<Usd>,
    /// What the session has spent, this call included.
    pub cumulative: Option<Usd>,
    /// Milliseconds from admission to the result.
    pub duration_ms: Option<u64>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// The approval that let it through.
    pub hitl_request_id: Option<&'a str>,
    /// As [`ModelCall::reservation_id`].
    pub reservation_id: Option<&'a str>,
    /// As [`ModelCall::scopes`].
    pub scopes: &'a [&'a str],
}

impl Default for ToolCall<'_> {
    fn default() -> Self {
        Self {
            tool: "",
            request_hash: Digest::EMPTY,
            response_hash: Digest::EMPTY,
            cost: None,
            cumulative: None,
            duration_ms: None,
            outcome: None,
            hitl_request_id: None,
            reservation_id: None,
            scopes: &[],
        }
    }
}

/// Where spending stands.
#[derive(Clone, Copy, Debug)]
pub struct Budget<'a> {
    /// What the scope has spent.
    pub cumulative: Usd,
    /// The scope's cap; `null` where it has none.
    pub cap: Option<Usd>,
    /// What that means.
    pub decision: BudgetDecision,
    /// Which scope; left out for the session.
    pub scope: Option<&'a str>,
    /// Over which span of the calendar (`day`) the cap holds; left out for one that holds in total.
    pub window: Option<&'a str>,
}

/// A kill order.
#[derive(Clone, Copy, Debug)]
pub struct Kill<'a> {
    /// Why.
    pub reason: &'a str,
    /// What is stopped, where it is not a session.
    pub scope: Option<&'a str>,
}

/// The end of a kill order.
#[derive(Clone, Copy, Debug)]
pub struct KillClear<'a> {
    /// Why; `null` where nobody said.
    pub reason: Option<&'a str>,
    /// What was stopped, where it was not a session.
    pub scope: Option<&'a str>,
}

/// What a rule did.
#[derive(Clone, Copy, Debug)]
pub struct PolicyDecision<'a> {
    /// The rule.
    pub rule_id: &'a str,
    /// What it did.
    pub action: PolicyAction,
    /// Why. Never quotes a prompt or an argument.
    pub reason: &'a str,
    /// The tool called, or `PROVIDER.call` for a model.
    pub tool: &'a str,
    /// Whether the rule only watches, so that nothing came of it. Left out where it does more.
    pub shadow: bool,
}

/// How a request for approval ended.
#[derive(Clone, Copy, Debug)]
pub struct HitlDecision<'a> {
    /// The request.
    pub request_id: &'a str,
    /// The rule that asked.
    pub rule_id: &'a str,
    /// How it ended.
    pub decision: HitlOutcome,
    /// Why; `null` where nobody said.
    pub reason: Option<&'a str>,
    /// Who decided; `null` for the clock.
    pub operator: Option<&'a str>,
}

/// A refused call.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// What refused it.
    pub rule_id: &'a str,
    /// Why. Never quotes a prompt or an argument.
    pub reason: &'a str,
    /// Where on its way it was refused: `kill`, `price`, `rules`, and so on.
    pub stage: &'a str,
}

/// What is to be called.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// A model.
    Model {
        /// Who serves it.
        provider: &'a str,
        /// The model.
        model: &'a str,
    },
    /// A tool.
    Tool {
        /// The tool.
        tool: &'a str,
    },
}

/// A call that was let through.
#[derive(Clone, Copy, Debug)]
pub struct Admitted<'a> {
    /// What is to be called.
    pub target: Target<'a>,
    /// Digest of what is about to leave.
    pub request_hash: Digest,
    /// What it may cost at most.
    pub bound: Usd,
    /// As [`ModelCall::scopes`].
    pub scopes: &'a [&'a str],
}

/// A torn tail that was set aside.
#[derive(Clone, Copy, Debug)]
pub struct LogRecovered<'a> {
    /// Name of the file that holds the torn bytes, beside the log.
    pub set_aside: &'a str,
    /// How many bytes.
    pub bytes: u64,
    /// Their digest.
    pub sha256: Digest,
}

/// Something that somebody did to the set-up.
#[derive(Clone, Copy, Debug)]
pub struct Note<'a> {
    /// What was done.
    pub what: &'a str,
    /// Why.
    pub reason: &'a str,
    /// Who did it; `null` where that is not known.
    pub operator: Option<&'a str>,
    /// An object of further members, none of which has a name that the line has already.
    pub members: Option<&'a Json>,
}

/// An event of a kind that has no variant.
#[derive(Clone, Copy, Debug)]
pub struct Other<'a> {
    /// Its kind.
    pub kind: &'a str,
    /// Its members: an object, none of whose names is one that every line has.
    pub members: &'a Json,
}
