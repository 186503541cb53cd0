//! What a sandbox leaves behind for the server to trip over: links, pipes, odd modes, odd names and depth.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use clamshell_protocol::{Guard, User};

use super::{
    limits,
    target::{Facts, Maker, Target},
};

const PLANT: &str = r#"
    use strict; use Fcntl;
    my $outside = $ENV{OUTSIDE};
    for my $top ('/mnt/workspace', '/root', '/etc', '/opt-not-there') {
        mkdir $top; chdir $top or next;
        symlink($outside, 'link'); symlink('../../../../../../..', 'up'); symlink('/proc/self/root', 'root');
        system('mkfifo', 'pipe'); mkdir 'closed'; mkdir 'closed/in'; symlink($outside, 'closed/in/link'); chmod 0, 'closed';
        mkdir "line\nbreak"; mkdir "bad \xff\xfe"; mkdir '-rf'; mkdir '..x'; mkdir 'x' x 255;
        open(my $f, '>', 'suid'); print $f 'true'; close $f; chmod 06755, 'suid';
        link('suid', 'again'); truncate('suid', 1 << 40);
        for (1 .. 1500) { mkdir 'd' or last; chdir 'd' or last } symlink($outside, 'link');
    }
    # Names that the next start looks up.
    chdir '/'; rename('/etc', '/etc-old'); symlink($outside, '/etc'); rename('/home', '/home-old'); symlink($outside, '/home');
    symlink($outside, '/mnt/workspace/shells'); symlink('../run', '/mnt/workspace/run');
    chown 60000, 60000, '/mnt/workspace'; chmod 0, '/mnt/workspace'; print 'planted';
"#;

fn leaves_nothing(test: &str, maker: Maker) {
    let Some(mut target) = Target::new(test, maker, limits()) else { return };
    let outside = target.folder().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("canary"), "canary").unwrap();
    std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o777)).unwrap();
    let before = std::fs::metadata(&outside).unwrap();
    let facts: Facts = [("OUTSIDE".to_owned(), outside.to_str().unwrap().to_owned())].into();
    let said = target.perl(User::Root, PLANT, &facts);
    assert_eq!((said.stdout.as_str(), said.code), ("planted", 0), "{said:?}");

    // From outside, nothing in the workspace belongs to anybody of this machine.
    let base = target.spec.id_range.host_base();
    for entry in std::fs::read_dir(target.workspace()).unwrap() {
        let metadata = entry.unwrap().metadata().unwrap();
        assert!((base..base + 65_536).contains(&metadata.uid()) && metadata.gid() >= base);
    }

    target.recreate();
    let said = target.sh(User::Agent, "cat /etc/passwd | wc -l; ls /home; ls /mnt/workspace/link/");
    assert!(said.stdout.ends_with("agentcore-runtime-user\n") && !said.stdout.starts_with("0\n"), "{said:?}");
    target.destroy();
    assert!(target.trash_is_empty());

    let after = std::fs::metadata(&outside).unwrap();
    let of = |metadata: &std::fs::Metadata| {
        (metadata.uid(), metadata.gid(), metadata.mode(), metadata.mtime_nsec())
    };
    assert_eq!(of(&after), of(&before));
    assert_eq!(std::fs::read_to_string(outside.join("canary")).unwrap(), "canary");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    // Deeper than a path may be long, so the folder of the test could not be removed with it.
    empty(&target.workspace());
}

/// With a program that copes with any depth.
fn empty(folder: &std::path::Path) {
    assert!(std::process::Command::new("rm").arg("-rf").arg(folder).status().unwrap().success());
}

#[test]
fn native_leaves_nothing_to_trip_over() {
    leaves_nothing("native_leaves_nothing_to_trip_over", Maker::Native(Guard::Full));
}

#[test]
fn runc_leaves_nothing_to_trip_over() {
    leaves_nothing("runc_leaves_nothing_to_trip_over", Maker::Oci("runc"));
}

#[test]
fn crun_leaves_nothing_to_trip_over() {
    leaves_nothing("crun_leaves_nothing_to_trip_over", Maker::Oci("crun"));
}
