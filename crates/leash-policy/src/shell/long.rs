//! Long texts that may be commands: lines that can do nothing by themselves are left out, and what remains is judged.
//!
//! Knows which programs and words of the shell the judge looks at, and no more of what they mean. A line is left out
//! only where each of its commands is readable at a glance and runs a program that nobody here has a word to say about;
//! a line that says `:` then stands for it, so that what encloses it stays what it is.

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::sync::LazyLock;

use super::Settings;
use super::judge::{canonical, is_verb_noun};
use super::paths;

/// How much may remain of a text, in bytes.
const MAX_KEPT: usize = 1 << 17;
/// How much of a quoted text or a here-document remains as it is.
const MAX_VERBATIM: usize = 1 << 12;
/// How many names a text may give to programs and files.
const MAX_NAMES: usize = 1024;

/// What remains of a text.
#[derive(Debug)]
pub(super) struct Condensed {
    pub(super) text: String,
    /// Whether nothing had to be cut off at the end.
    pub(super) whole: bool,
}

/// What a line is, read from where no quote is open.
enum Line {
    /// It does nothing.
    Empty,
    /// It runs programs that nobody has a word to say about.
    Plain,
    /// It may do something; with the quote that it leaves open.
    Other(Option<u8>),
}

/// Leaves out of `text` what can do nothing by itself.
pub(super) fn condense(text: &str, settings: &Settings) -> Condensed {
    // What the text does not hold no word of it does; quotes may stand within a word.
    let unquoted = if text.contains(['\'', '"']) {
        Cow::Owned(text.replace(['\'', '"'], ""))
    } else {
        Cow::Borrowed(text)
    };
    let protected = settings.protected.iter().map(|path| path.trim_matches('/'));
    let mut reader = Reader {
        settings,
        protected: protected
            .filter(|path| text.contains(path) || unquoted.contains(path))
            .collect(),
        denied: settings
            .deny
            .iter()
            .map(|name| (name.as_str(), canonical(name)))
            .collect(),
        out: String::new(),
        names: HashSet::new(),
        quote: None,
        bodies: VecDeque::new(),
        verbatim: 0,
        list: false,
        goes_on: false,
        stands_in: false,
    };
    let mut lines = text.split_inclusive('\n');
    for line in lines.by_ref() {
        if reader.names.len() > MAX_NAMES {
            reader.out.push_str(line);
        } else {
            reader.line(line);
        }
        if reader.out.len() > MAX_KEPT {
            break;
        }
    }
    let mut out = reader.out;
    let whole = out.len() <= MAX_KEPT && lines.next().is_none();
    if out.len() > MAX_KEPT {
        let mut end = MAX_KEPT;
        while !out.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        out.truncate(end);
    }
    Condensed { text: out, whole }
}

struct Reader<'s> {
    settings: &'s Settings,
    /// The paths that are protected and stand in the text.
    protected: Vec<&'s str>,
    /// The programs that are denied, by their own names and by those of what they are.
    denied: Vec<(&'s str, &'s str)>,
    out: String,
    /// Names that the text may have given to programs: functions, aliases, copies, files that it wrote.
    names: HashSet<String>,
    quote: Option<u8>,
    /// The ends of the here-documents that are open.
    bodies: VecDeque<String>,
    /// How much of what is quoted was taken as it is.
    verbatim: usize,
    /// Whether the words of a list are open: `a=(`.
    list: bool,
    /// Whether the last line goes on in the next.
    goes_on: bool,
    /// Whether the last line of the output stands for others.
    stands_in: bool,
}

impl Reader<'_> {
    fn line(&mut self, line: &str) {
        let body = line.trim_end();
        if let Some(end) = self.bodies.front() {
            let ends = body.trim_start_matches('\t') == end;
            self.inside(line);
            if ends {
                self.keep(line);
                self.bodies.pop_front();
                self.verbatim = 0;
            }
            return;
        }
        if let Some(quote) = self.quote {
            self.inside(line);
            self.quote = quote_after(line, Some(quote));
            if self.quote.is_none() {
                self.verbatim = 0;
                self.keep(line);
            }
            return;
        }
        match self.read(body) {
            Line::Empty => {}
            Line::Plain if self.goes_on || self.list => self.keep(line),
            Line::Plain => {
                if !self.stands_in {
                    self.out.push_str(":\n");
                    self.stands_in = true;
                }
            }
            // A group of nothing but what was left out: the body of a document rather than of a script.
            Line::Other(_) if body.trim() == "}" && self.leaves_group() => {}
            Line::Other(_) if body.trim() == "{" => self.keep("{\n"),
            Line::Other(quote) => {
                self.keep(line);
                if self.out.len() > MAX_KEPT {
                    // Nothing behind it is read.
                    return;
                }
                self.quote = quote;
                self.goes_on = body.ends_with(['\\', '|']) || body.ends_with("&&");
                self.list = (self.list || body.contains("=(")) && !body.ends_with(')');
                self.note(body);
                return;
            }
        }
        self.goes_on = false;
    }

    /// Leaves out a group that opened on a line of its own and holds nothing; whether there was one.
    fn leaves_group(&mut self) -> bool {
        let Some(head) = self
            .out
            .strip_suffix("{\n:\n")
            .or_else(|| self.out.strip_suffix("{\n"))
        else {
            return false;
        };
        if !(head.is_empty() || head.ends_with('\n')) || self.goes_on || self.list {
            return false;
        }
        let length = head.len();
        let doubled = head == ":\n" || head.ends_with("\n:\n");
        self.out.truncate(length);
        if !doubled {
            self.out.push_str(":\n");
        }
        self.stands_in = true;
        true
    }

    /// A line of a quoted text, or of a here-document: the last one is kept by who asks.
    fn inside(&mut self, line: &str) {
        let body = line.trim_end();
        let last = match self.quote {
            Some(quote) => self.bodies.is_empty() && quote_after(line, Some(quote)).is_none(),
            None => self
                .bodies
                .front()
                .is_some_and(|end| body.trim_start_matches('\t') == end),
        };
        if last {
            return;
        }
        if self.verbatim < MAX_VERBATIM || !matches!(self.read(body), Line::Empty | Line::Plain) {
            self.verbatim = self.verbatim.saturating_add(line.len());
            self.keep(line);
        }
    }

    fn keep(&mut self, line: &str) {
        self.out.push_str(line);
        self.stands_in = false;
    }

    /// Notes what a line that stays gives names to, and the here-documents that it opens.
    fn note(&mut self, body: &str) {
        let mut rest = body;
        while let Some(at) = rest.find("<<") {
            rest = rest.get(at.saturating_add(2)..).unwrap_or("");
            if let Some(after) = rest.strip_prefix('<') {
                rest = after;
                continue;
            }
            let word = rest.trim_start_matches(['-', ' ', '\t']);
            let quoted = word
                .strip_prefix(['\'', '"'])
                .and_then(|rest| rest.split(['\'', '"']).next())
                .filter(|end| !end.is_empty());
            if let Some(end) = quoted
                && self.bodies.len() < 8
            {
                self.bodies.push_back(end.to_owned());
                continue;
            }
            let end = word
                .find(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | '|' | ')' | '<' | '>'))
                .unwrap_or(word.len());
            let end = word.get(..end).unwrap_or("").replace(['\'', '"', '\\'], "");
            if !end.is_empty() && self.bodies.len() < 8 {
                self.bodies.push_back(end);
            }
        }
        let names = [
            "(", ">", "alias", "function", "cp", "ln", "mv", "install", "hash", "tee", "curl", "wget",
        ];
        if names.iter().any(|name| body.contains(name)) {
            for word in body
                .split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '=' | '>' | ';' | '\'' | '"'))
            {
                let base = word.rsplit('/').next().unwrap_or(word);
                if self.names.len() > MAX_NAMES {
                    return;
                }
                if !base.is_empty() && !self.names.contains(base) {
                    self.names.insert(base.to_owned());
                }
            }
        }
    }

    /// What `line` is, which ends no quote.
    fn read(&self, line: &str) -> Line {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            return Line::Empty;
        }
        let bytes = line.as_bytes();
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        // Whether the word at hand names a program, and what it is so far.
        let mut first = true;
        let mut plain = true;
        let mut start = 0_usize;
        let mut in_word = false;
        let mut separated = true;
        // Where in the program's name something stands that is not plain.
        let mut odd: Option<usize> = None;
        // What decides for programs that matter only with some of their words.
        let mut only_with: Option<&[&str]> = None;
        let mut at = 0_usize;
        while at <= bytes.len() {
            let here = byte(at);
            if at == bytes.len() || matches!(here, b' ' | b'\t' | b'\r' | b';' | b'|' | b'&') {
                if in_word {
                    let word = line.get(start..at).unwrap_or("");
                    if first {
                        let head = odd.take().map_or(word, |odd| line.get(start..odd).unwrap_or(""));
                        let shown = head.len() == word.len()
                            || head.starts_with('[') && head.len() > 1
                            || head.starts_with('{') && head.contains(',');
                        only_with = words_that_matter(head);
                        plain &= shown && (only_with.is_some() || self.is_nobody(head));
                    } else {
                        plain &= !self.matters(word);
                        if let Some(words) = only_with {
                            let base = word.rsplit('/').next().unwrap_or(word);
                            plain &= !(words.contains(&word)
                                || self.names.contains(base)
                                || words.is_empty() && word.starts_with(['/', '-']));
                        }
                    }
                    first = false;
                    in_word = false;
                    separated = false;
                }
                if at == bytes.len() {
                    break;
                }
                if matches!(here, b';' | b'|' | b'&') {
                    // A shell stumbles over one that stands alone, and reads on behind one at the end.
                    let doubled = here == byte(at.saturating_add(1)) && here != b';';
                    let step = if doubled { 2 } else { 1 };
                    plain &= !separated && at.saturating_add(step) < bytes.len();
                    first = true;
                    separated = true;
                    at = at.saturating_add(step);
                    continue;
                }
                at = at.saturating_add(1);
                continue;
            }
            if !in_word {
                if here == b'#' {
                    break;
                }
                in_word = true;
                start = at;
            }
            match here {
                b'\'' => match memchr::memchr(b'\'', bytes.get(at.saturating_add(1)..).unwrap_or(&[])) {
                    Some(length) => at = at.saturating_add(length).saturating_add(1),
                    None => return Line::Other(Some(b'\'')),
                },
                b'"' => loop {
                    at = at.saturating_add(1);
                    match byte(at) {
                        0 if at >= bytes.len() => return Line::Other(Some(b'"')),
                        b'"' => break,
                        b'\\' => {
                            if first {
                                odd.get_or_insert(at);
                            }
                            at = at.saturating_add(1);
                        }
                        b'`' => plain = false,
                        b'$' => {
                            if first {
                                odd.get_or_insert(at);
                            }
                            plain &= !matches!(byte(at.saturating_add(1)), b'(' | b'{');
                        }
                        _ => {}
                    }
                },
                b'\\' => {
                    plain &= !first && at.saturating_add(1) < bytes.len();
                    at = at.saturating_add(1);
                }
                b'$' => {
                    plain &= !first && !matches!(byte(at.saturating_add(1)), b'(' | b'{' | b'\'' | b'"');
                }
                b'`' | b'(' | b')' | b'<' | b'>' => plain = false,
                _ => {}
            }
            at = at.saturating_add(1);
        }
        if plain { Line::Plain } else { Line::Other(None) }
    }

    /// Whether `word`, in the place of a program, runs none that anybody has a word to say about.
    fn is_nobody(&self, word: &str) -> bool {
        if !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return !(may_be_known(word) && KEYWORDS.contains(&word)
                || self.is_somebody(word)
                || self.matters(word));
        }
        let word: Cow<'_, str> = if word.contains(['\'', '"']) {
            Cow::Owned(word.replace(['\'', '"'], ""))
        } else {
            Cow::Borrowed(word)
        };
        let mut word = word.as_ref();
        // Of braces, the first of their words is the program.
        if word.starts_with('{') {
            word = word
                .trim_start_matches('{')
                .split([',', '}'])
                .next()
                .unwrap_or("");
        } else if word.contains('{') && word.contains('}') {
            return false;
        }
        if word.is_empty() {
            return false;
        }
        let assigns = word.find('=').is_some_and(|end| {
            word.get(..end).is_some_and(|name| {
                name.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'[' | b']'))
            })
        });
        let base = word.rsplit('/').next().unwrap_or(word);
        // A name in brackets is no program's.
        if word.len() > 1 && word.starts_with('[') && word != "[[" {
            return !self.matters(word);
        }
        // The glob of a path may be any program.
        if assigns || word.contains('/') && word.contains(['*', '?', '[']) {
            return false;
        }
        if may_be_known(base) && KEYWORDS.contains(&base) {
            return false;
        }
        let lower;
        let base = if is_verb_noun(base) {
            lower = base.to_ascii_lowercase();
            lower.as_str()
        } else {
            base
        };
        !(self.is_somebody(base) || self.matters(word))
    }

    /// Whether somebody has a word to say about a program of this name.
    fn is_somebody(&self, name: &str) -> bool {
        let program = canonical(name);
        self.names.contains(name)
            || is_known(program)
            || name != program && is_known(name)
            || program.starts_with("mkfs.")
            || program.starts_with("newfs_")
            || program.starts_with("qemu-")
            || program.starts_with("ld-linux")
            || program.starts_with("ld-musl")
            || self
                .denied
                .iter()
                .any(|(own, denied)| *own == name || *denied == program)
    }

    /// Whether a word that is an argument may decide something whatever the program is.
    fn matters(&self, word: &str) -> bool {
        let globs = || word.bytes().any(|byte| matches!(byte, b'*' | b'?' | b'['));
        if !self.settings.protected.is_empty()
            && (self.protected.iter().any(|path| word.contains(path)) || globs())
        {
            return true;
        }
        if !word.bytes().any(|byte| matches!(byte, b'/' | b'.' | b'~' | b'_'))
            || !word.contains(['/', '.', '~']) && !word.contains("id_")
        {
            return false;
        }
        let word: Cow<'_, str> = if word.contains(['\'', '"', '\\']) {
            Cow::Owned(word.replace(['\'', '"', '\\'], ""))
        } else {
            Cow::Borrowed(word)
        };
        word.contains("169.254")
            || word
                .split(['=', '@', ':', ','])
                .chain(std::iter::once(word.as_ref()))
                .any(|part| paths::is_credential(part, "") || paths::is_dotenv(part))
    }
}

/// The words with which a program does something that counts, where it does without them what anybody may; none for
/// those that run the file that they are given.
fn words_that_matter(program: &str) -> Option<&'static [&'static str]> {
    match program {
        "source" | "." => Some(&[]),
        "npm" | "pnpm" | "yarn" | "poetry" | "pipenv" | "uv" | "bundle" | "conda" | "pip" | "pip3"
        | "gem" => Some(&["exec", "run", "x", "dlx", "-c", "--call"]),
        _ => None,
    }
}

/// The quote that is open after `line`, where `quote` was open before it.
fn quote_after(line: &str, mut quote: Option<u8>) -> Option<u8> {
    let mut bytes = line.bytes();
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (Some(b'\''), b'\'') | (Some(b'"'), b'"') => quote = None,
            (None, b'\'' | b'"') => quote = Some(byte),
            (None | Some(b'"'), b'\\') => {
                bytes.next();
            }
            _ => {}
        }
    }
    quote
}

/// How long [`KNOWN`] and [`KEYWORDS`] are that begin with a letter, as bits: most words are none of them at a glance.
static LENGTHS: LazyLock<[u64; 256]> = LazyLock::new(|| {
    let mut lengths = [0; 256];
    for word in KNOWN.iter().chain(&KEYWORDS) {
        let first = word.bytes().next().unwrap_or(0);
        if let Some(entry) = lengths.get_mut(usize::from(first)) {
            *entry |= bit(word);
        }
    }
    lengths
});

/// The bit that stands for the length of a word; none for one that is too long.
fn bit(word: &str) -> u64 {
    let length = u32::try_from(word.len()).unwrap_or(u32::MAX);
    1_u64.checked_shl(length).unwrap_or(0)
}

/// Whether a word begins as one of [`KNOWN`] or [`KEYWORDS`] does, and is as long.
fn may_be_known(word: &str) -> bool {
    let lengths = word
        .bytes()
        .next()
        .and_then(|first| LENGTHS.get(usize::from(first)))
        .copied()
        .unwrap_or(0);
    lengths & bit(word) != 0
}

pub(super) fn is_known(word: &str) -> bool {
    may_be_known(word) && KNOWN.binary_search(&word).is_ok()
}

/// Words that are part of the shell's grammar.
const KEYWORDS: [&str; 20] = [
    "if", "then", "elif", "else", "fi", "for", "while", "until", "do", "done", "case", "esac", "select",
    "function", "in", "{", "}", "!", "[[", "time",
];

/// The programs that the judge has something to say about, and the words of the shell that change what others mean,
/// in order.
const KNOWN: [&str; 529] = [
    "7z",
    "Rscript",
    "adb",
    "adduser",
    "alias",
    "ansible",
    "aoss",
    "apk",
    "apt",
    "apt-get",
    "aptitude",
    "arch",
    "arch-chroot",
    "aria2c",
    "asdf",
    "at",
    "auditctl",
    "autossh",
    "awk",
    "aws",
    "aws-vault",
    "az",
    "azcopy",
    "b2",
    "badblocks",
    "batch",
    "bcdedit",
    "bind",
    "bitsadmin",
    "blkdiscard",
    "bore",
    "bq",
    "btrfs",
    "buildah",
    "builtin",
    "bun",
    "bunx",
    "busctl",
    "busybox",
    "bw",
    "bwrap",
    "cacls",
    "caffeinate",
    "capsh",
    "catchsegv",
    "cd",
    "cdk",
    "cdktf",
    "certutil",
    "cfdisk",
    "cgexec",
    "chamber",
    "chattr",
    "chgrp",
    "chisel",
    "chmod",
    "choom",
    "chown",
    "chpasswd",
    "chpst",
    "chronic",
    "chroot",
    "chrt",
    "chsh",
    "cipher",
    "clear-disk",
    "clear-eventlog",
    "clickhouse-client",
    "cloudflared",
    "clush",
    "cmd",
    "command",
    "complete",
    "consul",
    "coproc",
    "cp",
    "cpulimit",
    "cqlsh",
    "crictl",
    "crontab",
    "cross-env",
    "cross-env-shell",
    "cryptsetup",
    "cscript",
    "csrutil",
    "cssh",
    "ctr",
    "curl",
    "daemonize",
    "dbus-launch",
    "dbus-run-session",
    "dbus-send",
    "dd",
    "debugfs",
    "declare",
    "defaults",
    "del",
    "del-cli",
    "deluser",
    "deno",
    "devbox",
    "dig",
    "direnv",
    "diskpart",
    "diskutil",
    "distrobox-host-exec",
    "dmsetup",
    "dnf",
    "docker",
    "docker-compose",
    "doppler",
    "dotenv",
    "dotenvx",
    "dotnet",
    "dpkg",
    "dropdb",
    "dscl",
    "dsh",
    "dtach",
    "dumb-init",
    "eatmydata",
    "ed",
    "elixir",
    "emacs",
    "entr",
    "env",
    "envdir",
    "envuidgid",
    "erase",
    "etcdctl",
    "eval",
    "exec",
    "expect",
    "export",
    "fakechroot",
    "fakeroot",
    "faketime",
    "fallocate",
    "fd",
    "fdfind",
    "fdisk",
    "fetch",
    "find",
    "firejail",
    "flatpak-spawn",
    "flock",
    "fly",
    "flyctl",
    "fnm",
    "foreman",
    "format",
    "format-volume",
    "frpc",
    "ftp",
    "fzf",
    "gcloud",
    "gdb",
    "gdbserver",
    "gdbus",
    "gdisk",
    "getent",
    "getopts",
    "gh",
    "git",
    "glab",
    "gmake",
    "goenv",
    "gopass",
    "gosu",
    "gotty",
    "gpasswd",
    "gpg",
    "gpg2",
    "grc",
    "groovy",
    "gsutil",
    "guile",
    "guix",
    "halt",
    "hash",
    "hatch",
    "hdparm",
    "heaptrack",
    "helm",
    "heroku",
    "hg",
    "history",
    "honcho",
    "host",
    "http",
    "https",
    "hyperfine",
    "icacls",
    "ifne",
    "in.telnetd",
    "incus",
    "infisical",
    "init",
    "initialize-disk",
    "inlets",
    "insmod",
    "install",
    "ionice",
    "ip",
    "ip6tables",
    "ipmitool",
    "iptables",
    "java",
    "jenv",
    "journalctl",
    "jshell",
    "julia",
    "just",
    "kexec",
    "keyctl",
    "kill",
    "killall",
    "killall5",
    "kubeadm",
    "kubectl",
    "launchctl",
    "lazagne",
    "lckdo",
    "less",
    "let",
    "lftp",
    "linux32",
    "linux64",
    "lldb",
    "ln",
    "local",
    "lockf",
    "loginctl",
    "lt",
    "ltrace",
    "lua",
    "luajit",
    "lvremove",
    "lwp-request",
    "lxc",
    "lxc-attach",
    "machinectl",
    "mail",
    "mailx",
    "make",
    "mamba",
    "man",
    "mapfile",
    "mariadb",
    "mc",
    "mdadm",
    "micromamba",
    "mimikatz",
    "mimipenguin",
    "mise",
    "mkdosfs",
    "mke2fs",
    "mkfifo",
    "mkfs",
    "mkntfs",
    "mkswap",
    "mongo",
    "mongosh",
    "mono",
    "mosh",
    "mount",
    "mshta",
    "msiexec",
    "msmtp",
    "mutt",
    "mv",
    "mysql",
    "mysqladmin",
    "nc",
    "net",
    "net1",
    "netsh",
    "new-service",
    "newfs",
    "newgrp",
    "nft",
    "ngrok",
    "nice",
    "ninja",
    "nix",
    "nix-shell",
    "nmap",
    "nocache",
    "node",
    "nodenv",
    "nohup",
    "npx",
    "nsenter",
    "nslookup",
    "numactl",
    "nvme",
    "oc",
    "op",
    "opam",
    "openssl",
    "osascript",
    "pacman",
    "parallel",
    "parallel-ssh",
    "parted",
    "pass",
    "passwd",
    "pct",
    "pdm",
    "pdsh",
    "pee",
    "perf",
    "perl",
    "php",
    "ping",
    "ping6",
    "pipx",
    "pixi",
    "pkexec",
    "pkill",
    "plink",
    "popd",
    "powercat",
    "poweroff",
    "powershell",
    "printf",
    "prlimit",
    "proot",
    "proxychains",
    "proxychains-ng",
    "proxychains4",
    "psql",
    "pssh",
    "pulumi",
    "pushd",
    "pvcreate",
    "pvremove",
    "pwncat",
    "pwncat-cs",
    "pyenv",
    "python",
    "rbenv",
    "rcat",
    "rclone",
    "rd",
    "read",
    "readarray",
    "readonly",
    "reboot",
    "redis-cli",
    "reg",
    "register-scheduledtask",
    "regsvr32",
    "remove-eventlog",
    "remove-item",
    "remove-partition",
    "restart-computer",
    "ri",
    "rimraf",
    "rlwrap",
    "rm",
    "rmdir",
    "rpm",
    "rr",
    "rsync",
    "rtcwake",
    "rtx",
    "ruby",
    "run0",
    "runc",
    "rundll32",
    "runuser",
    "rustcat",
    "rustup",
    "rye",
    "s3cmd",
    "s6-envdir",
    "s6-setlock",
    "s6-setuidgid",
    "s6-softlimit",
    "salt",
    "salt-call",
    "salt-ssh",
    "sandbox-exec",
    "sc",
    "schroot",
    "schtasks",
    "scp",
    "screen",
    "script",
    "scrub",
    "secret-tool",
    "security",
    "sed",
    "sedutil-cli",
    "sem",
    "sendmail",
    "set",
    "set-mppreference",
    "set-netfirewallprofile",
    "setarch",
    "setcap",
    "setenforce",
    "setfacl",
    "setlock",
    "setpriv",
    "setsid",
    "setuidgid",
    "sfdisk",
    "sftp",
    "sg",
    "sg_format",
    "sg_sanitize",
    "sgdisk",
    "sh",
    "shellinaboxd",
    "shift",
    "shred",
    "shutdown",
    "sk",
    "skill",
    "slay",
    "socat",
    "softlimit",
    "sort",
    "spctl",
    "split",
    "sponge",
    "sqlcmd",
    "sqlite3",
    "srm",
    "ssh",
    "ssh-agent",
    "sshd",
    "sshpass",
    "start-stop-daemon",
    "stdbuf",
    "stop-computer",
    "strace",
    "su",
    "su-exec",
    "sudo",
    "sudoedit",
    "swaks",
    "swapoff",
    "sysctl",
    "systemctl",
    "systemd-inhibit",
    "systemd-run",
    "takeown",
    "tar",
    "taskset",
    "tclsh",
    "tcpdump",
    "tee",
    "telinit",
    "teller",
    "telnet",
    "telnetd",
    "terraform",
    "terragrunt",
    "test",
    "tftp",
    "timeout",
    "tini",
    "tmutil",
    "tmux",
    "tofu",
    "torify",
    "torsocks",
    "toybox",
    "traceroute",
    "trap",
    "trash",
    "trickle",
    "truncate",
    "ts-node",
    "tsocks",
    "tsshutdn",
    "tsx",
    "ttyd",
    "typeset",
    "ufw",
    "umask",
    "umount",
    "unbuffer",
    "unlink",
    "unset",
    "unshadow",
    "unshare",
    "useradd",
    "userdel",
    "usermod",
    "utelnetd",
    "uvx",
    "vagrant",
    "valgrind",
    "vault",
    "vgcreate",
    "vgremove",
    "vi",
    "virsh",
    "visudo",
    "volta",
    "vssadmin",
    "wait",
    "watch",
    "wbadmin",
    "websocketd",
    "wetty",
    "wevtutil",
    "wget",
    "wine",
    "winpty",
    "wipe",
    "wipefs",
    "with-contenv",
    "wmic",
    "wscript",
    "xargs",
    "xh",
    "xterm",
    "yum",
    "zfs",
    "zip",
    "zmodload",
    "zpool",
    "ztcp",
    "zypper",
];

#[cfg(test)]
mod tests {
    use super::{KEYWORDS, KNOWN, condense, is_known, may_be_known};
    use crate::shell::Settings;

    #[test]
    fn the_known_programs_are_in_order() {
        assert!(KNOWN.is_sorted());
        assert!(KNOWN.iter().all(|program| is_known(program)));
        assert!(KEYWORDS.iter().all(|word| may_be_known(word)));
        assert!(!is_known("") && !is_known("a") && !is_known(&"r".repeat(130)));
    }

    #[test]
    fn a_protected_path_is_met_in_a_long_text_however_it_is_quoted() {
        let settings = Settings {
            protected: vec!["/srv/keys".into()],
            ..Settings::default()
        };
        for line in ["foo /srv/keys/a", "'/srv'/keys", "foo *", "/srv/\"keys\""] {
            let text = format!("{}{line}\n", "foo bar\n".repeat(100));
            assert_eq!(condense(&text, &settings).text, format!(":\n{line}\n"), "{line}");
        }
        assert_eq!(condense("foo /srv/other\n", &settings).text, ":\n");
    }

    #[test]
    fn what_can_do_nothing_is_left_out_and_what_may_stays() {
        let settings = Settings::default();
        let text = "INFO started\nINFO port: 80\n\"a\", \"b\"\nfoo rm -rf /\nrm -rf /\nx=1\n$x y\nls 'a\nb'\n# rm\ndone\n";
        let condensed = condense(text, &settings);
        assert!(condensed.whole);
        assert_eq!(condensed.text, ":\nrm -rf /\nx=1\n$x y\nls 'a\nb'\ndone\n");
    }
}
