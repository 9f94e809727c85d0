//! Is this SQL? What a rule asks of a string whose name does not tell. Knows words, and no grammar.

use crate::args::{Hint, says, words};

/// Products whose name in a tool's name says that it talks to a database.
const DATABASES: &[&str] = &[
    "sql",
    "mysql",
    "postgres",
    "postgresql",
    "pg",
    "psql",
    "sqlite",
    "sqlite3",
    "mssql",
    "sqlserver",
    "mariadb",
    "db",
    "database",
    "bigquery",
    "snowflake",
    "redshift",
    "clickhouse",
    "duckdb",
    "oracle",
    "athena",
    "presto",
    "trino",
    "databricks",
    "dbt",
    "warehouse",
    "cockroach",
    "supabase",
    "neon",
    "tsql",
    "plsql",
    "nosql",
];
/// Last words of names that have SQL in them and hold none: `sql_dialect`, `sql_file`.
const ABOUT: &[&str] = &[
    "dialect",
    "mode",
    "version",
    "engine",
    "server",
    "type",
    "flavor",
    "flavour",
    "database",
    "host",
    "hostname",
    "explanation",
    "description",
    "comment",
    "comments",
    "question",
    "name",
    "id",
    "file",
    "path",
    "filename",
    "user",
    "username",
    "password",
    "error",
    "timeout",
    "port",
    "url",
    "uri",
    "dsn",
    "docs",
    "notes",
    "title",
    "prompt",
    "hint",
    "params",
    "parameters",
    "kind",
    "schema",
    "table",
    "tables",
    "limit",
    "driver",
    "instance",
    "connection",
];
/// Names of a statement, and of much else.
const MAYBE: &[&str] = &[
    "query",
    "queries",
    "statement",
    "statements",
    "stmt",
    "stmts",
    "ddl",
    "dml",
    "command",
    "commands",
    "cmd",
    "script",
    "code",
    "q",
];

/// Whether a tool's name says that it talks to a database.
pub(super) fn is_database(tool: &str) -> bool {
    words(tool).iter().any(|word| DATABASES.contains(&word.as_str()))
}

/// What the names above a string say of it; `told` is the one among them that tells most, `tool_has_database` what
/// [`is_database`] says of the tool. `fields` are names that somebody told the rule.
pub(super) fn hint(tool_has_database: bool, names: &[&str], told: Option<&str>, fields: &[String]) -> Hint {
    if names
        .iter()
        .any(|name| fields.iter().any(|field| field.eq_ignore_ascii_case(name)))
    {
        return Hint::Yes;
    }
    let Some(name) = told else {
        return if tool_has_database {
            Hint::Maybe
        } else {
            Hint::None
        };
    };
    let words = words(name);
    let last = words.last().map(String::as_str).unwrap_or_default();
    if words.len() > 1 && ABOUT.contains(&last) {
        return Hint::None;
    }
    if words.iter().any(|word| {
        matches!(
            word.as_str(),
            "sql" | "tsql" | "plsql" | "psql" | "hql" | "sqlquery" | "sqltext" | "rawsql"
        )
    }) || name.to_ascii_lowercase().ends_with("sql")
    {
        return Hint::Yes;
    }
    if tool_has_database && !says(name) {
        return Hint::Maybe;
    }
    if words.iter().any(|word| MAYBE.contains(&word.as_str())) {
        return if tool_has_database { Hint::Yes } else { Hint::Maybe };
    }
    Hint::None
}

/// Names of what people read. A statement under them is one all the same; what only starts as one is a sentence.
const PROSE: &[&str] = &[
    "message",
    "description",
    "explanation",
    "title",
    "subject",
    "body",
    "note",
    "notes",
    "comment",
    "comments",
    "prompt",
    "question",
    "summary",
    "log",
    "logs",
    "doc",
    "docs",
    "instruction",
    "instructions",
    "reason",
    "changelog",
    "diff",
    "patch",
    "markdown",
    "commit",
    "task",
    "todo",
    "goal",
    "answer",
    "reply",
    "feedback",
    "pattern",
    "regex",
    "regexp",
    "keyword",
    "keywords",
];

/// Whether what is under a name that tells this is for people to read.
pub(super) fn is_for_people(told: Option<&str>) -> bool {
    let last = told.map(words).and_then(|mut words| words.pop());
    last.is_some_and(|last| PROSE.contains(&last.as_str()))
}

/// Names of what is bound to the place holders of a statement.
const BOUND: &[&str] = &[
    "params",
    "parameters",
    "param",
    "bind",
    "binds",
    "bindings",
    "bind_vars",
    "bindvars",
    "bind_params",
    "bound",
    "query_params",
    "sql_params",
    "queryparams",
    "sqlparams",
    "values",
    "placeholders",
    "replacements",
    "parametervalues",
    "parameter_values",
];

/// Whether what is under these names is bound to place holders: it stands in a list or an object of them.
pub(super) fn is_bound(names: &[&str]) -> bool {
    names
        .iter()
        .rev()
        .take(3)
        .any(|name| BOUND.iter().any(|bound| name.eq_ignore_ascii_case(bound)))
}

/// Whether the text has place holders in it: `?`, `$1`, `:name`, `@p0`, `%s`.
pub(super) fn has_place_holders(text: &str) -> bool {
    let bytes = text.as_bytes();
    let behind = |at: usize| bytes.get(at.saturating_add(1)).copied().unwrap_or(b' ');
    memchr::memchr2_iter(b'?', b'%', bytes)
        .any(|at| bytes.get(at) == Some(&b'?') || matches!(behind(at), b's' | b'('))
        || memchr::memchr3_iter(b'$', b':', b'@', bytes).any(|at| match bytes.get(at) {
            Some(b'$') => behind(at).is_ascii_digit(),
            _ => behind(at).is_ascii_alphabetic(),
        })
}

/// The text inside of a fence of Markdown, or the text.
pub(super) fn unfenced(text: &str) -> &str {
    let trimmed = text.trim_start_matches('\u{feff}').trim();
    let Some(inner) = trimmed
        .strip_prefix("```")
        .and_then(|rest| rest.strip_suffix("```"))
    else {
        return text.strip_prefix('\u{feff}').unwrap_or(text);
    };
    match inner.split_once('\n') {
        Some((language, body)) if language.trim().chars().all(char::is_alphanumeric) => body,
        _ => inner,
    }
}

/// What is in fences of Markdown that say it is SQL; at most eight.
pub(super) fn fences(text: &str) -> Vec<&str> {
    text.split("```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| {
            let (language, body) = block.split_once('\n')?;
            words(language)
                .iter()
                .any(|word| word.ends_with("sql"))
                .then_some(body)
        })
        .take(8)
        .collect()
}

/// Programs that run what they are given as SQL.
const CLIENTS: &[&str] = &[
    "psql",
    "mysql",
    "mariadb",
    "sqlite3",
    "sqlite",
    "sqlcmd",
    "duckdb",
    "clickhouse-client",
    "snowsql",
    "usql",
    "pgcli",
    "mycli",
    "litecli",
    "bq",
    "sqlplus",
    "cockroach",
];

/// Whether the text reads as a command that runs one of them.
pub(super) fn runs_client(text: &str) -> bool {
    let mut piped = false;
    text.split_inclusive(['|', '&', ';', '\n', '(', '`'])
        .take(64)
        .any(|command| {
            let fed = std::mem::replace(&mut piped, command.ends_with('|'));
            let mut words = command
                .trim_end_matches(['|', '&', ';', '\n', '(', '`'])
                .split_whitespace()
                .skip_while(|word| word.contains('=') || matches!(*word, "env" | "exec" | "time"));
            let program = words.next().unwrap_or_default();
            let name = program.rsplit('/').next().unwrap_or_default();
            CLIENTS.contains(&name) && (fed || words.next().is_some())
                || matches!(name, "docker" | "podman" | "kubectl" | "ssh" | "sudo")
                    && words.any(|word| CLIENTS.contains(&word.rsplit('/').next().unwrap_or_default()))
        })
}

/// The first here-document of a command: `cat <<EOF | psql`.
fn here_document(text: &str) -> Option<&str> {
    let (_, after) = text.split_once("<<")?;
    let (line, body) = after.split_once('\n')?;
    let word = line
        .trim_start_matches(['-', '~', ' '])
        .split(|c: char| c.is_whitespace() || matches!(c, '|' | ';' | '&' | '>'))
        .next()?
        .trim_matches(['\'', '"', '\\']);
    let mut end = 0_usize;
    for line in body.split_inclusive('\n') {
        if line.trim() == word {
            break;
        }
        end = end.saturating_add(line.len());
    }
    body.get(..end)
}

/// What stands in quotes or in a here-document in a command that runs a client; at most seventeen.
pub(super) fn given_to_client(text: &str) -> Vec<&str> {
    if !runs_client(text) {
        return Vec::new();
    }
    let mut found: Vec<&str> = here_document(text).into_iter().collect();
    let mut rest = text;
    while let Some(at) = rest.find(['\'', '"'])
        && found.len() < 16
    {
        let Some((quote, inside)) = rest
            .get(at..at.saturating_add(1))
            .zip(rest.get(at.saturating_add(1)..))
        else {
            break;
        };
        let Some((quoted, after)) = inside.split_once(quote) else {
            break;
        };
        found.push(quoted);
        rest = after;
    }
    found
}

/// The words at the start of a text, behind comments, white space and parentheses; at most eight.
fn opening(text: &str) -> Vec<&str> {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| {
            c.is_whitespace()
                || c.is_control()
                || matches!(c, '(' | ';' | '\u{feff}' | '\u{200b}' | '\u{a0}' | '\\' | '`')
        });
        if let Some(comment) = rest.strip_prefix("--").or_else(|| rest.strip_prefix('#')) {
            rest = comment.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(versioned) = rest.strip_prefix("/*!").or_else(|| rest.strip_prefix("/*M!")) {
            rest = versioned.trim_start_matches(|c: char| c.is_ascii_digit());
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").map_or("", |(_, after)| after);
        } else {
            break;
        }
    }
    // What starts with a sign is no statement: a line of a diff, an item of a list.
    if !rest.starts_with(|c: char| c.is_alphabetic()) {
        return Vec::new();
    }
    rest.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$' || c == '@'))
        .filter(|word| !word.is_empty())
        .take(8)
        .collect()
}

/// Words that a statement starts with, and what has to follow for it to look like one: any of these words among the
/// next seven, or `""` for nothing.
const STARTS: &[(&str, &[&str])] = &[
    ("select", &["from", "into", "where", "union"]),
    ("with", &["as"]),
    ("insert", &["into", "ignore", "or", "overwrite", "low_priority"]),
    ("replace", &["into"]),
    ("update", &["set"]),
    ("delete", &["from", "where"]),
    ("merge", &["into", "using"]),
    ("truncate", &["table"]),
    (
        "drop",
        &[
            "table",
            "database",
            "schema",
            "view",
            "index",
            "user",
            "role",
            "function",
            "procedure",
            "trigger",
            "sequence",
            "type",
            "extension",
            "policy",
            "materialized",
            "owned",
            "login",
            "event",
            "tablespace",
            "column",
            "server",
        ],
    ),
    (
        "alter",
        &[
            "table",
            "database",
            "system",
            "user",
            "role",
            "session",
            "login",
            "schema",
            "view",
            "index",
            "function",
            "procedure",
            "default",
            "server",
            "sequence",
            "type",
            "extension",
            "policy",
            "materialized",
        ],
    ),
    (
        "create",
        &[
            "table",
            "database",
            "user",
            "role",
            "function",
            "procedure",
            "trigger",
            "view",
            "index",
            "temp",
            "temporary",
            "extension",
            "schema",
            "login",
            "type",
            "materialized",
            "virtual",
            "sequence",
            "external",
            "event",
            "policy",
            "server",
            "assembly",
        ],
    ),
    ("grant", &["to"]),
    ("revoke", &["from"]),
    ("copy", &["from", "to"]),
    ("load", &["data", "xml"]),
    (
        "explain",
        &["select", "analyze", "delete", "update", "insert", "query"],
    ),
    ("exec", &["", "sp_executesql", "xp_cmdshell"]),
    ("execute", &["immediate", "sp_executesql", "xp_cmdshell"]),
    ("attach", &["database", "as"]),
    ("detach", &["database"]),
    ("pragma", &[""]),
    ("vacuum", &["into", "full"]),
    ("rename", &["table"]),
    ("lock", &["table", "tables"]),
    ("set", &["role", "global", "session", "authorization", "persist"]),
    ("declare", &["cursor", "@", "begin"]),
    ("do", &["$$", "$"]),
    (
        "begin",
        &[
            "transaction",
            "tran",
            "execute",
            "delete",
            "update",
            "insert",
            "drop",
        ],
    ),
    ("shutdown", &["with"]),
    ("backup", &["database", "log"]),
    ("restore", &["database", "log"]),
    ("bulk", &["insert"]),
    ("waitfor", &["delay", "time"]),
    ("prepare", &["from", "as"]),
    ("reassign", &["owned"]),
    ("comment", &["on"]),
    ("security", &["label"]),
    ("import", &["foreign", "table"]),
    ("handler", &["open", "read"]),
    ("install", &["plugin", "component", "soname"]),
    ("dbcc", &[""]),
    ("reconfigure", &[""]),
    ("call", &["sys", "dbms"]),
    ("upsert", &["into"]),
    ("refresh", &["materialized"]),
    ("purge", &["binary", "master"]),
    ("change", &["master", "replication"]),
    ("start", &["slave", "replica", "transaction"]),
    ("stop", &["slave", "replica"]),
    ("reset", &["master", "slave", "replica", "role"]),
    ("repair", &["table"]),
    ("optimize", &["table"]),
    ("reindex", &["table", "index", "database", "schema", "system"]),
];

/// Whether the text starts as a statement does: with the words of one, or with one word in capitals.
pub(super) fn starts_as_sql(text: &str) -> bool {
    let words = opening(text);
    let Some((first, rest)) = words.split_first() else {
        return false;
    };
    let matches = |(start, follow): &(&str, &[&str])| {
        first.eq_ignore_ascii_case(start)
            && follow.iter().any(|word| {
                word.is_empty()
                    || rest.iter().any(|next| {
                        next.eq_ignore_ascii_case(word) || (*word == "@" && next.starts_with('@'))
                    })
            })
    };
    STARTS.iter().any(matches)
}

/// Whether the first two words are some that sentences hardly ever start with.
pub(super) fn starts_as_nothing_else(text: &str) -> bool {
    let words = opening(text);
    let at = |index: usize| {
        words
            .get(index)
            .map(|word| word.to_ascii_lowercase())
            .unwrap_or_default()
    };
    let (first, second) = (at(0), at(1));
    match first.as_str() {
        "create" if second == "role" => false,
        "create" if second == "event" => words.iter().any(|word| word.eq_ignore_ascii_case("schedule")),
        "drop" | "alter" | "create" => matches!(
            second.as_str(),
            "database"
                | "user"
                | "role"
                | "login"
                | "trigger"
                | "procedure"
                | "tablespace"
                | "extension"
                | "system"
        ),
        "backup" | "restore" => {
            second == "database" && words.iter().any(|word| word.eq_ignore_ascii_case("disk"))
        }
        "reset" | "change" | "start" | "stop" => {
            matches!(second.as_str(), "master" | "slave" | "replica" | "replication")
        }
        "purge" => second == "binary",
        "install" => matches!(second.as_str(), "plugin" | "component"),
        "execute" => second == "immediate",
        "reassign" => second == "owned",
        _ => false,
    }
}

/// Words that statements start with, but that a sentence or a command may start with, too.
pub(super) fn may_start_sql(text: &str) -> bool {
    const MORE: &[&str] = &[
        "call",
        "use",
        "listen",
        "notify",
        "reset",
        "discard",
        "analyze",
        "kill",
        "close",
        "open",
        "fetch",
        "commit",
        "rollback",
        "savepoint",
        "release",
        "deallocate",
        "unlisten",
        "checkpoint",
        "cluster",
        "reindex",
        "optimize",
        "repair",
        "flush",
        "purge",
        "start",
        "stop",
        "change",
        "values",
        "table",
        "show",
        "describe",
        "desc",
        "print",
        "deny",
        "go",
        "unlock",
        "refresh",
        "end",
        "abort",
    ];
    let words = opening(text);
    let Some(first) = words.first() else { return false };
    MORE.iter().any(|word| word.eq_ignore_ascii_case(first))
        || STARTS.iter().any(|(word, _)| word.eq_ignore_ascii_case(first))
}

/// How much of a text is written as SQL is, and as sentences are not.
pub(super) fn marks(text: &str) -> usize {
    let words = opening(text);
    let capitals = words
        .iter()
        .take(2)
        .filter(|word| word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
        .count();
    let quoted = text.matches('\'').count() >= 2 && !text.contains("n't ");
    let signs = [
        text.contains(';'),
        text.contains('='),
        text.contains("$$"),
        text.contains('*'),
        text.contains('('),
        text.contains("--"),
        quoted,
    ];
    signs
        .iter()
        .filter(|sign| **sign)
        .count()
        .saturating_add(capitals)
}

/// How much of a text is written as sentences are.
pub(super) fn prose(text: &str) -> usize {
    const COMMON: &[&str] = &[
        "the", "a", "an", "please", "how", "what", "why", "when", "does", "is", "are", "was", "your", "my",
        "me", "you", "i", "we", "our", "it", "this", "that", "of", "should", "would", "can", "could", "will",
        "be", "have", "has", "about", "there", "which", "who",
    ];
    let words = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .take(200);
    let mut found: Vec<&str> = words
        .filter_map(|word| {
            COMMON
                .iter()
                .find(|common| word.eq_ignore_ascii_case(common))
                .copied()
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    let ends = text.trim_end().ends_with(['.', '?', '!']);
    found.len().saturating_add(usize::from(ends))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::telling;

    #[test]
    fn names_tell_what_a_string_is() {
        for (tool, names, expected) in [
            ("t", &["sql"][..], Hint::Yes),
            ("t", &["SQL"], Hint::Yes),
            ("t", &["rawSql"], Hint::Yes),
            ("t", &["sql", "text"], Hint::Yes),
            ("t", &["sql_dialect"], Hint::None),
            ("t", &["query"], Hint::Maybe),
            ("run_sql", &["query"], Hint::Yes),
            ("web_search", &["query"], Hint::Maybe),
            ("t", &["prompt"], Hint::None),
        ] {
            assert_eq!(
                hint(is_database(tool), names, telling(names), &[]),
                expected,
                "{tool} {names:?}"
            );
        }
        assert_eq!(
            hint(false, &["weird"], Some("weird"), &["weird".into()]),
            Hint::Yes
        );
    }

    #[test]
    fn sentences_are_no_statements() {
        for text in [
            "Please explain what DROP TABLE does and when to use it.",
            "how to drop a table",
            "Best restaurants in Berlin",
        ] {
            assert!(!starts_as_sql(text), "{text}");
        }
        for text in [
            "DROP TABLE t",
            "-- hi\n (select a from b)",
            "/*!50000 DROP TABLE t */",
        ] {
            assert!(starts_as_sql(text), "{text}");
        }
        let prompt = "Select the best picture from our collection, and tell me why you chose it.";
        assert!(starts_as_sql(prompt) && prose(prompt) > marks(prompt));
    }
}
