//! Joins the replay of a new connection to what the former one brought, so that nothing is shown twice or left out.
//!
//! AWS replays the newest output of a shell and says nothing of where in the stream it begins. It is the whole output of
//! the shell while that is short, and its newest [`REPLAY_BYTES`] once it is not. Output that repeats itself over its whole
//! length fits in more than one place; then the longest overlap is taken, which may leave repetitions out and never doubles,
//! and people are told.
//!
//! An endpoint that counts, as Clamshell does, says where its replay begins: then there is nothing to find out.

/// Longest replay.
pub(super) const REPLAY_BYTES: usize = 256 * 1024;

/// A shorter overlap in the middle of the output may be chance.
const OVERLAP_BYTES_MIN: usize = 32;

/// Collects a replay until it is known how it goes on from what was there.
#[derive(Debug)]
pub(super) struct Joint {
    /// The newest bytes that are known of what the upstream sent; at most [`REPLAY_BYTES`].
    known: Vec<u8>,
    /// They are all of them: the replay begins with the first.
    whole: bool,
    /// Where the replay begins, counted by the upstream: so many bytes before the end of what is known, or behind it.
    begins: Option<Begins>,
    replay: Vec<u8>,
}

/// Where a replay begins, seen from the end of what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begins {
    /// So many bytes before it; 0 right behind it.
    Before(usize),
    /// So many bytes were missed.
    Behind(u64),
}

/// How a replay goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// Too little of it came yet.
    Waiting,
    /// What is known is followed by these bytes.
    Continues {
        /// What is new.
        bytes: Vec<u8>,
        /// It fits in more than one place.
        doubtful: bool,
    },
    /// It does not fit what is known: these bytes are shown on a cleared screen.
    Afresh {
        /// The replay.
        bytes: Vec<u8>,
        /// Bytes in between, if the upstream counts.
        missed: Option<u64>,
    },
}

impl Joint {
    /// `known`: the newest bytes that the upstream sent, at most [`REPLAY_BYTES`]; `whole`: it sent no others; `begins`: where
    /// the replay begins, if the upstream said so.
    pub(super) fn new(known: Vec<u8>, whole: bool, begins: Option<Begins>) -> Self {
        match begins {
            // No honest replay is so long. What comes would be collected until memory runs out.
            Some(Begins::Before(length)) if length > REPLAY_BYTES => {
                Self { known, whole: false, begins: None, replay: Vec::new() }
            }
            begins => Self { known, whole, begins, replay: Vec::new() },
        }
    }

    /// Whether the upstream said where the replay begins: then even a slow one is waited for.
    pub(super) fn is_counted(&self) -> bool {
        self.begins.is_some()
    }

    /// Takes output. After any answer but [`Joined::Waiting`] the joint is of no more use.
    pub(super) fn on_output(&mut self, bytes: &[u8]) -> Joined {
        self.replay.extend_from_slice(bytes);
        match self.begins {
            Some(Begins::Behind(missed)) => {
                return Joined::Afresh { bytes: std::mem::take(&mut self.replay), missed: Some(missed) };
            }
            Some(Begins::Before(length)) => {
                // What is known twice must be the same; otherwise the upstream counts something else by now.
                let skip = length.saturating_sub(self.known.len());
                let known = &self.known[self.known.len() - (length - skip)..];
                let again = self.replay.get(skip..).unwrap_or_default();
                let common = known.len().min(again.len());
                if known[..common] == again[..common] {
                    return if self.replay.len() >= length {
                        self.continues(length)
                    } else {
                        Joined::Waiting
                    };
                }
                (self.begins, self.whole) = (None, false);
            }
            None => {}
        }
        if self.whole {
            let common = self.known.len().min(self.replay.len());
            if self.known[..common] == self.replay[..common] {
                return if common == self.known.len() { self.continues(common) } else { Joined::Waiting };
            }
            // By now the run is longer than a replay, which begins somewhere in it.
            self.whole = false;
        }
        if self.replay.len() >= REPLAY_BYTES { self.join() } else { Joined::Waiting }
    }

    /// Nothing more came for a while: the replay is over.
    pub(super) fn on_quiet(&mut self) -> Joined {
        if self.replay.is_empty() {
            // Servers without a replay go on with what is new.
            return self.continues(0);
        }
        self.join()
    }

    fn continues(&mut self, overlap: usize) -> Joined {
        Joined::Continues { bytes: self.replay.split_off(overlap), doubtful: false }
    }

    fn join(&mut self) -> Joined {
        let (overlap, shorter) = overlaps(&self.known, &self.replay);
        let all = overlap == self.known.len() || overlap == self.replay.len();
        if overlap >= OVERLAP_BYTES_MIN || (all && overlap > 0) {
            let doubtful = shorter >= OVERLAP_BYTES_MIN;
            Joined::Continues { bytes: self.replay.split_off(overlap), doubtful }
        } else {
            Joined::Afresh { bytes: std::mem::take(&mut self.replay), missed: None }
        }
    }
}

/// Lengths of the longest end of `known` with which `replay` begins, and of the longest shorter one. Linear in both (Knuth,
/// Morris and Pratt).
fn overlaps(known: &[u8], replay: &[u8]) -> (usize, usize) {
    let mut failure = vec![0_usize; replay.len()];
    let mut matched = 0;
    for index in 1..replay.len() {
        while matched > 0 && replay[index] != replay[matched] {
            matched = failure[matched - 1];
        }
        if replay[index] == replay[matched] {
            matched += 1;
        }
        failure[index] = matched;
    }
    let mut matched = 0;
    for (index, byte) in known.iter().enumerate() {
        while matched > 0 && (matched == replay.len() || *byte != replay[matched]) {
            matched = failure[matched - 1];
        }
        if replay.get(matched) == Some(byte) {
            matched += 1;
        }
        // A replay that lies within what is known would end before the end of it, which no server sends.
        if matched == replay.len() && index + 1 < known.len() {
            matched = failure.last().copied().unwrap_or(0);
        }
    }
    // An end of both is one of the longest overlap as well.
    (matched, matched.checked_sub(1).map_or(0, |last| failure[last]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check_begins(
        known: &[u8],
        (whole, begins): (bool, Option<Begins>),
        pieces: &[&[u8]],
        expect: &Joined,
    ) {
        let mut joint = Joint::new(known.to_vec(), whole, begins);
        for piece in pieces {
            let joined = joint.on_output(piece);
            if joined != Joined::Waiting {
                assert_eq!(joined, *expect, "{known:?} {pieces:?}");
                return;
            }
        }
        assert_eq!(joint.on_quiet(), *expect, "{known:?} {pieces:?}");
    }

    fn check(known: &[u8], whole: bool, pieces: &[&[u8]], expect: &Joined) {
        check_begins(known, (whole, None), pieces, expect);
    }

    fn continues(bytes: &[u8]) -> Joined {
        Joined::Continues { bytes: bytes.to_vec(), doubtful: false }
    }

    fn afresh(bytes: &[u8], missed: Option<u64>) -> Joined {
        Joined::Afresh { bytes: bytes.to_vec(), missed }
    }

    #[test]
    fn a_short_run_is_replayed_from_its_start() {
        check(b"one two", true, &[b"one", b" two three"], &continues(b" three"));
        check(b"one two", true, &[b"one two"], &continues(b""));
        check(b"", true, &[b"first"], &continues(b"first"));
        check(b"one two", true, &[b"other"], &afresh(b"other", None));
        check(b"one two", true, &[], &continues(b""));
    }

    #[test]
    fn a_long_run_is_joined_where_it_fits() {
        let line = |number: usize| format!("line {number} of the output of a program\n").into_bytes();
        let all: Vec<u8> = (0..20_000).flat_map(line).collect();
        let (known_end, replay_end) = (600_000, 620_000);
        let known = &all[known_end - REPLAY_BYTES..known_end];
        let replay = &all[replay_end - REPLAY_BYTES..replay_end];
        check(known, false, &[&replay[..1000], &replay[1000..]], &continues(&all[known_end..replay_end]));
        // It was short when it was last seen.
        let known = &all[..REPLAY_BYTES / 2];
        let replay = &all[REPLAY_BYTES / 4..][..REPLAY_BYTES];
        check(known, true, &[&replay[..99], &replay[99..]], &continues(&replay[REPLAY_BYTES / 4..]));
        // More than a replay was missed.
        let later = &all[all.len() - REPLAY_BYTES..];
        check(&all[..REPLAY_BYTES], false, &[later], &afresh(later, None));
    }

    #[test]
    fn repetitions_are_never_doubled_and_told_of() {
        let known = vec![b'y'; 1000];
        let doubtful = |count: usize| Joined::Continues { bytes: vec![b'y'; count], doubtful: true };
        check(&known, false, &[&[b'y'; 1000]], &doubtful(0));
        check(&known, false, &[&[b'y'; 1500]], &doubtful(500));
    }

    #[test]
    fn an_endpoint_that_counts_leaves_no_doubt() {
        let before = |length| (false, Some(Begins::Before(length)));
        check_begins(b"yyyy", before(2), &[b"y", b"yyy"], &continues(b"yy"));
        check_begins(b"yyyy", before(0), &[b"yy"], &continues(b"yy"));
        // More is replayed than is known any more.
        check_begins(b"cd", before(4), &[b"abc", b"def"], &continues(b"ef"));
        check_begins(b"yy", (false, Some(Begins::Behind(7))), &[b"yyy"], &afresh(b"yyy", Some(7)));
        // It has lost its count.
        check_begins(b"abcd", before(4), &[b"xy"], &afresh(b"xy", None));
    }

    #[test]
    fn whatever_an_endpoint_says_little_is_collected() {
        let piece = [b'x'; 60_000];
        for length in [0, 1, REPLAY_BYTES, REPLAY_BYTES + 1, 1 << 40, usize::MAX] {
            for known in [&b""[..], b"y", &[b'x'; REPLAY_BYTES]] {
                for whole in [true, false] {
                    let mut joint = Joint::new(known.to_vec(), whole, Some(Begins::Before(length)));
                    let came = (1..100).find(|_| joint.on_output(&piece) != Joined::Waiting);
                    assert!(
                        came.is_some_and(|pieces| pieces <= 5),
                        "{length} {} {whole}: {came:?}",
                        known.len()
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_overlap_is_the_longest(known in "[ab]{0,40}", replay in "[ab]{0,40}") {
            let (known, replay) = (known.as_bytes(), replay.as_bytes());
            let mut fitting = (0..=known.len().min(replay.len()))
                .rev()
                .filter(|length| known[known.len() - length..] == replay[..*length]);
            let (longest, shorter) = (fitting.next().unwrap(), fitting.next().unwrap_or(0));
            prop_assert_eq!(overlaps(known, replay), (longest, shorter));
        }
    }
}
