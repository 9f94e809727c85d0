//! [`Firewall::screen`]: the questions to a call that costs nothing, so that it is no way around the rules.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

use leash_core::{Call, Json, LeashError, ModelCall, Redactor, RuleError, rule_ids};

use crate::Firewall;
use crate::journal::Stage;

impl Firewall {
    /// Asks about a call of a model that is billed by nobody but shows the provider a prompt, such as counting its
    /// tokens: kill orders, rules, redaction, and a human if a rule wants one. `what` is how the log names the call where
    /// it was redacted: `anthropic.count_tokens`. Nothing is reserved and nothing is to be settled.
    ///
    /// Returns the request as it must leave; `None` where it may leave as it is.
    ///
    /// # Errors
    /// [`LeashError`] where the call must not be made. The refusal is in the log.
    pub async fn screen(&self, what: &str, mut call: ModelCall) -> Result<Option<Json>, LeashError> {
        self.check_stopped().await?;
        let (shared, session) = (self.shared(), self.own_session());
        let refuse = |stage: Stage, error: LeashError| shared.refuse(session, stage, error);
        call.caller.clone_from(&session.caller);
        let now = shared.clock.now();
        let mut call = Call::Model(call);
        let mut asks = shared
            .judge(session, &call, now)
            .await
            .map_err(|error| refuse(Stage::Rules, error))?;
        let redacted = self.redact(what, call.content())?;
        if let (Some(document), Call::Model(model)) = (&redacted, &mut call) {
            model.messages = document.clone();
            model.body = None;
            let again = shared.judge(session, &call, now).await;
            asks = asks.or(again.map_err(|error| refuse(Stage::Rules, error))?);
        }
        if let Some(asks) = asks {
            let digest = call.request_digest();
            shared
                .ask_human(session, &call, digest, asks)
                .await
                .map_err(|error| refuse(Stage::Human, error))?;
            self.check_stopped().await?;
        }
        Ok(redacted)
    }

    /// `document` without what must not leave; `None` where it may leave as it is.
    fn redact(&self, what: &str, document: &Json) -> Result<Option<Json>, LeashError> {
        let shared = self.shared();
        let Some(redactor) = &shared.redactor else {
            return Ok(None);
        };
        let refuse = |error| shared.refuse(self.own_session(), Stage::Redact, error);
        let redacted = redact(redactor.as_ref(), document).map_err(refuse)?;
        if redacted.is_some() {
            let written = shared.journal.redaction(self.own_session(), what);
            written.map_err(|error| refuse(LeashError::unavailable(rule_ids::AUDIT, error.into())))?;
        }
        Ok(redacted)
    }
}

/// Asks a redactor, which may fail or panic: then the call must not leave.
pub(crate) fn redact(redactor: &dyn Redactor, document: &Json) -> Result<Option<Json>, LeashError> {
    let redacted = catch_unwind(AssertUnwindSafe(|| redactor.redact(document)));
    redacted
        .unwrap_or_else(|_| Err(RuleError::new("the redactor panicked")))
        .map_err(|error| LeashError::blocked(rule_ids::REDACT, error.to_string()))
}

/// Polls a future that somebody else made; `None` where it panics.
pub(crate) async fn caught<T>(mut future: Pin<Box<dyn Future<Output = T> + Send + '_>>) -> Option<T> {
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
    })
    .await
}
