//! Server-sent events: where one ends, and what it says. Knows no format.
//!
//! # Source
//! WHATWG HTML, *Server-sent events*, "Parsing an event stream".

use std::borrow::Cow;

/// Finds the ends of events in bytes that come in pieces cut anywhere. Looks at each byte once.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    /// Up to where the buffer was searched.
    scanned: usize,
    /// Where the line begins that is being searched.
    line_start: usize,
}

impl Splitter {
    /// The end of the next event in `buffer`, its blank line included. A `\r` at the end of the buffer waits for the
    /// byte after it, which may be its `\n`, unless `is_last`.
    pub(crate) fn next_end(&mut self, buffer: &[u8], is_last: bool) -> Option<usize> {
        loop {
            let unsearched = buffer.get(self.scanned..)?;
            let Some(offset) = memchr::memchr2(b'\n', b'\r', unsearched) else {
                self.scanned = buffer.len();
                return None;
            };
            let at = self.scanned.saturating_add(offset);
            let next = at.saturating_add(1);
            let next = match (buffer.get(at), buffer.get(next)) {
                (Some(b'\r'), None) if !is_last => {
                    self.scanned = at;
                    return None;
                }
                (Some(b'\r'), Some(b'\n')) => next.saturating_add(1),
                _ => next,
            };
            let is_blank = at == self.line_start;
            self.scanned = next;
            self.line_start = next;
            if is_blank {
                return Some(next);
            }
        }
    }

    /// The first `count` bytes are gone from the buffer.
    pub(crate) fn consumed(&mut self, count: usize) {
        self.scanned = self.scanned.saturating_sub(count);
        self.line_start = self.line_start.saturating_sub(count);
    }
}

/// What an event says: its name, and its data lines joined with `\n`.
#[derive(Default)]
pub(crate) struct Fields<'a> {
    pub(crate) name: Option<&'a [u8]>,
    pub(crate) data: Option<Cow<'a, [u8]>>,
}

/// Reads the fields of one event.
pub(crate) fn fields(event: &[u8]) -> Fields<'_> {
    let mut fields = Fields::default();
    let mut rest = event;
    while !rest.is_empty() {
        let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let (line, after) = rest.split_at(end);
        rest = after.get(1..).unwrap_or_default();
        let (field, value) = match memchr::memchr(b':', line) {
            Some(colon) => {
                let (field, value) = line.split_at(colon);
                let value = value.get(1..).unwrap_or_default();
                (field, value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &[][..]),
        };
        match field {
            b"data" => match &mut fields.data {
                None => fields.data = Some(Cow::Borrowed(value)),
                Some(data) => {
                    let data = data.to_mut();
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
            },
            b"event" => fields.name = Some(value),
            _ => {}
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(text: &[u8]) -> Vec<usize> {
        let mut splitter = Splitter::default();
        std::iter::from_fn(|| splitter.next_end(text, true)).collect()
    }

    #[test]
    fn events_end_at_blank_lines_of_any_kind() {
        assert_eq!(
            ends(b"data: a\n\ndata: b\r\n\r\ndata: c\r\rdata: d\n\r\ndata: e"),
            [9, 20, 29, 39]
        );
        assert_eq!(ends(b"\n\r\n\r\r"), [1, 3, 4, 5]);
    }

    #[test]
    fn a_carriage_return_at_the_end_waits_for_what_follows() {
        let mut splitter = Splitter::default();
        assert_eq!(splitter.next_end(b"data: a\r\n\r", false), None);
        assert_eq!(splitter.next_end(b"data: a\r\n\r\nx", false), Some(11));
    }

    #[test]
    fn data_lines_are_joined_and_other_fields_pass() {
        let read = fields(b": comment\r\nevent: x\r\nid: 7\r\ndata: {\r\ndata:  1}\r\ndata\r\n\r\n");
        assert_eq!(read.name, Some(&b"x"[..]));
        assert_eq!(read.data.as_deref(), Some(&b"{\n 1}\n"[..]));
        assert!(fields(b": ping\n\n").data.is_none());
    }
}
