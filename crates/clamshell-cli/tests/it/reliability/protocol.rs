//! The shell protocol against a live server, rule by rule (`/ws/shells`).

use clamshell_term::{frame::ShellFrame, status::Status};
use clamshell_testkit::{Client, ShellEvent, ShellSocket};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::{
    at_prompt, confirmed, next_event, open, prompt, run, session_id, shell_json, start, stop, until_closed,
    until_shell,
};

async fn type_text(socket: &mut ShellSocket, text: &str) {
    socket.input(text.as_bytes()).await.unwrap();
}

fn confirmation(shell: &str, reconnected: bool, bytes_dropped: Option<u64>) -> ShellEvent {
    let shell_id = shell.to_owned();
    ShellEvent::Status(Status::Confirmed { shell_id, reconnected, bytes_dropped, offset: None })
}

/// The shell is still there and does what it is told.
async fn assert_alive(client: &Client, session: &str, shell: &str) -> ShellSocket {
    let mut socket = client.shell(session, shell).await.unwrap();
    assert!(confirmed(&mut socket).await, "the shell was ended");
    type_text(&mut socket, "echo ali''ve\n").await;
    socket.read_until("alive\r\n").await.unwrap();
    socket
}

#[tokio::test]
async fn a_shell_confirms_beats_resizes_and_exits() {
    let (_server, client) = start("").await;
    let session = session_id("basics");
    let mut socket = client.shell(&session, "main").await.unwrap();
    assert_eq!(socket.headers["x-amzn-bedrock-agentcore-shell-id"], "main");
    assert_eq!(socket.headers["x-amzn-bedrock-agentcore-runtime-session-id"], session.as_str());
    assert_eq!(socket.headers["x-clamshell-shell-offset"], "0");
    assert_eq!(next_event(&mut socket).await, confirmation("main", false, None));
    prompt(&mut socket).await;

    socket.send(&ShellFrame::Heartbeat).await.unwrap();
    assert_eq!(next_event(&mut socket).await, ShellEvent::Heartbeat);

    socket.send(&ShellFrame::Resize { width: 100, height: 40 }).await.unwrap();
    type_text(&mut socket, "stty size\n").await;
    socket.read_until("40 100\r\n").await.unwrap();
    // Neither a resize that is none nor an unknown channel harms.
    socket.message(Message::Binary(b"\x04{\"width\":0,\"height\":1}".to_vec().into())).await.unwrap();
    socket.message(Message::Binary(b"\x7fwhat".to_vec().into())).await.unwrap();
    socket.message(Message::Binary(Vec::new().into())).await.unwrap();
    type_text(&mut socket, "stty size; echo en''d\n").await;
    let seen = socket.read_until("end\r\n").await.unwrap();
    assert!(String::from_utf8_lossy(&seen).contains("40 100\r\n"));

    for (text, code, signal) in [("exit 0\n", 0, None), ("exit 7\n", 7, None), ("kill -9 $$\n", 137, Some(9))]
    {
        type_text(&mut socket, text).await;
        let (_, others, close) = until_closed(&mut socket).await;
        assert_eq!(
            (others, close),
            (vec![ShellEvent::Status(Status::Exited { code, signal })], 1000),
            "{text}"
        );
        // The id is free again: a new shell.
        socket = client.shell(&session, "main").await.unwrap();
        assert_eq!(next_event(&mut socket).await, confirmation("main", false, None));
    }
}

#[tokio::test]
async fn close_ends_a_shell_and_leaving_does_not() {
    let (_server, client) = start("").await;
    let session = session_id("leaving");
    let mut socket = open(&client, &session, "main").await;
    type_text(&mut socket, "answer=42\n").await;
    prompt(&mut socket).await;
    socket.message(Message::Close(None)).await.unwrap();
    until_closed(&mut socket).await;
    until_shell(&client, &session, "main", "detached", |it| it["state"] == "Detached").await;

    let mut socket = client.shell(&session, "main").await.unwrap();
    assert_eq!(next_event(&mut socket).await, confirmation("main", true, None));
    socket.cut();
    until_shell(&client, &session, "main", "detached", |it| it["state"] == "Detached").await;

    let mut socket = client.shell(&session, "main").await.unwrap();
    assert_eq!(next_event(&mut socket).await, confirmation("main", true, None));
    type_text(&mut socket, "echo still $answer\n").await;
    socket.read_until("still 42\r\n").await.unwrap();
    socket.send(&ShellFrame::Close).await.unwrap();
    let (_, others, close) = until_closed(&mut socket).await;
    assert_eq!(
        (others, close),
        (vec![ShellEvent::Status(Status::Exited { code: 129, signal: Some(1) })], 1000)
    );
    assert_eq!(shell_json(&client, &session, "main").await["state"], "Ended");
}

#[tokio::test]
async fn a_second_client_replaces_the_first() {
    let (_server, client) = start("").await;
    let session = session_id("replaced");
    let mut first = open(&client, &session, "main").await;
    let mut second = client.shell(&session, "main").await.unwrap();
    assert_eq!(next_event(&mut second).await, confirmation("main", true, None));
    assert_eq!(until_closed(&mut first).await.2, 4000);
    type_text(&mut second, "echo se''cond\n").await;
    second.read_until("second\r\n").await.unwrap();
}

#[tokio::test]
async fn of_two_claims_at_the_same_instant_one_is_refused() {
    let (_server, client) = start("").await;
    let session = session_id("claims");
    run(&client, &session, "true").await;
    for _ in 0..50 {
        let (one, two) = tokio::join!(client.shell(&session, "main"), client.shell(&session, "main"));
        match (one, two) {
            (Ok(_), Ok(_)) => {}
            (Ok(mut socket), Err(refusal)) | (Err(refusal), Ok(mut socket)) => {
                let refusal = refusal.to_string();
                assert!(refusal.contains("409") && refusal.contains("claimed"), "{refusal}");
                next_event(&mut socket).await;
                type_text(&mut socket, "echo win''ner\n").await;
                socket.read_until("winner\r\n").await.unwrap();
                return;
            }
            (Err(one), Err(two)) => panic!("both were refused: {one}, {two}"),
        }
    }
    panic!("no two claims met in 50 rounds");
}

#[tokio::test]
async fn a_session_has_ten_shells() {
    let (_server, client) = start("").await;
    let session = session_id("eleven");
    let mut sockets = Vec::new();
    for number in 0..10 {
        sockets.push(open(&client, &session, &format!("shell-{number}")).await);
    }
    // Detached ones count.
    sockets.pop().unwrap().cut();
    let refusal = client.shell(&session, "eleventh").await.unwrap_err().to_string();
    assert!(refusal.starts_with("424 ") && refusal.contains(r#""error":"ShellLimitExceeded""#), "{refusal}");
    let bad = client.shell(&session, "no/id").await.unwrap_err().to_string();
    assert!(bad.starts_with("424 ") && bad.contains(r#""error":"#), "{bad}");
    type_text(&mut sockets[0], "exit\n").await;
    assert_eq!(until_closed(&mut sockets[0]).await.2, 1000);
    open(&client, &session, "eleventh").await;
}

#[tokio::test]
async fn text_messages_are_borne_four_times() {
    let (_server, client) = start("").await;
    let session = session_id("text");
    let mut socket = open(&client, &session, "main").await;
    for _ in 0..2 {
        for _ in 0..4 {
            socket.message(Message::Text("hello".into())).await.unwrap();
        }
        socket.send(&ShellFrame::Heartbeat).await.unwrap();
        assert_eq!(next_event(&mut socket).await, ShellEvent::Heartbeat);
    }
    for _ in 0..5 {
        socket.message(Message::Text("hello".into())).await.unwrap();
    }
    assert_eq!(until_closed(&mut socket).await.2, 1003);
    assert_alive(&client, &session, "main").await;
}

#[tokio::test]
async fn messages_above_the_limit_end_the_connection_only() {
    let (_server, client) = start("").await;
    let session = session_id("long");
    let mut socket = open(&client, &session, "main").await;
    type_text(&mut socket, "stty raw -echo; echo re''ady; head -c 65536 | sha256sum; stty sane\n").await;
    socket.read_until("ready\n").await.unwrap();
    let mut message = vec![b'x'; 65_537];
    message[0] = 0;
    socket.message(Message::Binary(message.clone().into())).await.unwrap();
    // sha256 of 65536 times `x`.
    socket.read_until("1f8745f0d2d1387ec1af2211a3cf417b2e9e885e853472649c1d979d0e9370e3").await.unwrap();
    message.push(b'x');
    socket.message(Message::Binary(message.into())).await.unwrap();
    assert_eq!(until_closed(&mut socket).await.2, 1009);
    let mut socket = assert_alive(&client, &session, "main").await;
    // Far above it as well, in many pieces or one.
    let _ = socket.message(Message::Binary(vec![0; 1 << 20].into())).await;
    assert!(matches!(until_closed(&mut socket).await.2, 1009 | 1006));
    assert_alive(&client, &session, "main").await;
}

#[tokio::test]
async fn more_than_250_frames_a_second_end_the_connection_only() {
    let (_server, client) = start("").await;
    let session = session_id("flood");
    let mut socket = open(&client, &session, "main").await;
    for _ in 0..1000 {
        if socket.send(&ShellFrame::Stdin(b"")).await.is_err() {
            break;
        }
    }
    assert_eq!(until_closed(&mut socket).await.2, 1008);
    assert_alive(&client, &session, "main").await;
}

#[tokio::test]
async fn a_connection_has_a_time_to_live_and_the_shell_has_not() {
    let (_server, client) = start("[shells]\nconnection_ttl_s = 1\n").await;
    let session = session_id("ttl");
    let mut socket = client.shell(&session, "main").await.unwrap();
    assert!(!confirmed(&mut socket).await);
    assert_eq!(until_closed(&mut socket).await.2, 1008);
    let mut socket = client.shell(&session, "main").await.unwrap();
    assert!(confirmed(&mut socket).await, "the shell lives on");
    assert_eq!(until_closed(&mut socket).await.2, 1008);
}

#[tokio::test]
async fn stopping_the_session_closes_with_1001() {
    let (_server, client) = start("").await;
    let session = session_id("stopped");
    let mut socket = open(&client, &session, "main").await;
    let mut watcher = client.attach(&session, "main", "access=watch").await.unwrap();
    let (reply, (_, others, code)) = tokio::join!(stop(&client, &session), until_closed(&mut socket));
    assert_eq!((reply.status.as_u16(), others, code), (200, vec![], 1001));
    assert_eq!(until_closed(&mut watcher).await.2, 1001);
}

#[tokio::test]
async fn detached_shells_end_after_their_time_unless_kept_and_busy() {
    let (_server, client) = start("[shells]\ndetached_timeout_s = 1\n").await;
    let session = session_id("reaped");
    let mut kept = client.attach(&session, "kept", "create=true&keep=true&from=offset:0").await.unwrap();
    prompt(&mut kept).await;
    type_text(&mut kept, "sleep 1000\n").await;
    kept.read_until("sleep 1000\r\n").await.unwrap();
    kept.cut();
    let mut busy = open(&client, &session, "busy").await;
    type_text(&mut busy, "sleep 1000\n").await;
    busy.read_until("sleep 1000\r\n").await.unwrap();
    busy.cut();
    open(&client, &session, "idle").await.cut();
    // Watching is not being attached.
    let mut watcher = client.attach(&session, "idle", "access=watch&from=end").await.unwrap();
    for shell in ["busy", "idle"] {
        let ended = until_shell(&client, &session, shell, "ended", |it| it["state"] == "Ended").await;
        assert_eq!((&ended["endReason"], &ended["signal"]), (&json!("Exited"), &json!(1)), "{ended}");
    }
    assert_eq!(until_closed(&mut watcher).await.2, 1000);
    // It was left before the others, so its time was over before theirs.
    assert_eq!(shell_json(&client, &session, "kept").await["state"], "Detached");

    let mut kept = client.attach(&session, "kept", "from=end").await.unwrap();
    assert!(confirmed(&mut kept).await);
    type_text(&mut kept, "\x03").await;
    prompt(&mut kept).await;
    kept.cut();
    until_shell(&client, &session, "kept", "ended", |it| it["state"] == "Ended").await;
}

#[tokio::test]
async fn a_returning_client_gets_256_kib_and_the_count_of_what_it_missed() {
    let (mut server, client) = start("").await;
    let session = session_id("replay");
    let mut socket = open(&client, &session, "main").await;
    type_text(
        &mut socket,
        "echo be''gun; until [ -e /tmp/go ]; do sleep 0.02; done; seq 200000; echo all''done\n",
    )
    .await;
    // From here on it prints nothing before it is told to.
    socket.read_until("begun\r\n").await.unwrap();
    socket.cut();
    let detached = until_shell(&client, &session, "main", "detached", |it| it["state"] == "Detached").await;
    let seen = detached["endOffset"].as_u64().unwrap();
    run(&client, &session, "touch /tmp/go").await;
    let log_end = async || {
        let before = shell_json(&client, &session, "main").await["endOffset"].as_u64().unwrap();
        let tail = super::log_bytes(&client, &session, "main").await;
        (before, tail)
    };
    let log = clamshell_testkit::eventually("all is printed", super::PATIENCE, async || {
        let (end, log) = log_end().await;
        if String::from_utf8_lossy(&log[log.len().saturating_sub(100)..]).contains("\nalldone\r\n")
            && at_prompt(&log)
        {
            Ok(log)
        } else {
            Err(end)
        }
    })
    .await;

    let mut socket = client.shell(&session, "main").await.unwrap();
    let from = log.len() - 256 * 1024;
    assert_eq!(socket.headers["x-clamshell-shell-offset"], from.to_string().as_str());
    let dropped = from as u64 - seen;
    assert_eq!(next_event(&mut socket).await, confirmation("main", true, Some(dropped)));
    let mut replay = Vec::new();
    let second = loop {
        match next_event(&mut socket).await {
            ShellEvent::Output(bytes) => {
                assert!(bytes.len() < 64 * 1024);
                replay.extend_from_slice(&bytes);
            }
            other => break other,
        }
    };
    assert_eq!(second, confirmation("main", true, Some(dropped)));
    super::follower::assert_same("replay", &replay, &log[from..]);
    // It stays the shell's count.
    socket.cut();
    let mut socket = client.shell(&session, "main").await.unwrap();
    assert_eq!(next_event(&mut socket).await, confirmation("main", true, Some(dropped)));
    // Whatever becomes of the server.
    server.kill_9().unwrap();
    until_closed(&mut socket).await;
    server.start_again().await.unwrap();
    let mut socket = client.shell(&session, "main").await.unwrap();
    assert_eq!(next_event(&mut socket).await, confirmation("main", true, Some(dropped)));
    assert_alive(&client, &session, "main").await;
}
