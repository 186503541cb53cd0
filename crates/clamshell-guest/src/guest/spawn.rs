//! Starting a program: one `clone` that shares memory until `exec`, so that it costs the same however
//! much the guest has mapped, and nothing of the guest but three descriptors gets into the program.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    ptr,
};

use rustix::io::Errno;
use thiserror::Error;

/// Words of the child's stack: 64 KiB. It calls a dozen system calls and nothing that recurses.
const STACK_WORDS: usize = 4096;

/// Candidates for a program name; a PATH with more folders is cut.
const CANDIDATES_MAX: usize = 64;

/// How much sooner than the guest its programs are ended when the sandbox has used up its memory. The kernel counts in
/// thousandths of the memory limit, so a program must be smaller than the guest by half the limit to be spared for it.
const OOM_ABOVE_GUEST: i32 = 500;

/// Largest value that the kernel takes.
const OOM_MAX: i32 = 1000;

const OOM_FILE: &CStr = c"/proc/self/oom_score_adj";

/// What to start.
#[derive(Debug)]
pub(super) struct Program<'a> {
    pub(super) argv: &'a [String],
    pub(super) env: &'a [(String, String)],
    pub(super) cwd: &'a str,
    /// User and group to become; `None` stays as the guest is.
    pub(super) identity: Option<(u32, u32)>,
    /// Further groups of that user.
    pub(super) groups: &'a [u32],
    pub(super) stdio: [BorrowedFd<'a>; 3],
    /// Standard input is a terminal that becomes the controlling one.
    pub(super) terminal: bool,
    /// Orphans among its descendants become its own children rather than the guest's, so that even
    /// those that made themselves daemons are still found in its tree. Not for what runs long: a
    /// program that reaps only what it started would collect zombies.
    pub(super) adopts_orphans: bool,
}

/// A program that did not start.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum SpawnError {
    #[error("command line, environment or folder is empty or has a NUL byte")]
    Invalid,
    #[error("cannot {stage}: {errno}")]
    System { stage: &'static str, errno: Errno },
}

/// All that the child touches, made before `clone`: after it the child must not allocate.
struct Plan {
    stdio: [RawFd; 3],
    terminal: bool,
    adopts_orphans: bool,
    identity: Option<(u32, u32)>,
    groups: *const u32,
    groups_length: usize,
    cwd: *const c_char,
    candidates: *const *const c_char,
    argv: *const *const c_char,
    env: *const *const c_char,
    /// What to write to [`OOM_FILE`].
    oom: [u8; 4],
    oom_length: usize,
    /// Written by the child; memory is shared until `exec`.
    failed: Option<(&'static str, c_int)>,
}

/// Starts the program in a session of its own and returns its process id.
pub(super) fn spawn(program: &Program<'_>) -> Result<i32, SpawnError> {
    let text = |text: &str| CString::new(text).map_err(|_| SpawnError::Invalid);
    let name = program.argv.first().filter(|name| !name.is_empty()).ok_or(SpawnError::Invalid)?;
    let argv = program.argv.iter().map(|argument| text(argument)).collect::<Result<Vec<_>, _>>()?;
    let mut env = Vec::with_capacity(program.env.len());
    for (key, value) in program.env {
        if key.is_empty() || key.contains('=') {
            return Err(SpawnError::Invalid);
        }
        env.push(text(&format!("{key}={value}"))?);
    }
    let candidates =
        candidates(name, program.env).iter().map(|path| text(path)).collect::<Result<Vec<_>, _>>()?;
    let cwd = text(program.cwd)?;
    let pointers = |list: &[CString]| -> Vec<*const c_char> {
        list.iter().map(|item| item.as_ptr()).chain(std::iter::once(ptr::null())).collect()
    };
    let (argv_pointers, env_pointers, candidate_pointers) =
        (pointers(&argv), pointers(&env), pointers(&candidates));
    let (oom, oom_length) = oom_score();
    let mut plan = Plan {
        stdio: program.stdio.map(|fd| fd.as_raw_fd()),
        terminal: program.terminal,
        adopts_orphans: program.adopts_orphans,
        identity: program.identity,
        groups: program.groups.as_ptr(),
        groups_length: program.groups.len(),
        cwd: cwd.as_ptr(),
        candidates: candidate_pointers.as_ptr(),
        argv: argv_pointers.as_ptr(),
        env: env_pointers.as_ptr(),
        oom,
        oom_length,
        failed: None,
    };
    let mut stack = vec![0_u128; STACK_WORDS];
    let plan_pointer: *mut Plan = &raw mut plan;
    // SAFETY: the child runs `child` on `stack`, which with `plan` and all it points to outlives it:
    // CLONE_VFORK suspends us until it execs or exits. Signals are blocked meanwhile, so no handler
    // runs on the shared memory; the guest has one thread, so nobody else sees it.
    let pid = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let top = stack.as_mut_ptr().add(STACK_WORDS).cast::<c_void>();
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        let pid = libc::clone(child, top, flags, plan_pointer.cast::<c_void>());
        let errno = *libc::__errno_location();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        // A change of user makes memory as readable as fs.suid_dumpable says, and the child changed it while the memory
        // was ours, too. It takes that back itself; this is for one that failed half-way.
        close_memory();
        if pid < 0 { Err(Errno::from_raw_os_error(errno)) } else { Ok(pid) }
    };
    let pid = pid.map_err(|errno| SpawnError::System { stage: "make a process", errno })?;
    // SAFETY: `plan` is ours; read through the pointer that the child wrote through.
    match unsafe { ptr::read_volatile(&raw const (*plan_pointer).failed) } {
        // The child has exited; the loop reaps it like any orphan.
        Some((stage, errno)) => Err(SpawnError::System { stage, errno: Errno::from_raw_os_error(errno) }),
        None => Ok(pid),
    }
}

/// What the child writes to [`OOM_FILE`], as digits and their number.
fn oom_score() -> ([u8; 4], usize) {
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").ok();
    let own: i32 = own.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let text = own.saturating_add(OOM_ABOVE_GUEST).clamp(0, OOM_MAX).to_string();
    let mut digits = [0; 4];
    let length = text.len().min(digits.len());
    digits[..length].copy_from_slice(&text.as_bytes()[..length]);
    (digits, length)
}

/// Keeps programs from reading the guest's memory, as at its start. Also called between `clone` and `exec`.
fn close_memory() {
    // SAFETY: a system call with numbers only.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0_u64, 0_u64, 0_u64, 0_u64) };
}

/// Paths to try for a program: itself when it has a slash, otherwise each folder of its own PATH.
fn candidates(name: &str, env: &[(String, String)]) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    let path =
        env.iter().rev().find(|(key, _)| key == "PATH").map_or(DEFAULT_PATH, |(_, value)| value.as_str());
    path.split(':')
        .take(CANDIDATES_MAX)
        .map(|folder| if folder.is_empty() { format!("./{name}") } else { format!("{folder}/{name}") })
        .collect()
}

/// Where programs are looked for when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

extern "C" fn child(plan: *mut c_void) -> c_int {
    // SAFETY: `spawn` passes its plan and waits; only async-signal-safe system calls follow, and
    // descriptors, working directory, mask and handlers are this process's own copies.
    unsafe {
        let plan = &mut *plan.cast::<Plan>();
        let stage = prepare_and_exec(plan);
        plan.failed = Some((stage, *libc::__errno_location()));
        libc::_exit(127);
    }
}

/// Returns only when something failed: what it was, with `errno` set.
///
/// # Safety
/// Only in the child of [`spawn`].
unsafe fn prepare_and_exec(plan: &Plan) -> &'static str {
    // SAFETY: plain system calls on values checked before `clone`; see `child`.
    unsafe {
        // All zero is the default action in the kernel's own structure, which is shorter than this.
        // Raw calls, because the C library keeps two signals from being reset. KILL and STOP fail.
        let default = [0_u64; 8];
        for signal in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null::<u64>(), 8_usize);
        }
        if libc::setsid() < 0 {
            return "make a session";
        }
        // The guest keeps 0, 1 and 2 taken, so all sources are above and none is overwritten.
        for (target, source) in [0, 1, 2].into_iter().zip(plan.stdio) {
            if libc::dup2(source, target) < 0 {
                return "set up standard descriptors";
            }
        }
        // To the largest descriptor there can be: gVisor takes the number above it, as the manual writes it, for a -1.
        if libc::syscall(libc::SYS_close_range, 3_u32, i32::MAX, 0_u32) < 0 {
            return "close descriptors";
        }
        if plan.terminal && libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
            return "take the terminal";
        }
        if plan.adopts_orphans && libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1_u64, 0_u64, 0_u64, 0_u64) < 0 {
            return "adopt orphans";
        }
        // While we may: the file belongs to root. The value is this process's own although memory is shared. Without
        // it programs still run, so a failure is borne.
        let file = libc::open(OOM_FILE.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file >= 0 {
            libc::write(file, plan.oom.as_ptr().cast::<c_void>(), plan.oom_length);
            libc::close(file);
        }
        if let Some((uid, gid)) = plan.identity {
            // Raw calls: the C library's would signal threads of a process whose memory we share.
            // A user namespace with one id forbids setgroups, and has no groups to lose.
            if libc::syscall(libc::SYS_setgroups, plan.groups_length, plan.groups) < 0
                && *libc::__errno_location() != libc::EPERM
            {
                return "set the further groups";
            }
            if libc::syscall(libc::SYS_setresgid, gid, gid, gid) < 0 {
                return "set the group";
            }
            let became = libc::syscall(libc::SYS_setresuid, uid, uid, uid);
            let errno = *libc::__errno_location();
            // See `spawn`: until `exec` this user's programs could read the guest's memory through us.
            close_memory();
            if became < 0 {
                *libc::__errno_location() = errno;
                return "set the user";
            }
        }
        if libc::chdir(plan.cwd) < 0 {
            return "enter the working directory";
        }
        libc::umask(0o022);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        let mut denied = false;
        let mut candidate = plan.candidates;
        while !(*candidate).is_null() {
            libc::execve(*candidate, plan.argv, plan.env);
            match *libc::__errno_location() {
                libc::ENOENT | libc::ENOTDIR => {}
                libc::EACCES => denied = true,
                _ => return "execute the program",
            }
            candidate = candidate.add(1);
        }
        *libc::__errno_location() = if denied { libc::EACCES } else { libc::ENOENT };
        "execute the program"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_in_the_programs_own_path() {
        let env = |value: &str| vec![("PATH".to_owned(), value.to_owned())];
        assert_eq!(candidates("sh", &env("/a:/b")), ["/a/sh", "/b/sh"]);
        assert_eq!(candidates("sh", &env(":/b")), ["./sh", "/b/sh"]);
        assert_eq!(candidates("./sh", &env("/a")), ["./sh"]);
        assert_eq!(candidates("sh", &[]).len(), 6);
        assert_eq!(candidates("sh", &env(&":".repeat(1000))).len(), CANDIDATES_MAX);
    }
}
