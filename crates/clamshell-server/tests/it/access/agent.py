import http.server


class Agent(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"status":"Healthy"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("", 8080), Agent).serve_forever()
