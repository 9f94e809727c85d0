//! How an event becomes the next line. Knows the chain and the key, and no file.

use leash_core::{Digest, canonical};

use super::{Core, MAX_WRITTEN_LINE, State};
use crate::event::{self, Place};
use crate::line::Hex;
use crate::{AuditError, Event, HmacKey};

impl Core {
    /// Makes the next line of `event` in `state.line`.
    pub(super) fn render(&self, state: &mut State, event: &Event<'_>) -> Result<Hex, AuditError> {
        self.render_with(state, None, |body, place| event::write(body, event, Some(place)))
    }

    pub(super) fn render_with(
        &self,
        state: &mut State,
        count: Option<u64>,
        write: impl FnOnce(&mut String, &Place<'_>) -> Result<usize, AuditError>,
    ) -> Result<Hex, AuditError> {
        let now = self.clock.now();
        let ts = now.to_ascii();
        state.watch.now = now.as_unix_micros();
        let State {
            seq,
            prev,
            body,
            line,
            ..
        } = state;
        let place = Place {
            seq: *seq,
            prev_hash: std::str::from_utf8(prev).unwrap_or_default(),
            ts: std::str::from_utf8(&ts).unwrap_or_default(),
            count,
        };
        body.clear();
        let split = write(body, &place)?;
        if let Some(key) = &self.key {
            sign(body, key)?;
        }
        let hash = Digest::of(body.as_bytes()).to_hex();
        let (head, tail) = body.as_bytes().split_at_checked(split).unwrap_or_default();
        line.clear();
        for part in [head, b"\"hash\":\"", &hash, b"\",", tail, b"\n"] {
            line.extend_from_slice(part);
        }
        if line.len() > MAX_WRITTEN_LINE {
            let bytes = line.len();
            // One huge line must not cost its memory for ever.
            *line = Vec::new();
            *body = String::new();
            return Err(AuditError::TooLong {
                bytes,
                limit: MAX_WRITTEN_LINE,
            });
        }
        Ok(hash)
    }
}

/// Puts `hmac` and `hmac_key_id` where they belong among the members of `body`, which has no `hash` yet. What `hash`
/// comes before, these come before too, so its place stays.
fn sign(body: &mut String, key: &HmacKey) -> Result<(), AuditError> {
    let mut at = None;
    canonical::scan(body, |member| {
        if at.is_none() && member.name > "hmac" {
            at = Some(member.start);
        }
    })
    .map_err(|_| AuditError::Event("it has no canonical form"))?;
    // Every event has a `kind`.
    let at = at.ok_or(AuditError::Event("it has no kind"))?;
    let id = format!("\"hmac_key_id\":\"{}\",", key.id());
    let (head, tail) = body.split_at_checked(at).unwrap_or_default();
    let hex = key.sign(&[head, &id, tail]);
    let hex = std::str::from_utf8(&hex).unwrap_or_default();
    body.insert_str(at, &format!("\"hmac\":\"{hex}\",{id}"));
    Ok(())
}
