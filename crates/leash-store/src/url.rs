//! [`StoreUrl`]: the address of a store, which may hold a password and never prints it.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// Which kind of store an address names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreKind {
    /// A database file.
    Sqlite,
    /// A Redis or Valkey server.
    Redis,
    /// A cluster of Redis or Valkey servers.
    RedisCluster,
    /// A service that is spoken to over HTTP.
    Http,
}

/// Why a text is no address of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreUrlError {
    /// It starts like none that we know.
    #[error(
        "the address of a store starts with `sqlite:`, `redis://`, `rediss://`, `redis-cluster://`, `http://` or `https://`"
    )]
    UnknownScheme,
    /// `sqlite:` with nothing after it.
    #[error("`sqlite:` wants the path of a file after it")]
    NoPath,
    /// `sqlite://…`, which some read as a relative path and some as an absolute one; `sqlite:file:…`, which some read as an
    /// address with options.
    #[error("write `sqlite:relative/path` or `sqlite:/absolute/path`, without `//` or `file:`")]
    AmbiguousPath,
    /// `sqlite::memory:`: nobody else could reach it.
    #[error("a database in memory is not shared with anybody; name a file")]
    InMemory,
    /// A scheme without a host.
    #[error("the address names no host")]
    NoHost,
    /// Spaces or control characters.
    #[error("an address has no spaces and no control characters")]
    Whitespace,
}

/// The address of a store: `sqlite:PATH`, `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`, `rediss://…` (TLS),
/// `redis-cluster://[USER:PASSWORD@]HOST:PORT[,HOST:PORT…]`, `rediss-cluster://…`, `http[s]://…`.
///
/// Printed, in whichever way, it shows no user, no password and no query: those are where secrets stand.
///
/// ```
/// # use leash_store::StoreUrl;
/// let url: StoreUrl = "https://kill.example.com/v1?token=hunter2".parse()?;
/// assert_eq!(url.to_string(), "https://kill.example.com/v1?***");
/// assert_eq!(format!("{url:?}"), r#"StoreUrl("https://kill.example.com/v1?***")"#);
/// # Ok::<(), leash_store::StoreUrlError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl {
    kind: StoreKind,
    text: String,
}

const SQLITE: &str = "sqlite:";

impl StoreUrl {
    /// Reads an address.
    ///
    /// # Errors
    /// [`StoreUrlError`], which quotes nothing of the text.
    pub fn new(text: &str) -> Result<Self, StoreUrlError> {
        if let Some(path) = text.strip_prefix(SQLITE) {
            return match path {
                "" => Err(StoreUrlError::NoPath),
                ":memory:" => Err(StoreUrlError::InMemory),
                path if path.starts_with("//") || path.starts_with("file:") => {
                    Err(StoreUrlError::AmbiguousPath)
                }
                path if path.contains('\0') => Err(StoreUrlError::Whitespace),
                _ => Ok(Self::of(StoreKind::Sqlite, text)),
            };
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(StoreUrlError::UnknownScheme);
        };
        let kind = match scheme {
            "redis" | "rediss" => StoreKind::Redis,
            "redis-cluster" | "rediss-cluster" => StoreKind::RedisCluster,
            "http" | "https" => StoreKind::Http,
            _ => return Err(StoreUrlError::UnknownScheme),
        };
        if rest.chars().any(|char| char.is_whitespace() || char.is_control()) {
            return Err(StoreUrlError::Whitespace);
        }
        if rest.is_empty() || rest.starts_with(['/', '?', '#']) || rest.ends_with('@') {
            return Err(StoreUrlError::NoHost);
        }
        Ok(Self::of(kind, text))
    }

    fn of(kind: StoreKind, text: &str) -> Self {
        Self {
            kind,
            text: text.to_owned(),
        }
    }

    /// The kind of store.
    #[must_use]
    pub const fn kind(&self) -> StoreKind {
        self.kind
    }

    /// The file, where it is one.
    #[must_use]
    pub fn sqlite_path(&self) -> Option<&Path> {
        self.text.strip_prefix(SQLITE).map(Path::new)
    }

    /// Whether what is sent there is encrypted on its way: `rediss`, `rediss-cluster` and `https`.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        ["rediss:", "rediss-cluster:", "https:"]
            .iter()
            .any(|scheme| self.text.starts_with(scheme))
    }

    /// The whole address, with its secrets: for whoever opens the store, and for nobody's eyes.
    #[must_use]
    pub fn with_secrets(&self) -> &str {
        &self.text
    }
}

/// What of an address after its scheme may be shown, and what stands for the rest before and after it.
///
/// The last `@` counts, wherever it stands: a password with a slash in it is wrong, and still nothing to print. Where a
/// query might hold the `@`, nobody knows which part is the host, and nothing is shown.
fn shown(rest: &str) -> (&str, &str, &str) {
    let (address, user) = match rest.rsplit_once('@') {
        Some((before, _)) if before.contains(['?', '#']) => return ("", "***", ""),
        Some((_, address)) => (address, "***@"),
        None => (rest, ""),
    };
    match address.split_once(['?', '#']) {
        Some((address, _)) => (address, user, "?***"),
        None => (address, user, ""),
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.text.split_once("://") else {
            return f.write_str(&self.text);
        };
        let (address, user, query) = shown(rest);
        write!(f, "{scheme}://{user}{address}{query}")
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({:?})", self.to_string())
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_of_an_address_prints_its_secret() {
        for text in [
            "redis://:hunter2@h:1/0",
            "redis://user:hunter2@h",
            "rediss://:pa/hunter2@h/0",
            "rediss://:pa?hunter2@h/0",
            "redis://:pa@hunter2@h",
            "redis://h/0?password=hunter2",
            "http://hunter2@h:8080/base",
            "https://h/#hunter2",
            "https://h/?a=b@c&token=hunter2",
            "http://h/?token=hunter2&a=b@c",
        ] {
            let url = StoreUrl::new(text).unwrap();
            for printed in [url.to_string(), format!("{url:?}")] {
                assert!(!printed.contains("hunter2"), "{printed}");
            }
            assert_eq!(url.with_secrets(), text);
        }
    }

    #[test]
    fn an_address_is_of_one_kind_or_refused() {
        let kind = |text| StoreUrl::new(text).map(|url| url.kind());
        assert_eq!(kind("sqlite:kill.db"), Ok(StoreKind::Sqlite));
        assert_eq!(kind("sqlite:/var/my kill.db"), Ok(StoreKind::Sqlite));
        assert_eq!(kind("redis://localhost"), Ok(StoreKind::Redis));
        assert_eq!(
            kind("redis-cluster://h1:7000,h2:7000"),
            Ok(StoreKind::RedisCluster)
        );
        assert_eq!(kind("https://localhost/x"), Ok(StoreKind::Http));
        assert_eq!(kind("sqlite:"), Err(StoreUrlError::NoPath));
        assert_eq!(kind("sqlite:///x"), Err(StoreUrlError::AmbiguousPath));
        assert_eq!(
            kind("sqlite:file:x.db?mode=memory"),
            Err(StoreUrlError::AmbiguousPath)
        );
        assert_eq!(kind("sqlite::memory:"), Err(StoreUrlError::InMemory));
        assert_eq!(kind("redis://"), Err(StoreUrlError::NoHost));
        assert_eq!(kind("redis://:secret@"), Err(StoreUrlError::NoHost));
        assert_eq!(kind("http://a b"), Err(StoreUrlError::Whitespace));
        assert_eq!(kind("postgres://h"), Err(StoreUrlError::UnknownScheme));
        assert_eq!(kind("kill.db"), Err(StoreUrlError::UnknownScheme));
        assert_eq!(
            StoreUrl::new("sqlite:a/b.db").unwrap().sqlite_path(),
            Some(Path::new("a/b.db"))
        );
    }
}
