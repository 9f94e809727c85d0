//! What a human lets through beforehand, by name: [`Grant`]. Knows no queue.

#[cfg(any(feature = "sqlite", feature = "redis"))]
use leash_core::{StoreError, StoreErrorKind};
use leash_core::{Timestamp, canonical};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{CallHash, Shown};

/// The most grants that a queue keeps.
pub const MAX_GRANTS: usize = 1000;
/// The longest name of a grant, in bytes.
const MAX_NAME_BYTES: usize = 128;
/// The most patterns in a grant.
const MAX_PATTERNS: usize = 64;

/// Lets calls through without asking: those of one session, until a moment.
///
/// Its name is what the log says of each use; a name is given once and never again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// 1 to 128 bytes, without control characters.
    pub name: String,
    /// Whose calls.
    pub session_id: String,
    /// Which calls.
    pub what: Granted,
    /// Until when.
    pub until: Timestamp,
    /// How often; `None`, for one exact call only, is any number of times.
    pub times: Option<u64>,
    /// Who gives it.
    pub operator: Option<String>,
}

/// Which calls a grant lets through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Granted {
    /// Exactly this one: the hash that `show` prints.
    Call(
        /// The hash.
        #[serde(with = "hash_text")]
        CallHash,
    ),
    /// Those of a tool whose arguments match.
    Tool(ToolPattern),
}

/// A tool, and what its arguments must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolPattern {
    /// The tool's name, exactly.
    pub tool: String,
    /// What must match, all of it.
    pub args: Vec<ArgPattern>,
    /// Whether there may be arguments that no pattern names.
    pub other_args: bool,
}

/// One argument, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArgPattern {
    /// Where it stands: a JSON pointer such as `/to/iban`.
    pub pointer: String,
    /// A regular expression that all of it must match: of a string its text, of a number, `true`, `false` or `null`
    /// its canonical form. Nothing else matches.
    pub pattern: String,
}

/// A grant, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standing {
    /// The grant.
    pub grant: Grant,
    /// When it was given.
    pub created_at: Timestamp,
    /// How often it was used.
    pub used: u64,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl Standing {
    /// A new one.
    #[must_use]
    pub const fn new(grant: Grant, created_at: Timestamp) -> Self {
        Self {
            grant,
            created_at,
            used: 0,
            revoked_at: None,
        }
    }

    /// Whether it can be used at `now`.
    #[must_use]
    pub fn is_usable(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none()
            && now < self.grant.until
            && self.grant.times.is_none_or(|times| self.used < times)
    }
}

/// One use of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantUse {
    /// Its name.
    pub name: String,
    /// Which use this is, from 1.
    pub used: u64,
    /// How many there are.
    pub times: Option<u64>,
    /// Who gave the grant.
    pub operator: Option<String>,
}

/// Why a grant is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// The name.
    #[error("a grant's name has 1 to 128 bytes without control characters")]
    Name,
    /// The session.
    #[error("a grant names a session")]
    Session,
    /// A tool without a number.
    #[error("a grant for a tool says how often, at least once")]
    Times,
    /// A tool without a pattern that allows no other arguments either.
    #[error("a grant for a tool names patterns of arguments, at most 64, or allows any others")]
    Patterns,
    /// Not a JSON pointer.
    #[error("`{0}` is no JSON pointer: it starts with `/`")]
    Pointer(String),
    /// Not a regular expression, or a huge one.
    #[error("`{0}` is no regular expression that can be used")]
    Pattern(String),
}

impl Grant {
    /// Checks what a queue takes for granted.
    ///
    /// # Errors
    /// [`GrantError`] with what is wrong.
    pub fn check(&self) -> Result<(), GrantError> {
        if self.name.is_empty() || self.name.len() > MAX_NAME_BYTES || self.name.chars().any(char::is_control)
        {
            return Err(GrantError::Name);
        }
        if self.session_id.is_empty() {
            return Err(GrantError::Session);
        }
        if self.times == Some(0) {
            return Err(GrantError::Times);
        }
        let Granted::Tool(tool) = &self.what else {
            return Ok(());
        };
        if self.times.is_none() {
            return Err(GrantError::Times);
        }
        if tool.args.len() > MAX_PATTERNS || (tool.args.is_empty() && !tool.other_args) {
            return Err(GrantError::Patterns);
        }
        for arg in &tool.args {
            if !arg.pointer.is_empty() && !arg.pointer.starts_with('/') {
                return Err(GrantError::Pointer(arg.pointer.clone()));
            }
            if compile(&arg.pattern).is_none() {
                return Err(GrantError::Pattern(arg.pattern.clone()));
            }
        }
        Ok(())
    }

    /// Whether it is meant for this call; not whether it still stands.
    #[must_use]
    pub fn fits(&self, session_id: &str, shown: &Shown, hash: &CallHash) -> bool {
        if self.session_id != session_id {
            return false;
        }
        match &self.what {
            Granted::Call(granted) => granted == hash,
            Granted::Tool(tool) => tool.fits(shown),
        }
    }

    #[cfg(any(feature = "sqlite", feature = "redis"))]
    /// What is granted, as queues keep it.
    pub(crate) fn what_json(&self) -> String {
        serde_json::to_string(&self.what).unwrap_or_default()
    }

    #[cfg(any(feature = "sqlite", feature = "redis"))]
    /// Reads what queues keep.
    ///
    /// # Errors
    /// [`StoreErrorKind::Corrupt`].
    pub(crate) fn what_of_json(text: &str) -> Result<Granted, StoreError> {
        serde_json::from_str(text).map_err(|_| {
            StoreError::new(
                StoreErrorKind::Corrupt,
                "read a grant: it is not as it was written",
            )
        })
    }
}

impl ToolPattern {
    fn fits(&self, shown: &Shown) -> bool {
        let args = shown.document().value();
        self.tool == shown.tool()
            && self.args.iter().all(|arg| arg.fits(args))
            && (self.other_args || self.names_every_leaf(args, &mut String::new()))
    }

    fn names_every_leaf(&self, value: &Value, pointer: &mut String) -> bool {
        let len = pointer.len();
        match value {
            Value::Object(members) if !members.is_empty() => members.iter().all(|(name, value)| {
                pointer.push('/');
                pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
                let named = self.names_every_leaf(value, pointer);
                pointer.truncate(len);
                named
            }),
            Value::Array(items) if !items.is_empty() => items.iter().enumerate().all(|(index, value)| {
                pointer.push('/');
                pointer.push_str(&index.to_string());
                let named = self.names_every_leaf(value, pointer);
                pointer.truncate(len);
                named
            }),
            _ => self.args.iter().any(|arg| arg.pointer == *pointer),
        }
    }
}

impl ArgPattern {
    fn fits(&self, args: &Value) -> bool {
        let text = match args.pointer(&self.pointer) {
            None | Some(Value::Array(_) | Value::Object(_)) => return false,
            Some(Value::String(text)) => text.clone(),
            Some(scalar) => {
                let mut text = String::new();
                canonical::write_value(&mut text, scalar);
                text
            }
        };
        compile(&self.pattern).is_some_and(|pattern| pattern.is_match(&text))
    }
}

/// The pattern, which has to match from the first character to the last.
fn compile(pattern: &str) -> Option<regex::Regex> {
    // By itself first: `a)|(b` would come out of the brackets.
    regex::Regex::new(pattern).ok()?;
    regex::RegexBuilder::new(&format!(r"\A(?:{pattern})\z"))
        .size_limit(1 << 20)
        .build()
        .ok()
}

mod hash_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::CallHash;

    pub(super) fn serialize<S: Serializer>(hash: &CallHash, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(hash)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<CallHash, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leash_core::{Call, Caller, SessionId, ToolCall};
    use serde_json::json;

    fn shown(args: Value) -> Shown {
        let caller = Caller::session(SessionId::new("s").unwrap());
        Shown::of(&Call::Tool(ToolCall::new("wire", args, caller)), false).unwrap()
    }

    fn grant(args: &[(&str, &str)], other_args: bool) -> Grant {
        Grant {
            name: "small wires".into(),
            session_id: "s".into(),
            what: Granted::Tool(ToolPattern {
                tool: "wire".into(),
                args: args
                    .iter()
                    .map(|(pointer, pattern)| ArgPattern {
                        pointer: (*pointer).into(),
                        pattern: (*pattern).into(),
                    })
                    .collect(),
                other_args,
            }),
            until: Timestamp::EPOCH,
            times: Some(1),
            operator: None,
        }
    }

    fn fits(grant: &Grant, args: Value) -> bool {
        let shown = shown(args);
        let hash = shown.hash(&Caller::session(SessionId::new("s").unwrap()), "r", "");
        grant.fits("s", &shown, &hash)
    }

    #[test]
    fn a_grant_fits_what_it_names_and_nothing_else() {
        let strict = grant(&[("/amount", r"\d{1,3}"), ("/to/iban", "DE.*")], false);
        assert_eq!(strict.check(), Ok(()));
        assert!(fits(&strict, json!({"amount": 999, "to": {"iban": "DE1"}})));
        assert!(!fits(&strict, json!({"amount": 1000, "to": {"iban": "DE1"}})));
        assert!(!fits(&strict, json!({"amount": 9.5, "to": {"iban": "DE1"}})));
        assert!(!fits(&strict, json!({"amount": "9\n", "to": {"iban": "DE1"}})));
        assert!(!fits(
            &strict,
            json!({"amount": 9, "to": {"iban": "DE1", "bic": "X"}})
        ));
        assert!(!fits(
            &strict,
            json!({"amount": 9, "to": {"iban": "DE1"}, "force": true})
        ));
        assert!(!fits(&strict, json!({"amount": 9})));
        let lax = grant(&[("/amount", r"\d{1,3}")], true);
        assert!(fits(&lax, json!({"amount": 9, "force": true})));
        let shown = shown(json!({"amount": 9}));
        let hash = shown.hash(&Caller::session(SessionId::new("s").unwrap()), "r", "");
        assert!(!lax.fits("another", &shown, &hash));
        let exact = Grant {
            what: Granted::Call(hash),
            times: None,
            ..lax
        };
        assert!(exact.fits("s", &shown, &hash));
        assert!(!fits(&exact, json!({"amount": 10})));
        let kept = serde_json::to_string(&exact.what).unwrap();
        assert_eq!(serde_json::from_str::<Granted>(&kept).unwrap(), exact.what);
    }

    #[test]
    fn a_grant_that_says_too_little_is_not_taken() {
        assert_eq!(grant(&[], false).check(), Err(GrantError::Patterns));
        assert_eq!(
            Grant {
                times: None,
                ..grant(&[], true)
            }
            .check(),
            Err(GrantError::Times)
        );
        assert_eq!(
            Grant {
                times: Some(0),
                ..grant(&[], true)
            }
            .check(),
            Err(GrantError::Times)
        );
        assert_eq!(
            Grant {
                name: "a\nb".into(),
                ..grant(&[], true)
            }
            .check(),
            Err(GrantError::Name)
        );
        assert!(matches!(
            grant(&[("a", ".*")], false).check(),
            Err(GrantError::Pointer(_))
        ));
        assert!(matches!(
            grant(&[("/a", "x)|(.*")], false).check(),
            Err(GrantError::Pattern(_))
        ));
        assert!(matches!(
            grant(&[("/a", r"(\d{1000}){1000}")], false).check(),
            Err(GrantError::Pattern(_))
        ));
    }
}
