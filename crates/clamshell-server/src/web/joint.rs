//! Joins the replay of a new connection to what the former one brought, so that nothing is shown twice or left out.
//!
//! AWS replays the newest output of a shell and says nothing of where in the stream it begins. It is the whole output of
//! the shell while that is short, and its newest [`REPLAY_BYTES`] once it is not. Output that repeats itself over its whole
//! length fits in more than one place; then the longest overlap is taken, which may leave repetitions out and never doubles.

/// Longest replay.
pub(super) const REPLAY_BYTES: usize = 256 * 1024;

/// A shorter overlap in the middle of the output may be chance.
const OVERLAP_BYTES_MIN: usize = 32;

/// Collects a replay until it is known how it goes on from what was there.
#[derive(Debug)]
pub(super) struct Joint {
    /// The newest bytes of this run of the shell that are known; at most [`REPLAY_BYTES`].
    known: Vec<u8>,
    /// They are all of them: the replay begins with the first.
    whole: bool,
    replay: Vec<u8>,
}

/// How a replay goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// Too little of it came yet.
    Waiting,
    /// What is known is followed by these bytes.
    Continues(Vec<u8>),
    /// It does not fit what is known: these bytes are shown on a cleared screen.
    Afresh(Vec<u8>),
}

impl Joint {
    /// `known`: the newest bytes of this run, at most [`REPLAY_BYTES`]; `whole`: the run had no others.
    pub(super) fn new(known: Vec<u8>, whole: bool) -> Self {
        Self { known, whole, replay: Vec::new() }
    }

    /// Takes output. After any answer but [`Joined::Waiting`] the joint is of no more use.
    pub(super) fn on_output(&mut self, bytes: &[u8]) -> Joined {
        self.replay.extend_from_slice(bytes);
        if self.whole {
            let common = self.known.len().min(self.replay.len());
            if self.known[..common] != self.replay[..common] {
                return self.join();
            }
            if common == self.known.len() {
                return Joined::Continues(self.replay.split_off(common));
            }
            return Joined::Waiting;
        }
        if self.replay.len() >= REPLAY_BYTES { self.join() } else { Joined::Waiting }
    }

    /// Nothing more came for a while: the replay is over.
    pub(super) fn on_quiet(&mut self) -> Joined {
        if self.replay.is_empty() {
            // Servers without a replay go on with what is new.
            return Joined::Continues(Vec::new());
        }
        self.join()
    }

    fn join(&mut self) -> Joined {
        let overlap = overlap(&self.known, &self.replay);
        let all = overlap == self.known.len() || overlap == self.replay.len();
        if overlap >= OVERLAP_BYTES_MIN || (all && overlap > 0) {
            Joined::Continues(self.replay.split_off(overlap))
        } else {
            Joined::Afresh(std::mem::take(&mut self.replay))
        }
    }
}

/// Length of the longest end of `known` with which `replay` begins. Linear in both (Knuth, Morris and Pratt).
fn overlap(known: &[u8], replay: &[u8]) -> usize {
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
    matched
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(known: &[u8], whole: bool, pieces: &[&[u8]], expect: Joined) {
        let mut joint = Joint::new(known.to_vec(), whole);
        for piece in pieces {
            let joined = joint.on_output(piece);
            if joined != Joined::Waiting {
                assert_eq!(joined, expect, "{known:?} {pieces:?}");
                return;
            }
        }
        assert_eq!(joint.on_quiet(), expect, "{known:?} {pieces:?}");
    }

    #[test]
    fn a_short_run_is_replayed_from_its_start() {
        check(b"one two", true, &[b"one", b" two three"], Joined::Continues(b" three".to_vec()));
        check(b"one two", true, &[b"one two"], Joined::Continues(Vec::new()));
        check(b"", true, &[b"first"], Joined::Continues(b"first".to_vec()));
        check(b"one two", true, &[b"other"], Joined::Afresh(b"other".to_vec()));
        check(b"one two", true, &[], Joined::Continues(Vec::new()));
    }

    #[test]
    fn a_long_run_is_joined_where_it_fits() {
        let line = |number: usize| format!("line {number} of the output of a program\n").into_bytes();
        let all: Vec<u8> = (0..20_000).flat_map(line).collect();
        let (known_end, replay_end) = (600_000, 620_000);
        let known = &all[known_end - REPLAY_BYTES..known_end];
        let replay = &all[replay_end - REPLAY_BYTES..replay_end];
        let new = all[known_end..replay_end].to_vec();
        check(known, false, &[&replay[..1000], &replay[1000..]], Joined::Continues(new));
        // More than a replay was missed.
        let later = &all[all.len() - REPLAY_BYTES..];
        let known = &all[..REPLAY_BYTES];
        check(known, false, &[later], Joined::Afresh(later.to_vec()));
    }

    #[test]
    fn repetitions_are_never_doubled() {
        let known = vec![b'y'; 1000];
        check(&known, false, &[&[b'y'; 1000]], Joined::Continues(Vec::new()));
        check(&known, false, &[&[b'y'; 1500]], Joined::Continues(vec![b'y'; 500]));
    }

    proptest! {
        #[test]
        fn the_overlap_is_the_longest(known in "[ab]{0,40}", replay in "[ab]{0,40}") {
            let (known, replay) = (known.as_bytes(), replay.as_bytes());
            let longest = (0..=known.len().min(replay.len()))
                .rev()
                .find(|length| known[known.len() - length..] == replay[..*length]);
            prop_assert_eq!(Some(overlap(known, replay)), longest);
        }
    }
}
