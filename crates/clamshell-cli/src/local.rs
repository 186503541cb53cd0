//! The server of this machine: find it, start it in the background, wait until it answers.

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use clamshell_server::local::{ServerInfo, default_data_dir, read_server_info};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::{client, failure::Failure, target::Endpoint};

/// A first start makes keys and a store; a slow disk needs a moment. Longer than that is a fault.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(25);
/// An old log above this size is moved away at the next start, so two files bound the disk it takes.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// What to do when the port is taken.
pub(crate) const PORT_HINT: &str = "`clamshell serve --detach --listen 127.0.0.1:0` takes a free port";

/// The data directory that was named: by flag, else by its environment variable.
///
/// Read here and not by clap, which would print the flag as a required one in each usage line.
pub(crate) fn named_data_dir(flag: Option<&Path>) -> Option<PathBuf> {
    let variable = || std::env::var_os("CLAMSHELL_DATA_DIR").map(PathBuf::from);
    let path = flag.map(Path::to_owned).or_else(variable).filter(|path| !path.as_os_str().is_empty())?;
    Some(std::path::absolute(&path).unwrap_or(path))
}

/// The data directory: the named one, else the server's default.
pub(crate) fn data_dir(flag: Option<&Path>) -> PathBuf {
    named_data_dir(flag).unwrap_or_else(|| {
        let path = default_data_dir();
        std::path::absolute(&path).unwrap_or(path)
    })
}

/// What `server.json` says.
pub(crate) fn info(data_dir: &Path) -> Result<Option<ServerInfo>, Failure> {
    read_server_info(data_dir).map_err(|error| {
        Failure::new(format!("cannot read {}", data_dir.join("server.json").display())).because_of(&error)
    })
}

/// Whether the server that wrote `info` answers.
pub(crate) async fn is_alive(info: &ServerInfo) -> bool {
    match Endpoint::parse(&info.endpoint) {
        Ok(endpoint) => client::is_healthy(&endpoint, info.ca_path.as_deref()).await,
        Err(_) => false,
    }
}

/// The running server of this data directory.
pub(crate) async fn running(data_dir: &Path) -> Result<Option<ServerInfo>, Failure> {
    match info(data_dir)? {
        Some(info) if is_alive(&info).await => Ok(Some(info)),
        _ => Ok(None),
    }
}

/// Where the server in the background logs.
pub(crate) fn log_path(data_dir: &Path) -> PathBuf {
    data_dir.join("server.log")
}

/// Starts a server in the background and waits until it answers. `flags` are those of `serve`.
/// Of several commands that do so at once, one starts it and the others find it running.
pub(crate) async fn start(data_dir: &Path, flags: &[String]) -> Result<ServerInfo, Failure> {
    let deadline = Instant::now() + START_TIMEOUT;
    let cannot = |error: io::Error| {
        Failure::new(format!("cannot start a server on {}", data_dir.display()))
            .because_of(&error)
            .hint("--data-dir or CLAMSHELL_DATA_DIR names another folder")
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(cannot)?;
    let _turn = wait_for_turn(data_dir, deadline).await.map_err(cannot)?;
    if let Some(info) = running(data_dir).await? {
        return Ok(info);
    }
    let log = log_path(data_dir);
    let mut child = spawn(data_dir, &log, flags).map_err(cannot)?;
    let log_start = fs::metadata(&log).map_or(0, |metadata| metadata.len());
    loop {
        let ended = child.try_wait().ok().flatten();
        // Asked after the child's state: somebody else may have started a server at the same moment,
        // and then ours ends while theirs answers.
        if let Some(info) = running(data_dir).await? {
            return Ok(info);
        }
        let hint = format!("the log is {}", log.display());
        if let Some(status) = ended {
            let last = last_line(&log, log_start).unwrap_or_else(|| status.to_string());
            let last = last.trim_start_matches("the server ended: ");
            // The usual fault of a newcomer with two data directories, or two users of one machine.
            let hint = if last.contains("Address already in use") { PORT_HINT.to_owned() } else { hint };
            return Err(Failure::new("the server did not start").because(last).hint(hint));
        }
        if Instant::now() > deadline {
            let why = format!("no answer within {} s", START_TIMEOUT.as_secs());
            return Err(Failure::new("the server did not start").because(why).hint(hint));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Locks a file that only starting commands lock; the lock goes with the descriptor.
async fn wait_for_turn(data_dir: &Path, deadline: Instant) -> io::Result<fs::File> {
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(data_dir.join("start.lock"))?;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
            Err(error) => return Err(error.into()),
        }
    }
}

fn spawn(data_dir: &Path, log: &Path, flags: &[String]) -> io::Result<Child> {
    if fs::metadata(log).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
        fs::rename(log, log.with_extension("log.1"))?;
    }
    let out = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(log)?;
    let err = out.try_clone()?;
    Command::new(std::env::current_exe()?)
        .arg("serve")
        .args(flags)
        .arg("--background")
        .arg("--data-dir")
        .arg(data_dir)
        // The folder of the shell that happened to start it must not stay busy.
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
}

/// The last line of the log written since `start`.
fn last_line(log: &Path, start: u64) -> Option<String> {
    let mut file = fs::File::open(log).ok()?;
    let end = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(start.max(end.saturating_sub(4096)))).ok()?;
    let mut text = Vec::new();
    file.take(4096).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let line = lines.iter().rev().find(|line| line.starts_with("error: ")).or(lines.last())?;
    Some(line.trim_start_matches("error: ").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_the_last_line_since_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("server.log");
        fs::write(&log, "error: old\n").unwrap();
        assert_eq!(last_line(&log, 11), None);
        fs::write(&log, "error: old\ninfo\nerror: port: in use\nhint: x\n").unwrap();
        assert_eq!(last_line(&log, 11).as_deref(), Some("port: in use"));
        fs::write(&log, "error: old\npanicked\n\n").unwrap();
        assert_eq!(last_line(&log, 11).as_deref(), Some("panicked"));
    }
}
