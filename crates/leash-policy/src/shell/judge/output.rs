//! What programs write, as far as that is known.

use super::{has_flag, has_long, is_stdin, is_wide_place, operands, option};
use crate::shell::code;
use crate::shell::expand::mark;
use crate::shell::machine::{Machine, quote};
use crate::shell::marks;
use crate::shell::paths::{self, Place};

impl Machine<'_> {
    /// What a program writes, as far as that is known.
    #[expect(clippy::too_many_lines, reason = "one table, a line a program")]
    pub(super) fn output(&mut self, program: &str, args: &[String], input: &str) -> String {
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
            // A token that is printed.
            "gcloud" | "gh" | "az" | "aws"
                if args.iter().any(|arg| {
                    arg.starts_with("print-")
                        || matches!(
                            arg.as_str(),
                            "get-access-token" | "get-login-password" | "token" | "assume-role"
                        )
                }) =>
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
            // A text that is written out, and nothing else.
            "jq" if has_flag(args, 'n')
                && let Some(text) = operands(args, "").first()
                && let Some(text) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) =>
            {
                format!("{}\n", code::unescape(text))
            }
            "expr" if args.len() == 1 => format!("{}\n", args.join("")),
            // The names of everything there is in a cluster.
            "helm" | "kubectl" | "oc"
                if args
                    .iter()
                    .any(|arg| matches!(arg.as_str(), "-A" | "--all-namespaces" | "-qA" | "-aA" | "-Aq")) =>
            {
                out(marks::SENSITIVE)
            }
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
                    .any(|name| matches!(*name, "" | "." | ".*"))
                    || has_flag(args, 'v') =>
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
                if let Some(name) = args
                    .windows(2)
                    .filter_map(|pair| match pair {
                        [flag, name] if matches!(flag.as_str(), "-name" | "-iname") => Some(name),
                        _ => None,
                    })
                    .find(|name| paths::is_credential(name, ""))
                {
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
            "base64" | "xxd"
                if !input.is_empty()
                    && !marks::any(input)
                    && (has_flag(args, 'd')
                        || has_flag(args, 'D')
                        || has_flag(args, 'r')
                        || has_long(args, "--decode")) =>
            {
                decoded(input, if program == "xxd" { 4 } else { 6 }).unwrap_or_else(|| out(marks::OUTPUT))
            }
            "rev" if !input.is_empty() && !marks::any(input) => input
                .lines()
                .map(|line| {
                    line.chars()
                        .rev()
                        .chain(std::iter::once('\n'))
                        .collect::<String>()
                })
                .collect(),
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

/// What `text` encodes, at so many bits a character: 6 for base64, 4 for hexadecimal digits. `None` where it is neither
/// that nor text in the end.
fn decoded(text: &str, bits: u32) -> Option<String> {
    let mut bytes = Vec::new();
    let (mut held, mut count) = (0_u32, 0_u32);
    for byte in text.bytes() {
        let value = match (byte, bits) {
            (b' ' | b'\t' | b'\r' | b'\n', _) => continue,
            (b'=', 6) => break,
            (_, 4) => char::from(byte).to_digit(16)?,
            (b'A'..=b'Z', _) => u32::from(byte).checked_sub(65)?,
            (b'a'..=b'z', _) => u32::from(byte).checked_sub(71)?,
            (b'0'..=b'9', _) => u32::from(byte).checked_add(4)?,
            (b'+' | b'-', _) => 62,
            (b'/' | b'_', _) => 63,
            _ => return None,
        };
        held = held.checked_shl(bits)? | value;
        count = count.checked_add(bits)?;
        if count >= 8 {
            count = count.checked_sub(8)?;
            bytes.push(u8::try_from(held >> count).ok()?);
            held &= 1_u32.checked_shl(count)?.checked_sub(1)?;
        }
    }
    String::from_utf8(bytes)
        .ok()
        .filter(|text| !marks::any(text) && !text.contains('\0'))
}
