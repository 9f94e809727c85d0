//! Events as canonical JSON, members in their order: [`write`]. Knows neither files nor how lines are chained.

use leash_core::{Digest, Usd, canonical};

use super::{
    Admitted, Budget, Event, HitlDecision, Kind, LogRecovered, ModelCall, Note, PolicyDecision, Refusal,
    Target, ToolCall, Who,
};
use crate::AuditError;

/// A line's place in the chain.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) seq: u64,
    /// 64 hex digits.
    pub(crate) prev_hash: &'a str,
    /// 27 ASCII characters.
    pub(crate) ts: &'a str,
    /// For lines that stand for more than one event.
    pub(crate) count: Option<u64>,
}

/// Writes `event` at `place` without its `hash`, and gives where that belongs. Without a place only what the event
/// itself has is written: equal texts are equal events.
pub(crate) fn write(
    buf: &mut String,
    event: &Event<'_>,
    place: Option<&Place<'_>>,
) -> Result<usize, AuditError> {
    let mut out = Out {
        buf: &mut *buf,
        split: None,
        first: true,
        who: event.who,
        place,
        kind: event.kind.name(),
    };
    match &event.kind {
        Kind::ModelCall(call) => out.model_call(call),
        Kind::ToolCall(call) => out.tool_call(call),
        Kind::Budget(budget) => out.budget(budget),
        Kind::Kill(kill) => out.kill(Some(kill.reason), kill.scope),
        Kind::KillClear(clear) => out.kill(clear.reason, clear.scope),
        Kind::PolicyDecision(decision) => out.policy_decision(decision),
        Kind::HitlDecision(decision) => out.hitl_decision(decision),
        Kind::Refusal(refusal) => out.refusal(refusal),
        Kind::Admitted(admitted) => out.admitted(admitted),
        Kind::LogRecovered(recovered) => out.log_recovered(recovered),
        Kind::FailOpen(note) | Kind::PolicyChange(note) | Kind::BudgetChange(note) | Kind::Admin(note) => {
            if let Some(members) = note.members {
                return write_open(buf, event, place, Some(note), members.text());
            }
            out.note(note);
        }
        Kind::Other(other) => return write_open(buf, event, place, None, other.members.text()),
    }
    Ok(out.end())
}

/// An event with members of its own: written in any order, then sorted.
fn write_open(
    buf: &mut String,
    event: &Event<'_>,
    place: Option<&Place<'_>>,
    note: Option<&Note<'_>>,
    members: &str,
) -> Result<usize, AuditError> {
    let mut text = String::with_capacity(members.len().saturating_add(384));
    let mut out = Out {
        buf: &mut text,
        split: None,
        first: true,
        who: event.who,
        place,
        kind: event.kind.name(),
    };
    if let Some(note) = note {
        out.note(note);
    } else {
        out.agent_name();
        out.kind();
        out.prev_hash();
        out.seq();
        out.session_id();
        out.tenant_id();
        out.ts();
    }
    join(&mut text, members)?;
    finish(buf, &text)
}

/// Writes the event whose own members are the object `members` (as [`write`] without a place made them) at `place`.
pub(crate) fn write_members(buf: &mut String, members: &str, place: &Place<'_>) -> Result<usize, AuditError> {
    let mut text = String::with_capacity(members.len().saturating_add(192));
    text.push('{');
    let mut out = Out {
        buf: &mut text,
        split: None,
        first: true,
        who: Who::EVERYBODY,
        place: Some(place),
        kind: "",
    };
    out.count();
    out.prev_hash();
    out.seq();
    out.ts();
    join(&mut text, members)?;
    finish(buf, &text)
}

/// Appends the members of the object `members` to the unfinished object `text`, and closes it.
fn join(text: &mut String, members: &str) -> Result<(), AuditError> {
    let inner = members
        .trim()
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    let inner = inner.ok_or(AuditError::Event("its members are not an object"))?;
    if !inner.trim().is_empty() {
        text.push(',');
        text.push_str(inner);
    }
    text.push('}');
    Ok(())
}

/// Brings `text` into canonical form and finds where `hash` belongs in it.
fn finish(buf: &mut String, text: &str) -> Result<usize, AuditError> {
    let start = buf.len();
    canonical::canonicalize_into(text.as_bytes(), buf)
        .map_err(|_| AuditError::Event("one of its members has the name of another"))?;
    let written = buf.get(start..).unwrap_or_default();
    let mut split = None;
    let mut taken = false;
    canonical::scan(written, |member| {
        taken |= matches!(member.name, "hash" | "hmac" | "hmac_key_id");
        if split.is_none() && member.name > "hash" {
            split = Some(member.start);
        }
    })
    .map_err(|_| AuditError::Event("it has no canonical form"))?;
    if taken {
        buf.truncate(start);
        return Err(AuditError::Event("one of its members has the name of another"));
    }
    Ok(start.saturating_add(split.unwrap_or(1)))
}

struct Out<'b, 'a> {
    buf: &'b mut String,
    split: Option<usize>,
    first: bool,
    who: Who<'a>,
    place: Option<&'b Place<'a>>,
    kind: &'b str,
}

/// Writes an amount as the double that is nearest to it.
///
/// An amount of at most fifteen digits is its own shortest spelling, as no two such amounts are the same double, so
/// most amounts need no arithmetic on doubles.
fn write_usd(buf: &mut String, amount: Usd) {
    const NANOS: u64 = 1_000_000_000;
    let nanos = amount.as_nanos();
    // Smaller ones have an exponent, larger ones may have more digits than a double keeps.
    if nanos != 0 && !(100_000..1_000_000_000_000_000).contains(&nanos) {
        canonical::write_f64(buf, amount.to_f64());
        return;
    }
    canonical::write_u64(buf, nanos / NANOS);
    let mut fraction = nanos % NANOS;
    let mut digits = *b".000000000";
    for slot in digits.iter_mut().skip(1).rev() {
        *slot = b'0'.wrapping_add(u8::try_from(fraction % 10).unwrap_or(0));
        fraction /= 10;
    }
    let used = digits
        .iter()
        .rposition(|&digit| digit != b'0')
        .unwrap_or(0)
        .max(1);
    buf.push_str(std::str::from_utf8(digits.get(..=used).unwrap_or_default()).unwrap_or_default());
}

/// Members are written in the order of their names; a test holds every kind to it.
impl Out<'_, '_> {
    fn name(&mut self, name: &str) {
        if self.first {
            self.first = false;
            if self.buf.is_empty() {
                self.buf.push('{');
            }
        } else {
            self.buf.push(',');
        }
        if self.split.is_none() && name > "hash" {
            self.split = Some(self.buf.len());
        }
        self.buf.push('"');
        self.buf.push_str(name);
        self.buf.push_str("\":");
    }

    fn end(self) -> usize {
        self.buf.push('}');
        self.split.unwrap_or(1)
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        canonical::write_str(self.buf, value);
    }

    /// For values that need no escapes: hex digits, moments, words of ours.
    fn plain(&mut self, name: &str, value: &str) {
        self.name(name);
        self.buf.push('"');
        self.buf.push_str(value);
        self.buf.push('"');
    }

    fn nullable(&mut self, name: &str, value: Option<&str>) {
        self.name(name);
        match value {
            Some(value) => canonical::write_str(self.buf, value),
            None => self.buf.push_str("null"),
        }
    }

    fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    fn number(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.name(name);
            canonical::write_u64(self.buf, value);
        }
    }

    fn usd(&mut self, name: &str, value: Option<Usd>) {
        if let Some(value) = value {
            self.name(name);
            write_usd(self.buf, value);
        }
    }

    fn digest(&mut self, name: &str, value: Digest) {
        let hex = value.to_hex();
        self.plain(name, std::str::from_utf8(&hex).unwrap_or_default());
    }

    fn agent_name(&mut self) {
        self.optional("agent_name", self.who.agent_name);
    }

    fn count(&mut self) {
        self.number("count", self.place.and_then(|place| place.count));
    }

    fn kind(&mut self) {
        self.text("kind", self.kind);
    }

    fn prev_hash(&mut self) {
        if let Some(place) = self.place {
            self.plain("prev_hash", place.prev_hash);
        }
    }

    fn seq(&mut self) {
        self.number("seq", self.place.map(|place| place.seq));
    }

    fn session_id(&mut self) {
        self.text("session_id", self.who.session_id);
    }

    fn tenant_id(&mut self) {
        self.nullable("tenant_id", self.who.tenant_id);
    }

    fn ts(&mut self) {
        if let Some(place) = self.place {
            self.plain("ts", place.ts);
        }
    }

    /// A list of texts, left out where it is empty.
    fn texts(&mut self, name: &'static str, texts: &[&str]) {
        let Some((first, rest)) = texts.split_first() else {
            return;
        };
        self.name(name);
        self.buf.push('[');
        canonical::write_str(self.buf, first);
        for text in rest {
            self.buf.push(',');
            canonical::write_str(self.buf, text);
        }
        self.buf.push(']');
    }

    fn model_call(&mut self, call: &ModelCall<'_>) {
        self.agent_name();
        self.number("cache_read_tokens", call.cache_read_tokens);
        self.number("cache_write_tokens", call.cache_write_tokens);
        if let Some(clamped) = call.clamped {
            self.name("clamped");
            self.buf.push_str(if clamped { "true" } else { "false" });
        }
        self.usd("cost_usd", Some(call.cost));
        self.usd("cumulative_usd", call.cumulative);
        self.number("duration_ms", call.duration_ms);
        self.optional("hitl_request_id", call.hitl_request_id);
        self.number("input_tokens", Some(call.input_tokens));
        self.kind();
        self.text("model", call.model);
        if let Some(outcome) = call.outcome {
            self.plain("outcome", outcome.as_str());
        }
        self.number("output_tokens", Some(call.output_tokens));
        self.prev_hash();
        self.optional("price_version", call.price_version);
        self.text("provider", call.provider);
        self.number("reasoning_tokens", call.reasoning_tokens);
        self.digest("request_hash", call.request_hash);
        self.optional("reservation_id", call.reservation_id);
        self.digest("response_hash", call.response_hash);
        self.texts("scopes", call.scopes);
        self.seq();
        self.session_id();
        self.tenant_id();
        self.ts();
        self.optional("usage", call.usage);
    }

    fn tool_call(&mut self, call: &ToolCall<'_>) {
        self.agent_name();
        self.usd("cost_usd", call.cost);
        self.usd("cumulative_usd", call.cumulative);
        self.number("duration_ms", call.duration_ms);
        self.optional("hitl_request_id", call.hitl_request_id);
        self.kind();
        if let Some(outcome) = call.outcome {
            self.plain("outcome", outcome.as_str());
        }
        self.prev_hash();
        self.digest("request_hash", call.request_hash);
        self.optional("reservation_id", call.reservation_id);
        self.digest("response_hash", call.response_hash);
        self.texts("scopes", call.scopes);
        self.seq();
        self.session_id();
        self.tenant_id();
        self.text("tool", call.tool);
        self.ts();
    }

    fn budget(&mut self, budget: &Budget<'_>) {
        self.agent_name();
        match budget.cap {
            Some(cap) => self.usd("cap_usd", Some(cap)),
            None => self.nullable("cap_usd", None),
        }
        self.usd("cumulative_usd", Some(budget.cumulative));
        self.plain("decision", budget.decision.as_str());
        self.kind();
        self.prev_hash();
        self.optional("scope", budget.scope);
        self.seq();
        self.session_id();
        self.tenant_id();
        self.ts();
        self.optional("window", budget.window);
    }

    fn kill(&mut self, reason: Option<&str>, scope: Option<&str>) {
        self.agent_name();
        self.kind();
        self.prev_hash();
        self.nullable("reason", reason);
        self.optional("scope", scope);
        self.seq();
        self.session_id();
        self.tenant_id();
        self.ts();
    }

    fn policy_decision(&mut self, decision: &PolicyDecision<'_>) {
        self.plain("action", decision.action.as_str());
        self.agent_name();
        self.kind();
        self.prev_hash();
        self.text("reason", decision.reason);
        self.text("rule_id", decision.rule_id);
        self.seq();
        self.session_id();
        if decision.shadow {
            self.name("shadow");
            self.buf.push_str("true");
        }
        self.tenant_id();
        self.text("tool", decision.tool);
        self.ts();
    }

    fn hitl_decision(&mut self, decision: &HitlDecision<'_>) {
        self.agent_name();
        self.plain("decision", decision.decision.as_str());
        self.kind();
        self.nullable("operator", decision.operator);
        self.prev_hash();
        self.nullable("reason", decision.reason);
        self.text("request_id", decision.request_id);
        self.text("rule_id", decision.rule_id);
        self.seq();
        self.session_id();
        self.tenant_id();
        self.ts();
    }

    fn refusal(&mut self, refusal: &Refusal<'_>) {
        self.agent_name();
        self.kind();
        self.prev_hash();
        self.text("reason", refusal.reason);
        self.text("rule_id", refusal.rule_id);
        self.seq();
        self.session_id();
        self.text("stage", refusal.stage);
        self.tenant_id();
        self.ts();
    }

    fn admitted(&mut self, admitted: &Admitted<'_>) {
        self.agent_name();
        self.usd("bound_usd", Some(admitted.bound));
        self.kind();
        if let Target::Model { model, .. } = admitted.target {
            self.text("model", model);
        }
        self.prev_hash();
        if let Target::Model { provider, .. } = admitted.target {
            self.text("provider", provider);
        }
        self.digest("request_hash", admitted.request_hash);
        self.texts("scopes", admitted.scopes);
        self.seq();
        self.session_id();
        self.tenant_id();
        if let Target::Tool { tool } = admitted.target {
            self.text("tool", tool);
        }
        self.ts();
    }

    fn log_recovered(&mut self, recovered: &LogRecovered<'_>) {
        self.agent_name();
        self.number("bytes", Some(recovered.bytes));
        self.kind();
        self.prev_hash();
        self.seq();
        self.session_id();
        self.text("set_aside", recovered.set_aside);
        self.digest("sha256", recovered.sha256);
        self.tenant_id();
        self.ts();
    }

    fn note(&mut self, note: &Note<'_>) {
        self.agent_name();
        self.kind();
        self.nullable("operator", note.operator);
        self.prev_hash();
        self.text("reason", note.reason);
        self.seq();
        self.session_id();
        self.tenant_id();
        self.ts();
        self.text("what", note.what);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_amount_is_written_as_its_double_is(
            nanos in prop_oneof![0..=Usd::MAX.as_nanos(), 0..2_000_000_u64, (0..9_000_000_u64).prop_map(|n| n.saturating_mul(1_000_000_000))]
        ) {
            let amount = Usd::from_nanos(nanos).unwrap();
            let (mut ours, mut theirs) = (String::new(), String::new());
            write_usd(&mut ours, amount);
            canonical::write_f64(&mut theirs, amount.to_f64());
            prop_assert_eq!(ours, theirs);
        }
    }
}
