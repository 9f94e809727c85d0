//! Which hosts a tool may be pointed at: [`BlockedUrls`].
//!
//! Addresses are read as clients read them: decimal, octal, hexadecimal and short forms of IPv4, IPv6 with an IPv4
//! address inside, percent signs, full-width characters, user names that look like hosts. What the rule does not promise: it asks no
//! name server, so that a public name which resolves to a private address passes; a proxy has to hold that.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;
use std::sync::Arc;

use leash_core::{Action, Call, Decision, PolicyContext, Rule, RuleError};

use crate::args::{self, Kept, Leaf, Role, words};
use crate::registry::{OptionError, OptionKind, RuleKind, Shape};
use crate::tools::matches;

/// Blocks URLs, and hosts in arguments that are named so, which a tool must not be pointed at.
///
/// Default id: `blocked_urls`. By itself it blocks private, local and reserved addresses, the metadata services of clouds,
/// and schemes that read files or smuggle bytes. Every string of a tool's arguments is searched for URLs.
///
/// ```
/// use leash_policy::BlockedUrls;
///
/// let rule = BlockedUrls::new().deny_hosts(["*.evil.example"]);
/// assert_eq!(rule.judge("https://example.com/"), None);
/// assert!(rule.judge("http://0x7f.1/").is_some());
/// assert!(rule.judge("http://good.example@a.evil.example/").is_some());
/// ```
#[derive(Clone, Debug)]
pub struct BlockedUrls {
    id: String,
    allow_hosts: Vec<Pattern>,
    deny_hosts: Vec<Pattern>,
    schemes: Vec<String>,
    private: bool,
}

/// A host of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    /// As [`canonical`] spells it, with `*` for any characters.
    host: String,
    /// Only this port.
    port: Option<u32>,
}

impl Pattern {
    fn new(text: &str) -> Self {
        let text = text.trim();
        let (host, port) = split_port(text);
        let port = port
            .filter(|port| *port != "*")
            .and_then(|port| port.parse().ok());
        let host = ascii(host);
        let host = if host.contains('*') {
            host
        } else {
            canonical(&host)
        };
        Self { host, port }
    }

    /// Whether it names `host`; with `below`, also what lies below it.
    fn names(&self, host: &str, below: bool) -> bool {
        let pattern = self.host.as_str();
        if pattern.contains('*') {
            return matches(pattern, host)
                || below && pattern.strip_prefix("*.").is_some_and(|bare| bare == host);
        }
        host == pattern
            || below
                && host
                    .strip_suffix(pattern)
                    .is_some_and(|before| before.ends_with('.'))
    }
}

/// Where a host stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Where {
    /// In a URL, or under a name that says so.
    Here,
    /// In the text of a file or a message, which nobody follows: only the lists and the metadata services count.
    Talk,
    /// In an encoded part of a URL, where it may be where a log-in comes back to: as in a text, and a list of allowed hosts
    /// does not count.
    Nested,
}

/// What is known of the scheme in front of a host.
#[derive(Clone, Copy, Debug, Default)]
struct Scheme {
    /// One of the schemes of the web, whose hosts have a dot in their name unless they are near.
    web: bool,
    /// The port unless the URL says so.
    port: Option<u32>,
}

/// How many hosts of one call are judged, and how many bytes are read for them.
const MAX_HOSTS: usize = 5_000;
const MAX_HOST_BYTES: usize = 2 << 20;
/// What a host without a scheme counts as, in bytes.
const VALUE_BYTES: usize = 256;

/// What was done for one call: hosts that were judged and let through are not judged again.
#[derive(Debug, Default)]
struct Work {
    seen: HashSet<(String, bool, Option<u32>, Where)>,
    bytes: usize,
    above: Kept<Above>,
}

/// What the names above a string say of it.
#[derive(Clone, Copy, Debug)]
struct Above {
    /// It is the text of a file or a message.
    talk: bool,
    /// It says where something is.
    place: bool,
}

impl Above {
    fn new(leaf: &Leaf<'_>) -> Self {
        let said = leaf.names.last().map(|name| words(name)).unwrap_or_default();
        let told = leaf.told.map(words).unwrap_or_default();
        Self {
            talk: said.iter().any(|word| TALK.contains(&word.as_str())),
            place: told.iter().map(String::as_str).any(|name| {
                PLACES.contains(&name) || name != "curl" && (name.ends_with("url") || name.ends_with("uri"))
            }),
        }
    }
}

impl Default for BlockedUrls {
    fn default() -> Self {
        Self::new()
    }
}

/// Longest user name, host and port that are looked at, in bytes. A host has at most 253.
const MAX_AUTHORITY_BYTES: usize = 1024;
/// Schemes that read files, run code, or carry bytes of any protocol.
const BAD_SCHEMES: &[&str] = &[
    "file",
    "gopher",
    "dict",
    "ldap",
    "ldaps",
    "ldapi",
    "jar",
    "tftp",
    "netdoc",
    "php",
    "phar",
    "expect",
    "view-source",
    "javascript",
    "vbscript",
    "smb",
    "local_file",
    "glob",
    "zip",
    "ogg",
    "rmi",
];
/// Longest scheme that counts without slashes behind it: `view-source`.
const LONGEST_SCHEME: usize = 11;
const TOO_MANY: &str = "there are more hosts than can be judged";
/// Schemes whose URLs name a host even without slashes.
const SPECIAL: &[&str] = &["http", "https", "ws", "wss", "ftp"];

impl BlockedUrls {
    /// Blocks what nobody should be pointed at.
    #[must_use]
    pub fn new() -> Self {
        Self {
            id: "blocked_urls".into(),
            allow_hosts: Vec::new(),
            deny_hosts: Vec::new(),
            schemes: Vec::new(),
            private: true,
        }
    }

    /// The same under another id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// Only these hosts; `*.example.com` is any below `example.com`, and `example.com:8443` is one port of it. A private host on the
    /// list is allowed, save by `*` alone.
    #[must_use]
    pub fn allow_hosts<I: IntoIterator<Item: Into<String>>>(mut self, hosts: I) -> Self {
        self.allow_hosts = hosts.into_iter().map(|host| Pattern::new(&host.into())).collect();
        self
    }

    /// None of these hosts, nor any below them; with a port, only that one. An address is the same however it is spelled.
    #[must_use]
    pub fn deny_hosts<I: IntoIterator<Item: Into<String>>>(mut self, hosts: I) -> Self {
        self.deny_hosts = hosts.into_iter().map(|host| Pattern::new(&host.into())).collect();
        self
    }

    /// Only these schemes.
    #[must_use]
    pub fn schemes<I: IntoIterator<Item: Into<String>>>(mut self, schemes: I) -> Self {
        self.schemes = schemes
            .into_iter()
            .map(|scheme| scheme.into().to_ascii_lowercase())
            .collect();
        self
    }

    /// Whether private, local and reserved addresses are blocked; they are unless set otherwise.
    #[must_use]
    pub fn block_private(mut self, block: bool) -> Self {
        self.private = block;
        self
    }

    /// Why a text with URLs must not be passed on; `None` where it may.
    #[must_use]
    pub fn judge(&self, text: &str) -> Option<&'static str> {
        self.text(text, Where::Here, &mut Work::default())
    }

    fn text(&self, text: &str, place: Where, work: &mut Work) -> Option<&'static str> {
        if let Some(reason) = self.search(text, place, work) {
            return Some(reason);
        }
        // Clients drop tabs and line ends anywhere in a URL. A list of URLs, one a line, is no URL with line ends in it.
        let breaks = ['\t', '\n', '\r'];
        if text.contains(breaks) {
            let whole = text.trim_matches(|c: char| c <= ' ');
            let mut lines = whole.split(breaks).filter(|line| !line.is_empty());
            if !whole.contains(' ') && !lines.all(begins_with_scheme) {
                let joined = whole.replace(breaks, "");
                if let Some(reason) = self.search(&joined, place, work) {
                    return Some(reason);
                }
            }
        }
        let encoded = |at: usize| {
            let sign = text.get(at..at.saturating_add(3));
            sign.is_some_and(|sign| sign.eq_ignore_ascii_case("%3a"))
        };
        if text.match_indices('%').any(|(at, _)| encoded(at)) {
            return self.search(&percent(text), Where::Nested, work);
        }
        None
    }

    fn search(&self, text: &str, place: Where, work: &mut Work) -> Option<&'static str> {
        for (at, _) in text.match_indices(':') {
            let (before, after) = text.split_at_checked(at)?;
            let length = before
                .bytes()
                .rev()
                .take(32)
                .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'.' | b'-' | b'_'))
                .count();
            let after = after.get(1..)?;
            // Most colons are of something else.
            let slashed = after.starts_with(['/', '\\']);
            if length < 2 || !slashed && length > LONGEST_SCHEME {
                continue;
            }
            let scheme = before.get(at.saturating_sub(length)..)?.to_ascii_lowercase();
            if let Some(reason) = self.after_scheme(&scheme, after, place, work) {
                return Some(reason);
            }
        }
        None
    }

    fn after_scheme(&self, scheme: &str, after: &str, place: Where, work: &mut Work) -> Option<&'static str> {
        if scheme.is_empty() || !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        let slashes = after.chars().take_while(|c| matches!(c, '/' | '\\')).count();
        let special = SPECIAL.contains(&scheme);
        let wraps = matches!(scheme, "jar" | "view-source") && begins_with_scheme(after);
        let bad = BAD_SCHEMES.contains(&scheme)
            && (slashes > 0 || wraps || matches!(scheme, "javascript" | "vbscript"));
        if slashes < 2
            && !bad
            && !(special && after.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '[' | '/' | '\\')))
        {
            return None;
        }
        if place == Where::Nested {
            // Only the host counts.
        } else if !self.schemes.is_empty() {
            if !self.schemes.iter().any(|allowed| allowed == scheme) {
                return Some("its scheme is not on the list of allowed schemes");
            }
        } else if bad && place == Where::Here {
            return Some("its scheme reads files or carries other protocols");
        }
        let after = after.trim_start_matches(['/', '\\']);
        let authority = after.get(..after.floor_char_boundary(MAX_AUTHORITY_BYTES))?;
        let ends = |c: char| c.is_whitespace() || "/\\?#\"'<>`)|,;".contains(c);
        let known = Scheme {
            web: special,
            port: default_port(scheme),
        };
        let authority = match authority.find(ends) {
            Some(end) => {
                // Some clients take what stands before the `@` for a user, back slash and all.
                let rest = authority.get(end..)?;
                let rest = rest.strip_prefix('\\').unwrap_or("");
                let rest = rest.split(ends).next().unwrap_or("");
                if rest.contains('@')
                    && let Some(reason) = self.authority(rest, known, place)
                {
                    return Some(reason);
                }
                authority.get(..end)?
            }
            None if authority.len() < after.len() => return Some("its host is too long"),
            None => authority,
        };
        work.bytes = work.bytes.saturating_add(authority.len());
        let key = (authority.to_owned(), known.web, known.port, place);
        if work.seen.contains(&key) {
            return (work.bytes > MAX_HOST_BYTES).then_some(TOO_MANY);
        }
        if work.seen.len() >= MAX_HOSTS || work.bytes > MAX_HOST_BYTES {
            return Some(TOO_MANY);
        }
        let reason = self.authority(authority, known, place);
        work.seen.insert(key);
        reason
    }

    fn authority(&self, authority: &str, scheme: Scheme, place: Where) -> Option<&'static str> {
        let host = match authority.rsplit_once('@') {
            Some((user, host)) => {
                // A client that splits at the first `@` would go where the user name says.
                if user.contains('@') || user.contains('%') && percent(user).contains(['@', '/', '\\']) {
                    return Some("its user name hides a host");
                }
                host
            }
            None => authority,
        };
        let (host, port) = split_port(host);
        let port = match port {
            Some(port) => port.parse().ok(),
            None => scheme.port,
        };
        self.host(host, port, scheme.web, place)
    }

    fn host(&self, host: &str, port: Option<u32>, web: bool, place: Where) -> Option<&'static str> {
        let host = ascii(&percent(host));
        let host = canonical(host.trim_end_matches('.'));
        let host = host.as_str();
        if host.is_empty() {
            return None;
        }
        if host.contains(|c: char| c.is_control() || "/\\@?# ".contains(c)) {
            return Some("its host hides another");
        }
        // A port that is not known may be the one that is denied.
        let denied = |pattern: &Pattern| {
            pattern.names(host, true) && (pattern.port.is_none() || port.is_none() || pattern.port == port)
        };
        if self.deny_hosts.iter().any(denied) {
            return Some("its host is denied");
        }
        if !self.allow_hosts.is_empty() && place != Where::Nested {
            let mut allowed = self.allow_hosts.iter().filter(|pattern| {
                pattern.names(host, false) && (pattern.port.is_none() || pattern.port == port)
            });
            let Some(first) = allowed.next() else {
                return Some("its host is not on the list of allowed hosts");
            };
            // A star says nothing of what is near.
            if first.host != "*" || allowed.any(|pattern| pattern.host != "*") {
                return None;
            }
        }
        if !self.private {
            return None;
        }
        if place != Where::Here {
            return is_metadata(host).then_some("its host hands out the credentials of a machine");
        }
        if is_mixed(host) {
            return Some("its host mixes alphabets, as if to look like another");
        }
        let near = web && !host.contains(['.', ':', '{', '}', '$', '*', '%', '[', ']']);
        (near || is_private(host)).then_some("its host is private, local or reserved")
    }

    fn look(&self, leaf: &Leaf<'_>, work: &mut Work) -> Option<&'static str> {
        // What JSON holds is looked at string by string.
        if leaf.role == Role::Folded {
            return None;
        }
        let text = leaf.text.trim();
        let spaced = text.contains(char::is_whitespace);
        let above = work.above.get(leaf, || Above::new(leaf));
        let talk = spaced && leaf.role == Role::Value && above.talk;
        let place = if talk { Where::Talk } else { Where::Here };
        if let Some(reason) = self.text(leaf.text, place, work) {
            return Some(reason);
        }
        if leaf.role != Role::Value || text.contains("://") || text.len() > 2048 || spaced {
            return None;
        }
        if text.starts_with('/') && !text.starts_with("//") || text.starts_with(['#', '?', '.']) {
            return None;
        }
        let text = text.trim_start_matches(['/', '\\']);
        let end = text.find(['/', '?', '#', '\\']).unwrap_or(text.len());
        let authority = text.get(..end)?;
        if !above.place {
            return self.unnamed(authority, text.len() > end, work);
        }
        work.bytes = work.bytes.saturating_add(VALUE_BYTES);
        if work.bytes > MAX_HOST_BYTES {
            return Some(TOO_MANY);
        }
        let scheme = Scheme::default();
        let Some((first, rest)) = authority
            .split_once(':')
            .filter(|_| !authority.contains(['[', '@']))
        else {
            return self.authority(authority, scheme, Where::Here);
        };
        // An address of IPv6 without brackets.
        if rest.contains(':') && is_v6(authority) {
            return self.host(authority, None, false, Where::Here);
        }
        // `mailto:` and `urn:` have no host; a port is a number, and a scheme has no dot.
        if is_scheme(first) && !rest.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        self.authority(authority, scheme, Where::Here)
    }

    /// An address under a name that says nothing: judged where nothing else is written so.
    fn unnamed(&self, authority: &str, more: bool, work: &mut Work) -> Option<&'static str> {
        let (host, port) = split_port(authority);
        // Most strings are words, and no address is written so.
        if !authority.starts_with('[') && !may_be_near(host, port.is_some()) {
            return None;
        }
        let host = canonical(&ascii(host));
        let port = port.filter(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
        // Four numbers alone may be a version, and with a slash a network.
        let address = host.matches('.').count() == 3 && host.parse::<Ipv4Addr>().is_ok();
        let surely = is_metadata(&host) && (address || host.contains(':') || more || port.is_some());
        if surely || port.is_some() && (address || authority.starts_with('[') || host == "localhost") {
            work.bytes = work.bytes.saturating_add(VALUE_BYTES);
            if work.bytes > MAX_HOST_BYTES {
                return Some(TOO_MANY);
            }
            return self.authority(authority, Scheme::default(), Where::Here);
        }
        None
    }
}

/// Whether a host, once its spelling is undone, may be a service that hands out credentials, or an address or `localhost`
/// that a port stands behind. Looks no further than it must: most strings are words.
fn may_be_near(host: &str, port: bool) -> bool {
    let mut spelled = host
        .trim()
        .chars()
        .flat_map(unglued)
        .filter_map(plain)
        .flat_map(char::to_lowercase);
    let first = spelled.next();
    // An address of IPv6, with its brackets or without.
    let colon = || host.contains([':', '：']);
    match first {
        Some('[' | ':') => true,
        Some('a'..='f') => colon(),
        // An address of IPv4, `metadata` or `instance-data`.
        Some('0'..='9' | '+' | 'm' | 'i') => colon() || spelled.all(|c| c.is_ascii()),
        Some('l') => port,
        _ => false,
    }
}

/// Names of arguments that say where something is.
const PLACES: &[&str] = &[
    "url", "urls", "uri", "uris", "host", "hosts", "hostname", "domain", "ip", "endpoint", "server",
    "webhook", "href", "link", "proxy", "upstream", "origin", "callback", "redirect",
];
/// Names of arguments that hold the text of a file or a message.
const TALK: &[&str] = &[
    "content",
    "contents",
    "text",
    "body",
    "message",
    "msg",
    "comment",
    "description",
    "title",
    "summary",
    "note",
    "notes",
    "subject",
    "diff",
    "patch",
    "code",
    "markdown",
    "html",
    "readme",
    "snippet",
    "document",
    "old",
    "new",
    "changelog",
];

/// Whether `text` could be the scheme of a URL.
fn is_scheme(text: &str) -> bool {
    text.len() > 1
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-'))
}

fn begins_with_scheme(text: &str) -> bool {
    let head = text.get(..text.floor_char_boundary(40)).unwrap_or(text);
    head.split_once(':')
        .is_some_and(|(scheme, rest)| is_scheme(scheme) && rest.starts_with(['/', '\\']))
}

/// The port of a scheme's URLs.
fn default_port(scheme: &str) -> Option<u32> {
    Some(match scheme {
        "http" | "ws" => 80,
        "https" | "wss" => 443,
        "ftp" => 21,
        "ssh" | "sftp" => 22,
        _ => return None,
    })
}

/// A host, without brackets, and what stands behind its colon.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').unwrap_or((rest, ""));
        return (host, rest.strip_prefix(':'));
    }
    match authority.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn is_v6(host: &str) -> bool {
    let address = host.split('%').next().unwrap_or(host);
    address.parse::<Ipv6Addr>().is_ok()
}

/// A host as all its spellings have it: an address in its usual form, an IPv4 address inside of IPv6 as itself.
fn canonical(host: &str) -> String {
    if host.contains(':') {
        let address = host.split('%').next().unwrap_or(host);
        return match address.parse::<Ipv6Addr>() {
            Ok(address) => address
                .to_ipv4_mapped()
                .map_or_else(|| address.to_string(), |inner| inner.to_string()),
            Err(_) => host.to_owned(),
        };
    }
    match ipv4(host) {
        Some(Numeric::Address(address)) => address.to_string(),
        _ => host.to_owned(),
    }
}

/// How often percent signs are decoded.
const MAX_DECODED: u32 = 5;

/// Percent signs decoded, and what comes of it again, some times.
pub(crate) fn percent(text: &str) -> String {
    let mut text = text.to_owned();
    for _ in 0..MAX_DECODED {
        if !text.contains('%') {
            break;
        }
        let mut out = Vec::with_capacity(text.len());
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            let mut ahead = bytes.clone();
            let digits = (ahead.next(), ahead.next());
            match (byte, digits) {
                (b'%', (Some(high), Some(low))) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0);
                    out.push(u8::try_from((digit(high) << 4) | digit(low)).unwrap_or(b'?'));
                    bytes = ahead;
                }
                _ => out.push(byte),
            }
        }
        let decoded = String::from_utf8_lossy(&out).into_owned();
        if decoded == text {
            break;
        }
        text = decoded;
    }
    text
}

/// A host as clients compare it: lower case, look-alike forms of ASCII as ASCII, other alphabets in Punycode.
fn ascii(host: &str) -> String {
    if host.is_ascii() {
        return host.trim().to_ascii_lowercase();
    }
    let mapped: String = host
        .trim()
        .chars()
        .flat_map(unglued)
        .filter_map(plain)
        .flat_map(char::to_lowercase)
        .collect();
    let labels = mapped.split('.').map(|label| {
        if label.is_ascii() {
            label.to_owned()
        } else {
            punycode(label).map_or_else(|| label.to_owned(), |encoded| format!("xn--{encoded}"))
        }
    });
    labels.collect::<Vec<_>>().join(".")
}

/// The letters of a ligature.
fn unglued(c: char) -> impl Iterator<Item = char> {
    let letters = match c {
        'ﬀ' => "ff",
        'ﬁ' => "fi",
        'ﬂ' => "fl",
        'ﬃ' => "ffi",
        'ﬄ' => "ffl",
        'ﬅ' | 'ﬆ' => "st",
        _ => "",
    };
    let own = letters.is_empty().then_some(c);
    letters.chars().chain(own)
}

/// Letters that clients read as letters of ASCII: the first of a pair as the second.
const LETTERS: &str = "ſsℂcℊgℋhℌhℍhℎhℐiℑiℒlℓlℕnℙpℚqℛrℜrℝrℤzℨz\u{212a}kℬbℭcℯeℰeℱfℳmℴoℹiⅅdⅆdⅇeⅈiⅉjⅠiⅤvⅩxⅬlⅭcⅮdⅯmⅰiⅴvⅹxⅼlⅽcⅾdⅿmªaºoⁱiⁿnʰhʲjʳrʷwʸyˡlˢsˣxᵃaᵇbᵈdᵉeᵍgᵏkᵐmᵒoᵖpᵗtᵘuᵛvᶜcᶠfᶻz";

/// The character that a client makes of one that only looks like ASCII; `None` where it drops it.
fn plain(c: char) -> Option<char> {
    let shifted = |from: u32, to: u32| char::from_u32(u32::from(c).saturating_sub(from).saturating_add(to));
    match u32::from(c) {
        0xad | 0x200b..=0x200d | 0x2060 | 0xfeff => None,
        0x3002 | 0xff0e | 0xff61 => Some('.'),
        0xff01..=0xff5e => shifted(0xff01, 0x21),
        0x2460..=0x2468 => shifted(0x2460, 0x31),
        0x24d0..=0x24e9 => shifted(0x24d0, 0x61),
        0x24b6..=0x24cf => shifted(0x24b6, 0x61),
        0x2070 | 0x24ea => Some('0'),
        0xb9 => Some('1'),
        0xb2 => Some('2'),
        0xb3 => Some('3'),
        0x2074..=0x2079 => shifted(0x2074, 0x34),
        0x2080..=0x2089 => shifted(0x2080, 0x30),
        // Mathematical digits come in five styles of ten.
        code @ 0x1d7ce..=0x1d7ff => {
            char::from_u32(code.saturating_sub(0x1d7ce).checked_rem(10)?.saturating_add(0x30))
        }
        // Mathematical letters come in thirteen styles of fifty-two.
        code @ 0x1d400..=0x1d6a3 => {
            let place = code.saturating_sub(0x1d400).checked_rem(52)?.checked_rem(26)?;
            char::from_u32(place.saturating_add(0x61))
        }
        // Letters in squares.
        0x1f130..=0x1f149 => shifted(0x1f130, 0x61),
        0xaa | 0xba | 0x17f | 0x2b0..=0x2e3 | 0x1d43..=0x1dbb | 0x2071 | 0x207f | 0x2102..=0x217f => {
            let mut pairs = LETTERS.chars();
            while let (Some(from), Some(to)) = (pairs.next(), pairs.next()) {
                if from == c {
                    return Some(to);
                }
            }
            Some(c)
        }
        _ => Some(c),
    }
}

/// # Source
/// RFC 3492, section 6.3.
fn punycode(label: &str) -> Option<String> {
    if label.len() > 256 {
        return None;
    }
    let input: Vec<u32> = label.chars().map(u32::from).collect();
    let mut out: String = label.chars().filter(char::is_ascii).collect();
    let basic = u32::try_from(out.len()).ok()?;
    let mut handled = basic;
    if basic > 0 {
        out.push('-');
    }
    let (mut n, mut delta, mut bias) = (128_u32, 0_u32, 72_u32);
    let total = u32::try_from(input.len()).ok()?;
    while handled < total {
        let next = input.iter().copied().filter(|code| *code >= n).min()?;
        delta = delta.checked_add(next.checked_sub(n)?.checked_mul(handled.checked_add(1)?)?)?;
        n = next;
        for code in &input {
            if *code < n {
                delta = delta.checked_add(1)?;
            }
            if *code == n {
                let mut q = delta;
                let mut k = 36_u32;
                loop {
                    let t = k.saturating_sub(bias).clamp(1, 26);
                    if q < t {
                        break;
                    }
                    let rest = q.checked_sub(t)?;
                    let base = 36_u32.checked_sub(t)?;
                    out.push(digit(t.checked_add(rest.checked_rem(base)?)?)?);
                    q = rest.checked_div(base)?;
                    k = k.checked_add(36)?;
                }
                out.push(digit(q)?);
                let mut change = if handled == basic {
                    delta.checked_div(700)?
                } else {
                    delta >> 1
                };
                change = change.checked_add(change.checked_div(handled.checked_add(1)?)?)?;
                let mut steps = 0_u32;
                while change > 455 {
                    change = change.checked_div(35)?;
                    steps = steps.checked_add(36)?;
                }
                bias =
                    steps.checked_add(36_u32.checked_mul(change)?.checked_div(change.checked_add(38)?)?)?;
                delta = 0;
                handled = handled.checked_add(1)?;
            }
        }
        delta = delta.checked_add(1)?;
        n = n.checked_add(1)?;
    }
    Some(out)
}

fn digit(value: u32) -> Option<char> {
    char::from_digit(value, 36).map(|c| match value {
        // Letters come before digits here.
        0..=25 => char::from_u32(value.saturating_add(0x61)).unwrap_or(c),
        _ => char::from_u32(value.saturating_sub(26).saturating_add(0x30)).unwrap_or(c),
    })
}

/// Whether a label in Punycode holds letters of ASCII, which stand in front of its last hyphen, besides letters of an
/// alphabet that looks like it. Accents are no other alphabet.
fn is_mixed(host: &str) -> bool {
    host.split('.').any(|label| {
        label
            .strip_prefix("xn--")
            .and_then(|rest| rest.rsplit_once('-'))
            .is_some_and(|(plain, extra)| {
                let foreign = decodes_to_lookalike(plain, extra);
                plain.bytes().any(|byte| byte.is_ascii_alphabetic()) && foreign
            })
    })
}

/// Whether Punycode with these parts has a letter of Greek, Cyrillic or Armenian.
fn decodes_to_lookalike(plain: &str, extra: &str) -> bool {
    let mut n = 128_u32;
    let mut i = 0_u32;
    let mut bias = 72_u32;
    let mut len = u32::try_from(plain.len()).unwrap_or(u32::MAX);
    let mut digits = extra.bytes();
    let mut first = true;
    loop {
        let old = i;
        let (mut weight, mut k) = (1_u32, 36_u32);
        loop {
            let Some(byte) = digits.next() else { return false };
            let value = match byte {
                b'a'..=b'z' => u32::from(byte.wrapping_sub(b'a')),
                b'0'..=b'9' => u32::from(byte.wrapping_sub(b'0')).saturating_add(26),
                _ => return false,
            };
            i = i.saturating_add(value.saturating_mul(weight));
            let t = k.saturating_sub(bias).clamp(1, 26);
            if value < t {
                break;
            }
            weight = weight.saturating_mul(36_u32.saturating_sub(t));
            k = k.saturating_add(36);
        }
        len = len.saturating_add(1);
        let change = i.saturating_sub(old);
        let mut change = if first { change / 700 } else { change / 2 };
        first = false;
        change = change.saturating_add(change.checked_div(len).unwrap_or(0));
        let mut steps = 0_u32;
        while change > 455 {
            change /= 35;
            steps = steps.saturating_add(36);
        }
        bias = steps.saturating_add(
            change
                .saturating_mul(36)
                .checked_div(change.saturating_add(38))
                .unwrap_or(0),
        );
        n = n.saturating_add(i.checked_div(len).unwrap_or(0));
        i = i.checked_rem(len).unwrap_or(0).saturating_add(1);
        if (0x370..=0x58f).contains(&n) {
            return true;
        }
    }
}

/// Names that lead to where one is, whatever the network.
const LOCAL_NAMES: &[&str] = &[
    "localhost",
    "localhost4",
    "localhost6",
    "*.localhost",
    "*.local",
    "*.localdomain",
    "*.localdomain4",
    "*.localdomain6",
    "*.internal",
    "*.intranet",
    "*.lan",
    "*.home.arpa",
    "*.corp",
    "*.svc",
    "*.cluster.local",
    "*.private",
    "metadata",
    "metadata.goog",
    "metadata.tencentyun.com",
    "metadata.packet.net",
    "metadata.platformequinix.com",
    "instance-data",
    "kubernetes.default",
    "*.nip.io",
    "*.sslip.io",
    "*.xip.io",
    "*.rbndr.us",
    "*.1u.ms",
    "*.traefik.me",
    "localtest.me",
    "*.localtest.me",
    "lvh.me",
    "*.lvh.me",
    "*.vcap.me",
    "*.lacolhost.com",
    "ip6-localhost",
    "ip6-loopback",
    "kubernetes",
    "broadcasthost",
];

/// Whether `host` is a service that hands out a machine's own credentials, in any spelling of its address.
pub(crate) fn is_metadata(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let host = host.trim_end_matches('.');
    let host = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    if host.contains(':') {
        let address = host.split('%').next().unwrap_or(host);
        return address.parse::<Ipv6Addr>().is_ok_and(|address| {
            matches!(address.segments(), [0xfd00, 0xec2, ..]) || inner_v4(address).is_some_and(hands_out)
        });
    }
    match ipv4(host) {
        Some(Numeric::Address(address)) => hands_out(address),
        Some(Numeric::Broken) => false,
        None => {
            matches!(
                host,
                "metadata"
                    | "metadata.google.internal"
                    | "metadata.goog"
                    | "metadata.tencentyun.com"
                    | "instance-data"
                    | "instance-data.ec2.internal"
            )
        }
    }
}

fn hands_out(address: Ipv4Addr) -> bool {
    matches!(
        address.octets(),
        [169, 254, 169 | 170, _]
            | [100, 100, 100, 200]
            | [169, 254, 0, 23]
            | [168, 63, 129, 16]
            | [192, 0, 0, 192]
    )
}

fn is_private(host: &str) -> bool {
    if host.contains(':') {
        let address = host.split('%').next().unwrap_or(host);
        // What is no address leads nowhere good.
        return address.parse::<Ipv6Addr>().map_or(true, is_private_v6);
    }
    if let Some(address) = ipv4(host) {
        return match address {
            Numeric::Address(address) => is_private_v4(address),
            Numeric::Broken => true,
        };
    }
    LOCAL_NAMES.iter().any(|pattern| matches(pattern, host))
}

/// A host that ends in a number, which no name does.
enum Numeric {
    Address(Ipv4Addr),
    /// It has the form of an address and is none.
    Broken,
}

/// The address that a C library makes of `host`.
fn ipv4(host: &str) -> Option<Numeric> {
    let parts: Vec<&str> = host.split('.').collect();
    let is_number = |part: &str| {
        let hex = part.strip_prefix("0x");
        hex.is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
            || !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !parts.last().is_some_and(|last| is_number(last)) {
        return None;
    }
    Some(number(&parts).map_or(Numeric::Broken, |number| Numeric::Address(Ipv4Addr::from(number))))
}

fn number(parts: &[&str]) -> Option<u32> {
    let (last, first) = parts.split_last()?;
    if first.len() > 3 {
        return None;
    }
    let read = |part: &str| match part.strip_prefix("0x") {
        Some("") => Some(0),
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None if part.len() > 1 && part.starts_with('0') => u64::from_str_radix(part, 8).ok(),
        None => part.parse().ok(),
    };
    let mut address = 0_u64;
    for part in first {
        let part = read(part).filter(|part| *part < 256)?;
        address = (address << 8) | part;
    }
    let bits = 32_usize.checked_sub(first.len().checked_mul(8)?)?;
    let last = read(last)?;
    if bits < 64 && last >> bits != 0 {
        return None;
    }
    u32::try_from((address << bits) | last).ok()
}

/// # Source
/// IANA IPv4 Special-Purpose Address Registry.
fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    matches!(a, 0 | 10 | 127 | 224..=255)
        || a == 100 && (64..128).contains(&b)
        || a == 169 && b == 254
        || a == 172 && (16..32).contains(&b)
        || a == 192 && (b == 168 || b == 0 && matches!(c, 0 | 2) || b == 88 && c == 99)
        || a == 198 && (matches!(b, 18 | 19) || b == 51 && c == 100)
        || a == 203 && b == 0 && c == 113
        || [100, 100, 100, 200] == address.octets()
        || [168, 63, 129, 16] == address.octets()
}

/// The IPv4 address that is reached by an address of IPv6.
///
/// # Source
/// RFC 4291 (compatible, mapped), RFC 2765 (translated), RFC 6052 (NAT64), RFC 3056 (6to4), RFC 5214 (ISATAP).
fn inner_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..]
        | [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => {
            let ([first, second], [third, fourth]) = (high.to_be_bytes(), low.to_be_bytes());
            Some(Ipv4Addr::new(first, second, third, fourth))
        }
        _ => None,
    }
}

/// # Source
/// IANA IPv6 Special-Purpose Address Registry.
fn is_private_v6(address: Ipv6Addr) -> bool {
    if inner_v4(address).is_some_and(is_private_v4) {
        return true;
    }
    match address.segments() {
        // Teredo, benchmarks, documentation, discarded, routed by segments, local NAT64.
        [0x64, 0xff9b, 1, ..]
        | [0x100, 0, 0, 0 | 1, ..]
        | [0x2001, 0 | 2 | 0xdb8, ..]
        | [0x3fff | 0x5f00, ..] => true,
        [first, ..] => matches!(first >> 8, 0xfc | 0xfd | 0xff) || matches!(first & 0xffc0, 0xfe80 | 0xfec0),
    }
}

impl Rule for BlockedUrls {
    fn id(&self) -> &str {
        &self.id
    }

    fn evaluate(&self, call: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        let Call::Tool(call) = call else { return Ok(None) };
        let mut work = Work::default();
        let reason = args::walk(
            call.args.value(),
            &mut |leaf: Leaf<'_>| match self.look(&leaf, &mut work) {
                Some(reason) => ControlFlow::Break(reason),
                None => ControlFlow::Continue(()),
            },
        )?;
        Ok(reason.map(|reason| Decision::new(Action::Block, self.id.clone(), format!("URL: {reason}"))))
    }
}

/// Whether an entry of a list can be met by a host.
fn is_pattern(text: &str) -> bool {
    let (host, port) = split_port(text);
    let numbered = |port: &str| port == "*" || port.parse::<u16>().is_ok();
    !host.is_empty()
        && !host.contains(|c: char| c.is_whitespace() || "/\\@?#".contains(c))
        && (!host.contains(':') || is_v6(host))
        && port.is_none_or(numbered)
}

/// How a policy makes one.
pub(crate) const KIND: RuleKind = RuleKind {
    name: "blocked_urls",
    about: "Blocks URLs that a tool must not be pointed at.",
    options: &[
        OptionKind {
            name: "allow_hosts",
            shape: Shape::List,
            about: "The only hosts; `*.example.com` is any below `example.com`, `example.com:8443` only that port.",
        },
        OptionKind {
            name: "deny_hosts",
            shape: Shape::List,
            about: "Hosts that are blocked, and all below them; with a port, only that port.",
        },
        OptionKind {
            name: "schemes",
            shape: Shape::List,
            about: "The only schemes.",
        },
        OptionKind {
            name: "block_private",
            shape: Shape::Flag,
            about: "Whether private, local and reserved addresses are blocked; they are unless set otherwise.",
        },
    ],
    make: |options| {
        let mut hosts = |name: &str| {
            let hosts = options.list(name);
            if hosts.iter().all(|host| is_pattern(host)) {
                Ok(hosts)
            } else {
                // It would never be met.
                Err(OptionError::invalid(
                    name,
                    "is a host, or `HOST:PORT`, without a scheme, a path or a mask",
                ))
            }
        };
        let (allow, deny) = (hosts("allow_hosts")?, hosts("deny_hosts")?);
        let rule = BlockedUrls::new()
            .allow_hosts(allow)
            .deny_hosts(deny)
            .schemes(options.list("schemes"))
            .block_private(options.flag("block_private")?.unwrap_or(true));
        Ok(Arc::new(rule))
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_address_is_one_in_every_spelling() {
        let rule = BlockedUrls::new();
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://0x7f.0.0.0x1",
            "http://%31%32%37.0.0.1/",
            "http://１２７．０．０．１/",
            "http://①②⑦.⓪.⓪.①/",
            "http://127。0。0。1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]:80/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[fe80::1%25eth0]/",
            "http://localhost:8080/",
            "http://LOCALHOST./",
            "http://169.254.169.254/latest/meta-data/",
            "http://metadata.google.internal/",
            "http://user:pass@10.0.0.1/",
            "http://example.com@127.0.0.1/",
            "http://a@b@127.0.0.1/",
            "http:\\\\127.0.0.1\\",
            "http:127.0.0.1",
            "https:/\\127.0.0.1",
            "ht\ntp://127.0.0.1/",
            "http://127.0.0.1.nip.io/",
            "http://0/",
            "http://1.2.3.999/",
            "see http://192.168.1.1/admin for it",
            "file:///etc/passwd",
            "gopher://example.com/",
            "javascript:alert(1)",
            "http://xn--pple-43d.com/",
        ] {
            assert!(rule.judge(url).is_some(), "{url}");
        }
        for url in [
            "https://example.com/a?b=http",
            "https://user@example.com:8443/",
            "http://8.8.8.8/",
            "https://münchen.de/",
            "at 10:30: 127 people",
            "postgres://db.example.com/x",
            "C:/Users/x",
            "key: value",
            "https://[2606:4700::1111]/",
            "mailto:a@b.example",
        ] {
            assert_eq!(rule.judge(url), None, "{url}");
        }
    }

    #[test]
    fn an_address_under_a_name_that_says_nothing_is_found_in_every_spelling() {
        let rule = BlockedUrls::new();
        let near = |authority: &str| rule.unnamed(authority, false, &mut Work::default()).is_some();
        for authority in [
            "169.254.169.254",
            "１６９.254.169.254",
            "①69.254.169.254:80",
            "+169.254.169.254",
            "[fd00:ec2::254]",
            "［fd00:ec2::254］",
            "fd00：ec2：：254",
            "10.0.0.1:22",
            "LocalHost:8080",
            "[::1]:80",
        ] {
            assert!(near(authority), "{authority}");
        }
        for authority in [
            "a@b.co",
            "10.0.0.1",
            "metadata",
            "localhost",
            "word",
            "漢字:1",
            "1.5",
            "a:1",
        ] {
            assert!(!near(authority), "{authority}");
        }
    }

    #[test]
    fn the_lists_are_compared_with_the_host_that_is_asked() {
        let rule = BlockedUrls::new().allow_hosts(["api.example.com", "*.good.example", "münchen.de"]);
        for (url, allowed) in [
            ("https://api.example.com/x", true),
            ("https://API.example.com./x", true),
            ("https://a.good.example", true),
            ("https://good.example.evil.example", false),
            ("https://api.example.com@evil.example", false),
            ("https://evil.example#@api.example.com", false),
            ("https://evil.example\\@api.example.com", false),
            ("https://xn--mnchen-3ya.de/", true),
        ] {
            assert_eq!(rule.judge(url).is_none(), allowed, "{url}");
        }
        let rule = BlockedUrls::new().deny_hosts(["evil.example"]);
        assert!(rule.judge("https://a.evil.example/").is_some());
        assert!(rule.judge("https://notevil.example/").is_none());
    }
}
