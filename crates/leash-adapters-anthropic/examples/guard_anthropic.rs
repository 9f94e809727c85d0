//! An agent that uses tools, on the guarded Messages client, with two cents to spend. The provider is a fake one of
//! this process, so this needs neither a key nor a network.

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use futures_util::StreamExt as _;
use leash_adapters_anthropic::{AnthropicClient, AnthropicError};
use leash_firewall::Firewall;
use leash_testkit::{Reply, Upstream, anthropic};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let provider = Upstream::start().await?;
    provider.reply(Reply::json(anthropic::tool_use(
        "search",
        &json!({"q": "weather"}),
    )));
    provider.reply(Reply::json(anthropic::tool_use(
        "wire_transfer",
        &json!({"usd": 4000}),
    )));
    provider.always(Reply::events(anthropic::stream("It is sunny.", 80, 900)));

    let fw = Firewall::builder()
        .budget_usd(0.02)
        .denied_tools(["wire_*"])
        .build()?;
    let client = AnthropicClient::builder(fw.clone())
        .api_key("sk-none")
        .base_url(provider.url())
        .build()?;
    let question = json!({
        "model": "claude-haiku-4-5",
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": "What is the weather like?"}],
    });

    // The model asks for a tool that it may use, and then for one that it may not.
    for _ in 0..2 {
        match client.create(&question).await {
            Ok(answer) => {
                for tool in answer.tool_uses() {
                    println!("may run: {} with {}", tool.name, tool.input);
                }
            }
            Err(AnthropicError::Refused(refusal)) => println!("held back: {refusal}"),
            Err(error) => return Err(error.into()),
        }
    }

    // It goes on streaming answers, until the money is gone.
    loop {
        let mut events = match client.stream(&question).await {
            Ok(events) => events,
            Err(AnthropicError::Refused(refusal)) => {
                println!("stopped: {refusal}");
                break;
            }
            Err(error) => return Err(error.into()),
        };
        while let Some(event) = events.next().await {
            if let Some(text) = event?.text() {
                println!("says: {text} (${} spent)", fw.cumulative().await?);
            }
        }
    }
    println!("the provider was called {} times", provider.requests().len());
    fw.close().await?;
    Ok(())
}
