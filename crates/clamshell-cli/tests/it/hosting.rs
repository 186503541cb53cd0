//! Agents from a folder to an answer: every template, agents written with the SDKs that people use, and the commands around them.
//!
//! What needs a package registry or a tool that is not there says so and ends.

mod agents;
mod coding;
mod life;
mod templates;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clamshell_testkit::{ServerProcess, skip};
use serde_json::Value;

use super::program::{Ended, command, finish, run, server};

/// A server and a folder for projects.
struct Place {
    server: ServerProcess,
    projects: tempfile::TempDir,
}

impl Place {
    async fn new() -> Option<Self> {
        Self::with("").await
    }

    async fn with(configuration: &str) -> Option<Self> {
        let server = server(configuration).await?;
        Some(Self { server, projects: tempfile::tempdir().unwrap() })
    }

    fn run(&self, args: &[&str]) -> Ended {
        let mut command = command(self.server.data_dir(), args);
        command.current_dir(self.projects.path());
        // Caches of installers are the user's: packages are fetched once.
        for name in [
            "npm_config_cache",
            "PIP_CACHE_DIR",
            "PIP_INDEX_URL",
            "npm_config_registry",
            "NODE_EXTRA_CA_CERTS",
        ] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if let Some(home) = std::env::var_os("HOME") {
            command.env("HOME", home);
        }
        finish(command)
    }

    fn json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let ended = self.run(&args);
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
        ended.json()
    }

    /// A project of files, in a folder of this name.
    fn project(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder = self.projects.path().join(name);
        for (file, text) in files {
            let path = folder.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    /// Deploys a folder of the projects; gives the report.
    fn deploy(&self, name: &str, more: &[&str]) -> Value {
        let folder = format!("./{name}");
        let args: Vec<&str> = ["deploy", &folder].into_iter().chain(more.iter().copied()).collect();
        let report = self.json(&args);
        assert_eq!(report["status"], "READY", "{report}");
        report
    }
}

/// Whether an index of packages answers; `None` with the reason printed when not.
fn registry(program: &str, args: &[&str]) -> Option<()> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => Some(()),
        Ok(_) => skip(&format!("{program} cannot reach its registry")),
        Err(error) => skip(&format!("{program}: {error}")),
    }
}

/// Whether packages of Python can be installed.
fn python_registry() -> Option<()> {
    let args = [
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--retries",
        "0",
        "--dest",
    ];
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().display().to_string();
    registry("python3", &args.into_iter().chain([folder.as_str(), "h11"]).collect::<Vec<_>>())
}

/// A session id of this test's own.
fn session(name: &str) -> String {
    format!("session-of-the-tests-{name:0>24}")
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

fn plain(place: &Place, args: &[&str]) -> Ended {
    run(place.server.data_dir(), args)
}

/// The card of an agent for agents, by the call that AWS has for it.
async fn card(client: &clamshell_testkit::Client, arn: &str) -> Value {
    let arn = clamshell_wire::percent_encode(arn);
    let path = format!("/runtimes/{arn}/invocations/.well-known/agent-card.json");
    let reply = client.request("GET", &path, &[], b"").await.unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}
