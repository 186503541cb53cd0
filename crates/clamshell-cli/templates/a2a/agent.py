"""An agent that other agents find by its card and talk to by JSON-RPC (A2A), with nothing but Python."""

import json
import os
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Set by the platform: where others reach this agent.
URL = os.environ.get("AGENTCORE_RUNTIME_URL", "http://127.0.0.1:9000/")

CARD = {
    "protocolVersion": "0.3.0",
    "name": "{{name}}",
    "description": "Says back what it is told.",
    "url": URL,
    "preferredTransport": "JSONRPC",
    "version": "1.0.0",
    "capabilities": {"streaming": False},
    "defaultInputModes": ["text/plain"],
    "defaultOutputModes": ["text/plain"],
    "skills": [
        {"id": "echo", "name": "Echo", "description": "Says back what it is told.", "tags": ["example"]}
    ],
}


def answer(text: str) -> str:
    """What the agent says: put your own here."""
    return f"You said: {text}"


def call(request):
    """One JSON-RPC call; gives result or error."""
    if request.get("method") != "message/send":
        return {"error": {"code": -32601, "message": "only message/send is there"}}
    message = request["params"]["message"]
    text = " ".join(part["text"] for part in message["parts"] if part.get("kind") == "text")
    return {
        "result": {
            "kind": "message",
            "messageId": str(uuid.uuid4()),
            "role": "agent",
            "parts": [{"kind": "text", "text": answer(text)}],
        }
    }


class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/.well-known/agent-card.json":
            self.reply(200, CARD)
        elif self.path == "/ping":
            self.reply(200, {"status": "Healthy"})
        else:
            self.reply(404, {"error": "not found"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request_id = None
        try:
            request = json.loads(body)
            request_id = request.get("id")
            outcome = call(request)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            outcome = {"error": {"code": -32602, "message": f"not a call: {error!r}"}}
        self.reply(200, {"jsonrpc": "2.0", "id": request_id, **outcome})

    def reply(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *arguments):
        if self.path != "/ping":
            print(format % arguments, flush=True)


ThreadingHTTPServer(("0.0.0.0", 9000), Agent).serve_forever()
