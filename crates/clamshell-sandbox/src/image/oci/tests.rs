//! Images made by hand: the good ones come out entry by entry, the bad ones leave nothing.

use std::{
    collections::BTreeMap,
    io::Write,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use tar::{EntryType, Header};
use tempfile::TempDir;

use super::{digest::Sha256, *};

const FAST: UnpackOptions = UnpackOptions {
    limits: UnpackLimits { entries_max: 10_000, unpacked_bytes_max: 64 << 20 },
    is_durable: false,
};

/// One entry of a tar, with any name at all: the crate's own builder refuses the bad ones.
fn entry(name: &[u8], kind: EntryType, mode: u32, link: &[u8], content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(name);
    old.linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, content: &str) -> Vec<u8> {
    entry(name.as_bytes(), EntryType::Regular, 0o644, b"", content.as_bytes())
}

fn dir(name: &str, mode: u32) -> Vec<u8> {
    entry(name.as_bytes(), EntryType::Directory, mode, b"", b"")
}

fn symlink(name: &str, target: &str) -> Vec<u8> {
    entry(name.as_bytes(), EntryType::Symlink, 0o777, target.as_bytes(), b"")
}

fn hard_link(name: &str, target: &str) -> Vec<u8> {
    entry(name.as_bytes(), EntryType::Link, 0o644, target.as_bytes(), b"")
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (1..).find(|n: &usize| n - rest.min(*n) == n.to_string().len()).unwrap();
        writeln!(body, "{length} {key}={value}").unwrap();
    }
    entry(b"pax", EntryType::XHeader, 0o644, b"", &body)
}

fn tar_of(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", Sha256::of(bytes).hex())
}

/// Parts of a layout by name.
type Parts = BTreeMap<String, Vec<u8>>;

fn add_blob(parts: &mut Parts, bytes: Vec<u8>) -> serde_json::Value {
    let (digest, size) = (digest_of(&bytes), bytes.len());
    parts.insert(format!("blobs/sha256/{}", &digest[7..]), bytes);
    json!({ "mediaType": "", "digest": digest, "size": size })
}

fn add_image(parts: &mut Parts, layers: &[(Vec<u8>, Vec<u8>)], architecture: &str) -> serde_json::Value {
    let diff_ids: Vec<_> = layers.iter().map(|(tar, _)| digest_of(tar)).collect();
    let config = json!({
        "architecture": architecture, "os": "linux",
        "config": { "Env": ["A=1"], "WorkingDir": "/srv", "User": "7:8", "Cmd": ["sh"], "StopSignal": "SIGINT" },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = add_blob(parts, config.to_string().into_bytes());
    let layers: Vec<_> = layers.iter().map(|(_, packed)| add_blob(parts, packed.clone())).collect();
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
    let mut descriptor = add_blob(parts, manifest.to_string().into_bytes());
    descriptor["platform"] = json!({ "os": "linux", "architecture": architecture });
    descriptor
}

fn image_of(tars: &[Vec<u8>]) -> Parts {
    let mut parts = Parts::new();
    let layers: Vec<_> = tars.iter().map(|tar| (tar.clone(), gzip(tar))).collect();
    let descriptor = add_image(&mut parts, &layers, manifest::host_architecture());
    parts.insert("index.json".into(), json!({ "manifests": [descriptor] }).to_string().into_bytes());
    parts
}

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("store")).unwrap();
        Self { dir }
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn write_layout(&self, parts: &Parts) -> PathBuf {
        let root = self.dir.path().join("image");
        for (name, bytes) in parts {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        root
    }

    fn write_archive(&self, parts: &Parts, gzipped: bool) -> PathBuf {
        let entries: Vec<_> = parts
            .iter()
            .map(|(name, bytes)| entry(name.as_bytes(), EntryType::Regular, 0o644, b"", bytes))
            .collect();
        let bytes = tar_of(&entries);
        let path = self.dir.path().join("image.tar");
        std::fs::write(&path, if gzipped { gzip(&bytes) } else { bytes }).unwrap();
        path
    }

    fn unpack(&self, parts: &Parts) -> Result<UnpackedImage, ImageError> {
        unpack_layout_with(&self.write_layout(parts), None, &self.store(), FAST)
    }

    /// Everything that is not the image: names and lengths.
    fn listing(&self) -> Vec<(PathBuf, u64)> {
        let mut found = Vec::new();
        let mut queue = vec![self.dir.path().to_owned()];
        while let Some(dir) = queue.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                let metadata = entry.metadata().unwrap();
                if entry.path().starts_with(self.dir.path().join("image")) {
                    continue;
                }
                found.push((entry.path(), if metadata.is_file() { metadata.len() } else { 0 }));
                if metadata.is_dir() {
                    queue.push(entry.path());
                }
            }
        }
        found.sort();
        found
    }
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 256];
    let length = rustix::fs::lgetxattr(path, name, &mut buffer[..]).ok()?;
    buffer.truncate(length);
    Some(buffer)
}

fn is_whiteout(path: &Path) -> bool {
    std::fs::symlink_metadata(path)
        .is_ok_and(|metadata| metadata.file_type().is_char_device() && metadata.rdev() == 0)
}

#[test]
fn layers_come_out_as_they_went_in() {
    let place = Place::new();
    let long = format!("deep/{}", "n".repeat(200));
    let bottom = tar_of(&[
        dir("./", 0o755),
        dir("closed", 0o500),
        file("closed/in", "inside"),
        entry(b"su", EntryType::Regular, 0o4755, b"", b"x"),
        symlink("abs", "/etc/passwd"),
        hard_link("su2", "su"),
        hard_link("abs2", "abs"),
        file("missing/parent/file", "made"),
        symlink("inside", "missing"),
        file("inside/parent/other", "through a link that stays"),
        pax(&[
            ("path", &long),
            ("mtime", "5.75"),
            ("SCHILY.xattr.user.color", "red\nblue"),
            ("SCHILY.xattr.user.overlay.redirect", "/etc"),
            ("SCHILY.xattr.security.capability", "x"),
        ]),
        file("short", "long"),
        entry(b"null", EntryType::Char, 0o666, b"", b""),
        file("twice", "first"),
        file("twice", "second"),
    ]);
    let top = tar_of(&[
        file(".wh.su", ""),
        dir("closed", 0o755),
        file("closed/.wh..wh..opq", ""),
        file(".wh..wh.plnk", ""),
    ]);
    let image = place.unpack(&image_of(&[bottom, top])).unwrap();
    let [top, bottom] = image.layers.as_slice() else { panic!("{:?}", image.layers) };
    let read = |name: &str| std::fs::read_to_string(bottom.join(name)).unwrap();
    assert_eq!(read("closed/in"), "inside");
    assert_eq!(bottom.join("closed").metadata().unwrap().mode() & 0o7777, 0o500);
    assert_eq!(bottom.join("closed").metadata().unwrap().mtime(), 1_000_000_000);
    assert_eq!(bottom.join("su").metadata().unwrap().permissions().mode() & 0o7777, 0o4755);
    assert_eq!(bottom.join("su").metadata().unwrap().ino(), bottom.join("su2").metadata().unwrap().ino());
    assert_eq!(std::fs::read_link(bottom.join("abs2")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(read("missing/parent/file"), "made");
    assert_eq!(bottom.join("missing").metadata().unwrap().mode() & 0o7777, 0o755);
    assert_eq!(read("missing/parent/other"), "through a link that stays");
    assert_eq!(read(&long), "long");
    assert_eq!(bottom.join(&long).metadata().unwrap().mtime(), 5);
    assert_eq!(xattr(&bottom.join(&long), "user.overlay.redirect"), None);
    assert_eq!(xattr(&bottom.join(&long), "security.capability"), None);
    assert_eq!(xattr(&bottom.join(&long), "user.color").as_deref(), Some(b"red\nblue".as_slice()));
    assert!(!bottom.join("null").exists());
    assert_eq!(read("twice"), "second");
    assert!(is_whiteout(&top.join("su")));
    assert_eq!(xattr(&top.join("closed"), "user.overlay.opaque").as_deref(), Some(b"y".as_slice()));
    if rustix::process::geteuid().is_root() {
        assert_eq!(xattr(&top.join("closed"), "trusted.overlay.opaque").as_deref(), Some(b"y".as_slice()));
    }
    assert!(!top.join(".wh..wh.plnk").exists());
    assert_eq!(
        image.config,
        ImageConfig {
            env: vec![("A".into(), "1".into())],
            working_dir: Some("/srv".into()),
            user: Some("7:8".into()),
            entrypoint: vec![],
            cmd: vec!["sh".into()],
            stop_signal: Some(2),
            exposed_ports: vec![],
        }
    );
}

#[test]
fn a_whiteout_hides_what_is_below_and_nothing_of_its_own_layer() {
    let place = Place::new();
    let tar = tar_of(&[
        file("kept", "own"),
        file(".wh.kept", ""),
        dir("before", 0o755),
        file("before/x", "own"),
        file(".wh.before", ""),
        file(".wh.after", ""),
        dir("after", 0o755),
        file("after/x", "own"),
    ]);
    let image = place.unpack(&image_of(&[tar])).unwrap();
    let layer = &image.layers[0];
    assert!(layer.join("kept").is_file());
    for name in ["before", "after"] {
        assert!(layer.join(name).join("x").is_file());
        assert_eq!(xattr(&layer.join(name), "user.overlay.opaque").as_deref(), Some(b"y".as_slice()));
    }
}

#[test]
fn attacks_leave_nothing() {
    let check = |what: &str, entries: &[Vec<u8>]| {
        let place = Place::new();
        let secret = place.dir.path().join("secret");
        std::fs::write(&secret, "untouched").unwrap();
        drop(place.unpack(&Parts::new()));
        let before = place.listing();
        let error = place.unpack(&image_of(&[tar_of(entries)])).expect_err(what);
        assert!(matches!(error, ImageError::Hostile { .. }), "{what}: {error:?}");
        assert_eq!(place.listing(), before, "{what}");
        assert_eq!(std::fs::read_to_string(secret).unwrap(), "untouched");
    };
    check("dotdot", &[file("../secret", "x")]);
    check("dotdot inside", &[file("a/../../secret", "x")]);
    check("absolute", &[file("/tmp/clamshell-escape", "x")]);
    check("linked parent", &[symlink("a", "../../.."), file("a/secret", "x")]);
    check("absolute linked parent", &[symlink("a", "/tmp"), file("a/clamshell-escape", "x")]);
    check("dangling linked parent", &[symlink("a", "nowhere"), file("a/b", "x")]);
    check("looping parent", &[symlink("a", "b"), symlink("b", "a"), file("a/b", "x")]);
    check("folder through a link", &[symlink("a", "../.."), dir("a/new", 0o777)]);
    check(
        "mode of a folder behind a link",
        &[dir("a/b", 0o755), symlink("a", "../.."), dir("a/store", 0o777)],
    );
    check("hard link out", &[hard_link("a", "../../../secret")]);
    check("absolute hard link", &[hard_link("a", "/etc/passwd")]);
    check("hard link through a link", &[symlink("l", "../../.."), hard_link("a", "l/secret")]);
    check("hard link to nothing", &[hard_link("a", "b")]);
    check("hard link to itself", &[file("a", "x"), hard_link("a", "a")]);
    check("hard link to a whiteout", &[file(".wh.a", ""), hard_link("b", "a")]);
    check("hard link to a folder", &[dir("a", 0o755), hard_link("b", "a")]);
    check("whiteout of ..", &[file(".wh...", "")]);
    check("whiteout of .", &[file("a/.wh..", "")]);
    check("whiteout without a name", &[file(".wh.", "")]);
    check("whiteout behind a link", &[symlink("a", "../../.."), file("a/.wh.secret", "")]);
    check("opaque behind a link", &[symlink("a", "../.."), file("a/b/.wh..wh..opq", "")]);
    check("file as parent", &[file("a", "x"), file("a/b", "x")]);
    check("root as file", &[file("./", "x"), entry(b".", EntryType::Symlink, 0o777, b"/", b"")]);
    check("zero byte", &[pax(&[("path", "a\0b")]), file("a", "x")]);
    check("long pax name up", &[pax(&[("path", "../../x")]), file("a", "x")]);
    check("owner above the range", &[pax(&[("uid", "70000")]), file("a", "x")]);
}

#[test]
fn a_link_in_place_of_a_file_is_replaced_and_not_followed() {
    let place = Place::new();
    let secret = place.dir.path().join("secret");
    std::fs::write(&secret, "untouched").unwrap();
    let link = entry(b"a", EntryType::Symlink, 0o777, secret.as_os_str().as_bytes(), b"");
    let tar = tar_of(&[link, file("a", "x"), dir("d", 0o755), file("d/f", "x"), symlink("d", "/")]);
    let image = place.unpack(&image_of(&[tar])).unwrap();
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "untouched");
    assert!(image.layers[0].join("a").symlink_metadata().unwrap().is_file());
    assert!(image.layers[0].join("d").symlink_metadata().unwrap().is_symlink());
}

#[test]
fn forged_digests_are_found() {
    let good = tar_of(&[file("a", "good")]);
    let forge = |parts: &mut Parts, from: &[u8], to: &[u8]| {
        let name = format!("blobs/sha256/{}", Sha256::of(from).hex());
        assert!(parts.insert(name, to.to_vec()).is_some());
    };
    let check = |parts: &Parts| {
        let place = Place::new();
        let error = place.unpack(parts).unwrap_err();
        assert!(matches!(error, ImageError::Digest { .. }), "{error:?}");
        assert_eq!(std::fs::read_dir(place.store().join("layers")).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(place.store().join("tmp")).unwrap().count(), 0);
    };
    let mut parts = image_of(std::slice::from_ref(&good));
    forge(&mut parts, &gzip(&good), &gzip(&tar_of(&[file("a", "evil")])));
    check(&parts);

    // Right when packed, other than the configuration says when plain.
    let mut parts = Parts::new();
    let layer = (good, gzip(&tar_of(&[file("a", "evil")])));
    let descriptor = add_image(&mut parts, &[layer], manifest::host_architecture());
    parts.insert("index.json".into(), json!({ "manifests": [descriptor] }).to_string().into_bytes());
    check(&parts);

    let mut parts = image_of(&[tar_of(&[])]);
    let manifest = serde_json::from_slice::<serde_json::Value>(&parts["index.json"]).unwrap();
    let digest = manifest["manifests"][0]["digest"].as_str().unwrap();
    parts.insert(format!("blobs/sha256/{}", &digest[7..]), b"{}".to_vec());
    check(&parts);
}

#[test]
fn bombs_stop_at_the_limit() {
    let check = |tar: Vec<u8>| {
        let place = Place::new();
        let limits = UnpackLimits { entries_max: 50, unpacked_bytes_max: 4 << 20 };
        let layout = place.write_layout(&image_of(&[tar]));
        let options = UnpackOptions { limits, is_durable: false };
        let error = unpack_layout_with(&layout, None, &place.store(), options).unwrap_err();
        assert!(matches!(error, ImageError::TooLarge { .. }), "{error:?}");
        assert_eq!(std::fs::read_dir(place.store().join("layers")).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(place.store().join("tmp")).unwrap().count(), 0);
    };
    check(tar_of(&[entry(b"zeros", EntryType::Regular, 0o644, b"", &vec![0; 8 << 20])]));
    check([tar_of(&[file("a", "x")]), vec![0; 8 << 20]].concat());
    check(tar_of(&vec![file("a", "x"); 51]));
    check(tar_of(&[entry(b"x", EntryType::GNULongName, 0o644, b"", &vec![b'a'; 3 << 20]), file("a", "x")]));
    check(tar_of(&[entry(b"x", EntryType::XHeader, 0o644, b"", &vec![b'1'; 3 << 20]), file("a", "x")]));
}

#[test]
fn archives_hold_the_same_image() {
    let parts = image_of(&[tar_of(&[file("a", "x")])]);
    let place = Place::new();
    let expect = place.unpack(&parts).unwrap();
    for gzipped in [false, true] {
        let archive = place.write_archive(&parts, gzipped);
        assert_eq!(unpack_layout_with(&archive, None, &place.store(), FAST).unwrap(), expect);
    }
    let fresh = Place::new();
    let archive = fresh.write_archive(&parts, true);
    let image = unpack_layout_with(&archive, None, &fresh.store(), FAST).unwrap();
    assert_eq!(std::fs::read_to_string(image.layers[0].join("a")).unwrap(), "x");
}

#[test]
fn docker_save_archives_are_taken() {
    let tar = tar_of(&[file("a", "docker")]);
    let config =
        json!({ "config": { "Entrypoint": ["/bin/sh"] }, "rootfs": { "diff_ids": [digest_of(&tar)] } });
    let config = config.to_string().into_bytes();
    let config_name = format!("{}.json", Sha256::of(&config).hex());
    let manifest = json!([{ "Config": config_name, "RepoTags": ["agent:1"], "Layers": ["abc/layer.tar"] }]);
    let mut parts = Parts::new();
    parts.insert(config_name, config);
    parts.insert("manifest.json".into(), manifest.to_string().into_bytes());
    parts.insert("def/layer.tar".into(), tar);
    let place = Place::new();
    let archive = place.write_archive(&parts, false);
    // The layer is a link to another one, as `docker save` writes shared layers.
    let mut bytes = std::fs::read(&archive).unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes.extend(tar_of(&[symlink("abc/layer.tar", "../def/layer.tar")]));
    std::fs::write(&archive, bytes).unwrap();
    let image = unpack_layout_with(&archive, Some("agent:1"), &place.store(), FAST).unwrap();
    assert_eq!(std::fs::read_to_string(image.layers[0].join("a")).unwrap(), "docker");
    assert_eq!(image.config.entrypoint, ["/bin/sh"]);
    let error = unpack_layout_with(&archive, Some("agent:2"), &place.store(), FAST).unwrap_err();
    assert_eq!(error.to_string(), "no image named `agent:2`, there are: agent:1");
}

#[test]
fn images_are_chosen_by_name_and_platform() {
    let mut parts = Parts::new();
    let layer = |text: &str| {
        let tar = tar_of(&[file("a", text)]);
        (tar.clone(), tar)
    };
    let other = if manifest::host_architecture() == "amd64" { "arm64" } else { "amd64" };
    let foreign = add_image(&mut parts, &[layer("foreign")], other);
    let host = add_image(&mut parts, &[layer("host")], manifest::host_architecture());
    let both = json!({ "manifests": [foreign.clone(), host] }).to_string().into_bytes();
    let mut one = add_blob(&mut parts, both);
    one["annotations"] = json!({ "org.opencontainers.image.ref.name": "one" });
    let mut two = add_image(&mut parts, &[layer("two")], manifest::host_architecture());
    two["annotations"] = json!({ "org.opencontainers.image.ref.name": "two" });
    let mut three = foreign;
    three["annotations"] = json!({ "org.opencontainers.image.ref.name": "three" });
    parts.insert("index.json".into(), json!({ "manifests": [one, two, three] }).to_string().into_bytes());
    let place = Place::new();
    let layout = place.write_layout(&parts);
    let content = |reference| {
        let image = unpack_layout_with(&layout, reference, &place.store(), FAST)?;
        Ok(std::fs::read_to_string(image.layers[0].join("a")).unwrap())
    };
    assert_eq!(content(Some("one")).unwrap(), "host");
    assert_eq!(content(Some("two")).unwrap(), "two");
    let error: Result<String, ImageError> = content(Some("three"));
    assert!(matches!(error, Err(ImageError::NoSuchPlatform { .. })), "{error:?}");
    assert!(matches!(content(Some("four")), Err(ImageError::NoSuchReference { .. })));
}

#[test]
fn layers_are_shared_and_never_twice_in_an_image() {
    let place = Place::new();
    let (a, b) = (tar_of(&[file("a", "a")]), tar_of(&[file("b", "b")]));
    let first = place.unpack(&image_of(&[a.clone(), b.clone(), a.clone()])).unwrap();
    let inode = first.layers[0].metadata().unwrap().ino();
    assert_eq!(first.layers.len(), 2);
    // What a crash left behind is in nobody's way.
    std::fs::create_dir_all(place.store().join("tmp").join("left/over")).unwrap();
    let second = place.unpack(&image_of(&[b, a, tar_of(&[file("c", "c")])])).unwrap();
    assert_eq!(second.layers[1].metadata().unwrap().ino(), inode);
    assert_eq!(second.layers[2], first.layers[1]);
    assert_eq!(std::fs::read_dir(place.store().join("tmp")).unwrap().count(), 0);
}

#[test]
fn zstd_is_refused_by_name() {
    let tar = tar_of(&[file("a", "a")]);
    let mut parts = Parts::new();
    let layer = (tar, vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0]);
    let descriptor = add_image(&mut parts, &[layer], manifest::host_architecture());
    parts.insert("index.json".into(), json!({ "manifests": [descriptor] }).to_string().into_bytes());
    let error = Place::new().unpack(&parts).unwrap_err();
    assert!(error.to_string().contains("zstd"), "{error}");
}

#[test]
fn members_of_several_gzip_streams_are_one_layer() {
    let tar = tar_of(&[file("a", "first"), file("b", "second")]);
    let (front, back) = tar.split_at(700);
    let packed = [gzip(front), gzip(back)].concat();
    let mut parts = Parts::new();
    let descriptor = add_image(&mut parts, &[(tar.clone(), packed)], manifest::host_architecture());
    parts.insert("index.json".into(), json!({ "manifests": [descriptor] }).to_string().into_bytes());
    let place = Place::new();
    let image = place.unpack(&parts).unwrap();
    assert_eq!(std::fs::read_to_string(image.layers[0].join("b")).unwrap(), "second");
}

/// Small generator (xorshift), so that a failure names its seed.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below as u64).unwrap()
    }
}

#[test]
fn no_tar_writes_outside_of_its_layer() {
    let names = [
        "a",
        "a/b",
        "a/b/c",
        "b",
        "../x",
        "/x",
        "a/../../x",
        ".wh.a",
        "a/.wh..wh..opq",
        ".wh...",
        "./",
        "c/d",
    ];
    let links = ["a", "b", "..", "../..", "/", "/tmp", "a/b", "../../secret", "."];
    let kinds = [
        EntryType::Regular,
        EntryType::Directory,
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Fifo,
        EntryType::GNULongName,
        EntryType::XHeader,
        EntryType::Block,
        EntryType::GNUSparse,
    ];
    let outer = tempfile::tempdir().unwrap();
    std::fs::write(outer.path().join("secret"), "untouched").unwrap();
    for seed in 1..400_u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut bytes = Vec::new();
        for _ in 0..random.next(12) + 1 {
            let (name, link) = (names[random.next(names.len())], links[random.next(links.len())]);
            let kind = kinds[random.next(kinds.len())];
            let content = vec![b'x'; if kind == EntryType::Regular { random.next(700) } else { 0 }];
            bytes.extend(entry(name.as_bytes(), kind, 0o777, link.as_bytes(), &content));
        }
        // Half of the streams are also damaged; a wrong checksum ends them early.
        if seed % 2 == 0 {
            let at = random.next(bytes.len());
            bytes[at] ^= 1 << random.next(8);
        }
        let layer = outer.path().join("one/two/layer");
        std::fs::create_dir_all(&layer).unwrap();
        let mut tree = Tree::open(&layer).unwrap();
        drop(layer::unpack_tar(&mut bytes.as_slice(), &mut tree, 1000));
        let names_in = |dir: &Path| {
            let mut names: Vec<_> =
                std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names_in(outer.path()), ["one", "secret"], "seed {seed}");
        assert_eq!(names_in(&outer.path().join("one")), ["two"], "seed {seed}");
        assert_eq!(names_in(&outer.path().join("one/two")), ["layer"], "seed {seed}");
        assert_eq!(std::fs::read_to_string(outer.path().join("secret")).unwrap(), "untouched", "seed {seed}");
        assert_ne!(outer.path().join("one").metadata().unwrap().mode() & 0o777, 0o777, "seed {seed}");
        std::fs::remove_dir_all(outer.path().join("one")).unwrap();
    }
}
