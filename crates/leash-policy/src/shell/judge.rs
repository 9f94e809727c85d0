//! What programs mean: which ones run others, and what each does to files, people's keys and the machine.
#![expect(
    clippy::case_sensitive_file_extension_comparisons,
    clippy::collapsible_if,
    clippy::collapsible_match,
    clippy::if_same_then_else,
    clippy::items_after_statements,
    clippy::manual_contains,
    clippy::match_same_arms,
    clippy::nonminimal_bool,
    clippy::semicolon_if_nothing_returned,
    clippy::too_many_lines,
    clippy::unnecessary_to_owned,
    clippy::unused_self,
    reason = "tables of programs, a line each, read best in one place"
)]

mod cloud;
mod files;
mod lists;
mod network;
mod output;
mod programs;
mod state;
mod windows;

use super::expand::mark;
use super::machine::{Machine, Stop};
use super::marks;
use super::paths::{self, Place};
use super::wrappers;

type Result<T> = std::result::Result<T, Stop>;

const DESTROYS: Stop = Stop::Danger("destroys files of the system, of a home folder or all that is here");
const DISK: Stop = Stop::Danger("overwrites or formats a disk");
const OPENS: Stop = Stop::Danger("opens permissions wide");
const STOPS: Stop = Stop::Danger("shuts the machine down");
const KILLS: Stop = Stop::Danger("kills every process");
const REVERSE: Stop = Stop::Danger("opens a shell to the network");
const READS: Stop = Stop::Danger("reads credentials");
const SENDS: Stop = Stop::Danger("sends data out");
const PERSISTS: Stop = Stop::Danger("makes something run or log in later");
const DOWNLOADS: Stop = Stop::Danger("runs what it downloads");
const DISARMS: Stop = Stop::Danger("turns a protection of the machine off");
const HOST: Stop = Stop::Danger("hands the machine's files to a container");
const TRACES: Stop = Stop::Danger("wipes its traces");
const DENIED: Stop = Stop::Danger("runs a program that is denied");
const UNLISTED: Stop = Stop::Danger("runs a program or an option that is not on the list of allowed ones");
const PROTECTED: Stop = Stop::Danger("touches a protected path");

/// The program behind a name: its path, version and other names taken away.
pub(super) fn canonical(name: &str) -> &str {
    let name = name.rsplit('/').next().unwrap_or(name);
    let name = name.strip_suffix(".exe").unwrap_or(name);
    match name {
        "ncat" | "netcat" | "nc.openbsd" | "nc.traditional" | "ncat.openbsd" => return "nc",
        "gawk" | "mawk" | "nawk" | "original-awk" => return "awk",
        "nodejs" => return "node",
        "vim" | "vi" | "nvim" | "view" | "ex" | "vim.basic" | "vim.tiny" => return "vi",
        "batcat" => return "bat",
        "podman" | "nerdctl" => return "docker",
        "dash" | "zsh" | "ksh" | "ash" | "fish" | "rbash" | "mksh" | "ksh93" | "csh" | "tcsh" | "pdksh"
        | "yash" => return "sh",
        "bash" | "sh" => return "sh",
        "grm" => return "rm",
        "gdd" | "dcfldd" | "dc3dd" | "ddrescue" => return "dd",
        "gfind" => return "find",
        "gxargs" => return "xargs",
        "gshred" => return "shred",
        "genv" => return "env",
        "gtimeout" => return "timeout",
        "pwsh" => return "powershell",
        "gsed" => return "sed",
        "gtar" | "bsdtar" => return "tar",
        _ => {}
    }
    let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    match plain {
        "python" | "pypy" | "ipython" | "perl" | "ruby" | "php" | "lua" | "node" | "bash" => {
            if matches!(plain, "pypy" | "ipython") {
                "python"
            } else if plain == "bash" {
                "sh"
            } else {
                plain
            }
        }
        _ => name,
    }
}

/// Whether short options among `args` include `flag`; what comes after `--` is none.
pub(super) fn has_flag(args: &[String], flag: char) -> bool {
    args.iter().take_while(|arg| *arg != "--").any(|arg| {
        arg.starts_with('-')
            && !arg.starts_with("--")
            && arg.chars().skip(1).any(|character| character == flag)
    })
}

/// Whether a long option stands among `args`, whole or cut short, with or without a value.
pub(super) fn has_long(args: &[String], long: &str) -> bool {
    args.iter().take_while(|arg| *arg != "--").any(|arg| {
        let name = arg.split('=').next().unwrap_or(arg);
        name == long || (name.len() > 4 && name.starts_with("--") && long.starts_with(name))
    })
}

/// The arguments that are no options. Values of options in `valued` (short letters) are skipped.
pub(super) fn operands<'a>(args: &'a [String], valued: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    let mut rest = args.iter();
    let mut only = false;
    while let Some(arg) = rest.next() {
        if only || !arg.starts_with('-') || arg == "-" {
            found.push(arg.as_str());
        } else if arg == "--" {
            only = true;
        } else if !arg.starts_with("--")
            && arg
                .chars()
                .skip(1)
                .position(|c| valued.contains(c))
                .is_some_and(|at| at.saturating_add(2) == arg.chars().count())
        {
            rest.next();
        }
    }
    found
}

/// The value of an option: `-x value`, `-xvalue`, `--long value`, `--long=value`.
pub(super) fn option<'a>(args: &'a [String], short: &str, long: &str) -> Option<&'a str> {
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if !long.is_empty() && arg == long || !short.is_empty() && arg == short {
            return rest.next().map(String::as_str);
        }
        if !long.is_empty()
            && let Some(value) = arg.strip_prefix(long).and_then(|rest| rest.strip_prefix('='))
        {
            return Some(value);
        }
        if !short.is_empty()
            && !arg.starts_with("--")
            && let Some(value) = arg.strip_prefix(short)
        {
            return Some(value);
        }
    }
    None
}

const fn is_wide_place(place: Place) -> bool {
    matches!(place, Place::Root | Place::System | Place::Home)
}

impl Machine<'_> {
    pub(super) fn place(&self, path: &str) -> Place {
        match self.follow(path) {
            Some(target) => paths::place(&target, &self.env.cwd),
            None => paths::place(path, &self.env.cwd),
        }
    }

    /// Judges and follows one program.
    pub(super) fn program(&mut self, name: &str, args: &[String], input: &str) -> Result<String> {
        let name = name.trim_end_matches('\r');
        if name.contains(marks::NETWORK) {
            return Err(DOWNLOADS);
        }
        if marks::any(name) {
            let known_below = name
                .find(marks::is)
                .is_some_and(|at| at > 0 && name.get(..at).is_some_and(|head| head.contains('/')));
            if !(name.chars().all(|c| c == marks::HARMLESS)
                || known_below && !self.env.cwd.contains(marks::is) && name.starts_with('.'))
            {
                self.unknown("runs a program whose name is not known before it runs");
                // It may be any: what it is given counts.
                self.judge_arguments("", args)?;
            }
            return Ok(mark(marks::OUTPUT).to_owned());
        }
        let copied = if self.copies.is_empty() {
            None
        } else {
            self.copies.get(&self.file_name(name)).cloned()
        };
        let name = copied.as_deref().unwrap_or(name);
        // `Remove-Item`: where programs are called so, upper and lower case are one.
        let verb;
        let name = if is_verb_noun(name) {
            verb = name.to_ascii_lowercase();
            verb.as_str()
        } else {
            name
        };
        // Where upper and lower case are one in the names of files, `RM` is `rm`.
        let lower;
        let name = if self.strict
            && name.bytes().any(|byte| byte.is_ascii_uppercase())
            && !name.bytes().any(|byte| byte.is_ascii_lowercase())
            && !matches!(name, "GET" | "POST" | "HEAD" | "R")
        {
            lower = name.to_ascii_lowercase();
            lower.as_str()
        } else {
            name
        };
        // A program of one's own build, whatever its name ends with.
        if let Some(glob) = name.find(['*', '?', '['])
            && !name.starts_with(['/', '~', '.'])
            && self.env.cwd.is_empty()
            && name.get(..glob).is_some_and(|head| head.contains('/'))
        {
            return Ok(mark(marks::OUTPUT).to_owned());
        }
        if name.contains(['*', '?']) || (name.contains('[') && name != "[" && name != "[[") {
            self.unknown("runs a program whose name is not known before it runs");
            return Ok(mark(marks::OUTPUT).to_owned());
        }
        let program = canonical(name);
        self.judge_lists(name, program, args)?;
        self.judge_arguments(program, args)?;
        // A file that this script wrote is run as what it holds.
        if !self.files.is_empty() {
            let content = if name.contains('/') {
                self.files.get(&self.file_name(name))
            } else {
                const FOLDERS: [&str; 6] = [
                    "/usr/local/bin",
                    "/usr/bin",
                    "/bin",
                    "/usr/sbin",
                    "~/bin",
                    "~/.local/bin",
                ];
                self.files
                    .iter()
                    .find(|(path, _)| {
                        path.strip_suffix(name)
                            .and_then(|folder| folder.strip_suffix('/'))
                            .is_some_and(|folder| FOLDERS.contains(&folder))
                    })
                    .map(|(_, content)| content)
            };
            if let Some(content) = content.cloned() {
                if content.contains(marks::NETWORK) {
                    return Err(DOWNLOADS);
                }
                // Its own parameters are those that it is given.
                let saved = std::rc::Rc::clone(&self.env);
                self.env_mut().args = std::iter::once(name.to_owned())
                    .chain(args.iter().cloned())
                    .collect();
                let output = self.run_text(&content, input, false);
                self.env = saved;
                return output;
            }
        }
        self.judge_names(program, args)?;
        // Nothing more is to be said about these, and they are most of what runs.
        if is_quiet(program) {
            return Ok(self.output(program, args, input));
        }
        if let Some(output) = wrappers::open(self, program, args, input)? {
            return Ok(output);
        }
        self.judge_program(program, args, input)?;
        wrappers::guess(self, program, args, input)?;
        Ok(self.output(program, args, input))
    }
}

/// Whether a program neither runs others nor does harm by what it is for, whatever its words are: what it reads and
/// writes through redirections, and the paths among its words, were looked at before.
fn is_quiet(program: &str) -> bool {
    matches!(
        program,
        "echo"
            | "printf"
            | "cd"
            | "cat"
            | "true"
            | "false"
            | ":"
            | "test"
            | "["
            | "exit"
            | "wc"
            | "head"
            | "tail"
            | "uniq"
            | "cut"
            | "tr"
            | "basename"
            | "dirname"
            | "date"
            | "mkdir"
            | "touch"
            | "return"
            | "shift"
            | "pwd"
            | "ls"
            | "sleep"
            | "seq"
            | "jq"
    )
}

/// Whether a name is one of PowerShell's: two words with capitals, and a hyphen between them.
pub(super) fn is_verb_noun(name: &str) -> bool {
    name.split_once('-').is_some_and(|(verb, noun)| {
        [verb, noun].iter().all(|word| {
            word.len() > 2
                && word.starts_with(|c: char| c.is_ascii_uppercase())
                && word.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
    })
}

/// Whether a path is what comes in.
pub(super) fn is_stdin(path: &str) -> bool {
    matches!(path, "-" | "/dev/stdin" | "/proc/self/fd/0" | "/dev/fd/0")
}
