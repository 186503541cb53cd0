//! Byte queues between descriptors.

use std::collections::VecDeque;

use rustix::io::Errno;

use super::poll::Watch;

/// Above this an emptied queue gives its memory back.
const KEEP_BYTES: usize = 16 * 1024;

/// Bytes on their way to a descriptor. The users bound it: see where they push.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bytes: Vec<u8>,
    taken: usize,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where new bytes are appended.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        if self.taken > 0 && self.taken * 2 >= self.bytes.len() {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        &mut self.bytes
    }

    /// Writes until nothing is left or nothing fits; returns how much went.
    pub(super) fn flush(&mut self, to: &Watch) -> Result<usize, Errno> {
        let mut total = 0;
        while self.taken < self.bytes.len() {
            let count = to.write(&self.bytes[self.taken..])?;
            if count == 0 {
                return Ok(total);
            }
            self.taken += count;
            total += count;
        }
        self.clear();
        Ok(total)
    }

    pub(super) fn clear(&mut self) {
        self.taken = 0;
        self.bytes.clear();
        if self.bytes.capacity() > KEEP_BYTES {
            self.bytes = Vec::new();
        }
    }
}

/// The newest bytes of a log in memory, so that followers do not read the file.
#[derive(Debug)]
pub(super) struct Tail {
    bytes: VecDeque<u8>,
    end: u64,
}

/// Bytes kept: a follower that is one socket buffer behind still reads from memory.
const TAIL_BYTES: usize = 64 * 1024;

impl Tail {
    pub(super) fn new(end: u64) -> Self {
        Self { bytes: VecDeque::new(), end }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.end += bytes.len() as u64;
        let bytes = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        let excess = (self.bytes.len() + bytes.len()).saturating_sub(TAIL_BYTES);
        self.bytes.drain(..excess);
        self.bytes.extend(bytes);
    }

    /// The bytes from `offset` on in two pieces; `None` when they are no longer all here.
    pub(super) fn from(&self, offset: u64) -> Option<(&[u8], &[u8])> {
        let back = usize::try_from(self.end.checked_sub(offset)?).ok()?;
        let skip = self.bytes.len().checked_sub(back)?;
        let (first, second) = self.bytes.as_slices();
        Some(match skip.checked_sub(first.len()) {
            Some(skip) => (&second[skip..], &[]),
            None => (&first[skip..], second),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_has_the_newest_bytes() {
        let mut tail = Tail::new(100);
        let mut model = Vec::new();
        for round in 0..50_usize {
            let piece: Vec<u8> =
                (0..round * 137 % 5000).map(|at| ((at + round) % 256).try_into().unwrap()).collect();
            tail.push(&piece);
            model.extend_from_slice(&piece);
            for back in [0, 1, 1000, TAIL_BYTES.min(model.len())] {
                let back = back.min(model.len());
                let (first, second) = tail.from(100 + (model.len() - back) as u64).unwrap();
                assert_eq!([first, second].concat(), model[model.len() - back..]);
            }
        }
        assert!(model.len() > TAIL_BYTES);
        assert_eq!(tail.from(100), None);
        assert_eq!(tail.from(1 << 40), None);
    }
}
