//! A program that calls a provider by reqwest itself, guarded: a whole answer, a stream that a kill order cuts, and the
//! log of both. The provider is a fake one of this process, so this needs neither a key nor a network.

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use leash_adapters_http::{StreamRefusal, refusal_of};
use leash_audit::{VerifyOptions, verify};
use leash_firewall::Firewall;
use leash_testkit::{Reply, Step, Upstream, anthropic};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let provider = Upstream::start().await?;
    provider.reply(Reply::json(anthropic::message("Four.", 20, 3)));
    let begin = [
        anthropic::start(20),
        anthropic::text_start(0),
        anthropic::text(0, "Well ..."),
    ];
    provider.always(Reply::stream(vec![Step::send(begin.concat()), Step::Hang]));

    let dir = tempfile::tempdir()?;
    let log = dir.path().join("audit.jsonl");
    let fw = Firewall::builder().budget_usd(0.50).audit_log(&log).build()?;
    let client = fw.wrap(reqwest::Client::new());
    let ask = |stream: bool| {
        let body = format!(
            r#"{{"model":"claude-haiku-4-5","max_tokens":100,"stream":{stream},"messages":[{{"role":"user","content":"2 + 2?"}}]}}"#
        );
        client
            .post(format!("{}/v1/messages", provider.url()))
            .body(body)
            .send()
    };

    let answer = ask(false).await?.text().await?;
    println!(
        "answered with {} bytes; ${} spent",
        answer.len(),
        fw.cumulative().await?
    );

    let mut stream = ask(true).await?;
    let refusal = StreamRefusal::of(&stream);
    let mut is_killed = false;
    while let Some(chunk) = stream.chunk().await? {
        print!("{}", String::from_utf8_lossy(&chunk));
        if !is_killed {
            is_killed = true;
            fw.kill("that is enough").await?;
        }
    }
    if let Some(refusal) = refusal.as_ref().and_then(StreamRefusal::take) {
        println!("cut: {refusal}");
    }

    match ask(false).await {
        Ok(_) => return Err("a killed session called".into()),
        Err(error) => println!("refused: {}", refusal_of(&error).ok_or("the provider failed")?),
    }

    fw.close().await?;
    for line in std::fs::read_to_string(&log)?.lines() {
        println!("{line}");
    }
    println!(
        "the log verifies: {}",
        verify(&log, &VerifyOptions::default())?.is_ok()
    );
    Ok(())
}
