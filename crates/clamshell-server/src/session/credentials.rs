//! Credentials of the execution role: given to the guest of a compute before its agent starts, and renewed until it ends.

use std::{sync::Arc, time::Duration};

use clamshell_protocol::{Reply, Request};
use clamshell_store::PrincipalKind;

use super::{Compute, Registry, Session};
use crate::{
    http::chain,
    roles::{RENEW_AFTER, RETRY_AFTER, parse_session_name, session_name},
};

/// Tries before the agent is started without any.
const FIRST_TRIES: u32 = 5;

/// Pause between them.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

impl Registry {
    /// Gives the guest of a compute the first credentials, if its runtime has an execution role of this account, and has them
    /// renewed until the compute ends. Says in words for the runtime's log why there are none.
    pub(super) async fn keep_credentials(
        self: &Arc<Self>,
        session: &Arc<Session>,
        compute: &Compute,
    ) -> Option<String> {
        let runtime = session.runtime();
        let hosting = runtime.hosting.as_ref()?;
        let unknown = format!(
            "execution role {} is not known to this server: the agent has no credentials",
            hosting.role_arn
        );
        let Some(role) = self.roles.role_of(&runtime).map(str::to_owned) else { return Some(unknown) };
        match self.store.principal(PrincipalKind::Role, &role).await {
            Ok(Some(_)) => {}
            Ok(None) => return Some(unknown),
            Err(error) => return Some(format!("execution role cannot be read: {}", chain(&error))),
        }
        let mut given = Err(String::new());
        for _ in 0..FIRST_TRIES {
            given = self.give_credentials(session, compute, &role).await;
            if given.is_ok() {
                break;
            }
            tokio::time::sleep(FIRST_PAUSE).await;
        }
        let (registry, session, compute) = (Arc::clone(self), Arc::clone(session), compute.clone());
        let failed = given.err();
        let first_pause = if failed.is_some() { RETRY_AFTER } else { RENEW_AFTER };
        self.tasks.spawn(async move {
            let mut pause = first_pause;
            loop {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = compute.ended.cancelled() => return,
                    // The next server gives its own at once.
                    () = registry.shutdown.cancelled() => return,
                }
                pause = match registry.give_credentials(&session, &compute, &role).await {
                    Ok(()) => RENEW_AFTER,
                    Err(error) => {
                        tracing::warn!(session = %session.key().session_id, error, "credentials were not renewed");
                        RETRY_AFTER
                    }
                };
            }
        });
        failed.map(|error| format!("the agent has no credentials yet: {error}"))
    }

    async fn give_credentials(&self, session: &Session, compute: &Compute, role: &str) -> Result<(), String> {
        let record = session.record();
        let started_at_ms = record.started_at_ms.ok_or("the compute has not started")?;
        let credentials = self
            .roles
            .issue(
                role,
                session_name(&record.storage_id, started_at_ms),
                self.roles.runtime_arn(&self.region, &record.key.runtime_id),
                &*self.clock,
                &*self.entropy,
            )
            .map_err(|error| chain(&error))?;
        match compute.guest.ask(Request::SetRoleCredentials(Box::new(credentials))).await {
            Ok((Reply::Done, _)) => Ok(()),
            Ok(_) => Err("guest answered with something else".to_owned()),
            Err(error) => Err(chain(&error)),
        }
    }

    /// The running compute that a role session of this name was made for.
    pub(crate) fn compute_of(&self, role_session: &str) -> Option<Compute> {
        let (storage_id, started_at_ms) = parse_session_name(role_session)?;
        let session = self.list_unordered().into_iter().find(|session| {
            let state = session.lock();
            state.record.storage_id == storage_id && state.record.started_at_ms == Some(started_at_ms)
        })?;
        session.compute()
    }
}
