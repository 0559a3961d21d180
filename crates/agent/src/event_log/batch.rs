//! Lines on their way to where they are written, which may take only a part of them.

/// Whole lines, and how far they have been written.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// Written so far.
    done: usize,
    /// Where the line begins that is written next, or has been written in part.
    line: usize,
}

impl Batch {
    /// Is it time to write? More would only be held up.
    pub(crate) fn is_large(&self) -> bool {
        self.bytes.len() >= 256 * 1024
    }

    /// Adds a line.
    pub(crate) fn push(&mut self, line: &str) {
        self.bytes.extend_from_slice(line.as_bytes());
        self.bytes.push(b'\n');
    }

    /// What is to be written.
    pub(crate) fn rest(&self) -> &[u8] {
        self.bytes.get(self.done..).unwrap_or_default()
    }

    /// What is to be written of the line that is written in part; empty if none is.
    pub(crate) fn rest_of_line(&self) -> &[u8] {
        if self.done == self.line {
            return &[];
        }
        let rest = self.rest();
        let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
        rest.get(..end).unwrap_or_default()
    }

    /// So many bytes of [`rest`](Self::rest) have been written; how many lines that completes.
    pub(crate) fn wrote(&mut self, bytes: usize) -> u64 {
        let written = self.rest().get(..bytes).unwrap_or_default();
        let lines = written.iter().filter(|byte| **byte == b'\n').count() as u64;
        if let Some(end) = written.iter().rposition(|byte| *byte == b'\n') {
            self.line = self.done + end + 1;
        }
        self.done += bytes;
        if self.done == self.bytes.len() {
            self.bytes.clear();
            (self.done, self.line) = (0, 0);
        }
        lines
    }

    /// What was written of a line is gone, or in another file.
    pub(crate) fn begin_line_again(&mut self) {
        self.done = self.line;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_written_in_part_is_completed_or_begun_again() {
        let mut batch = Batch::default();
        for line in ["one", "two", "three"] {
            batch.push(line);
        }
        assert_eq!((batch.wrote(6), batch.rest()), (1, &b"o\nthree\n"[..]));
        assert_eq!(batch.rest_of_line(), b"o\n");
        batch.begin_line_again();
        assert_eq!((batch.rest(), batch.rest_of_line()), (&b"two\nthree\n"[..], &b""[..]));
        assert_eq!((batch.wrote(4), batch.rest_of_line()), (1, &b""[..]));
        assert_eq!((batch.wrote(6), batch.rest()), (1, &b""[..]));
        batch.push("four");
        assert_eq!(batch.rest(), b"four\n");
    }
}
