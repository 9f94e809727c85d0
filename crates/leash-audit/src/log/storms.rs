//! Equal events that come in storms are counted, and a line says how many there were. Knows no disk.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use leash_core::Timestamp;

use super::{Appended, AuditLog, Core, State, spawn};
use crate::{AuditError, Event, event};

/// How long equal refusals are counted together.
const STORM: Duration = Duration::from_secs(1);

/// How many different refusals are counted at the same time.
const MAX_STORMS: usize = 1024;

/// The longest event that is counted, in bytes; each longer one has a line of its own. What is counted has to be
/// kept, and to fit into a line with its count.
const MAX_COUNTED: usize = 16 * 1024;

/// Equal events that are counted.
pub(super) struct Storm {
    /// By the log's clock.
    started: Timestamp,
    /// By the machine's, for the thread that ends it.
    born: Instant,
    /// The first line; `None` where it could not be written.
    seq: Option<u64>,
    /// How many there were that no line stands for.
    more: u64,
}

impl AuditLog {
    /// Appends `event`, unless an equal one (but for time) was appended within the last second: then it is counted,
    /// and a line with `count` follows within about a second, when the log is closed, or before the next second's.
    ///
    /// For refusals and what comes with them, whose storms would fill the disk. The counts add up: a line without
    /// `count` stands for one. Events of more than 16 KiB are not counted, but written each. A crash may lose what was
    /// counted in the last second, never the first line.
    ///
    /// # Errors
    /// As [`append`](Self::append). The event is counted all the same, where there is room to.
    pub fn append_coalesced(&self, event: &Event<'_>) -> Result<Appended, AuditError> {
        let core = &self.0.core;
        let mut key = String::with_capacity(256);
        event::write(&mut key, event, None)?;
        if key.len() > MAX_COUNTED {
            return self.append(event);
        }
        let now = core.clock.now();
        let mut state = core.lock()?;
        if let Some(storm) = state.storms.get_mut(&key) {
            let age = now.saturating_since(storm.started);
            if age < STORM && now >= storm.started && storm.seq.is_some() {
                storm.more = storm.more.saturating_add(1);
                let seq = storm.seq.unwrap_or(0);
                let begins = storm.more == 1;
                drop(state);
                if !self.0.counting.swap(true, Ordering::AcqRel) {
                    self.start_ticking()?;
                } else if begins {
                    core.tick.notify_one();
                }
                return Ok(core.appended(seq));
            }
        } else if state.storms.len() >= MAX_STORMS {
            core.ready(&mut state)?;
            core.flush_storms(&mut state, Duration::ZERO)?;
        }
        // What was counted before goes first, then this one starts a second of its own.
        let written = core
            .ready(&mut state)
            .and_then(|()| core.flush_storm(&mut state, &key))
            .and_then(|()| core.write_event(&mut state, event));
        let storm = Storm {
            started: now,
            born: Instant::now(),
            seq: written.as_ref().ok().copied(),
            more: 0,
        };
        let storm = state.storms.entry(key).or_insert(storm);
        match written {
            Ok(seq) => {
                *storm = Storm {
                    started: now,
                    born: Instant::now(),
                    seq: Some(seq),
                    more: 0,
                };
                drop(state);
                Ok(core.appended(seq))
            }
            Err(error) => {
                storm.more = storm.more.saturating_add(1);
                Err(error)
            }
        }
    }

    /// Starts the thread that writes down what was counted.
    fn start_ticking(&self) -> Result<(), AuditError> {
        let core = Arc::clone(&self.0.core);
        let thread = spawn("leash-audit-count", move || core.keep_counting())?;
        self.0
            .threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(thread);
        Ok(())
    }
}

impl Core {
    /// Writes down what was counted for `key`.
    pub(super) fn flush_storm(&self, state: &mut State, key: &str) -> Result<(), AuditError> {
        let Some(more) = state
            .storms
            .get(key)
            .map(|storm| storm.more)
            .filter(|more| *more > 0)
        else {
            return Ok(());
        };
        let hash = self.render_with(state, Some(more), |body, place| {
            event::write_members(body, key, place)
        })?;
        self.write_line(state, hash)?;
        if let Some(storm) = state.storms.get_mut(key) {
            storm.more = 0;
        }
        Ok(())
    }

    /// Writes down what was counted for at least `age`.
    pub(super) fn flush_storms(&self, state: &mut State, age: Duration) -> Result<(), AuditError> {
        let mut due: Vec<_> = state
            .storms
            .iter()
            .filter(|(_, storm)| storm.born.elapsed() >= age)
            .map(|(key, storm)| (storm.born, key.clone()))
            .collect();
        due.sort();
        for (_, key) in due {
            self.flush_storm(state, &key)?;
            state.storms.remove(&key);
        }
        Ok(())
    }

    /// The counting thread.
    pub(super) fn keep_counting(&self) {
        let Ok(mut state) = self.state.lock() else { return };
        while !state.stopping && !state.closed {
            if state.storms.is_empty() {
                let Ok(again) = self.tick.wait(state) else { return };
                state = again;
                continue;
            }
            let Ok((again, _)) = self.tick.wait_timeout(state, STORM) else {
                return;
            };
            state = again;
            // What cannot be written is tried again in a second, and whoever appends next is told.
            let written = self
                .ready(&mut state)
                .and_then(|()| self.in_place(&mut state))
                .and_then(|()| self.flush_storms(&mut state, STORM));
            if written.is_err() {
                self.trouble.store(true, Ordering::Release);
            }
        }
    }
}
