//! What a request asks for: [`Request`]. Knows no answer.

use std::sync::Arc;

use leash_core::{Advisor, Caller, InputSize, Json, ModelCall, ServiceTier};
use serde_json::value::RawValue;

use crate::limits::MAX_NAME_BYTES;
use crate::raw::{self, Members};
use crate::{Format, Limits, StreamOptions, WireError, WireErrorKind};

/// Tokens that a format's template adds to a request, whatever is in it.
///
/// # Source
/// OpenAI cookbook, *How to count tokens with tiktoken*: three tokens a message, one a name, three for the reply,
/// and for tools up to 12 and 10 per function. The JSON around each of these has more bytes than that already;
/// this is room to spare.
const TEMPLATE_TOKENS: u64 = 64;

/// Tokens added for each message, tool and part, besides the bytes they are written in.
const PER_ITEM_TOKENS: u64 = 16;

/// Tokens of the system prompt that Anthropic adds when tools are offered.
///
/// # Source
/// Anthropic documentation, *Tool use*, "Pricing": from 159 to 530 tokens for Claude 3, 313 or 346 for Claude 4, and
/// below a thousand for the models since. Twice that.
const TOOL_PROMPT_TOKENS: u64 = 2048;

/// Tokens of the hidden definition of a tool that the provider defines and the client runs.
///
/// # Source
/// Anthropic documentation: 245 tokens for `bash`, 700 for `text_editor`, 735 for `computer` besides up to 499 of
/// system prompt. OpenAI publishes none for `shell` and `apply_patch`; theirs are short.
const HIDDEN_DEFINITION_TOKENS: u64 = 2048;

/// Tokens of one image, at most.
///
/// # Source
/// Anthropic documentation, *Vision*, "Evaluate image size": an image is scaled down to about 1,600 tokens before the
/// model sees it, with newer models to three times that. This is five times the first figure, as the documentation is
/// all there is to go by.
const IMAGE_TOKENS: u64 = 8192;

/// How often Anthropic takes a request through the model, at most, while it runs tools for it.
///
/// `max_uses` does not say so: a use beyond it is answered with an error that the model reads, and the tools that filter
/// their results by running code take rounds for that.
///
/// # Source
/// Anthropic documentation, *Stop reasons*, "`pause_turn`": ten iterations by default.
const ANTHROPIC_ROUNDS: u64 = 10;

/// Members of a request to Anthropic that cost nothing by themselves, or whose cost is counted here.
///
/// # Source
/// Anthropic's published client, version 2.12, parameters of *Create a message*.
const ANTHROPIC_MEMBERS: &[&str] = &[
    "anthropic_beta",
    "anthropic_version",
    "billing_policy",
    "cache_control",
    "compaction",
    "container",
    "context_management",
    "diagnostics",
    "fallback_credit_token",
    "inference_geo",
    "max_tokens",
    "mcp_servers",
    "messages",
    "metadata",
    "model",
    "output_config",
    "output_format",
    "service_tier",
    "speed",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
    "user_profile_id",
    "workspace_id",
];

/// The same for chat completions, with what servers take that speak the same format.
///
/// # Source
/// OpenAI's published client, version 3.54, parameters of *Create chat completion*; documentation of vLLM,
/// *OpenAI-compatible server*, "Extra parameters".
const CHAT_MEMBERS: &[&str] = &[
    "add_generation_prompt",
    "audio",
    "background",
    "bad_words",
    "chat_template",
    "chat_template_kwargs",
    "echo",
    "enable_thinking",
    "function_call",
    "functions",
    "guided_choice",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "ignore_eos",
    "include_reasoning",
    "include_stop_str_in_output",
    "logit_bias",
    "logprobs",
    "messages",
    "metadata",
    "modalities",
    "model",
    "moderation",
    "parallel_tool_calls",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "reasoning_effort",
    "reasoning_format",
    "response_format",
    "safety_identifier",
    "service_tier",
    "skip_special_tokens",
    "stop",
    "stop_token_ids",
    "store",
    "stream",
    "stream_options",
    "structured_outputs",
    "thinking",
    "tool_choice",
    "tools",
    "user",
    "verbosity",
    "web_search_options",
];

/// The same for Responses.
///
/// # Source
/// OpenAI's published client, version 3.54, parameters of *Create a model response*.
const RESPONSES_MEMBERS: &[&str] = &[
    "access_programs",
    "background",
    "background_options",
    "context_management",
    "conversation",
    "image",
    "include",
    "input",
    "instructions",
    "metadata",
    "model",
    "moderation",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "text",
    "tool_choice",
    "tools",
    "truncation",
    "user",
];

/// Members by which a request names other models that may answer in the place of its own.
///
/// # Source
/// Anthropic documentation, *Refusals and fallback*; documentation of `OpenRouter`, *Model routing*, and of `LiteLLM`,
/// *Fallbacks*.
const OTHER_MODELS: [&str; 3] = ["fallbacks", "models", "fallback_models"];

/// What a request asks for, as far as money, rules and the log want to know.
///
/// Its `Debug` shows no prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Request {
    /// The format it is in.
    pub format: Format,
    /// The model.
    pub model: Arc<str>,
    /// `messages`; of OpenAI Responses the whole `input`.
    pub messages: Json,
    /// All of it.
    pub body: Json,
    /// Upper bound of the tokens that go in.
    pub input: InputSize,
    /// Upper bound of the tokens that come out, for each choice; `None` where the request sets none. Of two limits
    /// the larger; what a `prediction` may waste is added, as rejected tokens are billed, and a budget for thinking that
    /// is not inside the limit.
    pub max_output_tokens: Option<u64>,
    /// How much of that no limit written into the request bounds, for each choice, whether it sets one or not.
    pub extra_output_tokens: u64,
    /// The smallest limit that the provider takes, as far as the format and the request say.
    pub least_output_tokens: u64,
    /// How many answers are asked for, at least 1.
    pub choices: u64,
    /// Whether the answer is to come as a stream.
    pub streaming: bool,
    /// Names of the tools offered; a tool that the provider runs has its name or its type here.
    pub tools: Vec<Arc<str>>,
    /// How often the provider may run tools itself: 0 where it is offered none, `None` where nothing bounds it.
    pub max_server_tool_uses: Option<u64>,
    /// Whether the provider may run code in a container.
    pub runs_code: bool,
    /// Whether other tools of the request include that code.
    pub code_is_free: bool,
    /// Whether the provider may do what is not known here, or run tools whose uses no price list has.
    pub runs_other_tools: bool,
    /// Whether its answer does not say how often the provider ran tools.
    pub hides_tool_uses: bool,
    /// How often the provider may read the input on its own account.
    pub rounds: u64,
    /// How often the provider may sum up the conversation besides.
    pub compactions: u64,
    /// The model that the provider may ask for advice.
    pub advisor: Option<Advisor>,
    /// Whether the answer may hold sound or images, or the request holds images that `input` counts.
    pub has_media: bool,
    /// The service tier that the request asks for; `fast` where it asks for speed.
    pub service_tier: ServiceTier,
    /// Whether the client asked for the usage chunk of a streamed chat completion.
    pub include_usage: bool,
    /// Whether the answer is to hold sound.
    pub wants_sound: bool,
    /// How many percent the provider may add to the price of every token, as far as the request says.
    pub surcharge_percent: u8,
}

impl Request {
    /// Reads the body of a request.
    ///
    /// Strict, because what is checked here is read once more by the provider: JSON with one reading only (see
    /// [`Json::parse`]), and known members of the right type.
    ///
    /// # Errors
    /// [`WireErrorKind::Limit`], [`WireErrorKind::Malformed`], [`WireErrorKind::Field`]; and
    /// [`WireErrorKind::Unsupported`] for `background: true`, whose cost nobody would see, and for other models that may
    /// answer instead or give advice, where there is more than one.
    ///
    /// ```
    /// use leash_core::InputSize;
    /// use leash_wire::{Format, Limits, Request};
    ///
    /// let body = br#"{"model":"claude-sonnet-4-5","max_tokens":100,"messages":[{"role":"user","content":"Hello"}]}"#;
    /// let request = Request::parse(Format::AnthropicMessages, body, &Limits::default())?;
    /// assert_eq!(request.max_output_tokens, Some(100));
    /// assert!(matches!(request.input, InputSize::Bytes(_)));
    /// # Ok::<(), leash_wire::WireError>(())
    /// ```
    pub fn parse(format: Format, body: &[u8], limits: &Limits) -> Result<Self, WireError> {
        Self::parse_inner(format, None, body, limits)
    }

    /// The same for a path that names the model (see [`deployment`](crate::deployment)): there the body's `model`,
    /// if any, decides nothing.
    ///
    /// # Errors
    /// As [`Request::parse`].
    pub fn parse_deployment(
        format: Format,
        model: &str,
        body: &[u8],
        limits: &Limits,
    ) -> Result<Self, WireError> {
        Self::parse_inner(format, Some(model), body, limits)
    }

    fn parse_inner(
        format: Format,
        model: Option<&str>,
        body: &[u8],
        limits: &Limits,
    ) -> Result<Self, WireError> {
        if body.len() > limits.max_body_bytes {
            return Err(WireError::limit("the request is larger than the limit"));
        }
        let text = std::str::from_utf8(body).map_err(|_| WireError::malformed("the request is not UTF-8"))?;
        let body = Json::parse(text)
            .map_err(|_| WireError::malformed("the request is not JSON with one reading"))?;
        let members = Members::parse(body.text())?;
        let own_model = members.str("model")?;
        let model = model
            .or(own_model.as_deref())
            .filter(|model| !model.is_empty())
            .ok_or(WireError::field("`model` is missing"))?;
        if model.len() > MAX_NAME_BYTES {
            return Err(WireError::limit("the name of the model is longer than the limit"));
        }
        if boolean(&members, "background")? {
            return Err(WireError::new(
                WireErrorKind::Unsupported,
                "`background` answers are billed after the call and cannot be settled; ask without it",
            ));
        }
        if OTHER_MODELS.into_iter().any(|name| members.has(name)) {
            return Err(WireError::new(
                WireErrorKind::Unsupported,
                "another model than the one that is named may answer, at its own price; ask without `fallbacks` and `models`",
            ));
        }
        let input_name = if format == Format::OpenAiResponses {
            "input"
        } else {
            "messages"
        };
        let messages = match members.get(input_name) {
            Some(raw) => {
                Json::parse(raw.get()).map_err(|_| WireError::malformed("the messages are not JSON"))?
            }
            None => Json::null(),
        };

        let mut scan = Scan::new();
        scan.request(format, &members)?;
        if format == Format::AnthropicMessages {
            scan.extra = scan.extra.saturating_add(normalisation_growth(body.text()));
        }
        if format == Format::OpenAiChat && model.to_ascii_lowercase().contains("-search-") {
            scan.server_tool(None);
        }
        let bytes = u64::try_from(body.text().len())
            .unwrap_or(u64::MAX)
            .saturating_sub(scan.pixels)
            .saturating_add(scan.extra);
        let streaming = boolean(&members, "stream")?;
        let include_usage = match members.get("stream_options") {
            Some(options) if format == Format::OpenAiChat => {
                boolean(&Members::parse(options.get())?, "include_usage")?
            }
            _ => false,
        };
        let output = Output::parse(format, &members)?;
        let has_media = scan.has_images || asks_for_media(&members, &scan.tools);
        let (rounds, compactions) = (scan.rounds(format), scan.compactions(format));
        Ok(Self {
            format,
            model: Arc::from(model),
            messages,
            input: if scan.is_bounded {
                InputSize::Bytes(bytes)
            } else {
                InputSize::Unbounded
            },
            max_output_tokens: output.max,
            extra_output_tokens: output.extra,
            least_output_tokens: output.least,
            choices: choices(format, &members)?,
            streaming,
            tools: scan.tools,
            max_server_tool_uses: scan.server_uses,
            runs_code: scan.runs_code,
            code_is_free: scan.code_is_free,
            runs_other_tools: scan.runs_other_tools,
            hides_tool_uses: format == Format::OpenAiChat && scan.server_uses != Some(0),
            rounds,
            compactions,
            advisor: scan.advisor,
            include_usage,
            has_media,
            service_tier: service_tier(&members)?,
            wants_sound: members.has("audio"),
            surcharge_percent: surcharge_percent(format, &members)?,
            body,
        })
    }

    /// How its streamed answer is to be read, with the usage chunk hidden that the client did not ask for.
    #[must_use]
    pub fn stream_options(&self, limits: Limits) -> StreamOptions {
        StreamOptions {
            hide_usage_chunk: self.wants_usage_injected(),
            limits,
        }
    }

    /// Whether [`Outgoing::include_usage`](crate::Outgoing::include_usage) is needed to learn what the answer used.
    #[must_use]
    pub fn wants_usage_injected(&self) -> bool {
        self.format == Format::OpenAiChat && self.streaming && !self.include_usage
    }

    /// The call that rules, budget and log know.
    #[must_use]
    pub fn into_model_call(self, caller: Caller) -> ModelCall {
        let mut call = ModelCall::new(self.format.provider(), self.model, self.messages, 0, caller);
        call.writes_cache = writes_cache(self.format, self.body.text());
        call.body = Some(self.body);
        call.input = self.input;
        call.max_output_tokens = self.max_output_tokens;
        call.extra_output_tokens = self.extra_output_tokens;
        call.least_output_tokens = self.least_output_tokens;
        call.choices = self.choices;
        call.max_server_tool_uses = self.max_server_tool_uses;
        call.runs_code = self.runs_code;
        call.code_is_free = self.code_is_free;
        call.runs_other_tools = self.runs_other_tools;
        call.hides_tool_uses = self.hides_tool_uses;
        call.rounds = self.rounds;
        call.compactions = self.compactions;
        call.advisor = self.advisor;
        call.has_media = self.has_media;
        call.wants_sound = self.wants_sound;
        call.service_tier = self.service_tier;
        call.surcharge_percent = self.surcharge_percent;
        call.streaming = self.streaming;
        call.tools = self.tools;
        call
    }
}

/// Whether input may be written to the provider's cache. OpenAI caches unasked; Anthropic does where a request says
/// `cache_control` somewhere, in letters that may be escaped.
fn writes_cache(format: Format, body: &str) -> bool {
    format != Format::AnthropicMessages || body.contains("cache_control") || body.contains("\\u00")
}

fn boolean(members: &Members<'_>, name: &str) -> Result<bool, WireError> {
    match members.get(name).map(RawValue::get) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(WireError::field("a member that must be true or false is neither")),
    }
}

/// Whether the answer may hold sound or images.
fn asks_for_media(members: &Members<'_>, tools: &[Arc<str>]) -> bool {
    let is_asked = ["audio", "modalities"].into_iter().any(|name| members.has(name));
    is_asked || tools.iter().any(|tool| &**tool == "image_generation")
}

fn whole(members: &Members<'_>, name: &str) -> Result<Option<u64>, WireError> {
    members
        .get(name)
        .map(|raw| raw::count(raw).ok_or(WireError::field("a member that must be a whole number is none")))
        .transpose()
}

/// What bounds the output of each choice.
struct Output {
    max: Option<u64>,
    extra: u64,
    least: u64,
}

/// # Source
/// OpenAI API reference, *Responses*, `max_output_tokens` (at least 16) and *Predicted Outputs* (rejected tokens are
/// billed); Anthropic documentation, *Extended thinking* (`budget_tokens` must be below `max_tokens`).
impl Output {
    fn parse(format: Format, members: &Members<'_>) -> Result<Self, WireError> {
        let mut max = None;
        for name in output_limits(format) {
            max = max.max(whole(members, name)?);
        }
        let wasted = match members.get("prediction") {
            Some(prediction) if format == Format::OpenAiChat => {
                u64::try_from(prediction.get().len()).unwrap_or(u64::MAX)
            }
            _ => 0,
        };
        let thinking = match members.get("thinking") {
            // Other servers take it in chat completions, some as `reasoning`.
            Some(thinking) if format != Format::OpenAiResponses => {
                whole(&Members::parse(thinking.get())?, "budget_tokens")?.unwrap_or(0)
            }
            _ => 0,
        };
        let thinking = match members.get("reasoning") {
            Some(reasoning) if format == Format::OpenAiChat => {
                let budget = whole(&Members::parse(reasoning.get())?, "max_tokens")?;
                thinking.max(budget.unwrap_or(0))
            }
            _ => thinking,
        };
        // Thinking counts as output, and a budget below the maximum is inside it.
        let beside = max.filter(|max| thinking >= *max).map_or(0, |_| thinking);
        let extra = wasted.saturating_add(beside);
        Ok(Self {
            max: max.map(|max| max.saturating_add(extra)),
            extra,
            least: match format {
                Format::OpenAiResponses => LEAST_OF_RESPONSES,
                Format::AnthropicMessages => thinking.saturating_add(1),
                Format::OpenAiChat => 1,
            },
        })
    }
}

/// The smallest `max_output_tokens` that OpenAI Responses takes.
const LEAST_OF_RESPONSES: u64 = 16;

/// # Source
/// OpenAI API reference, `service_tier`; Anthropic documentation, *Fast mode*.
fn service_tier(members: &Members<'_>) -> Result<ServiceTier, WireError> {
    let of = |word: Option<std::borrow::Cow<'_, str>>| {
        word.map_or(ServiceTier::Unsaid, |word| ServiceTier::from_word(&word))
    };
    Ok(match of(members.str("speed")?) {
        ServiceTier::Unsaid | ServiceTier::Standard => of(members.str("service_tier")?),
        faster => faster,
    })
}

/// The members that bound the output, in the order of preference for one that is added.
pub(crate) fn output_limits(format: Format) -> &'static [&'static str] {
    match format {
        Format::AnthropicMessages => &["max_tokens"],
        Format::OpenAiChat => &["max_completion_tokens", "max_tokens"],
        Format::OpenAiResponses => &["max_output_tokens"],
    }
}

/// Some servers write `best_of` answers, hand out `n` and charge for all.
fn choices(format: Format, members: &Members<'_>) -> Result<u64, WireError> {
    match whole(members, "n")?.max(whole(members, "best_of")?) {
        Some(n) if format == Format::OpenAiChat => (n > 0)
            .then_some(n)
            .ok_or(WireError::field("`n` must be at least 1")),
        _ => Ok(1),
    }
}

/// Inference in one country costs more, and where the request does not say where, the workspace does.
///
/// # Source
/// Anthropic documentation, *Data residency*, "Pricing": 1.1 times the price of every token for anything but `global`.
fn surcharge_percent(format: Format, members: &Members<'_>) -> Result<u8, WireError> {
    let is_global = members.str("inference_geo")?.is_some_and(|geo| geo == GLOBAL);
    Ok(if format == Format::AnthropicMessages && !is_global {
        IN_ONE_COUNTRY_PERCENT
    } else {
        0
    })
}

/// The word for inference anywhere.
pub(crate) const GLOBAL: &str = "global";
/// How much more inference in one country costs.
pub(crate) const IN_ONE_COUNTRY_PERCENT: u8 = 10;

/// What is found on the way through a request.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Scan {
    is_bounded: bool,
    extra: u64,
    /// Bytes of images, which no tokenizer sees.
    pixels: u64,
    has_images: bool,
    tools: Vec<Arc<str>>,
    server_uses: Option<u64>,
    runs_code: bool,
    code_is_free: bool,
    runs_other_tools: bool,
    compacts: bool,
    advisor: Option<Advisor>,
}

impl Scan {
    fn new() -> Self {
        Self {
            is_bounded: true,
            extra: TEMPLATE_TOKENS,
            pixels: 0,
            has_images: false,
            tools: Vec::new(),
            server_uses: Some(0),
            runs_code: false,
            code_is_free: false,
            runs_other_tools: false,
            compacts: false,
            advisor: None,
        }
    }

    /// How often the provider may read the input by itself.
    fn rounds(&self, format: Format) -> u64 {
        if format == Format::AnthropicMessages && self.server_uses != Some(0) {
            ANTHROPIC_ROUNDS
        } else {
            1
        }
    }

    /// How often it may sum up: once for each time it reads.
    fn compactions(&self, format: Format) -> u64 {
        if self.compacts { self.rounds(format) } else { 0 }
    }

    fn add(&mut self, tokens: u64) {
        self.extra = self.extra.saturating_add(tokens);
    }

    fn unbounded(&mut self) {
        self.is_bounded = false;
    }

    /// The provider may run something itself, and reads what comes of it as input.
    fn server_tool(&mut self, max_uses: Option<u64>) {
        self.unbounded();
        self.server_uses = match (self.server_uses, max_uses) {
            (Some(sum), Some(uses)) => Some(sum.saturating_add(uses)),
            _ => None,
        };
    }

    /// Something whose cost nobody here knows. It is refused, unless somebody set a ceiling and a price for it.
    fn unknown(&mut self) {
        self.server_tool(None);
        self.runs_other_tools = true;
    }

    /// The provider may sum up the conversation, for which it reads it once more.
    fn compaction(&mut self) {
        self.unbounded();
        self.compacts = true;
    }

    /// Members that are not known here. Numbers only turn knobs; a text may refer to something; all else may have the
    /// provider do anything.
    fn unknown_members(&mut self, format: Format, members: &Members<'_>) -> Result<(), WireError> {
        let known = match format {
            Format::AnthropicMessages => ANTHROPIC_MEMBERS,
            Format::OpenAiChat => CHAT_MEMBERS,
            Format::OpenAiResponses => RESPONSES_MEMBERS,
        };
        for (name, value) in &members.0 {
            if known.contains(&&**name) || raw::is_empty(value) {
                continue;
            }
            match value.get().as_bytes() {
                [b'"', ..] => self.unbounded(),
                [b'{' | b'[', ..] | b"true" => self.unknown(),
                _ => {}
            }
        }
        if let Some(options) = members.get("prompt_cache_options") {
            // What is kept for longer than half an hour may cost more, and no price list says how much.
            let ttl = Members::parse(options.get())?.str("ttl")?;
            if ttl.is_some_and(|ttl| ttl != "30m") {
                self.unknown();
            }
        }
        Ok(())
    }

    fn request(&mut self, format: Format, members: &Members<'_>) -> Result<(), WireError> {
        self.unknown_members(format, members)?;
        match format {
            Format::AnthropicMessages => {
                if let Some(messages) = members.get("messages") {
                    self.messages(messages, Self::anthropic_part)?;
                }
                if let Some(system) = members.get("system") {
                    self.content(system, Self::anthropic_part)?;
                }
                self.tool_list(members, Self::anthropic_tool)?;
                if members.has("mcp_servers") {
                    self.server_tool(None);
                }
                // A container holds files.
                if members.has("container") {
                    self.unbounded();
                }
                if members.has("compaction") || compacts(members) {
                    self.compaction();
                }
                if members.has("output_format") || members.has("output_config") {
                    self.add(TOOL_PROMPT_TOKENS);
                }
            }
            Format::OpenAiChat => {
                if let Some(messages) = members.get("messages") {
                    self.messages(messages, Self::chat_part)?;
                }
                self.tool_list(members, Self::chat_tool)?;
                if let Some(functions) = members.get("functions") {
                    for function in raw::parse::<Vec<Members<'_>>>(functions.get())? {
                        self.add(PER_ITEM_TOKENS);
                        self.tools
                            .push(Arc::from(&*function.str("name")?.unwrap_or_default()));
                    }
                }
                if members.get("web_search_options").is_some() {
                    self.server_tool(None);
                }
            }
            Format::OpenAiResponses => {
                if let Some(input) = members.get("input") {
                    self.items(input)?;
                }
                self.tool_list(members, Self::responses_tool)?;
                let refers = ["previous_response_id", "conversation", "prompt"];
                if refers.into_iter().any(|name| members.get(name).is_some()) {
                    self.unbounded();
                }
                if compacts(members) {
                    self.compaction();
                }
                if let Some(max) = whole(members, "max_tool_calls")?
                    && self.server_uses != Some(0)
                {
                    self.server_uses = Some(self.server_uses.map_or(max, |uses| uses.min(max)));
                }
            }
        }
        Ok(())
    }

    /// A list of messages, each with a `content`.
    fn messages(&mut self, messages: &RawValue, part: PartFn) -> Result<(), WireError> {
        for message in raw::parse::<Vec<Members<'_>>>(messages.get())? {
            self.add(PER_ITEM_TOKENS);
            // An earlier answer in sound, by its id.
            if message.get("audio").is_some() {
                self.unbounded();
            }
            if let Some(content) = message.get("content") {
                self.content(content, part)?;
            }
        }
        Ok(())
    }

    /// A text, or a list of parts.
    fn content(&mut self, content: &RawValue, part: PartFn) -> Result<(), WireError> {
        if raw::is_string(content) {
            return Ok(());
        }
        if !raw::is_array(content) {
            self.unbounded();
            return Ok(());
        }
        for one in raw::parse::<Vec<&RawValue>>(content.get())? {
            self.add(PER_ITEM_TOKENS);
            if raw::is_object(one) {
                part(self, &Members::parse(one.get())?)?;
            } else if !raw::is_string(one) {
                self.unbounded();
            }
        }
        Ok(())
    }

    fn anthropic_part(&mut self, part: &Members<'_>) -> Result<(), WireError> {
        match part.str("type")?.as_deref() {
            Some("text" | "thinking" | "redacted_thinking") => {}
            Some("tool_use") => {
                // Each argument is shown to the model with more around it than JSON has.
                if let Some(input) = part.get("input").filter(|input| raw::is_object(input)) {
                    let arguments = Members::parse(input.get())?.0.len();
                    let arguments = u64::try_from(arguments).unwrap_or(u64::MAX);
                    self.add(PER_ITEM_TOKENS.saturating_mul(arguments));
                }
            }
            Some("tool_addition") => self.tool_addition(part)?,
            Some("compaction") => {
                self.unbounded();
                if let Some(changes) = part.get("tool_changes") {
                    self.content(changes, Self::anthropic_part)?;
                }
            }
            Some("tool_result" | "search_result") => {
                if let Some(content) = part.get("content") {
                    self.content(content, Self::anthropic_part)?;
                }
            }
            Some("image") => self.anthropic_image(part)?,
            _ => self.unbounded(),
        }
        Ok(())
    }

    /// A tool that is offered from here on, which may be defined here.
    fn tool_addition(&mut self, part: &Members<'_>) -> Result<(), WireError> {
        self.add(TOOL_PROMPT_TOKENS);
        let Some(tool) = part.get("tool") else {
            return Ok(());
        };
        let tool = Members::parse(tool.get())?;
        match tool.str("type")?.as_deref() {
            Some("tool_reference" | "mcp_tool_reference" | "mcp_toolset_reference") => Ok(()),
            Some("tool_definition") => match tool.get("definition") {
                Some(definition) => self.anthropic_tool(&Members::parse(definition.get())?),
                None => Ok(()),
            },
            _ => {
                self.unknown();
                Ok(())
            }
        }
    }

    /// An image costs by its size, which is limited, wherever it lies and however many bytes it has.
    fn anthropic_image(&mut self, part: &Members<'_>) -> Result<(), WireError> {
        self.has_images = true;
        self.add(IMAGE_TOKENS);
        let Some(source) = part.get("source").filter(|source| raw::is_object(source)) else {
            self.unbounded();
            return Ok(());
        };
        let source = Members::parse(source.get())?;
        match source.str("type")?.as_deref() {
            Some("base64") => {
                let data = source.get("data").filter(|data| raw::is_string(data));
                let bytes = data.map_or(0, |data| data.get().len());
                self.pixels = self.pixels.saturating_add(u64::try_from(bytes).unwrap_or(0));
            }
            Some("url" | "file") => {}
            _ => self.unbounded(),
        }
        Ok(())
    }

    fn chat_part(&mut self, part: &Members<'_>) -> Result<(), WireError> {
        if !matches!(part.str("type")?.as_deref(), Some("text" | "refusal")) {
            self.unbounded();
        }
        Ok(())
    }

    fn responses_part(&mut self, part: &Members<'_>) -> Result<(), WireError> {
        let kind = part.str("type")?;
        let is_text = matches!(
            kind.as_deref(),
            Some("input_text" | "output_text" | "text" | "refusal" | "summary_text" | "reasoning_text")
        );
        if !is_text {
            self.unbounded();
        }
        Ok(())
    }

    /// `input` of Responses: a text, or a list of items.
    fn items(&mut self, input: &RawValue) -> Result<(), WireError> {
        if raw::is_string(input) {
            return Ok(());
        }
        for item in raw::parse::<Vec<Members<'_>>>(input.get())? {
            self.add(PER_ITEM_TOKENS);
            let kind = item.str("type")?;
            match kind.as_deref() {
                None | Some("message" | "reasoning" | "function_call_output" | "custom_tool_call_output") => {
                    for name in ["content", "output", "summary"] {
                        if let Some(content) = item.get(name) {
                            self.content(content, Self::responses_part)?;
                        }
                    }
                    // What is only named lies at the provider, and so does reasoning that is not handed over.
                    let holds = match kind.as_deref() {
                        Some("reasoning") => item.has("encrypted_content") || item.get("id").is_none(),
                        Some("function_call_output" | "custom_tool_call_output") => {
                            item.get("output").is_some()
                        }
                        _ => item.get("content").is_some(),
                    };
                    if !holds {
                        self.unbounded();
                    }
                }
                Some("additional_tools" | "tool_search_output") => {
                    self.tool_list(&item, Self::responses_tool)?;
                }
                Some("compaction_trigger") => self.compaction(),
                Some(
                    "configuration_update"
                    | "function_call"
                    | "custom_tool_call"
                    | "local_shell_call"
                    | "local_shell_call_output"
                    | "shell_call"
                    | "shell_call_output"
                    | "apply_patch_call"
                    | "apply_patch_call_output"
                    | "mcp_list_tools"
                    | "mcp_approval_request"
                    | "mcp_approval_response",
                ) => {}
                _ => self.unbounded(),
            }
        }
        Ok(())
    }

    fn tool_list(&mut self, members: &Members<'_>, tool: PartFn) -> Result<(), WireError> {
        let Some(tools) = members.get("tools") else {
            return Ok(());
        };
        let tools: Vec<Members<'_>> = raw::parse(tools.get())?;
        if !tools.is_empty() {
            self.add(TOOL_PROMPT_TOKENS);
        }
        for one in &tools {
            self.add(PER_ITEM_TOKENS);
            tool(self, one)?;
        }
        Ok(())
    }

    fn name_tool(&mut self, tool: &Members<'_>, kind: &str) -> Result<(), WireError> {
        let name = tool.str("name")?;
        self.tools.push(Arc::from(name.as_deref().unwrap_or(kind)));
        Ok(())
    }

    fn anthropic_tool(&mut self, tool: &Members<'_>) -> Result<(), WireError> {
        let kind = tool.str("type")?.unwrap_or_default();
        self.name_tool(tool, &kind)?;
        if matches!(&*kind, "" | "custom") {
            return Ok(());
        }
        self.add(HIDDEN_DEFINITION_TOKENS);
        if !runs_at_anthropic(&kind) {
            return Ok(());
        }
        let max_uses = whole(tool, "max_uses")?;
        self.server_tool(max_uses);
        if kind.starts_with("advisor_") {
            return self.advice(tool, max_uses);
        }
        match &*kind {
            kind if kind.starts_with("web_search_") || kind.starts_with("web_fetch_") => {
                // These filter what they find by running code, which they include.
                let day = kind.rsplit('_').next().and_then(|day| day.parse::<u32>().ok());
                self.code_is_free |= day.is_some_and(|day| day >= FIRST_WITH_CODE);
            }
            kind if kind.starts_with("code_execution_") => self.runs_code = true,
            kind if kind.starts_with("tool_search_tool_") || kind == "mcp_toolset" => {}
            _ => self.runs_other_tools = true,
        }
        Ok(())
    }

    /// The model that a tool lets the answering one ask.
    fn advice(&mut self, tool: &Members<'_>, max_uses: Option<u64>) -> Result<(), WireError> {
        let model = tool.str("model")?.filter(|model| !model.is_empty());
        let model = model.ok_or(WireError::field("`model` of the adviser is missing"))?;
        if model.len() > MAX_NAME_BYTES {
            return Err(WireError::limit(
                "the name of the adviser's model is longer than the limit",
            ));
        }
        if self.advisor.is_some() {
            return Err(WireError::new(
                WireErrorKind::Unsupported,
                "more than one model may be asked for advice, each at its own price; offer one",
            ));
        }
        let mut advisor = Advisor::new(&*model);
        advisor.max_uses = max_uses;
        advisor.max_output_tokens = whole(tool, "max_tokens")?;
        self.advisor = Some(advisor);
        Ok(())
    }

    fn chat_tool(&mut self, tool: &Members<'_>) -> Result<(), WireError> {
        let kind = tool.str("type")?.unwrap_or_default();
        match tool.get(if kind == "custom" { "custom" } else { "function" }) {
            Some(definition) if matches!(&*kind, "function" | "custom") => {
                self.name_tool(&Members::parse(definition.get())?, &kind)
            }
            _ => {
                self.unknown();
                self.name_tool(tool, &kind)
            }
        }
    }

    /// # Source
    /// OpenAI documentation, *Using tools*: `function`, `custom`, `local_shell`, `apply_patch` and the computer run at
    /// the client; `shell` does unless its `environment` is a container. Pages of prices: searches are billed apiece,
    /// code by the container, and what an image costs depends on a model of its own.
    fn responses_tool(&mut self, tool: &Members<'_>) -> Result<(), WireError> {
        let kind = tool.str("type")?.unwrap_or_default();
        self.name_tool(tool, &kind)?;
        match &*kind {
            "function" | "custom" => {}
            "namespace" => {
                let Some(tools) = tool.get("tools") else {
                    return Ok(());
                };
                for one in raw::parse::<Vec<Members<'_>>>(tools.get())? {
                    self.add(PER_ITEM_TOKENS);
                    let kind = one.str("type")?.unwrap_or_default();
                    self.name_tool(&one, &kind)?;
                    if !matches!(&*kind, "function" | "custom") {
                        self.unknown();
                    }
                }
            }
            "local_shell" | "apply_patch" | "computer" | "computer_use_preview" => {
                self.add(HIDDEN_DEFINITION_TOKENS);
            }
            "tool_search" if tool.str("execution")?.as_deref() == Some("client") => {
                self.add(HIDDEN_DEFINITION_TOKENS);
            }
            "shell" => self.container(tool.get("environment"))?,
            "code_interpreter" => self.container(tool.get("container"))?,
            "file_search" | "mcp" | "tool_search" => self.server_tool(None),
            kind if kind.starts_with("web_search") => self.server_tool(None),
            _ => self.unknown(),
        }
        Ok(())
    }

    /// Where code runs: at the client, or in a container of the provider, a larger one of which costs more.
    fn container(&mut self, place: Option<&RawValue>) -> Result<(), WireError> {
        let place = match place {
            Some(place) if raw::is_object(place) => Members::parse(place.get())?,
            _ => Members::default(),
        };
        if place.str("type")?.as_deref() == Some("local") {
            self.add(HIDDEN_DEFINITION_TOKENS);
            return Ok(());
        }
        self.server_tool(None);
        self.runs_code = true;
        if place.str("memory_limit")?.is_some_and(|limit| limit != "1g") {
            self.runs_other_tools = true;
        }
        Ok(())
    }
}

/// The day of the first version of Anthropic's tools for the web that run code by themselves.
///
/// # Source
/// Anthropic documentation, *Web search tool*, "Dynamic filtering", and *Code execution tool*, "Pricing".
const FIRST_WITH_CODE: u32 = 20_260_209;

/// Whether Anthropic itself runs tools of this type.
///
/// # Source
/// Anthropic documentation, *Tool reference*: `bash_*`, `browser_toolset_*`, `text_editor_*`, `computer_*` and `memory_*` run
/// at the client, all other typed tools at Anthropic.
pub(crate) fn runs_at_anthropic(kind: &str) -> bool {
    let at_client = [
        "bash_",
        "browser_toolset_",
        "text_editor_",
        "computer_",
        "memory_",
    ];
    !matches!(kind, "" | "custom") && !at_client.into_iter().any(|prefix| kind.starts_with(prefix))
}

/// Whether a tool that Anthropic runs may be told `max_uses`, at least 1. The others are refused with it.
///
/// # Source
/// Anthropic's published client types: the tools for searching and fetching the web, and the adviser, have that member.
pub(crate) fn takes_max_uses(kind: &str) -> bool {
    ["web_search_", "web_fetch_", "advisor_"]
        .into_iter()
        .any(|prefix| kind.starts_with(prefix))
}

type PartFn = fn(&mut Scan, &Members<'_>) -> Result<(), WireError>;

/// Whether the provider may compact the conversation, for which it reads it once more.
fn compacts(members: &Members<'_>) -> bool {
    members
        .get("context_management")
        // The word may be written with escapes.
        .is_some_and(|raw| raw.get().contains("compact") || raw.get().contains('\\'))
}

/// By how many bytes a text can grow when a tokenizer normalises it (NFKC) before it cuts it into tokens.
///
/// Anthropic's published tokenizer does that (that of Claude 2; newer ones are not published), and a character such
/// as U+FDFA, three bytes, becomes 33. OpenAI's take bytes as they are. The ranges are those of all characters whose
/// NFKC form is longer in UTF-8, with the largest growth in each; composition only ever shortens.
///
/// # Source
/// Unicode Character Database 14.0, decomposition mappings.
fn normalisation_growth(text: &str) -> u64 {
    let mut growth: u64 = 0;
    let mut add = |char| growth = growth.saturating_add(char_growth(char));
    if !text.is_ascii() {
        text.chars().filter(|char| !char.is_ascii()).for_each(&mut add);
    }
    let mut rest = text.as_bytes();
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let escape = rest.get(at..).unwrap_or_default();
        let skip = match escape {
            [b'\\', b'u', digits @ ..] => {
                let digits = digits
                    .get(..4)
                    .and_then(|digits| std::str::from_utf8(digits).ok());
                let unit = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
                // Half of a pair: above U+FFFF nothing grows by more than 8.
                add(unit.and_then(char::from_u32).unwrap_or('\u{1d160}'));
                6
            }
            _ => 2,
        };
        rest = escape.get(skip..).unwrap_or_default();
    }
    growth
}

const fn char_growth(char: char) -> u64 {
    match char {
        '\u{fbdd}'..='\u{fdfc}' => 30,
        '\u{32c0}'..='\u{33fe}' => 15,
        '\u{2033}'..='\u{2057}' | '\u{2a0c}' => 9,
        '\u{1d15e}'..='\u{1d164}' | '\u{1d1bb}'..='\u{1d1c0}' => 8,
        '\u{f43}'..='\u{fb9}' | '\u{222c}'..='\u{2230}' => 6,
        '\u{3200}'..='\u{327d}' | '\u{1f200}'..='\u{1f248}' => 5,
        '\u{a8}'..='\u{be}'
        | '\u{344}'..='\u{385}'
        | '\u{958}'..='\u{95f}'
        | '\u{9dc}'..='\u{9df}'
        | '\u{a33}'..='\u{a5e}'
        | '\u{b5c}'..='\u{b5d}'
        | '\u{e33}'
        | '\u{eb3}'..='\u{edd}'
        | '\u{2150}'..='\u{2189}'
        | '\u{309f}'
        | '\u{30ff}'
        | '\u{facf}'..='\u{fb4f}'
        | '\u{1f12a}' => 3,
        '\u{587}' | '\u{675}'..='\u{678}' | '\u{1fc1}'..='\u{1fee}' | '\u{2adc}' => 2,
        '\u{13f}'..='\u{149}'
        | '\u{1c4}'..='\u{1c6}'
        | '\u{2d8}'..='\u{2dd}'
        | '\u{247d}'..='\u{2487}'
        | '\u{309b}'..='\u{309c}'
        | '\u{fa6c}'
        | '\u{fe71}'..='\u{fe7f}'
        | '\u{fef5}'..='\u{fefc}' => 1,
        _ => 0,
    }
}
