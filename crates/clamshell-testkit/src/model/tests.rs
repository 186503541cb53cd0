//! The model over real sockets.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    time::Duration,
};

use serde_json::{Value, json};

use super::{Api, Listen, Rule, Script, ScriptedModel, Usage};

fn script() -> Script {
    Script::new(vec![
        Rule::shell("ls").when("LIST").after_results(0),
        Rule::fail(429, "slow down").when("FAIL"),
        Rule::say("one two three").when("STREAM").in_pieces(3, Duration::from_millis(1)),
        Rule::say("pong").costing(Usage { input: 4, output: 2, ..Usage::default() }),
    ])
    .unwrap()
}

fn tcp() -> ScriptedModel {
    ScriptedModel::start(script(), Listen::Tcp("127.0.0.1:0".parse().unwrap())).unwrap()
}

/// Sends a request on a connection of its own; gives status, and the body without its chunks.
fn exchange(mut stream: impl Read + Write, method: &str, path: &str, body: &str) -> (u16, String) {
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: m\r\nx-api-key: k\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    if !head.contains("chunked") {
        return (status, body.to_owned());
    }
    let (mut rest, mut whole) = (body, String::new());
    while let Some((size, after)) = rest.split_once("\r\n") {
        let (chunk, after) = after.split_at(usize::from_str_radix(size, 16).unwrap());
        whole.push_str(chunk);
        rest = after.strip_prefix("\r\n").unwrap();
    }
    (status, whole)
}

fn post(model: &ScriptedModel, path: &str, body: &Value) -> (u16, String) {
    exchange(TcpStream::connect(model.address().unwrap()).unwrap(), "POST", path, &body.to_string())
}

fn get(model: &ScriptedModel, path: &str) -> (u16, Value) {
    let stream = TcpStream::connect(model.address().unwrap()).unwrap();
    let (status, body) = exchange(stream, "GET", path, "");
    (status, serde_json::from_str(&body).unwrap())
}

#[test]
fn every_api_has_its_path() {
    let model = tcp();
    let user = |text: &str| json!({"role": "user", "content": text});
    let (status, body) = post(&model, "/v1/messages?beta=true", &json!({"messages": [user("ping")]}));
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, &body["content"][0]["text"], &body["usage"]["input_tokens"]),
        (200, &json!("pong"), &json!(4))
    );
    let (_, body) = post(&model, "/v1/messages", &json!({"stream": true, "messages": [user("ping")]}));
    assert!(body.starts_with("event: message_start\ndata: {"), "{body}");
    assert!(body.ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"), "{body}");
    let (_, body) = post(&model, "/v1/responses", &json!({"stream": true, "input": [user("STREAM")]}));
    assert!(body.contains("\"delta\":\"one t\""), "{body}");
    let tools = json!([{"type": "function", "function": {"name": "bash"}}]);
    let (_, body) =
        post(&model, "/v1/chat/completions", &json!({"messages": [user("LIST")], "tools": tools}));
    assert!(body.contains("\"finish_reason\":\"tool_calls\""), "{body}");
    let contents = json!({"contents": [{"role": "user", "parts": [{"text": "ping"}]}]});
    let (_, body) = post(&model, "/v1beta/models/flash:streamGenerateContent?alt=sse", &contents);
    assert!(body.starts_with("data: {") && body.contains("\"modelVersion\":\"flash\""), "{body}");
    let (_, body) = post(&model, "/v1beta/models/flash:streamGenerateContent", &contents);
    assert_eq!(serde_json::from_str::<Vec<Value>>(&body).unwrap().len(), 3);
    let (_, body) = post(&model, "/v1beta/models/flash:generateContent", &contents);
    assert!(body.starts_with('{') && body.contains("\"finishReason\":\"STOP\""), "{body}");

    let apis: Vec<Api> = model.asks().iter().map(|ask| ask.api).collect();
    let expect =
        [Api::Messages, Api::Messages, Api::Responses, Api::Chat, Api::Gemini, Api::Gemini, Api::Gemini];
    assert_eq!(apis, expect);
    let first = &model.requests()[0];
    assert_eq!((first.path.as_str(), first.header("x-api-key")), ("/v1/messages?beta=true", "k"));
    assert_eq!((first.rule, first.status, &first.body["messages"][0]), (Some(3), 200, &user("ping")));
}

#[test]
fn the_rest_is_there() {
    let model = tcp();
    assert_eq!(get(&model, "/"), (200, json!({})));
    assert_eq!(get(&model, "/v1/models").1["data"][0]["id"], "scripted");
    assert_eq!(get(&model, "/v1/models/other").1["type"], "model");
    assert_eq!(get(&model, "/v1beta/models").1["models"][0]["name"], "models/scripted");
    assert_eq!(get(&model, "/elsewhere").0, 404);
    let counted = post(&model, "/v1/messages/count_tokens", &json!({"messages": []}));
    assert_eq!(counted, (200, r#"{"input_tokens":100}"#.to_owned()));
    let counted = post(&model, "/v1beta/models/m:countTokens", &json!({}));
    assert_eq!(counted, (200, r#"{"totalTokens":100}"#.to_owned()));
    assert_eq!(model.asks(), []);
}

#[test]
fn failures_are_said_as_the_api_does() {
    let model = tcp();
    let ask = json!({"stream": true, "messages": [{"role": "user", "content": "FAIL"}]});
    let (status, body) = post(&model, "/v1/messages", &ask);
    assert_eq!(status, 429);
    assert!(body.contains("rate_limit_error") && body.contains("slow down"), "{body}");
    for (path, body) in [("/v1/messages", json!([])), ("/v1/messages", json!(null))] {
        assert_eq!(post(&model, path, &body).0, 400);
    }
    assert_eq!(post(&model, "/v1/other", &json!({})).0, 404);
}

#[test]
fn it_listens_at_a_path_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.sock");
    let model = ScriptedModel::start(script(), Listen::Unix(path.clone())).unwrap();
    model.address().unwrap_err();
    let ask = json!({"messages": [{"role": "user", "content": "ping"}]}).to_string();
    let (status, body) = exchange(UnixStream::connect(&path).unwrap(), "POST", "/v1/messages", &ask);
    assert!(status == 200 && body.contains("pong"), "{body}");
    drop(model);
    UnixStream::connect(&path).unwrap_err();
}
