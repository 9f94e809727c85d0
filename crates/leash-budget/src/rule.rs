//! By which names a model goes: [`Rule`]. Knows no model and no price.

use serde::Deserialize;

/// A rule that names match or not, out of the price table. Names come in lower case.
///
/// Written as text, the first character of which says how: `=` is the name, `^` begins it, `$` ends it, `~` is
/// somewhere in it; `#` is the name and `%` begins it, with each `#` in what follows for a digit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub(crate) enum Rule {
    Equals(Box<str>),
    Starts(Box<str>),
    Ends(Box<str>),
    Contains(Box<str>),
    Like(Box<str>),
    StartsLike(Box<str>),
    Not(Box<Rule>),
    And(Vec<Rule>),
    Or(Vec<Rule>),
}

/// A rule as the table has it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Not { not: Rule },
    And { and: Vec<Rule> },
    Or { or: Vec<Rule> },
}

impl TryFrom<Written> for Rule {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let text = match written {
            Written::Text(text) => text,
            Written::Not { not } => return Ok(Self::Not(Box::new(not))),
            Written::And { and } => return Ok(Self::And(and)),
            Written::Or { or } => return Ok(Self::Or(or)),
        };
        let mut chars = text.chars();
        let sigil = chars.next();
        let rest: Box<str> = chars.as_str().to_lowercase().into();
        if rest.is_empty() {
            return Err("a rule for names says nothing");
        }
        match sigil {
            Some('=') => Ok(Self::Equals(rest)),
            Some('^') => Ok(Self::Starts(rest)),
            Some('$') => Ok(Self::Ends(rest)),
            Some('~') => Ok(Self::Contains(rest)),
            Some('#') => Ok(Self::Like(rest)),
            Some('%') => Ok(Self::StartsLike(rest)),
            _ => Err("a rule for names begins with one of `=^$~#%`"),
        }
    }
}

impl Rule {
    /// Whether `name` matches, word for word.
    pub(crate) fn matches(&self, name: &str) -> bool {
        self.leaves_over(name, &|_| true)
    }

    /// Whether `name` matches and what the rule does not spell out after it is a version at most, so that no dearer
    /// model goes by its namesake's price. A fine-tuned model's rule leaves the name of the tuning open.
    pub(crate) fn matches_closely(&self, name: &str) -> bool {
        self.leaves_over(name, &|rest: Rest<'_>| {
            rest.rule.starts_with("ft:") || is_version(rest.rule, rest.name)
        })
    }

    fn leaves_over(&self, name: &str, accepts: &impl Fn(Rest<'_>) -> bool) -> bool {
        let accepts_rest = |rule, rest: Option<&str>| rest.is_some_and(|name| accepts(Rest { rule, name }));
        match self {
            Self::Equals(text) => **text == *name,
            Self::Starts(text) => accepts_rest(text, name.strip_prefix(&**text)),
            Self::Ends(text) => name.ends_with(&**text),
            Self::Contains(text) => accepts_rest(text, name.rsplit_once(&**text).map(|(_, rest)| rest)),
            Self::Like(text) => strip_like(name, text) == Some(""),
            Self::StartsLike(text) => accepts_rest(text, strip_like(name, text)),
            // What is excluded is excluded as widely as it is written.
            Self::Not(rule) => !rule.matches(name),
            Self::And(rules) => rules.iter().all(|rule| rule.leaves_over(name, accepts)),
            Self::Or(rules) => rules.iter().any(|rule| rule.leaves_over(name, accepts)),
        }
    }

    /// The one name that matches, if this is such a rule.
    pub(crate) fn exact(&self) -> Option<&str> {
        match self {
            Self::Equals(text) => Some(text),
            _ => None,
        }
    }
}

/// What a rule spells out, and what follows that in a name.
#[derive(Clone, Copy)]
struct Rest<'a> {
    rule: &'a str,
    name: &'a str,
}

/// `name` without `like` at its start, in which `#` is any digit.
fn strip_like<'a>(name: &'a str, like: &str) -> Option<&'a str> {
    let mut chars = name.chars();
    for expected in like.chars() {
        let found = chars.next()?;
        let is_right = if expected == '#' {
            found.is_ascii_digit()
        } else {
            found == expected
        };
        if !is_right {
            return None;
        }
    }
    Some(chars.as_str())
}

const SEPARATORS: [char; 5] = ['-', '@', ':', '.', '_'];
const WORDS: [&str; 8] = [
    "latest",
    "preview",
    "exp",
    "experimental",
    "beta",
    "it",
    "instruct",
    "chat",
];

/// Whether `rest`, which follows `rule`, is a date, a number of three digits and more, a `v2:0` or one of a few words.
///
/// A shorter number is a version of the model itself, which may be another model: `claude-opus-4-9`.
fn is_version(rule: &str, rest: &str) -> bool {
    if rest.is_empty() {
        return true;
    }
    if !rest.starts_with(SEPARATORS) && !rule.ends_with(SEPARATORS) {
        return false;
    }
    let mut allows_short = false;
    rest.split(SEPARATORS)
        .filter(|part| !part.is_empty())
        .all(|part| {
            let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let is_known = WORDS.contains(&part)
                || part.strip_prefix('v').is_some_and(is_number)
                || (is_number(part) && part.len() >= 3);
            if is_known {
                // A year, a word or a `v2`, after which months, days and minor numbers may come.
                allows_short = true;
            }
            is_known || (allows_short && is_number(part))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn each_kind_of_rule_matches_what_it_says() {
        for (text, yes, no) in [
            (r#""=a-1""#, "a-1", "a-10"),
            (r#""^a-""#, "a-9", "b-a-9"),
            (r#""$-tts""#, "a-tts", "a-tts-1"),
            (r#""~llama""#, "meta-llama", "meta-lama"),
            (r##""#a-####""##, "a-2026", "a-2026-1"),
            (r#""%a-#""#, "a-1-2026", "a-x"),
            (r#"{"not":"~/"}"#, "a", "b/a"),
            (r#"{"and":["^a",{"or":["$x","$y"]}]}"#, "a-y", "a-z"),
        ] {
            assert!(rule(text).matches(yes), "{text} {yes}");
            assert!(!rule(text).matches(no), "{text} {no}");
        }
    }

    #[test]
    fn a_rule_that_says_nothing_is_refused() {
        for text in [
            r#""""#,
            r#""=""#,
            r#""a""#,
            "7",
            r#"{"nor":["=a"]}"#,
            r#"{"not":"a"}"#,
        ] {
            assert!(serde_json::from_str::<Rule>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_follows_a_name_may_be_a_version_and_nothing_else() {
        let opus = rule(r#""^claude-opus-4""#);
        for name in [
            "claude-opus-4",
            "claude-opus-4-20250514",
            "claude-opus-4@20250514",
            "claude-opus-4-2025-05-14",
            "claude-opus-4-latest",
            "claude-opus-4-20250514-v1:0",
            "claude-opus-4-preview-05-06",
        ] {
            assert!(opus.matches_closely(name), "{name}");
        }
        for name in [
            "claude-opus-40",
            "claude-opus-4-9",
            "claude-opus-4-turbo",
            "claude-opus-4-latest-turbo",
            "claude-opus-4/x",
        ] {
            assert!(!opus.matches_closely(name), "{name}");
        }
        let tuned = rule(r#""^ft:gpt-4o-mini-2024-""#);
        assert!(tuned.matches_closely("ft:gpt-4o-mini-2024-07-18:acme::abc123"));
    }
}
