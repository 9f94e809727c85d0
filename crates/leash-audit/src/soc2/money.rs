//! Amounts as logs have them, whoever wrote them: [`Amount`]. Knows no events.

use std::fmt::{self, Write as _};

use leash_core::canonical;

/// A sum of dollars in steps of 10⁻¹⁸ USD.
///
/// Logs of others hold doubles like `0.30000000000000004`, which whole nano-dollars cannot: such a cost is taken in as
/// the decimal number that is written, and sums are exact and do not depend on their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Amount(i128);

/// Digits after the point.
const PLACES: i32 = 18;

/// No single cost is larger than 10¹² USD, so that 10⁸ of them can be summed.
const LARGEST: i128 = 1_000_000_000_000_000_000_000_000_000_000;

impl Amount {
    pub(crate) const ZERO: Self = Self(0);
    /// What no amount is.
    pub(crate) const NEVER: Self = Self(i128::MIN);

    /// Reads a canonical JSON number. What is finer than a step is cut off. `None` where it is no number, or too large
    /// to be an amount of money.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if !digits.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let (mantissa, exponent) = match digits.split_once('e') {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (digits, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut sum: i128 = 0;
        // How many places the digits that are still to come stand left of the smallest step.
        let mut place = i32::try_from(whole.len())
            .ok()?
            .checked_add(exponent)?
            .checked_add(PLACES)?;
        for byte in whole.bytes().chain(fraction.bytes()) {
            let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
            if place > 0 {
                sum = sum.checked_mul(10)?.checked_add(i128::from(digit))?;
                if sum > LARGEST {
                    return None;
                }
            }
            place = place.checked_sub(1)?;
        }
        if place > 0 && sum != 0 {
            sum = sum.checked_mul(10_i128.checked_pow(u32::try_from(place).ok()?)?)?;
        }
        (sum <= LARGEST).then_some(Self(if negative { sum.saturating_neg() } else { sum }))
    }

    pub(crate) const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    pub(crate) const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    pub(crate) const fn is_positive(self) -> bool {
        self.0 > 0
    }

    /// With so many decimals, as a spreadsheet or Python rounds the nearest double.
    pub(crate) fn places(self, places: usize) -> String {
        let mut out = String::new();
        self.push_places(&mut out, places);
        out
    }

    /// Adds what [`Amount::places`] gives.
    pub(crate) fn push_places(self, out: &mut String, places: usize) {
        let Some((whole, mut fraction)) = self.rounded(places) else {
            // Writing to a string does not fail.
            let _ = write!(out, "{:.places$}", self.to_f64());
            return;
        };
        let mut digits = [b'0'; 8];
        let digits = digits.get_mut(..places).unwrap_or_default();
        for digit in digits.iter_mut().rev() {
            *digit = b'0'.wrapping_add(u8::try_from(fraction % 10).unwrap_or(0));
            fraction /= 10;
        }
        canonical::write_u64(out, whole);
        out.push('.');
        out.push_str(std::str::from_utf8(digits).unwrap_or_default());
    }

    /// Dollars, and what comes after the point, where the double nearest to the amount is for certain rounded to the
    /// same decimals as the amount itself: fast, and so for almost all.
    fn rounded(self, places: usize) -> Option<(u64, u64)> {
        // A million USD in steps; doubles below it are nearer to what they stand for than the margin is wide.
        const MOST: u128 = 1_000_000_000_000_000_000_000_000;
        const MARGIN: u128 = 1_000_000_000;
        let places = u32::try_from(places)
            .ok()
            .filter(|places| (1..=8).contains(places))?;
        let steps = u128::try_from(self.0).ok().filter(|steps| *steps < MOST)?;
        let unit = 10_u128.pow(PLACES.unsigned_abs().checked_sub(places)?);
        let (units, rest) = (steps.checked_div(unit)?, steps.checked_rem(unit)?);
        let half = unit / 2;
        if rest.abs_diff(half) <= MARGIN {
            return None;
        }
        let units = u64::try_from(units).ok()?.checked_add(u64::from(rest > half))?;
        let in_one = 10_u64.pow(places);
        Some((units.checked_div(in_one)?, units.checked_rem(in_one)?))
    }

    /// In full, with two decimals at least.
    pub(crate) fn in_full(self) -> String {
        let text = self.to_string();
        let short = text.trim_end_matches('0');
        let places = short.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        format!("{short}{}", "00".get(places.min(2)..).unwrap_or_default())
    }

    /// The double nearest to it, for what is written as a JSON number. Nothing is calculated with it.
    pub(crate) fn to_f64(self) -> f64 {
        self.to_string().parse().unwrap_or(f64::NAN)
    }
}

/// In full.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const STEPS: u128 = 1_000_000_000_000_000_000;
        let sign = if self.0 < 0 { "-" } else { "" };
        let steps = self.0.unsigned_abs();
        let (whole, fraction) = (steps / STEPS, steps % STEPS);
        write!(f, "{sign}{whole}.{fraction:018}")
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, clippy::float_arithmetic, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_read_as_they_are_written() {
        for (text, expected) in [
            ("0", "0.000000000000000000"),
            ("0.0", "0.000000000000000000"),
            ("-0.0", "0.000000000000000000"),
            ("12", "12.000000000000000000"),
            ("1.5e-07", "0.000000150000000000"),
            ("1e-05", "0.000010000000000000"),
            ("0.30000000000000004", "0.300000000000000040"),
            ("5e-324", "0.000000000000000000"),
            ("123456789.123", "123456789.123000000000000000"),
            ("1e+12", "1000000000000.000000000000000000"),
            ("-2.5", "-2.500000000000000000"),
            ("0e-999", "0.000000000000000000"),
        ] {
            assert_eq!(Amount::parse(text).unwrap().to_string(), expected, "{text}");
        }
        for text in [
            "",
            "null",
            "\"1\"",
            "true",
            "1e+13",
            "1000000000001",
            "1.7976931348623157e+308",
            "-",
            "e5",
        ] {
            assert_eq!(Amount::parse(text), None, "{text}");
        }
    }

    #[test]
    fn in_full_there_are_two_decimals_or_more() {
        for (text, expected) in [
            ("0", "0.00"),
            ("-10.5", "-10.50"),
            ("1.234", "1.234"),
            ("100", "100.00"),
        ] {
            assert_eq!(Amount::parse(text).unwrap().in_full(), expected);
        }
    }

    proptest! {
        #[test]
        fn an_amount_of_a_double_is_that_double(cost in 0.0..1e9_f64, places in 0_usize..9) {
            let mut text = String::new();
            leash_core::canonical::write_f64(&mut text, cost);
            let amount = Amount::parse(&text).unwrap();
            // Below a dollar, a double has more digits than there are steps.
            if cost >= 1.0 {
                prop_assert_eq!(amount.to_f64(), cost);
                prop_assert_eq!(amount.places(places), format!("{cost:.places$}"));
            }
            prop_assert!((amount.to_f64() - cost).abs() <= 1e-17);
        }

        #[test]
        fn decimals_are_those_of_the_nearest_double(
            steps in prop_oneof![0..2_000_000_000_000_000_000_000_000_i128, -9_999_999..9_999_999_999_i128],
            round in 0_u32..18, places in 0_usize..12, near in -3_i128..4
        ) {
            // Sums of prices are round numbers, and halves are the hard ones.
            let unit = 10_i128.pow(round);
            let even = steps.div_euclid(unit).saturating_mul(unit);
            for steps in [steps, even.saturating_add(near), even.saturating_add(unit / 2).saturating_add(near)] {
                let amount = Amount(steps);
                prop_assert_eq!(amount.places(places), format!("{:.places$}", amount.to_f64()), "{}", amount);
            }
        }

        #[test]
        fn a_sum_does_not_depend_on_the_order(costs in proptest::collection::vec(-1e6..1e6_f64, 0..20)) {
            let read = |cost: &f64| {
                let mut text = String::new();
                leash_core::canonical::write_f64(&mut text, *cost);
                Amount::parse(&text).unwrap()
            };
            let forth = costs.iter().map(read).fold(Amount::ZERO, Amount::plus);
            let back = costs.iter().rev().map(read).fold(Amount::ZERO, Amount::plus);
            prop_assert_eq!(forth, back);
        }
    }
}
