//! A runtime: what a session is made of.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{EndpointName, Hosting, ResourceStatus, RuntimeId, RuntimeName};

/// Where the root file system of a session comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Artifact {
    /// This machine's own system, read-only; homes and secrets hidden.
    Host,
    /// A directory with a root file system; used as it is, never written.
    Directory {
        /// Absolute path on the host.
        path: PathBuf,
    },
    /// An OCI image layout directory, or an archive of one (`oci-archive`, `docker save`).
    Oci {
        /// Absolute path on the host.
        path: PathBuf,
        /// Tag or `org.opencontainers.image.ref.name` to choose when there are several.
        reference: Option<String>,
    },
    /// An image of a registry.
    Image {
        /// As people write it: `alpine`, `ghcr.io/a/b:1`, `localhost:5000/c@sha256:...`.
        reference: String,
        /// Manifest or index that a version got when it was made, `sha256:<hex>`; `None`: what the reference named
        /// when this server first pulled it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    /// A zip with code, shown at `/var/task` over another root file system.
    Code {
        /// Where the zip lies.
        location: ObjectLocation,
        /// Interpreter that the code is for.
        runtime: CodeRuntime,
        /// `entryPoint`: a file, or a wrapper and a file.
        entry_point: Vec<String>,
        /// Root file system below the code.
        base: Box<Artifact>,
        /// What the zip hashed to when a version was made, `sha256:<hex>`; `None`: what this server first read there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
}

impl Artifact {
    /// Whether it may say which program is its agent. This machine's own system and a plain directory never do; they are
    /// for commands and shells.
    pub fn may_host_agent(&self) -> bool {
        match self {
            Self::Host | Self::Directory { .. } => false,
            Self::Oci { .. } | Self::Image { .. } | Self::Code { .. } => true,
        }
    }
}

/// An object in a bucket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectLocation {
    /// Bucket.
    pub bucket: String,
    /// Whole key; AWS calls it `prefix`.
    pub key: String,
    /// Version of the object; `None`: the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
}

/// Interpreter of a code zip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CodeRuntime {
    /// Python 3.10.
    #[serde(rename = "PYTHON_3_10")]
    Python310,
    /// Python 3.11.
    #[serde(rename = "PYTHON_3_11")]
    Python311,
    /// Python 3.12.
    #[serde(rename = "PYTHON_3_12")]
    Python312,
    /// Python 3.13.
    #[serde(rename = "PYTHON_3_13")]
    Python313,
    /// Python 3.14.
    #[serde(rename = "PYTHON_3_14")]
    Python314,
    /// Node 22.
    #[serde(rename = "NODE_22")]
    Node22,
}

impl CodeRuntime {
    /// All there are.
    pub const ALL: [Self; 6] =
        [Self::Python310, Self::Python311, Self::Python312, Self::Python313, Self::Python314, Self::Node22];

    /// Name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Python310 => "PYTHON_3_10",
            Self::Python311 => "PYTHON_3_11",
            Self::Python312 => "PYTHON_3_12",
            Self::Python313 => "PYTHON_3_13",
            Self::Python314 => "PYTHON_3_14",
            Self::Node22 => "NODE_22",
        }
    }

    /// The runtime of that name in the API.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|runtime| runtime.as_str() == name)
    }

    /// Program that runs the code.
    pub fn interpreter(self) -> &'static str {
        match self {
            Self::Python310 => "python3.10",
            Self::Python311 => "python3.11",
            Self::Python312 => "python3.12",
            Self::Python313 => "python3.13",
            Self::Python314 => "python3.14",
            Self::Node22 => "node",
        }
    }
}

/// Network of a session beside its loopback interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkMode {
    /// Loopback only.
    #[serde(rename = "SANDBOX")]
    Sandbox,
    /// Out to anywhere. No driver gives it yet: sessions of such runtimes have loopback only and say so.
    #[serde(rename = "PUBLIC")]
    Public,
}

/// Timers of a session's compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LifecycleConfiguration {
    /// `idleRuntimeSessionTimeout`, seconds.
    pub idle_timeout_s: u64,
    /// `maxLifetime`, seconds.
    pub max_lifetime_s: u64,
}

impl Default for LifecycleConfiguration {
    fn default() -> Self {
        Self { idle_timeout_s: 900, max_lifetime_s: 28_800 }
    }
}

/// What one session may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Thousandths of a CPU.
    pub cpu_millis: u32,
    /// Bytes of memory, swap included.
    pub memory_bytes: u64,
    /// Processes and threads at once.
    pub pids_max: u32,
    /// Soft limit of `/mnt/workspace`, bytes.
    pub workspace_bytes: u64,
    /// Limit of what the session writes outside the workspace, bytes.
    pub scratch_bytes: u64,
    /// Open files per process.
    pub open_files_max: u64,
}

impl Default for Limits {
    /// AWS gives 2 vCPU, 8 GB and 1 GB of session storage; the rest is our choice.
    fn default() -> Self {
        Self {
            cpu_millis: 2_000,
            memory_bytes: 8 << 30,
            pids_max: 1_024,
            workspace_bytes: 1 << 30,
            scratch_bytes: 10 << 30,
            open_files_max: 65_536,
        }
    }
}

/// One version of a runtime, immutable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// Its id.
    pub runtime_id: RuntimeId,
    /// Its name.
    pub name: RuntimeName,
    /// Version number from 1.
    pub version: u32,
    /// Text for people.
    pub description: String,
    /// Root file system.
    pub artifact: Artifact,
    /// `environmentVariables`.
    pub environment: BTreeMap<String, String>,
    /// Timers.
    pub lifecycle: LifecycleConfiguration,
    /// Limits.
    pub limits: Limits,
    /// Network.
    pub network: NetworkMode,
    /// Driver that makes its sandboxes; `None`: the server's default.
    pub driver: Option<String>,
    /// The agent that it hosts; `None`: sandboxes for commands and shells only.
    pub hosting: Option<Hosting>,
    /// Milliseconds since 1970.
    pub created_at_ms: u64,
}

/// A named pointer to a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The runtime.
    pub runtime_id: RuntimeId,
    /// Its name, the `qualifier`.
    pub name: EndpointName,
    /// Its id, `NAME-XXXXXXXXXX`.
    pub endpoint_id: String,
    /// Text for people.
    pub description: Option<String>,
    /// Where it is in its life.
    pub status: ResourceStatus,
    /// Why it failed.
    pub failure_reason: Option<String>,
    /// Version that new computes get.
    pub version: u32,
    /// Version that it is to get; mostly the same.
    pub target_version: u32,
    /// Milliseconds since 1970.
    pub created_at_ms: u64,
    /// Milliseconds since 1970.
    pub updated_at_ms: u64,
}

impl Endpoint {
    /// Whether its version was ever of use.
    pub fn has_live_version(&self) -> bool {
        !matches!(self.status, ResourceStatus::Creating | ResourceStatus::CreateFailed)
    }

    /// Whether calls may go through it: it has a version that was made ready, and is not being removed.
    pub fn is_callable(&self) -> bool {
        match self.status {
            ResourceStatus::Ready | ResourceStatus::Updating | ResourceStatus::UpdateFailed => true,
            ResourceStatus::Creating
            | ResourceStatus::CreateFailed
            | ResourceStatus::Deleting
            | ResourceStatus::DeleteFailed => false,
        }
    }
}
