//! A bounded run of every fuzz target, the same inputs each time.
//!
//! `CLAMSHELL_FUZZ_ROUNDS` multiplies the rounds and starts from another seed, for longer runs.

use std::{fs, path::Path};

use clamshell_fuzz::{Failure, TARGETS, Target};

const SEED: u64 = 0x00c1_a35e;

fn smoke(name: &str) {
    let target = Target::named(name).unwrap();
    let factor: u32 = std::env::var("CLAMSHELL_FUZZ_ROUNDS").map_or(1, |text| text.parse().unwrap());
    if let Err(Failure { input, round }) = target.smoke(SEED + u64::from(factor) - 1, target.rounds * factor)
    {
        panic!("{name}: round {round}: input: \"{}\"", input.escape_ascii());
    }
}

macro_rules! smoke_tests {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                smoke(stringify!($name));
            }
        )*

        #[test]
        fn every_target_is_run() {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

smoke_tests! {
    terminal_frame
    terminal_status
    terminal_output
    event_stream_read
    event_stream_event
    event_stream_round_trip
    sigv4_parse
    sigv4_round_trip
    http_request
    operation_input
    guest_protocol
    keeper_state
    image_archive
    image_layer
}

/// A target without its file in `fuzz/` would never run under coverage guidance.
#[test]
fn every_target_is_in_the_fuzz_folder() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for target in TARGETS {
        let path = format!("fuzz_targets/{}.rs", target.name);
        assert!(manifest.contains(&format!("path = \"{path}\"")), "fuzz/Cargo.toml lacks {path}");
        let text = fs::read_to_string(folder.join(&path)).unwrap();
        assert!(text.contains(&format!("run(\"{}\", bytes)", target.name)), "{path} runs another target");
    }
    assert_eq!(fs::read_dir(folder.join("fuzz_targets")).unwrap().count(), TARGETS.len());
}
