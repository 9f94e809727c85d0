//! Why bytes could not be understood: [`WireError`]. Never quotes them.

/// What kind of trouble it was, for those who decide what to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WireErrorKind {
    /// Not JSON, not UTF-8, or not the shape the format promises.
    Malformed,
    /// Two programs could read two different things, so a check of one reading proves nothing about the other.
    Ambiguous,
    /// A member has a type or a value it must not have.
    Field,
    /// Larger than [`Limits`](crate::Limits) allow.
    Limit,
    /// Compressed or otherwise encoded, so what it says cannot be seen.
    Encoded,
    /// Understood, and nothing that can be metered.
    Unsupported,
    /// The stream ended inside an event or a tool call.
    Truncated,
}

/// A request or an answer that could not be understood. Whoever meets it refuses, or charges the bound.
///
/// Its message is one of a fixed set: nothing of the bytes gets into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct WireError {
    kind: WireErrorKind,
    what: &'static str,
}

impl WireError {
    pub(crate) const fn new(kind: WireErrorKind, what: &'static str) -> Self {
        Self { kind, what }
    }

    pub(crate) const fn malformed(what: &'static str) -> Self {
        Self::new(WireErrorKind::Malformed, what)
    }

    pub(crate) const fn ambiguous(what: &'static str) -> Self {
        Self::new(WireErrorKind::Ambiguous, what)
    }

    pub(crate) const fn field(what: &'static str) -> Self {
        Self::new(WireErrorKind::Field, what)
    }

    pub(crate) const fn limit(what: &'static str) -> Self {
        Self::new(WireErrorKind::Limit, what)
    }

    /// What kind of trouble it was.
    #[must_use]
    pub const fn kind(&self) -> WireErrorKind {
        self.kind
    }

    /// The message, which is the same text whatever the input was.
    #[must_use]
    pub const fn message(&self) -> &'static str {
        self.what
    }
}
