//! Redacting twice is redacting once, splitting changes nothing, and secrets are no different.
//!
//! The first byte says where the text is split.
#![no_main]

use leash_policy::{PiiRedactor, SecretsRule};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&at, rest)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    for redactor in [PiiRedactor::new(), PiiRedactor::hashed([7; 32])] {
        let once = redactor.redact(text);
        assert_eq!(redactor.redact(&once), once);
        let (head, tail) = rest.split_at(usize::from(at).min(rest.len()));
        let mut stream = redactor.stream();
        let mut out = stream.push(head);
        out += &stream.push(tail);
        out += &stream.finish();
        assert_eq!(out, once);
        for span in redactor.scan(text) {
            assert!(text.get(span.start..span.end).is_some());
        }
    }
    let once = SecretsRule::new().redact(text);
    assert_eq!(SecretsRule::new().redact(&once), once);
});
