//! `export`: a log for spreadsheets and scripts.

use leash_audit::Format as Written;

use crate::cli::{ExportArgs, Format};
use crate::exit::{Exit, Failure};
use crate::input;
use crate::output;
use crate::replay::write_out;

/// Writes the log in the format that was asked for.
pub(crate) fn run(args: &ExportArgs) -> Result<Exit, Failure> {
    let format = match args.format {
        Format::Csv => Written::Csv,
        Format::Json => Written::Json,
    };
    let events = write_out(input::open(&args.path)?, |input, out| {
        leash_audit::export(input, format, out)
    })?;
    output::say(&format!("# exported {events} events as {format}"));
    Ok(Exit::Done)
}
