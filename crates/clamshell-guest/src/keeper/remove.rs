//! Empties the folder of leftovers.
//!
//! The trees in it were written by sandboxes: links, odd modes and any depth are expected. Nothing is
//! followed, and depth costs neither stack nor descriptors: a folder found deep down is moved up to
//! the top and emptied there.

use std::{
    ffi::CStr,
    io::Read,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::ExitCode,
};

use clamshell_protocol::{IdMap, KEEPER_SPEC_BYTES_MAX, RemoveSpec};
use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags},
    io::Errno,
};

use super::{hold, ids, stage, sys};

/// Folders this deep are moved to the top instead of being entered; each level holds a descriptor.
const DEPTH_MAX: usize = 32;

/// Reads a [`RemoveSpec`] from standard input and empties its folder.
pub(crate) fn run() -> ExitCode {
    let mut text = Vec::new();
    let limit = u64::try_from(KEEPER_SPEC_BYTES_MAX).unwrap_or(u64::MAX);
    if std::io::stdin().take(limit).read_to_end(&mut text).is_err() {
        return ExitCode::FAILURE;
    }
    let Ok(spec) = serde_json::from_slice::<RemoveSpec>(&text) else {
        return ExitCode::FAILURE;
    };
    let _ = rustix::process::setsid();
    // Nobody waits for this.
    let _ = rustix::process::setpriority_process(None, 19);
    let emptied = match spec.ids {
        Some(ids) if !ids.is_privileged() => empty_in_namespace(&spec.path, &ids),
        _ => empty(&spec.path),
    };
    if emptied.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Becomes root of a user namespace that has the ids of the sandboxes, because nobody else may remove
/// their files.
fn empty_in_namespace(path: &str, ids: &IdMap) -> Option<()> {
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).ok()?;
    let Some((pid, pidfd)) = sys::clone3(libc::CLONE_NEWUSER, None).ok()? else {
        drop(theirs);
        let mut go = [0];
        let mapped = rustix::io::read(&ours, &mut go) == Ok(1);
        let emptied =
            mapped && sys::become_root(matches!(ids, IdMap::Single { .. })).is_ok() && empty(path).is_some();
        std::process::exit(i32::from(!emptied));
    };
    drop(ours);
    if ids::write_maps(ids, pid).is_ok() {
        let _ = rustix::io::write(&theirs, b"g");
    }
    drop(theirs);
    (hold::reap(pidfd.as_fd()) == Some(0)).then_some(())
}

fn empty(path: &str) -> Option<()> {
    let top = open(CWD, path).ok()?;
    loop {
        // Whoever has the lock also sees what came in after this process was started.
        if rustix::fs::flock(&top, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Some(());
        }
        // A pass may leave folders that it moved to the top. What cannot be removed ends it: no progress, no further pass.
        let mut done = remove_content(top.as_fd(), top.as_fd(), 0);
        while done > 0 && !is_empty(top.as_fd()) {
            done = remove_content(top.as_fd(), top.as_fd(), 0);
        }
        rustix::fs::flock(&top, FlockOperation::Unlock).ok()?;
        // Once more without the lock: somebody may have been turned away by it just now.
        if is_empty(top.as_fd()) {
            return Some(());
        }
        if done == 0 {
            return None;
        }
    }
}

fn is_empty(folder: BorrowedFd<'_>) -> bool {
    Dir::read_from(folder).is_ok_and(|dir| dir.flatten().all(|entry| is_dots(entry.file_name().to_bytes())))
}

fn is_dots(name: &[u8]) -> bool {
    name == b"." || name == b".."
}

fn open<Fd: AsFd, P: rustix::path::Arg>(dir: Fd, path: P) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, path, flags, Mode::empty())
}

/// Removes what it can; how many entries went or were moved up.
fn remove_content(folder: BorrowedFd<'_>, top: BorrowedFd<'_>, depth: usize) -> usize {
    let Ok(dir) = Dir::read_from(folder) else { return 0 };
    let mut done = 0;
    for entry in dir.flatten() {
        let name = entry.file_name();
        if is_dots(name.to_bytes()) {
            continue;
        }
        let unlinked = match entry.file_type() {
            FileType::Directory => Err(Errno::ISDIR),
            _ => rustix::fs::unlinkat(folder, name, AtFlags::empty()),
        };
        if !matches!(unlinked, Err(Errno::ISDIR | Errno::PERM)) {
            done += usize::from(unlinked.is_ok());
            continue;
        }
        if rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR).is_ok() {
            done += 1;
            continue;
        }
        if depth >= DEPTH_MAX {
            done += usize::from(move_up(folder, name, top));
            continue;
        }
        let opened = open(folder, name).or_else(|_| {
            // A mode without rights: an owner who is not the machine's root has to change it first.
            let path = stage::open_any(folder, name)?;
            rustix::fs::chmod(stage::descriptor_path(path.as_fd()), Mode::from_raw_mode(0o700))?;
            open(folder, name)
        });
        if let Ok(below) = opened {
            done += remove_content(below.as_fd(), top, depth + 1);
            done += usize::from(rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR).is_ok());
        }
    }
    done
}

fn move_up(folder: BorrowedFd<'_>, name: &CStr, top: BorrowedFd<'_>) -> bool {
    // More than a million at the top at once would take a million folders of this depth.
    for number in 0..1_000_000u32 {
        let target = format!("deep-{}-{number}", std::process::id());
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(folder, name, top, &target, flags) {
            Err(Errno::EXIST) => {}
            result => return result.is_ok(),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn deep_closed_and_linked_trees_go_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "kept").unwrap();
        let trash = folder.path().join("trash");
        fs::create_dir(&trash).unwrap();
        // Deeper than a path may be long.
        let mut at = open(CWD, trash.as_path()).unwrap();
        for _ in 0..1_500 {
            rustix::fs::mkdirat(&at, "d", Mode::from_raw_mode(0o700)).unwrap();
            at = open(&at, "d").unwrap();
        }
        rustix::fs::symlinkat(outside.as_path(), &at, "link").unwrap();
        std::os::unix::fs::symlink(&outside, trash.join("link")).unwrap();
        let closed = trash.join("closed");
        fs::create_dir(&closed).unwrap();
        fs::write(closed.join("file"), "").unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();

        assert_eq!(empty(trash.to_str().unwrap()), Some(()));
        assert_eq!(fs::read_dir(&trash).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(outside.join("kept")).unwrap(), "kept");
    }
}
