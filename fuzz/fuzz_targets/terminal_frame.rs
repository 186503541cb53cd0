//! The target `terminal_frame` of `clamshell_fuzz::TARGETS`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| clamshell_fuzz::run("terminal_frame", bytes));
