//! What a call used: [`Usage`]. Knows no prices.

/// In which service tier a provider served a call. Tiers have prices of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServiceTier {
    /// Nobody said: the provider or the project decides (`auto`).
    #[default]
    Unsaid,
    /// The list price (`default`, `standard`).
    Standard,
    /// Slower and cheaper (`flex`).
    Flex,
    /// Answered later, and cheaper (`batch`).
    Batch,
    /// Faster and dearer (`priority`).
    Priority,
    /// Faster and dearer (`fast`).
    Fast,
    /// A word that nobody here knows.
    Other,
}

impl ServiceTier {
    /// The tier that providers call `word`, as a request or an answer has it.
    ///
    /// # Source
    /// OpenAI API reference, `service_tier`; Anthropic documentation, *Service tiers* and *Fast mode* (`speed`).
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        match word {
            "auto" => Self::Unsaid,
            "default" | "standard" | "standard_only" => Self::Standard,
            "flex" => Self::Flex,
            "batch" => Self::Batch,
            "priority" => Self::Priority,
            "fast" => Self::Fast,
            _ => Self::Other,
        }
    }

    /// This tier, or `other` where nobody said this one.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        match self {
            Self::Unsaid => other,
            said => said,
        }
    }
}

/// What another model used that was asked for advice, billed at its own price. The counts are disjoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    /// Input tokens that neither came from a cache nor were written to one.
    pub input_tokens: u64,
    /// Output tokens, reasoning included.
    pub output_tokens: u64,
    /// Input tokens read from the provider's cache.
    pub cache_read_tokens: u64,
    /// Input tokens written to the provider's cache for five minutes.
    pub cache_write_tokens: u64,
    /// Input tokens written to the provider's cache for an hour.
    pub cache_write_1h_tokens: u64,
}

impl Advice {
    /// Whether nobody was asked.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The larger count of each kind.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.max(other.input_tokens),
            output_tokens: self.output_tokens.max(other.output_tokens),
            cache_read_tokens: self.cache_read_tokens.max(other.cache_read_tokens),
            cache_write_tokens: self.cache_write_tokens.max(other.cache_write_tokens),
            cache_write_1h_tokens: self.cache_write_1h_tokens.max(other.cache_write_1h_tokens),
        }
    }
}

/// What a provider bills a call for.
///
/// The counts of tokens are disjoint: no token is in two of them. Those at the end whose names say so are parts of
/// one of the others instead: they say how many of its tokens have a price of their own.
///
/// Names are those of OpenTelemetry's `gen_ai.usage.*`. Providers differ in what contains what (OpenAI's
/// `prompt_tokens` contains the cached ones, Anthropic's `input_tokens` does not); here nothing overlaps, so a
/// cost is a sum of products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input tokens that neither came from a cache nor were written to one.
    pub input_tokens: u64,
    /// Output tokens, reasoning included.
    pub output_tokens: u64,
    /// Input tokens read from the provider's cache.
    pub cache_read_tokens: u64,
    /// Input tokens written to the provider's cache for five minutes (or the only duration there is).
    pub cache_write_tokens: u64,
    /// Input tokens written to the provider's cache for an hour.
    pub cache_write_1h_tokens: u64,
    /// How many of `output_tokens` were reasoning that nobody sees; zero where the provider does not say.
    pub reasoning_tokens: u64,
    /// Searches the provider ran on the web for the model, billed apiece.
    pub web_search_requests: u64,
    /// Searches the provider ran in stored files for the model, billed apiece.
    pub file_search_requests: u64,
    /// Containers in which the provider ran code for the model, billed apiece.
    pub code_executions: u64,
    /// Uses of any other tool that the provider ran for the model, billed apiece.
    pub other_tool_requests: u64,
    /// What the model used that this one asked for advice.
    pub advice: Advice,
    /// How many of `input_tokens` were sound.
    pub input_audio_tokens: u64,
    /// How many of `input_tokens` were images.
    pub input_image_tokens: u64,
    /// How many of `cache_read_tokens` were sound.
    pub cache_read_audio_tokens: u64,
    /// How many of `cache_read_tokens` were images.
    pub cache_read_image_tokens: u64,
    /// How many of `output_tokens` were sound.
    pub output_audio_tokens: u64,
    /// How many of `output_tokens` were images.
    pub output_image_tokens: u64,
    /// The tier that served the call, as the provider says.
    pub service_tier: ServiceTier,
    /// How many percent the provider adds to the price of every token, such as for inference in one country.
    pub surcharge_percent: u8,
}

impl Usage {
    /// The larger count of each kind: a stream's reports grow, and a smaller one does not take back a larger one.
    /// The tier is the one said last.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.max(other.input_tokens),
            output_tokens: self.output_tokens.max(other.output_tokens),
            cache_read_tokens: self.cache_read_tokens.max(other.cache_read_tokens),
            cache_write_tokens: self.cache_write_tokens.max(other.cache_write_tokens),
            cache_write_1h_tokens: self.cache_write_1h_tokens.max(other.cache_write_1h_tokens),
            reasoning_tokens: self.reasoning_tokens.max(other.reasoning_tokens),
            web_search_requests: self.web_search_requests.max(other.web_search_requests),
            file_search_requests: self.file_search_requests.max(other.file_search_requests),
            code_executions: self.code_executions.max(other.code_executions),
            other_tool_requests: self.other_tool_requests.max(other.other_tool_requests),
            advice: self.advice.max(other.advice),
            input_audio_tokens: self.input_audio_tokens.max(other.input_audio_tokens),
            input_image_tokens: self.input_image_tokens.max(other.input_image_tokens),
            cache_read_audio_tokens: self.cache_read_audio_tokens.max(other.cache_read_audio_tokens),
            cache_read_image_tokens: self.cache_read_image_tokens.max(other.cache_read_image_tokens),
            output_audio_tokens: self.output_audio_tokens.max(other.output_audio_tokens),
            output_image_tokens: self.output_image_tokens.max(other.output_image_tokens),
            service_tier: other.service_tier.or(self.service_tier),
            surcharge_percent: self.surcharge_percent.max(other.surcharge_percent),
        }
    }

    /// All input tokens, cached or not.
    #[must_use]
    pub fn total_input_tokens(self) -> u64 {
        self.input_tokens
            .saturating_add(self.cache_read_tokens)
            .saturating_add(self.cache_write_tokens)
            .saturating_add(self.cache_write_1h_tokens)
    }
}
