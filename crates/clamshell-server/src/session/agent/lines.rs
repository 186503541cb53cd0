//! Makes lines of an agent's output. No I/O.

use crate::logs::{LINE_BYTES_MAX, Line, Source};

/// Output goes in with its offset, whole lines come out; the beginning of a line waits for its end.
#[derive(Debug)]
pub(super) struct Lines {
    /// Offset of the first byte of `begun`.
    offset: u64,
    begun: Vec<u8>,
}

impl Lines {
    /// Output starts at this offset.
    pub(super) fn at(offset: u64) -> Self {
        Self { offset, begun: Vec::new() }
    }

    /// Offset of the next byte awaited.
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(self.begun.len() as u64)
    }

    /// Takes output from `offset` on. What is known already is passed over; what is missing in between is told.
    pub(super) fn push(&mut self, offset: u64, bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        if offset > self.end() {
            lines.extend(self.skip_to(offset));
        }
        let known = usize::try_from(self.end() - offset).unwrap_or(usize::MAX).min(bytes.len());
        for piece in bytes[known..].split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(piece);
            while self.begun.len() > LINE_BYTES_MAX + 1 {
                let cut = char_boundary(&self.begun, LINE_BYTES_MAX);
                lines.push(self.take(cut));
            }
            if self.begun.last() == Some(&b'\n') {
                lines.push(self.take(self.begun.len()));
            }
        }
        lines
    }

    /// The agent's output up to `offset` is lost.
    pub(super) fn skip_to(&mut self, offset: u64) -> Vec<Line> {
        let mut lines = self.flush();
        if offset > self.offset {
            let message = format!("{} bytes of output are missing here", offset - self.offset);
            lines.push(Line { source: Source::Platform, message, end_offset: Some(offset) });
            self.offset = offset;
        }
        lines
    }

    /// What waits for its end is a line of its own: nothing more comes.
    pub(super) fn flush(&mut self) -> Vec<Line> {
        if self.begun.is_empty() { Vec::new() } else { vec![self.take(self.begun.len())] }
    }

    fn take(&mut self, count: usize) -> Line {
        let rest = self.begun.split_off(count);
        let taken = std::mem::replace(&mut self.begun, rest);
        self.offset = self.offset.saturating_add(count as u64);
        let line = taken.strip_suffix(b"\n").unwrap_or(&taken);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let message = String::from_utf8_lossy(line).into_owned();
        Line { source: Source::Agent, message, end_offset: Some(self.offset) }
    }
}

/// At most `at`, and not within a character.
fn char_boundary(bytes: &[u8], at: usize) -> usize {
    let is_inner = |at: &usize| bytes.get(*at).is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000);
    (at.saturating_sub(3)..=at).rev().find(|at| !is_inner(at)).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: Vec<Line>) -> Vec<(String, u64)> {
        lines.into_iter().map(|line| (line.message, line.end_offset.unwrap_or(0))).collect()
    }

    fn check(from: u64, pieces: &[(u64, &[u8])], expect: &[(&str, u64)]) {
        let mut lines = Lines::at(from);
        let mut all = Vec::new();
        for (offset, bytes) in pieces {
            all.extend(lines.push(*offset, bytes));
        }
        all.extend(lines.flush());
        let expect: Vec<_> = expect.iter().map(|(text, end)| ((*text).to_owned(), *end)).collect();
        assert_eq!(told(all), expect);
    }

    #[test]
    fn lines_end_where_their_last_byte_is() {
        check(0, &[(0, b"one\ntwo\r\n"), (9, b"thr"), (12, b"ee")], &[("one", 4), ("two", 9), ("three", 14)]);
        check(5, &[(5, b"\n\nx")], &[("", 6), ("", 7), ("x", 8)]);
    }

    #[test]
    fn what_is_known_is_not_told_again() {
        check(4, &[(0, b"one\ntwo\n")], &[("two", 8)]);
        check(8, &[(0, b"one\ntwo\n")], &[]);
        check(20, &[(0, b"one\n")], &[]);
    }

    #[test]
    fn what_is_missing_is_told() {
        check(
            0,
            &[(0, b"be"), (10, b"x\n")],
            &[("be", 2), ("8 bytes of output are missing here", 10), ("x", 12)],
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        check(0, &[(0, b"a\xff\xfeb\n")], &[("a\u{fffd}\u{fffd}b", 5)]);
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let long = "\u{e4}".repeat(LINE_BYTES_MAX);
        let mut lines = Lines::at(0);
        let mut all = lines.push(0, long.as_bytes());
        all.extend(lines.flush());
        assert!(all.iter().all(|line| line.message.len() <= LINE_BYTES_MAX + 1));
        assert_eq!(all.iter().map(|line| line.message.as_str()).collect::<String>(), long);
        assert_eq!(all.last().unwrap().end_offset, Some(long.len() as u64));
    }

    #[test]
    fn offsets_at_the_end_of_all_numbers() {
        check(
            0,
            &[(u64::MAX, b"x\n"), (0, b"y\n")],
            &[("18446744073709551615 bytes of output are missing here", u64::MAX), ("x", u64::MAX)],
        );
    }
}
