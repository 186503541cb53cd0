//! Real sandboxes on this machine.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "this is a test: what fails here fails the test"
)]

mod agent;
mod code;
mod escape;
mod native;
#[cfg(test)]
mod oci_driver;
mod registry;
mod rootless;
mod sandbox;
