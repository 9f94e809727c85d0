//! What a path means: the root, the system, a disk, somebody's keys. Touches no file system.
#![expect(
    clippy::case_sensitive_file_extension_comparisons,
    clippy::manual_contains,
    clippy::match_same_arms,
    clippy::too_many_lines,
    reason = "names of files are compared as they are written, in one table"
)]

use std::sync::OnceLock;

use aho_corasick::AhoCorasick;

use super::marks;

/// What a path leads to, as far as its text tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `/`, and what a glob makes of it.
    Root,
    /// A folder of the system itself, or all of somebody's home.
    System,
    /// A file or folder deep in the system, below the given number of levels.
    InSystem,
    /// A whole disk or a partition.
    Disk,
    /// Another device, such as `/dev/null`.
    Device,
    /// The home folder of the user.
    Home,
    /// In the home folder.
    InHome,
    /// Where temporary files and caches are.
    Temporary,
    /// The working directory as a whole, or what is above it.
    Here,
    /// Below the working directory, or another path that means nothing special.
    Ordinary,
    /// It begins with what is not known.
    Unknown,
}

/// A path in its parts: dots and doubled slashes are gone.
#[derive(Debug)]
pub(super) struct Path<'a> {
    pub(super) absolute: bool,
    pub(super) home: bool,
    pub(super) parts: Vec<&'a str>,
}

/// Folders of the root that hardly any project has, too.
const TOP: [&str; 10] = [
    "etc", "usr", "var", "boot", "proc", "sys", "dev", "root", "sbin", "lib64",
];

impl<'a> Path<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let mut absolute = text.starts_with('/');
        let mut parts: Vec<&str> = Vec::new();
        let mut up = 0_usize;
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    // Above a home is the folder of homes, and above that the root.
                    if parts.len() == 1 && !absolute && up == 0 && text.starts_with('~') {
                        absolute = true;
                        parts.clear();
                        parts.push("home");
                    } else if parts.pop().is_none() && !absolute {
                        up = up.saturating_add(1);
                    }
                }
                part => parts.push(part),
            }
        }
        // Whoever climbs that far means the root.
        if up >= 3 && parts.first().is_some_and(|first| TOP.contains(first)) {
            absolute = true;
        }
        // Another name of the root, and of the working directory.
        while absolute && parts.first() == Some(&"proc") && matches!(parts.get(2), Some(&("root" | "cwd"))) {
            absolute = parts.get(2) == Some(&"root");
            parts.drain(..3);
        }
        let mut home = false;
        if !absolute && up == 0 && text.starts_with('~') {
            home = true;
            parts = parts.split_off(1.min(parts.len()));
        }
        let mut path = Self {
            absolute,
            home,
            parts,
        };
        // `/home/somebody`, `/Users/somebody` and `/root` are homes as well.
        if path.absolute {
            let levels: usize = match path.parts.as_slice() {
                [first, ..] if same(first, "root") && *first != "*" => 1,
                [first, _, ..] if *first != "*" && (same(first, "home") || same(first, "Users")) => 2,
                _ => 0,
            };
            let glob = path
                .parts
                .get(levels.saturating_sub(1))
                .is_some_and(|part| part.contains('*'));
            if levels > 0 && !(glob && levels == 2 && path.parts.len() == 2) {
                path.absolute = false;
                path.home = true;
                path.parts.drain(..levels);
            }
        }
        path
    }

    fn part(&self, at: usize) -> &'a str {
        self.parts.get(at).copied().unwrap_or("")
    }

    fn last(&self) -> &'a str {
        self.parts.last().copied().unwrap_or("")
    }
}

/// Whether `pattern`, which may be a glob, can be `name`.
pub(super) fn same(pattern: &str, name: &str) -> bool {
    if pattern == name {
        return true;
    }
    if !pattern.contains(['*', '?', '[']) {
        return false;
    }
    // A hidden name is not met by a glob that does not say the dot.
    if name.starts_with('.') && !pattern.starts_with(['.', '[']) {
        return false;
    }
    glob(pattern, name)
}

/// Whether `text` matches the glob `pattern`: `*`, `?`, `[…]`. Linear in the text for each star.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().take(256).collect();
    let text: Vec<char> = text.chars().take(1024).collect();
    let (mut p, mut t) = (0_usize, 0_usize);
    let mut back: Option<(usize, usize)> = None;
    loop {
        let here = text.get(t).copied();
        match (pattern.get(p).copied(), here) {
            (None, None) => return true,
            (Some('*'), _) => {
                back = Some((p, t));
                p = p.saturating_add(1);
                continue;
            }
            (Some('?'), Some(_)) => {
                p = p.saturating_add(1);
                t = t.saturating_add(1);
                continue;
            }
            (Some('['), Some(character)) => {
                if let Some((matches, after)) = class(&pattern, p, character) {
                    if matches {
                        p = after;
                        t = t.saturating_add(1);
                        continue;
                    }
                } else if character == '[' {
                    p = p.saturating_add(1);
                    t = t.saturating_add(1);
                    continue;
                }
            }
            (Some('\\'), Some(character)) if pattern.get(p.saturating_add(1)) == Some(&character) => {
                p = p.saturating_add(2);
                t = t.saturating_add(1);
                continue;
            }
            (Some(expected), Some(character)) if expected == character => {
                p = p.saturating_add(1);
                t = t.saturating_add(1);
                continue;
            }
            _ => {}
        }
        // A star takes one more character.
        let Some((star, taken)) = back else { return false };
        if taken >= text.len() {
            return false;
        }
        back = Some((star, taken.saturating_add(1)));
        p = star.saturating_add(1);
        t = taken.saturating_add(1);
    }
}

/// Whether the class that opens at `open` holds `character`, and where it ends.
fn class(pattern: &[char], open: usize, character: char) -> Option<(bool, usize)> {
    let mut at = open.saturating_add(1);
    let negated = matches!(pattern.get(at), Some('!' | '^'));
    if negated {
        at = at.saturating_add(1);
    }
    let start = at;
    let mut found = false;
    loop {
        let first = *pattern.get(at)?;
        if first == ']' && at > start {
            return Some((found != negated, at.saturating_add(1)));
        }
        if pattern.get(at.saturating_add(1)) == Some(&'-')
            && pattern.get(at.saturating_add(2)).is_some_and(|&end| end != ']')
        {
            let last = *pattern.get(at.saturating_add(2))?;
            found |= first <= character && character <= last;
            at = at.saturating_add(3);
        } else {
            found |= first == character;
            at = at.saturating_add(1);
        }
    }
}

const SYSTEM: [&str; 27] = [
    "sdcard",
    "bin",
    "boot",
    "dev",
    "etc",
    "home",
    "lib",
    "lib32",
    "lib64",
    "media",
    "mnt",
    "opt",
    "proc",
    "root",
    "run",
    "sbin",
    "srv",
    "sys",
    "usr",
    "var",
    "Users",
    "System",
    "Library",
    "Applications",
    "private",
    "Volumes",
    "snap",
];

/// Names of whole disks and partitions in `/dev`.
fn is_disk(name: &str) -> bool {
    const PREFIXES: [&str; 12] = [
        "sd", "hd", "vd", "xvd", "nvme", "mmcblk", "disk", "rdisk", "md", "dm-", "loop", "nbd",
    ];
    if let Some(wild) = name.find(['*', '?', '[']) {
        let known = name.get(..wild).unwrap_or("");
        return PREFIXES
            .iter()
            .any(|prefix| prefix.starts_with(known) || known.starts_with(prefix));
    }
    PREFIXES.iter().any(|prefix| {
        name.strip_prefix(prefix).is_some_and(|rest| {
            !rest.is_empty() && (*prefix != "md" || rest.starts_with(|c: char| c.is_ascii_digit()))
        })
    }) || matches!(name, "mapper" | "disk" | "mem" | "kmem" | "port")
}

/// What `text` leads to, from the working directory `cwd` where it is relative.
pub(super) fn place(text: &str, cwd: &str) -> Place {
    if text.is_empty() {
        return Place::Ordinary;
    }
    if text.starts_with(marks::is) {
        // Below a folder of one's own, unless it climbs out of it.
        return if text.starts_with(marks::HARMLESS) && text.matches("/..").count() < 3 {
            Place::Ordinary
        } else {
            Place::Unknown
        };
    }
    let joined;
    let text = if cwd.is_empty() || text.starts_with(['/', '~']) {
        text
    } else {
        joined = format!("{cwd}/{text}");
        &joined
    };
    if text.starts_with(marks::is) && !text.starts_with(marks::HARMLESS) {
        // Below a folder that is not known: what is named is known to be below it.
        return Place::Ordinary;
    }
    if let Some(place) = on_a_drive(text) {
        return place;
    }
    let path = Path::new(text);
    if path.home {
        return match path.part(0) {
            "" => Place::Home,
            // Everything in it.
            part if is_all(part) => Place::Home,
            ".cache" | ".npm" | ".cargo" | ".m2" | ".gradle" | ".yarn" | "tmp"
                if path.parts.len() > 1 || path.part(0) == ".cache" =>
            {
                Place::Temporary
            }
            _ => Place::InHome,
        };
    }
    if !path.absolute {
        if path.parts.is_empty() {
            return Place::Here;
        }
        if path.parts.len() == 1 && is_all(path.part(0)) {
            return Place::Here;
        }
        return Place::Ordinary;
    }
    let first = path.part(0);
    // `/dev/disk/by-id/…` and its like are disks, and a glob may be one.
    if same(first, "dev") && path.parts.len() > 1 {
        return if is_disk(path.part(1)) {
            Place::Disk
        } else {
            Place::Device
        };
    }
    if first.is_empty() || is_all(first) || first.starts_with(marks::is) {
        return Place::Root;
    }
    if first == "tmp"
        || (first == "var" && matches!(path.part(1), "tmp" | "cache"))
        || (first == "dev" && path.part(1) == "shm")
    {
        return Place::Temporary;
    }
    if first == "private" && path.part(1) == "tmp" {
        return Place::Temporary;
    }
    if !SYSTEM.iter().any(|name| same(first, name)) {
        return if path.parts.len() == 1 && first.contains(['*', '?', '[']) {
            Place::Root
        } else {
            Place::Ordinary
        };
    }
    let glob_second = is_all(path.part(1)) || path.part(1).starts_with(marks::is);
    // How many levels belong to the system as a whole.
    let levels = match first {
        "usr" if path.part(1) == "local" => {
            if matches!(
                path.part(2),
                "" | "bin" | "lib" | "sbin" | "etc" | "share" | "include"
            ) {
                3
            } else {
                2
            }
        }
        "var" if path.part(1) == "lib" && path.part(2) == "apt" && path.part(3) == "lists" => {
            return Place::Temporary;
        }
        "var" if path.part(1) == "www" => 3,
        "opt" | "srv" | "run" | "mnt" | "media" | "Volumes" | "home" | "Users" | "sdcard" => 1,
        "private" | "Library" | "Applications" | "snap" => 2,
        _ => {
            return if path.parts.len() <= 2 {
                Place::System
            } else {
                Place::InSystem
            };
        }
    };
    if path.parts.len() <= levels
        || glob_second
        || (path.parts.len() == levels.saturating_add(1) && is_all(path.last()))
    {
        Place::System
    } else {
        Place::Ordinary
    }
}

/// Where a path leads that begins with the letter of a drive. Its backslashes may be gone: a shell takes them away.
fn on_a_drive(text: &str) -> Option<Place> {
    let (drive, rest) = text.split_once(':')?;
    if drive.len() != 1 || !drive.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return None;
    }
    let rest = rest.replace('\\', "/").to_ascii_lowercase();
    let rest = rest.trim_matches('/');
    // `C:\ -Recurse`: a shell joins what the backslash stands before.
    Some(
        if rest.is_empty() || is_all(rest) || rest.trim_start().starts_with('-') {
            Place::Root
        } else if rest.starts_with("windows")
            || rest.starts_with("program")
            || rest == "users"
            || rest
                .strip_prefix("users/")
                .is_some_and(|rest| !rest.contains('/'))
        {
            Place::System
        } else {
            Place::Ordinary
        },
    )
}

/// A name that stands for everything in a folder.
fn is_all(part: &str) -> bool {
    matches!(
        part,
        "*" | ".*" | ".??*" | ".[!.]*" | "*.*" | "**" | "?*" | ".[^.]*" | "{*,.*}"
    )
}

/// Whether `text` holds a part of any name of a credential, or a glob: a quick test before the exact one.
pub(super) fn may_be_credential(text: &str) -> bool {
    static PARTS: OnceLock<Option<AhoCorasick>> = OnceLock::new();
    let parts = PARTS.get_or_init(|| {
        AhoCorasick::new([
            "*",
            "?",
            "[",
            "shadow",
            "sudoers",
            "passwd",
            "keytab",
            "key",
            "password-store",
            "private",
            "conf",
            "environ",
            "mem",
            "kcore",
            "secret",
            "gnupg",
            "ssh",
            "aws",
            "kube",
            "docker",
            "hosts.yml",
            "zure",
            "gcloud",
            "cred",
            "Keychains",
            "Login Data",
            "logins.json",
            "wallet",
            "netrc",
            "pgpass",
            "my.cnf",
            "pypirc",
            "npmrc",
            "id_",
            "vault",
            "s3cfg",
            "identity",
        ])
        .ok()
    });
    parts.as_ref().is_none_or(|parts| parts.is_match(text))
}

/// Files that hold credentials. A public key is none.
pub(super) fn is_credential(text: &str, cwd: &str) -> bool {
    if (text.len() < 4 && cwd.is_empty()) || !(may_be_credential(text) || may_be_credential(cwd)) {
        return false;
    }
    let joined;
    let text = if cwd.is_empty() || text.starts_with(['/', '~']) {
        text
    } else {
        joined = format!("{cwd}/{text}");
        &joined
    };
    let path = Path::new(text);
    let last = path.last();
    if last.ends_with(".pub") {
        return false;
    }
    if path.absolute {
        match path.part(0) {
            first if same(first, "etc") => {
                return match path.part(1) {
                    second
                        if [
                            "shadow",
                            "gshadow",
                            "shadow-",
                            "gshadow-",
                            "sudoers",
                            "master.passwd",
                            "krb5.keytab",
                        ]
                        .iter()
                        .any(|name| same(second, name) && second != "*") =>
                    {
                        true
                    }
                    "sudoers.d" => true,
                    "ssh" => last.contains("host") && last.contains("key"),
                    "ssl" => path.part(2) == "private" && path.parts.len() > 3,
                    "kubernetes" => last.ends_with("admin.conf"),
                    _ => false,
                };
            }
            "dev" if path.parts.len() == 2 => return matches!(last, "mem" | "kmem"),
            "proc" => return matches!(last, "environ" | "mem" | "kcore") && path.parts.len() > 1,
            "run" if path.part(1) == "secrets" && path.parts.len() > 2 => return true,
            "var" if path.part(1) == "run" && path.part(2) == "secrets" && path.parts.len() > 3 => {
                return true;
            }
            "private" if path.part(1) == "etc" => return path.part(2).starts_with("master.passwd"),
            _ => {}
        }
    }
    // All of a folder of keys.
    if path.home && path.parts.len() == 1 && matches!(last, ".ssh" | ".gnupg" | ".aws" | ".kube") {
        return true;
    }
    // Wherever a home may be.
    let Some(parent) = path.parts.len().checked_sub(2).and_then(|at| path.parts.get(at)) else {
        return is_credential_name(last);
    };
    if path.parts.iter().any(|part| same(part, ".gnupg")) {
        return !last.ends_with(".conf");
    }
    let of = |folder: &str| same(parent, folder);
    if of(".ssh") {
        return !["known_hosts", "config", "authorized_keys"].contains(&last)
            && (last.contains("id_")
                || last.contains(['*', '?'])
                || last.contains("key")
                || last.ends_with(".pem")
                || last == "identity");
    }
    (of(".aws") && (same(last, "credentials") || last == "*"))
        || (of(".kube") && same(last, "config"))
        || (of(".docker") && same(last, "config.json"))
        || (*parent == "gh" && same(last, "hosts.yml"))
        || (of(".azure") && last.contains("oken"))
        || (path.parts.iter().any(|part| *part == "gcloud")
            && (last.contains("cred") || last.ends_with(".db")))
        || (of(".terraform.d") && last.starts_with("credentials"))
        || (of("keyrings") && last.ends_with(".keyring"))
        || (path.parts.contains(&".password-store") && last.ends_with(".gpg"))
        || (of(".cargo") && last.starts_with("credentials"))
        || (of(".config") && matches!(last, "rclone.conf"))
        || path.parts.contains(&"Keychains")
        || (last == "Login Data" || last == "logins.json" || last == "key4.db" || last == "wallet.dat")
        || is_credential_name(last)
}

fn is_credential_name(name: &str) -> bool {
    const NAMES: [&str; 14] = [
        ".netrc",
        ".pgpass",
        ".git-credentials",
        ".my.cnf",
        ".pypirc",
        ".npmrc",
        ".htpasswd",
        "id_rsa",
        "id_ed25519",
        "id_ecdsa",
        "id_dsa",
        ".vault-token",
        "_netrc",
        ".s3cfg",
    ];
    NAMES.iter().any(|known| {
        name == *known || (name.len() > 4 && name.contains(['*', '?', '[']) && same(name, known))
    })
}

/// An `.env` file with values in it: not an example or a template.
pub(super) fn is_dotenv(text: &str) -> bool {
    let last = text.rsplit('/').next().unwrap_or(text);
    last == ".env"
        || last.strip_prefix(".env.").is_some_and(|rest| {
            !["example", "sample", "template", "dist", "test", "defaults"]
                .iter()
                .any(|kind| rest.contains(kind))
        })
}

/// Files that decide who may log in, what runs by itself, or whether the machine starts. Written to, they persist.
pub(super) fn persists(text: &str, cwd: &str) -> bool {
    let joined;
    let text = if cwd.is_empty() || text.starts_with(['/', '~']) {
        text
    } else {
        joined = format!("{cwd}/{text}");
        &joined
    };
    let path = Path::new(text);
    let last = path.last();
    if path.absolute {
        let second = path.part(1);
        return match path.part(0) {
            first if same(first, "etc") => {
                const FILES: [&str; 20] = [
                    "crontab",
                    "anacrontab",
                    "rc.local",
                    "profile",
                    "bash.bashrc",
                    "bashrc",
                    "environment",
                    "ld.so.preload",
                    "sudoers",
                    "inittab",
                    "zshrc",
                    "zprofile",
                    "cron.d",
                    "cron.daily",
                    "cron.hourly",
                    "cron.weekly",
                    "cron.monthly",
                    "profile.d",
                    "init.d",
                    "sudoers.d",
                ];
                FILES.iter().any(|name| same(second, name))
                    || second.starts_with("rc") && second.ends_with(".d")
                    || (second == "systemd" && path.parts.len() > 3)
                    || (second == "pam.d" && path.parts.len() > 2)
                    || (second == "init" && path.parts.len() > 2)
                    || (second == "xdg" && path.part(2) == "autostart")
                    || (second == "update-motd.d")
            }
            "var" => second == "spool" && path.part(2).contains("cron"),
            "lib" | "usr" => path
                .parts
                .windows(2)
                .any(|pair| matches!(pair, ["systemd", "system" | "user"])),
            "Library" => second.starts_with("Launch"),
            _ => last == "authorized_keys",
        };
    }
    if path.parts.iter().rev().take(2).any(|part| *part == ".ssh")
        && matches!(last, "authorized_keys" | "authorized_keys2" | "rc" | "config")
    {
        return last != "config";
    }
    if path.home {
        const FILES: [&str; 18] = [
            ".bashrc",
            ".bash_profile",
            ".bash_login",
            ".bash_logout",
            ".bash_aliases",
            ".profile",
            ".zshrc",
            ".zshenv",
            ".zprofile",
            ".zlogin",
            ".zlogout",
            ".kshrc",
            ".cshrc",
            ".tcshrc",
            ".login",
            ".xinitrc",
            ".xprofile",
            ".xsession",
        ];
        return FILES.iter().any(|name| same(path.part(0), name))
            || (path.part(0) == ".config" && matches!(path.part(1), "autostart" | "systemd" | "fish"))
            || (path.part(0) == "Library" && path.part(1).starts_with("Launch"));
    }
    last == "authorized_keys"
}

/// Files without which nobody logs in or nothing starts.
pub(super) fn is_vital(text: &str, cwd: &str) -> bool {
    let joined;
    let text = if cwd.is_empty() || text.starts_with(['/', '~']) {
        text
    } else {
        joined = format!("{cwd}/{text}");
        &joined
    };
    let path = Path::new(text);
    if !path.absolute {
        return false;
    }
    match path.part(0) {
        first if same(first, "etc") && first != "*" => {
            const FILES: [&str; 16] = [
                "passwd",
                "shadow",
                "group",
                "gshadow",
                "sudoers",
                "fstab",
                "hosts",
                "resolv.conf",
                "ld.so.conf",
                "ld.so.preload",
                "nsswitch.conf",
                "inittab",
                "crontab",
                "profile",
                "login.defs",
                "securetty",
            ];
            (path.parts.len() == 2
                && (FILES.iter().any(|name| same(path.part(1), name)) || is_all(path.part(1))))
                || (path.part(1) == "ssh" && path.part(2) == "sshd_config")
                || matches!(path.part(1), "pam.d" | "sudoers.d")
        }
        "boot" | "proc" | "sys" => path.parts.len() > 1,
        "bin" | "sbin" | "lib" | "lib64" => path.parts.len() > 1,
        "usr" => matches!(path.part(1), "bin" | "sbin" | "lib" | "lib64") && path.parts.len() > 2,
        _ => false,
    }
}
