//! The built guest as an ordinary process, spoken to over its socket.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that fails has to say so, and its numbers are small"
)]

mod agent;
mod commands;
mod connect;
mod guest;
mod memory;
mod shells;
