//! Sandboxes of an ordinary user. Run by root these tests start themselves again as one.

use std::fs;

use clamshell_domain::{MountSource, MountSpec, SandboxDriver};
use clamshell_protocol::User;

use crate::sandbox::{Session, again_as_ordinary_user, alive};

#[test]
fn an_ordinary_user_without_subordinate_ids() {
    if rustix::process::geteuid().is_root() {
        return again("an_ordinary_user_without_subordinate_ids", "");
    }
    let session = Session::anywhere();
    let sandbox = session.create();
    assert!(sandbox.degraded.iter().any(|note| note.starts_with("no subordinate ids")), "{sandbox:?}");
    let output = session
        .sh(User::Root, "id -u; echo text > /mnt/workspace/file; cat /mnt/workspace/file; touch /usr/x");
    assert_eq!(output.stdout, "0\ntext\n");
    assert_ne!(output.code, 0);
    session.destroy();
    assert!(!alive(sandbox.guest_pid) && !alive(sandbox.keeper_pid));
}

#[test]
fn an_ordinary_user_with_subordinate_ids() {
    if rustix::process::geteuid().is_root() {
        return again("an_ordinary_user_with_subordinate_ids", "1000:300000000:65536");
    }
    let session = Session::anywhere();
    let sandbox = session.create();
    assert!(sandbox.degraded.iter().any(|note| note.starts_with("sessions share one range")), "{sandbox:?}");
    let output = session
        .sh(User::Agent, "id -u; echo text > ~/file; echo kept > /mnt/workspace/file; stat -c %u ~/file");
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("1000\n1000\n", ""));
    session.sh(User::Agent, "mkdir -p ~/closed/deep; touch ~/closed/deep/file; chmod 0 ~/closed");
    session.destroy();
    assert!(!alive(sandbox.guest_pid) && !alive(sandbox.keeper_pid));
    session.create();
    assert_eq!(session.sh(User::Agent, "cat /mnt/workspace/file").stdout, "kept\n");
    session.destroy();
    let trash = session.folder().join("data/trash");
    assert!(crate::sandbox::until(|| fs::read_dir(&trash).unwrap().next().is_none()));
}

#[test]
fn an_ordinary_user_shows_folders_of_its_own() {
    if rustix::process::geteuid().is_root() {
        for subordinate in ["", "1000:300000000:65536"] {
            again("an_ordinary_user_shows_folders_of_its_own", subordinate);
        }
        return;
    }
    let mut session = Session::anywhere();
    let show = |name: &str, read_only| {
        let folder = session.folder().join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("file"), "theirs\n").unwrap();
        MountSpec { source: MountSource::Folder(folder), target: format!("/mnt/{name}"), read_only }
    };
    session.spec.mounts = vec![show("open", false), show("fixed", true)];
    let sandbox = session.create();
    let output = session.sh(
        User::Root,
        "cat /mnt/open/file /mnt/fixed/file; echo new > /mnt/open/new; touch /mnt/fixed/new || echo refused; stat -c %u /mnt/open",
    );
    assert_eq!(output.stdout, "theirs\ntheirs\nrefused\n0\n", "{}", output.stderr);
    assert_eq!(fs::read_to_string(session.folder().join("open/new")).unwrap(), "new\n");
    let output = session
        .sh(User::Root, "mount -o remount,rw,bind /mnt/fixed; umount /mnt/fixed; touch /mnt/fixed/new");
    assert_ne!(output.code, 0);
    let one_user = sandbox.degraded.iter().any(|note| note.starts_with("no subordinate ids"));
    let is_told = sandbox.degraded.iter().any(|note| note.starts_with("/mnt/open: the server's own files"));
    assert!(one_user || is_told, "{sandbox:?}");
    session.destroy();
    session.spec.mounts[0].source = MountSource::Folder(session.folder().join("nothing"));
    let failed = session.block_on(session.driver.create(&session.spec)).unwrap_err().to_string();
    assert!(failed.contains("/mnt/open: No such file"), "{failed}");
}

/// Starts the test as an ordinary user, with this line in `/etc/subuid`.
fn again(test: &str, subordinate: &str) {
    again_as_ordinary_user(&format!("rootless::{test}"), subordinate, "true");
}
