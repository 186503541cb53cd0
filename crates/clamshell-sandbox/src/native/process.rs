//! Processes of a sandbox as seen from the server: named by id and start time, held by pidfd.

use std::{
    fs,
    io::Read,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::Path,
};

use clamshell_protocol::{KeeperState, ProcessRef, parse_process_stat};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::{Interest, unix::AsyncFd};

/// A state file is a few hundred bytes; notes make it a few thousand.
const STATE_BYTES_MAX: u64 = 64 << 10;

/// The keeper's state of a session folder.
pub(super) fn read_state(session_dir: &Path) -> Option<KeeperState> {
    read_state_in(&session_dir.join("run"))
}

/// The keeper's state in a `run` folder, wherever it lies.
pub(super) fn read_state_in(run: &Path) -> Option<KeeperState> {
    let path = run.join("keeper.json");
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path).ok()?;
    let mut text = Vec::new();
    file.take(STATE_BYTES_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// A process that was alive when it was opened.
#[derive(Debug)]
pub(super) struct Process {
    pidfd: OwnedFd,
}

impl Process {
    /// The process of this reference; `None` when it has ended, its id is another process's by now, or
    /// the machine was restarted.
    pub(super) fn open(boot_id: &str, process: ProcessRef) -> Option<Self> {
        if boot_id != own_boot_id() {
            return None;
        }
        let pid = Pid::from_raw(i32::try_from(process.pid).ok()?)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Looked at after the descriptor is held: from here on the id cannot change its meaning unnoticed.
        let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid)).ok()?;
        let (state, start_ticks) = parse_process_stat(&stat)?;
        let alive = !matches!(state, 'Z' | 'X' | 'x') && start_ticks == process.start_ticks;
        alive.then_some(Self { pidfd })
    }

    /// Sends a signal; to an ended process that is nothing.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// Resolves when it has ended. Cancel-safe.
    pub(super) async fn ended(&self) {
        let Ok(fd) = self.pidfd.try_clone() else { return };
        // SAFETY: the owned descriptor is moved in and stays open, and the same, until the registration is dropped.
        let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        if let Ok(fd) = registered {
            let _ = fd.readable().await;
        }
    }
}

fn own_boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_time() {
        let pid = std::process::id();
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let (_, start_ticks) = parse_process_stat(&stat).unwrap();
        let boot_id = own_boot_id();
        assert!(Process::open(&boot_id, ProcessRef { pid, start_ticks }).is_some());
        assert!(Process::open(&boot_id, ProcessRef { pid, start_ticks: start_ticks + 1 }).is_none());
        assert!(Process::open("another boot", ProcessRef { pid, start_ticks }).is_none());
    }

    #[test]
    fn hostile_state_files_are_no_state() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read_state(folder.path()).is_none());
        fs::create_dir(folder.path().join("run")).unwrap();
        fs::write(folder.path().join("run/keeper.json"), "{").unwrap();
        assert!(read_state(folder.path()).is_none());
        fs::remove_file(folder.path().join("run/keeper.json")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("run/keeper.json")).unwrap();
        assert!(read_state(folder.path()).is_none());
    }
}
