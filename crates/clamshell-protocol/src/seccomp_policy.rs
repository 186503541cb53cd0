//! Which system calls a sandbox may not make: one table for the native filter and for OCI runtimes.
//!
//! The table is closed at both ends: it names every call of the kernel's list up to
//! [`NEWEST_SYSCALL`] that reaches the kernel's rarely walked parts, and whatever a newer kernel
//! adds is answered with ENOSYS until somebody has looked at it. What is left is what the container
//! engines allow by default.

/// Number of the newest system call looked at (`mseal`, Linux 6.10). Calls from 424 on have the same number
/// on every architecture.
pub const NEWEST_SYSCALL: u32 = 462;

/// Answer to a call that is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyscallAnswer {
    /// EPERM.
    NotPermitted,
    /// ENOSYS, so that programs fall back to an older call.
    NotImplemented,
    /// EAFNOSUPPORT, what a kernel without that family says.
    NoSuchFamily,
}

/// Condition on the low 32 bits of an argument; the kernel looks at no more of those used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgumentRule {
    /// Any of these bits is set.
    AnyBit {
        /// Which argument, from 0.
        argument: u8,
        /// The bits.
        bits: u32,
    },
    /// It is this value.
    Equals {
        /// Which argument, from 0.
        argument: u8,
        /// The value.
        value: u32,
    },
    /// It is none of these values.
    NotIn {
        /// Which argument, from 0.
        argument: u8,
        /// The values.
        values: &'static [u32],
    },
}

/// Calls that get the same answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyscallRule {
    /// Names; those an architecture lacks are passed over.
    pub names: &'static [&'static str],
    /// All of these must hold; none: always.
    pub when: &'static [ArgumentRule],
    /// What the program gets.
    pub answer: SyscallAnswer,
}

/// `CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET`.
const CLONE_NEW: u32 = 0x7e02_0000;

/// The table.
pub const SYSCALL_RULES: &[SyscallRule] = &[
    SyscallRule {
        // Its flags are behind a pointer, where no filter can look: the C library falls back to clone.
        names: &["clone3"],
        when: &[],
        answer: SyscallAnswer::NotImplemented,
    },
    SyscallRule {
        names: &["clone"],
        when: &[ArgumentRule::AnyBit { argument: 0, bits: CLONE_NEW }],
        answer: SyscallAnswer::NotPermitted,
    },
    SyscallRule {
        // Rings make calls that no filter sees.
        names: &["io_uring_setup", "io_uring_enter", "io_uring_register"],
        when: &[],
        answer: SyscallAnswer::NotImplemented,
    },
    SyscallRule {
        // Mounts and namespaces.
        names: &[
            "mount",
            "umount2",
            "pivot_root",
            "move_mount",
            "open_tree",
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
            "mount_setattr",
            "statmount",
            "listmount",
            "unshare",
            "setns",
            "chroot",
            "open_by_handle_at",
            "name_to_handle_at",
            "fanotify_init",
            "fanotify_mark",
            "quotactl",
            "quotactl_fd",
        ],
        when: &[],
        answer: SyscallAnswer::NotPermitted,
    },
    SyscallRule {
        // The kernel itself: keys are not namespaced, the others widen the attack surface.
        names: &[
            "add_key",
            "request_key",
            "keyctl",
            "bpf",
            "perf_event_open",
            "userfaultfd",
            "kexec_load",
            "kexec_file_load",
            "init_module",
            "finit_module",
            "delete_module",
            "create_module",
            "query_module",
            "get_kernel_syms",
            "kcmp",
            "lookup_dcookie",
            "nfsservctl",
            "_sysctl",
            "sysfs",
            "uselib",
            "ustat",
            "syslog",
            "acct",
            "swapon",
            "swapoff",
            "reboot",
            "vhangup",
            "iopl",
            "ioperm",
            "modify_ldt",
            "settimeofday",
            "clock_settime",
            "clock_adjtime",
            "adjtimex",
            "move_pages",
            "migrate_pages",
            "set_mempolicy_home_node",
            "memfd_secret",
            "map_shadow_stack",
            "lsm_set_self_attr",
            "vserver",
            "tuxcall",
            "security",
            "afs_syscall",
            "getpmsg",
            "putpmsg",
        ],
        when: &[],
        answer: SyscallAnswer::NotPermitted,
    },
    SyscallRule {
        // 0, PER_LINUX32, UNAME26, both, and the question for the present value.
        names: &["personality"],
        when: &[ArgumentRule::NotIn { argument: 0, values: &[0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff] }],
        answer: SyscallAnswer::NotPermitted,
    },
    SyscallRule {
        // TIOCSTI types into the terminal of whoever looks on.
        names: &["ioctl"],
        when: &[ArgumentRule::Equals { argument: 1, value: 0x5412 }],
        answer: SyscallAnswer::NotPermitted,
    },
    SyscallRule {
        // TIOCLINUX, the same by paste.
        names: &["ioctl"],
        when: &[ArgumentRule::Equals { argument: 1, value: 0x541c }],
        answer: SyscallAnswer::NotPermitted,
    },
    SyscallRule {
        // UNIX, INET, INET6, NETLINK. AF_VSOCK reaches the host past the network namespace.
        names: &["socket", "socketpair"],
        when: &[ArgumentRule::NotIn { argument: 0, values: &[1, 2, 10, 16] }],
        answer: SyscallAnswer::NoSuchFamily,
    },
    SyscallRule {
        // NETLINK_ROUTE and NETLINK_SOCK_DIAG.
        names: &["socket", "socketpair"],
        when: &[
            ArgumentRule::Equals { argument: 0, value: 16 },
            ArgumentRule::NotIn { argument: 2, values: &[0, 4] },
        ],
        answer: SyscallAnswer::NoSuchFamily,
    },
];

/// Capabilities that root inside keeps, by their kernel names.
pub const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
];

/// Files and folders of `/proc` and `/sys` that say too much about the machine.
pub const MASKED_PATHS: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/kmsg",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
    "/sys/kernel/security",
    "/sys/devices/virtual/powercap",
];

/// Parts of `/proc` that may only be read.
pub const READ_ONLY_PATHS: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_both_always_denied_and_conditional() {
        let mut seen = std::collections::BTreeSet::new();
        for rule in SYSCALL_RULES.iter().filter(|rule| rule.when.is_empty()) {
            for name in rule.names {
                assert!(seen.insert(*name), "{name} is named twice");
            }
        }
        for rule in SYSCALL_RULES.iter().filter(|rule| !rule.when.is_empty()) {
            assert!(rule.names.iter().all(|name| !seen.contains(name)));
        }
    }
}
