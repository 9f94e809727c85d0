//! Which model has which price: [`PriceTable`]. Embedded list prices, and those that the user adds.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::time::Duration;

use leash_core::Timestamp;

use crate::ModelPrice;
use crate::file::{File, ModelEntry, ProviderEntry, When, moment};
use crate::names::{self, lower};
use crate::rule::Rule;

const EMBEDDED: &str = include_str!("../data/prices.json");

/// Prices by provider and model, with a version that enters the log.
///
/// A model is found by its exact name, by the rules of the table, and by its name without what stands around it: the
/// provider's prefix (`openai/gpt-4o`), an ARN or a region of Bedrock, and the date or the `-latest` at its end. A
/// model that is not found has no price, and its calls are refused until it is given one.
///
/// ```
/// use leash_budget::{ModelPrice, Price, PriceTable};
///
/// let table = PriceTable::embedded()
///     .with_price("acme", "tiny", ModelPrice::flat(Price::per_million("0.10".parse()?), Price::per_million("0.40".parse()?)))
///     .with_deployment("azure", "our-gpt", "openai", "gpt-4o");
/// let at = "2026-11-22T12:00:00Z".parse().unwrap();
/// assert!(table.price_at("openai", "gpt-4o-mini-2024-07-18", at).is_some());
/// assert!(table.price_at("bedrock", "us.anthropic.claude-haiku-4-5-20251001-v1:0", at).is_some());
/// assert!(table.price_at("azure", "our-gpt", at).is_some());
/// assert!(table.price_at("acme", "tiny", at).is_some());
/// assert!(table.price_at("acme", "huge", at).is_none());
/// # Ok::<(), leash_core::UsdError>(())
/// ```
#[derive(Clone)]
pub struct PriceTable {
    version: Arc<str>,
    as_of: Timestamp,
    listed: Arc<Catalog>,
    own: Arc<OwnModels>,
    ceilings: Arc<Ceilings>,
    deployments: Arc<Deployments>,
}

/// By provider and model, in lower case.
type OwnModels = HashMap<Box<str>, HashMap<Box<str>, ListedModel>>;

/// For what has no price; by provider (`*` for every provider) and model (none for every model of it).
type Ceilings = HashMap<(Box<str>, Option<Box<str>>), ListedModel>;

/// A provider and a name at it.
type Reference = (Box<str>, Box<str>);

/// What a name at a provider means.
type Deployments = HashMap<Reference, Reference>;

/// A model of the table, and all prices it ever has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedModel {
    provider: Arc<str>,
    model: Arc<str>,
    /// Never empty.
    prices: Vec<(When, Arc<ModelPrice>)>,
    /// What holds where none of the others does.
    first: Arc<ModelPrice>,
}

impl ListedModel {
    fn new(provider: &str, model: &str, price: ModelPrice) -> Self {
        Self {
            provider: provider.into(),
            model: model.into(),
            prices: Vec::new(),
            first: Arc::new(price),
        }
    }

    fn from_entry(entry: &ModelEntry) -> Result<Self, PriceTableError> {
        let place = |message: String| PriceTableError {
            message: format!("`{}/{}`: {message}", entry.provider, entry.model),
        };
        let prices: Vec<(When, Arc<ModelPrice>)> = entry
            .prices()
            .map_err(place)?
            .into_iter()
            .map(|(when, price)| (when, Arc::new(price)))
            .collect();
        let first = prices
            .first()
            .map(|(_, price)| price.clone())
            .ok_or_else(|| place("a model needs a price".to_owned()))?;
        Ok(Self {
            provider: entry.provider.as_str().into(),
            model: entry.model.as_str().into(),
            prices,
            first,
        })
    }

    /// Who serves it, as the table names them.
    #[must_use]
    pub fn provider(&self) -> &Arc<str> {
        &self.provider
    }

    /// Its name in the table.
    #[must_use]
    pub fn model(&self) -> &Arc<str> {
        &self.model
    }

    /// What it costs at `at`.
    #[must_use]
    pub fn price_at(&self, at: Timestamp) -> &Arc<ModelPrice> {
        let current = self.prices.iter().rev().find(|(when, _)| when.holds(at));
        current.map_or(&self.first, |(_, price)| price)
    }

    /// What bounds a call that begins at `at` and may be billed up to `within` later: its price, or what is dearer than any
    /// of those that hold meanwhile. `within` is less than a day.
    #[must_use]
    pub fn price_within(&self, at: Timestamp, within: Duration) -> Arc<ModelPrice> {
        let mut dearest = self.price_at(at).clone();
        let until = at.saturating_add(within);
        for moment in self.prices.iter().flat_map(|(when, _)| when.turns(at, until)) {
            let then = self.price_at(moment);
            if !Arc::ptr_eq(then, &dearest) {
                dearest = Arc::new(dearest.dearer(then));
            }
        }
        dearest
    }

    /// Its price where it is the same at all times: worth keeping by whoever asks for it again and again.
    #[must_use]
    pub fn constant_price(&self) -> Option<&Arc<ModelPrice>> {
        (self.prices.len() <= 1).then_some(&self.first)
    }
}

/// A price file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("failed to read the price table: {message}")]
pub struct PriceTableError {
    message: String,
}

impl From<serde_json::Error> for PriceTableError {
    fn from(error: serde_json::Error) -> Self {
        Self {
            message: error.to_string(),
        }
    }
}

/// The models of the table, and how names find them.
#[derive(Debug, Default)]
struct Catalog {
    providers: Vec<Provider>,
    by_id: HashMap<Box<str>, usize>,
    remembered: RwLock<Remembered>,
}

/// What was found by rules, by provider and name as they were asked for; [`MAX_REMEMBERED`] at most.
type Remembered = HashMap<Box<str>, HashMap<Box<str>, Place>>;

/// Of a provider in the catalog, and of a model in the provider.
type Place = (usize, usize);

/// How many providers' names, and how many names of each, are remembered; and how long they may be.
const MAX_REMEMBERED: (usize, usize, usize) = (64, 512, 256);

#[derive(Debug)]
struct Provider {
    id: Box<str>,
    names: Vec<Rule>,
    own_models: Vec<Rule>,
    fallback: Vec<Box<str>>,
    models: Vec<ListedModel>,
    /// Names without a rule, in lower case.
    exact: HashMap<Box<str>, usize>,
    /// The other rules in the order in which they are asked.
    rules: Vec<(Rule, usize)>,
}

impl Provider {
    fn new(entry: ProviderEntry) -> Self {
        Self {
            id: entry.id.into(),
            names: entry.names,
            own_models: entry.models,
            fallback: entry.fallback.into_iter().map(Into::into).collect(),
            models: Vec::new(),
            exact: HashMap::new(),
            rules: Vec::new(),
        }
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.exact.get(name).copied().or_else(|| {
            if names::is_apart(name) {
                return None;
            }
            let rule = self.rules.iter().find(|(rule, _)| rule.matches_closely(name));
            rule.map(|(_, model)| *model)
        })
    }
}

impl Catalog {
    fn new(providers: Vec<ProviderEntry>, models: Vec<ModelEntry>) -> Result<Self, PriceTableError> {
        let mut catalog = Self::default();
        for entry in providers {
            catalog.add(Provider::new(entry));
        }
        let mut aliases: Vec<(usize, usize, Vec<Rule>)> = Vec::new();
        for entry in models {
            let at = match catalog.by_id.get(entry.provider.as_str()) {
                Some(at) => *at,
                None => catalog.add(Provider::new(ProviderEntry {
                    id: entry.provider.clone(),
                    names: Vec::new(),
                    models: Vec::new(),
                    fallback: Vec::new(),
                })),
            };
            let model = ListedModel::from_entry(&entry)?;
            let Some(provider) = catalog.providers.get_mut(at) else {
                continue;
            };
            let index = provider.models.len();
            provider.models.push(model);
            provider.exact.entry(lower(&entry.model).into()).or_insert(index);
            aliases.push((at, index, entry.names));
        }
        // A model's own name goes before what others are called besides.
        for (at, index, rules) in aliases {
            let Some(provider) = catalog.providers.get_mut(at) else {
                continue;
            };
            for rule in rules {
                match rule.exact() {
                    Some(name) => {
                        provider.exact.entry(name.into()).or_insert(index);
                    }
                    None => provider.rules.push((rule, index)),
                }
            }
        }
        Ok(catalog)
    }

    fn add(&mut self, provider: Provider) -> usize {
        let at = self.providers.len();
        self.by_id.insert(provider.id.clone(), at);
        self.providers.push(provider);
        at
    }

    /// The provider that goes by `name`.
    fn provider(&self, name: &str) -> Option<&Provider> {
        self.providers.get(self.provider_at(name)?)
    }

    fn provider_at(&self, name: &str) -> Option<usize> {
        self.by_id.get(name).copied().or_else(|| {
            self.providers
                .iter()
                .position(|provider| provider.names.iter().any(|rule| rule.matches(name)))
        })
    }

    fn model(&self, place: Place) -> Option<&ListedModel> {
        self.providers.get(place.0)?.models.get(place.1)
    }

    /// The model of a provider that goes by `name`, or of another whose models it serves.
    fn find(&self, at: usize, name: &str) -> Option<Place> {
        let provider = self.providers.get(at)?;
        let found = provider.find(name).map(|model| (at, model));
        found.or_else(|| {
            let mut served = provider.fallback.iter().filter_map(|id| self.by_id.get(id));
            served.find_map(|other| Some((*other, self.providers.get(*other)?.find(name)?)))
        })
    }

    /// The same, or what is left of `name` without what stands around it.
    fn read(&self, at: usize, name: &str, readings: &[String]) -> Option<Place> {
        let whole = (!names::is_opaque(name)).then(|| self.find(at, name)).flatten();
        whole.or_else(|| readings.iter().find_map(|reading| self.find(at, reading)))
    }

    fn readings(&self, at: Option<usize>, provider: &str, name: &str) -> Vec<String> {
        let is_same = |prefix: &str| prefix == provider || (at.is_some() && self.provider_at(prefix) == at);
        names::readings(name, is_same)
    }

    /// The model that `name` at `provider` means. What was found the long way once is found the short way again.
    fn resolve(&self, provider: &str, name: &str) -> Option<&ListedModel> {
        let own = self.by_id.get(provider).and_then(|at| self.providers.get(*at));
        if let Some((own, model)) = own.and_then(|own| Some((own, own.exact.get(name)?))) {
            return own.models.get(*model);
        }
        let remembered = self.remembered.read().unwrap_or_else(PoisonError::into_inner);
        let place = remembered
            .get(provider)
            .and_then(|names| names.get(name))
            .copied();
        drop(remembered);
        if let Some(place) = place {
            return self.model(place);
        }
        let at = self.provider_at(provider)?;
        let place = self.read(at, name, &self.readings(Some(at), provider, name))?;
        self.remember(provider, name, place);
        self.model(place)
    }

    fn remember(&self, provider: &str, name: &str, place: Place) {
        let (providers, names, length) = MAX_REMEMBERED;
        if provider.len().max(name.len()) > length {
            return;
        }
        let mut remembered = self.remembered.write().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= providers && !remembered.contains_key(provider) {
            return;
        }
        let known = remembered.entry(provider.into()).or_default();
        if known.len() < names {
            known.insert(name.into(), place);
        }
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
            as_of: Timestamp::EPOCH,
            listed: Arc::default(),
            own: Arc::default(),
            ceilings: Arc::default(),
            deployments: Arc::default(),
        }
    }

    /// Reads a table in the format of the embedded one.
    ///
    /// # Errors
    /// [`PriceTableError`] where the text is not such a table, with the place.
    pub fn from_json(text: &str) -> Result<Self, PriceTableError> {
        let mut file: File = serde_json::from_str(text)?;
        let error = |message: String| PriceTableError { message };
        let version = file.version.take();
        let version = version.ok_or_else(|| error("it has no version".to_owned()))?;
        let as_of = file.as_of.as_deref().map(moment).transpose().map_err(error)?;
        let providers = std::mem::take(&mut file.providers);
        let models = std::mem::take(&mut file.models);
        let table = Self {
            version: version.clone().into(),
            as_of: as_of.unwrap_or(Timestamp::EPOCH),
            listed: Arc::new(Catalog::new(providers, models)?),
            ..Self::empty()
        };
        let table = table.with_entries(file)?;
        Ok(Self {
            version: version.into(),
            ..table
        })
    }

    /// Adds the prices, ceilings and deployments of a file, which has the format of the embedded table: `docs/prices.md`
    /// shows one. They go before what is there.
    ///
    /// # Errors
    /// [`PriceTableError`] where the text is not such a file, with the place.
    ///
    /// ```
    /// use leash_budget::PriceTable;
    ///
    /// let table = PriceTable::embedded().with_file(
    ///     r#"{"models": [{"provider": "acme", "model": "tiny", "prices": [{"input": "0.10", "output": "0.40"}]}]}"#,
    /// )?;
    /// assert!(table.find("acme", "tiny").is_some());
    /// assert!(table.version().ends_with("+custom"));
    /// # Ok::<(), leash_budget::PriceTableError>(())
    /// ```
    pub fn with_file(self, text: &str) -> Result<Self, PriceTableError> {
        let file: File = serde_json::from_str(text)?;
        self.with_entries(file)
    }

    fn with_entries(mut self, file: File) -> Result<Self, PriceTableError> {
        if !file.providers.is_empty() {
            return Err(PriceTableError {
                message: "only a whole table has `providers`".to_owned(),
            });
        }
        for entry in file.models {
            let model = ListedModel::from_entry(&entry)?;
            let mut names = vec![entry.model.clone()];
            for rule in &entry.names {
                names.push(rule.exact().map(str::to_owned).ok_or_else(|| PriceTableError {
                    message: format!(
                        "`{}/{}`: a model of one's own is matched by names, like `=gpt-4o`",
                        entry.provider, entry.model
                    ),
                })?);
            }
            for name in names {
                self = self.with_listed(&entry.provider, &name, model.clone());
            }
        }
        for entry in file.ceilings {
            let price = entry.price();
            self = match &entry.model {
                Some(model) => self.with_model_ceiling(&entry.provider, model, price),
                None => self.with_ceiling(&entry.provider, price),
            };
        }
        for entry in file.deployments {
            let (provider, model) = entry.is.split_once('/').ok_or_else(|| PriceTableError {
                message: format!("`{}`: a model is written like `openai/gpt-4o`", entry.name),
            })?;
            self = self.with_deployment(&entry.provider, &entry.name, provider, model);
        }
        Ok(self.custom())
    }

    /// Adds a price, or replaces the one there is, for all time.
    #[must_use]
    pub fn with_price(self, provider: &str, model: &str, price: ModelPrice) -> Self {
        let listed = ListedModel::new(provider, model, price);
        self.with_listed(provider, model, listed).custom()
    }

    fn with_listed(mut self, provider: &str, name: &str, model: ListedModel) -> Self {
        let id: Box<str> = self.provider_id(&lower(provider)).into();
        Arc::make_mut(&mut self.own)
            .entry(id)
            .or_default()
            .insert(lower(name).into(), model);
        self
    }

    /// A ceiling for every model of `provider` that has no price (`*`: of every provider): such a call is charged
    /// at the ceiling.
    #[must_use]
    pub fn with_ceiling(self, provider: &str, price: ModelPrice) -> Self {
        self.with_ceiling_for(provider, None, price)
    }

    /// A ceiling for one model of `provider`, should it have no price. It goes before that of the provider.
    #[must_use]
    pub fn with_model_ceiling(self, provider: &str, model: &str, price: ModelPrice) -> Self {
        self.with_ceiling_for(provider, Some(model), price)
    }

    fn with_ceiling_for(mut self, provider: &str, model: Option<&str>, price: ModelPrice) -> Self {
        let listed = ListedModel::new(provider, model.unwrap_or("*"), price);
        let key = (
            self.provider_id(&lower(provider)).into(),
            model.map(|model| lower(model).into()),
        );
        Arc::make_mut(&mut self.ceilings).insert(key, listed);
        self.custom()
    }

    /// Says that `name` at `provider` is `model` of `of`: a deployment of Azure, a profile of Bedrock. Where `provider`
    /// has a price of its own for that model, it counts.
    #[must_use]
    pub fn with_deployment(mut self, provider: &str, name: &str, of: &str, model: &str) -> Self {
        let key = (self.provider_id(&lower(provider)).into(), lower(name).into());
        Arc::make_mut(&mut self.deployments).insert(key, (lower(of).into(), lower(model).into()));
        self.custom()
    }

    /// What the table calls the provider that goes by `name`: its other names are those of the same provider.
    fn provider_id<'a>(&'a self, name: &'a str) -> &'a str {
        self.listed.provider(name).map_or(name, |known| &known.id)
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

    /// The day that the table was made for.
    #[must_use]
    pub const fn as_of(&self) -> Timestamp {
        self.as_of
    }

    /// The price of `model` at `provider` at the moment `at`, where there is one.
    #[must_use]
    pub fn price_at(&self, provider: &str, model: &str, at: Timestamp) -> Option<&Arc<ModelPrice>> {
        self.find(provider, model).map(|listed| listed.price_at(at))
    }

    /// The price of `model` at `provider` on the day that the table was made for. Whoever charges a call asks
    /// [`PriceTable::price_at`].
    #[must_use]
    pub fn price(&self, provider: &str, model: &str) -> Option<&Arc<ModelPrice>> {
        self.price_at(provider, model, self.as_of)
    }

    /// The model that `model` at `provider` means, or the ceiling that stands in for it.
    #[must_use]
    pub fn find(&self, provider: &str, model: &str) -> Option<&ListedModel> {
        let (provider, model) = (lower(provider), lower(model));
        self.named(&provider, &model)
            .or_else(|| self.ceiling(&provider, &model))
    }

    fn named(&self, provider: &str, model: &str) -> Option<&ListedModel> {
        if !self.deployments.is_empty() {
            let meant = self
                .deployments
                .get(&(self.provider_id(provider).into(), model.into()));
            if let Some((of, model)) = meant {
                return self
                    .listed_or_own(provider, model)
                    .or_else(|| self.listed_or_own(of, model));
            }
        }
        self.listed_or_own(provider, model).or_else(|| {
            // Callers that speak for many providers put the one they mean before the model.
            let (of, model) = model.split_once('/').filter(|_| provider == "litellm")?;
            self.listed_or_own(of, model)
        })
    }

    fn listed_or_own(&self, provider: &str, model: &str) -> Option<&ListedModel> {
        if self.own.is_empty() {
            return self.listed.resolve(provider, model);
        }
        let at = self.listed.provider_at(provider);
        let known = at.and_then(|at| self.listed.providers.get(at));
        let own = self.own.get(known.map_or(provider, |known| &known.id));
        let find_own = |name: &str| own.and_then(|own| own.get(name));
        let readings = self.listed.readings(at, provider, model);
        // A name without its prefix is the same name; one without its date may be another model of the table.
        let unprefixed = readings.iter().filter(|name| model.ends_with(name.as_str()));
        if let Some(found) =
            find_own(model).or_else(|| unprefixed.into_iter().find_map(|name| find_own(name)))
        {
            return Some(found);
        }
        let found = self.listed.resolve(provider, model);
        // A price of one's own counts for all the names of its model.
        let replaced = found
            .filter(|found| known.is_some_and(|known| *found.provider == *known.id))
            .and_then(|found| find_own(&lower(&found.model)));
        replaced
            .or(found)
            .or_else(|| readings.iter().find_map(|name| find_own(name)))
    }

    fn ceiling(&self, provider: &str, model: &str) -> Option<&ListedModel> {
        if self.ceilings.is_empty() {
            return None;
        }
        let get = |provider: &str, model: Option<&str>| {
            self.ceilings.get(&(provider.into(), model.map(Into::into)))
        };
        let provider = self.provider_id(provider);
        get(provider, Some(model))
            .or_else(|| get(provider, None))
            .or_else(|| get("*", Some(model)))
            .or_else(|| get("*", None))
    }

    /// The model that `model` means where nobody says whose it is: with the provider before it (`openai/gpt-4o`), as the
    /// provider's rules know their own models, or as the only one of that name.
    #[must_use]
    pub fn find_anywhere(&self, model: &str) -> Option<&ListedModel> {
        let model = lower(model);
        if let Some((provider, bare)) = model.split_once('/')
            && let Some(found) = self.named(provider, bare)
        {
            return Some(found);
        }
        if let Some(home) = names::home(&model)
            && let Some(found) = self.named(home, &model)
        {
            return Some(found);
        }
        let owner = self
            .listed
            .providers
            .iter()
            .find(|provider| provider.own_models.iter().any(|rule| rule.matches(&model)));
        if let Some(found) = owner.and_then(|owner| self.named(&owner.id, &model)) {
            return Some(found);
        }
        let own = self.own.values().filter_map(|models| models.get(&*model));
        let listed = self.listed.providers.iter().filter_map(|provider| {
            let at = provider.exact.get(&*model)?;
            provider.models.get(*at)
        });
        let mut all = own.chain(listed);
        let first = all.next()?;
        all.all(|other| other == first).then_some(first)
    }

    /// Up to `most` models with names like `model`, of `provider` or of all, the likest first.
    #[must_use]
    pub fn similar(&self, provider: Option<&str>, model: &str, most: usize) -> Vec<&ListedModel> {
        let provider = provider.map(lower);
        let known = provider.as_ref().and_then(|name| self.listed.provider(name));
        let model: String = lower(model).chars().take(MAX_HINT_CHARS).collect();
        let bare = model.rsplit_once('/').map_or(&*model, |(_, bare)| bare);
        let listed = self
            .listed
            .providers
            .iter()
            .filter(|one| known.is_none_or(|known| known.id == one.id))
            .flat_map(|one| &one.models);
        let own = self.own.values().flat_map(HashMap::values);
        let mut ranked: Vec<(usize, &ListedModel)> = own
            .chain(listed)
            .map(|listed| {
                let name = lower(&listed.model);
                let distance = names::distance(&model, &name).min(names::distance(bare, &name));
                (distance, listed)
            })
            // What has nothing in common is no hint.
            .filter(|(distance, _)| distance.saturating_mul(2) <= model.chars().count())
            .collect();
        ranked.sort_by(|(a, left), (b, right)| {
            let key = |listed: &ListedModel| (listed.provider.clone(), listed.model.clone());
            a.cmp(b).then_with(|| key(left).cmp(&key(right)))
        });
        ranked.into_iter().take(most).map(|(_, listed)| listed).collect()
    }

    /// The models of the table itself, without those of one's own.
    pub fn models(&self) -> impl Iterator<Item = &ListedModel> {
        self.listed.providers.iter().flat_map(|provider| &provider.models)
    }
}

/// A name longer than that is compared by its start.
const MAX_HINT_CHARS: usize = 200;

impl fmt::Debug for PriceTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PriceTable")
            .field("version", &self.version)
            .field("models", &self.models().count())
            .field("own", &self.own.values().map(HashMap::len).sum::<usize>())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use super::*;
    use crate::{Price, PriceError};
    use leash_core::{ServiceTier, Usage, Usd};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn today() -> Timestamp {
        at("2026-11-22T12:00:00Z")
    }

    fn flat(input: &str, output: &str) -> ModelPrice {
        let price = |text: &str| Price::per_million(text.parse().unwrap());
        ModelPrice::flat(price(input), price(output))
    }

    fn names(found: Option<&ListedModel>) -> Option<String> {
        found.map(|listed| format!("{}/{}", listed.provider, listed.model))
    }

    /// What `usage` costs, in dollars.
    fn costs(table: &PriceTable, provider: &str, model: &str, usage: &Usage, at: Timestamp) -> String {
        let price = table.price_at(provider, model, at).unwrap();
        price.cost(usage).unwrap().to_string()
    }

    fn million(input: u64, output: u64) -> Usage {
        Usage {
            input_tokens: input * 1_000_000,
            output_tokens: output * 1_000_000,
            ..Usage::default()
        }
    }

    #[test]
    fn every_model_of_the_table_is_found_by_its_own_name() {
        let table = PriceTable::from_json(EMBEDDED).unwrap();
        let mut seen = std::collections::HashSet::new();
        let mut count = 0;
        for listed in table.models() {
            let key = (listed.provider.clone(), listed.model.to_lowercase());
            if seen.insert(key) {
                let found = table.find(&listed.provider, &listed.model).unwrap();
                assert!(
                    std::ptr::eq(found, listed),
                    "{}/{}",
                    listed.provider,
                    listed.model
                );
            }
            count += 1;
        }
        assert!(count > 2_000 && table.listed.providers.len() > 40, "{count}");
    }

    #[test]
    fn every_model_of_the_table_costs_something() {
        for listed in PriceTable::embedded().models() {
            for (_, price) in &listed.prices {
                let usage = Usage {
                    output_tokens: 0,
                    ..million(1, 0)
                };
                match price.cost(&usage) {
                    Ok(cost) => assert!(
                        !cost.is_zero() || price.cost(&million(0, 1)).is_ok_and(|cost| !cost.is_zero()),
                        "{listed:?}"
                    ),
                    Err(error) => assert_ne!(error, PriceError::TooLarge, "{listed:?}"),
                }
            }
        }
    }

    #[test]
    fn no_tier_of_the_table_is_cheaper_for_a_longer_input() {
        let one = |index: usize| {
            let n = |at: usize| if at == index { 1_000_000 } else { 0 };
            Usage {
                input_tokens: n(0),
                output_tokens: n(1),
                cache_read_tokens: n(2),
                cache_write_tokens: n(3),
                cache_write_1h_tokens: n(4),
                ..Usage::default()
            }
        };
        for listed in PriceTable::embedded().models() {
            for (_, price) in listed.prices.iter().filter(|(_, price)| price.is_metered) {
                let tariffs = price.service_tiers.iter().map(|(_, tariff)| tariff);
                for tariff in tariffs.chain([&price.standard]) {
                    for usage in (0..5).map(one) {
                        let of = |tokens| ModelPrice::new(*tariff.rates(tokens)).cost(&usage).ok();
                        let costs = [0, 128_001, 200_001, 256_001, 272_001, u64::MAX].map(of);
                        assert!(
                            costs.is_sorted(),
                            "{}/{}: {costs:?}",
                            listed.provider,
                            listed.model
                        );
                    }
                }
            }
        }
    }

    /// The table's source lists names, and its own rules say which model each means. Ours say the same, but where a name
    /// is that of a model itself.
    #[test]
    fn names_mean_what_the_rules_of_the_source_say() {
        let table = PriceTable::embedded();
        let mut checked = 0;
        let mut refused = Vec::new();
        for line in include_str!("../tests/data/names.tsv").lines() {
            let mut fields = line.split('\t');
            let mut next = || fields.next().unwrap();
            let (provider, name, of, model) = (next(), next(), next(), next());
            let found = names(table.find(provider, name));
            let expected = format!("{of}/{model}");
            let is_own_name = found
                .as_deref()
                .is_some_and(|found| found.eq_ignore_ascii_case(&format!("{provider}/{name}")));
            if of == "–" {
                // Known to the source without a price; a name with less around it may have one.
                continue;
            }
            match found {
                Some(found) => assert!(found == expected || is_own_name, "{line}: {found}"),
                None => refused.push(line),
            }
            checked += 1;
        }
        assert!(checked > 3_000, "{checked}");
        assert!(refused.is_empty(), "{refused:?}");
    }

    /// List prices of well-known models, as both sources have them.
    #[test]
    fn well_known_models_have_their_list_price() {
        let table = PriceTable::embedded();
        let cached = Usage {
            cache_read_tokens: 1_000_000,
            ..Usage::default()
        };
        for (provider, model, input, output, read) in [
            ("anthropic", "claude-haiku-4-5", "1.00", "5.00", "0.10"),
            ("anthropic", "claude-opus-4-5-20251101", "5.00", "25.00", "0.50"),
            ("anthropic", "claude-sonnet-4-6", "3.00", "15.00", "0.30"),
            ("openai", "gpt-4o", "2.50", "10.00", "1.25"),
            ("openai", "gpt-4o-mini-2024-07-18", "0.15", "0.60", "0.075"),
            ("openai", "gpt-4.1", "2.00", "8.00", "0.50"),
            ("openai", "gpt-5", "1.25", "10.00", "0.125"),
            ("openai", "gpt-5-mini", "0.25", "2.00", "0.025"),
            ("openai", "o3", "2.00", "8.00", "0.50"),
            ("openai", "gpt-4-turbo", "10.00", "30.00", "10.00"),
            ("deepseek", "deepseek-v4-flash", "0.15", "0.60", "0.003"),
            ("google", "gemini-2.5-flash", "0.30", "2.50", "0.03"),
        ] {
            let of = |usage: &Usage| costs(&table, provider, model, usage, today());
            assert_eq!(of(&million(1, 0)), input, "{model}");
            assert_eq!(of(&million(0, 1)), output, "{model}");
            assert_eq!(of(&cached), read, "{model}");
        }
    }

    #[test]
    fn cache_writes_searches_and_service_tiers_have_their_price() {
        let table = PriceTable::embedded();
        let usage = Usage {
            cache_write_tokens: 1_000_000,
            cache_write_1h_tokens: 1_000_000,
            web_search_requests: 3,
            ..Usage::default()
        };
        assert_eq!(
            costs(&table, "anthropic", "claude-haiku-4-5", &usage, today()),
            "3.28"
        );
        let batch = Usage {
            service_tier: ServiceTier::Batch,
            ..usage
        };
        assert_eq!(
            costs(&table, "anthropic", "claude-haiku-4-5", &batch, today()),
            "1.655"
        );
        let priority = Usage {
            service_tier: ServiceTier::Priority,
            ..million(1, 1)
        };
        assert_eq!(costs(&table, "openai", "gpt-4o", &priority, today()), "21.25");
        let audio = Usage {
            input_audio_tokens: 400_000,
            output_audio_tokens: 500_000,
            ..million(1, 1)
        };
        // 0.6 at 2.50, 0.4 at 32, 0.5 at 10, 0.5 at 64.
        assert_eq!(costs(&table, "openai", "gpt-audio", &audio, today()), "51.30");
    }

    #[test]
    fn a_price_begins_on_its_day_and_holds_within_its_hours() {
        let table = PriceTable::from_json(
            r#"{"version": "1", "models": [{"provider": "p", "model": "m", "prices": [
                {"input": "1", "output": "1"},
                {"from": "2026-03-01", "input": "2", "output": "2"},
                {"daily": ["22:30", "06:00"], "input": "3", "output": "3"},
                {"from": "2026-05-01", "input": "4", "output": "4"}]}]}"#,
        )
        .unwrap();
        for (moment, expected) in [
            ("2026-02-28T12:00:00Z", "1.00"),
            ("2026-02-28T23:59:59.999999Z", "3.00"),
            ("2026-03-01T05:59:59Z", "3.00"),
            ("2026-03-01T06:00:00Z", "2.00"),
            ("2026-03-01T22:29:59.999999Z", "2.00"),
            ("2026-03-01T22:30:00Z", "3.00"),
            ("2026-03-02T00:30:00+02:00", "3.00"),
            ("2026-04-30T23:59:59Z", "3.00"),
            ("2026-05-01T00:00:00Z", "4.00"),
            ("1969-12-31T23:00:00Z", "3.00"),
        ] {
            assert_eq!(
                costs(&table, "p", "m", &million(1, 0), at(moment)),
                expected,
                "{moment}"
            );
        }
    }

    #[test]
    fn a_call_that_may_run_into_a_dearer_hour_is_bounded_at_its_price() {
        let table = PriceTable::from_json(
            r#"{"version": "1", "models": [{"provider": "p", "model": "m", "prices": [
                {"input": "1", "output": "9"},
                {"from": "2026-03-01", "input": "2", "output": "2"},
                {"daily": ["22:30", "22:50"], "input": "7", "output": "1"}]}]}"#,
        )
        .unwrap();
        let listed = table.find("p", "m").unwrap();
        let hour = Duration::from_hours(1);
        for (moment, input, output) in [
            ("2026-02-20T12:00:00Z", "1.00", "9.00"),
            ("2026-02-20T22:00:00Z", "7.00", "9.00"),
            ("2026-02-28T23:10:00Z", "2.00", "9.00"),
            ("2026-03-05T22:40:00Z", "7.00", "2.00"),
            ("2026-03-05T21:29:59Z", "2.00", "2.00"),
            ("2026-03-05T21:30:00Z", "7.00", "2.00"),
            ("2026-03-05T22:50:00Z", "2.00", "2.00"),
        ] {
            let price = listed.price_within(at(moment), hour);
            let of = |usage| price.cost(&usage).unwrap().to_string();
            assert_eq!(
                (of(million(1, 0)), of(million(0, 1))),
                (input.into(), output.into()),
                "{moment}"
            );
        }
        let constant = PriceTable::embedded();
        let constant = constant.find("openai", "gpt-4-turbo").unwrap();
        let price = constant.price_within(today(), hour);
        assert!(Arc::ptr_eq(&price, constant.price_at(today())));
    }

    #[test]
    fn a_providers_other_names_are_those_of_the_same_provider() {
        let table = PriceTable::embedded()
            .with_ceiling("bedrock", flat("90", "90"))
            .with_model_ceiling("aws", "odd", flat("80", "80"))
            .with_deployment("bedrock", "our-claude", "anthropic", "claude-haiku-4-5")
            .with_price("bedrock", "own", flat("70", "70"));
        let of = |provider, model| costs(&table, provider, model, &million(1, 0), today());
        for provider in ["aws", "bedrock", "Bedrock"] {
            assert_eq!(of(provider, "anything"), "90.00", "{provider}");
            assert_eq!(of(provider, "odd"), "80.00", "{provider}");
            assert_eq!(of(provider, "our-claude"), "1.00", "{provider}");
            assert_eq!(of(provider, "own"), "70.00", "{provider}");
        }
    }

    #[test]
    fn names_are_found_as_they_come() {
        let table = PriceTable::embedded();
        let haiku = "anthropic/claude-haiku-4-5";
        let regional = "aws/regional.anthropic.claude-haiku-4-5-20251001-v1:0";
        let global = "aws/global.anthropic.claude-haiku-4-5-20251001-v1:0";
        for (provider, name, expected) in [
            ("anthropic", "claude-haiku-4-5-20251001", haiku),
            ("anthropic", "claude-haiku-4-5-20990101", haiku),
            ("anthropic", "claude-haiku-4-5-latest", haiku),
            ("anthropic", "anthropic/claude-haiku-4-5", haiku),
            ("Anthropic", "Claude-Haiku-4-5", haiku),
            ("litellm", "anthropic/claude-haiku-4-5", haiku),
            (
                "vertex_ai",
                "claude-haiku-4-5@20251001",
                "google/claude-haiku-4-5",
            ),
            ("openai", "openai/gpt-4o", "openai/gpt-4o"),
            ("openai", "gpt-4o-2024-08-06", "openai/gpt-4o"),
            ("openai", "gpt-4o-20240806", "openai/gpt-4o"),
            ("openai", "gpt-4o-2024-05-13", "openai/gpt-4o-2024-05-13"),
            (
                "openai",
                "ft:gpt-4o-mini-2024-07-18:acme::abc123",
                "openai/ft:gpt-4o-mini",
            ),
            (
                "openai",
                "ft:gpt-4.1-2025-04-14:acme::abc123",
                "openai/ft:gpt-4.1-2025-04-14",
            ),
            ("azure", "gpt-4o", "openai/gpt-4o"),
            ("openrouter", "openai/gpt-4o", "openrouter/openai/gpt-4o"),
            (
                "openrouter",
                "anthropic/claude-haiku-4.5",
                "openrouter/anthropic/claude-haiku-4.5",
            ),
            ("aws", "us.anthropic.claude-haiku-4-5-20251001-v1:0", regional),
            ("bedrock", "eu.anthropic.claude-haiku-4-5-20251001-v1:0", regional),
            (
                "bedrock",
                "bedrock/ca.anthropic.claude-haiku-4-5-20251001-v1:0",
                regional,
            ),
            ("aws", "anthropic.claude-haiku-4-5-20251001-v1:0", regional),
            ("aws", "global.anthropic.claude-haiku-4-5-20251001-v1:0", global),
            (
                "aws",
                "arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/anthropic.claude-sonnet-4-5-20250929-v1:0",
                "aws/us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0",
            ),
            ("google", "gemini-2.5-pro@default", "google/gemini-2.5-pro"),
            (
                "aws",
                "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-haiku-4-5-20251001-v1:0",
                regional,
            ),
            (
                "aws",
                "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-micro-v1:0",
                "aws/amazon.nova-micro-v1:0",
            ),
        ] {
            assert_eq!(
                names(table.find(provider, name)).as_deref(),
                Some(expected),
                "{provider} {name}"
            );
        }
    }

    #[test]
    fn names_that_mean_no_known_model_have_no_price() {
        let table = PriceTable::embedded();
        for (provider, name) in [
            ("anthropic", "claude-haiku-4"),
            ("anthropic", "claude-haiku-4-5-x"),
            ("anthropic", "claude-haiku-4-5-turbo"),
            ("anthropic", "claude-haiku-4-55"),
            ("anthropic", "evil/claude-haiku-4-5"),
            ("anthropic", ""),
            ("anthropic", "-latest"),
            ("anthropic", "-"),
            ("anthropic", "/"),
            ("anthropic", "2025-10-01"),
            ("openai", "claude-haiku-4-5"),
            ("openai", "ft:gpt-5-2025-08-07:acme::abc123"),
            ("openai", "gpt-4o-turbo"),
            ("openrouter", "openai/gpt-oss-20b:free"),
            ("openrouter", "openai/gpt-4o:online"),
            ("openrouter", "openai/gpt-4o:nitro"),
            ("openai", " gpt-4o"),
            ("openai", "gpt-4o "),
            ("aws", "us-gov.anthropic.claude-of-tomorrow-v1:0"),
            ("aws", "us-gov.anthropic.claude-3-haiku-20240307-v1:0"),
            (
                "aws",
                "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/claude-haiku-4-5-20251001",
            ),
            ("nobody", "gpt-4o"),
            ("", "gpt-4o"),
        ] {
            assert_eq!(names(table.find(provider, name)), None, "{provider} {name}");
        }
    }

    #[test]
    fn a_model_is_found_without_its_provider_where_there_is_one_answer() {
        let table = PriceTable::embedded();
        for (name, expected) in [
            ("gpt-4o", Some("openai/gpt-4o")),
            ("o3", Some("openai/o3")),
            ("chatgpt-4o-latest", Some("openai/chatgpt-4o-latest")),
            ("claude-haiku-4-5-20251001", Some("anthropic/claude-haiku-4-5")),
            ("openai/gpt-4o", Some("openai/gpt-4o")),
            ("gemini-2.5-flash", Some("google/gemini-2.5-flash")),
            ("models/gemini-2.5-flash", Some("google/gemini-2.5-flash")),
            (
                "projects/p/locations/global/publishers/google/models/gemini-2.5-flash",
                Some("google/gemini-2.5-flash"),
            ),
            (
                "us.anthropic.claude-haiku-4-5-20251001-v1:0",
                Some("aws/regional.anthropic.claude-haiku-4-5-20251001-v1:0"),
            ),
            (
                "anthropic.claude-3-haiku-20240307-v1:0",
                Some("aws/regional.anthropic.claude-3-haiku-20240307-v1:0"),
            ),
            (
                "ft:gpt-4o-mini-2024-07-18:acme::abc",
                Some("openai/ft:gpt-4o-mini"),
            ),
            ("ft:gpt-5-2025-08-07:acme::abc123", None),
            ("no-such-model", None),
        ] {
            assert_eq!(names(table.find_anywhere(name)).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn a_price_of_ones_own_goes_first_for_every_name_of_the_model() {
        let table = PriceTable::embedded()
            .with_price("openai", "gpt-4o", flat("7", "7"))
            .with_price("openai", "gpt-4.1-2025-04-14", flat("9", "9"))
            .with_price("bedrock", "ours", flat("8", "8"));
        for name in [
            "gpt-4o",
            "openai/gpt-4o",
            "GPT-4o",
            "gpt-4o-2024-08-06",
            "gpt-4o-latest",
        ] {
            assert_eq!(
                costs(&table, "openai", name, &million(1, 0), today()),
                "7.00",
                "{name}"
            );
        }
        for (name, expected) in [
            ("gpt-4.1-2025-04-14", "9.00"),
            ("openai/gpt-4.1-2025-04-14", "9.00"),
            ("gpt-4.1", "2.00"),
            ("gpt-4o-2024-05-13", "5.00"),
        ] {
            assert_eq!(
                costs(&table, "openai", name, &million(1, 0), today()),
                expected,
                "{name}"
            );
        }
        assert_eq!(costs(&table, "aws", "ours", &million(1, 0), today()), "8.00");
        assert_eq!(
            costs(&table, "aws", "bedrock/ours-20260101", &million(1, 0), today()),
            "8.00"
        );
        assert_eq!(
            costs(&table, "openai", "gpt-4o-mini", &million(1, 0), today()),
            "0.15"
        );
        assert!(table.version().ends_with("+custom"));
    }

    #[test]
    fn a_file_adds_prices_ceilings_and_deployments() {
        let table = PriceTable::embedded()
            .with_file(
                r#"{"models": [{"provider": "acme", "model": "tiny", "match": ["=small"], "prices": [
                       {"input": "0.10", "output": 400000000},
                       {"from": "2027-01-01", "input": "0.20", "output": "0.80"}]}],
                   "ceilings": [{"provider": "acme", "input": "50", "output": "60"},
                                {"provider": "*", "model": "odd", "input": "70", "output": "80"}],
                   "deployments": [{"provider": "azure", "name": "our-gpt", "is": "openai/gpt-4o"}]}"#,
            )
            .unwrap();
        let of = |provider: &str, model: &str, moment| costs(&table, provider, model, &million(1, 1), moment);
        assert_eq!(of("acme", "tiny", today()), "0.50");
        assert_eq!(of("acme", "small", at("2027-01-01T00:00:00Z")), "1.00");
        assert_eq!(of("acme", "huge", today()), "110.00");
        assert_eq!(of("nobody", "odd", today()), "150.00");
        assert_eq!(of("azure", "Our-GPT", today()), "12.50");
        assert_eq!(names(table.find("nobody", "even")), None);
        assert_eq!(table.version().matches("+custom").count(), 1);
    }

    #[test]
    fn a_ceiling_stands_in_for_a_missing_price_only() {
        let table = PriceTable::embedded()
            .with_ceiling("*", flat("100", "100"))
            .with_ceiling("acme", flat("90", "90"))
            .with_model_ceiling("acme", "small", flat("80", "80"));
        let of = |provider, model| costs(&table, provider, model, &million(1, 0), today());
        assert_eq!(of("x", "anything"), "100.00");
        assert_eq!(of("acme", "anything"), "90.00");
        assert_eq!(of("acme", "small"), "80.00");
        assert_eq!(of("openai", "gpt-4o"), "2.50");
        assert!(table.version().ends_with("+custom"));
        assert_eq!(PriceTable::empty().find("openai", "gpt-4o"), None);
    }

    #[test]
    fn what_is_billed_by_what_no_usage_counts_has_no_cost() {
        let table = PriceTable::embedded();
        let whisper = table.price("openai", "whisper-1").unwrap();
        assert_eq!(whisper.cost(&million(1, 1)), Err(PriceError::Unmetered));
    }

    #[test]
    fn a_hint_names_what_is_spelled_alike() {
        let table = PriceTable::embedded();
        let hints = |provider, model| -> Vec<String> {
            let similar = table.similar(provider, model, 3);
            similar
                .into_iter()
                .filter_map(|listed| names(Some(listed)))
                .collect()
        };
        assert_eq!(
            hints(Some("openai"), "gpt-4omini").first().map(String::as_str),
            Some("openai/gpt-4o-mini")
        );
        assert!(
            hints(None, "claude-hiaku-4-5")
                .iter()
                .any(|name| name.ends_with("/claude-haiku-4-5"))
        );
        assert_eq!(hints(None, "zzzzzzzzzzzz"), [""; 0]);
        assert!(hints(None, &"x".repeat(100_000)).is_empty());
    }

    #[test]
    fn a_broken_table_is_refused_with_its_place() {
        let model = |prices: &str| {
            let text = format!(
                r#"{{"version": "1", "models": [{{"provider": "p", "model": "m", "prices": {prices}}}]}}"#
            );
            PriceTable::from_json(&text)
        };
        assert!(model(r#"[{"input": 1, "output": 1}]"#).is_ok());
        for wrong in [
            "[]",
            r#"[{"input": -1}]"#,
            r#"[{"input": 1.5}]"#,
            r#"[{"input": "-1"}]"#,
            r#"[{"input": 9007199254740992}]"#,
            r#"[{"inputs": 1}]"#,
            r#"[{"input": 1, "from": "yesterday"}]"#,
            r#"[{"input": 1, "daily": ["24:00", "01:00"]}]"#,
            r#"[{"input": 1, "daily": ["1", "2"]}]"#,
            r#"[{"input": 1, "above_input_tokens": 1}]"#,
            r#"[{"input": 1, "tiers": [{"input": 1}]}]"#,
            r#"[{"input": 1, "tiers": [{"above_input_tokens": 1, "from": "2026-01-01"}]}]"#,
            r#"[{"input": 1, "service_tiers": {"golden": {"input": 1}}}]"#,
        ] {
            assert!(model(wrong).is_err(), "{wrong}");
        }
        assert!(model("[]").unwrap_err().to_string().contains("`p/m`"));
        assert!(PriceTable::from_json(r#"{"models": []}"#).is_err());
        assert!(
            PriceTable::empty()
                .with_file(r#"{"deployments": [{"provider": "azure", "name": "x", "is": "gpt-4o"}]}"#)
                .is_err()
        );
        assert!(
            PriceTable::empty()
                .with_file(r#"{"providers": [{"id": "x"}]}"#)
                .is_err()
        );
        assert_eq!(Usd::MAX.as_nanos(), 9_007_199_254_740_991);
    }
}
