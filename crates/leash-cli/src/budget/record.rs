//! What an operator did to a budget, in an audit log: [`Recorder`].

use leash_audit::{AuditError, AuditLog, Durability, Event, Kind, Note, Who};
use leash_budget::ScopeKey;
use leash_core::Json;
use serde_json::Value;

use crate::cli::RecordArgs;
use crate::exit::Failure;

/// The log, where one was named.
pub(crate) struct Recorder<'a> {
    log: Option<AuditLog>,
    args: &'a RecordArgs,
}

impl<'a> Recorder<'a> {
    /// Opens the log, so that nothing is done which could not be recorded.
    pub(crate) fn open(args: &'a RecordArgs) -> Result<Self, Failure> {
        let open = |path: &std::path::PathBuf| {
            AuditLog::builder(path)
                .durability(Durability::Each)
                .open()
                .map_err(|error| told(args, &error))
        };
        Ok(Self {
            log: args.audit_log.as_ref().map(open).transpose()?,
            args,
        })
    }

    /// Writes that `what` was done, with `members`, and waits until the disk has it.
    pub(crate) fn write(&self, key: &ScopeKey, what: &str, members: &Value) -> Result<(), Failure> {
        let Some(log) = &self.log else { return Ok(()) };
        let members = Json::parse(members.to_string())
            .map_err(|error| Failure::Told(format!("failed to record it: {error}")))?;
        let kind = Kind::BudgetChange(Note {
            what,
            reason: self.args.reason.as_deref().unwrap_or("an operator's command"),
            operator: self.args.operator.as_deref(),
            members: Some(&members),
        });
        log.append(&Event::new(who(key), kind))
            .and_then(|appended| appended.wait())
            .map_err(|error| told(self.args, &error))
    }

    /// Ends the log.
    pub(crate) fn close(&self) -> Result<(), Failure> {
        match &self.log {
            Some(log) => log.close().map_err(|error| told(self.args, &error)),
            None => Ok(()),
        }
    }
}

fn told(args: &RecordArgs, error: &AuditError) -> Failure {
    let path = args
        .audit_log
        .as_deref()
        .unwrap_or_else(|| std::path::Path::new(""));
    Failure::Told(format!("audit log `{}`: {error}", path.display()))
}

/// Whom a change of `key` concerns.
fn who(key: &ScopeKey) -> Who<'_> {
    match key.as_str().split_once(':') {
        Some(("session", id)) => Who::session(id),
        Some(("tenant", id)) => Who {
            tenant_id: Some(id),
            ..Who::EVERYBODY
        },
        Some(("agent", name)) => Who {
            agent_name: Some(name),
            ..Who::EVERYBODY
        },
        _ => Who::EVERYBODY,
    }
}
