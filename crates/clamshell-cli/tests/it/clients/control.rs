//! The control plane as boto3, the Python SDK and the AWS CLI see it.

use serde_json::Value;

use super::Setting;

async fn scenario(name: &str) {
    let Some(mut setting) = Setting::plain("bin/python").await else { return };
    setting.python("control_client.py", name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_takes_a_runtime_through_its_whole_life() {
    scenario("whole_life").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_may_send_a_change_twice() {
    scenario("tokens").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_turns_pages_while_runtimes_come_and_go() {
    scenario("pages").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_sees_why_a_version_failed() {
    scenario("failures").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_sdk_waits_for_runtimes_and_endpoints() {
    scenario("helpers").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_finished_after_the_server_was_killed() {
    scenario("killed_server").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_limit_of_the_model_holds_at_its_edges() {
    scenario("limits").await;
}

async fn aws(setting: &mut Setting, arguments: &[&str]) -> Value {
    let mut command = setting.program("aws");
    command.arg("bedrock-agentcore-control").args(arguments).args(["--output", "json"]);
    let text = setting.succeed(command).await;
    if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
}

/// Asks until the status is another than `while_status`; the last answer, `None` when there is nothing any more.
async fn after(setting: &mut Setting, while_status: &str, arguments: &[&str]) -> Option<Value> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
    loop {
        let mut command = setting.program("aws");
        command.arg("bedrock-agentcore-control").args(arguments).args(["--output", "json"]);
        let ended = setting.run(command).await;
        if !ended.status.success() {
            assert!(ended.stderr.contains("(ResourceNotFoundException)"), "{}", ended.stderr);
            return None;
        }
        let value: Value = serde_json::from_str(&ended.stdout).unwrap();
        if value["status"] != while_status {
            return Some(value);
        }
        assert!(std::time::Instant::now() < deadline, "{value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_cli_takes_a_runtime_through_its_whole_life() {
    let Some(mut setting) = Setting::plain("bin/aws").await else { return };
    let setting = &mut setting;
    let artifact = "containerConfiguration={containerUri=host}";
    let role = "arn:aws:iam::123456789012:role/agent";
    let what = [
        "--agent-runtime-artifact",
        artifact,
        "--role-arn",
        role,
        "--network-configuration",
        "networkMode=PUBLIC",
    ];
    let create = [&["create-agent-runtime", "--agent-runtime-name", "shell"], &what[..]].concat();
    let made = aws(setting, &create).await;
    assert_eq!(made["status"], "CREATING");
    let (id, arn) = (made["agentRuntimeId"].as_str().unwrap(), made["agentRuntimeArn"].as_str().unwrap());
    let get = ["get-agent-runtime", "--agent-runtime-id", id];
    assert_eq!(after(setting, "CREATING", &get).await.unwrap()["status"], "READY");
    let update = [&["update-agent-runtime", "--agent-runtime-id", id], &what[..]].concat();
    assert_eq!(aws(setting, &update).await["agentRuntimeVersion"], "2");
    assert_eq!(after(setting, "UPDATING", &get).await.unwrap()["agentRuntimeVersion"], "2");
    let versions = aws(setting, &["list-agent-runtime-versions", "--agent-runtime-id", id]).await;
    assert_eq!(versions["agentRuntimes"].as_array().unwrap().len(), 2);
    aws(setting, &["create-agent-runtime-endpoint", "--agent-runtime-id", id, "--name", "prod"]).await;
    let get_endpoint = ["get-agent-runtime-endpoint", "--agent-runtime-id", id, "--endpoint-name", "prod"];
    assert_eq!(after(setting, "CREATING", &get_endpoint).await.unwrap()["liveVersion"], "2");
    aws(setting, &["tag-resource", "--resource-arn", arn, "--tags", "team=blue"]).await;
    let tags = aws(setting, &["list-tags-for-resource", "--resource-arn", arn]).await;
    assert_eq!(tags["tags"]["team"], "blue");
    aws(setting, &["untag-resource", "--resource-arn", arn, "--tag-keys", "team"]).await;
    let policy = serde_json::json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Principal": "*", "Action": "bedrock-agentcore:InvokeAgentRuntime", "Resource": arn,
    }] });
    let policy = policy.to_string();
    aws(setting, &["put-resource-policy", "--resource-arn", arn, "--policy", &policy]).await;
    let stored = aws(setting, &["get-resource-policy", "--resource-arn", arn]).await;
    assert_eq!(stored["policy"], policy.as_str());
    aws(setting, &["delete-resource-policy", "--resource-arn", arn]).await;
    let delete = ["delete-agent-runtime-endpoint", "--agent-runtime-id", id, "--endpoint-name", "prod"];
    assert_eq!(aws(setting, &delete).await["status"], "DELETING");
    assert_eq!(after(setting, "DELETING", &get_endpoint).await, None);
    assert_eq!(aws(setting, &["delete-agent-runtime", "--agent-runtime-id", id]).await["status"], "DELETING");
    assert_eq!(after(setting, "DELETING", &get).await, None);
}
