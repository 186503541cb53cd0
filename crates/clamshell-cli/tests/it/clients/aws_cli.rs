//! The AWS CLI, version 1: it stops sessions and lists runtimes; it has no command for commands.

use serde_json::Value;

use super::Setting;

async fn aws(setting: &mut Setting, arguments: &[&str]) -> Value {
    let mut command = setting.program("aws");
    command.args(arguments).args(["--output", "json"]);
    serde_json::from_str(&setting.succeed(command).await).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_cli_lists_and_gets_runtimes() {
    let Some(mut setting) = Setting::plain("bin/aws").await else { return };
    let arn = setting.runtime_arn();
    let id = arn.rsplit('/').next().unwrap();
    let listed = aws(&mut setting, &["bedrock-agentcore-control", "list-agent-runtimes"]).await;
    assert_eq!(listed["agentRuntimes"].as_array().unwrap().len(), 1);
    assert_eq!(listed["agentRuntimes"][0]["agentRuntimeArn"], arn.as_str());
    let get = ["bedrock-agentcore-control", "get-agent-runtime", "--agent-runtime-id", id];
    let runtime = aws(&mut setting, &get).await;
    assert_eq!(runtime["agentRuntimeId"], id);
    assert_eq!(runtime["status"], "READY");
    assert_eq!(runtime["lifecycleConfiguration"]["maxLifetime"], 28_800);
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_cli_stops_a_session() {
    let Some(mut setting) = Setting::plain("bin/aws").await else { return };
    let session = "a-session-for-the-aws-command-line-1";
    let arn = setting.runtime_arn();
    let stop = [
        "bedrock-agentcore",
        "stop-runtime-session",
        "--agent-runtime-arn",
        &arn,
        "--runtime-session-id",
        session,
    ];
    setting.client().await.command(session, "true", 60).await.unwrap();
    let stopped = aws(&mut setting, &stop).await;
    assert_eq!(stopped["statusCode"], 200);
    assert_eq!(stopped["runtimeSessionId"], session);
    let mut again = setting.program("aws");
    again.args(stop);
    let ended = setting.run(again).await;
    assert!(!ended.status.success(), "{ended:?}");
    assert!(ended.stderr.contains("(ResourceNotFoundException)"), "{}", ended.stderr);
}
