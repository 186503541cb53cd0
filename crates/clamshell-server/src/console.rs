//! The browser console: who signs in, how long that holds, and for which names this server answers browsers.

mod hosts;
mod roles;

pub(crate) use hosts::host_allowed;
pub use roles::ConsoleRole;
