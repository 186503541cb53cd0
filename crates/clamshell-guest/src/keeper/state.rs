//! The keeper's state file, `run/keeper.json`.

use std::{fs, io, os::fd::BorrowedFd};

use clamshell_protocol::{KeeperState, ProcessRef, parse_process_stat};
use rustix::{
    fs::{Mode, OFlags},
    time::ClockId,
};

/// Replaces the state file as a whole. Not synced to disk: it means nothing after a reboot.
pub(crate) fn write(run: BorrowedFd<'_>, state: &KeeperState) -> io::Result<()> {
    let text = serde_json::to_vec(state)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(run, "keeper.json.new", flags, Mode::from_raw_mode(0o600))?;
    io::Write::write_all(&mut fs::File::from(file), &text)?;
    rustix::fs::renameat(run, "keeper.json.new", run, "keeper.json")?;
    Ok(())
}

/// The process and its start time.
pub(crate) fn process_ref(pid: u32) -> io::Result<ProcessRef> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, start_ticks) =
        parse_process_stat(&stat).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(ProcessRef { pid, start_ticks })
}

/// Id of this boot; empty where the kernel tells none.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Realtime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}
