//! Tests of the crate as its users see it.

mod constraints;
mod operations;
mod signed_requests;
