//! The target `keeper_state` of `clamshell_fuzz::TARGETS`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| clamshell_fuzz::run("keeper_state", bytes));
