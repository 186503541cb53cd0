//! Access keys: who may sign requests.

use serde::{Deserialize, Serialize};

use crate::AccessKeyId;

/// Whether a key opens anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessKeyStatus {
    /// Signatures made with it are accepted.
    Active,
    /// Refused, until made active again.
    Inactive,
}

/// An access key as listed: everything but the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessKey {
    /// Its public half.
    pub access_key_id: AccessKeyId,
    /// Who signs with it, free text of at most 128 characters; `root` for the first.
    pub user_name: String,
    /// Whether it opens anything.
    pub status: AccessKeyStatus,
    /// Milliseconds since 1970.
    pub created_at_ms: u64,
    /// Newest accepted signature, to the minute; milliseconds since 1970.
    pub last_used_at_ms: Option<u64>,
}
