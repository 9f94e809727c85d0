//! Names of things: one checked newtype each, and the generator of new ones.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Timestamp;

/// The longest id, in bytes of UTF-8.
pub const MAX_ID_BYTES: usize = 512;

/// Why a text is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// No bytes at all.
    #[error("an id must not be empty")]
    Empty,
    /// More than [`MAX_ID_BYTES`].
    #[error("an id has at most 512 bytes of UTF-8")]
    TooLong,
    /// A control character, which would break lines, headers and terminals.
    #[error("an id must not contain control characters")]
    ControlCharacter,
    /// Not the 36 characters of a UUID.
    #[error("the id must be a UUID such as `0198c0de-7d2f-7abc-8def-0123456789ab`")]
    NoUuid,
}

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > MAX_ID_BYTES {
        return Err(IdError::TooLong);
    }
    if text.chars().any(char::is_control) {
        return Err(IdError::ControlCharacter);
    }
    Ok(())
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Any UTF-8 of 1 to 512 bytes without control characters. Cheap to clone.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and takes it.
            ///
            /// # Errors
            /// [`IdError`] where the text is empty, too long, or has a control character.
            pub fn new(text: impl Into<Arc<str>>) -> Result<Self, IdError> {
                let text = text.into();
                check(&text)?;
                Ok(Self(text))
            }

            /// The text as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), &*self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = IdError;

            fn try_from(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id! {
    /// One run of an agent: what is budgeted, killed and logged together.
    SessionId
}
text_id! {
    /// A customer, or any other party whose calls are accounted for together.
    TenantId
}
text_id! {
    /// The name of an agent: the program, not one of its runs.
    AgentName
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// A UUID, version 7 when we make it: sorted by the time of its making. Written in the usual 36 characters.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// The UUID with these 128 bits.
            #[must_use]
            pub const fn from_u128(bits: u128) -> Self {
                Self(bits)
            }

            /// All 128 bits.
            #[must_use]
            pub const fn as_u128(self) -> u128 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(uuid_text(self.0, &mut [0; 36]))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_uuid(text).map(Self)
            }
        }
    };
}

uuid_id! {
    /// One amount set aside in a budget store; made by the caller, so that a lost reply may be asked for twice.
    ReservationId
}
uuid_id! {
    /// One request for a human's approval.
    RequestId
}

fn uuid_text(bits: u128, out: &mut [u8; 36]) -> &str {
    let mut nibble = 0_u32;
    for (position, slot) in out.iter_mut().enumerate() {
        if matches!(position, 8 | 13 | 18 | 23) {
            *slot = b'-';
            continue;
        }
        let shift = 124_u32.saturating_sub(nibble.saturating_mul(4));
        let digit = usize::try_from((bits >> shift) & 0xf).unwrap_or(0);
        *slot = b"0123456789abcdef".get(digit).copied().unwrap_or(b'0');
        nibble = nibble.saturating_add(1);
    }
    std::str::from_utf8(out).unwrap_or_default()
}

fn parse_uuid(text: &str) -> Result<u128, IdError> {
    if text.len() != 36 {
        return Err(IdError::NoUuid);
    }
    let mut bits = 0_u128;
    for (position, byte) in text.bytes().enumerate() {
        match (
            matches!(position, 8 | 13 | 18 | 23),
            char::from(byte).to_digit(16),
        ) {
            (true, _) if byte == b'-' => {}
            (false, Some(digit)) => bits = (bits << 4) | u128::from(digit),
            _ => return Err(IdError::NoUuid),
        }
    }
    Ok(bits)
}

/// Makes new ids. Two generators of [`IdGenerator::from_os`] never make the same one, in practice.
///
/// Each id is a keyed hash of a counter, so making one costs neither a system call nor a lock.
#[derive(Debug)]
pub struct IdGenerator {
    keys: (RandomState, RandomState),
    counter: AtomicU64,
}

impl IdGenerator {
    /// Keyed by the operating system's randomness.
    #[must_use]
    pub fn from_os() -> Self {
        Self {
            keys: (RandomState::new(), RandomState::new()),
            counter: AtomicU64::new(0),
        }
    }

    fn random(&self) -> u128 {
        let turn = self.counter.fetch_add(1, Ordering::Relaxed);
        (u128::from(self.keys.0.hash_one(turn)) << 64) | u128::from(self.keys.1.hash_one(turn))
    }

    /// RFC 9562, section 5.7: 48 bits of milliseconds, version 7, and 74 bits that nobody guesses.
    fn uuid_v7(&self, now: Timestamp) -> u128 {
        const RANDOM: u128 = (0xfff << 64) | (u128::MAX >> 66);
        let time = (u128::from(now.as_unix_ms()) & 0xffff_ffff_ffff) << 80;
        time | (0x7 << 76) | (0b10 << 62) | (self.random() & RANDOM)
    }

    /// A new reservation id.
    #[must_use]
    pub fn reservation(&self, now: Timestamp) -> ReservationId {
        ReservationId(self.uuid_v7(now))
    }

    /// A new request id.
    #[must_use]
    pub fn request(&self, now: Timestamp) -> RequestId {
        RequestId(self.uuid_v7(now))
    }

    /// A new session id: `s_` and 16 hex digits.
    #[must_use]
    pub fn session(&self) -> SessionId {
        SessionId(format!("s_{:016x}", self.random() >> 64).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_is_checked() {
        assert_eq!(SessionId::new(""), Err(IdError::Empty));
        assert_eq!(SessionId::new("a\nb"), Err(IdError::ControlCharacter));
        assert_eq!(SessionId::new("a\u{85}b"), Err(IdError::ControlCharacter));
        assert_eq!(SessionId::new("x".repeat(513)), Err(IdError::TooLong));
        assert!(SessionId::new("../../🚀 %2f").is_ok());
    }

    #[test]
    fn generated_ids_differ_and_are_version_7() {
        let ids = IdGenerator::from_os();
        let now = "2026-05-16T12:34:56Z".parse().unwrap();
        let text = ids.reservation(now).to_string();
        assert_eq!(text.as_bytes()[14], b'7');
        assert!(matches!(text.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        let many: std::collections::HashSet<_> = (0..10_000).map(|_| ids.reservation(now)).collect();
        assert_eq!(many.len(), 10_000);
        let session = ids.session();
        assert!(session.as_str().starts_with("s_") && session.as_str().len() == 18);
    }

    proptest! {
        #[test]
        fn a_uuid_survives_its_text(bits: u128) {
            let id = ReservationId::from_u128(bits);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
    }
}
