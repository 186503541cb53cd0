//! Where the parts of an image lie: a folder, or a tar archive that is indexed once and then read
//! in place.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::{fd::OwnedFd, unix::fs::FileExt},
    path::Path,
};

use flate2::read::MultiGzDecoder;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use super::{error::ImageError, name::EntryName};

/// The parts of an image by name.
#[derive(Debug)]
pub(in crate::image) enum Source {
    /// An OCI layout folder.
    Folder(OwnedFd),
    /// An `oci-archive` or `docker save` file.
    Archive { file: File, parts: HashMap<Vec<u8>, Part> },
}

/// A member of an archive.
#[derive(Debug, Clone)]
pub(in crate::image) enum Part {
    Bytes {
        offset: u64,
        length: u64,
    },
    /// `docker save` of old links layers that two images share.
    Link(Vec<u8>),
}

/// Members of an archive: 127 layers of many images come nowhere near.
const PARTS_MAX: usize = 100_000;

impl Source {
    /// Opens an image; a compressed archive is unpacked into an unnamed file in `scratch`.
    pub(in crate::image) fn open(path: &Path, scratch: &Path, bytes_max: u64) -> Result<Self, ImageError> {
        let opening = ImageError::io("opening the image");
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) => return Err(opening(error)),
        };
        let kind = file.metadata().map_err(ImageError::io("opening the image"))?.file_type();
        if kind.is_dir() {
            return Ok(Self::Folder(file.into()));
        }
        if !kind.is_file() {
            return Err(ImageError::NotAnImage { reason: "neither a folder nor a file".into() });
        }
        let mut magic = [0; 4];
        let known = file.read_at(&mut magic, 0).map_err(ImageError::io("reading the image"))?;
        if magic == [0x28, 0xb5, 0x2f, 0xfd] {
            return Err(ImageError::Unsupported { what: "archives compressed with zstd".into() });
        }
        if known >= 2 && magic[..2] == [0x1f, 0x8b] {
            file = unpack_archive(file, scratch, bytes_max)?;
        }
        let parts = index(&mut file)?;
        Ok(Self::Archive { file, parts })
    }

    pub(in crate::image) fn has(&self, name: &str) -> bool {
        self.part(name).is_ok()
    }

    /// A reader of a part, and its length.
    pub(in crate::image) fn part(&self, name: &str) -> Result<(Box<dyn Read + '_>, u64), ImageError> {
        let missing = || ImageError::NotAnImage { reason: format!("`{}` is missing", name.escape_default()) };
        let parsed = EntryName::parse(name.as_bytes())?;
        if parsed.is_root() {
            return Err(missing());
        }
        match self {
            Self::Folder(folder) => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
                let fd =
                    rustix::fs::openat2(folder, parsed.joined().as_slice(), flags, Mode::empty(), resolve)
                        .map_err(|_| missing())?;
                let stat = rustix::fs::fstat(&fd).map_err(ImageError::errno("reading the image"))?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Err(missing());
                }
                Ok((Box::new(File::from(fd)), u64::try_from(stat.st_size).unwrap_or(0)))
            }
            Self::Archive { file, parts } => {
                let mut key = parsed.joined();
                // One hop is what `docker save` writes; a few cost nothing and loops end.
                for _ in 0..4 {
                    match parts.get(&key).ok_or_else(missing)? {
                        Part::Bytes { offset, length } => {
                            let range = FileRange { file, offset: *offset, left: *length };
                            return Ok((Box::new(range), *length));
                        }
                        Part::Link(target) => key.clone_from(target),
                    }
                }
                Err(missing())
            }
        }
    }

    /// A small part in memory.
    pub(in crate::image) fn bytes(&self, name: &str, limit: u64) -> Result<Vec<u8>, ImageError> {
        let (reader, length) = self.part(name)?;
        if length > limit {
            return Err(ImageError::TooLarge { what: "size of a description", limit });
        }
        let mut bytes = Vec::new();
        reader.take(limit).read_to_end(&mut bytes).map_err(ImageError::io("reading the image"))?;
        Ok(bytes)
    }
}

fn unpack_archive(file: File, scratch: &Path, bytes_max: u64) -> Result<File, ImageError> {
    let doing = "unpacking the archive";
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let plain =
        rustix::fs::open(scratch, flags, Mode::RUSR | Mode::WUSR).map_err(ImageError::errno(doing))?;
    let mut plain = File::from(plain);
    let mut content = MultiGzDecoder::new(file).take(bytes_max.saturating_add(1));
    let written = io::copy(&mut content, &mut plain).map_err(ImageError::io(doing))?;
    if written > bytes_max {
        return Err(ImageError::TooLarge { what: "size of the archive", limit: bytes_max });
    }
    plain.flush().map_err(ImageError::io(doing))?;
    Ok(plain)
}

fn index(file: &mut File) -> Result<HashMap<Vec<u8>, Part>, ImageError> {
    let reading = "reading the archive";
    file.seek(SeekFrom::Start(0)).map_err(ImageError::io(reading))?;
    let length = file.metadata().map_err(ImageError::io(reading))?.len();
    let mut archive = tar::Archive::new(&*file);
    let mut parts = HashMap::new();
    // Raw: the names used in images are short, and long-name headers would be read without bound.
    for entry in archive.entries_with_seek().map_err(ImageError::io(reading))?.raw(true) {
        let entry =
            entry.map_err(|_| ImageError::NotAnImage { reason: "the file is not a tar archive".into() })?;
        if parts.len() >= PARTS_MAX {
            return Err(ImageError::TooLarge { what: "number of archive members", limit: PARTS_MAX as u64 });
        }
        let Ok(name) = EntryName::parse(&entry.header().path_bytes()) else {
            continue;
        };
        let kind = entry.header().entry_type();
        if kind.is_file() {
            let (offset, size) = (entry.raw_file_position(), entry.size());
            if offset.checked_add(size).is_none_or(|end| end > length) {
                return Err(ImageError::malformed("archive: it ends inside a member"));
            }
            parts.insert(name.joined(), Part::Bytes { offset, length: size });
        } else if (kind.is_symlink() || kind.is_hard_link())
            && let Some(target) = entry.header().link_name_bytes()
            && let Some(target) = linked(&name, &target, kind.is_hard_link())
        {
            parts.insert(name.joined(), Part::Link(target));
        }
    }
    Ok(parts)
}

/// The member that a link names; `..` is resolved in the list of names, never on disk.
fn linked(name: &EntryName, target: &[u8], from_root: bool) -> Option<Vec<u8>> {
    let folder = name.split_last()?.0.joined();
    let mut components: Vec<&[u8]> = Vec::new();
    let base = if from_root { [].as_slice() } else { &folder };
    for component in base.split(|byte| *byte == b'/').chain(target.split(|byte| *byte == b'/')) {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop()?;
            }
            component => components.push(component),
        }
    }
    Some(components.join(&b'/'))
}

/// A stretch of a file, read without moving the file's own position.
#[derive(Debug)]
struct FileRange<'f> {
    file: &'f File,
    offset: u64,
    left: u64,
}

impl Read for FileRange<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}
