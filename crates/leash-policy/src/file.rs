//! Policies in TOML: [`Policy`]. Knows the text, and neither disk nor network.

use std::fmt;
use std::sync::Arc;

use leash_core::{AsyncRule, Digest, Json, PolicyEngine, Redactor, Rule, RuleError};
use serde_json::{Map, Value, json};
use toml::Table;

use crate::registry::{
    COMMON, OptionError, OptionKind, REDACTORS, RULES, SCANNERS, Shape, is_list, redactor_from_options,
    rule_from_options, scanner_from_options,
};

/// Longest policy, in bytes.
const MAX_BYTES: usize = 1 << 20;
/// Most rules of a policy.
const MAX_RULES: usize = 1_000;

/// A policy that cannot be used. Says where, and quotes no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// It is no TOML.
    #[error("line {line}: {what}")]
    Syntax {
        /// From 1; 0 where it is not known.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// Something at the top is not known, or has another shape.
    #[error("{0}")]
    Shape(String),
    /// A rule cannot be made.
    #[error("rule {place}: {source}")]
    Rule {
        /// Which, from 1.
        place: usize,
        /// Why.
        source: OptionError,
    },
    /// A redactor cannot be made.
    #[error("redactor {place}: {source}")]
    Redactor {
        /// Which, from 1.
        place: usize,
        /// Why.
        source: OptionError,
    },
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
    /// Reads a policy. Whatever it does not know is refused: a typo must not make a policy weaker.
    ///
    /// # Errors
    /// [`PolicyError`] with the place.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.len() > MAX_BYTES {
            return Err(PolicyError::Shape("the policy is longer than 1 MiB".into()));
        }
        let table: Table = toml::from_str(text).map_err(|error: toml::de::Error| PolicyError::Syntax {
            line: error.span().map_or(0, |span| line_of(text, span.start)),
            what: error.message().to_owned(),
        })?;
        let mut rules: Vec<Arc<dyn Rule>> = Vec::new();
        let mut async_rules: Vec<Arc<dyn AsyncRule>> = Vec::new();
        let mut ids: Vec<String> = Vec::new();
        let mut redactors = Vec::new();
        for (name, value) in table {
            match (name.as_str(), value) {
                ("rules", toml::Value::Array(entries)) => {
                    if entries.len() > MAX_RULES {
                        return Err(PolicyError::Shape(format!(
                            "there are more than {MAX_RULES} rules"
                        )));
                    }
                    for (at, entry) in entries.into_iter().enumerate() {
                        let place = at.saturating_add(1);
                        let wrong = |source| PolicyError::Rule { place, source };
                        let (kind, options) = options_of(entry, "rule").map_err(wrong)?;
                        let id = if SCANNERS.iter().any(|scanner| scanner.name == kind) {
                            let rule = scanner_from_options(&kind, &options).map_err(wrong)?;
                            let id = rule.id().to_owned();
                            async_rules.push(rule);
                            id
                        } else {
                            let rule = rule_from_options(&kind, &options).map_err(wrong)?;
                            let id = rule.id().to_owned();
                            rules.push(rule);
                            id
                        };
                        if ids.contains(&id) {
                            return Err(wrong(OptionError::invalid(
                                "id",
                                "is the id of a rule before it; give one of them another",
                            )));
                        }
                        ids.push(id);
                    }
                }
                ("redactors", toml::Value::Array(entries)) => {
                    for (at, entry) in entries.into_iter().enumerate() {
                        let place = at.saturating_add(1);
                        let wrong = |source| PolicyError::Redactor { place, source };
                        let (kind, options) = options_of(entry, "redactor").map_err(wrong)?;
                        redactors.push(redactor_from_options(&kind, &options).map_err(wrong)?);
                    }
                }
                ("rules" | "redactors", _) => {
                    return Err(PolicyError::Shape(format!(
                        "`{name}` is written as `[[{name}]]` tables"
                    )));
                }
                _ => {
                    return Err(PolicyError::Shape(format!(
                        "`{name}` is not known; a policy has `[[rules]]` and `[[redactors]]`"
                    )));
                }
            }
        }
        Ok(Self {
            rules,
            async_rules,
            redactors,
            version: Digest::of(text.as_bytes()),
        })
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

/// The kind of an entry, and its options as pairs; an array is a pair for each of its items.
fn options_of(entry: toml::Value, what: &str) -> Result<(String, Vec<(String, String)>), OptionError> {
    let toml::Value::Table(table) = entry else {
        return Err(OptionError::invalid(what, "is not a table"));
    };
    let mut kind = None;
    let mut options = Vec::new();
    let mut arrays: Vec<String> = Vec::new();
    for (name, value) in table {
        if name == what {
            match value {
                toml::Value::String(name) => kind = Some(name),
                _ => return Err(OptionError::invalid(what, "is a name in quotes")),
            }
            continue;
        }
        let values = match value {
            toml::Value::Array(items) if items.is_empty() => {
                return Err(OptionError::invalid(name, "is empty; leave it out"));
            }
            toml::Value::Array(items) => {
                arrays.push(name.clone());
                items
            }
            one => vec![one],
        };
        for value in values {
            let value = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Float(number) => number.to_string(),
                toml::Value::Boolean(flag) => flag.to_string(),
                _ => {
                    return Err(OptionError::invalid(
                        name,
                        "is a text, a number, a flag or an array of them",
                    ));
                }
            };
            options.push((name.clone(), value));
        }
    }
    let kind = kind.ok_or_else(|| OptionError::invalid(what, "is missing"))?;
    // On a command line a comma separates; in an array it would quietly make two of one.
    if let Some(name) = arrays.into_iter().find(|name| {
        is_list(&kind, name)
            && options
                .iter()
                .any(|(option, value)| option == name && value.contains(','))
    }) {
        return Err(OptionError::invalid(
            name,
            "is an array; what is in it holds no comma",
        ));
    }
    Ok((kind, options))
}

fn entry(what: &str, name: &str, about: &str, options: &[OptionKind], common: &[OptionKind]) -> Value {
    let mut properties = Map::new();
    properties.insert(what.to_owned(), json!({"const": name, "description": about}));
    for option in options.iter().chain(common) {
        let mut shape = match option.shape {
            Shape::Text => json!({"type": "string"}),
            Shape::Choice(words) => json!({"enum": words}),
            Shape::Flag => json!({"type": "boolean"}),
            Shape::Number => json!({"type": "number"}),
            Shape::List | Shape::Texts => json!({
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
            ("[[rules]]\nrule = ", "line 2"),
            ("[[rule]]\nrule = \"x\"", "`rule` is not known"),
            ("rules = 1", "`[[rules]]`"),
            ("[[rules]]\nmode = \"x\"", "rule 1: option `rule`"),
            ("[[rules]]\nrule = \"blocked_sqll\"", "there is no rule"),
            (
                "[[rules]]\nrule = \"blocked_sql\"\nmod = \"x\"",
                "no option `mod`; it has `mode`",
            ),
            (
                "[[rules]]\nrule = \"blocked_paths\"\nroots = [\"/srv/a,b\"]",
                "option `roots`: is an array",
            ),
            (
                "[[rules]]\nrule = \"blocked_paths\"\nroots = [\".\"]",
                "option `roots`: is a folder",
            ),
            (
                "[[rules]]\nrule = \"blocked_urls\"\ndeny_hosts = [\"https://a.example/\"]",
                "option `deny_hosts`: is a host",
            ),
            (
                "[[rules]]\nrule = \"hitl_on_amount\"\nfield = \"\"\nthreshold = 1",
                "option `field`: is missing",
            ),
            (
                "[[rules]]\nrule = \"argument_range\"\nfield = \"n\"\nmin = 2\nmax = 1",
                "option `min`: is above",
            ),
            (
                "[[rules]]\nrule = \"hitl_threshold\"\npercent = 80.5",
                "option `percent`: is a whole number",
            ),
            ("[[redactors]]\nredactor = \"pi\"", "there are `pii`"),
            ("[[rules]]\nrule = \"blocked_sql\"\nmode = \"x\"", "option `mode`"),
            (
                "[[rules]]\nrule = \"blocked_sql\"\n[[rules]]\nrule = \"blocked_sql\"",
                "rule 2: option `id`",
            ),
            (
                "[[rules]]\nrule = \"blocked_patterns\"\npattern = [\"(\"]",
                "pattern 1",
            ),
        ] {
            let error = Policy::parse(text).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
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
        let policy = Policy::parse("").unwrap();
        assert_eq!(policy.version(), Digest::EMPTY);
        assert!(policy.engine().is_empty());
    }
}
