//! What is on its way into a workspace: written beside it, where no sandbox sees it, and moved in when it is whole.
//!
//! So an upload that is cut off, or too long, or whose signature does not hold, was never in the workspace.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::{
    fs::{Mode, OFlags, RenameFlags},
    io::Errno,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::{FileError, move_in};
use crate::session::{disk_room, tree};

/// Longest file that comes through here.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 30;

/// Beginning of the names of what is staged, in a session's folder.
const PREFIX: &str = ".upload-";

/// Uploads at once; further ones wait. Each holds a descriptor and up to 256 KiB.
const UPLOADS_MAX: usize = 64;

/// Entries of a workspace counted for its size; as the watch over disks.
const ENTRIES_MAX: usize = 1_000_000;

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct Staged {
    file: File,
    path: Option<PathBuf>,
}

impl Staged {
    /// An empty one beside the workspace.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn make(session_folder: &Path) -> Result<Self, FileError> {
        let path = session_folder.join(format!("{PREFIX}{}", Uuid::new_v4()));
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { file, path: Some(path) })
    }

    /// Appends.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        Ok(self.file.write_all(bytes)?)
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(super) fn move_to(mut self, parent: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
        let Some(path) = &self.path else { return Err(Errno::NOENT) };
        move_in(path, parent, name, RenameFlags::empty())?;
        self.path = None;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A folder on its way.
#[derive(Debug)]
pub(super) struct StagedFolder {
    folder: OwnedFd,
    path: Option<PathBuf>,
}

impl StagedFolder {
    pub(super) fn make(session_folder: &Path) -> Result<Self, FileError> {
        let path = session_folder.join(format!("{PREFIX}{}", Uuid::new_v4()));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&path, flags, Mode::empty())?;
        Ok(Self { folder, path: Some(path) })
    }

    pub(super) fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    pub(super) fn move_to(mut self, parent: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
        let Some(path) = &self.path else { return Err(Errno::NOENT) };
        move_in(path, parent, name, RenameFlags::NOREPLACE)?;
        self.path = None;
        Ok(())
    }
}

impl Drop for StagedFolder {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_dir(path);
        }
    }
}

/// Removes what a server that was killed had staged.
pub(crate) fn remove_leftovers(sessions_folder: &Path) {
    let folders = std::fs::read_dir(sessions_folder).into_iter().flatten().flatten();
    for entry in folders.flat_map(|folder| std::fs::read_dir(folder.path())).flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let removed = match entry.file_type() {
            Ok(kind) if kind.is_dir() => std::fs::remove_dir(entry.path()),
            _ => std::fs::remove_file(entry.path()),
        };
        if let Err(error) = removed {
            tracing::warn!(%error, path = %entry.path().display(), "a file of an upload stays");
        }
    }
}

/// Uploads under way, so that several at once do not exceed what one may not.
#[derive(Debug)]
pub(crate) struct Uploads {
    room: Arc<Semaphore>,
    /// By session folder: bytes that uploads may still write.
    reserved: Arc<Mutex<HashMap<PathBuf, u64>>>,
}

impl Default for Uploads {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(UPLOADS_MAX)), reserved: Arc::default() }
    }
}

/// Bytes that an upload may write; given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    reserved: Arc<Mutex<HashMap<PathBuf, u64>>>,
    folder: PathBuf,
    /// Most bytes of this upload.
    pub(crate) bytes: u64,
    what: &'static str,
    _permit: OwnedSemaphorePermit,
}

impl Uploads {
    /// Waits for its turn.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).acquire_owned().await.ok()
    }

    /// Room for a file of this length, or of one that is not known, in a session whose workspace may have `limit` bytes.
    /// Blocks: the workspace is measured.
    ///
    /// # Errors
    /// [`FileError::NoRoom`], [`FileError::TooLong`].
    pub(crate) fn reserve(
        &self,
        session_folder: &Path,
        length: Option<u64>,
        limit: u64,
        permit: OwnedSemaphorePermit,
    ) -> Result<Reservation, FileError> {
        if length.is_some_and(|length| length > FILE_BYTES_MAX) {
            return Err(FileError::TooLong { max: FILE_BYTES_MAX });
        }
        let used = tree::measure(&session_folder.join("workspace"), ENTRIES_MAX).unwrap_or_default().bytes;
        let on_disk = disk_room(session_folder)?;
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let everywhere = reserved.values().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
        let here = reserved.get(session_folder).copied().unwrap_or(0);
        let in_session = limit.saturating_sub(used).saturating_sub(here);
        let on_disk = on_disk.saturating_sub(everywhere);
        let (left, what) = if in_session <= on_disk {
            (in_session, "The workspace would be above its limit")
        } else {
            (on_disk, "The server's disk would be too full")
        };
        let bytes = length.unwrap_or(left.min(FILE_BYTES_MAX));
        if bytes > left {
            return Err(FileError::NoRoom { what, left });
        }
        *reserved.entry(session_folder.to_owned()).or_default() += bytes;
        drop(reserved);
        Ok(Reservation {
            reserved: Arc::clone(&self.reserved),
            folder: session_folder.to_owned(),
            bytes,
            what,
            _permit: permit,
        })
    }
}

impl Reservation {
    /// Why an upload of more than its bytes is refused.
    pub(crate) fn exceeded(&self) -> FileError {
        if self.bytes >= FILE_BYTES_MAX {
            FileError::TooLong { max: FILE_BYTES_MAX }
        } else {
            FileError::NoRoom { what: self.what, left: self.bytes }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = reserved.get_mut(&self.folder) {
            *bytes = bytes.saturating_sub(self.bytes);
            if *bytes == 0 {
                reserved.remove(&self.folder);
            }
        }
    }
}

/// Runs what blocks.
///
/// # Errors
/// What it says.
pub(crate) async fn blocking<T: Send + 'static>(
    action: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    tokio::task::spawn_blocking(action)
        .await
        .unwrap_or_else(|error| Err(FileError::Io(io::Error::other(error))))
}
