//! What SQL does, by its tree: every statement, query, function and table in it, at any depth. Knows no mode.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, CopySource, CopyTarget, Expr, FromTable, FunctionArg, FunctionArgExpr, Ident, ObjectName,
    ObjectType, Query, Reset, ResetStatement, Select, Set, SetExpr, Statement, TableFactor,
    TransactionAccessMode, TransactionMode, TransactionModifier, UnaryOperator, Value, ValueWithSpan, Visit,
    Visitor,
};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::names;

/// What a statement, a clause or a function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Class {
    /// Reads.
    Read,
    /// Opens, ends and adjusts the session's own transaction and looks; changes nothing that others see.
    Session,
    /// Changes rows.
    Write,
    /// Takes locks that others wait for.
    Lock,
    /// Tidies up: `VACUUM`, `ANALYZE`.
    Maintenance,
    /// Changes what is there: tables, views, functions.
    Ddl,
    /// Changes who may do what, how the server runs, or the sessions of others.
    Admin,
    /// Runs what cannot be read here: procedures, prepared statements, text.
    Dynamic,
    /// Reads or writes files of the server.
    File,
    /// Runs a program.
    Command,
    /// Reaches other hosts.
    Network,
    /// Waits, or burns time.
    Sleep,
    /// Nothing that is known.
    Unknown,
}

/// Something that a text does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) class: Class,
    /// What it is, in our own words: `DROP`, `SELECT … INTO`.
    pub(super) what: &'static str,
    /// Whether it is a statement, and not a clause or function in one.
    pub(super) statement: bool,
}

/// Everything that a text does.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) found: Vec<Finding>,
    /// `DELETE` or `UPDATE` whose `WHERE` chooses nothing.
    pub(super) everywhere: bool,
    /// Functions called, in lower case, without what qualifies them.
    pub(super) functions: Vec<String>,
    /// Tables named, in lower case, with what qualifies them.
    pub(super) tables: Vec<String>,
    /// Names given by `WITH`, in lower case.
    pub(super) common: Vec<String>,
}

/// What `statements` do. The functions in `harmless` do nothing but compute.
pub(super) fn judge(statements: &[Statement], harmless: &[String]) -> Findings {
    let mut judge = Judge {
        findings: Findings::default(),
        planning: 0,
        harmless,
    };
    for statement in statements {
        let _: ControlFlow<()> = statement.visit(&mut judge);
    }
    judge.findings
}

struct Judge<'a> {
    findings: Findings,
    /// How many `EXPLAIN` without `ANALYZE` are around: what they explain does not run.
    planning: usize,
    harmless: &'a [String],
}

/// Whether this is a hint that takes locks.
fn is_locking(hint: &Ident) -> bool {
    names::LOCKING_HINTS
        .iter()
        .any(|lock| hint.value.eq_ignore_ascii_case(lock))
}

/// Whether this is the word `ONLY`, which the parser takes for a name.
fn is_only(name: &ObjectName) -> bool {
    matches!(name.0.as_slice(), [part] if part
        .as_ident()
        .is_some_and(|ident| ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("only")))
}

impl Judge<'_> {
    /// Notes the tables that the arguments of a function name, as those of `pragma_table_info('t')` and of `ONLY (t)` do.
    fn named_by(&mut self, function: &ObjectName, arguments: &[FunctionArg]) {
        let pragma = parts(function)
            .last()
            .is_some_and(|last| last.starts_with("pragma_"));
        for argument in arguments {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument else {
                continue;
            };
            // Hints of SQL Server as they were written once: `FROM t (TABLOCK)`.
            if matches!(expr, Expr::Identifier(hint) if is_locking(hint)) {
                self.note(Class::Lock, "a hint that takes locks", false);
            }
            if !pragma && !is_only(function) {
                continue;
            }
            let name = expr.to_string().to_lowercase();
            let name = name
                .split('.')
                .map(|part| part.trim_matches(['\'', '"', '`', '[', ']']));
            self.findings.tables.push(name.collect::<Vec<_>>().join("."));
        }
    }

    fn note(&mut self, class: Class, what: &'static str, statement: bool) {
        if self.findings.found.len() < 4096 {
            self.findings.found.push(Finding {
                class,
                what,
                statement,
            });
        }
    }

    fn function(&mut self, name: &ObjectName) {
        let parts = parts(name);
        let harmless = parts.last().is_some_and(|last| self.harmless.contains(last));
        if let Some(class) = names::function(&parts)
            && !harmless
        {
            let what = described(class);
            self.note(class, what, false);
        }
        if let Some(last) = parts.last() {
            self.findings.functions.push(last.clone());
        }
    }
}

/// What a function of this class is, in our own words.
const fn described(class: Class) -> &'static str {
    match class {
        Class::File => "a function that reaches files of the server",
        Class::Command => "a function that runs programs",
        Class::Network => "a function that reaches other hosts",
        Class::Sleep => "a function that waits",
        Class::Dynamic => "a function that runs text as SQL",
        Class::Lock => "a function that takes locks",
        Class::Write => "a function that writes",
        _ => "a function that administers the server",
    }
}

/// What is called in `tokens` that do not parse, where it is known to do more than compute: each name in front of a parenthesis.
pub(super) fn called(tokens: &[TokenWithSpan], harmless: &[String]) -> Vec<Finding> {
    tokens
        .windows(2)
        .filter_map(|pair| match pair {
            [name, open] if open.token == Token::LParen => match &name.token {
                Token::Word(word) => Some(word.value.to_lowercase()),
                _ => None,
            },
            _ => None,
        })
        .filter(|name| !harmless.contains(name))
        .filter_map(|name| names::function(&[name]))
        .map(|class| Finding {
            class,
            what: described(class),
            statement: false,
        })
        .take(64)
        .collect()
}

/// The parts of a name in lower case.
fn parts(name: &ObjectName) -> Vec<String> {
    name.0
        .iter()
        .map(|part| {
            part.as_ident()
                .map_or_else(|| "?".to_owned(), |ident| ident.value.to_lowercase())
        })
        .collect()
}

/// Whether this is an `EXPLAIN` that runs nothing.
fn only_plans(statement: &Statement) -> bool {
    let Statement::Explain { analyze, options, .. } = statement else {
        return false;
    };
    let runs = options.iter().flatten().any(|option| {
        ["analyze", "analyse"]
            .iter()
            .any(|name| option.name.value.eq_ignore_ascii_case(name))
            && !option.arg.as_ref().is_some_and(|arg| {
                let text = arg.to_string().to_ascii_lowercase();
                ["false", "off", "0", "'false'", "'off'"].contains(&text.as_str())
            })
    });
    !*analyze && !runs
}

impl Visitor for Judge<'_> {
    type Break = ();

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
        let (class, what) = classify(statement);
        let plans = only_plans(statement);
        if self.planning == 0 {
            self.note(class, what, true);
            let selection = match statement {
                Statement::Delete(delete) => Some(delete.selection.as_ref()),
                Statement::Update(update) => Some(update.selection.as_ref()),
                _ => None,
            };
            if let Some(selection) = selection {
                self.findings.everywhere |= !selection.is_some_and(chooses);
            }
        }
        if let Statement::Drop { names, .. } = statement {
            self.findings
                .tables
                .extend(names.iter().map(|name| parts(name).join(".")));
        }
        if let Statement::Delete(delete) = statement {
            self.findings
                .tables
                .extend(delete.tables.iter().map(|name| parts(name).join(".")));
            let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
            if from.len() > 64 {
                self.note(Class::Unknown, "a `DELETE` from very many tables", false);
            }
        }
        match statement {
            Statement::Copy {
                source: CopySource::Table { table_name, .. },
                ..
            } => self.findings.tables.push(parts(table_name).join(".")),
            Statement::ShowCreate { obj_name, .. } => self.findings.tables.push(parts(obj_name).join(".")),
            Statement::Pragma {
                value: Some(value), ..
            } => {
                let name = value.to_string();
                self.findings
                    .tables
                    .push(name.trim_matches(['\'', '"']).to_lowercase());
            }
            _ => {}
        }
        if let Statement::Call(function) = statement {
            self.function(&function.name);
        }
        if let Statement::Execute { name: Some(name), .. } = statement {
            self.function(name);
        }
        if plans {
            self.planning = self.planning.saturating_add(1);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
        if only_plans(statement) {
            self.planning = self.planning.saturating_sub(1);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if !query.locks.is_empty() && self.planning == 0 {
            self.note(Class::Lock, "`SELECT … FOR UPDATE` or another row lock", false);
        }
        for common in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.findings.common.push(common.alias.name.value.to_lowercase());
        }
        let mut body = query.body.as_ref();
        // What is deeper is visited by itself; here are only the sides that no visitor sees.
        loop {
            match body {
                SetExpr::Table(table) => {
                    let name = [table.schema_name.as_deref(), table.table_name.as_deref()];
                    let name: Vec<String> = name
                        .into_iter()
                        .flatten()
                        .map(|part| part.trim_matches(['"', '`', '[', ']']).to_lowercase())
                        .collect();
                    self.findings.tables.push(name.join("."));
                    break;
                }
                SetExpr::SetOperation { left, right, .. } => {
                    if let SetExpr::Table(table) = right.as_ref()
                        && let Some(name) = &table.table_name
                    {
                        self.findings.tables.push(name.to_lowercase());
                    }
                    body = left;
                }
                _ => break,
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        if let Some(into) = &select.into
            && self.planning == 0
        {
            let variables = into.targets.iter().all(|target| match target {
                Expr::Identifier(name) => name.value.starts_with('@') && name.quote_style.is_none(),
                _ => false,
            });
            if !variables || into.targets.is_empty() {
                self.note(
                    Class::Ddl,
                    "`SELECT … INTO`, which makes a table or a file",
                    false,
                );
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        self.findings.tables.push(parts(relation).join("."));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table {
                name,
                args: Some(arguments),
                ..
            } => {
                self.function(name);
                self.named_by(name, &arguments.args);
            }
            TableFactor::Function { name, args, .. } => {
                self.function(name);
                self.named_by(name, args);
            }
            TableFactor::Table {
                name,
                args: None,
                with_hints,
                alias,
                ..
            } => {
                // `FROM ONLY t`, read as a table of that name.
                if let (Some(alias), true) = (alias, is_only(name)) {
                    self.findings.tables.push(alias.name.value.to_lowercase());
                }
                let locks = with_hints
                    .iter()
                    .any(|hint| matches!(hint, Expr::Identifier(hint) if is_locking(hint)));
                if locks && self.planning == 0 {
                    self.note(Class::Lock, "a hint that takes locks", false);
                }
                // DuckDB and Spark read files that are named like tables.
                if let [part] = name.0.as_slice()
                    && let Some(ident) = part.as_ident()
                    && ident.quote_style == Some('\'')
                {
                    self.note(Class::File, "a file in the place of a table", false);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr {
            self.function(&function.name);
        }
        ControlFlow::Continue(())
    }
}

/// What kind of statement it is, by itself. What is not listed is unknown, and so refused.
#[expect(clippy::too_many_lines, reason = "a table of all statements")]
fn classify(statement: &Statement) -> (Class, &'static str) {
    match statement {
        Statement::Query(_) => (Class::Read, "SELECT"),
        Statement::Explain { .. } => (Class::Read, "EXPLAIN"),
        Statement::ExplainTable { .. } => (Class::Read, "DESCRIBE"),
        // The parser drops what stands between the words of this one, and so what a filter calls.
        Statement::ShowVariable { variable }
            if variable.iter().skip(1).any(|word| {
                names::ENDING_SHOW
                    .iter()
                    .any(|end| word.value.eq_ignore_ascii_case(end))
            }) =>
        {
            (
                Class::Unknown,
                "SHOW with something behind it that this rule does not know",
            )
        }
        Statement::ShowFunctions { .. }
        | Statement::ShowVariable { .. }
        | Statement::ShowStatus { .. }
        | Statement::ShowVariables { .. }
        | Statement::ShowCreate { .. }
        | Statement::ShowColumns { .. }
        | Statement::ShowCatalogs { .. }
        | Statement::ShowDatabases { .. }
        | Statement::ShowProcessList { .. }
        | Statement::ShowSchemas { .. }
        | Statement::ShowCharset(_)
        | Statement::ShowObjects(_)
        | Statement::ShowTables { .. }
        | Statement::ShowViews { .. }
        | Statement::ShowCollation { .. } => (Class::Read, "SHOW"),
        Statement::Use(_) => (Class::Session, "USE"),
        Statement::StartTransaction { modes, modifier, .. } => {
            if modes.iter().any(writes) {
                (Class::Write, "START TRANSACTION READ WRITE")
            } else if matches!(
                modifier,
                Some(TransactionModifier::Immediate | TransactionModifier::Exclusive)
            ) {
                (Class::Lock, "BEGIN IMMEDIATE or EXCLUSIVE")
            } else {
                (Class::Session, "BEGIN")
            }
        }
        Statement::Commit { .. } => (Class::Session, "COMMIT"),
        Statement::Rollback { .. } => (Class::Session, "ROLLBACK"),
        Statement::Savepoint { .. } => (Class::Session, "SAVEPOINT"),
        Statement::ReleaseSavepoint { .. } => (Class::Session, "RELEASE"),
        Statement::Declare { .. } => (Class::Session, "DECLARE"),
        Statement::Fetch { .. } => (Class::Session, "FETCH"),
        Statement::Open(_) => (Class::Session, "OPEN"),
        Statement::Close { .. } => (Class::Session, "CLOSE"),
        Statement::Deallocate { .. } => (Class::Session, "DEALLOCATE"),
        Statement::Print(_) => (Class::Session, "PRINT"),
        Statement::Prepare { .. } => (Class::Session, "PREPARE"),
        Statement::If(_) => (Class::Session, "IF"),
        Statement::Case(_) => (Class::Session, "CASE"),
        Statement::UNLISTEN { .. } => (Class::Session, "UNLISTEN"),
        Statement::UnlockTables => (Class::Session, "UNLOCK TABLES"),
        Statement::Throw(_) => (Class::Session, "THROW"),
        Statement::Return(_) => (Class::Session, "RETURN"),
        Statement::RaisError { options, .. } if options.is_empty() => (Class::Session, "RAISERROR"),
        Statement::RaisError { .. } => (Class::Admin, "RAISERROR with options"),
        Statement::Insert(insert) if insert.replace_into => (Class::Write, "REPLACE"),
        Statement::Insert(_) => (Class::Write, "INSERT"),
        Statement::Update(_) => (Class::Write, "UPDATE"),
        Statement::Delete(_) => (Class::Write, "DELETE"),
        Statement::Merge(_) => (Class::Write, "MERGE"),
        Statement::Copy { to, target, .. } => match (target, to) {
            (CopyTarget::Program { .. }, _) => (Class::Command, "COPY … PROGRAM"),
            (CopyTarget::File { .. }, _) => (Class::File, "COPY with a file"),
            (CopyTarget::Stdout, true) => (Class::Read, "COPY"),
            _ => (Class::Write, "COPY"),
        },
        Statement::CopyIntoSnowflake { .. } => (Class::File, "COPY INTO"),
        Statement::LoadData { .. } => (Class::File, "LOAD DATA"),
        Statement::Unload { .. } | Statement::ExportData(_) => (Class::File, "UNLOAD or EXPORT"),
        Statement::Put { .. } | Statement::Remove(_) | Statement::List(_) | Statement::Directory { .. } => {
            (Class::File, "PUT, REMOVE, LIST or INSERT DIRECTORY")
        }
        Statement::Install { .. } | Statement::Load { .. } => (Class::File, "INSTALL or LOAD"),
        Statement::AttachDatabase { .. } | Statement::AttachDuckDBDatabase { .. } => (Class::File, "ATTACH"),
        Statement::DetachDuckDBDatabase { .. } => (Class::Admin, "DETACH"),
        Statement::Call(function) => procedure(&function.name, "CALL"),
        Statement::Execute {
            name: Some(name),
            immediate: false,
            ..
        } => procedure(name, "EXECUTE"),
        Statement::Execute { .. } => (Class::Dynamic, "EXECUTE"),
        Statement::Pragma { name, value, is_eq } => pragma(name, value.as_ref(), *is_eq),
        Statement::Set(set) => classify_set(set),
        Statement::Reset(ResetStatement {
            reset: Reset::ConfigurationParameter(name),
        }) if parts(name)
            .last()
            .is_some_and(|last| names::HARMLESS_VARIABLES.contains(&last.as_str())) =>
        {
            (Class::Session, "RESET")
        }
        Statement::Reset(_) => (Class::Admin, "RESET"),
        Statement::Discard { .. } => (Class::Admin, "DISCARD"),
        Statement::Lock(_) | Statement::LockTables { .. } => (Class::Lock, "LOCK"),
        Statement::Vacuum(_) => (Class::Maintenance, "VACUUM"),
        Statement::Analyze(_) => (Class::Maintenance, "ANALYZE"),
        Statement::OptimizeTable { .. } | Statement::Msck(_) => (Class::Maintenance, "OPTIMIZE"),
        Statement::WaitFor(_) => (Class::Sleep, "WAITFOR"),
        Statement::While(_) => (Class::Dynamic, "WHILE"),
        Statement::Kill { .. } => (Class::Admin, "KILL"),
        Statement::Flush { .. } => (Class::Admin, "FLUSH"),
        Statement::Grant(_) => (Class::Admin, "GRANT"),
        Statement::Revoke(_) => (Class::Admin, "REVOKE"),
        Statement::Deny(_) => (Class::Admin, "DENY"),
        Statement::LISTEN { .. } => (Class::Admin, "LISTEN"),
        Statement::NOTIFY { .. } => (Class::Admin, "NOTIFY"),
        Statement::AlterSession { .. } => (Class::Admin, "ALTER SESSION"),
        Statement::CreateUser(_) | Statement::CreateRole(_) => (Class::Admin, "CREATE USER or ROLE"),
        Statement::AlterUser(_) | Statement::AlterRole { .. } => (Class::Admin, "ALTER USER or ROLE"),
        Statement::Truncate(_) => (Class::Ddl, "TRUNCATE TABLE"),
        Statement::Drop { object_type, .. } => match object_type {
            ObjectType::Table => (Class::Ddl, "DROP TABLE"),
            ObjectType::View => (Class::Ddl, "DROP VIEW"),
            ObjectType::Index => (Class::Ddl, "DROP INDEX"),
            ObjectType::Schema => (Class::Ddl, "DROP SCHEMA"),
            ObjectType::Database => (Class::Ddl, "DROP DATABASE"),
            ObjectType::Sequence => (Class::Ddl, "DROP SEQUENCE"),
            ObjectType::Role => (Class::Ddl, "DROP ROLE"),
            ObjectType::User => (Class::Ddl, "DROP USER"),
            _ => (Class::Ddl, "DROP"),
        },
        Statement::DropFunction(_)
        | Statement::DropDomain(_)
        | Statement::DropProcedure { .. }
        | Statement::DropSecret { .. }
        | Statement::DropPolicy(_)
        | Statement::DropConnector { .. }
        | Statement::DropExtension(_)
        | Statement::DropOperator(_)
        | Statement::DropOperatorFamily(_)
        | Statement::DropOperatorClass(_)
        | Statement::DropTrigger(_) => (Class::Ddl, "DROP"),
        Statement::AlterTable(_) => (Class::Ddl, "ALTER TABLE"),
        Statement::AlterSchema(_)
        | Statement::AlterIndex { .. }
        | Statement::AlterView { .. }
        | Statement::AlterFunction(_)
        | Statement::AlterType(_)
        | Statement::AlterCollation(_)
        | Statement::AlterOperator(_)
        | Statement::AlterOperatorFamily(_)
        | Statement::AlterOperatorClass(_)
        | Statement::AlterTextSearch(_)
        | Statement::AlterPolicy(_)
        | Statement::AlterConnector { .. } => (Class::Ddl, "ALTER"),
        Statement::RenameTable(_) => (Class::Ddl, "RENAME"),
        Statement::Comment { .. } => (Class::Ddl, "COMMENT"),
        Statement::CreateTable(_) => (Class::Ddl, "CREATE TABLE"),
        Statement::CreateView(_) => (Class::Ddl, "CREATE VIEW"),
        Statement::CreateIndex(_) => (Class::Ddl, "CREATE INDEX"),
        Statement::CreateVirtualTable { .. }
        | Statement::CreateSecret { .. }
        | Statement::CreateServer(_)
        | Statement::CreatePolicy(_)
        | Statement::CreateConnector(_)
        | Statement::CreateOperator(_)
        | Statement::CreateOperatorFamily(_)
        | Statement::CreateOperatorClass(_)
        | Statement::CreateTextSearch(_)
        | Statement::CreateExtension(_)
        | Statement::CreateCollation(_)
        | Statement::CreateSchema { .. }
        | Statement::CreateDatabase { .. }
        | Statement::CreateFunction(_)
        | Statement::CreateTrigger(_)
        | Statement::CreateProcedure { .. }
        | Statement::CreateMacro { .. }
        | Statement::CreateStage { .. }
        | Statement::CreateFileFormat { .. }
        | Statement::CreateWarehouse(_)
        | Statement::CreateSequence { .. }
        | Statement::CreateDomain(_)
        | Statement::CreateType { .. } => (Class::Ddl, "CREATE"),
        _ => (Class::Unknown, "a statement that this rule does not know"),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "fits an iterator")]
fn writes(mode: &TransactionMode) -> bool {
    matches!(
        mode,
        TransactionMode::AccessMode(TransactionAccessMode::ReadWrite)
    )
}

fn procedure(name: &ObjectName, what: &'static str) -> (Class, &'static str) {
    let parts = parts(name);
    if let Some(class) = names::function(&parts) {
        return (class, what);
    }
    let tells = parts
        .last()
        .is_some_and(|last| names::TELLING_PROCEDURES.contains(&last.as_str()));
    if tells {
        (Class::Read, what)
    } else {
        (Class::Dynamic, what)
    }
}

fn pragma(name: &ObjectName, value: Option<&ValueWithSpan>, is_eq: bool) -> (Class, &'static str) {
    let last = parts(name).pop().unwrap_or_default();
    if last == "query_only" && value.is_some_and(|value| is_on(&value.to_string())) {
        return (Class::Session, "PRAGMA");
    }
    let has_value = value.is_some();
    let tells = names::TELLING_PRAGMAS.contains(&last.as_str()) && !is_eq
        || names::SETTING_PRAGMAS.contains(&last.as_str()) && !has_value;
    if tells {
        (Class::Read, "PRAGMA")
    } else {
        (Class::Admin, "PRAGMA that changes something")
    }
}

/// Whether the text of a value turns a switch on.
fn is_on(value: &str) -> bool {
    let value = value.trim_matches('\'').to_ascii_lowercase();
    ["on", "true", "yes", "1"].contains(&value.as_str())
}

fn classify_set(set: &Set) -> (Class, &'static str) {
    let variable = |name: &ObjectName, global: bool| {
        let parts = parts(name);
        let first = parts.first().map(String::as_str).unwrap_or_default();
        let last = parts.last().map(String::as_str).unwrap_or_default();
        // `@x` is a variable of the session; `@@global.x` is one of the server.
        let own = first.starts_with('@') && !first.starts_with("@@");
        let plain = last.trim_start_matches('@');
        let qualified = parts.iter().any(|part| {
            matches!(
                part.trim_start_matches('@'),
                "global" | "persist" | "persist_only"
            )
        });
        own || (!global && !qualified && names::HARMLESS_VARIABLES.contains(&plain))
    };
    let is_global = |scope: Option<sqlparser::ast::ContextModifier>| {
        matches!(scope, Some(sqlparser::ast::ContextModifier::Global))
    };
    let harmless = match set {
        Set::SingleAssignment {
            scope,
            variable: name,
            values,
            ..
        } => {
            // A session may bind its own hands.
            let binds = parts(name)
                .last()
                .is_some_and(|last| names::BINDING_VARIABLES.contains(&last.trim_start_matches('@')));
            variable(name, is_global(*scope))
                || binds
                    && !is_global(*scope)
                    && name.0.len() == 1
                    && values.iter().all(|value| is_on(&value.to_string()))
        }
        Set::MultipleAssignments { assignments } => assignments
            .iter()
            .all(|assignment| variable(&assignment.name, is_global(assignment.scope))),
        Set::ParenthesizedAssignments { variables, .. } => variables.iter().all(|name| variable(name, false)),
        Set::SetSessionParam(sqlparser::ast::SetSessionParamKind::Generic(parameter)) => parameter
            .names
            .iter()
            .all(|name| names::HARMLESS_VARIABLES.contains(&name.to_ascii_lowercase().as_str())),
        Set::SetSessionParam(sqlparser::ast::SetSessionParamKind::Statistics(_))
        | Set::SetTimeZone { .. }
        | Set::SetNames { .. }
        | Set::SetNamesDefault {} => true,
        Set::SetTransaction { modes, .. } => !modes.iter().any(writes),
        _ => false,
    };
    match set {
        _ if harmless => (Class::Session, "SET"),
        Set::SetRole { .. } | Set::SetSessionAuthorization(_) => {
            (Class::Admin, "SET ROLE or SESSION AUTHORIZATION")
        }
        _ => (Class::Admin, "SET of a setting that is not known to be harmless"),
    }
}

/// Whether a `WHERE` chooses among rows: it looks at a column, and not in a way that is true of every row.
fn chooses(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => chooses(inner),
        Expr::BinaryOp {
            left,
            op: BinaryOperator::And,
            right,
        } => chooses(left) || chooses(right),
        Expr::BinaryOp {
            left,
            op: BinaryOperator::Or,
            right,
        } => chooses(left) && chooses(right) && !are_opposites(left, right),
        Expr::UnaryOp {
            op: UnaryOperator::Not,
            expr,
        } => chooses(expr),
        Expr::BinaryOp { left, op, right } => {
            (has_column(left) || has_column(right))
                && !(are_same(left, right)
                    && matches!(
                        op,
                        BinaryOperator::Eq
                            | BinaryOperator::GtEq
                            | BinaryOperator::LtEq
                            | BinaryOperator::Spaceship
                    ))
        }
        Expr::IsNotDistinctFrom(left, right) => {
            (has_column(left) || has_column(right)) && !are_same(left, right)
        }
        Expr::Like {
            negated: false,
            expr,
            pattern,
            ..
        }
        | Expr::ILike {
            negated: false,
            expr,
            pattern,
            ..
        } => has_column(expr) && !matches_all(pattern) && expr != pattern,
        Expr::InList {
            expr,
            list,
            negated: false,
        } => has_column(expr) && !list.contains(expr),
        Expr::Between {
            expr,
            low,
            high,
            negated: false,
        } => has_column(expr) && !(low == expr && high == expr),
        other => has_column(other),
    }
}

/// Whether both are the same expression, or the same column, whose table one of them names.
fn are_same(left: &Expr, right: &Expr) -> bool {
    let (left, right) = (bare(left), bare(right));
    match (left, right) {
        (Expr::Identifier(name), Expr::CompoundIdentifier(names))
        | (Expr::CompoundIdentifier(names), Expr::Identifier(name)) => names
            .last()
            .is_some_and(|last| last.value.eq_ignore_ascii_case(&name.value)),
        (Expr::Identifier(one), Expr::Identifier(other)) => one.value.eq_ignore_ascii_case(&other.value),
        _ => left == right,
    }
}

fn matches_all(pattern: &Expr) -> bool {
    let Expr::Value(value) = pattern else { return false };
    match &value.value {
        Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => {
            !text.is_empty() && text.chars().all(|c| c == '%')
        }
        _ => false,
    }
}

/// What is inside of parentheses.
fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => bare(inner),
        other => other,
    }
}

fn are_opposites(left: &Expr, right: &Expr) -> bool {
    match (bare(left), bare(right)) {
        (Expr::IsNull(one), Expr::IsNotNull(other)) | (Expr::IsNotNull(one), Expr::IsNull(other)) => {
            one == other
        }
        (
            Expr::BinaryOp {
                left: left_a,
                op: op_a,
                right: right_a,
            },
            Expr::BinaryOp {
                left: left_b,
                op: op_b,
                right: right_b,
            },
        ) => {
            left_a == left_b
                && right_a == right_b
                && matches!(
                    (op_a, op_b),
                    (BinaryOperator::Eq, BinaryOperator::NotEq)
                        | (BinaryOperator::NotEq, BinaryOperator::Eq)
                        | (BinaryOperator::Lt, BinaryOperator::GtEq)
                        | (BinaryOperator::GtEq, BinaryOperator::Lt)
                        | (BinaryOperator::Gt, BinaryOperator::LtEq)
                        | (BinaryOperator::LtEq, BinaryOperator::Gt)
                )
        }
        (
            Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr,
            },
            other,
        )
        | (
            other,
            Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr,
            },
        ) => bare(expr) == other,
        _ => false,
    }
}

/// Whether a column is looked at.
fn has_column(expr: &Expr) -> bool {
    struct Columns;

    impl Visitor for Columns {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Identifier(name)
                    // `SQLite` and `MySQL` know these words; other dialects read columns in them.
                    if ["true", "false", "null"].iter().any(|word| name.value.eq_ignore_ascii_case(word)) =>
                {
                    ControlFlow::Continue(())
                }
                Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }

    expr.visit(&mut Columns).is_break()
}
