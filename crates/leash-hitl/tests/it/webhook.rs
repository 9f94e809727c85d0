//! A gate that asks a real service over HTTP, which answers as it should or not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use leash_hitl::conformance::request;
use leash_hitl::{Approval, HitlGate as _, SIGNATURE_HEADER, Secret, WebhookBuilder, WebhookHitlGate};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What the service does, and what it was sent.
#[derive(Clone)]
struct Service {
    /// What it answers to the POSTs, then 200.
    posts: Arc<Mutex<Vec<StatusCode>>>,
    answer: Arc<dyn Fn(&str) -> Response + Send + Sync>,
    seen: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

fn secret() -> Secret {
    Secret::new("a secret of 16 bytes or more").unwrap()
}

fn now() -> u64 {
    leash_core::Clock::now(&leash_core::SystemClock).as_unix_ms() / 1000
}

async fn taken(State(service): State<Service>, headers: HeaderMap, body: Bytes) -> StatusCode {
    service.seen.lock().unwrap().push((headers, body));
    service.posts.lock().unwrap().pop().unwrap_or(StatusCode::OK)
}

async fn asked(State(service): State<Service>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    service.seen.lock().unwrap().push((headers, Bytes::new()));
    (service.answer)(&id)
}

async fn serve(answer: impl Fn(&str) -> Response + Send + Sync + 'static) -> (String, Service) {
    let service = Service {
        posts: Arc::default(),
        answer: Arc::new(answer),
        seen: Arc::default(),
    };
    let app = Router::new()
        .route("/hooks/requests", post(taken))
        .route("/hooks/requests/{id}", get(asked))
        .route("/approved", get(|| async { r#"{"status":"approved"}"# }))
        .with_state(service.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, service)
}

fn gate(url: &str) -> WebhookBuilder {
    WebhookHitlGate::builder(url)
        .allow_private_host("127.0.0.1")
        .poll_interval(Duration::from_millis(1))
}

async fn ask(gate: WebhookBuilder) -> Approval {
    gate.build()
        .unwrap()
        .request(&request(json!({"amount": 4000})))
        .await
        .unwrap()
        .approval
}

fn signed(body: &Value, by: &Secret) -> Response {
    let body = body.to_string();
    ([(SIGNATURE_HEADER, by.sign(now(), body.as_bytes()))], body).into_response()
}

fn rejects(approval: &Approval, because: &str) {
    assert!(
        matches!(approval, Approval::Rejected { reason, .. } if reason.contains(because)),
        "{approval:?} is not because of `{because}`"
    );
}

#[tokio::test]
async fn a_service_is_asked_in_the_original_s_words_until_it_decides() {
    let polls = Mutex::new(0);
    let (url, service) = serve(move |_| {
        let mut polls = polls.lock().unwrap();
        *polls += 1;
        match *polls {
            1 | 2 => json!({"status": "pending", "reason": null})
                .to_string()
                .into_response(),
            _ => json!({"status": "approved"}).to_string().into_response(),
        }
    })
    .await;
    assert_eq!(ask(gate(&url)).await, Approval::approved());
    let seen = service.seen.lock().unwrap();
    assert_eq!(seen.len(), 4);
    let body: Value = serde_json::from_slice(&seen[0].1).unwrap();
    assert_eq!(body["args"], json!({"amount": 4000}));
    for (name, value) in [
        ("session_id", "s_1"),
        ("tool", "wire"),
        ("rule_id", "wires"),
        ("reason", "money leaves"),
    ] {
        assert_eq!(body[name], value);
    }
    assert_eq!(seen[0].0["idempotency-key"], body["request_id"].as_str().unwrap());
    assert!(!seen[0].0.contains_key(SIGNATURE_HEADER));
}

#[tokio::test]
async fn a_rejection_carries_its_reason() {
    let (url, _) = serve(|_| {
        json!({"status": "rejected", "reason": "too much"})
            .to_string()
            .into_response()
    })
    .await;
    rejects(&ask(gate(&url)).await, "too much");
    let (url, _) = serve(|_| json!({"status": "rejected"}).to_string().into_response()).await;
    rejects(&ask(gate(&url)).await, "rejected by human");
}

#[tokio::test]
async fn what_is_sent_again_has_the_same_key_and_body() {
    let (url, service) = serve(|_| json!({"status": "approved"}).to_string().into_response()).await;
    *service.posts.lock().unwrap() = vec![StatusCode::BAD_GATEWAY, StatusCode::TOO_MANY_REQUESTS];
    assert_eq!(ask(gate(&url)).await, Approval::approved());
    let seen = service.seen.lock().unwrap();
    assert_eq!(seen.len(), 4);
    for again in &seen[1..3] {
        assert_eq!(again.0["idempotency-key"], seen[0].0["idempotency-key"]);
        assert_eq!(again.1, seen[0].1);
    }
}

#[tokio::test]
async fn everything_but_an_approval_denies() {
    type Answers = fn(&str) -> Response;
    let cases: [(&str, Answers); 9] = [
        ("unknown status", |_| r#"{"status":"yes"}"#.into_response()),
        ("unknown status", |_| r#"{"status":true}"#.into_response()),
        ("unknown status", |_| "[]".into_response()),
        ("makes no sense", |_| "".into_response()),
        ("makes no sense", |_| {
            r#"{"status":"rejected","status":"approved"}"#.into_response()
        }),
        ("does not know", |_| {
            (StatusCode::NOT_FOUND, r#"{"status":"approved"}"#).into_response()
        }),
        ("does not know", |_| {
            (StatusCode::ACCEPTED, r#"{"status":"approved"}"#).into_response()
        }),
        ("does not know", |_| {
            Redirect::temporary("/approved").into_response()
        }),
        ("too long", |_| {
            format!(r#"{{"status":"approved","x":"{}"}}"#, "x".repeat(70_000)).into_response()
        }),
    ];
    for (because, answer) in cases {
        let (url, _) = serve(answer).await;
        rejects(&ask(gate(&url)).await, because);
    }
    let (url, service) = serve(|_| r#"{"status":"approved"}"#.into_response()).await;
    *service.posts.lock().unwrap() = vec![StatusCode::BAD_REQUEST];
    rejects(&ask(gate(&url)).await, "did not take");
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    rejects(&ask(gate(&format!("http://{closed}"))).await, "cannot be reached");
}

#[tokio::test]
async fn silence_expires() {
    let (url, _) = serve(|_| r#"{"status":"pending"}"#.into_response()).await;
    let expired = ask(gate(&url).timeout(Duration::from_millis(50))).await;
    assert_eq!(
        expired,
        Approval::Expired {
            reason: "hitl: timeout after 0.05s".into()
        }
    );
}

#[tokio::test]
async fn with_a_secret_both_sides_sign() {
    let (url, service) = serve(|id| {
        signed(
            &json!({"request_id": id, "status": "approved", "operator": "ada"}),
            &secret(),
        )
    })
    .await;
    let approval = ask(gate(&url).secret(secret())).await;
    assert_eq!(
        approval,
        Approval::Approved {
            operator: Some("ada".into()),
            grant: None
        }
    );
    for (headers, body) in &*service.seen.lock().unwrap() {
        let header = headers[SIGNATURE_HEADER].to_str().unwrap();
        assert!(secret().is_signed(header, body, now()));
        assert!(header.starts_with("t=") && header.contains(",v1="));
    }
}

#[tokio::test]
async fn with_a_secret_an_answer_that_is_not_signed_for_this_request_denies() {
    let other = || Secret::new("another secret of 16 bytes").unwrap();
    let cases: [fn(&str) -> Response; 5] = [
        |id| {
            json!({"request_id": id, "status": "approved"})
                .to_string()
                .into_response()
        },
        |_| signed(&json!({"status": "approved"}), &secret()),
        |_| signed(&json!({"request_id": "another", "status": "approved"}), &secret()),
        |id| {
            let body = json!({"request_id": id, "status": "approved"}).to_string();
            let old = secret().sign(now() - 3600, body.as_bytes());
            ([(SIGNATURE_HEADER, old)], body).into_response()
        },
        |id| {
            let body = json!({"request_id": id, "status": "approved"}).to_string();
            let pending = secret().sign(now(), b"{}");
            ([(SIGNATURE_HEADER, pending)], body).into_response()
        },
    ];
    for answer in cases {
        let (url, _) = serve(answer).await;
        rejects(
            &ask(gate(&url).secret(secret())).await,
            "not signed for this request",
        );
    }
    let (url, _) = serve(move |id| signed(&json!({"request_id": id, "status": "approved"}), &other())).await;
    rejects(
        &ask(gate(&url).secret(secret())).await,
        "not signed for this request",
    );
}

#[tokio::test]
async fn nobody_is_asked_about_a_masked_field() {
    let (url, service) = serve(|_| r#"{"status":"approved"}"#.into_response()).await;
    let gate = gate(&url).show_fields(["amount"]).build().unwrap();
    let masked = request(json!({"amount": "[REDACTED:number]"}));
    rejects(
        &gate.request(&masked).await.unwrap().approval,
        "`amount` is masked",
    );
    assert!(service.seen.lock().unwrap().is_empty());
}
