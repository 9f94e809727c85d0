//! SHA-256 digests, as the log writes them. Knows nothing of what is hashed.

use std::fmt;
use std::str::FromStr;

use sha2::Digest as _;

/// A SHA-256 digest. Written in 64 lower-case hex digits.
///
/// ```
/// use leash_core::Digest;
///
/// let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// assert_eq!(Digest::of(b"").to_string(), empty);
/// assert_eq!(empty.parse(), Ok(Digest::EMPTY));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// The text is not 64 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is written in 64 lower-case hex digits")]
pub struct DigestError;

impl Digest {
    /// 64 zeros: what the first line of a log names as the hash before it.
    pub const ZERO: Self = Self([0; 32]);

    /// The digest of nothing: the `response_hash` of a call that got no response.
    pub const EMPTY: Self = Self([
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
        0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
    ]);

    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The digest of the `parts`, one after the other.
    #[must_use]
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut hasher = sha2::Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 ASCII bytes of its text.
    #[must_use]
    pub fn to_hex(self) -> [u8; 64] {
        // Without a table, so that the compiler does many digits at once.
        let digit = |nibble: u8| {
            let above_nine = u8::from(nibble > 9).wrapping_mul(b'a' - b'9' - 1);
            nibble.wrapping_add(b'0').wrapping_add(above_nine)
        };
        let mut out = [b'0'; 64];
        for (pair, byte) in out.as_chunks_mut::<2>().0.iter_mut().zip(self.0) {
            *pair = [digit(byte >> 4), digit(byte & 0xf)];
        }
        out
    }

    /// Reads the 64 lower-case hex digits of a digest.
    ///
    /// # Errors
    /// [`DigestError`] for anything else, capitals included: a hash is compared as its text.
    pub fn from_hex(hex: &[u8]) -> Result<Self, DigestError> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte.wrapping_sub(b'0')),
            b'a'..=b'f' => Ok(byte.wrapping_sub(b'a').wrapping_add(10)),
            _ => Err(DigestError),
        };
        let hex: &[u8; 64] = hex.try_into().map_err(|_| DigestError)?;
        let mut out = [0; 32];
        for (slot, pair) in out.iter_mut().zip(hex.chunks_exact(2)) {
            let [high, low] = pair else {
                return Err(DigestError);
            };
            *slot = (digit(*high)? << 4) | digit(*low)?;
        }
        Ok(Self(out))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = self.to_hex();
        f.pad(std::str::from_utf8(&hex).unwrap_or_default())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        Self::from_hex(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_nothing_is_the_constant() {
        assert_eq!(Digest::of(b""), Digest::EMPTY);
        assert_eq!(Digest::of_parts(&[b"a", b"", b"bc"]), Digest::of(b"abc"));
        assert!(
            Digest::EMPTY
                .to_string()
                .to_uppercase()
                .parse::<Digest>()
                .is_err()
        );
        assert!("00".parse::<Digest>().is_err());
    }
}
