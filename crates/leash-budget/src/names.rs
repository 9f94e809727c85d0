//! The names that a model may be meant by: what stands around one taken away. Knows no model and no price.

use std::borrow::Cow;

/// Regions whose profiles Bedrock prices as those of `us.`, for where a rule names fewer of them.
///
/// # Source
/// AWS documentation, *Supported Regions and models for inference profiles*.
const REGIONS: [&str; 10] = [
    "us.", "eu.", "apac.", "jp.", "au.", "ca.", "sa.", "me.", "af.", "in.",
];

const ARN: &str = "arn:";

/// How names of models begin that run in AWS's regions for governments, which are dearer than the others.
const GOVERNMENT: &str = "us-gov.";

/// `name` in lower case.
pub(crate) fn lower(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) || !name.is_ascii() {
        Cow::Owned(name.to_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// What `name` may mean besides itself, the likeliest first. `is_own` says whether a prefix is the provider's name.
pub(crate) fn readings(name: &str, is_own: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut bare = name;
    if let Some(model) = published(name) {
        bare = model;
        found.push(bare.to_owned());
    }
    if name.starts_with(ARN) {
        let Some(model) = in_arn(name) else {
            return found;
        };
        if name.starts_with("arn:aws-us-gov:") && !model.starts_with(GOVERNMENT) {
            found.push(format!("{GOVERNMENT}{model}"));
            return found;
        }
        bare = model;
        found.push(bare.to_owned());
    }
    while let Some((prefix, rest)) = bare.split_once('/') {
        // Bedrock's two interfaces have names of their own at some callers; Google's models are a resource of its API.
        if !is_own(prefix) && !matches!(prefix, "converse" | "invoke" | "models") {
            break;
        }
        bare = rest;
        found.push(bare.to_owned());
    }
    if let Some(rest) = REGIONS.iter().find_map(|region| bare.strip_prefix(region)) {
        found.push(format!("us.{rest}"));
        found.push(rest.to_owned());
    }
    // The tuning's name is no version, and the base model's price is not the tuned one's.
    if bare.starts_with("ft:") {
        return found;
    }
    if let Some(dashed) = dashed(bare) {
        found.push(dashed);
    }
    if let Some(undated) = undated(bare) {
        found.push(undated.to_owned());
    }
    found
}

/// The model in a path of Vertex AI: `publishers/google/models/…`, with or without project and place before it. What a
/// project trained itself has no publisher.
fn published(name: &str) -> Option<&str> {
    let (before, rest) = name.split_once("publishers/")?;
    let (_, model) = rest.split_once("/models/")?;
    let is_whole = before.is_empty() || (before.starts_with("projects/") && before.ends_with('/'));
    (is_whole && !model.contains('/')).then_some(model)
}

/// Whose names look like `name`, where that can be seen without knowing any model.
pub(crate) fn home(name: &str) -> Option<&'static str> {
    if name.starts_with(ARN) {
        return Some("aws");
    }
    if name.starts_with("ft:") || name.starts_with("chatgpt-") {
        return Some("openai");
    }
    if name.starts_with("models/") || published(name).is_some() {
        return Some("google");
    }
    let bare = REGIONS
        .iter()
        .find_map(|region| name.strip_prefix(region))
        .or_else(|| name.strip_prefix("global."))
        .or_else(|| name.strip_prefix(GOVERNMENT))
        .unwrap_or(name);
    let (maker, _) = bare.split_once('.')?;
    MAKERS.contains(&maker).then_some("aws")
}

/// Who makes the models of Bedrock, as its ids begin.
///
/// # Source
/// AWS documentation, *Supported foundation models in Amazon Bedrock*.
const MAKERS: [&str; 18] = [
    "ai21",
    "amazon",
    "anthropic",
    "cohere",
    "deepseek",
    "google",
    "luma",
    "meta",
    "minimax",
    "mistral",
    "moonshot",
    "nvidia",
    "openai",
    "qwen",
    "stability",
    "twelvelabs",
    "writer",
    "zai",
];

/// The model in the ARN of a foundation model or of an inference profile that AWS defines. Others hide it.
fn in_arn(name: &str) -> Option<&str> {
    let resource = name.strip_prefix(ARN)?.splitn(5, ':').nth(4)?;
    let (kind, model) = resource.split_once('/')?;
    matches!(kind, "foundation-model" | "inference-profile").then_some(model)
}

/// Whether no rule may be asked about the name as it is: it means what [`readings`] finds in it, or nothing.
pub(crate) fn is_opaque(name: &str) -> bool {
    name.starts_with(ARN)
}

/// Whether only its own entry may price the name: the rules take a model in a region for governments for a cheaper one.
pub(crate) fn is_apart(name: &str) -> bool {
    name.starts_with(GOVERNMENT)
}

fn is_digits(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The name with `-20251001` at its end as `-2025-10-01`.
fn dashed(name: &str) -> Option<String> {
    let (rest, date) = name.rsplit_once('-')?;
    if !is_digits(date, 8) {
        return None;
    }
    let (year, day) = date.split_at_checked(4)?;
    let (month, day) = day.split_at_checked(2)?;
    Some(format!("{rest}-{year}-{month}-{day}"))
}

/// The name without `-latest`, `@default`, `-20251001` or `-2025-10-01` at its end; `None` where it has none.
fn undated(name: &str) -> Option<&str> {
    if let Some(bare) = name
        .strip_suffix("-latest")
        .or_else(|| name.strip_suffix("@default"))
    {
        return Some(bare);
    }
    let (rest, last) = name.rsplit_once('-')?;
    if is_digits(last, 8) {
        return Some(rest);
    }
    let (rest, month) = rest.rsplit_once('-')?;
    let (rest, year) = rest.rsplit_once('-')?;
    (is_digits(last, 2) && is_digits(month, 2) && is_digits(year, 4)).then_some(rest)
}

/// How many characters have to change to make `a` out of `b`, for hints.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut last = i.saturating_add(1);
        if let Some(first) = row.first_mut() {
            *first = last;
        }
        for (slot, right) in row.iter_mut().skip(1).zip(&b) {
            let change = diagonal.saturating_add(usize::from(left != *right));
            diagonal = *slot;
            last = change.min(slot.saturating_add(1)).min(last.saturating_add(1));
            *slot = last;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Vec<String> {
        readings(name, |prefix| matches!(prefix, "aws" | "bedrock" | "openai"))
    }

    #[test]
    fn what_stands_around_a_name_is_taken_away() {
        assert_eq!(of("gpt-4o"), [""; 0]);
        assert_eq!(
            of("openai/gpt-4o-20240806"),
            ["gpt-4o-20240806", "gpt-4o-2024-08-06", "gpt-4o"]
        );
        assert_eq!(of("gpt-4o-2024-08-06"), ["gpt-4o"]);
        assert_eq!(of("evil/gpt-4o-latest"), ["evil/gpt-4o"]);
        assert_eq!(
            of("bedrock/converse/jp.anthropic.claude-x-v1:0"),
            [
                "converse/jp.anthropic.claude-x-v1:0",
                "jp.anthropic.claude-x-v1:0",
                "us.anthropic.claude-x-v1:0",
                "anthropic.claude-x-v1:0"
            ]
        );
        assert_eq!(of("ft:gpt-4o-20240806"), [""; 0]);
    }

    #[test]
    fn a_path_of_an_api_means_the_model_at_its_end() {
        assert_eq!(of("models/gemini-x"), ["gemini-x"]);
        for path in [
            "publishers/google/models/gemini-x",
            "projects/p/locations/l/publishers/google/models/gemini-x",
        ] {
            assert_eq!(of(path), ["gemini-x"], "{path}");
        }
        for other in [
            "projects/p/locations/l/models/123",
            "evil/publishers/google/models/gemini-x",
            "publishers/google/models/gemini-x/y",
            "accounts/acme/models/gemini-x",
        ] {
            assert_eq!(of(other), [""; 0], "{other}");
        }
    }

    #[test]
    fn some_names_say_whose_they_are() {
        for (name, expected) in [
            ("us.anthropic.claude-x-v1:0", Some("aws")),
            ("global.anthropic.claude-x-v1:0", Some("aws")),
            ("meta.llama-x", Some("aws")),
            ("ft:gpt-x:acme::1", Some("openai")),
            ("models/gemini-x", Some("google")),
            ("gemini-2.5-pro", None),
            ("gpt-4.1", None),
            ("claude-x", None),
            ("us-gov.anthropic.claude-x", Some("aws")),
            ("chatgpt-x", Some("openai")),
        ] {
            assert_eq!(home(name), expected, "{name}");
        }
    }

    #[test]
    fn an_arn_means_the_model_it_names_and_no_other() {
        assert_eq!(
            of("arn:aws:bedrock:us-east-1:123456789012:inference-profile/eu.anthropic.claude-x"),
            [
                "eu.anthropic.claude-x",
                "us.anthropic.claude-x",
                "anthropic.claude-x"
            ]
        );
        for name in ["anthropic.claude-x", "us-gov.anthropic.claude-x"] {
            let arn = format!("arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/{name}");
            assert_eq!(of(&arn)[0], "us-gov.anthropic.claude-x", "{name}");
        }
        for hidden in [
            "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc",
            "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abc",
            "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/gpt-4o-20251001",
            "arn:aws:bedrock",
        ] {
            assert_eq!(of(hidden), [""; 0], "{hidden}");
        }
    }

    #[test]
    fn a_distance_is_the_number_of_changes() {
        for (a, b, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("kitten", "sitting", 3),
            ("gpt-4o", "gpt-40", 1),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
