//! Personal data in texts: found, and taken out. [`PiiRedactor`], [`PiiStream`], [`Span`].

mod finder;
mod stream;

use std::borrow::Cow;
use std::fmt;

use leash_core::{Json, Redactor, RuleError};
use regex::Regex;
use serde_json::{Map, Value};

use self::finder::Finder;
pub use self::stream::PiiStream;

/// How deep a document may be nested.
const MAX_DEPTH: u32 = 512;

/// What is found without a detector of one's own.
pub(crate) const KINDS: [&str; 7] = [
    "EMAIL",
    "PHONE",
    "CREDIT_CARD",
    "SSN",
    "IBAN",
    "IP_ADDRESS",
    "MAC_ADDRESS",
];

/// How often a text is gone over for detectors of one's own.
const MAX_PASSES: u32 = 16;

/// What was found, and where.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// `EMAIL`, `PHONE`, `CREDIT_CARD`, `SSN`, `IBAN`, `IP_ADDRESS`, `MAC_ADDRESS`, or the name of an own detector.
    pub kind: Cow<'static, str>,
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

/// An own detector that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DetectorError(&'static str);

#[derive(Clone)]
enum Mode {
    Mask,
    Hash(Box<[u8; 32]>),
}

/// Takes personal data out of texts and documents.
///
/// Finds e-mail addresses (non-ASCII ones too), phone numbers (international ones; national ones where their form or
/// the words before them say so), payment cards (by issuer, length and Luhn), US social security numbers, IBANs (by
/// country and check digits), IPv4, IPv6 and MAC addresses; digits may be full-width. Names and postal addresses are not
/// found.
///
/// A finding becomes `[REDACTED:EMAIL]`; with [`PiiRedactor::hashed`] it becomes a keyed hash, and equal values stay
/// equal. Redacting twice is redacting once.
///
/// ```
/// use leash_policy::PiiRedactor;
///
/// let redactor = PiiRedactor::new();
/// assert_eq!(redactor.redact("ask jörg@example.de"), "ask [REDACTED:EMAIL]");
/// let spans = redactor.scan("card 4111 1111 1111 1111");
/// assert_eq!((spans[0].kind.as_ref(), spans[0].start, spans[0].end), ("CREDIT_CARD", 5, 24));
/// ```
#[derive(Clone)]
pub struct PiiRedactor {
    mode: Mode,
    own: Vec<(String, Regex)>,
    without: Vec<String>,
}

impl fmt::Debug for PiiRedactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What this says is part of a policy's version: another key is another policy, and none is shown.
        let mode = match &self.mode {
            Mode::Mask => "mask".to_owned(),
            Mode::Hash(key) => format!(
                "hash {}",
                blake3::keyed_hash(key, b"fingerprint").to_hex().split_at(16).0
            ),
        };
        let own: Vec<_> = self
            .own
            .iter()
            .map(|(kind, regex)| (kind, regex.as_str()))
            .collect();
        f.debug_struct("PiiRedactor")
            .field("mode", &mode)
            .field("own", &own)
            .field("without", &self.without)
            .finish()
    }
}

impl Default for PiiRedactor {
    fn default() -> Self {
        Self::new()
    }
}

impl PiiRedactor {
    /// Masks what it finds.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            mode: Mode::Mask,
            own: Vec::new(),
            without: Vec::new(),
        }
    }

    /// Puts a keyed hash in the place of what it finds: `[EMAIL:kfadgpibnccmobei]`. Who has not the key learns only
    /// which values are equal.
    #[must_use]
    pub fn hashed(key: [u8; 32]) -> Self {
        Self {
            mode: Mode::Hash(Box::new(key)),
            ..Self::new()
        }
    }

    /// The same without findings of this kind.
    #[must_use]
    pub fn without(mut self, kind: impl Into<String>) -> Self {
        self.without.push(kind.into());
        self
    }

    /// The same with a detector of one's own: what `pattern` matches within a line is `kind`.
    ///
    /// # Errors
    /// [`DetectorError`] where `kind` is not made of at most 64 capitals and `_`, or `pattern` is no regular expression, is too
    /// large, or matches the empty text.
    pub fn with_detector(mut self, kind: &str, pattern: &str) -> Result<Self, DetectorError> {
        if kind.is_empty()
            || kind.len() > 64
            || !kind.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
        {
            return Err(DetectorError(
                "a kind is made of at most 64 capital letters and `_`",
            ));
        }
        let regex = regex::RegexBuilder::new(pattern)
            .size_limit(1 << 20)
            .build()
            .map_err(|_| DetectorError("the pattern is no regular expression, or too large"))?;
        if regex.is_match("") {
            return Err(DetectorError("the pattern matches the empty text"));
        }
        self.own.push((kind.to_owned(), regex));
        Ok(self)
    }

    /// What there is in `text`, in order; no two overlap.
    #[must_use]
    pub fn scan(&self, text: &str) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut finder = Finder::new(text, true);
        while let Some(found) = finder.next_span(0) {
            if !self.without.iter().any(|kind| kind == found.kind) {
                spans.push(Span {
                    kind: Cow::Borrowed(found.kind),
                    start: found.start,
                    end: found.end,
                });
            }
        }
        if !self.own.is_empty() {
            self.scan_own(text, &mut spans);
        }
        spans
    }

    /// Adds what own detectors find and nothing else did. What was masked before stays as it is.
    fn scan_own(&self, text: &str, spans: &mut Vec<Span>) {
        let mut at = 0_usize;
        for line in text.split_inclusive('\n') {
            for (kind, regex) in &self.own {
                for found in regex.find_iter(line.trim_end_matches('\n')) {
                    let (start, end) = (at.saturating_add(found.start()), at.saturating_add(found.end()));
                    let taken = spans.iter().any(|span| span.start < end && start < span.end);
                    if !taken && start < end && !in_placeholder(line, found.start(), found.end()) {
                        spans.push(Span {
                            kind: Cow::Owned(kind.clone()),
                            start,
                            end,
                        });
                    }
                }
            }
            at = at.saturating_add(line.len());
        }
        spans.sort_by_key(|span| span.start);
    }

    /// `text` without what there is in it.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        self.redacted(text).unwrap_or_else(|| text.to_owned())
    }

    /// The same, and `None` where there is nothing.
    #[must_use]
    pub fn redacted(&self, text: &str) -> Option<String> {
        let mut out = self.redacted_once(text)?;
        if !self.own.is_empty() {
            // What an own pattern finds may hang on what was beside it.
            for _ in 0..MAX_PASSES {
                let Some(again) = self.redacted_once(&out) else {
                    break;
                };
                out = again;
            }
        }
        Some(out)
    }

    fn redacted_once(&self, text: &str) -> Option<String> {
        let spans = self.scan(text);
        if spans.is_empty() {
            return None;
        }
        Some(self.without_spans(text, &spans))
    }

    /// `text` without what is in `spans`, which are in order.
    fn without_spans(&self, text: &str, spans: &[Span]) -> String {
        let mut out = String::with_capacity(text.len().saturating_add(32));
        let mut at = 0_usize;
        for span in spans {
            out.push_str(text.get(at..span.start).unwrap_or(""));
            self.replacement(&span.kind, text.get(span.start..span.end).unwrap_or(""), &mut out);
            at = span.end;
        }
        out.push_str(text.get(at..).unwrap_or(""));
        out
    }

    /// A document without what there is in its strings, the names of its members, and its numbers.
    #[must_use]
    pub fn redact_args(&self, args: &Value) -> Value {
        let mut args = args.clone();
        self.redact_value(&mut args, 0);
        args
    }

    /// Hides `document` in place; says whether it changed, or that it is nested too deeply.
    fn redact_value(&self, value: &mut Value, depth: u32) -> Option<bool> {
        if depth > MAX_DEPTH {
            *value = Value::from("[REDACTED:TOO_DEEP]");
            return None;
        }
        let deeper = depth.saturating_add(1);
        match value {
            Value::String(text) => Some(match self.redacted(text) {
                Some(redacted) => {
                    *text = redacted;
                    true
                }
                None => false,
            }),
            Value::Number(number) => {
                let text = number.to_string();
                // A number that is a card as a whole; others are counts and times.
                let digits = text.len() >= 13 && text.bytes().all(|byte| byte.is_ascii_digit());
                let redacted = if digits { self.redacted(&text) } else { None };
                Some(match redacted {
                    Some(redacted) => {
                        *value = Value::String(redacted);
                        true
                    }
                    None => false,
                })
            }
            Value::Array(items) => {
                let mut changed = false;
                for item in items {
                    changed |= self.redact_value(item, deeper)?;
                }
                Some(changed)
            }
            Value::Object(members) => {
                let mut changed = false;
                for member in members.values_mut() {
                    changed |= self.redact_value(member, deeper)?;
                }
                if members.keys().any(|name| !self.scan(name).is_empty()) {
                    changed = true;
                    let mut renamed = Map::new();
                    // In order of the names, so that the counts do not depend on how the map keeps them.
                    let mut all: Vec<(String, Value)> = std::mem::take(members).into_iter().collect();
                    all.sort_by(|one, other| one.0.cmp(&other.0));
                    for (name, member) in all {
                        let name = self.redact(&name);
                        // Two names may become one; neither member is lost.
                        let mut unique = name.clone();
                        let mut count = 1_u32;
                        while renamed.contains_key(&unique) {
                            count = count.saturating_add(1);
                            unique = format!("{name} ({count})");
                        }
                        renamed.insert(unique, member);
                    }
                    *members = renamed;
                }
                Some(changed)
            }
            Value::Null | Value::Bool(_) => Some(false),
        }
    }

    /// A form for text that comes in pieces.
    #[must_use]
    pub fn stream(&self) -> PiiStream<'_> {
        PiiStream::new(self)
    }

    fn replacement(&self, kind: &str, value: &str, out: &mut String) {
        match &self.mode {
            Mode::Mask => {
                out.push_str("[REDACTED:");
                out.push_str(kind);
            }
            Mode::Hash(key) => {
                out.push('[');
                out.push_str(kind);
                out.push(':');
                let hash = blake3::keyed_hash(key, value.as_bytes());
                // Letters only: digits might be taken for a number that should be hidden.
                for byte in hash.as_bytes().iter().take(8) {
                    for half in [byte >> 4, byte & 15] {
                        out.push(char::from(b'a'.saturating_add(half)));
                    }
                }
            }
        }
        out.push(']');
    }
}

/// Whether a finding lies in what a redaction left.
fn in_placeholder(line: &str, start: usize, end: usize) -> bool {
    let Some(open) = line.get(..end).and_then(|head| head.rfind('[')) else {
        return false;
    };
    let Some(close) = line.get(open..).and_then(|tail| tail.find(']')) else {
        return false;
    };
    let inner = line
        .get(open.saturating_add(1)..open.saturating_add(close))
        .unwrap_or("");
    let placed = inner.split_once(':').is_some_and(|(kind, rest)| {
        kind.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
            && rest
                .bytes()
                .all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
    });
    placed && start <= open.saturating_add(close)
}

impl Redactor for PiiRedactor {
    fn redact(&self, document: &Json) -> Result<Option<Json>, RuleError> {
        let mut value = document.value().clone();
        match self.redact_value(&mut value, 0) {
            Some(false) => Ok(None),
            Some(true) => Ok(Some(Json::from(value))),
            None => Err(RuleError::new("the document is nested too deeply to be redacted")),
        }
    }
}
