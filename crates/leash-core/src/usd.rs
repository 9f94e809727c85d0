//! Money: [`Usd`], whole nano-dollars. Knows nothing of prices.

use std::fmt;
use std::str::FromStr;

const NANOS_PER_USD: u64 = 1_000_000_000;

/// An amount of US dollars: a whole number of nano-dollars (10⁻⁹ USD) from 0 to [`Usd::MAX`].
///
/// The range is that of the integers a double represents exactly (2⁵³ − 1 nano-dollars, 9,007,199.25 USD), so
/// an amount passes through Lua, JSON and RFC 8785 unchanged. There are no negative amounts, no `+`, and no
/// silent wrap-around: every operation says when it does not fit.
///
/// ```
/// use leash_core::Usd;
///
/// let cap: Usd = "0.50".parse()?;
/// assert_eq!(cap.as_nanos(), 500_000_000);
/// assert_eq!(cap.to_string(), "0.50");
/// assert!(Usd::from_f64(f64::NAN).is_err());
/// # Ok::<(), leash_core::UsdError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(u64);

/// Why an amount was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsdError {
    /// Not a number, or infinite.
    #[error("an amount of dollars must be a finite number")]
    NotFinite,
    /// Below zero.
    #[error("an amount of dollars must not be negative")]
    Negative,
    /// Above [`Usd::MAX`].
    #[error("an amount of dollars must not be above 9007199.254740991")]
    TooLarge,
    /// Not a decimal number.
    #[error("an amount of dollars is written like `12.50`")]
    Syntax,
    /// Finer than a nano-dollar.
    #[error("an amount of dollars has at most nine decimals")]
    TooFine,
}

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount: 2⁵³ − 1 nano-dollars.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// This many nano-dollars.
    ///
    /// # Errors
    /// [`UsdError::TooLarge`] above [`Usd::MAX`].
    pub const fn from_nanos(nanos: u64) -> Result<Self, UsdError> {
        if nanos > Self::MAX.0 {
            Err(UsdError::TooLarge)
        } else {
            Ok(Self(nanos))
        }
    }

    /// This many nano-dollars out of a 128-bit calculation.
    ///
    /// # Errors
    /// [`UsdError::TooLarge`] above [`Usd::MAX`].
    pub fn from_nanos_u128(nanos: u128) -> Result<Self, UsdError> {
        u64::try_from(nanos)
            .map_err(|_| UsdError::TooLarge)
            .and_then(Self::from_nanos)
    }

    /// This many whole cents.
    ///
    /// # Errors
    /// [`UsdError::TooLarge`] above [`Usd::MAX`].
    pub const fn from_cents(cents: u64) -> Result<Self, UsdError> {
        match cents.checked_mul(NANOS_PER_USD / 100) {
            Some(nanos) => Self::from_nanos(nanos),
            None => Err(UsdError::TooLarge),
        }
    }

    /// The amount nearest to `dollars`. For the edges only: configuration and JSON of others.
    ///
    /// # Errors
    /// [`UsdError`] for NaN, infinities, negative numbers (`-0.0` is zero) and what is too large.
    pub fn from_f64(dollars: f64) -> Result<Self, UsdError> {
        if !dollars.is_finite() {
            return Err(UsdError::NotFinite);
        }
        if dollars < 0.0 {
            return Err(UsdError::Negative);
        }
        // Through the exact decimal text of the double: no float arithmetic, and at most half a nano-dollar off.
        let text = format!("{:.9}", dollars.abs());
        text.parse()
    }

    /// The whole number of nano-dollars.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The double nearest to the amount in dollars, for JSON and people. Never calculate with it: above 4,194,304 USD
    /// doubles are more than a nano-dollar apart.
    #[must_use]
    #[expect(
        clippy::as_conversions,
        clippy::cast_precision_loss,
        clippy::float_arithmetic,
        reason = "both operands are exact (below 2^53), so one correctly rounded division gives the nearest double"
    )]
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / NANOS_PER_USD as f64
    }

    /// The sum, or `None` above [`Usd::MAX`].
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) if sum <= Self::MAX.0 => Some(Self(sum)),
            _ => None,
        }
    }

    /// The difference, or `None` below zero.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(difference) => Some(Self(difference)),
            None => None,
        }
    }

    /// The sum, [`Usd::MAX`] where it does not fit: for totals that may only be read as "at least".
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        match self.checked_add(other) {
            Some(sum) => sum,
            None => Self::MAX,
        }
    }

    /// The difference, zero where it is negative.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Whether this is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// Dollars in decimal, at least two places and no more than needed: `0.50`, `0.000113`.
impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dollars = self.0 / NANOS_PER_USD;
        let mut fraction = self.0 % NANOS_PER_USD;
        let mut places: usize = 9;
        while places > 2 && fraction.is_multiple_of(10) {
            fraction /= 10;
            places = places.saturating_sub(1);
        }
        f.pad(&format!("{dollars}.{fraction:0places$}"))
    }
}

/// Reads plain decimal dollars: `12`, `12.5`, `0.000000001`, with an optional `$` before.
impl FromStr for Usd {
    type Err = UsdError;

    fn from_str(text: &str) -> Result<Self, UsdError> {
        let text = text.strip_prefix('$').unwrap_or(text);
        if text.starts_with('-') {
            return Err(UsdError::Negative);
        }
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return Err(UsdError::Syntax),
            None => (text, ""),
        };
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return Err(UsdError::Syntax);
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > 9 {
            return Err(UsdError::TooFine);
        }
        let dollars: u64 = whole.parse().map_err(|_| UsdError::TooLarge)?;
        let nanos: u64 = format!("{fraction:0<9}").parse().map_err(|_| UsdError::Syntax)?;
        dollars
            .checked_mul(NANOS_PER_USD)
            .and_then(|sum| sum.checked_add(nanos))
            .ok_or(UsdError::TooLarge)
            .and_then(Self::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_amount_is_refused() {
        assert_eq!(Usd::from_f64(f64::NAN), Err(UsdError::NotFinite));
        assert_eq!(Usd::from_f64(f64::INFINITY), Err(UsdError::NotFinite));
        assert_eq!(Usd::from_f64(-0.01), Err(UsdError::Negative));
        assert_eq!(Usd::from_f64(9_007_199.3), Err(UsdError::TooLarge));
        assert_eq!(Usd::from_f64(-0.0), Ok(Usd::ZERO));
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "1e3",
            "+1",
            "1 ",
            "0x1",
            "1.0000000001",
            "-1",
            "NaN",
            "99999999999999999999",
        ] {
            assert!(text.parse::<Usd>().is_err(), "{text:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn an_amount_survives_text_and_double(nanos in 0..=Usd::MAX.as_nanos()) {
            let usd = Usd::from_nanos(nanos).unwrap();
            prop_assert_eq!(usd.to_string().parse::<Usd>(), Ok(usd));
            // Above 2^22 USD neighbouring doubles are more than a nano-dollar apart.
            let back = Usd::from_f64(usd.to_f64()).unwrap();
            let off = back.as_nanos().abs_diff(nanos);
            prop_assert!(off == 0 || (off == 1 && nanos > 4_194_304 * NANOS_PER_USD));
        }

        #[test]
        fn a_sum_is_exact_or_refused(a in 0..=Usd::MAX.as_nanos(), b in 0..=Usd::MAX.as_nanos()) {
            let sum = Usd(a).checked_add(Usd(b));
            let exact = u128::from(a).checked_add(u128::from(b)).unwrap();
            prop_assert_eq!(sum, Usd::from_nanos_u128(exact).ok());
        }
    }
}
