//! What builtins and assignments change in the shell itself.

use super::{DOWNLOADS, Result, TRACES, has_flag, operands, option};
use crate::shell::expand::mark;
use crate::shell::machine::Machine;
use crate::shell::marks;

impl Machine<'_> {
    /// Variables that make other programs run something.
    pub(in crate::shell) fn judge_assignment(&mut self, name: &str, values: &[String]) -> Result<()> {
        let Some(value) = values.first() else {
            return Ok(());
        };
        match name {
            "HISTFILE" if value == "/dev/null" => return Err(TRACES),
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
            | "MANPAGER"
            | "BROWSER"
            | "RUSTC_WRAPPER"
            | "PERL5DB" => {
                if !value.is_empty() {
                    self.run_text(&value.clone(), "", true)?;
                }
            }
            "LESSOPEN" | "LESSCLOSE" => {
                let command = value.trim_start_matches(['|', '-']).to_owned();
                self.run_text(&command, "", false)?;
            }
            // What a build is told to compile with.
            "CC" | "CXX" | "CPP" | "LD" | "AR" | "MAKE" if value.contains(' ') && !marks::any(value) => {
                self.run_text(&value.clone(), "", false)?;
            }
            "PS0" | "PS1" | "PS2" | "PS4" => {
                let value = value.clone();
                self.prompt(&value)?;
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

    /// Names of variables that builtins are given: their subscripts are evaluated, and what is substituted in them runs.
    pub(super) fn judge_names(&mut self, program: &str, args: &[String]) -> Result<()> {
        let named: &[String] = match program {
            "printf" if args.first().is_some_and(|first| first == "-v") => args.get(1..2).unwrap_or(&[]),
            "test" | "[" if args.iter().any(|arg| arg == "-v") => args,
            "read" | "unset" | "declare" | "typeset" | "local" | "export" | "readonly" | "let"
            | "mapfile" | "readarray" | "wait" | "getopts" => args,
            _ => return Ok(()),
        };
        for name in named {
            self.evaluate(name)?;
        }
        if matches!(program, "mapfile" | "readarray")
            && let Some(callback) = option(args, "-C", "").map(str::to_owned)
        {
            self.run_text(&format!("{callback} 0 line"), "", true)?;
        }
        Ok(())
    }

    /// What builtins do to the shell itself.
    pub(super) fn remember(&mut self, program: &str, args: &[String], input: &str) {
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
                let refers = matches!(program, "local" | "declare" | "typeset") && has_flag(args, 'n');
                for arg in args {
                    if refers
                        && let Some((name, value)) = arg.split_once('=')
                        && self.env.refs.len() < 256
                        && name != value
                    {
                        self.env_mut().refs.insert(name.to_owned(), value.to_owned());
                        continue;
                    }
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
                            crate::shell::machine::Var {
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
