//! What a call used: [`Usage`]. Knows no prices.

/// What a provider bills a call for, in disjoint counts: no token is in two of them but `reasoning_tokens`.
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
}

impl Usage {
    /// The larger count of each kind: a stream's reports grow, and a smaller one does not take back a larger one.
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
