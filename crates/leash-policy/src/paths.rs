//! Which files a tool may be pointed at: [`BlockedPaths`].
//!
//! A path is judged as a string, after what a program makes of it: percent signs, back slashes, `.` and `..`, `file://`, `~`. What
//! the rule does not promise: it does not look at the disk, so that a link inside a root may lead out of it.

use std::ops::ControlFlow;
use std::sync::Arc;

use leash_core::{Action, Call, Decision, PolicyContext, Rule, RuleError};

use crate::args::{self, Leaf, Role, telling, words};
use crate::net::percent;
use crate::registry::{OptionKind, RuleKind, Shape};
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
        self.roots = roots.into_iter().map(|root| normal(&root.into()).text).collect();
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
            return Some("it holds a character that ends a path early");
        }
        if path.climbs {
            return Some("it climbs out of where it starts");
        }
        let lower = path.text.to_lowercase();
        if self.deny.iter().any(|pattern| is_path(pattern, &lower)) {
            return Some("it is denied");
        }
        if self.sensitive && !self.allow.iter().any(|pattern| is_path(pattern, &lower)) {
            if has_credentials(&lower) {
                return Some("it is a file with credentials");
            }
            if is_system(&lower) {
                return Some("it is a file of the system");
            }
        }
        let absolute = path.text.starts_with(['/', '~']) || lower.as_bytes().get(1) == Some(&b':');
        let inside = |root: &String| {
            path.text == *root
                || path
                    .text
                    .strip_prefix(root.as_str())
                    .is_some_and(|rest| root == "/" || rest.starts_with('/'))
        };
        if absolute && !self.roots.is_empty() && !self.roots.iter().any(inside) {
            return Some("it lies outside of the allowed folders");
        }
        None
    }

    fn look(&self, leaf: &Leaf<'_>) -> Option<&'static str> {
        let text = leaf.text.trim();
        if leaf.role != Role::Value || text.is_empty() {
            return None;
        }
        let words = telling(leaf.names).map(words).unwrap_or_default();
        let named = words.iter().any(|word| {
            matches!(
                word.as_str(),
                "path"
                    | "paths"
                    | "file"
                    | "files"
                    | "filename"
                    | "filepath"
                    | "dir"
                    | "directory"
                    | "folder"
                    | "cwd"
                    | "dest"
                    | "destination"
                    | "workdir"
            )
        });
        if text.len() > MAX_PATH_BYTES {
            let path = named || !text.contains(char::is_whitespace) && text.starts_with(['/', '.', '~']);
            return path.then_some("it is too long to be judged");
        }
        let decoded = percent(text).replace('\\', "/");
        let one_word = !text.contains(char::is_whitespace);
        let looks = one_word
            && !text.contains("://")
            && (decoded.starts_with('/')
                || decoded.starts_with("~/")
                || decoded.starts_with("./")
                || decoded.starts_with("../")
                || decoded.contains("/../")
                || decoded.starts_with("$HOME/")
                || decoded.ends_with("/..")
                || decoded == ".."
                || decoded.get(1..3) == Some(":/")
                || has_credentials(&normal(text).text.to_lowercase()))
            || text.to_ascii_lowercase().starts_with("file:");
        let named = named && !text.contains('\n') && !text.contains("://");
        if named || looks { self.judge(text) } else { None }
    }
}

/// A path as a program reads it.
struct Normal {
    text: String,
    /// Whether it goes above where it starts.
    climbs: bool,
    /// Whether it holds a NUL.
    hidden: bool,
}

fn normal(path: &str) -> Normal {
    let decoded = percent(path.trim());
    let hidden = decoded.contains('\0');
    let mut text = decoded.replace(['\\', '∕', '／'], "/").replace("．", ".");
    if let Some(rest) = text
        .get(..5)
        .filter(|scheme| scheme.eq_ignore_ascii_case("file:"))
        .and_then(|_| text.get(5..))
    {
        let rest = rest.trim_start_matches('/');
        let rest = rest.strip_prefix("localhost/").unwrap_or(rest);
        text = format!("/{rest}");
    }
    for home in ["$HOME", "${HOME}", "%USERPROFILE%"] {
        if let Some(rest) = text.strip_prefix(home) {
            text = format!("~{rest}");
            break;
        }
    }
    let absolute = text.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    let mut climbs = false;
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                let popped = parts.pop();
                // Above the root is the root; above the start of a relative path, or of a home, is elsewhere.
                climbs |= !absolute && popped.is_none_or(|part| part.starts_with('~'));
            }
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    Normal {
        text: if absolute { format!("/{joined}") } else { joined },
        climbs,
        hidden,
    }
}

fn is_path(pattern: &str, path: &str) -> bool {
    if pattern.contains('/') {
        let pattern = pattern.strip_suffix('/').unwrap_or(pattern);
        return matches(pattern, path)
            || path
                .strip_prefix(pattern)
                .is_some_and(|rest| rest.starts_with('/'))
            || matches(&format!("*/{}", pattern.trim_start_matches('/')), path) && !pattern.starts_with('/');
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
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "id_ecdsa_sk",
    "id_ed25519_sk",
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
    "keychains",
    ".bash_history",
    ".zsh_history",
    ".mysql_history",
    ".psql_history",
    ".credentials.json",
    "service-account*.json",
    "credentials.json",
    "application_default_credentials.json",
];

fn has_credentials(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let harmless = [".pub", ".example", ".sample", ".template", ".dist", "known_hosts"];
    if harmless.iter().any(|end| name.ends_with(end)) {
        return false;
    }
    let mut parts = path.split('/');
    name == ".env"
        || name.starts_with(".env.")
        || parts.any(|part| part == ".ssh")
        || CREDENTIALS.iter().any(|pattern| {
            if pattern.contains('/') {
                let deep = format!("*/{pattern}");
                matches(pattern, path.trim_start_matches('/'))
                    || matches(&deep, path)
                    || matches(&format!("{deep}/*"), path)
                    || matches(&format!("{pattern}/*"), path.trim_start_matches('/'))
            } else {
                path.split('/').any(|part| matches(pattern, part))
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
    "/system",
    "/library/launchdaemons",
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
        let reason = args::walk(call.args.value(), &mut |leaf: Leaf<'_>| match self.look(&leaf) {
            Some(reason) => ControlFlow::Break(reason),
            None => ControlFlow::Continue(()),
        })?;
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
        let rule = BlockedPaths::new()
            .roots(options.list("roots"))
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
