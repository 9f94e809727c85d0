//! [`Firewall`]: the one way through. Asks in order, refuses at the first "no", and writes down what it refused.

use std::fmt;
use std::sync::Arc;

use leash_budget::{Balance, Scope};
use leash_core::{Call, Caller, LeashError, SessionId, StoreError, ToolRequest, Usd, rule_ids};
use leash_hitl::{Entry, ResumeError, Ruling};
use leash_kill::{KillOrder, Target};

use crate::admission::Admission;
use crate::builder::FirewallBuilder;
use crate::journal::Stage;
use crate::path::Shared;
use crate::session::Session;
use crate::settler::Settler;
use crate::wrap::Wrap;

/// The longest name of a provider, a model or a tool, in bytes. A line of the log has these names, and what cannot be
/// written down when it is over must not begin.
const MAX_NAME_BYTES: usize = 1024;

fn check_name(name: &str) -> Result<(), LeashError> {
    if name.len() <= MAX_NAME_BYTES {
        return Ok(());
    }
    let reason = "the name of the provider, the model or the tool is longer than 1,024 bytes";
    Err(LeashError::blocked(rule_ids::WIRE, reason))
}

pub(crate) fn check_names(call: &Call) -> Result<(), LeashError> {
    match call {
        Call::Model(call) => check_name(&call.provider).and_then(|()| check_name(&call.model)),
        Call::Tool(call) => check_name(&call.tool),
    }
}

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

    /// A handle for another session of the same tenant and agent, which shares everything but the session's own budget. A
    /// handle that spends a [grant](Self::grant) shares that too.
    #[must_use]
    pub fn session(&self, id: SessionId) -> Self {
        self.for_caller(Caller {
            session_id: id,
            ..self.session.caller.clone()
        })
    }

    /// A handle for another caller, which shares everything but the caps of its own session, agent and tenant. Where a cap is
    /// over tenants or agents and `caller` has none, each of its calls is refused.
    #[must_use]
    pub fn for_caller(&self, caller: Caller) -> Self {
        let session = if caller == self.session.caller {
            self.session.clone()
        } else {
            self.session_of(caller)
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
    /// What a human approves here is approved for the call itself, too: the same call, made once through
    /// `Firewall::tool` or `Firewall::admit` of this firewall before the approval ends, is not asked about again.
    ///
    /// # Errors
    /// [`LeashError`] where the agent must not see it. The refusal is in the log.
    pub async fn inspect(&self, request: &ToolRequest) -> Result<(), LeashError> {
        check_name(&request.tool).map_err(|error| self.refuse(error))?;
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
        check_names(&call).map_err(|error| self.refuse(error))?;
        call.set_caller(&self.session.caller);
        if let Call::Model(call) = &mut call
            && call.max_server_tool_uses.is_none()
        {
            call.max_server_tool_uses = self.shared.max_server_tool_uses;
        }
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

    /// As [`check_stopped`](Self::check_stopped), for each piece of what was admitted and runs: it writes nothing,
    /// since the line of the call will say that it was cut. On a busy machine it is sooner than
    /// [`stopped`](Self::stopped), which has to be woken.
    ///
    /// # Errors
    /// [`LeashError`] where an order stops the session, or the registry cannot tell.
    pub async fn check_running(&self) -> Result<(), LeashError> {
        self.shared.ask_registry(&self.session).await
    }

    /// Waits until a kill order stops this session, or the registry cannot tell any more. For as long as neither
    /// happens, it waits: race it against what may be stopped and holds no [`Admission`].
    pub async fn stopped(&self) -> LeashError {
        self.shared.stopped(&self.session).await
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

    /// Decides a request for approval by the token of a link; gives the entry as it then stands.
    ///
    /// For a service that serves links of its own, or answers a chat: whoever waits for the answer, in this process or
    /// in another that shares the queue, goes on. The token is all the right that is needed, so any handle will do.
    /// A token works once; the gate is [told](leash_hitl::QueueHitlGate::resume_key) which key made it.
    ///
    /// # Errors
    /// [`ResumeError`] where nothing was decided, and [`ResumeError::NoLinks`] without a gate or a key. Where it was
    /// decided but could not be written down: [`ResumeError::Queue`], and the decision stands.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use leash_core::{Action, Call, Clock as _, Decision, PolicyContext, Rule, RuleError, SystemClock};
    /// use leash_firewall::Firewall;
    /// use leash_hitl::{
    ///     Allowed, HitlQueue as _, MemoryQueue, QueueHitlGate, ResumeKey, Ruling, Secret, Which,
    /// };
    /// use serde_json::json;
    ///
    /// #[derive(Debug)]
    /// struct Wires;
    ///
    /// impl Rule for Wires {
    ///     fn id(&self) -> &str {
    ///         "wires"
    ///     }
    ///
    ///     fn evaluate(&self, _: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
    ///         Ok(Some(Decision::new(Action::Hitl, "wires", "money leaves")))
    ///     }
    /// }
    ///
    /// let key = ResumeKey::new(Secret::new("at least 16 bytes that nobody can guess")?);
    /// let queue = Arc::new(MemoryQueue::new());
    /// let fw = Firewall::builder()
    ///     .rule(Wires)
    ///     .hitl_gate(Arc::new(QueueHitlGate::new(queue.clone()).resume_key(key.clone())))
    ///     .build()?;
    ///
    /// let mut changes = queue.changes();
    /// let agent = fw.tool("wire", json!({"usd": 4000}), async |_| Ok::<_, std::io::Error>(json!("sent")));
    /// let human = async {
    ///     changes.changed().await?;
    ///     let asked = queue.list(Which::Open).await?.remove(0);
    ///     // Sent to somebody, who clicks; then:
    ///     let until = SystemClock.now().saturating_add(Duration::from_mins(10));
    ///     let token = key.token(&asked.id, until, Allowed::Either);
    ///     fw.resume(&token, &Ruling::approve(Some("ada"))).await?;
    ///     Ok::<_, Box<dyn std::error::Error>>(())
    /// };
    /// let (sent, decided) = tokio::join!(agent, human);
    /// decided?;
    /// assert_eq!(sent?.value, "sent");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn resume(&self, token: &str, decision: &Ruling) -> Result<Entry, ResumeError> {
        let gate = self.shared.gate.as_ref().ok_or(ResumeError::NoLinks)?;
        let entry = gate.resume(token, decision).await?;
        let written = self.shared.journal.resumed(&entry, decision);
        written.map_err(|error| ResumeError::Queue(error.into()))?;
        Ok(entry)
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
        let balances = self.shared.store.balances(&self.session.scopes).await?;
        Ok(self.session.scopes.iter().cloned().zip(balances).collect())
    }

    /// Waits until every call that was dropped is settled, and everything that is counted is written.
    ///
    /// # Errors
    /// [`StoreError`] where the log could not be written.
    pub async fn flush(&self) -> Result<(), StoreError> {
        Ok(Settler::flush(&self.shared).await?)
    }

    /// Admits nothing more, for this and every other handle, and does what [`flush`](Self::flush) does. Once every handle
    /// is dropped and every call has ended, another firewall may be given the log.
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
