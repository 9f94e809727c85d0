//! Answers that stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use leash_budget::{
    Balance, BudgetStore, Expired, Hit, Hits, Hold, MemoryStore, Reserve, Scope, ScopeKey, Settled,
    Settlement, Written,
};
use leash_core::{Call, Decision, PolicyContext, ReservationId, Rule, RuleError, StoreError, SystemClock};
use leash_testkit::{Reply, Step, anthropic, chat, responses};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::{CHAT, MESSAGES, RESPONSES, ask, read_all, within, world};

#[tokio::test]
async fn each_format_is_metered_at_its_end_and_forwarded_byte_for_byte() {
    for (path, body, cost) in [
        (MESSAGES, anthropic::stream("hello", 100, 50), "0.00035"),
        (RESPONSES, responses::stream("hello", 100, 50), "0.000625"),
        (CHAT, chat::stream("hello", 100, 50), "0.000625"),
    ] {
        let world = world(|fw| fw).await;
        world.provider.always(Reply::events(body.clone()));
        let mut request = ask(path, "hi", true);
        if path == CHAT {
            request["stream_options"] = json!({"include_usage": true});
        }
        let mut response = world.post(path, &request).send().await.unwrap();
        assert_eq!(
            response.headers()["content-type"],
            "text/event-stream; charset=utf-8"
        );
        assert_eq!(read_all(&mut response).await, (body, false));
        // Whoever saw the end finds the books closed.
        let line = world.call_line().await;
        assert_eq!((&line["outcome"], &line["usage"]), (&json!("ok"), &json!(null)));
        assert_eq!(
            (&line["input_tokens"], &line["output_tokens"]),
            (&json!(100), &json!(50))
        );
        assert_eq!(world.provider.requests()[0].text(), request.to_string());
        world.spent(cost).await;
    }
}

#[tokio::test]
async fn a_stream_and_an_answer_in_one_piece_have_one_hash() {
    for (path, whole, stream) in [
        (
            MESSAGES,
            anthropic::message("hello", 1, 1),
            anthropic::stream("hello", 1, 1),
        ),
        (CHAT, chat::answer("hello", 1, 1), chat::stream("hello", 1, 1)),
        (
            RESPONSES,
            responses::answer("hello", 1, 1),
            responses::stream("hello", 1, 1),
        ),
    ] {
        let mut hashes = Vec::new();
        for reply in [Reply::json(whole.clone()), Reply::events(stream)] {
            let world = world(|fw| fw).await;
            world.provider.always(reply);
            let mut response = world.post(path, &ask(path, "hi", false)).send().await.unwrap();
            read_all(&mut response).await;
            hashes.push(world.call_line().await["response_hash"].clone());
        }
        assert_eq!(hashes[0], hashes[1], "{path}");
    }
}

#[tokio::test]
async fn usage_is_asked_for_where_the_client_did_not_and_its_chunk_hidden() {
    let world = world(|fw| fw).await;
    world
        .provider
        .always(Reply::events(chat::stream("hello", 100, 50)));
    let request = ask(CHAT, "hi", true);
    // A length that the client wrote itself is that of the request before.
    let length = request.to_string().len();
    let mut response = world
        .post(CHAT, &request)
        .header("content-length", length)
        .send()
        .await
        .unwrap();
    let (text, _) = read_all(&mut response).await;
    assert_eq!(
        text,
        [chat::text("hello"), chat::finish("stop"), chat::done()].concat()
    );
    let sent: Value = serde_json::from_str(&world.provider.requests()[0].text()).unwrap();
    assert_eq!(sent["stream_options"], json!({"include_usage": true}));
    world.spent("0.000625").await;
}

/// A stream under way: its first event was read, and upstream sends nothing more.
fn slow() -> Reply {
    Reply::stream(vec![
        Step::send(anthropic::start(100)),
        Step::send([anthropic::text_start(0), anthropic::text(0, "one")].concat()),
        Step::Hang,
    ])
}

fn is_error_event(text: &str) -> bool {
    text.starts_with("event: error\ndata: ") && text.ends_with("\n\n") && text.matches("data: ").count() == 1
}

#[tokio::test]
async fn a_kill_order_cuts_a_stream_that_is_read() {
    let world = world(|fw| fw).await;
    world.provider.always(slow());
    let mut response = world
        .post(MESSAGES, &ask(MESSAGES, "hi", true))
        .send()
        .await
        .unwrap();
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains("one") {
        read.extend_from_slice(&within(response.chunk()).await.unwrap().unwrap());
    }
    world.fw.kill("enough").await.unwrap();
    let killed = Instant::now();
    within(world.provider.hung_up(1)).await;
    assert!(
        killed.elapsed() < Duration::from_millis(300),
        "{:?}",
        killed.elapsed()
    );
    let (rest, broke_off) = read_all(&mut response).await;
    assert!(is_error_event(&rest) && !broke_off, "{rest}");
    assert!(rest.contains("kill:registry"));
    let line = world.call_line().await;
    assert_eq!(
        (&line["outcome"], &line["usage"]),
        (&json!("cut"), &json!("estimated"))
    );
    assert_eq!(line["input_tokens"], 100);
}

/// Tells when it is asked about a tool call: what came before that waits for the reader by then.
#[derive(Debug)]
struct Asked(watch::Sender<bool>);

impl Rule for Asked {
    fn id(&self) -> &'static str {
        "asked"
    }

    fn evaluate(&self, call: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        if matches!(call, Call::Tool(_)) {
            self.0.send_replace(true);
        }
        Ok(None)
    }
}

#[tokio::test]
async fn a_kill_order_cuts_a_stream_that_nobody_polls_and_nothing_of_it_comes_after() {
    let begin = [anthropic::start(9), anthropic::tool_call(0, "search", &json!({}))].concat();
    let ping = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
    for rest in [Step::Hang, Step::Endless(ping.into())] {
        let (sender, mut asked) = watch::channel(false);
        let world = world(|fw| fw.rule(Asked(sender))).await;
        world
            .provider
            .always(Reply::stream(vec![Step::send(begin.clone()), rest]));
        let mut response = world
            .post(MESSAGES, &ask(MESSAGES, "hi", true))
            .send()
            .await
            .unwrap();
        within(asked.wait_for(|asked| *asked)).await.unwrap();
        world.fw.kill("enough").await.unwrap();
        let killed = Instant::now();
        within(world.provider.hung_up(1)).await;
        assert!(
            killed.elapsed() < Duration::from_millis(300),
            "{:?}",
            killed.elapsed()
        );
        assert_eq!(world.call_line().await["outcome"], "cut");
        let (rest, broke_off) = read_all(&mut response).await;
        assert!(is_error_event(&rest) && !broke_off, "{rest}");
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_the_call() {
    for reads in [0, 1] {
        let world = world(|fw| fw).await;
        world.provider.always(slow());
        let mut response = world
            .post(MESSAGES, &ask(MESSAGES, "hi", true))
            .send()
            .await
            .unwrap();
        for _ in 0..reads {
            within(response.chunk()).await.unwrap();
        }
        drop(response);
        within(world.provider.hung_up(1)).await;
        assert_eq!(world.call_line().await["outcome"], "cut");
    }
}

#[tokio::test]
async fn an_answer_that_is_over_ends_though_upstream_stays_open() {
    for end in [
        chat::stream("hello", 100, 50),
        [chat::text("hello"), chat::finish("stop"), chat::done()].concat(),
    ] {
        let has_usage = end.contains("completion_tokens");
        let world = world(|fw| fw).await;
        world
            .provider
            .always(Reply::stream(vec![Step::send(end), Step::Hang]));
        let mut response = world.post(CHAT, &ask(CHAT, "hi", true)).send().await.unwrap();
        let (text, broke_off) = read_all(&mut response).await;
        assert!(text.ends_with("data: [DONE]\n\n") && !broke_off);
        within(world.provider.hung_up(1)).await;
        let line = world.call_line().await;
        assert_eq!(line["outcome"], "ok");
        assert_eq!(line["usage"] == "estimated", !has_usage);
    }
}

#[tokio::test]
async fn an_answer_that_goes_on_after_its_end_is_cut() {
    let world = world(|fw| fw).await;
    world.provider.always(Reply::stream(vec![
        Step::send(chat::stream("hello", 100, 50)),
        Step::Gate,
        Step::send(chat::text("and more")),
        Step::Hang,
    ]));
    let mut response = world.post(CHAT, &ask(CHAT, "hi", true)).send().await.unwrap();
    let first = within(response.chunk()).await.unwrap().unwrap();
    world.provider.open();
    let (rest, _) = read_all(&mut response).await;
    let text = String::from_utf8(first.to_vec()).unwrap() + &rest;
    assert!(!text.contains("and more"));
    assert!(text.contains("[DONE]"));
    world.spent("0.000625").await;
}

#[tokio::test]
async fn a_provider_that_reports_more_than_the_bound_is_cut() {
    let world = world(|fw| fw.budget_usd(0.05)).await;
    world.provider.always(Reply::stream(vec![
        Step::send(
            [
                anthropic::start(100),
                anthropic::text_start(0),
                anthropic::text(0, "a lot"),
            ]
            .concat(),
        ),
        Step::send(anthropic::usage("end_turn", 1_000_000)),
        Step::Hang,
    ]));
    let mut response = world
        .post(MESSAGES, &ask(MESSAGES, "hi", true))
        .send()
        .await
        .unwrap();
    let (text, _) = read_all(&mut response).await;
    within(world.provider.hung_up(1)).await;
    assert!(
        text.contains("budget:hard_cap") && text.contains("event: error"),
        "{text}"
    );
    let line = world.call_line().await;
    assert_eq!(
        (&line["outcome"], &line["output_tokens"]),
        (&json!("cut"), &json!(1_000_000))
    );
    assert!(line["cost_usd"].as_f64().unwrap() >= 5.0);
    assert_eq!(world.lines("budget").await[0]["decision"], "hard_exceeded");
    assert_eq!(world.lines("refusal").await[0]["rule_id"], "budget:hard_cap");
}

#[tokio::test]
async fn a_provider_that_sends_without_end_is_cut_where_its_bytes_pass_the_bound() {
    let world = world(|fw| fw).await;
    world.provider.always(Reply::stream(vec![Step::Endless(
        chat::text(&"x".repeat(1000)).into(),
    )]));
    let mut request = ask(CHAT, "hi", true);
    request["max_completion_tokens"] = 20.into();
    let mut response = world.post(CHAT, &request).send().await.unwrap();
    let (text, _) = read_all(&mut response).await;
    within(world.provider.hung_up(1)).await;
    // No token is longer than 256 bytes.
    assert!(text.matches('x').count() <= 20 * 256);
    assert!(text.ends_with("\n\n") && text.contains("\"code\":\"budget:hard_cap\""));
    assert_eq!(world.call_line().await["outcome"], "cut");
}

fn tool_streams(tool: &str) -> [(&'static str, String); 3] {
    let arguments = json!({"usd": 4000, "to": "mallory"});
    let messages = [
        anthropic::start(20),
        anthropic::text_start(0),
        anthropic::text(0, "before"),
        anthropic::stop(0),
        anthropic::tool_call(1, tool, &arguments),
        anthropic::usage("tool_use", 10),
        anthropic::end(),
    ];
    let chunks = [
        chat::text("before"),
        chat::tool_chunks(tool, &arguments),
        chat::usage_chunk(20, 10),
        chat::done(),
    ];
    [
        (MESSAGES, messages.concat()),
        (CHAT, chunks.concat()),
        (RESPONSES, responses::tool_stream(tool, &arguments)),
    ]
}

#[tokio::test]
async fn a_forbidden_tool_call_never_reaches_the_agent_and_costs_what_it_cost() {
    for in_pieces in [false, true] {
        for (path, body) in tool_streams("wire_transfer") {
            let world = world(|fw| fw.denied_tools(["wire_*"])).await;
            world.provider.always(if in_pieces {
                Reply::stream(
                    body.split_inclusive("\n\n")
                        .map(|event| Step::send(event.to_owned()))
                        .collect(),
                )
            } else {
                Reply::events(body)
            });
            let mut response = world.post(path, &ask(path, "hi", true)).send().await.unwrap();
            let (text, broke_off) = read_all(&mut response).await;
            assert!(
                !text.contains("mallory") && !text.contains("4000") && !broke_off,
                "{text}"
            );
            assert!(text.contains("before") || path == RESPONSES);
            let (_, last) = text.trim_end().rsplit_once("data: ").unwrap();
            assert!(last.contains("refused by"), "{text}");
            let line = world.call_line().await;
            assert_eq!(
                (&line["output_tokens"], &line["usage"]),
                (&json!(10), &json!(null)),
                "{path}"
            );
            assert_eq!(world.lines("refusal").await[0]["stage"], "tool_request");
        }
    }
}

#[tokio::test]
async fn an_allowed_tool_call_passes_byte_for_byte() {
    for (path, body) in tool_streams("search") {
        let world = world(|fw| fw.denied_tools(["wire_*"])).await;
        let mut request = ask(path, "hi", true);
        if path == CHAT {
            request["stream_options"] = json!({"include_usage": true});
        }
        // One byte at a time.
        let steps = body.bytes().map(|byte| Step::send(vec![byte])).collect();
        world.provider.always(Reply::stream(steps));
        let mut response = world.post(path, &request).send().await.unwrap();
        assert_eq!(read_all(&mut response).await, (body, false));
        assert_eq!(world.call_line().await["outcome"], "ok");
    }
}

#[tokio::test]
async fn a_forbidden_tool_call_whose_stream_does_not_end_is_cut_and_charged_the_bound() {
    let world = world(|fw| fw.denied_tools(["wire_*"])).await;
    let call = anthropic::tool_call(0, "wire_transfer", &json!({}));
    world.provider.always(Reply::stream(vec![
        Step::send(anthropic::start(20) + &call),
        Step::Hang,
    ]));
    let mut response = world
        .post(MESSAGES, &ask(MESSAGES, "hi", true))
        .send()
        .await
        .unwrap();
    let (text, _) = read_all(&mut response).await;
    within(world.provider.hung_up(1)).await;
    assert!(text.contains("event: error"));
    let line = world.call_line().await;
    assert_eq!(
        (&line["outcome"], &line["usage"]),
        (&json!("cut"), &json!("estimated"))
    );
}

#[tokio::test]
async fn bytes_that_make_no_sense_end_the_stream_and_charge_the_bound() {
    let begin = anthropic::start(20) + &anthropic::text_start(0);
    for (bad, is_told) in [
        // Cut off inside an event.
        (
            b"event: content_block_delta\ndata: {\"type\":\"content_bl".to_vec(),
            true,
        ),
        // Cut off inside a tool call.
        (
            anthropic::tool_call(1, "t", &json!({})).into_bytes()[..300].to_vec(),
            true,
        ),
        (b"data: {\"type\":\"content_block_delta\xff\"}\n\n".to_vec(), true),
        (b"data: {\"type\":\"ping\",\"type\":\"error\"}\n\n".to_vec(), true),
        (
            b"event: ping\ndata: {\"type\":\"message_stop\"}\n\n".to_vec(),
            true,
        ),
        // Ends between two events, but before its own end.
        (Vec::new(), false),
    ] {
        let world = world(|fw| fw).await;
        world
            .provider
            .always(Reply::stream(vec![Step::send(begin.clone()), Step::send(bad)]));
        let mut response = world
            .post(MESSAGES, &ask(MESSAGES, "hi", true))
            .send()
            .await
            .unwrap();
        let (text, broke_off) = read_all(&mut response).await;
        let rest = text.strip_prefix(&begin).expect("what was whole is delivered");
        assert_eq!(is_error_event(rest), is_told, "{rest}");
        assert!(!broke_off);
        let line = world.call_line().await;
        assert_eq!(
            (&line["outcome"], &line["usage"]),
            (&json!("error"), &json!("estimated"))
        );
        assert_eq!(world.lines("refusal").await.len(), usize::from(is_told));
    }
}

#[tokio::test]
async fn an_upstream_that_breaks_off_is_no_end_of_an_answer() {
    let world = world(|fw| fw).await;
    world
        .provider
        .always(Reply::stream(vec![Step::send(anthropic::start(20)), Step::Break]));
    let mut response = world
        .post(MESSAGES, &ask(MESSAGES, "hi", true))
        .send()
        .await
        .unwrap();
    assert!(read_all(&mut response).await.1);
    assert_eq!(world.call_line().await["outcome"], "error");
}

#[tokio::test]
async fn an_encoded_stream_is_refused() {
    let world = world(|fw| fw).await;
    world
        .provider
        .always(Reply::events(chat::stream("hi", 1, 1)).header("content-encoding", "zstd"));
    let refused = world.post(CHAT, &ask(CHAT, "hi", true)).send().await;
    assert_eq!(crate::support::rule_of(refused), "wire");
}

#[tokio::test]
async fn usage_that_makes_no_sense_charges_the_bound_and_is_delivered() {
    let world = world(|fw| fw).await;
    let usage = chat::chunk(
        &json!([]),
        &json!({"prompt_tokens": -1, "completion_tokens": 1e300}),
    );
    let body = [chat::text("hello"), chat::finish("stop"), usage, chat::done()].concat();
    world.provider.always(Reply::events(body));
    let mut response = world.post(CHAT, &ask(CHAT, "hi", true)).send().await.unwrap();
    assert!(read_all(&mut response).await.0.ends_with("[DONE]\n\n"));
    let line = world.call_line().await;
    assert_eq!(
        (&line["outcome"], &line["usage"]),
        (&json!("ok"), &json!("estimated"))
    );
}

/// Takes its time for renewals, as one on another machine does, and counts those that it was let finish.
#[derive(Debug)]
struct Counting(MemoryStore, AtomicUsize);

#[async_trait::async_trait]
impl BudgetStore for Counting {
    fn is_durable(&self) -> bool {
        self.0.is_durable()
    }

    async fn reserve(&self, hold: &Hold) -> Result<Reserve, StoreError> {
        self.0.reserve(hold).await
    }

    async fn settle(&self, settlement: &Settlement) -> Result<Settled, StoreError> {
        self.0.settle(settlement).await
    }

    async fn release(&self, id: ReservationId) -> Result<(), StoreError> {
        self.0.release(id).await
    }

    async fn renew(&self, id: ReservationId, lease: Duration) -> Result<(), StoreError> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.renew(id, lease).await
    }

    async fn expire(&self, limit: usize) -> Result<Vec<Expired>, StoreError> {
        self.0.expire(limit).await
    }

    async fn confirm(&self, lines: &[Written]) -> Result<(), StoreError> {
        self.0.confirm(lines).await
    }

    async fn balances(&self, scopes: &[Scope]) -> Result<Vec<Balance>, StoreError> {
        self.0.balances(scopes).await
    }
    async fn close(&self, key: &ScopeKey) -> Result<Balance, StoreError> {
        self.0.close(key).await
    }
    async fn hit(&self, hit: &Hit) -> Result<Hits, StoreError> {
        self.0.hit(hit).await
    }
}

#[tokio::test]
async fn a_stream_renews_its_lease_though_it_never_pauses_and_an_answer_though_it_never_comes() {
    let ping = Step::Endless("event: ping\ndata: {\"type\": \"ping\"}\n\n".into());
    for reply in [Reply::stream(vec![ping]), Reply::json("{}").late()] {
        let store = Arc::new(Counting(
            MemoryStore::new(Arc::new(SystemClock)),
            AtomicUsize::new(0),
        ));
        let world = world(|fw| fw.budget_store(store.clone()).lease(Duration::from_millis(60))).await;
        world.provider.always(reply);
        let call = async {
            let mut response = world
                .post(MESSAGES, &ask(MESSAGES, "hi", true))
                .send()
                .await
                .unwrap();
            while within(response.chunk()).await.unwrap().is_some() {}
        };
        let renewed = async {
            while store.1.load(Ordering::SeqCst) < 3 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = call => panic!("the answer has no end"),
            () = within(renewed) => {}
        }
    }
}
