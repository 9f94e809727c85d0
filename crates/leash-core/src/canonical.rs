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

mod parser;
mod scanner;
#[cfg(test)]
#[expect(
    clippy::string_slice,
    clippy::format_collect,
    clippy::float_arithmetic,
    reason = "tests"
)]
mod tests;

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;

use serde_json::Value;

use self::parser::Parser;
use self::scanner::Scanner;

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
