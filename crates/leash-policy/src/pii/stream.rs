//! Redaction of text that comes in pieces.
#![expect(
    clippy::single_match_else,
    reason = "a grammar or a table, read best in one place and as it is written"
)]

use super::PiiRedactor;
use super::finder::Finder;

/// How much of what was given out is kept, in bytes: the words before a number may say what it is.
const CONTEXT: usize = 64;

/// Redacts text that comes in pieces, split anywhere: what it gives out, joined, is what
/// [`PiiRedactor::redact`] makes of the whole.
///
/// It holds back only what may still become part of a finding: the end of a word or of a number, some hundred bytes
/// at most. With detectors of one's own it holds back a line.
///
/// ```
/// use leash_policy::PiiRedactor;
///
/// let redactor = PiiRedactor::new();
/// let mut stream = redactor.stream();
/// let mut out = stream.push(b"mail jane@exa");
/// out += &stream.push(b"mple.org now");
/// out += &stream.finish();
/// assert_eq!(out, "mail [REDACTED:EMAIL] now");
/// ```
#[derive(Debug)]
pub struct PiiStream<'a> {
    redactor: &'a PiiRedactor,
    /// What was given out last, and what is held back.
    text: String,
    /// Where the held part begins.
    held: usize,
    /// Where the last finding ended.
    after: usize,
    /// The first bytes of a character that is not complete.
    bytes: Vec<u8>,
}

impl<'a> PiiStream<'a> {
    pub(super) const fn new(redactor: &'a PiiRedactor) -> Self {
        Self {
            redactor,
            text: String::new(),
            held: 0,
            after: 0,
            bytes: Vec::new(),
        }
    }

    /// Takes a piece; gives out what is decided. Bytes that are no UTF-8 become `U+FFFD`.
    #[must_use]
    pub fn push(&mut self, piece: &[u8]) -> String {
        let joined;
        let mut rest = if self.bytes.is_empty() {
            piece
        } else {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.extend_from_slice(piece);
            joined = bytes;
            &joined
        };
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.text.push_str(text);
                    break;
                }
                Err(error) => {
                    let (good, bad) = rest.split_at(error.valid_up_to());
                    self.text.push_str(&String::from_utf8_lossy(good));
                    match error.error_len() {
                        Some(length) => {
                            self.text.push('\u{fffd}');
                            rest = bad.get(length..).unwrap_or(&[]);
                        }
                        None => {
                            self.bytes = bad.to_vec();
                            break;
                        }
                    }
                }
            }
        }
        self.decide(false)
    }

    /// Gives out the rest.
    #[must_use]
    pub fn finish(mut self) -> String {
        if !self.bytes.is_empty() {
            self.text.push('\u{fffd}');
        }
        self.decide(true)
    }

    /// How many bytes are held back.
    #[must_use]
    pub fn held(&self) -> usize {
        self.text
            .len()
            .saturating_sub(self.held)
            .saturating_add(self.bytes.len())
    }

    fn decide(&mut self, last: bool) -> String {
        let mut out = String::new();
        if !self.redactor.own.is_empty() {
            // Own detectors see whole lines.
            let end = if last {
                self.text.len()
            } else {
                self.text.rfind('\n').map_or(0, |at| at.saturating_add(1))
            };
            let rest = self.text.split_off(end);
            out = self.redactor.redact(&self.text);
            self.text = rest;
            return out;
        }
        let mut finder = Finder::new(&self.text, last);
        finder.start_at(self.held, self.after);
        let mut at = self.held;
        while let Some(found) = finder.next_span(at) {
            if self.redactor.without.iter().any(|kind| kind == found.kind) {
                continue;
            }
            out.push_str(self.text.get(at..found.start).unwrap_or(""));
            self.redactor.replacement(
                found.kind,
                self.text.get(found.start..found.end).unwrap_or(""),
                &mut out,
            );
            at = found.end;
        }
        let decided = finder.decided().max(at);
        self.after = finder.after();
        out.push_str(self.text.get(at..decided).unwrap_or(""));
        self.held = decided;
        // What is behind the context is not looked at again.
        let mut cut = decided.saturating_sub(CONTEXT);
        while !self.text.is_char_boundary(cut) {
            cut = cut.saturating_sub(1);
        }
        if cut > 4 * CONTEXT || last {
            self.text.drain(..cut);
            self.held = self.held.saturating_sub(cut);
            self.after = self.after.saturating_sub(cut);
        }
        out
    }
}
