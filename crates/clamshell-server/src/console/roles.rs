//! Roles of people: built-in policies, the only place where they are written down. A user has one as the inline policy
//! `ConsoleRole`, so it holds for the user's access keys as well, and other policies of the user add to it or deny.

use std::sync::LazyLock;

use clamshell_store::{ChangePrincipalError, PrincipalKind, Store, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

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

/// What each of the two looks at: lists, states, screens and logs. Reading files is not among it: workspaces hold keys.
const LOOK: &[&str] = &[
    "bedrock-agentcore:GetAgentRuntime",
    "bedrock-agentcore:GetAgentRuntimeEndpoint",
    "bedrock-agentcore:GetAgentCard",
    "bedrock-agentcore:GetResourcePolicy",
    "bedrock-agentcore:ListAgentRuntimes",
    "bedrock-agentcore:ListAgentRuntimeEndpoints",
    "bedrock-agentcore:ListAgentRuntimeVersions",
    "bedrock-agentcore:ListTagsForResource",
    "clamshell:CreateConsoleLink",
    "clamshell:Server",
    "clamshell:Doctor",
    "clamshell:ListSessions",
    "clamshell:ShowSession",
    "clamshell:ListAllShells",
    "clamshell:ListShells",
    "clamshell:ShowShell",
    "clamshell:WatchShell",
    "clamshell:ReadLog",
    "clamshell:PaintScreen",
    "clamshell:Export",
    "clamshell:ReadRuntimeLogs",
    "clamshell:ListFiles",
    "clamshell:ShowRuntimeTerminal",
    "clamshell:Events",
];

/// What an operator does besides: all about sessions, shells, files, shares and invocations.
const OPERATE: &[&str] = &[
    "bedrock-agentcore:InvokeAgentRuntime",
    "bedrock-agentcore:InvokeAgentRuntimeWithWebSocketStream",
    "bedrock-agentcore:InvokeAgentRuntimeCommand",
    "bedrock-agentcore:InvokeAgentRuntimeCommandShell",
    "bedrock-agentcore:StopRuntimeSession",
    "clamshell:StopSession",
    "clamshell:RemoveSession",
    "clamshell:RunCommand",
    "clamshell:AttachShell",
    "clamshell:CloseShell",
    "clamshell:RenameShell",
    "clamshell:ReadFile",
    "clamshell:WriteFile",
    "clamshell:RemoveFile",
    "clamshell:CreateShare",
    "clamshell:ListShares",
    "clamshell:RemoveShare",
];

static VIEWER: LazyLock<String> = LazyLock::new(|| document("viewer", &json!(LOOK)));
static OPERATOR: LazyLock<String> = LazyLock::new(|| document("operator", &json!([LOOK, OPERATE].concat())));
static ADMIN: LazyLock<String> = LazyLock::new(|| document("admin", &json!("*")));

/// What the ids of these documents begin with; tells which role one was made for, whatever version wrote it.
const ID: &str = "clamshell-console-role-";

fn document(name: &str, actions: &Value) -> String {
    json!({
        "Version": "2012-10-17",
        "Id": format!("{ID}{name}"),
        "Statement": [{ "Effect": "Allow", "Action": actions, "Resource": "*" }],
    })
    .to_string()
}

/// Name of the policy that a user's role is.
pub(crate) const ROLE_POLICY: &str = "ConsoleRole";

/// Brings roles that an older version wrote to what they are in this one.
///
/// # Errors
/// Of the store.
pub(crate) async fn refresh_roles(store: &Store, now_ms: u64) -> Result<(), StoreError> {
    for user in store.list_principals(PrincipalKind::User).await? {
        let Some(text) = user.policies.get(ROLE_POLICY) else { continue };
        let Some(role) = ConsoleRole::named_in(text).filter(|role| role.document() != text) else { continue };
        let document = role.document();
        match store.put_principal_policy(user.kind, &user.name, ROLE_POLICY, document, now_ms).await {
            Ok(()) => tracing::info!(user = user.name, ?role, "role of the console was brought up to date"),
            Err(ChangePrincipalError::Store(error)) => return Err(error),
            Err(error) => tracing::warn!(user = user.name, %error, "role of the console stays as it was"),
        }
    }
    Ok(())
}

impl ConsoleRole {
    /// All, from the least.
    const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The policy document.
    pub(crate) fn document(self) -> &'static str {
        match self {
            Self::Viewer => &VIEWER,
            Self::Operator => &OPERATOR,
            Self::Admin => &ADMIN,
        }
    }

    /// The role that a policy is the document of.
    pub(crate) fn of_document(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.document() == text)
    }

    /// The role that a policy of this or an older version is the document of.
    fn named_in(text: &str) -> Option<Self> {
        let document: Value = serde_json::from_str(text).ok()?;
        let name = document["Id"].as_str()?.strip_prefix(ID)?;
        serde_json::from_value(json!(name)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clamshell_identity::policy::{Document, DocumentKind};

    #[test]
    fn documents_are_policies_and_known_again() {
        for role in ConsoleRole::ALL {
            Document::parse(DocumentKind::Identity, role.document()).unwrap();
            assert_eq!(ConsoleRole::of_document(role.document()), Some(role));
            assert_eq!(ConsoleRole::named_in(role.document()), Some(role));
        }
        assert_eq!(
            ConsoleRole::named_in(r#"{"Id":"clamshell-console-role-viewer","Statement":[]}"#),
            Some(ConsoleRole::Viewer)
        );
        for other in ["", "{}", r#"{"Id":"clamshell-console-role-owner"}"#, r#"{"Id":"viewer"}"#] {
            assert_eq!(ConsoleRole::named_in(other), None);
        }
    }
}
