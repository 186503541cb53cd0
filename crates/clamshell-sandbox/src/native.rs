//! The native driver: namespaces, control groups and an overlay, made by one small keeper per sandbox.
//!
//! This process never forks, enters a namespace or mounts: it starts the keeper by `posix_spawn`, which
//! costs the same however large the server is. It keeps nothing in memory that it could not read back from the session's folder.

mod groups;
mod ids;
mod keeper;
mod probe;
mod process;
mod ready;
mod trash;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clamshell_domain::{
    Artifact, BoxFuture, CreateSandboxError, DestroySandboxError, DriverReport, IdRange, ImageConfig,
    MountSource, MountSpec, Sandbox, SandboxDriver, SandboxSpec, SandboxStats,
};
use clamshell_protocol::{
    Guard, GuestConfig, IdMap, KeeperSpec, KeeperState, MountSource as KeeperSource, MountSpec as KeeperMount,
};

use self::{groups::Layout, ids::Privilege, process::Process, trash::Trash};
use crate::{
    guest_binary,
    image::{ImageStore, RootImage},
};

/// User inside that interactive shells run as.
const AGENT_ID: u32 = 1000;

/// How long a killed sandbox may take to be gone; processes in disk waits take longest.
const END_WITHIN: Duration = Duration::from_secs(10);

/// How long after a sandbox the next one is prepared: by then a short first command is over.
const REFILL_AFTER: Duration = Duration::from_millis(15);

/// What a native driver needs to know.
#[derive(Debug, Clone)]
pub struct NativeOptions {
    /// Server's data folder: images, the installed guest program and the trash live below it.
    pub data_dir: PathBuf,
    /// Further folders of this machine that the host image shows, for instance a tool folder of a home.
    pub host_includes: Vec<PathBuf>,
    /// Images, shared with other drivers on the same data folder; `None`: a store of its own, without registries that need a
    /// password, and without buckets.
    pub images: Option<Arc<ImageStore>>,
    /// Walls. A server always says [`Guard::Full`]; the escape suite proves with [`Guard::Off`] that it notices.
    pub guard: Guard,
}

impl NativeOptions {
    /// The usual ones.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), host_includes: Vec::new(), images: None, guard: Guard::Full }
    }
}

/// Makes sandboxes with the kernel's own means.
#[derive(Debug)]
pub struct NativeDriver {
    data_dir: PathBuf,
    guard: Guard,
    images: Arc<ImageStore>,
    privilege: Privilege,
    layout: Layout,
    trash: Trash,
    spare: keeper::Spare,
    refilling: Arc<AtomicBool>,
    binary: OnceLock<PathBuf>,
}

impl NativeDriver {
    /// A driver on this machine. Finds out what may be done, and changes nothing but the parents of
    /// the sandboxes' control groups.
    pub fn new(options: NativeOptions) -> Self {
        let data_dir = std::path::absolute(&options.data_dir).unwrap_or(options.data_dir);
        Self {
            images: options
                .images
                .unwrap_or_else(|| Arc::new(ImageStore::new(&data_dir, options.host_includes))),
            privilege: Privilege::detect(),
            layout: Layout::detect(),
            trash: Trash::new(&data_dir),
            spare: keeper::Spare::default(),
            refilling: Arc::default(),
            binary: OnceLock::new(),
            guard: options.guard,
            data_dir,
        }
    }

    /// The image store, shared with other drivers on the same data folder.
    pub fn images(&self) -> &Arc<ImageStore> {
        &self.images
    }

    fn binary(&self) -> io::Result<PathBuf> {
        if let Some(path) = self.binary.get() {
            return Ok(path.clone());
        }
        let path = guest_binary::install(&self.data_dir)?;
        Ok(self.binary.get_or_init(|| path).clone())
    }

    /// Makes a sandbox after `adapt` had its say on the keeper's specification.
    pub(crate) async fn make_with(
        &self,
        spec: &SandboxSpec,
        adapt: impl FnOnce(&mut KeeperSpec) -> Result<(), CreateSandboxError> + Send,
    ) -> Result<Sandbox, CreateSandboxError> {
        // Leftovers of a sandbox that ended while nobody looked, or of a create that was dropped.
        if spec.session_dir.join("run").exists() || spec.session_dir.join("upper").exists() {
            self.end(spec).await.map_err(|error| setup("clean up", error.reason))?;
        }
        let mut keeper_spec = self.keeper_spec(spec).await?;
        // A keeper needs it. If this server is killed here, the next one takes it away, and a keeper that comes late finds
        // out that it is not wanted.
        private_folder(&spec.session_dir.join("run")).map_err(|error| setup("session folder", error))?;
        adapt(&mut keeper_spec)?;
        let made = keeper::start(&keeper_spec, &self.spare).await;
        self.refill(Path::new(&keeper_spec.binary));
        let (guest_pid, degraded) = made?;
        let Some(state) = process::read_state(&spec.session_dir) else {
            let _ = self.end(spec).await;
            return Err(setup("state file", "the keeper wrote none"));
        };
        let sandbox = Sandbox {
            session_dir: spec.session_dir.clone(),
            keeper_pid: state.keeper.pid,
            guest_pid,
            degraded,
        };
        match ready::wait(&sandbox.session_dir).await {
            Ok(()) => Ok(sandbox),
            Err(error) => {
                let _ = self.end(spec).await;
                Err(error)
            }
        }
    }

    /// Makes ready what the next sandbox can take, once this one has had the processors for what it was asked for. Not
    /// awaited: where it fails, the next sandbox makes its own.
    fn refill(&self, binary: &Path) {
        if self.refilling.swap(true, Ordering::AcqRel) {
            return;
        }
        let (spare, refilling) = (self.spare.clone(), Arc::clone(&self.refilling));
        let binary = binary.to_owned();
        drop(tokio::task::spawn_blocking(move || {
            std::thread::sleep(REFILL_AFTER);
            // Whoever takes it from now on asks again.
            refilling.store(false, Ordering::Release);
            spare.refill(&binary);
        }));
    }

    async fn image(&self, artifact: &Artifact) -> Result<RootImage, CreateSandboxError> {
        if let Some(image) = self.images.prepared(artifact) {
            return Ok(image);
        }
        if matches!(artifact, Artifact::Image { .. } | Artifact::Code { .. }) {
            let ready = self.images.ready(artifact).await;
            return ready.map_err(|error| CreateSandboxError::Image { reason: chain(&error) });
        }
        let (images, artifact) = (Arc::clone(&self.images), artifact.clone());
        let prepared = tokio::task::spawn_blocking(move || images.prepare(&artifact)).await;
        match prepared {
            Ok(Ok(image)) => Ok(image),
            Ok(Err(error)) => Err(CreateSandboxError::Image { reason: chain(&error) }),
            Err(error) => Err(CreateSandboxError::Image { reason: error.to_string() }),
        }
    }

    async fn keeper_spec(&self, spec: &SandboxSpec) -> Result<KeeperSpec, CreateSandboxError> {
        let image = self.image(&spec.artifact).await?;
        let binary = self.binary().map_err(|error| setup("guest program", error))?;
        let ids = match self.guard {
            Guard::Full => self.privilege.id_map(spec.id_range),
            Guard::Off => IdMap::Range { base: 0, count: u32::MAX },
        };
        let agent_id = if matches!(ids, IdMap::Single { .. }) { 0 } else { AGENT_ID };
        let guest_config = GuestConfig {
            region: spec.region.clone(),
            availability_zone_id: zone_id(&spec.region),
            instance_id: spec.instance_id.clone(),
            metadata: true,
            execution_role: None,
            agent_uid: agent_id,
            agent_gid: agent_id,
            switch_user: agent_id != 0,
            ..GuestConfig::default()
        };
        let mut notes = self.privilege.notes();
        notes.extend(self.layout.notes());
        Ok(KeeperSpec {
            name: spec.storage_id.as_str().to_owned(),
            session_dir: utf8(&spec.session_dir)?,
            binary: utf8(&binary)?,
            guest_config: serde_json::to_string(&guest_config).map_err(|error| setup("guest", error))?,
            ids,
            layers: image.layers,
            binds: image.binds,
            mounts: spec.mounts.iter().map(mount).collect::<Result<_, _>>()?,
            shared_base: IdRange::SHARED_BASE,
            groups: self.layout.groups(&spec.storage_id, &spec.limits),
            notes,
            memory_bytes: spec.limits.memory_bytes,
            open_files_max: spec.limits.open_files_max,
            processes_max: (!self.layout.limits_pids()).then_some(u64::from(spec.limits.pids_max)),
            add_account: image.add_account,
            agent_id,
            guard: self.guard,
            oci: None,
        })
    }

    /// Ends whatever lives in the session folder and clears it of all that is not the user's.
    async fn end(&self, spec: &SandboxSpec) -> Result<Option<u64>, DestroySandboxError> {
        let state = process::read_state(&spec.session_dir);
        if let Some(state) = &state {
            end_processes(state, || self.layout.kill(&spec.storage_id)).await?;
        }
        self.layout.kill(&spec.storage_id);
        let cpu_usage_us = self.cpu_usage(spec);
        self.layout.remove(&spec.storage_id).await.map_err(|error| destroy("control group", error))?;
        let run = self
            .trash
            .take(&spec.session_dir, &spec.storage_id)
            .map_err(|error| destroy("leftovers", error))?;
        // A keeper of a server that was killed may have come up between the look at its state and the move. One that
        // comes up later finds its folder gone.
        if state.is_none()
            && let Some(late) = run.as_deref().and_then(process::read_state_in)
        {
            end_processes(&late, || self.layout.kill(&spec.storage_id)).await?;
        }
        if let Ok(binary) = self.binary() {
            self.trash.empty(&binary, &self.privilege.removal_ids());
        }
        Ok(cpu_usage_us)
    }

    /// From the groups, or from what the keeper wrote down before it removed them.
    fn cpu_usage(&self, spec: &SandboxSpec) -> Option<u64> {
        let counted = self.layout.stats(spec.storage_id.as_str()).cpu_usage_us;
        counted.or_else(|| process::read_state(&spec.session_dir)?.cpu_usage_us)
    }
}

impl SandboxDriver for NativeDriver {
    fn name(&self) -> &str {
        "native"
    }

    fn probe(&self) -> BoxFuture<'_, DriverReport> {
        Box::pin(async move { probe::report(&self.privilege, &self.layout, &self.data_dir) })
    }

    fn create<'a>(&'a self, spec: &'a SandboxSpec) -> BoxFuture<'a, Result<Sandbox, CreateSandboxError>> {
        Box::pin(self.make_with(spec, |_| Ok(())))
    }

    fn find<'a>(&'a self, spec: &'a SandboxSpec) -> BoxFuture<'a, Option<Sandbox>> {
        Box::pin(async move {
            let state = process::read_state(&spec.session_dir);
            if let Some(state) = state
                && state.exit.is_none()
                && Process::open(&state.boot_id, state.guest).is_some()
            {
                return Some(Sandbox {
                    session_dir: spec.session_dir.clone(),
                    keeper_pid: state.keeper.pid,
                    guest_pid: state.guest.pid,
                    degraded: state.degraded,
                });
            }
            if let Err(error) = self.end(spec).await {
                tracing::warn!(storage_id = %spec.storage_id, reason = %error.reason, "leftovers of a sandbox stay");
            }
            None
        })
    }

    fn wait<'a>(&'a self, sandbox: &'a Sandbox) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let Some(state) = process::read_state(&sandbox.session_dir) else { return };
            if state.guest.pid != sandbox.guest_pid {
                return;
            }
            if let Some(guest) = Process::open(&state.boot_id, state.guest) {
                guest.ended().await;
            }
            // The keeper still cleans up; if it is stuck, the sandbox has ended all the same.
            if let Some(keeper) = Process::open(&state.boot_id, state.keeper) {
                let _ = tokio::time::timeout(Duration::from_secs(5), keeper.ended()).await;
            }
        })
    }

    fn destroy<'a>(
        &'a self,
        spec: &'a SandboxSpec,
    ) -> BoxFuture<'a, Result<Option<u64>, DestroySandboxError>> {
        Box::pin(self.end(spec))
    }

    fn cpu_usage_us<'a>(&'a self, spec: &'a SandboxSpec) -> BoxFuture<'a, Option<u64>> {
        Box::pin(async move { self.cpu_usage(spec) })
    }

    fn image_config<'a>(&'a self, artifact: &'a Artifact) -> BoxFuture<'a, Option<ImageConfig>> {
        Box::pin(async move { self.image(artifact).await.ok()?.config })
    }

    fn stats<'a>(&'a self, sandbox: &'a Sandbox) -> BoxFuture<'a, SandboxStats> {
        Box::pin(async move {
            match sandbox.session_dir.file_name().and_then(|name| name.to_str()) {
                Some(name) => self.layout.stats(name),
                None => SandboxStats::default(),
            }
        })
    }
}

/// Kills the guest, and with it every process of its namespace, and waits for both.
async fn end_processes(state: &KeeperState, kill_group: impl Fn()) -> Result<(), DestroySandboxError> {
    let guest = Process::open(&state.boot_id, state.guest);
    let keeper = Process::open(&state.boot_id, state.keeper);
    if guest.is_some() {
        kill_group();
    }
    if let Some(guest) = &guest {
        guest.signal(rustix::process::Signal::KILL);
    }
    if let Some(keeper) = &keeper {
        keeper.signal(rustix::process::Signal::TERM);
    }
    for process in [&guest, &keeper].into_iter().flatten() {
        if tokio::time::timeout(END_WITHIN, process.ended()).await.is_ok() {
            continue;
        }
        process.signal(rustix::process::Signal::KILL);
        tokio::time::timeout(END_WITHIN, process.ended())
            .await
            .map_err(|_| destroy("processes", "one of them does not end"))?;
    }
    Ok(())
}

/// A mount in the keeper's words.
fn mount(spec: &MountSpec) -> Result<KeeperMount, CreateSandboxError> {
    let refuse = |reason: &str| setup("file systems", format!("{}: {reason}", spec.target));
    if !MountSpec::is_target(&spec.target) {
        return Err(refuse("is not one level below /mnt"));
    }
    let source = match &spec.source {
        MountSource::Workspace => KeeperSource::Workspace,
        MountSource::Folder(path) => {
            let path = path.to_str().ok_or_else(|| refuse("the folder's path is not UTF-8"))?;
            KeeperSource::Folder { path: path.to_owned() }
        }
        MountSource::Nfs { export, address } => {
            KeeperSource::Nfs { export: export.clone(), address: *address }
        }
    };
    Ok(KeeperMount { source, target: spec.target.clone(), read_only: spec.read_only })
}

fn private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Availability zone id that goes with a region: `us-west-2` is `usw2-az1`.
fn zone_id(region: &str) -> String {
    let mut parts = region.split('-').peekable();
    let mut id = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part {
            "northeast" => id.push_str("ne"),
            "northwest" => id.push_str("nw"),
            "southeast" => id.push_str("se"),
            "southwest" => id.push_str("sw"),
            _ if part.bytes().all(|byte| byte.is_ascii_digit()) => id.push_str(part),
            _ => id.extend(part.chars().next()),
        }
    }
    format!("{id}-az1")
}

fn utf8(path: &Path) -> Result<String, CreateSandboxError> {
    path.to_str().map(str::to_owned).ok_or_else(|| setup("session folder", "its path is not UTF-8"))
}

fn setup(stage: &str, reason: impl std::fmt::Display) -> CreateSandboxError {
    CreateSandboxError::Setup { stage: stage.to_owned(), reason: reason.to_string() }
}

fn destroy(what: &str, reason: impl std::fmt::Display) -> DestroySandboxError {
    DestroySandboxError { reason: format!("{what}: {reason}") }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zone_ids_follow_the_region() {
        let check = |region: &str, expect: &str| assert_eq!(zone_id(region), expect);
        check("us-east-1", "use1-az1");
        check("us-west-2", "usw2-az1");
        check("ap-southeast-2", "apse2-az1");
        check("eu-central-1", "euc1-az1");
    }
}
