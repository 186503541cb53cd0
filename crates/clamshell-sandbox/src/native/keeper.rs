//! Starting a keeper and hearing its one line.
//!
//! One keeper is always started ahead and waits for its specification, so that starting a program is not part of
//! what a caller waits for. When the server ends, the spare one reads the end of its input and ends too.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use clamshell_domain::CreateSandboxError;
use clamshell_protocol::{KeeperReport, KeeperSpec, MOUNT_WITHIN_MS};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
};

use super::setup;

/// A keeper takes milliseconds. On a machine that swaps it may take seconds.
const REPORT_WITHIN: Duration = Duration::from_secs(20);

/// A report is one line; its notes are short.
const REPORT_BYTES_MAX: u64 = 64 << 10;

/// The keeper that waits for a specification, with the program that it runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Spare(Arc<Mutex<Option<(PathBuf, Child)>>>);

impl Spare {
    fn take(&self, binary: &Path) -> Option<Child> {
        let (path, mut child) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        (path == binary && matches!(child.try_wait(), Ok(None))).then_some(child)
    }

    /// Starts the next one. Where it cannot be started, the next sandbox starts its own. Blocks for a millisecond.
    pub(super) fn refill(&self, binary: &Path) {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return;
        }
        let Ok(child) = spawn(binary) else { return };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((binary.to_owned(), child));
    }
}

fn spawn(binary: &Path) -> std::io::Result<Child> {
    // Nothing here that needs code between fork and exec: the standard library then uses posix_spawn. A
    // keeper that outlives this handle is reaped by the runtime's process driver.
    Command::new(binary)
        .arg("keeper")
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// Starts a keeper; the guest's process id and what does not hold.
pub(super) async fn start(
    spec: &KeeperSpec,
    spare: &Spare,
) -> Result<(u32, Vec<String>), CreateSandboxError> {
    let binary = PathBuf::from(&spec.binary);
    let mut child = match spare.take(&binary) {
        Some(child) => child,
        None => spawn(&binary).map_err(|error| setup("start the keeper", error))?,
    };
    drive(&mut child, spec).await
}

async fn drive(child: &mut Child, spec: &KeeperSpec) -> Result<(u32, Vec<String>), CreateSandboxError> {
    let mut within = REPORT_WITHIN;
    if spec.mounts.iter().any(|mount| mount.source.is_foreign()) {
        // It gives them up by itself.
        within += Duration::from_millis(MOUNT_WITHIN_MS);
    }
    let report = tokio::time::timeout(within, talk(child, spec)).await;
    let failed = match report {
        Ok(Ok(KeeperReport::Ready { guest_pid, degraded })) => return Ok((guest_pid, degraded)),
        Ok(Ok(KeeperReport::Failed { stage, reason })) => CreateSandboxError::Setup { stage, reason },
        Ok(Err(error)) => error,
        Err(_) => setup("start the keeper", "it did not report in time"),
    };
    // It cleans up by itself after a failure; one that hangs is ended, and its folder's state file tells the rest.
    let ended = tokio::time::timeout(Duration::from_secs(2), child.wait()).await;
    if ended.is_err() {
        let _ = child.start_kill();
    }
    Err(failed)
}

async fn talk(child: &mut Child, spec: &KeeperSpec) -> Result<KeeperReport, CreateSandboxError> {
    let stage = "start the keeper";
    let text = serde_json::to_vec(spec).map_err(|error| setup(stage, error))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&text).await.map_err(|error| setup(stage, error))?;
    }
    let line = match child.stdout.take() {
        Some(stdout) => first_line(stdout).await.map_err(|error| setup(stage, error))?,
        None => Vec::new(),
    };
    if line.is_empty() {
        let mut said = Vec::new();
        if let Some(stderr) = child.stderr.take() {
            let _ = stderr.take(2_000).read_to_end(&mut said).await;
        }
        return Err(setup(
            stage,
            format!("it ended without a report: {}", String::from_utf8_lossy(&said).trim()),
        ));
    }
    serde_json::from_slice(&line).map_err(|error| setup(stage, error))
}

async fn first_line(stream: impl AsyncRead + Unpin) -> std::io::Result<Vec<u8>> {
    let mut stream = stream.take(REPORT_BYTES_MAX);
    let mut line = Vec::new();
    loop {
        if stream.read_buf(&mut line).await? == 0 || line.contains(&b'\n') {
            return Ok(line);
        }
    }
}
