//! Folders of the machine and exports of NFS servers that a sandbox shows.
//!
//! They may be missing, or on a file system that never answers. So a copy of the keeper attaches them in the staging
//! folder, as `m0`, `m1` and so on, and is given up when it takes too long.
//!
//! Sessions that share a folder have different ids. In the folder all of them are the same users: the mount maps the
//! folder's owner to the agent's user, and all others to one range of ids that nobody else has. So no file that is made
//! inside ever belongs to a user of the machine, but for the folder's own.

use std::{
    fmt::Write,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use clamshell_protocol::{Guard, IdMap, KeeperSpec, MOUNT_WITHIN_MS, MountSource, MountSpec};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, Mode, OFlags},
    mount::MountFlags,
};

use super::{
    failure::{self, Failure, Stage},
    hold, ids,
    inside::Message,
    mounts::{self, ID_MAP, NO_DEV, NO_SUID, READ_ONLY},
    state, sys,
};

const STAGE: &str = "file systems";

/// Most that a helper may say before it is done: a few notes of a line each.
const WORDS_BYTES_MAX: usize = 16 << 10;

/// Name in the staging folder of what a mount shows.
pub(crate) fn staged(index: usize, mount: &MountSpec) -> String {
    match mount.source {
        MountSource::Workspace => "w".to_owned(),
        MountSource::Folder { .. } | MountSource::Nfs { .. } => format!("m{index}"),
    }
}

/// Attaches them in the staging folder, which is the working folder.
pub(crate) fn attach(spec: &KeeperSpec, notes: &mut Vec<String>) -> Result<(), Failure> {
    if !spec.mounts.iter().any(|mount| mount.source.is_foreign()) {
        return Ok(());
    }
    let (words, mouth) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).stage(STAGE)?;
    let Some((_, pidfd)) = sys::clone3(0, None).stage(STAGE)? else {
        drop(words);
        let message = match attach_all(spec, &mut |note| say(&mouth, &Message::Note(note))) {
            Ok(()) => Message::Ready,
            Err(Failure { stage, reason }) => Message::Failed { stage: stage.to_owned(), reason },
        };
        say(&mouth, &message);
        std::process::exit(0);
    };
    drop(mouth);
    let heard = hear(&words, notes, MOUNT_WITHIN_MS, STAGE);
    let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
    if heard.is_ok() {
        // Otherwise it may hang in the kernel; whoever is its parent after us reaps it.
        let _ = hold::reap(pidfd.as_fd());
    }
    heard
}

/// Waits for the end of what a helper says; its notes are kept. It may be as hostile as all that comes out of a sandbox.
pub(crate) fn hear(
    words: &OwnedFd,
    notes: &mut Vec<String>,
    within_ms: u64,
    stage: &'static str,
) -> Result<(), Failure> {
    let (mut heard, mut buffer) = (Vec::new(), [0; 512]);
    let until = state::now_ms() + within_ms;
    loop {
        let left = until.saturating_sub(state::now_ms());
        let left = Timespec {
            tv_sec: i64::try_from(left / 1000).unwrap_or(0),
            tv_nsec: i64::try_from(left % 1000).unwrap_or(0) * 1_000_000,
        };
        let mut fds = [PollFd::new(words, PollFlags::IN)];
        if rustix::io::retry_on_intr(|| poll(&mut fds, Some(&left))).stage(stage)? == 0 {
            return Err(Failure::new(stage, format!("no answer within {} s", within_ms / 1000)));
        }
        let length = rustix::io::retry_on_intr(|| rustix::io::read(words, &mut buffer)).stage(stage)?;
        heard.extend_from_slice(&buffer[..length]);
        if length == 0 || heard.len() > WORDS_BYTES_MAX {
            return Err(Failure::new(stage, "it ended without a word"));
        }
        while let Some(end) = heard.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = heard.drain(..=end).collect();
            match serde_json::from_slice(&line).stage(stage)? {
                Message::Note(note) => notes.push(note),
                Message::Ready => return Ok(()),
                Message::Failed { stage, reason } => {
                    return Err(Failure { stage: failure::known(&stage), reason });
                }
            }
        }
    }
}

fn say(mouth: &OwnedFd, message: &Message) {
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    let _ = rustix::io::write(mouth, &line);
}

fn attach_all(spec: &KeeperSpec, note: &mut dyn FnMut(String)) -> Result<(), Failure> {
    for (index, mount) in spec.mounts.iter().enumerate() {
        let name = staged(index, mount);
        let target = &mount.target;
        let failed = |why: &dyn std::fmt::Display| Failure::new(STAGE, format!("{target}: {why}"));
        match &mount.source {
            MountSource::Workspace => continue,
            MountSource::Folder { path } => {
                rustix::fs::mkdir(&name, Mode::from_raw_mode(0o755)).map_err(|error| failed(&error))?;
                let noted = attach_folder(spec, mount, path, &name).map_err(|error| failed(&error))?;
                if let Some(what) = noted {
                    note(format!("{target}: {what}"));
                }
            }
            MountSource::Nfs { export, address } => {
                rustix::fs::mkdir(&name, Mode::from_raw_mode(0o755)).map_err(|error| failed(&error))?;
                mount_export(export, *address, &name, mount.read_only).map_err(|error| {
                    match error.raw_os_error() {
                        Some(libc::ENODEV) => failed(&"this machine's kernel has no NFS 4 client"),
                        Some(libc::EPERM) => failed(&"only a server that runs as root mounts NFS exports"),
                        _ => failed(&error),
                    }
                })?;
            }
        }
    }
    Ok(())
}

/// Shows a folder under a name; what does not hold of it.
fn attach_folder(
    spec: &KeeperSpec,
    mount: &MountSpec,
    path: &str,
    name: &str,
) -> io::Result<Option<&'static str>> {
    if !Path::new(path).is_absolute() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // Looked up once; what is mapped and what is shown is the same folder.
    let folder = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    let tree = mounts::copy(folder.as_fd(), "", 0)?;
    let mut noted = None;
    match spec.ids {
        IdMap::Range { base, .. } if spec.guard == Guard::Full => {
            let found = rustix::fs::fstat(&folder)?;
            // What has an owner or a group that is not mapped can be changed by nobody, so there would be no use in it.
            if (found.st_uid == 0 || found.st_gid == 0) && !mount.read_only {
                return Err(io::Error::other(
                    "the folder belongs to root or its group, whose files no sandbox may change: chown it to another \
                     user and group, or set read_only",
                ));
            }
            let map = |owner| Map {
                owner,
                read_only: mount.read_only,
                base,
                shared: spec.shared_base,
                agent: spec.agent_id,
            };
            let mapped = map_ids(tree.as_fd(), &map(found.st_uid).lines(), &map(found.st_gid).lines());
            if mapped.is_err() {
                noted = Some(
                    "files belong to nobody, and sessions have the rights of others: the file system has no id-mapped \
                     mounts",
                );
            }
        }
        IdMap::Range { .. } | IdMap::Single { .. } => {}
        IdMap::Subordinate { .. } => {
            noted = Some("the server's own files belong to root: only a server that runs as root maps ids");
        }
    }
    let flags = NO_SUID | NO_DEV | if mount.read_only { READ_ONLY } else { 0 };
    sys::mount_setattr(tree.as_fd(), flags, None)?;
    mounts::attach(tree.as_fd(), CWD, name)?;
    Ok(noted)
}

fn mount_export(export: &str, address: std::net::IpAddr, name: &str, read_only: bool) -> io::Result<()> {
    let protocol = if address.is_ipv6() { "tcp6" } else { "tcp" };
    // Calls to a server that went away fail after a few minutes: programs that hang for ever could not be ended.
    let options = format!("addr={address},vers=4.2,proto={protocol},softerr,timeo=600,retrans=2");
    let options = std::ffi::CString::new(options)?;
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    if read_only {
        flags |= MountFlags::RDONLY;
    }
    Ok(rustix::mount::mount(export, name, "nfs4", flags, options.as_c_str())?)
}

/// Gives a mount, attached nowhere yet, a map of ids.
fn map_ids(tree: BorrowedFd<'_>, users: &str, groups: &str) -> Result<(), Failure> {
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).stage(STAGE)?;
    let Some((pid, pidfd)) = sys::clone3(libc::CLONE_NEWUSER, None).stage(STAGE)? else {
        drop(theirs);
        // Lives for its namespace, until the other side is closed.
        let _ = rustix::io::read(&ours, &mut [0; 1]);
        std::process::exit(0);
    };
    let mapped = ids::write_both(pid, users, groups).and_then(|()| {
        let path = format!("/proc/{pid}/ns/user");
        let userns = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).stage(STAGE)?;
        sys::mount_setattr(tree, ID_MAP, Some(userns.as_fd())).stage(STAGE)
    });
    drop(theirs);
    let _ = hold::reap(pidfd.as_fd());
    mapped
}

/// Which ids of a folder's files stand for which ids of a sandbox.
#[derive(Debug, Clone, Copy)]
struct Map {
    /// Owner of the folder.
    owner: u32,
    read_only: bool,
    /// Host id that is root in the sandbox.
    base: u32,
    /// The same in files.
    shared: u32,
    agent: u32,
}

impl Map {
    /// Lines of a map: an id of files, an id of the machine, how many.
    fn lines(self) -> String {
        let Self { owner, read_only, base, shared, agent } = self;
        let count = ids::COUNT;
        // Who writes a file as root may write one that makes others root.
        let is_root = owner == 0 && !read_only;
        let is_shared = owner.checked_sub(shared).is_some_and(|id| id < count);
        if is_root || is_shared || agent >= count {
            return format!("{shared} {base} {count}\n");
        }
        let mut lines = format!("{owner} {} 1\n", base + agent);
        let mut range = |first: u32, count: u32| {
            if count > 0 {
                let _ = writeln!(lines, "{} {} {count}", shared + first, base + first);
            }
        };
        range(0, agent);
        range(agent + 1, count - agent - 1);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_folder_is_the_agent_and_nobody_else_is_a_user_of_the_machine() {
        let check = |owner, read_only, expect: &str| {
            let map = Map { owner, read_only, base: 1_000_000, shared: 9_000_000, agent: 1000 };
            assert_eq!(map.lines(), expect, "{map:?}");
        };
        let others = "9000000 1000000 1000\n9001001 1001001 64535\n";
        let plain = "9000000 1000000 65536\n";
        check(501, false, &format!("501 1001000 1\n{others}"));
        check(0, true, &format!("0 1001000 1\n{others}"));
        check(0, false, plain);
        check(9_000_000, false, plain);
        check(9_001_000, false, plain);
        check(9_065_536, false, &format!("9065536 1001000 1\n{others}"));
    }

    #[test]
    fn each_mount_has_its_place() {
        let mount = |source| MountSpec { source, target: "/mnt/x".into(), read_only: false };
        assert_eq!(staged(1, &mount(MountSource::Workspace)), "w");
        assert_eq!(staged(1, &mount(MountSource::Folder { path: "/srv".into() })), "m1");
    }
}
