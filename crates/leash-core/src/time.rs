//! Time: [`Timestamp`], and the [`Clock`] it is read from. Nothing else in the workspace asks the system.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime, UtcOffset};

/// A moment in UTC, to the microsecond, in the years 0 to 9999.
///
/// Written as the log writes it: `2026-05-16T12:34:56.789012Z`, always six decimals.
///
/// ```
/// use leash_core::Timestamp;
///
/// let at: Timestamp = "2026-05-16T12:34:56.789012Z".parse()?;
/// assert_eq!(at.to_string(), "2026-05-16T12:34:56.789012Z");
/// # Ok::<(), leash_core::TimestampError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Microseconds since 1970-01-01T00:00:00Z.
    micros: i64,
}

/// The text is no RFC 3339 moment, or the moment is outside the years 0 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a moment is written like `2026-05-16T12:34:56Z`, in the years 0 to 9999")]
pub struct TimestampError;

const MICROS_PER_SECOND: i64 = 1_000_000;
/// 0000-01-01T00:00:00.000000Z and 9999-12-31T23:59:59.999999Z.
const FIRST: i64 = -62_167_219_200 * MICROS_PER_SECOND;
const LAST: i64 = 253_402_300_800 * MICROS_PER_SECOND - 1;

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self { micros: 0 };
    /// The first moment there is: 0000-01-01T00:00:00Z.
    pub const MIN: Self = Self { micros: FIRST };
    /// The last moment there is: 9999-12-31T23:59:59.999999Z. Stands for "never" where something has no end.
    pub const MAX: Self = Self { micros: LAST };

    /// This many microseconds since 1970-01-01T00:00:00Z.
    ///
    /// # Errors
    /// [`TimestampError`] outside the years 0 to 9999.
    pub const fn from_unix_micros(micros: i64) -> Result<Self, TimestampError> {
        if micros < FIRST || micros > LAST {
            Err(TimestampError)
        } else {
            Ok(Self { micros })
        }
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn as_unix_micros(self) -> i64 {
        self.micros
    }

    /// Milliseconds since 1970-01-01T00:00:00Z, zero before it.
    #[must_use]
    pub fn as_unix_ms(self) -> u64 {
        u64::try_from(self.micros / 1000).unwrap_or(0)
    }

    /// Whole seconds since 1970-01-01T00:00:00Z, rounded down.
    #[must_use]
    pub const fn as_unix_seconds(self) -> i64 {
        self.micros.div_euclid(MICROS_PER_SECOND)
    }

    /// The start of this second since 1970-01-01T00:00:00Z; the nearest moment there is where it is out of range.
    #[must_use]
    pub fn from_unix_seconds(seconds: i64) -> Self {
        Self {
            micros: seconds.saturating_mul(MICROS_PER_SECOND).clamp(FIRST, LAST),
        }
    }

    /// Months since January of the year 0, in UTC: twelve times the year, and the month less one.
    #[must_use]
    pub fn months(self) -> i64 {
        let at = self.date_time();
        let month = i64::from(u8::from(at.month())).saturating_sub(1);
        i64::from(at.year()).saturating_mul(12).saturating_add(month)
    }

    /// The start of a month in UTC, by its number as in [`Timestamp::months`]; the nearest moment there is where it is
    /// out of range.
    #[must_use]
    pub fn from_months(months: i64) -> Self {
        if months < 0 {
            return Self::MIN;
        }
        let year = i32::try_from(months / 12).unwrap_or(i32::MAX);
        let month = u8::try_from(months % 12).unwrap_or(0).saturating_add(1);
        let first = Month::try_from(month)
            .ok()
            .and_then(|month| Date::from_calendar_date(year, month, 1).ok());
        first.map_or(Self::MAX, |date| {
            Self::from_unix_seconds(date.midnight().assume_utc().unix_timestamp())
        })
    }

    /// The second this is in, as `time` has it.
    fn date_time(self) -> OffsetDateTime {
        // In range by construction: the constructors refuse what `time` cannot hold.
        OffsetDateTime::from_unix_timestamp(self.as_unix_seconds()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// The moment `duration` later; the last one there is where that would be past it.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self {
            micros: self.micros.saturating_add(micros).min(LAST),
        }
    }

    /// How long `earlier` was before this; zero where the clock went back between them.
    #[must_use]
    pub fn saturating_since(self, earlier: Self) -> Duration {
        let micros = self.micros.saturating_sub(earlier.micros);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    /// The 27 ASCII bytes of the log's form.
    #[must_use]
    pub fn to_ascii(self) -> [u8; 27] {
        let mut out = *b"0000-00-00T00:00:00.000000Z";
        let fraction = self.micros.rem_euclid(MICROS_PER_SECOND);
        let at = self.date_time();
        let (year, month, day) = at.to_calendar_date();
        let (hour, minute, second) = at.time().as_hms();
        let fields = [
            (0, 4, u32::try_from(year).unwrap_or(0)),
            (5, 2, u32::from(u8::from(month))),
            (8, 2, u32::from(day)),
            (11, 2, u32::from(hour)),
            (14, 2, u32::from(minute)),
            (17, 2, u32::from(second)),
            (20, 6, u32::try_from(fraction).unwrap_or(0)),
        ];
        for (start, len, mut value) in fields {
            for slot in out.iter_mut().skip(start).take(len).rev() {
                *slot = b"0123456789"
                    .get(usize::try_from(value % 10).unwrap_or(0))
                    .copied()
                    .unwrap_or(b'0');
                value /= 10;
            }
        }
        out
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ascii = self.to_ascii();
        f.pad(std::str::from_utf8(&ascii).unwrap_or_default())
    }
}

/// Reads RFC 3339, with any offset. What is finer than a microsecond is cut off.
impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let at = OffsetDateTime::parse(text, &Rfc3339)
            .map_err(|_| TimestampError)?
            .to_offset(UtcOffset::UTC);
        let micros = at.unix_timestamp_nanos().div_euclid(1000);
        i64::try_from(micros)
            .map_err(|_| TimestampError)
            .and_then(Self::from_unix_micros)
    }
}

/// Where the time comes from. Handed in, so that a test decides what time it is.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The moment it is now.
    fn now(&self) -> Timestamp;
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the system's clock"
    )]
    fn now(&self) -> Timestamp {
        let micros = match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(LAST),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(FIRST, i64::saturating_neg),
        };
        Timestamp {
            micros: micros.clamp(FIRST, LAST),
        }
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, clippy::string_slice, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn other_offsets_are_the_same_instant() {
        let utc: Timestamp = "2026-05-16T12:00:00Z".parse().unwrap();
        assert_eq!("2026-05-16T14:00:00+02:00".parse(), Ok(utc));
        assert_eq!(utc.to_string(), "2026-05-16T12:00:00.000000Z");
        assert!("2026-05-16".parse::<Timestamp>().is_err());
        assert!(Timestamp::from_unix_micros(i64::MAX).is_err());
    }

    #[test]
    fn a_sum_past_the_last_moment_is_the_last_moment() {
        assert_eq!(Timestamp::EPOCH.saturating_add(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-31T23:59:59.999999Z");
        assert_eq!(Timestamp::MIN.to_string(), "0000-01-01T00:00:00.000000Z");
        assert_eq!(Timestamp::from_months(-1), Timestamp::MIN);
        assert_eq!(Timestamp::from_months(i64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::from_unix_seconds(i64::MIN), Timestamp::MIN);
    }

    proptest! {
        #[test]
        fn a_month_begins_at_its_first_midnight(micros in FIRST..=LAST) {
            let at = Timestamp::from_unix_micros(micros).unwrap();
            let start = Timestamp::from_months(at.months());
            let next = Timestamp::from_months(at.months() + 1);
            prop_assert!(start <= at && (at < next || next == Timestamp::MAX));
            prop_assert_eq!(start.months(), at.months());
            prop_assert_eq!(&start.to_string()[..7], &at.to_string()[..7]);
            prop_assert_eq!(&start.to_string()[7..], "-01T00:00:00.000000Z");
        }

        #[test]
        fn every_moment_survives_its_text(micros in FIRST..=LAST) {
            let at = Timestamp::from_unix_micros(micros).unwrap();
            prop_assert_eq!(at.to_string().parse(), Ok(at));
        }
    }
}
