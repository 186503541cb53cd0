//! The configuration of one server process: flags over environment over file, checked before any
//! port opens. Every key is documented in `docs/configuration.md`.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use clamshell_domain::{Limits, Region};
use serde::Deserialize;
use thiserror::Error;

use crate::local::default_data_dir;

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

/// Everything a server needs to know before it starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address of the listener; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where all state lives.
    pub data_dir: PathBuf,
    /// TLS on the listener; `None`: plain HTTP.
    pub tls: Option<Tls>,
    /// Region in ARNs and signatures.
    pub region: Region,
    /// Driver of runtimes that name none: `native`, `runc`, `crun` or `runsc`.
    pub driver: String,
    /// Limits of the runtime `default`.
    pub limits: Limits,
    /// Further host directories that the `host` image shows, read-only.
    pub host_image_include: Vec<PathBuf>,
    /// Times of shells.
    pub shells: ShellPolicy,
    /// A stopped session's storage is removed after so long without activity, milliseconds.
    pub storage_retention_ms: u64,
    /// Milliseconds between SIGTERM and the end of open connections.
    pub drain_timeout_ms: u64,
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
    tls: Option<FileTls>,
    limits: FileLimits,
    host_image: FileHostImage,
    shells: FileShells,
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
struct FileHostImage {
    include: Vec<PathBuf>,
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

const MIB: u64 = 1 << 20;

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
        let region = Region::parse(region.unwrap_or_else(|| "us-west-2".to_owned()))
            .map_err(|error| ConfigError::Value { key: "region", reason: error.to_string() })?;
        let driver = variable("CLAMSHELL_DRIVER").or(file.driver).unwrap_or_else(|| "native".to_owned());

        let base = Limits::default();
        let limits = Limits {
            cpu_millis: file.limits.cpu_millis.unwrap_or(base.cpu_millis).max(10),
            memory_bytes: file.limits.memory_mib.map_or(base.memory_bytes, |mib| mib.max(16) * MIB),
            pids_max: file.limits.pids_max.unwrap_or(base.pids_max).max(16),
            workspace_bytes: file.limits.workspace_mib.map_or(base.workspace_bytes, |mib| mib * MIB),
            scratch_bytes: file.limits.scratch_mib.map_or(base.scratch_bytes, |mib| mib * MIB),
            open_files_max: file.limits.open_files_max.unwrap_or(base.open_files_max),
        };
        let shells = ShellPolicy {
            detached_timeout_ms: file.shells.detached_timeout_s.unwrap_or(900) * 1000,
            connection_ttl_ms: file.shells.connection_ttl_s.unwrap_or(3600) * 1000,
            stall_timeout_ms: file.shells.stall_timeout_s.unwrap_or(300) * 1000,
            log_bytes_max: file.shells.log_mib.unwrap_or(64).max(1) * MIB,
            shells_max: file.shells.per_session.unwrap_or(10),
        };
        Ok(Self {
            listen,
            data_dir,
            tls,
            region,
            driver,
            limits,
            host_image_include: file.host_image.include,
            shells,
            storage_retention_ms: file.storage_retention_days.unwrap_or(14) * 86_400_000,
            drain_timeout_ms: file.drain_timeout_s.unwrap_or(10) * 1000,
        })
    }
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
    fn flags_win_over_environment_over_file() {
        let (_folder, mut overrides) = in_folder("listen = \"127.0.0.1:1\"\nregion = \"eu-west-1\"\n");
        let listen = |overrides: &Overrides, variables: &[(&str, &str)]| {
            load(overrides.clone(), variables).unwrap().listen.port()
        };
        assert_eq!(listen(&overrides, &[]), 1);
        assert_eq!(listen(&overrides, &[("CLAMSHELL_LISTEN", "127.0.0.1:2")]), 2);
        overrides.listen = Some("127.0.0.1:3".to_owned());
        assert_eq!(listen(&overrides, &[("CLAMSHELL_LISTEN", "127.0.0.1:2")]), 3);
        assert_eq!(load(overrides, &[]).unwrap().region.as_str(), "eu-west-1");
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
    fn unknown_keys_are_named() {
        let (_folder, overrides) = in_folder("lisen = \"x\"\n");
        let error = load(overrides, &[]).unwrap_err().to_string();
        assert!(error.contains("lisen"), "{error}");
    }
}
