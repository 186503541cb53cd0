//! What is left to do inside where a runtime puts a kernel of its own (gVisor) between the sandbox and
//! the machine's: nobody outside can enter such a sandbox, and it inherits no sockets.
//!
//! So the guest is started with a few rights more, does here what the keeper does elsewhere, and gives them up before
//! anything of the sandbox runs. It tells the keeper about it on its standard output, a line of JSON each.

use std::{
    ffi::OsString,
    fs,
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
};

use clamshell_protocol::OWN_KERNEL_FOLDER;
use rustix::{
    fs::{CWD, Mode, OFlags},
    mount::MountFlags,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};

use super::{
    failure::{Failure, Stage},
    filter_calls,
    inside::{Message, drop_capabilities},
    loopback, mounts, root, sys,
};

/// More than the guest serves at once; the rest waits in the server.
const BACKLOG: i32 = 128;

/// Sets the sandbox up; the guest's listener and its folder of shells. `None` after it said why not.
pub(crate) fn set_up(words: &mut dyn Iterator<Item = OsString>) -> Option<(OwnedFd, OwnedFd)> {
    let done = prepare(words).and_then(|made| {
        leave_output().stage("leave the host")?;
        Ok(made)
    });
    match done {
        Ok(made) => Some(made),
        Err(Failure { stage, reason }) => {
            say(&Message::Failed { stage: stage.to_owned(), reason });
            None
        }
    }
}

fn prepare(words: &mut dyn Iterator<Item = OsString>) -> Result<(OwnedFd, OwnedFd), Failure> {
    let mut number = || words.next()?.to_str()?.parse::<u32>().ok();
    let missing = || Failure::new("start the guest", "its arguments are incomplete");
    let processes_max = number().ok_or_else(missing)?;
    let agent_id = number().ok_or_else(missing)?;
    let add_account = words.next().is_some_and(|word| word == "add");

    loopback::bring_up().stage("network")?;
    root::prepare_account(add_account, agent_id).stage("account")?;
    if let Err(error) = limit_processes(processes_max) {
        say(&Message::Note(format!("process limit does not hold: {error}")));
    }
    let listener = listen().stage("guest socket")?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let shells = rustix::fs::openat(CWD, format!("{OWN_KERNEL_FOLDER}/shells"), flags, Mode::empty())
        .stage("session folder")?;
    // Covered rather than unmounted: the listener lives as long as the mount that its socket is on.
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    // And the guest itself, because gVisor opens any process's descriptors to anybody.
    for path in [OWN_KERNEL_FOLDER, "/proc/1"] {
        mounts::new("tmpfs", path, flags, "mode=0,size=4k").stage("masks")?;
    }

    drop_capabilities().stage("capabilities")?;
    rustix::thread::set_no_new_privs(true).stage("system-call filter")?;
    filter_calls().stage("system-call filter")?;
    sys::install_filter(&shield()).stage("system-call filter")?;
    Ok((listener, shells))
}

/// Keeps signals away from the guest. A kernel that follows Linux protects the first process from those inside; this one
/// lets root kill it. Not by seeing who is meant by a group: the guest's is in a session of its own.
fn shield() -> Vec<libc::sock_filter> {
    let step = |code: u32, jump_true: usize, jump_false: usize, value: u32| libc::sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt: u8::try_from(jump_true).unwrap_or_default(),
        jf: u8::try_from(jump_false).unwrap_or_default(),
        k: value,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let calls = [
        libc::SYS_kill,
        libc::SYS_tkill,
        libc::SYS_tgkill,
        libc::SYS_rt_sigqueueinfo,
        libc::SYS_rt_tgsigqueueinfo,
    ];
    // struct seccomp_data: number at 0, first argument at 16, of which the kernel takes the lower half.
    let mut program = vec![step(load, 0, 0, 0)];
    for (index, call) in calls.into_iter().enumerate() {
        let rest = calls.len() - index - 1;
        program.push(step(equal, rest + 1, 0, u32::try_from(call).unwrap_or_default()));
    }
    program.extend([
        step(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(load, 0, 0, 16),
        step(equal, 0, 1, 1),
        step(answer, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned()),
        step(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]);
    program
}

/// Counts processes by a group of the sandbox's own kernel, in a place that is covered afterwards.
fn limit_processes(most: u32) -> io::Result<()> {
    let top = format!("{OWN_KERNEL_FOLDER}/groups");
    let group = format!("{top}/all");
    mounts::make_dir(&top)?;
    mounts::new("cgroup", &top, MountFlags::empty(), "pids")?;
    fs::create_dir(&group)?;
    fs::write(format!("{group}/pids.max"), most.to_string())?;
    fs::write(format!("{group}/cgroup.procs"), "0")
}

fn listen() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(format!("{OWN_KERNEL_FOLDER}/run/guest.sock"))?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Says that all is done, and lets go of what leads to the keeper.
fn leave_output() -> io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    say(&Message::Ready);
    rustix::stdio::dup2_stdin(null.as_fd())?;
    rustix::stdio::dup2_stdout(null.as_fd())?;
    Ok(rustix::stdio::dup2_stderr(null.as_fd())?)
}

fn say(message: &Message) {
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    let mut output = io::stdout().lock();
    let _ = output.write_all(&line).and_then(|()| output.flush());
}
