//! One line of a log: whether it is an event whose hash fits, and what it says of its place in the chain.

use std::fmt::Write as _;

use leash_core::Digest;
use leash_core::canonical::{self, Member};

/// A digest as lines have it. Digests are compared as text: reading a million of them as numbers takes longer than
/// hashing what they stand for.
pub(crate) type Hex = [u8; 64];

/// What the first line names as the hash before it.
pub(crate) const ZERO: Hex = [b'0'; 64];

/// A line's place in the chain, from its members.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    /// `None` where it is missing or no whole number below 2⁶⁴.
    pub(crate) seq: Option<u64>,
    /// `None` where it is missing or no string of 64 bytes. Not looked at more closely: it must be equal to a digest.
    pub(crate) prev_hash: Option<Hex>,
    /// The digest that the line has and that fits, or what is wrong with it.
    pub(crate) hash: Result<Hex, BadHash>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum BadHash {
    Missing,
    NoDigest,
    Mismatch { stored: Hex, computed: Hex },
}

impl BadHash {
    pub(crate) fn what(self) -> String {
        match self {
            Self::Missing => "there is no `hash`".to_owned(),
            Self::NoDigest => "`hash` is not 64 lower-case hex digits".to_owned(),
            Self::Mismatch { stored, computed } => {
                format!(
                    "hash mismatch (stored {}..., recomputed {}...)",
                    short(&stored),
                    short(&computed)
                )
            }
        }
    }
}

/// The first twelve digits, as messages have them.
pub(crate) fn short(hex: &Hex) -> &str {
    hex.first_chunk::<12>()
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .unwrap_or_default()
}

/// Whether these are lower-case hex digits, so that a message may quote them.
pub(crate) fn is_digest(hex: &Hex) -> bool {
    Digest::from_hex(hex).is_ok()
}

/// What a line is.
pub(crate) enum Line {
    /// White space.
    Blank,
    /// No JSON object with one reading; says why.
    Garbage(String),
    /// An object.
    Event(Link),
}

/// Where the chain's members lie in a canonical line.
#[derive(Default)]
struct Places {
    hash: Option<(usize, usize, usize)>,
    prev_hash: Option<(usize, usize)>,
    seq: Option<(usize, usize)>,
}

impl Places {
    #[inline]
    fn note(&mut self, member: &Member<'_>) {
        match member.name {
            "hash" => self.hash = Some((member.start, member.value.start, member.value.end)),
            "prev_hash" => self.prev_hash = Some((member.value.start, member.value.end)),
            "seq" => self.seq = Some((member.value.start, member.value.end)),
            _ => {}
        }
    }

    fn link(&self, bytes: &[u8]) -> Link {
        let slice = |start: usize, end: usize| bytes.get(start..end).unwrap_or_default();
        let digest = |start, end| -> Option<Hex> {
            slice(start, end)
                .strip_prefix(b"\"")?
                .strip_suffix(b"\"")?
                .try_into()
                .ok()
        };
        let hash = match self.hash {
            None => Err(BadHash::Missing),
            Some((start, value, end)) => {
                // One comma goes with the member: the one after it, or before it where it is the last.
                let (head, tail) = if bytes.get(end) == Some(&b',') {
                    (start, end.saturating_add(1))
                } else if bytes.get(start.wrapping_sub(1)) == Some(&b',') {
                    (start.wrapping_sub(1), end)
                } else {
                    (start, end)
                };
                match digest(value, end) {
                    None => Err(BadHash::NoDigest),
                    Some(stored) => {
                        let computed = Digest::of_parts(&[slice(0, head), slice(tail, bytes.len())]).to_hex();
                        if computed == stored {
                            Ok(stored)
                        } else if is_digest(&stored) {
                            Err(BadHash::Mismatch { stored, computed })
                        } else {
                            Err(BadHash::NoDigest)
                        }
                    }
                }
            }
        };
        Link {
            seq: self.seq.and_then(|(start, end)| number(slice(start, end))),
            prev_hash: self.prev_hash.and_then(|(start, end)| digest(start, end)),
            hash,
        }
    }
}

/// A canonical integer below 2⁶⁴.
fn number(digits: &[u8]) -> Option<u64> {
    let mut sum: u64 = 0;
    for byte in digits {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        sum = sum.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    (!digits.is_empty()).then_some(sum)
}

/// Cuts off what surrounds the object on a line of foreign formatting: white space in the sense of a Python that
/// strips bytes, and a byte order mark.
pub(crate) fn trim(mut line: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c);
    while let Some((first, rest)) = line.split_first()
        && blank(first)
    {
        line = rest;
    }
    while let Some((last, rest)) = line.split_last()
        && blank(last)
    {
        line = rest;
    }
    line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line)
}

/// Looks at one line, given without its line end. `text` is the same line where it is known to be UTF-8. `scratch`
/// is room to work in.
#[inline]
pub(crate) fn look(line: &[u8], text: Option<&str>, scratch: &mut String) -> Line {
    if let Some(text) = text {
        let mut places = Places::default();
        if line.first() == Some(&b'{') && canonical::scan(text, |member| places.note(&member)).is_ok() {
            return Line::Event(places.link(line));
        }
    }
    look_closely(line, scratch)
}

#[cold]
fn look_closely(line: &[u8], scratch: &mut String) -> Line {
    let line = trim(line);
    if line.is_empty() {
        return Line::Blank;
    }
    if line.iter().all(|&byte| byte == 0) {
        return Line::Garbage(format!("{} NUL bytes where an event should be", line.len()));
    }
    scratch.clear();
    if let Err(error) = canonical::canonicalize_into(line, scratch) {
        let mut what = String::from("no event: ");
        // Writing to a string does not fail.
        let _ = write!(what, "{error}");
        return Line::Garbage(what);
    }
    let mut places = Places::default();
    if !scratch.starts_with('{') || canonical::scan(scratch, |member| places.note(&member)).is_err() {
        return Line::Garbage("no event: not a JSON object".to_owned());
    }
    Line::Event(places.link(scratch.as_bytes()))
}
