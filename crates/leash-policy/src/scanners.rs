//! Rules that ask another process: [`PresidioRule`], [`ScannerRule`], [`LlamaFirewallRule`].
//!
//! All of them refuse where they get no answer, none in time, or one that they do not understand.

mod http;
mod line;
mod presidio;
mod process;

use std::ops::ControlFlow;
use std::time::Duration;

use leash_core::{Call, RuleError};
use serde_json::Value;

pub use self::line::{LlamaFirewallRule, ScannerRule, ScannerTransport};
pub use self::presidio::PresidioRule;
use crate::args;
use crate::registry::{OptionError, OptionKind, Options, ScannerKind, Shape};

/// How long a scanner may take, unless it is told otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How many calls one scanner over HTTP is asked about at once; others wait, and their time runs.
const CONCURRENT: usize = 16;
/// The longest text that is sent, in bytes. A longer call is refused: half a scan is none.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// A scanner that cannot be asked. Quotes neither address nor command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScannerError {
    /// It is no address.
    #[error("a scanner's address starts with `http://` or `https://`, and names a host")]
    Url,
    /// There is no program to start.
    #[error("a scanner's command names a program")]
    Command,
    /// The HTTP client could not be made.
    #[error("the HTTP client cannot be made")]
    Client,
    /// It is no score.
    #[error("a score is between 0 and 1")]
    Score,
}

/// A score, from 0 to 1.
fn score(value: f64) -> Result<f64, ScannerError> {
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(ScannerError::Score)
    }
}

/// What a scanner is to look at: every string and number of a call, names of members too, a line each.
fn text_of(call: &Call) -> Result<String, RuleError> {
    let mut text = String::new();
    let mut too_long = false;
    let value = call.content().value();
    let mut add = |piece: &str| {
        if text.len().saturating_add(piece.len()) >= MAX_TEXT_BYTES {
            too_long = true;
            return ControlFlow::Break(());
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(piece);
        ControlFlow::Continue(())
    };
    args::texts(value, &mut add)?;
    // A number may be that of a card.
    let mut rest = vec![value];
    while let Some(value) = rest.pop() {
        match value {
            Value::Number(number) if add(&number.to_string()).is_break() => break,
            Value::Array(items) => rest.extend(items.iter().rev()),
            Value::Object(members) => {
                // Sorted, so that the same call is the same text however its members are kept.
                let mut members: Vec<_> = members.iter().collect();
                members.sort_by(|one, other| other.0.cmp(one.0));
                rest.extend(members.into_iter().map(|(_, value)| value));
            }
            _ => {}
        }
    }
    if too_long {
        return Err(RuleError::new("the call is too long for the scanner"));
    }
    Ok(text)
}

const TIMEOUT_OPTION: OptionKind = OptionKind {
    name: "timeout_ms",
    shape: Shape::Number,
    about: "How long an answer may take, in milliseconds; later ones are refusals. Default: 5000.",
};
const SCORE_OPTION: OptionKind = OptionKind {
    name: "score",
    shape: Shape::Number,
    about: "From which score on a finding counts, from 0 to 1.",
};
const LINE_OPTIONS: &[OptionKind] = &[
    OptionKind {
        name: "command",
        shape: Shape::Texts,
        about: "The program to start, and its arguments.",
    },
    OptionKind {
        name: "url",
        shape: Shape::Text,
        about: "The address to ask instead.",
    },
    OptionKind {
        name: "processes",
        shape: Shape::Number,
        about: "How many processes of `command` there are at most. Default: 1.",
    },
    OptionKind {
        name: "start_timeout_ms",
        shape: Shape::Number,
        about: "How long `command` may take until it is ready, in milliseconds. Default: 60000.",
    },
    SCORE_OPTION,
    TIMEOUT_OPTION,
];

pub(crate) const PRESIDIO: ScannerKind = ScannerKind {
    name: "presidio",
    about: "Blocks calls in which Microsoft Presidio finds personal data.",
    options: &[
        OptionKind {
            name: "url",
            shape: Shape::Text,
            about: "Where the analyzer listens, without `/analyze`.",
        },
        OptionKind {
            name: "language",
            shape: Shape::Text,
            about: "The language of the texts. Default: `en`.",
        },
        OptionKind {
            name: "entities",
            shape: Shape::List,
            about: "What is looked for, in Presidio's names. Default: all it knows.",
        },
        SCORE_OPTION,
        TIMEOUT_OPTION,
    ],
    make: |options| {
        let url = options
            .one("url")?
            .ok_or_else(|| OptionError::invalid("url", "is missing"))?;
        let mut rule =
            PresidioRule::new(&url).map_err(|error| OptionError::invalid("url", error.to_string()))?;
        if let Some(score) = options.number("score")? {
            rule = rule
                .min_score(score)
                .map_err(|error| OptionError::invalid("score", error.to_string()))?;
        }
        if let Some(language) = options.one("language")? {
            rule = rule.language(language);
        }
        let entities = options.list("entities");
        if !entities.is_empty() {
            rule = rule.entities(entities);
        }
        if let Some(timeout) = millis(options, "timeout_ms")? {
            rule = rule.timeout(timeout);
        }
        Ok(std::sync::Arc::new(rule))
    },
};

pub(crate) const LLAMA_FIREWALL: ScannerKind = ScannerKind {
    name: "llama_firewall",
    about: "Blocks, or asks a human, where LlamaFirewall says so.",
    options: LINE_OPTIONS,
    make: |options| {
        let (transport, timeout, score) = line_options(options)?;
        let mut rule = LlamaFirewallRule::new(transport);
        if let Some(timeout) = timeout {
            rule = rule.timeout(timeout);
        }
        if let Some(score) = score {
            rule = rule
                .min_score(score)
                .map_err(|error| OptionError::invalid("score", error.to_string()))?;
        }
        Ok(std::sync::Arc::new(rule))
    },
};

pub(crate) const SCANNER: ScannerKind = ScannerKind {
    name: "scanner",
    about: "Does what a scanner of one's own says, which is asked over the protocol of `docs/scanners.md`.",
    options: LINE_OPTIONS,
    make: |options| {
        let (transport, timeout, score) = line_options(options)?;
        let mut rule = ScannerRule::new("scanner", transport);
        if let Some(timeout) = timeout {
            rule = rule.timeout(timeout);
        }
        if let Some(score) = score {
            rule = rule
                .min_score(score)
                .map_err(|error| OptionError::invalid("score", error.to_string()))?;
        }
        Ok(std::sync::Arc::new(rule))
    },
};

fn millis(options: &mut Options, name: &str) -> Result<Option<Duration>, OptionError> {
    match options.number::<u64>(name)? {
        // A call that nobody answers is refused while somebody still waits for it.
        Some(0 | 3_600_001..) => Err(OptionError::invalid(name, "is from 1 to 3600000")),
        other => Ok(other.map(Duration::from_millis)),
    }
}

fn line_options(
    options: &mut Options,
) -> Result<(ScannerTransport, Option<Duration>, Option<f64>), OptionError> {
    let url = options.one("url")?;
    let command = options.all("command");
    let processes = options.number::<usize>("processes")?;
    let start = millis(options, "start_timeout_ms")?;
    let transport = match (url, command.is_empty()) {
        (Some(url), true) => {
            for (name, given) in [
                ("processes", processes.is_some()),
                ("start_timeout_ms", start.is_some()),
            ] {
                if given {
                    return Err(OptionError::invalid(name, "is for `command`"));
                }
            }
            ScannerTransport::http(&url).map_err(|error| OptionError::invalid("url", error.to_string()))?
        }
        (None, false) => {
            let mut transport = ScannerTransport::command(command)
                .map_err(|error| OptionError::invalid("command", error.to_string()))?;
            if let Some(processes) = processes {
                if !(1..=64).contains(&processes) {
                    return Err(OptionError::invalid("processes", "is between 1 and 64"));
                }
                transport = transport.processes(processes);
            }
            if let Some(start) = start {
                transport = transport.start_timeout(start);
            }
            transport
        }
        _ => return Err(OptionError::invalid("command", "or `url` is given, and not both")),
    };
    Ok((
        transport,
        millis(options, "timeout_ms")?,
        options.number("score")?,
    ))
}
