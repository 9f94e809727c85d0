//! Rules by name: what a policy file and `policy test --rule` make rules from.
//!
//! To add a rule, write next to it
//!
//! ```text
//! pub(crate) const KIND: RuleKind = RuleKind {
//!     name: "my_rule",
//!     about: "Blocks what is mine.",
//!     options: &[OptionKind { name: "words", shape: Shape::List, about: "Words that are mine." }],
//!     make: |options| Ok(Arc::new(MyRule::new(options.list("words")))),
//! };
//! ```
//!
//! and list it in [`RULES`]. `make` asks [`Options`] for what it knows; whatever is left over is refused, so a typo in a
//! policy is an error and not a rule that is weaker than it looks. The options that every rule has (`id`, `tools`, `action`,
//! `shadow`) are taken out before `make` is called and done by [`crate::Adjusted`], save `id`, which `make` may take
//! itself with [`Options::id`]; where it does not, the decisions are renamed.

use std::str::FromStr;
use std::sync::Arc;

use leash_core::{Action, AsyncRule, Redactor, Rule, rule_ids};

use crate::adjust::{Adjusted, AdjustedAsync};
use crate::pii::{KINDS, PiiRedactor};
use crate::secrets::SecretsRule;
use crate::shell::BlockedShell;

/// Why no rule could be made. Names options, and quotes no value but that of a choice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// There is no rule of this name.
    #[error("there is no rule `{}`{}; there are {}", shown(.0), did_you_mean(.0, Group::Rules.names()), quoted(Group::Rules.names()))]
    UnknownRule(String),
    /// The rule asks another process, and is made by [`scanner_from_options`].
    #[error("the rule `{0}` asks another process, and so is not asked here")]
    Scanner(String),
    /// There is no redactor of this name.
    #[error("there is no redactor `{}`{}; there are {}", shown(.0), did_you_mean(.0, Group::Redactors.names()), quoted(Group::Redactors.names()))]
    UnknownRedactor(String),
    /// The rule has no such option.
    #[error("`{rule}` has no option `{}`{known}", shown(option))]
    UnknownOption {
        /// The rule, or the redactor.
        rule: String,
        /// The option.
        option: String,
        /// Which there are, as the end of a sentence.
        known: String,
    },
    /// The value of an option makes no sense.
    #[error("option `{option}`: {what}")]
    Invalid {
        /// The option.
        option: String,
        /// What it wants instead.
        what: String,
    },
}

impl OptionError {
    /// `option` has a value that makes no sense; `what` says what it wants.
    #[must_use]
    pub fn invalid(option: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Invalid {
            option: option.into(),
            what: what.into(),
        }
    }

    /// The option that it is about.
    #[must_use]
    pub fn option(&self) -> Option<&str> {
        match self {
            Self::UnknownOption { option, .. } | Self::Invalid { option, .. } => Some(option),
            _ => None,
        }
    }

    pub(crate) fn unknown_option(group: Group, rule: &str, option: &str) -> Self {
        let names: Vec<&str> = known_options(group, rule)
            .unwrap_or_default()
            .iter()
            .map(|known| known.name)
            .collect();
        let meant = did_you_mean(option, names.iter().copied());
        let known = if names.is_empty() {
            "; it has none".to_owned()
        } else {
            format!("; it has {}", quoted(names.into_iter()))
        };
        Self::UnknownOption {
            rule: rule.to_owned(),
            option: option.to_owned(),
            known: format!("{meant}{known}"),
        }
    }
}

/// What there are options of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// Rules, those that ask another process among them.
    Rules,
    Redactors,
}

impl Group {
    /// The member of an entry that names its kind.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Rules => "rule",
            Self::Redactors => "redactor",
        }
    }

    pub(crate) fn unknown(self, name: &str) -> OptionError {
        match self {
            Self::Rules => OptionError::UnknownRule(name.to_owned()),
            Self::Redactors => OptionError::UnknownRedactor(name.to_owned()),
        }
    }

    fn kinds(self) -> Vec<(&'static str, &'static [OptionKind])> {
        match self {
            Self::Rules => RULES
                .iter()
                .map(|kind| (kind.name, kind.options))
                .chain(SCANNERS.iter().map(|kind| (kind.name, kind.options)))
                .collect(),
            Self::Redactors => REDACTORS.iter().map(|kind| (kind.name, kind.options)).collect(),
        }
    }

    fn names(self) -> impl Iterator<Item = &'static str> {
        self.kinds().into_iter().map(|(name, _)| name)
    }
}

/// The shape of an option's value, as a policy file and its schema know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shape {
    /// A string.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `true` or `false`.
    Flag,
    /// A number.
    Number,
    /// Strings without commas: an array in a file, separated by commas on a command line.
    List,
    /// Strings of any kind: an array in a file, the option given again and again on a command line.
    Texts,
}

/// An option of a rule.
#[derive(Clone, Copy, Debug)]
pub struct OptionKind {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub shape: Shape,
    /// What it does, in a sentence.
    pub about: &'static str,
}

/// A kind of rules that can be made from options.
#[derive(Clone, Copy, Debug)]
pub struct RuleKind {
    /// The name, and unless set otherwise the id.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub about: &'static str,
    /// What it takes, besides [`COMMON`].
    pub options: &'static [OptionKind],
    /// Makes one.
    pub make: fn(&mut Options) -> Result<Arc<dyn Rule>, OptionError>,
}

/// Every kind of rule there is.
pub const RULES: &[RuleKind] = &[
    crate::tools::ALLOWED,
    crate::tools::DENIED,
    crate::tools::RANGES,
    crate::tools::HITL_ON_AMOUNT,
    crate::patterns::BLOCKED,
    crate::patterns::HITL,
    crate::budget::BUDGET,
    crate::budget::HITL,
    crate::sql::KIND,
    crate::paths::KIND,
    crate::net::KIND,
    SHELL,
    SECRETS,
];

/// A kind of rules that ask another process. Listed in [`SCANNERS`] as other rules are in [`RULES`]; in a file they
/// stand among those.
#[derive(Clone, Copy, Debug)]
pub struct ScannerKind {
    /// The name, and unless set otherwise the id.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub about: &'static str,
    /// What it takes, besides [`COMMON`].
    pub options: &'static [OptionKind],
    /// Makes one.
    pub make: fn(&mut Options) -> Result<Arc<dyn AsyncRule>, OptionError>,
}

/// Every kind of rule there is that asks another process: none without the feature `scanners`.
pub const SCANNERS: &[ScannerKind] = &[
    #[cfg(feature = "scanners")]
    crate::scanners::PRESIDIO,
    #[cfg(feature = "scanners")]
    crate::scanners::LLAMA_FIREWALL,
    #[cfg(feature = "scanners")]
    crate::scanners::SCANNER,
];

/// A kind of redactors that can be made from options. Listed in [`REDACTORS`] as rules are in [`RULES`].
#[derive(Clone, Copy, Debug)]
pub struct RedactorKind {
    /// The name.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub about: &'static str,
    /// What it takes.
    pub options: &'static [OptionKind],
    /// Makes one.
    pub make: fn(&mut Options) -> Result<Arc<dyn Redactor>, OptionError>,
}

/// Every kind of redactor there is.
pub const REDACTORS: &[RedactorKind] = &[PII, SECRETS_OUT];

const SHELL: RuleKind = RuleKind {
    name: "blocked_shell",
    about: "Blocks shell commands that do harm, in any string of a tool's arguments.",
    options: &[
        OptionKind {
            name: "deny_programs",
            shape: Shape::List,
            about: "Programs that are blocked, however they are spelled or wrapped.",
        },
        OptionKind {
            name: "allow_programs",
            shape: Shape::List,
            about: "The only programs, each with the subcommand and options it may have.",
        },
        OptionKind {
            name: "protected_paths",
            shape: Shape::List,
            about: "Paths that nothing may read, write, delete or re-permit.",
        },
        OptionKind {
            name: "arguments",
            shape: Shape::List,
            about: "Names of arguments that hold commands, besides those that say so.",
        },
        OptionKind {
            name: "extra_patterns",
            shape: Shape::Texts,
            about: "Regular expressions that are looked for in commands.",
        },
        OptionKind {
            name: "unknown",
            shape: Shape::Choice(&["block", "hitl"]),
            about: "What happens where a name or a decisive argument is not known before the command runs.",
        },
    ],
    make: |options| {
        let mut rule = BlockedShell::new();
        for name in [
            "deny_programs",
            "allow_programs",
            "protected_paths",
            "arguments",
            "unknown",
        ] {
            let values = options.all(name);
            if !values.is_empty() {
                rule = rule
                    .with_option(name, &values.join(","))
                    .map_err(|error| OptionError::invalid(name, error.to_string()))?;
            }
        }
        let patterns = options.all("extra_patterns");
        if !patterns.is_empty() {
            crate::patterns::check(&patterns)
                .map_err(|error| OptionError::invalid("extra_patterns", error.to_string()))?;
            rule = rule
                .extra_patterns(patterns)
                .map_err(|error| OptionError::invalid("extra_patterns", error.to_string()))?;
        }
        Ok(Arc::new(rule))
    },
};

const SECRETS: RuleKind = RuleKind {
    name: "secrets",
    about: "Blocks calls that hold a key, a token or a password.",
    options: &[],
    make: |_| Ok(Arc::new(SecretsRule::new())),
};

const SECRETS_OUT: RedactorKind = RedactorKind {
    name: "secrets",
    about: "Takes keys, tokens and passwords out.",
    options: &[],
    make: |_| Ok(SecretsRule::new().into_redactor()),
};

const PII: RedactorKind = RedactorKind {
    name: "pii",
    about: "Takes personal data out.",
    options: &[
        OptionKind {
            name: "without",
            shape: Shape::List,
            about: "Kinds that stay: `EMAIL`, `PHONE`, `CREDIT_CARD`, `SSN`, `IBAN`, `IP_ADDRESS`, `MAC_ADDRESS`.",
        },
        OptionKind {
            name: "mode",
            shape: Shape::Choice(&["mask", "hash"]),
            about: "What a finding becomes: `[REDACTED:EMAIL]`, or a keyed hash, so that equal values stay equal.",
        },
        OptionKind {
            name: "key",
            shape: Shape::Text,
            about: "The key of the hash: 64 hexadecimal digits. Keep the policy as secret as the key.",
        },
        OptionKind {
            name: "detectors",
            shape: Shape::Texts,
            about: "More to find: `KIND=REGULAR EXPRESSION`, within a line.",
        },
    ],
    make: |options| {
        let key = options.one("key")?;
        let hash = options.choice("mode", &[("mask", false), ("hash", true)])?;
        let mut redactor = match (hash.unwrap_or(false), key) {
            (false, None) => PiiRedactor::new(),
            (false, Some(_)) => return Err(OptionError::invalid("key", "is for `mode = \"hash\"`")),
            (true, key) => key
                .as_deref()
                .and_then(key_of)
                .map(PiiRedactor::hashed)
                .ok_or_else(|| OptionError::invalid("key", "is 64 hexadecimal digits"))?,
        };
        for kind in options.list("without") {
            if !KINDS.contains(&kind.as_str()) {
                return Err(OptionError::invalid(
                    "without",
                    format!("takes {}", KINDS.join(", ")),
                ));
            }
            redactor = redactor.without(kind);
        }
        for detector in options.all("detectors") {
            let (kind, pattern) = detector
                .split_once('=')
                .ok_or_else(|| OptionError::invalid("detectors", "is written `KIND=REGULAR EXPRESSION`"))?;
            redactor = redactor
                .with_detector(kind, pattern)
                .map_err(|error| OptionError::invalid("detectors", error.to_string()))?;
        }
        Ok(Arc::new(redactor))
    },
};

fn key_of(text: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in key.iter_mut().enumerate() {
        let from = at.checked_mul(2)?;
        *byte = u8::from_str_radix(text.get(from..from.checked_add(2)?)?, 16).ok()?;
    }
    Some(key)
}

/// The options that every rule has.
pub const COMMON: &[OptionKind] = &[
    OptionKind {
        name: "id",
        shape: Shape::Text,
        about: "The id under which the rule decides.",
    },
    OptionKind {
        name: "tools",
        shape: Shape::List,
        about: "Ask the rule about these tools only; `*` stands for any characters.",
    },
    OptionKind {
        name: "action",
        shape: Shape::Choice(&["block", "hitl", "warn"]),
        about: "What happens instead where the rule would block or ask.",
    },
    OptionKind {
        name: "shadow",
        shape: Shape::Flag,
        about: "Only note what the rule would have done.",
    },
];

fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// A name as a message may show it: not all of a long one, and nothing that a terminal would obey.
pub(crate) fn shown(name: &str) -> String {
    const MOST: usize = 64;
    let mut shown: String = name.chars().take(MOST).flat_map(char::escape_debug).collect();
    if name.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}

/// ` (did you mean …?)`, where one of `names` is near.
pub(crate) fn did_you_mean<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let near = names
        .into_iter()
        .map(|known| (distance(name, known), known))
        .filter(|(distance, known)| *distance <= known.len().div_ceil(4).max(1))
        .min_by_key(|(distance, _)| *distance);
    near.map_or_else(String::new, |(_, known)| format!(" (did you mean `{known}`?)"))
}

/// How many characters have to be put in, taken out, changed or swapped with the next to make one of the other. Names of
/// more than 64 characters are far from everything.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) =
        (one.chars().take(65).collect(), other.chars().take(65).collect());
    if one.len() > 64 || other.len() > 64 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, c) in one.iter().enumerate() {
        let mut next = vec![at.saturating_add(1)];
        for (place, d) in other.iter().enumerate() {
            let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX);
            let after = place.saturating_add(1);
            let mut least = cell(&row, place)
                .saturating_add(usize::from(c != d))
                .min(cell(&row, after).saturating_add(1))
                .min(cell(&next, place).saturating_add(1));
            let swapped = at
                .checked_sub(1)
                .zip(place.checked_sub(1))
                .is_some_and(|(at, place)| one.get(at) == Some(d) && other.get(place) == Some(c));
            if swapped {
                least = least.min(cell(&before, place.saturating_sub(1)).saturating_add(1));
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(usize::MAX)
}

/// The options of a rule or redactor: its own, and those that all of its kind have. `None` where there is no such.
pub(crate) fn known_options(group: Group, name: &str) -> Option<Vec<&'static OptionKind>> {
    let (_, own) = group.kinds().into_iter().find(|(kind, _)| *kind == name)?;
    let common = match group {
        Group::Rules => COMMON,
        Group::Redactors => &[],
    };
    Some(own.iter().chain(common).collect())
}

/// Makes the rule called `name` from pairs of option and value.
///
/// An option may be given more than once where it takes a list.
///
/// # Errors
/// [`OptionError`] where there is no such rule or option, or a value makes no sense.
///
/// ```
/// use leash_policy::rule_from_options;
///
/// let rule = rule_from_options("blocked_sql", &[("mode", "read_only"), ("dialect", "postgres")])?;
/// assert_eq!(rule.id(), "blocked_sql");
/// assert!(rule_from_options("blocked_sql", &[("mod", "read_only")]).is_err());
/// # Ok::<(), leash_policy::OptionError>(())
/// ```
pub fn rule_from_options<K: AsRef<str>, V: AsRef<str>>(
    name: &str,
    options: &[(K, V)],
) -> Result<Arc<dyn Rule>, OptionError> {
    let Some(kind) = RULES.iter().find(|kind| kind.name == name) else {
        let asks = SCANNERS.iter().any(|kind| kind.name == name);
        let wrong = if asks {
            OptionError::Scanner
        } else {
            OptionError::UnknownRule
        };
        return Err(wrong(name.to_owned()));
    };
    let mut options = Options::of(options);
    options.check(Group::Rules, name)?;
    let common = Common::take(&mut options)?;
    check_action(name, common.action)?;
    let rule = (kind.make)(&mut options)?;
    options.finish(Group::Rules, name)?;
    if common.is_plain() {
        return Ok(rule);
    }
    let mut adjusted = Adjusted::new(rule).shadow(common.shadow);
    if let Some(id) = common.id {
        adjusted = adjusted.with_id(id);
    }
    if let Some(action) = common.action {
        adjusted = adjusted.action(action);
    }
    if !common.tools.is_empty() {
        adjusted = adjusted.only_tools(common.tools);
    }
    Ok(Arc::new(adjusted))
}

/// Makes the rule called `name` that asks another process, as [`rule_from_options`] makes the others.
///
/// # Errors
/// [`OptionError`] where there is no such rule or option, or a value makes no sense.
pub fn scanner_from_options<K: AsRef<str>, V: AsRef<str>>(
    name: &str,
    options: &[(K, V)],
) -> Result<Arc<dyn AsyncRule>, OptionError> {
    let kind = SCANNERS
        .iter()
        .find(|kind| kind.name == name)
        .ok_or_else(|| OptionError::UnknownRule(name.to_owned()))?;
    let mut options = Options::of(options);
    options.check(Group::Rules, name)?;
    let common = Common::take(&mut options)?;
    check_action(name, common.action)?;
    let rule = (kind.make)(&mut options)?;
    options.finish(Group::Rules, name)?;
    if common.is_plain() {
        return Ok(rule);
    }
    let mut adjusted = AdjustedAsync::new(rule).shadow(common.shadow);
    if let Some(id) = common.id {
        adjusted = adjusted.with_id(id);
    }
    if let Some(action) = common.action {
        adjusted = adjusted.action(action);
    }
    if !common.tools.is_empty() {
        adjusted = adjusted.only_tools(common.tools);
    }
    Ok(Arc::new(adjusted))
}

/// Whether a rule may decide under this name: it stands in the log, and on terminals, and must not pass for a part of the
/// firewall that is no rule.
fn is_id(id: &str) -> bool {
    id.len() <= 128
        && !id.chars().any(char::is_control)
        && !["engine:", "kill:", "budget:", "hitl:", "audit:", "firewall:"]
            .iter()
            .any(|taken| id.trim_start().starts_with(taken))
        && ![rule_ids::REDACT, rule_ids::WIRE].contains(&id.trim())
}

/// Refuses an action for a rule that never blocks or asks, and so would go on as if nobody had asked for it.
fn check_action(name: &str, action: Option<Action>) -> Result<(), OptionError> {
    match action {
        Some(Action::Block | Action::Hitl) if name == "budget_threshold" => Err(OptionError::invalid(
            "action",
            "is for rules that block or ask, and `budget_threshold` only warns; take `hitl_threshold`",
        )),
        _ => Ok(()),
    }
}

/// The values of [`COMMON`].
struct Common {
    id: Option<String>,
    tools: Vec<String>,
    shadow: bool,
    action: Option<Action>,
}

impl Common {
    fn take(options: &mut Options) -> Result<Self, OptionError> {
        Ok(Self {
            id: match options.one("id")? {
                Some(id) if !is_id(&id) => {
                    return Err(OptionError::invalid(
                        "id",
                        "is at most 128 bytes without control characters, and none of the firewall's own (`engine:…`, `kill:…`)",
                    ));
                }
                id => id,
            },
            tools: options.list("tools"),
            shadow: options.flag("shadow")?.unwrap_or(false),
            action: match options.one("action")?.as_deref() {
                None => None,
                Some("block") => Some(Action::Block),
                Some("hitl") => Some(Action::Hitl),
                Some("warn") => Some(Action::Warn),
                Some(_) => return Err(OptionError::invalid("action", "is `block`, `hitl` or `warn`")),
            },
        })
    }

    /// Whether the rule stays as it is.
    fn is_plain(&self) -> bool {
        self.id.is_none() && self.tools.is_empty() && !self.shadow && self.action.is_none()
    }
}

/// Makes the redactor called `name` from pairs of option and value, as [`rule_from_options`] makes rules.
///
/// # Errors
/// [`OptionError`] where there is no such redactor or option, or a value makes no sense.
pub fn redactor_from_options<K: AsRef<str>, V: AsRef<str>>(
    name: &str,
    options: &[(K, V)],
) -> Result<Arc<dyn Redactor>, OptionError> {
    let kind = REDACTORS
        .iter()
        .find(|kind| kind.name == name)
        .ok_or_else(|| OptionError::UnknownRedactor(name.to_owned()))?;
    let mut options = Options::of(options);
    options.check(Group::Redactors, name)?;
    let redactor = (kind.make)(&mut options)?;
    options.finish(Group::Redactors, name)?;
    Ok(redactor)
}

/// The options that a rule is made from. What is asked for is taken out; what remains is refused.
#[derive(Debug, Default)]
pub struct Options {
    given: Vec<(String, String)>,
}

impl Options {
    fn of<K: AsRef<str>, V: AsRef<str>>(pairs: &[(K, V)]) -> Self {
        let given = pairs
            .iter()
            .map(|(key, value)| (key.as_ref().replace('-', "_"), value.as_ref().to_owned()));
        Self {
            given: given.collect(),
        }
    }

    /// Refuses what the rule does not have, before anything is said of what it misses: a misspelled option is both. And
    /// what says nothing: it is what remains of a place holder, and would switch a list off that allows.
    fn check(&self, group: Group, rule: &str) -> Result<(), OptionError> {
        let known = known_options(group, rule).unwrap_or_default();
        for (name, value) in &self.given {
            let shape = known
                .iter()
                .find(|option| option.name == name)
                .map(|option| option.shape)
                .ok_or_else(|| OptionError::unknown_option(group, rule, name))?;
            let says = match shape {
                Shape::Texts => true,
                Shape::List => value.split(',').any(|part| !part.trim().is_empty()),
                _ => !value.trim().is_empty(),
            };
            if !says {
                return Err(OptionError::invalid(name, "is empty; leave it out"));
            }
        }
        Ok(())
    }

    /// Refuses what nobody asked for.
    fn finish(self, group: Group, name: &str) -> Result<(), OptionError> {
        match self.given.into_iter().next() {
            None => Ok(()),
            Some((option, _)) => Err(OptionError::unknown_option(group, name, &option)),
        }
    }

    /// The value of `key`, if it was given.
    ///
    /// # Errors
    /// [`OptionError`] where it was given twice.
    pub fn one(&mut self, key: &str) -> Result<Option<String>, OptionError> {
        let mut values = self.all(key);
        let last = values.pop();
        if values.is_empty() {
            Ok(last)
        } else {
            Err(OptionError::invalid(key, "is given more than once"))
        }
    }

    /// Every value of `key`, as it is.
    pub fn all(&mut self, key: &str) -> Vec<String> {
        let mut values = Vec::new();
        self.given.retain_mut(|(name, value)| {
            let taken = name == key;
            if taken {
                values.push(std::mem::take(value));
            }
            !taken
        });
        values
    }

    /// Every value of `key`, taken apart at commas and trimmed.
    pub fn list(&mut self, key: &str) -> Vec<String> {
        let values = self.all(key);
        let parts = values.iter().flat_map(|value| value.split(','));
        parts
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// `true` or `false`, if `key` was given.
    ///
    /// # Errors
    /// [`OptionError`] for anything else.
    pub fn flag(&mut self, key: &str) -> Result<Option<bool>, OptionError> {
        match self.one(key)?.as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(OptionError::invalid(key, "is `true` or `false`")),
        }
    }

    /// A number, if `key` was given.
    ///
    /// # Errors
    /// [`OptionError`] where it is none, or does not fit.
    pub fn number<T: FromStr>(&mut self, key: &str) -> Result<Option<T>, OptionError> {
        let Some(value) = self.one(key)? else {
            return Ok(None);
        };
        let parsed = value.trim().parse();
        parsed
            .map(Some)
            .map_err(|_| OptionError::invalid(key, "is no number, or out of range"))
    }

    /// The meaning of a word out of `words`, if `key` was given.
    ///
    /// # Errors
    /// [`OptionError`] for any other word.
    pub fn choice<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Result<Option<T>, OptionError> {
        let Some(value) = self.one(key)? else {
            return Ok(None);
        };
        let found = words.iter().find(|(word, _)| *word == value);
        found.map(|(_, meaning)| Some(*meaning)).ok_or_else(|| {
            let words: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            OptionError::invalid(key, format!("is one of {}", words.join(", ")))
        })
    }
}
