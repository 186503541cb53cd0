//! Sandboxes that end without being asked: one is killed, or the whole machine goes.

use clamshell_testkit::eventually;
use serde_json::json;

use super::{
    PATIENCE, at_prompt, get_json, log_bytes, open, prompt, run, session_id, shell_json, start, until_closed,
    until_session,
};

#[tokio::test]
async fn after_a_power_cut_everything_written_is_there() {
    let (mut server, client) = start("").await;
    let session = session_id("power-cut");
    run(&client, &session, "head -c 100000 /dev/urandom > /mnt/workspace/file; touch /tmp/left").await;
    let hash = run(&client, &session, "sha256sum /mnt/workspace/file").await;
    let mut logs = Vec::new();
    for shell in ["one", "two", "over"] {
        let mut socket = open(&client, &session, shell).await;
        socket.input(b"echo words of $((6*7))\n").await.unwrap();
        socket.read_until("words of 42\r\n").await.unwrap();
        if shell == "over" {
            socket.input(b"exit 3\n").await.unwrap();
            assert_eq!(until_closed(&mut socket).await.2, 1000);
        }
        let log = eventually("shell has nothing more to say", PATIENCE, async || {
            let log = log_bytes(&client, &session, shell).await;
            if shell == "over" || at_prompt(&log) { Ok(log) } else { Err(log.len()) }
        });
        logs.push((shell, log.await));
    }
    let before = get_json(&client, &format!("/sessions/{session}")).await;

    server.kill_9().unwrap();
    server.kill_9_sandboxes().await.unwrap();
    server.start_again().await.unwrap();

    let after = get_json(&client, &format!("/sessions/{session}")).await;
    assert_eq!((&after["state"], &after["stopReason"]), (&json!("Stopped"), &json!("Lost")), "{after}");
    for name in ["sessionId", "runtimeArn", "qualifier", "createdAt", "startedAt", "driver", "runtimeVersion"]
    {
        assert_eq!(after[name], before[name], "{name}");
    }
    for (shell, log) in &logs {
        let ended = shell_json(&client, &session, shell).await;
        let end = if *shell == "over" { json!("Exited") } else { json!("SessionEnded") };
        assert_eq!((&ended["state"], &ended["endReason"]), (&json!("Ended"), &end), "{ended}");
        assert_eq!(&log_bytes(&client, &session, shell).await, log);
    }
    assert_eq!(shell_json(&client, &session, "over").await["exitCode"], 3);

    assert_eq!(run(&client, &session, "sha256sum /mnt/workspace/file").await, hash);
    assert_eq!(run(&client, &session, "ls /tmp/left 2>/dev/null | wc -l").await, "0\n");
    for (shell, log) in &logs {
        assert_eq!(&log_bytes(&client, &session, shell).await, log, "logs stay when the session runs again");
        assert_eq!(shell_json(&client, &session, shell).await["state"], "Ended");
    }
    assert_eq!(get_json(&client, &format!("/sessions/{session}")).await["stopReason"], json!(null));
}

#[tokio::test]
async fn a_sandbox_that_dies_is_noticed_and_replaced() {
    let (server, client) = start("").await;
    let session = session_id("dies");
    run(&client, &session, "echo kept > /mnt/workspace/file").await;
    let mut socket = open(&client, &session, "main").await;
    server.kill_9_sandboxes().await.unwrap();
    assert_eq!(until_closed(&mut socket).await.2, 1001, "clients may come back");
    let stopped = until_session(&client, &session, "", "session stops", |it| it["state"] == "Stopped").await;
    assert_eq!(stopped["stopReason"], "Lost", "{stopped}");
    assert_eq!(shell_json(&client, &session, "main").await["endReason"], "SessionEnded");
    assert_eq!(run(&client, &session, "cat /mnt/workspace/file").await, "kept\n");
}

#[tokio::test]
async fn the_server_may_be_restarted_politely_as_well() {
    let (mut server, client) = start("").await;
    let session = session_id("polite");
    let mut socket = open(&client, &session, "main").await;
    socket.input(b"answer=42\n").await.unwrap();
    prompt(&mut socket).await;
    let (ended, (_, _, code)) = tokio::join!(server.terminate(), until_closed(&mut socket));
    ended.unwrap();
    assert_eq!(code, 1001);
    server.start_again().await.unwrap();
    let mut socket = client.shell(&session, "main").await.unwrap();
    assert!(super::confirmed(&mut socket).await, "the shell lived on");
    socket.input(b"echo still $answer\n").await.unwrap();
    socket.read_until("still 42\r\n").await.unwrap();
}
