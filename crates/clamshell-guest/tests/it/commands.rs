//! Commands: output, exit, time, killing.

use std::time::Instant;

use clamshell_protocol::{CommandSpec, ErrorCode, Exit, Frame, Reply, Request, WireError};

use crate::guest::{Connection, Guest, command, is_alive, wait_until};

struct Ran {
    pid: u32,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    exit: Option<Exit>,
}

fn collect(mut connection: Connection) -> Ran {
    let Reply::Started { pid } = connection.reply() else { panic!("not started") };
    let mut ran = Ran { pid, stdout: Vec::new(), stderr: Vec::new(), exit: None };
    for frame in connection.rest() {
        assert_eq!(ran.exit, None, "exit is the last frame");
        match frame {
            Frame::Stdout(bytes) => ran.stdout.extend(bytes),
            Frame::Stderr(bytes) => ran.stderr.extend(bytes),
            Frame::Exit(exit) => ran.exit = Some(exit),
            other => panic!("{other:?}"),
        }
    }
    ran
}

fn code(code: i32) -> Option<Exit> {
    Some(Exit { code, signal: None, timed_out: false })
}

fn refused(reply: &Reply) -> ErrorCode {
    match reply {
        Reply::Error(WireError { code, .. }) => *code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn outputs_stay_apart_and_the_exit_is_told() {
    let guest = Guest::start();
    let ran = collect(guest.run(command("echo out; echo err >&2; exit 7")));
    assert_eq!((&ran.stdout[..], &ran.stderr[..], ran.exit), (&b"out\n"[..], &b"err\n"[..], code(7)));
    let ran = collect(guest.run(command("kill -TERM $$")));
    assert_eq!(ran.exit, Some(Exit { code: 143, signal: Some(15), timed_out: false }));
}

#[test]
fn hello_tells_the_protocol() {
    let guest = Guest::start();
    let Reply::Hello(info) = guest.ask(Request::Hello) else { panic!("no hello") };
    assert_eq!((info.protocol, info.shells, info.commands), (1, 0, 0));
}

#[test]
fn a_program_gets_its_environment_its_folder_and_three_descriptors() {
    let guest = Guest::start();
    let spec = CommandSpec {
        argv: [
            "sh",
            "-c",
            "pwd; ls /proc/self/fd | wc -l; grep -E 'Sig(Blk|Ign)' /proc/self/status; umask; env | sort",
        ]
        .map(str::to_owned)
        .into(),
        cwd: "/usr".to_owned(),
        env: [("PATH", "/usr/bin:/bin"), ("A", "b=c")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..command("")
    };
    let ran = collect(guest.run(spec));
    // `ls` has its own fourth descriptor; shells add PWD and friends of their own.
    let stdout = String::from_utf8(ran.stdout).unwrap();
    let lines: Vec<_> = stdout
        .lines()
        .filter(|line| !matches!(line.split('=').next(), Some("PWD" | "OLDPWD" | "SHLVL" | "_")))
        .collect();
    assert_eq!(
        lines,
        [
            "/usr",
            "4",
            "SigBlk:\t0000000000000000",
            "SigIgn:\t0000000000000000",
            "0022",
            "A=b=c",
            "PATH=/usr/bin:/bin"
        ]
    );
}

#[test]
fn what_cannot_start_is_refused() {
    let guest = Guest::start();
    let start = |argv: &[&str], cwd: &str| {
        let argv = argv.iter().map(|argument| (*argument).to_owned()).collect();
        guest.ask(Request::Command(CommandSpec { argv, cwd: cwd.to_owned(), ..command("") }))
    };
    assert_eq!(refused(&start(&["no-such-program"], "/")), ErrorCode::SpawnFailed);
    assert_eq!(refused(&start(&["/etc/passwd"], "/")), ErrorCode::SpawnFailed);
    assert_eq!(refused(&start(&["true"], "/no/such/folder")), ErrorCode::SpawnFailed);
    assert_eq!(refused(&start(&[], "/")), ErrorCode::Invalid);
    assert_eq!(refused(&start(&["true", "a\0b"], "/")), ErrorCode::Invalid);
}

#[test]
fn a_timeout_kills_the_whole_tree() {
    let guest = Guest::start();
    let spec = CommandSpec {
        timeout_ms: Some(300),
        ..command("setsid sleep 1000 & echo $!; sleep 1000 & echo $!; (setsid sleep 1000 & echo $!); wait")
    };
    let ran = collect(guest.run(spec));
    assert_eq!(ran.exit, Some(Exit { code: 137, signal: Some(9), timed_out: true }));
    let children: Vec<i32> =
        String::from_utf8(ran.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(children.len(), 3);
    for pid in children {
        wait_until("child is killed", || if is_alive(pid) { Err(format!("{pid} lives")) } else { Ok(()) });
    }
}

#[test]
fn hanging_up_kills_the_tree_unless_it_is_to_go_on() {
    let guest = Guest::start();
    for keep_running in [false, true] {
        let mut connection = guest.run(CommandSpec { keep_running, ..command("sleep 1000 & echo $!; wait") });
        let Reply::Started { pid } = connection.reply() else { panic!("not started") };
        let Some(Frame::Stdout(line)) = connection.next() else { panic!("no output") };
        let child: i32 = String::from_utf8(line).unwrap().trim().parse().unwrap();
        drop(connection);
        if keep_running {
            // By then the guest has seen the end of the connection.
            let Reply::Hello(info) = guest.ask(Request::Hello) else { panic!("no hello") };
            assert_eq!(info.commands, 1);
            assert!(is_alive(child) && is_alive(pid as i32));
        } else {
            wait_until("the tree is killed", || match (is_alive(child), is_alive(pid as i32)) {
                (false, false) => Ok(()),
                state => Err(format!("{state:?}")),
            });
        }
    }
}

#[test]
fn kill_ends_a_command() {
    let guest = Guest::start();
    let mut connection = guest.run(command("sleep 1000"));
    assert!(matches!(connection.reply(), Reply::Started { .. }));
    connection.send(&Frame::Kill);
    let exit = Exit { code: 137, signal: Some(9), timed_out: false };
    assert_eq!(connection.rest(), [Frame::Exit(exit)]);
}

#[test]
fn a_background_child_does_not_hold_up_the_exit() {
    let guest = Guest::start();
    let begun = Instant::now();
    let ran = collect(guest.run(command("sleep 1000 & echo done")));
    assert_eq!((&ran.stdout[..], ran.exit), (&b"done\n"[..], code(0)));
    assert!(begun.elapsed().as_secs() < 5);
    assert!(ran.pid > 0);
}

#[test]
fn standard_input_reaches_the_program_and_ends() {
    let guest = Guest::start();
    let mut connection = guest.run(CommandSpec { stdin: true, ..command("sha256sum; echo end") });
    let data: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    for piece in data.chunks(60_000) {
        connection.send(&Frame::Input(piece.to_vec()));
    }
    connection.send(&Frame::InputEnd);
    let ran = collect(connection);
    let mut reference = std::process::Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut reference.stdin.take().unwrap(), &data).unwrap();
    let expect = [reference.wait_with_output().unwrap().stdout, b"end\n".to_vec()].concat();
    assert_eq!(String::from_utf8(ran.stdout), String::from_utf8(expect));
    let ran = collect(guest.run(command("cat; echo end")));
    assert_eq!(ran.stdout, b"end\n");
}

#[test]
fn ten_megabytes_arrive_to_the_byte_at_a_slow_reader() {
    let guest = Guest::start();
    let mut connection = guest.run(command("seq 1 1500000; seq 1 10 >&2"));
    assert!(matches!(connection.reply(), Reply::Started { .. }));
    // Not read: the program soon blocks in its write, and others are served meanwhile.
    let ran = collect(guest.run(command("echo hi")));
    assert_eq!(ran.stdout, b"hi\n");
    let mut at = 0_u32;
    let mut line = Vec::new();
    let mut exit = None;
    for frame in connection.rest() {
        match frame {
            Frame::Stdout(bytes) => {
                for byte in bytes {
                    if byte == b'\n' {
                        at += 1;
                        assert_eq!(std::str::from_utf8(&line).unwrap(), at.to_string());
                        line.clear();
                    } else {
                        line.push(byte);
                    }
                }
            }
            Frame::Stderr(_) => {}
            Frame::Exit(ended) => exit = Some(ended),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((at, exit), (1_500_000, code(0)));
}

#[test]
fn nonsense_ends_only_its_own_connection() {
    let guest = Guest::start();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0, 0, 0, 5], &[2, 0, 0, 0, 1, b'{', b'}'], &[0xff; 64]]
    {
        let mut connection = guest.connect();
        std::io::Write::write_all(&mut connection.stream, bytes).unwrap();
        assert_eq!(connection.rest(), []);
    }
    assert!(matches!(guest.ask(Request::Hello), Reply::Hello(_)));
}
