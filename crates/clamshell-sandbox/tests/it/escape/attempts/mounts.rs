//! Mounts, roots and namespaces.

use super::{
    Attempt,
    Proof::{Depends, GuardOff, None},
    attempt,
};

pub(super) const MOUNTS: &[Attempt] = &[
    attempt("mount a tmpfs", GuardOff, r"apart(); granted('mount', 'none', '/mnt', 'tmpfs', 0, 0)"),
    attempt("mount a second proc", GuardOff, r"apart(); granted('mount', 'proc', '/mnt', 'proc', 0, 0)"),
    attempt("mount a writable sysfs", GuardOff, r"apart(); granted('mount', 'sysfs', '/mnt', 'sysfs', 0, 0)"),
    attempt(
        "mount the machine's devices",
        GuardOff,
        r"apart(); granted('mount', 'd', '/mnt', 'devtmpfs', 0, 0)",
    ),
    attempt(
        "mount debugfs",
        Depends("the kernel has debugfs"),
        r"apart(); granted('mount', 'd', '/mnt', 'debugfs', 0, 0)",
    ),
    attempt(
        "mount tracefs",
        Depends("the kernel has tracefs"),
        r"apart(); granted('mount', 't', '/mnt', 'tracefs', 0, 0)",
    ),
    attempt(
        "mount securityfs",
        Depends("the kernel has securityfs"),
        r"apart(); granted('mount', 's', '/mnt', 'securityfs', 0, 0)",
    ),
    attempt(
        "mount control groups",
        GuardOff,
        r"apart();
        escaped('v2') if call('mount', 'c', '/mnt', 'cgroup2', 0, 0) != -1;
        granted('mount', 'c', '/mnt', 'cgroup', 0, 'memory')",
    ),
    attempt(
        "mount control groups and move a process",
        GuardOff,
        r"apart();
        call('mount', 'c', '/mnt', 'cgroup2', 0, 0); writable('/mnt/cgroup.procs')",
    ),
    attempt(
        "mount an overlay over the system",
        GuardOff,
        r"apart(); mkdir '/run/over'; mkdir '/run/over/u'; mkdir '/run/over/w';
        granted('mount', 'o', '/mnt', 'overlay', 0, 'lowerdir=/usr,upperdir=/run/over/u,workdir=/run/over/w')",
    ),
    attempt(
        "make the system writable again",
        GuardOff,
        r"apart(); call('mount', 0, '/usr', 0, 0x1020, 0);
        verdict(call('access', -100, '/usr', 2, 0) != -1)",
    ),
    attempt(
        "make the system writable by attributes",
        GuardOff,
        r"apart();
        call('mount_setattr', -100, '/usr', 0, pack('Q4', 0, 1, 0, 0), 32);
        verdict(call('access', -100, '/usr', 2, 0) != -1)",
    ),
    attempt(
        "allow set-user-id on the workspace",
        GuardOff,
        r"apart();
        granted('mount_setattr', -100, '/mnt/workspace', 0, pack('Q4', 0, 2, 0, 0), 32)",
    ),
    attempt(
        "allow device nodes in the workspace",
        GuardOff,
        r"apart();
        granted('mount', 0, '/mnt/workspace', 0, 0x1022, 0)",
    ),
    attempt("unmount", GuardOff, r"apart(); granted('umount2', '/dev/mqueue', 2)"),
    attempt(
        "unmount what hides parts of proc",
        None("without walls nothing is hidden"),
        r"apart(); granted('umount2', '/proc/sys', 2)",
    ),
    attempt(
        "unmount what hides the kernel's memory",
        None("without walls nothing is hidden"),
        r"apart(); granted('umount2', '/proc/kcore', 2)",
    ),
    attempt("move a mount", GuardOff, r"apart(); granted('mount', '/dev/shm', '/mnt', 0, 0x2000, 0)"),
    attempt("bind a folder elsewhere", GuardOff, r"apart(); granted('mount', '/proc', '/mnt', 0, 0x5000, 0)"),
    attempt("pivot the root", GuardOff, r"apart(); chdir '/tmp'; granted('pivot_root', '.', '.')"),
    attempt("change the root and break out", GuardOff, r"mkdir '/tmp/jail'; granted('chroot', '/tmp/jail')"),
    attempt("copy a mount tree", GuardOff, r"apart(); granted('open_tree', -100, '/', 1)"),
    attempt("open a new file system", GuardOff, r"granted('fsopen', 'tmpfs', 0)"),
    attempt("reconfigure a file system", GuardOff, r"granted('fspick', -100, '/tmp', 0)"),
    attempt(
        "list all mounts",
        Depends("Linux 6.8"),
        r"$main::number{listmount} = 458;
        granted('listmount', pack('IIQQ', 24, 0, 0xffffffffffffffff, 0), ('x' x 256), 8, 0)",
    ),
    attempt(
        "open the root of the disk by its number",
        Depends("sessions lie on ext4"),
        r"
        sysopen(my $d, $ENV{WORKSPACE}, O_RDONLY) or denied(qq($!));
        granted('open_by_handle_at', fileno($d), pack('I4', 8, 1, 2, 0), 0)",
    ),
    attempt(
        "quotas",
        Depends("the kernel has them"),
        r"reached('quotactl', 0x80000700 - 0x100000000, 0, 0, 0)",
    ),
];

pub(super) const NAMESPACES: &[Attempt] = &[
    attempt("new user namespace", GuardOff, r"granted('unshare', 0x10000000)"),
    attempt("new mount namespace", GuardOff, r"granted('unshare', 0x20000)"),
    attempt("new network namespace", GuardOff, r"granted('unshare', 0x40000000)"),
    attempt("new process namespace", GuardOff, r"granted('unshare', 0x20000000)"),
    attempt("new IPC namespace", GuardOff, r"granted('unshare', 0x8000000)"),
    attempt("new host name namespace", GuardOff, r"granted('unshare', 0x4000000)"),
    attempt("new control group namespace", GuardOff, r"granted('unshare', 0x2000000)"),
    attempt("new time namespace", Depends("the kernel has them"), r"granted('unshare', 0x80)"),
    attempt(
        "user namespace by clone",
        GuardOff,
        r"my $p = call('clone', 0x10000011, 0, 0, 0, 0);
        call('exit_group', 0) if $p == 0; waitpid($p, 0) if $p > 0; verdict($p > 0)",
    ),
    attempt(
        "user namespace by clone with high bits",
        GuardOff,
        r"my $p = call('clone', 0x110000011, 0, 0, 0, 0);
        call('exit_group', 0) if $p == 0; waitpid($p, 0) if $p > 0; verdict($p > 0)",
    ),
    attempt(
        "user namespace by clone3",
        GuardOff,
        r"my $p = call('clone3', pack('Q11', 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0), 88);
        call('exit_group', 0) if $p == 0; waitpid($p, 0) if $p > 0; verdict($p > 0)",
    ),
    attempt(
        "enter a namespace",
        GuardOff,
        r"sysopen(my $n, '/proc/self/ns/uts', O_RDONLY); granted('setns', fileno($n), 0)",
    ),
    attempt(
        "enter namespaces by process",
        GuardOff,
        r"my $f = call('pidfd_open', 1, 0); granted('setns', $f, 0x4000000)",
    ),
    attempt("enter the guest's namespaces", GuardOff, r"verdict(opens('/proc/1/ns/mnt', O_RDONLY))"),
    attempt("host name", GuardOff, r"granted('sethostname', 'localhost', 9)"),
    attempt(
        "map further ids",
        None("the machine's own map is never writable"),
        r"
        sysopen(my $m, '/proc/self/uid_map', O_WRONLY) or denied(qq($!)); verdict(defined syswrite($m, qq(0 0 1\n)))",
    ),
];
