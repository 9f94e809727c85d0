//! What is written, removed, copied, packed and re-permitted.

use super::{
    DESTROYS, DISK, OPENS, PERSISTS, READS, REVERSE, Result, SENDS, STOPS, TRACES, has_flag, has_long,
    is_wide_place, operands, option,
};
use crate::shell::expand::mark;
use crate::shell::machine::Machine;
use crate::shell::marks;
use crate::shell::paths::{self, Place};

impl Machine<'_> {
    /// What writing to `path` means.
    pub(in crate::shell) fn judge_write(&mut self, path: &str, content: Option<&str>) -> Result<()> {
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
                // A device that is taken away takes its files along.
                let gone = path.ends_with("/device/delete") || path.ends_with("/remove");
                return if gone { Err(DISK) } else { Ok(()) };
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
        // What git runs by itself counts by what it does.
        if let Some(content) = content
            && (path.contains(".git/hooks/") || path.contains(".husky/"))
            && !marks::any(content)
        {
            self.run_text(content, "", false)?;
        }
        // Rules for devices and modules of the kernel, where they run a program.
        if let Some(content) = content
            && (path.contains("/udev/rules.d/")
                && (content.contains("RUN+=") || content.contains("RUN=") || content.contains("PROGRAM="))
                || path.contains("/modprobe.d/")
                    && content.lines().any(|line| {
                        line.trim_start().starts_with("install ")
                            && !line.ends_with("/bin/true")
                            && !line.ends_with("/bin/false")
                    }))
        {
            return Err(PERSISTS);
        }
        if is_trace(path) && content.is_none_or(|content| content.trim().is_empty()) {
            return Err(TRACES);
        }
        if path.ends_with("_history") && content.is_none_or(|content| content.trim().is_empty()) {
            return Err(TRACES);
        }
        if paths::is_credential(path, &self.env.cwd) && path.starts_with("/etc") {
            return Err(DESTROYS);
        }
        Ok(())
    }

    /// The place of each path to be removed, and whether that is too much.
    pub(in crate::shell) fn judge_removal(&mut self, path: &str, recursive: bool) -> Result<()> {
        if is_trace(path) {
            return Err(TRACES);
        }
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
                    return Err(TRACES);
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

    pub(super) fn judge_copy(&mut self, program: &str, args: &[String]) -> Result<()> {
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
                if *source == "/dev/null" && target.ends_with("_history") {
                    return Err(TRACES);
                }
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
        if program == "rsync" && has_long(args, "--remove-source-files") {
            for source in sources {
                self.judge_removal(source, true)?;
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
        if sources.contains(&"/dev/null") && target.ends_with("_history") {
            return Err(TRACES);
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

    pub(super) fn judge_chmod(&mut self, program: &str, args: &[String]) -> Result<()> {
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
            // All of the system to somebody.
            if (has_flag(args, 'R') || has_long(args, "--recursive"))
                && args.iter().any(|arg| {
                    arg.rsplit_once(':')
                        .is_some_and(|(who, what)| who.contains(':') && what.contains('w'))
                })
                && operands(args, "mMxX")
                    .iter()
                    .any(|path| is_wide_place(self.place(path)) && self.place(path) != Place::Home)
            {
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
    pub(in crate::shell) fn is_private(&self, path: &str) -> bool {
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

    pub(super) fn judge_archive(&mut self, program: &str, args: &[String]) -> Result<()> {
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
            if has_long(args, "--recursive-unlink")
                && option(args, "-C", "--directory").is_some_and(|path| is_wide_place(self.place(path)))
            {
                return Err(DESTROYS);
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
}

/// The logs of who came in.
fn is_trace(path: &str) -> bool {
    path.strip_prefix("/var/log/")
        .or_else(|| path.strip_prefix("/var/run/"))
        .is_some_and(|name| {
            matches!(
                name,
                "auth.log" | "secure" | "wtmp" | "btmp" | "lastlog" | "utmp" | "faillog" | "audit/audit.log"
            )
        })
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

/// Whether a symbolic mode lets others write.
fn readable_to_write(mode: &str) -> bool {
    mode.split(',').any(|clause| {
        clause.find(['+', '=']).is_some_and(|at| {
            clause.get(at..).is_some_and(|what| what.contains('w')) && !clause.starts_with('u')
        })
    })
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
        if sets_up_a_tool(line) {
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

/// Whether a line of a start-up file takes over what a tool prints for it: `eval "$(tool init bash)"`,
/// `source <(tool completion bash)`.
fn sets_up_a_tool(line: &str) -> bool {
    let inner = line
        .strip_prefix("eval \"$(")
        .and_then(|rest| rest.strip_suffix(")\""))
        .or_else(|| {
            line.strip_prefix("source <(")
                .and_then(|rest| rest.strip_suffix(')'))
        })
        .or_else(|| line.strip_prefix(". <(").and_then(|rest| rest.strip_suffix(')')));
    let Some(inner) = inner else { return false };
    let mut words = inner.split_whitespace();
    let tool = words.next().unwrap_or("");
    const PRINTS: [&str; 8] = [
        "init",
        "hook",
        "shellenv",
        "completion",
        "completions",
        "env",
        "activate",
        "virtualenv-init",
    ];
    words.next().is_some_and(|word| PRINTS.contains(&word))
        && !tool.starts_with("/tmp")
        && !tool.starts_with('.')
        && !matches!(
            super::canonical(tool),
            "sh" | "curl" | "wget" | "nc" | "ssh" | "python" | "perl" | "node" | "ruby"
        )
        && inner
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'-' | b'_' | b'.' | b'/'))
}
