//! Counting tokens where bytes are too coarse a bound: [`TokenCounter`].

use std::fmt;

/// Counts what a text costs in tokens. Asked only where the bound by bytes does not fit under a cap.
pub trait TokenCounter: fmt::Debug + Send + Sync + 'static {
    /// An upper bound of the tokens of `text` for `model` at `provider`; `None` where it knows no tokenizer.
    fn count(&self, provider: &str, model: &str, text: &str) -> Option<u64>;
}

/// `OpenAI`'s tokenizers, through `tiktoken-rs`, with a margin of an eighth and 64 tokens for what the provider's
/// chat template adds.
///
/// It counts the whole request text, JSON syntax included, which is more than the model is given. The first
/// count loads the vocabulary, which takes about 0.3 s. Anthropic publishes no tokenizer, so it has no count
/// for its models.
#[cfg(feature = "tiktoken")]
#[derive(Clone, Copy, Debug, Default)]
pub struct TiktokenCounter;

#[cfg(feature = "tiktoken")]
impl TokenCounter for TiktokenCounter {
    fn count(&self, provider: &str, model: &str, text: &str) -> Option<u64> {
        if provider != "openai" {
            return None;
        }
        let bpe = tiktoken_rs::bpe_for_model(model)
            .or_else(|_| tiktoken_rs::bpe_for_model("gpt-4o"))
            .ok()?;
        let tokens = u64::try_from(bpe.count_ordinary(text)).ok()?;
        tokens.checked_add(tokens / 8)?.checked_add(64)
    }
}

#[cfg(all(test, feature = "tiktoken"))]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_below_the_bytes_of_ordinary_text_and_unknown_for_other_providers() {
        let text = "The quick brown fox jumps over the lazy dog. ".repeat(100);
        let count = TiktokenCounter.count("openai", "gpt-4o", &text).unwrap();
        assert!(count > 900 && count < 1_500, "{count}");
        assert_eq!(
            TiktokenCounter.count("anthropic", "claude-haiku-4-5", &text),
            None
        );
    }
}
