//! What a guest is told at its start, as one JSON argument.
//!
//! Nothing here is secret: every program of the sandbox may read it.

use serde::{Deserialize, Serialize};

/// Second argument of `clamshell-guest guest`.
///
/// Beside it the guest inherits descriptor 3, a listening Unix stream socket, and descriptor 4, the
/// session's `shells/` folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestConfig {
    /// Region that the metadata service tells.
    pub region: String,
    /// Availability zone id that the metadata service tells, for instance `use1-az1`.
    pub availability_zone_id: String,
    /// `instance-id` that the metadata service tells; starts with `ai-`.
    pub instance_id: String,
    /// Serve the metadata service at 169.254.169.254.
    pub metadata: bool,
    /// Name of the role that `iam/security-credentials/` lists; `None`: 404.
    #[serde(default)]
    pub execution_role: Option<String>,
    /// User id of `agentcore-runtime-user`.
    pub agent_uid: u32,
    /// Group id of `agentcore-runtime-user`.
    pub agent_gid: u32,
    /// Become the user that a request names; `false` where the guest runs as an ordinary process.
    #[serde(default = "yes")]
    pub switch_user: bool,
    /// Folder of the secrets of terminals; it must be in memory.
    #[serde(default = "secrets_dir")]
    pub secrets_dir: String,
}

impl Default for GuestConfig {
    fn default() -> Self {
        Self {
            region: "us-east-1".to_owned(),
            availability_zone_id: "use1-az1".to_owned(),
            instance_id: "ai-00000000000000000".to_owned(),
            metadata: false,
            execution_role: None,
            agent_uid: 1000,
            agent_gid: 1000,
            switch_user: true,
            secrets_dir: secrets_dir(),
        }
    }
}

fn secrets_dir() -> String {
    "/run/clamshell/secrets".to_owned()
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_survives_json_and_fills_in_what_is_missing() {
        let config = GuestConfig { metadata: true, ..GuestConfig::default() };
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<GuestConfig>(&json).unwrap(), config);
        let short = r#"{"region":"us-east-1","availability_zone_id":"use1-az1",
            "instance_id":"ai-00000000000000000","metadata":true,"agent_uid":1000,"agent_gid":1000}"#;
        assert_eq!(serde_json::from_str::<GuestConfig>(short).unwrap(), config);
    }
}
