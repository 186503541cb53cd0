//! A session as stored.

use serde::{Deserialize, Serialize};

use crate::{EndpointName, Phase, RuntimeId, SessionId, StopReason, StorageId};

/// What names a session: runtime, endpoint and session id (`runtime.md` 8.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionKey {
    /// The runtime.
    pub runtime_id: RuntimeId,
    /// The endpoint.
    pub endpoint: EndpointName,
    /// The caller's id.
    pub session_id: SessionId,
}

/// One row of the session table. Written before a client is told anything that depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its name.
    pub key: SessionKey,
    /// Folder and control group.
    pub storage_id: StorageId,
    /// Number of the private range of user ids; no two sessions share one.
    pub id_range: u32,
    /// Where it is in its life.
    pub phase: Phase,
    /// Version of the runtime that the compute was started with.
    pub runtime_version: u32,
    /// Driver that made the compute.
    pub driver: String,
    /// First call with this id, milliseconds since 1970.
    pub created_at_ms: u64,
    /// Start of the present or latest compute.
    pub started_at_ms: Option<u64>,
    /// End of the latest compute.
    pub stopped_at_ms: Option<u64>,
    /// Why the latest compute ended.
    pub stop_reason: Option<StopReason>,
    /// Newest activity, to a few seconds.
    pub last_activity_at_ms: u64,
}
