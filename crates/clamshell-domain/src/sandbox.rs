//! The driver port: who makes sandboxes and how the server holds on to them.

use std::{collections::BTreeMap, future::Future, net::IpAddr, path::PathBuf, pin::Pin};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Artifact, ImageConfig, Limits, StorageId};

/// A boxed future, so that drivers are trait objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A private range of user and group ids for one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange(pub u32);

impl IdRange {
    /// Ids in a range: the whole 16-bit space that images are made for.
    pub const COUNT: u32 = 65_536;
    /// Host id of the first id of range 0; far above what distributions give out.
    pub const FIRST: u32 = 0x1000_0000;
    /// Ranges there are below the reserved end of the id space.
    pub const RANGES: u32 = (u32::MAX - Self::FIRST) / Self::COUNT - 1;

    /// Host id of the first of the ids that own what root and other users inside write to folders which sessions share:
    /// the range behind the last one of a session.
    pub const SHARED_BASE: u32 = Self::FIRST + Self::RANGES * Self::COUNT;

    /// Host id that is root inside.
    pub fn host_base(self) -> u32 {
        Self::FIRST + (self.0 % Self::RANGES) * Self::COUNT
    }
}

/// Everything a driver needs to make a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxSpec {
    /// Name of the control group; also the session's folder.
    pub storage_id: StorageId,
    /// Session folder on the host, absolute, exists, mode 0700. The driver owns `run/`, `upper/` and `work/` in it and
    /// makes `workspace/` and `shells/` when they are missing, never removing them.
    pub session_dir: PathBuf,
    /// Root file system.
    pub artifact: Artifact,
    /// Private ids.
    pub id_range: IdRange,
    /// Limits to enforce.
    pub limits: Limits,
    /// Region that the metadata service tells.
    pub region: String,
    /// `instance-id` that the metadata service tells; starts with `ai-`.
    pub instance_id: String,
    /// Environment that the guest gives to nothing by itself; kept for drivers that start an entry point.
    pub environment: BTreeMap<String, String>,
    /// Folders that are shown beside the root file system and `/mnt/workspace`.
    pub mounts: Vec<MountSpec>,
}

/// A folder that a sandbox shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSpec {
    /// What is shown.
    pub source: MountSource,
    /// Where: one level below `/mnt`.
    pub target: String,
    /// Nobody inside may change anything.
    pub read_only: bool,
}

/// Where what is shown comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// The session's own workspace, once more.
    Workspace,
    /// A folder of the host, absolute. Other sessions may have it as well. Its owner is the agent's user inside.
    Folder(PathBuf),
    /// An export of an NFS 4 server.
    Nfs {
        /// `SERVER:/PATH`.
        export: String,
        /// The server's address.
        address: IpAddr,
    },
}

impl MountSpec {
    /// Whether a path is one level below `/mnt`, so that no mount hides what the sandbox needs or lies in another one.
    pub fn is_target(path: &str) -> bool {
        let name = path.strip_prefix("/mnt/").unwrap_or_default();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        !matches!(name, "" | "." | "..") && name.len() <= 255 && name.bytes().all(is_plain)
    }
}

/// A live sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Session folder.
    pub session_dir: PathBuf,
    /// Process id on the host of the process that holds the sandbox (keeper).
    pub keeper_pid: u32,
    /// Process id on the host of the guest.
    pub guest_pid: u32,
    /// What of the asked-for limits and walls does not hold here, one line each.
    pub degraded: Vec<String>,
}

impl Sandbox {
    /// Socket of the guest. May be longer than `sun_path`: connect through an open folder descriptor.
    pub fn guest_socket(&self) -> PathBuf {
        self.session_dir.join("run/guest.sock")
    }
}

/// What a sandbox uses now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxStats {
    /// CPU time used since it was made, microseconds.
    pub cpu_usage_us: Option<u64>,
    /// Memory now, bytes.
    pub memory_bytes: Option<u64>,
    /// Processes and threads now.
    pub pids: Option<u64>,
}

/// One thing this machine can or cannot give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capability {
    /// Short name, for instance `memory limit`.
    pub name: String,
    /// Whether it holds.
    pub available: bool,
    /// How it is given, or why not.
    pub detail: String,
    /// How to get it, when it is missing.
    pub hint: Option<String>,
}

/// What a driver found out about this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DriverReport {
    /// Driver.
    pub driver: String,
    /// Whether it can make sandboxes here.
    pub usable: bool,
    /// Details.
    pub capabilities: Vec<Capability>,
}

/// A sandbox could not be made. Nothing of it is left.
#[derive(Debug, Error)]
pub enum CreateSandboxError {
    /// The image is missing or unusable; the caller can do something about it.
    #[error("image is not usable: {reason}")]
    Image {
        /// For the runtime's log.
        reason: String,
    },
    /// The machine refused a step.
    #[error("sandbox set-up failed at {stage}: {reason}")]
    Setup {
        /// Step.
        stage: String,
        /// Why.
        reason: String,
    },
    /// The guest did not answer in time.
    #[error("guest did not become ready within {limit_ms} ms")]
    Timeout {
        /// Limit in milliseconds.
        limit_ms: u64,
    },
}

/// A sandbox could not be ended.
#[derive(Debug, Error)]
#[error("sandbox could not be ended: {reason}")]
pub struct DestroySandboxError {
    /// Why.
    pub reason: String,
}

/// Makes, finds and ends sandboxes. Sandboxes outlive the process that made them.
pub trait SandboxDriver: Send + Sync {
    /// Its name in the configuration: `native`, `runc`, ...
    fn name(&self) -> &str;

    /// What this machine gives.
    fn probe(&self) -> BoxFuture<'_, DriverReport>;

    /// Makes a sandbox whose guest answers. Not cancel-safe in effect: a dropped future may leave a
    /// sandbox, which [`SandboxDriver::find`] then finds.
    fn create<'a>(&'a self, spec: &'a SandboxSpec) -> BoxFuture<'a, Result<Sandbox, CreateSandboxError>>;

    /// The live sandbox of a session folder, after a server restart; `None` when it is gone (and then its leftovers are cleaned).
    fn find<'a>(&'a self, spec: &'a SandboxSpec) -> BoxFuture<'a, Option<Sandbox>>;

    /// Resolves when the sandbox has ended, on its own or not.
    fn wait<'a>(&'a self, sandbox: &'a Sandbox) -> BoxFuture<'a, ()>;

    /// Kills every process and removes everything but `workspace/` and `shells/`. Idempotent. Gives the CPU time that the
    /// sandbox had used in all, microseconds, where something still told it.
    fn destroy<'a>(
        &'a self,
        spec: &'a SandboxSpec,
    ) -> BoxFuture<'a, Result<Option<u64>, DestroySandboxError>>;

    /// The CPU time that the sandbox of a session folder has used in all, microseconds, running or ended, as long as its
    /// leftovers are there.
    fn cpu_usage_us<'a>(&'a self, spec: &'a SandboxSpec) -> BoxFuture<'a, Option<u64>>;

    /// What the image of an artifact says about its program; `None` when it says nothing or cannot be read. Quick once
    /// the image is unpacked.
    fn image_config<'a>(&'a self, artifact: &'a Artifact) -> BoxFuture<'a, Option<ImageConfig>>;

    /// Variables that the image of an artifact gives its programs, in its order; none when there is no
    /// [`SandboxDriver::image_config`].
    fn image_environment<'a>(&'a self, artifact: &'a Artifact) -> BoxFuture<'a, Vec<(String, String)>> {
        Box::pin(async move { self.image_config(artifact).await.unwrap_or_default().env })
    }

    /// What it uses now.
    fn stats<'a>(&'a self, sandbox: &'a Sandbox) -> BoxFuture<'a, SandboxStats>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_one_level_below_mnt() {
        let check = |path: &str, expect| assert_eq!(MountSpec::is_target(path), expect, "{path}");
        check("/mnt/data", true);
        check("/mnt/a.b_c-1", true);
        for path in
            ["", "/mnt", "/mnt/", "/mnt/..", "/mnt/.", "/mnt/a/b", "/mnt/a/", "/data", "mnt/a", "/mnt/a b"]
        {
            check(path, false);
        }
    }

    #[test]
    fn ids_of_shared_folders_are_nobody_elses() {
        assert!(IdRange(IdRange::RANGES - 1).host_base() < IdRange::SHARED_BASE);
        assert!(IdRange::SHARED_BASE.checked_add(IdRange::COUNT).is_some_and(|end| end < u32::MAX));
    }
}
