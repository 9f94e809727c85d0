//! Moments as logs have them, read fast: [`Day`], and written fast: [`Stamp`]. Knows no events.

use leash_core::Timestamp;

/// A moment as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Since 1970.
    pub(super) micros: i64,
    /// Whether its text is the log's own form, so that it can be written again.
    pub(super) plain: bool,
}

/// The last day that was read, as lines of a log have the same one most of the time.
#[derive(Debug, Default)]
pub(super) struct Day {
    text: [u8; 10],
    micros: i64,
}

impl Day {
    /// Reads a moment: the log's own form fast, any other of RFC 3339 too.
    pub(super) fn read(&mut self, text: &str) -> Option<Moment> {
        self.quick(text.as_bytes()).or_else(|| {
            let at: Timestamp = text.parse().ok()?;
            let plain = at.to_ascii() == text.as_bytes();
            Some(Moment {
                micros: at.as_unix_micros(),
                plain,
            })
        })
    }

    fn quick(&mut self, text: &[u8]) -> Option<Moment> {
        let (date, rest) = text.split_first_chunk::<10>()?;
        let [b'T', h1, h2, b':', m1, m2, b':', s1, s2, fraction @ .., b'Z'] = rest else {
            return None;
        };
        let two = |high: &u8, low: &u8| -> Option<i64> {
            let digit = |byte: &u8| byte.checked_sub(b'0').filter(|digit| *digit < 10);
            digit(high)?
                .checked_mul(10)?
                .checked_add(digit(low)?)
                .map(i64::from)
        };
        let (hours, minutes, seconds) = (two(h1, h2)?, two(m1, m2)?, two(s1, s2)?);
        if hours > 23 || minutes > 59 || seconds > 59 {
            return None;
        }
        let micros = match fraction {
            [] => 0,
            [b'.', f1, f2, f3, f4, f5, f6] => two(f1, f2)?
                .checked_mul(10_000)?
                .checked_add(two(f3, f4)?.checked_mul(100)?)?
                .checked_add(two(f5, f6)?)?,
            _ => return None,
        };
        if *date != self.text {
            let day = std::str::from_utf8(date).ok()?;
            let midnight: Timestamp = format!("{day}T00:00:00Z").parse().ok()?;
            self.text = *date;
            self.micros = midnight.as_unix_micros();
        }
        let seconds = hours
            .checked_mul(3600)?
            .checked_add(minutes.checked_mul(60)?)?
            .checked_add(seconds)?;
        let micros = seconds
            .checked_mul(1_000_000)?
            .checked_add(micros)?
            .checked_add(self.micros)?;
        let plain = !fraction.is_empty();
        Some(Moment { micros, plain })
    }
}

/// Writes moments in the log's own form. Keeps the last day, as they have the same one most of the time.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    day: Option<i64>,
    text: [u8; 27],
}

impl Stamp {
    /// The text of a moment, given in microseconds since 1970.
    pub(super) fn text(&mut self, micros: i64) -> &str {
        const DAY: i64 = 24 * 60 * 60 * 1_000_000;
        let day = micros.div_euclid(DAY);
        if self.day != Some(day) {
            let at = Timestamp::from_unix_micros(micros).unwrap_or(Timestamp::EPOCH);
            self.text = at.to_ascii();
            self.day = Some(day);
        }
        let of_day = micros.rem_euclid(DAY).unsigned_abs();
        let fields = [
            (11, 2, of_day / 3_600_000_000),
            (14, 2, of_day / 60_000_000 % 60),
            (17, 2, of_day / 1_000_000 % 60),
            (20, 6, of_day % 1_000_000),
        ];
        for (start, len, mut value) in fields {
            for digit in self.text.iter_mut().skip(start).take(len).rev() {
                *digit = b'0'.wrapping_add(u8::try_from(value % 10).unwrap_or(0));
                value /= 10;
            }
        }
        std::str::from_utf8(&self.text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_moment_is_written_as_it_is_elsewhere(
            near in -3_i64..3_000_000_000_000, days in proptest::collection::vec(-700_000_i64..2_900_000, 1..4)
        ) {
            let mut stamp = Stamp::default();
            for day in days {
                for micros in [day.saturating_mul(86_400_000_000), near, near.saturating_add(1)] {
                    let Ok(at) = Timestamp::from_unix_micros(micros) else { continue };
                    prop_assert_eq!(stamp.text(micros), at.to_string());
                    let read = Day::default().read(stamp.text(micros)).unwrap();
                    prop_assert!(read.plain && read.micros == micros);
                }
            }
        }
    }
}
