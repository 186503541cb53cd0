//! boto3: commands, sessions, errors.

use super::Setting;

async fn scenario(name: &str) {
    let Some(mut setting) = Setting::plain("bin/python").await else { return };
    setting.python("boto3_client.py", name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_streams_output_in_order_with_the_exit_code() {
    scenario("order").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_sees_output_while_the_command_runs() {
    scenario("streaming").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_sees_a_timeout_as_a_status() {
    scenario("timeout").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_gets_large_output_in_small_events() {
    scenario("large_output").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_gets_unicode_whole() {
    scenario("unicode").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_keeps_files_by_session() {
    scenario("sessions").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_stops_a_session_and_wakes_it_with_its_workspace() {
    scenario("stop_and_wake").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_raises_the_typed_exceptions() {
    scenario("errors").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_runs_twenty_commands_at_once() {
    scenario("parallel").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_starts_twenty_sessions_at_once() {
    scenario("parallel_starts").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_ends_a_command_by_hanging_up() {
    scenario("hang_up").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_raises_in_the_stream_when_the_session_is_stopped() {
    scenario("stopped_underneath").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_finds_its_session_after_the_server_was_killed() {
    scenario("killed_server").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_reads_the_control_plane() {
    scenario("control_plane").await;
}
