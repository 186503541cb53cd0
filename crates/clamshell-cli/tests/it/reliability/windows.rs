//! Clients that say how much output they can take: they get no more, lose nothing, and hold the program meanwhile.

use clamshell_term::{frame::ShellFrame, status::Status};
use clamshell_testkit::{ShellEvent, ShellSocket};

use super::{
    at_prompt, follower::assert_same, log_bytes, next_event, open, run, session_id, shell_json, start,
    until_shell,
};

const WINDOW: u64 = 64 * 1024;
/// The largest frame of output: the last one may go beyond the window.
const FRAME: u64 = 64 * 1024;
/// What may lie between the program and a client that takes nothing: the socket of the guest, what the program may
/// be ahead, and what the terminal itself holds.
const BETWEEN: u64 = 1 << 20;

/// Attaches with a window; gives the socket and the offset of the first byte.
async fn attach(client: &clamshell_testkit::Client, session: &str, query: &str) -> (ShellSocket, u64) {
    let mut socket = client.attach(session, "main", &format!("{query}&window={WINDOW}")).await.unwrap();
    let offset = match next_event(&mut socket).await {
        ShellEvent::Status(Status::Confirmed { offset: Some(offset), .. }) => offset,
        other => panic!("{other:?}"),
    };
    match next_event(&mut socket).await {
        ShellEvent::Status(Status::Run { end, cols, rows, .. }) => {
            assert!(end >= offset && cols > 0 && rows > 0, "{end} {cols} {rows}");
        }
        other => panic!("{other:?}"),
    }
    (socket, offset)
}

/// A window's worth of output, and that no more than that comes: not even while heartbeats are answered.
async fn until_held(socket: &mut ShellSocket) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut beats = 0;
    while beats < 2 {
        let is_full = bytes.len() as u64 >= WINDOW;
        if is_full {
            socket.send(&ShellFrame::Heartbeat).await.unwrap();
        }
        match next_event(socket).await {
            ShellEvent::Output(more) => bytes.extend_from_slice(&more),
            ShellEvent::Heartbeat => beats += 1,
            other => panic!("{other:?}"),
        }
    }
    bytes
}

/// The next output, after telling of what was seen: not with every frame, or they would be too many a second.
async fn take(socket: &mut ShellSocket, seen: u64, told: &mut u64) -> Vec<u8> {
    if seen - *told >= WINDOW / 2 {
        *told = seen;
        socket.send(&ShellFrame::Consumed(seen)).await.unwrap();
    }
    match next_event(socket).await {
        ShellEvent::Output(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_gets_no_more_than_its_window_and_then_all_of_it() {
    let (_server, client) = start("").await;
    let session = session_id("window");
    let mut socket = open(&client, &session, "main").await;
    socket
        .input(b"stty -echo; until [ -e /tmp/go ]; do sleep 0.02; done; seq 400000; echo do''ne\n")
        .await
        .unwrap();
    drop(socket);
    let (mut socket, begin) = attach(&client, &session, "from=end").await;
    run(&client, &session, "touch /tmp/go").await;

    let mut seen = until_held(&mut socket).await;
    let held = seen.len() as u64;
    assert!((WINDOW..WINDOW + FRAME).contains(&held), "{held}");
    // The program waits as well, so that Ctrl+C would be answered at once.
    let ahead = |it: &serde_json::Value| it["endOffset"].as_u64().unwrap() - begin - held;
    let shell = until_shell(&client, &session, "main", "program is held", |it| ahead(it) > 0).await;
    assert!(ahead(&shell) < BETWEEN, "{shell}");
    // Claims beyond what was sent are worth no more than the truth.
    socket.send(&ShellFrame::Consumed(u64::MAX)).await.unwrap();
    let more = until_held(&mut socket).await;
    assert!((WINDOW..WINDOW + FRAME).contains(&(more.len() as u64)), "{}", more.len());
    seen.extend(more);

    let mut told = 0;
    while !seen[seen.len().saturating_sub(256)..].windows(6).any(|it| it == b"done\r\n") {
        let bytes = take(&mut socket, seen.len() as u64, &mut told).await;
        seen.extend(bytes);
    }
    let log = log_bytes(&client, &session, "main").await;
    let from = usize::try_from(begin).unwrap();
    assert_same("what was shown", &seen, &log[from..from + seen.len()]);
}

#[tokio::test]
async fn a_flood_stops_at_once_for_a_client_with_a_window() {
    let (_server, client) = start("").await;
    let session = session_id("flood");
    let socket = open(&client, &session, "main").await;
    drop(socket);
    let (mut socket, _) = attach(&client, &session, "from=end").await;
    socket.input(b"yes\n").await.unwrap();
    let (mut seen, mut told) = (0, 0);
    while seen < 4 << 20 {
        seen += take(&mut socket, seen, &mut told).await.len() as u64;
    }
    socket.input(b"\x03").await.unwrap();
    // The kernel's echo of the key and the prompt after it may come in one piece or in many.
    let mut after = Vec::new();
    let echo = loop {
        let bytes = take(&mut socket, seen, &mut told).await;
        seen += bytes.len() as u64;
        after.extend_from_slice(&bytes);
        if let Some(at) = after.windows(2).position(|it| it == b"^C") {
            break at;
        }
    };
    assert!((echo as u64) < BETWEEN, "{echo} bytes came after Ctrl+C");
    while !at_prompt(&after[echo..]) {
        let bytes = take(&mut socket, seen, &mut told).await;
        seen += bytes.len() as u64;
        after.extend_from_slice(&bytes);
    }
}

#[tokio::test]
async fn a_client_that_tells_nothing_holds_nobody_for_long() {
    let (_server, client) = start("[shells]\nlog_mib = 1\n").await;
    let session = session_id("silent");
    let socket = open(&client, &session, "main").await;
    drop(socket);
    let (mut socket, _) = attach(&client, &session, "from=end").await;
    socket.input(b"yes silent\n").await.unwrap();
    let plenty = |it: &serde_json::Value| it["endOffset"].as_u64() > Some(8 << 20);
    until_shell(&client, &session, "main", "program goes on", plenty).await;
    assert_eq!(shell_json(&client, &session, "main").await["state"], "Attached");
    // Back at work it is told of what the log has forgotten meanwhile.
    let mut seen = until_held(&mut socket).await.len() as u64;
    let mut told = 0;
    loop {
        if seen - told >= WINDOW / 2 {
            told = seen;
            socket.send(&ShellFrame::Consumed(seen)).await.unwrap();
        }
        match next_event(&mut socket).await {
            ShellEvent::Output(bytes) => seen += bytes.len() as u64,
            ShellEvent::Status(Status::Gap { from, to, .. }) => {
                assert!(to > from);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
}
