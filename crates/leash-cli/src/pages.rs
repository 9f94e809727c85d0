//! What a shell and `man` want to know of us: `completions` and `man`.

use std::path::Path;

use clap::CommandFactory as _;

use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::exit::{Exit, Failure};
use crate::output;

/// Writes the completions of one shell to standard output.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<Exit, Failure> {
    // Into memory first: the generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut Cli::command(),
        env!("CARGO_BIN_NAME"),
        &mut script,
    );
    output::print(&script)?;
    Ok(Exit::Done)
}

/// Writes the manual: the main page to standard output, or all pages into a folder.
pub(crate) fn man(args: &ManArgs) -> Result<Exit, Failure> {
    let Some(dir) = &args.out else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command())
            .render(&mut page)
            .map_err(|error| Failure::Told(format!("failed to make the page: {error}")))?;
        output::print(&page)?;
        return Ok(Exit::Done);
    };
    write_pages(dir).map_err(|error| {
        Failure::Told(format!(
            "failed to write into `{}`: {error}; name a folder that can be written",
            dir.display()
        ))
    })?;
    Ok(Exit::Done)
}

fn write_pages(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Cli::command(), dir)
}
