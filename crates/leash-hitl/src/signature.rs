//! HMAC-SHA-256 signatures of bodies and tokens: [`Secret`]. Compared in constant time, and never printed.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The shortest secret that is taken, in bytes.
const MIN_BYTES: usize = 16;

/// How far the time of a signature may be from ours, in seconds: older ones could be played back.
pub const MAX_SKEW_SECONDS: u64 = 300;

/// The header that carries a signature: `t=SECONDS,v1=HEX`.
pub const SIGNATURE_HEADER: &str = "X-LLM-Leash-Signature";

/// A key for signatures, known to both ends.
#[derive(Clone)]
pub struct Secret(Hmac<Sha256>);

/// The secret is shorter than 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret has at least 16 bytes")]
pub struct SecretError;

impl Secret {
    /// Takes at least 16 bytes that nobody can guess.
    ///
    /// # Errors
    /// [`SecretError`] for fewer.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, SecretError> {
        let bytes = bytes.as_ref();
        if bytes.len() < MIN_BYTES {
            return Err(SecretError);
        }
        Hmac::new_from_slice(bytes).map(Self).map_err(|_| SecretError)
    }

    pub(crate) fn mac(&self, parts: &[&[u8]]) -> String {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        hex(&mac.finalize().into_bytes())
    }

    /// Whether `hex` is the code over `parts`; takes equally long wherever it differs.
    pub(crate) fn verifies(&self, parts: &[&[u8]], hex: &str) -> bool {
        let Some(code) = unhex(hex) else { return false };
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        mac.verify_slice(&code).is_ok()
    }

    /// The value of [`SIGNATURE_HEADER`] for `body`, sent `at` seconds after 1970: HMAC-SHA-256 over `AT.BODY`.
    #[must_use]
    pub fn sign(&self, at: u64, body: &[u8]) -> String {
        let at = at.to_string();
        let code = self.mac(&[at.as_bytes(), b".", body]);
        format!("t={at},v1={code}")
    }

    /// Whether `header` signs `body`, within 5 minutes of `now` (seconds after 1970).
    #[must_use]
    pub fn is_signed(&self, header: &str, body: &[u8], now: u64) -> bool {
        let mut time = None;
        let mut codes = Vec::new();
        for part in header.split(',').take(8) {
            match part.trim().split_once('=') {
                Some(("t", at)) => time = Some(at),
                Some(("v1", code)) => codes.push(code),
                _ => {}
            }
        }
        let Some(at) = time else { return false };
        let is_fresh = at
            .parse()
            .is_ok_and(|at: u64| at.abs_diff(now) <= MAX_SKEW_SECONDS);
        is_fresh
            && codes
                .iter()
                .any(|code| self.verifies(&[at.as_bytes(), b".", body], code))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        for nibble in [byte >> 4, byte & 0xf] {
            out.extend(char::from_digit(u32::from(nibble), 16));
        }
    }
    out
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    bytes
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => Some((digit(*high)? << 4) | digit(*low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_body_and_its_time_only() {
        let secret = Secret::new("0123456789abcdef").unwrap();
        let header = secret.sign(1000, b"{}");
        assert!(secret.is_signed(&header, b"{}", 1000));
        assert!(secret.is_signed(&header, b"{}", 1300));
        assert!(!secret.is_signed(&header, b"{}", 1301));
        assert!(!secret.is_signed(&header, b"{} ", 1000));
        assert!(!secret.is_signed(&header.replace("t=1000", "t=1001"), b"{}", 1000));
        assert!(!secret.is_signed("t=1000,v1=", b"{}", 1000));
        assert!(!secret.is_signed("", b"{}", 1000));
        let other = Secret::new("0123456789abcdeF").unwrap();
        assert!(!other.is_signed(&header, b"{}", 1000));
        // Two keys while they are exchanged.
        let both = format!(
            "{},{}",
            other.sign(1000, b"{}"),
            header.split_once(',').unwrap().1
        );
        assert!(secret.is_signed(&both, b"{}", 1000));
        assert_eq!(format!("{secret:?}"), "Secret(***)");
        assert!(Secret::new("short").is_err());
    }

    /// RFC 4231, test case 2, has a key of 4 bytes, which is too short here; the code is computed with Python's `hmac`.
    #[test]
    fn the_code_is_hmac_sha_256_over_time_and_body() {
        let secret = Secret::new(b"0123456789abcdef").unwrap();
        assert_eq!(
            secret.sign(1000, b"{}"),
            include_str!("../tests/data/signature.txt").trim()
        );
    }
}
