//! Marks: characters that stand in a text for what is not known before the command runs.
//!
//! They are noncharacters, so no text that a person writes holds one; what does is refused before it is parsed.
#![expect(
    clippy::collapsible_if,
    reason = "a grammar or a table, read best in one place and as it is written"
)]

/// A variable of the environment, or one that nothing set.
pub(super) const ENV: char = '\u{fdd0}';
/// The output of a command.
pub(super) const OUTPUT: char = '\u{fdd1}';
/// What came over the network.
pub(super) const NETWORK: char = '\u{fdd2}';
/// Credentials, the environment as a whole, private files.
pub(super) const SENSITIVE: char = '\u{fdd3}';
/// Ids of processes that were looked for by name or port.
pub(super) const PIDS: char = '\u{fdd4}';
/// What holds neither commands nor paths that matter: a date, a version, names below the working directory.
pub(super) const HARMLESS: char = '\u{fdd5}';
/// The content of a file that was there before.
pub(super) const FILE: char = '\u{fdd6}';

/// Whether `text` holds any mark.
pub(super) fn any(text: &str) -> bool {
    // All of them begin with the byte EF; most texts hold none.
    memchr::memchr(0xef, text.as_bytes()).is_some() && text.chars().any(is)
}

pub(super) const fn is(character: char) -> bool {
    matches!(character, '\u{fdd0}'..='\u{fdef}' | '\u{fffe}' | '\u{ffff}')
}

/// The marks in `text`, each once, and `extra`.
pub(super) fn of(text: &str, extra: Option<char>) -> String {
    let mut found = String::new();
    if any(text) {
        for mark in text.chars().filter(|&character| is(character)) {
            if !found.contains(mark) {
                found.push(mark);
            }
        }
    }
    if let Some(extra) = extra {
        if !found.contains(extra) {
            found.push(extra);
        }
    }
    found
}
