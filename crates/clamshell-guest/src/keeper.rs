//! The keeper: makes one sandbox, then holds it until it ends.
//!
//! A server never forks, enters namespaces or mounts anything: it starts this small single-threaded
//! program, which reads a [`KeeperSpec`] from its standard input, does the privileged work, answers
//! with one line on its standard output and stays behind as the parent of the guest. It owns the
//! control groups and the state file. Mounts are in its private namespace and vanish with it.
//!
//! A keeper that is killed takes nothing with it: the guest lives on, and the state file tells a
//! server how to find and end it.

mod failure;
mod file_systems;
mod groups;
mod hold;
mod ids;
mod inside;
mod loopback;
mod mounts;
mod oci;
mod own_kernel;
mod remove;
mod root;
mod seccomp;
mod shares;
mod stage;
mod state;
mod sys;

use std::{
    io::{Read, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    process::ExitCode,
};

use clamshell_protocol::{
    Guard, IdMap, KEEPER_SPEC_BYTES_MAX, KeeperReport, KeeperSpec, KeeperState, ProcessRef,
};
use rustix::{
    fs::{Mode, OFlags},
    mount::{MountPropagationFlags, mount_change},
    net::{AddressFamily, SocketFlags, SocketType},
};

use self::{
    failure::{Failure, Stage},
    groups::Groups,
};

/// Runs the keeper until its sandbox has ended.
pub(crate) fn run() -> ExitCode {
    if std::env::args_os().nth(2).is_some_and(|argument| argument == "remove") {
        return remove::run();
    }
    let made = read_spec().and_then(|spec| {
        let sandbox = make(&spec)?;
        Ok((spec, sandbox))
    });
    match made {
        Ok((spec, sandbox)) => {
            report(&KeeperReport::Ready {
                guest_pid: sandbox.state.guest.pid,
                degraded: sandbox.state.degraded.clone(),
            });
            // Freed before the long wait: the keeper's own memory is counted per session.
            drop(spec);
            hold::until_end(sandbox)
        }
        Err(failure) => {
            report(&KeeperReport::Failed { stage: failure.stage.to_owned(), reason: failure.reason });
            ExitCode::FAILURE
        }
    }
}

/// Puts this process and all that it starts under the system-call filter. Needs `no_new_privs`.
pub(crate) fn filter_calls() -> std::io::Result<()> {
    sys::install_filter(&seccomp::program())
}

/// What a guest does first where a runtime's own kernel is between: see [`own_kernel`].
pub(crate) use self::own_kernel::set_up as set_up_own_kernel;

/// A sandbox whose guest was started.
pub(crate) struct Kept {
    /// Session's `run/`.
    run: OwnedFd,
    pidfd: OwnedFd,
    groups: Groups,
    state: KeeperState,
    /// When an OCI runtime made it.
    container: Option<oci::Container>,
}

fn read_spec() -> Result<KeeperSpec, Failure> {
    let mut text = Vec::new();
    let limit = u64::try_from(KEEPER_SPEC_BYTES_MAX).unwrap_or(u64::MAX);
    std::io::stdin().take(limit + 1).read_to_end(&mut text).stage("read the specification")?;
    if text.len() > KEEPER_SPEC_BYTES_MAX {
        return Err(Failure::new("read the specification", "it is too long"));
    }
    serde_json::from_slice(&text).stage("read the specification")
}

/// One line on standard output, which is then given up. A server that is gone no longer minds.
fn report(report: &KeeperReport) {
    let mut line = serde_json::to_vec(report).unwrap_or_default();
    line.push(b'\n');
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
}

fn make(spec: &KeeperSpec) -> Result<Kept, Failure> {
    // A terminal's or a service manager's signals for the server are none of ours. Fails when we lead a session already.
    let _ = rustix::process::setsid();
    let privileged = spec.ids.is_privileged();
    if privileged {
        sys::unshare(libc::CLONE_NEWNS).stage("mount namespace")?;
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
            .stage("mount namespace")?;
    }
    let session = stage::open_dir(rustix::fs::CWD, &spec.session_dir).stage("session folder")?;
    let run = prepare_folders(spec, session.as_fd())?;

    let mut notes = spec.notes.clone();
    let groups = Groups::make(&spec.groups, &mut notes);
    let made = match &spec.oci {
        Some(runtime) => oci::start(spec, runtime, (&session, &run), &groups, notes)
            .map(|(pidfd, state, container)| (pidfd, state, Some(container))),
        None => start(spec, &session, &run, &groups, notes).map(|(pidfd, state)| (pidfd, state, None)),
    };
    match made {
        // A server that was killed meanwhile may be back, have found no state and have cleared the folder: then
        // nobody knows of this sandbox, and another may take its place. The groups have the same names, so they
        // are left to whoever is next. A server that cleared it later has seen the state written before.
        Ok((pidfd, _, container)) if !is_in_place(&session, &run) => {
            let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
            let _ = hold::reap(pidfd.as_fd());
            if let Some(container) = container {
                container.delete();
            }
            Err(Failure::new("session folder", "it was cleared meanwhile"))
        }
        Ok((pidfd, state, container)) => Ok(Kept { run, pidfd, groups, state, container }),
        Err(failure) => {
            groups.remove();
            Err(failure)
        }
    }
}

/// Starts the guest in its namespaces; on failure the process is gone again.
fn start(
    spec: &KeeperSpec,
    session: &OwnedFd,
    run: &OwnedFd,
    groups: &Groups,
    mut notes: Vec<String>,
) -> Result<(OwnedFd, KeeperState), Failure> {
    let privileged = spec.ids.is_privileged();
    let listener = listen(run.as_fd()).stage("guest socket")?;
    let plan = inside::Plan::new(spec, listener, groups.enrollments(&mut notes));
    if inside::open_files_max(spec) < spec.open_files_max {
        notes.push(format!("open files per process are limited to {}", inside::open_files_max(spec)));
    }
    if privileged {
        stage::build(spec, session.as_fd()).stage("staging folder")?;
        file_systems::attach(spec, &mut notes)?;
    }
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .stage("socket pair")?;

    let mut flags = libc::CLONE_NEWPID | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if spec.guard == Guard::Full {
        flags |= libc::CLONE_NEWUSER;
    }
    let clone = || sys::clone3(flags, groups.unified());
    let cloned = match spec.ids {
        // Whoever makes a user namespace pays for what is counted in it (file watches, for instance), besides
        // those inside. Made by root, all sandboxes and the machine's root would share one account.
        IdMap::Range { base, .. } if spec.guard == Guard::Full => sys::clone_as(base, clone),
        _ => clone(),
    };
    let Some((pid, pidfd)) = cloned.stage("new namespaces")? else {
        drop(ours);
        inside::enter(spec, plan, theirs)
    };
    drop(theirs);
    let child = Child { pidfd };
    hold::take_signals();

    let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), "200");
    if spec.guard == Guard::Full {
        ids::write_maps(&spec.ids, pid)?;
    }
    if privileged && !stage::add_layers(spec, pid)? {
        notes.push("files of the image belong to nobody: its file system has no id-mapped mounts".to_owned());
    }

    let mut state = KeeperState {
        keeper: state::process_ref(std::process::id()).stage("process table")?,
        guest: state::process_ref(pid).unwrap_or(ProcessRef { pid, start_ticks: 0 }),
        boot_id: state::boot_id(),
        started_at_ms: state::now_ms(),
        degraded: notes,
        exit: None,
        cpu_usage_us: None,
    };
    // Before the guest may run: whoever kills this keeper from here on leaves a sandbox that can be found.
    state::write(run.as_fd(), &state).stage("state file")?;

    rustix::io::write(&ours, b"go").stage("start the guest")?;
    let mut buffer = [0; inside::MESSAGE_BYTES_MAX];
    loop {
        let length =
            rustix::io::retry_on_intr(|| rustix::io::read(&ours, &mut buffer)).stage("start the guest")?;
        if length == 0 {
            break;
        }
        match serde_json::from_slice(&buffer[..length]).stage("start the guest")? {
            inside::Message::Note(note) => state.degraded.push(note),
            inside::Message::Ready => {}
            inside::Message::Failed { stage, reason } => {
                return Err(Failure { stage: failure::known(&stage), reason });
            }
        }
        state::write(run.as_fd(), &state).stage("state file")?;
    }
    if hold::has_ended(child.pidfd.as_fd()) {
        return Err(Failure::new("start the guest", "it ended without a word"));
    }
    Ok((child.keep(), state))
}

/// Whether `run` still is the session's `run/`.
fn is_in_place(session: &OwnedFd, run: &OwnedFd) -> bool {
    let found = rustix::fs::statat(session, "run", rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
    matches!((found, rustix::fs::fstat(run)),
        (Ok(found), Ok(ours)) if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino))
}

/// Kills and reaps the guest unless told to keep it.
struct Child {
    pidfd: OwnedFd,
}

impl Child {
    fn keep(self) -> OwnedFd {
        let this = std::mem::ManuallyDrop::new(self);
        // The descriptor is moved out once and the guard is never dropped.
        sys::take_fd(&this.pidfd)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
        let _ = hold::reap(self.pidfd.as_fd());
    }
}

/// Makes what is missing in the session folder, and gives its `run/`; `upper/` must be empty or absent.
fn prepare_folders(spec: &KeeperSpec, session: rustix::fd::BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    // Made by the server that started us. If it is not there, that server was killed and the next one has cleared the
    // folder: nobody would know of this sandbox.
    let run = rustix::fs::openat(
        session,
        "run",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .stage("session folder")?;
    let owner = match spec.ids {
        clamshell_protocol::IdMap::Range { base, .. } if spec.guard == Guard::Full => base,
        _ => 0,
    };
    let make = |path: &str, mode: u32, id: u32| -> rustix::io::Result<()> {
        match rustix::fs::mkdirat(session, path, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        if !spec.ids.is_privileged() {
            return Ok(());
        }
        let folder = stage::open_dir(session, path)?;
        let stat = rustix::fs::fstat(&folder)?;
        if stat.st_uid != id || stat.st_gid != id {
            let (uid, gid) = (rustix::fs::Uid::from_raw(id), rustix::fs::Gid::from_raw(id));
            rustix::fs::chownat(&folder, c"", Some(uid), Some(gid), rustix::fs::AtFlags::EMPTY_PATH)?;
        }
        Ok(())
    };
    make("upper", 0o700, owner).stage("session folder")?;
    make("upper/fs", 0o755, owner).stage("session folder")?;
    make("upper/work", 0o700, owner).stage("session folder")?;
    make("shells", 0o700, owner).stage("session folder")?;
    make("workspace", 0o755, owner.saturating_add(spec.agent_id)).stage("session folder")?;
    Ok(run)
}

/// Binds and listens at `run/guest.sock`. Named through a descriptor, because a session folder's path may be longer
/// than a socket address holds.
fn listen(run: rustix::fd::BorrowedFd<'_>) -> std::io::Result<OwnedFd> {
    let _ = rustix::fs::unlinkat(run, "guest.sock", rustix::fs::AtFlags::empty());
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let path = format!("/proc/self/fd/{}/guest.sock", run.as_raw_fd());
    rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(path)?)?;
    // More than the guest serves at once; the rest waits in the server.
    rustix::net::listen(&socket, 128)?;
    Ok(socket)
}
