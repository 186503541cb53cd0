//! Sandboxes made by an OCI runtime: the keeper prepares the root file system, has the runtime create
//! the container, gives it what no bundle can say (limits in our groups, the loopback address, the
//! agent's account), and starts it. Where the runtime has a kernel of its own, the guest does that part
//! itself (`own_kernel.rs`), and the runtime's processes are in our groups from their start.
//!
//! `create` and `start` instead of `run`, so that no runtime process stays behind: the keeper is the
//! subreaper and becomes the parent of the container's first process.

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use clamshell_protocol::{IdMap, KeeperSpec, KeeperState, OciSpec};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{AtFlags, CWD, Mode, OFlags},
    mount::{UnmountFlags, mount_bind_recursive, unmount},
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::{
    failure::{Failure, Stage},
    file_systems,
    groups::Groups,
    hold, ids, inside, loopback, root,
    shares::Shares,
    stage, state, sys,
};

/// What stands for the staging folder in a bundle; only the keeper knows where it is.
const STAGE_WORD: &str = "@stage@";

/// A runtime that takes longer hangs; the slowest one known needs 200 ms on a loaded machine.
const RUNTIME_TIMEOUT_S: i64 = 20;

/// The same for what the guest does before it answers.
const RUNTIME_TIMEOUT_MS: u64 = 10_000;

/// How long a helper of the runtime may live on after the sandbox it served.
const HELPERS_END_WITHIN: Duration = Duration::from_secs(2);

/// Largest bundle description; ours have 30 KiB.
const BUNDLE_BYTES_MAX: u64 = 1 << 20;

/// Folders at which the staging folder may be shown: public on every machine, and of no use to a
/// runtime. Only in the keeper's own mount namespace.
const PUBLIC_PLACES: [&str; 4] = ["/mnt", "/media", "/srv", "/opt"];

/// A container, as the runtime knows it.
#[derive(Debug)]
pub(crate) struct Container {
    oci: OciSpec,
    session_dir: String,
    name: String,
    /// Where the runtime keeps what it knows.
    state: String,
}

/// How one command of the runtime is started.
#[derive(Debug, Default)]
struct Start<'a> {
    /// Descriptors 3 and 4 of the container's first process.
    inherited: Option<(BorrowedFd<'a>, BorrowedFd<'a>)>,
    /// Standard output of the container's first process, instead of none.
    output: Option<OwnedFd>,
    /// Files of control groups that the runtime enrolls itself in.
    enrollments: &'a [(String, OwnedFd)],
}

/// Makes the sandbox; on failure nothing of it is left.
pub(crate) fn start(
    spec: &KeeperSpec,
    oci: &OciSpec,
    folders: (&OwnedFd, &OwnedFd),
    groups: &Groups,
    mut notes: Vec<String>,
) -> Result<(OwnedFd, KeeperState, Container), Failure> {
    let (session, run) = folders;
    let listener = if oci.own_kernel {
        prepare_link(spec, session.as_fd()).stage("guest socket")?;
        None
    } else {
        Some(super::listen(run.as_fd()).stage("guest socket")?)
    };
    stage::build(spec, session.as_fd()).stage("staging folder")?;
    file_systems::attach(spec, &mut notes)?;
    map_layers(spec)?;
    inside::mount_overlay(spec).stage("root file system")?;
    let place = show_stage(spec)?;
    write_bundle(run.as_fd(), place).stage("bundle")?;
    let inherited = match listener {
        Some(listener) => Some((listener, inside::open_shells(CWD, "s").stage("session folder")?)),
        None => None,
    };
    // The container's first process loses its parent, the runtime, and must come to us.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).stage("runtime")?;

    let session_dir = spec.session_dir.clone();
    // The runtime puts a socket there, whose name must be short.
    let state = if oci.own_kernel { format!("{place}/o") } else { format!("{session_dir}/run/oci") };
    let container = Container { oci: oci.clone(), session_dir, name: spec.name.clone(), state };
    let made = match &inherited {
        Some((listener, shells)) => {
            container.make(spec, run, (listener.as_fd(), shells.as_fd()), groups, &mut notes)
        }
        None => container.make_own_kernel(run, groups, &mut notes),
    };
    match made {
        Ok((pidfd, mut state)) => {
            state.degraded = notes;
            state::write(run.as_fd(), &state).stage("state file")?;
            Ok((pidfd, state, container))
        }
        Err(failure) => {
            groups.kill();
            container.forget();
            Err(failure)
        }
    }
}

impl Container {
    fn make(
        &self,
        spec: &KeeperSpec,
        run: &OwnedFd,
        inherited: (BorrowedFd<'_>, BorrowedFd<'_>),
        groups: &Groups,
        notes: &mut Vec<String>,
    ) -> Result<(OwnedFd, KeeperState), Failure> {
        let (pid, pidfd) = self.create(Start { inherited: Some(inherited), ..Start::default() })?;
        groups.add_process(pid, notes);
        if let Some(unified) = groups.unified() {
            join(unified, pid).stage("control group")?;
        }
        finish_inside(spec, pidfd.as_fd())?;
        let state = write_state(run, pid, notes)?;
        self.run(&["start", &self.name], Start::default())?;
        if hold::has_ended(pidfd.as_fd()) {
            return Err(Failure::new("start the guest", "it ended without a word"));
        }
        Ok((pidfd, state))
    }

    fn make_own_kernel(
        &self,
        run: &OwnedFd,
        groups: &Groups,
        notes: &mut Vec<String>,
    ) -> Result<(OwnedFd, KeeperState), Failure> {
        let (words, mouth) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).stage("runtime")?;
        let enrollments = groups.all_enrollments(notes);
        let (pid, pidfd) =
            self.create(Start { inherited: None, output: Some(mouth), enrollments: &enrollments })?;
        let mut state = write_state(run, pid, notes)?;
        self.run(&["start", &self.name], Start::default())?;
        file_systems::hear(&words, notes, RUNTIME_TIMEOUT_MS, "start the guest")?;
        show_socket(run.as_fd())?;
        state.degraded.clone_from(notes);
        Ok((pidfd, state))
    }

    /// Creates the container; its first process.
    fn create(&self, start: Start<'_>) -> Result<(u32, OwnedFd), Failure> {
        let path = |name: &str| format!("{}/run/{name}", self.session_dir);
        let bundle = path("bundle");
        let pid_file = path("oci.pid");
        let mut arguments = vec!["create", "--bundle", &bundle, "--pid-file", &pid_file];
        if start.inherited.is_some() {
            arguments.extend(["--preserve-fds", "2"]);
        }
        arguments.push(&self.name);
        self.run(&arguments, start)?;
        let text = std::fs::read_to_string(&pid_file).stage("runtime")?;
        let pid: u32 = text.trim().parse().stage("runtime")?;
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let raw = raw.ok_or_else(|| Failure::new("runtime", "it names no process"))?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).stage("runtime")?;
        hold::take_signals();
        Ok((pid, pidfd))
    }

    /// Lets go of the container, whose first process has ended. Best effort: the caller removes the rest.
    pub(crate) fn delete(&self) {
        if self.oci.own_kernel {
            // All that the runtime has besides processes are files in `run/`. Its helper ends with the sandbox.
            hold::reap_all(HELPERS_END_WITHIN);
        } else {
            self.forget();
        }
    }

    /// Has the runtime kill and forget the container.
    fn forget(&self) {
        if self.oci.own_kernel {
            // It would wait for what only we can reap.
            hold::reap_all(HELPERS_END_WITHIN);
        }
        let _ = self.run(&["delete", "--force", &self.name], Start::default());
        remove_groups(&self.name);
    }

    fn run(&self, arguments: &[&str], start: Start<'_>) -> Result<(), Failure> {
        let Start { inherited, output, enrollments } = start;
        let log = format!("{}/run/runtime.log", self.session_dir);
        let mut command = Command::new(&self.oci.runtime);
        command
            .args(&self.oci.options)
            .arg("--root")
            .arg(&self.state)
            .args(["--log", &log])
            .args(arguments)
            .env_clear()
            .envs(&self.oci.environment)
            .current_dir("/")
            // The container's first process inherits these, so they must lead nowhere.
            .stdin(Stdio::null())
            .stdout(output.map_or_else(Stdio::null, Stdio::from))
            .stderr(Stdio::null());
        let private_cgroup2 = self.oci.private_cgroup2;
        let inherited = inherited.map(|(third, fourth)| (third.as_raw_fd(), fourth.as_raw_fd()));
        let enrollments: Vec<_> = enrollments
            .iter()
            .map(|(_, tasks)| tasks.try_clone())
            .collect::<Result<_, _>>()
            .stage("control group")?;
        // SAFETY: the keeper has one thread, so the copy of it may run any code; the descriptors stay
        // open until the runtime was started.
        unsafe {
            command.pre_exec(move || {
                if private_cgroup2 {
                    show_cgroup2()?;
                }
                for tasks in &enrollments {
                    // "0" is the writer itself. What cannot be limited was noted when the group was made.
                    let _ = rustix::io::write(tasks, b"0");
                }
                if let Some((third, fourth)) = inherited {
                    sys::place_descriptors(third, fourth)?;
                }
                Ok(())
            });
        }
        let mut child = command.spawn().stage("runtime")?;
        let ended = wait_for(&child);
        if !ended {
            let _ = child.kill();
        }
        let status = child.wait().stage("runtime")?;
        if !ended {
            return Err(Failure::new("runtime", format!("no answer within {RUNTIME_TIMEOUT_S} s")));
        }
        if status.success() {
            return Ok(());
        }
        let verb = arguments.first().copied().unwrap_or_default();
        Err(Failure::new("runtime", format!("{verb}: {status}: {}", last_words(&log))))
    }
}

/// Makes the folder for the guest's socket, which belongs to the sandbox's root, and the one of the runtime's state, which
/// does not.
fn prepare_link(spec: &KeeperSpec, session: BorrowedFd<'_>) -> rustix::io::Result<()> {
    for path in [stage::LINK, stage::RUNTIME_STATE] {
        rustix::fs::mkdirat(session, path, Mode::from_raw_mode(0o700))?;
    }
    if let IdMap::Range { base, .. } = spec.ids {
        let folder = stage::open_dir(session, stage::LINK)?;
        let (uid, gid) = (rustix::fs::Uid::from_raw(base), rustix::fs::Gid::from_raw(base));
        rustix::fs::chownat(&folder, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    }
    Ok(())
}

/// Moves the guest's socket to where the server looks for it. The folder it comes from is the sandbox's: so it must be a
/// socket and nothing that leads elsewhere, and the server never looks into that folder.
fn show_socket(run: BorrowedFd<'_>) -> Result<(), Failure> {
    rustix::fs::renameat(run, "link/guest.sock", run, "guest.sock").stage("guest socket")?;
    let found = rustix::fs::statat(run, "guest.sock", AtFlags::SYMLINK_NOFOLLOW).stage("guest socket")?;
    if found.st_mode & libc::S_IFMT == libc::S_IFSOCK {
        return Ok(());
    }
    let _ = rustix::fs::unlinkat(run, "guest.sock", AtFlags::empty());
    Err(Failure::new("guest socket", "it is none"))
}

/// Before the guest may run: whoever kills this keeper from here on leaves a sandbox that can be found.
fn write_state(run: &OwnedFd, pid: u32, notes: &[String]) -> Result<KeeperState, Failure> {
    let state = KeeperState {
        keeper: state::process_ref(std::process::id()).stage("process table")?,
        guest: state::process_ref(pid).stage("process table")?,
        boot_id: state::boot_id(),
        started_at_ms: state::now_ms(),
        degraded: notes.to_vec(),
        exit: None,
        cpu_usage_us: None,
    };
    state::write(run.as_fd(), &state).stage("state file")?;
    Ok(state)
}

/// Removes the runtime's own groups, which some runtimes forget after a failure. They are empty: the
/// container's processes are in ours.
fn remove_groups(name: &str) {
    let group = format!("clamshell-oci-{name}");
    let top = Path::new("/sys/fs/cgroup");
    let _ = std::fs::remove_dir(top.join(&group));
    // One hierarchy per controller, on machines of the older kind.
    for hierarchy in std::fs::read_dir(top).into_iter().flatten().flatten() {
        let _ = std::fs::remove_dir(hierarchy.path().join(&group));
    }
}

fn wait_for(child: &std::process::Child) -> bool {
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return false };
    // It is our own child and not reaped, so the id cannot be anybody else's.
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    let limit = Timespec { tv_sec: RUNTIME_TIMEOUT_S, tv_nsec: 0 };
    matches!(rustix::io::retry_on_intr(|| poll(&mut fds, Some(&limit))), Ok(1..))
}

/// End of the runtime's log, for the report.
fn last_words(log: &str) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    line.chars().take(500).collect()
}

/// In a mount namespace of the runtime's own: `crun` refuses machines with both kinds of groups.
fn show_cgroup2() -> io::Result<()> {
    sys::unshare(libc::CLONE_NEWNS)?;
    super::mounts::new("cgroup2", "/sys/fs/cgroup", rustix::mount::MountFlags::empty(), "")
}

/// Attaches the layers with ids mapped as the container's will be: through a user namespace that
/// lives just for that.
fn map_layers(spec: &KeeperSpec) -> Result<(), Failure> {
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).stage("layers")?;
    let Some((pid, pidfd)) = sys::clone3(libc::CLONE_NEWUSER, None).stage("new namespaces")? else {
        drop(theirs);
        // Ends when the keeper closes its side.
        let _ = rustix::io::read(&ours, &mut [0; 1]);
        std::process::exit(0);
    };
    let mapped = ids::write_maps(&spec.ids, pid).and_then(|()| stage::add_layers(spec, pid).map(drop));
    drop(theirs);
    let _ = hold::reap(pidfd.as_fd());
    mapped
}

/// Shows the staging folder where the container's root may walk to.
fn show_stage(spec: &KeeperSpec) -> Result<&'static str, Failure> {
    let is_free = |place: &&&str| {
        Path::new(place).is_dir()
            && [&spec.session_dir, &spec.binary]
                .iter()
                .chain(spec.oci.iter().map(|oci| &oci.runtime).collect::<Vec<_>>().iter())
                .all(|used| !Path::new(used.as_str()).starts_with(place))
    };
    let place = PUBLIC_PLACES.iter().find(is_free);
    let place =
        place.ok_or_else(|| Failure::new("staging folder", "none of /mnt, /media, /srv, /opt is free"))?;
    mount_bind_recursive(".", *place).stage("staging folder")?;
    // The runtime needs the session folder, which the staging folder covers until now.
    rustix::process::chdir(*place).stage("staging folder")?;
    unmount(&spec.session_dir, UnmountFlags::DETACH).stage("staging folder")?;
    Ok(place)
}

/// Puts the staging folder's place into the bundle.
fn write_bundle(run: BorrowedFd<'_>, place: &str) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(run, "bundle/config.json", flags, Mode::empty())?;
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(std::fs::File::from(file), BUNDLE_BYTES_MAX), &mut text)?;
    let text = text.replace(STAGE_WORD, place);
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(run, "bundle/config.json", flags, Mode::empty())?;
    io::Write::write_all(&mut std::fs::File::from(file), text.as_bytes())
}

/// Moves the container's first and only process into the group.
fn join(group: BorrowedFd<'_>, pid: u32) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(group, "cgroup.procs", flags, Mode::empty())?;
    rustix::io::write(&file, pid.to_string().as_bytes())?;
    Ok(())
}

/// Sets up what the guest has no right to: a short-lived process goes in for it, with the rights of
/// the container's root and none of the machine's.
fn finish_inside(spec: &KeeperSpec, container: BorrowedFd<'_>) -> Result<(), Failure> {
    let (words, mouth) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).stage("network")?;
    let Some((_, pidfd)) = sys::clone3(0, None).stage("network")? else {
        drop(words);
        let code = match enter(spec, container) {
            Ok(()) => 0,
            Err(failure) => {
                let _ = rustix::io::write(&mouth, failure.reason.as_bytes());
                1
            }
        };
        std::process::exit(code);
    };
    drop(mouth);
    let mut said = [0; 512];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(&words, &mut said)).unwrap_or(0);
    match hold::reap(pidfd.as_fd()) {
        Some(0) => Ok(()),
        _ => Err(Failure::new("network", String::from_utf8_lossy(&said[..length]))),
    }
}

fn enter(spec: &KeeperSpec, container: BorrowedFd<'_>) -> Result<(), Failure> {
    let shares = Shares::of_machine();
    // One call: the kernel joins the user namespace first and the others with its rights.
    sys::join_namespaces(container, libc::CLONE_NEWUSER | libc::CLONE_NEWNET | libc::CLONE_NEWNS)
        .map_err(|error| Failure::new("network", format!("join the namespaces: {error}")))?;
    let single = matches!(spec.ids, IdMap::Single { .. });
    sys::become_root(single)
        .map_err(|error| Failure::new("network", format!("become root inside: {error}")))?;
    shares
        .map_or(Err(rustix::io::Errno::NOENT), |shares| shares.apply())
        .map_err(|error| Failure::new("file watches", format!("bounds of file watches: {error}")))?;
    loopback::bring_up().map_err(|error| Failure::new("network", format!("loopback: {error}")))?;
    root::prepare_account(spec.add_account, spec.agent_id)
        .map_err(|error| Failure::new("account", format!("account: {error}")))
}
