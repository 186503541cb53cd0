//! The server as a whole: assembled from a configuration, then given a listener.

mod connection;
mod proof;

use std::{
    collections::HashMap,
    fs::File,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clamshell_domain::{
    AccountId, Artifact, Clock, DriverReport, Entropy, LifecycleConfiguration, NetworkMode, Region, Runtime,
    RuntimeId, RuntimeName, SandboxDriver, SystemClock, SystemEntropy,
};
use clamshell_identity::role_session::SealingKey;
use clamshell_sandbox::image::{ImageSources, ImageStore};
use clamshell_sandbox::{NativeDriver, NativeOptions, OciDriver, OciOptions};
use clamshell_store::{Account, MasterKey, MasterKeyError, Store, StoreError};
use rustix::fs::{FlockOperation, flock};
use thiserror::Error;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::proof::Proof;
use crate::{
    app::App,
    audit::Audit,
    config::{Config, DEFAULT_REGION, DeclaredRuntime, Tls},
    connections::Connections,
    console::{Console, refresh_roles},
    control::{self, Control},
    events::{Events, Hints},
    file_systems::FileSystems,
    files::{self, Uploads},
    http, images,
    local::{ServerInfo, own_build, write_server_info},
    logs::Logs,
    objects::Objects,
    roles::{self, RoleIssuer},
    session::{Registry, RegistryParts},
    shares::{self, Shares},
    tls::{self, TlsError},
    web::{Upstream, Web, WebParts, WebPolicy, WebStartError},
};

/// Tasks of connections that were cut have this long to tidy up.
const CUT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the lock of the data directory may be held by what is left of a killed server. Nothing else runs in this
/// process by then.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// Connections served at once; each takes a descriptor and some tens of KiB. Upgraded ones count as long as their
/// handshake only.
const CONNECTIONS_MAX: usize = 4096;

/// OCI runtimes that a configuration may name; each is looked up on PATH.
const OCI_RUNTIMES: [&str; 3] = ["runc", "crun", "runsc"];

/// Name of the runtime that the first start makes.
pub(crate) const DEFAULT_RUNTIME: &str = "default";

/// The server cannot start or go on.
#[derive(Debug, Error)]
pub enum RunError {
    /// The data directory cannot be used.
    #[error("cannot use data directory {}", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another server has the data directory.
    #[error("another server is running on {}", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The store.
    #[error("cannot open the store")]
    Store(#[from] StoreError),
    /// The master key.
    #[error("cannot use the master key")]
    MasterKey(#[from] MasterKeyError),
    /// First start.
    #[error("cannot set up the account: {reason}")]
    FirstStart {
        /// What.
        reason: String,
    },
    /// The region cannot be changed: it is part of every ARN that was given out.
    #[error("region is to be {asked}, but the data directory was set up for {stored}")]
    Region {
        /// What the configuration says.
        asked: Region,
        /// What the store holds.
        stored: Region,
    },
    /// Shells of a web terminal.
    #[error("cannot find the shells of the web terminal")]
    Web(#[from] WebStartError),
    /// TLS.
    #[error("cannot set up TLS")]
    Tls(#[from] TlsError),
    /// No such driver.
    #[error("driver `{driver}` cannot be used: {reason}")]
    Driver {
        /// Its name.
        driver: String,
        /// Why.
        reason: String,
    },
    /// The listener.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// An assembled server without a listener.
pub struct Server {
    app: Arc<App>,
    tls: Option<TlsAcceptor>,
    default_runtime: RuntimeId,
    // Held for the life of the server: one server per data directory.
    _lock: File,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Server {
    /// Opens the store, takes up the sessions of an earlier process, and makes what the first start makes. Opens no port.
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn new(config: Config) -> Result<Self, RunError> {
        Self::with_ports(config, Arc::new(SystemClock), Arc::new(SystemEntropy)).await
    }

    /// A server whose shells run at another endpoint: its users, logins and pages are here, sandboxes are not.
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn in_front_of(
        mut config: Config,
        upstream: Arc<dyn Upstream>,
        policy: WebPolicy,
    ) -> Result<Self, RunError> {
        config.standby = false;
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
        Self::assemble(config, clock, entropy, Some((upstream, policy))).await
    }

    /// As [`Server::new`], with time and randomness passed in.
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn with_ports(
        config: Config,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, RunError> {
        Self::assemble(config, clock, entropy, None).await
    }

    async fn assemble(
        config: Config,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        upstream: Option<(Arc<dyn Upstream>, WebPolicy)>,
    ) -> Result<Self, RunError> {
        let data_dir = config.data_dir.clone();
        let lock = prepare(&data_dir)?;
        let store = Store::open(&data_dir.join("clamshell.db")).await?;
        let master_key = MasterKey::load_or_create(&data_dir.join("master.key"), &*entropy)?;
        let account = ensure_account(&store, &config, &*clock, &*entropy).await?;
        ensure_root_key(&store, &master_key, &*clock, &*entropy).await?;
        roles::ensure_default(&store, clock.now_ms()).await?;
        let secret = store.server_secret(&master_key, roles::SEALING_SECRET, &*entropy).await?;
        let sealing_key = Arc::new(SealingKey::new(&secret));
        let default_runtime = ensure_runtimes(&store, &config, &*clock, &*entropy).await?;
        images::warn_of_missing(&config.runtimes);
        tls::ensure_ca(&data_dir, clock.now_ms())?;
        let tls = match &config.tls {
            None => None,
            Some(tls) => {
                let made = tls::server_config(tls, &data_dir, &account.region, clock.now_ms())?;
                Some(TlsAcceptor::from(made))
            }
        };
        let images = image_store(&config);
        let drivers = drivers(&config, &images);
        let named = config.runtimes.iter().filter_map(|declared| declared.driver.as_ref());
        if let Some(driver) = named.chain([&config.driver]).find(|driver| !drivers.contains_key(*driver)) {
            let mut known: Vec<_> = drivers.keys().cloned().collect();
            known.sort();
            let reason = format!("it is none of {}", known.join(", "));
            return Err(RunError::Driver { driver: driver.clone(), reason });
        }
        let tasks = TaskTracker::new();
        let shutdown = CancellationToken::new();
        let logs = Logs::new(&data_dir, config.logs, Arc::clone(&clock), tasks.clone());
        let hints = Hints::default();
        let registry = Registry::load(RegistryParts {
            store: store.clone(),
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            region: account.region.clone(),
            account_id: account.account_id.clone(),
            logs: Arc::clone(&logs),
            drivers,
            default_driver: config.driver.clone(),
            data_dir: data_dir.clone(),
            storage_retention_ms: config.storage_retention_ms,
            standby: config.standby,
            file_systems: FileSystems::new(
                &data_dir,
                config.access_points.clone(),
                config.buckets.clone(),
                &clock,
                tasks.clone(),
            ),
            keep_workspace: config.keep_workspace_across_versions,
            roles: RoleIssuer { account: account.account_id.clone(), key: Arc::clone(&sealing_key) },
            hints: hints.clone(),
            tasks: tasks.clone(),
            shutdown: shutdown.clone(),
        })
        .await?;
        refresh_roles(&store, clock.now_ms()).await?;
        let console = Console::load(&store, &clock, &entropy, &config.console).await?;
        let audit = Audit::new(store.clone(), Arc::clone(&clock), store.last_audit_id().await?);
        let web = match upstream {
            None => None,
            Some((upstream, policy)) => {
                let parts = WebParts {
                    upstream,
                    policy,
                    limits: config.web,
                    store: store.clone(),
                    clock: Arc::clone(&clock),
                    entropy: Arc::clone(&entropy),
                    tasks: tasks.clone(),
                    shutdown: shutdown.clone(),
                };
                Some(Web::new(parts, &data_dir).await?)
            }
        };
        let app = Arc::new(App {
            config,
            account_id: account.account_id,
            region: account.region,
            store,
            master_key,
            registry,
            logs,
            images,
            control: Control::default(),
            clock,
            request_ids: http::RequestIds::new(Arc::clone(&entropy)),
            entropy,
            tasks,
            shutdown,
            endpoint: std::sync::OnceLock::new(),
            keys: std::sync::Mutex::default(),
            key_ids: tokio::sync::Mutex::default(),
            targets: crate::remembered::Remembered::default(),
            spool: http::Spool::new(&data_dir),
            uploads: Uploads::default(),
            policies: http::PolicyCache::default(),
            sealing_key,
            verifier: tokio::sync::OnceCell::new(),
            connections: Connections::default(),
            console,
            audit,
            web,
            events: Arc::new(Events::new(hints)),
            shares: Shares::default(),
        });
        Ok(Self { app, tls, default_runtime, _lock: lock })
    }

    /// Account of this server's ARNs.
    pub fn account_id(&self) -> &AccountId {
        &self.app.account_id
    }

    /// Cancel it to drain and end.
    pub fn shutdown_token(&self) -> CancellationToken {
        self.app.shutdown.clone()
    }

    /// Serves until the shutdown token is cancelled, then drains: sockets get 1001, open requests some seconds;
    /// sandboxes go on.
    ///
    /// # Errors
    /// [`RunError`] when the listener is of no use.
    pub async fn listen(self, listener: TcpListener) -> Result<(), RunError> {
        let app = self.app;
        let data_dir = app.config.data_dir.clone();
        let failed = |source| RunError::Listen { address: app.config.listen, source };
        let address = listener.local_addr().map_err(failed)?;
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let endpoint = format!("{scheme}://{address}");
        let _ = app.endpoint.set(endpoint.clone());
        let _ = app.registry.endpoint.set(endpoint.clone());
        let info = ServerInfo {
            pid: std::process::id(),
            endpoint: endpoint.clone(),
            account_id: app.account_id.to_string(),
            region: app.region.to_string(),
            default_runtime_arn: app.runtime_arn(&self.default_runtime).to_string(),
            ca_path: matches!(app.config.tls, Some(Tls::LocalCa { .. })).then(|| data_dir.join("ca.pem")),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: own_build(),
        };
        write_server_info(&data_dir, &info)
            .map_err(|source| RunError::DataDir { path: data_dir.clone(), source })?;
        tracing::info!(endpoint, "listening");
        if let Some(reason) = app.config.console_off() {
            tracing::info!("no browser console: {reason}");
        }

        // Before the first request: what lies there now is nobody's.
        let sessions_dir = data_dir.join("sessions");
        let _ = tokio::task::spawn_blocking(move || files::remove_leftovers(&sessions_dir)).await;

        app.tasks.spawn(Arc::clone(&app.registry).reap());
        app.registry.start_writing_back();
        let console = Arc::clone(&app);
        app.tasks.spawn(async move { console.console.logins.sweep(console.shutdown.clone()).await });
        app.tasks.spawn(control::reconcile(Arc::clone(&app)));
        let trail = Arc::clone(&app);
        app.tasks.spawn(async move {
            trail.audit.write(trail.shutdown.clone(), |record| trail.events.tell_audit(record)).await;
        });
        app.tasks.spawn(shares::keep_tidy(Arc::clone(&app)));
        app.tasks.spawn(Arc::clone(&app.logs).keep_tidy(app.shutdown.clone()));
        let connections = TaskTracker::new();
        let cut = CancellationToken::new();
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            // With no room the next client waits in the kernel's queue.
            let permit = tokio::select! {
                permit = Arc::clone(&room).acquire_owned() => permit,
                () = app.shutdown.cancelled() => break,
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = app.shutdown.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let _ = stream.set_nodelay(true);
                    let served =
                        connection::serve_stream(Arc::clone(&app), self.tls.clone(), stream, peer.ip());
                    let served = cut.clone().run_until_cancelled_owned(served);
                    connections.spawn(async move {
                        served.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of descriptors, mostly: going round at full speed would not help.
                    tracing::warn!(%error, "connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(listener);
        tracing::info!("draining");
        connections.close();
        app.tasks.close();
        let drained = async {
            connections.wait().await;
            app.tasks.wait().await;
        };
        let patience = Duration::from_millis(app.config.drain_timeout_ms);
        if tokio::time::timeout(patience, drained).await.is_err() {
            tracing::warn!("connections were cut at the end of the drain");
            cut.cancel();
            connections.wait().await;
            // What served them notices; what does not ends with the process.
            let _ = tokio::time::timeout(CUT_TIMEOUT, app.tasks.wait()).await;
        }
        app.registry.end_standby().await;
        app.store.close().await;
        Ok(())
    }
}

/// Makes the data directory private, and takes its lock.
fn prepare(data_dir: &Path) -> Result<File, RunError> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let failed = |source| RunError::DataDir { path: data_dir.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(failed)?;
    std::fs::set_permissions(data_dir, PermissionsExt::from_mode(0o700)).map_err(failed)?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir.join("sessions"))
        .map_err(failed)?;
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(data_dir.join("lock"))
        .map_err(failed)?;
    // A child that a killed server was just about to start has its lock until it has begun to be another program.
    let patience = std::time::Instant::now() + LOCK_PATIENCE;
    loop {
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            Err(rustix::io::Errno::WOULDBLOCK) if std::time::Instant::now() < patience => {
                std::thread::sleep(LOCK_PATIENCE / 50);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(RunError::InUse { path: data_dir.to_owned() });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
    }
}

/// The account, made at the first start.
async fn ensure_account(
    store: &Store,
    config: &Config,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<Account, RunError> {
    let region = match &config.region {
        Some(region) => region.clone(),
        None => Region::parse(DEFAULT_REGION)
            .map_err(|error| RunError::FirstStart { reason: error.to_string() })?,
    };
    let account = store.ensure_account(clock, entropy, region).await?;
    match &config.region {
        Some(asked) if *asked != account.region => {
            Err(RunError::Region { asked: asked.clone(), stored: account.region })
        }
        _ => Ok(account),
    }
}

async fn ensure_root_key(
    store: &Store,
    master_key: &MasterKey,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<(), RunError> {
    if !store.list_access_keys().await?.is_empty() {
        return Ok(());
    }
    let (key, secret) = http::generate_key(entropy, clock.now_ms(), "root".to_owned());
    store
        .insert_access_key(master_key, &key, &secret)
        .await
        .map_err(|error| RunError::FirstStart { reason: http::chain(&error) })
}

/// Brings the runtimes of the configuration into the store: new ones are made, changed ones get a new version.
/// Gives the id of `default`, which is made even when it is not declared, and then never changed.
async fn ensure_runtimes(
    store: &Store,
    config: &Config,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<RuntimeId, RunError> {
    let first_start = |reason: String| RunError::FirstStart { reason };
    let default = RuntimeName::parse(DEFAULT_RUNTIME).map_err(|error| first_start(error.to_string()))?;
    if !config.runtimes.iter().any(|declared| declared.name == default)
        && store.runtime_by_name(&default).await?.is_none()
    {
        let declared = DeclaredRuntime {
            name: default.clone(),
            description: "This machine's own system, isolated".to_owned(),
            artifact: Artifact::Host,
            driver: None,
            environment: std::collections::BTreeMap::new(),
            lifecycle: LifecycleConfiguration::default(),
            limits: config.limits,
        };
        ensure_runtime(store, &declared, clock, entropy).await?;
    }
    for declared in &config.runtimes {
        ensure_runtime(store, declared, clock, entropy).await?;
    }
    let runtime = store.runtime_by_name(&default).await?;
    Ok(runtime.ok_or_else(|| first_start("the runtime `default` vanished".to_owned()))?.runtime_id)
}

async fn ensure_runtime(
    store: &Store,
    declared: &DeclaredRuntime,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<(), RunError> {
    let known = store.runtime_by_name(&declared.name).await?;
    let runtime = Runtime {
        runtime_id: known
            .as_ref()
            .map_or_else(|| RuntimeId::generate(&declared.name, entropy), |known| known.runtime_id.clone()),
        name: declared.name.clone(),
        version: known.as_ref().map_or(1, |known| known.version),
        description: declared.description.clone(),
        artifact: declared.artifact.clone(),
        environment: declared.environment.clone(),
        lifecycle: declared.lifecycle,
        limits: declared.limits,
        network: NetworkMode::Sandbox,
        driver: declared.driver.clone(),
        hosting: None,
        created_at_ms: known.as_ref().map_or_else(|| clock.now_ms(), |known| known.created_at_ms),
    };
    match known {
        None => store
            .insert_runtime(&runtime)
            .await
            .map_err(|error| RunError::FirstStart { reason: http::chain(&error) }),
        Some(known) if known == runtime => Ok(()),
        Some(_) => {
            let version = store.add_runtime_version(&runtime, clock.now_ms()).await?;
            tracing::info!(runtime = %runtime.name, version, "runtime has a new version");
            Ok(())
        }
    }
}

/// The images of all drivers, with the registries and buckets that the configuration names.
pub(crate) fn image_store(config: &Config) -> Arc<ImageStore> {
    let objects = Objects::new(&config.data_dir, config.buckets.clone(), Arc::new(SystemClock));
    let sources = ImageSources {
        registries: config.registries.clone(),
        objects: Some(Arc::new(objects)),
        ..ImageSources::default()
    };
    let store = ImageStore::new(&config.data_dir, config.host_image_include.clone());
    Arc::new(store.with_sources(sources))
}

/// Every driver there is; whether it works on this machine is its own report's matter.
pub(crate) fn drivers(config: &Config, images: &Arc<ImageStore>) -> HashMap<String, Arc<dyn SandboxDriver>> {
    let mut options = NativeOptions::new(&config.data_dir);
    options.images = Some(Arc::clone(images));
    let mut all: Vec<Arc<dyn SandboxDriver>> = vec![Arc::new(NativeDriver::new(options.clone()))];
    for runtime in OCI_RUNTIMES {
        let options = OciOptions { native: options.clone(), program: None };
        all.push(Arc::new(OciDriver::new(runtime, options)));
    }
    all.into_iter().map(|driver| (driver.name().to_owned(), driver)).collect()
}

/// What the doctor answers: what each driver can give here, and whether the images of runtimes are there.
pub(crate) async fn diagnosis(
    drivers: &HashMap<String, Arc<dyn SandboxDriver>>,
    config: &Config,
) -> serde_json::Value {
    let declared = config.runtimes.clone();
    // A path may lie on a file system that does not answer.
    let images = tokio::task::spawn_blocking(move || images::look(&declared)).await.unwrap_or_default();
    let off = config.console_off();
    let console = serde_json::json!({ "available": off.is_none(), "detail": off });
    serde_json::json!({ "reports": reports(drivers).await, "runtimes": images, "console": console })
}

/// What each driver finds out about this machine, by name.
async fn reports(drivers: &HashMap<String, Arc<dyn SandboxDriver>>) -> Vec<DriverReport> {
    let mut reports = Vec::with_capacity(drivers.len());
    for driver in drivers.values() {
        reports.push(driver.probe().await);
    }
    // The default first, then by name.
    reports.sort_by_key(|report| (report.driver != "native", report.driver.clone()));
    reports
}
