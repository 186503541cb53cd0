//! What every attack starts with: a few words of Perl around `syscall`, so that an attack is one or two lines
//! and needs no compiler inside.

/// Ways to say how it went. An attack looks at the effect, not at a message.
const WORDS: &str = r#"
use strict; use Fcntl; $| = 1;
sub escaped { print "ESCAPED @_\n"; exit 0 }
sub denied { print "DENIED @_\n"; exit 0 }
sub verdict { my $won = shift; $won ? escaped(@_) : denied("$!") }
# The result, or -1. Copies, because the kernel may write into what it is given.
sub call { my ($name, @a) = @_; my $n = $main::number{$name}; if (!defined $n) { $! = 38; return -1 } $! = 0; return syscall($n, @a) }
# It worked.
sub granted { my $r = call(@_); verdict($r != -1, "$_[0]: $r") }
# It got past the walls, and failed at the nonsense that it asked for. Nothing is changed that way.
sub reached { my $r = call(@_); my $e = $! + 0; (($r != -1) || ($e != 1 && $e != 13 && $e != 38 && $e != 97)) ? escaped("$_[0]: $r $!") : denied("$!") }
# Opened for writing, without writing or cutting anything.
sub opens { my ($path, $flags) = @_; return sysopen(my $f, $path, $flags | O_NONBLOCK | O_NOCTTY) }
sub writable { for my $path (@_) { escaped($path) if !-d $path && opens($path, O_WRONLY) } denied("$!") }
sub content { my ($path) = @_; sysopen(my $f, $path, O_RDONLY | O_NONBLOCK | O_NOCTTY) or return ''; my $b = ''; sysread($f, $b, 65536); return $b // '' }
sub readable { for my $path (@_) { escaped($path) if !-d $path && content($path) =~ /[^\0\s]/ } denied("$!") }
# Somewhere mounts may be tried without a trace. Where that is refused they are tried all the same.
sub apart { call('unshare', 0x20000); call('mount', 'none', '/', 'none', 0x44000, 0) }
sub sock { my ($family, $kind, $protocol) = @_; my $fd = call('socket', $family, $kind, $protocol); verdict($fd != -1, "socket $family $kind $protocol") }
"#;

/// An attack with everything before it that it needs.
pub(super) fn script(attack: &str) -> String {
    let numbers: Vec<_> = NUMBERS.iter().map(|(name, number)| format!("{name}=>{number}")).collect();
    format!("our %number = ({});{WORDS}{attack}", numbers.join(","))
}

macro_rules! numbers {
    ($($name:ident $symbol:ident),* $(,)?) => { &[$((stringify!($name), libc::$symbol)),*] };
}

/// Numbers of the system calls on this architecture.
const NUMBERS: &[(&str, libc::c_long)] = numbers![
    access SYS_faccessat, acct SYS_acct, add_key SYS_add_key, adjtime SYS_clock_adjtime, bpf SYS_bpf,
    chroot SYS_chroot, clone SYS_clone, clone3 SYS_clone3, delete_module SYS_delete_module, exit_group SYS_exit_group,
    fanotify_init SYS_fanotify_init, finit_module SYS_finit_module, fsopen SYS_fsopen, fspick SYS_fspick,
    init_module SYS_init_module, inotify_init SYS_inotify_init1, io_uring_setup SYS_io_uring_setup,
    kcmp SYS_kcmp, kexec_load SYS_kexec_load, kexec_file_load SYS_kexec_file_load, keyctl SYS_keyctl, ioctl SYS_ioctl,
    mknod SYS_mknodat, mount SYS_mount, mount_setattr SYS_mount_setattr, move_pages SYS_move_pages,
    open_by_handle_at SYS_open_by_handle_at, open_tree SYS_open_tree, perf_event_open SYS_perf_event_open,
    personality SYS_personality, pidfd_getfd SYS_pidfd_getfd, pidfd_open SYS_pidfd_open,
    pivot_root SYS_pivot_root, prlimit SYS_prlimit64, process_vm_readv SYS_process_vm_readv,
    ptrace SYS_ptrace, quotactl SYS_quotactl, reboot SYS_reboot, request_key SYS_request_key, sethostname SYS_sethostname,
    setns SYS_setns, setpriority SYS_setpriority, settimeofday SYS_settimeofday, setxattr SYS_setxattr, shmget SYS_shmget,
    socket SYS_socket, swapon SYS_swapon, syslog SYS_syslog, umount2 SYS_umount2, unshare SYS_unshare,
    userfaultfd SYS_userfaultfd, getpid SYS_getpid, setsockopt SYS_setsockopt,
    memfd_secret SYS_memfd_secret, vhangup SYS_vhangup, sched_setscheduler SYS_sched_setscheduler,
];
