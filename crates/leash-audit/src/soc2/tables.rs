//! The tables of a pack that are written in the end. Knows what their columns are.

use std::fmt::Write as _;
use std::io::{BufWriter, Write};
use std::iter::Peekable;

use super::anomalies::{Anomaly, Limits};
use super::files::Pack;
use super::names::Names;
use super::tally::{Count, Tally};
use super::{ACCESS, ANOMALIES};
use crate::AuditError;
use crate::export::push_cell;

/// How much of a table is put together before it is written.
const CHUNK: usize = 1 << 15;

/// Whether a spreadsheet would run the cell as a formula.
fn is_formula(cell: &str) -> bool {
    cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'])
}

/// Adds a cell of text and a comma. One that a spreadsheet would run as a formula gets an apostrophe, which tells it
/// that this is text.
pub(super) fn push_text(row: &mut String, cell: &str) {
    if is_formula(cell) {
        push_cell(row, &format!("'{cell}"));
    } else {
        push_cell(row, cell);
    }
}

/// Ends a row.
pub(super) fn end_row(row: &mut String) {
    row.pop();
    row.push_str("\r\n");
}

/// Writes what `rows` adds, row by row, until it adds no more.
fn write_table(
    pack: &mut Pack,
    name: &'static str,
    header: &str,
    mut rows: impl FnMut(&mut String) -> bool,
) -> Result<(), AuditError> {
    let mut file = pack.file(name)?;
    let mut out = BufWriter::with_capacity(CHUNK, &mut file);
    let mut text = String::from(header);
    let written = loop {
        let more = rows(&mut text);
        if more && text.len() < CHUNK {
            continue;
        }
        let written = out.write_all(text.as_bytes());
        text.clear();
        if !more || written.is_err() {
            break written;
        }
    };
    written
        .and_then(|()| out.flush())
        .map_err(AuditError::io("write", pack.path(name)))?;
    drop(out);
    pack.done(name, file)
}

/// Writes what each session of each tenant did. Gives back the names.
pub(super) fn write_access(pack: &mut Pack, tally: Tally) -> Result<Names, AuditError> {
    let running = tally.is_running_total();
    let Tally {
        names,
        buckets,
        models,
        tools,
        ..
    } = tally;
    let by_bucket = |one: (u32, u32), other: (u32, u32)| {
        (one.0.cmp(&other.0)).then_with(|| names.text(one.1).cmp(names.text(other.1)))
    };
    let mut models = models.into_sorted(by_bucket).peekable();
    let mut tools = tools.into_sorted(by_bucket).peekable();
    let mut joined = String::new();
    let mut all = buckets.all();
    let header = "session_id,tenant_id,events,model_calls,tool_calls,kills,cost_usd_total,unique_models,unique_tools,\
                  first_seen,last_seen\r\n";
    write_table(pack, ACCESS, header, |row| {
        let Some(bucket) = all.next() else { return false };
        push_text(row, names.text(buckets.session(bucket)));
        push_text(
            row,
            buckets.tenant(bucket).map_or("", |tenant| names.text(tenant)),
        );
        for what in Count::ALL {
            push_number(row, buckets.total(bucket, what));
        }
        buckets.spent(bucket, running).push_places(row, 6);
        row.push(',');
        join(&mut joined, &names, bucket, &mut models);
        push_text(row, &joined);
        join(&mut joined, &names, bucket, &mut tools);
        push_text(row, &joined);
        buckets.push_moment(row, bucket, false);
        buckets.push_moment(row, bucket, true);
        end_row(row);
        true
    })?;
    Ok(names)
}

/// The names that `uses` has of one bucket, which comes next in it.
fn join(
    joined: &mut String,
    names: &Names,
    bucket: u32,
    uses: &mut Peekable<impl Iterator<Item = (u32, u32)>>,
) {
    joined.clear();
    while let Some((_, name)) = uses.next_if(|(of, _)| *of == bucket) {
        // A call without a tool's name is one, but names none.
        let name = names.text(name);
        if !joined.is_empty() && !name.is_empty() {
            joined.push(';');
            // In many countries spreadsheets take a semicolon for the end of a cell.
            if is_formula(name) {
                joined.push('\'');
            }
        }
        joined.push_str(name);
    }
}

fn push_number(row: &mut String, number: u64) {
    // Writing to a string does not fail.
    let _ = write!(row, "{number},");
}

/// Writes what stands out.
pub(super) fn write_anomalies(
    pack: &mut Pack,
    names: &Names,
    anomalies: &[Anomaly],
    limits: &Limits,
) -> Result<(), AuditError> {
    let mut all = anomalies.iter();
    let header = "kind,session_id,metric,value,threshold,detail\r\n";
    write_table(pack, ANOMALIES, header, |row| {
        let Some(anomaly) = all.next() else { return false };
        let told = anomaly.told(names, limits);
        push_text(row, &told.kind);
        push_text(row, names.text(anomaly.session));
        push_text(row, &told.metric);
        row.push_str(&told.value);
        row.push(',');
        row.push_str(&told.threshold);
        row.push(',');
        push_text(row, &told.detail);
        end_row(row);
        true
    })
}
