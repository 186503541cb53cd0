//! What is bounded, and what a client is told when a bound is reached.

use clamshell_term::{frame::ShellFrame, status::Status};
use clamshell_testkit::ShellEvent;

use super::{
    confirmed, follower::assert_same, log_bytes, next_event, open, prompt, run, session_id, shell_json,
    start, until_closed, until_shell,
};

#[tokio::test]
async fn a_client_is_told_what_the_log_has_forgotten() {
    let (_server, client) = start("[shells]\nlog_mib = 1\n").await;
    let session = session_id("forgotten");
    let mut socket = open(&client, &session, "main").await;
    let line = b"echo be''gun; until [ -e /tmp/go ]; do sleep 0.02; done; seq 500000; sleep 1000\n";
    socket.input(line).await.unwrap();
    socket.read_until("begun\r\n").await.unwrap();
    socket.cut();
    let detached = until_shell(&client, &session, "main", "detached", |it| it["state"] == "Detached").await;
    let begin = detached["endOffset"].as_u64().unwrap();
    run(&client, &session, "touch /tmp/go").await;
    let printed: Vec<u8> = (1..=500_000).flat_map(|number| format!("{number}\r\n").into_bytes()).collect();
    let end = begin + printed.len() as u64;
    let shell = until_shell(&client, &session, "main", "all is printed", |it| it["endOffset"] == end).await;
    let start_offset = shell["startOffset"].as_u64().unwrap();
    assert!(start_offset > begin && end - start_offset <= 1 << 20, "{shell}");

    let mut socket = client.attach(&session, "main", &format!("from=offset:{begin}")).await.unwrap();
    let mut offset = match next_event(&mut socket).await {
        ShellEvent::Status(Status::Confirmed { offset: Some(offset), .. }) => offset,
        other => panic!("{other:?}"),
    };
    if offset == begin {
        match next_event(&mut socket).await {
            ShellEvent::Status(Status::Gap { from, to, .. }) => {
                assert_eq!((from, to), (begin, start_offset));
                offset = to;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(offset, start_offset);
    let mut bytes = Vec::new();
    while offset + (bytes.len() as u64) < end {
        match next_event(&mut socket).await {
            ShellEvent::Output(more) => bytes.extend_from_slice(&more),
            ShellEvent::Status(Status::Gap { from, to, .. }) => assert_eq!((from, to), (begin, start_offset)),
            other => panic!("{other:?}"),
        }
    }
    assert_same("what is left", &bytes, &printed[usize::try_from(start_offset - begin).unwrap()..]);
    let refusal = client.attach(&session, "main", &format!("from=offset:{}", end + 1)).await.unwrap_err();
    assert!(refusal.to_string().starts_with("400 "), "{refusal}");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_let_go_and_the_program_goes_on() {
    let (_server, client) = start("[shells]\nstall_timeout_s = 1\nlog_mib = 1\n").await;
    let session = session_id("stalled");
    let mut socket = open(&client, &session, "main").await;
    socket.input(b"yes stalled\n").await.unwrap();
    // More than all sockets and the log hold together.
    let plenty = |it: &serde_json::Value| it["endOffset"].as_u64() > Some(32 << 20);
    until_shell(&client, &session, "main", "program goes on", plenty).await;
    until_shell(&client, &session, "main", "client is let go", |it| it["state"] == "Detached").await;
    let (output, _, _) = until_closed(&mut socket).await;
    assert!(!output.is_empty());
    let mut socket = client.shell(&session, "main").await.unwrap();
    assert!(confirmed(&mut socket).await);
    socket.input(b"\x03").await.unwrap();
    prompt(&mut socket).await;
}

#[tokio::test]
async fn a_program_that_reads_nothing_keeps_nobody_from_talking() {
    let (_server, client) = start("").await;
    let session = session_id("deaf");
    let mut socket = open(&client, &session, "main").await;
    let line = b"stty raw -echo; printf 're%s' ady; until [ -e /tmp/go ]; do sleep 0.02; done; head -c 2097152 | sha256sum; stty sane\n";
    socket.input(line).await.unwrap();
    socket.read_until("ready").await.unwrap();
    for _ in 0..64 {
        socket.input(&[b'x'; 32 * 1024]).await.unwrap();
    }
    socket.send(&ShellFrame::Heartbeat).await.unwrap();
    assert_eq!(next_event(&mut socket).await, ShellEvent::Heartbeat);
    assert_eq!(shell_json(&client, &session, "main").await["state"], "Attached");
    // And what was typed waits for it.
    run(&client, &session, "touch /tmp/go").await;
    let hash = run(&client, &session, "head -c 2097152 /dev/zero | tr '\\0' x | sha256sum").await;
    socket.read_until(hash.trim()).await.unwrap();
    assert!(!log_bytes(&client, &session, "main").await.is_empty());

    // Beyond what is held the connection ends; the shell does not.
    socket.input(b"stty raw -echo; printf 're%s' ady; sleep 1000\n").await.unwrap();
    socket.read_until("ready").await.unwrap();
    for _ in 0..240 {
        if socket.input(&[b'x'; 32 * 1024]).await.is_err() {
            break;
        }
    }
    assert_eq!(until_closed(&mut socket).await.2, 1008);
    let mut socket = client.shell(&session, "main").await.unwrap();
    assert!(confirmed(&mut socket).await);
}
