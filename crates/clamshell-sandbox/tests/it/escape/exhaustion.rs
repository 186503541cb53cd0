//! Sandboxes that take all they can get: the machine stays, and so does the sandbox.

use std::process::Command;

use clamshell_domain::Limits;
use clamshell_protocol::{Guard, User};

use super::{
    target::{Facts, Maker, Target},
    vocabulary,
};
use crate::sandbox::until;

const MAKERS: [Maker; 3] = [Maker::Native(Guard::Full), Maker::Oci("runc"), Maker::Oci("crun")];

fn each(test: &str, limits: Limits, check: impl Fn(&Target)) {
    for maker in MAKERS {
        let Some(target) = Target::new(test, maker, limits) else { continue };
        // One line for each group that could not be made or filled.
        if target
            .sandbox
            .degraded
            .iter()
            .any(|line| line.contains("control group") || line.contains("not hold"))
        {
            println!("skipped {test}: no limits on this machine: {:?}", target.sandbox.degraded);
            continue;
        }
        check(&target);
        assert!(
            until(|| target.sh(User::Agent, "echo alive").stdout == "alive\n"),
            "{maker:?} does not answer any more"
        );
    }
}

#[test]
fn a_fork_bomb_stays_inside() {
    let limits = Limits { memory_bytes: 256 << 20, pids_max: 48, ..Limits::default() };
    each("a_fork_bomb_stays_inside", limits, |target| {
        // Every process of it forks for a second; none waits for another, so orphans pile up, too.
        let bomb = "my $end = time + 1; my $failed = 0; while (time <= $end) { defined(fork) or $failed++ } \
                    print STDOUT qq(full\\n) if $failed";
        let said = target.perl(User::Agent, bomb, &Facts::new());
        assert!(Command::new("/usr/bin/perl").args(["-e", "exit 0"]).status().unwrap().success());
        assert!(said.stdout.contains("full"), "{said:?}");
        // A second bomb as root, which may take any id: ids do not multiply the limit.
        let bomb = "my $n = 0; for my $id (1000 .. 1100) { my $p = fork; if (!defined $p) { last } \
                    if (!$p) { $> = $id; $< = $id; sleep 2; exit 0 } $n++ } print qq($n\\n)";
        let said = target.perl(User::Root, bomb, &Facts::new());
        let count: u32 = said.stdout.trim().parse().unwrap();
        assert!(count < 48, "{count}");
    });
}

#[test]
fn memory_ends_at_its_limit() {
    let limits = Limits { memory_bytes: 64 << 20, pids_max: 48, ..Limits::default() };
    each("memory_ends_at_its_limit", limits, |target| {
        let said = target.perl(User::Agent, "my $x = 'x' x (400 << 20); print length $x", &Facts::new());
        assert_ne!(said.code, 0, "{said:?}");
        assert_eq!(said.stdout, "");
        // The memory file systems are smaller than the limit, so files alone end nobody.
        let fill = "head -c 200M /dev/zero > /tmp/all 2>/dev/null; stat -c %s /tmp/all; rm /tmp/all";
        let said = target.sh(User::Agent, fill);
        let bytes: u64 = said.stdout.trim().parse().unwrap();
        assert!(bytes <= 32 << 20, "{said:?}");
        let fill = "head -c 200M /dev/zero > /dev/all 2>/dev/null; stat -c %s /dev/all; rm /dev/all";
        let said = target.sh(User::Root, fill);
        let bytes: u64 = said.stdout.trim().parse().unwrap();
        assert!(bytes <= 1 << 20, "{said:?}");
    });
}

#[test]
fn memory_file_systems_together_leave_room_to_live() {
    let limits = Limits { memory_bytes: 128 << 20, pids_max: 48, ..Limits::default() };
    each("memory_file_systems_together_leave_room_to_live", limits, |target| {
        let fill = |user, folder: &str| {
            target.sh(
                user,
                &format!("head -c 200M /dev/zero > {folder}/all 2>/dev/null; stat -c %s {folder}/all"),
            )
        };
        let mut sum = 0;
        for folder in ["/tmp", "/dev/shm", "/run"] {
            let said = fill(User::Root, folder);
            sum += said.stdout.trim().parse::<u64>().unwrap_or_else(|_| panic!("{folder}: {said:?}"));
        }
        // Full to the brim, and still below the limit.
        assert_eq!(sum, (64 + 32 + 8) << 20);
        assert_eq!(target.sh(User::Agent, "echo alive").stdout, "alive\n");
        // What is left is for programs that take too much, and those are ended rather than the guest.
        for _ in 0..5 {
            let said = target.perl(User::Agent, "my $x = 'x' x (100 << 20); print length $x", &Facts::new());
            assert_ne!(said.code, 0, "{said:?}");
        }
        let guest: i32 = target.sh(User::Root, "cat /proc/1/oom_score_adj").stdout.trim().parse().unwrap();
        for user in [User::Root, User::Agent] {
            let program: i32 = target.sh(user, "cat /proc/self/oom_score_adj").stdout.trim().parse().unwrap();
            assert!(program > guest, "{program} is not above {guest}");
        }
        // And tidying up works.
        assert_eq!(target.sh(User::Root, "rm /tmp/all /dev/shm/all /run/all").code, 0);
    });
}

#[test]
fn descriptors_end_at_their_limit() {
    let limits = Limits { memory_bytes: 256 << 20, pids_max: 48, open_files_max: 512, ..Limits::default() };
    each("descriptors_end_at_their_limit", limits, |target| {
        let open = "my @f; while (open(my $f, '<', '/dev/null')) { push @f, $f } print scalar @f";
        for user in [User::Root, User::Agent] {
            let said = target.perl(user, open, &Facts::new());
            let count: u64 = said.stdout.parse().unwrap();
            assert!((400..512).contains(&count), "{said:?}");
        }
    });
}

#[test]
fn orphans_are_buried() {
    let limits = Limits { memory_bytes: 256 << 20, pids_max: 48, ..Limits::default() };
    each("orphans_are_buried", limits, |target| {
        // Many more than may be at once: a dead one that nobody waits for would count.
        let orphans = "for (1 .. 300) { my $p = fork // do { select(undef, undef, undef, 0.01); redo }; \
                       if (!$p) { fork; exit 0 } waitpid($p, 0) } print 'done'";
        assert_eq!(target.perl(User::Agent, orphans, &Facts::new()).stdout, "done");
    });
}

#[test]
fn signals_do_not_end_the_guest() {
    each("signals_do_not_end_the_guest", super::limits(), |target| {
        let all = vocabulary::script(
            "for my $n (1 .. 64) { kill $n, 1 } for (1 .. 100) { select(undef, undef, undef, 0.01) } print 'sent'",
        );
        assert_eq!(target.perl(User::Agent, &all, &Facts::new()).stdout, "sent");
        assert_eq!(target.perl(User::Root, &all, &Facts::new()).stdout, "sent");
    });
}

/// Takes all file watches there are to have and says how many those were, then holds them for a while.
const TAKE_WATCHES: &str = "my $n = 0; while ($n < 100000 && call('inotify_init', 0) != -1) { $n++ } \
                            open(my $f, '>', '/tmp/taken'); print $f $n; close $f; sleep 20";

/// How many a program of somebody else gets meanwhile, of ten.
const SOME_WATCHES: &str = "my $n = 0; for (1 .. 10) { $n++ if call('inotify_init', 0) != -1 } print $n";

#[test]
fn file_watches_of_one_sandbox_are_not_those_of_another() {
    let test = "file_watches_of_one_sandbox_are_not_those_of_another";
    each(test, super::limits(), |target| {
        let take = vocabulary::script(TAKE_WATCHES);
        let start = format!(
            "cat > /tmp/take <<'END'\n{take}\nEND\nsetsid perl /tmp/take > /dev/null 2>&1 < /dev/null &"
        );
        target.sh(User::Root, &start);
        assert!(until(|| target.sh(User::Root, "test -s /tmp/taken").code == 0));
        let some = vocabulary::script(SOME_WATCHES);
        for maker in MAKERS {
            let Some(other) = Target::new(test, maker, super::limits()) else { continue };
            let said = other.perl(User::Root, &some, &Facts::new());
            assert_eq!(said.stdout, "10", "{maker:?}: {said:?}");
        }
        let said = super::perl_outside(&some, &Facts::new());
        assert_eq!(said.stdout, "10", "{said:?}");
    });
}
