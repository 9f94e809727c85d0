//! `price`: what would this call cost?

use std::fs;
use std::path::Path;

use leash_budget::{ListedModel, ModelPrice, PriceTable};
use leash_core::{Clock as _, ServiceTier, SystemClock, Timestamp, Usage};
use serde_json::json;

use crate::cli::PriceArgs;
use crate::exit::{Exit, Failure};
use crate::output;

/// How many names a hint has at most.
const HINTS: usize = 4;

/// Writes what a call of the model costs that used so many tokens.
pub(crate) fn run(args: &PriceArgs) -> Result<Exit, Failure> {
    let table = table(args.prices.as_deref())?;
    let at = args.at.unwrap_or_else(|| SystemClock.now());
    let listed = match &args.provider {
        Some(provider) => table.find(provider, &args.model),
        None => table.find_anywhere(&args.model),
    };
    let listed = listed.ok_or_else(|| unknown(&table, args))?;
    let usage = Usage {
        input_tokens: args.input,
        output_tokens: args.output,
        cache_read_tokens: args.cache_read,
        cache_write_tokens: args.cache_write,
        cache_write_1h_tokens: args.cache_write_1h,
        web_search_requests: args.web_searches,
        service_tier: args.service_tier,
        ..Usage::default()
    };
    let name = format!("{}/{}", listed.provider(), listed.model());
    let price = listed.price_at(at);
    if let Some(note) = without_tier(price, args.service_tier, &name)? {
        output::say(&note);
    }
    let cost = price
        .cost(&usage)
        .map_err(|error| Failure::Told(format!("`{name}`: {error}")))?;
    let text = if args.json {
        let object = json!({
            "provider": &**listed.provider(),
            "model": &**listed.model(),
            "usd": cost.to_string(),
            "price_version": &**table.version(),
            "at": at.to_string(),
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cache_read_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            "cache_write_1h_tokens": usage.cache_write_1h_tokens,
            "web_search_requests": usage.web_search_requests,
        });
        format!("{object}\n")
    } else {
        format!("{cost} USD for {name} ({})\n", table.version())
    };
    output::print(text.as_bytes())?;
    Ok(Exit::Done)
}

fn table(prices: Option<&Path>) -> Result<PriceTable, Failure> {
    let Some(path) = prices else {
        return Ok(PriceTable::embedded());
    };
    let told = |what: String| Failure::Told(format!("`{}`: {what}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| told(format!("failed to read it: {error}")))?;
    PriceTable::embedded()
        .with_file(&text)
        .map_err(|error| told(error.to_string()))
}

fn unknown(table: &PriceTable, args: &PriceArgs) -> Failure {
    let about = match &args.provider {
        Some(provider) => format!("`{}` of `{provider}` has no price", args.model),
        None => format!("`{}` has no price, or more than one provider has it", args.model),
    };
    let mut similar = table.similar(args.provider.as_deref(), &args.model, HINTS);
    if similar.is_empty() {
        similar = table.similar(None, &args.model, HINTS);
    }
    let name = |listed: &ListedModel| format!("`{}/{}`", listed.provider(), listed.model());
    let hint = match similar.split_last() {
        None => ".".to_owned(),
        Some((last, [])) => format!("; did you mean {}?", name(last)),
        Some((last, rest)) => {
            let rest: Vec<String> = rest.iter().map(|listed| name(listed)).collect();
            format!("; did you mean {} or {}?", rest.join(", "), name(last))
        }
    };
    Failure::Told(format!(
        "{about}{hint} Give it one in a file: `--prices FILE` (docs/prices.md shows how)"
    ))
}

/// What is to be said where the model has no price of its own for the service tier. A dearer tier is not guessed at.
fn without_tier(price: &ModelPrice, tier: ServiceTier, name: &str) -> Result<Option<String>, Failure> {
    let has_own = price.service_tiers.iter().any(|(listed, _)| *listed == tier);
    match tier {
        ServiceTier::Standard | ServiceTier::Unsaid => Ok(None),
        _ if has_own => Ok(None),
        ServiceTier::Flex | ServiceTier::Batch => Ok(Some(format!(
            "# `{name}` has no price of its own for this service tier: charged as `standard`"
        ))),
        _ => Err(Failure::Told(format!(
            "`{name}` has no price for this service tier. Give it one in a file: `--prices FILE` (docs/prices.md shows how)"
        ))),
    }
}

/// Reads a moment, or a day for its first one.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    text.parse()
        .or_else(|_| format!("{text}T00:00:00Z").parse())
        .map_err(|_| "a moment is written like `2026-05-16` or `2026-05-16T12:34:56Z`".to_owned())
}

/// Reads the name of a service tier.
pub(crate) fn service_tier(text: &str) -> Result<ServiceTier, String> {
    match ServiceTier::from_word(text) {
        ServiceTier::Other => {
            Err("a service tier is `standard`, `flex`, `batch`, `priority` or `fast`".to_owned())
        }
        tier => Ok(tier),
    }
}
