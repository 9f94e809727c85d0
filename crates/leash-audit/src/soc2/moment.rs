//! Moments as logs have them, read fast: [`Day`]. Knows no events.

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
