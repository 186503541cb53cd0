//! Writing into a directory tree that hostile names cannot leave.
//!
//! Every name is resolved by the kernel below the root of the tree (`openat2` with
//! `RESOLVE_BENEATH`): links that stay inside are followed, links that lead out and absolute links
//! are errors. The last component is never followed.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{self, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::{error::ImageError, name::EntryName};

/// Owner, mode, time and attributes of an entry.
#[derive(Debug, Clone, Default)]
pub(in crate::image) struct Metadata {
    pub(in crate::image) mode: u32,
    pub(in crate::image) uid: u32,
    pub(in crate::image) gid: u32,
    pub(in crate::image) mtime_s: i64,
    /// Names and values of `user.*` attributes, already bounded.
    pub(in crate::image) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A tree being written.
#[derive(Debug)]
pub(in crate::image) struct Tree {
    root: OwnedFd,
    /// Only root may give files away, and only root sees `trusted.*`.
    is_root: bool,
    /// The folder written to last: most entries have the same parent as the one before.
    last_parent: Option<(Vec<u8>, OwnedFd)>,
}

const WHITEOUT_MODE: Mode = Mode::empty();

impl Tree {
    pub(in crate::image) fn open(path: &std::path::Path) -> Result<Self, ImageError> {
        let root = fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(ImageError::errno("opening a layer folder"))?;
        Ok(Self { root, is_root: rustix::process::geteuid().is_root(), last_parent: None })
    }

    pub(in crate::image) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Makes sure that the folder exists; a new one gets its metadata at the end.
    pub(in crate::image) fn make_dir(&mut self, name: &EntryName) -> Result<(), ImageError> {
        let Some((_, last)) = name.split_last() else {
            return Ok(());
        };
        let parent = self.parent(name)?;
        match kind_of(&parent, last)? {
            Some(Kind::Directory) => return Ok(()),
            Some(kind) => {
                self.remove(&parent, last)?;
                mkdir(&parent, last).map_err(ImageError::errno("making a folder"))?;
                if kind == Kind::Whiteout {
                    // The layer hid what was below and then made its own: nothing shines through.
                    let dir = open_beneath(&parent, last).map_err(ImageError::errno("opening a folder"))?;
                    self.set_opaque(&dir)?;
                }
            }
            None => mkdir(&parent, last).map_err(ImageError::errno("making a folder"))?,
        }
        Ok(())
    }

    /// Writes a regular file from `content` and returns its length.
    pub(in crate::image) fn make_file(
        &mut self,
        name: &EntryName,
        metadata: &Metadata,
        content: &mut dyn Read,
    ) -> Result<u64, ImageError> {
        let (parent, last) = self.replace(name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(&parent, last, flags, Mode::RUSR | Mode::WUSR)
            .map_err(ImageError::errno("making a file"))?;
        let mut file = File::from(file);
        // Few system calls for large files, little memory for many small ones.
        let mut buffer = vec![0; 64 << 10];
        let mut length = 0;
        loop {
            let count = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(ImageError::io("reading a layer")(error)),
            };
            file.write_all(&buffer[..count]).map_err(ImageError::io("writing a file"))?;
            length += count as u64;
        }
        self.apply(file.as_fd(), metadata)?;
        Ok(length)
    }

    pub(in crate::image) fn make_symlink(
        &mut self,
        name: &EntryName,
        target: &[u8],
        metadata: &Metadata,
    ) -> Result<(), ImageError> {
        let (parent, last) = self.replace(name)?;
        fs::symlinkat(target, &parent, last).map_err(ImageError::errno("making a link"))?;
        self.apply_at(&parent, last, metadata)
    }

    pub(in crate::image) fn make_fifo(
        &mut self,
        name: &EntryName,
        metadata: &Metadata,
    ) -> Result<(), ImageError> {
        let (parent, last) = self.replace(name)?;
        fs::mkfifoat(&parent, last, Mode::from_raw_mode(metadata.mode & 0o777))
            .map_err(ImageError::errno("making a pipe"))?;
        self.apply_at(&parent, last, metadata)
    }

    /// A second name of a file of the same layer.
    pub(in crate::image) fn make_hard_link(
        &mut self,
        name: &EntryName,
        target: &EntryName,
    ) -> Result<(), ImageError> {
        let refused = |reason| ImageError::hostile(&name.joined(), reason);
        let Some((target_parent, target_last)) = target.split_last() else {
            return Err(refused("hard link to the root"));
        };
        if target == name {
            return Err(refused("hard link to itself"));
        }
        let target_parent = self
            .open_dir(&target_parent)
            .map_err(|_| refused("hard link to a file that this layer does not have"))?;
        match kind_of(&target_parent, target_last)? {
            Some(Kind::Other) => {}
            _ => return Err(refused("hard link to a file that this layer does not have")),
        }
        let (parent, last) = self.replace(name)?;
        // Without AT_SYMLINK_FOLLOW the link itself gets the second name.
        fs::linkat(&target_parent, target_last, &parent, last, AtFlags::empty()).map_err(
            |error| match error {
                // Replacing the new name removed the old one, for instance through a linked parent.
                Errno::NOENT => refused("hard link to a file that this layer does not have"),
                error => ImageError::errno("making a hard link")(error),
            },
        )
    }

    /// Hides `name` of the layers below.
    pub(in crate::image) fn make_whiteout(&mut self, name: &EntryName) -> Result<(), ImageError> {
        let Some((_, last)) = name.split_last() else {
            return Err(ImageError::hostile(b".", "whiteout of the root"));
        };
        let parent = self.parent(name)?;
        match kind_of(&parent, last)? {
            None => fs::mknodat(&parent, last, FileType::CharacterDevice, WHITEOUT_MODE, 0)
                .map_err(ImageError::errno("making a whiteout")),
            // A whiteout speaks of the layers below only: what this layer has stays.
            Some(Kind::Directory) => {
                let dir = open_beneath(&parent, last).map_err(ImageError::errno("opening a folder"))?;
                self.set_opaque(&dir)
            }
            Some(Kind::Whiteout | Kind::Other) => Ok(()),
        }
    }

    /// Hides everything that the layers below have in this folder.
    pub(in crate::image) fn make_opaque(&mut self, dir: &EntryName) -> Result<(), ImageError> {
        self.make_dir(dir)?;
        let fd = self.open_dir(dir).map_err(refused_link(dir))?;
        self.set_opaque(&fd)
    }

    /// Sets what was left for the end. `false` when the folder was replaced meanwhile.
    pub(in crate::image) fn finish_dir(
        &mut self,
        name: &EntryName,
        metadata: &Metadata,
    ) -> Result<bool, ImageError> {
        let fd = match self.open_dir(name) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => return Ok(false),
            Err(error) => return Err(ImageError::errno("opening a folder")(error)),
        };
        self.apply(fd.as_fd(), metadata)?;
        Ok(true)
    }

    fn open_dir(&self, name: &EntryName) -> Result<OwnedFd, Errno> {
        if name.is_root() {
            return rustix::io::fcntl_dupfd_cloexec(&self.root, 3);
        }
        open_beneath(&self.root, &name.joined())
    }

    /// Opens the folder that `name` is in, making what is missing of it.
    fn parent(&mut self, name: &EntryName) -> Result<OwnedFd, ImageError> {
        let Some((parent, _)) = name.split_last() else {
            return Err(ImageError::hostile(b".", "the root is a folder"));
        };
        let joined = parent.joined();
        if let Some((path, fd)) = &self.last_parent
            && *path == joined
        {
            return fd.try_clone().map_err(ImageError::io("duplicating a descriptor"));
        }
        let fd = match self.open_dir(&parent) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => self.make_missing(&parent)?,
            Err(error) => return Err(refused_link(name)(error)),
        };
        let copy = fd.try_clone().map_err(ImageError::io("duplicating a descriptor"))?;
        self.last_parent = Some((joined, copy));
        Ok(fd)
    }

    fn make_missing(&self, dir: &EntryName) -> Result<OwnedFd, ImageError> {
        let mut at = self.open_dir(&EntryName::root()).map_err(ImageError::errno("opening a folder"))?;
        for depth in 1..=dir.depth() {
            let prefix = dir.prefix(depth);
            let Some((_, last)) = prefix.split_last() else { continue };
            at = match self.open_dir(&prefix) {
                Ok(fd) => fd,
                Err(Errno::NOENT) => {
                    // A link to nowhere is here already: EEXIST, and nothing is made behind it.
                    mkdir(&at, last).map_err(refused_link(dir))?;
                    open_beneath(&at, last).map_err(refused_link(dir))?
                }
                Err(error) => return Err(refused_link(dir)(error)),
            };
        }
        Ok(at)
    }

    /// Parent and last component of `name`, which is free now.
    fn replace<'n>(&mut self, name: &'n EntryName) -> Result<(OwnedFd, &'n [u8]), ImageError> {
        let Some((_, last)) = name.split_last() else {
            return Err(ImageError::hostile(b".", "the root is a folder"));
        };
        let parent = self.parent(name)?;
        if kind_of(&parent, last)?.is_some() {
            self.remove(&parent, last)?;
        }
        Ok((parent, last))
    }

    fn remove(&mut self, parent: &OwnedFd, last: &[u8]) -> Result<(), ImageError> {
        // The folder kept open may be the one that goes.
        self.last_parent = None;
        remove_at(parent, last).map_err(ImageError::errno("replacing an entry"))
    }

    fn set_opaque(&self, dir: &OwnedFd) -> Result<(), ImageError> {
        let doing = "marking a folder as opaque";
        fs::fsetxattr(dir, "user.overlay.opaque", b"y", XattrFlags::empty())
            .map_err(ImageError::errno(doing))?;
        if self.is_root {
            match fs::fsetxattr(dir, "trusted.overlay.opaque", b"y", XattrFlags::empty()) {
                // Root of a user namespace: overlays there read the other attribute.
                Ok(()) | Err(Errno::PERM) => {}
                Err(error) => return Err(ImageError::errno(doing)(error)),
            }
        }
        Ok(())
    }

    fn apply(&self, fd: BorrowedFd<'_>, metadata: &Metadata) -> Result<(), ImageError> {
        let doing = "setting owner, mode or time";
        if self.is_root {
            // Before the mode: a change of owner clears the setuid bit.
            fs::fchown(fd, Some(Uid::from_raw(metadata.uid)), Some(Gid::from_raw(metadata.gid)))
                .map_err(ImageError::errno(doing))?;
        }
        for (name, value) in &metadata.xattrs {
            match fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
                // The store's file system has no room or no such attributes; programs live with it.
                Ok(())
                | Err(Errno::OPNOTSUPP | Errno::NOSPC | Errno::PERM | Errno::RANGE | Errno::TOOBIG) => {}
                Err(error) => return Err(ImageError::errno(doing)(error)),
            }
        }
        fs::fchmod(fd, Mode::from_raw_mode(metadata.mode & 0o7777)).map_err(ImageError::errno(doing))?;
        fs::futimens(fd, &times(metadata.mtime_s)).map_err(ImageError::errno(doing))
    }

    fn apply_at(&self, parent: &OwnedFd, last: &[u8], metadata: &Metadata) -> Result<(), ImageError> {
        let doing = "setting owner or time";
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if self.is_root {
            let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
            fs::chownat(parent, last, Some(uid), Some(gid), flags).map_err(ImageError::errno(doing))?;
        }
        fs::utimensat(parent, last, &times(metadata.mtime_s), flags).map_err(ImageError::errno(doing))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    Whiteout,
    Other,
}

fn kind_of(parent: &OwnedFd, last: &[u8]) -> Result<Option<Kind>, ImageError> {
    match fs::statat(parent, last, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            // The only devices that are ever made here.
            FileType::CharacterDevice => Kind::Whiteout,
            _ => Kind::Other,
        })),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(ImageError::errno("looking at an entry")(error)),
    }
}

/// A folder as those have it that no entry describes. The process's umask has no say.
fn mkdir(parent: &OwnedFd, last: &[u8]) -> Result<(), Errno> {
    let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
    fs::mkdirat(parent, last, mode)?;
    fs::chmodat(parent, last, mode, AtFlags::empty())
}

fn open_beneath(at: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    // EAGAIN: something on the machine was renamed meanwhile and the kernel cannot be sure. Three
    // tries are more than enough for a tree that only we write.
    for _ in 0..3 {
        match fs::openat2(at, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            answer => return answer,
        }
    }
    Err(Errno::AGAIN)
}

fn refused_link(name: &EntryName) -> impl FnOnce(Errno) -> ImageError {
    let name = name.joined();
    move |error| match error {
        Errno::XDEV | Errno::LOOP | Errno::EXIST => {
            ImageError::hostile(&name, "its folder is a link out of the layer")
        }
        Errno::NOTDIR => ImageError::hostile(&name, "its folder is not a folder"),
        error => ImageError::errno("opening a folder")(error),
    }
}

/// Removes an entry and what is below it, never following a link. The depth is bounded by that of
/// the names that made the tree.
fn remove_at(parent: &OwnedFd, last: &[u8]) -> Result<(), Errno> {
    match fs::unlinkat(parent, last, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        answer => return answer,
    }
    let dir = open_beneath(parent, last)?;
    for entry in fs::Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            remove_at(&dir, name)?;
        }
    }
    fs::unlinkat(parent, last, AtFlags::REMOVEDIR)
}

fn times(mtime_s: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime_s, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
