//! The tokens of a statement, and the limits that they must keep to before a parser is let at them.

use std::cell::Cell;

use sqlparser::dialect::{Dialect, GenericDialect, MsSqlDialect, MySqlDialect, SQLiteDialect};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::lexer;

/// Longest statement text that is looked at, in bytes.
pub(super) const MAX_BYTES: usize = 64 * 1024;
/// Most tokens, without white space and comments.
pub(super) const MAX_TOKENS: usize = 10_000;
/// Most tokens between two commas, counted through the parentheses around them. A chain of operators becomes a tree
/// that deep, and a tree too deep overflows the stack when it is dropped.
const MAX_CHAIN: usize = 1_500;
/// Most set operations (`UNION` and its like): the parser takes quadratic time over them.
const MAX_SET_OPERATIONS: usize = 100;
/// Deepest parentheses. The parser looks ahead at each, which costs time that is exponential in the depth.
const MAX_PARENS: usize = 40;

/// Most tokens for which a thread keeps room, of some hundred bytes each.
const MAX_KEPT: usize = 2_000;

/// Why a text is not given to the parser, or what the tokenizer could not read. Quotes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Past a limit.
    Limit(&'static str),
    /// No tokens: where they end, line and column from 1.
    Unreadable(u64, u64),
}

thread_local! {
    /// Room for tokens, empty while nobody parses: a large allocation each time costs more than what is put into it.
    static BUFFER: Cell<Vec<TokenWithSpan>> = const { Cell::new(Vec::new()) };
}

/// Keeps the room of tokens that were parsed for the next text, if it is not too much; the tokens themselves are forgotten.
pub(super) fn give_back(mut tokens: Vec<TokenWithSpan>) {
    tokens.clear();
    if tokens.capacity() <= MAX_KEPT {
        BUFFER.set(tokens);
    }
}

/// The tokens of `text`, within limits.
pub(super) fn tokens(dialect: &dyn Dialect, text: &str) -> Result<Vec<TokenWithSpan>, Refused> {
    if text.len() > MAX_BYTES {
        return Err(Refused::Limit("the statement is longer than 64 KiB"));
    }
    let mut tokens = BUFFER.take();
    // Words and the space between them are about as long as this, and growing moves all of them.
    tokens.reserve((text.len() / 4).saturating_add(16));
    if lexer::tokens(dialect, text, &mut tokens).is_some() {
        check(&tokens)?;
        return Ok(tokens);
    }
    tokens.clear();
    Tokenizer::new(dialect, text)
        .tokenize_with_location_into_buf(&mut tokens)
        .map_err(|error| Refused::Unreadable(error.location.line, error.location.column))?;
    // The parser skips them one by one, and again each time it looks ahead.
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_)));
    check(&tokens)?;
    if tokens.windows(3).any(is_escaped_name) {
        return Err(Refused::Limit("a name is written in escapes"));
    }
    if let Some(at) = misread(dialect, text, &tokens) {
        // The generic dialect is nobody's: what it misreads is left to the others. So are strings that a server does not know.
        let foreign = |token: &TokenWithSpan| {
            token.span.start == at && matches!(token.token, Token::DollarQuotedString(_))
        };
        return Err(if dialect.is::<GenericDialect>() || tokens.iter().any(foreign) {
            Refused::Unreadable(at.line, at.column)
        } else {
            Refused::Limit("a database would read its strings or comments in another way")
        });
    }
    Ok(tokens)
}

/// Where the tokens are others than a database would see, so that what is a string in one is a statement in the other.
///
/// The tokenizer knows no operator that ends where a comment starts, reads escapes in strings that have none, and takes any
/// sign behind an `@` or `#` into a word.
fn misread(dialect: &dyn Dialect, text: &str, tokens: &[TokenWithSpan]) -> Option<Location> {
    let mysql = dialect.is::<MySqlDialect>();
    let dollars = !(mysql || dialect.is::<MsSqlDialect>() || dialect.is::<SQLiteDialect>());
    let mut continues = false;
    for token in tokens {
        let mut escaped = false;
        let wrong = match &token.token {
            Token::HexStringLiteral(digits) => !digits
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit() || byte.is_ascii_whitespace() || byte == b'_'),
            Token::Word(word) if word.quote_style.is_none() => {
                word.value.starts_with(['@', '#', '%'])
                    && word
                        .value
                        .contains(['\'', '"', '`', '[', '/', '-', '*', ';', '(', ')'])
            }
            Token::EscapedStringLiteral(_) => {
                escaped = true;
                false
            }
            // A string that goes on in the next line has the escapes of its start.
            Token::SingleQuotedString(more) => {
                escaped = continues;
                continues && more.contains('\\')
            }
            Token::DollarQuotedString(_) => !dollars,
            Token::DoubleQuotedByteStringLiteral(text) => mysql && text.contains('\\'),
            _ => false,
        };
        if wrong {
            return Some(token.span.start);
        }
        continues = escaped;
    }
    let bytes = text.as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
    let blank_needed = dialect.requires_single_line_comment_whitespace();
    let mut near_operators = false;
    for start in memchr::memchr2_iter(b'-', b'/', bytes) {
        let next = at(start.saturating_add(1));
        let starts = if at(start) == b'-' {
            next == b'-'
        } else {
            next == b'*'
        };
        if !starts {
            continue;
        }
        let rest = text.get(start.saturating_add(2)..).unwrap_or_default();
        // Only what is white space for the server makes two signs a comment.
        if blank_needed && next == b'-' && rest.starts_with(|c: char| c.is_whitespace() && !c.is_ascii()) {
            return Some(Location::new(0, 0));
        }
        near_operators |= start > 0 && b"<>=~!@#%^&|`?+*/-:".contains(&at(start.saturating_sub(1)));
    }
    if near_operators {
        return tokens
            .iter()
            .find(|token| eats_comment(text, blank_needed, token))
            .map(|token| token.span.start);
    }
    None
}

/// Whether a comment starts inside of an operator, or at its last sign.
fn eats_comment(text: &str, blank_needed: bool, token: &TokenWithSpan) -> bool {
    let (start, end) = (token.span.start, token.span.end);
    let long = end.column.saturating_sub(start.column);
    if start.line != end.line || long > 8 {
        return false;
    }
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let Some(line) = text.split('\n').nth(count(start.line).saturating_sub(1)) else {
        return true;
    };
    let mut signs = line.chars().skip(count(start.column).saturating_sub(1));
    let Some(mut sign) = signs.next() else {
        return false;
    };
    if sign.is_alphanumeric() || matches!(sign, '\'' | '"' | '`' | '$' | '[' | '_') {
        return false;
    }
    for _ in 0..long {
        let Some(next) = signs.next() else { break };
        let blank = || signs.clone().next().is_none_or(char::is_whitespace);
        if sign == '/' && next == '*' || sign == '-' && next == '-' && (!blank_needed || blank()) {
            return true;
        }
        sign = next;
    }
    false
}

/// Whether parsing may need more of the stack than a caller is sure to have.
pub(super) fn is_deep(tokens: &[TokenWithSpan]) -> bool {
    let (mut depth, mut nesting, mut chain, mut signs) = (0_usize, 0_usize, 0_usize, 0_usize);
    tokens.iter().any(|token| {
        chain = chain.saturating_add(1);
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => depth = depth.saturating_add(1),
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            Token::Comma | Token::SemiColon => chain = 0,
            Token::Minus | Token::Plus | Token::Tilde | Token::Lt | Token::ExclamationMark => {
                signs = signs.saturating_add(1);
            }
            Token::Word(word) => {
                let nests = matches!(
                    word.keyword,
                    Keyword::CASE
                        | Keyword::NOT
                        | Keyword::EXPLAIN
                        | Keyword::BEGIN
                        | Keyword::IF
                        | Keyword::WHILE
                        | Keyword::INTERVAL
                        | Keyword::WITH
                        | Keyword::ARRAY
                        | Keyword::STRUCT
                );
                nesting = nesting.saturating_add(usize::from(nests));
            }
            _ => {}
        }
        depth > 5 || nesting > 8 || chain > 400 || signs > 40
    })
}

/// Whether this is `U&"…"`, a name that may have escapes in it, which the parser takes for three things.
fn is_escaped_name(tokens: &[TokenWithSpan]) -> bool {
    matches!(tokens, [letter, and, name]
        if and.token == Token::Ampersand
            && matches!(&letter.token, Token::Word(word) if word.value.eq_ignore_ascii_case("u"))
            && matches!(&name.token, Token::Word(word) if word.quote_style == Some('"'))
            && letter.span.end == and.span.start
            && and.span.end == name.span.start)
}

fn check(tokens: &[TokenWithSpan]) -> Result<(), Refused> {
    if tokens.len() > MAX_TOKENS {
        return Err(Refused::Limit("the statement has more than 10,000 tokens"));
    }
    // How many tokens there were since the last comma, at each level of parentheses, and all levels together.
    let mut levels = vec![0_usize];
    let mut chain = 0_usize;
    let mut set_operations = 0_usize;
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => levels.push(0),
            Token::RParen | Token::RBracket | Token::RBrace => {
                if levels.len() > 1 {
                    chain = chain.saturating_sub(levels.pop().unwrap_or(0));
                }
            }
            Token::Comma | Token::SemiColon => {
                if let Some(level) = levels.last_mut() {
                    chain = chain.saturating_sub(*level);
                    *level = 0;
                }
            }
            other => {
                if let Token::Word(word) = other
                    && matches!(
                        word.keyword,
                        Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::MINUS
                    )
                {
                    set_operations = set_operations.saturating_add(1);
                }
                if let Some(level) = levels.last_mut() {
                    *level = level.saturating_add(1);
                    chain = chain.saturating_add(1);
                }
            }
        }
        if levels.len() > MAX_PARENS {
            return Err(Refused::Limit("the statement is nested too deeply"));
        }
        if chain > MAX_CHAIN {
            return Err(Refused::Limit("the statement has an expression that is too long"));
        }
        if set_operations > MAX_SET_OPERATIONS {
            return Err(Refused::Limit("the statement has too many set operations"));
        }
    }
    Ok(())
}
