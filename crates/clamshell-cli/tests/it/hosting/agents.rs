//! Agents as people write them, unchanged: with the SDK of the service, with a web framework.

use std::time::Duration;

use clamshell_testkit::{eventually, skip, within};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::{Place, python_registry, session};

/// With the SDK: values, generators, failures, a task in the background, a WebSocket.
const SDK_AGENT: &str = r#"
import asyncio
from bedrock_agentcore import BedrockAgentCoreApp

app = BedrockAgentCoreApp()

@app.async_task
async def long_work():
    await asyncio.sleep(3600)

@app.entrypoint
async def invoke(payload, context):
    ask = payload.get("prompt")
    if ask == "fail":
        raise ValueError("the agent failed")
    if ask == "work":
        asyncio.create_task(long_work())
        return "started"
    if ask == "stream":
        async def words():
            for word in ["one ", "two ", "three"]:
                yield word
        return words()
    return {"said": ask, "session": context.session_id}

@app.websocket
async def socket(websocket, context):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(f"heard {text}")

app.run()
"#;

const SYNC_AGENT: &str = r#"
from bedrock_agentcore import BedrockAgentCoreApp

app = BedrockAgentCoreApp()

@app.entrypoint
def invoke(payload):
    if payload.get("prompt") == "stream":
        return (f"{number} " for number in range(3))
    return {"result": payload["prompt"].upper()}

if __name__ == "__main__":
    app.run()
"#;

const WEB_AGENT: &str = r#"
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
import uvicorn

app = FastAPI()

@app.get("/ping")
async def ping():
    return {"status": "healthy"}

@app.post("/invocations")
async def invocations(request: Request):
    body = await request.json()
    if body["prompt"] == "stream":
        async def events():
            for word in ["a", "b"]:
                yield f'data: "{word}"\n\n'
        return StreamingResponse(events(), media_type="text/event-stream")
    return {"output": {"message": body["prompt"], "session": request.headers.get("x-amzn-bedrock-agentcore-runtime-session-id")}}

uvicorn.run(app, host="0.0.0.0", port=8080)
"#;

async fn deployed(name: &str, code: &str, requirements: &str) -> Option<Place> {
    python_registry()?;
    let place = Place::new().await?;
    place.project(name, &[("agent.py", code), ("requirements.txt", requirements)]);
    place.deploy(name, &[]);
    Some(place)
}

#[tokio::test]
async fn an_agent_of_the_sdk_answers_streams_and_stays_busy() {
    let Some(place) = deployed("sdk", SDK_AGENT, "bedrock-agentcore==1.25.0\n").await else { return };
    let id = session("sdk");
    let ask = |prompt: &str| place.run(&["invoke", "sdk", prompt, "--session-id", &id, "--json"]);
    let said = ask("hello").json();
    assert_eq!(said["response"], json!({"said": "hello", "session": id}), "{said}");
    assert_eq!(ask("stream").json()["response"], "one two three");
    let failed = ask("fail");
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert_eq!(ask("work").json()["response"], "started");
    // Its WebSocket, with what the agent sends as text.
    let client = place.server.client().await.unwrap();
    let arn = place.json(&["runtime", "get", "sdk"])["agentRuntimeArn"].as_str().unwrap().to_owned();
    let path = format!("/runtimes/{}/ws", clamshell_wire::percent_encode(&arn));
    let headers = [("x-amzn-bedrock-agentcore-runtime-session-id", id.as_str())];
    let mut socket = client.upgrade(&path, &headers).await.unwrap();
    socket.message(Message::text("ping \u{e9}")).await.unwrap();
    let heard = within("an answer", Duration::from_secs(30), socket.next_message()).await.unwrap();
    assert_eq!(heard, Some(Message::text("heard ping \u{e9}")));
    // A task of the agent's own keeps its session from being idle.
    let shown = eventually("the session is active", Duration::from_secs(30), async || {
        let shown = super::plain(&place, &["sessions", "show", &id, "--json"]).json();
        if shown["state"] == "Active" { Ok(shown) } else { Err(shown) }
    })
    .await;
    assert_eq!(shown["sessionId"], json!(id));
    let logs = super::plain(&place, &["logs", "sdk"]);
    assert_eq!(logs.code, Some(0), "{logs:?}");
}

#[tokio::test]
async fn a_plain_function_of_the_sdk_is_an_agent() {
    let Some(place) = deployed("sync", SYNC_AGENT, "bedrock-agentcore==1.25.0\n").await else { return };
    let ended = place.run(&["invoke", "sync", "quiet"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "QUIET\n"), "{ended:?}");
    let ended = place.run(&["invoke", "sync", "stream"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "0 1 2 \n"), "{ended:?}");
}

#[tokio::test]
async fn an_agent_of_a_web_framework_answers() {
    let Some(place) = deployed("web", WEB_AGENT, "fastapi\nuvicorn\n").await else { return };
    let id = session("web");
    let said = place.run(&["invoke", "web", "hi", "--session-id", &id, "--json"]).json();
    assert_eq!(said["response"], json!({"output": {"message": "hi", "session": id}}), "{said}");
    let ended = place.run(&["invoke", "web", "stream", "--session-id", &id]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "ab\n"), "{ended:?}");
}

/// What a project without a command line of ours does: boto3, in the environment that `env` prints.
#[tokio::test]
async fn boto3_invokes_what_was_deployed() {
    let Some(clients) = clamshell_testkit::real_clients() else { return };
    if !clients.join("bin/python").exists() {
        return skip("bin/python is not installed (run scripts/install-test-clients)").unwrap_or_default();
    }
    let Some(place) = Place::new().await else { return };
    place.json(&["create", "hello", "--agent", "plain-http"]);
    let report = place.deploy("hello", &[]);
    let script = r#"
import boto3, json, sys
answer = boto3.client("bedrock-agentcore").invoke_agent_runtime(
    agentRuntimeArn=sys.argv[1], payload=json.dumps({"prompt": "hi"}))
print(answer["statusCode"], answer["contentType"], len(answer["runtimeSessionId"]) >= 33, json.loads(answer["response"].read()))
"#;
    let environment = super::plain(&place, &["env", "--json"]).json();
    let mut python = std::process::Command::new(clients.join("bin/python"));
    python.args(["-c", script, report["agentRuntimeArn"].as_str().unwrap()]);
    for (name, value) in environment.as_object().unwrap() {
        python.env(name, value.as_str().unwrap());
    }
    let ended = super::finish(python);
    let expect = "200 application/json True {'result': 'You said: hi'}\n";
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), expect), "{ended:?}");
}
