//! What a user may rely on when servers, machines and connections fail: real servers, real sandboxes,
//! real sockets, and no waiting by time.

#![expect(clippy::panic, reason = "a test fails by panicking, helpers of tests included")]

mod agents;
mod bounds;
mod cost;
mod crash;
mod cycles;
mod disk;
mod follower;
mod generate;
mod half_way;
mod plan;
mod protocol;
mod sessions;
mod standby;
mod stops;
mod wakes;
mod watching;
mod windows;

use std::{path::Path, time::Duration};

use clamshell_term::status::Status;
use clamshell_testkit::{Client, Reply, ServerProcess, ShellEvent, ShellSocket, eventually, within};
use serde_json::Value;

/// For anything that takes well under a second on an idle machine; test machines are not idle.
const PATIENCE: Duration = Duration::from_secs(30);

const SESSION_HEADER: &str = "x-amzn-bedrock-agentcore-runtime-session-id";

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_clamshell"))
}

async fn start(configuration: &str) -> (ServerProcess, Client) {
    let server = ServerProcess::start(binary(), configuration).await.unwrap();
    let client = server.client().await.unwrap();
    (server, client)
}

/// A session id as long as they must be.
fn session_id(name: &str) -> String {
    format!("{name}-00000000-0000-4000-8000-000000000000")
}

async fn get(client: &Client, path: &str) -> Reply {
    client.request("GET", &format!("/clamshell/v1{path}"), &[], b"").await.unwrap()
}

async fn get_json(client: &Client, path: &str) -> Value {
    let reply = get(client, path).await;
    assert_eq!(reply.status, 200, "{path}: {}", String::from_utf8_lossy(&reply.body));
    reply.json()
}

async fn shell_json(client: &Client, session: &str, shell: &str) -> Value {
    get_json(client, &format!("/sessions/{session}/shells/{shell}")).await
}

async fn log_bytes(client: &Client, session: &str, shell: &str) -> Vec<u8> {
    let reply = get(client, &format!("/sessions/{session}/shells/{shell}/log?from=0")).await;
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    assert_eq!(reply.header("x-clamshell-offset"), "0");
    reply.body.to_vec()
}

async fn stop(client: &Client, session: &str) -> Reply {
    let headers = [(SESSION_HEADER, session), ("content-type", "application/json")];
    client.request("POST", &client.runtime_path("stopruntimesession"), &headers, b"{}").await.unwrap()
}

/// Runs a command that must succeed and gives its standard output.
async fn run(client: &Client, session: &str, command: &str) -> String {
    let outcome = client.command(session, command, 60).await.unwrap();
    assert_eq!(outcome.stop, Some((0, "COMPLETED".to_owned())), "{command}: {outcome:?}");
    outcome.stdout
}

/// Waits until a shell's description is as `wanted` says.
async fn until_shell(
    client: &Client,
    session: &str,
    shell: &str,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    eventually(what, PATIENCE, async || {
        let value = shell_json(client, session, shell).await;
        if wanted(&value) { Ok(value) } else { Err(value) }
    })
    .await
}

/// Waits until a session's description is as `wanted` says; `query` starts with a question mark.
async fn until_session(
    client: &Client,
    session: &str,
    query: &str,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    eventually(what, PATIENCE, async || {
        let value = get_json(client, &format!("/sessions/{session}{query}")).await;
        if wanted(&value) { Ok(value) } else { Err(value) }
    })
    .await
}

async fn next_event(socket: &mut ShellSocket) -> ShellEvent {
    within("event of a shell", PATIENCE, socket.next()).await.unwrap()
}

/// The confirmation that must come first: whether the shell was there before.
async fn confirmed(socket: &mut ShellSocket) -> bool {
    match next_event(socket).await {
        ShellEvent::Status(Status::Confirmed { reconnected, .. }) => reconnected,
        other => panic!("{other:?} instead of the confirmation"),
    }
}

/// Whether the output ends in the prompt: of root where the machine gives sandboxes only one user.
fn at_prompt(output: &[u8]) -> bool {
    output.ends_with(b"$ ") || output.ends_with(b"# ")
}

/// Reads until the shell waits for a line.
async fn prompt(socket: &mut ShellSocket) {
    let mut seen = Vec::new();
    while !at_prompt(&seen) {
        match next_event(socket).await {
            ShellEvent::Output(bytes) => seen.extend_from_slice(&bytes),
            ShellEvent::Status(_) | ShellEvent::Heartbeat => {}
            other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&seen)),
        }
    }
}

/// Opens a shell as AWS clients do and waits for the confirmation and the first prompt.
async fn open(client: &Client, session: &str, shell: &str) -> ShellSocket {
    let mut socket = client.shell(session, shell).await.unwrap();
    confirmed(&mut socket).await;
    prompt(&mut socket).await;
    socket
}

/// Everything up to the close frame, and its code.
async fn until_closed(socket: &mut ShellSocket) -> (Vec<u8>, Vec<ShellEvent>, u16) {
    let (mut output, mut others) = (Vec::new(), Vec::new());
    loop {
        match next_event(socket).await {
            ShellEvent::Output(bytes) => output.extend_from_slice(&bytes),
            ShellEvent::Closed(code) => return (output, others, code),
            other => others.push(other),
        }
    }
}
