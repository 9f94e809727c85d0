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
/// It counts the whole request text, JSON syntax included, which is more than the model is given; where that has escapes,
/// which can take fewer tokens than what they stand for, each text in it as well, and the larger count is the bound. The
/// first count loads the vocabulary, which takes about 0.3 s. Anthropic publishes no tokenizer, so it has no count for its
/// models, nor for those of others that speak OpenAI's format, of whose tokenizer the name says nothing.
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
            .or_else(|error| {
                // Newer models have the newest vocabulary that is known.
                if is_openai(model) {
                    tiktoken_rs::bpe_for_model("gpt-4o")
                } else {
                    Err(error)
                }
            })
            .ok()?;
        let of = |text: &str| u64::try_from(bpe.count_ordinary(text)).ok();
        let mut tokens = of(text)?;
        if text.contains('\\')
            && let Ok(json) = serde_json::from_str(text)
        {
            tokens = tokens.max(within(&json, &of)?);
        }
        tokens.checked_add(tokens / 8)?.checked_add(64)
    }
}

/// Whether a name is one of OpenAI's own.
#[cfg(feature = "tiktoken")]
fn is_openai(model: &str) -> bool {
    let bare = model.strip_prefix("ft:").unwrap_or(model);
    let reasons = bare
        .strip_prefix('o')
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
    reasons
        || ["gpt-", "chatgpt-", "codex-"]
            .into_iter()
            .any(|start| bare.starts_with(start))
}

/// The tokens of all texts in `json`, names of members among them, and a byte each for what stands between.
#[cfg(feature = "tiktoken")]
fn within(json: &serde_json::Value, of: &impl Fn(&str) -> Option<u64>) -> Option<u64> {
    use serde_json::Value;
    match json {
        Value::String(text) => of(text)?.checked_add(2),
        Value::Array(items) => items.iter().try_fold(2_u64, |sum, item| {
            sum.checked_add(within(item, of)?)?.checked_add(1)
        }),
        Value::Object(members) => members.iter().try_fold(2_u64, |sum, (name, value)| {
            let named = of(name)?.checked_add(within(value, of)?)?;
            sum.checked_add(named)?.checked_add(4)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => u64::try_from(json.to_string().len()).ok(),
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

    #[test]
    fn what_escapes_stand_for_is_in_the_count() {
        let bpe = tiktoken_rs::bpe_for_model("gpt-4o").unwrap();
        for text in [
            "\u{c}rac",
            "\text",
            "\nabla",
            "\rightarrow",
            "\u{8}egin",
            "\"",
            "\\",
            "\t\n",
            "\u{1}",
        ] {
            let text = text.repeat(500);
            let json = serde_json::json!({ "content": text }).to_string();
            let shown = u64::try_from(bpe.count_ordinary(&text)).unwrap();
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            let of = |text: &str| u64::try_from(bpe.count_ordinary(text)).ok();
            assert!(within(&value, &of).unwrap() > shown, "{text:.5}");
            assert!(
                TiktokenCounter.count("openai", "gpt-4o", &json).unwrap() > shown,
                "{text:.5}"
            );
        }
    }

    #[test]
    fn a_model_of_others_has_no_count() {
        for model in ["deepseek-v4-flash", "our-own", "ox", "claude-haiku-4-5"] {
            assert_eq!(TiktokenCounter.count("openai", model, "hi"), None, "{model}");
        }
        for model in [
            "gpt-6-sol",
            "ft:gpt-4o:acme::1",
            "o3",
            "o9-mini",
            "chatgpt-4o-latest",
        ] {
            assert!(TiktokenCounter.count("openai", model, "hi").is_some(), "{model}");
        }
    }
}
