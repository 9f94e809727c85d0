//! Which hosts a tool may be pointed at: [`BlockedUrls`].
//!
//! Addresses are read as clients read them: decimal, octal, hexadecimal and short forms of IPv4, IPv6 with an IPv4
//! address inside, percent signs, full-width characters, user names that look like hosts. What the rule does not promise: it asks no
//! name server, so that a public name which resolves to a private address passes; a proxy has to hold that.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;
use std::sync::Arc;

use leash_core::{Action, Call, Decision, PolicyContext, Rule, RuleError};

use crate::args::{self, Leaf, Role, telling, words};
use crate::registry::{OptionKind, RuleKind, Shape};
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
    allow_hosts: Vec<String>,
    deny_hosts: Vec<String>,
    schemes: Vec<String>,
    private: bool,
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

    /// Only these hosts; `*.example.com` is any below `example.com`. A private host on the list is allowed.
    #[must_use]
    pub fn allow_hosts<I: IntoIterator<Item: Into<String>>>(mut self, hosts: I) -> Self {
        self.allow_hosts = hosts.into_iter().map(|host| ascii(&host.into())).collect();
        self
    }

    /// None of these hosts, nor any below them.
    #[must_use]
    pub fn deny_hosts<I: IntoIterator<Item: Into<String>>>(mut self, hosts: I) -> Self {
        self.deny_hosts = hosts.into_iter().map(|host| ascii(&host.into())).collect();
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
        // Clients drop these anywhere in a URL.
        let cleaned;
        let text = if text.contains(['\t', '\n', '\r']) && text.split_whitespace().count() == 1 {
            cleaned = text.replace(['\t', '\n', '\r'], "");
            &cleaned
        } else {
            text
        };
        let mut rest = text;
        let mut before_len = 0_usize;
        while let Some(at) = rest.find(':') {
            let (before, after) = rest.split_at_checked(at)?;
            let all_before = text.get(before_len..before_len.saturating_add(before.len()))?;
            let scheme: String = all_before
                .chars()
                .rev()
                .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-' | '_'))
                .take(32)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .collect::<String>()
                .to_ascii_lowercase();
            let after = after.get(1..)?;
            if let Some(reason) = self.after_scheme(&scheme, after) {
                return Some(reason);
            }
            before_len = before_len.saturating_add(at).saturating_add(1);
            rest = after;
        }
        None
    }

    fn after_scheme(&self, scheme: &str, after: &str) -> Option<&'static str> {
        if scheme.is_empty() || !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        let slashes = after.chars().take_while(|c| matches!(c, '/' | '\\')).count();
        let special = SPECIAL.contains(&scheme);
        let bad =
            BAD_SCHEMES.contains(&scheme) && (slashes > 0 || matches!(scheme, "javascript" | "vbscript"));
        if slashes < 2
            && !bad
            && !(special && after.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '[' | '/' | '\\')))
        {
            return None;
        }
        if !self.schemes.is_empty() {
            if !self.schemes.iter().any(|allowed| allowed == scheme) {
                return Some("its scheme is not on the list of allowed schemes");
            }
        } else if bad {
            return Some("its scheme reads files or carries other protocols");
        }
        let after = after.trim_start_matches(['/', '\\']);
        let authority = after.get(..after.floor_char_boundary(MAX_AUTHORITY_BYTES))?;
        let ends = |c: char| c.is_whitespace() || "/\\?#\"'<>`)|,;".contains(c);
        match authority.find(ends) {
            Some(end) => self.authority(authority.get(..end)?),
            None if authority.len() < after.len() => Some("its host is too long"),
            None => self.authority(authority),
        }
    }

    fn authority(&self, authority: &str) -> Option<&'static str> {
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
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.split_once(']').map_or(rest, |(inner, _)| inner),
            None => match host.rsplit_once(':') {
                Some((name, port))
                    if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.contains(':') =>
                {
                    name
                }
                _ => host,
            },
        };
        self.host(host)
    }

    fn host(&self, host: &str) -> Option<&'static str> {
        let host = ascii(&percent(host));
        let host = host.trim_end_matches('.');
        if host.is_empty() {
            return None;
        }
        if host.contains(['/', '\\', '@', '?', '#', ' ']) {
            return Some("its host hides another");
        }
        if self.deny_hosts.iter().any(|pattern| is_host(pattern, host, true)) {
            return Some("its host is denied");
        }
        if !self.allow_hosts.is_empty() {
            let allowed = self
                .allow_hosts
                .iter()
                .any(|pattern| is_host(pattern, host, false));
            return (!allowed).then_some("its host is not on the list of allowed hosts");
        }
        if is_mixed(host) {
            return Some("its host mixes alphabets, as if to look like another");
        }
        (self.private && is_private(host)).then_some("its host is private, local or reserved")
    }

    fn look(&self, leaf: &Leaf<'_>) -> Option<&'static str> {
        if let Some(reason) = self.judge(leaf.text) {
            return Some(reason);
        }
        let text = leaf.text.trim();
        if leaf.role != Role::Value
            || text.contains("://")
            || text.len() > 2048
            || text.contains(char::is_whitespace)
        {
            return None;
        }
        let words = telling(leaf.names).map(words).unwrap_or_default();
        let named = words.iter().any(|word| {
            matches!(
                word.as_str(),
                "url"
                    | "urls"
                    | "uri"
                    | "host"
                    | "hosts"
                    | "hostname"
                    | "domain"
                    | "ip"
                    | "endpoint"
                    | "server"
                    | "webhook"
                    | "href"
                    | "link"
                    | "proxy"
            )
        });
        if !named || text.starts_with('/') && !text.starts_with("//") || text.starts_with(['#', '?', '.']) {
            return None;
        }
        let text = text.trim_start_matches(['/', '\\']);
        let end = text.find(['/', '?', '#', '\\']).unwrap_or(text.len());
        let authority = text.get(..end)?;
        // An address of IPv6 without brackets.
        if authority.matches(':').count() > 1 && !authority.contains('[') {
            return self.host(authority);
        }
        self.authority(authority)
    }
}

fn is_host(pattern: &str, host: &str, below: bool) -> bool {
    if pattern.contains('*') {
        return matches(pattern, host)
            || pattern
                .strip_prefix("*.")
                .is_some_and(|bare| below && bare == host);
    }
    host == pattern
        || below
            && host
                .strip_suffix(pattern)
                .is_some_and(|before| before.ends_with('.'))
}

/// Percent signs decoded, twice at most.
pub(crate) fn percent(text: &str) -> String {
    let mut text = text.to_owned();
    for _ in 0..2 {
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
        text = String::from_utf8_lossy(&out).into_owned();
    }
    text
}

/// A host as clients compare it: lower case, look-alike forms of ASCII as ASCII, other alphabets in Punycode.
fn ascii(host: &str) -> String {
    let mapped: String = host
        .trim()
        .chars()
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
    "*.localhost",
    "*.local",
    "*.localdomain",
    "*.internal",
    "*.intranet",
    "*.lan",
    "*.home.arpa",
    "*.corp",
    "*.svc",
    "*.cluster.local",
    "metadata",
    "instance-data",
    "*.nip.io",
    "*.sslip.io",
    "*.xip.io",
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
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner
            .parse::<Ipv6Addr>()
            .is_ok_and(|address| match address.segments() {
                [0xfd00, 0xec2, ..] => true,
                [0, 0, 0, 0, 0, 0xffff, high, low] => [high, low] == [0xa9fe, 0xa9fe],
                _ => false,
            });
    }
    match ipv4(host) {
        Some(Numeric::Address(address)) => {
            matches!(address.octets(), [169, 254, 169 | 170, _] | [100, 100, 100, 200])
        }
        _ => matches!(host, "metadata" | "metadata.google.internal" | "instance-data"),
    }
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

/// # Source
/// IANA IPv6 Special-Purpose Address Registry.
fn is_private_v6(address: Ipv6Addr) -> bool {
    let inner = |high: u16, low: u16| {
        let ([first, second], [third, fourth]) = (high.to_be_bytes(), low.to_be_bytes());
        is_private_v4(Ipv4Addr::new(first, second, third, fourth))
    };
    match address.segments() {
        // Unspecified, loopback, compatible, mapped, translated.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => inner(high, low),
        [0x64, 0xff9b, 1, ..] | [0x100, 0, 0, 0, ..] | [0x2001, 0 | 2 | 0xdb8, ..] => true,
        [first, ..] => matches!(first >> 8, 0xfc | 0xfd | 0xff) || matches!(first & 0xffc0, 0xfe80 | 0xfec0),
    }
}

impl Rule for BlockedUrls {
    fn id(&self) -> &str {
        &self.id
    }

    fn evaluate(&self, call: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        let Call::Tool(call) = call else { return Ok(None) };
        let reason = args::walk(call.args.value(), &mut |leaf: Leaf<'_>| match self.look(&leaf) {
            Some(reason) => ControlFlow::Break(reason),
            None => ControlFlow::Continue(()),
        })?;
        Ok(reason.map(|reason| Decision::new(Action::Block, self.id.clone(), format!("URL: {reason}"))))
    }
}

/// How a policy makes one.
pub(crate) const KIND: RuleKind = RuleKind {
    name: "blocked_urls",
    about: "Blocks URLs that a tool must not be pointed at.",
    options: &[
        OptionKind {
            name: "allow_hosts",
            shape: Shape::List,
            about: "The only hosts; `*.example.com` is any below `example.com`.",
        },
        OptionKind {
            name: "deny_hosts",
            shape: Shape::List,
            about: "Hosts that are blocked, and all below them.",
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
        let rule = BlockedUrls::new()
            .allow_hosts(options.list("allow_hosts"))
            .deny_hosts(options.list("deny_hosts"))
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
