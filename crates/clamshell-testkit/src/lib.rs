//! What tests share: a server in a folder of its own, a signed client, a registry of images, and waiting without sleeping.
//!
//! Servers have real stores and real sandboxes, clients real sockets; the one thing that is made up is what a model says.

#![expect(clippy::print_stderr, reason = "tests say why they skip")]

#[cfg(feature = "server")]
mod client;
#[cfg(feature = "server")]
pub mod hosted;
#[cfg(feature = "server")]
pub mod model;
pub mod registry;
#[cfg(feature = "server")]
mod server;
mod wait;

use std::path::PathBuf;

#[cfg(feature = "server")]
pub use client::{Client, CommandOutcome, Reply, ShellEvent, ShellSocket};
#[cfg(feature = "server")]
pub use server::{ServerProcess, end_sandboxes};
pub use wait::{eventually, within};

/// The folder with the real AWS clients, or `None` with the reason printed.
pub fn real_clients() -> Option<PathBuf> {
    match std::env::var_os("CLAMSHELL_TEST_CLIENTS").map(PathBuf::from) {
        Some(folder) if folder.is_dir() => Some(folder),
        Some(folder) => skip(&format!("{} has no clients (run scripts/test)", folder.display())),
        None => skip("CLAMSHELL_TEST_CLIENTS is not set (run scripts/test)"),
    }
}

/// Whether the tests run as root; sandboxes of an ordinary user have fewer walls.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0)
}

/// Says why a test does not run here.
pub fn skip<T>(reason: &str) -> Option<T> {
    eprintln!("skipped: {reason}");
    None
}
