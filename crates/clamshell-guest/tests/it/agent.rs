//! The hosted agent: its start, its user, its log, its end.

use clamshell_protocol::{AgentInfo, AgentSpec, ErrorCode, Exit, Frame, Reply, Request, WireError};
use clamshell_term::log::LogReader;

use crate::guest::{Connection, Guest, command, environment, is_alive, shell, wait_until};

fn agent(script: &str) -> AgentSpec {
    AgentSpec {
        argv: ["sh", "-c", script].map(str::to_owned).into(),
        env: environment(),
        cwd: "/".to_owned(),
        user: String::new(),
        log_bytes_max: 16 << 20,
        stop_signal: None,
    }
}

fn start(guest: &Guest, spec: AgentSpec) -> AgentInfo {
    match guest.ask(Request::AgentStart(Box::new(spec))) {
        Reply::Agent(info) => info,
        other => panic!("{other:?}"),
    }
}

fn refused(reply: &Reply) -> ErrorCode {
    match reply {
        Reply::Error(WireError { code, .. }) => *code,
        other => panic!("{other:?}"),
    }
}

fn show(guest: &Guest) -> AgentInfo {
    match guest.ask(Request::AgentShow) {
        Reply::Agent(info) => info,
        other => panic!("{other:?}"),
    }
}

fn follow(guest: &Guest, from_offset: u64) -> (AgentInfo, Connection) {
    let mut connection = guest.connect();
    connection.send(&Frame::Request(Box::new(Request::AgentLog { from_offset })));
    match connection.reply() {
        Reply::Agent(info) => (info, connection),
        other => panic!("{other:?}"),
    }
}

/// All output from this offset to the end, and the gaps in it.
fn log(guest: &Guest, from_offset: u64) -> (String, Vec<(u64, u64)>, Option<Exit>) {
    let (_, connection) = follow(guest, from_offset);
    rest(connection, from_offset)
}

fn rest(mut connection: Connection, from_offset: u64) -> (String, Vec<(u64, u64)>, Option<Exit>) {
    let (mut seen, mut gaps, mut exit, mut at) = (Vec::new(), Vec::new(), None, from_offset);
    while let Some(frame) = connection.next() {
        assert_eq!(exit, None, "the exit is the last frame");
        match frame {
            Frame::Output { offset, bytes } => {
                assert_eq!(offset, at, "output has a hole");
                at += bytes.len() as u64;
                seen.extend(bytes);
            }
            Frame::Gap { from, to } => {
                assert!(from == at && to > from);
                gaps.push((from, to));
                at = to;
            }
            Frame::Exit(ended) => exit = Some(ended),
            other => panic!("{other:?}"),
        }
    }
    (String::from_utf8(seen).unwrap(), gaps, exit)
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

fn code(code: i32) -> Option<Exit> {
    Some(Exit { code, signal: None, timed_out: false })
}

#[test]
fn an_agent_is_started_once_and_its_end_is_kept() {
    let guest = Guest::start();
    assert_eq!(refused(&guest.ask(Request::AgentShow)), ErrorCode::NotFound);
    assert_eq!(refused(&guest.ask(Request::AgentLog { from_offset: 0 })), ErrorCode::NotFound);
    let first = start(&guest, agent("echo out; echo err >&2; exec sleep 1000"));
    assert_eq!((first.start_offset, first.run_offset, first.exit), (0, 0, None));
    assert!(is_alive(first.pid as i32));
    let again = start(&guest, agent("echo no"));
    assert_eq!((again.pid, again.started_at_ms), (first.pid, first.started_at_ms));
    wait_until("both lines are there", || match show(&guest).end_offset {
        8 => Ok(()),
        end => Err(format!("the log ends at {end}")),
    });
    kill(first.pid);
    let (seen, gaps, exit) = log(&guest, 0);
    let mut lines: Vec<_> = seen.lines().collect();
    lines.sort_unstable();
    assert_eq!((lines, gaps.len()), (vec!["err", "out"], 0));
    let killed = Exit { code: 137, signal: Some(9), timed_out: false };
    assert_eq!(exit, Some(killed));
    assert_eq!(show(&guest).exit, Some(killed));
    assert_eq!(start(&guest, agent("echo no")).exit, Some(killed), "once in a guest's life");
    assert_eq!(log(&guest, 8), (String::new(), Vec::new(), Some(killed)));
    let beyond = guest.ask(Request::AgentLog { from_offset: 9 });
    assert_eq!(refused(&beyond), ErrorCode::OffsetOutOfRange);
}

#[test]
fn what_cannot_start_is_refused_and_may_be_tried_again() {
    let guest = Guest::start();
    let refused = |spec: AgentSpec| refused(&guest.ask(Request::AgentStart(Box::new(spec))));
    assert_eq!(refused(AgentSpec { user: "no-such-user".to_owned(), ..agent("") }), ErrorCode::Invalid);
    assert_eq!(refused(AgentSpec { user: "70000".to_owned(), ..agent("") }), ErrorCode::Invalid);
    assert_eq!(refused(AgentSpec { cwd: "relative".to_owned(), ..agent("") }), ErrorCode::Invalid);
    assert_eq!(refused(AgentSpec { cwd: "/etc/passwd/x".to_owned(), ..agent("") }), ErrorCode::SpawnFailed);
    assert_eq!(refused(AgentSpec { argv: Vec::new(), ..agent("") }), ErrorCode::Invalid);
    assert_eq!(refused(AgentSpec { argv: vec!["no-such".to_owned()], ..agent("") }), ErrorCode::SpawnFailed);
    assert_eq!(refused(AgentSpec { stop_signal: Some(65), ..agent("") }), ErrorCode::Invalid);
    start(&guest, agent("echo yes"));
    assert_eq!(log(&guest, 0), ("yes\n".to_owned(), Vec::new(), code(0)));
}

#[test]
fn an_agent_gets_its_environment_and_a_folder_that_is_made() {
    let guest = Guest::start();
    let folder = guest.shells().join("../made/for/it").display().to_string();
    let script =
        "pwd -P; ls /proc/self/fd | wc -l; readlink /proc/self/fd/0; umask; echo $HOME; env | grep A=";
    let mut spec = AgentSpec { cwd: folder, ..agent(script) };
    spec.env.push(("A".to_owned(), "b=c".to_owned()));
    start(&guest, spec);
    let (seen, _, exit) = log(&guest, 0);
    let lines: Vec<_> = seen.lines().collect();
    assert!(lines[0].ends_with("/made/for/it"), "{seen}");
    assert_eq!((&lines[1..], exit), (&["4", "/dev/null", "0022", "/root", "A=b=c"][..], code(0)));
}

#[test]
fn an_agent_runs_as_the_images_user() {
    // Where the tests are no root nobody else can be become.
    let Some(guest) = Guest::that_switches_users() else { return };
    let script = "id -un > /dev/stdout; : > /dev/stderr && id -G; echo $HOME";
    start(&guest, AgentSpec { user: "daemon".to_owned(), ..agent(script) });
    let expect = std::process::Command::new("sh")
        .args(["-c", "id -un daemon; id -G daemon; getent passwd daemon | cut -d: -f6"])
        .output()
        .unwrap();
    assert_eq!(log(&guest, 0), (String::from_utf8(expect.stdout).unwrap(), Vec::new(), code(0)));
}

#[test]
fn numbers_name_users_and_groups_that_no_file_knows() {
    let Some(guest) = Guest::that_switches_users() else { return };
    start(&guest, AgentSpec { user: "4321:8765".to_owned(), ..agent("id -u; id -G; echo $HOME") });
    assert_eq!(log(&guest, 0).0, "4321\n8765\n/\n");
}

#[test]
fn the_log_goes_on_in_the_next_life_and_is_no_shells() {
    let mut guest = Guest::start();
    start(&guest, agent("echo first life; exit 3"));
    assert_eq!(log(&guest, 0), ("first life\n".to_owned(), Vec::new(), code(3)));
    guest.restart();
    assert_eq!(refused(&guest.ask(Request::AgentShow)), ErrorCode::NotFound);
    let Reply::Shells { shells } = guest.ask(Request::ShellList) else { panic!("no list") };
    assert_eq!(shells, []);
    let info = start(&guest, agent("echo second life"));
    assert_eq!((info.start_offset, info.run_offset), (0, 11));
    assert_eq!(log(&guest, 0), ("first life\nsecond life\n".to_owned(), Vec::new(), code(0)));
    assert_eq!(log(&guest, 11).0, "second life\n");
    let reader = LogReader::open_agent(&guest.shells()).unwrap();
    assert_eq!(reader.extent().unwrap(), (0, 23));
    let meta = reader.meta().unwrap();
    assert_eq!((meta.run_offset, meta.exit.map(|exit| exit.code)), (11, Some(0)));
    assert_eq!(LogReader::list(&guest.shells()).unwrap(), Vec::<String>::new());
    assert!(LogReader::open(&guest.shells(), ".agent").is_err(), "no shell has this id");
}

#[test]
fn lines_of_both_outputs_stay_whole() {
    let guest = Guest::start();
    let script = "(for at in $(seq 1 2000); do printf 'out %s ' $at; echo end; done) & \
        (for at in $(seq 1 2000); do printf 'err %s ' $at; echo end; done) >&2 & wait; printf unended";
    start(&guest, agent(script));
    let (seen, _, exit) = log(&guest, 0);
    assert_eq!(exit, code(0));
    let (mut out, mut err) = (0, 0);
    for line in seen.lines() {
        if line == format!("out {} end", out + 1) {
            out += 1;
        } else if line == format!("err {} end", err + 1) {
            err += 1;
        } else {
            assert_eq!(line, "unended");
        }
    }
    assert_eq!((out, err), (2000, 2000));
}

#[test]
fn a_line_without_an_end_is_shown_after_a_while() {
    let guest = Guest::start();
    start(&guest, agent("printf 'ready? '; exec sleep 1000"));
    let (_, mut connection) = follow(&guest, 0);
    assert_eq!(connection.next(), Some(Frame::Output { offset: 0, bytes: b"ready? ".to_vec() }));
}

#[test]
fn a_flood_stalls_neither_the_agent_nor_anybody_else() {
    let guest = Guest::start();
    let folder = guest.shells();
    let done = folder.join("../done");
    let script =
        format!("yes 'a line of many' | head -c 100000000; touch {}; exec sleep 1000", done.display());
    let spec = AgentSpec { log_bytes_max: 1 << 20, ..agent(&script) };
    let info = start(&guest, spec);
    // One that never reads, and one that came and went.
    let (_, unread) = follow(&guest, 0);
    drop(follow(&guest, 0));
    // Others are served meanwhile.
    let mut echo = guest.run(command("echo hi"));
    assert!(matches!(echo.reply(), Reply::Started { .. }));
    assert_eq!(echo.next(), Some(Frame::Stdout(b"hi\n".to_vec())));
    wait_until("all is written", || if done.exists() { Ok(()) } else { Err(format!("{:?}", show(&guest))) });
    wait_until("all is read", || {
        let info = show(&guest);
        let kept = info.end_offset - info.start_offset;
        assert!(kept <= (1 << 20) + (128 << 10), "{kept} bytes are kept");
        if info.end_offset == 100_000_000 { Ok(()) } else { Err(format!("{info:?}")) }
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", guest.pid())).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    let peak: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(peak < 40_000, "{peak} KiB");
    kill(info.pid);
    let (seen, gaps, exit) = rest(unread, 0);
    assert!(seen.len() < 100_000_000 && !gaps.is_empty() && exit.is_some());
}

#[test]
fn followers_see_what_comes_and_then_the_end() {
    let guest = Guest::start();
    start(
        &guest,
        agent(
            "echo one; read line < /dev/null; while [ ! -e $GO ]; do :; done; echo two; exit 5"
                .replace("$GO", &guest.shells().join("../go").display().to_string())
                .as_str(),
        ),
    );
    let followers: Vec<_> = (0..3).map(|_| follow(&guest, 0).1).collect();
    let (_, mut first) = follow(&guest, 0);
    assert_eq!(first.next(), Some(Frame::Output { offset: 0, bytes: b"one\n".to_vec() }));
    std::fs::write(guest.shells().join("../go"), "").unwrap();
    assert_eq!(rest(first, 4), ("two\n".to_owned(), Vec::new(), code(5)));
    for follower in followers {
        assert_eq!(rest(follower, 0), ("one\ntwo\n".to_owned(), Vec::new(), code(5)));
    }
}

#[test]
fn an_agent_outlives_its_connections_and_what_it_leaves_behind_holds_up_no_end() {
    let guest = Guest::start();
    let info = start(&guest, agent("sleep 1000 & echo $!; exit 0"));
    let (seen, _, exit) = log(&guest, info.run_offset);
    assert_eq!(exit, code(0));
    assert!(is_alive(seen.trim().parse().unwrap()));
}

#[test]
fn a_shutdown_begins_with_the_stop_signal() {
    // What would end it at once does not come to it.
    let script = "trap 'echo stopped; exit 4' INT; trap 'echo wrong' TERM HUP; echo ready; while :; do sleep 0.01; done";
    let mut guest = Guest::start();
    start(&guest, AgentSpec { stop_signal: Some(libc::SIGINT), ..agent(script) });
    let (_, mut connection) = follow(&guest, 0);
    assert_eq!(connection.next(), Some(Frame::Output { offset: 0, bytes: b"ready\n".to_vec() }));
    let shutdown = Request::Shutdown { grace_ms: 15_000 };
    let (_, mut bystander) = guest.attach(
        "a",
        Some(shell("trap 'exit 0' TERM HUP; echo up; while :; do sleep 0.01; done")),
        clamshell_protocol::AttachFrom::Offset(0),
        clamshell_protocol::Access::Write,
    );
    bystander.until("up", 0);
    assert_eq!(guest.ask(shutdown), Reply::Done);
    assert_eq!(rest(connection, 6), ("stopped\n".to_owned(), Vec::new(), code(4)));
    assert!(guest.wait_for_end());
    let meta = LogReader::open_agent(&guest.shells()).unwrap().meta().unwrap();
    assert_eq!(meta.exit.map(|exit| exit.code), Some(4));
}

#[test]
fn an_agent_that_does_not_stop_is_killed() {
    let mut guest = Guest::start();
    start(&guest, agent("trap '' TERM HUP; echo ready; while :; do sleep 0.01; done"));
    let (_, mut connection) = follow(&guest, 0);
    assert!(connection.next().is_some());
    assert_eq!(guest.ask(Request::Shutdown { grace_ms: 100 }), Reply::Done);
    let killed = Exit { code: 137, signal: Some(9), timed_out: false };
    assert_eq!(rest(connection, 6), (String::new(), Vec::new(), Some(killed)));
    assert!(guest.wait_for_end());
    let after = std::os::unix::net::UnixStream::connect(guest.shells().join("../guest.sock"));
    assert!(after.is_err());
}
