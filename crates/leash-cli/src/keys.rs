//! The keys of a signed log: from files and the environment, never from the command line itself, which others can see.

use std::fs;
use std::io::Read as _;

use leash_audit::{HmacKey, HmacKeys};

use crate::cli::KeyArgs;
use crate::exit::Failure;

/// No secret is longer, so that a log named by mistake is not read as one.
const LONGEST: u64 = 64 * 1024;

/// The keys that were named; nothing where none was, and then lines need no signature.
pub(crate) fn read(args: &KeyArgs) -> Result<Option<HmacKeys>, Failure> {
    let mut keys = HmacKeys::new();
    for named in &args.hmac_key {
        let (id, path) = split(named);
        let secret = from_file(path)?;
        keys = add(keys, id, &secret, path)?;
    }
    for named in &args.hmac_key_env {
        let (id, name) = split(named);
        // What the variable holds is not shown, whatever is wrong with it.
        let secret = std::env::var(name).map_err(|_| {
            Failure::Told(format!(
                "the environment variable `{name}` is not set, or is not text; set it to the secret"
            ))
        })?;
        keys = add(keys, id, secret.as_bytes(), name)?;
    }
    Ok(Some(keys).filter(|keys| !keys.is_empty()))
}

/// `ID=FILE`; a file whose name has a `=` is written `./a=b`.
fn split(named: &str) -> (Option<&str>, &str) {
    match named.split_once('=') {
        Some((id, rest)) if HmacKey::is_id(id) => (Some(id), rest),
        _ => (None, named),
    }
}

fn from_file(path: &str) -> Result<Vec<u8>, Failure> {
    let mut secret = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(LONGEST.saturating_add(1)).read_to_end(&mut secret))
        .map_err(|error| Failure::Told(format!("`{path}`: failed to read the key: {error}")))?;
    if u64::try_from(secret.len()).unwrap_or(u64::MAX) > LONGEST {
        return Err(Failure::Told(format!(
            "`{path}`: longer than {LONGEST} bytes, so no key; is this the log?"
        )));
    }
    if secret.last() == Some(&b'\n') {
        secret.pop();
        if secret.last() == Some(&b'\r') {
            secret.pop();
        }
    }
    Ok(secret)
}

fn add(keys: HmacKeys, id: Option<&str>, secret: &[u8], name: &str) -> Result<HmacKeys, Failure> {
    if let Some(id) = id
        && keys.ids().any(|other| other == id)
    {
        return Err(Failure::Usage(format!(
            "there are two keys with the id `{id}`; give each key the id that its lines name"
        )));
    }
    match id {
        Some(id) => HmacKey::new(id, secret).map(|key| keys.with(key)),
        None => keys.with_fallback(secret),
    }
    .map_err(|error| Failure::Told(format!("`{name}`: {error}")))
}
