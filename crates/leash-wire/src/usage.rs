//! What a provider says it billed, made disjoint. Believes no count that makes no sense.

use leash_core::{Advice, ServiceTier, Usage};
use serde_json::value::RawValue;

use crate::raw::{self, MAX_COUNT, Members};
use crate::request::{GLOBAL, IN_ONE_COUNTRY_PERCENT};

/// A report that cannot be believed: the call is charged its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Untrusted;

/// One report, or the largest of several. `None` is "not said".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    input: Option<u64>,
    output: Option<u64>,
    cache_read: Option<u64>,
    /// Written to the cache for whatever time, and the parts of it whose time was said. Kept apart, as a stream's
    /// last report has the sum alone.
    cache_write: Option<u64>,
    cache_write_5m: Option<u64>,
    cache_write_1h: Option<u64>,
    reasoning: Option<u64>,
    searches: Option<u64>,
    file_searches: Option<u64>,
    code_executions: u64,
    other_tools: u64,
    advice: Advice,
    media: Media,
    tier: ServiceTier,
    surcharge_percent: u8,
}

/// Tokens of sound and images, parts of the other counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Media {
    input_audio: u64,
    input_image: u64,
    cache_read_audio: u64,
    cache_read_image: u64,
    output_audio: u64,
    output_image: u64,
}

impl Media {
    fn max(self, other: Self) -> Self {
        Self {
            input_audio: self.input_audio.max(other.input_audio),
            input_image: self.input_image.max(other.input_image),
            cache_read_audio: self.cache_read_audio.max(other.cache_read_audio),
            cache_read_image: self.cache_read_image.max(other.cache_read_image),
            output_audio: self.output_audio.max(other.output_audio),
            output_image: self.output_image.max(other.output_image),
        }
    }
}

impl Report {
    /// The larger of each count.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            input: self.input.max(other.input),
            output: self.output.max(other.output),
            cache_read: self.cache_read.max(other.cache_read),
            cache_write: self.cache_write.max(other.cache_write),
            cache_write_5m: self.cache_write_5m.max(other.cache_write_5m),
            cache_write_1h: self.cache_write_1h.max(other.cache_write_1h),
            reasoning: self.reasoning.max(other.reasoning),
            searches: self.searches.max(other.searches),
            file_searches: self.file_searches.max(other.file_searches),
            code_executions: self.code_executions.max(other.code_executions),
            other_tools: self.other_tools.max(other.other_tools),
            advice: self.advice.max(other.advice),
            media: self.media.max(other.media),
            tier: other.tier.or(self.tier),
            surcharge_percent: self.surcharge_percent.max(other.surcharge_percent),
        }
    }

    /// Whether it says how much came out.
    pub(crate) const fn has_output(&self) -> bool {
        self.output.is_some()
    }

    /// Whether it says that nothing came out, or that nothing went in.
    pub(crate) fn denies_use(&self) -> bool {
        let cached = [
            self.cache_read,
            self.cache_write,
            self.cache_write_5m,
            self.cache_write_1h,
        ];
        let is_without_input = self.input == Some(0) && cached.iter().all(|count| count.unwrap_or(0) == 0);
        self.output == Some(0) || is_without_input
    }

    /// Adds searches that the provider does not count itself.
    pub(crate) fn with_searches(mut self, searches: Searches) -> Self {
        self.searches = self.searches.max(Some(searches.web));
        self.file_searches = self.file_searches.max(Some(searches.file));
        self.code_executions = self.code_executions.max(searches.code);
        self.other_tools = self.other_tools.max(searches.other);
        self
    }

    /// Adds the tier that served the answer, where the usage does not say it.
    pub(crate) fn with_tier(mut self, tier: ServiceTier) -> Self {
        self.tier = tier.or(self.tier);
        self
    }

    /// The usage, where both input and output were reported.
    pub(crate) fn usage(self) -> Option<Usage> {
        let output_tokens = self.output?;
        let written = self.cache_write.unwrap_or(0);
        let (cache_write_tokens, cache_write_1h_tokens) = match (self.cache_write_5m, self.cache_write_1h) {
            (None, None) => (written, 0),
            (short, long) => {
                let (short, long) = (short.unwrap_or(0), long.unwrap_or(0));
                let left_over = written.saturating_sub(short.saturating_add(long));
                (short, long.saturating_add(left_over))
            }
        };
        let input_tokens = self.input?;
        let cache_read_tokens = self.cache_read.unwrap_or(0);
        // Parts are never more than the whole, and what is dearer goes first.
        let mut of_input = Share(input_tokens);
        let mut of_cached = Share(cache_read_tokens);
        let mut of_output = Share(output_tokens);
        Some(Usage {
            input_tokens,
            output_tokens,
            cache_read_tokens,
            cache_write_tokens,
            cache_write_1h_tokens,
            output_audio_tokens: of_output.take(self.media.output_audio),
            output_image_tokens: of_output.take(self.media.output_image),
            reasoning_tokens: of_output.take(self.reasoning.unwrap_or(0)),
            input_audio_tokens: of_input.take(self.media.input_audio),
            input_image_tokens: of_input.take(self.media.input_image),
            cache_read_audio_tokens: of_cached.take(self.media.cache_read_audio),
            cache_read_image_tokens: of_cached.take(self.media.cache_read_image),
            web_search_requests: self.searches.unwrap_or(0),
            file_search_requests: self.file_searches.unwrap_or(0),
            code_executions: self.code_executions,
            other_tool_requests: self.other_tools,
            advice: self.advice,
            service_tier: self.tier,
            surcharge_percent: self.surcharge_percent,
        })
    }
}

/// What is left of a count.
struct Share(u64);

impl Share {
    fn take(&mut self, part: u64) -> u64 {
        let taken = part.min(self.0);
        self.0 = self.0.saturating_sub(taken);
        taken
    }
}

/// What the provider ran, by the items of an answer: searches, containers with code, and other tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Searches {
    pub(crate) web: u64,
    pub(crate) file: u64,
    pub(crate) code: u64,
    pub(crate) other: u64,
}

/// The service tier that an answer names; one that is no word is one that nobody knows.
pub(crate) fn tier(raw: Option<&RawValue>) -> ServiceTier {
    raw.map_or(ServiceTier::Unsaid, |raw| {
        ServiceTier::from_word(raw.get().trim_matches('"'))
    })
}

fn members(raw: &RawValue) -> Result<Members<'_>, Untrusted> {
    Members::parse(raw.get()).map_err(|_| Untrusted)
}

fn count(members: &Members<'_>, name: &str) -> Result<Option<u64>, Untrusted> {
    members
        .get(name)
        .map(|raw| raw::count(raw).ok_or(Untrusted))
        .transpose()
}

fn inside(members: &Members<'_>, name: &str, count_name: &str) -> Result<Option<u64>, Untrusted> {
    match members.get(name) {
        Some(raw) => count(&self::members(raw)?, count_name),
        None => Ok(None),
    }
}

/// Reads Anthropic's `usage`, whose counts are disjoint already.
///
/// Its `cache_creation` splits `cache_creation_input_tokens` by how long the cache holds; what the split leaves over
/// is taken for the dearer hour. Where `iterations` is there (compaction, tools that Anthropic runs), the counts outside
/// leave some of them out, so the larger of both is taken. Those of a model that gave advice are billed at its price; those
/// of a model that answered in the place of another are not believed, as nobody asked for it.
///
/// # Source
/// Anthropic API reference, *Messages*, `usage`; *Prompt caching*, "Tracking cache performance"; *Compaction*, "Usage";
/// *Service tiers*; *Fast mode*; *Data residency*, "API usage".
pub(crate) fn anthropic(raw: &RawValue) -> Result<Report, Untrusted> {
    let members = members(raw)?;
    let mut report = anthropic_counts(&members)?;
    if let Some(iterations) = members.get("iterations") {
        let iterations: Vec<Members<'_>> = raw::parse(iterations.get()).map_err(|_| Untrusted)?;
        let mut total = Report::default();
        for iteration in &iterations {
            let one = anthropic_counts(iteration)?;
            match iteration.str("type").map_err(|_| Untrusted)?.as_deref() {
                Some("advisor_message") => {
                    report.advice = with_advice(report.advice, one)?;
                    continue;
                }
                Some("fallback_message") => return Err(Untrusted),
                _ => {}
            }
            total = Report {
                input: add(total.input, one.input)?,
                output: add(total.output, one.output)?,
                cache_read: add(total.cache_read, one.cache_read)?,
                cache_write: add(total.cache_write, one.cache_write)?,
                cache_write_5m: add(total.cache_write_5m, one.cache_write_5m)?,
                cache_write_1h: add(total.cache_write_1h, one.cache_write_1h)?,
                ..Report::default()
            };
        }
        report = report.max(total);
    }
    report.searches = inside(&members, "server_tool_use", "web_search_requests")?;
    report.reasoning = inside(&members, "output_tokens_details", "thinking_tokens")?;
    report.tier = match (tier(members.get("speed")), tier(members.get("service_tier"))) {
        (ServiceTier::Fast, _) => ServiceTier::Fast,
        // Capacity that is paid for in advance; a token counts as one at the list price.
        (_, ServiceTier::Priority) => ServiceTier::Standard,
        (_, tier) => tier,
    };
    // Models that run anywhere say `not_available`. A place that nobody here knows is dearer.
    report.surcharge_percent = match members.get("inference_geo").map(RawValue::get) {
        None => 0,
        Some(word) if matches!(word.trim_matches('"'), GLOBAL | "not_available") => 0,
        Some(_) => IN_ONE_COUNTRY_PERCENT,
    };
    Ok(report)
}

fn with_advice(sum: Advice, one: Report) -> Result<Advice, Untrusted> {
    // A report without both is none.
    let one = Report {
        input: Some(one.input.ok_or(Untrusted)?),
        output: Some(one.output.ok_or(Untrusted)?),
        ..one
    };
    let one = one.usage().ok_or(Untrusted)?;
    let plus = |sum, one| Ok(add(Some(sum), Some(one))?.unwrap_or(0));
    Ok(Advice {
        input_tokens: plus(sum.input_tokens, one.input_tokens)?,
        output_tokens: plus(sum.output_tokens, one.output_tokens)?,
        cache_read_tokens: plus(sum.cache_read_tokens, one.cache_read_tokens)?,
        cache_write_tokens: plus(sum.cache_write_tokens, one.cache_write_tokens)?,
        cache_write_1h_tokens: plus(sum.cache_write_1h_tokens, one.cache_write_1h_tokens)?,
    })
}

fn anthropic_counts(members: &Members<'_>) -> Result<Report, Untrusted> {
    let (short, long) = match members.get("cache_creation") {
        Some(split) => {
            let split = self::members(split)?;
            (
                count(&split, "ephemeral_5m_input_tokens")?,
                count(&split, "ephemeral_1h_input_tokens")?,
            )
        }
        None => (None, None),
    };
    Ok(Report {
        input: count(members, "input_tokens")?,
        output: count(members, "output_tokens")?,
        cache_read: count(members, "cache_read_input_tokens")?,
        cache_write: count(members, "cache_creation_input_tokens")?,
        cache_write_5m: short,
        cache_write_1h: long,
        ..Report::default()
    })
}

fn add(a: Option<u64>, b: Option<u64>) -> Result<Option<u64>, Untrusted> {
    match (a, b) {
        (Some(a), Some(b)) => {
            let sum = a
                .checked_add(b)
                .filter(|sum| *sum <= MAX_COUNT)
                .ok_or(Untrusted)?;
            Ok(Some(sum))
        }
        (a, b) => Ok(a.or(b)),
    }
}

/// Reads OpenAI's `usage`, of either API.
///
/// `prompt_tokens` (`input_tokens`) contains the cached ones, so they are taken out of it; more cached than there
/// are is nothing to believe. Compatible servers differ in whether `completion_tokens` contains the reasoning, so
/// where `total_tokens` says that more came out, that counts. It does not say how many tokens of sound and images were
/// cached, so as many as can be are taken for those that were not, which cost more. What was written to a cache
/// (`cache_write_tokens`) is inside the input where it fits in, and beside it where not.
///
/// # Source
/// OpenAI API reference, *Chat completion object* and *Response object*, `usage`; documentation of `OpenRouter`, *Usage
/// accounting*, `cache_write_tokens`.
pub(crate) fn openai(raw: &RawValue) -> Result<Report, Untrusted> {
    let members = members(raw)?;
    let either = |a: &str, b: &str| Ok(count(&members, a)?.max(count(&members, b)?));
    let input = either("prompt_tokens", "input_tokens")?;
    let output = either("completion_tokens", "output_tokens")?;
    let cached = inside(&members, "prompt_tokens_details", "cached_tokens")?.max(inside(
        &members,
        "input_tokens_details",
        "cached_tokens",
    )?);
    let reasoning = inside(&members, "completion_tokens_details", "reasoning_tokens")?.max(inside(
        &members,
        "output_tokens_details",
        "reasoning_tokens",
    )?);
    let beside_input = count(&members, "total_tokens")?.and_then(|total| total.checked_sub(input?));
    let written = inside(&members, "prompt_tokens_details", "cache_write_tokens")?.max(inside(
        &members,
        "input_tokens_details",
        "cache_write_tokens",
    )?);
    let fresh = match input {
        Some(input) => {
            let uncached = input.checked_sub(cached.unwrap_or(0)).ok_or(Untrusted)?;
            Some(uncached.checked_sub(written.unwrap_or(0)).unwrap_or(uncached))
        }
        None => None,
    };
    let part = |names: [&str; 2], count_name: &str| -> Result<u64, Untrusted> {
        let [a, b] = names;
        let larger = inside(&members, a, count_name)?.max(inside(&members, b, count_name)?);
        Ok(larger.unwrap_or(0))
    };
    let of_input = ["prompt_tokens_details", "input_tokens_details"];
    let of_output = ["completion_tokens_details", "output_tokens_details"];
    let (audio, image) = (part(of_input, "audio_tokens")?, part(of_input, "image_tokens")?);
    let mut left = Share(fresh.unwrap_or(0));
    let (input_audio, input_image) = (left.take(audio), left.take(image));
    Ok(Report {
        input: fresh,
        output: output.map(|output| output.max(beside_input.unwrap_or(0))),
        cache_read: cached,
        cache_write: written,
        reasoning,
        media: Media {
            input_audio,
            input_image,
            cache_read_audio: audio.saturating_sub(input_audio),
            cache_read_image: image.saturating_sub(input_image),
            output_audio: part(of_output, "audio_tokens")?,
            output_image: part(of_output, "image_tokens")?,
        },
        ..Report::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn anthropic_counts_are_taken_as_they_are_and_cache_writes_split_by_duration() {
        let usage = anthropic(&raw(
            r#"{"input_tokens":10,"output_tokens":20,"cache_read_input_tokens":300,"cache_creation_input_tokens":70,
                "cache_creation":{"ephemeral_5m_input_tokens":40,"ephemeral_1h_input_tokens":20},
                "server_tool_use":{"web_search_requests":2},"service_tier":"standard"}"#,
        ));
        let usage = usage.unwrap().usage().unwrap();
        assert_eq!((usage.input_tokens, usage.output_tokens), (10, 20));
        assert_eq!((usage.cache_read_tokens, usage.web_search_requests), (300, 2));
        assert_eq!((usage.cache_write_tokens, usage.cache_write_1h_tokens), (40, 30));
    }

    #[test]
    fn iterations_that_the_sums_leave_out_are_charged() {
        let usage = anthropic(&raw(r#"{"input_tokens":10,"output_tokens":20,
                "iterations":[{"type":"compaction","input_tokens":1000,"output_tokens":5},
                              {"type":"message","input_tokens":10,"output_tokens":20}]}"#));
        let usage = usage.unwrap().usage().unwrap();
        assert_eq!((usage.input_tokens, usage.output_tokens), (1010, 25));
    }

    #[test]
    fn what_an_adviser_used_is_apart_from_what_the_model_used() {
        let text = |kind: &str| {
            format!(
                r#"{{"input_tokens":10,"output_tokens":20,"iterations":[
                {{"type":"message","input_tokens":10,"output_tokens":5}},
                {{"type":"{kind}","model":"b","input_tokens":800,"output_tokens":1600,"cache_read_input_tokens":7,
                  "cache_creation_input_tokens":30,"cache_creation":{{"ephemeral_5m_input_tokens":10,"ephemeral_1h_input_tokens":20}}}},
                {{"type":"{kind}","model":"b","input_tokens":1,"output_tokens":2}},
                {{"type":"message","input_tokens":90,"output_tokens":15}}]}}"#
            )
        };
        let usage = anthropic(&raw(&text("advisor_message")))
            .unwrap()
            .usage()
            .unwrap();
        assert_eq!((usage.input_tokens, usage.output_tokens), (100, 20));
        let advice = Advice {
            input_tokens: 801,
            output_tokens: 1602,
            cache_read_tokens: 7,
            cache_write_tokens: 10,
            cache_write_1h_tokens: 20,
        };
        assert_eq!(usage.advice, advice);
        assert_eq!(anthropic(&raw(&text("fallback_message"))), Err(Untrusted));
        let cut = r#"{"input_tokens":10,"output_tokens":20,"iterations":[{"type":"advisor_message","input_tokens":1}]}"#;
        assert_eq!(anthropic(&raw(cut)), Err(Untrusted));
    }

    #[test]
    fn cached_tokens_are_counted_once_and_hidden_reasoning_is_charged() {
        let usage = openai(&raw(
            r#"{"prompt_tokens":100,"completion_tokens":7,"total_tokens":137,
                "prompt_tokens_details":{"cached_tokens":60,"audio_tokens":0},
                "completion_tokens_details":{"reasoning_tokens":30}}"#,
        ));
        let usage = usage.unwrap().usage().unwrap();
        assert_eq!((usage.input_tokens, usage.cache_read_tokens), (40, 60));
        assert_eq!((usage.output_tokens, usage.reasoning_tokens), (37, 30));
    }

    #[test]
    fn sound_is_a_part_of_its_whole_and_the_tier_is_read() {
        let usage = openai(&raw(
            r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,
                "prompt_tokens_details":{"cached_tokens":60,"audio_tokens":45,"image_tokens":null},
                "completion_tokens_details":{"reasoning_tokens":30,"audio_tokens":40}}"#,
        ));
        let usage = usage.unwrap().with_tier(ServiceTier::Priority).usage().unwrap();
        assert_eq!((usage.input_tokens, usage.cache_read_tokens), (40, 60));
        assert_eq!((usage.input_audio_tokens, usage.cache_read_audio_tokens), (40, 5));
        assert_eq!((usage.output_audio_tokens, usage.reasoning_tokens), (40, 10));
        assert_eq!(usage.service_tier, ServiceTier::Priority);
        for (members, expected) in [
            (r#""service_tier":"standard""#, ServiceTier::Standard),
            (r#""service_tier":"priority""#, ServiceTier::Standard),
            (r#""service_tier":"batch""#, ServiceTier::Batch),
            (r#""service_tier":"standard","speed":"fast""#, ServiceTier::Fast),
            (r#""service_tier":null"#, ServiceTier::Unsaid),
            (r#""service_tier":7"#, ServiceTier::Other),
            (r#""service_tier":"golden""#, ServiceTier::Other),
        ] {
            let text = format!(r#"{{"input_tokens":1,"output_tokens":1,{members}}}"#);
            let usage = anthropic(&raw(&text)).unwrap().usage().unwrap();
            assert_eq!(usage.service_tier, expected, "{members}");
        }
    }

    #[test]
    fn what_is_written_to_a_cache_is_counted_once_and_inference_in_one_country_costs_more() {
        for (details, expected) in [
            (
                r#""prompt_tokens_details":{"cached_tokens":60,"cache_write_tokens":30}"#,
                (10, 60, 30),
            ),
            (
                r#""prompt_tokens_details":{"cached_tokens":60,"cache_write_tokens":50}"#,
                (40, 60, 50),
            ),
            (
                r#""input_tokens_details":{"cache_write_tokens":100}"#,
                (0, 0, 100),
            ),
        ] {
            let text = format!(r#"{{"prompt_tokens":100,"completion_tokens":7,{details}}}"#);
            let usage = openai(&raw(&text)).unwrap().usage().unwrap();
            let found = (
                usage.input_tokens,
                usage.cache_read_tokens,
                usage.cache_write_tokens,
            );
            assert_eq!(found, expected, "{details}");
        }
        for (geo, percent) in [
            ("\"us\"", 10),
            ("\"moon\"", 10),
            ("7", 10),
            ("\"global\"", 0),
            ("\"not_available\"", 0),
            ("null", 0),
        ] {
            let text = format!(r#"{{"input_tokens":1,"output_tokens":1,"inference_geo":{geo}}}"#);
            let usage = anthropic(&raw(&text)).unwrap().usage().unwrap();
            assert_eq!(usage.surcharge_percent, percent, "{geo}");
        }
    }

    #[test]
    fn thinking_is_a_part_of_the_output() {
        let usage = anthropic(&raw(
            r#"{"input_tokens":1,"output_tokens":20,"output_tokens_details":{"thinking_tokens":15}}"#,
        ));
        let usage = usage.unwrap().usage().unwrap();
        assert_eq!((usage.output_tokens, usage.reasoning_tokens), (20, 15));
    }

    #[test]
    fn counts_that_make_no_sense_are_not_believed() {
        for bad in [
            "[]",
            "1",
            r#"{"prompt_tokens":-1,"completion_tokens":1}"#,
            r#"{"prompt_tokens":1.5,"completion_tokens":1}"#,
            r#"{"prompt_tokens":9007199254740992,"completion_tokens":1}"#,
            r#"{"prompt_tokens":"1","completion_tokens":1}"#,
            r#"{"prompt_tokens":1,"prompt_tokens":0,"completion_tokens":1}"#,
            r#"{"prompt_tokens":1,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":2}}"#,
            r#"{"prompt_tokens":1,"completion_tokens":1,"prompt_tokens_details":7}"#,
        ] {
            assert_eq!(openai(&raw(bad)), Err(Untrusted), "{bad}");
        }
        assert_eq!(openai(&raw(r#"{"prompt_tokens":1}"#)).unwrap().usage(), None);
        assert_eq!(
            anthropic(&raw(r#"{"input_tokens":-5,"output_tokens":1}"#)),
            Err(Untrusted)
        );
        let max = r#"{"iterations":[{"input_tokens":9007199254740991},{"input_tokens":9007199254740991}]}"#;
        assert_eq!(anthropic(&raw(max)), Err(Untrusted));
    }
}
