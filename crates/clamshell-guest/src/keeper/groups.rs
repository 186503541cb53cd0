//! Control groups of one sandbox: made, filled, removed.
//!
//! The server says which folders and which settings; which hierarchy a machine has is its business.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::{Duration, Instant},
};

use clamshell_protocol::{GroupSpec, cpu_stat_usage_us};
use rustix::fs::{Mode, OFlags};

/// How long a killed group may take to become empty. Processes in uninterruptible disk waits take longest.
const EMPTY_WITHIN: Duration = Duration::from_secs(5);

/// The groups that could be made.
#[derive(Debug)]
pub(crate) struct Groups {
    made: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    path: String,
    purpose: String,
    folder: OwnedFd,
    unified: bool,
}

impl Groups {
    /// Makes the groups. What cannot be had becomes a note.
    pub(crate) fn make(specs: &[GroupSpec], notes: &mut Vec<String>) -> Self {
        let mut made = Vec::new();
        for spec in specs {
            match Group::make(spec, notes) {
                Ok(group) => made.push(group),
                Err(error) => notes.push(format!("no control group for {}: {error}", spec.purpose)),
            }
        }
        Self { made }
    }

    /// The unified group, for starting a process in it.
    pub(crate) fn unified(&self) -> Option<BorrowedFd<'_>> {
        self.made.iter().find(|group| group.unified).map(|group| group.folder.as_fd())
    }

    /// What each group but the unified one is for, and its file in which a process enrolls itself. The kernel checks the rights of who
    /// opened it, not of who writes.
    pub(crate) fn enrollments(&self, notes: &mut Vec<String>) -> Vec<(String, OwnedFd)> {
        self.open_files(|group| (!group.unified).then_some("tasks"), notes)
    }

    /// The same for all of them, for a program that is not cloned into any.
    pub(crate) fn all_enrollments(&self, notes: &mut Vec<String>) -> Vec<(String, OwnedFd)> {
        self.open_files(|group| Some(if group.unified { "cgroup.procs" } else { "tasks" }), notes)
    }

    fn open_files(
        &self,
        name: impl Fn(&Group) -> Option<&'static str>,
        notes: &mut Vec<String>,
    ) -> Vec<(String, OwnedFd)> {
        let mut files = Vec::new();
        for (group, name) in self.made.iter().filter_map(|group| Some((group, name(group)?))) {
            let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(&group.folder, name, flags, Mode::empty()) {
                Ok(file) => files.push((group.purpose.clone(), file)),
                Err(error) => notes.push(format!("{} does not hold: {error}", group.purpose)),
            }
        }
        files
    }

    /// Puts another process into every group but the unified one.
    pub(crate) fn add_process(&self, pid: u32, notes: &mut Vec<String>) {
        for group in self.made.iter().filter(|group| !group.unified) {
            if let Err(error) = write_at(group.folder.as_fd(), "cgroup.procs", &pid.to_string()) {
                notes.push(format!("{} does not hold: {error}", group.purpose));
            }
        }
    }

    /// Kills every process that is left in the unified group.
    pub(crate) fn kill(&self) {
        if let Some(folder) = self.unified() {
            let _ = write_at(folder, "cgroup.kill", "1");
        }
    }

    /// CPU time of everything that ran in the groups, microseconds.
    pub(crate) fn cpu_usage_us(&self) -> Option<u64> {
        self.made.iter().find_map(|group| {
            let folder = group.folder.as_fd();
            read_at(folder, "cpu.stat").and_then(|text| cpu_stat_usage_us(&text)).or_else(|| {
                read_at(folder, "cpuacct.usage")
                    .and_then(|text| Some(text.trim().parse::<u64>().ok()? / 1000))
            })
        })
    }

    /// Kills what is left and removes the groups.
    pub(crate) fn remove(&self) {
        self.kill();
        let deadline = Instant::now() + EMPTY_WITHIN;
        for group in &self.made {
            while fs::remove_dir(Path::new(&group.path))
                .is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline)
            {
                // The kernel has no event for "removable"; a dead group becomes so within a few milliseconds.
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

impl Group {
    fn make(spec: &GroupSpec, notes: &mut Vec<String>) -> io::Result<Self> {
        match fs::create_dir(&spec.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let folder = rustix::fs::open(
            spec.path.as_str(),
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        for file in &spec.files {
            if let Err(error) = write_at(folder.as_fd(), &file.name, &file.value)
                && file.required
            {
                notes.push(format!("{} does not hold: {}: {error}", spec.purpose, file.name));
            }
        }
        Ok(Self { path: spec.path.clone(), purpose: spec.purpose.clone(), folder, unified: spec.unified })
    }
}

/// A small file of the kernel; `None` when it is not there.
fn read_at(folder: BorrowedFd<'_>, name: &str) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::empty()).ok()?;
    let mut buffer = [0; 1024];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut buffer)).ok()?;
    Some(String::from_utf8_lossy(buffer.get(..length)?).into_owned())
}

fn write_at(folder: BorrowedFd<'_>, name: &str, value: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    // A control file takes a value in one write or not at all.
    rustix::io::write(&file, value.as_bytes())?;
    Ok(())
}
