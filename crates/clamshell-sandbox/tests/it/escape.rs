//! The escape suite: attacks on the walls of a sandbox, each proven to notice a missing wall.
//!
//! Every attempt runs inside as root and as the agent's user and must be denied. The same attempt
//! is then run where it must succeed: in a sandbox without walls, on the machine itself, or in the
//! sandbox that it is aimed at. What cannot be proven says why in the table.

mod attempts;
mod exhaustion;
mod leftovers;
mod ordinary;
mod shared_mounts;
mod target;
mod vocabulary;

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use clamshell_domain::Limits;
use clamshell_protocol::{Guard, User};

use self::{
    attempts::{Attempt, Proof},
    target::{Facts, Maker, Said, Target, perl_outside},
};

/// What is on the machine and in the neighbor for an attack to find: a process with the mark in its
/// command line, shared memory, an abstract socket and a local port. Ends with its standard input.
const BAIT: &str = r#"use strict; use Socket; $| = 1; my ($mark, $key) = @ARGV;
    socket(my $a, AF_UNIX, SOCK_STREAM, 0); bind($a, pack_sockaddr_un("\0$mark")) or die; listen($a, 64);
    socket(my $t, AF_INET, SOCK_STREAM, 0); bind($t, pack_sockaddr_in(0, INADDR_ANY)) or die; listen($t, 64);
    my $s = shmget($key, 4096, 0600 | 01000) // die;
    if (open(my $f, '>', "/dev/shm/$mark")) { print $f 'bait'; close $f }
    my ($port) = unpack_sockaddr_in(getsockname($t)); print "$port\n";
    if ($ARGV[2]) { sleep 600 } else { my $x = <STDIN> } shmctl($s, 0, 0); unlink "/dev/shm/$mark";"#;

fn limits() -> Limits {
    Limits { memory_bytes: 256 << 20, pids_max: 64, ..Limits::default() }
}

/// A sandbox to attack from, and all that it is to attack.
struct Scene {
    target: Target,
    neighbor: Target,
    bait: Child,
    facts: Facts,
}

impl Scene {
    fn new(test: &str, maker: Maker) -> Option<Self> {
        let target = match maker {
            Maker::Native(Guard::Full) => Target::anywhere(test, maker, limits())?,
            _ => Target::new(test, maker, limits())?,
        };
        let neighbor = Target::anywhere(test, Maker::Native(Guard::Full), limits())?;
        let host_mark = format!("bait-{}", target.spec.storage_id.as_str());
        let neighbor_mark = format!("bait-{}", neighbor.spec.storage_id.as_str());
        // Low, so that no id of the scene is one in a young namespace; unlike a key that anybody uses.
        let key = 0x6c00_0000 + std::process::id() * 16;
        let mut bait = Command::new("/usr/bin/perl");
        bait.args(["-e", BAIT, &host_mark, &key.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut bait = bait.spawn().unwrap();
        let mut host_port = String::new();
        BufReader::new(bait.stdout.take().unwrap()).read_line(&mut host_port).unwrap();

        let neighbor_key = key + 1;
        let start = format!(
            "echo neighbor > /mnt/workspace/secret; cat > /tmp/bait <<'END'\n{BAIT}\nEND\n\
             setsid perl /tmp/bait {neighbor_mark} {neighbor_key} 1 > /tmp/port 2>&1 < /dev/null &\n\
             while ! test -s /tmp/port; do sleep 0.01; done; cat /tmp/port"
        );
        let neighbor_port = neighbor.sh(User::Agent, &start);
        assert_eq!(neighbor_port.code, 0, "{neighbor_port:?}");

        let file = target.folder().join("canary");
        std::fs::write(&file, "canary").unwrap();
        let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
        let facts = [
            ("HOST_MARK", host_mark),
            ("HOST_PORT", host_port.trim().to_owned()),
            ("HOST_SHM", key.to_string()),
            ("HOST_PID", bait.id().to_string()),
            ("HOST_FILE", text(&file)),
            ("HOST_ADDRESS", host_address()),
            ("KEEPER_PID", target.sandbox.keeper_pid.to_string()),
            ("NEIGHBOR_MARK", neighbor_mark),
            ("NEIGHBOR_PORT", neighbor_port.stdout.trim().to_owned()),
            ("NEIGHBOR_SHM", neighbor_key.to_string()),
            ("NEIGHBOR_PID", neighbor.sandbox.guest_pid.to_string()),
            ("NEIGHBOR_DIR", text(&neighbor.spec.session_dir)),
            ("DATA_DIR", text(&target.folder().join("data"))),
            ("SESSION_DIR", text(&target.spec.session_dir)),
            ("WORKSPACE", "/mnt/workspace".to_owned()),
        ];
        let facts = facts.map(|(key, value)| (key.to_owned(), value)).into();
        Some(Self { target, neighbor, bait, facts })
    }

    fn inside(&self, user: User, attempt: &Attempt) -> Outcome {
        Outcome::of(&self.target.perl(user, &vocabulary::script(attempt.script), &self.facts))
    }

    fn in_neighbor(&self, attempt: &Attempt) -> Outcome {
        Outcome::of(&self.neighbor.perl(User::Root, &vocabulary::script(attempt.script), &self.facts))
    }

    fn outside(&self, attempt: &Attempt) -> Outcome {
        let mut facts = self.facts.clone();
        facts.insert("WORKSPACE".to_owned(), self.target.workspace().to_str().unwrap().to_owned());
        Outcome::of(&perl_outside(&vocabulary::script(attempt.script), &facts))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // It cleans up after itself when its standard input ends.
        drop(self.bait.stdin.take());
        let _ = self.bait.wait();
    }
}

/// An address of this machine that is not its loopback's, or nothing. No packet is sent.
fn host_address() -> String {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    match socket.connect("192.0.2.1:53").and_then(|()| socket.local_addr()) {
        Ok(address) => address.ip().to_string(),
        Err(_) => String::new(),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Escaped(String),
    Denied(String),
    /// It said neither: the attempt itself is wrong.
    Broken(String),
}

impl Outcome {
    fn of(said: &Said) -> Self {
        let line = said.stdout.lines().next().unwrap_or_default();
        match line.split_once(' ') {
            Some(("ESCAPED", how)) => Self::Escaped(how.to_owned()),
            Some(("DENIED", why)) => Self::Denied(why.to_owned()),
            _ => Self::Broken(format!("{said:?}")),
        }
    }
}

/// What the walls of an OCI runtime let through. Nothing of it leads to anything of the machine or a neighbor.
const KNOWN_OF_OCI: [(&str, &str); 2] = [
    (
        "names of the machine's folders in mounts",
        "the guest's program is mounted where the runtime starts it",
    ),
    ("names of control groups", "the runtime makes that namespace before the sandbox is in its groups"),
];

/// What `runsc` answers otherwise, because its sandboxes have a kernel, devices and a network of their own: whatever is
/// changed there is nobody else's.
const KNOWN_OF_RUNSC: [(&str, &str); 15] = [
    (
        "higher priority",
        "a number of its kernel; the machine's processors are shared out by the control group",
    ),
    ("sysrq", "a file of its kernel that does nothing"),
    ("memory settings", "settings of its kernel"),
    ("network settings", "settings of its network"),
    ("node of the kernel's memory", "a node leads to a device of its kernel, which has no such one"),
    ("devices of the machine", "its kernel has a file system in user space of its own"),
    (
        "protect itself from the memory killer",
        "a number of its kernel; the machine ends the sandbox as a whole",
    ),
    ("new privileges", "its status files do not tell; they are set all the same"),
    ("id of the machine's root", "ids are mapped below its kernel, which shows its own map"),
    ("add a route", "it answers that it does not know such a call before it looks at rights"),
    ("mark packets", "packets of its network, which ends at loopback"),
    ("pretend to be somebody else", "the same"),
    (
        "take the place of the metadata service",
        "it lets others listen on all addresses; those do not get what is for the service's own",
    ),
    ("sockets by the kernel's list", "the name that the guest's socket had; the folder is covered"),
    ("all terminals of the machine", "terminals of its kernel; the machine has not one less"),
];

fn is_known(maker: Maker, attempt: &Attempt) -> bool {
    let known = |list: &[(&str, &str)]| list.iter().any(|(name, _)| *name == attempt.name);
    match maker {
        Maker::Native(_) => false,
        Maker::Oci("runsc") => known(&KNOWN_OF_RUNSC) || known(&KNOWN_OF_OCI),
        Maker::Oci(_) => known(&KNOWN_OF_OCI),
    }
}

/// All attempts in a sandbox with walls: every one is denied, and the sandbox works afterwards.
fn nothing_escapes(test: &str, maker: Maker) {
    let Some(scene) = Scene::new(test, maker) else { return };
    let mut wrong = Vec::new();
    let mut count = 0;
    for attempt in attempts::all() {
        for user in [User::Root, User::Agent] {
            count += 1;
            match scene.inside(user, attempt) {
                Outcome::Denied(_) => {}
                Outcome::Escaped(_) if is_known(maker, attempt) => {}
                outcome => wrong.push(format!("{}, as {user:?}: {outcome:?}", attempt.name)),
            }
        }
    }
    println!("{count} attempts with {maker:?}");
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(scene.target.sh(User::Root, "echo alive").stdout, "alive\n");
    assert_eq!(scene.neighbor.sh(User::Agent, "cat /mnt/workspace/secret").stdout, "neighbor\n");
}

#[test]
fn nothing_escapes_from_native() {
    nothing_escapes("nothing_escapes_from_native", Maker::Native(Guard::Full));
}

#[test]
fn nothing_escapes_from_runc() {
    nothing_escapes("nothing_escapes_from_runc", Maker::Oci("runc"));
}

#[test]
fn nothing_escapes_from_crun() {
    nothing_escapes("nothing_escapes_from_crun", Maker::Oci("crun"));
}

#[test]
fn nothing_escapes_from_runsc() {
    nothing_escapes("nothing_escapes_from_runsc", Maker::Oci("runsc"));
}

#[test]
fn missing_walls_are_noticed() {
    let Some(scene) = Scene::new("missing_walls_are_noticed", Maker::Native(Guard::Off)) else { return };
    let mut wrong = Vec::new();
    let mut proven = 0;
    for attempt in attempts::all() {
        let outcome = match attempt.proof {
            Proof::GuardOff => scene.inside(User::Root, attempt),
            Proof::Outside => scene.outside(attempt),
            Proof::Neighbor => scene.in_neighbor(attempt),
            Proof::Depends(_) => match scene.inside(User::Root, attempt) {
                Outcome::Denied(_) => scene.outside(attempt),
                outcome => outcome,
            },
            Proof::None(reason) => {
                println!("not proven: {}: {reason}", attempt.name);
                continue;
            }
        };
        match (attempt.proof, outcome) {
            (_, Outcome::Escaped(_)) => proven += 1,
            (Proof::Depends(what), Outcome::Denied(why)) => {
                println!("not proven here: {}: needs that {what}: {why}", attempt.name);
            }
            (_, outcome) => wrong.push(format!("{}: {outcome:?}", attempt.name)),
        }
    }
    println!("{proven} attempts of {} are noticed without walls", attempts::all().count());
    assert_eq!(wrong, Vec::<String>::new());
    assert!(proven >= 60, "{proven}");
}

#[test]
fn every_attempt_has_a_name_of_its_own() {
    let mut seen = std::collections::BTreeSet::new();
    for attempt in attempts::all() {
        assert!(seen.insert(attempt.name), "{}", attempt.name);
    }
    assert!(seen.len() >= 60, "{}", seen.len());
}
