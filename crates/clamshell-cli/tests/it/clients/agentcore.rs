//! The agentcore CLI. It goes to the AWS name on port 443, whatever its environment says, so each test gives the
//! server a loopback address of its own.

use std::net::Ipv4Addr;

use clamshell_testkit::skip;
use serde_json::{Value, json};

use super::{Setting, harness::Ended};

/// Each test its own last number: tests run at once.
async fn setting(number: u8) -> Option<Setting> {
    Setting::as_aws("bin/agentcore", (Ipv4Addr::new(127, 83, 7, number), 443)).await
}

async fn exec(setting: &mut Setting, arguments: &[&str]) -> Ended {
    let arn = setting.runtime_arn();
    let mut command = setting.program("agentcore");
    command.args(["exec", "--runtime", &arn]).args(arguments);
    setting.run(command).await
}

#[tokio::test(flavor = "multi_thread")]
async fn agentcore_runs_a_command() {
    let Some(mut setting) = setting(1).await else { return };
    let ended = exec(&mut setting, &["echo out; echo err >&2; exit 3"]).await;
    assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(3), "out\n"), "{ended:?}");
    assert!(ended.stderr.contains("err\n"), "{ended:?}");
    assert!(ended.stderr.contains("Error: Command exited with code 3"), "{ended:?}");
    let ended = exec(&mut setting, &["--timeout", "1", "sleep 600"]).await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains("Error: Command timed out after 1s"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn agentcore_prints_json_and_keeps_sessions() {
    let Some(mut setting) = setting(2).await else { return };
    let session = ["--session-id", "a-session-for-the-agentcore-command-line"];
    let json_of = |ended: &Ended| serde_json::from_str::<Value>(&ended.stdout).unwrap();
    let write =
        exec(&mut setting, &[&session[..], &["--json", "echo kept > /mnt/workspace/file; id -un"]].concat())
            .await;
    assert_eq!(write.status.code(), Some(0), "{write:?}");
    assert_eq!(json_of(&write), json!({ "success": true, "exitCode": 0, "stdout": "root\n", "stderr": "" }));
    let read =
        exec(&mut setting, &[&session[..], &["--json", "cat /mnt/workspace/file; exit 4"]].concat()).await;
    assert_eq!(read.status.code(), Some(4), "{read:?}");
    assert_eq!(json_of(&read)["stdout"], "kept\n");
    assert_eq!(json_of(&read)["exitCode"], 4);
    // Of more than a pipe holds this client loses the end.
    let much = exec(&mut setting, &[&session[..], &["--json", "yes 🐚é | head -n 5000"]].concat()).await;
    assert!(json_of(&much)["stdout"] == "🐚é\n".repeat(5000).as_str(), "{much:?}");
}

async fn in_a_terminal(number: u8, scenario: &str) {
    let Some(mut setting) = setting(number).await else { return };
    if !setting.has("bin/python") {
        skip::<()>("python, which drives the terminal, is not installed");
        return;
    }
    setting.python("agentcore_terminal.py", scenario).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agentcore_opens_a_terminal() {
    in_a_terminal(3, "terminal").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agentcore_detaches_and_comes_back_with_its_own_hint() {
    in_a_terminal(4, "detach_and_return").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agentcore_gives_its_shell_to_the_newest_client() {
    in_a_terminal(5, "kicked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agentcore_comes_back_after_the_server_was_killed() {
    in_a_terminal(6, "killed_server").await;
}
