//! The Model Context Protocol and agent to agent: sessions, cards, errors.

use clamshell_domain::ServerProtocol;
use clamshell_wire::headers;
use serde_json::json;

use super::{FAILED, Fixture, session};

const CALL: &[u8] = br#"{"jsonrpc":"2.0","id":"seven","method":"tools/list"}"#;

#[tokio::test]
async fn e2e_mcp_sessions_are_found_by_their_own_id() {
    let Some(fixture) = Fixture::start(ServerProtocol::Mcp).await else { return };
    let first = session("mcp");
    let reply = fixture
        .invoke(&first, "seen", &[("mcp-protocol-version", "2025-06-18"), ("mcp-method", "m")], CALL)
        .await;
    let seen = reply.json();
    assert_eq!((reply.status.as_u16(), seen["path"].as_str()), (200, Some("/mcp")), "{seen}");
    let sent = |name: &str| seen["headers"][name].as_str();
    assert_eq!(sent("accept"), Some("application/json, text/event-stream"));
    assert_eq!((sent("mcp-protocol-version"), sent("mcp-method")), (Some("2025-06-18"), Some("m")));
    assert_eq!((sent("mcp-session-id"), sent(headers::SESSION_ID)), (None, None));
    assert_eq!(reply.header("mcp-protocol-version"), "2025-06-18");
    // The platform's id leads back to the session, whatever session id an SDK invents for the call.
    let id = reply.header("mcp-session-id").to_owned();
    assert_eq!((id.as_str(), reply.header(headers::SESSION_ID)), (first.as_str(), first.as_str()));
    let reply = fixture.invoke(&session("other"), "seen", &[("mcp-session-id", &id)], CALL).await;
    assert_eq!(reply.json()["headers"]["mcp-session-id"], json!(id));
    assert_eq!(
        (reply.header("mcp-session-id"), reply.header(headers::SESSION_ID)),
        (id.as_str(), first.as_str())
    );
    // So does the agent's own, which alone the agent sees.
    let reply = fixture.invoke(&first, "issue", &[], CALL).await;
    let issued = reply.header("mcp-session-id").to_owned();
    assert_eq!(
        (issued.as_str(), reply.header("mcp-protocol-version")),
        (format!("{first}:issued-1").as_str(), "9")
    );
    let reply = fixture.invoke(&session("third"), "seen", &[("mcp-session-id", &issued)], CALL).await;
    assert_eq!(reply.json()["headers"]["mcp-session-id"], json!("issued-1"));
    assert_eq!(
        (reply.header("mcp-session-id"), reply.header(headers::SESSION_ID)),
        (issued.as_str(), first.as_str())
    );
    assert_eq!(fixture.state(&first).await["calls"], 5);
}

#[tokio::test]
async fn e2e_errors_of_mcp_are_json_rpc() {
    let Some(fixture) = Fixture::start(ServerProtocol::Mcp).await else { return };
    let id = session("mcperr");
    let error = |code: i32, message: &str| json!({ "jsonrpc": "2.0", "id": "seven", "error": { "code": code, "message": message } });
    let reply = fixture.invoke(&id, "status 404", &[], CALL).await;
    let expect = error(-32010, &format!("Received error (404) {FAILED}"));
    assert_eq!((reply.status.as_u16(), reply.json()), (200, expect));
    let reply = fixture.invoke(&id, "echo", &[("accept", "application/json")], CALL).await;
    let expect = error(-32011, "Accept header must include application/json and text/event-stream");
    assert_eq!((reply.status.as_u16(), reply.json()), (406, expect));
    let reply = fixture.invoke("short", "echo", &[], CALL).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["error"]["code"]), (200, &json!(-32006)));
    let path = fixture.client.runtime_path("invocations");
    for method in ["GET", "DELETE"] {
        let reply = fixture.client.request(method, &path, &[], b"").await.unwrap();
        assert_eq!((reply.status.as_u16(), reply.header("allow")), (405, "POST"));
    }
}

#[tokio::test]
async fn e2e_agents_for_agents_have_cards() {
    let Some(fixture) = Fixture::start(ServerProtocol::A2a).await else { return };
    let id = session("a2a");
    let path = fixture.client.runtime_path("invocations/.well-known/agent-card.json");
    let reply = fixture.client.request("GET", &path, &[(headers::SESSION_ID, &id)], b"").await.unwrap();
    let card = reply.json();
    assert_eq!(
        (reply.status.as_u16(), card["path"].as_str()),
        (200, Some("/.well-known/agent-card.json")),
        "{card}"
    );
    assert_eq!(card["headers"][headers::SESSION_ID], json!(id));
    assert_eq!(
        (reply.header(headers::SESSION_ID), reply.header("content-type")),
        (id.as_str(), "application/json")
    );
    let seen = fixture.invoke(&id, "seen", &[], CALL).await.json();
    assert_eq!((&seen["path"], &seen["method"]), (&json!("/"), &json!("POST")));
    let reply = fixture.invoke(&id, "status 500", &[], CALL).await;
    let message = format!("Received error (500) {FAILED}");
    let expect = json!({ "jsonrpc": "2.0", "id": "seven", "error": { "code": -32055, "message": message } });
    assert_eq!((reply.status.as_u16(), reply.json()), (424, expect));
    // Who speaks another protocol has none.
    let default = fixture.server.client.runtime_path("invocations/.well-known/agent-card.json");
    let reply = fixture.client.request("GET", &default, &[], b"").await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.header(headers::ERROR_TYPE)), (400, "ValidationException"));
}

#[tokio::test]
async fn e2e_an_endpoint_that_is_not_there_is_told_in_the_words_of_the_protocol() {
    let error = |code: i32, message: &str| json!({ "jsonrpc": "2.0", "id": "seven", "error": { "code": code, "message": message } });
    for (protocol, status) in
        [(ServerProtocol::Mcp, 200), (ServerProtocol::A2a, 404), (ServerProtocol::AgUi, 404)]
    {
        let Some(fixture) = Fixture::start(protocol).await else { return };
        let arn = fixture.client.runtime_arn.clone();
        let missing =
            |name: &str| format!("No endpoint or agent found with qualifier '{name}' for agent '{arn}'");
        let path = fixture.client.runtime_path("invocations");
        let accept = ("accept", "application/json, text/event-stream");
        let ask = async |path: &str| {
            let reply = fixture.client.request("POST", path, &[accept], CALL).await.unwrap();
            (reply.status.as_u16(), String::from_utf8_lossy(&reply.body).into_owned())
        };
        let (seen, text) = ask(&format!("{path}?qualifier=nobody")).await;
        assert_eq!(seen, status, "{protocol:?}: {text}");
        let (wrong, rule) = ask(&format!("{path}?qualifier=9-wrong")).await;
        assert_eq!(wrong, if protocol == ServerProtocol::Mcp { 200 } else { 400 }, "{protocol:?}: {rule}");
        match protocol {
            ServerProtocol::AgUi => {
                let event =
                    json!({ "type": "RUN_ERROR", "code": "VALIDATION_ERROR", "message": missing("nobody") });
                assert_eq!(text, format!("data: {event}\n\n"));
                assert!(rule.starts_with("data: {\"code\":\"VALIDATION_ERROR\""), "{rule}");
            }
            _ => {
                let (unknown, invalid) =
                    if protocol == ServerProtocol::Mcp { (-32004, -32006) } else { (-32051, -32052) };
                let text: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(text, error(unknown, &missing("nobody")));
                let rule: serde_json::Value = serde_json::from_str(&rule).unwrap();
                assert_eq!((&rule["error"]["code"], &rule["id"]), (&json!(invalid), &json!("seven")));
            }
        }
        // What is not here at all speaks no protocol.
        let elsewhere = path.replace(&fixture.server.info.account_id, "111111111111");
        assert_ne!(elsewhere, path, "the account is in the path");
        let reply = fixture.client.request("POST", &elsewhere, &[accept], CALL).await.unwrap();
        assert_eq!(
            (reply.status.as_u16(), reply.header(headers::ERROR_TYPE)),
            (404, "ResourceNotFoundException")
        );
        assert!(reply.json()["message"].is_string(), "{reply:?}");
    }
}
