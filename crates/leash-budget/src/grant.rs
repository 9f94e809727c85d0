//! A part of one budget that somebody else spends: [`Grant`].

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use leash_core::{Caller, Digest, ReservationId, StoreError, Usd};

use crate::{Balance, BudgetStore, Held, Hold, HoldLine, Scope, ScopeKey, Settlement, Window};

const KIND: &str = "grant";
const VERSION: &str = "grant1";
/// Longer than any token of ours: ids have at most 512 bytes.
const MAX_TOKEN_BYTES: usize = 2_048;

/// A part of a budget, handed to a sub-agent: set aside in the giver's scopes until it is given back, and spent under a
/// scope of its own whose cap it is. So whatever its holders spend, in whatever process, giver and holders together stay
/// within the giver's caps.
///
/// Its text is a token that another process can take it up with. It is no secret of its own, but whoever can reach the
/// store can spend by it.
///
/// ```
/// # futures_executor::block_on(async {
/// use std::sync::Arc;
/// use leash_budget::{BudgetStore, Grant, MemoryStore, Reserve, Scope};
/// use leash_core::{Caller, Clock, IdGenerator, SessionId, SystemClock};
///
/// let clock = Arc::new(SystemClock);
/// let store = MemoryStore::new(clock.clone());
/// let parent = SessionId::new("s_parent")?;
/// let scopes: Arc<[Scope]> = Arc::from([Scope::session(&parent, "1.00".parse()?)]);
///
/// let id = IdGenerator::from_os().reservation(clock.now());
/// let grant = Grant::new(id, "0.40".parse()?, &scopes).unwrap();
/// let hold = grant.hold(Caller::session(parent), scopes.clone());
/// assert!(matches!(store.reserve(&hold).await?, Reserve::Granted(_)));
///
/// let elsewhere: Grant = grant.to_string().parse()?;
/// assert_eq!(elsewhere.scope().cap, Some("0.40".parse()?));
/// // Nothing was spent, so all of it goes back.
/// grant.give_back(&store, false).await?;
/// assert!(store.balances(&scopes).await?[0].reserved.is_zero());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    id: ReservationId,
    amount: Usd,
    /// Where it was taken from: one key, without caps.
    from: Arc<[Scope]>,
}

/// A text that is no grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is no grant: `grant1:ID:NANO_USD:WINDOWS:SCOPE`")]
pub struct GrantError;

impl Grant {
    /// `amount` out of `from`, which are scopes of one key. `None` where there are none, or of several keys.
    #[must_use]
    pub fn new(id: ReservationId, amount: Usd, from: &[Scope]) -> Option<Self> {
        let key = &from.first()?.key;
        if from.iter().any(|scope| scope.key != *key) {
            return None;
        }
        let from = from.iter().map(|scope| uncapped(key, scope.window)).collect();
        Some(Self { id, amount, from })
    }

    /// The reservation that holds it.
    #[must_use]
    pub const fn id(&self) -> ReservationId {
        self.id
    }

    /// How much was granted.
    #[must_use]
    pub const fn amount(&self) -> Usd {
        self.amount
    }

    /// The key of the scopes that it was taken from; empty for none.
    #[must_use]
    pub fn from_key(&self) -> &str {
        self.from.first().map_or("", |scope| scope.key.as_str())
    }

    /// What it is spent under: `grant:` and its id.
    #[must_use]
    pub fn key(&self) -> ScopeKey {
        ScopeKey::grant(self.id)
    }

    /// The scope that it is spent under, with its cap.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope::capped(self.key(), self.amount)
    }

    /// Whether a scope is that of a grant.
    #[must_use]
    pub fn is_scope(key: &ScopeKey) -> bool {
        key.as_str()
            .strip_prefix(KIND)
            .is_some_and(|rest| rest.starts_with(':'))
    }

    /// What sets it aside in `scopes`, those that it was made with. It stands until it is given back.
    #[must_use]
    pub fn hold(&self, giver: Caller, scopes: Arc<[Scope]>) -> Hold {
        Hold {
            id: self.id,
            amount: self.amount,
            scopes,
            lease: Duration::MAX,
            line: HoldLine {
                what: Held::Grant { child: self.key() },
                caller: giver,
                request_digest: Digest::EMPTY,
            },
        }
    }

    /// Ends it: nothing more is spent under it, and its giver is charged what was spent and what is still set aside for
    /// calls under way. Returns both. Soon after, again: the same.
    ///
    /// `owes_line` says whether a line will tell of it, as [`Settlement::owes_line`]: one of the charge, so of both together.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot tell; ask again.
    pub async fn give_back(&self, store: &dyn BudgetStore, owes_line: bool) -> Result<Balance, StoreError> {
        let sums = store.close(&self.key()).await?;
        let settlement = Settlement {
            id: self.id,
            amount: sums.spent.saturating_add(sums.reserved),
            scopes: self.from.clone(),
            owes_line,
        };
        store.settle(&settlement).await?;
        Ok(sums)
    }
}

fn uncapped(key: &ScopeKey, window: Window) -> Scope {
    Scope {
        key: key.clone(),
        window,
        cap: None,
        soft_cap: None,
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}:{}:{}:", self.id, self.amount.as_nanos())?;
        for (at, scope) in self.from.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{}", scope.window)?;
        }
        write!(f, ":{}", self.from_key())
    }
}

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        if text.len() > MAX_TOKEN_BYTES || text.chars().any(char::is_control) {
            return Err(GrantError);
        }
        let mut parts = text.splitn(5, ':');
        let mut next = || parts.next().ok_or(GrantError);
        if next()? != VERSION {
            return Err(GrantError);
        }
        let id = next()?.parse().map_err(|_| GrantError)?;
        let nanos = next()?.parse().map_err(|_| GrantError)?;
        let amount = Usd::from_nanos(nanos).map_err(|_| GrantError)?;
        let windows = next()?;
        let (kind, name) = next()?.split_once(':').ok_or(GrantError)?;
        if kind.is_empty() || name.is_empty() {
            return Err(GrantError);
        }
        let key = ScopeKey::named(kind, name);
        let mut from: Vec<Scope> = Vec::new();
        for word in windows.split(',') {
            let window = Window::from_name(word).ok_or(GrantError)?;
            if from.iter().any(|scope| scope.window == window) {
                return Err(GrantError);
            }
            from.push(uncapped(&key, window));
        }
        Self::new(id, amount, &from).ok_or(GrantError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leash_core::{IdGenerator, SessionId, Timestamp};

    fn grant(session: &str, windows: &[Window]) -> Grant {
        let id = IdGenerator::from_os().reservation(Timestamp::EPOCH);
        let session = SessionId::new(session).unwrap();
        let from: Vec<Scope> = windows
            .iter()
            .map(|window| Scope::session(&session, Usd::MAX).per(*window))
            .collect();
        Grant::new(id, Usd::from_cents(40).unwrap(), &from).unwrap()
    }

    #[test]
    fn a_token_says_what_the_grant_is() {
        for windows in [
            &[Window::Total][..],
            &[Window::Total, Window::Hour, Window::Month],
        ] {
            for session in ["s_1", "a:b:c", "ünïcode, with spaces"] {
                let grant = grant(session, windows);
                assert_eq!(grant.to_string().parse(), Ok(grant.clone()));
                assert!(Grant::is_scope(&grant.key()));
            }
        }
        assert!(!Grant::is_scope(&ScopeKey::named("grants", "x")));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let good = grant("s_1", &[Window::Total]).to_string();
        for bad in [
            String::new(),
            good.replace("grant1", "grant2"),
            good.replace(":400000000:", ":-1:"),
            good.replace(":400000000:", ":9007199254740992:"),
            good.replace(":total:", ":total,total:"),
            good.replace(":total:", ":week:"),
            good.replace(":total:", "::"),
            good.replace(":session:s_1", ""),
            good.replace(":session:s_1", ":session:"),
            good.replace(":session:s_1", ":s_1"),
            good.replace("s_1", "s\n1"),
            format!("{good}{}", "x".repeat(MAX_TOKEN_BYTES)),
        ] {
            assert_eq!(bad.parse::<Grant>(), Err(GrantError), "{bad}");
        }
    }
}
