//! Tokens of the plainest SQL, quicker. Knows no rule, and nothing that dialects read in different ways.
//!
//! The tokenizer of the parser asks the dialect at every sign and lets every word grow sign by sign, which takes a third of the time
//! that a statement takes. Words, numbers, strings without escapes and the common operators are the same in all dialects: they are
//! taken apart here. Where anything else occurs, this gives up, and the tokenizer of the parser does it all.

use std::sync::LazyLock;

use sqlparser::dialect::Dialect;
use sqlparser::keywords::{ALL_KEYWORDS, ALL_KEYWORDS_INDEX, Keyword};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Word};

/// How many lists the keywords are spread over: a power of two.
const LISTS: usize = 4096;

static KEYWORDS: LazyLock<Vec<Vec<(&'static str, Keyword)>>> = LazyLock::new(|| {
    let mut lists = vec![Vec::new(); LISTS];
    for (name, keyword) in ALL_KEYWORDS.iter().zip(ALL_KEYWORDS_INDEX) {
        let hash = name.bytes().fold(0, add);
        if let Some(list) = lists.get_mut(hash & (LISTS - 1)) {
            list.push((*name, *keyword));
        }
    }
    lists
});

/// The hash of a word, a sign later. Case makes no difference.
const fn add(hash: usize, byte: u8) -> usize {
    // Widening: `usize::from` is not const.
    #[expect(clippy::as_conversions, reason = "a byte fits")]
    let byte = (byte & 0xDF) as usize;
    hash.wrapping_mul(31).wrapping_add(byte) ^ (hash >> 7)
}

fn keyword(word: &str, hash: usize) -> Keyword {
    KEYWORDS
        .get(hash & (LISTS - 1))
        .and_then(|list| list.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)))
        .map_or(Keyword::NoKeyword, |(_, keyword)| *keyword)
}

/// Signs that are operators, or parts of some in a dialect.
const fn is_operator(byte: u8) -> bool {
    matches!(
        byte,
        b'+' | b'-'
            | b'*'
            | b'/'
            | b'<'
            | b'>'
            | b'='
            | b'~'
            | b'!'
            | b'@'
            | b'#'
            | b'%'
            | b'^'
            | b'&'
            | b'|'
            | b'?'
            | b':'
            | b'`'
    )
}

/// Puts the tokens of `text`, without white space, into `tokens`, if all of it is plain; `None` where it is not, and then `tokens`
/// holds nothing of use.
pub(super) fn tokens(dialect: &dyn Dialect, text: &str, tokens: &mut Vec<TokenWithSpan>) -> Option<()> {
    if !text.is_ascii() || !dialect.is_identifier_start('_') {
        return None;
    }
    let bytes = text.as_bytes();
    let names_in_quotes = dialect.is_delimited_identifier_start('"');
    let (mut i, mut line, mut line_start) = (0_usize, 1_u64, 0_usize);
    while let Some(&byte) = bytes.get(i) {
        let next = i.wrapping_add(1);
        let (token, end) = match byte {
            b' ' | b'\t' => {
                i = next;
                continue;
            }
            b'\n' => {
                i = next;
                line = line.wrapping_add(1);
                line_start = next;
                continue;
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => word(text, i)?,
            b'0'..=b'9' => number(text, i)?,
            b'\'' => {
                let (inside, end) = quoted(text, i, b'\'')?;
                (Token::SingleQuotedString(inside.to_owned()), end)
            }
            b'"' if names_in_quotes => {
                let (inside, end) = quoted(text, i, b'"')?;
                let name = Word {
                    value: inside.to_owned(),
                    quote_style: Some('"'),
                    keyword: Keyword::NoKeyword,
                };
                (Token::Word(name), end)
            }
            b'(' => (Token::LParen, next),
            b')' => (Token::RParen, next),
            b',' => (Token::Comma, next),
            b';' => (Token::SemiColon, next),
            b'.' => {
                // Before a digit it is a number, and `._` is none of the tokenizer's words everywhere.
                let behind = bytes.get(next).copied().unwrap_or(b' ');
                if behind.is_ascii_digit() || behind == b'_' || behind == b'.' {
                    return None;
                }
                (Token::Period, next)
            }
            _ => operator(bytes, i)?,
        };
        let at = |index: usize| {
            let column = u64::try_from(index.wrapping_sub(line_start)).unwrap_or(u64::MAX);
            Location::new(line, column.wrapping_add(1))
        };
        tokens.push(TokenWithSpan {
            token,
            span: Span::new(at(i), at(end)),
        });
        i = end;
    }
    Some(())
}

fn word(text: &str, from: usize) -> Option<(Token, usize)> {
    let mut hash = 0_usize;
    let rest = text.as_bytes().get(from..)?;
    let mut len = 0_usize;
    let mut behind = b' ';
    for &byte in rest {
        if !byte.is_ascii_alphanumeric() && byte != b'_' {
            behind = byte;
            break;
        }
        hash = add(hash, byte);
        len = len.wrapping_add(1);
    }
    // What follows may belong to it (`a$`, `a#`), or make it the start of a string (`N'x'`, `U&'x'`).
    if matches!(behind, b'\'' | b'"' | b'$' | b'#' | b'@' | b'&') {
        return None;
    }
    let end = from.wrapping_add(len);
    let value = text.get(from..end)?;
    let word = Word {
        keyword: keyword(value, hash),
        value: value.to_owned(),
        quote_style: None,
    };
    Some((Token::Word(word), end))
}

fn number(text: &str, from: usize) -> Option<(Token, usize)> {
    let rest = text.as_bytes().get(from..)?;
    let digits = |from: usize| {
        let rest = rest.get(from..).unwrap_or_default();
        rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let mut len = digits(0);
    if rest.get(len) == Some(&b'.') {
        let fraction = digits(len.wrapping_add(1));
        if fraction == 0 {
            return None;
        }
        len = len.wrapping_add(1).wrapping_add(fraction);
    }
    match rest.get(len) {
        Some(b' ' | b'\t' | b'\n' | b',' | b')' | b';') | None => {}
        Some(_) => return None,
    }
    let end = from.wrapping_add(len);
    Some((Token::Number(text.get(from..end)?.to_owned(), false), end))
}

/// What is in quotes that start at `from`, and the place behind them, if no sign in it could be an escape.
fn quoted(text: &str, from: usize, quote: u8) -> Option<(&str, usize)> {
    let start = from.wrapping_add(1);
    let bytes = text.as_bytes();
    let len = memchr::memchr3(quote, b'\\', b'\n', bytes.get(start..)?)?;
    let close = start.wrapping_add(len);
    let end = close.wrapping_add(1);
    if bytes.get(close) != Some(&quote) || matches!(bytes.get(end), Some(b'\'' | b'"')) {
        return None;
    }
    Some((text.get(start..close)?, end))
}

fn operator(bytes: &[u8], from: usize) -> Option<(Token, usize)> {
    let one = from.wrapping_add(1);
    let two = from.wrapping_add(2);
    let (token, end) = match (bytes.get(from)?, bytes.get(one).copied().unwrap_or(b' ')) {
        (b'<', b'=') => (Token::LtEq, two),
        (b'<', b'>') | (b'!', b'=') => (Token::Neq, two),
        (b'>', b'=') => (Token::GtEq, two),
        (b'|', b'|') => (Token::StringConcat, two),
        (b':', b':') => (Token::DoubleColon, two),
        (b'=', _) => (Token::Eq, one),
        (b'<', _) => (Token::Lt, one),
        (b'>', _) => (Token::Gt, one),
        (b'+', _) => (Token::Plus, one),
        (b'-', _) => (Token::Minus, one),
        (b'*', _) => (Token::Mul, one),
        (b'/', _) => (Token::Div, one),
        _ => return None,
    };
    // Some dialects would make one operator of both.
    (!bytes.get(end).is_some_and(|behind| is_operator(*behind))).then_some((token, end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sqlparser::dialect::{
        AnsiDialect, BigQueryDialect, ClickHouseDialect, DatabricksDialect, DuckDbDialect, GenericDialect,
        MsSqlDialect, MySqlDialect, OracleDialect, PostgreSqlDialect, SQLiteDialect, SnowflakeDialect,
    };
    use sqlparser::tokenizer::Tokenizer;

    use super::*;

    fn all() -> Vec<Box<dyn Dialect>> {
        vec![
            Box::new(GenericDialect {}),
            Box::new(AnsiDialect {}),
            Box::new(PostgreSqlDialect {}),
            Box::new(MySqlDialect {}),
            Box::new(SQLiteDialect {}),
            Box::new(MsSqlDialect {}),
            Box::new(BigQueryDialect {}),
            Box::new(SnowflakeDialect {}),
            Box::new(DuckDbDialect {}),
            Box::new(ClickHouseDialect {}),
            Box::new(DatabricksDialect {}),
            Box::new(OracleDialect {}),
        ]
    }

    /// In which dialects both take the text apart in different ways; and in how many it was plain.
    fn differ(text: &str) -> (Vec<String>, usize) {
        let mut differing = Vec::new();
        let mut plain = 0_usize;
        for dialect in all() {
            let mut quick = Vec::new();
            if tokens(&*dialect, text, &mut quick).is_none() {
                continue;
            }
            plain = plain.saturating_add(1);
            let slow = Tokenizer::new(&*dialect, text)
                .tokenize_with_location()
                .map(|mut slow| {
                    slow.retain(|token| !matches!(token.token, Token::Whitespace(_)));
                    slow
                });
            // Where a token stands counts, too.
            let places = |tokens: &[TokenWithSpan]| tokens.iter().map(|token| token.span).collect::<Vec<_>>();
            let same = slow.is_ok_and(|slow| slow == quick && places(&slow) == places(&quick));
            if !same {
                differing.push(format!("{dialect:?}: {text}"));
            }
        }
        (differing, plain)
    }

    #[test]
    fn what_is_plain_is_taken_apart_as_the_parser_does() {
        let (mut differing, mut plain) = (Vec::new(), 0_usize);
        for file in [
            include_str!("../../tests/data/sql.json"),
            include_str!("../../tests/data/sql_more.json"),
        ] {
            let cases: serde_json::Value = serde_json::from_str(file).unwrap_or_default();
            for case in cases.as_array().into_iter().flatten() {
                let sql = case["sql"].as_str().or_else(|| case["args"]["sql"].as_str());
                let (found, count) = differ(sql.unwrap_or_default());
                differing.extend(found);
                plain = plain.saturating_add(count);
            }
        }
        assert!(differing.is_empty(), "{}", differing.join("\n"));
        assert!(plain > 10_000, "hardly any of the cases is plain: {plain}");
    }

    #[test]
    fn every_keyword_is_found_in_any_case() {
        for (name, expected) in ALL_KEYWORDS.iter().zip(ALL_KEYWORDS_INDEX) {
            for spelled in [(*name).to_owned(), name.to_lowercase()] {
                let hash = spelled.bytes().fold(0, add);
                assert_eq!(keyword(&spelled, hash), *expected, "{name}");
            }
        }
        assert_eq!(
            keyword("no_such_word", "no_such_word".bytes().fold(0, add)),
            Keyword::NoKeyword
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn any_text_is_taken_apart_as_the_parser_does_or_left_to_it(
            pieces in prop::collection::vec(
                prop_oneof![
                    3 => "[ \n\t]{1,2}",
                    3 => prop::sample::select(vec![
                        "select", "SELECT", "from", "e", "E", "b", "n", "N", "q", "nq", "r", "u", "x", "_a", "a1", "t", "is", "x1",
                    ]).prop_map(str::to_owned),
                    2 => prop::sample::select(vec![
                        "'a'", "''", "'it''s'", "\"a\"", "\"\"", "'a\\'", "'\n'", "'", "\"", "'--'", "'/*'",
                    ]).prop_map(str::to_owned),
                    2 => prop::sample::select(vec!["1", "0", "12.5", "1.", ".5", "1e3", "0x1F", "1_000", "1L", "7a"]).prop_map(str::to_owned),
                    3 => prop::sample::select(vec![
                        "(", ")", ",", ";", ".", "=", "<", ">", "<=", ">=", "<>", "!=", "||", "::", "+", "-", "*", "/", "--", "/*",
                        "*/", "//", "%", ":", ":=", "=>", "->", "!", "|", "&", "#", "@", "$", "?", "[", "]", "{", "~", "^", "`",
                    ]).prop_map(str::to_owned),
                ],
                0..12,
            )
        ) {
            let (differing, _) = differ(&pieces.concat());
            prop_assert!(differing.is_empty(), "{}", differing.join("\n"));
        }
    }
}
