//! `cargo xtask bench`: builds the release programs and runs a suite of measurements.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// Runs `suite` with the release build; `groups` picks parts of it.
pub(crate) fn run(repository: &Path, suite: &str, groups: &[String]) -> Result<()> {
    match suite {
        "sessions" | "hosting" => {
            let programs = build(repository, &["clamshell-cli", "clamshell-testkit"])?;
            let mut command = Command::new(programs.join("clamshell-bench"));
            command.args((suite == "hosting").then_some("--hosting")).arg(programs.join("clamshell"));
            finish(command.args(groups))
        }
        "console" => {
            // The program carries the page, so that is built first.
            finish(&mut Command::new(repository.join("scripts/build-web")))?;
            let programs = build(repository, &["clamshell-cli"])?;
            let mut command = Command::new("node");
            command.arg(repository.join("web/bench/run.mjs")).arg(programs.join("clamshell"));
            finish(command.args(groups).current_dir(repository.join("web")))
        }
        other => bail!("no suite {other}; there are: sessions, hosting, console"),
    }
}

/// Builds the release programs of these packages; gives their folder.
fn build(repository: &Path, packages: &[&str]) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command.args(["build", "--release"]).current_dir(repository);
    for package in packages {
        command.args(["--package", package]);
    }
    if !command.status().context("cannot run cargo")?.success() {
        bail!("release build failed");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository.join("target"), Into::into);
    Ok(target.join("release"))
}

/// Runs a program to its end.
fn finish(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        bail!("{name} failed: {status}");
    }
    Ok(())
}
