//! The static binary that lives beside every sandbox: as `guest` it is PID 1 inside, as `keeper` it
//! makes the sandbox and holds it from the outside.
//!
//! One binary for both, so that the two processes of a session share their pages.

mod guest;
mod keeper;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let mode = arguments.next();
    match mode.as_ref().and_then(|mode| mode.to_str()) {
        Some("guest") => {
            let config = arguments.next();
            let word = arguments.next();
            match word.as_ref().and_then(|word| word.to_str()) {
                // Made by an OCI runtime, whose filter library may know fewer calls than our table.
                Some("filter") if keeper::filter_calls().is_err() => ExitCode::FAILURE,
                Some(clamshell_protocol::OWN_KERNEL_WORD) => {
                    let Some(given) = keeper::set_up_own_kernel(&mut arguments) else {
                        return ExitCode::FAILURE;
                    };
                    guest::run(config, Some(given))
                }
                _ => guest::run(config, None),
            }
        }
        Some("keeper") => keeper::run(),
        _ => ExitCode::from(2),
    }
}
