//! What a call can cost at most, before it is made: [`bound`].

use leash_core::{InputSize, ModelCall, Usd};

use crate::{ModelPrice, PriceError};

/// The most that a call can use and cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Input tokens of any kind.
    pub input_tokens: u64,
    /// Output tokens of all choices together.
    pub output_tokens: u64,
    /// The cost of both at the dearest price that could apply.
    pub amount: Usd,
}

/// Why a call has no bound. It is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BoundError {
    /// The request refers to input it does not hold, and the model's context window is not known.
    #[error(
        "the input has no upper bound: the request refers to content that it does not hold, and the context window of the model is not in the price table"
    )]
    Input,
    /// The request sets no maximum of output, and the model's own is not known.
    #[error(
        "the output has no upper bound: set `max_tokens`, `max_completion_tokens` or `max_output_tokens`"
    )]
    Output,
    /// The request offers server tools without saying how often they may be used.
    #[error("the server tools have no upper bound: set `max_uses`")]
    ServerTools,
    /// The bound is above what an amount can be.
    #[error(transparent)]
    Price(#[from] PriceError),
}

/// The most that `call` can cost at `price`.
///
/// Input: a token is never shorter than a byte of UTF-8, so the bytes of the request bound its tokens; where the
/// request refers to what it does not hold, the model's context window does. Output: the request's maximum for
/// each choice, else the model's. `input_tokens`, where given, is a finer bound of the input than its bytes.
///
/// # Errors
/// [`BoundError`] where something is unbounded: such a call must be refused.
pub fn bound(call: &ModelCall, price: &ModelPrice, input_tokens: Option<u64>) -> Result<Bound, BoundError> {
    let input_tokens = match call.input {
        InputSize::Bytes(bytes) => input_tokens.map_or(bytes, |tokens| tokens.min(bytes)),
        InputSize::Unbounded => price.context_window.ok_or(BoundError::Input)?,
    };
    let each = call
        .max_output_tokens
        .or(price.max_output_tokens)
        .ok_or(BoundError::Output)?;
    let output_tokens = each
        .checked_mul(call.choices.max(1))
        .ok_or(PriceError::TooLarge)?;
    let searches = call.max_server_tool_uses.ok_or(BoundError::ServerTools)?;
    let amount = price.dearest(input_tokens, output_tokens, searches, call.writes_cache)?;
    Ok(Bound {
        input_tokens,
        output_tokens,
        amount,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PriceTable;
    use leash_core::{Caller, SessionId, Usage};
    use proptest::prelude::*;

    fn call(max_output_tokens: u64) -> ModelCall {
        let caller = Caller::session(SessionId::new("s").unwrap());
        let messages = serde_json::json!([{"role": "user", "content": "hi"}]);
        ModelCall::new(
            "anthropic",
            "claude-haiku-4-5",
            messages,
            max_output_tokens,
            caller,
        )
    }

    #[test]
    fn what_has_no_bound_is_an_error() {
        let table = PriceTable::embedded();
        let known = table.price("anthropic", "claude-haiku-4-5").unwrap();
        let unknown = ModelPrice {
            context_window: None,
            max_output_tokens: None,
            ..known.as_ref().clone()
        };
        let mut unbounded = call(10);
        unbounded.input = InputSize::Unbounded;
        assert_eq!(bound(&unbounded, &unknown, None), Err(BoundError::Input));
        assert_eq!(bound(&unbounded, known, None).unwrap().input_tokens, 200_000);
        let mut open = call(10);
        open.max_output_tokens = None;
        assert_eq!(bound(&open, &unknown, None), Err(BoundError::Output));
        assert_eq!(bound(&open, known, None).unwrap().output_tokens, 64_000);
        let mut tools = call(10);
        tools.max_server_tool_uses = None;
        assert_eq!(bound(&tools, known, None), Err(BoundError::ServerTools));
        let mut absurd = call(u64::MAX);
        absurd.choices = u64::MAX;
        assert_eq!(
            bound(&absurd, known, None),
            Err(BoundError::Price(PriceError::TooLarge))
        );
    }

    proptest! {
        #[test]
        fn nothing_within_the_bound_costs_more(
            max in 1..100_000_u64, choices in 1..5_u64,
            parts in proptest::array::uniform4(0.0..1.0_f64), output in 0.0..=1.0_f64,
        ) {
            let table = PriceTable::embedded();
            let price = table.price("anthropic", "claude-haiku-4-5").unwrap();
            let mut call = call(max);
            call.choices = choices;
            let bound = bound(&call, price, None).unwrap();
            #[expect(clippy::as_conversions, clippy::float_arithmetic, clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "splits the bound at random")]
            let share = |part: f64| (bound.input_tokens as f64 * part / 4.0) as u64;
            #[expect(clippy::as_conversions, clippy::float_arithmetic, clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "splits the bound at random")]
            let output_tokens = (bound.output_tokens as f64 * output) as u64;
            let usage = Usage {
                input_tokens: share(parts[0]),
                cache_read_tokens: share(parts[1]),
                cache_write_tokens: share(parts[2]),
                cache_write_1h_tokens: share(parts[3]),
                output_tokens,
                ..Usage::default()
            };
            prop_assert!(usage.total_input_tokens() <= bound.input_tokens);
            prop_assert!(price.cost(&usage).unwrap() <= bound.amount);
        }
    }
}
