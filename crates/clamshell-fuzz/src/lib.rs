//! Fuzz targets: every parser of hostile bytes, with the properties that must hold for any input.
//!
//! A target takes bytes and panics when a property breaks. The same targets run in two ways: a few
//! seconds of seeded mutations on the stable compiler in every test run ([`Target::smoke`]), and
//! hours under coverage guidance with cargo-fuzz (`fuzz/`). See `docs/fuzzing.md`.
//!
//! A crate of its own, so that a fuzzer builds the parsers and nothing else. Nothing depends on it.

#![expect(clippy::unwrap_used, reason = "a broken premise of a target is a finding")]

mod guest;
mod image;
mod input;
mod mutate;
mod terminal;
mod wire;

use std::panic::catch_unwind;

pub use mutate::Mutator;

/// Longest input made by [`Target::smoke`]: enough for several frames, little enough for thousands
/// of rounds a second. Length limits of parsers have unit tests.
const INPUT_BYTES_MAX: usize = 4096;

/// One property over all inputs.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name; that of the cargo-fuzz target too.
    pub name: &'static str,
    /// Panics when the property does not hold for these bytes.
    pub run: fn(&[u8]),
    /// Good inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Rounds of a test run: about a second's worth without optimization.
    pub rounds: u32,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "terminal_frame", run: terminal::frame, seeds: terminal::frame_seeds, rounds: 20_000 },
    Target { name: "terminal_status", run: terminal::status, seeds: terminal::status_seeds, rounds: 10_000 },
    Target { name: "terminal_output", run: terminal::output, seeds: terminal::output_seeds, rounds: 10_000 },
    Target { name: "event_stream_read", run: wire::events, seeds: wire::event_seeds, rounds: 10_000 },
    Target { name: "event_stream_event", run: wire::event, seeds: wire::event_json_seeds, rounds: 10_000 },
    Target {
        name: "event_stream_round_trip",
        run: wire::event_round_trip,
        seeds: terminal::output_seeds,
        rounds: 2_000,
    },
    Target { name: "sigv4_parse", run: wire::sigv4, seeds: wire::request_seeds, rounds: 4_000 },
    Target {
        name: "sigv4_round_trip",
        run: wire::sigv4_round_trip,
        seeds: wire::request_seeds,
        rounds: 2_000,
    },
    Target { name: "http_request", run: wire::request, seeds: wire::request_seeds, rounds: 10_000 },
    Target { name: "operation_input", run: input::input, seeds: input::seeds, rounds: 50_000 },
    Target { name: "guest_protocol", run: guest::frames, seeds: guest::seeds, rounds: 10_000 },
    Target { name: "keeper_state", run: guest::keeper, seeds: guest::keeper_seeds, rounds: 10_000 },
    Target { name: "image_archive", run: image::archive, seeds: image::archive_seeds, rounds: 500 },
    Target { name: "image_layer", run: image::layer, seeds: image::layer_seeds, rounds: 1_000 },
];

/// An input that broke a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The input, for a unit test.
    pub input: Vec<u8>,
    /// In which round, from 0.
    pub round: u32,
}

/// Runs the target of this name on one input, for cargo-fuzz.
pub fn run(name: &str, bytes: &[u8]) {
    let target = Target::named(name).expect("a fuzz target has the name of its file");
    (target.run)(bytes);
}

impl Target {
    /// The target of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Runs all seeds, then `rounds` inputs mutated from them. The same `seed` gives the same inputs.
    ///
    /// # Errors
    /// The first [`Failure`]; the panic itself has been printed.
    pub fn smoke(&self, seed: u64, rounds: u32) -> Result<(), Failure> {
        let seeds = (self.seeds)();
        let mut mutator = Mutator::new(seed);
        for round in 0..u32::try_from(seeds.len()).unwrap() + rounds {
            let input = match seeds.get(round as usize) {
                Some(seed) => seed.clone(),
                None => mutator.mutate(&seeds, INPUT_BYTES_MAX),
            };
            let run = self.run;
            if catch_unwind(|| run(&input)).is_err() {
                return Err(Failure { input, round });
            }
        }
        Ok(())
    }
}

/// Cuts `bytes` into pieces whose lengths come from the bytes themselves, so that a fuzzer controls
/// them: 1 to 64 each.
fn pieces(bytes: &[u8]) -> Vec<&[u8]> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    while let Some(first) = rest.first() {
        let (piece, after) = rest.split_at((usize::from(*first) % 64 + 1).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}
