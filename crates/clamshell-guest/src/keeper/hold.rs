//! The keeper's life after the guest has started: wait, end, clean up.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::ExitCode,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{AtFlags, Mode, OFlags},
    process::{Signal, WaitId, WaitIdOptions, WaitOptions, pidfd_send_signal, wait, waitid},
};

use super::{Kept, state, sys};

/// From here on SIGTERM and SIGINT wait to be read, and a lost terminal means nothing. Called after
/// the clone, so that the guest starts with everything at its default.
pub(crate) fn take_signals() {
    sys::block_signals(&[libc::SIGTERM, libc::SIGINT]);
    sys::ignore_signal(libc::SIGHUP);
}

/// Whether the process behind the descriptor has ended, reaped or not.
pub(crate) fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut fds, Some(&now)), Ok(1..))
}

/// Waits for our child and reaps it; its status as a shell shows it.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let status = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED)).ok()??;
    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))
}

/// Reaps all other children as they end. Those that take longer go to whoever reaps for the machine.
pub(crate) fn reap_all(within: Duration) {
    let deadline = Instant::now() + within;
    while let Ok(found) = wait(WaitOptions::NOHANG) {
        if found.is_none() {
            if Instant::now() >= deadline {
                return;
            }
            // No event tells of any child's end without the signal that this process may not take.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Holds the sandbox until its guest has ended or SIGTERM asks to end it, then leaves nothing of it but
/// the final state.
pub(crate) fn until_end(kept: Kept) -> ExitCode {
    let Kept { run, pidfd, groups, mut state, container } = kept;
    detach(run.as_fd());
    wait_for_end(pidfd.as_fd());
    groups.kill();
    let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    let exit = reap(pidfd.as_fd());
    // While the groups are there.
    state.cpu_usage_us = groups.cpu_usage_us();
    if let Some(container) = container {
        container.delete();
    }
    groups.remove();
    let _ = rustix::fs::unlinkat(&run, "guest.sock", AtFlags::empty());
    state.exit = Some(exit.unwrap_or(-1));
    match state::write(run.as_fd(), &state) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Standard streams to nothing; the working folder out of the way. What a panic says goes to `run/keeper.log`, made only
/// then: an empty file for every sandbox costs more than the rest of this.
fn detach(run: BorrowedFd<'_>) {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    if let Ok(null) = null {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
    if let Ok(run) = run.try_clone_to_owned() {
        std::panic::set_hook(Box::new(move |panic| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if let Ok(log) = rustix::fs::openat(&run, "keeper.log", flags, Mode::from_raw_mode(0o600)) {
                let _ = rustix::io::write(&log, format!("{panic}\n").as_bytes());
            }
        }));
    }
    let _ = rustix::process::chdir("/");
}

fn wait_for_end(pidfd: BorrowedFd<'_>) {
    let signals: Option<OwnedFd> = sys::signal_fd(&[libc::SIGTERM, libc::SIGINT]).ok();
    loop {
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
        if let Some(signals) = &signals {
            fds.push(PollFd::new(signals, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) if fds.iter().any(|fd| !fd.revents().is_empty()) => return,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // No memory for a poll: better a sandbox that ends than one that nobody holds.
            Err(_) => return,
        }
    }
}
