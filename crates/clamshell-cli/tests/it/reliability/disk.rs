//! Sessions that write more than they may.

use clamshell_testkit::Client;
use serde_json::{Value, json};

use super::{get_json, run, session_id, sessions::start_with_runtime, until_session};

const QUERY: &str = "?runtime=small";

/// Has a running session write 400 MiB to a file and last.
async fn fill(client: &Client, session: &str, file: &str) -> Value {
    let write = format!("dd if=/dev/zero bs=1M count=400 2>/dev/null > {file}-$n");
    until_stopped_by(client, session, &write).await
}

/// Writes again and again, in case somebody else frees as much meanwhile.
async fn until_stopped_by(client: &Client, session: &str, write: &str) -> Value {
    let command = format!("for n in 1 2 3 4; do {write}; sleep 5; done; sleep 1000");
    // The answer ends with the session, whose state is what matters.
    let (_, stopped) = tokio::join!(
        client.command(session, &command, 600),
        until_session(client, session, QUERY, "session is stopped", |it| it["state"] == "Stopped"),
    );
    stopped
}

#[tokio::test]
async fn who_fills_the_disk_is_stopped_and_nobody_else() {
    let limits = "[runtimes.small.limits]\nscratch_mib = 32\nworkspace_mib = 64";
    let (server, client) = start_with_runtime("small", limits).await;
    let (hoarder, bystander, filler) = (session_id("hoarder"), session_id("bystander"), session_id("filler"));
    for session in [&hoarder, &bystander, &filler] {
        run(&client, session, "true").await;
    }

    let stopped = fill(&client, &hoarder, "/mnt/workspace/big").await;
    assert_eq!(stopped["stopReason"], "DiskLimit", "{stopped}");
    // It wakes with all that it had, to tidy up.
    run(&client, &hoarder, "[ $(stat -c %s /mnt/workspace/big-1) -gt 134217728 ]").await;
    let woken = get_json(&client, &format!("/sessions/{hoarder}{QUERY}")).await;
    assert_eq!(woken["usage"]["overLimit"], true, "{woken}");

    let stopped = fill(&client, &filler, "$HOME/big").await;
    assert_eq!(stopped["stopReason"], "DiskLimit", "{stopped}");
    // What it wrote outside the workspace is gone.
    assert_eq!(run(&client, &filler, "ls $HOME/big* 2>/dev/null | wc -l").await, "0\n");

    // A file without a name takes as much.
    let write = "fd=$((n + 2)); eval \"exec $fd> $HOME/gone\"; rm $HOME/gone; dd if=/dev/zero bs=1M count=400 2>/dev/null >&$fd";
    let stopped = until_stopped_by(&client, &filler, write).await;
    assert_eq!(stopped["stopReason"], "DiskLimit", "{stopped}");

    // The others were measured as well, and the one that had too much when it woke goes on.
    for session in [&hoarder, &bystander] {
        let session = get_json(&client, &format!("/sessions/{session}{QUERY}")).await;
        assert_eq!(
            (session["state"] != "Stopped", &session["stopReason"]),
            (true, &Value::Null),
            "{session}"
        );
    }
    assert_eq!(run(&client, &bystander, "echo still here").await, "still here\n");
    let usage = &get_json(&client, &format!("/sessions/{bystander}{QUERY}")).await["usage"];
    assert_eq!((&usage["workspaceLimitBytes"], usage.get("overLimit")), (&json!(64 << 20), None));
    let log = std::fs::read_to_string(server.data_dir().join("test-server.log")).unwrap();
    assert_eq!(log.matches("session stopped for its use of the disk").count(), 3, "{log}");
}
