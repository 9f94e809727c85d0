//! [`BlockedSql`]: what SQL a tool may be given, by what it does and not by how it is written.
//!
//! Every statement is parsed, and everything in it is looked at: sub-queries, common table expressions, what is
//! explained with `ANALYZE`, functions, tables. What does not parse is refused. What the rule does not promise: it does not
//! know what functions and procedures of your own do, nor views with side effects, and it does not replace a database
//! user without rights.

mod dialects;
mod guess;
mod judge;
mod lexer;
mod names;
mod reword;
mod text;
mod tokens;

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use leash_core::{Action, Call, Decision, PolicyContext, Rule, RuleError};
use sqlparser::ast::Statement;
use sqlparser::dialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use self::dialects::Quick;
use self::judge::{Class, Findings};
use self::tokens::Refused;
use crate::args::{self, Hint, Kept, Leaf, Role};
use crate::registry::{OptionKind, RuleKind, Shape};

/// A dialect that may be used on another thread.
type AnyDialect = dyn dialect::Dialect + Send + Sync;

/// How much of one call's arguments is parsed, in bytes: what takes longer than a call may wait for is refused.
const MAX_CALL_BYTES: usize = 128 * 1024;
/// How long a text may be, in bytes, that is tried in more dialects when the common ones do not parse it: each try takes time.
const MAX_BYTES_ELSEWHERE: usize = 16 * 1024;
/// The stack of a thread for statements that are nested. Only what is used of it takes memory.
const BIG_STACK_BYTES: usize = 32 << 20;

/// What may be done, before the lists of a rule are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SqlMode {
    /// Reading. Nothing that changes rows, tables, rights, settings or sessions, takes locks, waits, or reaches files, programs or
    /// other hosts.
    #[default]
    ReadOnly,
    /// Reading and changing rows. Nothing that changes tables, rights or settings, runs what cannot be read, waits, or
    /// reaches files, programs or other hosts.
    NoDdl,
    /// Everything but what the lists of the rule name, and what does not parse.
    ExtraDeny,
}

impl SqlMode {
    const fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "read_only",
            Self::NoDdl => "no_ddl",
            Self::ExtraDeny => "extra_deny",
        }
    }

    const fn allows(self, class: Class) -> bool {
        match class {
            Class::Read | Class::Session => true,
            Class::Write | Class::Lock | Class::Maintenance => !matches!(self, Self::ReadOnly),
            Class::Ddl
            | Class::Admin
            | Class::Dynamic
            | Class::File
            | Class::Command
            | Class::Network
            | Class::Sleep => matches!(self, Self::ExtraDeny),
            Class::Unknown => false,
        }
    }
}

/// Whose SQL it is. Comments, quotes and escapes differ, and so does what a text does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SqlDialect {
    /// `PostgreSQL` and what speaks like it.
    Postgres,
    /// `MySQL`, `MariaDB`.
    Mysql,
    /// `SQLite`.
    Sqlite,
    /// SQL Server.
    Mssql,
    /// The standard, read generously.
    Ansi,
    /// Any of them: of all readings the worst counts.
    #[default]
    Unknown,
}

/// Blocks SQL that does what it must not, in any string of a tool's arguments.
///
/// Default id: `blocked_sql`; default mode: [`SqlMode::ReadOnly`]; default dialect: [`SqlDialect::Unknown`]. A string
/// named `sql` must be SQL that parses; of any other string the rule finds out whether it is. Fenced code is taken out of
/// its fence. Model calls are none of its business.
///
/// ```
/// use leash_core::{Action, Call, Caller, PolicyContext, Rule, SessionId, Timestamp, ToolCall};
/// use leash_policy::{BlockedSql, SqlDialect, SqlMode};
///
/// let rule = BlockedSql::new(SqlMode::ReadOnly).dialect(SqlDialect::Postgres);
/// let decide = |sql: &str| {
///     let caller = Caller::session(SessionId::new("s_1")?);
///     let call = Call::Tool(ToolCall::new("db", serde_json::json!({"sql": sql}), caller));
///     let decision = rule.evaluate(&call, &PolicyContext::new(Timestamp::EPOCH))?;
///     Ok::<_, Box<dyn std::error::Error>>(decision.map(|decision| decision.action))
/// };
/// assert_eq!(decide("SELECT 'DROP TABLE users'")?, None);
/// assert_eq!(decide("WITH gone AS (DELETE FROM users RETURNING *) SELECT * FROM gone")?, Some(Action::Block));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct BlockedSql {
    id: String,
    mode: SqlMode,
    dialect: SqlDialect,
    extra_deny: Vec<String>,
    allow_statements: Vec<String>,
    allow_functions: Vec<String>,
    deny_functions: Vec<String>,
    allow_tables: Vec<String>,
    deny_tables: Vec<String>,
    require_where: bool,
    fields: Vec<String>,
}

impl Default for BlockedSql {
    fn default() -> Self {
        Self::new(SqlMode::default())
    }
}

fn lower<I: IntoIterator<Item: Into<String>>>(words: I) -> Vec<String> {
    words
        .into_iter()
        .map(|word| word.into().trim().to_lowercase())
        .collect()
}

impl BlockedSql {
    /// In `mode`, for any dialect.
    #[must_use]
    pub fn new(mode: SqlMode) -> Self {
        Self {
            id: "blocked_sql".into(),
            mode,
            dialect: SqlDialect::Unknown,
            extra_deny: Vec::new(),
            allow_statements: Vec::new(),
            allow_functions: Vec::new(),
            deny_functions: Vec::new(),
            allow_tables: Vec::new(),
            deny_tables: Vec::new(),
            require_where: false,
            fields: Vec::new(),
        }
    }

    /// The same under another id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// For this dialect.
    #[must_use]
    pub fn dialect(mut self, dialect: SqlDialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Also blocks these, by the first word of a statement (`SHOW`), by the name of a function, or of a table.
    #[must_use]
    pub fn extra_deny<I: IntoIterator<Item: Into<String>>>(mut self, words: I) -> Self {
        self.extra_deny = lower(words);
        self
    }

    /// Lets these statements through whatever the mode says, by their first word: `INSERT`, `CALL`.
    #[must_use]
    pub fn allow_statements<I: IntoIterator<Item: Into<String>>>(mut self, words: I) -> Self {
        self.allow_statements = lower(words);
        self
    }

    /// Lets these functions through whatever they are known to do.
    #[must_use]
    pub fn allow_functions<I: IntoIterator<Item: Into<String>>>(mut self, names: I) -> Self {
        self.allow_functions = lower(names);
        self
    }

    /// Blocks calls of these functions.
    #[must_use]
    pub fn deny_functions<I: IntoIterator<Item: Into<String>>>(mut self, names: I) -> Self {
        self.deny_functions = lower(names);
        self
    }

    /// Blocks every table but these: `users` in any schema, `public.users` in one, `public.*` all of one.
    #[must_use]
    pub fn allow_tables<I: IntoIterator<Item: Into<String>>>(mut self, names: I) -> Self {
        self.allow_tables = lower(names);
        self
    }

    /// Blocks these tables, named as in [`Self::allow_tables`].
    #[must_use]
    pub fn deny_tables<I: IntoIterator<Item: Into<String>>>(mut self, names: I) -> Self {
        self.deny_tables = lower(names);
        self
    }

    /// Blocks a `DELETE` or `UPDATE` without a `WHERE` that chooses among rows; `1=1`, `id = id` and the like do not.
    #[must_use]
    pub fn require_where(mut self, required: bool) -> Self {
        self.require_where = required;
        self
    }

    /// Takes what is under these names for SQL, besides what is named `sql`.
    #[must_use]
    pub fn fields<I: IntoIterator<Item: Into<String>>>(mut self, names: I) -> Self {
        self.fields = lower(names);
        self
    }

    /// Why `sql` must not run; `None` where it may. A text that does not parse must not.
    ///
    /// ```
    /// use leash_policy::BlockedSql;
    ///
    /// assert_eq!(BlockedSql::default().judge("SELECT 1"), None);
    /// assert!(BlockedSql::default().judge("SELECT 1; DROP TABLE users").is_some());
    /// ```
    #[must_use]
    pub fn judge(&self, sql: &str) -> Option<String> {
        match self.read(guess::unfenced(sql)) {
            Read::Parsed(findings) => findings.iter().find_map(|findings| self.objects(findings)),
            Read::Failed(reason) => Some(reason),
        }
    }

    /// What the text does, in each reading that the dialect asks for.
    fn read(&self, sql: &str) -> Read {
        let one = |dialect: &AnyDialect, sql: &str| match parse(dialect, sql, &self.allow_functions) {
            Parsed::Tree(findings) => Read::Parsed(vec![findings]),
            Parsed::Refused(refused) | Parsed::Broken(refused) => Read::Failed(explain(&refused)),
        };
        match self.dialect {
            SqlDialect::Postgres => one(&Quick(dialect::PostgreSqlDialect {}), sql),
            SqlDialect::Sqlite => one(&Quick(dialect::SQLiteDialect {}), sql),
            SqlDialect::Mssql => match text::line_ends(sql) {
                Some(other) => both(
                    one(&Quick(dialect::MsSqlDialect {}), sql),
                    one(&Quick(dialect::MsSqlDialect {}), &other),
                ),
                None => one(&Quick(dialect::MsSqlDialect {}), sql),
            },
            SqlDialect::Mysql => match (text::lay_open(sql), text::close(sql)) {
                // Whether a server runs what is in such a comment depends on its version.
                (Some(open), Some(closed)) => both(
                    one(&Quick(dialect::MySqlDialect {}), &open),
                    one(&Quick(dialect::MySqlDialect {}), &closed),
                ),
                _ => one(&Quick(dialect::MySqlDialect {}), sql),
            },
            SqlDialect::Ansi => {
                let all: [&AnyDialect; 3] = [
                    &Quick(dialect::GenericDialect {}),
                    &Quick(dialect::AnsiDialect {}),
                    &Quick(dialect::PostgreSqlDialect {}),
                ];
                read_all(&all, &[], sql, &self.allow_functions)
            }
            SqlDialect::Unknown => {
                let all: [&AnyDialect; 5] = [
                    &Quick(dialect::GenericDialect {}),
                    &Quick(dialect::PostgreSqlDialect {}),
                    &Quick(dialect::MySqlDialect {}),
                    &Quick(dialect::SQLiteDialect {}),
                    &Quick(dialect::MsSqlDialect {}),
                ];
                let more: [&AnyDialect; 6] = [
                    &Quick(dialect::BigQueryDialect {}),
                    &Quick(dialect::SnowflakeDialect {}),
                    &Quick(dialect::DuckDbDialect {}),
                    &Quick(dialect::ClickHouseDialect {}),
                    &Quick(dialect::DatabricksDialect {}),
                    &Quick(dialect::OracleDialect {}),
                ];
                read_all(&all, &more, sql, &self.allow_functions)
            }
        }
    }

    /// What is to be said against `findings`.
    fn objects(&self, findings: &Findings) -> Option<String> {
        let mode = self.mode.as_str();
        for finding in &findings.found {
            let first = finding.what.split(' ').next().unwrap_or_default().to_lowercase();
            if finding.statement
                && self
                    .extra_deny
                    .iter()
                    .any(|denied| *denied == first || *denied == finding.what.to_lowercase())
            {
                return Some(format!("{} is denied", finding.what));
            }
            let allowed = finding.statement && self.allow_statements.contains(&first);
            if !allowed && !self.mode.allows(finding.class) {
                return Some(format!("{} is not allowed in mode `{mode}`", finding.what));
            }
        }
        if self.require_where && findings.everywhere {
            return Some("DELETE or UPDATE without a `WHERE` that chooses among rows".into());
        }
        let denied = |name: &String| self.deny_functions.contains(name) || self.extra_deny.contains(name);
        if findings.functions.iter().any(denied) {
            return Some("it calls a function that is denied".into());
        }
        let denied = |name: &String| {
            [&self.deny_tables, &self.extra_deny]
                .iter()
                .any(|list| list.iter().any(|table| is_table(table, name)))
        };
        if findings.tables.iter().any(denied) {
            return Some("it uses a table that is denied".into());
        }
        let unknown = |name: &String| {
            !findings.common.contains(name) && !self.allow_tables.iter().any(|table| is_table(table, name))
        };
        if !self.allow_tables.is_empty() && findings.tables.iter().any(unknown) {
            return Some("it uses a table that is not on the list of allowed tables".into());
        }
        None
    }

    /// Why the string of an argument must not be given to a tool.
    fn look(&self, leaf: &Leaf<'_>, above: Above, bound: bool, left: &mut usize) -> Option<String> {
        if leaf.role == Role::Folded || leaf.text.len() < 3 {
            return None;
        }
        let hint = match leaf.role {
            Role::Key => Hint::None,
            _ => above.hint,
        };
        if bound && above.bound {
            return None;
        }
        let sql = guess::unfenced(leaf.text);
        let mut pay = |text: &str| match left.checked_sub(text.len()) {
            Some(rest) => {
                *left = rest;
                None
            }
            None => Some("it cannot be judged: there is too much of it".to_owned()),
        };
        if hint == Hint::Yes && leaf.role == Role::Value {
            if let Some(reason) = pay(sql) {
                return Some(reason);
            }
            return self.judge(sql);
        }
        let starts = guess::starts_as_sql(sql);
        if starts || guess::may_start_sql(sql) && !above.for_people {
            // What is longer than one statement may be costs nothing: it is not parsed.
            if sql.len() <= tokens::MAX_BYTES
                && let Some(reason) = pay(sql)
            {
                return Some(reason);
            }
            let marks = guess::marks(sql);
            // Words in an array are a statement only where they are written as one.
            let written = starts
                && (leaf.role != Role::Joined || hint != Hint::None)
                && (marks > 0 || !above.for_people);
            match self.read(sql) {
                Read::Parsed(findings) if written || marks > 0 => {
                    return findings.iter().find_map(|findings| self.objects(findings));
                }
                Read::Failed(reason)
                    if leaf.role == Role::Value
                        && starts
                        && !above.for_people
                        && (marks > 0 && marks >= guess::prose(sql)
                            || guess::starts_as_nothing_else(sql)) =>
                {
                    return Some(reason);
                }
                _ => {}
            }
        }
        if leaf.role != Role::Value || sql.len() > tokens::MAX_BYTES {
            return None;
        }
        let pieces = sql.split(';').skip(1).take(64);
        let told = if hint == Hint::None && !guess::runs_client(sql) || above.for_people {
            Vec::new()
        } else {
            let mut told = guess::fences(sql);
            told.extend(guess::given_to_client(sql));
            told
        };
        pieces
            .filter(|piece| guess::starts_as_sql(piece))
            .chain(told.into_iter().filter(|piece| guess::may_start_sql(piece)))
            .find_map(|piece| pay(piece).or_else(|| self.injected(piece)))
    }

    /// What is to be said against a statement behind a semicolon of a text that is none itself: `1; DROP TABLE users --`.
    fn injected(&self, piece: &str) -> Option<String> {
        match self.read(piece) {
            Read::Parsed(findings) => findings.iter().find_map(|findings| self.objects(findings)),
            Read::Failed(_) => None,
        }
    }
}

/// What the names above a string say of it.
#[derive(Clone, Copy, Debug)]
struct Above {
    hint: Hint,
    for_people: bool,
    /// Whether it is bound to a place holder, in a statement that has any.
    bound: bool,
}

impl Above {
    fn new(database: bool, leaf: &Leaf<'_>, fields: &[String]) -> Self {
        Self {
            hint: guess::hint(database, leaf.names, leaf.told, fields),
            for_people: guess::is_for_people(leaf.told),
            bound: guess::is_bound(leaf.names)
                && guess::hint(false, leaf.names, leaf.told, fields) == Hint::None,
        }
    }
}

fn is_table(pattern: &str, name: &str) -> bool {
    if let Some(schema) = pattern.strip_suffix(".*") {
        return name
            .rsplit_once('.')
            .is_some_and(|(before, _)| before == schema || before.ends_with(&format!(".{schema}")));
    }
    name == pattern
        || name
            .strip_suffix(pattern)
            .is_some_and(|before| before.ends_with('.'))
}

/// What a text does, in each of its readings; or why it cannot be said.
enum Read {
    Parsed(Vec<Findings>),
    Failed(String),
}

/// Two readings of one text.
fn both(one: Read, other: Read) -> Read {
    match (one, other) {
        (Read::Parsed(mut found), Read::Parsed(more)) => {
            found.extend(more);
            Read::Parsed(found)
        }
        (failed @ Read::Failed(_), _) | (_, failed) => failed,
    }
}

/// What one dialect makes of a text.
enum Parsed {
    Tree(Findings),
    /// Past a limit, or no tokens.
    Refused(Refused),
    /// Tokens, but no statements: where the parser stopped.
    Broken(Refused),
}

fn parse(dialect: &AnyDialect, sql: &str, harmless: &[String]) -> Parsed {
    match tokens::tokens(dialect, sql) {
        Ok(tokens) => {
            let first = parse_guarded(dialect, reword::smooth(dialect, tokens), harmless);
            parse_again(dialect, sql, harmless, first)
        }
        Err(refused) => parse_again(dialect, sql, harmless, Parsed::Refused(refused)),
    }
}

/// Parses the text in other words, if it did not parse as it is.
fn parse_again(dialect: &AnyDialect, sql: &str, harmless: &[String], first: Parsed) -> Parsed {
    if matches!(first, Parsed::Tree(_) | Parsed::Refused(Refused::Limit(_))) {
        return first;
    }
    let filled = text::fill_in(sql);
    if let Some(filled) = &filled
        && let Ok(tokens) = tokens::tokens(dialect, filled)
        && let tree @ Parsed::Tree(_) = parse_guarded(dialect, reword::smooth(dialect, tokens), harmless)
    {
        return tree;
    }
    let plainer = tokens::tokens(dialect, filled.as_deref().unwrap_or(sql))
        .ok()
        .and_then(|tokens| reword::plainer(dialect, &reword::smooth(dialect, tokens)));
    match plainer.map(|tokens| parse_guarded(dialect, tokens, harmless)) {
        Some(tree @ Parsed::Tree(_)) => tree,
        _ => first,
    }
}

/// Parses where the stack suffices, whatever the parser does.
fn parse_guarded(dialect: &AnyDialect, tokens: Vec<TokenWithSpan>, harmless: &[String]) -> Parsed {
    let failed = || Parsed::Refused(Refused::Limit("the parser failed"));
    if !tokens::is_deep(&tokens) {
        let parse = AssertUnwindSafe(|| parse_tokens(dialect, tokens, harmless));
        return catch_unwind(parse).unwrap_or_else(|_| failed());
    }
    // The parser, the walk over its tree and the tree's end all recurse. What is nested gets a stack of its own, whatever is
    // left of the caller's.
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("sql".to_owned())
            .stack_size(BIG_STACK_BYTES)
            .spawn_scoped(scope, || parse_tokens(dialect, tokens, harmless));
        thread.map_or_else(|_| failed(), |thread| thread.join().unwrap_or_else(|_| failed()))
    })
}

fn parse_tokens(dialect: &AnyDialect, tokens: Vec<TokenWithSpan>, harmless: &[String]) -> Parsed {
    let mut parser = Parser::new(dialect).with_tokens_with_locations(tokens);
    let parsed: Result<Vec<Statement>, ParserError> = parser.parse_statements();
    let next = parser.peek_token_ref();
    let (at_end, at) = (next.token == Token::EOF, next.span.start);
    tokens::give_back(parser.into_tokens());
    match parsed {
        // The parser stops at an `END` that closes nothing, and says nothing of what is behind it.
        Ok(statements) if at_end => Parsed::Tree(judge::judge(&statements, harmless)),
        Err(ParserError::RecursionLimitExceeded) => {
            Parsed::Refused(Refused::Limit("the statement is nested too deeply"))
        }
        Ok(_) | Err(_) => Parsed::Broken(Refused::Unreadable(at.line, at.column)),
    }
}

fn explain(refused: &Refused) -> String {
    match refused {
        Refused::Limit(what) => format!("it cannot be judged: {what}"),
        Refused::Unreadable(0, _) => "it does not parse: it stops before its end".into(),
        Refused::Unreadable(line, column) => {
            format!("it does not parse: it stops making sense near line {line}, column {column}")
        }
    }
}

/// The text in every dialect in which it is a different one; the worst counts, so all are given. What none of `dialects` knows may
/// be something that one of `more` does.
fn read_all(dialects: &[&AnyDialect], more: &[&AnyDialect], sql: &str, harmless: &[String]) -> Read {
    let open = text::lay_open(sql);
    let closed = text::close(sql);
    let texts = std::iter::once(Cow::Borrowed(sql))
        .chain(open.map(Cow::Owned))
        .chain(closed.map(Cow::Owned))
        .chain(text::line_ends(sql).map(Cow::Owned));
    let mut found = Vec::new();
    let mut failed = None;
    for sql in texts {
        let disputed = is_disputed(&sql);
        let mut first = None;
        // The tokens that were parsed: what other dialects take apart in the same way says nothing new.
        let mut known: Vec<Vec<TokenWithSpan>> = Vec::new();
        for dialect in dialects {
            let tokens = tokens::tokens(*dialect, &sql);
            let mut copy = None;
            let parsed = match tokens {
                Ok(tokens) => {
                    if known.contains(&tokens) {
                        continue;
                    }
                    copy = disputed.then(|| tokens.clone());
                    let parsed = parse_guarded(*dialect, reword::smooth(*dialect, tokens), harmless);
                    parse_again(*dialect, &sql, harmless, parsed)
                }
                Err(refused) => parse_again(*dialect, &sql, harmless, Parsed::Refused(refused)),
            };
            match parsed {
                Parsed::Tree(findings) => {
                    found.push(findings);
                    known.push(copy.unwrap_or_default());
                    if !disputed {
                        break;
                    }
                }
                Parsed::Refused(limit @ Refused::Limit(_)) => return Read::Failed(explain(&limit)),
                Parsed::Refused(refused) => {
                    first.get_or_insert(refused);
                }
                Parsed::Broken(refused) => {
                    if let Some(tokens) = copy.as_deref() {
                        let mut findings = scan(tokens).unwrap_or_default();
                        findings.found.extend(judge::called(tokens, harmless));
                        found.push(findings);
                    }
                    first.get_or_insert(refused);
                }
            }
        }
        if known.is_empty() {
            match read_elsewhere(dialects, more, &sql, harmless) {
                Some(findings) => found.push(findings),
                None => failed = failed.or(first),
            }
        }
    }
    match failed {
        Some(refused) => Read::Failed(explain(&refused)),
        None => Read::Parsed(found),
    }
}

/// What one of `more` reads, where none of `dialects` sees the start of a statement that writes.
fn read_elsewhere(
    dialects: &[&AnyDialect],
    more: &[&AnyDialect],
    sql: &str,
    harmless: &[String],
) -> Option<Findings> {
    if more.is_empty() || sql.len() > MAX_BYTES_ELSEWHERE {
        return None;
    }
    let mut called = Vec::new();
    for dialect in dialects {
        if let Ok(tokens) = tokens::tokens(*dialect, sql) {
            if scan(&tokens).is_some() {
                return None;
            }
            called.extend(judge::called(&tokens, harmless));
        }
    }
    more.iter()
        .find_map(|dialect| match parse(*dialect, sql, harmless) {
            Parsed::Tree(mut findings) => {
                findings.found.append(&mut called);
                Some(findings)
            }
            Parsed::Refused(_) | Parsed::Broken(_) => None,
        })
}

/// Whether dialects may take the text apart in different ways.
fn is_disputed(sql: &str) -> bool {
    sql.contains(['\\', '`', '[', '#', '$', '{'])
        || text::line_ends(sql).is_some()
        || has_prefixed_strings(sql)
        || sql.matches("/*").count() > 1
        || sql.contains("/*!")
        || sql.match_indices("--").any(|(at, _)| {
            !sql.get(at.saturating_add(2)..)
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_whitespace()))
        })
}

/// Whether a quote follows a letter that makes it another kind of string, but only in some dialects: `q'[x]'`, `r'''x'''`,
/// `b"x"`.
fn has_prefixed_strings(sql: &str) -> bool {
    let bytes = sql.as_bytes();
    memchr::memchr2_iter(b'\'', b'"', bytes).any(|at| {
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        before.is_some_and(|before| b"qQrRbB".contains(before))
    })
}

/// Whether a `COPY` at the start of `tokens` hands rows to who asked.
fn only_shows(tokens: &[TokenWithSpan]) -> bool {
    let is = |token: &TokenWithSpan, wanted: Keyword| matches!(&token.token, Token::Word(word) if word.keyword == wanted);
    tokens
        .iter()
        .take_while(|token| token.token != Token::SemiColon)
        .collect::<Vec<_>>()
        .windows(2)
        .any(|pair| matches!(pair, [to, out] if is(to, Keyword::TO) && is(out, Keyword::STDOUT)))
}

/// What tokens that do not parse may do: a statement that starts with a word of writing.
fn scan(tokens: &[TokenWithSpan]) -> Option<Findings> {
    const WRITING: &[&str] = &[
        "insert", "update", "delete", "merge", "replace", "drop", "alter", "create", "truncate", "rename",
        "grant", "revoke", "exec", "execute", "call", "do", "copy", "load", "attach", "set", "lock", "kill",
        "prepare", "handler", "shutdown",
    ];
    let mut starts = true;
    for (at, token) in tokens.iter().enumerate() {
        match &token.token {
            Token::SemiColon => starts = true,
            Token::LParen => {}
            Token::Word(word) if starts => {
                if word.quote_style.is_none()
                    && !(word.keyword == Keyword::COPY && only_shows(tokens.get(at..).unwrap_or_default()))
                    && WRITING.iter().any(|name| word.value.eq_ignore_ascii_case(name))
                {
                    let mut findings = Findings::default();
                    findings.found.push(judge::Finding {
                        class: Class::Unknown,
                        what: "a statement that another dialect may run",
                        statement: false,
                    });
                    return Some(findings);
                }
                starts = false;
            }
            _ => starts = false,
        }
    }
    None
}

impl Rule for BlockedSql {
    fn id(&self) -> &str {
        &self.id
    }

    fn evaluate(&self, call: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        let Call::Tool(call) = call else { return Ok(None) };
        let mut left = MAX_CALL_BYTES;
        let database = guess::is_database(&call.tool);
        let mut kept = Kept::default();
        // Where a statement has place holders, what is bound to them is data.
        let bound = args::walk(call.args.value(), &mut |leaf: Leaf<'_>| {
            let is_statement = leaf.role == Role::Value
                && guess::has_place_holders(leaf.text)
                && match kept.get(&leaf, || Above::new(database, &leaf, &self.fields)).hint {
                    Hint::Yes => true,
                    Hint::Maybe => guess::starts_as_sql(leaf.text),
                    Hint::None => false,
                };
            if is_statement {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?
        .is_some();
        let mut kept = Kept::default();
        let reason = args::walk(call.args.value(), &mut |leaf: Leaf<'_>| {
            let above = kept.get(&leaf, || Above::new(database, &leaf, &self.fields));
            match self.look(&leaf, above, bound, &mut left) {
                Some(reason) => ControlFlow::Break(reason),
                None => ControlFlow::Continue(()),
            }
        })?;
        Ok(reason.map(|reason| Decision::new(Action::Block, self.id.clone(), format!("SQL: {reason}"))))
    }
}

/// How a policy makes one.
pub(crate) const KIND: RuleKind = RuleKind {
    name: "blocked_sql",
    about: "Blocks SQL that does what it must not, in any string of a tool's arguments.",
    options: &[
        OptionKind {
            name: "mode",
            shape: Shape::Choice(&["read_only", "no_ddl", "extra_deny"]),
            about: "What may be done: reading; reading and changing rows; everything but what the lists name.",
        },
        OptionKind {
            name: "dialect",
            shape: Shape::Choice(&[
                "postgres",
                "postgresql",
                "mysql",
                "sqlite",
                "mssql",
                "ansi",
                "unknown",
            ]),
            about: "Whose SQL it is; `unknown` takes the worst reading of all.",
        },
        OptionKind {
            name: "extra_deny",
            shape: Shape::List,
            about: "Statements (by their first word), functions and tables that are blocked besides.",
        },
        OptionKind {
            name: "allow_statements",
            shape: Shape::List,
            about: "Statements that are let through whatever the mode says, by their first word.",
        },
        OptionKind {
            name: "allow_functions",
            shape: Shape::List,
            about: "Functions that are let through whatever they are known to do.",
        },
        OptionKind {
            name: "deny_functions",
            shape: Shape::List,
            about: "Functions that are blocked.",
        },
        OptionKind {
            name: "allow_tables",
            shape: Shape::List,
            about: "The only tables that may be used.",
        },
        OptionKind {
            name: "deny_tables",
            shape: Shape::List,
            about: "Tables that must not be used.",
        },
        OptionKind {
            name: "require_where",
            shape: Shape::Flag,
            about: "Blocks DELETE and UPDATE without a WHERE that chooses among rows.",
        },
        OptionKind {
            name: "fields",
            shape: Shape::List,
            about: "Names of arguments that are SQL, besides those that say so.",
        },
    ],
    make: |options| {
        let modes = [
            ("read_only", SqlMode::ReadOnly),
            ("no_ddl", SqlMode::NoDdl),
            ("extra_deny", SqlMode::ExtraDeny),
        ];
        let dialects = [
            ("postgres", SqlDialect::Postgres),
            ("postgresql", SqlDialect::Postgres),
            ("mysql", SqlDialect::Mysql),
            ("sqlite", SqlDialect::Sqlite),
            ("mssql", SqlDialect::Mssql),
            ("ansi", SqlDialect::Ansi),
            ("unknown", SqlDialect::Unknown),
        ];
        let rule = BlockedSql::new(options.choice("mode", &modes)?.unwrap_or_default())
            .dialect(options.choice("dialect", &dialects)?.unwrap_or_default())
            .extra_deny(options.list("extra_deny"))
            .allow_statements(options.list("allow_statements"))
            .allow_functions(options.list("allow_functions"))
            .deny_functions(options.list("deny_functions"))
            .allow_tables(options.list("allow_tables"))
            .deny_tables(options.list("deny_tables"))
            .require_where(options.flag("require_where")?.unwrap_or(false))
            .fields(options.list("fields"));
        Ok(Arc::new(rule))
    },
};
