"""The peer of the console's measurements: terminado, a bare relay between a PTY and xterm.js.

usage: peer.py PAGE NODE_MODULES

Prints its port. `/terminal/NAME` shows the terminal NAME, which all who name it share; `/parser` only xterm.js.
"""

import asyncio
import sys

import terminado
import tornado.httpserver
import tornado.netutil
import tornado.web

page, modules = sys.argv[1:3]


class Page(tornado.web.RequestHandler):
    def get(self):
        self.set_header("Content-Type", "text/html; charset=utf-8")
        with open(page, encoding="utf-8") as file:
            self.write(file.read())


async def main():
    manager = terminado.NamedTermManager(shell_command=["bash"], max_terminals=100)
    application = tornado.web.Application(
        [
            (r"/socket/(\w+)", terminado.TermSocket, {"term_manager": manager}),
            (r"/(?:terminal/\w+|parser)", Page),
            (r"/modules/(.*)", tornado.web.StaticFileHandler, {"path": modules}),
        ]
    )
    sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
    tornado.httpserver.HTTPServer(application).add_sockets(sockets)
    print(sockets[0].getsockname()[1], flush=True)
    try:
        # Whoever started it holds its standard input: it ends with that.
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    finally:
        await manager.kill_all()


asyncio.run(main())
