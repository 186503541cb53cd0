//! The guest, which is PID 1, and rights that a program could win back.

use super::{
    Attempt,
    Proof::{Depends, GuardOff, None, Outside},
    attempt,
};

pub(super) const PROCESSES: &[Attempt] = &[
    attempt("environment of PID 1", None("it is empty"), r"readable('/proc/1/environ')"),
    attempt("memory of PID 1", GuardOff, r"verdict(opens('/proc/1/mem', O_RDWR))"),
    attempt("map of PID 1", GuardOff, r"readable('/proc/1/maps')"),
    attempt(
        "program of PID 1",
        GuardOff,
        r"verdict(readlink('/proc/1/exe') || opens('/proc/1/exe', O_RDONLY))",
    ),
    attempt(
        "write the program of PID 1",
        None("it is on a read-only mount even without walls"),
        r"verdict(opens('/proc/1/exe', O_WRONLY))",
    ),
    attempt(
        "descriptors of PID 1",
        GuardOff,
        r"verdict(readlink('/proc/1/fd/3') || readlink('/proc/1/fd/4') || readlink('/proc/1/fd/0'))",
    ),
    attempt(
        "logs through PID 1",
        GuardOff,
        r"for my $n (3 .. 20) { escaped($n) if opendir(my $d, qq(/proc/1/fd/$n)) } denied(qq($!))",
    ),
    attempt(
        "above the logs through PID 1",
        GuardOff,
        r"for my $n (3 .. 20) { escaped($n) if -d qq(/proc/1/fd/$n/..) } denied(qq($!))",
    ),
    attempt(
        "root of PID 1",
        GuardOff,
        r"verdict(opendir(my $d, '/proc/1/root/') || opendir(my $e, '/proc/1/cwd/'))",
    ),
    attempt(
        "take a descriptor of PID 1",
        GuardOff,
        r"my $f = call('pidfd_open', 1, 0); granted('pidfd_getfd', $f, 3, 0)",
    ),
    attempt("trace PID 1", GuardOff, r"granted('ptrace', 0x4206, 1, 0, 0)"),
    attempt(
        "read memory of PID 1 by call",
        GuardOff,
        r"
        my $at = 0x400000; if (open(my $m, '<', '/proc/1/maps')) { ($at) = map { hex } <$m> =~ /^([0-9a-f]+)/ }
        my $b = ' ' x 8; my $l = pack('PQ', $b, 8); my $r = pack('QQ', $at, 8);
        my $n = call('process_vm_readv', 1, $l, 1, $r, 1, 0); verdict($n != -1 || $! == 14, $n)",
    ),
    attempt(
        "kill PID 1",
        None("the kernel protects it in every namespace"),
        r"kill 'KILL', 1; kill 'STOP', 1; kill 'SEGV', 1; verdict(!kill(0, 1) && $! == 3)",
    ),
    attempt(
        "protect itself from the memory killer",
        Depends("root with CAP_SYS_RESOURCE"),
        r"
        sysopen(my $f, '/proc/self/oom_score_adj', O_WRONLY) or denied(qq($!)); verdict(defined syswrite($f, '-500'))",
    ),
    attempt(
        "protect PID 1 from the memory killer",
        Depends("root with CAP_SYS_RESOURCE"),
        r"
        sysopen(my $f, '/proc/1/oom_score_adj', O_WRONLY) or denied(qq($!)); verdict(defined syswrite($f, '-500'))",
    ),
    attempt(
        "more open files than allowed",
        Depends("root with CAP_SYS_RESOURCE"),
        r"granted('prlimit', 0, 7, pack('QQ', 1 << 20, 1 << 20), 0)",
    ),
    attempt(
        "leave the filter",
        GuardOff,
        r"content('/proc/self/status') =~ /^Seccomp:\s*(\d)/m; verdict($1 ne '2', $1)",
    ),
    attempt(
        "capabilities beyond the list",
        GuardOff,
        r"
        content('/proc/self/status') =~ /^CapBnd:\s*([0-9a-f]+)/m; verdict(hex($1) & ~0x800005fb, $1)",
    ),
    attempt(
        "new privileges",
        GuardOff,
        r"content('/proc/self/status') =~ /^NoNewPrivs:\s*(\d)/m; verdict($1 ne '1', $1)",
    ),
    attempt(
        "id of the machine's root",
        GuardOff,
        r"verdict(scalar(content('/proc/self/uid_map') =~ /^\s*\d+\s+0\s/m))",
    ),
    attempt(
        "become root by set-user-id",
        Outside,
        r"
        # Root makes the program, as an image could bring one; an ordinary user starts it.
        require File::Copy; for my $d ('/tmp', '/mnt/workspace', '/root', '/var', '/dev/shm', '/run') { my $n = qq($d/clamshell-id-$$);
            next if !File::Copy::copy('/usr/bin/id', $n); chmod 04755, $n; my $p = open(my $out, '-|') // next;
            if (!$p) { $) = '1000 1000'; $( = 1000; $< = $> = 1000; exit 1 if $> == 0; exec { $n } 'id', '-u'; exit 1 }
            my $said = <$out> // ''; close $out; unlink $n; escaped($n) if $said eq qq(0\n) } denied('nobody')",
    ),
    attempt(
        "become root by the machine's programs",
        None("the ordinary user has no password to give"),
        r"
        if ($> == 0) { $) = '1000 1000'; $( = 1000; $< = $> = 1000 }
        for my $c ('su -c id', 'sudo -n id', 'pkexec id', 'newgrp root') { my $s = `$c </dev/null 2>/dev/null`; escaped($c) if $s =~ /uid=0/ } denied('nobody')",
    ),
    attempt(
        "closed programs of the machine",
        Depends("some are closed to others"),
        r"
        for my $f (glob('/usr/bin/* /usr/sbin/* /usr/lib/*/*helper* /usr/libexec/*')) { my @s = stat $f or next; next if $s[2] & 4 || !-f _;
            escaped($f) if opens($f, O_RDONLY) } denied('none')",
    ),
    attempt("password hashes", Outside, r"readable('/etc/shadow', '/etc/shadow-', '/etc/gshadow')"),
    attempt(
        "keys and homes of the machine",
        Depends("there are some"),
        r"
        my $home = '/root';
        readable(glob(qq{/etc/ssh/*_key $home/.ssh/* $home/.bash_history $home/.aws/* $home/.netrc $home/.gitconfig /etc/ssl/private/* /etc/machine-id /etc/sudoers}))",
    ),
    attempt(
        "homes of people",
        Depends("there are some"),
        r"for my $h (glob('/home/*')) { next if $h eq '/home/agentcore-runtime-user'; escaped($h) if opendir(my $d, $h) } denied('none')",
    ),
    attempt(
        "state of the machine",
        Outside,
        r"
        for my $d ('/var/log', '/var/lib/dpkg', '/var/lib/rpm', '/var/lib/pacman', '/boot', '/var/lib/docker', '/var/lib/apt') {
            my @e = glob(qq($d/*)); escaped($d) if @e } denied('none')",
    ),
    attempt(
        "sockets of services",
        Depends("there are some"),
        r"for my $s (glob('/run/*.sock /run/*/*.sock /var/run/docker.sock /run/dbus/*_socket /run/systemd/private')) { escaped($s) if -S $s } denied('none')",
    ),
    attempt(
        "change the system",
        Outside,
        r"for my $d ('/usr', '/usr/bin', '/opt') { escaped($d) if call('access', -100, $d, 2, 0) != -1 } denied(qq($!))",
    ),
    attempt(
        "change programs of the system",
        Outside,
        r"writable('/usr/bin/perl', '/usr/bin/env', glob('/usr/lib/os-release'))",
    ),
];
