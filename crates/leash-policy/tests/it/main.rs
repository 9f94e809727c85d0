//! The rules over their cases, and what must hold of them for any input.

mod file;
mod content;
mod shell;
mod sql;
mod sqlite;
