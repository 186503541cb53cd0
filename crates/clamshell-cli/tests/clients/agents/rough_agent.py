"""An agent that breaks the rules of HTTP in the way that it is asked to. It listens on the loopback address only."""

import os
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.reply(b'{"status": "Healthy"}')

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if body == b"die":
            os._exit(9)
        elif body == b"half":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"x" * 10)
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
        elif body == b"junk":
            self.wfile.write(b"this is not HTTP\r\n\r\n")
            self.close_connection = True
        elif body == b"elsewhere":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif body == b"long header":
            self.send_response(200)
            self.send_header("X-Long", "y" * 300_000)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif body == b"nothing":
            self.send_response(204)
            self.end_headers()
        else:
            self.reply(body)

    def reply(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", 8080), Agent).serve_forever()
