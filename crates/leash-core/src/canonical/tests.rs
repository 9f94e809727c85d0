//! Against the vectors, against `serde_json`, and against itself.

use super::*;
use proptest::prelude::*;
use serde_json::json;

const CANONICAL: &str = include_str!("../../tests/data/canonical.json");
const PYTHON: &str = include_str!("../../tests/data/python-json.json");

fn vectors(text: &str, name: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(text).unwrap();
    all[name].as_array().unwrap().clone()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn written(write: impl FnOnce(&mut String)) -> String {
    let mut out = String::new();
    write(&mut out);
    out
}

#[test]
fn floats_are_written_as_the_vectors_have_them() {
    for vector in vectors(CANONICAL, "floats")
        .into_iter()
        .chain(vectors(PYTHON, "floats"))
    {
        let number = f64::from_bits(u64::from_str_radix(vector["bits"].as_str().unwrap(), 16).unwrap());
        let expected = vector["canonical"].as_str().unwrap();
        if number.is_finite() {
            assert_eq!(written(|out| write_f64(out, number)), expected);
            assert_eq!(canonicalize(expected.as_bytes()).unwrap(), expected);
            assert!(is_canonical(expected), "{expected}");
        } else {
            assert_eq!(written(|out| write_f64(out, number)), "null");
            assert!(check(expected.as_bytes()).is_err());
        }
    }
}

#[test]
fn documents_become_what_the_vectors_say() {
    for vector in vectors(CANONICAL, "documents") {
        let expected = vector["canonical"].as_str().unwrap();
        assert_eq!(
            canonicalize(vector["input"].as_str().unwrap().as_bytes()).unwrap(),
            expected
        );
        assert!(is_canonical(expected));
    }
}

#[test]
fn integers_and_strings_and_names_become_what_the_vectors_say() {
    for vector in vectors(PYTHON, "ints") {
        let expected = vector["canonical"].as_str().unwrap();
        assert_eq!(
            canonicalize(vector["value"].as_str().unwrap().as_bytes()).unwrap(),
            expected
        );
        assert!(is_canonical(expected));
    }
    for vector in vectors(PYTHON, "strings") {
        let codes = vector["codepoints"].as_array().unwrap().iter();
        let codes = codes.map(|code| u32::from_str_radix(&code.as_str().unwrap()[2..], 16).unwrap());
        let text: Option<String> = codes.clone().map(char::from_u32).collect();
        let Some(text) = text else {
            let escaped: String = codes.map(|code| format!("\\u{code:04x}")).collect();
            let error = canonicalize(format!("\"{escaped}\"").as_bytes()).unwrap_err();
            assert_eq!(error.kind(), JsonErrorKind::Surrogate);
            continue;
        };
        let expected = String::from_utf8(hex(vector["canonical_hex"].as_str().unwrap())).unwrap();
        assert_eq!(written(|out| write_str(out, &text)), expected);
        assert_eq!(canonicalize(expected.as_bytes()).unwrap(), expected);
        assert!(is_canonical(&expected));
        let mut units = [0; 2];
        let escaped: String = text
            .chars()
            .flat_map(|c| c.encode_utf16(&mut units).to_vec())
            .map(|unit| format!("\\u{unit:04X}"))
            .collect();
        assert_eq!(
            canonicalize(format!("\"{escaped}\"").as_bytes()).unwrap(),
            expected
        );
    }
    for vector in vectors(PYTHON, "keys")
        .into_iter()
        .chain(vectors(PYTHON, "events"))
    {
        let expected = vector["canonical"].as_str().unwrap();
        if expected.contains("NaN") || expected.contains("Infinity") {
            assert_eq!(
                canonicalize(expected.as_bytes()).unwrap_err().kind(),
                JsonErrorKind::NotFinite
            );
            assert!(!is_canonical(expected));
            continue;
        }
        assert_eq!(canonicalize(expected.as_bytes()).unwrap(), expected);
        assert!(is_canonical(expected));
        let tree: Value = serde_json::from_str(expected).unwrap();
        assert_eq!(written(|out| write_value(out, &tree)), expected);
    }
}

/// What a Python reader makes of a line, but for what it accepts and we, on purpose, do not.
#[test]
fn a_text_is_read_as_the_vectors_say_or_more_strictly() {
    for vector in vectors(PYTHON, "reparse") {
        let Some(line) = vector["line_hex"].as_str().map(hex).or_else(|| {
            let line = vector["line"].as_str().unwrap();
            (!line.contains("...")).then(|| line.as_bytes().to_vec())
        }) else {
            continue;
        };
        let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&line);
        let stricter = match std::str::from_utf8(line).unwrap() {
            r#"{"a":1e400}"# | r#"{"a":-1e400}"# => Some(JsonErrorKind::NumberRange),
            r#"{"a":NaN}"# | r#"{"a":Infinity}"# | r#"{"a":-Infinity}"# => Some(JsonErrorKind::NotFinite),
            r#"{"a":1,"a":2}"# => Some(JsonErrorKind::DuplicateMember),
            _ => None,
        };
        let ours = canonicalize(line);
        match (stricter, vector["canonical"].as_str()) {
            (Some(kind), _) => assert_eq!(ours.unwrap_err().kind(), kind),
            (None, Some(expected)) => assert_eq!(ours.unwrap(), expected),
            (None, None) => assert!(ours.is_err()),
        }
    }
}

#[test]
fn what_has_two_readings_is_refused_where_it_stands() {
    use JsonErrorKind as Kind;
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for (text, kind, offset) in [
        (r#"{"a":1,"b":2,"\u0061":3}"#, Kind::DuplicateMember, 14),
        (r#"[{"z":{"a":1,"a":2}}]"#, Kind::DuplicateMember, 14),
        (r#"{"b":1,"a":1,"b":1}"#, Kind::DuplicateMember, 14),
        ("[1e400]", Kind::NumberRange, 1),
        ("-1e400", Kind::NumberRange, 0),
        ("NaN", Kind::NotFinite, 0),
        ("[-Infinity]", Kind::NotFinite, 2),
        (r#""\ud800""#, Kind::Surrogate, 1),
        (r#""\udc00""#, Kind::Surrogate, 1),
        (r#""\ud800\u0041""#, Kind::Surrogate, 1),
        (r#""\ud800x""#, Kind::Surrogate, 1),
        ("\"\t\"", Kind::ControlCharacter, 1),
        ("[1,]", Kind::Syntax, 3),
        ("01", Kind::Syntax, 1),
        ("1 2", Kind::Syntax, 2),
        ("", Kind::Truncated, 0),
        ("{\"a\":", Kind::Truncated, 5),
        ("\"\\u12", Kind::Truncated, 3),
        ("\u{feff}1", Kind::Syntax, 0),
    ] {
        let error = check(text.as_bytes()).unwrap_err();
        assert_eq!((error.kind(), error.offset()), (kind, offset), "{text}");
        let mut out = String::from("before");
        assert_eq!(canonicalize_into(text.as_bytes(), &mut out), Err(error));
        assert_eq!(out, "before");
        assert!(!is_canonical(text));
    }
    assert_eq!(
        check(b"\"\xff\"").unwrap_err(),
        JsonError {
            kind: Kind::Utf8,
            offset: 1
        }
    );
    assert_eq!(
        check(deep(MAX_DEPTH + 1).as_bytes()).unwrap_err().kind(),
        Kind::Depth
    );
    assert!(!is_canonical(&deep(MAX_DEPTH + 1)));
    assert!(check(deep(MAX_DEPTH).as_bytes()).is_ok() && is_canonical(&deep(MAX_DEPTH)));
    assert!(serde_json::from_str::<Value>(&deep(MAX_DEPTH)).is_ok());
}

#[test]
fn integers_are_bounded_by_a_double_only() {
    let largest = format!("{:.0}", f64::MAX);
    let too_large = format!("2{}", "0".repeat(308));
    for text in [&largest, &format!("-{largest}"), &"9".repeat(308)] {
        assert_eq!(&canonicalize(text.as_bytes()).unwrap(), text);
        assert!(is_canonical(text));
        assert!(serde_json::from_str::<Value>(text).is_ok());
    }
    for text in [&too_large, &format!("-{too_large}"), &"9".repeat(4300)] {
        assert_eq!(
            check(text.as_bytes()).unwrap_err().kind(),
            JsonErrorKind::NumberRange
        );
        assert!(!is_canonical(text));
    }
}

#[test]
fn integers_are_written_at_their_borders() {
    for number in [0, 1, 9, 10, 99, 100, u64::MAX - 1, u64::MAX] {
        assert_eq!(written(|out| write_u64(out, number)), number.to_string());
    }
    for number in [0, -1, i64::MIN, i64::MAX] {
        assert_eq!(written(|out| write_i64(out, number)), number.to_string());
    }
}

#[test]
fn the_members_of_the_outermost_object_are_shown_with_their_places() {
    let text = r#"{"a\"":{"x":1},"b":[{"y":2}],"c":"d"}"#;
    let mut members = Vec::new();
    scan(text, |member| {
        members.push((member.name, member.start, &text[member.value]));
    })
    .unwrap();
    assert_eq!(
        members,
        [
            ("a\\\"", 1, r#"{"x":1}"#),
            ("b", 15, r#"[{"y":2}]"#),
            ("c", 29, r#""d""#)
        ]
    );
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ -~\\x00-\\x1f\"\\\\]{0,40}",
        proptest::collection::vec(
            prop::sample::select(vec![
                '\u{7f}',
                '\u{2028}',
                '\u{ffff}',
                '\u{10000}',
                '"',
                '\\',
                '\0',
                'a',
                '/'
            ]),
            0..12
        )
        .prop_map(|chars| chars.into_iter().collect::<String>()),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<u64>()
            .prop_map(f64::from_bits)
            .prop_filter("finite", |number| number.is_finite())
            .prop_map(Value::from),
        (-400_000_i32..400_000).prop_map(|cents| Value::from(f64::from(cents) / 100_000.0)),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((any_text(), inner), 0..6)
                .prop_map(|members| members.into_iter().collect::<Value>()),
        ]
    })
}

/// Pieces that meet the grammar's corners more often than random characters would.
fn almost_json() -> impl Strategy<Value = String> {
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\"a\"",
        "\"b\"",
        "\"\\u0061\"",
        "\\",
        "\\u",
        "d800",
        "\\udc00",
        " ",
        "\n",
        "0",
        "-",
        "-0",
        "1",
        "01",
        ".",
        ".5",
        "1.50",
        "e",
        "E+",
        "400",
        "1e400",
        "1e-400",
        "0.0001",
        "0.00001",
        "1e-05",
        "1e+16",
        "1e16",
        "true",
        "null",
        "NaN",
        "Infinity",
        "\u{e9}",
        "\u{1f}",
        "\"a\":1",
        "{\"a\":1}",
        "123456789012345678901",
        "0.1000000000000000055",
        "5e-324",
        "1e999999999999999999999",
        "0e999999999999999999999",
        "1e-999999999999999999999",
    ];
    proptest::collection::vec(prop::sample::select(pieces.to_vec()), 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn the_text_and_the_tree_become_the_same(value in any_value()) {
        let expected = written(|out| write_value(out, &value));
        for text in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
            prop_assert_eq!(&canonicalize(text.as_bytes()).unwrap(), &expected);
            prop_assert_eq!(is_canonical(&text), text == expected);
        }
        prop_assert_eq!(&canonicalize(expected.as_bytes()).unwrap(), &expected);
        prop_assert!(is_canonical(&expected));
        prop_assert_eq!(serde_json::from_str::<Value>(&expected).unwrap(), value);
    }

    #[test]
    fn a_scan_agrees_with_canonicalizing(text in almost_json()) {
        let same = canonicalize(text.as_bytes()).is_ok_and(|canonical| canonical == text);
        prop_assert_eq!(is_canonical(&text), same);
    }

    #[test]
    fn what_is_accepted_serde_json_accepts_and_the_rest_has_a_reason(text in almost_json()) {
        let theirs = serde_json::from_str::<Value>(&text);
        match check(text.as_bytes()) {
            Ok(()) => prop_assert!(theirs.is_ok()),
            Err(error) if error.kind() == JsonErrorKind::DuplicateMember => {}
            Err(_) => prop_assert!(theirs.is_err()),
        }
    }

    #[test]
    fn bytes_of_any_kind_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = check(&bytes);
        if let Ok(text) = canonicalize(&bytes) {
            prop_assert_eq!(canonicalize(text.as_bytes()).unwrap(), text);
        }
    }

    #[test]
    fn a_double_is_written_canonically_and_reads_back(bits in any::<u64>()) {
        let number = f64::from_bits(bits);
        prop_assume!(number.is_finite());
        let text = written(|out| write_f64(out, number));
        prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), bits);
        prop_assert!(is_canonical(&text));
    }

    #[test]
    fn a_decimal_is_canonical_where_it_is_its_own_canonical_form(
        sign in "-?", whole in "(0|[1-9][0-9]{0,17})", fraction in "[0-9]{1,20}", exponent in "(|e[+-][0-9]{2})"
    ) {
        let text = format!("{sign}{whole}.{fraction}{exponent}");
        prop_assert_eq!(is_canonical(&text), canonicalize(text.as_bytes()).unwrap() == text);
    }

    #[test]
    fn names_are_sorted_by_code_point(names in proptest::collection::hash_set(any_text(), 0..8)) {
        let mut sorted: Vec<_> = names.iter().cloned().collect();
        sorted.sort_by(|a, b| a.chars().cmp(b.chars()));
        let text = written(|out| {
            write_value(out, &names.iter().map(|name| (name.clone(), json!(1))).collect::<Value>());
        });
        let mut seen: Vec<String> = Vec::new();
        scan(&text, |member| seen.push(serde_json::from_str(&format!("\"{}\"", member.name)).unwrap())).unwrap();
        prop_assert_eq!(seen, sorted);
    }
}
