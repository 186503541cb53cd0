"""An agent with nothing but Python: POST /invocations asks it, GET /ping tells how it is."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def answer(prompt: str) -> str:
    """What the agent says: put your own here."""
    return f"You said: {prompt}"


class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/ping":
            self.reply(200, {"status": "Healthy"})
        else:
            self.reply(404, {"error": "not found"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/invocations":
            return self.reply(404, {"error": "not found"})
        try:
            prompt = str(json.loads(body)["prompt"])
        except (ValueError, KeyError, TypeError):
            return self.reply(400, {"error": 'send {"prompt": "..."}'})
        self.reply(200, {"result": answer(prompt)})

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


ThreadingHTTPServer(("0.0.0.0", 8080), Agent).serve_forever()
