//! What was typed into a shell and is not passed on yet. Sans-I/O.
//!
//! A page that names itself as a writer has its bytes counted, over all its connections and all processes: it is told how
//! many there are, keeps the others, and sends them again, so that each byte is passed on once.

use std::{collections::VecDeque, sync::Arc};

use clamshell_term::frame::{STDIN_BYTES_MAX, ShellFrame};

use super::journal::Counts;

/// Pieces of input that wait; a page that sends more is closed. Bytes that follow bytes of the same page are one piece.
const PIECES_MAX: usize = 1024;

/// Writers whose counts are known; those that have not been there for longest are forgotten first. A window that is
/// loaded again is another writer.
const WRITERS_MAX: usize = 32;

/// Bytes of a writer's name: more than the 22 letters that pages choose.
pub(crate) const WRITER_BYTES_MAX: usize = 64;

/// What pages send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    Bytes(Vec<u8>),
    Resize(u16, u16),
    /// End the shell.
    Close,
}

impl Input {
    /// The message for the upstream.
    pub(super) fn frame(&self) -> ShellFrame<'_> {
        match self {
            Self::Bytes(bytes) => ShellFrame::Stdin(bytes),
            Self::Resize(width, height) => ShellFrame::Resize { width: *width, height: *height },
            Self::Close => ShellFrame::Close,
        }
    }
}

#[derive(Debug)]
struct Piece {
    input: Input,
    /// Whose bytes they are, and how many of that writer there are with them.
    count: Option<(Arc<str>, u64)>,
}

#[derive(Debug)]
struct Writer {
    name: Arc<str>,
    /// The page that has the name now: what an older connection still brings is sent again by this one.
    page: u64,
    /// Bytes that came.
    received: u64,
    /// Bytes that were passed on, or dropped because their program is gone.
    passed: u64,
}

/// Input of all pages, in its order.
#[derive(Debug, Default)]
pub(super) struct Typing {
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// The longest absent first.
    writers: Vec<Writer>,
    /// On its way to the upstream.
    passing: Counts,
    /// Bytes of writers that may have been passed on or not, from an earlier process.
    doubt: Counts,
}

/// What became of input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Took {
    /// It waits.
    Waits,
    /// Too much waits already.
    Full,
    /// The page is not the one that has its name any more.
    Stale,
}

impl Typing {
    /// With the counts of an earlier process.
    pub(super) fn restored(typed: Counts, doubt: Counts) -> Self {
        let writer = |(name, passed): (String, u64)| Writer {
            name: name.into(),
            page: u64::MAX,
            received: passed,
            passed,
        };
        Self { writers: typed.into_iter().map(writer).collect(), doubt, ..Self::default() }
    }

    /// A page has this name from now on. Gives how many of its bytes are here, and how many of those before may not have
    /// reached the upstream.
    pub(super) fn join(&mut self, name: &str, page: u64) -> (Arc<str>, u64, u64) {
        let found = self.writers.iter().position(|writer| *writer.name == *name);
        let writer = match found {
            Some(index) => self.writers.remove(index),
            None => {
                if self.writers.len() >= WRITERS_MAX {
                    self.writers.remove(0);
                }
                Writer { name: name.into(), page, received: 0, passed: 0 }
            }
        };
        let known = (Arc::clone(&writer.name), writer.received);
        self.writers.push(Writer { page, ..writer });
        let doubt = self.doubt.iter().position(|(of, _)| of == name);
        let doubt = doubt.map_or(0, |index| self.doubt.swap_remove(index).1);
        (known.0, known.1, doubt)
    }

    /// Takes input of a page, with its name if it has one.
    pub(super) fn push(
        &mut self,
        input: Input,
        page: u64,
        name: Option<&Arc<str>>,
        bytes_max: usize,
    ) -> Took {
        let writer = match name {
            None => None,
            Some(name) => {
                match self.writers.iter_mut().find(|writer| writer.page == page && writer.name == *name) {
                    Some(writer) => Some(writer),
                    None => return Took::Stale,
                }
            }
        };
        let Input::Bytes(bytes) = input else {
            // Of sizes the last one counts.
            if let (Input::Resize(..), Some(Input::Resize(..))) =
                (&input, self.pieces.back().map(|piece| &piece.input))
            {
                self.pieces.pop_back();
            }
            if self.pieces.len() >= PIECES_MAX {
                return Took::Full;
            }
            self.pieces.push_back(Piece { input, count: None });
            return Took::Waits;
        };
        let length = bytes.len();
        if self.bytes + length > bytes_max {
            return Took::Full;
        }
        let count = match writer {
            None => None,
            Some(writer) => Some((&writer.name, writer.received + length as u64)),
        };
        let joins = self.pieces.back().is_some_and(|last| {
            matches!(&last.input, Input::Bytes(there) if there.len() + length <= STDIN_BYTES_MAX)
                && last.count.as_ref().map(|(name, _)| name) == count.as_ref().map(|(name, _)| *name)
        });
        let count = count.map(|(name, received)| (Arc::clone(name), received));
        let is_full = self.pieces.len() >= PIECES_MAX;
        match self.pieces.back_mut() {
            Some(Piece { input: Input::Bytes(there), count: counted }) if joins => {
                there.extend_from_slice(&bytes);
                counted.clone_from(&count);
            }
            _ if is_full => return Took::Full,
            _ => self.pieces.push_back(Piece { input: Input::Bytes(bytes), count: count.clone() }),
        }
        self.bytes += length;
        if let Some((name, received)) = count
            && let Some(writer) = self.writers.iter_mut().find(|writer| writer.name == name)
        {
            writer.received = received;
        }
        Took::Waits
    }

    /// What is passed on next, bytes together up to one frame, and the counts that are reached by it.
    pub(super) fn take(&mut self) -> Option<(Input, Counts)> {
        let first = self.pieces.pop_front()?;
        self.passing = Counts::new();
        let Input::Bytes(mut bytes) = first.input else { return Some((first.input, Counts::new())) };
        self.reach(first.count);
        while let Some(Piece { input: Input::Bytes(more), .. }) = self.pieces.front() {
            if bytes.len() + more.len() > STDIN_BYTES_MAX {
                break;
            }
            bytes.extend_from_slice(more);
            let piece = self.pieces.pop_front();
            self.reach(piece.and_then(|piece| piece.count));
        }
        self.bytes -= bytes.len();
        Some((Input::Bytes(bytes), self.passing.clone()))
    }

    fn reach(&mut self, count: Option<(Arc<str>, u64)>) {
        let Some((name, count)) = count else { return };
        self.passing.retain(|(of, _)| **of != *name);
        self.passing.push((name.to_string(), count));
    }

    /// What was taken last is with the upstream, or was lost on its way there. `true` when it was of counted writers.
    pub(super) fn passed(&mut self) -> bool {
        let passing = std::mem::take(&mut self.passing);
        for (name, count) in &passing {
            if let Some(writer) = self.writers.iter_mut().find(|writer| *writer.name == **name) {
                writer.passed = *count;
            }
        }
        !passing.is_empty()
    }

    /// Whether something is on its way.
    pub(super) fn is_passing(&self) -> bool {
        !self.passing.is_empty()
    }

    /// Drops what waits: the program that it was typed for is gone.
    pub(super) fn forget(&mut self) {
        self.pieces.retain(|piece| !matches!(piece.input, Input::Bytes(_)));
        self.bytes = 0;
        for writer in &mut self.writers {
            writer.passed = writer.received;
        }
    }

    /// How many bytes of a writer were passed on.
    pub(super) fn passed_of(&self, name: &str) -> Option<u64> {
        self.writers.iter().find(|writer| *writer.name == *name).map(|writer| writer.passed)
    }

    /// What a snapshot keeps: bytes passed on, and those in doubt.
    pub(super) fn counts(&self) -> (Counts, Counts) {
        let typed = self.writers.iter().map(|writer| {
            let passing = self.passing.iter().find(|(name, _)| **name == *writer.name);
            (writer.name.to_string(), passing.map_or(writer.passed, |(_, count)| *count))
        });
        let doubt = self.passing.iter().filter_map(|(name, count)| {
            let passed = self.passed_of(name)?;
            Some((name.clone(), count - passed))
        });
        (typed.collect(), self.doubt.iter().cloned().chain(doubt).collect())
    }
}

/// What the counts of an earlier process are after one more record.
pub(super) fn note_passing(typed: &mut Counts, doubt: &mut Counts, passing: Counts) {
    for (name, count) in passing {
        let known = typed.iter().position(|(of, _)| *of == name);
        let before = known.map_or(0, |index| typed.remove(index).1);
        doubt.retain(|(of, _)| *of != name);
        doubt.push((name.clone(), count.saturating_sub(before)));
        typed.push((name, count));
    }
    let over = typed.len().saturating_sub(WRITERS_MAX);
    typed.drain(..over);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 100_000;

    fn bytes(text: &str) -> Input {
        Input::Bytes(text.as_bytes().to_vec())
    }

    #[test]
    fn bytes_are_counted_by_writer_and_sent_together() {
        let mut typing = Typing::default();
        let (ann, none, _) = typing.join("ann", 1);
        let (bob, ..) = typing.join("bob", 2);
        assert_eq!(none, 0);
        assert_eq!(typing.push(bytes("ab"), 1, Some(&ann), MAX), Took::Waits);
        assert_eq!(typing.push(bytes("c"), 1, Some(&ann), MAX), Took::Waits);
        assert_eq!(typing.push(bytes("x"), 2, Some(&bob), MAX), Took::Waits);
        assert_eq!(typing.push(bytes("y"), 3, None, MAX), Took::Waits);
        assert_eq!(typing.push(Input::Resize(1, 2), 1, Some(&ann), MAX), Took::Waits);
        assert_eq!(typing.push(Input::Resize(3, 4), 1, Some(&ann), MAX), Took::Waits);
        let counts = |ann: u64, bob: u64| vec![("ann".to_owned(), ann), ("bob".to_owned(), bob)];
        assert_eq!(typing.take(), Some((bytes("abcxy"), counts(3, 1))));
        assert_eq!((typing.passed_of("ann"), typing.join("ann", 4).1), (Some(0), 3));
        assert_eq!(typing.counts().1, counts(3, 1), "until it was passed on there is doubt");
        assert!(typing.passed());
        assert_eq!(typing.passed_of("ann"), Some(3));
        assert_eq!(typing.take(), Some((Input::Resize(3, 4), Counts::new())));
        assert_eq!(typing.take(), None);
        assert_eq!(typing.counts().1, Counts::new());
    }

    #[test]
    fn what_an_older_connection_still_brings_is_not_taken() {
        let mut typing = Typing::default();
        let (name, ..) = typing.join("ann", 1);
        assert_eq!(typing.push(bytes("a"), 1, Some(&name), MAX), Took::Waits);
        assert_eq!(typing.join("ann", 2).1, 1);
        assert_eq!(typing.push(bytes("b"), 1, Some(&name), MAX), Took::Stale);
        assert_eq!(typing.push(bytes("b"), 2, Some(&name), MAX), Took::Waits);
        assert_eq!(typing.take().map(|(input, _)| input), Some(bytes("ab")));
    }

    #[test]
    fn another_program_gets_nothing_of_it() {
        let mut typing = Typing::default();
        let (name, ..) = typing.join("ann", 1);
        assert_eq!(typing.push(bytes("rm"), 1, Some(&name), MAX), Took::Waits);
        assert_eq!(typing.push(Input::Resize(3, 4), 1, Some(&name), MAX), Took::Waits);
        typing.forget();
        assert_eq!(typing.take(), Some((Input::Resize(3, 4), Counts::new())));
        assert_eq!(typing.passed_of("ann"), Some(2));
    }

    #[test]
    fn keys_of_a_long_wait_are_one_piece_and_have_a_limit() {
        let mut typing = Typing::default();
        let (name, ..) = typing.join("ann", 1);
        for _ in 0..MAX {
            assert_eq!(typing.push(bytes("k"), 1, Some(&name), MAX), Took::Waits);
        }
        assert_eq!(typing.push(bytes("k"), 1, Some(&name), MAX), Took::Full);
        let (first, counts) = typing.take().unwrap();
        assert_eq!(first, Input::Bytes(vec![b'k'; STDIN_BYTES_MAX]));
        assert_eq!(counts, [("ann".to_owned(), STDIN_BYTES_MAX as u64)]);
        // It may never arrive, and there is room for as much again.
        assert_eq!(typing.push(Input::Bytes(vec![b'k'; STDIN_BYTES_MAX]), 1, Some(&name), MAX), Took::Waits);
        assert_eq!(typing.push(bytes("k"), 1, Some(&name), MAX), Took::Full);
    }

    #[test]
    fn counts_outlive_the_process() {
        let (mut typed, mut doubt) = (Counts::new(), Counts::new());
        note_passing(&mut typed, &mut doubt, vec![("ann".to_owned(), 5)]);
        doubt.clear();
        note_passing(&mut typed, &mut doubt, vec![("ann".to_owned(), 8)]);
        let mut typing = Typing::restored(typed, doubt);
        let (name, received, in_doubt) = typing.join("ann", 1);
        assert_eq!((received, in_doubt), (8, 3));
        assert_eq!(typing.join("ann", 2).2, 0, "it is told once");
        assert_eq!(typing.push(bytes("a"), 2, Some(&name), MAX), Took::Waits);
        assert_eq!(typing.take().unwrap().1, [("ann".to_owned(), 9)]);
    }
}
