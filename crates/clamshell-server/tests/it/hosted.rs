//! Agents from the control plane to their answers, as clients of AWS have them made: on each driver of this machine, and out
//! of a registry. What the machine lacks is printed and skipped.

mod registry;

use std::path::Path;

use clamshell_domain::{CodeRuntime, SandboxDriver};
use clamshell_sandbox::{OciDriver, OciOptions};
use clamshell_testkit::{Reply, eventually, skip, within};
use clamshell_wire::{headers, percent_encode};
use serde_json::{Value, json};

use crate::{
    calls::Call,
    control_changes::{ok, ready, zip},
    in_process::{InProcess, LIMIT, sandboxes},
    invocations::AGENT,
};

const SESSION: &str = "session-of-an-agent-from-the-control-plane-1";

/// A call of the data plane, once the session takes one.
async fn call(server: &InProcess, arn: &str, what: &str, mode: &str, body: &[u8]) -> Reply {
    eventually(what, LIMIT, async || {
        let call = Call::new("POST", format!("/runtimes/{}/{what}", percent_encode(arn)))
            .header(headers::SESSION_ID, SESSION)
            .header("content-type", "application/json")
            .header("x-mode", mode)
            .body(body)
            .signed(&server.root());
        let reply = within(what, LIMIT, call.send(&server.client)).await;
        if reply.status == 409 { Err(reply) } else { Ok(reply) }
    })
    .await
}

async fn command(server: &InProcess, arn: &str, text: &str) -> String {
    let body = json!({ "command": text }).to_string();
    let reply = call(server, arn, "commands", "", body.as_bytes()).await;
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert_eq!(reply.status, 200, "{text}");
    text
}

/// Whether a driver works here; says why not.
async fn is_usable(driver: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let report = OciDriver::new(driver, OciOptions::new(folder.path())).probe().await;
    let reasons = report.capabilities.iter().filter(|one| !one.available).map(|one| one.detail.as_str());
    report.usable || skip::<()>(&reasons.collect::<Vec<_>>().join("; ")).is_some()
}

/// Waits until a runtime is not there any more.
async fn removed(server: &InProcess, id: &str) {
    let path = format!("/runtimes/{id}/");
    ok(server, "DELETE", &path, &Value::Null, 202).await;
    eventually("the runtime is gone", LIMIT, async || {
        let reply = Call::new("GET", &path).signed(&server.root()).send(&server.client).await;
        if reply.status == 404 { Ok(()) } else { Err(reply.json()) }
    })
    .await;
}

/// The whole life of an agent of a code zip.
async fn lives_on(driver: &str) {
    if sandboxes().is_none() || !is_usable(driver).await {
        return;
    }
    let python = CodeRuntime::ALL.into_iter().find(|runtime| {
        runtime.as_str().starts_with("PYTHON") && Path::new("/usr/bin").join(runtime.interpreter()).exists()
    });
    let Some(python) = python else {
        return skip("/usr/bin has no Python of a runtime").unwrap_or_default();
    };
    let bucket = tempfile::tempdir().unwrap();
    std::fs::write(bucket.path().join("agent.zip"), zip("agent.py", AGENT)).unwrap();
    let folder = bucket.path().display();
    let configuration =
        format!("driver = \"{driver}\"\nstandby = false\n[buckets.code]\npath = \"{folder}\"\n");
    let server = InProcess::start(&configuration).await;
    let more = json!({
        "agentRuntimeArtifact": { "codeConfiguration": {
            "code": { "s3": { "bucket": "code", "prefix": "agent.zip" } },
            "runtime": python.as_str(),
            "entryPoint": ["agent.py"],
        } },
        "requestHeaderConfiguration": { "requestHeaderAllowlist": ["X-Mode"] },
    });
    let (id, arn) = ready(&server, "hosted", &more).await;

    let body = "a request ".repeat(200_000);
    let reply = call(&server, &arn, "invocations", "echo", body.as_bytes()).await;
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    assert!(reply.body == body.as_bytes(), "the body came back otherwise");
    let path = format!("/clamshell/v1/sessions/{SESSION}?runtime=hosted");
    let shown = ok(&server, "GET", &path, &Value::Null, 200).await;
    assert_eq!((&shown["driver"], &shown["state"]), (&json!(driver), &json!("Active")), "{shown}");
    command(&server, &arn, "echo kept > /mnt/workspace/file").await;
    let state = call(&server, &arn, "invocations", "state", b"{}").await;
    assert_eq!(state.json()["calls"], 2);

    let stop = call(&server, &arn, "stopruntimesession", "", b"{}").await;
    assert_eq!(stop.status, 200, "{stop:?}");
    let shown = ok(&server, "GET", &path, &Value::Null, 200).await;
    assert_eq!((&shown["stopReason"], &shown["state"]), (&json!("Requested"), &json!("Stopped")), "{shown}");
    // The next call wakes it: another process of the agent, and the same files.
    let state = call(&server, &arn, "invocations", "state", b"{}").await;
    assert_eq!((state.status.as_u16(), &state.json()["calls"]), (200, &json!(1)));
    let text = command(&server, &arn, "cat /mnt/workspace/file").await;
    assert!(text.contains("kept"), "{text}");
    removed(&server, &id).await;
}

#[tokio::test]
async fn e2e_runc_agent_is_made_called_stopped_and_woken() {
    lives_on("runc").await;
}

#[tokio::test]
async fn e2e_crun_agent_is_made_called_stopped_and_woken() {
    lives_on("crun").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e2e_runsc_agent_is_made_called_stopped_and_woken() {
    lives_on("runsc").await;
}
