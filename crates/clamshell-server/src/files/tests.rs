//! Workspaces of somebody who means harm.

use std::{
    ffi::OsString,
    fs,
    io::Read,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{PermissionsExt, symlink},
        net::UnixListener,
    },
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::fs::{CWD, FileType, Mode, mkfifoat, mknodat};
use tempfile::TempDir;

use super::*;

const SECRET: &str = "not for the session";

/// A session's folder, with something beside it that is none of its business.
fn session() -> (TempDir, Workspace) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("workspace/sub/deep")).unwrap();
    fs::write(folder.path().join("secret"), SECRET).unwrap();
    fs::write(folder.path().join("workspace/sub/file"), "content").unwrap();
    let workspace = Workspace::open(folder.path()).unwrap();
    (folder, workspace)
}

fn path(text: &str) -> FilePath {
    FilePath::parse(text.as_bytes()).unwrap()
}

fn read(workspace: &Workspace, text: &str) -> Result<String, FileError> {
    let mut content = String::new();
    workspace.read(&path(text))?.0.take(1 << 20).read_to_string(&mut content)?;
    Ok(content)
}

fn names(workspace: &Workspace, text: &str) -> Vec<String> {
    let listing = workspace.list(&path(text)).unwrap();
    listing.entries.iter().map(|entry| format!("{} {}", entry.kind.name(), shown(&entry.name))).collect()
}

fn put(folder: &Path, workspace: &Workspace, text: &str, content: &[u8]) -> Result<Entry, FileError> {
    let mut staged = Staged::make(folder)?;
    staged.append(content)?;
    workspace.put(staged, &path(text))
}

/// Names of what lies in a session's folder: nothing staged stays.
fn beside(folder: &Path) -> Vec<OsString> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

#[test]
fn nothing_leads_out_of_a_workspace() {
    let (folder, workspace) = session();
    let inside = folder.path().join("workspace");
    symlink("/etc/passwd", inside.join("absolute")).unwrap();
    symlink("../secret", inside.join("relative")).unwrap();
    symlink("..", inside.join("up")).unwrap();
    symlink("/", inside.join("root")).unwrap();
    symlink("/proc/self/root", inside.join("magic")).unwrap();
    symlink("/proc/self/fd/0", inside.join("descriptor")).unwrap();
    symlink("sub", inside.join("harmless")).unwrap();
    symlink("loop", inside.join("loop")).unwrap();
    symlink("/nowhere", inside.join("dangling")).unwrap();
    let links = [
        "absolute",
        "relative",
        "up",
        "up/secret",
        "root",
        "root/etc/passwd",
        "magic",
        "magic/etc/passwd",
        "descriptor",
        "harmless",
        "harmless/file",
        "loop",
        "loop/x",
        "dangling",
    ];
    for link in links {
        let refusals = [read(&workspace, link).unwrap_err(), workspace.list(&path(link)).unwrap_err()];
        for refusal in refusals {
            // The last part of a path may be a link: it is none of what is asked for.
            let right = matches!(refusal, FileError::Link | FileError::NotAFile | FileError::NotAFolder);
            assert!(right, "{link}: {refusal:?}");
        }
    }
    for below in ["up/new", "root/tmp/clamshell-test-new", "harmless/new", "magic/tmp/clamshell-test-new"] {
        assert!(matches!(
            put(folder.path(), &workspace, below, b"x"),
            Err(FileError::Link | FileError::NotAFolder)
        ));
        let made = workspace.make_folder(folder.path(), &path(below));
        assert!(matches!(made, Err(FileError::Link | FileError::NotAFolder)), "{made:?}");
        assert!(workspace.rename(&path("sub/file"), &path(below)).is_err());
        assert!(workspace.rename(&path(below), &path("taken")).is_err());
    }
    assert!(workspace.remove(&path("up/secret")).is_err());
    assert_eq!(fs::read_to_string(folder.path().join("secret")).unwrap(), SECRET);
    assert_eq!(beside(folder.path()), ["secret", "workspace"]);
    assert_eq!(names(&workspace, "sub"), ["directory deep", "file file"]);
}

/// Listed as what they are, replaced and removed themselves, never what they point to.
#[test]
fn links_are_things_of_their_own() {
    let (folder, workspace) = session();
    let inside = folder.path().join("workspace");
    symlink("../secret", inside.join("link")).unwrap();
    assert_eq!(names(&workspace, ""), ["symlink link", "directory sub"]);
    workspace.rename(&path("link"), &path("sub/link")).unwrap();
    put(folder.path(), &workspace, "sub/link", b"mine").unwrap();
    assert_eq!(read(&workspace, "sub/link").unwrap(), "mine");
    symlink("../secret", inside.join("again")).unwrap();
    workspace.remove(&path("again")).unwrap();
    assert_eq!(fs::read_to_string(folder.path().join("secret")).unwrap(), SECRET);
}

/// A folder becomes a link to the machine's between two steps, again and again.
#[test]
fn a_folder_that_becomes_a_link_shows_nothing() {
    let (folder, workspace) = session();
    let inside = folder.path().join("workspace");
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), SECRET).unwrap();
    symlink("../outside", inside.join("link")).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let swap = |from: &str, to: &str| {
                let flags = RenameFlags::EXCHANGE;
                renameat_with(CWD, inside.join(from), CWD, inside.join(to), flags).unwrap();
            };
            while !done.load(Ordering::Relaxed) {
                swap("sub", "link");
            }
        });
        for turn in 0..2000 {
            if let Ok(content) = read(&workspace, "sub/file") {
                assert_eq!(content, "content");
            }
            if let Ok(listing) = workspace.list(&path("sub")) {
                assert!(listing.entries.iter().any(|entry| entry.kind == Kind::Folder), "listed outside");
            }
            let _ = put(folder.path(), &workspace, &format!("sub/new{}", turn % 7), b"x");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(beside(&outside), ["file"]);
    assert_eq!(beside(folder.path()), ["outside", "secret", "workspace"]);
}

#[test]
fn only_regular_files_are_opened_and_nothing_blocks() {
    let (folder, workspace) = session();
    let inside = folder.path().join("workspace");
    mkfifoat(CWD, inside.join("pipe"), Mode::RWXU).unwrap();
    let _socket = UnixListener::bind(inside.join("socket")).unwrap();
    let mut other = vec!["pipe", "socket", "sub", ""];
    // Sandboxes cannot make devices, and who runs the tests often cannot either.
    if mknodat(CWD, inside.join("device"), FileType::CharacterDevice, Mode::RWXU, 0x0105).is_ok() {
        other.push("device");
    }
    for name in other {
        assert!(matches!(read(&workspace, name), Err(FileError::NotAFile)), "{name}");
    }
    assert!(matches!(workspace.list(&path("pipe")), Err(FileError::NotAFolder)));
    assert!(names(&workspace, "").contains(&"other pipe".to_owned()));
    assert!(matches!(read(&workspace, "sub/file/x"), Err(FileError::NotAFolder)));
    assert!(matches!(read(&workspace, "none"), Err(FileError::NotFound)));
    assert!(matches!(read(&workspace, &"x".repeat(300)), Err(FileError::Path(_))));
    workspace.remove(&path("pipe")).unwrap();
    workspace.remove(&path("socket")).unwrap();
}

#[test]
fn every_name_that_linux_takes_is_listed_and_can_be_opened() {
    let (folder, workspace) = session();
    let inside = folder.path().join("workspace/sub/deep");
    let odd: [&[u8]; 6] =
        [b"new\nline", b"quote\"'`", b"\xff\xfe", b"-rf *", b"\x1b[31m", "\u{202e}txt".as_bytes()];
    for name in odd {
        fs::write(inside.join(OsStr::from_bytes(name)), name).unwrap();
    }
    let listing = workspace.list(&path("sub/deep")).unwrap();
    assert_eq!(listing.entries.len(), odd.len());
    for entry in listing.entries {
        let (mut file, again) = workspace.read(&path("sub/deep").join(&entry.name)).unwrap();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        assert_eq!((content, again), (entry.name.clone(), entry));
    }
    let name = OsString::from_vec(b"\xff\xfe".to_vec());
    let odd = path("sub/deep").join(name.as_bytes());
    workspace.rename(&odd, &path("plain")).unwrap();
    assert_eq!(workspace.read(&path("plain")).unwrap().1.bytes, 2);
}

#[test]
fn a_huge_folder_is_told_in_part() {
    let (folder, workspace) = session();
    let inside = folder.path().join("workspace/sub/deep");
    for number in 0..ENTRIES_MAX + 5 {
        fs::hard_link(folder.path().join("workspace/sub/file"), inside.join(format!("{number}"))).unwrap();
    }
    let listing = workspace.list(&path("sub/deep")).unwrap();
    assert_eq!((listing.entries.len(), listing.truncated), (ENTRIES_MAX, true));
}

#[test]
fn what_is_put_keeps_permissions_and_loses_rights() {
    let (folder, workspace) = session();
    let file = folder.path().join("workspace/sub/file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o6755)).unwrap();
    let entry = put(folder.path(), &workspace, "/sub/file", b"new").unwrap();
    assert_eq!((entry.mode, entry.bytes, entry.kind), (0o755, 3, Kind::File));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o755);
    let entry = put(folder.path(), &workspace, "fresh", b"").unwrap();
    assert_eq!((entry.mode, entry.bytes, entry.name.as_slice()), (0o644, 0, &b"fresh"[..]));
    assert!(matches!(put(folder.path(), &workspace, "sub", b"x"), Err(FileError::NotAFile)));
    assert!(matches!(put(folder.path(), &workspace, "", b"x"), Err(FileError::Path(_))));
    assert!(matches!(put(folder.path(), &workspace, "none/x", b"x"), Err(FileError::NotFound)));
    assert_eq!(beside(folder.path()), ["secret", "workspace"]);
}

#[test]
fn folders_are_made_moved_and_removed() {
    let (folder, workspace) = session();
    let entry = workspace.make_folder(folder.path(), &path("new")).unwrap();
    assert_eq!((entry.kind, entry.mode), (Kind::Folder, 0o755));
    let again = [path("new"), path("sub/file"), path("")];
    for taken in again {
        assert!(matches!(workspace.make_folder(folder.path(), &taken), Err(FileError::Exists)));
    }
    assert!(matches!(workspace.rename(&path("sub"), &path("new")), Err(FileError::Exists)));
    workspace.rename(&path("sub"), &path("new/sub")).unwrap();
    assert!(workspace.rename(&path("new"), &path("new/sub/inside")).is_err());
    assert!(matches!(workspace.remove(&path("new/sub")), Err(FileError::NotEmpty)));
    for gone in ["new/sub/file", "new/sub/deep", "new/sub", "new"] {
        workspace.remove(&path(gone)).unwrap();
    }
    assert!(matches!(workspace.remove(&path("new")), Err(FileError::NotFound)));
    assert!(matches!(workspace.remove(&path("")), Err(FileError::Path(_))));
    assert!(names(&workspace, "").is_empty());
    assert_eq!(beside(folder.path()), ["secret", "workspace"]);
}

#[test]
fn new_files_belong_to_the_owner_of_the_workspace() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("workspace");
    fs::create_dir(&root).unwrap();
    // Only root can give files away.
    if std::os::unix::fs::chown(&root, Some(268_436_456), Some(268_436_456)).is_err() {
        return;
    }
    let workspace = Workspace::open(folder.path()).unwrap();
    put(folder.path(), &workspace, "file", b"x").unwrap();
    workspace.make_folder(folder.path(), &path("folder")).unwrap();
    for name in ["file", "folder"] {
        let made = fs::metadata(root.join(name)).unwrap();
        assert_eq!((made.uid(), made.gid()), (268_436_456, 268_436_456), "{name}");
    }
}

#[tokio::test]
async fn uploads_share_the_room_that_there_is() {
    let (folder, _) = session();
    let uploads = Uploads::default();
    let used = crate::session::tree::measure(&folder.path().join("workspace"), 1000).unwrap().bytes;
    let limit = used + 1000;
    let reserve = async |length| {
        let permit = uploads.turn().await.unwrap();
        uploads.reserve(folder.path(), length, limit, permit)
    };
    let first = reserve(Some(600)).await.unwrap();
    let refused = reserve(Some(401)).await.unwrap_err();
    assert!(matches!(refused, FileError::NoRoom { left: 400, .. }), "{refused:?}");
    let second = reserve(None).await.unwrap();
    assert_eq!(second.bytes, 400);
    assert!(matches!(second.exceeded(), FileError::NoRoom { left: 400, .. }));
    drop((first, second));
    assert_eq!(reserve(Some(1000)).await.unwrap().bytes, 1000);
    assert!(matches!(reserve(Some((1 << 30) + 1)).await, Err(FileError::TooLong { .. })));
}

#[test]
fn what_a_killed_server_staged_goes_with_the_next_start() {
    let (folder, workspace) = session();
    let sessions = folder.path().parent().unwrap();
    std::mem::forget(Staged::make(folder.path()).unwrap());
    std::mem::forget(staged::StagedFolder::make(folder.path()).unwrap());
    assert_eq!(beside(folder.path()).len(), 4);
    let own = tempfile::tempdir_in(sessions).unwrap();
    fs::rename(folder.path(), own.path().join("session")).unwrap();
    remove_leftovers(own.path());
    assert_eq!(beside(&own.path().join("session")), ["secret", "workspace"]);
    assert_eq!(names(&workspace, "sub"), ["directory deep", "file file"]);
}
