//! The OCI driver: the same sandbox, its container made by an OCI runtime (`runc`, `crun`, `runsc`) instead
//! of our own code. For sites that want the runtime they know, or another kernel between (gVisor's `runsc`).
//!
//! Everything around the container is the native driver's: images, ids, control groups, the keeper, the
//! state file, the end. The runtime gets a bundle with the same walls in its own words; the keeper
//! prepares the root file system and adds what a bundle cannot say.
//!
//! Needs root. `runsc` cannot take over the guest's listening socket, and nobody outside can enter its
//! sandboxes: there the guest makes the socket in a folder of its own and finishes the set-up from inside.
//! What cannot be made to work (Kata, a `runsc` that is too old) is refused with the reason, not run with less.

mod bundle;
mod runsc;
mod seccomp;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use clamshell_domain::{
    Artifact, BoxFuture, Capability, CreateSandboxError, DestroySandboxError, DriverReport, ImageConfig,
    Limits, Sandbox, SandboxDriver, SandboxSpec, SandboxStats, StorageId,
};
use clamshell_protocol::{IdMap, KeeperSpec, OciSpec};
use tokio::sync::OnceCell;

use self::bundle::{BundleSpec, OwnKernel};
use crate::native::{NativeDriver, NativeOptions};

/// Where runtimes look for their own helpers, and we for them beside the server's `PATH`.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A runtime tells its version at once or hangs.
const VERSION_WITHIN: Duration = Duration::from_secs(5);

/// Control groups of the machine.
const GROUPS: &str = "/sys/fs/cgroup";

/// What an OCI driver needs to know.
#[derive(Debug, Clone)]
pub struct OciOptions {
    /// As for the native driver; the data folder may be the same one.
    pub native: NativeOptions,
    /// The runtime program; `None`: looked up by the driver's name.
    pub program: Option<PathBuf>,
}

impl OciOptions {
    /// The usual ones.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { native: NativeOptions::new(data_dir), program: None }
    }
}

/// Makes sandboxes with an OCI runtime.
#[derive(Debug)]
pub struct OciDriver {
    name: String,
    program: Option<PathBuf>,
    native: NativeDriver,
    /// The runtime's version or why it cannot be used, once asked for.
    version: OnceCell<Result<String, String>>,
}

impl OciDriver {
    /// A driver for the runtime of that name, which is looked up once, now. Where it is missing the driver
    /// exists all the same: [`SandboxDriver::probe`] says what is wrong.
    pub fn new(runtime_name: &str, options: OciOptions) -> Self {
        let search = std::env::var_os("PATH").unwrap_or_default();
        let program = options.program.or_else(|| find_program(runtime_name, &search));
        Self {
            name: runtime_name.to_owned(),
            program,
            native: NativeDriver::new(options.native),
            version: OnceCell::new(),
        }
    }

    /// Path of the runtime, or why there is none that can be used.
    fn program(&self) -> Result<&Path, String> {
        if let Some(reason) = refusal(&self.name) {
            return Err(reason.to_owned());
        }
        self.program.as_deref().ok_or_else(|| format!("no program `{}` on PATH", self.name.escape_default()))
    }

    /// Version of the runtime, or why it cannot be used.
    async fn version(&self) -> Result<String, String> {
        let program = self.program()?;
        let known = self.version.get_or_init(|| async {
            let version = version(program).await?;
            if self.has_own_kernel() { runsc::check(&version).map(|()| version) } else { Ok(version) }
        });
        known.await.clone()
    }

    fn has_own_kernel(&self) -> bool {
        runsc::is_name(&self.name)
    }

    /// Turns the native driver's specification into one for the runtime, and writes the bundle.
    fn adapt(&self, limits: &Limits, keeper_spec: &mut KeeperSpec) -> Result<(), CreateSandboxError> {
        let program = self.program().map_err(|reason| setup("runtime", reason))?;
        let runtime = program.to_str().ok_or_else(|| setup("runtime", "its path is not UTF-8"))?;
        let IdMap::Range { base, count } = keeper_spec.ids else {
            return Err(setup(
                "runtime",
                "OCI runtimes need a server that runs as root; use the native driver",
            ));
        };
        let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
        if hard < keeper_spec.open_files_max {
            keeper_spec.notes.push(format!("open files per process are limited to {hard}"));
        }
        let own_kernel = self.has_own_kernel().then_some(OwnKernel {
            processes_max: limits.pids_max,
            agent_id: keeper_spec.agent_id,
            add_account: keeper_spec.add_account,
        });
        if own_kernel.is_some() {
            keeper_spec.processes_max = None;
            runsc::widen(&mut keeper_spec.groups, limits.pids_max);
        }
        let config = bundle::config(&BundleSpec {
            name: &keeper_spec.name,
            guest_config: &keeper_spec.guest_config,
            host_base: base,
            id_count: count,
            binds: &keeper_spec.binds,
            mounts: &keeper_spec.mounts,
            memory_bytes: keeper_spec.memory_bytes,
            open_files_max: keeper_spec.open_files_max.min(hard),
            processes_max: keeper_spec.processes_max,
            own_kernel,
        });
        write_bundle(Path::new(&keeper_spec.session_dir), &config).map_err(|error| setup("bundle", error))?;
        keeper_spec.oci = Some(OciSpec {
            runtime: runtime.to_owned(),
            options: if own_kernel.is_some() { runsc::options() } else { Vec::new() },
            own_kernel: own_kernel.is_some(),
            private_cgroup2: self.name == "crun"
                && is_hybrid(&fs::read_to_string("/proc/self/mounts").unwrap_or_default()),
            environment: BTreeMap::from([("PATH".to_owned(), SYSTEM_PATH.to_owned())]),
        });
        Ok(())
    }

    async fn report(&self) -> DriverReport {
        let mut report = self.native.probe().await;
        let is_root = rustix::process::geteuid().is_root();
        let version = self.version().await;
        let is_found = version.is_ok();
        let own = [
            Capability {
                name: "runtime".to_owned(),
                available: is_found,
                detail: version.unwrap_or_else(|reason| reason),
                hint: match refusal(&self.name) {
                    _ if is_found => None,
                    Some(_) => Some("use the native driver, runc or crun".to_owned()),
                    None => {
                        Some(format!("install {}, or use the native driver, which needs nothing", self.name))
                    }
                },
            },
            Capability {
                name: "root".to_owned(),
                available: is_root,
                detail: "OCI runtimes are started as root; inside the sandbox nobody is".to_owned(),
                hint: (!is_root).then(|| "run the server as root, or use the native driver".to_owned()),
            },
        ];
        report.driver.clone_from(&self.name);
        report.usable = report.usable && is_found && is_root;
        let differences = if self.has_own_kernel() { runsc::differences() } else { Vec::new() };
        report.capabilities.splice(0..0, own.into_iter().chain(differences));
        report
    }
}

impl SandboxDriver for OciDriver {
    fn name(&self) -> &str {
        &self.name
    }

    fn probe(&self) -> BoxFuture<'_, DriverReport> {
        Box::pin(self.report())
    }

    fn create<'a>(&'a self, spec: &'a SandboxSpec) -> BoxFuture<'a, Result<Sandbox, CreateSandboxError>> {
        Box::pin(async move {
            self.version().await.map_err(|reason| setup("runtime", reason))?;
            let made = self.native.make_with(spec, |keeper_spec| self.adapt(&spec.limits, keeper_spec)).await;
            if made.is_err() {
                remove_groups(&spec.storage_id);
            }
            made
        })
    }

    fn find<'a>(&'a self, spec: &'a SandboxSpec) -> BoxFuture<'a, Option<Sandbox>> {
        Box::pin(async move {
            let found = self.native.find(spec).await;
            if found.is_none() {
                remove_groups(&spec.storage_id);
            }
            found
        })
    }

    fn wait<'a>(&'a self, sandbox: &'a Sandbox) -> BoxFuture<'a, ()> {
        self.native.wait(sandbox)
    }

    fn destroy<'a>(
        &'a self,
        spec: &'a SandboxSpec,
    ) -> BoxFuture<'a, Result<Option<u64>, DestroySandboxError>> {
        Box::pin(async move {
            // The keeper has the runtime forget the container; without a keeper its files go with `run/`.
            let cpu_usage_us = self.native.destroy(spec).await?;
            remove_groups(&spec.storage_id);
            Ok(cpu_usage_us)
        })
    }

    fn cpu_usage_us<'a>(&'a self, spec: &'a SandboxSpec) -> BoxFuture<'a, Option<u64>> {
        self.native.cpu_usage_us(spec)
    }

    fn image_config<'a>(&'a self, artifact: &'a Artifact) -> BoxFuture<'a, Option<ImageConfig>> {
        self.native.image_config(artifact)
    }

    fn stats<'a>(&'a self, sandbox: &'a Sandbox) -> BoxFuture<'a, SandboxStats> {
        self.native.stats(sandbox)
    }
}

/// Why a runtime cannot be used, for those known not to work.
fn refusal(name: &str) -> Option<&'static str> {
    name.starts_with("kata")
        .then_some("it puts another kernel between, which cannot take over the guest's listening socket")
}

/// The program on the search path or in the system's own folders. A name with a slash is no name.
fn find_program(name: &str, search: &OsStr) -> Option<PathBuf> {
    if name.is_empty() || name.contains('/') {
        return None;
    }
    std::env::split_paths(search)
        .chain(std::env::split_paths(SYSTEM_PATH))
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|path| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file())
}

/// Whether controllers of the old kind and a unified hierarchy lie side by side.
fn is_hybrid(mounts: &str) -> bool {
    let kind_at = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
    };
    let all: Vec<_> = mounts.lines().filter_map(kind_at).collect();
    all.iter().any(|(_, kind)| kind == "cgroup")
        && all.iter().any(|(at, kind)| kind == "cgroup2" && at != GROUPS)
}

async fn version(program: &Path) -> Result<String, String> {
    let mut command = tokio::process::Command::new(program);
    command
        .arg("--version")
        .env_clear()
        .env("PATH", SYSTEM_PATH)
        .kill_on_drop(true)
        .stdin(std::process::Stdio::null());
    match tokio::time::timeout(VERSION_WITHIN, command.output()).await {
        Ok(Ok(output)) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            let line: String = text.lines().next().unwrap_or_default().chars().take(100).collect();
            Ok(format!("{line} at {}", program.display()))
        }
        Ok(Ok(output)) => Err(format!("{} does not tell its version: {}", program.display(), output.status)),
        Ok(Err(error)) => Err(format!("{} does not start: {error}", program.display())),
        Err(_) => Err(format!("{} hangs", program.display())),
    }
}

fn write_bundle(session_dir: &Path, config: &serde_json::Value) -> std::io::Result<()> {
    let folder = session_dir.join("run/bundle");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options.open(folder.join("config.json"))?.write_all(config.to_string().as_bytes())
}

/// Removes the runtime's own control groups, if a keeper that was killed left them. They are empty.
fn remove_groups(name: &StorageId) {
    let group = format!("{}{}", bundle::GROUP_PREFIX, name.as_str());
    let _ = fs::remove_dir(Path::new(GROUPS).join(&group));
    for hierarchy in fs::read_dir(GROUPS).into_iter().flatten().flatten() {
        let _ = fs::remove_dir(hierarchy.path().join(&group));
    }
}

fn setup(stage: &str, reason: impl std::fmt::Display) -> CreateSandboxError {
    CreateSandboxError::Setup { stage: stage.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_machine_is_told_from_the_others() {
        let check = |mounts: &str, expect| assert_eq!(is_hybrid(mounts), expect, "{mounts}");
        check("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", false);
        check("tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n", false);
        check(
            "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n",
            true,
        );
        check("", false);
    }

    #[test]
    fn programs_are_found_by_name_only() {
        let folder = tempfile::tempdir().unwrap();
        let search = folder.path().as_os_str();
        let program = folder.path().join("some-runtime");
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).mode(0o644).open(&program).unwrap();
        assert_eq!(find_program("some-runtime", search), None);
        fs::remove_file(&program).unwrap();
        options.mode(0o755).open(&program).unwrap();
        assert_eq!(find_program("some-runtime", search), Some(program));
        assert_eq!(find_program("../some-runtime", search), None);
        assert_eq!(find_program("", search), None);
    }

    #[tokio::test]
    async fn a_runtime_that_cannot_be_used_is_refused_with_its_reason() {
        let data_dir = tempfile::tempdir().unwrap();
        for (name, word) in [("kata-runtime", "another kernel"), ("no-such-runtime", "no program")] {
            let driver = OciDriver::new(name, OciOptions::new(data_dir.path()));
            let report = driver.probe().await;
            assert_eq!((report.driver.as_str(), report.usable), (name, false));
            assert!(report.capabilities[0].detail.contains(word), "{:?}", report.capabilities[0]);
        }
    }
}
