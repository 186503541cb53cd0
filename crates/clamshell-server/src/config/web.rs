//! `[web]`: how many shells `clamshell web` has, and each of its users.

use serde::Deserialize;

use super::ConfigError;
use crate::web::WebLimits;

/// Connected shells that may be configured: 16 GiB of output.
const CONNECTED_MAX: usize = 4096;

/// Below this no two people could work side by side.
const CONNECTED_MIN: usize = 16;

/// Shells of one user, connected or not: each may have 5 MiB on disk.
const SHELLS_MAX: u32 = 1024;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileWeb {
    connected: Option<usize>,
    connected_per_user: Option<usize>,
    shells_per_user: Option<u32>,
}

pub(super) fn limits(file: &FileWeb) -> Result<WebLimits, ConfigError> {
    let base = WebLimits::default();
    let limits = WebLimits {
        connected: file.connected.unwrap_or(base.connected),
        connected_per_user: file.connected_per_user.unwrap_or(base.connected_per_user),
        shells_per_user: file.shells_per_user.unwrap_or(base.shells_per_user),
    };
    let refuse = |key, reason: String| Err(ConfigError::Value { key, reason });
    if !(CONNECTED_MIN..=CONNECTED_MAX).contains(&limits.connected) {
        return refuse("web.connected", format!("must be from {CONNECTED_MIN} to {CONNECTED_MAX}"));
    }
    if !(1..=limits.connected).contains(&limits.connected_per_user) {
        return refuse("web.connected_per_user", "must be from 1 to `connected`".to_owned());
    }
    if !(1..=SHELLS_MAX).contains(&limits.shells_per_user) {
        return refuse("web.shells_per_user", format!("must be from 1 to {SHELLS_MAX}"));
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<WebLimits, String> {
        limits(&toml::from_str(text).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn limits_have_ranges() {
        assert_eq!(check(""), Ok(WebLimits::default()));
        let all = "connected = 20\nconnected_per_user = 20\nshells_per_user = 30";
        assert_eq!(check(all), Ok(WebLimits { connected: 20, connected_per_user: 20, shells_per_user: 30 }));
        for (text, key) in [
            ("connected = 15", "web.connected:"),
            ("connected = 20", "web.connected_per_user:"),
            ("connected_per_user = 0", "web.connected_per_user:"),
            ("shells_per_user = 0", "web.shells_per_user:"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.starts_with(key), "{error}");
        }
    }
}
