//! JSON with one reading, and the one way to write it: the bytes that digests and the audit log are made of.
//!
//! *One reading* means that any two programs that read a text see the same: no member twice in an object (names
//! compared after unescaping), no `NaN` or `Infinity`, no number beyond a double, no lone surrogate, valid UTF-8,
//! and at most [`MAX_DEPTH`] levels. [`check`] tells; it accepts nothing that `serde_json` refuses.
//!
//! *Canonical* means: members sorted by code point; no white space; nothing escaped but `"`, `\` and the control
//! characters below U+0020; integers as their digits, of any size (`-0` is `0`); other numbers the shortest
//! digits that read back as the same double, with a point or an exponent, decimal where the decimal exponent is
//! in -4 to 15. [`canonicalize`] works on the text, so that no number passes through a type that cannot hold it;
//! [`write_value`] writes a tree; [`scan`] tells in one pass whether a text is canonical already.
//!
//! Knows nothing of events, hashes or files.
//!
//! ```
//! use leash_core::canonical;
//!
//! let text = r#"{"b": 1.50, "a": [1E-5, -0, 12345678901234567890123, "\u00e9\/"]}"#;
//! let canonical = r#"{"a":[1e-05,0,12345678901234567890123,"é/"],"b":1.5}"#;
//! assert_eq!(canonical::canonicalize(text.as_bytes())?, canonical);
//! assert!(canonical::is_canonical(canonical));
//! assert!(!canonical::is_canonical(text));
//! # Ok::<(), canonical::JsonError>(())
//! ```

#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets into a slice that is in memory cannot overflow"
)]

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;

use serde_json::Value;

/// How many arrays and objects may be open at once. `serde_json` gives up at 128.
pub const MAX_DEPTH: usize = 100;

/// What keeps a text from being JSON with one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JsonErrorKind {
    /// It breaks the grammar.
    Syntax,
    /// It ends too early.
    Truncated,
    /// An object has a member twice.
    DuplicateMember,
    /// `NaN` or an infinity.
    NotFinite,
    /// A number is beyond a double.
    NumberRange,
    /// More than [`MAX_DEPTH`] arrays and objects are open at once.
    Depth,
    /// Half a surrogate pair is escaped.
    Surrogate,
    /// A control character stands unescaped in a string.
    ControlCharacter,
    /// It is not UTF-8.
    Utf8,
}

impl JsonErrorKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "not JSON",
            Self::Truncated => "JSON cut short",
            Self::DuplicateMember => "a member twice in one object",
            Self::NotFinite => "a number that is not finite",
            Self::NumberRange => "a number beyond a double",
            Self::Depth => "nested too deeply",
            Self::Surrogate => "a lone surrogate",
            Self::ControlCharacter => "an unescaped control character",
            Self::Utf8 => "not UTF-8",
        }
    }
}

/// A text is not JSON with one reading. Says what and where, and never quotes the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonError {
    kind: JsonErrorKind,
    offset: usize,
}

impl JsonError {
    /// What is wrong.
    #[must_use]
    pub const fn kind(&self) -> JsonErrorKind {
        self.kind
    }

    /// The byte, counted from 0, at which it is wrong.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.kind.as_str(), self.offset)
    }
}

impl std::error::Error for JsonError {}

/// The text is valid JSON at most, but not in canonical form. [`canonicalize`] says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotCanonical;

impl fmt::Display for NotCanonical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not canonical JSON")
    }
}

impl std::error::Error for NotCanonical {}

/// Checks that `text` is one JSON document with one reading.
///
/// # Errors
/// [`JsonError`] with the first byte at which it is not.
pub fn check(text: &[u8]) -> Result<(), JsonError> {
    Parser::new(text)?.document(None)
}

/// The canonical form of `text`.
///
/// # Errors
/// [`JsonError`] where `text` is not JSON with one reading.
pub fn canonicalize(text: &[u8]) -> Result<String, JsonError> {
    let mut out = String::with_capacity(text.len());
    canonicalize_into(text, &mut out)?;
    Ok(out)
}

/// Appends the canonical form of `text` to `out`.
///
/// # Errors
/// [`JsonError`] where `text` is not JSON with one reading; `out` is then as it was.
pub fn canonicalize_into(text: &[u8], out: &mut String) -> Result<(), JsonError> {
    let start = out.len();
    Parser::new(text)?
        .document(Some(out))
        .inspect_err(|_| out.truncate(start))
}

/// Appends the canonical form of `value` to `out`, in whichever order its maps are kept.
///
/// Integers and doubles stay what they are in the tree.
pub fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => {
            if let Some(number) = number.as_u64() {
                write_u64(out, number);
            } else if let Some(number) = number.as_i64() {
                write_i64(out, number);
            } else {
                write_f64(out, number.as_f64().unwrap_or(f64::NAN));
            }
        }
        Value::String(text) => write_str(out, text),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_value(out, item);
            }
            out.push(']');
        }
        Value::Object(members) => {
            // Another crate may have switched on serde_json's `preserve_order`, so the map's order means nothing.
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
            out.push('{');
            for (index, (name, value)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_str(out, name);
                out.push(':');
                write_value(out, value);
            }
            out.push('}');
        }
    }
}

/// Appends `text` as a canonical JSON string, quotes included.
pub fn write_str(out: &mut String, text: &str) {
    out.push('"');
    let bytes = text.as_bytes();
    let mut from = 0;
    loop {
        let at = special(bytes, from);
        // What is cut at is ASCII, so the borders are those of characters.
        out.push_str(text.get(from..at).unwrap_or_default());
        let Some(&byte) = bytes.get(at) else { break };
        push_escaped(out, byte);
        from = at + 1;
    }
    out.push('"');
}

/// Appends the digits of `number`.
pub fn write_u64(out: &mut String, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut used: usize = 0;
    for slot in digits.iter_mut().rev() {
        *slot = digit(number % 10);
        number /= 10;
        used += 1;
        if number == 0 {
            break;
        }
    }
    let tail = digits.get(20_usize.saturating_sub(used)..).unwrap_or_default();
    out.push_str(std::str::from_utf8(tail).unwrap_or_default());
}

/// Appends the digits of `number`, after a `-` where it is negative.
pub fn write_i64(out: &mut String, number: i64) {
    if number < 0 {
        out.push('-');
    }
    write_u64(out, number.unsigned_abs());
}

/// Appends `number` in the shortest digits that read back as the same double, always with a point or an exponent:
/// `0.0`, `1e-05`, `100.0`, `1e+16`.
///
/// JSON has no word for NaN and the infinities: they become `null`. Nobody who has an amount to write should get
/// this far with one; a `null` is at least seen.
///
/// # Source
/// The form is that of `repr(float)` in Python 3, which wrote the first logs.
pub fn write_f64(out: &mut String, number: f64) {
    if !number.is_finite() {
        out.push_str("null");
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let printed = buffer.format_finite(number);
    let (negative, printed) = match printed.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, printed),
    };
    if negative {
        out.push('-');
    }
    // Whatever notation the printer chose, take its digits and the place of the point, and write our own.
    let (mantissa, exponent) = match printed.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().unwrap_or(0)),
        None => (printed, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = [b'0'; 40];
    let mut count = 0_usize;
    let mut leading = 0_usize;
    for byte in whole.bytes().chain(fraction.bytes()) {
        if count == 0 && byte == b'0' {
            leading += 1;
        } else if let Some(slot) = digits.get_mut(count) {
            *slot = byte;
            count += 1;
        }
    }
    while count > 0 && digits.get(count - 1) == Some(&b'0') {
        count -= 1;
    }
    let digits = std::str::from_utf8(digits.get(..count).unwrap_or_default()).unwrap_or_default();
    if digits.is_empty() {
        out.push_str("0.0");
        return;
    }
    let signed = |length: usize| i32::try_from(length).unwrap_or(i32::MAX);
    // The number is 0.DIGITS × 10^point.
    let point = signed(whole.len()) - signed(leading) + exponent;
    if !(-3..=16).contains(&point) {
        let (first, rest) = digits.split_at_checked(1).unwrap_or((digits, ""));
        out.push_str(first);
        if !rest.is_empty() {
            out.push('.');
            out.push_str(rest);
        }
        let exponent = point - 1;
        out.push_str(if exponent < 0 { "e-" } else { "e+" });
        let exponent = exponent.unsigned_abs();
        if exponent < 10 {
            out.push('0');
        }
        write_u64(out, u64::from(exponent));
    } else if point <= 0 {
        out.push_str("0.");
        out.push_str(
            "000"
                .get(..usize::try_from(-point).unwrap_or(0))
                .unwrap_or_default(),
        );
        out.push_str(digits);
    } else {
        let point = usize::try_from(point).unwrap_or(0);
        if let Some((whole, fraction)) = digits.split_at_checked(point) {
            out.push_str(whole);
            out.push('.');
            out.push_str(if fraction.is_empty() { "0" } else { fraction });
        } else {
            out.push_str(digits);
            out.push_str("0000000000000000".get(count..point).unwrap_or_default());
            out.push_str(".0");
        }
    }
}

/// A member of the outermost object, as [`scan`] meets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its name, without the quotes, escaped as it stands in the text.
    pub name: &'a str,
    /// Where the opening quote of its name is.
    pub start: usize,
    /// Where its value lies.
    pub value: Range<usize>,
}

/// Whether `text` is canonical JSON.
#[must_use]
pub fn is_canonical(text: &str) -> bool {
    scan(text, |_| ()).is_ok()
}

/// Tells in one pass whether `text` is canonical JSON, and shows each member of the outermost object on the way.
///
/// Exact: it is [`Ok`] where [`canonicalize`] gives back the same bytes, and nowhere else. Members that were shown
/// before the text turned out not to be canonical mean nothing.
///
/// # Errors
/// [`NotCanonical`] for everything else.
pub fn scan<'a>(text: &'a str, mut member: impl FnMut(Member<'a>)) -> Result<(), NotCanonical> {
    let scanner = Scanner {
        text,
        bytes: text.as_bytes(),
    };
    let end = match scanner.bytes.first() {
        Some(b'{') => scanner.object(0, 0, &mut member)?,
        _ => scanner.value(0, 0)?,
    };
    if end == text.len() {
        Ok(())
    } else {
        Err(NotCanonical)
    }
}

/// The decimal digit of `value % 10`.
fn digit(value: u64) -> u8 {
    b'0'.wrapping_add(u8::try_from(value % 10).unwrap_or(0))
}

fn push_escaped(out: &mut String, byte: u8) {
    match byte {
        b'"' => out.push_str("\\\""),
        b'\\' => out.push_str("\\\\"),
        0x08 => out.push_str("\\b"),
        b'\t' => out.push_str("\\t"),
        b'\n' => out.push_str("\\n"),
        0x0c => out.push_str("\\f"),
        b'\r' => out.push_str("\\r"),
        _ => {
            out.push_str(if byte < 0x10 { "\\u000" } else { "\\u001" });
            let low = byte & 0xf;
            out.push(char::from(if low < 10 { b'0' + low } else { b'a' + (low - 10) }));
        }
    }
}

/// The first `"`, `\` or control character at or after `from`, or the length. Eight bytes at a time.
#[inline]
fn special(bytes: &[u8], mut from: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let rest = bytes.get(from..).unwrap_or_default();
    let (words, tail) = rest.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word);
        let quote = word ^ (ONES * 0x22);
        let slash = word ^ (ONES * 0x5c);
        // Of each byte the high bit: set where it is zero (or below 0x20). A borrow may set bits after the first
        // true one, never before it, and only the first counts.
        let found = (quote.wrapping_sub(ONES) & !quote)
            | (slash.wrapping_sub(ONES) & !slash)
            | (word.wrapping_sub(ONES * 0x20) & !word);
        let found = found & HIGH;
        if found != 0 {
            return from + usize::try_from(found.trailing_zeros() / 8).unwrap_or(0);
        }
        from += 8;
    }
    from + tail
        .iter()
        .position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20)
        .unwrap_or(tail.len())
}

/// Orders two names by code point, given as they stand between their quotes in a text that was checked.
fn compare_names(a: &[u8], b: &[u8]) -> Ordering {
    if a.contains(&b'\\') || b.contains(&b'\\') {
        Unescaped::new(a).cmp(Unescaped::new(b))
    } else {
        a.cmp(b)
    }
}

/// The bytes of a checked string after unescaping. The order of UTF-8 is that of code points.
struct Unescaped<'a> {
    rest: &'a [u8],
    pending: [u8; 4],
    left: Range<usize>,
}

impl<'a> Unescaped<'a> {
    fn new(rest: &'a [u8]) -> Self {
        Self {
            rest,
            pending: [0; 4],
            left: 0..0,
        }
    }

    fn take(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn unit(&mut self) -> u32 {
        let unit = hex4(self.rest, 0).unwrap_or(0);
        self.rest = self.rest.get(4..).unwrap_or_default();
        unit
    }
}

impl Iterator for Unescaped<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if let Some(index) = self.left.next() {
            return self.pending.get(index).copied();
        }
        let byte = self.take()?;
        if byte != b'\\' {
            return Some(byte);
        }
        let unit = match self.take()? {
            b'b' => 0x08,
            b't' => 0x09,
            b'n' => 0x0a,
            b'f' => 0x0c,
            b'r' => 0x0d,
            b'u' => self.unit(),
            other => u32::from(other),
        };
        let code = if (0xd800..0xdc00).contains(&unit) && self.rest.starts_with(b"\\u") {
            self.rest = self.rest.get(2..).unwrap_or_default();
            pair(unit, self.unit())
        } else {
            unit
        };
        let length = char::from_u32(code)
            .unwrap_or('\u{fffd}')
            .encode_utf8(&mut self.pending)
            .len();
        self.left = 1..length;
        self.pending.first().copied()
    }
}

/// The code point of a surrogate pair.
fn pair(high: u32, low: u32) -> u32 {
    0x1_0000 + ((high & 0x3ff) << 10) + (low & 0x3ff)
}

fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    let digits: &[u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    digits.iter().try_fold(0, |sum: u32, &byte| {
        char::from(byte).to_digit(16).map(|digit| sum * 16 + digit)
    })
}

/// What the grammar says of a number that starts at `at`: where it ends, and whether it is other than an integer.
/// The error is where it goes wrong.
#[inline]
fn number(bytes: &[u8], at: usize) -> Result<(usize, bool), usize> {
    let digits = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let start = if bytes.get(at) == Some(&b'-') { at + 1 } else { at };
    let mut end = digits(start);
    if end == start || (end > start + 1 && bytes.get(start) == Some(&b'0')) {
        // A leading zero stands alone.
        return Err(if end == start { end } else { start + 1 });
    }
    let mut float = false;
    if bytes.get(end) == Some(&b'.') {
        float = true;
        let fraction = digits(end + 1);
        if fraction == end + 1 {
            return Err(fraction);
        }
        end = fraction;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        float = true;
        let mut start = end + 1;
        if matches!(bytes.get(start), Some(b'+' | b'-')) {
            start += 1;
        }
        let exponent = digits(start);
        if exponent == start {
            return Err(exponent);
        }
        end = exponent;
    }
    Ok((end, float))
}

/// A document of fewer digits than this is within a double whatever they are.
const SAFE_DIGITS: usize = 308;

fn within_a_double(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// Whether a float's text, whose grammar was checked, is the canonical one.
fn is_canonical_float(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    if let Some((whole, fraction)) = unsigned.split_once('.') {
        // Two different decimals of at most 15 digits are never the same double, so such a decimal is the shortest
        // for its double. What is left to check is that nothing was padded and that the notation is the right one.
        let short = whole.len() + fraction.len() <= 15 && !fraction.contains(['e', 'E']);
        let trimmed = fraction == "0" || !fraction.ends_with('0');
        let large_enough = whole != "0" || fraction == "0" || !fraction.starts_with("0000");
        if short {
            return trimmed && large_enough;
        }
    }
    let Ok(number) = text.parse::<f64>() else {
        return false;
    };
    if !number.is_finite() {
        return false;
    }
    let mut canonical = String::with_capacity(32);
    write_f64(&mut canonical, number);
    canonical == text
}

/// A member of an object on its way to be sorted.
struct Slot {
    name: Range<usize>,
    written: Range<usize>,
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// The members of all objects that are open, innermost last.
    members: Vec<Slot>,
}

impl<'a> Parser<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, JsonError> {
        let text = std::str::from_utf8(bytes).map_err(|error| JsonError {
            kind: JsonErrorKind::Utf8,
            offset: error.valid_up_to(),
        })?;
        Ok(Self {
            text,
            bytes,
            at: 0,
            members: Vec::new(),
        })
    }

    fn document(mut self, mut out: Option<&mut String>) -> Result<(), JsonError> {
        self.space();
        self.value(&mut out, 0)?;
        self.space();
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            Err(self.error(JsonErrorKind::Syntax))
        }
    }

    fn error(&self, kind: JsonErrorKind) -> JsonError {
        Self::error_at(kind, self.at)
    }

    fn error_at(kind: JsonErrorKind, offset: usize) -> JsonError {
        JsonError { kind, offset }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// The error for a byte that should not be here, or for none where there should be one.
    fn unexpected(&self) -> JsonError {
        self.error(if self.at < self.bytes.len() {
            JsonErrorKind::Syntax
        } else {
            JsonErrorKind::Truncated
        })
    }

    fn slice(&self, range: Range<usize>) -> &'a str {
        self.text.get(range).unwrap_or_default()
    }

    fn value(&mut self, out: &mut Option<&mut String>, depth: usize) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'"') => self.string(out).map(drop),
            Some(b'{') => self.object(out, depth),
            Some(b'[') => self.array(out, depth),
            Some(b't') => self.word("true", out),
            Some(b'f') => self.word("false", out),
            Some(b'n') => self.word("null", out),
            Some(b'-' | b'0'..=b'9') => self.number(out),
            Some(b'N' | b'I') => {
                let rest = self.bytes.get(self.at..).unwrap_or_default();
                let infinite = rest.starts_with(b"NaN") || rest.starts_with(b"Infinity");
                Err(self.error(if infinite {
                    JsonErrorKind::NotFinite
                } else {
                    JsonErrorKind::Syntax
                }))
            }
            _ => Err(self.unexpected()),
        }
    }

    fn word(&mut self, word: &str, out: &mut Option<&mut String>) -> Result<(), JsonError> {
        for &expected in word.as_bytes() {
            if self.peek() != Some(expected) {
                return Err(self.unexpected());
            }
            self.at += 1;
        }
        if let Some(out) = out {
            out.push_str(word);
        }
        Ok(())
    }

    fn number(&mut self, out: &mut Option<&mut String>) -> Result<(), JsonError> {
        let start = self.at;
        let (end, float) = number(self.bytes, start).map_err(|at| {
            let rest = self.bytes.get(at..).unwrap_or_default();
            let kind = match rest {
                [] => JsonErrorKind::Truncated,
                _ if rest.starts_with(b"Infinity") => JsonErrorKind::NotFinite,
                _ => JsonErrorKind::Syntax,
            };
            Self::error_at(kind, at)
        })?;
        self.at = end;
        let text = self.slice(start..end);
        if float {
            let number: f64 = text
                .parse()
                .map_err(|_| Self::error_at(JsonErrorKind::Syntax, start))?;
            if !number.is_finite() {
                return Err(Self::error_at(JsonErrorKind::NumberRange, start));
            }
            if let Some(out) = out {
                write_f64(out, number);
            }
        } else {
            if text.len() > SAFE_DIGITS && !within_a_double(text) {
                return Err(Self::error_at(JsonErrorKind::NumberRange, start));
            }
            if let Some(out) = out {
                out.push_str(if text == "-0" { "0" } else { text });
            }
        }
        Ok(())
    }

    /// Reads a string and gives where its content lies in the text.
    fn string(&mut self, out: &mut Option<&mut String>) -> Result<Range<usize>, JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected());
        }
        self.at += 1;
        let start = self.at;
        if let Some(out) = out {
            out.push('"');
        }
        loop {
            let end = special(self.bytes, self.at);
            if let Some(out) = out {
                out.push_str(self.slice(self.at..end));
            }
            self.at = end;
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    let escaped = self.escape()?;
                    if let Some(out) = out {
                        match u8::try_from(escaped) {
                            Ok(byte) if byte < 0x20 || byte == b'"' || byte == b'\\' => {
                                push_escaped(out, byte);
                            }
                            _ => out.push(escaped),
                        }
                    }
                }
                Some(_) => return Err(self.error(JsonErrorKind::ControlCharacter)),
                None => return Err(self.error(JsonErrorKind::Truncated)),
            }
        }
        let end = self.at;
        self.at += 1;
        if let Some(out) = out {
            out.push('"');
        }
        Ok(start..end)
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let start = self.at;
        self.at += 1;
        let Some(byte) = self.peek() else {
            return Err(self.unexpected());
        };
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b't' => '\t',
            b'n' => '\n',
            b'f' => '\u{c}',
            b'r' => '\r',
            b'u' => {
                let unit = self.unit()?;
                let code = match unit {
                    0xd800..0xdc00
                        if self
                            .bytes
                            .get(self.at..)
                            .is_some_and(|rest| rest.starts_with(b"\\u")) =>
                    {
                        self.at += 2;
                        let low = self.unit()?;
                        if !(0xdc00..0xe000).contains(&low) {
                            return Err(Self::error_at(JsonErrorKind::Surrogate, start));
                        }
                        pair(unit, low)
                    }
                    _ => unit,
                };
                char::from_u32(code).ok_or(Self::error_at(JsonErrorKind::Surrogate, start))?
            }
            _ => return Err(Self::error_at(JsonErrorKind::Syntax, start)),
        })
    }

    fn unit(&mut self) -> Result<u32, JsonError> {
        let Some(unit) = hex4(self.bytes, self.at) else {
            let short = self.bytes.len() < self.at + 4;
            return Err(self.error(if short {
                JsonErrorKind::Truncated
            } else {
                JsonErrorKind::Syntax
            }));
        };
        self.at += 4;
        Ok(unit)
    }

    fn open(&mut self, bracket: char, out: &mut Option<&mut String>, depth: usize) -> Result<(), JsonError> {
        if depth >= MAX_DEPTH {
            return Err(self.error(JsonErrorKind::Depth));
        }
        self.at += 1;
        if let Some(out) = out {
            out.push(bracket);
        }
        self.space();
        Ok(())
    }

    /// After an item: whether another follows.
    fn another(&mut self, close: u8, out: &mut Option<&mut String>) -> Result<bool, JsonError> {
        self.space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.space();
                if let Some(out) = out {
                    out.push(',');
                }
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                if let Some(out) = out {
                    out.push(char::from(close));
                }
                Ok(false)
            }
            _ => Err(self.unexpected()),
        }
    }

    fn array(&mut self, out: &mut Option<&mut String>, depth: usize) -> Result<(), JsonError> {
        self.open('[', out, depth)?;
        if self.peek() == Some(b']') {
            self.at += 1;
            if let Some(out) = out {
                out.push(']');
            }
            return Ok(());
        }
        loop {
            self.value(out, depth + 1)?;
            if !self.another(b']', out)? {
                return Ok(());
            }
        }
    }

    fn object(&mut self, out: &mut Option<&mut String>, depth: usize) -> Result<(), JsonError> {
        self.open('{', out, depth)?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            if let Some(out) = out {
                out.push('}');
            }
            return Ok(());
        }
        let base = self.members.len();
        let mut sorted = true;
        loop {
            let written = out.as_ref().map_or(0, |out| out.len());
            let name = self.string(out)?;
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.unexpected());
            }
            self.at += 1;
            if let Some(out) = out {
                out.push(':');
            }
            self.space();
            self.value(out, depth + 1)?;
            let slot = Slot {
                name,
                written: written..out.as_ref().map_or(0, |out| out.len()),
            };
            if sorted && let Some(last) = self.members.get(base..).and_then(<[Slot]>::last) {
                match compare_names(self.name(last), self.name(&slot)) {
                    Ordering::Less => {}
                    Ordering::Equal => {
                        return Err(Self::error_at(JsonErrorKind::DuplicateMember, slot.name.start));
                    }
                    Ordering::Greater => sorted = false,
                }
            }
            self.members.push(slot);
            if !self.another(b'}', out)? {
                break;
            }
        }
        if !sorted {
            self.sort(base, out)?;
        }
        self.members.truncate(base);
        Ok(())
    }

    fn name(&self, slot: &Slot) -> &'a [u8] {
        self.bytes.get(slot.name.clone()).unwrap_or_default()
    }

    /// Brings the members from `base` on, and what was written of them, into order.
    fn sort(&mut self, base: usize, out: &mut Option<&mut String>) -> Result<(), JsonError> {
        let bytes = self.bytes;
        let name = |slot: &Slot| bytes.get(slot.name.clone()).unwrap_or_default();
        let members = self.members.get_mut(base..).unwrap_or_default();
        let written = members.first().map_or(0, |first| first.written.start);
        members.sort_by(|a, b| compare_names(name(a), name(b)));
        for two in members.windows(2) {
            if let [a, b] = two
                && compare_names(name(a), name(b)) == Ordering::Equal
            {
                return Err(Self::error_at(JsonErrorKind::DuplicateMember, b.name.start));
            }
        }
        if let Some(out) = out {
            let mut again = String::with_capacity(out.len() - written);
            for (index, member) in members.iter().enumerate() {
                if index > 0 {
                    again.push(',');
                }
                again.push_str(out.get(member.written.clone()).unwrap_or_default());
            }
            again.push('}');
            out.truncate(written);
            out.push_str(&again);
        }
        Ok(())
    }
}

/// Walks a text that may be canonical, and gives up at the first byte that is not. Each function takes where its
/// value starts and gives where it ends.
#[derive(Clone, Copy)]
struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
}

impl<'a> Scanner<'a> {
    #[inline]
    fn value(self, at: usize, depth: usize) -> Result<usize, NotCanonical> {
        match self.bytes.get(at) {
            Some(b'"') => self.string(at).map(|(end, _)| end),
            Some(b'-' | b'0'..=b'9') => self.number(at),
            Some(b'{') => self.object(at, depth, &mut |_: Member<'a>| ()),
            Some(b'[') => self.array(at, depth),
            Some(b'n') => self.word(at, b"null"),
            Some(b't') => self.word(at, b"true"),
            Some(b'f') => self.word(at, b"false"),
            _ => Err(NotCanonical),
        }
    }

    fn word(self, at: usize, word: &[u8]) -> Result<usize, NotCanonical> {
        let end = at + word.len();
        if self.bytes.get(at..end) == Some(word) {
            Ok(end)
        } else {
            Err(NotCanonical)
        }
    }

    #[inline]
    fn number(self, at: usize) -> Result<usize, NotCanonical> {
        let (end, float) = number(self.bytes, at).map_err(|_| NotCanonical)?;
        if float {
            let text = self.text.get(at..end).unwrap_or_default();
            return if is_canonical_float(text) {
                Ok(end)
            } else {
                Err(NotCanonical)
            };
        }
        let negative_zero = end == at + 2 && self.bytes.get(at..end) == Some(b"-0");
        if negative_zero
            || (end - at > SAFE_DIGITS && !within_a_double(self.text.get(at..end).unwrap_or_default()))
        {
            return Err(NotCanonical);
        }
        Ok(end)
    }

    /// Where the string ends, and whether it holds an escape.
    #[inline]
    fn string(self, at: usize) -> Result<(usize, bool), NotCanonical> {
        if self.bytes.get(at) != Some(&b'"') {
            return Err(NotCanonical);
        }
        let mut at = special(self.bytes, at + 1);
        if self.bytes.get(at) == Some(&b'"') {
            return Ok((at + 1, false));
        }
        loop {
            match self.bytes.get(at) {
                Some(b'"') => return Ok((at + 1, true)),
                Some(b'\\') => at = special(self.bytes, self.escape(at)?),
                _ => return Err(NotCanonical),
            }
        }
    }

    fn escape(self, at: usize) -> Result<usize, NotCanonical> {
        match self.bytes.get(at + 1) {
            Some(b'"' | b'\\' | b'b' | b't' | b'n' | b'f' | b'r') => Ok(at + 2),
            Some(b'u') => {
                let Some(b"00") = self.bytes.get(at + 2..at + 4) else {
                    return Err(NotCanonical);
                };
                match (self.bytes.get(at + 4), self.bytes.get(at + 5)) {
                    // The others of the first sixteen have a letter.
                    (Some(b'0'), Some(b'0'..=b'7' | b'b' | b'e' | b'f'))
                    | (Some(b'1'), Some(b'0'..=b'9' | b'a'..=b'f')) => Ok(at + 6),
                    _ => Err(NotCanonical),
                }
            }
            _ => Err(NotCanonical),
        }
    }

    fn array(self, at: usize, depth: usize) -> Result<usize, NotCanonical> {
        if depth >= MAX_DEPTH {
            return Err(NotCanonical);
        }
        let mut at = at + 1;
        if self.bytes.get(at) == Some(&b']') {
            return Ok(at + 1);
        }
        loop {
            at = self.value(at, depth + 1)?;
            match self.bytes.get(at) {
                Some(b',') => at += 1,
                Some(b']') => return Ok(at + 1),
                _ => return Err(NotCanonical),
            }
        }
    }

    #[inline]
    fn object(
        self,
        at: usize,
        depth: usize,
        member: &mut impl FnMut(Member<'a>),
    ) -> Result<usize, NotCanonical> {
        if depth >= MAX_DEPTH {
            return Err(NotCanonical);
        }
        let mut at = at + 1;
        if self.bytes.get(at) == Some(&b'}') {
            return Ok(at + 1);
        }
        let mut last: Option<(&str, bool)> = None;
        loop {
            let start = at;
            let (end, escaped) = self.string(start)?;
            let name = self.text.get(start + 1..end - 1).unwrap_or_default();
            if let Some((last, last_escaped)) = last {
                // Most neighbours differ in their first letter, and a comparison of slices is a call.
                let order = if escaped || last_escaped {
                    Unescaped::new(last.as_bytes()).cmp(Unescaped::new(name.as_bytes()))
                } else {
                    let first = last.as_bytes().first().cmp(&name.as_bytes().first());
                    first.then_with(|| last.cmp(name))
                };
                if order != Ordering::Less {
                    return Err(NotCanonical);
                }
            }
            last = Some((name, escaped));
            if self.bytes.get(end) != Some(&b':') {
                return Err(NotCanonical);
            }
            at = self.value(end + 1, depth + 1)?;
            member(Member {
                name,
                start,
                value: end + 1..at,
            });
            match self.bytes.get(at) {
                Some(b',') => at += 1,
                Some(b'}') => return Ok(at + 1),
                _ => return Err(NotCanonical),
            }
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::string_slice,
    clippy::format_collect,
    clippy::float_arithmetic,
    reason = "tests"
)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const CANONICAL: &str = include_str!("../tests/data/canonical.json");
    const PYTHON: &str = include_str!("../tests/data/python-json.json");

    fn vectors(text: &str, name: &str) -> Vec<Value> {
        let all: Value = serde_json::from_str(text).unwrap();
        all[name].as_array().unwrap().clone()
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    fn written(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn floats_are_written_as_the_vectors_have_them() {
        for vector in vectors(CANONICAL, "floats")
            .into_iter()
            .chain(vectors(PYTHON, "floats"))
        {
            let number = f64::from_bits(u64::from_str_radix(vector["bits"].as_str().unwrap(), 16).unwrap());
            let expected = vector["canonical"].as_str().unwrap();
            if number.is_finite() {
                assert_eq!(written(|out| write_f64(out, number)), expected);
                assert_eq!(canonicalize(expected.as_bytes()).unwrap(), expected);
                assert!(is_canonical(expected), "{expected}");
            } else {
                assert_eq!(written(|out| write_f64(out, number)), "null");
                assert!(check(expected.as_bytes()).is_err());
            }
        }
    }

    #[test]
    fn documents_become_what_the_vectors_say() {
        for vector in vectors(CANONICAL, "documents") {
            let expected = vector["canonical"].as_str().unwrap();
            assert_eq!(
                canonicalize(vector["input"].as_str().unwrap().as_bytes()).unwrap(),
                expected
            );
            assert!(is_canonical(expected));
        }
    }

    #[test]
    fn integers_and_strings_and_names_become_what_the_vectors_say() {
        for vector in vectors(PYTHON, "ints") {
            let expected = vector["canonical"].as_str().unwrap();
            assert_eq!(
                canonicalize(vector["value"].as_str().unwrap().as_bytes()).unwrap(),
                expected
            );
            assert!(is_canonical(expected));
        }
        for vector in vectors(PYTHON, "strings") {
            let codes = vector["codepoints"].as_array().unwrap().iter();
            let codes = codes.map(|code| u32::from_str_radix(&code.as_str().unwrap()[2..], 16).unwrap());
            let text: Option<String> = codes.clone().map(char::from_u32).collect();
            let Some(text) = text else {
                let escaped: String = codes.map(|code| format!("\\u{code:04x}")).collect();
                let error = canonicalize(format!("\"{escaped}\"").as_bytes()).unwrap_err();
                assert_eq!(error.kind(), JsonErrorKind::Surrogate);
                continue;
            };
            let expected = String::from_utf8(hex(vector["canonical_hex"].as_str().unwrap())).unwrap();
            assert_eq!(written(|out| write_str(out, &text)), expected);
            assert_eq!(canonicalize(expected.as_bytes()).unwrap(), expected);
            assert!(is_canonical(&expected));
            let mut units = [0; 2];
            let escaped: String = text
                .chars()
                .flat_map(|c| c.encode_utf16(&mut units).to_vec())
                .map(|unit| format!("\\u{unit:04X}"))
                .collect();
            assert_eq!(
                canonicalize(format!("\"{escaped}\"").as_bytes()).unwrap(),
                expected
            );
        }
        for vector in vectors(PYTHON, "keys")
            .into_iter()
            .chain(vectors(PYTHON, "events"))
        {
            let expected = vector["canonical"].as_str().unwrap();
            if expected.contains("NaN") || expected.contains("Infinity") {
                assert_eq!(
                    canonicalize(expected.as_bytes()).unwrap_err().kind(),
                    JsonErrorKind::NotFinite
                );
                assert!(!is_canonical(expected));
                continue;
            }
            assert_eq!(canonicalize(expected.as_bytes()).unwrap(), expected);
            assert!(is_canonical(expected));
            let tree: Value = serde_json::from_str(expected).unwrap();
            assert_eq!(written(|out| write_value(out, &tree)), expected);
        }
    }

    /// What a Python reader makes of a line, but for what it accepts and we, on purpose, do not.
    #[test]
    fn a_text_is_read_as_the_vectors_say_or_more_strictly() {
        for vector in vectors(PYTHON, "reparse") {
            let Some(line) = vector["line_hex"].as_str().map(hex).or_else(|| {
                let line = vector["line"].as_str().unwrap();
                (!line.contains("...")).then(|| line.as_bytes().to_vec())
            }) else {
                continue;
            };
            let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&line);
            let stricter = match std::str::from_utf8(line).unwrap() {
                r#"{"a":1e400}"# | r#"{"a":-1e400}"# => Some(JsonErrorKind::NumberRange),
                r#"{"a":NaN}"# | r#"{"a":Infinity}"# | r#"{"a":-Infinity}"# => Some(JsonErrorKind::NotFinite),
                r#"{"a":1,"a":2}"# => Some(JsonErrorKind::DuplicateMember),
                _ => None,
            };
            let ours = canonicalize(line);
            match (stricter, vector["canonical"].as_str()) {
                (Some(kind), _) => assert_eq!(ours.unwrap_err().kind(), kind),
                (None, Some(expected)) => assert_eq!(ours.unwrap(), expected),
                (None, None) => assert!(ours.is_err()),
            }
        }
    }

    #[test]
    fn what_has_two_readings_is_refused_where_it_stands() {
        use JsonErrorKind as Kind;
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        for (text, kind, offset) in [
            (r#"{"a":1,"b":2,"\u0061":3}"#, Kind::DuplicateMember, 14),
            (r#"[{"z":{"a":1,"a":2}}]"#, Kind::DuplicateMember, 14),
            (r#"{"b":1,"a":1,"b":1}"#, Kind::DuplicateMember, 14),
            ("[1e400]", Kind::NumberRange, 1),
            ("-1e400", Kind::NumberRange, 0),
            ("NaN", Kind::NotFinite, 0),
            ("[-Infinity]", Kind::NotFinite, 2),
            (r#""\ud800""#, Kind::Surrogate, 1),
            (r#""\udc00""#, Kind::Surrogate, 1),
            (r#""\ud800\u0041""#, Kind::Surrogate, 1),
            (r#""\ud800x""#, Kind::Surrogate, 1),
            ("\"\t\"", Kind::ControlCharacter, 1),
            ("[1,]", Kind::Syntax, 3),
            ("01", Kind::Syntax, 1),
            ("1 2", Kind::Syntax, 2),
            ("", Kind::Truncated, 0),
            ("{\"a\":", Kind::Truncated, 5),
            ("\"\\u12", Kind::Truncated, 3),
            ("\u{feff}1", Kind::Syntax, 0),
        ] {
            let error = check(text.as_bytes()).unwrap_err();
            assert_eq!((error.kind(), error.offset()), (kind, offset), "{text}");
            let mut out = String::from("before");
            assert_eq!(canonicalize_into(text.as_bytes(), &mut out), Err(error));
            assert_eq!(out, "before");
            assert!(!is_canonical(text));
        }
        assert_eq!(
            check(b"\"\xff\"").unwrap_err(),
            JsonError {
                kind: Kind::Utf8,
                offset: 1
            }
        );
        assert_eq!(
            check(deep(MAX_DEPTH + 1).as_bytes()).unwrap_err().kind(),
            Kind::Depth
        );
        assert!(!is_canonical(&deep(MAX_DEPTH + 1)));
        assert!(check(deep(MAX_DEPTH).as_bytes()).is_ok() && is_canonical(&deep(MAX_DEPTH)));
        assert!(serde_json::from_str::<Value>(&deep(MAX_DEPTH)).is_ok());
    }

    #[test]
    fn integers_are_bounded_by_a_double_only() {
        let largest = format!("{:.0}", f64::MAX);
        let too_large = format!("2{}", "0".repeat(308));
        for text in [&largest, &format!("-{largest}"), &"9".repeat(308)] {
            assert_eq!(&canonicalize(text.as_bytes()).unwrap(), text);
            assert!(is_canonical(text));
            assert!(serde_json::from_str::<Value>(text).is_ok());
        }
        for text in [&too_large, &format!("-{too_large}"), &"9".repeat(4300)] {
            assert_eq!(
                check(text.as_bytes()).unwrap_err().kind(),
                JsonErrorKind::NumberRange
            );
            assert!(!is_canonical(text));
        }
    }

    #[test]
    fn integers_are_written_at_their_borders() {
        for number in [0, 1, 9, 10, 99, 100, u64::MAX - 1, u64::MAX] {
            assert_eq!(written(|out| write_u64(out, number)), number.to_string());
        }
        for number in [0, -1, i64::MIN, i64::MAX] {
            assert_eq!(written(|out| write_i64(out, number)), number.to_string());
        }
    }

    #[test]
    fn the_members_of_the_outermost_object_are_shown_with_their_places() {
        let text = r#"{"a\"":{"x":1},"b":[{"y":2}],"c":"d"}"#;
        let mut members = Vec::new();
        scan(text, |member| {
            members.push((member.name, member.start, &text[member.value]));
        })
        .unwrap();
        assert_eq!(
            members,
            [
                ("a\\\"", 1, r#"{"x":1}"#),
                ("b", 15, r#"[{"y":2}]"#),
                ("c", 29, r#""d""#)
            ]
        );
    }

    fn any_text() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            "[ -~\\x00-\\x1f\"\\\\]{0,40}",
            proptest::collection::vec(
                prop::sample::select(vec![
                    '\u{7f}',
                    '\u{2028}',
                    '\u{ffff}',
                    '\u{10000}',
                    '"',
                    '\\',
                    '\0',
                    'a',
                    '/'
                ]),
                0..12
            )
            .prop_map(|chars| chars.into_iter().collect::<String>()),
        ]
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<u64>()
                .prop_map(f64::from_bits)
                .prop_filter("finite", |number| number.is_finite())
                .prop_map(Value::from),
            (-400_000_i32..400_000).prop_map(|cents| Value::from(f64::from(cents) / 100_000.0)),
            any_text().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 48, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::vec((any_text(), inner), 0..6)
                    .prop_map(|members| members.into_iter().collect::<Value>()),
            ]
        })
    }

    /// Pieces that meet the grammar's corners more often than random characters would.
    fn almost_json() -> impl Strategy<Value = String> {
        let pieces = [
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "\"a\"",
            "\"b\"",
            "\"\\u0061\"",
            "\\",
            "\\u",
            "d800",
            "\\udc00",
            " ",
            "\n",
            "0",
            "-",
            "-0",
            "1",
            "01",
            ".",
            ".5",
            "1.50",
            "e",
            "E+",
            "400",
            "1e400",
            "1e-400",
            "0.0001",
            "0.00001",
            "1e-05",
            "1e+16",
            "1e16",
            "true",
            "null",
            "NaN",
            "Infinity",
            "\u{e9}",
            "\u{1f}",
            "\"a\":1",
            "{\"a\":1}",
            "123456789012345678901",
            "0.1000000000000000055",
            "5e-324",
            "1e999999999999999999999",
            "0e999999999999999999999",
            "1e-999999999999999999999",
        ];
        proptest::collection::vec(prop::sample::select(pieces.to_vec()), 0..12)
            .prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn the_text_and_the_tree_become_the_same(value in any_value()) {
            let expected = written(|out| write_value(out, &value));
            for text in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
                prop_assert_eq!(&canonicalize(text.as_bytes()).unwrap(), &expected);
                prop_assert_eq!(is_canonical(&text), text == expected);
            }
            prop_assert_eq!(&canonicalize(expected.as_bytes()).unwrap(), &expected);
            prop_assert!(is_canonical(&expected));
            prop_assert_eq!(serde_json::from_str::<Value>(&expected).unwrap(), value);
        }

        #[test]
        fn a_scan_agrees_with_canonicalizing(text in almost_json()) {
            let same = canonicalize(text.as_bytes()).is_ok_and(|canonical| canonical == text);
            prop_assert_eq!(is_canonical(&text), same);
        }

        #[test]
        fn what_is_accepted_serde_json_accepts_and_the_rest_has_a_reason(text in almost_json()) {
            let theirs = serde_json::from_str::<Value>(&text);
            match check(text.as_bytes()) {
                Ok(()) => prop_assert!(theirs.is_ok()),
                Err(error) if error.kind() == JsonErrorKind::DuplicateMember => {}
                Err(_) => prop_assert!(theirs.is_err()),
            }
        }

        #[test]
        fn bytes_of_any_kind_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = check(&bytes);
            if let Ok(text) = canonicalize(&bytes) {
                prop_assert_eq!(canonicalize(text.as_bytes()).unwrap(), text);
            }
        }

        #[test]
        fn a_double_is_written_canonically_and_reads_back(bits in any::<u64>()) {
            let number = f64::from_bits(bits);
            prop_assume!(number.is_finite());
            let text = written(|out| write_f64(out, number));
            prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), bits);
            prop_assert!(is_canonical(&text));
        }

        #[test]
        fn a_decimal_is_canonical_where_it_is_its_own_canonical_form(
            sign in "-?", whole in "(0|[1-9][0-9]{0,17})", fraction in "[0-9]{1,20}", exponent in "(|e[+-][0-9]{2})"
        ) {
            let text = format!("{sign}{whole}.{fraction}{exponent}");
            prop_assert_eq!(is_canonical(&text), canonicalize(text.as_bytes()).unwrap() == text);
        }

        #[test]
        fn names_are_sorted_by_code_point(names in proptest::collection::hash_set(any_text(), 0..8)) {
            let mut sorted: Vec<_> = names.iter().cloned().collect();
            sorted.sort_by(|a, b| a.chars().cmp(b.chars()));
            let text = written(|out| {
                write_value(out, &names.iter().map(|name| (name.clone(), json!(1))).collect::<Value>());
            });
            let mut seen: Vec<String> = Vec::new();
            scan(&text, |member| seen.push(serde_json::from_str(&format!("\"{}\"", member.name)).unwrap())).unwrap();
            prop_assert_eq!(seen, sorted);
        }
    }
}
