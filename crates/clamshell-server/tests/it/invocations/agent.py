"""An agent that does what its caller wants, said in the header X-Mode. Standard library only."""

import base64
import hashlib
import json
import os
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROTOCOL = os.environ.get("PROTOCOL", "HTTP")
PORT = {"HTTP": 8080, "AGUI": 8080, "MCP": 8000, "A2A": 9000}[PROTOCOL]

state = {"calls": 0, "gone": 0}
go = threading.Event()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *arguments):
        pass

    def answer(self, status, content, kind="application/json", headers=()):
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def stream(self, kind="text/event-stream"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, content):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        self.wfile.flush()

    def seen(self):
        return json.dumps({
            "method": self.command,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
        }).encode()

    def do_GET(self):
        if self.path == "/ping":
            return self.answer(200, b'{"status":"Healthy"}')
        if self.path == "/.well-known/agent-card.json":
            return self.answer(200, self.seen())
        if self.path == "/ws" and self.headers.get("X-Mode") != "refuse":
            return self.web_socket()
        self.answer(403, b"no")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        state["calls"] += 1
        mode = self.headers.get("X-Mode", "echo")
        if mode == "echo":
            return self.answer(200, body, self.headers["Content-Type"])
        if mode == "hash":
            return self.answer(200, hashlib.sha256(body).hexdigest().encode(), "text/plain")
        if mode == "seen":
            return self.answer(200, self.seen())
        if mode == "state":
            return self.answer(200, json.dumps(state).encode())
        if mode == "bare":
            return self.answer(202, b"", None)
        if mode.startswith("status "):
            return self.answer(int(mode.split()[1]), b"words of the agent")
        if mode == "third":
            status = 200 if state["calls"] >= 3 else 503
            return self.answer(status, body)
        if mode == "issue":
            return self.answer(200, self.seen(), headers=[("Mcp-Session-Id", "issued-1"), ("Mcp-Protocol-Version", "9")])
        if mode == "go":
            go.set()
            return self.answer(200, b"{}")
        if mode == "steps":
            self.stream()
            self.chunk(b"data: 1\n\n")
            go.wait(30)
            self.chunk(b"data: 2\n\n")
            return self.chunk(b"")
        if mode == "hang":
            time.sleep(60)
        if mode == "crash":
            os._exit(7)
        if mode == "cut":
            self.stream()
            self.chunk(b"data: begun\n\n")
            self.close_connection = True
            return self.connection.shutdown(2)
        if mode.startswith(("die", "closing", "reset")):
            head = {
                "length": b"Content-Length: 100\r\n",
                "chunked": b"Transfer-Encoding: chunked\r\n",
                "close": b"Connection: close\r\n",
            }[mode.split()[1]]
            begun = b"c\r\ndata: begun\n\r\n" if mode.split()[1] == "chunked" else b"data: begun\n"
            self.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + head + b"\r\n" + begun)
            if mode.split()[0] == "closing":
                self.close_connection = True
                return None
            # What was said has arrived before anything ends.
            go.wait(30)
            if mode.split()[0] == "die":
                os._exit(int(mode.split()[2]))
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
            return threading.Event().wait()
        if mode == "flood":
            # As many megabytes as are asked for.
            self.stream("application/octet-stream")
            try:
                for _ in range(int(body)):
                    self.chunk(bytes(1_000_000))
                return self.chunk(b"")
            except OSError:
                state["gone"] += 1
                return None
        if mode == "announce":
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", body.decode())
            self.end_headers()
            try:
                for _ in range(0, int(body), 1_000_000):
                    self.wfile.write(bytes(min(1_000_000, int(body))))
            except OSError:
                state["gone"] += 1
            self.close_connection = True
            return None
        if mode in ("whole", "halves", "half"):
            # The headers and what comes first in one piece.
            start = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nfirst,"
            if mode == "whole":
                return self.connection.sendall(start + b"second")
            self.connection.sendall(start)
            if mode == "halves":
                go.wait(30)
                return self.connection.sendall(b"second")
            self.close_connection = True
            return self.connection.shutdown(2)
        if mode == "endless":
            self.stream()
            try:
                while True:
                    self.chunk(b"data: more\n\n")
                    time.sleep(0.01)
            except OSError:
                state["gone"] += 1

    def frame(self):
        first, second = self.rfile.read(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", self.rfile.read(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self.rfile.read(8))
        mask = self.rfile.read(4)
        data = bytes(byte ^ mask[index % 4] for index, byte in enumerate(self.rfile.read(length)))
        return first, data

    def say(self, first, data):
        if len(data) < 126:
            header = bytes([first, len(data)])
        elif len(data) < 65536:
            header = bytes([first, 126]) + struct.pack(">H", len(data))
        else:
            header = bytes([first, 127]) + struct.pack(">Q", len(data))
        self.wfile.write(header + data)
        self.wfile.flush()

    def web_socket(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.close_connection = True
        parts = []
        while True:
            try:
                first, data = self.frame()
            except (OSError, ValueError):
                state["gone"] += 1
                return
            opcode = first & 0x0F
            if opcode == 8:
                state["gone"] += 1
                self.say(0x88, data)
                return
            if opcode == 9:
                self.say(0x8A, data)
            elif data == b"headers":
                self.say(0x81, self.seen())
            elif data == b"long":
                self.say(0x82, bytes(65537))
            elif data == b"bye":
                self.say(0x88, struct.pack(">H", 1000) + b"done")
            elif data == b"parts":
                self.say(0x01, b"a")
                self.say(0x89, b"between")
                self.say(0x80, b"b")
            elif opcode in (0, 1, 2):
                parts.append("%02x:%d" % (first, len(data)))
                if first & 0x80:
                    self.say(0x81, " ".join(parts).encode())
                    parts = []


ThreadingHTTPServer.request_queue_size = 128
ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
