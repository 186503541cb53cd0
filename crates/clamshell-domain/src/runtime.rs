//! A runtime: what a session is made of.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{EndpointName, RuntimeId, RuntimeName};

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
}

/// Network of a session beside its loopback interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkMode {
    /// Loopback only.
    #[serde(rename = "SANDBOX")]
    Sandbox,
    /// Out to anywhere through the broker.
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
    /// Version that new computes get.
    pub version: u32,
    /// Milliseconds since 1970.
    pub created_at_ms: u64,
    /// Milliseconds since 1970.
    pub updated_at_ms: u64,
}
