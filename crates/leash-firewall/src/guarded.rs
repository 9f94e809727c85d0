//! Guarded calls for what has no adapter: [`Firewall::model`], [`Firewall::tool`], [`Firewall::charge`].

use std::sync::Arc;

use leash_budget::{Bound, Held, Hold, HoldLine, Reserve, Scope};
use leash_core::{
    Call, Digest, Json, LeashError, ModelCall, StoreError, StoreErrorKind, ToolCall, ToolRequest, Usage,
    rule_ids,
};

use crate::admission::{Admission, Answer, Details, Receipt};
use crate::firewall::check_names;
use crate::path::Reserved;
use crate::{Firewall, Outcome};

/// What a guarded closure brings back from a model.
#[derive(Debug)]
pub struct ModelAnswer<T> {
    /// For the caller.
    pub value: T,
    /// What the provider reported; `None` charges the bound.
    pub usage: Option<Usage>,
    /// The content of the answer, for the log's `response_hash`. Only its hash is kept.
    pub content: Json,
    /// Tool calls that the model asks for. Each must pass kill orders, rules and humans before the caller sees the answer.
    pub tool_requests: Vec<ToolRequest>,
}

impl<T> ModelAnswer<T> {
    /// An answer with its usage and content, and no tool calls.
    pub const fn new(value: T, usage: Usage, content: Json) -> Self {
        Self {
            value,
            usage: Some(usage),
            content,
            tool_requests: Vec::new(),
        }
    }
}

/// A call of a model that brought no answer.
#[derive(Debug)]
pub struct ModelFailure<E> {
    /// What went wrong.
    pub error: E,
    /// Whether the provider may have billed it all the same: then the bound is charged.
    pub may_be_billed: bool,
}

impl<E> ModelFailure<E> {
    /// The provider did not bill it, as it says or as its status means.
    pub const fn not_billed(error: E) -> Self {
        Self {
            error,
            may_be_billed: false,
        }
    }
}

/// Nobody knows whether it was billed, so it was.
impl<E> From<E> for ModelFailure<E> {
    fn from(error: E) -> Self {
        Self {
            error,
            may_be_billed: true,
        }
    }
}

/// What came back from a guarded call.
#[derive(Debug)]
pub struct Answered<T> {
    /// What the closure returned.
    pub value: T,
    /// What it cost, and how the paperwork went.
    pub receipt: Receipt,
}

/// Why a guarded call brought nothing back.
#[derive(Debug, thiserror::Error)]
pub enum GuardedError<E> {
    /// The firewall refused it, or cut it off.
    #[error(transparent)]
    Refused(#[from] LeashError),
    /// The closure failed.
    #[error("{0}")]
    Failed(E),
}

/// A cost that came about outside: what was used, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Who serves the model.
    pub provider: Arc<str>,
    /// The model.
    pub model: Arc<str>,
    /// What was used.
    pub usage: Usage,
}

impl Firewall {
    /// Calls a model under guard: `run` is given the call as it must leave.
    ///
    /// It is dropped where a kill order stops the session, and then the bound is charged. However long it takes, what was
    /// set aside for it stays so.
    ///
    /// # Errors
    /// [`GuardedError::Refused`] where the call, or a tool call that the model asks for, is refused;
    /// [`GuardedError::Failed`] with what `run` returned.
    ///
    /// # Panics
    /// Where `run` has to wait inside a tokio runtime that was built without timers.
    pub async fn model<T, E, F>(&self, call: ModelCall, run: F) -> Result<Answered<T>, GuardedError<E>>
    where
        F: AsyncFnOnce(ModelCall) -> Result<ModelAnswer<T>, ModelFailure<E>>,
    {
        let admission = self.admit(call).await?;
        let Call::Model(call) = admission.call().clone() else {
            return Err(mistaken().into());
        };
        let ran = match admission.unless_stopped(run(call)).await {
            Ok(ran) => ran,
            Err(stopped) => return Err(cut(admission, stopped).await.into()),
        };
        match ran {
            Ok(answer) => {
                let digest = if self.audit_log().is_some() {
                    answer.content.digest()
                } else {
                    Digest::EMPTY
                };
                let receipt = admission
                    .settle(match answer.usage {
                        Some(usage) => Answer::reported(usage, digest),
                        None => Answer::unreported(digest, Outcome::Ok),
                    })
                    .await;
                for request in &answer.tool_requests {
                    self.inspect(request).await?;
                }
                Ok(Answered {
                    value: answer.value,
                    receipt,
                })
            }
            Err(failure) => {
                if failure.may_be_billed {
                    admission
                        .settle(Answer::unreported(Digest::EMPTY, Outcome::Error))
                        .await;
                } else {
                    admission.fail().await;
                }
                Err(GuardedError::Failed(failure.error))
            }
        }
    }

    /// Calls a tool under guard: `run` is given the call as it must leave, and returns the tool's result.
    ///
    /// It is dropped where a kill order stops the session.
    ///
    /// # Errors
    /// [`GuardedError::Refused`] where the call is refused; [`GuardedError::Failed`] with what `run` returned.
    ///
    /// # Panics
    /// Where `run` has to wait inside a tokio runtime that was built without timers.
    pub async fn tool<R, E, F>(
        &self,
        tool: impl Into<Arc<str>>,
        args: impl Into<Json>,
        run: F,
    ) -> Result<Answered<R>, GuardedError<E>>
    where
        R: Clone + Into<Json>,
        F: AsyncFnOnce(ToolCall) -> Result<R, E>,
    {
        let admission = self
            .admit(ToolCall::new(tool, args, self.caller().clone()))
            .await?;
        let Call::Tool(call) = admission.call().clone() else {
            return Err(mistaken().into());
        };
        let ran = match admission.unless_stopped(run(call)).await {
            Ok(ran) => ran,
            Err(stopped) => return Err(cut(admission, stopped).await.into()),
        };
        match ran {
            Ok(value) => {
                let digest = if self.audit_log().is_some() {
                    value.clone().into().digest()
                } else {
                    Digest::EMPTY
                };
                let receipt = admission.settle(Answer::unreported(digest, Outcome::Ok)).await;
                Ok(Answered { value, receipt })
            }
            Err(error) => {
                admission
                    .settle(Answer::unreported(Digest::EMPTY, Outcome::Error))
                    .await;
                Err(GuardedError::Failed(error))
            }
        }
    }

    /// Records money that was spent outside: it is charged and logged whether or not it fits under a cap.
    ///
    /// [`Receipt::broke_cap`] says whether it did not; nothing more is admitted then.
    ///
    /// # Errors
    /// [`LeashError`] where the model has no price, the log could not take the line, or too many charges wait for a budget
    /// store that fails: nothing was charged.
    pub async fn charge(&self, charge: Charge) -> Result<Receipt, LeashError> {
        let shared = self.shared();
        let session = self.own_session();
        let started = shared.clock.now();
        let Some(permit) = shared.settler.charge_permit() else {
            let what = "record a charge: too many wait for the budget store";
            let error = StoreError::new(StoreErrorKind::Full, what);
            return Err(LeashError::unavailable(rule_ids::CAPACITY, error));
        };
        let no_price = |reason: String| {
            let error = LeashError::blocked(rule_ids::NO_PRICE, reason);
            shared.refuse(session, crate::journal::Stage::Price, error)
        };
        let price = shared
            .prices
            .price_at(&charge.provider, &charge.model, started)
            .cloned();
        let price = price.ok_or_else(|| no_price("the model has no price".to_owned()))?;
        let amount = price
            .cost(&charge.usage)
            .map_err(|error| no_price(error.to_string()))?;
        let slot = shared
            .journal
            .slot()
            .map_err(|error| LeashError::unavailable(rule_ids::AUDIT, error.into()))?;
        let call = Call::Model(ModelCall::new(
            charge.provider,
            charge.model,
            Json::null(),
            charge.usage.output_tokens,
            self.caller().clone(),
        ));
        check_names(&call).map_err(|error| self.refuse(error))?;
        let scopes = shared.scopes_of(session, &call);
        let hold = (!scopes.is_empty()).then(|| (shared.ids.reservation(started), scopes));
        let (spent_before, _) = shared
            .balance(session)
            .await
            .map_err(|error| LeashError::unavailable(rule_ids::BUDGET_STORE, error))?;
        let bound = Bound {
            input_tokens: charge.usage.total_input_tokens(),
            output_tokens: charge.usage.output_tokens,
            amount,
        };
        let request_digest = call.request_digest();
        let (mut hold, mut permit, mut has_lease) = (hold, Some(permit), false);
        if shared.owes_lines()
            && let Some(place) = hold.take()
            && let Some(own) = permit.take()
            && let Call::Model(call) = &call
        {
            // Whether or not it fits: set aside, it leaves a trace from which others can write its line, should this
            // process die before it has. Where that fails, it is charged without.
            let uncapped = |scope: &Scope| Scope {
                cap: None,
                soft_cap: None,
                ..scope.clone()
            };
            let set_aside = Hold {
                id: place.0,
                amount,
                scopes: place.1.iter().map(uncapped).collect(),
                lease: shared.lease,
                line: HoldLine {
                    what: Held::Model {
                        provider: call.provider.clone(),
                        model: call.model.clone(),
                    },
                    caller: session.caller.clone(),
                    request_digest,
                },
            };
            let reserved = Reserved::new(shared.clone(), place, own);
            has_lease = matches!(shared.store.reserve(&set_aside).await, Ok(Reserve::Granted(_)));
            (hold, permit) = reserved.keep();
        }
        let details = Details {
            shared: shared.clone(),
            session: session.clone(),
            request_digest,
            call,
            is_redacted: false,
            has_lease,
            price: Some(price),
            bound,
            output_limit: None,
            hold,
            spent_before,
            hitl_request_id: None,
            started,
        };
        let admission = Admission::new(details, slot, permit);
        Ok(admission
            .settle(Answer::reported(charge.usage, Digest::EMPTY))
            .await)
    }
}

impl Admission {
    /// Waits for `future`, which makes the call, and keeps the reservation alive meanwhile. Where a kill order stops the
    /// caller first, or the registry cannot tell, `future` is dropped before this returns.
    ///
    /// # Errors
    /// [`LeashError`] where it was stopped. The call may have been billed: settle it as cut.
    ///
    /// # Panics
    /// Where `future` has to wait inside a tokio runtime that was built without timers.
    pub async fn unless_stopped<T>(&self, future: impl Future<Output = T>) -> Result<T, LeashError> {
        tokio::select! {
            biased;
            done = future => Ok(done),
            stopped = self.stopped() => Err(stopped),
            // Made only where there is something to wait for.
            never = async { self.keep_alive().await } => match never {},
        }
    }
}

/// Ends a call that was stopped while it ran.
async fn cut(admission: Admission, stopped: LeashError) -> LeashError {
    admission
        .settle(Answer::unreported(Digest::EMPTY, Outcome::Cut))
        .await;
    stopped
}

/// An admission is of the kind of call that it was asked for.
fn mistaken() -> LeashError {
    LeashError::unavailable(
        rule_ids::CAPACITY,
        StoreError::new(StoreErrorKind::Corrupt, "find the admitted call"),
    )
}
