//! Which tools an agent may call, and with what numbers: [`AllowedTools`], [`DeniedTools`], [`ArgumentRange`],
//! [`HitlOnAmount`].

use std::fmt;
use std::sync::Arc;

use leash_core::{Action, Call, Decision, PolicyContext, Rule, RuleError};
use serde_json::Value;

use crate::registry::{OptionError, OptionKind, Options, RuleKind, Shape};

/// Names, and patterns in which `*` stands for any characters. Compared case by case: tools are case-sensitive.
#[derive(Clone, Debug)]
pub(crate) struct Names(Vec<String>);

impl Names {
    pub(crate) fn new<I: IntoIterator<Item: Into<String>>>(names: I) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }

    pub(crate) fn contain(&self, tool: &str) -> bool {
        self.0.iter().any(|pattern| matches(pattern, tool))
    }
}

/// Whether `text` is `pattern`, with `*` for any characters. Linear in the text for each `*`.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let mut rest = rest;
    // Leftmost matches of the middle parts leave the most for those that follow.
    while let Some((part, after)) = rest.split_once('*') {
        let Some(found) = text.find(part) else {
            return false;
        };
        text = text.get(found.saturating_add(part.len())..).unwrap_or("");
        rest = after;
    }
    text.ends_with(rest)
}

/// Blocks the tools that are not on its list. Model calls are none of its business.
///
/// Default id: `allowed_tools`. A `*` in a name stands for any characters.
#[derive(Clone, Debug)]
pub struct AllowedTools {
    id: String,
    names: Names,
}

impl AllowedTools {
    /// Only these tools.
    #[must_use]
    pub fn new<I: IntoIterator<Item: Into<String>>>(names: I) -> Self {
        Self {
            id: "allowed_tools".into(),
            names: Names::new(names),
        }
    }

    /// The same under another id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }
}

impl Rule for AllowedTools {
    fn id(&self) -> &str {
        &self.id
    }

    fn evaluate(&self, call: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        let Call::Tool(call) = call else { return Ok(None) };
        let blocked = !self.names.contain(&call.tool);
        Ok(blocked.then(|| {
            Decision::new(
                Action::Block,
                self.id.clone(),
                "the tool is not on the list of allowed tools",
            )
        }))
    }
}

/// Blocks the tools on its list.
///
/// Default id: `denied_tools`. A `*` in a name stands for any characters.
#[derive(Clone, Debug)]
pub struct DeniedTools {
    id: String,
    names: Names,
}

impl DeniedTools {
    /// None of these tools.
    #[must_use]
    pub fn new<I: IntoIterator<Item: Into<String>>>(names: I) -> Self {
        Self {
            id: "denied_tools".into(),
            names: Names::new(names),
        }
    }

    /// The same under another id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }
}

impl Rule for DeniedTools {
    fn id(&self) -> &str {
        &self.id
    }

    fn evaluate(&self, call: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        let Call::Tool(call) = call else { return Ok(None) };
        let blocked = self.names.contain(&call.tool);
        Ok(blocked.then(|| {
            Decision::new(
                Action::Block,
                self.id.clone(),
                "the tool is on the list of denied tools",
            )
        }))
    }
}

/// A number of an argument, as it may be read: where people differ on what it says, the least and the most.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Amount {
    least: f64,
    most: f64,
}

impl Amount {
    const fn exactly(number: f64) -> Self {
        Self {
            least: number,
            most: number,
        }
    }

    /// What a value says: a number, or a text that is one, as people and models write it: `5000`, `"$5,000.00"`, `"5e3 USD"`,
    /// `"5.000,00 €"`, `"5k"`. `None` where it says none.
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => number.as_f64().map(Self::exactly),
            Value::String(text) => Self::parse(text),
            _ => None,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let aside = |c: char| c.is_alphabetic() || c.is_whitespace() || "$€£¥₹₽¢".contains(c);
        let text = text.trim();
        let head = text.trim_start_matches(aside);
        let core = head.trim_end_matches(aside);
        let factor = factor(head.get(core.len()..).unwrap_or(""));
        let compact: String = core
            .chars()
            .filter(|c| {
                !matches!(
                    c,
                    '_' | ' ' | '\u{a0}' | '\u{2009}' | '\u{202f}' | '\'' | '\u{2019}'
                )
            })
            .map(|c| if c == '\u{2212}' { '-' } else { c })
            .collect();
        let after = |sign: usize| compact.len().saturating_sub(sign).saturating_sub(1);
        let (point, comma) = (compact.rfind('.'), compact.rfind(','));
        let (points, commas) = (compact.matches('.').count(), compact.matches(',').count());
        let mut thousands = None;
        let plain = match (point, comma) {
            (None, None) => compact.clone(),
            (Some(point), Some(comma)) if comma > point => compact.replace('.', "").replace(',', "."),
            (Some(_), Some(_)) => compact.replace(',', ""),
            (Some(_), None) if points > 1 => compact.replace('.', ""),
            (Some(point), None) => {
                // `5.000` is five to some and five thousand to others.
                if after(point) == 3 {
                    thousands = compact.replace('.', "").parse().ok();
                }
                compact.clone()
            }
            (None, Some(comma)) if after(comma) == 3 || commas > 1 => compact.replace(',', ""),
            (None, Some(_)) => compact.replace(',', "."),
        };
        let amount: f64 = plain.parse().ok()?;
        let other: f64 = thousands.unwrap_or(amount);
        #[expect(
            clippy::float_arithmetic,
            reason = "an amount that somebody wrote, compared and never added up"
        )]
        let (one, other) = (amount * factor, other * factor);
        (!one.is_nan() && !other.is_nan()).then(|| Self {
            least: one.min(other),
            most: one.max(other),
        })
    }
}

/// What the word behind a number multiplies it by.
fn factor(unit: &str) -> f64 {
    let word = unit.trim_start().split(char::is_whitespace).next().unwrap_or("");
    match word.trim_matches(|c: char| !c.is_alphanumeric()) {
        // A small `m` is a thousandth to some; here the larger counts.
        "k" | "K" | "thousand" | "Thousand" | "grand" | "tsd" | "Tsd" | "mil" => 1e3,
        "lakh" | "lakhs" | "lac" => 1e5,
        "m" | "M" | "mn" | "Mn" | "mio" | "Mio" | "MM" | "mm" | "million" | "Million" | "millions" => 1e6,
        "crore" | "crores" | "cr" => 1e7,
        "b" | "B" | "bn" | "Bn" | "billion" | "Billion" | "billions" | "mrd" | "Mrd" => 1e9,
        "tn" | "trillion" | "Trillion" => 1e12,
        _ => 1.0,
    }
}

/// Calls `found` with every value under the name `field` at any depth, JSON inside of strings included; `a.b` is a `b` right below an
/// `a`, or a member that is called so. Names are compared without case.
fn under(
    value: &Value,
    field: &str,
    found: &mut dyn FnMut(&Value) -> Result<(), RuleError>,
    depth: usize,
) -> Result<(), RuleError> {
    let below = deeper(depth, 1)?;
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| under(item, field, found, below)),
        Value::Object(members) => members.iter().try_for_each(|(name, inner)| {
            if let Some(rest) = after(field, name) {
                follow(inner, rest, found, below)?;
            }
            under(inner, field, found, below)
        }),
        Value::String(text) => match unfold(text) {
            Some(inner) => under(&inner, field, found, deeper(depth, UNFOLDING)?),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Calls `found` with what the rest of a field's name leads to.
fn follow(
    value: &Value,
    rest: &str,
    found: &mut dyn FnMut(&Value) -> Result<(), RuleError>,
    depth: usize,
) -> Result<(), RuleError> {
    let below = deeper(depth, 1)?;
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| follow(item, rest, found, below)),
        value if rest.is_empty() => found(value),
        Value::Object(members) => members.iter().try_for_each(|(name, inner)| {
            after(rest, name).map_or(Ok(()), |rest| follow(inner, rest, found, below))
        }),
        Value::String(text) => match unfold(text) {
            Some(inner) => follow(&inner, rest, found, deeper(depth, UNFOLDING)?),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// What is left of a field's name behind `name`; empty where that is all of it.
fn after<'f>(field: &'f str, name: &str) -> Option<&'f str> {
    let rest = field.get(name.len()..)?;
    if !field.get(..name.len())?.eq_ignore_ascii_case(name) {
        return None;
    }
    if rest.is_empty() {
        Some(rest)
    } else {
        rest.strip_prefix('.').filter(|rest| !rest.is_empty())
    }
}

/// The JSON in a text that is some.
fn unfold(text: &str) -> Option<Value> {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    if text.starts_with(['{', '[', '"']) {
        serde_json::from_str(text).ok()
    } else {
        None
    }
}

/// The depth by `levels` more.
fn deeper(depth: usize, levels: usize) -> Result<usize, RuleError> {
    let depth = depth.saturating_add(levels);
    if depth > MAX_DEPTH {
        return Err(RuleError::new("the arguments are nested too deeply"));
    }
    Ok(depth)
}

/// How deep arguments may be nested.
const MAX_DEPTH: usize = 512;
/// What JSON inside of a string counts as, in levels.
const UNFOLDING: usize = 60;

/// The amounts of a field. Something there that is no number is an error, so that it blocks.
fn amounts(args: &Value, field: &str) -> Result<Vec<Amount>, RuleError> {
    let mut amounts = Vec::new();
    under(args, field, &mut |value| take(value, &mut amounts, 0), 0)?;
    Ok(amounts)
}

/// What says how much, in an object beside its currency: `{"amount": {"value": 5, "currency": "EUR"}}`.
const HOW_MUCH: [&str; 7] = ["value", "amount", "total", "sum", "units", "number", "quantity"];
/// How deep the number of an amount may lie below its name.
const MAX_BELOW: u32 = 8;

/// Adds what `value` says. Something there that is no number is an error.
fn take(value: &Value, amounts: &mut Vec<Amount>, depth: u32) -> Result<(), RuleError> {
    let wrong = || RuleError::new("an amount is no number");
    if depth > MAX_BELOW {
        return Err(wrong());
    }
    let below = depth.saturating_add(1);
    match value {
        Value::Null => Ok(()),
        Value::Array(items) => items.iter().try_for_each(|item| take(item, amounts, below)),
        Value::Object(members) => {
            let mut any = false;
            for (name, member) in members {
                if HOW_MUCH.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                    any = true;
                    take(member, amounts, below)?;
                }
            }
            if any { Ok(()) } else { Err(wrong()) }
        }
        _ => {
            amounts.push(Amount::read(value).ok_or_else(wrong)?);
            Ok(())
        }
    }
}

/// Asks a human about a tool's call whose amount is above a threshold.
///
/// Default id: `hitl_on_amount`. The field is looked for at any depth; `order.total` is a `total` right below an `order`. An
/// amount may be a number, an object that has one as its `value` or the like, or a text that says one (`"$5,000.00"`, `"5k"`; `"5.000"` may be five thousand, and counts as that); one that says none blocks the call. A debit is as large as
/// a credit: the sign does not count. Equal to the threshold is not above it.
///
/// ```
/// use leash_core::{Action, Call, Caller, PolicyContext, Rule, SessionId, Timestamp, ToolCall};
/// use leash_policy::HitlOnAmount;
///
/// let rule = HitlOnAmount::new("amount", 1000.0);
/// let caller = Caller::session(SessionId::new("s_1")?);
/// let call = Call::Tool(ToolCall::new("wire", serde_json::json!({"order": {"amount": "$4,000"}}), caller));
/// let decision = rule.evaluate(&call, &PolicyContext::new(Timestamp::EPOCH))?.unwrap();
/// assert_eq!(decision.action, Action::Hitl);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct HitlOnAmount {
    id: String,
    field: String,
    threshold: f64,
}

impl HitlOnAmount {
    /// Asks where the amount under `field` is above `threshold`, in whatever unit the tool counts in.
    #[must_use]
    pub fn new(field: impl Into<String>, threshold: f64) -> Self {
        Self {
            id: "hitl_on_amount".into(),
            field: field.into(),
            threshold,
        }
    }

    /// The same under another id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }
}

impl Rule for HitlOnAmount {
    fn id(&self) -> &str {
        &self.id
    }

    fn evaluate(&self, call: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        let Call::Tool(call) = call else { return Ok(None) };
        let amounts = amounts(call.args.value(), &self.field)?;
        let above = amounts
            .iter()
            .any(|amount| amount.most.abs().max(amount.least.abs()) > self.threshold);
        Ok(above.then(|| {
            let reason = format!("`{}` is above {}", self.field, self.threshold);
            Decision::new(Action::Hitl, self.id.clone(), reason)
        }))
    }
}

/// Blocks a tool's call with a number outside of a range.
///
/// Default id: `argument_range`. Where the field is found, and what counts as a number, is as for [`HitlOnAmount`]; here the sign
/// counts. A call without the field is none of its business.
#[derive(Clone)]
pub struct ArgumentRange {
    id: String,
    field: String,
    min: f64,
    max: f64,
}

impl fmt::Debug for ArgumentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArgumentRange({}: {} to {})", self.field, self.min, self.max)
    }
}

impl ArgumentRange {
    /// Blocks where the number under `field` is below `min` or above `max`; the infinities leave a side open.
    #[must_use]
    pub fn new(field: impl Into<String>, min: f64, max: f64) -> Self {
        Self {
            id: "argument_range".into(),
            field: field.into(),
            min,
            max,
        }
    }

    /// The same under another id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }
}

impl Rule for ArgumentRange {
    fn id(&self) -> &str {
        &self.id
    }

    fn evaluate(&self, call: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        let Call::Tool(call) = call else { return Ok(None) };
        let amounts = amounts(call.args.value(), &self.field)?;
        let outside = amounts
            .iter()
            .any(|amount| amount.least < self.min || amount.most > self.max);
        Ok(outside.then(|| {
            let reason = format!("`{}` is not from {} to {}", self.field, self.min, self.max);
            Decision::new(Action::Block, self.id.clone(), reason)
        }))
    }
}

const NAMES: &[OptionKind] = &[OptionKind {
    name: "names",
    shape: Shape::List,
    about: "Names of tools; `*` stands for any characters.",
}];

/// How a policy makes [`AllowedTools`].
pub(crate) const ALLOWED: RuleKind = RuleKind {
    name: "allowed_tools",
    about: "Blocks the tools that are not on its list.",
    options: NAMES,
    make: |options| Ok(Arc::new(AllowedTools::new(options.list("names")))),
};

/// How a policy makes [`DeniedTools`].
pub(crate) const DENIED: RuleKind = RuleKind {
    name: "denied_tools",
    about: "Blocks the tools on its list.",
    options: NAMES,
    make: |options| {
        let names = options.list("names");
        if names.is_empty() {
            return Err(OptionError::invalid(
                "names",
                "is missing, and nothing would be denied",
            ));
        }
        Ok(Arc::new(DeniedTools::new(names)))
    },
};

const FIELD: OptionKind = OptionKind {
    name: "field",
    shape: Shape::Text,
    about: "The argument, at any depth; `a.b` is a `b` right below an `a`.",
};

/// The field that a rule is about.
fn field_of(options: &mut Options) -> Result<String, OptionError> {
    let field = options
        .one("field")?
        .ok_or_else(|| OptionError::invalid("field", "is missing"))?;
    let field = field.trim();
    // It would never be met.
    if field.starts_with('.') || field.ends_with('.') {
        return Err(OptionError::invalid(
            "field",
            "is a name, or names with a point between them",
        ));
    }
    Ok(field.to_owned())
}

/// A limit that is a number in the sense of people.
fn limit(value: Option<f64>, option: &str) -> Result<Option<f64>, OptionError> {
    if value.is_some_and(|value| !value.is_finite()) {
        return Err(OptionError::invalid(
            option,
            "is no number; leave it out where there is no limit",
        ));
    }
    Ok(value)
}

/// How a policy makes [`ArgumentRange`].
pub(crate) const RANGES: RuleKind = RuleKind {
    name: "argument_range",
    about: "Blocks a tool's call with a number outside of a range.",
    options: &[
        FIELD,
        OptionKind {
            name: "min",
            shape: Shape::Number,
            about: "The least that is allowed.",
        },
        OptionKind {
            name: "max",
            shape: Shape::Number,
            about: "The most that is allowed.",
        },
    ],
    make: |options| {
        let field = field_of(options)?;
        let min = limit(options.number("min")?, "min")?;
        let max = limit(options.number("max")?, "max")?;
        if min.is_none() && max.is_none() {
            return Err(OptionError::invalid("min", "or `max` is missing"));
        }
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            return Err(OptionError::invalid(
                "min",
                "is above `max`, so that nothing would be allowed",
            ));
        }
        Ok(Arc::new(ArgumentRange::new(
            field,
            min.unwrap_or(f64::NEG_INFINITY),
            max.unwrap_or(f64::INFINITY),
        )))
    },
};

/// How a policy makes [`HitlOnAmount`].
pub(crate) const HITL_ON_AMOUNT: RuleKind = RuleKind {
    name: "hitl_on_amount",
    about: "Asks a human about a call whose amount is above a threshold.",
    options: &[
        FIELD,
        OptionKind {
            name: "threshold",
            shape: Shape::Number,
            about: "Above it a human is asked.",
        },
    ],
    make: |options| {
        let field = field_of(options)?;
        let threshold = limit(options.number("threshold")?, "threshold")?
            .ok_or_else(|| OptionError::invalid("threshold", "is missing"))?;
        Ok(Arc::new(HitlOnAmount::new(field, threshold)))
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use leash_core::{Caller, SessionId, Timestamp, ToolCall};
    use serde_json::json;

    fn decides(rule: &dyn Rule, tool: &str) -> Option<Action> {
        let caller = Caller::session(SessionId::new("s").unwrap());
        let call = Call::Tool(ToolCall::new(tool, serde_json::json!({}), caller));
        rule.evaluate(&call, &PolicyContext::new(Timestamp::EPOCH))
            .unwrap()
            .map(|decision| decision.action)
    }

    #[test]
    fn a_star_stands_for_any_characters_and_nothing_else_does() {
        for (pattern, text, expected) in [
            ("a", "a", true),
            ("a", "A", false),
            ("*", "", true),
            ("db.*", "db.query", true),
            ("db.*", "xdb.query", false),
            ("*_file", "delete_file", true),
            ("*_file", "delete_file_now", false),
            ("a*b*c", "aXbbYc", true),
            ("a*b*c", "ac", false),
            ("a*a", "a", false),
            ("a?c", "abc", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn the_lists_block_what_they_say_and_abstain_otherwise() {
        let allowed = AllowedTools::new(["search", "db.*"]);
        assert_eq!(decides(&allowed, "search"), None);
        assert_eq!(decides(&allowed, "db.query"), None);
        assert_eq!(decides(&allowed, "shell"), Some(Action::Block));
        assert_eq!(
            decides(&AllowedTools::new(Vec::<String>::new()), "search"),
            Some(Action::Block)
        );
        let denied = DeniedTools::new(["shell"]);
        assert_eq!(decides(&denied, "shell"), Some(Action::Block));
        assert_eq!(decides(&denied, "search"), None);
    }

    #[test]
    fn amounts_are_found_wherever_and_however_they_are_written() {
        let decides = |args: serde_json::Value| {
            let caller = Caller::session(SessionId::new("s").unwrap());
            let call = Call::Tool(ToolCall::new("pay", args, caller));
            HitlOnAmount::new("amount", 1000.0)
                .evaluate(&call, &PolicyContext::new(Timestamp::EPOCH))
                .map(|decision| decision.is_some())
                .ok()
        };
        for above in [
            json!({"amount": 1000.01}),
            json!({"a": [{"Amount": "1001"}]}),
            json!({"amount": "$5,000.00"}),
            json!({"amount": "5.000,00 €"}),
            json!({"amount": "5,000"}),
            json!({"amount": [1, 2000]}),
            json!({"amount": -5000}),
            json!("{\"amount\": 5e3}"),
            json!({"payload": "{\"order\": {\"amount\": 5000}}"}),
            json!({"amount": "5k"}),
            json!({"amount": "1.5 million USD"}),
            json!({"amount": "5.000"}),
            json!({"amount": [[1], [[2000]]]}),
            json!({"amount": 1e300}),
            json!("\u{feff} [{\"amount\": 2000}]"),
            json!({"amount": "\u{2212}5\u{2019}000"}),
            json!({"amount": {"value": 5000, "currency": "EUR"}}),
            json!({"amounts": [{"Amount": {"currency_code": "USD", "value": "5000.00"}}]}),
            json!({"amount": [[5000]]}),
        ] {
            assert_eq!(decides(above.clone()), Some(true), "{above}");
        }
        for below in [
            json!({"amount": 1000}),
            json!({"total": 5000}),
            json!({"amount": "999,99"}),
            json!({"amount": "999.99 kr"}),
            json!({"amount": 5.125}),
            json!({"amount": null}),
            json!({"amount": {"value": "12.50", "currency": "EUR"}}),
            json!({"amount": {"units": "5", "nanos": 500_000_000}}),
        ] {
            assert_eq!(decides(below.clone()), Some(false), "{below}");
        }
        for neither in [
            json!({"amount": "a lot"}),
            json!({"amount": ""}),
            json!({"amount": true}),
            json!({"amount": {"currency": "EUR"}}),
            json!({"amount": {"value": {"value": true}}}),
            json!({"amount": "0x1388"}),
            json!({"amount": "NaN"}),
            json!({"amount": "1 2 3 to 5"}),
        ] {
            assert_eq!(decides(neither.clone()), None, "{neither}");
        }
    }

    #[test]
    fn a_field_of_two_names_is_one_right_below_the_other_or_a_name_with_a_point() {
        let decides = |args: serde_json::Value| {
            let caller = Caller::session(SessionId::new("s").unwrap());
            let call = Call::Tool(ToolCall::new("pay", args, caller));
            HitlOnAmount::new("order.total", 1000.0)
                .evaluate(&call, &PolicyContext::new(Timestamp::EPOCH))
                .map(|decision| decision.is_some())
                .ok()
        };
        for above in [
            json!({"order": {"total": 2000}}),
            json!({"Order": [{"x": 1}, {"Total": "2,000"}]}),
            json!({"a": [{"order": {"total": 2000}}]}),
            json!({"order.total": 2000}),
            json!({"order": "{\"total\": 2000}"}),
            json!({"order": {"order": {"total": 2000}}}),
        ] {
            assert_eq!(decides(above.clone()), Some(true), "{above}");
        }
        for below in [
            json!({"total": 2000}),
            json!({"order": {"sub": {"total": 2000}}}),
            json!({"order": 2000, "total": 2000}),
            json!({"order": {"total": 10}, "orders": {"total": 2000}}),
        ] {
            assert_eq!(decides(below.clone()), Some(false), "{below}");
        }
        let deep = (0..600).fold(json!({"order": {"total": 1}}), |inner, _| json!([inner]));
        assert_eq!(decides(deep), None);
    }
}
