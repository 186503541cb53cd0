//! Walls of an ordinary user's sandboxes, where root inside is that user outside. Run by root these tests start
//! themselves again as one.

use std::fs;

use clamshell_protocol::{Guard, User};

use super::target::Maker;
use crate::sandbox::{Session, again_as_ordinary_user};

#[test]
fn nothing_escapes_without_subordinate_ids() {
    if rustix::process::geteuid().is_root() {
        return again("nothing_escapes_without_subordinate_ids", "");
    }
    super::nothing_escapes("nothing_escapes_without_subordinate_ids", Maker::Native(Guard::Full));
}

#[test]
fn nothing_escapes_with_subordinate_ids() {
    if rustix::process::geteuid().is_root() {
        return again("nothing_escapes_with_subordinate_ids", "1000:310000000:65536");
    }
    super::nothing_escapes("nothing_escapes_with_subordinate_ids", Maker::Native(Guard::Full));
}

/// Below `/opt`, which the host image shows, lies a file system that the user may write to.
#[test]
fn mounts_below_what_is_shown_are_read_only_too() {
    if rustix::process::geteuid().is_root() {
        return again("mounts_below_what_is_shown_are_read_only_too", "");
    }
    if !std::path::Path::new("/opt/below/mine").exists() {
        println!("skipped: needs root to prepare it");
        return;
    }
    fs::write("/opt/below/mine", "mine").unwrap();
    let session = Session::anywhere();
    session.create();
    for script in ["touch /opt/below/new", "echo theirs > /opt/below/mine", "chmod 777 /opt/below/mine"] {
        let output = session.sh(User::Root, script);
        assert_ne!(output.code, 0, "{script}");
    }
    // Shown or not, it is what it was.
    assert_eq!(fs::read_to_string("/opt/below/mine").unwrap(), "mine");
    assert_eq!(fs::read_dir("/opt/below").unwrap().count(), 1);
    session.destroy();
}

/// Starts the test as an ordinary user, with something below `/opt`.
fn again(test: &str, subordinate: &str) {
    let prepare = "mount -t tmpfs none /opt && mkdir /opt/below && mount -t tmpfs -o mode=777 none /opt/below \
        && touch /opt/below/mine && chmod 666 /opt/below/mine";
    again_as_ordinary_user(&format!("escape::ordinary::{test}"), subordinate, prepare);
}
