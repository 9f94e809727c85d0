//! [`Json`]: a checked JSON text that is parsed only when somebody looks inside.

use std::fmt;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::Digest;
use crate::canonical::{self, JsonError};

/// A JSON document: its text, and on demand its tree. Cheap to clone.
///
/// What passes [`Json::parse`] has one reading: no member twice in an object, no `NaN`, no number beyond a
/// double, no lone surrogate, at most [`canonical::MAX_DEPTH`] levels. Two programs that read it see the same,
/// which a check before a forwarded call depends on. Its `Debug` shows the length only: it holds prompts.
///
/// ```
/// use leash_core::Json;
///
/// let args = Json::parse(r#"{"amount": 4e3, "to": "acme"}"#)?;
/// assert_eq!(args.canonical(), r#"{"amount":4000.0,"to":"acme"}"#);
/// assert_eq!(args.value()["to"], "acme");
/// assert!(Json::parse(r#"{"to": "acme", "to": "mallory"}"#).is_err());
/// # Ok::<(), leash_core::canonical::JsonError>(())
/// ```
#[derive(Clone)]
pub struct Json(Arc<Inner>);

struct Inner {
    text: Box<str>,
    /// Whether `text` is its own canonical form, or as near to one as there is: then digests need not parse it again.
    is_canonical: bool,
    value: OnceLock<Value>,
}

impl Json {
    /// Checks `text` and takes it.
    ///
    /// # Errors
    /// [`JsonError`] with the byte at which it stops being JSON with one reading.
    pub fn parse(text: impl Into<Box<str>>) -> Result<Self, JsonError> {
        let text = text.into();
        // What is canonical has one reading, and telling is cheap where it is not.
        let is_canonical = canonical::is_canonical(&text);
        if !is_canonical {
            canonical::check(text.as_bytes())?;
        }
        Ok(Self(Arc::new(Inner {
            text,
            is_canonical,
            value: OnceLock::new(),
        })))
    }

    /// The document `null`.
    #[must_use]
    pub fn null() -> Self {
        Self::from(Value::Null)
    }

    /// The text as it was given.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The tree. Numbers that fit neither 64-bit integer are doubles in it; the text is exact.
    #[must_use]
    pub fn value(&self) -> &Value {
        // `check` accepts nothing that serde_json does not, so the fallback is never taken; a test says so.
        self.0
            .value
            .get_or_init(|| serde_json::from_str(&self.0.text).unwrap_or(Value::Null))
    }

    /// The text in the log's canonical form, numbers exact.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut out = String::with_capacity(self.0.text.len());
        self.write_canonical(&mut out);
        out
    }

    /// Appends the canonical form to `out`.
    pub fn write_canonical(&self, out: &mut String) {
        // What was parsed was checked, so this does not fail.
        if self.0.is_canonical || canonical::canonicalize_into(self.0.text.as_bytes(), out).is_err() {
            out.push_str(&self.0.text);
        }
    }

    /// SHA-256 over the canonical form.
    #[must_use]
    pub fn digest(&self) -> Digest {
        if self.0.is_canonical {
            return Digest::of(self.0.text.as_bytes());
        }
        Digest::of(self.canonical().as_bytes())
    }
}

/// Takes a tree. The text is its canonical form.
impl From<Value> for Json {
    fn from(value: Value) -> Self {
        let mut text = String::new();
        canonical::write_value(&mut text, &value);
        Self(Arc::new(Inner {
            text: text.into(),
            // A tree deeper than the limit has no other form either.
            is_canonical: true,
            value: OnceLock::from(value),
        }))
    }
}

/// Equal where the canonical forms are.
impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.text() == other.text() || self.canonical() == other.canonical()
    }
}

impl Eq for Json {}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.0.text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_deeper_than_the_limit_keeps_its_digest() {
        let deep = (0..300).fold(Value::from(1), |inner, _| Value::Array(vec![inner]));
        let document = Json::from(deep.clone());
        assert_eq!(document.canonical(), document.text());
        assert_ne!(document.digest(), Json::null().digest());
        assert_eq!(document.value(), &deep);
    }

    #[test]
    fn debug_shows_no_content() {
        assert_eq!(
            format!("{:?}", Json::from(Value::from("secret"))),
            "Json(8 bytes)"
        );
    }
}
