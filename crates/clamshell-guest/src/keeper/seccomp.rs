//! The system-call filter, compiled from [`clamshell_protocol::seccomp_policy`].
//!
//! One program with several answers: calls of another architecture end the process, calls newer than
//! the policy and those it names are refused, the rest goes on. The kernel keeps a bitmap of the
//! calls that are always allowed, so those do not even run it.

use clamshell_protocol::seccomp_policy::{
    ArgumentRule, NEWEST_SYSCALL, SYSCALL_RULES, SyscallAnswer, SyscallRule,
};
use libc::sock_filter;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

const LOAD_WORD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;

/// The program.
pub(crate) fn program() -> Vec<sock_filter> {
    let mut program = vec![
        statement(LOAD_WORD, ARCH),
        jump(JUMP_EQUAL, ARCHITECTURE, 1, 0),
        statement(RETURN, KILL_PROCESS),
        statement(LOAD_WORD, NUMBER),
        // The x32 calls of x86-64 have bit 30 set and fall under this, too.
        jump(JUMP_GREATER, NEWEST_SYSCALL, 0, 1),
        statement(RETURN, answer(SyscallAnswer::NotImplemented)),
    ];
    for rule in SYSCALL_RULES {
        for number in rule.names.iter().filter_map(|name| number(name)) {
            add_rule(&mut program, rule, number);
        }
    }
    program.push(statement(RETURN, ALLOW));
    program
}

fn add_rule(program: &mut Vec<sock_filter>, rule: &SyscallRule, number: u32) {
    let mut block = Vec::new();
    // Jumps to "does not apply" are filled in once the block's length is known.
    let mut misses = Vec::new();
    for condition in rule.when {
        let argument = match condition {
            ArgumentRule::AnyBit { argument, .. }
            | ArgumentRule::Equals { argument, .. }
            | ArgumentRule::NotIn { argument, .. } => *argument,
        };
        // Little endian: the low half comes first.
        block.push(statement(LOAD_WORD, ARGUMENTS + 8 * u32::from(argument)));
        match condition {
            ArgumentRule::AnyBit { bits, .. } => {
                misses.push((block.len(), false));
                block.push(jump(JUMP_ANY_BIT, *bits, 0, 0));
            }
            ArgumentRule::Equals { value, .. } => {
                misses.push((block.len(), false));
                block.push(jump(JUMP_EQUAL, *value, 0, 0));
            }
            ArgumentRule::NotIn { values, .. } => {
                for value in *values {
                    misses.push((block.len(), true));
                    block.push(jump(JUMP_EQUAL, *value, 0, 0));
                }
            }
        }
    }
    block.push(statement(RETURN, answer(rule.answer)));
    let end = block.len();
    for (at, when_true) in misses {
        let distance = short(end - at - 1);
        if let Some(jump) = block.get_mut(at) {
            if when_true {
                jump.jt = distance;
            } else {
                jump.jf = distance;
            }
        }
    }
    if !rule.when.is_empty() {
        block.push(statement(LOAD_WORD, NUMBER));
    }
    program.push(jump(JUMP_EQUAL, number, 0, short(block.len())));
    program.append(&mut block);
}

fn short(distance: usize) -> u8 {
    u8::try_from(distance).expect("a rule has a handful of conditions")
}

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn answer(answer: SyscallAnswer) -> u32 {
    const ERRNO: u32 = 0x0005_0000;
    let number = match answer {
        SyscallAnswer::NotPermitted => libc::EPERM,
        SyscallAnswer::NotImplemented => libc::ENOSYS,
        SyscallAnswer::NoSuchFamily => libc::EAFNOSUPPORT,
    };
    ERRNO | number.cast_unsigned()
}

/// Number of a system call of this architecture; `None` when it has no such call.
fn number(name: &str) -> Option<u32> {
    common_number(name).or_else(|| old_number(name)).and_then(|number| u32::try_from(number).ok())
}

fn common_number(name: &str) -> Option<libc::c_long> {
    Some(match name {
        "clone3" => libc::SYS_clone3,
        "clone" => libc::SYS_clone,
        "io_uring_setup" => libc::SYS_io_uring_setup,
        "io_uring_enter" => libc::SYS_io_uring_enter,
        "io_uring_register" => libc::SYS_io_uring_register,
        "mount" => libc::SYS_mount,
        "umount2" => libc::SYS_umount2,
        "pivot_root" => libc::SYS_pivot_root,
        "move_mount" => libc::SYS_move_mount,
        "open_tree" => libc::SYS_open_tree,
        "fsopen" => libc::SYS_fsopen,
        "fsconfig" => libc::SYS_fsconfig,
        "fsmount" => libc::SYS_fsmount,
        "fspick" => libc::SYS_fspick,
        "mount_setattr" => libc::SYS_mount_setattr,
        "unshare" => libc::SYS_unshare,
        "setns" => libc::SYS_setns,
        "chroot" => libc::SYS_chroot,
        "open_by_handle_at" => libc::SYS_open_by_handle_at,
        "name_to_handle_at" => libc::SYS_name_to_handle_at,
        "fanotify_init" => libc::SYS_fanotify_init,
        "fanotify_mark" => libc::SYS_fanotify_mark,
        "quotactl" => libc::SYS_quotactl,
        "add_key" => libc::SYS_add_key,
        "request_key" => libc::SYS_request_key,
        "keyctl" => libc::SYS_keyctl,
        "bpf" => libc::SYS_bpf,
        "perf_event_open" => libc::SYS_perf_event_open,
        "userfaultfd" => libc::SYS_userfaultfd,
        "kexec_load" => libc::SYS_kexec_load,
        "kexec_file_load" => libc::SYS_kexec_file_load,
        "init_module" => libc::SYS_init_module,
        "finit_module" => libc::SYS_finit_module,
        "delete_module" => libc::SYS_delete_module,
        "kcmp" => libc::SYS_kcmp,
        "lookup_dcookie" => libc::SYS_lookup_dcookie,
        "nfsservctl" => libc::SYS_nfsservctl,
        "syslog" => libc::SYS_syslog,
        "acct" => libc::SYS_acct,
        "swapon" => libc::SYS_swapon,
        "swapoff" => libc::SYS_swapoff,
        "reboot" => libc::SYS_reboot,
        "vhangup" => libc::SYS_vhangup,
        "settimeofday" => libc::SYS_settimeofday,
        "clock_settime" => libc::SYS_clock_settime,
        "clock_adjtime" => libc::SYS_clock_adjtime,
        "adjtimex" => libc::SYS_adjtimex,
        "move_pages" => libc::SYS_move_pages,
        "migrate_pages" => libc::SYS_migrate_pages,
        "personality" => libc::SYS_personality,
        "ioctl" => libc::SYS_ioctl,
        "socket" => libc::SYS_socket,
        "socketpair" => libc::SYS_socketpair,
        "statmount" => 457,
        "listmount" => 458,
        "lsm_set_self_attr" => 460,
        "map_shadow_stack" => 453,
        "set_mempolicy_home_node" => 450,
        "memfd_secret" => 447,
        "quotactl_fd" => 443,
        _ => return None,
    })
}

/// Calls that only the oldest 64-bit architecture has.
#[cfg(target_arch = "x86_64")]
fn old_number(name: &str) -> Option<libc::c_long> {
    Some(match name {
        "create_module" => 174,
        "query_module" => 178,
        "get_kernel_syms" => 177,
        "_sysctl" => libc::SYS__sysctl,
        "sysfs" => libc::SYS_sysfs,
        "uselib" => libc::SYS_uselib,
        "ustat" => libc::SYS_ustat,
        "iopl" => libc::SYS_iopl,
        "ioperm" => libc::SYS_ioperm,
        "modify_ldt" => libc::SYS_modify_ldt,
        "vserver" => libc::SYS_vserver,
        "tuxcall" => libc::SYS_tuxcall,
        "security" => libc::SYS_security,
        "afs_syscall" => libc::SYS_afs_syscall,
        "getpmsg" => libc::SYS_getpmsg,
        "putpmsg" => libc::SYS_putpmsg,
        _ => return None,
    })
}

/// Calls that only the oldest 64-bit architecture has.
#[cfg(not(target_arch = "x86_64"))]
fn old_number(_: &str) -> Option<libc::c_long> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel's interpreter would say.
    fn run(program: &[sock_filter], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend_from_slice(&number.to_le_bytes());
        data.extend_from_slice(&arch.to_le_bytes());
        data.extend_from_slice(&[0; 8]);
        for argument in arguments {
            data.extend_from_slice(&argument.to_le_bytes());
        }
        let mut a = 0;
        let mut at = 0;
        loop {
            let line = program[at];
            at += 1;
            let taken = match line.code {
                LOAD_WORD => {
                    let from = line.k as usize;
                    a = u32::from_le_bytes(data[from..from + 4].try_into().unwrap());
                    continue;
                }
                RETURN => return line.k,
                JUMP_EQUAL => a == line.k,
                JUMP_GREATER => a > line.k,
                JUMP_ANY_BIT => a & line.k != 0,
                code => panic!("unknown code {code:#x}"),
            };
            at += usize::from(if taken { line.jt } else { line.jf });
        }
    }

    fn check(name: &str, arguments: [u64; 6], expect: u32) {
        let number = number(name).or_else(|| match name {
            "read" => u32::try_from(libc::SYS_read).ok(),
            "ptrace" => u32::try_from(libc::SYS_ptrace).ok(),
            _ => None,
        });
        let number = number.unwrap_or_else(|| panic!("{name} has no number"));
        assert_eq!(run(&program(), ARCHITECTURE, number, arguments), expect, "{name} {arguments:x?}");
    }

    const EPERM: u32 = 0x5_0001;
    const ENOSYS: u32 = 0x5_0026;
    const EAFNOSUPPORT: u32 = 0x5_0061;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn every_name_of_the_policy_has_a_number() {
        for name in SYSCALL_RULES.iter().flat_map(|rule| rule.names) {
            assert!(number(name).is_some(), "{name}");
        }
    }

    #[test]
    fn calls_get_the_answer_of_the_policy() {
        let none = [0; 6];
        check("read", none, ALLOW);
        check("ptrace", none, ALLOW);
        for name in ["mount", "unshare", "setns", "bpf", "keyctl", "open_by_handle_at", "kexec_load"] {
            check(name, none, EPERM);
        }
        for name in ["clone3", "io_uring_setup"] {
            check(name, none, ENOSYS);
        }
        let first = |value| [value, 0, 0, 0, 0, 0];
        check("clone", first(0x11), ALLOW);
        check("clone", first(0x1000_0011), EPERM);
        check("clone", first(0x0002_0000), EPERM);
        check("personality", first(0xffff_ffff), ALLOW);
        check("personality", first(0x4_0000), EPERM);
        check("socket", first(1), ALLOW);
        check("socket", first(40), EAFNOSUPPORT);
        // The kernel reads an int: high bits must not hide the family.
        check("socket", first(0xffff_ffff_0000_0028), EAFNOSUPPORT);
        check("socket", [16, 3, 0, 0, 0, 0], ALLOW);
        check("socket", [16, 3, 16, 0, 0, 0], EAFNOSUPPORT);
        check("ioctl", [0, 0x5401, 0, 0, 0, 0], ALLOW);
        check("ioctl", [0, 0x5412, 0, 0, 0, 0], EPERM);
        check("ioctl", [0, 0xff_0000_541c, 0, 0, 0, 0], EPERM);
    }

    #[test]
    fn other_architectures_and_newer_calls_are_refused() {
        let program = program();
        assert_eq!(run(&program, 0x4000_0003, 3, [0; 6]), KILL_PROCESS);
        assert_eq!(run(&program, ARCHITECTURE, 0x4000_0000, [0; 6]), ENOSYS);
        assert_eq!(run(&program, ARCHITECTURE, NEWEST_SYSCALL, [0; 6]), ALLOW);
        assert_eq!(run(&program, ARCHITECTURE, NEWEST_SYSCALL + 1, [0; 6]), ENOSYS);
    }
}
