"""An agent of nothing but the standard library: echoes, and streams as slowly as its client reads."""

import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Commands are run by another user than the agent: the folder is the agent's.
os.makedirs("/tmp/agent", exist_ok=True)
GO_ON = "/tmp/agent/go-on"


class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.reply("application/json", b'{"status": "Healthy"}')

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if body != b"stream":
            return self.reply(self.headers.get("Content-Type", "none"), body)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for word in ("one", "two", "three"):
            line = f'data: "{word}"\n\n'.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            # The client says by a file that it had this one.
            while not os.path.exists(GO_ON):
                time.sleep(0.02)
            os.remove(GO_ON)
        self.wfile.write(b"0\r\n\r\n")

    def reply(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("0.0.0.0", 8080), Agent).serve_forever()
