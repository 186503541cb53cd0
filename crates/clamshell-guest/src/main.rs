//! The static binary that lives beside every sandbox: as `guest` it is PID 1 inside, as `keeper` it
//! makes the sandbox and holds it from the outside.
//!
//! One binary for both, so that the two processes of a session share their pages.

#![cfg_attr(not(test), no_main)]

mod guest;
mod keeper;

#[cfg(not(test))]
use std::ffi::{c_char, c_int};
use std::process::ExitCode;

/// Where the C library starts us.
///
/// Without the standard library's own start, which reads the stack's bounds from `/proc` for a message about overflows:
/// the C library's file streams, formats and character sets that this needs are a tenth of the program, and every
/// sandbox has it in memory.
#[cfg(not(test))]
// SAFETY: the one function of this name, with the signature that the C library calls.
#[unsafe(no_mangle)]
pub extern "C" fn main(_: c_int, _: *const *const c_char) -> c_int {
    // What the standard library's start does beside that, and what we rely on: a reader that is gone is an error.
    // SAFETY: sets how a signal is met; nothing else runs yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    c_int::from(run() != ExitCode::SUCCESS)
}

#[cfg(test)]
fn main() -> ExitCode {
    run()
}

fn run() -> ExitCode {
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
