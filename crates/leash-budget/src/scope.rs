//! What a cap is over: [`Scope`].

use std::fmt;
use std::sync::Arc;

use leash_core::{AgentName, ReservationId, SessionId, TenantId, Timestamp, Usd};

/// The name of what is counted together: `session:s_1`, `tenant:acme`, `agent:researcher`, `global`, or any
/// other that the user counts by (`team:search`). Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeKey(Arc<str>);

impl ScopeKey {
    /// Everything together.
    #[must_use]
    pub fn global() -> Self {
        Self("global".into())
    }

    /// One session.
    #[must_use]
    pub fn session(id: &SessionId) -> Self {
        Self(format!("session:{id}").into())
    }

    /// One tenant.
    #[must_use]
    pub fn tenant(id: &TenantId) -> Self {
        Self(format!("tenant:{id}").into())
    }

    /// All runs of one agent.
    #[must_use]
    pub fn agent(name: &AgentName) -> Self {
        Self(format!("agent:{name}").into())
    }

    /// What was granted by the hold with this id; see [`Grant`](crate::Grant).
    #[must_use]
    pub fn grant(id: ReservationId) -> Self {
        Self(format!("grant:{id}").into())
    }

    /// A key by its whole name, as a store, a log or a command has it.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// Anything else: `kind` and `name` as `kind:name`.
    #[must_use]
    pub fn named(kind: &str, name: &str) -> Self {
        Self(format!("{kind}:{name}").into())
    }

    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ScopeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScopeKey({:?})", &*self.0)
    }
}

impl fmt::Display for ScopeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What a cap holds for: everything ever spent, or what is spent in one span of the calendar (UTC).
///
/// A call belongs to the span in which it was reserved, by the store's clock, however late it is settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Window {
    /// Everything.
    #[default]
    Total,
    /// Sixty seconds, from second 0.
    Minute,
    /// An hour, from minute 0.
    Hour,
    /// A day, from midnight UTC.
    Day,
    /// A month, from midnight UTC of its first day.
    Month,
}

impl Window {
    /// All of them, in their order.
    pub const ALL: [Self; 5] = [Self::Total, Self::Minute, Self::Hour, Self::Day, Self::Month];

    /// The number of the span that `at` is in; a later span has a greater number. Always 0 for [`Window::Total`], months
    /// since January of the year 0 for [`Window::Month`], else spans since 1970-01-01T00:00:00Z.
    ///
    /// ```
    /// use leash_budget::Window;
    /// use leash_core::Timestamp;
    ///
    /// let leap: Timestamp = "2028-02-29T23:59:59.999999Z".parse()?;
    /// let next: Timestamp = "2028-03-01T00:00:00Z".parse()?;
    /// assert_eq!(Window::Month.index(leap) + 1, Window::Month.index(next));
    /// assert_eq!(Window::Day.start_of(Window::Day.index(next)), next);
    /// # Ok::<(), leash_core::TimestampError>(())
    /// ```
    #[must_use]
    pub fn index(self, at: Timestamp) -> i64 {
        match (self, self.seconds()) {
            (Self::Month, _) => at.months(),
            (_, Some(seconds)) => at.as_unix_seconds().div_euclid(seconds),
            _ => 0,
        }
    }

    /// When the span of this number begins; the first moment there is for [`Window::Total`], the nearest one where the
    /// span lies outside of time.
    #[must_use]
    pub fn start_of(self, index: i64) -> Timestamp {
        match (self, self.seconds()) {
            (Self::Month, _) => Timestamp::from_months(index),
            (_, Some(seconds)) => Timestamp::from_unix_seconds(index.saturating_mul(seconds)),
            _ => Timestamp::MIN,
        }
    }

    /// How long it is, where each is as long.
    const fn seconds(self) -> Option<i64> {
        match self {
            Self::Total | Self::Month => None,
            Self::Minute => Some(60),
            Self::Hour => Some(3_600),
            Self::Day => Some(86_400),
        }
    }

    /// The window that [`Window::as_str`] writes so.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|window| window.as_str() == name)
    }

    /// As stores, files and commands write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A scope under caps. Scopes without any are not counted.
///
/// One key may stand under several scopes of a call, once for each [`Window`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// What is counted together.
    pub key: ScopeKey,
    /// Over which span of time.
    pub window: Window,
    /// What it may spend at most. Spending it exactly is allowed; a cap of 0 allows nothing. `None`: no limit, but counted.
    pub cap: Option<Usd>,
    /// Beyond it the log says `soft_exceeded`; calls go on.
    pub soft_cap: Option<Usd>,
}

impl Scope {
    /// `key` under `cap` in all.
    #[must_use]
    pub const fn capped(key: ScopeKey, cap: Usd) -> Self {
        Self {
            key,
            window: Window::Total,
            cap: Some(cap),
            soft_cap: None,
        }
    }

    /// A session under `cap`.
    #[must_use]
    pub fn session(id: &SessionId, cap: Usd) -> Self {
        Self::capped(ScopeKey::session(id), cap)
    }

    /// A tenant under `cap`.
    #[must_use]
    pub fn tenant(id: &TenantId, cap: Usd) -> Self {
        Self::capped(ScopeKey::tenant(id), cap)
    }

    /// An agent under `cap`.
    #[must_use]
    pub fn agent(name: &AgentName, cap: Usd) -> Self {
        Self::capped(ScopeKey::agent(name), cap)
    }

    /// Everything under `cap`.
    #[must_use]
    pub fn global(cap: Usd) -> Self {
        Self::capped(ScopeKey::global(), cap)
    }

    /// The same caps over another span of time.
    #[must_use]
    pub const fn per(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// With a soft cap beside the hard one.
    #[must_use]
    pub const fn soft(mut self, cap: Usd) -> Self {
        self.soft_cap = Some(cap);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_span_ends_where_the_calendar_says() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        for (window, last, first) in [
            (
                Window::Minute,
                "2026-11-22T12:34:59.999999Z",
                "2026-11-22T12:35:00Z",
            ),
            (
                Window::Hour,
                "2026-11-22T12:59:59.999999Z",
                "2026-11-22T13:00:00Z",
            ),
            (Window::Day, "2026-12-31T23:59:59.999999Z", "2027-01-01T00:00:00Z"),
            (Window::Day, "2028-02-28T23:59:59.999999Z", "2028-02-29T00:00:00Z"),
            (
                Window::Month,
                "2028-02-29T23:59:59.999999Z",
                "2028-03-01T00:00:00Z",
            ),
            (
                Window::Month,
                "2027-02-28T23:59:59.999999Z",
                "2027-03-01T00:00:00Z",
            ),
            (
                Window::Month,
                "2026-12-31T23:59:59.999999Z",
                "2027-01-01T00:00:00Z",
            ),
            (Window::Day, "1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(
                window.index(at(last)) + 1,
                window.index(at(first)),
                "{window} {first}"
            );
            assert_eq!(window.start_of(window.index(at(first))), at(first));
        }
        assert_eq!(Window::Month.index(at("2028-02-29T12:00:00Z")), 2028 * 12 + 1);
        assert_eq!(Window::Total.index(Timestamp::MAX), 0);
    }

    #[test]
    fn a_window_survives_its_name() {
        for window in Window::ALL {
            assert_eq!(Window::from_name(window.as_str()), Some(window));
        }
        assert_eq!(Window::from_name("week"), None);
    }

    proptest! {
        #[test]
        fn a_moment_is_in_the_span_of_its_number(
            micros in Timestamp::MIN.as_unix_micros()..=Timestamp::MAX.as_unix_micros(),
            which in 0..Window::ALL.len(),
        ) {
            let (window, at) = (Window::ALL[which], Timestamp::from_unix_micros(micros).unwrap());
            let start = window.start_of(window.index(at));
            prop_assert!(start <= at);
            prop_assert_eq!(window.index(start), window.index(at));
        }
    }
}
