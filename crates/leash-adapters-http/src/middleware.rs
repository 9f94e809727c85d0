//! [`LeashMiddleware`]: what happens to a request on its way out and to its answer on its way back.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{Extensions, HeaderMap, HeaderValue, StatusCode};
use leash_core::{Call, Digest, Json, LeashError, ModelCall, Usage, rule_ids};
use leash_firewall::{Admission, Answer, Firewall, Outcome, Wrap};
use leash_wire::{
    Endpoint, Format, FreeEndpoint, Limits, Outgoing, REFUSAL_STATUS, Refusal, Request as WireRequest,
    Response as WireResponse, StreamMeter, StreamOptions, WireError, check_encoding, classify, deployment,
    error_body, is_event_stream, is_regional, not_billed, outgoing_body,
};
use reqwest::{Request, Response, ResponseBuilderExt, Url};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Error, Middleware, Next, Result};

use crate::{CallReceipt, pump};

/// How much of a failed answer is read to learn whether it was billed.
const MAX_ERROR_BODY: usize = 1 << 20;

/// A middleware that lets a request out only through a [`Firewall`].
///
/// Put it innermost, so that every attempt of a retrying middleware is a call of its own.
#[derive(Clone)]
pub struct LeashMiddleware {
    firewall: Firewall,
    limits: Limits,
    in_band: bool,
    allowed_hosts: Arc<HashSet<String>>,
}

impl fmt::Debug for LeashMiddleware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeashMiddleware")
            .field("firewall", &self.firewall)
            .finish_non_exhaustive()
    }
}

/// Says to [`Firewall::wrap`] that this crate knows the client.
#[derive(Clone, Copy, Debug)]
pub enum HttpClient {}

impl Wrap<HttpClient> for reqwest::Client {
    type Guarded = ClientWithMiddleware;

    fn wrap(self, firewall: &Firewall) -> ClientWithMiddleware {
        ClientBuilder::new(self)
            .with(LeashMiddleware::new(firewall.clone()))
            .build()
    }
}

/// The refusal inside an error of a guarded client.
#[must_use]
pub fn refusal_of(error: &Error) -> Option<&LeashError> {
    match error {
        Error::Middleware(error) => error.downcast_ref(),
        Error::Reqwest(_) => None,
    }
}

impl LeashMiddleware {
    /// Guards with `firewall`, for its session.
    #[must_use]
    pub fn new(firewall: Firewall) -> Self {
        Self {
            firewall,
            limits: Limits::default(),
            in_band: false,
            allowed_hosts: Arc::default(),
        }
    }

    /// Answers a refusal in the provider's shape, with a status that its SDK does not retry, instead of an error.
    #[must_use]
    pub fn refuse_in_band(mut self) -> Self {
        self.in_band = true;
        self
    }

    /// How much of a request, an answer and an event is read at most.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Lets calls to `host` pass that are not known here. They are neither metered nor logged. Paid calls that are
    /// known and cannot be metered (embeddings, batches and so on) are refused there too.
    #[must_use]
    pub fn allow_host(mut self, host: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.allowed_hosts).insert(host.into().to_ascii_lowercase());
        self
    }

    /// The refusal as the client gets it.
    fn refused(&self, format: Option<Format>, url: Url, error: LeashError) -> Result<Response> {
        if !self.in_band {
            return Err(Error::middleware(error));
        }
        let reason = error.reason();
        let refusal = Refusal {
            rule_id: error.rule_id(),
            reason: &reason,
        };
        let body = error_body(format.unwrap_or_else(|| shape_of(&url)), &refusal);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in refusal.headers() {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        let status = StatusCode::from_u16(REFUSAL_STATUS).unwrap_or(StatusCode::FORBIDDEN);
        rebuild(
            status,
            http::Version::HTTP_11,
            headers,
            url,
            reqwest::Body::from(body),
        )
    }

    /// A refusal that nobody has written down yet.
    fn refuse(&self, format: Option<Format>, url: Url, error: LeashError) -> Result<Response> {
        let error = self.firewall.refuse(error);
        self.refused(format, url, error)
    }

    async fn free(&self, request: Request, extensions: &mut Extensions, next: Next<'_>) -> Result<Response> {
        let url = request.url().clone();
        if let Err(error) = self.firewall.check_stopped().await {
            return self.refused(None, url, error);
        }
        let response = next.run(request, extensions).await?;
        self.unless_led_elsewhere(url, response)
    }

    /// Withholds an answer that came from a paid call after all, where the client followed a redirect there. What it cost
    /// is past preventing; that nobody gains by it, and that the log says so, is not.
    fn unless_led_elsewhere(&self, asked: Url, response: Response) -> Result<Response> {
        let is_paid = |url: &Url| {
            // By which method it was followed is not known.
            let [posted, got] = ["POST", "GET"].map(|method| classify(method, url.path()));
            matches!(posted, Endpoint::Model(_) | Endpoint::Unsupported(_))
                && !matches!(got, Endpoint::Free(_))
        };
        if *response.url() == asked || is_paid(&asked) || !is_paid(response.url()) {
            return Ok(response);
        }
        let error = wire_error("a redirect led to a call that is paid for, past its meter");
        self.refuse(None, asked, error)
    }

    /// A call that costs nothing but shows the provider a prompt.
    async fn free_prompt(
        &self,
        endpoint: FreeEndpoint,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let url = request.url().clone();
        let body = match read_body(&request, &self.limits) {
            Ok(body) => body,
            Err(error) => return self.refuse(None, url, error),
        };
        let provider = shape_of(&url).provider();
        let what = match endpoint {
            FreeEndpoint::Moderations => "openai.moderations".to_owned(),
            _ => format!("{provider}.count_tokens"),
        };
        let model = body.value().get("model").and_then(|model| model.as_str());
        let call = ModelCall::new(
            provider,
            model.unwrap_or_default(),
            body.clone(),
            0,
            self.firewall.caller().clone(),
        );
        match self.firewall.screen(&what, call).await {
            Ok(None) => {}
            Ok(Some(redacted)) => set_body(&mut request, Bytes::copy_from_slice(redacted.text().as_bytes())),
            Err(error) => return self.refused(None, url, error),
        }
        let response = next.run(request, extensions).await?;
        self.unless_led_elsewhere(url, response)
    }

    async fn model(
        &self,
        format: Format,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let url = request.url().clone();
        let parsed = read_request(format, &request, &self.limits);
        let (wire, options) = match parsed {
            Ok(wire) => {
                let options = wire.stream_options(self.limits);
                (wire, options)
            }
            Err(error) => return self.refuse(Some(format), url, error),
        };
        let include_usage = wire.wants_usage_injected();
        let offers_unbounded_tools = wire.max_server_tool_uses.is_none();
        let mut call = wire.into_model_call(self.firewall.caller().clone());
        call.in_region = url.host_str().is_some_and(is_regional);
        let admission = match self.firewall.admit(call).await {
            Ok(admission) => admission,
            Err(error) => return self.refused(Some(format), url, error),
        };
        let Call::Model(call) = admission.call() else {
            admission.fail().await;
            return Err(Error::middleware(wire_error(
                "the admitted call is no call of a model",
            )));
        };
        let body = call.body.as_ref().unwrap_or(&call.messages);
        match outgoing_body(
            format,
            body,
            &Outgoing {
                include_usage,
                max_output_tokens: admission.output_limit(),
                max_tool_calls: if offers_unbounded_tools {
                    call.max_server_tool_uses
                } else {
                    None
                },
            },
        ) {
            Ok(body) => set_body(&mut request, body),
            Err(error) => {
                admission.fail().await;
                return self.refuse(Some(format), url, wire_error(error.message()));
            }
        }
        // What is compressed cannot be metered.
        request
            .headers_mut()
            .insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let response = match admission.unless_stopped(next.run(request, extensions)).await {
            Ok(response) => response,
            Err(stopped) => return self.cut(format, url, admission, stopped).await,
        };
        match response {
            Ok(response) => self.answer(format, options, admission, response).await,
            Err(error) => {
                if never_sent(&error) {
                    admission.fail().await;
                } else {
                    admission
                        .settle(Answer::unreported(Digest::EMPTY, Outcome::Error))
                        .await;
                }
                Err(error)
            }
        }
    }

    async fn answer(
        &self,
        format: Format,
        options: StreamOptions,
        admission: Admission,
        response: Response,
    ) -> Result<Response> {
        let (status, version, url) = (response.status(), response.version(), response.url().clone());
        let headers = response.headers().clone();
        if !status.is_success() {
            return self.failed(format, admission, response).await;
        }
        if let Err(error) = check_plain(&headers) {
            // Tool calls in it cannot be judged, so the agent does not get it; it was billed all the same.
            admission
                .settle(Answer::unreported(Digest::EMPTY, Outcome::Error))
                .await;
            return self.refuse(Some(format), url, error);
        }
        if headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(is_event_stream)
        {
            let meter = StreamMeter::new(format, options);
            let (body, refusal, receipt) = pump::start(self.firewall.clone(), admission, meter, response);
            let mut response = rebuild(status, version, headers, url, reqwest::Body::wrap_stream(body))?;
            response.extensions_mut().insert(refusal);
            response.extensions_mut().insert(receipt);
            return Ok(response);
        }
        let body = match admission
            .unless_stopped(read_limited(response, self.limits.max_body_bytes))
            .await
        {
            Ok(body) => body,
            Err(stopped) => return self.cut(format, url, admission, stopped).await,
        };
        let parsed = match body {
            Ok(Some(body)) => WireResponse::parse(format, &body, &self.limits).map(|parsed| (body, parsed)),
            Ok(None) => {
                admission
                    .settle(Answer::unreported(Digest::EMPTY, Outcome::Error))
                    .await;
                let error = wire_error("the answer is larger than the limit");
                return self.refuse(Some(format), url, error);
            }
            Err(error) => {
                admission
                    .settle(Answer::unreported(Digest::EMPTY, Outcome::Error))
                    .await;
                return Err(error.into());
            }
        };
        let (body, parsed) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                admission
                    .settle(Answer::unreported(Digest::EMPTY, Outcome::Error))
                    .await;
                return self.refuse(Some(format), url, wire_error(error.message()));
            }
        };
        let receipt = admission
            .settle(settled(parsed.usage(), parsed.content_digest()))
            .await;
        let requests = match parsed.tool_requests() {
            Ok(requests) => requests,
            Err(error) => return self.refuse(Some(format), url, wire_error(error.message())),
        };
        for request in requests {
            if let Err(error) = self.firewall.inspect(request).await {
                return self.refused(Some(format), url, error);
            }
        }
        let mut response = rebuild(status, version, headers, url, reqwest::Body::from(body))?;
        response.extensions_mut().insert(CallReceipt::from(receipt));
        Ok(response)
    }

    /// An answer with a status of failure: settled, and handed on as it came.
    async fn failed(&self, format: Format, admission: Admission, response: Response) -> Result<Response> {
        let (status, version, url) = (response.status(), response.version(), response.url().clone());
        let headers = response.headers().clone();
        let body = match admission
            .unless_stopped(read_limited(response, MAX_ERROR_BODY))
            .await
        {
            Ok(body) => body,
            Err(stopped) => return self.cut(format, url, admission, stopped).await,
        };
        let is_unbilled = match &body {
            Ok(Some(body)) if check_plain(&headers).is_ok() => not_billed(format, status.as_u16(), body),
            // What a 400 means is said in its body, which cannot be read here.
            _ => status != StatusCode::BAD_REQUEST && not_billed(format, status.as_u16(), b""),
        };
        let receipt = if is_unbilled {
            admission.fail().await
        } else {
            admission
                .settle(Answer::unreported(Digest::EMPTY, Outcome::Error))
                .await
        };
        let body = reqwest::Body::from(body?.unwrap_or_default());
        let mut response = rebuild(status, version, headers, url, body)?;
        response.extensions_mut().insert(CallReceipt::from(receipt));
        Ok(response)
    }

    /// Ends a call that a kill order stopped before its answer began. Nobody knows what it cost.
    async fn cut(
        &self,
        format: Format,
        url: Url,
        admission: Admission,
        stopped: LeashError,
    ) -> Result<Response> {
        admission
            .settle(Answer::unreported(Digest::EMPTY, Outcome::Cut))
            .await;
        self.refused(Some(format), url, stopped)
    }
}

#[async_trait::async_trait]
impl Middleware for LeashMiddleware {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let endpoint = classify(request.method().as_str(), request.url().path());
        let reason = match endpoint {
            Endpoint::Model(format) => return self.model(format, request, extensions, next).await,
            Endpoint::Free(endpoint @ (FreeEndpoint::CountTokens | FreeEndpoint::Moderations)) => {
                return self.free_prompt(endpoint, request, extensions, next).await;
            }
            Endpoint::Free(_) => return self.free(request, extensions, next).await,
            Endpoint::Unsupported(name) => format!("calls of {name} cannot be metered"),
            _ if self.is_allowed(request.url()) => {
                return self.free(request, extensions, next).await;
            }
            _ => "the path is no call that can be metered; `allow_host` lets a host pass".to_owned(),
        };
        let error = LeashError::blocked(rule_ids::WIRE, reason);
        self.refuse(None, request.url().clone(), error)
    }
}

impl LeashMiddleware {
    fn is_allowed(&self, url: &Url) -> bool {
        url.host_str()
            .is_some_and(|host| self.allowed_hosts.contains(&host.to_ascii_lowercase()))
    }
}

/// The format whose errors a client expects from a path that is no call of a model.
fn shape_of(url: &Url) -> Format {
    if url.path().contains("/messages") {
        Format::AnthropicMessages
    } else {
        Format::OpenAiChat
    }
}

/// How an answer in one piece, or a stream that came to its end, is settled.
pub(crate) fn settled(usage: Option<Usage>, response_digest: Digest) -> Answer {
    match usage {
        Some(usage) => Answer::reported(usage, response_digest),
        None => Answer::unreported(response_digest, Outcome::Ok),
    }
}

pub(crate) fn wire_error(message: &'static str) -> LeashError {
    LeashError::blocked(rule_ids::WIRE, message)
}

/// Checks that a body is as it reads: no header says that it is encoded, nor something that cannot be read itself.
fn check_plain(headers: &HeaderMap) -> std::result::Result<(), LeashError> {
    for value in headers.get_all(CONTENT_ENCODING) {
        let value = value
            .to_str()
            .map_err(|_| wire_error("the body is encoded in an unknown way"))?;
        check_encoding(Some(value)).map_err(|error| wire_error(error.message()))?;
    }
    Ok(())
}

fn body_bytes(request: &Request) -> std::result::Result<&[u8], LeashError> {
    check_plain(request.headers())?;
    match request.body() {
        None => Ok(b""),
        Some(body) => body
            .as_bytes()
            .ok_or_else(|| wire_error("the body of the request is a stream, which cannot be read")),
    }
}

fn read_body(request: &Request, limits: &Limits) -> std::result::Result<Json, LeashError> {
    let bytes = body_bytes(request)?;
    if bytes.len() > limits.max_body_bytes {
        return Err(wire_error("the request is larger than the limit"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| wire_error("the request is not UTF-8"))?;
    Json::parse(text).map_err(|_| wire_error("the request is not JSON with one reading"))
}

fn read_request(
    format: Format,
    request: &Request,
    limits: &Limits,
) -> std::result::Result<WireRequest, LeashError> {
    let bytes = body_bytes(request)?;
    let parsed = match deployment(request.url().path()) {
        Some(model) => WireRequest::parse_deployment(format, model, bytes, limits),
        None => WireRequest::parse(format, bytes, limits),
    };
    parsed.map_err(|error: WireError| wire_error(error.message()))
}

fn set_body(request: &mut Request, body: Bytes) {
    request.headers_mut().remove(CONTENT_LENGTH);
    *request.body_mut() = Some(body.into());
}

/// Whether no byte of a failed request can have reached the provider.
fn never_sent(error: &Error) -> bool {
    match error {
        Error::Reqwest(error) => error.is_connect() || error.is_builder(),
        Error::Middleware(_) => false,
    }
}

/// The whole body, `None` where it is longer than `limit`.
async fn read_limited(
    mut response: Response,
    limit: usize,
) -> std::result::Result<Option<Bytes>, reqwest::Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len().saturating_add(chunk.len()) > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.freeze()))
}

/// A response with another body. Its URL is kept, which clients report in errors.
fn rebuild(
    status: StatusCode,
    version: http::Version,
    mut headers: HeaderMap,
    url: Url,
    body: reqwest::Body,
) -> Result<Response> {
    headers.remove(CONTENT_LENGTH);
    let mut response = http::Response::builder()
        .status(status)
        .version(version)
        .url(url)
        .body(body)
        .map_err(Error::middleware)?;
    *response.headers_mut() = headers;
    Ok(Response::from(response))
}
