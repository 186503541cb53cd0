//! Unpacking a zip that wants to harm: names stay below the folder, sizes are counted as they come and not as they are told.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use zip::{CompressionMethod, ZipArchive, read::ZipFile, result::ZipError};

use crate::image::{
    ImageError,
    oci::{
        name::EntryName,
        tree::{Metadata, Tree},
    },
};

/// Bounds of a zip. The first two are those of AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeLimits {
    /// Bytes of the zip.
    pub zip_bytes_max: u64,
    /// Bytes of all files.
    pub unpacked_bytes_max: u64,
    /// Files, folders and links.
    pub entries_max: u64,
    /// Unpacked bytes for each byte of the zip. Code shrinks to a quarter, a bomb to a thousandth.
    pub ratio_max: u64,
}

impl Default for CodeLimits {
    fn default() -> Self {
        Self {
            zip_bytes_max: 250 << 20,
            unpacked_bytes_max: 750 << 20,
            // `node_modules` of large programs have 60,000.
            entries_max: 200_000,
            ratio_max: 200,
        }
    }
}

/// Small zips may be mostly zeros without harm.
const RATIO_FREE_BYTES: u64 = 1 << 20;
/// Longest target of a link, as everywhere in Linux.
const TARGET_BYTES_MAX: u64 = 4095;
/// Time of files: zips have local times without a zone, and nothing looks at them.
const MTIME_S: i64 = 315_532_800;
const TYPE_MASK: u32 = 0o170_000;
const TYPE_LINK: u32 = 0o120_000;

/// Unpacks a zip into an empty folder.
pub(super) fn unzip(mut file: File, root: &Path, limits: &CodeLimits) -> Result<(), ImageError> {
    let length = file.metadata().map_err(ImageError::io("reading the zip"))?.len();
    // Reading the directory costs memory for each entry, so they are counted before.
    let found = count_entries(&mut file).map_err(ImageError::io("reading the zip"))?;
    let too_many = ImageError::TooLarge { what: "number of files in the zip", limit: limits.entries_max };
    if found > limits.entries_max {
        return Err(too_many);
    }
    file.seek(SeekFrom::Start(0)).map_err(ImageError::io("reading the zip"))?;
    let mut archive = ZipArchive::new(BufReader::with_capacity(64 << 10, file)).map_err(refused)?;
    if archive.len() as u64 > limits.entries_max {
        return Err(too_many);
    }
    let by_ratio = length.saturating_mul(limits.ratio_max).saturating_add(RATIO_FREE_BYTES);
    let mut budget = Budget {
        left: limits.unpacked_bytes_max.min(by_ratio),
        limit: limits.unpacked_bytes_max.min(by_ratio),
    };
    let mut tree = Tree::open(root)?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(refused)?;
        unpack_entry(&mut entry, &mut tree, &mut budget)?;
    }
    Ok(())
}

/// Unpacked bytes that may still come.
struct Budget {
    left: u64,
    limit: u64,
}

impl Budget {
    fn spend(&mut self, bytes: u64) -> Result<(), ImageError> {
        let too_large = ImageError::TooLarge { what: "unpacked size of the zip", limit: self.limit };
        self.left = self.left.checked_sub(bytes).ok_or(too_large)?;
        Ok(())
    }
}

fn unpack_entry<R: Read>(
    entry: &mut ZipFile<'_, R>,
    tree: &mut Tree,
    budget: &mut Budget,
) -> Result<(), ImageError> {
    let raw_name = entry.name_raw().to_vec();
    let name = EntryName::parse(&raw_name)?;
    let mode = entry.unix_mode().unwrap_or(0);
    let metadata = |mode| Metadata { mode, mtime_s: MTIME_S, ..Metadata::default() };
    if raw_name.ends_with(b"/") || name.is_root() {
        tree.make_dir(&name)?;
        tree.finish_dir(&name, &metadata(0o755))?;
        return Ok(());
    }
    if !matches!(entry.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) {
        return Err(ImageError::Unsupported {
            what: "zip entries that are neither stored nor deflated".into(),
        });
    }
    match mode & TYPE_MASK {
        // Made by a system without modes, or an ordinary file.
        0 | 0o100_000 => {
            // What AWS promises: readable for all, executable for all or nobody. Never set-user-id.
            let mode = if mode & 0o111 != 0 { 0o755 } else { 0o644 };
            let mut content = entry.take(budget.left.saturating_add(1));
            let written = tree.make_file(&name, &metadata(mode), &mut content)?;
            budget.spend(written)
        }
        0o040_000 => {
            tree.make_dir(&name)?;
            tree.finish_dir(&name, &metadata(0o755))?;
            Ok(())
        }
        TYPE_LINK => {
            let mut target = Vec::new();
            let read = entry.take(TARGET_BYTES_MAX + 1).read_to_end(&mut target);
            read.map_err(ImageError::io("reading the zip"))?;
            budget.spend(target.len() as u64)?;
            if !stays_inside(&name, &target) {
                return Err(ImageError::hostile(&raw_name, "a link out of the zip"));
            }
            tree.make_symlink(&name, &target, &metadata(0o777))
        }
        _ => Err(ImageError::hostile(&raw_name, "neither a file nor a folder nor a link")),
    }
}

/// Whether a link leads to a name below the root, going by the names alone.
fn stays_inside(name: &EntryName, target: &[u8]) -> bool {
    if target.is_empty() || target.len() as u64 > TARGET_BYTES_MAX || target.contains(&0) || target[0] == b'/'
    {
        return false;
    }
    let mut depth = name.depth().saturating_sub(1);
    for component in target.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => match depth.checked_sub(1) {
                Some(up) => depth = up,
                None => return false,
            },
            _ => depth += 1,
        }
    }
    true
}

/// Marks of directory entries in the file: at least as many as there are entries.
fn count_entries(file: &mut File) -> io::Result<u64> {
    const MARK: &[u8] = b"PK\x01\x02";
    file.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![0; 256 << 10];
    let mut kept = 0;
    let mut count = 0;
    loop {
        let read = match file.read(&mut buffer[kept..]) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if read == 0 {
            return Ok(count);
        }
        let filled = kept + read;
        count += buffer[..filled].windows(MARK.len()).filter(|window| *window == MARK).count() as u64;
        // A mark may lie across two pieces.
        kept = filled.min(MARK.len() - 1);
        buffer.copy_within(filled - kept..filled, 0);
    }
}

fn refused(error: ZipError) -> ImageError {
    match error {
        ZipError::Io(source) => ImageError::io("reading the zip")(source),
        ZipError::UnsupportedArchive(what) => ImageError::Unsupported { what: format!("zip: {what}") },
        _ => ImageError::NotAnImage { reason: "the object is not a zip".to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_judged_by_their_names() {
        let check = |name: &str, target: &str, expect| {
            let parsed = EntryName::parse(name.as_bytes()).unwrap();
            assert_eq!(stays_inside(&parsed, target.as_bytes()), expect, "{name} -> {target}");
        };
        check("a", "b", true);
        check("a/b", "../c", true);
        check("a/b", "../../c", false);
        check("a/b", "c/../../../d", false);
        check("a", "/etc/passwd", false);
        check("a", "", false);
        check("a", "..", false);
        check("a/b/c", "../..", true);
    }
}
