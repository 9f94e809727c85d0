//! An agent that never stops asking, on async-openai, with five cents to spend. The provider is a fake one of this
//! process, so this needs neither a key nor a network.

#![expect(clippy::print_stdout, reason = "an example shows what happens")]

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::types::chat::{ChatCompletionRequestUserMessage, CreateChatCompletionRequestArgs};
use futures_util::StreamExt as _;
use leash_adapters_openai::{cut_of, refusal_of};
use leash_firewall::Firewall;
use leash_testkit::{Reply, Upstream, chat};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let provider = Upstream::start().await?;
    provider.always(Reply::json(chat::answer(
        "Let me think about it some more.",
        60,
        900,
    )));

    // What an agent does today ...
    let config = OpenAIConfig::new()
        .with_api_key("sk-none")
        .with_api_base(format!("{}/v1", provider.url()));
    let client = Client::with_config(config);
    // ... and the two lines that put it on a leash.
    let fw = Firewall::builder()
        .budget_usd(0.05)
        .denied_tools(["wire_*"])
        .build()?;
    let client = fw.wrap(client);

    let question = CreateChatCompletionRequestArgs::default()
        .model("gpt-5")
        .max_completion_tokens(1_000_u32)
        .messages([ChatCompletionRequestUserMessage::from("What is the meaning of life?").into()])
        .build()?;

    // A tool call that a rule forbids is taken out of the stream before the agent sees it.
    let call = chat::tool_chunks("wire_transfer", &json!({"usd": 4000}));
    provider.reply(Reply::events(
        [call, chat::usage_chunk(60, 20), chat::done()].concat(),
    ));
    let mut stream = client.chat().create_stream(question.clone()).await?;
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => println!("chunk: {:?}", chunk.choices),
            Err(error) => println!("stream cut: {:?}", cut_of(&error).ok_or(error)?.message),
        }
    }

    // And at the cap it ends, before a byte leaves.
    for turn in 1.. {
        match client.chat().create(question.clone()).await {
            Ok(_) => println!("turn {turn}: answered, ${} spent", fw.cumulative().await?),
            Err(error) => {
                let refusal = refusal_of(&error).ok_or("the provider failed")?;
                println!("turn {turn}: {refusal}");
                break;
            }
        }
    }
    println!("the provider was called {} times", provider.requests().len());
    fw.close().await?;
    Ok(())
}
