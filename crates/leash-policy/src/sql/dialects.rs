//! The dialects of the parser, quicker. Knows no rule.
//!
//! In front of every operand the parser tries whether a type stands there (`DATE '2024-01-01'`), and writes an error message
//! when none does. That is most of what parsing costs. Here the operands that cannot be one are read at once: names, numbers,
//! strings and calls of functions. So are lists behind `IN`, at which the parser tries a query first.

use std::any::TypeId;
use std::iter::Peekable;
use std::str::Chars;

use sqlparser::ast::{ColumnOption, Expr, GranteesType, Ident, ObjectName, ObjectNamePart, Statement, Value};
use sqlparser::dialect::{Dialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

/// A dialect that reads the plainest operands itself, and is the one inside for everything else.
///
/// What is not handed on here falls back to what the trait says of a dialect that nobody described: a new version of the
/// parser has to be compared with this list.
#[derive(Debug)]
pub(super) struct Quick<D>(pub(super) D);

macro_rules! hand_on {
    ($($name:ident),* $(,)?) => {
        $(fn $name(&self) -> bool {
            self.0.$name()
        })*
    };
}

impl<D: Dialect> Dialect for Quick<D> {
    fn dialect(&self) -> TypeId {
        self.0.dialect()
    }

    fn parse_prefix(&self, parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        self.0.parse_prefix(parser).or_else(|| operand(parser))
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        self.0.is_delimited_identifier_start(ch)
    }

    fn is_nested_delimited_identifier_start(&self, ch: char) -> bool {
        self.0.is_nested_delimited_identifier_start(ch)
    }

    fn peek_nested_delimited_identifier_quotes(
        &self,
        chars: Peekable<Chars<'_>>,
    ) -> Option<(char, Option<char>)> {
        self.0.peek_nested_delimited_identifier_quotes(chars)
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        self.0.identifier_quote_style(identifier)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        self.0.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        self.0.is_identifier_part(ch)
    }

    fn is_custom_operator_part(&self, ch: char) -> bool {
        self.0.is_custom_operator_part(ch)
    }

    fn parse_infix(
        &self,
        parser: &mut Parser<'_>,
        expr: &Expr,
        precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
        self.0
            .parse_infix(parser, expr, precedence)
            .or_else(|| list(parser, expr))
    }

    fn get_next_precedence(&self, parser: &Parser<'_>) -> Option<Result<u8, ParserError>> {
        self.0.get_next_precedence(parser)
    }

    fn get_next_precedence_default(&self, parser: &Parser<'_>) -> Result<u8, ParserError> {
        self.0.get_next_precedence_default(parser)
    }

    fn parse_statement(&self, parser: &mut Parser<'_>) -> Option<Result<Statement, ParserError>> {
        self.0.parse_statement(parser)
    }

    fn parse_column_option(
        &self,
        parser: &mut Parser<'_>,
    ) -> Result<Option<Result<Option<ColumnOption>, ParserError>>, ParserError> {
        self.0.parse_column_option(parser)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        self.0.prec_value(precedence)
    }

    fn prec_unknown(&self) -> u8 {
        self.0.prec_unknown()
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        self.0.is_reserved_for_identifier(keyword)
    }

    fn get_reserved_keywords_for_select_item_operator(&self) -> &[Keyword] {
        self.0.get_reserved_keywords_for_select_item_operator()
    }

    fn get_reserved_grantees_types(&self) -> &[GranteesType] {
        self.0.get_reserved_grantees_types()
    }

    fn is_column_alias(&self, keyword: &Keyword, parser: &mut Parser<'_>) -> bool {
        self.0.is_column_alias(keyword, parser)
    }

    fn is_select_item_alias(&self, explicit: bool, keyword: &Keyword, parser: &mut Parser<'_>) -> bool {
        self.0.is_select_item_alias(explicit, keyword, parser)
    }

    fn is_table_factor(&self, keyword: &Keyword, parser: &mut Parser<'_>) -> bool {
        self.0.is_table_factor(keyword, parser)
    }

    fn is_table_alias(&self, keyword: &Keyword, parser: &mut Parser<'_>) -> bool {
        self.0.is_table_alias(keyword, parser)
    }

    fn is_table_factor_alias(&self, explicit: bool, keyword: &Keyword, parser: &mut Parser<'_>) -> bool {
        self.0.is_table_factor_alias(explicit, keyword, parser)
    }

    fn is_identifier_generating_function_name(&self, ident: &Ident, parts: &[ObjectNamePart]) -> bool {
        self.0.is_identifier_generating_function_name(ident, parts)
    }

    hand_on! {
        supports_string_literal_backslash_escape,
        ignores_wildcard_escapes,
        supports_unicode_string_literal,
        supports_filter_during_aggregation,
        supports_window_clause_named_window_reference,
        supports_within_after_array_aggregation,
        supports_partition_by_after_order_by,
        supports_array_join_syntax,
        supports_alter_user_as_alter_role,
        supports_group_by_expr,
        supports_group_by_with_modifier,
        supports_left_associative_joins_without_parens,
        supports_outer_join_operator,
        supports_cross_join_constraint,
        supports_connect_by,
        supports_execute_immediate,
        supports_match_recognize,
        supports_in_empty_list,
        supports_in_unparenthesized_expr,
        supports_start_transaction_modifier,
        supports_end_transaction_modifier,
        supports_named_fn_args_with_eq_operator,
        supports_named_fn_args_with_colon_operator,
        supports_named_fn_args_with_assignment_operator,
        supports_named_fn_args_with_rarrow_operator,
        supports_named_fn_args_with_expr_name,
        supports_numeric_prefix,
        supports_numeric_literal_underscores,
        supports_window_function_null_treatment_arg,
        supports_dictionary_syntax,
        support_map_literal_syntax,
        supports_lambda_functions,
        supports_parenthesized_set_variables,
        supports_comma_separated_set_assignments,
        supports_update_order_by,
        supports_select_wildcard_except,
        convert_type_before_value,
        supports_triple_quoted_string,
        supports_trailing_commas,
        supports_limit_comma,
        supports_string_literal_concatenation,
        supports_string_literal_concatenation_with_newline,
        supports_projection_trailing_commas,
        supports_from_trailing_commas,
        supports_column_definition_trailing_commas,
        supports_object_name_double_dot_notation,
        supports_struct_literal,
        supports_empty_projections,
        supports_select_expr_star,
        supports_from_first_select,
        supports_from_first_insert,
        supports_pipe_operator,
        supports_user_host_grantee,
        supports_match_against,
        supports_select_wildcard_exclude,
        supports_select_exclude,
        supports_create_table_multi_schema_info_sources,
        supports_select_modifiers,
        describe_requires_table_keyword,
        allow_extract_custom,
        allow_extract_single_quotes,
        supports_extract_comma_syntax,
        supports_subquery_as_function_arg,
        supports_create_view_comment_syntax,
        supports_array_typedef_without_element_type,
        supports_parens_around_table_factor,
        supports_values_as_table_factor,
        supports_dollar_placeholder,
        supports_dollar_as_money_prefix,
        supports_create_index_with_clause,
        require_interval_qualifier,
        supports_explain_with_utility_options,
        supports_asc_desc_in_column_definition,
        supports_factorial_operator,
        supports_bitwise_shift_operators,
        supports_nested_comments,
        supports_multiline_comment_hints,
        supports_eq_alias_assignment,
        supports_try_convert,
        supports_bang_not_operator,
        supports_listen_notify,
        supports_exclude_constraint,
        supports_load_data,
        supports_load_extension,
        supports_top_before_distinct,
        supports_boolean_literals,
        supports_show_like_before_in,
        supports_comment_on,
        supports_create_table_select,
        supports_leading_comma_before_table_options,
        supports_partiql,
        supports_unpivot_expr,
        supports_constraint_keyword_without_name,
        supports_key_column_option,
        supports_table_sample_before_alias,
        supports_insert_set,
        supports_insert_table_function,
        supports_insert_table_query,
        supports_insert_format,
        supports_insert_table_alias,
        supports_set_stmt_without_operator,
        supports_table_versioning,
        supports_string_escape_constant,
        supports_table_hints,
        requires_single_line_comment_whitespace,
        supports_array_typedef_with_brackets,
        supports_geometric_types,
        supports_order_by_all,
        supports_order_by_using_operator,
        supports_set_names,
        supports_space_separated_column_options,
        supports_alter_column_type_using,
        supports_comma_separated_drop_column_list,
        supports_notnull_operator,
        supports_data_type_signed_suffix,
        supports_interval_options,
        supports_create_table_like_parenthesized,
        supports_semantic_view_table_factor,
        supports_quote_delimited_string,
        supports_comment_optimizer_hint,
        supports_double_ampersand_operator,
        supports_binary_kw_as_cast,
        supports_select_wildcard_replace,
        supports_select_wildcard_ilike,
        supports_select_wildcard_rename,
        supports_select_wildcard_with_alias,
        supports_optimize_table,
        supports_install,
        supports_detach,
        supports_prewhere,
        supports_with_fill,
        supports_limit_by,
        supports_interpolate,
        supports_settings,
        supports_select_format,
        supports_comma_separated_trim,
        supports_cte_without_as,
        supports_select_item_multi_column_alias,
        supports_xml_expressions,
        supports_aliased_function_args,
        supports_create_table_using,
        supports_long_type_as_bigint,
        supports_map_literal_with_angle_brackets,
    }
}

/// Words that the parser knows, but neither as a type nor as the start of an operand.
const PLAIN_KEYWORDS: &[Keyword] = &[
    Keyword::ACTION,
    Keyword::AVG,
    Keyword::CATEGORY,
    Keyword::COALESCE,
    Keyword::COMMENT,
    Keyword::COUNT,
    Keyword::DATA,
    Keyword::EVENT,
    Keyword::ID,
    Keyword::KEY,
    Keyword::LAG,
    Keyword::LEAD,
    Keyword::LEVEL,
    Keyword::LOWER,
    Keyword::MAX,
    Keyword::MIN,
    Keyword::NAME,
    Keyword::OWNER,
    Keyword::PASSWORD,
    Keyword::PLAN,
    Keyword::RANK,
    Keyword::REGION,
    Keyword::ROW_NUMBER,
    Keyword::SOURCE,
    Keyword::STATUS,
    Keyword::SUM,
    Keyword::TAG,
    Keyword::TARGET,
    Keyword::UPPER,
    Keyword::URL,
    Keyword::VALUE,
    Keyword::VERSION,
];

/// The number or string at which the parser stands, which stays where it is.
fn value(parser: &Parser<'_>) -> Option<Expr> {
    let token = parser.peek_token_ref();
    let value = match &token.token {
        Token::Number(number, long) => Value::Number(number.clone(), *long),
        Token::SingleQuotedString(text) => Value::SingleQuotedString(text.clone()),
        _ => return None,
    };
    Some(Expr::Value(value.with_span(token.span)))
}

/// The name at which the parser stands, `ahead` tokens on.
fn name(parser: &Parser<'_>, ahead: usize) -> Option<Ident> {
    let token = parser.peek_nth_token_ref(ahead);
    match &token.token {
        Token::Word(word) => Some(Ident {
            value: word.value.clone(),
            quote_style: word.quote_style,
            span: token.span,
        }),
        _ => None,
    }
}

/// `IN` and its list, if the first of it is a value, and so no query. Only behind a name: what is in front has to be copied, which
/// would take quadratic time over a chain of them.
fn list(parser: &mut Parser<'_>, expr: &Expr) -> Option<Result<Expr, ParserError>> {
    let is_in = matches!(
        &parser.peek_token_ref().token,
        Token::Word(word) if word.keyword == Keyword::IN && word.quote_style.is_none()
    );
    let of_values = is_in
        && matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
        && parser.peek_nth_token_ref(1).token == Token::LParen
        && matches!(
            parser.peek_nth_token_ref(2).token,
            Token::Number(..) | Token::SingleQuotedString(_)
        );
    if !of_values {
        return None;
    }
    parser.advance_token();
    parser.advance_token();
    let mut list = Vec::new();
    let mut ended = false;
    while let Some(value) = value(parser) {
        match (
            &parser.peek_nth_token_ref(1).token,
            &parser.peek_nth_token_ref(2).token,
        ) {
            (Token::RParen, _) => {
                list.push(value);
                parser.advance_token();
                ended = true;
                break;
            }
            (Token::Comma, Token::Number(..) | Token::SingleQuotedString(_)) => {
                list.push(value);
                parser.advance_token();
                parser.advance_token();
            }
            _ => break,
        }
    }
    // What is more than a value, and what may follow the last comma, is left to the parser.
    if !ended {
        match parser.parse_comma_separated(Parser::parse_expr) {
            Ok(more) => list.extend(more),
            Err(error) => return Some(Err(error)),
        }
    }
    if let Err(error) = parser.expect_token(&Token::RParen) {
        return Some(Err(error));
    }
    Some(Ok(Expr::InList {
        expr: Box::new(expr.clone()),
        list,
        negated: false,
    }))
}

/// Whether the parentheses behind the name at which the parser stands have few tokens in them, and none that nest. What nests
/// is left to the parser, which remembers where it failed and so does not try the same again at every level.
fn is_flat(parser: &Parser<'_>) -> bool {
    // `a (+)` is an outer join of Oracle.
    if parser.peek_nth_token_ref(2).token == Token::Plus {
        return false;
    }
    for index in 2..12 {
        match parser.peek_nth_token_ref(index).token {
            Token::RParen => return true,
            Token::LParen | Token::LBracket | Token::LBrace | Token::EOF => return false,
            _ => {}
        }
    }
    false
}

/// What is in parentheses and starts with a column of a table, and so is no query and no type: the parser would try for both.
///
/// Not in front of anything else: the parser remembers what it tried in vain, and what is read here is not remembered. In the
/// definition of a column the parser reads parentheses as if they stood elsewhere; columns of tables do not occur there.
fn nested(parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
    let is_column = matches!(parser.peek_nth_token_ref(2).token, Token::Period)
        && is_plain(parser, 1)
        && matches!(parser.peek_nth_token_ref(3).token, Token::Word(_))
        && !matches!(
            parser.peek_nth_token_ref(4).token,
            Token::Period | Token::LParen | Token::LBracket | Token::Colon
        );
    if !is_column {
        return None;
    }
    parser.advance_token();
    let mut inside = match parser.parse_comma_separated(Parser::parse_expr) {
        Ok(inside) => inside,
        Err(error) => return Some(Err(error)),
    };
    if let Err(error) = parser.expect_token(&Token::RParen) {
        return Some(Err(error));
    }
    Some(Ok(match inside.pop() {
        Some(only) if inside.is_empty() => Expr::Nested(Box::new(only)),
        last => {
            inside.extend(last);
            Expr::Tuple(inside)
        }
    }))
}

/// Whether the word, `ahead` tokens on, is none that the parser knows.
fn is_plain(parser: &Parser<'_>, ahead: usize) -> bool {
    matches!(&parser.peek_nth_token_ref(ahead).token, Token::Word(word) if word.keyword == Keyword::NoKeyword)
}

/// The operand at which the parser stands, if its first two tokens tell that no type stands there.
fn operand(parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
    let is_name = match &parser.peek_token_ref().token {
        Token::Number(..) | Token::SingleQuotedString(_) => false,
        Token::Word(word) if word.keyword == Keyword::NoKeyword || PLAIN_KEYWORDS.contains(&word.keyword) => {
            true
        }
        Token::LParen => return nested(parser),
        _ => return None,
    };
    if !is_name {
        // Strings that follow each other may be one.
        if matches!(
            parser.peek_nth_token_ref(1).token,
            Token::SingleQuotedString(_) | Token::DoubleQuotedString(_)
        ) {
            return Some(parser.parse_value().map(Expr::Value));
        }
        let value = value(parser)?;
        parser.advance_token();
        return Some(Ok(value));
    }
    // A column of a table.
    if parser.peek_nth_token_ref(1).token == Token::Period
        && !matches!(
            parser.peek_nth_token_ref(3).token,
            Token::Period | Token::LParen | Token::LBracket | Token::Colon
        )
        && let (Some(table), Some(column)) = (name(parser, 0), name(parser, 2))
    {
        for _ in 0..3 {
            parser.advance_token();
        }
        return Some(Ok(Expr::CompoundIdentifier(vec![table, column])));
    }
    let is_call = match &parser.peek_nth_token_ref(1).token {
        Token::LParen if is_flat(parser) => true,
        Token::Period
        | Token::Comma
        | Token::RParen
        | Token::SemiColon
        | Token::EOF
        | Token::Eq
        | Token::Neq
        | Token::Lt
        | Token::Gt
        | Token::LtEq
        | Token::GtEq
        | Token::Plus
        | Token::Minus
        | Token::Mul
        | Token::Div
        | Token::DoubleColon
        | Token::StringConcat => false,
        Token::Word(word)
            if word.quote_style.is_none()
                && matches!(
                    word.keyword,
                    Keyword::AND
                        | Keyword::AS
                        | Keyword::ASC
                        | Keyword::BETWEEN
                        | Keyword::DESC
                        | Keyword::ELSE
                        | Keyword::END
                        | Keyword::FROM
                        | Keyword::ILIKE
                        | Keyword::IN
                        | Keyword::IS
                        | Keyword::LIKE
                        | Keyword::LIMIT
                        | Keyword::NOT
                        | Keyword::OR
                        | Keyword::ORDER
                        | Keyword::THEN
                        | Keyword::WHEN
                ) =>
        {
            false
        }
        _ => return None,
    };
    let name = name(parser, 0)?;
    parser.advance_token();
    if is_call {
        return Some(parser.parse_function(ObjectName::from(vec![name])));
    }
    Some(Ok(Expr::Identifier(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlparser::dialect::{
        AnsiDialect, BigQueryDialect, DuckDbDialect, GenericDialect, MsSqlDialect, MySqlDialect,
        PostgreSqlDialect, SQLiteDialect, SnowflakeDialect,
    };

    /// Whether both make the same of `sql`: the same statements, or none.
    fn agree<D: Dialect>(dialect: D, sql: &str) -> bool {
        let plain = Parser::parse_sql(&dialect, sql).ok();
        plain == Parser::parse_sql(&Quick(dialect), sql).ok()
    }

    #[test]
    fn what_is_read_at_once_is_what_the_parser_reads() {
        let cases = [
            include_str!("../../tests/data/sql.json"),
            include_str!("../../tests/data/sql_more.json"),
        ];
        let more = [
            "SELECT date '2024-01-01', timestamp '2024-01-01 00:00', interval '1' day, xml '<a/>', x '00', n 'a'",
            "SELECT a (+) FROM t, u WHERE t.a = u.a (+)",
            "SELECT _utf8'x', name 'alias', status, value -> 1, id[1], plan::text, key -> 'a' FROM t",
            "SELECT list_transform(l, x -> x + 1), count(*), count(DISTINCT a), f(), f(a => 1), f(SELECT 1) FROM t",
            "SELECT 1 AS a, 'x' 'y', 'x' AS b, 1.5e3, -1, +name, a.b.c, t.* FROM t",
            "SELECT a IN (1), b IN ('x', (SELECT 1)), c NOT IN (1, 2), d IN (-1), e IN ('x' || 'y') AND f IN (1) OR g IN (1,)",
            "SELECT POSITION('x' IN a), NOT b IN (1) IS NULL, c + 1 IN (2, 3) = d, e IN (1 FROM t",
            "SELECT max(a) OVER (PARTITION BY b), sum(a) FILTER (WHERE b) FROM t",
            "SELECT (a.b), (a.b, c.d), (a.b = 1 OR (c.d IN (1, 'x') AND e.f)), (a.b.c), (a.*), (a.b(1)), (a.b FROM t",
            "SELECT a.b, a.b.c, a.b[1], a.b(1), a.'x', a.\"b\", a.select, a.b:c, a.b (+), x.y IN (1, 2, z), x IN (1, -1) FROM t",
            "SELECT a.b::int, (a.b)::text, a.b.*, a . b, (a.b) IS NULL, (a.b -> 'x'), ((a.b)), (a.b), 'x' 'y', 1 x FROM t",
            "SELECT 1 FROM t START WITH a.b IS NULL CONNECT BY (PRIOR a.b = a.c) AND (a.b > 1)",
            "CREATE TABLE t (a int DEFAULT (b.c), d text CHECK (d COLLATE \"C\" > 'x'))",
        ];
        let mut disagreed = Vec::new();
        let mut look = |sql: &str| {
            let same = agree(GenericDialect {}, sql)
                && agree(AnsiDialect {}, sql)
                && agree(PostgreSqlDialect {}, sql)
                && agree(MySqlDialect {}, sql)
                && agree(SQLiteDialect {}, sql)
                && agree(MsSqlDialect {}, sql)
                && agree(SnowflakeDialect {}, sql)
                && agree(BigQueryDialect {}, sql)
                && agree(DuckDbDialect {}, sql);
            if !same {
                disagreed.push(sql.to_owned());
            }
        };
        for sql in more {
            look(sql);
        }
        for file in cases {
            let cases: serde_json::Value = serde_json::from_str(file).unwrap_or_default();
            let texts = cases.as_array().into_iter().flatten();
            texts
                .filter_map(|case| case["sql"].as_str().or_else(|| case["args"]["sql"].as_str()))
                .filter(|sql| sql.len() < 5_000)
                .for_each(&mut look);
        }
        assert!(disagreed.is_empty(), "{}", disagreed.join("\n"));
    }
}
