//! Folders of the machine that sessions share: what works in them, and attacks by way of them.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
};

use clamshell_domain::{CreateSandboxError, IdRange, MountSource, MountSpec, SandboxDriver};
use clamshell_protocol::{Guard, User};
use clamshell_sandbox::{NativeDriver, NativeOptions};

use super::{
    Outcome, limits,
    target::{Facts, Maker, Target},
    vocabulary,
};
use crate::sandbox::Session;

/// Owner of the shared folder on the machine.
const OWNER: u32 = 54_321;

fn mount(source: MountSource, target: &str, read_only: bool) -> MountSpec {
    MountSpec { source, target: target.to_owned(), read_only }
}

/// Folders of the machine to be shared, with bait.
struct Folders {
    folder: tempfile::TempDir,
}

impl Folders {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("canary"), "canary").unwrap();
        for name in ["shared", "fixed"] {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join("theirs"), "theirs").unwrap();
            fs::write(path(name).join("roots"), "roots").unwrap();
            fs::set_permissions(path(name).join("roots"), PermissionsExt::from_mode(0o600)).unwrap();
            symlink(path("canary"), path(name).join("out")).unwrap();
            symlink("../canary", path(name).join("up")).unwrap();
            let node = path(name).join("node");
            let device = rustix::fs::makedev(1, 3);
            let mode = rustix::fs::Mode::from_raw_mode(0o666);
            rustix::fs::mknodat(rustix::fs::CWD, &node, rustix::fs::FileType::CharacterDevice, mode, device)
                .unwrap();
            fs::set_permissions(&node, PermissionsExt::from_mode(0o666)).unwrap();
            fs::copy("/usr/bin/id", path(name).join("id")).unwrap();
            fs::set_permissions(path(name).join("id"), PermissionsExt::from_mode(0o4755)).unwrap();
            for own in [path(name), path(name).join("theirs")] {
                chown(own, Some(OWNER), Some(OWNER)).unwrap();
            }
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn mounts(&self) -> Vec<MountSpec> {
        vec![
            mount(MountSource::Folder(self.path("shared")), "/mnt/shared", false),
            mount(MountSource::Folder(self.path("fixed")), "/mnt/fixed", true),
            mount(MountSource::Workspace, "/mnt/own", false),
        ]
    }

    fn facts(&self) -> Facts {
        let canary = self.path("canary");
        [("CANARY".to_owned(), canary.to_str().unwrap().to_owned())].into()
    }
}

/// What is tried as root and as the agent's user.
const ATTEMPTS: &[(&str, &str)] = &[
    ("write to a file of a read-only folder", "writable('/mnt/fixed/theirs')"),
    ("make a file in a read-only folder", "verdict(sysopen(my $f, '/mnt/fixed/new', O_WRONLY | O_CREAT))"),
    ("remove a file of a read-only folder", "verdict(unlink('/mnt/fixed/theirs'))"),
    ("change the rights of a read-only file", "verdict(chmod(0777, '/mnt/fixed/theirs'))"),
    ("remount", "granted('mount', 'none', '/mnt/fixed', 'none', 0x1020, 0)"),
    ("remount the file system", "granted('mount', 'none', '/mnt/fixed', 'none', 0x20, 0)"),
    (
        "clear the attributes of a mount",
        "my $a = pack('Q4', 0, 7, 0, 0); granted('mount_setattr', -100, '/mnt/fixed', 0, $a, 32)",
    ),
    (
        "change the map of ids",
        "my $a = pack('Q4', 0, 0x100000, 0, 0); granted('mount_setattr', -100, '/mnt/shared', 0, $a, 32)",
    ),
    ("unmount", "granted('umount2', '/mnt/fixed', 2)"),
    ("copy a mount", "granted('open_tree', -100, '/mnt/fixed', 1)"),
    (
        "a mount of its own on top",
        "apart(); granted('mount', '/mnt/shared', '/mnt/fixed', 'none', 0x1000, 0)",
    ),
    ("open a device node", "verdict(opens('/mnt/shared/node', O_WRONLY))"),
    ("open a device node, read-only", "verdict(opens('/mnt/fixed/node', O_RDONLY))"),
    ("make a device node", "granted('mknod', -100, \"/mnt/shared/made-$$\", 020666, 0x103)"),
    ("a file of the machine's root", "readable('/mnt/shared/roots', '/mnt/fixed/roots')"),
    ("write to a file of the machine's root", "writable('/mnt/shared/roots')"),
    ("a link out", "readable('/mnt/shared/out', '/mnt/fixed/out')"),
    ("a link up", "readable('/mnt/shared/up', '/mnt/fixed/up')"),
    ("up from the folder", "readable('/mnt/shared/../canary', \"/mnt/shared/../..$ENV{CANARY}\")"),
    (
        "up from a folder that is held open",
        "chdir('/mnt/shared') or denied($!); readable('../canary', '../../canary', \"../..$ENV{CANARY}\")",
    ),
    (
        "leave by a change of root",
        "chdir('/mnt/shared'); mkdir('d'); call('chroot', 'd') != -1 or denied($!); chdir('../../../..'); \
         readable(\".$ENV{CANARY}\")",
    ),
    (
        "another name in the workspace for a shared file",
        "verdict(link('/mnt/shared/theirs', \"/mnt/workspace/linked-$$\"))",
    ),
    (
        "a file handle",
        "my $h = pack('LlQQ', 8, 1, 2, 0); open(my $d, '<', '/mnt/shared'); reached('open_by_handle_at', fileno($d), $h, 0)",
    ),
    (
        "a set-user-id program of the machine's root",
        "my $o = `/mnt/shared/id -u; /mnt/fixed/id -u`; $> != 0 && $o =~ /^0/m ? escaped($o) : denied($o)",
    ),
    (
        "take over a file of the machine's root",
        "chown($>, $>, '/mnt/shared/roots'); readable('/mnt/shared/roots')",
    ),
];

/// What works, and attacks.
fn shared_folders_hold(test: &str, maker: Maker) {
    if !rustix::process::geteuid().is_root() {
        println!("skipped {test}: needs root");
        return;
    }
    let folders = Folders::new();
    let Some(one) = Target::with_mounts(test, maker, limits(), folders.mounts()) else { return };
    let Some(other) = Target::with_mounts(test, maker, limits(), folders.mounts()) else { return };
    let check = |target: &Target, user, script: &str, expect: &str| {
        let said = target.sh(user, script);
        assert_eq!((said.stdout.trim(), said.code), (expect, 0), "{maker:?}: {script}: {said:?}");
    };
    assert!(one.sandbox.degraded.iter().all(|note| !note.contains("/mnt/")), "{:?}", one.sandbox.degraded);
    // The folder and what its owner has are the agent's, in both sessions.
    for target in [&one, &other] {
        check(target, User::Agent, "stat -c %u:%g /mnt/shared /mnt/shared/theirs", "1000:1000\n1000:1000");
        check(target, User::Agent, "cat /mnt/shared/theirs /mnt/fixed/theirs", "theirstheirs");
    }
    check(&one, User::Agent, "mkdir /mnt/shared/a && echo agent > /mnt/shared/a/file", "");
    check(&one, User::Root, "echo root > /mnt/shared/b && chmod 4755 /mnt/shared/b", "");
    check(
        &other,
        User::Agent,
        "cat /mnt/shared/a/file; stat -c %u /mnt/shared/a/file /mnt/shared/b",
        "agent\n1000\n0",
    );
    check(
        &other,
        User::Root,
        "echo more >> /mnt/shared/b && chown 1000 /mnt/shared/a && cat /mnt/shared/b",
        "root\nmore",
    );
    check(&one, User::Agent, "mv /mnt/shared/a/file /mnt/shared/moved && rmdir /mnt/shared/a", "");
    // On the machine they are the owner's, or nobody's.
    let owner = |name: &str| fs::metadata(folders.path("shared").join(name)).unwrap().uid();
    assert_eq!((owner("moved"), owner("b")), (OWNER, IdRange::SHARED_BASE));
    // The session's own storage under another name.
    check(&one, User::Agent, "echo own > /mnt/own/file && cat /mnt/workspace/file", "own");
    check(&other, User::Agent, "ls /mnt/own", "");

    let mut wrong = Vec::new();
    for (name, script) in ATTEMPTS {
        for user in [User::Root, User::Agent] {
            match Outcome::of(&one.perl(user, &vocabulary::script(script), &folders.facts())) {
                Outcome::Denied(_) => {}
                outcome => wrong.push(format!("{name}, as {user:?}: {outcome:?}")),
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "{maker:?}");
    assert_eq!(fs::read_to_string(folders.path("fixed").join("theirs")).unwrap(), "theirs");
    assert_eq!(fs::read_to_string(folders.path("canary")).unwrap(), "canary");
    assert_eq!(entries(&folders.path("fixed")), ["id", "node", "out", "roots", "theirs", "up"]);
    // Whatever was made, nothing belongs to a user of the machine but the owner, and bait.
    for name in entries(&folders.path("shared")) {
        if !["id", "node", "out", "roots", "up"].contains(&name.as_str()) {
            let owner = fs::symlink_metadata(folders.path("shared").join(&name)).unwrap().uid();
            assert!(owner == OWNER || owner >= IdRange::SHARED_BASE, "{name}: {owner}");
        }
    }
}

fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn shared_folders_hold_with_native() {
    shared_folders_hold("shared_folders_hold_with_native", Maker::Native(Guard::Full));
}

#[test]
fn shared_folders_hold_with_runc() {
    shared_folders_hold("shared_folders_hold_with_runc", Maker::Oci("runc"));
}

#[test]
fn shared_folders_hold_with_crun() {
    shared_folders_hold("shared_folders_hold_with_crun", Maker::Oci("crun"));
}

#[test]
fn shared_folders_hold_with_runsc() {
    shared_folders_hold("shared_folders_hold_with_runsc", Maker::Oci("runsc"));
}

#[test]
fn missing_walls_around_shared_folders_are_noticed() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: needs root");
    }
    let folders = Folders::new();
    let test = "missing_walls_around_shared_folders_are_noticed";
    let maker = Maker::Native(Guard::Off);
    let Some(open) = Target::with_mounts(test, maker, limits(), folders.mounts()) else { return };
    for wanted in ["remount", "a file of the machine's root", "copy a mount", "make a device node", "unmount"]
    {
        let (_, script) = ATTEMPTS.iter().find(|(name, _)| *name == wanted).unwrap();
        let outcome = Outcome::of(&open.perl(User::Root, &vocabulary::script(script), &folders.facts()));
        assert!(matches!(outcome, Outcome::Escaped(_)), "{wanted}: {outcome:?}");
    }
}

#[test]
fn a_folder_that_cannot_be_shown_fails_the_sandbox_with_its_reason() {
    let Some(mut session) = Session::new("a_folder_that_cannot_be_shown_fails") else { return };
    let folders = Folders::new();
    let roots = folders.path("of-root");
    fs::create_dir(&roots).unwrap();
    let nfs = MountSource::Nfs { export: "localhost:/x".to_owned(), address: [127, 0, 0, 1].into() };
    let mut cases = vec![
        (MountSource::Folder(folders.path("nowhere")), "/mnt/a", "No such file"),
        (MountSource::Folder(folders.path("canary")), "/mnt/a", "Not a directory"),
        (MountSource::Folder(roots), "/mnt/a", "belongs to root"),
        (MountSource::Folder(folders.path("shared")), "/etc", "one level below /mnt"),
    ];
    let kinds = fs::read_to_string("/proc/filesystems").unwrap();
    if !kinds.contains("nfs4") {
        cases.push((nfs, "/mnt/a", "no NFS 4 client"));
    }
    for (source, target, word) in cases {
        session.spec.mounts = vec![mount(source, target, false)];
        let driver = NativeDriver::new(NativeOptions::new(session.folder().join("data")));
        match session.block_on(driver.create(&session.spec)) {
            Err(CreateSandboxError::Setup { stage, reason }) => {
                assert_eq!(stage, "file systems", "{reason}");
                assert!(reason.starts_with(target) && reason.contains(word), "{reason}");
            }
            other => panic!("{word}: {other:?}"),
        }
        assert_eq!(session.find(), None);
    }
    // Of root it may be when nobody can change it.
    session.spec.mounts = vec![mount(MountSource::Folder(folders.path("of-root")), "/mnt/a", true)];
    session.create();
    assert_eq!(session.sh(User::Agent, "stat -c %u /mnt/a").stdout, "1000\n");
}
