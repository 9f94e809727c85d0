//! The page behind a link: looking changes nothing, and the text of a call is text.

use std::sync::Arc;

use leash_core::Timestamp;
use leash_hitl::conformance::entry;
use leash_hitl::{
    Allowed, Entry, HitlGate, HitlQueue, InMemoryHitlGate, MemoryQueue, NewEntry, QueueHitlGate, ResumeError,
    ResumeKey, Ruling, Secret, Status, resume, resume_router,
};
use serde_json::json;
use tokio::net::TcpListener;

fn key() -> ResumeKey {
    ResumeKey::new(Secret::new("a secret of 16 bytes or more").unwrap())
}

fn in_future() -> Timestamp {
    "9999-01-01T00:00:00Z".parse().unwrap()
}

async fn asked(args: serde_json::Value) -> (Arc<MemoryQueue>, Entry) {
    let queue = Arc::new(MemoryQueue::new());
    let entry = queue.enqueue(&entry(args)).await.unwrap();
    (queue, entry)
}

async fn serve(queue: Arc<MemoryQueue>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/resume", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, resume_router(queue, key())).await });
    url
}

async fn look(url: &str) -> (u16, String, reqwest::header::HeaderMap) {
    let response = reqwest::get(url).await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, response.text().await.unwrap(), headers)
}

async fn post(url: &str, body: String) -> u16 {
    let request = reqwest::Client::new()
        .post(url)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(body);
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn looking_at_a_link_changes_nothing_and_posting_decides_once() {
    let (queue, entry) = asked(json!({"amount": 4000})).await;
    let url = serve(queue.clone()).await;
    let token = key().token(&entry.id, in_future(), Allowed::Either);
    for _ in 0..3 {
        let (status, page, headers) = look(&format!("{url}?token={token}")).await;
        assert_eq!(status, 200);
        assert!(page.contains("amount") && page.contains(&entry.call_hash.unwrap().to_string()));
        assert_eq!(headers["cache-control"], "no-store");
        assert!(
            headers["content-security-policy"]
                .to_str()
                .unwrap()
                .contains("default-src 'none'")
        );
    }
    let head = reqwest::Client::new()
        .head(format!("{url}?token={token}"))
        .send()
        .await
        .unwrap();
    assert_eq!(head.status(), 200);
    assert_eq!(
        queue.get(&entry.id).await.unwrap().unwrap().status,
        Status::Pending
    );
    assert_eq!(post(&url, format!("token={token}&decision=maybe")).await, 403);
    assert_eq!(
        post(&url, format!("token={token}&decision=reject&reason=too+much")).await,
        200
    );
    let stands = queue.get(&entry.id).await.unwrap().unwrap();
    assert_eq!(
        (stands.status, stands.decision_reason.as_deref()),
        (Status::Rejected, Some("too much"))
    );
    assert_eq!(post(&url, format!("token={token}&decision=approve")).await, 409);
    assert_eq!(look(&format!("{url}?token={token}")).await.0, 409);
}

#[tokio::test]
async fn what_is_asked_is_shown_as_text() {
    let (queue, entry) = asked(json!({"x": "<script>alert(1)</script>\"'&\u{202e}\u{7}", "n": 0.1})).await;
    let url = serve(queue).await;
    let token = key().token(&entry.id, in_future(), Allowed::Approve);
    let (_, page, _) = look(&format!("{url}?token={token}")).await;
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;"));
    assert!(!page.contains('\u{202e}') && page.contains("\\u{202e}"));
    assert!(!page.contains("value=\"reject\""));
}

#[tokio::test]
async fn a_link_that_is_none_decides_nothing() {
    let (queue, entry) = asked(json!({})).await;
    let url = serve(queue.clone()).await;
    let over = key().token(&entry.id, Timestamp::EPOCH, Allowed::Either);
    let rejects = key().token(&entry.id, in_future(), Allowed::Reject);
    let unknown = key().token("unknown", in_future(), Allowed::Either);
    let forged = rejects.replacen(".r.", ".a.", 1);
    for (token, status) in [
        (over.as_str(), 410),
        (&forged, 403),
        ("junk", 403),
        ("", 403),
        (&unknown, 409),
    ] {
        assert_eq!(look(&format!("{url}?token={token}")).await.0, status);
        assert_eq!(
            post(&url, format!("token={token}&decision=approve")).await,
            status
        );
    }
    assert_eq!(post(&url, format!("token={rejects}&decision=approve")).await, 403);
    assert_eq!(look(&url).await.0, 403);
    assert_eq!(post(&url, String::new()).await, 403);
    assert_eq!(
        post(
            &url,
            format!("token={rejects}&decision=reject&reason={}", "x".repeat(20_000))
        )
        .await,
        403
    );
    assert_eq!(
        queue.get(&entry.id).await.unwrap().unwrap().status,
        Status::Pending
    );
    let approve = Ruling::approve(Some("ada"));
    let refused = resume(queue.as_ref(), &key(), &rejects, &approve).await;
    assert!(matches!(refused, Err(ResumeError::NotAllowed)));
    let reject = Ruling::reject("no", Some("ada"));
    assert!(resume(queue.as_ref(), &key(), &rejects, &reject).await.is_ok());
    let twice = resume(queue.as_ref(), &key(), &rejects, &reject).await;
    assert!(matches!(twice, Err(ResumeError::NotPending)));
}

#[tokio::test]
async fn what_was_changed_after_it_was_asked_is_neither_shown_nor_approved() {
    let queue: Arc<MemoryQueue> = Arc::new(MemoryQueue::new());
    // What a program that writes into the store would leave: another document under the hash of the first.
    let new = NewEntry {
        args: r#"{"amount":4}"#.into(),
        ..entry(json!({"amount": 4000}))
    };
    let entry = queue.enqueue(&new).await.unwrap();
    let url = serve(queue.clone()).await;
    let token = key().token(&entry.id, in_future(), Allowed::Either);
    let (status, page, _) = look(&format!("{url}?token={token}")).await;
    assert_eq!(status, 409);
    assert!(!page.contains("amount"));
    assert_eq!(post(&url, format!("token={token}&decision=approve")).await, 409);
    let refused = resume(queue.as_ref(), &key(), &token, &Ruling::approve(None)).await;
    assert!(matches!(refused, Err(ResumeError::Changed)));
    assert_eq!(post(&url, format!("token={token}&decision=reject")).await, 200);
}

#[tokio::test]
async fn a_gate_decides_by_links_only_where_it_knows_the_key() {
    let (queue, entry) = asked(json!({})).await;
    let gate = QueueHitlGate::new(queue.clone());
    let token = key().token(&entry.id, in_future(), Allowed::Approve);
    let approve = Ruling::approve(Some("ada"));
    let keyless: [Box<dyn HitlGate>; 2] = [Box::new(gate.clone()), Box::new(InMemoryHitlGate::approving())];
    for gate in keyless {
        let refused = gate.resume(&token, &approve).await;
        assert!(matches!(refused, Err(ResumeError::NoLinks)));
    }
    let other = ResumeKey::new(Secret::new("another secret of 16 bytes").unwrap());
    let refused = gate.clone().resume_key(other).resume(&token, &approve).await;
    assert!(matches!(refused, Err(ResumeError::Invalid)));
    let decided = gate.resume_key(key()).resume(&token, &approve).await.unwrap();
    assert_eq!(
        (decided.status, decided.operator.as_deref()),
        (Status::Approved, Some("ada"))
    );
}
