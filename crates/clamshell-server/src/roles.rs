//! Roles that runtimes execute with: the one that there is from the start, and the credentials that a compute gets.
//!
//! Credentials are minted here, pushed to the guest, and answered there by the metadata service alone. They last an hour, are
//! renewed before that, and end with the compute they were made for: its name is in them, and `access/callers.rs` looks
//! whether it still runs.

use std::{sync::Arc, time::Duration};

use clamshell_domain::{AccountId, Clock, Entropy, Region, Runtime, RuntimeId, StorageId};
use clamshell_identity::role_session::{Grant, MintError, RoleSession, SealingKey, mint};
use clamshell_protocol::RoleCredentials;
use clamshell_store::{ChangePrincipalError, PrincipalKind, PrincipalRecord, Store, StoreError};

use crate::time::rfc3339;

/// Name of the role that the first start makes.
pub(crate) const DEFAULT_ROLE: &str = "clamshell-agent";

/// Name of the secret that seals session tokens.
pub(crate) const SEALING_SECRET: &str = "role-sessions";

/// Credentials are good for so long.
const DURATION_MS: u64 = 3_600_000;

/// They are renewed so long after they were made: ten minutes before their end, when SDKs begin to look for new ones.
pub(crate) const RENEW_AFTER: Duration = Duration::from_secs(50 * 60);

/// A guest that could not be given any is asked again after so long.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What an agent may do by default: call other agents.
const DEFAULT_POLICY: (&str, &str) = (
    "InvokeAgents",
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["bedrock-agentcore:InvokeAgentRuntime","bedrock-agentcore:GetAgentCard"],"Resource":"*"}]}"#,
);

/// Makes the default role at the first start. Whoever removes it later has removed it.
///
/// # Errors
/// [`StoreError`].
pub(crate) async fn ensure_default(store: &Store, now_ms: u64) -> Result<(), StoreError> {
    if store.has_server_secret(SEALING_SECRET).await? {
        return Ok(());
    }
    let (policy, text) = DEFAULT_POLICY;
    let record = PrincipalRecord {
        kind: PrincipalKind::Role,
        name: DEFAULT_ROLE.to_owned(),
        description: "Agents that call other agents".to_owned(),
        created_at_ms: now_ms,
        policies: [(policy.to_owned(), text.to_owned())].into(),
    };
    match store.insert_principal(&record).await {
        Err(ChangePrincipalError::Store(error)) => Err(error),
        _ => Ok(()),
    }
}

/// Makes credentials of roles.
pub(crate) struct RoleIssuer {
    pub(crate) account: AccountId,
    pub(crate) key: Arc<SealingKey>,
}

/// The compute that credentials are for, as the name of a session.
pub(crate) fn session_name(storage_id: &StorageId, started_at_ms: u64) -> String {
    format!("{storage_id}-{started_at_ms}")
}

/// The compute of a session's name.
pub(crate) fn parse_session_name(name: &str) -> Option<(StorageId, u64)> {
    let (storage_id, started_at_ms) = name.split_once('-')?;
    Some((StorageId::parse(storage_id).ok()?, started_at_ms.parse().ok()?))
}

impl RoleIssuer {
    /// Name of the execution role of a runtime, when it is one of this account; `None` when it has none.
    pub(crate) fn role_of<'r>(&self, runtime: &'r Runtime) -> Option<&'r str> {
        let arn = &runtime.hosting.as_ref()?.role_arn;
        let name = arn.strip_prefix(&format!("arn:aws:iam::{}:role/", self.account))?;
        (!name.is_empty() && !name.contains('/')).then_some(name)
    }

    /// ARN of a runtime of this account.
    pub(crate) fn runtime_arn(&self, region: &Region, runtime_id: &RuntimeId) -> String {
        format!("arn:aws:bedrock-agentcore:{region}:{}:runtime/{runtime_id}", self.account)
    }

    /// Credentials of the role for the compute of this name.
    ///
    /// # Errors
    /// [`MintError`].
    pub(crate) fn issue(
        &self,
        role: &str,
        session_name: String,
        runtime_arn: String,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<RoleCredentials, MintError> {
        let grant = Grant {
            account: self.account.clone(),
            role_arn: format!("arn:aws:iam::{}:role/{role}", self.account),
            session_name,
            source_runtime_arn: Some(runtime_arn),
            duration_ms: DURATION_MS,
        };
        let made: RoleSession = mint(&self.key, grant, clock, entropy)?;
        Ok(RoleCredentials {
            role: role.to_owned(),
            access_key_id: made.access_key_id.to_string(),
            secret_access_key: made.secret_access_key.expose().to_owned(),
            token: made.session_token,
            last_updated: rfc3339(clock.now_ms()),
            expiration: rfc3339(made.expires_at_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sessions_are_read_back() {
        let storage_id = StorageId::parse("abcdefghij234567klmn").unwrap();
        let name = session_name(&storage_id, 1_800_000_000_000);
        assert_eq!(parse_session_name(&name), Some((storage_id, 1_800_000_000_000)));
        for bad in ["", "abcdefghij234567klmn", "abcdefghij234567klmn-x", "short-1"] {
            assert_eq!(parse_session_name(bad), None, "{bad}");
        }
    }
}
