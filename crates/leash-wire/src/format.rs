//! Which call it is, by method and path: [`classify`]. Reads no body.

/// A wire format that can be metered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// `POST /v1/messages`.
    AnthropicMessages,
    /// `POST /v1/chat/completions`.
    OpenAiChat,
    /// `POST /v1/responses`.
    OpenAiResponses,
}

impl Format {
    /// Who speaks it, as the log and the price table name it: `anthropic` or `openai`.
    #[must_use]
    pub const fn provider(self) -> &'static str {
        match self {
            Self::AnthropicMessages => "anthropic",
            Self::OpenAiChat | Self::OpenAiResponses => "openai",
        }
    }
}

/// A call that costs nothing and answers no prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FreeEndpoint {
    /// `GET /v1/models` or `GET /v1/models/{id}`.
    Models,
    /// `POST /v1/messages/count_tokens`, `POST /v1/responses/input_tokens`.
    ///
    /// The prompt goes to the provider all the same, so redaction still matters.
    CountTokens,
    /// `POST /v1/moderations`, which OpenAI does not bill.
    Moderations,
}

/// What a method and a path ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// A model call that can be metered.
    Model(Format),
    /// Known to cost nothing: it may pass.
    Free(FreeEndpoint),
    /// Known, and not meterable here: it must be refused. The name is for the reason.
    Unsupported(&'static str),
    /// Not known, so it may cost anything: it must be refused.
    Unknown,
}

/// What first path segments (after a prefix) of known endpoints are called when they are refused.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("embeddings", "embeddings"),
    ("completions", "legacy completions"),
    ("complete", "legacy text completions"),
    ("batches", "batches"),
    ("images", "images"),
    ("videos", "videos"),
    ("audio", "audio"),
    ("realtime", "realtime"),
    ("files", "files"),
    ("uploads", "uploads"),
    ("assistants", "assistants"),
    ("threads", "threads"),
    ("fine_tuning", "fine-tuning"),
    ("vector_stores", "vector stores"),
    ("containers", "containers"),
    ("conversations", "conversations"),
    ("evals", "evals"),
    ("skills", "skills"),
    ("responses", "stored responses"),
    ("chat", "stored chat completions"),
    ("messages", "message batches"),
    ("models", "changes of models"),
];

/// Says what a call of `method` on `path` is.
///
/// `path` may carry a query and a prefix (`/openai/v1/chat/completions`, Azure's
/// `/openai/deployments/{name}/chat/completions`) and one trailing slash. It is never decoded: percent signs, empty
/// segments, dots and anything else that two servers could read differently make it [`Endpoint::Unknown`], and only
/// the exact names of free calls are free.
///
/// ```
/// use leash_wire::{Endpoint, Format, classify};
///
/// assert_eq!(classify("POST", "/v1/messages?beta=true"), Endpoint::Model(Format::AnthropicMessages));
/// assert_eq!(classify("POST", "/v1/embeddings"), Endpoint::Unsupported("embeddings"));
/// assert_eq!(classify("GET", "/v1/models/../messages"), Endpoint::Unknown);
/// ```
#[must_use]
pub fn classify(method: &str, path: &str) -> Endpoint {
    let Some(segments) = segments(path) else {
        return Endpoint::Unknown;
    };
    let is_post = method == "POST";
    let is_get = method == "GET";
    match segments.as_slice() {
        [.., "v1", "messages"] if is_post => return Endpoint::Model(Format::AnthropicMessages),
        // Compatible servers have it under other prefixes, or none.
        [.., "chat", "completions"] if is_post => return Endpoint::Model(Format::OpenAiChat),
        [.., "v1" | "openai", "responses"] if is_post => return Endpoint::Model(Format::OpenAiResponses),
        [.., "v1", "models"] | [.., "v1", "models", _] if is_get => {
            return Endpoint::Free(FreeEndpoint::Models);
        }
        [.., "v1", "messages", "count_tokens"] | [.., "v1", "responses", "input_tokens"] if is_post => {
            return Endpoint::Free(FreeEndpoint::CountTokens);
        }
        [.., "v1", "moderations"] if is_post => return Endpoint::Free(FreeEndpoint::Moderations),
        _ => {}
    }
    let known = |wanted: &str| {
        UNSUPPORTED
            .iter()
            .find(|(segment, _)| *segment == wanted)
            .map(|(_, name)| *name)
    };
    let after = |marker: &str, skip: usize| {
        let at = segments.iter().rposition(|segment| *segment == marker)?;
        segments
            .get(at.checked_add(skip)?)
            .and_then(|segment| known(segment))
    };
    match after("v1", 1).or_else(|| after("deployments", 2)) {
        Some(name) => Endpoint::Unsupported(name),
        None => Endpoint::Unknown,
    }
}

/// The deployment that an Azure path names (`/openai/deployments/{name}/…`): there it decides the model, not the body.
#[must_use]
pub fn deployment(path: &str) -> Option<&str> {
    match segments(path)?.as_slice() {
        [.., "deployments", name, "chat", "completions"] => Some(name),
        _ => None,
    }
}

/// Whether a host is one of those at which OpenAI processes in one region what it is sent, which costs more with newer
/// models and is not in the answer.
///
/// # Source
/// OpenAI documentation, *Data controls*, "Data residency", and the pages of models since GPT-5.4.
///
/// ```
/// use leash_wire::is_regional;
///
/// assert!(is_regional("eu.api.openai.com") && !is_regional("api.openai.com") && !is_regional("api.example.com"));
/// ```
#[must_use]
pub fn is_regional(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host.strip_suffix(".api.openai.com")
        .is_some_and(|region| !region.is_empty())
}

/// The segments of a path that has one reading.
fn segments(path: &str) -> Option<Vec<&str>> {
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let path = path.strip_prefix('/')?;
    let path = path.strip_suffix('/').unwrap_or(path);
    let is_plain = |segment: &str| {
        !segment.is_empty()
            && segment != "."
            && segment != ".."
            && segment
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.~:@".contains(&byte))
    };
    let segments: Vec<&str> = path.split('/').take(17).collect();
    (segments.len() <= 16 && segments.iter().all(|segment| is_plain(segment))).then_some(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_calls_are_known_with_prefix_query_and_trailing_slash() {
        use Format::{AnthropicMessages, OpenAiChat, OpenAiResponses};
        for (path, format) in [
            ("/v1/messages", AnthropicMessages),
            ("/v1/messages/", AnthropicMessages),
            ("/anthropic/v1/messages?beta=true", AnthropicMessages),
            ("/v1/chat/completions", OpenAiChat),
            ("/openai/v1/chat/completions", OpenAiChat),
            (
                "/openai/deployments/gpt-5.1/chat/completions?api-version=2025-01-01",
                OpenAiChat,
            ),
            ("/v1beta/openai/chat/completions", OpenAiChat),
            ("/api/paas/v4/chat/completions", OpenAiChat),
            ("/chat/completions", OpenAiChat),
            ("/v1/responses", OpenAiResponses),
            (
                "/openai/responses?api-version=2025-04-01-preview",
                OpenAiResponses,
            ),
        ] {
            assert_eq!(classify("POST", path), Endpoint::Model(format), "{path}");
            assert!(
                !matches!(classify("GET", path), Endpoint::Model(_) | Endpoint::Free(_)),
                "{path}"
            );
        }
        assert_eq!(
            deployment("/openai/deployments/gpt-5.1/chat/completions"),
            Some("gpt-5.1")
        );
        for path in [
            "/v1/messages",
            "/deployments/cheap/v1/chat/completions",
            "/deployments/cheap/v1/messages",
        ] {
            assert_eq!(deployment(path), None, "{path}");
        }
    }

    #[test]
    fn only_the_exact_free_calls_are_free() {
        assert_eq!(
            classify("GET", "/v1/models"),
            Endpoint::Free(FreeEndpoint::Models)
        );
        assert_eq!(
            classify("GET", "/openai/v1/models/gpt-5?x=1"),
            Endpoint::Free(FreeEndpoint::Models)
        );
        assert_eq!(
            classify("POST", "/v1/messages/count_tokens"),
            Endpoint::Free(FreeEndpoint::CountTokens)
        );
        for (method, path) in [
            ("POST", "/v1/models"),
            ("get", "/v1/models"),
            ("GET", "/v1/models/a/b"),
            ("GET", "/v1//models"),
            ("GET", "//v1/models"),
            ("GET", "/v1/models//"),
            ("GET", "/v1/models/%2e%2e"),
            ("GET", "/v1/models/.."),
            ("POST", "/v1/messages/count_tokens/../"),
            ("POST", "/v1/messages%2Fcount_tokens"),
            ("POST", "/v1/messages;/count_tokens"),
            ("POST", "/v1/messages\\count_tokens"),
            ("POST", "/v1/chat/completions#/v1/moderations"),
            ("POST", "v1/moderations"),
            ("POST", "/v1/chat/completions?/v1/messages/count_tokens/.."),
            ("POST", "/v1/MESSAGES/count_tokens"),
            ("GET", ""),
        ] {
            assert!(
                !matches!(classify(method, path), Endpoint::Free(_)),
                "{method} {path}"
            );
        }
    }

    #[test]
    fn paid_calls_that_cannot_be_metered_are_named() {
        for (method, path, name) in [
            ("POST", "/v1/embeddings", "embeddings"),
            ("POST", "/v1/completions", "legacy completions"),
            ("POST", "/v1/batches", "batches"),
            ("POST", "/v1/messages/batches", "message batches"),
            ("GET", "/v1/responses/resp_1", "stored responses"),
            ("GET", "/v1/responses", "stored responses"),
            ("POST", "/openai/deployments/x/embeddings", "embeddings"),
            ("POST", "/v1/audio/speech", "audio"),
        ] {
            assert_eq!(
                classify(method, path),
                Endpoint::Unsupported(name),
                "{method} {path}"
            );
        }
        assert_eq!(classify("POST", "/v1/what/is/this"), Endpoint::Unknown);
    }
}
