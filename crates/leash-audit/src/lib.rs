//! An append-only audit log whose lines are chained by SHA-256, so that nothing in it can be changed, dropped, added
//! or moved unseen (other than lines cut off the end, which a bare chain cannot show).
//!
//! - [`AuditLog`] writes it: one writer per file, crash-safe, as durable as you ask for ([`Durability`]).
//! - [`Event`] and [`Kind`] are what it can say.
//! - [`verify`] checks it, on all cores and in constant memory; [`replay`] and [`export`] give it out.
//! - [`HmacKey`] signs it, so that nobody without the key can write it anew.
//! - [`soc2`] makes an auditor's evidence pack of it.
//!
//! The file is UTF-8, one canonical JSON object a line. `hash` is the SHA-256 over the line without `hash`,
//! `prev_hash` is the `hash` of the line before (64 zeros at the start), `seq` counts from 0. Logs that the Python
//! package `llm-leash` wrote verify here, and the other way round. Unknown members and kinds are kept as they are.
//!
//! Its invariant: knows no provider, no prices, no rules; it writes what it is told, or says that it could not. It
//! never continues a line that was cut short, and never appends to a log whose end it cannot vouch for.
//!
//! ```
//! use leash_audit::{AuditLog, Event, Kill, Kind, VerifyOptions, Who, verify};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("audit.jsonl");
//!
//! let log = AuditLog::open(&path)?;
//! let kill = Kind::Kill(Kill { reason: "runaway", scope: None });
//! let appended = log.append(&Event::new(Who::session("s_1"), kill))?;
//! assert_eq!(appended.seq(), 0);
//! log.close()?;
//!
//! let report = verify(&path, &VerifyOptions::default())?;
//! assert!(report.is_ok());
//! assert_eq!(report.events, 1);
//! # Ok(())
//! # }
//! ```

mod error;
mod event;
mod export;
mod line;
mod log;
mod mac;
mod read;
pub mod soc2;
mod tail;
mod verify;

pub use self::error::{AuditError, Owed};
pub use self::event::{
    Admitted, Budget, BudgetDecision, EVERY_SESSION, Event, HitlDecision, HitlOutcome, Kill, KillClear, Kind,
    LogRecovered, ModelCall, Note, Other, Outcome, PolicyAction, PolicyDecision, Refusal, Target, ToolCall,
    Who,
};
pub use self::export::{Format, UnknownFormat, export};
pub use self::log::{
    Appended, AuditLog, Builder, DEFAULT_SLOTS, Durability, Durable, MAX_WRITTEN_LINE, Slot,
};
pub use self::mac::{HmacKey, HmacKeys, MAX_KEY_ID};
pub use self::read::{Input, MAX_LINE, Record, for_each, replay};
pub use self::verify::{Broken, Report, Verdict, VerifyOptions, verify, verify_reader};
