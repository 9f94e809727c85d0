//! The keys of a signed log: [`HmacKey`] writes with one, [`HmacKeys`] verifies with several. Knows no lines.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use leash_core::Digest;
use sha2::Sha256;

use crate::AuditError;
use crate::line::{self, Hex};

/// The longest id of a key, in bytes.
pub const MAX_KEY_ID: usize = 64;

/// A secret that lines are signed with (HMAC-SHA-256), and the id under which the lines name it.
///
/// A chain of hashes shows that nobody changed a log who did not write it anew; whoever can write the file can do
/// that. Whoever lacks the key cannot. The secret is kept as the state it leaves in the hash, never shown, and wiped
/// when the key is dropped.
///
/// ```
/// use leash_audit::HmacKey;
///
/// let key = HmacKey::new("2026-05", b"thirty-two random bytes, or more")?;
/// assert_eq!(format!("{key:?}"), "HmacKey { id: \"2026-05\", .. }");
/// assert!(HmacKey::new("no spaces", b"secret").is_err());
/// # Ok::<(), leash_audit::AuditError>(())
/// ```
#[derive(Clone)]
pub struct HmacKey {
    id: Box<str>,
    state: Hmac<Sha256>,
}

impl HmacKey {
    /// The key `secret`, called `id`: 1 to 64 of ASCII letters, digits, `.`, `_` and `-`.
    ///
    /// # Errors
    /// [`AuditError::Key`] for another id, and for no secret at all.
    pub fn new(id: &str, secret: &[u8]) -> Result<Self, AuditError> {
        if !Self::is_id(id) {
            return Err(AuditError::Key(
                "its id must be 1 to 64 ASCII letters, digits, `.`, `_` or `-`",
            ));
        }
        Self::unchecked(id, secret)
    }

    /// Whether `text` can be the id of a key.
    #[must_use]
    pub fn is_id(text: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        !text.is_empty() && text.len() <= MAX_KEY_ID && text.bytes().all(plain)
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    fn unchecked(id: &str, secret: &[u8]) -> Result<Self, AuditError> {
        if secret.is_empty() {
            return Err(AuditError::Key("its secret is empty"));
        }
        let state =
            Hmac::new_from_slice(secret).map_err(|_| AuditError::Key("its secret has no valid length"))?;
        Ok(Self { id: id.into(), state })
    }

    /// The HMAC of the `parts`, one after the other.
    pub(crate) fn sign(&self, parts: &[&str]) -> Hex {
        let mut mac = self.state.clone();
        for part in parts {
            mac.update(part.as_bytes());
        }
        line::hex(mac.finalize().into_bytes())
    }

    /// Whether `stored` is the HMAC of `bytes`. Takes the same time whichever byte differs.
    pub(crate) fn fits(&self, bytes: &[u8], stored: &Digest) -> bool {
        let mut mac = self.state.clone();
        mac.update(bytes);
        mac.verify_slice(stored.as_bytes()).is_ok()
    }
}

/// Shows the id only.
impl fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HmacKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The keys that a log may be signed with, each found by the id that a line names: after a rotation, the old and the
/// new one.
#[derive(Clone, Debug, Default)]
pub struct HmacKeys {
    keys: Vec<HmacKey>,
    /// For lines that name no key, or one that is not here.
    fallbacks: Vec<HmacKey>,
}

impl HmacKeys {
    /// No key yet. Whoever verifies with this finds every line broken.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With `key` for the lines that name its id. A second key with the same id takes the place of the first.
    #[must_use]
    pub fn with(mut self, key: HmacKey) -> Self {
        self.keys.retain(|other| other.id != key.id);
        self.keys.push(key);
        self
    }

    /// With the key `secret` for the lines that name no key, or none that is here. Where there are several such keys, a
    /// line may be signed with any of them.
    ///
    /// # Errors
    /// [`AuditError::Key`] when the secret is empty.
    pub fn with_fallback(mut self, secret: &[u8]) -> Result<Self, AuditError> {
        self.fallbacks.push(HmacKey::unchecked("any", secret)?);
        Ok(self)
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.fallbacks.is_empty()
    }

    /// The ids, in the order in which the keys came.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(HmacKey::id)
    }

    /// The keys that a line with `id` may be signed with, or why there is none.
    pub(crate) fn find(&self, id: Option<&str>) -> Result<&[HmacKey], String> {
        let named = id.and_then(|id| self.keys.iter().find(|key| &*key.id == id));
        match named {
            Some(key) => Ok(std::slice::from_ref(key)),
            None if !self.fallbacks.is_empty() => Ok(&self.fallbacks),
            None => Err(match id {
                None => "there is no `hmac_key_id`, and no key was given for lines without".to_owned(),
                Some(id) if HmacKey::is_id(id) => {
                    format!("unknown key: no key with the id `{id}` was given")
                }
                Some(_) => "unknown key: no key with the id it names was given".to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// # Source
    /// RFC 4231, test cases 1, 2, 3, 4, 6 and 7.
    #[test]
    fn macs_are_those_of_the_standard() {
        let counting: Vec<u8> = (1..=25).collect();
        let long = "This is a test using a larger than block-size key and a larger than block-size data. The key \
                    needs to be hashed before being used by the HMAC algorithm.";
        let cases: [(&[u8], &[u8], &str); 6] = [
            (
                &[0x0b; 20],
                b"Hi There",
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &[0xaa; 20],
                &[0xdd; 50],
                "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
            ),
            (
                &counting,
                &[0xcd; 50],
                "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
            ),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
            (
                &[0xaa; 131],
                long.as_bytes(),
                "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
            ),
        ];
        for (secret, data, expected) in cases {
            let key = HmacKey::new("k", secret).unwrap();
            let stored: Digest = expected.parse().unwrap();
            assert!(key.fits(data, &stored));
            assert!(!key.fits(b"other", &stored));
            if let Ok(text) = std::str::from_utf8(data) {
                assert_eq!(key.sign(&[text]), expected.as_bytes());
                let (head, tail) = text.split_at(3);
                assert_eq!(key.sign(&[head, tail]), expected.as_bytes());
            }
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        let key = HmacKey::new("k1", b"hunter2 hunter2").unwrap();
        let keys = HmacKeys::new()
            .with(key.clone())
            .with_fallback(b"hunter2")
            .unwrap();
        for shown in [format!("{key:?}"), format!("{keys:?}"), format!("{keys:#?}")] {
            assert!(!shown.contains("hunter2") && !shown.contains("state"), "{shown}");
        }
    }

    #[test]
    fn ids_are_plain_words() {
        for id in ["", "a b", "a\"b", "a\nb", "é", "a=b", "a/b"] {
            assert!(HmacKey::new(id, b"secret").is_err(), "{id:?}");
        }
        assert!(HmacKey::new(&"k".repeat(MAX_KEY_ID), b"s").is_ok());
        assert!(HmacKey::new(&"k".repeat(MAX_KEY_ID + 1), b"s").is_err());
        assert!(HmacKey::new("k", b"").is_err());
    }
}
