//! `clamshell completion`: scripts for shells.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use crate::{failure::Failure, output};

/// Print a completion script
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  clamshell completion bash > ~/.local/share/bash-completion/completions/clamshell\n  clamshell completion fish > ~/.config/fish/completions/clamshell.fish"
)]
pub(crate) struct CompletionArgs {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run<C: CommandFactory>(args: &CompletionArgs) -> Result<i32, Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut C::command(), "clamshell", &mut script);
    output::print_text(&String::from_utf8_lossy(&script));
    Ok(0)
}
