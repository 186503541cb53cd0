//! Rarely walked system calls, devices and files of the kernel.

use super::{
    Attempt,
    Proof::{Depends, GuardOff, None, Outside},
    attempt,
};

pub(super) const CALLS: &[Attempt] = &[
    attempt(
        "bpf map",
        Depends("the kernel has bpf"),
        r"granted('bpf', 0, pack('I5', 2, 4, 4, 1, 0) . (chr(0) x 100), 120)",
    ),
    attempt(
        "performance events",
        Depends("the kernel has them"),
        r"
        granted('perf_event_open', pack('IIQQQQQ', 1, 64, 0, 0, 0, 0, 0x60) . (chr(0) x 64), 0, -1, -1, 0)",
    ),
    attempt("userfaultfd", Depends("the kernel has it"), r"granted('userfaultfd', 1)"),
    attempt("io_uring", Depends("the kernel has it"), r"granted('io_uring_setup', 1, chr(0) x 120)"),
    attempt("kexec", Depends("the kernel has it"), r"reached('kexec_load', 0, 0, 0, 0x7fff)"),
    attempt(
        "kexec by file",
        Depends("the kernel has it"),
        r"reached('kexec_file_load', -1, -1, 0, 0, 0x7fff)",
    ),
    attempt("load a module", Depends("the kernel has modules"), r"reached('init_module', 0, 0, '')"),
    attempt(
        "load a module by file",
        Depends("the kernel has modules"),
        r"reached('finit_module', -1, '', 0)",
    ),
    attempt(
        "unload a module",
        Depends("the kernel has modules"),
        r"reached('delete_module', 'clamshell_has_none', 0x800)",
    ),
    attempt(
        "add a key",
        Depends("the kernel has keys"),
        r"granted('add_key', 'user', 'clamshell', 'x', 1, -2)",
    ),
    attempt("session keyring", Depends("the kernel has keys"), r"granted('keyctl', 0, -3, 0)"),
    attempt(
        "user keyring, shared by all of an id",
        Depends("the kernel has keys"),
        r"granted('keyctl', 0, -4, 1)",
    ),
    attempt(
        "request a key",
        Depends("the kernel has keys"),
        r"reached('request_key', 'user', 'clamshell-has-none', 0, 0)",
    ),
    attempt("no address randomization", GuardOff, r"granted('personality', 0x40000)"),
    attempt("addresses from zero on", GuardOff, r"granted('personality', 0x100000)"),
    attempt("kernel log by call", GuardOff, r"granted('syslog', 3, ' ' x 4096, 4096)"),
    attempt("process accounting", GuardOff, r"reached('acct', '/clamshell/has/none')"),
    attempt("swap", GuardOff, r"reached('swapon', '/clamshell/has/none', 0)"),
    attempt("reboot", GuardOff, r"reached('reboot', 1, 2, 3, 0)"),
    attempt("set the time", GuardOff, r"granted('settimeofday', 0, 0)"),
    attempt(
        "adjust the clock",
        GuardOff,
        r"my $t = pack('IxxxxQ4', 0x4000, 0, 0, 0, 0) . (chr(0) x 256); reached('adjtime', 0, $t)",
    ),
    attempt("watch all files", Depends("the kernel has fanotify"), r"granted('fanotify_init', 0, 0)"),
    attempt("compare kernel objects", Depends("the kernel has it"), r"granted('kcmp', $$, 1, 1, 0, 0)"),
    attempt(
        "move pages between nodes",
        Depends("the kernel has nodes"),
        r"granted('move_pages', 0, 0, 0, 0, 0, 2)",
    ),
    attempt("secret memory", Depends("the kernel has it switched on"), r"granted('memfd_secret', 0)"),
    attempt(
        "segment descriptors",
        Depends("x86-64"),
        r"$main::number{modify_ldt} = 154 if `uname -m` =~ /x86_64/; granted('modify_ldt', 0, ' ' x 64, 64)",
    ),
    attempt(
        "I/O privilege",
        Depends("x86-64"),
        r"$main::number{iopl} = 172 if `uname -m` =~ /x86_64/; granted('iopl', 3)",
    ),
    attempt(
        "I/O ports",
        Depends("x86-64"),
        r"$main::number{ioperm} = 173 if `uname -m` =~ /x86_64/; granted('ioperm', 0x80, 1, 1)",
    ),
    attempt(
        "real-time priority",
        Depends("the group has time for it"),
        r"granted('sched_setscheduler', 0, 1, pack('I', 1))",
    ),
    attempt("higher priority", GuardOff, r"granted('setpriority', 0, 0, -5)"),
    attempt(
        "calls of the 32-bit kind",
        Depends("x86-64 with 32-bit calls"),
        r"
        my $code = pack('H*', 'b801000000bb2a000000cd80');
        my $elf = pack('a4C5x7SSIQQQISSSSSS', qq(\x7fELF), 2, 1, 1, 0, 0, 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
            . pack('IIQQQQQQ', 1, 5, 0, 0x400000, 0x400000, 120 + length $code, 120 + length $code, 4096) . $code;
        my $path = qq(/tmp/clamshell-old-$$); open(my $f, '>', $path); print $f $elf; close $f; chmod 0755, $path;
        my $status = system { $path } $path; unlink $path; verdict($status == 42 << 8, $status)",
    ),
    attempt(
        "calls of the x32 kind",
        Depends("x86-64 with x32 calls"),
        r"
        my $p = fork; if (!$p) { $main::number{x32} = 0x40000000 | $main::number{getpid}; exit(call('x32') == $$ ? 42 : 0) }
        waitpid($p, 0); verdict($? == 42 << 8)",
    ),
    attempt(
        "calls newer than the table",
        None("what they are is not known"),
        r"$main::number{newer} = 600; reached('newer', 0, 0, 0, 0)",
    ),
    attempt("sockets to the hypervisor", Depends("the kernel has vsock"), r"sock(40, 1, 0)"),
    attempt("packet sockets", Depends("the kernel has them"), r"sock(17, 3, 0x300)"),
    attempt("crypto sockets", Depends("the kernel has them"), r"sock(38, 5, 0)"),
    attempt("raw sockets", GuardOff, r"sock(2, 3, 1)"),
    attempt("raw sockets of version 6", GuardOff, r"sock(10, 3, 58)"),
    attempt("key sockets", Depends("the kernel has them"), r"sock(15, 3, 2)"),
    attempt("Bluetooth sockets", Depends("the kernel has them"), r"sock(31, 3, 1)"),
    attempt("XDP sockets", Depends("the kernel has them"), r"sock(44, 3, 0)"),
    attempt("audit messages", Depends("the kernel has audit"), r"sock(16, 3, 9)"),
    attempt("device events", GuardOff, r"sock(16, 3, 15)"),
    attempt("firewall messages", Depends("the kernel has netfilter"), r"sock(16, 3, 12)"),
    attempt("generic netlink", GuardOff, r"sock(16, 3, 16)"),
    attempt("family with high bits", Depends("the kernel has vsock"), r"sock(0x100000028, 1, 0)"),
    attempt(
        "type into a terminal",
        GuardOff,
        r"
        require POSIX; POSIX::setsid(); sysopen(my $m, '/dev/ptmx', O_RDWR | O_NOCTTY) or denied('no terminal');
        my $z = pack('I', 0); ioctl($m, 0x40045431, $z); my $n = pack('I', 0); ioctl($m, 0x80045430, $n);
        sysopen(my $s, '/dev/pts/' . unpack('I', $n), O_RDWR) or denied('no terminal'); granted('ioctl', fileno($s), 0x5412, 'x')",
    ),
    attempt(
        "type into a terminal with high bits",
        GuardOff,
        r"
        require POSIX; POSIX::setsid(); sysopen(my $m, '/dev/ptmx', O_RDWR | O_NOCTTY) or denied('no terminal');
        my $z = pack('I', 0); ioctl($m, 0x40045431, $z); my $n = pack('I', 0); ioctl($m, 0x80045430, $n);
        sysopen(my $s, '/dev/pts/' . unpack('I', $n), O_RDWR) or denied('no terminal'); granted('ioctl', fileno($s), 0x100005412, 'x')",
    ),
    attempt(
        "paste into a terminal",
        GuardOff,
        r"
        sysopen(my $m, '/dev/ptmx', O_RDWR | O_NOCTTY) or denied('no terminal'); reached('ioctl', fileno($m), 0x541c, chr(2))",
    ),
    attempt(
        "hang up a terminal",
        None("only a session leader's own terminal would be hung up"),
        r"reached('vhangup')",
    ),
];

pub(super) const FILES: &[Attempt] = &[
    attempt("sysrq", Depends("the kernel has it"), r"writable('/proc/sysrq-trigger')"),
    attempt("core dump program", GuardOff, r"writable('/proc/sys/kernel/core_pattern')"),
    attempt(
        "module loader program",
        Depends("the kernel has modules"),
        r"writable('/proc/sys/kernel/modprobe')",
    ),
    attempt(
        "device event program",
        Depends("the kernel has it"),
        r"writable('/proc/sys/kernel/hotplug', '/sys/kernel/uevent_helper')",
    ),
    attempt(
        "memory settings",
        GuardOff,
        r"writable('/proc/sys/vm/overcommit_memory', '/proc/sys/vm/drop_caches')",
    ),
    attempt(
        "kernel settings",
        GuardOff,
        r"writable('/proc/sys/kernel/randomize_va_space', '/proc/sys/kernel/pid_max')",
    ),
    attempt(
        "file system settings",
        GuardOff,
        r"writable('/proc/sys/fs/file-max', '/proc/sys/fs/suid_dumpable')",
    ),
    attempt(
        "network settings",
        GuardOff,
        r"writable('/proc/sys/net/ipv4/ip_forward', '/proc/sys/net/ipv4/ping_group_range')",
    ),
    attempt(
        "limits of user namespaces",
        Depends("root with CAP_SYS_RESOURCE"),
        r"writable('/proc/sys/user/max_user_namespaces')",
    ),
    attempt(
        "binary formats",
        Depends("binfmt_misc is mounted"),
        r"writable('/proc/sys/fs/binfmt_misc/register')",
    ),
    attempt("interrupts", Depends("the kernel has /proc/irq"), r"writable('/proc/irq/default_smp_affinity')"),
    attempt("buses", Depends("there is a PCI bus"), r"writable(glob('/proc/bus/pci/*/*'))"),
    attempt("kernel memory", Depends("the kernel has /proc/kcore"), r"readable('/proc/kcore')"),
    attempt("kernel log by file", GuardOff, r"verdict(opens('/proc/kmsg', O_RDONLY) && !-c '/proc/kmsg')"),
    attempt(
        "keys of others",
        Depends("some key is visible to root"),
        r"readable('/proc/keys', '/proc/key-users')",
    ),
    attempt(
        "timers of others",
        Depends("the kernel has it"),
        r"readable('/proc/timer_list', '/proc/sched_debug')",
    ),
    attempt(
        "addresses of the kernel",
        Depends("the kernel tells them to root"),
        r"
        verdict(scalar(content('/proc/kallsyms') =~ /^(?!0+ )[0-9a-f]+ /m))",
    ),
    attempt(
        "page numbers",
        Depends("the kernel has it"),
        r"
        sysopen(my $f, '/proc/self/pagemap', O_RDONLY) or denied(qq($!)); open(my $m, '<', '/proc/self/maps'); my ($b) = <$m> =~ /^([0-9a-f]+)/;
        sysseek($f, hex($b) / 4096 * 8, 0); sysread($f, my $e, 8); verdict((unpack('Q', $e) & ((1 << 55) - 1)) != 0)",
    ),
    attempt(
        "flags of all pages",
        Depends("the kernel has it"),
        r"verdict(opens('/proc/kpageflags', O_RDONLY) || opens('/proc/kpagecount', O_RDONLY))",
    ),
    attempt(
        "settings in sysfs",
        Outside,
        r"
        writable('/sys/kernel/uevent_seqnum', '/sys/power/state', '/sys/class/net/lo/mtu', '/sys/kernel/mm/ksm/run', glob('/sys/block/*/queue/scheduler'))",
    ),
    attempt(
        "firmware",
        Depends("there is firmware to read"),
        r"readable(glob('/sys/firmware/*/tables/DMI /sys/firmware/acpi/tables/* /sys/firmware/efi/*'))",
    ),
    attempt(
        "tracing",
        Depends("debugfs is mounted"),
        r"verdict(scalar(glob('/sys/kernel/debug/* /sys/kernel/tracing/*')) && -e (glob('/sys/kernel/debug/* /sys/kernel/tracing/*'))[0])",
    ),
    attempt(
        "serial number of the machine",
        Depends("there is one"),
        r"readable('/sys/class/dmi/id/product_uuid', '/sys/class/dmi/id/product_serial')",
    ),
    attempt(
        "control group files",
        Outside,
        r"writable(glob('/sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/*/cgroup.procs'))",
    ),
    attempt(
        "release agent",
        Depends("control groups of version 1"),
        r"writable(glob('/sys/fs/cgroup/*/release_agent'))",
    ),
    attempt(
        "node of the kernel's memory",
        GuardOff,
        r"
        for my $d ('/dev', '/tmp', '/mnt/workspace', '/root', '/run') { my $n = qq($d/clamshell-node-$$);
            if (call('mknod', -100, $n, 0020600, 0x101) != -1) { unlink $n; escaped($n) } } denied(qq($!))",
    ),
    attempt(
        "node of the kernel log",
        GuardOff,
        r"
        for my $d ('/dev', '/mnt/workspace') { my $n = qq($d/clamshell-log-$$); call('mknod', -100, $n, 0020600, 0x10b);
            my $o = opens($n, O_RDONLY); unlink $n; escaped($n) if $o } denied(qq($!))",
    ),
    attempt(
        "node of the disk",
        Depends("files lie on a block device"),
        r"
        my $dev = (stat($ENV{WORKSPACE}))[0] or denied('no device'); for my $d ('/dev', '/mnt/workspace') { my $n = qq($d/clamshell-disk-$$);
            call('mknod', -100, $n, 0060600, $dev); my $o = opens($n, O_RDONLY); unlink $n; escaped($n) if $o } denied(qq($!))",
    ),
    attempt(
        "devices of the machine",
        Outside,
        r"
        for my $n (qw(mem kmsg port kvm fuse loop-control net/tun vsock vhost-vsock vhost-net vda sda nvme0n1 mapper/control btrfs-control autofs console tty0 tty1 rtc0 uinput)) {
            escaped($n) if opens(qq(/dev/$n), O_RDONLY) } denied(qq($!))",
    ),
    attempt(
        "core dumps without limit",
        Depends("root with CAP_SYS_RESOURCE"),
        r"granted('prlimit', 0, 4, pack('QQ', 1 << 30, 1 << 30), 0)",
    ),
    attempt(
        "core dumps to the dump program",
        Depends("the walls set it"),
        r"
        my $old = pack('QQ', 7, 7); syscall($main::number{prlimit}, 0, 4, 0, $old); verdict((unpack('QQ', $old))[0] != 1, unpack('QQ', $old))",
    ),
];
