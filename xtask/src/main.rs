//! Automation of this repository: `cargo xtask <command>`. One file per command.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line program")]

mod bench;
mod check;
mod codegen;
mod tidy;

use std::{path::PathBuf, process::ExitCode};

const USAGE: &str = "\
usage: cargo xtask <command>

commands:
  bench sessions [GROUP...]
          us and our peers in turn, as ratios; groups: create commands echo bulk reattach memory start
  bench hosting [GROUP...]
          what a hosted agent costs beyond the agent itself; groups: invoke rate payload wake unpack
  bench console [GROUP...]
          the console's page in Chromium against a bare relay; groups: size paint echo bulk watchers
  check   format, lints, house rules, tests, and dependencies when cargo-deny is installed
  codegen [--check] [--models DIR]
          shapes, types and docs/operations.md from the public service models
  tidy    house rules that no compiler knows";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", [].as_slice()),
    };
    let result = match (command, rest) {
        ("bench", [suite, groups @ ..]) => bench::run(&repository(), suite, groups),
        ("check", []) => check::run(&repository()),
        ("codegen", rest) => codegen::run(&repository(), rest),
        ("tidy", []) => tidy::run(&repository()),
        ("help" | "--help" | "-h", _) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Root of the repository that this program was built from.
fn repository() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.parent().map(PathBuf::from).unwrap_or(own)
}
