//! `replay`: the events of a log, as they stand.

use std::io::Write;

use leash_audit::{AuditError, Input};

use crate::cli::ReplayArgs;
use crate::exit::{Exit, Failure};
use crate::input::{self, Log};
use crate::output::{self, Output};
use crate::progress::Progress;

/// Writes every event on a line of its own.
pub(crate) fn run(args: &ReplayArgs) -> Result<Exit, Failure> {
    let events = write_out(input::open(&args.path)?, |input, out| {
        leash_audit::replay(input, out)
    })?;
    output::say(&format!("# replayed {events} events"));
    Ok(Exit::Done)
}

/// Has `write` put what becomes of a log on standard output; gives the number of events.
pub(crate) fn write_out(
    log: Log,
    write: impl FnOnce(Input, &mut dyn Write) -> Result<u64, AuditError>,
) -> Result<u64, Failure> {
    let progress = Progress::writing(log.bytes);
    let mut output = Output::new(Some(&progress));
    let result = write(log.input, &mut output);
    // First the output: an error of it comes back as one of the log, too.
    let written = output.finish();
    progress.clear();
    written?;
    result.map_err(|error| input::unreadable(&log.name, &error))
}
