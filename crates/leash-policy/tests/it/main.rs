//! The rules over their cases, and what must hold of them for any input.

mod content;
mod file;
mod shell;
mod sql;
mod sqlite;
