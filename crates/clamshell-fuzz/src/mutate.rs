//! Seeded mutations: what a coverage-guided fuzzer does first, without the guidance.

/// Values at which parsers change their mind.
const EDGES: [&[u8]; 14] = [
    &[0],
    &[0xff],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff],
    &[0, 0, 0, 0, 0, 0, 0, 0],
    b"\r\n",
    b"%00",
    b"%",
    b"../",
    b"18446744073709551616",
    b"-1",
    b"\"",
    "\u{1F41A}".as_bytes(),
    &[0xe2, 0x82],
];

/// Makes inputs out of seeds; the same start gives the same inputs.
#[derive(Debug, Clone)]
pub struct Mutator {
    state: u64,
}

impl Mutator {
    /// A mutator that starts here.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next random number (SplitMix64).
    pub fn next_random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap();
        usize::try_from(self.next_random() % bound).unwrap()
    }

    /// A new input of at most `bytes_max` bytes: noise, or one or two seeds with a few changes.
    pub fn mutate(&mut self, seeds: &[Vec<u8>], bytes_max: usize) -> Vec<u8> {
        let mut input = match self.below(10) {
            0 => self.noise(256),
            _ if seeds.is_empty() => self.noise(64),
            1 => {
                let (first, second) = (self.below(seeds.len()), self.below(seeds.len()));
                let cut = self.below(seeds[first].len() + 1);
                let from = self.below(seeds[second].len() + 1);
                [&seeds[first][..cut], &seeds[second][from..]].concat()
            }
            _ => seeds[self.below(seeds.len())].clone(),
        };
        for _ in 0..=self.below(6) {
            self.change(&mut input);
        }
        input.truncate(bytes_max);
        input
    }

    fn noise(&mut self, length_max: usize) -> Vec<u8> {
        let length = self.below(length_max);
        (0..length).map(|_| self.byte()).collect()
    }

    fn byte(&mut self) -> u8 {
        self.next_random().to_le_bytes()[0]
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let length = (self.below(16) + 1).min(input.len() - at);
        match self.below(7) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = self.byte(),
            2 => drop(input.drain(at..at + length)),
            3 => {
                let copy = input[at..at + length].to_vec();
                let to = self.below(input.len() + 1);
                input.splice(to..to, copy);
            }
            4 => input.truncate(at),
            5 => {
                let edge = EDGES[self.below(EDGES.len())];
                let end = (at + edge.len()).min(input.len());
                input.splice(at..end, edge.iter().copied());
            }
            _ => {
                let edge = EDGES[self.below(EDGES.len())];
                input.splice(at..at, edge.iter().copied());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs() {
        let inputs = |seed| {
            let mut mutator = Mutator::new(seed);
            (0..500).map(|_| mutator.mutate(&[b"one".to_vec(), vec![]], 64)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        assert!(inputs(1).iter().all(|input| input.len() <= 64));
    }
}
