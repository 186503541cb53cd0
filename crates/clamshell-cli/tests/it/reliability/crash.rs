//! `kill -9` of the server while ten shells and two commands run.

use std::collections::BTreeMap;

use clamshell_testkit::{Client, eventually, within};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{PATIENCE, follower::Follower, get_json, run, session_id, start};

const SHELLS: usize = 10;

/// Sessions and shells without what time alone changes.
async fn everything(client: &Client) -> (Value, BTreeMap<String, Value>) {
    let mut sessions = get_json(client, "/sessions").await;
    for session in sessions["sessions"].as_array_mut().unwrap() {
        for name in ["lastActivityAt", "idleStopsAt", "usage"] {
            session.as_object_mut().unwrap().remove(name);
        }
    }
    let shells = get_json(client, "/shells").await;
    let shells = shells["shells"].as_array().unwrap().iter().map(|shell| {
        let kept =
            ["pid", "createdAt", "command", "cols", "rows", "startOffset", "runOffset", "keep", "sessionId"];
        let kept: Value = kept.iter().map(|name| ((*name).to_owned(), shell[*name].clone())).collect();
        (shell["shellId"].as_str().unwrap().to_owned(), kept)
    });
    (sessions, shells.collect())
}

/// The numbers counted in a log, whole lines only.
fn counted(log: &[u8]) -> Vec<u64> {
    let text = String::from_utf8_lossy(log);
    // What the line editor prints may stand in front of the first.
    let counts = text.split("\r\n").filter_map(|line| line.split_once("count ")?.1.parse().ok());
    let whole = text.ends_with("\r\n");
    let mut counts: Vec<u64> = counts.collect();
    if !whole {
        counts.pop();
    }
    counts
}

#[tokio::test]
async fn kill_9_with_ten_shells() {
    let (mut server, client) = start("").await;
    let session = session_id("kill-nine");
    let mut shells = Vec::new();
    for number in 0..SHELLS {
        let mut shell = Follower::start(&client, &session, &format!("shell-{number}")).await;
        shell.resize(100 + u16::try_from(number).unwrap(), 30).await;
        shell.type_line("i=0; while i=$((i+1)); do echo count $i; sleep 0.02; done").await;
        shells.push(shell);
    }
    for shell in &mut shells {
        shell.read_to("count 5\r\n").await;
    }

    // One command that its caller wants to outlive him, and one that he is waiting for.
    let path = format!("/clamshell/v1/sessions/{session}/commands");
    let lasting = "touch /tmp/lasting; until [ -e /tmp/go ]; do sleep 0.02; done; touch /tmp/lasted";
    let lasting = json!({ "command": lasting, "keepRunning": true }).to_string();
    let mut calls = JoinSet::new();
    {
        let (client, path) = (client.clone(), path.clone());
        calls.spawn(async move { client.request("POST", &path, &[], lasting.as_bytes()).await.is_ok() });
        let (client, session) = (super::ServerProcess::client(&server).await.unwrap(), session.clone());
        calls.spawn(
            async move { client.command(&session, "touch /tmp/waited; sleep 1000", 1000).await.is_ok() },
        );
    }
    eventually("commands run", PATIENCE, async || {
        let outcome = client.command(&session, "ls /tmp/lasting /tmp/waited", 60).await.unwrap();
        if outcome.stop == Some((0, "COMPLETED".to_owned())) { Ok(()) } else { Err(outcome) }
    })
    .await;

    let before = everything(&client).await;
    assert_eq!(before.1.len(), SHELLS);
    server.kill_9().unwrap();
    while let Some(answered) = within("calls end", PATIENCE, calls.join_next()).await {
        assert!(!answered.unwrap(), "a call was answered in full by a killed server");
    }
    server.start_again().await.unwrap();
    assert_eq!(everything(&client).await, before);

    for shell in &mut shells {
        let seen = counted(&shell.log).len();
        shell.come_back(&client).await;
        // What was printed while nobody looked, and then what is printed now.
        while counted(&shell.log).len() < seen + 20 {
            shell.read(shell.log.len() + 1).await;
        }
        let numbers = counted(&shell.log);
        let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
        assert_eq!(numbers, expected, "{} lost, doubled or stopped", shell.shell);
    }
    run(&client, &session, "touch /tmp/go; until [ -e /tmp/lasted ]; do sleep 0.02; done").await;
    // The other one lost its caller and must not run for nobody.
    let gone = "while pgrep -x sleep -a | grep -q 1000; do sleep 0.02; done";
    run(&client, &session, gone).await;
}
