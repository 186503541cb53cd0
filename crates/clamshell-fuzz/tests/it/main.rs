//! Tests of the fuzz targets. One binary; every file of this folder is declared here.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken premise is a failed test")]

mod fuzz_smoke;
