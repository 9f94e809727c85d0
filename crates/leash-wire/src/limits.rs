//! How much of anything is taken: [`Limits`]. Past a limit is an error, never an allocation.

/// Upper bounds of what is read and kept. All are bytes but `max_tool_calls`.
///
/// The defaults let through everything that the providers document: Anthropic takes requests of up to 32 MB.
///
/// # Source
/// Request size limits: Anthropic API documentation, *Errors*, "Request size limits".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The longest request or unary answer. 32 MiB.
    pub max_body_bytes: usize,
    /// The longest event of a stream; the last event of an OpenAI Responses stream repeats the whole answer. 8 MiB.
    pub max_event_bytes: usize,
    /// How much of a stream is held back while a tool call is incomplete. 16 MiB.
    pub max_held_bytes: usize,
    /// The longest arguments of one tool call, as they are escaped on the wire. 1 MiB.
    pub max_argument_bytes: usize,
    /// How much text and tool calls of one streamed answer are kept for its digest. 32 MiB.
    pub max_content_bytes: usize,
    /// How many tool calls one answer may ask for. 1024.
    pub max_tool_calls: usize,
}

/// The longest name of a model or a tool, in bytes. The log has these names, so a request or an answer must not be
/// able to fill a line with one. The longest that the providers take is far below it.
pub(crate) const MAX_NAME_BYTES: usize = 512;

impl Limits {
    /// The defaults, as a constant.
    pub const DEFAULT: Self = Self {
        max_body_bytes: 32 << 20,
        max_event_bytes: 8 << 20,
        max_held_bytes: 16 << 20,
        max_argument_bytes: 1 << 20,
        max_content_bytes: 32 << 20,
        max_tool_calls: 1024,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
