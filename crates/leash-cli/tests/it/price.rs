//! `price`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::run;

/// What `price` says of so many tokens, as JSON.
fn priced(args: &[&str]) -> Value {
    let ran = run(&[&["price", "--json"], args].concat());
    assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
    serde_json::from_str(ran.text()).unwrap()
}

const DAY: [&str; 2] = ["--at", "2026-11-22"];

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn a_call_costs_its_list_price() {
    for (args, provider, model, usd) in [
        (
            "claude-haiku-4-5 --input 1000000",
            "anthropic",
            "claude-haiku-4-5",
            "1.00",
        ),
        (
            "claude-haiku-4-5 --output 1000000",
            "anthropic",
            "claude-haiku-4-5",
            "5.00",
        ),
        (
            "claude-haiku-4-5-20251001 --provider anthropic --cache-read 1000 --cache-write 1000 --cache-write-1h 1000",
            "anthropic",
            "claude-haiku-4-5",
            "0.00335",
        ),
        (
            "gpt-4o --input 1000 --output 1000 --cache-read 1000",
            "openai",
            "gpt-4o",
            "0.01375",
        ),
        (
            "openai/gpt-4o-mini --input 7 --output 3",
            "openai",
            "gpt-4o-mini",
            "0.00000285",
        ),
        (
            "us.anthropic.claude-haiku-4-5-20251001-v1:0 --provider bedrock --input 1000000",
            "aws",
            "regional.anthropic.claude-haiku-4-5-20251001-v1:0",
            "1.10",
        ),
        (
            "gpt-4o --service-tier priority --input 1000000",
            "openai",
            "gpt-4o",
            "4.25",
        ),
        (
            "claude-haiku-4-5 --web-searches 2",
            "anthropic",
            "claude-haiku-4-5",
            "0.02",
        ),
        // Names as they come from the providers' own interfaces, without saying who.
        (
            "us.anthropic.claude-haiku-4-5-20251001-v1:0 --input 1000000",
            "aws",
            "regional.anthropic.claude-haiku-4-5-20251001-v1:0",
            "1.10",
        ),
        (
            "models/gemini-2.5-flash --input 1000 --output 500",
            "google",
            "gemini-2.5-flash",
            "0.00155",
        ),
        (
            "ft:gpt-4o-mini-2024-07-18:acme::abc --input 1000 --output 500",
            "openai",
            "ft:gpt-4o-mini",
            "0.0009",
        ),
        (
            "gpt-4o --service-tier batch --input 1000000",
            "openai",
            "gpt-4o",
            "1.25",
        ),
        (
            "chatgpt-4o-latest --input 1000000",
            "openai",
            "chatgpt-4o-latest",
            "5.00",
        ),
        (
            "us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0 --input 100000",
            "aws",
            "us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "0.36",
        ),
        (
            "claude-haiku-4-5@20251001 --provider vertex_ai --input 1000000",
            "google",
            "claude-haiku-4-5",
            "1.00",
        ),
        // Above 200,000 tokens the whole call costs more.
        (
            "claude-sonnet-4-5 --input 200001 --output 10",
            "anthropic",
            "claude-sonnet-4-5",
            "1.200231",
        ),
        // The smallest amount there is, rounded up.
        (
            "command-r7b-12-2024 --provider cohere --input 1",
            "cohere",
            "command-r7b",
            "0.000000038",
        ),
    ] {
        let args: Vec<&str> = args.split(' ').chain(DAY).collect();
        let object = priced(&args);
        let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap().to_owned();
        assert_eq!(text("usd"), usd, "{args:?}");
        assert_eq!(
            (text("provider").as_str(), text("model").as_str()),
            (provider, model),
            "{args:?}"
        );
        assert!(text("price_version").starts_with("genai-prices-"), "{args:?}");
    }
}

#[test]
fn a_price_is_that_of_the_moment() {
    let at = |at: &str| {
        let object = priced(&[
            "deepseek-v4-flash",
            "--provider",
            "deepseek",
            "--input",
            "1000000",
            "--at",
            at,
        ]);
        object.get("usd").unwrap().as_str().unwrap().to_owned()
    };
    assert_eq!(at("2026-11-22T00:59:59Z"), "0.15");
    assert_eq!(at("2026-11-22T01:00:00Z"), "0.30");
    assert_eq!(at("2026-11-22T05:00:00+02:00"), "0.30");
}

#[test]
fn a_model_without_a_price_is_an_error_with_a_hint() {
    for (args, hint) in [
        (vec!["gpt-4omini", "--provider", "openai"], "`openai/gpt-4o-mini`"),
        (vec!["claude-hiaku-4-5"], "/claude-haiku-4-5`"),
        (
            vec!["openai/gpt-oss-20b:free", "--provider", "openrouter"],
            "did you mean",
        ),
        (
            vec!["zzzzzzzzzzzzzzzzzzzz"],
            "has it. Give it one in a file: `--prices",
        ),
        // A dearer tier is not taken for the standard one.
        (
            vec!["claude-opus-4-6", "--service-tier", "fast"],
            "no price for this service tier",
        ),
    ] {
        let ran = run(&[&["price", "--input", "1", "--json"], &args[..]].concat());
        assert_eq!(ran.code, 1, "{args:?}");
        assert!(ran.stdout.is_empty(), "{args:?}");
        assert!(ran.stderr.contains(hint), "{args:?}: {}", ran.stderr);
    }
    let cheaper = run(&["price", "gpt-4o", "--input", "1000000", "--service-tier", "flex"]);
    assert_eq!(cheaper.code, 0);
    assert!(cheaper.text().starts_with("2.50 USD") && cheaper.stderr.contains("charged as `standard`"));
    assert_eq!(run(&["price"]).code, 64);
    assert_eq!(run(&["price", "gpt-4o", "--input", "-1"]).code, 64);
    assert_eq!(run(&["price", "gpt-4o", "--at", "yesterday"]).code, 64);
    assert_eq!(run(&["price", "gpt-4o", "--service-tier", "golden"]).code, 64);
}

#[test]
fn prices_of_ones_own_go_first_and_the_version_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("prices.json");
    let text = r#"{"models": [{"provider": "acme", "model": "tiny", "prices": [{"input": "0.10", "output": "0.40"}]}],
                   "ceilings": [{"provider": "acme", "input": "50", "output": "60"}]}"#;
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    for (model, usd) in [("tiny", "0.40"), ("huge", "60.00")] {
        let object = priced(&[
            model,
            "--provider",
            "acme",
            "--output",
            "1000000",
            "--prices",
            path,
        ]);
        assert_eq!(object.get("usd").and_then(Value::as_str), Some(usd));
        let version = object.get("price_version").and_then(Value::as_str).unwrap();
        assert!(version.ends_with("+custom"), "{version}");
    }
    let plain = run(&["price", "tiny", "--input", "1000000", "--prices", path]);
    assert!(
        plain.text().starts_with("0.10 USD for acme/tiny"),
        "{}",
        plain.text()
    );

    fs::write(path, "{").unwrap();
    let broken = run(&["price", "tiny", "--prices", path]);
    assert_eq!(broken.code, 1);
    assert!(broken.stderr.contains("prices.json"), "{}", broken.stderr);
    assert_eq!(run(&["price", "tiny", "--prices", "/no/such/file"]).code, 1);
}

#[test]
fn a_broken_price_file_is_an_error_that_names_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("prices.json");
    let path = path.to_str().unwrap();
    let model = |prices: &str| {
        format!("{{\"models\": [\n {{\"provider\": \"p\", \"model\": \"m\", \"prices\": [{prices}]}}]}}")
    };
    for (text, place, what) in [
        (model(r#"{"inputt": "1"}"#), "line 2", "`inputt`"),
        (
            model(r#"{"input": 1.5}"#),
            "line 2",
            "an amount is a text in dollars",
        ),
        (model(r#"{"input": "1,5"}"#), "line 2", "an amount of dollars"),
        (model(""), "`p/m`", "needs a price"),
        (
            model(r#"{"input": "1", "from": "soon"}"#),
            "`p/m`",
            "a day is written",
        ),
        (
            model(r#"{"input": "1", "service_tiers": {"gold": {}}}"#),
            "`p/m`",
            "`gold`",
        ),
        (
            r#"{"ceilings": [{"provider": "p", "input": "1"}]}"#.to_owned(),
            "line 1",
            "`output`",
        ),
        (
            r#"{"deployments": [{"provider": "azure", "name": "x", "is": "y"}]}"#.to_owned(),
            "`x`",
            "`openai/gpt-4o`",
        ),
    ] {
        fs::write(path, &text).unwrap();
        let ran = run(&["price", "gpt-4o", "--input", "1", "--prices", path]);
        assert_eq!(ran.code, 1, "{text}");
        assert!(ran.stdout.is_empty(), "{text}");
        for part in ["prices.json", place, what] {
            assert!(ran.stderr.contains(part), "{text}: {}", ran.stderr);
        }
    }
}

#[test]
fn the_price_file_that_the_documentation_shows_is_one() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/prices.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once("```json\n").unwrap();
    let (shown, _) = rest.split_once("```").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("prices.json");
    fs::write(&path, shown).unwrap();
    let path = path.to_str().unwrap();
    for (model, provider, at, usd) in [
        ("tiny", "acme", "2026-12-31", "0.10"),
        ("tiny", "acme", "2027-01-01", "0.20"),
        ("nobody/knows-this-one", "openrouter", "2026-11-22", "20.00"),
        ("my-gpt", "azure", "2026-11-22", "2.50"),
    ] {
        let object = priced(&[
            model,
            "--provider",
            provider,
            "--at",
            at,
            "--input",
            "1000000",
            "--prices",
            path,
        ]);
        assert_eq!(
            object.get("usd").and_then(Value::as_str),
            Some(usd),
            "{model} {at}"
        );
    }
}
