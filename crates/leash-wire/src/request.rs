//! What a request asks for: [`Request`]. Knows no answer.

use std::sync::Arc;

use leash_core::{Caller, InputSize, Json, ModelCall, ServiceTier};
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
    /// [`WireErrorKind::Unsupported`] for `background: true`, whose cost nobody would see.
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
        if model.contains("-search-") && format == Format::OpenAiChat {
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
            Some(thinking) if format == Format::AnthropicMessages => {
                whole(&Members::parse(thinking.get())?, "budget_tokens")?.unwrap_or(0)
            }
            _ => 0,
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

fn choices(format: Format, members: &Members<'_>) -> Result<u64, WireError> {
    match whole(members, "n")? {
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
struct Scan {
    is_bounded: bool,
    extra: u64,
    /// Bytes of images, which no tokenizer sees.
    pixels: u64,
    has_images: bool,
    tools: Vec<Arc<str>>,
    server_uses: Option<u64>,
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
        }
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

    fn request(&mut self, format: Format, members: &Members<'_>) -> Result<(), WireError> {
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
                // A compaction reads everything once more; a container holds files.
                if members.has("container") || compacts(members) {
                    self.unbounded();
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
                if refers.into_iter().any(|name| members.get(name).is_some()) || compacts(members) {
                    self.unbounded();
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
            Some("text" | "thinking" | "redacted_thinking" | "tool_use") => {}
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
            match item.str("type")?.as_deref() {
                None | Some("message" | "reasoning" | "function_call_output" | "custom_tool_call_output") => {
                    for name in ["content", "output", "summary"] {
                        if let Some(content) = item.get(name) {
                            self.content(content, Self::responses_part)?;
                        }
                    }
                }
                Some(
                    "function_call"
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
        if runs_at_anthropic(&kind) {
            self.server_tool(whole(tool, "max_uses")?);
        }
        Ok(())
    }

    fn chat_tool(&mut self, tool: &Members<'_>) -> Result<(), WireError> {
        let kind = tool.str("type")?.unwrap_or_default();
        match tool.get(if kind == "custom" { "custom" } else { "function" }) {
            Some(definition) if matches!(&*kind, "function" | "custom") => {
                self.name_tool(&Members::parse(definition.get())?, &kind)
            }
            _ => {
                self.server_tool(None);
                self.name_tool(tool, &kind)
            }
        }
    }

    /// # Source
    /// OpenAI documentation, *Using tools*: `function`, `custom`, `local_shell`, `apply_patch` and the computer run at
    /// the client; `shell` does unless its `environment` is a container.
    fn responses_tool(&mut self, tool: &Members<'_>) -> Result<(), WireError> {
        let kind = tool.str("type")?.unwrap_or_default();
        self.name_tool(tool, &kind)?;
        let is_local = match tool.get("environment") {
            Some(environment) => Members::parse(environment.get())?.str("type")?.as_deref() == Some("local"),
            None => false,
        };
        match &*kind {
            "function" | "custom" => {}
            "local_shell" | "apply_patch" | "computer" | "computer_use_preview" => {
                self.add(HIDDEN_DEFINITION_TOKENS);
            }
            "shell" if is_local => self.add(HIDDEN_DEFINITION_TOKENS),
            _ => self.server_tool(None),
        }
        Ok(())
    }
}

/// Whether Anthropic itself runs tools of this type.
///
/// # Source
/// Anthropic documentation, *Tool reference*: `bash_*`, `text_editor_*`, `computer_*` and `memory_*` run at the client, all
/// other typed tools at Anthropic.
pub(crate) fn runs_at_anthropic(kind: &str) -> bool {
    let at_client = ["bash_", "text_editor_", "computer_", "memory_"];
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
        .is_some_and(|raw| raw.get().contains("compact"))
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
