//! What a human sees of a call, and the hash that ties an approval to it: [`Shown`], [`CallHash`].
//!
//! The hash is over what is shown, so nothing can be approved but what was there to be read. Knows no queue.

use std::fmt;
use std::str::FromStr;

use leash_core::{Call, Caller, Json, ModelCall, StoreError, StoreErrorKind, canonical};

use crate::ApprovalRequest;

/// The longest document that is shown to a human, in bytes. Who cannot read a call cannot approve it.
pub const MAX_SHOWN_BYTES: usize = 256 * 1024;

/// What a redactor leaves in place of what it took out starts like this.
const MASK: &str = "[REDACTED:";

/// blake3, in a context of its own, over the tool, what is shown, the session, the tenant, the rule and the version
/// of the policy. Written in 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallHash([u8; 32]);

/// The text is not 64 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the hash of a call is written in 64 lower-case hex digits")]
pub struct CallHashError;

/// What an approval is bound to. Change a byte of any of it, and the approval does not fit.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// The tool's name; for a model `anthropic.call` and the like.
    pub tool: &'a str,
    /// What is shown: canonical JSON.
    pub shown: &'a str,
    /// The session.
    pub session_id: &'a str,
    /// The tenant, where there is one.
    pub tenant_id: Option<&'a str>,
    /// The rule that asks.
    pub rule_id: &'a str,
    /// Which rules and which redaction are in force.
    pub policy_version: &'a str,
}

impl Binding<'_> {
    /// The hash.
    #[must_use]
    pub fn hash(&self) -> CallHash {
        let mut hasher = blake3::Hasher::new_derive_key("llm-leash approval binding v1");
        let mut field = |text: Option<&str>| {
            // With its length in front, so that no two lists of fields make the same bytes.
            let len = text.map_or(u64::MAX, |text| u64::try_from(text.len()).unwrap_or(u64::MAX));
            hasher.update(&len.to_le_bytes());
            hasher.update(text.unwrap_or_default().as_bytes());
        };
        field(Some(self.tool));
        field(Some(self.shown));
        field(Some(self.session_id));
        field(self.tenant_id);
        field(Some(self.rule_id));
        field(Some(self.policy_version));
        CallHash(*hasher.finalize().as_bytes())
    }
}

impl fmt::Display for CallHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl fmt::Debug for CallHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallHash({self})")
    }
}

impl FromStr for CallHash {
    type Err = CallHashError;

    fn from_str(text: &str) -> Result<Self, CallHashError> {
        if text.len() != 64
            || text
                .bytes()
                .any(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Err(CallHashError);
        }
        let hash = blake3::Hash::from_hex(text).map_err(|_| CallHashError)?;
        Ok(Self(*hash.as_bytes()))
    }
}

/// What a human is shown of a call: its tool, and one JSON document.
///
/// Of a tool call, the arguments. Of a model call, who serves it, the model and the digests of what it is asked; the
/// messages themselves only where that was switched on, for they are prompts.
#[derive(Clone)]
pub struct Shown {
    tool: String,
    document: Json,
    canonical: String,
}

impl Shown {
    /// What is shown of `call`; with the messages of a model call where `with_messages`.
    ///
    /// # Errors
    /// [`StoreErrorKind::Full`] beyond [`MAX_SHOWN_BYTES`].
    pub fn of(call: &Call, with_messages: bool) -> Result<Self, StoreError> {
        let document = match call {
            Call::Tool(call) => call.args.clone(),
            Call::Model(call) => model_document(call, with_messages),
        };
        let canonical = document.canonical();
        if canonical.len() > MAX_SHOWN_BYTES {
            return Err(StoreError::new(
                StoreErrorKind::Full,
                "ask a human: the call is too long to be read",
            ));
        }
        Ok(Self {
            tool: call.tool(),
            document,
            canonical,
        })
    }

    /// The tool's name.
    #[must_use]
    pub fn tool(&self) -> &str {
        &self.tool
    }

    /// The document.
    #[must_use]
    pub const fn document(&self) -> &Json {
        &self.document
    }

    /// The document in the log's canonical form: the bytes that are shown and hashed.
    #[must_use]
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// The hash of this, asked for by `rule_id` under `policy_version`.
    #[must_use]
    pub fn hash(&self, caller: &Caller, rule_id: &str, policy_version: &str) -> CallHash {
        Binding {
            tool: &self.tool,
            shown: &self.canonical,
            session_id: caller.session_id.as_str(),
            tenant_id: caller.tenant_id.as_ref().map(leash_core::TenantId::as_str),
            rule_id,
            policy_version,
        }
        .hash()
    }

    /// The first of `fields` that is masked. A field is a member's name, at any depth, or a JSON pointer (`/to/iban`).
    #[must_use]
    pub fn masked<'f>(&self, mut fields: impl Iterator<Item = &'f str>) -> Option<&'f str> {
        let root = self.document.value();
        fields.find(|field| {
            if field.is_empty() || field.starts_with('/') {
                root.pointer(field).is_some_and(is_masked)
            } else {
                has_masked_member(root, field)
            }
        })
    }
}

/// Shows no argument.
impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown")
            .field("tool", &self.tool)
            .field("bytes", &self.canonical.len())
            .finish_non_exhaustive()
    }
}

/// The settings of a gate that has a `readable: Readable`.
macro_rules! readable_settings {
    () => {
        /// Shows the messages of model calls too: they leave this process then, redacted as they leave for the model.
        #[must_use]
        pub fn show_messages(mut self) -> Self {
            self.readable.shows_messages = true;
            self
        }

        /// Fields that the human must be able to read: names of members, at any depth, or JSON pointers. Where
        /// redaction masked one of them nobody is asked, and the call is rejected: an account number that nobody can
        /// read must not be approved.
        #[must_use]
        pub fn show_fields<I: IntoIterator<Item: Into<String>>>(mut self, fields: I) -> Self {
            self.readable.add(None, fields);
            self
        }

        /// As [`Self::show_fields`], for what `rule_id` asks only.
        #[must_use]
        pub fn show_fields_for_rule<I: IntoIterator<Item: Into<String>>>(
            mut self,
            rule_id: &str,
            fields: I,
        ) -> Self {
            self.readable.add(Some(rule_id), fields);
            self
        }
    };
}
pub(crate) use readable_settings;

/// What a gate shows, and what has to be readable in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readable {
    pub(crate) shows_messages: bool,
    /// By which rule a field is asked for (`None`: by all), and its name or pointer.
    fields: Vec<(Option<String>, String)>,
}

impl Readable {
    pub(crate) fn add<I: IntoIterator<Item: Into<String>>>(&mut self, rule_id: Option<&str>, fields: I) {
        let fields = fields.into_iter();
        self.fields
            .extend(fields.map(|field| (rule_id.map(str::to_owned), field.into())));
    }

    /// What is shown; or, where a field is masked that must be readable, why the call is rejected.
    pub(crate) fn shown(&self, request: &ApprovalRequest) -> Result<Result<Shown, String>, StoreError> {
        let shown = Shown::of(&request.call, self.shows_messages)?;
        let fields = self
            .fields
            .iter()
            .filter(|(rule, _)| {
                rule.as_deref()
                    .is_none_or(|rule| rule == request.decision.rule_id)
            })
            .map(|(_, field)| field.as_str());
        Ok(match shown.masked(fields) {
            None => Ok(shown),
            Some(field) => Err(format!(
                "hitl: `{field}` is masked, and nobody can approve what they cannot read"
            )),
        })
    }
}

fn model_document(call: &ModelCall, with_messages: bool) -> Json {
    let mut text = String::from("{");
    let mut member = |name: &str, value: &dyn Fn(&mut String)| {
        if text.len() > 1 {
            text.push(',');
        }
        canonical::write_str(&mut text, name);
        text.push(':');
        value(&mut text);
    };
    if let Some(body) = &call.body {
        let digest = body.digest().to_string();
        member("body_hash", &|out| canonical::write_str(out, &digest));
    }
    member("choices", &|out| canonical::write_u64(out, call.choices));
    if let Some(tokens) = call.max_output_tokens {
        member("max_output_tokens", &|out| canonical::write_u64(out, tokens));
    }
    if with_messages {
        member("messages", &|out| call.messages.write_canonical(out));
    }
    member("model", &|out| canonical::write_str(out, &call.model));
    member("provider", &|out| canonical::write_str(out, &call.provider));
    let digest = call.request_digest().to_string();
    member("request_hash", &|out| canonical::write_str(out, &digest));
    text.push('}');
    // Made of checked parts; one level deeper than the messages, which may be as deep as anything that is taken.
    Json::parse(text).unwrap_or_else(|_| Json::null())
}

fn is_masked(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => text.contains(MASK),
        serde_json::Value::Array(items) => items.iter().any(is_masked),
        serde_json::Value::Object(members) => members
            .iter()
            .any(|(name, value)| name.contains(MASK) || is_masked(value)),
        _ => false,
    }
}

fn has_masked_member(value: &serde_json::Value, field: &str) -> bool {
    match value {
        serde_json::Value::Array(items) => items.iter().any(|item| has_masked_member(item, field)),
        serde_json::Value::Object(members) => members
            .iter()
            .any(|(name, value)| (name == field && is_masked(value)) || has_masked_member(value, field)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leash_core::{SessionId, ToolCall};
    use serde_json::json;

    fn shown(args: serde_json::Value) -> Shown {
        let caller = Caller::session(SessionId::new("s").unwrap());
        Shown::of(&Call::Tool(ToolCall::new("wire", args, caller)), false).unwrap()
    }

    #[test]
    fn a_changed_byte_anywhere_is_another_hash() {
        let base = Binding {
            tool: "wire",
            shown: "{\"amount\":1}",
            session_id: "s",
            tenant_id: None,
            rule_id: "r",
            policy_version: "v",
        };
        let others = [
            Binding { tool: "wirf", ..base },
            Binding {
                shown: "{\"amount\":2}",
                ..base
            },
            Binding {
                session_id: "t",
                ..base
            },
            Binding {
                tenant_id: Some(""),
                ..base
            },
            Binding { rule_id: "q", ..base },
            Binding {
                policy_version: "w",
                ..base
            },
            // The same bytes, cut elsewhere.
            Binding {
                rule_id: "rv",
                policy_version: "",
                ..base
            },
        ];
        let mut hashes: Vec<_> = others.iter().map(Binding::hash).collect();
        hashes.push(base.hash());
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 8);
        assert_eq!(base.hash().to_string().parse(), Ok(base.hash()));
        assert!(
            base.hash()
                .to_string()
                .to_uppercase()
                .parse::<CallHash>()
                .is_err()
        );
    }

    #[test]
    fn a_masked_field_is_found_at_any_depth_and_by_pointer() {
        let shown = shown(json!({
            "amount": 5,
            "to": [{"iban": "[REDACTED:iban]", "name": "Ada"}],
            "memo": "to [REDACTED:person]",
        }));
        assert_eq!(shown.masked(["amount", "iban"].into_iter()), Some("iban"));
        assert_eq!(shown.masked(["/to/0/iban"].into_iter()), Some("/to/0/iban"));
        assert_eq!(shown.masked(["to"].into_iter()), Some("to"));
        assert_eq!(
            shown.masked(["amount", "name", "absent", "/to/0/name"].into_iter()),
            None
        );
    }

    #[test]
    fn a_model_call_shows_no_prompt_but_is_bound_to_it() {
        let caller = Caller::session(SessionId::new("s").unwrap());
        let call = |text: &str| {
            Call::Model(ModelCall::new(
                "openai",
                "gpt",
                json!([{"role": "user", "content": text}]),
                10,
                caller.clone(),
            ))
        };
        let one = Shown::of(&call("a secret"), false).unwrap();
        assert!(!one.canonical().contains("secret"));
        let other = Shown::of(&call("another"), false).unwrap();
        assert_ne!(one.hash(&caller, "r", ""), other.hash(&caller, "r", ""));
        assert!(
            Shown::of(&call("a secret"), true)
                .unwrap()
                .canonical()
                .contains("secret")
        );
        assert!(canonical::is_canonical(one.canonical()));
    }

    #[test]
    fn what_nobody_can_read_is_not_asked() {
        let caller = Caller::session(SessionId::new("s").unwrap());
        let call = ToolCall::new("t", json!("x".repeat(MAX_SHOWN_BYTES)), caller);
        assert!(Shown::of(&Call::Tool(call), false).is_err());
    }
}
