//! The AWS SDK for JavaScript: commands, sessions, typed errors.

use super::{Setting, harness::script_path};

async fn scenario(name: &str) {
    let Some(mut setting) = Setting::plain("js/node_modules").await else { return };
    let mut command = setting.command("node".as_ref());
    command.arg(script_path("javascript_client.mjs")).arg(name);
    setting.succeed(command).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_runs_commands() {
    scenario("commands").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_sees_output_while_the_command_runs() {
    scenario("streaming").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_stops_a_session_and_wakes_it() {
    scenario("stopAndWake").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_gets_typed_errors() {
    scenario("errors").await;
}
