//! What the long test does, decided before it starts from one number.

use super::generate::{KINDS, Kind, Program};

/// What goes wrong while a program's output is on its way. `after` is in thousandths of that output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing.
    None,
    /// The client reads nothing until its shell is used again.
    SlowReader,
    /// The client's connection breaks and it comes back.
    Disconnect { after: u64 },
    /// An AWS client attaches beside it, reads for a while and breaks off.
    AwsClient { after: u64 },
    /// Somebody watches from the screen on.
    Watcher { after: u64 },
    /// The client's terminal changes its size.
    Resize { after: u64, cols: u16, rows: u16 },
    /// The server is killed and started again.
    KillServer { after: u64 },
}

/// One program in one shell, and its trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cycle {
    pub(super) shell: usize,
    pub(super) program: Program,
    pub(super) trouble: Trouble,
}

/// The server is killed once in so many cycles.
const KILL_EVERY: u64 = 20;

/// A sequence of numbers that one number decides (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// The cycles that `seed` stands for.
pub(super) fn plan(seed: u64, cycles: u64, shells: usize) -> Vec<Cycle> {
    let mut random = Random(seed);
    let size = |random: &mut Random, from: u64, to: u64| from + random.below(to - from);
    (0..cycles)
        .map(|number| {
            let shell = usize::try_from(random.below(shells as u64)).unwrap_or(0);
            let kind = KINDS[usize::try_from(random.below(4)).unwrap_or(0)];
            let after = random.below(1000);
            let trouble = match random.below(8) {
                _ if number % KILL_EVERY == KILL_EVERY / 2 => Trouble::KillServer { after },
                0 => Trouble::None,
                1 => Trouble::SlowReader,
                2 | 3 => Trouble::Disconnect { after },
                4 | 5 => Trouble::AwsClient { after },
                6 => Trouble::Watcher { after },
                _ => {
                    let (cols, rows) = (20 + random.below(200), 5 + random.below(80));
                    let small = |number: u64| u16::try_from(number).unwrap_or(1);
                    Trouble::Resize { after, cols: small(cols), rows: small(rows) }
                }
            };
            let pieces = match (trouble, kind) {
                // Enough that some of it is still to come.
                (Trouble::KillServer { .. } | Trouble::SlowReader, Kind::Lines | Kind::Bytes) => {
                    size(&mut random, 5_000, 20_000)
                }
                _ => size(&mut random, 20, 3_000),
            };
            let seed = 1 + random.below(2_147_483_645);
            Cycle { shell, program: Program { kind, seed, pieces }, trouble }
        })
        .collect()
}

#[test]
fn the_same_seed_gives_the_same_actions() {
    assert_eq!(plan(7, 200, 4), plan(7, 200, 4));
    assert_ne!(plan(7, 200, 4), plan(8, 200, 4));
    let kills =
        plan(7, 200, 4).iter().filter(|cycle| matches!(cycle.trouble, Trouble::KillServer { .. })).count();
    assert_eq!(kills, 10);
}
