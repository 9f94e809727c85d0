//! The price file: the embedded table and those of users, as they are written. Knows no look-up.

use std::collections::BTreeMap;

use leash_core::{ServiceTier, Timestamp, Usd};
use serde::Deserialize;

use crate::rule::Rule;
use crate::{ModelPrice, Price, PriceTier, Rates, Tariff};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    #[serde(default)]
    pub(crate) version: Option<String>,
    #[serde(default)]
    pub(crate) as_of: Option<String>,
    #[serde(rename = "unit", default)]
    _unit: Option<String>,
    #[serde(default)]
    pub(crate) providers: Vec<ProviderEntry>,
    #[serde(default)]
    pub(crate) models: Vec<ModelEntry>,
    #[serde(default)]
    pub(crate) ceilings: Vec<CeilingEntry>,
    #[serde(default)]
    pub(crate) deployments: Vec<DeploymentEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProviderEntry {
    pub(crate) id: String,
    /// Other names of the provider.
    #[serde(rename = "match", default)]
    pub(crate) names: Vec<Rule>,
    /// Names of models that are its own, where nobody says whose.
    #[serde(default)]
    pub(crate) models: Vec<Rule>,
    /// Providers whose models it serves at their price.
    #[serde(default)]
    pub(crate) fallback: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelEntry {
    pub(crate) provider: String,
    pub(crate) model: String,
    #[serde(rename = "match", default)]
    pub(crate) names: Vec<Rule>,
    #[serde(rename = "source", default)]
    _source: Option<String>,
    #[serde(default)]
    context_window: Option<u64>,
    #[serde(default)]
    max_output_tokens: Option<u64>,
    #[serde(default)]
    regional_percent: u8,
    prices: Vec<PricesEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CeilingEntry {
    /// `*` is every provider.
    pub(crate) provider: String,
    #[serde(default)]
    pub(crate) model: Option<String>,
    #[serde(default)]
    context_window: Option<u64>,
    #[serde(default)]
    max_output_tokens: Option<u64>,
    input: Amount,
    output: Amount,
    #[serde(default)]
    request: Option<Amount>,
    #[serde(default)]
    web_search: Option<Amount>,
    #[serde(default)]
    file_search: Option<Amount>,
    #[serde(default)]
    code_execution: Option<Amount>,
    #[serde(default)]
    other_tool: Option<Amount>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeploymentEntry {
    pub(crate) provider: String,
    pub(crate) name: String,
    /// `provider/model`.
    pub(crate) is: String,
}

/// Prices from a day on, or within hours of each day; of a service tier; or of a tier of input.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PricesEntry {
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    daily: Option<(String, String)>,
    #[serde(default)]
    above_input_tokens: Option<u64>,
    #[serde(default)]
    input: Option<Amount>,
    #[serde(default)]
    output: Option<Amount>,
    #[serde(default)]
    reasoning: Option<Amount>,
    #[serde(default)]
    cache_read: Option<Amount>,
    #[serde(default)]
    cache_write: Option<Amount>,
    #[serde(default)]
    cache_write_1h: Option<Amount>,
    #[serde(default)]
    input_audio: Option<Amount>,
    #[serde(default)]
    input_image: Option<Amount>,
    #[serde(default)]
    cache_read_audio: Option<Amount>,
    #[serde(default)]
    cache_read_image: Option<Amount>,
    #[serde(default)]
    output_audio: Option<Amount>,
    #[serde(default)]
    output_image: Option<Amount>,
    #[serde(default)]
    request: Option<Amount>,
    #[serde(default)]
    web_search: Option<Amount>,
    #[serde(default)]
    file_search: Option<Amount>,
    #[serde(default)]
    code_execution: Option<Amount>,
    #[serde(default)]
    other_tool: Option<Amount>,
    #[serde(default)]
    tiers: Vec<PricesEntry>,
    #[serde(default)]
    unmetered: BTreeMap<String, Amount>,
    #[serde(default)]
    service_tiers: BTreeMap<String, PricesEntry>,
}

/// An amount for a million units: whole nano-dollars, or dollars as text.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "WrittenAmount")]
struct Amount(Price);

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "an amount is a text in dollars, like `\"12.50\"`, or a whole number of nano-dollars"
)]
enum WrittenAmount {
    Nanos(u64),
    Dollars(String),
}

impl TryFrom<WrittenAmount> for Amount {
    type Error = leash_core::UsdError;

    fn try_from(written: WrittenAmount) -> Result<Self, Self::Error> {
        let usd = match written {
            WrittenAmount::Nanos(nanos) => Usd::from_nanos(nanos),
            WrittenAmount::Dollars(dollars) => dollars.parse(),
        };
        usd.map(Price::per_million).map(Self)
    }
}

/// When prices hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct When {
    pub(crate) from: Option<Timestamp>,
    /// Minutes of the day in UTC, the second one not included; past midnight where it is the smaller.
    pub(crate) daily: Option<(u16, u16)>,
}

impl When {
    pub(crate) fn holds(self, at: Timestamp) -> bool {
        let has_begun = self.from.is_none_or(|from| at >= from);
        let is_in_hours = self.daily.is_none_or(|(start, end)| {
            let minute = minute_of_day(at);
            if end < start {
                minute >= start || minute < end
            } else {
                (start..end).contains(&minute)
            }
        });
        has_begun && is_in_hours
    }
}

impl When {
    /// The moments after `at` up to `until` at which it begins or ceases to hold. `until` is less than a day away.
    pub(crate) fn turns(self, at: Timestamp, until: Timestamp) -> impl Iterator<Item = Timestamp> {
        let (start, end) = (at.as_unix_micros(), until.as_unix_micros());
        let daily = self.daily.into_iter().flat_map(|(from, to)| [from, to]);
        let moments = daily.map(move |minute| {
            let within = i64::from(minute).saturating_mul(MICROS_PER_MINUTE);
            let day = MICROS_PER_MINUTE.saturating_mul(MINUTES_PER_DAY);
            let midnight = start.saturating_sub(start.rem_euclid(day));
            let today = midnight.saturating_add(within);
            if today > start {
                today
            } else {
                today.saturating_add(day)
            }
        });
        self.from
            .map(Timestamp::as_unix_micros)
            .into_iter()
            .chain(moments)
            .filter(move |moment| (start..=end).contains(moment))
            .filter_map(|micros| Timestamp::from_unix_micros(micros).ok())
    }
}

const MICROS_PER_MINUTE: i64 = 60_000_000;
const MINUTES_PER_DAY: i64 = 24 * 60;

fn minute_of_day(at: Timestamp) -> u16 {
    let minute = at
        .as_unix_micros()
        .div_euclid(MICROS_PER_MINUTE)
        .rem_euclid(MINUTES_PER_DAY);
    u16::try_from(minute).unwrap_or(0)
}

/// The day's first moment, or the moment that `text` is.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    format!("{text}T00:00:00Z")
        .parse()
        .or_else(|_| text.parse())
        .map_err(|_| "a day is written like `2026-05-16`".to_owned())
}

fn minute(text: &str) -> Result<u16, String> {
    let wrong = || "an hour is written like `16:30`".to_owned();
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str, below: u16| text.parse().ok().filter(|number: &u16| *number < below);
    let (hour, minute) = number(hour, 24).zip(number(minute, 60)).ok_or_else(wrong)?;
    Ok(hour.saturating_mul(60).saturating_add(minute))
}

impl PricesEntry {
    fn rates(&self) -> Rates {
        let price = |amount: Option<Amount>| amount.map(|amount| amount.0);
        Rates {
            input: price(self.input),
            output: price(self.output),
            reasoning: price(self.reasoning),
            cache_read: price(self.cache_read),
            cache_write: price(self.cache_write),
            cache_write_1h: price(self.cache_write_1h),
            input_audio: price(self.input_audio),
            input_image: price(self.input_image),
            cache_read_audio: price(self.cache_read_audio),
            cache_read_image: price(self.cache_read_image),
            output_audio: price(self.output_audio),
            output_image: price(self.output_image),
            request: price(self.request),
            web_search: price(self.web_search),
            file_search: price(self.file_search),
            code_execution: price(self.code_execution),
            other_tool: price(self.other_tool),
        }
    }

    /// What a tier does not list costs what it costs below it.
    fn tariff(&self) -> Result<Tariff, String> {
        let base = self.rates();
        let mut tiers = Vec::with_capacity(self.tiers.len());
        for tier in &self.tiers {
            if !tier.is_plain() {
                return Err("a tier of input has prices and nothing else".to_owned());
            }
            tiers.push(PriceTier {
                above_input_tokens: tier
                    .above_input_tokens
                    .ok_or("a tier of input needs `above_input_tokens`")?,
                rates: tier.rates().over(base),
            });
        }
        Ok(Tariff::new(base, tiers))
    }

    fn is_plain(&self) -> bool {
        self.from.is_none()
            && self.daily.is_none()
            && self.tiers.is_empty()
            && self.unmetered.is_empty()
            && self.service_tiers.is_empty()
    }

    fn when(&self) -> Result<When, String> {
        Ok(When {
            from: self.from.as_deref().map(moment).transpose()?,
            daily: match &self.daily {
                Some((start, end)) => Some((minute(start)?, minute(end)?)),
                None => None,
            },
        })
    }
}

impl ModelEntry {
    /// The model's prices, each with when it holds; of several that hold the last counts.
    pub(crate) fn prices(&self) -> Result<Vec<(When, ModelPrice)>, String> {
        if self.prices.is_empty() {
            return Err("a model needs a price".to_owned());
        }
        self.prices
            .iter()
            .map(|entry| {
                if entry.above_input_tokens.is_some() {
                    return Err("`above_input_tokens` belongs into `tiers`".to_owned());
                }
                let mut service_tiers = Vec::with_capacity(entry.service_tiers.len());
                let mut is_metered = entry.unmetered.is_empty();
                for (name, prices) in &entry.service_tiers {
                    let tier = match ServiceTier::from_word(name) {
                        ServiceTier::Unsaid | ServiceTier::Standard | ServiceTier::Other => {
                            return Err(format!("there is no service tier `{name}`"));
                        }
                        tier => tier,
                    };
                    is_metered = is_metered && prices.unmetered.is_empty();
                    service_tiers.push((tier, prices.tariff()?));
                }
                let price = ModelPrice {
                    standard: entry.tariff()?,
                    service_tiers,
                    context_window: self.context_window,
                    max_output_tokens: self.max_output_tokens,
                    is_metered,
                    regional_percent: self.regional_percent,
                    advisor: None,
                };
                Ok((entry.when()?, price))
            })
            .collect()
    }
}

impl CeilingEntry {
    pub(crate) fn price(&self) -> ModelPrice {
        let price = |amount: Option<Amount>| amount.map(|amount| amount.0);
        ModelPrice {
            context_window: self.context_window,
            max_output_tokens: self.max_output_tokens,
            ..ModelPrice::new(Rates {
                input: Some(self.input.0),
                output: Some(self.output.0),
                request: price(self.request),
                web_search: price(self.web_search),
                file_search: price(self.file_search),
                code_execution: price(self.code_execution),
                other_tool: price(self.other_tool),
                ..Rates::default()
            })
        }
    }
}
