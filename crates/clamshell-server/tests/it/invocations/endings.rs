//! Answers that end before their end: what dies, breaks or says too much is never taken for whole.

use bytes::Bytes;
use clamshell_domain::ServerProtocol;
use clamshell_testkit::{eventually, within};
use clamshell_wire::headers;
use http::StatusCode;
use serde_json::json;

use super::{Fixture, next, session};
use crate::in_process::LIMIT;

/// All that an answer may have.
const ANSWER_BYTES_MAX: usize = 100_000_000;

/// Lets the agent go on. Whether it lives to answer this is another matter.
async fn go(fixture: &Fixture, id: &str) {
    let path = fixture.client.runtime_path("invocations");
    let headers = [(headers::SESSION_ID, id), ("x-mode", "go")];
    let _ = within("go", LIMIT, fixture.client.request("POST", &path, &headers, b"{}")).await;
}

/// Begins a call, lets the agent go on once its first words are here, and says whether the end was clean.
async fn ends_cleanly(fixture: &Fixture, name: &str, mode: &str) -> bool {
    let id = session(name);
    let (response, _driver) = fixture.begin(&id, mode).await;
    assert_eq!(response.status(), StatusCode::OK, "{mode}");
    let mut body = response.into_body();
    let first = next(&mut body).await.unwrap().unwrap();
    assert_eq!(first, Bytes::from_static(b"data: begun\n"), "{mode}");
    if !mode.starts_with("closing") {
        go(fixture, &id).await;
    }
    loop {
        match next(&mut body).await {
            Some(Ok(_)) => {}
            Some(Err(_)) => return false,
            None => return true,
        }
    }
}

#[tokio::test]
async fn e2e_an_agent_that_dies_in_its_answer_has_not_answered() {
    let Some(fixture) = Fixture::start(ServerProtocol::Http).await else { return };
    for (name, mode) in [
        ("chunked", "die chunked 0"),
        ("length", "die length 0"),
        ("close", "die close 0"),
        ("close-7", "die close 7"),
    ] {
        assert!(!ends_cleanly(&fixture, name, mode).await, "{mode}");
    }
}

#[tokio::test]
async fn e2e_an_answer_may_end_with_its_connection() {
    let Some(fixture) = Fixture::start(ServerProtocol::Http).await else { return };
    for round in 0..3 {
        assert!(ends_cleanly(&fixture, "closing", "closing close").await, "{round}");
    }
    // One that is reset is not whole, though its agent goes on.
    assert!(!ends_cleanly(&fixture, "reset", "reset close").await);
    assert!(!ends_cleanly(&fixture, "reset-2", "reset chunked").await);
    assert!(!ends_cleanly(&fixture, "short", "closing length").await);
    assert!(!ends_cleanly(&fixture, "short-2", "closing chunked").await);
}

#[tokio::test]
async fn e2e_a_run_that_dies_says_so_in_its_last_event() {
    let Some(fixture) = Fixture::start(ServerProtocol::AgUi).await else { return };
    let id = session("agui-dies");
    let (response, _driver) = fixture.begin(&id, "die close 0").await;
    let mut body = response.into_body();
    let mut text = next(&mut body).await.unwrap().unwrap().to_vec();
    go(&fixture, &id).await;
    while let Some(piece) = next(&mut body).await {
        text.extend_from_slice(&piece.unwrap());
    }
    let text = String::from_utf8(text).unwrap();
    let last = text.strip_prefix("data: begun\n\n\ndata: ").unwrap_or_else(|| panic!("{text:?}"));
    let event: serde_json::Value = serde_json::from_str(last.trim_end()).unwrap();
    assert_eq!((&event["type"], &event["code"]), (&json!("RUN_ERROR"), &json!("AGENT_ERROR")));
}

/// Sends an invocation with a body; its answer as it comes.
async fn bytes_of(fixture: &Fixture, id: &str, mode: &str, body: &[u8]) -> (usize, bool) {
    let (response, _driver) = fixture.begin_with(id, mode, body).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = response.into_body();
    let mut count = 0;
    loop {
        match next(&mut body).await {
            Some(Ok(piece)) => count += piece.len(),
            Some(Err(_)) => return (count, false),
            None => return (count, true),
        }
    }
}

#[tokio::test]
async fn e2e_an_answer_has_at_most_100_mb() {
    let Some(fixture) = Fixture::start(ServerProtocol::Http).await else { return };
    let id = session("flood");
    assert_eq!(bytes_of(&fixture, &id, "flood", b"100").await, (ANSWER_BYTES_MAX, true));
    let (count, is_whole) = bytes_of(&fixture, &id, "flood", b"120").await;
    assert!(
        !is_whole && count <= ANSWER_BYTES_MAX && count > ANSWER_BYTES_MAX - 2_000_000,
        "{count} {is_whole}"
    );
    assert_eq!(bytes_of(&fixture, &id, "announce", b"100000000").await, (ANSWER_BYTES_MAX, true));
    // One that announces more is refused before its first byte.
    let announce = fixture.invoke(&id, "announce", &[], b"100000001");
    let reply = within("refusal", LIMIT, announce).await;
    assert_eq!(
        (reply.status.as_u16(), reply.header(headers::ERROR_TYPE)),
        (424, "RuntimeClientError"),
        "{reply:?}"
    );
    // Both agents were told, and the session goes on.
    let gone = async || match fixture.state(&id).await["gone"].as_u64() {
        Some(2) => Ok(()),
        other => Err(other),
    };
    eventually("the agent notices", LIMIT, gone).await;
}
