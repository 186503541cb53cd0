//! The Python SDK's `open_shell`: terminals over WebSocket, by signed headers and by presigned URL.

use std::net::Ipv4Addr;

use super::Setting;

async fn scenario(name: &str) {
    scenario_on((Ipv4Addr::LOCALHOST, 0), name).await;
}

async fn scenario_on(address: (Ipv4Addr, u16), name: &str) {
    let Some(mut setting) = Setting::as_aws("bin/python", address).await else { return };
    setting.python("shell_client.py", name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_shell_opens_with_signed_headers() {
    scenario("sigv4").await;
}

/// The port 443 in the endpoint makes the SDK sign another Host than the first one it sends.
#[tokio::test(flavor = "multi_thread")]
async fn python_shell_opens_on_the_port_of_https() {
    scenario_on((Ipv4Addr::new(127, 83, 7, 20), 443), "sigv4").await;
    scenario_on((Ipv4Addr::new(127, 83, 7, 20), 443), "presigned").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_shell_opens_with_a_presigned_url() {
    scenario("presigned").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_shell_tells_how_it_ended() {
    scenario("end_of_file").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_shell_is_there_after_detaching() {
    scenario("detach_and_return").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_shell_survives_a_broken_connection() {
    scenario("reconnect_after_cut").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_shell_survives_a_killed_server() {
    scenario("reconnect_after_kill").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_shell_survives_a_restarted_server() {
    scenario("reconnect_after_restart").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_shell_follows_the_size_of_the_terminal() {
    scenario("resize").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_shell_goes_to_the_newest_client() {
    scenario("kicked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_shell_answers_heartbeats() {
    scenario("heartbeat").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_shell_gives_all_output_in_small_frames() {
    scenario("much_output").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_shell_takes_all_input() {
    scenario("much_input").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_shell_of_a_stopped_session_wakes_it() {
    scenario("stopped").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_shell_is_refused_with_aws_errors() {
    scenario("refused").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_shell_number_eleven_is_refused() {
    scenario("eleventh").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_shell_replays_the_newest_output_and_counts_the_rest() {
    scenario("overflow").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_shell_outlives_broken_rules() {
    scenario("limits").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_shell_ends_with_the_close_frame() {
    scenario("close_frame").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_shell_gets_what_was_typed_right_before_hanging_up() {
    scenario("last_words").await;
}
