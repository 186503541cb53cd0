//! What is left of a sandbox: moved out of the session's folder at once, removed in the background.
//!
//! The tree is hostile (deep, large, full of links and odd modes) and may belong to ids that only
//! exist in a user namespace, so the keeper program removes it, in a process of its own.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
};

use clamshell_domain::StorageId;
use clamshell_protocol::{IdMap, RemoveSpec};

/// The folder for what is to be removed.
#[derive(Debug)]
pub(super) struct Trash {
    path: PathBuf,
    next: AtomicU64,
}

impl Trash {
    /// In a data folder.
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { path: data_dir.join("trash"), next: AtomicU64::new(0) }
    }

    /// Moves `run/`, `upper/` and `work/` of a session away. Afterwards they are not there. Gives where `run/` is now.
    pub(super) fn take(&self, session_dir: &Path, name: &StorageId) -> io::Result<Option<PathBuf>> {
        let mut run = None;
        for part in ["run", "upper", "work"] {
            let source = session_dir.join(part);
            match fs::symlink_metadata(&source) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
                Ok(_) => {}
            }
            fs::create_dir_all(&self.path)?;
            let target = self.put(&source, &format!("{name}-{part}"))?;
            if part == "run" {
                run = Some(target);
            }
        }
        Ok(run)
    }

    /// Moves something to a name that nothing has. In a container every server has the same process id, so that of an
    /// earlier one may be taken.
    fn put(&self, source: &Path, name: &str) -> io::Result<PathBuf> {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let target = self.path.join(format!("{name}-{}-{number}", std::process::id()));
            match fs::rename(source, &target) {
                Ok(()) => return Ok(target),
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Starts a process that empties the folder. When one is at it already, the new one ends at once.
    pub(super) fn empty(&self, binary: &Path, ids: &Option<IdMap>) {
        if !self.path.is_dir() {
            return;
        }
        let spec = RemoveSpec { path: self.path.to_string_lossy().into_owned(), ids: *ids };
        let (Ok(text), Ok(mut child)) = (serde_json::to_vec(&spec), remover(binary).spawn()) else {
            tracing::warn!("leftovers cannot be removed: the remover does not start");
            return;
        };
        // Below PIPE_BUF, into a new pipe: this write never waits. Not by the runtime: that one would first wait to be told so.
        let written = match child.stdin.take().map(tokio::process::ChildStdin::into_owned_fd) {
            Some(Ok(stdin)) => fs::File::from(stdin).write_all(&text),
            Some(Err(error)) => Err(error),
            None => Ok(()),
        };
        if let Err(error) = written {
            tracing::warn!(%error, "leftovers are not removed: the remover does not listen");
        }
    }
}

fn remover(binary: &Path) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(binary);
    command
        .args(["keeper", "remove"])
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_server_left_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let session = folder.path().join("session");
        let name = StorageId::parse("abcdefghijklmnopqrst").unwrap();
        for server in 0..2 {
            fs::create_dir_all(session.join("run")).unwrap();
            fs::write(session.join("run/file"), server.to_string()).unwrap();
            let run = Trash::new(folder.path()).take(&session, &name).unwrap().unwrap();
            assert_eq!(fs::read_to_string(run.join("file")).unwrap(), server.to_string());
            assert!(!session.join("run").exists());
        }
    }
}
