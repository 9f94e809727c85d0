//! Links that let a human decide from elsewhere: [`ResumeKey`], [`resume`]. Knows no HTTP.
//!
//! A token names one request, until when it is good, and what it may decide, under an HMAC. It works once, because a
//! request is decided once.

use std::fmt;
use std::sync::Arc;

use leash_core::{Clock, StoreError, SystemClock, Timestamp};

use crate::signature::{hex, unhex};
use crate::{Decided, Entry, HitlQueue, Ruling, Secret};

/// The longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 2048;

/// What a token may decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// To approve.
    Approve,
    /// To reject.
    Reject,
    /// Either.
    Either,
}

impl Allowed {
    const fn letter(self) -> char {
        match self {
            Self::Approve => 'a',
            Self::Reject => 'r',
            Self::Either => 'e',
        }
    }

    fn of_letter(text: &str) -> Option<Self> {
        match text {
            "a" => Some(Self::Approve),
            "r" => Some(Self::Reject),
            "e" => Some(Self::Either),
            _ => None,
        }
    }

    /// Whether it covers `ruling`.
    #[must_use]
    pub const fn covers(self, ruling: &Ruling) -> bool {
        matches!(
            (self, ruling),
            (Self::Either, _)
                | (Self::Approve, Ruling::Approve { .. })
                | (Self::Reject, Ruling::Reject { .. })
        )
    }
}

/// Why a token decided nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// It was not made with this key, or changed.
    #[error("the token is not valid")]
    Invalid,
    /// It was good until earlier.
    #[error("the token is over")]
    Over,
    /// It may decide the other way only.
    #[error("the token may not decide this")]
    NotAllowed,
    /// The request was decided, withdrawn or over before.
    #[error("the request is no longer pending")]
    NotPending,
    /// What the entry shows is not what would be approved: somebody changed it after it was asked.
    #[error("the request was changed after it was asked")]
    Changed,
    /// The gate takes no tokens.
    #[error("the gate decides nothing by links")]
    NoLinks,
    /// The queue cannot tell.
    #[error(transparent)]
    Queue(#[from] StoreError),
}

/// What a token that was checked says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claims {
    /// The request.
    pub request_id: String,
    /// Until when it is good.
    pub expires_at: Timestamp,
    /// What it may decide.
    pub allowed: Allowed,
}

/// Makes and checks tokens.
#[derive(Clone)]
pub struct ResumeKey {
    secret: Secret,
    clock: Arc<dyn Clock>,
}

impl ResumeKey {
    /// Signs with `secret`.
    #[must_use]
    pub fn new(secret: Secret) -> Self {
        Self::with_clock(secret, Arc::new(SystemClock))
    }

    /// Signs with `secret`, by another clock.
    #[must_use]
    pub fn with_clock(secret: Secret, clock: Arc<dyn Clock>) -> Self {
        Self { secret, clock }
    }

    /// A token for `request_id`, good until `expires_at`. Letters, digits and `.` only.
    #[must_use]
    pub fn token(&self, request_id: &str, expires_at: Timestamp, allowed: Allowed) -> String {
        let claims = format!(
            "1.{}.{}.{}",
            allowed.letter(),
            expires_at.as_unix_micros(),
            hex(request_id.as_bytes())
        );
        let code = self.code(&claims);
        format!("{claims}.{code}")
    }

    /// What `token` says, if this key made it and it is still good.
    ///
    /// # Errors
    /// [`ResumeError::Invalid`], [`ResumeError::Over`].
    pub fn check(&self, token: &str) -> Result<Claims, ResumeError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(ResumeError::Invalid);
        }
        let (text, code) = token.rsplit_once('.').ok_or(ResumeError::Invalid)?;
        if !self.secret.verifies(&[DOMAIN, text.as_bytes()], code) {
            return Err(ResumeError::Invalid);
        }
        let claims = read(text).ok_or(ResumeError::Invalid)?;
        if claims.expires_at <= self.clock.now() {
            return Err(ResumeError::Over);
        }
        Ok(claims)
    }

    fn code(&self, claims: &str) -> String {
        self.secret.mac(&[DOMAIN, claims.as_bytes()])
    }
}

/// So that no signature of a body with the same secret passes for a token.
const DOMAIN: &[u8] = b"llm-leash resume token\n";

fn read(text: &str) -> Option<Claims> {
    let mut parts = text.split('.');
    let (version, letter, micros, id) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version != "1" || parts.next().is_some() {
        return None;
    }
    Some(Claims {
        request_id: String::from_utf8(unhex(id)?).ok()?,
        expires_at: Timestamp::from_unix_micros(micros.parse().ok()?).ok()?,
        allowed: Allowed::of_letter(letter)?,
    })
}

impl fmt::Debug for ResumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResumeKey(***)")
    }
}

/// Decides what `token` names; gives the entry as it then stands.
///
/// # Errors
/// [`ResumeError`] where nothing was decided.
pub async fn resume(
    queue: &dyn HitlQueue,
    key: &ResumeKey,
    token: &str,
    ruling: &Ruling,
) -> Result<Entry, ResumeError> {
    let claims = key.check(token)?;
    if !claims.allowed.covers(ruling) {
        return Err(ResumeError::NotAllowed);
    }
    if matches!(ruling, Ruling::Approve { .. })
        && let Some(entry) = queue.get(&claims.request_id).await?
        && entry.shows_what_is_hashed() == Some(false)
    {
        return Err(ResumeError::Changed);
    }
    match queue.decide(&claims.request_id, ruling).await? {
        Decided::Done(entry) => Ok(entry),
        Decided::NotPending(_) | Decided::Unknown => Err(ResumeError::NotPending),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct At(i64);

    impl Clock for At {
        fn now(&self) -> Timestamp {
            Timestamp::from_unix_micros(self.0).unwrap()
        }
    }

    fn key(now: i64) -> ResumeKey {
        ResumeKey::with_clock(Secret::new("0123456789abcdef").unwrap(), Arc::new(At(now)))
    }

    #[test]
    fn a_token_says_what_it_was_made_for_until_it_is_over() {
        let until = Timestamp::from_unix_micros(10).unwrap();
        let token = key(0).token("a/b c", until, Allowed::Approve);
        let claims = key(9).check(&token).unwrap();
        assert_eq!(
            (claims.request_id.as_str(), claims.allowed),
            ("a/b c", Allowed::Approve)
        );
        assert!(matches!(key(10).check(&token), Err(ResumeError::Over)));
        assert!(
            token
                .chars()
                .all(|char| char.is_ascii_alphanumeric() || char == '.')
        );
    }

    #[test]
    fn a_token_changed_in_any_character_is_not_valid() {
        let until = Timestamp::from_unix_micros(10).unwrap();
        let token = key(0).token("r1", until, Allowed::Reject);
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(
                matches!(key(0).check(&changed), Err(ResumeError::Invalid)),
                "{changed}"
            );
        }
        for junk in ["", ".", "....", "1.a.5.61", &"a".repeat(5000)] {
            assert!(matches!(key(0).check(junk), Err(ResumeError::Invalid)));
        }
    }
}
