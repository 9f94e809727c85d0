//! The SQL rule against `SQLite` itself: what `sqlite3_stmt_readonly` says of a statement that `SQLite` has compiled.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::sync::LazyLock;

use leash_policy::{BlockedSql, SqlDialect, SqlMode};
use proptest::prelude::*;
use rusqlite::Connection;

static RULE: LazyLock<BlockedSql> =
    LazyLock::new(|| BlockedSql::new(SqlMode::ReadOnly).dialect(SqlDialect::Sqlite));

fn database() -> Connection {
    let database = Connection::open_in_memory().unwrap();
    let schema = "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT, c); CREATE TABLE u (a, d UNIQUE, \"order\");
                  CREATE INDEX i ON t (b); CREATE VIEW v AS SELECT a, d FROM u;
                  CREATE TRIGGER tr INSTEAD OF DELETE ON v BEGIN DELETE FROM u WHERE a = old.a; END;";
    database.execute_batch(schema).unwrap();
    database
}

/// Whether `SQLite` says that the statement only reads; `None` if it is none, or an `EXPLAIN`, of which it says what it
/// would of the statement in it.
fn reads(database: &Connection, sql: &str) -> Option<bool> {
    let statement = database.prepare(sql).ok()?;
    (statement.is_explain() == 0).then(|| statement.readonly())
}

/// Statements that change something, and say so to whoever compiles them.
const WRITING: &[&str] = &[
    "INSERT INTO t VALUES (1, 2, 3)",
    "INSERT INTO t DEFAULT VALUES",
    "INSERT OR REPLACE INTO t (a) VALUES (1)",
    "INSERT OR ROLLBACK INTO t (a) SELECT 1",
    "REPLACE INTO t (a) VALUES (1)",
    "INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 2",
    "INSERT INTO t (a) VALUES (1) RETURNING *",
    "WITH x AS (SELECT 1) INSERT INTO t (a) SELECT * FROM x",
    "WITH x AS (SELECT 1) REPLACE INTO t (a) SELECT * FROM x",
    "WITH x AS (SELECT 1) UPDATE t SET b = 1",
    "WITH x AS (SELECT 1) DELETE FROM t",
    "UPDATE t SET b = 1",
    "UPDATE OR IGNORE t SET b = 1 WHERE a = 1",
    "UPDATE t SET b = u.d FROM u WHERE u.a = t.a",
    "UPDATE t SET (b, c) = (1, 2) RETURNING a",
    "UPDATE t INDEXED BY i SET c = 1 WHERE b = 1",
    "DELETE FROM t",
    "DELETE FROM t NOT INDEXED WHERE a = 1 RETURNING *",
    "DELETE FROM v WHERE a = 1",
    "DELETE FROM main.t AS x WHERE x.a IN (SELECT a FROM u)",
    "CREATE TABLE n (a)",
    "CREATE TABLE IF NOT EXISTS t (a)",
    "CREATE TABLE n AS SELECT 1",
    "CREATE TABLE n (a INT PRIMARY KEY) STRICT, WITHOUT ROWID",
    "CREATE TEMP TABLE n (a)",
    "CREATE TEMP VIEW n AS SELECT 1",
    "CREATE INDEX n ON t (a, b COLLATE NOCASE DESC) WHERE c IS NOT NULL",
    "CREATE VIEW n (x) AS SELECT 1",
    "CREATE TRIGGER n AFTER INSERT ON t BEGIN SELECT 1; END",
    "DROP TABLE t",
    "DROP INDEX i",
    "DROP VIEW v",
    "DROP TRIGGER tr",
    "ALTER TABLE t RENAME TO n",
    "ALTER TABLE t RENAME COLUMN b TO n",
    "ALTER TABLE t RENAME b TO n",
    "ALTER TABLE t ADD n",
    "ALTER TABLE t DROP COLUMN c",
    "REINDEX",
    "REINDEX t",
    "ANALYZE",
    "ANALYZE main.t",
    "VACUUM",
    "VACUUM main INTO '/nowhere/x'",
    "BEGIN IMMEDIATE",
    "BEGIN EXCLUSIVE TRANSACTION",
    "PRAGMA user_version = 1",
    "PRAGMA application_id(1)",
    "PRAGMA journal_mode = MEMORY",
    "PRAGMA main.journal_mode(OFF)",
    "PRAGMA incremental_vacuum(5)",
    "PRAGMA wal_checkpoint(FULL)",
    "PRAGMA schema_version = 7",
];

/// Statements that only look, as tools and people write them.
const READING: &[&str] = &[
    "SELECT 1",
    "SELECT * FROM t",
    "SELECT t.*, u.\"order\" FROM t JOIN u USING (a) WHERE b ISNULL OR c NOTNULL OR d NOT NULL",
    "SELECT a IS 5, a IS NOT 5, b IS NOT DISTINCT FROM c FROM t",
    "SELECT a << 1, a >> 1, a & 1 | 2, ~a, -a, +a, a % 2, a == 1, a <> 1, a || 'x' FROM t",
    "SELECT a IN u FROM (SELECT 1 AS a) WHERE 0",
    "SELECT * FROM t INDEXED BY i WHERE b = 'x'",
    "SELECT * FROM t NOT INDEXED WHERE b = 'x'",
    "SELECT b FROM t WHERE b GLOB 'x*' AND b NOT GLOB '[a-c]?' AND b LIKE 'a!%' ESCAPE '!'",
    "SELECT [a], `b`, \"c\", 'd' FROM [t]",
    "SELECT a AS 'name', b \"other\", c third FROM t",
    "SELECT count(*) FILTER (WHERE a > 1), total(a), group_concat(b, ';') FROM t GROUP BY c HAVING count(*) > 1",
    "SELECT row_number() OVER (PARTITION BY b ORDER BY c DESC), sum(a) OVER w FROM t WINDOW w AS (ORDER BY a)",
    "SELECT sum(a) OVER (ORDER BY a GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW EXCLUDE TIES) FROM t",
    "SELECT sum(a) OVER (ORDER BY a ROWS UNBOUNDED PRECEDING EXCLUDE NO OTHERS) FROM t",
    "WITH x AS MATERIALIZED (SELECT a FROM t), y AS NOT MATERIALIZED (SELECT 1) SELECT * FROM x, y",
    "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT i FROM n",
    "SELECT CASE a WHEN 1 THEN 'x' ELSE 'y' END, iif(a, 1, 2), CAST(b AS REAL), x'00ff', 1e3, .5 FROM t",
    "SELECT EXISTS (SELECT 1 FROM t), (SELECT max(a) FROM t), (1, 2) = (1, 2)",
    "SELECT a FROM t UNION SELECT a FROM u EXCEPT SELECT 1 INTERSECT SELECT 2 ORDER BY 1 LIMIT 3 OFFSET 1",
    "SELECT a FROM t LIMIT 5, 10",
    "SELECT b COLLATE NOCASE FROM t ORDER BY b COLLATE NOCASE DESC NULLS LAST",
    "SELECT replace(b, 'x', 'y'), rowid, typeof(c) FROM t NATURAL LEFT JOIN u WHERE u.a BETWEEN 1 AND 2",
    "SELECT * FROM t LEFT JOIN u ON t.a = u.a CROSS JOIN v",
    "SELECT ?1, ?, :x, @y, $z",
    "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
    "SELECT * FROM pragma_table_info('t') WHERE pk",
    "SELECT json_extract(c, '$.a'), c -> '$.b', c ->> 'd' FROM t, json_each(t.c)",
    "SELECT date('now', '-1 month'), strftime('%Y', 'now'), unixepoch()",
    "VALUES (1, 'a'), (2, 'b')",
    "BEGIN",
    "BEGIN DEFERRED",
    "COMMIT",
    "END TRANSACTION",
    "ROLLBACK",
    "SAVEPOINT x",
    "PRAGMA table_info(t)",
    "PRAGMA table_info('t')",
    "PRAGMA main.index_list(t)",
    "PRAGMA index_xinfo(i)",
    "PRAGMA foreign_key_list(t)",
    "PRAGMA foreign_key_check",
    "PRAGMA user_version",
    "PRAGMA integrity_check",
    "PRAGMA page_count",
    "PRAGMA database_list",
    "PRAGMA encoding",
    "PRAGMA query_only = ON",
    "EXPLAIN SELECT * FROM t",
    "EXPLAIN DELETE FROM t",
    "EXPLAIN QUERY PLAN SELECT * FROM t WHERE a = 1",
];

#[test]
fn what_sqlite_calls_writing_is_blocked_and_what_only_looks_is_not() {
    let database = database();
    let mut wrong = Vec::new();
    for sql in WRITING {
        assert_eq!(reads(&database, sql), Some(false), "{sql}");
        if RULE.judge(sql).is_none() {
            wrong.push(format!("let through: {sql}"));
        }
    }
    for sql in READING {
        assert_ne!(reads(&database, sql), Some(false), "{sql}");
        if let Some(reason) = RULE.judge(sql) {
            wrong.push(format!("blocked: {sql}: {reason}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn pick(from: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(from).prop_map(str::to_owned)
}

fn join2(
    strategy: impl Strategy<Value = (String, String)>,
    between: &'static str,
) -> impl Strategy<Value = String> {
    strategy.prop_map(move |(one, two)| format!("{one}{between}{two}"))
}

fn column() -> impl Strategy<Value = String> {
    pick(&["a", "\"a\"", "[a]", "`a`", "A", "x.a", "rowid"])
}

fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        column(),
        pick(&[
            "1",
            "-2.5",
            "'x'",
            "'it''s; DROP TABLE t'",
            "NULL",
            "x'0f'",
            "?",
            ":p",
            "CURRENT_TIMESTAMP",
            "TRUE"
        ]),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        let two = || (inner.clone(), inner.clone());
        prop_oneof![
            (
                two(),
                pick(&[
                    "+", "||", "=", "==", "<>", "<", "AND", "OR", "IS", "IS NOT", "LIKE", "GLOB", "&", "<<",
                    ">>", "%", "->>"
                ])
            )
                .prop_map(|((one, two), op)| format!("({one} {op} {two})")),
            inner.clone().prop_map(|x| format!("NOT {x}")),
            inner.clone().prop_map(|x| format!("({x} ISNULL)")),
            inner.clone().prop_map(|x| format!("({x} NOT NULL)")),
            (two(), pick(&["coalesce", "max", "replace(1,2,", "ifnull"])).prop_map(|((one, two), name)| {
                if name.ends_with(',') {
                    format!("{name}{one})")
                } else {
                    format!("{name}({one}, {two})")
                }
            }),
            join2(two(), " THEN ").prop_map(|x| format!("CASE WHEN {x} END")),
            join2(two(), ", ").prop_map(|x| format!("(a IN ({x}))")),
            join2(two(), " AND ").prop_map(|x| format!("(a BETWEEN {x})")),
            inner
                .clone()
                .prop_map(|x| format!("(SELECT {x} FROM t AS x LIMIT 1)")),
            inner
                .clone()
                .prop_map(|x| format!("EXISTS (SELECT 1 FROM u AS x WHERE {x})")),
            inner.prop_map(|x| format!("CAST({x} AS TEXT)")),
        ]
    })
}

fn select() -> impl Strategy<Value = String> {
    let from = pick(&[
        "t AS x",
        "main.t AS x",
        "u x",
        "[t] AS x",
        "(SELECT a, rowid FROM t) AS x",
        "t AS x LEFT JOIN v ON x.a = v.d",
        "v AS x, json_each('[1]')",
    ]);
    let tail = pick(&[
        "",
        " LIMIT 5",
        " LIMIT 1, 2",
        " ORDER BY 1 DESC",
        " GROUP BY 1",
        " ORDER BY 1 COLLATE NOCASE LIMIT 1 OFFSET 2",
    ]);
    let head = pick(&["", "DISTINCT ", "ALL "]);
    let one = (head, expression(), from, prop::option::of(expression()), tail).prop_map(
        |(head, what, from, filter, tail)| {
            let filter = filter.map_or(String::new(), |filter| format!(" WHERE {filter}"));
            format!("SELECT {head}{what} FROM {from}{filter}{tail}")
        },
    );
    one.prop_recursive(2, 4, 2, |inner| {
        prop_oneof![
            (expression(), inner.clone())
                .prop_map(|(x, rest)| format!("SELECT {x} FROM t AS x UNION ALL {rest}")),
            inner
                .clone()
                .prop_map(|inner| format!("WITH y AS ({inner}) SELECT * FROM y")),
            inner
                .clone()
                .prop_map(|inner| format!("WITH y AS MATERIALIZED ({inner}) SELECT * FROM y")),
            inner.prop_map(|inner| format!("SELECT * FROM ({inner})")),
        ]
    })
}

fn writing() -> impl Strategy<Value = String> {
    let with = || {
        pick(&[
            "",
            "WITH y AS (SELECT 1) ",
            "WITH y AS (SELECT 1), z(a) AS (VALUES (1)) ",
        ])
    };
    let returning = || pick(&["", " RETURNING *", " RETURNING a AS b"]);
    let table = || pick(&["t", "main.t", "\"t\"", "[t]", "`t`"]);
    prop_oneof![
        (
            with(),
            pick(&["INSERT INTO", "INSERT OR IGNORE INTO", "REPLACE INTO"]),
            table(),
            select(),
            returning()
        )
            .prop_map(|(with, verb, table, select, end)| format!("{with}{verb} {table} (c) {select}{end}")),
        (
            with(),
            pick(&["UPDATE", "UPDATE OR FAIL"]),
            table(),
            expression(),
            returning()
        )
            .prop_map(|(with, verb, table, x, end)| format!(
                "{with}{verb} {table} AS x SET b = {x} WHERE {x}{end}"
            )),
        (with(), table(), expression(), returning())
            .prop_map(|(with, table, x, end)| format!("{with}DELETE FROM {table} AS x WHERE {x}{end}")),
        (
            pick(&[
                "TABLE",
                "TEMP TABLE",
                "VIEW",
                "TEMPORARY VIEW",
                "TABLE IF NOT EXISTS",
                "VIEW IF NOT EXISTS"
            ]),
            select()
        )
            .prop_map(|(kind, select)| format!("CREATE {kind} n AS {select}")),
        prop::sample::select(WRITING).prop_map(str::to_owned),
    ]
}

fn pragma() -> impl Strategy<Value = String> {
    let name = pick(&[
        "table_info",
        "index_list",
        "user_version",
        "application_id",
        "journal_mode",
        "foreign_keys",
        "page_size",
        "cache_size",
        "encoding",
        "auto_vacuum",
        "incremental_vacuum",
        "integrity_check",
        "optimize",
        "schema_version",
        "secure_delete",
        "synchronous",
        "wal_checkpoint",
        "freelist_count",
        "page_count",
        "default_cache_size",
        "max_page_count",
        "locking_mode",
        "foreign_key_check",
        "data_version",
        "temp_store",
        "writable_schema",
        "shrink_memory",
        "case_sensitive_like",
        "journal_size_limit",
        "wal_autocheckpoint",
        "full_column_names",
    ]);
    let value = pick(&[
        "", " = 1", " = 't'", "(t)", "(1)", " = ON", "('t')", " = -5", "(FULL)", " = WAL",
    ]);
    (pick(&["", "main.", "temp."]), name, value)
        .prop_map(|(schema, name, value)| format!("PRAGMA {schema}{name}{value}"))
}

/// The statement in another spelling: other white space, comments, other case.
fn respelled(sql: &str, gap: &str, lower: bool) -> String {
    let mut out = String::new();
    let mut quote = None;
    for c in sql.chars() {
        match quote {
            Some(end) if c == end => quote = None,
            None if matches!(c, '\'' | '"' | '`') => quote = Some(c),
            None if c == '[' => quote = Some(']'),
            _ => {}
        }
        match c {
            ' ' if quote.is_none() => out.push_str(gap),
            _ if lower && quote.is_none() => out.extend(c.to_lowercase()),
            _ => out.push(c),
        }
    }
    out
}

fn gap() -> impl Strategy<Value = String> {
    pick(&[
        " ",
        "\n",
        "\t",
        "\r\n",
        "\u{c}",
        " /* ' */ ",
        " -- x; '\n",
        " /* /* */ ",
    ])
}

/// Reading the mode of the journal takes no lock that writing takes and changes nothing, but `SQLite` calls any pragma of
/// the journal's mode writing.
fn only_asks_for_the_journal(sql: &str) -> bool {
    let bare: String = sql.to_lowercase().replace("main.", "").replace("temp.", "");
    bare.split_whitespace().eq(["pragma", "journal_mode"])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_sqlite_calls_writing_is_blocked_in_any_spelling(
        sql in prop_oneof![3 => writing(), 2 => pragma(), 1 => select()],
        gap in gap(),
        lower in any::<bool>(),
        before in pick(&["", "SELECT 1; ", ";", "-- x\n", "/* x */", "SELECT ';'; "]),
    ) {
        let database = database();
        let spelled = respelled(&sql, &gap, lower);
        if reads(&database, &spelled) == Some(false) && !only_asks_for_the_journal(&sql) {
            let whole = format!("{before}{spelled}");
            prop_assert!(RULE.judge(&whole).is_some(), "let through: {whole}");
        }
    }

    #[test]
    fn what_only_reads_passes(sql in select(), gap in gap(), explain in pick(&["", "EXPLAIN ", "EXPLAIN QUERY PLAN "])) {
        let database = database();
        let spelled = respelled(&format!("{explain}{sql}"), &gap, false);
        if database.prepare(&spelled).is_ok_and(|statement| statement.readonly()) {
            prop_assert_eq!(RULE.judge(&spelled), None, "{}", spelled);
        }
    }
}
