//! Which model has which price: [`PriceTable`]. Embedded list prices, and those that the user adds.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use leash_core::Usd;
use serde::Deserialize;

use crate::{ModelPrice, Price, PriceTier};

const EMBEDDED: &str = include_str!("../data/prices.json");

/// Prices by provider and model, with a version that enters the log.
///
/// A model is found under its exact name, without a provider's prefix (`openai/gpt-4o`), and without the date or
/// the `-latest` at its end where the table has no entry for the dated name. A model that is not found has no
/// price, and its calls are refused until it is given one.
///
/// ```
/// use leash_budget::{ModelPrice, Price, PriceTable};
///
/// let table = PriceTable::embedded()
///     .with_price("acme", "tiny", ModelPrice::flat(Price::per_million("0.10".parse()?), Price::per_million("0.40".parse()?)));
/// assert!(table.price("openai", "gpt-4o-mini-2024-07-18").is_some());
/// assert!(table.price("acme", "tiny").is_some());
/// assert!(table.price("acme", "huge").is_none());
/// # Ok::<(), leash_core::UsdError>(())
/// ```
#[derive(Clone, Debug)]
pub struct PriceTable {
    version: Arc<str>,
    models: Arc<HashMap<Box<str>, Models>>,
    /// For models of a provider without an entry; by provider, `*` for every provider.
    ceilings: HashMap<Box<str>, Arc<ModelPrice>>,
}

/// The models of one provider, by name.
type Models = HashMap<Box<str>, Arc<ModelPrice>>;

/// A price file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("failed to read the price table: {message}")]
pub struct PriceTableError {
    message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: String,
    #[serde(rename = "unit")]
    _unit: Option<String>,
    #[serde(rename = "source")]
    _source: Option<String>,
    #[serde(default)]
    web_search: HashMap<String, u64>,
    models: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    provider: Box<str>,
    model: Box<str>,
    context_window: Option<u64>,
    max_output_tokens: Option<u64>,
    input: u64,
    output: u64,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    cache_write_1h: Option<u64>,
    #[serde(default)]
    tiers: Vec<TierEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TierEntry {
    above_input_tokens: u64,
    input: u64,
    output: u64,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    cache_write_1h: Option<u64>,
}

impl TierEntry {
    /// What is not listed costs what it costs as plain input.
    fn tier(&self) -> Result<PriceTier, leash_core::UsdError> {
        let price = |nanos| Usd::from_nanos(nanos).map(Price::per_million);
        let write = self.cache_write.unwrap_or(self.input);
        Ok(PriceTier {
            above_input_tokens: self.above_input_tokens,
            input: price(self.input)?,
            output: price(self.output)?,
            cache_read: price(self.cache_read.unwrap_or(self.input))?,
            cache_write: price(write)?,
            cache_write_1h: price(self.cache_write_1h.unwrap_or(write))?,
        })
    }
}

static TABLE: LazyLock<PriceTable> =
    LazyLock::new(|| PriceTable::from_json(EMBEDDED).unwrap_or_else(|_| PriceTable::empty()));

impl PriceTable {
    /// The list prices that this version was built with.
    #[must_use]
    pub fn embedded() -> Self {
        TABLE.clone()
    }

    /// No prices at all.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            version: "none".into(),
            models: Arc::default(),
            ceilings: HashMap::new(),
        }
    }

    /// Reads a table in the format of the embedded one.
    ///
    /// # Errors
    /// [`PriceTableError`] where the text is not such a table, with the place.
    pub fn from_json(text: &str) -> Result<Self, PriceTableError> {
        let file: File = serde_json::from_str(text).map_err(|error| PriceTableError {
            message: error.to_string(),
        })?;
        let mut models: HashMap<Box<str>, Models> = HashMap::new();
        for entry in file.models {
            let place = |error: leash_core::UsdError| PriceTableError {
                message: format!("`{}/{}`: {error}", entry.provider, entry.model),
            };
            let base = TierEntry {
                above_input_tokens: 0,
                input: entry.input,
                output: entry.output,
                cache_read: entry.cache_read,
                cache_write: entry.cache_write,
                cache_write_1h: entry.cache_write_1h,
            };
            let mut tiers = entry
                .tiers
                .iter()
                .map(TierEntry::tier)
                .collect::<Result<Vec<_>, _>>()
                .map_err(place)?;
            tiers.sort_by_key(|tier| tier.above_input_tokens);
            let search = file.web_search.get(entry.provider.as_ref()).copied().unwrap_or(0);
            let price = ModelPrice {
                base: base.tier().map_err(place)?,
                tiers,
                web_search: Usd::from_nanos(search).map_err(place)?,
                context_window: entry.context_window,
                max_output_tokens: entry.max_output_tokens,
            };
            models
                .entry(entry.provider)
                .or_default()
                .insert(entry.model, Arc::new(price));
        }
        Ok(Self {
            version: file.version.into(),
            models: Arc::new(models),
            ceilings: HashMap::new(),
        })
    }

    /// Adds a price, or replaces the one there is.
    #[must_use]
    pub fn with_price(mut self, provider: &str, model: &str, price: ModelPrice) -> Self {
        let models = Arc::make_mut(&mut self.models);
        models
            .entry(provider.into())
            .or_default()
            .insert(model.into(), Arc::new(price));
        self.custom()
    }

    /// A ceiling for every model of `provider` that has no price (`*`: of every provider): such a call is charged
    /// at the ceiling.
    #[must_use]
    pub fn with_ceiling(mut self, provider: &str, price: ModelPrice) -> Self {
        self.ceilings.insert(provider.into(), Arc::new(price));
        self.custom()
    }

    fn custom(mut self) -> Self {
        if !self.version.ends_with("+custom") {
            self.version = format!("{}+custom", self.version).into();
        }
        self
    }

    /// The version, as the log's `price_version`.
    #[must_use]
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// The price of `model` at `provider`, where there is one.
    #[must_use]
    pub fn price(&self, provider: &str, model: &str) -> Option<&Arc<ModelPrice>> {
        self.models
            .get(provider)
            .and_then(|models| {
                models.get(model).or_else(|| {
                    let bare = model.rsplit_once('/').map_or(model, |(prefix, bare)| {
                        if prefix.eq_ignore_ascii_case(provider) {
                            bare
                        } else {
                            model
                        }
                    });
                    models.get(bare).or_else(|| models.get(undated(bare)?))
                })
            })
            .or_else(|| self.ceilings.get(provider))
            .or_else(|| self.ceilings.get("*"))
    }
}

/// The name without `-latest`, `-20251001` or `-2025-10-01` at its end; `None` where it has none.
fn undated(model: &str) -> Option<&str> {
    if let Some(bare) = model.strip_suffix("-latest") {
        return Some(bare);
    }
    let digits = |text: &str, len| text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit());
    let (rest, last) = model.rsplit_once('-')?;
    if digits(last, 8) {
        return Some(rest);
    }
    let (rest, month) = rest.rsplit_once('-')?;
    let (rest, year) = rest.rsplit_once('-')?;
    (digits(last, 2) && digits(month, 2) && digits(year, 4)).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_table_reads_and_every_model_of_it_is_found() {
        let table = PriceTable::from_json(EMBEDDED).unwrap();
        let count: usize = table.models.values().map(HashMap::len).sum();
        assert!(count > 90, "{count}");
        for (provider, models) in table.models.iter() {
            for model in models.keys() {
                assert!(table.price(provider, model).is_some());
                let price = table.price(provider, &format!("{provider}/{model}")).unwrap();
                assert!(!price.base.output.as_per_million().is_zero());
            }
        }
    }

    #[test]
    fn dated_and_prefixed_names_are_found_and_others_are_not() {
        let table = PriceTable::embedded();
        let haiku = table.price("anthropic", "claude-haiku-4-5").unwrap();
        assert_eq!(table.price("anthropic", "claude-haiku-4-5-20990101"), Some(haiku));
        assert_eq!(table.price("anthropic", "claude-haiku-4-5-latest"), Some(haiku));
        assert_eq!(
            table.price("anthropic", "anthropic/claude-haiku-4-5"),
            Some(haiku)
        );
        for unknown in [
            "claude-haiku-4",
            "claude-haiku-4-5-x",
            "evil/claude-haiku-4-5",
            "",
            "-latest",
            "-",
            "2025-10-01",
        ] {
            assert_eq!(table.price("anthropic", unknown), None, "{unknown}");
        }
        assert_eq!(table.price("openai", "claude-haiku-4-5"), None);
    }

    #[test]
    fn a_ceiling_stands_in_for_a_missing_price_and_the_version_says_so() {
        let ceiling = ModelPrice::flat(Price::per_million(Usd::MAX), Price::per_million(Usd::MAX));
        let table = PriceTable::embedded().with_ceiling("*", ceiling.clone());
        assert_eq!(table.price("acme", "anything").map(Arc::as_ref), Some(&ceiling));
        assert_ne!(table.price("openai", "gpt-4o").map(Arc::as_ref), Some(&ceiling));
        assert!(table.version().ends_with("+custom"));
    }

    #[test]
    fn a_broken_table_is_refused_with_its_place() {
        let text = r#"{"version": "1", "models": [{"provider": "p", "model": "m", "input": 9007199254740992, "output": 1}]}"#;
        assert!(
            PriceTable::from_json(text)
                .unwrap_err()
                .to_string()
                .contains("`p/m`")
        );
        assert!(PriceTable::from_json(r#"{"version": "1", "models": [{"input": -1}]}"#).is_err());
    }
}
