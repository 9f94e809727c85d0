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

use super::code;
use super::expand::mark;
use super::machine::{Machine, Stop, quote};
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
        "gdd" => return "dd",
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
                return self.run_text(&content, input, false);
            }
        }
        if let Some(output) = wrappers::open(self, program, args, input)? {
            return Ok(output);
        }
        self.judge_program(program, args, input)?;
        Ok(self.output(program, args, input))
    }

    /// Denied programs, and the list of the only allowed ones.
    fn judge_lists(&self, name: &str, program: &str, args: &[String]) -> Result<()> {
        let base = name.rsplit('/').next().unwrap_or(name);
        if self
            .settings
            .deny
            .iter()
            .any(|denied| denied == base || canonical(denied) == program)
        {
            return Err(DENIED);
        }
        if self.settings.allow.is_empty() {
            return Ok(());
        }
        const BUILTINS: [&str; 22] = [
            ":", "true", "false", "test", "[", "exit", "return", "break", "continue", "shift", "set",
            "unset", "local", "export", "readonly", "declare", "typeset", "wait", "cd", "pwd", "let", "read",
        ];
        if BUILTINS.contains(&base) && !name.contains('/') {
            return Ok(());
        }
        // A path of one's own is not the program of that name.
        let elsewhere = name.contains('/')
            && !["/bin/", "/usr/bin/", "/usr/local/bin/", "/sbin/", "/usr/sbin/"]
                .iter()
                .any(|folder| name.strip_prefix(folder) == Some(base));
        let allowed = self.settings.allow.iter().any(|entry| {
            let Some((listed, words)) = entry.split_first() else {
                return false;
            };
            if listed != name && (elsewhere || listed != base) {
                return false;
            }
            let mut leading = args.iter().filter(|arg| !arg.starts_with('-'));
            let options: Vec<&String> = words.iter().filter(|word| word.starts_with('-')).collect();
            words
                .iter()
                .filter(|word| !word.starts_with('-'))
                .all(|word| leading.next() == Some(word))
                && (words.is_empty()
                    || options.is_empty()
                    || args
                        .iter()
                        .filter(|arg| arg.starts_with('-') && arg.len() > 1)
                        .all(|arg| {
                            options.iter().any(|option| {
                                *option == arg || arg.split('=').next() == Some(option.as_str())
                            })
                        }))
        });
        if allowed { Ok(()) } else { Err(UNLISTED) }
    }

    /// Credentials and protected paths among the arguments of any program.
    fn judge_arguments(&mut self, program: &str, args: &[String]) -> Result<()> {
        if !self.settings.protected.is_empty() {
            self.judge_protected(program, args)?;
        }
        // What a wrapper runs is judged by itself.
        if program == "xargs" || wrappers::is_plain_wrapper(program) {
            return Ok(());
        }
        // Those that only name a file, or use a key for what it is for.
        const USERS: [&str; 60] = [
            "echo",
            "printf",
            "ls",
            "stat",
            "test",
            "[",
            "[[",
            "chmod",
            "chown",
            "chgrp",
            "ssh",
            "ssh-add",
            "ssh-keygen",
            "ssh-copy-id",
            "sftp",
            "mkdir",
            "touch",
            "man",
            "which",
            "whereis",
            "basename",
            "dirname",
            "realpath",
            "readlink",
            "export",
            "declare",
            "local",
            "cd",
            "kubectl",
            "helm",
            "ansible",
            "ansible-playbook",
            "autossh",
            "mosh",
            "ll",
            "file",
            "git",
            "docker-compose",
            "rm",
            "shred",
            "unlink",
            "getfacl",
            "set",
            "unset",
            "aws",
            "gcloud",
            "terraform",
            "k9s",
            "find",
            "chattr",
            "lsattr",
            "visudo",
            "vipw",
            "du",
            "sshfs",
            "rsync",
            "scp",
            "alias",
            "read",
            "openssl",
        ];
        if USERS.contains(&program) {
            if matches!(program, "scp" | "rsync" | "openssl") {
                let words = operands(args, "iFeoPlcS");
                let shown = program != "openssl"
                    || args.first().is_some_and(|first| {
                        matches!(first.as_str(), "rsa" | "pkey" | "pkcs8" | "ec" | "enc" | "base64")
                    }) && !args
                        .iter()
                        .any(|arg| matches!(arg.as_str(), "-pubout" | "-noout" | "-check"));
                if shown && words.iter().any(|word| paths::is_credential(word, &self.env.cwd)) {
                    return Err(READS);
                }
            }
            return Ok(());
        }
        let skipped = match program {
            // A pattern and a program are no paths.
            "grep" | "egrep" | "fgrep" | "rg" | "ag" | "ack" | "sed" | "awk" => {
                operands(args, "AmBCf").first().map(|first| (*first).to_owned())
            }
            _ => None,
        };
        let dotenv = matches!(
            program,
            "cat"
                | "less"
                | "more"
                | "head"
                | "tail"
                | "base64"
                | "xxd"
                | "od"
                | "hexdump"
                | "strings"
                | "bat"
                | "nl"
                | "tac"
                | "curl"
                | "wget"
                | "nc"
                | "scp"
        );
        for arg in args {
            if (arg.len() < 4 && self.env.cwd.is_empty()) || skipped.as_ref() == Some(arg) {
                continue;
            }
            for part in parts(arg) {
                if paths::is_credential(part, &self.env.cwd)
                    || (dotenv && paths::is_dotenv(part) && !arg.starts_with("--env"))
                {
                    return Err(READS);
                }
            }
        }
        Ok(())
    }

    fn judge_protected(&mut self, program: &str, args: &[String]) -> Result<()> {
        const NAMERS: [&str; 22] = [
            "echo", "printf", "ls", "stat", "test", "[", "[[", "man", "which", "whereis", "basename",
            "dirname", "realpath", "readlink", "cd", "true", "false", ":", "type", "pwd", "mkdir", "help",
        ];
        if NAMERS.contains(&program) {
            return Ok(());
        }
        let text = args.first().map_or("", String::as_str);
        // Messages and patterns only mention a name.
        let mut skipped: Vec<&str> = Vec::new();
        match program {
            "grep" | "egrep" | "fgrep" | "rg" | "ag" | "ack" | "sed" | "awk" => {
                if option(args, "-e", "--regexp").is_none() {
                    skipped.extend(operands(args, "AmBCf").first());
                } else {
                    skipped.extend(option(args, "-e", "--regexp"));
                }
            }
            "git"
                if matches!(
                    text,
                    "commit" | "tag" | "stash" | "log" | "status" | "diff" | "add" | "branch"
                ) =>
            {
                if matches!(text, "commit" | "tag" | "branch") {
                    skipped.extend(option(args, "-m", "--message"));
                    skipped.extend(option(args, "-am", ""));
                }
            }
            "find"
                if !args.iter().any(|arg| {
                    matches!(
                        arg.as_str(),
                        "-delete" | "-exec" | "-execdir" | "-ok" | "-okdir" | "-fprint"
                    )
                }) =>
            {
                return Ok(());
            }
            _ => {}
        }
        let recursive = has_flag(args, 'r')
            || has_flag(args, 'R')
            || has_long(args, "--recursive")
            || matches!(
                program,
                "tar" | "zip" | "rsync" | "find" | "7z" | "mv" | "rg" | "docker" | "chroot"
            );
        let recursive = recursive || (program == "cp" && has_flag(args, 'a'));
        for arg in args {
            if skipped.contains(&arg.as_str()) {
                continue;
            }
            if arg.contains([marks::OUTPUT, marks::NETWORK]) {
                self.unknown("touches a path that is not known before it runs");
            }
            for part in parts(arg) {
                self.judge_path(part)?;
                if recursive && !part.starts_with('-') && self.holds_protected(part) {
                    return Err(PROTECTED);
                }
            }
            // Code and scripts hold paths in places that no shell knows of.
            if arg.len() > 8
                && arg.contains([' ', '(', '\'', '"'])
                && self.settings.protected.iter().any(|path| mentions(arg, path))
            {
                return Err(PROTECTED);
            }
        }
        Ok(())
    }

    /// Whether `path` is protected, or below what is.
    pub(super) fn judge_path(&mut self, path: &str) -> Result<()> {
        if self.settings.protected.is_empty() || path.is_empty() || path.starts_with("/dev/fd/") {
            return Ok(());
        }
        let name = self.file_name(path);
        let found = paths::Path::new(&name);
        for protected in &self.settings.protected {
            let wanted = paths::Path::new(protected);
            if wanted.parts.is_empty() {
                if wanted.absolute && found.absolute {
                    return Err(PROTECTED);
                }
                continue;
            }
            let anchored = wanted.absolute || wanted.home;
            let matches = if anchored {
                found.absolute == wanted.absolute
                    && found.home == wanted.home
                    && found.parts.len() >= wanted.parts.len()
                    && wanted
                        .parts
                        .iter()
                        .zip(&found.parts)
                        .all(|(wanted, part)| alike(part, wanted))
            } else {
                found.parts.windows(wanted.parts.len()).any(|window| {
                    window
                        .iter()
                        .zip(&wanted.parts)
                        .all(|(part, wanted)| alike(part, wanted))
                })
            };
            if matches {
                return Err(PROTECTED);
            }
        }
        Ok(())
    }

    /// Whether a folder encloses what is protected.
    fn holds_protected(&self, path: &str) -> bool {
        let name = self.file_name(path);
        let found = paths::Path::new(&name);
        self.settings.protected.iter().any(|protected| {
            let wanted = paths::Path::new(protected);
            if wanted.absolute || wanted.home {
                found.absolute == wanted.absolute
                    && found.home == wanted.home
                    && found.parts.len() <= wanted.parts.len()
                    && found
                        .parts
                        .iter()
                        .zip(&wanted.parts)
                        .all(|(part, wanted)| alike(part, wanted))
            } else {
                // A relative name may be anywhere below where we are.
                found.parts.is_empty() || found.parts.iter().all(|part| matches!(*part, "*" | "**"))
            }
        })
    }

    /// What writing to `path` means.
    pub(super) fn judge_write(&mut self, path: &str, content: Option<&str>) -> Result<()> {
        if path == "/dev/null" {
            return Ok(());
        }
        if path.starts_with("/dev/tcp/") || path.starts_with("/dev/udp/") {
            let host = path.split('/').nth(3).unwrap_or("");
            // A probe of a local port writes nothing that is not known.
            let local = matches!(host, "localhost" | "127.0.0.1" | "::1" | "0.0.0.0");
            let known = content.is_some_and(|content| !marks::any(content));
            return if local && known { Ok(()) } else { Err(REVERSE) };
        }
        match self.place(path) {
            Place::Disk => return Err(DISK),
            Place::Root | Place::System if path.starts_with("/etc") => {}
            Place::Root => return Err(DESTROYS),
            _ => {}
        }
        if path.starts_with("/proc/sysrq") {
            return Err(STOPS);
        }
        if paths::is_vital(path, &self.env.cwd) {
            // Settings of the kernel that a reboot takes back.
            const TUNED: [&str; 8] = [
                "/proc/sys/net/",
                "/proc/sys/vm/",
                "/proc/sys/fs/",
                "/sys/class/",
                "/sys/devices/",
                "/sys/block/",
                "/sys/module/",
                "/sys/kernel/mm/",
            ];
            if TUNED.iter().any(|folder| path.starts_with(folder)) && !path.contains("..") {
                return Ok(());
            }
            // A line more in the table of hosts is an everyday thing.
            let hosts = path == "/etc/hosts" && content.is_some_and(|content| !content.trim().is_empty());
            if !hosts {
                return Err(DESTROYS);
            }
        }
        if paths::persists(path, &self.env.cwd) {
            return if content.is_some_and(only_exports) {
                Ok(())
            } else {
                Err(PERSISTS)
            };
        }
        if path.ends_with("_history") && content.is_none_or(|content| content.trim().is_empty()) {
            return Err(Stop::Danger("wipes its traces"));
        }
        if paths::is_credential(path, &self.env.cwd) && path.starts_with("/etc") {
            return Err(DESTROYS);
        }
        Ok(())
    }

    /// Variables that make other programs run something.
    pub(super) fn judge_assignment(&mut self, name: &str, values: &[String]) -> Result<()> {
        let Some(value) = values.first() else {
            return Ok(());
        };
        match name {
            "PROMPT_COMMAND"
            | "GIT_SSH_COMMAND"
            | "GIT_PAGER"
            | "PAGER"
            | "EDITOR"
            | "VISUAL"
            | "GIT_EDITOR"
            | "GIT_SEQUENCE_EDITOR"
            | "GIT_EXTERNAL_DIFF"
            | "GIT_SSH"
            | "GIT_PROXY_COMMAND"
            | "GIT_ASKPASS"
            | "SSH_ASKPASS"
            | "LESSOPEN"
            | "LESSCLOSE"
            | "MANPAGER"
            | "BROWSER"
            | "RUSTC_WRAPPER"
            | "PERL5DB" => {
                if !value.is_empty() {
                    self.run_text(&value.clone(), "", true)?;
                }
            }
            "BASH_ENV"
            | "ENV"
            | "LD_PRELOAD"
            | "LD_AUDIT"
            | "DYLD_INSERT_LIBRARIES"
            | "PYTHONSTARTUP"
            | "PERL5OPT"
            | "RUBYOPT"
            | "NODE_OPTIONS" => {
                let file = self.file_name(value);
                if let Some(content) = self.files.get(&file).cloned() {
                    self.run_text(&content, "", false)?;
                } else if value.contains([marks::NETWORK, marks::OUTPUT]) {
                    return Err(DOWNLOADS);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// An interactive shell whose streams are the network.
    pub(super) fn judge_redirected_shell(
        &mut self,
        argv: &[String],
        redirects: &[super::syntax::Redirect],
    ) -> Result<()> {
        for redirect in redirects {
            if redirect.op == super::syntax::RedirectOp::Text {
                continue;
            }
            let target = self.text(&redirect.target)?;
            if target.starts_with("/dev/tcp/") || target.starts_with("/dev/udp/") {
                let host = target.split('/').nth(3).unwrap_or("");
                let shell = argv.iter().any(|word| canonical(word) == "sh" || word == "exec");
                if shell || !matches!(host, "localhost" | "127.0.0.1" | "::1" | "0.0.0.0") {
                    return Err(REVERSE);
                }
            }
        }
        Ok(())
    }

    /// The place of each path to be removed, and whether that is too much.
    pub(super) fn judge_removal(&mut self, path: &str, recursive: bool) -> Result<()> {
        match self.place(path) {
            Place::Disk => return Err(DISK),
            Place::Root | Place::System | Place::Home => return Err(DESTROYS),
            // Some of the logs are old ones; all of them are what happened.
            Place::InSystem if path.starts_with("/var/log/") && is_some_of(path) => {}
            Place::InSystem => {
                if recursive || path.contains('*') || paths::is_vital(path, &self.env.cwd) {
                    return Err(DESTROYS);
                }
            }
            Place::Here => {
                if recursive || path.contains('*') {
                    return Err(DESTROYS);
                }
            }
            Place::InHome => {
                const KEPT: [&str; 14] = [
                    "Documents",
                    "Desktop",
                    "Pictures",
                    "Downloads",
                    "Music",
                    "Videos",
                    "Library",
                    ".ssh",
                    ".gnupg",
                    ".aws",
                    ".config",
                    ".kube",
                    ".local",
                    "Movies",
                ];
                let found = paths::Path::new(path);
                let first = found.parts.first().copied().unwrap_or("");
                if found.parts.contains(&"Trash") {
                    return Ok(());
                }
                if KEPT.iter().any(|kept| paths::same(first, kept))
                    && (found.parts.len() == 1
                        || first.starts_with(".s")
                        || first.starts_with(".g")
                        || path.contains('*'))
                {
                    return Err(DESTROYS);
                }
                if found.parts.len() == 1 && first.ends_with("_history") {
                    return Err(Stop::Danger("wipes its traces"));
                }
            }
            Place::Unknown => {
                if below_a_variable(path) {
                    return Ok(());
                }
                if recursive || !path.starts_with(marks::ENV) {
                    self.unknown("removes what is not known before it runs");
                }
            }
            Place::Ordinary => {
                if recursive
                    && path.starts_with("..")
                    && paths::Path::new(path).parts.iter().all(|part| *part == "*")
                {
                    return Err(DESTROYS);
                }
                let head = path.find(marks::is);
                if let Some(at) = head
                    && recursive
                    && path.contains([marks::OUTPUT, marks::NETWORK, marks::FILE])
                    && at == 0
                {
                    self.unknown("removes what is not known before it runs");
                }
            }
            Place::Temporary | Place::Device => {}
        }
        if paths::is_vital(path, &self.env.cwd) {
            return Err(DESTROYS);
        }
        Ok(())
    }

    #[expect(clippy::too_many_lines, reason = "one table, a line a program")]
    fn judge_program(&mut self, program: &str, args: &[String], input: &str) -> Result<()> {
        let first = args.first().map_or("", String::as_str);
        match program {
            "rm" | "unlink" | "rimraf" | "del-cli" | "trash" | "srm" | "rmdir" | "remove-item" | "del"
            | "rd" | "ri" | "erase" => {
                let recursive = has_flag(args, 'r')
                    || has_flag(args, 'R')
                    || has_long(args, "--recursive")
                    || has_long(args, "--no-preserve-root")
                    || matches!(program, "rimraf" | "srm" | "rd" | "remove-item" | "ri")
                    || args
                        .iter()
                        .any(|arg| arg.eq_ignore_ascii_case("-recurse") || arg.eq_ignore_ascii_case("/s"));
                if has_long(args, "--no-preserve-root") {
                    return Err(DESTROYS);
                }
                for path in operands(args, "") {
                    if program == "rmdir" {
                        continue;
                    }
                    self.judge_removal(path, recursive)?;
                }
            }
            "stop-computer" | "restart-computer" => return Err(STOPS),
            "dbus-send" | "busctl" | "gdbus"
                if args
                    .iter()
                    .any(|arg| arg.contains("login1") || arg.contains("ConsoleKit"))
                    && args.iter().any(|arg| {
                        let method = arg.rsplit('.').next().unwrap_or(arg);
                        matches!(
                            method,
                            "PowerOff" | "Reboot" | "Halt" | "Suspend" | "Hibernate" | "Stop" | "Restart"
                        )
                    }) =>
            {
                return Err(STOPS);
            }
            "debugfs" if has_flag(args, 'w') && args.iter().any(|arg| self.place(arg) == Place::Disk) => {
                return Err(DISK);
            }
            "xterm"
                if has_long(args, "-display")
                    && option(args, "-display", "").is_some_and(|at| !at.starts_with(':')) =>
            {
                return Err(REVERSE);
            }
            "ztcp" => return Err(REVERSE),
            "zmodload" if args.iter().any(|arg| arg.contains("net/tcp")) => return Err(REVERSE),
            "shred" | "wipe" | "scrub" => {
                for path in operands(args, "ns") {
                    match self.place(path) {
                        Place::Ordinary if !path.starts_with('/') => {}
                        Place::Temporary => {}
                        Place::Unknown => self.unknown("removes what is not known before it runs"),
                        Place::Disk => return Err(DISK),
                        _ => return Err(DESTROYS),
                    }
                }
            }
            "truncate" => {
                for path in operands(args, "sr") {
                    self.judge_write(path, None)?;
                    self.judge_removal(path, false)?;
                    if matches!(self.place(path), Place::InSystem) && !path.starts_with("/var/log/") {
                        return Err(DESTROYS);
                    }
                }
            }
            "dd" => {
                for arg in args {
                    if let Some(path) = arg.strip_prefix("of=") {
                        if path.starts_with(marks::is) && !path.starts_with(marks::HARMLESS) {
                            self.unknown("writes to what is not known before it runs");
                        }
                        let content = match args.iter().find_map(|arg| arg.strip_prefix("if=")) {
                            Some(source) => self.read(source)?,
                            None => input.to_owned(),
                        };
                        self.judge_write(path, None)?;
                        self.write(path, &content, false)?;
                    } else if let Some(path) = arg.strip_prefix("if=") {
                        self.read(path)?;
                    } else if marks::any(arg) && !arg.contains('=') {
                        self.unknown("writes to what is not known before it runs");
                    }
                }
            }
            "mke2fs" | "mkswap" | "wipefs" | "blkdiscard" | "mkdosfs" | "mkntfs" | "newfs" | "cfdisk"
            | "format" | "sgdisk" | "gdisk" | "mkfs" | "format.com" => {
                let only_looks = matches!(program, "wipefs") && operands(args, "ot").len() == args.len()
                    || has_flag(args, 'p') && program == "sgdisk"
                    || matches!(first, "--help" | "--version" | "-V");
                // A file system in an image file is no disk.
                let image = operands(args, "tLbiNIOTEm")
                    .iter()
                    .all(|path| !path.starts_with("/dev") && !marks::any(path))
                    && program != "format";
                if !only_looks && !image {
                    return Err(DISK);
                }
            }
            _ if program.starts_with("mkfs.") || program.starts_with("newfs_") => {
                if !operands(args, "tLbiNIOTEmn")
                    .iter()
                    .all(|path| !path.starts_with("/dev") && !marks::any(path))
                {
                    return Err(DISK);
                }
            }
            "fdisk" | "sfdisk" | "parted" => {
                let looks = has_flag(args, 'l')
                    || has_long(args, "--list")
                    || has_flag(args, 'd')
                    || args.iter().any(|arg| {
                        arg == "print" || arg == "--dump" || arg == "--help" || arg == "--version"
                    });
                if !looks && args.iter().any(|arg| arg.starts_with("/dev") || marks::any(arg)) {
                    return Err(DISK);
                }
            }
            "hdparm"
                if args.iter().any(|arg| {
                    arg.contains("security-erase")
                        || arg.contains("trim-sector")
                        || arg.contains("--write-sector")
                }) =>
            {
                return Err(DISK);
            }
            "nvme" if matches!(first, "format" | "sanitize" | "delete-ns" | "write-zeroes") => {
                return Err(DISK);
            }
            "badblocks" if has_flag(args, 'w') => return Err(DISK),
            "cryptsetup"
                if args.iter().any(|arg| {
                    matches!(
                        arg.as_str(),
                        "luksFormat" | "erase" | "luksErase" | "luksRemoveKey" | "luksKillSlot" | "reencrypt"
                    )
                }) =>
            {
                return Err(DISK);
            }
            "lvremove" | "vgremove" | "pvremove" => return Err(DISK),
            "zpool" | "zfs" if matches!(first, "destroy" | "labelclear") => return Err(DISK),
            "mdadm"
                if args
                    .iter()
                    .any(|arg| arg == "--zero-superblock" || arg == "--stop") =>
            {
                return Err(DISK);
            }
            "diskutil"
                if first.to_ascii_lowercase().contains("erase")
                    || first == "partitionDisk"
                    || first == "zeroDisk"
                    || first == "secureErase" =>
            {
                return Err(DISK);
            }
            "cp" | "mv" | "install" | "ln" | "rsync" | "scp" => self.judge_copy(program, args)?,
            "tee" | "sponge" => {
                let append = has_flag(args, 'a') || has_long(args, "--append");
                for path in operands(args, "") {
                    self.write(path, input, append)?;
                }
            }
            "chmod" | "setfacl" => self.judge_chmod(program, args)?,
            "chown" | "chgrp" => {
                let recursive = has_flag(args, 'R') || has_long(args, "--recursive");
                for path in operands(args, "").into_iter().skip(1) {
                    let place = self.place(path);
                    // The folders of a web server or of a service are given to it every day.
                    let served = ["/var/www", "/srv", "/opt"].iter().any(|folder| {
                        path.strip_prefix(folder)
                            .is_some_and(|rest| *folder == "/var/www" || rest.trim_matches('/').len() > 1)
                    });
                    if served {
                        continue;
                    }
                    if (recursive && is_wide_place(place) && place != Place::Home)
                        || (recursive
                            && place == Place::InSystem
                            && !path.starts_with("/var/lib")
                            && !path.starts_with("/var/log"))
                    {
                        return Err(OPENS);
                    }
                    if paths::is_vital(path, &self.env.cwd) {
                        return Err(OPENS);
                    }
                }
            }
            "umask" if matches!(first, "0" | "00" | "000" | "0000") => return Err(OPENS),
            "setcap"
                if args.iter().any(|arg| {
                    arg.contains("cap_setuid")
                        || arg.contains("cap_sys_admin")
                        || arg.contains("cap_dac")
                        || arg.starts_with("all")
                }) =>
            {
                return Err(OPENS);
            }
            // Words about it, in a text that is no command.
            "reboot" | "halt" | "poweroff" | "shutdown" if !self.strict && !is_order(program, args) => {}
            "shutdown" => {
                if !(has_flag(args, 'c') || has_long(args, "--help") || has_long(args, "--show")) {
                    return Err(STOPS);
                }
            }
            "reboot" | "halt" | "poweroff" => {
                if !matches!(first, "--help" | "--version" | "-w" | "--wtmp-only") {
                    return Err(STOPS);
                }
            }
            "init" | "telinit" => {
                if matches!(first, "0" | "6" | "1" | "s" | "S" | "single") || marks::any(first) {
                    return Err(STOPS);
                }
            }
            "kexec" => return Err(STOPS),
            "systemctl" | "loginctl" => {
                let verb = operands(args, "tpHMno").first().copied().unwrap_or("").to_owned();
                if matches!(
                    verb.as_str(),
                    "poweroff"
                        | "reboot"
                        | "halt"
                        | "kexec"
                        | "suspend"
                        | "hibernate"
                        | "hybrid-sleep"
                        | "rescue"
                        | "emergency"
                        | "soft-reboot"
                        | "exit"
                        | "isolate"
                        | "default"
                ) {
                    return Err(STOPS);
                }
                if matches!(verb.as_str(), "start")
                    && args.iter().any(|arg| {
                        ["poweroff", "reboot", "halt", "rescue", "emergency", "shutdown"]
                            .iter()
                            .any(|target| arg.starts_with(target))
                    })
                {
                    return Err(STOPS);
                }
                if matches!(verb.as_str(), "stop" | "disable" | "mask")
                    && args.iter().any(|arg| {
                        [
                            "firewalld",
                            "ufw",
                            "auditd",
                            "apparmor",
                            "fail2ban",
                            "sshd",
                            "ssh",
                            "dbus",
                            "systemd",
                        ]
                        .iter()
                        .any(|unit| {
                            arg.strip_suffix(".service").unwrap_or(arg) == *unit
                                || (*unit == "systemd" && arg.starts_with("systemd-"))
                        })
                    })
                {
                    return Err(DISARMS);
                }
            }
            "setenforce" if matches!(first, "0" | "Permissive" | "permissive") => return Err(DISARMS),
            "ufw" if matches!(operands(args, "").first(), Some(&("disable" | "reset"))) => {
                return Err(DISARMS);
            }
            "iptables" | "ip6tables"
                if has_flag(args, 'F') || has_flag(args, 'X') || has_long(args, "--flush") =>
            {
                return Err(DISARMS);
            }
            "nft"
                if args
                    .windows(2)
                    .any(|pair| matches!(pair, [a, b] if a == "flush" && b == "ruleset")) =>
            {
                return Err(DISARMS);
            }
            "auditctl"
                if has_flag(args, 'D')
                    || args
                        .windows(2)
                        .any(|pair| matches!(pair, [a, b] if a == "-e" && b == "0")) =>
            {
                return Err(DISARMS);
            }
            "kill" => self.judge_kill(args)?,
            "killall5" => return Err(KILLS),
            "pkill" | "killall" | "skill" => {
                let by_user = ["-u", "-U", "--user", "--euid", "--uid"]
                    .iter()
                    .any(|flag| args.iter().any(|arg| arg.starts_with(flag)));
                let names = operands(args, "uUgGPtsFno");
                if by_user && names.is_empty() {
                    return Err(KILLS);
                }
                const EVERYTHING: [&str; 9] = [".", ".*", "", "init", "systemd", "*", "^", ".+", "[a-z]"];
                if names.iter().any(|name| EVERYTHING.contains(name))
                    || has_flag(args, 'v') && program == "pkill"
                {
                    return Err(KILLS);
                }
                if names
                    .iter()
                    .any(|name| name.contains([marks::OUTPUT, marks::NETWORK]))
                {
                    self.unknown("kills what is not known before it runs");
                }
            }
            "crontab" => {
                let looks = has_flag(args, 'l')
                    || has_flag(args, 'e')
                    || has_flag(args, 'V')
                    || has_flag(args, 'T')
                    || has_long(args, "--help");
                if !looks {
                    return Err(PERSISTS);
                }
            }
            "at" | "batch" => {
                if !(has_flag(args, 'l')
                    || has_flag(args, 'c')
                    || has_flag(args, 'r')
                    || has_flag(args, 'd')
                    || has_flag(args, 'V'))
                {
                    return Err(PERSISTS);
                }
            }
            "chpasswd" => return Err(PERSISTS),
            "useradd" | "usermod" | "adduser" | "gpasswd" => {
                let privileged = args.iter().any(|arg| {
                    arg.split([',', '='])
                        .any(|group| matches!(group, "sudo" | "wheel" | "root" | "admin" | "shadow"))
                });
                if has_flag(args, 'o') && program != "gpasswd"
                    || privileged
                    || option(args, "-u", "--uid") == Some("0")
                {
                    return Err(PERSISTS);
                }
            }
            "passwd"
                if has_flag(args, 'd')
                    || has_long(args, "--delete")
                    || has_long(args, "--stdin")
                    || (operands(args, "").first() == Some(&"root")
                        && !has_flag(args, 'S')
                        && !has_flag(args, 'l')) =>
            {
                return Err(PERSISTS);
            }
            "visudo" if !has_flag(args, 'c') => return Err(PERSISTS),
            "userdel" | "deluser" if operands(args, "").iter().any(|name| *name == "root") => {
                return Err(DESTROYS);
            }
            "insmod" => return Err(PERSISTS),
            "launchctl" if matches!(first, "load" | "bootstrap" | "submit") => return Err(PERSISTS),
            "chattr" if args.iter().any(|arg| paths::is_vital(arg, &self.env.cwd)) => return Err(PERSISTS),
            "security" if first.starts_with("find-") || first == "dump-keychain" || first == "export" => {
                return Err(READS);
            }
            "secret-tool" if first == "lookup" || first == "search" => return Err(READS),
            "gpg" | "gpg2" if args.iter().any(|arg| arg.starts_with("--export-secret")) => return Err(READS),
            "aws"
                if args.iter().any(|arg| {
                    matches!(
                        arg.as_str(),
                        "get-secret-value" | "export-credentials" | "get-session-token"
                    )
                }) =>
            {
                return Err(READS);
            }
            "aws" | "gsutil" | "rclone" | "azcopy" | "mc" | "s3cmd" | "b2" => {
                let moves = args.iter().any(|arg| {
                    matches!(
                        arg.as_str(),
                        "cp" | "sync" | "mv" | "copy" | "put" | "move" | "rsync"
                    )
                });
                if moves && args.iter().any(|arg| self.is_private(arg)) {
                    return Err(SENDS);
                }
            }
            "getent" if args.iter().any(|arg| arg == "shadow" || arg == "gshadow") => return Err(READS),
            "unshadow" | "mimikatz" | "mimipenguin" | "lazagne" => return Err(READS),
            "kubectl" | "oc" => {
                let words = operands(args, "nolfc");
                let secret = words
                    .iter()
                    .any(|word| *word == "secret" || *word == "secrets" || word.starts_with("secret/"));
                let shown = args.iter().any(|arg| {
                    arg.starts_with("-o") && arg.len() > 2 && !arg.contains("name") && !arg.contains("wide")
                        || arg.starts_with("--output=")
                        || matches!(arg.as_str(), "yaml" | "json")
                        || arg.contains("jsonpath")
                });
                if words.first() == Some(&"config") && args.iter().any(|arg| arg == "--raw") {
                    return Err(READS);
                }
                if words.first() == Some(&"get") && secret && shown {
                    return Err(READS);
                }
                if words.first() == Some(&"delete")
                    && (has_long(args, "--all")
                        || args
                            .iter()
                            .any(|arg| arg == "--all" || arg == "-A" || arg == "--all-namespaces")
                        || words
                            .get(1)
                            .is_some_and(|kind| matches!(*kind, "namespace" | "ns" | "namespaces")))
                {
                    return Err(DESTROYS);
                }
            }
            "tar" | "zip" | "7z" => self.judge_archive(program, args)?,
            "curl" | "wget" | "http" | "https" | "xh" | "aria2c" | "fetch" => {
                self.judge_transfer(program, args, input)?
            }
            "nc" | "telnet" | "socat" => self.judge_net(program, args, input)?,
            "dig" | "nslookup" | "host" | "ping" | "ping6" | "traceroute" => {
                if args.iter().any(|arg| {
                    arg.contains([marks::SENSITIVE])
                        || arg.contains([marks::OUTPUT, marks::FILE, marks::HARMLESS])
                            && arg
                                .find('.')
                                .is_some_and(|dot| arg.get(..dot).is_some_and(marks::any))
                        || (arg.contains(marks::OUTPUT) && matches!(program, "dig" | "nslookup" | "host"))
                }) {
                    return Err(SENDS);
                }
            }
            "mail" | "mailx" | "sendmail" | "mutt" | "msmtp" | "swaks" => {
                if input.contains([marks::SENSITIVE, marks::FILE])
                    || args
                        .iter()
                        .any(|arg| self.is_private(arg) || arg.contains(marks::SENSITIVE))
                {
                    return Err(SENDS);
                }
            }
            "openssl" if first == "s_client" => {
                if input.contains([marks::SENSITIVE, marks::OUTPUT, marks::FILE]) {
                    return Err(SENDS);
                }
            }
            "ftp" | "tftp" | "lftp" | "sftp" => {
                if args.iter().any(|arg| self.is_private(arg))
                    || input.lines().any(|line| {
                        line.trim_start().starts_with("put ")
                            && line.split_whitespace().skip(1).any(|word| self.is_private(word))
                    })
                {
                    return Err(SENDS);
                }
            }
            "sed" => {
                if has_flag(args, 'i') || has_long(args, "--in-place") {
                    if args.iter().any(|arg| {
                        [
                            "PermitRootLogin yes",
                            "PermitEmptyPasswords yes",
                            "PasswordAuthentication yes",
                        ]
                        .iter()
                        .any(|line| {
                            arg.rfind(line).is_some_and(|at| {
                                arg.get(at.saturating_add(line.len())..)
                                    .is_some_and(|rest| rest.matches(['/', '|', '#']).count() <= 1)
                            })
                        })
                    }) && args.iter().any(|arg| arg.ends_with("sshd_config"))
                    {
                        return Err(PERSISTS);
                    }
                    for path in operands(args, "ef")
                        .into_iter()
                        .skip(usize::from(option(args, "-e", "--expression").is_none()))
                    {
                        if paths::is_vital(path, &self.env.cwd)
                            && path != "/etc/hosts"
                            && !path.starts_with("/etc/ssh")
                        {
                            return Err(DESTROYS);
                        }
                        if paths::persists(path, &self.env.cwd) {
                            return Err(PERSISTS);
                        }
                    }
                }
            }
            "docker" => self.judge_docker(args)?,
            "git" => {
                if args.iter().any(|arg| {
                    arg.starts_with("core.pager=!")
                        || arg.starts_with("core.sshCommand=") && arg.contains(marks::NETWORK)
                }) {
                    return Err(DOWNLOADS);
                }
            }
            "mount"
                if args.iter().any(|arg| self.place(arg) == Place::Disk)
                    && args.windows(2).any(|pair| matches!(pair, [_, b] if b == "/")) =>
            {
                return Err(DISK);
            }
            "umount" if has_flag(args, 'a') => return Err(DESTROYS),
            "swapoff" if has_flag(args, 'a') => {}
            "sysctl"
                if args.iter().any(|arg| {
                    arg.starts_with("kernel.core_pattern=|") || arg.starts_with("kernel.panic")
                }) =>
            {
                return Err(STOPS);
            }
            "history" if has_flag(args, 'c') => return Err(Stop::Danger("wipes its traces")),
            "pip" | "pip3" | "npm" | "yarn" | "gem"
                if args.iter().any(|arg| arg.contains([marks::NETWORK])) =>
            {
                return Err(DOWNLOADS);
            }
            "cmd" | "cmd.exe" => self.unknown("runs another shell whose words are not read"),
            "vssadmin" | "bcdedit" | "cipher"
                if args
                    .iter()
                    .any(|arg| arg.eq_ignore_ascii_case("delete") || arg.starts_with("/w")) =>
            {
                return Err(DESTROYS);
            }
            _ => {
                // Any other program that is given somebody's secrets on its way out of the machine.
            }
        }
        Ok(())
    }

    fn judge_kill(&mut self, args: &[String]) -> Result<()> {
        let mut rest = args;
        match args.first().map(String::as_str) {
            None => return Ok(()),
            Some("-l" | "-L" | "--list") => return Ok(()),
            Some("-s" | "-n" | "--signal") => rest = args.get(2..).unwrap_or(&[]),
            Some("--") => rest = args.get(1..).unwrap_or(&[]),
            Some(signal) if signal.starts_with('-') && args.len() > 1 => rest = args.get(1..).unwrap_or(&[]),
            _ => {}
        }
        for target in rest {
            if target == "--" {
                continue;
            }
            if target == "-1" || target == "1" || target.trim_start_matches('0') == "1" {
                return Err(KILLS);
            }
            if target.contains([marks::SENSITIVE, '*', '?']) || target.starts_with('[') {
                return Err(KILLS);
            }
            if target.contains([marks::OUTPUT, marks::NETWORK]) {
                self.unknown("kills what is not known before it runs");
            }
        }
        Ok(())
    }

    fn judge_copy(&mut self, program: &str, args: &[String]) -> Result<()> {
        let mut words = operands(args, if program == "scp" { "iFPlcSo" } else { "tSeTgom" });
        if let Some(target) = option(args, "-t", "--target-directory")
            && matches!(program, "cp" | "mv" | "install" | "ln")
        {
            words.retain(|word| *word != target);
            words.push(target);
        }
        let Some((target, sources)) = words.split_last() else {
            return Ok(());
        };
        if program == "ln" {
            // A link to the root or to a key makes another name for it.
            if let Some(source) = sources.first() {
                if let Some(name) = program_file(source) {
                    self.copy_program(target, name);
                } else if source.starts_with(['/', '~', '.']) && self.links.len() < 256 {
                    let name = self.file_name(target);
                    let source = source.trim_end_matches('/').to_owned();
                    self.links
                        .insert(name, if source.is_empty() { "/".to_owned() } else { source });
                }
                if paths::persists(target, &self.env.cwd)
                    && !paths::Path::new(target)
                        .parts
                        .first()
                        .is_some_and(|part| part.ends_with("rc") || part.ends_with("profile"))
                {
                    return Err(PERSISTS);
                }
                if paths::is_credential(source, &self.env.cwd) {
                    return Err(READS);
                }
            }
            if paths::is_vital(target, &self.env.cwd)
                && has_flag(args, 'f')
                && !target.starts_with("/usr/bin")
            {
                return Err(DESTROYS);
            }
            return Ok(());
        }
        if program == "mv" {
            for source in sources {
                if is_wide_place(self.place(source)) || paths::is_vital(source, &self.env.cwd) {
                    return Err(DESTROYS);
                }
                if *target == "/dev/null" {
                    return Err(DESTROYS);
                }
                if let Some(content) = self.files.get(&self.file_name(source)).cloned() {
                    let name = self.file_name(target);
                    self.files.insert(name, content);
                }
            }
        }
        let remote = target.contains(':') && !target.starts_with('/') && !target.starts_with('.');
        if remote {
            if sources.iter().any(|source| self.is_private(source)) {
                return Err(SENDS);
            }
            return Ok(());
        }
        // What comes from another machine is a download.
        if program == "scp" {
            for source in sources {
                if let Some((host, path)) = source.split_once(':')
                    && !host.contains('/')
                {
                    let file = path.rsplit('/').next().unwrap_or("");
                    let whole = if matches!(*target, "." | "./") || target.ends_with('/') {
                        format!(
                            "{}{file}",
                            target.trim_start_matches("./").trim_start_matches('.')
                        )
                    } else {
                        (*target).to_owned()
                    };
                    let name = self.file_name(&whole);
                    self.files.insert(name, mark(marks::NETWORK).to_owned());
                }
            }
        }
        if program == "rsync"
            && args.iter().any(|arg| arg.starts_with("--del"))
            && is_wide_place(self.place(target))
        {
            return Err(DESTROYS);
        }
        if program == "install"
            && let Some(mode) = option(args, "-m", "--mode")
            && u32::from_str_radix(mode, 8).is_ok_and(|bits| bits & 0o4000 != 0 || bits & 0o002 != 0)
        {
            return Err(OPENS);
        }
        // A copy of a program is that program.
        if let [source] = sources
            && let Some(name) = program_file(source)
        {
            self.copy_program(target, name);
        }
        if program == "cp" || program == "install" {
            let mut content = String::new();
            for source in sources {
                if let Some(known) = self.files.get(&self.file_name(source)).cloned() {
                    content.push_str(&known);
                } else {
                    content.push(marks::FILE);
                }
            }
            // Into `/etc/` or `/usr/bin/` files are put every day; over a vital file, not.
            if content.contains(marks::NETWORK) {
                let name = self.file_name(target);
                self.files.insert(name, content.clone());
            } else if self
                .files
                .contains_key(&self.file_name(sources.first().copied().unwrap_or("")))
            {
                let name = self.file_name(target);
                self.files.insert(name, content);
            }
        }
        match self.place(target) {
            Place::Disk => return Err(DISK),
            Place::Unknown if target.starts_with([marks::OUTPUT, marks::NETWORK]) => {
                self.unknown("writes to what is not known before it runs")
            }
            _ => {}
        }
        let program_folder =
            target.starts_with("/usr/") || target.starts_with("/bin/") || target.starts_with("/lib");
        if paths::is_vital(target, &self.env.cwd) && !program_folder {
            return Err(DESTROYS);
        }
        if paths::persists(target, &self.env.cwd) {
            return Err(PERSISTS);
        }
        // A file put into a folder keeps its name.
        if !target.ends_with(".service")
            && sources.iter().any(|source| {
                let name = source.rsplit('/').next().unwrap_or("");
                !name.is_empty()
                    && !marks::any(name)
                    && paths::persists(&format!("{}/{name}", target.trim_end_matches('/')), &self.env.cwd)
            })
        {
            return Err(PERSISTS);
        }
        Ok(())
    }

    fn judge_chmod(&mut self, program: &str, args: &[String]) -> Result<()> {
        let recursive = has_flag(args, 'R') || has_long(args, "--recursive");
        if program == "setfacl" {
            if args.iter().any(|arg| {
                arg.split(',').any(|entry| {
                    let entry = entry.trim_start_matches("d:").trim_start_matches("default:");
                    (entry.starts_with("o:") || entry.starts_with("other:")) && entry.contains('w')
                })
            }) {
                return Err(OPENS);
            }
            return Ok(());
        }
        // A mode may begin with a minus: `chmod -x file`.
        let mut words: Vec<&str> = Vec::new();
        for arg in args {
            let option = arg.starts_with("--")
                || matches!(
                    arg.as_str(),
                    "-R" | "-v" | "-c" | "-f" | "-Rv" | "-vR" | "-Rf" | "-fR" | "-h" | "-cR" | "-Rc"
                );
            if !option {
                words.push(arg);
            }
        }
        if has_long(args, "--reference") {
            words.insert(0, "644");
        }
        let Some((mode, targets)) = words.split_first() else {
            return Ok(());
        };
        if marks::any(mode) {
            self.unknown("sets permissions that are not known before it runs");
            return Ok(());
        }
        let octal = u32::from_str_radix(mode.trim_start_matches('='), 8)
            .ok()
            .filter(|_| {
                mode.trim_start_matches('=')
                    .bytes()
                    .all(|byte| byte.is_ascii_digit())
            });
        let (mut wide, mut readable, mut set_id, mut locks) = (false, false, false, false);
        if let Some(bits) = octal {
            wide = bits & 0o002 != 0 && bits & 0o1000 == 0;
            readable = bits & 0o004 != 0;
            set_id = bits & 0o4000 != 0;
            locks = bits & 0o700 == 0;
        } else {
            for clause in mode.split(',') {
                let Some(at) = clause.find(['+', '-', '=']) else {
                    continue;
                };
                let (who, what) = clause.split_at(at);
                let everybody = who.contains(['o', 'a']);
                let adds = !what.starts_with('-');
                wide |= adds && everybody && what.contains('w');
                readable |= adds && everybody && what.contains('r');
                set_id |= adds && what.contains('s') && (who.is_empty() || who.contains(['u', 'a']));
            }
        }
        for target in targets {
            let place = self.place(target);
            if wide || (set_id && !target.is_empty()) {
                return Err(OPENS);
            }
            let credential = paths::is_credential(target, &self.env.cwd) || paths::is_dotenv(target);
            if readable && credential && !paths::is_dotenv(target) {
                return Err(OPENS);
            }
            let served = target.starts_with("/var/www")
                && !readable_to_write(mode)
                && octal.is_none_or(|bits| bits & 0o700 == 0o700);
            if recursive
                && !served
                && (is_wide_place(place) && place != Place::Home || place == Place::InSystem)
            {
                return Err(OPENS);
            }
            if locks && is_wide_place(place) {
                return Err(DESTROYS);
            }
        }
        Ok(())
    }

    /// What is nobody else's business: keys, system files, all of a home.
    pub(super) fn is_private(&self, path: &str) -> bool {
        if (path.starts_with('-') && path.len() < 3) || path.ends_with(".pub") {
            return false;
        }
        let path = path.trim_start_matches(['@', '<']);
        if paths::is_credential(path, &self.env.cwd) || paths::is_dotenv(path) {
            return true;
        }
        match self.place(path) {
            Place::Root | Place::System | Place::Home => path.starts_with(['/', '~']),
            Place::InSystem => {
                path.starts_with("/etc")
                    || path.starts_with("/var/lib")
                    || path.starts_with("/proc")
                    || path.starts_with("/var/log")
            }
            Place::InHome => {
                let found = paths::Path::new(path);
                found.parts.first().is_some_and(|first| {
                    first.starts_with('.')
                        || matches!(*first, "Documents" | "Desktop" | "Pictures" | "Downloads")
                })
            }
            _ => path.contains("passwd") && path.starts_with('/'),
        }
    }

    fn judge_archive(&mut self, program: &str, args: &[String]) -> Result<()> {
        if program == "tar" {
            for (at, arg) in args.iter().enumerate() {
                let command = if let Some(action) = arg.strip_prefix("--checkpoint-action=") {
                    action.strip_prefix("exec=")
                } else if let Some(command) = arg
                    .strip_prefix("--to-command=")
                    .or_else(|| arg.strip_prefix("--use-compress-program="))
                    .or_else(|| arg.strip_prefix("--rsh-command="))
                {
                    Some(command)
                } else if matches!(
                    arg.as_str(),
                    "-I" | "--use-compress-program" | "--to-command" | "-F" | "--info-script"
                ) {
                    args.get(at.saturating_add(1)).map(String::as_str)
                } else {
                    None
                };
                if let Some(command) = command {
                    self.run_text(&command.to_owned(), "", true)?;
                }
            }
            // `-f` may stand in a cluster; the word after it is where it is written.
            for pair in args.windows(2) {
                if let [flags, file] = pair
                    && flags.trim_start_matches('-').ends_with('f')
                    && flags.contains('c')
                    && self.place(file) == Place::Disk
                {
                    return Err(DISK);
                }
            }
            if has_long(args, "--remove-files")
                && operands(args, "fC")
                    .iter()
                    .any(|path| is_wide_place(self.place(path)))
            {
                return Err(DESTROYS);
            }
        }
        if program == "zip"
            && has_flag(args, 'T')
            && args
                .iter()
                .any(|arg| arg.starts_with("-TT") || arg.starts_with("--unzip-command"))
        {
            if let Some(command) = option(args, "-TT", "--unzip-command").map(str::to_owned) {
                self.run_text(&command, "", true)?;
            }
        }
        Ok(())
    }

    fn judge_docker(&mut self, args: &[String]) -> Result<()> {
        let host_processes = args.iter().any(|arg| arg == "--pid=host")
            || args
                .windows(2)
                .any(|pair| matches!(pair, [flag, value] if flag == "--pid" && value == "host"));
        if args.iter().any(|arg| arg == "--privileged") && host_processes {
            return Err(HOST);
        }
        for (at, arg) in args.iter().enumerate() {
            let volume = if matches!(arg.as_str(), "-v" | "--volume" | "--mount") {
                args.get(at.saturating_add(1)).map(String::as_str)
            } else {
                arg.strip_prefix("--volume=")
                    .or_else(|| arg.strip_prefix("--mount="))
                    .or_else(|| arg.strip_prefix("-v"))
            };
            if let Some(volume) = volume {
                let source = volume
                    .split(',')
                    .find_map(|part| part.strip_prefix("source=").or_else(|| part.strip_prefix("src=")))
                    .unwrap_or_else(|| volume.split(':').next().unwrap_or(""));
                let clean = paths::Path::new(source);
                if clean.absolute && clean.parts.is_empty()
                    || matches!(clean.parts.first(), Some(&("etc" | "boot")))
                        && clean.absolute
                        && clean.parts.len() == 1
                    || paths::is_credential(source, "")
                {
                    return Err(HOST);
                }
            }
        }
        Ok(())
    }

    fn judge_transfer(&mut self, program: &str, args: &[String], input: &str) -> Result<()> {
        let local = args.iter().any(|arg| {
            let rest = arg.split_once("://").map_or(arg.as_str(), |(_, rest)| rest);
            [
                "localhost",
                "127.0.0.1",
                "[::1]",
                "0.0.0.0",
                "host.docker.internal",
            ]
            .iter()
            .any(|host| rest.starts_with(host))
        });
        if args.iter().any(|arg| {
            let rest = arg.split_once("://").map_or(arg.as_str(), |(_, rest)| rest);
            let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
            let host = authority.rsplit('@').next().unwrap_or("");
            let host = if host.starts_with('[') {
                host.split_inclusive(']').next().unwrap_or(host)
            } else {
                host.split(':').next().unwrap_or(host)
            };
            arg.contains("://") && crate::net::is_metadata(host)
        }) {
            return Err(READS);
        }
        if args.iter().any(|arg| {
            arg.contains("169.254.169.254")
                || arg.contains("metadata.google.internal")
                || arg.contains("fd00:ec2::254")
                || arg.contains("169.254.170.2")
        }) {
            return Err(READS);
        }
        if args.iter().any(|arg| {
            arg.starts_with("file:///")
                && (self.is_private(arg.trim_start_matches("file://"))
                    || paths::is_vital(arg.trim_start_matches("file://"), ""))
        }) {
            return Err(READS);
        }
        let mut sent: Vec<String> = Vec::new();
        let mut headers: Vec<&str> = Vec::new();
        let mut rest = args.iter().peekable();
        while let Some(arg) = rest.next() {
            const DATA: [&str; 15] = [
                "-d",
                "--data",
                "--data-binary",
                "--data-raw",
                "--data-urlencode",
                "--data-ascii",
                "-F",
                "--form",
                "-T",
                "--upload-file",
                "--post-file",
                "--body-file",
                "--post-data",
                "--json",
                "--form-string",
            ];
            if matches!(
                arg.as_str(),
                "-H" | "--header" | "-u" | "--user" | "-A" | "-b" | "-e"
            ) {
                headers.extend(rest.next().map(String::as_str));
            } else if DATA.contains(&arg.as_str()) {
                if let Some(value) = rest.next() {
                    sent.push(if matches!(arg.as_str(), "-T" | "--upload-file") {
                        format!("@{value}")
                    } else {
                        value.clone()
                    });
                }
            } else if let Some((name, value)) = arg.split_once('=')
                && DATA.contains(&name)
            {
                sent.push(if name.ends_with("file") {
                    format!("@{value}")
                } else {
                    value.to_owned()
                });
            } else if !arg.starts_with("--")
                && arg.len() > 2
                && (arg.starts_with("-d") || arg.starts_with("-F"))
                && program == "curl"
            {
                sent.push(arg.get(2..).unwrap_or("").to_owned());
            } else if !arg.starts_with("--") && arg.len() > 2 && arg.starts_with("-T") && program == "curl" {
                sent.push(format!("@{}", arg.get(2..).unwrap_or("")));
            } else if !arg.starts_with('-')
                && arg.contains([marks::OUTPUT, marks::SENSITIVE, marks::FILE])
                && !local
            {
                // In the address itself. A version that was looked up before is an everyday thing.
                // An address that is a line of a file comes from a list of them.
                let listed = arg.chars().all(|c| c == marks::FILE);
                if arg.contains([marks::SENSITIVE, marks::FILE]) && !listed
                    || arg.find(marks::is).is_some_and(|at| {
                        at > 0
                            && (arg.contains('?')
                                || !arg.get(..at).is_some_and(|head| head.matches('/').count() > 2))
                    })
                {
                    return Err(SENDS);
                }
            } else if !arg.starts_with("--")
                && arg.len() > 2
                && arg.starts_with('-')
                && matches!(arg.chars().last(), Some('d' | 'F' | 'T'))
                && program == "curl"
            {
                // A cluster whose last letter takes the data.
                if let Some(value) = rest.next() {
                    sent.push(if arg.ends_with('T') {
                        format!("@{value}")
                    } else {
                        value.clone()
                    });
                }
            }
        }
        if headers.iter().any(|header| {
            let lower = header.to_ascii_lowercase();
            header.contains(marks::SENSITIVE)
                && !["authorization", "token", "key", "secret"]
                    .iter()
                    .any(|name| lower.contains(name))
        }) {
            return Err(SENDS);
        }
        if headers.iter().any(|header| {
            header.contains([marks::FILE])
                && !header.contains("uthorization")
                && !header.contains("oken")
                && !header.contains(':')
        }) {
            return Err(SENDS);
        }
        for data in &sent {
            // What it is given directly.
            if !local && data.contains([marks::SENSITIVE, marks::FILE, marks::OUTPUT]) {
                return Err(SENDS);
            }
            for part in data.split(';').flat_map(|part| {
                part.split_once('@')
                    .map(|(_, file)| file)
                    .into_iter()
                    .chain(part.split_once("=<").map(|(_, file)| file))
            }) {
                if matches!(part, "-" | "." | "/dev/stdin") {
                    if input.contains(marks::SENSITIVE) || (!local && input.contains(marks::OUTPUT)) {
                        return Err(SENDS);
                    }
                } else if let Some(content) = self.files.get(&self.file_name(part)) {
                    if content.contains(marks::SENSITIVE) || (!local && content.contains(marks::OUTPUT)) {
                        return Err(SENDS);
                    }
                } else if self.is_private(part) {
                    return Err(SENDS);
                }
            }
        }
        // What is written down.
        let output = if program == "wget" {
            option(args, "-O", "--output-document")
        } else {
            option(args, "-o", "--output")
        };
        let cluster = args.windows(2).find_map(|pair| match pair {
            [flags, file]
                if flags.starts_with('-')
                    && !flags.starts_with("--")
                    && flags.len() > 2
                    && flags.ends_with(if program == "wget" { 'O' } else { 'o' }) =>
            {
                Some(file.as_str())
            }
            _ => None,
        });
        let glued = (program == "wget")
            .then(|| {
                args.iter().find_map(|arg| {
                    let (flags, file) = arg.strip_prefix('-')?.split_once('O')?;
                    (flags.len() < 6
                        && flags.bytes().all(|byte| byte.is_ascii_lowercase())
                        && !file.is_empty())
                    .then_some(file)
                })
            })
            .flatten();
        let folder = match program {
            "wget" => option(args, "-P", "--directory-prefix"),
            "aria2c" => option(args, "-d", "--dir"),
            _ => option(args, "", "--output-dir"),
        };
        let named = output
            .or(cluster)
            .or(glued)
            .filter(|path| *path != "-")
            .map(|path| match folder {
                Some(folder) if !path.starts_with('/') && program != "wget" => {
                    format!("{}/{path}", folder.trim_end_matches('/'))
                }
                _ => path.to_owned(),
            });
        let by_url = named.is_none()
            && (program == "aria2c"
                || program == "wget"
                    && !args
                        .iter()
                        .any(|arg| arg.ends_with("O-") || arg == "-O" || arg == "--output-document=-")
                || program == "curl" && (has_flag(args, 'O') || has_long(args, "--remote-name")));
        if let Some(path) = named {
            self.write(&path, mark(marks::NETWORK), false)?;
        } else if by_url {
            for arg in args
                .iter()
                .filter(|arg| !arg.starts_with('-') && arg.contains('/'))
            {
                let name = arg
                    .split(['?', '#'])
                    .next()
                    .unwrap_or("")
                    .rsplit('/')
                    .next()
                    .unwrap_or("")
                    .to_owned();
                if !name.is_empty() {
                    let path = match folder {
                        Some(folder) => format!("{}/{name}", folder.trim_end_matches('/')),
                        None => name,
                    };
                    self.write(&path, mark(marks::NETWORK), false)?;
                }
            }
        }
        Ok(())
    }

    fn judge_net(&mut self, program: &str, args: &[String], input: &str) -> Result<()> {
        if program == "socat" {
            for arg in args {
                let upper = arg.to_ascii_uppercase();
                if upper.starts_with("EXEC:") || upper.starts_with("SYSTEM:") || upper.starts_with("SHELL:") {
                    return Err(REVERSE);
                }
                if (upper.starts_with("FILE:") || upper.starts_with("OPEN:") || upper.starts_with("GOPEN:"))
                    && arg
                        .split_once(':')
                        .is_some_and(|(_, path)| self.is_private(path.split(',').next().unwrap_or("")))
                {
                    return Err(SENDS);
                }
            }
        }
        if program == "nc"
            && (has_flag(args, 'e')
                || has_flag(args, 'c') && !has_flag(args, 'z')
                || ["--exec", "--sh-exec", "--lua-exec"]
                    .iter()
                    .any(|long| has_long(args, long)))
        {
            return Err(REVERSE);
        }
        let local = args
            .iter()
            .any(|arg| matches!(arg.as_str(), "localhost" | "127.0.0.1" | "::1"));
        if !local && input.contains([marks::SENSITIVE, marks::FILE, marks::OUTPUT]) && !has_flag(args, 'z') {
            return Err(SENDS);
        }
        Ok(())
    }

    /// What a program writes, as far as that is known.
    #[expect(clippy::too_many_lines, reason = "one table, a line a program")]
    fn output(&mut self, program: &str, args: &[String], input: &str) -> String {
        let out = |character: char| mark(character).to_owned();
        match program {
            "echo" => {
                let mut words = args;
                let mut escapes = false;
                let mut newline = true;
                while let Some((first, rest)) = words.split_first()
                    && first.len() > 1
                    && first.starts_with('-')
                    && first.chars().skip(1).all(|c| matches!(c, 'n' | 'e' | 'E'))
                {
                    escapes |= first.contains('e');
                    newline &= !first.contains('n');
                    words = rest;
                }
                let mut text = words.join(" ");
                if escapes {
                    text = code::unescape(&text);
                }
                if newline {
                    text.push('\n');
                }
                text
            }
            "printf" => printf(args),
            "cat" | "tac" | "tee" | "pv" | "sponge" | "head" | "tail" | "less" | "more" | "bat" | "nl"
            | "zcat" | "gzcat" | "buffer" | "mbuffer" => {
                let names = if matches!(program, "tee" | "sponge" | "pv" | "buffer") {
                    Vec::new()
                } else {
                    operands(args, "nc")
                };
                if names.is_empty() {
                    return input.to_owned();
                }
                let mut text = String::new();
                for name in names {
                    if is_stdin(name) {
                        text.push_str(input);
                    } else {
                        match self.read(name) {
                            Ok(content) => text.push_str(&content),
                            Err(_) => text.push(marks::SENSITIVE),
                        }
                        if name.ends_with(".pid") {
                            text = out(marks::PIDS);
                        }
                    }
                }
                text
            }
            "curl" | "wget" | "http" | "https" | "xh" | "nc" | "telnet" | "socat" | "fetch" | "lynx"
            | "w3m" | "aria2c" | "ftp" | "GET" => {
                if has_flag(args, 'I') && program == "curl" {
                    out(marks::HARMLESS)
                } else {
                    out(marks::NETWORK)
                }
            }
            "openssl" if args.first().is_some_and(|first| first == "s_client") => out(marks::NETWORK),
            "dig" | "nslookup" | "host" => out(marks::NETWORK),
            "set" | "export" | "declare" | "typeset"
                if args.is_empty()
                    || matches!(args, [flag] if matches!(flag.as_str(), "-p" | "-x" | "-px")) =>
            {
                out(marks::SENSITIVE)
            }
            "true" | "false" | ":" | "cd" | "export" | "set" | "mkdir" | "touch" | "rm" | "cp" | "mv"
            | "chmod" | "sleep" | "wait" | "test" | "[" | "unset" | "exit" | "ln" | "chown" | "source"
            | "mkfifo" => {
                self.remember(program, args, input);
                String::new()
            }
            "read" | "mapfile" | "readarray" | "getopts" | "alias" | "unalias" | "shift" | "pushd"
            | "popd" | "local" | "declare" | "readonly" | "typeset" | "let" => {
                self.remember(program, args, input);
                String::new()
            }
            "pwd" => {
                if self.env.cwd.is_empty() {
                    ".\n".to_owned()
                } else {
                    format!("{}\n", self.env.cwd)
                }
            }
            "mktemp" => "/tmp/tmp.unique\n".to_owned(),
            "which" | "type" | "whereis" => {
                let name = operands(args, "").first().copied().unwrap_or("").to_owned();
                if name.is_empty() || name.contains('/') || marks::any(&name) || program != "which" {
                    format!("{name}\n")
                } else {
                    format!("/usr/bin/{name}\n")
                }
            }
            "seq" => sequence(args).unwrap_or_else(|| out(marks::HARMLESS)),
            "dd" => {
                if args.iter().any(|arg| arg.starts_with("of=")) {
                    String::new()
                } else {
                    match args.iter().find_map(|arg| arg.strip_prefix("if=")) {
                        Some(source) => self.read(source).unwrap_or_else(|_| out(marks::SENSITIVE)),
                        None => input.to_owned(),
                    }
                }
            }
            "basename" => {
                let name = args.first().map_or("", String::as_str);
                let last = name.rsplit('/').next().unwrap_or("");
                let last = args
                    .get(1)
                    .and_then(|suffix| last.strip_suffix(suffix.as_str()))
                    .unwrap_or(last);
                if marks::any(last) {
                    marks::of(last, None).replace(marks::ENV, mark(marks::HARMLESS))
                } else {
                    last.to_owned()
                }
            }
            "dirname" => match args.first().map_or("", String::as_str).rsplit_once('/') {
                Some(("", _)) => "/".to_owned(),
                Some((folder, _)) => folder.to_owned(),
                None => ".".to_owned(),
            },
            "realpath" | "readlink" => operands(args, "")
                .first()
                .map_or_else(String::new, |path| (*path).to_owned()),
            "date" | "id" | "nproc" | "uname" | "hostname" | "whoami" | "arch" | "wc" | "tput" | "git"
            | "node" | "npm" | "cargo" | "rustc" | "go" | "lsb_release" | "dpkg" | "brew" | "direnv"
            | "ssh-agent" | "pyenv" | "rbenv" | "nodenv" | "fnm" | "opam" | "starship" | "zoxide"
            | "conda" | "mise" | "asdf" | "rtx" | "dircolors" | "thefuck" | "minikube" | "docker-machine"
            | "docker" | "kubectl" | "jq" | "yq" | "aws" | "gcloud" | "az" | "terraform" | "pkg-config"
            | "python-config" | "luarocks" | "gh" | "uuidgen" | "sha256sum" | "md5sum" | "shasum" | "du"
            | "df" | "stat" | "expr" | "bc" | "tty" | "ip" | "ifconfig" | "getconf" | "locale" | "resize"
            | "npx" | "make" | "cmake" | "rustup" | "pip" | "poetry" | "helm" | "kind" | "systemd-escape"
            | "nvm" | "php-config" | "llvm-config" | "xcrun" | "xcode-select" | "sw_vers" | "sysctl"
            | "free" | "uptime" | "lscpu" => {
                let carried = marks::of(input, None);
                if matches!(program, "whoami" | "id" | "hostname" | "uname") {
                    return out(marks::FILE).replace(
                        marks::FILE,
                        mark(if matches!(program, "whoami" | "id") {
                            marks::OUTPUT
                        } else {
                            marks::HARMLESS
                        }),
                    );
                }
                if matches!(program, "jq" | "yq" | "sha256sum" | "md5sum" | "shasum" | "wc")
                    && (carried.contains(marks::NETWORK) || carried.contains(marks::SENSITIVE))
                    && matches!(program, "jq" | "yq")
                {
                    // A field of an answer: data, and no script that anybody should run.
                    return if carried.contains(marks::SENSITIVE) {
                        out(marks::SENSITIVE)
                    } else {
                        out(marks::OUTPUT)
                    };
                }
                out(marks::HARMLESS)
            }
            "pgrep"
                if operands(args, "uUgGPtsFd")
                    .iter()
                    .any(|name| matches!(*name, "" | "." | ".*")) =>
            {
                out(marks::SENSITIVE)
            }
            "pgrep" | "pidof" | "lsof" | "fuser" | "jobs" | "ss" | "netstat" => out(marks::PIDS),
            "ps" => out(marks::SENSITIVE),
            "grep" | "egrep" | "fgrep" | "rg" | "ag" => {
                let names: Vec<&str> = operands(args, "AmBCef")
                    .into_iter()
                    .skip(usize::from(option(args, "-e", "--regexp").is_none()))
                    .collect();
                if names.is_empty()
                    && !has_flag(args, 'r')
                    && !has_flag(args, 'R')
                    && program != "rg"
                    && program != "ag"
                {
                    // Processes that were chosen by name are no longer all of them.
                    let carried = marks::of(input, None);
                    return if carried == mark(marks::SENSITIVE) && !has_flag(args, 'v') {
                        format!("{}", marks::PIDS)
                    } else if marks::any(input) {
                        carried
                    } else {
                        input.to_owned()
                    };
                }
                let listing = has_flag(args, 'l')
                    || has_flag(args, 'L')
                    || has_long(args, "--files-with-matches")
                    || has_flag(args, 'c');
                let mut carried = String::new();
                for name in names {
                    if is_wide_place(self.place(name)) {
                        carried = format!("/{}", marks::OUTPUT);
                    } else if !listing {
                        carried.push_str(&self.read(name).unwrap_or_else(|_| out(marks::SENSITIVE)));
                    }
                }
                if listing && carried.is_empty() {
                    out(marks::HARMLESS)
                } else {
                    carried
                }
            }
            "find" | "fd" | "fdfind" | "ls" | "locate" => {
                let folder = operands(args, "").first().copied().unwrap_or(".").to_owned();
                // Whoever looks for keys by name finds keys.
                if let Some(name) = option(args, "-name", "").filter(|name| paths::is_credential(name, "")) {
                    return format!("{}/{name}\n", folder.trim_end_matches('/'));
                }
                // Files that are named are what is listed.
                if program == "ls"
                    && operands(args, "")
                        .iter()
                        .any(|name| name.contains('*') || paths::is_credential(name, &self.env.cwd))
                {
                    return operands(args, "").join("\n");
                }
                let place = self.place(&folder);
                if is_wide_place(place) || place == Place::InSystem || program == "locate" {
                    format!("{folder}/{}", marks::OUTPUT)
                } else if folder.starts_with(marks::is) || folder.starts_with('-') {
                    out(marks::HARMLESS)
                } else {
                    format!("{}/{}", folder.trim_end_matches('/'), marks::HARMLESS)
                }
            }
            "env" | "printenv" => {
                if args.is_empty() {
                    out(marks::SENSITIVE)
                } else {
                    out(marks::HARMLESS)
                }
            }
            "history" | "mysqldump" | "pg_dump" | "pg_dumpall" | "mongodump" | "sqlite3" | "tar" | "zip"
            | "gpg"
                if !(program == "gpg" && !input.is_empty()) && !(program == "tar" && !creates(args)) =>
            {
                out(marks::SENSITIVE)
            }
            "base64" | "base32" | "xxd" | "od" | "hexdump" | "gzip" | "bzip2" | "xz" | "zstd" | "openssl"
            | "gpg" | "strings" | "uuencode" => {
                let mut carried = marks::of(input, None);
                for name in operands(args, "w") {
                    if let Ok(content) = self.read(name)
                        && name != "enc"
                    {
                        carried.push_str(&marks::of(&content, None));
                    }
                }
                // A file packed up is on its way somewhere.
                if carried.contains(marks::FILE) {
                    carried.push(marks::SENSITIVE);
                }
                if carried.contains(marks::NETWORK) {
                    carried = out(marks::NETWORK);
                }
                if carried.is_empty() {
                    out(marks::OUTPUT)
                } else {
                    carried
                }
            }
            "sh" => out(marks::OUTPUT),
            "sort" | "uniq" | "tr" | "cut" | "rev" | "sed" | "awk" | "paste" | "column" | "fold" | "fmt"
            | "xargs" | "shuf" | "split" | "gunzip" | "unxz" | "bunzip2" | "iconv" | "dos2unix" => {
                let carried = marks::of(input, None);
                if input.trim().is_empty() || !carried.is_empty() {
                    if carried == mark(marks::SENSITIVE)
                        && program == "awk"
                        && args.iter().any(|arg| arg.trim_start().starts_with('/'))
                    {
                        return out(marks::PIDS);
                    }
                    if carried.is_empty() {
                        let mut text = String::new();
                        for name in operands(args, "dfFnkt")
                            .into_iter()
                            .skip(usize::from(matches!(program, "sed" | "awk")))
                        {
                            text.push_str(&self.read(name).unwrap_or_else(|_| out(marks::SENSITIVE)));
                        }
                        return if text.is_empty() { out(marks::OUTPUT) } else { text };
                    }
                    // What was found below a folder stays below it.
                    if input.starts_with('/') && carried.contains(marks::OUTPUT) {
                        format!("/{carried}")
                    } else {
                        carried
                    }
                } else if matches!(program, "sort" | "uniq" | "column" | "fmt" | "xargs") {
                    input.to_owned()
                } else {
                    out(marks::OUTPUT)
                }
            }
            _ => {
                let carried = marks::of(input, None);
                if carried.contains(marks::NETWORK) {
                    out(marks::NETWORK)
                } else if carried.contains(marks::SENSITIVE) {
                    out(marks::SENSITIVE)
                } else {
                    out(marks::OUTPUT)
                }
            }
        }
    }

    /// What builtins do to the shell itself.
    fn remember(&mut self, program: &str, args: &[String], input: &str) {
        match program {
            "cd" | "pushd" => {
                let target = operands(args, "").first().copied().unwrap_or("~").to_owned();
                if target.starts_with(['/', '~']) {
                    self.env_mut().cwd = target;
                } else if target.starts_with(marks::is) {
                    self.env_mut().cwd = target;
                } else if target != "-" && target != "." {
                    let joined = if self.env.cwd.is_empty() {
                        target
                    } else {
                        format!("{}/{target}", self.env.cwd)
                    };
                    if joined.len() < 4096 {
                        self.env_mut().cwd = joined;
                    }
                }
            }
            "popd" => self.env_mut().cwd.clear(),
            "export" | "local" | "declare" | "readonly" | "typeset" | "let" => {
                for arg in args {
                    if let Some((name, value)) = arg.split_once('=')
                        && !name.starts_with('-')
                        && !self.env.vars.contains_key(name)
                    {
                        let _ = self.assign(name, vec![value.to_owned()], false);
                    }
                }
            }
            "unset" => {
                for arg in args {
                    if self.conditional == 0 {
                        self.env_mut().vars.insert(
                            arg.clone(),
                            super::machine::Var {
                                alternatives: vec![Vec::new()],
                            },
                        );
                    }
                    self.env_mut().functions.remove(arg);
                }
            }
            "alias" => {
                for arg in args {
                    if let Some((name, value)) = arg.split_once('=')
                        && self.env.aliases.len() < 256
                    {
                        self.env_mut().aliases.insert(name.to_owned(), value.to_owned());
                    }
                }
            }
            "set" => {
                if let Some(at) = args.iter().position(|arg| arg == "--") {
                    self.env_mut().args.truncate(1);
                    self.env_mut()
                        .args
                        .extend(args.iter().skip(at.saturating_add(1)).cloned());
                } else if args.first().is_some_and(|arg| !arg.starts_with(['-', '+'])) {
                    self.env_mut().args.truncate(1);
                    self.env_mut().args.extend(args.iter().cloned());
                }
            }
            "shift" => {
                if self.env.args.len() > 1 {
                    self.env_mut().args.remove(1);
                }
            }
            "read" | "mapfile" | "readarray" | "getopts" => {
                let names: Vec<String> = operands(args, "adeinNptu")
                    .into_iter()
                    .map(str::to_owned)
                    .collect();
                let array = has_flag(args, 'a') || program != "read";
                let words: Vec<&str> = input.lines().next().unwrap_or("").split_whitespace().collect();
                let unknown = || {
                    vec![if marks::any(input) {
                        marks::of(input, None)
                    } else {
                        mark(marks::OUTPUT).to_owned()
                    }]
                };
                let known = !input.trim().is_empty() && !marks::any(input);
                if array {
                    let name = option(args, "-a", "")
                        .map(str::to_owned)
                        .or_else(|| names.first().cloned())
                        .unwrap_or_else(|| "MAPFILE".to_owned());
                    let words: Vec<String> = if program == "read" {
                        words.iter().map(|word| (*word).to_owned()).collect()
                    } else {
                        input.lines().map(str::to_owned).collect()
                    };
                    let _ = self.assign(&name, if known { words } else { unknown() }, false);
                    return;
                }
                for (at, name) in names.iter().enumerate() {
                    let value = if known {
                        let last = at.saturating_add(1) == names.len();
                        vec![if last {
                            words.get(at..).unwrap_or(&[]).join(" ")
                        } else {
                            words.get(at).copied().unwrap_or("").to_owned()
                        }]
                    } else {
                        unknown()
                    };
                    let _ = self.assign(name, value, false);
                }
            }
            "ln" => {
                let words = operands(args, "");
                if let [source, target] = words.as_slice()
                    && let Some(content) = self.files.get(&self.file_name(source)).cloned()
                {
                    let name = self.file_name(target);
                    self.files.insert(name, content);
                }
            }
            "mkfifo" => {
                for path in operands(args, "m") {
                    let name = self.file_name(path);
                    self.files.insert(name, mark(marks::OUTPUT).to_owned());
                }
            }
            _ => {}
        }
    }
}

/// Whether `reboot …` in a text that may be prose is what somebody would type.
fn is_order(program: &str, args: &[String]) -> bool {
    match operands(args, "").first() {
        None => program != "shutdown" || !args.is_empty(),
        Some(time) => {
            program == "shutdown"
                && (*time == "now" && args.len() <= 2
                    || args.iter().any(|arg| arg.starts_with('-'))
                    || time.starts_with('+')
                    || time.bytes().all(|byte| byte.is_ascii_digit() || byte == b':'))
        }
    }
}

/// The program that a file in one of the folders of programs is.
fn program_file(path: &str) -> Option<&str> {
    let (folder, name) = path.rsplit_once('/')?;
    (matches!(
        folder,
        "/bin" | "/sbin" | "/usr/bin" | "/usr/sbin" | "/usr/local/bin" | "/usr/local/sbin"
    ) && !name.is_empty()
        && !name.contains(['*', '?', '[']))
    .then_some(name)
}

/// Whether a path names some of the files in a folder, by more than a star.
fn is_some_of(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or("");
    name.chars().any(|c| matches!(c, '*' | '?' | marks::HARMLESS))
        && (name.contains(marks::HARMLESS) || name.chars().filter(char::is_ascii_alphanumeric).count() > 1)
}

/// Whether a path leads below what a variable of the environment names, and would harm nothing if that were empty.
fn below_a_variable(path: &str) -> bool {
    let Some(rest) = path
        .strip_prefix(marks::ENV)
        .and_then(|rest| rest.strip_prefix('/'))
    else {
        return false;
    };
    let place = paths::place(&format!("/{rest}"), "");
    !marks::any(rest) && !rest.contains("..") && place == Place::Ordinary
}

/// Whether a path is what comes in.
pub(super) fn is_stdin(path: &str) -> bool {
    matches!(path, "-" | "/dev/stdin" | "/proc/self/fd/0" | "/dev/fd/0")
}

/// Whether a symbolic mode lets others write.
fn readable_to_write(mode: &str) -> bool {
    mode.split(',').any(|clause| {
        clause.find(['+', '=']).is_some_and(|at| {
            clause.get(at..).is_some_and(|what| what.contains('w')) && !clause.starts_with('u')
        })
    })
}

/// What `seq` prints, cut short.
fn sequence(args: &[String]) -> Option<String> {
    let numbers: Vec<i64> = operands(args, "sf")
        .into_iter()
        .map(|word| word.parse().ok())
        .collect::<Option<_>>()?;
    let (first, step, last) = match numbers.as_slice() {
        [last] => (1, 1, *last),
        [first, last] => (*first, 1, *last),
        [first, step, last] => (*first, *step, *last),
        _ => return None,
    };
    let mut text = String::new();
    let mut value = first;
    for _ in 0..100 {
        if step == 0 || (step > 0 && value > last) || (step < 0 && value < last) {
            break;
        }
        text.push_str(&value.to_string());
        text.push('\n');
        value = value.checked_add(step)?;
    }
    Some(text)
}

fn creates(args: &[String]) -> bool {
    args.first()
        .is_some_and(|flags| flags.trim_start_matches('-').contains('c') && !flags.starts_with("--"))
        || has_flag(args, 'c')
        || has_long(args, "--create")
}

/// A file's content that only sets variables, none of which makes a program run something else.
fn only_exports(content: &str) -> bool {
    if content.contains(|c| marks::is(c) && c != marks::HARMLESS && c != marks::ENV) {
        return false;
    }
    content.lines().all(|line| {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return true;
        }
        if line.contains(['`', ';', '|', '&', '<', '>']) || line.contains("$(") {
            return false;
        }
        // A short name for a program with options.
        if let Some((name, value)) = line.strip_prefix("alias ").and_then(|rest| rest.split_once('=')) {
            return is_plain_alias(name, value.trim_matches(['"', '\'']));
        }
        let line = line.strip_prefix("export ").unwrap_or("");
        let Some((name, value)) = line.split_once('=') else {
            return false;
        };
        let name_ok = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let value = value.trim_matches(['"', '\'']);
        const RUN: [&str; 12] = [
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "PROMPT_COMMAND",
            "BASH_ENV",
            "ENV",
            "PYTHONSTARTUP",
            "PERL5OPT",
            "NODE_OPTIONS",
            "LESSOPEN",
            "EDITOR",
            "PAGER",
            "LD_AUDIT",
        ];
        name_ok
            && (!RUN.contains(&name)
                || matches!(name, "EDITOR" | "PAGER")
                    && value
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'-')))
            && !(name == "PATH"
                && (value.starts_with("/tmp") || value.starts_with('.') || value.contains("/tmp/")))
    })
}

/// Whether an alias only shortens what somebody types: no path, no variable, and no name that others rely on.
fn is_plain_alias(name: &str, value: &str) -> bool {
    let first = value.split_whitespace().next().unwrap_or("");
    let own = first == name;
    const RELIED_ON: [&str; 12] = [
        "sudo", "su", "ssh", "cd", "ls", "git", "passwd", "doas", "scp", "rm", "cat", "docker",
    ];
    const RUNS: [&str; 16] = [
        "sh", "bash", "zsh", "eval", "exec", "sudo", "curl", "wget", "nc", "ssh", "rm", "python", "python3",
        "perl", "node", "ruby",
    ];
    (own || !RELIED_ON.contains(&name))
        && !name.is_empty()
        && !RUNS.contains(&first)
        && value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'-' | b'_' | b'.' | b'='))
}

/// What in an argument may be a path: itself, and what stands behind `=`, `@`, `:` or a short option.
fn parts(arg: &str) -> impl Iterator<Item = &str> {
    let behind = |separator: char| arg.split_once(separator).map(|(_, rest)| rest);
    let short = if arg.starts_with('-') && !arg.starts_with("--") {
        arg.get(2..)
    } else {
        None
    };
    let bare = arg.trim_start_matches(['@', '<', '+']);
    std::iter::once(bare)
        .chain(behind('='))
        .chain(behind('@'))
        .chain(
            arg.split(':')
                .filter(move |part| part.len() < arg.len() && !arg.contains("://")),
        )
        .chain(arg.strip_prefix("file://"))
        .chain(behind('=').map(|rest| rest.trim_start_matches(['@', '<'])))
        .chain(short)
        .filter(|part| !part.is_empty())
}

/// Whether one part of a path can be a protected one. An unknown part is not taken for it.
fn alike(part: &str, wanted: &str) -> bool {
    paths::same(part, wanted) || paths::same(wanted, part)
}

/// Whether a text that is no path mentions a protected one as a word.
fn mentions(text: &str, path: &str) -> bool {
    let path = path.trim_start_matches("./").trim_end_matches('/');
    if path.is_empty() {
        return false;
    }
    text.match_indices(path).any(|(at, _)| {
        let before = text.get(..at).and_then(|head| head.chars().next_back());
        let after = text
            .get(at.saturating_add(path.len())..)
            .and_then(|tail| tail.chars().next());
        let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
        !inside(before) && !after.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
    })
}

/// The output of `printf`, for the formats that texts are made with.
fn printf(args: &[String]) -> String {
    let (format, values) = match args.split_first() {
        Some((first, rest)) if first == "--" => match rest.split_first() {
            Some((format, values)) => (format, values),
            None => return String::new(),
        },
        Some((first, _)) if first == "-v" => return String::new(),
        Some((format, values)) => (format, values),
        None => return String::new(),
    };
    if marks::any(format) {
        return marks::of(format, None);
    }
    let format = code::unescape(format);
    let mut out = String::new();
    let mut values = values.iter();
    for _ in 0..256 {
        let mut used = false;
        let mut chars = format.chars();
        while let Some(character) = chars.next() {
            if character != '%' {
                out.push(character);
                continue;
            }
            let mut kind = chars.next();
            while kind.is_some_and(|c| c.is_ascii_digit() || matches!(c, '-' | '+' | ' ' | '.' | '#')) {
                kind = chars.next();
            }
            match kind {
                Some('%') => out.push('%'),
                Some('b') => {
                    used = true;
                    out.push_str(&code::unescape(values.next().map_or("", String::as_str)));
                }
                Some('q') => {
                    used = true;
                    out.push_str(&quote(values.next().map_or("", String::as_str)));
                }
                Some('s' | 'd' | 'i') => {
                    used = true;
                    out.push_str(values.next().map_or("", String::as_str));
                }
                Some('c') => {
                    used = true;
                    out.extend(values.next().and_then(|value| value.chars().next()));
                }
                _ => {
                    used = true;
                    values.next();
                    out.push(marks::OUTPUT);
                }
            }
        }
        if !used || values.as_slice().is_empty() {
            return out;
        }
    }
    out.push(marks::OUTPUT);
    out
}
