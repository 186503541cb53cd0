//! The staging folder: a small memory file system in a private mount namespace on which everything
//! that a sandbox is assembled from is attached under a short name.
//!
//! A user namespace's root may not walk through the machine's private folders. So the keeper attaches
//! layers, the writable folder and the workspace here and makes it the working folder: the child
//! inherits that, wherever it lies, and reaches all of it by relative names.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use clamshell_protocol::{Guard, KeeperSpec};
use rustix::{
    fs::{CWD, Mode, OFlags},
    mount::MountFlags,
};

use super::{
    failure::{Failure, Stage},
    mounts::{self, ID_MAP, NO_DEV, NO_SUID, READ_ONLY},
    sys,
};

/// Where a guest below another kernel puts its socket.
pub(crate) const LINK: &str = "run/link";

/// What an OCI runtime knows of its containers.
pub(crate) const RUNTIME_STATE: &str = "run/oci";

/// Opens a folder, itself no link, for use as a starting point only.
pub(crate) fn open_dir<Fd: AsFd>(dir: Fd, path: &str) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(
        dir,
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Opens whatever has this name, itself no link, without any right to it.
pub(crate) fn open_any<Fd: AsFd, P: rustix::path::Arg>(dir: Fd, path: P) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(dir, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// A path that leads to what a descriptor stands for.
pub(crate) fn descriptor_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Makes the staging folder, attaches all but the layers, and makes it the working folder.
pub(crate) fn build(spec: &KeeperSpec, session: BorrowedFd<'_>) -> io::Result<()> {
    // Over the session folder itself: its path is the one place that surely exists and that nobody else needs
    // here any more. Creating a folder for it would cost more than the mount.
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mounts::new("tmpfs", &spec.session_dir, flags, "mode=755,size=64k")?;
    let root = open_dir(CWD, &spec.session_dir)?;
    rustix::process::fchdir(&root)?;
    for name in ["r", "u", "w", "s"] {
        rustix::fs::mkdir(name, Mode::from_raw_mode(0o755))?;
    }
    drop(rustix::fs::open(
        "x",
        OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o600),
    )?);
    let program = mounts::copy(CWD, &spec.binary, READ_ONLY | NO_SUID | NO_DEV)?;
    mounts::attach(program.as_fd(), CWD, "x")?;
    for (name, source) in [("u", "upper"), ("w", "workspace"), ("s", "shells")] {
        let tree = mounts::copy(session, source, NO_SUID | NO_DEV)?;
        mounts::attach(tree.as_fd(), CWD, name)?;
    }
    if spec.oci.as_ref().is_some_and(|oci| oci.own_kernel) {
        for (name, source) in [("g", LINK), ("o", RUNTIME_STATE)] {
            rustix::fs::mkdir(name, Mode::from_raw_mode(0o755))?;
            let tree = mounts::copy(session, source, NO_SUID | NO_DEV)?;
            mounts::attach(tree.as_fd(), CWD, name)?;
        }
    }
    for (index, bind) in spec.binds.iter().enumerate() {
        let name = format!("b{index}");
        rustix::fs::mkdir(&name, Mode::from_raw_mode(0o755))?;
        let tree = mounts::copy(CWD, &bind.source, READ_ONLY | NO_SUID | NO_DEV)?;
        mounts::attach(tree.as_fd(), CWD, &name)?;
    }
    if !spec.ids.is_privileged() {
        for index in 0..spec.layers.len() {
            attach_layer(spec, index, None)?;
        }
    }
    Ok(())
}

/// Attaches the layers, with ids mapped into the user namespace of the process where the layer asks
/// for that; `false` when a file system cannot do it.
pub(crate) fn add_layers(spec: &KeeperSpec, pid: u32) -> Result<bool, Failure> {
    let userns = match spec.guard {
        Guard::Full => {
            let path = format!("/proc/{pid}/ns/user");
            Some(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).stage("layers")?)
        }
        Guard::Off => None,
    };
    let mut mapped = true;
    for index in 0..spec.layers.len() {
        mapped &= attach_layer(spec, index, userns.as_ref().map(AsFd::as_fd)).stage("layers")?;
    }
    Ok(mapped)
}

/// Attaches one layer; `false` when its ids could not be mapped as asked.
fn attach_layer(spec: &KeeperSpec, index: usize, userns: Option<BorrowedFd<'_>>) -> io::Result<bool> {
    let Some(layer) = spec.layers.get(index) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let name = format!("l{index}");
    rustix::fs::mkdir(&name, Mode::from_raw_mode(0o755))?;
    let tree = mounts::copy(CWD, &layer.path, 0)?;
    let flags = READ_ONLY | NO_SUID | NO_DEV;
    let mapped = match userns.filter(|_| layer.idmapped) {
        Some(userns) => match sys::mount_setattr(tree.as_fd(), flags | ID_MAP, Some(userns)) {
            // The file system cannot: readable by everybody is still readable.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => false,
            other => {
                other?;
                true
            }
        },
        None => true,
    };
    sys::mount_setattr(tree.as_fd(), flags, None)?;
    mounts::attach(tree.as_fd(), CWD, &name)?;
    Ok(mapped)
}
