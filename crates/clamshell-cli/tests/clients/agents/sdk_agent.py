"""An agent of the Python SDK: values, generators, failures, a background task, a WebSocket."""

import asyncio
import json
import os
import time

from bedrock_agentcore import BedrockAgentCoreApp
from bedrock_agentcore.runtime import BedrockAgentCoreContext

app = BedrockAgentCoreApp()
# Commands are run by another user than the agent: the folder is the agent's.
os.makedirs("/tmp/agent", exist_ok=True)
GO_ON = "/tmp/agent/go-on"


def _wait_for_the_client():
    """A stream goes on only when the client had what came before: it says so by a file."""
    while not os.path.exists(GO_ON):
        time.sleep(0.02)
    os.remove(GO_ON)


def _generated():
    yield {"step": "one"}
    _wait_for_the_client()
    yield {"step": "zwei ü 🐚"}
    _wait_for_the_client()
    yield "three"


def _failing():
    yield "fine so far"
    raise ValueError("broke in the middle")


@app.async_task
async def _background():
    while not os.path.exists(GO_ON):
        await asyncio.sleep(0.05)
    os.remove(GO_ON)


@app.entrypoint
async def invoke(payload, context):
    ask = payload.get("ask")
    print("asked", ask, flush=True)
    if ask == "who":
        return {
            "session": context.session_id,
            "request": BedrockAgentCoreContext.get_request_id(),
            "headers": context.request_headers or {},
            "region": os.environ.get("AWS_REGION"),
            "color": os.environ.get("COLOR"),
        }
    if ask == "stream":
        return _generated()
    if ask == "fail":
        raise ValueError("a secret of the agent")
    if ask == "fail in stream":
        return _failing()
    if ask == "work":
        asyncio.create_task(_background())
        return "started"
    if ask == "credentials":
        import boto3

        found = boto3.Session().get_credentials()
        return {"method": found.method, "token": bool(found.token)} if found else None
    return {"echo": payload}


@app.websocket
async def socket(websocket, context):
    await websocket.accept()
    await websocket.send_json({"session": context.session_id, "headers": dict(websocket.headers)})
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        if message.get("bytes") is not None:
            await websocket.send_bytes(message["bytes"][::-1])
        elif message["text"] == "close":
            return await websocket.close(code=4321, reason="as asked")
        else:
            await websocket.send_text(f"heard {message['text']}")


if __name__ == "__main__":
    app.run()
