//! Reads a text and writes its canonical form in one pass; members are sorted as their object closes.

use std::cmp::Ordering;
use std::ops::Range;

use super::{
    JsonError, JsonErrorKind, MAX_DEPTH, SAFE_DIGITS, compare_names, hex4, number, pair, push_escaped,
    special, within_a_double, write_f64,
};

/// A member of an object on its way to be sorted.
struct Slot {
    name: Range<usize>,
    written: Range<usize>,
}

pub(super) struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// The members of all objects that are open, innermost last.
    members: Vec<Slot>,
}

impl<'a> Parser<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, JsonError> {
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

    pub(super) fn document(mut self, mut out: Option<&mut String>) -> Result<(), JsonError> {
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
