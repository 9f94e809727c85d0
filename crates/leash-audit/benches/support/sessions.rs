//! A log of many sessions, for what is measured of evidence packs.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use leash_audit::{AuditLog, Event, Kill, Kind, ModelCall, ToolCall, Who};
use leash_core::{Clock, Digest, Timestamp, Usd};

const MODELS: [&str; 4] = ["claude-haiku-4-5", "claude-opus-4-7", "gpt-5", "gpt-5-mini"];
const TOOLS: [&str; 5] = ["db.query", "http.get", "shell", "mail.send", "search"];

/// What a log is made of. Sessions take turns: the worst case, as no session is over before the next one begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// How many events.
    pub(crate) events: u64,
    /// Of how many sessions, in 20 tenants.
    pub(crate) sessions: u64,
    /// Whether a call has its own cost. Otherwise what its session has spent so far, as adapters of the Python package
    /// wrote it, so that both readings of the costs are counted.
    pub(crate) own: bool,
}

/// Goes on by a millisecond at each look, so that the same log is written each time.
#[derive(Debug)]
struct Steps(AtomicI64);

impl Clock for Steps {
    fn now(&self) -> Timestamp {
        let micros = self.0.fetch_add(1000, Ordering::Relaxed);
        Timestamp::from_unix_micros(micros).unwrap_or(Timestamp::EPOCH)
    }
}

fn pick<'a>(from: &[&'a str], n: u64) -> &'a str {
    let mut round = from.iter().copied().cycle();
    round
        .nth(usize::try_from(n % 60).unwrap_or_default())
        .unwrap_or_default()
}

impl Shape {
    /// Writes the log.
    pub(crate) fn write(self, path: &Path) -> Result<(), Box<dyn Error>> {
        // The first moment of 2026.
        let clock = Arc::new(Steps(AtomicI64::new(1_767_225_600_000_000)));
        let log = AuditLog::builder(path).clock(clock).open()?;
        for n in 0..self.events {
            self.append(&log, n)?;
        }
        log.close()?;
        Ok(())
    }

    /// Three model calls, then a tool call; now and then a kill.
    fn append(self, log: &AuditLog, n: u64) -> Result<(), Box<dyn Error>> {
        let turn = n.checked_div(self.sessions).unwrap_or(n);
        let number = n.checked_rem(self.sessions).unwrap_or_default();
        let session = format!("s_{:012x}", number.wrapping_mul(2_654_435_761));
        let tenant = format!("tenant-{}", number % 20);
        // Whatever the number of sessions, each does a bit of everything.
        let step = number.wrapping_add(turn);
        let cost = Usd::from_nanos(1_000_000_u64.saturating_add(step % 997).saturating_mul(31))?;
        let total = cost.saturating_add(Usd::from_nanos(turn.saturating_mul(40_000_000))?);
        let kind = if step % 1000 == 999 {
            Kind::Kill(Kill {
                reason: "runaway",
                scope: None,
            })
        } else if step % 4 == 3 {
            Kind::ToolCall(ToolCall {
                tool: pick(&TOOLS, step / 4),
                request_hash: Digest::of(&n.to_le_bytes()),
                ..ToolCall::default()
            })
        } else {
            Kind::ModelCall(ModelCall {
                provider: pick(&["anthropic", "openai"], step),
                model: pick(&MODELS, step / 3),
                input_tokens: n % 5000,
                output_tokens: n % 700,
                cost: if self.own { cost } else { total },
                cumulative: self.own.then_some(total),
                request_hash: Digest::of(&n.to_le_bytes()),
                ..ModelCall::default()
            })
        };
        let who = Who {
            session_id: &session,
            tenant_id: Some(&tenant),
            agent_name: None,
        };
        let _ = log.append(&Event::new(who, kind))?;
        Ok(())
    }
}

/// Lets the most memory that is used begin at what is used now. Where the system cannot, it begins with the program.
pub(crate) fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The most memory that was used since [`forget_peak`], in bytes. Nothing where the system does not tell.
pub(crate) fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}
