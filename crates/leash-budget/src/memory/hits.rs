//! Events that are counted: within a sliding window, or for ever.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use leash_core::{StoreError, StoreErrorKind, Timestamp};

use crate::{Hit, Hits, MAX_HITS, ScopeKey};

/// How many forgotten counters one hit clears away, so that none waits for a great cleaning.
const SWEPT: usize = 2;

#[derive(Default)]
pub(super) struct Counters {
    ever: HashMap<ScopeKey, u32>,
    sliding: HashMap<ScopeKey, Events>,
    /// One entry for each in `sliding`: not before when it may be forgotten.
    sweep: BinaryHeap<Reverse<(Timestamp, ScopeKey)>>,
}

struct Events {
    /// Never before the one in front of it, even where the clock went back.
    times: VecDeque<Timestamp>,
    /// The longest time that was asked for.
    within: Duration,
}

impl Events {
    fn forgotten_at(&self) -> Timestamp {
        self.times
            .back()
            .map_or(Timestamp::MIN, |last| last.saturating_add(self.within))
    }
}

impl Counters {
    pub(super) fn hit(&mut self, hit: &Hit, now: Timestamp) -> Result<Hits, StoreError> {
        let Some(within) = hit.within else {
            return Ok(self.hit_ever(hit));
        };
        if hit.limit > MAX_HITS {
            return Err(StoreError::new(
                StoreErrorKind::Conflict,
                "count events: the limit of a sliding window is above the largest",
            ));
        }
        self.sweep(now);
        let limit = usize::try_from(hit.limit).unwrap_or(usize::MAX);
        let count = self.sliding.get_mut(&hit.key).map_or(0, |events| {
            events.within = events.within.max(within);
            let longest = events.within;
            while events
                .times
                .front()
                .is_some_and(|at| at.saturating_add(longest) <= now)
            {
                events.times.pop_front();
            }
            let past = events
                .times
                .partition_point(|at| at.saturating_add(within) <= now);
            events.times.len().saturating_sub(past)
        });
        if count >= limit {
            return Ok(Hits {
                count: u32::try_from(count).unwrap_or(u32::MAX),
                is_allowed: false,
            });
        }
        if let Some(events) = self.sliding.get_mut(&hit.key) {
            let last = events.times.back().copied().unwrap_or(now);
            events.times.push_back(last.max(now));
            // The newest so many are enough to reach every limit that is allowed.
            if events.times.len() > usize::try_from(MAX_HITS).unwrap_or(usize::MAX) {
                events.times.pop_front();
            }
        } else {
            let events = Events {
                times: VecDeque::from([now]),
                within,
            };
            self.sweep.push(Reverse((events.forgotten_at(), hit.key.clone())));
            self.sliding.insert(hit.key.clone(), events);
        }
        Ok(Hits {
            count: u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1),
            is_allowed: true,
        })
    }

    fn hit_ever(&mut self, hit: &Hit) -> Hits {
        let count = self.ever.get(&hit.key).copied().unwrap_or(0);
        if count >= hit.limit {
            return Hits {
                count,
                is_allowed: false,
            };
        }
        let count = count.saturating_add(1);
        if let Some(counter) = self.ever.get_mut(&hit.key) {
            *counter = count;
        } else {
            self.ever.insert(hit.key.clone(), count);
        }
        Hits {
            count,
            is_allowed: true,
        }
    }

    fn sweep(&mut self, now: Timestamp) {
        for _ in 0..SWEPT {
            if self.sweep.peek().is_none_or(|Reverse((at, _))| *at > now) {
                return;
            }
            let Some(Reverse((_, key))) = self.sweep.pop() else {
                return;
            };
            let Some(events) = self.sliding.get(&key) else {
                continue;
            };
            let forgotten_at = events.forgotten_at();
            if forgotten_at > now {
                self.sweep.push(Reverse((forgotten_at, key)));
            } else {
                self.sliding.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    fn hit(key: usize, limit: u32) -> Hit {
        Hit {
            key: ScopeKey::named("t", &key.to_string()),
            limit,
            within: Some(Duration::from_secs(10)),
        }
    }

    #[test]
    fn counters_whose_window_has_passed_are_forgotten() {
        let mut counters = Counters::default();
        for key in 0..1_000 {
            let second = i64::try_from(key).unwrap();
            counters.hit(&hit(key, 3), at(second)).unwrap();
            assert!(counters.sliding.len() <= 12 && counters.sweep.len() == counters.sliding.len());
        }
    }

    #[test]
    fn a_clock_that_goes_back_forgets_nothing() {
        let mut counters = Counters::default();
        assert!(counters.hit(&hit(1, 2), at(100)).unwrap().is_allowed);
        assert!(counters.hit(&hit(1, 2), at(50)).unwrap().is_allowed);
        assert!(!counters.hit(&hit(1, 2), at(50)).unwrap().is_allowed);
        assert!(!counters.hit(&hit(1, 2), at(109)).unwrap().is_allowed);
        assert!(counters.hit(&hit(1, 2), at(110)).unwrap().is_allowed);
    }

    #[test]
    fn a_counter_keeps_no_more_times_than_the_largest_limit() {
        let mut counters = Counters::default();
        let year = Hit {
            within: Some(Duration::from_hours(24 * 365)),
            ..hit(1, MAX_HITS)
        };
        counters.hit(&year, at(0)).unwrap();
        for turn in 0..20_000 {
            assert!(counters.hit(&hit(1, 2), at(20 * turn)).unwrap().is_allowed);
        }
        let events = counters.sliding.get(&year.key).unwrap();
        assert_eq!(events.times.len(), 10_000);
        assert!(!counters.hit(&year, at(400_000)).unwrap().is_allowed);
    }
}
