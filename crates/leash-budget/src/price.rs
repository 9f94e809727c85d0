//! What tokens cost: [`Price`], [`ModelPrice`]. Integers only; knows no model's name.

use leash_core::{Usage, Usd};

/// Dollars per million units, kept as nano-dollars per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price(Usd);

/// A cost or a price that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PriceError {
    /// Above [`Usd::MAX`]; a cost is never cut down to fit.
    #[error("the cost is above the largest amount of 9007199.25 USD")]
    TooLarge,
}

const MILLION: u128 = 1_000_000;

impl Price {
    /// Nothing.
    pub const FREE: Self = Self(Usd::ZERO);

    /// `dollars` for a million units.
    #[must_use]
    pub const fn per_million(dollars: Usd) -> Self {
        Self(dollars)
    }

    /// What a million units cost.
    #[must_use]
    pub const fn as_per_million(self) -> Usd {
        self.0
    }

    /// Exact cost of `units`, in millionths of a nano-dollar. Fits: 2⁶⁴ × 2⁵³ < 2¹²⁸.
    fn micro_nanos(self, units: u64) -> u128 {
        u128::from(units).saturating_mul(u128::from(self.0.as_nanos()))
    }
}

/// What `units` cost at `price`, rounded up, so never below the exact cost.
///
/// # Errors
/// [`PriceError::TooLarge`] beyond [`Usd::MAX`]; a cost is never cut down to fit.
///
/// # Source
/// Prices are per million tokens: command-r7b, 0.0375 USD (genai-prices, cohere).
///
/// ```
/// # use leash_budget::{Price, cost};
/// # use leash_core::Usd;
/// let price = Price::per_million(Usd::from_nanos(37_500_000)?);
/// assert_eq!(cost(3, price)?, Usd::from_nanos(113)?); // 112.5, rounded up
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn cost(units: u64, price: Price) -> Result<Usd, PriceError> {
    round_up(price.micro_nanos(units))
}

fn round_up(micro_nanos: u128) -> Result<Usd, PriceError> {
    Usd::from_nanos_u128(micro_nanos.div_ceil(MILLION)).map_err(|_| PriceError::TooLarge)
}

/// The prices that hold when more than so many input tokens go in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriceTier {
    /// Input tokens of all kinds, cached ones included, above which the tier holds for the whole call.
    pub above_input_tokens: u64,
    /// Input that is neither read from nor written to a cache.
    pub input: Price,
    /// Output, reasoning included.
    pub output: Price,
    /// Input read from the cache.
    pub cache_read: Price,
    /// Input written to the cache for five minutes.
    pub cache_write: Price,
    /// Input written to the cache for an hour.
    pub cache_write_1h: Price,
}

/// What a model costs, and how much it takes and gives at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPrice {
    /// The prices of any call: a tier above 0 tokens.
    pub base: PriceTier,
    /// Dearer prices for long inputs, ascending by `above_input_tokens`.
    pub tiers: Vec<PriceTier>,
    /// A search on the web that the provider runs for the model.
    pub web_search: Usd,
    /// The most input tokens the model takes, where known.
    pub context_window: Option<u64>,
    /// The most output tokens the model gives, where known.
    pub max_output_tokens: Option<u64>,
}

impl ModelPrice {
    /// A model with one price for input, cached or not, and one for output.
    #[must_use]
    pub const fn flat(input: Price, output: Price) -> Self {
        Self {
            base: PriceTier {
                above_input_tokens: 0,
                input,
                output,
                cache_read: input,
                cache_write: input,
                cache_write_1h: input,
            },
            tiers: Vec::new(),
            web_search: Usd::ZERO,
            context_window: None,
            max_output_tokens: None,
        }
    }

    /// The prices for a call with so many input tokens.
    fn tier(&self, input_tokens: u64) -> &PriceTier {
        self.tiers
            .iter()
            .rev()
            .find(|tier| input_tokens > tier.above_input_tokens)
            .unwrap_or(&self.base)
    }

    /// What a call that used `usage` costs, rounded up once.
    ///
    /// # Errors
    /// [`PriceError::TooLarge`] beyond [`Usd::MAX`].
    pub fn cost(&self, usage: &Usage) -> Result<Usd, PriceError> {
        let tier = self.tier(usage.total_input_tokens());
        let parts = [
            tier.input.micro_nanos(usage.input_tokens),
            tier.output.micro_nanos(usage.output_tokens),
            tier.cache_read.micro_nanos(usage.cache_read_tokens),
            tier.cache_write.micro_nanos(usage.cache_write_tokens),
            tier.cache_write_1h.micro_nanos(usage.cache_write_1h_tokens),
        ];
        let tokens = parts
            .into_iter()
            .try_fold(0_u128, u128::checked_add)
            .ok_or(PriceError::TooLarge)?;
        let searches = u128::from(self.web_search.as_nanos())
            .checked_mul(u128::from(usage.web_search_requests))
            .and_then(|nanos| nanos.checked_mul(MILLION))
            .ok_or(PriceError::TooLarge)?;
        round_up(tokens.checked_add(searches).ok_or(PriceError::TooLarge)?)
    }

    /// What `input_tokens` of any kind, `output_tokens` and `searches` cost at the dearest, rounded up.
    ///
    /// # Errors
    /// [`PriceError::TooLarge`] beyond [`Usd::MAX`].
    pub fn dearest(
        &self,
        input_tokens: u64,
        output_tokens: u64,
        searches: u64,
        writes_cache: bool,
    ) -> Result<Usd, PriceError> {
        let applicable = self
            .tiers
            .iter()
            .filter(|tier| input_tokens > tier.above_input_tokens);
        let tiers = || std::iter::once(&self.base).chain(applicable.clone());
        let input = tiers()
            .map(|tier| {
                let read = tier.input.max(tier.cache_read);
                if writes_cache {
                    read.max(tier.cache_write).max(tier.cache_write_1h)
                } else {
                    read
                }
            })
            .max()
            .unwrap_or_default();
        let output = tiers().map(|tier| tier.output).max().unwrap_or_default();
        let searches = u128::from(self.web_search.as_nanos())
            .checked_mul(u128::from(searches))
            .and_then(|nanos| nanos.checked_mul(MILLION))
            .ok_or(PriceError::TooLarge)?;
        input
            .micro_nanos(input_tokens)
            .checked_add(output.micro_nanos(output_tokens))
            .and_then(|tokens| tokens.checked_add(searches))
            .ok_or(PriceError::TooLarge)
            .and_then(round_up)
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usd(nanos: u64) -> Usd {
        Usd::from_nanos(nanos).unwrap()
    }

    fn price() -> impl Strategy<Value = Price> {
        (0..=Usd::MAX.as_nanos() >> 20).prop_map(|nanos| Price::per_million(usd(nanos)))
    }

    fn model() -> impl Strategy<Value = ModelPrice> {
        (price(), price(), price(), price(), price(), 1..1_000_000_u64).prop_map(|(a, b, c, d, e, above)| {
            let base = PriceTier {
                above_input_tokens: 0,
                input: a,
                output: b,
                cache_read: c,
                cache_write: d,
                cache_write_1h: e,
            };
            let twice = |price: Price| Price::per_million(usd(price.as_per_million().as_nanos() * 2));
            let tier = PriceTier {
                above_input_tokens: above,
                input: twice(a),
                output: twice(b),
                cache_read: twice(c),
                cache_write: twice(d),
                cache_write_1h: twice(e),
            };
            ModelPrice {
                base,
                tiers: vec![tier],
                ..ModelPrice::flat(a, b)
            }
        })
    }

    fn usage() -> impl Strategy<Value = Usage> {
        let n = || prop_oneof![0..2_000_u64, 0..4_000_000_u64, any::<u64>()];
        (n(), n(), n(), n(), n(), 0..5_u64).prop_map(|(a, b, c, d, e, f)| Usage {
            input_tokens: a,
            output_tokens: b,
            cache_read_tokens: c,
            cache_write_tokens: d,
            cache_write_1h_tokens: e,
            reasoning_tokens: 0,
            web_search_requests: f,
        })
    }

    proptest! {
        #[test]
        fn a_cost_is_the_exact_one_rounded_up_once(tokens: u64, nanos in 0..=Usd::MAX.as_nanos()) {
            let exact = u128::from(tokens) * u128::from(nanos);
            match cost(tokens, Price::per_million(usd(nanos))) {
                Ok(cost) => {
                    let micro = u128::from(cost.as_nanos()) * MILLION;
                    prop_assert!(micro >= exact && micro - exact < MILLION);
                }
                Err(PriceError::TooLarge) => prop_assert!(exact.div_ceil(MILLION) > u128::from(Usd::MAX.as_nanos())),
            }
        }

        #[test]
        fn no_usage_costs_more_than_the_dearest_of_its_sums(model in model(), usage in usage()) {
            let output = usage.output_tokens;
            let dearest = model.dearest(usage.total_input_tokens(), output, usage.web_search_requests, true);
            match (model.cost(&usage), dearest) {
                (Ok(cost), Ok(dearest)) => prop_assert!(cost <= dearest),
                (Err(_), Ok(dearest)) => prop_assert!(false, "cost overflows, {dearest} does not"),
                (_, Err(_)) => {}
            }
        }

        #[test]
        fn more_tokens_never_cost_less(model in model(), usage in usage(), more in 0..1_000_000_u64) {
            let larger = Usage { input_tokens: usage.input_tokens.saturating_add(more), ..usage };
            if let (Ok(cost), Ok(larger)) = (model.cost(&usage), model.cost(&larger)) {
                prop_assert!(cost <= larger);
            }
        }
    }
}
