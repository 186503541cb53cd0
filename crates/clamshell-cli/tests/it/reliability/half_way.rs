//! `kill -9` of the server while it makes sessions, and while it ends them.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use clamshell_testkit::{ServerProcess, eventually, within};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{PATIENCE, get_json, open, run, session_id, start, stop, until_closed};

/// Session folders in which `part` exists; the folders themselves for `""`.
fn folders_with(server: &ServerProcess, part: &str) -> usize {
    let Ok(sessions) = std::fs::read_dir(server.data_dir().join("sessions")) else { return 0 };
    sessions.flatten().filter(|session| session.path().join(part).exists()).count()
}

/// Keepers of this data directory, by their command lines.
fn keepers(data_dir: &Path) -> usize {
    let data_dir = data_dir.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let keepers = processes.filter(|process| {
        let line = std::fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        line.starts_with(data_dir) && line.ends_with("\0keeper\0")
    });
    // The first thing a keeper does with its specification is to lead a session; the spare one has none yet.
    let working = keepers.filter(|process| {
        let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        let session = stat.rsplit(')').next().unwrap_or_default().split_whitespace().nth(3);
        session.is_some_and(|session| *session == *process.file_name())
    });
    working.count()
}

/// Waits without giving the processor away for long: what it waits for is over in milliseconds.
async fn promptly(wanted: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !wanted() {
        assert!(Instant::now() < deadline, "it did not happen");
        tokio::task::yield_now().await;
    }
}

fn states(sessions: &Value) -> Vec<&str> {
    sessions["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|session| session["state"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_server_killed_while_it_makes_sessions_leaves_no_half_ones() {
    let (mut server, client) = start("standby = false\n").await;
    let mut made = Vec::new();
    for (round, part) in ["", "run", "run/guest.sock", "run/keeper.json"].iter().cycle().take(12).enumerate()
    {
        let names: Vec<String> = (0..2).map(|number| session_id(&format!("half-{round}-{number}"))).collect();
        let before = folders_with(&server, part);
        let mut calls = JoinSet::new();
        for name in &names {
            let (client, name) = (client.clone(), name.clone());
            calls.spawn(async move {
                let _ = client.command(&name, "echo first > /mnt/workspace/file", 60).await;
            });
        }
        promptly(|| folders_with(&server, part) > before).await;
        server.kill_9().unwrap();
        while within("calls end", PATIENCE, calls.join_next()).await.is_some() {}
        server.start_again().await.unwrap();
        made.extend(names);

        let sessions = get_json(&client, "/sessions").await;
        let states = states(&sessions);
        assert!(states.iter().all(|state| ["Active", "Idle", "Stopped"].contains(state)), "{states:?}");
        let running = states.iter().filter(|state| **state != "Stopped").count();
        eventually("nothing runs that is not known", PATIENCE, async || {
            let keepers = keepers(server.data_dir());
            if keepers == running { Ok(()) } else { Err((keepers, running)) }
        })
        .await;
    }
    // Every one of them can be used, and ended, as if nothing had happened.
    for name in &made {
        run(&client, name, "echo second > /mnt/workspace/file").await;
        assert_eq!(stop(&client, name).await.status, 200);
        assert_eq!(run(&client, name, "cat /mnt/workspace/file").await, "second\n");
        assert_eq!(stop(&client, name).await.status, 200);
    }
    assert_eq!(keepers(server.data_dir()), 0);
}

#[tokio::test]
async fn a_server_killed_while_it_stops_a_session_finishes_when_it_is_back() {
    let (mut server, client) = start("standby = false\n").await;
    let session = session_id("half-stopped");
    run(&client, &session, "echo kept > /mnt/workspace/file").await;
    let mut shell = open(&client, &session, "deaf").await;
    shell.input(b"trap '' TERM HUP; echo deaf; while :; do sleep 0.1; done\n").await.unwrap();
    shell.read_until("deaf\r\n").await.unwrap();
    let mut calls = JoinSet::new();
    {
        let (client, session) = (client.clone(), session.clone());
        calls.spawn(async move {
            let headers = [(super::SESSION_HEADER, session.as_str())];
            client.request("POST", &client.runtime_path("stopruntimesession"), &headers, b"{}").await.is_ok()
        });
    }
    // The client is let go after the intention was written down, and the deaf program holds up the rest.
    assert_eq!(until_closed(&mut shell).await.2, 1001);
    server.kill_9().unwrap();
    assert_eq!(calls.join_next().await.unwrap().ok(), Some(false), "nobody was told that it is done");
    server.start_again().await.unwrap();
    let stopped = get_json(&client, &format!("/sessions/{session}")).await;
    assert_eq!(
        (&stopped["state"], &stopped["stopReason"]),
        (&json!("Stopped"), &json!("Requested")),
        "{stopped}"
    );
    assert_eq!(keepers(server.data_dir()), 0);
    assert_eq!(run(&client, &session, "cat /mnt/workspace/file").await, "kept\n");
}

#[tokio::test]
async fn what_a_client_was_told_is_done_stays_done() {
    let (mut server, client) = start("standby = false\n").await;
    for round in 0..5 {
        let session = session_id(&format!("told-{round}"));
        run(&client, &session, "echo kept > /mnt/workspace/file").await;
        server.kill_9().unwrap();
        server.start_again().await.unwrap();
        let state = get_json(&client, &format!("/sessions/{session}")).await["state"].clone();
        assert!(state == "Active" || state == "Idle", "a session that answered was forgotten: {state}");
        assert_eq!(stop(&client, &session).await.status, 200);
        server.kill_9().unwrap();
        server.start_again().await.unwrap();
        assert_eq!(get_json(&client, &format!("/sessions/{session}")).await["state"], "Stopped");
        assert_eq!(stop(&client, &session).await.status, 404);
        let path = format!("/clamshell/v1/sessions/{session}");
        assert_eq!(client.request("DELETE", &path, &[], b"").await.unwrap().status, 204);
        server.kill_9().unwrap();
        server.start_again().await.unwrap();
        assert_eq!(client.request("GET", &path, &[], b"").await.unwrap().status, 404);
    }
    // Nothing of them is left on disk either.
    eventually("storage is gone", Duration::from_secs(10), async || match folders_with(&server, "") {
        0 => Ok(()),
        left => Err(left),
    })
    .await;
}
