//! Shells: terminals that outlive their connections.

use std::time::Instant;

use clamshell_protocol::{
    Access, AttachFrom, ErrorCode, Exit, Frame, Reply, Request, ShellInfo, ShellSpec, WireError,
};
use clamshell_term::log::{EventKind, LogReader};

use crate::guest::{Guest, PATIENCE, is_alive, shell, wait_until};

fn list(guest: &Guest) -> Vec<ShellInfo> {
    match guest.ask(Request::ShellList) {
        Reply::Shells { shells } => shells,
        other => panic!("{other:?}"),
    }
}

fn attach_error(guest: &Guest, shell_id: &str, create: Option<ShellSpec>, from: AttachFrom) -> ErrorCode {
    let request = Request::Shell {
        shell_id: shell_id.to_owned(),
        create: create.map(Box::new),
        from,
        access: Access::Write,
        lead_bytes_max: None,
        answers_when_told: false,
    };
    match guest.ask(request) {
        Reply::Error(WireError { code, .. }) => code,
        other => panic!("{other:?}"),
    }
}

/// All output until the end, checked for holes.
fn output(connection: &mut crate::guest::Connection, mut at: u64) -> (Vec<u8>, Option<Exit>) {
    let mut seen = Vec::new();
    let mut exit = None;
    for frame in connection.rest() {
        assert_eq!(exit, None);
        match frame {
            Frame::Output { offset, bytes } => {
                assert_eq!(offset, at);
                at += bytes.len() as u64;
                seen.extend(bytes);
            }
            Frame::CaughtUp { offset } => assert_eq!(offset, at),
            Frame::Exit(ended) => exit = Some(ended),
            other => panic!("{other:?}"),
        }
    }
    (seen, exit)
}

fn lines(count: u32) -> Vec<u8> {
    (1..=count).flat_map(|at| format!("{at}\r\n").into_bytes()).collect()
}

#[test]
fn input_is_echoed_and_the_exit_is_told() {
    let guest = Guest::start();
    let (opened, mut writer) = guest.attach("a", Some(shell("")), AttachFrom::End, Access::Write);
    assert!(opened.created);
    assert_eq!((opened.run_offset, opened.end_offset, opened.cols, opened.rows), (0, 0, 80, 24));
    let (_, at) = writer.until("$ ", 0);
    writer.input("echo $((6*7)); tty; stty size\n");
    let (seen, at) = writer.until("24 80\r\n", at);
    assert!(seen.contains("42\r\n") && seen.contains("/dev/pts/"), "{seen}");
    writer.input("exit 3\n");
    let (_, exit) = output(&mut writer, at);
    assert_eq!(exit, Some(Exit { code: 3, signal: None, timed_out: false }));
    let ended = &list(&guest)[0];
    assert_eq!((ended.shell_id.as_str(), ended.exit, ended.writers), ("a", exit, 0));
    assert_eq!(attach_error(&guest, "a", None, AttachFrom::End), ErrorCode::NotFound);
}

#[test]
fn a_signal_is_told_as_such() {
    let guest = Guest::start();
    let (_, mut writer) = guest.attach("a", Some(shell("kill -KILL $$")), AttachFrom::End, Access::Write);
    let (_, exit) = output(&mut writer, 0);
    assert_eq!(exit, Some(Exit { code: 137, signal: Some(9), timed_out: false }));
}

#[test]
fn megabytes_arrive_to_the_byte_and_stay_readable() {
    let guest = Guest::start();
    let (_, mut writer) = guest.attach("a", Some(shell("seq 1 1300000")), AttachFrom::End, Access::Write);
    let expect = lines(1_300_000);
    assert!(expect.len() > 10 << 20);
    let (seen, exit) = output(&mut writer, 0);
    assert!(seen == expect, "{} bytes of {}", seen.len(), expect.len());
    assert_eq!(exit, Some(Exit { code: 0, signal: None, timed_out: false }));
    let reader = LogReader::open(&guest.shells(), "a").unwrap();
    let mut stored = vec![0; expect.len() + 1];
    assert_eq!(reader.read_at(0, &mut stored).unwrap(), expect.len());
    assert!(stored[..expect.len()] == expect[..]);
    assert_eq!(reader.extent().unwrap(), (0, expect.len() as u64));
    assert_eq!(reader.meta().unwrap().exit.map(|exit| exit.code), Some(0));
    let kinds: Vec<_> = reader.events(0, 100_000).unwrap().iter().map(|event| event.kind).collect();
    assert_eq!(kinds.first(), Some(&EventKind::Start { cols: 80, rows: 24 }));
    assert_eq!(kinds.last(), Some(&EventKind::End));
}

#[test]
fn coming_back_loses_nothing() {
    let guest = Guest::start();
    let script = "read x; seq 1 200000; read x; seq 200001 400000; read x";
    let (_, mut first) = guest.attach("a", Some(shell(script)), AttachFrom::End, Access::Write);
    first.input("go\n");
    let (mut seen, mut at) = first.until("1000\r\n", 0);
    drop(first);
    // While nobody is there the shell goes on.
    wait_until("the program writes on", || match list(&guest)[0].end_offset {
        end if end > 1_200_000 => Ok(()),
        end => Err(format!("{end}")),
    });
    let (opened, mut second) = guest.attach("a", None, AttachFrom::Offset(at), Access::Write);
    assert_eq!((opened.created, opened.from_offset, opened.start_offset), (false, at, 0));
    assert!(opened.seen_offset >= at);
    let (more, end) = second.until("200000\r\n", at);
    seen.push_str(&more);
    second.input("go\n");
    let (more, end) = second.until("400000\r\n", end);
    seen.push_str(&more);
    at = end;
    second.input("go\n");
    let (rest, exit) = output(&mut second, at);
    assert_eq!(exit.map(|exit| exit.code), Some(0));
    seen.push_str(&String::from_utf8(rest).unwrap());
    let expect = String::from_utf8(lines(400_000)).unwrap();
    assert!(seen.replace("go\r\n", "") == expect);
}

#[test]
fn input_sent_right_before_hanging_up_arrives() {
    let guest = Guest::start();
    let script = "stty raw; echo ready; head -c 600000 | wc -c";
    for shell_id in ["a", "b", "c", "d", "e"] {
        let (_, mut writer) = guest.attach(shell_id, Some(shell(script)), AttachFrom::End, Access::Write);
        writer.until("ready\n", 0);
        // More than the guest reads at once, and its echo finds nobody.
        for _ in 0..12 {
            writer.input(&"x".repeat(50_000));
        }
        drop(writer);
        wait_until("the program has its input", || {
            match list(&guest).iter().find(|shell| shell.shell_id == shell_id).and_then(|shell| shell.exit) {
                Some(exit) if exit.code == 0 => Ok(()),
                other => Err(format!("{shell_id}: {other:?}")),
            }
        });
        let reader = LogReader::open(&guest.shells(), shell_id).unwrap();
        let mut end = [0; 16];
        let count = reader.read_at(reader.extent().unwrap().1 - 16, &mut end).unwrap();
        let end = String::from_utf8_lossy(&end[..count]);
        assert!(end.contains("600000"), "{end}");
    }
}

#[test]
fn every_kind_of_attachment_starts_where_it_says() {
    let guest = Guest::start();
    let (_, mut writer) = guest.attach("a", Some(shell("")), AttachFrom::End, Access::Write);
    let (_, at) = writer.until("$ ", 0);
    writer.input("printf '%s%s\\n' mar ker; sleep 1000\n");
    let (_, end) = writer.until("marker\r\n", at);
    let (opened, mut tail) = guest.attach("a", None, AttachFrom::Tail(8), Access::Watch);
    assert_eq!(opened.from_offset, end - 8);
    assert_eq!(
        [tail.next(), tail.next()],
        [
            Some(Frame::Output { offset: end - 8, bytes: b"marker\r\n".to_vec() }),
            Some(Frame::CaughtUp { offset: end })
        ]
    );
    let (opened, mut live) = guest.attach("a", None, AttachFrom::End, Access::Watch);
    assert_eq!((opened.from_offset, live.next()), (end, Some(Frame::CaughtUp { offset: end })));
    let (opened, mut all) = guest.attach("a", None, AttachFrom::Offset(0), Access::Watch);
    assert_eq!(opened.from_offset, 0);
    assert_eq!(all.until("marker\r\n", 0).1, end);
    let (opened, mut screen) = guest.attach("a", None, AttachFrom::Screen, Access::Watch);
    assert_eq!((opened.from_offset, opened.created), (end, false));
    let Some(Frame::Screen { offset, bytes }) = screen.next() else { panic!("no screen") };
    assert_eq!((offset, String::from_utf8_lossy(&bytes).contains("marker")), (end, true));
    assert_eq!(screen.next(), Some(Frame::CaughtUp { offset: end }));
    assert_eq!(attach_error(&guest, "a", None, AttachFrom::Offset(end + 1)), ErrorCode::OffsetOutOfRange);
    let info = &list(&guest)[0];
    assert_eq!((info.writers, info.watchers, info.detached_at_ms), (1, 4, None));
    // One that watches cannot type, resize or kill.
    live.input("nonsense\n");
    live.send(&Frame::Resize { cols: 5, rows: 5 });
    live.send(&Frame::Kill);
    writer.send(&Frame::Resize { cols: 100, rows: 30 });
    assert_eq!(live.next(), Some(Frame::Resized { cols: 100, rows: 30 }));
    let info = &list(&guest)[0];
    assert_eq!((info.cols, info.rows, info.exit), (100, 30, None));
    writer.send(&Frame::Kill);
    let (_, exit) = output(&mut writer, end);
    assert_eq!(exit.and_then(|exit| exit.signal), Some(1));
}

#[test]
fn the_screen_comes_after_megabytes_of_output() {
    let guest = Guest::start();
    let script = "seq 1 600000; printf '\\033[2J\\033[3;4Hpicture'; sleep 1000";
    let (_, mut writer) = guest.attach("a", Some(shell(script)), AttachFrom::End, Access::Write);
    let (_, end) = writer.until("picture", 0);
    let begun = Instant::now();
    let (opened, mut screen) = guest.attach("a", None, AttachFrom::Screen, Access::Watch);
    assert_eq!(opened.from_offset, end);
    let Some(Frame::Screen { bytes, .. }) = screen.next() else { panic!("no screen") };
    assert!(String::from_utf8_lossy(&bytes).contains("picture"));
    assert!(begun.elapsed() < PATIENCE / 4, "{:?}", begun.elapsed());
}

#[test]
fn a_small_log_is_trimmed_and_the_gap_is_told() {
    let guest = Guest::start();
    let spec = ShellSpec { log_bytes_max: 64 * 1024, ..shell("seq 1 100000; sleep 1000") };
    let (_, mut writer) = guest.attach("a", Some(spec), AttachFrom::End, Access::Write);
    let (_, end) = writer.until("100000\r\n", 0);
    let (opened, mut late) = guest.attach("a", None, AttachFrom::Offset(5), Access::Watch);
    assert!(opened.start_offset > 5 && end - opened.start_offset <= 64 * 1024);
    assert_eq!(opened.from_offset, opened.start_offset);
    assert_eq!(late.next(), Some(Frame::Gap { from: 5, to: opened.start_offset }));
    assert_eq!(late.until("100000\r\n", opened.start_offset).1, end);
}

#[test]
fn what_no_writer_can_be_given_is_counted_for_the_whole_run() {
    let guest = Guest::start();
    let until_end = |at_least: u64| {
        let begun = Instant::now();
        loop {
            let (opened, _) = guest.attach("a", None, AttachFrom::End, Access::Watch);
            if opened.end_offset >= at_least {
                return opened;
            }
            assert!(begun.elapsed() < PATIENCE, "{opened:?}");
        }
    };
    let script = "echo be''gun; read go; seq 1 100000; read go; seq 1 100000; sleep 1000";
    let spec = ShellSpec { log_bytes_max: 64 * 1024, ..shell(script) };
    let (opened, mut writer) = guest.attach("a", Some(spec), AttachFrom::Tail(1000), Access::Write);
    assert_eq!((opened.created, opened.dropped_bytes), (true, 0));
    let (_, seen) = writer.until("begun\r\n", 0);
    writer.input("\n");
    drop(writer);
    let printed = lines(100_000).len() as u64;
    // The echo of the line, too.
    let end = until_end(seen + 2 + printed).end_offset;

    // One that only watches, or asks for something else, changes nothing.
    let (opened, _) = guest.attach("a", None, AttachFrom::Tail(10), Access::Watch);
    assert_eq!(opened.dropped_bytes, 0);
    let (opened, writer) = guest.attach("a", None, AttachFrom::Tail(1000), Access::Write);
    let lost = end - 1000 - opened.seen_offset;
    assert_eq!((opened.from_offset, opened.dropped_bytes), (end - 1000, lost));
    drop(writer);
    // Counted once: the second time nothing is missing any more.
    let (opened, mut writer) = guest.attach("a", None, AttachFrom::Tail(1000), Access::Write);
    assert_eq!((opened.from_offset, opened.dropped_bytes), (end - 1000, lost));
    // A gap below what a writer saw is news to this one and no loss.
    let (_, mut old) = guest.attach("a", None, AttachFrom::Offset(5), Access::Write);
    assert!(matches!(old.next(), Some(Frame::Gap { from: 5, .. })));
    assert_eq!(until_end(0).dropped_bytes, lost);
    drop(old);
    writer.input("\n");
    drop(writer);
    let end = until_end(end + 2 + printed).end_offset;
    let (opened, _) = guest.attach("a", None, AttachFrom::Tail(1000), Access::Write);
    assert_eq!(opened.dropped_bytes, lost + (end - 1000 - opened.seen_offset));
}

#[test]
fn a_slow_but_live_reader_loses_nothing_of_a_small_log() {
    let guest = Guest::start();
    let spec = ShellSpec { log_bytes_max: 64 * 1024, ..shell("seq 1 400000") };
    let (_, mut slow) = guest.attach("a", Some(spec), AttachFrom::End, Access::Write);
    let (seen, _) = output(&mut slow, 0);
    assert!(seen == lines(400_000));
}

#[test]
fn a_stuck_watcher_holds_up_nobody() {
    let guest = Guest::start();
    let (_, _stuck) = guest.attach("a", Some(shell("read x; seq 1 300000")), AttachFrom::End, Access::Watch);
    let (_, mut writer) = guest.attach("a", None, AttachFrom::End, Access::Write);
    writer.input("\n");
    let (seen, exit) = output(&mut writer, 0);
    assert!(seen.ends_with(b"300000\r\n"));
    assert_eq!(exit.map(|exit| exit.code), Some(0));
}

#[test]
fn a_stuck_reader_is_waited_for_and_then_told_of_the_gap() {
    let guest = Guest::start();
    let spec = ShellSpec { log_bytes_max: 64 * 1024, ..shell("read x; seq 1 300000") };
    let (_, mut stuck) = guest.attach("a", Some(spec), AttachFrom::End, Access::Watch);
    let (_, mut writer) = guest.attach("a", None, AttachFrom::End, Access::Write);
    let begun = Instant::now();
    writer.input("\n");
    let (seen, exit) = output(&mut writer, 0);
    assert!(seen.ends_with(b"300000\r\n"));
    assert_eq!(exit.map(|exit| exit.code), Some(0));
    assert!(begun.elapsed().as_secs() >= 4);
    let frames = stuck.rest();
    let gaps: Vec<_> = frames.iter().filter(|frame| matches!(frame, Frame::Gap { .. })).collect();
    assert_eq!((gaps.len(), frames.last()), (1, exit.map(Frame::Exit).as_ref()));
}

#[test]
fn a_program_is_held_for_a_writer_that_asks_for_it() {
    const LEAD: u64 = 64 * 1024;
    let guest = Guest::start();
    let spec = shell("read x; seq 1 300000");
    let (_, mut writer) = guest.attach_led("a", Some(spec), AttachFrom::End, Access::Write, Some(LEAD));
    writer.input("\n");
    // Nothing is read here: all there is fits between the two, far less than the program would write.
    let held = wait_until_still(|| list(&guest)[0].end_offset);
    assert!(held > LEAD && held < 1 << 20, "{held}");
    let (seen, exit) = output(&mut writer, 0);
    assert!(seen[2..] == lines(300_000)[..]);
    assert_eq!(exit.map(|exit| exit.code), Some(0));
}

#[test]
fn the_fastest_writer_sets_the_pace_and_a_watcher_none() {
    let guest = Guest::start();
    let spec = shell("read x; seq 1 300000");
    let (_, mut fast) = guest.attach_led("a", Some(spec), AttachFrom::End, Access::Write, Some(65_536));
    let (_, _slow) = guest.attach_led("a", None, AttachFrom::End, Access::Write, Some(65_536));
    let (_, _watcher) = guest.attach_led("a", None, AttachFrom::End, Access::Watch, Some(65_536));
    let begun = Instant::now();
    fast.input("\n");
    let (seen, exit) = output(&mut fast, 0);
    assert!(seen[2..] == lines(300_000)[..]);
    assert_eq!(exit.map(|exit| exit.code), Some(0));
    assert!(begun.elapsed().as_secs() < 4);
}

/// What a writer was told until the output has `text`: whether it answers what stands there.
fn answers_until(connection: &mut crate::guest::Connection, text: &str, mut answers: bool) -> bool {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(text) {
        match connection.next() {
            Some(Frame::Answers(news)) => {
                assert_ne!(news, answers, "no news");
                answers = news;
            }
            Some(Frame::Output { bytes, .. }) => seen.extend(bytes),
            Some(Frame::CaughtUp { .. }) => {}
            other => panic!("waiting for {text:?}: {other:?}"),
        }
    }
    answers
}

#[test]
fn the_one_who_typed_last_answers_for_all() {
    let guest = Guest::start();
    let mut first = guest.attach_discreet("a", Some(shell("while read x; do echo got-$x; done")));
    let mut second = guest.attach_discreet("a", None);
    let (_, mut watcher) = guest.attach("a", None, AttachFrom::End, Access::Watch);
    first.input("1\n");
    assert!(answers_until(&mut first, "got-1", false));
    assert!(!answers_until(&mut second, "got-1", false));
    second.input("2\n");
    assert!(!answers_until(&mut first, "got-2", true));
    assert!(answers_until(&mut second, "got-2", false));
    // A terminal that cannot be told is the only one that answers.
    let (_, other) = guest.attach("a", None, AttachFrom::End, Access::Write);
    first.input("3\n");
    assert!(!answers_until(&mut first, "got-3", false));
    assert!(!answers_until(&mut second, "got-3", true));
    drop(other);
    wait_until("it is gone", || match list(&guest)[0].writers {
        2 => Ok(()),
        count => Err(format!("{count} writers")),
    });
    second.input("4\n");
    assert!(!answers_until(&mut first, "got-4", false));
    assert!(answers_until(&mut second, "got-4", false));
    // Who answers leaves: the other one does, and those who watch never did.
    drop(second);
    wait_until("it is gone", || match list(&guest)[0].writers {
        1 => Ok(()),
        count => Err(format!("{count} writers")),
    });
    first.input("5\n");
    assert!(answers_until(&mut first, "got-5", false));
    watcher.until("got-5", 0);
}

/// The value once it has been above zero and the same for a while.
fn wait_until_still(mut value: impl FnMut() -> u64) -> u64 {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let now = value();
        if now != last {
            (last, since) = (now, Instant::now());
        } else if now > 0 && since.elapsed().as_millis() >= 500 {
            return now;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_disk_that_takes_no_more_stops_the_program_and_loses_nothing() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let guest = Guest::start();
    let (_, mut writer) =
        guest.attach("a", Some(shell("read x; seq 1 100000")), AttachFrom::End, Access::Write);
    let limit = |bytes| {
        let pid = Pid::from_raw(guest.pid() as i32);
        prlimit(pid, Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
    };
    limit(Some(100_000));
    writer.input("\n");
    wait_until("the log is full", || match list(&guest)[0].end_offset {
        100_000 => Ok(()),
        end => Err(format!("{end}")),
    });
    limit(None);
    let (seen, exit) = output(&mut writer, 0);
    assert!(seen[2..] == lines(100_000)[..]);
    assert_eq!(exit.map(|exit| exit.code), Some(0));
}

#[test]
fn a_large_paste_arrives_whole() {
    let guest = Guest::start();
    let script = "stty raw -echo; printf ready; head -c 3000000 | sha256sum";
    let (_, mut writer) = guest.attach("a", Some(shell(script)), AttachFrom::End, Access::Write);
    let (_, at) = writer.until("ready", 0);
    let paste: Vec<u8> = (0..3_000_000_u32).map(|at| b'a' + (at % 23) as u8).collect();
    for piece in paste.chunks(50_000) {
        writer.send(&Frame::Input(piece.to_vec()));
    }
    let (seen, _) = output(&mut writer, at);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("paste"), &paste).unwrap();
    let expect =
        std::process::Command::new("sha256sum").current_dir(&folder).arg("paste").output().unwrap().stdout;
    assert_eq!(&seen[..64], &expect[..64]);
}

#[test]
fn shells_are_limited_and_ids_checked() {
    let guest = Guest::start();
    let two = || ShellSpec { shells_max: 2, ..shell("") };
    let (_, _a) = guest.attach("a", Some(two()), AttachFrom::End, Access::Write);
    let (_, _b) = guest.attach("b", Some(two()), AttachFrom::End, Access::Write);
    assert_eq!(attach_error(&guest, "c", Some(two()), AttachFrom::End), ErrorCode::TooManyShells);
    for id in ["", "../x", ".", "a/b", "-x"] {
        assert_eq!(attach_error(&guest, id, Some(shell("")), AttachFrom::End), ErrorCode::Invalid);
    }
    let missing = ShellSpec { argv: vec!["/no/such/shell".to_owned()], ..shell("") };
    assert_eq!(attach_error(&guest, "d", Some(missing), AttachFrom::End), ErrorCode::SpawnFailed);
    assert_eq!(
        attach_error(&guest, "e", Some(shell("")), AttachFrom::Offset(1)),
        ErrorCode::OffsetOutOfRange
    );
    let ids: Vec<_> = list(&guest).into_iter().map(|info| info.shell_id).collect();
    assert_eq!(ids, ["a", "b"]);
    assert_eq!(LogReader::list(&guest.shells()).unwrap(), ["a", "b"]);
}

#[test]
fn offsets_go_on_over_runs_and_over_guests() {
    let mut guest = Guest::start();
    let (_, mut first) = guest.attach("a", Some(shell("printf one")), AttachFrom::End, Access::Write);
    assert_eq!(output(&mut first, 0).0, b"one");
    let (opened, mut second) =
        guest.attach("a", Some(shell("printf two; sleep 1000")), AttachFrom::Offset(0), Access::Write);
    assert_eq!((opened.created, opened.run_offset, opened.end_offset), (true, 3, 3));
    assert_eq!(second.until("onetwo", 0).1, 6);
    guest.restart();
    let info = &list(&guest)[0];
    assert_eq!((info.end_offset, info.exit.and_then(|exit| exit.signal)), (6, Some(9)));
    let (opened, mut third) =
        guest.attach("a", Some(shell("printf three")), AttachFrom::Tail(100), Access::Write);
    assert_eq!((opened.run_offset, opened.start_offset, opened.from_offset), (6, 0, 6));
    assert_eq!(output(&mut third, 6).0, b"three");
}

#[test]
fn closing_ends_the_whole_session() {
    let guest = Guest::start();
    let script = "trap '' HUP; sleep 1000 & echo $!; wait; sleep 1000";
    let (_, mut writer) = guest.attach("a", Some(shell(script)), AttachFrom::End, Access::Write);
    let (seen, at) = writer.until("\r\n", 0);
    let child: i32 = seen.trim().parse().unwrap();
    assert!(is_alive(child));
    let reply = guest.ask(Request::ShellClose { shell_id: "a".to_owned(), grace_ms: 50 });
    assert_eq!(reply, Reply::Done);
    wait_until("the child is killed", || if is_alive(child) { Err("lives".to_owned()) } else { Ok(()) });
    assert_eq!(output(&mut writer, at).1.and_then(|exit| exit.signal), Some(9));
    let again = guest.ask(Request::ShellClose { shell_id: "a".to_owned(), grace_ms: 50 });
    assert!(matches!(again, Reply::Error(WireError { code: ErrorCode::NotFound, .. })));
}

#[test]
fn a_shell_that_overhears_the_hang_up_is_told_again() {
    let guest = Guest::start();
    for round in 0..24 {
        let shell_id = format!("shell-{round}");
        let (_, mut writer) = guest.attach(&shell_id, Some(shell("")), AttachFrom::End, Access::Write);
        let (_, at) = writer.until("$ ", 0);
        writer.input("echo now''\n");
        // It is about to wait for its next line.
        let (_, at) = writer.until("now\r\n", at);
        writer.send(&Frame::Kill);
        // Killed would be 9.
        assert_eq!(output(&mut writer, at).1.and_then(|exit| exit.signal), Some(1), "{shell_id}");
    }
}

#[test]
fn a_detached_shell_ends_in_time_unless_kept_busy() {
    let guest = Guest::start();
    let short = |keep| ShellSpec { detached_timeout_ms: Some(50), keep, ..shell("") };
    let (_, mut idle) = guest.attach("idle", Some(short(false)), AttachFrom::End, Access::Write);
    let (_, mut busy) = guest.attach("busy", Some(short(true)), AttachFrom::End, Access::Write);
    idle.until("$ ", 0);
    let (_, at) = busy.until("$ ", 0);
    // Said by the program in the foreground: before it is there the shell is not busy.
    busy.input("sh -c 'echo run; exec sleep 1000'\n");
    busy.until("run\r\n", at);
    // Watching does not count.
    let (_, _watcher) = guest.attach("idle", None, AttachFrom::End, Access::Watch);
    drop((idle, busy));
    wait_until("the idle shell ends", || match list(&guest)[..] {
        [ref busy, ref idle] if busy.exit.is_none() && idle.exit.is_some() => Ok(()),
        ref other => Err(format!("{other:?}")),
    });
}

#[test]
fn shutdown_ends_everything() {
    let mut guest = Guest::start();
    let (_, mut writer) =
        guest.attach("a", Some(shell("sleep 1000 & echo $!; wait")), AttachFrom::End, Access::Write);
    let (seen, _) = writer.until("\r\n", 0);
    let child: i32 = seen.trim().parse().unwrap();
    assert_eq!(guest.ask(Request::Shutdown { grace_ms: 2000 }), Reply::Done);
    assert!(guest.wait_for_end());
    assert!(!is_alive(child));
    let meta = LogReader::open(&guest.shells(), "a").unwrap().meta().unwrap();
    assert!(meta.exit.is_some() && meta.ended_at_ms.is_some());
}

#[test]
fn an_idle_guest_is_small_and_sleeps() {
    let guest = Guest::start();
    let (_, mut writer) = guest.attach("a", Some(shell("")), AttachFrom::End, Access::Write);
    writer.until("$ ", 0);
    let stat = || std::fs::read_to_string(format!("/proc/{}/status", guest.pid())).unwrap();
    let anonymous = stat().lines().find_map(|line| line.strip_prefix("RssAnon:").map(str::to_owned)).unwrap();
    let kilobytes: u64 = anonymous.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 4096, "{kilobytes} kB");
}
