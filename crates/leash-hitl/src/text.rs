//! Showing text and JSON to people as it is: exact digits, and no character that makes it look other than it is.

use std::fmt::Write as _;

/// Whether `char` does not print, moves the cursor, or turns the direction of reading around: what a human is shown
/// must not rewrite itself on the screen.
#[must_use]
pub fn is_deceptive(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{ad}'
                | '\u{61c}'
                | '\u{115f}'
                | '\u{1160}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// `text` for a screen: what [`is_deceptive`] is written as its code point, `\u{202e}`, but for line feeds.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if char != '\n' && is_deceptive(char) {
            let _ = write!(out, "\\u{{{:04x}}}", u32::from(char));
        } else {
            out.push(char);
        }
    }
    out
}

/// JSON, a member a line, every other character as it stands: no number is read and written again. What is no JSON
/// comes out with other white space.
#[must_use]
pub fn pretty_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        for _ in 0..depth.min(leash_core::canonical::MAX_DEPTH) {
            out.push_str("  ");
        }
    };
    let mut chars = json.chars().peekable();
    while let Some(char) = chars.next() {
        if in_string {
            out.push(char);
            in_string = escaped || char != '"';
            escaped = !escaped && char == '\\';
            continue;
        }
        match char {
            '{' | '[' => {
                while chars.peek().is_some_and(char::is_ascii_whitespace) {
                    chars.next();
                }
                out.push(char);
                if let Some(end) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth = depth.saturating_add(1);
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(char);
            }
            ',' => {
                out.push(',');
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            ' ' | '\n' | '\r' | '\t' => {}
            char => {
                in_string = char == '"';
                out.push(char);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_has_the_very_digits_and_no_tricks() {
        let json = r#"{"a":12345678901234567890123,"b":["x, \"y\": {",[],{}],"c":"\\"}"#;
        let shown = pretty_json(json);
        assert_eq!(
            shown,
            "{\n  \"a\": 12345678901234567890123,\n  \"b\": [\n    \"x, \\\"y\\\": {\",\n    [],\n    {}\n  ],\n  \"c\": \"\\\\\"\n}"
        );
        assert_eq!(
            leash_core::canonical::canonicalize(shown.as_bytes()).unwrap(),
            json
        );
        assert_eq!(
            visible("a\u{1b}[2Jb\u{202e}c\nd é 🚀"),
            "a\\u{001b}[2Jb\\u{202e}c\nd é 🚀"
        );
    }
}
