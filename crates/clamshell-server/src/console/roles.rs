//! Roles of people at the console.

use serde::{Deserialize, Serialize};

/// What a person may do at the console; also through the API, since it is a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConsoleRole {
    /// Looks.
    Viewer,
    /// Works with sessions.
    Operator,
    /// Everything.
    Admin,
}
