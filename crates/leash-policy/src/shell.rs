//! Shell commands, judged by what they would do: [`BlockedShell`].
//!
//! A parser of its own reads the script; every simple command in it is met, through pipelines, lists, groups,
//! subshells, functions, loops, here-documents, and process and command substitution; words are decoded as a shell
//! decodes them; programs that run others (`sudo`, `xargs`, `find -exec`, `sh -c`, `python -c`, …) are opened. Nothing
//! runs, no file is looked at, and no command is kept once it was judged.
#![expect(
    clippy::if_same_then_else,
    clippy::semicolon_if_nothing_returned,
    reason = "a grammar or a table, read best in one place and as it is written"
)]

mod code;
mod expand;
mod judge;
mod long;
mod machine;
mod marks;
mod paths;
mod syntax;
mod wrappers;

use leash_core::{Action, Call, Decision, PolicyContext, Rule, RuleError};
use regex::RegexSet;
use serde_json::Value;

use self::machine::{End, Machine, Stop, quote};

/// How long a script may be, in bytes.
pub const MAX_SCRIPT_BYTES: usize = 1 << 16;
/// How long any other text may be, in bytes.
pub(crate) const MAX_TEXT_BYTES: usize = 1 << 21;
/// How many strings of one call are judged, and how deep they may lie.
const MAX_STRINGS: usize = 4096;
const MAX_DEPTH: u32 = 128;

/// An option that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ShellOptionError(String);

#[derive(Debug, Default, Clone)]
struct Settings {
    deny: Vec<String>,
    allow: Vec<Vec<String>>,
    protected: Vec<String>,
    patterns: Option<RegexSet>,
}

/// Blocks shell commands that do harm. Looks at tool calls only: what people write to a model is no command.
///
/// Default id: `blocked_shell`. It blocks what destroys files or disks, opens permissions wide, shuts the machine
/// down, kills everything, downloads and runs, opens a shell to the network, reads credentials, sends data out, or
/// persists. What it cannot know before the command runs (the name of a program, a path that is removed) is blocked
/// too, or asked about: [`BlockedShell::ask_when_unknown`].
///
/// In a call's arguments, members named as commands are (`command`, `cmd`, `script`, …), every string of a tool named
/// as shells are, and those given by [`BlockedShell::arguments`] must be readable as shell; a list of strings is taken
/// as the words of a command as well. Every other string is judged too, but there only what is surely harmful counts,
/// and what is more than can be followed.
///
/// It promises no sandbox: a program that it does not know, or a script that lies on the disk, may do anything.
///
/// ```
/// use leash_core::{Action, Call, Caller, PolicyContext, Rule, SessionId, Timestamp, ToolCall};
/// use leash_policy::BlockedShell;
///
/// let rule = BlockedShell::new();
/// let decide = |command: &str| {
///     let caller = Caller::session(SessionId::new("s_1")?);
///     let call = Call::Tool(ToolCall::new("bash", serde_json::json!({"command": command}), caller));
///     Ok::<_, Box<dyn std::error::Error>>(rule.evaluate(&call, &PolicyContext::new(Timestamp::EPOCH))?.map(|said| said.action))
/// };
/// assert_eq!(decide("sudo env A=1 'r'm -r${x:-f} /")?, Some(Action::Block));
/// assert_eq!(decide("echo 'rm -rf /'")?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct BlockedShell {
    id: String,
    settings: Settings,
    unknown: Action,
    arguments: Vec<String>,
}

impl Default for BlockedShell {
    fn default() -> Self {
        Self::new()
    }
}

/// What a text is in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// A command: it must be readable, and what is not known counts.
    Command,
    /// Any text: only what is surely harmful counts.
    Text,
}

/// What was found, the worst so far.
#[derive(Debug, Default)]
struct Verdict {
    blocked: Option<&'static str>,
    refused: Option<&'static str>,
    unknown: Option<&'static str>,
    /// What was done for the call so far: to follow its texts as they are, and what remains of them.
    steps: u32,
    condensed: u32,
}

impl BlockedShell {
    /// The rule with its defaults: what is not known is blocked.
    #[must_use]
    pub fn new() -> Self {
        Self {
            id: "blocked_shell".into(),
            settings: Settings::default(),
            unknown: Action::Block,
            arguments: Vec::new(),
        }
    }

    /// The same under another id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// Asks a human where a name or a decisive argument is not known before the command runs.
    #[must_use]
    pub fn ask_when_unknown(mut self) -> Self {
        self.unknown = Action::Hitl;
        self
    }

    /// Also blocks these programs, however they are spelled or wrapped.
    #[must_use]
    pub fn deny_programs<I: IntoIterator<Item: Into<String>>>(mut self, programs: I) -> Self {
        self.settings.deny.extend(
            programs
                .into_iter()
                .map(Into::into)
                .filter(|name: &String| !name.trim().is_empty()),
        );
        self
    }

    /// Only these programs may run. An entry is a name, after it the subcommand it must have, and the only options it
    /// may have: `git log --oneline`. What is harmful stays blocked.
    #[must_use]
    pub fn allow_programs<I: IntoIterator<Item: Into<String>>>(mut self, programs: I) -> Self {
        self.settings.allow.extend(
            programs
                .into_iter()
                .map(|entry| {
                    entry
                        .into()
                        .split_whitespace()
                        .map(str::to_owned)
                        .collect::<Vec<_>>()
                })
                .filter(|entry| !entry.is_empty()),
        );
        self
    }

    /// Blocks whatever reads, writes, deletes or re-permits these paths and what is below them. A relative path is met
    /// in every folder.
    #[must_use]
    pub fn protected_paths<I: IntoIterator<Item: Into<String>>>(mut self, paths: I) -> Self {
        self.settings.protected.extend(
            paths
                .into_iter()
                .map(Into::into)
                .filter(|path: &String| !path.trim().is_empty()),
        );
        self
    }

    /// Arguments that hold commands, by the name of their member, besides those that it knows.
    #[must_use]
    pub fn arguments<I: IntoIterator<Item: Into<String>>>(mut self, names: I) -> Self {
        self.arguments.extend(names.into_iter().map(Into::into));
        self
    }

    /// Also blocks what one of these regular expressions matches in a command, upper or lower case alike.
    ///
    /// # Errors
    /// [`ShellOptionError`] for what is no regular expression, or too large a one.
    pub fn extra_patterns<I: IntoIterator<Item: AsRef<str>>>(
        mut self,
        patterns: I,
    ) -> Result<Self, ShellOptionError> {
        let set = regex::RegexSetBuilder::new(patterns)
            .case_insensitive(true)
            .size_limit(1 << 22)
            .build()
            .map_err(|_| {
                ShellOptionError("an extra pattern is no regular expression, or too large".into())
            })?;
        self.settings.patterns = Some(set);
        Ok(self)
    }

    /// Sets an option by its name, as policy files and the command line give it: `deny_programs`, `allow_programs`,
    /// `protected_paths`, `arguments` (lists with commas), `extra_patterns` (one expression a line), `unknown` (`block`
    /// or `hitl`).
    ///
    /// # Errors
    /// [`ShellOptionError`] for another name, or a value that does not fit.
    pub fn with_option(self, name: &str, value: &str) -> Result<Self, ShellOptionError> {
        let list = || {
            value
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        match name {
            "deny_programs" => Ok(self.deny_programs(list())),
            "allow_programs" => Ok(self.allow_programs(list())),
            "protected_paths" => Ok(self.protected_paths(list())),
            "arguments" => Ok(self.arguments(list())),
            "extra_patterns" => self.extra_patterns(value.lines().filter(|line| !line.is_empty())),
            "unknown" => match value {
                "block" => Ok(Self {
                    unknown: Action::Block,
                    ..self
                }),
                "hitl" => Ok(self.ask_when_unknown()),
                _ => Err(ShellOptionError("`unknown` is `block` or `hitl`".into())),
            },
            _ => Err(ShellOptionError("`blocked_shell` has no such option".into())),
        }
    }

    /// What it says of one command; `None` where it may run.
    #[must_use]
    pub fn judge(&self, command: &str) -> Option<Decision> {
        let mut verdict = Verdict::default();
        self.judge_text(command, Reading::Command, &mut verdict);
        self.decide(&verdict)
    }

    fn decide(&self, verdict: &Verdict) -> Option<Decision> {
        if let Some(reason) = verdict.blocked {
            return Some(Decision::new(
                Action::Block,
                self.id.clone(),
                format!("the command {reason}"),
            ));
        }
        if let Some(reason) = verdict.refused {
            return Some(Decision::new(
                Action::Block,
                self.id.clone(),
                format!("the command cannot be judged: it {reason}"),
            ));
        }
        verdict
            .unknown
            .map(|reason| Decision::new(self.unknown, self.id.clone(), format!("the command {reason}")))
    }

    fn judge_text(&self, text: &str, reading: Reading, verdict: &mut Verdict) {
        if verdict.blocked.is_some() || text.trim().is_empty() {
            return;
        }
        if text.len() > MAX_SCRIPT_BYTES {
            if reading == Reading::Command {
                verdict.refused.get_or_insert("is too long");
                return;
            }
            if text.len() > MAX_TEXT_BYTES {
                verdict.refused.get_or_insert("is too long");
                return;
            }
        }
        if let Some(patterns) = &self.settings.patterns
            && patterns.is_match(text)
        {
            verdict.blocked = Some("matches a pattern that is blocked");
            return;
        }
        if text.contains('\0') || marks::any(text) {
            if reading == Reading::Command {
                verdict
                    .refused
                    .get_or_insert("holds characters that no command has");
            } else {
                let clean: String = text.chars().filter(|&c| c != '\0' && !marks::is(c)).collect();
                self.judge_text(&clean, reading, verdict);
            }
            return;
        }
        let strict = reading == Reading::Command;
        let plain;
        let text = if strict || !text.contains('`') {
            text
        } else {
            plain = without_code_spans(text);
            plain.as_str()
        };
        let settings;
        let used = if strict
            || (self.settings.allow.is_empty()
                && self.settings.protected.is_empty()
                && self.settings.deny.is_empty())
        {
            &self.settings
        } else {
            // A list of what alone may run is no measure for texts that are no commands.
            settings = Settings {
                allow: Vec::new(),
                ..self.settings.clone()
            };
            &settings
        };
        if text.len() > MAX_SCRIPT_BYTES {
            judge_condensed(text, used, verdict);
            return;
        }
        // What is no command is followed as a whole as long as there is not too much of it in one call.
        if !strict && verdict.steps >= machine::MAX_STEPS {
            judge_condensed(text, used, verdict);
            return;
        }
        let mut machine = Machine::new(used, verdict.steps);
        let run = machine.run_all(text, strict);
        verdict.steps = machine.steps();
        match run {
            Ok(_) => {}
            Err(Stop::Danger(reason)) => {
                verdict.blocked = Some(reason);
                return;
            }
            Err(Stop::Refuse(reason)) if strict => {
                verdict.refused.get_or_insert(reason);
            }
            // More than can be followed, in what may be no script at all: what can do nothing is left out.
            Err(Stop::Refuse(_)) => judge_condensed(text, used, verdict),
        }
        if strict && let Some(reason) = machine.unknown {
            verdict.unknown.get_or_insert(reason);
        }
    }

    fn judge_words(&self, words: &[&str], reading: Reading, verdict: &mut Verdict) {
        let text = words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ");
        self.judge_text(&text, reading, verdict);
    }

    fn walk(
        &self,
        value: &Value,
        reading: Reading,
        name: &str,
        depth: u32,
        left: &mut usize,
        verdict: &mut Verdict,
    ) {
        if depth > MAX_DEPTH || *left == 0 {
            verdict
                .refused
                .get_or_insert("lies too deep, or among too many others");
            return;
        }
        *left = left.saturating_sub(1);
        let deeper = depth.saturating_add(1);
        match value {
            Value::String(text) => self.judge_text(text, reading, verdict),
            Value::Array(items) => {
                let words: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                let argv = words.len() == items.len() && !words.is_empty();
                if argv {
                    // Either the words of one command, or several commands.
                    let program = words
                        .first()
                        .is_some_and(|first| !first.trim().contains([' ', '\n']));
                    self.judge_words(&words, if program { reading } else { Reading::Text }, verdict);
                    // The words of one command are no commands themselves.
                    if program && reading == Reading::Command && is_one_command(name, &words) {
                        return;
                    }
                    for item in items {
                        self.walk(
                            item,
                            if program { Reading::Text } else { reading },
                            name,
                            deeper,
                            left,
                            verdict,
                        );
                    }
                    return;
                }
                for item in items {
                    self.walk(item, reading, name, deeper, left, verdict);
                }
            }
            Value::Object(members) => {
                let program = members
                    .iter()
                    .find(|(name, value)| is_program(name) && value.is_string())
                    .and_then(|(_, value)| value.as_str());
                let args = members
                    .iter()
                    .find(|(name, _)| is_arguments(name))
                    .map(|(_, value)| value);
                let mut joined = false;
                if let (Some(program), Some(args)) = (program, args) {
                    match args {
                        Value::Array(items) => {
                            let mut words = vec![program];
                            words.extend(items.iter().filter_map(Value::as_str));
                            joined = words.len() > items.len() && !program.trim().contains([' ', '\n']);
                            self.judge_words(&words, Reading::Command, verdict);
                        }
                        Value::String(rest) => {
                            self.judge_text(&format!("{program} {rest}"), Reading::Command, verdict)
                        }
                        _ => {}
                    }
                }
                for (name, value) in members {
                    if joined && is_arguments(name) {
                        continue;
                    }
                    if is_label(name) && !is_command(name) && value_words(value) <= 1 {
                        continue;
                    }
                    let inner = if is_command(name) || self.arguments.iter().any(|argument| argument == name)
                    {
                        Reading::Command
                    } else if reading == Reading::Command
                        && !is_other(name)
                        && !(program.is_some() && is_arguments(name))
                    {
                        Reading::Command
                    } else {
                        Reading::Text
                    };
                    self.walk(value, inner, name, deeper, left, verdict);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Judges a text that may be no command, and is more than can be followed as a whole. What remains without the lines
/// that can do nothing must be followed to its end, or to where a shell would stop.
fn judge_condensed(text: &str, settings: &Settings, verdict: &mut Verdict) {
    let condensed = long::condense(text, settings);
    let mut machine = Machine::new(settings, verdict.condensed);
    let run = machine.run_all(&condensed.text, false);
    verdict.condensed = machine.steps();
    match run {
        Ok(End::Broken) => {}
        Ok(_) if condensed.whole => {}
        Ok(End::Whole | End::Open) => {
            verdict.refused.get_or_insert("is too long");
        }
        Err(Stop::Danger(reason)) => verdict.blocked = Some(reason),
        Err(Stop::Refuse(reason)) => {
            verdict.refused.get_or_insert(reason);
        }
    }
}

/// Whether a list of words under this name is one command, and not a list of commands.
fn is_one_command(name: &str, words: &[&str]) -> bool {
    if !matches!(
        plain(name).as_str(),
        "command" | "cmd" | "argv" | "args" | "exec" | "commandline" | "cmdline" | "entrypoint" | "arguments"
    ) {
        return false;
    }
    // Programs that take texts; or words that have options among them.
    let takes_texts = words.first().is_some_and(|first| {
        matches!(
            first.rsplit('/').next().unwrap_or(first),
            "echo"
                | "printf"
                | "grep"
                | "egrep"
                | "fgrep"
                | "rg"
                | "ag"
                | "git"
                | "gh"
                | "glab"
                | "hg"
                | "logger"
                | "wall"
                | "man"
                | "jq"
                | "yq"
                | "awk"
                | "sed"
                | "test"
                | "notify-send"
                | "say"
                | "write"
                | "gcloud"
                | "slack"
        )
    });
    takes_texts || words.iter().skip(1).any(|word| word.starts_with('-'))
}

/// Names of members that hold one word about something, such as its state.
fn is_label(name: &str) -> bool {
    matches!(
        plain(name).as_str(),
        "label"
            | "labels"
            | "tag"
            | "tags"
            | "state"
            | "status"
            | "title"
            | "subject"
            | "category"
            | "categories"
            | "type"
            | "kind"
            | "priority"
            | "level"
            | "event"
            | "events"
            | "topic"
            | "keywords"
    )
}

/// The most words that a string of `value` has; many where it is no string and no list of strings.
fn value_words(value: &Value) -> usize {
    let words = |value: &Value| {
        value
            .as_str()
            .map_or(usize::MAX, |text| text.split_whitespace().count())
    };
    match value {
        Value::Array(items) => items.iter().map(words).max().unwrap_or(0),
        value => words(value),
    }
}

/// A text in which code stands between backquotes, as Markdown has it, without it: only in lines that begin as
/// prose does. In a line that begins with a program's name a shell would run it.
fn without_code_spans(text: &str) -> String {
    const PROGRAMS: [&str; 40] = [
        "echo", "printf", "ls", "cat", "cd", "rm", "cp", "mv", "sudo", "sh", "bash", "eval", "exec",
        "export", "curl", "wget", "git", "python", "python3", "node", "env", "find", "xargs", "test", "kill",
        "grep", "awk", "sed", "touch", "mkdir", "chmod", "chown", "ssh", "docker", "kubectl", "tar", "true",
        "false", "source", "time",
    ];
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_start();
        let first = trimmed.split_whitespace().next().unwrap_or("");
        let marked = first.starts_with(['#', '*', '>', '|'])
            || first == "-"
            || first.bytes().next().is_some_and(|byte| byte.is_ascii_digit()) && first.ends_with(['.', ')']);
        let word = first
            .trim_end_matches([',', ':', '.', ';', '!', '?'])
            .bytes()
            .all(|byte| byte.is_ascii_alphabetic() || byte == b'\'');
        let prose = (marked || word && !PROGRAMS.contains(&first))
            && trimmed.split_whitespace().count() > 1
            && !line.contains("```")
            && line.matches('`').count() % 2 == 0;
        if !prose {
            out.push_str(line);
            continue;
        }
        for (at, part) in line.split('`').enumerate() {
            if at % 2 == 0 {
                out.push_str(part);
            }
        }
    }
    out
}

fn plain(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// Names of members that hold commands.
fn is_command(name: &str) -> bool {
    matches!(
        plain(name).as_str(),
        "command"
            | "commands"
            | "cmd"
            | "cmds"
            | "cmdline"
            | "commandline"
            | "shell"
            | "bash"
            | "sh"
            | "shellcommand"
            | "bashcommand"
            | "argv"
            | "exec"
            | "shellscript"
            | "bashscript"
    )
}

fn is_program(name: &str) -> bool {
    matches!(
        plain(name).as_str(),
        "command" | "cmd" | "program" | "executable" | "binary" | "exe" | "bin" | "file" | "path"
    )
}

fn is_arguments(name: &str) -> bool {
    matches!(
        plain(name).as_str(),
        "args" | "argv" | "arguments" | "params" | "parameters" | "options" | "cmdargs" | "commandargs"
    )
}

/// Names of members of a shell tool that hold no command.
fn is_other(name: &str) -> bool {
    matches!(
        plain(name).as_str(),
        "description"
            | "reason"
            | "explanation"
            | "cwd"
            | "workdir"
            | "workingdirectory"
            | "workingdir"
            | "dir"
            | "directory"
            | "env"
            | "environment"
            | "title"
            | "thought"
            | "comment"
            | "timeout"
            | "justification"
            | "user"
            | "stdin"
            | "input"
            | "id"
            | "name"
            | "host"
            | "hostname"
            | "purpose"
            | "summary"
            | "message"
            | "note"
    )
}

/// Tools whose every string may be a command.
fn is_shell_tool(tool: &str) -> bool {
    let last = tool
        .rsplit(['.', '/', ':'])
        .next()
        .unwrap_or(tool)
        .to_ascii_lowercase();
    let words = ["bash", "shell", "terminal", "sh", "zsh", "console", "powershell"];
    last.split(['_', '-', ' ']).any(|word| words.contains(&word))
        || matches!(
            last.as_str(),
            "exec"
                | "execute"
                | "run_command"
                | "execute_command"
                | "run_cmd"
                | "runcommand"
                | "exec_command"
                | "command"
                | "runinterminal"
        )
}

impl Rule for BlockedShell {
    fn id(&self) -> &str {
        &self.id
    }

    fn evaluate(&self, call: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        let Call::Tool(call) = call else { return Ok(None) };
        let reading = if is_shell_tool(&call.tool) {
            Reading::Command
        } else {
            Reading::Text
        };
        let mut verdict = Verdict::default();
        let mut left = MAX_STRINGS;
        self.walk(call.args.value(), reading, "", 0, &mut left, &mut verdict);
        Ok(self.decide(&verdict))
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use leash_core::Action;
    use serde_json::json;

    use super::machine::{MAX_STEPS, Machine, Stop};
    use super::{BlockedShell, Reading, Settings, Verdict, marks};

    #[test]
    fn what_grows_with_a_script_counts_as_work() {
        let settings = Settings::default();
        let variables = (0..4_000)
            .map(|at| format!("v{at}=b;"))
            .collect::<Vec<_>>()
            .concat();
        for script in [
            // Each command looks at all variables; here it copies them, too.
            format!("{variables}{}", "a=b c;".repeat(2_000)),
            format!("{variables}{}", "b=c|d;".repeat(2_000)),
            // Nobody would follow so many, and none of them need be read to know that.
            "a;".repeat(30_000),
            format!("a=x;{}", "a=$a$a;".repeat(9_000)),
        ] {
            let mut machine = Machine::new(&settings, 0);
            let run = machine.run_all(&script, true);
            assert!(matches!(run, Err(Stop::Refuse(_))), "{}", script.len());
            assert!(machine.steps() < MAX_STEPS * 2, "{}", machine.steps());
        }
        let mut machine = Machine::new(&settings, 0);
        let script = "name=value; other=\"$name\"\nls -l | sort\nfoo=bar make_it\n".repeat(800);
        assert!(machine.run_all(&script, true).is_ok(), "{}", machine.steps());
    }

    #[test]
    fn the_texts_of_a_call_share_what_may_be_done_for_them() {
        let rule = BlockedShell::new();
        let mut verdict = Verdict::default();
        let mut left = super::MAX_STRINGS;
        let args = json!({"notes": vec!["a b;".repeat(8_000); 30]});
        rule.walk(&args, Reading::Text, "", 0, &mut left, &mut verdict);
        assert!(verdict.steps < MAX_STEPS * 2, "{}", verdict.steps);
        assert!(verdict.condensed < MAX_STEPS * 2, "{}", verdict.condensed);
        // What comes behind many harmless texts is judged all the same.
        let mut texts = vec!["some words\nand more\n".repeat(1_500); 30];
        texts.push("rm -rf /".into());
        let mut verdict = Verdict::default();
        let mut left = super::MAX_STRINGS;
        rule.walk(
            &json!({"notes": texts}),
            Reading::Text,
            "",
            0,
            &mut left,
            &mut verdict,
        );
        assert!(verdict.steps >= MAX_STEPS, "{}", verdict.steps);
        assert_eq!(rule.decide(&verdict).map(|said| said.action), Some(Action::Block));
        assert!(verdict.blocked.is_some() && verdict.refused.is_none());
    }

    /// What `script` writes in a shell that finds no program, in an empty folder.
    fn bash(script: &str) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new("/bin/bash")
            .args(["--norc", "--noprofile", "-c", script])
            .env_clear()
            .env("PATH", "/nonexistent")
            .env("LC_ALL", "C.UTF-8")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .output()
            .ok()?;
        if !output.status.success() || !output.stderr.is_empty() {
            return None;
        }
        String::from_utf8(output.stdout).ok()
    }

    /// What the judge takes `script` to write; nothing where it does not claim to know.
    fn judged(script: &str) -> Option<String> {
        let settings = Settings::default();
        let mut machine = Machine::new(&settings, 0);
        let output = machine.run_text(script, "", true).ok()?;
        (!marks::any(&output)).then_some(output)
    }

    const ASSIGNMENTS: [&str; 10] = [
        "v='a b'",
        "v=ab",
        "v=\"x'y\"",
        "w=$'p\\tq'",
        "w=\"$v-$v\"",
        "v+=z",
        "a=(r 's t' u)",
        "w=${v:-k}",
        "v=$(echo one two)",
        "set -- m 'n o'",
    ];

    const PIECES: [&str; 54] = [
        "a",
        "B",
        "0",
        "-x",
        "=",
        "'q r'",
        "\"s t\"",
        "\\d",
        "\\ ",
        "\\\\",
        "\"\\\"\"",
        "\"\\$v\"",
        "'\\'",
        "\"a\\b\"",
        "$'\\x72'",
        "$'\\162m'",
        "$'\\u00e9'",
        "$'\\t'",
        "$'a\\'b'",
        "''",
        "\"\"",
        "$v",
        "\"$v\"",
        "${v}",
        "${w}z",
        "\"${w}\"",
        "${v:-d e}",
        "${nope:-d}",
        "${nope-'d e'}",
        "${v:+alt}",
        "${v#a}",
        "${v##*a}",
        "${v%b}",
        "${v/a/x}",
        "${v//a/x}",
        "${v^^}",
        "${v,,}",
        "${v:1}",
        "${v:0:1}",
        "${#v}",
        "{p,q}",
        "{1..3}",
        "{c..a}",
        "{p,q{r,s}}",
        "$((1+2*3))",
        "$(echo x y)",
        "\"$(echo x y)\"",
        "`echo z`",
        "\\\n",
        "${a[1]}",
        "\"${a[@]}\"",
        "$1",
        "\"$@\"",
        "$\"l\"",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 384, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn words_are_those_that_bash_makes(
            assignments in proptest::collection::vec(proptest::sample::select(&ASSIGNMENTS[..]), 0..4),
            words in proptest::collection::vec(proptest::collection::vec(proptest::sample::select(&PIECES[..]), 1..5), 1..4),
        ) {
            let line = words.iter().map(|pieces| pieces.concat()).collect::<Vec<_>>().join(" ");
            let script = format!("unset v w a nope; {}\nprintf '<%s>' {line}", assignments.join("; "));
            if let (Some(expected), Some(found)) = (bash(&script), judged(&script)) {
                prop_assert_eq!(found, expected, "{}", script);
            }
        }
    }
}
