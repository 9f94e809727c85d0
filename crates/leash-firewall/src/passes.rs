//! Approvals that were given when a model asked for a tool call, kept until the call itself is made: so that a human is
//! asked once about one call. Each lets one call through, and only the very same.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use leash_core::{Caller, Digest, RequestId, Timestamp};

/// How long an approval is kept whose gate does not say until when it is good, and one by a grant at most.
pub(crate) const GOOD_FOR: Duration = Duration::from_mins(10);
/// How many are kept at once. Of more, the human is asked again.
const MOST: usize = 10_000;

/// What was approved: who calls, what leaves, and which rule asked. The rules themselves are those of this firewall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Approved {
    pub(crate) caller: Caller,
    pub(crate) digest: Digest,
    pub(crate) rule_id: Cow<'static, str>,
}

#[derive(Debug)]
struct Pass {
    what: Approved,
    id: RequestId,
    good_until: Timestamp,
}

/// The approvals that wait for their call.
#[derive(Debug, Default)]
pub(crate) struct Passes {
    kept: Mutex<Vec<Pass>>,
}

impl Passes {
    /// Keeps the approval `id` for one call, until `good_until` where the gate said so.
    pub(crate) fn keep(&self, what: Approved, id: RequestId, good_until: Option<Timestamp>, now: Timestamp) {
        let good_until = good_until.unwrap_or_else(|| now.saturating_add(GOOD_FOR));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|pass| pass.good_until > now);
        if kept.len() < MOST {
            kept.push(Pass { what, id, good_until });
        }
    }

    /// Uses up the oldest approval that fits, where there is one.
    pub(crate) fn take(&self, what: &Approved, now: Timestamp) -> Option<RequestId> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|pass| pass.good_until > now);
        let at = kept.iter().position(|pass| pass.what == *what)?;
        Some(kept.remove(at).id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leash_core::{IdGenerator, SessionId};

    #[test]
    fn there_are_never_more_than_the_limit_and_none_outlives_its_moment() {
        let passes = Passes::default();
        let at = |seconds: i64| Timestamp::from_unix_micros(seconds * 1_000_000).unwrap();
        let id = || IdGenerator::from_os().request(Timestamp::EPOCH);
        let what = Approved {
            caller: Caller::session(SessionId::new("s").unwrap()),
            digest: Digest::of(b"x"),
            rule_id: "wires".into(),
        };
        for _ in 0..=MOST {
            passes.keep(what.clone(), id(), Some(at(10)), at(0));
        }
        assert_eq!(passes.kept.lock().unwrap().len(), MOST);
        assert_eq!(passes.take(&what, at(10)), None);
        passes.keep(what.clone(), id(), None, at(10));
        assert_eq!(passes.take(&what, at(610)), None);
        passes.keep(what.clone(), id(), None, at(10));
        assert!(passes.take(&what, at(609)).is_some());
        assert_eq!(passes.take(&what, at(609)), None);
    }
}
