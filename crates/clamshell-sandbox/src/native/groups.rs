//! Which control groups this machine has, and what a sandbox's look like.
//!
//! The unified hierarchy, where there is one, gives every sandbox a group that can be killed at once. Limits are
//! set there or in the old per-controller hierarchies, as found; a machine may have both. Groups are
//! made below this process's own, so that whatever limits the server limits its sandboxes too. No
//! foreign process is ever moved.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clamshell_domain::{Limits, SandboxStats, StorageId};
use clamshell_protocol::{GroupFile, GroupSpec, cpu_stat_usage_us};

/// Folder of all sandboxes in a hierarchy.
const PARENT: &str = "clamshell";

/// Controllers that limits need.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// How long the kernel may take to let go of a killed group.
const EMPTY_WITHIN: Duration = Duration::from_secs(5);

/// Parents of the sandboxes' groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// In the unified hierarchy.
    unified: Option<PathBuf>,
    /// Controllers that work in it.
    unified_controllers: Vec<String>,
    /// Per controller in the old hierarchies.
    old: BTreeMap<String, PathBuf>,
    /// Why something is missing.
    missing: Vec<String>,
}

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    /// Controllers of an old one; `None` for the unified one.
    controllers: Option<Vec<String>>,
    /// Group that is mounted.
    root: String,
    mount_point: PathBuf,
}

impl Layout {
    /// Looks at the machine and makes the parents.
    pub(super) fn detect() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mut layout = Self::default();
        for hierarchy in hierarchies(&mounts) {
            let own = own_group(&own, hierarchy.controllers.as_deref());
            match &hierarchy.controllers {
                None => layout.add_unified(&own_folder(&hierarchy, &own)),
                Some(controllers) => {
                    for controller in controllers.iter().filter(|name| CONTROLLERS.contains(&name.as_str())) {
                        layout.add_old(controller, &own_folder(&hierarchy, &own));
                    }
                }
            }
        }
        layout
    }

    fn add_unified(&mut self, own: &Path) {
        if let Err(error) = enable_controllers(own) {
            self.missing.push(format!("control groups cannot be divided here: {error}"));
        }
        let parent = own.join(PARENT);
        if let Err(error) = make_dir(&parent) {
            self.missing.push(format!("no unified control group: {error}"));
            return;
        }
        let _ = enable_controllers(&parent);
        let enabled = fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap_or_default();
        self.unified_controllers = enabled.split_ascii_whitespace().map(str::to_owned).collect();
        self.unified = Some(parent);
    }

    fn add_old(&mut self, controller: &str, own: &Path) {
        let parent = own.join(PARENT);
        match make_dir(&parent) {
            Ok(()) => drop(self.old.insert(controller.to_owned(), parent)),
            Err(error) => self.missing.push(format!("no control group for {controller}: {error}")),
        }
    }

    /// Whether a controller can be used.
    pub(super) fn has(&self, controller: &str) -> bool {
        self.unified_controllers.iter().any(|name| name == controller) || self.old.contains_key(controller)
    }

    /// Whether a group counts processes.
    pub(super) fn limits_pids(&self) -> bool {
        self.has("pids")
    }

    /// Where a controller is, for the user.
    pub(super) fn place(&self, controller: &str) -> Option<String> {
        if self.unified_controllers.iter().any(|name| name == controller) {
            return Some("control groups, version 2".to_owned());
        }
        self.old.contains_key(controller).then(|| "control groups, version 1".to_owned())
    }

    /// Whether a sandbox can be killed as a whole.
    pub(super) fn has_kill(&self) -> bool {
        self.unified.as_ref().is_some_and(|parent| parent.join("cgroup.kill").exists())
    }

    /// What does not hold.
    pub(super) fn notes(&self) -> Vec<String> {
        let lacking = CONTROLLERS.iter().filter(|controller| !self.has(controller));
        let lacking = lacking.map(|controller| format!("no {controller} limit: no control group for it"));
        self.missing.iter().cloned().chain(lacking).collect()
    }

    /// Groups of one sandbox.
    pub(super) fn groups(&self, name: &StorageId, limits: &Limits) -> Vec<GroupSpec> {
        let unified = self.unified.iter().map(|parent| GroupSpec {
            purpose: "the sandbox as a whole".to_owned(),
            path: text(&parent.join(name.as_str())),
            unified: true,
            files: self.unified_controllers.iter().flat_map(|name| unified_files(name, limits)).collect(),
        });
        let old = self.old.iter().filter(|(controller, _)| !self.unified_controllers.contains(controller));
        let old = old.map(|(controller, parent)| GroupSpec {
            purpose: format!("{controller} limit"),
            path: text(&parent.join(name.as_str())),
            unified: false,
            files: old_files(controller, limits),
        });
        unified.chain(old).collect()
    }

    fn folders<'a>(&'a self, name: &'a str) -> impl Iterator<Item = PathBuf> + 'a {
        self.unified.iter().chain(self.old.values()).map(move |parent| parent.join(name))
    }

    /// Kills every process of a sandbox, where the kernel can do that at once.
    pub(super) fn kill(&self, name: &StorageId) {
        if let Some(parent) = &self.unified {
            let _ = fs::write(parent.join(name.as_str()).join("cgroup.kill"), "1");
        }
    }

    /// Removes a sandbox's groups; a keeper that was killed has left them.
    pub(super) async fn remove(&self, name: &StorageId) -> io::Result<()> {
        let deadline = Instant::now() + EMPTY_WITHIN;
        for folder in self.folders(name.as_str()) {
            loop {
                match fs::remove_dir(&folder) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                        // No event tells when a group may go; a dead one may within milliseconds.
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Where the CPU time of sandboxes is counted, for the user: in every unified group, whatever controllers it has.
    pub(super) fn counts_cpu(&self) -> Option<&'static str> {
        if self.unified.as_ref().is_some_and(|parent| parent.join("cpu.stat").exists()) {
            return Some("control groups, version 2");
        }
        let old = self.old.get("cpu").is_some_and(|parent| parent.join("cpuacct.usage").exists());
        old.then_some("control groups, version 1")
    }

    /// What a sandbox uses.
    pub(super) fn stats(&self, name: &str) -> SandboxStats {
        let unified = |file: &str| fs::read_to_string(self.unified.as_ref()?.join(name).join(file)).ok();
        let old = |controller: &str, file: &str| {
            fs::read_to_string(self.old.get(controller)?.join(name).join(file)).ok()
        };
        let number = |text: String| text.trim().parse::<u64>().ok();
        SandboxStats {
            cpu_usage_us: unified("cpu.stat")
                .and_then(|text| cpu_stat_usage_us(&text))
                .or_else(|| old("cpu", "cpuacct.usage").and_then(number).map(|ns| ns / 1000)),
            memory_bytes: unified("memory.current")
                .or_else(|| old("memory", "memory.usage_in_bytes"))
                .and_then(number),
            pids: unified("pids.current").or_else(|| old("pids", "pids.current")).and_then(number),
        }
    }
}

fn unified_files(controller: &str, limits: &Limits) -> Vec<GroupFile> {
    match controller {
        "cpu" => vec![file("cpu.max", format!("{} 100000", quota_us(limits)), true)],
        "memory" => vec![
            file("memory.max", limits.memory_bytes.to_string(), true),
            // Swap is part of the memory limit; a kernel without swap accounting lacks the file.
            file("memory.swap.max", "0".to_owned(), false),
        ],
        "pids" => vec![file("pids.max", limits.pids_max.to_string(), true)],
        _ => Vec::new(),
    }
}

fn old_files(controller: &str, limits: &Limits) -> Vec<GroupFile> {
    match controller {
        "cpu" => vec![
            file("cpu.cfs_period_us", "100000".to_owned(), false),
            file("cpu.cfs_quota_us", quota_us(limits).to_string(), true),
        ],
        "memory" => vec![
            file("memory.limit_in_bytes", limits.memory_bytes.to_string(), true),
            file("memory.memsw.limit_in_bytes", limits.memory_bytes.to_string(), false),
        ],
        "pids" => vec![file("pids.max", limits.pids_max.to_string(), true)],
        _ => Vec::new(),
    }
}

/// Microseconds of CPU per period of 100 ms; the kernel takes no less than 1 ms.
fn quota_us(limits: &Limits) -> u64 {
    (u64::from(limits.cpu_millis) * 100).max(1_000)
}

fn file(name: &str, value: String, required: bool) -> GroupFile {
    GroupFile { name: name.to_owned(), value, required }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn make_dir(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        // Another user's server may have made it.
        _ => Ok(rustix::fs::access(path, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)?),
    }
}

/// Gives the controllers of a group to its children. A group with processes of its own may not (except the
/// root): then this process, if it is alone there, moves itself one level down.
fn enable_controllers(group: &Path) -> io::Result<()> {
    let available = fs::read_to_string(group.join("cgroup.controllers"))?;
    let wanted: Vec<String> = available
        .split_ascii_whitespace()
        .filter(|name| CONTROLLERS.contains(name))
        .map(|name| format!("+{name}"))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let control = group.join("cgroup.subtree_control");
    match fs::write(&control, wanted.join(" ")) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) && alone_in(group) => {
            let own = group.join("server");
            make_dir(&own)?;
            fs::write(own.join("cgroup.procs"), std::process::id().to_string())?;
            fs::write(&control, wanted.join(" "))
        }
        other => other,
    }
}

fn alone_in(group: &Path) -> bool {
    let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    processes.split_ascii_whitespace().eq([std::process::id().to_string()])
}

fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((front, back)) = line.split_once(" - ") else { continue };
        let front: Vec<&str> = front.split(' ').collect();
        let back: Vec<&str> = back.split(' ').collect();
        let (Some(root), Some(mount_point)) = (front.get(3), front.get(4)) else { continue };
        let controllers = match (back.first(), back.get(2)) {
            (Some(&"cgroup2"), _) => None,
            (Some(&"cgroup"), Some(options)) => Some(options.split(',').map(str::to_owned).collect()),
            _ => continue,
        };
        let hierarchy =
            Hierarchy { controllers, root: (*root).to_owned(), mount_point: PathBuf::from(mount_point) };
        // The same one may be mounted twice; the first is the usual place.
        if !found.iter().any(|other| other.controllers == hierarchy.controllers) {
            found.push(hierarchy);
        }
    }
    found
}

/// Path of this process's group in a hierarchy, from `/proc/self/cgroup`.
fn own_group(content: &str, controllers: Option<&[String]>) -> String {
    content
        .lines()
        .find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (id, names, path) = (fields.next()?, fields.next()?, fields.next()?);
            let is_it = match controllers {
                None => id == "0" && names.is_empty(),
                Some(controllers) => {
                    !names.is_empty()
                        && names.split(',').all(|name| controllers.iter().any(|other| other == name))
                }
            };
            is_it.then(|| path.to_owned())
        })
        .unwrap_or_else(|| "/".to_owned())
}

/// Folder of this process's group; the mounted root where that lies outside of what is mounted.
fn own_folder(hierarchy: &Hierarchy, own: &str) -> PathBuf {
    let below = if hierarchy.root == "/" { Some(own) } else { own.strip_prefix(&hierarchy.root) };
    let folder = below.map(|below| hierarchy.mount_point.join(below.trim_start_matches('/')));
    folder.filter(|folder| folder.is_dir()).unwrap_or_else(|| hierarchy.mount_point.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
32 30 0:28 /pod /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
34 30 0:29 / /elsewhere rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn hierarchies_are_read_from_the_mounts() {
        let found = hierarchies(HYBRID);
        assert_eq!(found.len(), 3);
        assert_eq!(found[1].controllers, Some(vec!["rw".to_owned(), "memory".to_owned()]));
        assert_eq!(found[2].controllers, None);
        assert_eq!(found[2].mount_point, Path::new("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn own_group_is_found_per_hierarchy() {
        let content = "4:memory:/pod/a\n1:cpu,cpuacct:/b\n0::/c\n";
        let check = |controllers: Option<&[&str]>, expect: &str| {
            let controllers: Option<Vec<String>> =
                controllers.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            assert_eq!(own_group(content, controllers.as_deref()), expect);
        };
        check(None, "/c");
        check(Some(&["rw", "memory"]), "/pod/a");
        check(Some(&["rw", "cpu", "cpuacct"]), "/b");
        check(Some(&["rw", "pids"]), "/");
    }

    #[test]
    fn cpu_time_is_found_in_either_version_or_is_not_known() {
        let machine = tempfile::tempdir().unwrap();
        let put = |path: &str, content: &str| {
            let path = machine.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        let unified = Layout { unified: Some(machine.path().join("unified")), ..Layout::default() };
        let old = Layout {
            old: BTreeMap::from([("cpu".to_owned(), machine.path().join("cpu"))]),
            ..Layout::default()
        };
        let check = |layout: &Layout, expect: (Option<&str>, Option<u64>)| {
            assert_eq!((layout.counts_cpu(), layout.stats("one").cpu_usage_us), expect);
        };
        check(&unified, (None, None));
        check(&old, (None, None));
        for name in ["", "one/"] {
            put(&format!("unified/{name}cpu.stat"), "usage_usec 12\nuser_usec 3\n");
            // Where the controllers are apart, the limit's has no such file.
            put(&format!("cpu/{name}cpu.stat"), "nr_periods 0\n");
        }
        check(&unified, (Some("control groups, version 2"), Some(12)));
        check(&old, (None, None));
        put("cpu/cpuacct.usage", "99\n");
        put("cpu/one/cpuacct.usage", "1500999\n");
        check(&old, (Some("control groups, version 1"), Some(1500)));
        check(&Layout::default(), (None, None));
    }

    #[test]
    fn limits_become_settings_of_either_version() {
        let limits = Limits { cpu_millis: 1_500, memory_bytes: 1 << 30, pids_max: 64, ..Limits::default() };
        assert_eq!(unified_files("cpu", &limits), [file("cpu.max", "150000 100000".to_owned(), true)]);
        assert_eq!(old_files("cpu", &limits)[1], file("cpu.cfs_quota_us", "150000".to_owned(), true));
        assert_eq!(old_files("pids", &limits), [file("pids.max", "64".to_owned(), true)]);
    }
}
