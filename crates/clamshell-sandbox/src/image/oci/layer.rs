//! Unpacking one layer into an empty folder.
//!
//! The tar crate reads the headers in raw mode; long names and extended headers are put together
//! here, because only here their size is bounded: a header of a few bytes may announce gigabytes.

use std::{collections::BTreeMap, io::Read};

use tar::{Archive, Entry, EntryType};

use super::{
    error::ImageError,
    name::EntryName,
    tree::{Metadata, Tree},
};

/// Bounds of what an image may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Entries of one image, all its new layers together. A large distribution has 300,000.
    pub entries_max: u64,
    /// Bytes of one image when unpacked, headers included.
    pub unpacked_bytes_max: u64,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self { entries_max: 1_000_000, unpacked_bytes_max: 20 << 30 }
    }
}

/// Longest extended header or long name: 64 KiB of attribute value is the most that Linux keeps.
const EXTENSION_BYTES_MAX: u64 = 1 << 20;
/// Attributes of one file; more do not fit into one block of ext4 anyway.
const XATTRS_MAX: usize = 64;
/// Bytes of all folder names kept for the end.
const DIR_NAME_BYTES_MAX: usize = 256 << 20;
/// Ids that exist inside a sandbox.
const ID_MAX: u64 = 65_535;

/// Unpacks the tar stream and returns the number of entries.
pub(super) fn unpack_tar(
    content: &mut dyn Read,
    tree: &mut Tree,
    entries_max: u64,
) -> Result<u64, ImageError> {
    let mut archive = Archive::new(content);
    let entries = archive.entries().map_err(ImageError::io("reading a layer"))?.raw(true);
    let mut unpacker = Unpacker { tree, dirs: BTreeMap::new(), dir_name_bytes: 0 };
    unpacker.dirs.insert(EntryName::root(), Metadata { mode: 0o755, ..Metadata::default() });
    let mut pending = Pending::default();
    let mut count = 0;
    for entry in entries {
        let mut entry = entry.map_err(ImageError::io("reading a layer"))?;
        count += 1;
        if count > entries_max {
            return Err(ImageError::TooLarge { what: "number of entries", limit: entries_max });
        }
        if !pending.take_extension(&mut entry)? {
            let extensions = std::mem::take(&mut pending);
            unpacker.entry(&mut entry, &extensions)?;
        }
    }
    unpacker.finish()?;
    Ok(count)
}

/// Headers that speak of the entry after them.
#[derive(Debug, Default)]
struct Pending {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Pending {
    fn take_extension<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<bool, ImageError> {
        match entry.header().entry_type() {
            EntryType::GNULongName => self.long_name = Some(zero_terminated(read_extension(entry)?)),
            EntryType::GNULongLink => self.long_link = Some(zero_terminated(read_extension(entry)?)),
            EntryType::XHeader => {
                let bytes = read_extension(entry)?;
                self.pax.extend(parse_pax(&bytes).ok_or_else(|| ImageError::malformed("extended header"))?);
            }
            // Comments of the tool that wrote the archive.
            EntryType::XGlobalHeader => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn number(&self, key: &[u8]) -> Result<Option<u64>, ImageError> {
        let Some(value) = self.pax.get(key) else {
            return Ok(None);
        };
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        Ok(Some(number.ok_or_else(|| ImageError::malformed("number in an extended header"))?))
    }

    fn mtime_s(&self) -> Option<i64> {
        let text = std::str::from_utf8(self.pax.get(b"mtime".as_slice())?).ok()?;
        text.split('.').next()?.parse().ok()
    }

    fn xattrs(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let prefix = b"SCHILY.xattr.";
        let named = self.pax.iter().filter_map(|(key, value)| Some((key.strip_prefix(prefix)?, value)));
        named
            .filter(|(name, value)| {
                // `user.overlay.*` is the overlay's own language: an image must not speak it.
                name.starts_with(b"user.")
                    && !name.starts_with(b"user.overlay.")
                    && name.len() <= 255
                    && !name.contains(&0)
                    && value.len() <= 64 << 10
            })
            .take(XATTRS_MAX)
            .map(|(name, value)| (name.to_vec(), value.clone()))
            .collect()
    }
}

fn read_extension<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<u8>, ImageError> {
    if entry.size() > EXTENSION_BYTES_MAX {
        return Err(ImageError::TooLarge { what: "extended header", limit: EXTENSION_BYTES_MAX });
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(ImageError::io("reading a layer"))?;
    Ok(bytes)
}

fn zero_terminated(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// Records `LENGTH KEY=VALUE\n`, where the value may hold any byte.
fn parse_pax(mut bytes: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
        if length <= space + 1 || length > bytes.len() {
            return None;
        }
        let (record, rest) = bytes.split_at(length);
        let record = record[space + 1..].strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
        bytes = rest;
    }
    Some(records)
}

struct Unpacker<'t> {
    tree: &'t mut Tree,
    /// Folders get owner, mode and time at the end: writing into them changes the time, and a
    /// folder may be closed to its own writer.
    dirs: BTreeMap<EntryName, Metadata>,
    dir_name_bytes: usize,
}

impl Unpacker<'_> {
    fn entry<R: Read>(&mut self, entry: &mut Entry<'_, R>, pending: &Pending) -> Result<(), ImageError> {
        let raw_name = match (pending.pax.get(b"path".as_slice()), &pending.long_name) {
            (Some(name), _) | (None, Some(name)) => name.clone(),
            (None, None) => entry.header().path_bytes().into_owned(),
        };
        let name = EntryName::parse(&raw_name)?;
        if let Some((_, last)) = name.split_last()
            && let Some(hidden) = last.strip_prefix(b".wh.")
        {
            return self.whiteout(&name, hidden, &raw_name);
        }
        let metadata = metadata(entry, pending, &raw_name)?;
        match entry.header().entry_type() {
            EntryType::Directory => {
                self.tree.make_dir(&name)?;
                self.remember_dir(name, metadata)
            }
            EntryType::Regular | EntryType::Continuous => {
                // Old archives mark folders by a slash at the end only.
                if raw_name.ends_with(b"/") {
                    self.tree.make_dir(&name)?;
                    return self.remember_dir(name, metadata);
                }
                let size =
                    entry.header().entry_size().map_err(|_| ImageError::malformed("size of an entry"))?;
                let sparse = pending.pax.keys().any(|key| key.starts_with(b"GNU.sparse."));
                if sparse || pending.number(b"size")?.is_some_and(|pax| pax != size) {
                    return Err(ImageError::Unsupported {
                        what: "sparse files and files above 8 GiB".into(),
                    });
                }
                let written = self.tree.make_file(&name, &metadata, entry)?;
                if written != size {
                    return Err(ImageError::malformed("layer: it ends inside a file"));
                }
                Ok(())
            }
            EntryType::Symlink => {
                let target = link_target(entry, pending)?;
                if target.is_empty() || target.len() > 4095 || target.contains(&0) {
                    return Err(ImageError::hostile(&raw_name, "link without a usable target"));
                }
                self.tree.make_symlink(&name, &target, &metadata)
            }
            EntryType::Link => {
                let target = EntryName::parse(&link_target(entry, pending)?)?;
                self.tree.make_hard_link(&name, &target)
            }
            EntryType::Fifo => self.tree.make_fifo(&name, &metadata),
            // A sandbox gets the devices it may have from its driver.
            EntryType::Char | EntryType::Block => Ok(()),
            EntryType::GNUSparse => Err(ImageError::Unsupported { what: "sparse files".into() }),
            _ => Err(ImageError::hostile(&raw_name, "unknown kind of entry")),
        }
    }

    fn whiteout(&mut self, name: &EntryName, hidden: &[u8], raw_name: &[u8]) -> Result<(), ImageError> {
        match hidden {
            b".wh..opq" => {
                let dir = name.split_last().map(|(dir, _)| dir).unwrap_or_else(EntryName::root);
                self.tree.make_opaque(&dir)
            }
            b"" | b"." | b".." => Err(ImageError::hostile(raw_name, "whiteout of a folder's own names")),
            // Bookkeeping of AUFS, such as `.wh..wh.plnk`.
            hidden if hidden.starts_with(b".wh.") => Ok(()),
            hidden => self.tree.make_whiteout(&name.sibling(hidden)),
        }
    }

    fn remember_dir(&mut self, name: EntryName, metadata: Metadata) -> Result<(), ImageError> {
        self.dir_name_bytes += name.joined().len() + size_of::<(EntryName, Metadata)>();
        if self.dir_name_bytes > DIR_NAME_BYTES_MAX {
            return Err(ImageError::TooLarge { what: "folder names", limit: DIR_NAME_BYTES_MAX as u64 });
        }
        self.dirs.insert(name, metadata);
        Ok(())
    }

    fn finish(mut self) -> Result<(), ImageError> {
        // Deepest first, so that a folder is closed after everything below it is done.
        while let Some((name, mut metadata)) = self.dirs.pop_last() {
            if name.is_root() {
                // The store renames and removes this folder.
                metadata.mode |= 0o700;
            }
            self.tree.finish_dir(&name, &metadata)?;
        }
        Ok(())
    }
}

fn link_target<R: Read>(entry: &Entry<'_, R>, pending: &Pending) -> Result<Vec<u8>, ImageError> {
    match (pending.pax.get(b"linkpath".as_slice()), &pending.long_link) {
        (Some(target), _) | (None, Some(target)) => Ok(target.clone()),
        (None, None) => {
            let target = entry.header().link_name_bytes();
            Ok(target.ok_or_else(|| ImageError::malformed("link without a target"))?.into_owned())
        }
    }
}

fn metadata<R: Read>(
    entry: &Entry<'_, R>,
    pending: &Pending,
    raw_name: &[u8],
) -> Result<Metadata, ImageError> {
    let header = entry.header();
    let old = header.as_old();
    // An empty field means 0 to every other reader.
    let field = |bytes: &[u8], read: std::io::Result<u64>| {
        let is_empty = bytes.iter().all(|byte| matches!(byte, 0 | b' '));
        if is_empty { Ok(0) } else { read.map_err(|_| ImageError::malformed("header of an entry")) }
    };
    let id = |number: u64| {
        u32::try_from(number)
            .ok()
            .filter(|_| number <= ID_MAX)
            .ok_or_else(|| ImageError::hostile(raw_name, "owner outside of 0..65535"))
    };
    let uid = match pending.number(b"uid")? {
        Some(uid) => uid,
        None => field(&old.uid, header.uid())?,
    };
    let gid = match pending.number(b"gid")? {
        Some(gid) => gid,
        None => field(&old.gid, header.gid())?,
    };
    let mtime_s = match pending.mtime_s() {
        Some(seconds) => seconds,
        None => i64::try_from(field(&old.mtime, header.mtime())?).unwrap_or(0),
    };
    Ok(Metadata {
        mode: u32::try_from(field(&old.mode, header.mode().map(u64::from))? & 0o7777).unwrap_or(0),
        uid: id(uid)?,
        gid: id(gid)?,
        // Years 1901 to 2106: what every file system keeps.
        mtime_s: mtime_s.clamp(-(1 << 31), 1 << 32),
        xattrs: pending.xattrs(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_headers_are_parsed_by_length() {
        let check = |bytes: &[u8], expect: Option<Vec<(&[u8], &[u8])>>| {
            let expect = expect.map(|all| all.into_iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect());
            assert_eq!(parse_pax(bytes), expect);
        };
        check(b"", Some(vec![]));
        check(b"10 a=b\nc\n\n", Some(vec![(b"a", b"b\nc\n")]));
        check(b"6 a=b\n6 c=\n\n", Some(vec![(b"a", b"b"), (b"c", b"\n")]));
        check(b"99 a=b\n", None);
        check(b"1 a=b\n", None);
        check(b"x a=b\n", None);
    }
}
