//! Gives a log out as CSV or as a JSON array: [`export`]. Knows which columns each kind of event has.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::str::FromStr;

use leash_core::canonical;

use crate::AuditError;
use crate::read::{Input, each_line};

/// What a log is exported as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Comma-separated, with a header (RFC 4180).
    Csv,
    /// One array, indented by 2.
    Json,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Csv => "csv",
            Self::Json => "json",
        })
    }
}

/// The word names no format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the formats are `csv` and `json`")]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "csv" => Ok(Self::Csv),
            "json" => Ok(Self::Json),
            _ => Err(UnknownFormat),
        }
    }
}

/// Writes all events of a log to `out`, numbers as the log has them, and says how many there were. Does not look at
/// hashes. Memory is constant; CSV reads the log twice, so a stream goes through a temporary file.
///
/// # Errors
/// [`AuditError::Line`] at a line that is no event; [`AuditError::Io`] when the log cannot be read or `out` cannot
/// be written.
pub fn export(input: Input, format: Format, out: impl Write) -> Result<u64, AuditError> {
    let mut out = BufWriter::with_capacity(256 * 1024, out);
    let events = match format {
        Format::Csv => export_csv(input, &mut out),
        Format::Json => export_json(input, &mut out),
    }?;
    out.flush().map_err(AuditError::io("write", "output"))?;
    Ok(events)
}

fn export_json(input: Input, out: &mut impl Write) -> Result<u64, AuditError> {
    let (name, reader) = input.into_reader();
    let mut buf = String::from("[");
    let mut first = true;
    let events = each_line(&name, reader, |record| {
        buf.push_str(if first { "\n  " } else { ",\n  " });
        first = false;
        indent(&mut buf, record.text, 1);
        let written = out.write_all(buf.as_bytes());
        buf.clear();
        written.map_err(AuditError::io("write", "output"))
    })?;
    buf.push_str(if first { "]\n" } else { "\n]\n" });
    out.write_all(buf.as_bytes())
        .map_err(AuditError::io("write", "output"))?;
    Ok(events)
}

/// A piece of a JSON text that was checked.
enum Token<'a> {
    /// With its quotes.
    String(&'a str),
    /// A number, `true`, `false` or `null`.
    Word(&'a str),
    /// A bracket, brace, comma or colon.
    Mark(u8),
}

/// The tokens of a JSON text that was checked.
struct Tokens<'a>(&'a str);

impl<'a> Tokens<'a> {
    fn cut(&mut self, at: usize) -> &'a str {
        let (head, tail) = self.0.split_at_checked(at).unwrap_or((self.0, ""));
        self.0 = tail;
        head
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.0 = self.0.trim_start_matches([' ', '\t', '\n', '\r']);
        let bytes = self.0.as_bytes();
        match *bytes.first()? {
            b'"' => {
                let mut end: usize = 1;
                loop {
                    let rest = bytes.get(end..).unwrap_or_default();
                    let Some(found) = memchr::memchr2(b'"', b'\\', rest) else {
                        break;
                    };
                    let quote = rest.get(found) == Some(&b'"');
                    end = end
                        .saturating_add(found)
                        .saturating_add(if quote { 1 } else { 2 });
                    if quote {
                        break;
                    }
                }
                Some(Token::String(self.cut(end)))
            }
            mark @ (b'{' | b'}' | b'[' | b']' | b',' | b':') => {
                self.cut(1);
                Some(Token::Mark(mark))
            }
            _ => {
                let delimiter = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | ',' | '}' | ']');
                let end = self.0.find(delimiter).unwrap_or(self.0.len());
                Some(Token::Word(self.cut(end)))
            }
        }
    }
}

fn push_string(out: &mut String, token: &str) {
    // Without escapes it is canonical as it stands. A string that was checked has a canonical form.
    if !token.contains('\\') || canonical::canonicalize_into(token.as_bytes(), out).is_err() {
        out.push_str(token);
    }
}

/// Writes `text` indented by 2, starting `level` levels in. Empty arrays and objects stay on their line.
fn indent(out: &mut String, text: &str, mut level: usize) {
    fn line(out: &mut String, level: usize) {
        out.push('\n');
        for _ in 0..level {
            out.push_str("  ");
        }
    }
    let mut opened = false;
    for token in Tokens(text) {
        let closes = matches!(token, Token::Mark(b'}' | b']'));
        if opened && !closes {
            line(out, level);
        }
        match token {
            Token::String(text) => push_string(out, text),
            Token::Word(text) => out.push_str(text),
            Token::Mark(b',') => {
                out.push(',');
                line(out, level);
            }
            Token::Mark(b':') => out.push_str(": "),
            Token::Mark(mark) => {
                if closes {
                    level = level.saturating_sub(1);
                    if !opened {
                        line(out, level);
                    }
                } else {
                    level = level.saturating_add(1);
                }
                out.push(char::from(mark));
            }
        }
        opened = matches!(token, Token::Mark(b'{' | b'['));
    }
}

/// The columns of every log.
const COMMON: &[&str] = &["ts", "session_id", "tenant_id", "seq", "kind"];

/// The columns of the first kinds, in the order in which these are met. They never change.
const FIRST: &[(&str, &[&str])] = &[
    (
        "model_call",
        &["provider", "model", "input_tokens", "output_tokens", "cost_usd"],
    ),
    ("budget", &["cumulative_usd", "cap_usd", "decision"]),
    ("kill", &["reason"]),
    ("tool_call", &["tool"]),
];

/// Members that the first kinds have at times: columns where they are met, after those above.
const AT_TIMES: &[(&str, &[&str])] = &[
    (
        "model_call",
        &[
            "cache_read_tokens",
            "cache_write_tokens",
            "reasoning_tokens",
            "cumulative_usd",
            "duration_ms",
            "outcome",
            "usage",
            "price_version",
            "clamped",
            "hitl_request_id",
            "reservation_id",
            "scopes",
        ],
    ),
    (
        "tool_call",
        &[
            "cost_usd",
            "cumulative_usd",
            "duration_ms",
            "outcome",
            "hitl_request_id",
            "reservation_id",
            "scopes",
        ],
    ),
    ("budget", &["scope", "count", "window"]),
    ("kill", &["scope"]),
];

/// The columns of the later kinds, in this order whichever is met first, after all others.
const LATER: &[(&str, &[&str])] = &[
    ("kill_clear", &["reason", "scope"]),
    (
        "policy_decision",
        &["rule_id", "action", "reason", "tool", "shadow"],
    ),
    (
        "hitl_decision",
        &["request_id", "rule_id", "decision", "reason", "operator"],
    ),
    ("refusal", &["rule_id", "reason", "stage", "count"]),
    (
        "admitted",
        &["provider", "model", "request_hash", "bound_usd", "tool"],
    ),
    ("log_recovered", &["set_aside", "bytes", "sha256"]),
    ("fail_open", &["what", "reason", "operator"]),
    ("policy_change", &["what", "reason", "operator"]),
    ("budget_change", &["what", "reason", "operator"]),
    ("admin", &["what", "reason", "operator"]),
];

fn columns_of(
    table: &'static [(&'static str, &'static [&'static str])],
    kind: &str,
) -> &'static [&'static str] {
    table
        .iter()
        .find(|(name, _)| *name == kind)
        .map(|(_, columns)| *columns)
        .unwrap_or_default()
}

/// What the first reading of a log finds out about its columns.
#[derive(Default)]
struct Met {
    /// Of [`FIRST`], in order of appearance.
    first: Vec<&'static str>,
    later: HashSet<&'static str>,
    at_times: HashSet<(&'static str, &'static str)>,
    agent_name: bool,
}

impl Met {
    fn note(&mut self, members: &[(Cow<'_, str>, &str)]) {
        let kind = members
            .iter()
            .find(|(name, _)| name == "kind")
            .map(|(_, value)| cell(value));
        let Some(kind) = kind else { return };
        self.agent_name |= members.iter().any(|(name, _)| name == "agent_name");
        if let Some((kind, _)) = FIRST.iter().find(|(name, _)| *name == kind) {
            if !self.first.contains(kind) {
                self.first.push(kind);
            }
            for column in columns_of(AT_TIMES, kind) {
                if !self.at_times.contains(&(*kind, *column))
                    && members.iter().any(|(name, _)| name == column)
                {
                    self.at_times.insert((kind, column));
                }
            }
        } else if let Some((kind, _)) = LATER.iter().find(|(name, _)| *name == kind) {
            self.later.insert(kind);
        }
    }

    fn columns(&self) -> Vec<&'static str> {
        let mut all = COMMON.to_vec();
        let mut add = |column: &'static str| {
            if !all.contains(&column) {
                all.push(column);
            }
        };
        for kind in &self.first {
            columns_of(FIRST, kind).iter().copied().for_each(&mut add);
        }
        if self.agent_name {
            add("agent_name");
        }
        for (kind, columns) in AT_TIMES {
            columns
                .iter()
                .filter(|column| self.at_times.contains(&(*kind, **column)))
                .copied()
                .for_each(&mut add);
        }
        for (kind, columns) in LATER {
            if self.later.contains(kind) {
                columns.iter().copied().for_each(&mut add);
            }
        }
        all
    }
}

fn export_csv(input: Input, out: &mut impl Write) -> Result<u64, AuditError> {
    let (name, mut file) = input.rewindable()?;
    let mut met = Met::default();
    each_line(&name, &file, |record| {
        met.note(&members(record.text));
        Ok(())
    })?;
    file.seek(SeekFrom::Start(0))
        .map_err(AuditError::io("read", &name))?;

    let columns = met.columns();
    let mut row = String::new();
    for column in &columns {
        push_cell(&mut row, column);
    }
    let mut write = |row: &mut String| {
        row.pop();
        row.push_str("\r\n");
        let written = out.write_all(row.as_bytes());
        row.clear();
        written.map_err(AuditError::io("write", "output"))
    };
    write(&mut row)?;
    each_line(&name, &file, |record| {
        let members = members(record.text);
        for column in &columns {
            let value = members.iter().find(|(name, _)| name == column);
            push_cell(&mut row, &value.map(|(_, value)| cell(value)).unwrap_or_default());
        }
        write(&mut row)
    })
}

/// The members of an object that was checked, values as they stand.
fn members(text: &str) -> Vec<(Cow<'_, str>, &str)> {
    let mut all = Vec::with_capacity(24);
    let mut tokens = Tokens(text);
    // The brace.
    tokens.next();
    while let Some(token) = tokens.next() {
        let Token::String(name) = token else { continue };
        // The colon.
        tokens.next();
        let start = tokens.0.trim_start_matches([' ', '\t', '\n', '\r']);
        let mut depth: usize = 0;
        for token in tokens.by_ref() {
            match token {
                Token::Mark(b'{' | b'[') => depth = depth.saturating_add(1),
                Token::Mark(b'}' | b']') => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        let length = start.len().saturating_sub(tokens.0.len());
        all.push((cell(name), start.get(..length).unwrap_or_default()));
    }
    all
}

/// What a value is in a cell: a string without quotes and escapes, nothing for `null`, the rest as it stands.
pub(crate) fn cell(value: &str) -> Cow<'_, str> {
    match value.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(text) if !text.contains('\\') => Cow::Borrowed(text),
        Some(_) => Cow::Owned(serde_json::from_str(value).unwrap_or_default()),
        None if value == "null" => Cow::Borrowed(""),
        None => Cow::Borrowed(value),
    }
}

pub(crate) fn push_cell(row: &mut String, cell: &str) {
    if cell.contains(['"', ',', '\r', '\n']) {
        row.push('"');
        row.push_str(&cell.replace('"', "\"\""));
        row.push('"');
    } else {
        row.push_str(cell);
    }
    row.push(',');
}
