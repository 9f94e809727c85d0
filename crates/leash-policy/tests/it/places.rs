//! The rules on paths and URLs over their cases.
#![expect(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "tests")]

use leash_core::{Call, Caller, PolicyContext, Rule, SessionId, Timestamp, ToolCall};
use leash_policy::{BlockedPaths, BlockedUrls, rule_from_options};
use proptest::prelude::*;
use serde_json::{Value, json};

fn stops(rule: &dyn Rule, tool: &str, args: &Value) -> bool {
    let caller = Caller::session(SessionId::new("s").unwrap());
    let call = Call::Tool(ToolCall::new(tool, args.clone(), caller));
    rule.evaluate(&call, &PolicyContext::new(Timestamp::EPOCH))
        .unwrap()
        .is_some()
}

/// The ids of the cases that `name` decides otherwise.
fn wrong(name: &str, cases: &str) -> Vec<String> {
    let cases: Vec<Value> = serde_json::from_str(cases).unwrap();
    let harmless = cases.iter().filter(|case| case["should_block"] == json!(false));
    assert!(harmless.count() * 10 >= cases.len() * 3);
    let decided = cases.iter().map(|case| {
        let options: Vec<(String, String)> = case["options"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect();
        let rule = rule_from_options(name, &options).unwrap();
        let stopped = stops(&*rule, case["tool"].as_str().unwrap(), &case["args"]);
        (case["id"].to_string(), json!(stopped) == case["should_block"])
    });
    decided.filter(|(_, right)| !right).map(|(id, _)| id).collect()
}

#[test]
fn every_case_of_a_path_is_decided_as_it_says() {
    let wrong = wrong("blocked_paths", include_str!("../data/paths.json"));
    assert!(wrong.is_empty(), "wrong: {wrong:?}");
}

#[test]
fn every_case_of_a_url_is_decided_as_it_says() {
    let wrong = wrong("blocked_urls", include_str!("../data/urls.json"));
    assert!(wrong.is_empty(), "wrong: {wrong:?}");
}

#[test]
fn more_hosts_than_can_be_judged_are_refused_and_the_same_one_is_not() {
    let rule = BlockedUrls::new();
    assert!(rule.judge(&"https://a.example/x ".repeat(20_000)).is_none());
    let many: String = (0..20_000)
        .flat_map(|at| [format!("https://a{at}.example/"), " ".into()])
        .collect();
    assert!(rule.judge(&many).is_some());
    assert!(!stops(
        &rule,
        "t",
        &json!({"urls": vec!["https://a.example/"; 20_000]})
    ));
    assert!(stops(&rule, "t", &json!({"hosts": vec!["a.example"; 20_000]})));
    // The one that is denied is found behind all others that are judged.
    let last = format!("{} http://127.0.0.1/", "https://a.example/x ".repeat(20_000));
    assert!(rule.judge(&last).is_some());
}

/// Every way in which a C library reads `address`.
fn spellings(address: u32) -> Vec<String> {
    let [a, b, c, d] = address.to_be_bytes();
    let tail = address & 0xff_ffff;
    let half = address & 0xffff;
    vec![
        format!("{a}.{b}.{c}.{d}"),
        format!("{a}.{b}.{c}.{d}."),
        format!("0x{a:x}.0X{b:X}.0x{c:02x}.0x{d:04x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.000{d:o}"),
        format!("{address}"),
        format!("0x{address:08x}"),
        format!("0{address:o}"),
        format!("{a}.{tail}"),
        format!("{a}.{b}.{half}"),
        format!("0x{a:x}.{b}.0{half:o}"),
        format!("[::ffff:{a}.{b}.{c}.{d}]"),
        format!("[::ffff:{:x}:{:x}]", address >> 16, half),
        format!("[0:0:0:0:0:ffff:{:04x}:{:04x}]", address >> 16, half),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_address_is_judged_alike_in_every_spelling(address in any::<u32>(), near in any::<bool>()) {
        let address = if near { address & 0xffff | 0x0a00_0000 } else { address };
        let plain = std::net::Ipv4Addr::from(address).to_string();
        let rule = BlockedUrls::new();
        let expected = rule.judge(&format!("http://{plain}/")).is_some();
        let listed = BlockedUrls::new().deny_hosts([plain.clone()]).block_private(false);
        let only = BlockedUrls::new().allow_hosts([plain]);
        for host in spellings(address) {
            let url = format!("http://{host}:8080/x");
            prop_assert_eq!(rule.judge(&url).is_some(), expected, "{}", url);
            prop_assert!(listed.judge(&url).is_some(), "{}", url);
            prop_assert!(only.judge(&url).is_none(), "{}", url);
        }
    }

    #[test]
    fn no_spelling_of_up_leads_out_of_a_root(
        up in prop::sample::select(vec!["..", "%2e%2e", "%2E.", ".%252e", "．．", "‥"]),
        slash in prop::sample::select(vec!["/", "\\", "%2f", "%5C", "%252f", "∕", "//", "/./"]),
        inside in "[a-z]{1,5}",
        outside in "[a-z]{6,9}",
    ) {
        let rule = BlockedPaths::new().roots(["/srv/work"]);
        let down_and_up = format!("/srv/work{slash}{inside}{slash}{up}{slash}{inside}.txt");
        prop_assert!(rule.judge(&down_and_up).is_none(), "{}", down_and_up);
        for path in [
            format!("{up}{slash}{outside}"),
            format!("{inside}{slash}{up}{slash}{up}{slash}{outside}"),
            format!("/srv/work{slash}{up}{slash}{outside}"),
            format!("/srv/work{slash}{inside}{slash}{up}{slash}{up}{slash}{outside}"),
        ] {
            prop_assert!(rule.judge(&path).is_some(), "{}", path);
        }
    }

    #[test]
    fn nothing_makes_them_panic(text in "\\PC{0,60}|[%./\\\\:@\\[\\]0-9a-fx~$ \t\n]{0,60}") {
        let args = json!({"path": text, "url": text, "x": [text], text.clone(): "/"});
        stops(&BlockedUrls::new().deny_hosts([text.clone()]).allow_hosts([text.clone(), "a".into()]), "t", &args);
        stops(&BlockedPaths::new().roots([text.clone()]).deny([text]), "t", &args);
    }
}
