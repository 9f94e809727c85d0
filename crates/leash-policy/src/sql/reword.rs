//! SQL in other words: token lists in which what a dialect knows and its parser does not is written as what it knows.

use sqlparser::dialect::{Dialect, MsSqlDialect};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::names;

/// The tokens with what the parser does not know written as what it knows: `TABLE t` is `SELECT * FROM t`, the argument of a
/// pragma is a string, and hints to SQL Server (`OPTION (MAXDOP 1)`) are nothing.
pub(super) fn smooth(dialect: &dyn Dialect, tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let is = |token: Option<&TokenWithSpan>, name: &str| matches!(token.map(|token| &token.token), Some(Token::Word(word)) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(name));
    let mssql = dialect.is::<MsSqlDialect>();
    let concerned = |token: &TokenWithSpan| matches!(&token.token, Token::Word(word) if matches!(word.keyword, Keyword::TABLE | Keyword::PRAGMA | Keyword::OPTION | Keyword::SHOW) || mssql && word.value.eq_ignore_ascii_case("go"));
    if !tokens.iter().any(concerned) {
        return tokens;
    }
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len().saturating_add(8));
    let (mut starts, mut pragma) = (true, false);
    let mut i = 0_usize;
    while let Some(token) = tokens.get(i) {
        let next = tokens.get(i.saturating_add(1));
        let is_word =
            |token: Option<&TokenWithSpan>| matches!(token.map(|token| &token.token), Some(Token::Word(_)));
        let opens = starts || matches!(out.last().map(|token| &token.token), Some(Token::LParen));
        if opens && is(Some(token), "table") && is_word(next) {
            for new in [
                Token::make_keyword("SELECT"),
                Token::Mul,
                Token::make_keyword("FROM"),
            ] {
                out.push(TokenWithSpan {
                    token: new,
                    span: token.span,
                });
            }
        } else if pragma
            && let Token::Word(word) = &token.token
            && matches!(
                out.last().map(|token| &token.token),
                Some(Token::LParen | Token::Eq)
            )
        {
            let text = Token::SingleQuotedString(word.value.clone());
            out.push(TokenWithSpan {
                token: text,
                span: token.span,
            });
        } else if mssql
            && is(Some(token), "go")
            && out
                .last()
                .is_none_or(|before| before.span.end.line < token.span.start.line)
            && next.is_none_or(|next| token.span.end.line < next.span.start.line)
        {
            // The tools of SQL Server end a batch with a line of its own.
            out.push(TokenWithSpan {
                token: Token::SemiColon,
                span: token.span,
            });
            starts = true;
            i = i.saturating_add(1);
            continue;
        } else if starts
            && is(Some(token), "show")
            && let Some((filter, end)) = filter(tokens.get(i..).unwrap_or(&[]))
        {
            // What the filter of `SHOW` compares is dropped: the parser does not keep all of it.
            out.extend(tokens.iter().skip(i).take(filter).cloned());
            i = i.saturating_add(end);
            starts = false;
            continue;
        } else if mssql
            && is(Some(token), "option")
            && matches!(next.map(|token| &token.token), Some(Token::LParen))
            && let Some(len) = hints(tokens.get(i..).unwrap_or(&[]))
        {
            i = i.saturating_add(len);
            continue;
        } else {
            out.push(token.clone());
        }
        pragma = (pragma || starts && is(Some(token), "pragma")) && token.token != Token::SemiColon;
        starts = match token.token {
            Token::SemiColon => true,
            Token::LParen => starts,
            _ => false,
        };
        i = i.saturating_add(1);
    }
    out
}

/// The tokens with what a dialect knows and its parser does not written in other words, where there is anything of the
/// kind. What is replaced computes or advises, and nothing more. Only tried on what does not parse.
pub(super) fn plainer(dialect: &dyn Dialect, tokens: &[TokenWithSpan]) -> Option<Vec<TokenWithSpan>> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len().saturating_add(16));
    let mut changed = false;
    let mut i = 0_usize;
    if dialect.is::<MsSqlDialect>()
        && let Some(first) = tokens.first()
        && bare_word(Some(first)).is_some_and(|word| word.starts_with("sp_") || word.starts_with("xp_"))
    {
        // The first statement of a batch may be a procedure without `EXEC`.
        out.push(TokenWithSpan {
            token: Token::make_keyword("EXEC"),
            span: first.span,
        });
        changed = true;
    }
    while let Some(token) = tokens.get(i) {
        let rest = tokens.get(i..).unwrap_or(&[]);
        let before = out.last().map(|token| &token.token);
        if let Some((len, new)) = in_other_words(dialect, before, rest) {
            out.extend(new.into_iter().map(|new| TokenWithSpan {
                token: new,
                span: token.span,
            }));
            changed = true;
            i = i.saturating_add(len.max(1));
        } else {
            out.push(token.clone());
            i = i.saturating_add(1);
        }
    }
    if dialect.is::<MsSqlDialect>()
        && let Some(parted) = parted(&out)
    {
        return Some(parted);
    }
    changed.then_some(out)
}

/// The word, in lower case, if the token is one without quotes.
fn bare_word(token: Option<&TokenWithSpan>) -> Option<String> {
    match token.map(|token| &token.token) {
        Some(Token::Word(word)) if word.quote_style.is_none() => Some(word.value.to_ascii_lowercase()),
        _ => None,
    }
}

/// Words that an operand follows: `NOT NULL` behind one of them is `NULL`, denied.
const BEFORE_OPERANDS: &[&str] = &[
    "all", "and", "between", "by", "case", "distinct", "else", "escape", "glob", "having", "in", "is",
    "like", "limit", "match", "not", "offset", "on", "or", "regexp", "select", "set", "then", "values",
    "when", "where",
];

/// What the start of `tokens` is in other words, and how many of them that replaces.
#[expect(clippy::too_many_lines, reason = "a table of words")]
fn in_other_words(
    dialect: &dyn Dialect,
    before: Option<&Token>,
    tokens: &[TokenWithSpan],
) -> Option<(usize, Vec<Token>)> {
    let at = |index: usize| tokens.get(index);
    let word = |index: usize| bare_word(at(index));
    let is_word = |index: usize| matches!(at(index).map(|token| &token.token), Some(Token::Word(_)));
    let key = Token::make_keyword;
    let starts = matches!(before, None | Some(Token::SemiColon));
    let is_operand = match before {
        Some(Token::Word(word)) => {
            word.quote_style.is_some() || !BEFORE_OPERANDS.contains(&word.value.to_ascii_lowercase().as_str())
        }
        Some(
            Token::RParen
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::Placeholder(_)
            | Token::HexStringLiteral(_),
        ) => true,
        _ => false,
    };
    match &at(0)?.token {
        Token::ShiftLeft | Token::ShiftRight => return Some((1, vec![Token::Plus])),
        Token::Overlap => return Some((1, vec![key("AND")])),
        Token::Assignment => return Some((1, vec![Token::Eq])),
        Token::ExclamationMark if at(1).is_some_and(|next| next.token == Token::Gt) => {
            return Some((2, vec![Token::LtEq]));
        }
        Token::ExclamationMark if at(1).is_some_and(|next| next.token == Token::Lt) => {
            return Some((2, vec![Token::GtEq]));
        }
        Token::ExclamationMark => return Some((1, vec![key("NOT")])),
        // Macros of Grafana: `$__timeFilter(created_at)`.
        Token::Placeholder(name)
            if name.starts_with("$__") && at(1).is_some_and(|next| next.token == Token::LParen) =>
        {
            return Some((1, vec![Token::make_word("grafana", None)]));
        }
        // `\G` ends a statement for the client of MySQL, and `\N` is its `NULL`.
        Token::Backslash => {
            return match &at(1)?.token {
                Token::Word(word) if word.value.eq_ignore_ascii_case("g") => {
                    Some((2, vec![Token::SemiColon]))
                }
                Token::Word(word) if word.value == "N" => Some((2, vec![key("NULL")])),
                _ => None,
            };
        }
        // `(row).*` is the row.
        Token::Period
            if matches!(before, Some(Token::RParen))
                && at(1).is_some_and(|next| next.token == Token::Mul) =>
        {
            return Some((2, Vec::new()));
        }
        Token::Period if starts => return of_the_shell(tokens),
        // Assignments that compute: `SET a += 1`.
        Token::Plus | Token::Minus | Token::Mul | Token::Div | Token::Mod
            if is_operand
                && at(1).is_some_and(|next| {
                    next.token == Token::Eq && Some(next.span.start) == at(0).map(|token| token.span.end)
                }) =>
        {
            return Some((2, vec![Token::Eq]));
        }
        // One of an array: `SET a[1] = 2`.
        Token::LBracket
            if is_operand
                && matches!(at(1).map(|next| &next.token), Some(Token::Number(..)))
                && at(2).is_some_and(|close| close.token == Token::RBracket)
                && at(3).is_some_and(|equal| equal.token == Token::Eq) =>
        {
            return Some((3, Vec::new()));
        }
        // Methods of types: `geography::Point(1, 2, 4326)`.
        Token::DoubleColon
            if dialect.is::<MsSqlDialect>()
                && is_word(1)
                && at(2).is_some_and(|open| open.token == Token::LParen) =>
        {
            return Some((1, vec![Token::Period]));
        }
        // A string behind the name of its type: `inet '10.0.0.1'`.
        Token::Word(name)
            if name.quote_style.is_none()
                && name.keyword == Keyword::NoKeyword
                && !is_operand
                && !starts
                && matches!(at(1).map(|next| &next.token), Some(Token::SingleQuotedString(_))) =>
        {
            return Some((1, Vec::new()));
        }
        // The last of the modes of a transaction.
        Token::Comma
            if bare(before).is_some_and(|word| {
                matches!(
                    word.as_str(),
                    "only" | "write" | "serializable" | "committed" | "uncommitted" | "read"
                )
            }) =>
        {
            return match (word(1).as_deref(), word(2).as_deref()) {
                (Some("deferrable"), _) => Some((2, Vec::new())),
                (Some("not"), Some("deferrable")) => Some((3, Vec::new())),
                _ => None,
            };
        }
        // The bound of a window: `'1 day'::interval PRECEDING`.
        Token::SingleQuotedString(_)
            if at(1).is_some_and(|next| next.token == Token::DoubleColon)
                && matches!(word(3).as_deref(), Some("preceding" | "following")) =>
        {
            return Some((3, vec![tokens.first()?.token.clone()]));
        }
        _ => {}
    }
    if let Some(found) = unit(before, word(0).as_deref()?) {
        return Some((1, vec![found]));
    }
    let (second, third) = (word(1), word(2));
    let (second, third) = (second.as_deref(), third.as_deref());
    if is_operand && let Some(len) = of_json(tokens) {
        return Some((len, Vec::new()));
    }
    match (word(0)?.as_str(), second, third) {
        ("isnull", ..) if is_operand && at(1).is_none_or(|next| next.token != Token::LParen) => {
            Some((1, vec![key("IS"), key("NULL")]))
        }
        // How text is compared says nothing of what is done with it.
        ("collate", ..) if is_operand && is_word(1) => {
            let mut len = 2_usize;
            while at(len).is_some_and(|dot| dot.token == Token::Period) && is_word(len.saturating_add(1)) {
                len = len.saturating_add(2);
            }
            Some((len, Vec::new()))
        }
        ("both" | "leading" | "trailing", Some("from"), _) if matches!(before, Some(Token::LParen)) => {
            Some((2, Vec::new()))
        }
        ("xmlserialize", _, Some("content" | "document"))
            if at(1).is_some_and(|open| open.token == Token::LParen) =>
        {
            Some((3, vec![key("CAST"), Token::LParen]))
        }
        ("interval", ..)
            if at(1).is_some_and(|open| open.token == Token::LParen)
                && at(3).is_some_and(|comma| comma.token == Token::Comma) =>
        {
            Some((1, vec![Token::make_word("least", None)]))
        }
        ("using", ..)
            if matches!(
                at(1).map(|next| &next.token),
                Some(Token::SingleQuotedString(_) | Token::NationalStringLiteral(_))
            ) && at(2).is_some_and(|close| close.token == Token::RParen) =>
        {
            Some((2, Vec::new()))
        }
        ("set", Some("statistics"), _) if starts => {
            let len = (2..12).find(|index| matches!(word(*index).as_deref(), Some("on" | "off")))?;
            let plain = (2..len).all(|index| {
                matches!(word(index).as_deref(), Some("io" | "time" | "xml" | "profile"))
                    || at(index).is_some_and(|comma| comma.token == Token::Comma)
            });
            plain.then(|| (len, vec![key("SET"), Token::make_word("nocount", None)]))
        }
        ("order", Some("siblings"), Some("by")) => Some((3, vec![key("ORDER"), key("BY")])),
        ("update", Some("only"), _) if starts && is_word(2) => Some((2, vec![key("UPDATE")])),
        ("update", ..) if starts => of_many(tokens),
        ("current", Some("of"), Some(_)) => Some((
            3,
            vec![
                Token::make_word("cursor_row", None),
                Token::Eq,
                Token::Number("1".into(), false),
            ],
        )),
        ("delete", Some("from"), _) if starts && is_word(2) && dialect.is::<MsSqlDialect>() => {
            from_twice(tokens)
        }
        ("from", Some("only"), _) if is_word(2) => Some((2, vec![key("FROM")])),
        // How a cursor moves.
        ("cursor", ..) if is_operand => {
            let end = (1..8).find(|index| word(*index).as_deref() == Some("for"))?;
            let plain = (1..end).all(|index| {
                matches!(
                    word(index).as_deref(),
                    Some(
                        "local"
                            | "global"
                            | "forward_only"
                            | "scroll"
                            | "static"
                            | "keyset"
                            | "dynamic"
                            | "fast_forward"
                            | "read_only"
                            | "optimistic"
                            | "type_warning"
                    )
                )
            });
            (plain && end > 1).then(|| (end, vec![key("CURSOR")]))
        }
        ("merge", ..) if starts && dialect.is::<MsSqlDialect>() => {
            let with = (2..12).find(|index| word(*index).as_deref() == Some("with"))?;
            let end = tokens
                .iter()
                .take(24)
                .position(|token| token.token == Token::RParen)?;
            let hints = tokens.get(with.saturating_add(2)..end)?.iter().all(is_plain);
            (hints && at(with.saturating_add(1)).is_some_and(|open| open.token == Token::LParen)).then(|| {
                let target = tokens.iter().take(with).map(|token| token.token.clone());
                (end.saturating_add(1), target.collect())
            })
        }
        ("with", Some("xmlnamespaces"), _) => {
            let end = tokens
                .iter()
                .take(64)
                .position(|token| token.token == Token::RParen)?;
            let plain = tokens.get(3..end)?.iter().all(is_plain);
            let more = end.saturating_add(1);
            let listed = at(more).is_some_and(|comma| comma.token == Token::Comma);
            plain.then(|| {
                if listed {
                    (more.saturating_add(1), vec![key("WITH")])
                } else {
                    (more, Vec::new())
                }
            })
        }
        ("for", Some("system_time"), _) => of_time(tokens).map(|len| (len, Vec::new())),
        ("for", Some("xml" | "json"), _) => of_xml(tokens).map(|len| (len, Vec::new())),
        ("notnull", ..) if is_operand => Some((1, vec![key("IS"), key("NOT"), key("NULL")])),
        ("not", Some("null"), _) if is_operand => Some((2, vec![key("IS"), key("NOT"), key("NULL")])),
        (
            "is",
            Some("not"),
            Some("null" | "true" | "false" | "distinct" | "unknown" | "json" | "normalized"),
        )
        | ("is", Some("null" | "true" | "false" | "distinct" | "unknown" | "json" | "normalized"), _) => None,
        ("is", Some("not"), _) => Some((2, vec![Token::Neq])),
        ("is", ..) => Some((1, vec![Token::Eq])),
        ("indexed", Some("by"), _) if is_word(2) => Some((3, Vec::new())),
        ("not", Some("indexed"), _)
        | ("exclude", Some("ties" | "group"), _)
        | ("with", Some("cube" | "rollup"), _) => Some((2, Vec::new())),
        ("exclude", Some("current"), Some("row")) | ("exclude", Some("no"), Some("others")) => {
            Some((3, Vec::new()))
        }
        ("as", Some("materialized"), _) => Some((2, vec![key("AS")])),
        ("as", Some("not"), Some("materialized")) => Some((3, vec![key("AS")])),
        // The parser takes a list that starts with a query for that query.
        ("in", ..)
            if [1, 2]
                .iter()
                .all(|index| at(*index).is_some_and(|next| next.token == Token::LParen)) =>
        {
            Some((2, vec![key("IN"), Token::LParen, key("NULL"), Token::Comma]))
        }
        ("not", Some("glob" | "match" | "regexp"), _) => Some((2, vec![key("NOT"), key("LIKE")])),
        ("in", ..) if is_word(1) => {
            let mut len = 2_usize;
            while at(len).is_some_and(|dot| dot.token == Token::Period) && is_word(len.saturating_add(1)) {
                len = len.saturating_add(2);
            }
            if at(len).is_some_and(|next| next.token == Token::LParen) {
                return None;
            }
            let mut new = vec![key("IN"), Token::LParen, key("SELECT"), Token::Mul, key("FROM")];
            new.extend(tokens.get(1..len)?.iter().map(|token| token.token.clone()));
            new.push(Token::RParen);
            Some((len, new))
        }
        ("search", Some("depth" | "breadth"), Some("first")) | ("cycle", Some(_), _)
            if matches!(before, Some(Token::RParen)) =>
        {
            let set = (1..24).find(|index| word(*index).as_deref() == Some("set"))?;
            let mut len = set.saturating_add(2);
            if word(len).as_deref() == Some("using") {
                len = len.saturating_add(2);
            }
            Some((len, Vec::new()))
        }
        ("mod", ..) if is_operand && at(1).is_some_and(|next| next.token != Token::LParen) => {
            Some((1, vec![Token::Mod]))
        }
        ("with", Some("consistent"), Some("snapshot"))
            if at(3).is_some_and(|next| next.token == Token::Comma) =>
        {
            Some((4, Vec::new()))
        }
        ("with", Some("consistent"), Some("snapshot"))
        | ("asc" | "desc", Some("with"), Some("rollup"))
        | ("overriding", Some("system" | "user"), Some("value")) => Some((3, Vec::new())),
        ("delete", Some("top"), _) if at(2).is_some_and(|next| next.token == Token::LParen) => {
            let end = tokens
                .iter()
                .take(8)
                .position(|token| token.token == Token::RParen)?;
            let plain = tokens.get(3..end)?.iter().all(|token| {
                matches!(token.token, Token::Number(..))
                    || bare_word(Some(token)).is_some_and(|word| word.starts_with('@'))
            });
            plain.then(|| (end.saturating_add(1), vec![key("DELETE")]))
        }
        ("set", Some("character"), Some("set")) if starts => Some((3, vec![key("SET"), key("NAMES")])),
        ("set", Some("charset"), _) if starts => Some((2, vec![key("SET"), key("NAMES")])),
        ("explain", Some("for"), Some("connection"))
            if starts && matches!(at(3).map(|next| &next.token), Some(Token::Number(..))) =>
        {
            Some((4, vec![key("SHOW"), key("WARNINGS")]))
        }
        ("explain", Some("plan"), Some("for")) if starts => Some((3, vec![key("EXPLAIN")])),
        ("explain", Some("format"), _)
            if starts
                && at(2).is_some_and(|next| next.token == Token::Eq)
                && matches!(at(3).map(|next| &next.token), Some(Token::SingleQuotedString(_))) =>
        {
            Some((4, vec![key("EXPLAIN")]))
        }
        // Tables that are joined as one: `a LEFT JOIN (b, c) ON …`.
        ("join" | "from", ..) if at(1).is_some_and(|next| next.token == Token::LParen) => {
            let end = tokens
                .iter()
                .take(24)
                .position(|token| token.token == Token::RParen)?;
            let inside = tokens.get(2..end)?;
            let named = inside
                .iter()
                .all(|token| matches!(token.token, Token::Word(_) | Token::Period | Token::Comma));
            let starts = bare_word(inside.first()).is_some_and(|word| STATEMENTS.contains(&word.as_str()));
            (named && !starts && inside.iter().any(|token| token.token == Token::Comma)).then(|| {
                let mut new = vec![
                    tokens.first().map_or(Token::Comma, |token| token.token.clone()),
                    Token::LParen,
                ];
                for token in inside {
                    if token.token == Token::Comma {
                        new.extend([key("CROSS"), key("JOIN")]);
                    } else {
                        new.push(token.token.clone());
                    }
                }
                new.push(Token::RParen);
                (end.saturating_add(1), new)
            })
        }
        ("character", Some("set"), Some(_))
            if matches!(before, Some(Token::RParen)) || bare(before).as_deref() == Some("char") =>
        {
            Some((3, Vec::new()))
        }
        ("sounds", Some("like"), _) => Some((2, vec![key("LIKE")])),
        ("by", Some("distinct"), _) if bare(before).as_deref() == Some("group") => Some((2, vec![key("BY")])),
        ("at", Some("local"), _) => Some((
            2,
            ["AT", "TIME", "ZONE"]
                .into_iter()
                .map(key)
                .chain([Token::SingleQuotedString("local".into())])
                .collect(),
        )),
        ("from", Some("first" | "last"), Some("over" | "ignore" | "respect"))
            if matches!(before, Some(Token::RParen)) =>
        {
            Some((2, Vec::new()))
        }
        ("hash" | "merge" | "loop" | "remote", Some("join"), _)
            if bare(before).is_some_and(|word| {
                matches!(word.as_str(), "inner" | "left" | "right" | "full" | "outer")
            }) =>
        {
            Some((1, Vec::new()))
        }
        ("char", ..) if at(1).is_some_and(|next| next.token == Token::LParen) => {
            let using = (2..24).find(|index| word(*index).as_deref() == Some("using"))?;
            let end = using.saturating_add(2);
            at(end).filter(|next| next.token == Token::RParen)?;
            let mut new: Vec<Token> = tokens
                .get(..using)?
                .iter()
                .map(|token| token.token.clone())
                .collect();
            new.push(Token::RParen);
            Some((end.saturating_add(1), new))
        }
        ("using", Some("sample"), _) => {
            let counted = matches!(at(2).map(|next| &next.token), Some(Token::Number(..)));
            let unit = matches!(at(3).map(|next| &next.token), Some(Token::Mod))
                || matches!(word(3).as_deref(), Some("percent" | "rows"));
            counted.then(|| (if unit { 4 } else { 3 }, Vec::new()))
        }
        // A name for the columns that are joined by.
        ("using", ..) if at(1).is_some_and(|next| next.token == Token::LParen) => {
            let end = tokens
                .iter()
                .take(24)
                .position(|token| token.token == Token::RParen)?;
            let named = end.saturating_add(1);
            (word(named).as_deref() == Some("as") && is_word(end.saturating_add(2))).then(|| {
                let new = tokens
                    .iter()
                    .take(named)
                    .map(|token| token.token.clone())
                    .collect();
                (end.saturating_add(3), new)
            })
        }
        ("as", Some("of"), Some("system"))
            if word(3).as_deref() == Some("time")
                && matches!(at(4).map(|next| &next.token), Some(Token::SingleQuotedString(_))) =>
        {
            Some((5, Vec::new()))
        }
        ("deferrable", ..)
            if bare(before)
                .is_some_and(|word| matches!(word.as_str(), "only" | "write" | "serializable")) =>
        {
            Some((1, Vec::new()))
        }
        ("on", Some("overflow"), Some("truncate" | "error")) => {
            let text = matches!(at(3).map(|next| &next.token), Some(Token::SingleQuotedString(_)));
            let count = if text { 4 } else { 3 };
            let counts = matches!(word(count).as_deref(), Some("with" | "without"))
                && word(count.saturating_add(1)).as_deref() == Some("count");
            Some((if counts { count.saturating_add(2) } else { count }, Vec::new()))
        }
        ("explain", Some("extended" | "partitions"), _) if starts => Some((2, vec![key("EXPLAIN")])),
        ("parse" | "try_parse", ..) if at(1).is_some_and(|next| next.token == Token::LParen) => {
            Some((1, vec![key("TRY_CAST")]))
        }
        ("between", Some("symmetric" | "asymmetric"), _) => Some((2, vec![key("BETWEEN")])),
        ("asof", Some("join" | "left" | "inner" | "right"), _) => Some((1, Vec::new())),
        // The functions of a table are the columns of a query.
        ("rows", Some("from"), _)
            if matches!(before, Some(Token::Comma))
                || bare(before).is_some_and(|word| matches!(word.as_str(), "from" | "join" | "lateral")) =>
        {
            at(2)
                .is_some_and(|next| next.token == Token::LParen)
                .then(|| (3, vec![Token::LParen, key("SELECT")]))
        }
        ("with", Some("ordinality"), _) if matches!(before, Some(Token::RParen)) => Some((2, Vec::new())),
        (
            "xmlelement" | "xmlpi" | "xmlparse" | "xmlserialize" | "xmlforest" | "xmlexists" | "xmlconcat",
            ..,
        ) if at(1).is_some_and(|next| next.token == Token::LParen)
            && matches!(third, Some("name" | "document" | "content")) =>
        {
            Some((3, vec![tokens.first()?.token.clone(), Token::LParen]))
        }
        ("fetch", Some("next" | "first"), Some(count)) if count.starts_with('@') => Some((
            3,
            vec![key("FETCH"), key("NEXT"), Token::Number("1".into(), false)],
        )),
        ("help", ..)
            if starts && matches!(at(1).map(|next| &next.token), Some(Token::SingleQuotedString(_))) =>
        {
            Some((2, vec![key("SHOW"), key("WARNINGS")]))
        }
        ("checksum", Some("table"), _) if starts => Some((2, vec![key("SELECT"), Token::Mul, key("FROM")])),
        ("summarize", Some("select" | "with" | "from"), _) if starts => Some((1, Vec::new())),
        ("summarize", ..) if starts => Some((1, vec![key("SELECT"), Token::Mul, key("FROM")])),
        ("desc" | "describe", ..) if starts => described(tokens),
        ("show", ..) if starts => shown(dialect, tokens),
        _ => None,
    }
}

/// How many tokens a clause of the functions for JSON takes that says how an answer is written: `ABSENT ON NULL`, `WITH
/// WRAPPER`, `RETURNING int`, `DEFAULT 0 ON ERROR`.
fn of_json(tokens: &[TokenWithSpan]) -> Option<usize> {
    let word = |index: usize| bare_word(tokens.get(index)).unwrap_or_default();
    let is_one = |index: usize, words: &[&str]| words.contains(&word(index).as_str());
    let ends =
        |index: usize| is_one(index, &["on"]) && is_one(index.saturating_add(1), &["empty", "error", "null"]);
    match word(0).as_str() {
        "absent" | "null" | "error" | "true" | "false" | "unknown" | "empty" if ends(1) => Some(3),
        "empty" if is_one(1, &["array", "object"]) && ends(2) => Some(4),
        "default" => {
            let signed = tokens.get(1).is_some_and(|sign| sign.token == Token::Minus);
            let value = if signed { 2 } else { 1 };
            let plain = matches!(
                tokens.get(value).map(|token| &token.token),
                Some(Token::Number(..) | Token::SingleQuotedString(_))
            ) || is_one(value, &["null", "true", "false"]);
            let end = value.saturating_add(1);
            (plain && ends(end)).then(|| end.saturating_add(2))
        }
        "with" | "without" => {
            let wraps = (1..4).find(|index| is_one(*index, &["wrapper"]))?;
            let plain = (1..wraps).all(|index| is_one(index, &["array", "conditional", "unconditional"]));
            plain.then(|| wraps.saturating_add(1))
        }
        "keep" | "omit" if is_one(1, &["quotes"]) => {
            let scalar = is_one(2, &["on"]) && is_one(3, &["scalar"]) && is_one(4, &["string"]);
            Some(if scalar { 5 } else { 2 })
        }
        "format" if is_one(1, &["json"]) => Some(2),
        "returning" => {
            let mut end = 2_usize;
            if tokens.get(end).is_some_and(|open| open.token == Token::LParen) {
                let sizes = tokens.get(end..)?.iter().take(6);
                end = end.saturating_add(
                    sizes
                        .take_while(|token| token.token != Token::RParen)
                        .count()
                        .saturating_add(1),
                );
            }
            if is_one(end, &["format"]) {
                end = end.saturating_add(2);
            }
            let behind = tokens.get(end).is_some_and(|close| close.token == Token::RParen)
                || is_one(
                    end,
                    &[
                        "default", "null", "error", "empty", "with", "without", "keep", "omit",
                    ],
                );
            let typed = !word(1).is_empty() && !STATEMENTS.contains(&word(1).as_str());
            (behind && typed).then_some(end)
        }
        _ => None,
    }
}

/// How many tokens say of which time the rows of a table are asked for: `FOR SYSTEM_TIME AS OF '2024-01-01'`.
fn of_time(tokens: &[TokenWithSpan]) -> Option<usize> {
    let word = |index: usize| bare_word(tokens.get(index)).unwrap_or_default();
    // A moment: how many tokens it has.
    let moment = |index: usize| {
        let typed = usize::from(matches!(word(index).as_str(), "timestamp" | "date"));
        let plain = match &tokens.get(index.saturating_add(typed))?.token {
            Token::SingleQuotedString(_)
            | Token::NationalStringLiteral(_)
            | Token::Placeholder(_)
            | Token::Number(..) => true,
            Token::Word(word) => word.value.starts_with('@') && word.quote_style.is_none(),
            _ => false,
        };
        plain.then(|| typed.saturating_add(1))
    };
    match (word(2).as_str(), word(3).as_str()) {
        ("all", _) => Some(3),
        ("as", "of") => Some(moment(4)?.saturating_add(4)),
        ("between" | "from", _) => {
            let then = moment(3)?.saturating_add(3);
            let joined = matches!(word(then).as_str(), "and" | "to");
            let next = then.saturating_add(1);
            joined.then_some(next.saturating_add(moment(next)?))
        }
        ("contained", "in") => {
            let then = moment(5)?.saturating_add(5);
            let next = then.saturating_add(1);
            Some(next.saturating_add(moment(next)?).saturating_add(1))
        }
        _ => None,
    }
}

/// How many tokens `FOR XML` or `FOR JSON` takes with its words, up to the end of the query.
fn of_xml(tokens: &[TokenWithSpan]) -> Option<usize> {
    const WORDS: &[&str] = &[
        "path",
        "auto",
        "raw",
        "explicit",
        "root",
        "type",
        "elements",
        "xsinil",
        "absent",
        "binary",
        "base64",
        "xmldata",
        "xmlschema",
        "include_null_values",
        "without_array_wrapper",
    ];
    let (mut depth, mut len) = (0_usize, 2_usize);
    while let Some(token) = tokens.get(len) {
        match &token.token {
            Token::LParen => depth = depth.saturating_add(1),
            Token::RParen if depth == 0 => break,
            Token::RParen => depth = depth.saturating_sub(1),
            Token::Comma | Token::SingleQuotedString(_) | Token::NationalStringLiteral(_) => {}
            Token::SemiColon => break,
            Token::Word(_) if bare_word(Some(token)).as_deref() == Some("option") => break,
            Token::Word(_) if WORDS.contains(&bare_word(Some(token))?.as_str()) => {}
            _ => return None,
        }
        len = len.saturating_add(1);
    }
    (depth == 0 && len > 2).then_some(len)
}

/// `UPDATE a, b SET` as `UPDATE a CROSS JOIN b SET`, without words of how it is done.
fn of_many(tokens: &[TokenWithSpan]) -> Option<(usize, Vec<Token>)> {
    let set = tokens
        .iter()
        .take(48)
        .position(|token| bare_word(Some(token)).as_deref() == Some("set"))?;
    let mut new = Vec::new();
    let mut changed = false;
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().take(set).enumerate() {
        match &token.token {
            Token::LParen => depth = depth.saturating_add(1),
            Token::RParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        let how = matches!(bare_word(Some(token)).as_deref(), Some("low_priority" | "ignore"));
        if token.token == Token::Comma && depth == 0 {
            new.extend([Token::make_keyword("CROSS"), Token::make_keyword("JOIN")]);
            changed = true;
        } else if how && index > 0 && index < 3 {
            changed = true;
        } else {
            new.push(token.token.clone());
        }
    }
    changed.then_some((set, new))
}

/// `DELETE FROM t OUTPUT deleted.id FROM tables …` as `DELETE FROM t …`, whose tables are named only where they are joined.
fn from_twice(tokens: &[TokenWithSpan]) -> Option<(usize, Vec<Token>)> {
    let second = (3..40).find(|index| bare_word(tokens.get(*index)).as_deref() == Some("from"))?;
    let output = (3..second).find(|index| bare_word(tokens.get(*index)).as_deref() == Some("output"));
    let named = tokens.get(2..output.unwrap_or(second))?;
    let plain = tokens.get(2..second)?.iter().all(|token| {
        is_plain(token) || token.token == Token::Mul || bare_word(Some(token)).as_deref() == Some("into")
    });
    plain.then(|| {
        let mut new = vec![Token::make_keyword("DELETE")];
        new.extend(named.iter().map(|token| token.token.clone()));
        (second, new)
    })
}

/// A line of the shell of `SQLite` that only tells, or says how the shell shows what it is told.
fn of_the_shell(tokens: &[TokenWithSpan]) -> Option<(usize, Vec<Token>)> {
    const TELLING: &[&str] = &[
        "tables",
        "schema",
        "fullschema",
        "indexes",
        "indices",
        "databases",
        "headers",
        "header",
        "mode",
        "help",
        "show",
        "width",
        "nullvalue",
        "changes",
        "echo",
        "timer",
        "eqp",
        "stats",
        "dbinfo",
        "version",
    ];
    let command = bare_word(tokens.get(1))?;
    let line = tokens.first()?.span.start.line;
    let len = tokens
        .iter()
        .take_while(|token| token.span.start.line == line)
        .count();
    let plain = tokens.get(2..len)?.iter().all(is_plain);
    (TELLING.contains(&command.as_str()) && plain).then(|| {
        let tell = ["SHOW", "WARNINGS"].into_iter().map(Token::make_keyword);
        (len, tell.chain([Token::SemiColon]).collect())
    })
}

/// The word, in lower case, if the token is one without quotes.
fn bare(token: Option<&Token>) -> Option<String> {
    match token {
        Some(Token::Word(word)) if word.quote_style.is_none() => Some(word.value.to_ascii_lowercase()),
        _ => None,
    }
}

/// Units of time that only some dialects know: `EXTRACT(YEAR_MONTH FROM d)`, `INTERVAL '1:30' MINUTE_SECOND`.
fn unit(before: Option<&Token>, word: &str) -> Option<Token> {
    let (first, second) = word.split_once('_')?;
    let known =
        |unit: &str| ["year", "month", "day", "hour", "minute", "second", "microsecond"].contains(&unit);
    let stands = matches!(
        before,
        Some(Token::LParen | Token::SingleQuotedString(_) | Token::Number(..))
    );
    (stands && known(first) && known(second)).then(|| Token::make_keyword("SECOND"))
}

/// `DESC t column` and `DESCRIBE EXTENDED t` are `DESC t`.
fn described(tokens: &[TokenWithSpan]) -> Option<(usize, Vec<Token>)> {
    let end = tokens
        .iter()
        .position(|token| token.token == Token::SemiColon)
        .unwrap_or(tokens.len());
    let first = bare_word(tokens.get(1)).unwrap_or_default();
    let kinds = [
        "extended",
        "formatted",
        "table",
        "view",
        "history",
        "detail",
        "database",
        "schema",
        "function",
        "catalog",
    ];
    let second = bare_word(tokens.get(2)).unwrap_or_default();
    let skip = if kinds.contains(&first.as_str()) && end > 2 {
        if kinds.contains(&second.as_str()) && end > 3 {
            3
        } else {
            2
        }
    } else {
        1
    };
    let rest = tokens.get(skip..end)?;
    let dots = rest
        .iter()
        .skip(1)
        .step_by(2)
        .take_while(|token| token.token == Token::Period)
        .count();
    let name = rest.get(..dots.saturating_mul(2).saturating_add(1))?;
    let named = name
        .iter()
        .step_by(2)
        .all(|token| matches!(&token.token, Token::Word(word) if word.quote_style.is_some() || !STATEMENTS.contains(&word.value.to_ascii_lowercase().as_str())));
    // Behind it may be a column, or the values of a partition.
    let asks = rest
        .get(name.len()..)?
        .iter()
        .all(|token| is_plain(token) || matches!(token.token, Token::LParen | Token::RParen));
    let calls = rest
        .get(name.len()..)?
        .iter()
        .any(|token| token.token == Token::LParen)
        && bare_word(rest.get(name.len())).as_deref() != Some("partition");
    (named && asks && !calls).then(|| {
        let mut new = vec![Token::make_keyword("DESC")];
        new.extend(name.iter().map(|token| token.token.clone()));
        (end, new)
    })
}

/// Where the filter of the `SHOW` at the start of `tokens` begins, and where it ends, if it calls nothing.
fn filter(tokens: &[TokenWithSpan]) -> Option<(usize, usize)> {
    let end = tokens
        .iter()
        .position(|token| token.token == Token::SemiColon)
        .unwrap_or(tokens.len());
    let filter = tokens
        .iter()
        .take(end)
        .position(|token| bare_word(Some(token)).as_deref() == Some("where"))?;
    let plain = filter > 1 && are_plain(tokens.get(filter..end)?);
    plain.then_some((filter, end))
}

/// Words that statements start with which change something: they are none of the words of what only tells.
pub(super) const STATEMENTS: &[&str] = &[
    "select", "with", "insert", "update", "delete", "merge", "replace", "drop", "alter", "create",
    "truncate", "rename", "grant", "revoke", "exec", "execute", "call", "do", "copy", "load", "attach",
    "set", "lock", "kill", "prepare", "shutdown", "into", "outfile", "dumpfile", "waitfor", "backup",
    "restore", "begin", "if", "while",
];

/// Whether the tokens call nothing and start nothing, but for asking who and where one is.
fn are_plain(mut tokens: &[TokenWithSpan]) -> bool {
    const TELLING: &[&str] = &[
        "database",
        "schema",
        "current_user",
        "user",
        "session_user",
        "current_role",
    ];
    let is = |token: &TokenWithSpan, wanted: &Token| token.token == *wanted;
    let (mut inside, mut listed) = (false, false);
    while let [token, rest @ ..] = tokens {
        let word = bare_word(Some(token)).unwrap_or_default();
        match rest {
            [open, close, after @ ..]
                if is(open, &Token::LParen)
                    && is(close, &Token::RParen)
                    && TELLING.contains(&word.as_str()) =>
            {
                tokens = after;
                continue;
            }
            _ => {}
        }
        if is(token, &Token::LParen) && listed && !inside {
            inside = true;
        } else if is(token, &Token::RParen) && inside {
            inside = false;
        } else if !is_plain(token) {
            return false;
        }
        listed = word == "in";
        tokens = rest;
    }
    !inside
}

/// Whether the token calls nothing and starts nothing.
fn is_plain(token: &TokenWithSpan) -> bool {
    match &token.token {
        Token::Word(word) => {
            word.quote_style.is_some() || !STATEMENTS.contains(&word.value.to_ascii_lowercase().as_str())
        }
        Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::Number(..)
        | Token::Eq
        | Token::Neq
        | Token::Lt
        | Token::Gt
        | Token::LtEq
        | Token::GtEq
        | Token::Period
        | Token::Comma
        | Token::Placeholder(_)
        | Token::AtSign => true,
        _ => false,
    }
}

/// What `SHOW` names and filters by: it only tells, whatever it is asked for, as long as nothing is called.
fn shown(dialect: &dyn Dialect, tokens: &[TokenWithSpan]) -> Option<(usize, Vec<Token>)> {
    let end = tokens
        .iter()
        .position(|token| token.token == Token::SemiColon)
        .unwrap_or(tokens.len());
    // `SHOW CREATE …` may be asked of what is not made here.
    let created = bare_word(tokens.get(1)).as_deref() == Some("create");
    let rest = tokens.get(if created { 2 } else { 1 }..end)?;
    let plain = !rest.is_empty() && are_plain(rest) && !dialect.is::<MsSqlDialect>();
    plain.then(|| {
        (
            end,
            vec![Token::make_keyword("SHOW"), Token::make_keyword("WARNINGS")],
        )
    })
}

/// Transact-SQL needs no semicolons between statements. The tokens with some where a line of it would have them.
fn parted(tokens: &[TokenWithSpan]) -> Option<Vec<TokenWithSpan>> {
    const INSIDE: &[&str] = &[
        "union",
        "all",
        "except",
        "intersect",
        "as",
        "begin",
        "else",
        "then",
        "for",
        "explain",
        "on",
        "after",
        "of",
        "or",
        "not",
        "from",
        "into",
        "in",
        "exists",
        "any",
        "some",
        "grant",
        "deny",
        "revoke",
        "instead",
    ];
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len().saturating_add(16));
    let mut first = String::new();
    let (mut depth, mut changed) = (0_usize, false);
    for token in tokens {
        match &token.token {
            Token::LParen => depth = depth.saturating_add(1),
            Token::RParen => depth = depth.saturating_sub(1),
            Token::SemiColon => first.clear(),
            _ => {}
        }
        let before = out.last();
        let inside = match before.map(|before| &before.token) {
            None | Some(Token::SemiColon | Token::Comma | Token::Eq | Token::Period) => true,
            Some(Token::Word(word)) => {
                let switched = first == "set" && word.value.eq_ignore_ascii_case("on");
                word.quote_style.is_none()
                    && !switched
                    && INSIDE.contains(&word.value.to_ascii_lowercase().as_str())
            }
            _ => false,
        };
        let word = bare_word(Some(token)).unwrap_or_default();
        if depth == 0 && !inside {
            let belongs = match word.as_str() {
                "select" => matches!(
                    first.as_str(),
                    "insert" | "with" | "if" | "while" | "create" | "alter" | "explain" | "merge"
                ),
                "set" => matches!(
                    first.as_str(),
                    "update" | "merge" | "alter" | "insert" | "if" | "while" | "with" | "create"
                ),
                "declare" | "print" | "commit" | "rollback" | "begin" => {
                    matches!(first.as_str(), "if" | "while" | "create" | "alter")
                }
                "exec" | "execute" => {
                    matches!(
                        first.as_str(),
                        "insert" | "if" | "while" | "create" | "alter" | "with"
                    )
                }
                "if" => matches!(
                    first.as_str(),
                    "if" | "while" | "create" | "alter" | "drop" | "truncate"
                ),
                "insert" | "update" | "delete" => matches!(
                    first.as_str(),
                    "with" | "if" | "while" | "create" | "alter" | "merge" | "grant" | "deny" | "revoke"
                ),
                _ => true,
            };
            if !belongs {
                out.push(TokenWithSpan {
                    token: Token::SemiColon,
                    span: token.span,
                });
                first.clear();
                changed = true;
            } else if word == "select" && first == "with" {
                "select".clone_into(&mut first);
            }
        }
        if first.is_empty() && token.token != Token::SemiColon {
            first = word;
        }
        out.push(token.clone());
    }
    changed.then_some(out)
}

/// How many tokens the hints at the start of `tokens` take, if words, numbers and names of hints are all they are.
fn hints(tokens: &[TokenWithSpan]) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(1).take(64) {
        match &token.token {
            Token::LParen => depth = depth.saturating_add(1),
            Token::RParen => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(index.saturating_add(1));
                }
            }
            Token::Word(_) => {
                let word = bare_word(Some(token)).unwrap_or_default();
                if STATEMENTS.contains(&word.as_str()) || names::LOCKING_HINTS.contains(&word.as_str()) {
                    return None;
                }
                let called = tokens
                    .get(index.saturating_add(1))
                    .is_some_and(|next| next.token == Token::LParen);
                if called && !matches!(word.as_str(), "hint" | "for" | "index" | "forceseek") {
                    return None;
                }
            }
            Token::Number(..)
            | Token::Comma
            | Token::Eq
            | Token::SingleQuotedString(_)
            | Token::NationalStringLiteral(_) => {}
            _ => return None,
        }
    }
    None
}
