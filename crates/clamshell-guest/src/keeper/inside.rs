//! The child's way from a copy of the keeper to the guest: it assembles the root file system, goes in,
//! gives up what it does not need and becomes the guest.
//!
//! The order matters. Names of the image are only looked up after `pivot_root`, when a link in it cannot lead to
//! the machine any more; the machine's mounts are let go only when the new `/proc` and `/sys` are there, because the kernel wants to
//! see a whole one before it grants another.

use std::{
    convert::Infallible,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use clamshell_protocol::{
    Guard, IdMap, KeeperSpec,
    seccomp_policy::{CAPABILITIES, MASKED_PATHS, READ_ONLY_PATHS},
};
use rustix::{
    fs::{CWD, Mode, OFlags},
    mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount},
    thread::{CapabilitySet, CapabilitySets},
};
use serde::{Deserialize, Serialize};

use super::{
    failure::{Failure, Stage},
    file_systems, loopback,
    mounts::{self, NO_DEV, NO_EXEC, NO_SUID, READ_ONLY},
    root, seccomp, stage, sys,
};

/// Longest message from the child to the keeper.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4_096;

/// What the child tells the keeper. When it has become the guest the socket closes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// Something that does not hold.
    Note(String),
    /// All done, where the end of the channel does not tell.
    Ready,
    /// The end of it.
    Failed {
        /// Step.
        stage: String,
        /// Why.
        reason: String,
    },
}

/// What the child takes along.
pub(crate) struct Plan {
    listener: OwnedFd,
    /// Files of the old control groups in which the child enrolls itself.
    enrollments: Vec<(String, OwnedFd)>,
    /// Compiled beforehand, so that a failure costs nothing.
    filter: Vec<libc::sock_filter>,
}

impl Plan {
    /// Prepares what does not need the namespaces.
    pub(crate) fn new(spec: &KeeperSpec, listener: OwnedFd, enrollments: Vec<(String, OwnedFd)>) -> Self {
        let filter = if spec.guard == Guard::Full { seccomp::program() } else { Vec::new() };
        Self { listener, enrollments, filter }
    }
}

/// Becomes the guest, or tells why not and ends.
pub(crate) fn enter(spec: &KeeperSpec, plan: Plan, socket: OwnedFd) -> ! {
    let mut go = [0; 2];
    // Nothing to read: the keeper is gone, and nobody would hold this sandbox.
    if rustix::io::read(&socket, &mut go).unwrap_or(0) == 0 {
        std::process::exit(1);
    }
    let Err(failure) = assemble(spec, &plan, socket.as_fd());
    let mut reason = failure.reason;
    reason.truncate(reason.floor_char_boundary(MESSAGE_BYTES_MAX / 8));
    send(socket.as_fd(), &Message::Failed { stage: failure.stage.to_owned(), reason });
    std::process::exit(1);
}

fn send(socket: BorrowedFd<'_>, message: &Message) {
    let text = serde_json::to_vec(message).unwrap_or_default();
    let _ = rustix::io::write(socket, &text);
}

fn assemble(spec: &KeeperSpec, plan: &Plan, socket: BorrowedFd<'_>) -> Result<Infallible, Failure> {
    let full = spec.guard == Guard::Full;
    let note = |text: String| send(socket, &Message::Note(text));
    let _ = rustix::process::setsid();
    sys::reset_signals();
    for (purpose, tasks) in &plan.enrollments {
        // "0" is the writer itself. Alone it may move without the lock that every fork of the machine takes, which the keeper
        // could not avoid: that one waits for a grace period, tens of milliseconds on a busy machine.
        if let Err(error) = rustix::io::write(tasks, b"0") {
            note(format!("{purpose} does not hold: {error}"));
        }
    }
    if full {
        let single = matches!(spec.ids, IdMap::Single { .. });
        sys::become_root(single).stage("become root inside")?;
    }
    sys::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP).stage("mount namespace")?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .stage("mount namespace")?;
    let taken = Taken::take(spec, &note)?;

    mount_overlay(spec).stage("root file system")?;
    let devices = open_devices().stage("devices")?;
    let workspace = stage::open_dir(CWD, "w").stage("workspace")?;
    let binds: Vec<OwnedFd> = (0..spec.binds.len())
        .map(|index| stage::open_dir(CWD, &format!("b{index}")))
        .collect::<Result<_, _>>()
        .stage("host folders")?;
    let sources = spec.mounts.iter().enumerate();
    let sources: Vec<OwnedFd> = sources
        .map(|(index, mount)| stage::open_dir(CWD, &file_systems::staged(index, mount)))
        .collect::<Result<_, _>>()
        .stage("file systems")?;
    let host = stage::open_dir(CWD, "/").stage("pivot")?;
    rustix::process::chdir("r").stage("pivot")?;
    rustix::process::pivot_root(".", ".").stage("pivot")?;

    // From here on every absolute name is one of the sandbox.
    mount_system(spec, &note).stage("system file systems")?;
    make_devices(&devices, &note).stage("devices")?;
    for (bind, source) in spec.binds.iter().zip(&binds) {
        mounts::make_dir(&bind.target).stage("host folders")?;
        mounts::bind(source.as_fd(), &bind.target, 0).stage("host folders")?;
    }
    mounts::make_dir("/mnt/workspace").stage("workspace")?;
    mounts::bind(workspace.as_fd(), "/mnt/workspace", 0).stage("workspace")?;
    if !spec.ids.is_privileged() {
        root::own_by_agent("/mnt/workspace", spec.agent_id).stage("workspace")?;
    }
    for (mount, source) in spec.mounts.iter().zip(&sources) {
        mounts::make_dir(&mount.target).stage("file systems")?;
        let flags = if mount.read_only { READ_ONLY } else { 0 };
        mounts::bind(source.as_fd(), &mount.target, flags).stage("file systems")?;
    }
    root::prepare_account(spec.add_account, spec.agent_id).stage("account")?;
    if full {
        mask(&devices).stage("masks")?;
    }
    loopback::bring_up().stage("network")?;
    rustix::system::sethostname(b"localhost").stage("network")?;

    rustix::process::fchdir(&host).stage("leave the host")?;
    unmount(".", UnmountFlags::DETACH).stage("leave the host")?;
    rustix::process::chdir("/").stage("leave the host")?;
    drop((host, binds, workspace, sources, devices));

    set_limits(spec, &note);
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .stage("leave the host")?;
    rustix::stdio::dup2_stdin(&null).stage("leave the host")?;
    rustix::stdio::dup2_stdout(&null).stage("leave the host")?;
    rustix::stdio::dup2_stderr(&null).stage("leave the host")?;

    if full {
        drop_capabilities().stage("capabilities")?;
        rustix::thread::set_no_new_privs(true).stage("system-call filter")?;
        sys::install_filter(&plan.filter).stage("system-call filter")?;
    }
    let arguments = ["clamshell-guest", "guest", &spec.guest_config];
    let error = sys::exec(taken.program.as_fd(), plan.listener.as_fd(), taken.shells.as_fd(), &arguments);
    Err(Failure::new("start the guest", error))
}

/// Descriptors from the host that the guest needs, each through a mount of its own: `..` leads
/// nowhere from them, and the program cannot be written through `/proc/self/exe`.
struct Taken {
    program: OwnedFd,
    shells: OwnedFd,
}

impl Taken {
    fn take(spec: &KeeperSpec, note: &dyn Fn(String)) -> Result<Self, Failure> {
        if !spec.ids.is_privileged() {
            // Opened here, because mounts are only copied from one's own mount namespace.
            let session = stage::open_dir(CWD, &spec.session_dir).stage("staging folder")?;
            stage::build(spec, session.as_fd()).stage("staging folder")?;
            let mut notes = Vec::new();
            file_systems::attach(spec, &mut notes)?;
            notes.into_iter().for_each(note);
        }
        let program = mounts::copy(CWD, "x", 0).stage("staging folder")?;
        Ok(Self { program, shells: open_shells(CWD, "s").stage("staging folder")? })
    }
}

/// The folder of shell logs through a mount of its own.
pub(crate) fn open_shells(dir: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let tree = mounts::copy(dir, name, NO_SUID | NO_DEV | NO_EXEC)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(&tree, ".", flags, Mode::empty())?)
}

/// Mounts the layers and the session's own folder at `r`. Layers are named through descriptors, so that
/// `/proc/mounts` inside tells nothing about the host's folders.
pub(crate) fn mount_overlay(spec: &KeeperSpec) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let layers: Vec<OwnedFd> = (0..spec.layers.len())
        .map(|index| stage::open_dir(CWD, &format!("l{index}")))
        .collect::<Result<_, _>>()?;
    let names: Vec<String> =
        layers.iter().map(|layer| format!("/proc/self/fd/{}", layer.as_raw_fd())).collect();
    let upper = stage::open_dir(CWD, "u/fs")?;
    let work = stage::open_dir(CWD, "u/work")?;
    let options = format!(
        "userxattr,lowerdir={},upperdir=/proc/self/fd/{},workdir=/proc/self/fd/{}",
        names.join(":"),
        upper.as_raw_fd(),
        work.as_raw_fd()
    );
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    // The layer is thrown away after a crash of the machine, so nothing of it needs to be synced.
    mounts::new("overlay", "r", flags, &format!("{options},volatile"))
        .or_else(|_| mounts::new("overlay", "r", flags, &options))
}

fn mount_system(spec: &KeeperSpec, note: &dyn Fn(String)) -> io::Result<()> {
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for path in ["/proc", "/sys", "/dev", "/tmp", "/run"] {
        mounts::make_dir(path)?;
    }
    mounts::new("proc", "/proc", plain, "")?;
    if let Err(error) = mounts::new("sysfs", "/sys", plain | MountFlags::RDONLY, "") {
        note(format!("no /sys: {error}"));
    }
    let devices = MountFlags::NOSUID | MountFlags::NOEXEC;
    mounts::new("tmpfs", "/dev", devices, "mode=755,size=64k,nr_inodes=256")?;
    // Memory file systems count against the memory limit, and no killing frees what is in them: all of them together
    // leave three sixteenths of it to the guest and to whoever tidies up. `oci/bundle.rs` of the sandbox crate has the
    // same numbers.
    let half = spec.memory_bytes / 2;
    let quarter = spec.memory_bytes / 4;
    let sixteenth = spec.memory_bytes / 16;
    let open = MountFlags::NOSUID | MountFlags::NODEV;
    mounts::new("tmpfs", "/tmp", open, &format!("mode=1777,size={half}"))?;
    mounts::new("tmpfs", "/run", open, &format!("mode=755,size={sixteenth}"))?;
    std::fs::create_dir("/dev/shm")?;
    mounts::new("tmpfs", "/dev/shm", open, &format!("mode=1777,size={quarter}"))?;
    std::fs::create_dir("/dev/mqueue")?;
    if let Err(error) = mounts::new("mqueue", "/dev/mqueue", plain, "") {
        note(format!("no /dev/mqueue: {error}"));
    }
    std::fs::create_dir("/dev/pts")?;
    let terminals = MountFlags::NOSUID | MountFlags::NOEXEC;
    // The machine has 4096 terminals for everybody; a session has ten shells.
    mounts::new("devpts", "/dev/pts", terminals, "newinstance,ptmxmode=0666,mode=0620,max=256,gid=5").or_else(
        |_| mounts::new("devpts", "/dev/pts", terminals, "newinstance,ptmxmode=0666,mode=0620,max=256"),
    )
}

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

fn open_devices() -> io::Result<Vec<OwnedFd>> {
    DEVICES
        .iter()
        .map(|name| {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok(rustix::fs::open(format!("/dev/{name}"), flags, Mode::empty())?)
        })
        .collect()
}

fn make_devices(devices: &[OwnedFd], note: &dyn Fn(String)) -> io::Result<()> {
    for (name, device) in DEVICES.iter().zip(devices) {
        let path = format!("/dev/{name}");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        drop(rustix::fs::open(&path, flags, Mode::from_raw_mode(0o666))?);
        mounts::bind(device.as_fd(), &path, 0)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        if let Err(error) = std::os::unix::fs::symlink(target, format!("/dev/{name}")) {
            note(format!("no /dev/{name}: {error}"));
        }
    }
    Ok(())
}

/// Hides what tells about the machine, and makes read-only what could change it.
fn mask(devices: &[OwnedFd]) -> io::Result<()> {
    let Some(null) = devices.first() else { return Ok(()) };
    for path in MASKED_PATHS {
        match rustix::fs::statat(CWD, *path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if stat.st_mode & libc::S_IFMT == libc::S_IFDIR => {
                let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
                mounts::new("tmpfs", path, flags, "mode=555,size=4k,nr_inodes=2")?;
            }
            Ok(_) => mounts::bind(null.as_fd(), path, 0)?,
            Err(_) => {}
        }
    }
    for path in READ_ONLY_PATHS {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Ok(part) = rustix::fs::open(*path, flags, Mode::empty()) {
            mounts::bind(part.as_fd(), path, READ_ONLY | NO_SUID | NO_DEV | NO_EXEC)?;
        }
    }
    Ok(())
}

/// The limit of open files, or what there is to give.
pub(crate) fn open_files_max(spec: &KeeperSpec) -> u64 {
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    spec.open_files_max.min(hard.unwrap_or(u64::MAX))
}

fn set_limits(spec: &KeeperSpec, note: &dyn Fn(String)) {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let files = Some(open_files_max(spec));
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: files, maximum: files }) {
        note(format!("open file limit does not hold: {error}"));
    }
    // One byte, not none: a dump that goes to a program is held back by exactly this value (core(5)), and no file is made for it either.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(1), maximum: Some(1) });
    if let Some(processes) = spec.processes_max {
        let limit = Rlimit { current: Some(processes), maximum: Some(processes) };
        if let Err(error) = setrlimit(Resource::Nproc, limit) {
            note(format!("process limit does not hold: {error}"));
        }
    }
}

/// Leaves root inside with what ordinary work needs, and nothing that a child could inherit.
pub(crate) fn drop_capabilities() -> rustix::io::Result<()> {
    let mut keep = CapabilitySet::empty();
    for name in CAPABILITIES {
        if let Some(flag) = name.strip_prefix("CAP_").and_then(CapabilitySet::from_name) {
            keep |= flag;
        }
    }
    for capability in 0..64u32 {
        if keep.bits() & (1 << capability) == 0
            && !sys::drop_from_bounding_set(capability).map_err(|_| rustix::io::Errno::PERM)?
        {
            break;
        }
    }
    let _ = rustix::thread::clear_ambient_capability_set();
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() },
    )
}
