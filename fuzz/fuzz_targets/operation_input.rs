//! The target `operation_input` of `clamshell_fuzz::TARGETS`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| clamshell_fuzz::run("operation_input", bytes));
