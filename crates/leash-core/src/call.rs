//! What an agent wants to do: [`Call`], of a model or of a tool. Knows no wire format.

use std::sync::Arc;

use crate::{AgentName, Digest, Json, ServiceTier, SessionId, TenantId, canonical};

/// On whose behalf a call is made. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The run of the agent.
    pub session_id: SessionId,
    /// The tenant, where there are tenants.
    pub tenant_id: Option<TenantId>,
    /// The agent's name, where it has one.
    pub agent_name: Option<AgentName>,
}

impl Caller {
    /// A caller known by its session alone.
    #[must_use]
    pub fn session(session_id: SessionId) -> Self {
        Self {
            session_id,
            tenant_id: None,
            agent_name: None,
        }
    }
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ToolCall {
    /// The tool's name, as the agent knows it.
    pub tool: Arc<str>,
    /// The arguments, of any JSON shape.
    pub args: Json,
    /// Who calls.
    pub caller: Caller,
}

impl ToolCall {
    /// A call of `tool` with `args`.
    #[must_use]
    pub fn new(tool: impl Into<Arc<str>>, args: impl Into<Json>, caller: Caller) -> Self {
        Self {
            tool: tool.into(),
            args: args.into(),
            caller,
        }
    }

    /// SHA-256 over the canonical form of `{"arguments":…,"tool":…}`: the log's `request_hash`.
    #[must_use]
    pub fn request_digest(&self) -> Digest {
        let room = self.args.text().len().saturating_add(self.tool.len());
        let mut out = String::with_capacity(room.saturating_add(32));
        out.push_str("{\"arguments\":");
        self.args.write_canonical(&mut out);
        out.push_str(",\"tool\":");
        canonical::write_str(&mut out, &self.tool);
        out.push('}');
        Digest::of(out.as_bytes())
    }
}

/// How much goes into a model, as far as the request shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputSize {
    /// At most this many bytes of UTF-8 reach the tokenizer, the request's own syntax included. No token is
    /// shorter than a byte, so this many tokens at most.
    Bytes(u64),
    /// The request refers to what it does not hold (images, files, earlier responses): only the model's context
    /// window bounds it.
    Unbounded,
}

/// Another model that the provider may ask for advice while it answers, at that one's own price.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Advisor {
    /// Its name at the same provider.
    pub model: Arc<str>,
    /// How often it may be asked; `None` where only [`ModelCall::max_server_tool_uses`] says so.
    pub max_uses: Option<u64>,
    /// Upper bound of what it answers each time, in tokens, reasoning included; `None` where that is the model's own.
    pub max_output_tokens: Option<u64>,
}

impl Advisor {
    /// A model that is asked as often as server tools may be used, and answers as much as it can.
    #[must_use]
    pub fn new(model: impl Into<Arc<str>>) -> Self {
        Self {
            model: model.into(),
            max_uses: None,
            max_output_tokens: None,
        }
    }
}

/// A call of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct ModelCall {
    /// Who serves the model: `anthropic`, `openai`.
    pub provider: Arc<str>,
    /// The model's name, as the request has it.
    pub model: Arc<str>,
    /// What the model is asked: `messages`, or the whole input of other formats.
    pub messages: Json,
    /// The whole request as it will leave, where an adapter has one; rules and redaction see it.
    pub body: Option<Json>,
    /// Upper bound of what goes in.
    pub input: InputSize,
    /// Upper bound of output tokens for each choice, reasoning included; `None` where the request sets none.
    pub max_output_tokens: Option<u64>,
    /// Output tokens for each choice that a maximum written into the request does not limit (predictions that the
    /// model rejects are billed besides). [`max_output_tokens`](Self::max_output_tokens), where set, holds them already.
    pub extra_output_tokens: u64,
    /// The smallest maximum of output that may be written into the request, at least 1.
    pub least_output_tokens: u64,
    /// How many answers are asked for (`n`), at least 1.
    pub choices: u64,
    /// Upper bound of searches and other server tools billed apiece; `None` where the request offers them unbounded.
    pub max_server_tool_uses: Option<u64>,
    /// Whether the provider may run code in a container for it, which is billed by the container.
    pub runs_code: bool,
    /// Whether code that the provider runs for it is not billed, as other tools of the request include it.
    pub code_is_free: bool,
    /// Whether the provider may run tools for it that are neither searches nor code and are, or may be, billed apiece.
    pub runs_other_tools: bool,
    /// Whether the answer leaves out how often the provider ran its tools: it is charged for as often as it may have.
    pub hides_tool_uses: bool,
    /// How often the provider may read the input on its own account, at least 1: tools that it runs take it through
    /// several rounds, whether or not one of them counts as a use.
    pub rounds: u64,
    /// How often the provider may sum up the conversation besides: the input is read and an answer is written once more
    /// each time, which no maximum in the request limits.
    pub compactions: u64,
    /// A model that the provider may ask for advice.
    pub advisor: Option<Advisor>,
    /// Whether input may be written to the provider's cache, which costs more than reading it.
    pub writes_cache: bool,
    /// Whether sound or images may be among the input or the output; where they have prices of their own, the bound
    /// has to cover those.
    pub has_media: bool,
    /// Whether the answer is to hold sound: a model without a price for that is refused then.
    pub wants_sound: bool,
    /// The service tier that the request asks for.
    pub service_tier: ServiceTier,
    /// How many percent the provider may add to the price of every token.
    pub surcharge_percent: u8,
    /// Whether it goes to where the provider keeps what it processes in one region: dearer, with some models, and the
    /// answer does not say so.
    pub in_region: bool,
    /// Whether the answer comes as a stream.
    pub streaming: bool,
    /// Names of the tools that the model may ask for.
    pub tools: Vec<Arc<str>>,
    /// Who calls.
    pub caller: Caller,
}

impl ModelCall {
    /// A call of `model` at `provider` with `messages` and at most `max_output_tokens` tokens of answer.
    ///
    /// Input is bounded by the bytes of `messages`; an adapter that knows the whole request sets its fields. So must
    /// whoever sends more than these messages: a system prompt or tools add their bytes to [`input`](Self::input), and
    /// images or files that are only referred to make it [`InputSize::Unbounded`]. A bound that is too low lets a call
    /// pass a cap.
    ///
    /// ```
    /// use leash_core::{Caller, InputSize, ModelCall, SessionId};
    /// use serde_json::json;
    ///
    /// let caller = Caller::session(SessionId::new("s_1")?);
    /// let (system, messages) = ("Answer in one word.", json!([{"role": "user", "content": "Hi"}]));
    /// let mut call = ModelCall::new("anthropic", "claude-haiku-4-5", messages, 10, caller);
    /// if let InputSize::Bytes(bytes) = &mut call.input {
    ///     *bytes += system.len() as u64;
    /// }
    /// # Ok::<(), leash_core::IdError>(())
    /// ```
    #[must_use]
    pub fn new(
        provider: impl Into<Arc<str>>,
        model: impl Into<Arc<str>>,
        messages: impl Into<Json>,
        max_output_tokens: u64,
        caller: Caller,
    ) -> Self {
        let messages = messages.into();
        let bytes = u64::try_from(messages.text().len()).unwrap_or(u64::MAX);
        Self {
            provider: provider.into(),
            model: model.into(),
            messages,
            body: None,
            input: InputSize::Bytes(bytes),
            max_output_tokens: Some(max_output_tokens),
            extra_output_tokens: 0,
            least_output_tokens: 1,
            choices: 1,
            max_server_tool_uses: Some(0),
            runs_code: false,
            code_is_free: false,
            runs_other_tools: false,
            hides_tool_uses: false,
            rounds: 1,
            compactions: 0,
            advisor: None,
            writes_cache: true,
            has_media: true,
            wants_sound: false,
            service_tier: ServiceTier::Unsaid,
            surcharge_percent: 0,
            in_region: false,
            streaming: false,
            tools: Vec::new(),
            caller,
        }
    }

    /// SHA-256 over the canonical form of `{"messages":…,"model":…}`: the log's `request_hash`.
    #[must_use]
    pub fn request_digest(&self) -> Digest {
        let room = self.messages.text().len().saturating_add(self.model.len());
        let mut out = String::with_capacity(room.saturating_add(32));
        out.push_str("{\"messages\":");
        self.messages.write_canonical(&mut out);
        out.push_str(",\"model\":");
        canonical::write_str(&mut out, &self.model);
        out.push('}');
        Digest::of(out.as_bytes())
    }
}

/// What rules, redaction and admission look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Of a model.
    Model(ModelCall),
    /// Of a tool.
    Tool(ToolCall),
}

impl Call {
    /// Who calls.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        match self {
            Self::Model(call) => &call.caller,
            Self::Tool(call) => &call.caller,
        }
    }

    /// Says who calls.
    pub fn set_caller(&mut self, caller: &Caller) {
        let slot = match self {
            Self::Model(call) => &mut call.caller,
            Self::Tool(call) => &mut call.caller,
        };
        if slot != caller {
            slot.clone_from(caller);
        }
    }

    /// The tool's name; for a model call `anthropic.call`, `openai.call` and so on, as rules of the original expect.
    #[must_use]
    pub fn tool(&self) -> String {
        match self {
            Self::Model(call) => format!("{}.call", call.provider),
            Self::Tool(call) => call.tool.as_ref().to_owned(),
        }
    }

    /// What content rules look at: a tool's arguments, a model's whole request where it is known, else its messages.
    #[must_use]
    pub fn content(&self) -> &Json {
        match self {
            Self::Model(call) => call.body.as_ref().unwrap_or(&call.messages),
            Self::Tool(call) => &call.args,
        }
    }

    /// The log's `request_hash`.
    #[must_use]
    pub fn request_digest(&self) -> Digest {
        match self {
            Self::Model(call) => call.request_digest(),
            Self::Tool(call) => call.request_digest(),
        }
    }
}

impl From<ModelCall> for Call {
    fn from(call: ModelCall) -> Self {
        Self::Model(call)
    }
}

impl From<ToolCall> for Call {
    fn from(call: ToolCall) -> Self {
        Self::Tool(call)
    }
}

/// A tool call that a model asks for in its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolRequest {
    /// The provider's id of the request; empty where it gives none.
    pub id: String,
    /// The tool's name.
    pub tool: Arc<str>,
    /// The arguments, joined from however many pieces they came in.
    pub args: Json,
}
