//! The store on real files. One binary; every file of this folder is declared here.

#![expect(clippy::unwrap_used, reason = "a broken fixture is a failed test")]

mod access_keys;
mod audit;
mod console;
mod control_plane;
mod open;
mod principals;
mod runtimes;
mod sessions;
mod terminals;

use std::{collections::BTreeMap, path::PathBuf};

use clamshell_domain::{
    Artifact, Clock, EndpointName, LifecycleConfiguration, Limits, NetworkMode, Runtime, RuntimeId,
    RuntimeName, SessionId, SessionKey, SystemEntropy,
};
use clamshell_store::Store;
use tempfile::TempDir;

/// A clock that stands still.
struct FixedClock(u64);

impl Clock for FixedClock {
    fn now_ms(&self) -> u64 {
        self.0
    }
}

/// A store in a folder of its own.
struct Fixture {
    folder: TempDir,
    store: Store,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.db")).await.unwrap();
        Self { folder, store }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("state.db")
    }

    /// Opens the file anew, without having closed it, as after `kill -9`.
    async fn reopen(&mut self) {
        self.store = Store::open(&self.path()).await.unwrap();
    }

    async fn add_runtime(&self, name: &str) -> Runtime {
        let runtime = runtime(name);
        self.store.insert_runtime(&runtime).await.unwrap();
        runtime
    }
}

fn runtime(name: &str) -> Runtime {
    let name = RuntimeName::parse(name).unwrap();
    Runtime {
        runtime_id: RuntimeId::generate(&name, &SystemEntropy),
        name,
        version: 1,
        description: "for tests, with a \u{1F41A}".to_owned(),
        artifact: Artifact::Oci { path: PathBuf::from("/images/a b"), reference: Some("latest".to_owned()) },
        environment: BTreeMap::from([("KEY".to_owned(), "va'lue \"; DROP TABLE runtimes".to_owned())]),
        lifecycle: LifecycleConfiguration::default(),
        limits: Limits::default(),
        network: NetworkMode::Public,
        driver: Some("native".to_owned()),
        hosting: None,
        created_at_ms: 1_700_000_000_000,
    }
}

fn session_key(runtime: &Runtime, number: usize) -> SessionKey {
    SessionKey {
        runtime_id: runtime.runtime_id.clone(),
        endpoint: EndpointName::default_endpoint(),
        session_id: SessionId::parse(format!("session-{number:040}")).unwrap(),
    }
}
