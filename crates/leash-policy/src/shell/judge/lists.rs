//! What may be named at all: denied and allowed programs, credentials and protected paths among arguments.

use super::{DENIED, PROTECTED, READS, Result, UNLISTED, canonical, has_flag, has_long, operands, option};
use crate::shell::machine::Machine;
use crate::shell::marks;
use crate::shell::paths;
use crate::shell::wrappers;

impl Machine<'_> {
    /// Denied programs, and the list of the only allowed ones.
    pub(super) fn judge_lists(&self, name: &str, program: &str, args: &[String]) -> Result<()> {
        if self.guesses {
            return Ok(());
        }
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
                            }) || is_cluster_of(arg, &options)
                        }))
        });
        if allowed { Ok(()) } else { Err(UNLISTED) }
    }

    /// Credentials and protected paths among the arguments of any program.
    pub(super) fn judge_arguments(&mut self, program: &str, args: &[String]) -> Result<()> {
        if !self.settings.protected.is_empty() {
            self.judge_protected(program, args)?;
        }
        // What a wrapper runs is judged by itself.
        if program == "xargs" || wrappers::is_plain_wrapper(program) {
            return Ok(());
        }
        // Those that only name a file, or use a key for what it is for.
        let user = matches!(
            program,
            "echo"
                | "printf"
                | "ls"
                | "stat"
                | "test"
                | "["
                | "[["
                | "chmod"
                | "chown"
                | "chgrp"
                | "ssh"
                | "ssh-add"
                | "ssh-keygen"
                | "ssh-copy-id"
                | "sftp"
                | "mkdir"
                | "touch"
                | "man"
                | "which"
                | "whereis"
                | "basename"
                | "dirname"
                | "realpath"
                | "readlink"
                | "export"
                | "declare"
                | "local"
                | "cd"
                | "kubectl"
                | "helm"
                | "ansible"
                | "ansible-playbook"
                | "autossh"
                | "mosh"
                | "ll"
                | "file"
                | "git"
                | "docker-compose"
                | "rm"
                | "shred"
                | "unlink"
                | "getfacl"
                | "set"
                | "unset"
                | "aws"
                | "gcloud"
                | "terraform"
                | "k9s"
                | "find"
                | "chattr"
                | "lsattr"
                | "visudo"
                | "vipw"
                | "du"
                | "sshfs"
                | "rsync"
                | "scp"
                | "alias"
                | "read"
                | "openssl"
        );
        if user {
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
            // A build is given a secret for what it is for.
            if program == "docker" && arg.starts_with("id=") {
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

    pub(super) fn judge_protected(&mut self, program: &str, args: &[String]) -> Result<()> {
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
    pub(in crate::shell) fn judge_path(&mut self, path: &str) -> Result<()> {
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
    pub(super) fn holds_protected(&self, path: &str) -> bool {
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

/// Whether `arg` is several short options in one, each of them allowed: `-rn`; a number may follow the last.
fn is_cluster_of(arg: &str, options: &[&String]) -> bool {
    let Some(letters) = arg.strip_prefix('-') else {
        return false;
    };
    let letters = letters.trim_end_matches(|c: char| c.is_ascii_digit());
    !letters.is_empty()
        && letters.chars().all(|letter| {
            letter.is_ascii_alphabetic()
                && options.iter().any(|option| {
                    option.strip_prefix('-').is_some_and(|name| {
                        let mut name = name.chars();
                        name.next() == Some(letter) && name.next().is_none()
                    })
                })
        })
}
