//! The target `terminal_output` of `clamshell_fuzz::TARGETS`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| clamshell_fuzz::run("terminal_output", bytes));
