//! Files of a session's workspace, as seen from the machine: list, read, put, remove, move.
//!
//! What is in a workspace is hostile, and changes while it is looked at: names lead anywhere, a folder becomes a link between
//! two steps, a file is a pipe that never ends. So every path is resolved by the kernel beneath the workspace, without links
//! and without leaving its file system; only regular files are opened, and nothing that is opened can block.
//! Everything here blocks on the disk and is called from threads for that.

mod path;
mod staged;
#[cfg(test)]
mod tests;

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Uid, fchmod, fchown,
        fstat, openat2, renameat_with, statat, unlinkat,
    },
    io::Errno,
};
use thiserror::Error;

pub(crate) use path::{FilePath, shown};
pub(crate) use staged::{Reservation, Staged, Uploads, blocking, remove_leftovers};

/// Entries of a folder that are told: more are no list for people, and each costs a look at its inode.
pub(crate) const ENTRIES_MAX: usize = 10_000;

/// A folder that is renamed while a path is resolved through it makes the kernel give up with `EAGAIN`. So often it is tried
/// again; who renames all the time keeps only its own files from being read.
const TRIES: usize = 32;

/// Why something cannot be done with a file. Texts are for clients.
#[derive(Debug, Error)]
pub(crate) enum FileError {
    /// The path is not one.
    #[error("{0}")]
    Path(&'static str),
    /// Nothing is there.
    #[error("No such file or folder")]
    NotFound,
    /// The session has no workspace.
    #[error("The session has no workspace yet; it gets one when it starts")]
    NoWorkspace,
    /// A link is on the way.
    #[error("The path leads through a symbolic link, which is not followed")]
    Link,
    /// It leads to another file system, or out.
    #[error("The path leads out of the workspace")]
    Outside,
    /// What is there is no regular file.
    #[error("It is not a regular file")]
    NotAFile,
    /// What is there is no folder.
    #[error("It is not a folder")]
    NotAFolder,
    /// Something is there already.
    #[error("There is something of this name already")]
    Exists,
    /// A folder that is not empty.
    #[error("The folder is not empty")]
    NotEmpty,
    /// Its rights are closed to the server.
    #[error(
        "The server is not allowed to: it runs as user {server} without the rights of root, and this belongs to user {owner} \
         of the machine, one of the session's own"
    )]
    Closed {
        /// Owner of the nearest folder or file that can be seen.
        owner: u32,
        /// The server's user.
        server: u32,
    },
    /// Longer than a file may be that comes through here.
    #[error("A file has at most {max} bytes here")]
    TooLong {
        /// Most bytes.
        max: u64,
    },
    /// The session's limit, or the disk.
    #[error("{what}: {left} bytes are left")]
    NoRoom {
        /// Which limit.
        what: &'static str,
        /// Bytes that would still fit.
        left: u64,
    },
    /// The disk failed.
    #[error("file cannot be used")]
    Io(#[source] io::Error),
}

impl From<Errno> for FileError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT => Self::NotFound,
            Errno::NOTDIR => Self::NotAFolder,
            Errno::LOOP => Self::Link,
            Errno::XDEV => Self::Outside,
            Errno::EXIST => Self::Exists,
            Errno::NOTEMPTY => Self::NotEmpty,
            Errno::ISDIR => Self::NotAFile,
            Errno::NAMETOOLONG => Self::Path("A name in the path is too long"),
            Errno::INVAL => Self::Path("The name is not one that a file can have here"),
            // A socket, or a device without a driver.
            Errno::NXIO | Errno::NODEV => Self::NotAFile,
            Errno::NOSPC | Errno::DQUOT => Self::NoRoom { what: "The server's disk is full", left: 0 },
            other => Self::Io(other.into()),
        }
    }
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Errno::from_io_error(&error).map_or_else(|| Self::Io(error), Self::from)
    }
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Link,
    Other,
}

impl Kind {
    fn of(stat: &Stat) -> Self {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Folder,
            FileType::Symlink => Self::Link,
            _ => Self::Other,
        }
    }

    /// As the API writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Folder => "directory",
            Self::Link => "symlink",
            Self::Other => "other",
        }
    }
}

/// A file, folder or whatever there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Any bytes but `/` and NUL.
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) bytes: u64,
    /// Milliseconds since 1970.
    pub(crate) modified_at_ms: u64,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Changes when the content does.
    pub(crate) version: String,
}

impl Entry {
    fn of(name: &[u8], stat: &Stat) -> Self {
        let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
        let nanoseconds = stat.st_mtime_nsec;
        Self {
            name: name.to_vec(),
            kind: Kind::of(stat),
            bytes: u64::try_from(stat.st_size).unwrap_or(0),
            modified_at_ms: seconds.saturating_mul(1000).saturating_add(nanoseconds / 1_000_000),
            mode: stat.st_mode & 0o7777,
            version: format!("{:x}-{:x}-{:x}-{nanoseconds:x}", stat.st_ino, stat.st_size, seconds),
        }
    }
}

/// What is in a folder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    /// By name.
    pub(crate) entries: Vec<Entry>,
    /// There are more.
    pub(crate) truncated: bool,
}

/// The workspace of a session, running or not.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: OwnedFd,
    /// Who new files belong to: the folder itself is the agent's.
    owner: (Uid, Gid),
}

impl Workspace {
    /// The workspace in a session's folder, which is the server's own.
    ///
    /// # Errors
    /// [`FileError::NoWorkspace`] before the session's first start.
    pub(crate) fn open(session_folder: &Path) -> Result<Self, FileError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = match rustix::fs::open(session_folder.join("workspace"), flags, Mode::empty()) {
            Err(Errno::NOENT) => return Err(FileError::NoWorkspace),
            opened => opened?,
        };
        let stat = fstat(&root)?;
        Ok(Self { root, owner: (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)) })
    }

    /// Opens what a path names, links never.
    fn resolve(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, FileError> {
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV;
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        // The kernel takes only what is known to go with a bare name.
        let flags =
            if flags.contains(OFlags::PATH) { flags - OFlags::NONBLOCK - OFlags::NOCTTY } else { flags };
        let path = if path.is_empty() { b"." } else { path };
        for _ in 0..TRIES {
            match openat2(&self.root, OsStr::from_bytes(path), flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                Err(errno) => return Err(self.refused(path, errno)),
                Ok(opened) => return Ok(opened),
            }
        }
        Err(FileError::Io(Errno::AGAIN.into()))
    }

    /// The folder that something is in.
    fn parent(&self, path: &[u8]) -> Result<OwnedFd, FileError> {
        self.resolve(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    fn refused(&self, path: &[u8], errno: Errno) -> FileError {
        if !matches!(errno, Errno::ACCESS | Errno::PERM) {
            return errno.into();
        }
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let mut nearest = path;
        let owner = loop {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let opened = openat2(&self.root, OsStr::from_bytes(nearest), flags, Mode::empty(), beneath);
            if let Ok(stat) = opened.and_then(|opened| fstat(&opened)) {
                break stat.st_uid;
            }
            match nearest.iter().rposition(|byte| *byte == b'/') {
                Some(at) => nearest = &nearest[..at],
                None => break self.owner.0.as_raw(),
            }
        };
        FileError::Closed { owner, server: rustix::process::geteuid().as_raw() }
    }

    /// What is in a folder.
    ///
    /// # Errors
    /// [`FileError`].
    pub(crate) fn list(&self, path: &FilePath) -> Result<Listing, FileError> {
        let folder = self.resolve(path.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut listing = Listing { entries: Vec::new(), truncated: false };
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if listing.entries.len() >= ENTRIES_MAX {
                listing.truncated = true;
                break;
            }
            // It may be gone by now.
            let Ok(stat) = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            listing.entries.push(Entry::of(name.to_bytes(), &stat));
        }
        listing.entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(listing)
    }

    /// Opens a regular file.
    ///
    /// # Errors
    /// [`FileError`]; [`FileError::NotAFile`] for anything that is none.
    pub(crate) fn read(&self, path: &FilePath) -> Result<(File, Entry), FileError> {
        // Looked at first: to open a device or a pipe may do something.
        let seen = self.resolve(path.as_bytes(), OFlags::PATH)?;
        match Kind::of(&fstat(&seen)?) {
            Kind::File => {}
            Kind::Link => return Err(FileError::Link),
            Kind::Folder | Kind::Other => return Err(FileError::NotAFile),
        }
        let opened = self.resolve(path.as_bytes(), OFlags::RDONLY)?;
        let stat = fstat(&opened)?;
        // Something else may have taken its place since.
        if Kind::of(&stat) != Kind::File {
            return Err(FileError::NotAFile);
        }
        let name = path.split().map_or(&b""[..], |(_, name)| name);
        Ok((File::from(opened), Entry::of(name, &stat)))
    }

    /// Puts what was staged in its place, over a file that is there.
    ///
    /// # Errors
    /// [`FileError`]; then nothing of it is left.
    pub(crate) fn put(&self, staged: Staged, path: &FilePath) -> Result<Entry, FileError> {
        let (folder, name) = path.split().ok_or(FileError::Path("The path names no file"))?;
        let parent = self.parent(folder)?;
        let name = OsStr::from_bytes(name);
        // Programs stay programs; nothing gets a setuid bit through here.
        let mode = match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if Kind::of(&stat) == Kind::File => stat.st_mode & 0o777,
            Ok(stat) if Kind::of(&stat) == Kind::Folder => return Err(FileError::NotAFile),
            _ => 0o644,
        };
        self.hand_over(staged.file(), mode)?;
        let stat = fstat(staged.file())?;
        staged.move_to(&parent, name).map_err(|errno| self.refused(folder, errno))?;
        Ok(Entry::of(name.as_bytes(), &stat))
    }

    /// Makes an empty folder.
    ///
    /// # Errors
    /// [`FileError`].
    pub(crate) fn make_folder(&self, session_folder: &Path, path: &FilePath) -> Result<Entry, FileError> {
        let (folder, name) = path.split().ok_or(FileError::Exists)?;
        let parent = self.parent(folder)?;
        // Made aside and moved, so that nobody inside can put another one in its place before it is the agent's.
        let made = staged::StagedFolder::make(session_folder)?;
        self.hand_over(made.folder(), 0o755)?;
        let stat = fstat(made.folder())?;
        made.move_to(&parent, OsStr::from_bytes(name)).map_err(|errno| self.refused(folder, errno))?;
        Ok(Entry::of(name, &stat))
    }

    /// Makes something the agent's, with these permissions.
    fn hand_over(&self, made: impl AsFd, mode: u32) -> Result<(), FileError> {
        let (uid, gid) = self.owner;
        let stat = fstat(&made)?;
        if (stat.st_uid, stat.st_gid) != (uid.as_raw(), gid.as_raw()) {
            fchown(&made, Some(uid), Some(gid)).map_err(|errno| self.refused(b"", errno))?;
        }
        Ok(fchmod(&made, Mode::from_raw_mode(mode))?)
    }

    /// Removes a file, a link or an empty folder.
    ///
    /// # Errors
    /// [`FileError`].
    pub(crate) fn remove(&self, path: &FilePath) -> Result<(), FileError> {
        let (folder, name) = path.split().ok_or(FileError::Path("The workspace itself stays"))?;
        let parent = self.parent(folder)?;
        let name = OsStr::from_bytes(name);
        let is_folder = Kind::of(&statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?) == Kind::Folder;
        let flags = if is_folder { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        unlinkat(&parent, name, flags).map_err(|errno| self.refused(folder, errno))
    }

    /// Gives something another name, where nothing is yet.
    ///
    /// # Errors
    /// [`FileError`]; [`FileError::Exists`] when something is there.
    pub(crate) fn rename(&self, path: &FilePath, to: &FilePath) -> Result<(), FileError> {
        let stays = || FileError::Path("The workspace itself stays");
        let (from_folder, from_name) = path.split().ok_or_else(stays)?;
        let (to_folder, to_name) = to.split().ok_or(FileError::Exists)?;
        let (from, to) = (self.parent(from_folder)?, self.parent(to_folder)?);
        let (from_name, to_name) = (OsStr::from_bytes(from_name), OsStr::from_bytes(to_name));
        renameat_with(&from, from_name, &to, to_name, RenameFlags::NOREPLACE)
            .map_err(|errno| self.refused(from_folder, errno))
    }
}

/// Moves something of the server's own beneath a folder of a workspace.
fn move_in(from: &Path, parent: &OwnedFd, name: &OsStr, flags: RenameFlags) -> Result<(), Errno> {
    renameat_with(CWD, from, parent, name, flags)
}
