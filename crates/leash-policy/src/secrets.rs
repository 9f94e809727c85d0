//! Keys and tokens that must not leave: [`SecretsRule`].
#![expect(clippy::assigning_clones, reason = "the text is replaced as a whole")]

use std::fmt;
use std::sync::{Arc, OnceLock};

use aho_corasick::{AhoCorasick, MatchKind};
use leash_core::{Action, Call, Decision, Json, PolicyContext, Redactor, Rule, RuleError};
use regex::bytes::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use crate::pii::Span;

/// How deep a document may be nested.
const MAX_DEPTH: u32 = 512;
/// How far from a keyword its secret may end, in bytes.
const AFTER: usize = 512;
/// How many bytes of what has the form of a secret and is none are looked at, for each byte of a text. Only a text made
/// for it, of forms within forms, has more; there the form alone counts.
const DOUBTS: usize = 2;
/// How long a web token may be, and the body of a private key.
const TOKEN: usize = 8192;
const KEY: usize = 16_384;

/// What one kind of secret looks like.
struct Pattern {
    kind: &'static str,
    /// In lower case; one of them stands in every such secret.
    keywords: &'static [&'static str],
    /// Where it begins, by a keyword.
    begins: Begins,
    /// Read from there on, and nowhere else. The secret is its first group. What comes next says everywhere which way
    /// it goes, so that it is read once.
    regex: &'static str,
    /// The least Shannon entropy of the secret, in hundredths of bits a byte.
    entropy: u32,
}

/// Where a pattern begins that has a keyword at some place: one place at most for each keyword, so that what is read of
/// a text does not grow faster than its keywords.
#[derive(Clone, Copy)]
enum Begins {
    /// With the keyword, and not in a word.
    Word,
    /// With the keyword.
    Here,
    /// So many bytes before the keyword, and not in a word.
    Back(usize),
    /// With the eight to ten digits before the keyword.
    Digits,
    /// With the keyword, and not in a run of the characters of a token.
    Token,
    /// With the nearest `-----BEGIN ` before the keyword.
    Header,
    /// With the keyword, behind the name of a scheme.
    Scheme,
    /// Behind the keyword, which stands at most 40 characters of a name behind the border of a word.
    Name,
}

const fn pattern(
    kind: &'static str,
    keywords: &'static [&'static str],
    begins: Begins,
    regex: &'static str,
    entropy: u32,
) -> Pattern {
    Pattern {
        kind,
        keywords,
        begins,
        regex,
        entropy,
    }
}

/// Forms as their issuers document them.
static PATTERNS: [Pattern; 31] = [
    pattern(
        "AWS_ACCESS_KEY",
        &["akia", "asia", "abia", "acca"],
        Begins::Word,
        r"\A(A(?:KIA|SIA|BIA|CCA)[A-Z2-7]{16})\b",
        280,
    ),
    pattern(
        "GITHUB_TOKEN",
        &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"],
        Begins::Word,
        r"\A(gh[pousr]_[A-Za-z0-9]{36,251})\b",
        300,
    ),
    pattern(
        "GITHUB_TOKEN",
        &["github_pat_"],
        Begins::Word,
        r"\A(github_pat_[A-Za-z0-9_]{60,90})\b",
        300,
    ),
    pattern(
        "GITLAB_TOKEN",
        &["glpat-", "gldt-", "glrt-", "glcbt-"],
        Begins::Word,
        r"\A(gl(?:pat|dt|rt|cbt)-[A-Za-z0-9_-]{20,64})",
        300,
    ),
    pattern(
        "SLACK_TOKEN",
        &["xoxb-", "xoxp-", "xoxa-", "xoxr-", "xoxs-", "xoxe-", "xapp-"],
        Begins::Word,
        r"\A(x(?:ox[abeprs]|app)-[A-Za-z0-9-]{16,200})",
        250,
    ),
    pattern(
        "SLACK_WEBHOOK",
        &["hooks.slack.com"],
        Begins::Here,
        r"\A(hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/+_-]{30,80})",
        300,
    ),
    pattern(
        "DISCORD_WEBHOOK",
        &["discord.com/api/webhooks", "discordapp.com/api/webhooks"],
        Begins::Here,
        r"\A(discord(?:app)?\.com/api/webhooks/[0-9]{15,22}/[A-Za-z0-9_-]{40,90})",
        300,
    ),
    pattern(
        "GOOGLE_API_KEY",
        &["aiza"],
        Begins::Word,
        r"\A(AIza[A-Za-z0-9_-]{35})\b",
        300,
    ),
    pattern(
        "GOOGLE_OAUTH_TOKEN",
        &["ya29."],
        Begins::Word,
        r"\A(ya29\.[A-Za-z0-9_-]{20,300})",
        300,
    ),
    pattern(
        "GOOGLE_OAUTH_SECRET",
        &["gocspx-"],
        Begins::Word,
        r"\A(GOCSPX-[A-Za-z0-9_-]{28})",
        300,
    ),
    pattern(
        "STRIPE_KEY",
        &["sk_live_", "rk_live_", "sk_test_", "rk_test_", "whsec_"],
        Begins::Word,
        r"\A((?:[sr]k_(?:live|test)_|whsec_)[A-Za-z0-9]{20,200})\b",
        300,
    ),
    pattern(
        "ANTHROPIC_KEY",
        &["sk-ant-"],
        Begins::Word,
        r"\A(sk-ant-[A-Za-z0-9_-]{20,200})",
        300,
    ),
    pattern(
        "OPENAI_KEY",
        &["sk-proj-", "sk-svcacct-", "sk-admin-"],
        Begins::Word,
        r"\A(sk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{20,220})",
        300,
    ),
    pattern(
        "OPENAI_KEY",
        &["t3blbkfj"],
        Begins::Back(23),
        r"\A(sk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20})",
        300,
    ),
    pattern(
        "OPENAI_KEY",
        &["sk-"],
        Begins::Word,
        r"\A(sk-[A-Za-z0-9]{40,64})\b",
        400,
    ),
    pattern(
        "HUGGINGFACE_TOKEN",
        &["hf_"],
        Begins::Word,
        r"\A(hf_[A-Za-z0-9]{30,40})\b",
        300,
    ),
    pattern(
        "GROQ_KEY",
        &["gsk_"],
        Begins::Word,
        r"\A(gsk_[A-Za-z0-9]{40,60})\b",
        300,
    ),
    pattern(
        "NPM_TOKEN",
        &["npm_"],
        Begins::Word,
        r"\A(npm_[A-Za-z0-9]{36})\b",
        300,
    ),
    pattern(
        "PYPI_TOKEN",
        &["pypi-"],
        Begins::Word,
        r"\A(pypi-[A-Za-z0-9_-]{50,300})",
        300,
    ),
    pattern(
        "SENDGRID_KEY",
        &["sg."],
        Begins::Word,
        r"\A(SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{30,64})",
        300,
    ),
    pattern("TWILIO_KEY", &["sk"], Begins::Word, r"\A(SK[0-9a-f]{32})\b", 300),
    pattern(
        "MAILGUN_KEY",
        &["key-"],
        Begins::Word,
        r"\A(key-[0-9a-f]{32})\b",
        300,
    ),
    pattern(
        "DIGITALOCEAN_TOKEN",
        &["dop_v1_", "doo_v1_", "dor_v1_"],
        Begins::Word,
        r"\A(do[opr]_v1_[0-9a-f]{64})\b",
        300,
    ),
    pattern(
        "SHOPIFY_TOKEN",
        &["shpat_", "shpca_", "shppa_", "shpss_"],
        Begins::Word,
        r"\A(shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32})\b",
        300,
    ),
    pattern(
        "TELEGRAM_TOKEN",
        &[":aa"],
        Begins::Digits,
        r"\A([0-9]{8,10}:AA[A-Za-z0-9_-]{33})\b",
        300,
    ),
    pattern(
        "VAULT_TOKEN",
        &["hvs.", "hvb."],
        Begins::Word,
        r"\A(hv[sb]\.[A-Za-z0-9_-]{24,300})",
        300,
    ),
    pattern(
        "AGE_KEY",
        &["age-secret-key-"],
        Begins::Word,
        r"\A(AGE-SECRET-KEY-1[0-9A-Z]{58})\b",
        300,
    ),
    pattern(
        "JWT",
        &["eyj"],
        Begins::Token,
        r"\A(eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,})",
        300,
    ),
    pattern(
        "PRIVATE_KEY",
        &["private key"],
        Begins::Header,
        r"\A(-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----)",
        0,
    ),
    pattern(
        "URL_PASSWORD",
        &["://"],
        Begins::Scheme,
        r"\A://[^\s/:@'\x22<>]{1,64}:([^\s/@'\x22<>$\{\}\[\]]{3,128})@[A-Za-z0-9]",
        150,
    ),
    pattern(
        "GENERIC_SECRET",
        &[
            "secret",
            "token",
            "passwd",
            "password",
            "api_key",
            "apikey",
            "api-key",
            "access_key",
            "access-key",
            "accesskey",
            "auth_key",
            "auth-key",
            "authkey",
            "credential",
            "private_key",
            "private-key",
            "privatekey",
        ],
        Begins::Name,
        r#"(?i)\A[a-z0-9_.-]{0,20}["']?\s{0,3}(?:=>?|:=?)\s{0,3}["'`]?((?:[a-z0-9+/_.~!@#%^&*-]){12,256}={0,2})"#,
        340,
    ),
];

/// Whether a word ends, or begins, at `at`.
fn is_border(bytes: &[u8], at: usize) -> bool {
    let word = |at: Option<usize>| {
        at.and_then(|at| bytes.get(at))
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    };
    word(at.checked_sub(1)) != word(Some(at))
}

impl Begins {
    /// Where a pattern begins that has a keyword from `at` to `end`, if it may.
    fn at(self, bytes: &[u8], at: usize, end: usize) -> Option<usize> {
        let before = bytes.get(..at)?;
        let run = |most: usize, class: fn(u8) -> bool| {
            before
                .iter()
                .rev()
                .take(most)
                .take_while(|&&byte| class(byte))
                .count()
        };
        match self {
            Self::Word => is_border(bytes, at).then_some(at),
            Self::Here => Some(at),
            Self::Back(count) => at.checked_sub(count).filter(|&start| is_border(bytes, start)),
            Self::Digits => {
                let count = run(11, |byte| byte.is_ascii_digit());
                at.checked_sub(count)
                    .filter(|&start| (8..=10).contains(&count) && is_border(bytes, start))
            }
            Self::Token => (run(1, |byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
            }) == 0)
                .then_some(at),
            Self::Header => {
                let from = at.saturating_sub(51);
                memchr::memmem::rfind(before.get(from..)?, b"-----BEGIN ")
                    .map(|start| from.saturating_add(start))
            }
            Self::Scheme => {
                // At least two characters, of which the first is a letter.
                let count = run(21, |byte| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'+' | b'.' | b'-')
                });
                before
                    .get(at.saturating_sub(count)..at.saturating_sub(1))?
                    .iter()
                    .any(u8::is_ascii_lowercase)
                    .then_some(at)
            }
            Self::Name => {
                let count = run(40, |byte| {
                    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
                });
                (0..=count)
                    .any(|back| at.checked_sub(back).is_some_and(|start| is_border(bytes, start)))
                    .then_some(end)
            }
        }
    }
}

struct Compiled {
    keywords: AhoCorasick,
    /// The pattern of each keyword.
    owners: Vec<usize>,
    regexes: Vec<Regex>,
}

/// The patterns, compiled when they are first asked for; `None` never, as a test holds.
fn compiled() -> Option<&'static Compiled> {
    static COMPILED: OnceLock<Option<Compiled>> = OnceLock::new();
    COMPILED
        .get_or_init(|| {
            let mut words = Vec::new();
            let mut owners = Vec::new();
            let mut regexes = Vec::new();
            for (at, pattern) in PATTERNS.iter().enumerate() {
                for keyword in pattern.keywords {
                    words.push(*keyword);
                    owners.push(at);
                }
                regexes.push(
                    RegexBuilder::new(pattern.regex)
                        .unicode(false)
                        .size_limit(1 << 23)
                        .build()
                        .ok()?,
                );
            }
            let keywords = AhoCorasick::builder()
                .ascii_case_insensitive(true)
                .match_kind(MatchKind::Standard)
                .build(&words)
                .ok()?;
            Some(Compiled {
                keywords,
                owners,
                regexes,
            })
        })
        .as_ref()
}

/// Finds keys and tokens: those of AWS, GitHub, GitLab, Slack, Google, Stripe, OpenAI, Anthropic and others, JSON web
/// tokens, private keys, passwords in URLs, and values of high entropy assigned to names like `api_key`.
///
/// Default id: `secrets`. It looks at tool calls and at what is said to models, at every string and every name of a
/// member. It blocks; [`SecretsRule::action`] makes it ask or warn. As a [`Redactor`] it takes the secrets out instead
/// (`[REDACTED:AWS_ACCESS_KEY]`). Reasons name kinds, never a secret.
///
/// ```
/// use leash_policy::SecretsRule;
///
/// let found = SecretsRule::new().scan("export KEY=AKIAQ4ZT7WNXR2L5KD3J");
/// assert_eq!(found[0].kind, "AWS_ACCESS_KEY");
/// ```
#[derive(Clone)]
pub struct SecretsRule {
    id: String,
    action: Action,
}

impl fmt::Debug for SecretsRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretsRule")
            .field("id", &self.id)
            .field("action", &self.action)
            .finish()
    }
}

impl Default for SecretsRule {
    fn default() -> Self {
        Self::new()
    }
}

impl SecretsRule {
    /// Blocks calls that hold a secret.
    #[must_use]
    pub fn new() -> Self {
        Self {
            id: "secrets".into(),
            action: Action::Block,
        }
    }

    /// The same under another id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// What it says of a call that holds a secret.
    #[must_use]
    pub const fn action(mut self, action: Action) -> Self {
        self.action = action;
        self
    }

    /// The secrets in `text`, in order; no two overlap.
    #[must_use]
    pub fn scan(&self, text: &str) -> Vec<Span> {
        let mut spans = Vec::new();
        let Some(compiled) = compiled() else { return spans };
        let bytes = text.as_bytes();
        let mut doubts = bytes.len().saturating_mul(DOUBTS).saturating_add(KEY);
        // Where the last secret of each pattern ended.
        let mut looked = [0_usize; PATTERNS.len()];
        for found in compiled.keywords.find_overlapping_iter(bytes) {
            let Some((&owner, at)) = compiled
                .owners
                .get(found.pattern().as_usize())
                .map(|owner| (owner, found.start()))
            else {
                continue;
            };
            let (Some(pattern), Some(regex), Some(seen)) = (
                PATTERNS.get(owner),
                compiled.regexes.get(owner),
                looked.get_mut(owner),
            ) else {
                continue;
            };
            let Some(from) = pattern
                .begins
                .at(bytes, at, found.end())
                .filter(|&from| from >= *seen)
            else {
                continue;
            };
            let reach = if matches!(pattern.begins, Begins::Token) {
                TOKEN
            } else {
                AFTER
            };
            let to = found.end().saturating_add(reach).min(bytes.len());
            let Some(window) = bytes.get(from..to) else {
                continue;
            };
            // Most places are none, and to see that is cheaper than to ask for groups.
            if !regex.is_match(window) {
                continue;
            }
            let Some(secret) = regex.captures(window).and_then(|captures| captures.get(1)) else {
                continue;
            };
            let secret_start = from.saturating_add(secret.start());
            if !is_random(secret.as_bytes(), pattern.entropy)
                || (pattern.kind == "GENERIC_SECRET" && is_reference(secret.as_bytes()))
            {
                doubts = doubts.saturating_sub(secret.len());
                if doubts > 0 {
                    continue;
                }
            }
            let mut end = from.saturating_add(secret.end());
            if pattern.kind == "PRIVATE_KEY" {
                // What follows the header, up to its end or as far as a key may reach.
                let body = bytes
                    .get(end..end.saturating_add(KEY).min(bytes.len()))
                    .unwrap_or(&[]);
                end = match memchr::memmem::find(body, b"-----END ") {
                    Some(footer) => {
                        let footer = end.saturating_add(footer).saturating_add(9);
                        let line = bytes
                            .get(footer..footer.saturating_add(64).min(bytes.len()))
                            .unwrap_or(&[]);
                        footer.saturating_add(
                            memchr::memmem::find(line, b"-----").map_or(0, |at| at.saturating_add(5)),
                        )
                    }
                    None => end.saturating_add(body.len()),
                };
                while !text.is_char_boundary(end) {
                    end = end.saturating_add(1);
                }
            }
            *seen = end;
            spans.push(Span {
                kind: pattern.kind.into(),
                start: secret_start,
                end,
            });
        }
        // The more exact patterns stand first; what overlaps an earlier one is the same secret.
        spans.sort_by_key(|span| (span.start, usize::from(span.kind == "GENERIC_SECRET")));
        let mut end = 0_usize;
        spans.retain(|span| {
            let keep =
                span.start >= end && text.is_char_boundary(span.start) && text.is_char_boundary(span.end);
            if keep {
                end = span.end;
            }
            keep
        });
        spans
    }

    /// `text` without its secrets.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        self.redacted(text).unwrap_or_else(|| text.to_owned())
    }

    fn redacted(&self, text: &str) -> Option<String> {
        let spans = self.scan(text);
        if spans.is_empty() {
            return None;
        }
        let mut out = String::with_capacity(text.len());
        let mut at = 0_usize;
        for span in &spans {
            out.push_str(text.get(at..span.start).unwrap_or(""));
            out.push_str("[REDACTED:");
            out.push_str(&span.kind);
            out.push(']');
            at = span.end;
        }
        out.push_str(text.get(at..).unwrap_or(""));
        Some(out)
    }

    /// The kinds of secrets in a document; `None` where it is nested too deeply.
    fn kinds(&self, value: &Value, depth: u32, kinds: &mut Vec<String>) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        let deeper = depth.saturating_add(1);
        let mut note = |text: &str| {
            for span in self.scan(text) {
                if !kinds.iter().any(|kind| *kind == span.kind) {
                    kinds.push(span.kind.into_owned());
                }
            }
        };
        match value {
            Value::String(text) => note(text),
            Value::Array(items) => {
                for item in items {
                    self.kinds(item, deeper, kinds)?;
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    if name.len() >= 16 {
                        note(name);
                    }
                    // `"password": "…"`: the name and the value make the pair.
                    if let Value::String(text) = member
                        && is_secret_name(name)
                        && text.len() < 512
                    {
                        note(&format!("{name}={text}"));
                    }
                }
                for member in members.values() {
                    self.kinds(member, deeper, kinds)?;
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
        Some(())
    }

    fn redact_value(&self, value: &mut Value, depth: u32) -> Option<bool> {
        if depth > MAX_DEPTH {
            return None;
        }
        let deeper = depth.saturating_add(1);
        match value {
            Value::String(text) => match self.redacted(text) {
                Some(redacted) => {
                    *text = redacted;
                    Some(true)
                }
                None => Some(false),
            },
            Value::Array(items) => {
                let mut changed = false;
                for item in items {
                    changed |= self.redact_value(item, deeper)?;
                }
                Some(changed)
            }
            Value::Object(members) => {
                let mut changed = false;
                for (name, member) in members.iter_mut() {
                    if let Value::String(text) = member
                        && is_secret_name(name)
                        && text.len() < 512
                        && !self.scan(&format!("{name}={text}")).is_empty()
                        && self.scan(text).is_empty()
                    {
                        *text = "[REDACTED:GENERIC_SECRET]".to_owned();
                        changed = true;
                    }
                    changed |= self.redact_value(member, deeper)?;
                }
                if members
                    .keys()
                    .any(|name| name.len() >= 16 && !self.scan(name).is_empty())
                {
                    changed = true;
                    let mut renamed = Map::new();
                    // In order of the names, so that the counts do not depend on how the map keeps them.
                    let mut all: Vec<(String, Value)> = std::mem::take(members).into_iter().collect();
                    all.sort_by(|one, other| one.0.cmp(&other.0));
                    for (name, member) in all {
                        let name = self.redact(&name);
                        let mut unique = name.clone();
                        let mut count = 1_u32;
                        while renamed.contains_key(&unique) {
                            count = count.saturating_add(1);
                            unique = format!("{name} ({count})");
                        }
                        renamed.insert(unique, member);
                    }
                    *members = renamed;
                }
                Some(changed)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Some(false),
        }
    }

    /// The same as a redactor that stands among others.
    #[must_use]
    pub fn into_redactor(self) -> Arc<dyn Redactor> {
        Arc::new(self)
    }
}

impl Rule for SecretsRule {
    fn id(&self) -> &str {
        &self.id
    }

    fn evaluate(&self, call: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        if compiled().is_none() {
            return Err(RuleError::new("its patterns cannot be compiled"));
        }
        let mut kinds = Vec::new();
        self.kinds(call.content().value(), 0, &mut kinds)
            .ok_or_else(|| RuleError::new("the arguments are nested too deeply"))?;
        if kinds.is_empty() {
            return Ok(None);
        }
        kinds.sort_unstable();
        Ok(Some(Decision::new(
            self.action,
            self.id.clone(),
            format!("holds a secret: {}", kinds.join(", ")),
        )))
    }
}

impl Redactor for SecretsRule {
    fn redact(&self, document: &Json) -> Result<Option<Json>, RuleError> {
        if compiled().is_none() {
            return Err(RuleError::new("the patterns of secrets cannot be compiled"));
        }
        let mut value = document.value().clone();
        match self.redact_value(&mut value, 0) {
            Some(false) => Ok(None),
            Some(true) => Ok(Some(Json::from(value))),
            None => Err(RuleError::new("the document is nested too deeply to be redacted")),
        }
    }
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [
        "secret",
        "token",
        "passw",
        "api_key",
        "apikey",
        "api-key",
        "access_key",
        "private_key",
        "credential",
    ]
    .iter()
    .any(|word| name.contains(word))
        && ![
            "max_tokens",
            "tokens",
            "token_count",
            "token_type",
            "next_page_token",
            "page_token",
        ]
        .iter()
        .any(|plain| name.ends_with(plain))
}

/// What only names a secret: a variable, a placeholder, code.
fn is_reference(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else {
        return false;
    };
    let lower = text.to_ascii_lowercase();
    let placeholder = [
        "example",
        "changeme",
        "your",
        "xxxx",
        "placeholder",
        "redacted",
        "dummy",
        "sample",
        "<",
        "${",
        "process.env",
        "os.environ",
        "getenv",
        "secrets.",
    ]
    .iter()
    .any(|word| lower.contains(word));
    let code = text.contains("()")
        || text.split('.').count() > 2
            && text.split('.').all(|part| {
                part.bytes()
                    .all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
            });
    let digits = text.bytes().any(|byte| byte.is_ascii_digit());
    let cases = text.bytes().any(|byte| byte.is_ascii_uppercase())
        && text.bytes().any(|byte| byte.is_ascii_lowercase());
    placeholder
        || code
        || !digits
        || !(cases
            || text.bytes().all(|byte| byte.is_ascii_hexdigit())
            || text.bytes().any(|byte| b"+/!@#%^&*".contains(&byte)))
}

/// Whether the entropy of `value` is at least `least` hundredths of a bit a byte.
#[expect(clippy::float_arithmetic, reason = "entropy is a logarithm")]
fn is_random(value: &[u8], least: u32) -> bool {
    if least == 0 {
        return true;
    }
    let mut counts = [0_u32; 256];
    for &byte in value {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count = count.saturating_add(1);
        }
    }
    let Ok(length) = u32::try_from(value.len()) else {
        return true;
    };
    let total = f64::from(length);
    let bits: f64 = counts
        .iter()
        .filter(|&&count| count > 0)
        .map(|&count| {
            let share = f64::from(count) / total;
            -share * share.log2()
        })
        .sum();
    bits * 100.0 >= f64::from(least)
}
