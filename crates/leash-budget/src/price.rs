//! What tokens cost: [`Price`], [`ModelPrice`]. Integers only; knows no model's name.

use std::sync::Arc;

use leash_core::{ModelCall, ServiceTier, Usage, Usd};

/// Dollars per million units, kept as nano-dollars per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price(Usd);

/// A cost or a price that does not fit, or that nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PriceError {
    /// Above [`Usd::MAX`]; a cost is never cut down to fit.
    #[error("the cost is above the largest amount of 9007199.25 USD")]
    TooLarge,
    /// The call used, or may use, what the model has no price for. It is not free.
    #[error("the model has no price for {0}")]
    Unpriced(&'static str),
    /// The model is billed by what nobody counts here: seconds, pages, characters.
    #[error("the model is billed by what its usage does not count")]
    Unmetered,
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

    /// `dollars` for one unit, as a search or a request is priced; `None` above 9.007 USD.
    ///
    /// ```
    /// use leash_budget::Price;
    ///
    /// let search = Price::each("0.01".parse()?);
    /// assert_eq!(search, Some(Price::per_million("10000".parse()?)));
    /// # Ok::<(), leash_core::UsdError>(())
    /// ```
    #[must_use]
    pub fn each(dollars: Usd) -> Option<Self> {
        let nanos = dollars.as_nanos().checked_mul(1_000_000)?;
        Usd::from_nanos(nanos).ok().map(Self)
    }

    /// What a million units cost.
    #[must_use]
    pub const fn as_per_million(self) -> Usd {
        self.0
    }

    /// Exact cost of `units`, in millionths of a nano-dollar. Fits: 2⁶⁴ × 2⁵³ < 2¹²⁸.
    pub(crate) fn micro_nanos(self, units: u64) -> u128 {
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

/// What each kind of what is billed costs, a million of it.
///
/// A kind of token without a price of its own has that of the kind it belongs to: what is cached or heard or seen that of
/// `input`, an hour in the cache that of five minutes, reasoning that of `output`. What is left without a price is not
/// free: a call that used it has no cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Input that is neither read from nor written to a cache.
    pub input: Option<Price>,
    /// Output.
    pub output: Option<Price>,
    /// Output that was reasoning.
    pub reasoning: Option<Price>,
    /// Input read from the cache.
    pub cache_read: Option<Price>,
    /// Input written to the cache for five minutes.
    pub cache_write: Option<Price>,
    /// Input written to the cache for an hour.
    pub cache_write_1h: Option<Price>,
    /// Input that is sound.
    pub input_audio: Option<Price>,
    /// Input that is images.
    pub input_image: Option<Price>,
    /// Sound read from the cache.
    pub cache_read_audio: Option<Price>,
    /// Images read from the cache.
    pub cache_read_image: Option<Price>,
    /// Output that is sound.
    pub output_audio: Option<Price>,
    /// Output that is images.
    pub output_image: Option<Price>,
    /// Each call, whatever it uses.
    pub request: Option<Price>,
    /// Searches on the web that the provider runs for the model.
    pub web_search: Option<Price>,
    /// Searches in stored files that the provider runs for the model.
    pub file_search: Option<Price>,
    /// Containers in which the provider runs code for the model.
    pub code_execution: Option<Price>,
    /// Uses of any other tool that the provider runs for the model.
    pub other_tool: Option<Price>,
}

impl Rates {
    /// With every kind of token priced that belongs to a kind that is.
    fn filled(self) -> Self {
        let cache_read = self.cache_read.or(self.input);
        let cache_write = self.cache_write.or(self.input);
        Self {
            reasoning: self.reasoning.or(self.output),
            cache_read,
            cache_write,
            cache_write_1h: self.cache_write_1h.or(cache_write),
            input_audio: self.input_audio.or(self.input),
            input_image: self.input_image.or(self.input),
            // Cached sound is both; where neither says what both cost together, the dearer one.
            cache_read_audio: self.cache_read_audio.or(self.input_audio.max(cache_read)),
            cache_read_image: self.cache_read_image.or(self.input_image.max(cache_read)),
            output_audio: self.output_audio.or(self.output),
            output_image: self.output_image.or(self.output),
            ..self
        }
    }

    /// These prices, and those of `base` where these say nothing.
    pub(crate) fn over(self, base: Self) -> Self {
        Self {
            input: self.input.or(base.input),
            output: self.output.or(base.output),
            reasoning: self.reasoning.or(base.reasoning),
            cache_read: self.cache_read.or(base.cache_read),
            cache_write: self.cache_write.or(base.cache_write),
            cache_write_1h: self.cache_write_1h.or(base.cache_write_1h),
            input_audio: self.input_audio.or(base.input_audio),
            input_image: self.input_image.or(base.input_image),
            cache_read_audio: self.cache_read_audio.or(base.cache_read_audio),
            cache_read_image: self.cache_read_image.or(base.cache_read_image),
            output_audio: self.output_audio.or(base.output_audio),
            output_image: self.output_image.or(base.output_image),
            request: self.request.or(base.request),
            web_search: self.web_search.or(base.web_search),
            file_search: self.file_search.or(base.file_search),
            code_execution: self.code_execution.or(base.code_execution),
            other_tool: self.other_tool.or(base.other_tool),
        }
    }

    /// What `usage` costs, in millionths of a nano-dollar.
    fn micro_nanos(self, usage: &Usage) -> Result<u128, PriceError> {
        let rates = self.filled();
        let input = usage
            .input_tokens
            .saturating_sub(usage.input_audio_tokens)
            .saturating_sub(usage.input_image_tokens);
        let cache_read = usage
            .cache_read_tokens
            .saturating_sub(usage.cache_read_audio_tokens)
            .saturating_sub(usage.cache_read_image_tokens);
        let output = usage
            .output_tokens
            .saturating_sub(usage.reasoning_tokens)
            .saturating_sub(usage.output_audio_tokens)
            .saturating_sub(usage.output_image_tokens);
        let tokens = [
            (rates.input, input, "input"),
            (rates.output, output, "output"),
            (rates.reasoning, usage.reasoning_tokens, "output"),
            (rates.cache_read, cache_read, "input"),
            (rates.cache_write, usage.cache_write_tokens, "input"),
            (rates.cache_write_1h, usage.cache_write_1h_tokens, "input"),
            (rates.input_audio, usage.input_audio_tokens, "sound"),
            (rates.input_image, usage.input_image_tokens, "images"),
            (rates.cache_read_audio, usage.cache_read_audio_tokens, "sound"),
            (rates.cache_read_image, usage.cache_read_image_tokens, "images"),
            (rates.output_audio, usage.output_audio_tokens, "sound"),
            (rates.output_image, usage.output_image_tokens, "images"),
        ];
        let apiece = [
            (rates.web_search, usage.web_search_requests, "searches on the web"),
            (rates.file_search, usage.file_search_requests, "searches in files"),
            (rates.code_execution, usage.code_executions, CODE),
            (rates.other_tool, usage.other_tool_requests, OTHER_TOOLS),
        ];
        let request = rates.request.unwrap_or_default().micro_nanos(1);
        let tokens = with_surcharge(sum(&tokens, 0)?, usage.surcharge_percent)?;
        sum(&apiece, request)?
            .checked_add(tokens)
            .ok_or(PriceError::TooLarge)
    }

    /// The dearest that any token of the input can cost.
    fn dearest_input(self, load: &Load) -> Option<Price> {
        let rates = self.filled();
        let mut dearest = rates.input.max(rates.cache_read);
        if load.writes_cache {
            dearest = dearest.max(rates.cache_write).max(rates.cache_write_1h);
        }
        if load.has_media {
            dearest = dearest
                .max(rates.input_audio)
                .max(rates.input_image)
                .max(rates.cache_read_audio)
                .max(rates.cache_read_image);
        }
        dearest
    }

    /// The dearest that any token of the output can cost.
    fn dearest_output(self, load: &Load) -> Option<Price> {
        let rates = self.filled();
        // Models that draw do so unasked; to speak they have to be asked.
        let dearest = rates.output.max(rates.reasoning).max(rates.output_image);
        if load.has_media {
            dearest.max(rates.output_audio)
        } else {
            dearest
        }
    }

    /// The dearer of both, kind by kind.
    fn dearer(self, other: Self) -> Self {
        let (a, b) = (self.filled(), other.filled());
        Self {
            input: a.input.max(b.input),
            output: a.output.max(b.output),
            reasoning: a.reasoning.max(b.reasoning),
            cache_read: a.cache_read.max(b.cache_read),
            cache_write: a.cache_write.max(b.cache_write),
            cache_write_1h: a.cache_write_1h.max(b.cache_write_1h),
            input_audio: a.input_audio.max(b.input_audio),
            input_image: a.input_image.max(b.input_image),
            cache_read_audio: a.cache_read_audio.max(b.cache_read_audio),
            cache_read_image: a.cache_read_image.max(b.cache_read_image),
            output_audio: a.output_audio.max(b.output_audio),
            output_image: a.output_image.max(b.output_image),
            request: a.request.max(b.request),
            web_search: a.web_search.max(b.web_search),
            file_search: a.file_search.max(b.file_search),
            code_execution: a.code_execution.max(b.code_execution),
            other_tool: a.other_tool.max(b.other_tool),
        }
    }
}

pub(crate) const ADVICE: &str = "the model that it may ask for advice";
const CODE: &str = "running code";
const OTHER_TOOLS: &str = "the tools that the provider runs: give it one as `other_tool`";

/// What so many units cost at these prices, and `more`.
fn sum(lines: &[(Option<Price>, u64, &'static str)], more: u128) -> Result<u128, PriceError> {
    let used = lines.iter().filter(|(_, units, _)| *units > 0);
    used.into_iter().try_fold(more, |sum, (rate, units, what)| {
        let rate = rate.ok_or(PriceError::Unpriced(what))?;
        sum.checked_add(rate.micro_nanos(*units))
            .ok_or(PriceError::TooLarge)
    })
}

/// `micro_nanos` and so many percent of it, rounded up; a sum of such is rounded up once more, which changes nothing.
fn with_surcharge(micro_nanos: u128, percent: u8) -> Result<u128, PriceError> {
    if percent == 0 {
        return Ok(micro_nanos);
    }
    let factor = u128::from(percent).saturating_add(100);
    let hundredths = micro_nanos.checked_mul(factor).ok_or(PriceError::TooLarge)?;
    Ok(hundredths.div_ceil(100))
}

/// The prices that hold when more than so many input tokens go in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriceTier {
    /// Input tokens of all kinds, cached ones included, above which the tier holds for the whole call.
    pub above_input_tokens: u64,
    /// The prices then, all of them.
    pub rates: Rates,
}

/// The prices of one service tier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tariff {
    base: Rates,
    /// Ascending by `above_input_tokens`.
    tiers: Vec<PriceTier>,
}

impl Tariff {
    /// `base` for any call, and `tiers` for those with long inputs, in any order.
    #[must_use]
    pub fn new(base: Rates, mut tiers: Vec<PriceTier>) -> Self {
        tiers.sort_by_key(|tier| tier.above_input_tokens);
        Self { base, tiers }
    }

    /// The prices of a call with so many input tokens.
    #[must_use]
    pub fn rates(&self, input_tokens: u64) -> &Rates {
        self.tiers
            .iter()
            .rev()
            .find(|tier| input_tokens > tier.above_input_tokens)
            .map_or(&self.base, |tier| &tier.rates)
    }

    /// The dearer of both, for any call.
    fn dearer(&self, other: &Self) -> Self {
        let mut starts: Vec<u64> = self
            .tiers
            .iter()
            .chain(&other.tiers)
            .map(|tier| tier.above_input_tokens)
            .collect();
        starts.sort_unstable();
        starts.dedup();
        let tiers = starts.into_iter().map(|above_input_tokens| {
            let within = above_input_tokens.saturating_add(1);
            PriceTier {
                above_input_tokens,
                rates: self.rates(within).dearer(*other.rates(within)),
            }
        });
        Self {
            base: self.base.dearer(other.base),
            tiers: tiers.collect(),
        }
    }

    /// The prices of every call with at most so many input tokens.
    fn up_to(&self, input_tokens: u64) -> impl Iterator<Item = &Rates> {
        let above = self
            .tiers
            .iter()
            .filter(move |tier| input_tokens > tier.above_input_tokens);
        std::iter::once(&self.base).chain(above.map(|tier| &tier.rates))
    }
}

/// The most that a call may use.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Load {
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) server_tool_uses: u64,
    pub(crate) writes_cache: bool,
    pub(crate) has_media: bool,
    pub(crate) wants_sound: bool,
    pub(crate) runs_code: bool,
    pub(crate) runs_other_tools: bool,
    pub(crate) service_tier: ServiceTier,
    pub(crate) surcharge_percent: u8,
}

/// What a [`Load`] costs at most: `fixed` and `each` for every token of output, in millionths of a nano-dollar.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dearest {
    pub(crate) fixed: u128,
    pub(crate) each: u128,
}

impl Dearest {
    /// For so many tokens of output.
    pub(crate) fn amount(self, output_tokens: u64) -> Result<Usd, PriceError> {
        self.each
            .checked_mul(u128::from(output_tokens))
            .and_then(|output| output.checked_add(self.fixed))
            .ok_or(PriceError::TooLarge)
            .and_then(round_up)
    }

    /// The most tokens of output that `available` pays for; `None` where it does not even pay the rest.
    pub(crate) fn affords(self, available: Usd) -> Option<u64> {
        let left = u128::from(available.as_nanos())
            .checked_mul(MILLION)?
            .checked_sub(self.fixed)?;
        let tokens = left.checked_div(self.each);
        Some(tokens.map_or(u64::MAX, |tokens| u64::try_from(tokens).unwrap_or(u64::MAX)))
    }
}

/// What a model costs, and how much it takes and gives at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPrice {
    /// The list price.
    pub standard: Tariff,
    /// The prices of other service tiers.
    pub service_tiers: Vec<(ServiceTier, Tariff)>,
    /// The most tokens the model takes, where known.
    pub context_window: Option<u64>,
    /// The most output tokens the model gives, where known.
    pub max_output_tokens: Option<u64>,
    /// Whether [`Usage`] counts all that the model is billed by.
    pub is_metered: bool,
    /// How many percent dearer a token is where the provider keeps what it processes in one region.
    pub regional_percent: u8,
    /// What the model costs that this one may ask for advice, for a call that lets it
    /// ([`ModelCall::advisor`](leash_core::ModelCall::advisor)).
    pub advisor: Option<Arc<Self>>,
}

impl ModelPrice {
    /// A model with one price for input, cached or not, and one for output.
    #[must_use]
    pub fn flat(input: Price, output: Price) -> Self {
        Self::new(Rates {
            input: Some(input),
            output: Some(output),
            ..Rates::default()
        })
    }

    /// A model with the same prices for every call.
    #[must_use]
    pub fn new(rates: Rates) -> Self {
        Self {
            standard: Tariff::new(rates, Vec::new()),
            service_tiers: Vec::new(),
            context_window: None,
            max_output_tokens: None,
            is_metered: true,
            regional_percent: 0,
            advisor: None,
        }
    }

    /// How many percent the provider may add to the price of every token of `call`.
    pub(crate) fn surcharge_of(&self, call: &ModelCall) -> u8 {
        call.surcharge_percent
            .max(if call.in_region { self.regional_percent } else { 0 })
    }

    /// What `call` costs that used `usage`, as the provider said, with what it did not say and the call tells: the
    /// service tier, where it is processed, how often the provider ran tools.
    ///
    /// # Errors
    /// As [`ModelPrice::cost`].
    pub fn cost_of(&self, call: &ModelCall, usage: &Usage) -> Result<Usd, PriceError> {
        let mut usage = *usage;
        usage.service_tier = usage.service_tier.or(call.service_tier);
        if call.in_region {
            usage.surcharge_percent = usage.surcharge_percent.max(self.regional_percent);
        }
        if call.code_is_free {
            usage.code_executions = 0;
        }
        if call.hides_tool_uses {
            let most = call.max_server_tool_uses.unwrap_or(0);
            let uses = if call.runs_other_tools {
                &mut usage.other_tool_requests
            } else {
                &mut usage.web_search_requests
            };
            *uses = most.max(*uses);
        }
        self.cost(&usage)
    }

    /// The same for a call that may ask a model for advice that costs `advisor`.
    #[must_use]
    pub fn with_advisor(self, advisor: Arc<Self>) -> Self {
        Self {
            advisor: Some(advisor),
            ..self
        }
    }

    /// What costs at least as much as either of both, for any call: for one that begins under one price and may be billed
    /// at the other.
    pub(crate) fn dearer(&self, other: &Self) -> Self {
        let tier = |name: ServiceTier| {
            let (own, others) = (self.tariff(name), other.tariff(name));
            (
                name,
                own.unwrap_or(&self.standard)
                    .dearer(others.unwrap_or(&other.standard)),
            )
        };
        let mut names: Vec<ServiceTier> = Vec::new();
        for (name, _) in self.service_tiers.iter().chain(&other.service_tiers) {
            if !names.contains(name) {
                names.push(*name);
            }
        }
        Self {
            standard: self.standard.dearer(&other.standard),
            service_tiers: names.into_iter().map(tier).collect(),
            context_window: self.context_window.max(other.context_window),
            max_output_tokens: self.max_output_tokens.max(other.max_output_tokens),
            is_metered: self.is_metered && other.is_metered,
            regional_percent: self.regional_percent.max(other.regional_percent),
            advisor: self.advisor.clone(),
        }
    }

    fn tariff(&self, tier: ServiceTier) -> Option<&Tariff> {
        let listed = self.service_tiers.iter().find(|(name, _)| *name == tier);
        listed.map(|(_, tariff)| tariff)
    }

    fn tariffs(&self) -> impl Iterator<Item = &Tariff> {
        std::iter::once(&self.standard).chain(self.service_tiers.iter().map(|(_, tariff)| tariff))
    }

    /// What a call that used `usage` costs, rounded up once.
    ///
    /// In a service tier without a price of its own, it costs what it costs in the dearest; one that only ever makes
    /// a call cheaper (`flex`, `batch`) has the list price then.
    ///
    /// # Errors
    /// [`PriceError::TooLarge`] beyond [`Usd::MAX`], [`PriceError::Unpriced`] and [`PriceError::Unmetered`] where
    /// nobody knows the cost.
    pub fn cost(&self, usage: &Usage) -> Result<Usd, PriceError> {
        let own = self.micro_nanos(usage)?;
        if usage.advice.is_none() {
            return round_up(own);
        }
        let advisor = self.advisor.as_deref().ok_or(PriceError::Unpriced(ADVICE))?;
        let advice = advisor.micro_nanos(&Usage {
            input_tokens: usage.advice.input_tokens,
            output_tokens: usage.advice.output_tokens,
            cache_read_tokens: usage.advice.cache_read_tokens,
            cache_write_tokens: usage.advice.cache_write_tokens,
            cache_write_1h_tokens: usage.advice.cache_write_1h_tokens,
            service_tier: usage.service_tier,
            surcharge_percent: usage.surcharge_percent,
            ..Usage::default()
        })?;
        round_up(own.checked_add(advice).ok_or(PriceError::TooLarge)?)
    }

    /// What `usage` costs without advice, in millionths of a nano-dollar.
    fn micro_nanos(&self, usage: &Usage) -> Result<u128, PriceError> {
        if !self.is_metered {
            return Err(PriceError::Unmetered);
        }
        let input_tokens = usage.total_input_tokens();
        let in_tariff = |tariff: &Tariff| tariff.rates(input_tokens).micro_nanos(usage);
        let exact = match (usage.service_tier, self.tariff(usage.service_tier)) {
            (_, Some(tariff)) => in_tariff(tariff)?,
            (ServiceTier::Unsaid | ServiceTier::Standard | ServiceTier::Flex | ServiceTier::Batch, None) => {
                in_tariff(&self.standard)?
            }
            (_, None) => self
                .tariffs()
                .map(in_tariff)
                .try_fold(0, |dearest: u128, one| one.map(|one| dearest.max(one)))?,
        };
        Ok(exact)
    }

    /// What so much use costs at the dearest that could apply.
    ///
    /// A call that asks for no tier may be served in the priority tier, where the project is set so; one that asks for
    /// a tier may be served in the standard one instead.
    pub(crate) fn dearest(&self, load: &Load) -> Result<Dearest, PriceError> {
        if !self.is_metered {
            return Err(PriceError::Unmetered);
        }
        let own = || {
            let own = self.tariff(load.service_tier);
            own.ok_or(PriceError::Unpriced("the service tier")).map(Some)
        };
        let (second, third) = match load.service_tier {
            ServiceTier::Unsaid => (self.tariff(ServiceTier::Priority), None),
            ServiceTier::Standard | ServiceTier::Flex | ServiceTier::Batch => (None, None),
            // OpenAI has both words for one tier, and answers with the other one.
            ServiceTier::Fast => (own()?, self.tariff(ServiceTier::Priority)),
            ServiceTier::Priority => (own()?, self.tariff(ServiceTier::Fast)),
            _ => (own()?, None),
        };
        let rates = || {
            std::iter::once(&self.standard)
                .chain(second)
                .chain(third)
                .flat_map(|tariff| tariff.up_to(load.input_tokens))
        };
        let priced = |price: Option<Price>, units: u64, what| match price {
            Some(price) => Ok(price),
            None if units == 0 => Ok(Price::FREE),
            None => Err(PriceError::Unpriced(what)),
        };
        if load.wants_sound && rates().all(|rates| rates.output_audio.is_none()) {
            return Err(PriceError::Unpriced("sound"));
        }
        let input = rates().filter_map(|rates| rates.dearest_input(load)).max();
        let output = rates().filter_map(|rates| rates.dearest_output(load)).max();
        let tool = rates()
            .filter_map(|rates| rates.web_search.max(rates.file_search))
            .max();
        let request = rates().filter_map(|rates| rates.request).max();
        let input = priced(input, load.input_tokens, "input")?.micro_nanos(load.input_tokens);
        let mut tool = priced(tool, load.server_tool_uses, "server tools")?;
        if load.runs_code {
            let code = rates().filter_map(|rates| rates.code_execution).max();
            tool = tool.max(priced(code, load.server_tool_uses, CODE)?);
        }
        if load.runs_other_tools {
            let other = rates().filter_map(|rates| rates.other_tool).max();
            tool = tool.max(priced(other, load.server_tool_uses, OTHER_TOOLS)?);
        }
        let tools = tool.micro_nanos(load.server_tool_uses);
        let each = priced(output, load.output_tokens, "output")?.micro_nanos(1);
        let each = with_surcharge(each, load.surcharge_percent)?;
        let fixed = with_surcharge(input, load.surcharge_percent)?
            .checked_add(tools)
            .and_then(|sum| sum.checked_add(request.unwrap_or_default().micro_nanos(1)))
            .ok_or(PriceError::TooLarge)?;
        Ok(Dearest { fixed, each })
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "tests")]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usd(nanos: u64) -> Usd {
        Usd::from_nanos(nanos).unwrap()
    }

    fn price() -> impl Strategy<Value = Price> {
        (0..=Usd::MAX.as_nanos() >> 20).prop_map(|nanos| Price::per_million(usd(nanos)))
    }

    fn rates() -> impl Strategy<Value = Rates> {
        let token = || proptest::option::of(price());
        let tokens = (
            price(),
            price(),
            token(),
            token(),
            token(),
            token(),
            proptest::array::uniform6(proptest::option::of(price())),
        );
        (tokens, token(), price(), price()).prop_map(|((a, b, c, d, e, f, media), request, web, file)| {
            let [
                input_audio,
                input_image,
                cache_read_audio,
                cache_read_image,
                output_audio,
                output_image,
            ] = media;
            Rates {
                input: Some(a),
                output: Some(b),
                reasoning: c,
                cache_read: d,
                cache_write: e,
                cache_write_1h: f,
                input_audio,
                input_image,
                cache_read_audio,
                cache_read_image,
                output_audio,
                output_image,
                request,
                web_search: Some(web),
                file_search: Some(file),
                code_execution: Some(file),
                other_tool: Some(web),
            }
        })
    }

    /// The same prices, all of them twice as high.
    fn doubled(rates: &Rates) -> Rates {
        let twice = |price: Option<Price>| price.map(|price| Price::per_million(usd(price.0.as_nanos() * 2)));
        Rates {
            input: twice(rates.input),
            output: twice(rates.output),
            reasoning: twice(rates.reasoning),
            cache_read: twice(rates.cache_read),
            cache_write: twice(rates.cache_write),
            cache_write_1h: twice(rates.cache_write_1h),
            input_audio: twice(rates.input_audio),
            input_image: twice(rates.input_image),
            cache_read_audio: twice(rates.cache_read_audio),
            cache_read_image: twice(rates.cache_read_image),
            output_audio: twice(rates.output_audio),
            output_image: twice(rates.output_image),
            request: rates.request,
            web_search: rates.web_search,
            file_search: rates.file_search,
            code_execution: rates.code_execution,
            other_tool: rates.other_tool,
        }
    }

    /// A model with a dearer tier for long inputs and dearer service tiers.
    pub(crate) fn model() -> impl Strategy<Value = ModelPrice> {
        (rates(), rates(), 1..1_000_000_u64).prop_map(|(standard, priority, above)| {
            let tariff = |rates| {
                let tier = PriceTier {
                    above_input_tokens: above,
                    rates: doubled(&rates),
                };
                Tariff::new(rates, vec![tier])
            };
            ModelPrice {
                standard: tariff(standard),
                service_tiers: vec![
                    (ServiceTier::Priority, tariff(priority)),
                    (ServiceTier::Flex, Tariff::new(standard, Vec::new())),
                ],
                ..ModelPrice::new(standard)
            }
        })
    }

    fn tier() -> impl Strategy<Value = ServiceTier> {
        prop_oneof![
            Just(ServiceTier::Unsaid),
            Just(ServiceTier::Standard),
            Just(ServiceTier::Flex),
            Just(ServiceTier::Batch),
            Just(ServiceTier::Priority),
            Just(ServiceTier::Fast),
            Just(ServiceTier::Other),
        ]
    }

    pub(crate) fn usage() -> impl Strategy<Value = Usage> {
        let n = || prop_oneof![0..2_000_u64, 0..4_000_000_u64, any::<u64>()];
        let part = || 0..=100_u64;
        let parts = proptest::array::uniform7(part());
        let more = prop_oneof![Just(0_u8), any::<u8>()];
        (n(), n(), n(), n(), n(), 0..5_u64, parts, tier(), more).prop_map(
            |(a, b, c, d, e, f, parts, tier, more)| {
                // A third of the whole at most, so that no parts are more than it.
                let of = |whole: u64, part: u64| whole / 300 * part;
                Usage {
                    input_tokens: a,
                    output_tokens: b,
                    cache_read_tokens: c,
                    cache_write_tokens: d,
                    cache_write_1h_tokens: e,
                    web_search_requests: f,
                    file_search_requests: 4 - f,
                    code_executions: 0,
                    other_tool_requests: 0,
                    advice: leash_core::Advice::default(),
                    reasoning_tokens: of(b, parts[0]),
                    output_audio_tokens: of(b, parts[1]),
                    output_image_tokens: of(b, parts[2]),
                    input_audio_tokens: of(a, parts[3]),
                    input_image_tokens: of(a, parts[4]),
                    cache_read_audio_tokens: of(c, parts[5]),
                    cache_read_image_tokens: of(c, parts[6]),
                    service_tier: tier,
                    surcharge_percent: more,
                }
            },
        )
    }

    /// What it costs exactly, in hundred-millionths of a nano-dollar, in 256 bits: `(high, low)`.
    /// Written without the code under test: it chooses the price itself and sums with carry.
    fn oracle(model: &ModelPrice, usage: &Usage) -> (u128, u128) {
        let total = u128::from(usage.input_tokens)
            + u128::from(usage.cache_read_tokens)
            + u128::from(usage.cache_write_tokens)
            + u128::from(usage.cache_write_1h_tokens);
        let of = |tariff: &Tariff| {
            let mut rates = tariff.base;
            for tier in &tariff.tiers {
                if total > u128::from(tier.above_input_tokens) {
                    rates = tier.rates;
                }
            }
            let pick = |chain: &[Option<Price>]| {
                let first = chain.iter().find_map(|price| *price);
                u128::from(first.map_or(0, |price| price.0.as_nanos()))
            };
            let dearer = |own: Option<Price>, a: Option<Price>, b: u128| {
                pick(&[own]).max(if own.is_some() { 0 } else { pick(&[a]).max(b) })
            };
            let r = rates;
            let read = pick(&[r.cache_read, r.input]);
            let media_in = usage.input_audio_tokens + usage.input_image_tokens;
            let media_read = usage.cache_read_audio_tokens + usage.cache_read_image_tokens;
            let special = usage.reasoning_tokens + usage.output_audio_tokens + usage.output_image_tokens;
            let lines: [(u128, u64); 15] = [
                (pick(&[r.input]), usage.input_tokens - media_in),
                (pick(&[r.output]), usage.output_tokens - special),
                (pick(&[r.reasoning, r.output]), usage.reasoning_tokens),
                (read, usage.cache_read_tokens - media_read),
                (pick(&[r.cache_write, r.input]), usage.cache_write_tokens),
                (
                    pick(&[r.cache_write_1h, r.cache_write, r.input]),
                    usage.cache_write_1h_tokens,
                ),
                (pick(&[r.input_audio, r.input]), usage.input_audio_tokens),
                (pick(&[r.input_image, r.input]), usage.input_image_tokens),
                (
                    dearer(r.cache_read_audio, r.input_audio, read),
                    usage.cache_read_audio_tokens,
                ),
                (
                    dearer(r.cache_read_image, r.input_image, read),
                    usage.cache_read_image_tokens,
                ),
                (pick(&[r.output_audio, r.output]), usage.output_audio_tokens),
                (pick(&[r.output_image, r.output]), usage.output_image_tokens),
                (pick(&[r.request]), 1),
                (pick(&[r.web_search]), usage.web_search_requests),
                (pick(&[r.file_search]), usage.file_search_requests),
            ];
            let (mut high, mut low) = (0_u128, 0_u128);
            for (at, (price, units)) in lines.into_iter().enumerate() {
                let percent = if at < 12 {
                    100 + u128::from(usage.surcharge_percent)
                } else {
                    100
                };
                let (sum, carried) = low.overflowing_add(price * u128::from(units) * percent);
                low = sum;
                high += u128::from(carried);
            }
            (high, low)
        };
        match usage.service_tier {
            ServiceTier::Priority => of(&model.service_tiers[0].1),
            ServiceTier::Flex => of(&model.service_tiers[1].1),
            ServiceTier::Fast | ServiceTier::Other => of(&model.standard)
                .max(of(&model.service_tiers[0].1))
                .max(of(&model.service_tiers[1].1)),
            _ => of(&model.standard),
        }
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
                Err(error) => {
                    prop_assert_eq!(error, PriceError::TooLarge);
                    prop_assert!(exact.div_ceil(MILLION) > u128::from(Usd::MAX.as_nanos()));
                }
            }
        }

        #[test]
        fn a_call_costs_the_exact_sum_of_all_it_used_rounded_up_once(model in model(), usage in usage()) {
            let (high, low) = oracle(&model, &usage);
            match model.cost(&usage) {
                Ok(cost) => {
                    let charged = u128::from(cost.as_nanos()) * MILLION * 100;
                    prop_assert!(high == 0 && charged >= low && charged - low < MILLION * 100);
                }
                Err(error) => {
                    prop_assert_eq!(error, PriceError::TooLarge);
                    prop_assert!(high > 0 || low.div_ceil(MILLION * 100) > u128::from(Usd::MAX.as_nanos()));
                }
            }
        }

        #[test]
        fn no_usage_costs_more_than_the_dearest_of_its_sums(model in model(), usage in usage()) {
            let load = Load {
                input_tokens: usage.total_input_tokens(),
                output_tokens: usage.output_tokens,
                server_tool_uses: usage.web_search_requests + usage.file_search_requests,
                writes_cache: true,
                has_media: true,
                wants_sound: false,
                runs_code: false,
                runs_other_tools: false,
                service_tier: usage.service_tier,
                surcharge_percent: usage.surcharge_percent,
            };
            let dearest = model.dearest(&load).and_then(|dearest| dearest.amount(load.output_tokens));
            match (model.cost(&usage), dearest) {
                (Ok(cost), Ok(dearest)) => prop_assert!(cost <= dearest),
                (Err(_), Ok(dearest)) => prop_assert!(false, "cost overflows, {dearest} does not"),
                (_, Err(_)) => {}
            }
        }

        #[test]
        fn a_call_without_a_tier_may_be_served_in_the_priority_tier(model in model(), usage in usage()) {
            let load = Load {
                input_tokens: usage.total_input_tokens(),
                output_tokens: usage.output_tokens,
                server_tool_uses: 4,
                writes_cache: true,
                has_media: true,
                wants_sound: false,
                runs_code: false,
                runs_other_tools: false,
                service_tier: ServiceTier::Unsaid,
                surcharge_percent: usage.surcharge_percent,
            };
            let served = Usage { service_tier: ServiceTier::Priority, ..usage };
            let dearest = model.dearest(&load).and_then(|dearest| dearest.amount(load.output_tokens));
            if let Ok(dearest) = dearest {
                prop_assert!(model.cost(&served).unwrap() <= dearest);
            }
        }

        #[test]
        fn more_of_anything_never_costs_less(model in model(), usage in usage(), more in 0..1_000_000_u64, kind in 0..7) {
            let mut larger = usage;
            let slot = match kind {
                0 => &mut larger.input_tokens,
                1 => &mut larger.output_tokens,
                2 => &mut larger.cache_read_tokens,
                3 => &mut larger.cache_write_tokens,
                4 => &mut larger.cache_write_1h_tokens,
                5 => &mut larger.web_search_requests,
                _ => &mut larger.file_search_requests,
            };
            *slot = slot.saturating_add(more);
            if let (Ok(cost), Ok(larger)) = (model.cost(&usage), model.cost(&larger)) {
                prop_assert!(cost <= larger);
            }
        }
    }

    #[test]
    fn what_has_no_price_is_not_free() {
        let some = Some(Price::per_million(usd(1)));
        let model = ModelPrice::new(Rates {
            input: some,
            ..Rates::default()
        });
        let of = |usage: Usage| model.cost(&usage);
        assert!(
            of(Usage {
                input_tokens: 1,
                ..Usage::default()
            })
            .is_ok()
        );
        for usage in [
            Usage {
                output_tokens: 1,
                ..Usage::default()
            },
            Usage {
                web_search_requests: 1,
                ..Usage::default()
            },
            Usage {
                file_search_requests: 1,
                ..Usage::default()
            },
        ] {
            assert!(matches!(of(usage), Err(PriceError::Unpriced(_))), "{usage:?}");
        }
        let unmetered = ModelPrice {
            is_metered: false,
            ..model.clone()
        };
        assert_eq!(unmetered.cost(&Usage::default()), Err(PriceError::Unmetered));
    }

    #[test]
    fn an_answer_that_speaks_is_refused_where_sound_has_no_price() {
        let some = Some(Price::per_million(usd(1)));
        let load = Load {
            input_tokens: 1,
            output_tokens: 1,
            server_tool_uses: 0,
            writes_cache: false,
            has_media: true,
            wants_sound: true,
            runs_code: false,
            runs_other_tools: false,
            service_tier: ServiceTier::Standard,
            surcharge_percent: 0,
        };
        let text = Rates {
            input: some,
            output: some,
            ..Rates::default()
        };
        assert!(matches!(
            ModelPrice::new(text).dearest(&load),
            Err(PriceError::Unpriced("sound"))
        ));
        let sound = Rates {
            output_audio: some,
            ..text
        };
        assert!(ModelPrice::new(sound).dearest(&load).is_ok());
    }
}
