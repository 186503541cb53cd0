//! The machine around the sandbox, other sandboxes, the server and the network.

use super::{
    Attempt,
    Proof::{Depends, GuardOff, Neighbor, None, Outside},
    attempt,
};

pub(super) const NEIGHBORS: &[Attempt] = &[
    attempt(
        "see processes of the machine",
        Outside,
        r"
        for my $p (glob('/proc/[0-9]*')) { next if $p eq qq(/proc/$$); escaped($p) if content(qq($p/cmdline)) =~ /\Q$ENV{HOST_MARK}/ } denied('none')",
    ),
    attempt("signal a process of the machine", Outside, r"verdict(kill(0, $ENV{HOST_PID}))"),
    attempt(
        "trace a process of the machine",
        Outside,
        r"granted('ptrace', 0x4206, $ENV{HOST_PID} + 0, 0, 0)",
    ),
    attempt("signal the keeper", Outside, r"verdict(kill(0, $ENV{KEEPER_PID}))"),
    attempt(
        "see processes of a neighbor",
        Neighbor,
        r"
        for my $p (glob('/proc/[0-9]*')) { next if $p eq qq(/proc/$$); escaped($p) if content(qq($p/cmdline)) =~ /\Q$ENV{NEIGHBOR_MARK}/ } denied('none')",
    ),
    attempt("signal a neighbor", Outside, r"verdict(kill(0, $ENV{NEIGHBOR_PID}))"),
    attempt("trace a neighbor", Outside, r"granted('ptrace', 0x4206, $ENV{NEIGHBOR_PID} + 0, 0, 0)"),
    attempt("shared memory of the machine", Outside, r"granted('shmget', $ENV{HOST_SHM} + 0, 0, 0)"),
    attempt("shared memory of a neighbor", Neighbor, r"granted('shmget', $ENV{NEIGHBOR_SHM} + 0, 0, 0)"),
    attempt("files in shared memory", Outside, r"readable(qq(/dev/shm/$ENV{HOST_MARK}))"),
    attempt(
        "abstract socket of the machine",
        Outside,
        r"use Socket; socket(my $s, AF_UNIX, SOCK_STREAM, 0); verdict(connect($s, pack_sockaddr_un(qq(\0$ENV{HOST_MARK}))))",
    ),
    attempt(
        "abstract socket of a neighbor",
        Neighbor,
        r"use Socket; socket(my $s, AF_UNIX, SOCK_STREAM, 0); verdict(connect($s, pack_sockaddr_un(qq(\0$ENV{NEIGHBOR_MARK}))))",
    ),
    attempt(
        "local port of the machine",
        Outside,
        r"use Socket; socket(my $s, AF_INET, SOCK_STREAM, 0); verdict(connect($s, pack_sockaddr_in($ENV{HOST_PORT}, inet_aton('127.0.0.1'))))",
    ),
    attempt(
        "local port of a neighbor",
        Neighbor,
        r"use Socket; socket(my $s, AF_INET, SOCK_STREAM, 0); verdict(connect($s, pack_sockaddr_in($ENV{NEIGHBOR_PORT}, inet_aton('127.0.0.1'))))",
    ),
    attempt(
        "port of the machine by another address",
        Depends("the machine has an address"),
        r"use Socket; chomp(my $h = $ENV{HOST_ADDRESS});
        $h or denied('no address'); socket(my $s, AF_INET, SOCK_STREAM, 0); verdict(connect($s, pack_sockaddr_in($ENV{HOST_PORT}, inet_aton($h))))",
    ),
    attempt(
        "a way out",
        Depends("the machine has one"),
        r"use Socket; socket(my $s, AF_INET, SOCK_DGRAM, 0); verdict(connect($s, pack_sockaddr_in(53, inet_aton('192.0.2.1'))))",
    ),
    attempt(
        "network devices",
        Depends("the machine has some"),
        r"my @n = grep { !m(/lo$) } glob('/sys/class/net/*'); my @l = grep { !/^\s*lo:/ } content('/proc/net/dev') =~ /^(\s*\w+:)/mg; verdict(@n || @l, @n, @l)",
    ),
    attempt(
        "add an address",
        GuardOff,
        r"use Socket; socket(my $s, AF_INET, SOCK_DGRAM, 0); my $r = pack('a16SSa4x16', 'lo:9', AF_INET, 0, inet_aton('127.9.9.9')); verdict(ioctl($s, 0x8916, $r))",
    ),
    attempt(
        "switch off the network",
        GuardOff,
        r"use Socket; socket(my $s, AF_INET, SOCK_DGRAM, 0); my $r = pack('a16Sx22', 'lo', 0x49); verdict(ioctl($s, 0x8914, $r))",
    ),
    attempt(
        "add a route",
        GuardOff,
        r"use Socket; socket(my $s, AF_INET, SOCK_DGRAM, 0); my $r = pack('QS', 0, AF_INET) . chr(0) x 110; reached('ioctl', fileno($s), 0x890B, $r)",
    ),
    attempt(
        "mark packets",
        GuardOff,
        r"use Socket; socket(my $s, AF_INET, SOCK_DGRAM, 0); verdict(setsockopt($s, SOL_SOCKET, 36, pack('I', 1)))",
    ),
    attempt(
        "pretend to be somebody else",
        GuardOff,
        r"use Socket; socket(my $s, AF_INET, SOCK_STREAM, 0); verdict(setsockopt($s, 0, 19, pack('I', 1)))",
    ),
    attempt(
        "take the place of the metadata service",
        None("its address is taken in every sandbox"),
        r"use Socket;
        for my $a ('169.254.169.254', '0.0.0.0') { for my $o (0, 2, 15) { socket(my $s, AF_INET, SOCK_STREAM, 0); setsockopt($s, SOL_SOCKET, $o, pack('I', 1)) if $o;
            escaped($a, $o) if bind($s, pack_sockaddr_in(80, inet_aton($a))) && listen($s, 5) } } denied(qq($!))",
    ),
    attempt(
        "take the address of the metadata service",
        None("its address is taken in every sandbox"),
        r"use Socket; socket(my $s, AF_INET, SOCK_STREAM, 0); connect($s, pack_sockaddr_in(80, inet_aton('169.254.169.254'))) or escaped(qq(it is gone: $!)); denied('it answers')",
    ),
    attempt("folder of the server", Outside, r"verdict(opendir(my $d, $ENV{DATA_DIR}))"),
    attempt("folder of the session", Outside, r"verdict(opendir(my $d, $ENV{SESSION_DIR}))"),
    attempt(
        "above the workspace",
        Outside,
        r"for my $n ('shells', 'run', 'upper', 'upper/fs', 'run/keeper.json') { escaped($n) if -e qq($ENV{WORKSPACE}/../$n) } denied(qq($!))",
    ),
    attempt(
        "above the workspace by descriptor",
        Outside,
        r"opendir(my $d, $ENV{WORKSPACE}) or denied(qq($!)); chdir $d; chdir '..'; verdict(-e 'run/guest.sock' || -e 'shells')",
    ),
    attempt(
        "above the workspace by link",
        Outside,
        r"my $l = qq($ENV{WORKSPACE}/link-$$); symlink('..', $l); my $e = -e qq($l/shells) || -e qq($l/run); unlink $l; verdict($e)",
    ),
    attempt(
        "the machine by link",
        Outside,
        r"my $l = qq($ENV{WORKSPACE}/link-$$); symlink($ENV{HOST_FILE}, $l); my $c = content($l); unlink $l; verdict($c =~ /canary/)",
    ),
    attempt("file of the machine", Outside, r"verdict(content($ENV{HOST_FILE}) =~ /canary/)"),
    attempt(
        "socket of the guest",
        Outside,
        r"use Socket; for my $p (qq($ENV{SESSION_DIR}/run), qq($ENV{WORKSPACE}/../run), '/run', '/') { chdir $p or next;
        socket(my $s, AF_UNIX, SOCK_STREAM, 0); escaped($p) if connect($s, pack_sockaddr_un('guest.sock')) } denied(qq($!))",
    ),
    attempt(
        "sockets by the kernel's list",
        Depends("the guest listens at a path"),
        r"
        for my $l (split /\n/, content('/proc/net/unix')) { escaped($l) if $l =~ /guest\.sock|$ENV{HOST_MARK}/ } denied('none')",
    ),
    attempt(
        "workspace of a neighbor",
        Outside,
        r"verdict(content(qq($ENV{NEIGHBOR_DIR}/workspace/secret)) =~ /neighbor/)",
    ),
    attempt(
        "workspace of a neighbor from inside",
        Neighbor,
        r"verdict(content('/mnt/workspace/secret') =~ /neighbor/)",
    ),
    attempt(
        "names of the machine's folders in mounts",
        None("the kernel shows them to those inside as to those outside"),
        r"
        for my $l (split /\n/, content('/proc/self/mountinfo')) { next if $l =~ m( /mnt/workspace ); escaped($l) if $l =~ /\Q$ENV{SESSION_DIR}/ || $l =~ /\Q$ENV{DATA_DIR}/ } denied('none')",
    ),
    attempt(
        "names of control groups",
        None("a new namespace has its own root"),
        r"verdict(scalar(content('/proc/self/cgroup') =~ /clamshell/))",
    ),
    attempt(
        "all terminals of the machine",
        Outside,
        r"
        my @f; for (1 .. 400) { sysopen(my $f, '/dev/ptmx', O_RDWR | O_NOCTTY) or last; push @f, $f } verdict(@f > 300, scalar @f)",
    ),
    attempt(
        "host files through memory",
        Outside,
        r"verdict(scalar(content('/proc/self/mountinfo') =~ m( / / )) && -e $ENV{HOST_FILE})",
    ),
];
