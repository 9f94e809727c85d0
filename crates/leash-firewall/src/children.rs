//! Child sessions: parts of one session's budget that others spend.

use std::sync::Arc;

use leash_budget::{Grant, Hold, Reserve, Written};
use leash_core::{Caller, LeashError, SessionId, StoreError, StoreErrorKind, Usd, rule_ids};

use crate::Firewall;
use crate::journal::{GrantChange, Stage};
use crate::path::{Reserved, audit_unavailable};
use crate::session::Session;

impl Firewall {
    /// Takes `amount` out of this session's own budget, for a child that spends it in this process or another. It counts as
    /// set aside until it is [given back](Self::give_back), however long that takes and whoever dies meanwhile; so this
    /// session and all its children together stay within its caps.
    ///
    /// The grant's text is a token for [`FirewallBuilder::grant`](crate::FirewallBuilder::grant) in another process that
    /// shares the budget store.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use leash_firewall::Firewall;
    ///
    /// let fw = Firewall::builder().budget_usd(1.00).build()?;
    /// let grant = fw.give("0.40".parse()?).await?;
    /// assert!(fw.give("0.61".parse()?).await.is_err());
    ///
    /// let child = fw.take_up("s_child".parse()?, grant);
    /// // … the child makes its calls …
    /// assert_eq!(child.give_back().await?.to_string(), "0.40");
    /// assert!(fw.give("0.61".parse()?).await.is_ok());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`LeashError`] where the session is stopped, has no budget of its own, or less than `amount` of it is available. The
    /// refusal is in the log.
    pub async fn give(&self, amount: Usd) -> Result<Grant, LeashError> {
        let (shared, session) = (self.shared(), self.own_session());
        let refuse = |stage: Stage, error: LeashError| shared.refuse(session, stage, error);
        let Some(permit) = shared.settler.permit() else {
            let error = StoreError::new(
                StoreErrorKind::Full,
                "grant: too many calls are under way, or the firewall is closed",
            );
            return Err(refuse(
                Stage::Capacity,
                LeashError::unavailable(rule_ids::CAPACITY, error),
            ));
        };
        shared
            .ask_registry(session)
            .await
            .map_err(|error| refuse(Stage::Kill, error))?;
        let id = shared.ids.reservation(shared.clock.now());
        let Some(grant) = Grant::new(id, amount, session.own_scopes()) else {
            let reason = "the session has no budget of its own that a part could be taken from";
            return Err(refuse(
                Stage::Budget,
                LeashError::blocked(rule_ids::GRANT, reason),
            ));
        };
        let hold: Hold = grant.hold(session.caller.clone(), session.own_scopes().into());
        // Given back if this future is dropped half-way.
        let reserved = Reserved::new(shared.clone(), (hold.id, hold.scopes.clone()), permit);
        match shared.store.reserve(&hold).await {
            Ok(Reserve::Granted(_)) => {}
            Ok(Reserve::Refused(refused)) => {
                reserved.keep();
                return Err(shared.refuse_for_money(session, amount, &refused, None));
            }
            Err(error) => {
                return Err(refuse(
                    Stage::Budget,
                    LeashError::unavailable(rule_ids::BUDGET_STORE, error),
                ));
            }
        }
        let _given = shared
            .journal
            .grant(session, &grant, GrantChange::Given)
            .map_err(|error| refuse(Stage::Audit, audit_unavailable(error)))?;
        reserved.keep();
        Ok(grant)
    }

    /// A handle for a session that spends `grant` in the place of a budget of its own. The caps of agent, tenant and
    /// everything hold for it as for this one. So do handles that are made from it: they spend the same grant.
    #[must_use]
    pub fn take_up(&self, id: SessionId, grant: Grant) -> Self {
        let caller = Caller {
            session_id: id,
            ..self.caller().clone()
        };
        let session = Session::of_grant(caller, grant, self.shared());
        Self::new(self.shared().clone(), session)
    }

    /// A child session with `amount` of this session's budget: [`give`](Self::give) and [`take_up`](Self::take_up).
    ///
    /// # Errors
    /// As [`give`](Self::give).
    pub async fn child(&self, id: SessionId, amount: Usd) -> Result<Self, LeashError> {
        let grant = self.give(amount).await?;
        Ok(self.take_up(id, grant))
    }

    /// What this handle spends, where that is a part of another session's budget.
    #[must_use]
    pub fn grant(&self) -> Option<&Grant> {
        self.own_session().grant.as_ref()
    }

    /// Ends the grant that this handle spends, and gives back what is left, which is returned: the granted amount without
    /// what was spent and what is set aside for calls under way. Nothing more is admitted under it.
    ///
    /// # Errors
    /// [`LeashError`] where the handle spends no grant; where the budget store cannot tell, ask again.
    pub async fn give_back(&self) -> Result<Usd, LeashError> {
        match self.grant() {
            Some(grant) => self.reclaim(grant).await,
            None => Err(LeashError::blocked(
                rule_ids::GRANT,
                "this session spends no grant that could be given back",
            )),
        }
    }

    /// The same for any grant: a giver ends one whose holder died, or does not give it back.
    ///
    /// # Errors
    /// [`LeashError`] where the budget store cannot tell, or the log cannot be written; ask again.
    pub async fn reclaim(&self, grant: &Grant) -> Result<Usd, LeashError> {
        let shared = self.shared();
        let sums = grant
            .give_back(&*shared.store, shared.owes_lines())
            .await
            .map_err(|error| LeashError::unavailable(rule_ids::BUDGET_STORE, error))?;
        let spent = sums.spent.saturating_add(sums.reserved);
        let line = shared
            .journal
            .grant(self.own_session(), grant, GrantChange::GivenBack { spent })
            .map_err(audit_unavailable)?;
        if shared.owes_lines() {
            let written = Written {
                id: grant.id(),
                charged: spent,
            };
            shared.settler.wrote(written, line);
        }
        Ok(grant.amount().saturating_sub(spent))
    }

    /// The session of another caller that shares this handle's grant, if it has one.
    pub(crate) fn session_of(&self, caller: Caller) -> Arc<Session> {
        match self.grant() {
            Some(grant) => Session::of_grant(caller, grant.clone(), self.shared()),
            None => Session::new(caller, self.shared()),
        }
    }
}
