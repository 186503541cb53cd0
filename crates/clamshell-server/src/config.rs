//! The configuration of one server process: flags over environment over file, checked before any
//! port opens. Every key is documented in `docs/configuration.md`.

mod access_points;
mod artifacts;
mod console;
mod cost;
mod web;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use clamshell_domain::{Artifact, LifecycleConfiguration, Limits, Region, RuntimeName};
use clamshell_sandbox::image::registry::Registries;
use serde::Deserialize;
use thiserror::Error;

use self::access_points::FileAccessPoint;
pub(crate) use self::access_points::WorkingPrefix;
pub use self::access_points::{AccessPoint, AccessPointSource};
pub(crate) use self::artifacts::artifact;
use self::artifacts::{FileBucket, FileRegistry};
use self::console::FileConsole;
pub use self::console::{ConsolePolicy, OidcPolicy};
pub use self::cost::CostRates;
use self::cost::FileCost;
use crate::{local::default_data_dir, logs::LogPolicy, objects::BucketSource, web::WebLimits};

/// What command-line flags say; `None` leaves the value to the environment, the file, the default.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--listen`
    pub listen: Option<String>,
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--config`
    pub config_file: Option<PathBuf>,
    /// `--tls-cert`
    pub tls_cert: Option<PathBuf>,
    /// `--tls-key`
    pub tls_key: Option<PathBuf>,
    /// `--region`
    pub region: Option<String>,
}

/// Who may name images that lie on this machine, its own system among them, in calls that make runtimes. Whoever may
/// sees every file that the image named has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalImages {
    /// No call.
    Nobody,
    /// The account's root: on a loopback address that is the operator, who can read those files anyway.
    Root,
    /// Whoever may make runtimes.
    Anybody,
}

/// Where the listener's certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// Made by the server's own CA, renewed at each start.
    LocalCa {
        /// Names and addresses beside localhost and the AWS names of the region.
        names: Vec<String>,
    },
    /// PEM files.
    Files {
        /// Certificate chain.
        cert: PathBuf,
        /// Private key.
        key: PathBuf,
    },
}

/// Times of shells and storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellPolicy {
    /// A detached shell is ended after this long, milliseconds.
    pub detached_timeout_ms: u64,
    /// Connection time to live, milliseconds (`runtime.md` 6.8: one hour).
    pub connection_ttl_ms: u64,
    /// A connection whose client takes no byte for this long is closed with 1008, milliseconds.
    pub stall_timeout_ms: u64,
    /// Output kept on disk per shell, bytes.
    pub log_bytes_max: u64,
    /// Running shells per session.
    pub shells_max: u32,
}

/// Times of invocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvocationPolicy {
    /// An agent has this long to answer, and to finish an answer that is no stream, milliseconds (`runtime.md` section 10).
    pub sync_timeout_ms: u64,
    /// A stream or a WebSocket ends after this long, milliseconds.
    pub stream_timeout_ms: u64,
}

/// A runtime that the configuration declares; made or given a new version at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredRuntime {
    /// Its name.
    pub name: RuntimeName,
    /// Text for people.
    pub description: String,
    /// Root file system.
    pub artifact: Artifact,
    /// Driver; `None`: the server's default.
    pub driver: Option<String>,
    /// Variables of its commands.
    pub environment: BTreeMap<String, String>,
    /// Timers.
    pub lifecycle: LifecycleConfiguration,
    /// Limits.
    pub limits: Limits,
}

/// Everything a server needs to know before it starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address of the listener; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where all state lives.
    pub data_dir: PathBuf,
    /// TLS on the listener; `None`: plain HTTP.
    pub tls: Option<Tls>,
    /// Region in ARNs and signatures; `None`: what the data directory was set up for, at first [`DEFAULT_REGION`].
    pub region: Option<Region>,
    /// Driver of runtimes that name none: `native`, `runc` or `crun`.
    pub driver: String,
    /// Limits of the runtime `default`, and of declared ones that set none.
    pub limits: Limits,
    /// Runtimes beside `default`, and `default` itself when it is declared.
    pub runtimes: Vec<DeclaredRuntime>,
    /// Registries that images come from.
    pub registries: Registries,
    /// Buckets beside those of this server that code comes from.
    pub buckets: BTreeMap<String, BucketSource>,
    /// What stands behind the ARNs of access points.
    pub access_points: BTreeMap<String, AccessPoint>,
    /// Further host directories that the `host` image shows, read-only.
    pub host_image_include: Vec<PathBuf>,
    /// Times of shells.
    pub shells: ShellPolicy,
    /// Times of invocations.
    pub invocations: InvocationPolicy,
    /// How much of the logs of runtimes is kept.
    pub logs: LogPolicy,
    /// A stopped session's storage is removed after so long without activity, milliseconds.
    pub storage_retention_ms: u64,
    /// Milliseconds between SIGTERM and the end of open connections.
    pub drain_timeout_ms: u64,
    /// Whether one sandbox is made ahead for the next new session.
    pub standby: bool,
    /// Who may make runtimes of images that lie on this machine.
    pub local_images: LocalImages,
    /// Whether identity providers of runtimes may have addresses that are not public: those of the operator's own networks
    /// and of this machine. Whoever makes runtimes could then look around there.
    pub allow_private_identity_providers: bool,
    /// Root file system below code zips.
    pub code_base_image: Artifact,
    /// Whether a session that starts with another version of its runtime finds its workspace as it was.
    pub keep_workspace_across_versions: bool,
    /// The browser console.
    pub console: ConsolePolicy,
    /// How many shells `clamshell web` has.
    pub web: WebLimits,
    /// What use costs; `None`: nobody has said.
    pub cost: Option<CostRates>,
}

/// The configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{} is not a valid configuration: {reason}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What and where.
        reason: String,
    },
    /// A value is out of its range.
    #[error("{key}: {reason}")]
    Value {
        /// Flag, variable or key.
        key: &'static str,
        /// The rule.
        reason: String,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    listen: Option<String>,
    data_dir: Option<PathBuf>,
    region: Option<String>,
    driver: Option<String>,
    allow_remote_plaintext: bool,
    storage_retention_days: Option<u64>,
    drain_timeout_s: Option<u64>,
    standby: Option<bool>,
    allow_local_images: Option<bool>,
    allow_private_identity_providers: Option<bool>,
    code_base_image: Option<String>,
    keep_workspace_across_versions: Option<bool>,
    tls: Option<FileTls>,
    limits: FileLimits,
    runtimes: BTreeMap<String, FileRuntime>,
    registries: BTreeMap<String, FileRegistry>,
    buckets: BTreeMap<String, FileBucket>,
    access_points: BTreeMap<String, FileAccessPoint>,
    host_image: FileHostImage,
    shells: FileShells,
    invocations: FileInvocations,
    logs: FileLogs,
    console: FileConsole,
    web: web::FileWeb,
    cost: Option<FileCost>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileTls {
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    names: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileLimits {
    cpu_millis: Option<u32>,
    memory_mib: Option<u64>,
    pids_max: Option<u32>,
    workspace_mib: Option<u64>,
    scratch_mib: Option<u64>,
    open_files_max: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileRuntime {
    image: Option<String>,
    description: Option<String>,
    driver: Option<String>,
    environment: BTreeMap<String, String>,
    idle_timeout_s: Option<u64>,
    max_lifetime_s: Option<u64>,
    limits: FileLimits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileHostImage {
    include: Vec<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileInvocations {
    sync_timeout_s: Option<u64>,
    stream_timeout_s: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileShells {
    detached_timeout_s: Option<u64>,
    connection_ttl_s: Option<u64>,
    stall_timeout_s: Option<u64>,
    log_mib: Option<u64>,
    per_session: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileLogs {
    group_mib: Option<u64>,
    retention_days: Option<u64>,
}

/// Region of a data directory whose first start names none.
pub(crate) const DEFAULT_REGION: &str = "us-west-2";

const MIB: u64 = 1 << 20;

/// One pebibyte, more than any limit means; a larger one would not fit in what the kernel counts with.
const MIB_MAX: u64 = 1 << 30;

/// A hundred years: times that far away can still be added to now.
const PERIOD_MS_MAX: u64 = 100 * 366 * 86_400_000;

/// `maxLifetime` of the model, seconds.
const LIFETIME_S_MAX: u64 = 1_209_600;

impl Config {
    /// Reads the file and the environment, applies the flags, checks everything.
    ///
    /// # Errors
    /// [`ConfigError`] that names the key.
    pub fn load(overrides: Overrides) -> Result<Self, ConfigError> {
        Self::load_from(overrides, &|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn load_from(
        overrides: Overrides,
        variable: &dyn Fn(&'static str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let data_dir = overrides.data_dir.or_else(|| variable("CLAMSHELL_DATA_DIR").map(PathBuf::from));
        let named = overrides.config_file.or_else(|| variable("CLAMSHELL_CONFIG").map(PathBuf::from));
        let file = match named {
            Some(path) => read_file(&path)?,
            None => {
                let path = data_dir.clone().unwrap_or_else(default_data_dir).join("clamshell.toml");
                if path.exists() { read_file(&path)? } else { File::default() }
            }
        };
        let data_dir = data_dir.or(file.data_dir).unwrap_or_else(default_data_dir);
        let data_dir = std::path::absolute(&data_dir)
            .map_err(|error| ConfigError::Value { key: "data_dir", reason: error.to_string() })?;

        let listen = overrides.listen.or_else(|| variable("CLAMSHELL_LISTEN")).or(file.listen);
        let listen = listen.unwrap_or_else(|| "127.0.0.1:7878".to_owned());
        let listen: SocketAddr = listen.parse().map_err(|_| ConfigError::Value {
            key: "listen",
            reason: format!("`{listen}` is not ADDRESS:PORT"),
        })?;

        let cert = overrides.tls_cert.or_else(|| variable("CLAMSHELL_TLS_CERT").map(PathBuf::from));
        let key = overrides.tls_key.or_else(|| variable("CLAMSHELL_TLS_KEY").map(PathBuf::from));
        let tls = tls(cert, key, file.tls)?;
        if tls.is_none() && !is_loopback(listen.ip()) && !file.allow_remote_plaintext {
            return Err(ConfigError::Value {
                key: "listen",
                reason: format!(
                    "{listen} can be reached from other machines: set [tls], or allow_remote_plaintext = true"
                ),
            });
        }

        let region = overrides.region.or_else(|| variable("CLAMSHELL_REGION")).or(file.region);
        let region = region
            .map(Region::parse)
            .transpose()
            .map_err(|error| ConfigError::Value { key: "region", reason: error.to_string() })?;
        let driver = variable("CLAMSHELL_DRIVER").or(file.driver).unwrap_or_else(|| "native".to_owned());

        let limits = file.limits.over(Limits::default());
        let declared = file.runtimes.into_iter().map(|(name, runtime)| runtime.declared(name, limits));
        let runtimes = declared.collect::<Result<Vec<_>, _>>()?;
        let shells = ShellPolicy {
            detached_timeout_ms: millis("detached_timeout_s", file.shells.detached_timeout_s, 900, 1000)?,
            connection_ttl_ms: millis("connection_ttl_s", file.shells.connection_ttl_s, 3600, 1000)?,
            stall_timeout_ms: millis("stall_timeout_s", file.shells.stall_timeout_s, 300, 1000)?,
            log_bytes_max: bytes(file.shells.log_mib.unwrap_or(64).max(1)),
            shells_max: file.shells.per_session.unwrap_or(10),
        };
        let bucket_region = region.as_ref().map(|region| region.as_str().to_owned());
        let buckets = artifacts::buckets(file.buckets, bucket_region.as_deref())?;
        let invocations = InvocationPolicy {
            sync_timeout_ms: millis("sync_timeout_s", file.invocations.sync_timeout_s, 900, 1000)?,
            stream_timeout_ms: millis("stream_timeout_s", file.invocations.stream_timeout_s, 3600, 1000)?,
        };
        let kept = LogPolicy::default();
        let logs = LogPolicy {
            group_bytes_max: file.logs.group_mib.map_or(kept.group_bytes_max, |mib| bytes(mib.max(1))),
            days_max: file.logs.retention_days.unwrap_or(kept.days_max).clamp(1, 36_600),
        };
        Ok(Self {
            listen,
            access_points: access_points::access_points(file.access_points, &data_dir, &buckets)?,
            console: console::console(file.console, &data_dir)?,
            web: web::limits(&file.web)?,
            cost: file.cost.map(cost::cost).transpose()?,
            data_dir,
            tls,
            region,
            driver,
            limits,
            runtimes,
            registries: artifacts::registries(file.registries)?,
            buckets,
            host_image_include: file.host_image.include,
            shells,
            invocations,
            logs,
            storage_retention_ms: millis(
                "storage_retention_days",
                file.storage_retention_days,
                14,
                86_400_000,
            )?,
            drain_timeout_ms: millis("drain_timeout_s", file.drain_timeout_s, 10, 1000)?,
            standby: file.standby.unwrap_or(true),
            local_images: match file.allow_local_images {
                Some(true) => LocalImages::Anybody,
                Some(false) => LocalImages::Nobody,
                None if is_loopback(listen.ip()) => LocalImages::Root,
                None => LocalImages::Nobody,
            },
            allow_private_identity_providers: file.allow_private_identity_providers.unwrap_or(false),
            code_base_image: base_image(file.code_base_image.as_deref().unwrap_or("host"))?,
            keep_workspace_across_versions: file.keep_workspace_across_versions.unwrap_or(true),
        })
    }
}

impl FileLimits {
    /// These over others.
    fn over(&self, base: Limits) -> Limits {
        Limits {
            cpu_millis: self.cpu_millis.unwrap_or(base.cpu_millis).max(10),
            memory_bytes: self.memory_mib.map_or(base.memory_bytes, |mib| bytes(mib.max(16))),
            pids_max: self.pids_max.unwrap_or(base.pids_max).max(16),
            workspace_bytes: self.workspace_mib.map_or(base.workspace_bytes, bytes),
            scratch_bytes: self.scratch_mib.map_or(base.scratch_bytes, bytes),
            open_files_max: self.open_files_max.unwrap_or(base.open_files_max),
        }
    }
}

impl FileRuntime {
    fn declared(self, name: String, limits: Limits) -> Result<DeclaredRuntime, ConfigError> {
        let refuse =
            |reason: String| ConfigError::Value { key: "runtimes", reason: format!("{name}: {reason}") };
        let image = self.image.as_deref().unwrap_or("host");
        let artifact = artifact(image).ok_or_else(|| {
            refuse(format!("image `{image}` is not host, dir:/PATH, oci:/PATH[#REFERENCE] or a reference such as ghcr.io/name/image:tag"))
        })?;
        // `runtime.md` 8.4: what is not given follows from what is.
        let base = LifecycleConfiguration::default();
        let max_lifetime_s = self.max_lifetime_s.unwrap_or(base.max_lifetime_s);
        let idle_timeout_s = self.idle_timeout_s.unwrap_or(base.idle_timeout_s.min(max_lifetime_s));
        if idle_timeout_s == 0 || idle_timeout_s > max_lifetime_s || max_lifetime_s > LIFETIME_S_MAX {
            return Err(refuse(format!(
                "idle_timeout_s must be from 1 to max_lifetime_s, and that at most {LIFETIME_S_MAX}"
            )));
        }
        Ok(DeclaredRuntime {
            name: RuntimeName::parse(name.as_str()).map_err(|error| refuse(error.to_string()))?,
            description: self.description.unwrap_or_default(),
            artifact,
            driver: self.driver,
            environment: self.environment,
            lifecycle: LifecycleConfiguration { idle_timeout_s, max_lifetime_s },
            limits: self.limits.over(limits),
        })
    }
}

fn base_image(text: &str) -> Result<Artifact, ConfigError> {
    artifact(text).ok_or_else(|| ConfigError::Value {
        key: "code_base_image",
        reason: format!("`{text}` is not host, dir:/PATH, oci:/PATH[#REFERENCE] or the name of an image"),
    })
}

fn read_file(path: &Path) -> Result<File, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text)
        .map_err(|error| ConfigError::Parse { path: path.to_owned(), reason: error.to_string() })
}

fn tls(
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    file: Option<FileTls>,
) -> Result<Option<Tls>, ConfigError> {
    let has_section = file.is_some();
    let file = file.unwrap_or_default();
    match (cert.or(file.cert), key.or(file.key)) {
        (Some(cert), Some(key)) => Ok(Some(Tls::Files { cert, key })),
        (None, None) if has_section => Ok(Some(Tls::LocalCa { names: file.names })),
        (None, None) => Ok(None),
        _ => Err(ConfigError::Value { key: "tls", reason: "needs both a certificate and a key".to_owned() }),
    }
}

fn bytes(mib: u64) -> u64 {
    mib.min(MIB_MAX) * MIB
}

/// A period in milliseconds, each of its units being `unit_ms` of them.
fn millis(key: &'static str, given: Option<u64>, default: u64, unit_ms: u64) -> Result<u64, ConfigError> {
    let units = given.unwrap_or(default);
    let fits = |ms: &u64| *ms <= PERIOD_MS_MAX;
    let too_long = || ConfigError::Value { key, reason: format!("{units} is more than a hundred years") };
    units.checked_mul(unit_ms).filter(fits).ok_or_else(too_long)
}

fn is_loopback(address: IpAddr) -> bool {
    address.is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(overrides: Overrides, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::load_from(overrides, &|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn in_folder(text: &str) -> (tempfile::TempDir, Overrides) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("clamshell.toml"), text).unwrap();
        let overrides = Overrides { data_dir: Some(folder.path().to_owned()), ..Overrides::default() };
        (folder, overrides)
    }

    #[test]
    fn no_number_is_too_large() {
        let huge = i64::MAX;
        for key in ["storage_retention_days", "drain_timeout_s"] {
            let (_folder, overrides) = in_folder(&format!("{key} = {huge}\n"));
            let error = load(overrides, &[]).unwrap_err().to_string();
            assert_eq!(error, format!("{key}: {huge} is more than a hundred years"));
        }
        let (_folder, overrides) = in_folder(&format!("[shells]\nstall_timeout_s = {huge}\n"));
        assert!(load(overrides, &[]).is_err());
        let limits = ["memory_mib", "workspace_mib", "scratch_mib"].map(|key| format!("{key} = {huge}\n"));
        let (_folder, overrides) =
            in_folder(&format!("[limits]\n{}[shells]\nlog_mib = {huge}\n", limits.concat()));
        let config = load(overrides, &[]).unwrap();
        assert_eq!(config.limits.memory_bytes, 1 << 50);
        assert_eq!(config.shells.log_bytes_max, 1 << 50);
    }

    #[test]
    fn flags_win_over_environment_over_file() {
        let (_folder, mut overrides) = in_folder("listen = \"127.0.0.1:1\"\nregion = \"eu-west-1\"\n");
        let listen = |overrides: &Overrides, variables: &[(&str, &str)]| {
            load(overrides.clone(), variables).unwrap().listen.port()
        };
        assert_eq!(listen(&overrides, &[]), 1);
        assert_eq!(listen(&overrides, &[("CLAMSHELL_LISTEN", "127.0.0.1:2")]), 2);
        overrides.listen = Some("127.0.0.1:3".to_owned());
        assert_eq!(listen(&overrides, &[("CLAMSHELL_LISTEN", "127.0.0.1:2")]), 3);
        assert_eq!(load(overrides, &[]).unwrap().region.unwrap().as_str(), "eu-west-1");
    }

    #[test]
    fn an_address_for_others_needs_tls_or_a_word() {
        let (_folder, overrides) = in_folder("listen = \"0.0.0.0:1\"\n");
        assert!(matches!(load(overrides, &[]), Err(ConfigError::Value { key: "listen", .. })));
        let (_folder, overrides) = in_folder("listen = \"0.0.0.0:1\"\nallow_remote_plaintext = true\n");
        load(overrides, &[]).unwrap();
        let (_folder, overrides) = in_folder("listen = \"0.0.0.0:1\"\n[tls]\n");
        assert_eq!(load(overrides, &[]).unwrap().tls, Some(Tls::LocalCa { names: vec![] }));
    }

    #[test]
    fn declared_runtimes_have_images_timers_and_limits() {
        let text = "[limits]\npids_max = 99\n[runtimes.mine]\nimage = \"oci:/images/x.tar#v1\"\nmax_lifetime_s = 60\n";
        let (_folder, overrides) = in_folder(text);
        let config = load(overrides, &[]).unwrap();
        let expect = DeclaredRuntime {
            name: RuntimeName::parse("mine").unwrap(),
            description: String::new(),
            artifact: Artifact::Oci { path: "/images/x.tar".into(), reference: Some("v1".to_owned()) },
            driver: None,
            environment: BTreeMap::new(),
            lifecycle: LifecycleConfiguration { idle_timeout_s: 60, max_lifetime_s: 60 },
            limits: Limits { pids_max: 99, ..Limits::default() },
        };
        assert_eq!(config.runtimes, [expect]);
        for bad in ["image = \"dir:relative\"", "image = \"X\"", "idle_timeout_s = 61\nmax_lifetime_s = 60"] {
            let (_folder, overrides) = in_folder(&format!("[runtimes.mine]\n{bad}\n"));
            assert!(matches!(load(overrides, &[]), Err(ConfigError::Value { key: "runtimes", .. })), "{bad}");
        }
    }

    #[test]
    fn unknown_keys_are_named() {
        let (_folder, overrides) = in_folder("lisen = \"x\"\n");
        let error = load(overrides, &[]).unwrap_err().to_string();
        assert!(error.contains("lisen"), "{error}");
    }
}
