//! How an order is written for others: one JSON object, `{"target":"agent:x","reason":"…","operator":"…","at":"…"}`.

use leash_core::Timestamp;
use serde_json::{Value, json};

use crate::{KillOrder, Target};

/// The text is no order.
#[derive(Debug, thiserror::Error)]
#[error("a kill order is `{{\"target\":\"agent:NAME\",\"reason\":\"…\"}}`")]
pub(crate) struct NoOrder;

pub(crate) fn order_to_json(order: &KillOrder) -> Value {
    json!({
        "target": order.target.to_string(),
        "reason": &*order.reason,
        "operator": order.operator.as_deref(),
        "at": order.at.map(|at| at.to_string()),
    })
}

#[cfg(feature = "redis")]
pub(crate) fn order_to_string(order: &KillOrder) -> String {
    order_to_json(order).to_string()
}

#[cfg(feature = "redis")]
pub(crate) fn order_from_slice(bytes: &[u8]) -> Result<KillOrder, NoOrder> {
    order_from_json(&serde_json::from_slice(bytes).map_err(|_| NoOrder)?)
}

pub(crate) fn order_from_json(value: &Value) -> Result<KillOrder, NoOrder> {
    let target: Target = text(value, "target")?
        .ok_or(NoOrder)?
        .parse()
        .map_err(|_| NoOrder)?;
    about(target, value)
}

/// The order for `target` of which `value` says the rest.
pub(crate) fn about(target: Target, value: &Value) -> Result<KillOrder, NoOrder> {
    let reason = text(value, "reason")?.ok_or(NoOrder)?;
    let at = match text(value, "at")? {
        Some(at) => Some(at.parse::<Timestamp>().map_err(|_| NoOrder)?),
        None => None,
    };
    let order = KillOrder::new(target, reason, at);
    Ok(match text(value, "operator")? {
        Some(operator) => order.by(operator),
        None => order,
    })
}

fn text<'a>(value: &'a Value, member: &str) -> Result<Option<&'a str>, NoOrder> {
    match value.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(NoOrder),
    }
}

/// `text` as one segment of a path or one value of a query: everything is escaped but letters, digits, `-._~` and `:`.
#[cfg(feature = "http")]
pub(crate) fn escaped(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let digit = |nibble: u8| HEX.get(usize::from(nibble)).map_or('0', |hex| char::from(*hex));
            out.push('%');
            out.push(digit(byte >> 4));
            out.push(digit(byte & 0xf));
        }
    }
    out
}

/// What was percent-encoded, decoded once; `None` for a broken escape or what is no UTF-8.
#[cfg(feature = "server")]
pub(crate) fn unescaped(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            out.push(u8::try_from((high << 4) | low).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(all(test, feature = "server", feature = "redis", feature = "http"))]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_escapes() {
        for id in ["a/b", "a%2fb", "a b", "..", "a:b", "🚀", "a?b#c", "%", "é\\"] {
            let escaped = escaped(id);
            assert!(!escaped.contains(['/', ' ', '?', '#']), "{escaped}");
            assert_eq!(unescaped(&escaped).as_deref(), Some(id));
        }
        assert_eq!(unescaped("a/b:c").as_deref(), Some("a/b:c"));
        for broken in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(unescaped(broken), None);
        }
    }

    #[test]
    fn an_order_survives_its_text() {
        let at = "2026-05-16T12:34:56Z".parse::<Timestamp>().unwrap();
        let order = KillOrder::new("agent:a/b".parse().unwrap(), "why\"", at).by("me");
        assert_eq!(
            order_from_slice(order_to_string(&order).as_bytes()).unwrap(),
            order
        );
        for text in [
            "{}",
            "[]",
            "{\"target\":\"agent:x\"}",
            "{\"target\":\"x\",\"reason\":\"y\"}",
            "nonsense",
        ] {
            assert!(order_from_slice(text.as_bytes()).is_err(), "{text}");
        }
    }
}
