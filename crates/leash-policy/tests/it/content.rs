//! Personal data and secrets: their cases, and what must hold for any text.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

use leash_core::{Action, Call, Caller, Json, PolicyContext, Redactor, Rule, SessionId, Timestamp, ToolCall};
use leash_policy::{PiiRedactor, SecretsRule};
use proptest::prelude::*;
use serde_json::{Value, json};

const CASES: [&str; 2] = [
    include_str!("../data/pii.json"),
    include_str!("../data/pii_more.json"),
];

fn in_pieces(redactor: &PiiRedactor, text: &str, cuts: &[usize]) -> String {
    let mut stream = redactor.stream();
    let mut out = String::new();
    let mut from = 0;
    for &cut in cuts {
        out += &stream.push(&text.as_bytes()[from..cut]);
        from = cut;
    }
    out += &stream.push(&text.as_bytes()[from..]);
    out + &stream.finish()
}

#[test]
fn every_case_is_found_as_it_says_redacted_once_and_split_anywhere() {
    let redactor = PiiRedactor::new();
    let mut wrong = Vec::new();
    for cases in CASES {
        let cases: Vec<Value> = serde_json::from_str(cases).unwrap();
        for case in &cases {
            let text = case["text"].as_str().unwrap();
            let found: Vec<Value> = redactor
                .scan(text)
                .iter()
                .map(|span| json!([span.kind, &text[span.start..span.end]]))
                .collect();
            let redacted = redactor.redact(text);
            if json!(found) != case["expected"] || redacted != case["ideal_redacted"].as_str().unwrap() {
                wrong.push(text.to_owned());
            }
            assert_eq!(redactor.redact(&redacted), redacted);
            for cut in 0..=text.len() {
                assert_eq!(in_pieces(&redactor, text, &[cut]), redacted, "{text} at {cut}");
            }
        }
    }
    assert!(wrong.is_empty(), "wrong: {wrong:?}");
}

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-zA-Z0-9@.+(): /_-]{0,12}",
        any::<char>().prop_map(String::from),
        Just("jane@x.org".to_owned()),
        Just("4111 1111 1111 1111".to_owned()),
        Just("123-45-6789".to_owned()),
        Just("DE89 3704 0044 0532 0130 00".to_owned()),
        Just("+44 20 7946 0958".to_owned()),
        Just("203.0.113.4".to_owned()),
        Just("2001:db8::1".to_owned()),
        Just("00:1a:2b:3c:4d:5e".to_owned()),
        Just("001a.2b3c.4d5e".to_owned()),
        Just("ether 5254.0012.3456".to_owned()),
        Just("203.0.113.4-203.0.113.9".to_owned()),
        Just("用户jane@x.orgまで".to_owned()),
        Just("nginx/".to_owned()),
        Just(".so.".to_owned()),
        Just(".".to_owned()),
        Just("º".to_owned()),
        Just("\u{2010}".to_owned()),
        Just("[REDACTED:EMAIL]".to_owned()),
        Just("call ".to_owned()),
        // What is not seen, what stands on the letter before it, and digits and letters of other scripts.
        "[\u{200b}-\u{200d}\u{2060}\u{feff}\u{ad}]{1,5}",
        "[\u{300}\u{301}\u{94d}\u{64b}]{1,2}",
        "[１-９٠-٩۰-۹०-९]{1,7}",
        "[a-zà-žα-ωа-я一-龥ก-ฮ가-힣ァ-ヺ]{1,8}",
        Just("jose\u{301}@x.org".to_owned()),
        Just("शर्मा@उदाहरण.भारत".to_owned()),
        Just("41\u{200b}11 11\u{200b}11 1111 1\u{200b}111".to_owned()),
        Just("jane＠example．org".to_owned()),
        // An `@` that is spelled out, and its beginnings.
        "jane(%40|&#64;|&#X40;|&commat;|%4|&#|&)x[.]org",
        "(%3C|%2B|%C3%B6|%|&){0,2}",
        // Long words and numbers.
        "[a-z0-9.]{58,80}",
        "[0-9]{30,60}",
        "([0-9]{1,4}[ .-]){8,14}",
        "[0-9a-f:]{1,50}",
        // What says what a number is.
        "(T|m): ?0?",
        "(version|Version|build|§|oid)[ :=\"]{1,3}",
        "-1[.]2[.]3[.]4[.](tar[.]gz|jar|example)",
        "(415-555-2671|[+]1 415 555 2671)[xX][0-9]?",
        "(addr|::|f):2001:db8::7",
        "@2x?[.](png|tgz)",
        Just(" ".to_owned()),
        Just("\n".to_owned()),
    ];
    proptest::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn redacting_twice_is_redacting_once(text in text()) {
        for redactor in [PiiRedactor::new(), PiiRedactor::hashed([7; 32])] {
            let once = redactor.redact(&text);
            prop_assert_eq!(redactor.redact(&once), once);
        }
        let once = SecretsRule::new().redact(&text);
        prop_assert_eq!(SecretsRule::new().redact(&once), once);
    }

    #[test]
    fn splitting_changes_nothing(text in text(), cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6)) {
        let redactor = PiiRedactor::new();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(in_pieces(&redactor, &text, &cuts), redactor.redact(&text));
    }

    #[test]
    fn spans_are_in_order_and_on_characters(text in text()) {
        let mut end = 0;
        for span in PiiRedactor::new().scan(&text) {
            prop_assert!(span.start >= end && span.start < span.end);
            prop_assert!(text.get(span.start..span.end).is_some());
            end = span.end;
        }
        for span in SecretsRule::new().scan(&text) {
            prop_assert!(text.get(span.start..span.end).is_some());
        }
    }
}

/// Texts of what secrets are made of, one right behind the other.
fn secretive() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        proptest::sample::select(secrets()).prop_map(|(_, secret)| secret),
        proptest::sample::select(vec![
            "password",
            "api_key",
            "_auth",
            "token",
            "Bearer ",
            "basic ",
            "--token ",
            "-u a:",
            "sig=",
            "://u:",
            "@h",
            "ghp_",
            "glpat-",
            "sk-",
            "sk_",
            "s.",
            "fm2_",
            "xoxb-",
            "eyJ",
            "AKIA",
            "-us1",
            ".atlasv1.",
            "login a password ",
            "=",
            ": ",
            "\"",
            "'",
            ">",
            " ",
            "\n",
            "-",
            ".",
            "_",
            "é",
            "[REDACTED:JWT]",
            "0x",
        ])
        .prop_map(str::to_owned),
        "[A-Za-z0-9]{1,40}",
        "[A-Za-z0-9_-]{80,300}",
        "[0-9a-f]{32}",
        "[A-Za-z0-9+/=.$]{0,30}",
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_found_of_secrets_is_taken_out_at_once(text in secretive()) {
        let rule = SecretsRule::new();
        let mut end = 0;
        for span in rule.scan(&text) {
            prop_assert!(span.start >= end && span.start < span.end);
            prop_assert!(text.get(span.start..span.end).is_some());
            end = span.end;
        }
        let once = rule.redact(&text);
        prop_assert!(rule.scan(&once).is_empty(), "{}", once);
        prop_assert_eq!(rule.redact(&once), once);
    }
}

#[test]
fn a_hash_keeps_equal_values_equal_and_needs_the_key() {
    let text = "a@x.org b@x.org a@x.org";
    let first = PiiRedactor::hashed([1; 32]).redact(text);
    let words: Vec<&str> = first.split(' ').collect();
    assert_eq!(words[0], words[2]);
    assert_ne!(words[0], words[1]);
    assert_ne!(first, PiiRedactor::hashed([2; 32]).redact(text));
}

#[test]
fn names_numbers_and_depths_are_redacted_as_values_are() {
    let redactor = PiiRedactor::new();
    let args = json!({"jane@x.org": 1, "bob@x.org": 2, "card": 4_111_111_111_111_111_u64, "list": [{"to": "+44 20 7946 0958"}], "n": 42});
    let redacted = redactor.redact_args(&args);
    assert_eq!(
        redacted,
        json!({"[REDACTED:EMAIL]": 2, "[REDACTED:EMAIL] (2)": 1, "card": "[REDACTED:CREDIT_CARD]", "list": [{"to": "[REDACTED:PHONE]"}], "n": 42})
    );
    let clean = Json::from(json!({"a": ["b", 1]}));
    assert_eq!(Redactor::redact(&redactor, &clean).unwrap(), None);
    let deep = (0..600).fold(json!("a@x.org"), |inner, _| json!([inner]));
    assert!(Redactor::redact(&redactor, &Json::from(deep)).is_err());
}

#[test]
fn an_own_detector_finds_once_and_streams_by_lines() {
    let redactor = PiiRedactor::new()
        .with_detector("EMPLOYEE", r"\bE-[0-9]{5}\b")
        .unwrap();
    let redacted = redactor.redact("E-12345 and a@x.org\nE-54321");
    assert_eq!(
        redacted,
        "[REDACTED:EMPLOYEE] and [REDACTED:EMAIL]\n[REDACTED:EMPLOYEE]"
    );
    assert_eq!(redactor.redact(&redacted), redacted);
    assert_eq!(
        in_pieces(&redactor, "E-12345 and a@x.org\nE-54321", &[3, 9, 22]),
        redacted
    );
    assert!(PiiRedactor::new().with_detector("employee", "x").is_err());
    assert!(PiiRedactor::new().with_detector("X", "(").is_err());
    assert!(PiiRedactor::new().with_detector("X", "a*").is_err());
}

/// Made up, in the form of each kind; put together here so that no scanner of repositories takes them for real.
fn secrets() -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ACCESS_KEY", ["AKIA", "Q4ZT7WNXR2L5KD3J"].concat()),
        (
            "GITHUB_TOKEN",
            ["ghp_", "a8Kd93jLs02mVnQx7RtYb5WcZe1HfGu4Ip6O"].concat(),
        ),
        ("SLACK_TOKEN", ["xoxb-", "123456789012-abcdEFGHijkl"].concat()),
        (
            "GOOGLE_API_KEY",
            ["AIza", "SyD3kf92Lm0Qw7Xz5Vb1Nc8Rt4Yp6Hu2Jo9"].concat(),
        ),
        ("STRIPE_KEY", ["sk_live_", "4eC39HqLyjWDarjtT1zdp7dc"].concat()),
        (
            "ANTHROPIC_KEY",
            ["sk-ant-", "api03-Ab3dEf6hIj9kLm2nOp5qRs8tUv1wXy4z"].concat(),
        ),
        (
            "OPENAI_KEY",
            ["sk-proj-", "Ab3dEf6hIj9kLm2nOp5qRs8tUv1wXy4z"].concat(),
        ),
        (
            "JWT",
            [
                "eyJhbGciOiJIUzI1NiJ9.",
                "eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
            ]
            .concat(),
        ),
        (
            "PRIVATE_KEY",
            [
                "-----BEGIN RSA PRIVATE",
                " KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
            ]
            .concat(),
        ),
        (
            "URL_PASSWORD",
            ["postgres://app:", "s3cr3tPw9@db.example/x"].concat(),
        ),
        (
            "GENERIC_SECRET",
            ["db_password = \"", "hunter2!Xk93jd8sPq\""].concat(),
        ),
        (
            "GENERIC_SECRET",
            ["HEROKU_API_KEY=", "c71558a5-f5f0-4ad4-8ff5-98a2ae8aa1d8"].concat(),
        ),
        (
            "GENERIC_SECRET",
            ["<password>", "w91JcyC5pgaD4dmV</password>"].concat(),
        ),
        (
            "GENERIC_SECRET",
            ["tool --api-key ", "nN5qXMisUsPd9ICW9vMhawAq"].concat(),
        ),
        (
            "BEARER_TOKEN",
            ["Authorization: Bearer ", "nN5qXMisUsPd9ICW9vMhawAqsibykckp"].concat(),
        ),
        (
            "BASIC_AUTH",
            ["Authorization: Basic ", "amFuZTpTdXAzclMzY3JldFB3ITk="].concat(),
        ),
        (
            "BASIC_AUTH",
            ["{\"auth\": \"", "amFuZTpTdXAzclMzY3JldFB3ITk=\"}"].concat(),
        ),
        (
            "COMMAND_PASSWORD",
            ["curl -u admin:", "w91JcyC5pgaD4dmV https://x.example/"].concat(),
        ),
        (
            "NETRC_PASSWORD",
            ["machine x.example login jane password ", "GDZfysS8JWfrlaUZ"].concat(),
        ),
        ("URL_PASSWORD", ["redis://:", "s3cr3tPw9@cache:6379/0"].concat()),
        (
            "TELEGRAM_TOKEN",
            [
                "https://api.telegram.org/bot5765627984:AA",
                "YUxqfEbN0Gl6JKSsYs_QN77FWY6DUPUKo",
            ]
            .concat(),
        ),
        (
            "MAILCHIMP_KEY",
            ["94d7831054cc20024983", "ae83318a3fed-us14"].concat(),
        ),
    ]
}

#[test]
fn a_secret_is_found_named_and_never_quoted() {
    for (kind, secret) in secrets() {
        for text in [secret.clone(), format!("x {secret} y"), format!("é\"{secret}\"")] {
            let spans = SecretsRule::new().scan(&text);
            assert_eq!(spans.first().map(|span| span.kind.as_ref()), Some(kind), "{text}");
            let redacted = SecretsRule::new().redact(&text);
            assert!(SecretsRule::new().scan(&redacted).is_empty(), "{redacted}");
        }
        let caller = Caller::session(SessionId::new("s").unwrap());
        let call = Call::Tool(ToolCall::new("t", json!({"a": [{"b": secret}]}), caller));
        let context = PolicyContext::new(Timestamp::EPOCH);
        let decision = SecretsRule::new().evaluate(&call, &context).unwrap().unwrap();
        assert_eq!(decision.action, Action::Block);
        assert_eq!(decision.reason, format!("holds a secret: {kind}"));
        let asks = SecretsRule::new()
            .action(Action::Hitl)
            .evaluate(&call, &context)
            .unwrap()
            .unwrap();
        assert_eq!(asks.action, Action::Hitl);
    }
}

#[test]
fn a_form_without_entropy_hides_no_secret_beside_it() {
    let rule = SecretsRule::new();
    let found = rule.scan("AKIAAAAAAAAAAAAAAAAA AKIAQ4ZT7WNXR2L5KD3J");
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].start, found[0].end), (21, 41));
}

#[test]
fn forms_within_forms_are_looked_at_so_long_and_then_taken_for_secrets() {
    let rule = SecretsRule::new();
    assert!(rule.scan(&"xoxb-".repeat(40)).is_empty());
    assert!(!rule.scan(&"xoxb-".repeat(20_000)).is_empty());
}

#[test]
fn what_only_looks_like_a_secret_is_none() {
    for text in [
        "api_key: YOUR_API_KEY_HERE_PLEASE",
        "token = get_token_from_env()",
        "password=os.environ['DB_PASSWORD']",
        "max_tokens: 1024",
        "The token budget is 100000 tokens per minute",
        "Authorization: Bearer $TOKEN",
        "sk-learn and sk-image",
        "https://user:${PASSWORD}@host/",
        "commit 3f786850e387550fdab836ed7e6dc881de23001b",
        "author = \"Jane Example Person\"",
        "AKIA is a prefix",
        "secret_name: my-kubernetes-secret",
        "-----BEGIN CERTIFICATE-----",
        "eyJ is how a token begins",
        "password_reset_url=/accounts/password/reset",
        "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE",
        "DATABASE_URL=postgres://postgres:postgres@localhost:5432/app",
        "postgres://USER:PASSWORD@HOST:5432/DB",
        "Authorization: Bearer YOUR_ACCESS_TOKEN_HERE_12345",
        "Authorization: Basic authentication is off",
        "Bearer token required",
        "docker run -u 1000:1000 -p 8080:80 app",
        "machine github.com login x password $PW",
        "password_file=/run/secrets/db_password_file_1",
        "private_key_path = \"~/.ssh/id_ed25519_work2\"",
        "token = tokens[index+1].value.toLowerCase()",
        "token-bucket-size-1000-refill-100",
        "password=getPasswordFromKeychain(account)",
        "sync_token: 550e8400-e29b-41d4-a716-446655440000",
        "--token \"$GH_TOKEN\" --password-file /run/pw1",
        "s.getElementsByClassNameOfX()",
        "re_create_index_concurrently_if_needed_1",
        "\"integrity\": \"sha512-v2kDEe57lecTulaDIuNTPy3Ry4gLGJ6Z1O3vE1krgXZNrsQ+LFTGHVxVjcXPs17LhbZVGedAJv8XZ1tvj5FvSg==\"",
        "<input type=\"password\" name=\"password\" autocomplete=\"current-password\">",
        "password: {required: true, minlength: 8, equalTo: \"#password2\"}",
        "credential.helper=cache --timeout=3600",
    ] {
        assert!(
            SecretsRule::new().scan(text).is_empty(),
            "{text}: {:?}",
            SecretsRule::new().scan(text)
        );
    }
}

proptest::proptest! {
    #[test]
    fn with_detectors_of_ones_own_splitting_changes_nothing_and_twice_is_once(
        parts in proptest::collection::vec(proptest::sample::select(&[
            "PIN", "642 ", "\n", "\n", "005 2345 6702", "room b1", "E-1234", "tel ", "4111 1111", "\n1111 1111", "jane@", "x.org", " ",
            "[EMPLOYEE]", "`", "é", "+44 20 7946 ", "0958", "IBAN DE89 3704 0044 ", "0532 0130 00", "192.0.", "2.7",
        ][..]), 0..24),
        at in proptest::prelude::any::<proptest::sample::Index>(),
        then in proptest::prelude::any::<proptest::sample::Index>(),
    ) {
        let redactor = PiiRedactor::new()
            .with_detector("EMPLOYEE", r"\bE-[0-9]{3,5}\b")
            .unwrap()
            .with_detector("ROOM", r"(?i)room [a-z]?[0-9]+")
            .unwrap();
        let text = parts.concat();
        let once = redactor.redact(&text);
        proptest::prop_assert_eq!(&redactor.redact(&once), &once);
        let (at, then) = (at.index(text.len() + 1), then.index(text.len() + 1));
        let (first, second) = (at.min(then), at.max(then));
        let bytes = text.as_bytes();
        let mut stream = redactor.stream();
        let mut out = stream.push(&bytes[..first]);
        out += &stream.push(&bytes[first..second]);
        out += &stream.push(&bytes[second..]);
        out += &stream.finish();
        proptest::prop_assert_eq!(out, once);
    }
}

#[test]
fn what_looks_like_code_beside_a_secret_is_found_once_that_is_gone() {
    let text = "eyJhIUhtnIzpassword=eyJzdpWspalacedlsheoecrets.unteI0NiJ9.eyJzdIrvwcret8.eyJzdIrvwcprocess.envjWaThts.untqLyjAaThtnIeu1NiJ0Ir";
    let rule = SecretsRule::new();
    let once = rule.redact(text);
    assert_ne!(once, text);
    assert_eq!(rule.redact(&once), once);
}
