//! Every option of every rule: reachable from a file and from pairs alike, in the schema, and seen in a policy's version.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::as_conversions,
    clippy::format_push_string,
    reason = "a test may fail loudly"
)]

use leash_policy::{
    COMMON, OptionKind, Policy, REDACTORS, RULES, SCANNERS, Shape, redactor_from_options, rule_from_options,
    scanner_from_options,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const KEYS: [&str; 2] = [
    "0000000000000000000000000000000000000000000000000000000000000001",
    "0000000000000000000000000000000000000000000000000000000000000002",
];

/// What has to be said of a rule besides, so that it can be made.
fn needed(rule: &str, option: &str) -> Vec<(&'static str, &'static str)> {
    let all: &[(&str, &str)] = match rule {
        "denied_tools" => &[("names", "x")],
        "argument_range" => &[("field", "x"), ("max", "100")],
        "hitl_on_amount" => &[("field", "x"), ("threshold", "100")],
        "blocked_patterns" | "hitl_on_pattern" => &[("pattern", "x")],
        "presidio" => &[("url", "http://127.0.0.1:1")],
        "scanner" | "llama_firewall" if option == "url" => &[],
        "scanner" | "llama_firewall" => &[("command", "x")],
        "pii" if option == "key" => &[("mode", "hash")],
        "pii" if option == "mode" => &[("key", KEYS[0])],
        _ => &[],
    };
    all.iter().filter(|(name, _)| *name != option).copied().collect()
}

/// Two values of an option that mean different things, and none is what it is unless set.
fn samples(rule: &str, option: &OptionKind) -> [&'static str; 2] {
    match (rule, option.name) {
        (_, "pattern" | "extra_patterns") => ["a,b{2}", "c"],
        ("argument_range", "min") => ["1", "2.5"],
        (_, "max" | "threshold") => ["1000", "2000.5"],
        (_, "percent") => ["1", "2"],
        (_, "score") => ["0.25", "0.75"],
        (_, "timeout_ms" | "start_timeout_ms") => ["1000", "2000"],
        (_, "processes") => ["2", "3"],
        (_, "roots") => ["/srv/a", "/srv/b"],
        (_, "url") => ["http://127.0.0.1:2/x", "http://127.0.0.1:3/x"],
        (_, "without") => ["EMAIL", "PHONE"],
        (_, "detectors") => ["X=x{2}", "X=y{2}"],
        (_, "key") => KEYS,
        ("blocked_sql", "mode") => ["no_ddl", "extra_deny"],
        ("pii", "mode") => ["hash", "hash"],
        (_, "dialect") => ["postgres", "mysql"],
        (_, "unknown") => ["hitl", "hitl"],
        (_, "action") => ["warn", "warn"],
        (_, "block_sensitive" | "block_private") => ["false", "false"],
        (_, "shadow" | "require_where") => ["true", "true"],
        _ => ["one", "two"],
    }
}

/// A rule or redactor as its `Debug` shows it, made from pairs.
fn from_pairs(group: &str, name: &str, pairs: &[(&str, &str)]) -> String {
    if group == "redactor" {
        return format!("{:?}", redactor_from_options(name, pairs).unwrap());
    }
    if SCANNERS.iter().any(|kind| kind.name == name) {
        let rule = scanner_from_options(name, pairs).unwrap();
        return format!("{} {rule:?}", rule.id());
    }
    let rule = rule_from_options(name, pairs).unwrap();
    format!("{} {rule:?}", rule.id())
}

/// The same, made from a file.
fn from_file(text: &str) -> String {
    let policy = Policy::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let rules = policy
        .rules()
        .iter()
        .map(|rule| format!("{} {rule:?}", rule.id()));
    let scanners = policy
        .async_rules()
        .iter()
        .map(|rule| format!("{} {rule:?}", rule.id()));
    let redactors = policy.redactors().iter().map(|redactor| format!("{redactor:?}"));
    rules.chain(scanners).chain(redactors).collect()
}

fn written(option: &OptionKind, value: &str) -> String {
    match option.shape {
        Shape::Flag | Shape::Number => format!("{} = {value}\n", option.name),
        Shape::List | Shape::Texts => format!("{} = [{value:?}]\n", option.name),
        _ => format!("{} = {value:?}\n", option.name),
    }
}

type Kind = (&'static str, &'static str, Vec<&'static OptionKind>);

fn kinds() -> Vec<Kind> {
    let rules = RULES.iter().map(|kind| (kind.name, kind.options));
    let rules = rules.chain(SCANNERS.iter().map(|kind| (kind.name, kind.options)));
    rules
        .map(|(name, own)| ("rule", name, own.iter().chain(COMMON).collect()))
        .chain(
            REDACTORS
                .iter()
                .map(|kind| ("redactor", kind.name, kind.options.iter().collect())),
        )
        .collect()
}

fn head(group: &str, name: &str) -> String {
    format!("[[{group}s]]\n{group} = \"{name}\"\n")
}

#[test]
fn every_option_means_the_same_in_a_file_and_as_a_pair_and_shows_in_the_version() {
    let mut seen = 0;
    for (group, name, options) in kinds() {
        for option in &options {
            let others = needed(name, option.name);
            let values = samples(name, option);
            let pairs = |value| {
                let mut pairs = others.clone();
                pairs.push((option.name, value));
                pairs
            };
            let file = |value: &str| {
                let mut text = head(group, name);
                for (other, value) in &others {
                    let kind = options.iter().find(|option| option.name == *other).unwrap();
                    text += &written(kind, value);
                }
                text + &written(option, value)
            };
            let [one, other] = values.map(|value| from_pairs(group, name, &pairs(value)));
            assert_eq!(one, from_file(&file(values[0])), "{name} {}", option.name);
            assert_eq!(
                one == other,
                values[0] == values[1],
                "{name} {}: {one}",
                option.name
            );
            let mut without = others.clone();
            let required =
                ["pattern", "field", "threshold", "command", "url", "max", "min"].contains(&option.name);
            if name == "pii" {
                without.clear();
            }
            if !(required || (name, option.name) == ("denied_tools", "names")) {
                assert_ne!(one, from_pairs(group, name, &without), "{name} {}", option.name);
            }
            let shown = format!("{one}{other}");
            assert!(!shown.contains(KEYS[0]) && !shown.contains(KEYS[1]), "{shown}");
            seen += 1;
        }
    }
    assert!(seen > 80, "{seen}");
}

/// Whether `value` is what `schema` says, for the words that the schema of policies uses; another word is a failure.
fn fits(schema: &Value, value: &Value) -> bool {
    schema
        .as_object()
        .unwrap()
        .iter()
        .all(|(word, said)| match word.as_str() {
            "$schema" | "title" | "description" => true,
            "type" => match said.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "number" => value.is_number(),
                other => panic!("{other}"),
            },
            "const" => said == value,
            "enum" => said.as_array().unwrap().contains(value),
            "pattern" => value
                .as_str()
                .is_none_or(|text| regex::Regex::new(said.as_str().unwrap()).unwrap().is_match(text)),
            "anyOf" => said.as_array().unwrap().iter().any(|schema| fits(schema, value)),
            "oneOf" => {
                said.as_array()
                    .unwrap()
                    .iter()
                    .filter(|schema| fits(schema, value))
                    .count()
                    == 1
            }
            "items" => value
                .as_array()
                .is_none_or(|items| items.iter().all(|item| fits(said, item))),
            "minItems" => value
                .as_array()
                .is_none_or(|items| items.len() as u64 >= said.as_u64().unwrap()),
            "maxItems" => value
                .as_array()
                .is_none_or(|items| items.len() as u64 <= said.as_u64().unwrap()),
            "minProperties" => value
                .as_object()
                .is_none_or(|members| members.len() as u64 >= said.as_u64().unwrap()),
            "required" => said
                .as_array()
                .unwrap()
                .iter()
                .all(|name| value.get(name.as_str().unwrap()).is_some()),
            "properties" => value.as_object().is_none_or(|members| {
                members
                    .iter()
                    .all(|(name, value)| said.get(name).is_none_or(|schema| fits(schema, value)))
            }),
            "additionalProperties" => {
                assert_eq!(said, &json!(false));
                let known = schema["properties"].as_object().unwrap();
                value
                    .as_object()
                    .is_none_or(|members| members.keys().all(|name| known.contains_key(name)))
            }
            other => panic!("{other}"),
        })
}

/// A value of some shape, in TOML, and whether an option of the shape may have it as far as a schema can tell.
fn values() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("true".to_owned()),
        Just("\"true\"".to_owned()),
        Just("1".to_owned()),
        Just("0.5".to_owned()),
        Just("\"0.5\"".to_owned()),
        Just("[]".to_owned()),
        Just("[\"\"]".to_owned()),
        Just("\"\"".to_owned()),
        Just("\" , \"".to_owned()),
        Just("[\"a\", 1]".to_owned()),
        Just("[\"a,b\"]".to_owned()),
        Just("[[\"a\"]]".to_owned()),
        Just("{a = 1}".to_owned()),
        "\"(read_only|block|hash|EMAIL|a|/srv|http://127\\.0\\.0\\.1:1)\"",
        "\\[\"(EMAIL|a|/srv|X=y)\"(, \"(PHONE|b)\")?\\]",
    ]
}

proptest! {
    #[test]
    fn the_schema_takes_whatever_the_parser_takes(
        kind in proptest::sample::select(kinds()),
        picked in proptest::collection::vec((any::<proptest::sample::Index>(), values()), 0..3),
        unknown in proptest::option::weighted(0.05, "[a-z_]{1,12}"),
    ) {
        let (group, name, options) = kind;
        let mut text = head(group, name);
        let mut used: Vec<&str> = Vec::new();
        for (at, value) in &picked {
            let option = options.get(at.index(options.len().max(1)));
            if let Some(option) = option.filter(|option| !used.contains(&option.name)) {
                text += &format!("{} = {value}\n", option.name);
                used.push(option.name);
            }
        }
        for (other, value) in needed(name, used.first().copied().unwrap_or("")) {
            if !used.contains(&other) {
                let kind = options.iter().find(|option| option.name == other).unwrap();
                text += &written(kind, value);
            }
        }
        if let Some(unknown) = &unknown {
            text += &format!("x_{unknown} = 1\n");
        }
        let document: Value = toml::from_str(&text).unwrap();
        let taken = Policy::parse(&text);
        let fits = fits(&Policy::schema(), &document);
        prop_assert!(fits || taken.is_err(), "{}", text);
        // What is of the wrong shape is refused by both, and so is what nobody knows.
        let shape = taken.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let of_shape = ["in quotes", "without quotes", "is empty", "empty text", "has no option", "holds no comma"];
        if of_shape.iter().any(|words| shape.contains(words)) {
            prop_assert!(!fits, "{}: {}", text, shape);
        }
    }
}

#[test]
fn the_schema_says_what_there_is_and_the_example_fits() {
    let schema = Policy::schema();
    let example: Value = toml::from_str(include_str!("../../examples/policy.toml")).unwrap();
    assert!(fits(&schema, &example));
    for broken in [
        json!({}),
        json!({"rules": 1}),
        json!({"rule": []}),
        json!({"rules": [{"rule": "x"}]}),
    ] {
        assert!(!fits(&schema, &broken), "{broken}");
    }
    assert!(fits(&schema, &json!({"rules": []})));
}
