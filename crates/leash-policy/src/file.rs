//! Policies in TOML: [`Policy`]. Knows the text, and neither disk nor network.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use leash_core::{AsyncRule, Digest, Json, PolicyEngine, Redactor, Rule, RuleError};
use serde_json::{Map, Value, json};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::registry::{
    COMMON, Group, OptionError, OptionKind, REDACTORS, RULES, SCANNERS, Shape, did_you_mean, known_options,
    redactor_from_options, rule_from_options, scanner_from_options, shown,
};

/// Longest policy, in bytes.
const MAX_BYTES: usize = 1 << 20;
/// Most rules of a policy.
const MAX_RULES: usize = 1_000;
/// Most redactors of a policy.
const MAX_REDACTORS: usize = 100;

/// A policy that cannot be used. Says where, and quotes no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// It is no TOML.
    #[error("line {line}: {what}")]
    Syntax {
        /// From 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// Something at the top is not known, or has another shape.
    #[error("line {line}: {what}")]
    Shape {
        /// From 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// A rule cannot be made.
    #[error("line {line}: rule {place}: {source}")]
    Rule {
        /// The line of what is wrong, from 1.
        line: usize,
        /// Which, from 1.
        place: usize,
        /// Why.
        source: OptionError,
    },
    /// A redactor cannot be made.
    #[error("line {line}: redactor {place}: {source}")]
    Redactor {
        /// The line of what is wrong, from 1.
        line: usize,
        /// Which, from 1.
        place: usize,
        /// Why.
        source: OptionError,
    },
}

impl PolicyError {
    /// The line of what is wrong, from 1.
    #[must_use]
    pub const fn line(&self) -> usize {
        match self {
            Self::Syntax { line, .. }
            | Self::Shape { line, .. }
            | Self::Rule { line, .. }
            | Self::Redactor { line, .. } => *line,
        }
    }
}

/// Rules and redactors, in the order of a file.
///
/// ```
/// use leash_policy::Policy;
///
/// let policy = Policy::parse(
///     r#"
///     [[rules]]
///     rule = "blocked_sql"
///     dialect = "postgres"
///
///     [[rules]]
///     rule = "blocked_patterns"
///     id = "injection"
///     pattern = ["ignore (all )?previous instructions"]
///     shadow = true
///     "#,
/// )?;
/// assert_eq!(policy.rules().len(), 2);
/// # Ok::<(), leash_policy::PolicyError>(())
/// ```
#[derive(Clone)]
pub struct Policy {
    rules: Vec<Arc<dyn Rule>>,
    async_rules: Vec<Arc<dyn AsyncRule>>,
    redactors: Vec<Arc<dyn Redactor>>,
    version: Digest,
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = self.rules.iter().map(|rule| rule.id()).collect();
        let scanners: Vec<&str> = self.async_rules.iter().map(|rule| rule.id()).collect();
        f.debug_struct("Policy")
            .field("rules", &ids)
            .field("async_rules", &scanners)
            .field("redactors", &self.redactors.len())
            .field("version", &self.version)
            .finish()
    }
}

/// How often a chain of redactors is gone through.
const MAX_ROUNDS: u32 = 16;

/// Redactors one after the other, until none of them changes anything: what one takes out may uncover what another
/// finds.
#[derive(Clone, Debug)]
pub struct Redactors(Vec<Arc<dyn Redactor>>);

impl Redactors {
    /// These, in order.
    pub fn new(redactors: impl IntoIterator<Item = Arc<dyn Redactor>>) -> Self {
        Self(redactors.into_iter().collect())
    }
}

impl Redactor for Redactors {
    fn redact(&self, document: &Json) -> Result<Option<Json>, RuleError> {
        let mut changed: Option<Json> = None;
        for _ in 0..MAX_ROUNDS {
            let mut settled = true;
            for redactor in &self.0 {
                if let Some(redacted) = redactor.redact(changed.as_ref().unwrap_or(document))? {
                    settled &= changed.as_ref() == Some(&redacted);
                    changed = Some(redacted);
                }
            }
            if settled {
                return Ok(changed);
            }
        }
        Err(RuleError::new("the redactors undo each other's work"))
    }
}

impl Policy {
    /// Reads a policy. Whatever it does not know is refused: a typo must not make a policy weaker. So is a text in which
    /// nothing stands, which may be what is left of a policy; one that is meant to be empty says `rules = []`.
    ///
    /// # Errors
    /// [`PolicyError`] with the place.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let shape = |at: usize, what: &str| PolicyError::Shape {
            line: line_of(text, at),
            what: what.to_owned(),
        };
        if text.len() > MAX_BYTES {
            return Err(shape(0, "the policy is longer than 1 MiB"));
        }
        let document = DeTable::parse(text).map_err(|error| PolicyError::Syntax {
            line: line_of(text, error.span().map_or(0, |span| span.start)),
            what: error.message().trim_end().to_owned(),
        })?;
        let mut policy = Self {
            rules: Vec::new(),
            async_rules: Vec::new(),
            redactors: Vec::new(),
            version: Digest::of(text.as_bytes()),
        };
        if document.get_ref().is_empty() {
            return Err(shape(
                0,
                "there is no rule and no redactor; a policy that is meant to be empty says `rules = []`",
            ));
        }
        for (name, value) in document.get_ref() {
            let (key, at) = (name.get_ref().as_ref(), name.span().start);
            let (most, what) = match key {
                "rules" => (MAX_RULES, "rules"),
                "redactors" => (MAX_REDACTORS, "redactors"),
                _ => {
                    let meant = did_you_mean(key, ["rules", "redactors"]);
                    let what = format!(
                        "`{}` is not known{meant}; a policy has `[[rules]]` and `[[redactors]]`",
                        shown(key)
                    );
                    return Err(shape(at, &what));
                }
            };
            let DeValue::Array(entries) = value.get_ref() else {
                let at = value.span().start;
                return Err(shape(at, &format!("`{key}` is written as `[[{key}]]` tables")));
            };
            if entries.len() > most {
                return Err(shape(at, &format!("there are more than {most} {what}")));
            }
            if key == "rules" {
                policy.take_rules(text, entries)?;
            } else {
                policy.take_redactors(text, entries)?;
            }
        }
        Ok(policy)
    }

    fn take_rules(&mut self, text: &str, entries: &DeArray<'_>) -> Result<(), PolicyError> {
        let mut ids: Vec<String> = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            let wrong = |(at_byte, source): (usize, OptionError)| PolicyError::Rule {
                line: line_of(text, at_byte),
                place: at.saturating_add(1),
                source,
            };
            let entry = Entry::read(Group::Rules, entry).map_err(wrong)?;
            let placed = |source: OptionError| wrong((entry.place_of(&source), source));
            let id = if SCANNERS.iter().any(|scanner| scanner.name == entry.kind) {
                let rule = scanner_from_options(&entry.kind, &entry.options).map_err(placed)?;
                let id = rule.id().to_owned();
                self.async_rules.push(rule);
                id
            } else {
                let rule = rule_from_options(&entry.kind, &entry.options).map_err(placed)?;
                let id = rule.id().to_owned();
                self.rules.push(rule);
                id
            };
            if ids.contains(&id) {
                return Err(placed(OptionError::invalid(
                    "id",
                    "is the id of a rule before it; give one of them another",
                )));
            }
            ids.push(id);
        }
        Ok(())
    }

    fn take_redactors(&mut self, text: &str, entries: &DeArray<'_>) -> Result<(), PolicyError> {
        for (at, entry) in entries.iter().enumerate() {
            let wrong = |(at_byte, source): (usize, OptionError)| PolicyError::Redactor {
                line: line_of(text, at_byte),
                place: at.saturating_add(1),
                source,
            };
            let entry = Entry::read(Group::Redactors, entry).map_err(wrong)?;
            let redactor = redactor_from_options(&entry.kind, &entry.options)
                .map_err(|source| wrong((entry.place_of(&source), source)))?;
            self.redactors.push(redactor);
        }
        Ok(())
    }

    /// The rules that decide by themselves, in order.
    #[must_use]
    pub fn rules(&self) -> &[Arc<dyn Rule>] {
        &self.rules
    }

    /// The rules that ask another process, in order. They are asked after all others, and only where none of those
    /// blocked.
    #[must_use]
    pub fn async_rules(&self) -> &[Arc<dyn AsyncRule>] {
        &self.async_rules
    }

    /// The redactors, in order.
    #[must_use]
    pub fn redactors(&self) -> &[Arc<dyn Redactor>] {
        &self.redactors
    }

    /// All redactors as one: in order, again until nothing changes, so that redacting twice is redacting once. `None`
    /// where there is none.
    #[must_use]
    pub fn redactor(&self) -> Option<Arc<dyn Redactor>> {
        match self.redactors.as_slice() {
            [] => None,
            [one] => Some(Arc::clone(one)),
            all => Some(Arc::new(Redactors(all.to_vec()))),
        }
    }

    /// SHA-256 of the text: what names this policy in a log.
    #[must_use]
    pub fn version(&self) -> Digest {
        self.version
    }

    /// An engine that asks the rules in order.
    #[must_use]
    pub fn engine(&self) -> PolicyEngine {
        PolicyEngine::new(self.rules.clone(), self.async_rules.clone())
    }

    /// The JSON Schema (draft 2020-12) of a policy, for editors.
    ///
    /// ```
    /// let schema = leash_policy::Policy::schema();
    /// assert_eq!(schema["type"], "object");
    /// ```
    #[must_use]
    pub fn schema() -> Value {
        let rules = RULES
            .iter()
            .map(|kind| entry("rule", kind.name, kind.about, kind.options, COMMON));
        let scanners = SCANNERS
            .iter()
            .map(|kind| entry("rule", kind.name, kind.about, kind.options, COMMON));
        let redactors = REDACTORS
            .iter()
            .map(|kind| entry("redactor", kind.name, kind.about, kind.options, &[]));
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "A policy of llm-leash",
            "type": "object",
            "minProperties": 1,
            "additionalProperties": false,
            "properties": {
                "rules": {
                    "description": "The rules, in the order in which they are asked.",
                    "type": "array",
                    "maxItems": MAX_RULES,
                    "items": {"oneOf": rules.chain(scanners).collect::<Vec<_>>()},
                },
                "redactors": {
                    "description": "What is taken out of what leaves, in order.",
                    "type": "array",
                    "maxItems": MAX_REDACTORS,
                    "items": {"oneOf": redactors.collect::<Vec<_>>()},
                },
            },
        })
    }
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.get(..at).unwrap_or(text);
    before.matches('\n').count().saturating_add(1)
}

/// An entry as pairs of option and value; an array is a pair for each of its items.
struct Entry {
    kind: String,
    options: Vec<(String, String)>,
    /// Where it begins, and where each of its members does, in bytes.
    start: usize,
    places: Vec<(String, usize)>,
}

impl Entry {
    /// Where the option stands that `error` is about; where it does not, where the entry begins.
    fn place_of(&self, error: &OptionError) -> usize {
        error
            .option()
            .and_then(|option| self.places.iter().find(|(name, _)| name == option))
            .map_or(self.start, |(_, at)| *at)
    }

    /// Reads the entry strictly: an option has the shape that the schema says it has. What is wrong comes with its place.
    fn read(group: Group, entry: &Spanned<DeValue<'_>>) -> Result<Self, (usize, OptionError)> {
        let what = group.word();
        let start = entry.span().start;
        let DeValue::Table(table) = entry.get_ref() else {
            return Err((start, OptionError::invalid(what, "is not a table")));
        };
        let kind = match table.get(what).map(|kind| (kind.span().start, kind.get_ref())) {
            None => return Err((start, OptionError::invalid(what, "is missing"))),
            Some((_, DeValue::String(kind))) => kind.to_string(),
            Some((at, _)) => return Err((at, OptionError::invalid(what, "is a name in quotes"))),
        };
        let kind_at = table.get(what).map_or(start, |kind| kind.span().start);
        let known = known_options(group, &kind).ok_or_else(|| (kind_at, group.unknown(&kind)))?;
        let (mut options, mut places) = (Vec::new(), vec![(what.to_owned(), kind_at)]);
        for (name, value) in table {
            let (key, at) = (name.get_ref().as_ref(), name.span().start);
            if key == what {
                continue;
            }
            let shape = known
                .iter()
                .find(|option| option.name == key)
                .map(|option| option.shape)
                .ok_or_else(|| (at, OptionError::unknown_option(group, &kind, key)))?;
            let values = values_of(shape, value.get_ref())
                .map_err(|what| (value.span().start, OptionError::invalid(key, what)))?;
            options.extend(values.into_iter().map(|value| (key.to_owned(), value)));
            places.push((key.to_owned(), at));
        }
        Ok(Self {
            kind,
            options,
            start,
            places,
        })
    }
}

/// The values of an option of this shape, as a command line would give them; or what it is instead.
fn values_of(shape: Shape, value: &DeValue<'_>) -> Result<Vec<String>, &'static str> {
    let one = |text: &str| Ok(vec![text.to_owned()]);
    match (shape, value) {
        (Shape::Text | Shape::Choice(_) | Shape::List | Shape::Texts, DeValue::String(text)) => one(text),
        (Shape::Flag, DeValue::Boolean(flag)) => one(if *flag { "true" } else { "false" }),
        (Shape::Number, DeValue::Integer(number)) => {
            match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => one(&number.to_string()),
                Err(_) => Err("is out of range"),
            }
        }
        (Shape::Number, DeValue::Float(number)) => one(number.as_str()),
        (Shape::List | Shape::Texts, DeValue::Array(items)) if items.is_empty() => {
            Err("is empty; leave it out")
        }
        (Shape::List | Shape::Texts, DeValue::Array(items)) => items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::String(text) => Ok(text),
                _ => Err("is an array of texts in quotes"),
            })
            .map(|text| match text? {
                // On a command line a comma separates; here it would quietly make two of one.
                text if shape == Shape::List && text.contains(',') => {
                    Err("is an array; what is in it holds no comma")
                }
                text if shape == Shape::List && text.trim().is_empty() => Err("has an empty text in it"),
                text => Ok(Cow::clone(text).into_owned()),
            })
            .collect(),
        (Shape::Text | Shape::Choice(_), _) => Err("is a text in quotes"),
        (Shape::Flag, _) => Err("is `true` or `false`, without quotes"),
        (Shape::Number, _) => Err("is a number, without quotes"),
        (Shape::List | Shape::Texts, _) => Err("is a text in quotes, or an array of them"),
    }
}

/// A text that says anything; one that says anything between its commas; one that does and has none.
const SAYS: &str = r"\S";
const LISTS: &str = r"[^\s,]";
const ITEM: &str = r"^[^,]*[^\s,][^,]*$";

fn entry(what: &str, name: &str, about: &str, options: &[OptionKind], common: &[OptionKind]) -> Value {
    let mut properties = Map::new();
    properties.insert(what.to_owned(), json!({"const": name, "description": about}));
    for option in options.iter().chain(common) {
        let mut shape = match option.shape {
            Shape::Text => json!({"type": "string", "pattern": SAYS}),
            Shape::Choice(words) => json!({"enum": words}),
            Shape::Flag => json!({"type": "boolean"}),
            Shape::Number => json!({"type": "number"}),
            Shape::List => json!({
                "anyOf": [
                    {"type": "string", "pattern": LISTS},
                    {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": ITEM}},
                ],
            }),
            Shape::Texts => json!({
                "anyOf": [
                    {"type": "string"},
                    {"type": "array", "minItems": 1, "items": {"type": "string"}},
                ],
            }),
        };
        if let Some(members) = shape.as_object_mut() {
            members.insert("description".to_owned(), option.about.into());
        }
        properties.insert(option.name.to_owned(), shape);
    }
    json!({
        "type": "object",
        "description": about,
        "required": [what],
        "additionalProperties": false,
        "properties": properties,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_refused_with_its_place() {
        for (text, message) in [
            ("[[rules]]\nrule = ", "line 2: "),
            ("a = 1\n\n\na = 2", "line 4: "),
            (
                "\n[[rule]]\nrule = \"x\"",
                "line 2: `rule` is not known (did you mean `rules`?)",
            ),
            ("rules = 1", "line 1: `rules` is written as `[[rules]]`"),
            ("rules = [1]", "line 1: rule 1: option `rule`: is not a table"),
            ("", "line 1: there is no rule"),
            ("\n# a comment\n", "there is no rule"),
            (
                "[[rules]]\nmode = \"x\"",
                "line 1: rule 1: option `rule`: is missing",
            ),
            ("[[rules]]\nrule = 1", "line 2: rule 1: option `rule`: is a name"),
            (
                "[[rules]]\nrule = \"blocked_sqll\"",
                "line 2: rule 1: there is no rule `blocked_sqll` (did you mean `blocked_sql`?); there are `allowed_tools`",
            ),
            (
                "[[rules]]\r\nrule = \"blocked_sql\"\r\n\r\nmod = \"x\"\r\n",
                "line 4: rule 1: `blocked_sql` has no option `mod` (did you mean `mode`?); it has `mode`",
            ),
            (
                "[[rules]]\nrule = \"blocked_sql\"\ndeny-tables = [\"x\"]",
                "line 3: rule 1: `blocked_sql` has no option `deny-tables` (did you mean `deny_tables`?)",
            ),
            (
                "[[rules]]\nrule = \"blocked_paths\"\nroots = [\"/srv/a,b\"]",
                "line 3: rule 1: option `roots`: is an array",
            ),
            (
                "[[rules]]\nrule = \"blocked_paths\"\nroots = [\".\"]",
                "line 3: rule 1: option `roots`: is a folder",
            ),
            (
                "[[rules]]\nrule = \"blocked_urls\"\ndeny_hosts = [\"https://a.example/\"]",
                "option `deny_hosts`: is a host",
            ),
            (
                "[[rules]]\nrule = \"hitl_on_amount\"\nfield = \"\"\nthreshold = 1",
                "line 3: rule 1: option `field`: is empty",
            ),
            (
                "[[rules]]\nrule = \"hitl_on_amount\"\nthreshold = 1",
                "line 1: rule 1: option `field`: is missing",
            ),
            (
                "[[rules]]\nrule = \"argument_range\"\nfield = \"n\"\nmin = 2\nmax = 1",
                "line 4: rule 1: option `min`: is above",
            ),
            (
                "[[rules]]\nrule = \"argument_range\"\nfield = \"n\"\nmin = 99999999999999999999",
                "line 4: rule 1: option `min`: is out of range",
            ),
            (
                "[[rules]]\nrule = \"hitl_threshold\"\npercent = 80.5",
                "option `percent`: is a whole number",
            ),
            (
                "[[redactors]]\nredactor = \"pi\"",
                "line 2: redactor 1: there is no redactor `pi` (did you mean `pii`?); there are `pii`",
            ),
            (
                "[[redactors]]\nredactor = \"secrets\"\naction = \"warn\"",
                "line 3: redactor 1: `secrets` has no option `action`",
            ),
            (
                "[[rules]]\nrule = \"blocked_sql\"\nmode = \"x\"",
                "line 3: rule 1: option `mode`",
            ),
            (
                "[[rules]]\nrule = \"blocked_sql\"\n[[rules]]\nrule = \"blocked_sql\"",
                "line 3: rule 2: option `id`",
            ),
            (
                "[[rules]]\nrule = \"blocked_patterns\"\npattern = [\"a\", \"(\"]",
                "line 3: rule 1: option `pattern`: pattern 2: it is no regular expression: unclosed group",
            ),
            (
                "[[rules]]\nrule = \"budget_threshold\"\naction = \"block\"",
                "line 3: rule 1: option `action`: ",
            ),
        ] {
            let error = Policy::parse(text).unwrap_err();
            let said = error.to_string();
            assert!(said.contains(message), "{text}: {said}");
            assert!(said.starts_with(&format!("line {}: ", error.line())), "{said}");
        }
    }

    #[test]
    fn an_option_has_the_shape_that_it_is_said_to_have() {
        for (rule, option, message) in [
            (
                "blocked_sql",
                "shadow = \"true\"",
                "option `shadow`: is `true` or `false`, without quotes",
            ),
            (
                "blocked_sql",
                "require_where = 1",
                "option `require_where`: is `true` or `false`",
            ),
            (
                "budget_threshold",
                "percent = \"80\"",
                "option `percent`: is a number, without quotes",
            ),
            (
                "denied_tools",
                "names = 5",
                "option `names`: is a text in quotes, or an array of them",
            ),
            (
                "denied_tools",
                "names = [\"a\", 5]",
                "option `names`: is an array of texts in quotes",
            ),
            (
                "denied_tools",
                "names = {a = \"b\"}",
                "option `names`: is a text in quotes, or an array",
            ),
            ("blocked_sql", "mode = true", "option `mode`: is a text in quotes"),
            (
                "blocked_sql",
                "mode = 1979-05-27",
                "option `mode`: is a text in quotes",
            ),
            ("blocked_sql", "id = [\"a\"]", "option `id`: is a text in quotes"),
            // What is left of a place holder must not switch a list off.
            (
                "blocked_shell",
                "allow_programs = \"\"",
                "option `allow_programs`: is empty",
            ),
            (
                "blocked_shell",
                "allow_programs = \" , \"",
                "option `allow_programs`: is empty",
            ),
            ("blocked_paths", "roots = []", "option `roots`: is empty"),
            (
                "blocked_urls",
                "allow_hosts = [\"a.example\", \" \"]",
                "option `allow_hosts`: has an empty text",
            ),
            ("blocked_sql", "tools = \"\"", "option `tools`: is empty"),
            ("blocked_sql", "id = \" \"", "option `id`: is empty"),
            ("blocked_sql", "id = \"a\\nb\"", "option `id`: "),
            ("blocked_sql", "id = \"engine:default\"", "option `id`: "),
        ] {
            let text = format!("[[rules]]\nrule = \"{rule}\"\n{option}\n");
            let error = Policy::parse(&text).unwrap_err().to_string();
            assert!(
                error.starts_with("line 3: rule 1: ") && error.contains(message),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn a_policy_may_come_from_any_editor() {
        let text = "[[rules]]\nrule = \"denied_tools\"\nnames = \"a, b\"\n\n[[rules]]\nrule = \"hitl_on_amount\"\n\
                    field = \"n\"\nthreshold = 0x3e8\n";
        let plain = format!("{:?}", Policy::parse(text).unwrap().rules());
        assert!(plain.contains("1000") && plain.contains("\"b\""), "{plain}");
        for other in [format!("\u{feff}{text}"), text.replace('\n', "\r\n")] {
            let policy = Policy::parse(&other).unwrap();
            assert_eq!(format!("{:?}", policy.rules()), plain);
            assert_ne!(policy.version(), Digest::of(text.as_bytes()));
        }
    }

    #[test]
    fn a_message_shows_no_long_or_strange_name_as_it_is() {
        let long = "k".repeat(100_000);
        for text in [
            format!("{long} = 1"),
            format!("[[rules]]\nrule = \"{long}\""),
            format!("[[rules]]\nrule = \"blocked_sql\"\n{long} = 1"),
            "[[rules]]\nrule = \"\\u001b[2J\"".to_owned(),
            "\"\\u001b[2J\" = 1".to_owned(),
        ] {
            let error = Policy::parse(&text).unwrap_err().to_string();
            assert!(error.len() < 1_000 && !error.contains('\u{1b}'), "{error}");
        }
    }

    #[test]
    fn there_are_limits_on_how_much_a_policy_holds() {
        for text in [
            format!("# {}", "x".repeat(MAX_BYTES)),
            "[[rules]]\nrule = \"blocked_urls\"\n".repeat(MAX_RULES + 1),
            "[[redactors]]\nredactor = \"pii\"\n".repeat(MAX_REDACTORS + 1),
        ] {
            let error = Policy::parse(&text).unwrap_err().to_string();
            assert!(
                error.contains("more than") || error.contains("longer than"),
                "{error}"
            );
        }
        assert!(Policy::parse(&"[[redactors]]\nredactor = \"pii\"\n".repeat(MAX_REDACTORS)).is_ok());
    }

    #[test]
    fn every_rule_can_be_written_with_the_options_of_the_schema() {
        let scanners = SCANNERS.iter().map(|kind| (kind.name, kind.options));
        for (name, options) in RULES.iter().map(|kind| (kind.name, kind.options)).chain(scanners) {
            let names: Vec<&str> = options.iter().map(|option| option.name).collect();
            assert!(
                names
                    .iter()
                    .all(|name| COMMON.iter().all(|common| common.name != *name)),
                "{name}"
            );
        }
        let items = &Policy::schema()["properties"]["rules"]["items"]["oneOf"];
        assert_eq!(items.as_array().unwrap().len(), RULES.len() + SCANNERS.len());
    }

    #[test]
    fn a_policy_has_the_version_of_its_text() {
        let policy = Policy::parse("rules = []").unwrap();
        assert_eq!(policy.version(), Digest::of(b"rules = []"));
        assert!(policy.engine().is_empty());
    }
}
