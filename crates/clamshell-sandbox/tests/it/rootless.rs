//! Sandboxes of an ordinary user. Run by root these tests start themselves again as one.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use clamshell_protocol::User;

use crate::sandbox::{Session, alive};

/// Any user that is not root; need not have an account.
const ORDINARY: &str = "1000";

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

/// Starts the test as an ordinary user, in a mount namespace where `/etc/subuid` has this line.
fn again(test: &str, subordinate: &str) {
    let folder = tempfile::Builder::new().prefix("rootless").tempdir_in("/tmp").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(folder.path().join("ids"), format!("{subordinate}\n")).unwrap();
    let program = folder.path().join("it");
    // Where it was built, an ordinary user may not come.
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let script = format!(
        "for file in subuid subgid; do test -e /etc/$file && mount --bind {ids} /etc/$file || exit 77; done
         TMPDIR={folder} exec setpriv --reuid {ORDINARY} --regid {ORDINARY} --clear-groups \
             {program} --exact rootless::{test} --nocapture",
        ids = folder.path().join("ids").display(),
        folder = folder.path().display(),
        program = program.display(),
    );
    let ran = Command::new("unshare").args(["--mount", "sh", "-c", &script]).output();
    let Ok(ran) = ran else {
        println!("skipped {test}: needs unshare and setpriv");
        return;
    };
    if ran.status.code() == Some(77) || ran.status.code() == Some(127) {
        println!("skipped {test}: {}", String::from_utf8_lossy(&ran.stderr));
        return;
    }
    let said = format!("{}\n{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
}
