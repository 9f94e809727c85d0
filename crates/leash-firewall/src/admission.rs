//! [`Admission`]: the one value that allows a call, and how it ends.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use leash_audit::{Appended, Outcome, Slot};
use leash_budget::{Balance, Bound, ModelPrice, Scope, Settlement, Written};
use leash_core::{Call, Digest, LeashError, RequestId, ReservationId, Timestamp, ToolRequest, Usage, Usd};

use crate::journal::{CallLine, Warning};
use crate::path::Shared;
use crate::session::Session;
use crate::settler::Permit;

/// What came back, as far as money and the log are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the provider reported last; `None` where it reported nothing that can be believed. For a tool: `None`.
    pub usage: Option<Usage>,
    /// Whether `usage` is final. If not, what may have been billed unseen stays charged at the bound.
    pub is_final: bool,
    /// The log's `response_hash`; [`Digest::EMPTY`] where there was no response.
    pub response_digest: Digest,
    /// How it ended.
    pub outcome: Outcome,
}

impl Answer {
    /// A whole answer with the provider's final usage.
    #[must_use]
    pub const fn reported(usage: Usage, response_digest: Digest) -> Self {
        Self {
            usage: Some(usage),
            is_final: true,
            response_digest,
            outcome: Outcome::Ok,
        }
    }

    /// An answer whose usage nobody knows: the bound is charged.
    #[must_use]
    pub const fn unreported(response_digest: Digest, outcome: Outcome) -> Self {
        Self {
            usage: None,
            is_final: false,
            response_digest,
            outcome,
        }
    }
}

/// What a settlement did.
#[derive(Debug)]
#[non_exhaustive]
pub struct Receipt {
    /// What the call was charged.
    pub cost: Usd,
    /// What the session has spent, this call included.
    pub cumulative: Usd,
    /// Whether the charge is the bound or holds a part of it, because the provider did not say.
    pub estimated: bool,
    /// Whether the call broke a cap: the provider billed above the bound. Nothing more is admitted under that cap.
    pub broke_cap: bool,
    /// What went wrong with the paperwork after the money was spent. The answer is good all the same.
    pub warning: Option<Warning>,
}

/// A call that may be made: its bound is set aside, its `admitted` line or durable reservation is there.
///
/// It ends exactly once: by [`settle`](Self::settle), by [`fail`](Self::fail), or by being dropped, which charges
/// the whole bound because nobody knows what was billed.
#[must_use = "dropping an admission charges the whole bound"]
pub struct Admission {
    details: Arc<Details>,
    /// `None` only once the call has ended.
    room: Option<Room>,
}

/// What is known of a call under way.
pub(crate) struct Details {
    pub(crate) shared: Arc<Shared>,
    pub(crate) session: Arc<Session>,
    pub(crate) call: Call,
    pub(crate) is_redacted: bool,
    /// Whether what `hold` names was set aside, and ends by itself.
    pub(crate) has_lease: bool,
    pub(crate) request_digest: Digest,
    pub(crate) price: Option<Arc<ModelPrice>>,
    pub(crate) bound: Bound,
    /// The maximum of output that the request must set, where the call was lowered to what its budget affords.
    pub(crate) output_limit: Option<u64>,
    pub(crate) hold: Option<(ReservationId, Arc<[Scope]>)>,
    /// What the session had spent when the bound was set aside.
    pub(crate) spent_before: Usd,
    pub(crate) hitl_request_id: Option<RequestId>,
    pub(crate) started: Timestamp,
}

impl Details {
    /// What `usage` costs; `None` where a part of it has no price, or the cost is absurd. What the answer does not say is
    /// as the request asked. Of a price that changed since the call began, the dearer one counts, as providers bill by
    /// the beginning or by the end.
    fn cost(&self, usage: &Usage) -> Option<Usd> {
        let price = self.price.as_ref()?;
        let Call::Model(call) = &self.call else {
            return price.cost(usage).ok();
        };
        let cost = price.cost_of(call, usage).ok()?;
        let now = match &call.advisor {
            None => self.shared.prices.find(&call.provider, &call.model),
            Some(_) => None,
        };
        let now = now
            .filter(|listed| listed.constant_price().is_none())
            .map(|listed| listed.price_at(self.shared.clock.now()));
        match now {
            Some(now) if !Arc::ptr_eq(now, price) => Some(cost.max(now.cost_of(call, usage).ok()?)),
            _ => Some(cost),
        }
    }

    async fn renew(&self) {
        if let Some((id, _)) = &self.hold
            && let Err(error) = self.shared.store.renew(*id, self.shared.lease).await
        {
            tracing::warn!(target: "llm_leash", %error, "failed to renew a reservation");
        }
    }

    fn renew_every(&self) -> Duration {
        let lease = self.shared.lease;
        lease
            .checked_div(3)
            .unwrap_or(lease)
            .max(Duration::from_millis(1))
    }
}

/// What a call needs for its end: room for its line, and for itself in the settling thread's queue.
struct Room {
    slot: Option<Slot>,
    _permit: Option<Permit>,
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("call", &self.details.call)
            .field("bound", &self.details.bound)
            .finish_non_exhaustive()
    }
}

impl Admission {
    pub(crate) fn new(details: Details, slot: Option<Slot>, permit: Option<Permit>) -> Self {
        Self {
            details: Arc::new(details),
            room: Some(Room {
                slot,
                _permit: permit,
            }),
        }
    }

    /// The call as it must leave: redacted, where there was something to redact.
    #[must_use]
    pub fn call(&self) -> &Call {
        &self.details.call
    }

    /// Whether redaction changed the call: what leaves must be taken from [`call`](Self::call).
    #[must_use]
    pub fn is_redacted(&self) -> bool {
        self.details.is_redacted
    }

    /// What the call can use and cost at most.
    #[must_use]
    pub fn bound(&self) -> Bound {
        self.details.bound
    }

    /// The maximum of output, for each choice, that whoever sends the call must write into the request, where the call was
    /// lowered to what its budget affords: limits above it are lowered to it, and it is added where there is none. `None`
    /// where the request may leave with the limits it has.
    #[must_use]
    pub fn output_limit(&self) -> Option<u64> {
        self.details.output_limit
    }

    /// Whether so much usage is still within what was set aside. A stream that passes it must be cut.
    #[must_use]
    pub fn covers(&self, usage: &Usage) -> bool {
        self.details
            .cost(usage)
            .is_some_and(|cost| cost <= self.details.bound.amount)
    }

    /// Ends the call with what came back: the real cost replaces the bound, and the line is written.
    ///
    /// It goes through even if this future is dropped. It does not fail: what goes wrong with the paperwork is in
    /// [`Receipt::warning`], because the answer is paid for and belongs to the caller.
    pub async fn settle(mut self, answer: Answer) -> Receipt {
        self.end(End::Answered(answer)).await
    }

    /// Ends the call as one that the provider did not bill. The bound is given back.
    pub async fn fail(mut self) -> Receipt {
        self.end(End::NotBilled).await
    }

    async fn end(&mut self, end: End) -> Receipt {
        let Some(room) = self.room.take() else {
            return Receipt::nothing();
        };
        let mut guard = EndGuard(Some(Ending::new(self.details.clone(), room, end)));
        let Some(ending) = &mut guard.0 else {
            return Receipt::nothing();
        };
        let mut receipt = ending.run().await;
        if ending.is_done() {
            if receipt.warning.is_none() {
                receipt.warning = ending.durable().await;
            }
            if receipt.warning.is_none() {
                ending.confirm();
            }
            guard.0 = None;
        }
        receipt
    }

    /// Asks about a tool call that the model wants: kill orders, rules, and a human if a rule wants one.
    ///
    /// What a human approves here is approved for the call itself, too: the same call, made once through
    /// `Firewall::tool` or `Firewall::admit` of this firewall before the approval ends, is not asked about again.
    ///
    /// # Errors
    /// [`LeashError`] where the agent must not see it. The refusal is in the log.
    pub async fn inspect(&self, request: &ToolRequest) -> Result<(), LeashError> {
        self.details.shared.inspect(&self.details.session, request).await
    }

    /// Waits until a kill order stops the caller, or the registry cannot tell any more. For as long as neither
    /// happens, it waits: race it against what may be stopped.
    pub async fn stopped(&self) -> LeashError {
        self.details.shared.stopped(&self.details.session).await
    }

    /// Lets the reservation stand for another lease. A long stream calls it [now and then](Self::renew_every).
    pub async fn renew(&self) {
        self.details.renew().await;
    }

    /// How often to [`renew`](Self::renew): a third of the lease.
    #[must_use]
    pub fn renew_every(&self) -> Duration {
        self.details.renew_every()
    }

    /// Never ends, and [renews](Self::renew) the reservation now and then for as long as it is polled. Poll the same one
    /// all along: a renewal that is dropped half-way may not have reached the store.
    ///
    /// Outside of tokio there are no timers; then it renews nothing, and the lease has to be long enough.
    ///
    /// # Panics
    /// When it is polled inside a tokio runtime that was built without timers.
    pub fn keep_alive(&self) -> impl Future<Output = Infallible> + Send + use<> {
        let details = self.details.clone();
        async move {
            if tokio::runtime::Handle::try_current().is_err() {
                return std::future::pending().await;
            }
            loop {
                tokio::time::sleep(details.renew_every()).await;
                details.renew().await;
            }
        }
    }
}

/// Nobody said how the call ended, so the whole bound is charged.
impl Drop for Admission {
    fn drop(&mut self) {
        if let Some(room) = self.room.take() {
            let ending = Ending::new(self.details.clone(), room, End::Unsettled);
            self.details.shared.settler.end(Box::new(ending));
        }
    }
}

impl Receipt {
    const fn nothing() -> Self {
        Self {
            cost: Usd::ZERO,
            cumulative: Usd::ZERO,
            estimated: false,
            broke_cap: false,
            warning: None,
        }
    }
}

#[derive(Clone, Copy)]
#[expect(
    clippy::large_enum_variant,
    reason = "one a call, moved twice: a box would cost more than it saves"
)]
pub(crate) enum End {
    Answered(Answer),
    NotBilled,
    Unsettled,
}

/// A call that is being ended: by its caller, or by the settling thread.
pub(crate) struct Ending {
    details: Arc<Details>,
    room: Room,
    end: End,
    /// Whether its line is owed to a store that keeps the call until it is written.
    owes_line: bool,
    store: Known,
    /// Whether another line may tell of its reservation.
    is_named: bool,
    charged: Option<(Usd, bool)>,
    is_written: bool,
    ticket: Option<Appended>,
    /// What the store is to be told once the line is as durable as the log promises.
    written: Option<Written>,
}

/// What the store knows of a call that is being ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// That it is under way.
    Nothing,
    /// How it ended, or there is nothing to know.
    Settled,
    /// It could not be told until the lease was over, so the call is charged in full.
    Lapsed,
}

/// Hands an ending whose future was dropped, or whose store failed, to the settling thread.
struct EndGuard(Option<Ending>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        if let Some(ending) = self.0.take() {
            let details = ending.details.clone();
            details.shared.settler.end(Box::new(ending));
        }
    }
}

impl Ending {
    fn new(details: Arc<Details>, room: Room, end: End) -> Self {
        let is_held = details.hold.is_some();
        // What is given back has a line that costs nothing: none is missed.
        let is_charged = is_held && !matches!(end, End::NotBilled);
        let owes_line = is_charged && room.slot.is_some() && details.shared.owes_lines();
        Self {
            details,
            room,
            end,
            owes_line,
            store: if is_held { Known::Nothing } else { Known::Settled },
            is_named: owes_line,
            charged: None,
            is_written: false,
            ticket: None,
            written: None,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.store == Known::Settled && self.is_written
    }

    /// After which time the store has charged the call by itself; `None` where it never does.
    pub(crate) fn lease(&self) -> Option<Duration> {
        self.details.has_lease.then_some(self.details.shared.lease)
    }

    /// The charge, and whether it holds a guess. Once said it stays so, as the store may have heard it.
    fn charge(&mut self) -> (Usd, bool) {
        let found = self.charged.unwrap_or_else(|| self.find_charge());
        self.charged = Some(found);
        found
    }

    fn find_charge(&self) -> (Usd, bool) {
        let bound = self.details.bound.amount;
        let reported = |usage: &Usage| self.details.cost(usage);
        match &self.end {
            _ if self.store == Known::Lapsed => (bound, true),
            End::NotBilled => (Usd::ZERO, false),
            End::Unsettled => (bound, true),
            // A tool costs what it was said to cost.
            End::Answered(_) if matches!(self.details.call, Call::Tool(_)) => (bound, false),
            End::Answered(answer) => match answer.usage.as_ref().and_then(reported) {
                Some(cost) if answer.is_final => (cost, false),
                Some(cost) => (cost.max(bound), true),
                None => (bound, true),
            },
        }
    }

    /// Settles, then writes. May be called again where the store failed: neither is done twice.
    ///
    /// A line that names its reservation says what the store has charged, so it waits until the store has.
    pub(crate) async fn run(&mut self) -> Receipt {
        let (cost, estimated) = self.charge();
        let mut receipt = Receipt {
            cost,
            estimated,
            ..Receipt::nothing()
        };
        let mut balances: Option<Vec<Balance>> = None;
        if let (Known::Nothing, Some((id, scopes))) = (self.store, &self.details.hold) {
            let store = &self.details.shared.store;
            let settled = if matches!(self.end, End::NotBilled) {
                store.release(*id).await.map(|()| None)
            } else {
                let settlement = Settlement {
                    id: *id,
                    amount: cost,
                    scopes: scopes.clone(),
                    owes_line: self.owes_line,
                };
                store.settle(&settlement).await.map(Some)
            };
            match settled {
                Ok(settled) => {
                    self.store = Known::Settled;
                    self.is_named |= settled.as_ref().is_some_and(|settled| settled.was_expired);
                    balances = settled.map(|settled| settled.balances);
                }
                Err(error) => {
                    tracing::error!(target: "llm_leash", %error, "failed to settle a call; it is tried again until its lease runs out");
                    receipt.warning = Some(Warning::NotSettled(error));
                }
            }
        }
        if self.is_written {
            return receipt;
        }
        // Without a lease nothing else would ever tell of it.
        if self.owes_line && self.store == Known::Nothing && self.details.has_lease {
            receipt.cumulative = self.details.spent_before.saturating_add(cost);
            return receipt;
        }
        self.write(&mut receipt, balances.as_deref());
        if let (Some(balances), Some((_, scopes))) = (&balances, &self.details.hold) {
            receipt.broke_cap = self
                .details
                .shared
                .note_states(&self.details.session, scopes, balances);
        }
        receipt
    }

    fn write(&mut self, receipt: &mut Receipt, balances: Option<&[Balance]>) {
        let details = &self.details;
        receipt.cumulative = details.session.add(receipt.cost, balances, details.spent_before);
        self.is_written = true;
        let Some(slot) = self.room.slot.take() else {
            return;
        };
        let line = self.line(receipt);
        match self.details.shared.journal.write_call(slot, &self.details, &line) {
            Ok(ticket) => {
                self.ticket = ticket;
                self.written = self
                    .details
                    .hold
                    .as_ref()
                    .filter(|_| self.owes_line)
                    .map(|(id, _)| Written {
                        id: *id,
                        charged: receipt.cost,
                    });
            }
            Err(warning) => {
                // Not everybody looks at the receipt, and some calls end where nobody can.
                tracing::error!(target: "llm_leash", error = %warning, "failed to write the line of a call; nothing more is admitted until it is written");
                receipt.warning = Some(warning);
            }
        }
    }

    /// Has the store told that the line is written, at some time: until then it keeps the call.
    pub(crate) fn confirm(&mut self) {
        if let Some(written) = self.written.take() {
            self.details.shared.settler.wrote(written, self.ticket.take());
        }
    }

    /// Gives up telling the store: the lease is over, so the call has expired there, and so says its line.
    pub(crate) fn lapse(&mut self) {
        if self.is_written {
            return;
        }
        self.store = Known::Lapsed;
        self.charged = None;
        let (cost, estimated) = self.charge();
        let mut receipt = Receipt {
            cost,
            estimated,
            ..Receipt::nothing()
        };
        self.write(&mut receipt, None);
    }

    /// Waits until the line is as durable as the log promises.
    async fn durable(&mut self) -> Option<Warning> {
        let ticket = self.ticket.take()?;
        let error = ticket.durable().await.err()?;
        tracing::error!(target: "llm_leash", %error, "failed to make the line of a call durable; nothing more is admitted");
        Some(Warning::NotDurable(error))
    }

    fn line(&self, receipt: &Receipt) -> CallLine {
        let bound = self.details.bound;
        let at_bound = Usage {
            input_tokens: bound.input_tokens,
            output_tokens: bound.output_tokens,
            ..Usage::default()
        };
        let (usage, response_digest, outcome) = match &self.end {
            End::NotBilled => (Usage::default(), Digest::EMPTY, Outcome::Error),
            End::Unsettled => (at_bound, Digest::EMPTY, Outcome::Unsettled),
            End::Answered(answer) => {
                let usage = match answer.usage {
                    Some(usage) => usage,
                    None => at_bound,
                };
                (usage, answer.response_digest, answer.outcome)
            }
        };
        CallLine {
            usage,
            response_digest,
            outcome: Some(if self.store == Known::Lapsed {
                Outcome::Expired
            } else {
                outcome
            }),
            reservation: self
                .details
                .hold
                .as_ref()
                .filter(|_| self.is_named)
                .map(|(id, _)| *id),
            cost: receipt.cost,
            cumulative: receipt.cumulative,
            estimated: receipt.estimated,
        }
    }
}
