//! Who we are at a registry: what the operator configured, else what `docker login` left behind.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::Read,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;

use super::error::RegistryError;

/// Largest file with credentials; Docker's has a few KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// One registry as the operator wants it spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RegistryConfig {
    /// User name; needs `password_file`.
    pub username: Option<String>,
    /// File with the password or token in its first line. Read at each pull, so that it may be renewed.
    pub password_file: Option<PathBuf>,
    /// Plain HTTP.
    pub insecure: bool,
    /// PEM file of certificates to trust beside the operating system's.
    pub ca_file: Option<PathBuf>,
}

/// All that is known about registries before a pull.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Registries {
    /// By host, with the port where one is written in references: `ghcr.io`, `localhost:5000`.
    pub hosts: BTreeMap<String, RegistryConfig>,
    /// `~/.docker/config.json`; only what stands in it is used, no helper programs are run.
    pub docker_config: Option<PathBuf>,
}

impl Registries {
    /// No registry configured, and Docker's file where Docker has it.
    pub fn of_user() -> Self {
        let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
        let docker_config = folder.or(home).map(|folder| folder.join("config.json"));
        Self { hosts: BTreeMap::new(), docker_config }
    }

    /// The configuration of a host.
    pub(super) fn host(&self, host: &str) -> RegistryConfig {
        self.hosts.get(host).cloned().unwrap_or_default()
    }

    /// Credentials for a host. Blocks: reads small files.
    pub(super) fn login(&self, host: &str) -> Result<Login, RegistryError> {
        let refuse = |reason: String| RegistryError::Credentials { host: host.to_owned(), reason };
        let config = self.host(host);
        match (config.username, config.password_file) {
            (Some(username), Some(path)) => {
                let text = read(&path).map_err(|error| refuse(format!("password_file: {error}")))?;
                let password = text.lines().next().unwrap_or_default().to_owned();
                if password.is_empty() {
                    return Err(refuse("password_file: its first line is empty".to_owned()));
                }
                return Ok(Login::Password { username, password });
            }
            (None, None) => {}
            _ => return Err(refuse("username and password_file are needed both".to_owned())),
        }
        match &self.docker_config {
            Some(path) if path.exists() => {
                let text = read(path).map_err(|error| refuse(format!("Docker's configuration: {error}")))?;
                from_docker(&text, host).map_err(refuse)
            }
            _ => Ok(Login::None),
        }
    }
}

/// Credentials. `Debug` hides the secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// Nobody in particular.
    None,
    /// User and password.
    Password { username: String, password: String },
    /// A program of Docker would know them.
    Helper { name: String },
    /// A refresh token of Docker Desktop or Azure.
    IdentityToken,
}

impl Login {
    /// Value of an `authorization` header.
    pub(super) fn basic(&self) -> Option<String> {
        match self {
            Self::Password { username, password } => {
                Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{password}"))))
            }
            Self::None | Self::Helper { .. } | Self::IdentityToken => None,
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Password { .. } => "Password",
            Self::Helper { .. } => "Helper",
            Self::IdentityToken => "IdentityToken",
        })
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct DockerConfig {
    auths: BTreeMap<String, DockerAuth>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase", default)]
struct DockerAuth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

fn from_docker(text: &str, host: &str) -> Result<Login, String> {
    let config: DockerConfig =
        serde_json::from_str(text).map_err(|error| format!("Docker's configuration: {error}"))?;
    let is_host = |key: &str| {
        let bare = key.trim_start_matches("https://").trim_start_matches("http://");
        let bare = bare.split('/').next().unwrap_or_default();
        bare == host || (host == "docker.io" && matches!(bare, "index.docker.io" | "registry-1.docker.io"))
    };
    let helper = config.cred_helpers.iter().find(|(key, _)| is_host(key)).map(|(_, name)| name.clone());
    if let Some(name) = helper {
        return Ok(Login::Helper { name });
    }
    if let Some((_, entry)) = config.auths.into_iter().find(|(key, _)| is_host(key)) {
        if entry.identitytoken.is_some_and(|token| !token.is_empty()) {
            return Ok(Login::IdentityToken);
        }
        if let (Some(username), Some(password)) = (entry.username, entry.password) {
            return Ok(Login::Password { username, password });
        }
        if let Some(auth) = entry.auth.filter(|auth| !auth.is_empty()) {
            let decoded = BASE64_STANDARD.decode(auth.trim()).ok();
            let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
            let pair = text.as_deref().and_then(|text| text.split_once(':'));
            let (username, password) = pair.ok_or_else(|| {
                "Docker's configuration: an `auth` is not USER:PASSWORD in base64".to_owned()
            })?;
            return Ok(Login::Password {
                username: username.to_owned(),
                password: password.trim_end_matches('\0').to_owned(),
            });
        }
    }
    // Whether the store has something for this host only its program knows; most images need nothing.
    Ok(config.creds_store.filter(|name| !name.is_empty()).map_or(Login::None, |name| Login::Helper { name }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(username: &str, password: &str) -> Login {
        Login::Password { username: username.to_owned(), password: password.to_owned() }
    }

    #[test]
    fn docker_configuration_is_understood() {
        let check = |text: &str, host: &str, expect: Login| {
            assert_eq!(from_docker(text, host).unwrap(), expect, "{text} {host}");
        };
        let auths =
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"a.b:5000":{"auth":"djpxOnI="}}}"#;
        check(auths, "docker.io", password("u", "p"));
        check(auths, "a.b:5000", password("v", "q:r"));
        check(auths, "a.b", Login::None);
        let both = r#"{"auths":{"a.b":{"username":"u","password":"p"}},"credsStore":"desktop"}"#;
        check(both, "a.b", password("u", "p"));
        check(both, "c.d", Login::Helper { name: "desktop".into() });
        let stored = r#"{"auths":{"a.b":{}},"credHelpers":{"c.d":"ecr-login"},"other":1}"#;
        check(stored, "a.b", Login::None);
        check(stored, "c.d", Login::Helper { name: "ecr-login".into() });
        check(r#"{"auths":{"a.b":{"identitytoken":"x"}}}"#, "a.b", Login::IdentityToken);
        assert!(from_docker("{", "a").is_err());
        assert!(from_docker(r#"{"auths":{"a.b":{"auth":"!"}}}"#, "a.b").is_err());
    }

    #[test]
    fn what_the_operator_configured_wins() {
        let folder = tempfile::tempdir().unwrap();
        let (secret, docker) = (folder.path().join("secret"), folder.path().join("config.json"));
        fs::write(&secret, "from file\n").unwrap();
        fs::write(&docker, r#"{"auths":{"a.b":{"auth":"dTpw"}}}"#).unwrap();
        let config = RegistryConfig {
            username: Some("me".into()),
            password_file: Some(secret),
            ..RegistryConfig::default()
        };
        let mut registries =
            Registries { hosts: BTreeMap::from([("a.b".into(), config)]), docker_config: Some(docker) };
        assert_eq!(registries.login("a.b").unwrap(), password("me", "from file"));
        registries.hosts.clear();
        assert_eq!(registries.login("a.b").unwrap(), password("u", "p"));
        assert_eq!(registries.login("c.d").unwrap(), Login::None);
        let half = RegistryConfig { username: Some("me".into()), ..RegistryConfig::default() };
        registries.hosts.insert("a.b".into(), half);
        assert!(registries.login("a.b").is_err());
        assert_eq!(format!("{:?}", password("u", "p")), "Password");
    }
}
