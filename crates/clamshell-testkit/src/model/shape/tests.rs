//! Every API gets its shape; what clients put together from a stream is what they would have got whole.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Event, Shaped, error, shape};
use crate::model::{
    ask::{Api, Ask},
    script::{Reply, Said, Usage},
};

const USAGE: Usage = Usage { input: 10, output: 3, cache_read: 5, cache_write: 2 };

fn text() -> Reply {
    let pieces = ["Hel", "lo ", "you"].map(str::to_owned).to_vec();
    Reply { said: Said::Text { pieces, pause: Duration::from_millis(7) }, usage: USAGE }
}

fn call() -> Reply {
    let input = json!({"command": "echo ä > x"}).as_object().unwrap().clone();
    Reply { said: Said::Call { tool: "Bash".into(), input }, usage: USAGE }
}

fn whole(api: Api, reply: &Reply) -> Value {
    match shape(&Ask { api, model: "m".into(), ..Ask::default() }, reply, 1) {
        Shaped::Whole(value) => value,
        other => unreachable!("{other:?}"),
    }
}

fn events(api: Api, reply: &Reply) -> Vec<Event> {
    match shape(&Ask { api, model: "m".into(), is_stream: true, ..Ask::default() }, reply, 1) {
        Shaped::Events(events) => events,
        other => unreachable!("{other:?}"),
    }
}

fn json_of(event: &Event) -> Value {
    serde_json::from_str(&event.data).unwrap()
}

/// All texts at a pointer, in order.
fn joined(events: &[Event], pointer: &str) -> String {
    let values = events.iter().filter(|event| event.data != "[DONE]").map(json_of);
    values.filter_map(|value| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned)).collect()
}

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().filter_map(|event| event.name.as_deref()).collect()
}

#[test]
fn messages() {
    let answer = whole(Api::Messages, &text());
    assert_eq!(answer["content"], json!([{"type": "text", "text": "Hello you"}]));
    assert_eq!((&answer["stop_reason"], &answer["model"]), (&json!("end_turn"), &json!("m")));
    let usage = json!({"input_tokens": 10, "output_tokens": 3, "cache_read_input_tokens": 5,
        "cache_creation_input_tokens": 2});
    assert_eq!(answer["usage"], usage);
    let streamed = events(Api::Messages, &text());
    let expect = [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(names(&streamed), expect);
    assert_eq!(joined(&streamed, "/delta/text"), "Hello you");
    let pauses: Vec<u128> = streamed.iter().map(|event| event.pause.as_millis()).collect();
    assert_eq!(pauses, [0, 0, 0, 0, 7, 7, 0, 0, 0]);

    let streamed = events(Api::Messages, &call());
    let input: Value = serde_json::from_str(&joined(&streamed, "/delta/partial_json")).unwrap();
    assert_eq!(input, json!({"command": "echo ä > x"}));
    assert_eq!(joined(&streamed, "/delta/stop_reason"), "tool_use");
    assert_eq!(whole(Api::Messages, &call())["content"][0]["input"], input);
}

#[test]
fn responses() {
    let answer = whole(Api::Responses, &text());
    assert_eq!(answer["output"][0]["content"][0]["text"], "Hello you");
    assert_eq!(answer["usage"]["input_tokens"], 17);
    assert_eq!(answer["usage"]["input_tokens_details"]["cached_tokens"], 5);
    let streamed = events(Api::Responses, &text());
    assert_eq!(names(&streamed).first(), Some(&"response.created"));
    assert_eq!(joined(&streamed, "/delta"), "Hello you");
    let last = json_of(streamed.last().unwrap());
    assert_eq!((&last["type"], &last["response"]), (&json!("response.completed"), &answer));
    let numbers: Vec<Value> =
        streamed.iter().map(|event| json_of(event)["sequence_number"].clone()).collect();
    assert_eq!(numbers, (0..streamed.len()).map(|number| json!(number)).collect::<Vec<_>>());
    assert_eq!(streamed.iter().filter(|event| !event.pause.is_zero()).count(), 2);

    let streamed = events(Api::Responses, &call());
    let item = json_of(streamed.iter().rev().nth(1).unwrap())["item"].clone();
    assert_eq!(joined(&streamed, "/delta"), item["arguments"].as_str().unwrap());
    assert_eq!((&item["type"], &item["name"]), (&json!("function_call"), &json!("Bash")));
    assert_eq!(whole(Api::Responses, &call())["output"], json!([item]));
}

#[test]
fn chats() {
    let answer = whole(Api::Chat, &text());
    assert_eq!(answer["choices"][0]["message"]["content"], "Hello you");
    assert_eq!(answer["usage"]["total_tokens"], 20);
    let streamed = events(Api::Chat, &text());
    assert_eq!(joined(&streamed, "/choices/0/delta/content"), "Hello you");
    assert_eq!(joined(&streamed, "/choices/0/finish_reason"), "stop");
    assert_eq!(streamed.last().unwrap().bytes(), "data: [DONE]\n\n");
    let last = json_of(streamed.iter().rev().nth(1).unwrap());
    assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &answer["usage"]));

    let streamed = events(Api::Chat, &call());
    let arguments = joined(&streamed, "/choices/0/delta/tool_calls/0/function/arguments");
    let made = whole(Api::Chat, &call())["choices"][0].clone();
    assert_eq!(made["message"]["tool_calls"][0]["function"]["arguments"], arguments);
    assert_eq!(made["finish_reason"], "tool_calls");
}

#[test]
fn gemini() {
    let answer = whole(Api::Gemini, &text());
    assert_eq!(answer["candidates"][0]["content"]["parts"], json!([{"text": "Hello you"}]));
    assert_eq!(answer["usageMetadata"]["promptTokenCount"], 17);
    let streamed = events(Api::Gemini, &text());
    assert_eq!(joined(&streamed, "/candidates/0/content/parts/0/text"), "Hello you");
    assert_eq!(joined(&streamed, "/candidates/0/finishReason"), "STOP");
    assert_eq!(json_of(streamed.last().unwrap())["usageMetadata"], answer["usageMetadata"]);
    let streamed = events(Api::Gemini, &call());
    let part = json_of(&streamed[0])["candidates"][0]["content"]["parts"][0].clone();
    assert_eq!(part, json!({"functionCall": {"name": "Bash", "args": {"command": "echo ä > x"}}}));
}

#[test]
fn errors() {
    let reply = Reply { said: Said::Error { status: 429, message: "slow down".into() }, usage: USAGE };
    for api in [Api::Messages, Api::Responses, Api::Chat, Api::Gemini] {
        let ask = Ask { api, is_stream: true, ..Ask::default() };
        let body = error(Some(api), 429, "slow down");
        assert_eq!(body["error"]["message"], "slow down");
        assert_eq!(shape(&ask, &reply, 1), Shaped::Error { status: 429, body });
    }
    assert_eq!(error(Some(Api::Gemini), 429, "")["error"]["status"], "RESOURCE_EXHAUSTED");
    assert_eq!(error(Some(Api::Messages), 529, "")["error"]["type"], "overloaded_error");
}
