//! Sessions: stop and wake, idle, conflicts.

use clamshell_testkit::{Client, Reply, ServerProcess, ShellEvent, eventually};
use futures_util::future::join_all;
use serde_json::json;

use super::{
    PATIENCE, SESSION_HEADER, confirmed, get_json, log_bytes, open, run, session_id, shell_json, start, stop,
    until_closed, until_session,
};

/// Everything in the workspace: names, modes, sizes, links and contents.
const FINGERPRINT: &str = "cd /mnt/workspace && { find . -printf '%p %y %m %s %l\\n' | grep -v ' d ' | sort; \
    find . -type f -print0 | sort -z | xargs -0 sha256sum; } | sha256sum";

async fn call(client: &Client, session: &str) -> Reply {
    let headers = [(SESSION_HEADER, session), ("content-type", "application/json")];
    let body = json!({ "command": "true" }).to_string();
    client.request("POST", &client.runtime_path("commands"), &headers, body.as_bytes()).await.unwrap()
}

/// A server that has one more runtime, and a client that uses it.
pub(super) async fn start_with_runtime(name: &str, settings: &str) -> (ServerProcess, Client) {
    let (server, mut client) = start(&format!("[runtimes.{name}]\n{settings}\n")).await;
    let listed = client.request("POST", "/runtimes/", &[], b"").await.unwrap().json();
    let runtimes = listed["agentRuntimes"].as_array().unwrap();
    let runtime = runtimes.iter().find(|runtime| runtime["agentRuntimeName"] == name).unwrap();
    client.runtime_arn = runtime["agentRuntimeArn"].as_str().unwrap().to_owned();
    (server, client)
}

fn assert_retryable(reply: &Reply) {
    assert_eq!(reply.status, 409, "{}", String::from_utf8_lossy(&reply.body));
    assert_eq!(reply.header("x-amzn-errortype"), "RetryableConflictException");
    assert_eq!(reply.json(), json!({ "message": "Session operation in progress, please retry" }));
}

#[tokio::test]
async fn a_session_wakes_with_its_workspace() {
    let (_server, client) = start("").await;
    let session = session_id("wake");
    let fill = "cd /mnt/workspace && mkdir -p a/b/c && head -c 300000 /dev/urandom > a/random && ln -s ../a a/b/link \
        && for i in $(seq 200); do echo $i > a/b/c/$i; done && chmod 640 a/random && touch /tmp/left ~/left";
    run(&client, &session, fill).await;
    let mut shell = open(&client, &session, "main").await;
    shell.input(b"echo before the stop\n").await.unwrap();
    shell.read_until("before the stop\r\n").await.unwrap();
    let before = run(&client, &session, FINGERPRINT).await;

    let reply = stop(&client, &session).await;
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    assert_eq!(reply.header(SESSION_HEADER), session);
    assert_eq!(until_closed(&mut shell).await.2, 1001);
    let again = stop(&client, &session).await;
    assert_eq!(again.status, 404);
    assert_eq!(again.header("x-amzn-errortype"), "ResourceNotFoundException");
    let never = stop(&client, &session_id("never")).await;
    assert_eq!((never.status.as_u16(), never.header("x-amzn-errortype")), (404, "ResourceNotFoundException"));

    let stopped = get_json(&client, &format!("/sessions/{session}")).await;
    assert_eq!((&stopped["state"], &stopped["stopReason"]), (&json!("Stopped"), &json!("Requested")));
    // Neither looking at it nor reading its logs wakes it.
    let ended = shell_json(&client, &session, "main").await;
    assert_eq!(ended["state"], "Ended", "{ended}");
    let log = log_bytes(&client, &session, "main").await;
    assert!(log.windows(17).any(|window| window == b"before the stop\r\n"));
    assert!(client.attach(&session, "main", "access=watch").await.is_err());
    assert_eq!(get_json(&client, &format!("/sessions/{session}")).await["state"], "Stopped");

    assert_eq!(run(&client, &session, FINGERPRINT).await, before);
    assert_eq!(run(&client, &session, "ls /tmp/left ~/left 2>/dev/null | wc -l").await, "0\n");
    // The same shell id is a new shell, whose log goes on where the old one ended.
    let mut shell = client.shell(&session, "main").await.unwrap();
    assert!(!confirmed(&mut shell).await);
    assert_eq!(shell_json(&client, &session, "main").await["runOffset"], log.len());
}

#[tokio::test]
async fn an_idle_session_stops_and_watching_does_not_keep_it() {
    let (_server, client) = start_with_runtime("dozy", "idle_timeout_s = 1").await;
    let session = session_id("idle");
    let query = "?runtime=dozy";
    run(&client, &session, "echo kept > /mnt/workspace/file").await;
    let mut shell = client.shell(&session, "main").await.unwrap();
    confirmed(&mut shell).await;
    shell.cut();
    let mut watcher = client.attach(&session, "main", "runtime=dozy&access=watch").await.unwrap();
    let stopped =
        until_session(&client, &session, query, "session stops", |it| it["state"] == "Stopped").await;
    assert_eq!(stopped["stopReason"], "Idle", "{stopped}");
    assert_eq!(until_closed(&mut watcher).await.2, 1001);
    assert_eq!(run(&client, &session, "cat /mnt/workspace/file").await, "kept\n");

    // A call in flight is activity for as long as it takes: far longer than the timeout.
    assert_eq!(run(&client, &session, "sleep 3; echo done").await, "done\n");
}

#[tokio::test]
async fn a_session_ends_when_its_lifetime_is_over() {
    let (_server, client) = start_with_runtime("mayfly", "idle_timeout_s = 1\nmax_lifetime_s = 2").await;
    let session = session_id("lifetime");
    let mut shell = client.shell(&session, "main").await.unwrap();
    confirmed(&mut shell).await;
    // Busy, and it does not help.
    shell.input(b"while :; do echo busy; sleep 0.05; done\n").await.unwrap();
    let (_, others, code) = until_closed(&mut shell).await;
    assert_eq!((others, code), (vec![ShellEvent::Close], 1001));
    let stopped =
        until_session(&client, &session, "?runtime=mayfly", "session stops", |it| it["state"] == "Stopped")
            .await;
    assert_eq!(stopped["stopReason"], "MaxLifetime", "{stopped}");
}

#[tokio::test]
async fn of_concurrent_first_calls_one_provisions_and_others_wait_for_it() {
    let (_server, client) = start("").await;
    for round in 0..5 {
        let session = session_id(&format!("first-{round}"));
        // The first time it is made, the second time it is woken.
        for _ in 0..2 {
            let start = std::time::Instant::now();
            for reply in join_all((0..4).map(|_| call(&client, &session))).await {
                // Beyond that they are told to retry; only a very busy machine is so slow.
                if start.elapsed().as_secs() < 2 || reply.status == 200 {
                    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
                } else {
                    assert_retryable(&reply);
                }
            }
            assert_eq!(stop(&client, &session).await.status, 200);
        }
    }
}

#[tokio::test]
async fn while_a_session_stops_calls_are_told_to_retry() {
    let (_server, client) = start("").await;
    let session = session_id("stopping");
    let mut shell = open(&client, &session, "stubborn").await;
    // Holds the stop up for as long as it is allowed to.
    shell.input(b"trap '' TERM HUP; echo deaf; while :; do sleep 0.1; done\n").await.unwrap();
    shell.read_until("deaf\r\n").await.unwrap();
    let stopping = async {
        eventually("session is stopping", PATIENCE, async || {
            let state = get_json(&client, &format!("/sessions/{session}")).await["state"].clone();
            if state == "Stopping" { Ok(()) } else { Err(state) }
        })
        .await;
        assert_retryable(&call(&client, &session).await);
        assert_retryable(&stop(&client, &session).await);
        let refusal = client.shell(&session, "other").await.unwrap_err().to_string();
        assert!(refusal.contains("409") && refusal.contains("please retry"), "{refusal}");
    };
    let (reply, ()) = tokio::join!(stop(&client, &session), stopping);
    assert_eq!(reply.status, 200);
    assert_eq!(call(&client, &session).await.status, 200, "a retry is served");
}
