//! What this machine gives, for `clamshell doctor`.

use std::{fs, os::fd::AsFd, path::Path};

use clamshell_domain::{Capability, DriverReport};
use rustix::{
    fs::CWD,
    mount::{OpenTreeFlags, open_tree},
};

use super::{groups::Layout, ids::Privilege};

/// Looks at everything a sandbox needs. Starts no process.
pub(super) fn report(privilege: &Privilege, layout: &Layout, data_dir: &Path) -> DriverReport {
    let userns = user_namespaces();
    let overlay = overlay();
    let usable = userns.available && overlay.available;
    let mut capabilities = vec![userns, overlay, ids(privilege), idmapped(privilege, data_dir), seccomp()];
    for (controller, name) in [("cpu", "CPU limit"), ("memory", "memory limit"), ("pids", "process limit")] {
        capabilities.push(limit(layout, controller, name));
    }
    let hint = "run as root, or as a systemd service with Delegate=yes; without it the use and the cost of sessions are not known";
    for (name, place) in [
        ("CPU accounting", layout.counts_cpu().map(str::to_owned)),
        ("memory accounting", layout.place("memory")),
    ] {
        let detail = place.as_deref().unwrap_or("no control group counts it");
        capabilities.push(capability(name, place.is_some(), detail, place.is_none().then_some(hint)));
    }
    capabilities.push(Capability {
        name: "kill as a whole".to_owned(),
        available: layout.has_kill(),
        detail: if layout.has_kill() {
            "cgroup.kill".to_owned()
        } else {
            "by the end of the process namespace".to_owned()
        },
        hint: None,
    });
    capabilities.push(Capability {
        name: "disk limit".to_owned(),
        available: false,
        detail: "held by watching, not by the kernel: a session may exceed it by what it writes in 2 s"
            .to_owned(),
        hint: Some(
            "put the data folder on a file system of its own, so that a full one harms nothing else"
                .to_owned(),
        ),
    });
    capabilities.push(Capability {
        name: "network".to_owned(),
        available: false,
        detail: "loopback only: sandboxes have no way out yet, whatever the network mode of their runtime"
            .to_owned(),
        hint: None,
    });
    let kvm = Path::new("/dev/kvm").exists();
    capabilities.push(Capability {
        name: "KVM device".to_owned(),
        available: kvm,
        detail: if kvm {
            "present; whether it can run a guest is only known by starting one".to_owned()
        } else {
            "absent".to_owned()
        },
        hint: None,
    });
    DriverReport { driver: "native".to_owned(), usable, capabilities }
}

fn user_namespaces() -> Capability {
    let read = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let supported = Path::new("/proc/self/ns/user").exists();
    let none_left = read("/proc/sys/user/max_user_namespaces").as_deref() == Some("0");
    let root = rustix::process::geteuid().is_root();
    let clone_off = !root && read("/proc/sys/kernel/unprivileged_userns_clone").as_deref() == Some("0");
    let apparmor =
        !root && read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1");
    let (available, detail, hint) = if !supported {
        (false, "the kernel has none", Some("use a kernel with CONFIG_USER_NS"))
    } else if none_left {
        (false, "switched off", Some("sysctl user.max_user_namespaces=10000"))
    } else if clone_off {
        (false, "only for root", Some("sysctl kernel.unprivileged_userns_clone=1, or run as root"))
    } else if apparmor {
        (
            false,
            "restricted by AppArmor",
            Some(
                "sysctl kernel.apparmor_restrict_unprivileged_userns=0, a profile for clamshell, or run as root",
            ),
        )
    } else {
        (true, "root inside is nobody outside", None)
    };
    capability("user namespaces", available, detail, hint)
}

fn overlay() -> Capability {
    let listed = fs::read_to_string("/proc/filesystems")
        .is_ok_and(|list| list.split_ascii_whitespace().any(|name| name == "overlay"));
    let detail = if listed { "known to the kernel" } else { "not known to the kernel" };
    capability("overlay file system", listed, detail, (!listed).then_some("modprobe overlay"))
}

fn ids(privilege: &Privilege) -> Capability {
    match privilege {
        Privilege::Root => capability("private ids", true, "each session has ids of its own", None),
        Privilege::Subordinate { .. } => capability(
            "private ids",
            true,
            "from /etc/subuid; all sessions share them",
            Some("run as root to give each session its own"),
        ),
        Privilege::Single { .. } => capability(
            "private ids",
            false,
            "root and agent are the same user inside, the server's own outside",
            Some(
                "install uidmap and add a range of 65536 ids to /etc/subuid and /etc/subgid, or run as root",
            ),
        ),
    }
}

fn idmapped(privilege: &Privilege, data_dir: &Path) -> Capability {
    let name = "id-mapped mounts";
    if *privilege != Privilege::Root {
        return capability(name, false, "only for root", None);
    }
    // Whether a file system can is only known by mounting with a map; that it is one of the known ones is told here.
    let folder = if data_dir.is_dir() { data_dir } else { Path::new("/") };
    let flags = OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let known = open_tree(CWD, folder, flags)
        .and_then(|tree| rustix::fs::fstatfs(tree.as_fd()))
        .is_ok_and(|stat| idmappable(u64::try_from(stat.f_type).unwrap_or(0)));
    if known {
        capability(name, true, "on the data folder's file system", None)
    } else {
        capability(
            name,
            false,
            "not known to work on the data folder's file system; image files may belong to nobody inside",
            Some("put the data folder on ext4, xfs or btrfs"),
        )
    }
}

/// ext4, xfs, btrfs, f2fs, tmpfs, erofs, squashfs.
fn idmappable(magic: u64) -> bool {
    [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994, 0xe0f5_e1e2, 0x7371_7368].contains(&magic)
}

fn seccomp() -> Capability {
    let available = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail")
        .is_ok_and(|actions| actions.contains("errno") && actions.contains("kill_process"));
    let detail = if available { "filter of system calls" } else { "the kernel has no filters" };
    capability(
        "seccomp",
        available,
        detail,
        (!available).then_some("use a kernel with CONFIG_SECCOMP_FILTER"),
    )
}

fn limit(layout: &Layout, controller: &str, name: &str) -> Capability {
    match layout.place(controller) {
        Some(place) => capability(name, true, &place, None),
        None => capability(
            name,
            false,
            "no control group for it",
            Some("run as root, or as a systemd service with Delegate=yes"),
        ),
    }
}

fn capability(name: &str, available: bool, detail: &str, hint: Option<&str>) -> Capability {
    Capability { name: name.to_owned(), available, detail: detail.to_owned(), hint: hint.map(str::to_owned) }
}
