//! What the rules cost at worst: the longest time and the most memory that each takes over inputs made to cost much.
//!
//! ```text
//! cargo run --release -p leash-policy --example limits
//! cargo run --release -p leash-policy --example limits -- blocked_shell
//! ```
//!
//! Every rule and input has a process of its own, so that no memory is reused. Ends with 1 where a rule takes more than
//! 64 MiB or, built for release, more than 50 ms. Memory is measured where there is `/proc`.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use leash_core::{Call, Caller, Json, PolicyContext, Redactor, Rule, SessionId, Timestamp, ToolCall};
use leash_policy::{PiiRedactor, redactor_from_options, rule_from_options};
use serde_json::{Value, json};

/// Makes an input; only the one that is asked for is made, so that the others leave no memory behind.
type Make<T> = Box<dyn FnOnce() -> T>;
type Failure = Box<dyn std::error::Error>;

/// How long an input is, in bytes, where it can be of any length. Built without optimisation, a megabyte takes too long.
const LENGTH: usize = if cfg!(debug_assertions) { 1 << 16 } else { 1 << 20 };
const MOST_TIME: Duration = Duration::from_millis(50);
const MOST_MEMORY: u64 = 64 << 20;

/// Rules with the options under which they do most.
const RULES: &[(&str, &[(&str, &str)])] = &[
    ("allowed_tools", &[("names", "*a*b*c*,db.*")]),
    ("denied_tools", &[("names", "*a*b*c*,db.*")]),
    ("argument_range", &[("field", "a.amount"), ("max", "10")]),
    ("hitl_on_amount", &[("field", "amount"), ("threshold", "10")]),
    (
        "blocked_patterns",
        &[
            ("pattern", "(a+)+z"),
            ("pattern", r"(\d+[.@: -]?)+x{50}"),
            ("pattern", "(a|b|ab)*c"),
        ],
    ),
    (
        "hitl_on_pattern",
        &[("pattern", "([a-z]+ )*!"), ("pattern", r"\w{1,64}@\w{1,64}\.zz")],
    ),
    ("budget_threshold", &[]),
    ("hitl_threshold", &[]),
    ("blocked_sql", &[]),
    (
        "blocked_sql",
        &[("dialect", "postgres"), ("require_where", "true")],
    ),
    (
        "blocked_paths",
        &[("roots", "/srv/work,/tmp"), ("deny", "*secret*,/a/*/b")],
    ),
    (
        "blocked_urls",
        &[
            ("deny_hosts", "*.evil.example,10.0.0.1"),
            ("allow_hosts", "*.a,*"),
        ],
    ),
    ("blocked_shell", &[]),
    (
        "blocked_shell",
        &[
            ("unknown", "hitl"),
            ("protected_paths", "/etc,secret.env"),
            ("deny_programs", "rm,curl"),
        ],
    ),
    ("secrets", &[]),
];

fn repeated(piece: &str) -> String {
    piece.repeat(LENGTH.checked_div(piece.len()).unwrap_or(1))
}

/// A list of values of which none is the other, as JSON.
fn different(value: impl Fn(usize) -> String) -> String {
    let values: Vec<String> = (0..80_000).map(value).collect();
    json!(values).to_string()
}

/// Texts that cost much, by name.
fn texts() -> Vec<(String, Make<String>)> {
    let mut all: Vec<(String, Make<String>)> = Vec::new();
    // One piece over and over.
    for piece in [
        "a",
        "a ",
        "1",
        "1 ",
        "1.",
        "12-",
        "123 ",
        "1234 ",
        "a 1234567 ",
        "tttttttt 1234567 ",
        "4111 1111 1111 1111 ",
        "(",
        "+",
        "+1 ",
        "@",
        "a@",
        "a@b.",
        "a@b.co ",
        "@.",
        ".",
        "..",
        ":",
        "a:",
        "::",
        "0:",
        "00:",
        "00-",
        "0000.",
        "DE89",
        "DE89 3704 0044 0532 0130 00 ",
        "GB",
        "2001:db8::1 ",
        "[",
        "[A:",
        "[REDACTED:EMAIL]",
        "é",
        "用户@",
        "１",
        "1.2.3.4-",
        "http:",
        "http://a ",
        "http://",
        "http://a@",
        "http://1.",
        "http://ü.",
        "//",
        "%",
        "%25",
        "%3a",
        "%2e%2e/",
        "http%3A//",
        "\t",
        "\n",
        "h\n",
        "../",
        "/",
        "\\",
        "/..",
        "~/",
        "a/",
        ".env/",
        ";",
        "key=",
        "AKIA",
        "eyJ",
        "eyJhbGciOiJIUzI1NiJ9.",
        "-----BEGIN ",
        "-----BEGIN RSA PRIVATE KEY-----",
        "password=",
        "password: 'x8Kd93jLs02mVnQx7Rt' ",
        "sk-",
        "ghp_",
        "sk-ant-",
        "sk-proj-",
        "xoxb-",
        "pypi-",
        "secret",
        "secret.token=aaaaaaaaaaaa",
        "://a:b@",
        "token\":\"",
        "SELECT ",
        "SELECT 1;",
        "SELECT 1 UNION ",
        "1+",
        "1 OR ",
        "NOT ",
        "'",
        "''",
        "\"",
        "--",
        "--\n",
        "/*",
        "/*!",
        "(SELECT ",
        "CASE WHEN ",
        "a,",
        "$$",
        "E'\\",
        "{{",
        "x AS (",
        "WITH x AS (SELECT 1) ",
        "DELETE FROM t WHERE ",
        "[]",
        "1::",
        "a|",
        "a;",
        "a&&",
        "a\n",
        "$(",
        "$((",
        "`",
        "{ ",
        "( ",
        "<(",
        "<<E\n",
        "<<-'E'\n",
        "cat <<E\nx\nE\n",
        "$",
        "${a",
        "${a:-",
        "$'",
        "\\",
        "\\\n",
        "{a,b}",
        "{1..9}",
        "a=a;",
        "a=$a$a;",
        "eval ",
        "sudo ",
        "env ",
        "sh -c ",
        "xargs ",
        "if a; then ",
        "for i in a b; do ",
        "case a in ",
        "f() { f; };",
        "dd x ",
        "rm -rf ",
        "!",
        "#",
        "[[ a ",
        "2>",
        "a<b",
        "a a=b ",
        "*",
        "?",
        "curl x | sh; ",
        "python -c ",
        "find . -exec ",
        "ssh a ",
    ] {
        all.push((format!("many {piece:?}"), Box::new(move || repeated(piece))));
    }
    // Shorter than what a rule looks at all of, so that none is turned away by its length.
    for (name, piece, count) in [
        ("additions", "1+", 4_500),
        ("alternatives", " OR a=1", 1_400),
        ("unions", " UNION SELECT 1", 99),
        ("parentheses", "(", 39),
        ("nots", "NOT ", 1_400),
        ("casts", "::int", 1_400),
        ("functions", "f(", 39),
        ("dots", "a.", 4_500),
        ("statements", "SELECT 1; ", 3_000),
        ("joins", " JOIN t ON 1=1", 700),
        ("names", "a, ", 4_500),
        ("strings", "'a' || ", 1_400),
    ] {
        all.push((
            format!("SQL of {name}"),
            Box::new(move || format!("SELECT {} 1", piece.repeat(count))),
        ));
        all.push((
            format!("SQL from {name}"),
            Box::new(move || format!("SELECT * FROM t WHERE {} 1", piece.repeat(count))),
        ));
    }
    for (name, before, piece, count, after) in [
        ("commands", "", "a b;", 15_000, ""),
        ("pipes", "a", "|b", 30_000, ""),
        ("choices", "a", "&&b", 20_000, ""),
        ("words", "echo", " x", 30_000, ""),
        ("substitutions", "echo ", "$(echo ", 1_000, ""),
        ("closed substitutions", "", "$(echo a) ", 6_000, ""),
        ("here documents", "cat", " <<E", 15_000, ""),
        ("documents", "", "cat <<E\nx\nE\n", 4_500, ""),
        ("one name of documents", "", "<<E ", 15_000, "\nE"),
        ("groups", "", "{ ", 5_000, ""),
        ("subshells", "", "(", 5_000, ""),
        ("braces", "echo ", "{a,b}", 12_000, ""),
        ("nested braces", "echo ", "{a,", 10_000, ""),
        ("ranges", "echo ", "{1..99}", 9_000, ""),
        ("doubling", "a=xx;", "a=$a$a;", 9_000, "$a"),
        ("variables", "", "a=b; $a;", 8_000, ""),
        ("evals", "", "eval ", 12_000, "ls"),
        ("quotes", "", "\"'\"", 20_000, ""),
        ("back ticks", "echo ", "`echo a` ", 7_000, ""),
        ("escapes", "$'", "\\x41", 16_000, "'"),
        ("arithmetic", "$((", "1+", 30_000, "1))"),
        ("functions", "", "f(){ g;};", 7_000, "f"),
        ("calls", "f(){ f;f;};", "f;", 30_000, ""),
        ("loops", "", "for i in 1 2 3 4 5 6 7 8 9;do ", 2_000, ""),
        ("conditions", "", "if a;then ", 6_000, ""),
        ("redirections", "a", " >b", 20_000, ""),
        ("wrappers", "", "sudo ", 13_000, "ls"),
        ("shells", "", "sh -c '", 9_000, ""),
        ("patterns", "rm ", "* ", 30_000, ""),
        ("defaults", "", "${a:-", 12_000, ""),
        ("downloads", "", "curl a|sh;", 6_000, ""),
        ("short commands", "", "a;", 32_000, ""),
        ("commands and no end", "", "a;", 32_000, "("),
        ("words and no end", "", "a ", 32_000, "("),
    ] {
        all.push((
            format!("shell of {name}"),
            Box::new(move || format!("{before}{}{after}", piece.repeat(count))),
        ));
    }
    let others: [(&str, Make<String>); 17] = [
        (
            "different names in a string",
            Box::new(|| different(|at| format!("n{at}"))),
        ),
        (
            "different keys in a string",
            Box::new(|| different(|at| format!("n{at}.keys"))),
        ),
        (
            "different paths in a string",
            Box::new(|| different(|at| format!("/{at}/"))),
        ),
        (
            "different codes in a string",
            Box::new(|| different(|at| format!("%61{at}"))),
        ),
        (
            "different addresses in a string",
            Box::new(|| different(|at| format!("1.2.{at}:1"))),
        ),
        (
            "different signs in a string",
            Box::new(|| different(|at| format!("１{at}…"))),
        ),
        (
            "shell of variables",
            Box::new(|| {
                let all = (0..4_000)
                    .map(|at| format!("v{at}=b;"))
                    .collect::<Vec<_>>()
                    .concat();
                format!("{all}{}", "a=b c;".repeat(4_000))
            }),
        ),
        (
            "shell of functions called",
            Box::new(|| {
                (0..4_000)
                    .map(|at| format!("f{at}(){{ :;}};"))
                    .collect::<Vec<_>>()
                    .concat()
            }),
        ),
        (
            "a host of 1 MiB",
            Box::new(|| format!("http://{}/", repeated("a"))),
        ),
        (
            "a host of labels",
            Box::new(|| format!("http://{}/", repeated("a."))),
        ),
        (
            "a host in Punycode",
            Box::new(|| format!("http://xn--{}/", "a".repeat(900))),
        ),
        (
            "a host of umlauts",
            Box::new(|| format!("http://{}/", "üé漢".repeat(80))),
        ),
        (
            "hosts of umlauts",
            Box::new(|| format!("http://{}/ ", "ü漢".repeat(60)).repeat(3_400)),
        ),
        (
            "JSON in JSON",
            Box::new(|| (0..7).fold("[\"a\"]".to_owned(), |inner, _| json!([inner]).to_string())),
        ),
        (
            "a list in a string",
            Box::new(|| json!(vec!["a@b.co"; 100_000]).to_string()),
        ),
        (
            "lists in a string",
            Box::new(|| format!("{}{}", "[".repeat(120), "]".repeat(120))),
        ),
        (
            "amounts in a string",
            Box::new(|| json!(vec![json!({"amount": "5.000,00 EUR"}); 20_000]).to_string()),
        ),
    ];
    all.extend(others.map(|(name, make)| (name.to_owned(), make)));
    all
}

/// Arguments that cost much by their shape.
fn shapes() -> Vec<(String, Make<Value>)> {
    let all: [(&str, Make<Value>); 14] = [
        (
            "names that say nothing",
            Box::new(|| (0..400).fold(json!(vec!["ab c"; 100_000]), |inner, _| json!({"x": inner}))),
        ),
        (
            "objects below names that say nothing",
            Box::new(|| {
                (0..400).fold(
                    json!(vec![json!({"x": "ab c"}); 60_000]),
                    |inner, _| json!({"x": inner}),
                )
            }),
        ),
        (
            "paths of 16 KiB",
            Box::new(|| json!({"paths": vec![format!("/{}.keys/.pem.d", "a/id_x/".repeat(2_300)); 64]})),
        ),
        (
            "scripts of 64 KiB",
            Box::new(|| json!({"notes": vec!["a;".repeat(32_000); 16]})),
        ),
        (
            "scripts of 30 KiB",
            Box::new(|| json!({"commands": vec!["a b ;".repeat(6_000); 32]})),
        ),
        (
            "400 levels",
            Box::new(|| (0..400).fold(json!("rm -rf /tmp/x"), |inner, _| json!([inner]))),
        ),
        (
            "5,000 levels",
            Box::new(|| (0..5_000).fold(json!("x"), |inner, _| json!([inner]))),
        ),
        (
            "50,000 members",
            Box::new(|| {
                let members = (0..50_000).map(|at| (format!("name{at}"), json!("a b")));
                Value::Object(members.collect())
            }),
        ),
        (
            "400 members, one in the other",
            Box::new(|| {
                (0..400).fold(
                    json!("ls; SELECT 1"),
                    |inner, _| json!({"command": inner, "amount": 1}),
                )
            }),
        ),
        (
            "20,000 commands",
            Box::new(|| json!({"command": vec!["ls -l"; 20_000]})),
        ),
        (
            "2,000 statements",
            Box::new(|| json!({"sql": vec!["SELECT 1"; 2_000]})),
        ),
        (
            "50,000 URLs",
            Box::new(|| json!({"urls": vec!["https://a.example/"; 50_000]})),
        ),
        (
            "50,000 paths",
            Box::new(|| json!({"paths": vec!["a/b/../c"; 50_000]})),
        ),
        (
            "100,000 numbers",
            Box::new(|| json!({"amount": vec![5; 100_000]})),
        ),
    ];
    all.map(|(name, make)| (name.to_owned(), make)).into()
}

/// What each input is put under.
const NAMES: &[&str] = &["command", "sql", "path", "url", "amount", "note"];

fn call(args: Value) -> Result<Call, Failure> {
    let caller = Caller::session(SessionId::new("limits")?);
    Ok(Call::Tool(ToolCall::new("tool", args, caller)))
}

/// A field of `/proc/self/status`, in bytes.
fn status(field: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim_start_matches(':')
        .trim()
        .split(' ')
        .next()?
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// How long this thread ran on a processor.
fn on_processor() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanos = text.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

/// One rule over one input: time in microseconds, memory in bytes.
fn measure(what: &str, input: usize) -> Result<(), Failure> {
    let mut inputs: Vec<Value> = Vec::new();
    let mut texts = texts();
    if input < texts.len() {
        let text = texts.swap_remove(input).1();
        inputs.extend(NAMES.iter().map(|name| json!({ *name: text })));
    } else {
        inputs.push(shapes().swap_remove(input.saturating_sub(texts.len())).1());
    }
    drop(texts);
    let context = PolicyContext::new(Timestamp::EPOCH);
    let run: Box<dyn Fn(&Call)> = if let Some(name) = what.strip_prefix("redactor ") {
        let redactor: Arc<dyn Redactor> = redactor_from_options::<&str, &str>(name, &[])?;
        Box::new(move |call| drop(redactor.redact(&Json::from(call.content().value().clone()))))
    } else if what == "PiiStream" {
        let redactor = PiiRedactor::new();
        Box::new(move |call| {
            let text = call
                .content()
                .value()
                .as_object()
                .and_then(|members| members.values().next()?.as_str());
            let mut stream = redactor.stream();
            for piece in text.unwrap_or("").as_bytes().chunks(64) {
                drop(stream.push(piece));
            }
            drop(stream.finish());
        })
    } else {
        let (name, options) = *RULES.get(what.parse::<usize>()?).ok_or("no such rule")?;
        let rule: Arc<dyn Rule> = rule_from_options(name, options)?;
        Box::new(move |call| drop(rule.evaluate(call, &context)))
    };
    // What is built once is not the input's.
    run(&call(
        json!({"command": "ls", "sql": "SELECT 1", "url": "https://a.example"}),
    )?);
    let mut worst = (Duration::ZERO, 0_u64);
    for input in inputs {
        let call = call(input)?;
        // `5` sets the peak back to what is used now.
        let reset = std::fs::write("/proc/self/clear_refs", "5").is_ok();
        let before = status("VmRSS").filter(|_| reset).unwrap_or(0);
        let start = Instant::now();
        let worked = on_processor();
        run(&call);
        // What else runs on the machine is not the rule's.
        let took = match (worked, on_processor()) {
            (Some(before), Some(after)) => after.saturating_sub(before),
            _ => start.elapsed(),
        };
        let peak = status("VmHWM").filter(|_| reset).unwrap_or(0);
        worst = (worst.0.max(took), worst.1.max(peak.saturating_sub(before)));
    }
    println!("{} {}", worst.0.as_micros(), worst.1);
    Ok(())
}

fn main() -> Result<ExitCode, Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [what, input] = args.as_slice() {
        measure(what, input.parse()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rules = RULES.iter().enumerate().map(|(at, (name, options))| {
        let options: Vec<String> = options
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        (at.to_string(), format!("{name} {}", options.join(" ")))
    });
    let others =
        ["redactor pii", "redactor secrets", "PiiStream"].map(|name| (name.to_owned(), name.to_owned()));
    let names: Vec<String> = texts()
        .into_iter()
        .map(|(name, _)| name)
        .chain(shapes().into_iter().map(|(name, _)| name))
        .collect();
    // Built without optimisation it only shows that it runs.
    let step = if cfg!(debug_assertions) { names.len() } else { 1 };
    let mut held = true;
    for (what, about) in rules.chain(others) {
        if args.first().is_some_and(|only| !about.starts_with(only.as_str())) {
            continue;
        }
        let mut slowest = (0_u64, String::new());
        let mut largest = (0_u64, String::new());
        for (at, name) in names.iter().enumerate().step_by(step) {
            let output = Command::new(std::env::current_exe()?)
                .args([what.as_str(), &at.to_string()])
                .output()?;
            let text = String::from_utf8(output.stdout)?;
            let mut numbers = text.split_whitespace().map(str::parse::<u64>);
            let (Some(Ok(time)), Some(Ok(memory))) = (numbers.next(), numbers.next()) else {
                println!("{about}: died of {name}: {}", output.status);
                held = false;
                continue;
            };
            let slow = !cfg!(debug_assertions) && Duration::from_micros(time) > MOST_TIME;
            if slow || memory > MOST_MEMORY {
                println!("{about}: {name}: {time} µs, {memory} bytes");
                held = false;
            }
            if time > slowest.0 {
                slowest = (time, name.clone());
            }
            if memory > largest.0 {
                largest = (memory, name.clone());
            }
        }
        println!(
            "{about:<40.40} at most {:>7} µs ({:.30}), {:>6} KiB ({:.30})",
            slowest.0,
            slowest.1,
            largest.0 / 1024,
            largest.1
        );
    }
    Ok(if held {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
