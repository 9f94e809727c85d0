//! What is found is taken out, for good, and lies where it is said to lie.
#![no_main]

use leash_policy::SecretsRule;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let rule = SecretsRule::new();
    let mut after = 0;
    for span in rule.scan(text) {
        assert!(span.start >= after && span.start < span.end);
        assert!(text.get(span.start..span.end).is_some());
        after = span.end;
    }
    let once = rule.redact(text);
    assert_eq!(once == text, after == 0);
    assert_eq!(rule.redact(&once), once);
});
