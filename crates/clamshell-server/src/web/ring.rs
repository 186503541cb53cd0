//! The newest bytes of a terminal's output, by offset. Offsets only grow; what falls out at the front is gone.

use std::collections::VecDeque;

/// A bounded piece of a stream that has no end.
#[derive(Debug)]
pub(super) struct Ring {
    /// Offset of the oldest byte kept.
    start: u64,
    bytes: VecDeque<u8>,
    bytes_max: usize,
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Bytes from its offset on; none when it has them all.
    Bytes(Vec<u8>),
    /// They are not kept any more; the oldest ones are at this offset.
    Gone(u64),
}

impl Ring {
    /// An empty one whose first byte will have offset `start`.
    pub(super) fn new(start: u64, bytes_max: usize) -> Self {
        Self { start, bytes: VecDeque::new(), bytes_max }
    }

    /// Offset of the oldest byte kept.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Offset of the byte that comes next.
    pub(super) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Appends; the oldest bytes make room.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let kept = &bytes[bytes.len().saturating_sub(self.bytes_max)..];
        let over = (self.bytes.len() + kept.len()).saturating_sub(self.bytes_max);
        self.bytes.drain(..over);
        self.bytes.extend(kept);
        self.start += (over + bytes.len() - kept.len()) as u64;
    }

    /// At most `bytes_max` bytes from `offset` on. An offset above the end is taken for the end.
    pub(super) fn read(&self, offset: u64, bytes_max: usize) -> Piece {
        if offset < self.start {
            return Piece::Gone(self.start);
        }
        let skip = usize::try_from(offset - self.start).unwrap_or(usize::MAX).min(self.bytes.len());
        let length = (self.bytes.len() - skip).min(bytes_max);
        Piece::Bytes(self.bytes.range(skip..skip + length).copied().collect())
    }

    /// The newest bytes, at most `bytes_max`, of those from `offset` on.
    pub(super) fn tail(&self, offset: u64, bytes_max: usize) -> Vec<u8> {
        let from = self.end().saturating_sub(bytes_max as u64).max(self.start).max(offset);
        match self.read(from, bytes_max) {
            Piece::Bytes(bytes) => bytes,
            Piece::Gone(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_has_its_offset() {
        let mut ring = Ring::new(100, 4);
        ring.push(b"ab");
        assert_eq!((ring.start(), ring.end()), (100, 102));
        ring.push(b"cde");
        assert_eq!((ring.start(), ring.end()), (101, 105));
        assert_eq!(ring.read(101, 10), Piece::Bytes(b"bcde".to_vec()));
        assert_eq!(ring.read(103, 1), Piece::Bytes(b"d".to_vec()));
        assert_eq!(ring.read(105, 10), Piece::Bytes(Vec::new()));
        assert_eq!(ring.read(u64::MAX, 10), Piece::Bytes(Vec::new()));
        assert_eq!(ring.read(100, 10), Piece::Gone(101));
        assert_eq!(ring.tail(0, 3), b"cde");
        assert_eq!(ring.tail(104, 3), b"e");
    }

    #[test]
    fn one_push_may_be_longer_than_all_that_is_kept() {
        let mut ring = Ring::new(0, 3);
        ring.push(b"xy");
        ring.push(b"0123456789");
        assert_eq!((ring.start(), ring.end()), (9, 12));
        assert_eq!(ring.read(9, 9), Piece::Bytes(b"789".to_vec()));
    }
}
