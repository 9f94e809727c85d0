//! Keys and tokens that must not leave: [`SecretsRule`].
#![expect(clippy::assigning_clones, reason = "the text is replaced as a whole")]

use std::fmt;
use std::sync::{Arc, LazyLock, OnceLock};

use aho_corasick::{AhoCorasick, MatchKind};
use leash_core::{Action, Call, Decision, Json, PolicyContext, Redactor, Rule, RuleError};
use regex::bytes::{CaptureLocations, Regex, RegexBuilder};
use serde_json::{Map, Value};

use crate::pii::Span;

/// How deep a document may be nested.
const MAX_DEPTH: u32 = 512;
/// How far from a keyword its secret may end, in bytes.
const AFTER: usize = 512;
/// How often what was redacted is looked at again.
const MAX_PASSES: u32 = 16;
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
static PATTERNS: [Pattern; 44] = [
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
        &[
            "glpat-", "gldt-", "glrt-", "glcbt-", "glptt-", "gloas-", "glsoat-", "glft-", "glimt-",
            "glagent-",
        ],
        Begins::Word,
        r"\A(gl(?:pat|dt|rt|cbt|ptt|oas|soat|ft|imt|agent)-[A-Za-z0-9_.-]{20,100})",
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
        &["sk-proj-", "sk-svcacct-", "sk-admin-", "sk-none-"],
        Begins::Word,
        r"\A(sk-(?:proj|svcacct|admin|None)-[A-Za-z0-9_-]{20,220})",
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
        r"\A://[^\s/:@'\x22<>]{0,64}:([^\s/@'\x22<>$\{\}\[\]]{3,128})@[A-Za-z0-9]",
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
            "account_key",
            "accountkey",
            "encryption_key",
            "encryptionkey",
            "signing_key",
            "signingkey",
            "master_key",
            "masterkey",
            "app_key",
            "appkey",
            "license_key",
            "client-key-data",
            "passphrase",
            "_pass",
            "_auth",
            "auth_token",
            "auth-token",
            "authtoken",
            "server_token",
            "_pwd",
            ";pwd",
        ],
        Begins::Name,
        r#"(?i)\A[a-z0-9_.-]{0,20}["']?\s{0,24}(?:=>?|:=?|>)\s{0,24}["'`]?((?:[a-z0-9+/_.~!@#%^&*-]){12,256}={0,2})"#,
        340,
    ),
    pattern(
        "GENERIC_SECRET",
        &[
            "--password ",
            "--passwd ",
            "--passphrase ",
            "--secret ",
            "--client-secret ",
            "--token ",
            "--access-token ",
            "--auth-token ",
            "--api-token ",
            "--api-key ",
            "--apikey ",
            "--access-key ",
            "--secret-key ",
            "--private-key ",
        ],
        Begins::Here,
        r#"(?i)\A--[a-z-]{1,20} {1,3}["']?((?:[a-z0-9+/_.~!@#%^&*-]){12,256}={0,2})"#,
        340,
    ),
    pattern(
        "BEARER_TOKEN",
        &["bearer ", "authorization: token "],
        Begins::Word,
        r"(?i)\A(?:bearer|authorization: token) {1,3}([a-z0-9._~+/-]{20,512}={0,2})",
        340,
    ),
    pattern(
        "BASIC_AUTH",
        &["basic "],
        Begins::Word,
        r"(?i)\Abasic {1,3}([a-z0-9+/]{8,512}={0,2})",
        200,
    ),
    pattern(
        "NETRC_PASSWORD",
        &["login "],
        Begins::Word,
        r"\Alogin\s{1,3}[^\s]{1,64}\s{1,8}password\s{1,3}([^\s$<{\[]{6,128})",
        200,
    ),
    pattern(
        "GOOGLE_OAUTH_TOKEN",
        &["1//0"],
        Begins::Word,
        r"\A(1//0[A-Za-z0-9_-]{40,200})",
        300,
    ),
    pattern(
        "AZURE_SIGNATURE",
        &["sig="],
        Begins::Word,
        r"\Asig=([A-Za-z0-9%]{40,80}%3[dD])",
        300,
    ),
    pattern(
        "TEAMS_WEBHOOK",
        &["webhook.office.com/webhookb2/"],
        Begins::Here,
        r"\A(webhook\.office\.com/webhookb2/[A-Za-z0-9@/-]{60,300})",
        300,
    ),
    pattern(
        "BASIC_AUTH",
        &["\"auth\""],
        Begins::Here,
        r#"\A"auth"\s{0,3}:\s{0,3}"([A-Za-z0-9+/]{8,490}={0,2})""#,
        200,
    ),
    pattern(
        "COMMAND_PASSWORD",
        &["-u ", "--user "],
        Begins::Here,
        r#"\A(?:-u|--user) {1,2}['"]?[A-Za-z0-9_.@+-]{1,64}:([^\s'"$<{\[]{8,128})"#,
        300,
    ),
    pattern(
        "COMMAND_PASSWORD",
        &["sshpass -p"],
        Begins::Word,
        r#"\Asshpass -p ?['"]?([^\s'"$<{\[]{6,128})"#,
        200,
    ),
    pattern(
        "MAILCHIMP_KEY",
        &["-us"],
        Begins::Back(32),
        r"\A([0-9a-f]{32}-us[0-9]{1,2})\b",
        300,
    ),
    pattern(
        "TERRAFORM_TOKEN",
        &[".atlasv1."],
        Begins::Back(14),
        r"\A([A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_-]{60,70})",
        300,
    ),
    pattern(
        "PRIVATE_KEY",
        &["private-lines: "],
        Begins::Word,
        r"\APrivate-Lines: [0-9]{1,3}\s{1,2}([A-Za-z0-9+/=\r\n]{16,490})",
        300,
    ),
];

/// What the rest of a token with a prefix is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    Hex,
    Alphanumeric,
    /// And `_`, `-`.
    Url,
    /// And `_`, `-`, `.`, `$`, `+`, `/`.
    Any,
}

impl Rest {
    const fn has(self, byte: u8) -> bool {
        match self {
            Self::Hex => byte.is_ascii_hexdigit(),
            Self::Alphanumeric => byte.is_ascii_alphanumeric(),
            Self::Url => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
            Self::Any => {
                byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'$' | b'+' | b'/' | b'=')
            }
        }
    }
}

/// A token that a prefix, in this case, begins, and so many characters follow.
struct Prefix {
    kind: &'static str,
    begin: &'static str,
    rest: Rest,
    least: usize,
    most: usize,
}

const fn prefix(kind: &'static str, begin: &'static str, rest: Rest, least: usize, most: usize) -> Prefix {
    Prefix {
        kind,
        begin,
        rest,
        least,
        most,
    }
}

/// Tokens that are told by how they begin and how long they are, as their issuers document them.
static PREFIXES: [Prefix; 69] = [
    prefix("GITLAB_TOKEN", "GR1348941", Rest::Url, 20, 27),
    prefix("OPENROUTER_KEY", "sk-or-v1-", Rest::Hex, 64, 64),
    prefix("XAI_KEY", "xai-", Rest::Alphanumeric, 70, 90),
    prefix("PERPLEXITY_KEY", "pplx-", Rest::Alphanumeric, 40, 64),
    prefix("REPLICATE_TOKEN", "r8_", Rest::Alphanumeric, 37, 37),
    prefix("HUGGINGFACE_TOKEN", "api_org_", Rest::Alphanumeric, 30, 40),
    prefix("NVIDIA_KEY", "nvapi-", Rest::Url, 60, 70),
    prefix("CEREBRAS_KEY", "csk-", Rest::Alphanumeric, 40, 64),
    prefix("ELEVENLABS_KEY", "sk_", Rest::Hex, 48, 48),
    prefix("LANGSMITH_KEY", "lsv2_pt_", Rest::Url, 40, 50),
    prefix("LANGSMITH_KEY", "lsv2_sk_", Rest::Url, 40, 50),
    prefix("PINECONE_KEY", "pcsk_", Rest::Url, 50, 80),
    prefix("TAVILY_KEY", "tvly-", Rest::Url, 32, 50),
    prefix("FIRECRAWL_KEY", "fc-", Rest::Hex, 32, 32),
    prefix("JINA_KEY", "jina_", Rest::Alphanumeric, 56, 64),
    prefix("E2B_KEY", "e2b_", Rest::Hex, 40, 40),
    prefix("DOCKER_TOKEN", "dckr_pat_", Rest::Url, 27, 36),
    prefix("DOCKER_TOKEN", "dckr_oat_", Rest::Url, 27, 36),
    prefix("DOPPLER_TOKEN", "dp.pt.", Rest::Alphanumeric, 40, 44),
    prefix("DOPPLER_TOKEN", "dp.st.", Rest::Any, 40, 80),
    prefix("DATABRICKS_TOKEN", "dapi", Rest::Hex, 32, 32),
    prefix("ATLASSIAN_TOKEN", "ATATT3", Rest::Any, 60, 250),
    prefix("ATLASSIAN_TOKEN", "ATCTT3", Rest::Any, 60, 250),
    prefix("LINEAR_KEY", "lin_api_", Rest::Alphanumeric, 40, 40),
    prefix("NOTION_TOKEN", "ntn_", Rest::Alphanumeric, 40, 50),
    prefix("NOTION_TOKEN", "secret_", Rest::Alphanumeric, 43, 43),
    prefix("POSTMAN_KEY", "PMAK-", Rest::Url, 59, 59),
    prefix("FLY_TOKEN", "fo1_", Rest::Url, 43, 43),
    prefix("FLY_TOKEN", "fm2_", Rest::Any, 100, 4000),
    prefix("NETLIFY_TOKEN", "nfp_", Rest::Alphanumeric, 36, 36),
    prefix("RENDER_KEY", "rnd_", Rest::Alphanumeric, 28, 40),
    prefix("SUPABASE_TOKEN", "sbp_", Rest::Hex, 40, 40),
    prefix("PLANETSCALE_TOKEN", "pscale_tkn_", Rest::Url, 32, 64),
    prefix("PLANETSCALE_TOKEN", "pscale_pw_", Rest::Url, 32, 64),
    prefix("TAILSCALE_KEY", "tskey-auth-", Rest::Url, 30, 64),
    prefix("TAILSCALE_KEY", "tskey-api-", Rest::Url, 30, 64),
    prefix("TAILSCALE_KEY", "tskey-client-", Rest::Url, 30, 64),
    prefix("GRAFANA_TOKEN", "glsa_", Rest::Url, 41, 41),
    prefix("GRAFANA_TOKEN", "glc_", Rest::Any, 40, 400),
    prefix("FIGMA_TOKEN", "figd_", Rest::Url, 40, 44),
    prefix("ONEPASSWORD_TOKEN", "ops_eyJ", Rest::Any, 200, 2000),
    prefix("ALIBABA_KEY", "LTAI", Rest::Alphanumeric, 20, 20),
    prefix("RUBYGEMS_KEY", "rubygems_", Rest::Hex, 48, 48),
    prefix("NUGET_KEY", "oy2", Rest::Alphanumeric, 43, 43),
    prefix("CLOJARS_TOKEN", "CLOJARS_", Rest::Hex, 60, 60),
    prefix("BUILDKITE_TOKEN", "bkua_", Rest::Hex, 40, 40),
    prefix("CIRCLECI_TOKEN", "CCIPAT_", Rest::Url, 50, 80),
    prefix("PULUMI_TOKEN", "pul-", Rest::Hex, 40, 40),
    prefix("AWS_BEDROCK_KEY", "ABSK", Rest::Any, 100, 200),
    prefix("DUFFEL_TOKEN", "duffel_live_", Rest::Url, 43, 43),
    prefix("MAPBOX_TOKEN", "sk.eyJ", Rest::Any, 60, 120),
    prefix("POSTHOG_KEY", "phx_", Rest::Alphanumeric, 40, 50),
    prefix("SQUARE_TOKEN", "sq0atp-", Rest::Url, 22, 22),
    prefix("SQUARE_TOKEN", "sq0csp-", Rest::Url, 43, 43),
    prefix("SQUARE_TOKEN", "EAAA", Rest::Url, 60, 60),
    prefix("BRAINTREE_TOKEN", "access_token$production$", Rest::Any, 49, 49),
    prefix("HEROKU_KEY", "HRKU-", Rest::Url, 36, 80),
    prefix("NEW_RELIC_KEY", "NRAK-", Rest::Alphanumeric, 27, 27),
    prefix("SENTRY_TOKEN", "sntrys_", Rest::Any, 60, 400),
    prefix("SENTRY_TOKEN", "sntryu_", Rest::Hex, 64, 64),
    prefix("BREVO_KEY", "xkeysib-", Rest::Url, 81, 81),
    prefix("HUBSPOT_TOKEN", "pat-na1-", Rest::Url, 36, 36),
    prefix("AWS_MWS_TOKEN", "amzn.mws.", Rest::Url, 36, 36),
    prefix("ADAFRUIT_KEY", "aio_", Rest::Alphanumeric, 28, 28),
    prefix("FIREWORKS_KEY", "fw_", Rest::Alphanumeric, 22, 24),
    prefix("CRATES_TOKEN", "cio", Rest::Alphanumeric, 32, 32),
    prefix("RESEND_KEY", "re_", Rest::Url, 33, 33),
    prefix("VAULT_TOKEN", "s.", Rest::Alphanumeric, 24, 24),
    prefix("GRAFANA_TOKEN", "eyJrIjoi", Rest::Any, 60, 200),
];

impl Prefix {
    /// Where the token ends that begins at `at`, if one does.
    fn end(&self, bytes: &[u8], at: usize) -> Option<usize> {
        if !is_border(bytes, at) || !bytes.get(at..)?.starts_with(self.begin.as_bytes()) {
            return None;
        }
        let start = at.saturating_add(self.begin.len());
        let count = bytes
            .get(start..)?
            .iter()
            .take(self.most.saturating_add(1))
            .take_while(|byte| self.rest.has(**byte))
            .count();
        let end = start.saturating_add(count);
        let whole = (self.least..=self.most).contains(&count)
            && !bytes
                .get(end)
                .is_some_and(|next| next.is_ascii_alphanumeric() || *next == b'_');
        let token = bytes.get(start..end)?;
        (whole && is_random(token, 300) && is_scrambled(token)).then_some(end)
    }
}

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
                at.checked_sub(count).filter(|&start| {
                    let bot = bytes.get(..start).is_some_and(|head| head.ends_with(b"/bot"));
                    (8..=10).contains(&count) && (bot || is_border(bytes, start))
                })
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
            for (at, prefix) in PREFIXES.iter().enumerate() {
                words.push(prefix.begin);
                owners.push(PATTERNS.len().saturating_add(at));
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
        // Where the last secret of each pattern ended, and room for the groups of each.
        let mut looked = [0_usize; PATTERNS.len()];
        let mut rooms: [Option<CaptureLocations>; PATTERNS.len()] = std::array::from_fn(|_| None);
        for found in compiled.keywords.find_overlapping_iter(bytes) {
            let Some((&owner, at)) = compiled
                .owners
                .get(found.pattern().as_usize())
                .map(|owner| (owner, found.start()))
            else {
                continue;
            };
            if let Some(prefix) = owner.checked_sub(PATTERNS.len()).and_then(|at| PREFIXES.get(at)) {
                spans.extend(prefix.end(bytes, at).map(|end| Span {
                    kind: prefix.kind.into(),
                    start: at,
                    end,
                }));
                continue;
            }
            let (Some(pattern), Some(regex), Some(seen), Some(locations)) = (
                PATTERNS.get(owner),
                compiled.regexes.get(owner),
                looked.get_mut(owner),
                rooms.get_mut(owner),
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
            let groups = locations.get_or_insert_with(|| regex.capture_locations());
            if regex.captures_read(groups, window).is_none() {
                continue;
            }
            let Some((first, last)) = groups.get(1) else {
                continue;
            };
            let secret = window.get(first..last).unwrap_or(&[]);
            let secret_start = from.saturating_add(first);
            let keyword = bytes.get(at..found.end()).unwrap_or(&[]);
            if !is_secret(pattern, keyword, secret) {
                doubts = doubts.saturating_sub(secret.len());
                if doubts > 0 {
                    continue;
                }
            }
            let mut end = from.saturating_add(last);
            if pattern.kind == "PRIVATE_KEY" {
                end = key_end(text, end);
            }
            *seen = end;
            spans.push(Span {
                kind: pattern.kind.into(),
                start: secret_start,
                end,
            });
        }
        // Of those that begin together the more exact comes first; what overlaps an earlier one is the same secret.
        let vague = |span: &Span| matches!(&*span.kind, "GENERIC_SECRET" | "BEARER_TOKEN" | "URL_PASSWORD");
        spans.sort_by_key(|span| (span.start, vague(span)));
        whole(text, spans)
    }

    /// `text` without its secrets.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        self.redacted(text).unwrap_or_else(|| text.to_owned())
    }

    fn redacted(&self, text: &str) -> Option<String> {
        let mut out = self.redacted_once(text)?;
        // What a value was part of may have made it look harmless, so that it is found once that is gone.
        for _ in 0..MAX_PASSES {
            let Some(again) = self.redacted_once(&out) else {
                break;
            };
            out = again;
        }
        Some(out)
    }

    fn redacted_once(&self, text: &str) -> Option<String> {
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

/// Where a private key ends of which the header ends at `end`: behind its footer, or as far as a key may reach.
fn key_end(text: &str, end: usize) -> usize {
    let bytes = text.as_bytes();
    let body = bytes
        .get(end..end.saturating_add(KEY).min(bytes.len()))
        .unwrap_or(&[]);
    let mut end = match memchr::memmem::find(body, b"-----END ") {
        Some(footer) => {
            let footer = end.saturating_add(footer).saturating_add(9);
            let line = bytes
                .get(footer..footer.saturating_add(64).min(bytes.len()))
                .unwrap_or(&[]);
            footer.saturating_add(memchr::memmem::find(line, b"-----").map_or(0, |at| at.saturating_add(5)))
        }
        None => end.saturating_add(body.len()),
    };
    while !text.is_char_boundary(end) {
        end = end.saturating_add(1);
    }
    end
}

/// Findings, in order, of which none overlaps another, with the whole of the words that they end in.
fn whole(text: &str, mut spans: Vec<Span>) -> Vec<Span> {
    let bytes = text.as_bytes();
    spans.retain(|span| text.is_char_boundary(span.start) && text.is_char_boundary(span.end));
    // What is left of a word behind a secret goes with it: it may be of the secret, and without it another might begin
    // there.
    let word_end = |end: usize| {
        let rest = bytes.get(end..).unwrap_or(&[]);
        let word = rest
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        end.saturating_add(word.count())
    };
    let mut whole: Vec<Span> = Vec::with_capacity(spans.len());
    for mut span in spans {
        match whole.last_mut() {
            Some(before) if span.start < before.end => {
                if span.end > before.end {
                    before.end = word_end(span.end);
                }
            }
            _ => {
                span.end = word_end(span.end);
                whole.push(span);
            }
        }
    }
    whole
}

/// Whether what has the form of a pattern is a secret.
fn is_secret(pattern: &Pattern, keyword: &[u8], secret: &[u8]) -> bool {
    let bare = secret.strip_prefix(b"0x").unwrap_or(secret);
    // Sixteen signs can say less than sixty-four, and few less than many.
    let least = if is_scrambled(bare) {
        pattern.entropy.min(300)
    } else {
        pattern.entropy
    };
    if !is_random(secret, least) {
        return false;
    }
    match pattern.kind {
        "GENERIC_SECRET" => {
            // Many things are named by a UUID, and called a token; a key or a password is none of them.
            let vague = [
                &b"token"[..],
                b"credential",
                b"access_key",
                b"access-key",
                b"accesskey",
            ];
            let plain = vague.iter().any(|word| word.eq_ignore_ascii_case(keyword));
            !is_reference(bare) || (!plain && is_uuid(secret))
        }
        "BEARER_TOKEN" => !is_reference(bare),
        "COMMAND_PASSWORD" => !is_reference(bare) && !is_stand_in(secret),
        // The one of the manuals.
        "AWS_ACCESS_KEY" => !secret.ends_with(b"EXAMPLE"),
        "URL_PASSWORD" | "NETRC_PASSWORD" => !is_stand_in(secret),
        "BASIC_AUTH" => holds_a_password(secret),
        _ => true,
    }
}

/// Whether capitals, small letters and digits follow each other as they do by chance, and not as in words.
fn is_scrambled(value: &[u8]) -> bool {
    let class = |byte: u8| match byte {
        b'a'..=b'z' => 1_u8,
        b'A'..=b'Z' => 2,
        b'0'..=b'9' => 3,
        _ => 0,
    };
    let mut turns = 0_usize;
    let mut before = 0;
    let mut digits = false;
    for &byte in value {
        let now = class(byte);
        digits |= now == 3;
        if now != 0 && before != 0 && now != before {
            turns = turns.saturating_add(1);
        }
        before = now;
    }
    // `camelCaseNames` turn often, too, and have few digits.
    if digits {
        turns.saturating_mul(4) >= value.len()
    } else {
        turns.saturating_mul(5) >= value.len().saturating_mul(2)
    }
}

fn is_uuid(value: &[u8]) -> bool {
    value.len() == 36
        && value.iter().enumerate().all(|(at, byte)| {
            if matches!(at, 8 | 13 | 18 | 23) {
                *byte == b'-'
            } else {
                byte.is_ascii_hexdigit()
            }
        })
        && value.iter().any(|byte| matches!(byte, b'1'..=b'9'))
}

/// A password of examples and of containers that only their own machine reaches.
fn is_stand_in(value: &[u8]) -> bool {
    const WORDS: [&str; 24] = [
        "admin",
        "changeit",
        "changeme",
        "example",
        "guest",
        "minioadmin",
        "mypass",
        "mypassword",
        "mysecretpassword",
        "pass",
        "passwd",
        "password",
        "postgres",
        "pswd",
        "pwd",
        "root",
        "sample",
        "secret",
        "test",
        "user",
        "username",
        "yourpassword",
        "your-password",
        "your_password",
    ];
    let masked = value
        .iter()
        .all(|byte| matches!(byte, b'*' | b'x' | b'X' | b'.' | b'-' | b'_'));
    masked
        || WORDS
            .iter()
            .any(|word| word.as_bytes().eq_ignore_ascii_case(value))
}

/// Whether `value` is a user's name and a password in Base64.
fn holds_a_password(value: &[u8]) -> bool {
    let mut decoded = Vec::new();
    let (mut bits, mut count) = (0_u32, 0_u32);
    for byte in value.iter().filter(|byte| **byte != b'=') {
        let six = match byte {
            b'A'..=b'Z' => byte.saturating_sub(b'A'),
            b'a'..=b'z' => byte.saturating_sub(b'a').saturating_add(26),
            b'0'..=b'9' => byte.saturating_sub(b'0').saturating_add(52),
            b'+' => 62,
            _ => 63,
        };
        bits = (bits << 6 | u32::from(six)) & 0xffff;
        count = count.saturating_add(6);
        if count >= 8 {
            count = count.saturating_sub(8);
            decoded.push(u8::try_from((bits >> count) & 0xff).unwrap_or(0));
        }
    }
    let printable = decoded.iter().all(|byte| (b' '..=b'~').contains(byte));
    let at = decoded.iter().position(|byte| *byte == b':');
    let password = at.and_then(|at| decoded.get(at.saturating_add(1)..));
    printable && password.is_some_and(|password| password.len() >= 3 && !is_stand_in(password))
}

/// Words of what only stands for a secret.
static PLACEHOLDERS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .build([
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
        ])
        .ok()
});

/// What only names a secret: a variable, a placeholder, code.
fn is_reference(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else {
        return false;
    };
    let placeholder = PLACEHOLDERS.as_ref().is_some_and(|words| words.is_match(text));
    let code = text.contains("()")
        || text.split('.').count() > 2
            && text.split('.').all(|part| {
                part.bytes()
                    .all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
            });
    let digits = text.bytes().any(|byte| byte.is_ascii_digit());
    let scrambled = is_scrambled(value) && !is_uuid(value);
    let path = text.starts_with(['/', '~', '.']) && text.matches('/').count() > 1 && !scrambled;
    let cases = text.bytes().any(|byte| byte.is_ascii_uppercase())
        && text.bytes().any(|byte| byte.is_ascii_lowercase());
    placeholder
        || code
        || path
        || !(digits || scrambled && !text.contains(['.', '-', '_']))
        || !(cases
            || scrambled
            || text.bytes().all(|byte| byte.is_ascii_hexdigit())
            || text.bytes().any(|byte| b"!@#%^&*".contains(&byte)))
}

/// `n` times its logarithm to the base of two, for each `n` up to the length of most secrets.
static LOGARITHMS: LazyLock<[f64; 513]> =
    LazyLock::new(|| std::array::from_fn(|at| u32::try_from(at).map_or(0.0, of_logarithm)));

#[expect(clippy::float_arithmetic, reason = "entropy is a logarithm")]
fn of_logarithm(count: u32) -> f64 {
    let count = f64::from(count);
    if count > 1.0 { count * count.log2() } else { 0.0 }
}

/// Whether the entropy of `value` is at least `least` hundredths of a bit a byte.
#[expect(clippy::float_arithmetic, reason = "entropy is a logarithm")]
fn is_random(value: &[u8], least: u32) -> bool {
    if least == 0 {
        return true;
    }
    let known = &*LOGARITHMS;
    let weight = |count: u32| {
        let at = usize::try_from(count).ok();
        at.and_then(|at| known.get(at))
            .copied()
            .unwrap_or_else(|| of_logarithm(count))
    };
    // With `c` of `n` bytes alike, for each kind of byte, it is the logarithm of `n` less the sum of `c log c` over `n`.
    let mut counts = [0_u32; 256];
    let mut sum = 0.0;
    for &byte in value {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            let more = count.saturating_add(1);
            sum += weight(more) - weight(*count);
            *count = more;
        }
    }
    let Ok(length) = u32::try_from(value.len()) else {
        return true;
    };
    (weight(length) - sum) * 100.0 >= f64::from(least) * f64::from(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_with_a_prefix_is_told_by_its_length() {
        for prefix in &PREFIXES {
            let rest = match prefix.rest {
                Rest::Hex => "a1b2c3d4e5f60718293a4b5c6d7e8f90",
                _ => "a1B2c3D4e5F6g7H8i9J0kLmNoPqRsTuVwXyZ",
            };
            let token = |length: usize| {
                let rest: String = rest.chars().cycle().take(length).collect();
                format!("{}{rest}", prefix.begin)
            };
            for length in [prefix.least, prefix.most] {
                let text = format!("x {} y", token(length));
                let found = SecretsRule::new().scan(&text);
                let found: Vec<_> = found
                    .iter()
                    .map(|span| (&*span.kind, span.start, span.end))
                    .collect();
                assert_eq!(found, [(prefix.kind, 2, text.len() - 2)], "{text}");
            }
            assert_eq!(prefix.end(token(prefix.least - 1).as_bytes(), 0), None);
            assert_eq!(prefix.end(token(prefix.most + 1).as_bytes(), 0), None);
            assert_eq!(
                prefix.end(format!("x{}", token(prefix.least)).as_bytes(), 1),
                None
            );
        }
    }

    #[test]
    fn entropy_is_counted_by_bytes() {
        assert!(is_random(b"ab", 100) && !is_random(b"ab", 101));
        assert!(is_random(b"abcdefgh", 300) && !is_random(b"abcdefgh", 301));
        assert!(!is_random(b"aaaaaaaa", 1));
        assert!(is_random(&b"ab".repeat(1_000), 99) && !is_random(&b"ab".repeat(1_000), 101));
    }
}
