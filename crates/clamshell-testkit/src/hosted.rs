//! Runtimes that host a Python program of a test.
//!
//! They are put into a server's store beside it: no call makes a runtime with all that tests want, and none need be waited
//! for.

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use clamshell_domain::{
    Artifact, Clock, CodeRuntime, Hosting, LifecycleConfiguration, Limits, NetworkMode, ObjectLocation,
    Runtime, RuntimeId, RuntimeName, ServerProtocol, SystemClock, SystemEntropy,
};
use clamshell_store::Store;
use tempfile::TempDir;

use crate::{Client, skip};

/// A folder that is the bucket `code` of a server, and has one program as a zip.
#[derive(Debug)]
pub struct CodeBucket {
    folder: TempDir,
    python: CodeRuntime,
}

impl CodeBucket {
    /// Packs a program; `None`, with the reason printed, where this machine has no Python that a runtime may name.
    ///
    /// # Errors
    /// When it cannot be packed.
    pub fn with_agent(program: &str) -> Result<Option<Self>> {
        let interpreter = |runtime: CodeRuntime| Path::new("/usr/bin").join(runtime.interpreter());
        let mut pythons =
            CodeRuntime::ALL.into_iter().filter(|runtime| runtime.as_str().starts_with("PYTHON"));
        let Some(python) = pythons.find(|python| interpreter(*python).exists()) else {
            return Ok(skip("/usr/bin has no Python of a runtime"));
        };
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("agent.py"), program)?;
        let zipped = Command::new(interpreter(python))
            .args(["-m", "zipfile", "-c", "agent.zip", "agent.py"])
            .current_dir(folder.path())
            .status()?;
        ensure!(zipped.success(), "the program cannot be packed: {zipped}");
        Ok(Some(Self { folder, python }))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What the end of a server's configuration says of it.
    pub fn configuration(&self) -> String {
        format!("\n[buckets.code]\npath = {:?}\n", self.path())
    }

    /// The Python that runs the program.
    pub fn python(&self) -> CodeRuntime {
        self.python
    }

    /// The program, for a runtime.
    pub fn artifact(&self) -> Artifact {
        Artifact::Code {
            location: ObjectLocation { bucket: "code".into(), key: "agent.zip".into(), version_id: None },
            runtime: self.python,
            entry_point: vec!["agent.py".to_owned()],
            base: Box::new(Artifact::Host),
            digest: None,
        }
    }
}

/// A runtime with an agent, and everything else as it is by default.
///
/// # Errors
/// When `name` cannot be one.
pub fn agent_runtime(name: &str, artifact: Artifact, protocol: ServerProtocol) -> Result<Runtime> {
    let name = RuntimeName::parse(name)?;
    Ok(Runtime {
        runtime_id: RuntimeId::generate(&name, &SystemEntropy),
        name,
        version: 1,
        description: String::new(),
        artifact,
        environment: BTreeMap::new(),
        lifecycle: LifecycleConfiguration::default(),
        limits: Limits::default(),
        network: NetworkMode::Sandbox,
        driver: None,
        hosting: Some(Hosting {
            role_arn: "arn:aws:iam::123456789012:role/agent".to_owned(),
            protocol,
            port: protocol.default_port(),
            path: protocol.default_path().to_owned(),
            header_allowlist: Vec::new(),
            file_systems: Vec::new(),
            authorizer: None,
            configuration: String::new(),
        }),
        created_at_ms: SystemClock.now_ms(),
    })
}

/// Puts a runtime into the store of the server that `client` speaks to; a client of that runtime.
///
/// # Errors
/// When it cannot be stored.
pub async fn host(data_dir: &Path, client: &Client, runtime: &Runtime) -> Result<Client> {
    let store = Store::open(&data_dir.join("clamshell.db")).await?;
    store.insert_runtime(runtime).await?;
    store.close().await;
    let (service, _) = client.runtime_arn.rsplit_once('/').context("an ARN has a slash")?;
    Ok(Client { runtime_arn: format!("{service}/{}", runtime.runtime_id.as_str()), ..client.clone() })
}
