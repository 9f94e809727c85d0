//! `kill serve`: a registry over HTTP, for those who cannot reach it themselves.

use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;

use leash_kill::{KillServer, StoreKind};
use serde_json::json;
use tokio::net::TcpListener;

use super::{TOKEN, address, no_address, open, print_line, told, usage};
use crate::cli::{KillServeArgs, RegistryArgs};
use crate::exit::{Exit, Failure};
use crate::output;

/// No token is longer, so that a file named by mistake is not read as one.
const LONGEST: u64 = 4096;

/// Serves until it is interrupted or terminated.
pub(super) async fn run(registry: &RegistryArgs, args: &KillServeArgs) -> Result<Exit, Failure> {
    let Some(url) = address(registry)? else {
        return Ok(no_address());
    };
    if url.kind() == StoreKind::Http {
        return Ok(usage(
            "a registry that is served over HTTP already is asked directly; name `sqlite:PATH` or `redis://HOST`",
        ));
    }
    let token = token(args)?;
    if token.is_none() && !args.listen.ip().to_canonical().is_loopback() {
        return Ok(usage(&format!(
            "`{}` can be reached from other machines, and whoever reaches it could stop every agent and let stopped \
             ones go on: give a token with `--token-file FILE` or `--token-env NAME`, or listen on 127.0.0.1",
            args.listen
        )));
    }
    if url.sqlite_path().is_some_and(|path| !path.exists()) {
        output::say("# this registry is new: agents that use another one will not hear of its orders");
    }
    let registry = open(&url).await?;
    // Whoever starts it hears now that the registry is out of reach, and not by every agent that refuses.
    registry.orders().await.map_err(|error| told(&url, &error))?;
    let cannot = |error: std::io::Error| cannot_listen(args.listen, &error);
    let listener = TcpListener::bind(args.listen).await.map_err(cannot)?;
    let here = listener.local_addr().map_err(cannot)?;
    // From here on the end is heard of: who reads the address may end it at once.
    let end = end().map_err(|error| Failure::Told(format!("failed to listen to signals: {error}")))?;

    if token.is_none() {
        output::say("# no token: whoever is on this machine can stop agents, and let stopped ones go on");
    }
    if args.json {
        print_line(&json!({
            "url": format!("http://{here}"),
            "registry": url.to_string(),
            "token": token.is_some(),
        }))?;
    } else {
        output::print(format!("listening on http://{here}\n").as_bytes())?;
    }
    let service = match &token {
        Some(token) => KillServer::new(registry, token),
        None => KillServer::danger_without_token(registry),
    };
    tokio::select! {
        ended = service.serve(listener) => {
            ended.map_err(|error| Failure::Told(format!("failed to serve: {error}")))?;
        }
        name = end => output::say(&format!("# ended by {name}")),
    }
    Ok(Exit::Done)
}

fn cannot_listen(listen: SocketAddr, error: &std::io::Error) -> Failure {
    let hint = match error.kind() {
        std::io::ErrorKind::AddrInUse => "; another program listens there: choose another port, or 0 for any",
        std::io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        std::io::ErrorKind::PermissionDenied => "; ports below 1024 are for the superuser",
        _ => "",
    };
    Failure::Told(format!("failed to listen on `{listen}`: {error}{hint}"))
}

/// The token that is asked for; none where none was named.
fn token(args: &KillServeArgs) -> Result<Option<String>, Failure> {
    let (token, from) = match (&args.token_env, &args.token_file) {
        (Some(name), _) => {
            // What the variable holds is not shown, whatever is wrong with it.
            let token = std::env::var(name).map_err(|_| {
                Failure::Told(format!(
                    "the environment variable `{name}` is not set, or is not text; set it to the token"
                ))
            })?;
            (token, name.clone())
        }
        (None, Some(path)) => (from_file(path)?, path.display().to_string()),
        (None, None) => match std::env::var_os(TOKEN).filter(|token| !token.is_empty()) {
            Some(token) => {
                let told = |_| Failure::Told(format!("the environment variable `{TOKEN}` is not text"));
                (token.into_string().map_err(told)?, TOKEN.to_owned())
            }
            None => return Ok(None),
        },
    };
    // It has to fit into a header, or nobody could show it.
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::Told(format!(
            "`{from}`: a token is one or more printable ASCII characters without spaces"
        )));
    }
    Ok(Some(token))
}

fn from_file(path: &Path) -> Result<String, Failure> {
    let told = |what: &str| Failure::Told(format!("`{}`: {what}", path.display()));
    let mut token = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(LONGEST.saturating_add(1)).read_to_end(&mut token))
        .map_err(|error| told(&format!("failed to read the token: {error}")))?;
    if u64::try_from(token.len()).unwrap_or(u64::MAX) > LONGEST {
        return Err(told(&format!("longer than {LONGEST} bytes, so no token")));
    }
    let mut token = String::from_utf8(token).map_err(|_| told("the token is not text"))?;
    if token.ends_with('\n') {
        token.pop();
        if token.ends_with('\r') {
            token.pop();
        }
    }
    Ok(token)
}

/// Comes true once this process is to end, with the name of what says so.
#[cfg(unix)]
fn end() -> std::io::Result<impl Future<Output = &'static str>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        }
    })
}

/// Comes true once this process is to end, with the name of what says so.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
fn end() -> std::io::Result<impl Future<Output = &'static str>> {
    Ok(async {
        // Where Ctrl-C cannot be listened to, it still ends the process.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        "Ctrl-C"
    })
}
