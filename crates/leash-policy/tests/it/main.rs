//! The rules over their cases, and what must hold of them for any input.

mod commands;
mod content;
mod file;
mod options;
mod places;
mod reasons;
#[cfg(feature = "scanners")]
mod scanners;
mod shell;
mod sql;
mod sqlite;
