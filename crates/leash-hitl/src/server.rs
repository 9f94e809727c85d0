//! The page behind a link that lets a human decide: [`resume_router`]. Knows no store and no key but what it is given.
//!
//! `GET /resume?token=…` shows what is asked and changes nothing, so that a preview of the link approves nothing;
//! `POST` decides.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Form, Query, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;

use crate::{
    Allowed, Entry, HitlQueue, ResumeError, ResumeKey, Ruling, Status, pretty_json, resume, visible,
};

/// The longest form that is read, in bytes.
const MAX_FORM_BYTES: usize = 16 * 1024;

#[derive(Clone)]
struct Shared {
    queue: Arc<dyn HitlQueue>,
    key: ResumeKey,
}

#[derive(Deserialize)]
struct Asked {
    token: String,
}

#[derive(Deserialize)]
struct Answered {
    token: String,
    decision: String,
    #[serde(default)]
    reason: String,
}

/// Serves `/resume` for the requests in `queue`, to whoever holds a token of `key`.
///
/// The token is all that it asks for: serve it over TLS, and keep it out of access logs.
pub fn resume_router(queue: Arc<dyn HitlQueue>, key: ResumeKey) -> Router {
    Router::new()
        .route("/resume", get(show).post(decide))
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .with_state(Shared { queue, key })
}

async fn show(State(shared): State<Shared>, asked: Result<Query<Asked>, QueryRejection>) -> Response {
    let Ok(Query(Asked { token })) = asked else {
        return refused(&ResumeError::Invalid);
    };
    let claims = match shared.key.check(&token) {
        Ok(claims) => claims,
        Err(error) => return refused(&error),
    };
    match shared.queue.get(&claims.request_id).await {
        Ok(Some(entry)) if entry.shows_what_is_hashed() == Some(false) => refused(&ResumeError::Changed),
        Ok(Some(entry)) if entry.status == Status::Pending => page(
            StatusCode::OK,
            "Approve this call?",
            &question(&entry, &token, claims.allowed),
        ),
        Ok(_) => refused(&ResumeError::NotPending),
        Err(error) => refused(&ResumeError::Queue(error)),
    }
}

async fn decide(State(shared): State<Shared>, answered: Result<Form<Answered>, FormRejection>) -> Response {
    let Ok(Form(answered)) = answered else {
        return refused(&ResumeError::Invalid);
    };
    let ruling = match answered.decision.as_str() {
        "approve" => Ruling::approve(Some("resume link")),
        "reject" if answered.reason.trim().is_empty() => {
            Ruling::reject("rejected by human", Some("resume link"))
        }
        "reject" => Ruling::reject(answered.reason.trim(), Some("resume link")),
        _ => return refused(&ResumeError::NotAllowed),
    };
    match resume(shared.queue.as_ref(), &shared.key, &answered.token, &ruling).await {
        Ok(entry) => {
            let word = entry.status.as_str();
            let text = format!("<p>Request {} is {word}.</p>", escape(&entry.id));
            page(StatusCode::OK, "Decided", &text)
        }
        Err(error) => refused(&error),
    }
}

fn refused(error: &ResumeError) -> Response {
    let (status, text) = match error {
        ResumeError::Invalid => (StatusCode::FORBIDDEN, "This link is not valid."),
        ResumeError::Over => (StatusCode::GONE, "This link is over."),
        ResumeError::NotAllowed => (StatusCode::FORBIDDEN, "This link may not decide that."),
        ResumeError::NotPending => (
            StatusCode::CONFLICT,
            "The request is no longer pending: it was decided, withdrawn, or is over.",
        ),
        ResumeError::Changed => (
            StatusCode::CONFLICT,
            "The request was changed after it was asked: what it shows is not what would be approved.",
        ),
        ResumeError::NoLinks | ResumeError::Queue(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The approval queue cannot be reached. Nothing was decided.",
        ),
    };
    page(status, "Nothing was decided", &format!("<p>{text}</p>"))
}

fn question(entry: &Entry, token: &str, allowed: Allowed) -> String {
    let mut out = String::from("<dl>");
    let mut row = |name: &str, value: &str| {
        let _ = write!(out, "<dt>{name}</dt><dd>{}</dd>", escape(value));
    };
    row("Tool", &entry.tool);
    row("Session", &entry.session_id);
    if let Some(tenant) = &entry.tenant_id {
        row("Tenant", tenant);
    }
    row("Asked by rule", &entry.rule_id);
    row("Because", &entry.reason);
    if let Some(until) = entry.expires_at {
        row("Good until", &until.to_string());
    }
    if let Some(hash) = entry.call_hash {
        row("Hash", &hash.to_string());
    }
    let _ = write!(out, "</dl><pre>{}</pre>", escape(&pretty_json(&entry.args)));
    let token = escape(token);
    let _ = write!(
        out,
        "<form method=\"post\" action=\"resume\"><input type=\"hidden\" name=\"token\" value=\"{token}\">"
    );
    if allowed != Allowed::Approve {
        out.push_str(
            "<p><label>Reason of a rejection <input name=\"reason\" maxlength=\"1000\"></label></p>",
        );
    }
    for (name, label, other) in [
        ("approve", "Approve", Allowed::Reject),
        ("reject", "Reject", Allowed::Approve),
    ] {
        if allowed != other {
            let _ = write!(
                out,
                "<button name=\"decision\" value=\"{name}\">{label}</button> "
            );
        }
    }
    out.push_str("</form>");
    out
}

/// The text, so that it is text and nothing else in HTML.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in visible(text).chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            char => out.push(char),
        }
    }
    out
}

fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><meta name=\"robots\" content=\"noindex\"><title>{title}</title><style>\
         :root{{color-scheme:light dark}}body{{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;\
         padding:0 1rem}}dt{{font-weight:600}}dd{{margin:0 0 .5rem;overflow-wrap:anywhere}}pre{{padding:1rem;\
         border:1px solid;white-space:pre-wrap;overflow-wrap:anywhere}}button{{font:inherit;padding:.5rem 1.5rem}}\
         </style></head><body><h1>{title}</h1>{body}</body></html>\n"
    );
    let headers: [(HeaderName, HeaderValue); 6] = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(
                "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; \
                 base-uri 'none'",
            ),
        ),
    ];
    (status, headers, html).into_response()
}
