//! The target `sigv4_parse` of `clamshell_fuzz::TARGETS`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| clamshell_fuzz::run("sigv4_parse", bytes));
