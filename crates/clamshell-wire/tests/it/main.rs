//! Tests of the crate as its users see it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken premise is a failed test")]

mod constraints;
mod operations;
mod signed_requests;
