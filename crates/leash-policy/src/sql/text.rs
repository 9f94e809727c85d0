//! SQL as text: versioned comments, ends of lines, place holders and templates. What has to be known before it is taken
//! apart.

use super::reword::STATEMENTS;
use crate::args;

/// `text` with the comments that `MySQL` and `MariaDB` execute (`/*!50000 … */`, `/*M! … */`) laid open, where there are any.
///
/// Every byte keeps its place, so that what is said of the result is true of the text.
pub(super) fn lay_open(text: &str) -> Option<String> {
    versioned(text, true)
}

/// `text` without these comments, where there are any: what a server reads that is older than they ask for.
pub(super) fn close(text: &str) -> Option<String> {
    versioned(text, false)
}

fn versioned(text: &str, opens: bool) -> Option<String> {
    if !text.contains("/*!") && !text.contains("/*M!") {
        return None;
    }
    let mut out: Vec<u8> = text.as_bytes().to_vec();
    let mut blank = |from: usize, to: usize| {
        for byte in out.iter_mut().take(to).skip(from) {
            *byte = b' ';
        }
    };
    let bytes = text.as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
    let rest = |index: usize| bytes.get(index..).unwrap_or(&[]);
    let (mut i, mut open) = (0_usize, 0_usize);
    while i < bytes.len() {
        let next = i.saturating_add(1);
        i = match at(i) {
            quote @ (b'\'' | b'"' | b'`') => end_of_quoted(bytes, i, quote),
            b'#' => end_of_line(bytes, i),
            b'-' if at(next) == b'-' && (at(i.saturating_add(2)) <= b' ') => end_of_line(bytes, i),
            b'/' if !opens && (rest(i).starts_with(b"/*!") || rest(i).starts_with(b"/*M!")) => {
                let found = rest(i.saturating_add(2)).windows(2).position(|two| two == b"*/");
                let end = found.map_or(bytes.len(), |found| i.saturating_add(found).saturating_add(4));
                blank(i, end);
                end
            }
            b'/' if rest(i).starts_with(b"/*!") || rest(i).starts_with(b"/*M!") => {
                let mut end = i.saturating_add(if at(i.saturating_add(2)) == b'!' { 3 } else { 4 });
                let digits = rest(end)
                    .iter()
                    .take(6)
                    .take_while(|byte| byte.is_ascii_digit())
                    .count();
                if digits >= 5 {
                    end = end.saturating_add(digits);
                }
                blank(i, end);
                open = open.saturating_add(1);
                end
            }
            b'/' if at(next) == b'*' => {
                let found = rest(i.saturating_add(2)).windows(2).position(|two| two == b"*/");
                found.map_or(bytes.len(), |found| i.saturating_add(found).saturating_add(4))
            }
            b'*' if open > 0 && at(next) == b'/' => {
                blank(i, i.saturating_add(2));
                open = open.saturating_sub(1);
                i.saturating_add(2)
            }
            _ => next,
        };
    }
    String::from_utf8(out).ok()
}

fn end_of_line(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or(&[]);
    let found = rest.iter().position(|byte| *byte == b'\n');
    found.map_or(bytes.len(), |found| from.saturating_add(found))
}

fn end_of_quoted(bytes: &[u8], from: usize, quote: u8) -> usize {
    let mut i = from.saturating_add(1);
    while let Some(byte) = bytes.get(i) {
        i = i.saturating_add(1);
        if *byte == b'\\' && quote != b'`' {
            i = i.saturating_add(1);
        } else if *byte == quote {
            if bytes.get(i) == Some(&quote) {
                i = i.saturating_add(1);
            } else {
                return i;
            }
        }
    }
    bytes.len()
}

/// `text` with every carriage return that stands alone made an end of line, where there is a comment that it may end:
/// what some servers, and not others, take it for.
pub(super) fn line_ends(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let alone = memchr::memchr_iter(b'\r', bytes).any(|at| bytes.get(at.saturating_add(1)) != Some(&b'\n'));
    (alone && (text.contains("--") || text.contains('#'))).then(|| text.replace('\r', "\n"))
}

/// `text` with the place holders of drivers and mappers (`%s`, `%(name)s`, `#{name}`) and the simplest calls of dbt's templates
/// (`{{ ref('model') }}`) replaced by what a parser knows, where there are any.
///
/// No database understands either, so that a text that has them never runs as it is; what replaces them keeps what is
/// around them as it was. Only tried on a text that does not parse.
pub(super) fn fill_in(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut filled = false;
    // What Metabase leaves out where nothing is given for it: `[[AND status = {{status}}]]`.
    let optional = text.contains("[[") && text.contains("{{");
    while let Some(at) =
        rest.find(|c| matches!(c, '%' | '{' | '#' | '$') || optional && matches!(c, '[' | ']'))
    {
        let (before, after) = rest.split_at_checked(at)?;
        out.push_str(before);
        if optional && (after.starts_with("[[") || after.starts_with("]]")) {
            out.push(' ');
            rest = after.get(2..)?;
            filled = true;
            continue;
        }
        if let Some((replacement, len)) = place_holder(after).or_else(|| template(after)) {
            out.push_str(replacement);
            rest = after.get(len..)?;
            filled = true;
        } else {
            let len = after.chars().next().map_or(1, char::len_utf8);
            out.push_str(after.get(..len)?);
            rest = after.get(len..)?;
        }
    }
    out.push_str(rest);
    filled.then_some(out)
}

fn place_holder(text: &str) -> Option<(&'static str, usize)> {
    if let Some(named) = text.strip_prefix("#{") {
        let (name, after) = named.split_once('}')?;
        let is_name = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.,= ".contains(&byte));
        return is_name.then(|| (" NULL ", text.len().saturating_sub(after.len())));
    }
    // `${name}` of shells and of tools, `{name}` of Python, `{name:Type}` of ClickHouse: the name of a table, or a value.
    if let Some(named) = text.strip_prefix("${").or_else(|| text.strip_prefix('{')) {
        let (name, after) = named.split_once('}')?;
        let name = name.split_once(':').map_or(name, |(name, of)| {
            if of
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_()".contains(&byte))
            {
                name
            } else {
                ""
            }
        });
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte));
        return is_name.then(|| ("filled_in", text.len().saturating_sub(after.len())));
    }
    let rest = text.strip_prefix('%')?;
    let after = match rest.strip_prefix('(') {
        Some(named) => {
            let (name, after) = named.split_once(')')?;
            let is_name = !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            is_name.then_some(after)?
        }
        None => rest,
    };
    let after = after.strip_prefix('s')?;
    let ends = !after.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '(');
    ends.then(|| (" NULL ", text.len().saturating_sub(after.len())))
}

/// Templates of dbt and of Airflow: `{{ ref('a') }}`, `{{ var("a") }}`, `{{ this }}`, `{{ ds }}`, `{{ config(…) }}`, macros with plain
/// arguments, and `{% if … %}`, `{% for … %}`, `{% set … %}`.
fn template(text: &str) -> Option<(&'static str, usize)> {
    // Macros that run statements when the template is read.
    const RUNNING: &[&str] = &[
        "run_query",
        "statement",
        "execute",
        "call",
        "adapter",
        "dispatch",
        "log",
    ];
    let plain = |inner: &str| {
        inner
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-. ,='\"()[]:+|!<>%/\n".contains(&byte))
            && !args::words(inner)
                .iter()
                .any(|word| RUNNING.contains(&word.as_str()))
            && !inner.contains("run_query")
    };
    if let Some(rest) = text.strip_prefix("{#") {
        let (_, after) = rest.split_once("#}")?;
        return Some((" ", text.len().saturating_sub(after.len())));
    }
    if let Some(rest) = text.strip_prefix("{%") {
        let (inner, after) = rest.split_once("%}")?;
        let word = inner.trim_start_matches('-').trim();
        // What stands between the items of a list stands there at every turn but the last.
        if word.starts_with("if not loop.last") {
            let (item, after) = after.split_once("{%")?;
            let (end, after) = after.split_once("%}")?;
            let is_end = end.trim_matches('-').trim() == "endif" && matches!(item.trim(), "," | "and" | "or");
            return is_end.then(|| (" ", text.len().saturating_sub(after.len())));
        }
        let known = ["if ", "elif ", "endif", "else", "for ", "endfor", "set "]
            .iter()
            .any(|known| word.starts_with(known));
        return (known && plain(inner)).then(|| (" ", text.len().saturating_sub(after.len())));
    }
    let rest = text.strip_prefix("{{")?;
    let (inner, after) = rest.split_once("}}")?;
    let len = text.len().saturating_sub(after.len());
    // Filters (`| join(', ')`) change how a value is written.
    let (call, filters) = inner.split_once('|').unwrap_or((inner, ""));
    let call = call.trim_matches('-').trim();
    if !plain(inner) || !are_quoted_well(filters) {
        return None;
    }
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte))
    };
    if is_name(call) {
        return Some(("dbt_model", len));
    }
    let (name, arguments) = call.split_once('(')?;
    let name = name.trim_end();
    if !is_name(name)
        || !arguments.ends_with(')')
        || arguments.contains("hook")
        || !are_quoted_well(arguments)
    {
        return None;
    }
    Some((if name == "config" { " " } else { "dbt_model" }, len))
}

/// Whether what stands in quotes in the arguments of a macro is names, numbers and the like, and no text that quotes may end.
fn are_quoted_well(arguments: &str) -> bool {
    let mut rest = arguments;
    while let Some(at) = rest.find(['\'', '"']) {
        let Some((quote, inside)) = rest
            .get(at..at.saturating_add(1))
            .zip(rest.get(at.saturating_add(1)..))
        else {
            return false;
        };
        let Some((quoted, after)) = inside.split_once(quote) else {
            return false;
        };
        let plain = quoted
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-. :,%/".contains(&byte));
        let reads_as_sql = quoted.contains(' ')
            && quoted.split_whitespace().any(|word| {
                let word = word.to_ascii_lowercase();
                STATEMENTS.contains(&word.as_str())
                    || matches!(word.as_str(), "from" | "where" | "union" | "or" | "and")
            });
        if !plain || reads_as_sql {
            return false;
        }
        rest = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versioned_comments_are_laid_open_and_nothing_else_is() {
        for (text, open) in [
            ("/*!50000 DROP TABLE t */", Some("         DROP TABLE t   ")),
            ("/*M!100100 DROP*/", Some("           DROP  ")),
            ("SELECT '/*! DROP */'", Some("SELECT '/*! DROP */'")),
            ("SELECT 1 /* x */", None),
            ("-- /*! x\n/*! y */", Some("-- /*! x\n    y   ")),
        ] {
            assert_eq!(lay_open(text).as_deref(), open, "{text}");
        }
        assert_eq!(close("a/*!99999 '*/;b").as_deref(), Some("a            ;b"));
    }

    #[test]
    fn place_holders_are_filled_in() {
        assert_eq!(fill_in("a = %s").as_deref(), Some("a =  NULL "));
        assert_eq!(fill_in("a = %(id)s").as_deref(), Some("a =  NULL "));
        assert_eq!(fill_in("a %sum"), None);
        assert_eq!(fill_in("from {{ ref('x') }}").as_deref(), Some("from dbt_model"));
        assert_eq!(
            fill_in("in ({{ ids | join(', ') }})").as_deref(),
            Some("in (dbt_model)")
        );
        assert_eq!(
            fill_in("from ${a}, {b.c}").as_deref(),
            Some("from filled_in, filled_in")
        );
        for text in [
            "from {{ run_query('x') }}",
            "{{ config(pre_hook='delete from t') }}",
            "{{ f('drop table t') }}",
            "{{ x | replace('a', 'b from c') }}",
            "{% do run_query('x') %}",
        ] {
            assert_eq!(fill_in(text), None, "{text}");
        }
        assert_eq!(fill_in("'{{ var(' INTO t FROM u WHERE a=') }}'"), None);
    }
}
