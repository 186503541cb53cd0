//! What a server leaves in its data directory for commands of the same machine.

use std::{
    io,
    path::{Path, PathBuf},
};

use clamshell_domain::{AccessKey, AccessKeyStatus, SystemEntropy};
use clamshell_store::{MasterKey, Store};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A running server, as written to `server.json` once it listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerInfo {
    /// Its process.
    pub pid: u32,
    /// Base URL without a slash at the end.
    pub endpoint: String,
    /// Account of all its ARNs.
    pub account_id: String,
    /// Region of all its ARNs.
    pub region: String,
    /// ARN of the runtime `default`.
    pub default_runtime_arn: String,
    /// Certificate of its CA, when it speaks TLS with a certificate of its own.
    pub ca_path: Option<PathBuf>,
    /// Version of the program.
    pub version: String,
    /// Build of the program, as [`own_build`] tells it; servers from before this member have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
}

impl ServerInfo {
    /// Whether that server is another program than this one: another version, or another build of the same.
    pub fn is_other_program(&self) -> bool {
        self.version != env!("CARGO_PKG_VERSION") || self.build != own_build()
    }
}

/// Header of the note in which linkers put a number of 20 bytes made from all that they linked: lengths of name and
/// number, kind 3, name.
#[cfg(target_endian = "little")]
const BUILD_NOTE: &[u8; 16] = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";
#[cfg(target_endian = "big")]
const BUILD_NOTE: &[u8; 16] = b"\0\0\0\x04\0\0\0\x14\0\0\0\x03GNU\0";

/// Tells builds of this program apart, also those of one version; `None` where the linker left no number.
pub fn own_build() -> Option<String> {
    use std::io::Read;
    let mut front = Vec::new();
    // This very program, even when its file was replaced since. Notes lie in its first page.
    std::fs::File::open("/proc/self/exe").ok()?.take(4096).read_to_end(&mut front).ok()?;
    build_number(&front)
}

fn build_number(front: &[u8]) -> Option<String> {
    let note = front.windows(BUILD_NOTE.len()).position(|window| window == BUILD_NOTE)?;
    let number = front.get(note + BUILD_NOTE.len()..)?.first_chunk::<20>()?;
    Some(number.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The first access key.
#[derive(Clone)]
pub struct RootCredentials {
    /// Public half.
    pub access_key_id: String,
    /// Secret half.
    pub secret_access_key: String,
}

impl std::fmt::Debug for RootCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RootCredentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// The root credentials cannot be read.
#[derive(Debug, Error)]
pub enum RootCredentialsError {
    /// No server has ever run on this data directory.
    #[error("{} holds no Clamshell data", data_dir.display())]
    NoData {
        /// The directory.
        data_dir: PathBuf,
    },
    /// The store refuses.
    #[error("cannot open the store")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// All keys were removed.
    #[error("there is no access key any more")]
    Removed,
}

/// `$XDG_DATA_HOME/clamshell`, or `~/.local/share/clamshell`, or a folder below `/var/lib` for a user without a home.
pub fn default_data_dir() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    variable("XDG_DATA_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".local/share")))
        .unwrap_or_else(|| PathBuf::from("/var/lib"))
        .join("clamshell")
}

/// What the latest server of this data directory wrote; it may have ended since.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn read_server_info(data_dir: &Path) -> io::Result<Option<ServerInfo>> {
    match std::fs::read(data_dir.join("server.json")) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn write_server_info(data_dir: &Path, info: &ServerInfo) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(info).map_err(io::Error::other)?;
    let fresh = data_dir.join("server.json.new");
    std::fs::write(&fresh, text)?;
    std::fs::rename(fresh, data_dir.join("server.json"))
}

/// The root access key, for whoever can read the data directory and its master key. Where that one is disabled or
/// removed, another active one: the owner of the files is never locked out, and could read them all anyway.
///
/// # Errors
/// [`RootCredentialsError`].
pub async fn root_credentials(data_dir: &Path) -> Result<RootCredentials, RootCredentialsError> {
    let database = data_dir.join("clamshell.db");
    if !database.exists() {
        return Err(RootCredentialsError::NoData { data_dir: data_dir.to_owned() });
    }
    let boxed = |error: Box<dyn std::error::Error + Send + Sync>| RootCredentialsError::Store(error);
    let master = MasterKey::load_or_create(&data_dir.join("master.key"), &SystemEntropy)
        .map_err(|error| boxed(Box::new(error)))?;
    let store = Store::open(&database).await.map_err(|error| boxed(Box::new(error)))?;
    let keys = store.list_access_keys().await.map_err(|error| boxed(Box::new(error)))?;
    let root = owners_key(keys).ok_or(RootCredentialsError::Removed)?;
    let secret = store
        .secret_of(&master, &root.access_key_id)
        .await
        .map_err(|error| boxed(Box::new(error)))?
        .ok_or(RootCredentialsError::Removed)?;
    Ok(RootCredentials {
        access_key_id: root.access_key_id.to_string(),
        secret_access_key: secret.1.expose_text().ok_or(RootCredentialsError::Removed)?.to_owned(),
    })
}

fn owners_key(keys: Vec<AccessKey>) -> Option<AccessKey> {
    let rank = |key: &AccessKey| (key.status != AccessKeyStatus::Active, key.user_name != "root");
    // The first of the best, so that the same one is taken each time.
    keys.into_iter().min_by_key(rank)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clamshell_domain::AccessKeyId;

    #[test]
    fn builds_are_told_apart_by_the_note_of_the_linker() {
        let front = [b"\x7fELF...", &BUILD_NOTE[..], &[0xab; 20], b"more"].concat();
        assert_eq!(build_number(&front), Some("ab".repeat(20)));
        assert_eq!(build_number(&front[..40]), None, "cut short");
        assert_eq!(build_number(b"no note at all, and not too short for one"), None);
        assert_eq!(own_build(), own_build());
    }

    #[test]
    fn the_owner_keeps_a_key_that_opens() {
        let key = |number: u8, user: &str, status| AccessKey {
            access_key_id: AccessKeyId::parse(format!("AKIA234567ABCDEFGH2{}", char::from(b'A' + number)))
                .unwrap(),
            user_name: user.to_owned(),
            status,
            created_at_ms: 0,
            last_used_at_ms: None,
        };
        let (active, inactive) = (AccessKeyStatus::Active, AccessKeyStatus::Inactive);
        let check = |keys: Vec<AccessKey>, expect: Option<usize>| {
            let expect = expect.map(|index| keys[index].clone());
            assert_eq!(owners_key(keys), expect);
        };
        check(vec![], None);
        check(vec![key(0, "ci", active), key(1, "root", active)], Some(1));
        check(vec![key(0, "root", active), key(1, "root", active)], Some(0));
        check(vec![key(0, "root", inactive), key(1, "root", active), key(2, "ci", active)], Some(1));
        check(vec![key(0, "root", inactive), key(1, "ci", active)], Some(1));
        check(vec![key(0, "root", inactive)], Some(0));
    }
}
