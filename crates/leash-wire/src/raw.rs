//! Raw pieces of JSON: members, strings with their escapes, counts. Knows no format.
//!
//! A stream's deltas are joined as they are escaped on the wire and unescaped once, at the end: that is cheaper, and
//! a surrogate pair cut in two by the provider comes out whole.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::WireError;

/// The largest count that JSON carries exactly everywhere; more is no token count.
pub(crate) const MAX_COUNT: u64 = (1 << 53) - 1;

/// Reads `text` as a `T`.
pub(crate) fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, WireError> {
    serde_json::from_str(text)
        .map_err(|_| WireError::malformed("the JSON has not the shape its format promises"))
}

/// A JSON string, borrowed where it has no escapes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Str<'a>(pub(crate) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Str<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StrVisitor;
        impl<'de> Visitor<'de> for StrVisitor {
            type Value = Str<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(StrVisitor)
    }
}

/// The members of an object, each as its text. A member twice is an error.
#[derive(Default)]
pub(crate) struct Members<'a>(pub(crate) BTreeMap<Cow<'a, str>, &'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((Str(name), value)) = map.next_entry::<Str<'de>, &'de RawValue>()? {
                    match members.entry(name) {
                        Entry::Vacant(entry) => entry.insert(value),
                        Entry::Occupied(_) => return Err(A::Error::custom("duplicate member")),
                    };
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

impl<'a> Members<'a> {
    /// The members of `text`, which must be an object.
    pub(crate) fn parse(text: &'a str) -> Result<Self, WireError> {
        parse(text)
    }

    /// The member called `name`; `null` counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied().filter(|raw| raw.get() != "null")
    }

    /// The string called `name`; absent where it is `null`.
    pub(crate) fn str(&self, name: &str) -> Result<Option<Cow<'a, str>>, WireError> {
        self.get(name).map(text).transpose()
    }

    /// Whether `name` is there with a value that is neither `null` nor empty.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(|raw| !is_empty(raw))
    }
}

/// Whether `raw` is an empty array, object or string.
pub(crate) fn is_empty(raw: &RawValue) -> bool {
    let text = raw.get().as_bytes();
    match text {
        [b'"', b'"'] => true,
        [b'[' | b'{', inside @ .., b']' | b'}'] => inside.iter().all(u8::is_ascii_whitespace),
        _ => false,
    }
}

pub(crate) fn is_string(raw: &RawValue) -> bool {
    raw.get().starts_with('"')
}

pub(crate) fn is_object(raw: &RawValue) -> bool {
    raw.get().starts_with('{')
}

pub(crate) fn is_array(raw: &RawValue) -> bool {
    raw.get().starts_with('[')
}

/// What stands between the quotes of a JSON string, escapes as they are.
pub(crate) fn inner(raw: &RawValue) -> Result<&str, WireError> {
    raw.get()
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .ok_or(WireError::field("a member that must be a string is none"))
}

/// A JSON string unescaped.
pub(crate) fn text(raw: &RawValue) -> Result<Cow<'_, str>, WireError> {
    let inner = inner(raw)?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Ok(Cow::Borrowed(inner));
    }
    parse::<String>(raw.get()).map(Cow::Owned)
}

/// What stood between quotes, unescaped.
pub(crate) fn unescape(inner: &str) -> Result<Cow<'_, str>, WireError> {
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Ok(Cow::Borrowed(inner));
    }
    parse::<String>(&format!("\"{inner}\"")).map(Cow::Owned)
}

/// Appends `inner` as a JSON string.
pub(crate) fn push_inner(out: &mut String, inner: &str) {
    out.push('"');
    out.push_str(inner);
    out.push('"');
}

/// Appends `text` as a JSON string.
pub(crate) fn push_str(out: &mut String, text: &str) {
    leash_core::canonical::write_str(out, text);
}

/// How many bytes of UTF-8 `inner` is once unescaped; at least, for a broken surrogate pair, what it would be.
pub(crate) fn decoded_len(inner: &str) -> u64 {
    let bytes = inner.as_bytes();
    let mut len = bytes.len();
    let mut rest = bytes;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let escape = rest.get(at..).unwrap_or_default();
        // `\uXXXX` is up to three bytes of UTF-8 (a pair of them four); every other escape is one.
        let (written, decoded) = match escape {
            [b'\\', b'u', b'0', b'0', b'0'..=b'7', _, ..] => (6, 1),
            [b'\\', b'u', ..] => (6, 3),
            _ => (2, 1),
        };
        len = len.saturating_sub(written).saturating_add(decoded);
        rest = escape.get(written..).unwrap_or_default();
    }
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// A count of tokens or the like: plain digits, at most [`MAX_COUNT`]. Anything else is none.
pub(crate) fn count(raw: &RawValue) -> Option<u64> {
    let text = raw.get();
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|count| *count <= MAX_COUNT)
}

/// Whether `text` is the beginning of a JSON document and no more than that.
pub(crate) fn is_cut_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_err_and(|error| error.is_eof())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_twice_are_refused_and_null_is_absent() {
        assert!(Members::parse(r#"{"a":1,"\u0061":2}"#).is_err());
        assert!(Members::parse("[]").is_err());
        let members = Members::parse(r#"{"a":null,"b":"x\n","c":[ ]}"#).unwrap();
        assert!(members.get("a").is_none());
        assert_eq!(members.str("b").unwrap().as_deref(), Some("x\n"));
        assert!(!members.has("c"));
    }

    #[test]
    fn a_surrogate_pair_cut_in_two_comes_out_whole() {
        let joined = [r"\ud83d", r"\ude00"].concat();
        assert_eq!(unescape(&joined).unwrap(), "😀");
        assert!(unescape(r"\ud83d").is_err());
        assert!(decoded_len(&joined) >= 4);
        assert_eq!(decoded_len(r"a\n\u0041é"), 5);
    }

    #[test]
    fn counts_are_plain_digits() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        assert_eq!(count(&raw("12")), Some(12));
        for bad in [
            "-1",
            "1.0",
            "1e3",
            "\"1\"",
            "null",
            "9007199254740992",
            "99999999999999999999",
            "[]",
        ] {
            assert_eq!(count(&raw(bad)), None, "{bad}");
        }
    }
}
