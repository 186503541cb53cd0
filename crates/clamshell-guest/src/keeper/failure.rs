//! Which step of a sandbox's set-up failed, and why.

use std::fmt::Display;

/// A failed step.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Step, as the server's log and its user read it.
    pub(crate) stage: &'static str,
    /// Why.
    pub(crate) reason: String,
}

impl Failure {
    /// A failure that no other error caused.
    pub(crate) fn new(stage: &'static str, reason: impl Display) -> Self {
        Self { stage, reason: reason.to_string() }
    }
}

/// Names the step in which an error arose.
pub(crate) trait Stage<T> {
    /// The same result, its error with the step's name.
    fn stage(self, stage: &'static str) -> Result<T, Failure>;
}

impl<T, E: Display> Stage<T> for Result<T, E> {
    fn stage(self, stage: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(stage, error))
    }
}

/// The step's name as a constant again, after it came over a socket from our own child.
pub(crate) fn known(stage: &str) -> &'static str {
    const STAGES: &[&str] = &[
        "become root inside",
        "mount namespace",
        "staging folder",
        "root file system",
        "pivot",
        "system file systems",
        "devices",
        "workspace",
        "host folders",
        "file systems",
        "account",
        "masks",
        "network",
        "limits",
        "leave the host",
        "capabilities",
        "system-call filter",
        "start the guest",
    ];
    STAGES.iter().find(|known| **known == stage).copied().unwrap_or("set-up inside")
}
