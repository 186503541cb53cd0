//! What a runtime that hosts an agent has beside its root file system.

use serde::{Deserialize, Serialize};

/// Protocol that the agent speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerProtocol {
    /// `POST /invocations`, `GET /ping`, `GET /ws`.
    #[serde(rename = "HTTP")]
    Http,
    /// Streamable HTTP of the Model Context Protocol.
    #[serde(rename = "MCP")]
    Mcp,
    /// Agent to agent: JSON-RPC and an agent card.
    #[serde(rename = "A2A")]
    A2a,
    /// Events of an agent for a user interface, over SSE.
    #[serde(rename = "AGUI")]
    AgUi,
}

impl ServerProtocol {
    /// Port of the contract (`protocolConfiguration.port` overrides it).
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http | Self::AgUi => 8080,
            Self::Mcp => 8000,
            Self::A2a => 9000,
        }
    }

    /// Path of the contract (`protocolConfiguration.path` overrides it).
    pub fn default_path(self) -> &'static str {
        match self {
            Self::Http | Self::AgUi => "/invocations",
            Self::Mcp => "/mcp",
            Self::A2a => "/",
        }
    }
}

/// `filesystemConfigurations`: one entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FileSystem {
    /// The session's own storage, at this place instead of `/mnt/workspace`.
    SessionStorage {
        /// `/mnt/NAME`.
        mount_path: String,
    },
    /// An S3 Files or EFS access point: what the operator has mapped to its ARN.
    AccessPoint {
        /// Its ARN.
        arn: String,
        /// `/mnt/NAME`.
        mount_path: String,
    },
}

impl FileSystem {
    /// Where it is inside, without a slash at the end.
    pub fn mount_path(&self) -> &str {
        match self {
            Self::SessionStorage { mount_path } | Self::AccessPoint { mount_path, .. } => {
                mount_path.trim_end_matches('/')
            }
        }
    }
}

/// How a runtime version hosts an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hosting {
    /// Execution role: what the agent may do.
    pub role_arn: String,
    /// What the agent speaks.
    pub protocol: ServerProtocol,
    /// TCP port that it listens on.
    pub port: u16,
    /// Path of its main operation.
    pub path: String,
    /// Names of headers that are passed to the agent beside those that always are, as given.
    #[serde(default)]
    pub header_allowlist: Vec<String>,
    /// Mounts.
    #[serde(default)]
    pub file_systems: Vec<FileSystem>,
    /// `customJWTAuthorizer` as the API has it, in JSON; `None`: callers sign with SigV4.
    #[serde(default)]
    pub authorizer: Option<String>,
    /// Members of the create or update call that made this version, in JSON: what a Get answers.
    #[serde(default)]
    pub configuration: String,
}

/// Status of a runtime or an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ResourceStatus {
    /// Being made.
    Creating,
    /// Could not be made.
    CreateFailed,
    /// A new version is being made ready.
    Updating,
    /// The newest version could not be made ready.
    UpdateFailed,
    /// Of use.
    Ready,
    /// Being removed.
    Deleting,
    /// Could not be removed.
    DeleteFailed,
}

impl ResourceStatus {
    /// Whether something is still going on: changes are refused meanwhile.
    pub fn is_in_progress(self) -> bool {
        matches!(self, Self::Creating | Self::Updating | Self::Deleting)
    }

    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::CreateFailed => "CREATE_FAILED",
            Self::Updating => "UPDATING",
            Self::UpdateFailed => "UPDATE_FAILED",
            Self::Ready => "READY",
            Self::Deleting => "DELETING",
            Self::DeleteFailed => "DELETE_FAILED",
        }
    }
}
