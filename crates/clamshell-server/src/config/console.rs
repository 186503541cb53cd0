//! `[console]`: who reaches the browser console under which names, how long a login lives, and the provider of logins.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{Config, ConfigError};
use crate::console::ConsoleRole;

/// Hosts of one server: nobody has as many names.
const HOSTS_MAX: usize = 64;

/// Longest host name that DNS knows, and a port.
const HOST_BYTES_MAX: usize = 253 + 6;

const HOUR_MS: u64 = 3_600_000;

/// Longest life of a login, days: whoever wants more wants no logins.
const LOGIN_DAYS_MAX: u64 = 90;

/// The browser console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsolePolicy {
    /// Whether there is one.
    pub enabled: bool,
    /// Names beside those of loopback and the listener's address that a request may be for, in lower case; one with a port is
    /// for that port alone.
    pub hosts: Vec<String>,
    /// Whether it is there without TLS on an address that other machines reach.
    pub insecure_http: bool,
    /// A login ends after so long without use, milliseconds.
    pub login_idle_ms: u64,
    /// A login ends after so long in any case, milliseconds.
    pub login_max_ms: u64,
    /// The provider that people may sign in with.
    pub oidc: Option<OidcPolicy>,
}

/// An OpenID Connect provider of logins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcPolicy {
    /// Its issuer, without a slash at the end.
    pub issuer: String,
    /// Our client there.
    pub client_id: String,
    /// Its first line is the client's secret; `None` for a public client.
    pub client_secret_file: Option<PathBuf>,
    /// What the button says.
    pub label: String,
    /// Scopes asked for; `openid` is among them.
    pub scopes: Vec<String>,
    /// Claim that gives the name of a new user.
    pub user_claim: String,
    /// Claim that says what a user may do: a text or a list; dots lead into objects.
    pub role_claim: Option<String>,
    /// Values of that claim to roles.
    pub roles: BTreeMap<String, ConsoleRole>,
    /// Role of those whom no value gives one; `None`: they are not let in.
    pub default_role: Option<ConsoleRole>,
}

impl OidcPolicy {
    /// Claims that decide who somebody is here and what they may do.
    pub(crate) fn claims(&self) -> Vec<&str> {
        let name = [self.user_claim.as_str()];
        name.into_iter().chain(self.role_claim.as_deref()).collect()
    }
}

impl Default for ConsolePolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            hosts: Vec::new(),
            insecure_http: false,
            login_idle_ms: 12 * HOUR_MS,
            login_max_ms: 7 * 24 * HOUR_MS,
            oidc: None,
        }
    }
}

impl Config {
    /// Why there is no console; `None` when there is one.
    pub fn console_off(&self) -> Option<&'static str> {
        if !self.console.enabled {
            return Some("[console] enabled is false");
        }
        let reachable = !self.listen.ip().is_loopback();
        (reachable && self.tls.is_none() && !self.console.insecure_http).then_some(
            "the address can be reached from other machines without TLS: set [tls], or [console] insecure_http = true",
        )
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileConsole {
    enabled: Option<bool>,
    hosts: Vec<String>,
    insecure_http: bool,
    login_idle_hours: Option<u64>,
    login_max_days: Option<u64>,
    oidc: Option<FileOidc>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileOidc {
    issuer: String,
    client_id: String,
    client_secret_file: Option<PathBuf>,
    label: Option<String>,
    scopes: Option<Vec<String>>,
    user_claim: Option<String>,
    role_claim: Option<String>,
    #[serde(default)]
    roles: BTreeMap<String, ConsoleRole>,
    default_role: Option<ConsoleRole>,
}

fn refuse(key: &'static str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Value { key, reason: reason.into() }
}

/// Relative paths are below the data directory.
pub(super) fn console(file: FileConsole, data_dir: &Path) -> Result<ConsolePolicy, ConfigError> {
    let base = ConsolePolicy::default();
    if file.hosts.len() > HOSTS_MAX {
        return Err(refuse("console.hosts", format!("at most {HOSTS_MAX}")));
    }
    let hosts = file.hosts.iter().map(|host| parse_host(host)).collect::<Result<Vec<_>, _>>()?;
    let idle = file.login_idle_hours.unwrap_or(base.login_idle_ms / HOUR_MS);
    let days = file.login_max_days.unwrap_or(base.login_max_ms / (24 * HOUR_MS));
    if !(1..=LOGIN_DAYS_MAX).contains(&days) {
        return Err(refuse("console.login_max_days", format!("must be from 1 to {LOGIN_DAYS_MAX}")));
    }
    if !(1..=LOGIN_DAYS_MAX * 24).contains(&idle) {
        return Err(refuse("console.login_idle_hours", format!("must be from 1 to {}", LOGIN_DAYS_MAX * 24)));
    }
    Ok(ConsolePolicy {
        enabled: file.enabled.unwrap_or(base.enabled),
        hosts,
        insecure_http: file.insecure_http,
        login_idle_ms: idle * HOUR_MS,
        login_max_ms: days * 24 * HOUR_MS,
        oidc: file.oidc.map(|oidc| oidc.checked(data_dir)).transpose()?,
    })
}

/// A host name or address, perhaps with a port; never a URL.
fn parse_host(text: &str) -> Result<String, ConfigError> {
    let host = text.to_ascii_lowercase();
    let bare = host.strip_prefix('[').map_or(host.as_str(), |rest| rest.split(']').next().unwrap_or(rest));
    let plain = host.len() <= HOST_BYTES_MAX
        && host.parse::<http::uri::Authority>().is_ok_and(|authority| authority.as_str() == host)
        && !host.contains('@')
        && !host.ends_with(['.', ':'])
        && !host.contains(".:")
        && (!host.starts_with('[') || bare.parse::<IpAddr>().is_ok());
    if plain {
        return Ok(host);
    }
    Err(refuse("console.hosts", format!("`{text}` is not a host name such as agents.example.com")))
}

impl FileOidc {
    fn checked(self, data_dir: &Path) -> Result<OidcPolicy, ConfigError> {
        let issuer = self.issuer.trim_end_matches('/').to_owned();
        let is_url = ["https://", "http://"]
            .iter()
            .any(|scheme| issuer.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
            && !issuer.contains(['?', '#', ' ', '@'])
            && issuer.is_ascii();
        if !is_url {
            return Err(refuse("console.oidc.issuer", format!("`{issuer}` is not https://HOST[/PATH]")));
        }
        if self.client_id.is_empty() {
            return Err(refuse("console.oidc.client_id", "must not be empty"));
        }
        if self.role_claim.is_none() && !self.roles.is_empty() {
            return Err(refuse("console.oidc.roles", "needs role_claim"));
        }
        if self.role_claim.is_none() && self.default_role.is_none() {
            return Err(refuse("console.oidc", "needs role_claim with roles, or default_role"));
        }
        let mut scopes =
            self.scopes.unwrap_or_else(|| ["openid", "profile", "email"].map(str::to_owned).to_vec());
        if !scopes.iter().any(|scope| scope == "openid") {
            scopes.insert(0, "openid".to_owned());
        }
        let label = self.label.unwrap_or_else(|| {
            let host = issuer.split("://").nth(1).and_then(|rest| rest.split('/').next());
            host.unwrap_or(&issuer).to_owned()
        });
        Ok(OidcPolicy {
            client_id: self.client_id,
            client_secret_file: self.client_secret_file.map(|path| data_dir.join(path)),
            label,
            scopes,
            user_claim: self.user_claim.unwrap_or_else(|| "preferred_username".to_owned()),
            role_claim: self.role_claim,
            roles: self.roles,
            default_role: self.default_role,
            issuer,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConsolePolicy, String> {
        let file = toml::from_str(text).map_err(|error| error.to_string())?;
        console(file, Path::new("/data")).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_and_their_changes() {
        assert_eq!(parse(""), Ok(ConsolePolicy::default()));
        let text = "enabled = false\nhosts = [\"Agents.Example.com\", \"[fd00::1]:8443\"]\nlogin_idle_hours = 1\nlogin_max_days = 2\n";
        let expect = ConsolePolicy {
            enabled: false,
            hosts: vec!["agents.example.com".to_owned(), "[fd00::1]:8443".to_owned()],
            insecure_http: false,
            login_idle_ms: HOUR_MS,
            login_max_ms: 48 * HOUR_MS,
            oidc: None,
        };
        assert_eq!(parse(text), Ok(expect));
        for bad in ["login_max_days = 0", "login_max_days = 91", "login_idle_hours = 0", "hots = []"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        for bad in
            ["https://a.example", "a.example/x", "a.example.", "a.example.:80", "x@a.example", "", "[a]"]
        {
            assert!(parse(&format!("hosts = [\"{bad}\"]")).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_provider_needs_an_issuer_a_client_and_roles() {
        let parse = |more: &str| {
            let text =
                format!("[oidc]\nissuer = \"https://id.example/realms/x/\"\nclient_id = \"c\"\n{more}");
            parse(&text).map(|policy| policy.oidc.unwrap())
        };
        assert!(parse("").is_err());
        assert!(parse("default_role = \"owner\"").is_err());
        assert!(parse("default_role = \"viewer\"\n[oidc.roles]\na = \"admin\"").is_err());
        let made = parse("client_secret_file = \"secret\"\nscopes = [\"groups\"]\nrole_claim = \"groups\"\n[oidc.roles]\nops = \"operator\"").unwrap();
        assert_eq!(made.issuer, "https://id.example/realms/x");
        assert_eq!(made.label, "id.example");
        assert_eq!(made.client_secret_file, Some(PathBuf::from("/data/secret")));
        assert_eq!(made.scopes, ["openid", "groups"]);
        assert_eq!(made.roles, BTreeMap::from([("ops".to_owned(), ConsoleRole::Operator)]));
        assert_eq!(made.default_role, None);
    }
}
