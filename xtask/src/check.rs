//! `cargo xtask check`: everything that a change must pass, the cheapest first.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

use crate::tidy;

/// Runs all steps and stops at the first that fails.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    cargo(root, &["fmt", "--all", "--check"])?;
    println!("== cargo xtask tidy");
    tidy::run(root)?;
    cargo(root, &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
    if installed(root, "nextest") {
        cargo(root, &["nextest", "run", "--workspace", "--no-fail-fast"])?;
        // nextest leaves the examples in the documentation out.
        cargo(root, &["test", "--quiet", "--workspace", "--doc"])?;
    } else {
        cargo(root, &["test", "--workspace", "--no-fail-fast"])?;
    }
    if installed(root, "deny") {
        cargo(root, &["deny", "check"])?;
    } else {
        println!("skipped: cargo deny check: cargo-deny is not installed");
    }
    Ok(())
}

fn cargo(root: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let line = arguments.join(" ");
    println!("== cargo {line}");
    let status = command(root).args(arguments).status().with_context(|| format!("cargo {line}"))?;
    if !status.success() {
        bail!("cargo {line}: {status}");
    }
    Ok(())
}

fn installed(root: &Path, subcommand: &str) -> bool {
    command(root)
        .args([subcommand, "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn command(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}
