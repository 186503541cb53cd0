//! Small steps that mounting is made of. All work on descriptors, so that no name is looked up twice.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::CWD,
    mount::{MountFlags, MoveMountFlags, OpenTreeFlags, move_mount, open_tree},
};

use super::sys;

/// `MOUNT_ATTR_RDONLY`.
pub(crate) const READ_ONLY: u64 = 0x1;
/// `MOUNT_ATTR_NOSUID`.
pub(crate) const NO_SUID: u64 = 0x2;
/// `MOUNT_ATTR_NODEV`.
pub(crate) const NO_DEV: u64 = 0x4;
/// `MOUNT_ATTR_NOEXEC`.
pub(crate) const NO_EXEC: u64 = 0x8;
/// `MOUNT_ATTR_IDMAP`.
pub(crate) const ID_MAP: u64 = 0x10_0000;

/// A copy of the mount at a path, attached nowhere, without what is mounted below it.
pub(crate) fn copy(dir: BorrowedFd<'_>, path: &str, attributes: u64) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if path.is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    let tree = match open_tree(dir, path, flags) {
        Ok(tree) => tree,
        // In a user namespace a mount may not be copied without the mounts that hide parts of it.
        Err(rustix::io::Errno::INVAL) => open_tree(dir, path, flags | OpenTreeFlags::AT_RECURSIVE)?,
        Err(error) => return Err(error.into()),
    };
    if attributes != 0 {
        sys::mount_setattr(tree.as_fd(), attributes, None)?;
    }
    Ok(tree)
}

/// Attaches a detached mount.
pub(crate) fn attach(tree: BorrowedFd<'_>, dir: BorrowedFd<'_>, path: &str) -> io::Result<()> {
    move_mount(tree, "", dir, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

/// Shows what a descriptor stands for at an absolute path.
pub(crate) fn bind(source: BorrowedFd<'_>, target: &str, attributes: u64) -> io::Result<()> {
    let tree = copy(source, "", attributes)?;
    attach(tree.as_fd(), CWD, target)
}

/// Mounts a new file system.
pub(crate) fn new(kind: &str, target: &str, flags: MountFlags, options: &str) -> io::Result<()> {
    let options = std::ffi::CString::new(options)?;
    rustix::mount::mount(kind, target, kind, flags, options.as_c_str())?;
    Ok(())
}

/// Makes a folder and those above it.
pub(crate) fn make_dir(path: &str) -> io::Result<()> {
    if Path::new(path).is_dir() { Ok(()) } else { std::fs::create_dir_all(path) }
}
