//! With detectors of one's own, too: redacting twice is redacting once, and splitting changes nothing.
//!
//! The first byte says where the text is split.
#![no_main]

use std::sync::LazyLock;

use leash_policy::PiiRedactor;
use libfuzzer_sys::fuzz_target;

static REDACTOR: LazyLock<PiiRedactor> = LazyLock::new(|| {
    PiiRedactor::new()
        .with_detector("EMPLOYEE", r"\bE-[0-9]{3,5}\b")
        .unwrap()
        .with_detector("ROOM", r"(?i)room [a-z]?[0-9]+")
        .unwrap()
});

fuzz_target!(|data: &[u8]| {
    let Some((&at, rest)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    let once = REDACTOR.redact(text);
    assert_eq!(REDACTOR.redact(&once), once);
    let (head, tail) = rest.split_at(usize::from(at).min(rest.len()));
    let mut stream = REDACTOR.stream();
    let mut out = stream.push(head);
    out += &stream.push(tail);
    out += &stream.finish();
    assert_eq!(out, once);
});
