//! `redact`: a text without the personal data and the secrets in it.

use std::fs::File;
use std::io::{self, Read, Write as _};

use leash_policy::{PiiRedactor, SecretsRule, Span};
use serde_json::Value;

use crate::cli::RedactArgs;
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Longest text, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// Writes the text, or what was found in it.
pub(crate) fn run(args: &RedactArgs) -> Result<Exit, Failure> {
    let text = read(args)?;
    let pii = PiiRedactor::new();
    let mut output = Output::new(None);
    // `finish` tells of errors.
    if args.scan || args.json {
        let spans = pii.scan(&text);
        let _ = if args.json {
            let found: Vec<_> = spans
                .iter()
                .map(|Span { kind, start, end }| {
                    let kind = Value::from(kind.as_ref());
                    format!("{{\"kind\":{kind},\"start\":{start},\"end\":{end}}}")
                })
                .collect();
            writeln!(output, "[{}]", found.join(","))
        } else {
            spans
                .iter()
                .try_for_each(|Span { kind, start, end }| writeln!(output, "{kind}\t{start}\t{end}"))
        };
    } else {
        let text = if args.secrets {
            without_both(text, &pii)?
        } else {
            pii.redact(&text)
        };
        let _ = output.write_all(text.as_bytes());
    }
    output.finish()?;
    Ok(Exit::Done)
}

/// How often a text is gone through.
const MAX_ROUNDS: u32 = 16;

/// The text without secrets and personal data: again until nothing changes, as what one takes out may uncover what the
/// other finds.
fn without_both(mut text: String, pii: &PiiRedactor) -> Result<String, Failure> {
    let secrets = SecretsRule::new();
    for _ in 0..MAX_ROUNDS {
        let next = pii.redact(&secrets.redact(&text));
        if next == text {
            return Ok(text);
        }
        text = next;
    }
    Err(Failure::Told(
        "the text could not be redacted to its end".to_owned(),
    ))
}

fn read(args: &RedactArgs) -> Result<String, Failure> {
    let path = &args.path;
    let (name, read) = if path.as_os_str() == "-" {
        ("standard input".to_owned(), read_all(io::stdin().lock()))
    } else {
        (path.display().to_string(), File::open(path).and_then(read_all))
    };
    let bytes = read.map_err(|error| Failure::Told(format!("`{name}`: failed to read it: {error}")))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_BYTES) {
        return Err(Failure::Told(format!("`{name}`: longer than {MAX_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| Failure::Told(format!("`{name}`: not UTF-8")))
}

fn read_all(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_BYTES.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}
