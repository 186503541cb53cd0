//! Agents as people write them, hosted, and called by the clients that people have.
//!
//! The agents are those of `tests/clients/agents`: with the Python SDK, a web framework, the MCP and the A2A package, and
//! with nothing. They are uploaded as code zips with all they need.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::{Setting, harness::script_path};

/// The identity provider of the tests listens on this machine.
const CONFIGURATION: &str = "allow_private_identity_providers = true\n";

async fn scenario(script: &str, name: &str) {
    scenario_with("agents/packages.zip", script, name).await;
}

async fn scenario_with(program: &str, script: &str, name: &str) {
    let Some(mut setting) = Setting::plain(program).await else { return };
    setting.python(script, name).await;
}

async fn scenario_with_tls(script: &str, name: &str) {
    let address = (Ipv4Addr::LOCALHOST, 0);
    let Some(mut setting) = Setting::as_aws_with("agents/packages.zip", address, CONFIGURATION).await else {
        return;
    };
    setting.python(script, name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_invokes_an_agent_of_the_sdk() {
    scenario("hosting_client.py", "sdk_agent").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_takes_a_hosted_agent_through_its_life() {
    scenario("hosting_client.py", "life").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_invokes_an_agent_of_a_web_framework() {
    scenario("hosting_client.py", "web_agent").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_is_told_what_an_agent_does_wrong() {
    scenario_with("bin/python", "hosting_client.py", "rough_agent").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_calls_many_agents_at_once() {
    scenario_with("bin/python", "hosting_client.py", "many_at_once").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mcp_clients_use_hosted_tools() {
    scenario("hosting_protocols.py", "mcp_server").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a2a_clients_find_and_ask_a_hosted_agent() {
    scenario("hosting_protocols.py", "a2a_agent").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_streams_the_events_of_an_agent_for_user_interfaces() {
    scenario("hosting_protocols.py", "agui_agent").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_sdk_talks_to_agents_by_web_socket() {
    scenario_with_tls("hosting_protocols.py", "web_sockets").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bearer_tokens_open_what_asks_for_them() {
    scenario_with_tls("hosting_protocols.py", "bearer_tokens").await;
}

/// A runtime of the agent that needs no packages; its ARN.
async fn plain_agent(setting: &mut Setting) -> String {
    let mut command = setting.program("python");
    command.arg(script_path("hosting_client.py")).arg("plain_agent");
    setting.succeed(command).await.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_invokes_streams_and_manages_an_agent() {
    let Some(mut setting) = Setting::plain("js/node_modules/@aws-sdk/client-bedrock-agentcore-control").await
    else {
        return;
    };
    let arn = plain_agent(&mut setting).await;
    let mut command = setting.command("node".as_ref());
    command.arg(script_path("hosting_javascript.mjs")).args(["values,streams,life", &arn]);
    setting.succeed(command).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_cli_invokes_an_agent() {
    let Some(mut setting) = Setting::plain("bin/aws").await else { return };
    let setting = &mut setting;
    let arn = plain_agent(setting).await;
    let session = "a-session-for-the-aws-command-line-2";
    let call = ["bedrock-agentcore", "invoke-agent-runtime", "--output", "json", "--agent-runtime-arn"];
    // By its id, which needs the account, and by its ARN.
    let (account, id) = (arn.split(':').nth(4).unwrap(), arn.rsplit('/').next().unwrap());
    let mut command = setting.program("aws");
    command.args(call).args([id, "--account-id", account, "--runtime-session-id", session]);
    command.args(["--payload", r#"{"prompt": "grüße"}"#, "--content-type", "application/json", "answer"]);
    let told: Value = serde_json::from_str(&setting.succeed(command).await).unwrap();
    assert_eq!(told["statusCode"], 200);
    assert_eq!(told["runtimeSessionId"], session);
    assert_eq!(told["contentType"], "application/json");
    let answer = std::fs::read(setting.home().join("answer")).unwrap();
    assert_eq!(answer, r#"{"prompt": "grüße"}"#.as_bytes());
    let mut command = setting.program("aws");
    command.args(call).args([&arn, "--qualifier", "nowhere", "--payload", "{}", "answer"]);
    let ended = setting.run(command).await;
    assert!(!ended.status.success(), "{ended:?}");
    assert!(ended.stderr.contains("(ResourceNotFoundException)"), "{}", ended.stderr);
}

/// The agentcore CLI goes to the AWS name on port 443 alone, and knows runtimes by the files of a project.
#[tokio::test(flavor = "multi_thread")]
async fn agentcore_invokes_the_agent_of_a_project() {
    let address = (Ipv4Addr::new(127, 83, 7, 30), 443);
    let Some(mut setting) = Setting::as_aws("bin/agentcore", address).await else { return };
    let setting = &mut setting;
    let arn = plain_agent(setting).await;
    let (account, id) = (arn.split(':').nth(4).unwrap(), arn.rsplit('/').next().unwrap());
    let project = setting.home().join("project");
    let role = format!("arn:aws:iam::{account}:role/clamshell-agent");
    for (name, content) in [
        (
            "agentcore.json",
            json!({ "name": "demo", "version": 1, "runtimes": [{
                "name": "demo", "build": "CodeZip", "entrypoint": "main.py", "codeLocation": "app/demo",
                "runtimeVersion": "PYTHON_3_12", "networkMode": "PUBLIC", "protocol": "HTTP",
            }] }),
        ),
        ("aws-targets.json", json!([{ "name": "default", "account": account, "region": "us-west-2" }])),
        (
            ".cli/deployed-state.json",
            json!({ "targets": { "default": { "resources": { "runtimes": { "demo": {
                "runtimeArn": arn, "runtimeId": id, "roleArn": role,
            } } } } } }),
        ),
    ] {
        let path = project.join("agentcore").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content.to_string()).unwrap();
    }
    let agentcore = |setting: &Setting, arguments: &[&str]| {
        let mut command = setting.program("agentcore");
        command.args(arguments).current_dir(&project);
        command
    };
    let session = "a-session-for-the-agentcore-command-line-2";
    let command = agentcore(setting, &["invoke", "hello", "--session-id", session, "--json"]);
    let told: Value = serde_json::from_str(&setting.succeed(command).await).unwrap();
    assert_eq!((&told["success"], &told["sessionId"]), (&json!(true), &json!(session)), "{told}");
    let answer: Value = serde_json::from_str(told["response"].as_str().unwrap()).unwrap();
    assert_eq!(answer, json!({ "prompt": "hello" }));
    let command = agentcore(setting, &["invoke", "grüße", "--stream"]);
    let told: Value = serde_json::from_str(&setting.succeed(command).await).unwrap();
    assert_eq!(told, json!({ "prompt": "grüße" }));
    let command = agentcore(setting, &["status"]);
    let told = setting.succeed(command).await;
    assert!(told.contains("Runtime: READY"), "{told}");
}
