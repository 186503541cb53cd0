//! A server process in a folder of its own, to be killed and started again at will.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clamshell_server::local::{ServerInfo, read_server_info, root_credentials};
use clamshell_wire::sigv4::Credentials;
use tempfile::TempDir;

use crate::{Client, wait::eventually};

/// How long a server may take to listen; generous, because test machines are shared.
const START: Duration = Duration::from_secs(60);

/// Log of servers of tests.
const TEST_LOG: &str = "info,clamshell_server=debug";

/// A `clamshell serve` of this test's own. Dropping it ends the server, every sandbox, and removes the folder.
#[derive(Debug)]
pub struct ServerProcess {
    binary: PathBuf,
    folder: TempDir,
    child: Option<Child>,
    port: u16,
    /// The command, and its flag for the folder.
    command: (&'static str, &'static str),
    extra: Vec<String>,
    /// What it logs.
    log: &'static str,
}

impl ServerProcess {
    /// Starts `binary serve` on a free port with an empty data directory; `configuration` is the text of `clamshell.toml`.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(binary: &Path, configuration: &str) -> Result<Self> {
        Self::start_with(binary, configuration, &[]).await
    }

    /// As [`ServerProcess::start`], with further arguments for `serve`.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_with(binary: &Path, configuration: &str, extra: &[&str]) -> Result<Self> {
        Self::start_command(binary, ("serve", "--data-dir"), configuration, extra, TEST_LOG).await
    }

    /// As [`ServerProcess::start`], with the log that servers have by themselves: for measurements.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_measured(binary: &Path, configuration: &str) -> Result<Self> {
        Self::start_command(binary, ("serve", "--data-dir"), configuration, &[], "info").await
    }

    /// Starts `binary web` with a folder of its own.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_web(binary: &Path, configuration: &str, extra: &[&str]) -> Result<Self> {
        Self::start_command(binary, ("web", "--web-dir"), configuration, extra, TEST_LOG).await
    }

    async fn start_command(
        binary: &Path,
        command: (&'static str, &'static str),
        configuration: &str,
        extra: &[&str],
        log: &'static str,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("clamshell-test-").tempdir()?;
        std::fs::write(folder.path().join("clamshell.toml"), configuration)?;
        let extra = extra.iter().map(|argument| (*argument).to_owned()).collect();
        let mut server =
            Self { binary: binary.to_owned(), folder, child: None, port: 0, command, extra, log };
        server.start_again().await?;
        Ok(server)
    }

    /// Data directory.
    pub fn data_dir(&self) -> &Path {
        self.folder.path()
    }

    /// Process id of the server.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.child.as_ref().context("server does not run")?.id())
    }

    /// What the server says of itself.
    ///
    /// # Errors
    /// When it has said nothing yet.
    pub fn info(&self) -> Result<ServerInfo> {
        read_server_info(self.data_dir())?.context("server.json is missing")
    }

    /// Kills the server with SIGKILL; sandboxes go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_9(&mut self) -> Result<()> {
        let mut child = self.child.take().context("server does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Kills every keeper and every guest with SIGKILL and waits until they are gone, as a power cut would.
    ///
    /// # Errors
    /// When no sandbox runs.
    pub async fn kill_9_sandboxes(&self) -> Result<()> {
        let sandboxes = sandboxes(self.data_dir());
        if sandboxes.is_empty() {
            bail!("no sandbox runs");
        }
        for (keeper, guest) in sandboxes {
            send_signal("-KILL", keeper);
            send_signal("-KILL", guest);
            eventually("sandbox is gone", START, async || match (is_alive(keeper), is_alive(guest)) {
                (false, false) => Ok(()),
                alive => Err(alive),
            })
            .await;
        }
        Ok(())
    }

    /// Asks the server to end with SIGTERM and waits for it.
    ///
    /// # Errors
    /// When it does not run, or ends badly.
    pub async fn terminate(&mut self) -> Result<()> {
        let mut child = self.child.take().context("server does not run")?;
        let pid = child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status()?;
        let status = eventually("server ends", START, async || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        })
        .await;
        if !status.success() {
            bail!("server ended with {status}");
        }
        Ok(())
    }

    /// Starts the server on the same folder and port.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_again(&mut self) -> Result<()> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.data_dir().join("test-server.log"))?;
        let mut command = Command::new(&self.binary);
        command
            .args([self.command.0, self.command.1])
            .arg(self.data_dir())
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .args(&self.extra)
            .env("CLAMSHELL_LOG", self.log)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command.spawn().with_context(|| format!("cannot run {}", self.binary.display()))?;
        let pid = child.id();
        self.child = Some(child);
        let folder = self.data_dir().to_owned();
        let info = eventually("server listens", START, async || match read_server_info(&folder) {
            Ok(Some(info)) if info.pid == pid => Ok(info),
            other => Err(format!("{other:?}; log: {}", tail(&folder.join("test-server.log")))),
        })
        .await;
        let port = info.endpoint.rsplit(':').next().and_then(|port| port.parse().ok());
        self.port = port.context("endpoint has no port")?;
        Ok(())
    }

    /// A client with the root key.
    ///
    /// # Errors
    /// When the key cannot be read.
    pub async fn client(&self) -> Result<Client> {
        let info = self.info()?;
        let root = root_credentials(self.data_dir()).await?;
        let credentials = Credentials {
            access_key_id: root.access_key_id,
            secret_access_key: root.secret_access_key,
            session_token: None,
        };
        Ok(Client::new(&info.endpoint, &info.region, &info.default_runtime_arn, credentials))
    }

    /// The server's log so far, its newest part.
    pub fn log_tail(&self) -> String {
        tail(&self.data_dir().join("test-server.log"))
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- server log ---\n{}", self.log_tail());
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        end_sandboxes(self.data_dir());
    }
}

/// Process ids of keepers and guests, by session folder.
fn sandboxes(data_dir: &Path) -> Vec<(u64, u64)> {
    let Ok(sessions) = std::fs::read_dir(data_dir.join("sessions")) else { return Vec::new() };
    let states = sessions.flatten().filter_map(|session| {
        let text = std::fs::read(session.path().join("run/keeper.json")).ok()?;
        let state = serde_json::from_slice::<serde_json::Value>(&text).ok()?;
        // With an exit both are gone, and the ids may be others' by now.
        let pid = |name: &str| state[name]["pid"].as_u64().filter(|_| state["exit"].is_null());
        Some((pid("keeper")?, pid("guest")?))
    });
    states.collect()
}

/// Ends every sandbox that a data directory's keepers hold.
pub fn end_sandboxes(data_dir: &Path) {
    let keepers: Vec<u64> = sandboxes(data_dir).into_iter().map(|(keeper, _)| keeper).collect();
    for keeper in &keepers {
        send_signal("-TERM", *keeper);
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    for keeper in keepers {
        while is_alive(keeper) && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn send_signal(signal: &str, pid: u64) {
    let _ = Command::new("kill").args([signal, &pid.to_string()]).stderr(Stdio::null()).status();
}

/// Whether the process runs; one that only waits to be reaped does not.
fn is_alive(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !matches!(rest.trim_start().chars().next(), Some('Z' | 'X')))
}

fn tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let start = text.len().saturating_sub(4000);
    String::from_utf8_lossy(&text[start..]).into_owned()
}
