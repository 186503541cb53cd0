//! `clamshell`: the server and the commands for people, in one program.
#![expect(clippy::print_stderr, reason = "a command-line program tells people how it goes")]

mod cli;
mod client;
mod commands;
mod control;
mod credentials;
mod failure;
mod local;
mod output;
mod runtimes;
mod shell;
mod signing;
mod target;

use std::io::Write;

fn main() {
    // An error here means that a provider is in place already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let code = cli::run();
    let _ = std::io::stdout().flush();
    // Not a return: the thread that reads the terminal may wait in the kernel for a key that never comes.
    std::process::exit(code);
}
