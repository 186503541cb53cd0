//! What every request handler shares.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use clamshell_domain::{
    AccessKey, AccessKeyId, AccessKeyStatus, AccountId, Clock, EndpointName, Entropy, Region, Runtime,
    RuntimeId, RuntimeName, ServerProtocol, SessionId, SessionKey,
};
use clamshell_identity::{jwt::Verifier, role_session::SealingKey};
use clamshell_sandbox::image::ImageStore;
use clamshell_store::{MasterKey, Secret, Store};
use clamshell_wire::{AwsError, arn::RuntimeArn};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    audit::{Audit, AuditEntry},
    config::Config,
    connections::Connections,
    console::Console,
    control::Control,
    events::Events,
    files::Uploads,
    http::{ApiError, ControlError, PolicyCache, RequestIds, Spool},
    logs::Logs,
    remembered::Remembered,
    session::Registry,
    shares::Shares,
    web::Web,
};

/// A secret looked up is used this long without asking the store again; a key disabled through this
/// server is forgotten at once.
const KEY_CACHE_MS: u64 = 5_000;

/// Keys remembered at once: more than a server has users.
const KEY_CACHE_MAX: usize = 1024;

/// Ids of keys remembered; with more than that each unknown one is looked up. Some MiB.
const KEY_IDS_MAX: usize = 65_536;

/// Partition of all ARNs of this server.
const PARTITION: &str = "aws";

/// A key is noted as used at most so often.
const KEY_TOUCH_MS: u64 = 60_000;

/// The assembled server.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) account_id: AccountId,
    pub(crate) region: Region,
    pub(crate) store: Store,
    pub(crate) master_key: MasterKey,
    pub(crate) registry: Arc<Registry>,
    /// Root file systems, shared with the native driver.
    pub(crate) images: Arc<ImageStore>,
    pub(crate) control: Control,
    pub(crate) logs: Arc<Logs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) request_ids: RequestIds,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
    /// Base URL, known once the server listens.
    pub(crate) endpoint: std::sync::OnceLock<String>,
    /// Starts empty.
    pub(crate) keys: std::sync::Mutex<KeyCache>,
    /// Starts empty. Held while the store is asked, so that of many strangers one asks.
    pub(crate) key_ids: tokio::sync::Mutex<Option<KeyIds>>,
    /// Versions that endpoints called lately point to. Starts empty.
    pub(crate) targets: Remembered<(RuntimeId, EndpointName), Runtime>,
    /// Bodies of invocations that are too long for memory.
    pub(crate) spool: Spool,
    /// Uploads to workspaces.
    pub(crate) uploads: Uploads,
    /// Policies read lately.
    pub(crate) policies: PolicyCache,
    /// Seals and opens session tokens of roles.
    pub(crate) sealing_key: Arc<SealingKey>,
    /// Starts empty.
    pub(crate) verifier: tokio::sync::OnceCell<Verifier>,
    /// Open WebSockets by access key.
    pub(crate) connections: Connections,
    /// Logins of people.
    pub(crate) console: Console,
    /// Who did what.
    pub(crate) audit: Audit,
    /// Shells that run at another endpoint; then there are none here.
    pub(crate) web: Option<Arc<Web>>,
    /// For those who watch.
    pub(crate) events: Arc<Events>,
    /// Share links in use.
    pub(crate) shares: Shares,
}

/// Access keys read lately.
#[derive(Default)]
pub(crate) struct KeyCache {
    by_id: HashMap<AccessKeyId, CachedKey>,
    /// Counts changes of keys: what was read before a change must not be remembered after it.
    changes: u64,
}

/// All ids there are, so that strangers with invented ones cost the store nothing.
pub(crate) struct KeyIds {
    ids: HashSet<AccessKeyId>,
    read_at_ms: u64,
    /// [`KeyCache::changes`] before they were read.
    changes: u64,
}

struct CachedKey {
    key: AccessKey,
    secret: Arc<Secret>,
    read_at_ms: u64,
}

/// A runtime with the endpoint it was asked for through.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) endpoint: EndpointName,
}

impl Target {
    /// The name of a session of this target.
    pub(crate) fn session_key(&self, session_id: SessionId) -> SessionKey {
        SessionKey {
            runtime_id: self.runtime.runtime_id.clone(),
            endpoint: self.endpoint.clone(),
            session_id,
        }
    }
}

impl App {
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Adds to the audit trail, and returns when it is stored.
    pub(crate) async fn audit(&self, entry: AuditEntry) {
        self.audit.record(entry).await;
    }

    /// ARN of a runtime of this server.
    pub(crate) fn runtime_arn(&self, runtime_id: &RuntimeId) -> RuntimeArn {
        RuntimeArn {
            partition: PARTITION.to_owned(),
            region: self.region.to_string(),
            account_id: self.account_id.to_string(),
            runtime_id: runtime_id.to_string(),
            endpoint: None,
        }
    }

    /// The runtime and endpoint that a data-plane call names: an ARN, or an id together with `account`
    /// (`runtime.md` 1.2).
    ///
    /// # Errors
    /// As [`App::target`], and a `ValidationException` for a missing or malformed account beside an id.
    pub(crate) async fn called_target(
        &self,
        runtime: &str,
        qualifier: Option<&str>,
        account: Option<&str>,
    ) -> Result<Target, ApiError> {
        if runtime.starts_with("arn:") {
            return self.target(runtime, qualifier).await;
        }
        let account =
            account.ok_or_else(|| AwsError::invalid_field("accountId", "Member must not be null"))?;
        let account = AccountId::parse(account).map_err(|_| {
            AwsError::invalid_field("accountId", "Member must satisfy regular expression pattern: [0-9]{12}")
        })?;
        let target = self.target(runtime, qualifier).await?;
        if account != self.account_id {
            let qualifier = target.endpoint.to_string();
            return Err(ApiError::RuntimeNotFound { runtime: runtime.to_owned(), qualifier });
        }
        Ok(target)
    }

    /// The runtime and endpoint of an ARN or an id.
    ///
    /// # Errors
    /// [`ApiError::RuntimeNotFound`] for whatever is not here, other accounts and regions included.
    pub(crate) async fn target(&self, runtime: &str, qualifier: Option<&str>) -> Result<Target, ApiError> {
        let arn = match runtime.starts_with("arn:") {
            true => Some(RuntimeArn::parse(runtime).map_err(|_| invalid_arn())?),
            false => None,
        };
        // The ARN of an endpoint says itself which one is meant.
        let own = arn.as_ref().and_then(|arn| arn.endpoint.as_deref());
        let qualifier = qualifier.or(own).unwrap_or("DEFAULT");
        let not_found =
            || ApiError::RuntimeNotFound { runtime: runtime.to_owned(), qualifier: qualifier.to_owned() };
        let endpoint = EndpointName::parse(qualifier).map_err(|_| {
            AwsError::invalid_field(
                "qualifier",
                "Member must satisfy regular expression pattern: [a-zA-Z][a-zA-Z0-9_]{0,47}",
            )
        })?;
        let runtime_id = RuntimeId::parse(arn.as_ref().map_or(runtime, |arn| arn.runtime_id.as_str()))
            .map_err(|_| invalid_arn())?;
        let is_foreign = |arn: &RuntimeArn| {
            !self.is_own(arn) || arn.endpoint.as_deref().is_some_and(|own| own != qualifier)
        };
        if arn.as_ref().is_some_and(is_foreign) {
            return Err(not_found());
        }
        self.target_of(&runtime_id, endpoint).await?.ok_or_else(not_found)
    }

    /// What a runtime speaks by its newest version, for whoever calls an endpoint of it that is not there; `None` when the
    /// runtime is not here either.
    pub(crate) async fn protocol_of(&self, runtime: &str) -> Option<ServerProtocol> {
        let runtime_id = if runtime.starts_with("arn:") {
            let arn = RuntimeArn::parse(runtime).ok().filter(|arn| self.is_own(arn))?;
            RuntimeId::parse(&arn.runtime_id)
        } else {
            RuntimeId::parse(runtime)
        };
        let found = self.store.runtime(&runtime_id.ok()?, None).await.ok()??;
        found.hosting.map(|hosting| hosting.protocol)
    }

    fn is_own(&self, arn: &RuntimeArn) -> bool {
        arn.partition == PARTITION
            && arn.account_id == self.account_id.as_str()
            && arn.region == self.region.as_str()
    }

    /// As [`App::target`], and names are understood as well (extension API).
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn named_target(
        &self,
        runtime: &str,
        qualifier: Option<&str>,
    ) -> Result<Target, ApiError> {
        // A name has no hyphen and an id has one, so neither is ever taken for the other.
        let Ok(name) = RuntimeName::parse(runtime) else { return self.target(runtime, qualifier).await };
        match self.store.runtime_by_name(&name).await? {
            Some(found) => self.target(found.runtime_id.as_str(), qualifier).await,
            None => Err(ApiError::RuntimeNotFound {
                runtime: runtime.to_owned(),
                qualifier: qualifier.unwrap_or("DEFAULT").to_owned(),
            }),
        }
    }

    async fn target_of(
        &self,
        runtime_id: &RuntimeId,
        endpoint: EndpointName,
    ) -> Result<Option<Target>, ApiError> {
        let (changes, now_ms) = (self.store.changes(), self.now_ms());
        let key = (runtime_id.clone(), endpoint.clone());
        if let Some(runtime) = self.targets.get(&key, changes, now_ms) {
            return Ok(Some(Target { runtime, endpoint }));
        }
        let Some(found) = self.store.endpoint(runtime_id, &endpoint).await? else { return Ok(None) };
        // What is not there, or cannot be called, is asked for seldom.
        if !found.is_callable() {
            return Err(ControlError::NotReady { status: found.status }.into());
        }
        let Some(runtime) = self.store.runtime(runtime_id, Some(found.version)).await? else {
            return Ok(None);
        };
        let runtime = Arc::new(runtime);
        self.targets.put(key, &runtime, changes, now_ms);
        Ok(Some(Target { runtime, endpoint }))
    }

    /// The secret of an active access key.
    ///
    /// # Errors
    /// [`ApiError::UnknownAccessKey`] for unknown and inactive ones alike.
    pub(crate) async fn active_key(self: &Arc<Self>, id: &str) -> Result<(AccessKey, Arc<Secret>), ApiError> {
        let id = AccessKeyId::parse(id).map_err(|_| ApiError::UnknownAccessKey)?;
        let now_ms = self.now_ms();
        let changes = {
            let cache = self.key_cache();
            if let Some(cached) = cache.by_id.get(&id)
                && now_ms < cached.read_at_ms.saturating_add(KEY_CACHE_MS)
            {
                return Ok((cached.key.clone(), Arc::clone(&cached.secret)));
            }
            cache.changes
        };
        if !self.may_be_key(&id, now_ms).await? {
            return Err(ApiError::UnknownAccessKey);
        }
        let found = self.store.secret_of(&self.master_key, &id).await.map_err(|error| {
            tracing::error!(error = crate::http::chain(&error), "secret of an access key cannot be read");
            ApiError::Internal("access key")
        })?;
        let Some((key, secret)) = found else { return Err(ApiError::UnknownAccessKey) };
        if key.status != AccessKeyStatus::Active {
            return Err(ApiError::UnknownAccessKey);
        }
        let secret = Arc::new(secret);
        let mut cache = self.key_cache();
        if cache.by_id.len() >= KEY_CACHE_MAX {
            cache.by_id.clear();
        }
        if cache.changes == changes {
            let cached = CachedKey { key: key.clone(), secret: Arc::clone(&secret), read_at_ms: now_ms };
            cache.by_id.insert(id, cached);
        }
        Ok((key, secret))
    }

    /// Whether there is a key of this id, as far as is remembered.
    async fn may_be_key(&self, id: &AccessKeyId, now_ms: u64) -> Result<bool, ApiError> {
        let mut known = self.key_ids.lock().await;
        let changes = self.key_cache().changes;
        if let Some(known) = &*known
            && known.changes == changes
            && now_ms < known.read_at_ms.saturating_add(KEY_CACHE_MS)
        {
            return Ok(known.ids.is_empty() || known.ids.contains(id));
        }
        let all = self.store.list_access_keys().await?;
        // None at all says that there are too many: a server without any key answers nobody anyway.
        let all = if all.len() > KEY_IDS_MAX { Vec::new() } else { all };
        let ids: HashSet<AccessKeyId> = all.into_iter().map(|key| key.access_key_id).collect();
        let found = ids.is_empty() || ids.contains(id);
        *known = Some(KeyIds { ids, read_at_ms: now_ms, changes });
        Ok(found)
    }

    /// Notes that a key signed something, at most once a minute and not in the caller's time.
    pub(crate) fn note_key_use(self: &Arc<Self>, key: &AccessKey) {
        let now_ms = self.now_ms();
        if key.last_used_at_ms.is_some_and(|last| now_ms < last.saturating_add(KEY_TOUCH_MS)) {
            return;
        }
        if let Some(cached) = self.key_cache().by_id.get_mut(&key.access_key_id) {
            cached.key.last_used_at_ms = Some(now_ms);
        }
        let app = Arc::clone(self);
        let id = key.access_key_id.clone();
        self.tasks.spawn(async move {
            if let Err(error) = app.store.touch_access_key(&id, now_ms).await {
                tracing::warn!(error = crate::http::chain(&error), "use of an access key was not noted");
            }
        });
    }

    /// Forgets what is known of a key, after it was made or changed.
    pub(crate) fn forget_key(&self, id: &AccessKeyId) {
        let mut cache = self.key_cache();
        cache.changes += 1;
        cache.by_id.remove(id);
    }

    fn key_cache(&self) -> std::sync::MutexGuard<'_, KeyCache> {
        self.keys.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn invalid_arn() -> AwsError {
    AwsError::invalid_field("agentRuntimeArn", "Member must be the ARN or the id of an agent runtime")
}
