//! The sandbox that is made ahead: taken by the next new session, and never in anybody's way.

use std::{collections::BTreeSet, path::PathBuf};

use clamshell_testkit::{ServerProcess, eventually};

use super::{PATIENCE, get_json, run, session_id, start};

fn folders(server: &ServerProcess) -> BTreeSet<PathBuf> {
    let sessions = std::fs::read_dir(server.data_dir().join("sessions")).unwrap();
    sessions.flatten().map(|session| session.path()).collect()
}

/// The folder that none of those is, once there is a sandbox in it.
async fn standby(server: &ServerProcess, known: &BTreeSet<PathBuf>) -> PathBuf {
    eventually("a sandbox is made ahead", PATIENCE, async || {
        let found = folders(server).difference(known).next().cloned();
        found.filter(|folder| folder.join("run/keeper.json").exists()).ok_or_else(|| folders(server))
    })
    .await
}

fn guest_pid(folder: &std::path::Path) -> u32 {
    let state: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("run/keeper.json")).unwrap()).unwrap();
    u32::try_from(state["guest"]["pid"].as_u64().unwrap()).unwrap()
}

fn gone(pid: u32) -> Result<(), &'static str> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    if stat.is_empty() || stat.contains(") Z ") { Ok(()) } else { Err("the process is there") }
}

/// Folders that have a session, by a file that each session of these tests writes.
fn taken(server: &ServerProcess) -> BTreeSet<PathBuf> {
    folders(server).into_iter().filter(|folder| folder.join("workspace/mark").exists()).collect()
}

#[tokio::test]
async fn the_next_new_session_takes_the_standby() {
    let (server, client) = start("").await;
    let mut made = 0;
    let mut next = async || {
        made += 1;
        run(&client, &session_id(&format!("number-{made}")), "echo 1 > /mnt/workspace/mark").await;
        made
    };
    next().await;
    let mut ahead = standby(&server, &taken(&server)).await;
    // It is ready a moment after its state is written, when its guest has answered: a session that came in that
    // moment has a sandbox of its own.
    eventually("a session takes what was made ahead", PATIENCE, async || {
        let made = next().await;
        let listed = get_json(&client, "/sessions").await;
        assert_eq!(listed["sessions"].as_array().unwrap().len(), made, "a standby is no session");
        let was_taken = taken(&server).contains(&ahead);
        ahead = standby(&server, &taken(&server)).await;
        was_taken.then_some(()).ok_or(made)
    })
    .await;
}

#[tokio::test]
async fn a_standby_that_died_is_replaced_by_a_sandbox_of_ones_own() {
    let (server, client) = start("").await;
    run(&client, &session_id("first"), "echo 1 > /mnt/workspace/mark").await;
    let pid = guest_pid(&standby(&server, &taken(&server)).await);
    let raw = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(raw, rustix::process::Signal::KILL).unwrap();
    eventually("the guest is gone", PATIENCE, async || gone(pid)).await;
    assert_eq!(run(&client, &session_id("second"), "echo works").await, "works\n");
}

#[tokio::test]
async fn no_standby_outlives_its_server() {
    let (mut server, client) = start("").await;
    run(&client, &session_id("only"), "echo 1 > /mnt/workspace/mark").await;
    let ahead = standby(&server, &taken(&server)).await;
    let pid = guest_pid(&ahead);
    server.kill_9().unwrap();
    assert!(ahead.exists());
    server.start_again().await.unwrap();
    eventually("the killed server's standby is taken away", PATIENCE, async || {
        gone(pid).and_then(|()| if ahead.exists() { Err("the folder is there") } else { Ok(()) })
    })
    .await;

    // The same for one that is asked to end.
    let client = server.client().await.unwrap();
    run(&client, &session_id("another"), "echo 1 > /mnt/workspace/mark").await;
    let known = taken(&server);
    assert_eq!(known.len(), 2);
    let ahead = standby(&server, &known).await;
    let pid = guest_pid(&ahead);
    server.terminate().await.unwrap();
    assert_eq!(folders(&server), known);
    eventually("its processes are gone", PATIENCE, async || gone(pid)).await;
}
