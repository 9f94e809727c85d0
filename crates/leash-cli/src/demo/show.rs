//! What a person sees of the demo: 80 columns, colours where there is a terminal for them, and no decision.

use std::io::{self, IsTerminal as _};

use leash_core::{Usage, Usd};

use crate::exit::Failure;
use crate::output;

/// Cells of a bar that has a line with figures to itself.
const BAR: u64 = 14;

const COLUMNS: usize = 78;

/// Where the demo is told. Tells nothing where a machine wants JSON.
#[derive(Debug)]
pub(crate) struct Show {
    is_silent: bool,
    is_terminal: bool,
    has_colours: bool,
}

/// What a word is painted as.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Paint {
    Strong,
    Faint,
    Good,
    Warn,
    Bad,
}

impl Show {
    /// On standard output. `NO_COLOR` and a dumb terminal mean no colours, and so does no terminal.
    pub(crate) fn new(is_silent: bool) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            is_silent,
            is_terminal,
            has_colours: is_terminal && !is_set("NO_COLOR") && !is_dumb,
        }
    }

    /// Whether somebody watches, for whom lines should not come all at once.
    pub(crate) const fn is_watched(&self) -> bool {
        self.is_terminal && !self.is_silent
    }

    /// A line, or several.
    pub(crate) fn line(&self, text: &str) -> Result<(), Failure> {
        if self.is_silent {
            return Ok(());
        }
        output::print(format!("{text}\n").as_bytes())
    }

    /// `text` broken into lines, each `indent` columns in.
    pub(crate) fn text(&self, indent: usize, text: &str) -> Result<(), Failure> {
        let width = COLUMNS.saturating_sub(indent);
        for line in wrap(text, width) {
            self.line(&format!("{:indent$}{line}", ""))?;
        }
        Ok(())
    }

    /// `text`, painted.
    pub(crate) fn paint(&self, paint: Paint, text: &str) -> String {
        if !self.has_colours {
            return text.to_owned();
        }
        let code = match paint {
            Paint::Strong => "1",
            Paint::Faint => "2",
            Paint::Good => "32",
            Paint::Warn => "33",
            Paint::Bad => "1;31",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// The head of the table of calls.
    pub(crate) fn head(&self, cap: Usd) -> Result<(), Failure> {
        let head = format!(
            " {:>3}  {:<16}  {:<6}  {:>6}  {:>7}  {:>7}  spent of ${cap}",
            "#", "model", "answer", "tok in", "tok out", "cost"
        );
        self.line(&self.paint(Paint::Faint, &head))
    }

    /// A call that the provider answered.
    pub(crate) fn call(&self, row: &Row<'_>) -> Result<(), Failure> {
        let Row {
            number,
            model,
            streams,
            usage,
            cost,
            spent,
            cap,
        } = row;
        let answer = if *streams { "stream" } else { "whole" };
        let bar = bar(*spent, *cap, BAR);
        let paint = match share(*spent, *cap, 100) {
            0..60 => Paint::Good,
            60..85 => Paint::Warn,
            _ => Paint::Bad,
        };
        self.line(&format!(
            " {number:>3}  {model:<16}  {answer:<6}  {:>6}  {:>7}  {:>7}  {} {}",
            thousands(usage.input_tokens),
            thousands(usage.output_tokens),
            dollars(*cost),
            self.paint(paint, &bar),
            dollars(*spent),
        ))
    }

    /// A call that did not leave.
    pub(crate) fn refused(&self, number: usize, model: &str, left: Usd) -> Result<(), Failure> {
        let why = format!(
            "refused: it may cost more than the {} that are left",
            dollars(left)
        );
        self.line(&format!(
            " {number:>3}  {model:<16}  {}",
            self.paint(Paint::Bad, &why)
        ))
    }

    /// What a line above led to.
    pub(crate) fn aside(&self, text: &str) -> Result<(), Failure> {
        for (at, line) in wrap(text, COLUMNS.saturating_sub(8)).into_iter().enumerate() {
            let mark = if at == 0 { "└" } else { " " };
            self.line(&format!("      {mark} {}", self.paint(Paint::Warn, &line)))?;
        }
        Ok(())
    }

    /// A figure with its name and what is to be known of it.
    pub(crate) fn figure(&self, name: &str, amount: Usd, paint: Paint, about: &str) -> Result<(), Failure> {
        let amount = self.paint(paint, &format!("{:>9}", dollars(amount)));
        for (at, line) in wrap(about, COLUMNS.saturating_sub(32)).into_iter().enumerate() {
            if at == 0 {
                self.line(&format!("  {name:<17}{amount}    {line}"))?;
            } else {
                self.line(&format!("{:32}{line}", ""))?;
            }
        }
        Ok(())
    }
}

/// A line of the table of calls.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub(crate) number: usize,
    pub(crate) model: &'a str,
    pub(crate) streams: bool,
    pub(crate) usage: Usage,
    pub(crate) cost: Usd,
    pub(crate) spent: Usd,
    pub(crate) cap: Usd,
}

/// Dollars to four places, as people read them.
pub(crate) fn dollars(amount: Usd) -> String {
    format!("${:.4}", amount.to_f64())
}

/// How many `parts`-th of `whole` are in `part`, rounded down.
pub(crate) fn share(part: Usd, whole: Usd, parts: u64) -> u64 {
    let scaled = u128::from(part.as_nanos()).saturating_mul(u128::from(parts));
    scaled
        .checked_div(u128::from(whole.as_nanos()))
        .and_then(|share| u64::try_from(share).ok())
        .unwrap_or(0)
}

/// How many times `whole` fits into `part`, to two places: `5.58`.
pub(crate) fn times(part: Usd, whole: Usd) -> String {
    let hundredths = share(part, whole, 100);
    format!(
        "{}.{:02}",
        hundredths.wrapping_div(100),
        hundredths.wrapping_rem(100)
    )
}

/// A bar of `cells` cells, filled as far as `part` is of `whole`; what is not nothing fills one at least.
pub(crate) fn bar(part: Usd, whole: Usd, cells: u64) -> String {
    let least = u64::from(!part.is_zero());
    let full = share(part, whole, cells).max(least).min(cells);
    let cell = |sign: &str, count: u64| sign.repeat(usize::try_from(count).unwrap_or(0));
    cell("█", full) + &cell("░", cells.saturating_sub(full))
}

fn thousands(number: u64) -> String {
    let (above, below) = (number.wrapping_div(1_000), number.wrapping_rem(1_000));
    if above == 0 {
        below.to_string()
    } else {
        format!("{above},{below:03}")
    }
}

/// Broken between words into lines of at most `width` columns; a longer word has a line of its own.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count().saturating_add(word.chars().count()) < width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(text: &str) -> Usd {
        text.parse().unwrap()
    }

    #[test]
    fn a_bar_is_never_longer_than_its_cells() {
        for (part, full) in [
            ("0", 0),
            ("0.001", 1),
            ("0.25", 5),
            ("0.4999", 9),
            ("0.50", 10),
            ("2.00", 10),
        ] {
            let bar = bar(usd(part), usd("0.50"), 10);
            assert_eq!(bar.chars().count(), 10, "{part}");
            assert_eq!(bar.chars().filter(|cell| *cell == '█').count(), full, "{part}");
        }
        assert_eq!(times(usd("2.79"), usd("0.50")), "5.58");
    }

    #[test]
    fn wrapped_lines_keep_every_word_and_the_width() {
        let text = "one two three four five six seven eight";
        let lines = wrap(text, 11);
        assert_eq!(lines.join(" "), text);
        assert!(lines.iter().all(|line| line.len() <= 11), "{lines:?}");
        assert_eq!(wrap("a/very/long/path b", 4), ["a/very/long/path", "b"]);
    }
}
