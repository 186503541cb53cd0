//! System calls that no safe wrapper offers. The process has one thread: that is what makes the raw
//! clone and the unshare sound.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

/// Moves the caller into new namespaces.
pub(crate) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: plain flags; none of those used unshares descriptors or memory.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

/// Starts a copy of this process in new namespaces, if asked in a control group of the unified
/// hierarchy. `None` in the copy, its process id and pidfd in the caller.
pub(crate) fn clone3(
    flags: libc::c_int,
    group: Option<BorrowedFd<'_>>,
) -> io::Result<Option<(u32, OwnedFd)>> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: a structure of integers, for which zero means absent.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from((flags | libc::CLONE_PIDFD).cast_unsigned());
    arguments.pidfd = (&raw mut pidfd).expose_provenance() as u64;
    arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    if let Some(group) = group {
        const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::from(group.as_raw_fd().cast_unsigned());
    }
    // SAFETY: without CLONE_VM this is a fork; the process has one thread, so no lock is held by anybody who is
    // missing in the copy. The structure and the pidfd slot outlive the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid == 0 {
        return Ok(None);
    }
    let pid = u32::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: the kernel stored a new descriptor that nobody else owns.
    Ok(Some((pid, unsafe { OwnedFd::from_raw_fd(pidfd) })))
}

/// Takes a descriptor out of a value that will never be dropped.
pub(crate) fn take_fd(fd: &OwnedFd) -> OwnedFd {
    // SAFETY: the caller holds the value in a `ManuallyDrop`, so this is the only owner from now on.
    unsafe { OwnedFd::from_raw_fd(fd.as_raw_fd()) }
}

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes the attributes of a mount and of what is mounted below it; `userns` for `MOUNT_ATTR_IDMAP`.
/// An ordinary user's copy has the mounts below, and those may be ones that the user writes to.
pub(crate) fn mount_setattr(
    mount: BorrowedFd<'_>,
    set: u64,
    userns: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let attributes = MountAttributes {
        set,
        clear: 0,
        propagation: 0,
        userns_fd: userns.map_or(0, |fd| u64::from(fd.as_raw_fd().cast_unsigned())),
    };
    // SAFETY: the path is a constant C string and the structure outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Blocks signals.
pub(crate) fn block_signals(signals: &[libc::c_int]) {
    let set = signal_set(signals);
    // SAFETY: a valid set; no previous mask asked for.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
}

/// Ignores a signal.
pub(crate) fn ignore_signal(signal: libc::c_int) {
    // SAFETY: ignoring installs no handler.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Every signal at its default and none blocked: what a program expects at its start.
pub(crate) fn reset_signals() {
    // SAFETY: the default disposition installs no handler; KILL and STOP refuse, which is harmless.
    unsafe {
        for signal in 1..=31 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// A descriptor that becomes readable when one of the blocked signals arrives.
pub(crate) fn signal_fd(signals: &[libc::c_int]) -> io::Result<OwnedFd> {
    let set = signal_set(signals);
    // SAFETY: a valid set; -1 asks for a new descriptor.
    let fd = check(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC) })?;
    // SAFETY: new and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn signal_set(signals: &[libc::c_int]) -> libc::sigset_t {
    // SAFETY: `sigemptyset` makes the zeroed value a valid set before anything reads it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

/// Group and user 0, and no further groups; `keep_groups` where the kernel forbids to change those.
pub(crate) fn become_root(keep_groups: bool) -> io::Result<()> {
    // SAFETY: plain integers. The libc wrappers reach all threads, of which there is one.
    unsafe {
        if !keep_groups {
            check(libc::setgroups(0, std::ptr::null()))?;
        }
        check(libc::setresgid(0, 0, 0))?;
        check(libc::setresuid(0, 0, 0))?;
    }
    Ok(())
}

/// Clones as another effective user without losing capabilities meanwhile. The copy stays that user, who has no id yet
/// in its new namespace.
pub(crate) fn clone_as<T>(id: u32, clone: impl FnOnce() -> io::Result<Option<T>>) -> io::Result<Option<T>> {
    const SECBIT_NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;
    let set = |bits: libc::c_ulong, id: u32| -> io::Result<()> {
        // SAFETY: integers only.
        unsafe {
            check(libc::prctl(libc::PR_SET_SECUREBITS, bits, 0, 0, 0))?;
            check(libc::setresuid(u32::MAX, id, u32::MAX))?;
        }
        Ok(())
    };
    set(SECBIT_NO_SETUID_FIXUP, id)?;
    let result = clone();
    if matches!(result, Ok(None)) {
        return result;
    }
    set(SECBIT_NO_SETUID_FIXUP, 0)?;
    // SAFETY: integers only.
    check(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, 0, 0, 0, 0) })?;
    result
}

/// Drops a capability from the bounding set; `false` when the kernel does not know it.
pub(crate) fn drop_from_bounding_set(capability: u32) -> io::Result<bool> {
    // SAFETY: integers only.
    let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) };
    match check(result) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Installs a system-call filter. `no_new_privs` must be set.
pub(crate) fn install_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the program outlives the call, and the kernel checks it.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Puts two descriptors at 3 and 4, marks everything above to be closed, and replaces this process by
/// the program behind `program` with an empty environment. Returns only on failure.
pub(crate) fn exec(
    program: BorrowedFd<'_>,
    third: BorrowedFd<'_>,
    fourth: BorrowedFd<'_>,
    arguments: &[&str],
) -> io::Error {
    let arguments: Result<Vec<CString>, _> = arguments.iter().map(|text| CString::new(*text)).collect();
    let Ok(arguments) = arguments else {
        return io::Error::from(io::ErrorKind::InvalidInput);
    };
    let pointers: Vec<*const libc::c_char> =
        arguments.iter().map(|text| CStr::as_ptr(text)).chain(std::iter::once(std::ptr::null())).collect();
    let environment: [*const libc::c_char; 1] = [std::ptr::null()];
    let moved = || -> io::Result<RawFd> {
        // Out of the way of 3 and 4 first: any of them may sit there.
        let program = duplicate(program)?;
        let third = duplicate(third)?;
        let fourth = duplicate(fourth)?;
        // SAFETY: descriptors 3 and 4 may belong to values that are never used again in this process image.
        unsafe {
            check(libc::dup2(third, 3))?;
            check(libc::dup2(fourth, 4))?;
            libc::syscall(libc::SYS_close_range, 5u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        }
        Ok(program)
    };
    let program = match moved() {
        Ok(program) => program,
        Err(error) => return error,
    };
    // SAFETY: both arrays end with a null pointer and outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program,
            c"".as_ptr(),
            pointers.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    io::Error::last_os_error()
}

/// Joins namespaces of the process behind the descriptor.
pub(crate) fn join_namespaces(pidfd: BorrowedFd<'_>, kinds: libc::c_int) -> io::Result<()> {
    // SAFETY: a valid descriptor and plain flags; the process has one thread.
    check(unsafe { libc::setns(pidfd.as_raw_fd(), kinds) }).map(drop)
}

/// Copies two descriptors to 3 and 4, from where a program started next inherits them. For use in a
/// copy of this process that does nothing else any more.
pub(crate) fn place_descriptors(third: RawFd, fourth: RawFd) -> io::Result<()> {
    // SAFETY: descriptors 3 and 4 may belong to values that are never used again in this process image.
    unsafe {
        // Out of the way of 3 and 4 first: either of them may sit there.
        let third = check(libc::fcntl(third, libc::F_DUPFD_CLOEXEC, 10))?;
        let fourth = check(libc::fcntl(fourth, libc::F_DUPFD_CLOEXEC, 10))?;
        check(libc::dup2(third, 3))?;
        check(libc::dup2(fourth, 4))?;
    }
    Ok(())
}

fn duplicate(fd: BorrowedFd<'_>) -> io::Result<RawFd> {
    // SAFETY: a valid descriptor; the copy lives until exec.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 10) })
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
