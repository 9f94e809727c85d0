//! `verify`: is this log as it was written?

use leash_audit::{Report, Verdict, VerifyOptions};
use serde_json::json;

use crate::cli::VerifyArgs;
use crate::exit::{Exit, Failure};
use crate::input;
use crate::keys;
use crate::output;
use crate::progress::Progress;

/// Checks the log and gives the verdict, which is the exit code whether or not somebody reads the rest.
pub(crate) fn run(args: &VerifyArgs) -> Result<Exit, Failure> {
    let keys = keys::read(&args.keys)?;
    let log = input::open(&args.path)?;
    let progress = Progress::reading(log.bytes);
    let tell = |bytes| progress.at(bytes);
    let report = log.input.verify(&VerifyOptions {
        progress: Some(&tell),
        keys: keys.as_ref(),
        ..VerifyOptions::default()
    });
    progress.clear();
    let report = report.map_err(|error| input::unreadable(&log.name, &error))?;

    let exit = if report.is_ok() { Exit::Done } else { Exit::Broken };
    if !report.is_ok() {
        output::say(&report.to_string());
    }
    let written = if args.json {
        output::print(format!("{}\n", json_of(args, &report)).as_bytes())
    } else if report.is_ok() {
        output::print(format!("{report}\n").as_bytes())
    } else {
        Ok(())
    };
    match written {
        // An intact log whose verdict was lost on the way was not reported as such; a broken one stays broken.
        Err(told @ Failure::Told(_)) if exit == Exit::Done => Err(told),
        _ => Ok(exit),
    }
}

fn json_of(args: &VerifyArgs, report: &Report) -> serde_json::Value {
    let mut object = json!({
        "path": args.path.to_string_lossy(),
        "verdict": if report.is_ok() { "intact" } else { "broken" },
        "events": report.events,
        "head": report.head.to_string(),
    });
    if let (Verdict::Broken(broken), Some(members)) = (&report.verdict, object.as_object_mut()) {
        members.insert("line".to_owned(), broken.line.into());
        members.insert("seq".to_owned(), broken.seq.into());
        members.insert("reason".to_owned(), broken.what.as_str().into());
    }
    object
}
