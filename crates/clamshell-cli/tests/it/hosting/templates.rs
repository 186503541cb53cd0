//! What `clamshell create` writes deploys and answers.

use serde_json::{Value, json};

use super::{Place, python_registry};

fn create(place: &Place, name: &str, agent: &str) {
    let made = place.json(&["create", name, "--agent", agent]);
    assert_eq!(made["success"], true, "{made}");
}

#[tokio::test]
async fn plain_http_answers() {
    let Some(place) = Place::new().await else { return };
    create(&place, "hello", "plain-http");
    let again = place.run(&["create", "hello", "--agent", "plain-http"]);
    assert!(again.stderr.contains("is there and not empty"), "{again:?}");
    place.deploy("hello", &[]);
    let ended = place.run(&["invoke", "hello", "are you there?"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "You said: are you there?\n"), "{ended:?}");
    // Nobody's mistake is the agent's: it says so, and the caller is told.
    let ended = place.run(&["invoke", "hello", "--raw", "no json", "--json"]);
    assert_eq!((ended.code, &ended.json()["success"]), (Some(1), &json!(false)));
}

#[tokio::test]
async fn an_agent_for_agents_has_a_card_and_answers() {
    let Some(place) = Place::new().await else { return };
    create(&place, "echo", "a2a");
    let report = place.deploy("echo", &[]);
    let shown = place.json(&["runtime", "get", "echo"]);
    assert_eq!(shown["protocolConfiguration"]["serverProtocol"], "A2A");
    let call = json!({"jsonrpc": "2.0", "id": 7, "method": "message/send", "params": {"message": {
        "kind": "message", "messageId": "1", "role": "user", "parts": [{"kind": "text", "text": "hi"}]}}});
    let answer = place.json(&["invoke", "echo", "--raw", &call.to_string()]);
    assert_eq!(answer["response"]["id"], 7, "{answer}");
    assert_eq!(answer["response"]["result"]["parts"][0]["text"], "You said: hi", "{answer}");
    // The card names where others reach the agent.
    let client = place.server.client().await.unwrap();
    let arn = report["agentRuntimeArn"].as_str().unwrap();
    let card = super::card(&client, arn).await;
    assert_eq!(card["name"], "echo");
    assert!(card["url"].as_str().unwrap().contains("/runtimes/arn%3Aaws%3A"), "{card}");
    let wrong =
        place.run(&["invoke", "echo", "--raw", r#"{"jsonrpc":"2.0","id":1,"method":"nothing"}"#, "--json"]);
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
}

#[tokio::test]
async fn tools_are_listed_and_called() {
    let Some(place) = Place::new().await else { return };
    if python_registry().is_none() {
        return;
    }
    create(&place, "tools", "mcp");
    place.deploy("tools", &[]);
    let ask = |body: Value| {
        let answer = place.json(&["invoke", "tools", "--raw", &body.to_string()]);
        // The server chooses: a stream of one event, or JSON.
        let response = answer["response"].clone();
        if response.is_array() { response[0].clone() } else { response }
    };
    let listed = ask(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}));
    let names: Vec<&str> = listed["result"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|tool| tool["name"].as_str())
        .collect();
    assert_eq!(names, ["add", "machine"]);
    let called = ask(json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call",
        "params": {"name": "add", "arguments": {"a": 2, "b": 3}}}));
    assert_eq!(called["result"]["content"][0]["text"], "5.0", "{called}");
}
