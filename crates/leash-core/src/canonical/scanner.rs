//! Tells in one pass whether a text is canonical already.

use std::cmp::Ordering;

use super::{
    MAX_DEPTH, Member, NotCanonical, SAFE_DIGITS, Unescaped, is_canonical_float, number, special,
    within_a_double,
};

/// Walks a text that may be canonical, and gives up at the first byte that is not. Each function takes where its
/// value starts and gives where it ends.
#[derive(Clone, Copy)]
pub(super) struct Scanner<'a> {
    pub(super) text: &'a str,
    pub(super) bytes: &'a [u8],
}

impl<'a> Scanner<'a> {
    #[inline]
    pub(super) fn value(self, at: usize, depth: usize) -> Result<usize, NotCanonical> {
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
    pub(super) fn object(
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
