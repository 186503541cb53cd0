//! Tests of the crate as its users see it.

mod operations;
mod signed_requests;
