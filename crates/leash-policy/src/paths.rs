//! Which files a tool may be pointed at: [`BlockedPaths`].
//!
//! A path is judged as a string, after what a program makes of it: percent signs, back slashes, `.` and `..`, `file://`, `~`, the
//! long forms of Windows, characters that look like dots and slashes. What the rule does not promise: it does not look at the disk, so that a link inside a root may lead out of it.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use aho_corasick::AhoCorasick;

use leash_core::{Action, Call, Decision, PolicyContext, Rule, RuleError};

use crate::args::{self, Kept, Leaf, Role, words};
use crate::net::percent;
use crate::registry::{OptionError, OptionKind, RuleKind, Shape};
use crate::tools::matches;

/// Blocks paths that a tool must not be pointed at, in any string of its arguments that is a path.
///
/// Default id: `blocked_paths`. By itself it blocks paths that climb out of where they start, and files with credentials and of the
/// system. With roots, it blocks what lies outside of all of them; a relative path is one of the first root.
///
/// ```
/// use leash_policy::BlockedPaths;
///
/// let rule = BlockedPaths::new().roots(["/srv/work"]);
/// assert_eq!(rule.judge("notes/../a.txt"), None);
/// assert!(rule.judge("notes/../../etc/passwd").is_some());
/// assert!(rule.judge("/srv/work/.ssh/id_rsa").is_some());
/// ```
#[derive(Clone, Debug)]
pub struct BlockedPaths {
    id: String,
    roots: Vec<String>,
    deny: Vec<String>,
    allow: Vec<String>,
    sensitive: bool,
}

/// Longest path that is looked at, in bytes. Linux knows none longer than 4096.
const MAX_PATH_BYTES: usize = 16 * 1024;

impl Default for BlockedPaths {
    fn default() -> Self {
        Self::new()
    }
}

impl BlockedPaths {
    /// Blocks traversal, and files with credentials and of the system.
    #[must_use]
    pub fn new() -> Self {
        Self {
            id: "blocked_paths".into(),
            roots: Vec::new(),
            deny: Vec::new(),
            allow: Vec::new(),
            sensitive: true,
        }
    }

    /// The same under another id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// Only below these folders.
    #[must_use]
    pub fn roots<I: IntoIterator<Item: Into<String>>>(mut self, roots: I) -> Self {
        self.roots = roots
            .into_iter()
            .map(|root| normal(&root.into()).text.into_owned())
            .collect();
        self
    }

    /// Nothing of this, by path or by the name of a file or folder; `*` stands for any characters.
    #[must_use]
    pub fn deny<I: IntoIterator<Item: Into<String>>>(mut self, patterns: I) -> Self {
        self.deny = patterns
            .into_iter()
            .map(|pattern| pattern.into().to_lowercase())
            .collect();
        self
    }

    /// These are no files with credentials and none of the system, whatever they look like; named as in [`Self::deny`].
    #[must_use]
    pub fn allow<I: IntoIterator<Item: Into<String>>>(mut self, patterns: I) -> Self {
        self.allow = patterns
            .into_iter()
            .map(|pattern| pattern.into().to_lowercase())
            .collect();
        self
    }

    /// Whether files with credentials and of the system are blocked; they are unless set otherwise.
    #[must_use]
    pub fn block_sensitive(mut self, block: bool) -> Self {
        self.sensitive = block;
        self
    }

    /// Why a path must not be used; `None` where it may.
    #[must_use]
    pub fn judge(&self, path: &str) -> Option<&'static str> {
        let path = normal(path);
        if path.hidden {
            return Some("it holds a character that ends a path early, or hides one");
        }
        if path.climbs {
            return Some("it climbs out of where it starts");
        }
        let lower = lower(&path.text);
        let inside = |root: &String| {
            // Windows does not look at case.
            let lower_root;
            let (text, root) = if has_drive(root) {
                lower_root = root.to_lowercase();
                (lower.as_ref(), lower_root.as_str())
            } else {
                (path.text.as_ref(), root.as_str())
            };
            let below = text.strip_prefix(root);
            !root.is_empty()
                && (text == root || below.is_some_and(|rest| root == "/" || rest.starts_with('/')))
        };
        let absolute = path.elsewhere || path.text.starts_with(['/', '~', '$', '%']) || has_drive(&path.text);
        let rooted = !path.elsewhere && self.roots.iter().any(inside);
        if self.deny.iter().any(|pattern| is_path(pattern, &lower)) {
            return Some("it is denied");
        }
        if self.sensitive && !self.allow.iter().any(|pattern| is_path(pattern, &lower)) {
            if has_credentials(&lower) {
                return Some("it is a file with credentials");
            }
            // A root was chosen, wherever it lies; `/` chooses nothing.
            let chosen = rooted && !self.roots.iter().any(|root| root == "/");
            if path.device || is_system(&lower) && !chosen {
                return Some("it is a file of the system");
            }
            if path.elsewhere {
                return Some("it lies on another machine");
            }
        }
        if absolute && !self.roots.is_empty() && !rooted {
            return Some("it lies outside of the allowed folders");
        }
        None
    }

    fn look(&self, leaf: &Leaf<'_>, named: &mut Kept<bool>) -> Option<&'static str> {
        let text = leaf.text.trim();
        let key = leaf.role == Role::Key;
        if !key && leaf.role != Role::Value || text.is_empty() {
            return None;
        }
        let named = named.get(leaf, || {
            let words = leaf.told.map(words).unwrap_or_default();
            words.iter().any(|word| NAMES.contains(&word.as_str()))
        });
        if text.len() > MAX_PATH_BYTES {
            let path = named || !text.contains(char::is_whitespace) && text.starts_with(['/', '.', '~']);
            return (path && !key).then_some("it is too long to be judged");
        }
        if text.contains("://")
            && !text
                .get(..5)
                .is_some_and(|scheme| scheme.eq_ignore_ascii_case("file:"))
        {
            // A program that joins it to a folder takes the scheme for a folder, too.
            let climbs = may_climb(text) && !text.contains(char::is_whitespace) && normal(text).climbs;
            return climbs.then_some("it climbs out of where it starts");
        }
        if named {
            // Several paths, one a line, or one that hides behind a line.
            return text.lines().find_map(|line| self.judge(line));
        }
        looks_like_path(text).then(|| self.judge(text))?
    }
}

/// Names of arguments that hold paths.
const NAMES: &[&str] = &[
    "path",
    "paths",
    "file",
    "files",
    "filename",
    "filenames",
    "filepath",
    "dir",
    "dirs",
    "directory",
    "folder",
    "cwd",
    "dest",
    "destination",
    "workdir",
];

/// Whether a text under a name that says nothing is a path.
fn looks_like_path(text: &str) -> bool {
    if text
        .get(..5)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("file:"))
    {
        return true;
    }
    let decoded = plain(decode(text));
    let begins = decoded.starts_with(['/', '~'])
        || decoded.starts_with("./")
        || decoded.starts_with("../")
        || decoded.starts_with("$HOME/")
        || decoded.get(1..3) == Some(":/");
    if text.contains(char::is_whitespace) {
        // Prose may begin with a path; it does not go down and up.
        return begins && !text.contains('\n') && decoded.contains("/../");
    }
    begins
        && (decoded.len() > 1 && !decoded.starts_with('~')
            || decoded.starts_with("~/")
            || decoded.contains("/."))
        || decoded.contains("/../")
        || decoded.ends_with("/..")
        || decoded == ".."
        || decoded.contains(['/', '.', '_']) && has_credentials(&lower(&normal(text).text))
}

/// A path as a program reads it.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says something else of the same path"
)]
struct Normal<'a> {
    text: Cow<'a, str>,
    /// Whether it goes above where it starts.
    climbs: bool,
    /// Whether it holds a NUL, or bytes that some programs take for a dot or a slash.
    hidden: bool,
    /// Whether it is a share of another machine.
    elsewhere: bool,
    /// Whether it is a device of Windows.
    device: bool,
}

/// Characters that look like slashes and dots, in UTF-8, begin with one of these two bytes.
fn may_look_alike(byte: u8) -> bool {
    matches!(byte, 0xe2 | 0xef | b'\\')
}

/// Slashes and dots, whatever they look like.
fn plain(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.bytes().any(may_look_alike) {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '∕' | '∖' | '／' | '⁄' | '＼' | '﹨' | '⧵' | '⧸' => out.push('/'),
            '．' | '․' | '﹒' => out.push('.'),
            '‥' => out.push_str(".."),
            '…' => out.push_str("..."),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Percent signs decoded, where there are any.
fn decode(text: &str) -> Cow<'_, str> {
    if text.contains('%') {
        Cow::Owned(percent(text))
    } else {
        Cow::Borrowed(text)
    }
}

fn lower(text: &str) -> Cow<'_, str> {
    if text
        .bytes()
        .all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase())
    {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.to_lowercase())
    }
}

/// Percent signs decoded, those of IIS (`%u002e`) too; and whether an encoding is one that no encoder makes, which some decoders
/// take for a dot or a slash.
fn decoded(path: &str) -> (Cow<'_, str>, bool) {
    if !path.contains('%') {
        return (Cow::Borrowed(path), false);
    }
    let mut text = Cow::Borrowed(path);
    if path.contains("%u") || path.contains("%U") {
        let mut parts = path.split("%u").flat_map(|part| part.split("%U"));
        let mut signs = parts.next().unwrap_or("").to_owned();
        for part in parts {
            let sign = part
                .get(..4)
                .and_then(|digits| u32::from_str_radix(digits, 16).ok())
                .and_then(char::from_u32);
            if let Some(sign) = sign {
                signs.push(sign);
                signs.push_str(part.get(4..).unwrap_or(""));
            } else {
                signs.push_str("%u");
                signs.push_str(part);
            }
        }
        text = Cow::Owned(signs);
    }
    let overlong = ["%c0%", "%c1%", "%e0%80%", "%f0%80%", "%25c0%", "%25c1%"];
    let overlong = text.match_indices('%').any(|(at, _)| {
        let rest = text.as_bytes().get(at..).unwrap_or(&[]);
        overlong.iter().any(|bytes| {
            rest.get(..bytes.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(bytes.as_bytes()))
        })
    });
    (Cow::Owned(percent(&text)), overlong)
}

/// Whether a path may go up: two dots do, and whatever looks like them once it is decoded.
fn may_climb(path: &str) -> bool {
    path.contains("..") || path.bytes().any(|byte| byte == b'%' || may_look_alike(byte))
}

fn has_drive(path: &str) -> bool {
    matches!(path.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic())
}

/// Whether a path is spelled as [`normal`] spells it. Where it cannot tell at a glance, it is not.
fn is_normal(path: &str) -> bool {
    let mut before = b'/';
    for (at, byte) in path.bytes().enumerate() {
        let odd = match byte {
            // Nothing between two slashes, and what Windows drops, or goes up, at the end of a name.
            b'/' => at > 0 && matches!(before, b'/' | b'.' | b' '),
            // A name of dots begins with one.
            b'.' => before == b'.',
            b'%' | b'\\' | b'$' | b';' | b'?' | b'\0' => true,
            // `file:`
            b':' => at == 4,
            byte => may_look_alike(byte),
        };
        if odd {
            return false;
        }
        before = byte;
    }
    !matches!(before, b'/' | b'.' | b' ')
}

fn normal(path: &str) -> Normal<'_> {
    let path = path.trim();
    if is_normal(path) {
        return Normal {
            text: Cow::Borrowed(path),
            climbs: false,
            hidden: false,
            elsewhere: false,
            device: false,
        };
    }
    taken_apart(path)
}

/// A path of any spelling, part by part.
fn taken_apart(path: &str) -> Normal<'_> {
    let (decoded, overlong) = decoded(path);
    let hidden = overlong || decoded.contains('\0');
    let mut elsewhere = false;
    let mut device = false;
    let back = decoded.starts_with(r"\\");
    let mut text = plain(decoded);
    // `\\?\C:\x` is a file, `\\?\UNC\host\x` and `\\host\x` are of another machine, `\\.\x` is a device.
    let long = ["//?/", "//./", "/??/"]
        .iter()
        .find(|form| text.starts_with(**form));
    if let Some(form) = long {
        let rest = text.get(form.len()..).unwrap_or("");
        let share = rest
            .get(..4)
            .is_some_and(|head| head.eq_ignore_ascii_case("unc/"));
        elsewhere = share;
        device = !share && !has_drive(rest) && (back || *form == "//?/");
        text = if has_drive(rest) {
            Cow::Owned(rest.to_owned())
        } else {
            Cow::Owned(format!("/{rest}"))
        };
    } else if back {
        elsewhere = true;
    } else if let Some(rest) = text
        .get(..5)
        .filter(|scheme| scheme.eq_ignore_ascii_case("file:"))
        .and_then(|_| text.get(5..))
    {
        let local = match rest.strip_prefix("//") {
            // What stands between the second slash and the third is a machine.
            Some(rest) if !rest.starts_with('/') => {
                let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
                let near = ["localhost", "127.0.0.1", "", ".", ".."].contains(&host) || has_drive(host);
                elsewhere = !near;
                if host.starts_with('.') || has_drive(host) {
                    rest.to_owned()
                } else {
                    path.to_owned()
                }
            }
            _ => rest.trim_start_matches('/').to_owned(),
        };
        text = Cow::Owned(if has_drive(&local) {
            local
        } else {
            format!("/{local}")
        });
    }
    for home in ["$HOME", "${HOME}", "%USERPROFILE%", "%HOMEPATH%"] {
        if let Some(rest) = text.strip_prefix(home) {
            text = Cow::Owned(format!("~{rest}"));
            break;
        }
    }
    let absolute = text.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    let mut climbs = false;
    let mut rest = text.split('/').filter(|part| !part.is_empty()).peekable();
    while let Some(part) = rest.next() {
        // Some servers drop what stands behind a semicolon.
        let name = part.split(';').next().unwrap_or(part);
        let dots = !name.is_empty() && name.bytes().all(|byte| byte == b'.');
        match name {
            "." => {}
            ".." => {
                // Above the root is the root; above the start of a relative path, of a home or of a drive is elsewhere.
                let start = match parts.as_slice() {
                    [] => true,
                    [first] => first.starts_with(['~', '$', '%']) || has_drive(first),
                    _ => false,
                };
                if start {
                    climbs |= !absolute;
                } else {
                    parts.pop();
                }
            }
            // What a filter that strips `../` makes `..` of; at the end, three dots are all packages of Go.
            _ if dots && !(part == "..." && rest.peek().is_none()) => climbs = true,
            _ if dots => parts.push(part),
            // Windows drops dots and spaces at the end of a name.
            _ => parts.push(part.trim_end_matches([' ', '.'])),
        }
    }
    let joined = parts.join("/");
    Normal {
        text: Cow::Owned(if absolute { format!("/{joined}") } else { joined }),
        climbs,
        hidden,
        elsewhere,
        device,
    }
}

fn is_path(pattern: &str, path: &str) -> bool {
    if pattern.contains('/') {
        let pattern = pattern.strip_suffix('/').unwrap_or(pattern);
        return matches(pattern, path)
            || path
                .strip_prefix(pattern)
                .is_some_and(|rest| rest.starts_with('/'))
            || !pattern.starts_with('/') && matches(&format!("*/{pattern}"), path);
    }
    path.split('/').any(|part| matches(pattern, part))
}

/// Folders and files that hold credentials, by the end of their path or by a part of it.
const CREDENTIALS: &[&str] = &[
    ".aws/credentials",
    ".aws/config",
    ".azure",
    ".config/gcloud",
    ".config/gh/hosts.yml",
    ".docker/config.json",
    ".kube/config",
    ".netrc",
    "_netrc",
    ".pgpass",
    ".my.cnf",
    ".mylogin.cnf",
    ".git-credentials",
    ".npmrc",
    ".pypirc",
    ".gnupg",
    ".password-store",
    ".htpasswd",
    ".cargo/credentials*",
    ".gem/credentials",
    ".terraform.d/credentials*",
    ".vault-token",
    ".boto",
    ".s3cfg",
    ".rclone.conf",
    ".cassandra/cqlshrc",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "kubeconfig",
    "*.kubeconfig",
    ".envrc",
    "client_secret*.json",
    "*.pem",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    "*.ppk",
    "*.key",
    "*.ovpn",
    "wallet.dat",
    "login data",
    "logins.json",
    "key4.db",
    "cookies.sqlite",
    "ntuser.dat",
    "etc/shadow",
    "etc/shadow-",
    "etc/gshadow",
    "etc/sudoers",
    "etc/sudoers.d",
    "etc/krb5.keytab",
    "etc/ssl/private",
    "run/secrets",
    "var/run/secrets",
    "system32/config/sam",
    "system32/config/system",
    "windows/repair/sam",
    "proc/*/environ",
    "docker.sock",
    "containerd.sock",
    "library/keychains",
    ".*_history",
    ".local/share/keyrings",
    "*.keyring",
    "gcloud/credentials.db",
    "google-chrome/*/cookies",
    "chromium/*/cookies",
    ".credentials.json",
    "service-account*.json",
    "credentials.json",
    "application_default_credentials.json",
];

/// Names of certificates without their keys.
const CERTIFICATES: &[&str] = &[
    "cacert*.pem",
    "ca.pem",
    "ca-*.pem",
    "ca_*.pem",
    "root-ca*.pem",
    "*fullchain*.pem",
    "chain*.pem",
    "cert.pem",
    "*.crt.pem",
    "*-cert.pem",
    "dhparam*.pem",
    "*public*.pem",
    "*.pub.pem",
];

fn has_credentials(path: &str) -> bool {
    // Behind a colon stands the stream of a file, behind a tilde the copy that an editor leaves.
    let last = path.rfind('/').map_or(0, |at| at.saturating_add(1));
    let colon = path
        .get(last..)
        .filter(|name| !has_drive(name))
        .and_then(|name| name.find(':'));
    let path = colon
        .and_then(|at| path.get(..last.saturating_add(at)))
        .unwrap_or(path);
    let path = path.trim_end_matches(['~', ' ', '.']);
    if MARKS.as_ref().is_some_and(|marks| !marks.is_match(path)) {
        return false;
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    let harmless = [
        ".pub",
        ".example",
        ".sample",
        ".template",
        ".dist",
        "known_hosts",
        ".md",
        ".d.ts",
    ];
    if harmless.iter().any(|end| name.ends_with(end))
        || name.as_bytes().ends_with(b".pem") && CERTIFICATES.iter().any(|pattern| matches(pattern, name))
        || matches("*.pem", name) && path.trim_start_matches('/').starts_with("etc/ssl/certs/")
    {
        return false;
    }
    let environment = name == ".env"
        || name.starts_with(".env.")
        || matches("*.env", name)
            && !["example", "sample", "template"]
                .iter()
                .any(|word| name.contains(word));
    environment || path.split('/').any(|part| part == ".ssh") || holds_credentials(path)
}

/// The longest piece of a pattern for a name that stands between its stars, or what stands before the first star of a
/// pattern for a path: nothing that it names is without it.
fn mark<'a>(pattern: &&'a str) -> &'a str {
    let mut pieces = pattern.split('*');
    if pattern.contains('/') {
        pieces.next().unwrap_or("")
    } else {
        pieces.max_by_key(|piece| piece.len()).unwrap_or("")
    }
}

/// Finds where a path may be of [`CREDENTIALS`], by the place of the pattern in the list.
static MARKS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    let marks = CREDENTIALS.iter().map(mark).chain([".env", ".ssh"]);
    AhoCorasick::new(marks).ok()
});

/// Whether a path is one of [`CREDENTIALS`], or below one. Only the patterns whose marks are found are looked at, each once
/// for a part, so that what this takes does not grow faster than the path.
fn holds_credentials(path: &str) -> bool {
    let Some(marks) = MARKS.as_ref() else {
        // What cannot be looked for would let everything through.
        return true;
    };
    // The part that was looked at last, and the patterns that it was compared with, or the whole path was.
    let mut part = "";
    let (mut from, mut to) = (1, 0);
    let (mut compared, mut searched) = (0_u128, 0_u128);
    marks.find_overlapping_iter(path).any(|found| {
        let at = found.pattern().as_usize();
        let Some(pattern) = CREDENTIALS.get(at) else {
            return false;
        };
        let bit = u32::try_from(at)
            .ok()
            .and_then(|at| 1_u128.checked_shl(at))
            .unwrap_or(0);
        if !pattern.contains('/') {
            if !(from..=to).contains(&found.start()) {
                let (head, tail) = path.split_at_checked(found.start()).unwrap_or((path, ""));
                from = head.rfind('/').map_or(0, |slash| slash.saturating_add(1));
                to = tail
                    .find('/')
                    .map_or(path.len(), |slash| slash.saturating_add(found.start()));
                part = path.get(from..to).unwrap_or("");
                compared = 0;
            }
            if compared & bit != 0 {
                return false;
            }
            compared |= bit;
            return matches(pattern, part);
        }
        let begins =
            found.start() == 0 || path.as_bytes().get(found.start().saturating_sub(1)) == Some(&b'/');
        if !begins {
            return false;
        }
        let rest = path.get(found.end()..).unwrap_or("");
        match pattern.split_once('*') {
            None => rest.is_empty() || rest.starts_with('/'),
            // Whatever it ends in, it is named.
            Some((_, "")) => true,
            Some((_, end)) => {
                // Behind the first such place there is the most; it is the same for those that follow.
                if searched & bit != 0 {
                    return false;
                }
                searched |= bit;
                let rest = rest.as_bytes();
                rest.ends_with(end.as_bytes())
                    || rest.len() > end.len()
                        && memchr::memmem::find_iter(rest, end.as_bytes())
                            .any(|at| rest.get(at.saturating_add(end.len())) == Some(&b'/'))
            }
        }
    })
}

/// Folders of the system.
const SYSTEM: &[&str] = &[
    "/etc",
    "/proc",
    "/sys",
    "/dev",
    "/boot",
    "/root",
    "/var/run",
    "/run",
    "/var/spool/cron",
    "/var/log/auth.log",
    "/var/lib/docker",
    "/usr/lib/systemd",
    "/lib/systemd",
    "c:/windows",
    "c:/program files",
    "/system/library",
    "/library/launchdaemons",
    "/library/launchagents",
    "/private/etc",
];
/// Files in them that everybody reads.
const EVERYBODY: &[&str] = &[
    "/dev/null",
    "/dev/stdin",
    "/dev/stdout",
    "/dev/stderr",
    "/dev/tty",
    "/dev/urandom",
    "/dev/random",
    "/dev/zero",
    "/dev/fd/*",
    "/dev/shm/*",
    "/etc/hosts",
    "/etc/os-release",
    "/etc/resolv.conf",
    "/etc/hostname",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/mime.types",
    "/etc/ssl/certs*",
    "/etc/debian_version",
    "/etc/lsb-release",
    "/etc/services",
    "/etc/protocols",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/loadavg",
    "/proc/version",
    "/proc/uptime",
    "/proc/stat",
];

fn is_system(path: &str) -> bool {
    SYSTEM.iter().any(|folder| {
        path == *folder
            || path
                .strip_prefix(folder)
                .is_some_and(|rest| rest.starts_with('/'))
    }) && !EVERYBODY.iter().any(|file| matches(file, path))
}

impl Rule for BlockedPaths {
    fn id(&self) -> &str {
        &self.id
    }

    fn evaluate(&self, call: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        let Call::Tool(call) = call else { return Ok(None) };
        let mut named = Kept::default();
        let reason = args::walk(
            call.args.value(),
            &mut |leaf: Leaf<'_>| match self.look(&leaf, &mut named) {
                Some(reason) => ControlFlow::Break(reason),
                None => ControlFlow::Continue(()),
            },
        )?;
        Ok(reason.map(|reason| Decision::new(Action::Block, self.id.clone(), format!("path: {reason}"))))
    }
}

/// How a policy makes one.
pub(crate) const KIND: RuleKind = RuleKind {
    name: "blocked_paths",
    about: "Blocks paths that a tool must not be pointed at.",
    options: &[
        OptionKind {
            name: "roots",
            shape: Shape::List,
            about: "The only folders.",
        },
        OptionKind {
            name: "deny",
            shape: Shape::List,
            about: "Paths, or names of files and folders, that are blocked; `*` stands for any characters.",
        },
        OptionKind {
            name: "allow",
            shape: Shape::List,
            about: "Paths and names that are no credentials and none of the system's, whatever they look like.",
        },
        OptionKind {
            name: "block_sensitive",
            shape: Shape::Flag,
            about: "Whether files with credentials and of the system are blocked; they are unless set otherwise.",
        },
    ],
    make: |options| {
        let roots = options.list("roots");
        if roots
            .iter()
            .any(|root| !root.starts_with(['/', '~']) && !has_drive(root))
        {
            return Err(OptionError::invalid(
                "roots",
                "is a folder by its whole path: from `/`, `~` or a drive",
            ));
        }
        let rule = BlockedPaths::new()
            .roots(roots)
            .deny(options.list("deny"))
            .allow(options.list("allow"))
            .block_sensitive(options.flag("block_sensitive")?.unwrap_or(true));
        Ok(Arc::new(rule))
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use leash_core::{Caller, SessionId, Timestamp, ToolCall};
    use serde_json::json;

    #[test]
    fn a_path_is_judged_by_where_it_leads() {
        let rule = BlockedPaths::new()
            .roots(["/srv/work"])
            .deny(["secret.*", "/srv/work/private"]);
        for (path, allowed) in [
            ("a/b.txt", true),
            ("/srv/work/a", true),
            ("/srv/work", true),
            ("/srv/workshop/a", false),
            ("/srv/work/../other", false),
            ("../x", false),
            ("a/../../x", false),
            ("%2e%2e/x", false),
            ("%252e%252e%252fx", false),
            ("..\\..\\x", false),
            ("a\0.png", false),
            ("file:///etc/passwd", false),
            ("file://localhost/srv/work/a", true),
            ("~/a", false),
            ("a/secret.txt", false),
            ("/srv/work/private/x", false),
            ("C:\\Windows\\x", false),
        ] {
            assert_eq!(rule.judge(path).is_none(), allowed, "{path}");
        }
        let rule = BlockedPaths::new();
        for (path, allowed) in [
            ("~/.ssh/id_rsa", false),
            ("/home/me/.aws/credentials", false),
            (".env", false),
            (".env.example", true),
            ("certs/server.key", false),
            ("/etc/shadow", false),
            ("/etc/hosts", true),
            ("/dev/null", true),
            ("/proc/self/environ", false),
            ("src/environment.rs", true),
            ("docs/keys.md", true),
            ("/home/me/project/README.md", true),
        ] {
            assert_eq!(rule.judge(path).is_none(), allowed, "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_path_that_is_left_as_it_is_needs_no_change(path in "([a-c./: ~;$%\\\\?…é-]|//|file:|\\.\\.){0,12}") {
            let path = path.trim();
            if is_normal(path) {
                let slow = taken_apart(path);
                proptest::prop_assert_eq!(slow.text.as_ref(), path);
                proptest::prop_assert!(!slow.climbs && !slow.hidden && !slow.elsewhere && !slow.device);
            }
            if !may_climb(path) {
                proptest::prop_assert!(!taken_apart(path).climbs);
            }
        }

        #[test]
        fn one_expression_finds_what_the_patterns_do(
            parts in proptest::collection::vec(proptest::sample::select(&[
                "", "a", "etc", "shadow", ".aws", "credentials", "x.pem", ".pem", ".ssh", "id_rsa_x", "proc", "1", "environ",
                ".config", "gcloud", "private", "ssl", ".cargo", "credentials.toml", "login data", "keychains", "key", "xkubeconfig",
            ][..]), 0..6),
        ) {
            let path = parts.join("/");
            let one_by_one = CREDENTIALS.iter().any(|pattern| {
                if pattern.contains('/') {
                    let deep = format!("*/{pattern}");
                    let path = format!("/{path}");
                    matches(&deep, &path) || matches(&format!("{deep}/*"), &path)
                } else {
                    path.split('/').any(|part| matches(pattern, part))
                }
            });
            proptest::prop_assert_eq!(holds_credentials(&path), one_by_one);
            let marked = MARKS.as_ref().unwrap().is_match(&path);
            proptest::prop_assert!(marked || !one_by_one);
        }
    }

    #[test]
    fn a_path_is_found_under_any_name() {
        let blocks = |args: serde_json::Value| {
            let caller = Caller::session(SessionId::new("s").unwrap());
            let call = Call::Tool(ToolCall::new("read", args, caller));
            BlockedPaths::new()
                .evaluate(&call, &PolicyContext::new(Timestamp::EPOCH))
                .unwrap()
                .is_some()
        };
        assert!(blocks(json!({"x": ["/etc/shadow"]})));
        assert!(blocks(json!({"path": ".env"})));
        assert!(blocks(json!({"thing": "../../../../etc/passwd"})));
        assert!(!blocks(json!({"text": "see /etc/shadow for the hashes"})));
        assert!(!blocks(json!({"url": "https://example.com/../a"})));
    }
}
