//! Placeholder until the guest lands.

use std::{ffi::OsString, process::ExitCode};

/// Runs the guest.
pub(crate) fn run(_config: Option<OsString>) -> ExitCode {
    ExitCode::from(2)
}
