//! `clamshell exec --it` at a terminal: type, leave, come back, lose the server, look on.

use std::path::Path;

use rustix::process::Signal;

use super::program::{Terminal, command, run, server};

/// Starts `exec --it` and waits for the shell; gives the session id.
fn open(data_dir: &Path, more: &[&str]) -> (Terminal, String) {
    let args: Vec<&str> = ["exec", "--it"].into_iter().chain(more.iter().copied()).collect();
    let mut terminal = Terminal::start(command(data_dir, &args));
    terminal.expect("Connecting to agent VM...");
    terminal.expect("[connected · session ");
    let session = terminal.expect(" · Ctrl+D or 'exit' to quit · Ctrl+] to detach]");
    let session = session.split(' ').next().unwrap().to_owned();
    (terminal, session)
}

/// Leaves with Ctrl+]; gives the shell id of the hint.
fn detach(mut terminal: Terminal) -> String {
    terminal.send("\x1d");
    terminal.expect("[detached]\r\n[to reconnect:]\r\n  clamshell exec --it \\\r\n    --runtime arn:");
    terminal.expect("--shell-id ");
    let shell = terminal.expect("\r\n").trim().to_owned();
    assert!(terminal.is_cooked());
    assert_eq!(terminal.end().0, Some(0));
    shell
}

#[tokio::test]
async fn a_shell_is_left_and_found_again() {
    let Some(server) = server("").await else { return };
    let data_dir = server.data_dir();
    let (mut terminal, session) = open(data_dir, &[]);
    terminal.send("KEPT=still; stty size; echo ready-$((6 * 7))\n");
    terminal.expect("40 120");
    terminal.expect("ready-42");
    assert!(!terminal.is_cooked());
    terminal.resize(91, 33);
    terminal.send("while [ \"$(stty size)\" != '33 91' ]; do :; done; echo size-$((1 + 1))\n");
    terminal.expect("size-2");
    let shell = detach(terminal);

    let (mut terminal, again) = open(data_dir, &["--session-id", &session, "--shell-id", &shell]);
    assert_eq!(again, session);
    terminal.send("echo it-is-$KEPT; exit 7\n");
    terminal.expect("it-is-still");
    terminal.expect("[session closed · exit 7]");
    assert_eq!(terminal.end().0, Some(7));

    // It has ended, so its id now makes a new one, and the user is told.
    let args = ["exec", "--it", "--session-id", &session, "--shell-id", &shell];
    let mut terminal = Terminal::start(command(data_dir, &args));
    terminal.expect("[info] Previous shell session has ended. Starting a new shell");
    terminal.expect("[connected");
    terminal.send("echo now-${KEPT:-fresh}\n");
    terminal.expect("now-fresh");
}

#[tokio::test]
async fn a_killed_server_costs_no_byte() {
    let Some(mut server) = server("").await else { return };
    let data_dir = server.data_dir().to_owned();
    let (mut terminal, _) = open(&data_dir, &[]);
    terminal.send(
        "stty -echo; PS1=; for i in $(seq 1 400); do echo \"<$i>\"; sleep 0.01; done; echo all-$((1 + 1))\n",
    );
    let mut shown = terminal.expect("<30>");
    server.kill_9().unwrap();
    shown.push_str(&terminal.expect("\n[disconnected"));
    assert!(terminal.is_cooked());
    terminal.expect("reconnecting (1/5)...]");
    server.start_again().await.unwrap();
    terminal.expect("[reconnected]\r\n");
    shown = shown.trim_end_matches("[disconnected").trim_end_matches("\r\n").to_owned();
    shown.push_str(&terminal.expect("all-2"));
    let numbers: Vec<u32> = shown
        .split('<')
        .filter_map(|piece| piece.split_once('>').and_then(|(number, _)| number.parse().ok()))
        .collect();
    assert_eq!(numbers, (1..=400).collect::<Vec<u32>>());
    terminal.send("exit\n");
    terminal.expect("[session closed · exit 0]");
    assert_eq!(terminal.end().0, Some(0));
}

#[tokio::test]
async fn another_client_takes_the_shell_over() {
    let Some(server) = server("").await else { return };
    let data_dir = server.data_dir();
    let (terminal, session) = open(data_dir, &[]);
    let shell = detach(terminal);
    let flags = ["--session-id", &session, "--shell-id", &shell];
    let (mut first, _) = open(data_dir, &flags);
    let (mut second, _) = open(data_dir, &flags);
    first.expect("[session attached from another client · not reconnecting]");
    assert_eq!(first.end().0, Some(1));
    second.send("echo mine-$((1 + 1))\n");
    second.expect("mine-2");
}

#[tokio::test]
async fn onlookers_see_and_do_not_touch() {
    let Some(server) = server("").await else { return };
    let data_dir = server.data_dir();
    let (mut writer, session) = open(data_dir, &[]);
    writer.send("echo first-$((1 + 1))\n");
    writer.expect("first-2");
    let shells = run(data_dir, &["shells", "list", "--json"]).json();
    let shell = shells["shells"][0]["shellId"].as_str().unwrap();
    let mut watcher = Terminal::start(command(data_dir, &["shells", "watch", shell]));
    watcher.expect(&format!("[watching · session {session} · shell {shell}"));
    watcher.expect("first-2");
    watcher.send("echo not-typed\n");
    writer.send("echo second-$((1 + 1))\n");
    let seen = watcher.expect("second-2");
    assert!(!seen.contains("not-typed"), "{seen}");
    watcher.send("\x03");
    watcher.expect("[stopped watching]");
    assert_eq!(watcher.end().0, Some(0));
    writer.send("exit\n");
    writer.expect("[session closed · exit 0]");
}

#[tokio::test]
async fn shells_are_listed_read_recorded_and_closed() {
    let Some(server) = server("").await else { return };
    let data_dir = server.data_dir();
    let (mut terminal, session) = open(data_dir, &["--keep"]);
    terminal.send("echo logged-$((1 + 1))\n");
    terminal.expect("logged-2");
    let shell = detach(terminal);
    let listed = run(data_dir, &["shells"]).ok();
    assert!(listed.contains(&shell) && listed.contains(&session), "{listed}");
    let shown = run(data_dir, &["shells", "show", &shell, "--json"]).json();
    assert_eq!((&shown["shellId"], &shown["keep"]), (&shell.as_str().into(), &true.into()));
    assert!(run(data_dir, &["shells", "show", &shell[..8]]).ok().contains("output kept:"));
    let log = run(data_dir, &["shells", "log", &shell]).ok();
    let at = log.find("logged-2").unwrap();
    let offset = shown["startOffset"].as_u64().unwrap() + u64::try_from(at).unwrap();
    let tail = run(data_dir, &["shells", "log", &shell, "--from", &offset.to_string()]).ok();
    assert!(tail.starts_with("logged-2"), "{tail}");
    let recording = run(data_dir, &["shells", "export", &shell]).ok();
    let header: serde_json::Value = serde_json::from_str(recording.lines().next().unwrap()).unwrap();
    assert_eq!(header["version"], 2);
    assert!(recording.contains("logged-2"));
    let closed = run(data_dir, &["shells", "close", &shell, "--json"]).json();
    assert_eq!(closed["shellId"], shell.as_str());
    assert_eq!(run(data_dir, &["shells", "show", &shell, "--json"]).json()["state"], "Ended");
    assert!(run(data_dir, &["shells", "log", &shell]).ok().contains("logged-2"));
}

#[tokio::test]
async fn a_signal_leaves_the_terminal_as_it_was() {
    let Some(server) = server("").await else { return };
    let (mut terminal, _) = open(server.data_dir(), &[]);
    terminal.send("printf '\\033[?1049h'; echo full-$((1 + 1))\n");
    terminal.expect("full-2");
    assert!(!terminal.is_cooked());
    super::program::signal(&terminal.child, Signal::TERM);
    // Out of the alternate screen, then the hint.
    terminal.expect("\x1b[?1049l");
    terminal.expect("[to reconnect:]");
    assert!(terminal.is_cooked());
    assert_eq!(terminal.end().0, Some(143));
}

#[tokio::test]
async fn a_large_paste_and_large_output_arrive_whole() {
    let Some(server) = server("").await else { return };
    let (mut terminal, _) = open(server.data_dir(), &[]);
    // The program reads raw, so not one byte is taken for a key of the line editor.
    terminal.send("stty raw -echo; echo go-$((1 + 1)); head -c 200000 | md5sum; stty sane; seq 1 50000 | md5sum; seq 1 50000\n");
    terminal.expect("go-2");
    terminal.send(&"0123456789abcdef".repeat(12_500));
    terminal.expect("42377d00f00c0afcb336e90f73918e10");
    terminal.expect("\n1\r\n");
    let shown = terminal.expect("\n50000\r\n");
    let numbers: Vec<u32> = shown.lines().map(|line| line.parse().unwrap_or(0)).filter(|n| *n > 0).collect();
    assert_eq!(numbers, (2..=50_000).collect::<Vec<u32>>());
}
