"""A server of tools, made with the MCP package; `STATEFUL` makes it keep sessions of its own."""

import os

from mcp.server import MCPServer

server = MCPServer("calculator")
calls = 0


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def count() -> int:
    """How often it was called in this process."""
    global calls
    calls += 1
    return calls


@server.tool()
def fail() -> str:
    """Fails."""
    raise ValueError("the tool failed")


@server.resource("notes://today")
def notes() -> str:
    return "nothing new"


if __name__ == "__main__":
    stateless = "STATEFUL" not in os.environ
    server.run(transport="streamable-http", host="0.0.0.0", port=8000, stateless_http=stateless)
