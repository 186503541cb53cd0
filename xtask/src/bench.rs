//! `cargo xtask bench`: builds the release programs and runs a suite of measurements.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};

/// Runs `suite` with the release build; `groups` picks parts of it.
pub(crate) fn run(repository: &Path, suite: &str, groups: &[String]) -> Result<()> {
    if !["sessions", "hosting"].contains(&suite) {
        bail!("no suite {suite}; there are: sessions, hosting");
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let build = Command::new(&cargo)
        .args(["build", "--release", "--package", "clamshell-cli", "--package", "clamshell-testkit"])
        .current_dir(repository)
        .status()
        .context("cannot run cargo")?;
    if !build.success() {
        bail!("release build failed");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository.join("target"), Into::into);
    let programs = target.join("release");
    let status = Command::new(programs.join("clamshell-bench"))
        .args((suite == "hosting").then_some("--hosting"))
        .arg(programs.join("clamshell"))
        .args(groups)
        .status()
        .context("cannot run the measurements")?;
    if !status.success() {
        bail!("measurements failed: {status}");
    }
    Ok(())
}
