//! One line of a log: whether it is an event whose hash fits, and what it says of its place in the chain.

use std::fmt::Write as _;

use leash_core::Digest;
use leash_core::canonical::{self, Member};

use crate::mac::HmacKeys;

/// A digest as lines have it. Digests are compared as text: reading a million of them as numbers takes longer than
/// hashing what they stand for.
pub(crate) type Hex = [u8; 64];

/// The text of 32 bytes.
pub(crate) fn hex(bytes: impl IntoIterator<Item = u8>) -> Hex {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
    let mut out = ZERO;
    for (pair, byte) in out.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 0xf)];
    }
    out
}

/// What the first line names as the hash before it.
pub(crate) const ZERO: Hex = [b'0'; 64];

/// A line's place in the chain, from its members.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// `None` where it is missing or no whole number below 2⁶⁴.
    pub(crate) seq: Option<u64>,
    /// `None` where it is missing or no string of 64 bytes. Not looked at more closely: it must be equal to a digest.
    pub(crate) prev_hash: Option<Hex>,
    /// The digest that the line has and that fits, or what is wrong with it.
    pub(crate) hash: Result<Hex, BadHash>,
    /// What is wrong with the `hmac`, where keys were given.
    pub(crate) mac: Option<Box<str>>,
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
#[expect(
    clippy::large_enum_variant,
    reason = "made for every line, where an allocation would take longer than the copy"
)]
pub(crate) enum Line {
    /// White space.
    Blank,
    /// No JSON object with one reading; says why.
    Garbage(String),
    /// An object.
    Event(Link, Form),
}

/// Where the canonical form of a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The line is in it.
    AsItStands,
    /// In the scratch.
    Rewritten,
}

/// Takes note of members, beside those of the chain. The members of one line may be shown twice: after
/// [`begin`](Pick::begin), those before it mean nothing.
pub(crate) trait Pick {
    fn begin(&mut self);
    fn member(&mut self, member: &Member<'_>);
}

impl Pick for () {
    #[inline]
    fn begin(&mut self) {}
    #[inline]
    fn member(&mut self, _: &Member<'_>) {}
}

/// Where the chain's members lie in a canonical line.
#[derive(Default)]
struct Places {
    hash: Option<(usize, usize, usize)>,
    prev_hash: Option<(usize, usize)>,
    seq: Option<(usize, usize)>,
    hmac: Option<(usize, usize, usize)>,
    hmac_key_id: Option<(usize, usize)>,
}

impl Places {
    #[inline]
    fn note(&mut self, member: &Member<'_>) {
        match member.name {
            "hash" => self.hash = Some((member.start, member.value.start, member.value.end)),
            "prev_hash" => self.prev_hash = Some((member.value.start, member.value.end)),
            "seq" => self.seq = Some((member.value.start, member.value.end)),
            "hmac" => self.hmac = Some((member.start, member.value.start, member.value.end)),
            "hmac_key_id" => self.hmac_key_id = Some((member.value.start, member.value.end)),
            _ => {}
        }
    }

    /// What is wrong with the `hmac`.
    fn mac(&self, bytes: &[u8], keys: &HmacKeys) -> Option<Box<str>> {
        let slice = |start: usize, end: usize| bytes.get(start..end).unwrap_or_default();
        let Some((start, value, end)) = self.hmac else {
            return Some("there is no `hmac`, and a key was given".into());
        };
        let id = match self.hmac_key_id {
            None => None,
            Some((start, end)) => {
                let id = slice(start, end)
                    .strip_prefix(b"\"")
                    .and_then(|id| id.strip_suffix(b"\""))
                    .and_then(|id| std::str::from_utf8(id).ok());
                let Some(id) = id else {
                    return Some("`hmac_key_id` is not a string".into());
                };
                Some(id)
            }
        };
        let keys = match keys.find(id) {
            Ok(keys) => keys,
            Err(what) => return Some(what.into()),
        };
        let stored = slice(value, end)
            .strip_prefix(b"\"")
            .and_then(|hex| hex.strip_suffix(b"\""))
            .and_then(|hex| Digest::from_hex(hex).ok());
        let Some(stored) = stored else {
            return Some("`hmac` is not 64 lower-case hex digits".into());
        };
        // All but the two members, each with the comma after it; where nothing is left after the last, the comma
        // before it goes instead.
        let mut cuts = [Some((start, end)), self.hash.map(|(start, _, end)| (start, end))];
        cuts.sort_unstable();
        let mut from = 0;
        let mut kept = Vec::with_capacity(bytes.len());
        for (start, end) in cuts.into_iter().flatten() {
            kept.extend_from_slice(slice(from, start));
            let comma = bytes.get(end) == Some(&b',');
            from = if comma { end.saturating_add(1) } else { end };
        }
        let rest = slice(from, bytes.len());
        if rest == b"}" && kept.last() == Some(&b',') {
            kept.pop();
        }
        kept.extend_from_slice(rest);
        let fits = keys.iter().any(|key| key.fits(&kept, &stored));
        (!fits).then(|| match keys {
            [_] => "the `hmac` does not fit: it was not made with this key".into(),
            _ => "the `hmac` does not fit: it was made with none of these keys".into(),
        })
    }

    fn link(&self, bytes: &[u8], keys: Option<&HmacKeys>) -> Link {
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
            mac: keys.and_then(|keys| self.mac(bytes, keys)),
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

/// What stands on a line of foreign formatting, without what surrounds it: white space in the sense of a Python that
/// strips bytes, and a byte order mark. `None` where there is only white space; a mark alone is none.
pub(crate) fn content(mut line: &[u8]) -> Option<&[u8]> {
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
    if line.is_empty() {
        return None;
    }
    let Some(mut line) = line.strip_prefix("\u{feff}".as_bytes()) else {
        return Some(line);
    };
    while let Some((b' ' | b'\t' | b'\r', rest)) = line.split_first() {
        line = rest;
    }
    Some(line)
}

/// Looks at one line, given without its line end. `text` is the same line where it is known to be UTF-8. `scratch`
/// is room to work in, `keys` are demanded where they are given, and `pick` is shown every member.
#[inline]
pub(crate) fn look(
    line: &[u8],
    text: Option<&str>,
    scratch: &mut String,
    keys: Option<&HmacKeys>,
    pick: &mut impl Pick,
) -> Line {
    if let Some(text) = text {
        let mut places = Places::default();
        pick.begin();
        if line.first() == Some(&b'{')
            && canonical::scan(text, |member| {
                places.note(&member);
                pick.member(&member);
            })
            .is_ok()
        {
            return Line::Event(places.link(line, keys), Form::AsItStands);
        }
    }
    look_closely(line, scratch, keys, pick)
}

#[cold]
fn look_closely(line: &[u8], scratch: &mut String, keys: Option<&HmacKeys>, pick: &mut impl Pick) -> Line {
    let Some(line) = content(line) else {
        return Line::Blank;
    };
    if !line.is_empty() && line.iter().all(|&byte| byte == 0) {
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
    pick.begin();
    let scanned = canonical::scan(scratch, |member| {
        places.note(&member);
        pick.member(&member);
    });
    if !scratch.starts_with('{') || scanned.is_err() {
        return Line::Garbage("no event: not a JSON object".to_owned());
    }
    Line::Event(places.link(scratch.as_bytes(), keys), Form::Rewritten)
}
