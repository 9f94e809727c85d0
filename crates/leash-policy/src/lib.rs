//! Rules for the calls of an agent.
//!
//! - [`AllowedTools`], [`DeniedTools`]: which tools it may call, by name.
//! - [`ArgumentRange`], [`HitlOnAmount`]: with what numbers.
//! - [`BlockedPatterns`], [`HitlOnPattern`]: what must not be in a call.
//! - [`BlockedSql`], [`BlockedShell`], [`BlockedPaths`], [`BlockedUrls`]: what a tool must not be told to do, by what it means.
//! - [`PiiRedactor`], [`SecretsRule`]: what must not leave.
//! - [`Policy`], [`rule_from_options`]: all of it from TOML, and by name; [`Adjusted`]: for some tools, or in the shadow.
//! - [`BudgetThreshold`], [`HitlThreshold`]: warn, or ask a human, as the budget runs out.
//!
//! With the feature `scanners` there are rules that ask another process, too: `PresidioRule`, `ScannerRule`,
//! `LlamaFirewallRule`.
//!
//! Its invariant: no I/O but in those, and nothing of firewalls, stores or providers. A rule looks at a call and its context.
//!
//! ```
//! use leash_core::{Action, Call, Caller, PolicyContext, Rule, SessionId, Timestamp, ToolCall};
//! use leash_policy::DeniedTools;
//!
//! let rule = DeniedTools::new(["shell", "wire_*"]);
//! let caller = Caller::session(SessionId::new("s_1")?);
//! let call = Call::Tool(ToolCall::new("wire_transfer", serde_json::json!({}), caller));
//! let decision = rule.evaluate(&call, &PolicyContext::new(Timestamp::EPOCH))?.unwrap();
//! assert_eq!(decision.action, Action::Block);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod adjust;
mod args;
mod budget;
mod file;
mod net;
mod paths;
mod patterns;
mod pii;
mod registry;
#[cfg(feature = "scanners")]
mod scanners;
mod secrets;
mod shell;
mod sql;
mod tools;

pub use self::adjust::{Adjusted, AdjustedAsync};
pub use self::budget::{BudgetThreshold, HitlThreshold, ThresholdError};
pub use self::file::{Policy, PolicyError, Redactors};
pub use self::net::BlockedUrls;
pub use self::paths::BlockedPaths;
pub use self::patterns::{BlockedPatterns, HitlOnPattern, PatternError};
pub use self::pii::{DetectorError, PiiRedactor, PiiStream, Span};
pub use self::registry::{
    COMMON, OptionError, OptionKind, Options, REDACTORS, RULES, RedactorKind, RuleKind, SCANNERS,
    ScannerKind, Shape, redactor_from_options, rule_from_options, scanner_from_options,
};
#[cfg(feature = "scanners")]
pub use self::scanners::{LlamaFirewallRule, PresidioRule, ScannerError, ScannerRule, ScannerTransport};
pub use self::secrets::SecretsRule;
pub use self::shell::{BlockedShell, MAX_SCRIPT_BYTES, ShellOptionError};
pub use self::sql::{BlockedSql, SqlDialect, SqlMode};
pub use self::tools::{AllowedTools, ArgumentRange, DeniedTools, HitlOnAmount};
