//! The tables of a pack that are written in the end. Knows what their columns are.

use std::io::{self, Write};
use std::iter::Peekable;
use std::sync::mpsc;

use leash_core::canonical;

use super::anomalies::{Anomaly, Limits};
use super::buckets::{Buckets, Seen};
use super::files::Pack;
use super::moment::Stamp;
use super::names::Names;
use super::table::Sorted;
use super::tally::{Count, Tally, Use};
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
    let mut draft = pack.file(name)?;
    let mut text = String::from(header);
    let written = loop {
        let more = rows(&mut text);
        if more && text.len() < CHUNK {
            continue;
        }
        let written = draft.write_all(text.as_bytes());
        text.clear();
        if !more || written.is_err() {
            break written;
        }
    };
    written.map_err(AuditError::io("write", pack.path(name)))?;
    pack.done(name, draft);
    Ok(())
}

/// How many rows a thread makes at a time.
const BLOCK: u32 = 2048;

/// How many blocks each thread may be ahead of what is written.
const BLOCKS_AHEAD: usize = 2;

/// Writes what each session of each tenant did, its rows made by so many threads. Gives back the names.
pub(super) fn write_access(pack: &mut Pack, tally: Tally, threads: usize) -> Result<Names, AuditError> {
    let running = tally.is_running_total();
    let Tally {
        names,
        buckets,
        models,
        tools,
        ..
    } = tally;
    let by_text = |one: u32, other: u32| names.text(one).cmp(names.text(other));
    let models = models.into_sorted(by_text);
    let tools = tools.into_sorted(by_text);
    let access = Access {
        names: &names,
        buckets: &buckets,
        models: &models,
        tools: &tools,
        running,
    };
    let header = "session_id,tenant_id,events,model_calls,tool_calls,kills,cost_usd_total,unique_models,unique_tools,\
                  first_seen,last_seen\r\n";
    let mut draft = pack.file(ACCESS)?;
    draft
        .write_all(header.as_bytes())
        .and_then(|()| access.write(&mut draft, threads))
        .map_err(AuditError::io("write", pack.path(ACCESS)))?;
    pack.done(ACCESS, draft);
    Ok(names)
}

/// What the rows of [`ACCESS`] are made of.
struct Access<'a> {
    names: &'a Names,
    buckets: &'a Buckets,
    /// By bucket, and then by the texts of the names.
    models: &'a Sorted<u64>,
    tools: &'a Sorted<Use>,
    running: bool,
}

impl Access<'_> {
    /// Writes all rows. The threads take the blocks in turn, so that they come out in order.
    fn write(&self, out: &mut impl Write, threads: usize) -> io::Result<()> {
        let count = u32::try_from(self.buckets.len()).unwrap_or(u32::MAX);
        let threads = u32::try_from(threads)
            .unwrap_or(1)
            .clamp(1, count.div_ceil(BLOCK).max(1));
        let blocks = |first: u32| {
            let step = usize::try_from(threads).unwrap_or(1);
            (0..count.div_ceil(BLOCK))
                .skip(usize::try_from(first).unwrap_or(usize::MAX))
                .step_by(step)
        };
        std::thread::scope(|scope| {
            let lines: Vec<_> = (0..threads)
                .map(|first| {
                    let (line, blocks_of) = mpsc::sync_channel(BLOCKS_AHEAD);
                    let blocks = blocks(first);
                    scope.spawn(move || {
                        for block in blocks {
                            // Nobody takes it where nothing more can be written.
                            if line.send(self.block(block)).is_err() {
                                break;
                            }
                        }
                    });
                    blocks_of
                })
                .collect();
            for (_, line) in (0..count.div_ceil(BLOCK)).zip(lines.iter().cycle()) {
                let rows = line.recv().map_err(|_| io::Error::other("a thread died"))?;
                out.write_all(rows.as_bytes())?;
            }
            Ok(())
        })
    }

    /// The rows of one block.
    fn block(&self, block: u32) -> String {
        let first = block.saturating_mul(BLOCK);
        let count = u32::try_from(self.buckets.len()).unwrap_or(u32::MAX);
        let mut rows = String::with_capacity(usize::try_from(BLOCK).unwrap_or(0).saturating_mul(160));
        let mut models = self.models.from(first).peekable();
        let mut tools = self.tools.from(first).peekable();
        let mut joined = String::new();
        let mut stamp = Stamp::default();
        for bucket in first..count.min(first.saturating_add(BLOCK)) {
            push_text(&mut rows, self.names.text(self.buckets.session(bucket)));
            let tenant = self.buckets.tenant(bucket);
            push_text(&mut rows, tenant.map_or("", |tenant| self.names.text(tenant)));
            for what in Count::ALL {
                canonical::write_u64(&mut rows, self.buckets.total(bucket, what));
                rows.push(',');
            }
            self.buckets.spent(bucket, self.running).push_places(&mut rows, 6);
            rows.push(',');
            join(&mut joined, self.names, bucket, &mut models);
            push_text(&mut rows, &joined);
            join(&mut joined, self.names, bucket, &mut tools);
            push_text(&mut rows, &joined);
            for is_last in [false, true] {
                match self.buckets.moment(bucket, is_last) {
                    Seen::Plain(micros) => {
                        rows.push_str(stamp.text(micros));
                        rows.push(',');
                    }
                    Seen::Odd(text) => push_text(&mut rows, text),
                }
            }
            end_row(&mut rows);
        }
        rows
    }
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
