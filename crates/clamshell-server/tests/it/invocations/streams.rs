//! Answers that come piece by piece, and what ends them early.

use std::time::Instant;

use clamshell_domain::ServerProtocol;
use clamshell_testkit::eventually;
use clamshell_wire::headers;
use serde_json::json;
use tokio::task::JoinSet;

use super::{FAILED, Fixture, next, session, shared};
use crate::in_process::LIMIT;

#[tokio::test]
async fn e2e_each_piece_comes_when_it_is_said() {
    let Some(fixture) = Fixture::start(ServerProtocol::Http).await else { return };
    let id = session("steps");
    let (response, _driver) = fixture.begin(&id, "steps").await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    assert_eq!(next(&mut body).await.unwrap().unwrap(), "data: 1\n\n");
    // The second piece is not even made before this, which another invocation of the session says meanwhile.
    assert_eq!(fixture.invoke(&id, "go", &[], b"{}").await.status, 200);
    assert_eq!(next(&mut body).await.unwrap().unwrap(), "data: 2\n\n");
    assert!(next(&mut body).await.is_none());
}

#[tokio::test]
async fn e2e_an_answer_that_breaks_off_is_not_taken_for_whole() {
    let Some(fixture) = Fixture::start(ServerProtocol::Http).await else { return };
    let id = session("cut");
    let (response, _driver) = fixture.begin(&id, "cut").await;
    let mut body = response.into_body();
    assert_eq!(next(&mut body).await.unwrap().unwrap(), "data: begun\n\n");
    assert!(next(&mut body).await.unwrap().is_err());
    assert_eq!(fixture.state(&id).await["calls"], 2, "the session goes on");
    // When the session is stopped in the middle, too.
    let (response, _driver) = fixture.begin(&id, "endless").await;
    let mut body = response.into_body();
    assert!(next(&mut body).await.unwrap().is_ok());
    let path = fixture.client.runtime_path("stopruntimesession");
    let stop = fixture.client.request("POST", &path, &[(headers::SESSION_ID, &id)], b"").await.unwrap();
    assert_eq!(stop.status, 200);
    while let Some(frame) = next(&mut body).await {
        if frame.is_err() {
            return;
        }
    }
    unreachable!("the answer ended as if it were whole");
}

#[tokio::test]
async fn e2e_short_answers_may_come_in_pieces() {
    let Some(fixture) = Fixture::start(ServerProtocol::Http).await else { return };
    let id = session("short");
    let reply = fixture.invoke(&id, "whole", &[], b"{}").await;
    assert_eq!((reply.status.as_u16(), reply.header("content-length")), (200, "12"));
    assert_eq!(reply.body, "first,second");
    let (response, _driver) = fixture.begin(&id, "halves").await;
    assert_eq!(response.headers()["content-length"], "12");
    let mut body = response.into_body();
    assert_eq!(next(&mut body).await.unwrap().unwrap(), "first,");
    assert_eq!(fixture.invoke(&id, "go", &[], b"{}").await.status, 200);
    assert_eq!(next(&mut body).await.unwrap().unwrap(), "second");
    assert!(next(&mut body).await.is_none());
    let (response, _driver) = fixture.begin(&id, "half").await;
    let mut body = response.into_body();
    let mut received = Vec::new();
    let ended = loop {
        match next(&mut body).await {
            Some(Ok(piece)) => received.extend_from_slice(&piece),
            end => break end,
        }
    };
    assert!(ended.is_some_and(|end| end.is_err()), "taken for whole: {received:?}");
    assert!(b"first,".starts_with(&received), "{received:?}");
}

#[tokio::test]
async fn e2e_an_agent_learns_that_its_client_left() {
    let Some(fixture) = Fixture::start(ServerProtocol::Http).await else { return };
    let id = session("gone");
    let (response, driver) = fixture.begin(&id, "endless").await;
    let mut body = response.into_body();
    assert!(next(&mut body).await.unwrap().is_ok());
    drop((body, driver));
    let gone = async || match fixture.state(&id).await["gone"].as_u64() {
        Some(1) => Ok(()),
        other => Err(other),
    };
    eventually("the agent notices", LIMIT, gone).await;
}

#[tokio::test]
async fn e2e_invocations_of_one_session_run_side_by_side() {
    let Some(fixture) = Fixture::start(ServerProtocol::Http).await else { return };
    let id = session("parallel");
    assert_eq!(fixture.state(&id).await["calls"], 1);
    let fixture = shared(fixture);
    let (waiting, _driver) = fixture.begin(&id, "steps").await;
    let mut calls = JoinSet::new();
    for number in 0..32 {
        let (fixture, id) = (fixture.clone(), id.clone());
        calls.spawn(async move {
            let body = format!("body {number}").repeat(1000);
            let reply = fixture.invoke(&id, "echo", &[], body.as_bytes()).await;
            assert!(reply.status == 200 && reply.body == body);
        });
    }
    while let Some(done) = calls.join_next().await {
        done.unwrap();
    }
    drop(waiting);
}

#[tokio::test]
async fn e2e_times_are_over() {
    let limits = "[invocations]\nsync_timeout_s = 3\nstream_timeout_s = 4\n";
    let Some(fixture) = Fixture::start_with(ServerProtocol::Http, limits).await else { return };
    let id = session("slow");
    assert_eq!(fixture.state(&id).await["calls"], 1);
    let start = Instant::now();
    let reply = fixture.invoke(&id, "hang", &[], b"{}").await;
    assert_eq!(
        (reply.status.as_u16(), reply.json()),
        (424, json!({ "message": format!("Received error (504) {FAILED}") }))
    );
    assert!(start.elapsed().as_secs() >= 3);
    let start = Instant::now();
    let (response, _driver) = fixture.begin(&id, "endless").await;
    let mut body = response.into_body();
    while next(&mut body).await.unwrap().is_ok() {}
    assert!(start.elapsed().as_secs() >= 4);
}

#[tokio::test]
async fn e2e_failures_of_ag_ui_are_events() {
    let Some(fixture) = Fixture::start(ServerProtocol::AgUi).await else { return };
    let id = session("agui");
    let event = |code: &str, message: &str| {
        format!("data: {}\n\n", json!({ "type": "RUN_ERROR", "code": code, "message": message }))
    };
    let reply = fixture.invoke(&id, "status 404", &[], b"{}").await;
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert_eq!(
        (reply.status.as_u16(), text),
        (200, event("AGENT_ERROR", &format!("Received error (404) {FAILED}")))
    );
    assert_eq!(reply.header("content-type"), "text/event-stream");
    let reply = fixture.invoke("short", "echo", &[], b"{}").await;
    assert_eq!(reply.status, 400);
    assert!(String::from_utf8_lossy(&reply.body).starts_with("data: {\"code\":\"VALIDATION_ERROR\""));
    // In the middle of a stream the last event says it, and the answer is whole.
    let reply = fixture.invoke(&id, "cut", &[], b"{}").await;
    let expect = format!("data: begun\n\n\n\n{}", event("AGENT_ERROR", "The agent broke off its answer"));
    assert_eq!(String::from_utf8_lossy(&reply.body), expect);
}
