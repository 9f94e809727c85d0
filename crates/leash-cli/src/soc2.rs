//! `soc2`: the evidence pack of a period, for an auditor.

use leash_audit::VerifyOptions;
use leash_audit::soc2::{Period, Soc2Options, Soc2Report, generate_soc2_report};
use leash_core::{Clock as _, SystemClock, Timestamp};
use serde_json::json;

use crate::cli::Soc2Args;
use crate::exit::{Exit, Failure};
use crate::input;
use crate::keys;
use crate::output;
use crate::progress::Progress;

/// Makes the pack; the verdict on the log is the exit code, whether or not somebody reads the rest.
pub(crate) fn run(args: &Soc2Args) -> Result<Exit, Failure> {
    let period = Period::parse(&args.period_start, &args.period_end)
        .map_err(|error| Failure::Told(error.to_string()))?;
    let generated_at = generated_at()?;
    let keys = keys::read(&args.keys)?;
    let log = input::open(&args.path)?;
    let progress = Progress::reading(log.bytes);
    let tell = |bytes| progress.at(bytes);

    let mut options = Soc2Options::new(&args.out, period, generated_at);
    options.org.clone_from(&args.org);
    options.costs = args.costs;
    options.thresholds.kills = args.kill_spike;
    options.thresholds.tool_calls = args.tool_spam;
    options.thresholds.spend_percentile = args.spend_percentile;
    options.thresholds.spend_sessions = args.spend_sessions;
    options.verify = VerifyOptions {
        progress: Some(&tell),
        keys: keys.as_ref(),
        ..VerifyOptions::default()
    };
    let report = generate_soc2_report(log.input, &options);
    progress.clear();
    let report = report.map_err(|error| Failure::Told(error.to_string()))?;

    let verified = report.integrity.verified;
    let exit = if verified { Exit::Done } else { Exit::Broken };
    let broken = match &report.integrity.error {
        Some(error) => format!(" at {error}"),
        None => String::new(),
    };
    output::say(&format!(
        "SOC 2 pack written to {}/ ({} events; integrity: {}{broken})",
        report.output_dir.display(),
        report.summary.events,
        if verified { "VERIFIED" } else { "BROKEN" },
    ));
    let text = if args.json {
        json_of(args, &report).to_string()
    } else {
        report.page().display().to_string()
    };
    match output::print(format!("{text}\n").as_bytes()) {
        Err(told @ Failure::Told(_)) if verified => Err(told),
        _ => Ok(exit),
    }
}

/// The moment that `SOURCE_DATE_EPOCH` names, or now.
///
/// # Source
/// <https://reproducible-builds.org/specs/source-date-epoch/>: whole seconds since 1970.
fn generated_at() -> Result<Timestamp, Failure> {
    let Some(epoch) = std::env::var_os("SOURCE_DATE_EPOCH").filter(|epoch| !epoch.is_empty()) else {
        return Ok(SystemClock.now());
    };
    epoch
        .to_str()
        .and_then(|seconds| seconds.parse::<i64>().ok())
        .and_then(|seconds| seconds.checked_mul(1_000_000))
        .and_then(|micros| Timestamp::from_unix_micros(micros).ok())
        .ok_or_else(|| {
            Failure::Told(
                "`SOURCE_DATE_EPOCH` is no number of seconds since 1970; unset it, or set it right"
                    .to_owned(),
            )
        })
}

fn json_of(args: &Soc2Args, report: &Soc2Report) -> serde_json::Value {
    let (summary, integrity) = (&report.summary, &report.integrity);
    let files: Vec<_> = report.files.iter().map(|path| path.to_string_lossy()).collect();
    json!({
        "path": args.path.to_string_lossy(),
        "verdict": if integrity.verified { "intact" } else { "broken" },
        "output_dir": report.output_dir.to_string_lossy(),
        "page": report.page().to_string_lossy(),
        "files": files,
        "summary": {
            "events": summary.events,
            "sessions": summary.sessions,
            "security_events": summary.security_events,
            "anomalies": summary.anomalies,
            "spend_usd": summary.spend_usd,
            "costs": summary.costs.to_string(),
            "unreadable_costs": summary.unreadable_costs,
            "undated_events": summary.undated_events,
            "unreadable_lines": summary.unreadable_lines,
            "by_kind": summary.by_kind,
            "by_provider": summary.by_provider,
        },
        "integrity": {
            "verified": integrity.verified,
            "event_count": integrity.event_count,
            "error": integrity.error,
            "head": integrity.head.to_string(),
            "sha256": integrity.sha256.to_string(),
            "size_bytes": integrity.size_bytes,
            "signed": integrity.signed,
        },
    })
}
