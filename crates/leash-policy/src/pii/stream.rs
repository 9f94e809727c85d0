//! Redaction of text that comes in pieces.
#![expect(
    clippy::single_match_else,
    reason = "a grammar or a table, read best in one place and as it is written"
)]

use std::borrow::Cow;

use super::finder::Finder;
use super::{MAX_PASSES, PiiRedactor, Span};

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
    /// Each takes what the one before gives out. One, and with detectors of one's own as many as there are passes over a
    /// whole text.
    stages: Vec<Stage>,
    /// The first bytes of a character that is not complete.
    bytes: Vec<u8>,
}

/// One pass over a text that comes in pieces.
#[derive(Debug, Default)]
struct Stage {
    /// What was given out last, and what is held back.
    text: String,
    /// Up to where it was given out.
    given: usize,
    /// Up to where what is built in was looked for, and what was found since `given`.
    held: usize,
    spans: Vec<Span>,
    /// Where the last finding ended.
    after: usize,
}

impl<'a> PiiStream<'a> {
    pub(super) fn new(redactor: &'a PiiRedactor) -> Self {
        let passes = if redactor.own.is_empty() {
            1
        } else {
            MAX_PASSES.saturating_add(1)
        };
        Self {
            redactor,
            stages: (0..passes).map(|_| Stage::default()).collect(),
            bytes: Vec::new(),
        }
    }

    /// Takes a piece; gives out what is decided. Bytes that are no UTF-8 become `U+FFFD`.
    #[must_use]
    pub fn push(&mut self, piece: &[u8]) -> String {
        let mut given = String::new();
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
                    given.push_str(text);
                    break;
                }
                Err(error) => {
                    let (good, bad) = rest.split_at(error.valid_up_to());
                    given.push_str(&String::from_utf8_lossy(good));
                    match error.error_len() {
                        Some(length) => {
                            given.push('\u{fffd}');
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
        self.through(given, false)
    }

    /// Gives out the rest.
    #[must_use]
    pub fn finish(mut self) -> String {
        let rest = if self.bytes.is_empty() { "" } else { "\u{fffd}" };
        self.through(rest.to_owned(), true)
    }

    /// How many bytes are held back.
    #[must_use]
    pub fn held(&self) -> usize {
        let held = self
            .stages
            .iter()
            .map(|stage| stage.text.len().saturating_sub(stage.given));
        held.fold(self.bytes.len(), usize::saturating_add)
    }

    fn through(&mut self, piece: String, last: bool) -> String {
        let redactor = self.redactor;
        self.stages.iter_mut().fold(piece, |piece, stage| {
            if piece.is_empty() && !last {
                return piece;
            }
            stage.text.push_str(&piece);
            stage.decide(redactor, last)
        })
    }
}

impl Stage {
    fn decide(&mut self, redactor: &PiiRedactor, last: bool) -> String {
        let mut finder = Finder::new(&self.text, last);
        finder.start_at(self.held, self.after);
        let mut at = self.held;
        while let Some(found) = finder.next_span(at) {
            if redactor.without.iter().any(|kind| kind == found.kind) {
                continue;
            }
            self.spans.push(Span {
                kind: Cow::Borrowed(found.kind),
                start: found.start,
                end: found.end,
            });
            at = found.end;
        }
        let decided = finder.decided().max(at);
        self.after = finder.after();
        self.held = decided;
        let end = if last || redactor.own.is_empty() {
            decided
        } else {
            self.whole_lines(decided)
        };
        let out = self.give(redactor, end);
        // What is behind the context is not looked at again.
        let mut cut = decided.saturating_sub(CONTEXT).min(self.given);
        while !self.text.is_char_boundary(cut) {
            cut = cut.saturating_sub(1);
        }
        if cut > 4 * CONTEXT || last {
            self.text.drain(..cut);
            for place in [&mut self.given, &mut self.held, &mut self.after] {
                *place = place.saturating_sub(cut);
            }
            for span in &mut self.spans {
                span.start = span.start.saturating_sub(cut);
                span.end = span.end.saturating_sub(cut);
            }
        }
        out
    }

    /// Where the last line ends that is decided as a whole, and that no finding leads out of: own detectors see whole lines.
    fn whole_lines(&self, decided: usize) -> usize {
        let mut end = decided;
        loop {
            let line = self.text.get(..end).and_then(|text| text.rfind('\n'));
            let Some(line) = line.map(|at| at.saturating_add(1)).filter(|at| *at > self.given) else {
                return self.given;
            };
            match self
                .spans
                .iter()
                .find(|span| span.start < line && line < span.end)
            {
                None => return line,
                Some(span) => end = span.start,
            }
        }
    }

    /// Gives out what is before `end`, without what was found there.
    fn give(&mut self, redactor: &PiiRedactor, end: usize) -> String {
        let start = self.given;
        let here = self.spans.iter().take_while(|span| span.end <= end).count();
        let mut spans: Vec<Span> = self
            .spans
            .drain(..here)
            .map(|span| Span {
                start: span.start.saturating_sub(start),
                end: span.end.saturating_sub(start),
                ..span
            })
            .collect();
        self.given = end;
        let text = self.text.get(start..end).unwrap_or("");
        if !redactor.own.is_empty() {
            redactor.scan_own(text, &mut spans);
        }
        redactor.without_spans(text, &spans)
    }
}
