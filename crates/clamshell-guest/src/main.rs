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
            // Made by an OCI runtime, whose filter library may know fewer calls than our table.
            if arguments.next().is_some_and(|word| word == "filter") && keeper::filter_calls().is_err() {
                return ExitCode::FAILURE;
            }
            guest::run(config)
        }
        Some("keeper") => keeper::run(),
        _ => ExitCode::from(2),
    }
}
