//! Processes of the sandbox: who ended, and who belongs to whom.

use std::{
    collections::BTreeSet,
    os::fd::{AsFd, OwnedFd},
};

use clamshell_protocol::Exit;
use rustix::{
    fs::{self, Mode, OFlags},
    process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait},
};

/// Rounds of killing: a tree that forks while it is read is caught by the next round.
const KILL_ROUNDS: usize = 8;

/// The process table.
#[derive(Debug)]
pub(super) struct Processes {
    proc: Option<OwnedFd>,
    own: i32,
}

#[derive(Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    group: i32,
    session: i32,
    dead: bool,
}

impl Processes {
    /// Opens `/proc` once, before any program could put something else in its place.
    pub(super) fn open() -> Self {
        let proc =
            fs::open("/proc", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok();
        Self { proc, own: rustix::process::getpid().as_raw_nonzero().get() }
    }

    /// Whether the guest is the first process of its namespace.
    pub(super) fn is_init(&self) -> bool {
        self.own == 1
    }

    /// The next process that ended, with how. All children count: orphans are reaped here too.
    pub(super) fn reap() -> Option<(i32, Exit)> {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => Some((pid.as_raw_nonzero().get(), exit(status))),
            _ => None,
        }
    }

    fn list(&self) -> Vec<Process> {
        let Some(proc) = &self.proc else { return Vec::new() };
        let Ok(entries) = fs::Dir::read_from(proc) else { return Vec::new() };
        let mut processes = Vec::new();
        // As many as the sandbox's own limit of processes lets there be.
        for entry in entries.flatten() {
            let name = entry.file_name();
            if let Ok(text) = name.to_str()
                && let Ok(pid) = text.parse::<i32>()
            {
                let path = format!("{pid}/stat");
                let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                let mut line = [0; 512];
                let Ok(file) = fs::openat(proc, path.as_str(), flags, Mode::empty()) else { continue };
                let Ok(count) = rustix::io::read(file.as_fd(), &mut line) else { continue };
                processes.extend(parse_stat(pid, &line[..count]));
            }
        }
        processes
    }

    /// The live processes of the session or group `root`, and all that descend from them or from it.
    /// One that left the session *and* whose parents are gone is no longer known to belong here.
    pub(super) fn tree(&self, root: i32) -> BTreeSet<i32> {
        let list = self.list();
        let mut found: BTreeSet<i32> = list
            .iter()
            .filter(|process| process.pid == root || process.session == root || process.group == root)
            .map(|process| process.pid)
            .collect();
        self.add_descendants(&list, &mut found);
        found
    }

    /// All live processes that descend from the guest.
    fn descendants(&self) -> BTreeSet<i32> {
        let list = self.list();
        let mut found = BTreeSet::from([self.own]);
        self.add_descendants(&list, &mut found);
        found
    }

    fn add_descendants(&self, list: &[Process], found: &mut BTreeSet<i32>) {
        loop {
            let before = found.len();
            found.extend(
                list.iter()
                    .filter(|process| found.contains(&process.parent))
                    .map(|p| p.pid)
                    .collect::<Vec<_>>(),
            );
            if found.len() == before {
                break;
            }
        }
        found.remove(&self.own);
        for process in list.iter().filter(|process| process.dead) {
            found.remove(&process.pid);
        }
    }

    /// Signals the tree of `root` once.
    pub(super) fn signal_tree(&self, root: i32, signal: Signal) {
        for pid in self.tree(root) {
            send(pid, signal);
        }
    }

    /// Kills the tree of `root`, and what it forks meanwhile. The root is stopped first and killed
    /// last: while it is there, what it adopts is still known to belong to it.
    pub(super) fn kill_tree(&self, root: i32) {
        send(root, Signal::STOP);
        for _ in 0..KILL_ROUNDS {
            let mut tree = self.tree(root);
            tree.remove(&root);
            if tree.is_empty() {
                break;
            }
            for pid in tree {
                send(pid, Signal::KILL);
            }
        }
        for pid in self.tree(root) {
            send(pid, Signal::KILL);
        }
    }

    /// Signals every process of the sandbox; outside of one, every descendant.
    pub(super) fn signal_all(&self, signal: Signal) {
        if self.is_init() {
            // SAFETY: no memory is involved; -1 from the first process of a namespace means all
            // others of this namespace.
            let _ = unsafe { libc::kill(-1, signal.as_raw()) };
            return;
        }
        for pid in self.descendants() {
            send(pid, signal);
        }
    }

    /// As [`Processes::signal_all`], but for those `spared`.
    pub(super) fn signal_others(&self, signal: Signal, spared: &BTreeSet<i32>) {
        if spared.is_empty() {
            return self.signal_all(signal);
        }
        let all = if self.is_init() {
            let list = self.list().into_iter();
            list.filter(|process| !process.dead && process.pid != self.own)
                .map(|process| process.pid)
                .collect()
        } else {
            self.descendants()
        };
        for pid in all.difference(spared) {
            send(*pid, signal);
        }
    }

    /// Whether any process is left to wait for.
    pub(super) fn any_left(&self) -> bool {
        !self.descendants().is_empty()
    }
}

/// Sends a signal by its number, which may be one of the real-time signals.
pub(super) fn send_number(pid: i32, signal: i32) {
    if pid > 1 {
        // SAFETY: no memory is involved.
        let _ = unsafe { libc::kill(pid, signal) };
    }
}

fn send(pid: i32, signal: Signal) {
    // Already gone is what was wanted.
    if let Some(pid) = Pid::from_raw(pid).filter(|_| pid > 1) {
        let _ = kill_process(pid, signal);
    }
}

fn exit(status: WaitStatus) -> Exit {
    match status.terminating_signal() {
        Some(signal) => Exit { code: 128 + signal, signal: Some(signal), timed_out: false },
        None => Exit { code: status.exit_status().unwrap_or(-1), signal: None, timed_out: false },
    }
}

/// Reads `/proc/<pid>/stat`. The name in it is the program's to choose, so only what follows the last
/// parenthesis is believed.
fn parse_stat(pid: i32, line: &[u8]) -> Option<Process> {
    let close = line.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(line.get(close + 1..)?).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    let mut number = || fields.next()?.parse::<i32>().ok();
    Some(Process {
        pid,
        parent: number()?,
        group: number()?,
        session: number()?,
        dead: matches!(state, "Z" | "X"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_does_not_forge_a_parent() {
        assert_eq!(
            parse_stat(7, b"7 (a) S 1 1 1 (x)) Z 3 4 5 0 -1"),
            Some(Process { pid: 7, parent: 3, group: 4, session: 5, dead: true })
        );
        assert_eq!(parse_stat(7, b"7 (a"), None);
        assert_eq!(parse_stat(7, b"7 (a) S x"), None);
        assert_eq!(parse_stat(7, b""), None);
    }

    #[test]
    fn the_own_process_is_found() {
        let processes = Processes::open();
        assert!(processes.list().iter().any(|process| process.pid == processes.own && !process.dead));
    }
}
