//! What a call can cost at most, before it is made: [`bound`]; and what of it a budget affords: [`clamp`].

use leash_core::{Advisor, InputSize, ModelCall, Usd};

use crate::price::{ADVICE, Dearest, Load};
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
    #[error(
        "what the provider may run for the model has no upper bound: set `max_uses` or `max_tool_calls`, a ceiling with `max_server_tool_uses`, or leave out what is not known here"
    )]
    ServerTools,
    /// The bound is above what an amount can be, or something has no price.
    #[error(transparent)]
    Price(#[from] PriceError),
}

/// The most that `call` can cost at `price`.
///
/// Input: a token is never shorter than a byte of UTF-8, so the bytes of the request bound its tokens; where the
/// request refers to what it does not hold, the model's context window does, read once more after each use of a server
/// tool. `input_tokens`, where given, is a finer bound of the input than its bytes. Output, reasoning included: the
/// request's maximum for each choice, else the model's, else its context window, and what no maximum limits. All of it at the dearest of the
/// prices that could apply: tiers for long inputs up to that bound, writing to the cache where the call may, sound and
/// images where it may have them, the service tier that it asks for and the standard one, and the priority tier where
/// it asks for none. What the provider does by itself counts too: rounds of its own, summing up, and a model that is asked
/// for advice, which reads up to its own context window each time.
///
/// How often server tools may run comes with the call, or is refused; whoever wants a ceiling of their own sets
/// [`ModelCall::max_server_tool_uses`] where it is `None`.
///
/// # Errors
/// [`BoundError`] where something is unbounded or has no price: such a call must be refused.
pub fn bound(call: &ModelCall, price: &ModelPrice, input_tokens: Option<u64>) -> Result<Bound, BoundError> {
    let each = call
        .max_output_tokens
        .or_else(|| most_output(price)?.checked_add(call.extra_output_tokens))
        .ok_or(BoundError::Output)?;
    let output_tokens = each
        .checked_mul(call.choices.max(1))
        .and_then(|tokens| tokens.checked_add(summaries(call, price)?))
        .ok_or(PriceError::TooLarge)?;
    let load = load(call, price, input_tokens, output_tokens)?;
    let amount = dearest(call, price, &load)?.amount(output_tokens)?;
    Ok(Bound {
        input_tokens: load.input_tokens,
        output_tokens,
        amount,
    })
}

/// The largest maximum of output (for each choice) that may be written into the request of `call` so that it costs at most
/// `available`; at most the model's own.
///
/// `None` where not even the least that may be written fits, or where something else than the output has no bound. It
/// looks at what the call would cost with another maximum, whatever it has now: lowering only what has none is up to the
/// caller. [`ModelCall::max_output_tokens`] is then this plus [`ModelCall::extra_output_tokens`].
///
/// ```
/// use leash_budget::{PriceTable, bound, clamp};
/// use leash_core::{Caller, ModelCall, SessionId, Timestamp};
///
/// let table = PriceTable::embedded();
/// let price = table.price_at("anthropic", "claude-haiku-4-5", "2026-11-22T00:00:00Z".parse()?).unwrap();
/// let caller = Caller::session(SessionId::new("s_1")?);
/// let mut call = ModelCall::new("anthropic", "claude-haiku-4-5", serde_json::json!([]), 0, caller);
/// call.max_output_tokens = None;
///
/// // The model could answer with 64,000 tokens, for 0.32 USD. A cent pays for fewer.
/// let most = clamp(&call, price, None, "0.01".parse()?).unwrap();
/// call.max_output_tokens = Some(most);
/// assert!(most < 2_000 && bound(&call, price, None)?.amount <= "0.01".parse()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn clamp(call: &ModelCall, price: &ModelPrice, input_tokens: Option<u64>, available: Usd) -> Option<u64> {
    let choices = call.choices.max(1);
    let summaries = summaries(call, price)?;
    let load = load(call, price, input_tokens, choices).ok()?;
    let affordable = dearest(call, price, &load).ok()?.affords(available)?;
    let each = affordable.checked_sub(summaries)?.checked_div(choices)?;
    let extra = call.extra_output_tokens;
    // What overflows has no bound.
    let largest = u64::MAX.checked_sub(summaries)?.checked_div(choices)?;
    let written = each.min(largest).checked_sub(extra)?;
    Some(written.min(most_output(price)?)).filter(|tokens| *tokens >= call.least_output_tokens.max(1))
}

/// The most a model answers with; what it answers with is in its context window as well.
fn most_output(price: &ModelPrice) -> Option<u64> {
    price.max_output_tokens.or(price.context_window)
}

/// What the provider writes when it sums up, which no maximum in the request limits. `None` where nothing does.
fn summaries(call: &ModelCall, price: &ModelPrice) -> Option<u64> {
    match call.compactions {
        0 => Some(0),
        times => most_output(price)?.checked_mul(times),
    }
}

/// What the call costs at most, with advice.
fn dearest(call: &ModelCall, price: &ModelPrice, load: &Load) -> Result<Dearest, BoundError> {
    let own = price.dearest(load)?;
    let Some(advisor) = &call.advisor else {
        return Ok(own);
    };
    let fixed = advice(call, price, advisor)?.checked_add(own.fixed);
    Ok(Dearest {
        fixed: fixed.ok_or(PriceError::TooLarge)?,
        ..own
    })
}

/// What advice costs at most: all that the advisor can read and write, as often as it may be asked. Whether it uses its
/// cache is up to the request.
fn advice(call: &ModelCall, price: &ModelPrice, advisor: &Advisor) -> Result<u128, BoundError> {
    let price = price.advisor.as_deref().ok_or(PriceError::Unpriced(ADVICE))?;
    let uses = advisor
        .max_uses
        .or(call.max_server_tool_uses)
        .ok_or(BoundError::ServerTools)?;
    let window = price.context_window.ok_or(BoundError::Input)?;
    let each = advisor.max_output_tokens.or_else(|| most_output(price));
    let all = |tokens: u64| tokens.checked_mul(uses).ok_or(PriceError::TooLarge);
    let output_tokens = all(each.ok_or(BoundError::Output)?)?;
    let dearest = price.dearest(&Load {
        input_tokens: all(window)?,
        output_tokens,
        server_tool_uses: 0,
        writes_cache: true,
        has_media: true,
        wants_sound: false,
        runs_code: false,
        runs_other_tools: false,
        service_tier: call.service_tier,
        surcharge_percent: price.surcharge_of(call),
    })?;
    let output = dearest.each.checked_mul(u128::from(output_tokens));
    let sum = output.and_then(|output| output.checked_add(dearest.fixed));
    Ok(sum.ok_or(PriceError::TooLarge)?)
}

fn load(
    call: &ModelCall,
    price: &ModelPrice,
    input_tokens: Option<u64>,
    output_tokens: u64,
) -> Result<Load, BoundError> {
    let server_tool_uses = call.max_server_tool_uses.ok_or(BoundError::ServerTools)?;
    let (input_tokens, is_text) = match call.input {
        InputSize::Bytes(bytes) => (input_tokens.map_or(bytes, |tokens| tokens.min(bytes)), true),
        InputSize::Unbounded => {
            let window = price.context_window.ok_or(BoundError::Input)?;
            let readings = server_tool_uses
                .checked_add(1)
                .and_then(|readings| readings.max(call.rounds).checked_add(call.compactions));
            let tokens = readings.and_then(|readings| window.checked_mul(readings));
            let tokens = tokens.ok_or(PriceError::TooLarge)?;
            (tokens, false)
        }
    };
    Ok(Load {
        input_tokens,
        output_tokens,
        server_tool_uses,
        writes_cache: call.writes_cache,
        has_media: call.has_media || !is_text,
        wants_sound: call.wants_sound,
        runs_code: call.runs_code,
        runs_other_tools: call.runs_other_tools,
        service_tier: call.service_tier,
        surcharge_percent: price.surcharge_of(call),
    })
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use super::*;
    use crate::price::tests::{model, usage};
    use crate::{Price, PriceTable, Rates};
    use leash_core::{Advice, Caller, ServiceTier, SessionId, Usage};
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

    #[test]
    fn a_dearer_tier_without_a_price_is_refused_and_a_cheaper_one_is_not() {
        let flat = ModelPrice::flat(
            Price::per_million("1".parse().unwrap()),
            Price::per_million("5".parse().unwrap()),
        );
        for (tier, is_bounded) in [
            (ServiceTier::Unsaid, true),
            (ServiceTier::Standard, true),
            (ServiceTier::Flex, true),
            (ServiceTier::Batch, true),
            (ServiceTier::Priority, false),
            (ServiceTier::Fast, false),
            (ServiceTier::Other, false),
        ] {
            let mut call = call(10);
            call.service_tier = tier;
            assert_eq!(bound(&call, &flat, None).is_ok(), is_bounded, "{tier:?}");
        }
    }

    #[test]
    fn the_input_is_read_once_more_after_each_server_tool() {
        let table = PriceTable::embedded();
        let price = table.price("anthropic", "claude-haiku-4-5").unwrap();
        let mut call = call(10);
        call.input = InputSize::Unbounded;
        call.max_server_tool_uses = Some(3);
        let with_tools = bound(&call, price, None).unwrap();
        assert_eq!(with_tools.input_tokens, 800_000);
        // 800,000 at 2 USD (written for an hour), 10 at 5 USD, and 3 searches at a cent.
        assert_eq!(with_tools.amount.to_string(), "1.63005");
    }

    #[test]
    fn a_long_input_is_bounded_at_the_prices_of_its_tier() {
        let table = PriceTable::embedded();
        let price = table.price("anthropic", "claude-haiku-5-5").unwrap();
        let mut call = call(1_000_000);
        call.writes_cache = false;
        let amount = |call: &ModelCall| bound(call, price, None).unwrap().amount.to_string();
        call.input = InputSize::Bytes(100_000);
        assert_eq!(amount(&call), "0.51");
        call.input = InputSize::Bytes(100_001);
        assert_eq!(amount(&call), "2.5500005");
    }

    fn listed(model: &str) -> ModelPrice {
        let price = PriceTable::embedded().price("anthropic", model).cloned();
        price.unwrap().as_ref().clone()
    }

    #[test]
    fn advice_is_bounded_by_all_that_its_model_can_read_and_write_each_time() {
        let own = listed("claude-haiku-4-5");
        let advised = own
            .clone()
            .with_advisor(std::sync::Arc::new(listed("claude-opus-4-5")));
        let mut call = call(0);
        call.max_server_tool_uses = Some(3);
        let without = bound(&call, &advised, None).unwrap().amount;
        let advice = |call: &ModelCall| {
            let amount = bound(call, &advised, None).unwrap().amount;
            Usd::from_nanos(amount.as_nanos() - without.as_nanos())
                .unwrap()
                .to_string()
        };
        let mut advisor = Advisor::new("claude-opus-4-5");
        call.advisor = Some(advisor.clone());
        // Three times 200,000 at 10 USD, written for an hour, and 64,000 at 25 USD.
        assert_eq!(advice(&call), "10.80");
        advisor.max_uses = Some(1);
        advisor.max_output_tokens = Some(2_000);
        call.advisor = Some(advisor);
        assert_eq!(advice(&call), "2.05");
        let unpriced = bound(&call, &own, None);
        assert_eq!(unpriced, Err(BoundError::Price(PriceError::Unpriced(ADVICE))));
        let nowhere = own.with_advisor(std::sync::Arc::new(ModelPrice {
            context_window: None,
            ..listed("claude-opus-4-5")
        }));
        assert_eq!(bound(&call, &nowhere, None), Err(BoundError::Input));
    }

    #[test]
    fn rounds_and_summaries_of_the_provider_are_in_the_bound() {
        let price = listed("claude-haiku-4-5");
        let mut call = call(1_000);
        call.input = InputSize::Unbounded;
        let of = |call: &ModelCall| {
            let bound = bound(call, &price, None).unwrap();
            (bound.input_tokens, bound.output_tokens)
        };
        assert_eq!(of(&call), (200_000, 1_000));
        call.compactions = 1;
        assert_eq!(of(&call), (400_000, 65_000));
        call.max_server_tool_uses = Some(2);
        call.rounds = 10;
        call.compactions = 10;
        assert_eq!(of(&call), (4_000_000, 641_000));
        call.max_server_tool_uses = Some(30);
        assert_eq!(of(&call), (8_200_000, 641_000));
        let lowered = clamp(&call, &price, None, "30".parse().unwrap()).unwrap();
        call.max_output_tokens = Some(lowered);
        assert!(bound(&call, &price, None).unwrap().amount <= "30".parse().unwrap());
        let endless = ModelPrice {
            max_output_tokens: None,
            context_window: None,
            ..price
        };
        assert!(bound(&call, &endless, None).is_err());
    }

    #[test]
    fn what_runs_at_the_provider_needs_a_price_of_its_own() {
        let flat = |own: Rates| {
            let one = Some(Price::per_million("1".parse().unwrap()));
            ModelPrice::new(Rates {
                input: one,
                output: one,
                web_search: one,
                ..own
            })
        };
        let each = Price::each("0.03".parse().unwrap());
        let mut call = call(0);
        call.input = InputSize::Bytes(0);
        call.max_server_tool_uses = Some(2);
        let of = |call: &ModelCall, own| bound(call, &flat(own), None).map(|bound| bound.amount.to_string());
        assert!(of(&call, Rates::default()).is_ok());
        call.runs_code = true;
        assert!(of(&call, Rates::default()).is_err());
        let code = Rates {
            code_execution: each,
            ..Rates::default()
        };
        assert_eq!(of(&call, code).unwrap(), "0.06");
        call.runs_other_tools = true;
        assert!(of(&call, code).is_err());
        let other = Rates {
            other_tool: Price::each("0.50".parse().unwrap()),
            ..code
        };
        assert_eq!(of(&call, other).unwrap(), "1.00");
        // Nothing runs, nothing costs.
        call.max_server_tool_uses = Some(0);
        assert!(of(&call, Rates::default()).is_ok());
    }

    #[test]
    fn a_model_that_draws_unasked_is_bounded_at_the_price_of_images() {
        let price = PriceTable::embedded()
            .price("google", "gemini-2.5-flash-image")
            .cloned()
            .unwrap();
        let mut call = call(1_000_000);
        call.input = InputSize::Bytes(0);
        call.has_media = false;
        assert_eq!(bound(&call, &price, None).unwrap().amount.to_string(), "30.00");
    }

    #[test]
    fn a_call_that_is_processed_in_one_region_costs_more_with_models_that_say_so() {
        let table = PriceTable::embedded();
        let mut call = call(1_000_000);
        call.input = InputSize::Bytes(0);
        call.service_tier = ServiceTier::Standard;
        let usage = Usage {
            output_tokens: 1_000_000,
            ..Usage::default()
        };
        for (model, within, outside) in [("gpt-6-sol", "11.00", "10.00"), ("gpt-4o", "10.00", "10.00")] {
            let price = table.price("openai", model).unwrap();
            for (in_region, expected) in [(true, within), (false, outside)] {
                call.in_region = in_region;
                let of = |amount: Result<Usd, _>| amount.unwrap().to_string();
                assert_eq!(
                    of(bound(&call, price, None)
                        .map(|bound| bound.amount)
                        .map_err(|_| ())),
                    expected
                );
                assert_eq!(
                    of(price.cost_of(&call, &usage).map_err(|_| ())),
                    expected,
                    "{model}"
                );
            }
        }
    }

    #[test]
    fn uses_that_an_answer_does_not_count_are_charged_as_often_as_they_may_have_been() {
        let price = PriceTable::embedded()
            .price("openai", "gpt-4o-search-preview")
            .cloned()
            .unwrap();
        let mut call = call(0);
        call.max_server_tool_uses = Some(2);
        let cost = |call: &ModelCall| price.cost_of(call, &Usage::default()).unwrap().to_string();
        assert_eq!(cost(&call), "0.00");
        call.hides_tool_uses = true;
        assert_eq!(cost(&call), "0.05");
        let ran = Usage {
            code_executions: 1,
            ..Usage::default()
        };
        call.hides_tool_uses = false;
        assert_eq!(price.cost_of(&call, &ran).unwrap().to_string(), "0.03");
        call.code_is_free = true;
        assert!(price.cost_of(&call, &ran).unwrap().is_zero());
    }

    /// A call that may use what `usage` says, and no more.
    fn call_for(usage: &Usage, choices: u64) -> ModelCall {
        let mut call = call(usage.output_tokens.div_ceil(choices));
        call.input = InputSize::Bytes(usage.total_input_tokens());
        call.choices = choices;
        call.max_server_tool_uses = Some(usage.web_search_requests + usage.file_search_requests);
        call.service_tier = usage.service_tier;
        call.surcharge_percent = usage.surcharge_percent;
        call
    }

    proptest! {
        #[test]
        fn nothing_within_the_bound_costs_more(model in model(), usage in usage(), choices in 1..5_u64) {
            let call = call_for(&usage, choices);
            if let Ok(bound) = bound(&call, &model, None) {
                prop_assert!(model.cost(&usage).unwrap() <= bound.amount);
            }
        }

        #[test]
        fn nothing_that_an_adviser_may_use_costs_more_than_the_bound(
            model in model(), advisor in model(), usage in usage(), window in 1..2_000_000_u64, most in 0..200_000_u64,
            uses in 0..5_u64, parts in proptest::array::uniform5(0..=100_u64),
        ) {
            let advisor = ModelPrice { context_window: Some(window), ..advisor };
            let model = model.with_advisor(std::sync::Arc::new(advisor));
            let mut call = call_for(&usage, 1);
            let mut asked = Advisor::new("b");
            asked.max_uses = Some(uses);
            asked.max_output_tokens = Some(most);
            call.advisor = Some(asked);
            // A quarter of the whole at most, so that no parts are more than it.
            let of = |part: u64| window * uses / 400 * part;
            let usage = Usage {
                advice: Advice {
                    input_tokens: of(parts[0]),
                    cache_read_tokens: of(parts[1]),
                    cache_write_tokens: of(parts[2]),
                    cache_write_1h_tokens: of(parts[3]),
                    output_tokens: most * uses / 100 * parts[4],
                },
                ..usage
            };
            if let Ok(bound) = bound(&call, &model, None) {
                prop_assert!(model.cost(&usage).unwrap() <= bound.amount);
            }
        }

        #[test]
        fn the_dearer_of_two_prices_is_below_neither(a in model(), b in model(), usage in usage()) {
            let dearer = a.dearer(&b);
            if let Ok(most) = dearer.cost(&usage) {
                prop_assert!(a.cost(&usage).unwrap() <= most && b.cost(&usage).unwrap() <= most);
            }
        }

        #[test]
        fn a_clamped_call_fits_and_with_one_token_more_it_would_not(
            model in model(), usage in usage(), choices in 1..5_u64,
            most in 1..10_000_000_u64, available in 0..=Usd::MAX.as_nanos(), shift in 0..50_u32,
            extra in prop_oneof![Just(0), 0..5_000_u64], least in prop_oneof![Just(1), 1..5_000_u64],
        ) {
            let model = ModelPrice { max_output_tokens: Some(most), ..model };
            let available = Usd::from_nanos(available >> shift).unwrap();
            let mut call = call_for(&usage, choices);
            call.extra_output_tokens = extra;
            call.least_output_tokens = least;
            let with = |call: &mut ModelCall, tokens| {
                call.max_output_tokens = Some(tokens + extra);
                bound(call, &model, None).map(|bound| bound.amount)
            };
            match clamp(&call, &model, None, available) {
                Some(tokens) => {
                    prop_assert!(tokens >= least && tokens <= most);
                    prop_assert!(with(&mut call, tokens).unwrap() <= available);
                    prop_assert!(tokens == most || with(&mut call, tokens + 1).is_ok_and(|amount| amount > available) || with(&mut call, tokens + 1).is_err());
                }
                None => prop_assert!(least > most || with(&mut call, least).map_or(true, |amount| amount > available)),
            }
        }
    }
}
