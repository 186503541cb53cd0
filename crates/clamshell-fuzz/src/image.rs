//! Images: nothing outside the store is made, changed or removed, whatever is in an image.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
};

use aws_lc_rs::digest::{SHA256, digest};
use clamshell_sandbox::image::oci::{UnpackLimits, UnpackOptions, unpack_layout_with};
use serde_json::json;
use tar::{EntryType, Header};

/// Bounds that a hostile image of a few kilobytes can reach.
const OPTIONS: UnpackOptions = UnpackOptions {
    limits: UnpackLimits { entries_max: 200, unpacked_bytes_max: 1 << 20 },
    is_durable: false,
};

/// Names and link targets that try to leave, hide or collide.
const NAMES: [&str; 24] = [
    "a",
    "a/b",
    "a/b/c",
    "dir/",
    "dir/file",
    "..",
    "../victim/file",
    "../../victim/file",
    "a/../../../victim/file",
    "/victim/file",
    "./a/./b",
    "",
    ".",
    "/",
    "link",
    "link/file",
    "link/../file",
    ".wh.a",
    "a/.wh.b",
    ".wh..wh..opq",
    ".wh...",
    ".wh.",
    "dir/.wh..",
    "a/.wh.link/x",
];

const KINDS: [EntryType; 12] = [
    EntryType::Regular,
    EntryType::Directory,
    EntryType::Symlink,
    EntryType::Link,
    EntryType::Char,
    EntryType::Block,
    EntryType::Fifo,
    EntryType::XHeader,
    EntryType::GNULongName,
    EntryType::GNULongLink,
    EntryType::XGlobalHeader,
    EntryType::Continuous,
];

/// The bytes are an archive of an image.
pub(super) fn archive(bytes: &[u8]) {
    in_a_world(|world| {
        let source = world.join("image.tar");
        fs::write(&source, bytes).unwrap();
        let _ = unpack_layout_with(&source, None, &world.join("store"), OPTIONS);
    });
}

pub(super) fn archive_seeds() -> Vec<Vec<u8>> {
    let parts = layout(&tar_of(&[0, 0, 0, 8, 1, 2, 4, 0]));
    let mut docker = Vec::new();
    for (name, content) in &parts {
        docker.extend(entry(name.as_bytes(), EntryType::Regular, b"", content));
    }
    docker.resize(docker.len() + 1024, 0);
    vec![docker, tar_of(&[1, 3, 0, 0])]
}

/// The bytes say, four at a time, which entries a layer has; everything around it is right, so that
/// every input gets as far as the unpacking.
pub(super) fn layer(bytes: &[u8]) {
    in_a_world(|world| {
        let source = world.join("image");
        for (name, content) in layout(&tar_of(&bytes[..bytes.len().min(256)])) {
            let path = source.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let _ = unpack_layout_with(&source, None, &world.join("store"), OPTIONS);
    });
}

pub(super) fn layer_seeds() -> Vec<Vec<u8>> {
    vec![
        vec![1, 0, 0, 0, 0, 1, 0, 9],
        // A link that leads out, then a file through it.
        vec![2, 14, 7, 0, 0, 15, 0, 5],
        vec![2, 14, 13, 0, 3, 0, 15, 0, 0, 16, 0, 3],
        // Whiteouts and opaque folders.
        vec![1, 0, 0, 0, 4, 17, 0, 0, 0, 18, 0, 0, 0, 19, 0, 0],
        // A long name before a file.
        vec![8, 7, 0, 40, 0, 0, 0, 3],
    ]
}

/// Runs `unpack` in a folder with a victim beside it, and looks at the victim afterwards.
fn in_a_world(unpack: impl FnOnce(&Path)) {
    // In memory where that is possible: thousands of small worlds are slow on a disk.
    let outer = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let victim = outer.path().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("file"), "untouched").unwrap();
    symlink("file", victim.join("link")).unwrap();
    let world = outer.path().join("world");
    fs::create_dir(&world).unwrap();
    let before = fs::metadata(victim.join("file")).unwrap();

    unpack(&world);

    let after = fs::metadata(victim.join("file")).unwrap();
    let facts = |metadata: &fs::Metadata| {
        (metadata.ino(), metadata.mode(), metadata.uid(), metadata.nlink(), metadata.mtime_nsec())
    };
    assert_eq!(facts(&before), facts(&after));
    assert_eq!(fs::read_to_string(victim.join("file")).unwrap(), "untouched");
    assert_eq!(names(&victim), ["file", "link"]);
    assert_eq!(names(outer.path()), ["victim", "world"]);
    assert!(names(&world).iter().all(|name| ["image", "image.tar", "store"].contains(&name.as_str())));
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A layer out of instructions of four bytes: kind, name, link target, length of content.
fn tar_of(instructions: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    for instruction in instructions.chunks_exact(4) {
        let kind = KINDS[usize::from(instruction[0]) % KINDS.len()];
        let name = NAMES[usize::from(instruction[1]) % NAMES.len()];
        let link = NAMES[usize::from(instruction[2]) % NAMES.len()];
        let length = usize::from(instruction[3]);
        let content = match kind {
            EntryType::XHeader | EntryType::XGlobalHeader => pax(name, link, length),
            EntryType::GNULongName | EntryType::GNULongLink => {
                [link.as_bytes(), &vec![b'n'; length], b"\0"].concat()
            }
            EntryType::Regular | EntryType::Continuous => vec![b'x'; length],
            // Others should have no content; now and then they have.
            _ if length > 250 => vec![b'x'; length],
            _ => Vec::new(),
        };
        tar.extend(entry(name.as_bytes(), kind, link.as_bytes(), &content));
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

fn pax(key: &str, value: &str, length: usize) -> Vec<u8> {
    let key = match length % 4 {
        0 => "path",
        1 => "linkpath",
        2 => "SCHILY.xattr.security.capability",
        _ => key,
    };
    // The stated length of a record is right for most inputs.
    let rest = key.len() + value.len() + 3;
    let stated = (rest..rest + 8).find(|stated| stated - rest == stated.to_string().len());
    format!("{} {key}={value}\n", stated.unwrap_or(length)).into_bytes()
}

/// One entry, with any name: the crate's own builder refuses the bad ones.
fn entry(name: &[u8], kind: EntryType, link: &[u8], content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(name);
    old.linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(kind);
    header.set_mode(0o4755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(u64::try_from(content.len()).unwrap());
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// An OCI layout with one layer, as names and contents.
fn layout(layer: &[u8]) -> Vec<(String, Vec<u8>)> {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let mut parts = vec![("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
    let mut blob = |bytes: Vec<u8>, media_type: &str| {
        let hex: String = digest(&SHA256, &bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let size = bytes.len();
        parts.push((format!("blobs/sha256/{hex}"), bytes));
        json!({ "mediaType": media_type, "digest": format!("sha256:{hex}"), "size": size })
    };
    let layer = blob(layer.to_vec(), "application/vnd.oci.image.layer.v1.tar");
    let config = json!({
        "architecture": architecture, "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
    });
    let config = blob(config.to_string().into_bytes(), "application/vnd.oci.image.config.v1+json");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": [layer],
    });
    let manifest = blob(manifest.to_string().into_bytes(), "application/vnd.oci.image.manifest.v1+json");
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    parts.push(("index.json".to_owned(), index.to_string().into_bytes()));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without this the target would be happy with images that all fail at once.
    #[test]
    fn a_good_layer_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("image.tar");
        fs::write(&source, &archive_seeds()[0]).unwrap();
        let layers = [vec![1, 3, 0, 0, 0, 4, 0, 9], vec![0, 0, 0, 8]];
        for layer in layers {
            let mut tar = Vec::new();
            for (name, content) in layout(&tar_of(&layer)) {
                tar.extend(entry(name.as_bytes(), EntryType::Regular, b"", &content));
            }
            tar.resize(tar.len() + 1024, 0);
            fs::write(&source, &tar).unwrap();
            let image = unpack_layout_with(&source, None, &folder.path().join("store"), OPTIONS).unwrap();
            assert_eq!(image.layers.len(), 1);
            assert!(image.layers[0].read_dir().unwrap().next().is_some());
        }
    }
}
